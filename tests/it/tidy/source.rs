//! Reads Rust source closely enough for the rules: comments and texts apart from code, tokens, paths, bodies.
//!
//! It is no parser: it knows nothing of types, expands no macro, and does not follow a re-export. Rust that compiles is
//! assumed; on anything else it may say nonsense but does not panic.

use std::ops::Range;

/// What a byte of the source belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Code,
    Comment,
    /// The inside of a string or character literal, its quotes included.
    Text,
}

/// One source file, cut into what the rules look at. Every view keeps the length and the lines of the original.
pub struct Source {
    /// Comments and literals blanked.
    pub code: String,
    /// Only comments blanked.
    pub uncommented: String,
    /// Only comments kept.
    pub comments: String,
    /// The tokens of `code`.
    pub tokens: Vec<Token>,
}

/// An identifier, `::`, or a single other character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// Byte offset in the file.
    pub at: usize,
}

/// A path as written, groups expanded: `a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    /// Byte offset of its last segment.
    pub at: usize,
    /// It stands right behind `use` (or `extern crate`), so even one segment names a crate or module.
    pub used: bool,
}

/// A function or an inline module with a body.
#[derive(Debug)]
pub struct Item {
    pub name: String,
    /// From its keyword to its closing brace.
    pub span: Range<usize>,
}

/// Words behind which `::` opens a path instead of continuing one.
const KEYWORDS: [&str; 16] = [
    "as", "break", "dyn", "else", "for", "if", "impl", "in", "let", "match", "move", "mut", "ref",
    "return", "use", "where",
];

impl Source {
    pub fn new(text: &str) -> Self {
        let classes = classify(text.as_bytes());
        let view = |keep: &[Class]| blank(text, |at| keep.contains(&classes[at]));
        let code = view(&[Class::Code]);
        let tokens = tokenize(&code);
        Self {
            uncommented: view(&[Class::Code, Class::Text]),
            comments: view(&[Class::Comment]),
            code,
            tokens,
        }
    }

    /// The 1-based line of a byte offset.
    pub fn line(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }

    /// The paths, in the order of the file. A lone identifier is a path of one segment.
    pub fn paths(&self) -> Vec<Path> {
        let mut found = Vec::new();
        let mut next = 0;
        while next < self.tokens.len() {
            let opens = is_ident(self.text(next)) && !KEYWORDS.contains(&self.text(next));
            if opens && !self.continues_a_path(next) {
                let used = self.is_behind_use(next);
                next = self.tree(next, &[], used, &mut found);
            } else if self.text(next) == "{" && self.is_behind_use(next) {
                next = self.tree(next, &[], true, &mut found);
            } else {
                next += 1;
            }
        }
        found
    }

    /// The functions that have a body.
    pub fn functions(&self) -> Vec<Item> {
        self.items("fn")
    }

    /// The modules that have a body in this file.
    pub fn inline_modules(&self) -> Vec<Item> {
        self.items("mod")
    }

    /// The names behind `mod`, with or without a body.
    pub fn modules(&self) -> Vec<&Token> {
        self.tokens
            .windows(3)
            .filter(|it| it[0].text == "mod" && matches!(it[2].text.as_str(), ";" | "{"))
            .map(|it| &it[1])
            .collect()
    }

    /// The same file without `mod tests { … }`.
    pub fn without_tests(&self) -> Self {
        let tests: Vec<Range<usize>> = self
            .inline_modules()
            .into_iter()
            .filter(|it| it.name == "tests")
            .map(|it| it.span)
            .collect();
        self.without(&tests)
    }

    /// The same file with `spans` blanked.
    pub fn without(&self, spans: &[Range<usize>]) -> Self {
        let view = |text: &str| blank(text, |at| !spans.iter().any(|span| span.contains(&at)));
        let code = view(&self.code);
        let tokens = tokenize(&code);
        Self { uncommented: view(&self.uncommented), comments: view(&self.comments), code, tokens }
    }

