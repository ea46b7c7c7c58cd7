//! Silences as JSON, with the fields of Alertmanager's, and changing them where that is allowed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{error, failure, success};
use crate::config::{MatchOp, Matcher};
use crate::delivery::{Silence, SilenceWish, read_end, read_matchers};
use crate::notify::new_silence_id;
use crate::outbox::SilenceChange;
use crate::status::{Snapshot, Watched, covered, suspicions};
use crate::time;
use crate::web::silencing::{self, Refusal};
use crate::web::{Web, render};

/// All silences, those that end last first; also what has ended.
pub(in crate::web) async fn silences(State(web): State<Arc<Web>>) -> Response {
    let now = time::now();
    let rendered = render(move || {
        let snapshot = web.board.snapshot();
        let watched = snapshot.watched();
        let rows = snapshot.silences.iter().map(|it| SilenceRow::new(it, &watched, now));
        success(&SilenceRows { silences: rows.collect() })
    });
    rendered.await.unwrap_or_else(|response| response)
}

/// One silence.
pub(in crate::web) async fn silence(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
) -> Response {
    let now = time::now();
    let rendered = render(move || {
        let snapshot: Snapshot = web.board.snapshot();
        match snapshot.silences.iter().find(|it| it.id == id) {
            Some(silence) => success(&SilenceRow::new(silence, &snapshot.watched(), now)),
            None => error(&format!("there is no silence {id}")),
        }
    });
    rendered.await.unwrap_or_else(|response| response)
}

/// Adds one.
pub(in crate::web) async fn add_silence(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match add(&web, &headers, body).await {
        Ok(added) => success(&added),
        Err(refusal) => refused(&refusal),
    }
}

/// Ends one.
pub(in crate::web) async fn end_silence(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = silencing::allowed(&web, &headers) {
        return refused(&refusal);
    }
    let now = time::now();
    let silences = web.board.snapshot().silences;
    if !silences.iter().any(|it| it.id == id && now < it.ends_at) {
        return error(&format!("there is no silence {id} that has not ended yet"));
    }
    match silencing::change(&web, SilenceChange::Expire(id.clone())).await {
        Ok(()) => success(&Ended { silence_id: &id }),
        Err(refusal) => refused(&refusal),
    }
}

fn refused((status, why): &Refusal) -> Response {
    let kind = match status.as_u16() {
        403 => "forbidden",
        503 => "unavailable",
        409 => "conflict",
        _ => "bad_data",
    };
    failure(*status, kind, why)
}

async fn add(web: &Web, headers: &HeaderMap, body: Body) -> Result<Added, Refusal> {
    silencing::allowed(web, headers)?;
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    // A form of another site cannot say so without asking first.
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .is_some_and(|it| it.starts_with("application/json"));
    if !is_json {
        let why = "send JSON, with the header `Content-Type: application/json`";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why.to_owned()));
    }
    let text = silencing::read(body).await?;
    let wish: WishRow = serde_json::from_str(&text)
        .map_err(|error| bad(format!("what was sent is not a silence: {error}")))?;
    let now = time::now();
    let silence =
        wish.wish(now).and_then(|it| it.granted(new_silence_id(now), now)).map_err(bad)?;
    let (id, matchers) = (silence.id.clone(), silence.matchers.clone());
    silencing::change(web, SilenceChange::Put(silence)).await?;
    Ok(Added { silence_id: id, warnings: suspicions(&matchers, &web.board.snapshot().watched()) })
}

#[derive(Serialize)]
struct Added {
    #[serde(rename = "silenceID")]
    silence_id: String,
    /// Why it may silence nothing.
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Ended<'a> {
    #[serde(rename = "silenceID")]
    silence_id: &'a str,
}

/// A silence as somebody asks for it. Fields of Alertmanager that mean nothing here are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WishRow {
    matchers: Vec<MatcherWish>,
    created_by: String,
    comment: String,
    starts_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    /// Instead of `endsAt`, how long: `3d`.
    duration: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum MatcherWish {
    /// `team="platform"`.
    Text(String),
    Parts(MatcherRow),
}

