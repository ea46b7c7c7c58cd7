//! Loop 2: compose, commit, send, commit.
//!
//! The outbox knows nothing of alerts. It finds what is owed in the store, composes messages, commits them with their
//! ids, and sends them, one at a time per channel: a channel that hangs holds up no other. A second copy of a message is
//! possible only if the process dies between the receiver's acceptance and our commit, and it carries the same id.

mod compose;
mod show;
mod trouble;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::compose::Composed;
use self::trouble::Troubles;
use self::worker::Worker;
use crate::config::Config;
use crate::delivery::{Integration, Lane, Parcel, Silence};
use crate::metrics::Telemetry;
use crate::monitor::Shared;
use crate::notify::{Origin, Sender};
use crate::status::Board;
use crate::store::{Expired, Store};
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
    board: Arc<Board>,
    sender: Arc<Sender>,
    origin: Origin,
    silences: Vec<Silence>,
    /// `Revision::by_others` when they were read.
    silences_of: i64,
    troubles: Troubles,
    busy: BTreeSet<Lane>,
}

/// A change of silences that somebody asks for.
#[derive(Debug)]
pub struct SilenceRequest {
    /// What is asked for.
    pub change: SilenceChange,
    /// Where it is said what became of it; an error in words for the person who asked.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum SilenceChange {
    /// A new silence, or a new one in the place of that with the same id.
    Put(Silence),
    /// The end of the silence of this id.
    Expire(String),
}

impl Outbox {
    /// Builds the outbox of a configuration, makes due what a dead process or a stopped worker had taken, and puts the
    /// notifications onto the board.
    ///
    /// # Errors
    /// A TLS file of a receiver cannot be used, or the store cannot be written.
    pub async fn new(
        config: Arc<Config>,
        shared: Shared,
        origin: Origin,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let Shared { store, telemetry, board, .. } = shared;
        store.recover(now).await.context("cannot take up what was being sent")?;
        // The windows may be others now.
        store.release(now).await.context("cannot look again at what is held back")?;
        let silences_of = store.revision().await.context("cannot read the store")?.by_others;
        let silences = store.silences().await.context("cannot read the silences")?;
        board.set_silences(silences.clone());
        board.set_config(config.clone());
        show::show(&store, &board).await;
        let sender = Arc::new(Sender::new(config.clone())?);
        let receivers = config.receivers.values();
        telemetry.register_targets(receivers.flat_map(|receiver| {
            let emails =
                (!receiver.emails.is_empty()).then(|| (receiver.name.clone(), Integration::Email));
            let webhooks =
                receiver.webhooks.iter().map(|it| (receiver.name.clone(), Integration::of(it)));
            emails.into_iter().chain(webhooks)
        }));
        Ok(Self {
            config,
            store,
            telemetry,
            board,
            sender,
            origin,
            silences,
            silences_of,
            troubles: Troubles::default(),
            busy: BTreeSet::new(),
        })
    }

    /// Runs until `stop` says so, then waits at most `DRAIN_MAX` for what is on its way.
    pub async fn run(
        mut self,
        owed: Arc<Notify>,
        requests: &mut mpsc::Receiver<SilenceRequest>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut workers = JoinSet::new();
        let mut showing = JoinSet::new();
        showing.spawn(show::run(self.store.clone(), self.board.clone(), owed.clone()));
        loop {
            let now = time::now();
            let wake = match self.tick(&mut workers, now, time::now).await {
                Ok(wake) => {
                    self.telemetry.outbox_ticked(now);
                    wake
                }
                Err(error) => {
                    tracing::error!(
                        "the outbox cannot work, trying again in {}: {error:#}",
                        STORE_PAUSE
                    );
                    now + STORE_PAUSE
                }
            };
            let asked = tokio::select! {
                Some(done) = workers.join_next() => {
                    self.release(done);
                    None
                }
                Some(request) = requests.recv() => Some(request),
                () = owed.notified() => None,
                () = time::sleep_until(wake) => None,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            if let Some(request) = asked {
                self.change_silences(request, time::now()).await;
            }
        }
        showing.shutdown().await;
        let drain = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drain).await.is_err() {
            tracing::warn!(
                "messages are still on their way, they are sent again after the next start under their ids"
            );
        }
    }

    /// Composes and sends everything that is due at `now`, to the end: the whole of loop 2 as one call. Says when there is
    /// something to do again.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn step(
        &mut self,
        now: DateTime<Utc>,
        clock: fn() -> DateTime<Utc>,
    ) -> anyhow::Result<DateTime<Utc>> {
        let mut workers = JoinSet::new();
        let mut wake = self.tick(&mut workers, now, clock).await?;
        while let Some(done) = workers.join_next().await {
            self.release(done);
            wake = self.tick(&mut workers, now, clock).await?;
        }
        Ok(wake)
    }

    /// Changes the silences, and decides anew what they hold back.
    async fn change_silences(&mut self, request: SilenceRequest, now: DateTime<Utc>) {
        let changed = match request.change {
            SilenceChange::Put(silence) => {
                let (id, by) = (silence.id.clone(), silence.created_by.clone());
                let put = self.store.put_silence(silence).await;
                put.map(|()| tracing::info!(silence = id, by, "silence {id} of {by} is set"))
            }
            SilenceChange::Expire(id) => match self.store.expire_silence(id.clone(), now).await {
                Ok(Expired::Yes) => {
                    tracing::info!(silence = id, "silence {id} is ended");
                    Ok(())
                }
                Ok(Expired::NoSuch) => {
                    Err(anyhow::anyhow!("there is no silence {id} that has not ended yet"))
                }
                Err(error) => Err(error),
            },
        };
        let changed = match changed {
            Ok(()) => self.reread_silences(now).await,
            Err(error) => Err(error),
        };
        // Who asked may have gone away.
        let _ = request.reply.send(changed.map_err(|error| format!("{error:#}")));
    }

    /// Reads the silences anew, and makes due what was held back.
    async fn reread_silences(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.silences = self.store.silences().await.context("cannot read the silences")?;
        self.board.set_silences(self.silences.clone());
        self.store.release(now).await.context("cannot look again at what is held back")
    }

    /// Takes up what a command has written about silences.
    async fn heed_commands(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let by_others = self.store.revision().await.context("cannot read the store")?.by_others;
        if by_others != self.silences_of {
            self.reread_silences(now).await?;
            self.silences_of = by_others;
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
        self.heed_commands(now).await?;
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
                troubles: self.troubles.clone(),
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
