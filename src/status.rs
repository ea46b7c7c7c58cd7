//! The read model: what metrics, pages and API show. Pure.
//!
//! The loops put what changed onto the `Board`; a reader takes a `Snapshot` (clones of pointers) and renders it
//! without a lock. Readers never touch the store.

mod digest;
mod notification;
mod quiet;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::notification::{Attempt, Fact, Notification, Stage, Wanted};
pub use self::quiet::{Covered, Hushed, Quiet, Watched, covered, suspicions};
use crate::alert::{AlertName, Finding, FindingKind, Firing, Found};
use crate::config::{Config, CredentialId, Policy, Severity};
use crate::delivery::Silence;
use crate::observation::{FailureReason, Reading};

/// What is known of one credential.
#[derive(Debug, Clone)]
pub struct CredentialStatus {
    /// Its identity.
    pub id: CredentialId,
    /// What it is: the label of its `CredentialKind`.
    pub kind: &'static str,
    /// The owning team.
    pub team: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// What breaks.
    pub used_by: Vec<String>,
    /// Where the new secret goes.
    pub renewal_note: Option<String>,
    /// Its policy (thresholds).
    pub policy: Arc<Policy>,
    /// The key's id, if known.
    pub key_id: Option<String>,
    /// The last known expiry; kept while probes fail.
    pub reading: Option<Reading>,
    /// When ECE last confirmed the reading.
    pub observed_at: Option<DateTime<Utc>>,
    /// When the last probe finished.
    pub last_run: Option<DateTime<Utc>>,
    /// When the last successful probe finished.
    pub last_success: Option<DateTime<Utc>>,
    /// When the next probe is due.
    pub next_run: Option<DateTime<Utc>>,
    /// Longest planned gap between two probes.
    pub interval: Duration,
    /// How long the last probe took.
    pub took: Duration,
    /// Its status code.
    pub http_status: Option<u16>,
    /// Why the last probe failed, with its sentence; `None` if it succeeded or none has run.
    pub failure: Option<(FailureReason, String)>,
    /// Probes finished since the start or reload.
    pub probes_total: u64,
    /// Those without success.
    pub probe_failures_total: u64,
    /// The firing alerts, worst first.
    pub alerts: Vec<FiringAlert>,
}

/// A firing alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiringAlert {
    /// Which.
    pub name: AlertName,
    /// How bad.
    pub severity: Severity,
    /// Since when.
    pub starts_at: DateTime<Utc>,
    /// When somebody was last told.
    pub told_at: DateTime<Utc>,
}

impl FiringAlert {
    /// A firing alert as it is shown.
    pub fn of(firing: &Firing) -> Self {
        Self {
            name: firing.name,
            severity: firing.severity,
            starts_at: firing.starts_at,
            told_at: firing.told_at,
        }
    }
}

/// What is known of one platform.
#[derive(Debug, Clone)]
pub struct PlatformStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its base URLs.
    pub urls: Vec<String>,
    /// How many credentials are configured.
    pub credentials: usize,
    /// This machine's clock minus the `Date` of the last answer, in seconds.
    pub clock_skew_seconds: Option<f64>,
    /// Failures since the start of the process, by reason.
    pub failures: BTreeMap<FailureReason, u64>,
    /// Until when its probes wait because it answered that there were too many requests; it may be past.
    pub rests_until: Option<DateTime<Utc>>,
    /// The firing alerts about the platform itself.
    pub alerts: Vec<FiringAlert>,
}

/// What is known of one list of keys.
#[derive(Debug, Clone)]
pub struct ListStatus {
    /// The credential that is the list.
    pub id: CredentialId,
    /// When somebody is told of a key.
    pub policy: Arc<Policy>,
    /// The keys that are held, by id.
    pub keys: Arc<Vec<Arc<Found>>>,
    /// How many keys of interest were listed last; `None` before the first list since the start.
    pub total: Option<usize>,
    /// How many of them are not held, because there are more than `keys_max`.
    pub left_out: usize,
    /// What is known of the deployments; `None` for a list of the keys of ECE.
    pub deployments: Option<DeploymentsStatus>,
    /// How many entries of it could not be read.
    pub unreadable: usize,
    /// When the list was last read.
    pub listed_at: Option<DateTime<Utc>>,
    /// What was found last, oldest first.
    pub findings: Arc<VecDeque<Finding>>,
    /// What was found since the start of the process, by kind.
    pub found: BTreeMap<FindingKind, u64>,
}

/// What is known of the deployments of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentsStatus {
    /// How many of interest there are; `None` before the first list since the start.
    pub total: Option<usize>,
    /// Those of which something could not be read last, each with why.
    pub unread: Vec<(Arc<str>, String)>,
}

impl ListStatus {
    /// Whether there are more keys than are held.
    pub fn is_truncated(&self) -> bool {
        0 < self.left_out
    }
}

/// One consistent view: credentials and platforms in the order of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The credentials.
    pub credentials: Vec<Arc<CredentialStatus>>,
    /// The platforms.
    pub platforms: Vec<Arc<PlatformStatus>>,
    /// The lists of keys.
    pub lists: Vec<Arc<ListStatus>>,
    /// What somebody asked to be quiet about, those that end last first; also what has ended.
    pub silences: Arc<Vec<Silence>>,
    /// The configuration in force, which says when nobody is told.
    pub config: Option<Arc<Config>>,
    /// The newest notifications, all that wait, and those that are dead, newest first; each up to a bound.
    pub notifications: Arc<Vec<Notification>>,
}

/// Where the loops put what changed and readers take snapshots.
#[derive(Debug, Default)]
pub struct Board(Mutex<Snapshot>);

impl Board {
    /// A board that shows this view.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Mutex::new(snapshot))
    }

    /// The present view; copies pointers only.
    pub fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what the monitor shows (start, reload).
    pub fn replace(
        &self,
        credentials: Vec<Arc<CredentialStatus>>,
        platforms: Vec<Arc<PlatformStatus>>,
        lists: Vec<Arc<ListStatus>>,
    ) {
        let mut view = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (view.credentials, view.platforms, view.lists) = (credentials, platforms, lists);
    }

    /// Replaces the silences.
    pub fn set_silences(&self, silences: Vec<Silence>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).silences = Arc::new(silences);
    }

    /// Replaces the notifications.
    pub fn set_notifications(&self, notifications: Vec<Notification>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).notifications =
            Arc::new(notifications);
    }

    /// Replaces the configuration.
    pub fn set_config(&self, config: Arc<Config>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).config = Some(config);
    }

    /// Replaces the given rows, by position.
    pub fn update(
        &self,
        credentials: impl IntoIterator<Item = (usize, Arc<CredentialStatus>)>,
        platforms: impl IntoIterator<Item = (usize, Arc<PlatformStatus>)>,
    ) {
        let mut view = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, row) in credentials {
            view.credentials[at] = row;
        }
        for (at, row) in platforms {
            view.platforms[at] = row;
        }
    }

    /// Replaces the row of a list, by position.
    pub fn update_list(&self, at: usize, row: Arc<ListStatus>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lists[at] = row;
    }
}
