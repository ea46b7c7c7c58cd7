//! `plan`: what fires, what comes next, and who is told of it, without probing and without telling anybody.
//!
//! It reads the store beside an exporter that may be running, and lets time pass on a copy of what is remembered. So it
//! says what happens if nothing is renewed and nothing breaks. Keys of lists are not in it: there can be thousands.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clap::ValueEnum;
use serde::Serialize;

use super::say;
use crate::alert::{Event, Firing, PlatformState, Reason, State, decide, wake_at};
use crate::config::{Config, Credential, Platform, Severity, Source};
use crate::delivery::{Origin, Subject, labels, notice, ways};
use crate::schedule::parse_duration;
use crate::store::{Remembered, Store};
use crate::time;

/// The most events of one subject: daily reminders of three years.
const EVENTS_MAX: usize = 1_000;

/// The most windows that follow each other without a gap and are looked at for the end of silence.
const WINDOWS_MAX: usize = 100;

/// Time goes on by at least this much, so that no reminder is due for ever.
const STEP_MIN: TimeDelta = TimeDelta::seconds(1);

/// How far ahead is looked: certificates of authorities live ten years.
const AHEAD_MAX: TimeDelta = TimeDelta::days(3_660);

/// How the plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How far the plan goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// What fires now, and the next of each.
    Next,
    /// All until then.
    Date(DateTime<Utc>),
}

/// One row, as `--output json` prints it; fields are only ever added.
#[derive(Debug, Serialize)]
struct Row {
    at: DateTime<Utc>,
    platform: String,
    credential: Option<String>,
    alert: &'static str,
    severity: &'static str,
    /// `firing` for what fires now, else why somebody is told.
    reason: &'static str,
    step_seconds: Option<u64>,
    told: Vec<Told>,
}

impl Row {
    /// Whether it is a reminder, as `first` is, of the same, for the same people.
    fn is_again(&self, first: &Self) -> bool {
        let repeat = Reason::Repeat.label();
        (self.reason, first.reason) == (repeat, repeat)
            && (self.alert, self.severity) == (first.alert, first.severity)
            && self.told == first.told
    }
}

/// Who is told.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Told {
    receiver: String,
    /// The route that leads there, as in group keys; `receivers` and `escalate_to` are the keys that name it.
    via: String,
    /// The end of the mute windows in which it falls.
    held_until: Option<DateTime<Utc>>,
}

/// The instant that `text` names: a date, an instant as in RFC 3339, or a duration from `now` on.
pub(super) fn instant(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let date = text.parse::<NaiveDate>().ok().and_then(|it| it.and_hms_opt(0, 0, 0));
    let at = date.map(|it| it.and_utc()).or_else(|| text.parse().ok());
    let at = at.or_else(|| parse_duration(text).ok().map(|it| time::add(now, it)));
    match at {
        None => Err("write a date such as 2027-01-31, an instant such as 2027-01-31T08:00:00Z, or a time from now on \
                     such as 30d"
            .to_owned()),
        Some(at) if at < now => Err("that has passed; write a later date".to_owned()),
        Some(at) if now + AHEAD_MAX < at => Err("that is too far ahead; at most 10 years are looked at".to_owned()),
        Some(at) => Ok(at),
    }
}

pub(super) fn run(
    source: &Source,
    only: Option<&str>,
    until: Until,
    output: Output,
    storage_path: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let config = source.load()?;
    let folder = storage_path.unwrap_or_else(|| config.storage_path.clone());
    let Some(remembered) = Store::peek(&folder)? else {
        bail!(
            "there is no store in {}, so nothing is known yet; start the exporter first, or name its store with \
             --storage.path",
            folder.display()
        );
    };
    let plan = Plan { config: &config, remembered: &remembered, until, now: time::now() };
    let (rows, unknown) = plan.rows(only)?;
    say(&match output {
        Output::Table => table(&rows, &unknown, plan.now, until),
        Output::Json => serde_json::to_string_pretty(&rows)? + "\n",
    })
}

struct Plan<'a> {
    config: &'a Config,
    remembered: &'a Remembered,
    until: Until,
    now: DateTime<Utc>,
}

