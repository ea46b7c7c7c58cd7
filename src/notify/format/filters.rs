//! The filters of templates: lengths, markup, times. Pure.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::notify::text::rough;

/// Characters that have a meaning in some Markdown; a backslash takes it away.
const MARKDOWN: &str = "\\`*_{}[]()<>#+-.!|~:&$=^";
/// Stands behind each `@`: it is not seen, and `@all` is no mention any more.
const ZERO_WIDTH: char = '\u{200b}';

/// Adds all filters.
pub(super) fn add(templates: &mut Environment<'static>) {
    templates.add_filter("cut", cut);
    templates.add_filter("cut_bytes", cut_bytes);
    templates.add_filter("slack", |text: Value| escape(&text, slack));
    templates.add_filter("markdown", |text: Value| escape(&text, markdown));
    templates.add_filter("urlencode", |text: Value| escape(&text, urlencode));
    templates.add_filter("date", date);
    templates.add_filter("days", days);
}

/// A value as text; what is not there is empty.
fn text_of(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(if value.is_none() { String::new() } else { value.to_string() })
}

fn escape(value: &Value, by: fn(&str) -> String) -> Result<String, Error> {
    text_of(value).map(|it| by(&it))
}

/// At most `max` characters, a cut shows as `…`. Characters outside the basic plane count as two, as they do for most
/// services.
fn cut(value: &Value, max: usize) -> Result<String, Error> {
    text_of(value).map(|it| shorten(&it, max, char::len_utf16, 1))
}

/// At most `max` bytes of UTF-8.
fn cut_bytes(value: &Value, max: usize) -> Result<String, Error> {
    text_of(value).map(|it| shorten(&it, max, char::len_utf8, 3))
}

fn shorten(text: &str, max: usize, length: fn(char) -> usize, mark: usize) -> String {
    if text.chars().map(length).sum::<usize>() <= max {
        return text.to_owned();
    }
    let mut room = max.saturating_sub(mark);
    let fits = |it: &char| {
        let fits = length(*it) <= room;
        room = if fits { room - length(*it) } else { 0 };
        fits
    };
    let mut short: String = text.chars().take_while(fits).collect();
    if mark <= max {
        short.push('…');
    }
    short
}

/// Slack reads links and mentions in `<…>` only. The signs that make text bold stay: they need `mrkdwn: false` or an
/// element of the type `plain_text`.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if MARKDOWN.contains(char) {
            out.push('\\');
        }
        out.push(char);
        if char == '@' {
            out.push(ZERO_WIDTH);
        }
    }
    out
}

/// Everything but letters, digits and `-_~` as `%XX`, so that the text is one segment of a path.
fn urlencode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A time as `2026-11-30 00:00 UTC`.
fn date(value: &Value) -> Result<String, Error> {
    let text = text_of(value)?;
    if text.is_empty() {
        return Ok(text);
    }
    let at: DateTime<Utc> = text.parse().map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, "`date` wants a time like 2026-11-30T00:00:00Z")
    })?;
    Ok(at.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// A number of seconds in words: `6 days`, `1 hour`.
fn days(value: &Value) -> Result<String, Error> {
    if value.is_none() {
        return Ok(String::new());
    }
    let seconds = i64::try_from(value.clone())
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "`days` wants a number of seconds"))?;
    Ok(rough(TimeDelta::try_seconds(seconds.saturating_abs()).unwrap_or(TimeDelta::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_is_never_longer_than_asked_for() {
        for (text, max, wanted) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 4, "abc…"),
            ("🔑🔑🔑", 6, "🔑🔑🔑"),
            ("🔑🔑🔑", 5, "🔑🔑…"),
            ("🔑🔑🔑", 4, "🔑…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(cut(&Value::from(text), max).unwrap(), wanted, "{text} {max}");
        }
        assert_eq!(cut_bytes(&Value::from("ööööö"), 8).unwrap(), "öö…");
        assert_eq!(cut(&Value::from(()), 8).unwrap(), "");
        assert!(cut(&Value::UNDEFINED, 8).is_err());
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(slack("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
        assert_eq!(
            markdown("[x](http://e) @here **b**"),
            "\\[x\\]\\(http\\://e\\) @\u{200b}here \\*\\*b\\*\\*"
        );
        assert_eq!(urlencode("a/../b c?ü"), "a%2F%2E%2E%2Fb%20c%3F%C3%BC");
    }

    #[test]
    fn times_are_for_people() {
        let date = |text: &str| date(&Value::from(text));
        assert_eq!(date("2026-11-30T00:00:00.123Z").unwrap(), "2026-11-30 00:00 UTC");
        assert!(date("tomorrow").unwrap_err().to_string().contains("2026-11-30T00:00:00Z"));
        assert_eq!(days(&Value::from(529_200)).unwrap(), "6 days");
        assert_eq!(days(&Value::from(())).unwrap(), "");
    }
}
