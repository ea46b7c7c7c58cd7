//! The whole pretend world as one value: a simulated ECE, a mailbox, a webhook sink, a folder with a configuration; and
//! the program in it, either step by step at a simulated time, or as the real binary.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::app;
use ece_expiry_exporter::config::Config;
use ece_expiry_exporter::metrics::Telemetry;
use ece_expiry_exporter::monitor::{Monitor, Shared};
use ece_expiry_exporter::outbox::Outbox;
use ece_expiry_exporter::sim::{
    CertificateOptions, Certificates, Clock, Ece, EceOptions, Expires, MailTls, Mailbox,
    MailboxOptions, SimKey, Sink, SinkOptions,
};
use ece_expiry_exporter::status::Board;
use ece_expiry_exporter::store::Store;
use ece_expiry_exporter::time;
use tempfile::TempDir;
use tokio::sync::Notify;

/// How long a test waits for what must happen, before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The most of an answer that a test reads; pages and metrics of a few credentials are far smaller.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

thread_local! {
    /// What time it is for the program under test; each test has a thread of its own.
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// The clock of the program under test.
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(NOW.get()).unwrap()
}

/// A pretend world.
pub struct World {
    pub dir: TempDir,
    pub ece: Ece,
    pub mailbox: Mailbox,
    pub sink: Sink,
    pub certificates: Certificates,
    pub clock: Clock,
    credentials: Vec<String>,
    /// The URLs of further coordinators, behind that of `ece`.
    pub coordinators: Vec<String>,
    pub extra: String,
    /// Further lines of the configuration's `platforms`, behind the credentials.
    pub platforms: String,
    /// Lines of the configuration's `global`.
    pub global: String,
    pub receivers: String,
    /// The value of the configuration's `route`.
    pub route: String,
}

