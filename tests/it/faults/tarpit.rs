//! Mail servers that stall, refuse or break off, beside a webhook of the same receiver: the real program.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use ece_expiry_exporter::sim::{Expires, MailFault};
use ece_expiry_exporter::time;

use crate::world::{Binary, World, sample, wait, wait_until};

/// The deadline of an attempt at a mail, and what a busy machine takes beside it.
const DEADLINE: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(3);

/// How long a webhook may take beside a mail server that stalls, from the probe on.
const BESIDE_MAX: Duration = Duration::from_secs(5);

const RECIPIENTS: [&str; 3] = ["one@example.org", "bad@example.org", "three@example.org"];

async fn world() -> World {
    let mut world = World::new().await;
    world.receivers = world
        .receivers
        .replace("to: [ops@example.org]", &format!("to: [{}]", RECIPIENTS.join(", ")));
    for name in ["first", "second"] {
        world.add(name, Expires::At(time::now() + TimeDelta::days(60)));
    }
    world
}

/// A key begins to expire; how long until the webhook has said so.
async fn hooked(world: &World, binary: &Binary, name: &str) -> Duration {
    let count = world.sink.hooks().len();
    world.ece.set_expiry(name, Expires::At(time::now() + TimeDelta::days(5))).unwrap();
    let started = Instant::now();
    binary.probe(name).await;
    wait(&format!("the webhook about {name}"), || (count < world.sink.hooks().len()).then_some(()))
        .await;
    started.elapsed()
}

async fn failed_requests(binary: &Binary) -> f64 {
    let series = "ece_expiry_exporter_notification_requests_failed_total{receiver=\"ops\",integration=\"email\"}";
    sample(&binary.get("/metrics").await, series).unwrap_or_default()
}

/// The ids under which each recipient has the mails, after a check that copies do not differ.
fn mailed(world: &World) -> BTreeMap<String, BTreeSet<String>> {
    let mut mailed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut bytes: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for mail in world.mailbox.mails() {
        let id = mail.header("Message-ID").unwrap();
        let first = bytes.entry(id.clone()).or_insert_with(|| mail.raw.clone());
        assert!(*first == mail.raw, "a copy of {id} differs");
        for to in mail.to {
            mailed.entry(to).or_default().insert(id.clone());
        }
    }
    mailed
}

/// How often a recipient is told of a key, each message counted once.
fn told(world: &World, to: &str, name: &str) -> usize {
    let about = world.mailbox.mails().into_iter().filter(|it| it.to == [to]);
    let about = about.filter(|it| {
        it.text().contains(&format!("{name}\"")) || it.text().contains(&format!("/{name} "))
    });
    about.map(|it| it.header("Message-ID").unwrap()).collect::<BTreeSet<_>>().len()
}

/// A mail server with this fault costs its attempts and nothing else; when it is well again everybody gets each mail.
async fn stalls(fault: MailFault, said: &str) {
    let world = world().await;
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    binary.probe("first").await;
    world.mailbox.set_faults([fault.clone()]);
    let first = hooked(&world, &binary, "first").await;
    assert!(first < BESIDE_MAX, "{fault:?}: the webhook took {first:?}");
    wait(&format!("{fault:?}: an attempt"), || (0 < world.mailbox.connections()).then_some(()))
        .await;
    let attempted = Instant::now();
    wait_until(&format!("{fault:?}: the failure is counted"), async || {
        1.0 <= failed_requests(&binary).await
    })
    .await;
    let took = attempted.elapsed();
    assert!(took < DEADLINE + SLACK, "{fault:?}: the attempt took {took:?}");
    let second = hooked(&world, &binary, "second").await;
    assert!(second < BESIDE_MAX, "{fault:?}: meanwhile the webhook took {second:?}");
    wait(&format!("{fault:?}: {said:?} in the log"), || {
        binary.log_text().contains(said).then_some(())
    })
    .await;

    world.mailbox.set_faults([]);
    let (status, text) = binary.reload().await;
    assert_eq!(status, 200, "{text}");
    binary.rest(&world).await;
    mailed(&world);
    for to in RECIPIENTS {
        for name in ["first", "second"] {
            assert_eq!(told(&world, to, name), 1, "{fault:?}: {to} is told of {name} once");
        }
    }
    assert_eq!(world.sink.hooks().len(), 2, "{fault:?}: the webhook is told once of each");
}

#[tokio::test]
async fn a_server_that_never_greets_holds_up_its_mails_only() {
    stalls(MailFault::NeverGreet, "did not finish within 2s").await;
}

#[tokio::test]
async fn a_server_that_stops_after_the_message_gets_copies_under_its_id() {
    stalls(MailFault::StopAfterData, "did not finish within 2s").await;
}

#[tokio::test]
async fn a_server_that_sends_one_byte_a_second_is_cut_off_at_the_deadline() {
    stalls(MailFault::Drip, "did not finish within 2s").await;
}

#[tokio::test]
async fn where_starttls_is_stripped_nothing_is_sent_until_it_is_back() {
    stalls(MailFault::NoStartTls, "offers no STARTTLS").await;
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_of_a_message_is_tried_again() {
    stalls(MailFault::BreakOff, "broke off").await;
}

#[tokio::test]
async fn a_server_that_is_too_busy_is_tried_again() {
    stalls(MailFault::Busy, "too busy").await;
}

#[tokio::test]
async fn a_refused_login_is_tried_again() {
    stalls(MailFault::RefuseAuth, "refuses the login").await;
}

#[tokio::test]
async fn greylisting_delays_a_mail_by_one_wait_and_no_more() {
    let world = world().await;
    let binary = Binary::serve(&world, &[], &[]).await;
    world.mailbox.set_faults([MailFault::Greylist]);
    let took = hooked(&world, &binary, "first").await;
    assert!(took < BESIDE_MAX, "{took:?}");
    wait("each recipient to be told", || {
        (world.mailbox.mails().len() == RECIPIENTS.len()).then_some(())
    })
    .await;
    assert!(3.0 <= failed_requests(&binary).await, "each was sent away once");
    binary.rest(&world).await;
    for to in RECIPIENTS {
        assert_eq!(told(&world, to, "first"), 1, "{to}");
    }
    assert_eq!(world.mailbox.mails().len(), RECIPIENTS.len(), "nobody has two");
}

#[tokio::test]
async fn a_refused_recipient_among_three_is_counted_and_the_others_are_served_at_once() {
    let world = world().await;
    let binary = Binary::serve(&world, &[], &[]).await;
    world.mailbox.set_faults([MailFault::RefuseRecipient("bad@example.org".to_owned())]);
    let started = Instant::now();
    hooked(&world, &binary, "first").await;
    wait("the others to be told", || {
        let told = ["one@example.org", "three@example.org"].map(|it| told(&world, it, "first"));
        (told == [1, 1]).then_some(())
    })
    .await;
    assert!(started.elapsed() < BESIDE_MAX, "{:?}", started.elapsed());
    wait_until("the refusal to be counted", async || {
        let metrics = binary.get("/metrics").await;
        let failed = "ece_expiry_exporter_notifications_failed_total{receiver=\"ops\",integration=\"email\"}";
        sample(&metrics, failed) == Some(1.0)
            && sample(&metrics, "ece_expiry_exporter_notifications_dead") == Some(1.0)
    })
    .await;
    assert!(binary.log_text().contains("refuses the recipient"), "{}", binary.log_text());
    binary.rest(&world).await;
    assert_eq!(told(&world, "bad@example.org", "first"), 0);
    for to in ["one@example.org", "three@example.org"] {
        assert!(1 <= told(&world, to, "first"), "{to}");
    }
}
