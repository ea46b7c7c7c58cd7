//! Recurring windows in which nothing is sent. Pure.
//!
//! A window begins at a time of the wall clock and lasts a real time: eight hours from 22:00 end at 05:00 or 07:00 in the
//! nights in which the clocks are changed. Which routes a window mutes is said in `routes`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Severity;
use crate::schedule::Schedule;
use crate::time;

/// How many windows without a gap between them are joined; a day has 1440 minutes, and no window is longer than a week.
/// Where even more follow each other, the end that is found is asked about anew when it comes.
const JOINED_MAX: usize = 7 * 1440;

/// A recurring window in which nothing is sent.
#[derive(Debug, Clone)]
pub struct Mute {
    /// Its name.
    pub name: Arc<str>,
    /// When it begins: a crontab expression, and never an interval.
    pub start: Schedule,
    /// How long it lasts, in real time. There are gaps between windows, if only at times.
    pub duration: Duration,
    /// What is sent all the same.
    pub except: Vec<Severity>,
}

impl Mute {
    /// The end of the window in which `now` lies, windows without a gap between them joined; `None` outside of one, and
    /// for a severity that is excepted. The beginning is in the window, the end is not.
    pub fn until(&self, now: DateTime<Utc>, severity: Severity) -> Option<DateTime<Utc>> {
        if self.except.contains(&severity) {
            return None;
        }
        // Without a phase, the windows begin at the minute that is written. What began earlier has ended.
        let next = |at| self.start.next_after(at, 0);
        let length = time::delta(self.duration);
        let mut start = next(now.checked_sub_signed(length)?).filter(|it| *it <= now)?;
        for _ in 0..JOINED_MAX {
            match next(start) {
                Some(following) if following <= start + length => start = following,
                _ => break,
            }
        }
        start.checked_add_signed(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn mute(start: &str, hours: u64, zone: &str) -> Mute {
        Mute {
            name: "night".into(),
            start: Schedule::parse(start, zone).unwrap(),
            duration: Duration::from_secs(hours * 3600),
            except: vec![Severity::Critical],
        }
    }

    fn until(mute: &Mute, now: &str) -> Option<DateTime<Utc>> {
        mute.until(at(now), Severity::Warning)
    }

    #[test]
    fn a_window_begins_on_the_wall_clock_and_its_end_is_not_in_it() {
        let night = mute("0 22 * * *", 8, "Europe/Zurich");
        assert_eq!(until(&night, "2026-01-10T20:59:59.999Z"), None);
        let end = Some(at("2026-01-11T05:00:00Z"));
        assert_eq!(until(&night, "2026-01-10T21:00:00Z"), end);
        assert_eq!(until(&night, "2026-01-11T04:59:59.999Z"), end);
        assert_eq!(until(&night, "2026-01-11T05:00:00Z"), None);
        assert_eq!(night.until(at("2026-01-10T22:00:00Z"), Severity::Critical), None);
        assert_eq!(night.until(at("2026-01-10T22:00:00Z"), Severity::Info), end);
        // In summer the wall clock is two hours ahead.
        assert_eq!(until(&night, "2026-07-10T20:00:00Z"), Some(at("2026-07-11T04:00:00Z")));
        assert_eq!(until(&night, "2026-07-10T19:59:59Z"), None);
    }

    #[test]
    fn a_window_lasts_its_time_when_the_clocks_are_changed() {
        let night = mute("0 22 * * *", 8, "Europe/Zurich");
        // Clocks go forward at 01:00 UTC on 2026-03-29: 8 hours from 22:00 end at 07:00 in summer time.
        assert_eq!(until(&night, "2026-03-28T21:00:00Z"), Some(at("2026-03-29T05:00:00Z")));
        assert_eq!(until(&night, "2026-03-29T20:00:00Z"), Some(at("2026-03-30T04:00:00Z")));
        // Clocks go back at 01:00 UTC on 2026-10-25: they end at 05:00 in winter time.
        assert_eq!(until(&night, "2026-10-24T20:00:00Z"), Some(at("2026-10-25T04:00:00Z")));
        assert_eq!(until(&night, "2026-10-25T20:59:59Z"), None);
        assert_eq!(until(&night, "2026-10-25T21:00:00Z"), Some(at("2026-10-26T05:00:00Z")));
        // A beginning that the clocks jump over is right after the jump; one that comes twice is the first.
        let early = mute("30 2 * * *", 1, "Europe/Zurich");
        assert_eq!(until(&early, "2026-03-29T00:59:59Z"), None);
        assert_eq!(until(&early, "2026-03-29T01:00:00Z"), Some(at("2026-03-29T02:00:00Z")));
        assert_eq!(until(&early, "2026-10-25T00:30:00Z"), Some(at("2026-10-25T01:30:00Z")));
        assert_eq!(until(&early, "2026-10-25T01:30:00Z"), None);
    }

    #[test]
    fn windows_without_a_gap_are_one() {
        // Saturday and Sunday as two windows of a day each.
        let weekend = mute("0 0 * * 6,0", 24, "UTC");
        assert_eq!(until(&weekend, "2026-01-10T12:00:00Z"), Some(at("2026-01-12T00:00:00Z")));
        assert_eq!(until(&weekend, "2026-01-09T23:59:59Z"), None);
        // Windows that overlap.
        let day = mute("0 8-17 * * 1", 3, "UTC");
        assert_eq!(until(&day, "2026-01-12T08:30:00Z"), Some(at("2026-01-12T20:00:00Z")));
        // A gap of an hour is one.
        let apart = mute("0 8,12 * * *", 3, "UTC");
        assert_eq!(until(&apart, "2026-01-12T08:30:00Z"), Some(at("2026-01-12T11:00:00Z")));
        assert_eq!(until(&apart, "2026-01-12T11:30:00Z"), None);
    }

    #[test]
    fn windows_without_an_end_are_joined_up_to_a_bound() {
        let always = mute("* * * * *", 1, "UTC");
        let end = until(&always, "2026-01-10T12:00:00Z").unwrap();
        assert!(at("2026-01-16T00:00:00Z") < end && end < at("2026-01-18T00:00:00Z"), "{end}");
    }
}
