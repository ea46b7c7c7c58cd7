//! Webhooks: one signed POST for each message. Payloads are in `payload`, `alertmanager` and `notify::format`, what
//! answers mean is in `answer`.
//!
//! A URL is a secret (many services put the token into the path), so messages name the host only. Redirects are not
//! followed, proxies of the environment are not used, and addresses that lead to a cloud's metadata service are denied,
//! whatever name leads there.

pub mod alertmanager;
pub mod answer;
pub mod payload;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};

use super::format::{self, Phase, stored};
use super::text::{cut, shown};
use super::{Draft, read_secret, worst_first};
use crate::config::{AnswerRule, Carries, Secret, WebhookConfig, WebhookFormat};
use crate::delivery::{Accepted, SendError};
use crate::time;

/// How long a TCP and TLS connection may take to come up.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The most that is read of an answer; only its beginning is shown.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the body of an answer may take: the status has decided already, the body only explains.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);
/// Path segments of a URL from this length on count as secret wherever a server repeats them.
const SEGMENT_CHARS_MIN: usize = 8;
/// Metadata services of clouds outside the link-local ranges.
const METADATA: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// The message of `draft` in the format of the channel, as it is stored.
///
/// # Errors
/// No notice, or several for a format that carries one; a word in one that this version does not know; a template that
/// fails.
pub fn compose(config: &WebhookConfig, draft: &Draft<'_>, phase: Phase) -> anyhow::Result<Vec<u8>> {
    let sorted = worst_first(draft.notices)?;
    let (format, count) = (&config.format, sorted.len());
    let (first, _) = *sorted.first().context("a message needs at least one notice")?;
    if format.carries() == Carries::Alert && count != 1 {
        bail!("a message in the format {} carries one notice, not {count}", format.name());
    }
    let Draft { id, origin, now, .. } = *draft;
    match format {
        WebhookFormat::Generic => payload::compose(id, first, origin, now),
        WebhookFormat::CloudEvents => payload::cloudevent(id, first, origin, now),
        WebhookFormat::Alertmanager => {
            alertmanager::compose(draft, &sorted, config.max_alerts, phase)
        }
        WebhookFormat::File(file) => format::compose(file, config, draft, &sorted, phase),
    }
}

/// A webhook channel, ready to send.
pub struct Hook {
    config: WebhookConfig,
    client: Client,
    rule: AnswerRule,
}

/// Where a request goes.
struct Destination {
    url: Url,
    /// What of it must not appear in a message.
    secrets: Vec<String>,
}

impl Hook {
    /// Prepares the channel: one HTTP client with its TLS settings.
    ///
    /// # Errors
    /// A certificate or the proxy URL cannot be used.
    pub fn new(config: &WebhookConfig) -> anyhow::Result<Self> {
        let tls = match crate::tls::client_config(&config.tls) {
            // An image without any authorities can still serve a receiver on plain HTTP.
            Err(_) if speaks_plain_http(config) => crate::tls::client_config_for_plain_http()?,
            built => built?,
        };
        let mut client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .dns_resolver(GuardedResolver)
            .connect_timeout(CONNECT_MAX)
            .timeout(config.timeout)
            .user_agent(concat!("ece-expiry-exporter/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = &config.proxy_url {
            let proxy = reqwest::Proxy::all(proxy)
                .map_err(reqwest::Error::without_url)
                .context("proxy_url is not a URL")?;
            client = client.proxy(proxy);
        }
        let client = client
            .build()
            .map_err(reqwest::Error::without_url)
            .context("cannot build the HTTP client")?;
        let rule = config.format.file().map(|it| it.answer.clone()).unwrap_or_default();
        Ok(Self { config: config.clone(), client, rule })
    }

    /// The deadline of one attempt.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Posts the message that is stored as `message` under the stable `id`.
    ///
    /// # Errors
    /// `Retry` for the network, 408, 425, 429, 5xx, and an answer that is not the service's; `GiveUp` for every other
    /// answer but 2xx, and for one that refuses in words.
    pub async fn send(&self, id: &str, message: &[u8]) -> Result<Accepted, SendError> {
        let message = stored::open(message);
        let Destination { url, mut secrets } = self.destination(message.path).await?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let body = match &self.config.secret {
            Some(source) => {
                let secret = read_secret(source).await?;
                // As it is, and as it stands in the body.
                secrets.extend([secret.expose().to_owned(), stored::escaped(secret.expose())]);
                stored::reveal(message.body, secret.expose())
            }
            None => message.body.into(),
        };
        let mut headers = self.headers(id, &body, time::now()).await?;
        if let Some((scheme, source)) = &self.config.authorization {
            let credentials = read_secret(source).await?;
            let mut value = HeaderValue::from_str(&format!("{scheme} {}", credentials.expose()))
                .map_err(|_| {
                    retry(&format!("{source} holds characters that no HTTP header can carry"))
                })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
            secrets.push(credentials.expose().to_owned());
        }
        let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();

        let request = self.client.post(url).headers(headers).body(body.into_owned());
        let response =
            request.send().await.map_err(|error| network_error(error, &host, &secrets))?;
        let status = response.status().as_u16();
        let after = response
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|it| it.to_str().ok())
            .and_then(|it| answer::retry_after(it, time::now()));
        let body = beginning(response).await;
        let after = after.max(answer::wait_in(&self.rule, &body));
        let said = cut(&shown(&body, &secrets), 140);
        let accepted = answer::judge(status, &host, after, &said)?;
        answer::confirm(&self.rule, &host, &body, &said)?;
        Ok(accepted)
    }

