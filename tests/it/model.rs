//! What is delivered, against a model of a page: random histories of probes, renewals, channels that fail, silences,
//! mutes, reloads and crashes at a simulated time, over the real decisions, the real ledger and real HTTP.
//!
//! The model knows nothing of rows, messages and attempts. For each target and thread it holds the newest fact that is not
//! told yet, and what was heard last. Where it depends on the order of retries whether somebody may have been told, both
//! is right.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, RwLock};

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::alert::{self, PlatformState, Reason, State, Status};
use ece_expiry_exporter::app;
use ece_expiry_exporter::config::{Config, Matcher};
use ece_expiry_exporter::delivery::{self, Owed, Silence, Subject, Target, Telling, telling};
use ece_expiry_exporter::metrics::Telemetry;
use ece_expiry_exporter::monitor::Shared;
use ece_expiry_exporter::observation::{Failure, FailureReason, Observation, Reading};
use ece_expiry_exporter::outbox::Outbox;
use ece_expiry_exporter::sim::{Answer, CertificateOptions, Certificates, Sink, SinkOptions};
use ece_expiry_exporter::status::Board;
use ece_expiry_exporter::store::{Batch, Store};
use tokio::sync::Notify;

/// How many histories each of the tests below plays.
const HISTORIES: u64 = 2_500;

/// How much happens in one history.
const EVENTS: usize = 6;

/// The longest that a message waits for its next attempt, and a little more.
const RETRIED_WITHIN: TimeDelta = TimeDelta::minutes(40);

/// The longest that a channel is out of order: below the time after which a message is given up.
const DOWN_EVENTS_MAX: u32 = 2;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(NOW.get()).unwrap()
}

/// A fact that a target is to be told.
#[derive(Debug, Clone)]
struct Pending {
    owed: Owed,
    reason: String,
    mutes: Vec<Arc<str>>,
    /// Whether a message carries it, so that no quiet time holds it back any more.
    composed: Option<DateTime<Utc>>,
    forwarded: bool,
    /// It is right too if this is never delivered.
    optional: bool,
}

/// What a target heard last of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// Nothing, or that it fires.
    Perhaps,
    Fires,
}

#[derive(Debug, Default)]
struct Thread {
    pending: Option<Pending>,
    heard: Option<Heard>,
    keys: BTreeSet<String>,
    /// What was delivered, and whether it had to be.
    delivered: Vec<(Told, bool)>,
    mutes: Vec<Arc<str>>,
}

/// The model.
struct Model {
    threads: BTreeMap<(Target, String), Thread>,
    down: BTreeSet<Arc<str>>,
    silences: Vec<Silence>,
    /// The facts in the order in which they came.
    facts: Vec<String>,
}

impl Model {
    fn owe(&mut self, owed: &Owed) {
        self.facts.push(owed.key.clone());
        match owed.status {
            Status::Firing => {
                for to in &owed.to {
                    self.fire(owed, &to.target, to.mutes.clone(), false);
                }
            }
            Status::Resolved => {
                for ((_, thread), it) in &mut self.threads {
                    if *thread != owed.thread {
                        continue;
                    }
                    let heard = it.heard.unwrap_or(Heard::Nothing);
                    it.pending = None;
                    if heard != Heard::Nothing && it.keys.insert(owed.key.clone()) {
                        it.pending = Some(Pending {
                            owed: owed.clone(),
                            reason: owed.notice.reason.clone(),
                            mutes: it.mutes.clone(),
                            composed: None,
                            forwarded: false,
                            optional: heard == Heard::Perhaps,
                        });
                    }
                }
            }
        }
    }

