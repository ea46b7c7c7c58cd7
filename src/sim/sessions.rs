//! Users with passwords, their sessions, and the calls that open, show and close one.

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::World;
use super::api::{FORBIDDEN, INVALID, NOT_ALLOWED, NOT_FOUND, error};
use super::world::Fault;

/// How long a session lives that a login opened.
const SESSION: TimeDelta = TimeDelta::minutes(30);

/// The users and sessions of a simulated platform.
#[derive(Debug, Default)]
pub struct Sessions {
    users: Vec<User>,
    open: Vec<Session>,
    /// How ECE tells when a session ends.
    pub tells: SessionEnd,
}

/// How ECE tells when a session ends, apart from the token itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SessionEnd {
    /// In `session_expiration_time` and `expires_at`.
    #[default]
    Told,
    /// Not at all, as old versions.
    Untold,
}

/// How often a user tried to log in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Logins {
    /// With the right password.
    pub accepted: u64,
    /// With a wrong one.
    pub refused: u64,
}

#[derive(Debug)]
struct User {
    name: String,
    password: String,
    logins: Logins,
}

#[derive(Debug)]
struct Session {
    user: String,
    token: String,
    ends: DateTime<Utc>,
}

impl Sessions {
    /// Adds a user, or gives one another password.
    pub fn set_password(&mut self, user: &str, password: &str) {
        match self.users.iter_mut().find(|it| it.name == user) {
            Some(user) => password.clone_into(&mut user.password),
            None => self.users.push(User {
                name: user.to_owned(),
                password: password.to_owned(),
                logins: Logins::default(),
            }),
        }
    }

    /// Opens a session of `user` that ends then, and returns its token: a JSON Web Token with the claim `exp`.
    pub fn open(&mut self, user: &str, ends: DateTime<Utc>) -> String {
        let claims = json!({
            "sub": user,
            "exp": ends.timestamp(),
            "jti": format!("{:032x}", fastrand::u128(..)),
        });
        let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
        let header = part(&json!({"alg": "HS256", "typ": "JWT"}));
        let signature = URL_SAFE_NO_PAD.encode(fastrand::u128(..).to_be_bytes());
        let token = format!("{header}.{}.{signature}", part(&claims));
        self.open.push(Session { user: user.to_owned(), token: token.clone(), ends });
        token
    }

    /// Ends all sessions of a user.
    pub fn end(&mut self, user: &str) {
        self.open.retain(|it| it.user != user);
    }

    /// How many sessions of a user are open.
    pub fn count(&self, user: &str) -> usize {
        self.open.iter().filter(|it| it.user == user).count()
    }

    /// How often a user tried to log in.
    pub fn logins(&self, user: &str) -> Logins {
        self.users.iter().find(|it| it.name == user).map_or_else(Logins::default, |it| it.logins)
    }

    fn log_in(&mut self, now: DateTime<Utc>, body: &[u8]) -> (StatusCode, Value) {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            let message = "The request is not JSON";
            return (StatusCode::BAD_REQUEST, error(("root.invalid_json_request", message)));
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let Some(user) = self.users.iter_mut().find(|it| it.name == text("username")) else {
            return (StatusCode::UNAUTHORIZED, error(INVALID));
        };
        if user.password != text("password") {
            user.logins.refused += 1;
            return (StatusCode::UNAUTHORIZED, error(INVALID));
        }
        user.logins.accepted += 1;
        let (name, ends) = (user.name.clone(), now + SESSION);
        let mut answer = json!({"token": self.open(&name, ends)});
        if self.tells == SessionEnd::Told {
            answer["session_expiration_time"] = iso(ends);
        }
        (StatusCode::OK, answer)
    }
}

/// Answers what concerns users and sessions; `None` for other calls.
pub(super) fn answer(
    world: &mut World,
    now: DateTime<Utc>,
    (method, path): (&Method, &str),
    authorization: Option<&str>,
    body: &[u8],
) -> Option<(StatusCode, Value)> {
    let path = path.strip_prefix("/api/v1")?;
    let is_forbidden = match &world.fault {
        Fault::None => false,
        Fault::Forbidden => true,
        _ => return None,
    };
    let sessions = &mut world.sessions;
    if path == "/users/auth/_login" {
        return Some(match *method {
            Method::POST if is_forbidden => (StatusCode::FORBIDDEN, error(FORBIDDEN)),
            Method::POST => sessions.log_in(now, body),
            _ => (StatusCode::METHOD_NOT_ALLOWED, error(NOT_ALLOWED)),
        });
    }
    let token = authorization?.strip_prefix("Bearer ")?;
    sessions.open.retain(|it| now < it.ends);
    let Some(at) = sessions.open.iter().position(|it| it.token == token) else {
        return Some((StatusCode::UNAUTHORIZED, error(INVALID)));
    };
    if is_forbidden {
        return Some((StatusCode::FORBIDDEN, error(FORBIDDEN)));
    }
    Some(match (method.as_str(), path) {
        ("POST", "/users/auth/_logout") => {
            sessions.open.remove(at);
            (StatusCode::OK, json!({}))
        }
        ("GET", "/users/auth") => {
            let mut answer = json!({
                "has_elevated_permissions": false,
                "refresh_token_url": "/api/v1/users/auth/_refresh",
            });
            if sessions.tells == SessionEnd::Told {
                answer["expires_at"] = iso(sessions.open[at].ends);
            }
            (StatusCode::OK, answer)
        }
        ("GET", "/user") => {
            (StatusCode::OK, json!({"user_name": sessions.open[at].user, "builtin": false}))
        }
        ("GET", _) => (StatusCode::NOT_FOUND, error(NOT_FOUND)),
        _ => (StatusCode::METHOD_NOT_ALLOWED, error(NOT_ALLOWED)),
    })
}

fn iso(at: DateTime<Utc>) -> Value {
    Value::String(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}
