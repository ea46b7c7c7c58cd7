//! The names that a template can use, and what they hold. Pure.
//!
//! They are documented in `docs/webhooks.md` and stay. Every name exists always; what is not known is `none`. Every text
//! is one line without control characters and private-use characters.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use minijinja::value::Serde;
use minijinja::{Value, context as values};
use ring::digest;
use serde::Serialize;
use serde_json::Value as Json;

use super::Phase;
use super::stored::{SECRET, clean};
use crate::alert::{Reason, Status};
use crate::config::FormatFile;
use crate::delivery::{Notice, NoticeCredential, fingerprint, labels, slot};
use crate::notify::text::{self, Topic, plain};
use crate::notify::webhook::payload::{days, rfc3339};
use crate::notify::{Draft, Origin, Sorted, advice, letter};

/// The longest name of a thread that is kept readable: incident services take 255 bytes.
const THREAD_BYTES_MAX: usize = 255;

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    status: &'static str,
    severity: &'static str,
    tag: &'static str,
    title: String,
    test: bool,
    at: String,
    count: usize,
    firing: usize,
    resolved: usize,
    omitted: usize,
    undelivered: Vec<String>,
    alert: Option<Alert>,
    alerts: Vec<Alert>,
    receiver: &'a str,
    group_key: &'a str,
    source: Source<'a>,
    links: Links,
}

#[derive(Serialize)]
struct Source<'a> {
    name: &'static str,
    version: &'static str,
    instance: &'a str,
    url: Option<&'a str>,
}

#[derive(Serialize, Clone)]
struct Links {
    page: Option<String>,
    runbook: Option<String>,
}

#[derive(Serialize, Clone)]
struct Alert {
    name: &'static str,
    status: &'static str,
    severity: &'static str,
    tag: &'static str,
    reason: &'static str,
    repeat: u32,
    headline: String,
    summary: String,
    description: String,
    labels: BTreeMap<String, String>,
    fingerprint: String,
    thread: String,
    thread_id: String,
    starts_at: String,
    at: String,
    platform: Platform,
    credential: Option<Credential>,
    expiry: Expiry,
    problem: Option<String>,
    steps: Vec<String>,
    links: Links,
}

#[derive(Serialize, Clone)]
struct Platform {
    name: String,
    url: String,
    host: String,
}

#[derive(Serialize, Clone)]
struct Credential {
    name: String,
    called: String,
    kind: String,
    key_id: Option<String>,
    user: Option<String>,
    description: Option<String>,
    deployment: Option<String>,
    team: Option<String>,
    used_by: Vec<String>,
    uses: Option<String>,
    renewal_note: Option<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize, Clone)]
struct Expiry {
    state: String,
    at: Option<String>,
    seconds: Option<i64>,
    days: Option<f64>,
    previous: Option<String>,
    observed_at: Option<String>,
    freshness: Option<String>,
}

/// The names of a message about `sorted`, of which the first `shown` are in `alerts`.
pub(super) fn context(
    draft: &Draft<'_>,
    sorted: &Sorted<'_>,
    shown: usize,
    params: &BTreeMap<String, Option<String>>,
    phase: Phase,
) -> Value {
    let alerts: Vec<Alert> = sorted
        .iter()
        .take(shown)
        .map(|(notice, topic)| alert(notice, *topic, draft.origin, draft.now, phase))
        .collect();
    let worst = sorted.first().map(|(_, topic)| *topic);
    let ended =
        |topic: Topic| phase == Phase::TestEnds || topic.reason.status() == Status::Resolved;
    let resolved = sorted.iter().filter(|(_, topic)| ended(*topic)).count();
    let status = if has_ended(sorted, phase) { Status::Resolved } else { Status::Firing };
    let message = Message {
        id: draft.id,
        status: status.label(),
        severity: worst.map_or("info", |it| it.severity.label()),
        tag: worst.map_or("INFO", Topic::tag),
        title: letter::subject(sorted, draft.now),
        test: sorted.iter().all(|(_, topic)| topic.reason == Reason::Test),
        at: rfc3339(draft.now),
        count: sorted.len(),
        firing: sorted.len() - resolved,
        resolved,
        omitted: sorted.len() - alerts.len(),
        undelivered: letter::undelivered(sorted),
        alert: alerts.first().cloned(),
        alerts,
        receiver: draft.receiver,
        group_key: draft.group_key,
        source: Source {
            name: "ece-expiry-exporter",
            version: draft.origin.version,
            instance: &draft.origin.instance,
            url: draft.origin.external_url.as_deref(),
        },
        links: Links { page: draft.origin.link(""), runbook: None },
    };
    let json = serde_json::to_value(message).expect("keys are texts and no value refuses");
    values! {
        params => Value::from(Serde(params)),
        secret => SECRET.to_string(),
        ..Value::from(Serde(cleaned(json)))
    }
}

