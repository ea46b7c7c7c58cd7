//! Who is told, when, and in whose company: routes, groups, silences, mutes, escalation, fallback and the digest, at a
//! simulated time over real SMTP and HTTP.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::config::Matcher;
use ece_expiry_exporter::delivery::Silence;
use ece_expiry_exporter::sim::{Answer, Expires, MailFault};

use crate::world::{Program, World, now};

/// A Sunday.
fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn days(n: i64) -> TimeDelta {
    TimeDelta::days(n)
}

fn hours(n: i64) -> TimeDelta {
    TimeDelta::hours(n)
}

/// A world with a mail channel `ops` and webhooks `team`, `pager` and `boss`.
async fn world(route: &str) -> World {
    let mut world = World::new().await;
    world.set_now(start());
    let base = world.sink.url().trim_end_matches('/').to_owned();
    world.receivers = format!(
        "receivers:\n  - name: ops\n    email_configs:\n      - {{to: [ops@example.org], from: ece@example.org, \
         smarthost: \"{}\", auth_username: ece, auth_password_file: smtp-password, timeout: 2s, \
         tls_config: {{ca_file: ca.pem}}}}\n",
        world.mailbox.addr()
    );
    for name in ["team", "pager", "boss"] {
        world.write(&format!("hook-{name}"), &format!("{base}/{name}"));
        writeln!(
            world.receivers,
            "  - name: {name}\n    webhook_configs: [{{url_file: hook-{name}, timeout: 2s}}]"
        )
        .unwrap();
    }
    route.clone_into(&mut world.route);
    world
}

/// What arrived at the webhooks and was taken: `receiver credential reason severity`, in order.
fn hooks(world: &World) -> Vec<String> {
    let taken = world.sink.hooks().into_iter().filter(|it| it.status_answered == Some(200));
    taken
        .map(|hook| {
            let json = hook.json().unwrap();
            let field = |path: &str| json.pointer(path).unwrap().as_str().unwrap().to_owned();
            format!(
                "{} {} {} {}",
                hook.path.trim_start_matches('/'),
                field("/data/credential/name"),
                field("/data/alert/reason"),
                field("/severity")
            )
        })
        .collect()
}

fn without_repeats(hooks: Vec<String>) -> Vec<String> {
    hooks.into_iter().filter(|it| !it.contains(" repeat ")).collect()
}

fn subjects(world: &World) -> Vec<String> {
    world.mailbox.mails().iter().map(ece_expiry_exporter::sim::Mail::subject).collect()
}

async fn renew(world: &World, program: &mut Program, name: &str) {
    let renewed = world.ece.renew(name).unwrap();
    world.write(&format!("key-{name}"), &renewed);
    program.pass(hours(3), hours(1)).await;
}

fn silence(id: &str, matchers: &[&str], until: DateTime<Utc>) -> Silence {
    Silence {
        id: id.to_owned(),
        matchers: matchers.iter().map(|it| Matcher::parse(it).unwrap()).collect(),
        created_by: "marc".to_owned(),
        comment: "I own it".to_owned(),
        created_at: now(),
        starts_at: now(),
        ends_at: until,
    }
}

#[tokio::test]
async fn an_alert_that_escalates_reaches_the_pager_and_its_end_everybody_who_was_told() {
    let mut world = world(
        "{receiver: ops, group_wait: 0s, routes: [\
           {matchers: ['severity=\"critical\"'], receiver: pager}, \
           {matchers: ['team=\"owners\"'], receiver: team}]}",
    )
    .await;
    world.add("terraform", Expires::At(start() + days(20)));
    let mut program = world.start().await;
    program.pass(days(14), hours(6)).await;
    renew(&world, &mut program, "terraform").await;
    let mut told = without_repeats(hooks(&world));
    // The channels are independent.
    told[3..].sort();
    assert_eq!(
        told,
        [
            "team terraform new info",
            "team terraform escalated warning",
            "pager terraform escalated critical",
            "pager terraform renewed critical",
            "team terraform renewed critical",
        ]
    );
    assert_eq!(subjects(&world), [] as [String; 0], "nothing is left for the root");
}

#[tokio::test]
async fn a_step_escalates_to_another_receiver_unless_somebody_owns_it() {
    let steps = "steps: [{before: 10d, severity: warning}, {before: 5d, severity: warning, escalate_to: boss}]\n";
    for owned in [false, true] {
        let mut world = world("{receiver: team, group_wait: 0s}").await;
        world.extra = steps.to_owned();
        world.add("ci", Expires::At(start() + days(9)));
        let mut program = world.start().await;
        program.pass(days(1), hours(6)).await;
        if owned {
            let matchers = ["credential=\"ci\"", "alertname=\"ECECredentialExpiring\""];
            let silence = silence("sil_1", &matchers, start() + days(8));
            program.shared.store.put_silence(silence).await.unwrap();
            program.stop().await;
            program = world.start().await;
        }
        program.pass(days(6), hours(6)).await;
        let told = without_repeats(hooks(&world));
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        if owned {
            assert_eq!(told, ["team ci new warning"]);
        } else {
            let all =
                ["team ci new warning", "team ci escalated warning", "boss ci escalated warning"];
            let mut sorted = told.clone();
            sorted.sort_unstable_by_key(|it| all.iter().position(|one| one == it));
            assert_eq!(sorted, all);
        }
    }
}

