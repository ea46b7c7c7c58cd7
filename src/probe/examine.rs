//! One coordinator looked at closely, for people who search a fault: the whole answer, and what a probe makes of it.
//!
//! Asks with the same client as a probe does, so what holds there holds here: no redirect is followed, and the key goes
//! to nobody whose certificate is refused.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio::time::timeout;

use super::key::Key;
use super::page::EXPIRATION;
use super::reader::SecretReader;
use super::{CONNECT_MAX, Prober, parse_proxy};
use crate::config::{Secret, SecretSource};
use crate::observation::answer::Meaning;
use crate::observation::header::{self, Expiration};
use crate::observation::{Failure, FailureReason, Reading};

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken: the scheme is `https`.
    pub is_tls: bool,
}

/// An answer to what a probe asks first (of ECE `GET /api/v1/user`), and what a probe makes of it.
#[derive(Debug)]
pub struct Exchange {
    /// The status code.
    pub status: u16,
    /// The headers in the order in which they came, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, at most 1 MiB.
    pub body: Vec<u8>,
    /// From the request to the end of the answer, opening the connection included.
    pub took: Duration,
    /// This machine's clock minus the header `Date`.
    pub clock_skew: Option<TimeDelta>,
    /// What the answer means.
    pub meaning: Meaning,
    /// How the expiry header is read.
    pub expiration: Expiration,
    /// What the list of the owner's keys says, if it had to be asked.
    pub listed: Option<Result<Reading, Failure>>,
}

/// Host and port of a base URL.
///
/// # Errors
/// It is no URL, or has no host.
pub fn endpoint(url: &str) -> anyhow::Result<Endpoint> {
    let url: Url = url.parse().with_context(|| format!("{url} cannot be used as a URL"))?;
    endpoint_of(&url)
}

/// Host and port of the proxy `url`; the errors hold nothing of it, because it may hold a password.
///
/// # Errors
/// It is no URL, or has no host.
pub fn proxy_of(url: &str) -> anyhow::Result<Endpoint> {
    endpoint_of(&parse_proxy(url)?)
}

fn endpoint_of(url: &Url) -> anyhow::Result<Endpoint> {
    let host = url.host_str().context("the URL has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default().context("the URL has no port")?;
    Ok(Endpoint { host, port, is_tls: url.scheme() == "https" })
}

/// Reads a key as a probe does.
///
/// # Errors
/// It cannot be read within `within`, or is not one key.
pub async fn read_key(source: &SecretSource, within: Duration) -> Result<Secret, Failure> {
    let secret = SecretReader::default().read(source, within).await?;
    Key::new(&secret, source).map(|_| secret)
}

impl Endpoint {
    /// The longest that opening a connection may take.
    pub const CONNECT_MAX: Duration = CONNECT_MAX;

    /// Host and port as in a URL.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Exchange {
    /// The first value of a header as text, without what is not ASCII; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(it, _)| it == name)?;
        Some(value.iter().copied().filter(|it| (0x20..0x7f).contains(it)).map(char::from).collect())
    }

    /// The values of the expiry header as they came.
    pub fn raw_expiration(&self) -> impl Iterator<Item = &[u8]> {
        self.headers
            .iter()
            .filter(|(name, _)| name == EXPIRATION.as_str())
            .map(|it| it.1.as_slice())
    }

    /// Whether the body is HTML, by its content type.
    pub fn is_html(&self) -> bool {
        self.header(CONTENT_TYPE.as_str()).is_some_and(|it| it.contains("text/html"))
    }

    /// The host that a redirect leads to; a relative one leads to the same host.
    pub fn redirect_host(&self) -> Option<String> {
        let location = self.header("location")?;
        match location.parse::<Url>() {
            Ok(url) => endpoint_of(&url).ok().map(|it| it.authority()),
            Err(_) => Some("the same host".to_owned()),
        }
    }
}

impl Prober {
    /// Asks the coordinator `index` (in the order of the configuration) with the key in `source`, and its list of keys
    /// where a probe would.
    ///
    /// # Errors
    /// There was no whole answer within the timeout, or the key cannot be read.
    pub async fn examine(
        &self,
        index: usize,
        source: &SecretSource,
        now: fn() -> DateTime<Utc>,
    ) -> Result<Exchange, Failure> {
        let coordinator = &self.coordinators[index];
        let key = self.keys.read_key(source, self.timeout).await?;
        let looked = timeout(self.timeout, async {
            let asked = now();
            let (_, page) = self.first_page(coordinator, &key, now).await?;
            let took = (now() - asked).to_std().unwrap_or_default();
            let meaning = self.meaning(&page, now());
            let ask = match &meaning {
                Meaning::NotReported => true,
                Meaning::Failed(failure) => failure.reason == FailureReason::HeaderInvalid,
                Meaning::Told(_) => false,
            };
            let listed =
                if ask { Some(self.ask_list(coordinator, &key, now).await.result) } else { None };
            let raw: Vec<&[u8]> =
                page.headers.get_all(&EXPIRATION).iter().map(HeaderValue::as_bytes).collect();
            let expiration = header::read(&raw, Some(page.date().unwrap_or_else(now)));
            let headers = page
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect();
            Ok(Exchange {
                status: page.status,
                headers,
                clock_skew: page.clock_skew,
                body: page.body,
                took,
                meaning,
                expiration,
                listed,
            })
        });
        looked.await.unwrap_or_else(|_| Err(coordinator.transport.no_answer_within(self.timeout)))
    }
}
