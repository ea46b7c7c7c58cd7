//! The routing tree: that it means what Alertmanager means by it, that it is printed as it is read, and that mistakes which
//! leave a route without any alert are found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ece_expiry_exporter::alert::AlertName;
use ece_expiry_exporter::config::{Config, GroupBy, Reminder, Severity, Stage};
use expect_test::{Expect, expect};
use tempfile::TempDir;

/// A folder with what the configurations below name.
fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("key", "a-key"), ("url", "https://hooks.example.org/x")] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

fn parse(text: &str) -> Config {
    let folder = folder();
    Config::parse(text, &folder.path().join("config.yml"))
        .unwrap_or_else(|it| panic!("{it}\n{text}"))
}

/// Two credentials of two teams, and these receivers; `more` at the top level.
fn configured(receivers: &[&str], more: &str) -> String {
    let mut text = "platforms:\n  - name: prod\n    urls: [https://ece]\n    credentials:\n      \
                    - {name: terraform, api_key_file: key, team: platform, labels: {tier: 1}}\n      \
                    - {name: backup, api_key_file: key, team: storage}\nreceivers:\n"
        .to_owned();
    for name in receivers {
        let _ = writeln!(text, "  - {{name: {name}, webhook_configs: [{{url_file: url}}]}}");
    }
    text + more
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn told(config: &Config, labels: &BTreeMap<String, String>) -> Vec<String> {
    config.ways(labels, &[]).iter().map(|it| it.receiver.to_string()).collect()
}

fn warns(receivers: &[&str], more: &str, expected: &Expect) {
    expected.assert_eq(&(parse(&configured(receivers, more)).warnings.join("\n") + "\n"));
}

#[test]
fn what_a_route_does_not_say_is_as_above_it() {
    let config = parse(&configured(
        &["all", "team", "night"],
        "
route:
  receiver: all
  group_by: [team, platform]
  group_interval: 10m
  mute_time_intervals: [lunch]
  routes:
    - matchers: [team=platform]
      receiver: team
      group_wait: 1m
      routes:
        - {matchers: [severity=info], group_by: [...], continue: true}
        - {matchers: [severity=info]}
        - {matchers: [severity=info], receiver: night, mute_time_intervals: [night, lunch]}
mute_time_intervals:
  - {name: night, start: '0 22 * * *', duration: 8h, timezone: Europe/Zurich, except: [critical]}
  - {name: lunch, start: '0 12 * * *', duration: 1h}
",
    ));
    let root = config.route.as_ref().unwrap();
    let rows: Vec<String> = root
        .all()
        .into_iter()
        .map(|it| {
            let by = match &it.group_by {
                GroupBy::All => "all".to_owned(),
                GroupBy::Labels(names) => names.join("+"),
            };
            format!(
                "{} {} {by} {:?} {:?} {:?}",
                it.path, it.receiver, it.group_wait, it.group_interval, it.mutes
            )
        })
        .collect();
    expect![[r#"
        {} all platform+team 30s 600s ["lunch"]
        {}/{team="platform"} team platform+team 60s 600s []
        {}/{team="platform"}/{severity="info"} team all 60s 600s []
        {}/{team="platform"}/{severity="info"}/1 team platform+team 60s 600s []
        {}/{team="platform"}/{severity="info"}/2 night platform+team 60s 600s ["night", "lunch"]"#]]
    .assert_eq(&rows.join("\n"));
    let alert = labels(&[("team", "platform"), ("severity", "info")]);
    assert_eq!(told(&config, &alert), ["team"], "no receiver twice");
    let night = &config.mutes["night"];
    let at = "2026-07-10T21:00:00Z".parse().unwrap();
    let end = "2026-07-11T04:00:00Z".parse().unwrap();
    assert_eq!(night.until(at, Severity::Warning), Some(end));
    assert_eq!(night.until(at, Severity::Critical), None);
}

#[test]
fn a_window_without_a_zone_has_that_of_the_program() {
    let more = "global: {timezone: Asia/Tokyo}\nroute: {receiver: a, mute_time_intervals: [night]}\n\
                mute_time_intervals: [{name: night, start: '0 22 * * *', duration: 8h}]\n";
    let config = parse(&configured(&["a"], more));
    let at = "2026-07-10T13:30:00Z".parse().unwrap();
    let end = "2026-07-10T21:00:00Z".parse().unwrap();
    assert_eq!(config.mutes["night"].until(at, Severity::Info), Some(end));
}

#[test]
fn steps_tell_more_people_and_reminders_come_faster() {
    let more = "
route: {receiver: a}
steps:
  - {before: 1d, severity: critical, escalate_to: [boss, a]}
  - {before: 7d, severity: warning, escalate_to: lead}
policy: {reminders: [{left: 3d, every: 12h}, {left: 14d, every: 2d}]}
";
    let text = configured(&["a", "lead", "boss"], more)
        .replace("team: storage", "team: storage, steps: [{before: 2d, severity: info}]");
    let config = parse(&text);
    assert_eq!(config.warnings, [""; 0]);
    let days = |it: u64| Duration::from_secs(it * 86_400);
    let [terraform, backup] = &config.platforms[0].credentials[..] else { panic!() };
    let policy = &terraform.policy;
    assert_eq!(policy.escalated_to(Stage::Step(days(7))), [&"lead".into()]);
    let all = policy.escalated_to(Stage::Expired);
    assert_eq!(all.into_iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["lead", "boss", "a"]);
    assert_eq!(
        policy.reminders,
        [
            Reminder { left: days(14), every: days(2) },
            Reminder { left: days(3), every: Duration::from_secs(12 * 3600) }
        ]
    );
    // Steps of its own replace those above, with whom they tell.
    assert!(backup.policy.escalated_to(Stage::Expired).is_empty());
    assert_eq!(backup.policy.reminders.len(), 2);
}

#[test]
fn the_printed_tree_reads_back() {
    let more = "
route:
  receiver: a
  group_by: ['...']
  mute_time_intervals: [night]
  routes:
    - {matchers: ['team=~\"a\\\\.b|c\"', tier!=1], receiver: b, continue: true, group_by: [team]}
    - routes: [{matchers: ['team=\"x \\\"y\\\"\"'], group_wait: 0s, group_interval: 1h, mute_time_intervals: [night]}]
mute_time_intervals:
  - {name: night, start: '*/30 22 * * 1-5', duration: 8h, timezone: America/New_York, except: [warning, critical]}
steps: [{before: 1d, severity: critical, escalate_to: [b]}]
policy: {reminders: [{left: 3d, every: 12h}]}
";
    let text = configured(&["a", "b"], more).replace("{name: a,", "{name: a, fallback: b,");
    let folder = folder();
    let origin = folder.path().join("config.yml");
    let read =
        |text: &str| Config::parse(text, &origin).unwrap_or_else(|it| panic!("{it}\n{text}"));
    let (first, printed) = (read(&text), read(&text).to_yaml());
    let second = read(&printed);
    assert_eq!(first.route, second.route);
    assert_eq!(first.route.as_ref().unwrap().routes[0].matchers[0].value(), "a\\.b|c");
    assert_eq!(first.route.as_ref().unwrap().routes[1].routes[0].matchers[0].value(), "x \"y\"");
    let policies = |it: &Config| it.platforms[0].credentials[0].policy.clone();
    assert_eq!(policies(&first), policies(&second));
    assert_eq!(second.receivers["a"].fallback, Some("b".into()));
    assert_eq!(format!("{:?}", first.mutes), format!("{:?}", second.mutes));
    assert_eq!(second.to_yaml(), printed);
}

// ---- what nothing reaches ----

#[test]
fn a_tree_in_which_everything_is_reached_has_no_warning() {
    let names = AlertName::ALL.map(|it| format!("alertname=\"{}\"", it.label()));
    let mut more =
        "route:\n  receiver: a\n  group_by: [alertname, deployment, tier]\n  routes:\n".to_owned();
    for name in &names {
        let _ = writeln!(more, "    - {{matchers: ['{name}'], continue: true}}");
    }
    more += "
    - {matchers: [credential=~terraform|never], receiver: b}
    - {matchers: [team!=platform, severity=critical], receiver: c}
    - {matchers: [kind=listed_api_key, credential=K1]}
    - {matchers: [kind=elasticsearch_license, deployment=logs]}
    - {matchers: ['kind!~\".*api_key\"', deployment!=x]}
    - {matchers: ['tier=\"\"', 'credential=~\".*\"']}
";
    let lists = "    inventory: {credential: terraform, created: info, deleted: info, lifetime_max: 90d}\n    \
                 deployments: {credential: terraform, license: true}\nreceivers:";
    let text = configured(&["a", "b", "c"], &more).replace("receivers:", lists);
    assert_eq!(parse(&text).warnings, [""; 0]);
}

#[test]
fn labels_and_values_that_no_alert_has_are_found() {
    let more = "
route:
  receiver: a
  group_by: [tem, alertname]
  routes:
    - {matchers: ['tema=\"platform\"']}
    - {matchers: ['nonsense!=\"x\"'], receiver: b}
    - {matchers: ['severity=\"criticl\"', team=platform]}
    - {matchers: ['severity=~\"page|ticket\"']}
    - {matchers: [alertname=ECECredentialExpire]}
    - {matchers: [platform=test]}
    - {matchers: [team=storag]}
    - {matchers: [tier=2]}
    - {matchers: [alertname=ECEApiKeyCreated], receiver: c}
    - {matchers: ['deployment=logs']}
";
    warns(
        &["a", "b", "c"],
        more,
        &expect![[r#"
            route.group_by: no alert has a label `tem`; did you mean `team`?
            route.routes[0].matchers[0]: no alert has a label `tema`; did you mean `team`?
            route.routes[1].matchers[0]: no alert has a label `nonsense`; there are alertname, credential, deployment, kind, platform, severity, team, tier
            route.routes[2].matchers[0]: no alert has `severity="criticl"`; did you mean `critical`?
            route.routes[3].matchers[0]: no alert has `severity=~"page|ticket"`; there are critical, info, warning
            route.routes[4].matchers[0]: no alert has `alertname="ECECredentialExpire"`; did you mean `ECECredentialExpired`?
            route.routes[5].matchers[0]: no alert has `platform="test"`; there are prod
            route.routes[6].matchers[0]: no alert that goes by the routes has `team="storag"`; did you mean `storage`?
            route.routes[7].matchers[0]: no alert that goes by the routes has `tier="2"`; did you mean `1`?
            route.routes[8].matchers[0]: no alert that goes by the routes has `alertname="ECEApiKeyCreated"`; nothing that is watched can raise it
            route.routes[9].matchers[0]: no alert that goes by the routes has `deployment="logs"`; nothing in this file gives it a value
            receivers: nothing is sent to `a`; no route leads there
            receivers: nothing is sent to `c`; no route leads there
        "#]],
    );
}

#[test]
fn routes_to_which_nothing_comes_are_found() {
    let more = "
route:
  receiver: a
  routes:
    - {matchers: [team=platform], routes: [{matchers: [team=storage], receiver: b}, {matchers: [severity=info, severity=warning]}]}
    - {matchers: ['team=~\"plat.*\"', severity=critical], receiver: c, routes: [{matchers: [tier=1]}]}
    - {matchers: [team=storage, tier=1]}
    - {continue: true, matchers: ['severity!=info']}
    - {receiver: d}
    - {receiver: e, matchers: [severity=critical]}
";
    warns(
        &["a", "b", "c", "d", "e"],
        more,
        &expect![[r#"
            route.routes[0].routes[0]: no alert comes here; none of this configuration fits all of its matchers and those of the routes above
            route.routes[0].routes[1]: no alert comes here; none of this configuration fits all of its matchers and those of the routes above
            route.routes[1]: no alert comes here; all that would are taken before, by route.routes[0]: add `continue: true` there, or put this route first
            route.routes[2]: no alert comes here; none of this configuration fits all of its matchers and those of the routes above
            route.routes[5]: no alert comes here; all that would are taken before, by route.routes[0], route.routes[4]: add `continue: true` there, or put this route first
            receivers: nothing is sent to `b`; no route leads there
            receivers: nothing is sent to `c`; no route leads there
            receivers: nothing is sent to `e`; no route leads there
        "#]],
    );
}

#[test]
fn what_is_listed_later_may_match() {
    let more = "
route:
  receiver: a
  routes:
    - {matchers: [credential=K1], receiver: b, routes: [{matchers: [credential=K2]}, {matchers: ['credential=~\"K.\"'], receiver: c}, {receiver: d}]}
    - {matchers: [credential=~K.*, kind=listed_api_key], receiver: e}
    - {matchers: [credential=K3, kind=api_key]}
";
    let lists = "    inventory: {credential: terraform}\nreceivers:";
    let text = configured(&["a", "b", "c", "d", "e"], more).replace("receivers:", lists);
    expect![[r#"
        route.routes[0].routes[0]: no alert comes here; none of this configuration fits all of its matchers and those of the routes above
        route.routes[0].routes[2]: no alert comes here; all that would are taken before, by route.routes[0].routes[1]: add `continue: true` there, or put this route first
        route.routes[2]: no alert comes here; none of this configuration fits all of its matchers and those of the routes above
        receivers: nothing is sent to `b`; no route leads there
        receivers: nothing is sent to `d`; no route leads there
    "#]]
    .assert_eq(&(parse(&text).warnings.join("\n") + "\n"));
}

#[test]
fn what_has_receivers_of_its_own_does_not_go_by_the_routes() {
    let more = "route: {receiver: a, routes: [{matchers: [team=storage], receiver: b}, {matchers: [team=platform]}]}\n";
    let text = configured(&["a", "b"], more);
    let shortcut = text.replace("team: storage}", "team: storage, receivers: [b]}");
    expect![[r#"
        route.routes[0].matchers[0]: no alert that goes by the routes has `team="storage"`; what has it names `receivers`, which take the place of the routes
    "#]]
    .assert_eq(&(parse(&shortcut).warnings.join("\n") + "\n"));
    let platform = text.replace("    credentials:", "    receivers: [b]\n    credentials:");
    expect![[r#"
        route: no alert goes by the routes, because every platform and every credential names `receivers`
        receivers: nothing is sent to `a`; no route leads there
    "#]]
    .assert_eq(&(parse(&platform).warnings.join("\n") + "\n"));
}

#[test]
fn a_receiver_of_steps_digest_or_last_resort_is_told_and_an_idle_window_is_said() {
    let more = "
route: {receiver: a}
mute_time_intervals: [{name: night, start: '0 22 * * *', duration: 8h}]
steps: [{before: 1d, severity: critical, escalate_to: [b]}]
digest: {schedule: '0 8 * * 1', receiver: e}
";
    let text = configured(&["a", "b", "c", "d"], more)
        .replace("{name: a,", "{name: a, fallback: c,")
        .replace("receivers:\n", "receivers:\n  - {name: e, email_configs: [{to: a@b.org, from: a@b.org, smarthost: 'smtp:25'}]}\n");
    expect![[r#"
        mute_time_intervals: `night` mutes nothing; no route names it
        receivers: nothing is sent to `d`; no route leads there
    "#]]
    .assert_eq(&(parse(&text).warnings.join("\n") + "\n"));
}

#[test]
fn ten_thousand_credentials_are_checked_against_a_hundred_routes_in_time() {
    let mut text =
        "platforms:\n  - name: prod\n    urls: [https://ece]\n    credentials:\n".to_owned();
    for number in 0..10_000 {
        let _ = writeln!(
            text,
            "      - {{name: key-{number}, api_key_file: key, team: team-{}, labels: {{tier: {}}}}}",
            number % 200,
            number % 3
        );
    }
    text += "receivers: [{name: a, webhook_configs: [{url_file: url}]}]\nroute:\n  receiver: a\n";
    let started = Instant::now();
    assert_eq!(parse(&text).warnings, [""; 0]);
    let without = started.elapsed();
    text += "  routes:\n";
    for number in 0..100 {
        let _ = writeln!(
            text,
            "    - {{matchers: ['team=~\"team-({number}|{})\"', 'credential!~\"key-.{number}\"', severity=critical]}}",
            number + 100
        );
    }
    let started = Instant::now();
    assert_eq!(parse(&text).warnings, [""; 0]);
    let with = started.elapsed();
    // A million comparisons take some seconds without optimization; a walk for each alert would take minutes.
    assert!(with < without + Duration::from_secs(20), "{with:?}, and {without:?} without routes");
}

// ---- the same as Alertmanager ----

/// Trees and label sets by chance, always the same ones.
struct Chance(fastrand::Rng);

const NAMES: [&str; 3] = ["team", "tier", "credential"];
const VALUES: [&str; 5] = ["x", "y", "xy", "x y", "ä.b"];
const TEXTS: [&str; 9] =
    ["x", "\"x\"", "\"\"", "\"x y\"", "\"x|y\"", "\"ä.b\"", "y", "xy", "\"ä\\\\.b\""];
const EXPRESSIONS: [&str; 11] = [
    "x|y",
    "\"x|y\"",
    "\"x.*\"",
    "\".+\"",
    "\".*\"",
    "\"\"",
    "\"[xy]+\"",
    "\"(x|)y\"",
    "\"ä\\\\.b\"",
    "\"x\\\\sy\"",
    "\"(?i)X\"",
];

impl Chance {
    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.0.usize(..choices.len())]
    }

    fn matcher(&mut self) -> String {
        let name = self.of(&NAMES);
        let (sign, value) = match self.0.u8(..4) {
            0 => ("=", self.of(&TEXTS)),
            1 => ("!=", self.of(&TEXTS)),
            2 => ("=~", self.of(&EXPRESSIONS)),
            _ => ("!~", self.of(&EXPRESSIONS)),
        };
        format!("'{name}{sign}{value}'")
    }

    /// Children of a route, as YAML in one line.
    fn children(&mut self, depth: usize) -> String {
        let mut routes = Vec::new();
        for _ in 0..self.0.usize(1..4) {
            let mut matchers: Vec<String> =
                (0..self.0.usize(..3)).map(|_| self.matcher()).collect();
            matchers.sort();
            matchers.dedup();
            let mut keys = Vec::new();
            if !matchers.is_empty() {
                keys.push(format!("matchers: [{}]", matchers.join(", ")));
            }
            if self.0.u8(..3) != 0 {
                keys.push(format!("receiver: r{}", self.0.u8(..6)));
            }
            keys.push(format!("continue: {}", self.0.bool()));
            if depth < 3 && self.0.u8(..3) == 0 {
                keys.push(format!("routes: [{}]", self.children(depth + 1)));
            }
            routes.push(format!("{{{}}}", keys.join(", ")));
        }
        routes.join(", ")
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let mut labels = labels(&[("alertname", "ECECredentialExpiring")]);
        for name in NAMES {
            if self.0.u8(..4) != 0 {
                labels.insert(name.to_owned(), self.of(&VALUES).to_owned());
            }
        }
        labels
    }
}

#[test]
fn random_trees_lead_where_amtool_says() {
    let folder = folder();
    let mut chance = Chance(fastrand::Rng::with_seed(20_261_124));
    let names: Vec<String> = (0..6).map(|it| format!("r{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let receivers: Vec<String> = names.iter().map(|it| format!("{{name: {it}}}")).collect();
    let mut seen = BTreeSet::new();
    for tree in 0..40 {
        let route = format!("route: {{receiver: r0, routes: [{}]}}\n", chance.children(1));
        let path = folder.path().join(format!("{tree}.yml"));
        std::fs::write(&path, format!("{route}receivers: [{}]", receivers.join(", "))).unwrap();
        let config = parse(&configured(&names, &route));
        for _ in 0..6 {
            let labels = chance.labels();
            let theirs = amtool(&path, &labels);
            let ours = told(&config, &labels);
            assert_eq!(ours, theirs, "{labels:?}\n{route}");
            seen.insert(ours);
        }
    }
    assert!(15 < seen.len(), "the trees must lead to different places: {seen:?}");
}

/// The receivers of the real Alertmanager, each where it is named first.
fn amtool(config: &Path, labels: &BTreeMap<String, String>) -> Vec<String> {
    let output = Command::new("amtool")
        .args(["config", "routes", "test", "--config.file"])
        .arg(config)
        .args(labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")))
        .output();
    let output = output.unwrap_or_else(|why| panic!("amtool: {why}; tests/run installs it"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find(|it| !it.starts_with("Warning")).unwrap();
    let mut receivers: Vec<String> = Vec::new();
    for receiver in line.split(',') {
        if !receivers.iter().any(|it| it == receiver) {
            receivers.push(receiver.to_owned());
        }
    }
    receivers
}
