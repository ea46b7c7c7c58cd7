//! A stored message as text: a mail decoded, JSON with its lines broken. Pure.

use crate::notify::mime;

/// The headers of a mail that people look for.
const HEADERS: [&str; 7] =
    ["From", "To", "Reply-To", "Subject", "Date", "Message-ID", "X-ECE-Expiry-Severity"];

/// The message, fit for a terminal.
pub(super) fn readable(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => format!("{json:#}"),
        Err(_) => mail(body),
    };
    let mut shown: String = text.chars().filter(|it| !is_command(*it)).collect();
    if !shown.ends_with('\n') {
        shown.push('\n');
    }
    shown
}

fn mail(raw: &[u8]) -> String {
    let head =
        HEADERS.iter().filter_map(|name| Some(format!("{name}: {}\n", mime::header(raw, name)?)));
    let head: String = head.collect();
    let letter = mime::read(raw);
    match letter.text.or(letter.html) {
        Some(text) => format!("{head}\n{text}"),
        None => String::from_utf8_lossy(raw).into_owned(),
    }
}

/// What a terminal would obey instead of showing it.
fn is_command(it: char) -> bool {
    it.is_control() && it != '\n' && it != '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_decoded_json_is_broken_into_lines_and_nothing_is_obeyed() {
        let raw = b"From: a@b.c\r\nSubject: =?utf-8?q?Schl=C3=BCssel?=\r\nX-Other: no\r\n\
            Content-Transfer-Encoding: quoted-printable\r\n\r\nH=C3=A4lt =1B[2J\r\n";
        assert_eq!(readable(raw), "From: a@b.c\nSubject: Schl\u{fc}ssel\n\nH\u{e4}lt [2J\n");
        assert_eq!(readable(br#"{"a":[1]}"#), "{\n  \"a\": [\n    1\n  ]\n}\n");
    }
}
