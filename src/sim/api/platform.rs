//! The calls about the platform itself: its license and the certificates of its services.

use axum::http::StatusCode;
use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::super::world::{License, Role, SimKey, World};
use super::{FORBIDDEN, NOT_FOUND, error};

/// The services that have certificates.
const SERVICES: [&str; 4] = ["ui", "proxy", "adminconsole", "internalca"];

const NO_LICENSE: (&str, &str) = ("license.license_not_found", "The license can't be found.");

/// Answers `path`, which begins behind `/platform/`.
pub(super) fn call(world: &World, path: &str, key: &SimKey) -> (StatusCode, Value) {
    let service = path.strip_prefix("configuration/security/tls/");
    match (path, service, key.role) {
        ("license", _, _) | (_, Some(_), _)
            if matches!(key.role, Role::DeploymentViewer | Role::DeploymentManager) =>
        {
            (StatusCode::FORBIDDEN, error(FORBIDDEN))
        }
        ("license", ..) => match &world.license {
            Some(it) => (StatusCode::OK, license(it)),
            None => (StatusCode::NOT_FOUND, error(NO_LICENSE)),
        },
        (_, Some(service), _) if SERVICES.contains(&service) => {
            (StatusCode::OK, world.services.get(service).cloned().unwrap_or_else(no_chain))
        }
        _ => (StatusCode::NOT_FOUND, error(NOT_FOUND)),
    }
}

fn license(it: &License) -> Value {
    json!({
        "license": {
            "version": 4,
            "uid": "3e0c6a5b-0000-4000-8000-000000000001",
            "issuer": "API",
            "issued_to": "Example Corp",
            "issue_date_in_millis": 1_735_689_600_000_i64,
            "start_date_in_millis": 1_735_689_600_000_i64,
            "type": "enterprise",
            "signature": it.signature,
            "expiry_date_in_millis": it.expires.timestamp_millis(),
            "max_resource_units": 100,
            // A cluster's own license, which ECE renews by itself.
            "cluster_licenses": [{"license": {"uid": "1", "expiry_date_in_millis": 1_774_000_000_000_i64}}],
        },
        "usage_stats": {"total_connected_memory_total": 262_144},
    })
}

fn no_chain() -> Value {
    json!({"user_supplied": false, "chain": []})
}

/// What ECE says of a service with this chain (PEM) and, in its newer versions, this end.
pub(in super::super) fn service(
    chain: &[String],
    status: Option<chrono::DateTime<chrono::Utc>>,
) -> Value {
    let mut body = json!({"user_supplied": false, "chain": chain, "api_managed": true});
    if let Some(at) = status {
        body["chain_status"] = json!({
            "expiration_date": at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "first_certificate_to_expire": "CN=elastic ce admin console",
        });
    }
    body
}
