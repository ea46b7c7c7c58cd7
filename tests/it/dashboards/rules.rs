//! The rules of the dashboards, as functions from a dashboard to complaints: those of Grafana's dashboard-linter that
//! apply to Prometheus, and our own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::model::{annotations, array, label_values, panels, targets, text, variables};
use crate::promql;

/// Complaints that are accepted, with the reason.
pub const EXCEPTIONS: [(&str, &str); 0] = [];

/// Columns of Grafana's grid.
const GRID_WIDTH: i64 = 24;

/// Fewer characters than this do not explain a panel to anybody.
const DESCRIPTION_CHARS_MIN: usize = 30;

/// The units that the panels use: what is not here is probably a slip.
const UNITS: [&str; 10] = [
    "none",
    "short",
    "d",
    "s",
    "dtdurations",
    "dateTimeAsIso",
    "dateTimeFromNow",
    "percentunit",
    "bytes",
    "ops",
];

/// Metrics that every target of a Prometheus has: with all jobs chosen they are those of strangers too.
const OF_EVERYBODY: [&str; 3] = ["up", "scrape_", "process_"];

/// The variables that every dashboard has, with their label.
const BASE_VARIABLES: [(&str, &str); 3] =
    [("datasource", "Data source"), ("job", "Job"), ("instance", "Instance")];

/// The variables of dashboards about credentials.
const CREDENTIAL_VARIABLES: [(&str, &str); 3] =
    [("platform", "Platform"), ("team", "Team"), ("credential", "Credential")];

/// What is wrong with a dashboard, but for what is accepted.
pub fn complaints(dashboard: &Value) -> Vec<String> {
    let accepted: BTreeSet<&str> = EXCEPTIONS.iter().map(|it| it.0).collect();
    all_complaints(dashboard).into_iter().filter(|it| !accepted.contains(it.as_str())).collect()
}

/// What is wrong with a dashboard.
pub fn all_complaints(dashboard: &Value) -> Vec<String> {
    let mut found = whole(dashboard);
    found.extend(variables(dashboard).iter().flat_map(variable));
    found.extend(panels(dashboard).into_iter().flat_map(panel));
    found.extend(grid(dashboard));
    found.extend(queries(dashboard));
    found
}

// ---- the whole ----

fn whole(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |key: &str, good: bool| {
        if !good {
            found.push(format!("{key} is {}", dashboard[key]));
        }
    };
    // The newest that Grafana 10.4 reads; newer ones migrate it.
    must("schemaVersion", dashboard["schemaVersion"] == 39);
    must("version", dashboard["version"] == 1);
    must("editable", dashboard["editable"] == false);
    must("graphTooltip", dashboard["graphTooltip"] == 1);
    must("uid", (1..=40).contains(&text(&dashboard["uid"]).len()));
    must("title", !text(&dashboard["title"]).is_empty());
    must("description", DESCRIPTION_CHARS_MIN <= text(&dashboard["description"]).len());
    must("tags", dashboard["tags"] == serde_json::json!(["ece", "ece-expiry"]));
    // Those of an export from one Grafana mean nothing in another.
    must("id", dashboard.get("id").is_none());
    must("__inputs", dashboard.get("__inputs").is_none());
    let links = array(&dashboard["links"]);
    let bar = links.iter().find(|it| it["type"] == "dashboards" && it["tags"][0] == "ece-expiry");
    must("links", bar.is_some_and(|it| it["includeVars"] == true && it["keepTime"] == true));

    let names: Vec<String> = variables(dashboard).iter().map(|it| text(&it["name"])).collect();
    let of_credentials = dashboard["uid"] != "ece-expiry-exporter";
    let extra = if of_credentials { &CREDENTIAL_VARIABLES[..] } else { &[] };
    let wanted = BASE_VARIABLES.iter().chain(extra).map(|it| it.0.to_owned());
    if names != wanted.collect::<Vec<_>>() {
        found.push(format!("the variables are {names:?}"));
    }
    let mut wanted = vec!["Critical alerts"];
    wanted.extend(of_credentials.then_some("Renewals"));
    for name in wanted {
        if !annotations(dashboard).iter().any(|it| it["name"] == name) {
            found.push(format!("there is no annotation {name}"));
        }
    }
    for annotation in annotations(dashboard) {
        let name = &annotation["name"];
        if !is_ours(&annotation["datasource"]) {
            found.push(format!("annotation {name}: its datasource is not the variable"));
        }
        let alerts = annotation["name"] == "Critical alerts";
        if annotation["enable"] == alerts {
            found.push(format!("annotation {name}: alerts are off at first, the others on"));
        }
    }
    found
}

