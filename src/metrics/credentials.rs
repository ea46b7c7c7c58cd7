//! The families about credentials and their probes. Pure.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::family::{self, Value};
use crate::config::{CredentialKind, Policy, Severity};
use crate::observation::Reading;
use crate::status::CredentialStatus;

/// Labels that are ours on `ece_credential_info`; a free label of the same name is left out.
const OWN_LABELS: [&str; 5] = ["platform", "credential", "kind", "key_id", "team"];

const MILLIS_PER_DAY: f64 = 86_400_000.0;

type Rows = [Arc<CredentialStatus>];

/// Writes the families about credentials, then those about their probes.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &Rows,
    now: DateTime<Utc>,
) -> fmt::Result {
    info(encoder, rows)?;
    expiry(encoder, rows, now)?;
    thresholds(encoder, rows)?;
    alerts(encoder, rows)?;
    last_probe(encoder, rows)?;
    schedule(encoder, rows)?;
    failure_reason(encoder, rows)?;
    totals(encoder, rows)
}

fn info(encoder: &mut DescriptorEncoder<'_>, rows: &Rows) -> fmt::Result {
    let mut family = family::info(
        encoder,
        "ece_credential",
        "Constant 1; carries the descriptive labels of a configured credential. Join on platform and credential",
    )?;
    for row in rows {
        let own = [
            ("platform", row.id.platform.as_ref()),
            ("credential", row.id.name.as_ref()),
            ("kind", row.kind),
            ("key_id", row.key_id.as_deref().unwrap_or_default()),
            ("team", row.team.as_deref().unwrap_or_default()),
        ];
        let free = row.labels.iter().filter(|(name, _)| is_free_label(name));
        if row.labels.is_empty() {
            family.encode_info(&own)?;
        } else {
            let mut labels = own.to_vec();
            labels.extend(free.map(|(name, value)| (name.as_str(), value.as_str())));
            family.encode_info(&labels)?;
        }
    }
    Ok(())
}

/// Whether a label can stand beside ours: one that cannot would make Prometheus refuse the whole scrape.
fn is_free_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|it| it.is_ascii_alphabetic() || it == b'_')
        && bytes.all(|it| it.is_ascii_alphanumeric() || it == b'_')
        && !name.starts_with("__")
        && !OWN_LABELS.contains(&name)
}

fn expiry(encoder: &mut DescriptorEncoder<'_>, rows: &Rows, now: DateTime<Utc>) -> fmt::Result {
    gauges(
        encoder,
        rows,
        ("ece_credential_expiry_timestamp", Some(&Unit::Seconds)),
        "Unix time at which the credential expires, as ECE last reported it (cached between probes; kept while probes fail). Absent if the credential never expires or no expiry has been seen",
        |row| expires_at(row).map(Value::at),
    )?;
    let days = Unit::Other("days".into());
    gauges(
        encoder,
        rows,
        ("ece_credential_expiry", Some(&days)),
        "Days until the credential expires, computed at scrape time from ece_credential_expiry_timestamp_seconds; negative once expired. Absent under the same conditions",
        |row| expires_at(row).map(|at| Value::Real(days_left(at, now))),
    )?;
    gauges(
        encoder,
        rows,
        ("ece_credential_expiry_known", None),
        "1 if a probe has ever told when (or that never) the credential expires, 0 if the expiry is unknown. Absent for a login and for a list (inventory, deployments), which have no expiry",
        |row| has_expiry(row).then(|| Value::flag(row.reading.is_some())),
    )?;
    gauges(
        encoder,
        rows,
        ("ece_credential_never_expires", None),
        "1 if ECE reported the credential as never expiring, 0 otherwise",
        |row| Some(Value::flag(row.reading == Some(Reading::Never))),
    )?;
    gauges(
        encoder,
        rows,
        ("ece_credential_expiry_observed_timestamp", Some(&Unit::Seconds)),
        "Unix time at which the expiry was last confirmed by a response of ECE, 0 if never",
        |row| Some(Value::at_or_zero(row.observed_at)),
    )
}

/// Whether it is of a kind that has an expiry.
fn has_expiry(row: &CredentialStatus) -> bool {
    !CredentialKind::WITHOUT_EXPIRY.contains(&row.kind)
}

