//! A webhook receiver that keeps every request and answers as it was told to.
//!
//! It checks no signature: what it keeps is for others to check.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use chrono::{DateTime, Utc};
use hyper::body::Incoming;

use super::listener::{Listener, Reset, serve_http};
use super::shelf::Shelf;
use super::{Certificates, Clock};

/// The most of a body that is read; a larger one is answered with 413 and not kept.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How to start a [`Sink`].
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The chain to show; `None` is plain HTTP.
    pub tls: Option<Certificates>,
    /// The clock that stamps what arrives.
    pub clock: Clock,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            clock: Clock::default(),
        }
    }
}

/// One request that came in.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Path and query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// When it was complete.
    pub at: DateTime<Utc>,
    /// The status that it was answered with; `None` if it was not answered.
    pub status_answered: Option<u16>,
}

impl Hook {
    /// The value of a header, empty if it is missing or not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON. Errors if it is none.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// What the sink does with one request. It keeps the request in every case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// This status with this body.
    Body(u16, String),
    /// This status with this value of `Retry-After`: seconds or a date.
    RetryAfter(u16, String),
    /// 302 to this address.
    Redirect(String),
    /// None, until the client leaves.
    Hang,
    /// None: a TCP reset.
    Reset,
}

/// A running webhook receiver; dropping it closes its port.
#[derive(Debug)]
pub struct Sink {
    listener: Listener,
    scheme: &'static str,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hooks: Arc<Shelf<Hook>>,
    script: Mutex<VecDeque<Answer>>,
    default: Mutex<Answer>,
    clock: Clock,
}

impl Sink {
    /// Starts to listen. Errors if the address cannot be bound.
    pub async fn start(options: SinkOptions) -> anyhow::Result<Self> {
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let tls = options.tls.as_ref().map(Certificates::server_config);
        let shared = Arc::new(Shared {
            hooks: Shelf::new(),
            script: Mutex::default(),
            default: Mutex::new(Answer::Status(200)),
            clock: options.clock,
        });
        let connections = shared.clone();
        let listener = Listener::start(options.bind, move |wire, stop| {
            let (shared, tls) = (connections.clone(), tls.clone());
            async move {
                let reset = wire.reset();
                serve_http(wire, tls, stop, |request| {
                    receive(shared.clone(), reset.clone(), request)
                })
                .await;
            }
        })
        .await?;
        Ok(Self { listener, scheme, shared })
    }

    /// The base URL, without a path; every path is accepted.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.listener.addr())
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// Appends answers for the next requests, one each; when they are used up, the default answer follows.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }

    /// Replaces the default answer, which is at first 200.
    pub fn set_default(&self, answer: Answer) {
        *self.shared.default.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// What arrived, oldest first; the last thousand.
    pub fn hooks(&self) -> Vec<Hook> {
        self.shared.hooks.all()
    }

    /// What arrived, oldest first, which is then forgotten: between the two nothing slips away.
    pub fn take(&self) -> Vec<Hook> {
        self.shared.hooks.take()
    }

    /// Forgets what arrived, and counts from zero.
    pub fn clear(&self) {
        self.shared.hooks.clear();
    }

    /// Waits until `count` requests arrived in all, then returns what is kept. Errors after `patience`.
    pub async fn wait_for(&self, count: u64, patience: Duration) -> anyhow::Result<Vec<Hook>> {
        self.shared.hooks.wait_for(count, patience).await
    }

    pub(super) fn shelf(&self) -> Arc<Shelf<Hook>> {
        self.shared.hooks.clone()
    }
}

impl Shared {
    fn next_answer(&self) -> Answer {
        let scripted = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        scripted
            .unwrap_or_else(|| self.default.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

async fn receive(
    shared: Arc<Shared>,
    reset: Reset,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(Body::new(body), BODY_BYTES_MAX).await else {
        return Ok(response(413, Body::empty()));
    };
    let answer = shared.next_answer();
    let status_answered = match answer {
        Answer::Status(status) | Answer::Body(status, _) | Answer::RetryAfter(status, _) => {
            Some(status)
        }
        Answer::Redirect(_) => Some(302),
        Answer::Hang | Answer::Reset => None,
    };
    shared.hooks.put(Hook {
        path: head.uri.path_and_query().map_or("/", |it| it.as_str()).to_owned(),
        headers: head.headers,
        body: body.to_vec(),
        at: shared.clock.now(),
        status_answered,
    });
    match answer {
        Answer::Status(status) => Ok(response(status, Body::empty())),
        Answer::Body(status, text) => Ok(response(status, Body::from(text))),
        Answer::RetryAfter(status, value) => {
            Ok(with_header(response(status, Body::empty()), RETRY_AFTER, &value))
        }
        Answer::Redirect(to) => Ok(with_header(response(302, Body::empty()), LOCATION, &to)),
        Answer::Hang => std::future::pending().await,
        Answer::Reset => Err(reset.now()),
    }
}

fn response(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn with_header(
    mut response: Response<Body>,
    name: axum::http::HeaderName,
    value: &str,
) -> Response<Body> {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
    response
}
