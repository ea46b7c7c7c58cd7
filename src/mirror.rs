//! Loop 3: Alertmanagers hold what fires.
//!
//! This is state and no messages, so nothing is owed and nothing goes through the ledger: every minute, and at once when
//! something has changed, the monitor is asked what fires, and each Alertmanager is told all of it, with an end some
//! time ahead. An Alertmanager that was away is told the next time. A restart needs no memory: what fires stands in the
//! store, and what ended while the program was dead ends by the end that was told last.
//!
//! When to notify whom, and when to repeat it, is Alertmanager's own.

pub mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::held::Held;
use crate::config::Config;
use crate::delivery::{SendError, Standing};
use crate::metrics::{ReplicaKey, Telemetry};
use crate::monitor::StandingRequest;
use crate::notify::Origin;
use crate::notify::alertmanager::{Alert, BATCH_MAX, Replica, compose};
use crate::time;

/// How often everything is told again, as Prometheus does.
const RESEND: TimeDelta = TimeDelta::minutes(1);

/// How far ahead the end of a firing alert is told: at least four times `RESEND`, so that a lost request ends nothing, and
/// long enough for a restart or an upgrade; an alert that ends because its sender is away is a false "resolved".
const FIRES_ON: TimeDelta = TimeDelta::minutes(15);

/// Changes are told no more often than this, and with many alerts less often: each time all of them are told.
const GAP: Duration = Duration::from_secs(1);

/// How much longer the gap is for each alert: ten thousand are told every eleven seconds at most.
const GAP_EACH: Duration = Duration::from_millis(1);

/// How long the monitor may take to answer; it may be waiting for a disk.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// An Alertmanager that could not be told is told again after this long.
const AGAIN: Duration = Duration::from_secs(15);

/// What is held for each receiver; outlives the loop, so that a reload knows what has ended.
pub type HeldByReceiver = BTreeMap<Arc<str>, Held>;

/// Loop 3.
pub struct Mirror {
    origin: Origin,
    telemetry: Arc<Telemetry>,
    workers: Vec<Worker>,
    held: HeldByReceiver,
    /// Whether the monitor owes an answer, which is told once.
    is_unanswered: bool,
}

/// The Alertmanagers of a configuration, each with the receivers that lead to it.
///
/// # Errors
/// A certificate or a URL of one cannot be used.
pub fn replicas(config: &Config) -> anyhow::Result<Vec<(Replica, BTreeSet<Arc<str>>)>> {
    let mut replicas: Vec<(Replica, BTreeSet<Arc<str>>)> = Vec::new();
    for (name, receiver) in &config.receivers {
        for (at, alertmanager) in receiver.alertmanagers.iter().enumerate() {
            let all = Replica::all(alertmanager)
                .with_context(|| format!("receiver {name}, alertmanager_configs[{at}]"))?;
            for replica in all {
                // Two receivers with one Alertmanager: what has ended for one may still fire for the other.
                match replicas.iter_mut().find(|(it, _)| it.is(&replica)) {
                    Some((_, receivers)) => drop(receivers.insert(Arc::clone(name))),
                    None => replicas.push((replica, BTreeSet::from([Arc::clone(name)]))),
                }
            }
        }
    }
    Ok(replicas)
}

impl Mirror {
    /// Builds the loop of a configuration. `held` is what the loop before it held; of receivers that have no Alertmanager
    /// any more it is forgotten.
    ///
    /// # Errors
    /// A certificate or a URL of an Alertmanager cannot be used.
    pub fn new(
        config: &Config,
        origin: Origin,
        telemetry: Arc<Telemetry>,
        mut held: HeldByReceiver,
    ) -> anyhow::Result<Self> {
        let worker = |(at, (replica, receivers)): (usize, (Replica, BTreeSet<Arc<str>>))| Worker {
            keys: receivers.iter().map(|it| (Arc::clone(it), at, replica.name().into())).collect(),
            replica,
            receivers,
            telemetry: Arc::clone(&telemetry),
            told: Told::Unknown,
        };
        let workers: Vec<Worker> = replicas(config)?.into_iter().enumerate().map(worker).collect();
        let keys: Vec<ReplicaKey> = workers.iter().flat_map(|it| it.keys.clone()).collect();
        held.retain(|name, _| keys.iter().any(|(receiver, ..)| receiver == name));
        for (receiver, ..) in &keys {
            held.entry(Arc::clone(receiver)).or_default();
        }
        telemetry.register_replicas(&keys);
        Ok(Self { origin, telemetry, workers, held, is_unanswered: false })
    }