    fn fire(&mut self, owed: &Owed, target: &Target, mutes: Vec<Arc<str>>, forwarded: bool) {
        let age = |key: &String| self.facts.iter().position(|it| it == key);
        let thread = self.threads.entry((target.clone(), owed.thread.clone())).or_default();
        // What is old news to somebody is not told instead of others.
        if forwarded && thread.keys.iter().any(|it| age(&owed.key) < age(it)) {
            return;
        }
        if !thread.keys.insert(owed.key.clone()) {
            return;
        }
        let untold = thread.pending.as_ref().filter(|it| it.owed.status == Status::Firing);
        let untold = untold.map(|it| it.reason.clone());
        let strongest = [Reason::New, Reason::Escalated].map(Reason::label);
        let reason = strongest.into_iter().find(|it| untold.as_deref() == Some(*it));
        thread.mutes.clone_from(&mutes);
        thread.pending = Some(Pending {
            reason: reason.map_or_else(|| owed.notice.reason.clone(), str::to_owned),
            owed: owed.clone(),
            mutes,
            composed: None,
            forwarded,
            optional: false,
        });
    }

    /// Everything that can be told now is.
    fn step(&mut self, config: &Config, now: DateTime<Utc>) {
        for ((target, _), thread) in &mut self.threads {
            let Some(pending) = &mut thread.pending else { continue };
            let mutes = pending.mutes.iter().filter_map(|it| config.mutes.get(it));
            let (notice, status) = (&pending.owed.notice, pending.owed.status);
            if pending.composed.is_none() {
                match telling(notice, status, mutes, &self.silences, now) {
                    Telling::Now => pending.composed = Some(now),
                    Telling::NotBefore(..) => continue,
                }
            }
            if self.down.contains(&target.receiver) {
                if status == Status::Firing && thread.heard != Some(Heard::Fires) {
                    thread.heard = Some(Heard::Perhaps);
                }
                continue;
            }
            let pending = thread.pending.take().unwrap();
            let notice = &pending.owed.notice;
            let told = Told {
                credential: notice.credential.as_ref().unwrap().name.clone(),
                alert: notice.alert.clone(),
                reason: pending.reason,
                at: notice.at,
            };
            thread.delivered.push((told, !pending.optional));
            thread.heard = Some(match status {
                Status::Firing => Heard::Fires,
                Status::Resolved => Heard::Nothing,
            });
        }
    }

    /// What has failed for long is told to the fallback.
    fn forward(&mut self, config: &Config, now: DateTime<Utc>) {
        let late = |it: &Pending| it.composed.is_some_and(|at| TimeDelta::minutes(10) < now - at);
        let mut forwarded = Vec::new();
        for ((target, _), thread) in &self.threads {
            let Some(pending) = thread.pending.as_ref().filter(|it| late(it) && !it.forwarded)
            else {
                continue;
            };
            if pending.owed.status == Status::Firing {
                forwarded.push((target.clone(), pending.clone()));
            }
        }
        for (target, pending) in forwarded {
            for to in delivery::fallback(config, &target) {
                let mut owed = pending.owed.clone();
                owed.notice.reason.clone_from(&pending.reason);
                self.fire(&owed, &to.target, to.mutes.clone(), true);
            }
        }
    }
}

/// The real thing.
struct Real {
    config: Arc<Config>,
    shared: Shared,
    outbox: Outbox,
}

impl Real {
    async fn start(config: &Arc<Config>, folder: &Path) -> Self {
        let store = Store::open(folder, now()).unwrap().store;
        let shared = Shared {
            store,
            board: Arc::new(Board::default()),
            telemetry: Arc::new(Telemetry::new(now())),
            owed: Arc::new(Notify::new()),
            changed: Arc::new(Notify::new()),
            store_error: Arc::new(RwLock::new(None)),
        };
        let outbox = Self::outbox(config, &shared).await;
        Self { config: config.clone(), shared, outbox }
    }

    async fn outbox(config: &Arc<Config>, shared: &Shared) -> Outbox {
        Outbox::new(config.clone(), shared.clone(), app::origin(config), now()).await.unwrap()
    }

    async fn reload(&mut self) {
        self.outbox = Self::outbox(&self.config, &self.shared).await;
    }

    async fn crash(self, folder: &Path) -> Self {
        let Self { config, shared, outbox } = self;
        drop(outbox);
        let store = shared.store.clone();
        drop(shared);
        store.close().await;
        Self::start(&config, folder).await
    }
}

