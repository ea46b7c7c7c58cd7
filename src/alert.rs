//! When somebody must know, and of what. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::Severity;

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
}

impl AlertName {
    /// All alerts.
    pub const ALL: [Self; 8] = [
        Self::CredentialExpiring,
        Self::CredentialExpired,
        Self::CredentialRejected,
        Self::CredentialForbidden,
        Self::CredentialExpiryUnknown,
        Self::CredentialNeverExpires,
        Self::PlatformUnreachable,
        Self::PlatformClockSkew,
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
    /// Resolved: the credential is no longer configured.
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
    /// When it happened: the crossing itself, not when it was noticed, unless it was noticed more than a minute late.
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
