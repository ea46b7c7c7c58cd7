//! Alertmanagers hold what fires: the real binary and a real Alertmanager, and what becomes of it when either of them
//! dies.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use ece_expiry_exporter::sim::{Answer, Expires, Fault, On, Role, SimKey, Sink, SinkOptions};
use ece_expiry_exporter::time;
use serde_json::Value;

use crate::prometheus::{Alertmanager, free_address};
use crate::world::{Binary, PATIENCE, Program, World, now, run, sample, wait_until};

fn in_days(days: i64) -> DateTime<Utc> {
    (time::now() + TimeDelta::days(days) + TimeDelta::hours(1)).trunc_subsecs(0)
}

/// A world whose alerts go to a real Alertmanager, and what that tells of them to the sink of the world.
async fn world() -> (World, Alertmanager) {
    let mut world = World::new().await;
    let told = format!("{}/told", world.sink.url());
    world.write(
        "alertmanager.yml",
        &format!(
            "route: {{receiver: hook, group_by: [alertname, credential, severity], group_wait: 0s, group_interval: 1s}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: \"{told}\", send_resolved: true}}]}}]\n"
        ),
    );
    let alertmanager = Alertmanager::start(&world.path("alertmanager.yml")).await;
    world.receivers = receiver("ops", &[&url(&alertmanager)]);
    (world, alertmanager)
}

fn url(alertmanager: &Alertmanager) -> String {
    format!("http://{}", alertmanager.addr)
}

fn receiver(name: &str, urls: &[&str]) -> String {
    format!(
        "receivers:\n  - name: {name}\n    alertmanager_configs: [{{urls: {urls:?}, timeout: 2s}}]\n"
    )
}

/// What fires about a credential, by severity.
async fn firing(alertmanager: &Alertmanager, credential: &str) -> BTreeMap<String, Value> {
    let mut alerts = alertmanager.alerts().await;
    alerts.retain(|it| it["labels"]["credential"] == credential);
    let severity = |it: &Value| it["labels"]["severity"].as_str().unwrap().to_owned();
    alerts.into_iter().map(|it| (severity(&it), it)).collect()
}

async fn await_severities(alertmanager: &Alertmanager, credential: &str, expected: &[&str]) {
    wait_until(&format!("{credential} to fire as {expected:?}"), async || {
        firing(alertmanager, credential).await.keys().eq(expected)
    })
    .await;
}

fn instant(alert: &Value, key: &str) -> DateTime<Utc> {
    alert[key].as_str().unwrap().parse().unwrap()
}

/// What Alertmanager has told of a credential: status and severity, in order.
fn told(world: &World, credential: &str) -> Vec<String> {
    let mut told = Vec::new();
    for hook in world.sink.hooks() {
        for alert in hook.json().unwrap()["alerts"].as_array().unwrap() {
            if alert["labels"]["credential"] == credential {
                let text = |it: &Value| it.as_str().unwrap().to_owned();
                told.push(text(&alert["status"]) + " " + &text(&alert["labels"]["severity"]));
            }
        }
    }
    told
}

