//! The forms of the header `X-Elastic-Api-Key-Expiration`. Pure.
//!
//! Elastic documents that the header tells when a key expires, not how it is written. So every form that a server on
//! the Java virtual machine is likely to print is read, and what is not understood is said to be so: a guess would be
//! worse than none. Which answers may be believed is decided in `answer`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Months, NaiveDate, NaiveDateTime, TimeDelta, Utc};

use crate::schedule::parse_duration;

/// Longer values are not dates, and are not looked at.
const VALUE_MAX: usize = 1024;
/// How many values of one answer are looked at, header lines and members of lists together.
const VALUES_MAX: usize = 16;
/// How much of a value that is no date is kept to be shown, in bytes.
const RAW_MAX: usize = 128;
/// 2015-01-01T00:00:00Z: no key of ECE is older, so no expiry lies before it.
const EARLIEST: i64 = 1_420_070_400;
/// 2200-01-01T00:00:00Z: an expiry from here on is a unit mistaken, or a way to say never that nobody announced.
const LATEST: i64 = 7_258_118_400;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expiration {
    /// There is no such header.
    Absent,
    /// The key expires.
    At {
        /// When.
        at: DateTime<Utc>,
        /// What had to be assumed to understand it.
        note: Option<Note>,
    },
    /// A word or number that stands for "does not expire".
    Never,
    /// None of the known forms, or a date outside the years 2015 to 2199.
    Unparsable {
        /// The value, at most 128 bytes of visible ASCII.
        raw: String,
    },
}

/// What had to be assumed to understand a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It names no zone; UTC was taken.
    AssumedUtc,
    /// It names a day only; its first moment in UTC was taken.
    DateOnly,
    /// It is a duration; it was counted from the date of the answer.
    Relative,
    /// There are several values and they differ; the earliest was taken.
    Disagree,
}

/// One value that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Never,
    At(DateTime<Utc>, Option<Note>),
}

/// Reads the header. `values` are its lines, as they came; `date` is when the answer was given, which durations count
/// from. Lines, and dates with commas between in one line, that differ yield the earliest.
pub fn read(values: &[&[u8]], date: Option<DateTime<Utc>>) -> Expiration {
    let Some(first) = values.first() else { return Expiration::Absent };
    let mut seen: Vec<Option<Value>> = Vec::new();
    for line in values.iter().take(VALUES_MAX) {
        seen.extend(read_line(line, date));
    }
    seen.truncate(VALUES_MAX);

    let earliest = seen.iter().flatten().filter_map(|it| match it {
        Value::At(at, note) => Some((*at, *note)),
        Value::Never => None,
    });
    match earliest.min_by_key(|(at, _)| *at) {
        Some((at, note)) => {
            let agree =
                seen.iter().all(|it| matches!(it, Some(Value::At(other, _)) if *other == at));
            Expiration::At { at, note: if agree { note } else { Some(Note::Disagree) } }
        }
        // "Never" is only believed when nothing contradicts it.
        None if seen.iter().all(|it| *it == Some(Value::Never)) => Expiration::Never,
        None => Expiration::Unparsable { raw: visible(first) },
    }
}

/// Reads a value from elsewhere, such as `expiration_date` in ECE's list of keys.
pub fn read_text(text: &str, date: Option<DateTime<Utc>>) -> Expiration {
    read(&[text.as_bytes()], date)
}

/// The values of one header line, at least one; `None` is one that was not understood.
fn read_line(line: &[u8], date: Option<DateTime<Utc>>) -> Vec<Option<Value>> {
    if VALUE_MAX < line.len() || !line.is_ascii() {
        return vec![None];
    }
    let Ok(text) = std::str::from_utf8(line) else { return vec![None] };
    let whole = read_value(text, date);
    if whole.is_some() || !text.contains(',') {
        return vec![whole];
    }
    // A list, but dates of e-mail and HTTP have a comma of their own: a piece that says nothing is tried with the next.
    let pieces: Vec<&str> = text.split(',').collect();
    let mut values = Vec::new();
    let mut index = 0;
    while index < pieces.len() && values.len() < VALUES_MAX {
        let piece = pieces[index];
        index += 1;
        if piece.trim().is_empty() {
            continue;
        }
        let mut value = read_value(piece, date);
        if let (None, Some(next)) = (value, pieces.get(index)) {
            value = read_value(&format!("{piece},{next}"), date);
            index += usize::from(value.is_some());
        }
        values.push(value);
    }
    if values.is_empty() { vec![None] } else { values }
}

