//! Calls a dead man's switch: one GET, under the guard of the webhooks. When it is called is not decided here.

use reqwest::Client;

use super::text::cut;
use super::wire::{
    authorize, client, exchange, extra_headers, open_url, speaks_plain_http, url_secrets,
};
use crate::config::{AnswerRule, Heartbeat};
use crate::delivery::{Accepted, SendError};

/// The switch of a configuration, ready to be called.
pub struct Switch {
    config: Heartbeat,
    client: Client,
}

impl Switch {
    /// Prepares the calls: one HTTP client with its TLS settings.
    ///
    /// # Errors
    /// A certificate or the proxy URL cannot be used.
    pub fn new(config: &Heartbeat) -> anyhow::Result<Self> {
        let plain = speaks_plain_http(&config.url);
        let proxy_url = config.http.proxy_url.as_deref();
        let client = client(&config.http.tls, proxy_url, config.timeout, plain)?;
        Ok(Self { config: config.clone(), client })
    }

    /// Calls it once, which ends by the deadline.
    ///
    /// # Errors
    /// Every answer but 2xx, and no answer.
    pub async fn call(&self) -> Result<Accepted, SendError> {
        let calling = async {
            let (secret, url) = open_url(&self.config.url, self.config.allow_http).await?;
            let host = url.host_str().unwrap_or_default().to_owned();
            let mut secrets = url_secrets(&secret, &url);
            let http = &self.config.http;
            let mut headers = extra_headers(&http.http_headers)?;
            authorize(http.authorization.as_ref(), &mut headers, &mut secrets).await?;
            let request = self.client.get(url).headers(headers);
            exchange(request, &host, &secrets, &AnswerRule::default()).await
        };
        tokio::time::timeout(self.config.timeout, calling).await.unwrap_or_else(|_| {
            let why = format!("it did not finish within {:?}", self.config.timeout);
            Err(SendError::Retry { why: cut(&why, 256), after: None })
        })
    }
}
