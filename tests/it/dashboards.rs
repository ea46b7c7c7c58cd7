//! The Grafana dashboards: what their files say, what their queries find in a real Prometheus, and the command that
//! prints them. What Grafana's own code makes of them is checked in `tests/grafana`.

mod live;
mod model;
mod rules;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use self::model::{FILES, dashboard, dashboards, expressions, panels, text_of, variables};
use crate::metrics::{exposed, families};
use crate::promql;
use crate::world::run;

/// Why no dashboard shows the lists.
const LISTED: &str = "the page /keys shows lists, which may have tens of thousands of rows";

/// Metrics of the program that no dashboard shows, with the reason.
const USED_ELSEWHERE: [(&str, &str); 7] = [
    (
        "ece_credential_expiry_days",
        "for people without PromQL; dashboards compute from the timestamp, which is right between scrapes",
    ),
    ("ece_expiry_exporter_external_url_info", "for the links of the rules to the runbooks"),
    ("ece_deployment_info", LISTED),
    ("ece_deployment_expiry_timestamp_seconds", LISTED),
    ("ece_deployments", LISTED),
    ("ece_deployments_unread", LISTED),
    ("ece_deployments_truncated", LISTED),
];

/// Metrics that Prometheus itself writes about each target.
const OF_PROMETHEUS: [&str; 2] = ["up", "scrape_duration_seconds"];

/// Labels that Prometheus itself puts on everything.
const LABELS_OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

// ---- the files ----

#[test]
fn the_files_are_in_their_canonical_form() {
    for name in FILES {
        let text = text_of(name);
        let parsed: Value = serde_json::from_str(&text).unwrap();
        let canonical = serde_json::to_string_pretty(&parsed).unwrap() + "\n";
        assert!(text == canonical, "write {name} as `jq -S --indent 2 .` does");
        assert_eq!(parsed["uid"], name.trim_end_matches(".json"));
    }
    let listed = fs::read_dir(model::folder()).unwrap().map(|it| it.unwrap().path());
    let listed: BTreeSet<String> = listed
        .filter(|it| it.extension().is_some_and(|it| it == "json"))
        .map(|it| it.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, FILES.iter().map(|it| (*it).to_owned()).collect());
}

#[test]
fn the_files_for_provisioning_are_yaml_and_the_manual_fits_them() {
    for file in ["provider.yml", "datasource.example.yml"] {
        let text = text_of(file);
        let faults: Vec<String> = granit_parser::Parser::new_from_str(&text)
            .filter_map(|it| Some(it.err()?.to_string()))
            .collect();
        assert_eq!(faults, Vec::<String>::new(), "{file}");
        assert!(text.contains("\napiVersion: 1\n"), "{file}");
    }
    let provider = text_of("provider.yml");
    let path = provider.lines().find_map(|it| it.trim().strip_prefix("path: ")).unwrap();
    let manual = text_of("README.md");
    assert!(manual.contains(&format!("--output-dir {path}\n")), "the manual writes elsewhere");
    for file in FILES {
        let name = file.trim_end_matches(".json");
        assert!(manual.contains(&format!("| `{name}` |")), "the manual leaves out {name}");
    }
}

#[test]
fn every_dashboard_keeps_every_rule() {
    for dashboard in dashboards() {
        let complaints = rules::complaints(&dashboard);
        assert!(complaints.is_empty(), "{}:\n{}", dashboard["uid"], complaints.join("\n"));
    }
}

#[test]
fn every_exception_is_still_needed() {
    let found: BTreeSet<String> = dashboards().iter().flat_map(rules::all_complaints).collect();
    for (exception, _) in rules::EXCEPTIONS {
        assert!(found.contains(exception), "no longer needed: {exception}");
    }
}

// ---- the names ----

