//! When a credential is probed: an interval or a crontab expression in a time zone. Pure.
//!
//! A schedule answers one question, when the next run is; it does not keep time and does not remember past runs.
//! Durations are written and read as Prometheus does it (`duration`), crontab text is checked and rewritten in
//! `crontab`, and daylight saving is dealt with in `wall`.

mod crontab;
mod duration;
#[cfg(test)]
mod tests;
mod wall;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::duration::{format_duration, parse_duration};
pub use self::wall::CronSchedule;

/// The shortest interval: below it a probe would outlive its own period.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest interval: a credential that is looked at less than once a year is not watched.
const INTERVAL_MAX: Duration = Duration::from_secs(366 * 86_400);

/// When a credential is probed.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// Every so often, at a phase that is the credential's own. The runs lie on a grid that starts at the Unix epoch,
    /// so a restart or a reload does not move them.
    Every(Duration),
    /// At the times of a crontab expression.
    Cron(Box<CronSchedule>),
}

/// Why a schedule cannot be read. Displays as a sentence with a hint, without the name of the option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The text is empty.
    #[error(
        "the schedule is empty; write an interval such as `15m` or a crontab expression such as `0 9 * * *`"
    )]
    Empty,
    /// Neither an interval nor something with the blanks of a crontab expression.
    #[error("{0}; a crontab expression such as `0 9 * * *` is possible too")]
    Interval(String),
    /// The interval is out of bounds.
    #[error("the interval `{0}` is out of bounds; choose one between 1s and 366d")]
    OutOfBounds(String),
    /// Not 5 and not 6 fields.
    #[error(
        "the crontab expression `{text}` has {count} fields; write 5 (minute, hour, day of month, month, weekday) or 6 \
         (the second first)"
    )]
    FieldCount {
        /// The expression.
        text: String,
        /// How many fields it has.
        count: usize,
    },
    /// An `@word` that is not known.
    #[error("`{0}` is not known; there are @hourly, @daily, @weekly, @monthly and @yearly")]
    Nickname(String),
    /// One field of a crontab expression is wrong.
    #[error("the field for the {field} is `{text}`: {problem}")]
    Field {
        /// Which field, e.g. `day of month`.
        field: &'static str,
        /// What it says.
        text: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The expression names only days that do not exist.
    #[error("the crontab expression `{0}` never runs; no month it names has the day it names")]
    Never(String),
    /// The time zone is not in the IANA database.
    #[error("the time zone `{zone}` is not known; {hint}")]
    Zone {
        /// What was asked for.
        zone: String,
        /// What to write instead.
        hint: String,
    },
}

impl Schedule {
    /// Reads an interval (`15m`, `1h30m`, `2w`; from 1 s to 366 d) or a crontab expression of five fields, or of six
    /// with the second first, or `@hourly` and its kind. `zone` is an IANA name (`Europe/Berlin`, `UTC`); it places
    /// crontab times and must be right even where an interval makes no use of it.
    ///
    /// The zones' rules are those compiled into the program, so that a schedule means the same on every machine.
    pub fn parse(text: &str, zone: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        let zone = wall::zone(zone)?;
        if text.is_empty() {
            return Err(ScheduleError::Empty);
        }
        if text.starts_with('@') || text.contains(|it: char| it.is_whitespace() || it == '*') {
            return Ok(Self::Cron(Box::new(CronSchedule::parse(text, zone)?)));
        }
        let every = parse_duration(text).map_err(ScheduleError::Interval)?;
        if every < INTERVAL_MIN || INTERVAL_MAX < every {
            return Err(ScheduleError::OutOfBounds(text.to_owned()));
        }
        Ok(Self::Every(every))
    }

    /// The first run strictly after `now`. `seed` is stable for a credential (see [`seed`]) and picks its phase, so
    /// that credentials with one schedule do not probe in step: anywhere in an interval; within the minute for a
    /// crontab expression of five fields; not at all for one of six, which says the second itself. `None` when the
    /// schedule never runs again (crontab expressions end with the year 2100).
    pub fn next_after(&self, now: DateTime<Utc>, seed: u64) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(every) => next_on_grid(*every, now, seed),
            Self::Cron(cron) => cron.next_after(now, seed),
        }
    }

    /// The longest planned time between two runs. It includes the hour that a day has more in autumn. For a crontab
    /// expression it is worked out when it is read, over the years after 2026-01-01, whatever the date.
    pub fn longest_gap(&self) -> Duration {
        match self {
            Self::Every(every) => *every,
            Self::Cron(cron) => cron.longest_gap(),
        }
    }
}

/// The text as a person would write it: `15m`, or `0 9 * * 1 (Europe/Berlin)`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => f.write_str(&format_duration(*every)),
            Self::Cron(cron) => write!(f, "{} ({})", cron.text(), cron.zone()),
        }
    }
}

/// A number that is stable for `text` across restarts, versions and machines (FNV-1a, 64 bits). Not for secrets.
pub fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The first instant strictly after `now` that lies `seed` milliseconds, modulo `every`, past a multiple of `every`.
fn next_on_grid(every: Duration, now: DateTime<Utc>, seed: u64) -> Option<DateTime<Utc>> {
    let every = i64::try_from(every.as_millis()).ok()?.max(1);
    let phase = i64::try_from(seed % every.unsigned_abs()).ok()?;
    let now = now.timestamp_millis();
    let since = now.checked_sub(phase)?.rem_euclid(every);
    DateTime::from_timestamp_millis(now.checked_add(every - since)?)
}
