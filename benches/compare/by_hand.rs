//! The exposition of credentials, written by hand with `write!`: what rendering costs when nothing is general.
//!
//! It knows the families and takes their headers from a rendered exposition. It escapes nothing and knows no failures,
//! so it has less to do than the program.

use std::fmt::{Display, Write as _};

use chrono::{DateTime, Utc};
use ece_expiry_exporter::config::Severity;
use ece_expiry_exporter::metrics::{Format, Telemetry, render};
use ece_expiry_exporter::observation::Reading;
use ece_expiry_exporter::status::{CredentialStatus, Snapshot};

type Family = fn(&mut String, &CredentialStatus, DateTime<Utc>);

/// In the order of the exposition.
const FAMILIES: [Family; 18] = [
    info,
    |out, row, _| at(out, "ece_credential_expiry_timestamp_seconds", row, expires_at(row)),
    |out, row, now| {
        #[expect(clippy::cast_precision_loss, reason = "as the program does")]
        let days = expires_at(row).map(|at| (at - now).num_milliseconds() as f64 / 86_400_000.0);
        real(out, "ece_credential_expiry_days", row, days.unwrap_or_default());
    },
    |out, row, _| one(out, "ece_credential_expiry_known", row, u8::from(row.reading.is_some())),
    |out, row, _| {
        let never = row.reading == Some(Reading::Never);
        one(out, "ece_credential_never_expires", row, u8::from(never));
    },
    |out, row, _| {
        at(out, "ece_credential_expiry_observed_timestamp_seconds", row, row.observed_at);
    },
    thresholds,
    alerts,
    |out, row, _| one(out, "ece_probe_success", row, u8::from(row.failure.is_none())),
    |out, row, _| real(out, "ece_probe_duration_seconds", row, row.took.as_secs_f64()),
    |out, row, _| one(out, "ece_probe_http_status_code", row, row.http_status.unwrap_or(0)),
    |out, row, _| at(out, "ece_probe_last_run_timestamp_seconds", row, row.last_run),
    |out, row, _| at(out, "ece_probe_last_success_timestamp_seconds", row, row.last_success),
    |out, row, _| at(out, "ece_probe_next_run_timestamp_seconds", row, row.next_run),
    |out, row, _| one(out, "ece_probe_interval_seconds", row, row.interval.as_secs()),
    |_, _, _| {},
    |out, row, _| one(out, "ece_probes_total", row, row.probes_total),
    |out, row, _| one(out, "ece_probe_failures_total", row, row.probe_failures_total),
];

/// What does not depend on the credentials.
pub struct ByHand {
    headers: Vec<String>,
    rest: String,
    size: usize,
}

impl ByHand {
    /// Learns headers, the families about the exporter and the size from one exposition.
    pub fn new(
        snapshot: &Snapshot,
        telemetry: &Telemetry,
        now: DateTime<Utc>,
        format: Format,
    ) -> Self {
        let size = render(snapshot, telemetry, now, format).unwrap().len();
        let empty = render(&Snapshot::default(), telemetry, now, format).unwrap();
        let mut headers: Vec<String> =
            empty.split_inclusive("# HELP ").map(|it| it.replace("# HELP ", "")).collect();
        headers.remove(0);
        let rest = headers.split_off(FAMILIES.len());
        let headers = headers.into_iter().map(|it| format!("# HELP {it}")).collect();
        Self { headers, rest: format!("# HELP {}", rest.join("# HELP ")), size }
    }

    /// The whole exposition.
    pub fn render(&self, snapshot: &Snapshot, now: DateTime<Utc>) -> String {
        let mut out = self.credentials(snapshot, now);
        out.push_str(&self.rest);
        out
    }

    /// The families about credentials.
    pub fn credentials(&self, snapshot: &Snapshot, now: DateTime<Utc>) -> String {
        let mut out = String::with_capacity(self.size);
        for (header, family) in self.headers.iter().zip(FAMILIES) {
            out.push_str(header);
            for row in &snapshot.credentials {
                family(&mut out, row, now);
            }
        }
        out
    }
}

fn info(out: &mut String, row: &CredentialStatus, _: DateTime<Utc>) {
    let CredentialStatus { id, kind, key_id, team, .. } = row;
    let (key_id, team) = (key_id.as_deref().unwrap_or(""), team.as_deref().unwrap_or(""));
    writeln!(
        out,
        "ece_credential_info{{platform=\"{}\",credential=\"{}\",kind=\"{kind}\",key_id=\"{key_id}\",team=\"{team}\"}} 1",
        id.platform, id.name
    )
    .unwrap();
}

fn thresholds(out: &mut String, row: &CredentialStatus, _: DateTime<Utc>) {
    for severity in Severity::ALL {
        let steps = row.policy.steps.iter().filter(|it| it.severity == severity);
        let Some(before) = steps.map(|it| it.before.as_secs()).max() else { continue };
        severe(out, "ece_credential_threshold_seconds", row, severity, before);
    }
}

fn alerts(out: &mut String, row: &CredentialStatus, _: DateTime<Utc>) {
    for severity in Severity::ALL {
        let firing = row.alerts.iter().any(|it| it.severity == severity);
        severe(out, "ece_credential_alert_firing", row, severity, u64::from(firing));
    }
}

fn severe(out: &mut String, name: &str, row: &CredentialStatus, severity: Severity, value: u64) {
    let (id, severity) = (&row.id, severity.label());
    writeln!(
        out,
        "{name}{{platform=\"{}\",credential=\"{}\",severity=\"{severity}\"}} {value}",
        id.platform, id.name
    )
    .unwrap();
}

fn expires_at(row: &CredentialStatus) -> Option<DateTime<Utc>> {
    match row.reading {
        Some(Reading::ExpiresAt(at)) => Some(at),
        _ => None,
    }
}

fn at(out: &mut String, name: &str, row: &CredentialStatus, at: Option<DateTime<Utc>>) {
    let at = at.unwrap_or_default();
    match at.timestamp_subsec_millis() {
        0 => one(out, name, row, at.timestamp()),
        _ => real(out, name, row, ece_expiry_exporter::time::to_seconds(at)),
    }
}

fn real(out: &mut String, name: &str, row: &CredentialStatus, value: f64) {
    let CredentialStatus { id, .. } = row;
    writeln!(out, "{name}{{platform=\"{}\",credential=\"{}\"}} {value:?}", id.platform, id.name)
        .unwrap();
}

fn one(out: &mut String, name: &str, row: &CredentialStatus, value: impl Display) {
    let CredentialStatus { id, .. } = row;
    writeln!(out, "{name}{{platform=\"{}\",credential=\"{}\"}} {value}", id.platform, id.name)
        .unwrap();
}
