//! Looks at the TLS of a server without telling it anything: the chain that it presents, and what the settings of a
//! client say to it.
//!
//! The handshake goes on past a certificate that is refused, so that all of it can be shown; nothing is sent over such
//! a connection, not even a client certificate, and it is closed at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{InvalidMessage, ProtocolVersion, RootCertStore};
use tokio::net::TcpStream;

use super::presented::{Look, Onlooker, Seen};
use super::verifier::{CertificateRejected, Rejection, rejection, sha256};
use super::{builder, error_in, explain, provider, server_name};
use crate::config::TlsConfig;

/// The most certificates of a chain that are looked at; ECE presents three.
const CHAIN_MAX: usize = 10;

/// What a server presented.
#[derive(Debug)]
pub struct Presented {
    /// `TLS 1.2` or `TLS 1.3`; `None` if the handshake did not end.
    pub version: Option<&'static str>,
    /// The certificates as DER in the order in which they came, the server's own first; at most ten.
    pub chain: Vec<Vec<u8>>,
    /// What the settings say to it.
    pub verdict: Verdict,
}

/// What the settings of a client say to a server.
#[derive(Debug)]
pub enum Verdict {
    /// The certificate is as required.
    Accepted,
    /// The certificate is refused.
    Refused(CertificateRejected),
    /// The server answered something that is not TLS.
    NotTls,
    /// There was no handshake, for this reason: a clause without a full stop.
    Broken(String),
}

/// The certificate of a chain that would have to be trusted.
#[derive(Debug)]
pub struct Anchor {
    /// Its place in the chain; 0 is the server's own.
    pub index: usize,
    /// What is wrong even when it is trusted, if anything.
    pub still: Option<Rejection>,
}

/// Shakes hands over `stream` with the server called `host`, and hangs up.
///
/// # Errors
/// The settings cannot be used (see `client_config`), or `host` is no name.
pub async fn inspect(tls: &TlsConfig, host: &str, stream: TcpStream) -> anyhow::Result<Presented> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let look = Look::GoOn(seen.clone());
    let builder = builder(tls, |configured| Arc::new(Onlooker { configured, look }))?;
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    let name = server_name(host)?;
    let connected = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let (version, broken) = match &connected {
        Ok(stream) => (stream.get_ref().1.protocol_version().map(version), None),
        Err(error) => (None, Some(why(error))),
    };
    drop(connected);
    let Seen { chain, refused } =
        std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let chain: Vec<_> = chain.iter().take(CHAIN_MAX).map(|it| it.to_vec()).collect();
    let verdict = match (refused, broken) {
        (Some(rejected), _) => Verdict::Refused(rejected),
        // The server hangs up on who has no client certificate; the real connection has one.
        (None, Some(_)) if !chain.is_empty() && tls.identity.is_some() => Verdict::Accepted,
        (None, Some(broken)) => broken,
        (None, None) => Verdict::Accepted,
    };
    Ok(Presented { version, chain, verdict })
}

/// The certificate of `chain` that leads to acceptance for `name` at `now` when it is trusted, the highest that does.
/// `None` if no presented certificate signed the server's own.
pub fn anchor_in(chain: &[Vec<u8>], name: &str, now: DateTime<Utc>) -> Option<Anchor> {
    let name = server_name(name).ok()?;
    let seconds = u64::try_from(now.timestamp()).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let chain: Vec<CertificateDer<'_>> =
        chain.iter().map(|it| CertificateDer::from(it.as_slice())).collect();
    let (leaf, rest) = chain.split_first()?;
    (1..chain.len()).rev().find_map(|index| {
        let mut roots = RootCertStore::empty();
        roots.add(chain[index].clone().into_owned()).ok()?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .ok()?;
        let still = match verifier.verify_server_cert(leaf, rest, &name, &[], now) {
            Ok(_) => None,
            Err(error) => Some(rejection(error)),
        };
        let leads = !matches!(
            still,
            Some(Rejection::UnknownIssuer | Rejection::OtherAuthority | Rejection::Other(_))
        );
        leads.then_some(Anchor { index, still })
    })
}

/// The SHA-256 of a certificate (DER) in lower-case hexadecimal, the form of `fingerprint_sha256`.
pub fn fingerprint(der: &[u8]) -> String {
    use std::fmt::Write as _;
    sha256(&CertificateDer::from(der)).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn why(error: &std::io::Error) -> Verdict {
    match error_in(error) {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Verdict::NotTls,
        Some(error) => Verdict::Broken(explain(error)),
        None => Verdict::Broken(format!(
            "the server closed the connection during the handshake ({error})"
        )),
    }
}

fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLS 1.2",
        ProtocolVersion::TLSv1_3 => "TLS 1.3",
        _ => "TLS of another version",
    }
}
