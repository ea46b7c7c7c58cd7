//! The page of the notifications: those that reached nobody first, then the newest.
//!
//! It shows what the outbox put onto the board; the command line shows the whole ledger. Nothing is sent from here: the
//! page says which command does.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::row::Moment;
use super::{TEMPLATES, filter_of, headers, words};
use crate::delivery::{masked, masked_recipient};
use crate::status::{Attempt, Fact, Notification, Stage};
use crate::time;
use crate::web::{Web, render, text};

/// Notifications of one page: what a phone renders at once.
const ROWS_MAX: usize = 300;

/// Facts that are named of one message.
const FACTS_MAX: usize = 5;

/// Which notifications are shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct NotificationsQuery {
    /// Those that hold this text in receiver, channel, recipient, credential, alert, state, answer or id.
    q: String,
}

/// The page.
pub(in crate::web) async fn page(
    State(web): State<Arc<Web>>,
    query: Result<Query<NotificationsQuery>, QueryRejection>,
) -> Response {
    let query = query.map(|Query(it)| it).unwrap_or_default();
    let now = time::now();
    match render(move || html(&web, &query, now)).await {
        Ok(Ok(html)) => (headers(), html).into_response(),
        Ok(Err(why)) => {
            let message = format!("500: the page cannot be rendered: {why}");
            text(StatusCode::INTERNAL_SERVER_ERROR, &message)
        }
        Err(response) => response,
    }
}

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    now: String,
    version: &'a str,
    filter: &'a str,
    counts: Vec<Count>,
    /// Messages that were given up, in the whole ledger.
    dead: u64,
    total: usize,
    matching: usize,
    hidden: usize,
    rows: Vec<NotificationRow<'a>>,
}

/// How many notifications are of a stage.
#[derive(Serialize)]
struct Count {
    class: &'static str,
    word: &'static str,
    notifications: usize,
}

#[derive(Serialize)]
struct NotificationRow<'a> {
    id: &'a str,
    class: &'static str,
    word: &'static str,
    is_dead: bool,
    /// What happens next, and when.
    next: Option<(&'static str, Moment)>,
    at: Moment,
    finished: Option<Moment>,
    receiver: &'a str,
    integration: &'static str,
    channel: &'a str,
    recipient: String,
    facts: Vec<FactRow<'a>>,
    facts_more: usize,
    attempts_total: u32,
    attempts: Vec<AttemptRow<'a>>,
    answer: Option<String>,
}

#[derive(Serialize)]
struct FactRow<'a> {
    subject: &'a str,
    alert: &'a str,
    reason: &'a str,
    severity: &'a str,
    /// Who was not reached, and so this receiver is told.
    instead_of: Option<&'a str>,
}

#[derive(Serialize)]
struct AttemptRow<'a> {
    number: u32,
    at: Moment,
    took: String,
    outcome: &'a str,
    answer: String,
}

fn html(
    web: &Web,
    query: &NotificationsQuery,
    now: DateTime<Utc>,
) -> Result<String, minijinja::Error> {
    let snapshot = web.board.snapshot();
    let filter = filter_of(&query.q);
    let needle = filter.to_lowercase();
    let all = &snapshot.notifications;
    let mut found: Vec<_> =
        all.iter().filter(|it| needle.is_empty() || matches(it, &needle)).collect();
    // Stable: the newest of both first.
    found.sort_by_key(|it| it.stage != Stage::Dead);
    let rows: Vec<_> =
        found.iter().take(ROWS_MAX).map(|it| NotificationRow::new(it, now)).collect();
    let counts = Stage::ALL.into_iter().map(|stage| Count {
        class: class(stage),
        word: stage.label(),
        notifications: all.iter().filter(|it| it.stage == stage).count(),
    });
    let page = Page {
        now: words::instant(now),
        version: web.version.version,
        filter,
        counts: counts.filter(|it| 0 < it.notifications).collect(),
        dead: web.telemetry.dead(),
        total: all.len(),
        matching: found.len(),
        hidden: found.len() - rows.len(),
        rows,
    };
    TEMPLATES.get_template("notifications.html")?.render(minijinja::value::Serde(page))
}

fn matches(it: &Notification, needle: &str) -> bool {
    let target = it.target.to_string();
    let of_message =
        [target.as_str(), &it.id, it.stage.label(), it.answer.as_deref().unwrap_or("")];
    let of_facts = it.facts.iter().flat_map(|it| [it.subject.as_str(), &it.alert, &it.severity]);
    of_message.into_iter().chain(of_facts).any(|it| it.to_lowercase().contains(needle))
}

/// The mark of a stage: the colours of the states of credentials.
fn class(stage: Stage) -> &'static str {
    match stage {
        Stage::Dead => "critical",
        Stage::Pending => "warning",
        Stage::Waiting | Stage::Silenced | Stage::Muted => "info",
        Stage::Delivered => "valid",
        Stage::Superseded => "waiting",
    }
}

impl<'a> NotificationRow<'a> {
    fn new(it: &'a Notification, now: DateTime<Utc>) -> Self {
        let next = match it.stage {
            Stage::Pending => "next try",
            Stage::Waiting => "to be sent",
            Stage::Silenced => "silenced, looked at again",
            Stage::Muted => "muted, looked at again",
            Stage::Dead | Stage::Delivered | Stage::Superseded => "",
        };
        Self {
            id: &it.id,
            class: class(it.stage),
            word: it.stage.label(),
            is_dead: it.stage == Stage::Dead,
            next: it.next_at.map(|at| (next, Moment::new(at, now))),
            at: Moment::new(it.at(), now),
            finished: it.finished_at.map(|at| Moment::new(at, now)),
            receiver: &it.target.receiver,
            integration: it.target.integration.label(),
            channel: &it.target.channel,
            recipient: masked_recipient(&it.target.recipient),
            facts: it.facts.iter().take(FACTS_MAX).map(FactRow::new).collect(),
            facts_more: it.facts_total.saturating_sub(it.facts.len().min(FACTS_MAX)),
            attempts_total: it.attempts_total,
            attempts: it.attempts.iter().rev().map(|it| AttemptRow::new(it, now)).collect(),
            answer: it.answer.as_deref().map(masked),
        }
    }
}

impl<'a> FactRow<'a> {
    fn new(it: &'a Fact) -> Self {
        Self {
            subject: &it.subject,
            alert: &it.alert,
            reason: &it.reason,
            severity: &it.severity,
            instead_of: it.undelivered.as_ref().map(|it| it.target.as_str()),
        }
    }
}

impl<'a> AttemptRow<'a> {
    fn new(it: &'a Attempt, now: DateTime<Utc>) -> Self {
        Self {
            number: it.number,
            at: Moment::new(it.at, now),
            took: format!("{} ms", it.took_ms),
            outcome: &it.outcome,
            answer: masked(&it.answer),
        }
    }
}
