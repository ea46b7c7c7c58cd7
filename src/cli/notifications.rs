//! `notifications`: who was told what, when, and what the server answered; and sending again what was given up.
//!
//! It reads the store beside a running exporter and disturbs nobody. Sending again is one short write; the exporter
//! sends, never this command.

mod letter;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{ConfigFlag, say};
use crate::config::Config;
use crate::notify::text::plain;
use crate::status::{Fact, Notification, Stage};
use crate::store::{Access, History, RESEND_MAX, Resent};
use crate::time;
use crate::web::notification::{Addresses, Filter, NotificationRow, csv};

/// Characters of a line that tells of attempts; `show` tells all.
const LINE_CHARS_MAX: usize = 150;

/// `notifications` and what follows it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Notifications {
    #[command(subcommand)]
    command: Option<Command>,
    /// Without a command, those of `list`.
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List who was told what, newest first (what happens without a command)
    List(List),
    /// Show everything about one notification: what it tells, every attempt, and the message itself
    Show {
        /// `msg_…` or `owed_…`, as `list` shows it
        id: String,
        #[command(flatten)]
        place: Place,
    },
    /// Send again what was given up: the same message under the same id
    Resend {
        /// Which one
        #[arg(required_unless_present = "all_dead", conflicts_with = "all_dead")]
        id: Option<String>,
        /// All that were given up
        #[arg(long)]
        all_dead: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
struct List {
    /// Only those to this receiver
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    receiver: String,
    /// Only those through this kind of channel: email, webhook, …
    #[arg(long, value_name = "KIND", default_value = "", hide_default_value = true)]
    integration: String,
    /// Only those in this state: dead, pending, waiting, silenced, muted, delivered, superseded
    #[arg(long, default_value = "", hide_default_value = true)]
    state: String,
    /// Only those about this platform and everything on it, or about this credential
    #[arg(
        long,
        value_name = "PLATFORM[/CREDENTIAL]",
        default_value = "",
        hide_default_value = true
    )]
    credential: String,
    /// Only those from then on: 2026-11-24T05:00:00Z, 2026-11-24, or how long ago: 7d
    #[arg(long, value_name = "TIME", default_value = "", hide_default_value = true)]
    since: String,
    /// Only those before then
    #[arg(long, value_name = "TIME", default_value = "", hide_default_value = true)]
    until: String,
    /// How many, the newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// How to print them
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Where the store is.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The folder of the store (default: as in the configuration)
    #[arg(long = "storage.path", value_name = "FOLDER")]
    storage_path: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFlag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs: the rows of the API, with whole addresses
    Json,
    /// For spreadsheets: a row for each fact
    Csv,
}

impl Place {
    /// The folder that is named, and the configuration.
    pub(super) fn look(self) -> (Option<PathBuf>, anyhow::Result<Config>) {
        let config = self.config.source().load().map_err(anyhow::Error::from);
        (self.storage_path, config)
    }

    fn folder(self) -> anyhow::Result<PathBuf> {
        match self.storage_path {
            Some(folder) => Ok(folder),
            None => Ok(self
                .config
                .source()
                .load()
                .context("cannot see where the store is; correct the configuration or name the folder with --storage.path")?
                .storage_path),
        }
    }

    fn ledger(self, access: Access) -> anyhow::Result<(History, PathBuf)> {
        let folder = self.folder()?;
        Ok((History::open(&folder, access)?, folder))
    }
}

pub(super) fn run(it: Notifications) -> anyhow::Result<ExitCode> {
    let now = time::now();
    match it.command.unwrap_or(Command::List(it.list)) {
        Command::List(it) => list(it, now),
        Command::Show { id, place } => show(&id, place, now),
        Command::Resend { id: Some(id), place, .. } => resend(&id, place, now),
        Command::Resend { id: None, place, .. } => resend_all(place, now),
    }
}

