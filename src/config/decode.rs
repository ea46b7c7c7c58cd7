//! From the tree to a `Config`: what each key means, and what keys mean for each other.
//!
//! Receivers are in `receivers.rs`; files and secrets are looked at in `check.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, SecretKind};
use super::keys::ROOT;
use super::problems::{could_be_secret, nearest, show};
use super::reader::{Fields, Item, Reader};
use super::yaml::Node;
use super::{
    Config, Credential, CredentialId, CredentialKind, Global, Platform, Policy, Receiver, Repeat,
    Severity, Step,
};
use crate::schedule::{Schedule, format_duration};

/// Longest name and label value: they are in every series and in every subject line.
pub(super) const LABEL_BYTES_MAX: usize = 128;

/// The most free labels of a credential: each is one more label on its series.
const LABELS_MAX: usize = 8;

/// The most steps of one policy; nobody acts on more.
const STEPS_MAX: usize = 16;

/// Label names that the program gives a meaning.
const LABELS_RESERVED: [&str; 16] = [
    "platform",
    "credential",
    "kind",
    "type",
    "team",
    "severity",
    "receiver",
    "channel",
    "step",
    "reason",
    "state",
    "status",
    "alertname",
    "instance",
    "job",
    "le",
];

/// The steps without any configuration.
const STEPS_DEFAULT: [(u64, Severity); 4] = [
    (30, Severity::Info),
    (14, Severity::Warning),
    (7, Severity::Critical),
    (1, Severity::Critical),
];

/// What a platform hands down to its credentials, and the program to its platforms.
#[derive(Clone)]
struct Inherited {
    schedule_text: String,
    zone: String,
    schedule: Option<Schedule>,
    policy: Arc<Policy>,
    /// Empty when nobody is named.
    receivers: Vec<Arc<str>>,
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
    let receivers = super::receivers::receivers(reader, &root);
    let route = reader.one(&root, "route");
    let default_receiver = route.as_ref().and_then(|it| receiver_reference(reader, it, &receivers));
    let group_wait = route.as_ref().and_then(|it| reader.duration(it, "group_wait"));
    let global = reader.one(&root, "global");
    let inherited = inherited(reader, &root, global.as_ref(), default_receiver.as_ref());
    let global = decode_global(reader, global.as_ref());
    let platforms = platforms(reader, &root, &inherited, &receivers);
    let storage = reader.one(&root, "storage");
    let storage_path = match &storage {
        Some(storage) => reader.path(storage, "path")?,
        None => "/var/lib/ece-expiry-exporter".into(),
    };
    let config = Config {
        global,
        platforms,
        receivers,
        default_receiver,
        group_wait: group_wait.unwrap_or(Duration::from_secs(30)),
        storage_path,
        warnings: Vec::new(),
    };
    warn_of_silence(reader, &config);
    Some(config)
}

fn decode_global(reader: &mut Reader, fields: Option<&Fields<'_>>) -> Global {
    let timeout = fields.and_then(|it| reader.duration(it, "probe_timeout"));
    let external_url = fields.and_then(|it| it.get("external_url"));
    Global {
        probe_timeout: timeout.unwrap_or(Duration::from_secs(10)),
        external_url: external_url.and_then(|it| url(reader, &it)),
    }
}

/// What the top level hands down.
fn inherited(
    reader: &mut Reader,
    root: &Fields<'_>,
    global: Option<&Fields<'_>>,
    receiver: Option<&Arc<str>>,
) -> Inherited {
    let base = Inherited {
        schedule_text: "15m".to_owned(),
        zone: "UTC".to_owned(),
        schedule: Schedule::parse("15m", "UTC").ok(),
        policy: Arc::new(policy_default()),
        receivers: receiver.cloned().into_iter().collect(),
    };
    let base = match global {
        Some(global) => when(reader, global, base),
        None => base,
    };
    policy(reader, root, base)
}

