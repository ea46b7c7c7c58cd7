//! The rows of the page's tables. Pure.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::words;
use crate::config::{Policy, Severity};
use crate::delivery::Hush;
use crate::observation::{Blame, FailureReason, Reading};
use crate::status::{CredentialStatus, FiringAlert, Hushed, PlatformStatus, Quiet};
use crate::web::silencing::form_link;

/// What a credential is like, in one word. Serialized as the class of its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Its expiry is past.
    Expired,
    /// ECE refuses it.
    Rejected,
    /// Below a step of severity critical.
    Critical,
    /// Below a step of severity warning.
    Warning,
    /// ECE lets it in no more, but it lives.
    Forbidden,
    /// Nobody knows when it expires.
    Unknown,
    /// Below a step of severity info.
    Info,
    /// It was not probed yet.
    Waiting,
    /// It has time.
    Valid,
    /// It never expires.
    Never,
}

impl State {
    /// All states, worst first.
    pub(super) const ALL: [Self; 10] = [
        Self::Expired,
        Self::Rejected,
        Self::Critical,
        Self::Warning,
        Self::Forbidden,
        Self::Unknown,
        Self::Info,
        Self::Waiting,
        Self::Valid,
        Self::Never,
    ];

    /// The word that people read: state is never told by colour alone.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "expires soon",
            Self::Forbidden => "forbidden",
            Self::Unknown => "unknown",
            Self::Waiting => "not probed yet",
            Self::Valid => "valid",
            Self::Never => "never expires",
        }
    }

    /// The state of what has this expiry, as far as that tells it.
    pub(super) fn of_reading(
        reading: Option<Reading>,
        policy: &Policy,
        now: DateTime<Utc>,
    ) -> Self {
        match reading {
            Some(Reading::ExpiresAt(at)) if at <= now => Self::Expired,
            Some(Reading::ExpiresAt(at)) => match policy.crossed(at - now).map(|it| it.severity) {
                Some(Severity::Critical) => Self::Critical,
                Some(Severity::Warning) => Self::Warning,
                Some(Severity::Info) => Self::Info,
                None => Self::Valid,
            },
            Some(Reading::Never) => Self::Never,
            Some(Reading::Undated) => Self::Valid,
            None => Self::Unknown,
        }
    }

    /// The state of a credential at `now`.
    pub(super) fn of(status: &CredentialStatus, now: DateTime<Utc>) -> Self {
        let reason = status.failure.as_ref().map(|(reason, _)| *reason);
        match (Self::of_reading(status.reading, &status.policy, now), reason) {
            (Self::Expired, _) => Self::Expired,
            (_, Some(FailureReason::Unauthorized)) => Self::Rejected,
            (state @ (Self::Critical | Self::Warning), _) => state,
            (_, Some(FailureReason::Forbidden)) => Self::Forbidden,
            (Self::Unknown, _) if status.last_run.is_none() => Self::Waiting,
            (state, _) => state,
        }
    }
}

/// Orders the page: what needs attention first, the worst before the rest, and within that by the time left.
pub(super) fn urgency(state: State, status: &CredentialStatus) -> (u8, DateTime<Utc>) {
    let place = match state {
        State::Expired => 0,
        State::Rejected => 1,
        State::Critical => 2,
        State::Warning => 3,
        State::Forbidden | State::Unknown => 4,
        State::Info => 5,
        State::Waiting => 6,
        State::Valid => 7,
        State::Never => 8,
    };
    let end = match status.reading {
        Some(Reading::ExpiresAt(at)) => at,
        Some(Reading::Never | Reading::Undated) | None => DateTime::<Utc>::MAX_UTC,
    };
    (place, end)
}

/// Whether the alert about the platform of a credential speaks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cover {
    /// The platform is unreachable, and that is told.
    Fires,
    /// Nothing of the kind.
    None,
}

