//! What the owner of a key may do, by the answer of `GET /user`. Pure.
//!
//! ECE lists the distinct permissions of its roles under `security.permissions`, named like the operations of its API.
//! Old versions do not.

use serde::Deserialize;

/// The most roles or permissions that are looked at; ECE has four roles and some 200 operations.
const WORDS_MAX: usize = 1000;

/// Roles and permissions of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// The roles, like `ece_platform_viewer`.
    pub roles: Vec<String>,
    /// The operations, like `get-license`; `None` if ECE does not list them.
    pub operations: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    security: Option<Security>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Security {
    roles: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
}

impl Rights {
    /// The rights in the body of `GET /user`; `None` if it is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        let security = serde_json::from_slice::<User>(body).ok()?.security.unwrap_or_default();
        let bounded = |mut words: Vec<String>| {
            words.truncate(WORDS_MAX);
            words
        };
        Some(Self {
            roles: bounded(security.roles.unwrap_or_default()),
            operations: security.permissions.map(bounded).filter(|it| !it.is_empty()),
        })
    }

    /// Why an operation was refused, as far as the rights explain it; goes on after a full stop.
    pub fn why_not(&self, operation: &str) -> Option<String> {
        let lacks = self.operations.as_ref().is_some_and(|it| !it.iter().any(|it| it == operation));
        let roles = self.roles.join(", ");
        match (lacks, roles.is_empty()) {
            (true, false) => {
                Some(format!("Its roles ({roles}) do not include the permission {operation}."))
            }
            (true, true) => Some(format!("Its permissions do not include {operation}.")),
            (false, false) => Some(format!("Its roles are {roles}.")),
            (false, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_explained_as_far_as_the_rights_go() {
        let cases = [
            (
                r#"{"security":{"roles":["ece_deployment_viewer"],"permissions":["get-current-user"]}}"#,
                Some(
                    "Its roles (ece_deployment_viewer) do not include the permission get-license.",
                ),
            ),
            (
                r#"{"security":{"permissions":["get-current-user"]}}"#,
                Some("Its permissions do not include get-license."),
            ),
            (
                r#"{"security":{"roles":["x"],"permissions":["get-license"]}}"#,
                Some("Its roles are x."),
            ),
            (r#"{"security":{"roles":["x"],"permissions":[]}}"#, Some("Its roles are x.")),
            (r#"{"user_name":"admin","builtin":true}"#, None),
            (r#"{"security":null}"#, None),
        ];
        for (body, expected) in cases {
            let rights = Rights::read(body.as_bytes()).unwrap();
            assert_eq!(rights.why_not("get-license").as_deref(), expected, "{body}");
        }
        for body in ["", "<html>", r#"{"security":{"roles":7}}"#] {
            assert_eq!(Rights::read(body.as_bytes()), None, "{body}");
        }
    }
}
