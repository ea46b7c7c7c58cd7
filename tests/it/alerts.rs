//! The rules for Prometheus, their runbooks, and what prints and serves them, checked with Prometheus's own tools.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ece_expiry_exporter::alert::AlertName;
use ece_expiry_exporter::config::{CredentialKind, ItemKind};

use crate::metrics::exposed;
use crate::prometheus::Alertmanager;
use crate::promql::{groupings_of, metrics_of};
use crate::world::{answer, client, run};

const RULES: &str = include_str!("../../alerts/ece-expiry.rules.yml");
const GRAFANA: &str = "https://grafana.example.org/g";

/// Labels that a target may have, and what is folded away or kept because of them.
const OF_TARGETS: [&str; 6] = ["job", "instance", "pod", "container", "endpoint", "node"];

/// Roles of ECE, which look like metrics.
const ROLES: [&str; 3] = ["ece_platform_viewer", "ece_platform_admin", "ece_deployment_manager"];

/// An alert of the rules, as far as it matters here.
struct Alert {
    name: String,
    expr: String,
    hold: String,
    severity: String,
    text: String,
}

// ---- the rules ----

#[test]
fn promtool_accepts_every_form_of_the_rules() {
    assert_eq!(printed(&[]), RULES, "without options the file itself is printed");
    check_rules(RULES);
    check_rules(&printed(&["--grafana-url", GRAFANA]));
    for options in [&["--format", "operator"][..], &["--format=operator", "--grafana-url", GRAFANA]]
    {
        let manifest = printed(options);
        let (head, spec) = manifest.split_once("\nspec:\n").unwrap();
        assert!(head.contains("\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n"));
        let rules: String = spec
            .split_inclusive('\n')
            .map(|it| if it == "\n" { it } else { it.strip_prefix("  ").unwrap() })
            .collect();
        check_rules(&rules);
        if !options.contains(&GRAFANA) {
            assert_eq!(rules, RULES[RULES.find("groups:").unwrap()..]);
            assert_eq!(manifest, read("alerts/ece-expiry.prometheusrule.yml"), "make it anew");
        }
    }
}

#[test]
fn the_tests_of_the_rules_pass() {
    let mut tests: Vec<String> = names_in("alerts");
    tests.retain(|it| it.ends_with(".test.yml"));
    assert!(4 < tests.len(), "{tests:?}");
    let args: Vec<&str> =
        ["test", "rules"].into_iter().chain(tests.iter().map(String::as_str)).collect();
    tool("promtool", &args, &root().join("alerts"));
    for alert in alerts() {
        let name = format!("alertname: {}\n", alert.name);
        let text: String = tests.iter().map(|it| read(&format!("alerts/{it}"))).collect();
        let cases: Vec<&str> = text.split(&name).skip(1).collect();
        let quiet = cases.iter().filter(|it| it.trim_start().starts_with("exp_alerts: []")).count();
        // Alerts of one name are told apart by their severity.
        let severity = format!("severity: {}", alert.severity);
        let told = cases.iter().filter(|it| {
            let case = it.split("alertname:").next().unwrap();
            [&severity, "summary: ", "runbook_url: "].iter().all(|it| case.contains(it))
        });
        let told = told.count();
        assert!(
            0 < quiet && 0 < told,
            "{} ({}): {quiet} quiet cases, {told} told",
            alert.name,
            alert.severity
        );
    }
}

