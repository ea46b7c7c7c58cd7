//! The command `plan`: the real binary beside a real store.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use ece_expiry_exporter::alert::{AlertName, Firing, PlatformState, State};
use ece_expiry_exporter::config::{CredentialId, Severity};
use ece_expiry_exporter::observation::Reading;
use ece_expiry_exporter::store::{Batch, Store};
use ece_expiry_exporter::time;
use serde_json::Value;
use tempfile::TempDir;

use crate::world::run;

/// A folder with a configuration: `more` at its end.
fn folder(more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("key", "a-key"), ("url", "https://hooks.example.org/x")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let receivers = ["ops", "team", "boss"]
        .map(|it| format!("{{name: {it}, webhook_configs: [{{url_file: url}}]}}"));
    let text = format!(
        "platforms:\n  - name: prod\n    urls: [https://ece]\n    credentials:\n      \
         - {{name: terraform, api_key_file: key, team: platform}}\n      \
         - {{name: backup, api_key_file: key, receivers: [ops]}}\n\
         storage: {{path: store}}\nreceivers: [{}]\n{more}",
        receivers.join(", ")
    );
    std::fs::write(folder.path().join("config.yml"), text).unwrap();
    folder
}

const ROUTE: &str = "
steps:
  - {before: 30d, severity: info}
  - {before: 14d, severity: warning}
  - {before: 7d, severity: critical}
  - {before: 1d, severity: critical, escalate_to: boss}
route:
  receiver: ops
  routes:
    - {matchers: [severity=critical], receiver: ops, continue: true}
    - {matchers: [team=platform, severity!=info], receiver: team, mute_time_intervals: [night]}
";

/// A key that was probed and expires then.
fn expiring(at: DateTime<Utc>) -> State {
    let now = time::now();
    State {
        reading: Some(Reading::ExpiresAt(at)),
        last_run: Some(now),
        last_success: Some(now),
        ..State::default()
    }
}

async fn remember(folder: &Path, credentials: &[(&str, State)], platform: PlatformState) {
    let store = Store::open(&folder.join("store"), time::now()).unwrap().store;
    let id = |name: &str| CredentialId { platform: "prod".into(), name: name.into() };
    let credentials = credentials.iter().map(|(name, it)| (id(name), it.clone())).collect();
    let platforms = vec![("prod".into(), platform)];
    let batch = Batch { credentials, platforms, ..Batch::default() };
    store.record(batch, time::now()).await.unwrap();
    store.close().await;
}

fn plan(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let all: Vec<&str> = ["plan", "--config.file=config.yml"].iter().chain(args).copied().collect();
    run(&all, folder)
}

fn rows(folder: &Path, args: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = args.iter().chain(&["--output=json"]).copied().collect();
    let (code, out, err) = plan(folder, &args);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// A row in a few words: hours before the expiry, what happens, and who is told on which way.
fn words(row: &Value, expiry: DateTime<Utc>) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let left = expiry - text("at").parse::<DateTime<Utc>>().unwrap();
    let told: Vec<String> = row["told"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            format!("{} by {}", it["receiver"].as_str().unwrap(), it["via"].as_str().unwrap())
        })
        .collect();
    let alert = text("alert");
    format!(
        "{}h {} {} {}: {}",
        (left.num_minutes() + 30).div_euclid(60),
        alert.trim_start_matches("ECE"),
        text("severity"),
        text("reason"),
        told.join(", ")
    )
}

#[tokio::test]
async fn until_a_date_every_step_and_reminder_is_there_with_its_way() {
    let mutes = "mute_time_intervals: [{name: night, start: '0 22 * * *', duration: 1m}]\n";
    let folder = folder(&format!("{ROUTE}{mutes}"));
    let expiry = time::now() + TimeDelta::days(20);
    remember(folder.path(), &[("terraform", expiring(expiry))], PlatformState::default()).await;
    let store = folder.path().join("store/store.db");
    let before = std::fs::read(&store).unwrap();
    let rows = rows(folder.path(), &["--as-of", "21d", "prod/terraform"]);
    assert_eq!(std::fs::read(&store).unwrap(), before, "nothing is written");
    let words: Vec<String> = rows.iter().map(|it| words(it, expiry)).collect();
    expect_test::expect![[r#"
        480h CredentialExpiring info new: ops by {}
        336h CredentialExpiring warning escalated: team by {}/{severity!="info",team="platform"}
        264h CredentialExpiring warning repeat: team by {}/{severity!="info",team="platform"}
        192h CredentialExpiring warning repeat: team by {}/{severity!="info",team="platform"}
        168h CredentialExpiring critical escalated: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}
        144h CredentialExpiring critical repeat: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}
        120h CredentialExpiring critical repeat: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}
        96h CredentialExpiring critical repeat: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}
        72h CredentialExpiring critical repeat: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}
        48h CredentialExpiring critical repeat: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}
        24h CredentialExpiring critical escalated: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}, boss by escalate_to
        0h CredentialExpired critical escalated: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}, boss by escalate_to
        -24h CredentialExpired critical repeat: ops by {}/{severity="critical"}, team by {}/{severity!="info",team="platform"}, boss by escalate_to
    "#]]
    .assert_eq(&(words.join("\n") + "\n"));
    let (_, table, _) = plan(folder.path(), &["--as-of", "21d", "prod/terraform"]);
    assert_eq!(table.matches("repeat, and 1 more until ").count(), 1, "{table}");
    assert_eq!(table.matches("repeat, and 4 more until ").count(), 1, "{table}");
    assert_eq!(table.matches("repeat").count(), 3, "reminders stand in one line: {table}");
}

