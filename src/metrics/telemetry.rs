//! The exporter's own counters and gauges, as long-lived as the process.
//!
//! The loops and the server note here what they did; `render` reads one consistent copy per scrape. What is known of
//! credentials and platforms is not here but in the `Snapshot`, which is rendered fresh each time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::delivery::{Hush, Integration, Target};

/// Upper bounds of the buckets of the notification duration, in seconds. A notification that waits for a dead channel
/// takes hours, hence the long tail.
pub const DURATION_BUCKETS: [f64; 8] = [0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 300.0, 3600.0];

/// A receiver's name and a kind of channel: what the series of notifications are labelled with.
pub type ChannelKey = (Arc<str>, Integration);

/// An Alertmanager of a receiver: the receiver, its number among all replicas, and its host and port.
pub type ReplicaKey = (Arc<str>, usize, Arc<str>);

/// An Alertmanager that could not be told what fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// The Alertmanager's host and port.
    pub replica: Arc<str>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why, for a person.
    pub why: String,
    /// How many alerts it was to be told.
    count: u64,
}

/// The exporter's own counters and gauges. Every method is cheap enough to be called from any task.
#[derive(Debug)]
pub struct Telemetry {
    /// When the process started.
    started: DateTime<Utc>,
    /// Counts and instants that are single numbers.
    own: Mutex<Own>,
    /// Per receiver and integration; small, and touched once per message.
    channels: Mutex<Channels>,
    /// Alertmanagers, and what is wrong with each.
    replicas: Mutex<BTreeMap<ReplicaKey, Option<Untold>>>,
    /// Probes running now.
    probes_in_flight: AtomicI64,
    /// Log lines by level: error, warn, info.
    logged: [AtomicU64; 3],
}

/// What became of the last attempt to load the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConfigState {
    /// Nothing was loaded yet.
    #[default]
    NotLoaded,
    /// The file on disk is in force.
    Good,
    /// The file on disk was refused; what was loaded before is in force.
    Refused,
}

/// What became of the last write of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WriteState {
    /// Nothing was written yet.
    #[default]
    NotWritten,
    /// It succeeded.
    Good,
    /// It failed.
    Failed,
}

/// Single numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    pub(super) config: ConfigState,
    pub(super) config_loaded_at: Option<DateTime<Utc>>,
    pub(super) config_loads: u64,
    pub(super) config_failures: u64,
    pub(super) last_tick: Option<DateTime<Utc>>,
    pub(super) outbox_tick: Option<DateTime<Utc>>,
    pub(super) mirror_tick: Option<DateTime<Utc>>,
    pub(super) heartbeat: Option<Heartbeats>,
    pub(super) missed_runs: u64,
    pub(super) write: WriteState,
    pub(super) written_at: Option<DateTime<Utc>>,
    pub(super) dead: u64,
    pub(super) external_url: Option<String>,
}

/// Numbers of the heartbeat.
#[derive(Debug, Clone, Default)]
pub(super) struct Heartbeats {
    pub(super) failures: u64,
    pub(super) last_success: Option<DateTime<Utc>>,
}

/// Numbers per receiver.
#[derive(Debug, Clone, Default)]
pub(super) struct Channels {
    pub(super) sent: BTreeMap<ChannelKey, Channel>,
    pub(super) durations: BTreeMap<Integration, Durations>,
    /// By receiver and reason.
    pub(super) suppressed: BTreeMap<(Arc<str>, Hush), u64>,
}

/// Numbers of one receiver and integration.
#[derive(Debug, Clone, Default)]
pub(super) struct Channel {
    pub(super) composed: u64,
    pub(super) given_up: u64,
    pub(super) requests: u64,
    pub(super) requests_failed: u64,
    pub(super) pending: u64,
    pub(super) oldest_pending: Option<DateTime<Utc>>,
    pub(super) last_success: Option<DateTime<Utc>>,
}

/// A histogram: how many observations fell into each bucket, not cumulated; the last counts those above all bounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations {
    pub(super) buckets: [u64; DURATION_BUCKETS.len() + 1],
    pub(super) sum: f64,
}

