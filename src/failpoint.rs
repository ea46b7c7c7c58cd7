//! Commit points at which a test build can be killed.
//!
//! With the cargo feature `failpoints`, the process kills itself without any clean-up when it reaches the point that
//! the environment variable `ECE_EXPIRY_FAILPOINT` names. Without the feature, `hit` is nothing. It does not inject
//! errors: only death, which is what the guarantees of the ledger are about.

/// Every point, in the order in which a delivery passes them.
pub const ALL: [&str; 9] = [
    "record-before-commit",
    "record-after-commit",
    "compose-before-commit",
    "compose-after-commit",
    "claim-before-commit",
    "claim-after-commit",
    "send-accepted",
    "finish-before-commit",
    "finish-after-commit",
];

/// Dies here if the test asks for it.
#[cfg(not(feature = "failpoints"))]
pub fn hit(_point: &str) {}

/// Dies here if the test asks for it.
#[cfg(feature = "failpoints")]
pub fn hit(point: &str) {
    if std::env::var("ECE_EXPIRY_FAILPOINT").as_deref() == Ok(point) {
        let me = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-KILL", &me]).status();
        loop {
            std::thread::park();
        }
    }
}
