//! Alerts about one credential: how long it lives, and whether ECE still accepts it.
//!
//! Two slots can fire at once. `lifetime` follows the last known expiry through the steps of the policy, and runs on
//! failures too: a key whose ECE is down still runs out. `access` says that ECE refuses the key, that its owner lacks
//! rights, or that nobody can tell when it expires. A dead key gives one alert: an expired one is not also rejected or
//! unknown, and a rejected one does not go on climbing its steps.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::platform::{Cover, PlatformDecision, PlatformState, observe as observe_platform};
use super::{AlertName, Event, Firing, Reason};
use crate::config::{Policy, Severity};
use crate::observation::{Blame, FailureReason, Observation, Reading};
use crate::time::delta;

/// Refusals in a row before a key counts as rejected, so that one odd answer wakes nobody.
const REFUSALS_MIN: u32 = 2;

/// How soon an answer that needs confirmation is asked again.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_secs(60);

/// How soon a failed probe is tried again when the schedule would be slower.
const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// Two readings closer than this are the same: ECE prints fractions of a second or leaves them out.
const SAME_EXPIRY: TimeDelta = TimeDelta::seconds(1);

/// How long nobody must have confirmed the accepted expiry before a later one of the same key counts. The expiry of a key
/// never moves in ECE, so a coordinator that tells another one disagrees with the rest, and most outages of one are
/// shorter than this.
const SETTLED_AFTER: TimeDelta = TimeDelta::hours(24);

/// By how much the clock of ECE is believed to be ahead when it refuses a key: more is not a clock that drifts.
const AHEAD_MAX: TimeDelta = TimeDelta::hours(24);

/// A step that was announced is taken back for the clock's sake only when this much more is left than it says: a
/// clock that was a day ahead and is then a day behind announces nothing twice and recovers nothing.
const UNCROSS_MARGIN: TimeDelta = TimeDelta::hours(60);

/// What is remembered of one credential between probes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The accepted expiry; kept while probes fail.
    pub reading: Option<Reading>,
    /// When ECE last confirmed it.
    pub observed_at: Option<DateTime<Utc>>,
    /// The key's id, as far as known.
    pub key_id: Option<String>,
    /// A later expiry that was seen once; accepted when it is seen again.
    pub candidate: Option<Reading>,
    /// Which life: goes up with each renewal.
    pub generation: u32,
    /// When the last probe finished.
    pub last_run: Option<DateTime<Utc>>,
    /// When the last successful probe finished.
    pub last_success: Option<DateTime<Utc>>,
    /// How long the last probe took.
    pub took: Duration,
    /// Its status code.
    pub http_status: Option<u16>,
    /// Why it failed, with its sentence; `None` if it succeeded.
    pub failure: Option<(FailureReason, String)>,
    /// Failures in a row that no platform alert covers and that are not refusals.
    pub failures: u32,
    /// When those began.
    pub failing_since: Option<DateTime<Utc>>,
    /// 401s in a row; failures to reach ECE between them do not end the row.
    pub rejections: u32,
    /// 403s in a row, likewise.
    pub refusals: u32,
    /// Probes finished since the start or reload; not recorded, since a counter that falls a little looks like a reset.
    pub probes_total: u64,
    /// Those without success.
    pub probe_failures_total: u64,
    /// The alert about how long it lives.
    pub lifetime: Option<Firing>,
    /// The alert about whether it is accepted and can be read.
    pub access: Option<Firing>,
}

impl State {
    /// The firing alerts.
    pub fn firing(&self) -> impl Iterator<Item = &Firing> {
        self.lifetime.iter().chain(&self.access)
    }

    /// Whether more has changed since `before` than the record of the last probe and how often it has failed, which
    /// the next probes tell again.
    pub fn differs_in_substance(&self, before: &Self) -> bool {
        // The first refusals too: a login is not tried anew after a crash.
        let refused = |it: &Self| (it.rejections.min(REFUSALS_MIN), it.refusals.min(REFUSALS_MIN));
        let substance = |it: &Self| (it.reading, it.candidate, it.generation, refused(it));
        substance(self) != substance(before)
            || self.key_id != before.key_id
            || self.lifetime != before.lifetime
            || self.access != before.access
    }
}

/// The next state of a credential and what it calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The next state.
    pub next: State,
    /// Who must be told what, in order.
    pub events: Vec<Event>,
    /// The platform's part, when there was an observation.
    pub platform: Option<PlatformDecision>,
    /// Ask again this soon, if the schedule is slower.
    pub again: Option<Duration>,
}

