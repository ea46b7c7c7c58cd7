//! What the exposition says, and whether Prometheus's own tools accept it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::alert::{AlertName, FindingKind, Found, Lifespan, State};
use ece_expiry_exporter::config::{CredentialId, ItemKind, Policy, Repeat, Severity, Step};
use ece_expiry_exporter::delivery::{Integration, Target};
use ece_expiry_exporter::metrics::{Format, Telemetry, probe_only, render};
use ece_expiry_exporter::observation::listing::Item;
use ece_expiry_exporter::observation::{FailureReason, Reading};
use ece_expiry_exporter::status::{
    CredentialStatus, DeploymentsStatus, FiringAlert, ListStatus, PlatformStatus, Snapshot,
};
use expect_test::expect_file;

use crate::promql::metrics_of;
use crate::world::{PROMTOOL_LINT, promtool};

/// A label of the configuration.
const FREE_LABEL: &str = "tier";

/// 2026-11-24 05:00:00 UTC.
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_496_400, 0).unwrap()
}

pub fn days(days: i64) -> TimeDelta {
    TimeDelta::days(days)
}

pub fn policy() -> Arc<Policy> {
    let step = |days: u64, severity| Step { before: Duration::from_secs(days * 86_400), severity };
    Arc::new(Policy {
        steps: vec![
            step(30, Severity::Info),
            step(14, Severity::Warning),
            step(7, Severity::Critical),
            step(1, Severity::Critical),
        ],
        never_expires: Some(Severity::Info),
        failures_before_alert: 3,
        repeat: Repeat::default(),
        reminders: Vec::new(),
        escalations: Vec::new(),
    })
}

/// A credential that was never probed.
pub fn unprobed(platform: &str, name: &str) -> CredentialStatus {
    CredentialStatus {
        id: CredentialId { platform: platform.into(), name: name.into() },
        kind: "api_key",
        team: Some("platform".to_owned()),
        labels: BTreeMap::new(),
        used_by: Vec::new(),
        renewal_note: None,
        policy: policy(),
        key_id: None,
        reading: None,
        observed_at: None,
        last_run: None,
        last_success: None,
        next_run: Some(now() + TimeDelta::minutes(10)),
        interval: Duration::from_secs(900),
        took: Duration::ZERO,
        http_status: None,
        failure: None,
        probes_total: 0,
        probe_failures_total: 0,
        alerts: Vec::new(),
    }
}

/// A credential that was probed five minutes ago with success.
pub fn probed(platform: &str, name: &str, reading: Reading) -> CredentialStatus {
    let at = now() - TimeDelta::minutes(5);
    CredentialStatus {
        key_id: Some(format!("id-of-{}", name.len())),
        reading: Some(reading),
        observed_at: Some(at),
        last_run: Some(at),
        last_success: Some(at),
        took: Duration::from_millis(125),
        http_status: Some(200),
        probes_total: 12,
        ..unprobed(platform, name)
    }
}

/// The same, after its last probe failed.
pub fn failed(status: CredentialStatus, reason: FailureReason, why: &str) -> CredentialStatus {
    CredentialStatus {
        last_run: Some(now() - TimeDelta::minutes(1)),
        failure: Some((reason, why.to_owned())),
        http_status: Some(401),
        probes_total: status.probes_total + 1,
        probe_failures_total: 1,
        ..status
    }
}

pub fn firing(name: AlertName, severity: Severity) -> FiringAlert {
    FiringAlert { name, severity, starts_at: now() - days(1), told_at: now() - days(1) }
}

pub fn platform(name: &str, credentials: usize) -> PlatformStatus {
    PlatformStatus {
        name: name.into(),
        urls: vec![format!("https://ece-1.{name}.example.org:12443")],
        credentials,
        clock_skew_seconds: Some(0.4),
        failures: BTreeMap::from([(FailureReason::Unauthorized, 1)]),
        rests_until: None,
        alerts: Vec::new(),
    }
}