/// One history.
struct History<'a> {
    random: fastrand::Rng,
    sinks: &'a BTreeMap<Arc<str>, Sink>,
    real: Real,
    model: Model,
    states: Vec<State>,
    down_for: u32,
    log: Vec<String>,
}

impl History<'_> {
    /// Decides for one credential and writes what it calls for together with the next state.
    async fn decide(&mut self, at: usize, observation: Option<&Observation>) {
        let config = self.real.config.clone();
        let (platform, credential) = config.credentials().nth(at).unwrap();
        let (policy, around) = (&credential.policy, PlatformState::default());
        let decision = alert::decide(policy, &around, &self.states[at], observation, now());
        let subject = Subject::Credential(platform, credential, &decision.next);
        let owed: Vec<Owed> =
            decision.events.iter().map(|it| delivery::owed(&config, subject, it)).collect();
        for it in &owed {
            self.log.push(format!("{} owed: {}", now(), it.key));
            self.model.owe(it);
        }
        let credentials = vec![(credential.id.clone(), decision.next.clone())];
        let batch = Batch { credentials, owed, ..Batch::default() };
        self.real.shared.store.record(batch, now()).await.unwrap();
        self.states[at] = decision.next;
    }

    async fn step(&mut self) -> DateTime<Utc> {
        let wake = self.real.outbox.step(now(), now).await.unwrap();
        self.model.step(&self.real.config, now());
        wake
    }

    /// Lets time pass in which the outbox works and nobody decides.
    async fn settle(&mut self, span: TimeDelta) {
        let end = now() + span;
        loop {
            let wake = self.step().await;
            if end <= now() {
                break;
            }
            NOW.set(wake.max(now() + TimeDelta::seconds(1)).min(end).timestamp_millis());
        }
        self.model.forward(&self.real.config, now());
        self.step().await;
    }

    fn repair(&mut self) {
        for name in std::mem::take(&mut self.model.down) {
            self.sinks[&name].set_default(Answer::Status(204));
        }
        self.down_for = 0;
    }

    async fn silence(&mut self) {
        let name = ["a", "b"][self.random.usize(0..2)];
        let silence = Silence {
            id: format!("sil_{}", self.random.u64(..)),
            matchers: vec![Matcher::parse(&format!("credential=\"{name}\"")).unwrap()],
            created_by: "me".to_owned(),
            comment: String::new(),
            created_at: now(),
            starts_at: now(),
            ends_at: now() + TimeDelta::hours(self.random.i64(1..100)),
        };
        self.log.push(format!("{} silence of {name} until {}", now(), silence.ends_at));
        self.real.shared.store.put_silence(silence.clone()).await.unwrap();
        self.model.silences.push(silence);
        self.real.reload().await;
    }

    fn observation(&mut self, at: usize) -> Observation {
        let state = &self.states[at];
        let expires = match state.reading {
            Some(Reading::ExpiresAt(at)) => at,
            _ => now() + TimeDelta::hours(self.random.i64(12..40 * 24)),
        };
        let failure = |reason| Err(Failure { reason, message: "no".to_owned(), reading: None });
        let known = state.key_id.clone().or_else(|| Some("k".to_owned()));
        let (result, http_status, key_id) = match self.random.u8(0..10) {
            0..=3 => (Ok(Reading::ExpiresAt(expires)), 200, known),
            4..=6 => {
                let renewed = now() + TimeDelta::days(self.random.i64(2..60));
                let id = Some(format!("k{}", self.random.u32(..)));
                (Ok(Reading::ExpiresAt(renewed.max(expires + TimeDelta::days(1)))), 200, id)
            }
            7 => (failure(FailureReason::Unauthorized), 401, known),
            8 => (failure(FailureReason::Forbidden), 403, known),
            _ => (failure(FailureReason::HeaderInvalid), 200, known),
        };
        self.log.push(format!("{} probe of {at}: {result:?}", now()));
        Observation { http_status: Some(http_status), key_id, ..Observation::of(now(), result) }
    }

    /// One thing happens, and then the outbox has some time.
    async fn happen(mut self, folder: &Path) -> Self {
        match self.random.u8(0..12) {
            0..=4 => {
                let at = self.random.usize(0..self.states.len());
                let observation = self.observation(at);
                self.decide(at, Some(&observation)).await;
            }
            5..=7 => {
                NOW.set(NOW.get() + self.random.i64(1..72) * 3_600_000);
                self.log.push(format!("{} time has passed", now()));
                self.step().await;
                for at in 0..self.states.len() {
                    self.decide(at, None).await;
                }
            }
            8 => {
                let names: Vec<&Arc<str>> = self.sinks.keys().collect();
                let name = names[self.random.usize(0..names.len())].clone();
                self.log.push(format!("{} {name} is down", now()));
                self.sinks[&name].set_default(Answer::Status(503));
                self.model.down.insert(name);
            }
            9 => self.silence().await,
            10 => {
                self.log.push(format!("{} reload", now()));
                self.real.reload().await;
            }
            _ => {
                self.log.push(format!("{} crash", now()));
                self.real = self.real.crash(folder).await;
            }
        }
        let is_any_down = !self.model.down.is_empty();
        if is_any_down {
            self.down_for += 1;
        }
        if DOWN_EVENTS_MAX < self.down_for {
            self.log.push(format!("{} all channels work", now()));
            self.repair();
        }
        let span = if is_any_down { RETRIED_WITHIN } else { TimeDelta::seconds(1) };
        self.settle(span).await;
        self
    }

    /// Compares what has arrived with what the model says.
    fn check(&self, seed: u64) {
        let mut real: BTreeMap<(String, String), Vec<Told>> = BTreeMap::new();
        for (name, sink) in self.sinks {
            for hook in sink.hooks().iter().filter(|it| it.status_answered == Some(204)) {
                let told = Told::of(&hook.json().unwrap());
                real.entry((name.to_string(), told.thread())).or_default().push(told);
            }
        }
        for ((target, thread), it) in &self.model.threads {
            let place = (target.receiver.to_string(), thread.clone());
            let mut arrived = real.remove(&place).unwrap_or_default().into_iter().peekable();
            for (told, must) in &it.delivered {
                if arrived.peek() == Some(told) {
                    arrived.next();
                } else {
                    assert!(
                        !must,
                        "seed {seed}: {place:?} was not told {told:?}, but {:?}\n{}",
                        arrived.peek(),
                        self.log.join("\n")
                    );
                }
            }
            let rest: Vec<Told> = arrived.collect();
            assert!(rest.is_empty(), "seed {seed}: {place:?}: {rest:?}\n{}", self.log.join("\n"));
        }
        assert!(real.is_empty(), "seed {seed}: {real:?}\n{}", self.log.join("\n"));
    }
}

