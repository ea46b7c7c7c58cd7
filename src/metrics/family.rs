//! Values of samples, and the headers of families. Pure.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, GaugeValueEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::time;

/// The value of a gauge: whole numbers are written without a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// A whole number.
    Whole(i64),
    /// Any number.
    Real(f64),
}

impl Value {
    /// 1 or 0.
    pub(super) fn flag(yes: bool) -> Self {
        Self::Whole(i64::from(yes))
    }

    /// Seconds since the Unix epoch.
    pub(super) fn at(at: DateTime<Utc>) -> Self {
        match at.timestamp_subsec_millis() {
            0 => Self::Whole(at.timestamp()),
            _ => Self::Real(time::to_seconds(at)),
        }
    }

    /// Seconds since the Unix epoch; 0 if it never was.
    pub(super) fn at_or_zero(at: Option<DateTime<Utc>>) -> Self {
        at.map_or(Self::Whole(0), Self::at)
    }

    /// Seconds.
    pub(super) fn seconds(duration: Duration) -> Self {
        match (duration.subsec_nanos(), i64::try_from(duration.as_secs())) {
            (0, Ok(seconds)) => Self::Whole(seconds),
            _ => Self::Real(duration.as_secs_f64()),
        }
    }

    /// A count; beyond 2^63 it stays there.
    pub(super) fn count(count: impl TryInto<i64>) -> Self {
        Self::Whole(count.try_into().unwrap_or(i64::MAX))
    }
}

impl EncodeGaugeValue for Value {
    fn encode(&self, encoder: &mut GaugeValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.encode(encoder),
            Self::Real(value) => value.encode(encoder),
        }
    }
}

/// The header of a family of gauges; the encoder appends the unit to the name.
pub(super) fn gauge<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    unit: Option<&'e Unit>,
    help: &str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)
}

/// A gauge without labels.
pub(super) fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    unit: Option<&Unit>,
    help: &str,
    value: Value,
) -> fmt::Result {
    gauge(encoder, name, unit, help)?.encode_gauge(&value)
}

/// The header of a family of counters; the encoder appends `_total` to the samples.
pub(super) fn counter<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

/// A sample of a counter; `family` has its labels.
pub(super) fn count(family: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    family.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

/// The header of a family of constant samples that carry labels; the encoder appends `_info` to the samples.
pub(super) fn info<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Info)
}
