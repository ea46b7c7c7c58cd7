//! Builds, runs, reloads and stops the whole.
//!
//! Reload is: read the new file, and only if it is good stop the loops and build them anew on the same store. The loops
//! hold nothing that the store does not. The server goes on all the while.

pub mod logging;
mod systemd;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::config::{Config, Source};
use crate::heartbeat::Heart;
use crate::metrics::Telemetry;
use crate::mirror::{self, HeldByReceiver, Mirror};
use crate::monitor::{self, Monitor, ProbeRequest, Shared};
use crate::notify::heartbeat::Switch;
use crate::notify::own::OwnKey;
use crate::notify::{Origin, Sender};
use crate::outbox::{Outbox, SilenceRequest};
use crate::status::Board;
use crate::store::{Health, Ledger, Opened, Salvaged, Store};
use crate::time;
use crate::web::{self, AdminApi, BuildInfo, Lifecycle, ServeOptions, Web};

/// Requests for a probe or a reload that wait for their turn.
const REQUESTS_MAX: usize = 64;

/// How long the end of the program waits for the store to close its file.
const STORE_CLOSE_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the configuration is read.
    pub config: Source,
    /// Where to listen, e.g. `127.0.0.1:10365`; `:10365` is every interface. At least one.
    pub listen: Vec<String>,
    /// The path of the metrics.
    pub telemetry_path: String,
    /// Whether `/-/reload` works.
    pub lifecycle: Lifecycle,
    /// Whether requests may change silences.
    pub admin_api: AdminApi,
    /// Scrapes at once; beyond it 503.
    pub requests_max: usize,
    /// The folder of the store, instead of the configuration's.
    pub storage_path: Option<PathBuf>,
}

/// This machine's name, as messages give it.
pub fn instance() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// Who sends the messages of a configuration.
pub fn origin(config: &Config) -> Origin {
    Origin {
        version: env!("CARGO_PKG_VERSION"),
        instance: instance(),
        external_url: config.global.external_url.clone(),
        own_key: None,
    }
}

/// Who sends the messages of a configuration, with the key that signs links, if it wants them. What is wrong with the
/// key costs the links and nothing else.
async fn signing_origin(config: &Config, store: &Store) -> Origin {
    let origin = origin(config);
    if !config.global.own_links || origin.external_url.is_none() {
        return origin;
    }
    let key = async { OwnKey::read(&store.link_key(OwnKey::fresh()?).await?) };
    match key.await {
        Ok(key) => Origin { own_key: Some(key), ..origin },
        Err(error) => {
            tracing::error!("mails have no links to own an alert: {error:#}");
            origin
        }
    }
}

/// Serves until SIGTERM or SIGINT. `bound` is told the addresses once the program listens.
///
/// # Errors
/// The configuration is bad, an address cannot be bound, or another process uses the store.
pub async fn serve(
    options: Options,
    telemetry: Arc<Telemetry>,
    bound: impl FnOnce(&[std::net::SocketAddr]),
) -> anyhow::Result<()> {
    let build = BuildInfo::current();
    tracing::info!(
        "starting ece-expiry-exporter version={} revision={}",
        build.version,
        build.revision
    );
    // Before anybody can know that the program runs: a signal without its handler would kill it.
    let mut signals = Signals::new()?;
    let config = Arc::new(load(&options)?);
    telemetry.config_loaded(time::now());
    let mut listeners = Vec::new();
    for address in &options.listen {
        listeners.push(bind(address).await.with_context(|| {
            format!("cannot listen on {address}; choose another --web.listen-address or stop what uses it")
        })?);
    }
    let addresses: Vec<_> = listeners.iter().filter_map(|it| it.local_addr().ok()).collect();
    let mut app = App::new(options, config.clone(), telemetry)?;
    // Before the first request: an answer without credentials would look as if none were configured.
    let loops = app.start(config).await?;
    let (stop_web, web_stop) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    for listener in listeners {
        servers.spawn(web::serve(
            listener,
            web::router(app.web.clone()),
            web_stop.clone(),
            ServeOptions::default(),
        ));
    }
    for address in &addresses {
        tracing::info!("listening on address={address}");
    }
    bound(&addresses);
    let result = app.run(loops, &mut signals).await;
    systemd::notify("STOPPING=1");
    let _ = stop_web.send(true);
    while servers.join_next().await.is_some() {}
    let App { shared: Shared { store, .. }, .. } = app;
    // Its log is folded into its file, so that a copy of the file is whole.
    if tokio::time::timeout(STORE_CLOSE_MAX, store.close()).await.is_err() {
        tracing::warn!("the store is still at work; copy store.db with its -wal file, not alone");
    }
    tracing::info!("stopped");
    result
}

