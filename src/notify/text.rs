//! The words of a notice, for mail and webhook alike, and the identity of its alert. Pure.
//!
//! Every alert and reason has its sentence here and nowhere else. Names come from a configuration and sentences from
//! servers, so everything passes `plain` before it stands in a line.

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::{AlertName, Reason, Status};
use crate::config::{CredentialKind, ItemKind, Severity};
use crate::delivery::{Notice, NoticeCredential};

/// The most characters of a server's answer that are shown: enough for any real error, too little to flood a log.
pub const SHOWN_CHARS_MAX: usize = 256;
/// The most uses of one credential that a message lists; the rest is a number.
pub const USES_MAX: usize = 20;
/// The most characters of what a listed key is called, and of where it is, in a subject line.
const NAME_CHARS_MAX: usize = 60;
/// The most characters of who owns it there.
const USER_CHARS_MAX: usize = 40;
/// The most characters of one use or label in a message.
const PHRASE_CHARS_MAX: usize = 200;
/// The most characters of a renewal note in a message.
pub const NOTE_CHARS_MAX: usize = 1_000;
/// What a redacted text shows in the place of a secret; shorter needles would redact ordinary words.
const SECRET_CHARS_MIN: usize = 4;

/// Which alert, why now and how bad: the words of a notice, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Which alert.
    pub alert: AlertName,
    /// Why now.
    pub reason: Reason,
    /// How bad.
    pub severity: Severity,
}

impl Topic {
    /// The topic of a stored notice.
    ///
    /// # Errors
    /// A word is not known: the row was written by a newer version.
    pub fn of(notice: &Notice) -> anyhow::Result<Self> {
        let unknown = |what: &str, word: &str| {
            format!("the {what} {word:?} is unknown: was this row written by a newer version?")
        };
        Ok(Self {
            alert: AlertName::parse(&notice.alert)
                .with_context(|| unknown("alert", &notice.alert))?,
            reason: Reason::parse(&notice.reason)
                .with_context(|| unknown("reason", &notice.reason))?,
            severity: Severity::parse(&notice.severity)
                .with_context(|| unknown("severity", &notice.severity))?,
        })
    }

    /// The first word of a subject: the severity, `OK` for a good end, `INFO` for a removal, `TEST` for a drill.
    pub fn tag(self) -> &'static str {
        match (self.reason, self.severity) {
            (Reason::Test, _) => "TEST",
            (Reason::Renewed | Reason::Recovered, _) => "OK",
            (Reason::Removed, _) | (_, Severity::Info) => "INFO",
            (_, Severity::Warning) => "WARNING",
            (_, Severity::Critical) => "CRITICAL",
        }
    }

    /// Whether somebody has to act: it fires and is not a drill.
    pub fn needs_attention(self) -> bool {
        self.reason.status() == Status::Firing && self.reason != Reason::Test
    }
}

/// What a notice about a credential is about: what it is called, and how it is renewed, depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing<'a> {
    /// A credential in the narrow sense: somebody authenticates with it.
    Credential(Kind),
    /// The license of the platform.
    License,
    /// A certificate of the platform: of `endpoint`, or of this service.
    Certificate(&'a str),
    /// A key that ECE lists and whose secret is not held, or what expires inside a deployment.
    Listed(ItemKind),
    /// The list of keys.
    List,
    /// The list of what expires inside the deployments.
    Deployments,
}

impl<'a> Thing<'a> {
    /// What `credential` is.
    pub fn of(credential: &'a NoticeCredential) -> Self {
        match credential.kind.as_str() {
            CredentialKind::LICENSE => Self::License,
            CredentialKind::CERTIFICATE => {
                let name = credential.name.as_str();
                Self::Certificate(name.strip_prefix("certificate-").unwrap_or(name))
            }
            CredentialKind::INVENTORY => Self::List,
            CredentialKind::DEPLOYMENTS => Self::Deployments,
            CredentialKind::BEARER_TOKEN => Self::Credential(Kind::Token),
            CredentialKind::LOGIN => Self::Credential(Kind::Login),
            kind => ItemKind::parse(kind).map_or(Self::Credential(Kind::Key), Self::Listed),
        }
    }

    /// Whether somebody authenticates with it.
    pub fn is_credential(self) -> bool {
        matches!(self, Self::Credential(_))
    }

    /// Whether it stands in a list, and so may have the name of something that is configured.
    pub fn is_listed(self) -> bool {
        matches!(self, Self::Listed(_))
    }

    /// `license`, `certificate of ui`; nothing for what is called by its name.
    pub fn noun(self) -> Option<String> {
        match self {
            Self::Credential(_) | Self::Listed(_) => None,
            Self::List => Some("list of keys".to_owned()),
            Self::Deployments => Some("list of deployments".to_owned()),
            Self::License => Some("license".to_owned()),
            Self::Certificate("endpoint") => Some("certificate of the endpoint".to_owned()),
            Self::Certificate(service) => Some(format!("certificate of {}", plain(service))),
        }
    }
}