#[tokio::test]
async fn an_alert_outlives_the_exporter_and_ends_only_with_its_cause() {
    let (mut world, alertmanager) = world().await;
    world.global += ", external_url: https://expiry.example.org/ece";
    let expires = in_days(3);
    world.add("a", Expires::At(expires));
    let mut binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    binary.probe("a").await;
    await_severities(&alertmanager, "a", &["critical"]).await;

    let alert = firing(&alertmanager, "a").await.remove("critical").unwrap();
    let labels = [
        ("alertname", "ECECredentialExpiring"),
        ("credential", "a"),
        ("kind", "api_key"),
        ("platform", "prod"),
        ("severity", "critical"),
        ("team", "owners"),
    ];
    let labels: BTreeMap<_, _> = labels.into_iter().collect();
    assert_eq!(alert["labels"], serde_json::to_value(labels).unwrap());
    let began = instant(&alert, "startsAt");
    assert_eq!(began, expires - TimeDelta::days(7), "the crossing of the step");
    let left = instant(&alert, "endsAt") - time::now();
    assert!(TimeDelta::minutes(14) < left && left <= TimeDelta::minutes(15), "{left}");
    assert_eq!(alert["generatorURL"], "https://expiry.example.org/ece/");
    let annotations = &alert["annotations"];
    assert!(
        annotations["summary"].as_str().unwrap().contains("expires in 3 days"),
        "{annotations}"
    );
    assert!(annotations["steps"].as_str().unwrap().starts_with("1. "), "{annotations}");
    let runbook = "https://expiry.example.org/ece/runbooks/ECECredentialExpiring";
    assert_eq!(annotations["runbook_url"], runbook);
    assert!(
        annotations["expires_at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap() == expires
    );
    world.sink.wait_for(1, PATIENCE).await.unwrap();

    // Killed, and back while nobody can ask ECE: what fires stands in the store.
    binary.signal("KILL");
    binary.ended().await;
    assert_eq!(firing(&alertmanager, "a").await.len(), 1);
    world.ece.set_fault(On::Everyone, Fault::Html502).unwrap();
    let restarted = time::now();
    let mut binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    let updated_after = async |at: DateTime<Utc>| {
        let alerts = firing(&alertmanager, "a").await;
        alerts.get("critical").is_some_and(|it| at < instant(it, "updatedAt"))
    };
    wait_until("the alert to be told again", async || updated_after(restarted).await).await;
    let alert = firing(&alertmanager, "a").await.remove("critical").unwrap();
    assert_eq!(instant(&alert, "startsAt"), began);

    let reloaded = time::now();
    assert_eq!(binary.reload().await.0, 200);
    wait_until("the alert to be told after the reload", async || updated_after(reloaded).await)
        .await;

    binary.signal("TERM");
    assert_eq!(binary.ended().await.code(), Some(0), "{}", binary.log_text());
    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    let binary = Binary::serve(&world, &[], &[]).await;
    assert_eq!(told(&world, "a"), ["firing critical"], "nobody was told a second time");

    let renewed = world.ece.renew("a").unwrap();
    world.write("key-a", &renewed);
    binary.probe("a").await;
    await_severities(&alertmanager, "a", &[]).await;
    wait_until("the end to be told", async || told(&world, "a").len() == 2).await;
    assert_eq!(told(&world, "a"), ["firing critical", "resolved critical"]);
}

#[tokio::test]
async fn an_alert_that_becomes_worse_is_never_absent() {
    let (mut world, alertmanager) = world().await;
    // The second step is crossed while the test looks on.
    let crossing = time::now() + TimeDelta::seconds(5);
    world.add("a", Expires::At((crossing + TimeDelta::days(7)).trunc_subsecs(0)));
    let binary = Binary::serve(&world, &[], &[]).await;
    binary.probe("a").await;
    await_severities(&alertmanager, "a", &["warning"]).await;
    wait_until("only the critical alert", async || {
        let severities = firing(&alertmanager, "a").await;
        assert!(!severities.is_empty(), "for a moment nothing fired");
        severities.keys().eq(["critical"])
    })
    .await;
    wait_until("three notifications", async || told(&world, "a").len() == 3).await;
    let mut told = told(&world, "a");
    assert_eq!(told.remove(0), "firing warning");
    told.sort();
    assert_eq!(told, ["firing critical", "resolved warning"]);
}

#[tokio::test]
async fn what_is_taken_out_of_the_configuration_ends_and_what_is_led_elsewhere_does_not() {
    let (mut world, alertmanager) = world().await;
    for name in ["a", "b"] {
        world.add(name, Expires::At(in_days(3)));
    }
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    for name in ["a", "b"] {
        binary.probe(name).await;
        await_severities(&alertmanager, name, &["critical"]).await;
    }
    wait_until("both to be told", async || world.sink.hooks().len() == 2).await;

    // The same Alertmanager under the name of another receiver, which the old alerts belong to from now on.
    world.forget("b");
    let more = receiver("others", &[&url(&alertmanager)]);
    world.receivers += more.strip_prefix("receivers:\n").unwrap();
    world.route = "{receiver: others}".to_owned();
    world.write_config();
    let reloaded = time::now();
    assert_eq!(binary.reload().await.0, 200, "{}", binary.log_text());
    wait_until("the end of b and another word of a", async || {
        let alerts = firing(&alertmanager, "a").await;
        let again = alerts.get("critical").is_some_and(|it| reloaded < instant(it, "updatedAt"));
        again && firing(&alertmanager, "b").await.is_empty()
    })
    .await;
    wait_until("the end to be told", async || told(&world, "b").len() == 2).await;
    assert_eq!(told(&world, "b"), ["firing critical", "resolved critical"]);
    assert_eq!(told(&world, "a"), ["firing critical"]);
}

#[tokio::test]
async fn a_replica_that_hangs_or_is_dead_holds_up_no_other_and_is_told_of() {
    let (mut world, alertmanager) = world().await;
    let slow = Sink::start(SinkOptions::default()).await.unwrap();
    slow.set_default(Answer::Hang);
    let dead = free_address();
    world.write("am-token", "CANARY-token");
    let urls = [url(&alertmanager), slow.url() + "/am", format!("http://{dead}")];
    world.receivers = receiver("ops", &urls.each_ref().map(String::as_str)).replace(
        "timeout: 2s",
        "timeout: 20s, http_config: {authorization: {credentials_file: am-token}}",
    );
    world.add("a", Expires::At(in_days(3)));
    let binary = Binary::serve(&world, &[], &[]).await;
    binary.probe("a").await;
    await_severities(&alertmanager, "a", &["critical"]).await;
    let hook = slow.wait_for(1, PATIENCE).await.unwrap().remove(0);
    assert_eq!(hook.path, "/am/api/v2/alerts");
    assert_eq!(hook.header("authorization"), "Bearer CANARY-token");
    assert_eq!(hook.header("content-type"), "application/json");

    let of = |name: &str| {
        format!(
            "ece_expiry_exporter_notification{name}{{receiver=\"ops\",integration=\"alertmanager\"}}"
        )
    };
    wait_until("the metrics to tell of both", async || {
        let metrics = binary.get("/metrics").await;
        let value = |name: &str| sample(&metrics, &of(name)).unwrap();
        0.0 < value("_last_success_timestamp_seconds") && 0.0 < value("_requests_failed_total")
    })
    .await;
    let metrics = binary.get("/metrics").await;
    assert_eq!(sample(&metrics, &of("s_pending")), Some(0.0), "one Alertmanager is enough");
    for name in ["s_total", "s_failed_total", "_duration_seconds_count"] {
        assert_eq!(sample(&metrics, &of(name)), None, "{name} is of messages");
    }
    let page = binary.get("/").await;
    assert!(page.contains(&format!("Alertmanager {dead} of receiver ops")), "{page}");
    let log = binary.log_text();
    let complaint = format!("cannot tell Alertmanager {dead} of receiver ops");
    assert_eq!(log.matches(&complaint).count(), 1, "{log}");
    assert!(!log.contains("CANARY") && !page.contains("CANARY"));
}

#[tokio::test]
async fn alerts_that_no_replica_takes_are_pending_until_one_does() {
    let mut world = World::new().await;
    world.sink.set_default(Answer::Status(503));
    world.receivers = receiver("ops", &[&world.sink.url()]);
    world.add("a", Expires::At(in_days(3)));
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    binary.probe("a").await;
    wait_until("the alert to be pending", async || binary.pending().await == [1.0]).await;
    assert!(binary.get("/").await.contains("answered 503"));
    let since = "ece_expiry_exporter_notification_oldest_pending_timestamp_seconds{receiver=\"ops\",integration=\"alertmanager\"}";
    assert!(0.0 < sample(&binary.get("/metrics").await, since).unwrap());

    world.sink.set_default(Answer::Status(200));
    assert_eq!(binary.reload().await.0, 200);
    wait_until("nothing to be pending", async || binary.pending().await == [0.0]).await;
    assert!(!binary.get("/").await.contains("answered 503"));
}

#[tokio::test]
async fn three_hundred_alerts_are_told_in_two_requests() {
    let (mut world, alertmanager) = world().await;
    let replica = Sink::start(SinkOptions::default()).await.unwrap();
    world.receivers = receiver("ops", &[&url(&alertmanager), &replica.url()]);
    let auditor = SimKey::new("root", "auditor", Expires::At(in_days(300))).with_role(Role::Admin);
    let encoded = world.ece.add_key(auditor);
    world.write("key-auditor", &encoded);
    world.remember("auditor");
    for number in 0..300 {
        world.ece.add_key(SimKey::new("marc", &number.to_string(), Expires::At(in_days(3))));
    }
    writeln!(world.platforms, "    inventory: {{credential: auditor, scope: all}}").unwrap();
    let binary = Binary::serve(&world, &[], &[]).await;
    binary.probe("auditor").await;
    wait_until("300 alerts", async || alertmanager.alerts().await.len() == 300).await;

    wait_until("300 alerts at the other replica", async || replica.hooks().len() >= 2).await;
    let count =
        |hook: &ece_expiry_exporter::sim::Hook| hook.json().unwrap().as_array().unwrap().len();
    let counts: Vec<usize> = replica.hooks().iter().map(count).collect();
    // Empty ones come before there is anything to tell.
    let counts: Vec<usize> = counts.into_iter().filter(|it| 0 < *it).take(2).collect();
    assert_eq!(counts, [256, 44]);
    let log = binary.log_text();
    assert!(!log.contains("cannot tell Alertmanager"), "an empty request is taken too: {log}");
    let alerts = alertmanager.alerts().await;
    let key = alerts.iter().find(|it| it["labels"]["kind"] == "listed_api_key").unwrap();
    assert_eq!(key["generatorURL"], Value::Null, "nobody has said where the exporter is reached");
    assert!(key["annotations"]["description"].as_str().unwrap().contains("of marc"), "{key}");
}

#[tokio::test]
async fn only_what_the_routes_lead_to_an_alertmanager_stands() {
    let mut world = World::new().await;
    let start = "2026-03-01T00:00:00Z".parse().unwrap();
    world.set_now(start);
    let mails =
        world.receivers.strip_prefix("receivers:\n").unwrap().replace("name: ops", "name: mail");
    world.receivers = receiver("ops", &["http://127.0.0.1:9"]) + &mails;
    let to_mail = "routes: [{matchers: [severity=\"critical\"], receiver: mail}]";
    world.route = format!("{{receiver: ops, group_wait: 0s, {to_mail}}}");
    let days = TimeDelta::days;
    for (name, left) in [("mild", 10), ("urgent", 3)] {
        world.add(name, Expires::At(start + days(left)));
    }
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(5), TimeDelta::minutes(1)).await;
    let standing = program.monitor.standing(now());
    assert_eq!(standing.len(), 1, "the urgent one is told by mail alone");
    let notice = &standing[0].notice;
    assert_eq!(notice.credential.as_ref().unwrap().name, "mild");
    assert_eq!((notice.severity.as_str(), &*standing[0].receivers[0]), ("warning", "ops"));
    assert_eq!(notice.starts_at, start + days(10) - days(14));
    // It becomes critical too, and leaves.
    program.pass(days(4), TimeDelta::hours(1)).await;
    assert_eq!(program.monitor.standing(now()), []);
}

