//! Stores that are damaged, foreign, full or in use, and what the ledger remembers over a restart.

mod damage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::alert::{State, Status};
use ece_expiry_exporter::config::CredentialId;
use ece_expiry_exporter::delivery::{
    Addressed, Grouping, Integration, Notice, NoticeProbe, Owed, Parcel, Target, Undelivered,
};
use ece_expiry_exporter::sim::Expires;
use ece_expiry_exporter::status::Wanted;
use ece_expiry_exporter::store::{
    Access, Batch, Fallback, Health, History, Opened, Outcome, Recorded, Store,
};
use ece_expiry_exporter::time;
use rusqlite::Connection;

use crate::world::{Binary, World, run, wait, wait_until};

const PAGE_BYTES: usize = 4096;

const LEASE: Duration = Duration::from_secs(3600);

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn id() -> CredentialId {
    CredentialId { platform: "prod".into(), name: "key".into() }
}

fn owed(key: &str, status: Status) -> Owed {
    let notice = Notice {
        alert: "ECECredentialExpiring".to_owned(),
        reason: "new".to_owned(),
        severity: "info".to_owned(),
        at: start(),
        starts_at: start(),
        repeat: 0,
        generation: 1,
        step_seconds: None,
        previous_expiry: None,
        platform: "prod".to_owned(),
        flavor: "ece".to_owned(),
        platform_url: "https://ece".to_owned(),
        ca_file: None,
        credential: None,
        next_repeat: None,
        probe: NoticeProbe::default(),
        clock_skew_seconds: None,
        undelivered: None,
        digest: None,
    };
    let target = Target {
        receiver: "ops".into(),
        integration: Integration::Webhook,
        channel: "hook".into(),
        recipient: String::new(),
    };
    Owed {
        key: format!("prod/key {key}"),
        thread: "prod/key lifetime".to_owned(),
        status,
        notice,
        to: match status {
            Status::Firing => {
                vec![Addressed { target, grouping: Grouping::default(), mutes: Vec::new() }]
            }
            Status::Resolved => Vec::new(),
        },
    }
}

fn fires(key: &str) -> Owed {
    owed(key, Status::Firing)
}

fn ends(key: &str) -> Owed {
    owed(key, Status::Resolved)
}

fn batch(owed: impl IntoIterator<Item = Owed>) -> Batch {
    let state = State { generation: 7, ..State::default() };
    Batch { credentials: vec![(id(), state)], owed: owed.into_iter().collect(), ..Batch::default() }
}

fn open(folder: &Path) -> Opened {
    Store::open(folder, start()).unwrap()
}

async fn record(store: &Store, owed: impl IntoIterator<Item = Owed>) {
    store.record(batch(owed), start()).await.unwrap();
}

/// Composes everything that waits, one message a notice, each with its key in the ledger as id and body.
async fn compose(store: &Store, prefix: &str) {
    let waiting = store.waiting(start(), 100).await.unwrap();
    let parcels = waiting.into_iter().map(|it| {
        let id = format!("{prefix}-{}", it.row);
        let body = id.clone().into_bytes();
        let (target, group) = (it.to.target, it.to.grouping.key);
        (Parcel { id, target, body, attempts: 0, created_at: start(), group }, vec![it.row])
    });
    store.composed(parcels.collect()).await.unwrap();
}

async fn claim(store: &Store, now: DateTime<Utc>) -> Vec<Parcel> {
    store.claim(Vec::new(), 100, LEASE, now).await.unwrap()
}

async fn finish(store: &Store, parcels: &[Parcel], outcome: Outcome) {
    for it in parcels {
        let done = store.finish(it.id.clone(), it.attempts, outcome.clone(), LEASE, None, start());
        done.await.unwrap();
    }
}

/// Delivers everything that is owed; how many messages.
async fn deliver(store: &Store, prefix: &str) -> usize {
    compose(store, prefix).await;
    let parcels = claim(store, start()).await;
    finish(store, &parcels, Outcome::Delivered("HTTP 200".to_owned())).await;
    parcels.len()
}

/// The bytes of a store with one told alert and one that waits.
async fn sample(folder: &Path) -> Vec<u8> {
    let store = open(folder).store;
    record(&store, [fires("first")]).await;
    assert_eq!(deliver(&store, "sample").await, 1);
    record(&store, [fires("second")]).await;
    store.close().await;
    assert!(!folder.join("store.db-wal").exists(), "the end of the program folds the log in");
    std::fs::read(folder.join("store.db")).unwrap()
}

