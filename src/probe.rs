//! Asks ECE when a credential expires; never fails.
//!
//! A probe is `GET /api/v1/user` with the key itself, because ECE tells the expiry in a header of every answer to it.
//! Where the header is missing (a key that never expires, or something between that strips it), ECE's list of the
//! owner's keys is asked. Tokens and logins are in `session`, the license and the certificates in `platform`, lists of
//! keys in `inventory`, what expires inside deployments in `deployments`, Elastic Cloud Hosted in `hosted`. What an answer
//! means is decided by `observation`; when to probe, how many at a time, and what follows from it, is the monitor's
//! business.
//!
//! The key goes to the configured URLs only: redirects are not followed, and no proxy is taken from the environment.

mod deployments;
mod examine;
mod hosted;
mod inventory;
mod key;
mod page;
mod reader;
mod platform;
mod question;
mod session;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tokio::time::timeout;

use self::deployments::Turns;
pub use self::examine::{Endpoint, Exchange, endpoint, proxy_of, read_key};
use self::key::Key;
use self::page::{Arriving, Page};
use self::platform::{Looker, Subject};
use self::question::{Next, Question};
use self::reader::SecretReader;
use self::session::Refusals;
pub use self::session::read_secret;
use self::transport::Transport;
use crate::config::{
    Certificate, Credential, CredentialKind, Flavor, InventoryScope, Platform, SecretSource,
};
use crate::observation::answer::{self, KeyListing, Meaning, Sent};
use crate::observation::listing::Listing;
use crate::observation::{Failure, FailureReason, Observation, Reading};
use crate::time::to_ms;
use crate::tls;

/// The longest that opening a connection may take: what does not connect by then is down, and another may be up.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a coordinator that failed is asked last.
const AVOID_MS: i64 = 60_000;
/// How long a connection without use is kept; balancers close theirs after 60 seconds, and a request must not race.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// By how much the outer deadline is later than the coordinators' own, so that theirs, which can say who did not
/// answer, comes first. It also ends what they do not cover: a secret on a dead disk, a clock that jumps.
const DEADLINE_GRACE: Duration = Duration::from_millis(250);
/// The longest sentence of a failure.
const MESSAGE_BYTES_MAX: usize = 512;

/// Probes the credentials of one platform over a pool of connections of its own.
pub struct Prober {
    flavor: Flavor,
    client: reqwest::Client,
    looker: Option<Looker>,
    coordinators: Vec<Coordinator>,
    keys: SecretReader,
    refusals: Refusals,
    turns: Turns,
    timeout: Duration,
}

/// One coordinator of the platform.
struct Coordinator {
    user: Url,
    keys: Url,
    all_keys: Url,
    /// The list of deployments, which Elastic Cloud Hosted is asked too where it does not show its keys.
    deployments: Url,
    auth: Url,
    login: Url,
    logout: Url,
    /// What its license and its settings are below.
    platform: Url,
    transport: Transport,
    /// When it failed last, in milliseconds since the Unix epoch; `i64::MIN` if it works.
    failed_at_ms: AtomicI64,
}

/// What one coordinator showed.
struct Sight {
    http_status: Option<u16>,
    key_id: Option<String>,
    clock_skew: Option<TimeDelta>,
    /// How long the platform asks to be left alone.
    rest: Option<Duration>,
    result: Result<Reading, Failure>,
    listing: Option<Arc<Listing>>,
}

impl Prober {
    /// Prepares the probes of `platform`, `timeout` each. Reads the files of its TLS settings.
    ///
    /// # Errors
    /// The TLS settings (see `tls::client_config`), a URL, an extra header or the proxy cannot be used, or there is
    /// no URL.
    pub fn new(platform: &Platform, timeout: Duration) -> anyhow::Result<Self> {
        ensure!(!platform.urls.is_empty(), "platform {} has no URL", platform.name);
        let connect_max = CONNECT_MAX.min(timeout);
        let proxy = platform.proxy_url.as_deref().map(parse_proxy).transpose()?;
        let via = proxy.as_ref().map(authority);
        let coordinators = platform
            .urls
            .iter()
            .map(|url| Coordinator::new(url, via.as_deref(), connect_max))
            .collect::<anyhow::Result<Vec<_>>>()?;

        let is_tls = |url: &Url| url.scheme() == "https";
        let tls = if coordinators.iter().map(|it| &it.user).chain(&proxy).any(is_tls) {
            tls::client_config(&platform.tls)?
        } else {
            tls::client_config_for_plain_http()?
        };
        let looker = Looker::new(platform, proxy.as_ref(), connect_max)?;
        // No timeout of its own: `probe` puts one around the whole.
        let client = client(proxy.as_ref(), connect_max)?
            .tls_backend_preconfigured(tls)
            .pool_max_idle_per_host(platform.max_concurrent_probes)
            .pool_idle_timeout(IDLE_MAX)
            .default_headers(extra_headers(&platform.http_headers)?)
            .build()
            .context("cannot build the HTTP client")?;
        Ok(Self {
            flavor: platform.flavor,
            client,
            looker,
            coordinators,
            keys: SecretReader::default(),
            refusals: Refusals::default(),
            turns: Turns::default(),
            timeout,
        })
    }

