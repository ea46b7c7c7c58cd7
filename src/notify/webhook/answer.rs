//! Signatures of requests and the meaning of answers. Pure.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use ring::hmac;

use crate::config::AnswerRule;
use crate::delivery::{Accepted, SendError};
use crate::notify::text::cut;

/// Errors in words that pass by themselves.
const PASSING_ERRORS: [&str; 7] = [
    "ratelimited",
    "rate_limited",
    "internal_error",
    "fatal_error",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];

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
        410 => Err(SendError::Gone {
            why: cut(
                &format!(
                    "{host} answered 410; the receiver is gone, and nothing more is sent to it until the configuration \
                     is loaded anew: remove it or update the URL{said}"
                ),
                256,
            ),
        }),
        413 => give_up("the receiver takes no message of this size"),
        _ => give_up("it does not take this message"),
    }
}

/// The wait that a JSON answer asks for, in seconds with a fraction.
pub fn wait_in(rule: &AnswerRule, body: &str) -> Option<Duration> {
    let key = rule.wait_key.as_deref()?;
    let answer: serde_json::Value = serde_json::from_str(body).ok()?;
    let seconds = answer.get(key)?.as_f64().filter(|it| it.is_finite() && 0.0 <= *it)?;
    // Rounded up: asking a moment too early costs another refusal.
    Duration::try_from_secs_f64(seconds.ceil()).ok()
}

/// Whether an answer of 2xx takes the message by the words of the service. `said` is its beginning, fit to be shown.
///
/// # Errors
/// It refuses in words, or it is not the answer of that service: a page of a proxy, for instance.
pub fn confirm(rule: &AnswerRule, host: &str, body: &str, said: &str) -> Result<(), SendError> {
    let Some(wanted) = rule.accepted_body.as_deref() else { return Ok(()) };
    if body.trim() == wanted {
        return Ok(());
    }
    let answer = serde_json::from_str::<serde_json::Value>(body).ok();
    let word = |key: &str| answer.as_ref().and_then(|it| it.get(key));
    match word("ok").and_then(serde_json::Value::as_bool) {
        Some(true) => Ok(()),
        Some(false) => {
            let error = word("error").and_then(|it| it.as_str()).unwrap_or_default();
            let why = cut(&format!("{host} answered with success but refuses: {said}"), 256);
            if PASSING_ERRORS.contains(&error) {
                Err(SendError::Retry { why, after: None })
            } else {
                Err(SendError::GiveUp { why })
            }
        }
        None => {
            let said = if said.is_empty() { "nothing" } else { said };
            let why = format!(
                "{host} did not answer `{wanted}`, so it may not have taken the message; check that the URL is the service's and no proxy answers for it: {said}"
            );
            Err(SendError::Retry { why: cut(&why, 256), after: None })
        }
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
