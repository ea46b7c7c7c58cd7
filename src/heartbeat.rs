//! Tells a dead man's switch somewhere else that this program works: a program cannot tell that it is dead.
//!
//! The switch is called only while the three loops turn and the store takes writes, so one that is called says more than
//! that a process exists. Whether ECE or a receiver can be reached is not looked at: those have alerts of their own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::config::Heartbeat;
use crate::delivery::{Accepted, SendError};
use crate::metrics::{Telemetry, WriteState};
use crate::notify::heartbeat::Switch;
use crate::time;

/// Each loop turns at least once a minute; one that has not for so long stands still.
pub const TICK_AGE_MAX: TimeDelta = TimeDelta::seconds(150);

/// What was not sent, or not accepted, is tried again after this long, so that one lost call sets off no alarm.
const AGAIN: Duration = Duration::from_secs(15);

/// Without a switch there is nothing to do.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// The loops need a moment to turn for the first time.
const STARTS_AGAIN: Duration = Duration::from_secs(1);

/// The signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signs {
    /// When the process started.
    pub started: DateTime<Utc>,
    /// When the monitor last turned; `None` before it ever has.
    pub monitor: Option<DateTime<Utc>>,
    /// When the outbox last looked at the store, and could.
    pub outbox: Option<DateTime<Utc>>,
    /// When the loop that tells Alertmanagers last turned.
    pub mirror: Option<DateTime<Utc>>,
    /// What became of the last write of the store.
    pub write: WriteState,
}

impl Signs {
    /// The signs now.
    pub fn of(telemetry: &Telemetry) -> Self {
        Self {
            started: telemetry.started(),
            monitor: telemetry.last_tick(),
            outbox: telemetry.outbox_tick(),
            mirror: telemetry.mirror_tick(),
            write: telemetry.write_state(),
        }
    }
}

/// Whether the program works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every loop turns, and the store takes writes.
    Works,
    /// A loop has not turned yet, and is given time.
    Starts,
    /// Something does not, as a sentence.
    Stands(String),
}

/// Decides whether the program works at `now`.
pub fn judge(signs: Signs, now: DateTime<Utc>) -> Verdict {
    let loops = [
        ("the monitor, which probes and decides,", signs.monitor),
        ("the outbox, which sends what is owed,", signs.outbox),
        ("the loop that tells Alertmanagers what fires", signs.mirror),
    ];
    for (name, turned) in loops {
        match turned {
            None if now - signs.started <= TICK_AGE_MAX => return Verdict::Starts,
            None => return Verdict::Stands(format!("{name} has not run yet; restart the service")),
            Some(at) if TICK_AGE_MAX < now - at => {
                let at = at.format("%F %T UTC");
                return Verdict::Stands(format!(
                    "{name} has not run since {at}; if it does not go on by itself, restart the service"
                ));
            }
            Some(_) => {}
        }
    }
    match signs.write {
        WriteState::Good | WriteState::NotWritten => Verdict::Works,
        WriteState::Failed => Verdict::Stands(
            "the store takes no writes, what it lacks is lost at the next stop; repair or free its disk".to_owned(),
        ),
    }
}

/// What became of the last heartbeat; a change is logged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    None,
    Accepted,
    Withheld,
    Failed,
}

/// Calls the switch of a configuration.
pub struct Heart {
    switch: Option<Switch>,
    every: Duration,
    telemetry: Arc<Telemetry>,
    last: Last,
}

impl Heart {
    /// Prepares the calls; without a switch there are none.
    ///
    /// # Errors
    /// A certificate or the proxy URL cannot be used.
    pub fn new(config: Option<&Heartbeat>, telemetry: Arc<Telemetry>) -> anyhow::Result<Self> {
        let switch = config.map(Switch::new).transpose().context("heartbeat")?;
        telemetry.register_heartbeat(switch.is_some());
        let every = config.map_or(IDLE, |it| it.every);
        Ok(Self { switch, every, telemetry, last: Last::None })
    }

