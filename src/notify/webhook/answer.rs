//! Signatures of requests and the meaning of answers. Pure.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use ring::hmac;

use crate::delivery::{Accepted, SendError};
use crate::notify::text::cut;

/// The signature of Standard Webhooks 1.0.0, `v1,<base64>`, over `id.timestamp.body`; `None` if `secret` is not
/// `whsec_` and base64 (the prefix may be missing).
pub fn sign(secret: &str, id: &str, timestamp_secs: i64, body: &[u8]) -> Option<String> {
    let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok()?;
    if key.is_empty() {
        return None;
    }
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{timestamp_secs}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", BASE64.encode(context.sign())))
}

/// The wait of a `Retry-After`, in seconds or as an HTTP date; a date that is past is no wait, and nonsense is `None`.
pub fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|it| it.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
    Some((at - now).to_std().unwrap_or(Duration::ZERO))
}

/// What a status means. `said` is the beginning of the answer, fit to be shown.
///
/// # Errors
/// Every status but 2xx.
pub fn judge(
    status: u16,
    host: &str,
    after: Option<Duration>,
    said: &str,
) -> Result<Accepted, SendError> {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let give_up = |what: &str| {
        Err(SendError::GiveUp { why: cut(&format!("{host} answered {status}; {what}{said}"), 256) })
    };
    match status {
        200..=299 => Ok(Accepted(format!("HTTP {status}"))),
        300..=399 => give_up("redirects are not followed: update the URL to where it leads"),
        408 | 425 | 429 | 500..=599 => Err(SendError::Retry {
            why: cut(&format!("{host} answered {status}{said}"), 256),
            after,
        }),
        401 | 403 => give_up("check the URL, its token and authorization"),
        404 | 405 => give_up("check the URL"),
        410 => give_up("the receiver is gone: remove it or update the URL"),
        413 => give_up("the receiver takes no message of this size"),
        _ => give_up("it does not take this message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn a_signature_is_the_one_of_standard_webhooks() {
        let body = br#"{"type":"credential.expiring","version":"1"}"#;
        let signature = sign(SECRET, "msg_01JDEXAMPLE", 1_767_225_600, body);
        let expected = "v1,zvOYA5/7VYTkTvp79KHy0GmVeE9pku6OkuzpGq2vyWA=";
        assert_eq!(signature.as_deref(), Some(expected));
        assert_eq!(sign("whsec_%%", "msg_x", 0, body), None);
        assert_eq!(sign("whsec_", "msg_x", 0, body), None);
    }

    #[test]
    fn a_wait_is_read_in_both_forms_and_nonsense_is_none() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let wait = |value| retry_after(value, now);
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Thu, 01 Jan 2026 00:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(wait("Wed, 31 Dec 2025 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for nonsense in ["", "soon", "-5", "1.5", "3 days"] {
            assert_eq!(wait(nonsense), None, "{nonsense}");
        }
    }
}
