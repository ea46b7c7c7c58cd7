//! Steps and policies: when somebody is told.

use std::sync::Arc;
use std::time::Duration;

use super::keys::{POLICY, REPEATS};
use super::reader::{Fields, Reader};
use super::receivers::{Receivers, references};
use super::{Policy, Reminder, Repeat, Severity, Step};
use crate::schedule::{format_duration, parse_duration};

/// The most steps of one policy; nobody acts on more.
const STEPS_MAX: usize = 16;

/// The most reminders of one policy; nobody tells more paces apart.
const REMINDERS_MAX: usize = 16;

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
        reminders: Vec::new(),
        escalations: Vec::new(),
    }
}

/// `above`, with steps and policy replaced by what `fields` say.
pub(super) fn policy(
    reader: &mut Reader,
    fields: &Fields<'_>,
    above: &Arc<Policy>,
    receivers: &Receivers,
) -> Arc<Policy> {
    let mut policy = Policy::clone(&with_steps(reader, fields, above, receivers));
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
        if let Some(reminders) = reminders(reader, &fields) {
            policy.reminders = reminders;
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

/// `above`, with the steps replaced by those of `fields`, if there are any.
pub(super) fn with_steps(
    reader: &mut Reader,
    fields: &Fields<'_>,
    above: &Arc<Policy>,
    receivers: &Receivers,
) -> Arc<Policy> {
    match steps(reader, fields, receivers) {
        Some((steps, escalations)) if steps != above.steps || escalations != above.escalations => {
            Arc::new(Policy { steps, escalations, ..Policy::clone(above) })
        }
        _ => Arc::clone(above),
    }
}

/// The steps, and who is told too from some of them on.
type Steps = (Vec<Step>, Vec<(Duration, Vec<Arc<str>>)>);

/// The steps, longest first; `None` when the key was not written or is wrong.
fn steps(reader: &mut Reader, fields: &Fields<'_>, receivers: &Receivers) -> Option<Steps> {
    let item = fields.get("steps")?;
    let mut steps: Vec<(Step, Fields<'_>)> = Vec::new();
    let mut escalations = Vec::new();
    for fields in reader.many(fields, "steps")? {
        let before = reader.duration(&fields, "before");
        let severity = reader.choice(&fields, "severity").and_then(Severity::parse);
        let told = references(reader, &fields, "escalate_to", receivers);
        if let (Some(before), Some(severity)) = (before, severity) {
            steps.push((Step { before, severity }, fields));
            if !told.is_empty() {
                escalations.push((before, told));
            }
        }
    }
    if STEPS_MAX < steps.len() {
        let message = format!("has {} steps; at most {STEPS_MAX} are allowed", steps.len());
        reader.problem(&item, message, "keep those that somebody acts on");
        return None;
    }
    steps.sort_by_key(|(step, fields)| (std::cmp::Reverse(step.before), fields.place));
    escalations.sort_by_key(|(before, _)| std::cmp::Reverse(*before));
    steps.windows(2).for_each(|pair| compare(reader, &pair[0], &pair[1]));
    Some((steps.into_iter().map(|(step, _)| step).collect(), escalations))
}

/// Notes what is wrong with two steps that follow each other.
fn compare(
    reader: &mut Reader,
    (longer, _): &(Step, Fields<'_>),
    (shorter, fields): &(Step, Fields<'_>),
) {
    let (before, severity) = (format_duration(shorter.before), shorter.severity.label());
    let (message, hint) = if longer.before == shorter.before {
        (format!("a step {before} before the expiry is given twice"), "remove one of them")
    } else if shorter.severity < longer.severity {
        let (milder, than) = (format_duration(longer.before), longer.severity.label());
        let message = format!(
            "{severity} at {before} is milder than {than} at {milder}, although less time is left"
        );
        (message, "severity may only rise towards the expiry")
    } else {
        return;
    };
    reader.problems.add(fields.place, &fields.path, message, hint);
}

/// The reminders, longest first; `None` when the key was not written or is wrong.
fn reminders(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<Reminder>> {
    let item = fields.get("reminders")?;
    let mut reminders: Vec<Reminder> = Vec::new();
    for fields in reader.many(fields, "reminders")? {
        let (left, every) = (reader.duration(&fields, "left"), reader.duration(&fields, "every"));
        let (Some(left), Some(every)) = (left, every) else { continue };
        if reminders.iter().any(|it| it.left == left) {
            let message = format!("reminders from {} on are given twice", format_duration(left));
            reader.problems.add(fields.place, &fields.path, message, "remove one of them");
        }
        reminders.push(Reminder { left, every });
    }
    if REMINDERS_MAX < reminders.len() {
        let message =
            format!("has {} reminders; at most {REMINDERS_MAX} are allowed", reminders.len());
        reader.problem(&item, message, "keep those whose pace is another");
        return None;
    }
    reminders.sort_by_key(|it| std::cmp::Reverse(it.left));
    Some(reminders)
}
