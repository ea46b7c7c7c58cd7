//! A real Prometheus scrapes the real binary.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::{Expires, Role, SimKey};
use ece_expiry_exporter::time;
use serde_json::Value;

use crate::world::{
    Binary, PROMTOOL_LINT, World, answer, client, fetch, is_at, promtool, wait_until,
};

const NASTY: &str = "MacBook 14\" \\ key";

fn in_days(days: i64) -> DateTime<Utc> {
    time::now() + TimeDelta::days(days)
}

/// A Prometheus of its own: data in a folder that goes away, on a port of the loopback interface.
pub struct Prometheus {
    child: Child,
    url: String,
    /// One for all questions: making one reads every certificate of the system.
    client: reqwest::Client,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    pub async fn scraping(binary: &Binary) -> Self {
        Self::with_rules(binary, "groups: []").await
    }

    /// Evaluates these rules every second.
    pub async fn with_rules(binary: &Binary, rules: &str) -> Self {
        Self::start(free_address(), &[("ece", &[address(binary)])], rules, None).await
    }

    /// Evaluates these rules every second and sends what fires to an Alertmanager. The job is called as the rules say.
    pub async fn alerting(exporter: &str, rules: &str, alertmanager: SocketAddr) -> Self {
        let jobs: [(&str, &[String]); 1] = [("ece-expiry-exporter", &[exporter.to_owned()])];
        Self::start(free_address(), &jobs, rules, Some(alertmanager)).await
    }

    /// Scrapes several exporters under one job, and itself under another, as installations do.
    pub async fn scraping_replicas(binaries: &[&Binary]) -> Self {
        let free = free_address();
        let replicas: Vec<String> = binaries.iter().map(|it| address(it)).collect();
        let jobs: [(&str, &[String]); 2] =
            [("ece", &replicas), ("prometheus", &[free.to_string()])];
        Self::start(free, &jobs, "groups: []", None).await
    }

    async fn start(
        free: SocketAddr,
        jobs: &[(&str, &[String])],
        rules: &str,
        alertmanager: Option<SocketAddr>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config =
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\nscrape_configs:\n".to_owned();
        for (name, targets) in jobs {
            writeln!(
                config,
                "  - job_name: {name}\n    static_configs: [{{targets: {targets:?}}}]"
            )
            .unwrap();
        }
        if let Some(it) = alertmanager {
            writeln!(
                config,
                "alerting: {{alertmanagers: [{{static_configs: [{{targets: [\"{it}\"]}}]}}]}}"
            )
            .unwrap();
        }
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .current_dir(dir.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={free}"))
            .arg("--rules.alert.resend-delay=1s")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|why| {
                panic!(
                    "this test needs Prometheus; on Debian it is the package `prometheus`: {why}"
                )
            });
        let prometheus = Self { child, url: format!("http://{free}"), client: client(), _dir: dir };
        wait_until("Prometheus to be up", async || {
            let asked = prometheus.client.get(format!("{}/-/ready", prometheus.url)).send().await;
            asked.is_ok_and(|it| it.status().is_success())
        })
        .await;
        prometheus
    }

    pub async fn ask(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), params).unwrap();
        let answer = answer(self.client.get(url)).await;
        let (status, text) = (answer.status, answer.text());
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["data"].clone()
    }

    /// The series that a query finds now: labels and value.
    pub async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let data = self.ask("/api/v1/query", &[("query", query)]).await;
        let rows = data["result"].as_array().unwrap().iter();
        rows.map(|it| (it["metric"].clone(), it["value"][1].as_str().unwrap().parse().unwrap()))
            .collect()
    }

    pub async fn await_series(&self, query: &str, count: usize) {
        wait_until(&format!("{count} series of {query}"), async || {
            self.query(query).await.len() == count
        })
        .await;
    }
}

/// A real Alertmanager that does not outlive its test.
pub struct Alertmanager {
    child: Child,
    pub addr: SocketAddr,
    _storage: tempfile::TempDir,
}