/// One copy of everything, for one scrape.
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub(super) started: DateTime<Utc>,
    pub(super) own: Own,
    pub(super) channels: Channels,
    pub(super) probes_in_flight: i64,
    /// By level: error, warn, info.
    pub(super) logged: [u64; 3],
}

impl Telemetry {
    /// Everything at zero; `started` is when the process started.
    pub fn new(started: DateTime<Utc>) -> Self {
        Self {
            started,
            own: Mutex::default(),
            channels: Mutex::default(),
            replicas: Mutex::default(),
            probes_in_flight: AtomicI64::new(0),
            logged: Default::default(),
        }
    }

    /// When the process started.
    pub fn started(&self) -> DateTime<Utc> {
        self.started
    }

    /// A configuration was loaded and is in force since `now`.
    pub fn config_loaded(&self, now: DateTime<Utc>) {
        let mut own = self.own();
        own.config = ConfigState::Good;
        own.config_loaded_at = Some(now);
        own.config_loads += 1;
    }

    /// A configuration was refused; the one before stays in force.
    pub fn config_failed(&self) {
        let mut own = self.own();
        own.config = ConfigState::Refused;
        own.config_loads += 1;
        own.config_failures += 1;
    }

    /// What became of the last attempt to load the configuration.
    pub fn config_state(&self) -> ConfigState {
        self.own().config
    }

    /// Sets the address under which people reach this exporter, if one is configured; a slash at its end is left out.
    pub fn set_external_url(&self, url: Option<&str>) {
        self.own().external_url = url.map(|it| it.trim_end_matches('/').to_owned());
    }

    /// The scheduler loop ran at `now`.
    pub fn scheduler_ticked(&self, now: DateTime<Utc>) {
        self.own().last_tick = Some(now);
    }

    /// When the scheduler loop last ran; `None` before its first round.
    pub fn last_tick(&self) -> Option<DateTime<Utc>> {
        self.own().last_tick
    }

    /// The outbox looked at the store at `now`, and could.
    pub fn outbox_ticked(&self, now: DateTime<Utc>) {
        self.own().outbox_tick = Some(now);
    }

    /// When the outbox last looked at the store.
    pub fn outbox_tick(&self) -> Option<DateTime<Utc>> {
        self.own().outbox_tick
    }

    /// The loop that tells Alertmanagers ran at `now`.
    pub fn mirror_ticked(&self, now: DateTime<Utc>) {
        self.own().mirror_tick = Some(now);
    }

    /// When the loop that tells Alertmanagers last ran.
    pub fn mirror_tick(&self) -> Option<DateTime<Utc>> {
        self.own().mirror_tick
    }

    /// Lets the series of the heartbeat exist while one is configured.
    pub fn register_heartbeat(&self, is_configured: bool) {
        let mut own = self.own();
        own.heartbeat = is_configured.then(|| own.heartbeat.take().unwrap_or_default());
    }

    /// The heartbeat was sent and accepted at `now`.
    pub fn heartbeat_sent(&self, now: DateTime<Utc>) {
        if let Some(it) = &mut self.own().heartbeat {
            it.last_success = Some(now);
        }
    }

    /// The heartbeat was due, and it was not accepted, or not sent on purpose.
    pub fn heartbeat_failed(&self) {
        if let Some(it) = &mut self.own().heartbeat {
            it.failures += 1;
        }
    }

    /// `n` scheduled probes were skipped.
    pub fn runs_missed(&self, n: u64) {
        self.own().missed_runs += n;
    }

    /// A probe started. Each call is followed by one of `probe_finished`, also if the probe is given up.
    pub fn probe_started(&self) {
        self.probes_in_flight.fetch_add(1, Relaxed);
    }

    /// A probe ended.
    pub fn probe_finished(&self) {
        self.probes_in_flight.fetch_sub(1, Relaxed);
    }

