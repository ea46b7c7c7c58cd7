//! When loop 1 probes and decides, at a simulated time.

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::metrics::{self, Format};
use ece_expiry_exporter::sim::Expires;

use crate::world::{Program, World, now};

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

async fn world(schedule: &str, expires: TimeDelta) -> World {
    let mut world = World::new().await;
    world.set_now(start());
    world.global = format!("schedule: {schedule}");
    world.add("key", Expires::At(start() + expires));
    world
}

fn missed(program: &Program) -> u64 {
    let shared = &program.shared;
    let text =
        metrics::render(&shared.board.snapshot(), &shared.telemetry, now(), Format::Text).unwrap();
    let name = "ece_expiry_exporter_scheduler_missed_runs_total ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn runs_missed_in_a_suspend_are_made_up_once_and_counted() {
    let world = world("1h", TimeDelta::days(80)).await;
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(10)).await;
    let before = world.ece.requests().total;
    assert_eq!(missed(&program), 0);
    world.set_now(now() + TimeDelta::hours(6));
    program.step().await;
    assert_eq!(world.ece.requests().total, before + 1);
    assert!((5..=6).contains(&missed(&program)), "{}", missed(&program));
    program.pass(TimeDelta::hours(1), TimeDelta::minutes(10)).await;
    assert_eq!(world.ece.requests().total, before + 2, "the schedule goes on");
}

#[tokio::test]
async fn a_step_is_told_at_its_crossing_however_rare_the_probes() {
    let world = world("7d", TimeDelta::days(16)).await;
    let mut program = world.start().await;
    program.pass(TimeDelta::days(3), TimeDelta::days(1)).await;
    let hooks = world.sink.hooks();
    let warning = hooks.iter().find(|it| it.json().unwrap()["severity"] == "warning").unwrap();
    let late = warning.at - (start() + TimeDelta::days(2));
    assert!(
        (TimeDelta::zero()..TimeDelta::seconds(5)).contains(&late),
        "told {late} after the crossing"
    );
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_the_probes() {
    let world = world("1h", TimeDelta::days(80)).await;
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(10)).await;
    let before = world.ece.requests().total;
    world.set_now(start() - TimeDelta::days(1));
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(10)).await;
    assert_eq!(world.ece.requests().total, before + 2);
}

#[tokio::test]
async fn a_start_probes_soon_what_was_never_probed_and_keeps_the_plan_of_the_rest() {
    let mut world = world("1h", TimeDelta::days(80)).await;
    let mut program = world.start().await;
    program.step().await;
    program.pass(TimeDelta::minutes(1), TimeDelta::minutes(1)).await;
    program.stop().await;
    let before = world.ece.requests().total;
    world.add("fresh", Expires::At(start() + TimeDelta::days(80)));
    let mut program = world.start().await;
    program.pass(TimeDelta::seconds(40), TimeDelta::seconds(5)).await;
    let planned = program.shared.board.snapshot().credentials[0].next_run.unwrap();
    let due_again = u64::from(planned < now());
    assert_eq!(world.ece.requests().total, before + 1 + due_again);
}

/// When the only credential was last probed, as the program knows and as the store does.
async fn last_runs(program: &Program) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let known = program.shared.board.snapshot().credentials[0].last_run;
    let remembered = program.shared.store.load().await.unwrap();
    (known, remembered.credentials.values().next().and_then(|it| it.last_run))
}

#[tokio::test]
async fn that_nothing_has_changed_is_on_the_disk_ten_seconds_later_without_another_probe() {
    let world = world("7s", TimeDelta::days(80)).await;
    let mut program = world.start().await;
    let (mut late, mut caught_up) = (0, 0);
    for _ in 0..60 {
        let probes = world.ece.requests().total;
        let (known_before, stored_before) = last_runs(&program).await;
        program.pass(TimeDelta::seconds(1), TimeDelta::seconds(1)).await;
        let (known, stored) = last_runs(&program).await;
        late += u32::from(known != stored);
        let is_quiet = world.ece.requests().total == probes;
        caught_up += u32::from(is_quiet && known_before != stored_before && known == stored);
        if let (Some(known), Some(stored)) = (known, stored) {
            assert!(
                known - stored <= TimeDelta::seconds(14),
                "{known} is not on the disk, only {stored}"
            );
        }
    }
    assert!(0 < late, "each probe was written at once");
    assert!(0 < caught_up, "nothing was written between probes");
}
