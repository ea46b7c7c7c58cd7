//! The text of a crontab expression: checked, spelt out, and rewritten for the crate `cron`.
//!
//! The crate speaks another dialect: it numbers Sunday 1, always wants seconds, and requires day of month and weekday
//! both where crontab is content with either. So each field is read here, by the rules of POSIX and Vixie cron, into
//! the plain set of its values, and the crate gets lists of numbers only.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{Datelike, NaiveDate};

use super::ScheduleError;

/// An expression read: the values of every field.
#[derive(Debug, Clone)]
pub(super) struct Crontab {
    seconds: BTreeSet<u32>,
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: BTreeSet<u32>,
    months: BTreeSet<u32>,
    /// Sunday is 0, and never 7.
    weekdays: BTreeSet<u32>,
    /// Day of month and weekday are both restricted: a day matches when either does.
    either_day: bool,
    /// All hours are meant: the job runs in every real hour, not at fixed times of the day.
    pub(super) every_hour: bool,
    /// The expression says the second itself.
    pub(super) exact_second: bool,
}

/// What one field may hold.
struct FieldRule {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values from `min` on.
    names: &'static [&'static str],
}

const SECOND: FieldRule = FieldRule { name: "second", min: 0, max: 59, names: &[] };
const MINUTE: FieldRule = FieldRule { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: FieldRule = FieldRule { name: "hour", min: 0, max: 23, names: &[] };
const DAY: FieldRule = FieldRule { name: "day of month", min: 1, max: 31, names: &[] };
const MONTH: FieldRule = FieldRule {
    name: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: FieldRule = FieldRule {
    name: "weekday",
    min: 0,
    max: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Crontab {
    /// Reads five fields, six with the second first, or a nickname.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let spelt = if text.starts_with('@') { nickname(text)? } else { text };
        let fields: Vec<&str> = spelt.split_whitespace().collect();
        let exact_second = fields.len() == 6;
        let (second, rest) = match fields.as_slice() {
            [minute, hour, day, month, weekday] => ("0", [*minute, *hour, *day, *month, *weekday]),
            [second, minute, hour, day, month, weekday] => {
                (*second, [*minute, *hour, *day, *month, *weekday])
            }
            _ => {
                return Err(ScheduleError::FieldCount {
                    text: text.to_owned(),
                    count: fields.len(),
                });
            }
        };
        let [minute, hour, day, month, weekday] = rest;
        let hours = HOUR.values(hour)?;
        Ok(Self {
            seconds: SECOND.values(second)?,
            minutes: MINUTE.values(minute)?,
            days: DAY.values(day)?,
            months: MONTH.values(month)?,
            weekdays: WEEKDAY.values(weekday)?.into_iter().map(|it| it % 7).collect(),
            either_day: is_restricted(day) && is_restricted(weekday),
            every_hour: hours.len() == 24,
            hours,
            exact_second,
        })
    }

    /// The same for the crate: one schedule, or two of which the earlier run counts.
    pub(super) fn calendars(&self) -> Vec<cron::Schedule> {
        let every_day: BTreeSet<u32> = (1..=31).collect();
        let every_weekday: BTreeSet<u32> = (0..=6).collect();
        if self.either_day {
            vec![
                self.calendar(&self.days, &every_weekday),
                self.calendar(&every_day, &self.weekdays),
            ]
        } else {
            vec![self.calendar(&self.days, &self.weekdays)]
        }
    }

    fn calendar(&self, days: &BTreeSet<u32>, weekdays: &BTreeSet<u32>) -> cron::Schedule {
        let list = |values: &BTreeSet<u32>, shift: u32| {
            values.iter().map(|it| (it + shift).to_string()).collect::<Vec<_>>().join(",")
        };
        let text = [
            list(&self.seconds, 0),
            list(&self.minutes, 0),
            list(&self.hours, 0),
            list(days, 0),
            list(&self.months, 0),
            list(weekdays, 1),
        ]
        .join(" ");
        cron::Schedule::from_str(&text)
            .expect("lists of numbers within bounds are valid for the crate")
    }

    /// Whether there are runs on `date`.
    pub(super) fn runs_on(&self, date: NaiveDate) -> bool {
        let day = self.days.contains(&date.day());
        let weekday = self.weekdays.contains(&date.weekday().num_days_from_sunday());
        let either = if self.either_day { day || weekday } else { day && weekday };
        either && self.months.contains(&date.month())
    }

    /// The first and the last run of a day and the longest time between two runs of it, in seconds of the wall clock.
    pub(super) fn day_shape(&self) -> (i64, i64, i64) {
        let mut first = None;
        let mut last = 0;
        let mut longest = 0;
        for hour in &self.hours {
            for minute in &self.minutes {
                for second in &self.seconds {
                    let at = i64::from(hour * 3600 + minute * 60 + second);
                    if first.is_some() {
                        longest = longest.max(at - last);
                    }
                    first.get_or_insert(at);
                    last = at;
                }
            }
        }
        (first.unwrap_or(0), last, longest)
    }
}

impl FieldRule {
    /// The values of a field: a list of `*`, numbers, names and ranges, each with an optional `/step`.
    fn values(&self, text: &str) -> Result<BTreeSet<u32>, ScheduleError> {
        let mut values = BTreeSet::new();
        for item in text.split(',') {
            self.item(item, &mut values).map_err(|problem| ScheduleError::Field {
                field: self.name,
                text: text.to_owned(),
                problem,
            })?;
        }
        Ok(values)
    }

    fn item(&self, item: &str, values: &mut BTreeSet<u32>) -> Result<(), String> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => match number(step) {
                Some(step) if 1 <= step && step <= self.max => (range, Some(step)),
                _ => {
                    return Err(format!(
                        "the step `{step}` is not a number from 1 to {}",
                        self.max
                    ));
                }
            },
        };
        let (from, to) = if range == "*" || range == "?" {
            (self.min, self.last())
        } else if let Some((from, to)) = range.split_once('-') {
            (self.value(from)?, self.value(to)?)
        } else {
            let from = self.value(range)?;
            // As in Vixie cron, `5/15` starts at 5 and goes on to the end.
            (from, if step.is_some() { self.last().max(from) } else { from })
        };
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        if from <= to {
            values.extend((from..=to).step_by(step));
        } else if self.max == WEEKDAY.max {
            // `fri-mon` goes over the week's end; a 7 to start with is the Sunday before.
            values.extend(
                (from % 7..=if from == 7 { to } else { to + 7 }).step_by(step).map(|it| it % 7),
            );
        } else {
            return Err(format!(
                "the range `{range}` runs backwards; write two ranges with a comma between"
            ));
        }
        Ok(())
    }

    /// The last value that `*` means; 7 is a second name for Sunday only.
    fn last(&self) -> u32 {
        if self.max == WEEKDAY.max { 6 } else { self.max }
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = self.names.iter().position(|it| *it == lower) {
            return Ok(self.min + u32::try_from(at).unwrap_or(0));
        }
        match number(text) {
            Some(value) if self.min <= value && value <= self.max => Ok(value),
            _ if self.names.is_empty() => {
                Err(format!("`{text}` is not a number from {} to {}", self.min, self.max))
            }
            _ => Err(format!(
                "`{text}` is neither a number from {} to {} nor a name such as `{}`",
                self.min, self.max, self.names[1]
            )),
        }
    }
}

/// As in Vixie cron, a field that begins with `*` is unrestricted, `*/2` included.
fn is_restricted(field: &str) -> bool {
    !field.starts_with(['*', '?'])
}

/// Digits only: no sign, and short enough that it cannot overflow.
fn number(text: &str) -> Option<u32> {
    if text.len() <= 4 && text.bytes().all(|it| it.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn nickname(text: &str) -> Result<&'static str, ScheduleError> {
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(ScheduleError::Nickname(text.to_owned())),
    }
}
