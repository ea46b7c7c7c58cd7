//! Any bytes as lines of the expiry header: never a panic, and only dates and raw texts within their bounds.
#![no_main]

use chrono::DateTime;
use ece_expiry_exporter::observation::header::{self, Expiration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let lines: Vec<&[u8]> = data.split(|it| *it == b'\n').collect();
    for date in [None, DateTime::from_timestamp(1_767_225_600, 0)] {
        match header::read(&lines, date) {
            Expiration::At { at, .. } => {
                let seconds = at.timestamp();
                assert!((1_420_070_400..7_258_118_400).contains(&seconds), "{at}");
            }
            Expiration::Unparsable { raw } => {
                assert!(raw.len() <= 128 && raw.bytes().all(|it| (0x20..0x7f).contains(&it)), "{raw:?}");
            }
            Expiration::Never => {}
            Expiration::Absent => panic!("there is a line"),
        }
    }
});