#[tokio::test]
async fn a_listed_key_that_has_expired_stands_for_a_day() {
    let mut world = World::new().await;
    let start = "2026-03-01T00:00:00Z".parse().unwrap();
    world.set_now(start);
    world.receivers = receiver("ops", &["http://127.0.0.1:9"]);
    let auditor = SimKey::new("root", "auditor", Expires::At(start + TimeDelta::days(300)));
    let encoded = world.ece.add_key(auditor.with_role(Role::Admin));
    world.write("key-auditor", &encoded);
    world.remember("auditor");
    world.ece.add_key(SimKey::new("marc", "short", Expires::At(start + TimeDelta::hours(5))));
    writeln!(world.platforms, "    inventory: {{credential: auditor, scope: all}}").unwrap();
    let mut program = world.start().await;
    let mut seen = Vec::new();
    for _ in 0..40 {
        program.pass(TimeDelta::hours(1), TimeDelta::hours(1)).await;
        let names = program.monitor.standing(now()).into_iter().map(|it| it.notice.alert);
        let name = names.last().unwrap_or_default();
        if seen.last().is_none_or(|(last, _)| *last != name) {
            seen.push((name, now() - start));
        }
    }
    let hours = TimeDelta::hours;
    let expected =
        [("ECECredentialExpiring", hours(1)), ("ECECredentialExpired", hours(5)), ("", hours(29))];
    assert_eq!(seen, expected.map(|(name, at)| (name.to_owned(), at)));
}