/// Listens on one address. `:10365` is every interface: IPv6, which takes IPv4 too, or IPv4 alone where that is all
/// there is.
async fn bind(address: &str) -> std::io::Result<TcpListener> {
    let Some(port) = address.strip_prefix(':') else { return TcpListener::bind(address).await };
    match TcpListener::bind(format!("[::]:{port}")).await {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(format!("0.0.0.0:{port}")).await
        }
        listener => listener,
    }
}

/// What took the place of a store that was not usable.
fn in_place(Salvaged { states, pending, ledger }: Salvaged) -> String {
    if (states, pending) == (0, 0) {
        return "an empty one: firing alerts are told once more".to_owned();
    }
    let again = match ledger {
        Ledger::Whole => "",
        Ledger::Gaps => {
            "; what was told could not be read to the end, so firing alerts are told once more"
        }
    };
    format!(
        "one with the {states} states and {pending} waiting notices and messages that could be read{again}"
    )
}

/// The signals that the program obeys.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }
}

fn load(options: &Options) -> anyhow::Result<Config> {
    let mut config = options.config.load()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(path) = &options.storage_path {
        config.storage_path.clone_from(path);
    }
    Ok(config)
}

struct App {
    options: Options,
    config: Arc<Config>,
    shared: Shared,
    web: Arc<Web>,
    reloads: mpsc::Receiver<oneshot::Sender<Result<(), String>>>,
    /// Lent to the monitor while it runs.
    probes: Option<mpsc::Receiver<ProbeRequest>>,
    /// Lent to the outbox while it runs.
    silences: Option<mpsc::Receiver<SilenceRequest>>,
    /// What Alertmanagers hold while no loop tells them.
    held: HeldByReceiver,
}

/// The loops of one configuration.
struct Loops {
    stop: watch::Sender<bool>,
    monitor: tokio::task::JoinHandle<mpsc::Receiver<ProbeRequest>>,
    outbox: tokio::task::JoinHandle<mpsc::Receiver<SilenceRequest>>,
    mirror: tokio::task::JoinHandle<HeldByReceiver>,
    heart: tokio::task::JoinHandle<()>,
}

/// Why the loops are to stop or stay.
enum Next {
    Reload(Option<oneshot::Sender<Result<(), String>>>),
    Stop(&'static str),
    Dead,
}

impl App {
    fn new(
        options: Options,
        config: Arc<Config>,
        telemetry: Arc<Telemetry>,
    ) -> anyhow::Result<Self> {
        let now = time::now();
        let Opened { store, health } = Store::open(&config.storage_path, now)?;
        let store_error = match health {
            Health::Good => None,
            Health::SetAside { aside, why, salvaged } => Some(format!(
                "the store was not usable ({why}); it is set aside as {}, and {} took its place",
                aside.display(),
                in_place(salvaged)
            )),
            Health::MemoryOnly { why } => Some(format!(
                "cannot write {} ({why}); everything is kept in memory and lost at the next stop: \
                 free or repair the disk and restart",
                config.storage_path.display()
            )),
        };
        if let Some(error) = &store_error {
            tracing::error!("{error}");
            telemetry.state_write_failed();
        }
        let (reload, reloads) = mpsc::channel(REQUESTS_MAX);
        let (probe, probes) = mpsc::channel(REQUESTS_MAX);
        let (silence, silences) = mpsc::channel(REQUESTS_MAX);
        let shared = Shared {
            store,
            board: Arc::new(Board::default()),
            telemetry: telemetry.clone(),
            owed: Arc::new(Notify::new()),
            changed: Arc::new(Notify::new()),
            store_error: Arc::new(RwLock::new(store_error)),
        };
        let web = Arc::new(Web {
            board: shared.board.clone(),
            telemetry,
            config_yaml: Arc::new(RwLock::new(config.to_yaml())),
            reload,
            probe,
            silence,
            lifecycle: options.lifecycle,
            admin_api: options.admin_api,
            own_key: Arc::default(),
            telemetry_path: options.telemetry_path.clone(),
            version: BuildInfo::current(),
            started: now,
            requests_max: options.requests_max,
            config_error: Arc::new(RwLock::new(None)),
            store_error: shared.store_error.clone(),
        });
        Ok(Self {
            options,
            config,
            shared,
            web,
            reloads,
            probes: Some(probes),
            silences: Some(silences),
            held: HeldByReceiver::new(),
        })
    }