    /// Asks when `credential` expires. Ends within the timeout, and always with an observation; `now` reads the clock.
    pub async fn probe(&self, credential: &Credential, now: fn() -> DateTime<Utc>) -> Observation {
        let started = now();
        let deadline = match &credential.kind {
            CredentialKind::Inventory(inventory) => inventory.timeout,
            _ => self.timeout,
        };
        let sight = timeout(deadline + DEADLINE_GRACE, self.look(credential, started, now))
            .await
            .unwrap_or_else(|_| {
                let message = format!(
                    "The probe did not end within {deadline:?}; check that this machine is not overloaded."
                );
                Sight::failed(failure(FailureReason::Timeout, message))
            });
        let at = now();
        Observation {
            at,
            took: (at - started).to_std().unwrap_or_default(),
            http_status: sight.http_status,
            key_id: sight.key_id,
            clock_skew: sight.clock_skew,
            rest: sight.rest,
            result: sight.result,
            listing: sight.listing,
        }
    }

    async fn look(
        &self,
        credential: &Credential,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        match &credential.kind {
            CredentialKind::ApiKey(source) => self.look_at_key(source, started, now).await,
            CredentialKind::BearerToken(source) => self.look_at_token(source, started, now).await,
            CredentialKind::Login { username, password } => {
                self.look_at_login(username, password, started, now).await
            }
            CredentialKind::License(key) => {
                self.look_at_platform(Subject::License, key, started, now).await
            }
            CredentialKind::Certificate(Certificate::Service { service, key }) => {
                self.look_at_platform(Subject::Service(*service), key, started, now).await
            }
            CredentialKind::Certificate(Certificate::Endpoint) => {
                self.look_at_endpoint(started, now).await
            }
            CredentialKind::Inventory(inventory) => {
                self.look_at_list(inventory, started, now).await
            }
        }
    }

    async fn look_at_key(
        &self,
        source: &SecretSource,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let key = match self.keys.read_key(source, self.timeout).await {
            Ok(key) => key,
            Err(failure) => return Sight::failed(failure),
        };
        let mut sight = self.ask_in_turn(Question::Key(&key), started, now).await;
        sight.key_id = sight.key_id.or(key.id);
        sight
    }

    /// Asks the coordinators one after the other until one gives an answer that another would give too. Each gets an
    /// equal share of what is left of the deadline, so that a silent one leaves time for the next.
    async fn ask_in_turn(
        &self,
        question: Question<'_>,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let order = self.order(started);
        let mut best: Option<Sight> = None;
        let mut failed = Vec::new();
        for (asked, coordinator) in order.iter().enumerate() {
            let left = question.deadline(self.timeout).saturating_sub(passed(started, now()));
            let share = left / question.shares(order.len() - asked);
            let answer = timeout(share, self.put(coordinator, question, now)).await;
            let in_time = answer.is_ok();
            let sight = answer
                .unwrap_or_else(|_| Sight::failed(coordinator.transport.no_answer_within(share)));
            let reason = match &sight.result {
                Ok(_) => None,
                Err(failure) => Some(failure.reason),
            };
            match reason.map_or(Next::Stop, Next::after) {
                Next::Stop => {
                    coordinator.failed_at_ms.store(i64::MIN, Ordering::Relaxed);
                    return sight;
                }
                Next::Avoid => coordinator.failed_at_ms.store(to_ms(now()), Ordering::Relaxed),
                Next::Try => {}
            }
            if question.is_settled_by(reason, in_time) {
                return sight;
            }
            let label = reason.map_or("", FailureReason::label);
            failed.push(format!("{} ({label})", coordinator.transport.host()));
            best = match best {
                Some(best) if sight.worth() <= best.worth() => Some(best),
                _ => Some(sight),
            };
        }
        let mut best = best.expect("`new` requires a URL");
        if let (Err(failure), true) = (&mut best.result, 1 < failed.len()) {
            let all =
                format!("{} All coordinators failed: {}.", failure.message, failed.join(", "));
            failure.message = clip(all);
        }
        best
    }

