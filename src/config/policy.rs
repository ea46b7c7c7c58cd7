//! When somebody is told about a credential: steps, reminders, severities. Pure.
//!
//! What is told at a moment is decided in `alert`, from these.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::time;

/// How bad: `info` is for reports, `warning` for a ticket, `critical` wakes somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Act within days.
    Warning,
    /// Act now.
    Critical,
}

impl Severity {
    /// All severities, mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The label value: `info`, `warning`, `critical`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of a label value.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.label() == label)
    }
}

/// When somebody is told about a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The steps, longest `before` first; at least one, no two alike, severities never fall towards the expiry.
    pub steps: Vec<Step>,
    /// Severity of a key that never expires; `None` is `ignore`.
    pub never_expires: Option<Severity>,
    /// Probe failures in a row before "cannot check"; at least 1.
    pub failures_before_alert: u32,
    /// How often an alert of each severity is repeated while it lasts.
    pub repeat: Repeat,
    /// How often is reminded of a credential that runs out, in place of `repeat`: longest `left` first, no two alike.
    /// Before the first, and if there is none, `repeat` holds.
    pub reminders: Vec<Reminder>,
    /// Who is told too from a step on: the step's `before` and its receivers, longest first. Steps that tell nobody more
    /// are not in it.
    pub escalations: Vec<(Duration, Vec<Arc<str>>)>,
}

impl Policy {
    /// The most urgent step that is crossed with `left` to live; none before the first.
    pub fn crossed(&self, left: chrono::TimeDelta) -> Option<Step> {
        self.steps.iter().rev().find(|step| left <= crate::time::delta(step.before)).copied()
    }

    /// When somebody who was told at `told_at` is reminded, if nothing changes; `None` is never. `expires_at` is the expiry
    /// for an alert about running out, whose reminders come by the time that is left.
    pub fn reminded_at(
        &self,
        severity: Severity,
        told_at: DateTime<Utc>,
        expires_at: Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        let repeated = self.repeat.of(severity).map(|every| time::add(told_at, every));
        let Some(expires_at) = expires_at else { return repeated };
        let begins = |it: &Reminder| {
            let at = expires_at.checked_sub_signed(time::delta(it.left));
            at.unwrap_or(DateTime::<Utc>::MIN_UTC)
        };
        let until =
            |index: usize| self.reminders.get(index).map_or(DateTime::<Utc>::MAX_UTC, begins);
        // Each cadence holds until the next one begins, and then takes effect at once.
        let of_cadence = |(index, it): (usize, &Reminder)| {
            let at = time::add(told_at, it.every).max(begins(it));
            Some(at).filter(|at| *at < until(index + 1))
        };
        let first = repeated.filter(|at| *at < until(0));
        first.or_else(|| self.reminders.iter().enumerate().find_map(of_cadence))
    }

    /// Who is told too at this stage: the receivers of the step that is reached and of all longer ones, in this order,
    /// none twice.
    pub fn escalated_to(&self, stage: Stage) -> Vec<&Arc<str>> {
        let is_reached = |before: Duration| match stage {
            Stage::NoStep => false,
            Stage::Step(reached) => reached <= before,
            Stage::Expired => true,
        };
        let mut told = Vec::new();
        let reached = self.escalations.iter().filter(|(before, _)| is_reached(*before));
        for receiver in reached.flat_map(|(_, receivers)| receivers) {
            if !told.contains(&receiver) {
                told.push(receiver);
            }
        }
        told
    }
}

/// How much of its life a credential has used up, as far as the steps of a policy tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No step is reached, or the alert is not about running out.
    NoStep,
    /// The step with this `before` is the last that is reached.
    Step(Duration),
    /// It has expired: all steps are reached.
    Expired,
}

/// How often is reminded of a credential that runs out, from some time before its expiry on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reminder {
    /// From when less than this is left.
    pub left: Duration,
    /// How often from then on.
    pub every: Duration,
}

/// One threshold of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The step is crossed when less than this is left.
    pub before: Duration,
    /// The severity from then on.
    pub severity: Severity,
}

/// How often an alert is repeated while it lasts; `None` is never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repeat {
    /// For `critical`.
    pub critical: Option<Duration>,
    /// For `warning`.
    pub warning: Option<Duration>,
    /// For `info`.
    pub info: Option<Duration>,
}

impl Repeat {
    /// The interval for `severity`.
    pub fn of(&self, severity: Severity) -> Option<Duration> {
        match severity {
            Severity::Critical => self.critical,
            Severity::Warning => self.warning,
            Severity::Info => self.info,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_come_by_the_time_that_is_left() {
        let hours = |it: u64| Duration::from_secs(it * 3600);
        let at = |hour: i64| crate::time::from_ms(1_795_000_000_000 + hour * 3_600_000);
        let reminder = |left, every| Reminder { left: hours(left), every: hours(every) };
        let policy = Policy {
            reminders: vec![reminder(336, 48), reminder(72, 12)],
            repeat: Repeat { warning: Some(hours(72)), ..Repeat::default() },
            ..crate::config::policies::policy_default()
        };
        let expires_at = Some(at(1_000));
        let next = |told| policy.reminded_at(Severity::Warning, at(told), expires_at);
        assert_eq!(next(500), Some(at(572)), "before the first cadence `repeat` holds");
        assert_eq!(next(600), Some(at(664)), "the first cadence takes effect when it begins");
        assert_eq!(next(664), Some(at(712)));
        assert_eq!(next(900), Some(at(928)), "a shorter cadence does not wait for the longer one");
        assert_eq!(next(928), Some(at(940)));
        assert_eq!(next(1_010), Some(at(1_022)), "and goes on behind the expiry");
        assert_eq!(policy.reminded_at(Severity::Info, at(0), None), None);
        assert_eq!(policy.reminded_at(Severity::Info, at(0), expires_at), Some(at(664)));
        assert_eq!(policy.reminded_at(Severity::Warning, at(0), None), Some(at(72)));
    }

    #[test]
    fn who_is_told_at_a_step_is_told_at_every_later_one() {
        let days = |it: u64| Duration::from_secs(it * 86_400);
        let names = |it: &[&str]| it.iter().map(|it| Arc::from(*it)).collect::<Vec<Arc<str>>>();
        let policy = Policy {
            escalations: vec![
                (days(7), names(&["lead", "desk"])),
                (days(1), names(&["boss", "lead"])),
            ],
            ..crate::config::policies::policy_default()
        };
        let told = |stage| {
            let told = policy.escalated_to(stage);
            told.into_iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(" ")
        };
        assert_eq!(told(Stage::NoStep), "");
        assert_eq!(told(Stage::Step(days(14))), "");
        assert_eq!(told(Stage::Step(days(7))), "lead desk");
        assert_eq!(told(Stage::Step(days(2))), "lead desk");
        assert_eq!(told(Stage::Step(days(1))), "lead desk boss");
        assert_eq!(told(Stage::Expired), "lead desk boss");
    }
}
