//! What is wanted of a list of what expires, the keys of ECE or the contents of deployments: what of it, how much, and
//! what of it somebody is told.

use std::sync::Arc;
use std::time::Duration;

use super::{BorrowedKey, Policy, Severity};

/// A list of what expires and whose secrets are not held, read with the key of a credential of the platform.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The key with which the list is read.
    pub key: BorrowedKey,
    /// What is listed.
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

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InventoryScope {
    /// Keys of ECE.
    Keys(KeyScope),
    /// What expires inside the deployments.
    Deployments(Deployments),
}

/// Whose keys are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope {
    /// Those of the owner of the key that asks.
    Own,
    /// Those of every user of the platform.
    All,
}

impl Inventory {
    /// Whether keys that never expire are held. In deployments there are thousands, one for each rule of Kibana, so there
    /// only if somebody is to be told of them.
    pub fn holds_never_expiring(&self) -> bool {
        self.scope.deployments().is_none()
            || self.policy.never_expires.is_some()
            || self.lifetime_max.is_some()
    }
}

impl InventoryScope {
    /// What is wanted of the deployments, if they are listed.
    pub fn deployments(&self) -> Option<&Deployments> {
        match self {
            Self::Deployments(deployments) => Some(deployments),
            Self::Keys(_) => None,
        }
    }
}

impl KeyScope {
    /// The word of the configuration: `own`, `all`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::All => "all",
        }
    }
}

/// What is wanted of the deployments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployments {
    /// What is read of each; not empty.
    pub kinds: Vec<ItemKind>,
    /// Only deployments with such a name or id; empty is all.
    pub include: Vec<Pattern>,
    /// No deployments with such a name or id.
    pub exclude: Vec<Pattern>,
}

impl Deployments {
    /// Whether the deployment of this name and id is of interest.
    pub fn matches(&self, name: &str, id: &str) -> bool {
        let any = |them: &[Pattern]| them.iter().any(|it| it.matches(name) || it.matches(id));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// What stands in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// An API key of ECE.
    ApiKey,
    /// An API key of the Elasticsearch of a deployment.
    ElasticsearchApiKey,
    /// A certificate that the Elasticsearch of a deployment uses or trusts.
    ElasticsearchCertificate,
    /// The license of the Elasticsearch of a deployment.
    ElasticsearchLicense,
}

impl ItemKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::ApiKey,
        Self::ElasticsearchApiKey,
        Self::ElasticsearchCertificate,
        Self::ElasticsearchLicense,
    ];

    /// The label value: `listed_api_key`, `elasticsearch_api_key`, `elasticsearch_certificate`,
    /// `elasticsearch_license`.
    pub fn label(self) -> &'static str {
        match self {
            Self::ApiKey => "listed_api_key",
            Self::ElasticsearchApiKey => "elasticsearch_api_key",
            Self::ElasticsearchCertificate => "elasticsearch_certificate",
            Self::ElasticsearchLicense => "elasticsearch_license",
        }
    }

    /// The kind of a label value.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.label() == label)
    }

    /// Whether it is a key: made by somebody, with an owner and a life that somebody chose.
    pub fn is_key(self) -> bool {
        match self {
            Self::ApiKey | Self::ElasticsearchApiKey => true,
            Self::ElasticsearchCertificate | Self::ElasticsearchLicense => false,
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
    fn a_deployment_is_named_by_its_name_or_its_id() {
        let patterns = |it: &[&str]| it.iter().map(|it| Pattern((*it).into())).collect();
        let wanted = Deployments {
            include: patterns(&["prod-*", "62be*"]),
            exclude: patterns(&["prod-test", "62bedead"]),
            ..Deployments::default()
        };
        assert!(wanted.matches("prod-logs", "1"));
        assert!(wanted.matches("other", "62be1"));
        assert!(!wanted.matches("other", "1"));
        assert!(!wanted.matches("prod-test", "62be1"));
        assert!(!wanted.matches("prod-logs", "62bedead"));
        assert!(Deployments::default().matches("x", "1"));
        assert!(ItemKind::ALL.iter().all(|it| ItemKind::parse(it.label()) == Some(*it)));
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
