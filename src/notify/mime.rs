//! Reads a mail far enough to show it: subject, plain text part, HTML part. Pure.
//!
//! Knows what our own mails use: encoded words in UTF-8, quoted-printable, base64, nested multiparts. Anything else is
//! shown as it stands, with bytes that are no UTF-8 replaced.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How deep multiparts may nest; ours nest once.
const DEPTH_MAX: usize = 4;

/// The most parts of one multipart that are looked at.
const PARTS_MAX: usize = 20;

/// What a mail shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letter {
    /// Its subject; empty if it has none.
    pub subject: String,
    /// Its plain text.
    pub text: Option<String>,
    /// Its HTML.
    pub html: Option<String>,
}

/// Reads a message.
pub fn read(raw: &[u8]) -> Letter {
    let mut letter =
        Letter { subject: header(raw, "subject").unwrap_or_default(), text: None, html: None };
    read_part(raw, 0, &mut letter);
    letter
}

/// The value of the first header of this name, unfolded, its encoded words decoded.
pub fn header(raw: &[u8], name: &str) -> Option<String> {
    raw_header(split_head(raw).0, name).map(|value| decode_words(&value))
}

fn read_part(raw: &[u8], depth: usize, letter: &mut Letter) {
    let (head, body) = split_head(raw);
    let kind = raw_header(head, "content-type").unwrap_or_else(|| "text/plain".to_owned());
    let lower = kind.to_ascii_lowercase();
    if lower.starts_with("multipart/") {
        if let (Some(boundary), true) = (boundary(&kind), depth < DEPTH_MAX) {
            for part in parts(body, &boundary) {
                read_part(part, depth + 1, letter);
            }
        }
        return;
    }
    let encoding =
        raw_header(head, "content-transfer-encoding").unwrap_or_default().to_ascii_lowercase();
    let decoded = match encoding.trim() {
        "quoted-printable" => decode_quoted(body, Underscore::IsItself),
        "base64" => {
            let packed: Vec<u8> =
                body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            STANDARD.decode(packed).unwrap_or_else(|_| body.to_vec())
        }
        _ => body.to_vec(),
    };
    let text = String::from_utf8_lossy(&decoded).into_owned();
    if lower.starts_with("text/plain") && letter.text.is_none() {
        letter.text = Some(text);
    } else if lower.starts_with("text/html") && letter.html.is_none() {
        letter.html = Some(text);
    }
}

/// Head and body; they are separated by the first empty line, which is also the first line if there is no head.
fn split_head(raw: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = raw.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match find(raw, b"\r\n\r\n") {
        Some(at) => (&raw[..at], &raw[at + 4..]),
        None => (raw, &[]),
    }
}

fn raw_header(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let mut value: Option<String> = None;
    for line in head.lines() {
        match (&mut value, line.starts_with([' ', '\t'])) {
            (Some(value), true) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (Some(_), false) => break,
            (None, _) => {
                value = line
                    .split_once(':')
                    .filter(|(it, _)| it.eq_ignore_ascii_case(name))
                    .map(|(_, it)| it.trim().to_owned());
            }
        }
    }
    value
}

fn boundary(kind: &str) -> Option<String> {
    let at = kind.to_ascii_lowercase().find("boundary=")?;
    let value = &kind[at + "boundary=".len()..];
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map(|(it, _)| it.to_owned()),
        None => value.split([';', ' ']).next().map(str::to_owned),
    }
}

fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut rest = body;
    let Some(first) = find(rest, delimiter.as_bytes()) else { return parts };
    rest = &rest[first + delimiter.len()..];
    // After the last part the delimiter is followed by two dashes.
    while !rest.starts_with(b"--") && parts.len() < PARTS_MAX {
        let begin = find(rest, b"\r\n").map_or(rest.len(), |at| at + 2);
        let end = find(rest, format!("\r\n{delimiter}").as_bytes()).unwrap_or(rest.len());
        parts.push(&rest[begin.min(end)..end]);
        rest = rest.get(end + 2 + delimiter.len()..).unwrap_or(b"--");
    }
    parts
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// What `_` means: itself in a body, a space in an encoded word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Underscore {
    IsItself,
    IsSpace,
}

