//! What the server answers, over real sockets.

mod keys;
mod notifications;
mod page;
mod runbooks;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use chrono::TimeDelta;
use ece_expiry_exporter::alert::AlertName;
use ece_expiry_exporter::config::Severity;
use ece_expiry_exporter::metrics::Telemetry;
use ece_expiry_exporter::monitor::ProbeRequest;
use ece_expiry_exporter::observation::{FailureReason, Reading};
use ece_expiry_exporter::status::{Board, Snapshot};
use ece_expiry_exporter::time;
use ece_expiry_exporter::web::{
    AdminApi, BuildInfo, Lifecycle, ReloadRequest, ServeOptions, Web, router, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::metrics::{failed, firing, platform, probed, unprobed};

/// A deadline for what should happen at once.
const SOON: Duration = Duration::from_secs(20);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// A running server, and the ends of what it asks.
struct Server {
    address: SocketAddr,
    reloads: mpsc::Receiver<ReloadRequest>,
    probes: mpsc::Receiver<ProbeRequest>,
    stop: watch::Sender<bool>,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start(snapshot: Snapshot) -> Self {
        Self::start_with(snapshot, ServeOptions::default(), |_| {}).await
    }

    async fn start_with(
        snapshot: Snapshot,
        options: ServeOptions,
        change: impl FnOnce(&mut Web),
    ) -> Self {
        let board = Arc::new(Board::new(snapshot));
        let (reload, reloads) = mpsc::channel(1);
        let (probe, probes) = mpsc::channel(8);
        let (stop, stopped) = watch::channel(false);
        let mut web = Web {
            board,
            telemetry: Arc::new(Telemetry::new(time::now())),
            config_yaml: Arc::new(RwLock::new("api_key: <secret>\n".to_owned())),
            reload,
            probe,
            silence: mpsc::channel(1).0,
            lifecycle: Lifecycle::Enabled,
            admin_api: AdminApi::Disabled,
            own_key: Arc::default(),
            telemetry_path: "/metrics".to_owned(),
            version: BuildInfo::current(),
            started: time::now(),
            requests_max: 40,
            config_error: Arc::default(),
            store_error: Arc::default(),
        };
        change(&mut web);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(serve(listener, router(Arc::new(web)), stopped, options));
        Self { address, reloads, probes, stop, served }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        let stream = send(self.address, method, path, headers).await;
        tokio::time::timeout(SOON, Answer::read(stream)).await.expect("an answer in time")
    }
}

/// HTTP/1.0, so that the end of the body is the end of the connection.
async fn send(address: SocketAddr, method: &str, path: &str, headers: &[&str]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.0");
    let head = [&[request.as_str()], headers, &["", ""]].concat().join("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

struct Answer {
    status: u16,
    /// Names in lower case; values of one name joined by commas.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    async fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let joined: &mut String = headers.entry(name.to_lowercase()).or_default();
            let comma = if joined.is_empty() { "" } else { ", " };
            *joined = format!("{joined}{comma}{value}");
        }
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn in_days(days: i64) -> Reading {
    // A minute more, so that a day is still whole when the page is rendered.
    Reading::ExpiresAt(time::now() + TimeDelta::days(days) + TimeDelta::minutes(1))
}

/// A few credentials in every state, relative to the present.
fn some() -> Snapshot {
    let mut expired = failed(
        probed("prod", "old-billing", in_days(-2)),
        FailureReason::Unauthorized,
        "ECE refuses the key (401): it expired; create a new one in the Cloud UI",
    );
    expired.alerts = vec![firing(AlertName::CredentialExpired, Severity::Critical)];
    let rows = [
        probed("prod", "valid", in_days(80)),
        probed("prod", "break-glass", Reading::Never),
        unprobed("dev", "sandbox"),
        probed("prod", "ci", in_days(5)),
        expired,
    ];
    Snapshot {
        credentials: rows.into_iter().map(Arc::new).collect(),
        platforms: vec![Arc::new(platform("prod", 4)), Arc::new(platform("dev", 1))],
        ..Snapshot::default()
    }
}

fn many(count: usize) -> Snapshot {
    let rows = (0..count).map(|at| Arc::new(probed("prod", &format!("key-{at:05}"), in_days(90))));
    Snapshot {
        credentials: rows.collect(),
        platforms: vec![Arc::new(platform("prod", count))],
        ..Snapshot::default()
    }
}

#[tokio::test]
async fn every_endpoint_answers_with_its_status_and_type() {
    let server = Server::start(some()).await;
    let table = [
        ("/", 200, HTML),
        ("/?q=prod&all=1", 200, HTML),
        ("/metrics", 200, TEXT),
        ("/-/healthy", 200, PLAIN),
        ("/config", 200, PLAIN),
        ("/api/v1/credentials", 200, JSON),
        ("/api/v1/credentials/prod/ci", 200, JSON),
        ("/api/v1/credentials/prod/nobody", 404, JSON),
        ("/api/v1/alerts", 200, JSON),
        ("/api/v1/status/buildinfo", 200, JSON),
        ("/api/v1/nothing", 404, JSON),
        ("/api", 404, JSON),
        ("/nothing", 404, PLAIN),
        ("/metrics/", 404, PLAIN),
        ("/-/quit", 404, PLAIN),
        ("/probe", 400, PLAIN),
    ];
    for (path, status, content_type) in table {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, content_type),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(content_type != PLAIN || answer.text().ends_with('\n'), "{path}");
    }
}

#[tokio::test]
async fn the_format_of_metrics_is_the_one_asked_for() {
    let server = Server::start(some()).await;
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let answer = server.ask("GET", "/metrics", &[prometheus]).await;
    assert_eq!(answer.header("content-type"), OPENMETRICS);
    assert!(answer.text().ends_with("# EOF\n"));
    let answer = server.ask("GET", "/metrics", &["Accept: */*"]).await;
    assert_eq!(answer.header("content-type"), TEXT);
    assert!(!answer.text().contains("# EOF"));
    let vary = answer.header("vary").to_lowercase();
    assert!(vary.split(", ").any(|it| it == "accept"), "{vary}");
    assert!(vary.split(", ").any(|it| it == "accept-encoding"), "{vary}");
}

#[tokio::test]
async fn metrics_answer_to_head_without_a_body_and_to_nothing_else() {
    let server = Server::start(some()).await;
    let head = server.ask("HEAD", "/metrics", &[]).await;
    assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, TEXT, 0));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = server.ask(method, "/metrics", &[]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET,HEAD"), "{method}");
        assert!(answer.text().contains(method));
    }
}

