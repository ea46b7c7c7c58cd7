//! Reloads and stops while messages are on their way to a slow receiver: none is lost, none comes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::Expires;
use ece_expiry_exporter::time;

use crate::world::{Binary, World, sample, wait, wait_until};

/// How long the slow receiver takes for each message.
const SLOW: Duration = Duration::from_millis(150);

fn in_days(days: i64) -> DateTime<Utc> {
    time::now() + TimeDelta::days(days) + TimeDelta::hours(1)
}

/// A webhook receiver that takes its time.
#[derive(Default)]
struct Slow {
    /// Of each message, as it came: its id, and whom it is about.
    told: Mutex<Vec<(String, String)>>,
    in_hand: AtomicUsize,
    most: AtomicUsize,
}

impl Slow {
    /// Starts it and makes it the webhook of the world.
    async fn start(world: &World) -> Arc<Self> {
        let slow = Arc::new(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.write("hook-url", &format!("http://{}/", listener.local_addr().unwrap()));
        let app = Router::new().fallback(Self::answer).with_state(slow.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        slow
    }

    async fn answer(State(slow): State<Arc<Self>>, headers: HeaderMap, body: String) {
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        let name = json["data"]["credential"]["name"].as_str().unwrap().to_owned();
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        slow.told.lock().unwrap().push((id, name));
        let in_hand = slow.in_hand.fetch_add(1, Ordering::SeqCst) + 1;
        slow.most.fetch_max(in_hand, Ordering::SeqCst);
        time::sleep(SLOW).await;
        slow.in_hand.fetch_sub(1, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    /// That each of these was told once, and nobody else.
    fn told_once(&self, names: &BTreeSet<String>) {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for (_, name) in self.told.lock().unwrap().iter() {
            *times.entry(name.clone()).or_default() += 1;
        }
        assert_eq!(times.keys().cloned().collect::<BTreeSet<_>>(), *names);
        assert!(times.values().all(|it| *it == 1), "{times:?}");
        assert_eq!(self.most.load(Ordering::SeqCst), 1, "one message at a time");
    }
}

/// That one mail is about each of these.
fn mailed_once(world: &World, names: &BTreeSet<String>) {
    let texts: Vec<String> =
        world.mailbox.mails().iter().map(ece_expiry_exporter::sim::Mail::text).collect();
    for name in names {
        let about =
            |it: &&String| it.contains(&format!("{name}\"")) || it.contains(&format!("/{name} "));
        assert_eq!(texts.iter().filter(about).count(), 1, "{name} is in one mail");
    }
}

fn names(count: usize) -> BTreeSet<String> {
    (0..count).map(|it| format!("key-{it:02}")).collect()
}

#[tokio::test]
async fn a_hundred_reloads_a_second_lose_and_double_nothing_at_a_slow_receiver() {
    let mut world = World::new().await;
    let names = names(16);
    for name in &names {
        world.add(name, Expires::At(in_days(60)));
    }
    let slow = Slow::start(&world).await;
    let binary = Binary::serve(&world, &[], &[]).await;
    let pid = binary.id().to_string();
    let storm = std::thread::spawn(move || {
        let script = "for _ in $(seq 300); do kill -HUP \"$0\" || exit 1; sleep 0.01; done";
        assert!(Command::new("bash").args(["-c", script, &pid]).status().unwrap().success());
    });
    for name in &names {
        world.ece.set_expiry(name, Expires::At(in_days(3))).unwrap();
        // A reload may drop a probe that was asked for; the next one sees the same.
        let url = format!("{}/probe?platform=prod&credential={name}", binary.url);
        let _ = crate::world::request(reqwest::Method::GET, &url).await;
    }
    tokio::task::spawn_blocking(|| storm.join().unwrap()).await.unwrap();
    let reloads = binary.log_text().matches("configuration reloaded").count();
    assert!(3 < reloads, "{reloads} reloads");
    for name in &names {
        // The last reload may still be under way, and drop a probe.
        let url = format!("{}/probe?platform=prod&credential={name}", binary.url);
        wait_until("a probe that no reload drops", async || {
            crate::world::request(reqwest::Method::GET, &url).await.0 == 200
        })
        .await;
    }
    binary.empty(&world).await;
    slow.told_once(&names);
    mailed_once(&world, &names);
}

#[tokio::test]
async fn a_stop_in_a_queue_for_a_slow_receiver_loses_and_doubles_nothing() {
    let mut world = World::new().await;
    let names = names(12);
    for name in &names {
        world.add(name, Expires::At(in_days(3)));
    }
    let slow = Slow::start(&world).await;
    let mut stops = 0;
    while slow.count() < names.len() {
        let mut binary = Binary::serve(&world, &[], &[]).await;
        let before = slow.count();
        wait("a message on its way", || {
            (before < slow.count() || names.len() == slow.count()).then_some(())
        })
        .await;
        binary.signal("TERM");
        assert_eq!(binary.ended().await.code(), Some(0), "{}", binary.log_text());
        stops += 1;
    }
    assert!(1 < stops, "the queue was longer than one life");
    Binary::serve(&world, &[], &[]).await.rest(&world).await;
    slow.told_once(&names);
    mailed_once(&world, &names);
}

#[tokio::test]
async fn after_bad_reloads_the_old_configuration_still_probes_and_delivers() {
    let mut world = World::new().await;
    world.global = "schedule: 1s".to_owned();
    let names = names(3);
    for name in &names {
        world.add(name, Expires::At(in_days(60)));
    }
    let slow = Slow::start(&world).await;
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    let told = async |count: usize| {
        wait("the alert", || (slow.count() == count).then_some(())).await;
    };
    for (count, extra) in
        [(1, "colour: red\n"), (2, "heartbeat: {url_file: missing, every: never}\n")]
    {
        world.extra = extra.to_owned();
        world.write_config();
        for _ in 0..20 {
            let (status, text) = binary.reload().await;
            assert_eq!(status, 500, "{text}");
            binary.signal("HUP");
        }
        let name = format!("key-{count:02}");
        world.ece.set_expiry(&name, Expires::At(in_days(3))).unwrap();
        told(count).await;
        let reloaded = "ece_expiry_exporter_config_last_reload_successful";
        assert_eq!(sample(&binary.get("/metrics").await, reloaded), Some(0.0));
    }
    world.extra.clear();
    // The file of the URL names another receiver from now on.
    let successor = Slow::start(&world).await;
    world.write_config();
    let (status, text) = binary.reload().await;
    assert_eq!(status, 200, "{text}");
    world.ece.set_expiry("key-00", Expires::At(in_days(3))).unwrap();
    wait_until("the alert at the new receiver", async || successor.count() == 1).await;
    binary.rest(&world).await;
    slow.told_once(&names.iter().skip(1).cloned().collect());
    mailed_once(&world, &names);
}