#[tokio::test]
async fn a_finding_stands_for_two_hours_over_a_restart() {
    let mut world = World::new().await;
    let start = "2026-03-01T00:00:00Z".parse().unwrap();
    world.set_now(start);
    world.receivers = receiver("ops", &["http://127.0.0.1:9"]);
    let auditor = SimKey::new("root", "auditor", Expires::At(start + TimeDelta::days(300)));
    let encoded = world.ece.add_key(auditor.with_role(Role::Admin));
    world.write("key-auditor", &encoded);
    world.remember("auditor");
    let list =
        "{credential: auditor, scope: all, schedule: 10m, lifetime_max: 9y, created: warning}";
    writeln!(world.platforms, "    inventory: {list}").unwrap();
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(15), TimeDelta::minutes(5)).await;
    assert_eq!(program.monitor.standing(now()), []);
    let mut key = SimKey::new("marc", "new", Expires::At(start + TimeDelta::days(200)));
    key.created = now();
    world.ece.add_key(key);
    program.pass(TimeDelta::minutes(15), TimeDelta::minutes(5)).await;
    let alert = |program: &Program| {
        let standing = program.monitor.standing(now());
        standing.first().map(|it| (it.notice.alert.clone(), it.notice.starts_at))
    };
    let found = alert(&program).unwrap();
    assert_eq!(found.0, "ECEApiKeyCreated");
    program.stop().await;
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(90), TimeDelta::minutes(10)).await;
    assert_eq!(alert(&program), Some(found));
    program.pass(TimeDelta::minutes(40), TimeDelta::minutes(10)).await;
    assert_eq!(alert(&program), None);
}

#[tokio::test]
async fn a_drill_reaches_every_replica_under_a_name_of_its_own() {
    let (mut world, alertmanager) = world().await;
    let dead = free_address();
    world.receivers = receiver("ops", &[&url(&alertmanager), &format!("http://{dead}")]);
    world.add("a", Expires::At(in_days(3)));
    world.write_config();
    let dir = world.dir.path().to_owned();
    let args = ["notify-test", "ops", "--config.file=config.yml"];
    let ran = tokio::task::spawn_blocking(move || run(&args, &dir)).await.unwrap();
    let (code, out, err) = ran;
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.contains(&format!("ok      ops/alertmanager {}: HTTP 200", alertmanager.addr)),
        "{out}"
    );
    assert!(out.contains(&format!("FAILED  ops/alertmanager {dead}: ")), "{out}");
    let alerts = alertmanager.alerts().await;
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["labels"]["alertname"], "ECEExpiryTest");
    assert_eq!(alerts[0]["labels"]["severity"], "info");
    let left = instant(&alerts[0], "endsAt") - time::now();
    assert!(left < TimeDelta::minutes(1), "{left}");
}