fn aside(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().path())
        .filter(|it| it.file_name().unwrap().to_str().unwrap().contains(".unusable-"))
        .collect();
    found.sort();
    found
}

/// Opens a store of these bytes: either they are good, or they are set aside as they were; and it works in any case.
async fn opens(bytes: &[u8], what: &str) -> Health {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.db"), bytes).unwrap();
    let Opened { store, health } = open(dir.path());
    match &health {
        Health::Good => assert!(aside(dir.path()).is_empty(), "{what}"),
        Health::SetAside { aside: path, why, .. } => {
            assert!(!why.is_empty(), "{what}");
            assert_eq!(aside(dir.path()), *std::slice::from_ref(path), "{what}");
            assert!(std::fs::read(path).unwrap() == bytes, "{what}: set aside as it was");
        }
        Health::MemoryOnly { why } => panic!("{what}: in memory: {why}"),
    }
    record(&store, [fires("later")]).await;
    assert_eq!(deliver(&store, "later").await, 1, "{what}: an alert goes out");
    store.close().await;
    health
}

#[tokio::test]
async fn a_file_that_is_cut_at_any_page_is_set_aside_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = sample(dir.path()).await;
    let pages = bytes.len() / PAGE_BYTES;
    assert!(8 < pages, "a database with several tables: {pages} pages");
    for length in (1..pages).map(|page| page * PAGE_BYTES).chain([
        1,
        100,
        5000,
        bytes.len() - 512,
        bytes.len() - 1,
    ]) {
        let health = opens(&bytes[..length], &format!("cut to {length}")).await;
        assert!(matches!(health, Health::SetAside { .. }), "cut to {length}: {health:?}");
    }
    assert_eq!(opens(&[], "empty").await, Health::Good, "an empty file is a new store");
    assert_eq!(opens(&bytes, "whole").await, Health::Good);
}

#[tokio::test]
async fn a_flipped_bit_anywhere_never_stops_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = sample(dir.path()).await;
    let mut set_aside = 0;
    for index in 0..64 {
        // Half of them where a store is most easily broken: in its first bytes and those of its pages.
        let at = match index % 2 {
            0 => index * bytes.len() / 64 / PAGE_BYTES * PAGE_BYTES + index / 2,
            _ => index * bytes.len() / 64 + 13,
        };
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (index % 8);
        let health = opens(&bytes, &format!("bit {} of byte {at}", index % 8)).await;
        set_aside += usize::from(health != Health::Good);
    }
    assert!(0 < set_aside, "no flipped bit was noticed");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_set_aside_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let file = dir.path().join("store.db");
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let health = opens(&std::fs::read(file).unwrap(), "newer").await;
    let Health::SetAside { why, .. } = health else { panic!("{health:?}") };
    assert!(why.contains("format 99 and comes from a newer version"), "{why}");
}

#[tokio::test]
async fn the_first_format_opens_with_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let old = Connection::open(dir.path().join("store.db")).unwrap();
    old.execute_batch(include_str!("../../src/store/001.sql")).unwrap();
    old.execute_batch(
        r#"INSERT INTO subject VALUES ('prod/key', '{"probes_total": 41, "generation": 3}', 1);
        INSERT INTO subject VALUES ('prod', '{}', 1);
        INSERT INTO parcel
            (id, receiver, integration, channel, recipient, state, attempts, created_ms, next_ms, body)
            VALUES ('msg_old', 'ops', 'webhook', 0, '', 'pending', 2, 1793491200000, 1793491200000, x'7b7d');
        INSERT INTO attempt VALUES ('msg_old', 2, 1, 1, 'failed', 'HTTP 503');
        PRAGMA user_version = 1;"#,
    )
    .unwrap();
    drop(old);
    let Opened { store, health } = open(dir.path());
    assert_eq!(health, Health::Good);
    let remembered = store.load().await.unwrap();
    let state = &remembered.credentials[&id()];
    assert_eq!(state.generation, 3);
    assert!(remembered.platforms.contains_key("prod"));
    let parcels = claim(&store, start()).await;
    assert_eq!(parcels.len(), 1);
    assert_eq!(
        (&*parcels[0].id, &*parcels[0].body, parcels[0].attempts),
        ("msg_old", &b"{}"[..], 3)
    );
}

#[tokio::test]
async fn a_fact_that_is_recorded_twice_is_delivered_once_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    record(&store, [fires("a")]).await;
    record(&store, [fires("a")]).await;
    store.close().await;
    let store = open(dir.path()).store;
    record(&store, [fires("a")]).await;
    assert_eq!(deliver(&store, "once").await, 1);
    store.close().await;
    let store = open(dir.path()).store;
    record(&store, [fires("a")]).await;
    assert_eq!(deliver(&store, "again").await, 0);
}

