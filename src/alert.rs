//! When somebody must know, and of what. Pure.
//!
//! This module names alerts, reasons and events; `credential` decides for one credential, `platform` for a platform,
//! `inventory` for what a list holds. None of them acts: what a decision calls for is written by the store together with the state that it leads to.

mod credential;
mod inventory;
mod platform;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::credential::{Decision, State, decide, wake_at};
pub use self::inventory::{
    Change, FINDINGS_MAX, Finding, FindingKind, Found, Known, Lifespan, Reconciled, reconcile,
};
pub use self::platform::{CLOCK_SKEW_MAX, PlatformDecision, PlatformState};
use crate::config::{Policy, Severity};
use crate::observation::Reading;

/// The alerts, named as in the Prometheus rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertName {
    /// A step is crossed.
    CredentialExpiring,
    /// The expiry is past.
    CredentialExpired,
    /// ECE refuses the key before its known expiry.
    CredentialRejected,
    /// The key lives, its owner lost rights.
    CredentialForbidden,
    /// Nobody can tell when it expires.
    CredentialExpiryUnknown,
    /// It never expires.
    CredentialNeverExpires,
    /// No credential of the platform gets an answer from ECE.
    PlatformUnreachable,
    /// The clocks of the platform and of this machine differ by more than five minutes.
    PlatformClockSkew,
    /// A key is new in the list of keys.
    ApiKeyCreated,
    /// A key is gone from the list of keys before its expiry.
    ApiKeyDeleted,
    /// A listed key lives longer than is allowed.
    ApiKeyLongLived,
}

impl AlertName {
    /// All alerts.
    pub const ALL: [Self; 11] = [
        Self::CredentialExpiring,
        Self::CredentialExpired,
        Self::CredentialRejected,
        Self::CredentialForbidden,
        Self::CredentialExpiryUnknown,
        Self::CredentialNeverExpires,
        Self::PlatformUnreachable,
        Self::PlatformClockSkew,
        Self::ApiKeyCreated,
        Self::ApiKeyDeleted,
        Self::ApiKeyLongLived,
    ];

    /// The `alertname`, e.g. `ECECredentialExpiring`.
    pub fn label(self) -> &'static str {
        match self {
            Self::CredentialExpiring => "ECECredentialExpiring",
            Self::CredentialExpired => "ECECredentialExpired",
            Self::CredentialRejected => "ECECredentialRejected",
            Self::CredentialForbidden => "ECECredentialForbidden",
            Self::CredentialExpiryUnknown => "ECECredentialExpiryUnknown",
            Self::CredentialNeverExpires => "ECECredentialNeverExpires",
            Self::PlatformUnreachable => "ECEPlatformUnreachable",
            Self::PlatformClockSkew => "ECEPlatformClockSkew",
            Self::ApiKeyCreated => "ECEApiKeyCreated",
            Self::ApiKeyDeleted => "ECEApiKeyDeleted",
            Self::ApiKeyLongLived => "ECEApiKeyLongLived",
        }
    }

    /// The expiry that the alert is about: that of an alert about running out.
    pub fn end(self, reading: Option<Reading>) -> Option<DateTime<Utc>> {
        match (self, reading) {
            (Self::CredentialExpiring | Self::CredentialExpired, Some(Reading::ExpiresAt(at))) => {
                Some(at)
            }
            _ => None,
        }
    }

    /// The alert of an `alertname`.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.label() == label)
    }
}

/// Why somebody is told now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The alert fires.
    New,
    /// It became worse (the next step, a higher severity, expired after expiring).
    Escalated,
    /// It lasts.
    Repeat,
    /// Resolved: the expiry moved later.
    Renewed,
    /// Resolved: the cause is gone.
    Recovered,
    /// Resolved: the credential is no longer configured, or the key is listed no more.
    Removed,
    /// A drill (`notify-test`).
    Test,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::New,
        Self::Escalated,
        Self::Repeat,
        Self::Renewed,
        Self::Recovered,
        Self::Removed,
        Self::Test,
    ];

    /// The word of the payload: `new`, `escalated`, …
    pub fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Escalated => "escalated",
            Self::Repeat => "repeat",
            Self::Renewed => "renewed",
            Self::Recovered => "recovered",
            Self::Removed => "removed",
            Self::Test => "test",
        }
    }

    /// The reason of a word.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.label() == label)
    }

    /// Whether the alert still fires or has ended.
    pub fn status(self) -> Status {
        match self {
            Self::New | Self::Escalated | Self::Repeat | Self::Test => Status::Firing,
            Self::Renewed | Self::Recovered | Self::Removed => Status::Resolved,
        }
    }
}

/// Whether an alert still fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It fires.
    Firing,
    /// It has ended.
    Resolved,
}

impl Status {
    /// The word of the payload: `firing`, `resolved`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One thing that somebody must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which alert.
    pub name: AlertName,
    /// Why now.
    pub reason: Reason,
    /// How bad; for an end, how bad it was.
    pub severity: Severity,
    /// The step that is crossed, for `CredentialExpiring`.
    pub step: Option<Duration>,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// Since when the alert fires.
    pub starts_at: DateTime<Utc>,
    /// How many times it has been repeated, this one included.
    pub repeat: u32,
    /// Which life of the credential: goes up with each renewal.
    pub generation: u32,
    /// For `Renewed`, the expiry before.
    pub previous_expiry: Option<DateTime<Utc>>,
}

impl Event {
    /// An event of a firing alert, at its present severity and repeat count.
    pub fn of(firing: &Firing, reason: Reason, generation: u32, at: DateTime<Utc>) -> Self {
        Self {
            name: firing.name,
            reason,
            severity: firing.severity,
            step: firing.step,
            at,
            starts_at: firing.starts_at,
            repeat: firing.repeats,
            generation,
            previous_expiry: None,
        }
    }
}

/// A firing alert, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// Which.
    pub name: AlertName,
    /// How bad.
    pub severity: Severity,
    /// The step, for `CredentialExpiring`.
    pub step: Option<Duration>,
    /// Since when: for a step or an expiry the crossing itself, else the observation that confirmed it.
    pub starts_at: DateTime<Utc>,
    /// When somebody was last told.
    pub told_at: DateTime<Utc>,
    /// How many times it has been repeated at this severity.
    pub repeats: u32,
}

impl Firing {
    fn new(
        name: AlertName,
        severity: Severity,
        step: Option<Duration>,
        starts_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Self {
        Self { name, severity, step, starts_at, told_at: now, repeats: 0 }
    }

    /// When the next reminder is due, with the accepted expiry; `None` is never.
    pub fn repeat_at(&self, policy: &Policy, reading: Option<Reading>) -> Option<DateTime<Utc>> {
        policy.reminded_at(self.severity, self.told_at, self.name.end(reading))
    }

    /// Repeats the alert if its reminder is due.
    fn repeated(
        &mut self,
        policy: &Policy,
        reading: Option<Reading>,
        generation: u32,
        now: DateTime<Utc>,
    ) -> Option<Event> {
        let due = self.repeat_at(policy, reading)?;
        if now < due {
            return None;
        }
        self.told_at = now;
        self.repeats += 1;
        Some(Event::of(self, Reason::Repeat, generation, now))
    }
}
