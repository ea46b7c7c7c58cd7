//! Sees the certificates that a server presents, whether or not they would pass, and ends the handshake there.
//!
//! Nothing is judged and nothing is sent behind the handshake: what is seen comes back inside the error with which it
//! ends, so no request, and no key, can follow.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

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

/// Ends the handshake with every server but a proxy on the way, which is held to what is configured.
#[derive(Debug)]
pub(super) struct Looker {
    /// The one server that is not looked at.
    pub(super) proxy: Option<ServerName<'static>>,
    pub(super) configured: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.proxy.as_ref() == Some(server_name) {
            return self.configured.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = PresentedChain(chain.map(|it| it.clone().into_owned()).collect());
        Err(CertificateError::Other(OtherError(Arc::new(chain))).into())
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
