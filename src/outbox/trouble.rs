//! What is known of targets that take no messages, so that a dead one is neither hammered nor waited for.
//!
//! It is forgotten at a reload and at the end of the program: then each is tried anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::delivery::Target;

/// The failures of a target in a row.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// When they began.
    pub(super) since: DateTime<Utc>,
    /// How many there were.
    pub(super) failures: u32,
    /// What it said, if it said that it is gone for good.
    pub(super) gone: Option<String>,
    /// Until when nothing that was tried before is tried again, and why.
    pub(super) put_off: Option<PutOff>,
}

/// Until when nothing is sent to a target, and why.
#[derive(Debug, Clone)]
pub(super) struct PutOff {
    pub(super) until: DateTime<Utc>,
    pub(super) why: String,
}

/// The troubles of all targets, shared by the workers.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<BTreeMap<Target, Trouble>>>);

impl Troubles {
    /// What is known of a target; `None` if it is well.
    pub(super) fn of(&self, target: &Target) -> Option<Trouble> {
        self.all().get(target).cloned()
    }

    /// It took a message.
    pub(super) fn end(&self, target: &Target) {
        self.all().remove(target);
    }

    /// It did not take a message at `now`. Says how its failures stand.
    pub(super) fn add(&self, target: &Target, now: DateTime<Utc>) -> Trouble {
        let mut all = self.all();
        let new = Trouble { since: now, failures: 0, gone: None, put_off: None };
        let trouble = all.entry(target.clone()).or_insert(new);
        trouble.failures = trouble.failures.saturating_add(1);
        // After the clock was set back, too.
        trouble.since = trouble.since.min(now);
        trouble.clone()
    }

    /// It is to be left alone for some time.
    pub(super) fn put_off(&self, target: &Target, put_off: PutOff) {
        if let Some(trouble) = self.all().get_mut(target) {
            trouble.put_off = Some(put_off);
        }
    }

    /// It said that it is gone for good.
    pub(super) fn add_gone(&self, target: &Target, why: &str, now: DateTime<Utc>) {
        let gone = Trouble { gone: Some(why.to_owned()), ..self.add(target, now) };
        self.all().insert(target.clone(), gone);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Target, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
