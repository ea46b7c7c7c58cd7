//! What is known, as JSON, in the envelope of the Prometheus API.
//!
//! Rows are only ever extended: scripts read them.

mod keys;
mod notifications;
mod silences;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;

pub(super) use self::keys::keys;
pub(super) use self::notifications::notifications;
pub use self::silences::SilenceRow;
pub(super) use self::silences::{add_silence, end_silence, silence, silences};
use super::Web;
use crate::alert::{AlertName, Found};
use crate::observation::Reading;
use crate::status::{CredentialStatus, FiringAlert};
use crate::time;

/// All credentials, in the order of the configuration.
pub(super) async fn credentials(State(web): State<Arc<Web>>) -> Response {
    let now = time::now();
    let rendered = super::render(move || {
        let snapshot = web.board.snapshot();
        let rows = snapshot.credentials.iter().map(|it| CredentialRow::new(it, now));
        success(&CredentialRows { credentials: rows.collect() })
    });
    rendered.await.unwrap_or_else(|response| response)
}

/// One credential.
pub(super) async fn credential(
    State(web): State<Arc<Web>>,
    Path((platform, name)): Path<(String, String)>,
) -> Response {
    let snapshot = web.board.snapshot();
    let mut rows = snapshot.credentials.iter();
    match rows.find(|it| *it.id.platform == *platform && *it.id.name == *name) {
        Some(row) => success(&CredentialRow::new(row, time::now())),
        None => error(&format!("the configuration has no credential {platform}/{name}")),
    }
}

/// All firing alerts: those of platforms, then those of credentials, then those of listed keys that have not expired yet.
pub(super) async fn alerts(State(web): State<Arc<Web>>) -> Response {
    let snapshot = web.board.snapshot();
    let of_platforms = snapshot.platforms.iter().flat_map(|platform| {
        platform.alerts.iter().map(|it| AlertRow::new(it, &platform.name, None))
    });
    let of_credentials = snapshot.credentials.iter().flat_map(|row| {
        row.alerts.iter().map(|it| AlertRow::new(it, &row.id.platform, Some(&row.id.name)))
    });
    let of_keys = snapshot.lists.iter().flat_map(|list| {
        // That a listed key has expired lasts until it is listed no more, and is no news.
        let firing = |found: &Found| -> Option<FiringAlert> {
            let lifetime = found.state.lifetime.as_ref();
            lifetime.filter(|it| it.name != AlertName::CredentialExpired).map(FiringAlert::of)
        };
        list.keys.iter().filter_map(move |found| {
            Some(AlertRow::new(&firing(found)?, &list.id.platform, Some(&found.item.id)))
        })
    });
    success(&AlertRows { alerts: of_platforms.chain(of_credentials).chain(of_keys).collect() })
}

/// What was built.
pub(super) async fn build_info(State(web): State<Arc<Web>>) -> Response {
    success(&BuildRow {
        version: web.version.version,
        revision: web.version.revision,
        rust_version: web.version.rust_version,
    })
}

/// Any other path under `/api`.
pub(super) async fn not_found(request: Request) -> Response {
    error(&format!("there is nothing at {}", request.uri().path()))
}

fn success<T: Serialize>(data: &T) -> Response {
    Json(Success { status: "success", data }).into_response()
}

fn error(message: &str) -> Response {
    failure(StatusCode::NOT_FOUND, "not_found", message)
}

fn failure(status: StatusCode, error_type: &'static str, message: &str) -> Response {
    let body = Failure { status: "error", error_type, error: message };
    (status, Json(body)).into_response()
}

#[derive(Serialize)]
struct Success<'a, T> {
    status: &'static str,
    data: &'a T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    status: &'static str,
    error_type: &'static str,
    error: &'a str,
}

#[derive(Serialize)]
struct CredentialRows<'a> {
    credentials: Vec<CredentialRow<'a>>,
}

#[derive(Serialize)]
struct CredentialRow<'a> {
    platform: &'a str,
    name: &'a str,
    kind: &'a str,
    key_id: Option<&'a str>,
    team: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
    used_by: &'a [String],
    renewal_note: Option<&'a str>,
    expiry: ExpiryRow,
    probe: ProbeRow<'a>,
    steps: Vec<StepRow>,
    alerts: Vec<AlertRow<'a>>,
}