impl Alertmanager {
    pub async fn start(config: &Path) -> Self {
        let storage = tempfile::tempdir().unwrap();
        let addr = free_address();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", storage.path().display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--cluster.listen-address=")
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|why| panic!("prometheus-alertmanager: {why}; tests/run installs it"));
        let alertmanager = Self { child, addr, _storage: storage };
        let url = format!("http://{addr}/-/ready");
        wait_until("Alertmanager to be up", async || client().get(&url).send().await.is_ok()).await;
        alertmanager
    }

    /// All alerts that it has.
    pub async fn alerts(&self) -> Vec<Value> {
        let url = format!("http://{}/api/v2/alerts", self.addr);
        serde_json::from_str(&answer(client().get(&url)).await.text()).unwrap()
    }

    /// The names and credentials of those that another alert mutes.
    pub async fn muted(&self) -> BTreeSet<String> {
        let alerts = self.alerts().await;
        let muted = alerts.iter().filter(|it| it["status"]["state"] == "suppressed");
        let label = |it: &Value, name: &str| it["labels"][name].as_str().unwrap_or("").to_owned();
        muted.map(|it| format!("{} {}", label(it, "alertname"), label(it, "credential"))).collect()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(binary: &Binary) -> String {
    binary.url.trim_start_matches("http://").to_owned()
}

/// It cannot be asked which port it took, so it is given one that was free a moment ago.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn prometheus_sees_what_ece_says() {
    let mut world = World::new().await;
    let (soon, later) = (in_days(20), in_days(60));
    world.add("terraform", Expires::At(soon));
    world.add(NASTY, Expires::At(later));
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    let prometheus = Prometheus::scraping(&binary).await;
    prometheus.await_series("up == 1", 1).await;
    prometheus.await_series("ece_credential_expiry_timestamp_seconds", 2).await;

    for (labels, value) in prometheus.query("ece_credential_expiry_timestamp_seconds").await {
        assert_eq!(labels["platform"], "prod");
        let name = labels["credential"].as_str().unwrap();
        let expected = if name == NASTY { later } else { soon };
        assert!(is_at(value, expected), "{name} {value}");
    }
    let info = prometheus.query("ece_credential_info{credential=\"terraform\"}").await;
    assert_eq!(info.len(), 1);
    let labels = &info[0].0;
    assert_eq!(labels["kind"], "api_key");
    assert_eq!(labels["team"], "owners");
    assert_eq!(labels["key_id"], world.ece.world().key("terraform").unwrap().id);
    let join = "ece_credential_expiry_days * on(platform, credential) group_left(team) ece_credential_info";
    assert_eq!(prometheus.query(join).await.len(), 2);

    for (metric, kind) in [
        ("ece_credential_expiry_timestamp_seconds", "gauge"),
        ("ece_probe_success", "gauge"),
        ("ece_probes_total", "counter"),
    ] {
        let metric_types = async |name: &str| {
            let params = [("metric", name), ("match_target", "{job=\"ece\"}")];
            prometheus.ask("/api/v1/targets/metadata", &params).await
        };
        let mut told = metric_types(metric).await;
        if told.as_array().unwrap().is_empty() {
            // OpenMetrics names the family of a counter without its suffix.
            told = metric_types(metric.trim_end_matches("_total")).await;
        }
        assert_eq!(told[0]["type"], kind, "{metric}: {told}");
        assert!(!told[0]["help"].as_str().unwrap().is_empty());
    }

    world.forget(NASTY);
    world.write_config();
    assert_eq!(binary.reload().await.0, 200);
    prometheus.await_series("ece_credential_info", 1).await;
    prometheus.await_series("ece_credential_expiry_timestamp_seconds", 1).await;
    prometheus.await_series("up == 1", 1).await;
}

#[tokio::test]
async fn the_format_follows_the_request_and_promtool_accepts_it() {
    let mut world = World::new().await;
    world.add("terraform", Expires::At(in_days(20)));
    world.add(NASTY, Expires::At(in_days(60)));
    let binary = Binary::serve(&world, &[], &[]).await;
    binary.probe("terraform").await;
    let url = format!("{}/metrics", binary.url);

    let plain = answer(client().get(&url)).await;
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(plain.header("content-encoding"), "");
    let plain = plain.text();
    let (code, said) = promtool(&plain);
    assert_eq!((code, said.as_str()), PROMTOOL_LINT);

    let kind = "application/openmetrics-text; version=1.0.0";
    let open = answer(client().get(&url).header("accept", kind)).await;
    assert_eq!(open.header("content-type"), format!("{kind}; charset=utf-8"));
    assert!(open.text().ends_with("# EOF\n"));

    let zipped = answer(client().get(&url).header("accept-encoding", "gzip")).await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    assert!(zipped.body.starts_with(&[0x1f, 0x8b]) && zipped.body.len() < plain.len() / 2);
}

