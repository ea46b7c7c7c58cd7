//! A channel that is dead for three days beside others that are well.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::{Answer, Expires, Hook, Sink, SinkOptions};

use crate::world::World;

/// How many credentials cross steps in these days.
const CREDENTIALS: i64 = 16;

/// Of a message: whom it is about, and its step in days.
fn said(hook: &Hook) -> (String, i64) {
    let json = hook.json().unwrap();
    let name = json["data"]["credential"]["name"].as_str().unwrap().to_owned();
    (name, json["data"]["expiry"]["threshold_seconds"].as_i64().unwrap() / 86_400)
}

#[tokio::test]
async fn what_waited_for_three_days_is_told_once_in_its_newest_state_and_nobody_else_waits() {
    let start: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
    let mut world = World::new().await;
    world.set_now(start);
    world.global = "schedule: 12h".to_owned();
    world.extra = "policy: {repeat: {critical: never, warning: never, info: never}}\n\
         steps: [{before: 16d, severity: info}, {before: 15d, severity: warning}, {before: 14d, severity: critical}]\n"
        .to_owned();
    let well = Sink::start(SinkOptions { clock: world.clock.clone(), ..Default::default() })
        .await
        .unwrap();
    world.write("well-url", &well.url());
    world.receivers += "      - {url_file: well-url, timeout: 2s}\n";
    // Each crosses three steps, a day from each other, at a minute of its own.
    let crossing = |n: i64| start + TimeDelta::hours(2) + TimeDelta::minutes(n * 50);
    for n in 0..CREDENTIALS {
        world.add(&format!("key-{n:02}"), Expires::At(crossing(n) + TimeDelta::days(16)));
    }
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(1), TimeDelta::minutes(10)).await;
    world.sink.set_default(Answer::Status(503));
    program.pass(TimeDelta::hours(72), TimeDelta::hours(1)).await;
    let refused = world.sink.hooks();
    assert!(refused.iter().all(|it| it.status_answered == Some(503)));
    // One each 24 to 36 minutes, and one for each fact that came meanwhile.
    assert!(refused.len() < 72 * 60 / 24 + 3 * 16 + 10, "{} requests", refused.len());

    let mut on_time = BTreeSet::new();
    for hook in well.hooks() {
        let (name, step) = said(&hook);
        let n: i64 = name.trim_start_matches("key-").parse().unwrap();
        let late = hook.at - (crossing(n) + TimeDelta::days(16 - step));
        assert!(late < TimeDelta::seconds(5), "{name} is told {late} after its {step}-day step");
        assert!(on_time.insert((name, step)), "each step is told once");
    }
    let three_each = usize::try_from(CREDENTIALS).unwrap() * 3;
    assert_eq!(on_time.len(), three_each, "the other webhook has all steps on time");
    let mails = world.mailbox.mails();
    assert!(mails.iter().all(|it| it.to == ["ops@example.org"]));
    let late = mails.last().unwrap().at - (crossing(CREDENTIALS - 1) + TimeDelta::days(2));
    assert!(late < TimeDelta::seconds(5), "the last mail came {late} after the step");

    world.sink.clear();
    world.sink.set_default(Answer::Status(200));
    program.pass(TimeDelta::hours(1), TimeDelta::minutes(5)).await;
    let mut newest: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for hook in world.sink.hooks() {
        let (name, step) = said(&hook);
        newest.entry(name).or_default().push(step);
    }
    assert_eq!(newest.len(), usize::try_from(CREDENTIALS).unwrap(), "everybody is told of");
    for (name, steps) in newest {
        assert_eq!(steps, [14], "{name}: once, and only what is so now");
    }
    let others = (well.hooks().len(), world.mailbox.mails().len());
    program.pass(TimeDelta::hours(6), TimeDelta::hours(1)).await;
    assert_eq!(others, (well.hooks().len(), world.mailbox.mails().len()), "nothing is told again");
}
