//! The command line: Prometheus' dotted flags, and commands for one-shot jobs.
//!
//! Results go to standard output, log lines and errors to standard error. A bad configuration is exit code 1 and one
//! screen of text, never a backtrace.

mod dashboards;
mod doctor;
mod notifications;
mod notify_test;
mod plan;
mod probe;
mod rules;
mod self_test;
mod silence;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::LevelFilter;

use crate::app::logging::{self, Format};
use crate::app::{self, Options};
use crate::config::Source;
use crate::demo::Demo;
use crate::metrics::Telemetry;
use crate::self_test::ROUNDS_MAX;
use crate::time;
use crate::web::{self, AdminApi, Lifecycle};

/// Watches when credentials of Elastic Cloud Enterprise expire, shows it to Prometheus, and tells people in time.
#[derive(Debug, Parser)]
#[command(name = "ece-expiry-exporter", version, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    /// Without a command, those of `serve`.
    #[command(flatten)]
    serve: ServeFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct ServeFlags {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    web: WebFlags,
    /// Let POST /-/reload reload the configuration (SIGHUP always does)
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,
    /// Let forms and API change silences; whoever reaches the port may then
    #[arg(long = "web.enable-admin-api")]
    enable_admin_api: bool,
    /// The folder of the store, instead of the one in the configuration
    #[arg(long = "storage.path", value_name = "FOLDER")]
    storage_path: Option<PathBuf>,
    #[command(flatten)]
    log: LogFlag,
    /// How log lines look
    #[arg(long = "log.format", value_enum, default_value_t = LogFormat::Logfmt)]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
struct DemoFlags {
    #[command(flatten)]
    web: WebFlags,
    #[command(flatten)]
    log: LogFlag,
}

#[derive(Debug, Args)]
struct ConfigFlag {
    /// The configuration file [default: /etc/ece-expiry-exporter/config.yml, or, if that is missing, the one key in
    /// `EC_API_KEY` at `EC_HOST`]
    #[arg(long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct WebFlags {
    /// Where to listen; repeatable; `:10365` is every interface
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":10365")]
    listen: Vec<String>,
    /// The path of the metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = web::telemetry_path
    )]
    telemetry_path: String,
    /// Scrapes at once; beyond it 503
    #[arg(long = "web.max-requests", value_name = "N", default_value = "40", value_parser = clap::value_parser!(u16).range(1..))]
    requests_max: u16,
}