/// A fact, as a receiver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    credential: String,
    alert: String,
    reason: String,
    at: DateTime<Utc>,
}

impl Told {
    fn of(json: &serde_json::Value) -> Self {
        let field = |path: &str| json.pointer(path).unwrap().as_str().unwrap().to_owned();
        Self {
            credential: field("/data/credential/name"),
            alert: field("/data/alert/name"),
            reason: field("/data/alert/reason"),
            at: field("/timestamp").parse().unwrap(),
        }
    }

    fn thread(&self) -> String {
        let access =
            ["ECECredentialRejected", "ECECredentialForbidden", "ECECredentialExpiryUnknown"];
        let slot = if access.contains(&self.alert.as_str()) { "access" } else { "lifetime" };
        format!("prod/{} {slot}", self.credential)
    }
}

/// The configuration of all histories: two credentials, routes by severity, a window without messages, a fallback and a
/// step that escalates.
fn config(folder: &Path, sinks: &BTreeMap<Arc<str>, Sink>) -> Arc<Config> {
    for (name, sink) in sinks {
        std::fs::write(folder.join(&**name), sink.url()).unwrap();
    }
    // One authority is read faster than all of the system's, at each of thousands of starts.
    let certificates = Certificates::make(&CertificateOptions::default()).unwrap();
    std::fs::write(folder.join("ca.pem"), certificates.ca_pem()).unwrap();
    for name in ["key-a", "key-b"] {
        std::fs::write(folder.join(name), "a2V5OnNlY3JldA==").unwrap();
    }
    let text = "
platforms:
  - name: prod
    urls: [https://127.0.0.1:1]
    credentials:
      - {name: a, api_key_file: key-a, team: owners}
      - {name: b, api_key_file: key-b}
steps:
  - {before: 30d, severity: info}
  - {before: 14d, severity: warning}
  - {before: 7d, severity: critical}
  - {before: 1d, severity: critical, escalate_to: boss}
policy: {failures_before_alert: 1}
mute_time_intervals:
  - {name: night, start: '0 22 * * *', duration: 8h, timezone: UTC, except: [critical]}
route:
  receiver: ops
  routes:
    - {matchers: ['severity=\"critical\"'], receiver: pager, continue: true}
    - {matchers: ['team=\"owners\"'], receiver: team, mute_time_intervals: [night]}
receivers:
  - {name: ops, webhook_configs: [{url_file: ops, timeout: 5s, http_config: {tls_config: {ca_file: ca.pem}}}]}
  - {name: team, webhook_configs: [{url_file: team, timeout: 5s, http_config: {tls_config: {ca_file: ca.pem}}}]}
  - {name: pager, webhook_configs: [{url_file: pager, timeout: 5s, http_config: {tls_config: {ca_file: ca.pem}}}], fallback: boss}
  - {name: boss, webhook_configs: [{url_file: boss, timeout: 5s, http_config: {tls_config: {ca_file: ca.pem}}}]}
";
    Arc::new(Config::parse(text, &folder.join("config.yml")).unwrap_or_else(|it| panic!("{it}")))
}

/// Plays the histories of these seeds.
async fn play(seeds: std::ops::Range<u64>) {
    // In memory if there is such a folder: syncing to a disk proves nothing here, and takes most of the time.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.unwrap();
    let mut sinks = BTreeMap::new();
    for name in ["ops", "team", "pager", "boss"] {
        let sink = Sink::start(SinkOptions::default()).await.unwrap();
        sink.set_default(Answer::Status(204));
        sinks.insert(Arc::from(name), sink);
    }
    let config = config(folder.path(), &sinks);
    for seed in seeds {
        NOW.set(1_793_500_000_000);
        fastrand::seed(seed);
        let store = folder.path().join(seed.to_string());
        let mut history = History {
            random: fastrand::Rng::with_seed(seed),
            sinks: &sinks,
            real: Real::start(&config, &store).await,
            model: Model {
                threads: BTreeMap::new(),
                down: BTreeSet::new(),
                silences: Vec::new(),
                facts: Vec::new(),
            },
            states: vec![State::default(); 2],
            down_for: 0,
            log: Vec::new(),
        };
        for _ in 0..EVENTS {
            history = history.happen(&store).await;
            if history.model.down.is_empty() {
                history.check(seed);
            }
        }
        history.repair();
        history.settle(TimeDelta::days(5)).await;
        history.check(seed);
        drop(history);
        std::fs::remove_dir_all(&store).unwrap();
        sinks.values().for_each(Sink::clear);
    }
}

#[tokio::test]
async fn what_is_delivered_is_what_the_model_says_in_the_first_quarter() {
    play(0..HISTORIES).await;
}

#[tokio::test]
async fn what_is_delivered_is_what_the_model_says_in_the_second_quarter() {
    play(HISTORIES..2 * HISTORIES).await;
}

#[tokio::test]
async fn what_is_delivered_is_what_the_model_says_in_the_third_quarter() {
    play(2 * HISTORIES..3 * HISTORIES).await;
}

#[tokio::test]
async fn what_is_delivered_is_what_the_model_says_in_the_last_quarter() {
    play(3 * HISTORIES..4 * HISTORIES).await;
}
