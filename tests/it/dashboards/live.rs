//! Every query of the dashboards, asked of a real Prometheus that scrapes two real exporters.
//!
//! The exporters watch the same credentials, each on an ECE of its own, so that they differ wherever replicas can
//! differ: in the ids of the keys, and in the URL of the platform.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::{Answer, Expires, HeaderMode, Role, SimKey};
use ece_expiry_exporter::time;
use serde_json::{Value, json};

use super::model::{
    FILES, Target, annotations, array, dashboard, label_values, panels, root, targets, text,
    variables,
};
use crate::prometheus::Prometheus;
use crate::world::{Binary, World};

/// A credential to which everything happens; with what is special in queries, in regular expressions and in addresses.
const NASTY: &str = "MacBook 14\" \\ (key) + 1";

/// How many credentials each exporter watches; the list of keys is one.
const WATCHED: usize = 11;

/// ECE refuses an expired key without saying when it expired, so one expires while it is watched: after several probes.
const EXPIRES_AFTER: TimeDelta = TimeDelta::seconds(6);

/// Queries that find nothing here although they are right, with the reason.
const EMPTY: [(&str, &str); 1] = [(
    "annotation Restarts",
    "a restart here takes another port, which is another instance to Prometheus",
)];

/// Where the answers to the tables are kept, for the tests with Grafana's own code.
const ANSWERS: &str = "tests/grafana/answers.json";

fn cast(now: DateTime<Utc>) -> Vec<(&'static str, Expires)> {
    let at = |days| Expires::At(now + TimeDelta::days(days) + TimeDelta::hours(1));
    vec![
        ("expired", at(3)),
        ("critical", at(4)),
        ("warning", at(10)),
        ("soon", at(20)),
        ("fine", at(80)),
        ("forever", Expires::Never),
        (NASTY, at(5)),
    ]
}

async fn world(now: DateTime<Utc>) -> World {
    let mut world = World::new().await;
    world.write("beat-url", &format!("{}/beat", world.sink.url()));
    world.extra.push_str("heartbeat: {url_file: beat-url}\n");
    for (name, expires) in cast(now) {
        world.add(name, expires);
    }
    // Without a team; and of which ECE tells nothing that is a date.
    let at = Expires::At(now + TimeDelta::days(50));
    let garbage = HeaderMode::Raw(vec![b"soon".to_vec()]);
    for (name, key) in [
        ("teamless", SimKey::new("owner", "teamless", at).with_role(Role::Admin)),
        ("garbage", SimKey::new("owner", "garbage", at).with_header(garbage)),
    ] {
        let encoded = world.ece.add_key(key);
        world.write(&format!("key-{name}"), &encoded);
        writeln!(world.platforms, "      - {{name: {name}, api_key_file: key-{name}}}").unwrap();
    }
    world.ece.world().sessions.set_password("ops", "right");
    world.write("ops", "right");
    let login = "{name: ops, team: owners, login: {username: ops, password_file: ops}}";
    writeln!(world.platforms, "      - {login}").unwrap();
    // Keys that nobody gave the exporter.
    let at = Expires::At(now + TimeDelta::days(12) + TimeDelta::hours(1));
    for name in ["ci pipeline", "deleted meanwhile"] {
        world.ece.add_key(SimKey::new("marc", name, at));
    }
    let list =
        "{credential: teamless, scope: all, team: owners, schedule: 1s, lifetime_max: 1000d}";
    writeln!(world.platforms, "    inventory: {list}").unwrap();
    "schedule: 1s".clone_into(&mut world.global);
    world
}

/// Two exporters, and a Prometheus that saw a renewal, a revocation, a reload and a lost message.
struct Stage {
    prometheus: Prometheus,
    _replicas: [(World, Binary); 2],
}

