//! What the monitor holds of one credential and of one platform, and how it is shown.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::oneshot;

use super::rest::Rest;
use crate::alert::{AlertName, Firing, PlatformState, State};
use crate::config::{Credential, FollowUp, Platform};
use crate::observation::{FailureReason, Observation};
use crate::probe::Prober;
use crate::schedule;
use crate::status::{CredentialStatus, FiringAlert, PlatformStatus};
use crate::time;

/// The longest that first probes after a start are spread over.
const START_SPREAD_MAX: Duration = Duration::from_secs(30);

/// The share of that spread per credential of the platform: ten a second.
const START_SPREAD_EACH: Duration = Duration::from_millis(100);

/// The most runs that are counted as missed after one suspend.
const MISSED_MAX: u64 = 1_000;

/// How long what is read with a borrowed key rests when the owner of that key may not read it. Rights change rarely, and
/// a reload or a request asks at once.
const FORBIDDEN_REST: Duration = Duration::from_secs(12 * 60 * 60);

/// Whether a probe is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    No,
    Waiting,
    InFlight,
}

/// One credential.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) platform: usize,
    pub(super) credential: Arc<Credential>,
    pub(super) state: State,
    pub(super) next_run: DateTime<Utc>,
    pub(super) wake: Option<DateTime<Utc>>,
    pub(super) busy: Busy,
    pub(super) replies: Vec<oneshot::Sender<Arc<CredentialStatus>>>,
    seed: u64,
}

impl Slot {
    pub(super) fn new(
        at: usize,
        platform: &Platform,
        credential: Arc<Credential>,
        state: State,
        now: DateTime<Utc>,
    ) -> Self {
        let seed = schedule::seed(&credential.id.to_string());
        let many = u32::try_from(platform.credentials.len()).unwrap_or(u32::MAX);
        let spread = START_SPREAD_EACH.saturating_mul(many - 1).min(START_SPREAD_MAX);
        let soon = time::add(
            now,
            spread.mul_f64(f64::from(u32::try_from(seed % 1000).unwrap_or(0)) / 1000.0),
        );
        let planned = state.last_run.and_then(|last| credential.schedule.next_after(last, seed));
        // Never probed, or overdue since the program last ran: soon, and once.
        let next_run = planned.filter(|planned| now < *planned).unwrap_or(soon);
        Self {
            platform: at,
            credential,
            state,
            next_run,
            wake: None,
            busy: Busy::No,
            replies: Vec::new(),
            seed,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy != Busy::No
    }

    /// Whether nobody may have it probed before its next run: a login that was refused, because each attempt counts
    /// towards the lock of the account.
    pub(super) fn waits_for_schedule(&self) -> bool {
        let refused = 0 < self.state.rejections + self.state.refusals;
        refused && self.credential.kind.follow_up() == FollowUp::BySchedule
    }

    /// How long it is not asked after a probe: what the owner of a borrowed key may not read is not asked for again and
    /// again.
    pub(super) fn rest(&self) -> Option<Duration> {
        let is_forbidden =
            self.state.access.as_ref().is_some_and(|it| it.name == AlertName::CredentialForbidden);
        (is_forbidden && self.credential.kind.borrowed_key().is_some()).then_some(FORBIDDEN_REST)
    }

    /// The next run of the schedule; a schedule that has ended runs no more.
    pub(super) fn scheduled_after(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.credential.schedule.next_after(now, self.seed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// How many runs of the schedule passed between the run that has just finished and `now`.
    pub(super) fn missed(&self, now: DateTime<Utc>) -> u64 {
        let mut missed = 0;
        let mut at = self.scheduled_after(self.next_run.min(now));
        while at <= now && missed < MISSED_MAX {
            missed += 1;
            at = self.scheduled_after(at);
        }
        // A first probe or a retry is not of the schedule: it stands for the run that comes while it lasts.
        let is_extra =
            || self.scheduled_after(self.next_run - TimeDelta::milliseconds(1)) != self.next_run;
        if 0 < missed && is_extra() { missed - 1 } else { missed }
    }

    pub(super) fn status(&self) -> CredentialStatus {
        let Credential { id, kind, policy, team, used_by, renewal_note, labels, .. } =
            &*self.credential;
        let state = &self.state;
        CredentialStatus {
            id: id.clone(),
            kind: kind.label(),
            team: team.clone(),
            labels: labels.clone(),
            used_by: used_by.clone(),
            renewal_note: renewal_note.clone(),
            policy: policy.clone(),
            key_id: state.key_id.clone(),
            reading: state.reading,
            observed_at: state.observed_at,
            last_run: state.last_run,
            last_success: state.last_success,
            next_run: Some(self.next_run).filter(|at| *at < DateTime::<Utc>::MAX_UTC),
            interval: self.credential.schedule.longest_gap(),
            took: state.took,
            http_status: state.http_status,
            failure: state.failure.clone(),
            probes_total: state.probes_total,
            probe_failures_total: state.probe_failures_total,
            alerts: shown(state.firing()),
        }
    }
}

/// One platform.
pub(super) struct PlatformSlot {
    pub(super) platform: Arc<Platform>,
    pub(super) prober: Arc<Prober>,
    pub(super) state: PlatformState,
    /// The probes that wait for their turn.
    pub(super) waiting: VecDeque<usize>,
    pub(super) in_flight: usize,
    pub(super) rest: Rest,
    failures: BTreeMap<FailureReason, u64>,
}

impl PlatformSlot {
    pub(super) fn new(platform: Arc<Platform>, prober: Arc<Prober>, state: PlatformState) -> Self {
        Self {
            platform,
            prober,
            state,
            waiting: VecDeque::new(),
            in_flight: 0,
            rest: Rest::default(),
            failures: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, observation: &Observation) {
        if let Err(failure) = &observation.result {
            *self.failures.entry(failure.reason).or_default() += 1;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a clock skew of 2^53 ms does not occur")]
    pub(super) fn status(&self, now: DateTime<Utc>) -> PlatformStatus {
        PlatformStatus {
            name: self.platform.name.clone(),
            urls: self.platform.urls.clone(),
            credentials: self.platform.credentials.len(),
            clock_skew_seconds: self
                .state
                .clock_skew
                .map(|it| it.num_milliseconds() as f64 / 1000.0),
            failures: self.failures.clone(),
            rests_until: self.rest.until(now),
            alerts: shown(self.state.firing()),
        }
    }
}

/// Firing alerts as they are shown, worst first.
fn shown<'a>(firing: impl Iterator<Item = &'a Firing>) -> Vec<FiringAlert> {
    let mut alerts: Vec<FiringAlert> = firing.map(FiringAlert::of).collect();
    alerts.sort_by_key(|it| std::cmp::Reverse(it.severity));
    alerts
}
