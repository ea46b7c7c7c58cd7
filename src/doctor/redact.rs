//! Takes secrets, and for what is sent to others also people, out of texts.
//!
//! Secrets are known here, so they are found wherever a server repeats them; what people are called is known from the
//! key and from the answer. Host names stay.

use super::Step;
use crate::config::{Platform, Secret};
use crate::observation::answer::{decoded_key, key_id_of};

/// Shorter texts are no secret, and replacing them everywhere would leave nothing to read.
const SECRET_MIN: usize = 4;

/// The shortest address that is looked for in bytes that are no text.
const ADDRESS_MIN: usize = 8;

/// Knows what must not be told.
#[derive(Clone)]
pub(super) struct Redactor {
    /// Longest first, so that a part does not spoil the whole.
    secrets: Vec<String>,
    /// What people are called.
    people: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Knows the key and the values of extra headers; the URL of a proxy has no password.
    pub(super) fn new(platform: &Platform, key: Option<&Secret>) -> Self {
        let mut secrets: Vec<String> =
            platform.http_headers.iter().map(|(_, value)| value.clone()).collect();
        // Scheme and credentials of a header may be repeated apart.
        secrets.extend(
            platform.http_headers.iter().flat_map(|(_, it)| it.split(' ')).map(str::to_owned),
        );
        let mut people = Vec::new();
        if let Some(key) = key {
            let key = key.expose();
            secrets.push(key.to_owned());
            if let Some((user, id)) = key_id_of(key) {
                let decoded = decoded_key(key);
                // What follows the id is the part that makes it secret.
                let secret = decoded.as_deref().and_then(|it| it.rsplit_once(':')).map(|it| it.1);
                secrets.extend(secret.map(str::to_owned));
                secrets.extend(decoded.clone());
                secrets.extend(secret.map(|it| format!("{id}:{it}")));
                people.push(user);
            }
        }
        let mut redactor = Self { secrets: Vec::new(), people: Vec::new() };
        secrets.retain(|it| SECRET_MIN <= it.len());
        secrets.sort_by_key(|it| std::cmp::Reverse(it.len()));
        redactor.secrets = secrets;
        for person in people {
            redactor.learn(&person);
        }
        redactor
    }

    /// From now on `person` is taken out too.
    pub(super) fn learn(&mut self, person: &str) {
        if !person.is_empty() {
            self.people.push(person.to_owned());
            self.people.sort_by_key(|it| std::cmp::Reverse(it.len()));
        }
    }

    /// `text` without secrets.
    pub(super) fn secrets(&self, text: &str) -> String {
        let hide = |text: String, secret: &String| text.replace(secret, "[secret]");
        self.secrets.iter().fold(text.to_owned(), hide)
    }

    /// `text` without secrets, addresses of e-mail and names of users.
    pub(super) fn all(&self, text: &str) -> String {
        let text = without_addresses(&self.secrets(text));
        self.people.iter().fold(text, |text, person| without_word(&text, person, "[user]"))
    }

    /// `step` without secrets.
    pub(super) fn step(&self, step: &Step) -> Step {
        each(step, |text| self.secrets(text))
    }

    /// `step` without secrets and people.
    pub(super) fn step_for_others(&self, step: &Step) -> Step {
        each(step, |text| self.all(text))
    }
}

/// `step` with `hide` done to each of its texts.
fn each(step: &Step, hide: impl Fn(&str) -> String) -> Step {
    let hide_in = |text: &Option<String>| text.as_deref().map(&hide);
    Step {
        topic: step.topic,
        outcome: step.outcome,
        found: hide(&step.found),
        details: step.details.iter().map(|it| hide(it)).collect(),
        next: hide_in(&step.next),
        command: hide_in(&step.command),
    }
}

/// Whether an address of e-mail stands among `bytes`, which are no text: shorter ones occur by chance.
pub(super) fn has_address(bytes: &[u8]) -> bool {
    let is_part = |it: &u8| it.is_ascii_alphanumeric() || b"._+-".contains(it);
    bytes.split(|it| !is_part(it) && *it != b'@').any(|run| {
        let at = run.iter().position(|it| *it == b'@');
        at.is_some_and(|at| 0 < at && ADDRESS_MIN <= run.len() && run[at..].contains(&b'.'))
    })
}

/// Replaces everything of the form `word@word`.
fn without_addresses(text: &str) -> String {
    let is_part = |it: char| it.is_alphanumeric() || "._%+-'=".contains(it);
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let local = before.len() - before.trim_end_matches(is_part).len();
        let domain = after.len() - after.trim_start_matches(is_part).len();
        if local == 0 || domain == 0 {
            result.push_str(&rest[..=at]);
            rest = after;
        } else {
            result.push_str(&before[..at - local]);
            result.push_str("[address]");
            rest = &after[domain..];
        }
    }
    result + rest
}

/// Replaces `word` where it stands alone.
fn without_word(text: &str, word: &str, by: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(word) {
        let end = at + word.len();
        let left = rest[..at].chars().next_back().or(before);
        let right = rest[end..].chars().next();
        let alone = |it: Option<char>| it.is_none_or(|it| !it.is_alphanumeric());
        result.push_str(&rest[..at]);
        result.push_str(if alone(left) && alone(right) { by } else { word });
        before = word.chars().next_back();
        rest = &rest[end..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::{has_address, without_addresses, without_word};

    #[test]
    fn addresses_are_found_wherever_they_stand() {
        for (text, clean) in [
            ("write to marc.o'hara+x@mail.example.org, please", "write to [address], please"),
            ("<a@b>", "<[address]>"),
            ("a@b c@d", "[address] [address]"),
            ("@ alone @b a@", "@ alone @b a@"),
            ("emailAddress=marc@example.org", "[address]"),
            ("märk@exämple.org", "[address]"),
        ] {
            assert_eq!(without_addresses(text), clean);
        }
    }

    #[test]
    fn an_address_is_found_among_bytes() {
        assert!(has_address(b"\x16\x1bmarc@example.org\x30\x82"));
        assert!(!has_address(b"\x16\x1ba@b\x30\x82 @example.org ece-0-runner.example.org"));
    }

    #[test]
    fn a_name_is_replaced_where_it_stands_alone() {
        assert_eq!(
            without_word("ci, cite ci ci.ci", "ci", "[user]"),
            "[user], cite [user] [user].[user]"
        );
        assert_eq!(without_word("cici", "ci", "x"), "cici");
    }
}
