//! Probes of sessions: a bearer token that somebody else made, and a login with a password.
//!
//! A token is asked with itself when it ends. A login opens a session, and that it opens is all it tells; the session
//! is closed again at once. Each attempt with a wrong password counts towards the lock of an account, so there is at
//! most one in a probe, and a password that was refused twice rests until it is replaced or hours have passed.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::timeout;

use super::key::authorization;
use super::page::Page;
use super::{Coordinator, Prober, Question, Sight, failure};
use crate::config::{CredentialId, Secret, SecretSource};
use crate::observation::answer::{Meaning, Sent};
use crate::observation::session;
use crate::observation::{Failure, FailureReason, Reading};
use crate::time::to_ms;

/// How many times in a row a password is tried that ECE refuses: once more than once, so that one odd answer wakes
/// nobody. Accounts lock after three at the least.
const REFUSALS_MAX: u32 = 2;

/// How long a password that was refused so often rests, unless it is replaced: the account may have been unlocked.
const REST: TimeDelta = TimeDelta::hours(12);

/// How long the end of a session may take.
const LOGOUT_MAX: Duration = Duration::from_secs(2);

/// A bearer token, ready to be sent.
pub(super) struct Token {
    /// The value of the header `Authorization`; nothing prints it.
    authorization: HeaderValue,
    /// When it ends by its own account. Not verified: ECE may end it sooner.
    exp: Option<DateTime<Utc>>,
}

/// A login, ready to be sent.
pub(super) struct Login {
    /// The body of the request.
    body: Secret,
    /// When the probe began.
    started: DateTime<Utc>,
}

/// The passwords that ECE has refused, so that no account is locked.
#[derive(Default)]
pub(super) struct Refusals {
    seed: RandomState,
    of: Mutex<HashMap<CredentialId, Refused>>,
}

#[derive(Clone, Copy)]
struct Refused {
    /// Of the password, with a seed that ends with the process.
    hash: u64,
    times: u32,
    at: DateTime<Utc>,
}

/// Whether a password may be tried.
enum Attempt {
    Allowed,
    Resting(Refused),
}

impl Token {
    /// The token in `secret`; `None` when it cannot be one.
    fn new(secret: &Secret) -> Option<Self> {
        let authorization = authorization("Bearer ", secret)?;
        Some(Self { authorization, exp: session::exp_of(secret.expose()) })
    }
}

impl Refusals {
    fn attempt(&self, id: &CredentialId, password: &Secret, now: DateTime<Utc>) -> Attempt {
        let refused = self.of.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied();
        match refused {
            Some(it)
                if it.hash == self.hash(password)
                    && REFUSALS_MAX <= it.times
                    // A refusal of the future is one of before the clock was set back.
                    && (0..REST.num_milliseconds()).contains(&(to_ms(now) - to_ms(it.at))) =>
            {
                Attempt::Resting(it)
            }
            Some(_) | None => Attempt::Allowed,
        }
    }

    fn refused(&self, id: &CredentialId, password: &Secret, at: DateTime<Utc>) {
        let hash = self.hash(password);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let times = of.get(id).filter(|it| it.hash == hash).map_or(0, |it| it.times);
        of.insert(id.clone(), Refused { hash, times: times.saturating_add(1), at });
    }

    fn accepted(&self, id: &CredentialId) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn hash(&self, password: &Secret) -> u64 {
        self.seed.hash_one(password.expose())
    }
}

impl Prober {
    /// Reads the token and asks the coordinators in turn when it ends.
    pub(super) async fn look_at_token(
        &self,
        source: &SecretSource,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let secret = match self.keys.read(source, self.timeout).await {
            Ok(secret) => secret,
            Err(failure) => return Sight::failed(failure),
        };
        let Some(token) = Token::new(&secret) else {
            let message = format!(
                "The {source} holds something else than one token: it has white space, control or non-ASCII \
                 characters; write the token alone, without `Bearer` before it."
            );
            return Sight::failed(failure(FailureReason::SecretUnreadable, message));
        };
        self.ask_in_turn(Question::Token(&token), started, now).await
    }