#[derive(Debug, Args)]
struct LogFlag {
    /// The least severe log lines to write
    #[arg(long = "log.level", value_enum, default_value_t = Level::Info)]
    log_level: Level,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Logfmt,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Probe, alert and serve (what happens without a command)
    Serve(ServeFlags),
    /// Run the whole product against a simulated ECE, with a mailbox and a webhook sink
    Demo(DemoFlags),
    /// Check everything about a configuration that can be known without a network
    CheckConfig {
        /// The file; without it, the one of --config.file
        #[arg(conflicts_with = "config_file")]
        file: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigFlag,
    },
    /// Probe credentials once; exit code 0 ok, 1 warning, 2 critical, 3 unknown
    Probe {
        /// Which credential; without it, all
        #[arg(value_name = "PLATFORM/CREDENTIAL")]
        credential: Option<String>,
        /// How to print the result
        #[arg(long, value_enum, default_value_t = probe::Output::Table)]
        output: probe::Output,
        /// Try logins even if the last attempt was refused or nobody knows: each attempt counts towards the lock of the
        /// account
        #[arg(long)]
        force: bool,
        /// The folder of the store, which remembers refused logins (default: as in the configuration)
        #[arg(long = "storage.path", value_name = "FOLDER")]
        storage_path: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigFlag,
    },
    /// Find out step by step why a credential cannot be watched; exit code 0 healthy, 1 something failed, 2 wrong usage
    Doctor {
        /// Which credential
        #[arg(value_name = "PLATFORM/CREDENTIAL")]
        credential: String,
        /// Write what was found, without secrets and people, to this new file
        #[arg(long, value_name = "FILE")]
        capture: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigFlag,
    },
    /// Send a marked test through every channel of a receiver and say what each answered
    NotifyTest {
        /// The receiver's name
        receiver: String,
        #[command(flatten)]
        config: ConfigFlag,
    },
    /// Prove on this machine that no alert is lost: kill this program again and again and count its messages; exit code 0
    /// if nothing was lost
    SelfTest {
        /// How often it is killed; 30 take about half a minute
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
        rounds: u32,
        /// The choices of an earlier run
        #[arg(long, value_name = "S")]
        seed: Option<u64>,
    },
    /// Show who was told what, when, and what the server answered; send again what was given up
    Notifications(Box<notifications::Notifications>),
    /// Say what fires, what comes next and who is told, by what the exporter has seen; probes nothing, tells nobody
    Plan {
        /// Which credential, or which platform with all of its; without it, all
        #[arg(value_name = "PLATFORM/CREDENTIAL")]
        subject: Option<String>,
        /// Everything until then: a date, an instant, or a time from now on such as 30d; without it, the next of each
        #[arg(long = "as-of", value_name = "DATE", value_parser = |text: &str| plan::instant(text, time::now()))]
        as_of: Option<chrono::DateTime<chrono::Utc>>,
        /// How to print the plan
        #[arg(long, value_enum, default_value_t = plan::Output::Table)]
        output: plan::Output,
        /// The folder of the store (default: as in the configuration)
        #[arg(long = "storage.path", value_name = "FOLDER")]
        storage_path: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigFlag,
    },
    /// Tell nobody of some alerts for a time, list such silences, and end them
    Silence {
        #[command(subcommand)]
        command: silence::Command,
    },
    /// Print the JSON Schema of the configuration file, for editors
    ConfigSchema,
    /// List the Grafana dashboards of this version, print one, or write all of them to a folder
    Dashboards {
        /// Which one to print; without it, they are listed
        name: Option<String>,
        /// Write all of them and provider.yml to this folder; files of these names are replaced
        #[arg(long = "output-dir", value_name = "DIR", conflicts_with = "name")]
        output_dir: Option<PathBuf>,
    },
    /// Print the rules for Prometheus: recorded series and alerts
    Rules {
        /// Their form
        #[arg(long, value_enum, default_value_t = rules::Format::Prometheus)]
        format: rules::Format,
        /// The address of a Grafana that has the dashboards; each alert then links to one
        #[arg(long, value_name = "URL", value_parser = rules::base_url)]
        grafana_url: Option<String>,
        /// The address of a place that has the runbooks, each under the name of its alert; without it, they are read
        /// from the exporter, which may be what is dead
        #[arg(long, value_name = "URL", value_parser = rules::base_url)]
        runbook_url: Option<String>,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let Cli { serve: flags, command } = Cli::parse();
    let result = match command.unwrap_or(Command::Serve(flags)) {
        Command::Serve(flags) => serve(flags),
        Command::Demo(flags) => demo(flags),
        Command::CheckConfig { file, config } => {
            check_config(&Source::new(file.or(config.config_file)))
        }
        Command::Probe { credential, output, force, storage_path, config } => {
            let logins = if force {
                probe::Logins::Force
            } else {
                probe::Logins::AsRemembered(storage_path)
            };
            Ok(probe::run(&config.source(), credential.as_deref(), output, &logins))
        }
        Command::NotifyTest { receiver, config } => notify_test::run(&config.source(), &receiver),
        Command::Notifications(it) => notifications::run(*it),
        Command::Doctor { credential, capture, config } => {
            Ok(doctor::run(&config.source(), &credential, capture.as_deref()))
        }
        Command::SelfTest { rounds, seed } => self_test::run(rounds, seed),
        Command::Plan { subject, as_of, output, storage_path, config } => {
            let until = as_of.map_or(plan::Until::Next, plan::Until::Date);
            plan::run(&config.source(), subject.as_deref(), until, output, storage_path)
        }
        Command::Silence { command } => silence::run(command),
        Command::ConfigSchema => say(&crate::config::schema()),
        Command::Dashboards { name, output_dir } => {
            dashboards::run(name.as_deref(), output_dir.as_deref())
        }
        Command::Rules { format, grafana_url, runbook_url } => {
            say(&rules::text(format, grafana_url.as_deref(), runbook_url.as_deref()))
        }
    };
    result.unwrap_or_else(|error| {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "ece-expiry-exporter: {}", screen(&error));
        ExitCode::FAILURE
    })
}

/// The most lines of an error; a terminal and the journal's last page have hardly more.
const SCREEN_LINES_MAX: usize = 30;

