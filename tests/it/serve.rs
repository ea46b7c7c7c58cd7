//! The real binary from start to end: bad configurations, reloads, signals, hostile answers, systemd, log lines.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::{Expires, Fault, HeaderMode, On};
use ece_expiry_exporter::store::Store;
use ece_expiry_exporter::time;
use tokio::sync::{Notify, watch};

use crate::world::{Binary, PATIENCE, World, is_at, run, sample, wait, wait_until};

const RELOADED: &str = "ece_expiry_exporter_config_last_reload_successful";

fn in_days(days: i64) -> DateTime<Utc> {
    time::now() + TimeDelta::days(days) + TimeDelta::hours(1)
}

fn series(name: &str, credential: &str) -> String {
    format!("{name}{{platform=\"prod\",credential=\"{credential}\"}}")
}

/// Starts `serve` where it must fail: what it says, one screen without a backtrace.
fn refusal(world: &World, args: &[&str]) -> String {
    let (code, out, err) = run(args, world.dir.path());
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.lines().count() < 40, "{err}");
    for word in ["panicked", "backtrace", "src/"] {
        assert!(!err.contains(word), "{word} is in: {err}");
    }
    err
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_one_screen_that_names_its_lines() {
    let mut world = World::new().await;
    world.add("a", Expires::Never);
    world.extra = "colour: red\n".to_owned();
    world.write_config();
    let line = world.config_text().lines().count();
    let said = refusal(&world, &["serve", "--config.file=config.yml"]);
    assert!(said.contains(&format!("config.yml:{line}:1: ")), "{said}");

    world.extra = (0..200).map(|n| ["colour", &n.to_string(), ": red\n"].concat()).collect();
    world.write_config();
    let said = refusal(&world, &["--config.file=config.yml"]);
    assert!(said.contains("check-config"), "{said}");

    let said = refusal(&world, &["--config.file=missing.yml"]);
    assert!(said.contains("missing.yml"), "{said}");
}

#[tokio::test]
async fn a_port_in_use_is_told_with_what_to_do() {
    let mut world = World::new().await;
    world.add("a", Expires::Never);
    world.write_config();
    let taken = world.sink.addr().to_string();
    let flag = format!("--web.listen-address={taken}");
    let said = refusal(&world, &["--config.file=config.yml", &flag]);
    assert!(said.contains(&taken) && said.contains("--web.listen-address"), "{said}");
}