fn is_ours(datasource: &Value) -> bool {
    *datasource == serde_json::json!({"type": "prometheus", "uid": "${datasource}"})
}

// ---- variables ----

fn variable(variable: &Value) -> Vec<String> {
    let name = text(&variable["name"]);
    let mut found = Vec::new();
    let mut must = |what: &str, good: bool| {
        if !good {
            found.push(format!("variable {name}: {what} is wrong"));
        }
    };
    let mut known = BASE_VARIABLES.iter().chain(&CREDENTIAL_VARIABLES);
    let label = known.find(|it| it.0 == name).map_or("", |it| it.1);
    must("label", variable["label"] == label);
    must("description", !text(&variable["description"]).is_empty());
    if name == "datasource" {
        must("type", variable["type"] == "datasource" && variable["query"] == "prometheus");
        return found;
    }
    must("type", variable["type"] == "query");
    must("datasource", is_ours(&variable["datasource"]));
    // 2 is "when the time range changes": a credential that came later is offered too.
    must("refresh", variable["refresh"] == 2);
    must(
        "query",
        label_values(variable).is_some_and(|(selector, label)| {
            let narrowed = match name.as_str() {
                "job" => true,
                "instance" => selector.contains("job=~\"$job\""),
                _ => selector.contains("job=~\"$job\", instance=~\"$instance\""),
            };
            label == name && narrowed && selector.starts_with("ece_")
        }),
    );
    let multi = variable["multi"] == true;
    must("includeAll", variable["includeAll"] == multi);
    must("multi", multi || ["platform", "credential"].contains(&name.as_str()));
    if multi {
        // A label that is missing matches `.*` only, and a credential need not have a team.
        let all = if name == "team" { ".*" } else { ".+" };
        must("allValue", variable["allValue"] == all);
        must("current", variable["current"]["value"] == serde_json::json!(["$__all"]));
    } else {
        must("allValue", variable.get("allValue").is_none());
    }
    found
}

// ---- panels ----

fn panel(panel: &Value) -> Vec<String> {
    let title = text(&panel["title"]);
    let mut found = Vec::new();
    if title.is_empty() {
        found.push(format!("panel {} has no title", panel["id"]));
    }
    let kind = text(&panel["type"]);
    if kind == "row" {
        return found;
    }
    let mut must = |what: &str, good: bool| {
        if !good {
            found.push(format!("{title}: {what}"));
        }
    };
    must("no description that helps", DESCRIPTION_CHARS_MIN <= text(&panel["description"]).len());
    if kind == "text" {
        return found;
    }
    must("its datasource is not the variable", is_ours(&panel["datasource"]));
    must("no targets", !array(&panel["targets"]).is_empty());
    let units = units(panel);
    must("no unit", panel["fieldConfig"]["defaults"]["unit"].is_string());
    must(&format!("unit of {units:?}"), units.iter().all(|it| UNITS.contains(&it.as_str())));
    for target in array(&panel["targets"]) {
        must("the datasource of a target is not the variable", is_ours(&target["datasource"]));
        must(
            "instant and range contradict each other",
            target["instant"].as_bool() != target["range"].as_bool(),
        );
        let table = kind == "table";
        must("the format of a target", (target["format"] == "table") == table);
        must(
            "a table and a stat ask for now",
            kind == "timeseries" || kind == "state-timeline" || target["instant"] == true,
        );
    }
    found.extend(colours(panel, &kind, &title));
    if kind == "table" {
        found.extend(table(panel, &title));
    }
    found
}

