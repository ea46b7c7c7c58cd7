//! What is owed to whom, and what becomes of an attempt. Pure.
//!
//! An `Event` and the receivers of its credential give `Owed` rows, which the store writes in the transaction that
//! writes the alert's state. The outbox composes owed notices into a `Parcel` (rendered bytes and a stable id), commits
//! it, and only then sends it.

mod digest;
mod label;
mod mask;
mod notice;
mod quiet;
mod wish;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::digest::Digest;
pub use self::label::{Labelled, fingerprint, hash, labels, labels_of};
pub use self::mask::{masked, masked_recipient};
pub use self::notice::{
    Origin, Standing, Subject, carries, digest_readers, ended, fallback, notice, owed, slot,
    standing, targets, ways,
};
pub use self::quiet::{Silence, SilenceState, Telling, telling};
pub use self::wish::{
    COMMENT_BYTES_MAX, CREATED_BY_BYTES_MAX, SilenceWish, read_end, read_matchers,
};
use crate::alert::Status;
use crate::config::WebhookConfig;
use crate::time;

/// Waits between attempts; after the last one its length again and again.
const RETRY_WAITS: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
];

/// The longest that a server may ask us to wait; beyond it we ask again all the same. No other wait between attempts is
/// longer.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// How long a message is tried. A channel that is dead for a long weekend still delivers; after a week the alert has
/// been repeated many times by newer messages.
const TRIED_FOR_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A way to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Integration {
    /// Mail.
    Email,
    /// A webhook for programs: our payload, CloudEvents, Alertmanager's payload, or a template.
    Webhook,
    /// The API of an Alertmanager. It is told what fires, again and again, so nothing is owed to it and it is no target.
    Alertmanager,
    /// The Events API v2 of `PagerDuty`.
    Pagerduty,
    /// Slack.
    Slack,
    /// Microsoft Teams.
    Teams,
    /// Discord.
    Discord,
    /// ntfy.
    Ntfy,
    /// Jira Service Management, or Opsgenie.
    Jsm,
}

impl Integration {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Email,
        Self::Webhook,
        Self::Alertmanager,
        Self::Pagerduty,
        Self::Slack,
        Self::Teams,
        Self::Discord,
        Self::Ntfy,
        Self::Jsm,
    ];

    /// The integration of a webhook, by its format.
    pub fn of(webhook: &WebhookConfig) -> Self {
        match webhook.format.name() {
            "pagerduty" => Self::Pagerduty,
            "slack" => Self::Slack,
            "teams" => Self::Teams,
            "discord" => Self::Discord,
            "ntfy" => Self::Ntfy,
            "jsm" => Self::Jsm,
            // The payload of Alertmanager goes to a webhook, not to Alertmanager.
            _ => Self::Webhook,
        }
    }

    /// The label value: `email`, `webhook`, `slack`, …
    pub fn label(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::Alertmanager => "alertmanager",
            Self::Pagerduty => "pagerduty",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Discord => "discord",
            Self::Ntfy => "ntfy",
            Self::Jsm => "jsm",
        }
    }

    /// Whether it takes messages that are owed, counted and given up one by one.
    pub fn has_messages(self) -> bool {
        self != Self::Alertmanager
    }

    /// The integration of a label value.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.label() == label)
    }
}

/// Where a notice goes: one channel of a receiver, and for mail one recipient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// The kind of channel.
    pub integration: Integration,
    /// Which of the receiver's channels of that kind: its name, which stays the same when the file is reordered.
    pub channel: Arc<str>,
    /// The mail address; empty for a webhook.
    pub recipient: String,
}

impl fmt::Display for Target {
    /// For logs: the recipient's local part is masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}[{}]", self.receiver, self.integration.label(), self.channel)?;
        match masked_recipient(&self.recipient).as_str() {
            "" => Ok(()),
            recipient => write!(f, " {recipient}"),
        }
    }
}

