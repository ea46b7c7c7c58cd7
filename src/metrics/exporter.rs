//! The families about the exporter itself. Pure.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::family::{self, Value};
use super::telemetry::{Channel, ChannelKey, Channels, DURATION_BUCKETS, Own, Values};
use super::{BuildInfo, ConfigState, WriteState};
use crate::config::Severity;
use crate::status::Snapshot;

/// Writes the families about the exporter.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    snapshot: &Snapshot,
    values: &Values,
) -> fmt::Result {
    build(encoder)?;
    external_url(encoder, &values.own)?;
    config(encoder, &values.own)?;
    credentials(encoder, snapshot)?;
    scheduler(encoder, values)?;
    counts(encoder, &values.channels)?;
    waiting(encoder, &values.channels, values.own.dead)?;
    durations(encoder, &values.channels)?;
    alerts(encoder, snapshot)?;
    state(encoder, &values.own)?;
    heartbeat(encoder, &values.own)?;
    logged(encoder, values.logged)
}

fn build(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let build = BuildInfo::current();
    family::info(
        encoder,
        "ece_expiry_exporter_build",
        "Constant 1; build information of the exporter",
    )?
    .encode_info(&[
        ("version", build.version),
        ("revision", build.revision),
        ("rust_version", build.rust_version),
    ])
}

/// What the annotations of alerts look up, so that a link in an alert needs no editing of the rules. Without
/// `global.external_url` there is none, as in the exporter's own messages: a guessed address may lead nowhere.
fn external_url(encoder: &mut DescriptorEncoder<'_>, own: &Own) -> fmt::Result {
    let Some(url) = &own.external_url else { return Ok(()) };
    family::info(
        encoder,
        "ece_expiry_exporter_external_url",
        "Constant 1; address under which people reach this exporter. Absent without global.external_url",
    )?
    .encode_info(&[("url", url.as_str())])
}

fn config(encoder: &mut DescriptorEncoder<'_>, own: &Own) -> fmt::Result {
    family::single(
        encoder,
        "ece_expiry_exporter_config_last_reload_successful",
        None,
        "1 if the last configuration load succeeded, 0 otherwise",
        Value::flag(own.config == ConfigState::Good),
    )?;
    family::single(
        encoder,
        "ece_expiry_exporter_config_last_reload_success_timestamp",
        Some(&Unit::Seconds),
        "Unix time of the last successful configuration load",
        Value::at_or_zero(own.config_loaded_at),
    )?;
    let name = "ece_expiry_exporter_config_reloads";
    let mut family = family::counter(encoder, name, "Configuration loads attempted")?;
    family::count(&mut family, own.config_loads)?;
    let mut family = family::counter(
        encoder,
        "ece_expiry_exporter_config_reload_failures",
        "Configuration loads that failed; the previous configuration stayed in force",
    )?;
    family::count(&mut family, own.config_failures)
}

fn credentials(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let name = "ece_expiry_exporter_credentials";
    let mut family = family::gauge(encoder, name, None, "Credentials configured")?;
    for platform in &snapshot.platforms {
        family
            .encode_family(&[("platform", platform.name.as_ref())])?
            .encode_gauge(&Value::count(platform.credentials))?;
    }
    Ok(())
}

fn scheduler(encoder: &mut DescriptorEncoder<'_>, values: &Values) -> fmt::Result {
    family::single(
        encoder,
        "ece_expiry_exporter_scheduler_last_tick_timestamp",
        Some(&Unit::Seconds),
        "Unix time at which the scheduler loop last ran",
        Value::at_or_zero(values.own.last_tick),
    )?;
    let mut family = family::counter(
        encoder,
        "ece_expiry_exporter_scheduler_missed_runs",
        "Scheduled probes skipped because the previous probe of the credential was still running or the process was suspended",
    )?;
    family::count(&mut family, values.own.missed_runs)?;
    family::single(
        encoder,
        "ece_expiry_exporter_probes_in_flight",
        None,
        "Probes running now",
        Value::Whole(values.probes_in_flight),
    )
}

fn counts(encoder: &mut DescriptorEncoder<'_>, channels: &Channels) -> fmt::Result {
    per_channel_counter(
        encoder,
        channels,
        "ece_expiry_exporter_notifications",
        "Notifications attempted (one per message, retries not counted)",
        |it, (_, integration)| integration.has_messages().then_some(it.composed),
    )?;
    per_channel_counter(
        encoder,
        channels,
        "ece_expiry_exporter_notifications_failed",
        "Notifications given up after the last retry",
        |it, (_, integration)| integration.has_messages().then_some(it.given_up),
    )?;
    per_channel_counter(
        encoder,
        channels,
        "ece_expiry_exporter_notification_requests",
        "Delivery requests made, retries included",
        |it, _| Some(it.requests),
    )?;
    per_channel_counter(
        encoder,
        channels,
        "ece_expiry_exporter_notification_requests_failed",
        "Delivery requests that failed",
        |it, _| Some(it.requests_failed),
    )?;
    let mut family = family::counter(
        encoder,
        "ece_expiry_exporter_notifications_suppressed",
        "Notifications put off on purpose, by a silence or a mute; what is still true is told when it ends",
    )?;
    for ((receiver, why), count) in &channels.suppressed {
        let labels = [("receiver", receiver.as_ref()), ("reason", why.label())];
        family::count(&mut family.encode_family(&labels)?, *count)?;
    }
    Ok(())
}