/// Decides for one credential: after a probe (`observation`), or because time has passed (`None`).
pub fn decide(
    policy: &Policy,
    platform: &PlatformState,
    before: &State,
    observation: Option<&Observation>,
    now: DateTime<Utc>,
) -> Decision {
    let mut decision =
        Decision { next: before.clone(), events: Vec::new(), platform: None, again: None };
    if let Some(observation) = observation {
        observe(policy, platform, &mut decision, observation);
    }
    let Decision { next, events, .. } = &mut decision;
    lifetime(policy, next, events, now);
    let covered = next.lifetime.as_ref().is_some_and(|it| it.name == AlertName::CredentialExpired);
    if covered && next.access.as_ref().is_some_and(|it| it.name != AlertName::CredentialRejected) {
        end(&mut next.access, events, next.generation, now);
    }
    let (generation, reading) = (next.generation, next.reading);
    let access = next.access.as_mut();
    events.extend(access.and_then(|firing| firing.repeated(policy, reading, generation, now)));
    decision
}

/// When the passing of time alone next calls for a decision.
pub fn wake_at(policy: &Policy, state: &State) -> Option<DateTime<Utc>> {
    // The lifetime of a rejected key rests, its reminders too.
    let resting = state.lifetime.as_ref().filter(|_| is_rejected(state));
    let awake = state.firing().filter(|firing| Some(*firing) != resting);
    let repeats = awake.filter_map(|firing| firing.repeat_at(policy, state.reading));
    let crossing = match state.reading {
        Some(Reading::ExpiresAt(at)) if !is_rejected(state) => {
            let reached = state.lifetime.as_ref().map_or(i64::MAX, rank);
            let steps = policy.steps.iter().map(|step| step.before);
            // Longest first, so the first step below the one reached is the next to be crossed; the expiry is last.
            steps
                .chain([Duration::ZERO])
                .find(|before| i64::try_from(before.as_millis()).unwrap_or(i64::MAX) < reached)
                .map(|before| {
                    at.checked_sub_signed(delta(before)).unwrap_or(DateTime::<Utc>::MIN_UTC)
                })
        }
        Some(Reading::ExpiresAt(_) | Reading::Never | Reading::Undated) | None => None,
    };
    repeats.chain(crossing).min()
}

fn is_rejected(state: &State) -> bool {
    state.access.as_ref().is_some_and(|it| it.name == AlertName::CredentialRejected)
}

/// How far along the way a lifetime alert is: milliseconds left at its crossing; less is worse.
fn rank(firing: &Firing) -> i64 {
    match firing.name {
        AlertName::CredentialExpired => 0,
        _ => {
            firing.step.map_or(i64::MAX, |step| i64::try_from(step.as_millis()).unwrap_or(i64::MAX))
        }
    }
}

fn observe(
    policy: &Policy,
    platform: &PlatformState,
    decision: &mut Decision,
    observation: &Observation,
) {
    let Decision { next, events, .. } = decision;
    let (now, candidate) = (observation.at, next.candidate);
    next.last_run = Some(now);
    next.took = observation.took;
    next.http_status = observation.http_status;
    next.probes_total += 1;
    let (blame, reading) = match &observation.result {
        Ok(reading) => {
            next.last_success = Some(now);
            next.failure = None;
            (None, Some(*reading))
        }
        Err(failure) => {
            next.probe_failures_total += 1;
            next.failure = Some((failure.reason, failure.message.clone()));
            if next.reading.is_none() {
                // The key itself says it, so that people know which one is refused.
                next.key_id = observation.key_id.clone().or(next.key_id.take());
            }
            (Some(failure.reason.blame()), failure.reading)
        }
    };
    count(next, blame, observation);
    let enough = policy.failures_before_alert <= next.failures && blame == Some(Blame::Platform);
    let failing_since = next.failing_since.filter(|_| enough);
    let (platform_decision, cover) = observe_platform(policy, platform, observation, failing_since);
    if cover == Cover::Covered && blame == Some(Blame::Platform) {
        next.failures = 0;
        next.failing_since = None;
    }
    decision.platform = Some(platform_decision);
    if let Some(reading) = reading {
        accept(next, events, reading, observation);
    }
    access(policy, next, events, blame, observation);
    let candidate = match next.candidate {
        Some(it) if candidate != Some(it) => Candidate::New,
        Some(_) | None => Candidate::OldOrNone,
    };
    decision.again = again(next, candidate, observation);
}

/// Whether a later expiry was just seen for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    New,
    OldOrNone,
}

/// Counts the rows of failures. One refusal of the other kind does not end a row: two coordinators that answer 401
/// and 403 in turn are still told.
fn count(next: &mut State, blame: Option<Blame>, observation: &Observation) {
    match blame {
        None => {
            next.failures = 0;
            next.failing_since = None;
            next.rejections = 0;
            next.refusals = 0;
        }
        Some(Blame::Rejected) => {
            next.rejections += 1;
            if REFUSALS_MIN <= next.rejections {
                next.refusals = 0;
            }
        }
        Some(Blame::Forbidden) => {
            next.refusals += 1;
            if REFUSALS_MIN <= next.refusals {
                next.rejections = 0;
            }
        }
        Some(Blame::Platform | Blame::Credential) => {
            next.failures += 1;
            next.failing_since.get_or_insert(observation.at);
        }
    }
}

