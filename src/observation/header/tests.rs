//! Forms of the header, each with what is read of it, and properties that hold for any text.

use chrono::{FixedOffset, SecondsFormat};
use proptest::prelude::*;

use super::*;

/// What a person would say about the value, when the answer is of 2026-01-01 00:00 UTC.
fn told(values: &[&str]) -> String {
    let values: Vec<&[u8]> = values.iter().map(|it| it.as_bytes()).collect();
    match read(&values, DateTime::from_timestamp(1_767_225_600, 0)) {
        Expiration::Absent => "absent".to_owned(),
        Expiration::At { at, note: None } => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        Expiration::At { at, note: Some(note) } => {
            format!("{} {note:?}", at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        Expiration::Never => "never".to_owned(),
        Expiration::Unparsable { raw } => format!("unparsable: {raw}"),
    }
}

#[test]
fn every_known_form_is_read() {
    let cases = [
        ("2026-02-21T09:15:30.123Z", "2026-02-21T09:15:30.123Z"),
        ("2026-02-21T09:15:30Z", "2026-02-21T09:15:30Z"),
        ("2026-02-21t09:15:30z", "2026-02-21T09:15:30Z"),
        ("2026-02-21 09:15:30Z", "2026-02-21T09:15:30Z"),
        ("2026-02-21 09:15:30 UTC", "2026-02-21T09:15:30Z"),
        ("2026-02-21T10:15:30.000000001+01:00", "2026-02-21T09:15:30.000000001Z"),
        ("2026-02-21T04:45:30-0430", "2026-02-21T09:15:30Z"),
        ("2026-02-21T10:15:30+01", "2026-02-21T09:15:30Z"),
        ("2026-02-21T09:15Z", "2026-02-21T09:15:00Z"),
        ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z"),
        ("2026-02-21T09:15:30", "2026-02-21T09:15:30Z AssumedUtc"),
        ("2026-02-21 09:15", "2026-02-21T09:15:00Z AssumedUtc"),
        ("2026-02-21T09:15:30Z[UTC]", "2026-02-21T09:15:30Z"),
        ("2026-02-21T09:15Z[Etc/UTC]", "2026-02-21T09:15:00Z"),
        ("2026-02-21T09:15:30[GMT]", "2026-02-21T09:15:30Z"),
        ("2026-02-21T10:15:30+01:00[Europe/Berlin]", "2026-02-21T09:15:30Z"),
        ("2026-02-21", "2026-02-21T00:00:00Z DateOnly"),
        ("Sat, 21 Feb 2026 09:15:30 GMT", "2026-02-21T09:15:30Z"),
        ("Saturday, 21-Feb-26 09:15:30 GMT", "2026-02-21T09:15:30Z"),
        ("Sat Feb 21 09:15:30 2026", "2026-02-21T09:15:30Z"),
        ("Sat, 21 Feb 2026 10:15:30 +0100", "2026-02-21T09:15:30Z"),
        ("21 Feb 2026 10:15 +0100", "2026-02-21T09:15:00Z"),
        ("1771665330", "2026-02-21T09:15:30Z"),
        ("1771665330.123", "2026-02-21T09:15:30.123Z"),
        ("1771665330123", "2026-02-21T09:15:30.123Z"),
        ("1771665330123456", "2026-02-21T09:15:30.123456Z"),
        ("1771665330123456789", "2026-02-21T09:15:30.123456789Z"),
        ("  \"2026-02-21T09:15:30Z\" ", "2026-02-21T09:15:30Z"),
        ("'1771665330'", "2026-02-21T09:15:30Z"),
        ("P90D", "2026-04-01T00:00:00Z Relative"),
        ("PT3H", "2026-01-01T03:00:00Z Relative"),
        ("P1Y2M3W4DT5H6M7.5S", "2027-03-26T05:06:07.500Z Relative"),
        ("90d", "2026-04-01T00:00:00Z Relative"),
        ("1h30m", "2026-01-01T01:30:00Z Relative"),
    ];
    for (value, expected) in cases {
        assert_eq!(told(&[value]), expected, "{value}");
    }
}

#[test]
fn words_and_numbers_that_stand_for_never_are_no_dates() {
    for value in ["", "  ", "\"\"", "never", "Never", "NONE", "null", "-1", "0", "'never'"] {
        assert_eq!(told(&[value]), "never", "{value:?}");
    }
    assert_eq!(told(&[]), "absent");
}

#[test]
fn what_is_no_date_is_said_to_be_none() {
    let cases = [
        "soon",
        "2026-13-01",
        "2026-02-30T00:00:00Z",
        "2026-02-21T25:00:00Z",
        "2026-02-21T09:15:30+25:00",
        "2026-02-21T09:15:30.Z",
        "2026-02-21T09:15:30.1234567890Z",
        "2026-02-21T09:15:30[Europe/Berlin]",
        "2026-02-21T",
        "2026-02-21[UTC]",
        "20260221",
        "+1771665330",
        "-1771665330",
        "1.771665330e9",
        "177166533",
        "1771665330123.5",
        "P",
        "PT",
        "P1H",
        "-P1D",
        "P99999999999D",
        "1",
        ",",
        ",,",
    ];
    for value in cases {
        assert_eq!(told(&[value]), format!("unparsable: {value}"), "{value}");
    }
    assert_eq!(
        read(&[b"90d"], None),
        Expiration::Unparsable { raw: "90d".to_owned() },
        "a duration from an unknown date on is no date"
    );
}

#[test]
fn a_date_outside_the_years_2015_to_2199_is_a_mistake() {
    assert_eq!(told(&["2014-12-31T23:59:59Z"]), "unparsable: 2014-12-31T23:59:59Z");
    assert_eq!(told(&["2015-01-01T00:00:00Z"]), "2015-01-01T00:00:00Z");
    assert_eq!(told(&["2199-12-31T23:59:59Z"]), "2199-12-31T23:59:59Z");
    assert_eq!(told(&["2200-01-01T00:00:00Z"]), "unparsable: 2200-01-01T00:00:00Z");
    assert_eq!(told(&["1000000000"]), "unparsable: 1000000000");
    assert_eq!(told(&["9999-12-31T23:59:59Z"]), "unparsable: 9999-12-31T23:59:59Z");
}

#[test]
fn of_several_values_the_earliest_counts() {
    let (early, late) = ("2026-02-21T09:15:30Z", "2026-03-21T09:15:30Z");
    assert_eq!(told(&[late, early]), "2026-02-21T09:15:30Z Disagree");
    assert_eq!(told(&[early, early]), "2026-02-21T09:15:30Z");
    assert_eq!(told(&[early, "1771665330"]), "2026-02-21T09:15:30Z");
    assert_eq!(told(&[&format!("{late}, {early}")]), "2026-02-21T09:15:30Z Disagree");
    assert_eq!(told(&[&format!("{early},{early}")]), "2026-02-21T09:15:30Z");
    assert_eq!(
        told(&["Sun, 22 Feb 2026 09:15:30 GMT, Sat, 21 Feb 2026 09:15:30 GMT"]),
        "2026-02-21T09:15:30Z Disagree"
    );
    assert_eq!(told(&["never", early]), "2026-02-21T09:15:30Z Disagree");
    assert_eq!(told(&["soon", early]), "2026-02-21T09:15:30Z Disagree");
    assert_eq!(told(&["never", "none"]), "never");
    assert_eq!(told(&["never", "soon"]), "unparsable: never");
}

#[test]
fn hostile_bytes_are_shown_harmlessly() {
    let hostile = b"\x00\r\nSet-Cookie: a=b\xff\x1b[31m";
    assert_eq!(
        read(&[hostile], None),
        Expiration::Unparsable { raw: "...Set-Cookie: a=b..[31m".to_owned() }
    );
    let huge = vec![b'9'; 64 * 1024];
    assert_eq!(read(&[&huge], None), Expiration::Unparsable { raw: "9".repeat(128) });
    let commas = vec![b','; 1000];
    assert_eq!(read(&[&commas], None), Expiration::Unparsable { raw: ",".repeat(128) });
}

fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    (EARLIEST..LATEST, 0..1_000_000_000_u32)
        .prop_map(|(secs, nanos)| DateTime::from_timestamp(secs, nanos).unwrap())
}

/// `at` cut to `digits` digits of its fraction.
fn cut(at: DateTime<Utc>, digits: u32) -> DateTime<Utc> {
    use chrono::SubsecRound;
    at.trunc_subsecs(u16::try_from(digits).unwrap())
}

fn certain(at: DateTime<Utc>) -> Expiration {
    Expiration::At { at, note: None }
}

proptest! {
    #[test]
    fn an_rfc_3339_date_survives(at in instants(), format in 0..5_usize, minutes in -1080..=1080_i32) {
        let formats = [SecondsFormat::Secs, SecondsFormat::Millis, SecondsFormat::Micros, SecondsFormat::Nanos, SecondsFormat::AutoSi];
        let expected = cut(at, [0, 3, 6, 9, 9][format]);
        let zone = FixedOffset::east_opt(minutes * 60).unwrap();
        let text = at.with_timezone(&zone).to_rfc3339_opts(formats[format], true);
        prop_assert_eq!(read_text(&text, None), certain(expected));
        // The same as other programs print it: no colon in the offset, lower case.
        let colonless = match text.strip_suffix('Z') {
            Some(_) => text.clone(),
            None => format!("{}{}", &text[..text.len() - 3], &text[text.len() - 2..]),
        };
        prop_assert_eq!(read_text(&colonless.to_lowercase(), None), certain(expected));
    }

    #[test]
    fn dates_of_http_and_mail_survive(at in instants()) {
        let at = cut(at, 0);
        prop_assert_eq!(read_text(&at.to_rfc2822(), None), certain(at));
        prop_assert_eq!(read_text(&at.format("%a, %d %b %Y %H:%M:%S GMT").to_string(), None), certain(at));
        prop_assert_eq!(read_text(&at.format("%a %b %e %H:%M:%S %Y").to_string(), None), certain(at));
        prop_assert_eq!(read_text(&at.format("%Y-%m-%d %H:%M:%S%z").to_string(), None), certain(at));
        prop_assert_eq!(
            read_text(&at.format("%Y-%m-%dT%H:%M:%S").to_string(), None),
            Expiration::At { at, note: Some(Note::AssumedUtc) }
        );
    }

    #[test]
    fn epoch_times_survive(at in instants()) {
        prop_assert_eq!(read_text(&at.timestamp().to_string(), None), certain(cut(at, 0)));
        prop_assert_eq!(read_text(&at.timestamp_millis().to_string(), None), certain(cut(at, 3)));
        prop_assert_eq!(read_text(&at.timestamp_micros().to_string(), None), certain(cut(at, 6)));
        prop_assert_eq!(read_text(&at.timestamp_nanos_opt().unwrap().to_string(), None), certain(at));
        let decimal = format!("{}.{:09}", at.timestamp(), at.timestamp_subsec_nanos());
        prop_assert_eq!(read_text(&decimal, None), certain(at));
    }

    #[test]
    fn a_day_means_its_first_moment(at in instants()) {
        let text = at.format("%Y-%m-%d").to_string();
        let midnight = at.date_naive().and_hms_opt(0, 0, 0).unwrap().and_utc();
        prop_assert_eq!(read_text(&text, None), Expiration::At { at: midnight, note: Some(Note::DateOnly) });
    }

    #[test]
    fn any_bytes_are_read_or_refused(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        if let Expiration::Unparsable { raw } = read(&lines, DateTime::from_timestamp(1_767_225_600, 0)) {
            prop_assert!(raw.len() <= RAW_MAX && raw.bytes().all(|it| (0x20..0x7f).contains(&it)));
        }
    }

    #[test]
    fn any_text_like_a_date_is_read_or_refused(text in "[0-9TZPYMWDHS:+. ,\\-\\[\\]\"']{0,60}") {
        let expiration = read_text(&text, DateTime::from_timestamp(1_767_225_600, 0));
        if let Expiration::At { at, .. } = expiration {
            prop_assert!(EARLIEST <= at.timestamp() && at.timestamp() < LATEST);
        }
    }
}
