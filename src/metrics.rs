//! The exporter's own counters, and the exposition formats.
//!
//! `Telemetry` is what the program counts about itself. `render` writes it, together with a `Snapshot` of what is known,
//! as OpenMetrics 1.0.0 or as Prometheus text 0.0.4. Series of credentials and platforms are written fresh each time, so
//! what is no longer configured is gone at the next scrape. Nothing here serves HTTP.

mod credentials;
mod exporter;
mod family;
mod lists;
pub mod negotiation;
mod platforms;
mod process;
mod telemetry;
mod text;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use self::process::Process;
use self::telemetry::Values;
pub use self::telemetry::{
    ChannelKey, ConfigState, DURATION_BUCKETS, ReplicaKey, Telemetry, Untold, WriteState,
};
use crate::status::{CredentialStatus, Snapshot};

/// Room for one credential's series, so that a large exposition grows its buffer once and not twenty times.
const BYTES_PER_CREDENTIAL: usize = 2800;
/// For each listed key.
const BYTES_PER_LISTED_KEY: usize = 320;
/// Room for everything else.
const BYTES_FIXED: usize = 16 * 1024;

/// A form in which metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4.
    Text,
}

impl Format {
    /// The `Content-Type` of an answer in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version of the package.
    pub version: &'static str,
    /// The commit it was built from, or `unknown`.
    pub revision: &'static str,
    /// The compiler that built it, or `unknown`.
    pub rust_version: &'static str,
}

impl BuildInfo {
    /// Of this binary: the build sets `ECE_EXPIRY_EXPORTER_REVISION` and `ECE_EXPIRY_EXPORTER_RUST_VERSION`.
    pub fn current() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("ECE_EXPIRY_EXPORTER_REVISION").unwrap_or("unknown"),
            rust_version: option_env!("ECE_EXPIRY_EXPORTER_RUST_VERSION").unwrap_or("unknown"),
        }
    }
}

/// Everything: what is known of credentials and platforms, what the exporter counts, and its process.
///
/// The order is fixed: families as documented, series in the order of the configuration.
///
/// # Errors
///
/// Only if the encoder fails; there is no partial exposition then.
pub fn render(
    snapshot: &Snapshot,
    telemetry: &Telemetry,
    now: DateTime<Utc>,
    format: Format,
) -> Result<String, fmt::Error> {
    expose(snapshot.clone(), Some((telemetry.values(), process::read())), now, format)
}

/// One credential only, for an answer to `/probe`.
///
/// # Errors
///
/// Only if the encoder fails.
pub fn probe_only(
    status: &CredentialStatus,
    now: DateTime<Utc>,
    format: Format,
) -> Result<String, fmt::Error> {
    probes_only(vec![Arc::new(status.clone())], now, format)
}

/// Several credentials only, as one exposition: the series of a family must stand together, so expositions cannot be
/// put one behind another.
///
/// # Errors
///
/// Only if the encoder fails.
pub fn probes_only(
    credentials: Vec<Arc<CredentialStatus>>,
    now: DateTime<Utc>,
    format: Format,
) -> Result<String, fmt::Error> {
    expose(Snapshot { credentials, ..Snapshot::default() }, None, now, format)
}

fn expose(
    snapshot: Snapshot,
    own: Option<(Values, Option<Process>)>,
    now: DateTime<Utc>,
    format: Format,
) -> Result<String, fmt::Error> {
    let keys: usize = snapshot.lists.iter().map(|it| it.keys.len()).sum();
    let room = BYTES_FIXED
        + snapshot.credentials.len() * BYTES_PER_CREDENTIAL
        + keys * BYTES_PER_LISTED_KEY;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { snapshot, own, now }));
    let mut out = String::with_capacity(room);
    encode(&mut out, &registry)?;
    Ok(match format {
        Format::OpenMetrics => out,
        Format::Text => text::from_openmetrics(&out),
    })
}

/// What one exposition shows; own `None` is an answer to `/probe`.
#[derive(Debug)]
struct Exposition {
    snapshot: Snapshot,
    own: Option<(Values, Option<Process>)>,
    now: DateTime<Utc>,
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        credentials::encode(&mut encoder, &self.snapshot.credentials, self.now)?;
        let Some((values, process)) = &self.own else { return Ok(()) };
        platforms::encode(&mut encoder, &self.snapshot, self.now)?;
        lists::encode(&mut encoder, &self.snapshot.lists, self.now)?;
        exporter::encode(&mut encoder, &self.snapshot, values)?;
        match process {
            Some(process) => process::encode(&mut encoder, process, values.started),
            None => Ok(()),
        }
    }
}