/// How long is left, and when it expires.
pub(super) fn left(reading: Option<Reading>, now: DateTime<Utc>) -> (String, Option<String>) {
    match reading {
        Some(Reading::ExpiresAt(at)) if at <= now => {
            (format!("expired {}", words::relative(at, now)), Some(words::instant(at)))
        }
        Some(Reading::ExpiresAt(at)) => {
            (format!("{} left", words::span(at - now)), Some(words::instant(at)))
        }
        Some(Reading::Never) => ("never expires".to_owned(), None),
        Some(Reading::Undated) => ("works, no expiry is told".to_owned(), None),
        None => ("not known".to_owned(), None),
    }
}

/// A credential, as the page tells it.
#[derive(Debug, Serialize)]
pub(super) struct CredentialRow {
    platform: String,
    name: String,
    team: Option<String>,
    used_by: Vec<String>,
    renewal_note: Option<String>,
    key_id: Option<String>,
    /// Whether somebody has to find out which key it is that ECE does not take.
    is_refused: bool,
    state: State,
    word: &'static str,
    left: String,
    expires_at: Option<String>,
    confirmed: Option<Moment>,
    probed: Option<Moment>,
    /// The label of the failure and its sentence.
    failure: Option<(&'static str, String)>,
    next: Option<Moment>,
    alerts: Vec<AlertRow>,
    /// Where its silence is asked for.
    silence: String,
    /// No alert of its own, because that of its platform tells why it fails.
    is_covered: bool,
}

impl CredentialRow {
    /// `state` is that of `status` at `now`.
    pub(super) fn new(
        status: &CredentialStatus,
        state: State,
        cover: Cover,
        quiet: &Quiet<'_>,
        now: DateTime<Utc>,
    ) -> Self {
        let platform = &*status.id.platform;
        let alert = |it| AlertRow::new(it, quiet.hushed(platform, Some(status), it), now);
        let (left, expires_at) = left(status.reading, now);
        let moment = |at: Option<DateTime<Utc>>| at.map(|at| Moment::new(at, now));
        Self {
            platform: status.id.platform.to_string(),
            name: status.id.name.to_string(),
            team: status.team.clone(),
            used_by: status.used_by.clone(),
            renewal_note: status.renewal_note.clone(),
            key_id: status.key_id.clone(),
            is_refused: matches!(state, State::Expired | State::Rejected | State::Forbidden),
            state,
            word: state.word(),
            left,
            expires_at,
            confirmed: moment(status.observed_at),
            probed: moment(status.last_run),
            failure: status.failure.as_ref().map(|(reason, why)| (reason.label(), why.clone())),
            next: status
                .next_run
                .map(|at| Moment { at: words::instant(at), relative: words::due(at, now) }),
            alerts: status.alerts.iter().map(alert).collect(),
            silence: form_link(&[("platform", platform), ("credential", &status.id.name)]),
            is_covered: cover == Cover::Fires
                && status
                    .failure
                    .as_ref()
                    .is_some_and(|(reason, _)| reason.blame() == Blame::Platform),
        }
    }
}

/// A platform, as the page tells it.
#[derive(Debug, Serialize)]
pub(super) struct PlatformRow {
    name: String,
    urls: Vec<String>,
    credentials: usize,
    skew: Option<String>,
    failures: u64,
    alerts: Vec<AlertRow>,
    /// Where a silence of all of it is asked for.
    silence: String,
}

impl PlatformRow {
    /// The row at `now`.
    pub(super) fn new(status: &PlatformStatus, quiet: &Quiet<'_>, now: DateTime<Utc>) -> Self {
        let alert = |it| AlertRow::new(it, quiet.hushed(&status.name, None, it), now);
        Self {
            name: status.name.to_string(),
            urls: status.urls.clone(),
            credentials: status.credentials,
            skew: status.clock_skew_seconds.map(|it| format!("{it:+.1} s")),
            failures: status.failures.values().sum(),
            alerts: status.alerts.iter().map(alert).collect(),
            silence: form_link(&[("platform", &status.name)]),
        }
    }
}

/// A firing alert, as the page tells it.
#[derive(Debug, Serialize)]
struct AlertRow {
    name: &'static str,
    severity: &'static str,
    since: Moment,
    told: Moment,
    /// Why nobody is told of it now, and until when.
    quiet: Option<String>,
}

impl AlertRow {
    fn new(alert: &FiringAlert, hushed: Option<Hushed<'_>>, now: DateTime<Utc>) -> Self {
        let quiet = hushed.map(|it| match (it.why, it.asked) {
            (Hush::Silenced, Some((by, _))) => {
                format!("silenced until {} by {by}", words::instant(it.until))
            }
            (why, _) => format!("{} until {}", why.label(), words::instant(it.until)),
        });
        Self {
            quiet,
            name: alert.name.label(),
            severity: alert.severity.label(),
            since: Moment::new(alert.starts_at, now),
            told: Moment::new(alert.told_at, now),
        }
    }
}

/// An instant, twice.
#[derive(Debug, Serialize)]
pub(super) struct Moment {
    at: String,
    relative: String,
}

impl Moment {
    pub(super) fn new(at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self { at: words::instant(at), relative: words::relative(at, now) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::*;
    use crate::config::{CredentialId, Repeat, Step};

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_496_400, 0).unwrap()
    }