fn units(panel: &Value) -> Vec<String> {
    let config = &panel["fieldConfig"];
    let overrides = array(&config["overrides"]).iter().flat_map(|it| array(&it["properties"]));
    let overrides = overrides.filter(|it| it["id"] == "unit").map(|it| &it["value"]);
    overrides.chain([&config["defaults"]["unit"]]).map(text).collect()
}

/// Thresholds ascend from nothing, and what is coloured also says it in words or numbers.
fn colours(panel: &Value, kind: &str, title: &str) -> Vec<String> {
    let mut found = Vec::new();
    let config = &panel["fieldConfig"];
    let properties: Vec<&Value> =
        array(&config["overrides"]).iter().flat_map(|it| array(&it["properties"])).collect();
    let of = |id: &str| {
        let in_overrides = properties.iter().filter(|it| it["id"] == id).map(|it| &it["value"]);
        in_overrides.chain([&config["defaults"][id]]).collect::<Vec<_>>()
    };
    for thresholds in of("thresholds") {
        let values: Vec<Option<f64>> =
            array(&thresholds["steps"]).iter().map(|it| it["value"].as_f64()).collect();
        let ascending = values.windows(2).all(|it| it[0] < it[1]);
        if !ascending || values.first() != Some(&None) {
            found.push(format!("{title}: its thresholds do not ascend from nothing: {values:?}"));
        }
    }
    let mappings: Vec<&Value> = of("mappings").into_iter().flat_map(array).collect();
    for mapping in &mappings {
        let results: Vec<&Value> = match mapping["type"].as_str() {
            Some("value") => mapping["options"].as_object().unwrap().values().collect(),
            _ => vec![&mapping["options"]["result"]],
        };
        if results.iter().any(|it| text(&it["text"]).is_empty() || text(&it["color"]).is_empty()) {
            found.push(format!("{title}: a value is mapped to no words or to no colour"));
        }
    }
    if kind == "state-timeline" {
        let words = !array(&config["defaults"]["mappings"]).is_empty();
        if !words || panel["options"]["showValue"] == "never" {
            found.push(format!("{title}: colours without words"));
        }
    }
    if kind == "stat" && panel["options"]["textMode"] == "none" {
        found.push(format!("{title}: colour without text"));
    }
    found
}

/// A table is one row for each thing: `Time` goes before the frames are merged, names and order come after.
fn table(panel: &Value, title: &str) -> Vec<String> {
    let mut found = Vec::new();
    let transformations = array(&panel["transformations"]);
    let steps: Vec<String> = transformations.iter().map(|it| text(&it["id"])).collect();
    if steps != ["organize", "merge", "organize", "sortBy"] {
        found.push(format!("{title}: drop Time before merge, then name, then sort: {steps:?}"));
    }
    if transformations[0]["options"]["excludeByName"]["Time"] != true {
        found.push(format!("{title}: Time is not dropped before merge"));
    }
    // The table's own sorting would put blanks first.
    if panel["options"].get("sortBy").is_some() {
        found.push(format!("{title}: it is sorted twice"));
    }
    found
}

