//! Loop 1: schedule, probe, decide, record.
//!
//! The monitor is the only writer of states. It does not walk all credentials: two ordered queues say who is to be
//! probed and for whom time alone calls for a decision (a step, a reminder).
//!
//! What somebody is told, an expiry that changed and whatever else would be missed after a crash is recorded first,
//! in one transaction for all probes that finished together, and only then takes effect and is shown; if the record
//! fails it is forgotten, and the next probe decides again. That a credential was probed once more with the same result
//! is recorded with the next such transaction, within seconds.

mod digest;
mod list;
mod record;
mod rest;
mod slot;
mod standing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::list::List;
use self::record::{Committed, Draft, Unsaved};
use self::rest::Heeded;
use self::slot::{PlatformSlot, Slot};
use crate::alert::{self, Decision};
use crate::config::{Config, CredentialId, CredentialKind, FollowUp};
use crate::delivery::{self, Standing, Subject};
use crate::metrics::Telemetry;
use crate::observation::Observation;
use crate::probe::Prober;
use crate::status::{Board, CredentialStatus};
use crate::store::Store;
use crate::time;

/// How many finished probes are recorded in one transaction.
const BATCH_MAX: usize = 512;

/// A queue that is due again at once is looked at no more often than this.
const WAKE_MIN: TimeDelta = TimeDelta::seconds(1);

/// How soon something is probed again whose result could not be recorded.
const COMMIT_AGAIN: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// The clock was set back by more than this: what was planned is planned anew.
const CLOCK_STEP_MAX: TimeDelta = TimeDelta::seconds(60);

/// Asks the monitor to probe a credential now; the answer is its status after the probe has taken effect.
#[derive(Debug)]
pub struct ProbeRequest {
    /// Which credential; the sender is dropped without an answer if it is not configured.
    pub id: CredentialId,
    /// Where the status goes.
    pub reply: oneshot::Sender<Arc<CredentialStatus>>,
}

/// Asks the monitor what fires now, for Alertmanagers.
pub type StandingRequest = oneshot::Sender<Vec<Standing>>;

/// What the monitor shares with the rest of the program.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The embedded store.
    pub store: Store,
    /// Where the present view goes.
    pub board: Arc<Board>,
    /// The exporter's own counters.
    pub telemetry: Arc<Telemetry>,
    /// Tells the outbox that something is owed.
    pub owed: Arc<Notify>,
    /// Tells who holds what fires that it may have changed.
    pub changed: Arc<Notify>,
    /// What is wrong with the store, for the page.
    pub store_error: Arc<std::sync::RwLock<Option<String>>>,
}

/// Loop 1.
pub struct Monitor {
    config: Arc<Config>,
    shared: Shared,
    slots: Vec<Slot>,
    platforms: Vec<PlatformSlot>,
    /// The lists of keys, by the position of the credential that each is.
    lists: BTreeMap<usize, List>,
    by_id: HashMap<CredentialId, usize>,
    /// When credentials are to be probed; one in flight or waiting for its turn is not in here.
    runs: BTreeSet<(DateTime<Utc>, usize)>,
    /// When time alone calls for a decision.
    wakes: BTreeSet<(DateTime<Utc>, usize)>,
    last_tick: Option<DateTime<Utc>>,
    unsaved: Unsaved,
    /// When the last digest was due, or since when one could have been.
    digest_from: DateTime<Utc>,
}

