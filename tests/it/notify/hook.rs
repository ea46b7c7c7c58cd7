//! The webhook against servers that answer, refuse, redirect, stall and hang up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ece_expiry_exporter::config::{SecretSource, WebhookConfig};
use ece_expiry_exporter::delivery::{Accepted, Integration, SendError};
use ece_expiry_exporter::notify::Sender;
use ece_expiry_exporter::notify::webhook::answer;
use ece_expiry_exporter::time;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{config, parcel, webhook_config};

const SECRET_PATH: &str = "/services/T0SECRETPATH?token=s3cr3tquery";
const BODY: &[u8] = br#"{"version":"1"}"#;

/// What one connection of the sink does once it has the request.
#[derive(Clone)]
pub(super) enum Act {
    Answer(String),
    HangUp,
    Stall,
    /// Answers once so much time has passed.
    Late(Duration, String),
}

/// A raw HTTP server that notes requests and acts by script; after its end it repeats the last act.
pub(super) struct Sink {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|it| it.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Sink {
    pub(super) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut stalled = Vec::new();
            let mut served = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read_request(&mut stream).await else { continue };
                noted.lock().unwrap().push(request);
                match &acts[served.min(acts.len() - 1)] {
                    Act::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                    Act::HangUp => {}
                    Act::Stall => stalled.push(stream),
                    Act::Late(after, answer) => {
                        let (after, answer) = (*after, answer.clone());
                        tokio::spawn(async move {
                            time::sleep_until(time::now() + after).await;
                            let _ = stream.write_all(answer.as_bytes()).await;
                        });
                    }
                }
                served += 1;
            }
        });
        Self { port, requests }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}{SECRET_PATH}", self.port)
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|it| 0 < *it)?;
        bytes.extend_from_slice(&chunk[..count]);
        let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let body = bytes[end + 4..].to_vec();
        let request = Request { head, body };
        let length: usize = request.header("content-length")?.parse().ok()?;
        if length <= request.body.len() {
            return Some(request);
        }
    }
}

