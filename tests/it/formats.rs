//! Formats of services in the whole program: from the configuration over the store to the wire, and `notify-test`.

use std::fmt::Write as _;
use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::config::Config;
use ece_expiry_exporter::notify::check_formats;
use ece_expiry_exporter::sim::{Answer, Expires, Hook};
use serde_json::{Value, json};

use crate::world::{World, now, run};

const SECRET: &str = "CANARY-routing-key-0001";

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

/// A world whose receiver has these webhooks; each is told apart by the first part of its path.
async fn world(webhooks: &str) -> World {
    let mut world = World::new().await;
    world.set_now(start());
    for name in ["pagerduty", "slack", "teams", "jsm", "alertmanager", "chat"] {
        world.write(name, &format!("{}/{name}", world.sink.url().trim_end_matches('/')));
    }
    world.write("routing-key", SECRET);
    world.write("genie-key", "CANARY-genie-key-0002");
    world.write("chat.yml", include_str!("../../docs/webhook-template.yml"));
    world.receivers = format!("receivers:\n  - name: ops\n    webhook_configs:\n{webhooks}");
    world
}

const PAGERDUTY: &str =
    "      - {format: pagerduty, url_file: pagerduty, secret_file: routing-key}\n";
const SLACK: &str = "      - {format: slack, url_file: slack}\n";
const JSM: &str = "      - {format: jsm, url_file: jsm, http_config: {authorization: {type: GenieKey, credentials_file: genie-key}}}\n";
const ALERTMANAGER: &str =
    "      - {format: alertmanager, url_file: alertmanager, max_alerts: 2}\n";
const CHAT: &str =
    "      - {format: template, template_file: chat.yml, url_file: chat, params: {channel: ops}}\n";

fn to<'a>(hooks: &'a [Hook], path: &'a str) -> impl Iterator<Item = &'a Hook> {
    hooks.iter().filter(move |it| it.path.trim_start_matches('/').starts_with(path))
}

#[tokio::test]
async fn an_incident_opens_escalates_and_ends_and_the_store_never_has_its_secret() {
    let mut world = world(PAGERDUTY).await;
    world.add("terraform", Expires::At(start() + TimeDelta::days(20)));
    let mut program = world.start().await;
    program.pass(TimeDelta::days(16), TimeDelta::hours(12)).await;
    let renewed = world.ece.renew("terraform").unwrap();
    world.write("key-terraform", &renewed);
    program.pass(TimeDelta::days(1), TimeDelta::hours(6)).await;
    program.stop().await;

    let bodies: Vec<Value> = world.sink.hooks().iter().map(|it| it.json().unwrap()).collect();
    let mut told: Vec<(String, String)> = bodies
        .iter()
        .map(|it| {
            let severity = it.pointer("/payload/severity").unwrap_or(&Value::Null);
            (it["event_action"].to_string(), severity.to_string())
        })
        .collect();
    told.dedup();
    let pair = |action: &str, severity: &str| (json!(action).to_string(), severity.to_owned());
    assert_eq!(
        told,
        [
            pair("trigger", "\"info\""),
            pair("trigger", "\"warning\""),
            pair("trigger", "\"critical\""),
            pair("resolve", "null")
        ]
    );
    assert!(bodies.iter().all(|it| it["routing_key"] == SECRET));
    assert!(bodies.iter().all(|it| it["dedup_key"] == bodies[0]["dedup_key"]));
    for file in fs::read_dir(world.path("store")).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|it| it == SECRET.as_bytes()), "{path:?}");
    }
}

