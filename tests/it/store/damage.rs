//! What is left of a damaged store: what can be read is carried over, what waits is sent, and nothing that was told is
//! told again unless nobody can know.

use ece_expiry_exporter::alert::{AlertName, Firing};
use ece_expiry_exporter::config::Severity;
use ece_expiry_exporter::store::{Ledger, Salvaged};

use super::*;
use crate::world::seed;

/// How many credentials the store knows; some pages of each table.
const CREDENTIALS: usize = 60;

/// How many random bits are flipped, one at a time.
const FLIPS: usize = 60;

fn named(index: usize) -> CredentialId {
    CredentialId { platform: "prod".into(), name: format!("key-{index}").into() }
}

/// A fact in a thread of its own.
fn thread(index: usize, key: &str) -> Owed {
    let name = named(index);
    Owed { key: format!("{name} {key}"), thread: format!("{name} lifetime"), ..fires(key) }
}

/// A store of which every credential fires: the first half is told, the second half waits.
async fn large(folder: &Path) -> Vec<u8> {
    let store = open(folder).store;
    let firing = Firing {
        name: AlertName::CredentialExpiring,
        severity: Severity::Info,
        step: None,
        starts_at: start(),
        told_at: start(),
        repeats: 0,
    };
    let state =
        |generation| State { generation, lifetime: Some(firing.clone()), ..State::default() };
    let credentials = (0..CREDENTIALS).map(|it| (named(it), state(u32::try_from(it).unwrap())));
    let owed = (0..CREDENTIALS / 2).map(|it| thread(it, "told"));
    let all =
        Batch { credentials: credentials.collect(), owed: owed.collect(), ..Batch::default() };
    store.record(all, start()).await.unwrap();
    assert_eq!(deliver(&store, "told").await, CREDENTIALS / 2);
    let waits = (CREDENTIALS / 2..CREDENTIALS).map(|it| thread(it, "waits"));
    let waits = Batch { owed: waits.collect(), ..Batch::default() };
    store.record(waits, start()).await.unwrap();
    store.close().await;
    std::fs::read(folder.join("store.db")).unwrap()
}

/// What a store of these bytes knows and delivers.
#[derive(Debug)]
struct Left {
    salvaged: Salvaged,
    /// Credentials that are known.
    states: usize,
    /// Those of which is known that they were told.
    firing: usize,
    /// How many messages were sent.
    sent: usize,
}

async fn left(bytes: &[u8], what: &str) -> Option<Left> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.db"), bytes).unwrap();
    let Opened { store, health } = open(dir.path());
    let Health::SetAside { aside, salvaged, .. } = health else {
        assert_eq!(health, Health::Good, "{what}");
        return None;
    };
    assert!(std::fs::read(aside).unwrap() == bytes, "{what}: set aside as it was");
    let remembered = store.load().await.unwrap();
    for (id, state) in &remembered.credentials {
        assert_eq!(named(state.generation as usize), *id, "{what}: what is carried over is right");
    }
    let firing = remembered.credentials.values().filter(|it| it.lifetime.is_some()).count();
    store.recover(start()).await.unwrap();
    let sent = deliver(&store, "left").await;
    store.close().await;
    let file = Connection::open(dir.path().join("store.db")).unwrap();
    let check = file.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.unwrap(), "ok", "{what}: the new file is sound");
    Some(Left { salvaged, states: remembered.credentials.len(), firing, sent })
}

/// What must hold however much is lost.
fn nothing_is_taken_for_told(left: &Left, what: &str) {
    match left.salvaged.ledger {
        Ledger::Whole => {
            assert_eq!(left.firing, left.states, "{what}: {left:?}");
            assert_eq!(left.sent, CREDENTIALS / 2, "{what}: what waits is sent, nothing else");
        }
        Ledger::Gaps => {
            assert_eq!(left.firing, 0, "{what}: what may have waited is told: {left:?}");
        }
    }
}

#[tokio::test]
async fn a_large_store_that_is_cut_at_any_page_gives_what_it_still_has() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = large(dir.path()).await;
    let pages = bytes.len() / PAGE_BYTES;
    assert!(30 < pages, "{pages} pages");
    let (mut states, mut sent) = (Vec::new(), Vec::new());
    for page in 1..pages {
        let what = format!("cut after page {page} of {pages}");
        let left =
            left(&bytes[..page * PAGE_BYTES], &what).await.unwrap_or_else(|| panic!("{what}"));
        nothing_is_taken_for_told(&left, &what);
        states.push(left.states);
        sent.push(left.sent);
    }
    assert_eq!(states.last(), Some(&CREDENTIALS), "without the last page: {states:?}");
    assert!(states.iter().any(|it| (1..CREDENTIALS).contains(it)), "some of a table: {states:?}");
    assert!(sent.iter().any(|it| 0 < *it), "something that waited: {sent:?}");
}

/// The first page of everything in a store, by name.
fn roots(folder: &Path) -> Vec<(String, String, usize)> {
    let file = Connection::open(folder.join("store.db")).unwrap();
    let mut statement = file
        .prepare("SELECT name, tbl_name, rootpage FROM sqlite_master WHERE 0 < rootpage")
        .unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, u32>(2)? as usize)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test]
