//! Alertmanager's own API, `POST /api/v2/alerts`: what an alert looks like there, and one replica that takes alerts.
//!
//! Alertmanager tells alerts apart by their labels alone. So nothing that changes while an alert lasts (days left, the
//! id of a key) is a label, and no label is empty. It is not decided here what is sent when.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use serde::Serialize;

use super::text::{self, Topic, cut};
use super::wire::{authorize, client, exchange, extra_headers, refuse_denied};
use super::{Origin, advice};
use crate::config::{AlertmanagerConfig, AnswerRule, HttpConfig};
use crate::delivery::{Accepted, Notice, SendError, fingerprint, labels};

/// The most alerts of one request; Prometheus sends no more either.
pub const BATCH_MAX: usize = 256;

/// The `alertname` of a drill: no alert of the program, so that the end of a drill ends nothing else.
const DRILL: &str = "ECEExpiryTest";

/// How long a drill fires: longer than the usual `group_wait`, so that somebody is told.
const DRILL_FOR: TimeDelta = TimeDelta::minutes(1);

/// An alert in Alertmanager's words, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What it is told apart by.
    pub labels: BTreeMap<String, String>,
    /// What a person reads.
    pub annotations: BTreeMap<&'static str, String>,
    /// Since when it fires.
    pub starts_at: DateTime<Utc>,
    /// Where it comes from; an absolute URL.
    pub generator_url: Option<String>,
}

impl Alert {
    /// The alert of a notice.
    ///
    /// # Errors
    /// A word in the notice is unknown to this version.
    pub fn of(notice: &Notice, origin: &Origin, now: DateTime<Utc>) -> anyhow::Result<Self> {
        let topic = Topic::of(notice)?;
        let mut annotations = BTreeMap::from([
            ("summary", text::summary(notice, topic, now)),
            ("description", text::description(notice, topic, now)),
        ]);
        let steps = advice::steps(notice, topic);
        let steps: Vec<String> =
            steps.iter().enumerate().map(|(at, step)| format!("{}. {step}", at + 1)).collect();
        let credential = notice.credential.as_ref();
        annotations.extend([
            (
                "expires_at",
                credential.and_then(|it| it.expires_at).map(rfc3339).unwrap_or_default(),
            ),
            ("renewal_note", credential.and_then(|it| it.renewal_note.clone()).unwrap_or_default()),
            ("runbook_url", origin.runbook_url(topic.alert).unwrap_or_default()),
            ("steps", steps.join("\n")),
            ("used_by", credential.and_then(text::uses).unwrap_or_default()),
        ]);
        annotations.retain(|_, text| !text.is_empty());
        Ok(Self {
            labels: labels(notice),
            annotations,
            starts_at: notice.starts_at,
            generator_url: origin.link(""),
        })
    }

    /// What Alertmanager tells it apart by, as 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.labels)
    }
}

/// An alert as it stands in a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<&'a str>,
}

/// The body of one request: alerts, each with when it ends or has ended.
///
/// # Errors
/// The alerts cannot be written as JSON.
pub fn compose<'a>(
    alerts: impl IntoIterator<Item = (&'a Alert, DateTime<Utc>)>,
) -> anyhow::Result<Vec<u8>> {
    let posted = |(alert, ends_at): (&'a Alert, DateTime<Utc>)| Posted {
        labels: &alert.labels,
        annotations: &alert.annotations,
        // After the clock was set back. An end before the start is refused, and with it the whole request.
        starts_at: rfc3339(alert.starts_at.min(ends_at)),
        ends_at: rfc3339(ends_at),
        generator_url: alert.generator_url.as_deref(),
    };
    let alerts: Vec<Posted<'_>> = alerts.into_iter().map(posted).collect();
    serde_json::to_vec(&alerts).context("cannot write the alerts")
}

/// RFC 3339 in UTC; with milliseconds always, so that one instant is always the same text.
fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// One Alertmanager.
pub struct Replica {
    name: String,
    api: Url,
    http: HttpConfig,
    timeout: Duration,
    client: Client,
}

impl Replica {
    /// Each Alertmanager of a configuration, ready to be told.
    ///
    /// # Errors
    /// A certificate, the proxy URL or a URL cannot be used.
    pub fn all(config: &AlertmanagerConfig) -> anyhow::Result<Vec<Self>> {
        config.urls.iter().map(|url| Self::new(url, config)).collect()
    }

    fn new(url: &str, config: &AlertmanagerConfig) -> anyhow::Result<Self> {
        let AlertmanagerConfig { http, timeout, .. } = config;
        let plain = url.starts_with("http://");
        let client = client(&http.tls, http.proxy_url.as_deref(), *timeout, plain)?;
        let api = Url::parse(&format!("{url}/api/v2/alerts")).context("urls holds no URL")?;
        let host = api.host_str().unwrap_or_default();
        let port = api.port_or_known_default();
        let name = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { name, api, http: http.clone(), timeout: *timeout, client })
    }

    /// Its host and port, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the other is the same Alertmanager, asked as the same client.
    pub fn is(&self, other: &Self) -> bool {
        self.api == other.api
            && self.http.authorization == other.http.authorization
            && self.http.http_headers == other.http.http_headers
    }

    /// Posts one request, which ends by the deadline.
    ///
    /// # Errors
    /// `Retry` for the network, 408, 425, 429 and 5xx; `GiveUp` for every other answer but 2xx.
    pub async fn post(&self, body: Vec<u8>) -> Result<Accepted, SendError> {
        let posting = async {
            refuse_denied(&self.api)?;
            let mut headers = extra_headers(&self.http.http_headers)?;
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let mut secrets = Vec::new();
            authorize(self.http.authorization.as_ref(), &mut headers, &mut secrets).await?;
            let request = self.client.post(self.api.clone()).headers(headers).body(body);
            exchange(request, &self.name, &secrets, &AnswerRule::default()).await
        };
        tokio::time::timeout(self.timeout, posting).await.unwrap_or_else(|_| {
            let (name, timeout) = (&self.name, self.timeout);
            let why = format!("{name} did not finish within {timeout:?}; check that it runs");
            Err(SendError::Retry { why: cut(&why, 256), after: None })
        })
    }
}

/// Sends a marked alert that ends within a minute to each Alertmanager of a configuration: what each answered, by name.
///
/// # Errors
/// A certificate or a URL cannot be used.
pub async fn drill(
    config: &AlertmanagerConfig,
    notice: &Notice,
    origin: &Origin,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<(String, Result<Accepted, SendError>)>> {
    let mut alert = Alert::of(notice, origin, now)?;
    alert.labels.insert("alertname".to_owned(), DRILL.to_owned());
    let mut answers = Vec::new();
    for replica in Replica::all(config)? {
        let body = compose([(&alert, now + DRILL_FOR)])?;
        answers.push((replica.name.clone(), replica.post(body).await));
    }
    Ok(answers)
}
