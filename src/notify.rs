//! Words and wire formats of messages, and sending them.
//!
//! `compose` turns notices into bytes and does nothing else; the outbox commits those bytes before `Sender::send` puts
//! them on a wire, so a message that is sent again is the same message. What a notice says is in `text` and `advice`,
//! how a mail looks in `letter`, the formats in `email`, `webhook` and `format`. Whether and when to send again is not decided
//! here: an attempt ends in `Accepted`, `Retry` or `GiveUp`.

pub mod advice;
pub mod alertmanager;
pub mod email;
pub mod format;
pub mod heartbeat;
pub mod letter;
pub mod own;
pub mod mime;
pub mod text;
pub mod webhook;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};

use self::email::smtp::Mailer;
use self::format::Phase;
use self::own::OwnKey;
use self::text::Topic;
use self::webhook::Hook;
use crate::alert::{AlertName, Status};
use crate::config::{Config, EmailConfig, Secret, SecretSource, WebhookConfig};
use crate::delivery::{Accepted, Integration, Notice, Parcel, SendError, Target};
use crate::time;

/// The digits of Crockford's base 32: no I, L, O and U, so an id can be read aloud.
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Who sends: shown in every message.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The version of this program.
    pub version: &'static str,
    /// The host name of this machine.
    pub instance: String,
    /// Where people reach this exporter.
    pub external_url: Option<String>,
    /// Signs the links by which somebody owns an alert; without it messages have none.
    pub own_key: Option<OwnKey>,
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
    /// A webhook.
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
        // It holds what fires and takes no messages.
        Integration::Alertmanager => None,
        // A name whose URL now takes another format is another channel.
        integration => receiver
            .webhook(&target.channel)
            .filter(|it| Integration::of(it) == integration)
            .map(Channel::Webhook),
    }
}

/// What a message is made of.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Its id, `msg_…`.
    pub id: &'a str,
    /// The receiver's name.
    pub receiver: &'a str,
    /// The mail address; empty for a webhook.
    pub recipient: &'a str,
    /// What keeps the notices together, in the notation of Alertmanager (`{}:{alertname="X"}`); empty if nothing does.
    pub group_key: &'a str,
    /// What it is about; several only where the channel carries a group.
    pub notices: &'a [Notice],
    /// Who sends it.
    pub origin: &'a Origin,
    /// When it is composed.
    pub now: DateTime<Utc>,
}

/// Notices with their topics, worst first.
pub type Sorted<'a> = [(&'a Notice, Topic)];

/// The message of `draft`: RFC 5322 bytes for mail, JSON for a webhook, as it is stored: a secret in it is a mark, which
/// the sender replaces. Mail and formats for people take any number of notices, the worst comes first; others take one.
///
/// # Errors
/// No notice or too many, a word in one that this version does not know, or an address that is not one.
pub fn compose(channel: Channel<'_>, draft: &Draft<'_>) -> anyhow::Result<Vec<u8>> {
    match channel {
        Channel::Email(config) => {
            let Draft { recipient, id, notices, origin, now, .. } = *draft;
            email::compose(config, recipient, id, notices, origin, now)
        }
        Channel::Webhook(config) => webhook::compose(config, draft, Phase::AsIs),
    }
}

/// The message that ends what a test of `draft` began; `None` where nothing stays open.
///
/// # Errors
/// As `compose`.
pub fn compose_end_of_test(
    channel: Channel<'_>,
    draft: &Draft<'_>,
) -> anyhow::Result<Option<Vec<u8>>> {
    match channel {
        Channel::Webhook(config) if config.format.opens_incidents() => {
            webhook::compose(config, draft, Phase::TestEnds).map(Some)
        }
        Channel::Email(_) | Channel::Webhook(_) => Ok(None),
    }
}

/// Tries every format file of the user's: each kind of message must come out of it.
///
/// # Errors
/// The first that does not, with file, line and key.
pub fn check_formats(config: &Config) -> anyhow::Result<()> {
    for (name, receiver) in &config.receivers {
        for (at, webhook) in receiver.webhooks.iter().enumerate() {
            if let Some(file) = webhook.format.file().filter(|it| it.path.is_some()) {
                format::check(file, webhook)
                    .with_context(|| format!("receiver {name}, webhook_configs[{at}]"))?;
            }
        }
    }
    Ok(())
}

/// The notices with their topics, worst first.
fn worst_first(notices: &[Notice]) -> anyhow::Result<Vec<(&Notice, Topic)>> {
    let mut sorted = Vec::with_capacity(notices.len());
    for notice in notices {
        sorted.push((notice, Topic::of(notice)?));
    }
    sorted.sort_by_key(|(notice, topic)| {
        let expires_at = notice.credential.as_ref().and_then(|it| it.expires_at);
        let resolved = topic.reason.status() == Status::Resolved;
        let mildness = std::cmp::Reverse(topic.severity);
        (resolved, mildness, expires_at.unwrap_or(DateTime::<Utc>::MAX_UTC), &notice.platform)
    });
    Ok(sorted)
}

/// A new message id: `msg_` and 26 characters, 48 bits of `now` in milliseconds and 80 random ones, so ids sort by time.
pub fn new_id(now: DateTime<Utc>) -> String {
    id("msg_", now, fastrand::u128(..))
}

/// A new id of a silence: `sil_` and 26 characters, as of a message.
pub fn new_silence_id(now: DateTime<Utc>) -> String {
    id("sil_", now, fastrand::u128(..))
}

/// An id of `now` in milliseconds and the last 80 bits of `random`.
fn id(prefix: &str, now: DateTime<Utc>, random: u128) -> String {
    let ms = u128::from(time::to_ms(now).unsigned_abs()) & 0xFFFF_FFFF_FFFF;
    let bits = ms << 80 | random & ((1 << 80) - 1);
    let digits = (0..26).rev().map(|at| {
        let digit = usize::try_from(bits >> (at * 5) & 31).expect("5 bits fit");
        char::from(BASE32[digit])
    });
    prefix.chars().chain(digits).collect()
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
    /// A certificate, a proxy URL or a template of a channel cannot be used.
    pub fn new(config: Arc<Config>) -> anyhow::Result<Self> {
        check_formats(&config)?;
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
        if parcel.body.is_empty() {
            let why = format!("the message to {target} could not be composed, the log says why");
            return Err(SendError::GiveUp { why: text::cut(&why, 256) });
        }
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