/// Whether nothing of it fires any more.
pub(super) fn has_ended(sorted: &Sorted<'_>, phase: Phase) -> bool {
    phase == Phase::TestEnds
        || sorted.iter().all(|(_, topic)| topic.reason.status() == Status::Resolved)
}

/// Every setting that the format declares; those without a value are `none`.
pub(super) fn params(
    file: &FormatFile,
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, Option<String>> {
    let declared = file.params.iter();
    declared.map(|it| (it.name.clone(), given.get(&it.name).map(|it| clean(&plain(it))))).collect()
}

/// Every text of a tree as one line without marks.
fn cleaned(json: Json) -> Json {
    match json {
        Json::String(text) => Json::String(clean(&plain(&text))),
        Json::Array(items) => items.into_iter().map(cleaned).collect(),
        Json::Object(map) => {
            map.into_iter().map(|(key, value)| (clean(&plain(&key)), cleaned(value))).collect()
        }
        other => other,
    }
}

fn alert(
    notice: &Notice,
    topic: Topic,
    origin: &Origin,
    now: DateTime<Utc>,
    phase: Phase,
) -> Alert {
    let status = if phase == Phase::TestEnds { Status::Resolved } else { topic.reason.status() };
    let labels = labels(notice);
    let predicate = text::predicate(notice, topic, now);
    let platform = &notice.platform;
    let headline = match &notice.credential {
        Some(credential) => format!("{} on {platform} {predicate}", text::called(credential)),
        None => format!("Platform {platform} {predicate}"),
    };
    let thread = thread(notice, topic);
    Alert {
        name: topic.alert.label(),
        status: status.label(),
        severity: topic.severity.label(),
        tag: topic.tag(),
        reason: topic.reason.label(),
        repeat: notice.repeat,
        headline,
        summary: text::summary(notice, topic, now),
        description: text::description(notice, topic, now),
        fingerprint: fingerprint(&labels),
        labels,
        thread_id: format!("ece-expiry-{}", short(&thread)),
        thread,
        starts_at: rfc3339(notice.starts_at),
        at: rfc3339(notice.at),
        platform: Platform {
            name: platform.clone(),
            url: notice.platform_url.clone(),
            host: host(&notice.platform_url).to_owned(),
        },
        credential: notice.credential.as_ref().map(credential),
        expiry: expiry(notice, now),
        problem: text::problem(notice),
        steps: advice::steps(notice, topic),
        links: Links { page: origin.link(""), runbook: origin.runbook_url(topic.alert) },
    }
}

fn credential(it: &NoticeCredential) -> Credential {
    let phrase = |text: &Option<String>| text.as_deref().map(text::phrase);
    Credential {
        name: it.name.clone(),
        called: text::called(it),
        kind: it.kind.clone(),
        key_id: phrase(&it.key_id),
        user: phrase(&it.user),
        description: phrase(&it.description),
        deployment: phrase(&it.place),
        team: phrase(&it.team),
        used_by: it.used_by.iter().take(text::USES_MAX).map(|it| text::phrase(it)).collect(),
        uses: text::uses(it),
        renewal_note: it.renewal_note.as_deref().map(|it| text::cut(it, text::NOTE_CHARS_MAX)),
        labels: it.labels.clone(),
    }
}

fn expiry(notice: &Notice, now: DateTime<Utc>) -> Expiry {
    let credential = notice.credential.as_ref();
    let expires_at = credential.and_then(|it| it.expires_at);
    let seconds = expires_at.map(|at| (at - now).num_seconds());
    Expiry {
        state: credential.map_or("unknown", |it| &it.expiry_state).to_owned(),
        at: expires_at.map(rfc3339),
        seconds,
        days: seconds.map(days),
        previous: notice.previous_expiry.map(rfc3339),
        observed_at: credential.and_then(|it| it.observed_at).map(rfc3339),
        freshness: credential.map(|_| text::freshness(notice, now)),
    }
}

/// What stays the same from the first message about a subject to the one that ends it, whatever the severity. A test
/// has a thread of its own, so that its end closes nothing else.
fn thread(notice: &Notice, topic: Topic) -> String {
    let slot = if topic.reason == Reason::Test { "test" } else { slot(topic.alert) };
    let platform = &notice.platform;
    let thread = match &notice.credential {
        Some(it) if text::Thing::of(it).is_listed() => {
            format!("ece-expiry/{platform}/{}/{}/{slot}", it.kind, it.name)
        }
        Some(it) => format!("ece-expiry/{platform}/{}/{slot}", it.name),
        None => format!("ece-expiry/{platform}/{slot}"),
    };
    if thread.len() <= THREAD_BYTES_MAX && clean(&plain(&thread)) == thread {
        return thread;
    }
    format!("ece-expiry/{}", short(&thread))
}

/// Half of the SHA-256 of a text, in hexadecimal digits.
fn short(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let digits = u128::from_be_bytes(digest.as_ref()[..16].try_into().expect("16 bytes are 16"));
    format!("{digits:032x}")
}

/// The host of a URL, with its port.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}
