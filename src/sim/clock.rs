//! What time it is in the simulated world.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// A clock that follows the real one until it is set. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Mutex<Option<DateTime<Utc>>>>);

impl Clock {
    /// The instant that was set last, else the real time.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(crate::time::now)
    }

    /// Stops the clock at `at`; it stands there until it is set again.
    pub fn set(&self, at: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Lets the clock follow the real time again.
    pub fn follow(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
