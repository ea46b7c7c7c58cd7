//! The page of the silences: those that hold, those that will and those that did, and a form where that is allowed.
//!
//! Who may not change them here is shown the command that does.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::row::Moment;
use super::{TEMPLATES, headers as page_headers, words};
use crate::delivery::{
    COMMENT_BYTES_MAX, CREATED_BY_BYTES_MAX, Silence, SilenceState, SilenceWish, read_end,
    read_matchers,
};
use crate::notify::new_silence_id;
use crate::outbox::SilenceChange;
use crate::status::{Covered, Snapshot, Watched, covered, suspicions};
use crate::time;
use crate::web::silencing::{self, Refusal};
use crate::web::{AdminApi, Web, render, text};

/// How long a silence that has ended is shown.
const ENDED_SHOWN_FOR: TimeDelta = TimeDelta::days(7);

/// Silences of one page.
const ROWS_MAX: usize = 300;

/// Alerts that are named of those that a silence covers.
const COVERED_MAX: usize = 10;

/// What the form says; as a query it fills the form in.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::web) struct Form {
    /// One matcher in a line.
    matchers: String,
    /// How long: `3d`.
    lasts: String,
    /// Until when; counts before `lasts`.
    until: String,
    created_by: String,
    comment: String,
    /// The id of a silence to end; nothing else counts then.
    end: String,
}

impl Form {
    fn wish(&self, now: DateTime<Utc>) -> Result<SilenceWish, String> {
        let end = [&self.until, &self.lasts].into_iter().find(|it| !it.trim().is_empty());
        let end = end.ok_or("say until when it shall be quiet")?;
        Ok(SilenceWish {
            matchers: read_matchers(self.matchers.lines())?,
            created_by: self.created_by.clone(),
            comment: self.comment.clone(),
            starts_at: None,
            ends_at: read_end(end, now)?,
        })
    }

    fn change(&self, now: DateTime<Utc>) -> Result<SilenceChange, String> {
        match self.end.trim() {
            "" => Ok(SilenceChange::Put(self.wish(now)?.granted(new_silence_id(now), now)?)),
            id => Ok(SilenceChange::Expire(id.to_owned())),
        }
    }
}

/// The page.
pub(in crate::web) async fn page(
    State(web): State<Arc<Web>>,
    query: Result<Query<Form>, QueryRejection>,
) -> Response {
    show(web, query.map(|Query(it)| it).unwrap_or_default(), None).await
}

/// Adds a silence, or ends one, and shows the page: anew if it is done, with the reason if it is refused.
pub(in crate::web) async fn posted(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let read = async {
        silencing::allowed(&web, &headers)?;
        let uri = silencing::as_query(&silencing::read(body).await?)?;
        let form = Query::<Form>::try_from_uri(&uri);
        let wrong = |_| (StatusCode::BAD_REQUEST, "what was sent is not our form".to_owned());
        form.map(|Query(it)| it).map_err(wrong)
    };
    let form = match read.await {
        Ok(form) => form,
        Err(refusal) => return show(web, Form::default(), Some(refusal)).await,
    };
    let done = match form.change(time::now()) {
        Ok(change) => silencing::change(&web, change).await,
        Err(why) => Err((StatusCode::BAD_REQUEST, why)),
    };
    match done {
        // A reload of the page must not post again.
        Ok(()) => (StatusCode::SEE_OTHER, [(header::LOCATION, "silences")]).into_response(),
        Err(refusal) => show(web, form, Some(refusal)).await,
    }
}

async fn show(web: Arc<Web>, form: Form, refusal: Option<Refusal>) -> Response {
    let now = time::now();
    let status = refusal.as_ref().map_or(StatusCode::OK, |(status, _)| *status);
    let refusal = refusal.map(|(_, why)| why);
    match render(move || html(&web, &form, refusal, now)).await {
        Ok(Ok(html)) => (status, page_headers(), html).into_response(),
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
    refusal: Option<String>,
    may_change: bool,
    form: &'a Form,
    form_rows: usize,
    /// What the matchers of the form cover now.
    preview: Option<Cover>,
    command: String,
    created_by_max: usize,
    comment_max: usize,
    groups: Vec<Group<'a>>,
    hidden: usize,
}

/// Silences of one state.
#[derive(Serialize)]
struct Group<'a> {
    title: &'static str,
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    state: &'static str,
    matchers: Vec<String>,
    created_by: &'a str,
    comment: &'a str,
    starts: Moment,
    ends: Moment,
    /// Whether it can be ended.
    lives: bool,
    cover: Cover,
}