impl World {
    pub async fn new() -> Self {
        let certificates = Certificates::make(&CertificateOptions::default()).unwrap();
        let clock = Clock::default();
        let ece = Ece::start(EceOptions {
            tls: Some(certificates.clone()),
            clock: clock.clone(),
            ..Default::default()
        })
        .await
        .unwrap();
        let mailbox = Mailbox::start(MailboxOptions {
            tls: MailTls::StartTls(certificates.clone()),
            login: Some(("ece".to_owned(), "smtp-password-CANARY".to_owned())),
            clock: clock.clone(),
            ..Default::default()
        })
        .await
        .unwrap();
        let sink =
            Sink::start(SinkOptions { clock: clock.clone(), ..Default::default() }).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let world = Self {
            receivers: format!(
                "receivers:\n  - name: ops\n    email_configs:\n      - {{to: [ops@example.org], from: ece@example.org, \
                 smarthost: \"{}\", auth_username: ece, auth_password_file: smtp-password, timeout: 2s,\n         \
                 tls_config: {{ca_file: ca.pem}}}}\n    webhook_configs:\n      - {{url_file: hook-url, \
                 signing_secret_files: [hook-secret], timeout: 2s}}\n",
                mailbox.addr()
            ),
            dir,
            ece,
            mailbox,
            sink,
            certificates,
            clock,
            credentials: Vec::new(),
            coordinators: Vec::new(),
            extra: String::new(),
            platforms: String::new(),
            global: "schedule: 1h".to_owned(),
            route: "{receiver: ops, group_wait: 0s, group_interval: 1s}".to_owned(),
        };
        world.write("ca.pem", world.certificates.ca_pem());
        world.write("smtp-password", "smtp-password-CANARY");
        world.write(
            "hook-url",
            &format!("{}/hook/url-CANARY", world.sink.url().trim_end_matches('/')),
        );
        world.write("hook-secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A new key of this name in ECE, its file, and its place in the configuration.
    pub fn add(&mut self, name: &str, expires: Expires) {
        let encoded = self.ece.add_key(SimKey::new("owner", name, expires));
        self.write(&format!("key-{name}"), &encoded);
        self.credentials.push(name.to_owned());
    }

    /// Puts a key that was forgotten back into the configuration.
    pub fn remember(&mut self, name: &str) {
        self.credentials.push(name.to_owned());
    }

    /// Takes a key out of the configuration; ECE keeps it.
    pub fn forget(&mut self, name: &str) {
        self.credentials.retain(|it| it != name);
    }

    pub fn config_text(&self) -> String {
        let urls = std::iter::once(self.ece.url()).chain(self.coordinators.iter().cloned());
        let urls: Vec<String> =
            urls.map(|it| format!("\"{}\"", it.trim_end_matches('/'))).collect();
        let mut text = format!(
            "global: {{{}}}\nplatforms:\n  - name: prod\n    urls: [{}]\n    tls_config: {{ca_file: ca.pem}}\n    \
             credentials:\n",
            self.global,
            urls.join(", ")
        );
        for name in &self.credentials {
            writeln!(text, "      - {{name: {name}, api_key_file: key-{name}, team: owners}}")
                .unwrap();
        }
        text.push_str(&self.platforms);
        text + "route: "
            + &self.route
            + "\nstorage: {path: store}\n"
            + &self.receivers
            + &self.extra
    }

    pub fn write_config(&self) -> PathBuf {
        self.write("config.yml", &self.config_text());
        self.path("config.yml")
    }

    /// Loads the configuration and opens the store, as a start of the program does.
    pub async fn start(&self) -> Program {
        let config =
            Arc::new(Config::load(&self.write_config()).unwrap_or_else(|error| panic!("{error}")));
        let telemetry = Arc::new(Telemetry::new(now()));
        let store = Store::open(&config.storage_path, now()).unwrap().store;
        let shared = Shared {
            store: store.clone(),
            board: Arc::new(Board::default()),
            telemetry: telemetry.clone(),
            owed: Arc::new(Notify::new()),
            changed: Arc::new(Notify::new()),
            store_error: Arc::new(RwLock::new(None)),
        };
        let monitor = Monitor::new(config.clone(), shared.clone(), now()).await.unwrap();
        let origin = app::origin(&config);
        let outbox = Outbox::new(config, shared.clone(), origin, now()).await.unwrap();
        Program { monitor, outbox, shared, clock: self.clock.clone(), wake: now() }
    }

    /// Sets the time for the program and for ECE.
    pub fn set_now(&self, at: DateTime<Utc>) {
        NOW.set(at.timestamp_millis());
        self.clock.set(at);
    }
}

/// The program, driven step by step at a simulated time.
pub struct Program {
    pub monitor: Monitor,
    pub outbox: Outbox,
    pub shared: Shared,
    clock: Clock,
    /// When the outbox has something to do again.
    wake: DateTime<Utc>,
}

impl Program {
    /// One step of both loops now.
    pub async fn step(&mut self) {
        self.monitor.step(now(), now).await;
        self.wake = self.outbox.step(now(), now).await.unwrap();
    }

    /// Lets simulated time pass, stopping wherever a loop has something to do, at least every `every`.
    pub async fn pass(&mut self, span: TimeDelta, every: TimeDelta) {
        let end = now() + span;
        while now() < end {
            let wake = self
                .monitor
                .next_wake(now())
                .min(self.wake)
                .min(now() + every)
                .max(now() + TimeDelta::seconds(1))
                .min(end);
            NOW.set(wake.timestamp_millis());
            self.clock.set(wake);
            self.step().await;
        }
    }

    /// Ends the program as a kill would: nothing is finished, the store closes.
    pub async fn stop(self) {
        let Self { monitor, outbox, shared, .. } = self;
        drop((monitor, outbox));
        let store = shared.store.clone();
        drop(shared);
        store.close().await;
    }
}

/// The real binary in the world.
pub struct Binary {
    child: Child,
    pub url: String,
    log: PathBuf,
    /// How much of the log is of earlier starts.
    log_before: usize,
}

impl Binary {
    /// Starts `serve` and waits until it listens.
    pub async fn serve(world: &World, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let binary = Self::spawn(world, flags, env);
        binary.listening().await
    }

    pub fn spawn(world: &World, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_ece-expiry-exporter"));
        Self::spawn_as(program, world, flags, env)
    }

    /// Starts `serve` where no file can be longer than so many KiB, and waits until it listens.
    pub async fn serve_on_full_disk(world: &World, file_kib_max: u32) -> Self {
        let mut program = Command::new("bash");
        let limits = format!("trap '' XFSZ; ulimit -f {file_kib_max}; exec \"$0\" \"$@\"");
        program.args(["-c", &limits, env!("CARGO_BIN_EXE_ece-expiry-exporter")]);
        Self::spawn_as(program, world, &[], &[]).listening().await
    }

    fn spawn_as(mut program: Command, world: &World, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let config = world.write_config();
        let log = world.path("log");
        let log_before = std::fs::read(&log).map_or(0, |text| text.len());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = program
            .arg(format!("--config.file={}", config.display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.level=debug"])
            .args(flags)
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, url: String::new(), log, log_before }
    }

    async fn listening(mut self) -> Self {
        let mark = "listening on address=";
        let text = wait("the program to listen", || {
            let text = self.log_text();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the program ended, {status}:\n{text}");
            }
            text.rfind(mark)
                .filter(|_| text.ends_with('\n'))
                .map(|at| text[at + mark.len()..].to_owned())
        })
        .await;
        let address: String =
            text.chars().take_while(|it| !it.is_whitespace() && *it != '"').collect();
        self.url = format!("http://{address}");
        self
    }

    /// What this start has logged.
    pub fn log_text(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[self.log_before..]).into_owned()
    }

    /// Probes a credential of the platform `prod` now; its metrics.
    pub async fn probe(&self, credential: &str) -> String {
        let path = format!("/probe?platform=prod&credential={credential}&debug=true");
        let (status, text) = fetch(&format!("{}{path}", self.url)).await;
        assert_eq!(status, 200, "{text}");
        text
    }

    pub async fn reload(&self) -> (u16, String) {
        request(reqwest::Method::POST, &format!("{}/-/reload", self.url)).await
    }

    pub async fn get(&self, path: &str) -> String {
        fetch(&format!("{}{path}", self.url)).await.1
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success(), "cannot send {name}");
    }

