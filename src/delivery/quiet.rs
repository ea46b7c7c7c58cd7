//! What holds a notice back: a silence that somebody asked for, or a window in which its route tells nobody. Pure.
//!
//! Nothing is thrown away: what is owed waits in the ledger, a newer fact of the same alert takes its place there, and
//! what is left at the end of the quiet time is told then.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Hush, Notice, labels};
use crate::alert::Status;
use crate::config::{Matcher, Mute, Severity};

/// A person's wish not to be told of some alerts for a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Silence {
    /// `sil_` and 26 characters.
    pub id: String,
    /// The alerts: those whose labels fit all of them. Never empty.
    pub matchers: Vec<Matcher>,
    /// Who asked for it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// From when it holds.
    pub starts_at: DateTime<Utc>,
    /// Until when it holds.
    pub ends_at: DateTime<Utc>,
}

/// Whether a silence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceState {
    /// It does.
    Active,
    /// It will.
    Pending,
    /// It did.
    Expired,
}

impl SilenceState {
    /// Alertmanager's word: `active`, `pending`, `expired`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

impl Silence {
    /// Whether it holds at `now`.
    pub fn state(&self, now: DateTime<Utc>) -> SilenceState {
        if self.ends_at <= now {
            SilenceState::Expired
        } else if now < self.starts_at {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    /// Whether it holds at `now` for alerts with these labels.
    pub fn covers(
        &self,
        labels: &std::collections::BTreeMap<String, String>,
        now: DateTime<Utc>,
    ) -> bool {
        self.state(now) == SilenceState::Active && self.matchers.iter().all(|it| it.matches(labels))
    }
}

/// Whether a notice is told now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// It is.
    Now,
    /// It waits until then, and is decided anew.
    NotBefore(DateTime<Utc>, Hush),
}

/// Decides whether a notice is told at `now`. An end passes silences: it is no alert, and closes what machines opened.
/// Windows hold back everything but the severities that they except. A digest comes when it was ordered.
pub fn telling<'a>(
    notice: &Notice,
    status: Status,
    mutes: impl IntoIterator<Item = &'a Arc<Mute>>,
    silences: &[Silence],
    now: DateTime<Utc>,
) -> Telling {
    if notice.digest.is_some() {
        return Telling::Now;
    }
    let asked_until = match status {
        Status::Firing if !silences.is_empty() => {
            let labels = labels(notice);
            let covering = silences.iter().filter(|it| it.covers(&labels, now));
            covering.map(|it| it.ends_at).max()
        }
        Status::Firing | Status::Resolved => None,
    };
    // A severity of a later version is none that was excepted.
    let severity = Severity::parse(&notice.severity).unwrap_or(Severity::Info);
    let window_until = mutes.into_iter().filter_map(|it| it.until(now, severity)).max();
    match (asked_until, window_until) {
        (Some(until), window) => {
            Telling::NotBefore(window.map_or(until, |it| it.max(until)), Hush::Silenced)
        }
        (None, Some(until)) => Telling::NotBefore(until, Hush::Muted),
        (None, None) => Telling::Now,
    }
}
