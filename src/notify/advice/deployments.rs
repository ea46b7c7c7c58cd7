//! What to do about a key, a certificate or a license inside a deployment. Pure.

use super::{bare, key_id, plain};
use crate::alert::AlertName;
use crate::config::ItemKind;
use crate::delivery::{Notice, NoticeCredential};
use crate::notify::text::Topic;

/// The steps about a firing alert of something inside a deployment.
pub(super) fn steps(credential: &NoticeCredential, kind: ItemKind, topic: Topic) -> Vec<String> {
    let place = plain(credential.place.as_deref().unwrap_or_default());
    match kind {
        ItemKind::ApiKey | ItemKind::ElasticsearchApiKey => of_key(credential, &place, topic),
        ItemKind::ElasticsearchCertificate => vec![
            format!(
                "Find out whose certificate it is: in Kibana of deployment {place} open Dev Tools and send GET \
                 _ssl/certificates. Where it says no private key, it is one that the deployment trusts."
            ),
            "ECE renews its own by itself. If it has not, save the deployment without a change (Cloud UI > deployment > \
             Edit > Save), and look again."
                .to_owned(),
            "One that came with a bundle or a keystore of yours: put the new one there, and update the deployment."
                .to_owned(),
        ],
        ItemKind::ElasticsearchLicense => vec![
            "ECE renews the licenses of its deployments by itself, as long as its own is valid: look at that first (Cloud UI > \
             Platform > Settings), and put in a new one if it has expired or is about to."
                .to_owned(),
            format!(
                "If it is valid, look whether deployment {place} is healthy: ECE cannot renew the license of one that is \
                 overloaded or down. If it stays, ask Elastic's support."
            ),
        ],
    }
}

fn of_key(credential: &NoticeCredential, place: &str, topic: Topic) -> Vec<String> {
    let owner = match &credential.user {
        Some(user) => format!("the owner (user {} of deployment {place})", plain(user)),
        None => format!("the owner in deployment {place}"),
    };
    let id = bare(credential.key_id.as_deref().unwrap_or("{id}"));
    match topic.alert {
        AlertName::ApiKeyCreated => {
            vec![format!("Ask {owner} whether the key is meant to be there.")]
        }
        AlertName::ApiKeyDeleted => vec![
            format!("Ask {owner} whether the key was invalidated on purpose and is no longer used."),
            "If it was not, whoever used it gets 401 since then: make a new key, and put it where the old one was."
                .to_owned(),
        ],
        AlertName::ApiKeyLongLived => {
            vec![format!("Ask {owner} to replace the key by one that expires sooner.")]
        }
        AlertName::CredentialNeverExpires => vec![format!(
            "Ask {owner} whether the key is still used, and to replace it by one that expires. Keys of Kibana and Fleet \
             never do; leave them out with `deployments.exclude_users` or `deployments.exclude_descriptions`."
        )],
        AlertName::CredentialExpired => vec![
            format!("Tell {owner}: a new key has to be made and put where this one is used; what has expired cannot be extended."),
            new_key(),
        ],
        _ => vec![
            format!("Tell {owner}, who knows where it is used. There are two ways:"),
            new_key(),
            format!(
                "Or the owner extends it before it expires, as the user and not with an API key, in Elasticsearch 8.12 or later: \
                 PUT /_security/api_key/{id} with {{\"expiration\": \"90d\"}}. Its secret stays the same."
            ),
        ],
    }
}

fn new_key() -> String {
    "Make a new one in Kibana > Stack Management > API keys, or with POST /_security/api_key, put it where the old one is \
     used, and then invalidate the old one."
        .to_owned()
}

/// The calls that do the same, to the Elasticsearch of the deployment: method and path.
pub(super) fn calls(notice: &Notice) -> Vec<String> {
    let id = key_id(notice).unwrap_or_else(|| "{id}".to_owned());
    vec!["POST /_security/api_key".to_owned(), format!("PUT /_security/api_key/{id}")]
}