    /// How many notifications wait, by the metrics: one number for each kind of channel.
    pub async fn pending(&self) -> Vec<f64> {
        let metrics = self.get("/metrics").await;
        metrics
            .lines()
            .filter(|line| line.starts_with("ece_expiry_exporter_notifications_pending{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect()
    }

    /// Probes every credential of the world and waits until nothing is owed any more; then stops the program, and
    /// makes sure in its ledger.
    pub async fn rest(self, world: &World) {
        for name in &world.credentials {
            let url = format!("{}/probe?platform=prod&credential={name}", self.url);
            assert_eq!(fetch(&url).await.0, 200, "{}", self.log_text());
        }
        self.empty(world).await;
    }

    /// Waits until nothing is owed any more; then stops the program, and makes sure in its ledger.
    pub async fn empty(mut self, world: &World) {
        wait_until("every notification to be delivered", async || {
            self.get("/-/ready").await.contains("is Ready") && self.pending().await == [0.0, 0.0]
        })
        .await;
        self.signal("TERM");
        let ended = self.ended().await;
        assert_eq!(ended.code(), Some(0), "{}", self.log_text());
        let store = Store::open(&world.path("store"), time::now()).unwrap().store;
        let owed = store.backlog().await.unwrap().pending;
        assert!(owed.is_empty(), "still owed: {owed:?}");
        store.close().await;
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait("the program to end", || child.try_wait().unwrap()).await
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What random choices follow from: printed, so that a failure can be made again with `ECE_EXPIRY_SEED`.
pub fn seed() -> u64 {
    let asked = std::env::var("ECE_EXPIRY_SEED").ok();
    let seed = asked.map_or_else(|| fastrand::u64(..), |it| it.parse().unwrap());
    #[expect(clippy::print_stdout, reason = "to run a failure again")]
    {
        println!("ECE_EXPIRY_SEED={seed}");
    }
    seed
}

/// Waits until `look` sees something; looks again every few milliseconds, and fails after `PATIENCE`.
pub async fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// The same for something that has to be asked for.
pub async fn wait_until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !look().await {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// The value of a series in an exposition.
pub fn sample(exposition: &str, series: &str) -> Option<f64> {
    let value = exposition.lines().find_map(|it| it.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

/// Whether a metric in seconds says this instant.
pub fn is_at(seconds: f64, at: DateTime<Utc>) -> bool {
    (time::to_seconds(at) - seconds).abs() < 1.0
}

/// Pipes an exposition through `promtool check metrics`: exit code and what it says.
pub fn promtool(exposition: &str) -> (Option<i32>, String) {
    use std::io::Write as _;
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = tool.unwrap_or_else(|why| {
        panic!("this test needs promtool; on Debian it is in the package `prometheus`: {why}")
    });
    tool.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let out = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    (out.status.code(), said.into_owned())
}

/// All that promtool has to say of our metrics: people ask for days.
pub const PROMTOOL_LINT: (Option<i32>, &str) =
    (Some(3), "ece_credential_expiry_days use base unit \"seconds\" instead of \"days\"\n");

/// GET over plain HTTP: status and body.
pub async fn fetch(url: &str) -> (u16, String) {
    request(reqwest::Method::GET, url).await
}

pub async fn request(method: reqwest::Method, url: &str) -> (u16, String) {
    let answer = answer(client().request(method, url)).await;
    (answer.status, answer.text())
}

/// A whole answer.
pub struct Answer {
    pub status: u16,
    headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }

    pub fn text(self) -> String {
        String::from_utf8(self.body).unwrap()
    }
}

/// Sends a request and reads its answer.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let mut response = request.send().await.unwrap();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        body.extend_from_slice(&chunk);
        assert!(body.len() < BODY_BYTES_MAX, "an answer without an end");
    }
    Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(
            ece_expiry_exporter::tls::client_config(
                &ece_expiry_exporter::config::TlsConfig::default(),
            )
            .unwrap(),
        )
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Runs the binary to its end: exit code, standard output, standard error.
pub fn run(args: &[&str], dir: &Path) -> (i32, String, String) {
    run_with(args, dir, &BTreeMap::new())
}

/// As `run`, with these variables in the environment.
pub fn run_with(args: &[&str], dir: &Path, env: &BTreeMap<&str, String>) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ece-expiry-exporter"))
        .args(args)
        .current_dir(dir)
        .envs(env)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code().unwrap_or(-1), out, err)
}
