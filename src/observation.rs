//! What one probe showed. Pure.
//!
//! Failing to see is data, not an error: a probe always yields an `Observation`. The header's forms are in `header`,
//! the meaning of a whole answer (status, codes, bodies) in `answer`.

pub mod answer;
pub mod deployments;
pub mod elements;
pub mod header;
pub mod listing;
pub mod platform;
pub mod rest;
pub mod rights;
pub mod session;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use self::listing::Listing;

/// What one probe showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// When the probe finished.
    pub at: DateTime<Utc>,
    /// How long it took, every coordinator tried included.
    pub took: Duration,
    /// The status code of the last answer, if there was one.
    pub http_status: Option<u16>,
    /// The id of the key, as far as it is known (read from the key itself or from ECE's list).
    pub key_id: Option<String>,
    /// This machine's clock minus the `Date` header of the answer.
    pub clock_skew: Option<TimeDelta>,
    /// How long the platform asked not to be asked again, from when the probe finished; at most 15 minutes.
    pub rest: Option<Duration>,
    /// What the probe says about the expiry, or why it does not.
    pub result: Result<Reading, Failure>,
    /// The keys that were listed, when the probe was to list keys and did.
    pub listing: Option<Arc<Listing>>,
}

impl Observation {
    /// A result of which nothing else is known, because there was no answer of its own.
    pub fn of(at: DateTime<Utc>, result: Result<Reading, Failure>) -> Self {
        Self {
            at,
            took: Duration::ZERO,
            http_status: None,
            key_id: None,
            clock_skew: None,
            rest: None,
            result,
            listing: None,
        }
    }
}

/// What a response says about the expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It expires at this instant.
    ExpiresAt(DateTime<Utc>),
    /// It never expires.
    Never,
    /// ECE accepts it, and does not tell of its kind (a password) when it expires.
    Undated,
}

impl Reading {
    /// When it expires, if it does and that is told.
    pub fn expires_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::ExpiresAt(at) => Some(at),
            Self::Never | Self::Undated => None,
        }
    }
}

/// Why a probe did not tell the expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind: at once branch, metric label and column.
    pub reason: FailureReason,
    /// One sentence for a tired person: what happened and what to do. At most 512 bytes, never a secret.
    pub message: String,
    /// The expiry when the response told it all the same (a 403 is an authenticated answer).
    pub reading: Option<Reading>,
}

/// Kinds of probe failure, a closed set: the label `reason` of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureReason {
    /// The name of the coordinator does not resolve.
    Dns,
    /// No TCP connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The answer is not HTTP, was cut short, or is too large.
    Protocol,
    /// A redirect; never followed.
    Redirect,
    /// 401: the key is not accepted.
    Unauthorized,
    /// 403, or a 401 whose code speaks of authorisation: the key lives, its owner lacks rights.
    Forbidden,
    /// 404 on the probe endpoint.
    NotFound,
    /// 429.
    RateLimited,
    /// 5xx, or an `authc.*` code: ECE itself is in trouble.
    ServerError,
    /// Any other status, or a 200 that is not ECE's (an HTML login page).
    UnexpectedStatus,
    /// ECE answered without the expiry, and its list of keys does not tell it either; or not every coordinator shows its
    /// certificate.
    HeaderMissing,
    /// The header's value, the license or a certificate does not hold a date in any known form.
    HeaderInvalid,
    /// ECE has no license.
    LicenseMissing,
    /// 401 for the key of the credential with which a license or a certificate is read.
    BorrowedKeyRejected,
    /// The secret's file or variable cannot be read.
    SecretUnreadable,
    /// The probe was given up (shutdown); never recorded.
    Canceled,
}

impl FailureReason {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 18] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Protocol,
        Self::Redirect,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::RateLimited,
        Self::ServerError,
        Self::UnexpectedStatus,
        Self::HeaderMissing,
        Self::HeaderInvalid,
        Self::LicenseMissing,
        Self::BorrowedKeyRejected,
        Self::SecretUnreadable,
        Self::Canceled,
    ];

    /// The label value, e.g. `header_missing`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Redirect => "redirect",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::UnexpectedStatus => "unexpected_status",
            Self::HeaderMissing => "header_missing",
            Self::HeaderInvalid => "header_invalid",
            Self::LicenseMissing => "license_missing",
            Self::BorrowedKeyRejected => "borrowed_key_rejected",
            Self::SecretUnreadable => "secret_unreadable",
            Self::Canceled => "canceled",
        }
    }

    /// The kind of a label value.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.label() == label)
    }

    /// Who has to act.
    pub fn blame(self) -> Blame {
        match self {
            Self::Dns
            | Self::Connect
            | Self::Tls
            | Self::Timeout
            | Self::Protocol
            | Self::Redirect
            | Self::NotFound
            | Self::RateLimited
            | Self::ServerError
            | Self::UnexpectedStatus => Blame::Platform,
            Self::Unauthorized => Blame::Rejected,
            Self::Forbidden => Blame::Forbidden,
            Self::HeaderMissing
            | Self::HeaderInvalid
            | Self::LicenseMissing
            | Self::BorrowedKeyRejected
            | Self::SecretUnreadable
            | Self::Canceled => Blame::Credential,
        }
    }
}

/// Who has to act on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// ECE, or what stands between: the same for every credential of the platform.
    Platform,
    /// ECE knows the key no more.
    Rejected,
    /// ECE knows the key but its owner lacks rights.
    Forbidden,
    /// This one credential, its configuration, or what a proxy strips from its answers.
    Credential,
}
