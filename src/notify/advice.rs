//! What to do about a notice: the steps for a person and the calls for a script. Pure.
//!
//! Commands name `$OLD_KEY` and `$NEW_KEY`, never a value. Whatever stands in a command is reduced to characters that a
//! shell takes literally, because people paste it.

mod command;
mod deployments;
mod inventory;
mod platform;

pub use self::command::{Block, commands};
use super::text::{Kind, NOTE_CHARS_MAX, Thing, Topic, cut, plain, uses};
use crate::alert::{AlertName, Reason};
use crate::config::Flavor;
use crate::config::ItemKind;
use crate::delivery::{Notice, NoticeCredential};

/// What a person does, step by step, in the order of doing.
pub fn steps(notice: &Notice, topic: Topic) -> Vec<String> {
    match topic.reason {
        Reason::Test => {
            return vec!["Nothing: this message only shows that the channel works.".to_owned()];
        }
        Reason::Recovered => return vec!["Nothing: this closes the alert.".to_owned()],
        Reason::Removed => {
            if let Some(steps) = notice.credential.as_ref().and_then(inventory::after_end) {
                return steps;
            }
            return vec![
                "Nothing, if it was removed on purpose. Otherwise put it back into the configuration: its expiry is no longer watched."
                    .to_owned(),
            ];
        }
        Reason::Renewed => return after_renewal(notice),
        Reason::New | Reason::Escalated | Reason::Repeat => {}
    }
    if let Some(steps) = inventory::steps(notice, topic).or_else(|| platform::steps(notice, topic))
    {
        return steps;
    }
    match topic.alert {
        AlertName::CredentialExpiring | AlertName::CredentialExpired => renew(notice),
        AlertName::CredentialRejected => rejected(notice),
        AlertName::CredentialForbidden => forbidden(notice),
        AlertName::CredentialExpiryUnknown => unknown(notice),
        AlertName::CredentialNeverExpires => never(notice),
        // Only of listed keys, which have words of their own.
        AlertName::ApiKeyCreated | AlertName::ApiKeyDeleted | AlertName::ApiKeyLongLived => {
            Vec::new()
        }
        AlertName::PlatformUnreachable => unreachable(notice),
        AlertName::PlatformClockSkew => vec![
            "Check the time service (NTP) of the machine of this exporter and of the ECE coordinators.".to_owned(),
            "Until the clocks agree, take every remaining time as wrong by that much.".to_owned(),
        ],
    }
}

/// What the credential of a notice is in the narrow sense; a license or a certificate has words of its own before.
fn kind_of(notice: &Notice) -> Kind {
    match notice.credential.as_ref().map(Thing::of) {
        Some(Thing::Credential(kind)) => kind,
        Some(_) | None => Kind::Key,
    }
}

fn rejected(notice: &Notice) -> Vec<String> {
    let first = match kind_of(notice) {
        Kind::Key => {
            "Find out whether the key was revoked or replaced on purpose. If it was replaced, give this exporter the new one, and nothing else is to be done."
        }
        Kind::Token => {
            "Find out whether the session was ended or the token replaced on purpose. If it was replaced, give this exporter the new one, and nothing else is to be done."
        }
        Kind::Login => {
            "Find out whether the password was changed or has expired, or the account is locked or disabled, where the user is kept: ECE, Active Directory, LDAP. If it was changed, give this exporter the new one, and nothing else is to be done."
        }
    };
    let mut steps = vec![first.to_owned()];
    steps.extend(renew(notice));
    steps
}

fn renew(notice: &Notice) -> Vec<String> {
    match kind_of(notice) {
        Kind::Key => renew_key(notice),
        Kind::Token => {
            let mut steps = vec![format!(
                "Log in to ECE at {} anew as the user of the token (POST /api/v1/users/auth/_login), or get a new token where the old one came from.",
                plain(&notice.platform_url)
            )];
            steps.push(put(notice, "token"));
            steps.push(give(notice));
            steps
        }
        Kind::Login => vec![
            "Set a new password, or unlock the account, where the user is kept.".to_owned(),
            put(notice, "password"),
            format!(
                "Give it to this exporter too{}. It tries again by its schedule, and what was refused twice only when it is replaced or 12 hours have passed, so that it locks no account. A RECOVERED message follows.",
                place(notice)
            ),
        ],
    }
}