impl Stage {
    async fn set() -> Self {
        let now = time::now();
        let (a, b) = (world(now).await, world(now).await);
        let id = |world: &World| world.ece.world().key("fine").unwrap().id.clone();
        assert_ne!(id(&a), id(&b), "the replicas do not differ");
        let first = Binary::serve(&a, &[], &[]).await;
        let second = Binary::serve(&b, &[], &[]).await;
        let prometheus = Prometheus::scraping_replicas(&[&first, &second]).await;
        prometheus.await_series("ece_probe_success", 2 * WATCHED).await;
        for world in [&a, &b] {
            world.ece.set_expiry("expired", Expires::At(time::now() + EXPIRES_AFTER)).unwrap();
        }
        // So old that what happens next can be told from what was before.
        prometheus.await_series("ece_expiry_exporter_build_info offset 6s", 2).await;
        first.signal("HUP");
        b.sink.set_default(Answer::Status(400));
        for world in [&a, &b] {
            let renewed = world.ece.renew(NASTY).unwrap();
            world.write(&format!("key-{NASTY}"), &renewed);
        }
        let nasty = format!("{{credential=\"{}\"}}", escape(NASTY));
        let late = format!("ece_credential_expiry_timestamp_seconds{nasty} - time() > 6 * 86400");
        prometheus.await_series(&late, 2).await;
        let lost = "increase(ece_expiry_exporter_notifications_failed_total[1m]) > 0";
        prometheus.await_series(lost, 1).await;
        for world in [&a, &b] {
            world.ece.revoke(NASTY).unwrap();
            world.ece.revoke("deleted meanwhile").unwrap();
            let mut fresh = SimKey::new("eva", "made meanwhile", Expires::Never);
            fresh.created = time::now();
            world.ece.add_key(fresh);
        }
        let found = "increase(ece_api_key_findings_total{finding=~\"created|deleted\"}[1m]) > 0";
        prometheus.await_series(found, 4).await;
        let expired = "ece_credential_expiry_timestamp_seconds - time() <= 0";
        prometheus.await_series(expired, 2).await;
        let rejected = format!("ece_credential_alert_firing{nasty} == 1");
        prometheus.await_series(&rejected, 2).await;
        for world in [&a, &b] {
            let requests = "sum by (integration) (increase(ece_expiry_exporter_notification_duration_seconds_count[1m])) > 0";
            assert!(!world.mailbox.mails().is_empty());
            prometheus.await_series(requests, 2).await;
        }
        // What the tables show of channels must not depend on the moment.
        prometheus.await_series("ece_expiry_exporter_notifications_pending == 0", 4).await;
        Self { prometheus, _replicas: [(a, first), (b, second)] }
    }

    async fn now(&self, expr: &str) -> Vec<Value> {
        let found = self.prometheus.ask("/api/v1/query", &[("query", expr)]).await;
        array(&found["result"]).to_vec()
    }

    /// The series of a range that ends now: 60 steps.
    async fn range(&self, expr: &str, step: u32) -> Vec<Value> {
        let end = time::to_seconds(time::now());
        let (start, end) = (end - f64::from(60 * step), end);
        let (start, end, step) = (start.to_string(), end.to_string(), step.to_string());
        let params =
            [("query", expr), ("start", start.as_str()), ("end", end.as_str()), ("step", &step)];
        let found = self.prometheus.ask("/api/v1/query_range", &params).await;
        array(&found["result"]).to_vec()
    }

    async fn target(&self, target: &Target, chosen: &Chosen) -> Vec<Value> {
        let interval = target.interval.as_deref().unwrap_or("1s");
        let expr = chosen.fill(&target.expr, interval);
        if target.instant {
            return self.now(&expr).await;
        }
        let step = match interval {
            "1s" => 1,
            "5m" => 300,
            "1h" => 3600,
            other => panic!("a step of {other}"),
        };
        self.range(&expr, step).await
    }

    /// The value of a stat.
    async fn stat(&self, dashboard: &Value, title: &str, chosen: &Chosen) -> f64 {
        let panel = panels(dashboard).into_iter().find(|it| it["title"] == title).unwrap();
        let found = self.target(&targets(panel)[0], chosen).await;
        assert_eq!(found.len(), 1, "{title}: {found:?}");
        text(&found[0]["value"][1]).parse().unwrap()
    }
}

/// What is chosen in the variables of a dashboard.
struct Chosen(BTreeMap<String, String>);

impl Chosen {
    /// What a dashboard shows at first: everything; where only one can be chosen, `NASTY`.
    fn at_first(dashboard: &Value) -> Self {
        let chosen = variables(dashboard).iter().map(|variable| {
            let name = text(&variable["name"]);
            let value = match (name.as_str(), variable["multi"] == true) {
                (_, true) => text(&variable["allValue"]),
                ("platform", false) => "prod".to_owned(),
                ("credential", false) => escape(NASTY),
                (_, false) => String::new(),
            };
            (name, value)
        });
        Self(chosen.collect())
    }

