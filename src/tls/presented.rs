//! Sees the certificates that a server presents, whether or not they would pass.
//!
//! Either the handshake ends there, and what is seen comes back inside the error with which it ends, so no request, and
//! no key, can follow; or it goes on for `inspect`, which hangs up after it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use super::verifier::{CertificateRejected, rejection, sha256};

/// The certificates that a server presented (DER), leaf first.
#[derive(Debug)]
pub struct PresentedChain(pub Vec<CertificateDer<'static>>);

impl PresentedChain {
    /// The chain with which a handshake of `tls::client_config_that_looks` ended.
    pub fn in_error(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
                other.0.downcast_ref()
            }
            _ => None,
        }
    }
}

impl fmt::Display for PresentedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server presented {} certificates", self.0.len())
    }
}

impl std::error::Error for PresentedChain {}

/// What was presented, and why it was refused, if it was.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) refused: Option<CertificateRejected>,
}

/// What an `Onlooker` does with what it sees.
#[derive(Debug)]
pub(super) enum Look {
    /// Ends the handshake with it (`PresentedChain`), whether or not it would pass; but not with the proxy on the way,
    /// which is held to what is configured.
    End { proxy: Option<ServerName<'static>> },
    /// Notes it, and what is configured says to it, and lets the handshake go on in any case.
    GoOn(Arc<Mutex<Seen>>),
}

/// Sees what a server presents before, or instead of, what is configured decides about it.
#[derive(Debug)]
pub(super) struct Onlooker {
    pub(super) configured: Arc<dyn ServerCertVerifier>,
    pub(super) look: Look,
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let decide = || {
            self.configured.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            )
        };
        let chain = || {
            let chain = std::iter::once(end_entity).chain(intermediates);
            chain.map(|it| it.clone().into_owned()).collect()
        };
        match &self.look {
            Look::End { proxy } if proxy.as_ref() == Some(server_name) => decide(),
            Look::End { .. } => {
                Err(CertificateError::Other(OtherError(Arc::new(PresentedChain(chain())))).into())
            }
            Look::GoOn(seen) => {
                let refused = decide().err().map(|error| rejected(error, end_entity));
                *seen.lock().unwrap_or_else(PoisonError::into_inner) =
                    Seen { chain: chain(), refused };
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
        self.configured.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.configured.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.configured.supported_verify_schemes()
    }
}

fn rejected(error: rustls::Error, end_entity: &CertificateDer<'_>) -> CertificateRejected {
    if let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = &error
        && let Some(rejected) = other.0.downcast_ref::<CertificateRejected>()
    {
        return rejected.clone();
    }
    CertificateRejected { why: rejection(error), sha256: sha256(end_entity) }
}