    /// The text of a token; empty behind the end.
    pub fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |it| it.text.as_str())
    }

    /// The index of the token that closes the bracket at `open`; the last token if it is never closed.
    pub fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for at in open..self.tokens.len() {
            match self.text(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len().saturating_sub(1)
    }

    /// Reads one branch of a path or use tree at `next` into `found`; returns the index behind it.
    fn tree(&self, mut next: usize, prefix: &[String], used: bool, found: &mut Vec<Path>) -> usize {
        let mut segments = prefix.to_vec();
        let mut at = self.tokens[next].at;
        loop {
            let text = self.text(next);
            if text == "{" {
                let end = self.closing(next);
                next += 1;
                while next < end {
                    let opens = is_ident(self.text(next)) || matches!(self.text(next), "*" | "{");
                    next = if opens { self.tree(next, &segments, used, found) } else { next + 1 };
                }
                return end + 1;
            }
            if !is_ident(text) && text != "*" {
                break;
            }
            at = self.tokens[next].at;
            segments.push(text.to_owned());
            next += 1;
            if self.text(next) != "::" {
                break;
            }
            next += 1;
        }
        found.push(Path { segments, at, used });
        if used && self.text(next) == "as" {
            next += 2; // the new name is no path
        }
        next
    }

    /// Whether the identifier at `at` stands behind a `::` that itself stands behind something.
    fn continues_a_path(&self, at: usize) -> bool {
        if at < 2 || self.text(at - 1) != "::" {
            return false;
        }
        let before = self.text(at - 2);
        let arrow = before == ">" && 2 < at && self.text(at - 3) == "-";
        matches!(before, ">" | ")" | "]") && !arrow
            || is_ident(before) && !KEYWORDS.contains(&before)
    }

    fn is_behind_use(&self, at: usize) -> bool {
        let at = if 0 < at && self.text(at - 1) == "::" { at - 1 } else { at };
        0 < at
            && (self.text(at - 1) == "use"
                || 1 < at && self.text(at - 2) == "extern" && self.text(at - 1) == "crate")
    }

    /// Items that open with `keyword` and a name and have a body.
    fn items(&self, keyword: &str) -> Vec<Item> {
        let mut found = Vec::new();
        for at in 0..self.tokens.len() {
            if self.text(at) != keyword || !is_ident(self.text(at + 1)) {
                continue;
            }
            let mut open = at + 2;
            while open < self.tokens.len() && !matches!(self.text(open), "{" | ";" | "}") {
                let bracket = matches!(self.text(open), "(" | "[");
                open = if bracket { self.closing(open) + 1 } else { open + 1 };
            }
            if self.text(open) == "{" {
                let end = self.tokens[self.closing(open)].at + 1;
                let span = self.tokens[at].at..end;
                found.push(Item { name: self.text(at + 1).to_owned(), span });
            }
        }
        found
    }
}

/// Lines with something on them.
pub fn lines_of_code(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty()).count()
}

pub fn is_ident(text: &str) -> bool {
    text.starts_with(|it: char| it.is_alphabetic() || it == '_')
}

/// `text` with every byte that is not kept replaced by a space; line breaks stay.
fn blank(text: &str, keep: impl Fn(usize) -> bool) -> String {
    let kept = text.bytes().enumerate().map(|(at, byte)| match byte {
        b'\n' => b'\n',
        byte if keep(at) => byte,
        _ => b' ',
    });
    String::from_utf8_lossy(&kept.collect::<Vec<u8>>()).into_owned()
}

fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = code.char_indices().peekable();
    while let Some((at, first)) = rest.next() {
        let mut text = String::from(first);
        if first.is_alphanumeric() || first == '_' {
            while let Some((_, more)) = rest.next_if(|(_, it)| it.is_alphanumeric() || *it == '_') {
                text.push(more);
            }
        } else if first == ':' && rest.next_if(|(_, it)| *it == ':').is_some() {
            text.push(':');
        } else if first.is_whitespace() {
            continue;
        }
        tokens.push(Token { text, at });
    }
    tokens
}

/// The class of every byte.
fn classify(bytes: &[u8]) -> Vec<Class> {
    let mut classes = vec![Class::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let (class, end) = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => (Class::Comment, line_end(bytes, at)),
            b'/' if bytes[at..].starts_with(b"/*") => (Class::Comment, block_end(bytes, at)),
            b'"' => (Class::Text, quoted_end(bytes, at)),
            b'r' if !is_word(bytes, at) => match raw_end(bytes, at) {
                Some(end) => (Class::Text, end),
                None => (Class::Code, at + 1),
            },
            b'\'' => match char_end(bytes, at) {
                Some(end) => (Class::Text, end),
                None => (Class::Code, at + 1),
            },
            _ => (Class::Code, at + 1),
        };
        classes[at..end].fill(class);
        at = end;
    }
    classes
}

/// Whether the byte before `at` makes `at` the middle of an identifier; the `b` and `c` of `br"…"` and `cr"…"` do not.
fn is_word(bytes: &[u8], at: usize) -> bool {
    let word = |it: usize| bytes[it].is_ascii_alphanumeric() || bytes[it] == b'_';
    match at.checked_sub(1) {
        Some(before) if matches!(bytes[before], b'b' | b'c') => 0 < before && word(before - 1),
        Some(before) => word(before),
        None => false,
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&it| it == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a raw string that opens at `at`, if one does.
fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&it| it == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let inside = &bytes[open + 1..];
    let length = inside.windows(close.len()).position(|it| it == close);
    Some(length.map_or(bytes.len(), |length| open + 1 + length + close.len()))
}

/// The end of a character literal that opens at `at`; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    let quote = |from: usize| {
        bytes[from..].iter().take(12).position(|&it| it == b'\'').map(|length| from + length + 1)
    };
    match bytes.get(at + 1)? {
        b'\\' => quote(at + 3), // the escaped character may be a quote
        byte if byte.is_ascii() => (bytes.get(at + 2) == Some(&b'\'')).then_some(at + 3),
        _ => quote(at + 1),
    }
}
