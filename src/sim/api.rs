//! The HTTP calls of the simulated ECE, its errors, and its ways to fail.

mod deployments;
pub(super) mod platform;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER,
};
use axum::http::request::Parts;
use axum::http::response::Builder;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat, Utc};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};

use super::ece::{Coordinator, HeaderPath};
use super::listener::Reset;
use super::world::{ErrorBody, Expires, Fault, HeaderMode, Role, SimKey, Works, World};
use super::{hosted, sessions};

/// The most that is read of a request; a login has some 100 bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

const EXPIRATION: &str = "x-elastic-api-key-expiration";

/// The pause between two bytes of a slow body.
const SLOW_PAUSE: Duration = Duration::from_secs(1);

/// The pause before a body breaks off, so that what was sent until then leaves first.
const BREAK_PAUSE: Duration = Duration::from_millis(20);

/// A huge body goes out in pieces of 64 KiB.
const HUGE_PIECE: usize = 64 * 1024;

/// The size of a huge body: 10 MB.
const HUGE_BYTES: usize = 160 * HUGE_PIECE;

pub(super) const INVALID: (&str, &str) =
    ("root.unauthenticated", "The supplied authentication is invalid");
const MISSING: (&str, &str) = (
    "root.unauthenticated",
    "The resource requires authentication, which was not supplied with the request",
);
pub(super) const FORBIDDEN: (&str, &str) = (
    "root.unauthorized.rbac",
    "The supplied authentication is not authorized to access this resource. Reason: [Missing required permissions].",
);
const NO_KEY: (&str, &str) = ("api_keys.key_not_found", "The {api_key_id} can't be found.");
const NO_AUTH_CLUSTER: (&str, &str) = (
    "authc.no_authentication_cluster",
    "The administrator needs to configure the authentication cluster.",
);
const AUTH_CLUSTER_ERROR: (&str, &str) = (
    "authc.authentication_cluster_error",
    "The authentication cluster failed to process the request.",
);
pub(super) const NOT_FOUND: (&str, &str) =
    ("root.resource_not_found", "The requested resource could not be found");
pub(super) const NOT_ALLOWED: (&str, &str) =
    ("root.method_not_allowed", "HTTP method not allowed, supported methods: GET");

const HTML_LOGIN: &str =
    "<!doctype html><title>Sign in</title><h1>Sign in</h1><form method=post></form>\n";
const HTML_BAD_GATEWAY: &str = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n";

/// Answers one request; an error ends the connection without an answer.
pub(super) async fn answer(
    coordinator: Arc<Coordinator>,
    reset: Reset,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let authorization = authorization(&head);
    let (method, path) = (&head.method, head.uri.path());
    coordinator.count(method, path, authorization);
    let body = match *method {
        Method::POST => axum::body::to_bytes(Body::new(body), BODY_BYTES_MAX).await,
        _ => Ok(Bytes::new()),
    };
    let of_session =
        of_session(&coordinator, (method, path), authorization, &body.unwrap_or_default());
    match of_session.unwrap_or_else(|| decide(&coordinator, &head)) {
        Decided::Answer(response) => Ok(response),
        Decided::Hang => std::future::pending().await,
        Decided::Reset => Err(reset.now()),
    }
}

/// What becomes of a request.
enum Decided {
    Answer(Response<Body>),
    Hang,
    Reset,
}

fn authorization(request: &Parts) -> Option<&str> {
    request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok())
}

