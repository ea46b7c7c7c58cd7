//! Any bytes as ECE's answer about its license: never a panic, and a date only where the body has that number.
//!
//! The first eight bytes are also tried as the date of a body that is in order.
#![no_main]

use ece_expiry_exporter::observation::platform::license_expiry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(at) = license_expiry(data) {
        let text = std::str::from_utf8(data).expect("JSON is text");
        assert!(text.contains("expiry_date_in_millis") || text.contains('\\'), "{text}");
        assert!(0 < at.timestamp_millis(), "{at}");
        // Pages, mails and rows write it.
        let _ = (at.to_rfc3339(), at.format("%F %R").to_string());
    }
    let Some(millis) = data.first_chunk::<8>().map(|it| i64::from_le_bytes(*it)) else { return };
    let body = format!(r#"{{"usage_stats":null,"license":{{"signature":"x","expiry_date_in_millis":{millis}}}}}"#);
    if let Some(at) = license_expiry(body.as_bytes()) {
        assert_eq!(at.timestamp_millis(), millis);
    }
});
