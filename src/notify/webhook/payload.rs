//! The generic payload, version 1, and the same as an event of `CloudEvents`. Pure.
//!
//! The contract is `webhook-v1.schema.json` beside the tests. Within version 1 fields are only added. What is empty is
//! `null`, so a reader sees that the field exists.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use serde::Serialize;

use crate::alert::{AlertName, Reason, Status};
use crate::delivery::{Notice, NoticeCredential, fingerprint, labels};
use crate::notify::text::{self, Topic};
use crate::notify::{Origin, advice};

/// The longest error that the contract allows.
const ERROR_CHARS_MAX: usize = 512;

/// What stands before the type of an event, so that it is not taken for another program's.
const CLOUDEVENT_PREFIX: &str = "org.example.ece.";

/// The JSON about `notice`.
///
/// # Errors
/// A word in the notice is unknown to this version.
pub fn compose(
    id: &str,
    notice: &Notice,
    origin: &Origin,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<u8>> {
    let topic = Topic::of(notice)?;
    let message = Message {
        version: "1",
        id,
        kind: kind(topic, notice.credential.is_some()),
        timestamp: rfc3339(notice.at),
        status: topic.reason.status().label(),
        severity: topic.severity.label(),
        source: Source {
            name: "ece-expiry-exporter",
            version: origin.version,
            instance: &origin.instance,
            url: origin.external_url.as_deref(),
        },
        data: Data::of(notice, topic, origin, now),
    };
    serde_json::to_vec(&message).context("cannot write the payload")
}

/// The same fact as an event of CloudEvents 1.0 in structured mode.
///
/// # Errors
/// A word in the notice is unknown to this version.
pub fn cloudevent(
    id: &str,
    notice: &Notice,
    origin: &Origin,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<u8>> {
    let topic = Topic::of(notice)?;
    let subject = match &notice.credential {
        Some(credential) => format!("{}/{}", notice.platform, credential.name),
        None => notice.platform.clone(),
    };
    let event = CloudEvent {
        specversion: "1.0",
        id,
        source: match &origin.external_url {
            Some(url) => url.clone(),
            // An absolute URI, whatever the name of the machine.
            None => "urn:ece-expiry-exporter".to_owned(),
        },
        kind: format!("{CLOUDEVENT_PREFIX}{}", kind(topic, notice.credential.is_some())),
        subject,
        time: rfc3339(notice.at),
        datacontenttype: "application/json",
        status: topic.reason.status().label(),
        severity: topic.severity.label(),
        data: Data::of(notice, topic, origin, now),
    };
    serde_json::to_vec(&event).context("cannot write the event")
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    // Extension attributes: what the payload of this program has beside `data`.
    status: &'static str,
    severity: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    version: &'static str,
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    status: &'static str,
    severity: &'static str,
    source: Source<'a>,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Source<'a> {
    name: &'static str,
    version: &'static str,
    instance: &'a str,
    url: Option<&'a str>,
}

#[derive(Serialize)]
struct Data<'a> {
    alert: Alert<'a>,
    platform: Platform<'a>,
    credential: Credential<'a>,
    expiry: Expiry<'a>,
    probe: Probe<'a>,
    renewal: Renewal,
}

impl<'a> Data<'a> {
    fn of(notice: &'a Notice, topic: Topic, origin: &Origin, now: DateTime<Utc>) -> Self {
        Self {
            alert: alert(notice, topic, origin, now),
            platform: Platform { name: &notice.platform, url: &notice.platform_url },
            credential: notice.credential.as_ref().map_or_else(Credential::none, Credential::of),
            expiry: expiry(notice, now),
            probe: probe(notice),
            renewal: Renewal {
                ui_steps: advice::steps(notice, topic),
                api: advice::calls(notice, topic),
            },
        }
    }
}

#[derive(Serialize)]
struct Alert<'a> {
    name: &'a str,
    fingerprint: String,
    starts_at: String,
    ends_at: Option<String>,
    summary: String,
    description: String,
    reason: &'static str,
    repeat: u32,
    labels: BTreeMap<String, String>,
    runbook_url: Option<String>,
    dashboard_url: Option<String>,
}

#[derive(Serialize)]
struct Platform<'a> {
    name: &'a str,
    url: &'a str,
}

#[derive(Serialize)]
struct Credential<'a> {
    name: &'a str,
    kind: &'a str,
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<&'a str>,
    team: Option<&'a str>,
    used_by: &'a [String],
    labels: BTreeMap<&'a str, &'a str>,
}

impl<'a> Credential<'a> {
    /// The contract wants a credential always; an alert about a platform has this one.
    fn none() -> Self {
        Self {
            name: "",
            kind: "platform",
            key_id: None,
            user: None,
            description: None,
            deployment: None,
            team: None,
            used_by: &[],
            labels: BTreeMap::new(),
        }
    }