/// What time the platform takes it to be.
fn now(coordinator: &Coordinator, world: &World) -> DateTime<Utc> {
    let now = coordinator.clock.now();
    now.checked_add_signed(world.clock_offset).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The answer to what concerns users and sessions.
fn of_session(
    coordinator: &Coordinator,
    call: (&Method, &str),
    authorization: Option<&str>,
    body: &[u8],
) -> Option<Decided> {
    let mut world = coordinator.world();
    if world.hosted.is_some() {
        return None;
    }
    let now = now(coordinator, &world);
    let (status, body) = sessions::answer(&mut world, now, call, authorization, body)?;
    Some(Decided::Answer(json_response(head(now), status, &body)))
}

fn decide(coordinator: &Coordinator, request: &Parts) -> Decided {
    let mut world = coordinator.world();
    let now = now(coordinator, &world);
    let sent = authorization(request).and_then(|it| it.strip_prefix("ApiKey ")).map(str::trim);
    let user = sent.and_then(|it| world.by_encoded(it)).map_or(String::new(), |it| it.user.clone());
    let allowance = world.hosted.map(|it| world.windows.spend(it, &user, now));
    let key = sent.and_then(|it| world.by_encoded(it));
    let deployment = deployments::inside_of(&world, request.uri.path());
    let faults = [Some(&world.fault), key.map(|it| &it.fault), deployment.map(|it| &it.fault)];
    let fault = faults.into_iter().flatten().find(|it| **it != Fault::None);
    let fault = fault.unwrap_or(&Fault::None);
    let head = || allowance.map_or_else(|| head(now), |it| it.told(head(now)));
    if let Some(allowance) = allowance.filter(|it| it.remaining.is_none()) {
        let head = head().status(StatusCode::TOO_MANY_REQUESTS);
        let head = head.header(RETRY_AFTER, allowance.retry_after(now));
        return Decided::Answer(built(head, Body::empty()));
    }
    let good = || call(&world, now, request, key);
    let response = match fault {
        Fault::None | Fault::Forbidden => {
            let (status, body) = match (fault, key.map(|key| key.works_at(now))) {
                (Fault::Forbidden, Some(Works::Yes)) => {
                    (StatusCode::FORBIDDEN, error(forbidden(&world)))
                }
                _ => good(),
            };
            let path = match &world.hosted {
                Some(hosted) if !status.is_success() => hosted.refusals,
                _ => coordinator.header_path,
            };
            let response = expiration(head(), path, key, status);
            json_response(response, status, &body)
        }
        Fault::Status(status, body) => failing(head(), *status, body),
        Fault::AuthClusterDown => {
            json_response(head(), StatusCode::BAD_GATEWAY, &error(AUTH_CLUSTER_ERROR))
        }
        Fault::NoAuthCluster => {
            json_response(head(), StatusCode::NOT_IMPLEMENTED, &error(NO_AUTH_CLUSTER))
        }
        Fault::Html200 => html(head(), StatusCode::OK, HTML_LOGIN),
        Fault::Html502 => html(head(), StatusCode::BAD_GATEWAY, HTML_BAD_GATEWAY),
        Fault::Redirect(to) => {
            built(head().status(StatusCode::FOUND).header(LOCATION, to), Body::empty())
        }
        Fault::RateLimited(seconds) => built(
            head()
                .status(StatusCode::TOO_MANY_REQUESTS)
                .header(RETRY_AFTER, seconds.to_string())
                .header("x-ratelimit-remaining", "0"),
            Body::empty(),
        ),
        Fault::Hang => return Decided::Hang,
        Fault::Reset => return Decided::Reset,
        Fault::Truncate | Fault::TenMegabytes | Fault::SlowBody => {
            let (status, body) = good();
            let response = expiration(head(), coordinator.header_path, key, status);
            misbehaving(response.status(status), fault, &body)
        }
    };
    Decided::Answer(response)
}

fn failing(head: Builder, status: u16, body: &ErrorBody) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match body {
        ErrorBody::Empty => built(head.status(status), Body::empty()),
        ErrorBody::Code(code, message) => json_response(head, status, &error((code, message))),
        ErrorBody::Html => html(head, status, HTML_BAD_GATEWAY),
        ErrorBody::Plain(text) => built(head.status(status), Body::from(text.clone())),
    }
}

fn forbidden(world: &World) -> (&'static str, &'static str) {
    if world.hosted.is_some() { hosted::DENIED } else { FORBIDDEN }
}

