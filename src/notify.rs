//! Words and wire formats of messages, and sending them.
//!
//! `compose` turns notices into bytes and does nothing else; the outbox commits those bytes before `Sender::send` puts
//! them on a wire, so a message that is sent again is the same message. What a notice says is in `text` and `advice`,
//! how a mail looks in `letter`, the formats in `email` and `webhook`. Whether and when to send again is not decided
//! here: an attempt ends in `Accepted`, `Retry` or `GiveUp`.

pub mod advice;
pub mod email;
pub mod letter;
pub mod text;
pub mod webhook;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};

use self::email::smtp::Mailer;
use self::webhook::Hook;
use crate::alert::AlertName;
use crate::config::{Config, EmailConfig, Secret, SecretSource, WebhookConfig};
use crate::delivery::{Accepted, Integration, Notice, Parcel, SendError, Target};
use crate::time;

/// The digits of Crockford's base 32: no I, L, O and U, so an id can be read aloud.
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Who sends: shown in every message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The version of this program.
    pub version: &'static str,
    /// The host name of this machine.
    pub instance: String,
    /// Where people reach this exporter.
    pub external_url: Option<String>,
}

impl Origin {
    /// Where this exporter shows `page`; `None` if the configuration does not say how people reach it.
    pub fn link(&self, page: &str) -> Option<String> {
        let url = self.external_url.as_deref()?;
        Some(format!("{}/{page}", url.trim_end_matches('/')))
    }

    /// Where this exporter serves the runbook of an alert.
    pub fn runbook_url(&self, alert: AlertName) -> Option<String> {
        self.link(&format!("runbooks/{}", alert.label()))
    }
}

/// A channel of a receiver.
#[derive(Debug, Clone, Copy)]
pub enum Channel<'a> {
    /// Mail.
    Email(&'a EmailConfig),
    /// The generic webhook.
    Webhook(&'a WebhookConfig),
}

/// The channel of `target` in `config`; `None` if the configuration has it no more, or no longer has the recipient.
pub fn channel<'a>(config: &'a Config, target: &Target) -> Option<Channel<'a>> {
    let receiver = config.receivers.get(&target.receiver)?;
    match target.integration {
        Integration::Email => {
            let email = receiver.email(&target.channel)?;
            let wanted = bare_address(&target.recipient);
            let known = email.to.iter().any(|it| bare_address(it).eq_ignore_ascii_case(wanted));
            known.then_some(Channel::Email(email))
        }
        Integration::Webhook => receiver.webhook(&target.channel).map(Channel::Webhook),
    }
}

