//! Cases for the schedule: intervals, crontab text, and the days on which clocks change.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use proptest::prelude::*;

use super::*;

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Vancouver",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "America/Santiago",
];

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn show(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The runs after `from`, `count` of them, with seed 0 (no spread).
fn runs(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(text, zone).unwrap();
    let mut now = at(from);
    let mut runs = Vec::new();
    for _ in 0..count {
        now = schedule.next_after(now, 0).unwrap();
        runs.push(show(now));
    }
    runs
}

fn problem(text: &str, zone: &str) -> String {
    Schedule::parse(text, zone).unwrap_err().to_string()
}

#[test]
fn durations_are_read_as_prometheus_reads_them() {
    let cases = [
        ("0", 0),
        ("500ms", 500),
        ("15m", 900_000),
        ("1h30m", 5_400_000),
        ("90d", 7_776_000_000),
        ("2w", 1_209_600_000),
        ("1y", 31_536_000_000),
        ("1y2w3d4h5m6s7ms", 31_536_000_000 + 1_209_600_000 + 259_200_000 + 14_706_007),
    ];
    for (text, millis) in cases {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
}

#[test]
fn a_wrong_duration_is_refused_with_a_hint() {
    let cases = [
        ("", "a duration is missing; write one such as `15m` or `1h30m`"),
        ("15", "`15` lacks a unit; write `15s`, `15m`, `15h` or `15d`"),
        ("1h30", "`1h30` lacks a unit; write `1h30s`, `1h30m`, `1h30h` or `1h30d`"),
        (
            "30m1h",
            "`30m1h` has its units out of order; write each once, the largest first, as in `1h30m`",
        ),
        (
            "1h1h",
            "`1h1h` has its units out of order; write each once, the largest first, as in `1h30m`",
        ),
        ("3M", "`3M` has the unknown unit `M`; months differ in length, write days, as in `90d`"),
        ("3H", "`3H` has the unknown unit `H`; write `h`"),
        ("5us", "`5us` has the unknown unit `us`; the smallest unit is `ms`"),
        ("5 min", "`5 min` is not a duration; write one such as `15m`, `1h30m` or `90d`"),
        ("-5m", "`-5m` is not a duration; write one such as `15m`, `1h30m` or `90d`"),
        ("1.5h", "`1.5h` is not a duration; write one such as `15m`, `1h30m` or `90d`"),
        ("é", "`é` is not a duration; write one such as `15m`, `1h30m` or `90d`"),
        (
            "99999999999999999999d",
            "`99999999999999999999d` is too long; the longest duration is about 290 million years",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_duration(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn a_duration_is_written_as_people_say_it() {
    let cases = [
        ("0", "0s"),
        ("90d", "90d"),
        ("2w", "14d"),
        ("1y", "365d"),
        ("90m", "1h30m"),
        ("1500ms", "1s500ms"),
        ("24h", "1d"),
    ];
    for (text, expected) in cases {
        assert_eq!(format_duration(parse_duration(text).unwrap()), expected, "{text}");
    }
}

#[test]
fn a_schedule_displays_as_it_was_written() {
    assert_eq!(Schedule::parse("90m", "UTC").unwrap().to_string(), "1h30m");
    assert_eq!(
        Schedule::parse(" 0  9 * *  Mon ", "europe/berlin").unwrap().to_string(),
        "0 9 * * Mon (Europe/Berlin)"
    );
}

#[test]
fn a_wrong_schedule_is_refused_with_a_hint() {
    let cases = [
        (
            "",
            "UTC",
            "the schedule is empty; write an interval such as `15m` or a crontab expression such as `0 9 * * *`",
        ),
        ("900ms", "UTC", "the interval `900ms` is out of bounds; choose one between 1s and 366d"),
        ("2y", "UTC", "the interval `2y` is out of bounds; choose one between 1s and 366d"),
        (
            "15",
            "UTC",
            "`15` lacks a unit; write `15s`, `15m`, `15h` or `15d`; a crontab expression such as `0 9 * * *` is possible too",
        ),
        (
            "* * * *",
            "UTC",
            "the crontab expression `* * * *` has 4 fields; write 5 (minute, hour, day of month, month, weekday) or 6 (the second first)",
        ),
        (
            "60 * * * *",
            "UTC",
            "the field for the minute is `60`: `60` is not a number from 0 to 59",
        ),
        (
            "0 9 * * 8",
            "UTC",
            "the field for the weekday is `8`: `8` is neither a number from 0 to 7 nor a name such as `mon`",
        ),
        (
            "0 9 * 5-1 *",
            "UTC",
            "the field for the month is `5-1`: the range `5-1` runs backwards; write two ranges with a comma between",
        ),
        (
            "*/0 * * * *",
            "UTC",
            "the field for the minute is `*/0`: the step `0` is not a number from 1 to 59",
        ),
        (
            "1,,2 * * * *",
            "UTC",
            "the field for the minute is `1,,2`: `` is not a number from 0 to 59",
        ),
        (
            "0 9 30 2 *",
            "UTC",
            "the crontab expression `0 9 30 2 *` never runs; no month it names has the day it names",
        ),
        (
            "@reboot",
            "UTC",
            "`@reboot` is not known; there are @hourly, @daily, @weekly, @monthly and @yearly",
        ),
        ("15m", "Berlin", "the time zone `Berlin` is not known; did you mean `Europe/Berlin`?"),
        (
            "15m",
            "Mars/Olympus",
            "the time zone `Mars/Olympus` is not known; write a name of the IANA database such as `Europe/Berlin`, or `UTC`",
        ),
    ];
    for (text, zone, expected) in cases {
        assert_eq!(problem(text, zone), expected);
    }
}

#[test]
fn weekdays_are_numbered_as_in_crontab() {
    // 2026-03-01 is a Sunday.
    let days = |weekday: &str| {
        runs(&format!("0 12 * * {weekday}"), "UTC", "2026-02-28T12:00:00Z", 7)
            .into_iter()
            .filter(|it| it.as_str() < "2026-03-08")
            .map(|it| it[8..10].to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(days("0"), "01");
    assert_eq!(days("7"), "01");
    assert_eq!(days("1"), "02");
    assert_eq!(days("6"), "07");
    assert_eq!(days("SUN"), "01");
    assert_eq!(days("mon-fri"), "02 03 04 05 06");
    assert_eq!(days("fri-mon"), "01 02 06 07");
    assert_eq!(days("5-7"), "01 06 07");
    assert_eq!(days("7-2"), "01 02 03");
    assert_eq!(days("sat,3"), "04 07");
    assert_eq!(days("1-5/2"), "02 04 06");
    assert_eq!(days("*/3"), "01 04 07");
    assert_eq!(days("0-7"), "01 02 03 04 05 06 07");
    assert_eq!(days("2/2"), "03 05 07");
}

#[test]
fn either_day_matches_when_both_are_restricted() {
    assert_eq!(
        runs("0 12 13 * 5", "UTC", "2026-03-01T00:00:00Z", 4),
        [
            "2026-03-06T12:00:00Z",
            "2026-03-13T12:00:00Z",
            "2026-03-20T12:00:00Z",
            "2026-03-27T12:00:00Z"
        ]
    );
    assert_eq!(
        runs("0 12 10 * 5", "UTC", "2026-03-01T00:00:00Z", 3),
        ["2026-03-06T12:00:00Z", "2026-03-10T12:00:00Z", "2026-03-13T12:00:00Z"]
    );
    // A field that begins with `*` is no restriction of its own, so both must match.
    assert_eq!(
        runs("0 12 */2 * 5", "UTC", "2026-03-01T00:00:00Z", 2),
        ["2026-03-13T12:00:00Z", "2026-03-27T12:00:00Z"]
    );
}

#[test]
fn nicknames_stand_for_their_expressions() {
    let next = |text| runs(text, "UTC", "2026-03-03T12:34:56Z", 1).remove(0);
    assert_eq!(next("@hourly"), "2026-03-03T13:00:00Z");
    assert_eq!(next("@daily"), "2026-03-04T00:00:00Z");
    assert_eq!(next("@weekly"), "2026-03-08T00:00:00Z");
    assert_eq!(next("@monthly"), "2026-04-01T00:00:00Z");
    assert_eq!(next("@YEARLY"), "2027-01-01T00:00:00Z");
}

#[test]
fn a_fixed_hour_runs_once_on_each_day_of_a_clock_change() {
    // Berlin: 02:00 -> 03:00 on 2026-03-29, 03:00 -> 02:00 on 2026-10-25.
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", 3),
        ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    // New York: 02:00 -> 03:00 on 2026-03-08, 02:00 -> 01:00 on 2026-11-01.
    assert_eq!(
        runs("15,45 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", 2),
        ["2026-03-08T07:00:00Z", "2026-03-09T06:15:00Z"]
    );
    assert_eq!(
        runs("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2),
        ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]
    );
    // Lord Howe moves by half an hour: 02:00 -> 02:30 on 2026-10-04, 02:00 -> 01:30 on 2026-04-05.
    assert_eq!(
        runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z", 2),
        ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]
    );
    assert_eq!(
        runs("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2),
        ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]
    );
}

#[test]
fn a_run_in_the_repeated_hour_is_never_in_the_past() {
    // 02:05 in Berlin, the second time; the crate alone would answer 02:30, the first time.
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2026-10-25T01:05:00Z", 1),
        ["2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        runs("30 * * * *", "Europe/Berlin", "2026-10-25T01:05:00Z", 1),
        ["2026-10-25T01:30:00Z"]
    );
}

#[test]
fn every_hour_means_every_real_hour() {
    assert_eq!(
        runs("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
        ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"]
    );
    assert_eq!(
        runs("30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 4),
        [
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:30:00Z",
            "2026-10-25T03:30:00Z"
        ]
    );
    assert_eq!(
        runs("0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]
    );
}

#[test]
fn the_rules_of_zones_are_those_of_2026() {
    // Vancouver stays on UTC-7 from 2026 on.
    assert_eq!(
        runs("0 9 * * *", "America/Vancouver", "2026-11-20T00:00:00Z", 1),
        ["2026-11-20T16:00:00Z"]
    );
}

#[test]
fn six_fields_run_at_their_second_and_five_at_that_of_the_seed() {
    let five = Schedule::parse("0 9 * * *", "UTC").unwrap();
    let six = Schedule::parse("30 0 9 * * *", "UTC").unwrap();
    let now = at("2026-03-03T08:00:00Z");
    assert_eq!(show(five.next_after(now, 137).unwrap()), "2026-03-03T09:00:17Z");
    assert_eq!(show(six.next_after(now, 137).unwrap()), "2026-03-03T09:00:30Z");
    // At the very second of a run the next one is due, and just before it this one.
    assert_eq!(
        show(five.next_after(at("2026-03-03T09:00:17Z"), 137).unwrap()),
        "2026-03-04T09:00:17Z"
    );
    assert_eq!(
        show(five.next_after(at("2026-03-03T09:00:16.999Z"), 137).unwrap()),
        "2026-03-03T09:00:17Z"
    );
    assert_eq!(
        show(five.next_after(at("2026-03-03T09:00:05Z"), 137).unwrap()),
        "2026-03-03T09:00:17Z"
    );
}

#[test]
fn a_schedule_ends_with_the_calendar() {
    let schedule = Schedule::parse("0 9 * * *", "UTC").unwrap();
    assert_eq!(schedule.next_after(at("2101-01-01T00:00:00Z"), 0), None);
    assert_eq!(schedule.next_after(DateTime::<Utc>::MAX_UTC, 0), None);
    assert_eq!(
        Schedule::Every(Duration::from_secs(1)).next_after(DateTime::<Utc>::MAX_UTC, 0),
        None
    );
}

#[test]
fn the_longest_gap_knows_weekends_leap_years_and_the_day_of_25_hours() {
    let gap = |text, zone| format_duration(Schedule::parse(text, zone).unwrap().longest_gap());
    assert_eq!(gap("15m", "UTC"), "15m");
    assert_eq!(gap("*/10 * * * *", "Europe/Berlin"), "10m");
    assert_eq!(gap("0 9 * * *", "UTC"), "1d");
    assert_eq!(gap("0 9 * * *", "Europe/Berlin"), "1d1h");
    assert_eq!(gap("0 9 * * mon-fri", "UTC"), "3d");
    assert_eq!(gap("0 9 * * mon", "America/New_York"), "7d1h");
    assert_eq!(gap("0 8-18 * * *", "UTC"), "14h");
    assert_eq!(gap("0 */2 * * *", "Europe/Berlin"), "3h");
    assert_eq!(gap("0 0 1 1,7 *", "UTC"), "184d");
    assert_eq!(gap("0 0 29 2 *", "UTC"), "1461d");
    assert_eq!(gap("* * * * * *", "Europe/Berlin"), "1s");
    assert_eq!(gap("*/45 * * * *", "UTC"), "45m");
}

#[test]
fn an_interval_keeps_its_grid_across_restarts() {
    let schedule = Schedule::parse("15m", "UTC").unwrap();
    let seed = seed("prod/ci");
    let first = schedule.next_after(at("2026-03-03T08:00:00Z"), seed).unwrap();
    let later = schedule
        .next_after(at("2026-03-03T08:00:00Z") + Duration::from_secs(7 * 900), seed)
        .unwrap();
    assert_eq!(later - first, chrono::TimeDelta::seconds(7 * 900));
    assert_eq!(schedule.next_after(first, seed), Some(first + Duration::from_secs(900)));
}

#[test]
fn a_thousand_credentials_are_spread_evenly_over_an_interval() {
    let schedule = Schedule::parse("10m", "UTC").unwrap();
    let now = at("2026-03-03T08:00:00Z");
    let mut buckets: BTreeMap<i64, usize> = BTreeMap::new();
    for index in 0..1000 {
        let run = schedule.next_after(now, seed(&format!("prod/key-{index}"))).unwrap();
        *buckets.entry((run - now).num_seconds() / 60).or_default() += 1;
    }
    // 100 on average in each of the ten minutes; five standard deviations are 47.
    assert!(buckets.len() >= 10, "{buckets:?}");
    assert!(buckets.values().all(|it| *it < 150), "{buckets:?}");
    assert!((0..10).all(|it| 50 < buckets[&it]), "{buckets:?}");
}

#[test]
fn seeds_never_change() {
    assert_eq!(seed(""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(seed("a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(seed("foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn runs_increase_and_leave_no_hole_over_two_years() {
    // Text, longest time between two runs in hours that the clocks of any of the zones may cause.
    let expressions = [
        ("30 2 * * *", 25),
        ("0 */4 * * *", 5),
        ("15 1,2,3 * * *", 24),
        ("0 9 * * 1-5", 73),
        ("45 * * * *", 2),
    ];
    let end = at("2028-01-01T00:00:00Z");
    for zone in ZONES {
        for (text, hours) in expressions {
            let schedule = Schedule::parse(text, zone).unwrap();
            assert!(schedule.longest_gap() <= Duration::from_secs(hours * 3600), "{text} {zone}");
            let mut now = at("2026-01-01T00:00:00Z");
            let mut seen_first = false;
            while now < end {
                let next = schedule.next_after(now, 7).unwrap();
                assert!(now < next, "{text} {zone}: {now} -> {next}");
                if seen_first {
                    let gap = (next - now).to_std().unwrap();
                    assert!(gap <= schedule.longest_gap(), "{text} {zone}: {now} -> {next}");
                }
                seen_first = true;
                now = next;
            }
        }
    }
}

proptest! {
    #[test]
    fn a_run_is_always_later_and_nothing_lies_between(
        zone in 0..ZONES.len(),
        secs in 1_767_225_600_i64..1_830_297_600,
        minute in 0..60_u32,
        hour in prop_oneof![Just("*".to_owned()), (0..24_u32).prop_map(|it| it.to_string())],
        seed in any::<u64>(),
    ) {
        let schedule = Schedule::parse(&format!("{minute} {hour} * * *"), ZONES[zone]).unwrap();
        let now = DateTime::from_timestamp(secs, 0).unwrap();
        let run = schedule.next_after(now, seed).unwrap();
        prop_assert!(now < run);
        prop_assert_eq!(schedule.next_after(run - chrono::TimeDelta::milliseconds(1), seed), Some(run));
        let between = now + (run - now) / 2;
        prop_assert_eq!(schedule.next_after(between, seed), Some(run));
    }

    #[test]
    fn durations_survive_writing_and_reading(millis in 0..i64::MAX as u64) {
        let duration = Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}", zone in "\\PC{0,20}") {
        let _ = parse_duration(&text);
        let _ = Schedule::parse(&text, "UTC");
        let refused = Schedule::parse("15m", &format!("?{zone}"));
        prop_assert!(refused.is_err());
    }

    #[test]
    fn any_crontab_runs_in_order_or_is_refused(text in "[0-9*,/-]{1,6}( [0-9*,/-]{1,4}){4,5}") {
        if let Ok(schedule) = Schedule::parse(&text, "Europe/Berlin") {
            let now = at("2026-03-28T20:00:00Z");
            let first = schedule.next_after(now, 5);
            prop_assert!(first.is_some_and(|it| now < it));
            let second = first.and_then(|it| schedule.next_after(it, 5));
            prop_assert!(first < second);
        }
    }
}