async fn each_table_or_index_that_is_lost_costs_itself_and_no_alert() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = large(dir.path()).await;
    let roots = roots(dir.path());
    assert!(10 < roots.len(), "{roots:?}");
    for (name, table, page) in roots {
        let mut bytes = bytes.clone();
        bytes[(page - 1) * PAGE_BYTES..page * PAGE_BYTES].fill(0xaa);
        let left = left(&bytes, &name).await.unwrap_or_else(|| panic!("{name} is not missed"));
        nothing_is_taken_for_told(&left, &name);
        let is_ledger = ["owed", "parcel"].contains(&table.as_str());
        assert_eq!(is_ledger, left.salvaged.ledger == Ledger::Gaps, "{name}: {left:?}");
        assert_eq!(
            left.states,
            if name == "subject" { 0 } else { CREDENTIALS },
            "{name}: {left:?}"
        );
        if name == "parcel" {
            assert_eq!(left.sent, CREDENTIALS, "nobody knows what was sent: {left:?}");
        } else if name != "owed" {
            assert_eq!(left.sent, CREDENTIALS / 2, "{name}: what waited is sent: {left:?}");
        }
    }
}

#[tokio::test]
async fn random_flipped_bits_never_stop_the_program_or_make_it_take_for_told_what_waits() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let bytes = large(dir.path()).await;
    let mut noticed = 0;
    for _ in 0..FLIPS {
        let mut bytes = bytes.clone();
        // A page header is where a flipped bit does most.
        let page = random.usize(..bytes.len() / PAGE_BYTES) * PAGE_BYTES;
        let within = if random.bool() { 16 } else { PAGE_BYTES };
        let at = page + random.usize(..within);
        let bit = random.u32(..8);
        bytes[at] ^= 1 << bit;
        let what = format!("seed {seed}: bit {bit} of byte {at}");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("store.db"), &bytes).unwrap();
        let Opened { store, health } = open(dir.path());
        let remembered = store.load().await.unwrap();
        let firing = remembered.credentials.values().filter(|it| it.lifetime.is_some()).count();
        if let Health::SetAside { salvaged, .. } = health {
            noticed += 1;
            assert!(salvaged.ledger == Ledger::Whole || firing == 0, "{what}: {salvaged:?}");
        } else {
            assert_eq!(health, Health::Good, "{what}");
        }
        record(&store, [fires("later")]).await;
        assert!(1 <= deliver(&store, "later").await, "{what}: an alert goes out");
        store.close().await;
    }
    assert!(FLIPS / 10 < noticed, "seed {seed}: only {noticed} were noticed");
}

#[tokio::test]
async fn what_waited_in_a_damaged_store_is_told_once_and_what_was_told_is_not_told_again() {
    let mut world = World::new().await;
    for name in ["told", "waits"] {
        world.add(name, Expires::At(time::now() + TimeDelta::days(60)));
    }
    world.ece.set_expiry("told", Expires::At(time::now() + TimeDelta::days(5))).unwrap();
    Binary::serve(&world, &[], &[]).await.rest(&world).await;
    assert_eq!(world.sink.hooks().len(), 1);
    world.sink.set_default(ece_expiry_exporter::sim::Answer::Status(503));
    world.ece.set_expiry("waits", Expires::At(time::now() + TimeDelta::days(5))).unwrap();
    let mut binary = Binary::serve(&world, &[], &[]).await;
    binary.probe("waits").await;
    wait("the attempt", || (1 < world.sink.hooks().len()).then_some(())).await;
    wait("the mail", || (world.mailbox.mails().len() == 2).then_some(())).await;
    binary.signal("TERM");
    binary.ended().await;
    let store = world.path("store");
    let (.., page) = roots(&store).into_iter().find(|it| it.0 == "finding").unwrap();
    let mut bytes = std::fs::read(store.join("store.db")).unwrap();
    bytes[(page - 1) * PAGE_BYTES..page * PAGE_BYTES].fill(0xaa);
    std::fs::write(store.join("store.db"), &bytes).unwrap();

    let waiting = world.sink.hooks()[1].header("webhook-id").to_owned();
    world.sink.clear();
    world.sink.set_default(ece_expiry_exporter::sim::Answer::Status(200));
    let binary = Binary::serve(&world, &[], &[]).await;
    let log = binary.log_text();
    assert!(log.contains("waiting notices and messages that could be read"), "{log}");
    assert!(binary.get("/").await.contains("could be read"), "the page says so");
    let written = "ece_expiry_exporter_state_last_write_successful";
    let metrics = binary.get("/metrics").await;
    assert!(crate::world::sample(&metrics, written).is_some(), "{metrics}");
    wait("what waited", || (!world.sink.hooks().is_empty()).then_some(())).await;
    binary.rest(&world).await;
    let hooks = world.sink.hooks();
    assert_eq!(hooks.len(), 1, "what was told is not told again");
    assert_eq!(hooks[0].header("webhook-id"), waiting, "under the id that it had");
    assert_eq!(world.mailbox.mails().len(), 2, "nor is a mail that was sent");
}

#[tokio::test]
async fn a_row_that_sqlite_takes_for_sound_and_nobody_can_read_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = large(dir.path()).await;
    for (what, sql, sent) in [
        (
            "a notice",
            "UPDATE owed SET notice = CAST(x'7bff7d' AS TEXT) WHERE key LIKE '%key-40 %'",
            29,
        ),
        ("a member", "UPDATE owed SET notice = '{]' WHERE key LIKE '%key-40 %'", 29),
        ("a channel", "UPDATE owed SET integration = 'pigeon' WHERE key LIKE '%key-40 %'", 29),
        ("a state", "UPDATE subject SET state = '{' WHERE key = 'prod/key-40'", 30),
        ("a message", "UPDATE parcel SET receiver = CAST(x'ff' AS TEXT) WHERE rowid = 1", 31),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.db");
        std::fs::write(&file, &bytes).unwrap();
        Connection::open(&file).unwrap().execute(sql, []).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let left = left(&bytes, what).await.unwrap_or_else(|| panic!("{what} is not missed"));
        nothing_is_taken_for_told(&left, what);
        assert_eq!(left.sent, sent, "{what}: {left:?}");
    }
}
