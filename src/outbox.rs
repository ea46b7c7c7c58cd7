//! Loop 2: compose, commit, send, commit.
//!
//! The outbox knows nothing of alerts. It finds what is owed in the store, composes messages, commits them with their
//! ids, and sends them, one at a time per channel: a channel that hangs holds up no other. A second copy of a message is
//! possible only if the process dies between the receiver's acceptance and our commit, and it carries the same id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::delivery::{Accepted, Integration, Parcel, Retry, SendError, Target, retry};
use crate::failpoint;
use crate::metrics::Telemetry;
use crate::notify::{self, Origin, Sender};
use crate::store::{Outcome, Store};
use crate::time;

/// How many waiting notices are composed in one transaction.
const COMPOSE_MAX: usize = 2_000;

/// How many notices one mail carries; beyond it a second mail follows.
const NOTICES_PER_MAIL_MAX: usize = 200;

/// How many messages a channel's worker takes at a time.
const CLAIM_MAX: usize = 32;

/// How long a claim holds: longer than a worker needs for all its messages. `recover` ends the claims of the dead.
const CLAIM_LEASE: Duration = Duration::from_secs(60 * 60);

/// How long the end of the program waits for messages on their way.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// So many recipients put off by one server are the server's trouble, not theirs.
const RECIPIENTS_PUT_OFF_MAX: usize = 3;

/// After an error of the store the outbox looks again after this long.
const STORE_PAUSE: TimeDelta = TimeDelta::seconds(5);

/// A busy channel's due messages are looked at no more often than this.
const WAKE_MIN: TimeDelta = TimeDelta::milliseconds(250);

/// One channel of one receiver: what a worker serves alone.
type Lane = (Arc<str>, Integration, u32);

/// Loop 2.
pub struct Outbox {
    config: Arc<Config>,
    store: Store,
    telemetry: Arc<Telemetry>,
    sender: Arc<Sender>,
    origin: Origin,
    busy: BTreeSet<Lane>,
}

impl Outbox {
    /// Builds the outbox of a configuration and makes due what a dead process or a stopped worker had taken.
    ///
    /// # Errors
    /// A TLS file of a receiver cannot be used, or the store cannot be written.
    pub async fn new(
        config: Arc<Config>,
        store: Store,
        telemetry: Arc<Telemetry>,
        origin: Origin,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        store.recover(now).await.context("cannot take up what was being sent")?;
        let sender = Arc::new(Sender::new(config.clone())?);
        let receivers = config.receivers.values();
        telemetry.register_targets(receivers.flat_map(|receiver| {
            let emails =
                (!receiver.emails.is_empty()).then(|| (receiver.name.clone(), Integration::Email));
            let webhooks = (!receiver.webhooks.is_empty())
                .then(|| (receiver.name.clone(), Integration::Webhook));
            emails.into_iter().chain(webhooks)
        }));
        Ok(Self { config, store, telemetry, sender, origin, busy: BTreeSet::new() })
    }

    /// Runs until `stop` says so, then waits at most `DRAIN_MAX` for what is on its way.
    pub async fn run(mut self, owed: Arc<Notify>, mut stop: watch::Receiver<bool>) {
        let mut workers = JoinSet::new();
        loop {
            let now = time::now();
            let wake = match self.tick(&mut workers, now, time::now).await {
                Ok(wake) => wake,
                Err(error) => {
                    tracing::error!(
                        "the outbox cannot work, trying again in {}: {error:#}",
                        STORE_PAUSE
                    );
                    now + STORE_PAUSE
                }
            };
            tokio::select! {
                Some(done) = workers.join_next() => self.release(done),
                () = owed.notified() => {}
                () = time::sleep_until(wake) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        let drain = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drain).await.is_err() {
            tracing::warn!(
                "messages are still on their way, they are sent again after the next start under their ids"
            );
        }
    }

    /// Composes and sends everything that is due at `now`, to the end: the whole of loop 2 as one call.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn step(
        &mut self,
        now: DateTime<Utc>,
        clock: fn() -> DateTime<Utc>,
    ) -> anyhow::Result<()> {
        let mut workers = JoinSet::new();
        self.tick(&mut workers, now, clock).await?;
        while let Some(done) = workers.join_next().await {
            self.release(done);
            self.tick(&mut workers, now, clock).await?;
        }
        Ok(())
    }

    fn release(&mut self, done: Result<Lane, tokio::task::JoinError>) {
        match done {
            Ok(channel) => drop(self.busy.remove(&channel)),
            // A worker that panicked must not block its channel for ever; which one is not known.
            Err(error) => {
                tracing::error!("a delivery worker died: {error}");
                self.busy.clear();
            }
        }
    }

    /// Composes what is due, hands due messages to workers, and says when to look again.
    async fn tick(
        &mut self,
        workers: &mut JoinSet<Lane>,
        now: DateTime<Utc>,
        clock: fn() -> DateTime<Utc>,
    ) -> anyhow::Result<DateTime<Utc>> {
        while self.compose(now).await? == Composed::PerhapsMore {}
        let busy = self.busy.iter().cloned().collect();
        let claimed = self
            .store
            .claim(busy, CLAIM_MAX, CLAIM_LEASE, now)
            .await
            .context("cannot take due messages")?;
        let mut by_channel: BTreeMap<Lane, Vec<Parcel>> = BTreeMap::new();
        for parcel in claimed {
            let Target { receiver, integration, index, .. } = &parcel.target;
            by_channel.entry((receiver.clone(), *integration, *index)).or_default().push(parcel);
        }
        for (channel, parcels) in by_channel {
            self.busy.insert(channel.clone());
            let worker = Worker {
                store: self.store.clone(),
                telemetry: self.telemetry.clone(),
                sender: self.sender.clone(),
                clock,
            };
            workers.spawn(async move {
                worker.deliver(parcels).await;
                channel
            });
        }
        let backlog = self.store.backlog().await.context("cannot read what waits")?;
        self.telemetry.set_pending(backlog.pending);
        self.telemetry.set_dead(backlog.dead);
        Ok(backlog.next.unwrap_or(DateTime::<Utc>::MAX_UTC).max(now + WAKE_MIN))
    }

