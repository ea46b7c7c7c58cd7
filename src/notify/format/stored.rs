//! What a composed message is in the store, and what of it is sent. Pure.
//!
//! A body in the store holds no secret: a mark stands for it until the request is made. A message that goes to a path
//! below the URL begins with that path, between two other marks. Marks are private-use characters, which `clean` takes
//! out of every name and sentence, so no text can be one.

use std::borrow::Cow;

/// Stands for the secret of the channel.
pub const SECRET: char = '\u{E000}';
/// Stands before and behind the path.
const PATH: char = '\u{E001}';
/// `SECRET` in UTF-8.
const SECRET_BYTES: &[u8] = "\u{E000}".as_bytes();
/// `PATH` in UTF-8.
const PATH_BYTES: &[u8] = "\u{E001}".as_bytes();

/// A stored message, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened<'a> {
    /// What follows the URL.
    pub path: Option<&'a str>,
    /// The body, with marks.
    pub body: &'a [u8],
}

/// `text` without private-use characters.
pub fn clean(text: &str) -> String {
    text.chars().filter(|it| !is_private(*it)).collect()
}

fn is_private(char: char) -> bool {
    matches!(char, '\u{E000}'..='\u{F8FF}')
}

/// Puts path and body together.
pub(super) fn seal(path: Option<&str>, body: Vec<u8>) -> Vec<u8> {
    match path {
        Some(path) => [format!("{PATH}{}{PATH}", clean(path)).into_bytes(), body].concat(),
        None => body,
    }
}

/// Takes path and body apart; a message of another format is all body.
pub fn open(stored: &[u8]) -> Opened<'_> {
    let whole = Opened { path: None, body: stored };
    let Some(rest) = stored.strip_prefix(PATH_BYTES) else { return whole };
    let Some(end) = rest.windows(PATH_BYTES.len()).position(|it| it == PATH_BYTES) else {
        return whole;
    };
    match std::str::from_utf8(&rest[..end]) {
        Ok(path) => Opened { path: Some(path), body: &rest[end + PATH_BYTES.len()..] },
        Err(_) => whole,
    }
}

/// `body` with the secret, as a JSON text has it, in the place of each mark.
pub fn reveal<'a>(body: &'a [u8], secret: &str) -> Cow<'a, [u8]> {
    if !body.windows(SECRET_BYTES.len()).any(|it| it == SECRET_BYTES) {
        return Cow::Borrowed(body);
    }
    let escaped = escaped(secret);
    let mut out = Vec::with_capacity(body.len() + escaped.len());
    let mut rest = body;
    while let Some(at) = rest.windows(SECRET_BYTES.len()).position(|it| it == SECRET_BYTES) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(escaped.as_bytes());
        rest = &rest[at + SECRET_BYTES.len()..];
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// `text` between the quotes of JSON.
pub fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_body_come_back() {
        let stored = seal(Some("/a?b=c"), b"{}".to_vec());
        assert_eq!(open(&stored), Opened { path: Some("/a?b=c"), body: b"{}" });
        assert_eq!(open(b"{}"), Opened { path: None, body: b"{}" });
        let broken = "\u{E001}{}".as_bytes();
        assert_eq!(open(broken), Opened { path: None, body: broken });
    }

    #[test]
    fn a_secret_is_put_in_as_json_has_it() {
        let body = format!(r#"{{"key":"{SECRET}"}}"#);
        assert_eq!(&*reveal(body.as_bytes(), "a\"b\\"), br#"{"key":"a\"b\\"}"#);
        assert_eq!(&*reveal(b"{}", "x"), b"{}");
        assert_eq!(clean("a\u{E000}b\u{E001}c\u{F8FF}d"), "abcd");
    }
}