#[test]
fn a_link_to_a_dashboard_is_that_of_the_alert() {
    let linked = printed(&["--grafana-url", &format!("{GRAFANA}/")]);
    let links: BTreeMap<String, String> = alerts_of(&linked)
        .into_iter()
        .map(|it| {
            let link = it.text.split("dashboard_url: '").nth(1).unwrap().split('\'').next();
            (it.name, link.unwrap().to_owned())
        })
        .collect();
    let credential = format!(
        "{GRAFANA}/d/ece-credential-detail?var-platform={{{{ $labels.platform | urlquery }}}}&var-credential={{{{ $labels.credential | urlquery }}}}"
    );
    assert_eq!(links["ECECredentialExpired"], credential);
    assert_eq!(links["ECEExpiryDataStale"], credential);
    let platform = "/d/ece-expiry-overview?var-platform={{ $labels.platform | urlquery }}";
    for alert in ["ECEPlatformUnreachable", "ECEApiKeysTruncated", "ECEApiKeyDeleted"] {
        assert_eq!(links[alert], format!("{GRAFANA}{platform}"));
    }
    for alert in ["ECEExpiryExporterDown", "ECEExpiryNotificationsStuck"] {
        assert_eq!(links[alert], format!("{GRAFANA}/d/ece-expiry-exporter"));
    }
    let (code, _, err) =
        run(&["rules", "--grafana-url", "https://g/'x"], tempfile::tempdir().unwrap().path());
    assert!(code == 2 && err.contains("without query, spaces and quotes"), "{err}");
    for option in ["--grafana-url", "--runbook-url"] {
        let (code, _, err) =
            run(&["rules", option, "https://me:pw@g"], tempfile::tempdir().unwrap().path());
        assert!(code == 2 && err.contains("must not hold a user or a password"), "{err}");
    }
}

#[test]
fn runbooks_can_be_kept_where_the_exporter_is_not() {
    const WIKI: &str = "https://wiki.example.org/ece";
    let moved = printed(&["--runbook-url", &format!("{WIKI}/")]);
    check_rules(&moved);
    for alert in alerts_of(&moved) {
        let links: Vec<&str> =
            alert.text.lines().filter(|it| it.contains("runbook_url: ")).collect();
        assert_eq!(links, [format!("          runbook_url: '{WIKI}/{}'", alert.name)]);
    }
    // Nothing else changes.
    let others = |text: &str| -> Vec<String> {
        text.lines().filter(|it| !it.contains("runbook_url: ")).map(str::to_owned).collect()
    };
    assert_eq!(others(&moved), others(RULES));
    let both = printed(&["--runbook-url", WIKI, "--grafana-url", GRAFANA, "--format=operator"]);
    assert_eq!(both.matches(&format!("runbook_url: '{WIKI}/ECE")).count(), 28);
    assert_eq!(both.matches(&format!("dashboard_url: '{GRAFANA}/d/")).count(), 28);
}

#[test]
fn the_rules_name_only_what_is_exposed() {
    let exposed = exposed();
    let mut known: BTreeMap<&str, BTreeSet<&str>> = exposed
        .iter()
        .map(|(name, labels)| (name.as_str(), labels.iter().map(String::as_str).collect()))
        .collect();
    known.insert("up", BTreeSet::new());
    known.insert("ALERTS", ["alertname", "alertstate"].into());
    let mut groupable: BTreeSet<&str> = known.values().flatten().copied().collect();
    groupable.extend(OF_TARGETS);

    let recorded: BTreeSet<&str> =
        RULES.lines().filter_map(|it| it.trim().strip_prefix("- record: ")).collect();
    assert_eq!(recorded.len(), 10);
    let mut used = BTreeSet::new();
    for expr in expressions() {
        for (metric, labels) in metrics_of(&expr) {
            // A recorded series has the labels of the one that it is named after, and those of its level.
            let level = metric.split(':').next().unwrap();
            let base = match metric.split(':').nth(1) {
                Some(base) => {
                    assert!(recorded.contains(metric.as_str()), "{metric} is not recorded");
                    base.replace("remaining_seconds", "expiry_timestamp_seconds")
                        .replace("last_success_age_seconds", "last_success_timestamp_seconds")
                }
                None => metric.clone(),
            };
            let own = known.get(base.as_str()).unwrap_or_else(|| panic!("{metric} is not exposed"));
            for label in labels {
                let fits = own.contains(label.as_str())
                    || OF_TARGETS.contains(&label.as_str())
                    || level != metric && level.split('_').any(|it| it == label);
                assert!(fits, "{metric} has no label {label}");
            }
            used.insert(metric);
        }
        for (word, labels) in groupings_of(&expr) {
            for label in labels {
                assert!(
                    groupable.contains(label.as_str()),
                    "{word} ({label}): there is no such label"
                );
                let joins = word != "without";
                assert!(!joins || label != "key_id", "two replicas know different key ids");
            }
        }
    }
    for series in recorded {
        assert!(used.contains(series), "{series} is recorded and not used");
    }
}