    /// Composes one transaction's worth of waiting notices.
    async fn compose(&self, now: DateTime<Utc>) -> anyhow::Result<Composed> {
        let waiting =
            self.store.waiting(now, COMPOSE_MAX).await.context("cannot read what is owed")?;
        let count = waiting.len();
        let mut by_target: BTreeMap<Target, Vec<_>> = BTreeMap::new();
        for it in waiting {
            by_target.entry(it.target).or_default().push((it.row, it.notice));
        }
        let mut parcels = Vec::new();
        for (target, notices) in by_target {
            let each = match target.integration {
                Integration::Email => NOTICES_PER_MAIL_MAX,
                Integration::Webhook => 1,
            };
            for part in notices.chunks(each) {
                let (rows, notices): (Vec<i64>, Vec<_>) = part.iter().cloned().unzip();
                let id = notify::new_id(now);
                let body = match notify::channel(&self.config, &target) {
                    Some(channel) => notify::compose(
                        channel,
                        &target.recipient,
                        &id,
                        &notices,
                        &self.origin,
                        now,
                    )
                    .with_context(|| format!("cannot compose a message for {target}")),
                    // Sending it says that the channel is gone.
                    None => Ok(Vec::new()),
                };
                let body = body.unwrap_or_else(|error| {
                    tracing::error!("{error:#}");
                    Vec::new()
                });
                self.telemetry.notification_composed(&target);
                parcels.push((
                    Parcel { id, target: target.clone(), body, attempts: 0, created_at: now },
                    rows,
                ));
            }
        }
        if parcels.is_empty() {
            return Ok(Composed::All);
        }
        self.store.composed(parcels).await.context("cannot write composed messages")?;
        Ok(if count < COMPOSE_MAX { Composed::All } else { Composed::PerhapsMore })
    }
}

/// Whether everything due has been composed.
#[derive(Debug, PartialEq, Eq)]
enum Composed {
    All,
    PerhapsMore,
}

/// Sends the messages of one channel, in order.
struct Worker {
    store: Store,
    telemetry: Arc<Telemetry>,
    sender: Arc<Sender>,
    clock: fn() -> DateTime<Utc>,
}

/// Whether a recipient takes more.
enum Taken {
    Yes,
    NotBefore(DateTime<Utc>),
}

impl Worker {
    /// A recipient that is put off holds up its own messages, so that they arrive in order, but not those of others;
    /// when several recipients are, it is the server, and the rest is not tried.
    async fn deliver(&self, parcels: Vec<Parcel>) {
        let mut put_off: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
        for parcel in parcels {
            let recipient = parcel.target.recipient.clone();
            let server =
                put_off.values().next().filter(|_| RECIPIENTS_PUT_OFF_MAX <= put_off.len());
            match put_off.get(&recipient).or(server).copied() {
                Some(at) => self.finish(&parcel, Outcome::Untried(at), Duration::ZERO).await,
                None => match self.attempt(&parcel).await {
                    Taken::Yes => {}
                    Taken::NotBefore(at) => drop(put_off.insert(recipient, at)),
                },
            }
        }
    }

    async fn attempt(&self, parcel: &Parcel) -> Taken {
        let (target, id, attempt) = (&parcel.target, &parcel.id, parcel.attempts);
        let started = (self.clock)();
        self.telemetry.request_made(target);
        let sent = self.sender.send(parcel).await;
        let now = (self.clock)();
        let took = (now - started).to_std().unwrap_or_default();
        let (outcome, taken) = match sent {
            Ok(Accepted(answer)) => {
                failpoint::hit("send-accepted");
                tracing::info!(message.id = id, attempt, "delivered {id} to {target}: {answer}");
                self.telemetry.notification_delivered(target, now, took);
                (Outcome::Delivered(answer), Taken::Yes)
            }
            Err(SendError::GiveUp { why }) => (self.give_up(parcel, &why), Taken::Yes),
            Err(SendError::Retry { why, after }) => {
                self.telemetry.request_failed(target);
                match retry(attempt, after, parcel.created_at, fastrand::f64(), now) {
                    Retry::At(at) => {
                        tracing::warn!(
                            message.id = id,
                            attempt,
                            "cannot deliver {id} to {target}, trying again at {}: {why}",
                            at.format("%F %T UTC")
                        );
                        (Outcome::Postponed(why, at), Taken::NotBefore(at))
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
            "gave up {id} to {target} after {attempt} attempts: {why}"
        );
        self.telemetry.request_failed(target);
        self.telemetry.notification_given_up(target);
        Outcome::Dead(why.to_owned())
    }

    async fn finish(&self, parcel: &Parcel, outcome: Outcome, took: Duration) {
        let now = (self.clock)();
        let written =
            self.store.finish(parcel.id.clone(), parcel.attempts, outcome, took, now).await;
        if let Err(error) = written {
            tracing::error!(
                "cannot write what became of {}, it is sent again under its id: {error:#}",
                parcel.id
            );
        }
    }
}
