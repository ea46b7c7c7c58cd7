//! What is looked at besides keys: tokens, logins, the license, certificates and lists. Asked as a probe asks, and put into
//! the same steps.

use super::answer::{clock_of, in_words, skip};
use super::{Coordinator, Step, Topic};
use crate::config::{
    BorrowedKey, Certificate, Credential, CredentialId, CredentialKind, SecretSource,
};
use crate::observation::{FailureReason, Observation};

/// What is looked at. The one place of the doctor that knows the kinds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    /// An API key.
    Key(&'a SecretSource),
    /// A bearer token.
    Token(&'a SecretSource),
    /// A login; it is not tried.
    Login(&'a SecretSource),
    /// The license, the certificates of a service or a list of keys, which are read with somebody's key.
    Borrowed(&'a BorrowedKey),
    /// The certificates that the coordinators present.
    Endpoint,
}

impl<'a> Subject<'a> {
    pub(super) fn of(credential: &'a Credential) -> Self {
        match &credential.kind {
            CredentialKind::ApiKey(source) => Self::Key(source),
            CredentialKind::BearerToken(source) => Self::Token(source),
            CredentialKind::Login { password, .. } => Self::Login(password),
            CredentialKind::License(key)
            | CredentialKind::Certificate(Certificate::Service { key, .. }) => Self::Borrowed(key),
            CredentialKind::Certificate(Certificate::Endpoint) => Self::Endpoint,
            CredentialKind::Inventory(inventory) => Self::Borrowed(&inventory.key),
        }
    }

    /// Where the secret is read that is sent; `None` if none is.
    pub(super) fn source(self) -> Option<&'a SecretSource> {
        match self {
            Self::Key(source) | Self::Token(source) | Self::Login(source) => Some(source),
            Self::Borrowed(key) => Some(&key.source),
            Self::Endpoint => None,
        }
    }

    /// What is sent.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Key(_) | Self::Borrowed(_) => "key",
            Self::Token(_) => "token",
            Self::Login(_) => "password",
            Self::Endpoint => "secret",
        }
    }
}

/// How many parts of deployments that could not be read are named.
const UNREAD_SHOWN_MAX: usize = 20;

/// Why a login is not tried.
pub(super) fn not_tried(id: &CredentialId) -> String {
    format!(
        "not tested, because each attempt counts towards the lock of the account; `probe {id}` makes one attempt, unless the \
         last one was refused"
    )
}

/// The steps of what a probe of one coordinator showed.
pub(super) fn explain(
    coordinator: &mut Coordinator,
    subject: Subject<'_>,
    observation: &Observation,
    tell: &mut impl FnMut(&Step),
) {
    let is_accepted = match &observation.result {
        Ok(_) => true,
        Err(failure) => {
            matches!(failure.reason, FailureReason::HeaderMissing | FailureReason::HeaderInvalid)
        }
    };
    let http = match (&observation.result, is_accepted) {
        (Err(failure), false) => {
            let mut step = Step::failed(Topic::Http, failure.message.clone(), "");
            step.details.extend(observation.http_status.map(|it| format!("status {it}")));
            step
        }
        _ => match (observation.http_status, subject) {
            (_, Subject::Endpoint) | (None, _) => {
                Step::not_checked(Topic::Http, "no request is needed, only the handshake of TLS")
            }
            (Some(status), Subject::Borrowed(it)) => {
                let name = &it.credential;
                let found = format!("status {status}: ECE shows it to the credential {name}");
                Step::ok(Topic::Http, found)
            }
            (Some(status), _) => {
                let noun = subject.noun();
                Step::ok(Topic::Http, format!("status {status}: ECE accepts the {noun}"))
            }
        },
    };
    if !is_accepted && observation.http_status.is_none() {
        return skip(coordinator, Some(http), "", tell);
    }
    let reading = observation.result.as_ref().ok().copied();
    let expiry = match &observation.result {
        Ok(_) if observation.listing.as_deref().is_some_and(|it| !it.unread.is_empty()) => {
            let listing = observation.listing.as_deref().into_iter();
            let unread = listing.flat_map(|it| &it.unread);
            let mut step = Step::failed(
                Topic::Expiry,
                "not all that is listed could be read, and of that nobody is told",
                "look after what is said of each",
            );
            let shown = unread.take(UNREAD_SHOWN_MAX);
            step.details.extend(shown.map(|it| format!("{}: {}", it.place, it.why)));
            step
        }
        Ok(reading) => Step::ok(Topic::Expiry, in_words(*reading, observation.at)),
        Err(failure) if is_accepted => Step::failed(Topic::Expiry, failure.message.clone(), ""),
        Err(_) => Step::not_checked(Topic::Expiry, "ECE did not tell it"),
    };
    let permissions = match &observation.result {
        Ok(_) if matches!(subject, Subject::Endpoint) => "there was no request",
        Ok(_) => "what was asked for is allowed, and nothing else is needed",
        Err(_) => "they are listed for an accepted API key only",
    };
    let permissions = Step::not_checked(Topic::Permissions, permissions);
    let clock = match subject {
        Subject::Endpoint => Step::not_checked(Topic::Clock, "there was no request"),
        _ => clock_of(observation.clock_skew),
    };
    for step in [http, expiry, permissions, clock] {
        tell(&step);
        coordinator.steps.push(step);
    }
    coordinator.reading = reading;
}