    fn of(credential: &'a NoticeCredential) -> Self {
        Self {
            name: &credential.name,
            kind: &credential.kind,
            key_id: credential.key_id.as_deref(),
            user: credential.user.as_deref(),
            description: credential.description.as_deref(),
            deployment: credential.place.as_deref(),
            team: credential.team.as_deref(),
            used_by: &credential.used_by[..credential.used_by.len().min(text::USES_MAX)],
            labels: credential.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        }
    }
}

#[derive(Serialize)]
struct Expiry<'a> {
    state: &'a str,
    expires_at: Option<String>,
    remaining_seconds: Option<i64>,
    remaining_days: Option<f64>,
    observed_at: Option<String>,
    threshold_seconds: Option<u64>,
    previous_expires_at: Option<String>,
}

#[derive(Serialize)]
struct Probe<'a> {
    success: bool,
    last_run_at: Option<String>,
    last_success_at: Option<String>,
    http_status: Option<u16>,
    failure_reason: Option<&'a str>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Renewal {
    ui_steps: Vec<String>,
    api: Vec<String>,
}

/// The `type` of the contract.
fn kind(topic: Topic, about_credential: bool) -> &'static str {
    match (topic.reason, about_credential) {
        (Reason::Test, _) => return "exporter.test",
        (Reason::Removed, true) => return "credential.removed",
        (Reason::Renewed, true) => return "credential.renewed",
        (Reason::Recovered, true) => return "credential.recovered",
        (Reason::Removed | Reason::Renewed | Reason::Recovered, false) => {
            return "platform.recovered";
        }
        (Reason::New | Reason::Escalated | Reason::Repeat, _) => {}
    }
    match topic.alert {
        AlertName::CredentialExpiring => "credential.expiring",
        AlertName::CredentialExpired => "credential.expired",
        AlertName::CredentialRejected => "credential.rejected",
        AlertName::CredentialForbidden => "credential.forbidden",
        AlertName::CredentialExpiryUnknown => "credential.expiry_unknown",
        AlertName::CredentialNeverExpires => "credential.never_expires",
        AlertName::ApiKeyCreated => "credential.created",
        AlertName::ApiKeyDeleted => "credential.deleted",
        AlertName::ApiKeyLongLived => "credential.long_lived",
        AlertName::PlatformUnreachable => "platform.unreachable",
        AlertName::PlatformClockSkew => "platform.clock_skew",
    }
}

fn alert<'n>(notice: &'n Notice, topic: Topic, origin: &Origin, now: DateTime<Utc>) -> Alert<'n> {
    let labels = labels(notice);
    Alert {
        name: &notice.alert,
        fingerprint: fingerprint(&labels),
        starts_at: rfc3339(notice.starts_at),
        ends_at: (topic.reason.status() == Status::Resolved).then(|| rfc3339(notice.at)),
        summary: text::summary(notice, topic, now),
        description: text::description(notice, topic, now),
        reason: topic.reason.label(),
        repeat: notice.repeat,
        labels,
        runbook_url: origin.runbook_url(topic.alert),
        dashboard_url: None,
    }
}

fn expiry(notice: &Notice, now: DateTime<Utc>) -> Expiry<'_> {
    let credential = notice.credential.as_ref();
    let expires_at = credential.and_then(|it| it.expires_at);
    let left = expires_at.map(|at| (at - now).num_seconds());
    Expiry {
        state: credential.map_or("unknown", |it| &it.expiry_state),
        expires_at: expires_at.map(rfc3339),
        remaining_seconds: left,
        remaining_days: left.map(days),
        observed_at: credential.and_then(|it| it.observed_at).map(rfc3339),
        threshold_seconds: notice.step_seconds,
        previous_expires_at: notice.previous_expiry.map(rfc3339),
    }
}

fn probe(notice: &Notice) -> Probe<'_> {
    Probe {
        success: notice.probe.success,
        last_run_at: notice.probe.last_run_at.map(rfc3339),
        last_success_at: notice.probe.last_success_at.map(rfc3339),
        http_status: notice.probe.http_status,
        failure_reason: notice.probe.failure_reason.as_deref(),
        error: notice.probe.error.as_deref().map(|it| text::cut(it, ERROR_CHARS_MAX)),
    }
}

/// Days with one decimal, rounded down so that nobody is told of time that is not there.
#[expect(clippy::cast_precision_loss, reason = "tenths of days are far below 2^52")]
pub(in crate::notify) fn days(seconds: i64) -> f64 {
    seconds.div_euclid(8_640) as f64 / 10.0
}

/// RFC 3339 in UTC with `Z`, with milliseconds only where there are some.
pub(in crate::notify) fn rfc3339(at: DateTime<Utc>) -> String {
    at.trunc_subsecs(3).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