    /// Calls the switch until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let beats = async {
            loop {
                let wait = self.beat(time::now()).await;
                time::sleep_long(wait).await;
            }
        };
        tokio::select! {
            () = beats => {}
            // It fails only when nobody is left to say so.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Calls the switch if everything works; says how long to wait until the next time.
    pub async fn beat(&mut self, now: DateTime<Utc>) -> Duration {
        let Some(switch) = &self.switch else { return self.every };
        let (this, why) = match judge(Signs::of(&self.telemetry), now) {
            Verdict::Starts => return STARTS_AGAIN,
            Verdict::Stands(why) => (Last::Withheld, why),
            Verdict::Works => match switch.call().await {
                Ok(Accepted(answer)) => (Last::Accepted, answer),
                Err(
                    SendError::Retry { why, .. }
                    | SendError::GiveUp { why }
                    | SendError::Gone { why },
                ) => (Last::Failed, why),
            },
        };
        let is_news = std::mem::replace(&mut self.last, this) != this;
        let again = AGAIN.min(self.every).as_secs();
        match this {
            Last::Accepted if is_news => tracing::info!("the heartbeat is accepted: {why}"),
            Last::Withheld if is_news => {
                tracing::error!("the heartbeat is not sent, because {why}");
            }
            Last::Failed if is_news => {
                tracing::warn!(
                    "the heartbeat is not accepted, trying again every {again} s: {why}"
                );
            }
            Last::Accepted | Last::Withheld | Last::Failed | Last::None => {}
        }
        if this == Last::Accepted {
            self.telemetry.heartbeat_sent(time::now());
            return self.every;
        }
        self.telemetry.heartbeat_failed();
        AGAIN.min(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_300_000 + seconds, 0).unwrap()
    }

    /// Everything turned a minute ago.
    fn works(now: DateTime<Utc>) -> Signs {
        let turned = Some(now - TimeDelta::seconds(60));
        Signs {
            started: at(0),
            monitor: turned,
            outbox: turned,
            mirror: turned,
            write: WriteState::Good,
        }
    }

    #[test]
    fn it_works_while_every_loop_turns_and_the_store_takes_writes() {
        assert_eq!(judge(works(at(900)), at(900)), Verdict::Works);
        let fresh = Signs { write: WriteState::NotWritten, ..works(at(900)) };
        assert_eq!(judge(fresh, at(900)), Verdict::Works, "nothing had to be written yet");
        let edge = at(840) + TICK_AGE_MAX;
        assert_eq!(judge(works(at(900)), edge), Verdict::Works);
    }

    #[test]
    fn one_loop_that_stands_still_is_enough_and_is_named() {
        let now = at(900);
        let long_ago = Some(now - TICK_AGE_MAX - TimeDelta::seconds(1));
        for (signs, name) in [
            (Signs { monitor: long_ago, ..works(now) }, "the monitor"),
            (Signs { outbox: long_ago, ..works(now) }, "the outbox"),
            (Signs { mirror: long_ago, ..works(now) }, "tells Alertmanagers"),
            (Signs { mirror: None, ..works(now) }, "tells Alertmanagers"),
            (Signs { write: WriteState::Failed, ..works(now) }, "the store takes no writes"),
        ] {
            match judge(signs, now) {
                Verdict::Stands(why) => assert!(why.contains(name), "{why}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_loop_that_has_not_turned_yet_is_waited_for_but_not_for_long() {
        let now = at(1);
        let signs = Signs { outbox: None, ..works(now) };
        assert_eq!(judge(signs, now), Verdict::Starts);
        let late = at(0) + TICK_AGE_MAX + TimeDelta::seconds(1);
        let signs = Signs { outbox: None, ..works(late) };
        assert!(matches!(judge(signs, late), Verdict::Stands(_)));
    }
}
