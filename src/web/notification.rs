//! Notifications as programs read them, JSON and CSV, and the words by which they are asked for. Pure.
//!
//! The API and the command line share it, so that a script reads one form. Rows are only ever extended.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};

use crate::delivery::{Integration, Undelivered, masked, masked_recipient};
use crate::schedule::parse_duration;
use crate::status::{Attempt, Fact, Notification, Stage, Wanted};
use crate::time;

/// Which notifications are wanted, in the words of a query or a command; what is empty narrows nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The name of a receiver.
    pub receiver: String,
    /// `email`, `webhook`, …
    pub integration: String,
    /// The word of a `Stage`.
    pub state: String,
    /// `platform` or `platform/credential`.
    pub credential: String,
    /// A time: `2026-11-24T05:00:00Z`, `2026-11-24`, or how long ago: `7d`.
    pub since: String,
    /// The same.
    pub until: String,
}

impl Filter {
    /// What it asks for.
    ///
    /// # Errors
    /// A sentence that says which word is wrong.
    pub fn wanted(&self, now: DateTime<Utc>) -> Result<Wanted, String> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|it| !it.is_empty());
        let integration = |word: String| {
            Integration::parse(&word).ok_or_else(|| {
                format!(
                    "no kind of channel is called `{word}`; see `integration` of a notification"
                )
            })
        };
        Ok(Wanted {
            receiver: given(&self.receiver),
            integration: given(&self.integration).map(integration).transpose()?,
            stage: given(&self.state).map(|it| Stage::parse(&it)).transpose()?,
            subject: given(&self.credential),
            since: given(&self.since).map(|it| moment(&it, now)).transpose()?,
            until: given(&self.until).map(|it| moment(&it, now)).transpose()?,
        })
    }
}

/// A time, a day, or how long ago.
fn moment(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    // In a query, the `+` of an offset is a space.
    if let Ok(at) = DateTime::parse_from_rfc3339(&text.replace(' ', "+")) {
        return Ok(at.to_utc());
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    let ago = parse_duration(text).map_err(|_| {
        format!("`{text}` is not a time; write `2026-11-24T05:00:00Z`, `2026-11-24`, or how long ago, as in `7d`")
    })?;
    Ok(now.checked_sub_signed(time::delta(ago)).unwrap_or(DateTime::<Utc>::MIN_UTC))
}

/// Whether mail addresses are shown whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// To whoever can read the store anyway.
    Whole,
    /// As in the log.
    Masked,
}

impl Addresses {
    fn recipient(self, text: &str) -> Option<Cow<'_, str>> {
        let text = match self {
            Self::Whole => Cow::Borrowed(text),
            Self::Masked => Cow::Owned(masked_recipient(text)),
        };
        Some(text).filter(|it| !it.is_empty())
    }

    /// What a server said; mail servers repeat addresses.
    fn answer(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Whole => Cow::Borrowed(text),
            Self::Masked => Cow::Owned(masked(text)),
        }
    }
}

/// A notification as JSON.
#[derive(Debug, Serialize)]
pub struct NotificationRow<'a> {
    id: &'a str,
    /// `dead`, `pending`, `waiting`, `silenced`, `muted`, `delivered`, `superseded`.
    state: &'static str,
    receiver: &'a str,
    integration: &'static str,
    channel: &'a str,
    /// The mail address; absent for other channels.
    recipient: Option<Cow<'a, str>>,
    owed_at: Option<DateTime<Utc>>,
    composed_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    next_at: Option<DateTime<Utc>>,
    answer: Option<Cow<'a, str>>,
    attempts_total: u32,
    /// The latest of them.
    attempts: Vec<AttemptRow<'a>>,
    facts_total: usize,
    /// The first of them.
    facts: Vec<FactRow<'a>>,
}

#[derive(Debug, Serialize)]
struct AttemptRow<'a> {
    number: u32,
    at: DateTime<Utc>,
    took_seconds: f64,
    /// `delivered`, `failed`, `dead`.
    outcome: &'a str,
    answer: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
struct FactRow<'a> {
    platform: &'a str,
    credential: Option<&'a str>,
    alert: &'a str,
    reason: &'a str,
    severity: &'a str,
    at: DateTime<Utc>,
    undelivered: Option<UndeliveredRow<'a>>,
}

#[derive(Debug, Serialize)]
struct UndeliveredRow<'a> {
    target: &'a str,
    why: Cow<'a, str>,
}

impl<'a> NotificationRow<'a> {
    /// The row of a notification.
    pub fn new(it: &'a Notification, addresses: Addresses) -> Self {
        Self {
            id: &it.id,
            state: it.stage.label(),
            receiver: &it.target.receiver,
            integration: it.target.integration.label(),
            channel: &it.target.channel,
            recipient: addresses.recipient(&it.target.recipient),
            owed_at: it.owed_at,
            composed_at: it.composed_at,
            finished_at: it.finished_at,
            next_at: it.next_at,
            answer: it.answer.as_deref().map(|it| addresses.answer(it)),
            attempts_total: it.attempts_total,
            attempts: it.attempts.iter().map(|it| AttemptRow::new(it, addresses)).collect(),
            facts_total: it.facts_total,
            facts: it.facts.iter().map(|it| FactRow::new(it, addresses)).collect(),
        }
    }
}