impl Monitor {
    /// Builds the monitor of a configuration on what the store remembers, forgets subjects that are no longer
    /// configured, and shows the first view.
    ///
    /// # Errors
    /// A TLS file cannot be used, or the store cannot be read.
    pub async fn new(
        config: Arc<Config>,
        shared: Shared,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        // What can be refused is built first: a configuration that is not used must forget nothing.
        let probers = probers(&config)?;
        let keep = config.credentials().map(|(_, it)| it.id.to_string());
        let keep: Vec<String> =
            keep.chain(config.platforms.iter().map(|it| it.name.to_string())).collect();
        for key in shared
            .store
            .forget_others(keep, now)
            .await
            .context("cannot forget what is not configured")?
        {
            tracing::warn!(subject = key, "{key} is no longer configured, its alerts end");
        }
        let mut remembered = shared.store.load().await.context("cannot load what is remembered")?;
        let mut monitor = Self {
            config: config.clone(),
            shared,
            slots: Vec::new(),
            platforms: Vec::new(),
            lists: BTreeMap::new(),
            by_id: HashMap::new(),
            runs: BTreeSet::new(),
            wakes: BTreeSet::new(),
            last_tick: None,
            unsaved: Unsaved::default(),
            digest_from: remembered.digest_at.unwrap_or(now),
        };
        for (platform, prober) in config.platforms.iter().zip(probers) {
            let state = remembered.platforms.remove(&platform.name).unwrap_or_default();
            monitor.platforms.push(PlatformSlot::new(platform.clone(), prober, state));
            for credential in &platform.credentials {
                let state = remembered.credentials.remove(&credential.id).unwrap_or_default();
                let refused = state.rejections + state.refusals;
                let prober = &monitor.platforms[monitor.platforms.len() - 1].prober;
                let at = state.last_run.unwrap_or(now);
                let started = monitor.shared.telemetry.started();
                prober.remember_refusals(credential, refused, at, started);
                let slot = Slot::new(
                    monitor.platforms.len() - 1,
                    platform,
                    credential.clone(),
                    state,
                    now,
                );
                if let CredentialKind::Inventory(inventory) = &credential.kind {
                    let of_list = remembered.lists.remove(&credential.id).unwrap_or_default();
                    let (row, at) = (monitor.lists.len(), monitor.slots.len());
                    monitor.lists.insert(at, List::new(Arc::clone(inventory), row, of_list, now));
                }
                monitor.by_id.insert(credential.id.clone(), monitor.slots.len());
                monitor.slots.push(slot);
            }
        }
        monitor.forget_future(now);
        let credentials = (0..monitor.slots.len()).map(|at| monitor.plan(at, now)).collect();
        let platforms = monitor.platforms.iter().map(|it| Arc::new(it.status(now))).collect();
        let list = |(at, list): (&usize, &List)| Arc::new(monitor.list_status(*at, list));
        let lists = monitor.lists.iter().map(list).collect();
        monitor.shared.board.replace(credentials, platforms, lists);
        Ok(monitor)
    }

