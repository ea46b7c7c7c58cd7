//! Clocks that jump by a day, summer time, and a suspended machine: every step is told once, none is missed.

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::{Answer, Expires};

use crate::world::{Program, World, now, seed};

/// The steps that are to be told, in seconds before the expiry.
const STEPS: &str = "steps: [{before: 20d, severity: info}, {before: 15d, severity: warning}, \
                     {before: 10d, severity: critical}, {before: 5d, severity: critical}]\n";

/// So far into the future or the past a clock jumps.
const JUMP: TimeDelta = TimeDelta::days(1);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

async fn world(start: DateTime<Utc>) -> World {
    let mut world = World::new().await;
    world.set_now(start);
    world.extra =
        format!("policy: {{repeat: {{critical: never, warning: never, info: never}}}}\n{STEPS}");
    world
}

/// The steps of the key that were told, in days before its expiry, in order.
fn told(world: &World) -> Vec<i64> {
    let hooks = world.sink.hooks();
    let bodies = hooks.iter().map(|it| it.json().unwrap());
    let expiring = bodies.filter(|it| it["type"] == "credential.expiring");
    expiring
        .map(|it| it["data"]["expiry"]["threshold_seconds"].as_i64().unwrap() / 86_400)
        .collect()
}

/// One step of the program while its clock is so far ahead of the true one, which ECE has.
async fn step(world: &World, program: &mut Program, truth: DateTime<Utc>, ahead: TimeDelta) {
    world.set_now(truth + ahead);
    world.clock.set(truth);
    program.step().await;
}

#[tokio::test]
async fn a_clock_that_jumps_by_a_day_both_ways_tells_every_step_once() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let start = at("2026-11-01T00:00:00Z");
    let mut world = world(start).await;
    let expires = start + TimeDelta::days(22);
    world.add("key", Expires::At(expires));
    let mut program = world.start().await;
    let mut truth = start;
    let mut jumps = 0;
    let mut ahead = TimeDelta::zero();
    // Until the last step is crossed by any of the clocks, and the end by none.
    while truth < expires - TimeDelta::days(4) {
        step(&world, &mut program, truth, ahead).await;
        if random.u32(..6) == 0 {
            ahead = random.choice([-JUMP, TimeDelta::zero(), JUMP]).unwrap();
            jumps += 1;
        }
        if random.u32(..20) == 0 {
            program.stop().await;
            program = world.start().await;
        }
        truth += TimeDelta::minutes(random.i64(30..180));
    }
    assert!(10 < jumps, "seed {seed}: {jumps} jumps");
    step(&world, &mut program, truth, TimeDelta::zero()).await;
    assert_eq!(told(&world), [20, 15, 10, 5], "seed {seed}");
    let mails = world.mailbox.mails().into_iter();
    let mails = mails.filter(|it| it.subject().contains("key expires")).count();
    assert_eq!(mails, 4, "seed {seed}: the mails say the same");
}

#[tokio::test]
async fn a_clock_that_was_a_day_ahead_when_it_told_a_step_does_not_tell_it_again() {
    let start = at("2026-11-01T00:00:00Z");
    let mut world = world(start).await;
    world.add("key", Expires::At(start + TimeDelta::days(20) + TimeDelta::hours(12)));
    let mut program = world.start().await;
    step(&world, &mut program, start, TimeDelta::zero()).await;
    assert_eq!(told(&world), Vec::<i64>::new());
    step(&world, &mut program, start + TimeDelta::hours(1), JUMP).await;
    assert_eq!(told(&world), [20]);
    for hour in 2..40 {
        step(&world, &mut program, start + TimeDelta::hours(hour), TimeDelta::zero()).await;
    }
    assert_eq!(
        told(&world),
        [20],
        "not when the clock is right again, and not at the true crossing"
    );
}

#[tokio::test]
async fn a_message_that_failed_when_the_clock_was_ahead_is_tried_by_the_right_clock() {
    let start = at("2026-11-01T00:00:00Z");
    let mut world = world(start).await;
    world.add("key", Expires::At(start + TimeDelta::days(18)));
    world.sink.set_default(Answer::Status(503));
    world.set_now(start + JUMP);
    let mut program = world.start().await;
    program.pass(TimeDelta::minutes(10), TimeDelta::minutes(1)).await;
    let tries = told(&world).len();
    assert!(1 < tries, "{tries} tries");
    world.sink.set_default(Answer::Status(204));
    world.set_now(start);
    program.pass(TimeDelta::minutes(70), TimeDelta::minutes(10)).await;
    assert_eq!(told(&world).len(), tries + 1, "delivered, not put off by a day");
}

#[tokio::test]
async fn a_reminder_does_not_wait_for_a_clock_that_was_ahead_before_a_restart() {
    let start = at("2026-11-01T00:00:00Z");
    let mut world = world(start).await;
    world.extra =
        "policy: {repeat: {info: 6h}}\nsteps: [{before: 20d, severity: info}]\n".to_owned();
    world.add("key", Expires::At(start + TimeDelta::days(18)));
    world.set_now(start + JUMP);
    let mut program = world.start().await;
    program.step().await;
    assert_eq!(told(&world), [20]);
    program.stop().await;
    world.set_now(start);
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(7), TimeDelta::hours(1)).await;
    assert_eq!(told(&world), [20, 20]);
}

#[tokio::test]
async fn a_machine_that_slept_through_two_steps_tells_the_more_urgent_once() {
    let start = at("2026-11-01T00:00:00Z");
    let mut world = world(start).await;
    world.add("key", Expires::At(start + TimeDelta::days(17)));
    let mut program = world.start().await;
    step(&world, &mut program, start, TimeDelta::zero()).await;
    assert_eq!(told(&world), [20]);
    let woken = start + TimeDelta::days(8);
    world.set_now(woken);
    program.step().await;
    assert_eq!(told(&world), [20, 10]);
    program.pass(TimeDelta::hours(6), TimeDelta::minutes(30)).await;
    assert_eq!(told(&world), [20, 10], "once");
    program.pass(TimeDelta::days(4), TimeDelta::hours(6)).await;
    assert_eq!(told(&world), [20, 10, 5], "the next one is not missed");
}

#[tokio::test]
async fn over_both_changes_of_summer_time_a_daily_probe_runs_each_day_and_steps_are_told_on_time() {
    // In the night of the change 02:30 comes twice, or not at all.
    for start in ["2026-10-23T12:00:00Z", "2027-03-26T12:00:00Z"] {
        let start = at(start);
        let mut world = world(start).await;
        world.global = "schedule: \"30 2 * * *\", timezone: Europe/Zurich".to_owned();
        // A step in the middle of the hour that is twice or missing.
        let crossing = start + TimeDelta::hours(36) + TimeDelta::minutes(90);
        world.add("key", Expires::At(crossing + TimeDelta::days(15)));
        let mut program = world.start().await;
        program.step().await;
        let before = world.ece.requests().total;
        program.pass(TimeDelta::days(4), TimeDelta::hours(1)).await;
        assert_eq!(world.ece.requests().total - before, 4, "{start}: a probe a day");
        assert_eq!(told(&world), [20, 15], "{start}");
        let late = world.sink.hooks()[1].at - crossing;
        assert!((TimeDelta::zero()..TimeDelta::seconds(5)).contains(&late), "{start}: {late} late");
        assert!(crossing < now());
    }
}