    /// The coordinators as configured, but those that failed lately last.
    fn order(&self, now: DateTime<Utc>) -> Vec<&Coordinator> {
        let mut order = self.coordinators.iter().collect::<Vec<_>>();
        order.sort_by_key(|it| it.failed_lately(now));
        order
    }

    async fn put(
        &self,
        coordinator: &Coordinator,
        question: Question<'_>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        match question {
            Question::Key(key) => match self.flavor {
                Flavor::Ece => self.ask(coordinator, key, now).await,
                Flavor::Ech => self.ask_hosted(coordinator, key, now).await,
            },
            Question::Token(token) => self.ask_session(coordinator, token, now).await,
            Question::Login(login) => self.log_in(coordinator, login, now).await,
            Question::Platform(subject, key) => {
                self.ask_platform(coordinator, subject, key, now).await
            }
            Question::List(inventory, key, since) => match &inventory.scope {
                InventoryScope::Deployments(wanted) => {
                    let wanted = (inventory, wanted);
                    self.ask_for_deployments(coordinator, wanted, key, since, now).await
                }
                InventoryScope::Keys(scope) => {
                    self.ask_for_list(coordinator, (inventory, *scope), key, now).await
                }
            },
        }
    }

    /// Asks one coordinator, and its list of keys if it answers without an expiry.
    async fn ask(&self, coordinator: &Coordinator, key: &Key, now: fn() -> DateTime<Utc>) -> Sight {
        let page = match self.get(coordinator, &coordinator.user, key, now).await {
            Ok(page) => page,
            Err(failure) => return Sight::failed(failure),
        };
        let listed = match page.meaning(Sent::Key, now()) {
            Meaning::Told(reading) => return Sight::of(&page, Ok(reading)),
            // A form of date that we do not know, of which the list may hold a better one.
            Meaning::Failed(failure) if failure.reason == FailureReason::HeaderInvalid => {
                let listed = self.ask_list(coordinator, key, now).await;
                Sight { result: listed.result.or(Err(failure)), ..listed }
            }
            Meaning::Failed(failure) => return Sight::of(&page, Err(failure)),
            Meaning::NotReported => self.ask_list(coordinator, key, now).await,
        };
        let rest = listed.rest.max(page.rest);
        Sight { key_id: listed.key_id, rest, ..Sight::of(&page, listed.result) }
    }

    /// Looks the key up in the list of its owner's keys: its id and expiry.
    async fn ask_list(
        &self,
        coordinator: &Coordinator,
        key: &Key,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let page = match self.get(coordinator, &coordinator.keys, key, now).await {
            Ok(page) => page,
            Err(failure) => {
                let why = format!("its list of keys fails: {}", failure.message);
                return Sight::failed(not_told(&why));
            }
        };
        let why = match page.status {
            200 => match answer::expiry_in_keys(&page.body, key.id.as_deref(), page.date()) {
                KeyListing::Found { id, reading } => {
                    return Sight { key_id: Some(id), ..Sight::of(&page, Ok(reading)) };
                }
                KeyListing::Ambiguous => "its list of keys holds several that could be this one",
                KeyListing::NotListed => "its list of keys does not hold this one",
                KeyListing::Unreadable => "its list of keys is not the expected JSON",
            },
            401 | 403 => "this key may not list its owner's keys",
            404 => "it has no list of keys",
            status => {
                let why = format!("its list of keys answers with HTTP status {status}");
                let failure = match page.meaning(Sent::Key, now()) {
                    // The same for every credential of the platform, and soon over.
                    Meaning::Failed(failure) if failure.reason == FailureReason::RateLimited => {
                        failure
                    }
                    _ => not_told(&why),
                };
                return Sight::of(&page, Err(failure));
            }
        };
        Sight::of(&page, Err(not_told(why)))
    }

    async fn get(
        &self,
        coordinator: &Coordinator,
        url: &Url,
        key: &Key,
        now: fn() -> DateTime<Utc>,
    ) -> Result<Page, Failure> {
        self.send(coordinator, url, key, now).await?.page().await
    }

    /// Asks with a key, and waits for the head of the answer.
    async fn send<'a>(
        &self,
        coordinator: &'a Coordinator,
        url: &Url,
        key: &Key,
        now: fn() -> DateTime<Utc>,
    ) -> Result<Arriving<'a>, Failure> {
        let request = self.client.get(url.clone()).header(AUTHORIZATION, key.authorization.clone());
        Arriving::ask(&coordinator.transport, request, now).await
    }
}