    /// Runs until `stop` says so. Probes in flight are then given up; what has finished is recorded.
    pub async fn run(
        mut self,
        requests: &mut mpsc::Receiver<ProbeRequest>,
        mut asked: mpsc::Receiver<StandingRequest>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut flying = JoinSet::new();
        loop {
            let now = time::now();
            self.tick(now).await;
            self.launch(&mut flying, time::now);
            let wake = self.next_wake(now);
            tokio::select! {
                Some(first) = flying.join_next() => {
                    let landed = std::iter::once(first).chain(std::iter::from_fn(|| flying.try_join_next()));
                    let landed: Result<Vec<_>, _> = landed.take(BATCH_MAX).collect();
                    let landed = match landed {
                        Ok(landed) => landed,
                        Err(error) => {
                            // Which credential it was is not known: a new start probes them all.
                            tracing::error!("a probe died, which is a bug, please report it: {error}");
                            break;
                        }
                    };
                    self.settle(landed, time::now()).await;
                }
                Some(request) = requests.recv() => self.accept(request, time::now()),
                // Who asked may have gone away with a reload.
                Some(reply) = asked.recv() => drop(reply.send(self.standing(time::now()))),
                () = time::sleep_until(wake) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.save(time::now()).await;
    }

    /// One step without a socket: decides what time alone calls for and queues the probes that are due.
    pub async fn tick(&mut self, now: DateTime<Utc>) {
        self.shared.telemetry.scheduler_ticked(now);
        if self.last_tick.is_some_and(|last| now < last - CLOCK_STEP_MAX) {
            self.clock_set_back(now).await;
            self.runs.clear();
            for at in 0..self.slots.len() {
                if !self.slots[at].is_busy() {
                    self.slots[at].next_run = self.slots[at].scheduled_after(now);
                    self.plan(at, now);
                }
            }
        }
        self.last_tick = Some(now);
        while let Some((at, slot)) = self.runs.first().copied().filter(|(at, _)| *at <= now) {
            self.runs.remove(&(at, slot));
            match self.waits_for_probes(slot, now) {
                Some(later) => {
                    self.slots[slot].next_run = later;
                    self.runs.insert((later, slot));
                }
                None => self.queue(slot),
            }
        }
        self.pass(now).await;
        if self.unsaved.is_due(now) {
            self.save(now).await;
        }
    }

    /// What was planned or told in a future that is now none: reminders and messages would wait for it.
    async fn clock_set_back(&mut self, now: DateTime<Utc>) {
        tracing::warn!("the clock was set back, planning everything anew");
        self.forget_future(now);
        for platform in &mut self.platforms {
            platform.rest.end();
        }
        self.unsaved.add(0..self.slots.len(), 0..self.platforms.len());
        if let Err(error) = self.shared.store.clock_set_back(now).await {
            self.complain(format!("{error:#}"));
        }
        self.shared.owed.notify_one();
    }

    /// Nothing was told later than `now`: reminders and the digest would wait for it. What says so was written before the
    /// clock was set back, perhaps by a process that ran before.
    fn forget_future(&mut self, now: DateTime<Utc>) {
        let credentials =
            self.slots.iter_mut().flat_map(|it| [&mut it.state.lifetime, &mut it.state.access]);
        let platforms = self
            .platforms
            .iter_mut()
            .flat_map(|it| [&mut it.state.unreachable, &mut it.state.skew]);
        for firing in credentials.chain(platforms).flatten() {
            firing.told_at = firing.told_at.min(now);
        }
        self.digest_from = self.digest_from.min(now);
    }

    /// Probes everything that is due at `now`, to the end, and lets it take effect: the whole of loop 1 as one call.
    pub async fn step(&mut self, now: DateTime<Utc>, clock: fn() -> DateTime<Utc>) {
        self.tick(now).await;
        let mut flying = JoinSet::new();
        self.launch(&mut flying, clock);
        while let Some(first) = flying.join_next().await {
            let landed: Vec<_> = first.into_iter().collect();
            self.settle(landed, now).await;
            self.launch(&mut flying, clock);
        }
    }

    /// When the next step has something to do.
    pub fn next_wake(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let run = self.runs.first().map(|(at, _)| *at);
        let alert = self.wakes.first().map(|(at, _)| (*at).max(now + WAKE_MIN));
        let platform = self.platforms.iter().filter_map(|it| it.state.wake_at(&it.platform.policy));
        let platform = platform.min().map(|at| at.max(now + WAKE_MIN));
        let save = self.unsaved.due_at();
        let list = self.lists.values().filter_map(List::wake_at).min();
        let list = list.map(|at| at.max(now + WAKE_MIN));
        let waiting = self.platforms.iter().filter(|it| !it.waiting.is_empty());
        let rested = waiting.filter_map(|it| it.rest.until(now)).min();
        let digest = self.digest_at().map(|at| at.max(now + WAKE_MIN));
        [run, alert, platform, list, save, rested, digest]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn accept(&mut self, request: ProbeRequest, now: DateTime<Utc>) {
        let Some(&at) = self.by_id.get(&request.id) else { return };
        let slot = &self.slots[at];
        let rests = self.platforms[slot.platform].rest.until(now).is_some();
        let must_wait = match slot.busy {
            slot::Busy::No => rests || slot.waits_for_schedule(),
            slot::Busy::Waiting => rests,
            slot::Busy::InFlight => false,
        };
        if must_wait {
            // A client that has gone away needs no answer.
            let _ = request.reply.send(Arc::new(self.slots[at].status()));
            return;
        }
        self.slots[at].replies.push(request.reply);
        if !self.slots[at].is_busy() {
            let run = self.slots[at].next_run;
            self.runs.remove(&(run, at));
            self.queue(at);
        }
    }

    fn queue(&mut self, at: usize) {
        self.slots[at].busy = slot::Busy::Waiting;
        self.platforms[self.slots[at].platform].waiting.push_back(at);
    }

    /// Starts waiting probes as far as the bound of each platform allows.
    fn launch(&mut self, flying: &mut JoinSet<(usize, Observation)>, clock: fn() -> DateTime<Utc>) {
        let now = clock();
        for platform in &mut self.platforms {
            let max = platform.rest.in_flight_max(platform.platform.max_concurrent_probes, now);
            while platform.in_flight < max {
                let Some(at) = platform.waiting.pop_front() else { break };
                platform.in_flight += 1;
                let slot = &mut self.slots[at];
                slot.busy = slot::Busy::InFlight;
                self.shared.telemetry.probe_started();
                let (prober, credential) = (platform.prober.clone(), slot.credential.clone());
                flying.spawn(async move { (at, prober.probe(&credential, clock).await) });
            }
        }
    }

    /// Takes finished probes into account: decides, records, shows, plans.
    async fn settle(&mut self, landed: Vec<(usize, Observation)>, now: DateTime<Utc>) {
        let mut draft = Draft::default();
        let mut resting = BTreeSet::new();
        for (at, observation) in &landed {
            self.shared.telemetry.probe_finished();
            let slot = &mut self.slots[*at];
            slot.busy = slot::Busy::No;
            self.platforms[slot.platform].in_flight -= 1;
            self.platforms[slot.platform].count(observation);
            if self.heed_rest(*at, observation, now) != Heeded::AsBefore {
                resting.insert(self.slots[*at].platform);
            }
            self.log(*at, observation);
            let seen_at = observation.at.max(now);
            let mut again = self.decide(&mut draft, *at, Some(observation), seen_at);
            if let Some(listing) = &observation.listing {
                again = self.reconcile(&mut draft, *at, listing, seen_at).or(again);
            }
            let slot = &mut self.slots[*at];
            let again = match slot.credential.kind.follow_up() {
                FollowUp::Soon => again,
                FollowUp::BySchedule => None,
            };
            let scheduled = slot.scheduled_after(now);
            self.shared.telemetry.runs_missed(slot.missed(now));
            slot.next_run = again.map_or(scheduled, |wait| scheduled.min(time::add(now, wait)));
        }
        let platforms = draft.platforms.keys().copied().chain(resting.iter().copied()).collect();
        let committed = self.commit(draft, now).await;
        self.postpone(&resting, now);
        for (at, _) in landed {
            let slot = &mut self.slots[at];
            match (committed, slot.rest()) {
                (Committed::Yes, Some(rest)) => {
                    slot.next_run = slot.scheduled_after(now).max(time::add(now, rest));
                }
                // What was decided is forgotten: a list may have to wait for hours to be read again.
                (Committed::No, _) if slot.credential.kind.follow_up() == FollowUp::Soon => {
                    slot.next_run = slot.next_run.min(time::add(now, COMMIT_AGAIN));
                }
                (Committed::Yes, None) | (Committed::No, _) => {}
            }
            if let Some(until) = self.platforms[slot.platform].rest.until(now) {
                slot.next_run = slot.next_run.max(until);
            }
            let status = self.plan(at, now);
            for reply in std::mem::take(&mut self.slots[at].replies) {
                // A client that has gone away needs no answer.
                let _ = reply.send(status.clone());
            }
            self.show_list(at);
        }
        self.show(platforms, now);
    }

    /// Puts the rows of these platforms onto the board.
    fn show(&self, platforms: BTreeSet<usize>, now: DateTime<Utc>) {
        let row = |at: usize| (at, Arc::new(self.platforms[at].status(now)));
        self.shared.board.update([], platforms.into_iter().map(row));
    }

    /// Decides what the passing of time calls for, without a probe.
    async fn pass(&mut self, now: DateTime<Utc>) {
        let mut draft = Draft::default();
        let mut due = Vec::new();
        while let Some((at, slot)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, slot));
            self.slots[slot].wake = None;
            due.push(slot);
        }
        for &at in &due {
            self.decide(&mut draft, at, None, now);
        }
        for at in 0..self.platforms.len() {
            let policy = self.platforms[at].platform.policy.clone();
            if self.platforms[at].state.wake_at(&policy).is_some_and(|wake| wake <= now) {
                let decision = self.platforms[at].state.pass(&policy, now);
                let probed =
                    self.slots.iter().find(|slot| slot.platform == at).map(|it| it.state.clone());
                draft.owe_platform(
                    &self.config,
                    &self.platforms[at],
                    &decision,
                    &probed.unwrap_or_default(),
                );
                draft.platforms.insert(at, decision.next);
            }
        }
        self.pass_lists(&mut draft, now);
        self.pass_digest(&mut draft, now);
        let reminded = draft.platforms.keys().copied().collect();
        let lists: Vec<usize> = draft.lists.keys().copied().collect();
        if !draft.is_empty() {
            self.commit(draft, now).await;
        }
        for at in due {
            self.plan(at, now);
        }
        self.show(reminded, now);
        for at in lists {
            self.show_list(at);
        }
    }

    /// Decides for one credential, into the draft. Says how soon to ask again.
    fn decide(
        &self,
        draft: &mut Draft,
        at: usize,
        observation: Option<&Observation>,
        now: DateTime<Utc>,
    ) -> Option<std::time::Duration> {
        let slot = &self.slots[at];
        let platform = &self.platforms[slot.platform];
        let before = draft.credentials.get(&at).unwrap_or(&slot.state);
        let around = draft.platforms.get(&slot.platform).unwrap_or(&platform.state);
        let decision = alert::decide(&slot.credential.policy, around, before, observation, now);
        let Decision { next, events, platform: platform_decision, again } = decision;
        for event in &events {
            draft.told.push((slot.credential.id.to_string(), event.clone()));
            let subject = Subject::Credential(&platform.platform, &slot.credential, &next);
            draft.owed.push(delivery::owed(&self.config, subject, event));
        }
        if let Some(decision) = platform_decision {
            draft.owe_platform(&self.config, platform, &decision, &next);
            draft.platforms.insert(slot.platform, decision.next);
        }
        draft.credentials.insert(at, next);
        again
    }

    /// Puts a credential back into the queues and its row onto the board.
    fn plan(&mut self, at: usize, now: DateTime<Utc>) -> Arc<CredentialStatus> {
        let slot = &mut self.slots[at];
        if !slot.is_busy() {
            self.runs.insert((slot.next_run, at));
        }
        if let Some(old) = slot.wake.take() {
            self.wakes.remove(&(old, at));
        }
        slot.wake = alert::wake_at(&slot.credential.policy, &slot.state);
        if let Some(wake) = &mut slot.wake {
            if *wake <= now && self.last_tick.is_some() {
                // Decided a moment ago: what is still due then waits for the next look.
                *wake = now + WAKE_MIN;
            }
            self.wakes.insert((*wake, at));
        }
        let row = Arc::new(slot.status());
        // Before the first tick there is no board to put it onto.
        if self.last_tick.is_some() {
            self.shared.board.update([(at, row.clone())], []);
        }
        row
    }

    /// Lets the platform rest if it asked for that.
    fn heed_rest(&mut self, at: usize, observation: &Observation, now: DateTime<Utc>) -> Heeded {
        let platform = &mut self.platforms[self.slots[at].platform];
        let heeded = platform.rest.heed(observation.rest, now);
        if let (Heeded::Begun, Some(rest)) = (heeded, observation.rest) {
            let (name, rest_secs) = (&platform.platform.name, rest.as_secs());
            tracing::warn!(
                platform = %name, rest_secs,
                "platform {name} allows no more requests for now; its probes wait {rest_secs} s; a longer schedule \
                 needs fewer requests"
            );
        }
        heeded
    }

    /// Moves the next runs of platforms that rest to the end of the rest.
    fn postpone(&mut self, platforms: &BTreeSet<usize>, now: DateTime<Utc>) {
        if platforms.is_empty() {
            return;
        }
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            let rest = Some(slot.platform).filter(|it| platforms.contains(it));
            let Some(until) = rest.and_then(|it| self.platforms[it].rest.until(now)) else {
                continue;
            };
            if slot.busy == slot::Busy::InFlight || until <= slot.next_run {
                continue;
            }
            self.runs.remove(&(slot.next_run, at));
            slot.next_run = until;
            self.plan(at, now);
        }
    }

