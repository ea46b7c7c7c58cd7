//! The heartbeat: sent while everything works, and not sent when something does not.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use ece_expiry_exporter::config::{Heartbeat, HttpConfig, SecretSource};
use ece_expiry_exporter::heartbeat::{Heart, TICK_AGE_MAX};
use ece_expiry_exporter::metrics::Telemetry;
use ece_expiry_exporter::sim::{Answer, Expires, Sink, SinkOptions};
use ece_expiry_exporter::time;

use crate::world::{Binary, PATIENCE, World, sample, wait_until};

const LAST: &str = "ece_expiry_exporter_heartbeat_last_success_timestamp_seconds";
const FAILURES: &str = "ece_expiry_exporter_heartbeat_failures_total";

/// A world with a credential and a heartbeat to a switch of its own.
async fn world() -> (World, Sink) {
    let mut world = World::new().await;
    let switch = Sink::start(SinkOptions::default()).await.unwrap();
    world.write("beat-url", &format!("{}/ping/CANARY-id?a=b", switch.url()));
    world.extra.push_str("heartbeat: {url_file: beat-url, every: 30s, timeout: 2s}\n");
    world.add("a", Expires::At(time::now() + TimeDelta::days(90)));
    (world, switch)
}

#[tokio::test]
async fn it_is_sent_while_the_program_works_and_a_reload_changes_where() {
    let (mut world, switch) = world().await;
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    let hook = switch.wait_for(1, PATIENCE).await.unwrap().remove(0);
    assert_eq!(hook.path, "/ping/CANARY-id?a=b");
    assert_eq!(hook.body, b"", "a GET without a body");
    wait_until("the metric", async || 0.0 < sample(&binary.get("/metrics").await, LAST).unwrap())
        .await;
    assert_eq!(sample(&binary.get("/metrics").await, FAILURES), Some(0.0));

    let other = Sink::start(SinkOptions::default()).await.unwrap();
    world.write("beat-url", &format!("{}/other", other.url()));
    assert_eq!(binary.reload().await.0, 200);
    other.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(switch.hooks().len(), 1);

    world.extra.clear();
    world.write_config();
    assert_eq!(binary.reload().await.0, 200);
    let metrics = binary.get("/metrics").await;
    assert_eq!((sample(&metrics, LAST), sample(&metrics, FAILURES)), (None, None));
    assert_eq!(other.hooks().len(), 1);
    assert!(!binary.log_text().contains("CANARY"), "the URL is a secret");
}

#[tokio::test]
async fn it_is_not_sent_while_the_store_takes_no_writes() {
    let (world, switch) = world().await;
    let binary = Binary::serve_on_full_disk(&world, 24).await;
    let complaint = "the heartbeat is not sent, because the store takes no writes";
    wait_until("the log to say so", async || binary.log_text().contains(complaint)).await;
    binary.probe("a").await;
    let metrics = binary.get("/metrics").await;
    assert!(Some(0.0) < sample(&metrics, FAILURES), "{metrics}");
    assert_eq!(sample(&metrics, LAST), Some(0.0));
    assert_eq!(switch.hooks().len(), 0);
}

/// A heart whose loops are called by the test.
async fn heart(dir: &tempfile::TempDir) -> (Heart, Sink, Arc<Telemetry>) {
    let switch = Sink::start(SinkOptions::default()).await.unwrap();
    let path = dir.path().join("url");
    std::fs::write(&path, format!("{}/ping/CANARY", switch.url())).unwrap();
    let config = Heartbeat {
        url: SecretSource::File(path),
        allow_http: false,
        every: Duration::from_secs(300),
        http: HttpConfig::default(),
        timeout: Duration::from_millis(500),
    };
    let telemetry = Arc::new(Telemetry::new(time::now() - TimeDelta::days(1)));
    (Heart::new(Some(&config), telemetry.clone()).unwrap(), switch, telemetry)
}

fn tick_all(telemetry: &Telemetry) {
    let now = time::now();
    telemetry.scheduler_ticked(now);
    telemetry.outbox_ticked(now);
    telemetry.mirror_ticked(now);
}

#[tokio::test]
async fn a_loop_that_stands_still_stops_it_and_it_goes_on_with_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let (mut heart, switch, telemetry) = heart(&dir).await;
    let every = Duration::from_secs(300);
    tick_all(&telemetry);
    assert_eq!(heart.beat(time::now()).await, every);
    assert_eq!(switch.hooks().len(), 1);
    let late = time::now() + TICK_AGE_MAX + TimeDelta::seconds(1);
    assert!(heart.beat(late).await < every, "it looks again sooner");
    assert_eq!(switch.hooks().len(), 1, "nothing was sent");
    tick_all(&telemetry);
    assert_eq!(heart.beat(time::now()).await, every);
    assert_eq!(switch.hooks().len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_not_2xx_is_a_failure_and_no_redirect_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut heart, switch, telemetry) = heart(&dir).await;
    let elsewhere = Sink::start(SinkOptions::default()).await.unwrap();
    tick_all(&telemetry);
    for answer in [
        Answer::Status(500),
        Answer::Status(404),
        Answer::Redirect(elsewhere.url()),
        Answer::Reset,
        Answer::Hang,
    ] {
        switch.set_default(answer.clone());
        let wait = heart.beat(time::now()).await;
        assert_eq!(wait, Duration::from_secs(15), "{answer:?}");
    }
    assert_eq!(elsewhere.hooks().len(), 0);
}
