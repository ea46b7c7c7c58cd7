//! What supervisors ask, and the configuration.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Lifecycle, Web, text};
use crate::time;

/// A scheduler that has not run for so long hangs: it runs at least once a minute.
const TICK_AGE_MAX: TimeDelta = TimeDelta::minutes(5);

/// After this time the exporter is ready although not every credential was probed: a slow ECE is no reason to keep a
/// service out of a load balancer.
const WARM_UP_MAX: TimeDelta = TimeDelta::minutes(2);

/// How long a request waits for a reload.
const RELOAD_WAIT_MAX: Duration = Duration::from_secs(60);

/// Whether the process should live: 503 asks a supervisor to restart it.
pub(super) async fn healthy(State(web): State<Arc<Web>>) -> Response {
    let now = time::now();
    let ticked = web.telemetry.last_tick().unwrap_or(web.started);
    if now - ticked > TICK_AGE_MAX {
        let message = format!(
            "the scheduler has not run since {}; restart the process",
            ticked.format("%Y-%m-%d %H:%M:%S UTC")
        );
        return text(StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    text(StatusCode::OK, "ece-expiry-exporter is Healthy.")
}

/// Whether what is shown is complete. Does not depend on ECE: a failed probe is a finished one.
pub(super) async fn ready(State(web): State<Arc<Web>>) -> Response {
    let snapshot = web.board.snapshot();
    let waiting = snapshot.credentials.iter().filter(|it| it.last_run.is_none()).count();
    if waiting > 0 && time::now() - web.started <= WARM_UP_MAX {
        let all = snapshot.credentials.len();
        let message = format!("{waiting} of {all} credentials have not been probed yet");
        return text(StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    text(StatusCode::OK, "ece-expiry-exporter is Ready.")
}

/// Loads the configuration anew; what was loaded before stays in force if it is refused.
pub(super) async fn reload(State(web): State<Arc<Web>>) -> Response {
    if web.lifecycle == Lifecycle::Disabled {
        let message =
            "reloading over HTTP is off: start with --web.enable-lifecycle, or send SIGHUP";
        return text(StatusCode::FORBIDDEN, message);
    }
    let (reply, answer) = oneshot::channel();
    let asked = async {
        web.reload.send(reply).await.ok()?;
        answer.await.ok()
    };
    match timeout(RELOAD_WAIT_MAX, asked).await {
        Ok(Some(Ok(()))) => text(StatusCode::OK, "the configuration was loaded"),
        Ok(Some(Err(why))) => {
            let message =
                format!("the old configuration stays in force; the new one has errors:\n{why}");
            text(StatusCode::INTERNAL_SERVER_ERROR, &message)
        }
        Ok(None) => text(StatusCode::SERVICE_UNAVAILABLE, "the exporter is stopping"),
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the reload has not finished within a minute; the log tells what becomes of it",
        ),
    }
}

/// A reload changes something, so a link must not do it.
pub(super) async fn reload_needs_post() -> Response {
    let message = "This endpoint requires a POST request.";
    ([(header::ALLOW, "POST, PUT")], text(StatusCode::METHOD_NOT_ALLOWED, message)).into_response()
}

/// The configuration in force, without secrets.
pub(super) async fn config(State(web): State<Arc<Web>>) -> Response {
    let yaml = web.config_yaml.read().unwrap_or_else(PoisonError::into_inner).clone();
    text(StatusCode::OK, &yaml)
}
