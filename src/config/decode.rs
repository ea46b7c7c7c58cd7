//! From the tree to a `Config`: what each key means, and what keys mean for each other.
//!
//! Receivers are in `receivers.rs`, policies in `policies.rs`; files and secrets are looked at in `check.rs`.

mod digest;
mod inventory;
mod mutes;
mod routes;
mod watched;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::check;
use super::flavor::{self, Flavor, Verdict};
use super::keys::{GLOBAL, ROOT};
use super::kinds::kind;
use super::policies::{policy, policy_default, with_steps};
use super::problems::show;
use super::push::heartbeat;
use super::reach;
use super::reader::{Fields, Item, Reader};
use super::receivers::{Receivers, receivers as decode_receivers, references};
use super::shapes::{label_value, labels, name, proxy, url};
use super::yaml::Node;
use super::{Config, Credential, CredentialId, CredentialKind, Global, Platform, Policy};
use crate::schedule::Schedule;

/// What a platform hands down to its credentials, and the program to its platforms.
#[derive(Clone)]
struct Inherited {
    schedule_text: String,
    zone: String,
    schedule: Option<Schedule>,
    policy: Arc<Policy>,
    /// The shortcut; empty is by the routes.
    receivers: Vec<Arc<str>>,
    /// There are routes, right or wrong.
    has_route: bool,
    /// A receiver is named at some level, rightly or wrongly.
    names_receiver: bool,
}

/// What stands around something that is watched.
#[derive(Clone, Copy)]
struct Around<'a> {
    platform: &'a Arc<str>,
    flavor: Flavor,
    urls: &'a [String],
    inherited: &'a Inherited,
    receivers: &'a Receivers,
}

/// Reads the whole tree. The `Config` is of use only when the reader has no problems.
pub(super) fn decode(root: &Node, origin: &Path) -> (Reader, Option<Config>) {
    let mut reader = Reader::new(origin);
    let config = config(&mut reader, &Item::root(root));
    check::report_open_secrets(&mut reader);
    (reader, config)
}

fn config(reader: &mut Reader, root: &Item<'_>) -> Option<Config> {
    let root = reader.fields(root, &ROOT)?;
    let receivers = decode_receivers(reader, &root);
    let global = reader.one_or_defaults(&root, "global");
    let inherited = inherited(reader, &root, &global, &receivers);
    let mutes = mutes::mutes(reader, &root, &inherited.zone);
    let route = routes::route(reader, &root, &receivers, &mutes);
    let digest = digest::digest(reader, &root, &receivers, &inherited.zone);
    let probe_timeout = reader.duration(&global, "probe_timeout");
    let external_url = global.get("external_url").and_then(|it| url(reader, &it));
    let own_links = reader.flag(&global, "own_links");
    let platforms = platforms(reader, &root, &inherited, &receivers);
    let heartbeat = reader.one(&root, "heartbeat").and_then(|it| heartbeat(reader, &it));
    let storage = reader.one_or_defaults(&root, "storage");
    let storage_path = reader.path(&storage, "path");
    let config = Config {
        global: Global { probe_timeout: probe_timeout?, external_url, own_links },
        platforms,
        receivers,
        route: route.map(Arc::new),
        mutes,
        digest,
        heartbeat,
        storage_path: storage_path?,
        warnings: Vec::new(),
    };
    mutes::warn_of_idle(reader, &config);
    reach::warn_of_silence(&mut reader.problems, &config);
    Some(config)
}

/// What the top level hands down.
fn inherited(
    reader: &mut Reader,
    root: &Fields<'_>,
    global: &Fields<'_>,
    receivers: &Receivers,
) -> Inherited {
    let (schedule, zone) = (GLOBAL.default_of("schedule"), GLOBAL.default_of("timezone"));
    let base = Inherited {
        schedule_text: schedule.to_owned(),
        zone: zone.to_owned(),
        schedule: Schedule::parse(schedule, zone).ok(),
        policy: Arc::new(policy_default()),
        receivers: Vec::new(),
        has_route: root.has("route"),
        names_receiver: root.has("route"),
    };
    let base = when(reader, global, base);
    Inherited { policy: policy(reader, root, &base.policy, receivers), ..base }
}

/// Replaces schedule and zone by what `fields` say.
fn when(reader: &mut Reader, fields: &Fields<'_>, mut inherited: Inherited) -> Inherited {
    if let Some(item) = fields.get("timezone")
        && let Some(zone) = reader.text_of(&item)
    {
        // The interval is only there to have the zone looked at alone.
        match Schedule::parse("1h", zone) {
            Ok(_) => zone.clone_into(&mut inherited.zone),
            Err(error) => reader.wrong_text(&item, "a time zone", &error.to_string()),
        }
    }
    let item = fields.get("schedule");
    if let Some(text) = item.as_ref().and_then(|it| reader.text_of(it)) {
        text.clone_into(&mut inherited.schedule_text);
    }
    if fields.has("schedule") || fields.has("timezone") {
        let parsed = Schedule::parse(&inherited.schedule_text, &inherited.zone);
        // Without a schedule here, the one of the level above is at fault and was noted there.
        if let (Err(error), Some(item)) = (&parsed, &item) {
            reader.wrong_text(item, "a schedule", &error.to_string());
        }
        inherited.schedule = parsed.ok();
    }
    inherited
}