/// How soon to ask again. What the platform asks for (429) comes on top, and is the monitor's.
fn again(next: &State, candidate: Candidate, observation: &Observation) -> Option<Duration> {
    let reason = observation.result.as_ref().err().map(|it| it.reason);
    if candidate == Candidate::New || next.rejections == 1 || next.refusals == 1 {
        return Some(CONFIRM_AFTER);
    }
    match reason?.blame() {
        Blame::Platform | Blame::Credential => Some(RETRY_AFTER),
        Blame::Rejected | Blame::Forbidden => None,
    }
}

/// Takes a reading into account. An earlier expiry counts at once (better early than silent); a later one when the key
/// is another one, or when it is seen twice in a row and the other one is settled, so that two coordinators that disagree
/// do not flap.
fn accept(next: &mut State, events: &mut Vec<Event>, reading: Reading, observation: &Observation) {
    let now = observation.at;
    let ids = next.key_id.as_ref().zip(observation.key_id.as_ref());
    let is_other_key = ids.is_some_and(|(known, seen)| known != seen);
    let is_same_key = ids.is_some_and(|(known, seen)| known == seen);
    let Some(known) = next.reading else {
        next.reading = Some(reading);
        next.generation = next.generation.max(1);
        confirm(next, observation);
        return;
    };
    if is_same(known, reading) {
        confirm(next, observation);
    } else if known == Reading::Undated || reading == Reading::Undated {
        // The name stands for a credential of another kind now.
        next.reading = Some(reading);
        end(&mut next.lifetime, events, next.generation, now);
        confirm(next, observation);
    } else if is_later(reading, known) {
        let is_seen_twice = next.candidate.is_some_and(|it| is_same(it, reading));
        let is_confirmed = is_seen_twice && (!is_same_key || is_settled(next, known, now));
        if !is_other_key && !is_confirmed {
            next.candidate = Some(reading);
            return;
        }
        next.reading = Some(reading);
        if let Some(firing) = next.lifetime.take() {
            let previous_expiry = match known {
                Reading::ExpiresAt(at) => Some(at),
                Reading::Never | Reading::Undated => None,
            };
            let renewed = Event::of(&firing, Reason::Renewed, next.generation, now);
            events.push(Event { previous_expiry, ..renewed });
        }
        next.generation += 1;
        confirm(next, observation);
    } else {
        next.reading = Some(reading);
        if known == Reading::Never {
            end(&mut next.lifetime, events, next.generation, now);
        }
        confirm(next, observation);
    }
}

/// Whether a later expiry of the same key may take the place of the known one: nobody has confirmed that for long, or it
/// is past and ECE accepts the key all the same.
fn is_settled(next: &State, known: Reading, now: DateTime<Utc>) -> bool {
    let is_past = matches!(known, Reading::ExpiresAt(at) if at <= now);
    is_past || next.observed_at.is_none_or(|at| SETTLED_AFTER <= now - at)
}

fn confirm(next: &mut State, observation: &Observation) {
    next.candidate = None;
    next.observed_at = Some(observation.at);
    if observation.key_id.is_some() {
        next.key_id.clone_from(&observation.key_id);
    }
}

fn is_same(a: Reading, b: Reading) -> bool {
    match (a, b) {
        (Reading::ExpiresAt(a), Reading::ExpiresAt(b)) => (a - b).abs() < SAME_EXPIRY,
        (a, b) => a == b,
    }
}

fn is_later(a: Reading, than: Reading) -> bool {
    match (a, than) {
        (Reading::ExpiresAt(a), Reading::ExpiresAt(than)) => than < a,
        (Reading::Never, Reading::ExpiresAt(_)) => true,
        (_, Reading::Never | Reading::Undated) | (Reading::Undated, _) => false,
    }
}

fn end(slot: &mut Option<Firing>, events: &mut Vec<Event>, generation: u32, now: DateTime<Utc>) {
    if let Some(firing) = slot.take() {
        events.push(Event::of(&firing, Reason::Recovered, generation, now));
    }
}

