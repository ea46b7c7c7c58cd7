//! Mail addresses as logs, pages and the API show them: enough to know whose it is, not enough to write to. Pure.

/// What may stand around an address in the answer of a mail server.
const AROUND: &str = "<>()[]{},;:\"'";

/// `text` with each mail address in it masked: `o…@example.org`.
pub fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let is_outside = |it: char| it.is_whitespace() || AROUND.contains(it);
        let local = rest[..at]
            .rfind(is_outside)
            .map_or(&rest[..at], |it| rest[it..at].trim_start_matches(is_outside));
        shown.push_str(&rest[..at - local.len()]);
        shown.extend(local.chars().take(1));
        shown.push_str("…@");
        rest = &rest[at + 1..];
    }
    shown + rest
}

/// The address of a recipient that may be written as `Name <address>`, masked; empty for none.
pub fn masked_recipient(recipient: &str) -> String {
    let address = recipient.rsplit_once('<').map_or(recipient, |(_, it)| it);
    masked(address.trim_end_matches('>').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_one_letter_and_its_domain() {
        for (text, expected) in [
            ("", ""),
            ("ops@example.org", "o…@example.org"),
            ("550 5.1.1 <bad.one@example.org>: unknown", "550 5.1.1 <b…@example.org>: unknown"),
            ("a@b and ü.x@c", "a…@b and ü…@c"),
            ("@", "…@"),
            ("to:ops@x@y", "to:o…@x…@y"),
            ("250 2.0.0 Ok", "250 2.0.0 Ok"),
        ] {
            assert_eq!(masked(text), expected);
        }
        assert_eq!(masked_recipient("Ops team <ops@example.org>"), "o…@example.org");
    }
}
