//! The page of the keys that ECE lists and of what expires inside deployments.
//!
//! A list can have a hundred thousand keys, so it shows a part at a time, what expires first in front.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::row::{Moment, State, left};
use super::{TEMPLATES, filter_of, headers, words};
use crate::alert::{FindingKind, Found, Lifespan};
use crate::config::ItemKind;
use crate::status::{ListStatus, Snapshot};
use crate::time;
use crate::web::silencing::form_link;
use crate::web::{Web, render, text};

/// Keys of one page: what a phone renders at once.
const ROWS_MAX: usize = 500;

/// Deployments that are named of those that could not be read; the metrics and the log tell of all.
const UNREAD_MAX: usize = 20;

/// Which keys are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct KeysQuery {
    /// Keys that hold this text in platform, deployment, kind, user, description, id or state.
    pub(in crate::web) q: String,
    /// How many are passed over.
    pub(in crate::web) offset: usize,
    /// For the API, how many are wanted.
    pub(in crate::web) limit: Option<usize>,
}

/// The page.
pub(in crate::web) async fn page(
    Shared(web): Shared<Arc<Web>>,
    query: Result<Query<KeysQuery>, QueryRejection>,
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

/// A key with its list.
pub(in crate::web) struct Listed<'a> {
    pub(in crate::web) list: &'a ListStatus,
    pub(in crate::web) found: &'a Found,
    state: State,
}

/// The keys that are wanted, what expires first in front.
pub(in crate::web) fn wanted<'a>(
    snapshot: &'a Snapshot,
    filter: &str,
    now: DateTime<Utc>,
) -> Vec<Listed<'a>> {
    let needle = filter_of(filter).to_lowercase();
    let all = snapshot.lists.iter().flat_map(|list| {
        list.keys.iter().map(move |found| {
            let state = State::of_reading(found.reading(), &list.policy, now);
            Listed { list, found, state }
        })
    });
    let mut sorted: Vec<_> = all.filter(|it| needle.is_empty() || it.matches(&needle)).collect();
    sorted.sort_by(|a, b| a.rank(now).cmp(&b.rank(now)));
    sorted
}

impl Listed<'_> {
    /// The word of its state.
    pub(in crate::web) fn word(&self) -> &'static str {
        self.state.word()
    }

    fn matches(&self, needle: &str) -> bool {
        let item = &self.found.item;
        let platform: &str = &self.list.id.platform;
        let (place, kind) = (&item.place, item.kind.label());
        [platform, place, kind, &item.user, &item.description, &item.id, self.state.word()]
            .iter()
            .any(|it| it.to_lowercase().contains(needle))
    }

    fn rank(&self, now: DateTime<Utc>) -> ((u8, i64), &str) {
        (self.found.item.rank(now), &self.found.item.id)
    }
}

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    now: String,
    version: &'a str,
    filter: &'a str,
    lists: Vec<ListRow<'a>>,
    matching: usize,
    first: usize,
    last: usize,
    previous: Option<usize>,
    next: Option<usize>,
    rows: Vec<PageRow<'a>>,
    findings: Vec<FindingRow<'a>>,
}

/// The deployments of which something could not be read, each with why.
fn unread(list: &ListStatus) -> Vec<String> {
    let unread = list.deployments.iter().flat_map(|it| &it.unread);
    unread.take(UNREAD_MAX).map(|(place, why)| format!("{place}: {why}")).collect()
}

/// A list of keys, as the pages tell it.
#[derive(Debug, Serialize)]
pub(super) struct ListRow<'a> {
    platform: &'a str,
    name: &'a str,
    keys: usize,
    /// What is said between the number of keys and the platform.
    what: &'static str,
    /// The deployments that could not be read, each with why.
    unread: Vec<String>,
    /// Of more keys than are held, how many there are.
    of: Option<usize>,
    counts: Vec<(State, &'static str, usize)>,
    long_lived: usize,
    listed: Option<Moment>,
}

