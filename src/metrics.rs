//! The exporter's own counters, and the exposition formats.

mod telemetry;

pub use self::telemetry::{ConfigState, DURATION_BUCKETS, SUPPRESSIONS, Telemetry, WriteState};
