//! The only clock and the only sleep.
//!
//! Everything else receives `now` as an argument, so a test can say what time it is. `.clippy.toml` forbids the
//! other clocks. Instants are `DateTime<Utc>`; the store keeps them as milliseconds since the Unix epoch.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// The longest single sleep: after a suspend, a clock step or a reload the loops look again within this time.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The current time, cut to milliseconds so that it survives the store unchanged.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(3)
}

/// Sleeps for `duration`, but at most one minute.
#[expect(clippy::disallowed_methods, reason = "this is the sleep")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration.min(SLEEP_MAX)).await;
}

/// Sleeps for all of `duration`, whatever happens to the wall clock.
pub async fn sleep_long(duration: Duration) {
    let mut left = duration;
    while !left.is_zero() {
        let part = left.min(SLEEP_MAX);
        sleep(part).await;
        left -= part;
    }
}

/// Sleeps until the wall clock reads `at`, but at most one minute; the caller looks at the clock again.
pub async fn sleep_until(at: DateTime<Utc>) {
    sleep((at - now()).to_std().unwrap_or(Duration::ZERO)).await;
}

/// Milliseconds since the Unix epoch, the form in which the store keeps an instant.
pub fn to_ms(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis()
}

/// The instant of `ms` milliseconds since the Unix epoch; a value outside chrono's range becomes the nearest end.
pub fn from_ms(ms: i64) -> DateTime<Utc> {
    let end = if ms < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_millis(ms).unwrap_or(end)
}

/// Seconds since the Unix epoch with fraction, the form of a Prometheus timestamp.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds fit an f64 exactly until the year 287396"
)]
pub fn to_seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

/// `duration` as chrono's signed type; anything beyond 292 million years becomes that.
pub fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// The wall clock plus `duration`, saturating at the end of time.
pub fn add(at: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    at.checked_add_signed(delta(duration)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
