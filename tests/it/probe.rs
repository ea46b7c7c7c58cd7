//! What a probe makes of the answers of ECE and of everything else that may stand at its address.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::config::{
    Credential, CredentialId, CredentialKind, Flavor, Platform, Policy, Repeat, SecretSource,
    Severity, Step, TlsConfig,
};
use ece_expiry_exporter::observation::{Failure, FailureReason, Observation, Reading};
use ece_expiry_exporter::probe::Prober;
use ece_expiry_exporter::schedule::Schedule;
use ece_expiry_exporter::time;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::coordinator::{Coordinator, Reply, answer};

/// Of probes that run into it.
pub const DEADLINE: Duration = Duration::from_millis(300);
/// Of probes that must not run into it, on whatever machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// `marc:8e2f6fd669fd400d947f27187eb91fab:` and a secret part.
const KEY: &str =
    "bWFyYzo4ZTJmNmZkNjY5ZmQ0MDBkOTQ3ZjI3MTg3ZWI5MWZhYjpOQktHY05jclE0cTBzcUlnTXg3QTd3";
const KEY_ID: &str = "8e2f6fd669fd400d947f27187eb91fab";

fn policy() -> Arc<Policy> {
    let step = Step { before: Duration::from_secs(3600), severity: Severity::Critical };
    Arc::new(Policy {
        steps: vec![step],
        never_expires: None,
        failures_before_alert: 3,
        repeat: Repeat::default(),
        reminders: Vec::new(),
        escalations: Vec::new(),
    })
}

/// A platform with these coordinators.
pub fn platform(urls: &[String]) -> Platform {
    Platform {
        flavor: Flavor::Ece,
        name: "prod".into(),
        urls: urls.to_vec(),
        tls: TlsConfig::default(),
        proxy_url: None,
        max_concurrent_probes: 4,
        http_headers: Vec::new(),
        credentials: Vec::new(),
        policy: policy(),
        receivers: Vec::new(),
    }
}

/// A credential whose key is in a file of `dir`.
pub fn credential(dir: &TempDir) -> Credential {
    let path = dir.path().join("key");
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    Credential {
        id: CredentialId { platform: "prod".into(), name: "terraform".into() },
        kind: CredentialKind::ApiKey(SecretSource::File(path)),
        schedule: Schedule::Every(Duration::from_secs(900)),
        policy: policy(),
        team: None,
        used_by: Vec::new(),
        renewal_note: None,
        labels: BTreeMap::new(),
        receivers: Vec::new(),
    }
}

