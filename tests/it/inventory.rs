//! Keys that nobody gave us: from ECE's list to metrics and messages.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::metrics::{self, Format};
use ece_expiry_exporter::observation::FailureReason;
use ece_expiry_exporter::sim::{ErrorBody, Expires, Fault, KeyState, Mail, On, Role, SimKey};
use ece_expiry_exporter::status::ListStatus;

use crate::world::{Program, World, now};

const LIST: &str = "/api/v1/users/auth/keys/_all";

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

/// So many days and an hour: the first list, some seconds after the start, still sees that many.
fn days(n: i64) -> TimeDelta {
    TimeDelta::days(n) + TimeDelta::hours(1)
}

/// A key of this user that dies so many days after the start, made ninety days before.
fn key(user: &str, description: &str, left: i64) -> SimKey {
    SimKey::new(user, description, Expires::At(start() + days(left)))
}

/// A world with a credential `ops` of an admin, whose list of all keys is watched with these settings beside.
async fn world(settings: &str) -> World {
    world_of(Role::Admin, &format!("scope: all{settings}")).await
}

async fn world_of(role: Role, settings: &str) -> World {
    let mut world = World::new().await;
    world.set_now(start());
    let encoded = world.ece.add_key(key("root", "ops", 300).with_role(role));
    world.write("key-ops", &encoded);
    world.remember("ops");
    world.platforms = format!("    inventory: {{credential: ops, {settings}}}\n");
    world
}

async fn settle(program: &mut Program) {
    program.pass(TimeDelta::minutes(2), TimeDelta::seconds(10)).await;
}

fn subjects(world: &World) -> Vec<String> {
    world.mailbox.mails().iter().map(Mail::subject).collect()
}

fn scrape(program: &Program) -> String {
    let shared = &program.shared;
    metrics::render(&shared.board.snapshot(), &shared.telemetry, now(), Format::Text).unwrap()
}

fn list(program: &Program) -> Arc<ListStatus> {
    program.shared.board.snapshot().lists[0].clone()
}

fn asked(world: &World) -> u64 {
    world.ece.requests().by_path.get(LIST).copied().unwrap_or(0)
}

