//! Instants and spans of time as people read them. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// `2026-11-24 05:00 UTC`.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// `79 days`, `36 hours`, `5 minutes`: whole units, never more than are there, so that nothing looks longer than it is.
pub(super) fn span(span: TimeDelta) -> String {
    let span = span.abs();
    let (count, unit) = match span {
        it if it >= TimeDelta::hours(72) => (it.num_days(), "day"),
        it if it >= TimeDelta::minutes(120) => (it.num_hours(), "hour"),
        it if it >= TimeDelta::seconds(120) => (it.num_minutes(), "minute"),
        it => (it.num_seconds(), "second"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// `5 minutes ago`, `in 5 minutes`, `just now`.
pub(super) fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match now - at {
        it if it.num_seconds() == 0 => "just now".to_owned(),
        it if it < TimeDelta::zero() => format!("in {}", span(it)),
        it => format!("{} ago", span(it)),
    }
}

/// When the next of something comes: `next in 5 minutes`, `due now`, `overdue for 5 minutes`.
pub(super) fn due(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match at - now {
        it if TimeDelta::seconds(1) <= it => format!("next {}", relative(at, now)),
        it if it <= -TimeDelta::minutes(2) => format!("overdue for {}", span(it)),
        _ => "due now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_down_to_one_unit() {
        let hours = TimeDelta::hours;
        let cases = [
            (TimeDelta::seconds(1), "1 second"),
            (TimeDelta::seconds(119), "119 seconds"),
            (TimeDelta::seconds(120), "2 minutes"),
            (hours(2) - TimeDelta::seconds(1), "119 minutes"),
            (hours(36), "36 hours"),
            (hours(72), "3 days"),
            (hours(95), "3 days"),
            (hours(-95), "3 days"),
        ];
        for (given, expected) in cases {
            assert_eq!(span(given), expected);
        }
    }

    #[test]
    fn the_past_and_the_future_are_told_apart() {
        let now = DateTime::from_timestamp(1_795_496_400, 0).unwrap();
        assert_eq!(relative(now, now), "just now");
        assert_eq!(relative(now - TimeDelta::minutes(5), now), "5 minutes ago");
        assert_eq!(relative(now + TimeDelta::days(5), now), "in 5 days");
        assert_eq!(due(now, now), "due now");
        assert_eq!(due(now - TimeDelta::seconds(90), now), "due now");
        assert_eq!(due(now - TimeDelta::minutes(5), now), "overdue for 5 minutes");
        assert_eq!(due(now + TimeDelta::minutes(5), now), "next in 5 minutes");
        assert_eq!(instant(now), "2026-11-24 05:00 UTC");
    }
}
