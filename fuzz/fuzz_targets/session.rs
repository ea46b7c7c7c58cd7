//! Any bytes as an answer about a session, as a token and as the claims of one: never a panic, and only a token that
//! can be sent back.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use ece_expiry_exporter::observation::session;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for date in [None, DateTime::from_timestamp(1_767_225_600, 0)] {
        if let Some(at) = session::expires_at(data, date) {
            assert!((1_420_070_400..7_258_118_400).contains(&at.timestamp()), "{at}");
        }
    }
    if let Some(token) = session::token_in(data) {
        assert!(!token.is_empty() && token.len() <= 64 * 1024);
        assert!(token.bytes().all(|it| it.is_ascii_graphic()), "{token:?}");
    }
    let jwt = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(data));
    let texts = [std::str::from_utf8(data).ok(), Some(jwt.as_str())];
    for at in texts.into_iter().flatten().filter_map(session::exp_of) {
        let _ = (at.to_rfc3339(), at.format("%F %R").to_string());
    }
});
