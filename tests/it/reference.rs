//! The reference of the metrics, `docs/metrics.md`: names, types, labels and meanings from the program, and beside each
//! when it is there and what to ask with it. `UPDATE_EXPECT=1 cargo test` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use expect_test::expect_file;

use crate::metrics::{Family, families};

const ALWAYS: &str = "always";
const EACH: &str = "for each configured credential";
const PROBED: &str = "once the credential has been probed";
const DATED: &str = "while an expiry is known; a credential that never expires has none";
const PLATFORM: &str = "for each configured platform";
const LISTED: &str = "once the list was read";
const CHANNEL: &str = "for each channel of a receiver, from the start on";
const LINUX: &str = "on Linux";

/// A part of the reference: its heading, and each metric with when it is there and an example.
type Part = (&'static str, &'static [(&'static str, &'static str, &'static str)]);

const LISTED_KEY: &str = "for each listed key that is watched, with `inventory`";
const LIST: &str = "for each platform with `inventory`";

const PARTS: [Part; 7] = [
    (
        "Credentials",
        &[
            ("ece_credential_info", EACH, "sum by (team) (ece_credential_info)"),
            (
                "ece_credential_expiry_timestamp_seconds",
                DATED,
                "sort(ece_credential_expiry_timestamp_seconds - time())",
            ),
            ("ece_credential_expiry_days", DATED, "bottomk(10, ece_credential_expiry_days)"),
            (
                "ece_credential_expiry_known",
                "for each configured credential but logins and lists",
                "ece_credential_expiry_known == 0",
            ),
            ("ece_credential_never_expires", EACH, "ece_credential_never_expires == 1"),
            (
                "ece_credential_expiry_observed_timestamp_seconds",
                EACH,
                "time() - (ece_credential_expiry_observed_timestamp_seconds > 0) > 86400",
            ),
            (
                "ece_credential_threshold_seconds",
                "for each severity that the policy of the credential has a step of; a login has none",
                "ece_credential_expiry_timestamp_seconds - time() < ignoring (severity) \
                 ece_credential_threshold_seconds{severity=\"critical\"}",
            ),
            (
                "ece_credential_alert_firing",
                "for each credential and severity",
                "ece_credential_alert_firing{severity=\"critical\"} == 1",
            ),
        ],
    ),
    (
        "Probes",
        &[
            ("ece_probe_success", PROBED, "ece_probe_success == 0"),
            ("ece_probe_duration_seconds", PROBED, "topk(5, ece_probe_duration_seconds)"),
            (
                "ece_probe_http_status_code",
                PROBED,
                "count by (platform) (ece_probe_http_status_code >= 500)",
            ),
            (
                "ece_probe_last_run_timestamp_seconds",
                EACH,
                "time() - (ece_probe_last_run_timestamp_seconds > 0)",
            ),
            (
                "ece_probe_last_success_timestamp_seconds",
                EACH,
                "time() - (ece_probe_last_success_timestamp_seconds > 0) > 3 * ece_probe_interval_seconds",
            ),
            (
                "ece_probe_next_run_timestamp_seconds",
                "while the schedule has a next run",
                "ece_probe_next_run_timestamp_seconds - time()",
            ),
            ("ece_probe_interval_seconds", EACH, "max by (platform) (ece_probe_interval_seconds)"),
            (
                "ece_probe_failure_reason",
                "while the last probe is a failure, one reason for each credential",
                "count by (platform, reason) (ece_probe_failure_reason)",
            ),
            ("ece_probes_total", EACH, "sum(rate(ece_probes_total[15m]))"),
            ("ece_probe_failures_total", EACH, "increase(ece_probe_failures_total[1h]) > 0"),
        ],
    ),
    (
        "Platforms",
        &[
            (
                "ece_platform_info",
                "for each configured URL of a platform",
                "count by (platform) (ece_platform_info)",
            ),
            (
                "ece_platform_probe_failures_total",
                "for each platform and reason",
                "sum by (platform, reason) (increase(ece_platform_probe_failures_total[1h])) > 0",
            ),
            (
                "ece_platform_unreachable",
                PLATFORM,
                "min by (platform) (ece_platform_unreachable) == 1",
            ),
            (
                "ece_platform_clock_skew_seconds",
                "once an answer of the platform had a date",
                "abs(ece_platform_clock_skew_seconds) > 60",
            ),
            (
                "ece_platform_rate_limited",
                PLATFORM,
                "max_over_time(ece_platform_rate_limited[1h]) == 1",
            ),
            (
                "ece_platform_certificate_expiry_timestamp_seconds",
                "once a watched certificate of the platform is known",
                "(ece_platform_certificate_expiry_timestamp_seconds - time()) / 86400 < 30",
            ),
            (
                "ece_platform_license_expiry_timestamp_seconds",
                "once the watched license of the platform is known",
                "(ece_platform_license_expiry_timestamp_seconds - time()) / 86400 < 30",
            ),
        ],
    ),
    (
        "Keys that ECE lists",
        &[
            (
                "ece_api_key_info",
                LISTED_KEY,
                "count by (platform, user_id) (ece_api_key_info{credential=\"\"})",
            ),
            (
                "ece_api_key_expiry_timestamp_seconds",
                "for each listed key that has a date, with `inventory`; one that never expires has none",
                "sort(ece_api_key_expiry_timestamp_seconds - time() > 0)",
            ),
            (
                "ece_api_keys",
                "for each platform with `inventory`, and state",
                "sum by (state) (max by (platform, state) (ece_api_keys))",
            ),
            ("ece_api_keys_long_lived", LIST, "ece_api_keys_long_lived > 0"),
            (
                "ece_api_keys_truncated",
                "for each platform with `inventory`, once its list was read",
                "ece_api_keys_truncated == 1",
            ),
            (
                "ece_api_key_findings_total",
                "for each platform with `inventory`, and kind of finding",
                "increase(ece_api_key_findings_total{finding=\"deleted\"}[1d]) > 0",
            ),
        ],
    ),
    (
        "Deployments",
        &[
            (
                "ece_deployment_info",
                "for each key, certificate and license that is watched by `deployments`",
                "count by (platform, deployment, kind) (ece_deployment_info)",
            ),
            (
                "ece_deployment_expiry_timestamp_seconds",
                "for each of them that expires",
                "bottomk(10, ece_deployment_expiry_timestamp_seconds - time() > 0)",
            ),
            ("ece_deployments", LISTED, "sum by (platform) (ece_deployments)"),
            ("ece_deployments_unread", LISTED, "ece_deployments_unread > 0"),
            ("ece_deployments_truncated", LISTED, "ece_deployments_truncated == 1"),
        ],
    ),
    (
        "The exporter",
        &[
            (
                "ece_expiry_exporter_build_info",
                ALWAYS,
                "count by (version) (ece_expiry_exporter_build_info)",
            ),
            (
                "ece_expiry_exporter_external_url_info",
                "while `global.external_url` is configured",
                "ece_expiry_exporter_external_url_info",
            ),
            (
                "ece_expiry_exporter_config_last_reload_successful",
                ALWAYS,
                "ece_expiry_exporter_config_last_reload_successful == 0",
            ),
            (
                "ece_expiry_exporter_config_last_reload_success_timestamp_seconds",
                ALWAYS,
                "time() - ece_expiry_exporter_config_last_reload_success_timestamp_seconds",
            ),
            (
                "ece_expiry_exporter_config_reloads_total",
                ALWAYS,
                "increase(ece_expiry_exporter_config_reloads_total[1d])",
            ),
            (
                "ece_expiry_exporter_config_reload_failures_total",
                ALWAYS,
                "increase(ece_expiry_exporter_config_reload_failures_total[1h]) > 0",
            ),
            ("ece_expiry_exporter_credentials", PLATFORM, "sum(ece_expiry_exporter_credentials)"),
            (
                "ece_expiry_exporter_scheduler_last_tick_timestamp_seconds",
                ALWAYS,
                "time() - ece_expiry_exporter_scheduler_last_tick_timestamp_seconds > 300",
            ),
            (
                "ece_expiry_exporter_scheduler_missed_runs_total",
                ALWAYS,
                "increase(ece_expiry_exporter_scheduler_missed_runs_total[1h]) > 0",
            ),
            (
                "ece_expiry_exporter_probes_in_flight",
                ALWAYS,
                "max_over_time(ece_expiry_exporter_probes_in_flight[1h])",
            ),
            (
                "ece_expiry_exporter_notifications_total",
                CHANNEL,
                "increase(ece_expiry_exporter_notifications_total[1d])",
            ),
            (
                "ece_expiry_exporter_notifications_failed_total",
                CHANNEL,
                "increase(ece_expiry_exporter_notifications_failed_total[1h]) > 0",
            ),
            (
                "ece_expiry_exporter_notification_requests_total",
                CHANNEL,
                "sum by (receiver) (rate(ece_expiry_exporter_notification_requests_total[1h]))",
            ),
            (
                "ece_expiry_exporter_notification_requests_failed_total",
                CHANNEL,
                "increase(ece_expiry_exporter_notification_requests_failed_total[1h]) > 0",
            ),
            (
                "ece_expiry_exporter_notifications_suppressed_total",
                "For each receiver, by reason: `silenced`, `muted`",
                "increase(ece_expiry_exporter_notifications_suppressed_total[1d])",
            ),
            (
                "ece_expiry_exporter_notifications_pending",
                CHANNEL,
                "ece_expiry_exporter_notifications_pending > 0",
            ),
            (
                "ece_expiry_exporter_notification_oldest_pending_timestamp_seconds",
                CHANNEL,
                "time() - (ece_expiry_exporter_notification_oldest_pending_timestamp_seconds > 0)",
            ),
            (
                "ece_expiry_exporter_notifications_dead",
                ALWAYS,
                "ece_expiry_exporter_notifications_dead > 0",
            ),
            (
                "ece_expiry_exporter_notification_last_success_timestamp_seconds",
                CHANNEL,
                "time() - (ece_expiry_exporter_notification_last_success_timestamp_seconds > 0)",
            ),
            (
                "ece_expiry_exporter_notification_duration_seconds",
                "for each kind of channel that is configured",
                "histogram_quantile(0.99, sum by (le, integration) \
                 (rate(ece_expiry_exporter_notification_duration_seconds_bucket[1d])))",
            ),
            (
                "ece_expiry_exporter_alerts_firing",
                "for each severity",
                "sum(ece_expiry_exporter_alerts_firing)",
            ),
            (
                "ece_expiry_exporter_state_last_write_successful",
                "once something was written to the store",
                "ece_expiry_exporter_state_last_write_successful == 0",
            ),
            (
                "ece_expiry_exporter_state_last_write_timestamp_seconds",
                "once something was written to the store",
                "time() - ece_expiry_exporter_state_last_write_timestamp_seconds",
            ),
            (
                "ece_expiry_exporter_heartbeat_last_success_timestamp_seconds",
                "with a `heartbeat`",
                "time() - ece_expiry_exporter_heartbeat_last_success_timestamp_seconds > 3600",
            ),
            (
                "ece_expiry_exporter_heartbeat_failures_total",
                "with a `heartbeat`",
                "increase(ece_expiry_exporter_heartbeat_failures_total[1h]) > 0",
            ),
            (
                "ece_expiry_exporter_log_messages_total",
                "for each level",
                "increase(ece_expiry_exporter_log_messages_total{level=~\"warn|error\"}[1h]) > 0",
            ),
        ],
    ),
    (
        "The process",
        &[
            ("process_cpu_seconds_total", LINUX, "rate(process_cpu_seconds_total[5m])"),
            ("process_open_fds", LINUX, "process_open_fds / process_max_fds > 0.8"),
            ("process_max_fds", LINUX, "process_max_fds"),
            ("process_virtual_memory_bytes", LINUX, "process_virtual_memory_bytes"),
            (
                "process_resident_memory_bytes",
                LINUX,
                "max_over_time(process_resident_memory_bytes[1d])",
            ),
            ("process_threads", LINUX, "process_threads"),
            ("process_start_time_seconds", LINUX, "time() - process_start_time_seconds"),
        ],
    ),
];

#[test]
fn the_reference_of_the_metrics_is_what_the_program_exposes() {
    let families = families();
    let told: Vec<&str> = PARTS.iter().flat_map(|(_, it)| *it).map(|(name, ..)| *name).collect();
    assert_eq!(told.iter().copied().collect::<BTreeSet<_>>().len(), told.len(), "twice");
    let told: BTreeSet<&str> = told.into_iter().collect();
    assert_eq!(told, families.keys().map(String::as_str).collect());

    let mut page = String::from(
        "# Metrics\n\n\
         Every series of `/metrics`, as the program describes it. A series that does not apply is absent; a time that has not come\n\
         yet is 0 where its description says so. Times are Unix times in seconds. Counters begin at zero with the process, those\n\
         of probes also with a reload. Within a major version no metric or label is renamed or removed.\n\n\
         <!-- Written by a test from the program: UPDATE_EXPECT=1 cargo test --test it reference:: -->\n",
    );
    for (heading, metrics) in PARTS {
        write!(page, "\n## {heading}\n").unwrap();
        for (name, present, example) in metrics {
            let Family { help, kind, labels } = &families[*name];
            let labels: Vec<String> = labels.iter().map(|it| format!("`{it}`")).collect();
            let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") };
            write!(
                page,
                "\n### `{name}`\n\n{help}.\n\n- {kind}, {labels}\n- there {present}\n\n```promql\n{example}\n```\n"
            )
            .unwrap();
        }
    }
    expect_file!["../../docs/metrics.md"].assert_eq(&page);
}

#[test]
fn every_example_of_the_reference_is_a_query_about_its_metric() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = String::from("groups:\n  - name: examples\n    rules:\n");
    let mut count = 0;
    for (name, _, example) in PARTS.iter().flat_map(|(_, it)| *it) {
        assert!(example.contains(name), "{name}: {example}");
        writeln!(rules, "      - record: example:{count}\n        expr: '{example}'").unwrap();
        count += 1;
    }
    let file = folder.path().join("examples.yml");
    fs::write(&file, rules).unwrap();
    let output =
        Command::new("promtool").args(["check", "rules"]).arg(&file).output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("{count} rules found")), "{said}");
}