    /// Runs until `stop` says so; the end of the loop ends no alert. What is held is for the next loop.
    pub async fn run(
        mut self,
        ask: mpsc::Sender<StandingRequest>,
        changed: Arc<Notify>,
        mut stop: watch::Receiver<bool>,
    ) -> HeldByReceiver {
        let (publish, published) = watch::channel(None);
        let mut workers = JoinSet::new();
        for worker in std::mem::take(&mut self.workers) {
            workers.spawn(worker.run(published.clone()));
        }
        // Without an Alertmanager there is nobody to tell; the loop turns all the same.
        while !*stop.borrow() {
            let now = time::now();
            self.telemetry.mirror_ticked(now);
            if !workers.is_empty() {
                self.follow(&ask, now).await;
                publish.send_replace(Some(Arc::new(self.held.clone())));
            }
            let count: usize = self.held.values().map(|it| it.firing.len()).sum();
            let gap = GAP + GAP_EACH * u32::try_from(count).unwrap_or(u32::MAX);
            let next = async {
                time::sleep(gap).await;
                tokio::select! {
                    () = changed.notified() => {}
                    () = time::sleep_until(now + RESEND) => {}
                }
            };
            tokio::select! {
                () = next => {}
                _ = stop.wait_for(|stop| *stop) => break,
                Some(dead) = workers.join_next() => if let Err(error) = dead {
                    tracing::error!("a worker for an Alertmanager died, which is a bug, please report it: {error}");
                    break;
                },
            }
        }
        self.held
    }

    /// Asks what fires, and takes it over. Without an answer everything goes on as it was: nothing has ended.
    async fn follow(&mut self, ask: &mpsc::Sender<StandingRequest>, now: DateTime<Utc>) {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            ask.send(reply).await.ok()?;
            answer.await.ok()
        };
        let answer = tokio::time::timeout(ANSWER_MAX, asked).await;
        let is_late = answer.is_err();
        let Ok(Some(standing)) = answer else {
            // A monitor that has gone was stopped a moment ago, and this loop is next.
            if is_late && !std::mem::replace(&mut self.is_unanswered, true) {
                tracing::warn!(
                    "the monitor does not say what fires; Alertmanagers go on to hold what fired before"
                );
            }
            self.held.values_mut().for_each(|it| it.pass(now));
            return;
        };
        self.is_unanswered = false;
        let mut fires: BTreeMap<Arc<str>, Vec<Alert>> = BTreeMap::new();
        for Standing { notice, receivers } in standing {
            match Alert::of(&notice, &self.origin, now) {
                Ok(alert) => receivers
                    .into_iter()
                    .for_each(|it| fires.entry(it).or_default().push(alert.clone())),
                Err(error) => tracing::error!("cannot tell Alertmanager of an alert: {error:#}"),
            }
        }
        for (receiver, held) in &mut self.held {
            held.follow(fires.remove(receiver).unwrap_or_default(), now);
        }
    }
}

/// Whether a replica took what it was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Unknown,
    Yes,
    No,
}

/// Tells one replica: one that hangs holds up no other.
struct Worker {
    replica: Replica,
    receivers: BTreeSet<Arc<str>>,
    keys: Vec<ReplicaKey>,
    telemetry: Arc<Telemetry>,
    told: Told,
}

