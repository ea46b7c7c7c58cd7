//! Proves on the user's machine that no alert is lost: the shipped program is killed again and again, and every message
//! that it owed is counted.
//!
//! The program runs as a child process against the bundled simulator and knows nothing of being tested: what is owed
//! follows from what is done to the simulated keys, what arrived from what the simulated receivers hold. The second part
//! puts mail servers beside a healthy webhook that never greet or never answer. It does not touch the user's
//! configuration, store, ECE or receivers.

mod stage;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use self::stage::{Channels, Stage, Watched};
use self::tally::{Fact, Kind, Tally};
use crate::sim::MailFault;
use crate::time;

/// The most rounds: a quarter of an hour.
pub const ROUNDS_MAX: u32 = 1_000;

/// How many keys begin to expire in each round.
const KEYS_PER_ROUND: u32 = 3;

/// The longest that the program lives in a round which ends at a random moment.
const LIFE_MS_MAX: u64 = 1_200;

/// How long a round waits for a message after which it ends.
const ARRIVAL_MAX: Duration = Duration::from_secs(2);

/// How soon after a message the program dies: before, while or after it writes down that the message was taken.
const AFTER_ARRIVAL_MS_MAX: u64 = 4;

/// How far ahead a step lies that is to be crossed by time alone.
const CROSSING_MS_MAX: i64 = 1_500;

/// How long ago a step lies that is crossed when the program first sees the key.
const TOLD_SINCE: TimeDelta = TimeDelta::days(10);

/// How long the last life has to tell what is still owed, from the last message on.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// How long the program goes on when everything has arrived, so that it has written that down.
const WRITTEN_AFTER: Duration = Duration::from_millis(1_500);

/// How long the program runs once more to show that nothing is told again.
const AFTERLIFE: Duration = Duration::from_secs(2);

/// How many keys cross a step at once beside the tarpit.
const TARPIT_KEYS: u32 = 6;

/// How far ahead that step lies: the program has started and probed until then.
const TARPIT_CROSSING: TimeDelta = TimeDelta::seconds(3);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program: an executable that takes the arguments of this one.
    pub program: PathBuf,
    /// How often it is killed; at most `ROUNDS_MAX`.
    pub rounds: u32,
    /// What the random choices follow from. The same seed makes the same choices; the moments differ a little.
    pub seed: u64,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Death at random moments.
    pub killed: Part,
    /// Mail servers that never answer, beside a healthy webhook.
    pub tarpit: Part,
    /// How long after the step the last of the webhook's messages arrived while the mail servers were silent; `None` if
    /// not all of them did.
    pub beside_tarpit: Option<Duration>,
    /// The folders of the parts that failed, kept to look into: configuration, log and store.
    pub kept: Vec<PathBuf>,
}

/// What was found in one part.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Part {
    /// How often the program was started.
    pub lives: u32,
    /// How many messages were owed: facts times targets.
    pub obligations: usize,
    /// How many of them arrived.
    pub delivered: usize,
    /// Those that did not.
    pub lost: Vec<String>,
    /// How many messages came more than once, byte for byte under the id of the first: allowed.
    pub copies: usize,
    /// What must not be: the same told under two ids, copies that differ, and what nobody owed.
    pub wrong: Vec<String>,
}

/// Whether the promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was lost, and every copy has the id of its original.
    Kept,
    /// It was not.
    Broken,
}

impl Part {
    fn verdict(&self) -> Verdict {
        match (self.lost.as_slice(), self.wrong.as_slice()) {
            ([], []) => Verdict::Kept,
            _ => Verdict::Broken,
        }
    }
}

impl Report {
    /// Whether the promise was kept in both parts.
    pub fn verdict(&self) -> Verdict {
        match (self.killed.verdict(), self.tarpit.verdict(), self.beside_tarpit) {
            (Verdict::Kept, Verdict::Kept, Some(_)) => Verdict::Kept,
            _ => Verdict::Broken,
        }
    }
}

/// Runs both parts. `progress` hears one line of what goes on at a time.
///
/// # Errors
/// The test could not be made: no port, no folder for temporary files, or a program that does not start.
pub async fn run(options: &Options, mut progress: impl FnMut(&str)) -> anyhow::Result<Report> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut kept = Vec::new();
    let channels = Channels { mail_servers: 1, recipients: &["one", "two"], hooks: 2 };
    let stage = Stage::set("self-test-kill", &options.program, &channels).await?;
    let killed = kill(stage, options.rounds, &mut random, &mut progress, &mut kept).await?;
    progress("mail servers that never answer");
    let channels = Channels { mail_servers: 2, recipients: &["one"], hooks: 1 };
    let stage = Stage::set("self-test-tarpit", &options.program, &channels).await?;
    let (tarpit, beside_tarpit) = stand_in_tarpit(stage, &mut kept).await?;
    Ok(Report { killed, tarpit, beside_tarpit, kept })
}