fn small() -> Snapshot {
    let nasty = "MacBook 14\" \\ key\nof Zoë 🦀";
    let mut expired = failed(
        probed("prod", nasty, Reading::ExpiresAt(now() - days(2))),
        FailureReason::Unauthorized,
        "ECE refuses the key; create a new one",
    );
    expired.labels = BTreeMap::from([
        (FREE_LABEL.to_owned(), "1".to_owned()),
        ("team".to_owned(), "stolen".to_owned()),
        ("not-a-label".to_owned(), "x".to_owned()),
    ]);
    expired.alerts = vec![
        firing(AlertName::CredentialExpired, Severity::Critical),
        firing(AlertName::CredentialRejected, Severity::Critical),
    ];
    let watched = |name, kind, left| {
        let row = probed("prod", name, Reading::ExpiresAt(now() + days(left)));
        Arc::new(CredentialStatus { kind, key_id: None, ..row })
    };
    Snapshot {
        credentials: vec![
            Arc::new(expired),
            Arc::new(probed("prod", "ci", Reading::ExpiresAt(now() + TimeDelta::hours(36)))),
            Arc::new(probed("prod", "break-glass", Reading::Never)),
            watched("license", "license", 20),
            watched("certificate-endpoint", "certificate", 90),
            watched("certificate-ui", "certificate", 60),
            Arc::new(unprobed("dev", "sandbox")),
        ],
        platforms: vec![
            Arc::new(platform("prod", 6)),
            Arc::new(PlatformStatus {
                alerts: vec![firing(AlertName::PlatformUnreachable, Severity::Warning)],
                ..platform("dev", 1)
            }),
        ],
        lists: vec![Arc::new(inventory()), deployments()],
        ..Snapshot::default()
    }
}

/// A list of which more keys are of interest than are held.
fn inventory() -> ListStatus {
    let key = |id: &str, description: &str, reading, held_by: Option<&str>, lifespan| {
        let item = Item {
            id: id.into(),
            kind: ItemKind::ApiKey,
            place: "".into(),
            user: "marc".into(),
            description: description.into(),
            created: Some(now() - days(10)),
            reading,
        };
        let held_by = held_by.map(Arc::from);
        Arc::new(Found { item, held_by, state: State::default(), missed: 0, lifespan })
    };
    let at = |left| Some(Reading::ExpiresAt(now() + days(left)));
    ListStatus {
        id: CredentialId { platform: "prod".into(), name: "inventory".into() },
        policy: policy(),
        keys: Arc::new(vec![
            key("k-ci", "ci \"pipeline\"", at(10), None, Lifespan::Allowed),
            key("k-held", "ci", at(2), Some("ci"), Lifespan::Allowed),
            key("k-dead", "", at(-3), None, Lifespan::Allowed),
            key("k-old", "old", Some(Reading::Never), None, Lifespan::TooLong),
            key("k-odd", "odd", None, None, Lifespan::Allowed),
        ]),
        total: Some(9),
        left_out: 4,
        unreadable: 1,
        deployments: None,
        listed_at: Some(now() - TimeDelta::minutes(7)),
        findings: Arc::new(VecDeque::new()),
        found: BTreeMap::from([(FindingKind::Deleted, 2)]),
    }
}

/// Something in a list, made three months before it expires.
fn listed(id: &str, kind: ItemKind, place: &str, reading: Option<Reading>) -> Arc<Found> {
    Arc::new(Found {
        item: Item {
            id: id.into(),
            kind,
            place: place.into(),
            user: "marc".into(),
            description: "ci \"nightly\"".into(),
            created: None,
            reading,
        },
        held_by: None,
        state: State::default(),
        missed: 0,
        lifespan: Lifespan::Allowed,
    })
}

fn deployments() -> Arc<ListStatus> {
    let inside = |kind, id: &str, left| {
        let reading = Reading::ExpiresAt(now() + days(left));
        listed(&Item::id_in("62be", kind, id), kind, "logs", Some(reading))
    };
    let items = vec![
        inside(ItemKind::ElasticsearchApiKey, "VuaC", 9),
        inside(ItemKind::ElasticsearchCertificate, "certs/node.crt", 80),
        inside(ItemKind::ElasticsearchLicense, "license", -1),
    ];
    let unread = vec![("metrics".into(), "it answers 404".to_owned())];
    Arc::new(ListStatus {
        id: CredentialId { platform: "prod".into(), name: "deployments".into() },
        policy: policy(),
        total: Some(items.len()),
        left_out: 0,
        keys: Arc::new(items),
        deployments: Some(DeploymentsStatus { total: Some(2), unread }),
        unreadable: 0,
        listed_at: Some(now()),
        findings: Arc::default(),
        found: BTreeMap::new(),
    })
}