    async fn run(&mut self, mut loops: Loops, signals: &mut Signals) -> anyhow::Result<()> {
        systemd::notify("READY=1");
        let watchdog = tokio::spawn(systemd::watchdog(self.shared.telemetry.clone()));
        let result = loop {
            let next = tokio::select! {
                _ = signals.hangup.recv() => Next::Reload(None),
                Some(reply) = self.reloads.recv() => Next::Reload(Some(reply)),
                _ = signals.terminate.recv() => Next::Stop("SIGTERM"),
                _ = signals.interrupt.recv() => Next::Stop("SIGINT"),
                _ = &mut loops.monitor => Next::Dead,
                _ = &mut loops.outbox => Next::Dead,
                _ = &mut loops.mirror => Next::Dead,
                _ = &mut loops.heart => Next::Dead,
            };
            match next {
                Next::Reload(reply) => {
                    systemd::notify("RELOADING=1");
                    let (next, result) = self.reload(loops).await?;
                    loops = next;
                    if let Some(reply) = reply {
                        // The client may have gone away.
                        let _ = reply.send(result);
                    }
                    systemd::notify("READY=1");
                }
                Next::Stop(signal) => {
                    tracing::info!("received {signal}, stopping");
                    self.stop(loops).await?;
                    break Ok(());
                }
                Next::Dead => {
                    break Err(anyhow::anyhow!(
                        "a loop died; exiting so that the service manager restarts it"
                    ));
                }
            }
        };
        watchdog.abort();
        result
    }

    async fn start(&mut self, config: Arc<Config>) -> anyhow::Result<Loops> {
        let now = time::now();
        let Shared { telemetry, owed, changed, .. } = self.shared.clone();
        telemetry.set_external_url(config.global.external_url.as_deref());
        let heart = Heart::new(config.heartbeat.as_ref(), telemetry.clone())?;
        // Kept here until the loop has it: a configuration that is refused after this must not forget what fires.
        let mirror = Mirror::new(&config, origin(&config), telemetry, self.held.clone())?;
        let origin = signing_origin(&config, &self.shared.store).await;
        self.web
            .own_key
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&origin.own_key);
        let outbox = Outbox::new(config.clone(), self.shared.clone(), origin, now).await?;
        let mut monitor = Monitor::new(config, self.shared.clone(), now).await?;
        // What time alone has called for meanwhile takes the place of what still waits, before that is sent.
        monitor.tick(now).await;
        let (stop, stopped) = watch::channel(false);
        let mut probes = self.probes.take().context("the monitor that ran before did not end")?;
        let mut silences =
            self.silences.take().context("the outbox that ran before did not end")?;
        let outbox_stopped = stopped.clone();
        let outbox = tokio::spawn(async move {
            outbox.run(owed, &mut silences, outbox_stopped).await;
            silences
        });
        let (ask, asked) = mpsc::channel(1);
        let mirror = tokio::spawn(mirror.run(ask, changed, stopped.clone()));
        let heart = tokio::spawn(heart.run(stopped.clone()));
        // Probes run on one thread of their own: cheaper than many, and a large scrape does not delay them.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the monitor")?;
        let monitor = tokio::task::spawn_blocking(move || {
            runtime.block_on(monitor.run(&mut probes, asked, stopped));
            // A secret on a disk that does not answer must not hold up a reload.
            runtime.shutdown_background();
            probes
        });
        Ok(Loops { stop, monitor, outbox, mirror, heart })
    }

    async fn stop(&mut self, loops: Loops) -> anyhow::Result<()> {
        let _ = loops.stop.send(true);
        self.probes = Some(loops.monitor.await.context("the monitor died")?);
        self.held = loops.mirror.await.context("the loop that tells Alertmanagers died")?;
        loops.heart.await.context("the heartbeat died")?;
        self.silences = Some(loops.outbox.await.context("the outbox died")?);
        Ok(())
    }

    /// Reads the file anew; a bad one leaves the old one running.
    async fn reload(&mut self, loops: Loops) -> anyhow::Result<(Loops, Result<(), String>)> {
        let config = match load(&self.options) {
            Ok(config) => Arc::new(config),
            Err(error) => return Ok((loops, Err(self.refuse(&error)))),
        };
        if config.storage_path != self.config.storage_path {
            tracing::warn!("storage.path takes effect at the next start");
        }
        // What can be refused is tried before the old loops stop.
        let usable = Sender::new(config.clone())
            .and_then(|_| monitor::probers(&config).map(drop))
            .and_then(|()| mirror::replicas(&config).map(drop))
            .and_then(|()| config.heartbeat.as_ref().map(Switch::new).transpose().map(drop));
        if let Err(error) = usable {
            return Ok((loops, Err(self.refuse(&error))));
        }
        self.stop(loops).await?;
        match self.start(config.clone()).await {
            Ok(loops) => {
                self.web
                    .config_yaml
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone_from(&config.to_yaml());
                *self.web.config_error.write().unwrap_or_else(PoisonError::into_inner) = None;
                self.config = config;
                self.shared.telemetry.config_loaded(time::now());
                tracing::info!("configuration reloaded");
                Ok((loops, Ok(())))
            }
            Err(error) => {
                let refusal = self.refuse(&error);
                Ok((self.start(self.config.clone()).await?, Err(refusal)))
            }
        }
    }

    fn refuse(&self, error: &anyhow::Error) -> String {
        self.shared.telemetry.config_failed();
        let what = format!("{error:#}");
        tracing::error!("the new configuration is not used, the old one goes on: {what}");
        *self.web.config_error.write().unwrap_or_else(PoisonError::into_inner) = Some(what.clone());
        what
    }
}
