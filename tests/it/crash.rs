//! Death at every commit point, and at any moment: nothing is lost, and nothing is told twice but for the one copy that
//! no sender can rule out, under the id of the first.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::failpoint;
use ece_expiry_exporter::self_test::{self, Options, Verdict};
use ece_expiry_exporter::sim::{Expires, Hook, Mail};
use ece_expiry_exporter::time;
use tokio::task::{JoinSet, LocalSet};

use crate::world::{Binary, World, seed, wait, wait_until};

/// How often the program is killed at a random moment.
const ROUNDS: u32 = 40;

/// How often it is killed while what is owed to four targets is counted one by one.
const SELF_TEST_ROUNDS: u32 = 40;

/// The longest that such a life lasts.
const LIFE_MS_MAX: u64 = 1_500;

/// A little more than a start needs, so that the second step is still ahead when the program dies.
const UNTIL_SECOND_STEP: TimeDelta = TimeDelta::seconds(10);

/// Runs a scenario at every point, all at once.
async fn at_every_point<F>(scenario: impl Fn(&'static str) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let local = LocalSet::new();
    let mut scenarios = JoinSet::new();
    for point in failpoint::ALL {
        scenarios.spawn_local_on(scenario(point), &local);
    }
    local
        .run_until(async {
            while let Some(done) = scenarios.join_next().await {
                done.unwrap();
            }
        })
        .await;
}

/// Runs the program until it has killed itself at the point.
async fn die_at(point: &str, world: &World) {
    let mut binary = Binary::spawn(world, &[], &[("ECE_EXPIRY_FAILPOINT", point)]);
    let ended = binary.ended().await;
    assert_eq!(ended.signal(), Some(9), "at {point}: {ended}\n{}", binary.log_text());
}

/// The messages of one channel in the order of their arrival: id, what it says, and all bytes.
type Messages = Vec<(String, String, Vec<u8>)>;

fn hooks(world: &World) -> Messages {
    let message = |hook: Hook| {
        let json = hook.json().unwrap();
        let id = hook.header("webhook-id").to_owned();
        (id, json["severity"].as_str().unwrap().to_owned(), hook.body)
    };
    world.sink.hooks().into_iter().map(message).collect()
}

fn mails(world: &World) -> Messages {
    let message = |mail: Mail| {
        let subject = mail.subject();
        let severity = subject.trim_start_matches("[ECE prod] ").split(':').next().unwrap();
        (mail.header("Message-ID").unwrap(), severity.to_lowercase(), mail.raw)
    };
    world.mailbox.mails().into_iter().map(message).collect()
}

/// How often each message came, after a check that copies do not differ by a byte.
fn copies(messages: &Messages) -> BTreeMap<&str, usize> {
    let mut seen: BTreeMap<&str, (&[u8], usize)> = BTreeMap::new();
    for (id, _, bytes) in messages {
        let first = seen.entry(id).or_insert((bytes, 0));
        assert_eq!(first.0, bytes, "a copy of {id} differs from the first");
        first.1 += 1;
    }
    seen.into_iter().map(|(id, (_, count))| (id, count)).collect()
}

/// Whether a message has arrived before the point is reached.
fn is_after_acceptance(point: &str) -> bool {
    ["send-accepted", "finish-before-commit", "finish-after-commit"].contains(&point)
}

#[tokio::test]
async fn death_at_any_point_loses_nothing_and_copies_only_what_was_accepted_and_not_committed() {
    at_every_point(|point| async move {
        let mut world = World::new().await;
        world.add("key", Expires::At(time::now() + TimeDelta::days(20)));
        die_at(point, &world).await;
        let before = (hooks(&world).len(), mails(&world).len());
        assert_eq!(0 < before.0 + before.1, is_after_acceptance(point), "{point}: {before:?}");

        let binary = Binary::serve(&world, &[], &[]).await;
        wait(&format!("the alert after {point}"), || {
            (!hooks(&world).is_empty() && !mails(&world).is_empty()).then_some(())
        })
        .await;
        binary.rest(&world).await;
        let after = (hooks(&world), mails(&world));
        Binary::serve(&world, &[], &[]).await.rest(&world).await;
        assert_eq!(after, (hooks(&world), mails(&world)), "{point}: another restart tells nothing");

        let (hooks, mails) = after;
        let counts = [copies(&hooks), copies(&mails)];
        for count in &counts {
            assert_eq!(count.len(), 1, "{point}: one id a channel: {counts:?}");
        }
        let mut times: Vec<usize> = counts.iter().flat_map(BTreeMap::values).copied().collect();
        times.sort_unstable();
        // The channels are independent: the other one may be anywhere when the first one reaches the point.
        let allowed: &[[usize; 2]] = match point {
            "send-accepted" | "finish-before-commit" => &[[1, 2], [2, 2]],
            "finish-after-commit" => &[[1, 1], [1, 2]],
            _ => &[[1, 1]],
        };
        assert!(allowed.iter().any(|it| *it == *times), "{point}: copies {times:?}");
    })
    .await;
}

#[tokio::test]
async fn a_step_that_is_crossed_while_dead_takes_the_place_of_what_was_not_told() {
    at_every_point(|point| async move {
        let mut world = World::new().await;
        let second = time::now() + UNTIL_SECOND_STEP;
        world.extra =
            "steps: [{before: 2d, severity: info}, {before: 1d, severity: critical}]\n".to_owned();
        world.add("key", Expires::At(second + TimeDelta::days(1)));
        die_at(point, &world).await;
        assert!(time::now() < second, "{point}: this machine is too slow for the test");
        let before = (hooks(&world), mails(&world));
        time::sleep_until(second + TimeDelta::milliseconds(100)).await;

        let binary = Binary::serve(&world, &[], &[]).await;
        let newest = |messages: &Messages| messages.last().is_some_and(|it| it.1 == "critical");
        wait(&format!("the second step after {point}"), || {
            (newest(&hooks(&world)) && newest(&mails(&world))).then_some(())
        })
        .await;
        binary.rest(&world).await;
        Binary::serve(&world, &[], &[]).await.rest(&world).await;

        for (before, after) in [(before.0, hooks(&world)), (before.1, mails(&world))] {
            let told: Vec<&str> = after.iter().map(|it| it.1.as_str()).collect();
            assert_eq!(after[..before.len()], before, "{point}");
            assert!(before.len() <= usize::from(is_after_acceptance(point)), "{point}: {told:?}");
            assert_eq!(told[before.len()..], ["critical"], "{point}: only the newest is told");
        }
    })
    .await;
}

/// What a webhook says of one thread: what fires in it, or nothing.
type Told = BTreeMap<(String, &'static str), Option<(String, String)>>;

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn slot(alert: &str) -> &'static str {
    match alert {
        "ECECredentialExpiring" | "ECECredentialExpired" => "lifetime",
        "ECECredentialRejected" => "access",
        other => panic!("{other} is not expected here"),
    }
}

/// What people believe: the last message of each thread.
fn told(world: &World) -> Told {
    let mut told = Told::new();
    for hook in world.sink.hooks() {
        let json = hook.json().unwrap();
        let alert = text(&json["data"]["alert"]["name"]);
        let thread = (text(&json["data"]["credential"]["name"]), slot(&alert));
        let firing = (json["status"] == "firing").then(|| (alert, text(&json["severity"])));
        told.insert(thread, firing);
    }
    told.retain(|_, firing| firing.is_some());
    told
}

/// What the program shows.
async fn shown(binary: &Binary) -> Told {
    let json: serde_json::Value =
        serde_json::from_str(&binary.get("/api/v1/alerts").await).unwrap();
    let alerts = json["data"]["alerts"].as_array().unwrap().iter();
    alerts
        .map(|alert| {
            let labels = &alert["labels"];
            let name = text(&labels["alertname"]);
            let thread = (text(&labels["credential"]), slot(&name));
            (thread, Some((name, text(&labels["severity"]))))
        })
        .collect()
}

/// What makes a message a fact of its own.
fn fact(hook: &Hook) -> String {
    let json = hook.json().unwrap();
    let data = &json["data"];
    let reason = match data["alert"]["reason"].as_str().unwrap() {
        "new" | "escalated" => "firing",
        other => other,
    };
    format!(
        "{} {} since {} step {} {reason} {} (before: {})",
        data["credential"]["name"],
        data["alert"]["name"],
        data["alert"]["starts_at"],
        data["expiry"]["threshold_seconds"],
        data["alert"]["repeat"],
        data["expiry"]["previous_expires_at"],
    )
}

/// Something happens to a key in ECE.
fn change(world: &World, random: &mut fastrand::Rng, name: &str) {
    let days = random.choice([3, 10, 20, 60]).unwrap();
    let at: DateTime<Utc> = time::now() + TimeDelta::days(days);
    match random.u32(..4) {
        0 => {
            let renewed = world.ece.renew(name).unwrap();
            world.write(&format!("key-{name}"), &renewed);
        }
        1 => world.ece.revoke(name).unwrap(),
        _ => world.ece.set_expiry(name, Expires::At(at)).unwrap(),
    }
}

#[tokio::test]
async fn death_at_random_moments_loses_nothing_to_any_of_four_targets_and_changes_no_copy() {
    let seed = seed();
    let program = env!("CARGO_BIN_EXE_ece-expiry-exporter").into();
    let options = Options { program, rounds: SELF_TEST_ROUNDS, seed };
    let report = self_test::run(&options, |_| {}).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Kept, "seed {seed}: {report:#?}");
    let killed = &report.killed;
    let told = (killed.delivered, killed.obligations);
    assert!(usize::try_from(SELF_TEST_ROUNDS).unwrap() * 3 * 4 <= told.0, "{report:#?}");
    // Keys are renewed between the lives, which is told too.
    assert!(usize::try_from(SELF_TEST_ROUNDS).unwrap() * 4 * 4 <= told.1, "{report:#?}");
    // One message a channel can be on its way when the program dies.
    let channels = 3;
    assert!(0 < killed.copies, "no death hit a message on its way: {report:#?}");
    assert!(killed.copies <= killed.lives as usize * channels, "{report:#?}");
    let beside = report.beside_tarpit.unwrap();
    assert!(beside < Duration::from_secs(5), "the webhook waited for the mail servers: {beside:?}");
}