impl Worker {
    /// Tells what was published last, whenever something is. What was published while it was telling is left out.
    async fn run(mut self, mut published: watch::Receiver<Option<Arc<HeldByReceiver>>>) {
        loop {
            let patience = if self.told == Told::No { AGAIN } else { Duration::MAX };
            // Nothing new, and an Alertmanager that has to be told once more.
            let waited = tokio::time::timeout(patience, published.changed()).await;
            if let Ok(Err(_)) = waited {
                return;
            }
            let held = published.borrow_and_update().clone();
            if let Some(held) = held {
                self.tell(&held).await;
            }
        }
    }

    async fn tell(&mut self, held: &HeldByReceiver) {
        let of_receivers = || held.iter().filter(|(it, _)| self.receivers.contains(*it));
        let firing: BTreeMap<&String, &Alert> = of_receivers()
            .flat_map(|(_, it)| it.firing.iter().map(|(key, alert)| (key, &**alert)))
            .collect();
        let ended: BTreeMap<&String, (&Alert, DateTime<Utc>)> = of_receivers()
            .flat_map(|(_, it)| it.ended.iter().map(|(key, (alert, at))| (key, (&**alert, *at))))
            .filter(|(key, _)| !firing.contains_key(key))
            .collect();
        let count = firing.len() + ended.len();
        let firing: Vec<&Alert> = firing.into_values().collect();
        let ended: Vec<_> = ended.into_values().collect();

        let mut result = Ok(());
        // An empty request asks an idle Alertmanager whether it is there, before it is needed.
        let nothing: &[&Alert] = &[];
        let idle = std::iter::once(nothing).filter(|_| count == 0);
        for batch in firing.chunks(BATCH_MAX).chain(idle) {
            let ends_at = time::now() + FIRES_ON;
            match self.post(batch.iter().map(|it| (*it, ends_at))).await {
                Ok(()) => {}
                // One alert that is refused must not keep others from being told.
                Err(SendError::GiveUp { why } | SendError::Gone { why }) => result = Err(why),
                Err(SendError::Retry { why, .. }) => {
                    result = Err(why);
                    break;
                }
            }
        }
        // What takes the place of an alert that has ended is there first, so that never both are absent.
        for batch in ended.chunks(BATCH_MAX) {
            if result.is_err() {
                break;
            }
            let posted = self.post(batch.iter().copied()).await;
            result = posted.map_err(|error| error.to_string());
        }
        self.settle(result, count);
    }

    async fn post<'a>(
        &self,
        alerts: impl Iterator<Item = (&'a Alert, DateTime<Utc>)>,
    ) -> Result<(), SendError> {
        let body =
            compose(alerts).map_err(|error| SendError::GiveUp { why: format!("{error:#}") })?;
        self.telemetry.replica_asked(&self.keys);
        let posted = self.replica.post(body).await;
        if posted.is_err() {
            self.telemetry.replica_failed(&self.keys);
        }
        posted.map(drop)
    }

    /// Notes what became of telling `count` alerts; a change is logged once.
    fn settle(&mut self, result: Result<(), String>, count: usize) {
        let name = self.replica.name();
        let receivers: Vec<&str> = self.receivers.iter().map(AsRef::as_ref).collect();
        let receivers = receivers.join(", ");
        let failure = result.err();
        self.telemetry.replica_settled(&self.keys, count, failure.as_deref(), time::now());
        match (self.told, &failure) {
            (Told::Yes | Told::Unknown, Some(why)) => tracing::warn!(
                alertmanager = name,
                receivers,
                "cannot tell Alertmanager {name} of receiver {receivers} what fires, trying again every {} s: {why}",
                AGAIN.as_secs()
            ),
            (Told::No, None) => tracing::info!(
                alertmanager = name,
                receivers,
                "Alertmanager {name} of receiver {receivers} is told again what fires"
            ),
            (Told::Yes | Told::Unknown, None) | (Told::No, Some(_)) => {}
        }
        self.told = if failure.is_some() { Told::No } else { Told::Yes };
    }
}
