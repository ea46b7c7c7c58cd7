//! Decisions as stories a person can read, and against a small reference model over random histories.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::config::Repeat;
use crate::config::{Policy, Step};
use crate::observation::{Failure, FailureReason, Observation, Reading};

const DAY: i64 = 24 * 60;

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn minutes(n: i64) -> DateTime<Utc> {
    start() + TimeDelta::minutes(n)
}

fn policy(repeat: Repeat) -> Policy {
    let step = |days: u64, severity| Step { before: Duration::from_secs(days * 86_400), severity };
    Policy {
        steps: vec![
            step(30, Severity::Info),
            step(14, Severity::Warning),
            step(7, Severity::Critical),
            step(1, Severity::Critical),
        ],
        never_expires: Some(Severity::Info),
        failures_before_alert: 3,
        repeat,
        reminders: Vec::new(),
        escalations: Vec::new(),
    }
}

/// What a probe may show, in the words of the stories.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    /// The expiry in minutes from the start, and which key.
    Dated(i64, &'static str),
    Never,
    /// It is accepted, and of a kind of which ECE tells no expiry.
    Undated,
    Fails(FailureReason),
    /// 403 that tells the expiry.
    ForbiddenBut(i64),
    /// Another credential of the platform got an answer.
    OtherContact,
    /// The clock of the platform is so many minutes behind.
    Skewed(i64, i64),
}

fn observation(seen: &Seen, at: DateTime<Utc>) -> Observation {
    let failure = |reason: FailureReason, reading| {
        Err(Failure { reason, message: format!("it failed ({})", reason.label()), reading })
    };
    let (result, key_id, skew) = match seen {
        Seen::Dated(expiry, key) => (Ok(Reading::ExpiresAt(minutes(*expiry))), Some(*key), 0),
        Seen::Skewed(expiry, skew) => (Ok(Reading::ExpiresAt(minutes(*expiry))), Some("k1"), *skew),
        Seen::Never => (Ok(Reading::Never), Some("k1"), 0),
        Seen::Undated => (Ok(Reading::Undated), None, 0),
        Seen::Fails(reason) => (failure(*reason, None), Some("k1"), 0),
        Seen::ForbiddenBut(expiry) => (
            failure(FailureReason::Forbidden, Some(Reading::ExpiresAt(minutes(*expiry)))),
            Some("k1"),
            0,
        ),
        Seen::OtherContact => unreachable!("not a probe of this credential"),
    };
    Observation {
        took: Duration::from_millis(20),
        http_status: Some(200),
        key_id: key_id.map(str::to_owned),
        clock_skew: Some(TimeDelta::minutes(skew)),
        ..Observation::of(at, result)
    }
}

/// A credential and its platform, driven as the monitor drives them.
struct Watched {
    policy: Policy,
    state: State,
    platform: PlatformState,
    told: Vec<Event>,
}

impl Watched {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::default(),
            platform: PlatformState::default(),
            told: Vec::new(),
        }
    }

    fn see(&mut self, seen: &Seen, at: DateTime<Utc>) {
        if *seen == Seen::OtherContact {
            self.platform.last_contact = Some(at);
            if let Some(firing) = self.platform.unreachable.take() {
                self.told.push(Event::of(&firing, Reason::Recovered, 0, at));
            }
            return;
        }
        let observation = observation(seen, at);
        let decision = decide(&self.policy, &self.platform, &self.state, Some(&observation), at);
        let platform = decision.platform.unwrap();
        self.state = decision.next;
        self.platform = platform.next;
        self.told.extend(platform.events);
        self.told.extend(decision.events);
    }

    /// Lets time pass, deciding at each wake as the monitor does.
    fn pass_until(&mut self, end: DateTime<Utc>) {
        for _ in 0..10_000 {
            let own = wake_at(&self.policy, &self.state);
            let platform = self.platform.wake_at(&self.policy);
            let Some(at) = own.into_iter().chain(platform).min().filter(|at| *at < end) else {
                return;
            };
            let decision = decide(&self.policy, &self.platform, &self.state, None, at);
            assert!(
                decision.next != self.state || platform == Some(at),
                "woken at {at} for nothing: {:?}",
                self.state
            );
            self.state = decision.next;
            self.told.extend(decision.events);
            let passed = self.platform.pass(&self.policy, at);
            self.platform = passed.next;
            self.told.extend(passed.events);
        }
        panic!("woken 10,000 times before {end}");
    }
}

