//! The renewal of a key as lines to paste into a shell. Pure.
//!
//! What must not happen at once stands in blocks of its own: nobody shall delete the old key with the paste that makes
//! the new one.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Kind, Thing, Topic, bare, bare_url, can_renew, is_hosted, key_id};
use crate::alert::AlertName;
use crate::delivery::{Notice, NoticeCredential};

/// Lines that are pasted together, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Block {
    /// What it does and when, without a full stop.
    pub title: String,
    /// The lines.
    pub lines: Vec<String>,
}

/// The calls that renew the key of a notice, in the order of doing; none for everything else.
pub fn commands(notice: &Notice, topic: Topic, now: DateTime<Utc>) -> Vec<Block> {
    let is_key =
        |it: &&NoticeCredential| can_renew(topic) && Thing::of(it) == Thing::Credential(Kind::Key);
    let Some(credential) = notice.credential.as_ref().filter(is_key) else {
        return Vec::new();
    };
    let dead = matches!(topic.alert, AlertName::CredentialExpired | AlertName::CredentialRejected);
    let url = bare_url(&notice.platform_url);
    let curl = match authority(notice) {
        Some(authority) => format!("curl -sS {authority} \\"),
        None => "curl -sS \\".to_owned(),
    };
    let with = |key: &str| format!("  -H \"Authorization: ApiKey ${key}\" \\");

    let mut make = Vec::new();
    if url.starts_with("https") && notice.ca_file.is_none() && !is_hosted(notice) {
        make.push("# If curl does not trust the certificate, add: --cacert FILE".to_owned());
    }
    if dead {
        make.push(
            "# The old key cannot do this any more: use another one of its owner.".to_owned(),
        );
    }
    make.extend([
        curl.clone(),
        with(if dead { "OTHER_KEY" } else { "OLD_KEY" }),
        "  -H 'Content-Type: application/json' \\".to_owned(),
        format!("  -X POST {url}/api/v1/users/auth/keys \\"),
        format!(
            "  -d '{{\"description\":\"{} {}\",\"expiration\":\"90d\"}}'",
            bare(&credential.name),
            now.format("%Y-%m")
        ),
    ]);
    let check = vec![
        curl.clone(),
        with("NEW_KEY"),
        "  -o /dev/null -w '%{http_code}\\n' \\".to_owned(),
        format!("  {url}/api/v1/{}", if is_hosted(notice) { "users/auth/keys" } else { "user" }),
    ];
    let mut blocks = vec![
        Block { title: "By API, first: make the new key".to_owned(), lines: make },
        Block {
            title: "Then put it where it is used, and check that this prints 200".to_owned(),
            lines: check,
        },
    ];
    if let Some(id) = key_id(notice) {
        let title = "Last, when nothing uses the old key any more: delete it".to_owned();
        let delete = format!("  -X DELETE {url}/api/v1/users/auth/keys/{id}");
        blocks.push(Block { title, lines: vec![curl, with("NEW_KEY"), delete] });
    }
    blocks
}

/// The option with which curl trusts the authority that this exporter trusts; `None` if that is the system's, or if a
/// shell would not take its path literally.
pub(super) fn authority(notice: &Notice) -> Option<String> {
    let is_literal = |c: char| c.is_ascii_alphanumeric() || "._-/+@:".contains(c);
    let path = notice.ca_file.as_deref().filter(|_| notice.platform_url.starts_with("https"))?;
    let is_path = !path.is_empty() && !path.starts_with('-') && path.chars().all(is_literal);
    Some(if is_path { format!("--cacert {path}") } else { "--cacert \"$CA_FILE\"".to_owned() })
}
