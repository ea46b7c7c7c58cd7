//! What of a server's certificate is accepted, and what is said about the rest.

use std::path::PathBuf;
use std::sync::Arc;

use ece_expiry_exporter::config::{TlsConfig, TlsVerify};
use ece_expiry_exporter::observation::{FailureReason, Observation};
use ece_expiry_exporter::probe::Prober;
use ece_expiry_exporter::{time, tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::coordinator::{Coordinator, answer};
use crate::probe::{DEADLINE, PATIENCE, credential, expires, platform};

/// Authorities and a server certificate as a fresh ECE makes them: root, intermediate, leaf; an address also as a DNS
/// name; no extended key usage.
struct Ece {
    root: CertifiedIssuer<'static, KeyPair>,
    middle: CertifiedIssuer<'static, KeyPair>,
    leaf: CertificateDer<'static>,
    leaf_key: KeyPair,
    dir: TempDir,
}

impl Ece {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let root = CertifiedIssuer::self_signed(authority("elastic ce master"), key()).unwrap();
        let middle =
            CertifiedIssuer::signed_by(authority("elastic ce admin console root"), key(), &root)
                .unwrap();
        let mut params = named("elastic ce admin console 1");
        params.subject_alt_names = vec![
            SanType::DnsName("ece-0-runner".try_into().unwrap()),
            SanType::DnsName("127.0.0.1".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        change(&mut params);
        let leaf_key = key();
        let leaf = params.signed_by(&leaf_key, &middle).unwrap().der().clone();
        Self { root, middle, leaf, leaf_key, dir: TempDir::new().unwrap() }
    }

    fn server(&self) -> ServerConfig {
        Self::builder().with_no_client_auth().with_single_cert(self.chain(), self.key()).unwrap()
    }

    /// Lets in only clients whose certificate the root has signed.
    fn server_for_clients(&self) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        Self::builder()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(self.chain(), self.key())
            .unwrap()
    }

    fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.leaf.clone(), self.middle.der().clone(), self.root.der().clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.leaf_key.serialize_der()).unwrap()
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn trust_root(&self) -> TlsConfig {
        TlsConfig { ca_file: Some(self.file("ca.pem", &self.root.pem())), ..TlsConfig::default() }
    }

    /// A client certificate and its key, signed by the root.
    fn identity(&self) -> (PathBuf, PathBuf) {
        let client = key();
        let cert = named("exporter").signed_by(&client, &self.root).unwrap();
        (self.file("client.pem", &cert.pem()), self.file("client.key", &client.serialize_pem()))
    }

    fn sha256(&self) -> [u8; 32] {
        ring::digest::digest(&ring::digest::SHA256, &self.leaf).as_ref().try_into().unwrap()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn authority(common_name: &str) -> CertificateParams {
    let mut params = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// One probe of a server with `server`, reached as `host`, by a client with `tls`.
async fn probe(server: ServerConfig, host: &str, tls: TlsConfig) -> Observation {
    let coordinator =
        Coordinator::https(server, |_| answer("200 OK", &[&expires("2027-01-01T00:00:00Z")], "{}"))
            .await;
    let mut platform = platform(&[coordinator.https_url(host)]);
    platform.tls = tls;
    let dir = TempDir::new().unwrap();
    let prober = Prober::new(&platform, PATIENCE).unwrap();
    prober.probe(&credential(&dir), time::now).await
}

fn assert_accepted(observation: &Observation) {
    assert!(observation.result.is_ok(), "{observation:?}");
}

/// Asserts a refusal by TLS and returns its sentence.
fn refusal(observation: Observation) -> String {
    let failure = observation.result.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Tls, "{}", failure.message);
    failure.message
}

fn assert_holds(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[tokio::test]
async fn the_root_is_enough_as_authority() {
    let ece = Ece::new();
    assert_accepted(&probe(ece.server(), "127.0.0.1", ece.trust_root()).await);
}

#[tokio::test]
async fn the_intermediate_is_enough_as_authority() {
    let ece = Ece::new();
    let ca_file = Some(ece.file("ca.pem", &ece.middle.pem()));
    let tls = TlsConfig { ca_file, ..TlsConfig::default() };
    assert_accepted(&probe(ece.server(), "127.0.0.1", tls).await);
}

#[tokio::test]
async fn the_leaf_itself_is_no_authority() {
    let ece = Ece::new();
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &ece.leaf);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let tls = TlsConfig { ca_file: Some(ece.file("ca.pem", &pem)), ..TlsConfig::default() };
    assert_holds(&refusal(probe(ece.server(), "127.0.0.1", tls).await), &["issuer is unknown"]);
}

#[tokio::test]
async fn one_file_may_hold_several_authorities() {
    let (ece, other) = (Ece::new(), Ece::new());
    let both = format!("{}{}", other.root.pem(), ece.root.pem());
    let tls = TlsConfig { ca_file: Some(ece.file("ca.pem", &both)), ..TlsConfig::default() };
    assert_accepted(&probe(ece.server(), "127.0.0.1", tls).await);
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_with_its_fingerprint() {
    let ece = Ece::new();
    let other = CertifiedIssuer::self_signed(authority("example authority"), key()).unwrap();
    let ca_file = Some(ece.file("ca.pem", &other.pem()));
    let tls = TlsConfig { ca_file, ..TlsConfig::default() };
    let message = refusal(probe(ece.server(), "127.0.0.1", tls).await);
    let first_bytes = format!("{:02x}{:02x}", ece.sha256()[0], ece.sha256()[1]);
    let fingerprint = format!("SHA-256 {first_bytes}");
    assert_holds(&message, &["issuer is unknown", "set tls_config.ca_file", &fingerprint]);
}

#[tokio::test]
async fn without_ca_file_the_system_decides_and_knows_no_ece() {
    let ece = Ece::new();
    match tls::client_config(&TlsConfig::default()) {
        Ok(_) => {
            let message = refusal(probe(ece.server(), "127.0.0.1", TlsConfig::default()).await);
            assert_holds(&message, &["set tls_config.ca_file"]);
        }
        // A machine without a bundle.
        Err(error) => {
            assert_holds(&format!("{error:#}"), &["ca-certificates", "tls_config.ca_file"]);
        }
    }
}

#[tokio::test]
async fn the_authority_of_another_ece_is_told_apart_although_it_has_the_same_name() {
    let (ece, other) = (Ece::new(), Ece::new());
    let message = refusal(probe(ece.server(), "127.0.0.1", other.trust_root()).await);
    assert_holds(&message, &["another authority of the same name", "tls_config.ca_file"]);
}

#[tokio::test]
async fn a_wrong_name_is_refused_and_the_right_ones_are_told() {
    let ece = Ece::new();
    let message = refusal(probe(ece.server(), "localhost", ece.trust_root()).await);
    let names = "not valid for localhost, only for ece-0-runner, 127.0.0.1, 127.0.0.1;";
    assert_holds(&message, &[names, "tls_config.server_name"]);
}

#[tokio::test]
async fn server_name_replaces_the_host_of_the_url() {
    let ece = Ece::new();
    let named = |name: &str| TlsConfig { server_name: Some(name.to_owned()), ..ece.trust_root() };
    assert_accepted(&probe(ece.server(), "localhost", named("ece-0-runner")).await);
    let message = refusal(probe(ece.server(), "127.0.0.1", named("ece-1-runner")).await);
    assert_holds(&message, &["not valid for ece-1-runner"]);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_date() {
    let ece = Ece::with(|leaf| leaf.not_after = date_time_ymd(2020, 2, 29));
    let message = refusal(probe(ece.server(), "127.0.0.1", ece.trust_root()).await);
    assert_holds(&message, &["expired on 2020-02-29 00:00:00 UTC", "renew it"]);
}

#[tokio::test]
async fn a_certificate_of_the_future_is_refused_with_its_date() {
    let ece = Ece::with(|leaf| leaf.not_before = date_time_ymd(2999, 1, 1));
    let message = refusal(probe(ece.server(), "127.0.0.1", ece.trust_root()).await);
    assert_holds(&message, &["only from 2999-01-01 00:00:00 UTC", "clock"]);
}

#[tokio::test]
async fn a_pinned_certificate_needs_neither_authority_nor_name() {
    let ece = Ece::new();
    let tls = TlsConfig { verify: TlsVerify::Fingerprint(ece.sha256()), ..TlsConfig::default() };
    assert_accepted(&probe(ece.server(), "localhost", tls).await);
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_refused() {
    let (ece, other) = (Ece::new(), Ece::new());
    let tls = TlsConfig { verify: TlsVerify::Fingerprint(other.sha256()), ..TlsConfig::default() };
    let message = refusal(probe(ece.server(), "127.0.0.1", tls).await);
    assert_holds(&message, &["not the pinned one", "tls_config.fingerprint_sha256"]);
}

#[tokio::test]
async fn a_copied_certificate_without_its_key_is_refused_although_pinned_or_unverified() {
    let ece = Ece::new();
    for verify in [TlsVerify::Fingerprint(ece.sha256()), TlsVerify::None] {
        let thief = Arc::new(rustls::sign::CertifiedKey::new(
            ece.chain(),
            rustls::crypto::ring::sign::any_supported_type(
                &PrivateKeyDer::try_from(key().serialize_der()).unwrap(),
            )
            .unwrap(),
        ));
        let server = Ece::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(thief)));
        let tls = TlsConfig { verify, ..TlsConfig::default() };
        let message = refusal(probe(server, "127.0.0.1", tls).await);
        assert_holds(&message, &["does not own the key of the certificate"]);
    }
}

#[tokio::test]
async fn without_verification_any_certificate_will_do() {
    let ece = Ece::with(|leaf| leaf.not_after = date_time_ymd(2020, 1, 1));
    let tls = TlsConfig { verify: TlsVerify::None, ..TlsConfig::default() };
    assert_accepted(&probe(ece.server(), "localhost", tls).await);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_required() {
    let ece = Ece::new();
    let tls = TlsConfig { identity: Some(ece.identity()), ..ece.trust_root() };
    assert_accepted(&probe(ece.server_for_clients(), "127.0.0.1", tls).await);
}

#[tokio::test]
async fn a_missing_client_certificate_is_asked_for() {
    let ece = Ece::new();
    let message = refusal(probe(ece.server_for_clients(), "127.0.0.1", ece.trust_root()).await);
    assert_holds(&message, &["requires a client certificate", "tls_config.cert_file"]);
}

/// The refusal of a server that takes the client's greeting and then sends `reply` and closes.
async fn refusal_of_stranger(reply: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 4096];
        assert!(0 < socket.read(&mut greeting).await.unwrap());
        socket.write_all(reply).await.unwrap();
    });
    let mut platform = platform(&[url]);
    let ece = Ece::new();
    platform.tls = ece.trust_root();
    let dir = TempDir::new().unwrap();
    let prober = Prober::new(&platform, PATIENCE).unwrap();
    refusal(prober.probe(&credential(&dir), time::now).await)
}

#[tokio::test]
async fn a_plain_http_port_behind_an_https_url_is_told_as_such() {
    let message = refusal_of_stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_holds(&message, &["does not speak TLS on this port", "scheme of the URL"]);
}

#[tokio::test]
async fn a_server_that_hangs_up_in_the_handshake_is_told_as_such() {
    let message = refusal_of_stranger(b"").await;
    assert_holds(&message, &["during the TLS handshake", "client certificate"]);
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut platform = platform(&[format!("https://{}", listener.local_addr().unwrap())]);
    let ece = Ece::new();
    platform.tls = ece.trust_root();
    let dir = TempDir::new().unwrap();
    let prober = Prober::new(&platform, DEADLINE).unwrap();
    let failure = prober.probe(&credential(&dir), time::now).await.result.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Timeout, "{}", failure.message);
}

