//! The page for people: every credential, what needs attention first, then by the time that is left.
//!
//! It works without JavaScript; the script only filters while one types. Nothing is loaded from anywhere: style and
//! script are part of the page, and the policy names them by their hash.

pub(super) mod keys;
pub(super) mod notifications;
pub(super) mod own;
mod row;
pub(super) mod silences;
mod words;

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use minijinja::Environment;
use ring::digest;
use serde::{Deserialize, Serialize};

use self::keys::ListRow;
use self::row::{Cover, CredentialRow, PlatformRow, State as CredentialState};
use super::{Web, text};
use crate::alert::AlertName;
use crate::metrics::Untold;
use crate::status::{CredentialStatus, Quiet, Snapshot};
use crate::time;

/// The look of our pages.
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Rows shown unless all are asked for: what a phone renders at once, and more than anybody reads.
const ROWS_MAX: usize = 2000;

/// Rows shown when all are asked for; the API has no limit.
const ROWS_ALL_MAX: usize = 20_000;

/// Bytes of a filter that count; nobody types more.
const FILTER_BYTES_MAX: usize = 200;

/// The templates of our pages, which share a frame.
pub(super) static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.add_global("style", minijinja::Value::from_safe_string(STYLE.to_owned()));
    // The names' ending turns on the escaping of HTML.
    for (name, text) in [
        ("base.html", include_str!("base.html")),
        ("page.html", include_str!("page.html")),
        ("keys.html", include_str!("keys.html")),
        ("notifications.html", include_str!("notifications.html")),
        ("cover.html", include_str!("cover.html")),
        ("silences.html", include_str!("silences.html")),
        ("own.html", include_str!("own.html")),
        ("runbook.html", include_str!("runbook.html")),
    ] {
        templates
            .add_template(name, text)
            .expect("the template is part of the program and every test of a page parses it");
    }
    templates
});

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |it: &str| STANDARD.encode(digest::digest(&digest::SHA256, it.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// What the page shows of everything.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageQuery {
    /// Rows that hold this text in platform, name, team or state.
    #[serde(default)]
    q: String,
    /// `1` shows more rows.
    #[serde(default)]
    all: String,
}

/// The page.
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let query = query.map(|Query(it)| it).unwrap_or_default();
    let now = time::now();
    match super::render(move || html(&web, &query, now)).await {
        Ok(Ok(html)) => (headers(), html).into_response(),
        Ok(Err(why)) => {
            let message = format!("500: the page cannot be rendered: {why}");
            text(StatusCode::INTERNAL_SERVER_ERROR, &message)
        }
        Err(response) => response,
    }
}

/// What our pages say to browsers.
pub(super) fn headers() -> [(HeaderName, &'static str); 3] {
    [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::REFERRER_POLICY, "same-origin"),
    ]
}

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    script: minijinja::Value,
    now: String,
    version: &'a str,
    /// Relative, so that it works behind a proxy that adds a path.
    metrics: &'a str,
    config_error: Option<String>,
    store_error: Option<String>,
    dead: u64,
    overdue: Option<u64>,
    overdue_since: Option<String>,
    untold: Vec<UntoldRow>,
    filter: &'a str,
    all: bool,
    counts: Vec<Count>,
    total: usize,
    matching: usize,
    hidden: usize,
    rows_all_max: usize,
    rows: Vec<CredentialRow>,
    platforms: Vec<PlatformRow>,
    lists: Vec<ListRow<'a>>,
}

/// A notification that waits longer than a group or the first retries do is worth a word.
const OVERDUE_AFTER: TimeDelta = TimeDelta::minutes(2);

/// An Alertmanager that could not be told what fires.
#[derive(Serialize)]
struct UntoldRow {
    receiver: String,
    replica: String,
    since: String,
    why: String,
}

impl UntoldRow {
    fn of(it: Untold) -> Self {
        let since = it.since.format("%F %R UTC").to_string();
        Self {
            receiver: it.receiver.to_string(),
            replica: it.replica.to_string(),
            since,
            why: it.why,
        }
    }
}

