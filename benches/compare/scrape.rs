//! Rendering a scrape of many credentials, against a formatter that is written by hand for the same bytes.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::config::{CredentialId, Policy, Repeat, Severity, Step};
use ece_expiry_exporter::metrics::{Format, Telemetry, render};
use ece_expiry_exporter::observation::Reading;
use ece_expiry_exporter::status::{CredentialStatus, Snapshot};
use ece_expiry_exporter::time;

use crate::by_hand::ByHand;
use crate::{Effort, Line, median};

pub fn measure(effort: Effort) -> [Line; 2] {
    [
        (
            Format::OpenMetrics,
            "a scrape of 10,000 credentials, OpenMetrics; against write! by hand",
        ),
        (Format::Text, "a scrape of 10,000 credentials, text 0.0.4; against write! by hand"),
    ]
    .map(|(format, what)| {
        let now = time::from_ms(1_795_496_400_000);
        let telemetry = Telemetry::new(now);
        let snapshot = snapshot(effort.credentials, now);
        let by_hand = ByHand::new(&snapshot, &telemetry, now, format);
        let rendered = render(&snapshot, &telemetry, now, format).unwrap();
        for (ours, theirs) in rendered.lines().zip(by_hand.credentials(&snapshot, now).lines()) {
            assert_eq!(ours, theirs, "the formatter by hand writes something else");
        }

        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds * 3 {
            theirs.push(millis(|| by_hand.render(&snapshot, now)));
            ours.push(millis(|| render(&snapshot, &telemetry, now, format).unwrap()));
        }
        let (ours, theirs) = (median(ours), median(theirs));
        Line {
            what,
            ours: format!("{ours:.1} ms"),
            reference: format!("{theirs:.1} ms"),
            ratio: Some(ours / theirs),
            wanted: "≤ 3",
        }
    })
}

fn millis(write: impl FnOnce() -> String) -> f64 {
    let started = Instant::now();
    black_box(write());
    started.elapsed().as_secs_f64() * 1e3
}

/// All fractions are exact in binary: two encoders may differ in the last digit of others.
fn snapshot(credentials: usize, now: DateTime<Utc>) -> Snapshot {
    let step = |days: u64, severity| Step { before: Duration::from_secs(days * 86_400), severity };
    let policy = Arc::new(Policy {
        steps: vec![
            step(30, Severity::Info),
            step(14, Severity::Warning),
            step(7, Severity::Critical),
        ],
        never_expires: Some(Severity::Info),
        failures_before_alert: 3,
        repeat: Repeat::default(),
        reminders: Vec::new(),
        escalations: Vec::new(),
    });
    let platform: Arc<str> = "prod".into();
    let rows = (0..i32::try_from(credentials).unwrap())
        .map(|n| {
            let at = now - TimeDelta::milliseconds(i64::from(n) * 125);
            Arc::new(CredentialStatus {
                id: CredentialId {
                    platform: platform.clone(),
                    name: format!("pipeline-{n:05}").into(),
                },
                kind: "api_key",
                team: Some(format!("team-{}", n % 50)),
                labels: BTreeMap::new(),
                used_by: Vec::new(),
                renewal_note: None,
                policy: policy.clone(),
                key_id: Some(format!("Jx{n:016x}")),
                reading: Some(Reading::ExpiresAt(now + TimeDelta::minutes(i64::from(n) * 45))),
                observed_at: Some(at),
                last_run: Some(at),
                last_success: Some(at),
                next_run: Some(at + TimeDelta::minutes(15)),
                interval: Duration::from_secs(900),
                took: Duration::from_millis(125 + u64::from(n.unsigned_abs()) % 7 * 125),
                http_status: Some(200),
                failure: None,
                probes_total: 12,
                probe_failures_total: 0,
                alerts: Vec::new(),
            })
        })
        .collect();
    Snapshot { credentials: rows, ..Snapshot::default() }
}