/// What somebody authenticates with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An API key.
    Key,
    /// A bearer token.
    Token,
    /// A user's name and password.
    Login,
}

impl Kind {
    /// What is renewed: `key`, `token`, `password`.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
            Self::Login => "password",
        }
    }
}

/// What is said about the subject, without its name: `expires in 6 days (2026-11-30)`. Fits a subject line.
pub fn predicate(notice: &Notice, topic: Topic, now: DateTime<Utc>) -> String {
    let expires_at = notice.credential.as_ref().and_then(|it| it.expires_at);
    match topic.reason {
        Reason::Test => "is used for a test message, there is nothing to do".to_owned(),
        Reason::Renewed => match expires_at {
            Some(at) => format!("RENEWED until {}", date(at)),
            None => "RENEWED, it does not expire any more".to_owned(),
        },
        Reason::Removed => match thing(notice) {
            Some(Thing::Listed(_)) => "is NO LONGER WATCHED by its list".to_owned(),
            _ => "REMOVED from the configuration, it is no longer watched".to_owned(),
        },
        Reason::Recovered => recovered(topic.alert, borrows(notice), expires_at),
        Reason::New | Reason::Escalated | Reason::Repeat => firing(notice, topic, expires_at, now),
    }
}

fn thing(notice: &Notice) -> Option<Thing<'_>> {
    notice.credential.as_ref().map(Thing::of)
}

/// Whether the subject is read with somebody else's key, so that a 403 is not its own.
fn borrows(notice: &Notice) -> bool {
    notice.credential.as_ref().is_some_and(|it| !Thing::of(it).is_credential())
}

fn recovered(alert: AlertName, borrows: bool, expires_at: Option<DateTime<Utc>>) -> String {
    let until = expires_at.map(|at| format!(", it expires {}", date(at))).unwrap_or_default();
    match alert {
        AlertName::CredentialExpiring | AlertName::CredentialExpired => {
            format!("RECOVERED, it no longer needs renewal{until}")
        }
        AlertName::CredentialRejected => format!("RECOVERED, ECE accepts it again{until}"),
        AlertName::CredentialForbidden if borrows => {
            format!("RECOVERED, it can be read again{until}")
        }
        AlertName::CredentialForbidden => format!("RECOVERED, it has its rights again{until}"),
        AlertName::CredentialExpiryUnknown => {
            format!("RECOVERED, it can be checked again{until}")
        }
        AlertName::CredentialNeverExpires => format!("RECOVERED, it now has an expiry{until}"),
        AlertName::ApiKeyCreated | AlertName::ApiKeyDeleted | AlertName::ApiKeyLongLived => {
            "needs nothing more".to_owned()
        }
        AlertName::PlatformUnreachable => "RECOVERED, it answers again".to_owned(),
        AlertName::PlatformClockSkew => "RECOVERED, the clocks agree again".to_owned(),
    }
}