impl Coordinator {
    fn new(base: &str, via: Option<&str>, connect_max: Duration) -> anyhow::Result<Self> {
        let url = |path: &str| {
            format!("{base}{path}")
                .parse::<Url>()
                .with_context(|| format!("{base} cannot be used as a URL"))
        };
        let user = url("/api/v1/user")?;
        Ok(Self {
            keys: url("/api/v1/users/auth/keys")?,
            all_keys: url("/api/v1/users/auth/keys/_all")?,
            deployments: url("/api/v1/deployments")?,
            auth: url("/api/v1/users/auth")?,
            login: url("/api/v1/users/auth/_login")?,
            logout: url("/api/v1/users/auth/_logout")?,
            platform: url("/api/v1/platform/")?,
            transport: Transport::new(&user, via, connect_max),
            user,
            failed_at_ms: AtomicI64::new(i64::MIN),
        })
    }

    fn failed_lately(&self, now: DateTime<Utc>) -> bool {
        let ago = to_ms(now).saturating_sub(self.failed_at_ms.load(Ordering::Relaxed));
        // A failure of the future is one of before the clock was set back.
        (0..AVOID_MS).contains(&ago)
    }
}

impl Sight {
    fn of(page: &Page, result: Result<Reading, Failure>) -> Self {
        let (http_status, clock_skew, rest) = (Some(page.status), page.clock_skew, page.rest);
        Self { http_status, clock_skew, rest, ..Self::without_page(result) }
    }

    /// What is seen without an answer that could be read.
    fn without_page(result: Result<Reading, Failure>) -> Self {
        Self {
            http_status: None,
            key_id: None,
            clock_skew: None,
            rest: None,
            result,
            listing: None,
        }
    }

    fn failed(failure: Failure) -> Self {
        Self::without_page(Err(failure))
    }

    /// How much it tells: an expiry, an answer of ECE, an answer, nothing.
    fn worth(&self) -> u8 {
        match &self.result {
            Ok(_) | Err(Failure { reading: Some(_), .. }) => 3,
            Err(Failure { reason: FailureReason::HeaderMissing, .. }) => 2,
            Err(_) => u8::from(self.http_status.is_some()),
        }
    }
}

/// How long ago `started` is; nothing if the clock jumped back.
fn passed(started: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - started).to_std().unwrap_or_default()
}

/// A client that goes to the configured URLs only, over `proxy` if there is one.
fn client(proxy: Option<&Url>, connect_max: Duration) -> anyhow::Result<reqwest::ClientBuilder> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // What fails is asked again by the next probe, or of the next coordinator.
        .retry(reqwest::retry::never())
        .connect_timeout(connect_max);
    let Some(proxy) = proxy else { return Ok(builder) };
    // The cause may show the password of the URL.
    let proxy = reqwest::Proxy::all(proxy.clone())
        .map_err(|_| anyhow::anyhow!("proxy_url cannot be used as a proxy"))?;
    Ok(builder.proxy(proxy))
}

fn extra_headers(configured: &[(String, String)]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let program = concat!("ece-expiry-exporter/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(program));
    for (name, value) in configured {
        let context = || format!("http_headers: {name} is not a header that can be sent");
        let name = HeaderName::try_from(name).with_context(context)?;
        let mut value = HeaderValue::try_from(value).with_context(context)?;
        // A gateway's header is as good as a password.
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn parse_proxy(url: &str) -> anyhow::Result<Url> {
    // The URL may hold a password.
    url.parse().map_err(|_| anyhow::anyhow!("proxy_url is not a URL such as http://proxy:3128"))
}

/// Host and port of `url`, without user and password.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn not_told(why: &str) -> Failure {
    let message = format!(
        "ECE answered without the header X-Elastic-Api-Key-Expiration, and {why}; check whether a proxy strips the \
         header (ask a coordinator directly), and whether ECE is 3.7 or newer."
    );
    failure(FailureReason::HeaderMissing, message)
}

fn failure(reason: FailureReason, message: String) -> Failure {
    Failure { reason, message: clip(message), reading: None }
}

/// Cuts a sentence that is too long, at a character.
fn clip(mut message: String) -> String {
    const ELLIPSIS: &str = "…";
    if MESSAGE_BYTES_MAX < message.len() {
        let mut end = MESSAGE_BYTES_MAX - ELLIPSIS.len();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str(ELLIPSIS);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::{MESSAGE_BYTES_MAX, clip};

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        for shift in 0..4 {
            let long = format!("{}{}", "x".repeat(shift), "\u{1f511}".repeat(MESSAGE_BYTES_MAX));
            let cut = clip(long);
            assert!(
                (MESSAGE_BYTES_MAX - 3..=MESSAGE_BYTES_MAX).contains(&cut.len()),
                "{}",
                cut.len()
            );
            assert!(cut.ends_with("\u{1f511}…"), "{cut}");
        }
        let fits = "x".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(clip(fits.clone()), fits);
    }
}
