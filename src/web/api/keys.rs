//! The keys of lists as JSON, a part at a time.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::success;
use crate::alert::{Found, Lifespan};
use crate::observation::Reading;
use crate::time;
use crate::web::page::keys::{KeysQuery, Listed, wanted};
use crate::web::{Web, render, text};

/// Keys of one answer.
const ROWS_MAX: usize = 10_000;

/// The keys that are wanted, what expires first in front.
pub(in crate::web) async fn keys(
    State(web): State<Arc<Web>>,
    query: Result<Query<KeysQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return text(StatusCode::BAD_REQUEST, "400: `offset` and `limit` are numbers");
    };
    let now = time::now();
    let rendered = render(move || {
        let snapshot = web.board.snapshot();
        let keys = wanted(&snapshot, &query.q, now);
        let limit = query.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX);
        let rows = keys.iter().skip(query.offset).take(limit);
        success(&KeyRows {
            total: keys.len(),
            offset: query.offset,
            keys: rows.map(|it| KeyRow::new(it, now)).collect(),
        })
    });
    rendered.await.unwrap_or_else(|response| response)
}

#[derive(Serialize)]
struct KeyRows<'a> {
    /// How many keys match.
    total: usize,
    offset: usize,
    keys: Vec<KeyRow<'a>>,
}

#[derive(Serialize)]
struct KeyRow<'a> {
    platform: &'a str,
    inventory: &'a str,
    /// `listed_api_key`, `elasticsearch_api_key`, `elasticsearch_certificate`, `elasticsearch_license`.
    kind: &'static str,
    /// The deployment that it is in; empty for a key of ECE.
    deployment: &'a str,
    key_id: &'a str,
    user_id: &'a str,
    description: &'a str,
    created_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    /// `dated`, `never`, `unreadable`.
    expiry_state: &'static str,
    /// Negative once expired.
    seconds_left: Option<i64>,
    /// The word of the page: `critical`, `valid`, …
    state: &'static str,
    /// The credential that holds its secret.
    credential: Option<&'a str>,
    long_lived: bool,
}

impl<'a> KeyRow<'a> {
    fn new(it: &Listed<'a>, now: DateTime<Utc>) -> Self {
        let Found { item, held_by, lifespan, .. } = it.found;
        let (expiry_state, expires_at) = match it.found.reading() {
            Some(Reading::ExpiresAt(at)) => ("dated", Some(at)),
            Some(Reading::Never | Reading::Undated) => ("never", None),
            None => ("unreadable", None),
        };
        Self {
            platform: &it.list.id.platform,
            inventory: &it.list.id.name,
            kind: item.kind.label(),
            deployment: &item.place,
            key_id: item.own_id(),
            user_id: &item.user,
            description: &item.description,
            created_at: item.created,
            expires_at,
            expiry_state,
            seconds_left: expires_at.map(|at| (at - now).num_seconds()),
            state: it.word(),
            credential: held_by.as_deref(),
            long_lived: *lifespan == Lifespan::TooLong,
        }
    }
}
