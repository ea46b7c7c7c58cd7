//! `probe`: one shot over the configured credentials, with the exit codes of monitoring plugins.
//!
//! Each run would be one more attempt to log in, and some lock an account after three. So a login is tried only if the
//! store of the exporter says that it was not refused the last time. Nothing is written there.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use serde::Serialize;

use super::{runtime, say};
use crate::config::{Config, Credential, CredentialId, CredentialKind, Severity, Source};
use crate::metrics::{self, Format};
use crate::observation::{Blame, Failure, FailureReason, Observation, Reading};
use crate::probe::Prober;
use crate::status::CredentialStatus;
use crate::store::{Remembered, Store};
use crate::time;

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// The text format of Prometheus, e.g. for the textfile collector.
    Prom,
}

/// The exit codes of monitoring plugins, mildest first: unknown is worse than a warning and milder than critical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warning,
    Unknown,
    Critical,
}

impl Verdict {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    fn of(credential: &Credential, observation: &Observation) -> Self {
        let severity = match &observation.result {
            Ok(Reading::Undated) => worst_listed(credential, observation),
            Ok(Reading::Never) => credential.policy.never_expires,
            Ok(Reading::ExpiresAt(at)) if *at <= observation.at => Some(Severity::Critical),
            Ok(Reading::ExpiresAt(at)) => {
                credential.policy.crossed(*at - observation.at).map(|it| it.severity)
            }
            Err(failure) => match failure.reason.blame() {
                Blame::Rejected => Some(Severity::Critical),
                Blame::Forbidden => Some(Severity::Warning),
                Blame::Platform | Blame::Credential => return Self::Unknown,
            },
        };
        match severity {
            None | Some(Severity::Info) => Self::Ok,
            Some(Severity::Warning) => Self::Warning,
            Some(Severity::Critical) => Self::Critical,
        }
    }
}

/// How bad the worst is of what a list holds; something that could not be read is a warning.
fn worst_listed(credential: &Credential, observation: &Observation) -> Option<Severity> {
    let listing = observation.listing.as_deref()?;
    let CredentialKind::Inventory(inventory) = &credential.kind else { return None };
    let severity = |reading: Option<Reading>| match reading {
        // Dead before anybody looked: nobody can be told in time.
        Some(Reading::ExpiresAt(at)) if at <= observation.at => None,
        Some(Reading::ExpiresAt(at)) => {
            inventory.policy.crossed(at - observation.at).map(|it| it.severity)
        }
        Some(Reading::Never | Reading::Undated) => None,
        None => Some(Severity::Warning),
    };
    let unread =
        (!listing.unread.is_empty() || 0 < listing.unreadable).then_some(Severity::Warning);
    listing.items.iter().filter_map(|it| severity(it.reading)).chain(unread).max()
}

/// What something without an expiry of its own showed.
fn in_words(observation: &Observation) -> String {
    let Some(listing) = &observation.listing else {
        return "works; ECE does not tell when it expires".to_owned();
    };
    let next = listing.items.iter().filter_map(|it| match it.reading {
        Some(Reading::ExpiresAt(at)) if observation.at < at => Some(at),
        _ => None,
    });
    let next = next.min().map(|at| format!(", the next expires {}", at.format("%F %R UTC")));
    let unread = (!listing.unread.is_empty())
        .then(|| format!("; {} parts of deployments could not be read", listing.unread.len()));
    let (next, unread) = (next.unwrap_or_default(), unread.unwrap_or_default());
    format!("{} listed{next}{unread}", listing.total)
}

/// One result, as `--output json` prints it; fields are only ever added.
#[derive(Debug, Serialize)]
struct Row {
    platform: String,
    credential: String,
    verdict: &'static str,
    expires_at: Option<DateTime<Utc>>,
    days_left: Option<f64>,
    never_expires: bool,
    http_status: Option<u16>,
    failure_reason: Option<&'static str>,
    error: Option<String>,
    took_seconds: f64,
}

/// Which logins are tried.
#[derive(Debug)]
pub(super) enum Logins {
    /// Those that were not refused, as the store says: the one in this folder, else the configured one.
    AsRemembered(Option<PathBuf>),
    /// All.
    Force,
}

/// What the store remembers, or why nobody knows.
type Memory = Result<Remembered, String>;

type Probed = (Arc<Credential>, Observation, Verdict);