    /// Asks one coordinator when the token ends; without an answer to that, the token itself.
    pub(super) async fn ask_session(
        &self,
        coordinator: &Coordinator,
        token: &Token,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let request = self.client.get(coordinator.auth.clone());
        let request = request.header(AUTHORIZATION, token.authorization.clone());
        let page = match Page::ask(&coordinator.transport, request, now).await {
            Ok(page) => page,
            Err(failure) => return Sight::failed(failure),
        };
        let result = match page.meaning(Sent::Token, now()) {
            Meaning::Told(reading) => Ok(reading),
            Meaning::NotReported => session::expires_at(&page.body, page.date())
                .or(token.exp)
                .map(Reading::ExpiresAt)
                .ok_or_else(end_not_told),
            Meaning::Failed(failure) => Err(failure),
        };
        Sight { http_status: Some(page.status), key_id: None, clock_skew: page.clock_skew, result }
    }

    /// Logs in once, and out again.
    pub(super) async fn look_at_login(
        &self,
        id: &CredentialId,
        (username, source): (&str, &SecretSource),
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let password = match self.keys.read(source, self.timeout).await {
            Ok(password) => password,
            Err(failure) => return Sight::failed(failure),
        };
        if let Attempt::Resting(refused) = self.refusals.attempt(id, &password, now()) {
            return Sight::failed(resting(&refused));
        }
        let body = serde_json::json!({"username": username, "password": password.expose()});
        let login = Login { body: Secret::new(body.to_string()), started };
        let sight = self.ask_in_turn(Question::Login(&login), started, now).await;
        match &sight.result {
            Ok(_) => self.refusals.accepted(id),
            Err(it)
                if matches!(it.reason, FailureReason::Unauthorized | FailureReason::Forbidden) =>
            {
                self.refusals.refused(id, &password, now());
            }
            Err(_) => {}
        }
        sight
    }

    /// Logs in at one coordinator, and out again.
    pub(super) async fn log_in(
        &self,
        coordinator: &Coordinator,
        login: &Login,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let request = self.client.post(coordinator.login.clone());
        let request =
            request.header(CONTENT_TYPE, "application/json").body(login.body.expose().to_owned());
        let page = match Page::ask(&coordinator.transport, request, now).await {
            Ok(page) => page,
            Err(failure) => return Sight::failed(failure),
        };
        let result = match page.meaning(Sent::Password, now()) {
            Meaning::Told(_) | Meaning::NotReported => match session::token_in(&page.body) {
                Some(token) => {
                    let left = self.left(login.started, now()).min(LOGOUT_MAX);
                    // A session that stays open ends by itself.
                    let _ =
                        timeout(left, self.log_out(coordinator, &Secret::new(token), now)).await;
                    Ok(Reading::Undated)
                }
                None => Err(no_token()),
            },
            Meaning::Failed(failure) => Err(failure),
        };
        Sight { http_status: Some(page.status), key_id: None, clock_skew: page.clock_skew, result }
    }

    async fn log_out(&self, coordinator: &Coordinator, token: &Secret, now: fn() -> DateTime<Utc>) {
        let Some(authorization) = authorization("Bearer ", token) else { return };
        let request =
            self.client.post(coordinator.logout.clone()).header(AUTHORIZATION, authorization);
        if let Err(failure) = Page::ask(&coordinator.transport, request, now).await {
            tracing::debug!("cannot log out again: {}", failure.message);
        }
    }
}

fn end_not_told() -> Failure {
    let message = "ECE accepts the token, but neither its answer (`expires_at`) nor the token itself (`exp`) tells when \
                   it ends; look it up where the token was made."
        .to_owned();
    failure(FailureReason::HeaderMissing, message)
}

fn no_token() -> Failure {
    let message = "ECE answered the login without a token; try the same by hand (POST /api/v1/users/auth/_login), and look into \
                   the logs of ECE."
        .to_owned();
    failure(FailureReason::UnexpectedStatus, message)
}

fn resting(refused: &Refused) -> Failure {
    let message = format!(
        "ECE refused this password {} times, the last time at {}. It is not tried again until it is replaced or {} hours \
         have passed, so that the account is not locked: put the right password where this exporter reads it.",
        refused.times,
        refused.at.format("%F %R UTC"),
        REST.num_hours()
    );
    failure(FailureReason::Unauthorized, message)
}