fn platforms(
    reader: &mut Reader,
    root: &Fields<'_>,
    inherited: &Inherited,
    receivers: &Receivers,
) -> Vec<Arc<Platform>> {
    let all = reader.many(root, "platforms").unwrap_or_default();
    let mut names = BTreeSet::new();
    let platform = |fields: Fields<'_>| platform(reader, &fields, inherited, receivers, &mut names);
    all.into_iter().filter_map(platform).map(Arc::new).collect()
}

fn platform(
    reader: &mut Reader,
    fields: &Fields<'_>,
    inherited: &Inherited,
    receivers: &Receivers,
    names: &mut BTreeSet<Arc<str>>,
) -> Option<Platform> {
    // A platform without a usable name is read to its end all the same, so that every problem is noted.
    let name = name(reader, fields, "platform", names);
    let known_name: Arc<str> = name.clone().unwrap_or_else(|| Arc::from("?"));
    let mut inherited = when(reader, fields, inherited.clone());
    inherited.policy = policy(reader, fields, &inherited.policy, receivers);
    let own = references(reader, fields, "receivers", receivers);
    inherited.names_receiver |= fields.has("receivers");
    if !own.is_empty() {
        inherited.receivers = own;
    }
    let flavor = flavor::flavor(reader, fields);
    let urls = platform_urls(reader, fields);
    let urls = flavor::urls(reader, fields, flavor, urls);
    let tls = check::tls(reader, fields);
    let proxy_url = proxy(reader, fields);
    let max_concurrent_probes = reader.number(fields, "max_concurrent_probes");
    let http_headers = check::headers(reader, fields);
    let mut names = BTreeSet::new();
    let mut credentials: Vec<Arc<Credential>> = Vec::new();
    let known =
        Around { platform: &known_name, flavor, urls: &urls, inherited: &inherited, receivers };
    for fields in reader.many(fields, "credentials").unwrap_or_default() {
        credentials.extend(credential(reader, &fields, known, &mut names).map(Arc::new));
    }
    watched::beside_credentials(reader, fields, known, &mut credentials);
    if inherited.receivers.is_empty() && !inherited.has_route {
        // The platform concerns everybody who is told about one of its credentials.
        let all: BTreeSet<_> =
            credentials.iter().flat_map(|it| it.receivers.iter().cloned()).collect();
        inherited.receivers.extend(all);
    }
    Some(Platform {
        name: name?,
        flavor,
        urls,
        tls,
        proxy_url,
        max_concurrent_probes: usize::try_from(max_concurrent_probes?).ok()?,
        http_headers,
        credentials,
        policy: inherited.policy,
        receivers: inherited.receivers,
    })
}

fn credential(
    reader: &mut Reader,
    fields: &Fields<'_>,
    known: Around<'_>,
    names: &mut BTreeSet<Arc<str>>,
) -> Option<Credential> {
    let name = name(reader, fields, "credential", names);
    let not_hosted = ["login", "bearer_token_file", "bearer_token_env"];
    let kind = match flavor::refuse(reader, fields, known.flavor, &not_hosted) {
        Verdict::Possible => kind(reader, fields, known.urls),
        Verdict::Refused => None,
    };
    watched(reader, fields, known, name, kind)
}

/// What everything that is watched has besides its name and its kind.
fn watched(
    reader: &mut Reader,
    fields: &Fields<'_>,
    Around { platform, inherited, receivers, .. }: Around<'_>,
    name: Option<Arc<str>>,
    kind: Option<CredentialKind>,
) -> Option<Credential> {
    let inherited = when(reader, fields, inherited.clone());
    let policy = with_steps(reader, fields, &inherited.policy, receivers);
    let team = fields.get("team").and_then(|it| label_value(reader, &it));
    let used_by =
        reader.texts(fields, "used_by").into_iter().map(|(_, text)| text.to_owned()).collect();
    let renewal_note = reader.text(fields, "renewal_note").map(str::to_owned);
    let labels = labels(reader, fields);
    let own = references(reader, fields, "receivers", receivers);
    let told = if own.is_empty() { inherited.receivers } else { own };
    if !inherited.names_receiver && !fields.has("receivers") && !receivers.is_empty() {
        let message = "nobody is told about this credential".to_owned();
        let hint = "set `route.receiver`, or `receivers` of the platform or of the credential";
        reader.problems.add(fields.place, &fields.path, message, hint);
    }
    Some(Credential {
        id: CredentialId { platform: Arc::clone(platform), name: name? },
        kind: kind?,
        schedule: inherited.schedule?,
        policy,
        team,
        used_by,
        renewal_note,
        labels,
        receivers: told,
    })
}

fn platform_urls(reader: &mut Reader, fields: &Fields<'_>) -> Vec<String> {
    let allow_http = reader.flag(fields, "allow_http");
    let mut urls = Vec::new();
    for (item, _) in reader.texts(fields, "urls") {
        let Some(text) = url(reader, &item) else { continue };
        let text = text.strip_suffix("/api/v1").unwrap_or(&text).to_owned();
        if text.starts_with("http:") && !allow_http {
            let message = format!(
                "{} has no TLS: the credentials would cross the network unencrypted",
                show(&text)
            );
            reader.problem(
                &item,
                message,
                "use https://, or set `allow_http: true` if you accept that",
            );
        } else if urls.contains(&text) {
            reader.problem(&item, format!("{} is given twice", show(&text)), "remove one of them");
        } else {
            urls.push(text);
        }
    }
    if allow_http && urls.iter().any(|it| it.starts_with("http:")) {
        let path = &fields.path;
        reader
            .problems
            .warn(format!("{path}.allow_http: the credentials cross the network unencrypted"));
    }
    urls
}
