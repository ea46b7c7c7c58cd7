//! `silence`: says that nobody shall be told of some alerts for a time, lists such wishes, and ends them.
//!
//! It writes the store beside a running exporter, in one short transaction; the exporter takes it up within two
//! seconds, or when it starts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};

use super::notifications::Place;
use super::say;
use crate::config::Config;
use crate::delivery::{Labelled, Silence, SilenceState, SilenceWish, read_end, read_matchers};
use crate::notify::new_silence_id;
use crate::notify::text::plain;
use crate::status::{Covered, FiringAlert, Watched, covered, suspicions};
use crate::store::{Access, Expired, History, Remembered};
use crate::time;
use crate::web::SilenceRow;

/// Alerts that are named of those that a new silence covers.
const COVERED_MAX: usize = 20;

/// `silence` and what follows it.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Tell nobody of some alerts for a time; prints the id of the silence
    Add(Box<Add>),
    /// List the silences that hold or will, those that end last first
    List {
        /// Also those that have ended
        #[arg(long)]
        expired: bool,
        /// How to print them
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
        #[command(flatten)]
        place: Place,
    },
    /// End silences now: what they held back is told
    Expire {
        /// `sil_…`, as `list` shows it
        #[arg(required = true)]
        id: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The alerts: those whose labels fit all of them, each as label="value", !=, =~ or !~; a first word without an
    /// operator is an alertname
    #[arg(value_name = "MATCHER")]
    matchers: Vec<String>,
    /// How long: 7d, 12h
    #[arg(long, short, value_name = "TIME", required_unless_present = "until")]
    duration: Option<String>,
    /// Until when, in UTC: 2026-12-01, which is the beginning of that day, or "2026-12-01 08:00"
    #[arg(long, alias = "end", value_name = "DATE", conflicts_with = "duration")]
    until: Option<String>,
    /// From when, as --until (default: now)
    #[arg(long, value_name = "DATE")]
    start: Option<String>,
    /// Who asks for it
    #[arg(
        long,
        short,
        value_name = "NAME",
        env = "USER",
        default_value = "",
        hide_default_value = true
    )]
    author: String,
    /// Why
    #[arg(long, short, value_name = "TEXT")]
    comment: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs: the rows of the API
    Json,
}

pub(super) fn run(command: Command) -> anyhow::Result<ExitCode> {
    let now = time::now();
    match command {
        Command::Add(it) => add(*it, now),
        Command::List { expired, output, place } => list(expired, output, place, now),
        Command::Expire { id, place } => expire(&id, place, now),
    }
}

fn add(it: Add, now: DateTime<Utc>) -> anyhow::Result<ExitCode> {
    let Add { matchers, duration, until, start, author, comment, place } = it;
    if author.trim().is_empty() {
        bail!("say who asks for it, with --author: there is no USER in the environment");
    }
    let starts_at = start.map(|it| read_end(&it, now)).transpose().map_err(anyhow::Error::msg)?;
    let from = starts_at.unwrap_or(now).max(now);
    let end = duration.or(until).context("say until when, with --duration or --until")?;
    let texts: Vec<String> =
        matchers.iter().enumerate().map(|(at, it)| with_alertname(at, it)).collect();
    let wish = SilenceWish {
        matchers: read_matchers(texts.iter().map(String::as_str)).map_err(anyhow::Error::msg)?,
        created_by: author,
        comment,
        starts_at,
        ends_at: read_end(&end, from).map_err(anyhow::Error::msg)?,
    };
    let silence = wish.granted(new_silence_id(now), now).map_err(anyhow::Error::msg)?;
    let (mut ledger, _, config) = open(place, Access::Write)?;
    ledger.put_silence(&silence).context("the silence is not set")?;
    // Who scripts this takes the id from standard output; nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().lock().write_all(effect(&silence, &ledger, config, now).as_bytes());
    say(&format!("{}\n", silence.id))
}

/// As amtool: `silence add ECEPlatformUnreachable …`.
fn with_alertname(at: usize, text: &str) -> String {
    if at == 0 && !text.contains(['=', '~', '!']) {
        format!("alertname={}", text.trim())
    } else {
        text.to_owned()
    }
}

/// The store, its folder, and the configuration, without which nobody knows what a silence covers.
fn open(
    place: Place,
    access: Access,
) -> anyhow::Result<(History, PathBuf, anyhow::Result<Config>)> {
    let (folder, config) = place.look();
    let folder = match (folder, &config) {
        (Some(folder), _) => folder,
        (None, Ok(config)) => config.storage_path.clone(),
        (None, Err(error)) => bail!(
            "cannot see where the store is; correct the configuration or name the folder with --storage.path: {error:#}"
        ),
    };
    Ok((History::open(&folder, access)?, folder, config))
}

