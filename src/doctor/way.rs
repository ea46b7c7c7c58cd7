//! The way to a coordinator: its name, its port, its TLS. Nothing secret is sent on it here.

use std::io;
use std::net::SocketAddr;

use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::chain::{self, Certificate};
use super::{Coordinator, Outcome, Step, Topic};
use crate::config::{Platform, TlsConfig, TlsVerify};
use crate::probe::{self, Endpoint};
use crate::tls::{self, CertificateRejected, Presented, Rejection, Verdict};

/// The most addresses of a name that are tried; a balancer has a few.
const ADDRESSES_MAX: usize = 8;
/// The port of ECE's API without TLS.
const PLAIN_PORT: u16 = 12400;

/// The length of `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

/// What is said of a URL without TLS.
const PLAIN: &str = "the URL says http, which `allow_http` permits: whoever listens on the network can read the key";

/// Whether a key may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Every step was good.
    Open,
    /// One was not.
    Closed,
}

/// Looks at the way to `coordinator`.
pub(super) async fn look(
    platform: &Platform,
    coordinator: &mut Coordinator,
    now: fn() -> DateTime<Utc>,
    tell: &mut impl FnMut(&Step),
) -> Way {
    let mut add = |coordinator: &mut Coordinator, step: Step| {
        tell(&step);
        let outcome = step.outcome;
        coordinator.steps.push(step);
        outcome
    };
    let ends = probe::endpoint(&coordinator.url).and_then(|end| {
        let proxy = platform.proxy_url.as_deref().map(probe::proxy_of).transpose()?;
        Ok((end, proxy))
    });
    let (end, proxy) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            let step = Step::failed(Topic::Name, format!("{error:#}"), "correct it");
            add(coordinator, step);
            return Way::Closed;
        }
    };
    let first = proxy.as_ref().unwrap_or(&end);
    let (addresses, mut step) = resolve(first).await;
    if proxy.is_some() {
        step.details
            .push("this is the proxy of proxy_url; it resolves the coordinator's name".to_owned());
    }
    if add(coordinator, step) == Outcome::Failed {
        add(coordinator, Step::not_checked(Topic::Port, "there is no address to connect to"));
        add(coordinator, Step::not_checked(Topic::Tls, "there is no connection"));
        return Way::Closed;
    }
    let (stream, mut step) = connect(first, &addresses).await;
    if proxy.is_some() {
        step.details.push("this is the port of the proxy".to_owned());
    }
    add(coordinator, step);
    let Some(stream) = stream else {
        add(coordinator, Step::not_checked(Topic::Tls, "there is no connection"));
        return Way::Closed;
    };
    let address = stream.peer_addr().ok().or(addresses.first().copied());
    let step = match (&proxy, end.is_tls) {
        (Some(_), false) => Step::not_checked(Topic::Tls, PLAIN),
        (Some(_), true) => Step::not_checked(
            Topic::Tls,
            "the way leads through a proxy; whether the certificate is accepted shows in the next step",
        ),
        (None, false) => plain(&platform.tls, &end, stream).await,
        (None, true) => look_at_tls(&platform.tls, coordinator, &end, stream, address, now()).await,
    };
    match add(coordinator, step) {
        Outcome::Failed => Way::Closed,
        Outcome::Ok | Outcome::NotChecked => Way::Open,
    }
}

async fn resolve(end: &Endpoint) -> (Vec<SocketAddr>, Step) {
    let (host, limit) = (end.host.as_str(), Endpoint::CONNECT_MAX);
    if let Ok(address) = host.parse() {
        let found = format!("{host} is an address, there is nothing to resolve");
        return (vec![SocketAddr::new(address, end.port)], Step::ok(Topic::Name, found));
    }
    let next = "check `urls` in the configuration, and the DNS of this machine";
    let command = Some(format!("getent hosts {host}"));
    let failed = |why: String| {
        let found = format!("{host} does not resolve: {why}");
        (Vec::new(), Step { command, ..Step::failed(Topic::Name, found, next) })
    };
    match timeout(limit, tokio::net::lookup_host((host, end.port))).await {
        Err(_) => failed(format!("no answer within {limit:?}")),
        Ok(Err(error)) => failed(error.to_string()),
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = found.collect();
            addresses.dedup();
            addresses.truncate(ADDRESSES_MAX);
            if addresses.is_empty() {
                return failed("it has no address".to_owned());
            }
            let texts: Vec<String> = addresses.iter().map(|it| it.ip().to_string()).collect();
            let found = format!("{host} is {}", texts.join(", "));
            (addresses, Step::ok(Topic::Name, found))
        }
    }
}