fn waiting(encoder: &mut DescriptorEncoder<'_>, channels: &Channels, dead: u64) -> fmt::Result {
    per_channel_gauge(
        encoder,
        channels,
        ("ece_expiry_exporter_notifications_pending", None),
        "Notifications waiting for delivery or retry",
        |it| Value::count(it.pending),
    )?;
    per_channel_gauge(
        encoder,
        channels,
        ("ece_expiry_exporter_notification_oldest_pending_timestamp", Some(&Unit::Seconds)),
        "Unix time at which the oldest pending notification was raised, 0 if none is pending",
        |it| Value::at_or_zero(it.oldest_pending),
    )?;
    family::single(
        encoder,
        "ece_expiry_exporter_notifications_dead",
        None,
        "Notifications given up for good, as far as the store remembers",
        Value::count(dead),
    )?;
    per_channel_gauge(
        encoder,
        channels,
        ("ece_expiry_exporter_notification_last_success_timestamp", Some(&Unit::Seconds)),
        "Unix time of the last delivered notification, 0 if none",
        |it| Value::at_or_zero(it.last_success),
    )
}

fn durations(encoder: &mut DescriptorEncoder<'_>, channels: &Channels) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "ece_expiry_exporter_notification_duration",
        "Time from the first attempt to the end of a notification",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (integration, durations) in &channels.durations {
        let bounds = DURATION_BUCKETS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(durations.buckets).collect();
        let count = durations.buckets.iter().sum();
        family
            .encode_family(&[("integration", integration.label())])?
            .encode_histogram::<NoLabelSet>(durations.sum, count, &buckets, None)?;
    }
    Ok(())
}

fn alerts(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let name = "ece_expiry_exporter_alerts_firing";
    let help = "Alerts the built-in alerter holds as firing";
    let mut family = family::gauge(encoder, name, None, help)?;
    for severity in Severity::ALL {
        let of_credentials = snapshot.credentials.iter().flat_map(|it| &it.alerts);
        let of_platforms = snapshot.platforms.iter().flat_map(|it| &it.alerts);
        let firing = of_credentials.chain(of_platforms).filter(|it| it.severity == severity);
        family
            .encode_family(&[("severity", severity.label())])?
            .encode_gauge(&Value::count(firing.count()))?;
    }
    Ok(())
}

fn state(encoder: &mut DescriptorEncoder<'_>, own: &Own) -> fmt::Result {
    if own.write == WriteState::NotWritten {
        return Ok(());
    }
    family::single(
        encoder,
        "ece_expiry_exporter_state_last_write_successful",
        None,
        "1 if the last write of the state file succeeded, 0 otherwise. Absent if no state file is configured",
        Value::flag(own.write == WriteState::Good),
    )?;
    family::single(
        encoder,
        "ece_expiry_exporter_state_last_write_timestamp",
        Some(&Unit::Seconds),
        "Unix time of the last successful write of the state file",
        Value::at_or_zero(own.written_at),
    )
}

fn heartbeat(encoder: &mut DescriptorEncoder<'_>, own: &Own) -> fmt::Result {
    let Some(heartbeat) = &own.heartbeat else { return Ok(()) };
    family::single(
        encoder,
        "ece_expiry_exporter_heartbeat_last_success_timestamp",
        Some(&Unit::Seconds),
        "Unix time of the last heartbeat that was accepted, 0 if none. Absent without a heartbeat",
        Value::at_or_zero(heartbeat.last_success),
    )?;
    let mut family = family::counter(
        encoder,
        "ece_expiry_exporter_heartbeat_failures",
        "Heartbeats that were due and not accepted, or not sent because a loop stands still or the store takes no writes",
    )?;
    family::count(&mut family, heartbeat.failures)
}

fn logged(encoder: &mut DescriptorEncoder<'_>, counts: [u64; 3]) -> fmt::Result {
    let name = "ece_expiry_exporter_log_messages";
    let mut family = family::counter(encoder, name, "Log messages written")?;
    for (level, count) in ["error", "warn", "info"].into_iter().zip(counts) {
        family::count(&mut family.encode_family(&[("level", level)])?, count)?;
    }
    Ok(())
}

fn per_channel_counter(
    encoder: &mut DescriptorEncoder<'_>,
    channels: &Channels,
    name: &str,
    help: &str,
    value: impl Fn(&Channel, &ChannelKey) -> Option<u64>,
) -> fmt::Result {
    let mut family = family::counter(encoder, name, help)?;
    for (key, channel) in &channels.sent {
        let Some(value) = value(channel, key) else { continue };
        let (receiver, integration) = key;
        let labels = [("receiver", receiver.as_ref()), ("integration", integration.label())];
        family::count(&mut family.encode_family(&labels)?, value)?;
    }
    Ok(())
}

fn per_channel_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    channels: &Channels,
    (name, unit): (&str, Option<&Unit>),
    help: &str,
    value: impl Fn(&Channel) -> Value,
) -> fmt::Result {
    let mut family = family::gauge(encoder, name, unit, help)?;
    for ((receiver, integration), channel) in &channels.sent {
        let labels = [("receiver", receiver.as_ref()), ("integration", integration.label())];
        family.encode_family(&labels)?.encode_gauge(&value(channel))?;
    }
    Ok(())
}
