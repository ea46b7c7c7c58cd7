//! A page that shows what the mailbox and the sink received: the receiving end of the demo.
//!
//! Rendered here, without scripts and without any request to elsewhere. It asks for no password and is meant for the
//! loopback interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use minijinja::{Environment, context};

use super::listener::{Listener, serve_http};
use super::shelf::Shelf;
use super::{Hook, Mail, Mailbox, Sink};
use crate::notify::mime;

/// The most rows of each list; older ones are still kept and can be reached by their number.
const ROWS_MAX: usize = 100;

const PAGE: &str = include_str!("desk.html");
const STYLE: &str = include_str!("desk.css");

/// The page itself: nothing but its own style sheet, and frames of its own for HTML mails.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An HTML mail: its own inline styles, no scripts, no images, no links out, shown by this page alone.
const MAIL_POLICY: &str =
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'";

/// A running desk on a port of its own; dropping it closes the port.
#[derive(Debug)]
pub struct Desk {
    listener: Listener,
}

impl Desk {
    /// Serves [`desk`] on `bind`; port 0 takes a free one. Errors if the address cannot be bound.
    pub async fn start(bind: SocketAddr, mailbox: &Mailbox, sink: &Sink) -> anyhow::Result<Self> {
        let service = TowerToHyperService::new(desk(mailbox, sink));
        let listener = Listener::start(bind, move |wire, stop| {
            let service = service.clone();
            async move {
                let answer = |request| {
                    let answer = service.call(request);
                    async move { answer.await.map_err(|never| match never {}) }
                };
                serve_http(wire, None, stop, answer).await;
            }
        })
        .await?;
        Ok(Self { listener })
    }

    /// The URL of the page.
    pub fn url(&self) -> String {
        let mut addr = self.listener.addr();
        if addr.ip().is_unspecified() {
            addr.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{addr}/")
    }
}

/// What the pages show.
#[derive(Clone)]
struct Shelves {
    mails: Arc<Shelf<Mail>>,
    hooks: Arc<Shelf<Hook>>,
}

/// The pages: `/` lists, `/mail/{number}` and `/hook/{number}` show one. Its links are relative to `/`.
pub fn desk(mailbox: &Mailbox, sink: &Sink) -> Router {
    Router::new()
        .route("/", get(list))
        .route("/mail/{number}", get(mail))
        .route("/mail/{number}/html", get(mail_html))
        .route("/hook/{number}", get(hook))
        .route("/desk.css", get(style))
        .with_state(Shelves { mails: mailbox.shelf(), hooks: sink.shelf() })
}

async fn list(State(shelves): State<Shelves>) -> Response {
    let mails: Vec<_> = shelves
        .mails
        .numbered()
        .into_iter()
        .take(ROWS_MAX)
        .map(|(number, mail)| {
            context! { number, subject => shown(&mail.subject()), to => mail.to.join(", "), at => time(mail.at) }
        })
        .collect();
    let hooks: Vec<_> = shelves
        .hooks
        .numbered()
        .into_iter()
        .take(ROWS_MAX)
        .map(|(number, hook)| {
            context! { number, kind => kind(&hook), answered => answered(&hook), at => time(hook.at) }
        })
        .collect();
    page(context! { page => "list", root => "", mails, hooks })
}

async fn mail(State(shelves): State<Shelves>, Path(number): Path<u64>) -> Response {
    let Some(mail) = shelves.mails.get(number) else { return gone() };
    let letter = mime::read(&mail.raw);
    page(context! {
        page => "mail",
        root => "../",
        number,
        subject => shown(&letter.subject),
        from => mail.from,
        to => mail.to.join(", "),
        at => time(mail.at),
        carried => if mail.tls { "over TLS" } else { "in the clear" },
        user => mail.auth_user,
        text => letter.text,
        has_html => letter.html.is_some(),
    })
}

async fn mail_html(State(shelves): State<Shelves>, Path(number): Path<u64>) -> Response {
    let html = shelves.mails.get(number).and_then(|mail| mime::read(&mail.raw).html);
    match html {
        Some(html) => reply("text/html; charset=utf-8", MAIL_POLICY, html),
        None => gone(),
    }
}

async fn hook(State(shelves): State<Shelves>, Path(number): Path<u64>) -> Response {
    let Some(hook) = shelves.hooks.get(number) else { return gone() };
    let headers: Vec<(String, String)> = hook
        .headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let body = match hook.json().and_then(|json| Ok(serde_json::to_string_pretty(&json)?)) {
        Ok(pretty) => pretty,
        Err(_) => String::from_utf8_lossy(&hook.body).into_owned(),
    };
    page(context! {
        page => "hook",
        root => "../",
        kind => kind(&hook),
        answered => answered(&hook),
        path => hook.path,
        at => time(hook.at),
        headers,
        body,
    })
}

async fn style() -> Response {
    reply("text/css; charset=utf-8", PAGE_POLICY, STYLE.to_owned())
}

/// The event type of a hook: member `type` of our own format, else `status` of Alertmanager's, else its path.
fn kind(hook: &Hook) -> String {
    let json = hook.json().unwrap_or_default();
    let member = json["type"].as_str().or_else(|| json["status"].as_str());
    member.map_or_else(|| hook.path.clone(), str::to_owned)
}

fn answered(hook: &Hook) -> String {
    hook.status_answered.map_or_else(|| "nothing".to_owned(), |status| status.to_string())
}

fn shown(subject: &str) -> &str {
    if subject.is_empty() { "(no subject)" } else { subject }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn page(values: minijinja::Value) -> Response {
    // The name ends in .html, which turns escaping on.
    let mut environment = Environment::new();
    let rendered = environment
        .add_template("desk.html", PAGE)
        .and_then(|()| environment.get_template("desk.html"))
        .and_then(|template| template.render(values));
    match rendered {
        Ok(html) => reply("text/html; charset=utf-8", PAGE_POLICY, html),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot render the page: {error:#}\n"))
                .into_response()
        }
    }
}

fn reply(content_type: &'static str, policy: &'static str, body: String) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (axum::http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body).into_response()
}

fn gone() -> Response {
    (StatusCode::NOT_FOUND, "not here: it never arrived, or it made room for newer ones\n")
        .into_response()
}