#[tokio::test]
async fn what_becomes_due_in_a_silence_is_told_once_when_it_ends_and_only_if_it_lasts() {
    let mut world = world("{receiver: team, group_wait: 0s}").await;
    world.add("kept", Expires::At(start() + days(16)));
    world.add("renewed", Expires::At(start() + days(16)));
    let mut program = world.start().await;
    program.pass(hours(1), hours(1)).await;
    let silence = silence("sil_1", &["platform=\"prod\""], start() + days(11));
    program.shared.store.put_silence(silence).await.unwrap();
    // All of it is in the store: a kill does not end it.
    for _ in 0..3 {
        program.stop().await;
        program = world.start().await;
        program.pass(days(3), hours(6)).await;
    }
    assert_eq!(hooks(&world).len(), 2, "nothing but the two of before: {:?}", hooks(&world));
    renew(&world, &mut program, "renewed").await;
    program.pass(days(3), hours(1)).await;
    let told = without_repeats(hooks(&world));
    assert_eq!(
        told[2..],
        ["team renewed renewed critical", "team kept escalated critical"],
        "an end passes the silence; of two steps the last is told, when the silence ends"
    );
    let told_at = world.sink.hooks()[3].at;
    assert!((told_at - (start() + days(11))).abs() < TimeDelta::seconds(2), "{told_at}");
}

#[tokio::test]
async fn a_mute_puts_off_what_it_does_not_except_to_its_end() {
    let mut world = world(
        "{receiver: team, group_wait: 0s, routes: [\
           {matchers: ['team=\"owners\"'], receiver: team, mute_time_intervals: [night]}]}",
    )
    .await;
    world.extra =
        "mute_time_intervals: [{name: night, start: \"0 22 * * *\", duration: 8h, timezone: UTC, \
                   except: [critical]}]\n"
            .to_owned();
    // Crosses 14 d at 23:00 of the first day, and another one 7 d at 23:30.
    world.add("warned", Expires::At(start() + days(14) + hours(23)));
    world.add("urgent", Expires::At(start() + days(7) + TimeDelta::minutes(23 * 60 + 30)));
    world.set_now(start() + hours(12));
    let mut program = world.start().await;
    program.pass(hours(20), hours(1)).await;
    let at = |hook: &ece_expiry_exporter::sim::Hook| hook.at.format("%d %H:%M").to_string();
    let told = without_repeats(hooks(&world));
    let times: Vec<String> = world.sink.hooks().iter().map(at).collect();
    assert_eq!(
        told[2..],
        ["team urgent escalated critical", "team warned escalated warning"],
        "{told:?}"
    );
    assert_eq!(times[2..], ["01 23:30", "02 06:00"]);
}

#[tokio::test]
async fn a_group_is_one_mail_and_its_next_one_waits_for_the_interval() {
    let mut world =
        world("{receiver: ops, group_by: [platform], group_wait: 30s, group_interval: 10m}").await;
    for name in ["a", "b", "c"] {
        world.add(name, Expires::At(start() + days(5)));
    }
    world.add("later", Expires::At(start() + days(30) + TimeDelta::minutes(3)));
    let mut program = world.start().await;
    program.pass(hours(1), hours(1)).await;
    assert_eq!(
        subjects(&world),
        [
            "[ECE prod] CRITICAL: 3 credentials need attention",
            "[ECE prod] INFO: later expires in 29 days (2026-12-01)",
        ]
    );
    let minutes: Vec<String> =
        world.mailbox.mails().iter().map(|it| it.at.format("%M:%S").to_string()).collect();
    assert_eq!(minutes, ["00:31", "10:31"], "half a minute after the probe, and ten minutes later");
}

#[tokio::test]
async fn what_a_dead_channel_cannot_deliver_another_is_told_with_the_reason() {
    let mut world = world("{receiver: ops, group_wait: 0s, routes: [{receiver: team}]}").await;
    world.add("ci", Expires::At(start() + days(5)));
    world.sink.set_default(Answer::Status(401));
    let mut program = world.start().await;
    program.step().await;
    program.pass(TimeDelta::minutes(2), TimeDelta::minutes(1)).await;
    let mails = world.mailbox.mails();
    assert_eq!(subjects(&world), ["[ECE prod] CRITICAL: ci expires in 5 days (2026-11-06)"]);
    let text = mails[0].text();
    assert!(
        text.starts_with("You are told instead of team/webhook[hook-team], which did not take"),
        "{text}"
    );
    assert!(text.contains("answered 401"), "{text}");
    // The end reaches those who were told: the mail's reader, and nobody through the dead channel.
    renew(&world, &mut program, "ci").await;
    assert!(subjects(&world)[1].contains("RENEWED"), "{:?}", subjects(&world));
}

