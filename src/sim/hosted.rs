//! What is different at Elastic Cloud Hosted: its keys, who may list them, and its limits of requests.
//!
//! Built from its public API specification and documentation. How its keys are made inside is not public: here they
//! are the prefix and the base64 of id and secret.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::response::Builder;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::HeaderPath;
use super::api::{NOT_FOUND, error, keys};
use super::world::{Role, SimKey, World};
use crate::time;

/// Each key of a user counts towards the requests of that user, of which this many fit into a window.
const LIMIT: u32 = 1_000;

const WINDOW: Duration = Duration::from_secs(60);

pub(super) const DENIED: (&str, &str) = (
    "root.permission_denied",
    "To access the resource [r:/organizations/1], the user must have the required authorization.",
);
const NO_USER: (&str, &str) = ("user.not_found", "The user can't be found.");

/// Makes a platform Elastic Cloud Hosted.
#[derive(Debug, Clone, Copy)]
pub struct Hosted {
    /// How many requests of one user a window has.
    pub limit: u32,
    /// How long a window is.
    pub window: Duration,
    /// Whether an answer that refuses has the expiry header too, which is not documented.
    pub refusals: HeaderPath,
    /// How many deployments there are.
    pub deployments: usize,
}

/// When the window of each user began, and how many requests it had.
#[derive(Debug, Default)]
pub(super) struct Windows(HashMap<String, (DateTime<Utc>, u32)>);

impl Default for Hosted {
    fn default() -> Self {
        Self { limit: LIMIT, window: WINDOW, refusals: HeaderPath::Open, deployments: 1 }
    }
}

/// What a user has left after a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    limit: u32,
    window: Duration,
    /// `None` if the request was one too many.
    pub(super) remaining: Option<u32>,
    ends: DateTime<Utc>,
}

impl Windows {
    /// Counts a request.
    pub(super) fn spend(&mut self, hosted: Hosted, user: &str, now: DateTime<Utc>) -> Allowance {
        let Hosted { limit, window, .. } = hosted;
        let (began, count) = self.0.entry(user.to_owned()).or_insert((now, 0));
        if !(*began..time::add(*began, window)).contains(&now) {
            (*began, *count) = (now, 0);
        }
        let remaining = limit.checked_sub(*count + 1);
        *count = limit.min(*count + 1);
        Allowance { limit, window, remaining, ends: time::add(*began, window) }
    }
}

impl Allowance {
    /// Adds the headers that every answer has.
    pub(super) fn told(self, head: Builder) -> Builder {
        head.header("x-ratelimit-interval", self.window.as_secs())
            .header("x-ratelimit-limit", self.limit)
            .header("x-ratelimit-remaining", self.remaining.unwrap_or(0))
    }

    /// Seconds until the next window.
    pub(super) fn retry_after(self, now: DateTime<Utc>) -> i64 {
        (self.ends - now).num_seconds().max(1)
    }
}

/// What stands after `Authorization: ApiKey`.
pub(super) fn encoded(key: &SimKey) -> String {
    format!("essu_{}", STANDARD.encode(format!("{}:{}", key.id, key.secret)))
}

/// Answers a `GET` with a key that works.
pub(super) fn call(world: &World, hosted: Hosted, path: &str, key: &SimKey) -> (StatusCode, Value) {
    match path {
        "/user" => (StatusCode::NOT_FOUND, error(NO_USER)),
        "/users/auth/keys" => match key.role {
            Role::Admin => (StatusCode::OK, keys(world.listed())),
            Role::Viewer | Role::DeploymentViewer | Role::DeploymentManager => {
                (StatusCode::FORBIDDEN, error(DENIED))
            }
        },
        "/deployments" => {
            let deployment = |number: usize| {
                json!({
                    "id": format!("{number:032x}"),
                    "name": format!("deployment-{number}"),
                    "resources": [{"ref_id": "main-elasticsearch", "kind": "elasticsearch", "region": "gcp-europe-west3"}],
                })
            };
            let all: Vec<Value> = (0..hosted.deployments).map(deployment).collect();
            (StatusCode::OK, json!({"deployments": all}))
        }
        _ => (StatusCode::NOT_FOUND, error(NOT_FOUND)),
    }
}
