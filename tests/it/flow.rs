//! The life of credentials from probe to message, at a simulated time, over real HTTPS, SMTP and HTTP.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::{Answer, Expires, Fault, MailFault, On};

use crate::world::{World, now};

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

async fn world() -> World {
    let world = World::new().await;
    world.set_now(start());
    world
}

fn days(n: i64) -> TimeDelta {
    TimeDelta::days(n)
}

/// What the webhooks said, one `type reason severity` a line, in order.
fn hooks(world: &World) -> Vec<String> {
    let field = |json: &serde_json::Value, path: &str| {
        json.pointer(path).unwrap().as_str().unwrap().to_owned()
    };
    world
        .sink
        .hooks()
        .iter()
        .filter(|hook| hook.status_answered == Some(200))
        .map(|hook| {
            let json = hook.json().unwrap();
            format!(
                "{} {} {}",
                field(&json, "/type"),
                field(&json, "/data/alert/reason"),
                field(&json, "/severity")
            )
        })
        .collect()
}

fn subjects(world: &World) -> Vec<String> {
    world.mailbox.mails().iter().map(ece_expiry_exporter::sim::Mail::subject).collect()
}

#[tokio::test]
async fn every_step_is_told_once_by_mail_and_webhook_over_restarts() {
    let mut world = world().await;
    world.add("terraform", Expires::At(start() + days(20)));
    let mut program = world.start().await;
    program.step().await;
    for _ in 0..5 {
        program.stop().await;
        program = world.start().await;
        program.step().await;
    }
    assert_eq!(hooks(&world), ["credential.expiring new info"]);
    assert_eq!(subjects(&world), ["[ECE prod] INFO: terraform expires in 20 days (2026-11-21)"]);
    program.pass(days(8), TimeDelta::hours(12)).await;
    program.stop().await;
    let mut program = world.start().await;
    program.pass(days(6), TimeDelta::hours(12)).await;
    let told = hooks(&world);
    let steps: Vec<&str> =
        told.iter().map(String::as_str).filter(|it| !it.contains("repeat")).collect();
    assert_eq!(
        steps,
        [
            "credential.expiring new info",
            "credential.expiring escalated warning",
            "credential.expiring escalated critical"
        ]
    );
    assert_eq!(told.len(), world.mailbox.mails().len(), "mail and webhook say the same");
}

#[tokio::test]
async fn a_renewal_is_told_and_the_new_life_starts_quiet() {
    let mut world = world().await;
    world.add("ci", Expires::At(start() + days(5)));
    let mut program = world.start().await;
    program.step().await;
    let renewed = world.ece.renew("ci").unwrap();
    world.write("key-ci", &renewed);
    program.pass(days(2), TimeDelta::hours(12)).await;
    let told: Vec<String> = hooks(&world).into_iter().filter(|it| !it.contains("repeat")).collect();
    assert_eq!(told, ["credential.expiring new critical", "credential.renewed renewed critical"]);
    let subjects = subjects(&world);
    assert!(subjects.last().unwrap().contains("RENEWED"), "{subjects:?}");
}

#[tokio::test]
async fn an_outage_is_one_alert_and_the_expiry_is_still_told() {
    let mut world = world().await;
    for (name, left) in [("a", 60), ("b", 70), ("c", 15)] {
        world.add(name, Expires::At(start() + days(left)));
    }
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(2), TimeDelta::hours(1)).await;
    world.ece.set_fault(On::Everyone, Fault::AuthClusterDown).unwrap();
    program.pass(days(2), TimeDelta::hours(1)).await;
    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    program.pass(TimeDelta::hours(2), TimeDelta::hours(1)).await;
    assert_eq!(
        hooks(&world),
        [
            "credential.expiring new info",
            "platform.unreachable new warning",
            "credential.expiring escalated warning",
            "platform.recovered recovered warning",
        ]
    );
}

#[tokio::test]
async fn a_revoked_key_is_told_as_rejected_and_its_replacement_as_recovered() {
    let mut world = world().await;
    world.add("old", Expires::At(start() + days(60)));
    let mut program = world.start().await;
    program.step().await;
    world.ece.revoke("old").unwrap();
    program.pass(TimeDelta::hours(3), TimeDelta::hours(1)).await;
    let renewed = world.ece.renew("old").unwrap();
    world.write("key-old", &renewed);
    program.pass(TimeDelta::hours(3), TimeDelta::hours(1)).await;
    assert_eq!(
        hooks(&world),
        ["credential.rejected new critical", "credential.recovered recovered critical"]
    );
}