#[derive(Serialize)]
struct ExpiryRow {
    /// `dated`, `never`, `undated`, `unknown`.
    state: &'static str,
    expires_at: Option<DateTime<Utc>>,
    /// Negative once expired.
    seconds_left: Option<i64>,
    observed_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct ProbeRow<'a> {
    /// Absent before the first probe.
    success: Option<bool>,
    last_run_at: Option<DateTime<Utc>>,
    last_success_at: Option<DateTime<Utc>>,
    next_run_at: Option<DateTime<Utc>>,
    interval_seconds: f64,
    duration_seconds: Option<f64>,
    http_status: Option<u16>,
    failure_reason: Option<&'static str>,
    error: Option<&'a str>,
    total: u64,
    failures_total: u64,
}

#[derive(Serialize)]
struct StepRow {
    before_seconds: u64,
    severity: &'static str,
}

#[derive(Serialize)]
struct AlertRows<'a> {
    alerts: Vec<AlertRow<'a>>,
}

/// The fields that the Prometheus API has are named as there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertRow<'a> {
    labels: BTreeMap<&'static str, &'a str>,
    state: &'static str,
    active_at: DateTime<Utc>,
    last_notified_at: DateTime<Utc>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildRow {
    version: &'static str,
    revision: &'static str,
    rust_version: &'static str,
}

impl<'a> CredentialRow<'a> {
    fn new(status: &'a CredentialStatus, now: DateTime<Utc>) -> Self {
        let alerts = status.alerts.iter();
        let alerts = alerts.map(|it| AlertRow::new(it, &status.id.platform, Some(&status.id.name)));
        let steps = status.policy.steps.iter().map(|it| StepRow {
            before_seconds: it.before.as_secs(),
            severity: it.severity.label(),
        });
        Self {
            platform: &status.id.platform,
            name: &status.id.name,
            kind: status.kind,
            key_id: status.key_id.as_deref(),
            team: status.team.as_deref(),
            labels: &status.labels,
            used_by: &status.used_by,
            renewal_note: status.renewal_note.as_deref(),
            expiry: ExpiryRow::new(status, now),
            probe: ProbeRow::new(status),
            steps: steps.collect(),
            alerts: alerts.collect(),
        }
    }
}

impl ExpiryRow {
    fn new(status: &CredentialStatus, now: DateTime<Utc>) -> Self {
        let (state, expires_at) = match status.reading {
            Some(Reading::ExpiresAt(at)) => ("dated", Some(at)),
            Some(Reading::Never) => ("never", None),
            Some(Reading::Undated) => ("undated", None),
            None => ("unknown", None),
        };
        let seconds_left = expires_at.map(|at| (at - now).num_seconds());
        Self { state, expires_at, seconds_left, observed_at: status.observed_at }
    }
}

impl<'a> ProbeRow<'a> {
    fn new(status: &'a CredentialStatus) -> Self {
        let failure = status.failure.as_ref();
        Self {
            success: status.last_run.map(|_| failure.is_none()),
            last_run_at: status.last_run,
            last_success_at: status.last_success,
            next_run_at: status.next_run,
            interval_seconds: status.interval.as_secs_f64(),
            duration_seconds: status.last_run.map(|_| status.took.as_secs_f64()),
            http_status: status.http_status,
            failure_reason: failure.map(|(reason, _)| reason.label()),
            error: failure.map(|(_, why)| why.as_str()),
            total: status.probes_total,
            failures_total: status.probe_failures_total,
        }
    }
}

impl<'a> AlertRow<'a> {
    fn new(alert: &FiringAlert, platform: &'a str, credential: Option<&'a str>) -> Self {
        let mut labels = BTreeMap::from([
            ("alertname", alert.name.label()),
            ("platform", platform),
            ("severity", alert.severity.label()),
        ]);
        if let Some(credential) = credential {
            labels.insert("credential", credential);
        }
        Self {
            labels,
            state: "firing",
            active_at: alert.starts_at,
            last_notified_at: alert.told_at,
        }
    }
}