pub(super) fn status(line: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Answer(format!(
        "HTTP/1.1 {line}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

/// A channel whose files live as long as this value.
pub(super) struct Channel {
    folder: tempfile::TempDir,
    pub(super) config: WebhookConfig,
}

impl Channel {
    pub(super) fn to(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = webhook_config(write(folder.path().join("url"), url));
        Self { folder, config }
    }

    pub(super) fn secret(&self, name: &str, text: &str) -> SecretSource {
        write(self.folder.path().join(name), text)
    }

    pub(super) fn sender(&self) -> Sender {
        Sender::new(config(Vec::new(), vec![self.config.clone()])).unwrap()
    }

    async fn send(&self) -> Result<Accepted, SendError> {
        self.sender().send(&parcel(Integration::Webhook, "", BODY)).await
    }
}

fn write(path: PathBuf, text: &str) -> SecretSource {
    std::fs::write(&path, text).unwrap();
    SecretSource::File(path)
}

/// No sentence may hold the path or query of the URL, or be longer than a line.
fn sentence(error: &SendError) -> String {
    let text = error.to_string();
    assert!(text.chars().count() <= 256, "{text}");
    for secret in ["T0SECRETPATH", "s3cr3tquery", "/services"] {
        assert!(!text.contains(secret), "{text}");
    }
    text
}

pub(super) fn retried(result: Result<Accepted, SendError>) -> (String, Option<Duration>) {
    match result {
        Err(error @ SendError::Retry { after, .. }) => (sentence(&error), after),
        other => panic!("{other:?}"),
    }
}

pub(super) fn given_up(result: Result<Accepted, SendError>) -> String {
    match result {
        Err(error @ (SendError::GiveUp { .. } | SendError::Gone { .. })) => sentence(&error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_posted_signed_and_named() {
    let sink = Sink::start(vec![status("204 No Content", "", "")]).await;
    let mut channel = Channel::to(&sink.url());
    let secrets =
        ["whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyEh", "whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcyEh"];
    channel.config.signing_secrets =
        vec![channel.secret("new", secrets[0]), channel.secret("old", secrets[1])];
    channel.config.authorization = Some(("Bearer".to_owned(), channel.secret("token", "t0ken")));
    channel.config.http_headers = vec![("X-Tenant".to_owned(), "a".to_owned())];
    assert_eq!(channel.send().await.unwrap(), Accepted("HTTP 204".to_owned()));

    let request = &sink.requests()[0];
    assert!(request.head.starts_with(&format!("POST {SECRET_PATH} HTTP/1.1")), "{}", request.head);
    assert_eq!(request.body, BODY);
    let header = |name| request.header(name).unwrap();
    let id = "msg_01JDEXAMPLE00000000000000A";
    assert_eq!((header("webhook-id"), header("idempotency-key")), (id, id));
    assert_eq!(header("content-type"), "application/json");
    assert!(header("user-agent").starts_with("ece-expiry-exporter/"));
    assert_eq!(header("authorization"), "Bearer t0ken");
    assert_eq!(header("x-tenant"), "a");
    let timestamp: i64 = header("webhook-timestamp").parse().unwrap();
    let expected: Vec<_> =
        secrets.iter().map(|it| answer::sign(it, id, timestamp, BODY).unwrap()).collect();
    assert_eq!(header("webhook-signature"), expected.join(" "));
}

#[tokio::test]
async fn the_id_stays_the_same_over_attempts() {
    let busy = status("503 Busy", "", "");
    let sink = Sink::start(vec![busy, Act::HangUp, status("200 OK", "", "ok")]).await;
    let channel = Channel::to(&sink.url());
    let sender = channel.sender();
    let parcel = parcel(Integration::Webhook, "", BODY);
    retried(sender.send(&parcel).await);
    retried(sender.send(&parcel).await);
    sender.send(&parcel).await.unwrap();
    let requests = sink.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|it| it.header("webhook-id") == Some(&parcel.id)));
    assert!(requests.iter().all(|it| it.header("webhook-signature").is_none()));
}

#[tokio::test]
async fn an_overloaded_receiver_is_tried_again_when_it_says() {
    let later = httpdate::fmt_http_date((time::now() + Duration::from_secs(600)).into());
    for (line, header, wait) in [
        ("408 Request Timeout", String::new(), None),
        ("425 Too Early", "Retry-After: 7\r\n".to_owned(), Some(7..=7)),
        ("429 Too Many Requests", format!("Retry-After: {later}\r\n"), Some(590..=600)),
        ("429 Too Many Requests", "Retry-After: soon\r\n".to_owned(), None),
        ("500 Internal Server Error", String::new(), None),
        ("503 Service Unavailable", "Retry-After: 120\r\n".to_owned(), Some(120..=120)),
    ] {
        let sink = Sink::start(vec![status(line, &header, "come back later")]).await;
        let (why, after) = retried(Channel::to(&sink.url()).send().await);
        assert!(why.contains(&line[..3]) && why.contains("come back later"), "{why}");
        match wait {
            Some(wait) => assert!(wait.contains(&after.unwrap().as_secs()), "{line} {after:?}"),
            None => assert_eq!(after, None, "{line}"),
        }
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_its_reason_is_shown_short_and_without_the_url() {
    for (line, hint) in [
        ("400 Bad Request", "does not take"),
        ("401 Unauthorized", "check the URL"),
        ("404 Not Found", "check the URL"),
        ("410 Gone", "receiver is gone"),
    ] {
        let echo = format!("no such path {SECRET_PATH}\r\n\u{1b}[31m{}", "x".repeat(100_000));
        let sink = Sink::start(vec![status(line, "", &echo)]).await;
        let why = given_up(Channel::to(&sink.url()).send().await);
        assert!(why.contains(hint) && why.contains("no such path [redacted]"), "{why}");
        assert!(!why.contains('\u{1b}'), "{why}");
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let target = Sink::start(vec![status("200 OK", "", "")]).await;
    for line in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
        let location = format!("Location: {}\r\n", target.url());
        let sink = Sink::start(vec![status(line, &location, "")]).await;
        let why = given_up(Channel::to(&sink.url()).send().await);
        assert!(why.contains("update the URL"), "{why}");
    }
    assert_eq!(target.requests().len(), 0);
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_retry() {
    let sink = Sink::start(vec![Act::HangUp]).await;
    let (why, _) = retried(Channel::to(&sink.url()).send().await);
    assert!(why.contains("127.0.0.1"), "{why}");
    assert_eq!(sink.requests().len(), 1, "one attempt is one request");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (why, _) = retried(Channel::to(&format!("http://{free}{SECRET_PATH}")).send().await);
    assert!(why.contains("no connection") && why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_receiver_that_stalls_costs_the_deadline_and_no_more() {
    let sink = Sink::start(vec![Act::Stall]).await;
    let mut channel = Channel::to(&sink.url());
    channel.config.timeout = Duration::from_millis(300);
    let started = Instant::now();
    retried(channel.send().await);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_undo_the_verdict() {
    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nok";
    let sink = Sink::start(vec![Act::Answer(endless.to_owned())]).await;
    assert_eq!(Channel::to(&sink.url()).send().await.unwrap(), Accepted("HTTP 200".to_owned()));
}

#[tokio::test]
async fn metadata_and_link_local_addresses_get_nothing() {
    for url in [
        "http://169.254.169.254/latest",
        "https://[fe80::1]/x",
        "https://[::ffff:169.254.169.254]/x",
        "https://0.0.0.0/x",
        "https://2852039166/x",
    ] {
        let mut channel = Channel::to(url);
        channel.config.allow_http = true;
        let (why, _) = retried(channel.send().await);
        assert!(why.contains("nothing was sent"), "{url}: {why}");
    }
}

#[tokio::test]
async fn plain_http_needs_a_word_unless_it_stays_on_this_machine() {
    let (why, _) = retried(Channel::to("http://203.0.113.7/services/T0SECRETPATH").send().await);
    assert!(why.contains("allow_http: true"), "{why}");
    let (why, _) = retried(Channel::to("ftp://127.0.0.1/services").send().await);
    assert!(why.contains("neither https nor http"), "{why}");
    let sink = Sink::start(vec![status("200 OK", "", "")]).await;
    Channel::to(&format!("http://localhost:{}/", sink.port)).send().await.unwrap();
}

#[tokio::test]
async fn a_signing_secret_that_cannot_be_used_stops_the_message_not_its_signature() {
    let sink = Sink::start(vec![status("200 OK", "", "")]).await;
    let mut channel = Channel::to(&sink.url());
    channel.config.signing_secrets = vec![channel.secret("bad", "whsec_not base64!")];
    let (why, _) = retried(channel.send().await);
    assert!(why.contains("whsec_") && !why.contains("not base64!"), "{why}");
    assert_eq!(sink.requests().len(), 0);
}

#[tokio::test]
async fn a_rotated_url_is_read_without_a_restart() {
    let (old, new) = (
        Sink::start(vec![status("410 Gone", "", "")]).await,
        Sink::start(vec![status("200 OK", "", "")]).await,
    );
    let channel = Channel::to(&old.url());
    let sender = channel.sender();
    let parcel = parcel(Integration::Webhook, "", BODY);
    given_up(sender.send(&parcel).await);
    channel.secret("url", &new.url());
    sender.send(&parcel).await.unwrap();
    assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
}