/// The header line that tells the expiry.
pub fn expires(at: &str) -> String {
    format!("x-elastic-api-key-expiration: {at}")
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

const IN_2027: &str = "2027-02-21T09:15:30.123Z";

fn told() -> Reading {
    Reading::ExpiresAt(utc(IN_2027))
}

fn tells(_: &str) -> Reply {
    answer("200 OK", &["content-type: application/json", &expires(IN_2027)], "{}")
}

async fn probe_of(urls: &[String]) -> Observation {
    probe_within(PATIENCE, urls).await
}

async fn probe_within(deadline: Duration, urls: &[String]) -> Observation {
    let dir = TempDir::new().unwrap();
    let prober = Prober::new(&platform(urls), deadline).unwrap();
    let observation = prober.probe(&credential(&dir), time::now).await;
    assert!(!format!("{observation:?}").contains(KEY), "{observation:?}");
    observation
}

/// One probe of a coordinator that replies so.
async fn probe(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Observation {
    probe_of(&[Coordinator::http(reply).await.http_url()]).await
}

/// Asserts a failure of this kind and returns its sentence.
fn failed(observation: Observation, reason: FailureReason) -> String {
    let failure = observation.result.unwrap_err();
    assert_eq!(failure.reason, reason, "{}", failure.message);
    assert!((20..=512).contains(&failure.message.len()), "{}", failure.message);
    failure.message
}

fn assert_holds(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[tokio::test]
async fn the_expiry_is_read_from_the_header() {
    let ece = Coordinator::http(tells).await;
    let observation = probe_of(&[ece.http_url()]).await;
    assert_eq!(observation.result, Ok(told()));
    assert_eq!(observation.http_status, Some(200));
    assert_eq!(observation.key_id.as_deref(), Some(KEY_ID));
    assert_eq!(observation.clock_skew, None);
    let requests = ece.requests();
    assert_eq!(requests.len(), 1);
    assert_holds(
        &requests[0],
        &[
            "GET /api/v1/user HTTP/1.1\r\n",
            &format!("authorization: ApiKey {KEY}\r\n"),
            "user-agent: ece-expiry-exporter/",
        ],
    );
}

#[tokio::test]
async fn the_skew_is_this_clock_minus_the_date_of_the_answer() {
    let reply = |_: &str| {
        let server = time::now() - TimeDelta::hours(1);
        let date = format!("date: {}", server.format("%a, %d %b %Y %T GMT"));
        answer("200 OK", &[&date, &expires(IN_2027)], "{}")
    };
    let skew = probe(reply).await.clock_skew.unwrap();
    assert!((TimeDelta::minutes(59)..TimeDelta::minutes(61)).contains(&skew), "{skew}");
}

#[tokio::test]
async fn a_base_path_and_extra_headers_are_sent() {
    let ece = Coordinator::http(tells).await;
    let mut platform = platform(&[format!("{}/ece", ece.http_url())]);
    platform.http_headers = vec![("X-Gateway".to_owned(), "open sesame".to_owned())];
    let dir = TempDir::new().unwrap();
    let prober = Prober::new(&platform, PATIENCE).unwrap();
    assert_eq!(prober.probe(&credential(&dir), time::now).await.result, Ok(told()));
    assert_holds(&ece.requests()[0], &["GET /ece/api/v1/user ", "x-gateway: open sesame\r\n"]);
}

/// Tells no expiry, but has this list of keys.
fn lists(keys: &'static str) -> impl Fn(&str) -> Reply + Send + Sync + 'static {
    move |request| {
        let json = "content-type: application/json";
        let is_list = request.starts_with("GET /api/v1/users/auth/keys ");
        answer("200 OK", &[json], if is_list { keys } else { "{}" })
    }
}

#[tokio::test]
async fn a_key_that_never_expires_is_found_in_the_list() {
    let list = r#"{"keys":[
        {"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","description":"x","creation_date":"2026-01-01T00:00:00Z",
         "expiration_date":"2027-01-01T00:00:00Z"},
        {"id":"8e2f6fd669fd400d947f27187eb91fab","description":"y","creation_date":"2026-01-01T00:00:00Z"}]}"#;
    let observation = probe(lists(list)).await;
    assert_eq!(observation.result, Ok(Reading::Never));
    assert_eq!(observation.key_id.as_deref(), Some(KEY_ID));
    assert_eq!(observation.http_status, Some(200));
}

#[tokio::test]
async fn a_stripped_header_is_replaced_by_the_list() {
    let list = r#"{"keys":[{"id":"8e2f6fd669fd400d947f27187eb91fab","description":"y",
        "creation_date":"2026-01-01T00:00:00Z","expiration_date":"2027-02-21T09:15:30.123Z"}]}"#;
    assert_eq!(probe(lists(list)).await.result, Ok(told()));
}

