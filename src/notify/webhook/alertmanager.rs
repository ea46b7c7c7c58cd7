//! The webhook payload of Alertmanager, version 4, so that whatever receives its webhooks receives ours. Pure.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;

use super::payload::rfc3339;
use crate::alert::Status;
use crate::delivery::{Notice, fingerprint, labels};
use crate::notify::format::Phase;
use crate::notify::text::{self, Topic};
use crate::notify::{Draft, Sorted};

/// The end of an alert that still fires, as Go writes a time that is not set.
const NOT_YET: &str = "0001-01-01T00:00:00Z";

/// The labels of a group that was not given a key.
const GROUP_LABELS: [&str; 2] = ["alertname", "platform"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<Alert>,
    group_labels: BTreeMap<String, String>,
    common_labels: BTreeMap<String, String>,
    common_annotations: BTreeMap<String, String>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: String,
    truncated_alerts: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: &'static str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

/// The JSON about `sorted`, worst first; of more than `max` alerts the rest is a number, unless `max` is 0.
///
/// # Errors
/// None that a notice can cause.
pub fn compose(
    draft: &Draft<'_>,
    sorted: &Sorted<'_>,
    max: usize,
    phase: Phase,
) -> anyhow::Result<Vec<u8>> {
    let mut alerts: Vec<Alert> =
        sorted.iter().map(|(notice, topic)| alert(notice, *topic, draft, phase)).collect();
    let common_labels = common(alerts.iter().map(|it| &it.labels));
    let common_annotations = common(alerts.iter().map(|it| &it.annotations));
    let firing = Status::Firing.label();
    let fires = alerts.iter().any(|it| it.status == firing);
    let shown = if max == 0 { alerts.len() } else { max };
    let truncated_alerts = alerts.len().saturating_sub(shown);
    alerts.truncate(shown);
    let (group_key, group_labels) = group(draft.group_key, &common_labels);
    let message = Message {
        receiver: draft.receiver,
        status: if fires { firing } else { Status::Resolved.label() },
        alerts,
        group_labels,
        common_labels,
        common_annotations,
        external_url: draft.origin.external_url.as_deref().unwrap_or_default(),
        version: "4",
        group_key,
        truncated_alerts,
    };
    serde_json::to_vec(&message).context("cannot write the payload")
}

fn alert(notice: &Notice, topic: Topic, draft: &Draft<'_>, phase: Phase) -> Alert {
    let (origin, now) = (draft.origin, draft.now);
    let status = if phase == Phase::TestEnds { Status::Resolved } else { topic.reason.status() };
    let labels = labels(notice);
    let mut annotations = BTreeMap::from([
        ("summary".to_owned(), text::summary(notice, topic, now)),
        ("description".to_owned(), text::description(notice, topic, now)),
    ]);
    let runbook = origin.runbook_url(topic.alert);
    annotations.extend(runbook.map(|it| ("runbook_url".to_owned(), it)));
    Alert {
        status: status.label(),
        annotations,
        starts_at: rfc3339(notice.starts_at),
        ends_at: match status {
            Status::Firing => NOT_YET.to_owned(),
            Status::Resolved => rfc3339(notice.at),
        },
        generator_url: origin.link("").unwrap_or_else(|| notice.platform_url.clone()),
        fingerprint: fingerprint(&labels),
        labels,
    }
}

/// What all maps have alike.
fn common<'a>(
    mut maps: impl Iterator<Item = &'a BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let mut common = maps.next().cloned().unwrap_or_default();
    maps.for_each(|it| common.retain(|name, value| it.get(name) == Some(value)));
    common
}

/// The key of the group and the labels in it: those that all alerts have alike and that the key names in its last braces
/// as `name="value"`. Without a key, the alert and the platform are one.
fn group(key: &str, common: &BTreeMap<String, String>) -> (String, BTreeMap<String, String>) {
    let pair = |name: &str, value: &str| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    if key.is_empty() {
        let known = |(name, _): &(&String, &String)| GROUP_LABELS.contains(&name.as_str());
        let labels: BTreeMap<_, _> =
            common.iter().filter(known).map(|(k, v)| (k.clone(), v.clone())).collect();
        let pairs: Vec<_> = labels.iter().map(|(name, value)| pair(name, value)).collect();
        return (format!("{{}}:{{{}}}", pairs.join(", ")), labels);
    }
    let grouped = key.rsplit_once(":{").map_or("", |(_, it)| it);
    let named = |name: &str, value: &str| {
        let wanted = pair(name, value);
        let mut found = grouped.match_indices(&wanted).map(|(at, _)| at);
        found.any(|at| at == 0 || grouped.as_bytes()[at - 1] == b' ')
    };
    let labels = common.iter().filter(|(name, value)| named(name, value));
    (key.to_owned(), labels.map(|(k, v)| (k.clone(), v.clone())).collect())
}