#[tokio::test]
async fn only_the_newest_of_what_waits_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    record(&store, [fires("a"), fires("b")]).await;
    compose(&store, "composed").await;
    record(&store, [fires("c")]).await;
    let waiting = store.waiting(start(), 100).await.unwrap();
    assert_eq!(waiting.len(), 1);
    let newest = waiting[0].row;
    compose(&store, "newest").await;
    let ids: Vec<String> = claim(&store, start()).await.into_iter().map(|it| it.id).collect();
    assert_eq!(ids, [format!("newest-{newest}")]);
}

#[tokio::test]
async fn an_end_is_owed_only_to_those_who_were_told_or_may_have_been() {
    let outcomes = [
        (None, 0, "never tried"),
        (Some(Outcome::Dead("HTTP 410".to_owned())), 0, "never arrived"),
        (Some(Outcome::Untried("busy".to_owned(), start())), 0, "taken and put back"),
        (Some(Outcome::Delivered("HTTP 200".to_owned())), 1, "told"),
        (Some(Outcome::Postponed("no answer".to_owned(), start())), 1, "may have been told"),
    ];
    for (outcome, owed, what) in outcomes {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).store;
        record(&store, [fires("a")]).await;
        compose(&store, "first").await;
        if let Some(outcome) = outcome {
            let parcels = claim(&store, start()).await;
            finish(&store, &parcels, outcome).await;
        }
        store.close().await;
        let store = open(dir.path()).store;
        record(&store, [ends("a recovered")]).await;
        assert_eq!(deliver(&store, "end").await, owed, "{what}");
        let backlog = store.backlog().await.unwrap();
        assert!(backlog.pending.is_empty(), "{what}: the alert that ended is not told any more");
    }
}

/// A fact that one webhook of this receiver is told.
fn fires_for(key: &str, receiver: &str) -> Owed {
    let mut owed = fires(key);
    owed.to[0].target.receiver = receiver.into();
    owed
}

/// Gives up what was claimed; the boss is told instead.
async fn give_up(store: &Store, parcels: &[Parcel]) {
    for it in parcels {
        let undelivered = Undelivered { target: "ops".to_owned(), why: "HTTP 410".to_owned() };
        let fallback = Some(Fallback { to: fires_for("x", "boss").to, undelivered });
        let (id, outcome) = (it.id.clone(), Outcome::Dead("HTTP 410".to_owned()));
        store.finish(id, it.attempts, outcome, LEASE, fallback, start()).await.unwrap();
    }
}

/// Who waits to be told what, by the receiver and the end of the fact's key.
async fn waits(store: &Store, dir: &Path) -> Vec<(String, String)> {
    let rows: Vec<i64> =
        store.waiting(start(), 100).await.unwrap().iter().map(|it| it.row).collect();
    let file = Connection::open(dir.join("store.db")).unwrap();
    let sql = "SELECT receiver, replace(key, 'prod/key ', '') FROM owed WHERE id = ?1";
    let read = |row| file.query_row(sql, [row], |it| Ok((it.get(0)?, it.get(1)?))).unwrap();
    rows.into_iter().map(read).collect()
}

fn pair(receiver: &str, key: &str) -> (String, String) {
    (receiver.to_owned(), key.to_owned())
}

#[tokio::test]
async fn what_ended_while_its_message_was_on_its_way_is_told_to_nobody_instead() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    record(&store, [fires("a")]).await;
    compose(&store, "first").await;
    let on_its_way = claim(&store, start()).await;
    record(&store, [ends("a recovered")]).await;
    give_up(&store, &on_its_way).await;
    assert_eq!(waits(&store, dir.path()).await, [pair("ops", "a recovered")]);
}

#[tokio::test]
async fn what_could_not_be_delivered_takes_the_place_of_older_facts_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    record(&store, [fires("a")]).await;
    compose(&store, "first").await;
    let first = claim(&store, start()).await;
    record(&store, [fires_for("b", "night")]).await;
    compose(&store, "second").await;
    let second = claim(&store, start()).await;
    record(&store, [fires_for("c", "boss")]).await;
    give_up(&store, &first).await;
    give_up(&store, &second).await;
    assert_eq!(waits(&store, dir.path()).await, [pair("boss", "c")], "the boss knows better");

    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    record(&store, [fires("a"), fires_for("b", "night")]).await;
    compose(&store, "both").await;
    let (first, second): (Vec<Parcel>, _) =
        claim(&store, start()).await.into_iter().partition(|it| &*it.target.receiver == "ops");
    give_up(&store, &first).await;
    assert_eq!(waits(&store, dir.path()).await, [pair("boss", "a")]);
    give_up(&store, &second).await;
    assert_eq!(waits(&store, dir.path()).await, [pair("boss", "b")], "the copy of a is no later");
}