fn busy() -> Telemetry {
    let telemetry = Telemetry::new(now() - days(3));
    let target = Target {
        receiver: "oncall".into(),
        integration: Integration::Webhook,
        channel: "hook".into(),
        recipient: String::new(),
    };
    telemetry.register_targets([
        ("oncall".into(), Integration::Webhook),
        ("mail".into(), Integration::Email),
    ]);
    let replica = [("oncall".into(), 0, "am-1.example.org:9093".into())];
    telemetry.register_replicas(&replica);
    telemetry.replica_asked(&replica);
    telemetry.replica_settled(&replica, 3, None, now() - days(1));
    telemetry.replica_asked(&replica);
    telemetry.replica_failed(&replica);
    telemetry.replica_settled(&replica, 3, Some("it answered 503"), now());
    telemetry.register_heartbeat(true);
    telemetry.heartbeat_sent(now());
    telemetry.heartbeat_failed();
    telemetry.config_loaded(now() - days(3));
    telemetry.set_external_url(Some("https://expiry.example.org/ece/"));
    telemetry.config_failed();
    telemetry.scheduler_ticked(now());
    telemetry.runs_missed(2);
    telemetry.probe_started();
    telemetry.probe_started();
    telemetry.probe_finished();
    telemetry.notification_composed(&target);
    telemetry.request_made(&target);
    telemetry.request_failed(&target);
    telemetry.request_made(&target);
    telemetry.notification_delivered(&target, now(), Duration::from_secs(6));
    telemetry.notification_given_up(&target);
    telemetry.set_pending(BTreeMap::from([(
        ("mail".into(), Integration::Email),
        (1, Some(now() - TimeDelta::milliseconds(1500))),
    )]));
    telemetry.set_dead(1);
    telemetry.state_written(now());
    telemetry.state_write_failed();
    telemetry.logged(tracing::Level::ERROR);
    telemetry.logged(tracing::Level::DEBUG);
    telemetry
}

/// Everything that the program exposes.
fn exposition() -> String {
    render(&small(), &busy(), now(), Format::Text).unwrap()
}

/// Every metric that is exposed, with the names of its labels.
pub fn exposed() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in exposition().lines().filter(|it| !it.starts_with('#')) {
        for (name, labels) in metrics_of(line.rsplit_once(' ').unwrap().0) {
            found.entry(name).or_default().extend(labels);
        }
    }
    found
}

/// What the program says of a metric, which may have series of several names.
#[derive(Default)]
pub struct Family {
    pub help: String,
    pub kind: String,
    /// Those of the program, without the free ones of the configuration.
    pub labels: BTreeSet<String>,
}

/// Every metric that is exposed, as the program describes it.
pub fn families() -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut name = String::new();
    for line in exposition().lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (of, help) = rest.split_once(' ').unwrap();
            of.clone_into(&mut name);
            help.clone_into(&mut families.entry(name.clone()).or_default().help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            rest.split(' ').nth(1).unwrap().clone_into(&mut families.get_mut(&name).unwrap().kind);
        } else if let Some((series, _)) = line.rsplit_once(' ') {
            let labels = metrics_of(series).into_iter().flat_map(|(_, labels)| labels);
            let labels = labels.filter(|it| it != "le" && it != FREE_LABEL);
            families.get_mut(&name).unwrap().labels.extend(labels);
        }
    }
    families
}

/// Without what differs from run to run and from release to release.
fn stable(exposition: &str) -> String {
    exposition
        .lines()
        .filter(|it| !it.contains("process_"))
        .map(|it| it.replace(env!("CARGO_PKG_VERSION"), "VERSION") + "\n")
        .collect()
}

#[test]
fn both_formats_are_as_documented() {
    let openmetrics = render(&small(), &busy(), now(), Format::OpenMetrics).unwrap();
    expect_file!["golden/metrics.openmetrics.txt"].assert_eq(&stable(&openmetrics));
    expect_file!["golden/metrics.prom"].assert_eq(&stable(&exposition()));
}

#[test]
fn a_login_has_neither_thresholds_nor_a_known_expiry() {
    let login = CredentialStatus { kind: "login", ..probed("prod", "ops", Reading::Undated) };
    let snapshot = Snapshot { credentials: vec![Arc::new(login)], ..Snapshot::default() };
    let out = render(&snapshot, &busy(), now(), Format::Text).unwrap();
    assert!(out.contains("ece_probe_success{platform=\"prod\",credential=\"ops\"} 1\n"), "{out}");
    for family in ["ece_credential_threshold_seconds{", "ece_credential_expiry_known{"] {
        assert!(!out.contains(family), "{family}");
    }
}

#[test]
fn without_a_configured_address_there_is_none() {
    let telemetry = busy();
    telemetry.set_external_url(None);
    let out = render(&small(), &telemetry, now(), Format::Text).unwrap();
    assert!(!out.contains("external_url_info{"), "{out}");
}

#[test]
fn both_formats_hold_the_same_samples() {
    let samples = |format| -> Vec<String> {
        let out = render(&small(), &busy(), now(), format).unwrap();
        let samples = out.lines().filter(|it| !it.starts_with('#') && !it.contains("process_"));
        samples.map(str::to_owned).collect()
    };
    let samples = (samples(Format::OpenMetrics), samples(Format::Text));
    assert!(samples.0.len() > 100);
    assert_eq!(samples.0, samples.1);
}

#[test]
fn help_texts_hold_nothing_that_must_be_escaped() {
    let out = render(&small(), &busy(), now(), Format::OpenMetrics).unwrap();
    for line in out.lines().filter(|it| it.starts_with("# HELP ")) {
        assert!(!line.contains(['"', '\\']) && !line.ends_with('.'), "{line}");
        assert!(line.split(' ').count() > 4, "{line}");
    }
}

