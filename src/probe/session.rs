//! Probes of sessions: a bearer token that somebody else made, and a login with a password.
//!
//! A token is asked with itself when it ends. A login opens a session, and that it opens is all it tells; the session
//! is closed again at once. Each attempt with a wrong password counts towards the lock of an account, so there is at
//! most one in a probe, and a password that was refused twice rests until it is replaced or hours have passed. What a
//! process before this one was refused is told by `Prober::remember_refusals`.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::timeout;

use super::key::authorization;
use super::page::Page;
use super::question::Question;
use super::reader::SecretReader;
use super::{Coordinator, Prober, Sight, failure, passed};
use crate::config::{Credential, CredentialKind, Secret, SecretSource};
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

/// What the store remembers of refusals, by user and where the password is read, each with when this process started.
type Before = HashMap<(String, SecretSource), (Refused, DateTime<Utc>)>;

/// The passwords that ECE has refused, so that no account is locked.
#[derive(Default)]
pub(super) struct Refusals {
    seed: RandomState,
    /// By the user, and the hash of the password with a seed that ends with the process: two credentials may be of
    /// one user.
    of: Mutex<HashMap<(String, u64), Refused>>,
    /// What was refused before this process: of which password is only known once it is read.
    before: Mutex<Before>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    times: u32,
    /// When it was refused last, or before this process, by when.
    at: DateTime<Utc>,
    when: When,
}

/// How exactly the time of a refusal is known.
#[derive(Debug, Clone, Copy)]
enum When {
    At,
    By,
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
    fn attempt(&self, user: &str, password: &Secret, now: DateTime<Utc>) -> Attempt {
        let refused = self.lock().get(&self.key(user, password)).copied();
        match refused {
            Some(it) if REFUSALS_MAX <= it.times && it.is_fresh(now) => Attempt::Resting(it),
            Some(_) | None => Attempt::Allowed,
        }
    }

    /// Takes what was refused before this process for refusals of `password`, just read from `source`. It may be another
    /// one by now: then it has one attempt and not two.
    async fn recall(&self, user: &str, source: &SecretSource, password: &Secret) {
        let before = (user.to_owned(), source.clone());
        let remembered = self.lock_before().get(&before).copied();
        let Some((mut refused, process_started)) = remembered else { return };
        if may_be_replaced(source, refused.at, process_started).await {
            refused.times = refused.times.min(REFUSALS_MAX - 1);
        }
        self.lock_before().remove(&before);
        self.lock().entry(self.key(user, password)).or_insert(refused);
    }

    fn refused(&self, user: &str, password: &Secret, at: DateTime<Utc>) {
        let key = self.key(user, password);
        let mut of = self.lock();
        let times = of.get(&key).map_or(0, |it| it.times).saturating_add(1);
        // What has rested is forgotten, but for this one, which has one attempt more and not two.
        of.retain(|_, it| it.is_fresh(at));
        of.insert(key, Refused { times, at, when: When::At });
    }

    fn accepted(&self, user: &str) {
        self.lock().retain(|(it, _), _| it != user);
        self.lock_before().retain(|(it, _), _| it != user);
    }

    fn key(&self, user: &str, password: &Secret) -> (String, u64) {
        (user.to_owned(), self.seed.hash_one(password.expose()))
    }

    /// Nothing that holds the lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u64), Refused>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_before(&self) -> MutexGuard<'_, Before> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    /// Whether it is not long ago. A refusal of the future is one of before the clock was set back.
    fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        (0..REST.num_milliseconds()).contains(&(to_ms(now) - to_ms(self.at)))
    }
}

/// Whether the secret may be another one than it was at `at`: its file was written or put in its place since, or it is an
/// environment variable, which a process that started since may have been given anew.
async fn may_be_replaced(
    source: &SecretSource,
    at: DateTime<Utc>,
    process_started: DateTime<Utc>,
) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Some(path) = source.path().map(Path::to_owned) else { return at < process_started };
    // A file that is moved here keeps the time when it was written, not that of its change.
    let changed = move || std::fs::metadata(path).map(|it| it.mtime().max(it.ctime()));
    match tokio::task::spawn_blocking(changed).await {
        // Whole seconds: one that was changed in the same second may be another.
        Ok(Ok(changed)) => at.timestamp() <= changed,
        Ok(Err(_)) | Err(_) => true,
    }
}

/// Reads a token or a password as a probe does.
///
/// # Errors
/// It cannot be read within `within`.
pub async fn read_secret(source: &SecretSource, within: Duration) -> Result<Secret, Failure> {
    SecretReader::default().read(source, within).await
}

impl Prober {
    /// Tells that a login was refused `times` in a row, the last time at or before `at`, by what the store remembers of
    /// this process, which started at `process_started`, or of one before it. Another kind of credential, or no refusal,
    /// changes nothing.
    pub fn remember_refusals(
        &self,
        credential: &Credential,
        times: u32,
        at: DateTime<Utc>,
        process_started: DateTime<Utc>,
    ) {
        if let (CredentialKind::Login { username, password }, 1..) = (&credential.kind, times) {
            // What rests is counted on by those who decide on alerts, although nothing is sent.
            let refused = Refused { times: times.min(REFUSALS_MAX), at, when: When::By };
            let key = (username.clone(), password.clone());
            self.refusals.lock_before().insert(key, (refused, process_started));
        }
    }

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
        Sight::of(&page, result)
    }

    /// Logs in once, and out again.
    pub(super) async fn look_at_login(
        &self,
        username: &str,
        source: &SecretSource,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let password = match self.keys.read(source, self.timeout).await {
            Ok(password) => password,
            Err(failure) => return Sight::failed(failure),
        };
        self.refusals.recall(username, source, &password).await;
        if let Attempt::Resting(refused) = self.refusals.attempt(username, &password, now()) {
            return Sight::failed(resting(&refused));
        }
        let body = serde_json::json!({"username": username, "password": password.expose()});
        let login = Login { body: Secret::new(body.to_string()), started };
        let sight = self.ask_in_turn(Question::Login(&login), started, now).await;
        match &sight.result {
            Ok(_) => self.refusals.accepted(username),
            Err(it)
                if matches!(it.reason, FailureReason::Unauthorized | FailureReason::Forbidden) =>
            {
                self.refusals.refused(username, &password, now());
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
                    // Half, so that the deadline of the probe does not pass first.
                    let left = self.timeout.saturating_sub(passed(login.started, now()));
                    let left = (left / 2).min(LOGOUT_MAX);
                    // A session that stays open ends by itself.
                    let _ =
                        timeout(left, self.log_out(coordinator, &Secret::new(token), now)).await;
                    Ok(Reading::Undated)
                }
                None => Err(no_token()),
            },
            Meaning::Failed(failure) => Err(failure),
        };
        Sight::of(&page, result)
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
    let when = match refused.when {
        When::At => "at",
        When::By => "by",
    };
    let message = format!(
        "ECE refused this password {} times, the last time {when} {}. It is not tried again until it is replaced or {} hours \
         have passed, so that the account is not locked: put the right password where this exporter reads it.",
        refused.times,
        refused.at.format("%F %R UTC"),
        REST.num_hours()
    );
    failure(FailureReason::Unauthorized, message)
}
