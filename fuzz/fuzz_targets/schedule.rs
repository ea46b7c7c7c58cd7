//! Any text as a schedule: it is refused, or its runs increase.
#![no_main]

use chrono::DateTime;
use ece_expiry_exporter::schedule::{Schedule, format_duration, parse_duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
    if text.len() > 200 {
        return;
    }
    let Ok(schedule) = Schedule::parse(text, "Europe/Berlin") else { return };
    // Two hours before the clocks of Berlin are set back in 2026.
    let mut now = DateTime::from_timestamp(1_792_882_800, 0).expect("this is in the year 2026");
    for _ in 0..10 {
        let Some(next) = schedule.next_after(now, 1234) else { return };
        assert!(now < next, "{now} {next}");
        now = next;
    }
});
