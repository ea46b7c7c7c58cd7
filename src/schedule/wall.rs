//! Crontab times on the wall clock of a time zone, with the rules of Vixie cron for daylight saving.
//!
//! The crate `cron` is asked about a calendar without zones only (times of the wall clock dressed up as UTC): given a
//! zone, it goes back in time where clocks are set back. What its answers are in real time is worked out here:
//!
//! - A job at fixed hours runs once for each: a time that clocks jump over runs right after the jump, a time that comes
//!   twice runs the first time. `*/2` names fixed hours too, so no jump makes a hole of more than its own width.
//! - A job at all hours runs in every real hour: nothing is made up after a jump, nothing is left out where an hour
//!   comes twice.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use super::ScheduleError;
use super::crontab::Crontab;

/// How many candidates are looked at for one answer; a second pass of an hour has 3600 at most.
const CANDIDATES_MAX: usize = 10_000;
/// How many changes of the clocks are looked at for the longest gap: four years with two each.
const TRANSITIONS_MAX: usize = 8;
/// How many runs around one change of the clocks are looked at.
const RUNS_MAX: usize = 2_000;
/// How many days are looked at for the longest gap: nine years hold at least two leap days.
const DAYS_MAX: usize = 9 * 366;
const DAY_SECS: i64 = 86_400;

/// A crontab expression in a time zone.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    text: String,
    zone: TimeZone,
    /// The earlier run of all counts.
    calendars: Vec<cron::Schedule>,
    every_hour: bool,
    exact_second: bool,
    longest_gap: Duration,
}

/// The zone of an IANA name, from the database compiled into the program.
pub(super) fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let database = TimeZoneDatabase::bundled();
    let name = name.trim();
    database.get(name).map_err(|_| ScheduleError::Zone {
        zone: name.to_owned(),
        hint: zone_hint(&database, name),
    })
}

fn zone_hint(database: &TimeZoneDatabase, name: &str) -> String {
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    let wanted = wanted.rsplit('/').next().unwrap_or_default();
    database
        .available()
        .find(|it| {
            let known = it.as_str().to_ascii_lowercase();
            known.rsplit('/').next() == Some(wanted)
        })
        .map_or_else(
            || "write a name of the IANA database such as `Europe/Berlin`, or `UTC`".to_owned(),
            |it| format!("did you mean `{}`?", it.as_str()),
        )
}

impl CronSchedule {
    pub(super) fn parse(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let crontab = Crontab::parse(text)?;
        let wall_gap =
            longest_wall_gap(&crontab).ok_or_else(|| ScheduleError::Never(text.to_owned()))?;
        let mut cron = Self {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            zone,
            calendars: crontab.calendars(),
            every_hour: crontab.every_hour,
            exact_second: crontab.exact_second,
            longest_gap: Duration::ZERO,
        };
        let gap = cron.longest_real_gap(wall_gap);
        cron.longest_gap = Duration::from_secs(gap.unsigned_abs());
        Ok(cron)
    }

    /// The expression as it was written, its blanks made single.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of the time zone.
    pub fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    pub(super) fn longest_gap(&self) -> Duration {
        self.longest_gap
    }

    pub(super) fn next_after(&self, now: DateTime<Utc>, seed: u64) -> Option<DateTime<Utc>> {
        let spread = if self.exact_second { 0 } else { i64::try_from(seed % 60).ok()? };
        // Runs lie on whole seconds, so "after the second that now is in" is after now.
        let run = self.next(now.timestamp().checked_sub(spread)?)?;
        DateTime::from_timestamp(run.checked_add(spread)?, 0)
    }

    /// The first run strictly after `now`, without the spread; both in seconds since the epoch.
    fn next(&self, now: i64) -> Option<i64> {
        if self.every_hour { self.next_real(now) } else { self.next_fixed(now) }
    }

