//! Durations as Prometheus writes them: `1h30m`, `90d`, `500ms`.
//!
//! A day is 24 hours and a year 365 days; there are no months, because nobody agrees how long one is.

use std::time::Duration;

/// The units, largest first, each with its milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration in Prometheus' grammar: numbers with the units `y w d h m s ms`, each at most once, largest first,
/// and a plain `0`. The error is a sentence with a hint.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err("a duration is missing; write one such as `15m` or `1h30m`".to_owned());
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let unit_len =
            tail.len() - tail.trim_start_matches(|it: char| it.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(unit_len);
        if number.is_empty() || (unit.is_empty() && !tail.is_empty()) {
            return Err(format!(
                "`{text}` is not a duration; write one such as `15m`, `1h30m` or `90d`"
            ));
        }
        if unit.is_empty() {
            return Err(format!(
                "`{text}` lacks a unit; write `{text}s`, `{text}m`, `{text}h` or `{text}d`"
            ));
        }
        let Some((_, scale)) = units.find(|(name, _)| *name == unit) else {
            return Err(unit_problem(text, unit));
        };
        millis = number
            .parse::<u64>()
            .ok()
            .and_then(|it| it.checked_mul(*scale))
            .and_then(|it| millis.checked_add(it))
            .ok_or_else(|| {
                format!("`{text}` is too long; the longest duration is about 290 million years")
            })?;
        rest = tail;
    }
    // Whoever keeps a duration as signed milliseconds can rely on its fitting.
    if i64::try_from(millis).is_err() {
        return Err(format!(
            "`{text}` is too long; the longest duration is about 290 million years"
        ));
    }
    Ok(Duration::from_millis(millis))
}

/// Writes a duration so that [`parse_duration`] reads it back: `90d`, `1h30m`, `0s`. Days are the largest unit, as
/// people say `14d` and `365d`. What is less than a millisecond is dropped.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    if rest == 0 {
        return "0s".to_owned();
    }
    let part = |(unit, scale): &(&str, u64)| {
        let count = rest / u128::from(*scale);
        rest %= u128::from(*scale);
        (count != 0).then(|| format!("{count}{unit}"))
    };
    UNITS[2..].iter().filter_map(part).collect()
}

fn unit_problem(text: &str, unit: &str) -> String {
    if UNITS.iter().any(|(name, _)| *name == unit) {
        return format!(
            "`{text}` has its units out of order; write each once, the largest first, as in `1h30m`"
        );
    }
    let hint = match unit {
        "M" | "mo" | "mon" | "month" | "months" => {
            "months differ in length, write days, as in `90d`".to_owned()
        }
        _ => match unit.to_ascii_lowercase().as_str() {
            "us" | "ns" => "the smallest unit is `ms`".to_owned(),
            lower if UNITS.iter().any(|(name, _)| *name == lower) => format!("write `{lower}`"),
            _ => "the units are y, w, d, h, m, s and ms".to_owned(),
        },
    };
    format!("`{text}` has the unknown unit `{unit}`; {hint}")
}