fn contains_all(text: &str, parts: &[&str]) {
    // Where a mail breaks its lines does not matter.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[tokio::test]
async fn a_key_that_nobody_gave_us_is_seen_shown_and_told_of() {
    let world = world("").await;
    world.ece.add_key(key("marc", "ci pipeline", 10));
    world.ece.add_key(SimKey::new("eva", "old", Expires::Never));
    world.ece.add_key(key("eva", "backup", 200));
    world.ece.add_key(key("eva", "long dead", -30));
    let mut program = world.start().await;
    settle(&mut program).await;

    let mail = &world.mailbox.mails()[0];
    assert_eq!(mail.subject(), "[ECE prod] WARNING: 2 alerts need attention");
    contains_all(
        &mail.text(),
        &[
            "prod/key \"ci pipeline\" of marc expires in 10 days (2026-11-11)",
            "prod/key \"old\" of eva NEVER EXPIRES",
            "Owner marc",
            "the owner (ECE user marc)",
        ],
    );
    assert_eq!(subjects(&world).len(), 1);
    let hooks: Vec<_> = world.sink.hooks().iter().map(|it| it.json().unwrap()).collect();
    let hook = hooks.iter().find(|it| it["type"] == "credential.expiring").unwrap();
    let credential = &hook["data"]["credential"];
    assert_eq!(
        (&credential["kind"], &credential["user"]),
        (&"listed_api_key".into(), &"marc".into())
    );
    assert_eq!(
        hook["data"]["alert"]["summary"],
        "ECE key \"ci pipeline\" of marc on prod expires in 10 days (2026-11-11)."
    );

    let metrics = scrape(&program);
    let id = world.ece.world().key("ci pipeline").unwrap().id.clone();
    let at = (start() + days(10)).timestamp();
    contains_all(
        &metrics,
        &[
            &format!(
                "ece_api_key_expiry_timestamp_seconds{{platform=\"prod\",key_id=\"{id}\",user_id=\"marc\"}} {at}"
            ),
            &format!(
                "ece_api_key_info{{platform=\"prod\",key_id=\"{id}\",user_id=\"marc\",description=\"ci pipeline\",credential=\"\"}} 1"
            ),
            "description=\"ops\",credential=\"ops\"}",
            "ece_api_keys{platform=\"prod\",state=\"valid\"} 3",
            "ece_api_keys{platform=\"prod\",state=\"expired\"} 1",
            "ece_api_keys{platform=\"prod\",state=\"never\"} 1",
            "ece_api_keys_truncated{platform=\"prod\"} 0",
            "ece_credential_info{platform=\"prod\",credential=\"inventory\",kind=\"inventory\"",
        ],
    );
    assert!(
        !metrics
            .contains("ece_credential_expiry_known{platform=\"prod\",credential=\"inventory\"}")
    );

    program.pass(TimeDelta::days(12), TimeDelta::hours(6)).await;
    let expected = [
        "[ECE prod] WARNING: 2 alerts need attention",
        "[ECE prod] CRITICAL: key \"ci pipeline\" of marc expires in 7 days (2026-11-11)",
        "[ECE prod] CRITICAL: key \"ci pipeline\" of marc expires in 1 day (2026-11-11)",
        "[ECE prod] CRITICAL: key \"ci pipeline\" of marc EXPIRED less than a minute ago (2026-11-11)",
    ];
    assert_eq!(subjects(&world), expected);
}

#[tokio::test]
async fn what_was_told_is_not_told_again_after_a_restart_and_a_step_comes_without_a_list() {
    let world = world("").await;
    world.ece.add_key(key("marc", "ci", 10));
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(subjects(&world).len(), 1);
    program.stop().await;

    world.ece.world().fault = Fault::Html502;
    let mut program = world.start().await;
    assert_eq!(list(&program).keys.len(), 2, "what was listed is shown at once");
    program.pass(TimeDelta::days(4), TimeDelta::hours(6)).await;
    let told = subjects(&world);
    assert_eq!(told[1], "[ECE prod] WARNING: platform is UNREACHABLE");
    assert!(
        told.contains(
            &"[ECE prod] CRITICAL: key \"ci\" of marc expires in 7 days (2026-11-11)".to_owned()
        ),
        "{told:?}"
    );
    assert!(
        !told.iter().any(|it| it.contains("inventory") || it.contains("list of keys")),
        "{told:?}"
    );
}

#[tokio::test]
async fn keys_that_come_and_go_are_findings_as_the_configuration_says() {
    let world = world(", created: info, deleted: warning, lifetime_max: 180d").await;
    world.ece.add_key(key("marc", "ci", 60));
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(subjects(&world), Vec::<String>::new());

    let mut fresh = key("eva", "new", 365);
    fresh.created = now();
    world.ece.add_key(fresh);
    world.ece.world().key("ci").unwrap().state = KeyState::Revoked;
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(10)).await;
    let text: String = world.mailbox.mails().iter().map(Mail::text).collect();
    contains_all(
        &text,
        &[
            "key \"new\" of eva is NEW",
            "key \"new\" of eva lives TOO LONG, until 2027-11-01",
            "The key \"ci\" of marc on ECE platform \"prod\" is GONE, it would have lived until 2026-12-31.",
        ],
    );
    let kinds: Vec<_> = list(&program).findings.iter().map(|it| it.kind.label()).collect();
    assert_eq!(kinds, ["created", "long_lived", "deleted"]);
    contains_all(
        &scrape(&program),
        &[
            "ece_api_key_findings_total{platform=\"prod\",finding=\"deleted\"} 1",
            "ece_api_keys_long_lived{platform=\"prod\"} 1",
        ],
    );
    let before = subjects(&world).len();
    program.stop().await;
    let mut program = world.start().await;
    assert_eq!(list(&program).findings.len(), 3, "findings outlive a restart");
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(10)).await;
    assert_eq!(subjects(&world).len(), before);
}