fn grid(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut taken: BTreeMap<(i64, i64), String> = BTreeMap::new();
    for panel in panels(dashboard) {
        let title = text(&panel["title"]);
        if !ids.insert(panel["id"].as_i64()) {
            found.push(format!("{title}: another panel has the id {}", panel["id"]));
        }
        if !titles.insert(title.clone()) {
            found.push(format!("{title}: another panel has this title"));
        }
        let side = |name: &str| panel["gridPos"][name].as_i64().unwrap_or(-1);
        let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
        if x < 0 || y < 0 || w < 1 || h < 1 || GRID_WIDTH < x + w {
            found.push(format!("{title}: it does not fit the grid"));
            continue;
        }
        let cells = (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column)));
        let others: BTreeSet<String> =
            cells.filter_map(|it| taken.insert(it, title.clone())).collect();
        if !others.is_empty() {
            found.push(format!("{title}: it overlaps {others:?}"));
        }
    }
    found
}

// ---- queries ----

fn queries(dashboard: &Value) -> Vec<String> {
    let known: BTreeMap<String, bool> =
        variables(dashboard).iter().map(|it| (text(&it["name"]), it["multi"] == true)).collect();
    let mut found = Vec::new();
    for panel in panels(dashboard) {
        for target in targets(panel) {
            let place = format!("{} {}", target.panel, target.ref_id);
            found.extend(query(&place, &target.expr, &known));
            found.extend(of_replicas(&place, &target.expr));
        }
    }
    for annotation in annotations(dashboard) {
        found.extend(query(&text(&annotation["name"]), &text(&annotation["expr"]), &known));
    }
    for variable in variables(dashboard) {
        let Some((selector, _)) = label_values(variable) else { continue };
        let place = format!("variable {}", text(&variable["name"]));
        found.extend(of_variables(&place, &selector, &known));
    }
    // Links name variables too.
    let whole = dashboard["panels"].to_string();
    for name in names_of_variables(&whole) {
        if !known.contains_key(&name) && !name.starts_with("__") {
            found.push(format!("a panel: ${name} is not a variable"));
        }
    }
    found
}

fn query(place: &str, expr: &str, known: &BTreeMap<String, bool>) -> Vec<String> {
    let mut found = of_variables(place, expr, known);
    let mut complain = |what: &str| found.push(format!("{place}: {what}: {expr}"));
    let selectors = selectors(expr);
    if selectors.len() != promql::metrics_of(expr).len() {
        complain("a metric without job=~\"$job\", instance=~\"$instance\"");
    }
    for (metric, inside) in &selectors {
        for wanted in ["job=~\"$job\"", "instance=~\"$instance\""] {
            if !inside.contains(wanted) {
                complain(&format!("{metric} without {wanted}"));
            }
        }
        let everybody = OF_EVERYBODY.iter().any(|it| metric.starts_with(it));
        if everybody && !expr.contains("on (job, instance)") && !expr.contains("offset") {
            complain(&format!("{metric} of other jobs too, when all are chosen"));
        }
        let counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|it| metric.ends_with(it));
        if counter && !is_in_rate(expr, metric) {
            complain(&format!("{metric} is a counter: rate or increase it"));
        }
    }
    for function in ["rate(", "irate("] {
        for (at, _) in expr.match_indices(function) {
            let word = !expr[..at].ends_with(|it: char| it.is_alphanumeric() || it == '_');
            let range = expr[at..].split_once('[').map_or("", |it| it.1);
            if word && !range.starts_with("$__rate_interval]") {
                complain("use $__rate_interval");
            }
        }
    }
    // Two replicas may differ in any label of an info metric, as in the middle of a renewal.
    if expr.contains("group_left") || expr.contains("group_right") {
        complain("this join becomes many-to-many when two replicas differ");
    }
    for (metric, _) in &selectors {
        let watched = ["ece_credential_", "ece_probe_", "ece_platform_", "ece_api_key"]
            .iter()
            .any(|it| metric.starts_with(it));
        if watched && !metric.ends_with("_total") && !is_folded(expr, metric) {
            complain(&format!("two replicas double {metric}: fold it with max or min"));
        }
    }
    found
}