fn list(it: List, now: DateTime<Utc>) -> anyhow::Result<ExitCode> {
    let List { receiver, integration, state, credential, since, until, limit, output, place } = it;
    let filter = Filter { receiver, integration, state, credential, since, until };
    let wanted = filter.wanted(now).map_err(anyhow::Error::msg)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (ledger, folder) = place.ledger(Access::Read)?;
    let found = ledger
        .newest(&wanted, limit)
        .with_context(|| format!("cannot read the ledger in {}", folder.display()))?;
    say(&match output {
        Output::Table => table(&found, limit, now),
        Output::Csv => csv(&found, Addresses::Whole),
        Output::Json => {
            let rows = found.iter().map(|it| NotificationRow::new(it, Addresses::Whole));
            let notifications: Vec<_> = rows.collect();
            serde_json::to_string_pretty(&Rows { notifications })? + "\n"
        }
    })
}

/// What `--output json` prints; fields are only ever added.
#[derive(Debug, Serialize)]
struct Rows<'a> {
    notifications: Vec<NotificationRow<'a>>,
}

fn table(found: &[Notification], limit: usize, now: DateTime<Utc>) -> String {
    if found.is_empty() {
        return "no notification in the ledger matches\n".to_owned();
    }
    let rows: Vec<[String; 5]> = found
        .iter()
        .map(|it| {
            let (id, stage) = (it.id.clone(), it.stage.label().to_owned());
            [id, stage, it.at().format("%F %R").to_string(), to(it), about(it)]
        })
        .collect();
    let head = ["ID", "STATE", "TIME (UTC)", "TO", "ABOUT"].map(str::to_owned);
    let mut width = [0; 4];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in width.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |[id, stage, at, to, about]: &[String; 5], more: Option<String>| {
        let [a, b, c, d] = width;
        let _ = writeln!(text, "{id:<a$}  {stage:<b$}  {at:<c$}  {to:<d$}  {about}");
        if let Some(more) = more {
            let _ = writeln!(text, "    {more}");
        }
    };
    line(&head, None);
    for (row, it) in rows.iter().zip(found) {
        line(row, progress(it, now).map(|it| crate::notify::text::cut(&it, LINE_CHARS_MAX)));
    }
    if limit <= found.len() {
        let _ = writeln!(text, "\nonly the newest {limit}; --limit shows more");
    }
    if found.iter().any(|it| it.stage == Stage::Dead) {
        text.push_str(
            "\ndead ones did not reach whom they are for: remove the cause, then `notifications resend ID` or `--all-dead`\n",
        );
    }
    text
}

/// Where it goes, with the whole address.
fn to(it: &Notification) -> String {
    let target = &it.target;
    let channel = format!("{}/{}[{}]", target.receiver, target.integration.label(), target.channel);
    plain(format!("{channel} {}", target.recipient).trim_end())
}

/// What it tells, in short.
fn about(it: &Notification) -> String {
    let Some(first) = it.facts.first() else { return "told by a newer one".to_owned() };
    let more = match it.facts_total.saturating_sub(1) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    plain(&format!("{}{more}", fact(first)))
}

fn fact(it: &Fact) -> String {
    format!("{} {} {} {}", it.severity, it.alert, it.reason, it.subject)
}

/// Of what has not arrived: what was answered, and what comes next.
fn progress(it: &Notification, now: DateTime<Utc>) -> Option<String> {
    let tried = match it.attempts_total {
        0 => "not tried yet".to_owned(),
        1 => "after 1 attempt".to_owned(),
        more => format!("after {more} attempts"),
    };
    let answer = it.answer.as_ref().map_or(String::new(), |it| format!(": {}", plain(it)));
    let next = |what: &str| {
        it.next_at.map(|at| {
            let due = if at <= now { " (due)" } else { "" };
            format!("{what} {}{due}", at.format("%F %T UTC"))
        })
    };
    match it.stage {
        Stage::Delivered | Stage::Superseded => None,
        Stage::Dead => Some(format!("given up {tried}{answer}")),
        Stage::Pending => {
            let next = next("next try").unwrap_or_else(|| "being sent".to_owned());
            Some(format!("{next}, {tried}{answer}"))
        }
        Stage::Waiting => next("sent together with others"),
        Stage::Silenced => next("held back by a silence until"),
        Stage::Muted => next("held back by its route until"),
    }
}

