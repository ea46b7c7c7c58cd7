//! The families about platforms. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::family::{self, Value};
use crate::alert::AlertName;
use crate::config::CredentialKind;
use crate::observation::FailureReason;
use crate::observation::Reading;
use crate::status::{CredentialStatus, Snapshot};

/// Writes the families about platforms.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> fmt::Result {
    let rows = &snapshot.platforms;
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
        "ece_platform_unreachable",
        None,
        "1 while the built-in alerter holds that no credential gets an answer from the platform, 0 otherwise",
    )?;
    for row in rows {
        let unreachable = row.alerts.iter().any(|it| it.name == AlertName::PlatformUnreachable);
        family
            .encode_family(&[("platform", row.name.as_ref())])?
            .encode_gauge(&Value::flag(unreachable))?;
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

    let mut family = family::gauge(
        encoder,
        "ece_platform_rate_limited",
        None,
        "1 while the probes of the platform wait because it answered that there are too many requests, 0 otherwise",
    )?;
    for row in rows {
        let value = Value::flag(row.rests_until.is_some_and(|until| now < until));
        family.encode_family(&[("platform", row.name.as_ref())])?.encode_gauge(&value)?;
    }

    expiries(encoder, snapshot)
}

/// Writes when the first certificate and the license of each platform expire.
fn expiries(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    for (kind, name, help) in [
        (
            CredentialKind::CERTIFICATE,
            "ece_platform_certificate_expiry_timestamp",
            "Unix time at which the first of the watched certificates of the platform expires",
        ),
        (
            CredentialKind::LICENSE,
            "ece_platform_license_expiry_timestamp",
            "Unix time at which the license of the platform expires",
        ),
    ] {
        let mut family = family::gauge(encoder, name, Some(&Unit::Seconds), help)?;
        for (platform, at) in earliest(&snapshot.credentials, kind) {
            family.encode_family(&[("platform", platform)])?.encode_gauge(&Value::at(at))?;
        }
    }
    Ok(())
}

/// The earliest known expiry among the rows of a kind, for each platform that has one.
fn earliest<'a>(rows: &'a [Arc<CredentialStatus>], kind: &str) -> BTreeMap<&'a str, DateTime<Utc>> {
    let mut earliest: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
    for row in rows.iter().filter(|it| it.kind == kind) {
        if let Some(Reading::ExpiresAt(at)) = row.reading {
            let first = earliest.entry(row.id.platform.as_ref()).or_insert(at);
            *first = at.min(*first);
        }
    }
    earliest
}