impl Plan<'_> {
    /// The rows in the order of time, and the names of credentials that were never probed.
    fn rows(&self, only: Option<&str>) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
        let (mut rows, mut unknown, mut is_known) = (Vec::new(), Vec::new(), false);
        for platform in &self.config.platforms {
            let whole = only.is_none_or(|only| only == &*platform.name);
            if whole {
                is_known = true;
                rows.extend(self.of_platform(platform));
            }
            for credential in &platform.credentials {
                if !whole && only.is_none_or(|only| credential.id.to_string() != only) {
                    continue;
                }
                is_known = true;
                match self.remembered.credentials.get(&credential.id) {
                    Some(state) if state.last_run.is_some() => {
                        rows.extend(self.of_credential(platform, credential, state));
                    }
                    Some(_) | None => unknown.push(credential.id.to_string()),
                }
            }
        }
        if !is_known {
            let known: Vec<String> =
                self.config.credentials().map(|(_, it)| it.id.to_string()).take(20).collect();
            bail!(
                "no credential is called {}; the configuration has: {}",
                only.unwrap_or("anything"),
                known.join(", ")
            );
        }
        rows.sort_by_key(|it| (it.reason != FIRING, it.at));
        Ok((rows, unknown))
    }

    fn of_credential(
        &self,
        platform: &Platform,
        credential: &Credential,
        before: &State,
    ) -> Vec<Row> {
        let nobody = PlatformState::default();
        let policy = &credential.policy;
        let row = |event: &Event, state: &State, reason| {
            let subject = Subject::Credential(platform, credential, state);
            self.row(subject, event, reason)
        };
        let firing = before.firing().map(|it| event_of(it, before.generation));
        let mut rows: Vec<Row> = firing.map(|it| row(&it, before, FIRING)).collect();
        let mut state = before.clone();
        self.pass(&mut rows, |at| {
            let decision = decide(policy, &nobody, &state, None, at);
            state = decision.next;
            let events = decision.events.iter().map(|it| row(it, &state, it.reason.label()));
            (events.collect(), wake_at(policy, &state))
        });
        rows
    }

    fn of_platform(&self, platform: &Platform) -> Vec<Row> {
        let Some(before) = self.remembered.platforms.get(&platform.name) else { return Vec::new() };
        let (probed, policy) = (State::default(), &platform.policy);
        let row = |event: &Event, state: &PlatformState, reason| {
            let subject = Subject::Platform(platform, state, &probed);
            self.row(subject, event, reason)
        };
        let mut rows: Vec<Row> =
            before.firing().map(|it| row(&event_of(it, 0), before, FIRING)).collect();
        let mut state = before.clone();
        self.pass(&mut rows, |at| {
            let decision = state.pass(policy, at);
            state = decision.next;
            let events = decision.events.iter().map(|it| row(it, &state, it.reason.label()));
            (events.collect(), state.wake_at(policy))
        });
        rows
    }

    /// Lets time pass. `decide` is asked at an instant what somebody is told then, and when it is to be asked again.
    fn pass(
        &self,
        rows: &mut Vec<Row>,
        mut decide: impl FnMut(DateTime<Utc>) -> (Vec<Row>, Option<DateTime<Utc>>),
    ) {
        let mut at = self.now;
        for _ in 0..EVENTS_MAX {
            let (events, wake) = decide(at);
            let found = !events.is_empty();
            rows.extend(events);
            let Some(wake) = wake else { return };
            at = wake.max(at + STEP_MIN);
            match self.until {
                Until::Next if found => return,
                Until::Date(until) if until < at => return,
                Until::Next | Until::Date(_) => {}
            }
        }
    }

    fn row(&self, subject: Subject<'_>, event: &Event, reason: &'static str) -> Row {
        let notice = notice(subject, event);
        let labels = labels(&notice);
        let told =
            ways(self.config, subject, event, &labels).into_iter().map(|(way, origin)| Told {
                receiver: way.receiver.to_string(),
                via: match origin {
                    Origin::Routes => way.route.path.clone(),
                    Origin::Receivers => "receivers".to_owned(),
                    Origin::Step => "escalate_to".to_owned(),
                },
                held_until: self.held_until(
                    &way.route.mutes,
                    event.at.max(self.now),
                    event.severity,
                ),
            });
        Row {
            at: event.at,
            credential: notice.credential.as_ref().map(|it| it.name.clone()),
            platform: notice.platform.clone(),
            alert: event.name.label(),
            severity: event.severity.label(),
            reason,
            step_seconds: event.step.map(|it| it.as_secs()),
            told: told.collect(),
        }
    }

    /// The end of the windows in which `at` lies, those that follow without a gap included.
    fn held_until(
        &self,
        mutes: &[Arc<str>],
        at: DateTime<Utc>,
        severity: Severity,
    ) -> Option<DateTime<Utc>> {
        let mutes: Vec<_> = mutes.iter().filter_map(|it| self.config.mutes.get(it)).collect();
        let end = |at| mutes.iter().filter_map(|it| it.until(at, severity)).max();
        let mut held = end(at)?;
        for _ in 0..WINDOWS_MAX {
            let Some(later) = end(held) else { break };
            held = later;
        }
        Some(held)
    }
}

