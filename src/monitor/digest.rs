//! The digest: owed at its time, once, also when the program was off then.

use chrono::{DateTime, Utc};

use super::Monitor;
use super::record::Draft;
use crate::alert::Status;
use crate::config::Digest;
use crate::delivery::{self, Notice};
use crate::time;

impl Monitor {
    /// When the next digest is due.
    pub(super) fn digest_at(&self) -> Option<DateTime<Utc>> {
        let Digest { schedule, .. } = self.config.digest.as_ref()?;
        schedule.next_after(self.digest_from, 0)
    }

    /// Owes the digest if it is due.
    pub(super) fn pass_digest(&self, draft: &mut Draft, now: DateTime<Utc>) {
        let Some(config) = &self.config.digest else { return };
        if self.digest_at().is_none_or(|at| now < at) {
            return;
        }
        // Of several that were missed one is told.
        draft.digest_at = Some(now);
        let digest = self.shared.board.snapshot().digest(now);
        if digest.attention.is_empty() && !config.always {
            return;
        }
        let notice = Notice { at: now, digest: Some(Box::new(digest)), ..Notice::default() };
        draft.owed.push(delivery::Owed {
            key: format!("digest {}", time::to_ms(now)),
            thread: "digest".to_owned(),
            status: Status::Firing,
            notice,
            to: delivery::digest_readers(&self.config, &config.receiver),
        });
    }
}