#[tokio::test]
async fn a_list_that_is_broken_or_empty_ends_nothing() {
    let world = world(", deleted: warning, schedule: 10m").await;
    world.ece.add_key(key("marc", "ci", 10));
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(subjects(&world).len(), 1);
    let empty = Fault::Status(200, ErrorBody::Plain(r#"{"keys":[]}"#.to_owned()));
    for fault in [empty, Fault::Truncate, Fault::Html200, Fault::TenMegabytes] {
        world.ece.set_fault(On::Key("ops"), fault.clone()).unwrap();
        program.pass(TimeDelta::minutes(40), TimeDelta::minutes(5)).await;
        assert_eq!(list(&program).keys.len(), 2, "after {fault:?}");
        let row = program.shared.board.snapshot().credentials[1].clone();
        assert!(row.failure.is_some(), "{fault:?} is no list");
    }
    world.ece.set_fault(On::Key("ops"), Fault::None).unwrap();
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(5)).await;
    assert!(!subjects(&world).iter().any(|it| it.contains("GONE")), "{:?}", subjects(&world));
    assert_eq!(list(&program).listed_at.map(|at| now() - at < TimeDelta::hours(1)), Some(true));
}

#[tokio::test]
async fn an_owner_without_the_right_is_told_once_and_then_asked_twice_a_day() {
    let world = world_of(Role::Viewer, "scope: all").await;
    world.ece.add_key(key("marc", "ci", 10));
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(24), TimeDelta::hours(1)).await;
    assert_eq!(subjects(&world), ["[ECE prod] WARNING: inventory CANNOT BE READ (403)"]);
    contains_all(
        &world.mailbox.mails()[0].text(),
        &[
            "Its roles (ece_platform_viewer) do not include the permission get-users-api-keys.",
            "ece_platform_admin",
            "inventory.scope: own",
        ],
    );
    assert!(asked(&world) <= 4, "asked {} times", asked(&world));
    let row = program.shared.board.snapshot().credentials[1].clone();
    assert_eq!(row.failure.as_ref().map(|it| it.0), Some(FailureReason::Forbidden));

    world.ece.world().key("ops").unwrap().role = Role::Admin;
    program.pass(TimeDelta::hours(13), TimeDelta::hours(1)).await;
    let text: String = world.mailbox.mails().iter().map(Mail::text).collect();
    contains_all(&text, &["prod/inventory RECOVERED, it can be read again"]);
}

#[tokio::test]
async fn ones_own_keys_need_no_role() {
    let world = world_of(Role::DeploymentViewer, "scope: own").await;
    world.ece.add_key(key("root", "second", 10));
    world.ece.add_key(key("marc", "not mine", 10));
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(
        subjects(&world),
        ["[ECE prod] WARNING: key \"second\" of root expires in 10 days (2026-11-11)"]
    );
    assert_eq!(asked(&world), 0);
}

#[tokio::test]
async fn a_key_that_is_held_too_is_told_once_by_its_credential() {
    let mut world = world("").await;
    world.add("terraform", Expires::At(start() + days(10)));
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(subjects(&world), ["[ECE prod] WARNING: terraform expires in 10 days (2026-11-11)"]);
    let held: Vec<_> = list(&program).keys.iter().map(|it| it.held_by.is_some()).collect();
    assert_eq!(held, [true, true]);
}

#[tokio::test]
async fn a_thousand_keys_that_expire_together_are_told_in_mails_of_two_hundred() {
    let world = world(", users: [\"ci-*\"], exclude_descriptions: [\"*test*\"]").await;
    {
        let mut ece = world.ece.world();
        for at in 0..1_000 {
            ece.add_key(key(&format!("ci-{}", at % 7), &format!("job {at}"), 10));
        }
        ece.add_key(key("marc", "not of interest", 10));
        ece.add_key(key("ci-1", "a test key", 10));
    }
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(list(&program).keys.len(), 1_000);
    let mails = world.mailbox.mails();
    assert_eq!(mails.len(), 5);
    assert!(
        mails.iter().all(|it| it.subject().contains("need attention")),
        "{:?}",
        subjects(&world)
    );
}

#[tokio::test]
async fn of_more_keys_than_are_held_the_next_to_expire_are_watched_and_it_shows() {
    let world = world(", keys_max: 50, deleted: warning").await;
    {
        let mut ece = world.ece.world();
        for at in 0..200 {
            ece.add_key(key("marc", &format!("job {at}"), 40 + at));
        }
    }
    let mut program = world.start().await;
    settle(&mut program).await;
    let list = list(&program);
    assert_eq!((list.keys.len(), list.total, list.is_truncated()), (50, Some(201), true));
    assert!(list.keys.iter().all(|it| it.item.rank(now()) < key_rank(90)));
    contains_all(&scrape(&program), &["ece_api_keys_truncated{platform=\"prod\"} 1"]);
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(30)).await;
    assert_eq!(subjects(&world), Vec::<String>::new());
}

/// The rank of a key that expires so many days after the start.
fn key_rank(left: i64) -> (u8, i64) {
    (1, (start() + days(left)).timestamp_millis())
}

#[tokio::test]
async fn a_list_that_is_no_longer_wanted_ends_its_alerts() {
    let mut world = world("").await;
    world.ece.add_key(key("marc", "ci", 10));
    let mut program = world.start().await;
    settle(&mut program).await;
    program.stop().await;
    world.platforms.clear();
    let mut program = world.start().await;
    settle(&mut program).await;
    let told = subjects(&world);
    assert_eq!(told[1..], ["[ECE prod] INFO: key \"ci\" of marc is NO LONGER WATCHED by its list"]);
    assert!(!scrape(&program).contains("ece_api_key"));
}
