//! The ledger as it is read: which message went to whom, what it tells, and what the server answered. Pure.
//!
//! The store reads it (`store::history`); pages, API and command line show it. Nothing here says what is sent next.

use chrono::{DateTime, Utc};

use crate::delivery::{Integration, Target, Undelivered};

/// A message, or a notice that is owed and stands in no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// `msg_…`, which the receiver sees too; `owed_…` for a notice that stands in no message.
    pub id: String,
    /// Where it goes.
    pub target: Target,
    /// What has become of it.
    pub stage: Stage,
    /// When it is looked at again; `None` once it is at its end, and while it is being sent.
    pub next_at: Option<DateTime<Utc>>,
    /// When the first of its facts was owed.
    pub owed_at: Option<DateTime<Utc>>,
    /// When it was composed, or was last sent again by hand; `None` for a notice that stands in no message.
    pub composed_at: Option<DateTime<Utc>>,
    /// When it was delivered or given up.
    pub finished_at: Option<DateTime<Utc>>,
    /// What the server said last, or why nothing was sent.
    pub answer: Option<String>,
    /// How many attempts there were, with one that is under way.
    pub attempts_total: u32,
    /// The latest of them that have ended, in order.
    pub attempts: Vec<Attempt>,
    /// How many facts it carries.
    pub facts_total: usize,
    /// The first of them.
    pub facts: Vec<Fact>,
}

impl Notification {
    /// The time by which it is sorted: when it was composed, or else when it was owed.
    pub fn at(&self) -> DateTime<Utc> {
        self.composed_at.or(self.owed_at).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

/// What has become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It was given up: somebody was not told.
    Dead,
    /// It is being sent, or is tried again.
    Pending,
    /// It waits for others of its group, to share a message with them.
    Waiting,
    /// It is held back by a silence.
    Silenced,
    /// It is held back by its route.
    Muted,
    /// The server took it.
    Delivered,
    /// Something newer was told in its place.
    Superseded,
}

impl Stage {
    /// All stages, those that need somebody first.
    pub const ALL: [Self; 7] = [
        Self::Dead,
        Self::Pending,
        Self::Waiting,
        Self::Silenced,
        Self::Muted,
        Self::Delivered,
        Self::Superseded,
    ];

    /// The word that people read and filter by.
    pub fn label(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Silenced => "silenced",
            Self::Muted => "muted",
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
        }
    }

    /// The stage of a word.
    ///
    /// # Errors
    /// A sentence that names all words.
    pub fn parse(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|it| it.label() == word).ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|it| it.label()).collect();
            format!("no state is called `{word}`; there are: {}", words.join(", "))
        })
    }
}

/// One try to deliver a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which it was, from 1.
    pub number: u32,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// `delivered`, `failed` or `dead`.
    pub outcome: String,
    /// What the server said, or why nothing was sent.
    pub answer: String,
}

/// What one notice tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is about: `platform`, `platform/credential`, or `platform/list/id` for something that a list holds; `digest`
    /// for a digest, which has no other words.
    pub subject: String,
    /// The platform's name.
    pub platform: String,
    /// The credential's name, or the id of something listed; `None` for an alert about the platform.
    pub credential: Option<String>,
    /// `ECECredentialExpiring`, …
    pub alert: String,
    /// `new`, `escalated`, `repeat`, `renewed`, …
    pub reason: String,
    /// `info`, `warning`, `critical`.
    pub severity: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Who should have been told before, and was not.
    pub undelivered: Option<Undelivered>,
}

/// Which notifications are wanted; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those to this receiver.
    pub receiver: Option<String>,
    /// Those through this kind of channel.
    pub integration: Option<Integration>,
    /// Those of this stage.
    pub stage: Option<Stage>,
    /// Those about this platform and everything on it, or about this `platform/credential`.
    pub subject: Option<String>,
    /// Those from then on.
    pub since: Option<DateTime<Utc>>,
    /// Those before then.
    pub until: Option<DateTime<Utc>>,
}

impl Wanted {
    /// Whether `it` is wanted; of what it carries, only the facts that were read count.
    pub fn takes(&self, it: &Notification) -> bool {
        let about = |subject: &String| it.facts.iter().any(|fact| is_about(&fact.subject, subject));
        self.receiver.as_ref().is_none_or(|name| **name == *it.target.receiver)
            && self.integration.is_none_or(|kind| kind == it.target.integration)
            && self.stage.is_none_or(|stage| stage == it.stage)
            && self.subject.as_ref().is_none_or(about)
            && self.since.is_none_or(|since| since <= it.at())
            && self.until.is_none_or(|until| it.at() < until)
    }
}

/// Whether `subject` is `wanted` or stands below it.
fn is_about(subject: &str, wanted: &str) -> bool {
    subject.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_holds_what_stands_below_it_and_no_other_of_like_name() {
        for (subject, wanted, expected) in [
            ("prod", "prod", true),
            ("prod/ci", "prod", true),
            ("prod/ci", "prod/ci", true),
            ("prod/list/k1", "prod/list", true),
            ("prod/ci-2", "prod/ci", false),
            ("production/ci", "prod", false),
            ("prod", "prod/ci", false),
        ] {
            assert_eq!(is_about(subject, wanted), expected, "{subject} {wanted}");
        }
    }

    #[test]
    fn each_stage_is_found_by_its_word() {
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.label()), Ok(stage));
        }
        assert!(Stage::parse("lost").unwrap_err().contains("dead, pending"));
    }
}
