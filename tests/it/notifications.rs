//! Who was told what: the ledger on the command line, in the API and on the page, and sending again beside a server.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::alert::Status;
use ece_expiry_exporter::delivery::{
    Addressed, Grouping, Hush, Integration, Notice, NoticeCredential, Owed, Parcel, Target,
};
use ece_expiry_exporter::sim::{Answer, Expires, MailFault};
use ece_expiry_exporter::status::{Notification, Stage, Wanted};
use ece_expiry_exporter::store::{Access, Batch, Held, History, Outcome, Store};
use ece_expiry_exporter::time;
use rusqlite::Connection;
use serde_json::Value;

use crate::world::{Binary, World, run, wait_until};

/// What a running server notices of a command, with room for a busy machine.
const NOTICED_MAX: Duration = Duration::from_secs(10);

/// The most that the 601 newest of a hundred thousand may take in a debug build on a busy machine; a scan of all with
/// what they carry takes many times that.
const READ_MAX: Duration = Duration::from_secs(3);

fn in_days(days: i64) -> DateTime<Utc> {
    time::now() + TimeDelta::days(days) + TimeDelta::hours(1)
}

/// Runs `notifications` beside the server: exit code, what it prints, what it complains.
async fn command(world: &World, args: &[&str]) -> (i32, String, String) {
    let mut all = vec!["notifications".to_owned()];
    all.extend(args.iter().map(|it| (*it).to_owned()));
    all.push("--config.file=config.yml".to_owned());
    let dir = world.dir.path().to_owned();
    let run = move || run(&all.iter().map(String::as_str).collect::<Vec<_>>(), &dir);
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn good(world: &World, args: &[&str]) -> String {
    let (code, out, err) = command(world, args).await;
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    out
}

async fn listed(world: &World, args: &[&str]) -> Vec<Value> {
    let text = good(world, &[&["list", "--output=json"], args].concat()).await;
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["notifications"].take().as_array().unwrap().clone()
}

async fn api(binary: &Binary, query: &str) -> Vec<Value> {
    let text = binary.get(&format!("/api/v1/notifications{query}")).await;
    let mut json: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
    assert_eq!(json["status"], "success");
    json["data"]["notifications"].take().as_array().unwrap().clone()
}

async fn wait_for(binary: &Binary, query: &str, count: usize) {
    wait_until(&format!("{count} of {query}"), async || api(binary, query).await.len() == count)
        .await;
}

#[tokio::test]
async fn a_message_that_was_given_up_is_sent_again_beside_a_running_server() {
    let mut world = World::new().await;
    world.add("ci", Expires::At(in_days(5)));
    world.sink.set_default(Answer::Status(401));
    let binary = Binary::serve(&world, &[], &[]).await;
    wait_for(&binary, "?state=dead", 1).await;
    wait_for(&binary, "?state=delivered", 1).await;

    let dead = listed(&world, &["--state=dead"]).await.remove(0);
    let id = dead["id"].as_str().unwrap();
    assert_eq!(dead["attempts"][0]["outcome"], "dead");
    assert!(dead["answer"].as_str().unwrap().contains("answered 401; check the URL"), "{dead}");
    assert_eq!(dead["facts"][0]["credential"], "ci");
    assert_eq!(dead["facts"][0]["alert"], "ECECredentialExpiring");
    let page = binary.get("/notifications").await;
    for words in [format!("notifications resend {id}"), "answered 401; check the URL".to_owned()] {
        assert!(page.contains(&words), "{words}: {page}");
    }
    assert!(page.find(">dead<").unwrap() < page.find(">delivered<").unwrap());
    assert!(binary.get("/").await.contains("href=\"notifications?q=dead\""));

    world.sink.set_default(Answer::Status(200));
    let said = good(&world, &["resend", id]).await;
    let since = Instant::now();
    assert!(said.contains(&format!("{id} is due again")), "{said}");
    wait_until("the message to arrive", async || {
        world.sink.hooks().iter().any(|it| it.status_answered == Some(200))
    })
    .await;
    assert!(since.elapsed() < NOTICED_MAX, "{:?}", since.elapsed());
    wait_for(&binary, "?state=dead", 0).await;
    wait_for(&binary, "?state=delivered&integration=webhook", 1).await;
    wait_until("the count to fall", async || {
        binary.get("/metrics").await.contains("ece_expiry_exporter_notifications_dead 0\n")
    })
    .await;

    let hooks = world.sink.hooks();
    assert!(hooks.iter().all(|it| it.header("webhook-id") == id && it.body == hooks[0].body));
    let taken = hooks.iter().filter(|it| it.status_answered == Some(200)).count();
    assert_eq!((hooks.len(), taken), (2, 1), "refused once, taken once");
    let shown = good(&world, &["show", id]).await;
    for words in ["Attempts (2):", "  1  ", "dead ", "  2  ", "HTTP 200", "\"type\": \"credential."]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let (code, _, err) = command(&world, &["resend", id]).await;
    assert_eq!(code, 1);
    assert!(err.contains("is delivered: only what is dead is sent again"), "{err}");
    assert!(good(&world, &["resend", "--all-dead"]).await.contains("no message was given up"));
}

#[tokio::test]
async fn all_that_was_given_up_waits_for_the_next_start_of_a_server_that_is_off() {
    let mut world = World::new().await;
    for name in ["a", "b"] {
        world.add(name, Expires::At(in_days(5)));
    }
    world.sink.set_default(Answer::Status(410));
    let mut binary = Binary::serve(&world, &[], &[]).await;
    wait_for(&binary, "?state=dead", 2).await;
    binary.signal("TERM");
    binary.ended().await;
    world.sink.set_default(Answer::Status(200));
    world.sink.clear();
    let said = good(&world, &["resend", "--all-dead"]).await;
    assert!(said.contains("2 due again"), "{said}");
    assert!(world.sink.hooks().is_empty(), "the command sends nothing itself");
    let pending = listed(&world, &["--state=pending", "--credential=prod/a"]).await;
    assert_eq!(pending.len(), 1, "{pending:?}");
    let binary = Binary::serve(&world, &[], &[]).await;
    wait_for(&binary, "?state=delivered&integration=webhook", 2).await;
    assert_eq!(world.sink.hooks().len(), 2);
}

#[tokio::test]
async fn addresses_are_whole_for_who_reads_the_store_and_masked_over_http() {
    let mut world = World::new().await;
    world.mailbox.set_faults([MailFault::RefuseRecipient("ops@example.org".to_owned())]);
    world.add("ci", Expires::At(in_days(5)));
    let binary = Binary::serve(&world, &[], &[]).await;
    wait_for(&binary, "?state=dead&integration=email", 1).await;
    for path in
        ["/notifications", "/api/v1/notifications", "/api/v1/notifications?format=csv", "/metrics"]
    {
        let text = binary.get(path).await;
        assert!(!text.contains("ops@example.org"), "{path}: {text}");
        assert!(text.contains("o…@example.org") || path == "/metrics", "{path}: {text}");
    }
    assert!(!binary.log_text().contains("ops@example.org to"), "{}", binary.log_text());
    for output in ["table", "json", "csv"] {
        let text = good(&world, &["--output", output]).await;
        assert!(text.contains("ops@example.org"), "{output}: {text}");
    }
}

#[tokio::test]
async fn a_mail_that_cannot_be_delivered_yet_says_when_it_is_tried_and_can_be_read() {
    let mut world = World::new().await;
    world.mailbox.set_faults([MailFault::Busy]);
    world.add("schlüssel", Expires::At(in_days(5)));
    let binary = Binary::serve(&world, &[], &[]).await;
    wait_until("a try to have failed", async || {
        let pending = api(&binary, "?state=pending").await;
        pending.iter().any(|it| it["next_at"].is_string() && it["attempts_total"] != 0)
    })
    .await;
    let table = good(&world, &["--state=pending"]).await;
    assert!(table.contains("next try 20") && table.contains("421"), "{table}");
    let id = listed(&world, &["--state=pending"]).await[0]["id"].as_str().unwrap().to_owned();
    let shown = good(&world, &["show", &id]).await;
    for words in ["Subject: [ECE prod] CRITICAL: schlüssel expires", "\"schlüssel\"", "421"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("=C3=BC") && !shown.contains("<html"), "{shown}");
    assert!(binary.get("/notifications").await.contains("next try in "));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_said_in_a_sentence() {
    let mut world = World::new().await;
    world.add("ci", Expires::At(in_days(80)));
    world.write_config();
    let (code, _, err) = command(&world, &[]).await;
    assert_eq!(code, 1);
    assert!(err.contains("there is no store in") && err.contains("--storage.path"), "{err}");
    let binary = Binary::serve(&world, &[], &[]).await;
    assert_eq!(good(&world, &[]).await, "no notification in the ledger matches\n");
    for (args, words) in [
        (["list", "--state=lost"], "no state is called `lost`; there are: dead"),
        (["list", "--since=yesterday"], "`yesterday` is not a time"),
        (["list", "--integration=fax"], "no kind of channel is called `fax`"),
        (["show", "msg_x"], "holds no `msg_x`"),
        (["resend", "msg_x"], "holds no `msg_x`"),
    ] {
        let (code, out, err) = command(&world, &args).await;
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains(words), "{err}");
    }
    for query in ["state=lost", "since=x", "limit=x", "format=xml", "integration=fax"] {
        let text = binary.get(&format!("/api/v1/notifications?{query}")).await;
        assert!(text.starts_with("400: ") && text.lines().count() == 1, "{query}: {text}");
    }
    assert!(binary.get("/notifications").await.contains("Nobody had to be told of anything yet."));
}

// ---- a ledger of our own making ----

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn owed(n: i64, receiver: &str, integration: Integration, credential: &str) -> Owed {
    let at = start() + TimeDelta::hours(n);
    let notice = Notice {
        alert: "ECECredentialExpiring".to_owned(),
        reason: "new".to_owned(),
        severity: "info".to_owned(),
        at,
        platform: "prod".to_owned(),
        credential: Some(NoticeCredential {
            name: credential.to_owned(),
            ..NoticeCredential::default()
        }),
        ..Notice::default()
    };
    let recipient = if integration == Integration::Email {
        "ops@example.org".to_owned()
    } else {
        String::new()
    };
    let target =
        Target { receiver: receiver.into(), integration, channel: "=main".into(), recipient };
    Owed {
        key: format!("prod/{credential} {n}"),
        thread: format!("prod/{credential} lifetime"),
        status: Status::Firing,
        notice,
        to: vec![Addressed { target, grouping: Grouping::default(), mutes: Vec::new() }],
    }
}

/// A ledger with something in every stage.
async fn varied(folder: &Path) -> Store {
    let store = Store::open(folder, start()).unwrap().store;
    for n in 0..12_i64 {
        let at = start() + TimeDelta::hours(n);
        let receiver = if n % 2 == 0 { "ops" } else { "dev" };
        let integration = if n % 3 == 0 { Integration::Email } else { Integration::Webhook };
        let credential = ["ci", "ci-2", "list/k1", "x"][usize::try_from(n % 4).unwrap()];
        let batch =
            Batch { owed: vec![owed(n, receiver, integration, credential)], ..Batch::default() };
        store.record(batch, at).await.unwrap();
        let waiting = store.waiting(at, 1).await.unwrap().remove(0);
        if let 8..10 = n {
            let why = if n == 8 { Hush::Silenced } else { Hush::Muted };
            let until = at + TimeDelta::days(9);
            store.hold(vec![Held { row: waiting.row, why, until }]).await.unwrap();
            continue;
        }
        if n == 11 {
            continue;
        }
        let (id, body) = (format!("msg_{n:02}"), b"{}".to_vec());
        let (target, group) = (waiting.to.target, String::new());
        let parcel = Parcel { id, target, body, attempts: 0, created_at: at, group };
        store.composed(vec![(parcel, vec![waiting.row])]).await.unwrap();
        for parcel in store.claim(Vec::new(), 9, Duration::from_secs(9), at).await.unwrap() {
            let outcome = match n {
                0..=3 => Outcome::Delivered("HTTP 200".to_owned()),
                4 | 5 => Outcome::Dead("=HYPERLINK(\"http://x\"),\r\n no".to_owned()),
                _ => Outcome::Postponed("HTTP 503".to_owned(), at + TimeDelta::days(1)),
            };
            let took = Duration::from_millis(7);
            store.finish(parcel.id, parcel.attempts, outcome, took, None, at).await.unwrap();
        }
    }
    store
}

fn ids(found: &[Notification]) -> Vec<&str> {
    found.iter().map(|it| it.id.as_str()).collect()
}

#[tokio::test]
async fn the_ledger_is_read_newest_first_and_each_filter_means_the_same_in_sql_and_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = varied(dir.path()).await;
    let ledger = History::open(dir.path(), Access::Read).unwrap();
    let all = ledger.newest(&Wanted::default(), 100).unwrap();
    assert_eq!(
        ids(&all),
        [
            "owed_12", "msg_10", "owed_10", "owed_9", "msg_07", "msg_06", "msg_05", "msg_04",
            "msg_03", "msg_02", "msg_01", "msg_00"
        ]
    );
    assert_eq!(store.notifications().await.unwrap(), all, "page and command see the same");
    let stages: std::collections::BTreeSet<Stage> = all.iter().map(|it| it.stage).collect();
    assert!(5 < stages.len(), "{stages:?}");

    let some = |text: &str| Some(text.to_owned());
    let hour = |n| Some(start() + TimeDelta::hours(n));
    let mut filters = vec![
        Wanted { receiver: some("dev"), ..Wanted::default() },
        Wanted { integration: Some(Integration::Email), ..Wanted::default() },
        Wanted { subject: some("prod"), ..Wanted::default() },
        Wanted { subject: some("prod/ci"), ..Wanted::default() },
        Wanted { subject: some("prod/list"), ..Wanted::default() },
        Wanted { subject: some("prod/list/k1"), stage: Some(Stage::Muted), ..Wanted::default() },
        Wanted { since: hour(3), until: hour(9), ..Wanted::default() },
        Wanted { subject: some("nobody"), ..Wanted::default() },
    ];
    filters.extend(Stage::ALL.map(|it| Wanted { stage: Some(it), ..Wanted::default() }));
    for wanted in filters {
        let found = ledger.newest(&wanted, 100).unwrap();
        let expected: Vec<_> = all.iter().filter(|it| wanted.takes(it)).cloned().collect();
        assert_eq!(ids(&found), ids(&expected), "{wanted:?}");
    }
    let ci = Wanted { subject: some("prod/ci"), ..Wanted::default() };
    assert_eq!(ids(&ledger.newest(&ci, 2).unwrap()), ["owed_9", "msg_04"]);
    store.close().await;
}