#[tokio::test]
async fn metrics_are_compressed_for_those_who_accept_it() {
    let server = Server::start(some()).await;
    let answer = server.ask("GET", "/metrics", &["Accept-Encoding: gzip"]).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut gzip = Command::new("gzip");
    let gzip = gzip.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut gzip = gzip.unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&answer.body));
    let out = gzip.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("ece_credential_expiry_known{platform=\"prod\",credential=\"ci\"} 1\n"));
}

#[tokio::test]
async fn metrics_can_be_anywhere() {
    for path in ["/", "/a/b"] {
        let options = ServeOptions::default();
        let moved = |web: &mut Web| web.telemetry_path = path.to_owned();
        let server = Server::start_with(some(), options, moved).await;
        assert_eq!(server.get(path).await.header("content-type"), TEXT, "{path}");
        assert_eq!(server.get("/metrics").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_scrape_beyond_the_limit_is_refused_until_a_slow_reader_is_done() {
    let options = ServeOptions::default();
    let server = Server::start_with(many(5_000), options, |web| web.requests_max = 1).await;
    // Megabytes: no socket buffer takes them, so the answer is under way while this one byte is read.
    let mut slow = send(server.address, "GET", "/metrics", &[]).await;
    slow.read_exact(&mut [0]).await.unwrap();
    let refused = server.get("/metrics").await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().starts_with("503: too many requests"));
    assert_eq!(server.get("/api/v1/alerts").await.status, 200, "other endpoints are not affected");
    assert_eq!(server.get("/-/healthy").await.status, 200, "nor is health");

    let read = tokio::io::copy(&mut slow, &mut tokio::io::sink()).await.unwrap();
    assert!(read > 5_000_000, "{read} bytes");
    drop(slow);
    assert_eq!(server.ask("HEAD", "/metrics", &[]).await.status, 200);
}

#[tokio::test]
async fn a_client_that_never_ends_its_headers_is_cut() {
    let options =
        ServeOptions { header_timeout: Duration::from_millis(100), ..ServeOptions::default() };
    let server = Server::start_with(some(), options, |_| {}).await;
    for start in ["", "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still connected after {start:?}");
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_connection_ends_when_it_is_too_old() {
    let options =
        ServeOptions { connection_age_max: Duration::from_millis(100), ..ServeOptions::default() };
    let server = Server::start_with(some(), options, |_| {}).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_stop() {
    let mut server = Server::start(some()).await;
    let path = "/probe?platform=prod&credential=ci";
    let waiting = send(server.address, "GET", path, &[]).await;
    let request = server.probes.recv().await.unwrap();
    server.stop.send(true).unwrap();
    request.reply.send(Arc::new(probed("prod", "ci", in_days(80)))).unwrap();
    assert_eq!(Answer::read(waiting).await.status, 200);
    tokio::time::timeout(SOON, server.served).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_keep_the_server() {
    let options =
        ServeOptions { drain_timeout: Duration::from_millis(100), ..ServeOptions::default() };
    let mut server = Server::start_with(some(), options, |_| {}).await;
    let _waiting = send(server.address, "GET", "/probe?platform=prod&credential=ci", &[]).await;
    let _never_answered = server.probes.recv().await.unwrap();
    server.stop.send(true).unwrap();
    tokio::time::timeout(SOON, server.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_probe_answers_with_the_metrics_of_that_credential_only() {
    let mut server = Server::start(some()).await;
    let monitor = tokio::spawn(async move {
        while let Some(request) = server.probes.recv().await {
            assert_eq!(request.id.to_string(), "prod/ci");
            let status = probed("prod", "ci", in_days(80));
            let status = failed(status, FailureReason::Tls, "no trust\nin the certificate");
            request.reply.send(Arc::new(status)).unwrap();
        }
    });
    let path = "/probe?platform=prod&credential=ci";
    let ask = |path: &'static str, accept: &'static str| async move {
        let stream = send(server.address, "GET", path, &[accept]).await;
        tokio::time::timeout(SOON, Answer::read(stream)).await.unwrap()
    };
    let answer = ask(path, "Accept: application/openmetrics-text").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, OPENMETRICS));
    assert!(answer.text().contains("ece_probe_success{platform=\"prod\",credential=\"ci\"} 0\n"));
    assert!(!answer.text().contains("old-billing") && !answer.text().contains("# debug"));

    let path = "/probe?platform=prod&credential=ci&debug=true";
    let answer = ask(path, "Accept: application/openmetrics-text").await;
    assert_eq!(answer.header("content-type"), TEXT);
    let debug: Vec<_> = answer.text().lines().filter(|it| it.starts_with("# debug: ")).collect();
    assert_eq!(
        debug,
        [
            "# debug: probe of prod/ci took 0.125 s",
            "# debug: ECE answered with status 401",
            "# debug: it failed, tls: no trust in the certificate",
        ]
    );
    monitor.abort();
}

#[tokio::test]
async fn only_configured_credentials_can_be_probed() {
    let mut server = Server::start(some()).await;
    for (query, status) in [
        ("", 400),
        ("?platform=prod", 400),
        ("?credential=ci", 400),
        ("?platform=prod&credential=ci&debug=maybe", 400),
        ("?platform=prod&credential=nobody", 404),
        ("?platform=https://evil.example&credential=ci", 404),
    ] {
        assert_eq!(server.get(&format!("/probe{query}")).await.status, status, "{query}");
    }
    assert!(server.probes.try_recv().is_err(), "nothing was probed");
}

#[tokio::test]
async fn a_probe_ends_before_prometheus_gives_up() {
    let server = Server::start(some()).await;
    let path = "/probe?platform=prod&credential=ci";
    let deadline = "X-Prometheus-Scrape-Timeout-Seconds: 0.6";
    // The monitor never answers.
    let answer = server.ask("GET", path, &[deadline]).await;
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("has not finished within 0.1 s"), "{}", answer.text());
}

#[tokio::test]
async fn a_probe_that_is_dropped_is_an_error() {
    let mut server = Server::start(some()).await;
    let waiting = send(server.address, "GET", "/probe?platform=prod&credential=ci", &[]).await;
    drop(server.probes.recv().await.unwrap());
    assert_eq!(Answer::read(waiting).await.status, 503);
}

#[tokio::test]
async fn a_scheduler_that_hangs_is_unhealthy() {
    let started = time::now() - TimeDelta::minutes(6);
    let options = ServeOptions::default();
    let server = Server::start_with(some(), options, |web| web.started = started).await;
    let answer = server.get("/-/healthy").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("restart the process"));

    let server = Server::start_with(some(), options, |web| {
        web.started = started;
        web.telemetry.scheduler_ticked(time::now() - TimeDelta::minutes(4));
    });
    assert_eq!(server.await.get("/-/healthy").await.text(), "ece-expiry-exporter is Healthy.\n");
}

#[tokio::test]
async fn ready_is_when_all_are_probed_or_two_minutes_have_passed() {
    let server = Server::start(some()).await;
    let answer = server.get("/-/ready").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.text(), "1 of 5 credentials have not been probed yet\n");

    let options = ServeOptions::default();
    let started = time::now() - TimeDelta::seconds(121);
    let server = Server::start_with(some(), options, |web| web.started = started).await;
    assert_eq!(server.get("/-/ready").await.text(), "ece-expiry-exporter is Ready.\n");
    let server = Server::start(many(3)).await;
    assert_eq!(server.get("/-/ready").await.status, 200);
}

#[tokio::test]
async fn a_reload_needs_a_post_and_permission() {
    let mut server = Server::start(some()).await;
    let answer = server.get("/-/reload").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST, PUT"));
    assert_eq!(answer.text(), "This endpoint requires a POST request.\n");
    assert_eq!(server.ask("DELETE", "/-/reload", &[]).await.status, 405);
    assert!(server.reloads.try_recv().is_err(), "nothing was reloaded");

    let disabled = |web: &mut Web| web.lifecycle = Lifecycle::Disabled;
    let mut server = Server::start_with(some(), ServeOptions::default(), disabled).await;
    let answer = server.ask("POST", "/-/reload", &[]).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("--web.enable-lifecycle"));
    assert!(server.reloads.try_recv().is_err(), "nothing was reloaded");
}

#[tokio::test]
async fn a_reload_tells_what_became_of_it() {
    let mut server = Server::start(some()).await;
    let waiting = send(server.address, "POST", "/-/reload", &[]).await;
    server.reloads.recv().await.unwrap().send(Ok(())).unwrap();
    assert_eq!(Answer::read(waiting).await.status, 200);

    let waiting = send(server.address, "PUT", "/-/reload", &[]).await;
    let refused = Err("line 7: unknown key `platfroms`".to_owned());
    server.reloads.recv().await.unwrap().send(refused).unwrap();
    let answer = Answer::read(waiting).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("stays in force"));
    assert!(answer.text().contains("line 7: unknown key `platfroms`"));
}