fn show(id: &str, place: Place, now: DateTime<Utc>) -> anyhow::Result<ExitCode> {
    let (ledger, folder) = place.ledger(Access::Read)?;
    let Some((it, body)) = ledger.find(id)? else { return unknown(id, &folder) };
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let instant = |at: Option<DateTime<Utc>>| {
        at.map_or("-".to_owned(), |at| at.format("%F %T%.3f UTC").to_string())
    };
    field("id", &it.id);
    field("state", it.stage.label());
    if let Some(progress) = progress(&it, now) {
        field("", &progress);
    }
    field("to", &to(&it));
    field("owed", &instant(it.owed_at));
    field("composed", &instant(it.composed_at));
    field("finished", &instant(it.finished_at));
    if let Some(answer) = &it.answer {
        field("answer", &plain(answer));
    }
    let _ = writeln!(text, "\nWhat it tells ({}):", it.facts_total);
    for it in &it.facts {
        let _ = writeln!(text, "  {}  {}", it.at.format("%F %T UTC"), plain(&fact(it)));
        if let Some(undelivered) = &it.undelivered {
            let (target, why) = (plain(&undelivered.target), plain(&undelivered.why));
            let _ = writeln!(text, "    told here because {target} was not reached: {why}");
        }
    }
    let _ = writeln!(text, "\nAttempts ({}):", it.attempts_total);
    for it in &it.attempts {
        let (at, took) = (it.at.format("%F %T%.3f UTC"), it.took_ms);
        let _ = writeln!(
            text,
            "  {:>3}  {at}  {took:>6} ms  {:<9}  {}",
            it.number,
            it.outcome,
            plain(&it.answer)
        );
    }
    if !body.is_empty() {
        let _ = writeln!(text, "\nThe message ({} bytes):\n", body.len());
        text.push_str(&letter::readable(&body));
    }
    say(&text)
}

fn resend(id: &str, place: Place, now: DateTime<Utc>) -> anyhow::Result<ExitCode> {
    let (mut ledger, folder) = place.ledger(Access::Write)?;
    match ledger.resend(id, now).with_context(|| format!("cannot write in {}", folder.display()))? {
        Resent::Yes => say(&format!("{id} is due again. {WHO_SENDS}\n")),
        Resent::NotDead => match ledger.find(id)? {
            None => unknown(id, &folder),
            Some((it, _)) => bail!(
                "{id} is {}: only what is dead is sent again; nothing was changed",
                it.stage.label()
            ),
        },
    }
}

fn resend_all(place: Place, now: DateTime<Utc>) -> anyhow::Result<ExitCode> {
    let (mut ledger, folder) = place.ledger(Access::Write)?;
    let ids =
        ledger.resend_all(now).with_context(|| format!("cannot write in {}", folder.display()))?;
    if ids.is_empty() {
        return say("no message was given up; nothing was changed\n");
    }
    let mut text = ids.join("\n");
    let _ = writeln!(text, "\n{} due again. {WHO_SENDS}", ids.len());
    if RESEND_MAX <= ids.len() {
        let _ = writeln!(text, "Only the oldest {RESEND_MAX}; once more takes the next.");
    }
    say(&text)
}

/// What happens after a message is due again.
const WHO_SENDS: &str = "A running exporter sends within two seconds, another one at its start.";

fn unknown(id: &str, folder: &Path) -> anyhow::Result<ExitCode> {
    bail!(
        "the ledger in {} holds no `{}`; `notifications list` shows the ids",
        folder.display(),
        plain(id)
    )
}
