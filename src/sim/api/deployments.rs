//! The calls about deployments, and those that go through to their Elasticsearch.

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::super::deployments::{ProxyFor, SimDeployment};
use super::super::world::{Role, SimKey, World};
use super::{FORBIDDEN, NOT_FOUND, error};

const NO_DEPLOYMENT: (&str, &str) =
    ("deployments.deployment_not_found", "No Deployment with that id could be found");
const NO_RESOURCE: (&str, &str) =
    ("deployments.deployment_resource_not_found", "The Resource can't be found.");
const NO_HEADER: (&str, &str) =
    ("root.resource_not_found", "The header X-Management-Request is required");

/// The deployment into which `path` leads, if there is one.
pub(super) fn inside_of<'a>(world: &'a World, path: &str) -> Option<&'a SimDeployment> {
    let (id, rest) = path.strip_prefix("/api/v1/deployments/")?.split_once('/')?;
    rest.contains("/proxy/").then(|| world.deployments.iter().find(|it| it.id == id))?
}

/// Answers `path`, which begins behind `/deployments`.
pub(super) fn call(
    world: &World,
    path: &str,
    headers: &HeaderMap,
    key: &SimKey,
) -> (StatusCode, Value) {
    if path.is_empty() {
        let all: Vec<Value> = world.deployments.iter().map(described).collect();
        return (StatusCode::OK, json!({"deployments": all}));
    }
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(5, '/').collect();
    let [id, "elasticsearch", ref_id, "proxy", inside] = parts[..] else {
        return (StatusCode::NOT_FOUND, error(NOT_FOUND));
    };
    if headers.get("x-management-request").is_none_or(|it| it != "true") {
        return (StatusCode::NOT_FOUND, error(NO_HEADER));
    }
    let may = match key.role {
        Role::Admin | Role::DeploymentManager => true,
        Role::Viewer | Role::DeploymentViewer => world.proxy_for == ProxyFor::Viewers,
    };
    if !may {
        return (StatusCode::FORBIDDEN, error(FORBIDDEN));
    }
    match world.deployments.iter().find(|it| it.id == id) {
        None => (StatusCode::NOT_FOUND, error(NO_DEPLOYMENT)),
        Some(it) if it.ref_id != ref_id => (StatusCode::NOT_FOUND, error(NO_RESOURCE)),
        Some(it) => elasticsearch(it, inside),
    }
}

fn described(it: &SimDeployment) -> Value {
    json!({
        "id": it.id,
        "name": it.name,
        "resources": [
            {"ref_id": "main-kibana", "id": "k1", "kind": "kibana", "region": "ece-region"},
            {"ref_id": it.ref_id, "id": "a1", "kind": "elasticsearch", "region": "ece-region"},
        ],
    })
}

/// What Elasticsearch itself answers.
fn elasticsearch(it: &SimDeployment, path: &str) -> (StatusCode, Value) {
    match (path, &it.inside.license) {
        ("_security/api_key", _) => (StatusCode::OK, json!({"api_keys": it.inside.keys})),
        ("_ssl/certificates", _) => (StatusCode::OK, it.inside.certificates.clone().into()),
        ("_license", Some(license)) => (StatusCode::OK, json!({"license": license})),
        // So it answers for a moment after its start.
        ("_license", None) => (StatusCode::NOT_FOUND, json!({})),
        _ => (
            StatusCode::NOT_FOUND,
            json!({"error": {"type": "resource_not_found_exception"}, "status": 404}),
        ),
    }
}
