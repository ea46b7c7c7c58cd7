//! The families about platforms. Pure.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::family::{self, Value};
use crate::observation::FailureReason;
use crate::status::PlatformStatus;

/// Writes the families about platforms.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &[Arc<PlatformStatus>],
) -> fmt::Result {
    let mut family = family::info(
        encoder,
        "ece_platform",
        "Constant 1; carries the base URL of a configured ECE platform",
    )?;
    for row in rows {
        // The first URL only: a second series would make every join on the platform many-to-many.
        let url = row.urls.first().map_or("", String::as_str);
        family.encode_info(&[("platform", row.name.as_ref()), ("url", url)])?;
    }

    let mut family = family::counter(
        encoder,
        "ece_platform_probe_failures",
        "Probes finished without success by reason; the same failures as ece_probe_failures_total without the credential",
    )?;
    for row in rows {
        for reason in FailureReason::ALL {
            let labels = [("platform", row.name.as_ref()), ("reason", reason.label())];
            let count = row.failures.get(&reason).copied().unwrap_or(0);
            family::count(&mut family.encode_family(&labels)?, count)?;
        }
    }

    let mut family = family::gauge(
        encoder,
        "ece_platform_clock_skew",
        Some(&Unit::Seconds),
        "Local clock minus the Date header of the last response of the platform",
    )?;
    for row in rows {
        if let Some(skew) = row.clock_skew_seconds {
            family
                .encode_family(&[("platform", row.name.as_ref())])?
                .encode_gauge(&Value::Real(skew))?;
        }
    }
    Ok(())
}
