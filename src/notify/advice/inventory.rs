//! What to do about a listed key, or about the list itself. Pure.

use super::{NOTE_CHARS_MAX, bare, cut, deployments, plain};
use crate::alert::AlertName;
use crate::config::ItemKind;
use crate::delivery::{Notice, NoticeCredential};
use crate::notify::text::{Thing, Topic, called};

/// What a refusal means for the list.
const ASKED_RARELY: &str =
    "Until then it is asked only twice a day, and after a restart or a reload.";

/// The steps about a firing alert of a listed key or of the list; `None` for everything else.
pub(super) fn steps(notice: &Notice, topic: Topic) -> Option<Vec<String>> {
    let credential = notice.credential.as_ref()?;
    let mut steps = match Thing::of(credential) {
        Thing::Listed(ItemKind::ApiKey) => of_key(notice, credential, topic),
        Thing::Listed(kind) => deployments::steps(credential, kind, topic),
        Thing::List | Thing::Deployments => return Some(of_list(notice, credential, topic)),
        Thing::Credential(_) | Thing::License | Thing::Certificate(_) => return None,
    };
    if let Some(note) = credential.renewal_note.as_deref() {
        steps.push(format!("Note: {}", cut(&plain(note), NOTE_CHARS_MAX)));
    }
    Some(steps)
}

/// The steps after a listed key is gone, or has a later expiry.
pub(super) fn after_end(credential: &NoticeCredential) -> Option<Vec<String>> {
    match Thing::of(credential) {
        Thing::Listed(ItemKind::ApiKey | ItemKind::ElasticsearchApiKey) => Some(vec![
            "Nothing, if it was replaced, is a credential of the configuration now, or is left out there on purpose."
                .to_owned(),
            "Otherwise it is gone, and whoever used it has lost access: the page /keys shows what is listed.".to_owned(),
        ]),
        Thing::Listed(_) => Some(vec!["Nothing, if that was meant.".to_owned()]),
        Thing::List
        | Thing::Deployments
        | Thing::Credential(_)
        | Thing::License
        | Thing::Certificate(_) => None,
    }
}

fn of_key(notice: &Notice, credential: &NoticeCredential, topic: Topic) -> Vec<String> {
    let owner = match &credential.user {
        Some(user) => format!("the owner (ECE user {})", plain(user)),
        None => "the owner".to_owned(),
    };
    match topic.alert {
        AlertName::ApiKeyCreated => vec![
            format!("Ask {owner} whether the key is meant to be there."),
            "If somebody is to be told of its expiry by name, add it to the credentials of the configuration."
                .to_owned(),
        ],
        AlertName::ApiKeyDeleted => vec![
            format!("Ask {owner} whether the key was deleted on purpose and is no longer used."),
            "If it was not, whoever used it gets 401 since then: make a new key, and put it where the old one was."
                .to_owned(),
        ],
        AlertName::ApiKeyLongLived => vec![
            format!("Ask {owner} to replace the key by one that expires sooner."),
            "ECE cannot change the expiry of a key: a new one is made, put into use, and then the old one is deleted."
                .to_owned(),
        ],
        AlertName::CredentialNeverExpires => vec![
            format!("Ask {owner} whether the key is still used, and to replace it by one that expires."),
        ],
        _ => vec![
            format!("Tell {owner}: only the owner can make a new key, and knows where it is used."),
            format!(
                "The owner signs in to the Cloud UI of {} at {}: Profile > Settings > API Keys > Generate API key, puts the new \
                 key into use, and then revokes the old one ({}).",
                plain(&notice.platform),
                plain(&notice.platform_url),
                bare(&credential.name)
            ),
            "If nobody needs the key any more, let it expire, or delete it; its alert ends when ECE lists it no more."
                .to_owned(),
        ],
    }
}

fn of_list(notice: &Notice, credential: &NoticeCredential, topic: Topic) -> Vec<String> {
    let list = called(credential);
    match topic.alert {
        AlertName::CredentialForbidden if Thing::of(credential) == Thing::Deployments => vec![
            "The owner of the credential that asks may not list the deployments, or not send requests to them. Give the \
             owner a role that may, such as ece_deployment_manager, or remove `deployments` from the platform in the \
             configuration."
                .to_owned(),
            ASKED_RARELY.to_owned(),
        ],
        AlertName::CredentialForbidden => vec![
            "The owner of the credential that asks may not read the list: all keys are shown to the role \
             ece_platform_admin, one's own to everybody. Give the owner that role, or set `inventory.scope: own`, or remove \
             `inventory` from the platform in the configuration."
                .to_owned(),
            ASKED_RARELY.to_owned(),
        ],
        _ => vec![
            format!(
                "On the exporter's machine run: ece-expiry-exporter probe {}/{list}",
                plain(&notice.platform)
            ),
            match notice.probe.failure_reason.as_deref() {
                Some("borrowed_key_rejected") => {
                    "Renew the key of the credential that asks: the list is only read with it."
                }
                Some("secret_unreadable") => {
                    "The exporter cannot read the key with which it asks: put its file or variable back where the configuration says."
                }
                _ => "See what the last probe says, above, and look after that.",
            }
            .to_owned(),
            "Until then what was listed before is still told in time; what is new is not seen.".to_owned(),
        ],
    }
}