fn give(notice: &Notice) -> String {
    format!(
        "Give it to this exporter too{}. A RENEWED message follows once the new expiry is seen.",
        place(notice)
    )
}

/// Where this exporter reads the secret, as the end of a sentence.
fn place(notice: &Notice) -> String {
    let source = notice.credential.as_ref().and_then(|it| it.secret_source.as_deref());
    match source.map(|it| cut(&plain(it), NOTE_CHARS_MAX)) {
        Some(source) if source.starts_with("environment") => {
            format!(", which reads the {source} when it starts: set that and start it anew")
        }
        Some(source) => format!(", which reads the {source} at each probe"),
        None => String::new(),
    }
}

fn put(notice: &Notice, noun: &str) -> String {
    match notice.credential.as_ref().and_then(|it| it.renewal_note.as_deref()) {
        Some(note) => format!("Put it where it is used: {}", cut(&plain(note), NOTE_CHARS_MAX)),
        None => format!("Put it everywhere the old {noun} is used."),
    }
}

fn renew_key(notice: &Notice) -> Vec<String> {
    if is_hosted(notice) {
        let delete = match key_id(notice) {
            Some(id) => format!("Delete the old key {id} there."),
            None => "Delete the old key there.".to_owned(),
        };
        return vec![
            "Sign in to the console of Elastic Cloud, https://cloud.elastic.co, as an owner of the organization."
                .to_owned(),
            "Organization > API keys: create a key with the roles of the old one. Choose a name and an expiration (default three months). Copy the key: it is shown once."
                .to_owned(),
            put(notice, "key"),
            give(notice),
            delete,
        ];
    }
    let mut steps = vec![
        format!(
            "Sign in to the Cloud UI of {} at {} as the owner of the key (the built-in users admin and readonly cannot hold API keys).",
            plain(&notice.platform),
            plain(&notice.platform_url),
        ),
        "Profile > Settings > API Keys > Generate API key. Choose a name and an expiration (default three months). Copy the key: it is shown once."
            .to_owned(),
    ];
    steps.push(put(notice, "key"));
    steps.push(give(notice));
    steps.push(format!(
        "Revoke the old key{} (trash icon in the Revoke column).",
        key_id(notice).map(|it| format!(" {it}")).unwrap_or_default()
    ));
    steps
}

fn after_renewal(notice: &Notice) -> Vec<String> {
    if let Some(steps) = notice.credential.as_ref().and_then(platform::after_renewal) {
        return steps;
    }
    let noun = kind_of(notice).noun();
    let everywhere = match notice.credential.as_ref().and_then(uses) {
        Some(uses) => format!("Check that these have the new {noun}: {uses}."),
        None => format!("Check that everything that used the old {noun} has the new one."),
    };
    if kind_of(notice) != Kind::Key {
        return vec![everywhere];
    }
    let place = if is_hosted(notice) {
        "Organization > API keys"
    } else {
        "Profile > Settings > API Keys, trash icon in the Revoke column"
    };
    vec![everywhere, format!("If the old key still exists, revoke it ({place}).")]
}

fn forbidden(notice: &Notice) -> Vec<String> {
    let noun = kind_of(notice).noun();
    let give = match kind_of(notice) {
        Kind::Key => "Give the role back, or generate the key as a user who has it.",
        Kind::Token | Kind::Login => "Give the role back, or use a user who has it.",
    };
    vec![
        format!(
            "The {noun} itself is alive: its owner has lost rights in ECE. Look at the owner's roles under Access > Users."
        ),
        give.to_owned(),
    ]
}

fn unknown(notice: &Notice) -> Vec<String> {
    let name = notice.credential.as_ref().map(|it| plain(&it.name)).unwrap_or_default();
    let platform = plain(&notice.platform);
    let mut run =
        format!("On the exporter's machine run: ece-expiry-exporter probe {platform}/{name}");
    if kind_of(notice) == Kind::Login {
        run += " (one attempt to log in: a refused one counts towards the lock of the account, so do not repeat it)";
    }
    vec![
        run,
        match notice.probe.failure_reason.as_deref() {
            Some("secret_unreadable") => {
                format!(
                    "The exporter cannot read the {}: put its file or variable back where the configuration says.",
                    kind_of(notice).noun()
                )
            }
            _ if kind_of(notice) != Kind::Key => {
                "Follow what the message of the last probe says; ECE may be in trouble.".to_owned()
            }
            _ => "If ECE answers without the expiry, look for a proxy that strips X-Elastic-Api-Key-Expiration, and at the version of ECE."
                .to_owned(),
        },
        match kind_of(notice) {
            Kind::Key if is_hosted(notice) => "Until then look up the expiry in the console of Elastic Cloud (Organization > API keys): nobody else watches it.",
            Kind::Key => "Until then look up the expiry in the Cloud UI (Profile > Settings > API Keys): nobody else watches it.",
            Kind::Token => "Until then look up when it ends where the token was made: nobody else watches it.",
            Kind::Login => "Until then try the login by hand: nobody else watches it.",
        }
        .to_owned(),
    ]
}