#[tokio::test]
async fn the_api_tells_what_is_known() {
    let server = Server::start(some()).await;
    let one = server.get("/api/v1/credentials/prod/old-billing").await.json();
    assert_eq!(one["status"], "success");
    let row = &one["data"];
    assert_eq!(row["name"], "old-billing");
    assert_eq!(row["expiry"]["state"], "dated");
    assert!(row["expiry"]["seconds_left"].as_i64().unwrap() < -172_000);
    assert_eq!(row["probe"]["success"], false);
    assert_eq!(row["probe"]["failure_reason"], "unauthorized");
    assert_eq!(
        row["steps"][0],
        serde_json::json!({"before_seconds": 2_592_000, "severity": "info"})
    );
    assert_eq!(row["alerts"][0]["labels"]["alertname"], "ECECredentialExpired");

    let all = server.get("/api/v1/credentials").await.json();
    let names = all["data"]["credentials"].as_array().unwrap().iter().map(|it| &it["name"]);
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["valid", "break-glass", "sandbox", "ci", "old-billing"],
        "in the order of the configuration"
    );
    let unprobed = &all["data"]["credentials"][2];
    assert_eq!(unprobed["probe"]["success"], serde_json::Value::Null);

    let alerts = server.get("/api/v1/alerts").await.json();
    let labels = serde_json::json!({
        "alertname": "ECECredentialExpired", "credential": "old-billing",
        "platform": "prod", "severity": "critical",
    });
    assert_eq!(alerts["data"]["alerts"][0]["labels"], labels);
    assert_eq!(alerts["data"]["alerts"][0]["state"], "firing");

    let missing = server.get("/api/v1/credentials/prod/nobody").await.json();
    assert_eq!((&missing["status"], &missing["errorType"]), (&"error".into(), &"not_found".into()));
    let build = server.get("/api/v1/status/buildinfo").await.json();
    assert_eq!(build["data"]["version"], env!("CARGO_PKG_VERSION"));
}