/// A matcher as Alertmanager's API has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MatcherRow {
    name: String,
    value: String,
    #[serde(default)]
    is_regex: bool,
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

impl WishRow {
    fn wish(self, now: DateTime<Utc>) -> Result<SilenceWish, String> {
        let from = self.starts_at.unwrap_or(now).max(now);
        let ends_at = match (self.ends_at, &self.duration) {
            (Some(at), None) => at,
            (None, Some(length)) => read_end(length, from)?,
            _ => return Err("name the end, either `endsAt` or `duration`".to_owned()),
        };
        Ok(SilenceWish {
            matchers: self.matchers.iter().map(MatcherWish::matcher).collect::<Result<_, _>>()?,
            created_by: self.created_by,
            comment: self.comment,
            starts_at: self.starts_at,
            ends_at,
        })
    }
}

impl MatcherWish {
    fn matcher(&self) -> Result<Matcher, String> {
        match self {
            Self::Text(text) => {
                let matchers = read_matchers([&**text])?;
                matchers.into_iter().next().ok_or_else(|| "a matcher is empty".to_owned())
            }
            Self::Parts(MatcherRow { name, value, is_regex, is_equal }) => {
                let op = match (is_equal, is_regex) {
                    (true, false) => MatchOp::Equal,
                    (true, true) => MatchOp::Fits,
                    (false, false) => MatchOp::NotEqual,
                    (false, true) => MatchOp::FitsNot,
                };
                let made = Matcher::new(name, op, value);
                let made = made.map_err(|why| format!("the matcher of {name} {why}"))?;
                // Its name must be one.
                Matcher::parse(&made.to_string())
                    .map_err(|why| format!("the matcher of {name} {why}"))
            }
        }
    }
}

#[derive(Serialize)]
struct SilenceRows<'a> {
    silences: Vec<SilenceRow<'a>>,
}

/// A silence, with the fields of Alertmanager's API and what it covers now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceRow<'a> {
    id: &'a str,
    status: StatusRow,
    matchers: Vec<MatcherRow>,
    /// The same as text.
    matchers_text: Vec<String>,
    created_by: &'a str,
    comment: &'a str,
    created_at: DateTime<Utc>,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    /// The alerts that fire and that its matchers fit.
    alerts: Vec<AlertRow>,
}

#[derive(Debug, Serialize)]
struct StatusRow {
    /// `active`, `pending`, `expired`.
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct AlertRow {
    subject: String,
    alertname: &'static str,
    severity: &'static str,
}

impl<'a> SilenceRow<'a> {
    /// The row at `now`.
    pub fn new(silence: &'a Silence, watched: &[Watched], now: DateTime<Utc>) -> Self {
        let state = silence.state(now);
        let matcher = |it: &Matcher| MatcherRow {
            name: it.label().to_owned(),
            value: it.value().to_owned(),
            is_regex: matches!(it.op(), MatchOp::Fits | MatchOp::FitsNot),
            is_equal: matches!(it.op(), MatchOp::Equal | MatchOp::Fits),
        };
        let alerts =
            if now < silence.ends_at { covered(&silence.matchers, watched) } else { Vec::new() };
        Self {
            id: &silence.id,
            status: StatusRow { state: state.label() },
            matchers: silence.matchers.iter().map(matcher).collect(),
            matchers_text: silence.matchers.iter().map(ToString::to_string).collect(),
            created_by: &silence.created_by,
            comment: &silence.comment,
            created_at: silence.created_at,
            starts_at: silence.starts_at,
            ends_at: silence.ends_at,
            alerts: alerts
                .into_iter()
                .map(|it| AlertRow {
                    subject: it.name,
                    alertname: it.alert.label(),
                    severity: it.severity.label(),
                })
                .collect(),
        }
    }
}