    /// Makes the series of each channel of the configuration exist at zero. What is already counted stays.
    pub fn register_targets(&self, targets: impl IntoIterator<Item = ChannelKey>) {
        let mut channels = self.channels();
        for (receiver, integration) in targets {
            if integration.has_messages() {
                channels.durations.entry(integration).or_default();
                for why in Hush::ALL {
                    channels.suppressed.entry((Arc::clone(&receiver), why)).or_default();
                }
            }
            channels.sent.entry((receiver, integration)).or_default();
        }
    }

    /// A message was composed and committed; its first attempt follows.
    pub fn notification_composed(&self, target: &Target) {
        self.channel(target, |it| it.composed += 1);
    }

    /// A notice to `receiver` was held back.
    pub fn notification_suppressed(&self, receiver: &Arc<str>, why: Hush) {
        *self.channels().suppressed.entry((Arc::clone(receiver), why)).or_default() += 1;
    }

    /// A delivery was attempted, first or again.
    pub fn request_made(&self, target: &Target) {
        self.channel(target, |it| it.requests += 1);
    }

    /// A delivery attempt failed.
    pub fn request_failed(&self, target: &Target) {
        self.channel(target, |it| it.requests_failed += 1);
    }

    /// A message was given up.
    pub fn notification_given_up(&self, target: &Target) {
        self.channel(target, |it| it.given_up += 1);
    }