/// Connects to every address; the first connection is kept.
async fn connect(end: &Endpoint, addresses: &[SocketAddr]) -> (Option<TcpStream>, Step) {
    let mut kept = None;
    let mut details = Vec::new();
    let mut refused = false;
    for address in addresses {
        let said = match timeout(Endpoint::CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                kept.get_or_insert(stream);
                "connects".to_owned()
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                refused = true;
                "refused: nothing listens there, or a firewall rejects it".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!(
                "no answer within {:?}: the machine is down, or a firewall drops packets",
                Endpoint::CONNECT_MAX
            ),
        };
        details.push(format!("{address} {said}"));
    }
    if let ([_], true) = (addresses, kept.is_some()) {
        details.clear();
    }
    let at = end.authority();
    let step = if kept.is_some() {
        Step { details, ..Step::ok(Topic::Port, format!("{at} connects")) }
    } else {
        let next = if refused {
            "check that ECE runs there and that the port is right: 12443 is the TLS port of ECE's API"
        } else {
            "check that the machine is up and that firewalls let this machine through"
        };
        let found = if refused {
            format!("{at} refused the connection")
        } else {
            format!("there is no connection to {at}")
        };
        Step { details, ..Step::failed(Topic::Port, found, next) }
    };
    (kept, step)
}

/// A URL with `http`: the key crosses the network unencrypted, or should TLS be spoken here?
async fn plain(tls: &TlsConfig, end: &Endpoint, stream: TcpStream) -> Step {
    let address = stream.peer_addr().ok();
    let is_plain = match http_status(address).await {
        // What servers say that expect TLS.
        Some(400) | None => false,
        Some(_) => true,
    };
    // Only whether it speaks TLS is asked, so no authority is needed.
    let anything = TlsConfig { verify: TlsVerify::None, ca_file: None, ..tls.clone() };
    let hello = tls::inspect(&anything, &end.host, stream);
    if !is_plain
        && let Ok(Ok(presented)) = timeout(Endpoint::CONNECT_MAX, hello).await
        && !presented.chain.is_empty()
    {
        let found = format!("the URL says http, but {} speaks TLS", end.authority());
        let next = format!(
            "write https:// in `urls`; the key was not sent. ECE's TLS port is 12443, {PLAIN_PORT} is the one without TLS"
        );
        return Step::failed(Topic::Tls, found, next);
    }
    Step::not_checked(Topic::Tls, PLAIN)
}

async fn look_at_tls(
    tls: &TlsConfig,
    coordinator: &mut Coordinator,
    end: &Endpoint,
    stream: TcpStream,
    address: Option<SocketAddr>,
    now: DateTime<Utc>,
) -> Step {
    let shaken = timeout(Endpoint::CONNECT_MAX, tls::inspect(tls, &end.host, stream)).await;
    let presented = match shaken {
        Ok(Ok(presented)) => presented,
        Ok(Err(error)) => {
            let next = "correct `tls_config` of the platform";
            return Step::failed(Topic::Tls, format!("{error:#}"), next);
        }
        Err(_) if http_status(address).await.is_some() => return plain_http(end),
        Err(_) => {
            let found = format!("no handshake within {:?}", Endpoint::CONNECT_MAX);
            let next =
                "check that this port is ECE's TLS port (12443), and the load of the coordinator";
            return Step::failed(Topic::Tls, found, next);
        }
    };
    let Presented { version, chain, verdict } = presented;
    coordinator.tls_version = version;
    coordinator.chain = chain.iter().cloned().map(Certificate::read).collect();
    let mut step = match verdict {
        Verdict::Accepted => accepted(tls, end, version),
        Verdict::Refused(why) => refused(tls, end, &coordinator.chain, &why, now),
        Verdict::NotTls | Verdict::Broken(_) if http_status(address).await.is_some() => {
            plain_http(end)
        }
        Verdict::NotTls => not_tls(end, "does not speak TLS"),
        Verdict::Broken(why) => Step::failed(
            Topic::Tls,
            why,
            "check that this port is ECE's TLS port (12443) and what stands before it",
        ),
    };
    if !coordinator.chain.is_empty() {
        step.details.push("the chain as presented:".to_owned());
        step.details
            .extend(chain::tree(&coordinator.chain, now).iter().map(|it| format!("  {it}")));
    }
    step
}