/// The alerts that fire and that matchers cover.
#[derive(Debug, Default, Serialize)]
struct Cover {
    alerts: Vec<CoveredRow>,
    more: usize,
    suspicions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct CoveredRow {
    name: String,
    alert: &'static str,
    severity: &'static str,
}

impl Cover {
    fn of(matchers: &[crate::config::Matcher], watched: &[Watched]) -> Self {
        let covered = covered(matchers, watched);
        let row = |it: &Covered| CoveredRow {
            name: it.name.clone(),
            alert: it.alert.label(),
            severity: it.severity.label(),
        };
        Self {
            alerts: covered.iter().take(COVERED_MAX).map(row).collect(),
            more: covered.len().saturating_sub(COVERED_MAX),
            suspicions: suspicions(matchers, watched),
        }
    }
}

fn html(
    web: &Web,
    form: &Form,
    refusal: Option<String>,
    now: DateTime<Utc>,
) -> Result<String, minijinja::Error> {
    let snapshot = web.board.snapshot();
    let watched = snapshot.watched();
    let groups = [
        ("Active", SilenceState::Active),
        ("Pending", SilenceState::Pending),
        ("Ended in the last 7 days", SilenceState::Expired),
    ];
    let groups: Vec<_> = groups
        .into_iter()
        .map(|(title, state)| Group { title, rows: rows(&snapshot, state, &watched, now) })
        .collect();
    let all = snapshot.silences.iter().filter(|it| is_shown(it, now)).count();
    let shown: usize = groups.iter().map(|it| it.rows.len()).sum();
    let matchers = read_matchers(form.matchers.lines()).ok().filter(|it| !it.is_empty());
    let page = Page {
        now: words::instant(now),
        version: web.version.version,
        refusal,
        may_change: web.admin_api == AdminApi::Enabled,
        form,
        form_rows: form.matchers.lines().count().clamp(2, 8),
        preview: matchers.map(|it| Cover::of(&it, &watched)),
        command: command(form),
        created_by_max: CREATED_BY_BYTES_MAX,
        comment_max: COMMENT_BYTES_MAX,
        groups,
        hidden: all - shown,
    };
    TEMPLATES.get_template("silences.html")?.render(minijinja::value::Serde(page))
}

fn is_shown(silence: &Silence, now: DateTime<Utc>) -> bool {
    now - ENDED_SHOWN_FOR <= silence.ends_at
}

fn rows<'a>(
    snapshot: &'a Snapshot,
    state: SilenceState,
    watched: &[Watched],
    now: DateTime<Utc>,
) -> Vec<Row<'a>> {
    let of_state = snapshot.silences.iter().filter(|it| it.state(now) == state);
    let shown = of_state.filter(|it| is_shown(it, now)).take(ROWS_MAX);
    let row = |it: &'a Silence| Row {
        id: &it.id,
        state: state.label(),
        matchers: it.matchers.iter().map(ToString::to_string).collect(),
        created_by: &it.created_by,
        comment: &it.comment,
        starts: Moment::new(it.starts_at, now),
        ends: Moment::new(it.ends_at, now),
        lives: state != SilenceState::Expired,
        cover: match state {
            SilenceState::Expired => Cover::default(),
            SilenceState::Active | SilenceState::Pending => Cover::of(&it.matchers, watched),
        },
    };
    shown.map(row).collect()
}

/// The command that does what the form would.
fn command(form: &Form) -> String {
    let mut command = "ece-expiry-exporter silence add".to_owned();
    let given = form.matchers.lines().map(str::trim).filter(|it| !it.is_empty());
    let matchers: Vec<&str> = given.collect();
    let example = ["platform=\"prod\"", "credential=\"ci\""];
    for matcher in if matchers.is_empty() { &example[..] } else { &matchers } {
        command.push_str(" '");
        command.push_str(&matcher.replace('\'', "'\\''"));
        command.push('\'');
    }
    command + " --duration 7d --comment 'why'"
}