/// One channel of one receiver, by their names: what is served alone, so that one that hangs holds up no other.
pub type Lane = (Arc<str>, Integration, Arc<str>);

impl Target {
    /// Its channel.
    pub fn lane(&self) -> Lane {
        (self.receiver.clone(), self.integration, self.channel.clone())
    }
}

/// Why something that is owed is not told now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hush {
    /// Somebody asked for it.
    Silenced,
    /// The route tells nobody at this time.
    Muted,
}

impl Hush {
    /// All reasons.
    pub const ALL: [Self; 2] = [Self::Silenced, Self::Muted];

    /// The word of the store and of metrics: `silenced`, `muted`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Silenced => "silenced",
            Self::Muted => "muted",
        }
    }
}

/// Everything that a message about one event can say; kept as JSON in the store, so fields are only ever added.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// `ECECredentialExpiring`, …
    pub alert: String,
    /// `new`, `escalated`, `repeat`, `renewed`, `recovered`, `removed`, `test`.
    pub reason: String,
    /// `info`, `warning`, `critical`.
    pub severity: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Since when the alert fires.
    pub starts_at: DateTime<Utc>,
    /// How many times repeated.
    pub repeat: u32,
    /// Which life of the credential.
    pub generation: u32,
    /// The step's threshold in seconds.
    pub step_seconds: Option<u64>,
    /// The expiry before a renewal.
    pub previous_expiry: Option<DateTime<Utc>>,
    /// The platform's name.
    pub platform: String,
    /// The platform's first URL.
    pub platform_url: String,
    /// What kind of platform it is, `ece` or `ech`; empty in rows of before there were two.
    pub flavor: String,
    /// The file with the authorities that ECE's certificate is checked against, if not the system's.
    pub ca_file: Option<String>,
    /// The credential; `None` for an alert about the platform.
    pub credential: Option<NoticeCredential>,
    /// When the next reminder comes if nothing changes.
    pub next_repeat: Option<DateTime<Utc>>,
    /// The last probe of the credential, or for a platform of the credential that decided.
    pub probe: NoticeProbe,
    /// This machine's clock minus the platform's, in seconds; for `ECEPlatformClockSkew`.
    pub clock_skew_seconds: Option<i64>,
    /// Who should have been told and could not be; whoever reads this is told instead.
    pub undelivered: Option<Undelivered>,
    /// For a digest, what it says; the rest of the notice is empty then.
    pub digest: Option<Box<Digest>>,
}

/// A message that could not be delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Undelivered {
    /// Where it should have gone, as a `Target` displays.
    pub target: String,
    /// Why it did not arrive.
    pub why: String,
}

/// The credential of a notice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoticeCredential {
    /// Its name.
    pub name: String,
    /// What it is: `api_key`, `bearer_token`, `login`, `license`, `certificate`, `inventory`, `deployments`, or
    /// the label of an `ItemKind`.
    pub kind: String,
    /// The key's id, if known.
    pub key_id: Option<String>,
    /// The owning team.
    pub team: Option<String>,
    /// What breaks.
    pub used_by: Vec<String>,
    /// Where the new secret goes.
    pub renewal_note: Option<String>,
    /// Where this program reads its secret, as a `SecretSource` displays; `None` where it has none of its own.
    pub secret_source: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// `dated`, `never`, `undated` (ECE tells no expiry of its kind), `not_reported`, `unparsable`, `unknown`.
    pub expiry_state: String,
    /// The expiry, if dated.
    pub expires_at: Option<DateTime<Utc>>,
    /// When ECE last confirmed it.
    pub observed_at: Option<DateTime<Utc>>,
    /// The user that owns a listed key.
    pub user: Option<String>,
    /// The name that its owner gave a listed key.
    pub description: Option<String>,
    /// What people call the deployment that a listed key, certificate or license is in.
    pub place: Option<String>,
    /// When a listed key was made.
    pub created_at: Option<DateTime<Utc>>,
}