    fn status(reading: Option<Reading>, reason: Option<FailureReason>) -> CredentialStatus {
        let step =
            |days: u64, severity| Step { before: Duration::from_secs(days * 86_400), severity };
        let steps = vec![
            step(30, Severity::Info),
            step(14, Severity::Warning),
            step(7, Severity::Critical),
        ];
        CredentialStatus {
            id: CredentialId { platform: "prod".into(), name: "ci".into() },
            kind: "api_key",
            team: None,
            labels: BTreeMap::new(),
            used_by: Vec::new(),
            renewal_note: None,
            policy: Arc::new(Policy {
                steps,
                never_expires: None,
                failures_before_alert: 3,
                repeat: Repeat::default(),
                reminders: Vec::new(),
                escalations: Vec::new(),
            }),
            key_id: None,
            reading,
            observed_at: None,
            last_run: reading.is_some().then(now).or(reason.map(|_| now())),
            last_success: None,
            next_run: None,
            interval: Duration::from_secs(900),
            took: Duration::ZERO,
            http_status: None,
            failure: reason.map(|it| (it, "a sentence".to_owned())),
            probes_total: 1,
            probe_failures_total: 0,
            alerts: Vec::new(),
        }
    }

    #[test]
    fn each_state_has_one_word_and_a_place() {
        use FailureReason::{Connect, Forbidden, HeaderMissing, Unauthorized};
        let days = |days| Some(Reading::ExpiresAt(now() + TimeDelta::days(days)));
        let cases = [
            (days(-1), Some(Unauthorized), State::Expired),
            (days(0), None, State::Expired),
            (days(60), Some(Unauthorized), State::Rejected),
            (None, Some(Unauthorized), State::Rejected),
            (Some(Reading::Never), Some(Unauthorized), State::Rejected),
            (days(7), None, State::Critical),
            (days(7), Some(Forbidden), State::Critical),
            (days(8), None, State::Warning),
            (days(25), Some(Forbidden), State::Forbidden),
            (None, Some(HeaderMissing), State::Unknown),
            (days(20), None, State::Info),
            (None, None, State::Waiting),
            (days(40), Some(Connect), State::Valid),
            (Some(Reading::Never), None, State::Never),
        ];
        let mut places = Vec::new();
        for (reading, reason, expected) in cases {
            let status = status(reading, reason);
            let state = State::of(&status, now());
            assert_eq!(state, expected, "{reading:?} {reason:?}");
            places.push(urgency(state, &status));
        }
        assert!(places.is_sorted(), "the cases stand in the order of the page: {places:?}");
    }
}