/// The message about `notices`: RFC 5322 bytes for mail (any number of notices, the worst comes first), JSON for a
/// webhook (one notice). `id` becomes its identity.
///
/// # Errors
/// No notice or too many, a word in one that this version does not know, or an address that is not one.
pub fn compose(
    channel: Channel<'_>,
    recipient: &str,
    id: &str,
    notices: &[Notice],
    origin: &Origin,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<u8>> {
    match (channel, notices) {
        (Channel::Email(config), _) => email::compose(config, recipient, id, notices, origin, now),
        (Channel::Webhook(_), [notice]) => webhook::payload::compose(id, notice, origin, now),
        (Channel::Webhook(_), _) => {
            bail!("a webhook carries one notice, not {}", notices.len())
        }
    }
}

/// A new message id: `msg_` and 26 characters, 48 bits of `now` in milliseconds and 80 random ones, so ids sort by time.
#[expect(clippy::missing_panics_doc, reason = "5 bits fit")]
pub fn new_id(now: DateTime<Utc>) -> String {
    let ms = u128::from(time::to_ms(now).unsigned_abs()) & 0xFFFF_FFFF_FFFF;
    let random = fastrand::u128(..) & ((1 << 80) - 1);
    let bits = ms << 80 | random;
    let digits = (0..26).rev().map(|at| {
        let digit = usize::try_from(bits >> (at * 5) & 31).expect("5 bits fit");
        char::from(BASE32[digit])
    });
    "msg_".chars().chain(digits).collect()
}

/// Sends parcels; built anew for each configuration. Shared by all workers.
pub struct Sender {
    config: Arc<Config>,
    /// By the names of receiver and channel.
    mailers: HashMap<(Arc<str>, Arc<str>), Mailer>,
    hooks: HashMap<(Arc<str>, Arc<str>), Hook>,
}

impl Sender {
    /// Prepares every channel of `config`: reads certificates and builds the HTTP clients, once.
    ///
    /// # Errors
    /// A certificate or a proxy URL of a channel cannot be used.
    pub fn new(config: Arc<Config>) -> anyhow::Result<Self> {
        let (mut mailers, mut hooks) = (HashMap::new(), HashMap::new());
        for (name, receiver) in &config.receivers {
            for (at, email) in receiver.emails.iter().enumerate() {
                let mailer = Mailer::new(email)
                    .with_context(|| format!("receiver {name}, email_configs[{at}]"))?;
                mailers.insert((Arc::clone(name), Arc::clone(&email.name)), mailer);
            }
            for (at, webhook) in receiver.webhooks.iter().enumerate() {
                let hook = Hook::new(webhook)
                    .with_context(|| format!("receiver {name}, webhook_configs[{at}]"))?;
                hooks.insert((Arc::clone(name), Arc::clone(&webhook.name)), hook);
            }
        }
        Ok(Self { config, mailers, hooks })
    }

    /// Makes one attempt, which ends by the deadline of the channel.
    ///
    /// # Errors
    /// Not delivered, and whether trying again can help.
    pub async fn send(&self, parcel: &Parcel) -> Result<Accepted, SendError> {
        let target = &parcel.target;
        let gone = || SendError::GiveUp {
            why: text::cut(
                &format!("{target} is no longer configured, so nobody is told through it"),
                256,
            ),
        };
        let receiver = Arc::clone(&target.receiver);
        let (timeout, server) = match channel(&self.config, target).ok_or_else(gone)? {
            Channel::Email(email) => {
                let mailer = self.mailers.get(&(receiver, Arc::clone(&email.name)));
                let mailer = mailer.ok_or_else(gone)?;
                let sending = mailer.send(&target.recipient, &parcel.body);
                match tokio::time::timeout(mailer.timeout(), sending).await {
                    Ok(outcome) => return outcome,
                    Err(_) => (mailer.timeout(), mailer.server()),
                }
            }
            Channel::Webhook(webhook) => {
                let hook = self.hooks.get(&(receiver, Arc::clone(&webhook.name)));
                let hook = hook.ok_or_else(gone)?;
                let sending = hook.send(&parcel.id, &parcel.body);
                match tokio::time::timeout(hook.timeout(), sending).await {
                    Ok(outcome) => return outcome,
                    Err(_) => (hook.timeout(), "the webhook".to_owned()),
                }
            }
        };
        Err(SendError::Retry {
            why: text::cut(
                &format!(
                    "{server} did not finish within {timeout:?}; if it is only slow, raise timeout"
                ),
                256,
            ),
            after: None,
        })
    }
}

/// Reads a secret without holding up other work; a file may sit on a slow disk.
async fn read_secret(source: &SecretSource) -> Result<Secret, SendError> {
    let from = source.clone();
    let why = match tokio::task::spawn_blocking(move || from.read()).await {
        Ok(Ok(secret)) => return Ok(secret),
        Ok(Err(error)) => format!("{:#}", anyhow::Error::new(error)),
        Err(_) => format!("cannot read {source}"),
    };
    Err(SendError::Retry { why: text::cut(&why, 256), after: None })
}

/// The address in `Name <address>`.
fn bare_address(text: &str) -> &str {
    text.rsplit_once('<').map_or(text, |(_, it)| it).trim_end_matches('>').trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_26_readable_digits_and_sort_by_time() {
        let at = |ms| new_id(time::from_ms(ms));
        let (first, second) = (at(1_795_300_000_000), at(1_795_300_000_001));
        assert!(first < second, "{first} {second}");
        assert_ne!(first, at(1_795_300_000_000));
        let digits = first.strip_prefix("msg_").unwrap();
        assert_eq!(digits.len(), 26);
        assert!(digits.bytes().all(|it| BASE32.contains(&it)), "{digits}");
        assert!(at(0).starts_with("msg_0000000000"));
    }
}