    /// The same with something chosen.
    fn with(mut self, dashboard: &Value, choices: &[(&str, &str)]) -> Self {
        for (name, value) in choices {
            let variable = variables(dashboard).iter().find(|it| it["name"] == *name).unwrap();
            let multi = variable["multi"] == true;
            let value = if multi { escape_in_expression(value) } else { escape(value) };
            self.0.insert((*name).to_owned(), value);
        }
        self
    }

    /// Puts the variables in, as Grafana does with a scrape interval of one second.
    fn fill(&self, expr: &str, interval: &str) -> String {
        let mut expr = expr.replace("$__rate_interval", "4s").replace("$__interval", interval);
        for (name, value) in &self.0 {
            expr = expr.replace(&format!("${name}"), value);
        }
        assert!(!expr.contains('$'), "{expr}");
        expr
    }
}

/// A value between quotes.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A value in a regular expression between quotes.
fn escape_in_expression(value: &str) -> String {
    let literal: String = value
        .chars()
        .flat_map(|it| ["\\^$.*+?()[]{}|".contains(it).then_some('\\'), Some(it)])
        .flatten()
        .collect();
    escape(&literal)
}

#[tokio::test]
async fn every_query_finds_what_it_is_for() {
    let stage = Stage::set().await;
    everything_is_found(&stage).await;
    the_overview_counts_right(&stage).await;
    nothing_is_doubled_or_strange(&stage).await;
    a_credential_without_a_team_is_there(&stage).await;
    record(&stage).await;
}

async fn everything_is_found(stage: &Stage) {
    let mut empty = Vec::new();
    for file in FILES {
        let dashboard = dashboard(file);
        let at_first = Chosen::at_first(&dashboard);
        let nasty: Chosen = if file == "ece-expiry-exporter.json" {
            Chosen::at_first(&dashboard).with(&dashboard, &[("job", "ece")])
        } else {
            Chosen::at_first(&dashboard).with(
                &dashboard,
                &[("job", "ece"), ("platform", "prod"), ("team", "owners"), ("credential", NASTY)],
            )
        };
        for chosen in [at_first, nasty] {
            for target in panels(&dashboard).into_iter().flat_map(targets) {
                if stage.target(&target, &chosen).await.is_empty() {
                    empty.push(format!("{} {}", target.panel, target.ref_id));
                }
            }
            for annotation in annotations(&dashboard) {
                let expr = chosen.fill(&text(&annotation["expr"]), "1s");
                if stage.range(&expr, 1).await.is_empty() {
                    empty.push(format!("annotation {}", text(&annotation["name"])));
                }
            }
            for variable in variables(&dashboard) {
                let Some((selector, label)) = label_values(variable) else { continue };
                let selector = chosen.fill(&selector, "1s");
                let path = format!("/api/v1/label/{label}/values");
                let values = stage.prometheus.ask(&path, &[("match[]", &selector)]).await;
                if array(&values).is_empty() {
                    empty.push(format!("variable {label} of {file}"));
                }
            }
        }
    }
    let expected: BTreeSet<String> = EMPTY.iter().map(|it| it.0.to_owned()).collect();
    assert_eq!(empty.into_iter().collect::<BTreeSet<_>>(), expected);
}

async fn the_overview_counts_right(stage: &Stage) {
    let overview = dashboard("ece-expiry-overview.json");
    let all = Chosen::at_first(&overview);
    for (title, expected) in [
        ("Expired", 1.0),
        ("Critical", 1.0),
        ("Warning", 1.0),
        ("Rejected", 1.0),
        ("Expiry unknown", 1.0),
        ("Probe failing", 3.0),
        ("Never expires", 1.0),
        ("Watched", 11.0),
    ] {
        let found = stage.stat(&overview, title, &all).await;
        assert!((found - expected).abs() < 0.1, "{title}: {found}");
    }
    let nobody = Chosen::at_first(&overview).with(&overview, &[("team", "nobody")]);
    for title in ["Expired", "Probe failing", "Watched"] {
        let found = stage.stat(&overview, title, &nobody).await;
        assert!(found.abs() < 0.1, "{title} of nobody: {found}, not a zero");
    }
}

