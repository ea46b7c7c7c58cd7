//! How long a platform asks to be left alone after an answer. Pure.
//!
//! Elastic Cloud counts requests in a window and names the window in each answer; gateways before ECE send
//! `Retry-After`. What follows from it for probes is the monitor's business.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::schedule::parse_duration;

/// The longest rest, whatever is asked for: a key that expires in the meantime must still be noticed in time.
const REST_MAX: Duration = Duration::from_secs(15 * 60);
/// The shortest, so that `Retry-After: 0` is no reason to ask again at once.
const REST_MIN: Duration = Duration::from_secs(1);
/// The rest when nothing is said about it: the usual window of such limits.
const REST_UNSAID: Duration = Duration::from_secs(60);

/// What an answer says about the number of requests: its status and the values of three headers.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// The status code.
    pub status: u16,
    /// `Retry-After`: seconds, or a date.
    pub retry_after: Option<&'a str>,
    /// `x-ratelimit-interval`: the window in which requests are counted, in seconds or with a unit.
    pub interval: Option<&'a str>,
    /// `x-ratelimit-remaining`: how many more requests the window has.
    pub remaining: Option<&'a str>,
}

/// How long the platform is not to be asked: after a 429, and after the last request of a window. `Retry-After` comes
/// before the window, which is an upper bound. From 1 s to 15 min; `now` is when the answer came.
pub fn asked_for(limits: &Limits<'_>, now: DateTime<Utc>) -> Option<Duration> {
    let is_last =
        limits.remaining.and_then(|it| it.trim().parse::<i64>().ok()).is_some_and(|it| it <= 0);
    if limits.status != 429 && !is_last {
        return None;
    }
    let rest = limits
        .retry_after
        .and_then(|it| until(it, now))
        .or_else(|| limits.interval.and_then(window))
        .unwrap_or(REST_UNSAID);
    Some(rest.clamp(REST_MIN, REST_MAX))
}

/// The wait of a `Retry-After`; a date that is past is none.
fn until(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Some(seconds) = seconds(value) {
        return Some(seconds);
    }
    let at = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
    Some((at - now).to_std().unwrap_or_default())
}

/// The length of a window: `60`, `60s`, `1m`. The unit of a bare number is not documented; all else is in seconds.
fn window(value: &str) -> Option<Duration> {
    let value = value.trim();
    seconds(value).or_else(|| parse_duration(value).ok())
}

fn seconds(value: &str) -> Option<Duration> {
    let is_number = !value.is_empty() && value.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(
        status: u16,
        retry_after: Option<&str>,
        interval: Option<&str>,
        remaining: Option<&str>,
    ) -> Option<u64> {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        asked_for(&Limits { status, retry_after, interval, remaining }, now).map(|it| it.as_secs())
    }

    #[test]
    fn only_a_429_or_a_used_up_window_asks_for_a_rest() {
        assert_eq!(rest(200, Some("30"), Some("60"), Some("1")), None);
        assert_eq!(rest(503, Some("30"), None, None), None);
        assert_eq!(rest(200, None, Some("60"), None), None);
        assert_eq!(rest(200, None, Some("30"), Some("0")), Some(30));
        assert_eq!(rest(200, None, Some("30"), Some("-1")), Some(30));
        assert_eq!(rest(200, None, Some("30"), Some("none")), None);
        assert_eq!(rest(429, Some("30"), Some("60"), Some("5")), Some(30));
    }

    #[test]
    fn its_length_is_read_in_every_form_and_bounded() {
        let now_and_90_s = "Thu, 01 Jan 2026 00:01:30 GMT";
        let past = "Wed, 31 Dec 2025 00:00:00 GMT";
        for (retry_after, interval, expected) in [
            (Some("120"), Some("60"), 120),
            (Some(now_and_90_s), None, 90),
            (Some(past), None, 1),
            (Some("0"), None, 1),
            (Some("3600"), None, 900),
            (Some("99999999999999999999999"), None, 900),
            (Some("soon"), Some("45"), 45),
            (Some("-5"), Some("2m"), 120),
            (None, Some(" 30s "), 30),
            (None, Some("1 minute"), 60),
            (None, Some("0"), 1),
            (None, None, 60),
        ] {
            assert_eq!(
                rest(429, retry_after, interval, None),
                Some(expected),
                "{retry_after:?} {interval:?}"
            );
        }
    }
}
