//! Metrics, and a probe on demand.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Web, text};
use crate::config::CredentialId;
use crate::metrics::{self, Format, negotiation};
use crate::monitor::ProbeRequest;
use crate::status::CredentialStatus;
use crate::time;

/// Tells how long Prometheus waits for this scrape.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// Kept back from Prometheus's deadline, so that the answer still arrives.
const SCRAPE_RESERVE_SECONDS: f64 = 0.5;

/// How long a request without that header waits for its probe.
const PROBE_WAIT_SECONDS: f64 = 30.0;

/// The longest wait for a probe, whatever the header says.
const PROBE_WAIT_SECONDS_MAX: f64 = 120.0;

/// All metrics, in the format that the client asks for.
pub(super) async fn metrics(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    let format = asked_for(&headers);
    let now = time::now();
    let rendered =
        super::render(move || metrics::render(&web.board.snapshot(), &web.telemetry, now, format));
    match rendered.await {
        Ok(rendered) => exposition(rendered, format),
        Err(response) => response,
    }
}

/// Which credential to probe.
#[derive(Debug, Deserialize)]
pub(super) struct ProbeQuery {
    platform: Option<String>,
    credential: Option<String>,
    #[serde(default)]
    debug: bool,
}

/// Probes a configured credential now and answers its metrics only.
pub(super) async fn probe(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    query: Result<Query<ProbeQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(ProbeQuery { platform: Some(platform), credential: Some(name), debug })) = query
    else {
        let message =
            "400: ask with /probe?platform=NAME&credential=NAME, and &debug=true for the details";
        return text(StatusCode::BAD_REQUEST, message);
    };
    let id = CredentialId { platform: platform.into(), name: name.into() };
    if !web.board.snapshot().credentials.iter().any(|it| it.id == id) {
        let message = format!(
            "404: the configuration has no credential {id}; /api/v1/credentials lists them"
        );
        return text(StatusCode::NOT_FOUND, &message);
    }

    let wait = wait_for_probe(&headers);
    let (reply, answer) = oneshot::channel();
    let asked = async {
        web.probe.send(ProbeRequest { id: id.clone(), reply }).await.ok()?;
        answer.await.ok()
    };
    let status = match timeout(wait, asked).await {
        Ok(Some(status)) => status,
        Ok(None) => {
            let message = format!(
                "503: {id} was not probed: it was just removed, or the exporter is stopping"
            );
            return text(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
        Err(_) => {
            let message = format!(
                "504: the probe of {id} has not finished within {:.1} s; /metrics shows its result when it has",
                wait.as_secs_f64()
            );
            return text(StatusCode::GATEWAY_TIMEOUT, &message);
        }
    };
    // OpenMetrics allows no free comments.
    let format = if debug { Format::Text } else { asked_for(&headers) };
    let rendered = metrics::probe_only(&status, time::now(), format);
    let explained = rendered.map(|it| if debug { it + &explain(&status) } else { it });
    exposition(explained, format)
}

/// The last probe as comment lines.
fn explain(status: &CredentialStatus) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        // A line break would end the comment.
        let text = text.replace(['\n', '\r'], " ");
        let _ = writeln!(out, "# debug: {text}");
    };
    line(&format!("probe of {} took {} s", status.id, status.took.as_secs_f64()));
    match status.http_status {
        Some(code) => line(&format!("ECE answered with status {code}")),
        None => line("there was no answer"),
    }
    match &status.failure {
        Some((reason, why)) => line(&format!("it failed, {}: {why}", reason.label())),
        None => line("it succeeded"),
    }
    out
}

fn asked_for(headers: &HeaderMap) -> Format {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
    let accept: Vec<_> = values.collect();
    negotiation::negotiate(Some(&accept.join(",")))
}

fn wait_for_probe(headers: &HeaderMap) -> Duration {
    let announced =
        headers.get(SCRAPE_TIMEOUT).and_then(|it| it.to_str().ok()?.parse::<f64>().ok());
    let seconds = match announced {
        Some(seconds) if seconds.is_finite() => (seconds - SCRAPE_RESERVE_SECONDS).max(0.0),
        _ => PROBE_WAIT_SECONDS,
    };
    Duration::from_secs_f64(seconds.min(PROBE_WAIT_SECONDS_MAX))
}

fn exposition(rendered: Result<String, fmt::Error>, format: Format) -> Response {
    match rendered {
        Ok(body) => {
            let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
            (headers, body).into_response()
        }
        Err(why) => {
            let message = format!("500: the metrics cannot be encoded: {why}");
            text(StatusCode::INTERNAL_SERVER_ERROR, &message)
        }
    }
}