    fn log(&self, at: usize, observation: &Observation) {
        let id = &self.slots[at].credential.id;
        let took_ms = observation.took.as_millis();
        match &observation.result {
            Ok(_) => tracing::debug!(credential.id = %id, took_ms, "probe of {id} succeeded"),
            Err(failure) => {
                let last = self.slots[at].state.failure.as_ref();
                let is_news = last.is_none_or(|(reason, text)| {
                    (*reason, text) != (failure.reason, &failure.message)
                });
                // The same failure again is not news.
                if is_news {
                    tracing::warn!(
                        credential.id = %id, reason = failure.reason.label(), took_ms,
                        "probe of {id} failed: {}", failure.message
                    );
                } else {
                    tracing::debug!(credential.id = %id, reason = failure.reason.label(), took_ms, "probe of {id} fails still");
                }
            }
        }
    }
}

/// One prober for each platform of a configuration, in its order.
///
/// # Errors
/// A TLS file cannot be used.
pub fn probers(config: &Config) -> anyhow::Result<Vec<Arc<Prober>>> {
    let prober = |platform: &Arc<crate::config::Platform>| {
        Prober::new(platform, config.global.probe_timeout)
            .map(Arc::new)
            .with_context(|| format!("cannot prepare probes of platform {}", platform.name))
    };
    config.platforms.iter().map(prober).collect()
}
