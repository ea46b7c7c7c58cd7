//! What ECE's answers about sessions mean: logins, bearer tokens, and when they end. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::header::{self, Expiration};

/// Tokens have some 1,000 characters; what is longer than this is not looked into.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// The `expires_at` in the answer of `GET /users/auth`; `None` if there is none or it is no date. `date` is when the
/// answer was given.
pub fn expires_at(body: &[u8], date: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = match answer.get("expires_at")? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    match header::read_text(&text, date) {
        Expiration::At { at, .. } => Some(at),
        Expiration::Never | Expiration::Absent | Expiration::Unparsable { .. } => None,
    }
}

/// The claim `exp` of a JSON Web Token; `None` if it has none or is something else. The signature is not verified: the
/// claim is what the token says of itself, and ECE may end the session sooner.
pub fn exp_of(token: &str) -> Option<DateTime<Utc>> {
    if TOKEN_BYTES_MAX < token.len() {
        return None;
    }
    let mut parts = token.split('.');
    let (_, claims) = (parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a year that does not exist is refused below"
    )]
    let seconds = exp.as_i64().or_else(|| exp.as_f64().map(|it| it as i64))?;
    DateTime::from_timestamp(seconds, 0)
}

/// The token in the answer of `POST /users/auth/_login`; `None` if there is none that could be sent back.
pub fn token_in(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let token = answer.get("token")?.as_str()?;
    let is_word = !token.is_empty() && token.bytes().all(|it| it.is_ascii_graphic());
    (is_word && token.len() <= TOKEN_BYTES_MAX).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn missing_extra_and_strange_fields_are_tolerated() {
        let at = utc("2026-11-23T21:41:00Z");
        for (body, expected) in [
            (r#"{"expires_at":"2026-11-23T21:41:00.000Z","x":[1]}"#, Some(at)),
            (r#"{"expires_at":1795470060000}"#, DateTime::from_timestamp(1_795_470_060, 0)),
            (r#"{"expires_at":null}"#, None),
            (r#"{"expires_at":{"at":1}}"#, None),
            (r#"{"expires_at":"soon"}"#, None),
            (r#"{"has_elevated_permissions":false}"#, None),
            ("[]", None),
            ("7", None),
            ("null", None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(expires_at(body.as_bytes(), None), expected, "{body}");
        }
        for (body, expected) in [
            (r#"{"token":"a.b.c","session_expiration_time":null}"#, Some("a.b.c")),
            (r#"{"token":"a.b.c"}"#, Some("a.b.c")),
            (r#"{"token":"two words"}"#, None),
            (r#"{"token":""}"#, None),
            (r#"{"token":7}"#, None),
            (r#"{"token":null}"#, None),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(token_in(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_token_tells_its_end_and_anything_else_nothing() {
        let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        let at = Some(utc("2026-11-23T21:41:00Z"));
        assert_eq!(exp_of(&token(r#"{"exp":1795470060,"sub":"ops"}"#)), at);
        assert_eq!(exp_of(&token(r#"{"exp":1795470060.9}"#)), at);
        for odd in [
            token("{}"),
            token(r#"{"exp":"tomorrow"}"#),
            token(r#"{"exp":1e300}"#),
            token("[]"),
            token("no JSON"),
            "opaque".to_owned(),
            "..".to_owned(),
            "a.%%%.c".to_owned(),
            String::new(),
        ] {
            assert_eq!(exp_of(&odd), None, "{odd}");
        }
    }
}