#[test]
fn every_alert_waits_and_is_complete() {
    let alerts = alerts();
    assert_eq!(alerts.len(), 28);
    for alert in &alerts {
        let name = &alert.name;
        assert!(!alert.hold.is_empty(), "{name} has no `for`");
        assert!(alert.text.contains("        keep_firing_for: "), "{name} may flap");
        assert!(["info", "warning", "critical"].contains(&alert.severity.as_str()), "{name}");
        let summary = alert.text.split("summary: '").nth(1).unwrap().lines().next().unwrap();
        assert!(summary.ends_with(".'"), "{name}: {summary}");
        assert!(alert.text.contains("description: >-\n"), "{name}");
        assert!(alert.text.contains(&format!("{{{{ end }}}}/runbooks/{name}'")), "{name}");
    }
    // Where the exporter's pages may be gone, the alert itself holds the first steps.
    for name in ["ECEExpiryExporterDown", "ECEExpiryExporterAbsent"] {
        let alert = alerts.iter().find(|it| it.name == name).unwrap();
        for step in ["systemctl status", "journalctl", "docs/runbooks"] {
            assert!(alert.text.contains(step), "{name} does not say {step}");
        }
    }
    let built_in: BTreeSet<&str> = AlertName::ALL.iter().map(|it| it.label()).collect();
    let named: BTreeSet<&str> = alerts.iter().map(|it| it.name.as_str()).collect();
    assert!(built_in.is_subset(&named), "the alerts of the exporter have rules of the same name");
}

#[test]
fn texts_that_depend_on_the_kind_know_every_kind_and_no_other() {
    let kinds = [
        CredentialKind::API_KEY,
        CredentialKind::BEARER_TOKEN,
        CredentialKind::LOGIN,
        CredentialKind::LICENSE,
        CredentialKind::CERTIFICATE,
        CredentialKind::INVENTORY,
        CredentialKind::DEPLOYMENTS,
        ItemKind::ElasticsearchApiKey.label(),
        ItemKind::ElasticsearchCertificate.label(),
        ItemKind::ElasticsearchLicense.label(),
    ];
    let mut named = BTreeSet::new();
    for line in RULES.lines().filter(|it| it.contains("if eq $labels.kind ")) {
        let list = line.split("if eq $labels.kind ").nth(1).unwrap().split(" -}}").next().unwrap();
        for kind in list.split(' ').map(|it| it.trim_matches('"')) {
            assert!(kinds.contains(&kind), "there is no kind {kind}");
            named.insert(kind);
        }
    }
    assert_eq!(named, kinds.into());
}

#[test]
fn the_manual_lists_every_alert_as_it_is() {
    let page = read("docs/alerting.md");
    let listed: Vec<[String; 3]> = page
        .lines()
        .filter(|it| it.starts_with("| [`ECE"))
        .map(|it| {
            let cells: Vec<&str> = it.split('|').map(str::trim).collect();
            let name = cells[1].trim_start_matches("[`").split('`').next().unwrap();
            [name.to_owned(), cells[2].to_owned(), cells[3].to_owned()]
        })
        .collect();
    let rules: Vec<[String; 3]> =
        alerts().into_iter().map(|it| [it.name, it.severity, it.hold]).collect();
    assert_eq!(listed, rules);
}

// ---- the examples ----

#[test]
fn the_examples_are_valid() {
    let said =
        tool("promtool", &["check", "config", "prometheus.example.yml"], &root().join("alerts"));
    assert!(said.contains("SUCCESS: 38 rules found"), "{said}");
    let manual = read("docs/alerting.md");
    assert!(
        manual.contains("It says `SUCCESS: 38 rules found`."),
        "the manual tells another number"
    );
    let said =
        tool("amtool", &["check-config", "alertmanager.example.yml"], &root().join("alerts"));
    assert!(said.contains("5 inhibit rules"), "{said}");
}

