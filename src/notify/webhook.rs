//! Webhooks: one signed POST for each message. Payloads are in `payload`, `alertmanager` and `notify::format`, what
//! answers mean is in `answer`, and the request itself is in `notify::wire`.

pub mod alertmanager;
pub mod answer;
pub mod payload;

use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Url};

use super::format::{self, Phase, stored};
use super::wire::{
    allow, authorize, client, exchange, extra_headers, retry, speaks_plain_http, url_secrets,
};
use super::{Draft, read_secret, worst_first};
use crate::config::{AnswerRule, Carries, Secret, WebhookConfig, WebhookFormat};
use crate::delivery::{Accepted, SendError};
use crate::time;

/// The message of `draft` in the format of the channel, as it is stored.
///
/// # Errors
/// No notice, or several for a format that carries one; a word in one that this version does not know; a template that
/// fails.
pub fn compose(config: &WebhookConfig, draft: &Draft<'_>, phase: Phase) -> anyhow::Result<Vec<u8>> {
    let sorted = worst_first(draft.notices)?;
    let (format, count) = (&config.format, sorted.len());
    let (first, _) = *sorted.first().context("a message needs at least one notice")?;
    if format.carries() == Carries::Alert && count != 1 {
        bail!("a message in the format {} carries one notice, not {count}", format.name());
    }
    let Draft { id, origin, now, .. } = *draft;
    match format {
        WebhookFormat::Generic => payload::compose(id, first, origin, now),
        WebhookFormat::CloudEvents => payload::cloudevent(id, first, origin, now),
        WebhookFormat::Alertmanager => {
            alertmanager::compose(draft, &sorted, config.max_alerts, phase)
        }
        WebhookFormat::File(file) => format::compose(file, config, draft, &sorted, phase),
    }
}

/// A webhook channel, ready to send.
pub struct Hook {
    config: WebhookConfig,
    client: Client,
    rule: AnswerRule,
}

/// Where a request goes.
struct Destination {
    url: Url,
    /// What of it must not appear in a message.
    secrets: Vec<String>,
}

impl Hook {
    /// Prepares the channel: one HTTP client with its TLS settings.
    ///
    /// # Errors
    /// A certificate or the proxy URL cannot be used.
    pub fn new(config: &WebhookConfig) -> anyhow::Result<Self> {
        let proxy_url = config.proxy_url.as_deref();
        let plain = config.url.as_ref().is_some_and(speaks_plain_http);
        let client = client(&config.tls, proxy_url, config.timeout, plain)?;
        let rule = config.format.file().map(|it| it.answer.clone()).unwrap_or_default();
        Ok(Self { config: config.clone(), client, rule })
    }

    /// The deadline of one attempt.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Posts the message that is stored as `message` under the stable `id`.
    ///
    /// # Errors
    /// `Retry` for the network, 408, 425, 429, 5xx, and an answer that is not the service's; `GiveUp` for every other
    /// answer but 2xx, and for one that refuses in words.
    pub async fn send(&self, id: &str, message: &[u8]) -> Result<Accepted, SendError> {
        let message = stored::open(message);
        let Destination { url, mut secrets } = self.destination(message.path).await?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let body = match &self.config.secret {
            Some(source) => {
                let secret = read_secret(source).await?;
                // As it is, and as it stands in the body.
                secrets.extend([secret.expose().to_owned(), stored::escaped(secret.expose())]);
                stored::reveal(message.body, secret.expose())
            }
            None => message.body.into(),
        };
        let mut headers = self.headers(id, &body, time::now()).await?;
        authorize(self.config.authorization.as_ref(), &mut headers, &mut secrets).await?;
        let request = self.client.post(url).headers(headers).body(body.into_owned());
        exchange(request, &host, &secrets, &self.rule).await
    }

    /// Reads the URL, appends `path`, and checks that it may be called.
    async fn destination(&self, path: Option<&str>) -> Result<Destination, SendError> {
        let format = &self.config.format;
        let (from, secret) = match (&self.config.url, format.file()) {
            (Some(source), _) => (source.to_string(), read_secret(source).await?),
            (None, Some(file)) => {
                let url = format::default_url(file, &self.config.params);
                let url = url.map_err(|error| retry(&format!("{error:#}")))?;
                (format!("the format {}", format.name()), Secret::new(url))
            }
            (None, None) => return Err(retry("the channel has no URL; set url_file")),
        };
        let url = Url::parse(secret.expose())
            .map_err(|error| retry(&format!("the URL in {from} is not one: {error}")))?;
        allow(&url, &from, self.config.allow_http)?;
        // What the program knows itself is no secret.
        let secrets = self.config.url.as_ref().map(|_| url_secrets(&secret, &url));
        let url = path.map_or_else(|| url.clone(), |it| with_path(url.clone(), it));
        Ok(Destination { url, secrets: secrets.unwrap_or_default() })
    }

    async fn headers(
        &self,
        id: &str,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<HeaderMap, SendError> {
        let mut headers = extra_headers(&self.config.http_headers)?;
        let timestamp = now.timestamp();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&self.config)));
        let id_value = HeaderValue::from_str(id)
            .map_err(|_| SendError::GiveUp { why: "the message id is not ASCII".to_owned() })?;
        headers.insert("webhook-id", id_value.clone());
        headers.insert("idempotency-key", id_value);
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
        let mut signatures = Vec::with_capacity(self.config.signing_secrets.len());
        for source in &self.config.signing_secrets {
            let secret = read_secret(source).await?;
            let signature =
                answer::sign(secret.expose(), id, timestamp, body).ok_or_else(|| {
                    retry(&format!("the signing secret in {source} is not whsec_ and base64"))
                })?;
            signatures.push(signature);
        }
        if !signatures.is_empty() {
            let value = HeaderValue::from_str(&signatures.join(" "))
                .expect("signatures are base64 and spaces");
            headers.insert("webhook-signature", value);
        }
        Ok(headers)
    }
}

fn content_type(config: &WebhookConfig) -> &'static str {
    match config.format {
        WebhookFormat::CloudEvents => "application/cloudevents+json",
        WebhookFormat::Generic | WebhookFormat::Alertmanager | WebhookFormat::File(_) => {
            "application/json"
        }
    }
}

/// `url` with `path` behind its own path; a query in `path` takes the place of its query. The host stays.
fn with_path(mut url: Url, path: &str) -> Url {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, it)| (path, Some(it)));
    let whole = format!("{}{path}", url.path().trim_end_matches('/'));
    url.set_path(&whole);
    if query.is_some() {
        url.set_query(query);
    }
    url
}
