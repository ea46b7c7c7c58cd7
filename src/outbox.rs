//! Loop 2: compose, commit, send, commit.
//!
//! The outbox knows nothing of alerts. It finds what is owed in the store, composes messages, commits them with their
//! ids, and sends them, one at a time per channel: a channel that hangs holds up no other. A second copy of a message is
//! possible only if the process dies between the receiver's acceptance and our commit, and it carries the same id.

mod compose;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::compose::Composed;
use self::worker::Worker;
use crate::config::Config;
use crate::delivery::{Integration, Lane, Parcel};
use crate::metrics::Telemetry;
use crate::notify::{Origin, Sender};
use crate::store::Store;
use crate::time;

/// How many messages a channel's worker takes at a time.
const CLAIM_MAX: usize = 32;

/// How long a claim holds: longer than a worker needs for all its messages. `recover` ends the claims of the dead.
const CLAIM_LEASE: Duration = Duration::from_secs(60 * 60);

/// How long the end of the program waits for messages on their way.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// After an error of the store the outbox looks again after this long.
const STORE_PAUSE: TimeDelta = TimeDelta::seconds(5);

/// A busy channel's due messages are looked at no more often than this.
const WAKE_MIN: TimeDelta = TimeDelta::milliseconds(250);

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
            by_channel.entry(parcel.target.lane()).or_default().push(parcel);
        }
        for (channel, parcels) in by_channel {
            self.busy.insert(channel.clone());
            let worker = Worker {
                config: self.config.clone(),
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
}