fn expires_at(row: &CredentialStatus) -> Option<DateTime<Utc>> {
    match row.reading {
        Some(Reading::ExpiresAt(at)) => Some(at),
        Some(Reading::Never | Reading::Undated) | None => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a day off in the year 285,000 does no harm")]
fn days_left(at: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    (at - now).num_milliseconds() as f64 / MILLIS_PER_DAY
}

fn thresholds(encoder: &mut DescriptorEncoder<'_>, rows: &Rows) -> fmt::Result {
    let mut family = family::gauge(
        encoder,
        "ece_credential_threshold",
        Some(&Unit::Seconds),
        "Remaining lifetime below which the built-in alerter raises the given severity for this credential. Absent for a login, of which ECE tells no expiry",
    )?;
    for row in rows.iter().filter(|it| it.kind != CredentialKind::LOGIN) {
        for severity in Severity::ALL {
            let Some(threshold) = threshold(&row.policy, severity) else { continue };
            family
                .encode_family(&with(row, "severity", severity.label()))?
                .encode_gauge(&threshold)?;
        }
    }
    Ok(())
}

/// The earliest step of a severity: from there on the alert has at least that severity.
fn threshold(policy: &Policy, severity: Severity) -> Option<Value> {
    let steps = policy.steps.iter().filter(|it| it.severity == severity);
    steps.map(|it| it.before).max().map(Value::seconds)
}

fn alerts(encoder: &mut DescriptorEncoder<'_>, rows: &Rows) -> fmt::Result {
    let mut family = family::gauge(
        encoder,
        "ece_credential_alert_firing",
        None,
        "1 if the built-in alerter currently has a firing alert of the given severity for this credential, 0 otherwise",
    )?;
    for row in rows {
        for severity in Severity::ALL {
            let firing = row.alerts.iter().any(|it| it.severity == severity);
            family
                .encode_family(&with(row, "severity", severity.label()))?
                .encode_gauge(&Value::flag(firing))?;
        }
    }
    Ok(())
}

/// What the last finished probe showed; a credential that was never probed has none of these, so that nothing looks
/// as if it failed in the first seconds.
fn last_probe(encoder: &mut DescriptorEncoder<'_>, rows: &Rows) -> fmt::Result {
    gauges(
        encoder,
        rows,
        ("ece_probe_success", None),
        "1 if the last finished probe authenticated and read the expiry, 0 otherwise",
        |row| row.last_run.map(|_| Value::flag(row.failure.is_none())),
    )?;
    gauges(
        encoder,
        rows,
        ("ece_probe_duration", Some(&Unit::Seconds)),
        "Duration of the last finished probe, retries included",
        |row| row.last_run.map(|_| Value::seconds(row.took)),
    )?;
    gauges(
        encoder,
        rows,
        ("ece_probe_http_status_code", None),
        "HTTP status code of the last finished probe, 0 if no response was received",
        |row| row.last_run.map(|_| Value::count(row.http_status.unwrap_or(0))),
    )?;
    gauges(
        encoder,
        rows,
        ("ece_probe_last_run_timestamp", Some(&Unit::Seconds)),
        "Unix time at which the last probe finished, 0 if none has",
        |row| Some(Value::at_or_zero(row.last_run)),
    )?;
    gauges(
        encoder,
        rows,
        ("ece_probe_last_success_timestamp", Some(&Unit::Seconds)),
        "Unix time at which the last successful probe finished, 0 if none has",
        |row| Some(Value::at_or_zero(row.last_success)),
    )
}

fn schedule(encoder: &mut DescriptorEncoder<'_>, rows: &Rows) -> fmt::Result {
    gauges(
        encoder,
        rows,
        ("ece_probe_next_run_timestamp", Some(&Unit::Seconds)),
        "Unix time at which the next probe is scheduled",
        |row| row.next_run.map(Value::at),
    )?;
    gauges(
        encoder,
        rows,
        ("ece_probe_interval", Some(&Unit::Seconds)),
        "Longest planned gap between two probes of this credential, from its schedule",
        |row| Some(Value::seconds(row.interval)),
    )
}

fn failure_reason(encoder: &mut DescriptorEncoder<'_>, rows: &Rows) -> fmt::Result {
    let mut family = family::gauge(
        encoder,
        "ece_probe_failure_reason",
        None,
        "Constant 1 while the last finished probe is a failure; exactly one reason per failing credential",
    )?;
    for row in rows {
        let (Some((reason, _)), Some(_)) = (&row.failure, row.last_run) else { continue };
        family
            .encode_family(&with(row, "reason", reason.label()))?
            .encode_gauge(&Value::flag(true))?;
    }
    Ok(())
}

fn totals(encoder: &mut DescriptorEncoder<'_>, rows: &Rows) -> fmt::Result {
    let mut family = family::counter(encoder, "ece_probes", "Probes finished")?;
    for row in rows {
        family::count(&mut family.encode_family(&labels(row))?, row.probes_total)?;
    }
    let mut family =
        family::counter(encoder, "ece_probe_failures", "Probes finished without success")?;
    for row in rows {
        family::count(&mut family.encode_family(&labels(row))?, row.probe_failures_total)?;
    }
    Ok(())
}

/// A family of gauges with at most one sample per credential.
fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &Rows,
    (name, unit): (&str, Option<&Unit>),
    help: &str,
    value: impl Fn(&CredentialStatus) -> Option<Value>,
) -> fmt::Result {
    let mut family = family::gauge(encoder, name, unit, help)?;
    for row in rows {
        if let Some(value) = value(row) {
            family.encode_family(&labels(row))?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

fn labels(row: &CredentialStatus) -> [(&'static str, &str); 2] {
    [("platform", &row.id.platform), ("credential", &row.id.name)]
}

fn with<'r>(
    row: &'r CredentialStatus,
    name: &'static str,
    value: &'static str,
) -> [(&'static str, &'r str); 3] {
    [("platform", &row.id.platform), ("credential", &row.id.name), (name, value)]
}