/// One value in any known form, if it lies within the bounds.
fn read_value(text: &str, date: Option<DateTime<Utc>>) -> Option<Value> {
    let text = unquoted(text);
    if ["", "never", "none", "null", "-1", "0"].iter().any(|it| it.eq_ignore_ascii_case(text)) {
        return Some(Value::Never);
    }
    let (at, note) = iso(text)
        .or_else(|| prose(text).map(|it| (it, None)))
        .or_else(|| epoch(text).map(|it| (it, None)))
        .or_else(|| relative(text, date?).map(|it| (it, Some(Note::Relative))))?;
    (EARLIEST <= at.timestamp() && at.timestamp() < LATEST).then_some(Value::At(at, note))
}

/// Without the white space and the pairs of quotes around it.
fn unquoted(text: &str) -> &str {
    let mut text = text.trim();
    for quote in ['"', '\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|it| it.strip_suffix(quote)) {
            text = inner.trim();
        }
    }
    text
}

/// ISO 8601 and RFC 3339, as far as programs print them: a date; a time with or without seconds and fraction; a zone
/// as `Z`, an offset, Java's `[Etc/UTC]`, or none.
fn iso(text: &str) -> Option<(DateTime<Utc>, Option<Note>)> {
    let (text, bracket) = match text.strip_suffix(']').and_then(|it| it.rsplit_once('[')) {
        Some((before, zone)) => (before, Some(zone)),
        None => (text, None),
    };
    let bytes = text.as_bytes();
    let year = i32::try_from(digits(bytes, 0, 4)?).ok()?;
    let day = date_of_parts(
        year,
        (bytes.get(4)?, bytes.get(7)?),
        digits(bytes, 5, 2)?,
        digits(bytes, 8, 2)?,
    )?;
    if bytes.len() == 10 && bracket.is_none() {
        return Some((day.and_hms_opt(0, 0, 0)?.and_utc(), Some(Note::DateOnly)));
    }
    if !matches!(bytes.get(10)?, b'T' | b't' | b' ') || *bytes.get(13)? != b':' {
        return None;
    }
    let (hour, minute) = (digits(bytes, 11, 2)?, digits(bytes, 14, 2)?);
    let (second, nanos, zone_at) = seconds(bytes)?;
    let local = day.and_hms_opt(hour, minute, 0)?
        + TimeDelta::seconds(i64::from(second))
        + TimeDelta::nanoseconds(nanos);
    let zone = text.get(zone_at..)?;
    in_zone(local, zone.strip_prefix(' ').unwrap_or(zone), bracket)
}

fn date_of_parts(year: i32, dashes: (&u8, &u8), month: u32, day: u32) -> Option<NaiveDate> {
    if dashes == (&b'-', &b'-') { NaiveDate::from_ymd_opt(year, month, day) } else { None }
}

/// Second, nanoseconds and where the zone begins, of a time whose minute ends at byte 16.
fn seconds(bytes: &[u8]) -> Option<(u32, i64, usize)> {
    if bytes.get(16) != Some(&b':') {
        return Some((0, 0, 16));
    }
    // 60 is a leap second; it counts as the first second of the next minute.
    let second = digits(bytes, 17, 2).filter(|it| *it <= 60)?;
    if bytes.get(19) != Some(&b'.') {
        return Some((second, 0, 19));
    }
    let fraction = bytes[20..].iter().take_while(|it| it.is_ascii_digit()).count();
    if !(1..=9).contains(&fraction) {
        return None;
    }
    let scale = 10_i64.pow(u32::try_from(9 - fraction).ok()?);
    Some((second, i64::from(digits(bytes, 20, fraction)?) * scale, 20 + fraction))
}

