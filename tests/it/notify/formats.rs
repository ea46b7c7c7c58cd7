//! Bodies of the formats of services: their words, their limits, and names that try to break out of them.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use ece_expiry_exporter::alert::{AlertName, Reason};
use ece_expiry_exporter::config::{
    Carries, Config, SecretSource, Severity, WebhookConfig, WebhookFormat,
};
use ece_expiry_exporter::delivery::{Notice, Undelivered};
use ece_expiry_exporter::notify::format::{check, stored};
use ece_expiry_exporter::notify::{Channel, check_formats, compose, compose_end_of_test};
use expect_test::{ExpectFile, expect_file};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{credential, draft, notice, now, origin, platform_notice, webhook_config};

const ID: &str = "msg_01JDEXAMPLE00000000000000A";
/// The formats that are files.
const FILES: [&str; 6] = ["pagerduty", "slack", "teams", "discord", "ntfy", "jsm"];

pub(super) fn channel(format: &str) -> WebhookConfig {
    let mut config = webhook_config(SecretSource::Env("UNUSED".to_owned()));
    config.format = WebhookFormat::built_in(format).unwrap();
    for (of, name, value) in [("ntfy", "topic", "ops"), ("pagerduty", "region", "us")] {
        if of == format {
            config.params.insert(name.to_owned(), value.to_owned());
        }
    }
    config
}

pub(super) fn bytes(format: &str, notices: &[Notice]) -> Vec<u8> {
    compose(Channel::Webhook(&channel(format)), &draft(ID, notices, &origin())).unwrap()
}

fn body(format: &str, notices: &[Notice]) -> Value {
    serde_json::from_slice(stored::open(&bytes(format, notices)).body).unwrap()
}

fn ends_of_test(format: &str) -> Option<Vec<u8>> {
    let test = [notice(AlertName::CredentialExpiring, Reason::Test, Severity::Info)];
    compose_end_of_test(Channel::Webhook(&channel(format)), &draft(ID, &test, &origin())).unwrap()
}

fn new() -> Notice {
    notice(AlertName::CredentialExpiring, Reason::New, Severity::Warning)
}

fn escalated() -> Notice {
    notice(AlertName::CredentialExpiring, Reason::Escalated, Severity::Critical)
}

fn renewed() -> Notice {
    let mut renewed = notice(AlertName::CredentialExpiring, Reason::Renewed, Severity::Critical);
    renewed.previous_expiry = credential(&mut renewed).expires_at;
    credential(&mut renewed).expires_at = Some(now() + TimeDelta::days(90));
    renewed
}