impl<'a> ListRow<'a> {
    pub(super) fn new(list: &'a ListStatus, now: DateTime<Utc>) -> Self {
        let state = |it: &Arc<Found>| State::of_reading(it.reading(), &list.policy, now);
        let states: Vec<State> = list.keys.iter().map(state).collect();
        let count = |state: State| states.iter().filter(|it| **it == state).count();
        let long_lived = list.keys.iter().filter(|it| it.lifespan == Lifespan::TooLong).count();
        Self {
            platform: &list.id.platform,
            name: &list.id.name,
            keys: list.keys.len(),
            what: match (&list.deployments, list.keys.len()) {
                (Some(_), _) => "in the deployments of",
                (None, 1) => "key on",
                (None, _) => "keys on",
            },
            unread: unread(list),
            of: list.total.filter(|_| list.is_truncated()),
            counts: State::ALL
                .into_iter()
                .map(|it| (it, it.word(), count(it)))
                .filter(|it| 0 < it.2)
                .collect(),
            long_lived,
            listed: list.listed_at.map(|at| Moment::new(at, now)),
        }
    }
}

#[derive(Serialize)]
struct PageRow<'a> {
    platform: &'a str,
    /// Inside which deployment it is, and what it is if it is no key of ECE.
    place: &'a str,
    kind: Option<&'static str>,
    id: &'a str,
    user: &'a str,
    description: &'a str,
    state: State,
    word: &'static str,
    left: String,
    expires_at: Option<String>,
    created: Option<Moment>,
    held_by: Option<&'a str>,
    long_lived: bool,
    /// Where its silence is asked for.
    silence: String,
}

impl<'a> PageRow<'a> {
    fn new(it: &Listed<'a>, now: DateTime<Utc>) -> Self {
        let Found { item, held_by, lifespan, .. } = it.found;
        let (left, expires_at) = left(it.found.reading(), now);
        Self {
            platform: &it.list.id.platform,
            place: &item.place,
            kind: match item.kind {
                ItemKind::ApiKey => None,
                ItemKind::ElasticsearchApiKey => Some("Elasticsearch API key"),
                ItemKind::ElasticsearchCertificate => Some("certificate"),
                ItemKind::ElasticsearchLicense => Some("license"),
            },
            id: item.own_id(),
            user: &item.user,
            description: &item.description,
            state: it.state,
            word: it.state.word(),
            left,
            expires_at,
            created: item.created.map(|at| Moment::new(at, now)),
            held_by: held_by.as_deref(),
            long_lived: *lifespan == Lifespan::TooLong,
            silence: form_link(&[("platform", &it.list.id.platform), ("credential", &item.id)]),
        }
    }
}

#[derive(Serialize)]
struct FindingRow<'a> {
    platform: &'a str,
    word: &'static str,
    user: &'a str,
    description: &'a str,
    id: &'a str,
    at: Moment,
}

fn html(web: &Web, query: &KeysQuery, now: DateTime<Utc>) -> Result<String, minijinja::Error> {
    let snapshot = web.board.snapshot();
    let filter = filter_of(&query.q);
    let keys = wanted(&snapshot, filter, now);
    let matching = keys.len();
    let offset = query.offset.min(matching);
    let shown = keys.iter().skip(offset).take(ROWS_MAX);
    let rows: Vec<_> = shown.map(|it| PageRow::new(it, now)).collect();
    let end = offset + rows.len();
    let page = Page {
        now: words::instant(now),
        version: web.version.version,
        filter,
        lists: snapshot.lists.iter().map(|it| ListRow::new(it, now)).collect(),
        matching,
        first: offset + 1,
        last: end,
        previous: (0 < offset).then(|| offset.saturating_sub(ROWS_MAX)),
        next: (end < matching).then_some(end),
        rows,
        findings: snapshot.lists.iter().flat_map(|it| findings(it, now)).collect(),
    };
    TEMPLATES.get_template("keys.html")?.render(minijinja::value::Serde(page))
}

/// What was found in a list, newest first.
fn findings(list: &ListStatus, now: DateTime<Utc>) -> impl Iterator<Item = FindingRow<'_>> {
    list.findings.iter().rev().map(move |it| FindingRow {
        platform: &list.id.platform,
        word: match it.kind {
            FindingKind::Created => "is new",
            FindingKind::Deleted => "is gone before its expiry",
            FindingKind::LongLived => "lives too long",
        },
        user: &it.item.user,
        description: &it.item.description,
        id: &it.item.id,
        at: Moment::new(it.at, now),
    })
}