    /// Reads the URL, appends `path`, and checks that it may be called.
    async fn destination(&self, path: Option<&str>) -> Result<Destination, SendError> {
        let format = &self.config.format;
        let (from, secret) = match (&self.config.url, format.file()) {
            (Some(source), _) => (source.to_string(), read_secret(source).await?),
            (None, Some(file)) => {
                let url = format::default_url(file, &self.config.params);
                let url = url.map_err(|error| retry(&format!("{error:#}")))?;
                (format!("the format {}", format.name()), Secret::new(url))
            }
            (None, None) => return Err(retry("the channel has no URL; set url_file")),
        };
        let url = Url::parse(secret.expose())
            .map_err(|error| retry(&format!("the URL in {from} is not one: {error}")))?;
        self.allowed(&url, &from)?;
        // What the program knows itself is no secret.
        let secrets = self.config.url.as_ref().map(|_| url_secrets(&secret, &url));
        let url = path.map_or_else(|| url.clone(), |it| with_path(url.clone(), it));
        Ok(Destination { url, secrets: secrets.unwrap_or_default() })
    }

    /// Checks that the URL read in `from` may be called.
    fn allowed(&self, url: &Url, from: &str) -> Result<(), SendError> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let ip: Option<IpAddr> = host.parse().ok();
        match url.scheme() {
            "https" => {}
            "http" if self.config.allow_http => {}
            "http" if host == "localhost" || ip.is_some_and(|it| it.is_loopback()) => {}
            "http" => {
                return Err(retry(&format!(
                    "the URL in {from} is http, so nothing was sent to {host}; use https or set allow_http: true"
                )));
            }
            _ => return Err(retry(&format!("the URL in {from} is neither https nor http"))),
        }
        match ip {
            Some(ip) if denied(ip) => Err(retry(&denial(&host))),
            _ => Ok(()),
        }
    }

    async fn headers(
        &self,
        id: &str,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<HeaderMap, SendError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.http_headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) else {
                return Err(retry("a name or value in http_headers is not one of HTTP"));
            };
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let timestamp = now.timestamp();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&self.config)));
        let id_value = HeaderValue::from_str(id)
            .map_err(|_| SendError::GiveUp { why: "the message id is not ASCII".to_owned() })?;
        headers.insert("webhook-id", id_value.clone());
        headers.insert("idempotency-key", id_value);
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
        let mut signatures = Vec::with_capacity(self.config.signing_secrets.len());
        for source in &self.config.signing_secrets {
            let secret = read_secret(source).await?;
            let signature =
                answer::sign(secret.expose(), id, timestamp, body).ok_or_else(|| {
                    retry(&format!("the signing secret in {source} is not whsec_ and base64"))
                })?;
            signatures.push(signature);
        }
        if !signatures.is_empty() {
            let value = HeaderValue::from_str(&signatures.join(" "))
                .expect("signatures are base64 and spaces");
            headers.insert("webhook-signature", value);
        }
        Ok(headers)
    }
}