fn day(at: DateTime<Utc>) -> String {
    let minutes = (at - start()).num_minutes();
    match minutes % DAY {
        0 => format!("day {}", minutes / DAY),
        rest => format!("day {} +{}h{:02}", minutes / DAY, rest / 60, rest % 60),
    }
}

/// Runs a story, one `day: what` a line, and compares what people are told.
#[expect(clippy::needless_pass_by_value, reason = "the expectation stands in the call")]
fn check(repeat: Repeat, story: &[(i64, Seen)], told: Expect) {
    let mut watched = Watched::new(policy(repeat));
    for (at, seen) in story {
        watched.pass_until(minutes(*at));
        watched.see(seen, minutes(*at));
    }
    let end = story.last().map_or(0, |(at, _)| *at) + 200 * DAY;
    if repeat == Repeat::default() {
        watched.pass_until(minutes(end));
    }
    let mut text = String::new();
    for it in &watched.told {
        let _ = write!(
            text,
            "{}: {} {} {}",
            day(it.at),
            it.reason.label(),
            it.name.label(),
            it.severity.label()
        );
        if let Some(step) = it.step {
            let _ =
                write!(text, " (step {}d, generation {})", step.as_secs() / 86_400, it.generation);
        }
        if let Some(previous) = it.previous_expiry {
            let _ = write!(text, ", was {}", day(previous));
        }
        text.push('\n');
    }
    told.assert_eq(&text);
}

const NO_REPEAT: Repeat = Repeat { critical: None, warning: None, info: None };

fn fails(reason: FailureReason) -> Seen {
    Seen::Fails(reason)
}