#[test]
fn a_credential_that_was_never_probed_does_not_look_failed() {
    let out = probe_only(&unprobed("dev", "sandbox"), now(), Format::Text).unwrap();
    let samples: Vec<_> = out
        .lines()
        .filter(|it| !it.starts_with('#'))
        .map(|it| it.replace("{platform=\"dev\",credential=\"sandbox\"}", ""))
        .collect();
    for absent in ["ece_probe_success", "ece_probe_failure_reason", "ece_credential_expiry_days"] {
        assert!(!samples.iter().any(|it| it.starts_with(absent)), "{absent}");
    }
    for present in [
        "ece_credential_expiry_known 0",
        "ece_credential_never_expires 0",
        "ece_credential_expiry_observed_timestamp_seconds 0",
        "ece_probe_last_run_timestamp_seconds 0",
        "ece_probe_last_success_timestamp_seconds 0",
        "ece_probes_total 0",
        "ece_probe_failures_total 0",
    ] {
        assert!(samples.iter().any(|it| it == present), "{present} is not in {samples:#?}");
    }
}

#[test]
fn an_answer_to_a_probe_speaks_of_nothing_else() {
    let out = probe_only(&small().credentials[1], now(), Format::OpenMetrics).unwrap();
    assert!(out.ends_with("# EOF\n"));
    assert!(!out.contains("ece_expiry_exporter_") && !out.contains("process_"), "{out}");
    let samples = out.lines().filter(|it| !it.starts_with('#'));
    samples.for_each(|it| assert!(it.contains("{platform=\"prod\",credential=\"ci\""), "{it}"));
}

#[test]
fn promtool_finds_nothing_but_the_days_that_people_asked_for() {
    let text = render(&small(), &busy(), now(), Format::Text).unwrap();
    let (code, said) = promtool(&text);
    assert_eq!((code, said.as_str()), PROMTOOL_LINT);
}

#[test]
fn ten_thousand_credentials_take_at_most_three_times_a_handwritten_write() {
    let rows = (0..10_000_i64).map(|at| {
        let reading = Reading::ExpiresAt(now() + days(at % 900));
        Arc::new(probed("production", &format!("credential-{at:05}"), reading))
    });
    let snapshot = Snapshot { credentials: rows.collect(), ..Snapshot::default() };
    let telemetry = Telemetry::new(now());
    let out = render(&snapshot, &telemetry, now(), Format::OpenMetrics).unwrap();

    // The same samples, taken apart once; what is timed is only the writing.
    let lines: Vec<_> = out.lines().map(Line::parse).collect();
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let start = Instant::now();
        let mut by_hand = String::with_capacity(out.len());
        for line in &lines {
            line.write(&mut by_hand);
        }
        best.0 = best.0.min(start.elapsed());
        assert!(by_hand == out, "the two ways must write the same bytes");

        let start = Instant::now();
        let rendered = render(&snapshot, &telemetry, now(), Format::OpenMetrics).unwrap();
        best.1 = best.1.min(start.elapsed());
        assert!(rendered.len().abs_diff(out.len()) < 100, "a scrape depends on `now` only");
    }
    let ratio = best.1.as_secs_f64() / best.0.as_secs_f64();
    assert!(ratio < 3.0, "{} bytes: {:?} by hand, {:?} rendered", out.len(), best.0, best.1);
}

enum Line<'a> {
    Comment(&'a str),
    Sample { name: &'a str, labels: Vec<(&'a str, &'a str)>, value: Number },
}

enum Number {
    Whole(i64),
    Real(f64),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let Some((name, rest)) = line.split_once('{') else { return Self::Comment(line) };
        if line.starts_with('#') {
            return Self::Comment(line);
        }
        let (labels, value) = rest.split_once("} ").unwrap();
        let labels = labels.split("\",").map(|it| it.split_once("=\"").unwrap());
        let labels = labels.map(|(name, value)| (name, value.trim_end_matches('"'))).collect();
        let value = match value.parse() {
            Ok(whole) => Number::Whole(whole),
            Err(_) => Number::Real(value.parse().unwrap()),
        };
        Self::Sample { name, labels, value }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Comment(line) => writeln!(out, "{line}").unwrap(),
            Self::Sample { name, labels, value } => {
                write!(out, "{name}{{").unwrap();
                for (at, (name, value)) in labels.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(out, "{comma}{name}=\"{value}\"").unwrap();
                }
                match value {
                    Number::Whole(value) => writeln!(out, "}} {value}").unwrap(),
                    Number::Real(value) => writeln!(out, "}} {value:?}").unwrap(),
                }
            }
        }
    }
}