#[test]
fn every_metric_and_label_of_a_dashboard_is_exposed() {
    let exposed = exposed();
    for dashboard in dashboards() {
        for expr in expressions(&dashboard) {
            let metrics = promql::metrics_of(&expr);
            assert!(!metrics.is_empty(), "no metric in {expr}");
            let mut labels_here: BTreeSet<&str> = LABELS_OF_PROMETHEUS.into();
            for (metric, labels) in &metrics {
                if OF_PROMETHEUS.contains(&metric.as_str()) {
                    continue;
                }
                let known = exposed.get(metric).unwrap_or_else(|| panic!("no {metric}: {expr}"));
                for label in labels {
                    assert!(
                        known.contains(label) || LABELS_OF_PROMETHEUS.contains(&label.as_str()),
                        "{metric} has no label {label}: {expr}"
                    );
                }
                labels_here.extend(known.iter().map(String::as_str));
            }
            for (word, labels) in promql::groupings_of(&expr) {
                for label in labels {
                    assert!(labels_here.contains(&*label), "nothing has {label} ({word}): {expr}");
                }
            }
        }
    }
}

#[test]
fn every_metric_of_the_program_is_shown_somewhere() {
    let used: BTreeSet<String> = dashboards()
        .iter()
        .flat_map(expressions)
        .flat_map(|it| promql::metrics_of(&it))
        .map(|(metric, _)| metric)
        .collect();
    let elsewhere: BTreeSet<&str> = USED_ELSEWHERE.iter().map(|it| it.0).collect();
    for family in families().into_keys() {
        // A histogram is shown by its buckets.
        let shown = used.contains(&family) || used.contains(&format!("{family}_bucket"));
        let excused = elsewhere.contains(family.as_str());
        assert!(shown || excused, "no dashboard shows {family}");
        assert!(!(shown && excused), "{family} is shown, and is on the list of those that are not");
    }
}

#[test]
fn every_reason_of_a_failure_has_words_on_the_overview() {
    let overview = dashboard("ece-expiry-overview.json");
    let table = panels(&overview).into_iter().find(|it| it["title"] == "Failing now").unwrap();
    let overrides = table["fieldConfig"]["overrides"].as_array().unwrap();
    let reason = overrides.iter().find(|it| it["matcher"]["options"] == "Reason").unwrap();
    let property =
        reason["properties"].as_array().unwrap().iter().find(|it| it["id"] == "mappings");
    let words = property.unwrap()["value"][0]["options"].as_object().unwrap();
    let known: BTreeSet<&str> = words.keys().map(String::as_str).collect();
    let all = ece_expiry_exporter::observation::FailureReason::ALL;
    assert_eq!(known, all.iter().map(|it| it.label()).collect());
    for (label, word) in words {
        assert!(word["text"].as_str().unwrap().starts_with(&format!("{label}: ")), "{word}");
    }
}

// ---- replicas that disagree ----

#[test]
fn a_replica_that_fails_holds_back_no_renewal_and_an_earlier_date_counts() {
    // Of two replicas: the days left, whether the last probe succeeded, and when ECE confirmed the date.
    let cases = [
        ("renewed", [(1, 0, 10), (10, 1, 20)], 10),
        ("renewed before ECE was lost", [(1, 0, 10), (10, 0, 20)], 10),
        ("seen differently", [(1, 1, 10), (10, 1, 20)], 1),
    ];
    let overview = dashboard("ece-expiry-overview.json");
    let days = panels(&overview).into_iter().find(|it| it["title"] == "Days left").unwrap();
    let mut expr = model::targets(days)[0].expr.clone();
    for variable in variables(&overview) {
        expr = expr.replace(&format!("${}", variable["name"].as_str().unwrap()), ".*");
    }
    let (mut series, mut samples) = (String::new(), String::new());
    for (name, replicas, left) in cases {
        let labels = format!("platform=\"p\",credential=\"{name}\"");
        for (index, (days, success, observed)) in replicas.into_iter().enumerate() {
            for (metric, value) in [
                ("ece_credential_info", 1),
                ("ece_credential_expiry_timestamp_seconds", days * 86400),
                ("ece_credential_expiry_observed_timestamp_seconds", observed),
                ("ece_probe_success", success),
            ] {
                let of = format!("{metric}{{{labels},job=\"e\",instance=\"{index}\"}}");
                writeln!(series, "      - {{series: '{of}', values: '{value}'}}").unwrap();
            }
        }
        writeln!(samples, "          - {{labels: '{{{labels}}}', value: {left}}}").unwrap();
    }
    let test = format!(
        "tests:\n  - interval: 1m\n    input_series:\n{series}    promql_expr_test:\n      - expr: '{expr}'\n        \
         eval_time: 0\n        exp_samples:\n{samples}"
    );
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("fold.yml"), test).unwrap();
    let output =
        Command::new("promtool").args(["test", "rules", "fold.yml"]).current_dir(&dir).output();
    let output = output.expect("promtool");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

