//! Metrics, pages and the probe endpoint over HTTP.
//!
//! Everything shown comes from one `Snapshot` in memory; nothing here reads the store or talks to ECE, and the only
//! things a request can start are a probe of a configured credential and, if allowed, a reload. Names come from the
//! configuration, never a URL or a key from a query.

mod api;
mod health;
mod limit;
pub mod notification;
mod page;
mod runbooks;
mod scrape;
mod server;
mod silencing;

use std::sync::{Arc, RwLock};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

pub use self::api::SilenceRow;
use self::limit::limited;
pub use self::server::{ServeOptions, serve};
pub use crate::metrics::BuildInfo;
use crate::metrics::Telemetry;
use crate::monitor;
use crate::notify::own::OwnKey;
use crate::outbox::SilenceRequest;
use crate::status::Board;

/// A wish to load the configuration anew; the answer says why it was refused.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// What the server shows and whom it asks.
#[derive(Debug)]
pub struct Web {
    /// What is known of credentials and platforms.
    pub board: Arc<Board>,
    /// What the exporter counts about itself.
    pub telemetry: Arc<Telemetry>,
    /// The configuration in force as YAML, every secret already replaced.
    pub config_yaml: Arc<RwLock<String>>,
    /// Takes wishes to load the configuration anew.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// Takes wishes to probe a credential now.
    pub probe: mpsc::Sender<monitor::ProbeRequest>,
    /// Whether a request may reload the configuration.
    pub lifecycle: Lifecycle,
    /// Whether requests may change silences.
    pub admin_api: AdminApi,
    /// Checks the links by which somebody owns an alert; `None` while there are none.
    pub own_key: Arc<RwLock<Option<OwnKey>>>,
    /// Where metrics are, e.g. `/metrics`; checked by `telemetry_path`.
    pub telemetry_path: String,
    /// What was built.
    pub version: BuildInfo,
    /// When the process started.
    pub started: DateTime<Utc>,
    /// Asks the outbox to change the silences.
    pub silence: mpsc::Sender<SilenceRequest>,
    /// Requests of one kind (scrapes, probes, pages) answered at once; beyond that the answer is 503.
    pub requests_max: usize,
    /// Why the last reload was refused; shown on the page.
    pub config_error: Arc<RwLock<Option<String>>>,
    /// Why the store cannot be written; shown on the page.
    pub store_error: Arc<RwLock<Option<String>>>,
}

/// Whether a request may reload the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifecycle {
    /// `POST /-/reload` reloads.
    Enabled,
    /// It is refused; SIGHUP still reloads.
    #[default]
    Disabled,
}

/// Whether requests may change silences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AdminApi {
    /// Forms and API do.
    Enabled,
    /// They are shown only; the command line and signed links still change them.
    #[default]
    Disabled,
}

/// Paths that are taken; metrics cannot be there or below.
const OWN_PATHS: [&str; 9] = [
    "/-",
    "/api",
    "/config",
    "/keys",
    "/notifications",
    "/own",
    "/probe",
    "/runbooks",
    "/silences",
];

/// Checks where metrics are to be: fit for `Web::telemetry_path`.
///
/// # Errors
///
/// A sentence that says what is wrong with the path.
pub fn telemetry_path(path: &str) -> Result<String, String> {
    let fits = |it: u8| it.is_ascii_alphanumeric() || b"-._~/".contains(&it);
    if !path.starts_with('/') {
        return Err(format!("`{path}` must begin with a slash"));
    }
    if !path.bytes().all(fits) || path.contains("//") {
        return Err(format!("`{path}` may only hold letters, digits, `-`, `.`, `_`, `~` and `/`"));
    }
    let below =
        |own: &str| path.strip_prefix(own).is_some_and(|it| it.is_empty() || it.starts_with('/'));
    if let Some(own) = OWN_PATHS.into_iter().find(|own| below(own)) {
        return Err(format!("`{path}` is taken: `{own}` has another use"));
    }
    Ok(path.to_owned())
}

/// All endpoints. `web.telemetry_path` must be one that `telemetry_path` accepts.
pub fn router(web: Arc<Web>) -> Router {
    let scrapes = Router::new().route(&web.telemetry_path, get(scrape::metrics));
    let probes = Router::new().route("/probe", get(scrape::probe));
    let mut pages = Router::new()
        .route("/config", get(health::config))
        .route("/keys", get(page::keys::page))
        .route("/notifications", get(page::notifications::page))
        .route("/runbooks", get(runbooks::folder))
        .route("/runbooks/", get(runbooks::index))
        .route("/runbooks/{name}", get(runbooks::runbook))
        .route("/api/v1/credentials", get(api::credentials))
        .route("/api/v1/credentials/{platform}/{credential}", get(api::credential))
        .route("/api/v1/alerts", get(api::alerts))
        .route("/api/v1/keys", get(api::keys))
        .route("/api/v1/notifications", get(api::notifications))
        .route("/silences", get(page::silences::page).post(page::silences::posted))
        .route("/own", get(page::own::page).post(page::own::posted))
        .route("/api/v1/silences", get(api::silences).post(api::add_silence))
        .route("/api/v1/silences/{id}", get(api::silence).delete(api::end_silence))
        .route("/api/v1/status/buildinfo", get(api::build_info))
        .route("/api", get(api::not_found))
        .route("/api/{*rest}", get(api::not_found));
    if web.telemetry_path != "/" {
        pages = pages.route("/", get(page::page));
    }
    let health = Router::new()
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .route(
            "/-/reload",
            get(health::reload_needs_post).post(health::reload).put(health::reload),
        );
    let max = web.requests_max;
    Router::new()
        .merge(limited(scrapes, max))
        .merge(limited(probes, max))
        .merge(limited(pages, max))
        .merge(health)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(CatchPanicLayer::new())
        .layer(middleware::map_response(guard))
        .with_state(web)
}

/// What every answer says, errors included.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn not_found(request: Request) -> Response {
    let message = format!("404: there is nothing at {}", request.uri().path());
    text(StatusCode::NOT_FOUND, &message)
}

async fn method_not_allowed(method: Method) -> Response {
    let message = format!("405: this endpoint does not answer to {method}");
    text(StatusCode::METHOD_NOT_ALLOWED, &message)
}

/// An answer for people and logs: one line, or several.
fn text(status: StatusCode, message: &str) -> Response {
    let mut body = message.to_owned();
    if !body.ends_with('\n') {
        body.push('\n');
    }
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// Runs what takes long for many credentials off the threads that serve everybody.
async fn render<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Response> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| {
        text(StatusCode::INTERNAL_SERVER_ERROR, "500: the answer could not be made; see the log")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_would_hide_another_endpoint_is_refused() {
        for good in ["/", "/metrics", "/a/b-c.d_e~f", "/probes", "/apis/x"] {
            assert_eq!(telemetry_path(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "metrics",
            "/{x}",
            "/a b",
            "/a?b",
            "//",
            "/probe",
            "/api/v1/x",
            "/-/ready",
            "/-",
            "/runbooks/x",
        ] {
            assert!(telemetry_path(bad).is_err(), "{bad}");
        }
    }
}
