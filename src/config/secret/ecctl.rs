//! The API key in a configuration file of ecctl. Pure.
//!
//! Only `api_key` is taken. `insecure` is never inherited, because `ecctl init` writes it as true; `host` is where
//! ecctl goes, and this program asks the URLs of its own configuration.

use std::borrow::Cow;

use serde_json::Value;

/// The API key in the text of a JSON file of ecctl; else what was found, without any of its content.
pub(super) fn api_key(text: &str) -> Result<String, Cow<'static, str>> {
    let Ok(file) = serde_json::from_str::<Value>(text.strip_prefix('\u{feff}').unwrap_or(text))
    else {
        return Err("is not JSON".into());
    };
    let Value::Object(keys) = &file else { return Err("is JSON, but not a map".into()) };
    let is_given =
        |key: &str| keys.get(key).and_then(Value::as_str).is_some_and(|it| !it.is_empty());
    match keys.get("api_key") {
        Some(Value::String(key)) if !key.trim().is_empty() => Ok(key.clone()),
        Some(Value::String(_) | Value::Null) | None if is_given("user") && is_given("pass") => {
            Err("holds a user and a password instead of an `api_key`".into())
        }
        Some(Value::String(_) | Value::Null) | None => Err("holds no `api_key`".into()),
        Some(_) => Err("holds an `api_key` that is no text".into()),
    }
}

/// The host that ecctl would ask; `None` when the text does not tell.
pub(in crate::config) fn host(text: &str) -> Option<String> {
    let file: Value = serde_json::from_str(text).ok()?;
    file.get("host")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::api_key;

    #[test]
    fn only_the_key_is_taken_and_nothing_is_shown() {
        let full =
            r#"{"api_key": "K==", "host": "https://ece", "insecure": true, "pass": "CANARY"}"#;
        assert_eq!(api_key(full).as_deref(), Ok("K=="));
        for (text, said) in [
            ("api_key: CANARY\n", "is not JSON"),
            (r#"["CANARY"]"#, "is JSON, but not a map"),
            (r#"{"host": "https://CANARY"}"#, "holds no `api_key`"),
            (r#"{"api_key": null}"#, "holds no `api_key`"),
            (r#"{"api_key": 7}"#, "holds an `api_key` that is no text"),
            (
                r#"{"api_key": "", "user": "ops", "pass": "CANARY"}"#,
                "holds a user and a password instead of an `api_key`",
            ),
        ] {
            assert_eq!(api_key(text).unwrap_err(), said, "{text}");
        }
    }
}