impl<'a> AttemptRow<'a> {
    fn new(it: &'a Attempt, addresses: Addresses) -> Self {
        Self {
            number: it.number,
            at: it.at,
            took_seconds: std::time::Duration::from_millis(it.took_ms).as_secs_f64(),
            outcome: &it.outcome,
            answer: addresses.answer(&it.answer),
        }
    }
}

impl<'a> FactRow<'a> {
    fn new(it: &'a Fact, addresses: Addresses) -> Self {
        let undelivered = |Undelivered { target, why }: &'a Undelivered| UndeliveredRow {
            target,
            why: addresses.answer(why),
        };
        Self {
            platform: &it.platform,
            credential: it.credential.as_deref(),
            alert: &it.alert,
            reason: &it.reason,
            severity: &it.severity,
            at: it.at,
            undelivered: it.undelivered.as_ref().map(undelivered),
        }
    }
}

/// The first line of the CSV.
const HEADER: [&str; 19] = [
    "id",
    "state",
    "receiver",
    "integration",
    "channel",
    "recipient",
    "owed_at",
    "composed_at",
    "finished_at",
    "next_at",
    "attempts",
    "answer",
    "platform",
    "credential",
    "alert",
    "reason",
    "severity",
    "at",
    "undelivered",
];

/// A table for spreadsheets by RFC 4180: one row for each fact, with the message that carries it.
pub fn csv<'a>(
    notifications: impl IntoIterator<Item = &'a Notification>,
    addresses: Addresses,
) -> String {
    let mut text = String::new();
    record(&mut text, HEADER.map(Cow::Borrowed));
    for it in notifications {
        let row = NotificationRow::new(it, addresses);
        // A message whose facts stand in a newer one has none left.
        let none = row.facts.is_empty().then_some(None);
        for fact in none.into_iter().chain(row.facts.iter().map(Some)) {
            let of_fact =
                |cell: fn(&FactRow<'a>) -> Cow<'a, str>| fact.map(cell).unwrap_or_default();
            record(
                &mut text,
                [
                    row.id.into(),
                    row.state.into(),
                    row.receiver.into(),
                    row.integration.into(),
                    row.channel.into(),
                    row.recipient.clone().unwrap_or_default(),
                    instant(row.owed_at),
                    instant(row.composed_at),
                    instant(row.finished_at),
                    instant(row.next_at),
                    row.attempts_total.to_string().into(),
                    row.answer.clone().unwrap_or_default(),
                    of_fact(|it| it.platform.into()),
                    of_fact(|it| it.credential.unwrap_or_default().into()),
                    of_fact(|it| it.alert.into()),
                    of_fact(|it| it.reason.into()),
                    of_fact(|it| it.severity.into()),
                    of_fact(|it| instant(Some(it.at))),
                    of_fact(|it| {
                        let undelivered = it.undelivered.as_ref();
                        undelivered.map_or(Cow::default(), |it| {
                            format!("{}: {}", it.target, it.why).into()
                        })
                    }),
                ],
            );
        }
    }
    text
}

fn instant(at: Option<DateTime<Utc>>) -> Cow<'static, str> {
    at.map_or(Cow::default(), |it| it.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into())
}

/// One line. A cell that a spreadsheet would take for a formula begins with an apostrophe, which it takes for text.
fn record<'a>(text: &mut String, cells: impl IntoIterator<Item = Cow<'a, str>>) {
    for (at, cell) in cells.into_iter().enumerate() {
        if 0 < at {
            text.push(',');
        }
        let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { "'" } else { "" };
        if cell.contains(['"', ',', '\r', '\n']) {
            text.push('"');
            text.push_str(guard);
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(guard);
            text.push_str(&cell);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_where_it_must_be_and_never_a_formula() {
        let mut text = String::new();
        let cells = ["a", "", "b,c", "say \"hi\"", "=1+1", "-2", "@x", "+\"y\"", "x=1", "1\n2"];
        record(&mut text, cells.map(Cow::Borrowed));
        assert_eq!(
            text,
            "a,,\"b,c\",\"say \"\"hi\"\"\",'=1+1,'-2,'@x,\"'+\"\"y\"\"\",x=1,\"1\n2\"\r\n"
        );
    }

    #[test]
    fn a_time_is_an_instant_a_day_or_how_long_ago() {
        let now = DateTime::from_timestamp(1_795_496_400, 0).unwrap();
        for (text, expected) in [
            ("2026-11-24T05:00:00Z", "2026-11-24T05:00:00Z"),
            ("2026-11-24T05:00:00 02:00", "2026-11-24T03:00:00Z"),
            ("2026-11-23", "2026-11-23T00:00:00Z"),
            ("1d", "2026-11-23T05:00:00Z"),
        ] {
            assert_eq!(moment(text, now), Ok(expected.parse().unwrap()), "{text}");
        }
        assert!(moment("yesterday", now).unwrap_err().contains("`yesterday` is not a time"));
    }
}
