//! A disk that is full, cannot bring anything to rest, or became read-only, under the real program.

use std::path::Path;
use std::process::Command;

use chrono::TimeDelta;
use ece_expiry_exporter::sim::Expires;
use ece_expiry_exporter::time;

use crate::world::{Binary, World, sample, wait_until};

const WRITTEN: &str = "ece_expiry_exporter_state_last_write_successful";

/// The disk of a world: what is wrong with it, for a program that was started with `env`.
struct Disk {
    preload: String,
    file: String,
    store: String,
}

impl Disk {
    fn of(world: &World) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk_faults.c");
        let library = world.path("disk_faults.so");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .expect("this test needs a C compiler, as the program itself does");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = |it: &Path| it.to_str().unwrap().to_owned();
        let store = text(&world.path("store"));
        Self { preload: text(&library), file: text(&world.path("disk")), store }
    }

    fn env(&self) -> [(&str, &str); 3] {
        [("LD_PRELOAD", &self.preload), ("FAULTS_FILE", &self.file), ("FAULTS_STORE", &self.store)]
    }

    fn fails(&self, how: &str) {
        std::fs::write(&self.file, how).unwrap();
    }
}

async fn world() -> World {
    let mut world = World::new().await;
    world.add("key", Expires::At(time::now() + TimeDelta::days(20)));
    world
}

fn counts(world: &World) -> (usize, usize) {
    (world.sink.hooks().len(), world.mailbox.mails().len())
}

/// Waits until so many alerts are told by webhook and by mail, and nothing is owed.
async fn told(world: &World, binary: &Binary, count: usize) {
    wait_until(&format!("{count} alerts to be told"), async || {
        counts(world) >= (count, count) && binary.pending().await == [0.0, 0.0]
    })
    .await;
    assert_eq!(counts(world), (count, count), "each once; {}", binary.log_text());
}

async fn crosses(world: &World, binary: &Binary, days: i64) {
    world.ece.set_expiry("key", Expires::At(time::now() + TimeDelta::days(days))).unwrap();
    binary.probe("key").await;
}

/// What a disk fails at, with what the log says of it.
const FAULTS: [(&str, &str); 2] = [("sync", "disk I/O error"), ("full", "disk is full")];

#[tokio::test]
async fn a_disk_that_fails_while_the_program_runs_is_said_and_every_step_is_told_once() {
    for (fault, said) in FAULTS {
        let world = world().await;
        let disk = Disk::of(&world);
        let binary = Binary::serve(&world, &[], &disk.env()).await;
        told(&world, &binary, 1).await;
        assert_eq!(sample(&binary.get("/metrics").await, WRITTEN), Some(1.0));
        disk.fails(fault);
        crosses(&world, &binary, 10).await;
        told(&world, &binary, 2).await;
        let log = binary.log_text();
        let is_said = |it: &str| it.contains("going on in memory") && it.contains(said);
        assert!(log.lines().any(is_said), "{fault}: {log}");
        let page = binary.get("/").await;
        assert!(page.contains("keeping everything in memory"), "{fault}: the page says so: {page}");
        assert_eq!(sample(&binary.get("/metrics").await, WRITTEN), Some(0.0), "{fault}");
        crosses(&world, &binary, 5).await;
        told(&world, &binary, 3).await;
        drop(binary);

        // The disk has come back: what it does not know is told again, and nothing is forgotten.
        disk.fails("");
        let binary = Binary::serve(&world, &[], &disk.env()).await;
        binary.probe("key").await;
        wait_until("nothing to be owed", async || binary.pending().await == [0.0, 0.0]).await;
        let (hooks, mails) = counts(&world);
        // Two steps were told while nothing could be written.
        let again = 3..=5;
        assert!(again.contains(&hooks) && again.contains(&mails), "{fault}: {hooks} {mails}");
        binary.rest(&world).await;
    }
}

#[tokio::test]
async fn a_disk_that_fails_from_the_start_is_said_and_delays_no_alert() {
    for (fault, _) in FAULTS {
        let world = world().await;
        let disk = Disk::of(&world);
        disk.fails(fault);
        let binary = Binary::serve(&world, &[], &disk.env()).await;
        told(&world, &binary, 1).await;
        crosses(&world, &binary, 5).await;
        told(&world, &binary, 2).await;
        assert!(binary.log_text().contains("level=error"), "{fault}: {}", binary.log_text());
        assert!(binary.get("/").await.contains("class=\"banner\""), "{fault}: the page says so");
    }
}

#[tokio::test]
async fn what_waited_when_the_disk_died_is_still_told() {
    let world = world().await;
    let disk = Disk::of(&world);
    world.sink.set_default(ece_expiry_exporter::sim::Answer::Status(503));
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &disk.env()).await;
    wait_until("the mail, and the webhook to fail", async || {
        let (hooks, mails) = counts(&world);
        0 < hooks && mails == 1
    })
    .await;
    disk.fails("dead");
    world.sink.clear();
    world.sink.set_default(ece_expiry_exporter::sim::Answer::Status(200));
    // A probe with news, which cannot be written.
    crosses(&world, &binary, 19).await;
    let (status, text) = binary.reload().await;
    assert_eq!(status, 200, "{text}");
    binary.probe("key").await;
    wait_until("the webhook to be told", async || {
        0 < counts(&world).0 && binary.pending().await == [0.0, 0.0]
    })
    .await;
    let log = binary.log_text();
    assert!(log.contains("going on in memory"), "{log}");
    let (_, mails) = counts(&world);
    assert!(mails <= 2, "at most once more: {mails}");
}

#[tokio::test]
async fn a_folder_that_became_read_only_after_a_crash_gives_what_it_knows_and_only_news_is_told() {
    let world = world().await;
    let disk = Disk::of(&world);
    let binary = Binary::serve(&world, &[], &disk.env()).await;
    told(&world, &binary, 1).await;
    // Killed: what it knows is in the log beside the file.
    drop(binary);
    assert!(world.path("store/store.db-wal").exists());
    disk.fails("readonly");
    let binary = Binary::serve(&world, &[], &disk.env()).await;
    let log = binary.log_text();
    assert!(log.contains("everything is kept in memory"), "{log}");
    crosses(&world, &binary, 5).await;
    told(&world, &binary, 2).await;
}