#[tokio::test]
async fn death_at_random_moments_leaves_people_believing_what_is_so() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new().await;
    world.global = "schedule: 1s".to_owned();
    let cast = ["a", "b", "c", "d", "e", "f"];
    for name in cast {
        world.add(name, Expires::At(time::now() + TimeDelta::days(60)));
    }
    for _ in 0..ROUNDS {
        let binary = Binary::spawn(&world, &[], &[]);
        let life = Duration::from_millis(random.u64(..LIFE_MS_MAX));
        time::sleep_until(time::now() + life).await;
        drop(binary);
        for _ in 0..2 {
            let name = random.choice(cast).unwrap();
            change(&world, &mut random, name);
        }
    }
    // One that is not told yet in any case.
    let renewed = world.ece.renew("a").unwrap();
    world.write("key-a", &renewed);
    let before = world.sink.hooks().len();
    let binary = Binary::serve(&world, &[], &[]).await;
    // Some changes are believed only when they are seen twice.
    for name in cast.repeat(3) {
        binary.get(&format!("/probe?platform=prod&credential={name}")).await;
    }
    wait_until(&format!("all to be told, seed {seed}"), async || {
        let shown = shown(&binary).await;
        binary.pending().await == [0.0, 0.0] && shown == told(&world)
    })
    .await;
    let last = shown(&binary).await;
    binary.rest(&world).await;
    assert_eq!(last, told(&world), "seed {seed}");
    assert!(before > 10, "the lives were long enough to tell something: {before} messages");

    let hooks = world.sink.hooks();
    let mut ids: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for hook in &hooks {
        ids.entry(fact(hook)).or_default().insert(hook.header("webhook-id"));
    }
    let twice: Vec<_> = ids.iter().filter(|(_, ids)| ids.len() != 1).collect();
    assert!(twice.is_empty(), "seed {seed}: told under two ids: {twice:#?}");
    copies(&self::hooks(&world));
    copies(&mails(&world));
}
