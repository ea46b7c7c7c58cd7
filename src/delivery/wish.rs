//! A silence as somebody asks for it, and what is refused, in the same words on the command line, the pages and the API.
//! Pure.
//!
//! Which alerts its matchers cover is not decided here.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

use super::Silence;
use crate::config::Matcher;
use crate::schedule::parse_duration;
use crate::time;

/// More matchers than labels that an alert can have are a mistake.
const MATCHERS_MAX: usize = 32;

/// A name and a mail address.
pub const CREATED_BY_BYTES_MAX: usize = 128;

/// Some sentences and a link.
pub const COMMENT_BYTES_MAX: usize = 1024;

/// Whoever does not want to know of something for longer takes it out of the configuration.
const LENGTH_MAX: TimeDelta = TimeDelta::days(366);

/// A silence as somebody asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct SilenceWish {
    /// The alerts.
    pub matchers: Vec<Matcher>,
    /// Who asks.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// From when; `None` or an instant that is past is at once.
    pub starts_at: Option<DateTime<Utc>>,
    /// Until when.
    pub ends_at: DateTime<Utc>,
}

impl SilenceWish {
    /// The silence, under this id.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the wish, and what to do.
    pub fn granted(self, id: String, now: DateTime<Utc>) -> Result<Silence, String> {
        let Self { matchers, created_by, comment, starts_at, ends_at } = self;
        if matchers.is_empty() {
            return Err(
                "a silence needs at least one matcher, such as credential=\"ci\"".to_owned()
            );
        }
        if MATCHERS_MAX < matchers.len() {
            return Err(format!(
                "a silence has at most {MATCHERS_MAX} matchers, not {}; make two silences",
                matchers.len()
            ));
        }
        if matchers.iter().all(|it| it.takes("")) {
            return Err(
                "these matchers fit the empty text, so they would silence everything; at least one must ask for \
                 something, such as platform=~\".+\""
                    .to_owned(),
            );
        }
        let created_by = said("author", &created_by, CREATED_BY_BYTES_MAX)?;
        let comment = said("comment", &comment, COMMENT_BYTES_MAX)?;
        let starts_at = starts_at.filter(|it| now < *it).unwrap_or(now);
        if ends_at <= now {
            return Err(format!(
                "the end, {}, is past; it is {} now",
                ends_at.format("%F %T UTC"),
                now.format("%F %T UTC")
            ));
        }
        if ends_at <= starts_at {
            return Err("the end is not behind the start".to_owned());
        }
        if LENGTH_MAX < ends_at - starts_at {
            return Err(
                "a silence lasts a year at most; what nobody wants to know of longer is better taken out of the \
                 configuration"
                    .to_owned(),
            );
        }
        Ok(Silence { id, matchers, created_by, comment, created_at: now, starts_at, ends_at })
    }
}

/// A text that a person has to give.
fn said(what: &str, text: &str, bytes_max: usize) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!(
            "the {what} is missing: whoever wonders why it is quiet wants to know"
        ));
    }
    if bytes_max < text.len() {
        return Err(format!(
            "the {what} has {} bytes, and at most {bytes_max} are kept; shorten it",
            text.len()
        ));
    }
    Ok(text.to_owned())
}

/// Reads matchers, each in Alertmanager's notation.
///
/// # Errors
/// A sentence about the first that is wrong.
pub fn read_matchers<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Matcher>, String> {
    let texts = texts.into_iter().map(str::trim).filter(|it| !it.is_empty());
    texts.map(|it| Matcher::parse(it).map_err(|why| format!("the matcher `{it}` {why}"))).collect()
}

/// Reads the end of a silence that begins at `from`: a duration, or an instant in UTC (`2026-12-01`, `2026-12-01 08:00`,
/// RFC 3339). A date alone is the beginning of its day: somebody is told too early rather than too late.
///
/// # Errors
/// A sentence with the forms.
pub fn read_end(text: &str, from: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    let forms = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S"];
    let at = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    if let Some(at) = at {
        return Ok(at.and_utc());
    }
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("a silence of no length holds nothing back".to_owned()),
        Ok(length) => Ok(time::add(from, length)),
        Err(_) => Err(format!(
            "`{text}` is no end of a silence; write how long, such as 3d or 12h, or an instant in UTC, such as \
             2026-12-01 or \"2026-12-01 08:00\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-24T05:00:00Z".parse().unwrap()
    }

    fn wish(matchers: &[&str]) -> SilenceWish {
        SilenceWish {
            matchers: read_matchers(matchers.iter().copied()).unwrap(),
            created_by: " marc ".to_owned(),
            comment: "I own it".to_owned(),
            starts_at: None,
            ends_at: now() + TimeDelta::days(3),
        }
    }

    fn refusal(wish: SilenceWish) -> String {
        wish.granted("sil_1".to_owned(), now()).unwrap_err()
    }

    #[test]
    fn what_would_silence_everything_or_nothing_is_refused() {
        assert!(refusal(wish(&[])).contains("at least one matcher"));
        for all in [&["credential=~\".*\""][..], &["team=\"\"", "x!=\"y\""]] {
            assert!(refusal(wish(all)).contains("everything"), "{all:?}");
        }
        assert!(refusal(SilenceWish { ends_at: now(), ..wish(&["a=b"]) }).contains("is past"));
        let starts_at = Some(now() + TimeDelta::days(4));
        assert!(refusal(SilenceWish { starts_at, ..wish(&["a=b"]) }).contains("not behind"));
        let ends_at = now() + TimeDelta::days(367);
        assert!(refusal(SilenceWish { ends_at, ..wish(&["a=b"]) }).contains("a year at most"));
        assert!(
            refusal(SilenceWish { comment: " ".to_owned(), ..wish(&["a=b"]) }).contains("comment")
        );
        let created_by = "x".repeat(129);
        assert!(refusal(SilenceWish { created_by, ..wish(&["a=b"]) }).contains("129 bytes"));
    }

    #[test]
    fn what_begins_in_the_past_begins_now() {
        let starts_at = Some(now() - TimeDelta::days(1));
        let granted = SilenceWish { starts_at, ..wish(&["a=b", "x!=y"]) };
        let granted = granted.granted("sil_1".to_owned(), now()).unwrap();
        assert_eq!((granted.starts_at, &*granted.created_by), (now(), "marc"));
    }

    #[test]
    fn an_end_is_a_length_or_an_instant() {
        let cases = [
            ("3d", "2026-11-27T05:00:00Z"),
            ("1h30m", "2026-11-24T06:30:00Z"),
            ("2026-12-01", "2026-12-01T00:00:00Z"),
            ("2026-12-01 08:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01T08:00:00+02:00", "2026-12-01T06:00:00Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(read_end(text, now()), Ok(expected.parse().unwrap()), "{text}");
        }
        for wrong in ["", "0", "tomorrow", "2026-13-01", "7"] {
            assert!(read_end(wrong, now()).is_err(), "{wrong}");
        }
    }
}