#[tokio::test]
async fn an_alert_leads_to_its_runbook_at_the_exporter() {
    let mut world = World::new().await;
    world.add("ending", Expires::At(in_days(3)));
    world.add("terraform", Expires::At(in_days(60)));
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    binary.probe("ending").await;
    // Nobody waits a quarter of an hour here; the rest is as it is.
    let rules =
        include_str!("../../alerts/ece-expiry.rules.yml").replace("for: 15m\n", "for: 1s\n");
    let prometheus = Prometheus::with_rules(&binary, &rules).await;
    prometheus
        .await_series("ALERTS{alertname=\"ECECredentialExpiring\",alertstate=\"firing\"}", 1)
        .await;

    let alerts = prometheus.ask("/api/v1/alerts", &[]).await;
    let mut fired = alerts["alerts"].as_array().unwrap().iter();
    let alert = fired.find(|it| it["labels"]["alertname"] == "ECECredentialExpiring").unwrap();
    assert_eq!(alert["labels"]["credential"], "ending");
    assert_eq!(alert["labels"]["severity"], "critical");
    assert_eq!(alert["labels"]["team"], "owners");
    assert_eq!(alert["labels"]["key_id"], Value::Null);
    let runbook = "/runbooks/ECECredentialExpiring";
    // Nobody has said where the exporter is reached, and nothing is guessed.
    let nowhere = format!("ece-expiry-exporter: docs{runbook}");
    assert_eq!(alert["annotations"]["runbook_url"], nowhere);
    let name = "ece_expiry_exporter_external_url_info{";
    assert!(!binary.get("/metrics").await.contains(name));

    let unhealthy = prometheus.ask("/api/v1/rules", &[]).await.to_string();
    assert!(!unhealthy.contains("\"health\":\"err\""), "{unhealthy}");

    let global = world.global.clone();
    write!(world.global, ", external_url: \"{}/\"", binary.url).unwrap();
    world.write_config();
    assert_eq!(binary.reload().await.0, 200);
    let info = format!("{name}url=\"{}\"}} 1\n", binary.url);
    assert!(binary.get("/metrics").await.contains(&info), "without the slash at its end");
    let link = format!("{}{runbook}", binary.url);
    wait_until("the alert to lead to its runbook", async || {
        prometheus.ask("/api/v1/alerts", &[]).await.to_string().contains(&link)
    })
    .await;
    let (status, page) = fetch(&link).await;
    assert!(status == 200 && page.contains("<h2>Mitigation</h2>"), "{page}");

    world.global = global;
    world.write_config();
    assert_eq!(binary.reload().await.0, 200);
    assert!(!binary.get("/metrics").await.contains(name), "what is no longer configured is gone");
}

#[tokio::test]
async fn a_listed_key_is_told_by_its_id_with_its_owner_and_description() {
    let mut world = World::new().await;
    let auditor = SimKey::new("root", "auditor", Expires::At(in_days(3))).with_role(Role::Admin);
    let encoded = world.ece.add_key(auditor);
    world.write("key-auditor", &encoded);
    world.remember("auditor");
    world.ece.add_key(SimKey::new("marc", NASTY, Expires::At(in_days(3))));
    world.ece.add_key(SimKey::new("marc", "dead", Expires::At(in_days(-3))));
    world.ece.add_key(SimKey::new("marc", "old", Expires::Never));
    let list =
        "{credential: auditor, scope: all, team: security, keys_max: 3, lifetime_max: 1000d}";
    writeln!(world.platforms, "    inventory: {list}").unwrap();
    let binary = Binary::serve(&world, &[], &[]).await;
    let rules = include_str!("../../alerts/ece-expiry.rules.yml")
        .replace("for: 15m\n", "for: 1s\n")
        .replace("for: 1h\n", "for: 1s\n");
    let prometheus = Prometheus::with_rules(&binary, &rules).await;
    let firing = "ALERTS{alertstate=\"firing\",kind=\"listed_api_key\"}";
    prometheus.await_series(firing, 1).await;
    prometheus.await_series("ALERTS{alertstate=\"firing\",credential=\"auditor\"}", 1).await;
    let of_list = "ALERTS{alertstate=\"firing\",alertname=\"ECEApiKeysTruncated\"}";
    prometheus.await_series(of_list, 1).await;

    let alerts = prometheus.ask("/api/v1/alerts", &[]).await;
    let mut fired = alerts["alerts"].as_array().unwrap().iter();
    let alert = fired.find(|it| it["labels"]["kind"] == "listed_api_key").unwrap();
    let id = world.ece.world().key(NASTY).unwrap().id.clone();
    let labels = &alert["labels"];
    assert_eq!(labels["alertname"], "ECECredentialExpiring");
    assert_eq!(labels["credential"], id);
    assert_eq!(
        (&labels["user_id"], &labels["team"], &labels["severity"]),
        (&"marc".into(), &"security".into(), &"critical".into())
    );
    let text = alert["annotations"]["description"].as_str().unwrap();
    let begin = format!("The key {id}, \"{NASTY}\", of the user marc on prod expires in 2d 23h");
    assert!(text.starts_with(&begin), "{text}");
    let unhealthy = prometheus.ask("/api/v1/rules", &[]).await.to_string();
    assert!(!unhealthy.contains("\"health\":\"err\""), "{unhealthy}");
}