// ---- planted faults: a rule that cannot fail is no rule ----

/// Changes one value of a dashboard that keeps every rule, and looks for the complaint.
#[track_caller]
fn finds(file: &str, pointer: &str, value: Value, complaint: &str) {
    let mut changed = dashboard(file);
    let place = changed.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {file}"));
    assert_ne!(*place, value, "{pointer} is no change");
    *place = value;
    let found = rules::complaints(&changed);
    assert!(found.iter().any(|it| it.contains(complaint)), "{pointer}: {found:#?}");
}

#[test]
fn a_fault_of_the_whole_is_found() {
    let file = "ece-expiry-overview.json";
    finds(file, "/editable", json!(true), "editable");
    finds(file, "/schemaVersion", json!(42), "schemaVersion");
    finds(file, "/tags", json!([]), "tags");
    finds(file, "/links", json!([]), "links");
    finds(file, "/graphTooltip", json!(0), "graphTooltip");
    finds(file, "/annotations/list", json!([]), "annotation");
    finds(
        file,
        "/annotations/list/0/expr",
        json!("changes(ece_probes_total[2m])"),
        "job=~\"$job\"",
    );
}

#[test]
fn a_fault_of_a_variable_is_found() {
    let file = "ece-expiry-overview.json";
    for (index, variable) in variables(&dashboard(file)).iter().enumerate().skip(1) {
        let at = |key: &str| format!("/templating/list/{index}/{key}");
        finds(file, &at("refresh"), json!(1), "refresh");
        finds(file, &at("datasource/uid"), json!("abc"), "datasource");
        finds(file, &at("label"), json!("x"), "label");
        finds(file, &at("allValue"), json!(".*x"), "allValue");
        finds(file, &at("query"), json!("label_values(up, job)"), "query");
        assert_ne!(variable["name"], "datasource");
    }
    finds(file, "/templating/list/3/name", json!("place"), "$platform is not a variable");
    finds(file, "/templating/list/1/multi", json!(false), "job");
}

#[test]
fn a_fault_of_a_panel_is_found() {
    let file = "ece-expiry-overview.json";
    finds(file, "/panels/0/title", json!(""), "title");
    finds(file, "/panels/0/description", json!("short"), "description");
    finds(file, "/panels/0/datasource/uid", json!("abc"), "datasource");
    finds(file, "/panels/0/targets/0/datasource/uid", json!("abc"), "datasource");
    finds(file, "/panels/0/targets", json!([]), "targets");
    finds(file, "/panels/0/fieldConfig/defaults/unit", json!("days"), "unit");
    finds(file, "/panels/1/id", json!(1), "id 1");
    finds(file, "/panels/1/title", json!("Expired"), "another panel has this title");
    finds(file, "/panels/1/gridPos/x", json!(2), "overlaps");
    finds(file, "/panels/1/gridPos/x", json!(22), "grid");
    finds(file, "/panels/1/options/textMode", json!("none"), "text");
    finds(file, "/panels/13/fieldConfig/defaults/mappings", json!([]), "words");
    finds(file, "/panels/9/transformations/0/id", json!("merge"), "before merge");
    finds(file, "/panels/9/targets/0/format", json!("time_series"), "format");
    let steps = "/panels/0/fieldConfig/defaults/thresholds/steps/0/value";
    finds(file, steps, json!(5), "thresholds");
}