/// The reason of what fires already.
const FIRING: &str = "firing";

fn event_of(firing: &Firing, generation: u32) -> Event {
    Event {
        name: firing.name,
        reason: Reason::Repeat,
        severity: firing.severity,
        step: firing.step,
        at: firing.starts_at,
        starts_at: firing.starts_at,
        repeat: firing.repeats,
        generation,
        previous_expiry: None,
    }
}

/// Reminders that follow one of the table.
struct More {
    count: usize,
    last: DateTime<Utc>,
}

/// The rows without reminders that only say again what the one before them says: months of them would hide the rest.
fn folded(rows: &[Row]) -> Vec<(&Row, Option<More>)> {
    let mut kept: Vec<(&Row, Option<More>)> = Vec::new();
    let mut last: HashMap<(&str, Option<&str>), usize> = HashMap::new();
    for row in rows {
        let subject = (row.platform.as_str(), row.credential.as_deref());
        let before = last.get(&subject).and_then(|it| kept.get_mut(*it));
        match before {
            Some((first, more)) if row.is_again(first) => {
                let count = more.as_ref().map_or(0, |it| it.count) + 1;
                *more = Some(More { count, last: row.at });
            }
            Some(_) | None => {
                last.insert(subject, kept.len());
                kept.push((row, None));
            }
        }
    }
    kept
}

fn table(rows: &[Row], unknown: &[String], now: DateTime<Utc>, until: Until) -> String {
    let date = |at: DateTime<Utc>| at.format("%F %R UTC").to_string();
    let told = |it: &Told| {
        let held = it.held_until.map(|end| format!(", held back until {}", date(end)));
        format!("{} ({}{})", it.receiver, it.via, held.unwrap_or_default())
    };
    let mut lines =
        vec![["WHEN", "WHAT", "ALERT", "SEVERITY", "REASON", "TOLD"].map(str::to_owned)];
    for (row, more) in &folded(rows) {
        let since = if row.reason == FIRING { "since " } else { "" };
        let subject = row.credential.as_ref().map(|it| format!("{}/{it}", row.platform));
        let told: Vec<String> = row.told.iter().map(told).collect();
        lines.push([
            format!("{since}{}", date(row.at)),
            subject.unwrap_or_else(|| row.platform.clone()),
            row.alert.to_owned(),
            row.severity.to_owned(),
            match more {
                Some(more) => {
                    format!("{}, and {} more until {}", row.reason, more.count, date(more.last))
                }
                None => row.reason.to_owned(),
            },
            if told.is_empty() { "nobody".to_owned() } else { told.join(", ") },
        ]);
    }
    let mut text = String::new();
    if rows.is_empty() {
        text += "Nothing fires, and nothing is to come.\n";
    } else {
        let width = |column: usize| lines.iter().map(|it| it[column].chars().count()).max();
        let widths: Vec<usize> = (0..5).map(|it| width(it).unwrap_or_default()).collect();
        for line in &lines {
            for (cell, width) in line.iter().zip(&widths) {
                let _ = write!(text, "{cell:<width$}  ");
            }
            let _ = writeln!(text, "{}", line[5]);
        }
    }
    let scope = match until {
        Until::Next => "what fires, and the next of each".to_owned(),
        Until::Date(until) => format!("until {}", date(until)),
    };
    let _ = writeln!(
        text,
        "\nAs of {}: {scope}, if nothing is renewed and nothing breaks. Keys of lists are left out, and silences.",
        date(now)
    );
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.iter().map(String::as_str).take(10).collect();
        let more = if names.len() < unknown.len() { " and others" } else { "" };
        let _ = writeln!(text, "Never probed, so nothing is known of: {}{more}.", names.join(", "));
    }
    text
}