#[tokio::test]
async fn a_channel_that_only_fails_is_tried_further_while_another_is_told() {
    let mut world = world("{receiver: team, group_wait: 0s, routes: [{receiver: ops}]}").await;
    world.add("ci", Expires::At(start() + days(5)));
    world.mailbox.set_faults([MailFault::Busy]);
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(4), TimeDelta::minutes(1)).await;
    assert_eq!(hooks(&world), [] as [String; 0], "a server may let us wait for some minutes");
    program.pass(TimeDelta::minutes(6), TimeDelta::minutes(1)).await;
    assert_eq!(hooks(&world), ["team ci new critical"]);
    world.mailbox.set_faults([]);
    program.pass(hours(1), TimeDelta::minutes(10)).await;
    assert_eq!(subjects(&world).len(), 1, "it is told all the same, once the server takes it");
    assert_eq!(hooks(&world).len(), 1);
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_is_asked_no_more_until_the_configuration_is_loaded_anew()
{
    let mut world = world("{receiver: ops, group_wait: 0s, routes: [{receiver: team}]}").await;
    world.add("a", Expires::At(start() + days(5)));
    world.sink.set_default(Answer::Status(410));
    let mut program = world.start().await;
    program.step().await;
    assert_eq!(world.sink.hooks().len(), 1);
    world.sink.set_default(Answer::Status(200));
    program.pass(days(2), hours(6)).await;
    assert_eq!(world.sink.hooks().len(), 1, "the reminders go to the fallback without a request");
    assert_eq!(subjects(&world).len(), 3, "{:?}", subjects(&world));
    program.stop().await;
    program = world.start().await;
    program.pass(days(1), hours(6)).await;
    assert_eq!(hooks(&world).len(), 1, "a new start asks again");
}

#[tokio::test]
async fn a_new_alert_on_a_channel_that_fails_for_long_is_told_elsewhere_at_once() {
    let mut world = world("{receiver: team, group_wait: 0s, routes: [{receiver: ops}]}").await;
    world.add("a", Expires::At(start() + days(5)));
    world.add("b", Expires::At(start() + days(7) + hours(2)));
    world.mailbox.set_faults([MailFault::Busy]);
    let mut program = world.start().await;
    program.pass(hours(3), TimeDelta::minutes(10)).await;
    let crossed = start() + hours(2);
    let told = world.sink.hooks().into_iter().map(|it| it.at).find(|at| crossed <= *at).unwrap();
    assert!(told - crossed < TimeDelta::seconds(5), "{told}");
}

#[tokio::test]
async fn reminders_come_more_often_the_less_is_left() {
    let mut world = world("{receiver: team, group_wait: 0s}").await;
    world.extra = "steps: [{before: 10d, severity: warning}]\n\
                   policy: {reminders: [{left: 10d, every: 3d}, {left: 2d, every: 12h}]}\n"
        .to_owned();
    world.add("ci", Expires::At(start() + days(10) + hours(1)));
    let mut program = world.start().await;
    program.pass(days(10), hours(6)).await;
    let told: Vec<String> =
        world.sink.hooks().iter().map(|it| it.at.format("%d %Hh").to_string()).collect();
    assert_eq!(told, ["01 01h", "04 01h", "07 01h", "09 01h", "09 13h", "10 01h", "10 13h"]);
}

#[tokio::test]
async fn a_digest_comes_by_its_clock_also_when_all_is_well_and_once_if_it_was_missed() {
    let mut world = world("{receiver: team, group_wait: 0s}").await;
    world.extra = "digest: {schedule: \"0 8 * * Mon\", timezone: UTC, receiver: ops}\n".to_owned();
    world.add("fine", Expires::At(start() + days(80)));
    let mut program = world.start().await;
    program.pass(days(2), hours(6)).await;
    assert_eq!(subjects(&world), ["[ECE prod] DIGEST: all is well (1 watched)"]);
    let text = world.mailbox.mails()[0].text();
    assert!(text.contains("prod/fine 2027-01-20 (78 days left)"), "{text}");
    program.stop().await;
    // Off for two Mondays.
    world.add("near", Expires::At(start() + days(20)));
    world.set_now(start() + days(16));
    let mut program = world.start().await;
    program.pass(hours(2), hours(1)).await;
    let program_two = subjects(&world);
    assert_eq!(program_two.len(), 2, "{program_two:?}");
    program.pass(days(7), hours(6)).await;
    let all = subjects(&world);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(all[2], "[ECE prod] DIGEST: 1 of 2 needs attention");
    let at = world.mailbox.mails()[2].at.format("%a %H:%M").to_string();
    assert_eq!(at, "Mon 08:00");
}
