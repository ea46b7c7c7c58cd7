//! What a coordinator is asked, and whether another one is asked after its answer.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::key::Key;
use super::platform::{Borrowed, Subject};
use super::session::{Login, Token};
use crate::config::Inventory;
use crate::observation::FailureReason;

/// What a coordinator is asked.
#[derive(Clone, Copy)]
pub(super) enum Question<'a> {
    /// When this key expires.
    Key(&'a Key),
    /// When this token ends.
    Token(&'a Token),
    /// Whether this login works.
    Login(&'a Login),
    /// When something of the platform expires, asked with a key.
    Platform(Subject, Borrowed<'a>),
    /// What there is in a list, asked with a key since this instant.
    List(&'a Inventory, Borrowed<'a>, DateTime<Utc>),
}

/// What a failure says about asking the next coordinator.
pub(super) enum Next {
    /// This one is in trouble: ask the next, and this one last for a while.
    Avoid,
    /// Something before this one strips the header: the next may do better.
    Try,
    /// The next would say the same.
    Stop,
}

impl Question<'_> {
    /// How long it may take, when a probe may take `usual`.
    pub(super) fn deadline(self, usual: Duration) -> Duration {
        match self {
            Self::List(inventory, ..) => inventory.timeout,
            Self::Key(_) | Self::Token(_) | Self::Login(_) | Self::Platform(..) => usual,
        }
    }

    /// Into how many parts the time left is divided while so many coordinators are left. A login is not cut short:
    /// nobody else may be asked after it. Deployments have bounds of their own.
    pub(super) fn shares(self, coordinators: usize) -> u32 {
        match self {
            Self::List(inventory, ..) if inventory.scope.deployments().is_some() => 1,
            Self::Key(_) | Self::Token(_) | Self::Platform(..) | Self::List(..) => {
                u32::try_from(coordinators).unwrap_or(u32::MAX)
            }
            Self::Login(_) => 1,
        }
    }

    /// Whether no other coordinator may be asked after this failure: a login that may have arrived is not sent again.
    /// Without a connection it has not; a timeout before the time was up is one of connecting.
    pub(super) fn is_settled_by(self, reason: Option<FailureReason>, in_time: bool) -> bool {
        match (self, reason) {
            (Self::Key(_) | Self::Token(_) | Self::Platform(..) | Self::List(..), _) => false,
            (
                Self::Login(_),
                Some(
                    FailureReason::Dns
                    | FailureReason::Connect
                    | FailureReason::Tls
                    | FailureReason::Timeout,
                ),
            ) => !in_time,
            (Self::Login(_), _) => true,
        }
    }
}

impl Next {
    pub(super) fn after(reason: FailureReason) -> Self {
        match reason {
            FailureReason::Dns
            | FailureReason::Connect
            | FailureReason::Tls
            | FailureReason::Timeout
            | FailureReason::Protocol
            | FailureReason::ServerError => Self::Avoid,
            FailureReason::HeaderMissing => Self::Try,
            FailureReason::Redirect
            | FailureReason::Unauthorized
            | FailureReason::Forbidden
            | FailureReason::NotFound
            | FailureReason::RateLimited
            | FailureReason::UnexpectedStatus
            | FailureReason::HeaderInvalid
            | FailureReason::LicenseMissing
            | FailureReason::BorrowedKeyRejected
            | FailureReason::SecretUnreadable
            | FailureReason::Canceled => Self::Stop,
        }
    }
}
