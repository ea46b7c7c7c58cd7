//! Makes certificate chains of the shape that ECE installs for its admin console.
//!
//! Keys are made at run time and live in memory only; nothing is written to a file. The chain has three levels, its
//! names are those of an ECE installation, the leaf names a runner and an IP address but no public host, and it has no
//! extended key usage. Made with ECDSA keys, where ECE uses RSA: the difference shows in no check that a client makes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Days, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// How long ECE makes its chain valid: ten years.
const CHAIN_DAYS: u64 = 3650;

/// The knobs of a chain. `Default` is what a fresh ECE on 127.0.0.1 shows.
#[derive(Debug, Clone)]
pub struct CertificateOptions {
    /// The DNS names of the leaf.
    pub names: Vec<String>,
    /// The addresses of the leaf; each stands in it twice, as a DNS name and as an IP address, as ECE does it.
    pub addresses: Vec<IpAddr>,
    /// From when the whole chain is valid; `None` is one day ago.
    pub not_before: Option<DateTime<Utc>>,
    /// Until when the leaf is valid; `None` is ten years after `not_before`. A past instant makes an expired leaf.
    pub leaf_not_after: Option<DateTime<Utc>>,
    /// Which certificates the server sends.
    pub sends: Sends,
}

/// Which certificates a server sends in its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// Leaf, intermediate and root, as ECE does.
    WholeChain,
    /// The leaf alone: a client that trusts only the root cannot build the chain.
    LeafOnly,
}

impl Default for CertificateOptions {
    fn default() -> Self {
        Self {
            names: vec!["ece-0-runner".to_owned(), "localhost".to_owned()],
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            not_before: None,
            leaf_not_after: None,
            sends: Sends::WholeChain,
        }
    }
}

/// A chain with the key of its leaf. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Certificates {
    root_pem: String,
    intermediate_pem: String,
    leaf_pem: String,
    leaf_der: Vec<u8>,
    key_pem: String,
    server_config: Arc<ServerConfig>,
}

impl Certificates {
    /// Makes a chain.
    ///
    /// Errors if a name is not ASCII or if `leaf_not_after` is before 1970.
    pub fn make(options: &CertificateOptions) -> anyhow::Result<Self> {
        let not_before = options.not_before.unwrap_or_else(|| crate::time::now() - Days::new(1));
        let not_after = not_before + Days::new(CHAIN_DAYS);

        let root = authority("elastic ce master", not_before, not_after)?;
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
        let intermediate = authority("elastic ce admin console root", not_before, not_after)?;
        let intermediate = CertifiedIssuer::signed_by(intermediate, KeyPair::generate()?, &root)?;

        let id = format!("elastic ce admin console {:012x}", fastrand::u64(..1 << 48));
        let mut leaf = params(&id, not_before, options.leaf_not_after.unwrap_or(not_after))?;
        leaf.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
        leaf.use_authority_key_identifier_extension = true;
        for name in &options.names {
            leaf.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        for address in &options.addresses {
            leaf.subject_alt_names.push(SanType::DnsName(address.to_string().try_into()?));
            leaf.subject_alt_names.push(SanType::IpAddress(*address));
        }
        let key = KeyPair::generate()?;
        let leaf =
            leaf.signed_by(&key, &intermediate).context("cannot sign the leaf certificate")?;

        let sent = match options.sends {
            Sends::WholeChain => {
                vec![leaf.der().clone(), intermediate.der().clone(), root.der().clone()]
            }
            Sends::LeafOnly => vec![leaf.der().clone()],
        };
        Ok(Self {
            root_pem: root.pem(),
            intermediate_pem: intermediate.pem(),
            leaf_pem: leaf.pem(),
            leaf_der: leaf.der().to_vec(),
            key_pem: key.serialize_pem(),
            server_config: server_config(sent, &key)?,
        })
    }

    /// The root certificate in PEM: what a client has to trust.
    pub fn ca_pem(&self) -> &str {
        &self.root_pem
    }

    /// The intermediate certificate in PEM.
    pub fn intermediate_pem(&self) -> &str {
        &self.intermediate_pem
    }

    /// Leaf, intermediate and root in PEM, in this order.
    pub fn chain_pem(&self) -> String {
        format!("{}{}{}", self.leaf_pem, self.intermediate_pem, self.root_pem)
    }

    /// The leaf in DER, for fingerprints.
    pub fn leaf_der(&self) -> &[u8] {
        &self.leaf_der
    }

    /// The private key of the leaf in PEM (PKCS #8).
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Settings of a TLS server that shows this chain; TLS 1.2 and 1.3, no client certificates, HTTP/1.1.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server_config.clone()
    }
}

fn authority(
    name: &str,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
) -> anyhow::Result<CertificateParams> {
    let mut authority = params(name, not_before, not_after)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(authority)
}

fn params(
    name: &str,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // The type that rcgen wants belongs to a crate that is not ours; this reaches it without naming it.
    let since_1970 = |at: DateTime<Utc>| u64::try_from(at.timestamp()).map(Duration::from_secs);
    params.not_before = date_time_ymd(1970, 1, 1)
        + since_1970(not_before).context("not_before lies before 1970")?;
    params.not_after =
        date_time_ymd(1970, 1, 1) + since_1970(not_after).context("not_after lies before 1970")?;
    Ok(params)
}

fn server_config(
    sent: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> anyhow::Result<Arc<ServerConfig>> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(sent, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