/// Every text of a tree, with the path that leads to it.
fn texts<'a>(path: &str, json: &'a Value, found: &mut Vec<(String, &'a str)>) {
    match json {
        Value::String(text) => found.push((path.to_owned(), text)),
        Value::Array(items) => {
            for item in items {
                texts(&format!("{path}[]"), item, found);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                texts(&format!("{path}.{key}"), item, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn all_texts(json: &Value) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    texts("", json, &mut found);
    found
}

/// A tree without its texts: its structure.
fn shape(json: &Value) -> Value {
    match json {
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(map) => map.iter().map(|(key, it)| (key.clone(), shape(it))).collect(),
        Value::String(_) => json!("text"),
        other => other.clone(),
    }
}

#[test]
fn a_body_says_what_fires_escalates_and_is_renewed() {
    let goldens: [(&str, ExpectFile); 8] = [
        ("cloudevents", expect_file!["golden/cloudevents.json"]),
        ("alertmanager", expect_file!["golden/alertmanager.json"]),
        ("pagerduty", expect_file!["golden/pagerduty.json"]),
        ("slack", expect_file!["golden/slack.json"]),
        ("teams", expect_file!["golden/teams.json"]),
        ("discord", expect_file!["golden/discord.json"]),
        ("ntfy", expect_file!["golden/ntfy.json"]),
        ("jsm", expect_file!["golden/jsm.json"]),
    ];
    for (format, golden) in goldens {
        let group =
            [new(), renewed(), platform_notice(AlertName::PlatformUnreachable, Reason::New)];
        let mut all = json!({
            "firing": body(format, &[new()]),
            "escalated": body(format, &[escalated()]),
            "renewed": body(format, &[renewed()]),
        });
        if channel(format).format.carries() == Carries::Group {
            all["group"] = body(format, &group);
        }
        golden.assert_eq(&format!("{all:#}\n"));
    }
}

#[test]
fn every_format_of_the_program_comes_out_of_its_own_trial() {
    for format in FILES {
        let config = channel(format);
        check(config.format.file().unwrap(), &config).unwrap();
    }
}

#[test]
fn an_incident_keeps_its_key_while_it_escalates_and_ends_by_it() {
    let key = |notice: Notice| body("pagerduty", &[notice])["dedup_key"].clone();
    assert_eq!(key(new()), "ece-expiry/prod/terraform/lifetime");
    assert_eq!(key(new()), key(escalated()));
    assert_eq!(key(new()), key(renewed()));
    let expired = notice(AlertName::CredentialExpired, Reason::Escalated, Severity::Critical);
    assert_eq!(key(new()), key(expired));
    for other in [
        notice(AlertName::CredentialRejected, Reason::New, Severity::Critical),
        platform_notice(AlertName::PlatformUnreachable, Reason::New),
        notice(AlertName::CredentialExpiring, Reason::Test, Severity::Info),
    ] {
        assert_ne!(key(new()), key(other));
    }
    let severity = |notice: Notice| body("pagerduty", &[notice])["payload"]["severity"].clone();
    assert_eq!((severity(new()), severity(escalated())), (json!("warning"), json!("critical")));
    assert_eq!(body("pagerduty", &[renewed()])["event_action"], "resolve");

    let mut long = new();
    credential(&mut long).name = "ü".repeat(300);
    let key = key(long);
    assert!(key.as_str().unwrap().len() <= 255, "{key}");
}

#[test]
fn an_alert_of_jsm_is_closed_by_its_alias() {
    let alias = body("jsm", &[new()])["alias"].as_str().unwrap().to_owned();
    let close = bytes("jsm", &[renewed()]);
    let path = stored::open(&close).path.unwrap();
    assert_eq!(path, format!("/{alias}/close?identifierType=alias"));
    assert!(alias.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-'), "{alias}");
    assert_eq!(stored::open(&bytes("jsm", &[new()])).path, None);
    let mut config = channel("jsm");
    config.params.insert("responder_team".to_owned(), "a\"b".to_owned());
    let bytes = compose(Channel::Webhook(&config), &draft(ID, &[new()], &origin())).unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(body["responders"], json!([{"type": "team", "name": "a\"b"}]));
}

#[test]
fn a_test_closes_what_it_opens_and_nothing_else() {
    for format in ["pagerduty", "jsm", "alertmanager"] {
        let test = notice(AlertName::CredentialExpiring, Reason::Test, Severity::Info);
        let (opened, end) = (bytes(format, &[test]), ends_of_test(format).unwrap());
        let open: Value = serde_json::from_slice(&opened).unwrap();
        let close: Value = serde_json::from_slice(stored::open(&end).body).unwrap();
        match format {
            "pagerduty" => {
                assert_eq!(
                    (&open["event_action"], &close["event_action"]),
                    (&json!("trigger"), &json!("resolve"))
                );
                assert_eq!(open["dedup_key"], close["dedup_key"]);
                assert!(open["payload"]["summary"].as_str().unwrap().starts_with("TEST"));
            }
            "jsm" => {
                let path = stored::open(&end).path.unwrap();
                assert!(path.contains(open["alias"].as_str().unwrap()), "{path}");
            }
            _ => {
                assert_eq!(
                    (&open["status"], &close["status"]),
                    (&json!("firing"), &json!("resolved"))
                );
                assert_eq!(open["alerts"][0]["fingerprint"], close["alerts"][0]["fingerprint"]);
            }
        }
    }
    for format in ["generic", "cloudevents", "slack", "teams", "discord", "ntfy"] {
        assert_eq!(ends_of_test(format), None, "{format}");
    }
}

#[test]
fn an_event_of_cloudevents_has_what_the_standard_requires() {
    let event = body("cloudevents", &[escalated()]);
    assert_eq!(event["specversion"], "1.0");
    assert_eq!((&event["id"], &event["subject"]), (&json!(ID), &json!("prod/terraform")));
    assert_eq!(event["type"], "org.example.ece.credential.expiring");
    assert_eq!(event["source"], "https://expiry.example.org");
    assert_eq!(event["data"], body("generic", &[escalated()])["data"]);
    let names = event.as_object().unwrap().keys();
    assert!(names.clone().all(|it| it.bytes().all(|it| it.is_ascii_lowercase())), "{names:?}");
}

#[test]
fn a_group_of_alertmanager_says_what_its_alerts_have_alike() {
    let mut other = new();
    credential(&mut other).name = "backup".to_owned();
    let mut config = channel("alertmanager");
    let message = |config: &WebhookConfig, notices: &[Notice], key: &str| -> Value {
        let origin = origin();
        let draft =
            ece_expiry_exporter::notify::Draft { group_key: key, ..draft(ID, notices, &origin) };
        serde_json::from_slice(&compose(Channel::Webhook(config), &draft).unwrap()).unwrap()
    };
    let group = message(&config, &[new(), other.clone(), renewed()], "");
    assert_eq!(group["version"], "4");
    assert_eq!((&group["status"], &group["receiver"]), (&json!("firing"), &json!("r")));
    let key = r#"{}:{alertname="ECECredentialExpiring", platform="prod"}"#;
    assert_eq!(group["groupKey"], key);
    assert_eq!(
        group["groupLabels"],
        json!({"alertname": "ECECredentialExpiring", "platform": "prod"})
    );
    assert!(group["commonLabels"].get("credential").is_none());
    assert_eq!(group["commonLabels"]["team"], "platform");
    let alerts = group["alerts"].as_array().unwrap();
    assert_eq!(alerts[0]["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(alerts[0]["startsAt"], "2026-11-22T21:00:00Z");
    assert_eq!(
        (&alerts[2]["status"], &alerts[2]["endsAt"]),
        (&json!("resolved"), &json!("2026-11-23T21:00:00Z"))
    );
    let prints: BTreeSet<_> = alerts.iter().map(|it| it["fingerprint"].to_string()).collect();
    assert_eq!(prints.len(), 3);

    let given =
        message(&config, &[new(), other.clone()], r#"{}/{team="platform"}:{team="platform"}"#);
    assert_eq!(given["groupLabels"], json!({"team": "platform"}));
    config.max_alerts = 1;
    let cut = message(&config, &[new(), other], "");
    assert_eq!((cut["alerts"].as_array().unwrap().len(), &cut["truncatedAlerts"]), (1, &json!(1)));
    assert_eq!(message(&config, &[renewed()], "")["status"], "resolved");
}

/// Names as long as they may be, full of characters that count double and of markup that is escaped.
fn large() -> Notice {
    let mut large = notice(AlertName::CredentialExpired, Reason::New, Severity::Critical);
    let long = |count: usize| "🔑<[*_".repeat(count / 5);
    large.undelivered = Some(Undelivered { target: long(200), why: long(250) });
    large.platform = long(60);
    let it = credential(&mut large);
    it.name = long(60);
    it.team = Some(long(60));
    it.used_by = vec![long(400); 40];
    it.renewal_note = Some(long(4_000));
    large.probe.success = false;
    large.probe.error = Some(long(600));
    large
}

fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

#[test]
fn no_message_is_larger_than_its_service_takes() {
    for count in [1, 2, 7, 500] {
        let notices = vec![large(); count];
        let size = |format: &str| stored::open(&bytes(format, &notices)).body.len();
        let long = |json: &Value, path: &str| -> usize {
            let found = all_texts(json);
            let found = found.iter().filter(|(it, _)| it.ends_with(path)).map(|(_, it)| utf16(it));
            found.max().unwrap_or_default()
        };
        let slack = body("slack", &notices);
        let blocks = slack["attachments"][0]["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50, "{}", blocks.len());
        for block in blocks {
            let max = if block["type"] == "header" { 150 } else { 3_000 };
            assert!(utf16(block["text"]["text"].as_str().unwrap_or_default()) <= max);
            let fields = block["fields"].as_array();
            assert!(fields.is_none_or(|it| (1..=10).contains(&it.len())));
        }
        assert!(long(&slack, ".fields[].text") <= 2_000 && long(&slack, ".text") <= 3_000);

        assert!(size("teams") < 28_000 - 4_000, "{}", size("teams"));

        let discord = body("discord", &notices);
        assert!(utf16(discord["content"].as_str().unwrap()) <= 2_000);
        let embeds = discord["embeds"].as_array().unwrap();
        assert!(embeds.len() <= 10);
        let all: usize = all_texts(&discord["embeds"])
            .iter()
            .filter(|(path, _)| !path.ends_with("url") && !path.ends_with("timestamp"))
            .map(|(_, it)| utf16(it))
            .sum();
        assert!(all <= 6_000, "{all}");
        assert!(long(&discord, ".title") <= 256 && long(&discord, ".description") <= 4_096);
        assert!(long(&discord, ".value") <= 1_024);
        assert!(embeds.iter().all(|it| it["fields"].as_array().unwrap().len() <= 25));

        let ntfy = body("ntfy", &notices);
        assert!(ntfy["message"].as_str().unwrap().len() <= 4_096);
        assert!(ntfy["actions"].as_array().unwrap().len() <= 3);
        if 20 < count {
            assert!(slack.to_string().contains("490 more"), "{slack}");
            assert!(discord["content"].as_str().unwrap().contains("496 more"), "{discord}");
            assert!(ntfy["message"].as_str().unwrap().contains('…'), "{ntfy}");
        }
    }
    let pagerduty = body("pagerduty", &[large()]);
    assert!(utf16(pagerduty["payload"]["summary"].as_str().unwrap()) <= 1_024);
    assert!(pagerduty["dedup_key"].as_str().unwrap().len() <= 255);
    assert!(pagerduty.to_string().len() < 512_000);
    let jsm = body("jsm", &[large()]);
    assert!(utf16(jsm["message"].as_str().unwrap()) <= 130);
    assert!(jsm["alias"].as_str().unwrap().len() <= 512);
    assert!(utf16(jsm["description"].as_str().unwrap()) <= 15_000);
    assert!(jsm["details"].to_string().len() <= 8_000);
}

/// Puts `name` wherever a name or a sentence of somebody else can stand.
fn named(name: &str) -> Notice {
    let mut notice = notice(AlertName::CredentialRejected, Reason::New, Severity::Critical);
    name.clone_into(&mut notice.platform);
    notice.probe.success = false;
    notice.probe.error = Some(name.to_owned());
    let it = credential(&mut notice);
    name.clone_into(&mut it.name);
    it.team = Some(name.to_owned());
    it.used_by = vec![name.to_owned()];
    it.renewal_note = Some(name.to_owned());
    it.labels = [("tier".to_owned(), name.to_owned())].into();
    notice.undelivered = Some(Undelivered { target: name.to_owned(), why: name.to_owned() });
    notice
}

#[test]
fn a_name_mentions_nobody_and_links_nowhere() {
    let name = "<!channel> @everyone [x](http://evil.example) **b** <http://evil.example|y>";
    let notices = [named(name)];
    let slack = body("slack", &notices);
    for (path, text) in all_texts(&slack) {
        let plain = path.contains(".blocks");
        assert!(plain || !text.contains('<'), "{path}: {text}");
    }
    let kinds: BTreeSet<&str> = all_texts(&slack["attachments"][0]["blocks"])
        .into_iter()
        .filter(|(path, _)| path.ends_with("text.type") || path.ends_with("fields[].type"))
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(kinds, BTreeSet::from(["plain_text"]));
    let teams = body("teams", &notices);
    let kinds = all_texts(&teams);
    assert!(kinds.iter().all(|(_, text)| !["TextBlock", "FactSet"].contains(text)), "{kinds:?}");
    let discord = body("discord", &notices);
    assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
    for (path, text) in all_texts(&discord) {
        for mark in ["](", "@everyone", "**", "http:"] {
            assert!(!text.contains(mark), "{path}: {mark} in {text}");
        }
        assert!(!text.replace("\\<", "").contains('<'), "{path}: {text}");
    }
    let ntfy = body("ntfy", &notices);
    assert_eq!(ntfy["click"], "https://expiry.example.org/runbooks/ECECredentialRejected");
    assert_eq!(ntfy.get("markdown"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_a_name_holds_never_changes_the_structure(name in r#"[a-z"'\\{}\[\]<>@!*_`$%\n\r\u{0}\u{1b}\u{202e}\u{e000}\u{e001}🔑ü ]{1,40}"#) {
        // A name of white space is no name.
        prop_assume!(name.chars().any(|it| it.is_ascii_alphanumeric()));
        for format in FILES {
            let wanted = shape(&body(format, &[named("terraform")]));
            let stored = bytes(format, &[named(&name)]);
            let opened = stored::open(&stored);
            let json: Value = serde_json::from_slice(opened.body).unwrap();
            prop_assert_eq!(&shape(&json), &wanted, "{}", format);
            for (path, text) in all_texts(&json) {
                let is_secret = path == ".routing_key";
                prop_assert!(is_secret || !text.contains(['\u{e000}', '\u{e001}']), "{}", path);
                prop_assert!(!text.contains(['\u{0}', '\u{1b}', '\r', '\u{202e}']), "{}", path);
            }
        }
    }
}

#[test]
fn a_format_that_carries_one_alert_takes_no_group() {
    for format in ["generic", "cloudevents", "pagerduty", "jsm"] {
        let config = channel(format);
        let two = [new(), new()];
        let refused = compose(Channel::Webhook(&config), &draft(ID, &two, &origin()));
        assert!(refused.unwrap_err().to_string().contains("carries one notice"), "{format}");
    }
    for format in ["alertmanager", "slack", "teams", "discord", "ntfy"] {
        let refused = compose(Channel::Webhook(&channel(format)), &draft(ID, &[], &origin()));
        assert!(refused.is_err(), "{format}");
    }
}

// ---- format files of the user's ----

/// A configuration whose one webhook has this format file, and what the trial says of it.
fn tried(template: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("key", "key");
    write("url", "https://chat.example.org/hooks/x");
    write("format.yml", template);
    let text = "
platforms: [{name: p, urls: [https://ece], credentials: [{name: c, api_key_file: key}]}]
route: {receiver: r}
receivers: [{name: r, webhook_configs: [{format: template, template_file: format.yml, url_file: url, params: {channel: ops}}]}]
";
    let config = Config::parse(text, &folder.path().join("config.yml"));
    let said = config
        .map_err(|it| it.to_string())
        .and_then(|it| check_formats(&it).map_err(|it| format!("{it:#}")));
    said.map_err(|it| it.replace(&folder.path().display().to_string(), "FOLDER"))
}

const HEAD: &str = "carries: alert\nparams: [{name: channel}]\n";

#[test]
fn the_example_of_a_format_file_works() {
    tried(include_str!("../../../docs/webhook-template.yml")).unwrap();
}

#[test]
fn a_mistake_in_a_format_file_is_told_with_its_line() {
    for (body, wanted) in [
        (
            "body:\n  text: '{{ summary }}'\n",
            "format.yml:4: body.text: names something that does not exist",
        ),
        ("body:\n  text: '{{ alert.sumary }}'\n", "format.yml:4: body.text: names something"),
        (
            "body:\n  text: '{{ alert.summary|nofilter }}'\n",
            "format.yml:4: body.text: unknown filter",
        ),
        (
            "body:\n  text: '{% if false %}{{ x| }}{% endif %}'\n",
            "format.yml:4: body.text: syntax error",
        ),
        ("body:\n  text: '{{ alert.summary'\n", "format.yml:4: body.text: syntax error"),
        ("body:\n  team: '{{ alert.credential.team }}'\n", "ECEPlatformUnreachable"),
        ("body:\n  x: {$wen: a}\n", "format.yml:4: body.x: `$wen` is no instruction"),
        ("body:\n  x: {$for: alert.steps}\n", "format.yml:4: body.x: `$for` is `NAME in LIST`"),
        (
            "body:\n  x: {$for: it in alert.steps, $text: '{{ it }}'}\n",
            "makes several values; put it into a list",
        ),
        (
            "body:\n  x: {$for: it in alert.summary.x, $text: '{{ it }}'}\n",
            "format.yml:4: body.x.$for: names",
        ),
        (
            "body:\n  x: {$value: alert.expiry, $text: a}\n",
            "one of `$items`, `$text` and `$value` is enough",
        ),
        ("body:\n  x: {$value: alert.expiry, y: a}\n", "`y` cannot stand beside"),
        (
            "body:\n  x: '{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}'\n",
            "does not come to an end",
        ),
        ("bytes_max: 300\nbody:\n  x: '{{ alert.description }}'\n", "the body has"),
        ("url: 'http://{{ params.channel }}'\nbody: {}\n", "it does not begin with https://"),
        ("path: 'x/{{ alert.name }}'\nbody: {}\n", "format.yml:3: path: begins neither with"),
        ("body: {$when: alert.repeat == 99}\n", "makes 0 values"),
        ("secret: a token\nbody: {}\n", "`format: template` needs `secret_file` or `secret_env`"),
    ] {
        let said = tried(&format!("{HEAD}{body}")).expect_err(wanted);
        assert!(said.contains(wanted), "{wanted:?} is not in: {said}");
    }
}

#[test]
fn a_text_of_a_format_file_cannot_become_structure() {
    let text = format!(
        "{HEAD}body: {{a: '\",\"b\":\"{{{{ alert.summary }}}}', n: 5, t: true, s: '5', z: null, v: {{$value: alert.repeat}}}}\n"
    );
    tried(&text).unwrap();
}