fn accepted(tls: &TlsConfig, end: &Endpoint, version: Option<&str>) -> Step {
    let version = version.unwrap_or("TLS");
    let name = tls.server_name.as_deref().unwrap_or(&end.host);
    let found = match &tls.verify {
        TlsVerify::Full => {
            let by = if tls.ca_file.is_some() {
                "tls_config.ca_file"
            } else {
                "the system's authorities"
            };
            format!("{version}; the certificate is valid for {name} and trusted by {by}")
        }
        TlsVerify::Fingerprint(_) => {
            format!("{version}; the certificate is the pinned one (fingerprint_sha256)")
        }
        TlsVerify::None => format!(
            "{version}; warning: the certificate is not checked at all (insecure_skip_verify), so anybody may answer"
        ),
    };
    Step::ok(Topic::Tls, found)
}

fn plain_http(end: &Endpoint) -> Step {
    not_tls(end, "speaks plain HTTP, not TLS")
}

fn not_tls(end: &Endpoint, does: &str) -> Step {
    let found = format!("{} {does}", end.authority());
    let port = if end.port == PLAIN_PORT { "12400 is ECE's port without TLS, " } else { "" };
    let next = format!("correct the port in `urls`: {port}12443 is the TLS port of ECE's API");
    Step::failed(Topic::Tls, found, next)
}

/// The status with which a request without any secret is answered in plain HTTP.
async fn http_status(address: Option<SocketAddr>) -> Option<u16> {
    let address = address?;
    let asked = timeout(Endpoint::CONNECT_MAX, async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut head = [0; STATUS_LINE];
        stream.read_exact(&mut head).await?;
        io::Result::Ok(head)
    });
    let head = asked.await.ok()?.ok()?;
    let (version, status) = std::str::from_utf8(&head).ok()?.split_once(' ')?;
    version.strip_prefix("HTTP/").and_then(|_| status.parse().ok())
}

/// Why the certificate is refused, and what exactly to configure.
fn refused(
    tls: &TlsConfig,
    end: &Endpoint,
    chain: &[Certificate],
    rejected: &CertificateRejected,
    now: DateTime<Utc>,
) -> Step {
    let name = tls.server_name.as_deref().unwrap_or(&end.host);
    let leaf = chain.first();
    match &rejected.why {
        Rejection::UnknownIssuer | Rejection::OtherAuthority | Rejection::Other(_) => {
            untrusted(tls, end, chain, rejected, name, now)
        }
        Rejection::WrongName { .. } => {
            let found = format!("the certificate is trusted, but not for the name {name}");
            let next = match leaf.and_then(Certificate::usable_name) {
                Some(usable) => format!(
                    "set `tls_config: {{server_name: {usable}}}`, a name that the certificate holds, or use such a name \
                     in the URL"
                ),
                None => "the certificate holds no name; pin it with `tls_config.fingerprint_sha256` (below)".to_owned(),
            };
            Step::failed(Topic::Tls, found, next)
        }
        Rejection::Expired(_) | Rejection::NotYetValid(_) => dated(chain, &rejected.why, now),
        Rejection::WrongFingerprint => {
            let found = "the certificate is not the one that `fingerprint_sha256` pins";
            let seen = leaf.map_or("", |it| it.sha256.as_str());
            let next = format!(
                "if the certificate was renewed on purpose, set `fingerprint_sha256: {seen}`; if not, ask who answers \
                 in ECE's place"
            );
            Step::failed(Topic::Tls, found, next)
        }
    }
}