/// The probe of a notice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoticeProbe {
    /// Whether the last probe told the expiry.
    pub success: bool,
    /// When the last probe finished.
    pub last_run_at: Option<DateTime<Utc>>,
    /// When the last successful probe finished.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Its status code.
    pub http_status: Option<u16>,
    /// The failure's label.
    pub failure_reason: Option<String>,
    /// The failure's sentence.
    pub error: Option<String>,
}

/// An obligation to tell a fact, before it is composed into messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Owed {
    /// Unique with the target: subject, alert, reason and instant. The ledger refuses a second one.
    pub key: String,
    /// The alert's thread, the subject with its slot: a later notice to the same target takes the place of one that
    /// waits.
    pub thread: String,
    /// Whether it opens or ends.
    pub status: Status,
    /// What it says.
    pub notice: Notice,
    /// Who is told. Empty for an end: it is owed to those who were told of what it ends, whatever the configuration
    /// says by then, and the ledger knows them.
    pub to: Vec<Addressed>,
}

/// A target, and how what it is told waits for company or for the end of a quiet time.
#[derive(Debug, Clone, PartialEq)]
pub struct Addressed {
    /// Where it goes.
    pub target: Target,
    /// With what it may share a message.
    pub grouping: Grouping,
    /// The names of the windows in which the route tells nobody.
    pub mutes: Vec<Arc<str>>,
}

/// With what a notice shares a message, and how long it waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grouping {
    /// Notices of one key to one target share a message.
    pub key: String,
    /// How long the first of them waits for others.
    pub wait: Duration,
    /// How soon after a message of the group the next may follow.
    pub interval: Duration,
}

/// A composed message: what is sent, and sent again, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// `msg_` and 26 characters; the same over retries, restarts and upgrades.
    pub id: String,
    /// Where it goes.
    pub target: Target,
    /// RFC 5322 bytes for mail, JSON for a webhook.
    pub body: Vec<u8>,
    /// Attempts made, the one under way included; 0 when it is composed.
    pub attempts: u32,
    /// When it was composed.
    pub created_at: DateTime<Utc>,
    /// The key of the group that shares it; empty if it stands alone.
    pub group: String,
}

/// What the server answered to a delivered message, e.g. `250 2.0.0 Ok: queued as 4F2` or `HTTP 204`; at most 256
/// characters, never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted(pub String);

/// Why an attempt did not deliver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Try again, not before `after` if the server asked for it.
    #[error("{why}")]
    Retry {
        /// What happened, for a person; at most 256 characters, never a secret.
        why: String,
        /// What the server asked for (`Retry-After`), not yet capped.
        after: Option<Duration>,
    },
    /// Trying again cannot help.
    #[error("{why}")]
    GiveUp {
        /// What happened and what to do.
        why: String,
    },
    /// The receiver says that it is gone for good, so no other message will help either.
    #[error("{why}")]
    Gone {
        /// What happened and what to do.
        why: String,
    },
}

/// When to try again, or that it is time to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before this.
    At(DateTime<Utc>),
    /// The message is too old.
    GiveUp,
}

/// Decides what follows the failed attempt number `attempts` (from 1) at a message composed at `created_at`. `asked` is
/// the server's `Retry-After`; `jitter` from 0 to 1 spreads the wait by a fifth either way.
pub fn retry(
    attempts: u32,
    asked: Option<Duration>,
    created_at: DateTime<Utc>,
    jitter: f64,
    now: DateTime<Utc>,
) -> Retry {
    // A program that was off for a week still tries more than once.
    if time::add(created_at, TRIED_FOR_MAX) <= now && RETRY_WAITS.len() <= attempts as usize {
        return Retry::GiveUp;
    }
    let index = (attempts.max(1) as usize - 1).min(RETRY_WAITS.len() - 1);
    let wait = RETRY_WAITS[index].mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
    let at = time::add(now, wait.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX)));
    // To the millisecond, as the store keeps it: what is due there is due here.
    Retry::At(time::from_ms(time::to_ms(at)))
}