#[tokio::test]
async fn who_is_no_longer_configured_ends_no_alert_of_a_longer_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let thread = "prod/key two lifetime".to_owned();
    record(&store, [fires("a"), Owed { thread, key: "prod/key two a".to_owned(), ..fires("") }])
        .await;
    assert_eq!(deliver(&store, "first").await, 2);
    let gone = store.forget_others(vec!["prod/key two".to_owned()], start()).await.unwrap();
    assert_eq!(gone, ["prod/key"]);
    let waiting = waits(&store, dir.path()).await;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(waiting[0].1.starts_with("a removed "), "{waiting:?}");
    let wanted = Wanted { subject: Some("prod/key".to_owned()), ..Wanted::default() };
    let history = History::open(dir.path(), Access::Read).unwrap();
    let shown = history.newest(&wanted, 10).unwrap();
    assert_eq!(shown.len(), 2, "the alert and its end, and nothing of the other: {shown:?}");
}

#[tokio::test]
async fn what_was_owed_when_the_clock_was_ahead_does_not_wait_for_that_time_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let mut owed = fires("a");
    owed.to[0].grouping.wait = Duration::from_secs(30);
    store.record(batch([owed]), start() + TimeDelta::days(1)).await.unwrap();
    store.release(start()).await.unwrap();
    assert_eq!(waits(&store, dir.path()).await, [pair("ops", "a")]);
}

#[tokio::test]
async fn what_a_dead_process_had_taken_and_what_waits_for_a_retry_is_due_at_once_after_recover() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    record(&store, [fires("a")]).await;
    compose(&store, "taken").await;
    assert_eq!(claim(&store, start()).await.len(), 1);
    store.close().await;
    let store = open(dir.path()).store;
    assert_eq!(claim(&store, start()).await.len(), 0, "the lease holds");
    store.recover(start()).await.unwrap();
    let again = claim(&store, start()).await;
    assert_eq!((again.len(), again[0].attempts), (1, 2));
    let later = start() + TimeDelta::minutes(5);
    finish(&store, &again, Outcome::Postponed("HTTP 503".to_owned(), later)).await;
    assert_eq!(claim(&store, start()).await.len(), 0, "a retry waits for its time");
    store.recover(start()).await.unwrap();
    let retried = claim(&store, start()).await;
    assert_eq!((retried.len(), retried[0].attempts), (1, 3), "a start or a reload tries at once");
}

#[tokio::test]
async fn after_400_days_what_is_finished_is_forgotten_and_what_waits_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let count = |table: &str| -> i64 {
        let file = Connection::open(dir.path().join("store.db")).unwrap();
        file.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let store = open(dir.path()).store;
    record(&store, [fires("done")]).await;
    deliver(&store, "done").await;
    record(&store, [fires("pending")]).await;
    compose(&store, "pending").await;
    let other = Owed { thread: "prod/key access".to_owned(), ..fires("waiting") };
    record(&store, [other]).await;
    store.close().await;
    for (days, owed, parcels, attempts) in [(399, 3, 2, 1), (401, 2, 1, 0)] {
        let now = start() + TimeDelta::days(days);
        Store::open(dir.path(), now).unwrap().store.close().await;
        let counts = (count("owed"), count("parcel"), count("attempt"));
        assert_eq!(counts, (owed, parcels, attempts), "after {days} days");
    }
    let store = open(dir.path()).store;
    assert_eq!(store.load().await.unwrap().credentials[&id()].generation, 7);
    assert_eq!(deliver(&store, "late").await, 2, "what waits is still delivered");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_leaves_a_store_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "kept").unwrap();
    let Opened { store, health } = open(&dir.path().join("file/store"));
    assert!(matches!(health, Health::MemoryOnly { .. }), "{health:?}");
    let recorded = store.record(batch([fires("a")]), start()).await.unwrap();
    assert_eq!(recorded, Recorded::InMemory(None), "the opening has said why");
    assert_eq!(deliver(&store, "memory").await, 1);
    assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"kept");
}