fn access(
    policy: &Policy,
    next: &mut State,
    events: &mut Vec<Event>,
    blame: Option<Blame>,
    observation: &Observation,
) {
    let now = observation.at;
    // ECE refuses a key when it has expired by the clock of ECE.
    let ahead = observation.clock_skew.map_or(TimeDelta::zero(), |it| -it);
    let there = now + ahead.clamp(TimeDelta::zero(), AHEAD_MAX);
    let is_past = matches!(next.reading, Some(Reading::ExpiresAt(at)) if at <= there);
    let unparsable =
        matches!(&observation.result, Err(it) if it.reason == FailureReason::HeaderInvalid);
    let wanted = match blame {
        None => None,
        // An expired key is known to be dead, whatever its probes show.
        Some(_) if is_past => return,
        Some(Blame::Rejected) if REFUSALS_MIN <= next.rejections => {
            Some((AlertName::CredentialRejected, Severity::Critical))
        }
        Some(Blame::Forbidden) if REFUSALS_MIN <= next.refusals => {
            Some((AlertName::CredentialForbidden, Severity::Warning))
        }
        Some(Blame::Platform | Blame::Credential)
            if policy.failures_before_alert <= next.failures || unparsable =>
        {
            // Being refused is worse than being out of sight, and being out of sight does not end it.
            match &next.access {
                Some(firing) if firing.name != AlertName::CredentialExpiryUnknown => return,
                Some(_) | None => Some((AlertName::CredentialExpiryUnknown, Severity::Warning)),
            }
        }
        Some(_) => return,
    };
    match (&next.access, wanted) {
        (Some(firing), Some((name, _))) if firing.name == name => {}
        (Some(_), None) => end(&mut next.access, events, next.generation, now),
        (Some(_) | None, Some((name, severity))) => {
            end(&mut next.access, events, next.generation, now);
            let firing = Firing::new(name, severity, None, now, now);
            events.push(Event::of(&firing, Reason::New, next.generation, now));
            next.access = Some(firing);
        }
        (None, None) => {}
    }
}

/// Follows the accepted expiry through the steps.
fn lifetime(policy: &Policy, next: &mut State, events: &mut Vec<Event>, now: DateTime<Utc>) {
    if is_rejected(next) {
        return;
    }
    let wanted = match next.reading {
        None | Some(Reading::Undated) => None,
        Some(Reading::Never) => policy.never_expires.map(|severity| {
            let since = next.observed_at.unwrap_or(now);
            Firing::new(AlertName::CredentialNeverExpires, severity, None, since, now)
        }),
        Some(Reading::ExpiresAt(at)) => crossed(policy, at, now),
    };
    let generation = next.generation;
    match (&mut next.lifetime, wanted) {
        (None, None) => {}
        (None, Some(firing)) => {
            events.push(Event::of(&firing, Reason::New, generation, now));
            next.lifetime = Some(firing);
        }
        (Some(firing), wanted) if is_held(policy, firing, wanted.as_ref(), next.reading, now) => {
            events.extend(firing.repeated(policy, next.reading, generation, now));
        }
        (Some(_), None) => end(&mut next.lifetime, events, generation, now),
        (Some(firing), Some(wanted)) => {
            if rank(&wanted) < rank(firing) || firing.severity < wanted.severity {
                events.push(Event::of(&wanted, Reason::Escalated, generation, now));
                *firing = wanted;
            } else {
                // Milder, because the policy changed: remembered, and nobody is woken for it.
                *firing = Firing { told_at: firing.told_at, ..wanted };
            }
        }
    }
}

/// Whether a firing alert stays as it is: it is what is wanted, or only a clock that was set back speaks against it.
fn is_held(
    policy: &Policy,
    firing: &Firing,
    wanted: Option<&Firing>,
    reading: Option<Reading>,
    now: DateTime<Utc>,
) -> bool {
    if wanted.is_some_and(|it| {
        it.name == firing.name && it.step == firing.step && it.severity == firing.severity
    }) {
        return true;
    }
    let Some(Reading::ExpiresAt(at)) = reading else { return false };
    if wanted.is_some_and(|it| rank(it) < rank(firing)) {
        return false;
    }
    let before = match firing.name {
        AlertName::CredentialExpired => Duration::ZERO,
        _ => match firing.step {
            Some(step)
                if policy
                    .steps
                    .iter()
                    .any(|it| it.before == step && it.severity == firing.severity) =>
            {
                step
            }
            Some(_) | None => return false,
        },
    };
    at - now < delta(before) + UNCROSS_MARGIN
}

/// The alert that an expiry calls for: the most urgent step that is crossed, or expired.
fn crossed(policy: &Policy, at: DateTime<Utc>, now: DateTime<Utc>) -> Option<Firing> {
    if at <= now {
        return Some(Firing::new(AlertName::CredentialExpired, Severity::Critical, None, at, now));
    }
    let step = policy.crossed(at - now)?;
    let since = at.checked_sub_signed(delta(step.before)).unwrap_or(now);
    Some(Firing::new(AlertName::CredentialExpiring, step.severity, Some(step.before), since, now))
}
