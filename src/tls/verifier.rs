//! Decides about a server's certificate, and keeps what is needed to explain a refusal.
//!
//! The certificate's dates are not monitored here; only whether this handshake may go on is decided.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

/// How many names of a certificate a refusal lists; a public one may hold hundreds.
const NAMES_SHOWN_MAX: usize = 5;

/// Why a server's certificate was refused. Displays as a sentence without a full stop that ends with what to do.
#[derive(Debug, Clone)]
pub struct CertificateRejected {
    /// What is wrong.
    pub why: Rejection,
    /// SHA-256 of the server's certificate (DER), what `openssl x509 -fingerprint -sha256` prints.
    pub sha256: [u8; 32],
}

/// What is wrong with a server's certificate.
#[derive(Debug, Clone)]
pub enum Rejection {
    /// No chain leads to a trusted authority.
    UnknownIssuer,
    /// A trusted authority has the name of its issuer but another key. Every ECE names its authorities alike, so this
    /// is what the authority of another ECE, or of one installed anew, looks like.
    OtherAuthority,
    /// It does not hold the expected name.
    WrongName {
        /// The name that was looked for: `server_name`, or the host of the URL.
        expected: String,
        /// The names that it holds.
        presented: Vec<String>,
    },
    /// It, or a certificate of its chain, is no longer valid; since when, if the library says so.
    Expired(Option<DateTime<Utc>>),
    /// It, or a certificate of its chain, is not valid yet; from when, if the library says so.
    NotYetValid(Option<DateTime<Utc>>),
    /// It is another one than the pinned one.
    WrongFingerprint,
    /// Anything else, in the words of the TLS library.
    Other(String),
}

impl fmt::Display for CertificateRejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Rejection::UnknownIssuer => f.write_str(
                "the certificate's issuer is unknown; set tls_config.ca_file to the authority that signed it",
            )?,
            Rejection::OtherAuthority => f.write_str(
                "the certificate is signed by another authority of the same name as the trusted one; set \
                 tls_config.ca_file to the authority of this very ECE (each has its own)",
            )?,
            Rejection::WrongName { expected, presented } => {
                let shown =
                    presented.iter().take(NAMES_SHOWN_MAX).map(|it| plain(it)).collect::<Vec<_>>();
                let names = match shown.as_slice() {
                    [] => "no name".to_owned(),
                    names => names.join(", "),
                };
                write!(
                    f,
                    "the certificate is not valid for {expected}, only for {names}; use such a name in the URL or \
                     set tls_config.server_name to it"
                )?;
            }
            Rejection::Expired(on) => {
                f.write_str("the certificate, or one of its chain, expired")?;
                if let Some(on) = on {
                    write!(f, " on {}", on.format("%F %T UTC"))?;
                }
                f.write_str("; renew it on the server, or correct this machine's clock")?;
            }
            Rejection::NotYetValid(from) => {
                f.write_str("the certificate, or one of its chain, is not valid yet")?;
                if let Some(from) = from {
                    write!(f, ", only from {}", from.format("%F %T UTC"))?;
                }
                f.write_str("; correct this machine's clock")?;
            }
            Rejection::WrongFingerprint => f.write_str(
                "the certificate is not the pinned one; if it was renewed on purpose, set \
                 tls_config.fingerprint_sha256 to the new one",
            )?,
            Rejection::Other(why) => write!(
                f,
                "{why}; set tls_config.ca_file to the server's authority, or pin the certificate with \
                 tls_config.fingerprint_sha256"
            )?,
        }
        f.write_str(" (the server presented the certificate with SHA-256 ")?;
        for byte in self.sha256 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for CertificateRejected {}

/// What is required of a server's certificate.
#[derive(Debug)]
pub(super) enum Requirement {
    /// A chain to an authority, and the right name.
    Chain { authority: Arc<dyn ServerCertVerifier>, name: Option<ServerName<'static>> },
    /// This SHA-256.
    Fingerprint([u8; 32]),
    /// Nothing.
    Nothing,
}

/// Holds a server to a `Requirement`; that it owns the key of its certificate is checked in every case.
#[derive(Debug)]
pub(super) struct Verifier {
    requirement: Requirement,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(requirement: Requirement, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { requirement, algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.requirement {
            Requirement::Chain { authority, name } => authority
                .verify_server_cert(
                    end_entity,
                    intermediates,
                    name.as_ref().unwrap_or(server_name),
                    ocsp_response,
                    now,
                )
                .map_err(|error| rejected(rejection(error), end_entity)),
            Requirement::Fingerprint(pinned) if *pinned != sha256(end_entity) => {
                Err(rejected(Rejection::WrongFingerprint, end_entity))
            }
            Requirement::Fingerprint(_) | Requirement::Nothing => {
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn rejected(why: Rejection, end_entity: &CertificateDer<'_>) -> rustls::Error {
    let rejected = CertificateRejected { why, sha256: sha256(end_entity) };
    CertificateError::Other(OtherError(Arc::new(rejected))).into()
}

pub(super) fn rejection(error: rustls::Error) -> Rejection {
    let rustls::Error::InvalidCertificate(error) = error else {
        return Rejection::Other(error.to_string());
    };
    match error {
        CertificateError::UnknownIssuer => Rejection::UnknownIssuer,
        CertificateError::BadSignature => Rejection::OtherAuthority,
        CertificateError::NotValidForNameContext { expected, presented } => {
            Rejection::WrongName { expected: expected.to_str().into_owned(), presented }
        }
        CertificateError::Expired => Rejection::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => {
            Rejection::Expired(instant(not_after))
        }
        CertificateError::NotValidYet => Rejection::NotYetValid(None),
        CertificateError::NotValidYetContext { not_before, .. } => {
            Rejection::NotYetValid(instant(not_before))
        }
        other => Rejection::Other(format!("the certificate is refused: {other}")),
    }
}

/// The name in the library's `DnsName("ece-0-runner")` or `IpAddress(127.0.0.1)`.
fn plain(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

fn instant(at: UnixTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(at.as_secs()).ok()?, 0)
}

pub(super) fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