    /// For jobs in every real hour: the stretches between two changes of the clocks are searched one by one.
    fn next_real(&self, now: i64) -> Option<i64> {
        let mut start = now.checked_add(1)?;
        for _ in 0..CANDIDATES_MAX {
            let offset = self.offset(start)?;
            let run = self.next_wall(start - 1 + offset)? - offset;
            match self.transition_after(start) {
                Some(change) if change <= run => start = change,
                _ => return Some(run),
            }
        }
        None
    }

    /// For jobs at fixed hours: the times of the wall clock in turn, until one lies after `now` in real time.
    fn next_fixed(&self, now: i64) -> Option<i64> {
        let mut wall = now + self.offset(now)?;
        for _ in 0..CANDIDATES_MAX {
            wall = self.next_wall(wall)?;
            let run = self.real(wall)?;
            if now < run {
                return Some(run);
            }
        }
        None
    }

    /// The next time of the wall clock that matches, strictly after `wall`.
    fn next_wall(&self, wall: i64) -> Option<i64> {
        let wall = DateTime::from_timestamp(wall, 0)?;
        self.calendars.iter().filter_map(|it| it.after(&wall).next()).map(|it| it.timestamp()).min()
    }

    /// When the wall clock shows `wall`: the first time, or right after the jump over it.
    fn real(&self, wall: i64) -> Option<i64> {
        let civil = Offset::UTC.to_datetime(Timestamp::from_second(wall).ok()?);
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset }
            | AmbiguousOffset::Fold { before: offset, .. } => {
                Some(wall - i64::from(offset.seconds()))
            }
            AmbiguousOffset::Gap { after, .. } => {
                // On the new clock the time lies before the jump, by less than the jump is wide.
                let before_jump = wall - i64::from(after.seconds());
                self.transition_after(before_jump)
            }
        }
    }

    /// The offset from UTC in seconds at an instant.
    fn offset(&self, at: i64) -> Option<i64> {
        Some(i64::from(self.zone.to_offset(Timestamp::from_second(at).ok()?).seconds()))
    }

    /// The next change of the clocks strictly after `at`.
    fn transition_after(&self, at: i64) -> Option<i64> {
        let offset = self.offset(at)?;
        self.zone
            .following(Timestamp::from_second(at).ok()?)
            // Some transitions change the name of the time only.
            .find(|it| i64::from(it.offset().seconds()) != offset)
            .map(|it| it.timestamp().as_second())
    }

    /// The longest gap in real seconds: that of the wall clock, or one around a change of the clocks.
    fn longest_real_gap(&self, wall_gap: i64) -> i64 {
        let mut longest = wall_gap;
        let mut at = reference().and_hms_opt(0, 0, 0).map_or(0, |it| it.and_utc().timestamp());
        for _ in 0..TRANSITIONS_MAX {
            let Some(transition) = self.transition_after(at) else { break };
            let mut run = self.next(transition - wall_gap - 1);
            for _ in 0..RUNS_MAX {
                let Some(before) = run else { break };
                run = self.next(before);
                longest = longest.max(run.map_or(0, |it| it - before));
                if run.is_some_and(|it| transition + DAY_SECS < it) {
                    break;
                }
            }
            at = transition;
        }
        longest
    }
}

/// The longest gap in seconds of the wall clock; `None` when there is no run at all.
fn longest_wall_gap(crontab: &Crontab) -> Option<i64> {
    let (first, last, within) = crontab.day_shape();
    let mut longest = within;
    let mut previous = None;
    for (index, date) in (0_i64..).zip(reference().iter_days().take(DAYS_MAX)) {
        if !crontab.runs_on(date) {
            continue;
        }
        if let Some(before) = previous {
            longest = longest.max((index - before) * DAY_SECS - last + first);
        }
        previous = Some(index);
    }
    previous.map(|_| longest)
}

/// Gaps are worked out from here on, so that they do not depend on the day of the start.
fn reference() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, 1).expect("2026-01-01 is a date")
}