/// Whether the URL, as it is now, needs no TLS; a URL that cannot be read is told at each attempt.
fn speaks_plain_http(config: &WebhookConfig) -> bool {
    let read = config.url.as_ref().and_then(|it| it.read().ok());
    read.is_some_and(|it| it.expose().starts_with("http://"))
}

fn content_type(config: &WebhookConfig) -> &'static str {
    match config.format {
        WebhookFormat::CloudEvents => "application/cloudevents+json",
        WebhookFormat::Generic | WebhookFormat::Alertmanager | WebhookFormat::File(_) => {
            "application/json"
        }
    }
}

/// `url` with `path` behind its own path; a query in `path` takes the place of its query. The host stays.
fn with_path(mut url: Url, path: &str) -> Url {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, it)| (path, Some(it)));
    let whole = format!("{}{path}", url.path().trim_end_matches('/'));
    url.set_path(&whole);
    if query.is_some() {
        url.set_query(query);
    }
    url
}

fn retry(why: &str) -> SendError {
    SendError::Retry { why: cut(why, 256), after: None }
}

/// Everything of a URL that must not appear in a message.
fn url_secrets(secret: &Secret, url: &Url) -> Vec<String> {
    let mut secrets = vec![secret.expose().to_owned(), url.as_str().to_owned()];
    let path = url.path();
    if 1 < path.len() {
        secrets.push(path.to_owned());
    }
    let segments = path.split('/').filter(|it| SEGMENT_CHARS_MIN <= it.len());
    secrets.extend(segments.map(str::to_owned));
    if let Some(query) = url.query() {
        secrets.push(query.to_owned());
        secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    }
    secrets.extend(url.password().map(str::to_owned));
    secrets
}

/// The beginning of an answer's body: what has come within the limits of size and time.
async fn beginning(mut response: Response) -> String {
    let mut body = Vec::new();
    let reading = async {
        while body.len() < ANSWER_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = ANSWER_BYTES_MAX - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
                Ok(None) | Err(_) => break,
            }
        }
    };
    let _ = tokio::time::timeout(ANSWER_WAIT_MAX, reading).await;
    String::from_utf8_lossy(&body).into_owned()
}

/// The sentence for an attempt that got no answer.
fn network_error(error: reqwest::Error, host: &str, secrets: &[&str]) -> SendError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let tls = crate::tls::error_in(&error).map(crate::tls::explain);
    let cause = tls.unwrap_or_else(|| cause.to_string());
    let cause = cut(&shown(&cause, secrets), 180);
    let timed_out = error.is_timeout();
    retry(&match error.is_connect() {
        true if timed_out => format!("{host} could not be reached in time; check the network"),
        true => format!("no connection to {host}: {cause}"),
        false if timed_out => format!("{host} did not answer in time"),
        false => format!("{host} took the request but gave no whole answer: {cause}"),
    })
}

/// Whether nothing may be sent to this address: link-local, unspecified, or a metadata service.
fn denied(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified(),
    };
    local || METADATA.contains(&ip)
}

fn denial(host: &str) -> String {
    format!(
        "{host} is a link-local, unspecified or metadata address, so nothing was sent; correct the URL"
    )
}

/// The resolver of the system, without the denied addresses.
struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (bad, good): (Vec<_>, Vec<_>) = found.partition(|it| denied(it.ip()));
            if good.is_empty() && !bad.is_empty() {
                return Err(denial(name.as_str()).into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_and_link_local_addresses_are_denied_in_every_spelling() {
        for ip in [
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "fe80::1",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            assert!(denied(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd00::1", "203.0.113.7"] {
            assert!(!denied(ip.parse().unwrap()), "{ip}");
        }
    }
}
