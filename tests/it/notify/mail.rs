//! Mail through a real server (aiosmtpd), and through servers that misbehave.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ece_expiry_exporter::config::{
    EmailConfig, SecretSource, SmtpAuth, SmtpEncryption, TlsConfig, TlsVerify,
};
use ece_expiry_exporter::delivery::{Accepted, Integration, SendError};
use ece_expiry_exporter::notify::Sender;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{config, email_config, parcel};

const PASSWORD: &str = "correct horse battery";
const MAIL: &[u8] = b"From: ece-expiry@example.org\r\nTo: ops@example.org\r\nSubject: hello\r\n\r\n.dot first\r\nend\r\n";

/// A mail server in its own process; it ends with this value.
struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(mode: &str, user: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let path = |name: &str| folder.path().join(name);
        let mut process = Command::new("/usr/bin/python3")
            .arg("-W")
            .arg("ignore")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp_server.py"))
            .args([folder.path(), &path("leaf.pem"), &path("leaf.key")])
            .args([mode, user, PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs /usr/bin/python3 with python3-aiosmtpd");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the mail server says {line:?}"));
        Self { process, port, folder }
    }

    /// A channel that trusts this server's authority.
    fn channel(&self, encryption: SmtpEncryption) -> EmailConfig {
        let mut channel = email_config(self.port, encryption);
        channel.tls.ca_file = Some(self.folder.path().join("ca.pem"));
        channel
    }

    fn with_login(&self, encryption: SmtpEncryption, password: &str) -> EmailConfig {
        let file = self.folder.path().join("password");
        std::fs::write(&file, password).unwrap();
        let auth = SmtpAuth { username: "ece".to_owned(), password: SecretSource::File(file) };
        EmailConfig { auth: Some(auth), ..self.channel(encryption) }
    }

    /// The mails that arrived: what the server noted, and the content.
    fn arrived(&self) -> Vec<(serde_json::Value, Vec<u8>)> {
        (1..=100)
            .map(|at| self.folder.path().join(format!("{at}.eml")))
            .take_while(|it| it.exists())
            .map(|it| {
                let facts = std::fs::read(it.with_extension("json")).unwrap();
                (serde_json::from_slice(&facts).unwrap(), std::fs::read(it).unwrap())
            })
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes `ca.pem`, and `leaf.pem` and `leaf.key` for 127.0.0.1 and `mail.test`.
fn certificates(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let write = |name: &str, pem: String| std::fs::write(folder.join(name), pem).unwrap();
    write("ca.pem", authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    let names = vec!["127.0.0.1".to_owned(), "mail.test".to_owned()];
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    write("leaf.pem", leaf.pem());
    write("leaf.key", key.serialize_pem());
}

async fn send(channel: EmailConfig, recipient: &str) -> Result<Accepted, SendError> {
    let channel = EmailConfig { to: vec![recipient.to_owned()], ..channel };
    let sender = Sender::new(config(vec![channel], Vec::new())).unwrap();
    sender.send(&parcel(Integration::Email, recipient, MAIL)).await
}

/// Asserts a retry and gives its sentence.
fn retried(result: Result<Accepted, SendError>) -> String {
    match result {
        Err(SendError::Retry { why, .. }) => {
            assert!(why.chars().count() <= 256, "{why}");
            assert!(!why.contains(PASSWORD), "{why}");
            why
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_mail_arrives_over_starttls_with_a_login() {
    let server = Server::start("starttls", "ece");
    let channel = server.with_login(SmtpEncryption::Starttls, PASSWORD);
    let accepted = send(channel, "ops@example.org").await.unwrap();
    assert_eq!(accepted, Accepted("250 2.0.0 queued as 1".to_owned()));
    let arrived = server.arrived();
    let (facts, content) = &arrived[0];
    assert_eq!(facts["from"], "ece-expiry@example.org");
    assert_eq!(facts["to"], serde_json::json!(["ops@example.org"]));
    assert_eq!((&facts["tls"], &facts["login"]), (&true.into(), &true.into()));
    assert_eq!(facts["hello"], "exporter.test");
    assert_eq!(String::from_utf8_lossy(content), String::from_utf8_lossy(MAIL));
}

#[tokio::test]
async fn a_mail_arrives_over_implicit_tls_under_another_server_name() {
    let server = Server::start("implicit", "ece");
    let mut channel = server.with_login(SmtpEncryption::Implicit, PASSWORD);
    channel.tls.server_name = Some("mail.test".to_owned());
    send(channel, "ops@example.org").await.unwrap();
    assert_eq!(server.arrived().len(), 1);
}

#[tokio::test]
async fn a_mail_arrives_without_encryption_if_asked_for() {
    let server = Server::start("none", "");
    send(email_config(server.port, SmtpEncryption::None), "ops@example.org").await.unwrap();
    assert_eq!(server.arrived()[0].0["tls"], false);
}

#[tokio::test]
async fn a_wrong_password_is_tried_again_and_a_rotated_one_is_read_without_a_restart() {
    let server = Server::start("starttls", "ece");
    let channel = server.with_login(SmtpEncryption::Starttls, "wrong password");
    let sender = Sender::new(config(vec![channel], Vec::new())).unwrap();
    let parcel = parcel(Integration::Email, "ops@example.org", MAIL);
    let why = retried(sender.send(&parcel).await);
    assert!(why.contains("refuses the login") && why.contains("535"), "{why}");
    assert!(!why.contains("wrong password"), "{why}");
    std::fs::write(server.folder.path().join("password"), PASSWORD).unwrap();
    sender.send(&parcel).await.unwrap();
    assert_eq!(server.arrived().len(), 1);
}

#[tokio::test]
async fn an_unreadable_password_is_a_retry_that_names_the_file() {
    let server = Server::start("starttls", "ece");
    let mut channel = server.with_login(SmtpEncryption::Starttls, PASSWORD);
    let missing = PathBuf::from("/nonexistent/password");
    channel.auth.as_mut().unwrap().password = SecretSource::File(missing);
    let why = retried(send(channel, "ops@example.org").await);
    assert!(why.contains("/nonexistent/password"), "{why}");
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_gets_nothing() {
    let server = Server::start("starttls", "ece");
    let mut stranger = server.with_login(SmtpEncryption::Starttls, PASSWORD);
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    stranger.tls.ca_file = Some(other.path().join("ca.pem"));
    let why = retried(send(stranger.clone(), "ops@example.org").await);
    assert!(why.contains("STARTTLS") && why.contains("certificate"), "{why}");

    let mut misnamed = server.with_login(SmtpEncryption::Starttls, PASSWORD);
    misnamed.tls.server_name = Some("other.test".to_owned());
    retried(send(misnamed, "ops@example.org").await);
    assert_eq!(server.arrived().len(), 0);

    stranger.tls = TlsConfig { verify: TlsVerify::None, ..TlsConfig::default() };
    send(stranger, "ops@example.org").await.unwrap();
    assert_eq!(server.arrived().len(), 1);
}

#[tokio::test]
async fn a_refused_recipient_is_given_up_and_the_others_are_served() {
    let server = Server::start("none", "");
    let mut channel = email_config(server.port, SmtpEncryption::None);
    channel.to =
        ["refused@example.org", "later@example.org", "ops@example.org"].map(str::to_owned).to_vec();
    let sender = Sender::new(config(vec![channel], Vec::new())).unwrap();
    let send = async |to: &str| sender.send(&parcel(Integration::Email, to, MAIL)).await;
    match send("refused@example.org").await {
        Err(SendError::GiveUp { why }) => {
            assert!(why.contains("recipient") && why.contains("550"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let why = retried(send("later@example.org").await);
    assert!(why.contains("451") && why.contains("mailbox busy"), "{why}");
    send("ops@example.org").await.unwrap();
    assert_eq!(server.arrived().len(), 1);
}

#[tokio::test]
async fn a_recipient_or_channel_that_is_no_longer_configured_is_given_up() {
    let channel = email_config(9, SmtpEncryption::None);
    let sender = Sender::new(config(vec![channel], Vec::new())).unwrap();
    for parcel in [
        parcel(Integration::Email, "gone@example.org", MAIL),
        parcel(Integration::Webhook, "", MAIL),
    ] {
        match sender.send(&parcel).await {
            Err(SendError::GiveUp { why }) => {
                assert!(why.contains("no longer configured"), "{why}");
                assert!(!why.contains("gone@"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A server that greets and answers each line as `answer` says; gives the lines it heard on one connection.
async fn scripted(
    answer: fn(&str) -> &'static [u8],
) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hearing = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        write.write_all(b"220 mail.test\r\n").await.unwrap();
        let mut lines = tokio::io::BufReader::new(read).lines();
        let mut heard = Vec::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let answered = write.write_all(answer(&line)).await;
            heard.push(line);
            if answered.is_err() {
                break;
            }
        }
        heard
    });
    (port, hearing)
}

#[tokio::test]
async fn where_starttls_is_stripped_no_credentials_are_sent() {
    let (port, heard) = scripted(|line| match line {
        "EHLO exporter.test" => b"250-mail.test\r\n250 AUTH PLAIN LOGIN\r\n",
        _ => b"250 ok\r\n",
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let mut channel = email_config(port, SmtpEncryption::Starttls);
    channel.auth =
        Some(SmtpAuth { username: "ece".to_owned(), password: SecretSource::File(file) });
    let why = retried(send(channel, "ops@example.org").await);
    assert!(why.contains("offers no STARTTLS"), "{why}");
    assert_eq!(heard.await.unwrap(), ["EHLO exporter.test", "QUIT"]);
}

#[tokio::test]
async fn a_password_that_a_server_repeats_is_not_shown() {
    let (port, _) = scripted(|line| match line.split(' ').next().unwrap() {
        "EHLO" => b"250-mail.test\r\n250 AUTH PLAIN\r\n",
        "AUTH" => b"535 bad: correct horse battery Y29ycmVjdCBob3JzZSBiYXR0ZXJ5 AGVjZQBjb3JyZWN0IGhvcnNlIGJhdHRlcnk=\r\n",
        _ => b"221 bye\r\n",
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let mut channel = email_config(port, SmtpEncryption::None);
    channel.auth =
        Some(SmtpAuth { username: "ece".to_owned(), password: SecretSource::File(file) });
    let why = retried(send(channel, "ops@example.org").await);
    assert!(why.contains("bad: [redacted] [redacted] [redacted]"), "{why}");
}

#[tokio::test]
async fn an_answer_that_comes_out_of_step_is_no_acceptance() {
    let (port, _) = scripted(|line| match line.split([' ', ':']).next().unwrap() {
        "EHLO" | "MAIL" | "RCPT" => b"250 ok\r\n",
        "DATA" | "." => b"354 go on\r\n",
        "QUIT" => b"221 bye\r\n",
        _ => b"",
    })
    .await;
    let why = retried(send(email_config(port, SmtpEncryption::None), "ops@example.org").await);
    assert!(why.contains("out of step"), "{why}");
}

#[tokio::test]
async fn a_server_that_never_greets_costs_the_deadline_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut channel = email_config(listener.local_addr().unwrap().port(), SmtpEncryption::None);
    channel.timeout = Duration::from_millis(300);
    let started = Instant::now();
    let why = retried(send(channel, "ops@example.org").await);
    assert!(why.contains("did not finish within 300ms"), "{why}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_verdict_is_kept_when_the_server_falls_silent_after_it() {
    let (port, _) = scripted(|line| match line.split(' ').next().unwrap() {
        "RCPT" => b"550 5.7.1 not for you\r\n",
        "QUIT" => b"",
        _ => b"250 ok\r\n",
    })
    .await;
    match send(email_config(port, SmtpEncryption::None), "ops@example.org").await {
        Err(SendError::GiveUp { why }) => assert!(why.contains("not for you"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unreachable_server_is_a_retry_that_names_it() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let why = retried(send(email_config(port, SmtpEncryption::None), "ops@example.org").await);
    assert!(why.contains(&format!("127.0.0.1:{port}")) && why.contains("refused"), "{why}");
}

#[tokio::test]
async fn one_sender_serves_several_targets_at_once() {
    let server = Server::start("none", "");
    let mut channel = email_config(server.port, SmtpEncryption::None);
    channel.to = (0..8).map(|it| format!("p{it}@example.org")).collect();
    let sender = Arc::new(Sender::new(config(vec![channel.clone()], Vec::new())).unwrap());
    let mut sending = tokio::task::JoinSet::new();
    for recipient in channel.to {
        let sender = Arc::clone(&sender);
        sending.spawn(async move {
            sender.send(&parcel(Integration::Email, &recipient, MAIL)).await.unwrap()
        });
    }
    assert_eq!(sending.join_all().await.len(), 8);
    assert_eq!(server.arrived().len(), 8);
}

#[test]
fn a_missing_authority_file_is_told_when_the_channel_is_built() {
    let mut channel = email_config(25, SmtpEncryption::Starttls);
    channel.tls.ca_file = Some(PathBuf::from("/nonexistent/ca.pem"));
    let error = Sender::new(config(vec![channel], Vec::new())).err().unwrap();
    let error = format!("{error:#}");
    assert!(error.starts_with("receiver r, email_configs[0]: "), "{error}");
    assert!(error.contains("/nonexistent/ca.pem"), "{error}");
}