#[test]
fn the_example_mutes_known_alerts_as_the_manual_says() {
    let example = read("alerts/alertmanager.example.yml");
    let lines = |text: &str| -> Vec<String> {
        let inside = text.split("inhibit_rules:\n").nth(1).unwrap();
        let lines = inside.lines().take_while(|it| it.starts_with("  "));
        lines.filter(|it| !it.trim().starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(lines(&example), lines(&read("docs/alerting.md")));
    let known: BTreeSet<String> = alerts().into_iter().map(|it| it.name).collect();
    let mut named = 0;
    for line in lines(&example).iter().filter(|it| it.contains("alertname")) {
        for name in line.split(|c: char| !c.is_alphanumeric()).filter(|it| it.starts_with("ECE")) {
            assert!(known.contains(name), "there is no alert {name}");
            named += 1;
        }
    }
    assert_eq!(named, 19);
}

#[tokio::test]
async fn a_real_alertmanager_mutes_what_another_alert_explains() {
    let example = root().join("alerts/alertmanager.example.yml");
    let alertmanager = Alertmanager::start(&example).await;
    let url = format!("http://{}/api/v2/alerts", alertmanager.addr);

    let alert = |name: &str, labels: &[(&str, &str)]| -> serde_json::Value {
        let mut all: BTreeMap<&str, &str> = labels.iter().copied().collect();
        all.insert("alertname", name);
        serde_json::json!({"labels": all})
    };
    let key = |name: &'static str| [("platform", "prod"), ("credential", name)];
    let alerts = serde_json::Value::Array(vec![
        alert("ECECredentialExpired", &key("dead")),
        alert("ECECredentialRejected", &key("dead")),
        alert("ECEProbeFailing", &key("dead")),
        alert("ECEExpiryDataStale", &key("dead")),
        alert("ECECredentialRejected", &key("revoked")),
        alert("ECEProbeFailing", &key("revoked")),
        alert("ECECredentialExpiryUnknown", &key("revoked")),
        alert(
            "ECECredentialExpiring",
            &[key("worse"), [("severity", "warning"), ("team", "a")]].concat(),
        ),
        alert(
            "ECECredentialExpiring",
            &[key("worse"), [("severity", "critical"), ("team", "a")]].concat(),
        ),
        alert("ECEProbeFailing", &key("other")),
        alert("ECECredentialExpiring", &[("platform", "dev"), ("credential", "tf")]),
        alert("ECEProbeFailing", &[("platform", "dev"), ("credential", "tf")]),
        alert("ECEPlatformUnreachable", &[("platform", "dev")]),
        alert("ECEExpiryExporterDown", &[("instance", "a")]),
        alert("ECEExpiryExporterAbsent", &[]),
    ]);
    let posted = client().post(&url).header("content-type", "application/json");
    assert_eq!(answer(posted.body(alerts.to_string())).await.status, 200);
    assert_eq!(alertmanager.alerts().await.len(), 15);
    let muted = alertmanager.muted().await;
    let expected = [
        "ECECredentialExpiring worse",
        "ECECredentialExpiryUnknown revoked",
        "ECECredentialRejected dead",
        "ECEExpiryExporterAbsent ",
        "ECEExpiryDataStale dead",
        "ECEProbeFailing dead",
        "ECEProbeFailing revoked",
        "ECEProbeFailing tf",
    ];
    assert_eq!(muted, expected.map(str::to_owned).into());
}

#[test]
fn the_example_routes_by_severity_and_team() {
    for (labels, receivers) in [
        (
            &["alertname=ECECredentialExpired", "severity=critical", "team=platform"][..],
            "pager,team-platform",
        ),
        (&["alertname=ECECredentialExpired", "severity=critical"], "pager"),
        (
            &["alertname=ECECredentialExpiring", "severity=warning", "team=platform"],
            "team-platform",
        ),
        (&["alertname=ECEProbeFailing", "severity=warning"], "ops"),
        (&["alertname=ECECredentialNeverExpires", "severity=info", "team=platform"], "nobody"),
    ] {
        let mut args = vec!["config", "routes", "test", "--config.file=alertmanager.example.yml"];
        args.extend(labels);
        let said = tool("amtool", &args, &root().join("alerts"));
        assert_eq!(
            said.lines().find(|it| !it.starts_with("Warning")),
            Some(receivers),
            "{labels:?}"
        );
    }
}

// ---- the runbooks ----

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let mut files: BTreeSet<String> = names_in("docs/runbooks").into_iter().collect();
    assert!(files.remove("README.md"));
    let alerts: BTreeSet<String> = alerts().into_iter().map(|it| it.name + ".md").collect();
    assert_eq!(files, alerts);
    let index = read("docs/runbooks/README.md");
    for file in &files {
        let name = file.trim_end_matches(".md");
        assert!(index.contains(&format!("[{name}]({file})")), "the list lacks {name}");
        let text = read(&format!("docs/runbooks/{file}"));
        assert!(text.starts_with(&format!("# {name}\n\n## Meaning\n\n")), "{file}");
        let headings: Vec<&str> = text.lines().filter(|it| it.starts_with("## ")).collect();
        assert_eq!(
            headings,
            ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"],
            "{file}"
        );
        // Only what the exporter serves too can be linked to.
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            assert!(files.contains(target), "{file} links to {target}");
        }
    }
}