#[tokio::test]
async fn without_header_and_list_the_sentence_says_what_to_look_at() {
    let none = probe(lists(r#"{"keys":[]}"#)).await;
    let message = failed(none, FailureReason::HeaderMissing);
    assert_holds(&message, &["does not hold this one", "proxy strips the header", "3.7"]);

    let garbage = failed(probe(lists("<html>")).await, FailureReason::HeaderMissing);
    assert_holds(&garbage, &["not the expected JSON"]);

    let forbidden = probe(|request| {
        let is_list = request.contains("/auth/keys ");
        answer(if is_list { "403 Forbidden" } else { "200 OK" }, &[], "{}")
    });
    assert_holds(
        &failed(forbidden.await, FailureReason::HeaderMissing),
        &["may not list its owner's keys"],
    );
}

#[tokio::test]
async fn a_header_that_is_no_date_is_a_state_of_its_own() {
    let garbage = |_: &str| answer("200 OK", &[&expires("soon")], "{}");
    failed(probe(garbage).await, FailureReason::HeaderInvalid);
}

#[tokio::test]
async fn a_header_that_is_no_date_is_looked_up_in_the_list_of_keys() {
    let reply = |request: &str| {
        if !request.contains("/users/auth/keys") {
            return answer("200 OK", &[&expires("soon")], "{}");
        }
        let key = format!(r#"{{"id":"{KEY_ID}","expiration_date":"2026-12-24T00:00:00Z"}}"#);
        answer("200 OK", &[], &format!(r#"{{"keys":[{key}]}}"#))
    };
    let observation = probe(reply).await;
    assert_eq!(observation.result, Ok(Reading::ExpiresAt(utc("2026-12-24T00:00:00Z"))));
    assert_eq!(observation.key_id.as_deref(), Some(KEY_ID));
}

#[tokio::test]
async fn a_login_page_is_not_taken_for_ece() {
    let page = |_: &str| answer("200 OK", &["content-type: text/html"], "<html>log in</html>");
    failed(probe(page).await, FailureReason::UnexpectedStatus);
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let elsewhere = Coordinator::http(tells).await;
    let target = format!("location: {}/api/v1/user", elsewhere.http_url());
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
        let target = target.clone();
        let observation = probe(move |_| answer(status, &[&target], "")).await;
        failed(observation, FailureReason::Redirect);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn statuses_and_codes_become_reasons() {
    let cases = [
        (
            "401 Unauthorized",
            "x-cloud-error-codes: root.unauthenticated",
            FailureReason::Unauthorized,
        ),
        ("403 Forbidden", "x-cloud-error-codes: root.unauthorized.rbac", FailureReason::Forbidden),
        ("404 Not Found", "a: b", FailureReason::NotFound),
        ("429 Too Many Requests", "a: b", FailureReason::RateLimited),
        ("500 Internal Server Error", "a: b", FailureReason::ServerError),
        (
            "501 Not Implemented",
            "x-cloud-error-codes: authc.no_authentication_cluster",
            FailureReason::ServerError,
        ),
        ("502 Bad Gateway", "content-type: text/html", FailureReason::ServerError),
        ("418 I'm a teapot", "a: b", FailureReason::UnexpectedStatus),
    ];
    for (status, header, reason) in cases {
        let observation = probe(move |_| answer(status, &[header], "{}")).await;
        assert_eq!(observation.http_status, status[..3].parse().ok());
        failed(observation, reason);
    }
}

#[tokio::test]
async fn a_forbidden_key_still_tells_its_expiry() {
    let reply = |_: &str| answer("403 Forbidden", &[&expires(IN_2027)], "{}");
    let failure = probe(reply).await.result.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Forbidden);
    assert_eq!(failure.reading, Some(told()));
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let ece = Coordinator::http(|_| Reply::Silence).await;
    let observation = probe_within(DEADLINE, &[ece.http_url()]).await;
    assert!((DEADLINE..PATIENCE).contains(&observation.took), "{observation:?}");
    let message = failed(observation, FailureReason::Timeout);
    assert_holds(&message, &["did not answer within", "probe_timeout"]);
}

#[tokio::test]
async fn a_body_that_stalls_ends_at_the_deadline() {
    let stall = |_: &str| {
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n{}\r\n\r\n{{", expires(IN_2027));
        Reply::Send(head.into_bytes())
    };
    let ece = Coordinator::http(stall).await;
    failed(probe_within(DEADLINE, &[ece.http_url()]).await, FailureReason::Timeout);
}

#[tokio::test]
async fn answers_that_break_off_are_protocol_failures() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{";
    failed(probe(|_| Reply::SendAndReset(Vec::new())).await, FailureReason::Protocol);
    failed(probe(|_| Reply::SendAndClose(Vec::new())).await, FailureReason::Protocol);
    failed(probe(|_| Reply::SendAndClose(b"HTTP/1.1 200".to_vec())).await, FailureReason::Protocol);
    failed(probe(move |_| Reply::SendAndClose(head.into())).await, FailureReason::Protocol);
    failed(probe(move |_| Reply::SendAndReset(head.into())).await, FailureReason::Protocol);
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_failure() {
    let message = failed(
        probe(|_| Reply::SendAndClose(b"220 mail.example.org ESMTP\r\n".to_vec())).await,
        FailureReason::Protocol,
    );
    assert_holds(&message, &["something else than HTTP", "scheme and port"]);
}

#[tokio::test]
async fn a_large_answer_is_given_up_whether_or_not_its_length_is_told() {
    let body = "x".repeat(10 * 1024 * 1024);
    let told = probe({
        let body = body.clone();
        move |_| answer("200 OK", &[], &body)
    });
    let message = failed(told.await, FailureReason::Protocol);
    assert_holds(&message, &["more than 1 MiB"]);

    let untold =
        probe(move |_| Reply::SendAndClose(format!("HTTP/1.1 200 OK\r\n\r\n{body}").into()));
    let message = failed(untold.await, FailureReason::Protocol);
    assert_holds(&message, &["more than 1 MiB"]);
}

#[tokio::test]
async fn a_large_header_does_no_harm() {
    let reply = |_: &str| answer("200 OK", &[&expires(&"9".repeat(64 * 1024))], "{}");
    failed(probe(reply).await, FailureReason::HeaderInvalid);
    let endless = |_: &str| answer("200 OK", &[&expires(&"9".repeat(4 * 1024 * 1024))], "{}");
    failed(probe(endless).await, FailureReason::Protocol);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told() {
    let observation = probe_within(DEADLINE, &["http://ece.invalid:12400".to_owned()]).await;
    // A resolver that does not answer at all is as likely as one that says no.
    match &observation.result {
        Err(Failure { reason: FailureReason::Dns, message, .. }) => {
            assert_holds(message, &["ece.invalid:12400", "does not resolve", "DNS"]);
        }
        Err(Failure { reason: FailureReason::Timeout, message, .. }) => {
            assert_holds(message, &["ece.invalid:12400"]);
        }
        _ => panic!("{observation:?}"),
    }
}

/// A URL of this machine where nobody listens.
async fn deserted() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_refused_connection_is_told() {
    let message = failed(probe_of(&[deserted().await]).await, FailureReason::Connect);
    assert_holds(&message, &["refused the connection", "12443"]);
}

#[tokio::test]
async fn the_next_coordinator_answers_for_one_that_is_in_trouble() {
    let second = Coordinator::http(tells).await;
    assert_eq!(probe_of(&[deserted().await, second.http_url()]).await.result, Ok(told()));

    let silent = Coordinator::http(|_| Reply::Silence).await;
    let urls = [silent.http_url(), second.http_url()];
    assert_eq!(probe_within(DEADLINE * 5, &urls).await.result, Ok(told()));

    let broken = Coordinator::http(|_| answer("502 Bad Gateway", &[], "")).await;
    assert_eq!(probe_of(&[broken.http_url(), second.http_url()]).await.result, Ok(told()));

    let stripping = Coordinator::http(lists(r#"{"keys":[]}"#)).await;
    assert_eq!(probe_of(&[stripping.http_url(), second.http_url()]).await.result, Ok(told()));
}

#[tokio::test]
async fn the_next_coordinator_is_not_asked_what_the_first_has_answered() {
    let second = Coordinator::http(tells).await;
    let first = Coordinator::http(|_| answer("401 Unauthorized", &[], "{}")).await;
    let observation = probe_of(&[first.http_url(), second.http_url()]).await;
    failed(observation, FailureReason::Unauthorized);
    assert_eq!(second.connections(), 0);
}

#[tokio::test]
async fn a_coordinator_that_failed_is_asked_last_for_a_minute() {
    let first = Coordinator::http(|_| answer("503 Service Unavailable", &[], "")).await;
    let second = Coordinator::http(tells).await;
    let dir = TempDir::new().unwrap();
    let credential = credential(&dir);
    let platform = platform(&[first.http_url(), second.http_url()]);
    let prober = Prober::new(&platform, PATIENCE).unwrap();
    for _ in 0..3 {
        assert_eq!(prober.probe(&credential, time::now).await.result, Ok(told()));
    }
    assert_eq!(first.requests().len(), 1);
    let later = || time::now() + TimeDelta::seconds(61);
    assert_eq!(prober.probe(&credential, later).await.result, Ok(told()));
    assert_eq!(first.requests().len(), 2);
}

#[tokio::test]
async fn when_all_coordinators_fail_each_is_named() {
    let broken = Coordinator::http(|_| answer("500 Internal Server Error", &[], "")).await;
    let (first, second) = (deserted().await, broken.http_url());
    let observation = probe_of(&[first.clone(), second.clone()]).await;
    assert_eq!(observation.http_status, Some(500));
    let message = failed(observation, FailureReason::ServerError);
    let host = |url: &str| url.trim_start_matches("http://").to_owned();
    assert_holds(
        &message,
        &[&format!("{} (connect)", host(&first)), &format!("{} (server_error)", host(&second))],
    );
}

#[tokio::test]
async fn twenty_probes_share_one_connection() {
    let ece = Coordinator::http(tells).await;
    let dir = TempDir::new().unwrap();
    let credential = credential(&dir);
    let prober = Prober::new(&platform(&[ece.http_url()]), PATIENCE).unwrap();
    for _ in 0..20 {
        assert_eq!(prober.probe(&credential, time::now).await.result, Ok(told()));
    }
    assert_eq!((ece.requests().len(), ece.connections()), (20, 1));
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let count = AtomicUsize::new(0);
    let ece = Coordinator::http(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 => match tells(request) {
            Reply::Send(bytes) => Reply::SendAndClose(bytes),
            other => other,
        },
        _ => tells(request),
    })
    .await;
    let dir = TempDir::new().unwrap();
    let credential = credential(&dir);
    let prober = Prober::new(&platform(&[ece.http_url()]), PATIENCE).unwrap();
    for _ in 0..2 {
        assert_eq!(prober.probe(&credential, time::now).await.result, Ok(told()));
    }
    assert_eq!(ece.connections(), 2);
}

#[tokio::test]
async fn the_key_is_read_again_before_each_probe() {
    let ece = Coordinator::http(tells).await;
    let dir = TempDir::new().unwrap();
    let credential = credential(&dir);
    let path = dir.path().join("key");
    let prober = Prober::new(&platform(&[ece.http_url()]), PATIENCE).unwrap();
    prober.probe(&credential, time::now).await;
    std::fs::write(&path, "another-key").unwrap();
    let opaque = prober.probe(&credential, time::now).await;
    assert_eq!((opaque.result, opaque.key_id), (Ok(told()), None));
    assert_holds(&ece.requests()[1], &["authorization: ApiKey another-key\r\n"]);

    std::fs::remove_file(&path).unwrap();
    let message =
        failed(prober.probe(&credential, time::now).await, FailureReason::SecretUnreadable);
    assert_holds(&message, &["cannot read", path.to_str().unwrap(), "next probe"]);
    assert_eq!(ece.requests().len(), 2);
}

#[tokio::test]
async fn a_secret_that_is_no_key_is_not_sent_and_not_shown() {
    let ece = Coordinator::http(tells).await;
    let dir = TempDir::new().unwrap();
    let credential = credential(&dir);
    let prober = Prober::new(&platform(&[ece.http_url()]), PATIENCE).unwrap();
    for secret in ["two\nlines", "ApiKey twolines", "bell\u{7}twolines", "twolinesé", "two\0lines"]
    {
        std::fs::write(dir.path().join("key"), secret).unwrap();
        let observation = prober.probe(&credential, time::now).await;
        assert!(!format!("{observation:?}").contains("lines"), "{observation:?}");
        let message = failed(observation, FailureReason::SecretUnreadable);
        assert_holds(&message, &["write the key alone"]);
    }
    assert_eq!(ece.connections(), 0);
}

#[tokio::test]
async fn a_configured_proxy_is_used_and_its_password_is_not_shown() {
    let proxy = Coordinator::http(tells).await;
    let mut platform = platform(&["http://ece.invalid:12400".to_owned()]);
    platform.proxy_url = Some(format!("http://user:hunter2@{}", proxy.addr));
    let dir = TempDir::new().unwrap();
    let prober = Prober::new(&platform, PATIENCE).unwrap();
    assert_eq!(prober.probe(&credential(&dir), time::now).await.result, Ok(told()));
    assert_holds(&proxy.requests()[0], &["GET http://ece.invalid:12400/api/v1/user "]);

    platform.proxy_url = Some(deserted().await.replace("http://", "http://user:hunter2@"));
    let prober = Prober::new(&platform, PATIENCE).unwrap();
    let message = failed(prober.probe(&credential(&dir), time::now).await, FailureReason::Connect);
    assert_holds(&message, &["ece.invalid:12400", "through the proxy 127.0.0.1:"]);
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "probe::the_expiry_is_read_from_the_header"])
        .envs(["HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|name| (name, "http://127.0.0.1:1")))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
fn what_cannot_be_used_is_said_when_the_prober_is_made() {
    let base = || platform(&["http://127.0.0.1:1".to_owned()]);
    let mut header = base();
    header.http_headers = vec![("X Y".to_owned(), "z".to_owned())];
    let mut proxy = base();
    proxy.proxy_url = Some("hunter2".to_owned());
    let url = platform(&["::".to_owned()]);
    let cases = [
        (header, "http_headers: X Y"),
        (proxy, "proxy_url is not a URL"),
        (url, "cannot be used as a URL"),
        (platform(&[]), "platform prod has no URL"),
    ];
    for (platform, expected) in cases {
        let error = format!("{:#}", Prober::new(&platform, PATIENCE).err().unwrap());
        assert!(error.contains(expected), "{expected:?} is missing in: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
