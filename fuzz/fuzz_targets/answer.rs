//! Any bytes as an answer of ECE, as its list of keys and as a secret: never a panic, and messages within their bounds.
//!
//! The first two bytes are the status, the next four lines error codes, content type, date and expiry, and the
//! rest is the body.
#![no_main]

use chrono::DateTime;
use ece_expiry_exporter::observation::answer::{self, Answer, Meaning};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((status, rest)) = data.split_first_chunk::<2>() else { return };
    let mut parts = rest.splitn(5, |it| *it == b'\n');
    let mut text = || parts.next().and_then(|it| std::str::from_utf8(it).ok());
    let (error_codes, content_type, date, expiry) = (text(), text(), text(), text());
    let body = parts.next().unwrap_or_default();
    let answer = Answer {
        status: u16::from_be_bytes(*status) % 1000,
        content_type,
        error_codes,
        expiration: expiry.iter().map(|it| it.as_bytes()).collect(),
        date,
        body,
    };
    let Some(now) = DateTime::from_timestamp(1_767_225_600, 0) else { return };
    if let Meaning::Failed(failure) = answer::meaning(&answer, now) {
        assert!(!failure.message.is_empty() && failure.message.len() <= 512, "{failure:?}");
        assert!(failure.message.bytes().all(|it| (0x20..0x7f).contains(&it)), "{failure:?}");
    }
    let _ = answer::expiry_in_keys(body, content_type, Some(now));
    let _ = answer::expiry_in_keys(body, None, None);
    let _ = std::str::from_utf8(body).map(answer::key_id_of);
});