#[tokio::test]
async fn a_notice_keeps_its_id_once_it_is_composed() {
    let dir = tempfile::tempdir().unwrap();
    let store = varied(dir.path()).await;
    let ledger = History::open(dir.path(), Access::Read).unwrap();
    let (waiting, body) = ledger.find("owed_12").unwrap().unwrap();
    assert_eq!((waiting.stage, waiting.facts.len(), body.len()), (Stage::Waiting, 1, 0));
    assert_eq!(ledger.find("owed_1").unwrap().unwrap().0.id, "msg_00");
    for unknown in ["owed_99", "owed_x", "msg_99", ""] {
        assert_eq!(ledger.find(unknown).unwrap(), None, "{unknown}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_ledger_of_another_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    varied(dir.path()).await.close().await;
    let path = format!("--storage.path={}", dir.path().display());
    let other = Connection::open(dir.path().join("store.db")).unwrap();
    other.execute_batch("PRAGMA user_version = 99").unwrap();
    for args in [["notifications", "list"], ["notifications", "resend"]] {
        let mut args = args.to_vec();
        args.extend(["--all-dead", &path].iter().skip(usize::from(args[1] == "list")));
        let (code, _, err) = run(&args, dir.path());
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("it has format 99 and this program knows "), "{err}");
    }
    let dead = "SELECT COUNT(*) FROM parcel WHERE state = 'dead'";
    assert_eq!(other.query_row(dead, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
}

/// The cells of a CSV, by RFC 4180 to the letter.
fn cells(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut row = Vec::new();
        loop {
            let mut cell = String::new();
            if let Some(quoted) = rest.strip_prefix('"') {
                rest = quoted;
                loop {
                    let end = rest.find('"').expect("a closing quote");
                    cell.push_str(&rest[..end]);
                    rest = &rest[end + 1..];
                    match rest.strip_prefix('"') {
                        Some(more) => (cell, rest) = (cell + "\"", more),
                        None => break,
                    }
                }
            } else {
                let end = rest.find([',', '\r']).expect("an end of the line");
                cell.push_str(&rest[..end]);
                assert!(!cell.contains(['"', '\n']), "{cell}");
                rest = &rest[end..];
            }
            row.push(cell);
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix("\r\n").expect("a line ends with CR LF");
        rows.push(row);
    }
    rows
}

#[tokio::test]
async fn the_csv_parses_and_no_cell_is_a_formula() {
    let dir = tempfile::tempdir().unwrap();
    varied(dir.path()).await.close().await;
    let path = format!("--storage.path={}", dir.path().display());
    let args = ["notifications", "--output=csv", "--state=dead", &path];
    let (code, out, err) = run(&args, dir.path());
    assert_eq!((code, err.as_str()), (0, ""));
    let rows = cells(&out);
    assert_eq!(rows.len(), 3, "{out}");
    assert!(rows.iter().all(|it| it.len() == rows[0].len()), "{out}");
    let cell = |row: usize, name: &str| {
        let at = rows[0].iter().position(|it| it == name).unwrap();
        rows[row][at].as_str()
    };
    assert_eq!((cell(1, "id"), cell(2, "id")), ("msg_05", "msg_04"));
    assert_eq!(cell(1, "answer"), "'=HYPERLINK(\"http://x\"),\r\n no");
    assert_eq!((cell(1, "channel"), cell(1, "credential")), ("'=main", "ci-2"));
    assert_eq!(cell(1, "at"), "2026-11-01T05:00:00.000Z");
    let dangerous = |it: &String| it.starts_with(['=', '+', '-', '@']);
    assert!(!rows.iter().flatten().any(dangerous), "{out}");
}

#[tokio::test]
async fn a_hundred_thousand_messages_do_not_slow_the_server_down() {
    let dir = tempfile::tempdir().unwrap();
    let store = varied(dir.path()).await;
    let mut notice = owed(0, "ops", Integration::Webhook, "ci").notice;
    notice.platform_url = "x".repeat(600);
    let notice = serde_json::to_string(&notice).unwrap();
    let other = Connection::open(dir.path().join("store.db")).unwrap();
    other
        .execute_batch(&format!(
            "BEGIN;
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000)
             INSERT INTO parcel (id, receiver, integration, channel, recipient, state, attempts, created_ms, next_ms, body)
                 SELECT printf('big_%06d', n), 'ops', 'webhook', 'hook', '',
                     CASE WHEN n < 400 THEN 'dead' ELSE 'delivered' END, 1, 1800000000000 + n, 0, zeroblob(3000) FROM n;
             INSERT INTO owed (key, thread, status, receiver, integration, channel, recipient, notice, created_ms,
                 not_before_ms, state, parcel_id)
                 SELECT id, 'prod/ci lifetime', 'firing', 'ops', 'webhook', 'hook', '', '{notice}', created_ms, 0,
                     'composed', id FROM parcel WHERE id LIKE 'big%';
             INSERT INTO attempt SELECT id, 1, created_ms, 5, 'delivered', 'HTTP 200' FROM parcel WHERE id LIKE 'big%';
             COMMIT;"
        ))
        .unwrap();
    let since = Instant::now();
    let shown = store.notifications().await.unwrap();
    let took = since.elapsed();
    let dead = shown.iter().filter(|it| it.stage == Stage::Dead).count();
    let waiting = shown.iter().filter(|it| it.composed_at.is_none()).count();
    // 500 of all, the newest 200 of the dead, and what is pending or waits from before.
    assert_eq!((shown.len(), dead, waiting), (500 + 200 + 2 + 3, 200, 3));
    assert!(took < READ_MAX, "{took:?}");

    let ledger = History::open(dir.path(), Access::Read).unwrap();
    let wanted = Wanted { subject: Some("prod/nobody".to_owned()), ..Wanted::default() };
    let since = Instant::now();
    assert_eq!(ledger.newest(&wanted, 50).unwrap(), []);
    assert!(since.elapsed() < READ_MAX, "{:?}", since.elapsed());
    store.close().await;
}

#[tokio::test]
async fn a_store_tells_its_own_writes_from_those_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = varied(dir.path()).await;
    let before = store.revision().await.unwrap();
    assert_eq!(store.revision().await.unwrap(), before, "reading changes nothing");
    store.release(start()).await.unwrap();
    let own = store.revision().await.unwrap();
    assert_eq!(own.by_others, before.by_others);
    assert_ne!(own.by_us, before.by_us);
    let mut ledger = History::open(dir.path(), Access::Write).unwrap();
    assert_eq!(store.revision().await.unwrap(), own, "opening changes nothing");
    assert_eq!(ledger.resend_all(start()).unwrap(), ["msg_04", "msg_05"]);
    let other = store.revision().await.unwrap();
    assert_ne!(other.by_others, own.by_others);
    assert_eq!(other.by_us, own.by_us);
    store.close().await;
}