#[tokio::test]
async fn an_address_without_a_host_is_every_interface() {
    let mut world = World::new().await;
    world.add("a", Expires::Never);
    let binary = Binary::serve(&world, &["--web.listen-address=:0"], &[]).await;
    let port = binary.url.rsplit(':').next().unwrap();
    let (status, _) = crate::world::fetch(&format!("http://127.0.0.1:{port}/-/healthy")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn sighup_reloads_and_the_new_credential_is_probed() {
    let mut world = World::new().await;
    world.add("a", Expires::At(in_days(60)));
    let binary = Binary::serve(&world, &[], &[]).await;
    let (status, text) = binary.reload().await;
    assert_eq!(status, 403, "without the flag a request reloads nothing: {text}");
    world.add("b", Expires::At(in_days(70)));
    world.write_config();
    binary.signal("HUP");
    wait_until("the new credential's probe", async || {
        let metrics = binary.get("/metrics").await;
        sample(&metrics, &series("ece_probe_success", "b")) == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn a_bad_reload_leaves_the_old_one_running_and_says_so_until_a_good_one() {
    let mut world = World::new().await;
    world.add("a", Expires::At(in_days(60)));
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    binary.probe("a").await;
    world.extra = "colour: red\n".to_owned();
    world.write_config();
    let (status, text) = binary.reload().await;
    assert!(status == 500 && text.contains("colour"), "{status} {text}");
    let metrics = binary.get("/metrics").await;
    assert_eq!(sample(&metrics, RELOADED), Some(0.0));
    assert_eq!(sample(&metrics, &series("ece_probe_success", "a")), Some(1.0));
    assert!(binary.get("/").await.contains("colour"), "the page has a banner");
    assert!(binary.log_text().contains("the new configuration is not used, the old one goes on"));
    assert!(binary.probe("a").await.contains("it succeeded"), "the old one still works");

    world.extra.clear();
    world.write_config();
    let (status, text) = binary.reload().await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(sample(&binary.get("/metrics").await, RELOADED), Some(1.0));
    assert!(!binary.get("/").await.contains("colour"), "the banner is gone");
}

#[tokio::test]
async fn thirty_reloads_under_fire_lose_nothing_and_double_nothing() {
    let mut world = World::new().await;
    world.add("watched-00", Expires::At(in_days(3)));
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    let mut names = BTreeSet::from(["watched-00".to_owned()]);
    for n in 1..=30 {
        let name = format!("watched-{n:02}");
        world.add(&name, Expires::At(in_days(3)));
        names.insert(name);
        world.write_config();
        let (status, text) = binary.reload().await;
        assert_eq!(status, 200, "{text}");
    }
    let mailed =
        |name: &str| world.mailbox.mails().iter().filter(|it| it.text().contains(name)).count();
    let hooked = || {
        let mut facts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for hook in world.sink.hooks() {
            let name =
                hook.json().unwrap()["data"]["credential"]["name"].as_str().map(str::to_owned);
            let ids = facts.entry(name.expect("a webhook names its credential")).or_default();
            ids.insert(hook.header("webhook-id").to_owned());
        }
        facts
    };
    binary.rest(&world).await;
    let facts = hooked();
    assert_eq!(facts.keys().cloned().collect::<BTreeSet<_>>(), names);
    assert!(facts.values().all(|ids| ids.len() == 1), "one message for each fact: {facts:?}");
    assert_eq!(world.sink.hooks().len(), names.len(), "and each was sent once");
    for name in &names {
        assert_eq!(mailed(name), 1, "{name} is in one mail");
    }
}

/// A webhook receiver that answers only once the test lets it.
struct Gate {
    ids: Mutex<Vec<String>>,
    arrived: Notify,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Starts it and makes it the webhook of the world.
    async fn start(world: &World) -> Arc<Self> {
        let (open, _) = watch::channel(false);
        let gate = Arc::new(Self { ids: Mutex::default(), arrived: Notify::new(), open });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.write("hook-url", &format!("http://{}/", listener.local_addr().unwrap()));
        let app = Router::new().fallback(Self::answer).with_state(gate.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        gate
    }

    async fn answer(State(gate): State<Arc<Self>>, headers: HeaderMap) {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        gate.ids.lock().unwrap().push(id);
        gate.arrived.notify_one();
        gate.open.subscribe().wait_for(|it| *it).await.unwrap();
    }

    fn count(&self) -> usize {
        self.ids.lock().unwrap().len()
    }
}

#[tokio::test]
async fn a_message_on_its_way_is_finished_at_the_end_and_not_sent_again() {
    for name in ["TERM", "INT"] {
        let mut world = World::new().await;
        world.receivers = world.receivers.replace(
            "signing_secret_files: [hook-secret], timeout: 2s",
            "signing_secret_files: [hook-secret], timeout: 20s",
        );
        world.add("a", Expires::At(in_days(3)));
        let gate = Gate::start(&world).await;
        let mut binary = Binary::serve(&world, &[], &[]).await;
        tokio::time::timeout(PATIENCE, gate.arrived.notified()).await.unwrap();
        binary.signal(name);
        wait("the signal to be logged", || {
            binary.log_text().contains(&format!("received SIG{name}")).then_some(())
        })
        .await;
        gate.open.send_replace(true);
        assert_eq!(binary.ended().await.code(), Some(0), "{}", binary.log_text());
        assert!(binary.log_text().contains("delivered msg_"), "{}", binary.log_text());

        let mut again = Binary::serve(&world, &[], &[]).await;
        again.probe("a").await;
        again.signal(name);
        assert_eq!(again.ended().await.code(), Some(0));
        assert_eq!(gate.count(), 1, "SIG{name}");
    }
}

#[tokio::test]
async fn what_the_last_probes_confirmed_is_on_the_disk_after_a_clean_stop() {
    let mut world = World::new().await;
    world.global = "schedule: 1s".to_owned();
    world.add("key", Expires::At(in_days(60)));
    let mut binary = Binary::serve(&world, &[], &[]).await;
    let mut last = 0.0;
    // Later probes than the first are not written at once.
    wait_until("three probes", async || {
        let metrics = binary.get("/metrics").await;
        let of_key = |metric: &str| {
            sample(&metrics, &format!("{metric}{{platform=\"prod\",credential=\"key\"}}"))
        };
        last = of_key("ece_probe_last_run_timestamp_seconds").unwrap_or_default();
        of_key("ece_probes_total").is_some_and(|it| 3.0 <= it)
    })
    .await;
    binary.signal("TERM");
    assert_eq!(binary.ended().await.code(), Some(0));
    let store = Store::open(&world.path("store"), time::now()).unwrap().store;
    let remembered = store.load().await.unwrap();
    let stored = remembered.credentials.values().next().unwrap().last_run.unwrap();
    assert!(last <= time::to_seconds(stored), "{last} was shown, {stored} is on the disk");
    store.close().await;
}

#[tokio::test]
async fn a_key_file_that_vanishes_is_told_and_forgotten_when_it_returns() {
    let mut world = World::new().await;
    world.add("a", Expires::At(in_days(60)));
    let binary = Binary::serve(&world, &[], &[]).await;
    binary.probe("a").await;
    let key = std::fs::read_to_string(world.path("key-a")).unwrap();
    std::fs::remove_file(world.path("key-a")).unwrap();
    binary.probe("a").await;
    let reason =
        "ece_probe_failure_reason{platform=\"prod\",credential=\"a\",reason=\"secret_unreadable\"}";
    assert_eq!(sample(&binary.get("/metrics").await, reason), Some(1.0));
    world.write("key-a", &key);
    binary.probe("a").await;
    let metrics = binary.get("/metrics").await;
    assert_ne!(sample(&metrics, reason), Some(1.0));
    assert_eq!(sample(&metrics, &series("ece_probe_success", "a")), Some(1.0));
}

#[tokio::test]
async fn a_hostile_answer_has_its_reason_and_the_last_known_expiry_stays() {
    let mut world = World::new().await;
    let expires = in_days(60);
    world.global = "schedule: 1h, probe_timeout: 1s".to_owned();
    world.add("a", Expires::At(expires));
    let binary = Binary::serve(&world, &[], &[]).await;
    binary.probe("a").await;
    let elsewhere = world.sink.url();
    let check = async |what: &str, reason: &str| {
        let text = binary.probe("a").await;
        assert_eq!(sample(&text, &series("ece_probe_success", "a")), Some(0.0), "{what}: {text}");
        let failed = format!(
            "ece_probe_failure_reason{{platform=\"prod\",credential=\"a\",reason=\"{reason}\"}}"
        );
        assert_eq!(sample(&text, &failed), Some(1.0), "{what}: {text}");
        let known = sample(&text, &series("ece_credential_expiry_timestamp_seconds", "a")).unwrap();
        assert!(is_at(known, expires), "{what}: {text}");
    };
    for (fault, reason) in [
        (Fault::Html200, "unexpected_status"),
        (Fault::Html502, "server_error"),
        (Fault::Hang, "timeout"),
        (Fault::SlowBody, "timeout"),
        (Fault::Reset, "protocol"),
        (Fault::Truncate, "protocol"),
        (Fault::TenMegabytes, "protocol"),
        (Fault::Redirect(elsewhere), "redirect"),
        (Fault::Forbidden, "forbidden"),
        (Fault::AuthClusterDown, "server_error"),
    ] {
        world.ece.set_fault(On::Everyone, fault.clone()).unwrap();
        check(&format!("{fault:?}"), reason).await;
    }
    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    world.ece.world().key("a").unwrap().header = HeaderMode::Raw(vec![b"\xffsoon\x01".to_vec()]);
    check("a garbage header", "header_invalid").await;
    world.ece.revoke("a").unwrap();
    check("a revoked key", "unauthorized").await;
    world.ece.set_fault(On::Everyone, Fault::RateLimited(600)).unwrap();
    check("too many requests", "rate_limited").await;
    let before = world.ece.requests().total;
    check("a probe asked for in a rest", "rate_limited").await;
    assert_eq!(world.ece.requests().total, before, "the rest is kept to");
    assert!(world.sink.hooks().iter().all(|it| it.path.contains("/hook/")), "nobody was followed");
}

#[tokio::test]
async fn systemd_is_told_every_state() {
    let mut world = World::new().await;
    world.add("a", Expires::Never);
    let path = world.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let mut binary = Binary::serve(&world, &[], &env).await;
    let next = move || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    };
    let until = async |state: &str| {
        let told = |it: String| it.lines().any(|it| it == state).then_some(());
        wait(state, || next().and_then(told)).await;
    };
    until("READY=1").await;
    until("WATCHDOG=1").await;
    until("WATCHDOG=1").await;
    binary.signal("HUP");
    until("RELOADING=1").await;
    until("READY=1").await;
    binary.signal("TERM");
    until("STOPPING=1").await;
    assert_eq!(binary.ended().await.code(), Some(0));
}

#[tokio::test]
async fn log_lines_have_the_form_that_was_asked_for() {
    let mut world = World::new().await;
    world.add("a", Expires::At(in_days(3)));
    for format in ["logfmt", "json"] {
        let flag = format!("--log.format={format}");
        let mut binary = Binary::serve(&world, &[&flag], &[]).await;
        binary.probe("a").await;
        binary.signal("TERM");
        binary.ended().await;
        let log = binary.log_text();
        assert!(log.lines().count() > 5, "{log}");
        for line in log.lines() {
            if format == "json" {
                let json: serde_json::Value = serde_json::from_str(line).unwrap();
                for field in ["timestamp", "level", "message"] {
                    assert!(json[field].is_string(), "{field} is not in {line}");
                }
            } else {
                let rest = line.strip_prefix("time=").unwrap_or_else(|| panic!("{line}"));
                let (at, rest) = rest.split_once(" level=").unwrap();
                at.parse::<DateTime<Utc>>().unwrap();
                assert!(rest.contains(" msg=\""), "{line}");
            }
        }
    }
}