#[tokio::test]
async fn a_credential_that_is_no_longer_configured_ends_its_alert_for_those_who_were_told() {
    let mut world = world().await;
    world.add("gone", Expires::At(start() + days(5)));
    world.add("quiet", Expires::At(start() + days(80)));
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(1), TimeDelta::seconds(20)).await;
    program.stop().await;
    world.forget("gone");
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(1), TimeDelta::seconds(20)).await;
    program.stop().await;
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(1), TimeDelta::seconds(20)).await;
    assert_eq!(
        hooks(&world),
        ["credential.expiring new critical", "credential.removed removed critical"]
    );
}

#[tokio::test]
async fn a_channel_that_is_dead_for_three_days_delivers_the_newest_state_once() {
    let mut world = world().await;
    world.add("key", Expires::At(start() + days(15)));
    let mut program = world.start().await;
    program.step().await;
    world.sink.set_default(Answer::Status(503));
    program.pass(days(9), TimeDelta::hours(6)).await;
    let mails = world.mailbox.mails().len();
    assert!(2 < mails, "the mail goes on while the webhook is dead: {mails}");
    world.sink.set_default(Answer::Status(200));
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(30)).await;
    let told = hooks(&world);
    assert_eq!(told.len(), 2, "only the newest state is told: {told:?}");
    assert!(told[1].ends_with("critical"), "{told:?}");
}

#[tokio::test]
async fn retries_keep_the_id_and_the_bytes() {
    let mut world = world().await;
    world.add("key", Expires::At(start() + days(5)));
    world.sink.script([
        Answer::Status(500),
        Answer::RetryAfter(429, "120".to_owned()),
        Answer::Reset,
    ]);
    let mut program = world.start().await;
    program.step().await;
    program.pass(TimeDelta::minutes(30), TimeDelta::seconds(20)).await;
    let hooks = world.sink.hooks();
    assert_eq!(hooks.len(), 4, "three failures and a success");
    let ids: Vec<&str> = hooks.iter().map(|it| it.header("webhook-id")).collect();
    assert!(ids.iter().all(|it| *it == ids[0] && it.starts_with("msg_")), "{ids:?}");
    assert!(hooks.iter().all(|it| it.body == hooks[0].body));
    assert!(TimeDelta::seconds(120) <= hooks[2].at - hooks[1].at, "Retry-After is honoured");
}

#[tokio::test]
async fn one_refused_recipient_silences_nobody_else() {
    let mut world = world().await;
    world.receivers =
        world.receivers.replace("to: [ops@example.org]", "to: [bad@example.org, ops@example.org]");
    world.mailbox.set_faults([MailFault::RefuseRecipient("bad@example.org".to_owned())]);
    world.add("key", Expires::At(start() + days(5)));
    let mut program = world.start().await;
    program.step().await;
    let to: Vec<String> = world.mailbox.mails().into_iter().flat_map(|it| it.to).collect();
    assert_eq!(to, ["ops@example.org"]);
    let backlog = program.shared.store.backlog().await.unwrap();
    assert_eq!((backlog.pending.len(), backlog.dead), (0, 1), "the refused one is visible as dead");
}

#[tokio::test]
async fn a_mail_server_that_never_greets_does_not_hold_up_the_webhook() {
    let mut world = world().await;
    world.mailbox.set_faults([MailFault::NeverGreet]);
    world.add("key", Expires::At(start() + days(5)));
    let mut program = world.start().await;
    program.step().await;
    assert_eq!(hooks(&world), ["credential.expiring new critical"]);
    assert_eq!(world.mailbox.mails().len(), 0);
    let backlog = program.shared.store.backlog().await.unwrap();
    assert_eq!(backlog.pending.values().map(|(count, _)| *count).sum::<u64>(), 1, "the mail waits");
    world.mailbox.set_faults([]);
    program.pass(TimeDelta::minutes(1), TimeDelta::seconds(20)).await;
    assert_eq!(world.mailbox.mails().len(), 1);
}

