//! Alerts about a platform itself: nobody reaches it, or its clock is off.
//!
//! An outage gives one alert for the platform and none for its credentials. The rule needs no list of credentials: a
//! credential that has failed often enough for the platform's reasons blames the platform if nobody has had an answer
//! from ECE since its failures began, and itself otherwise.

use chrono::{DateTime, TimeDelta, Utc};

use super::{AlertName, Event, Firing, Reason};
use crate::config::{Policy, Severity};
use crate::observation::{Blame, FailureReason, Observation};

/// The difference of clocks above which somebody should know. Days left are computed with this machine's clock.
pub const CLOCK_SKEW_MAX: TimeDelta = TimeDelta::minutes(5);

/// How many answers in a row must agree before the skew alert fires or ends; one slow answer proves nothing.
const SKEW_ANSWERS: u32 = 3;

/// What is remembered of a platform between probes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlatformState {
    /// When ECE itself last answered any credential, whatever it said.
    pub last_contact: Option<DateTime<Utc>>,
    /// This machine's clock minus the platform's, at the last answer with a date.
    pub clock_skew: Option<TimeDelta>,
    /// How many answers in a row disagreed with the present state of the skew alert.
    pub skew_votes: u32,
    /// `PlatformUnreachable`.
    pub unreachable: Option<Firing>,
    /// `PlatformClockSkew`.
    pub skew: Option<Firing>,
}

/// The next state of a platform and what it calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformDecision {
    /// The next state.
    pub next: PlatformState,
    /// Who must be told what.
    pub events: Vec<Event>,
}

/// Whether a credential's failures are the platform's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cover {
    /// The platform alert speaks for them.
    Covered,
    /// They count against the credential.
    Own,
}

/// Whether an observation is an answer of ECE itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    Yes,
    No,
    /// The probe never left this machine.
    Unasked,
}

fn contact(observation: &Observation) -> Contact {
    // A certificate that was seen in a handshake is no answer: what presents it may stand before an ECE that is down.
    let answered = match observation.http_status {
        Some(_) => Contact::Yes,
        None => Contact::Unasked,
    };
    match &observation.result {
        Ok(_) => answered,
        Err(failure) => match (failure.reason, failure.reason.blame()) {
            (FailureReason::SecretUnreadable | FailureReason::Canceled, _) => Contact::Unasked,
            (_, Blame::Platform) => Contact::No,
            (_, Blame::Rejected | Blame::Forbidden | Blame::Credential) => answered,
        },
    }
}

/// Takes one observation into account. `failing_since` is when the observed credential's failures for the platform's
/// reasons began, once there are enough of them to alert; the answer says whom they are counted against.
pub(super) fn observe(
    policy: &Policy,
    before: &PlatformState,
    observation: &Observation,
    failing_since: Option<DateTime<Utc>>,
) -> (PlatformDecision, Cover) {
    let now = observation.at;
    let mut next = before.clone();
    let mut events = Vec::new();
    match contact(observation) {
        Contact::Yes => {
            next.last_contact = Some(now);
            if let Some(firing) = next.unreachable.take() {
                events.push(Event::of(&firing, Reason::Recovered, 0, now));
            }
        }
        Contact::No if next.unreachable.is_none() => {
            let nobody_answered = |since| next.last_contact.is_none_or(|at| at < since);
            if let Some(since) = failing_since.filter(|since| nobody_answered(*since)) {
                let firing = Firing::new(
                    AlertName::PlatformUnreachable,
                    Severity::Warning,
                    None,
                    since,
                    now,
                );
                events.push(Event::of(&firing, Reason::New, 0, now));
                next.unreachable = Some(firing);
            }
        }
        Contact::No | Contact::Unasked => {}
    }
    events.extend(skew(&mut next, observation));
    events.extend(repeats(policy, &mut next, now));
    let cover = if next.unreachable.is_some() { Cover::Covered } else { Cover::Own };
    (PlatformDecision { next, events }, cover)
}

fn skew(next: &mut PlatformState, observation: &Observation) -> Option<Event> {
    let skew = observation.clock_skew?;
    next.clock_skew = Some(skew);
    let off = CLOCK_SKEW_MAX < skew.abs();
    if off == next.skew.is_some() {
        next.skew_votes = 0;
        return None;
    }
    next.skew_votes += 1;
    if next.skew_votes < SKEW_ANSWERS {
        return None;
    }
    next.skew_votes = 0;
    let now = observation.at;
    match next.skew.take() {
        Some(firing) => Some(Event::of(&firing, Reason::Recovered, 0, now)),
        None => {
            let firing =
                Firing::new(AlertName::PlatformClockSkew, Severity::Warning, None, now, now);
            let event = Event::of(&firing, Reason::New, 0, now);
            next.skew = Some(firing);
            Some(event)
        }
    }
}

fn repeats(policy: &Policy, next: &mut PlatformState, now: DateTime<Utc>) -> Vec<Event> {
    [&mut next.unreachable, &mut next.skew]
        .into_iter()
        .flatten()
        .filter_map(|firing| firing.repeated(policy, None, 0, now))
        .collect()
}

impl PlatformState {
    /// What the passing of time alone calls for: reminders.
    pub fn pass(&self, policy: &Policy, now: DateTime<Utc>) -> PlatformDecision {
        let mut next = self.clone();
        let events = repeats(policy, &mut next, now);
        PlatformDecision { next, events }
    }

    /// When the passing of time alone next calls for something.
    pub fn wake_at(&self, policy: &Policy) -> Option<DateTime<Utc>> {
        self.firing().filter_map(|firing| firing.repeat_at(policy, None)).min()
    }

    /// Whether more has changed since `before` than what the next answers tell again.
    pub fn differs_in_substance(&self, before: &Self) -> bool {
        self.unreachable != before.unreachable || self.skew != before.skew
    }

    /// The firing alerts.
    pub fn firing(&self) -> impl Iterator<Item = &Firing> {
        self.unreachable.iter().chain(&self.skew)
    }
}