/// A body that arrives whole but slowly, or breaks off, or is far too large.
fn misbehaving(response: Builder, fault: &Fault, body: &Value) -> Response<Body> {
    let body = Bytes::from(body.to_string());
    let (script, length) = match fault {
        Fault::TenMegabytes => {
            // A JSON text of spaces: a client that parses it must read to the end to see that it is none.
            let piece = Bytes::from(vec![b' '; HUGE_PIECE]);
            let pieces = std::iter::repeat_n(piece, HUGE_BYTES / HUGE_PIECE).collect();
            (Script { pieces, pause: None, end: End::Whole, sleep: None }, HUGE_BYTES)
        }
        Fault::SlowBody => {
            let pieces = (0..body.len()).map(|at| body.slice(at..=at)).collect();
            (Script { pieces, pause: Some(SLOW_PAUSE), end: End::Whole, sleep: None }, body.len())
        }
        _ => {
            let half = VecDeque::from([body.slice(..body.len() / 2)]);
            (Script { pieces: half, pause: None, end: End::Broken, sleep: None }, body.len())
        }
    };
    let response = response.header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, length);
    built(response, Body::new(script))
}

/// The call itself: authentication first, then the path.
fn call(
    world: &World,
    now: DateTime<Utc>,
    request: &Parts,
    key: Option<&SimKey>,
) -> (StatusCode, Value) {
    let key = match (authorization(request), key) {
        (None, _) => return (StatusCode::UNAUTHORIZED, error(MISSING)),
        (Some(_), Some(key)) if key.works_at(now) == Works::Yes => key,
        (Some(_), _) => return (StatusCode::UNAUTHORIZED, error(INVALID)),
    };
    if request.method != Method::GET {
        return (StatusCode::METHOD_NOT_ALLOWED, error(NOT_ALLOWED));
    }
    let path = request.uri.path().strip_prefix("/api/v1").unwrap_or("");
    if let Some(hosted) = world.hosted {
        return hosted::call(world, hosted, path, key);
    }
    let path = path.strip_prefix("/regions/ece-region").unwrap_or(path);
    match path {
        "/user" => (StatusCode::OK, user(key)),
        "/users/auth" => (
            StatusCode::OK,
            json!({"has_elevated_permissions": false, "refresh_token_url": "/api/v1/users/auth/_refresh"}),
        ),
        "/users/auth/keys" => {
            (StatusCode::OK, keys(world.listed().filter(|it| it.user == key.user)))
        }
        "/users/auth/keys/_all" => match key.role {
            Role::Admin => (StatusCode::OK, keys(world.listed())),
            Role::Viewer | Role::DeploymentViewer | Role::DeploymentManager => {
                (StatusCode::FORBIDDEN, error(FORBIDDEN))
            }
        },
        "/platform" => (StatusCode::OK, json!({"version": "3.8.0", "services": [], "regions": []})),
        _ if path.starts_with("/platform/") => {
            platform::call(world, path.trim_start_matches("/platform/"), key)
        }
        _ if path == "/deployments" || path.starts_with("/deployments/") => {
            deployments::call(world, path.trim_start_matches("/deployments"), &request.headers, key)
        }
        _ => match path.strip_prefix("/users/auth/keys/") {
            Some(id) => match world.listed().find(|it| it.id == id && it.user == key.user) {
                Some(found) => (StatusCode::OK, described(found)),
                None => (StatusCode::NOT_FOUND, error(NO_KEY)),
            },
            None => (StatusCode::NOT_FOUND, error(NOT_FOUND)),
        },
    }
}

fn user(key: &SimKey) -> Value {
    let (role, permissions): (_, &[&str]) = match key.role {
        Role::DeploymentViewer => {
            ("ece_deployment_viewer", &["get-current-user", "get-api-keys", "get-api-key"])
        }
        Role::DeploymentManager => (
            "ece_deployment_manager",
            &[
                "get-current-user",
                "get-api-keys",
                "get-api-key",
                "list-deployments",
                "get-deployment-resource-proxy-requests",
            ],
        ),
        Role::Viewer => (
            "ece_platform_viewer",
            &[
                "get-current-user",
                "get-api-keys",
                "get-api-key",
                "get-license",
                "get-tls-certificate",
            ],
        ),
        Role::Admin => (
            "ece_platform_admin",
            &[
                "get-current-user",
                "get-api-keys",
                "get-api-key",
                "get-license",
                "get-tls-certificate",
                "get-users-api-keys",
                "list-deployments",
                "get-deployment-resource-proxy-requests",
            ],
        ),
    };
    json!({
        "user_name": key.user,
        "builtin": false,
        "security": {
            "roles": [role],
            "permissions": permissions,
            "enabled": true,
            "security_realm": {"type": "native", "id": "native"},
            "elevated_permissions": {"enabled": false},
        },
    })
}