fn dated(chain: &[Certificate], why: &Rejection, now: DateTime<Utc>) -> Step {
    let wrong = chain.iter().enumerate().find_map(|(index, it)| {
        let facts = it.facts.as_ref()?;
        let off = facts.not_after <= now || now < facts.not_before;
        off.then(|| (index + 1, facts))
    });
    match (wrong, why) {
        (Some((number, facts)), Rejection::NotYetValid(_)) => Step::failed(
            Topic::Tls,
            format!(
                "certificate {number} ({}) is not valid before {}",
                facts.subject,
                facts.not_before.format("%F %R UTC")
            ),
            format!("check the clock of this machine; it says {}", now.format("%F %R UTC")),
        ),
        (Some((number, facts)), _) => Step::failed(
            Topic::Tls,
            format!(
                "certificate {number} ({}) expired on {}",
                facts.subject,
                facts.not_after.format("%F %R UTC")
            ),
            "renew it in the Cloud UI under Platform > Settings; until then it can be pinned with \
             `tls_config.fingerprint_sha256`",
        ),
        (None, _) => Step::failed(
            Topic::Tls,
            "a certificate of the chain is out of its dates",
            "check the clock of this machine, and the dates in `ca_file`",
        ),
    }
}

/// Nobody who signed the certificate is trusted: who would have to be?
fn untrusted(
    tls: &TlsConfig,
    end: &Endpoint,
    chain: &[Certificate],
    rejected: &CertificateRejected,
    name: &str,
    now: DateTime<Utc>,
) -> Step {
    let trusted = match &tls.ca_file {
        Some(file) => format!("tls_config.ca_file {}", file.display()),
        None => "the authorities of this system (tls_config.ca_file is not set)".to_owned(),
    };
    let found = match &rejected.why {
        Rejection::OtherAuthority => format!(
            "the certificate is signed by an authority that has the name of one in {trusted}, but another key: that \
             file is of another ECE, or of one before it was installed anew"
        ),
        Rejection::Other(why) => format!("{why}; trusted is {trusted}"),
        _ => format!("the certificate is not signed by anybody in {trusted}"),
    };
    let ders: Vec<Vec<u8>> = chain.iter().map(|it| it.der.clone()).collect();
    let Some(anchor) = tls::anchor_in(&ders, name, now) else {
        let next = "the server does not present who signed its certificate; download the chain in the Cloud UI under \
                    Platform > Settings and name its last certificate in `tls_config.ca_file`, or pin the server's own \
                    with `tls_config.fingerprint_sha256` (below)";
        return Step::failed(Topic::Tls, found, next);
    };
    let number = anchor.index + 1;
    let authority = &chain[anchor.index];
    let also = match (&anchor.still, chain.first().and_then(Certificate::usable_name)) {
        (Some(Rejection::WrongName { .. }), Some(usable)) => {
            format!(", and set `server_name: {usable}`, because the certificate is not for {name}")
        }
        (Some(Rejection::Expired(_)), _) => ", and renew what has expired".to_owned(),
        _ => String::new(),
    };
    let next = format!(
        "put certificate {number} of the chain ({}) into a file and name it in `tls_config.ca_file`{also}. Before you \
         trust it, compare its SHA-256 with the chain in the Cloud UI under Platform > Settings",
        authority.subject()
    );
    let command = format!(
        "openssl s_client -connect {} -showcerts </dev/null 2>/dev/null | awk '/BEGIN CERT/{{n++}} n=={number}; \
         /END CERT/&&n=={number}{{exit}}' > ece-ca.pem",
        end.authority()
    );
    Step { command: Some(command), ..Step::failed(Topic::Tls, found, next) }
}