#[test]
fn unusable_files_are_named_with_what_is_expected_of_them() {
    let ece = Ece::new();
    let (cert_file, key_file) = ece.identity();
    let other_key = ece.file("other.key", &key().serialize_pem());
    let missing = ece.dir.path().join("missing.pem");
    let ca = |path: &PathBuf| TlsConfig { ca_file: Some(path.clone()), ..TlsConfig::default() };
    let identity = |cert: &PathBuf, key: &PathBuf| TlsConfig {
        identity: Some((cert.clone(), key.clone())),
        ..ece.trust_root()
    };
    let named = TlsConfig { server_name: Some("not a name".to_owned()), ..ece.trust_root() };
    let cases = [
        (ca(&missing), "cannot read tls_config.ca_file"),
        (ca(&key_file), "tls_config.ca_file"),
        (ca(&key_file), "holds no certificate"),
        (ca(&ece.file("empty.pem", "")), "holds no certificate"),
        (ca(&ece.file("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n")), "is not PEM"),
        (ca(&ece.file("huge.pem", &"x".repeat(1024 * 1024 + 1))), "larger than 1 MiB"),
        (identity(&cert_file, &missing), "cannot read tls_config.key_file"),
        (identity(&cert_file, &cert_file), "holds no private key"),
        (identity(&cert_file, &other_key), "the key must belong to the first certificate"),
        (named, "tls_config.server_name \"not a name\""),
    ];
    for (tls, expected) in cases {
        let error = format!("{:#}", tls::client_config(&tls).unwrap_err());
        assert!(error.contains(expected), "{expected:?} is missing in: {error}");
    }
}
