//! Takes the elements of one long list out of a JSON text that arrives piece by piece. Pure.
//!
//! A list of a hundred thousand keys has 30 MB. Only one of its elements is held at a time, and one that is too large
//! or of another kind is left out and counted; the rest of the text is checked only as far as its brackets go.

/// The largest element that is read; a key has 300 bytes, a deployment some thousands.
const ELEMENT_BYTES_MAX: usize = 256 * 1024;

/// The longest name of a member that is told apart.
const NAME_BYTES_MAX: usize = 64;

/// How deep a text may be nested before it counts as none of ours.
const DEPTH_MAX: usize = 128;

/// The elements of `{"NAME": [ELEMENT, …], …}`.
#[derive(Debug)]
pub struct Elements {
    name: &'static str,
    /// The brackets that are open, outermost first.
    open: Vec<u8>,
    text: Text,
    /// The last string directly in the root, which may be the name of a member.
    last: Vec<u8>,
    /// Whether the wanted list is open, or was.
    list: List,
    /// The element that is being read, or as much of it as is kept.
    element: Vec<u8>,
    /// What of the list is no object, or too large.
    skipped: usize,
    /// Whether the number or word that is being read was counted.
    counted: bool,
    broken: bool,
}

/// Where in a string the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    Escaped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    NotYet,
    Named,
    Open,
    Closed,
}

/// How a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The list was there and is whole; so many of its elements are no objects, or too large.
    Whole {
        /// How many were left out.
        skipped: usize,
    },
    /// The text is no object with such a list, or breaks off.
    Broken,
}

impl Elements {
    /// The elements of the list `name` of the root object.
    pub fn of(name: &'static str) -> Self {
        Self {
            name,
            open: Vec::new(),
            text: Text::Outside,
            last: Vec::new(),
            list: List::NotYet,
            element: Vec::new(),
            skipped: 0,
            counted: false,
            broken: false,
        }
    }

    /// Reads on; each element that ends in `piece` is given to `take` as JSON.
    pub fn feed(&mut self, piece: &[u8], mut take: impl FnMut(&[u8])) {
        for byte in piece {
            if self.broken {
                return;
            }
            self.read(*byte, &mut take);
        }
    }

    /// How the text ended.
    pub fn end(self) -> End {
        if self.broken || self.list != List::Closed || !self.open.is_empty() {
            return End::Broken;
        }
        End::Whole { skipped: self.skipped }
    }

    fn read(&mut self, byte: u8, take: &mut impl FnMut(&[u8])) {
        // In the list, but in none of its objects.
        let between = self.list == List::Open && self.open.len() == 2;
        let in_element = self.list == List::Open && 2 < self.open.len();
        if in_element {
            self.keep(byte);
        }
        match (self.text, byte) {
            (Text::Escaped, _) => self.text = Text::Inside,
            (Text::Inside, b'\\') => self.text = Text::Escaped,
            (Text::Inside, b'"') => self.text = Text::Outside,
            (Text::Inside, _) => {
                if self.open.len() == 1 && self.last.len() < NAME_BYTES_MAX {
                    self.last.push(byte);
                }
            }
            (Text::Outside, b'"') => {
                self.text = Text::Inside;
                self.skipped += usize::from(between);
                if self.open.len() == 1 {
                    self.last.clear();
                }
            }
            (Text::Outside, b'{' | b'[') => self.open(byte),
            (Text::Outside, b'}' | b']') => self.close(byte, take),
            (Text::Outside, _) => self.other(byte, between),
        }
    }

    fn open(&mut self, byte: u8) {
        if self.open.is_empty() && (byte != b'{' || self.list != List::NotYet)
            || DEPTH_MAX <= self.open.len()
        {
            self.broken = true;
            return;
        }
        match (self.list, self.open.len(), byte) {
            (List::Named, 1, b'[') => self.list = List::Open,
            (List::Named, 1, _) => self.list = List::NotYet,
            (List::Open, 2, _) => {
                self.element.clear();
                self.element.push(byte);
            }
            _ => {}
        }
        self.open.push(byte);
    }

    fn close(&mut self, byte: u8, take: &mut impl FnMut(&[u8])) {
        let opened = if byte == b'}' { b'{' } else { b'[' };
        if self.open.pop() != Some(opened) {
            self.broken = true;
            return;
        }
        match (self.list, self.open.len()) {
            (List::Open, 2) if byte == b'}' && self.element.len() <= ELEMENT_BYTES_MAX => {
                take(&self.element);
            }
            (List::Open, 2) => self.skipped += 1,
            (List::Open, 1) => self.list = List::Closed,
            _ => {}
        }
    }