#[tokio::test]
async fn alerts_that_are_due_together_come_in_one_mail_and_a_webhook_each() {
    let mut world = world().await;
    for name in ["a", "b", "c", "d"] {
        world.add(name, Expires::At(start() + days(5)));
    }
    let mut program = world.start().await;
    program.monitor.step(now(), now).await;
    world.set_now(now() + TimeDelta::seconds(40));
    program.step().await;
    assert_eq!(world.mailbox.mails().len(), 1, "{:?}", subjects(&world));
    let text = world.mailbox.mails()[0].text();
    for name in ["\"a\"", "\"b\"", "\"c\"", "\"d\""] {
        assert!(text.contains(name), "{name} is in the mail:\n{text}");
    }
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for hook in world.sink.hooks() {
        *ids.entry(hook.header("webhook-id").to_owned()).or_default() += 1;
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn a_credential_that_comes_back_is_told_again() {
    let mut world = world().await;
    world.add("key", Expires::At(start() + days(5)));
    world.add("other", Expires::At(start() + days(80)));
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(1), TimeDelta::seconds(20)).await;
    let with_key = world.config_text();
    for _ in 0..2 {
        program.stop().await;
        world.forget("key");
        program = world.start().await;
        program.pass(TimeDelta::minutes(1), TimeDelta::seconds(20)).await;
        program.stop().await;
        world.remember("key");
        assert_eq!(world.config_text().len(), with_key.len());
        program = world.start().await;
        program.pass(TimeDelta::minutes(1), TimeDelta::seconds(20)).await;
    }
    let (fires, ends) = ("credential.expiring new critical", "credential.removed removed critical");
    assert_eq!(hooks(&world), [fires, ends, fires, ends, fires]);
}

#[tokio::test]
async fn an_expired_key_that_can_not_be_probed_either_is_one_alert() {
    let mut world = world().await;
    world.receivers += "policy: {repeat: {critical: never, warning: never}}\n";
    world.add("key", Expires::At(start() + TimeDelta::hours(2)));
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(30)).await;
    std::fs::remove_file(world.path("key-key")).unwrap();
    program.pass(days(2), TimeDelta::hours(1)).await;
    assert_eq!(
        hooks(&world),
        ["credential.expiring new critical", "credential.expired escalated critical"]
    );
}

#[tokio::test]
async fn a_group_mail_that_was_late_does_not_tell_what_has_ended() {
    let mut world = world().await;
    for name in ["stays", "renewed"] {
        world.add(name, Expires::At(start() + days(5)));
    }
    world.mailbox.set_faults([MailFault::Busy]);
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(10), TimeDelta::seconds(30)).await;
    let renewed = world.ece.renew("renewed").unwrap();
    world.write("key-renewed", &renewed);
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(10)).await;
    world.mailbox.set_faults([]);
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(10)).await;
    let texts: Vec<String> =
        world.mailbox.mails().iter().map(ece_expiry_exporter::sim::Mail::text).collect();
    assert!(texts.iter().any(|it| it.contains("\"stays\"")), "{texts:#?}");
    let about_renewed: Vec<&String> =
        texts.iter().filter(|it| it.contains("\"renewed\"")).collect();
    assert!(about_renewed.iter().all(|it| it.contains("RENEWED")), "{about_renewed:#?}");
}

#[tokio::test]
async fn an_end_follows_even_if_an_earlier_end_was_lost() {
    let mut world = world().await;
    world.add("key", Expires::At(start() + days(80)));
    let mut program = world.start().await;
    let forbid = |fault| world.ece.set_fault(On::Key("key"), fault).unwrap();
    let hours = TimeDelta::hours;
    forbid(Fault::Forbidden);
    program.pass(hours(3), TimeDelta::minutes(30)).await;
    assert_eq!(hooks(&world), ["credential.forbidden new warning"]);
    world.sink.set_default(Answer::Status(503));
    for fault in [Fault::None, Fault::Forbidden, Fault::None] {
        forbid(fault);
        program.pass(hours(3), TimeDelta::minutes(30)).await;
    }
    world.sink.set_default(Answer::Status(200));
    program.pass(hours(2), TimeDelta::minutes(30)).await;
    assert_eq!(
        hooks(&world),
        ["credential.forbidden new warning", "credential.recovered recovered warning"]
    );
}