/// The instant of a local time. An offset counts more than the name of a zone that follows in brackets.
fn in_zone(
    local: NaiveDateTime,
    zone: &str,
    bracket: Option<&str>,
) -> Option<(DateTime<Utc>, Option<Note>)> {
    let is_utc =
        |name: &str| ["Z", "UTC", "GMT", "Etc/UTC"].iter().any(|it| it.eq_ignore_ascii_case(name));
    if zone.is_empty() {
        return match bracket {
            None => Some((local.and_utc(), Some(Note::AssumedUtc))),
            Some(name) => is_utc(name).then(|| (local.and_utc(), None)),
        };
    }
    if is_utc(zone) {
        return Some((local.and_utc(), None));
    }
    let bytes = zone.as_bytes();
    let sign = match bytes[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = digits(bytes, 1, 2)?;
    let minutes = match bytes.len() {
        3 => 0,
        5 => digits(bytes, 3, 2)?,
        6 if bytes[3] == b':' => digits(bytes, 4, 2)?,
        _ => return None,
    };
    if 18 < hours || 59 < minutes {
        return None;
    }
    let offset = TimeDelta::minutes(sign * i64::from(hours * 60 + minutes));
    Some((local.checked_sub_signed(offset)?.and_utc(), None))
}

/// The dates of HTTP (RFC 9110 in its three forms) and of e-mail (RFC 2822).
fn prose(text: &str) -> Option<DateTime<Utc>> {
    if !text.contains(' ') {
        return None;
    }
    httpdate::parse_http_date(text)
        .map(DateTime::<Utc>::from)
        .or_else(|_| DateTime::parse_from_rfc2822(text).map(|it| it.to_utc()))
        .ok()
}

/// Time since 1970: seconds with or without a fraction, or milli-, micro- or nanoseconds, told apart by their length.
fn epoch(text: &str) -> Option<DateTime<Utc>> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !whole.bytes().chain(fraction.bytes()).all(|it| it.is_ascii_digit()) {
        return None;
    }
    let is_fraction = text.len() != whole.len();
    let number: i64 = whole.parse().ok()?;
    match whole.len() {
        10 if (1..=9).contains(&fraction.len()) => {
            let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
            DateTime::from_timestamp(number, nanos)
        }
        13 if !is_fraction => DateTime::from_timestamp_millis(number),
        16 if !is_fraction => DateTime::from_timestamp_micros(number),
        19 if !is_fraction => Some(DateTime::from_timestamp_nanos(number)),
        _ => None,
    }
}

/// A duration from `date` on: ISO 8601 (`P90D`, `PT3H`) or `90d`. The last resort.
fn relative(text: &str, date: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match text.strip_prefix(['P', 'p']) {
        Some(period) => after_period(period, date),
        None => date.checked_add_signed(TimeDelta::from_std(parse_duration(text).ok()?).ok()?),
    }
}

/// `date` and an ISO 8601 period without its `P`. Units come in their order, the last number may have a fraction when
/// it counts seconds.
fn after_period(period: &str, date: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let upper = period.to_ascii_uppercase();
    let (days, time) = match upper.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (upper.as_str(), ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let [years, months, weeks, day_count] = counts(days, ['Y', 'M', 'W', 'D'])?;
    let (time, fraction) = match time.strip_suffix('S').and_then(|it| it.rsplit_once('.')) {
        Some((whole, fraction)) => (format!("{whole}S"), fraction),
        None => (time.to_owned(), "0"),
    };
    let [hours, minutes, secs] = counts(&time, ['H', 'M', 'S'])?;
    if fraction.is_empty() || 9 < fraction.len() || !fraction.bytes().all(|it| it.is_ascii_digit())
    {
        return None;
    }
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    let months = years.checked_mul(12)?.checked_add(months)?;
    let total = [(weeks, 604_800), (day_count, 86_400), (hours, 3_600), (minutes, 60), (secs, 1)]
        .iter()
        .try_fold(0_u64, |sum, (count, scale)| sum.checked_add(u64::from(*count) * scale))?;
    date.checked_add_months(Months::new(months))?
        .checked_add_signed(TimeDelta::from_std(Duration::from_secs(total)).ok()?)?
        .checked_add_signed(TimeDelta::nanoseconds(i64::try_from(nanos).ok()?))
}

/// The number before each of `units`, 0 where it is missing; they come in this order, and nothing else.
fn counts<const N: usize>(text: &str, units: [char; N]) -> Option<[u32; N]> {
    let mut counts = [0; N];
    let mut rest = text;
    for (count, unit) in counts.iter_mut().zip(units) {
        let number = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        if let Some(tail) = rest[number..].strip_prefix(unit) {
            *count = rest[..number].parse().ok()?;
            rest = tail;
        }
    }
    rest.is_empty().then_some(counts)
}

/// The number that `count` digits from `from` on are; `None` unless all are digits.
fn digits(bytes: &[u8], from: usize, count: usize) -> Option<u32> {
    let text = bytes.get(from..from + count)?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0_u32, |sum, it| sum.checked_mul(10)?.checked_add(u32::from(it - b'0')))
}

/// At most `RAW_MAX` bytes of a value; what is not visible ASCII becomes a dot.
fn visible(value: &[u8]) -> String {
    value
        .iter()
        .take(RAW_MAX)
        .map(|it| if it.is_ascii_graphic() || *it == b' ' { char::from(*it) } else { '.' })
        .collect()
}