fn policy_default() -> Policy {
    let step = |(days, severity)| Step { before: Duration::from_secs(days * 86_400), severity };
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
    Policy {
        steps: STEPS_DEFAULT.into_iter().map(step).collect(),
        never_expires: Some(Severity::Info),
        failures_before_alert: 3,
        repeat: Repeat { critical: hours(24), warning: hours(72), info: None },
    }
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

/// Replaces steps and policy by what `fields` say.
fn policy(reader: &mut Reader, fields: &Fields<'_>, mut inherited: Inherited) -> Inherited {
    let mut policy = Policy::clone(&inherited.policy);
    if let Some(steps) = steps(reader, fields) {
        policy.steps = steps;
    }
    if let Some(fields) = reader.one(fields, "policy") {
        if fields.has("never_expires")
            && let Some(choice) = reader.choice(&fields, "never_expires")
        {
            policy.never_expires = Severity::parse(choice);
        }
        if fields.has("failures_before_alert")
            && let Some(number) = reader.number(&fields, "failures_before_alert")
        {
            policy.failures_before_alert = number;
        }
        if let Some(fields) = reader.one(&fields, "repeat") {
            let Repeat { critical, warning, info } = &mut policy.repeat;
            for (key, target) in [("critical", critical), ("warning", warning), ("info", info)] {
                if fields.has(key)
                    && let Some(every) = reader.duration_or_never(&fields, key)
                {
                    *target = every;
                }
            }
        }
    }
    if policy != *inherited.policy {
        inherited.policy = Arc::new(policy);
    }
    inherited
}

/// The steps, longest first; `None` when the key was not written or is wrong.
fn steps(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<Step>> {
    let item = fields.get("steps")?;
    let mut steps: Vec<(Step, Fields<'_>)> = Vec::new();
    for fields in reader.many(fields, "steps")? {
        let before = reader.duration(&fields, "before");
        let severity = reader.choice(&fields, "severity").and_then(Severity::parse);
        if let (Some(before), Some(severity)) = (before, severity) {
            steps.push((Step { before, severity }, fields));
        }
    }
    if STEPS_MAX < steps.len() {
        let message = format!("has {} steps; at most {STEPS_MAX} are allowed", steps.len());
        reader.problem(&item, message, "keep those that somebody acts on");
        return None;
    }
    steps.sort_by_key(|(step, fields)| (std::cmp::Reverse(step.before), fields.place));
    for pair in steps.windows(2) {
        let ((longer, _), (shorter, fields)) = (&pair[0], &pair[1]);
        let (before, severity) = (format_duration(shorter.before), shorter.severity.label());
        if longer.before == shorter.before {
            let message = format!("a step {before} before the expiry is given twice");
            reader.problems.add(fields.place, &fields.path, message, "remove one of them");
        } else if shorter.severity < longer.severity {
            let (milder, than) = (format_duration(longer.before), longer.severity.label());
            let message = format!(
                "{severity} at {before} is milder than {than} at {milder}, although less time is left"
            );
            reader.problems.add(
                fields.place,
                &fields.path,
                message,
                "severity may only rise towards the expiry",
            );
        }
    }
    Some(steps.into_iter().map(|(step, _)| step).collect())
}

fn platforms(
    reader: &mut Reader,
    root: &Fields<'_>,
    inherited: &Inherited,
    receivers: &BTreeMap<Arc<str>, Arc<Receiver>>,
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
    receivers: &BTreeMap<Arc<str>, Arc<Receiver>>,
    names: &mut BTreeSet<Arc<str>>,
) -> Option<Platform> {
    // A platform without a usable name is read to its end all the same, so that every problem is noted.
    let name = name(reader, fields, "platform", names);
    let known_name: Arc<str> = name.clone().unwrap_or_else(|| Arc::from("?"));
    let mut inherited = when(reader, fields, inherited.clone());
    inherited = policy(reader, fields, inherited);
    let own = receiver_references(reader, fields, receivers);
    if !own.is_empty() {
        inherited.receivers = own;
    }
    reader.choice(fields, "flavor");
    let urls = platform_urls(reader, fields);
    let tls = check::tls(reader, fields);
    let proxy_url = proxy(reader, fields);
    let max_concurrent_probes = reader.number(fields, "max_concurrent_probes");
    let http_headers = check::headers(reader, fields);
    let mut names = BTreeSet::new();
    let mut credentials: Vec<Arc<Credential>> = Vec::new();
    for fields in reader.many(fields, "credentials").unwrap_or_default() {
        let known = (&known_name, &inherited, receivers);
        credentials.extend(credential(reader, &fields, known, &mut names).map(Arc::new));
    }
    if inherited.receivers.is_empty() {
        // The platform concerns everybody who is told about one of its credentials.
        let all: BTreeSet<_> =
            credentials.iter().flat_map(|it| it.receivers.iter().cloned()).collect();
        inherited.receivers.extend(all);
    }
    Some(Platform {
        name: name?,
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
    (platform, inherited, receivers): (&Arc<str>, &Inherited, &BTreeMap<Arc<str>, Arc<Receiver>>),
    names: &mut BTreeSet<Arc<str>>,
) -> Option<Credential> {
    let name = name(reader, fields, "credential", names);
    let source = check::secret(reader, fields, ("api_key_file", "api_key_env"), SecretKind::ApiKey);
    if source.is_none()
        && !fields.has("api_key_file")
        && !fields.has("api_key_env")
        && !fields.has_unknown("api_key")
    {
        let message = "needs `api_key_file` or `api_key_env`".to_owned();
        reader.problems.add(
            fields.place,
            &fields.path,
            message,
            "for example `api_key_file: secrets/terraform`",
        );
    }
    let inherited = when(reader, fields, inherited.clone());
    let inherited = match steps(reader, fields) {
        Some(steps) if steps != inherited.policy.steps => Inherited {
            policy: Arc::new(Policy { steps, ..(*inherited.policy).clone() }),
            ..inherited
        },
        _ => inherited,
    };
    let team = fields.get("team").and_then(|it| label_value(reader, &it));
    let used_by =
        reader.texts(fields, "used_by").into_iter().map(|(_, text)| text.to_owned()).collect();
    let renewal_note = reader.text(fields, "renewal_note").map(str::to_owned);
    let labels = labels(reader, fields);
    let own = receiver_references(reader, fields, receivers);
    let told = if own.is_empty() { inherited.receivers } else { own };
    if told.is_empty() && !receivers.is_empty() && !fields.has("receivers") {
        let message = "nobody is told about this credential".to_owned();
        let hint = "set `route.receiver`, or `receivers` of the platform or of the credential";
        reader.problems.add(fields.place, &fields.path, message, hint);
    }
    Some(Credential {
        id: CredentialId { platform: Arc::clone(platform), name: name? },
        kind: CredentialKind::ApiKey(source?),
        schedule: inherited.schedule?,
        policy: inherited.policy,
        team,
        used_by,
        renewal_note,
        labels,
        receivers: told,
    })
}

/// A name that is unique among `names`: a label value, a part of `platform/credential`, and a word in a subject line.
pub(super) fn name(
    reader: &mut Reader,
    fields: &Fields<'_>,
    what: &str,
    names: &mut BTreeSet<Arc<str>>,
) -> Option<Arc<str>> {
    let item = fields.get("name")?;
    let text = label_value(reader, &item)?;
    if text.contains('/') {
        let hint = "`/` separates platform and credential; use `-`";
        reader.problem(&item, format!("{} contains a slash", show(&text)), hint);
        return None;
    }
    let name: Arc<str> = Arc::from(text);
    if !names.insert(Arc::clone(&name)) {
        let message = format!("a second {what} has the name {}", show(&name));
        reader.problem(&item, message, "rename one of them");
        return None;
    }
    Some(name)
}

fn label_value(reader: &mut Reader, item: &Item<'_>) -> Option<String> {
    let text = reader.text_of(item)?;
    let (message, hint) = if LABEL_BYTES_MAX < text.len() {
        (format!("has {} bytes; at most {LABEL_BYTES_MAX} are allowed", text.len()), "shorten it")
    } else if text.contains(char::is_control) {
        ("contains a control character".to_owned(), "remove it")
    } else {
        return Some(text.to_owned());
    };
    reader.problem(item, message, hint);
    None
}

fn labels(reader: &mut Reader, fields: &Fields<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let written = reader.text_map(fields, "labels");
    if LABELS_MAX < written.len()
        && let Some(item) = fields.get("labels")
    {
        let message = format!("has {} labels; at most {LABELS_MAX} are allowed", written.len());
        reader.problem(&item, message, "keep those that somebody filters by");
    }
    for (item, name, _) in written {
        let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let digit_first = name.starts_with(|char: char| char.is_ascii_digit());
        if name.is_empty() || digit_first || !name.chars().all(word) || name.starts_with("__") {
            let message = "this is not the name of a label".to_owned();
            reader.problem(
                &item,
                message,
                "letters, digits and `_`, no digit first, not `__` first",
            );
        } else if LABEL_BYTES_MAX < name.len() || could_be_secret(name) {
            reader.problem(
                &item,
                "this is too long for the name of a label".to_owned(),
                "shorten it",
            );
        } else if LABELS_RESERVED.contains(&name) {
            let message = format!("the label `{name}` is set by the program");
            reader.problem(&item, message, "use another name");
        } else if let Some(value) = label_value(reader, &item) {
            labels.insert(name.to_owned(), value);
        }
    }
    labels
}

fn receiver_references(
    reader: &mut Reader,
    fields: &Fields<'_>,
    receivers: &BTreeMap<Arc<str>, Arc<Receiver>>,
) -> Vec<Arc<str>> {
    let mut named: Vec<Arc<str>> = Vec::new();
    for (item, text) in reader.texts(fields, "receivers") {
        match receivers.get_key_value(text) {
            Some((name, _)) if named.contains(name) => {
                reader.problem(
                    &item,
                    format!("{} is named twice", show(text)),
                    "remove one of them",
                );
            }
            Some((name, _)) => named.push(Arc::clone(name)),
            None => unknown_receiver(reader, &item, text, receivers),
        }
    }
    named
}

fn receiver_reference(
    reader: &mut Reader,
    fields: &Fields<'_>,
    receivers: &BTreeMap<Arc<str>, Arc<Receiver>>,
) -> Option<Arc<str>> {
    let item = fields.get("receiver")?;
    let text = reader.text_of(&item)?;
    let known = receivers.get_key_value(text).map(|(name, _)| Arc::clone(name));
    if known.is_none() {
        unknown_receiver(reader, &item, text, receivers);
    }
    known
}

fn unknown_receiver(
    reader: &mut Reader,
    item: &Item<'_>,
    text: &str,
    receivers: &BTreeMap<Arc<str>, Arc<Receiver>>,
) {
    let known = || receivers.keys().map(AsRef::as_ref);
    let hint = match nearest(text, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if receivers.is_empty() => "define it under `receivers`".to_owned(),
        None => format!(
            "define it under `receivers`; there are {}",
            known().collect::<Vec<_>>().join(", ")
        ),
    };
    reader.problem(item, format!("there is no receiver {}", show(text)), hint);
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

/// The proxy under `proxy_url`.
pub(super) fn proxy(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    fields.get("proxy_url").and_then(|it| url(reader, &it))
}

/// An absolute http or https URL without user, query and fragment; returned without a slash at its end.
fn url(reader: &mut Reader, item: &Item<'_>) -> Option<String> {
    let text = reader.text_of(item)?;
    let wrong = match reqwest::Url::parse(text) {
        Err(error) => format!("{} is not a URL: {error}", show(text)),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("{} does not begin with https://", show(text))
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "the URL contains a user name or a password, which do not belong into this file"
                .to_owned()
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            "the URL contains a query or a fragment".to_owned()
        }
        Ok(_) => return Some(text.trim_end_matches('/').to_owned()),
    };
    reader.problem(
        item,
        wrong,
        "scheme, host and port, for example https://ece-1.example.org:12443",
    );
    None
}

/// Warns when alerts reach nobody, or when a receiver hears of nothing.
fn warn_of_silence(reader: &mut Reader, config: &Config) {
    if config.receivers.is_empty() {
        let warning = "receivers: there is none, so alerts are shown but nobody is told";
        reader.problems.warn(warning.to_owned());
        return;
    }
    let of_platforms = config.platforms.iter().flat_map(|it| it.receivers.iter());
    let of_credentials = config.credentials().flat_map(|(_, it)| it.receivers.iter());
    let told: BTreeSet<&Arc<str>> = of_platforms.chain(of_credentials).collect();
    for name in config.receivers.keys().filter(|it| !told.contains(it)) {
        reader
            .problems
            .warn(format!("receivers: nothing is sent to {}; no route leads there", show(name)));
    }
}
