//! Sends the messages of one channel, in order, and writes what became of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::trouble::{PutOff, Troubles};
use crate::config::Config;
use crate::delivery::{
    Accepted, Parcel, RETRY_AFTER_MAX, Retry, SendError, Undelivered, fallback, retry,
};
use crate::failpoint;
use crate::metrics::Telemetry;
use crate::notify::Sender;
use crate::store::{Fallback, Outcome, Store};
use crate::time::add;

/// So many recipients put off by one server are the server's trouble, not theirs.
const RECIPIENTS_PUT_OFF_MAX: usize = 3;

/// What a target has not taken for so long is told to the fallback too, while it is tried further. A server that lets
/// strangers wait (greylisting) takes it before.
const FORWARD_AFTER: TimeDelta = TimeDelta::minutes(5);

/// Sends the messages of one channel, in order.
pub(super) struct Worker {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) sender: Arc<Sender>,
    pub(super) troubles: Troubles,
    pub(super) clock: fn() -> DateTime<Utc>,
}

/// Whether a recipient takes more.
enum Taken {
    Yes,
    PutOff(PutOff),
}

impl Worker {
    /// A recipient that is put off holds up its own messages, so that they arrive in order, but not those of others;
    /// when several recipients are, it is the server, and the rest is not tried.
    pub(super) async fn deliver(&self, parcels: Vec<Parcel>) {
        let mut put_off: BTreeMap<String, PutOff> = BTreeMap::new();
        for parcel in parcels {
            let recipient = parcel.target.recipient.clone();
            let server =
                put_off.values().next().filter(|_| RECIPIENTS_PUT_OFF_MAX <= put_off.len());
            let put_off_now = put_off.get(&recipient).or(server).cloned();
            match put_off_now.or_else(|| self.rests(&parcel)) {
                Some(PutOff { until, why }) => {
                    self.finish(&parcel, Outcome::Untried(why, until), Duration::ZERO).await;
                }
                None => match self.attempt(&parcel).await {
                    Taken::Yes => {}
                    Taken::PutOff(it) => drop(put_off.insert(recipient, it)),
                },
            }
        }
    }

    /// Whether the target is left alone: a dead one is asked by one message for all. A new message asks all the same,
    /// once: the target may be back. No rest is longer than a wait can be: such a one ends at a time of before the clock
    /// was set back.
    fn rests(&self, parcel: &Parcel) -> Option<PutOff> {
        let put_off = self.troubles.of(&parcel.target)?.put_off?;
        let now = (self.clock)();
        let rests = now < put_off.until && put_off.until <= add(now, RETRY_AFTER_MAX);
        (1 < parcel.attempts && rests).then_some(put_off)
    }

    async fn attempt(&self, parcel: &Parcel) -> Taken {
        let (target, id, attempt) = (&parcel.target, &parcel.id, parcel.attempts);
        if let Some(why) = self.troubles.of(target).and_then(|it| it.gone) {
            let outcome = self.give_up(parcel, &why);
            self.finish(parcel, outcome, Duration::ZERO).await;
            return Taken::Yes;
        }
        let started = (self.clock)();
        self.telemetry.request_made(target);
        let sent = self.sender.send(parcel).await;
        let now = (self.clock)();
        let took = (now - started).to_std().unwrap_or_default();
        let (outcome, taken) = match sent {
            Ok(Accepted(answer)) => {
                failpoint::hit("send-accepted");
                self.troubles.end(target);
                tracing::info!(message.id = id, attempt, "delivered {id} to {target}: {answer}");
                self.telemetry.notification_delivered(target, now, took);
                (Outcome::Delivered(answer), Taken::Yes)
            }
            Err(SendError::GiveUp { why }) => (self.give_up(parcel, &why), Taken::Yes),
            Err(SendError::Gone { why }) => {
                self.troubles.add_gone(target, &why, now);
                (self.give_up(parcel, &why), Taken::Yes)
            }
            Err(SendError::Retry { why, after }) => {
                self.telemetry.request_failed(target);
                // A new message to a target that fails for long waits as long as the old ones.
                let failures = self.troubles.add(target, now).failures.max(attempt);
                match retry(failures, after, parcel.created_at, fastrand::f64(), now) {
                    Retry::At(at) => {
                        tracing::warn!(
                            message.id = id,
                            attempt,
                            "cannot deliver {id} to {target}, trying again at {}: {why}",
                            at.format("%F %T UTC")
                        );
                        let put_off = PutOff { until: at, why: why.clone() };
                        self.troubles.put_off(target, put_off.clone());
                        (Outcome::Postponed(why, at), Taken::PutOff(put_off))
                    }
                    Retry::GiveUp => (self.give_up(parcel, &why), Taken::Yes),
                }
            }
        };
        self.finish(parcel, outcome, took).await;
        taken
    }

    fn give_up(&self, parcel: &Parcel, why: &str) -> Outcome {
        let (id, target, attempt) = (&parcel.id, &parcel.target, parcel.attempts);
        tracing::error!(
            message.id = id,
            attempt,
            "gave up {id} to {target} at attempt {attempt}: {why}"
        );
        self.telemetry.request_failed(target);
        self.telemetry.notification_given_up(target);
        Outcome::Dead(why.to_owned())
    }

    async fn finish(&self, parcel: &Parcel, outcome: Outcome, took: Duration) {
        let now = (self.clock)();
        let fallback = self.fallback(parcel, &outcome, now);
        let (id, attempt) = (parcel.id.clone(), parcel.attempts);
        let written = self.store.finish(id, attempt, outcome, took, fallback, now).await;
        if let Err(error) = written {
            tracing::error!(
                "cannot write what became of {}, it is sent again under its id: {error:#}",
                parcel.id
            );
        }
    }

    /// Who is told instead, if the message is given up or has failed for long.
    fn fallback(&self, parcel: &Parcel, outcome: &Outcome, now: DateTime<Utc>) -> Option<Fallback> {
        let why = match outcome {
            Outcome::Dead(why) => why,
            Outcome::Postponed(why, _) | Outcome::Untried(why, _) => {
                let trouble = self.troubles.of(&parcel.target).map(|it| it.since);
                let since = trouble.map_or(parcel.created_at, |it| it.min(parcel.created_at));
                if now - since < FORWARD_AFTER {
                    return None;
                }
                why
            }
            Outcome::Delivered(_) => return None,
        };
        let undelivered = Undelivered { target: parcel.target.to_string(), why: why.clone() };
        Some(Fallback { to: fallback(&self.config, &parcel.target), undelivered })
    }
}
