//! The runbooks: for each alert what it means and what to do, as pages for people.
//!
//! They are the files of `docs/runbooks` and part of the program, so the link in an alert works wherever its exporter
//! does. They link to each other as files (`NAME.md`), and both spellings are served. Nothing here depends on state.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pulldown_cmark::{Options, Parser, html};
use serde::Serialize;

use super::{Web, page, text};

macro_rules! runbooks {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../docs/runbooks/", $name, ".md")))),*]
    };
}

/// Every runbook: its name, which is the alert's, and its text in Markdown.
const RUNBOOKS: [(&str, &str); 23] = runbooks! {
    "ECECredentialExpired"
    "ECECredentialExpiring"
    "ECECredentialRejected"
    "ECECredentialForbidden"
    "ECECredentialExpiryUnknown"
    "ECECredentialNeverExpires"
    "ECEApiKeyCreated"
    "ECEApiKeyDeleted"
    "ECEApiKeyLongLived"
    "ECEApiKeysTruncated"
    "ECEDeploymentsUnread"
    "ECEProbeFailing"
    "ECEExpiryDataStale"
    "ECEPlatformUnreachable"
    "ECEPlatformClockSkew"
    "ECEExpiryExporterDown"
    "ECEExpiryExporterAbsent"
    "ECEExpiryExporterNoCredentials"
    "ECEExpiryExporterConfigReloadFailed"
    "ECEExpiryExporterSchedulerStalled"
    "ECEExpiryNotificationsFailing"
    "ECEExpiryNotificationsStuck"
    "ECEExpiryExporterStateNotSaved"
};

/// The list of them all.
const INDEX: &str = include_str!("../../docs/runbooks/README.md");

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    version: &'a str,
    /// Our own Markdown as HTML.
    body: minijinja::Value,
}

/// The runbook of one alert.
pub(super) async fn runbook(State(web): State<Arc<Web>>, Path(name): Path<String>) -> Response {
    let wanted = name.strip_suffix(".md").unwrap_or(&name);
    match RUNBOOKS.iter().find(|(name, _)| *name == wanted) {
        Some((name, markdown)) => show(&web, name, markdown),
        None => {
            let message = format!("404: there is no runbook {wanted}; /runbooks/ lists them all");
            text(StatusCode::NOT_FOUND, &message)
        }
    }
}

/// The list of all runbooks.
pub(super) async fn index(State(web): State<Arc<Web>>) -> Response {
    show(&web, "Runbooks", INDEX)
}

/// The list is a folder, so that its links work behind a proxy that adds a path.
pub(super) async fn folder() -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "runbooks/")]).into_response()
}

fn show(web: &Web, title: &str, markdown: &str) -> Response {
    let mut body = String::with_capacity(2 * markdown.len());
    html::push_html(&mut body, Parser::new_ext(markdown, Options::ENABLE_TABLES));
    let page = Page {
        title,
        version: web.version.version,
        body: minijinja::Value::from_safe_string(body),
    };
    let rendered = page::TEMPLATES
        .get_template("runbook.html")
        .and_then(|it| it.render(minijinja::value::Serde(page)));
    match rendered {
        Ok(html) => (page::headers(), html).into_response(),
        Err(why) => {
            let message = format!("500: the runbook cannot be rendered: {why}");
            text(StatusCode::INTERNAL_SERVER_ERROR, &message)
        }
    }
}
