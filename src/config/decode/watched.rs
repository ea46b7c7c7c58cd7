//! What a platform has an expiry of beside its credentials: its license, its certificates and its lists.
//!
//! Each becomes a credential of a kind of its own, so that everything behind the configuration treats it as one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::flavor::{self, Verdict};
use super::super::problems::{nearest, show};
use super::super::reader::{Fields, Item, Reader};
use super::super::{BorrowedKey, Certificate, Credential, CredentialKind, TlsService};
use super::{Around, inventory, watched};

/// Reads `license`, `certificates`, `inventory` and `deployments` of a platform, and adds what they watch to its `credentials`.
pub(super) fn beside_credentials(
    reader: &mut Reader,
    platform: &Fields<'_>,
    known: Around<'_>,
    credentials: &mut Vec<Arc<Credential>>,
) {
    let mut found = Vec::new();
    let has_license = flavor::refuse(reader, platform, known.flavor, &["license"]);
    if let (Verdict::Possible, Some(item), Some(fields)) =
        (has_license, platform.get("license"), reader.one(platform, "license"))
    {
        let key = borrowed_key(reader, &fields, credentials);
        let kind = key.map(CredentialKind::License);
        found.extend(named(reader, &item, &fields, known, "license", kind));
    }
    if let (Some(item), Some(fields)) =
        (platform.get("certificates"), reader.one(platform, "certificates"))
    {
        for (name, kind) in certificates(reader, &item, &fields, known, credentials) {
            let kind = Some(CredentialKind::Certificate(kind));
            found.extend(named(reader, &item, &fields, known, &name, kind));
        }
    }
    for which in [inventory::Which::Keys, inventory::Which::Deployments] {
        let Some(item) = platform.get(which.key()) else { continue };
        let list = inventory::inventory(reader, platform, which, known, credentials);
        found.extend(list.map(|it| (item, it)));
    }
    let taken: BTreeSet<Arc<str>> = credentials.iter().map(|it| it.id.name.clone()).collect();
    for (item, credential) in found {
        if taken.contains(&credential.id.name) {
            let message = format!(
                "is watched under the name {}, which a credential of this platform has",
                show(&credential.id.name)
            );
            reader.problem(&item, message, "rename that credential");
        }
        credentials.push(Arc::new(credential));
    }
}

fn named<'a>(
    reader: &mut Reader,
    item: &Item<'a>,
    fields: &Fields<'a>,
    known: Around<'_>,
    name: &str,
    kind: Option<CredentialKind>,
) -> Option<(Item<'a>, Credential)> {
    let credential = watched(reader, fields, known, Some(Arc::from(name)), kind)?;
    Some((item.clone(), credential))
}

/// The certificates to watch, each with its name.
fn certificates(
    reader: &mut Reader,
    item: &Item<'_>,
    fields: &Fields<'_>,
    known: Around<'_>,
    credentials: &[Arc<Credential>],
) -> Vec<(String, Certificate)> {
    let mut found = Vec::new();
    let keys = ["services", "credential"];
    let has_services = flavor::refuse(reader, fields, known.flavor, &keys);
    if reader.flag(fields, "endpoint") {
        if let Some(url) = known.urls.iter().find(|it| it.starts_with("http:")) {
            let message = format!("{} has no certificate: it is not https://", show(url));
            let item = fields.get("endpoint").unwrap_or_else(|| item.clone());
            reader.problem(&item, message, "remove `endpoint`, or use https:// in `urls`");
        }
        found.push(("certificate-endpoint".to_owned(), Certificate::Endpoint));
    }
    if has_services == Verdict::Refused {
        return found;
    }
    let services = services(reader, fields);
    if fields.has("services") || fields.has("credential") {
        if !fields.has("services") {
            let message = "`credential` is of use for `services` only".to_owned();
            reader.problem(item, message, "add `services: [ui, proxy]`, or remove `credential`");
        }
        if let Some(key) = borrowed_key(reader, fields, credentials) {
            let of = |service: TlsService| {
                let kind = Certificate::Service { service, key: key.clone() };
                (format!("certificate-{}", service.label()), kind)
            };
            found.extend(services.into_iter().map(of));
        }
    } else if found.is_empty() {
        let message = "names no certificate to watch".to_owned();
        reader.problem(item, message, "set `endpoint: true`, or `services` and `credential`");
    }
    found
}

fn services(reader: &mut Reader, fields: &Fields<'_>) -> Vec<TlsService> {
    let mut services = Vec::new();
    for (item, text) in reader.texts(fields, "services") {
        let labels = TlsService::ALL.map(TlsService::label);
        match TlsService::ALL.into_iter().find(|it| it.label() == text) {
            Some(service) if services.contains(&service) => {
                let message = format!("{} is named twice", show(text));
                reader.problem(&item, message, "remove one of them");
            }
            Some(service) => services.push(service),
            None => {
                let allowed = format!("allowed: {}", labels.join(", "));
                let hint = match nearest(text, labels.into_iter()) {
                    Some(near) => format!("did you mean `{near}`? {allowed}"),
                    None => allowed,
                };
                reader.problem(&item, format!("{} is not known", show(text)), hint);
            }
        }
    }
    services
}

/// The key of the credential that is named under `credential`.
pub(super) fn borrowed_key(
    reader: &mut Reader,
    fields: &Fields<'_>,
    credentials: &[Arc<Credential>],
) -> Option<BorrowedKey> {
    let Some(item) = fields.get("credential") else {
        if fields.has("services") {
            let message = "`services` needs `credential`".to_owned();
            let hint = "name a credential of this platform whose owner may see the platform";
            reader.problems.add(fields.place, &fields.path, message, hint);
        }
        return None;
    };
    let text = reader.text_of(&item)?;
    let Some(credential) = credentials.iter().find(|it| *it.id.name == *text) else {
        let names = || credentials.iter().map(|it| it.id.name.as_ref());
        let hint = match nearest(text, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name one of the platform's `credentials`".to_owned(),
        };
        let message = format!("this platform has no usable credential {}", show(text));
        reader.problem(&item, message, hint);
        return None;
    };
    let CredentialKind::ApiKey(source) = &credential.kind else {
        let message = format!("the credential {} is no API key", show(text));
        reader.problem(&item, message, "name one with `api_key_file` or `api_key_env`");
        return None;
    };
    Some(BorrowedKey { credential: credential.id.name.clone(), source: source.clone() })
}