#[tokio::test]
async fn what_fires_is_there_with_the_next_of_each_and_the_end_of_a_mute_window() {
    // A window that began with this hour.
    let now = time::now();
    let hour = now.hour();
    let mutes =
        format!("mute_time_intervals: [{{name: night, start: '0 {hour} * * *', duration: 2h}}]\n");
    let folder = folder(&format!("{ROUTE}{mutes}"));
    let (expiry, later) = (now + TimeDelta::days(10), now + TimeDelta::days(40));
    let firing = |name, severity, step| Firing {
        name,
        severity,
        step,
        starts_at: now - TimeDelta::days(4),
        told_at: now - TimeDelta::days(1),
        repeats: 1,
    };
    let day = std::time::Duration::from_secs(86_400);
    let known = State {
        lifetime: Some(firing(AlertName::CredentialExpiring, Severity::Warning, Some(day * 14))),
        ..expiring(expiry)
    };
    let platform = PlatformState {
        unreachable: Some(firing(AlertName::PlatformUnreachable, Severity::Warning, None)),
        ..PlatformState::default()
    };
    let credentials = [("terraform", known), ("backup", expiring(later))];
    remember(folder.path(), &credentials, platform).await;
    let rows = rows(folder.path(), &[]);
    let words: Vec<String> = rows.iter().map(|it| words(it, expiry)).collect();
    expect_test::expect![[r#"
        336h PlatformUnreachable warning firing: ops by {}
        336h CredentialExpiring warning firing: team by {}/{severity!="info",team="platform"}
        192h PlatformUnreachable warning repeat: ops by {}
        192h CredentialExpiring warning repeat: team by {}/{severity!="info",team="platform"}
        0h CredentialExpiring info new: ops by receivers
    "#]]
    .assert_eq(&(words.join("\n") + "\n"));
    let held = |row: &Value| row["told"][0]["held_until"].as_str().map(str::to_owned);
    let of_team = rows.iter().find(|it| it["credential"] == "terraform").unwrap();
    let end = now.date_naive().and_hms_opt(hour, 0, 0).unwrap().and_utc() + TimeDelta::hours(2);
    assert_eq!(held(of_team).unwrap().parse::<DateTime<Utc>>().unwrap(), end);
    assert!(rows.iter().filter(|it| it["platform"] == "prod").count() == rows.len());

    let (code, out, _) = plan(folder.path(), &["prod/terraform"]);
    assert_eq!(code, 0);
    let held = format!("held back until {}", end.format("%F %R UTC"));
    assert!(out.contains(&held) && out.contains("since ") && !out.contains("backup"), "{out}");
    assert!(out.contains("if nothing is renewed and nothing breaks"), "{out}");
}

#[tokio::test]
async fn what_is_not_known_is_said() {
    let folder = folder("route: {receiver: ops}\n");
    let (code, _, err) = plan(folder.path(), &[]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("there is no store in") && err.contains("--storage.path"), "{err}");

    remember(folder.path(), &[], PlatformState::default()).await;
    let (code, out, _) = plan(folder.path(), &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("Nothing fires, and nothing is to come."), "{out}");
    assert!(out.contains("nothing is known of: prod/terraform, prod/backup."), "{out}");

    let (code, _, err) = plan(folder.path(), &["prod/other"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no credential is called prod/other"), "{err}");

    for (date, expected) in
        [("yesterday", "write a date"), ("2001-01-01", "has passed"), ("100y", "too far")]
    {
        let (code, _, err) = plan(folder.path(), &["--as-of", date]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(expected), "{err}");
    }
}