pub(super) fn keys<'a>(keys: impl Iterator<Item = &'a SimKey>) -> Value {
    json!({"keys": keys.map(described).collect::<Vec<_>>()})
}

fn described(key: &SimKey) -> Value {
    let iso = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut described = json!({
        "id": key.id,
        "user_id": key.user,
        "description": key.description,
        "creation_date": iso(key.created),
    });
    match (&key.header, key.expires) {
        // One program writes both, so it writes both alike.
        (HeaderMode::Raw(lines), _) if !lines.is_empty() => {
            described["expiration_date"] =
                Value::String(String::from_utf8_lossy(&lines[0]).into_owned());
        }
        (_, Expires::At(at)) => described["expiration_date"] = Value::String(iso(at)),
        (_, Expires::Never) => {}
    }
    described
}

pub(super) fn error((code, message): (&str, &str)) -> Value {
    json!({"errors": [{"code": code, "message": message}]})
}

/// The head that every answer has.
fn head(now: DateTime<Utc>) -> Builder {
    Response::builder()
        .header(DATE, now.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .header("x-cloud-request-id", URL_SAFE_NO_PAD.encode(fastrand::u128(..).to_be_bytes()))
        .header("x-content-type-options", "nosniff")
}

/// Adds the expiry of the key where ECE reports it: whenever the key was accepted.
fn expiration(
    mut head: Builder,
    path: HeaderPath,
    key: Option<&SimKey>,
    status: StatusCode,
) -> Builder {
    let (HeaderPath::Open, Some(key)) = (path, key) else { return head };
    if status == StatusCode::UNAUTHORIZED {
        return head;
    }
    for mut line in key.header_values() {
        for byte in &mut line {
            if byte.is_ascii_control() && *byte != b'\t' {
                *byte = b'?';
            }
        }
        let value = HeaderValue::from_bytes(&line).expect("control characters were replaced");
        head = head.header(EXPIRATION, value);
    }
    head
}

fn json_response(head: Builder, status: StatusCode, body: &Value) -> Response<Body> {
    let mut head = head.status(status).header(CONTENT_TYPE, "application/json");
    if let Some(code) =
        body["errors"][0]["code"].as_str().and_then(|code| HeaderValue::from_str(code).ok())
    {
        head = head.header("x-cloud-error-codes", code);
    }
    built(head, Body::from(body.to_string()))
}

fn html(head: Builder, status: StatusCode, page: &'static str) -> Response<Body> {
    built(head.status(status).header(CONTENT_TYPE, "text/html; charset=UTF-8"), Body::from(page))
}

fn built(head: Builder, body: Body) -> Response<Body> {
    // Only a redirect to an address that no header can carry fails here.
    head.body(body).unwrap_or_else(|_| {
        let mut response =
            Response::new(Body::from("the simulator was given an impossible header\n"));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// A body that comes in pieces, at a pace, and may break off.
struct Script {
    pieces: VecDeque<Bytes>,
    pause: Option<Duration>,
    end: End,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// How a scripted body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

impl HttpBody for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(sleep) = self.sleep.as_mut() {
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            if self.pieces.is_empty() && self.end == End::Broken {
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
            }
            return Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))));
        }
        let pause = match (self.pause, self.end) {
            _ if self.pieces.is_empty() && self.end == End::Broken => BREAK_PAUSE,
            (Some(pause), _) if !self.pieces.is_empty() => pause,
            _ => return Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece)))),
        };
        self.sleep = Some(Box::pin(crate::time::sleep(pause)));
        self.poll_frame(cx)
    }
}