#[test]
fn a_fault_of_a_query_is_found() {
    let file = "ece-expiry-overview.json";
    let at = "/panels/0/targets/0/expr";
    let good = "job=~\"$job\", instance=~\"$instance\"";
    finds(file, at, json!("ece_probe_success{job=~\"$job\"}"), "instance=~\"$instance\"");
    finds(file, at, json!("ece_probe_success"), "job=~\"$job\"");
    finds(
        file,
        at,
        json!(format!("ece_probe_success{{{good}, x=\"$y\"}}")),
        "$y is not a variable",
    );
    finds(file, at, json!(format!("ece_probe_success{{{good}, platform=\"$platform\"}}")), "=~");
    finds(file, at, json!(format!("ece_probes_total{{{good}}}")), "counter");
    finds(file, at, json!(format!("rate(ece_probes_total{{{good}}}[5m])")), "$__rate_interval");
    finds(file, at, json!(format!("up{{{good}}}")), "other jobs");
    finds(file, at, json!(format!("ece_probe_success{{{good}}}")), "replicas");
    finds(file, at, json!(format!("sum(ece_probe_success{{{good}}})")), "replicas");
    finds(file, at, json!(format!("sum(ece_api_keys{{{good}}})")), "replicas");
    for old in ["max(ece_credential_expiry_timestamp_seconds", "min(ece_probe_success"] {
        finds(file, at, json!(format!("{old}{{{good}}})")), "replica that");
    }
    finds(
        file,
        at,
        json!(format!("a{{{good}}} * on (platform) group_left (team) b{{{good}}}")),
        "many-to-many",
    );
    let detail = "ece-credential-detail.json";
    let one = format!("max(ece_probe_success{{{good}, platform=~\"$platform\"}})");
    finds(detail, at, json!(one), "$platform has one value");
}

// ---- the command ----

#[test]
fn the_command_lists_prints_and_writes_the_dashboards() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(&["dashboards"], dir.path());
    assert_eq!(code, 0);
    assert_eq!(out.lines().count(), FILES.len(), "{out}");
    for (line, file) in out.lines().zip(FILES) {
        let title = dashboard(file)["title"].as_str().unwrap().to_owned();
        let cells: Vec<&str> =
            line.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect();
        assert_eq!(cells, [file.trim_end_matches(".json"), &title, file]);
        let (code, out, _) = run(&["dashboards", cells[0]], dir.path());
        assert_eq!(code, 0);
        assert!(out == text_of(file), "{file} is not printed byte for byte");
    }

    let (code, out, _) = run(&["dashboards", "--output-dir=a/b"], dir.path());
    assert_eq!(code, 0);
    let folder = dir.path().join("a/b");
    for file in FILES {
        assert!(out.contains(&format!("wrote a/b/{file}")), "{out}");
        assert!(fs::read_to_string(folder.join(file)).unwrap() == text_of(file), "{file}");
    }
    // What Grafana reads from is where they are.
    assert!(out.contains("wrote a/b/provider.yml"), "{out}");
    let provider = fs::read_to_string(folder.join("provider.yml")).unwrap();
    let here = format!("      path: {:?}\n", folder.canonicalize().unwrap());
    assert!(provider.contains(&here), "{provider}");
    let there = "      path: /var/lib/grafana/dashboards/ece-expiry-exporter\n";
    assert_eq!(provider.replace(&here, there), text_of("provider.yml"));
    assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), FILES.len() + 1);
    let (code, _, _) = run(&["dashboards", "--output-dir=a/b"], dir.path());
    assert_eq!(code, 0, "an upgrade writes them again");
}

#[test]
fn the_command_says_what_it_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = run(&["dashboards", "overview"], dir.path());
    assert_eq!((code, out.as_str()), (1, ""));
    let known = "no dashboard is called overview; there are: ece-expiry-overview, ";
    assert!(err.contains(known), "{err}");

    fs::write(dir.path().join("file"), "").unwrap();
    let (code, out, err) = run(&["dashboards", "--output-dir=file"], dir.path());
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("cannot create the folder file: "), "{err}");

    fs::create_dir_all(dir.path().join("taken/ece-credential-detail.json")).unwrap();
    let (code, out, err) = run(&["dashboards", "--output-dir=taken"], dir.path());
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("cannot write taken/ece-credential-detail.json: "), "{err}");
    assert!(!dir.path().join("taken/ece-credential-detail.new").exists(), "nothing half is left");

    let (code, _, err) = run(&["dashboards", "ece-expiry-overview", "--output-dir=x"], dir.path());
    assert!(code == 2 && err.contains("cannot be used with"), "{err}");
}