fn decode_quoted(body: &[u8], underscore: Underscore) -> Vec<u8> {
    let digit = |at: usize| body.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(body.len());
    let mut at = 0;
    while at < body.len() {
        match (body[at], digit(at + 1), digit(at + 2)) {
            (b'=', Some(high), Some(low)) => {
                decoded.push(
                    u8::try_from(high * 16 + low).expect("two hexadecimal digits make a byte"),
                );
                at += 3;
            }
            (b'=', ..) if body[at + 1..].starts_with(b"\r\n") => at += 3,
            (b'_', ..) if underscore == Underscore::IsSpace => {
                decoded.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Decodes `=?utf-8?q?…?=` and `=?utf-8?b?…?=`; white space between two encoded words belongs to neither.
fn decode_words(value: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = value;
    let mut after_word = false;
    while let Some(begin) = rest.find("=?") {
        let between = &rest[..begin];
        let Some((word, length)) = decode_word(&rest[begin..]) else {
            decoded.extend_from_slice(&rest.as_bytes()[..begin + 2]);
            rest = &rest[begin + 2..];
            after_word = false;
            continue;
        };
        if !(after_word && between.trim().is_empty()) {
            decoded.extend_from_slice(between.as_bytes());
        }
        decoded.extend_from_slice(&word);
        rest = &rest[begin + length..];
        after_word = true;
    }
    decoded.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The bytes of the encoded word that `text` begins with, and its length in `text`.
fn decode_word(text: &str) -> Option<(Vec<u8>, usize)> {
    let mut fields = text.strip_prefix("=?")?.splitn(3, '?');
    let (charset, encoding, tail) = (fields.next()?, fields.next()?, fields.next()?);
    let (content, _) = tail.split_once("?=")?;
    let word = match encoding.to_ascii_lowercase().as_str() {
        "q" => decode_quoted(content.as_bytes(), Underscore::IsSpace),
        "b" => STANDARD.decode(content).ok()?,
        _ => return None,
    };
    Some((word, 2 + charset.len() + 1 + encoding.len() + 1 + content.len() + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_in_several_encoded_words_is_joined_without_the_space_between() {
        let raw = b"From: a@b.c\r\nSubject: [ECE] =?utf-8?q?Schl=C3=BCssel_l?=\r\n =?utf-8?b?w6R1ZnQ=?= ab\r\n\r\nhi\r\n";
        assert_eq!(read(raw).subject, "[ECE] Schl\u{fc}ssel l\u{e4}uft ab");
    }

    #[test]
    fn both_parts_of_an_alternative_are_found_and_decoded() {
        let raw = b"Content-Type: multipart/alternative; boundary=\"x=_1\"\r\n\r\n--x=_1\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
            a =3D b=\r\n c_d\r\n--x=_1\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n\
            PGI+aGk8L2I+\r\n--x=_1--\r\n";
        let letter = read(raw);
        assert_eq!(letter.text.as_deref(), Some("a = b c_d"));
        assert_eq!(letter.html.as_deref(), Some("<b>hi</b>"));
    }

    #[test]
    fn a_message_that_breaks_off_anywhere_is_read_without_panic() {
        let raw = b"Subject: =?utf-8?q?=C3=BC?=\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\na=3D=\r\n--x--\r\n";
        for end in 0..raw.len() {
            read(&raw[..end]);
        }
        assert_eq!(read(raw).text.as_deref(), Some("a=3D="));
    }

    #[test]
    fn what_is_no_encoded_word_stays_as_it_is() {
        assert_eq!(decode_words("a =? b =?utf-8?x?c?= d"), "a =? b =?utf-8?x?c?= d");
    }
}
