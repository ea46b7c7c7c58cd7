//! The JSON form of remembered states. Fields are only ever added, each with a default, so that an older file reads.

use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::alert::{AlertName, Firing, PlatformState, State};
use crate::config::Severity;
use crate::observation::{FailureReason, Reading};
use crate::time::{from_ms, to_ms};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReadingRow {
    ExpiresAtMs(i64),
    Never,
    Undated,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FiringRow {
    name: String,
    severity: String,
    step_ms: Option<u64>,
    starts_at_ms: i64,
    told_at_ms: i64,
    repeats: u32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CredentialRow {
    reading: Option<ReadingRow>,
    observed_at_ms: Option<i64>,
    key_id: Option<String>,
    candidate: Option<ReadingRow>,
    generation: u32,
    last_run_ms: Option<i64>,
    last_success_ms: Option<i64>,
    took_ms: u64,
    http_status: Option<u16>,
    failure: Option<(String, String)>,
    failures: u32,
    failing_since_ms: Option<i64>,
    rejections: u32,
    refusals: u32,
    lifetime: Option<FiringRow>,
    access: Option<FiringRow>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PlatformRow {
    last_contact_ms: Option<i64>,
    clock_skew_ms: Option<i64>,
    skew_votes: u32,
    unreachable: Option<FiringRow>,
    skew: Option<FiringRow>,
}

pub(super) fn reading_row(reading: Reading) -> ReadingRow {
    match reading {
        Reading::ExpiresAt(at) => ReadingRow::ExpiresAtMs(to_ms(at)),
        Reading::Never => ReadingRow::Never,
        Reading::Undated => ReadingRow::Undated,
    }
}

pub(super) fn reading(row: &ReadingRow) -> Reading {
    match row {
        ReadingRow::ExpiresAtMs(ms) => Reading::ExpiresAt(from_ms(*ms)),
        ReadingRow::Never => Reading::Never,
        ReadingRow::Undated => Reading::Undated,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn firing_row(firing: &Firing) -> FiringRow {
    FiringRow {
        name: firing.name.label().to_owned(),
        severity: firing.severity.label().to_owned(),
        step_ms: firing.step.map(millis),
        starts_at_ms: to_ms(firing.starts_at),
        told_at_ms: to_ms(firing.told_at),
        repeats: firing.repeats,
    }
}

/// A name of a later version is forgotten: the next decision finds its own.
pub(super) fn firing(row: &FiringRow) -> Option<Firing> {
    Some(Firing {
        name: AlertName::parse(&row.name)?,
        severity: Severity::parse(&row.severity)?,
        step: row.step_ms.map(Duration::from_millis),
        starts_at: from_ms(row.starts_at_ms),
        told_at: from_ms(row.told_at_ms),
        repeats: row.repeats,
    })
}

pub(super) fn write_credential(state: &State) -> serde_json::Result<String> {
    serde_json::to_string(&CredentialRow {
        reading: state.reading.map(reading_row),
        observed_at_ms: state.observed_at.map(to_ms),
        key_id: state.key_id.clone(),
        candidate: state.candidate.map(reading_row),
        generation: state.generation,
        last_run_ms: state.last_run.map(to_ms),
        last_success_ms: state.last_success.map(to_ms),
        took_ms: millis(state.took),
        http_status: state.http_status,
        failure: state
            .failure
            .as_ref()
            .map(|(reason, text)| (reason.label().to_owned(), text.clone())),
        failures: state.failures,
        failing_since_ms: state.failing_since.map(to_ms),
        rejections: state.rejections,
        refusals: state.refusals,
        lifetime: state.lifetime.as_ref().map(firing_row),
        access: state.access.as_ref().map(firing_row),
    })
}

pub(super) fn read_credential(text: &str) -> serde_json::Result<State> {
    let row: CredentialRow = serde_json::from_str(text)?;
    Ok(State {
        reading: row.reading.as_ref().map(reading),
        observed_at: row.observed_at_ms.map(from_ms),
        key_id: row.key_id,
        candidate: row.candidate.as_ref().map(reading),
        generation: row.generation,
        last_run: row.last_run_ms.map(from_ms),
        last_success: row.last_success_ms.map(from_ms),
        took: Duration::from_millis(row.took_ms),
        http_status: row.http_status,
        failure: row
            .failure
            .and_then(|(reason, text)| Some((FailureReason::parse(&reason)?, text))),
        failures: row.failures,
        failing_since: row.failing_since_ms.map(from_ms),
        rejections: row.rejections,
        refusals: row.refusals,
        lifetime: row.lifetime.as_ref().and_then(firing),
        access: row.access.as_ref().and_then(firing),
        // Counters begin anew, as those of every process do.
        probes_total: 0,
        probe_failures_total: 0,
    })
}

pub(super) fn write_platform(state: &PlatformState) -> serde_json::Result<String> {
    serde_json::to_string(&PlatformRow {
        last_contact_ms: state.last_contact.map(to_ms),
        clock_skew_ms: state.clock_skew.map(|it| it.num_milliseconds()),
        skew_votes: state.skew_votes,
        unreachable: state.unreachable.as_ref().map(firing_row),
        skew: state.skew.as_ref().map(firing_row),
    })
}

pub(super) fn read_platform(text: &str) -> serde_json::Result<PlatformState> {
    let row: PlatformRow = serde_json::from_str(text)?;
    Ok(PlatformState {
        last_contact: row.last_contact_ms.map(from_ms),
        clock_skew: row.clock_skew_ms.map(TimeDelta::milliseconds),
        skew_votes: row.skew_votes,
        unreachable: row.unreachable.as_ref().and_then(firing),
        skew: row.skew.as_ref().and_then(firing),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_round_trip() {
        let at = from_ms(1_795_000_000_123);
        let firing = Firing {
            name: AlertName::CredentialExpiring,
            severity: Severity::Warning,
            step: Some(Duration::from_secs(86_400)),
            starts_at: at,
            told_at: at,
            repeats: 3,
        };
        let state = State {
            reading: Some(Reading::ExpiresAt(at)),
            observed_at: Some(at),
            key_id: Some("k1".to_owned()),
            candidate: Some(Reading::Never),
            generation: 4,
            last_run: Some(at),
            last_success: Some(at),
            took: Duration::from_millis(12),
            http_status: Some(502),
            failure: Some((FailureReason::ServerError, "down".to_owned())),
            failures: 2,
            failing_since: Some(at),
            rejections: 1,
            refusals: 1,
            lifetime: Some(firing.clone()),
            access: Some(Firing {
                name: AlertName::CredentialRejected,
                step: None,
                ..firing.clone()
            }),
            ..State::default()
        };
        assert_eq!(read_credential(&write_credential(&state).unwrap()).unwrap(), state);
        let platform = PlatformState {
            last_contact: Some(at),
            clock_skew: Some(TimeDelta::milliseconds(-400_000)),
            skew_votes: 2,
            unreachable: Some(Firing {
                name: AlertName::PlatformUnreachable,
                step: None,
                ..firing.clone()
            }),
            skew: None,
        };
        assert_eq!(read_platform(&write_platform(&platform).unwrap()).unwrap(), platform);
    }

    #[test]
    fn a_state_written_by_an_older_version_reads_with_defaults() {
        assert_eq!(read_credential("{}").unwrap(), State::default());
        assert_eq!(read_platform("{\"gone\": 1}").unwrap(), PlatformState::default());
    }
}