    /// A character outside of strings that is no bracket.
    fn other(&mut self, byte: u8, between: bool) {
        if byte.is_ascii_whitespace() {
            return;
        }
        match (self.open.len(), byte) {
            (0, _) => self.broken = true,
            (1, b':') if self.list == List::NotYet && self.last == self.name.as_bytes() => {
                self.list = List::Named;
            }
            (1, b':') => {}
            // The wanted member is a number or a word.
            (1, _) if self.list == List::Named => self.list = List::NotYet,
            (2, b',') if between => self.counted = false,
            (2, _) if between && !self.counted => {
                self.counted = true;
                self.skipped += 1;
            }
            _ => {}
        }
    }

    fn keep(&mut self, byte: u8) {
        // One more than allowed is kept, which tells that it is too large.
        if self.element.len() <= ELEMENT_BYTES_MAX {
            self.element.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements of `keys` in `text`, which arrives in pieces of `size` bytes.
    fn read(text: &[u8], size: usize) -> (Vec<String>, End) {
        let mut elements = Elements::of("keys");
        let mut found = Vec::new();
        for piece in text.chunks(size) {
            elements.feed(piece, |it| found.push(String::from_utf8_lossy(it).into_owned()));
        }
        (found, elements.end())
    }

    fn check(text: &str, expected: &[&str], end: End) {
        for size in [1, 2, 3, 7, 1000] {
            let (found, ended) = read(text.as_bytes(), size);
            assert_eq!(found, expected, "{text} in pieces of {size}");
            assert_eq!(ended, end, "{text} in pieces of {size}");
        }
    }

    #[test]
    fn each_object_of_the_list_is_given_whole_wherever_the_text_is_cut() {
        let whole = End::Whole { skipped: 0 };
        check(r#"{"keys":[]}"#, &[], whole);
        check(
            r#" { "a" : {"keys":[{}]}, "keys" : [ {"id":"1"} , {} ], "z":[{}] } "#,
            &[r#"{"id":"1"}"#, "{}"],
            whole,
        );
        let nested = r#"{"a":"]}\"[{","b":[{"c":{}}],"keys":[{}]}"#;
        check(&format!(r#"{{"keys":[{nested}]}}"#), &[nested], whole);
        check(r#"{"x":"keys","y":["keys"],"keys":[{"ü":"\\"}]}"#, &[r#"{"ü":"\\"}"#], whole);
    }

    #[test]
    fn what_is_no_object_is_left_out_and_told() {
        let (found, end) = read(br#"{"keys":[{"a":1},["b"],"c",{"d":2}]}"#, 5);
        assert_eq!(found, [r#"{"a":1}"#, r#"{"d":2}"#]);
        assert_eq!(end, End::Whole { skipped: 2 });
        let (found, end) = read(br#"{"keys":[null, -17.5 ,{"a":1},true]}"#, 5);
        assert_eq!(found, [r#"{"a":1}"#]);
        assert_eq!(end, End::Whole { skipped: 3 });
    }

    #[test]
    fn an_element_that_is_too_large_does_not_take_the_others_with_it() {
        let large = "x".repeat(ELEMENT_BYTES_MAX);
        let text = format!(r#"{{"keys":[{{"a":1}},{{"a":"{large}"}},{{"a":2}}]}}"#);
        let (found, end) = read(text.as_bytes(), 4096);
        assert_eq!(found, [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!(end, End::Whole { skipped: 1 });
    }

    #[test]
    fn a_text_that_breaks_off_is_not_taken_for_a_short_list() {
        let text = r#"{"keys":[{"id":"1"},{"id":"2"}]}"#;
        for length in 0..text.len() {
            assert_eq!(read(&text.as_bytes()[..length], 3).1, End::Broken, "{length}");
        }
        for text in [
            r#"[{"keys":[]}]"#,
            r#"{"keys":{}}"#,
            r#"{"keys":null}"#,
            r#"{"other":[]}"#,
            r#"{"keys":[}]"#,
            r#"{"keys":[]}}"#,
            r#"{"keys":[]}{"keys":[]}"#,
            "<html>",
            "",
        ] {
            check(text, &[], End::Broken);
        }
        let deep = format!("{{\"a\":{}", "[".repeat(1000));
        assert_eq!(read(deep.as_bytes(), 100).1, End::Broken);
    }
}
