//! Who was told what, as JSON or CSV.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::success;
use crate::status::{Notification, Wanted};
use crate::time;
use crate::web::notification::{Addresses, Filter, NotificationRow, csv};
use crate::web::{Web, render, text};

/// What is asked for. The fields of the filter stand here once more: a flattened number is not read from a query.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct NotificationsQuery {
    receiver: String,
    integration: String,
    state: String,
    credential: String,
    since: String,
    until: String,
    /// How many are wanted, newest first.
    limit: Option<usize>,
    /// `json` or `csv`.
    format: String,
}

/// The notifications that are wanted, newest first.
pub(in crate::web) async fn notifications(
    State(web): State<Arc<Web>>,
    query: Result<Query<NotificationsQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return text(StatusCode::BAD_REQUEST, "400: `limit` is a number");
    };
    let NotificationsQuery {
        receiver,
        integration,
        state,
        credential,
        since,
        until,
        limit,
        format,
    } = query;
    let filter = Filter { receiver, integration, state, credential, since, until };
    let wanted = match filter.wanted(time::now()) {
        Ok(wanted) => wanted,
        Err(why) => return text(StatusCode::BAD_REQUEST, &format!("400: {why}")),
    };
    let is_csv = match format.as_str() {
        "" | "json" => false,
        "csv" => true,
        _ => return text(StatusCode::BAD_REQUEST, "400: `format` is `json` or `csv`"),
    };
    let rendered = render(move || {
        let snapshot = web.board.snapshot();
        let found: Vec<&Notification> =
            snapshot.notifications.iter().filter(|it| Wanted::takes(&wanted, it)).collect();
        let rows = found.iter().take(limit.unwrap_or(usize::MAX));
        if is_csv {
            let head = [
                (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
                (header::CONTENT_DISPOSITION, "attachment; filename=\"notifications.csv\""),
            ];
            return (head, csv(rows.copied(), Addresses::Masked)).into_response();
        }
        success(&NotificationRows {
            total: found.len(),
            notifications: rows.map(|it| NotificationRow::new(it, Addresses::Masked)).collect(),
        })
    });
    rendered.await.unwrap_or_else(|response| response)
}

#[derive(Serialize)]
struct NotificationRows<'a> {
    /// How many of those that the exporter shows match.
    total: usize,
    notifications: Vec<NotificationRow<'a>>,
}