/// Kills the program at random moments while keys begin to expire and are renewed.
async fn kill(
    mut stage: Stage,
    rounds: u32,
    random: &mut fastrand::Rng,
    progress: &mut impl FnMut(&str),
    kept: &mut Vec<PathBuf>,
) -> anyhow::Result<Part> {
    let mut tally = Tally::new(stage.targets());
    let mut part = Part::default();
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}: {} messages arrived", tally.delivered()));
        change(&mut stage, &mut tally, random)?;
        for _ in 0..KEYS_PER_ROUND {
            let now = time::now();
            let crossing = if random.bool() {
                now + TimeDelta::milliseconds(random.i64(0..CROSSING_MS_MAX))
            } else {
                now - TOLD_SINCE
            };
            let key = stage.add(crossing)?;
            tally.owe(Fact { key, kind: Kind::Expiring });
        }
        let life = stage.start()?;
        part.lives += 1;
        if random.bool() {
            time::sleep(Duration::from_millis(random.u64(..LIFE_MS_MAX / 2))).await;
            change(&mut stage, &mut tally, random)?;
        }
        if random.bool() {
            stage.arrival(ARRIVAL_MAX).await;
            time::sleep(Duration::from_millis(random.u64(..AFTER_ARRIVAL_MS_MAX))).await;
        } else {
            time::sleep(Duration::from_millis(random.u64(..LIFE_MS_MAX))).await;
        }
        life.kill()?;
        stage.collect(&mut tally);
    }
    progress("the last life tells what is still owed");
    finish(&mut stage, &mut tally, &mut part).await?;
    Ok(conclude(stage, tally, part, kept))
}

/// Renews some of the keys about which everybody has been told.
fn change(stage: &mut Stage, tally: &mut Tally, random: &mut fastrand::Rng) -> anyhow::Result<()> {
    stage.collect(tally);
    let told = |key: &str, kind| tally.is_told(&Fact { key: key.to_owned(), kind });
    let (renewed, expiring): (Vec<Watched>, Vec<Watched>) =
        stage.watched().iter().cloned().partition(|it| it.is_renewed);
    let over: Vec<String> =
        renewed.into_iter().filter(|it| told(&it.name, Kind::Renewed)).map(|it| it.name).collect();
    let due: Vec<String> = expiring
        .into_iter()
        .filter(|it| told(&it.name, Kind::Expiring) && random.bool())
        .map(|it| it.name)
        .collect();
    for name in over {
        stage.forget(&name);
    }
    for name in due {
        stage.renew(&name)?;
        tally.owe(Fact { key: name, kind: Kind::Renewed });
    }
    Ok(())
}

/// A life without an end, until everything has arrived; and another one, in which nothing is told again.
async fn finish(stage: &mut Stage, tally: &mut Tally, part: &mut Part) -> anyhow::Result<()> {
    // What a dead life did not write down is sent again before anything new: once this has arrived, that is over.
    let key = stage.add(time::now() - TOLD_SINCE)?;
    tally.owe(Fact { key, kind: Kind::Expiring });
    let life = stage.start()?;
    part.lives += 1;
    stage.collect(tally);
    while !tally.is_complete() {
        let before = tally.delivered() + tally.copies();
        stage.arrival(SETTLE_MAX).await;
        stage.collect(tally);
        if tally.delivered() + tally.copies() == before {
            break;
        }
    }
    time::sleep(WRITTEN_AFTER).await;
    life.kill()?;
    stage.collect(tally);
    let copies = tally.copies();
    let life = stage.start()?;
    part.lives += 1;
    time::sleep(AFTERLIFE).await;
    life.kill()?;
    stage.collect(tally);
    if tally.is_complete() && copies < tally.copies() {
        part.wrong.push(format!(
            "{} messages were told again by a start after everything had been told",
            tally.copies() - copies
        ));
    }
    Ok(())
}

/// Lets keys cross a step while the mail servers do not answer; later they do.
async fn stand_in_tarpit(
    mut stage: Stage,
    kept: &mut Vec<PathBuf>,
) -> anyhow::Result<(Part, Option<Duration>)> {
    let mut tally = Tally::new(stage.targets());
    let mut part = Part::default();
    stage.mailbox(0).set_faults([MailFault::NeverGreet]);
    stage.mailbox(1).set_faults([MailFault::StopAfterData]);
    let crossing = time::now() + TARPIT_CROSSING;
    for _ in 0..TARPIT_KEYS {
        let key = stage.add(crossing)?;
        tally.owe(Fact { key, kind: Kind::Expiring });
    }
    let life = stage.start()?;
    part.lives += 1;
    let last = beside(&stage, crossing).await;
    for mailbox in 0..2 {
        if stage.mailbox(mailbox).connections() == 0 {
            part.wrong.push(format!("mail server {mailbox} was never asked"));
        }
        stage.mailbox(mailbox).set_faults([]);
    }
    stage.collect(&mut tally);
    life.kill()?;
    finish(&mut stage, &mut tally, &mut part).await?;
    if last.is_none() {
        part.wrong.push("the webhook waited for the mail servers".to_owned());
    }
    Ok((conclude(stage, tally, part, kept), last))
}

/// How long after the step the last message of the webhook arrived; `None` if it is still missing after the patience.
async fn beside(stage: &Stage, crossing: DateTime<Utc>) -> Option<Duration> {
    let all = stage.sink().wait_for(u64::from(TARPIT_KEYS), SETTLE_MAX).await.ok()?;
    let last = all.iter().map(|it| it.at).max()?;
    // The mails of that moment have begun by now, but for a machine that is very slow.
    for mailbox in 0..2 {
        for _ in 0..100 {
            if 0 < stage.mailbox(mailbox).connections() {
                break;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    }
    Some((last - crossing).to_std().unwrap_or_default())
}

fn conclude(stage: Stage, tally: Tally, part: Part, kept: &mut Vec<PathBuf>) -> Part {
    let mut part = Part {
        obligations: tally.obligations(),
        delivered: tally.delivered(),
        lost: tally.lost(),
        copies: tally.copies(),
        ..part
    };
    part.wrong.extend(tally.into_wrong());
    if part.verdict() == Verdict::Broken {
        kept.push(stage.keep());
    }
    part
}