/// What a silence does now, in words.
fn effect(
    silence: &Silence,
    ledger: &History,
    config: anyhow::Result<Config>,
    now: DateTime<Utc>,
) -> String {
    let known = config.and_then(|config| Ok(watched(&config, &ledger.remembered()?)));
    let watched = match known {
        Ok(watched) => watched,
        Err(error) => {
            return format!("warning: cannot see what it covers: {error:#}\n");
        }
    };
    let mut text = String::new();
    for said in suspicions(&silence.matchers, &watched) {
        let _ = writeln!(text, "warning: {}", plain(&said));
    }
    let covered = covered(&silence.matchers, &watched);
    let when = match silence.state(now) {
        SilenceState::Pending => format!("From {}", silence.starts_at.format("%F %R UTC")),
        SilenceState::Active | SilenceState::Expired => "From now on".to_owned(),
    };
    let until = silence.ends_at.format("%F %R UTC");
    let _ = match covered.len() {
        0 => writeln!(
            text,
            "{when} until {until} it silences what will fire and fits; nothing that fires now does."
        ),
        1 => writeln!(text, "{when} until {until} it silences 1 alert that fires:"),
        more => writeln!(text, "{when} until {until} it silences {more} alerts that fire:"),
    };
    for Covered { name, alert, severity } in covered.iter().take(COVERED_MAX) {
        let _ = writeln!(text, "  {} {} {}", plain(name), alert.label(), severity.label());
    }
    if COVERED_MAX < covered.len() {
        let _ = writeln!(text, "  … and {} more", covered.len() - COVERED_MAX);
    }
    text
}

/// What is watched, from what is configured and remembered.
fn watched(config: &Config, remembered: &Remembered) -> Vec<Watched> {
    let mut watched = Vec::new();
    for (platform, credential) in config.credentials() {
        let team = credential.team.as_deref().unwrap_or_default();
        let thing = Labelled {
            name: &credential.id.name,
            kind: credential.kind.label(),
            place: "",
            team,
            labels: &credential.labels,
        };
        let firing = remembered.credentials.get(&credential.id);
        let firing = firing.into_iter().flat_map(|it| it.firing().map(FiringAlert::of));
        watched.push(Watched::new(&platform.name, Some(thing), firing.collect()));
        if let Some(list) = remembered.lists.get(&credential.id) {
            let of = |it| Watched::found(&platform.name, team, &credential.labels, it);
            watched.extend(list.keys.values().map(|it| of(it)));
        }
    }
    for platform in &config.platforms {
        let firing = remembered.platforms.get(&platform.name);
        let firing = firing.into_iter().flat_map(|it| it.firing().map(FiringAlert::of));
        watched.push(Watched::new(&platform.name, None, firing.collect()));
    }
    watched
}

fn list(
    expired: bool,
    output: Output,
    place: Place,
    now: DateTime<Utc>,
) -> anyhow::Result<ExitCode> {
    let (ledger, _, config) = open(place, Access::Read)?;
    let mut silences = ledger.silences().context("cannot read the silences")?;
    silences.retain(|it| expired || it.state(now) != SilenceState::Expired);
    match output {
        Output::Json => {
            let watched = config.and_then(|it| Ok(watched(&it, &ledger.remembered()?)));
            let watched = watched.unwrap_or_default();
            let rows: Vec<_> =
                silences.iter().map(|it| SilenceRow::new(it, &watched, now)).collect();
            say(&format!("{}\n", serde_json::to_string_pretty(&rows)?))
        }
        Output::Table => say(&table(&silences, now)),
    }
}

fn table(silences: &[Silence], now: DateTime<Utc>) -> String {
    if silences.is_empty() {
        return "No silence holds: everything is told.\n".to_owned();
    }
    let mut text =
        format!("{:<30}  {:<7}  {:<20}  {:<16}  MATCHERS\n", "ID", "STATE", "ENDS", "AUTHOR");
    for it in silences {
        let matchers: Vec<String> = it.matchers.iter().map(|it| plain(&it.to_string())).collect();
        let _ = writeln!(
            text,
            "{:<30}  {:<7}  {:<20}  {:<16}  {}\n{:<30}  {}",
            it.id,
            it.state(now).label(),
            it.ends_at.format("%F %R UTC").to_string(),
            plain(&it.created_by),
            matchers.join(" "),
            "",
            plain(&it.comment)
        );
    }
    text
}

fn expire(ids: &[String], place: Place, now: DateTime<Utc>) -> anyhow::Result<ExitCode> {
    let (mut ledger, ..) = open(place, Access::Write)?;
    let mut unknown = Vec::new();
    for id in ids {
        match ledger.expire_silence(id, now).context("the silence is not ended")? {
            Expired::Yes => drop(say(&format!("{id} is ended; what it held back is told\n"))?),
            Expired::NoSuch => unknown.push(id.as_str()),
        }
    }
    if !unknown.is_empty() {
        bail!(
            "there is no silence {} that has not ended yet; `silence list` shows them",
            unknown.join(", ")
        );
    }
    Ok(ExitCode::SUCCESS)
}