/// Whatever keeps the command from telling is exit code 3: 1 would be a warning to a monitoring system.
pub(super) fn run(
    source: &Source,
    only: Option<&str>,
    output: Output,
    logins: &Logins,
) -> ExitCode {
    let verdict = judge(source, only, output, logins).unwrap_or_else(|error| {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "UNKNOWN: {error:#}");
        Verdict::Unknown
    });
    ExitCode::from(verdict.exit_code())
}

fn judge(
    source: &Source,
    only: Option<&str>,
    output: Output,
    logins: &Logins,
) -> anyhow::Result<Verdict> {
    let config = match source.load() {
        Ok(config) => config,
        Err(errors) => {
            say(&format!("UNKNOWN: the configuration is not valid\n{errors}\n"))?;
            return Ok(Verdict::Unknown);
        }
    };
    let probed = runtime()?.block_on(probe(&config, only, logins))?;
    let text = match output {
        Output::Table => table(&probed),
        Output::Json => {
            serde_json::to_string_pretty(&probed.iter().map(row).collect::<Vec<_>>())? + "\n"
        }
        Output::Prom => {
            let statuses =
                probed.iter().map(|(it, observation, _)| Arc::new(status(it, observation)));
            metrics::probes_only(statuses.collect(), time::now(), Format::Text)?
        }
    };
    say(&text)?;
    Ok(probed.iter().map(|(.., verdict)| *verdict).max().unwrap_or(Verdict::Unknown))
}

async fn probe(
    config: &Config,
    only: Option<&str>,
    logins: &Logins,
) -> anyhow::Result<Vec<Probed>> {
    let mut flying = tokio::task::JoinSet::new();
    let mut results = Vec::new();
    let memory = OnceCell::new();
    for platform in &config.platforms {
        let wanted = |it: &&Arc<Credential>| only.is_none_or(|only| it.id.to_string() == only);
        let credentials: Vec<Arc<Credential>> =
            platform.credentials.iter().filter(wanted).cloned().collect();
        if credentials.is_empty() {
            continue;
        }
        let prober = Arc::new(Prober::new(platform, config.global.probe_timeout)?);
        let turns = Arc::new(tokio::sync::Semaphore::new(platform.max_concurrent_probes));
        for credential in credentials {
            if let Err(failure) = logins.may_try(&credential, config, &memory) {
                let observation = Observation::of(time::now(), Err(failure));
                let verdict = Verdict::of(&credential, &observation);
                results.push((credential, observation, verdict));
                continue;
            }
            let (prober, turns) = (prober.clone(), turns.clone());
            flying.spawn(async move {
                // The semaphore is never closed.
                let _turn = turns.acquire().await;
                let mut observation = prober.probe(&credential, time::now).await;
                warn_of_lock(&credential, &mut observation);
                let verdict = Verdict::of(&credential, &observation);
                (credential, observation, verdict)
            });
        }
    }
    if flying.is_empty() && results.is_empty() {
        let known: Vec<String> =
            config.credentials().map(|(_, it)| it.id.to_string()).take(20).collect();
        bail!(
            "no credential is called {}; the configuration has: {}",
            only.unwrap_or("anything"),
            known.join(", ")
        );
    }
    results.extend(flying.join_all().await);
    results.sort_by(|(a, _, x), (b, _, y)| y.cmp(x).then_with(|| a.id.cmp(&b.id)));
    Ok(results)
}