/// How many credentials are in a state.
#[derive(Serialize)]
struct Count {
    state: CredentialState,
    word: &'static str,
    credentials: usize,
}

fn html(web: &Web, query: &PageQuery, now: DateTime<Utc>) -> Result<String, minijinja::Error> {
    let snapshot = web.board.snapshot();
    let filter = filter_of(&query.q);
    let all = query.all == "1";
    let (rows, matching) = rows(&snapshot, filter, if all { ROWS_ALL_MAX } else { ROWS_MAX }, now);
    let quiet = Quiet::new(&snapshot, now);
    let overdue = web.telemetry.overdue(now - OVERDUE_AFTER);
    let page = Page {
        script: minijinja::Value::from_safe_string(SCRIPT.to_owned()),
        now: words::instant(now),
        version: web.version.version,
        metrics: relative(&web.telemetry_path),
        config_error: copy(&web.config_error),
        store_error: copy(&web.store_error),
        dead: web.telemetry.dead(),
        overdue: overdue.map(|(count, _)| count),
        untold: web.telemetry.untold().into_iter().map(UntoldRow::of).collect(),
        overdue_since: overdue.map(|(_, since)| since.format("%F %R UTC").to_string()),
        filter,
        all,
        counts: counts(&snapshot, now),
        total: snapshot.credentials.len(),
        matching,
        hidden: matching - rows.len(),
        rows_all_max: ROWS_ALL_MAX,
        rows,
        platforms: snapshot.platforms.iter().map(|it| PlatformRow::new(it, &quiet, now)).collect(),
        lists: snapshot.lists.iter().map(|it| ListRow::new(it, now)).collect(),
    };
    TEMPLATES.get_template("page.html")?.render(minijinja::value::Serde(page))
}

/// The rows to show, most urgent first, and how many there would be.
fn rows(
    snapshot: &Snapshot,
    filter: &str,
    max: usize,
    now: DateTime<Utc>,
) -> (Vec<CredentialRow>, usize) {
    let needle = filter.to_lowercase();
    let mut found: Vec<_> = snapshot
        .credentials
        .iter()
        .map(|it| (CredentialState::of(it, now), it))
        .filter(|(state, it)| needle.is_empty() || matches(it, *state, &needle))
        .collect();
    // Stable: what is equally urgent stays in the order of the configuration.
    found.sort_by_key(|(state, it)| row::urgency(*state, it));
    let unreachable: Vec<&str> = snapshot
        .platforms
        .iter()
        .filter(|it| it.alerts.iter().any(|it| it.name == AlertName::PlatformUnreachable))
        .map(|it| &*it.name)
        .collect();
    let quiet = Quiet::new(snapshot, now);
    let rows = found.iter().take(max).map(|(state, it)| {
        let cover =
            if unreachable.contains(&&*it.id.platform) { Cover::Fires } else { Cover::None };
        CredentialRow::new(it, *state, cover, &quiet, now)
    });
    (rows.collect(), found.len())
}

fn matches(status: &CredentialStatus, state: CredentialState, needle: &str) -> bool {
    let id = status.id.to_string();
    let team = status.team.as_deref().unwrap_or_default();
    [id.as_str(), team, state.word()].iter().any(|it| it.to_lowercase().contains(needle))
}

fn counts(snapshot: &Snapshot, now: DateTime<Utc>) -> Vec<Count> {
    let states: Vec<_> =
        snapshot.credentials.iter().map(|it| CredentialState::of(it, now)).collect();
    let counts = CredentialState::ALL.into_iter().map(|state| Count {
        state,
        word: state.word(),
        credentials: states.iter().filter(|it| **it == state).count(),
    });
    counts.filter(|it| it.credentials > 0).collect()
}

/// A path of ours without the slash that it begins with.
fn relative(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => "./",
        path => path,
    }
}

fn copy(shared: &RwLock<Option<String>>) -> Option<String> {
    shared.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn filter_of(query: &str) -> &str {
    let query = query.trim();
    let end = (0..=query.len().min(FILTER_BYTES_MAX)).rev().find(|at| query.is_char_boundary(*at));
    &query[..end.unwrap_or(0)]
}
