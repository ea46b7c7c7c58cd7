//! What is wanted of the list of all keys: which of them, how many, and what of them somebody is told.

use std::sync::Arc;
use std::time::Duration;

use super::{BorrowedKey, Policy, Severity};

/// The list of the keys of a platform, whose secrets are not held, read with the key of one of its credentials.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The key with which the list is read.
    pub key: BorrowedKey,
    /// Whose keys are listed.
    pub scope: InventoryScope,
    /// Which of them are of interest.
    pub filter: Filter,
    /// How many keys are held; of more, those that expire first.
    pub keys_max: usize,
    /// The deadline of one listing, connect and body included.
    pub timeout: Duration,
    /// When somebody is told about a listed key; its steps are the reminders, so it repeats nothing.
    pub policy: Arc<Policy>,
    /// A key that lives longer, from its creation to its expiry, is a finding; `None` if any life is fine.
    pub lifetime_max: Option<Duration>,
    /// Severity of a key that is new in the list; `None` tells nobody.
    pub created: Option<Severity>,
    /// Severity of a key that is gone from the list before its expiry; `None` tells nobody.
    pub deleted: Option<Severity>,
    /// Severity of a key that lives longer than `lifetime_max`; `None` tells nobody.
    pub long_lived: Option<Severity>,
}

/// Whose keys are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InventoryScope {
    /// Those of the owner of the key that asks.
    Own,
    /// Those of every user of the platform.
    All,
}

impl InventoryScope {
    /// The word of the configuration: `own`, `all`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::All => "all",
        }
    }
}

/// Which of the listed keys are of interest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only keys of these users; empty is everybody.
    pub users: Vec<Pattern>,
    /// No keys of these users.
    pub exclude_users: Vec<Pattern>,
    /// No keys with such a description.
    pub exclude_descriptions: Vec<Pattern>,
}

impl Filter {
    /// Whether a key of `user` with this description is of interest.
    pub fn matches(&self, user: &str, description: &str) -> bool {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|it| it.matches(text));
        (self.users.is_empty() || any(&self.users, user))
            && !any(&self.exclude_users, user)
            && !any(&self.exclude_descriptions, description)
    }
}

/// A text in which `*` stands for any characters, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(pub Arc<str>);

impl Pattern {
    /// Whether the whole of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        // A split yields at least one piece.
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let mut pieces = pieces.peekable();
        if pieces.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return rest.ends_with(piece);
            }
            // The earliest place leaves the most for the pieces behind it.
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        let cases = [
            ("ci", "ci", true),
            ("ci", "ci-1", false),
            ("ci-*", "ci-", true),
            ("ci-*", "xci-1", false),
            ("*@example.org", "marc@example.org", true),
            ("*@example.org", "marc@example.org.evil", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a.c", "abc", false),
            ("ü*", "über", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern(pattern.into()).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_excluded_is_excluded_although_it_is_wanted_too() {
        let patterns = |it: &[&str]| it.iter().map(|it| Pattern((*it).into())).collect();
        let filter = Filter {
            users: patterns(&["ci-*", "ops"]),
            exclude_users: patterns(&["ci-test"]),
            exclude_descriptions: patterns(&["*throwaway*"]),
        };
        assert!(filter.matches("ops", ""));
        assert!(filter.matches("ci-prod", "terraform"));
        assert!(!filter.matches("ci-test", "terraform"));
        assert!(!filter.matches("ops", "a throwaway key"));
        assert!(!filter.matches("marc", "terraform"));
        assert!(Filter::default().matches("", ""));
    }
}
