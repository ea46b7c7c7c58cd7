//! TLS settings of clients: what is trusted, who we say we are, and what a refused handshake means.
//!
//! One function turns the checked configuration into what an HTTP client needs; files are read here, once, so a
//! changed authority or client certificate needs a reload. The sockets themselves belong to the callers, and so does
//! the TLS of servers.
//!
//! The name that a client sends in the handshake (SNI) is always the host of the URL; `server_name` only changes the
//! name that the certificate is checked against.

mod inspect;
mod presented;
mod verifier;

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, InvalidMessage, RootCertStore,
};

pub use self::inspect::{Anchor, Presented, Verdict, anchor_in, fingerprint, inspect};
pub use self::presented::PresentedChain;
use self::presented::{Look, Onlooker};
pub use self::verifier::{CertificateRejected, Rejection};
use self::verifier::{Requirement, Verifier};
use crate::config::{TlsConfig, TlsVerify};

/// The most that is read from a PEM file: four times the bundle of all public authorities.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// The settings of a client that connects as `tls` says.
///
/// # Errors
/// A file cannot be read or holds something else than PEM of the right kind, the client key does not fit its
/// certificate, `server_name` is no name, or this machine has no trusted authorities and `ca_file` is not set.
pub fn client_config(tls: &TlsConfig) -> anyhow::Result<ClientConfig> {
    with_identity(tls, builder(tls, |verifier| verifier)?)
}

/// The settings of a client that ends each handshake with an error that holds the certificates which the server
/// presents (`PresentedChain`), good or bad. `proxy` is the host of a proxy with TLS, which is checked as `tls` says.
///
/// # Errors
/// As for `client_config`, or `proxy` is no name.
pub fn client_config_that_looks(
    tls: &TlsConfig,
    proxy: Option<&str>,
) -> anyhow::Result<ClientConfig> {
    let proxy = proxy
        .map(|it| ServerName::try_from(it.to_owned()).context("the host of proxy_url is no name"))
        .transpose()?;
    let look = Look::End { proxy };
    with_identity(tls, builder(tls, |configured| Arc::new(Onlooker { configured, look }))?)
}

/// The settings up to who we say we are; `wrap` may put something before what decides about a certificate.
fn builder(
    tls: &TlsConfig,
    wrap: impl FnOnce(Arc<dyn ServerCertVerifier>) -> Arc<dyn ServerCertVerifier>,
) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let provider = provider();
    let verifier = verifier(tls, &provider)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(wrap(Arc::new(verifier))))
}

/// With the client certificate of `tls`, if it has one.
fn with_identity(
    tls: &TlsConfig,
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
) -> anyhow::Result<ClientConfig> {
    let Some((cert_file, key_file)) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("tls_config.cert_file", cert_file)?;
    let key = private_key(key_file)?;
    builder.with_client_auth_cert(chain, key).with_context(|| {
        format!(
            "tls_config.key_file {} cannot be used with tls_config.cert_file {}; the key must belong to the first \
             certificate of that file",
            key_file.display(),
            cert_file.display()
        )
    })
}

/// The settings of a client that never speaks TLS: it trusts nobody, and reads neither files nor the system's roots,
/// so an image without any serves plain HTTP all the same.
///
/// # Errors
/// The TLS library was built without TLS 1.2 and 1.3.
pub fn client_config_for_plain_http() -> anyhow::Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// The TLS error among the causes of `error`, if TLS is why it happened.
pub fn error_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|it| it.downcast_ref())
}

/// `error` and its causes, outermost first. Looks into `io::Error` too, whose `source` skips the error that it wraps,
/// which is where the HTTP client keeps those of TLS.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

/// What a TLS error means and what to do, without a full stop, e.g. `the certificate is signed by …; set …`.
pub fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string(),
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            "the server does not own the key of the certificate that it presents; check its TLS settings and \
             whether something else has taken its address"
                .to_owned()
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS on this port; check the port and the scheme of the URL".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate; set tls_config.cert_file and tls_config.key_file".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!(
            "the server refused the handshake ({alert:?}); if it asks for a client certificate, check \
             tls_config.cert_file and tls_config.key_file"
        ),
        rustls::Error::PeerIncompatible(why) => format!(
            "the server offers no TLS that is still safe ({why:?}); it needs TLS 1.2 with ECDHE, or TLS 1.3"
        ),
        other => format!("the TLS connection failed: {other}"),
    }
}

/// What decides about the certificate of a server, as `tls` says.
fn verifier(tls: &TlsConfig, provider: &Arc<CryptoProvider>) -> anyhow::Result<Verifier> {
    let requirement = match tls.verify {
        TlsVerify::Full => Requirement::Chain {
            authority: authority(tls.ca_file.as_deref(), provider)?,
            name: tls.server_name.as_deref().map(server_name).transpose()?,
        },
        TlsVerify::Fingerprint(sha256) => Requirement::Fingerprint(sha256),
        TlsVerify::None => Requirement::Nothing,
    };
    Ok(Verifier::new(requirement, provider.signature_verification_algorithms))
}

/// The one place that names the cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Checks chains against `ca_file`, or against the roots of the system.
fn authority(
    ca_file: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<Arc<dyn ServerCertVerifier>> {
    let Some(path) = ca_file else {
        let system = rustls_platform_verifier::Verifier::new(Arc::clone(provider)).context(
            "this machine has no usable list of trusted authorities; install the package ca-certificates, or set \
             tls_config.ca_file to the authority of the server",
        )?;
        return Ok(Arc::new(system));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_config.ca_file", path)? {
        roots.add(certificate).with_context(|| {
            format!("tls_config.ca_file {} holds a certificate that cannot be read", path.display())
        })?;
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .with_context(|| format!("tls_config.ca_file {} cannot be used", path.display()))?;
    Ok(verifier)
}

fn server_name(name: &str) -> anyhow::Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).with_context(|| {
        format!("tls_config.server_name {name:?} is neither a host name nor an IP address")
    })
}

/// The certificates of the PEM file `path`, at least one. `option` is what the configuration calls the file.
fn certificates(option: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = read_pem(option, path)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{option} {} is not PEM", path.display()))?;
    ensure!(
        !chain.is_empty(),
        "{option} {} holds no certificate; it must have a PEM block that begins with -----BEGIN CERTIFICATE-----",
        path.display()
    );
    Ok(chain)
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let pem = read_pem("tls_config.key_file", path)?;
    PrivateKeyDer::from_pem_slice(&pem).with_context(|| {
        format!(
            "tls_config.key_file {} holds no private key; it must have a PEM block that begins with \
             -----BEGIN PRIVATE KEY-----, without a pass phrase",
            path.display()
        )
    })
}

fn read_pem(option: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || format!("cannot read {option} {}", path.display());
    let file = File::open(path).with_context(context)?;
    let mut pem = Vec::new();
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem).with_context(context)?;
    if PEM_BYTES_MAX < pem.len() as u64 {
        bail!("{option} {} is larger than 1 MiB, so it is no PEM file", path.display());
    }
    Ok(pem)
}
