//! Steps and policies: when somebody is told.

use std::sync::Arc;
use std::time::Duration;

use super::keys::{POLICY, REPEATS};
use super::reader::{Fields, Reader};
use super::{Policy, Repeat, Severity, Step};
use crate::schedule::{format_duration, parse_duration};

/// The most steps of one policy; nobody acts on more.
const STEPS_MAX: usize = 16;

/// The steps without any configuration.
const STEPS_DEFAULT: [(u64, Severity); 4] = [
    (30, Severity::Info),
    (14, Severity::Warning),
    (7, Severity::Critical),
    (1, Severity::Critical),
];

/// The policy without any configuration.
pub(super) fn policy_default() -> Policy {
    let step = |(days, severity)| Step { before: Duration::from_secs(days * 86_400), severity };
    let repeat = |severity: Severity| parse_duration(REPEATS.default_of(severity.label())).ok();
    let failures = POLICY.default_of("failures_before_alert").parse();
    Policy {
        steps: STEPS_DEFAULT.into_iter().map(step).collect(),
        never_expires: Severity::parse(POLICY.default_of("never_expires")),
        failures_before_alert: failures.expect("the default in the table is a number"),
        repeat: Repeat {
            critical: repeat(Severity::Critical),
            warning: repeat(Severity::Warning),
            info: repeat(Severity::Info),
        },
    }
}

/// `above`, with steps and policy replaced by what `fields` say.
pub(super) fn policy(reader: &mut Reader, fields: &Fields<'_>, above: &Arc<Policy>) -> Arc<Policy> {
    let mut policy = Policy::clone(above);
    if let Some(steps) = steps(reader, fields) {
        policy.steps = steps;
    }
    if let Some(fields) = reader.one(fields, "policy") {
        if fields.has("never_expires")
            && let Some(choice) = reader.choice(&fields, "never_expires")
        {
            policy.never_expires = Severity::parse(choice);
        }
        if fields.has("failures_before_alert")
            && let Some(number) = reader.number(&fields, "failures_before_alert")
        {
            policy.failures_before_alert = number;
        }
        if let Some(fields) = reader.one(&fields, "repeat") {
            let Repeat { critical, warning, info } = &mut policy.repeat;
            for (key, target) in [("critical", critical), ("warning", warning), ("info", info)] {
                if fields.has(key)
                    && let Some(every) = reader.duration_or_never(&fields, key)
                {
                    *target = every;
                }
            }
        }
    }
    // Equal policies share one allocation; there can be ten thousand.
    if policy == **above { Arc::clone(above) } else { Arc::new(policy) }
}

/// The steps, longest first; `None` when the key was not written or is wrong.
pub(super) fn steps(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<Step>> {
    let item = fields.get("steps")?;
    let mut steps: Vec<(Step, Fields<'_>)> = Vec::new();
    for fields in reader.many(fields, "steps")? {
        let before = reader.duration(&fields, "before");
        let severity = reader.choice(&fields, "severity").and_then(Severity::parse);
        if let (Some(before), Some(severity)) = (before, severity) {
            steps.push((Step { before, severity }, fields));
        }
    }
    if STEPS_MAX < steps.len() {
        let message = format!("has {} steps; at most {STEPS_MAX} are allowed", steps.len());
        reader.problem(&item, message, "keep those that somebody acts on");
        return None;
    }
    steps.sort_by_key(|(step, fields)| (std::cmp::Reverse(step.before), fields.place));
    for pair in steps.windows(2) {
        let ((longer, _), (shorter, fields)) = (&pair[0], &pair[1]);
        let (before, severity) = (format_duration(shorter.before), shorter.severity.label());
        if longer.before == shorter.before {
            let message = format!("a step {before} before the expiry is given twice");
            reader.problems.add(fields.place, &fields.path, message, "remove one of them");
        } else if shorter.severity < longer.severity {
            let (milder, than) = (format_duration(longer.before), longer.severity.label());
            let message = format!(
                "{severity} at {before} is milder than {than} at {milder}, although less time is left"
            );
            reader.problems.add(
                fields.place,
                &fields.path,
                message,
                "severity may only rise towards the expiry",
            );
        }
    }
    Some(steps.into_iter().map(|(step, _)| step).collect())
}