fn never(notice: &Notice) -> Vec<String> {
    let mut steps = vec![
        "Decide whether it may live forever: a key that leaks and never expires stays valid until somebody revokes it. If it may, set policy.never_expires: ignore for it. If not, replace it:"
            .to_owned(),
    ];
    steps.extend(renew(notice));
    steps
}

fn unreachable(notice: &Notice) -> Vec<String> {
    let url = plain(&notice.platform_url);
    vec![
        format!(
            "From the exporter's machine try: curl -v{} {}/api/v1/user",
            command::authority(notice).map(|it| format!(" {it}")).unwrap_or_default(),
            bare_url(&url)
        ),
        "401 there means that the network is fine and the exporter's proxy or TLS settings are not. No answer: look at DNS, firewall, load balancer and the coordinators.".to_owned(),
        "Expiries that are already known are still announced in time; new ones and renewals are not seen until ECE answers.".to_owned(),
    ]
}

/// The calls that do the same, for a webhook's payload: method and path.
pub fn calls(notice: &Notice, topic: Topic) -> Vec<String> {
    if !can_renew(topic) {
        return Vec::new();
    }
    match notice.credential.as_ref().map(Thing::of) {
        Some(
            Thing::Credential(Kind::Login)
            | Thing::Certificate("endpoint")
            | Thing::Listed(
                ItemKind::ApiKey
                | ItemKind::ElasticsearchCertificate
                | ItemKind::ElasticsearchLicense,
            )
            | Thing::List
            | Thing::Deployments,
        ) => return Vec::new(),
        Some(Thing::Listed(ItemKind::ElasticsearchApiKey)) => {
            return deployments::calls(notice);
        }
        Some(Thing::Credential(Kind::Token)) => {
            return vec!["POST /api/v1/users/auth/_login".to_owned()];
        }
        Some(Thing::License) => return vec!["PUT /api/v1/platform/license".to_owned()],
        Some(Thing::Certificate(service)) => {
            return vec![format!(
                "POST /api/v1/platform/configuration/security/tls/{}",
                bare(service)
            )];
        }
        Some(Thing::Credential(Kind::Key)) | None => {}
    }
    let id = key_id(notice).unwrap_or_else(|| "{id}".to_owned());
    vec!["POST /api/v1/users/auth/keys".to_owned(), format!("DELETE /api/v1/users/auth/keys/{id}")]
}

/// Whether the advice is to make a new key.
fn can_renew(topic: Topic) -> bool {
    topic.needs_attention()
        && matches!(
            topic.alert,
            AlertName::CredentialExpiring
                | AlertName::CredentialExpired
                | AlertName::CredentialRejected
                | AlertName::CredentialNeverExpires
        )
}

/// Whether the platform is Elastic Cloud Hosted, which has a console of its own instead of a Cloud UI.
fn is_hosted(notice: &Notice) -> bool {
    notice.flavor == Flavor::Ech.label()
}

fn key_id(notice: &Notice) -> Option<String> {
    let credential: &NoticeCredential = notice.credential.as_ref()?;
    Some(bare(credential.key_id.as_deref()?)).filter(|it| !it.is_empty())
}

/// `text` reduced to characters without a meaning to a shell or to JSON.
fn bare(text: &str) -> String {
    let keep = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    text.chars().map(keep).collect()
}

/// `url` reduced to characters without a meaning to a shell.
fn bare_url(url: &str) -> String {
    url.chars().filter(|c| c.is_ascii_alphanumeric() || "._-:/[]".contains(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_command_cannot_hold_more_than_names() {
        assert_eq!(bare("x'; rm -rf ~ #$(id)\""), "x---rm--rf------id--");
        assert_eq!(bare_url("https://ece:12443/$(id)`x`"), "https://ece:12443/idx");
    }
}