/// A world with one alert that is due.
async fn world() -> World {
    let mut world = World::new().await;
    world.add("key", Expires::At(time::now() + TimeDelta::days(5)));
    world
}

/// Waits until both channels have told the alert, then checks that the log and the page say what is wrong.
async fn tells_and_says(world: &World, binary: &Binary, what: &str) {
    wait(&format!("the alert in spite of: {what}"), || {
        let told = !world.sink.hooks().is_empty() && !world.mailbox.mails().is_empty();
        told.then_some(())
    })
    .await;
    let log = binary.log_text();
    let is_said = |line: &str| line.contains("level=error") && line.contains(what);
    assert!(log.lines().any(is_said), "no error about {what}:\n{log}");
    let page = binary.get("/").await;
    assert!(page.contains("class=\"banner\"") && page.contains(what), "no banner: {page}");
}

#[tokio::test]
async fn an_unusable_file_is_set_aside_and_the_log_and_the_page_say_so() {
    let made = tempfile::tempdir().unwrap();
    let good = sample(made.path()).await;
    let cut = good[..good.len() - PAGE_BYTES].to_vec();
    for bytes in [b"garbage".repeat(2000), cut] {
        let world = world().await;
        let store = world.path("store");
        std::fs::create_dir(&store).unwrap();
        std::fs::write(store.join("store.db"), &bytes).unwrap();
        let binary = Binary::serve(&world, &[], &[]).await;
        tells_and_says(&world, &binary, "it is set aside as").await;
        binary.rest(&world).await;
        let found = aside(&store);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(std::fs::read(&found[0]).unwrap() == bytes, "nothing is deleted");
    }
}

#[tokio::test]
async fn a_folder_below_a_file_is_said_and_the_alert_goes_out() {
    let world = world().await;
    world.write("store", "a file where a folder should be");
    let binary = Binary::serve(&world, &[], &[]).await;
    tells_and_says(&world, &binary, "everything is kept in memory").await;
}

/// The next step is crossed, and both channels are told once.
async fn tells_the_next_step(world: &World, binary: &Binary) {
    world.ece.set_expiry("key", Expires::At(time::now() + TimeDelta::hours(5))).unwrap();
    binary.get("/probe?platform=prod&credential=key").await;
    wait_until("nothing to be owed", async || {
        let told = world.sink.hooks().len().min(world.mailbox.mails().len());
        2 <= told && binary.pending().await == [0.0, 0.0]
    })
    .await;
    let told = (world.sink.hooks().len(), world.mailbox.mails().len());
    assert_eq!(told, (2, 2), "each step is told once");
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_said_and_only_what_is_new_is_told() {
    let world = world().await;
    Binary::serve(&world, &[], &[]).await.rest(&world).await;
    let binary = Binary::serve_on_full_disk(&world, 24).await;
    tells_and_says(&world, &binary, "everything is kept in memory").await;
    tells_the_next_step(&world, &binary).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_is_said_and_every_step_is_told_once() {
    let world = world().await;
    Binary::serve(&world, &[], &[]).await.rest(&world).await;
    let binary = Binary::serve_on_full_disk(&world, 64).await;
    let mut expiry = time::now() + TimeDelta::days(5);
    wait_until("the disk to be full", async || {
        // Each probe has news, so each is written.
        expiry -= TimeDelta::minutes(1);
        world.ece.set_expiry("key", Expires::At(expiry)).unwrap();
        binary.get("/probe?platform=prod&credential=key").await;
        binary.log_text().contains("keeping everything in memory")
    })
    .await;
    tells_and_says(&world, &binary, "keeping everything in memory").await;
    tells_the_next_step(&world, &binary).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_between_any_two_writes_delays_no_alert() {
    for kib in (56..112).step_by(8) {
        let world = world().await;
        let binary = Binary::serve_on_full_disk(&world, kib).await;
        wait_until(&format!("the alert, with {kib} KiB"), async || {
            let told = (world.sink.hooks().len(), world.mailbox.mails().len());
            told == (1, 1) && binary.pending().await == [0.0, 0.0]
        })
        .await;
    }
}

#[tokio::test]
async fn a_second_program_on_the_same_store_ends_with_a_clear_error() {
    let world = world().await;
    let _first = Binary::serve(&world, &[], &[]).await;
    let config = format!("--config.file={}", world.path("config.yml").display());
    let (code, _, error) = run(&[&config, "--web.listen-address=127.0.0.1:0"], world.dir.path());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("another ece-expiry-exporter uses"), "{error}");
}