#[test]
fn runbooks_name_only_commands_and_metrics_that_exist() {
    let help = run(&["--help"], tempfile::tempdir().unwrap().path()).1;
    let exposed = exposed();
    let mut commands = 0;
    for file in names_in("docs/runbooks") {
        let text = read(&format!("docs/runbooks/{file}"));
        for (at, found) in text.match_indices("ece-expiry-exporter ") {
            let word = text[at + found.len()..].split([' ', '\n', '`']).next().unwrap();
            if text[..at].ends_with(['`', '\n']) && !word.starts_with('-') {
                assert!(help.contains(&format!("\n  {word} ")), "{file}: no command {word}");
                commands += 1;
            }
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let is_metric = word.starts_with("ece_") && !ROLES.contains(&word);
            assert!(!is_metric || exposed.contains_key(word), "{file}: no metric {word}");
        }
    }
    assert!(10 < commands, "{commands} commands were found");
}

// ---- reading ----

/// The rules as the command prints them.
fn printed(options: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let args: Vec<&str> = ["rules"].iter().chain(options).copied().collect();
    let (code, out, err) = run(&args, dir.path());
    assert_eq!((code, err.as_str()), (0, ""), "{options:?}");
    out
}

#[track_caller]
fn check_rules(rules: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let said = tool("promtool", &["check", "rules", "rules.yml"], folder.path());
    assert!(said.contains("SUCCESS: 38 rules found"), "{said}");
}

/// Runs a tool that must be content, and answers what it said.
#[track_caller]
fn tool(name: &str, args: &[&str], folder: &Path) -> String {
    let output = Command::new(name).args(args).current_dir(folder).output();
    let output = output.unwrap_or_else(|why| panic!("{name}: {why}; tests/run installs it"));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {said}");
    said.into_owned()
}

fn alerts() -> Vec<Alert> {
    alerts_of(RULES)
}

fn alerts_of(rules: &str) -> Vec<Alert> {
    let blocks = rules.split("      - alert: ").skip(1);
    let alert = |block: &str| {
        let text = block.split("\n\n").next().unwrap();
        let value = |key: &str| {
            let line = text.lines().find_map(|it| it.trim().strip_prefix(key));
            line.unwrap_or_default().to_owned()
        };
        Alert {
            name: text.lines().next().unwrap().to_owned(),
            expr: text
                .split("expr: |\n")
                .nth(1)
                .unwrap()
                .split("        for: ")
                .next()
                .unwrap()
                .to_owned(),
            hold: value("for: "),
            severity: value("severity: "),
            text: text.to_owned(),
        }
    };
    blocks.map(alert).collect()
}

/// Every expression: of recorded series, of alerts, and those that annotations look up.
fn expressions() -> Vec<String> {
    let mut found: Vec<String> = alerts().into_iter().map(|it| it.expr).collect();
    for block in RULES.split("      - record: ").skip(1) {
        let end = |it: &&str| !it.is_empty() && !it.starts_with("          ");
        let lines = block.split("expr: |\n").nth(1).unwrap().lines();
        found.push(lines.take_while(|it| !end(it)).collect::<Vec<_>>().join("\n"));
    }
    let plain = found.len();
    for line in RULES.lines() {
        let looked_up = line.split_once("query \"").or_else(|| line.split_once("printf \""));
        if let Some((_, rest)) = looked_up {
            let expr = rest.split("\" $").next().unwrap().split("\" }}").next().unwrap();
            found.push(expr.split("\" |").next().unwrap().replace("%q", "\"\"").replace("%f", "1"));
        }
    }
    assert!(plain == 38 && 50 < found.len(), "{} of {}", plain, found.len());
    found
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