/// Replicas that disagree are folded as the rules of Prometheus do: a date counts if the last probe of its replica
/// succeeded, and one replica that succeeds is enough.
fn of_replicas(place: &str, expr: &str) -> Vec<String> {
    let mut found = Vec::new();
    let dates = expr.split("ece_credential_expiry_timestamp_seconds{").skip(1);
    for rest in dates.map(|it| it.split_once('}').map_or("", |it| it.1)) {
        if !rest.starts_with(" and on (platform, credential, job, instance) ") {
            found.push(format!("{place}: a replica that fails may hold an old date: {expr}"));
        }
    }
    for least in ["min by (platform, credential) (ece_probe_success{", "min(ece_probe_success{"] {
        if expr.contains(least) {
            found.push(format!("{place}: one replica that succeeds is enough: {expr}"));
        }
    }
    found
}

/// Every variable is defined; one with several values is compared by `=~`, one with a single value, which Grafana does
/// not escape as an expression, by `=`.
fn of_variables(place: &str, expr: &str, known: &BTreeMap<String, bool>) -> Vec<String> {
    let mut found = Vec::new();
    for name in names_of_variables(expr) {
        if name.starts_with("__") {
            continue;
        }
        match known.get(&name) {
            None => found.push(format!("{place}: ${name} is not a variable: {expr}")),
            Some(true) if !expr.contains(&format!("=~\"${name}\"")) => {
                found.push(format!("{place}: ${name} has many values, compare it by =~: {expr}"));
            }
            Some(false) if expr.contains(&format!("=~\"${name}\"")) => {
                found.push(format!("{place}: ${name} has one value, compare it by =: {expr}"));
            }
            Some(_) => {}
        }
    }
    found
}

/// The names after `$`, with or without braces, formats and fields left out.
fn names_of_variables(text: &str) -> BTreeSet<String> {
    let after = text.split('$').skip(1);
    after
        .map(|it| it.trim_start_matches('{'))
        .map(|it| it.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect())
        .filter(|it: &String| !it.is_empty())
        .collect()
}

/// Each metric that has matchers, with what stands in its braces.
fn selectors(expr: &str) -> Vec<(String, String)> {
    let is_name = |it: char| it.is_alphanumeric() || it == '_';
    expr.match_indices('{')
        .map(|(at, _)| {
            let start = expr[..at].rfind(|it| !is_name(it)).map_or(0, |it| it + 1);
            let inside = expr[at + 1..].split('}').next().unwrap_or_default();
            (expr[start..at].to_owned(), inside.to_owned())
        })
        .filter(|(metric, _)| !metric.is_empty())
        .collect()
}

/// Whether every mention of a counter stands in a function that makes a change of it.
fn is_in_rate(expr: &str, metric: &str) -> bool {
    expr.match_indices(&format!("{metric}{{"))
        .all(|(at, _)| ["rate(", "increase(", "irate("].iter().any(|it| expr[..at].ends_with(it)))
}

/// Whether every mention of a metric of something watched stands in a fold over the replicas, or only filters.
fn is_folded(expr: &str, metric: &str) -> bool {
    let folds = ["max", "min"];
    expr.match_indices(&format!("{metric}{{")).all(|(at, _)| {
        let before = &expr[..at];
        if before.ends_with("and on (platform, credential) ") {
            return true;
        }
        // The parentheses that are open here, from the inside: one of them is of a fold.
        let mut depth = 0;
        for (index, sign) in before.char_indices().rev() {
            match sign {
                ')' => depth += 1,
                '(' if 0 < depth => depth -= 1,
                '(' => {
                    let head = before[..index].trim_end();
                    let (word, grouped) = match head.rsplit_once(" by (") {
                        Some((word, labels)) if labels.find(')') == Some(labels.len() - 1) => {
                            (word, true)
                        }
                        _ => (head, false),
                    };
                    // Counting folds by labels only: without, it counts the replicas.
                    if folds.iter().any(|it| word.ends_with(it))
                        || grouped && word.ends_with("count")
                    {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    })
}