/// An error as one screen of text.
fn screen(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.lines().collect();
    match lines.len().checked_sub(SCREEN_LINES_MAX) {
        None | Some(0) => text,
        Some(more) => {
            let shown = lines[..SCREEN_LINES_MAX].join("\n");
            format!(
                "{shown}\n… and {more} lines more; `check-config` shows everything that is wrong"
            )
        }
    }
}

/// Prints text to standard output; a reader that went away (`| head`) is no error.
fn say(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

impl ConfigFlag {
    fn source(self) -> Source {
        Source::new(self.config_file)
    }
}

impl LogFlag {
    fn level(&self) -> LevelFilter {
        match self.log_level {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
        }
    }
}

impl WebFlags {
    fn options(
        self,
        config: Source,
        lifecycle: Lifecycle,
        admin_api: AdminApi,
        storage_path: Option<PathBuf>,
    ) -> Options {
        Options {
            config,
            listen: self.listen,
            telemetry_path: self.telemetry_path,
            lifecycle,
            admin_api,
            requests_max: usize::from(self.requests_max),
            storage_path,
        }
    }
}

fn serve(flags: ServeFlags) -> anyhow::Result<ExitCode> {
    let telemetry = Arc::new(Telemetry::new(time::now()));
    let format = match flags.log_format {
        LogFormat::Logfmt => Format::Logfmt,
        LogFormat::Json => Format::Json,
    };
    logging::start(flags.log.level(), format, telemetry.clone());
    let lifecycle = if flags.enable_lifecycle { Lifecycle::Enabled } else { Lifecycle::Disabled };
    let admin_api = if flags.enable_admin_api { AdminApi::Enabled } else { AdminApi::Disabled };
    let options =
        flags.web.options(flags.config.source(), lifecycle, admin_api, flags.storage_path);
    runtime()?.block_on(app::serve(options, telemetry, |_| {}))?;
    Ok(ExitCode::SUCCESS)
}

fn demo(flags: DemoFlags) -> anyhow::Result<ExitCode> {
    let telemetry = Arc::new(Telemetry::new(time::now()));
    logging::start(flags.log.level(), Format::Plain, telemetry.clone());
    runtime()?.block_on(async {
        // A port that the system chooses is not known before the configuration is written.
        let port = flags.web.listen.first().and_then(|it| it.rsplit(':').next()?.parse::<u16>().ok());
        let page = port.filter(|it| *it != 0).map(|it| format!("http://127.0.0.1:{it}"));
        let demo = Demo::start(time::now(), page.as_deref()).await?;
        let (config, storage) = (Source::File(demo.config_file()), demo.storage_path());
        let options = flags.web.options(config, Lifecycle::Enabled, AdminApi::Enabled, Some(storage));
        let (desk, ece) = (demo.desk_url(), demo.ece_url());
        let greet = |bound: &[std::net::SocketAddr]| {
            let port = bound.first().map_or(0, std::net::SocketAddr::port);
            let metrics = &options.telemetry_path;
            let _ = say(&format!(
                "\n  Status page   http://127.0.0.1:{port}/\n  Notifications http://127.0.0.1:{port}/notifications\n  \
                 Silences      http://127.0.0.1:{port}/silences\n  Metrics       http://127.0.0.1:{port}{metrics}\n  \
                 Mailbox       {desk}\n  Webhooks      {desk}\n  Simulated ECE {ece}\n\n  Watch: {}.\n  Stop with Ctrl-C.\n\n",
                Demo::programme()
            ));
        };
        let served = app::serve(options.clone(), telemetry, greet);
        tokio::pin!(served);
        tokio::select! {
            result = &mut served => return result,
            played = demo.play() => played?,
        }
        served.await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check_config(source: &Source) -> anyhow::Result<ExitCode> {
    match source.load() {
        Ok(config) => {
            use std::fmt::Write;
            crate::notify::check_formats(&config)?;
            let mut text = String::new();
            for warning in &config.warnings {
                let _ = writeln!(text, "warning: {warning}");
            }
            let _ = writeln!(
                text,
                "SUCCESS: {source} is valid: {} platforms, {} credentials, {} receivers",
                config.platforms.len(),
                config.credentials().count(),
                config.receivers.len()
            );
            say(&text)
        }
        Err(errors) => {
            say(&format!("{errors}\nFAILED: {source}\n"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}