/// Two exporters that see the same are one row, and other targets of the Prometheus are none.
async fn nothing_is_doubled_or_strange(stage: &Stage) {
    let own = stage.now("up{job=\"prometheus\"}").await;
    let strange = text(&own[0]["metric"]["instance"]);
    for file in FILES {
        let dashboard = dashboard(file);
        let all = Chosen::at_first(&dashboard);
        for target in panels(&dashboard).into_iter().flat_map(targets) {
            let mut seen = BTreeSet::new();
            for found in stage.target(&target, &all).await {
                let labels = &found["metric"];
                let place = format!("{} {}", target.panel, target.ref_id);
                assert_ne!(labels["instance"], strange, "{place}");
                // What is shown of a credential is shown once; but its ids may be two.
                let of_many = [
                    "reason",
                    "severity",
                    "key_id",
                    "receiver",
                    "level",
                    "integration",
                    "state",
                    "finding",
                ];
                let keys = ["platform", "credential", "instance"];
                let key: Vec<String> =
                    keys.iter().chain(&of_many).map(|it| labels[*it].to_string()).collect();
                assert!(seen.insert(key), "{place} has two of {labels}");
            }
        }
    }
}

async fn a_credential_without_a_team_is_there(stage: &Stage) {
    let overview = dashboard("ece-expiry-overview.json");
    let table = panels(&overview).into_iter().find(|it| it["type"] == "table").unwrap();
    let first = &targets(table)[0];
    let names = async |chosen: &Chosen| {
        let rows = stage.target(first, chosen).await;
        rows.iter().map(|it| text(&it["metric"]["credential"])).collect::<BTreeSet<_>>()
    };
    let all = names(&Chosen::at_first(&overview)).await;
    let of_team = names(&Chosen::at_first(&overview).with(&overview, &[("team", "owners")])).await;
    assert!(all.contains("teamless") && !of_team.contains("teamless"), "{all:?} {of_team:?}");
    assert_eq!((all.len(), of_team.len()), (WATCHED, WATCHED - 2), "{of_team:?}");

    let detail = dashboard("ece-credential-detail.json");
    let chosen = Chosen::at_first(&detail).with(&detail, &[("credential", "teamless")]);
    let panel = panels(&detail).into_iter().find(|it| it["title"] == "Team").unwrap();
    let found = stage.target(&targets(panel)[0], &chosen).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["metric"], json!({"team": "none"}));
}

/// Keeps the answers to the tables if asked to (`UPDATE_EXPECT=1`); they must be of the queries of today.
async fn record(stage: &Stage) {
    let mut answers = serde_json::Map::new();
    for file in FILES {
        let dashboard = dashboard(file);
        let all = Chosen::at_first(&dashboard);
        for panel in panels(&dashboard).into_iter().filter(|it| it["type"] == "table") {
            let mut of_panel = serde_json::Map::new();
            for target in targets(panel) {
                let result = stage.target(&target, &all).await;
                of_panel.insert(target.ref_id, json!({"expr": target.expr, "result": result}));
            }
            answers.insert(text(&panel["title"]), Value::Object(of_panel));
        }
    }
    let path = root().join(ANSWERS);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let text = serde_json::to_string_pretty(&answers).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (title, panel) in &answers {
        for (ref_id, answer) in panel.as_object().unwrap() {
            let kept = &kept[title][ref_id];
            let place = format!("{ANSWERS}: {title} {ref_id}");
            assert_eq!(kept["expr"], answer["expr"], "{place}: UPDATE_EXPECT=1 keeps new answers");
            assert_eq!(shape(kept), shape(answer), "{place}: UPDATE_EXPECT=1 keeps new answers");
        }
    }
}

/// The label names and how many there are of them: what does not change from run to run.
fn shape(answer: &Value) -> BTreeMap<Vec<&str>, usize> {
    let mut shape = BTreeMap::new();
    for series in array(&answer["result"]) {
        let labels = series["metric"].as_object().unwrap().keys().map(String::as_str).collect();
        *shape.entry(labels).or_default() += 1;
    }
    shape
}