#[test]
fn what_tells_no_expiry_is_told_only_when_it_is_refused() {
    check(
        NO_REPEAT,
        &[
            (0, Seen::Undated),
            (DAY, Seen::Undated),
            (2 * DAY, fails(FailureReason::Unauthorized)),
            (3 * DAY, fails(FailureReason::Unauthorized)),
            (4 * DAY, Seen::Undated),
        ],
        expect![[r#"
            day 3: new ECECredentialRejected critical
            day 4: recovered ECECredentialRejected critical
        "#]],
    );
}

#[test]
fn a_name_that_comes_to_mean_a_credential_without_an_expiry_has_no_old_alert() {
    check(
        NO_REPEAT,
        &[
            (0, Seen::Dated(5 * DAY, "k1")),
            (DAY, Seen::Undated),
            (2 * DAY, Seen::Dated(300 * DAY, "k2")),
        ],
        expect![[r#"
            day 0: new ECECredentialExpiring critical (step 7d, generation 1)
            day 1: recovered ECECredentialExpiring critical (step 7d, generation 1)
        "#]],
    );
}

#[test]
fn every_step_is_announced_once_and_then_the_expiry() {
    check(
        NO_REPEAT,
        &[(0, Seen::Dated(40 * DAY, "k1")), (60, Seen::Dated(40 * DAY, "k1"))],
        expect![[r#"
            day 10: new ECECredentialExpiring info (step 30d, generation 1)
            day 26: escalated ECECredentialExpiring warning (step 14d, generation 1)
            day 33: escalated ECECredentialExpiring critical (step 7d, generation 1)
            day 39: escalated ECECredentialExpiring critical (step 1d, generation 1)
            day 40: escalated ECECredentialExpired critical
        "#]],
    );
}

#[test]
fn seen_late_only_the_most_urgent_step_is_announced() {
    check(
        NO_REPEAT,
        &[(0, Seen::Dated(5 * DAY, "k1")), (5 * DAY + 10, fails(FailureReason::Unauthorized))],
        expect![[r#"
            day 0: new ECECredentialExpiring critical (step 7d, generation 1)
            day 4: escalated ECECredentialExpiring critical (step 1d, generation 1)
            day 5: escalated ECECredentialExpired critical
        "#]],
    );
}

#[test]
fn a_key_runs_out_while_ece_is_down_and_is_still_announced() {
    let down = |day| (day * DAY, fails(FailureReason::Connect));
    check(
        NO_REPEAT,
        &[(0, Seen::Dated(20 * DAY, "k1")), down(1), down(2), down(3), down(4), down(21)],
        expect![[r#"
            day 0: new ECECredentialExpiring info (step 30d, generation 1)
            day 3: new ECEPlatformUnreachable warning
            day 6: escalated ECECredentialExpiring warning (step 14d, generation 1)
            day 13: escalated ECECredentialExpiring critical (step 7d, generation 1)
            day 19: escalated ECECredentialExpiring critical (step 1d, generation 1)
            day 20: escalated ECECredentialExpired critical
        "#]],
    );
}

#[test]
fn a_renewal_is_announced_with_both_dates_and_starts_a_new_life() {
    check(
        NO_REPEAT,
        &[
            (0, Seen::Dated(10 * DAY, "k1")),
            (DAY, Seen::Dated(100 * DAY, "k2")),
            (2 * DAY, Seen::Dated(100 * DAY, "k2")),
            (71 * DAY, Seen::Dated(200 * DAY, "k2")),
            (72 * DAY, Seen::Dated(200 * DAY, "k2")),
            (73 * DAY, Seen::Never),
            (74 * DAY, Seen::Never),
        ],
        expect![[r#"
            day 0: new ECECredentialExpiring warning (step 14d, generation 1)
            day 1: renewed ECECredentialExpiring warning (step 14d, generation 1), was day 10
            day 70: new ECECredentialExpiring info (step 30d, generation 2)
            day 72: renewed ECECredentialExpiring info (step 30d, generation 2), was day 100
            day 73: new ECECredentialNeverExpires info
        "#]],
    );
}

#[test]
fn two_coordinators_that_disagree_do_not_flap() {
    let seen = |hour: i64, expiry: i64| (hour * 60, Seen::Dated(expiry * DAY, "k1"));
    check(
        NO_REPEAT,
        &[seen(0, 60), seen(1, 6), seen(2, 60), seen(3, 6), seen(4, 60), seen(5, 6)],
        expect![[r#"
            day 0 +1h00: new ECECredentialExpiring critical (step 7d, generation 1)
            day 5: escalated ECECredentialExpiring critical (step 1d, generation 1)
            day 6: escalated ECECredentialExpired critical
        "#]],
    );
    // While one of them is down the other is asked several times in a row.
    check(
        NO_REPEAT,
        &[seen(0, 6), seen(1, 60), seen(2, 60), seen(3, 60), seen(4, 6), seen(5, 60), seen(6, 60)],
        expect![[r#"
            day 0: new ECECredentialExpiring critical (step 7d, generation 1)
            day 5: escalated ECECredentialExpiring critical (step 1d, generation 1)
            day 6: escalated ECECredentialExpired critical
        "#]],
    );
}

#[test]
fn a_later_expiry_of_the_same_key_counts_when_nobody_tells_the_earlier_one_any_more() {
    let seen = |hour: i64, expiry: i64| (hour * 60, Seen::Dated(expiry * DAY, "k1"));
    check(
        NO_REPEAT,
        &[seen(0, 6), seen(1, 60), seen(23, 60), seen(24, 60)],
        expect![[r#"
            day 0: new ECECredentialExpiring critical (step 7d, generation 1)
            day 1: renewed ECECredentialExpiring critical (step 7d, generation 1), was day 6
            day 30: new ECECredentialExpiring info (step 30d, generation 2)
            day 46: escalated ECECredentialExpiring warning (step 14d, generation 2)
            day 53: escalated ECECredentialExpiring critical (step 7d, generation 2)
            day 59: escalated ECECredentialExpiring critical (step 1d, generation 2)
            day 60: escalated ECECredentialExpired critical
        "#]],
    );
    // Past its expiry it would be refused, so the later one is right.
    check(
        NO_REPEAT,
        &[seen(0, 1), seen(23, 1), seen(25, 60), seen(26, 60)],
        expect![[r#"
            day 0: new ECECredentialExpiring critical (step 1d, generation 1)
            day 1: escalated ECECredentialExpired critical
            day 1 +2h00: renewed ECECredentialExpired critical, was day 1
            day 30: new ECECredentialExpiring info (step 30d, generation 2)
            day 46: escalated ECECredentialExpiring warning (step 14d, generation 2)
            day 53: escalated ECECredentialExpiring critical (step 7d, generation 2)
            day 59: escalated ECECredentialExpiring critical (step 1d, generation 2)
            day 60: escalated ECECredentialExpired critical
        "#]],
    );
}

#[test]
fn who_answers_429_is_not_asked_sooner() {
    let mut watched = Watched::new(policy(NO_REPEAT));
    let mut again = |seen: &Seen, at: i64| {
        let observation = observation(seen, minutes(at));
        let (policy, platform) = (&watched.policy, &watched.platform);
        let decision = decide(policy, platform, &watched.state, Some(&observation), minutes(at));
        watched.state = decision.next;
        decision.again.map(|it| it.as_secs())
    };
    assert_eq!(
        again(&fails(FailureReason::RateLimited), 0),
        Some(300),
        "after the rest it asked for"
    );
    assert_eq!(again(&fails(FailureReason::Timeout), 60), Some(300));
    assert_eq!(again(&Seen::Dated(60 * DAY, "k1"), 120), None);
    // A later expiry is confirmed soon, and only once.
    assert_eq!(again(&Seen::Dated(90 * DAY, "k1"), 180), Some(60));
    assert_eq!(again(&Seen::Dated(90 * DAY, "k1"), 181), None);
}

#[test]
fn a_refused_key_is_confirmed_before_anybody_is_woken() {
    let refused = || fails(FailureReason::Unauthorized);
    check(
        NO_REPEAT,
        &[
            (0, Seen::Dated(40 * DAY, "k1")),
            (60, refused()),
            (61, Seen::Dated(40 * DAY, "k1")),
            (120, refused()),
            (121, fails(FailureReason::Timeout)),
            (122, refused()),
            (123, refused()),
            (35 * DAY, refused()),
            (36 * DAY, Seen::Dated(130 * DAY, "k2")),
        ],
        // Once it is known to be dead, the steps of its old expiry are nobody's business.
        expect![[r#"
            day 0 +2h02: new ECECredentialRejected critical
            day 36: recovered ECECredentialRejected critical
            day 100: new ECECredentialExpiring info (step 30d, generation 2)
            day 116: escalated ECECredentialExpiring warning (step 14d, generation 2)
            day 123: escalated ECECredentialExpiring critical (step 7d, generation 2)
            day 129: escalated ECECredentialExpiring critical (step 1d, generation 2)
            day 130: escalated ECECredentialExpired critical
        "#]],
    );
}

#[test]
fn a_forbidden_key_is_alive_and_its_expiry_still_counts() {
    check(
        NO_REPEAT,
        &[
            (0, Seen::ForbiddenBut(20 * DAY)),
            (1, Seen::ForbiddenBut(20 * DAY)),
            (DAY, Seen::Dated(110 * DAY, "k2")),
        ],
        expect![[r#"
            day 0: new ECECredentialExpiring info (step 30d, generation 1)
            day 0 +0h01: new ECECredentialForbidden warning
            day 1: renewed ECECredentialExpiring info (step 30d, generation 1), was day 20
            day 1: recovered ECECredentialForbidden warning
            day 80: new ECECredentialExpiring info (step 30d, generation 2)
            day 96: escalated ECECredentialExpiring warning (step 14d, generation 2)
            day 103: escalated ECECredentialExpiring critical (step 7d, generation 2)
            day 109: escalated ECECredentialExpiring critical (step 1d, generation 2)
            day 110: escalated ECECredentialExpired critical
        "#]],
    );
}

#[test]
fn an_outage_is_one_alert_for_the_platform_and_none_for_the_credential() {
    let down = |minute| (minute, fails(FailureReason::ServerError));
    check(
        NO_REPEAT,
        &[
            (0, Seen::Never),
            down(10),
            down(20),
            down(30),
            down(40),
            down(50),
            down(60),
            (65, Seen::OtherContact),
            down(70),
            down(80),
            (90, Seen::Never),
        ],
        expect![[r#"
            day 0: new ECECredentialNeverExpires info
            day 0 +0h30: new ECEPlatformUnreachable warning
            day 0 +1h05: recovered ECEPlatformUnreachable warning
        "#]],
    );
}

#[test]
fn a_credential_that_fails_alone_is_unknown() {
    let missing = |minute| (minute, fails(FailureReason::HeaderMissing));
    let down = |minute| (minute, fails(FailureReason::ServerError));
    check(
        NO_REPEAT,
        &[missing(0), missing(10), missing(20), missing(30), (40, Seen::Never)],
        expect![[r#"
            day 0 +0h20: new ECECredentialExpiryUnknown warning
            day 0 +0h40: recovered ECECredentialExpiryUnknown warning
            day 0 +0h40: new ECECredentialNeverExpires info
        "#]],
    );
    // Behind a failing coordinator while others get answers.
    check(
        NO_REPEAT,
        &[down(0), (5, Seen::OtherContact), down(10), (15, Seen::OtherContact), down(20), down(30)],
        expect![[r#"
            day 0 +0h20: new ECECredentialExpiryUnknown warning
        "#]],
    );
    check(
        NO_REPEAT,
        &[(0, fails(FailureReason::HeaderInvalid))],
        expect![[r#"
            day 0: new ECECredentialExpiryUnknown warning
        "#]],
    );
}

#[test]
fn reminders_come_by_severity_and_stop_with_the_alert() {
    let repeat = Repeat {
        critical: Some(Duration::from_secs(86_400)),
        warning: Some(Duration::from_secs(3 * 86_400)),
        info: None,
    };
    check(
        repeat,
        &[
            (0, Seen::Dated(12 * DAY, "k1")),
            (7 * DAY, Seen::Dated(99 * DAY, "k2")),
            (60 * DAY, Seen::Dated(99 * DAY, "k2")),
        ],
        expect![[r#"
            day 0: new ECECredentialExpiring warning (step 14d, generation 1)
            day 3: repeat ECECredentialExpiring warning (step 14d, generation 1)
            day 5: escalated ECECredentialExpiring critical (step 7d, generation 1)
            day 6: repeat ECECredentialExpiring critical (step 7d, generation 1)
            day 7: renewed ECECredentialExpiring critical (step 7d, generation 1), was day 12
        "#]],
    );
}

#[test]
fn clock_skew_needs_three_answers_to_fire_and_to_end() {
    let skewed = |minute, skew| (minute, Seen::Skewed(300 * DAY, skew));
    check(
        NO_REPEAT,
        &[
            skewed(0, 6),
            skewed(1, 0),
            skewed(2, -6),
            skewed(3, -7),
            skewed(4, 6),
            skewed(5, 6),
            skewed(6, 1),
            skewed(7, 1),
            skewed(8, 1),
        ],
        expect![[r#"
            day 0 +0h04: new ECEPlatformClockSkew warning
            day 0 +0h08: recovered ECEPlatformClockSkew warning
        "#]],
    );
}

#[test]
fn a_clock_that_is_set_back_a_day_announces_nothing_twice() {
    let mut watched = Watched::new(policy(NO_REPEAT));
    watched.see(&Seen::Dated(20 * DAY, "k1"), minutes(5 * DAY));
    watched.pass_until(minutes(6 * DAY + 10));
    let told = watched.told.len();
    watched.see(&Seen::Dated(20 * DAY, "k1"), minutes(5 * DAY + 20));
    watched.pass_until(minutes(6 * DAY + 20));
    assert_eq!(watched.told.len(), told, "{:?}", watched.told);
}

#[test]
fn a_policy_that_becomes_milder_wakes_nobody_and_ends_what_it_no_longer_wants() {
    let mut watched = Watched::new(policy(NO_REPEAT));
    watched.see(&Seen::Dated(20 * DAY, "k1"), minutes(0));
    watched.policy.steps.remove(0);
    watched.see(&Seen::Dated(20 * DAY, "k1"), minutes(10));
    let told: Vec<_> = watched.told.iter().map(|it| it.reason).collect();
    assert_eq!(told, [Reason::New, Reason::Recovered]);
    assert_eq!(watched.state.lifetime, None);
}

/// The reference: what has to be told, worked out from the whole history each time instead of from a state.
struct Model {
    history: Vec<(i64, Seen)>,
}

type Fact = (i64, AlertName, Reason);

impl Model {
    /// The accepted expiry after the first `n` probes, and how many renewals there were. `i64::MAX` is never.
    fn accepted(&self, n: usize) -> (Option<i64>, u32) {
        let (mut accepted, mut key, mut pending, mut lives) = (None::<i64>, "", None, 0);
        let mut confirmed = 0;
        for (at, seen) in &self.history[..n] {
            let (expiry, with) = match seen {
                Seen::Dated(expiry, key) => (*expiry, *key),
                Seen::ForbiddenBut(expiry) => (*expiry, "k1"),
                Seen::Never => (i64::MAX, "k1"),
                Seen::Undated => unreachable!("not in these histories"),
                Seen::Fails(_) | Seen::OtherContact | Seen::Skewed(..) => continue,
            };
            let is_first = accepted.is_none();
            // A later date of the same key: seen twice, and nobody has told the earlier one for a day, or it is past.
            let is_settled = DAY <= at - confirmed || accepted.is_some_and(|it| it <= *at);
            if accepted.is_some_and(|it| it < expiry)
                && key == with
                && !(pending == Some(expiry) && is_settled)
            {
                pending = Some(expiry);
                continue;
            }
            confirmed = *at;
            lives += u32::from(is_first || accepted.is_some_and(|it| it < expiry));
            (accepted, key, pending) = (Some(expiry), with, None);
        }
        (accepted, lives)
    }

    /// How many refusals of this kind the last row has: failures to reach ECE and a single refusal of the other kind
    /// do not end it.
    fn row(&self, n: usize, reason: FailureReason) -> usize {
        let (mut own, mut other) = (0, 0);
        for (_, seen) in &self.history[..n] {
            let kind = match seen {
                Seen::Fails(FailureReason::Unauthorized) => FailureReason::Unauthorized,
                Seen::Fails(FailureReason::Forbidden) | Seen::ForbiddenBut(_) => {
                    FailureReason::Forbidden
                }
                Seen::Fails(_) | Seen::OtherContact => continue,
                Seen::Dated(..) | Seen::Never | Seen::Undated | Seen::Skewed(..) => {
                    (own, other) = (0, 0);
                    continue;
                }
            };
            let (this, that) =
                if kind == reason { (&mut own, &mut other) } else { (&mut other, &mut own) };
            *this += 1;
            if 2 <= *this {
                *that = 0;
            }
        }
        own
    }
}

/// How many steps are crossed, the expiry included, with so many minutes left.
fn band(left: i64) -> usize {
    [30 * DAY, 14 * DAY, 7 * DAY, DAY, 0].iter().filter(|before| left <= **before).count()
}

fn seen() -> impl Strategy<Value = Seen> {
    let expiry = prop_oneof![Just(20 * DAY), Just(45 * DAY), Just(90 * DAY), Just(150 * DAY)];
    prop_oneof![
        6 => (expiry.clone(), prop_oneof![Just("k1"), Just("k2")]).prop_map(|(at, key)| Seen::Dated(at, key)),
        1 => Just(Seen::Never),
        2 => Just(Seen::Fails(FailureReason::Unauthorized)),
        1 => Just(Seen::Fails(FailureReason::Forbidden)),
        1 => expiry.prop_map(Seen::ForbiddenBut),
        3 => Just(Seen::Fails(FailureReason::Timeout)),
        1 => Just(Seen::Fails(FailureReason::HeaderMissing)),
        1 => Just(Seen::OtherContact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// The steps that people are told are those of the reference, at the minute of the crossing, and none twice.
    #[test]
    fn steps_are_told_as_the_reference_model_says(
        history in prop::collection::vec((1..12 * DAY, seen()), 1..40)
    ) {
        let mut watched = Watched::new(policy(NO_REPEAT));
        let mut model = Model { history: Vec::new() };
        let mut expected: Vec<Fact> = Vec::new();
        let (mut now, mut reached, mut rejected, mut fire) = (0, 0, false, None::<bool>);
        for (wait, seen) in history {
            let before = now;
            now += wait;
            let (accepted, _) = model.accepted(model.history.len());
            // Between two probes, time alone crosses steps.
            if let Some(expiry) = accepted.filter(|it| *it < i64::MAX && !rejected) {
                for minute in crossed(expiry, before, now, &seen) {
                    if reached < band(expiry - minute) {
                        reached = band(expiry - minute);
                        expected.push(fact(minute, reached, &mut fire));
                    }
                }
            }
            model.history.push((now, seen.clone()));
            let n = model.history.len();
            let ((was, lives_before), renewed) = (model.accepted(n - 1), model.accepted(n));
            if was.is_some() && lives_before < renewed.1 {
                if fire.take().is_some() {
                    expected.push((now, AlertName::CredentialExpiring, Reason::Renewed));
                }
                reached = 0;
            } else if was == Some(i64::MAX) && renewed.0 < Some(i64::MAX) && fire.take().is_some() {
                expected.push((now, AlertName::CredentialNeverExpires, Reason::Recovered));
                reached = 0;
            }
            let dead = renewed.0.is_some_and(|it| it <= now);
            match &seen {
                Seen::Fails(FailureReason::Unauthorized) => {
                    rejected |= !dead && 2 <= model.row(n, FailureReason::Unauthorized);
                }
                Seen::Fails(FailureReason::Forbidden) | Seen::ForbiddenBut(_) => {
                    rejected &= dead || model.row(n, FailureReason::Forbidden) < 2;
                }
                Seen::Fails(_) | Seen::OtherContact => {}
                Seen::Dated(..) | Seen::Never | Seen::Undated | Seen::Skewed(..) => rejected = false,
            }
            if seen != Seen::OtherContact && !rejected {
                match renewed.0 {
                    Some(i64::MAX) if fire.is_none() => {
                        fire = Some(true);
                        expected.push((now, AlertName::CredentialNeverExpires, Reason::New));
                    }
                    Some(expiry) if expiry < i64::MAX && reached < band(expiry - now) => {
                        reached = band(expiry - now);
                        expected.push(fact(now, reached, &mut fire));
                    }
                    Some(_) | None => {}
                }
            }
            watched.pass_until(minutes(now));
            watched.see(&seen, minutes(now));
        }
        let lifetime = [AlertName::CredentialExpiring, AlertName::CredentialExpired, AlertName::CredentialNeverExpires];
        let told: Vec<Fact> = watched
            .told
            .iter()
            .filter(|it| lifetime.contains(&it.name))
            .map(|it| match it.reason {
                Reason::Renewed => ((it.at - start()).num_minutes(), AlertName::CredentialExpiring, it.reason),
                _ => ((it.at - start()).num_minutes(), it.name, it.reason),
            })
            .collect();
        prop_assert_eq!(told, expected);
    }

    /// Every alert opens before it ends, and nothing opens twice.
    #[test]
    fn alerts_open_and_end_in_turn(history in prop::collection::vec((1..3 * DAY, seen()), 1..60)) {
        let mut watched = Watched::new(policy(NO_REPEAT));
        let mut now = 0;
        for (wait, seen) in history {
            now += wait;
            watched.pass_until(minutes(now));
            watched.see(&seen, minutes(now));
        }
        let mut open: BTreeMap<AlertName, usize> = BTreeMap::new();
        for it in &watched.told {
            // Expiring becomes expired without an end; both are ended by the renewal.
            let name = match it.name {
                AlertName::CredentialExpired => AlertName::CredentialExpiring,
                name => name,
            };
            let count = open.entry(name).or_default();
            match it.reason {
                Reason::New if name == AlertName::CredentialExpiryUnknown || name == AlertName::CredentialForbidden => *count = 1,
                Reason::New => { prop_assert_eq!(*count, 0); *count = 1; }
                Reason::Escalated | Reason::Repeat => prop_assert_eq!(*count, 1),
                Reason::Renewed | Reason::Recovered | Reason::Removed | Reason::Test => { prop_assert_eq!(*count, 1); *count = 0; }
            }
        }
    }
}

/// At which minutes between two probes time alone crosses a step. That of the second is its own, unless it does not look
/// at this credential.
fn crossed(expiry: i64, before: i64, now: i64, seen: &Seen) -> impl Iterator<Item = i64> {
    let end = now + i64::from(*seen == Seen::OtherContact);
    let minutes = [30 * DAY, 14 * DAY, 7 * DAY, DAY, 0].map(|it| expiry - it);
    minutes.into_iter().filter(move |it| before < *it && *it < end)
}

fn fact(at: i64, band: usize, fire: &mut Option<bool>) -> Fact {
    let name = if band == 5 { AlertName::CredentialExpired } else { AlertName::CredentialExpiring };
    let reason = if fire.replace(true).is_some() { Reason::Escalated } else { Reason::New };
    (at, name, reason)
}
