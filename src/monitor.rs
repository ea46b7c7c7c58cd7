//! Loop 1: schedule, probe, decide, record.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::CredentialId;
use crate::status::CredentialStatus;

/// Asks the monitor to probe a credential now; the answer is its status after the probe is recorded.
#[derive(Debug)]
pub struct ProbeRequest {
    /// Which credential; the sender is dropped without an answer if it is not configured.
    pub id: CredentialId,
    /// Where the status goes.
    pub reply: oneshot::Sender<Arc<CredentialStatus>>,
}