impl Logins {
    /// Whether `credential` may be probed: an attempt that is refused counts towards the lock of its account. The store is
    /// read once, for the first login, into `memory`.
    fn may_try(
        &self,
        credential: &Credential,
        config: &Config,
        memory: &OnceCell<Memory>,
    ) -> Result<(), Failure> {
        let CredentialKind::Login { .. } = &credential.kind else { return Ok(()) };
        let Self::AsRemembered(folder) = self else { return Ok(()) };
        let folder = folder.as_ref().unwrap_or(&config.storage_path);
        let remembered = match memory.get_or_init(|| remember(folder)) {
            Ok(remembered) => remembered,
            Err(why) => return Err(unknown(why, &credential.id)),
        };
        match remembered.credentials.get(&credential.id) {
            Some(state) if 0 < state.rejections + state.refusals => {
                let reason = match state.failure {
                    Some((FailureReason::Forbidden, _)) => FailureReason::Forbidden,
                    _ => FailureReason::Unauthorized,
                };
                let when = state
                    .last_run
                    .map_or_else(String::new, |at| at.format(" (%F %R UTC)").to_string());
                let message = format!(
                    "Not tried, because ECE refused this login when the exporter tried it last{when}, and each attempt \
                     counts towards the lock of the account. Put the right password where the exporter reads it; it \
                     tries that by its schedule. `probe --force {}` makes one attempt now.",
                    credential.id
                );
                Err(Failure { reason, message, reading: None })
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn remember(folder: &Path) -> Memory {
    let place = folder.display();
    match Store::peek(folder) {
        Ok(Some(remembered)) => Ok(remembered),
        Ok(None) => Err(format!("there is no store in {place}")),
        Err(error) => Err(format!("the store in {place} cannot be read ({error:#})")),
    }
}

fn unknown(why: &str, id: &CredentialId) -> Failure {
    let message = format!(
        "Not tried: each attempt counts towards the lock of the account, and {why}, so nobody knows whether the last one \
         was refused. Run this as the user of the exporter with its --storage.path, or ask the exporter (/probe); \
         `probe --force {id}` makes one attempt now."
    );
    Failure { reason: FailureReason::Canceled, message, reading: None }
}

/// Who repeats a refused attempt is told before what it costs: nothing remembers it.
fn warn_of_lock(credential: &Credential, observation: &mut Observation) {
    let is_login = matches!(credential.kind, CredentialKind::Login { .. });
    if let (Err(failure), true) = (&mut observation.result, is_login)
        && matches!(failure.reason.blame(), Blame::Rejected | Blame::Forbidden)
    {
        failure.message += " This attempt counts towards the lock of the account: do not repeat it with the same password.";
    }
}

fn table(probed: &[Probed]) -> String {
    let rows: Vec<[String; 4]> = probed
        .iter()
        .map(|(credential, observation, verdict)| {
            let (left, what) = match &observation.result {
                Ok(Reading::Never) => ("never".to_owned(), "never expires".to_owned()),
                Ok(Reading::Undated) => ("-".to_owned(), in_words(observation)),
                Ok(Reading::ExpiresAt(at)) => {
                    (days_left(*at, observation.at), format!("expires {}", at.format("%F %R UTC")))
                }
                Err(failure) => {
                    ("?".to_owned(), format!("{}: {}", failure.reason.label(), failure.message))
                }
            };
            [verdict.label().to_owned(), credential.id.to_string(), left, what]
        })
        .collect();
    let mut width = [0; 3];
    for row in &rows {
        for (width, cell) in width.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for [verdict, id, left, what] in rows {
        let _ = writeln!(
            text,
            "{verdict:<0$}  {id:<1$}  {left:>2$}  {what}",
            width[0], width[1], width[2]
        );
    }
    text
}

fn days_left(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let left = at - now;
    match left.num_hours().abs() {
        0..48 => format!("{} h", left.num_hours()),
        _ => format!("{} d", left.num_days()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a lifetime of 2^53 seconds does not occur")]
fn row((credential, observation, verdict): &Probed) -> Row {
    let expires_at = match observation.result {
        Ok(Reading::ExpiresAt(at)) => Some(at),
        Ok(Reading::Never | Reading::Undated) | Err(_) => None,
    };
    let failure = observation.result.as_ref().err();
    Row {
        platform: credential.id.platform.to_string(),
        credential: credential.id.name.to_string(),
        verdict: verdict.label(),
        expires_at,
        days_left: expires_at.map(|at| (at - observation.at).num_seconds() as f64 / 86_400.0),
        never_expires: observation.result == Ok(Reading::Never),
        http_status: observation.http_status,
        failure_reason: failure.map(|it| it.reason.label()),
        error: failure.map(|it| it.message.clone()),
        took_seconds: observation.took.as_secs_f64(),
    }
}

fn status(credential: &Credential, observation: &Observation) -> CredentialStatus {
    let failure = observation.result.as_ref().err();
    let reading = observation.result.as_ref().ok().copied().or(failure.and_then(|it| it.reading));
    CredentialStatus {
        id: credential.id.clone(),
        kind: credential.kind.label(),
        team: credential.team.clone(),
        labels: credential.labels.clone(),
        used_by: credential.used_by.clone(),
        renewal_note: credential.renewal_note.clone(),
        policy: credential.policy.clone(),
        key_id: observation.key_id.clone(),
        reading,
        observed_at: reading.map(|_| observation.at),
        last_run: Some(observation.at),
        last_success: failure.is_none().then_some(observation.at),
        next_run: None,
        interval: credential.schedule.longest_gap(),
        took: observation.took,
        http_status: observation.http_status,
        failure: failure.map(|it| (it.reason, it.message.clone())),
        probes_total: 1,
        probe_failures_total: u64::from(failure.is_some()),
        alerts: Vec::new(),
    }
}