fn firing(
    notice: &Notice,
    topic: Topic,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> String {
    match topic.alert {
        AlertName::CredentialExpiring | AlertName::CredentialExpired => match expires_at {
            Some(at) if at <= now => format!("EXPIRED {} ago ({})", rough(now - at), date(at)),
            Some(at) => format!("expires in {} ({})", rough(at - now), date(at)),
            None => "is about to expire".to_owned(),
        },
        // 404 is what ECE says of a key whose owner was deleted.
        AlertName::CredentialRejected => match notice.probe.http_status {
            Some(404) => "REJECTED (404, its owner was deleted)".to_owned(),
            _ => "REJECTED (401)".to_owned(),
        },
        AlertName::CredentialForbidden if borrows(notice) => "CANNOT BE READ (403)".to_owned(),
        AlertName::CredentialForbidden => "FORBIDDEN (403)".to_owned(),
        AlertName::CredentialExpiryUnknown => match expires_at {
            // Blind, not ignorant: the last known expiry goes on counting.
            Some(at) => format!("CANNOT BE CHECKED (last known expiry {})", date(at)),
            None if notice
                .credential
                .as_ref()
                .is_some_and(|it| CredentialKind::WITHOUT_EXPIRY.contains(&it.kind.as_str())) =>
            {
                "CANNOT BE CHECKED".to_owned()
            }
            None => "has an UNKNOWN expiry".to_owned(),
        },
        AlertName::CredentialNeverExpires => "NEVER EXPIRES".to_owned(),
        AlertName::ApiKeyCreated => "is NEW".to_owned(),
        AlertName::ApiKeyDeleted => {
            let until = expires_at.map(|at| format!(", it would have lived until {}", date(at)));
            format!("is GONE{}", until.unwrap_or_default())
        }
        AlertName::ApiKeyLongLived => match expires_at {
            Some(at) => format!("lives TOO LONG, until {}", date(at)),
            None => "lives TOO LONG, it never expires".to_owned(),
        },
        AlertName::PlatformUnreachable => "is UNREACHABLE".to_owned(),
        AlertName::PlatformClockSkew => match notice.clock_skew_seconds {
            Some(skew) if 0 <= skew => {
                format!("has a clock {} behind ours", rough(TimeDelta::seconds(skew)))
            }
            Some(skew) => format!(
                "has a clock {} ahead of ours",
                rough(TimeDelta::seconds(skew.saturating_neg()))
            ),
            None => "has a WRONG CLOCK".to_owned(),
        },
    }
}

/// The name as it stands in a subject: the credential's, or `platform`.
pub fn short_name(notice: &Notice) -> String {
    notice.credential.as_ref().map_or_else(|| "platform".to_owned(), called)
}

/// What people call it: its name, or for a listed key what its owner calls it, and who that is, or where it is.
pub fn called(credential: &NoticeCredential) -> String {
    let Thing::Listed(kind) = Thing::of(credential) else { return plain(&credential.name) };
    let name = credential.description.as_deref().unwrap_or(&credential.name);
    let name = cut(&plain(name), NAME_CHARS_MAX);
    let place = cut(&plain(credential.place.as_deref().unwrap_or_default()), NAME_CHARS_MAX);
    let user = credential.user.as_deref().map(|it| cut(&plain(it), USER_CHARS_MAX));
    match (kind, user) {
        (ItemKind::ApiKey, Some(user)) => format!("key \"{name}\" of {user}"),
        (ItemKind::ApiKey, None) => format!("key \"{name}\""),
        (ItemKind::ElasticsearchApiKey, Some(user)) => {
            format!("Elasticsearch API key \"{name}\" of deployment {place} (user {user})")
        }
        (ItemKind::ElasticsearchApiKey, None) => {
            format!("Elasticsearch API key \"{name}\" of deployment {place}")
        }
        (ItemKind::ElasticsearchCertificate, _) => {
            format!("certificate \"{name}\" of deployment {place}")
        }
        (ItemKind::ElasticsearchLicense, _) => format!("license of deployment {place}"),
    }
}

/// One sentence with the full name; at most 256 characters.
pub fn summary(notice: &Notice, topic: Topic, now: DateTime<Utc>) -> String {
    let platform = plain(&notice.platform);
    let predicate = predicate(notice, topic, now);
    let text = match &notice.credential {
        Some(credential) => {
            let what = Thing::of(credential).noun();
            let what = what.unwrap_or_else(|| match Thing::of(credential) {
                Thing::Listed(_) => called(credential),
                _ => format!("credential {}", called(credential)),
            });
            format!("ECE {what} on {platform} {predicate}.")
        }
        None => format!("ECE platform {platform} {predicate}."),
    };
    cut(&text, SHOWN_CHARS_MAX)
}

/// A few sentences: expiry, owner, uses, freshness and failure. Below 4,096 characters.
pub fn description(notice: &Notice, topic: Topic, now: DateTime<Utc>) -> String {
    let mut sentences = vec![summary(notice, topic, now)];
    if let Some(credential) = &notice.credential {
        sentences.extend(credential.team.as_deref().map(|it| format!("Team: {}.", phrase(it))));
        sentences.extend(credential.expires_at.map(|it| format!("Expiry: {}.", instant(it))));
        let before = notice.previous_expiry;
        sentences.extend(before.map(|it| format!("Expiry before: {}.", instant(it))));
        let uses = uses(credential);
        sentences.extend(uses.map(|it| format!("Used by: {}.", cut(&it, NOTE_CHARS_MAX))));
        sentences.push(format!("Last confirmed: {}.", freshness(notice, now)));
    }
    sentences.extend(problem(notice).map(|it| format!("Last probe: {it}.")));
    sentences.join(" ")
}

/// What breaks, as one line.
pub fn uses(credential: &NoticeCredential) -> Option<String> {
    if credential.used_by.is_empty() {
        return None;
    }
    let mut uses: Vec<_> = credential.used_by.iter().take(USES_MAX).map(|it| phrase(it)).collect();
    let more = credential.used_by.len().saturating_sub(USES_MAX);
    if 0 < more {
        uses.push(format!("{more} more"));
    }
    Some(uses.join(", "))
}

/// Whether what is said about the expiry can be relied on: when ECE last did, or `NOT confirmed since …`.
pub fn freshness(notice: &Notice, now: DateTime<Utc>) -> String {
    let observed_at = notice.credential.as_ref().and_then(|it| it.observed_at);
    match (notice.probe.success, observed_at) {
        (true, Some(at)) => {
            let status = notice.probe.http_status;
            let answer = status.map(|it| format!(" (ECE answered {it})")).unwrap_or_default();
            format!("{}, {} ago{answer}", instant(at), span(now - at))
        }
        (false, Some(at)) => {
            format!("NOT confirmed since {}, {} ago", instant(at), span(now - at))
        }
        (_, None) => "NEVER confirmed by ECE".to_owned(),
    }
}

/// The failure of the last probe: its label and its sentence.
pub fn problem(notice: &Notice) -> Option<String> {
    if notice.probe.success {
        return None;
    }
    let reason = notice.probe.failure_reason.as_deref().map(phrase);
    let error = notice.probe.error.as_deref().map(|it| cut(&plain(it), 512));
    match (reason, error) {
        (Some(reason), Some(error)) => Some(format!("{reason}: {}", error.trim_end_matches('.'))),
        (reason, error) => reason.or(error),
    }
}

/// `text` as one line: control characters, line separators and characters that reorder text become spaces.
pub fn plain(text: &str) -> String {
    let visible = |c: char| {
        let hidden = c.is_control()
            || matches!(c, '\u{200B}' | '\u{200E}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}');
        if hidden { ' ' } else { c }
    };
    let line: String = text.chars().map(visible).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A name or label in a message: one line, bounded.
pub fn phrase(text: &str) -> String {
    cut(&plain(text), PHRASE_CHARS_MAX)
}

/// At most `chars_max` characters; a cut shows as `…`.
pub fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

/// What a server said, fit to be shown: one line, at most 256 characters, and each of `secrets` replaced.
pub fn shown(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    let mut secrets: Vec<_> =
        secrets.iter().filter(|it| SECRET_CHARS_MIN <= it.chars().count()).collect();
    secrets.sort_by_key(|it| std::cmp::Reverse(it.len()));
    for secret in secrets {
        text = text.replace(*secret, "[redacted]");
    }
    cut(&plain(&text), SHOWN_CHARS_MAX)
}

/// `2026-11-30`, in UTC.
pub fn date(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

/// `2026-11-30 00:00 UTC (Mon)`.
pub fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC (%a)").to_string()
}

/// A length of time in its largest unit, rounded down, for a subject: `6 days`, `1 hour`.
pub fn rough(delta: TimeDelta) -> String {
    let (count, unit) = match delta {
        it if 2 <= it.num_days() => (it.num_days(), "day"),
        it if 24 <= it.num_hours() => (1, "day"),
        it if 1 <= it.num_hours() => (it.num_hours(), "hour"),
        it if 1 <= it.num_minutes() => (it.num_minutes(), "minute"),
        _ => return "less than a minute".to_owned(),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A length of time in its two largest units, rounded down: `6d 3h`, `59m`.
pub fn span(delta: TimeDelta) -> String {
    let (days, hours, minutes) =
        (delta.num_days(), delta.num_hours() % 24, delta.num_minutes() % 60);
    match (days, hours, minutes) {
        (1.., 0, _) => format!("{days}d"),
        (1.., ..) => format!("{days}d {hours}h"),
        (_, 1.., 0) => format!("{hours}h"),
        (_, 1.., _) => format!("{hours}h {minutes}m"),
        (_, _, 1..) => format!("{minutes}m"),
        _ => "less than a minute".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_rounded_down_never_up() {
        assert_eq!(rough(TimeDelta::seconds(6 * 86_400 + 86_399)), "6 days");
        assert_eq!(rough(TimeDelta::hours(47)), "1 day");
        assert_eq!(rough(TimeDelta::seconds(7_199)), "1 hour");
        assert_eq!(rough(TimeDelta::seconds(59)), "less than a minute");
        assert_eq!(span(TimeDelta::seconds(6 * 86_400 + 3 * 3600 + 59)), "6d 3h");
        assert_eq!(span(TimeDelta::seconds(90 * 60)), "1h 30m");
        assert_eq!(span(TimeDelta::days(7)), "7d");
    }

    #[test]
    fn a_line_stays_one_line_and_cannot_be_reordered() {
        assert_eq!(plain("a\r\nBcc: x\u{2028}\u{202E}b\t c"), "a Bcc: x b c");
        assert_eq!(plain("Schlüssel 🔑"), "Schlüssel 🔑");
    }

    #[test]
    fn what_is_shown_is_short_and_without_secrets() {
        let text =
            shown(&format!("bad path /T0/secretpart{}", "x".repeat(500)), &["/T0/secretpart"]);
        assert!(text.starts_with("bad path [redacted]xxx"), "{text}");
        assert_eq!(text.chars().count(), SHOWN_CHARS_MAX);
        assert_eq!(shown("the rest", &["", "e"]), "the rest");
    }
}
