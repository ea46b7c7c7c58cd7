//! The commands, as people and scripts run them: the real binary to its end.

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::{Answer, Expires, Fault, On};
use ece_expiry_exporter::time;

use crate::world::{PROMTOOL_LINT, World, promtool, run};

fn in_days(days: i64) -> DateTime<Utc> {
    time::now() + TimeDelta::days(days) + TimeDelta::hours(1)
}

/// Runs a command on the world's configuration. A thread of its own: the simulated ECE answers meanwhile.
async fn command(world: &World, args: &[&str]) -> (i32, String, String) {
    world.write_config();
    let args: Vec<String> =
        args.iter().chain(&["--config.file=config.yml"]).map(|it| (*it).to_owned()).collect();
    let dir = world.dir.path().to_owned();
    tokio::task::spawn_blocking(move || {
        run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &dir)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn check_config_tells_a_good_file_from_a_bad_one() {
    let mut world = World::new().await;
    world.add("terraform", Expires::At(in_days(60)));
    let (code, out, _) = command(&world, &["check-config"]).await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("is valid: 1 platforms, 1 credentials, 1 receivers"), "{out}");

    world.extra = "colour: red\n".to_owned();
    let (code, out, _) = command(&world, &["check-config"]).await;
    assert_eq!(code, 1, "{out}");
    let line = world.config_text().lines().count();
    assert!(out.contains(&format!("config.yml:{line}:1: ")), "the line is named: {out}");
    assert!(out.contains("colour") && out.contains("FAILED"), "{out}");
}

#[tokio::test]
async fn the_exit_code_of_probe_is_the_one_of_monitoring_plugins() {
    let mut world = World::new().await;
    world.add("key", Expires::At(in_days(60)));
    for (left, code, word) in
        [(60, 0, "OK"), (20, 0, "OK"), (10, 1, "WARNING"), (3, 2, "CRITICAL"), (-1, 2, "CRITICAL")]
    {
        world.ece.set_expiry("key", Expires::At(in_days(left))).unwrap();
        let (actual, out, err) = command(&world, &["probe"]).await;
        assert_eq!(actual, code, "{left} days left: {out}{err}");
        assert!(out.starts_with(word) && out.contains("prod/key"), "{out}");
    }
    world.ece.set_expiry("key", Expires::At(in_days(60))).unwrap();
    world.ece.set_fault(On::Everyone, Fault::Html502).unwrap();
    let (code, out, _) = command(&world, &["probe"]).await;
    assert_eq!(code, 3, "{out}");
    assert!(out.starts_with("UNKNOWN") && out.contains("server_error"), "{out}");
}

#[tokio::test]
async fn probe_prints_json_for_programs() {
    let mut world = World::new().await;
    let at = in_days(10);
    world.add("a", Expires::At(at));
    world.add("b", Expires::Never);
    let (code, out, _) = command(&world, &["probe", "--output=json"]).await;
    assert_eq!(code, 1, "{out}");
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["credential"], "a", "the worst comes first");
    assert_eq!(rows[0]["verdict"], "WARNING");
    let told: DateTime<Utc> = rows[0]["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(told.timestamp_millis(), at.timestamp_millis());
    assert_eq!(rows[1]["never_expires"], true);

    let (code, out, _) = command(&world, &["probe", "prod/b", "--output=json"]).await;
    assert_eq!(code, 0, "{out}");
    assert!(!out.contains("\"a\""), "only what was asked for: {out}");
}

#[tokio::test]
async fn probe_prints_one_exposition_for_several_credentials() {
    let mut world = World::new().await;
    for name in ["a", "b", "c"] {
        world.add(name, Expires::At(in_days(60)));
    }
    let (code, out, _) = command(&world, &["probe", "--output=prom"]).await;
    assert_eq!(code, 0, "{out}");
    for name in ["a", "b", "c"] {
        let series = format!("ece_probe_success{{platform=\"prod\",credential=\"{name}\"}} 1");
        assert!(out.contains(&series), "{out}");
    }
    assert_eq!(out.matches("# TYPE ece_probe_success ").count(), 1);
    let (code, said) = promtool(&out);
    assert_eq!((code, said.as_str()), PROMTOOL_LINT);
}

#[tokio::test]
async fn a_bad_configuration_is_unknown_to_probe() {
    let mut world = World::new().await;
    world.add("a", Expires::Never);
    world.extra = "colour: red\n".to_owned();
    let (code, out, _) = command(&world, &["probe"]).await;
    assert_eq!(code, 3, "{out}");
    assert!(out.starts_with("UNKNOWN"), "{out}");
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_known_ones() {
    let mut world = World::new().await;
    world.add("terraform", Expires::Never);
    let (code, _, err) = command(&world, &["probe", "prod/teraform"]).await;
    assert_eq!(code, 3, "a plugin that cannot tell is unknown: {err}");
    assert!(err.contains("prod/teraform") && err.contains("prod/terraform"), "{err}");
    let (code, _, err) = command(&world, &["notify-test", "opps"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("opps") && err.contains("has: ops"), "{err}");
}

#[tokio::test]
async fn notify_test_reaches_every_channel_and_says_which_failed() {
    let mut world = World::new().await;
    world.add("terraform", Expires::Never);
    let (code, out, err) = command(&world, &["notify-test", "ops"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(out.lines().filter(|it| it.starts_with("ok ")).count(), 2, "{out}");
    assert_eq!(world.mailbox.mails().len(), 1);
    assert!(world.mailbox.mails()[0].subject().to_lowercase().contains("test"));
    assert_eq!(world.sink.hooks().len(), 1);
    assert_eq!(world.sink.hooks()[0].json().unwrap()["data"]["alert"]["reason"], "test");

    world.sink.set_default(Answer::Status(500));
    let (code, out, _) = command(&world, &["notify-test", "ops"]).await;
    assert_eq!(code, 1, "{out}");
    assert_eq!(out.lines().filter(|it| it.starts_with("ok ")).count(), 1, "{out}");
    let failed: Vec<&str> = out.lines().filter(|it| it.starts_with("FAILED ")).collect();
    assert!(failed.len() == 1 && failed[0].contains("500"), "{out}");
}

#[test]
fn the_schema_that_is_printed_is_the_one_in_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(&["config-schema"], dir.path());
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(schema["type"], "object");
    assert_eq!(out, include_str!("../../config.schema.json"));
}

#[test]
fn help_and_version_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(&["--help"], dir.path());
    assert!(code == 0 && out.contains("--config.file") && out.contains("check-config"), "{out}");
    let (code, out, _) = run(&["--version"], dir.path());
    assert_eq!((code, out), (0, format!("ece-expiry-exporter {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn each_command_lists_its_own_flags_and_no_others() {
    let flags = |args: &[&str]| -> Vec<String> {
        let (code, out, _) = run(args, tempfile::tempdir().unwrap().path());
        assert_eq!(code, 0, "{args:?}");
        let flag = |line: &str| Some(line[line.find("--")?..].split([' ', ',']).next()?.to_owned());
        let listed = out.lines().filter(|it| it.trim_start().starts_with('-'));
        let mut found: Vec<String> = listed.filter_map(flag).collect();
        found.retain(|it| !["--help", "--version"].contains(&it.as_str()));
        found
    };
    let web = ["--web.listen-address", "--web.telemetry-path", "--web.max-requests"];
    assert_eq!(flags(&["demo", "--help"]), [&web[..], &["--log.level"]].concat());
    let rules = ["--format", "--grafana-url", "--runbook-url"];
    assert_eq!(flags(&["rules", "--help"]), rules);
    assert_eq!(flags(&["dashboards", "--help"]), ["--output-dir"]);
    assert_eq!(flags(&["config-schema", "--help"]), [""; 0]);
    for command in ["check-config", "notify-test"] {
        assert_eq!(flags(&[command, "--help"]), ["--config.file"], "{command}");
    }
    assert_eq!(
        flags(&["probe", "--help"]),
        ["--output", "--force", "--storage.path", "--config.file"]
    );
    assert_eq!(flags(&["doctor", "--help"]), ["--capture", "--config.file"]);
    let of_serve = flags(&["serve", "--help"]);
    assert_eq!(of_serve, flags(&["--help"]), "without a command it serves");
    assert_eq!(of_serve.len(), 9);
}

#[test]
fn a_flag_before_a_command_is_refused_and_not_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&["--config.file=other.yml", "check-config"], dir.path());
    assert!(code == 2 && err.contains("--config.file"), "{err}");
}

#[test]
fn a_path_of_the_metrics_that_hides_an_endpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&["serve", "--web.telemetry-path=/api/v1"], dir.path());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("is taken") && !err.contains("panicked"), "{err}");
}
