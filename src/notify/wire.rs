//! One HTTP request to a receiver: the client, what may be called, and what of it must not be seen.
//!
//! A URL is a secret (many services put the token into the path), so messages name the host only. Redirects are not
//! followed, proxies of the environment are not used, and addresses that lead to a cloud's metadata service are denied,
//! whatever name leads there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};

use super::read_secret;
use super::text::{cut, shown};
use super::webhook::answer;
use crate::config::{AnswerRule, Secret, SecretSource, TlsConfig};
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

/// A client that follows no redirect and knows no proxy but `proxy_url`, with its TLS settings. It can be made without
/// any authorities where it is for `plain` HTTP.
pub(super) fn client(
    tls: &TlsConfig,
    proxy_url: Option<&str>,
    timeout: Duration,
    plain: bool,
) -> anyhow::Result<Client> {
    let tls = match crate::tls::client_config(tls) {
        // An image without any authorities can still serve a receiver on plain HTTP.
        Err(_) if plain => crate::tls::client_config_for_plain_http()?,
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
        .timeout(timeout)
        .user_agent(concat!("ece-expiry-exporter/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = proxy_url {
        let proxy = reqwest::Proxy::all(proxy)
            .map_err(reqwest::Error::without_url)
            .context("proxy_url is not a URL")?;
        client = client.proxy(proxy);
    }
    client.build().map_err(reqwest::Error::without_url).context("cannot build the HTTP client")
}

/// Sends a request and judges the answer. What is in `secrets` appears in no message.
pub(super) async fn exchange(
    request: reqwest::RequestBuilder,
    host: &str,
    secrets: &[String],
    rule: &AnswerRule,
) -> Result<Accepted, SendError> {
    let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();
    let response = request.send().await.map_err(|error| network_error(error, host, &secrets))?;
    let status = response.status().as_u16();
    let after = response
        .headers()
        .get(reqwest::header::RETRY_AFTER)
        .and_then(|it| it.to_str().ok())
        .and_then(|it| answer::retry_after(it, time::now()));
    let body = beginning(response).await;
    let after = after.max(answer::wait_in(rule, &body));
    let said = cut(&shown(&body, &secrets), 140);
    let accepted = answer::judge(status, host, after, &said)?;
    answer::confirm(rule, host, &body, &said)?;
    Ok(accepted)
}

/// Reads a URL and checks that it may be called.
pub(super) async fn open_url(
    source: &SecretSource,
    allow_http: bool,
) -> Result<(Secret, Url), SendError> {
    let secret = read_secret(source).await?;
    let url = Url::parse(secret.expose())
        .map_err(|error| retry(&format!("the URL in {source} is not one: {error}")))?;
    allow(&url, &source.to_string(), allow_http)?;
    Ok((secret, url))
}

/// Checks that the URL read in `from` may be called.
pub(super) fn allow(url: &Url, from: &str, allow_http: bool) -> Result<(), SendError> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let ip: Option<IpAddr> = host.parse().ok();
    match url.scheme() {
        "https" => {}
        "http" if allow_http => {}
        "http" if host == "localhost" || ip.is_some_and(|it| it.is_loopback()) => {}
        "http" => {
            return Err(retry(&format!(
                "the URL in {from} is http, so nothing was sent to {host}; use https or set allow_http: true"
            )));
        }
        _ => return Err(retry(&format!("the URL in {from} is neither https nor http"))),
    }
    refuse_denied(url)
}

/// The resolver never sees an address that is written as such.
pub(super) fn refuse_denied(url: &Url) -> Result<(), SendError> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse() {
        Ok(ip) if denied(ip) => Err(retry(&denial(host))),
        _ => Ok(()),
    }
}

/// The extra headers of a configuration.
pub(super) fn extra_headers(written: &[(String, String)]) -> Result<HeaderMap, SendError> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let name = HeaderName::from_bytes(name.as_bytes());
        let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) else {
            return Err(retry("a name or value in http_headers is not one of HTTP"));
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Adds the `Authorization` header, if there is one, and notes its secret.
pub(super) async fn authorize(
    authorization: Option<&(String, SecretSource)>,
    headers: &mut HeaderMap,
    secrets: &mut Vec<String>,
) -> Result<(), SendError> {
    let Some((scheme, source)) = authorization else { return Ok(()) };
    let credentials = read_secret(source).await?;
    let mut value = HeaderValue::from_str(&format!("{scheme} {}", credentials.expose()))
        .map_err(|_| retry(&format!("{source} holds characters that no HTTP header can carry")))?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    secrets.push(credentials.expose().to_owned());
    Ok(())
}

/// Whether the URL, as it is now, needs no TLS; a URL that cannot be read is told at each attempt.
pub(super) fn speaks_plain_http(url: &SecretSource) -> bool {
    url.read().is_ok_and(|it| it.expose().starts_with("http://"))
}

pub(super) fn retry(why: &str) -> SendError {
    SendError::Retry { why: cut(why, 256), after: None }
}

/// Everything of a URL that must not appear in a message.
pub(super) fn url_secrets(secret: &Secret, url: &Url) -> Vec<String> {
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