    /// A message was accepted by its receiver at `now`, `took` after its first attempt began.
    pub fn notification_delivered(&self, target: &Target, now: DateTime<Utc>, took: Duration) {
        self.channel(target, |it| it.last_success = Some(now));
        let seconds = took.as_secs_f64();
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound);
        let mut channels = self.channels();
        let durations = channels.durations.entry(target.integration).or_default();
        durations.buckets[bucket.unwrap_or(DURATION_BUCKETS.len())] += 1;
        durations.sum += seconds;
    }

    /// How many notifications wait per channel, and since when the oldest does; a channel that is left out has none.
    pub fn set_pending(&self, pending: BTreeMap<ChannelKey, (u64, Option<DateTime<Utc>>)>) {
        let mut channels = self.channels();
        for (_, channel) in channels.sent.iter_mut().filter(|((_, it), _)| it.has_messages()) {
            channel.pending = 0;
            channel.oldest_pending = None;
        }
        for (key, (count, oldest)) in pending {
            let channel = channels.sent.entry(key).or_default();
            channel.pending = count;
            channel.oldest_pending = oldest;
        }
    }

    /// Makes the series of each Alertmanager's receiver exist. What is wrong with those that stay is kept.
    pub fn register_replicas(&self, keys: &[ReplicaKey]) {
        self.register_targets(keys.iter().map(|it| (Arc::clone(&it.0), Integration::Alertmanager)));
        let mut replicas = self.replicas();
        replicas.retain(|key, _| keys.contains(key));
        for key in keys {
            replicas.entry(key.clone()).or_default();
        }
        drop(replicas);
        self.show_untold();
    }

    /// A request to an Alertmanager was made.
    pub fn replica_asked(&self, keys: &[ReplicaKey]) {
        for (receiver, ..) in keys {
            self.of_alertmanager(receiver, |it| it.requests += 1);
        }
    }

    /// A request to an Alertmanager failed.
    pub fn replica_failed(&self, keys: &[ReplicaKey]) {
        for (receiver, ..) in keys {
            self.of_alertmanager(receiver, |it| it.requests_failed += 1);
        }
    }

    /// An Alertmanager was told `count` alerts at `now`, or why not.
    pub fn replica_settled(
        &self,
        keys: &[ReplicaKey],
        count: usize,
        failure: Option<&str>,
        now: DateTime<Utc>,
    ) {
        for key in keys {
            if failure.is_none() {
                self.of_alertmanager(&key.0, |it| it.last_success = Some(now));
            }
            if let Some(replica) = self.replicas().get_mut(key) {
                let since = replica.as_ref().map_or(now, |it| it.since);
                *replica = failure.map(|why| Untold {
                    receiver: Arc::clone(&key.0),
                    replica: Arc::clone(&key.2),
                    since,
                    why: why.to_owned(),
                    count: u64::try_from(count).unwrap_or(u64::MAX),
                });
            }
        }
        self.show_untold();
    }

    /// The Alertmanagers that could not be told what fires.
    pub fn untold(&self) -> Vec<Untold> {
        self.replicas().values().flatten().cloned().collect()
    }

    /// An alert waits while no Alertmanager of its receiver takes it: they tell each other.
    fn show_untold(&self) {
        let mut by_receiver: BTreeMap<Arc<str>, Vec<Option<Untold>>> = BTreeMap::new();
        // Kept until the end: two Alertmanagers at once must not write each other's past.
        let replicas_now = self.replicas();
        for (key, untold) in replicas_now.iter() {
            by_receiver.entry(Arc::clone(&key.0)).or_default().push(untold.clone());
        }
        for ((_, integration), channel) in &mut self.channels().sent {
            if *integration == Integration::Alertmanager {
                (channel.pending, channel.oldest_pending) = (0, None);
            }
        }
        for (receiver, replicas) in by_receiver {
            let untold: Option<Vec<Untold>> = replicas.into_iter().collect();
            let untold = untold.unwrap_or_default();
            let count = untold.iter().map(|it| it.count).min().unwrap_or(0);
            let since = untold.iter().map(|it| it.since).max().filter(|_| 0 < count);
            self.of_alertmanager(&receiver, |it| {
                it.pending = count;
                it.oldest_pending = since;
            });
        }
    }

    /// Sets how many notifications were given up for good, as far as the store remembers.
    pub fn set_dead(&self, count: u64) {
        self.own().dead = count;
    }

    /// How many notifications wait in channels whose oldest was raised before `before`, and when that was.
    pub fn overdue(&self, before: DateTime<Utc>) -> Option<(u64, DateTime<Utc>)> {
        let channels = self.channels();
        let late = channels
            .sent
            .values()
            .filter_map(|it| Some((it.pending, it.oldest_pending.filter(|at| *at < before)?)));
        late.reduce(|(count, oldest), (more, at)| (count + more, oldest.min(at)))
    }

    /// How many notifications were given up for good, as far as the store remembers.
    pub fn dead(&self) -> u64 {
        self.own().dead
    }

    /// The store committed at `now`.
    pub fn state_written(&self, now: DateTime<Utc>) {
        let mut own = self.own();
        own.write = WriteState::Good;
        own.written_at = Some(now);
    }

    /// The store could not commit.
    pub fn state_write_failed(&self) {
        self.own().write = WriteState::Failed;
    }

    /// What became of the last write of the store.
    pub fn write_state(&self) -> WriteState {
        self.own().write
    }

    /// A log line of `level` was written; below `info` nothing is counted.
    pub fn logged(&self, level: tracing::Level) {
        let at = match level {
            tracing::Level::ERROR => 0,
            tracing::Level::WARN => 1,
            tracing::Level::INFO => 2,
            _ => return,
        };
        self.logged[at].fetch_add(1, Relaxed);
    }

    /// One copy of everything.
    pub(super) fn values(&self) -> Values {
        Values {
            started: self.started,
            own: self.own().clone(),
            channels: self.channels().clone(),
            probes_in_flight: self.probes_in_flight.load(Relaxed),
            logged: [0, 1, 2].map(|at| self.logged[at].load(Relaxed)),
        }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replicas(&self) -> MutexGuard<'_, BTreeMap<ReplicaKey, Option<Untold>>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_alertmanager(&self, receiver: &Arc<str>, change: impl FnOnce(&mut Channel)) {
        let key = (Arc::clone(receiver), Integration::Alertmanager);
        change(self.channels().sent.entry(key).or_default());
    }

    fn channel(&self, target: &Target, change: impl FnOnce(&mut Channel)) {
        let key = (Arc::clone(&target.receiver), target.integration);
        change(self.channels().sent.entry(key).or_default());
    }
}
