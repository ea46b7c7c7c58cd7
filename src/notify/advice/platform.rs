//! What to do about a license or a certificate of a platform. Pure.

use super::{NOTE_CHARS_MAX, bare_url, cut, plain};
use crate::alert::AlertName;
use crate::delivery::{Notice, NoticeCredential};
use crate::notify::text::{Thing, Topic};

/// The steps about a license or a certificate; `None` for everything else, and for ends that need no words of their own.
pub(super) fn steps(notice: &Notice, topic: Topic) -> Option<Vec<String>> {
    let credential = notice.credential.as_ref()?;
    let thing = Thing::of(credential);
    if !matches!(thing, Thing::License | Thing::Certificate(_)) {
        return None;
    }
    let steps = match topic.alert {
        AlertName::CredentialExpiring
        | AlertName::CredentialExpired
        | AlertName::CredentialNeverExpires
        | AlertName::CredentialRejected => renew(notice, credential, thing),
        AlertName::CredentialForbidden => forbidden(thing),
        AlertName::CredentialExpiryUnknown => unknown(notice, credential),
        AlertName::PlatformUnreachable
        | AlertName::PlatformClockSkew
        | AlertName::ApiKeyCreated
        | AlertName::ApiKeyDeleted
        | AlertName::ApiKeyLongLived => return None,
    };
    Some(steps)
}

/// The steps after a renewal was seen.
pub(super) fn after_renewal(credential: &NoticeCredential) -> Option<Vec<String>> {
    match Thing::of(credential) {
        Thing::Credential(_) | Thing::Listed(_) | Thing::List | Thing::Deployments => None,
        Thing::License => Some(vec!["Nothing: the new license is in effect.".to_owned()]),
        Thing::Certificate(_) => Some(vec![
            "Check that everything that connects there trusts the new chain, this exporter too (tls_config)."
                .to_owned(),
        ]),
    }
}

fn renew(notice: &Notice, credential: &NoticeCredential, thing: Thing<'_>) -> Vec<String> {
    let platform = plain(&notice.platform);
    let url = plain(&notice.platform_url);
    let mut steps = match thing {
        Thing::License => vec![
            format!("Get a new license for the platform {platform} from Elastic."),
            format!(
                "Install it as a platform admin, in the Cloud UI at {url} or with PUT /api/v1/platform/license."
            ),
            "Without a valid license, deployments can be neither created nor changed.".to_owned(),
        ],
        Thing::Certificate("endpoint") => vec![
            format!(
                "See which certificate of the chain ends first: openssl s_client -showcerts -connect {}",
                host(&notice.platform_url)
            ),
            "If ECE itself presents it, replace it as a platform admin, in the Cloud UI under Platform > Settings, or with POST /api/v1/platform/configuration/security/tls/ui (adminconsole on the ports 12300 and 12343). If a load balancer presents it, replace it there.".to_owned(),
            "If the new chain has another authority, give it to everything that connects there, to this exporter too (tls_config.ca_file)."
                .to_owned(),
        ],
        Thing::Certificate(service) => vec![
            format!(
                "See which certificate of the chain ends first: GET /api/v1/platform/configuration/security/tls/{service}"
            ),
            format!(
                "Replace the chain as a platform admin, in the Cloud UI at {url} under Platform > Settings, or with POST /api/v1/platform/configuration/security/tls/{service}. ECE replaces it in the background."
            ),
            "If the new chain has another authority, give it to everything that connects there."
                .to_owned(),
        ],
        Thing::Credential(_) | Thing::Listed(_) | Thing::List | Thing::Deployments => Vec::new(),
    };
    if let Some(note) = credential.renewal_note.as_deref() {
        steps.push(format!("Note: {}", cut(&plain(note), NOTE_CHARS_MAX)));
    }
    steps.push("A RENEWED message follows once the new expiry is seen.".to_owned());
    steps
}

fn forbidden(thing: Thing<'_>) -> Vec<String> {
    let key = match thing {
        Thing::License => "license",
        _ => "certificates.services",
    };
    vec![
        "The owner of the credential that asks may not read this. Give the owner a role that may see the platform, such as ece_platform_viewer (Access > Users), or name another credential."
            .to_owned(),
        format!("Or stop watching it: remove `{key}` from the platform in the configuration."),
    ]
}

fn unknown(notice: &Notice, credential: &NoticeCredential) -> Vec<String> {
    let try_it = format!(
        "On the exporter's machine run: ece-expiry-exporter probe {}/{}",
        plain(&notice.platform),
        plain(&credential.name)
    );
    let then = match notice.probe.failure_reason.as_deref() {
        Some("license_missing") => {
            "Install a license, or begin the trial. If the platform is to have none, remove `license` from the configuration."
        }
        Some("borrowed_key_rejected") => {
            "Renew the key of the credential that asks: this is only read with it."
        }
        Some("secret_unreadable") => {
            "The exporter cannot read the key with which it asks: put its file or variable back where the configuration says."
        }
        _ => "See what the last probe says, above, and look after that.",
    };
    vec![
        try_it,
        then.to_owned(),
        "Until then look up the expiry in the Cloud UI (Platform > Settings): nobody else watches it."
            .to_owned(),
    ]
}

/// Host and port of a URL, for `openssl`.
fn host(url: &str) -> String {
    let url = bare_url(url);
    let rest = url.split_once("://").map_or(url.as_str(), |it| it.1);
    let host = rest.split('/').next().unwrap_or_default();
    let has_port = host.rsplit_once(':').is_some_and(|(_, it)| it.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:443") }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn openssl_is_given_host_and_port() {
        assert_eq!(host("https://ece-1:12443/x"), "ece-1:12443");
        assert_eq!(host("https://ece.example.org"), "ece.example.org:443");
        assert_eq!(host("https://[::1]:12443"), "[::1]:12443");
    }
}