#[tokio::test]
async fn people_get_one_message_for_what_is_due_together_and_machines_one_each() {
    let mut world = world(&[PAGERDUTY, SLACK, ALERTMANAGER, CHAT].concat()).await;
    world.sink.set_default(Answer::Body(200, "ok".to_owned()));
    for name in ["a", "b", "c"] {
        world.add(name, Expires::At(start() + TimeDelta::days(3)));
    }
    let mut program = world.start().await;
    program.monitor.step(now(), now).await;
    world.set_now(now() + TimeDelta::seconds(40));
    program.step().await;
    program.stop().await;
    let hooks = world.sink.hooks();
    assert_eq!(to(&hooks, "pagerduty").count(), 3);
    let slack: Vec<Value> = to(&hooks, "slack").map(|it| it.json().unwrap()).collect();
    assert_eq!(slack.len(), 1, "{slack:?}");
    assert!(slack[0]["text"].as_str().unwrap().contains("3 credentials need attention"));
    let chat: Vec<Value> = to(&hooks, "chat").map(|it| it.json().unwrap()).collect();
    assert_eq!((chat.len(), chat[0]["channel"].as_str()), (1, Some("ops")));
    assert_eq!(chat[0]["attachments"].as_array().unwrap().len(), 3);
    let alertmanager: Vec<Value> =
        to(&hooks, "alertmanager").map(|it| it.json().unwrap()).collect();
    assert_eq!(alertmanager.len(), 1);
    assert_eq!(alertmanager[0]["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(alertmanager[0]["truncatedAlerts"], 1);
}

async fn command(world: &World, args: &[&str]) -> (i32, String, String) {
    world.write_config();
    let mut args: Vec<String> = args.iter().map(|it| (*it).to_owned()).collect();
    args.push("--config.file=config.yml".to_owned());
    let dir = world.dir.path().to_owned();
    let run = move || run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &dir);
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn notify_test_opens_nothing_that_stays() {
    let mut world = world(&[PAGERDUTY, JSM, ALERTMANAGER, SLACK].concat()).await;
    world.add("terraform", Expires::Never);
    world.sink.set_default(Answer::Body(200, "ok".to_owned()));
    let (code, out, err) = command(&world, &["notify-test", "ops"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(out.lines().filter(|it| it.starts_with("ok ")).count(), 7, "{out}");
    for channel in
        ["ops/pagerduty[pagerduty] (closed)", "ops/jsm[jsm] (closed)", "ops/slack[slack]:"]
    {
        assert!(out.contains(channel), "{channel} is not in {out}");
    }
    let hooks = world.sink.hooks();
    let bodies: Vec<Value> = to(&hooks, "pagerduty").map(|it| it.json().unwrap()).collect();
    assert_eq!(
        (&bodies[0]["event_action"], &bodies[1]["event_action"]),
        (&json!("trigger"), &json!("resolve"))
    );
    assert_eq!(bodies[0]["dedup_key"], "ece-expiry/prod/terraform/test");
    let paths: Vec<&str> = to(&hooks, "jsm").map(|it| it.path.as_str()).collect();
    assert!(paths.len() == 2 && paths[1].ends_with("/close?identifierType=alias"), "{paths:?}");
    assert!(
        to(&hooks, "slack").next().unwrap().json().unwrap()["text"]
            .as_str()
            .unwrap()
            .contains("TEST")
    );

    world.sink.set_default(Answer::Body(400, r#"{"message":"invalid routing key"}"#.to_owned()));
    let (code, out, _) = command(&world, &["notify-test", "ops"]).await;
    assert_eq!(code, 1);
    let failed: Vec<&str> = out.lines().filter(|it| it.starts_with("FAILED ")).collect();
    assert_eq!(failed.len(), 4, "what was not opened is not closed: {out}");
    assert!(failed[0].contains("invalid routing key") && !out.contains("CANARY"), "{out}");
}

#[tokio::test]
async fn a_broken_format_file_is_found_before_the_start() {
    let mut world = world(CHAT).await;
    world.add("terraform", Expires::Never);
    let (code, out, err) = command(&world, &["notify-test", "none"]).await;
    assert_eq!(code, 1, "{out}{err}");
    world.write(
        "chat.yml",
        "carries: group\nparams: [{name: channel}]\nbody:\n  text: '{{ titel }}'\n",
    );
    world.write_config();
    let dir = world.dir.path().to_owned();
    let check = move || run(&["check-config", "config.yml"], &dir);
    let (code, out, err) = tokio::task::spawn_blocking(check).await.unwrap();
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("chat.yml:4: body.text: names something that does not exist"), "{err}");
    let (code, _, err) = command(&world, &["notify-test", "ops"]).await;
    assert!(code == 1 && err.contains("chat.yml:4: body.text"), "{err}");
}

/// The YAML blocks of the page about webhooks.
fn blocks() -> Vec<&'static str> {
    let page = include_str!("../../docs/webhooks.md");
    page.split("```yaml\n").skip(1).map(|it| it.split("```").next().unwrap()).collect()
}

#[test]
fn every_configuration_of_the_page_is_valid_and_shows_a_format() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("secrets")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("webhook-template.yml", include_str!("../../docs/webhook-template.yml"));
    write("secrets/hook-url", "https://hooks.example.org/x");
    write("secrets/whsec", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    for name in ["key", "pagerduty-key", "jsm-key"] {
        write(&format!("secrets/{name}"), "key");
    }
    let mut shown = Vec::new();
    for block in blocks() {
        let name = block.lines().find_map(|it| it.trim().strip_prefix("- name: ")).unwrap();
        let text = format!(
            "platforms: [{{name: p, urls: [https://ece], credentials: [{{name: c, api_key_file: secrets/key}}]}}]\n\
             route: {{receiver: {name}}}\n{block}"
        );
        let config = Config::parse(&text, &folder.path().join("config.yml"));
        let config = config.unwrap_or_else(|error| panic!("{error}\n{block}"));
        check_formats(&config).unwrap();
        // What is printed is read again as the same.
        let again = Config::parse(&config.to_yaml(), &folder.path().join("config.yml")).unwrap();
        assert_eq!(again.to_yaml(), config.to_yaml());
        shown.extend(config.receivers[name].webhooks.iter().map(|it| it.format.name().to_owned()));
    }
    assert_eq!(
        shown,
        [
            "generic",
            "cloudevents",
            "alertmanager",
            "pagerduty",
            "slack",
            "teams",
            "discord",
            "ntfy",
            "jsm",
            "template"
        ]
    );
}

/// The names in the first cells of the page's last table; `.x` stands for the name before with another end.
fn documented_names() -> Vec<String> {
    let page = include_str!("../../docs/webhooks.md");
    let table = page.split("| name | holds |\n| --- | --- |\n").nth(1).unwrap();
    let mut names: Vec<String> = Vec::new();
    for row in table.lines().take_while(|it| it.starts_with("| ")) {
        for name in row.split('|').nth(1).unwrap().split(',') {
            let name = name.trim().trim_matches('`');
            let name = match name.strip_prefix('.') {
                Some(end) => {
                    let (base, _) = names.last().unwrap().rsplit_once('.').unwrap();
                    format!("{base}.{end}")
                }
                None => name.to_owned(),
            };
            names.push(name);
        }
    }
    names
}

#[test]
fn every_name_of_the_page_exists_in_a_template() {
    let names = documented_names();
    assert!(60 < names.len(), "{names:?}");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for name in ["key", "token"] {
        write(name, "key");
    }
    write("url", "https://hooks.example.org/x");
    let tried = |names: &[String]| {
        let mut body =
            "carries: group\nbytes_max: 1000000\nsecret: a token\nbody:\n  - {$value: alert}\n"
                .to_owned();
        for name in names {
            let about_credential = name.starts_with("alert.credential.");
            let when = if about_credential { "$when: alert.credential, " } else { "" };
            writeln!(body, "  - {{{when}$text: '{{{{ {name} }}}}'}}").unwrap();
        }
        write("format.yml", &body);
        let text = "
platforms: [{name: p, urls: [https://ece], credentials: [{name: c, api_key_file: key}]}]
route: {receiver: r}
receivers: [{name: r, webhook_configs: [{format: template, template_file: format.yml, url_file: url, secret_file: token}]}]
";
        let config = Config::parse(text, &folder.path().join("config.yml")).unwrap();
        check_formats(&config)
    };
    tried(&names).unwrap();
    assert!(tried(&["alert.credential.colour".to_owned()]).is_err());
}
