//! That a refused login rests: after a restart, a reload, and in the command `probe`.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::observation::{FailureReason, Reading};
use ece_expiry_exporter::probe::Prober;
use ece_expiry_exporter::sim::{Ece, EceOptions};
use ece_expiry_exporter::time;
use tempfile::TempDir;

use super::{failed, file, login, run_in};
use crate::probe::{PATIENCE, platform};
use crate::world::World;

const LOGIN: &str = "      - {name: on-call, login: {username: ops, password_file: login}}\n";

/// A world with a login whose password is wrong, at this time. When a file was changed, no test can pretend.
async fn world(now: DateTime<Utc>) -> World {
    let mut world = World::new().await;
    world.set_now(now);
    world.ece.world().sessions.set_password("ops", "right");
    world.write("login", "wrong");
    world.platforms = LOGIN.into();
    world
}

fn refused(world: &World) -> u64 {
    world.ece.world().sessions.logins("ops").refused
}

/// Runs `probe` with these flags.
async fn probe(world: &World, flags: &[&str]) -> (i32, String) {
    let args = [&["probe", "--config.file=config.yml"], flags].concat();
    let (code, out, err) = run_in(&args, world, &BTreeMap::new()).await;
    (code, out + &err)
}

#[tokio::test]
async fn a_password_refused_twice_rests_after_a_restart_too() {
    let world = world(time::now() + TimeDelta::days(1)).await;
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(10)).await;
    assert_eq!(refused(&world), 2);
    for _ in 0..3 {
        program.stop().await;
        program = world.start().await;
        program.pass(TimeDelta::hours(3), TimeDelta::minutes(10)).await;
    }
    assert_eq!(refused(&world), 2);
}

#[tokio::test]
async fn a_password_that_was_written_after_the_refusals_is_tried_at_the_next_start() {
    let world = world(time::now() - TimeDelta::days(1)).await;
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(10)).await;
    program.stop().await;
    assert_eq!(refused(&world), 2);
    world.write("login", "right");
    program = world.start().await;
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(10)).await;
    program.stop().await;
    assert_eq!(refused(&world), 2);
    assert!(0 < world.ece.world().sessions.logins("ops").accepted);
}

#[tokio::test]
async fn what_was_refused_before_is_known_by_its_file_and_a_new_one_has_one_attempt() {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    ece.world().sessions.set_password("ops", "right");
    let dir = TempDir::new().unwrap();
    let wrong = login(&dir, "wrong");
    let prober = || Prober::new(&platform(&[ece.url()]), PATIENCE).unwrap();
    let count = || ece.world().sessions.logins("ops").refused;

    let later = prober();
    later.remember_refusals(&wrong, 7, time::now() + TimeDelta::minutes(1), time::now());
    let observation = later.probe(&wrong, || time::now() + TimeDelta::minutes(2)).await;
    failed(
        &observation,
        FailureReason::Unauthorized,
        "refused this password 2 times, the last time by",
    );
    assert_eq!(count(), 0);

    let once = prober();
    once.remember_refusals(&wrong, 2, time::now() - TimeDelta::hours(1), time::now());
    for _ in 0..3 {
        once.probe(&wrong, time::now).await.result.unwrap_err();
    }
    assert_eq!(count(), 1, "written since, so perhaps another one");
    file(&dir, "right");
    assert_eq!(once.probe(&wrong, time::now).await.result, Ok(Reading::Undated));
}

#[tokio::test]
async fn the_command_does_not_try_what_the_store_says_was_refused() {
    let world = world(time::now()).await;
    let mut program = world.start().await;
    program.pass(TimeDelta::seconds(30), TimeDelta::seconds(10)).await;
    assert_eq!(refused(&world), 1);
    for _ in 0..3 {
        // The exporter still runs and has the store.
        let (code, said) = probe(&world, &["prod/on-call"]).await;
        assert_eq!(code, 2, "{said}");
        for words in [
            "Not tried, because ECE refused this login",
            "and each attempt counts towards the lock of the account",
            "--force prod/on-call",
        ] {
            assert!(said.contains(words), "{words:?} is missing in {said}");
        }
    }
    program.step().await;
    program.stop().await;
    let before = listing(&world);
    let (_, said) = probe(&world, &["prod/on-call"]).await;
    assert!(said.contains("Not tried, because ECE refused this login"), "{said}");
    assert_eq!(listing(&world), before, "nothing is written there");
    assert_eq!(refused(&world), 1);
    let (code, said) = probe(&world, &["prod/on-call", "--force"]).await;
    assert!(code == 2 && said.contains("does not accept the password"), "{said}");
    assert!(said.contains("This attempt counts towards the lock of the account"), "{said}");
    assert_eq!(refused(&world), 2);
}

#[tokio::test]
async fn the_command_tries_what_was_accepted_and_nothing_that_nobody_knows_of() {
    let world = world(time::now()).await;
    world.write("login", "right");
    world.write_config();
    let (code, said) = probe(&world, &[]).await;
    assert!(code == 3 && said.contains("there is no store in"), "{said}");
    assert_eq!(world.ece.world().sessions.logins("ops").accepted, 0);
    std::fs::create_dir(world.path("store")).unwrap();
    world.write(
        "store/store.db",
        "no database, but as long as a header of one would be, and a little longer than it",
    );
    let (code, said) = probe(&world, &[]).await;
    assert!(code == 3 && said.contains("cannot be read"), "{said}");
    let words = "the last one was refused. Run this as the user of the exporter";
    assert!(
        said.contains(words) && said.contains("(/probe); `probe --force prod/on-call`"),
        "{said}"
    );
    std::fs::remove_dir_all(world.path("store")).unwrap();

    let mut program = world.start().await;
    program.pass(TimeDelta::seconds(30), TimeDelta::seconds(10)).await;
    program.stop().await;
    let before = world.ece.world().sessions.logins("ops").accepted;
    for flags in
        [&["prod/on-call"][..], &["--storage.path=store"], &["--storage.path=gone", "--force"]]
    {
        let (code, said) = probe(&world, flags).await;
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(world.ece.world().sessions.logins("ops").accepted, before + 3);
    let (code, said) = probe(&world, &["--storage.path=gone"]).await;
    assert!(code == 3 && said.contains("there is no store in gone"), "{said}");
}

/// The files of the store and their sizes.
fn listing(world: &World) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(world.path("store")).unwrap();
    let mut files: Vec<_> = entries
        .map(|it| {
            let it = it.unwrap();
            (it.file_name().into_string().unwrap(), it.metadata().unwrap().len())
        })
        .collect();
    files.sort();
    files
}
