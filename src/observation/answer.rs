//! What a whole HTTP answer of ECE means: status, error codes, body, list of keys. Pure.
//!
//! A status alone says little: ECE sends 401 for a key it does not know but also for missing rights, and proxies and
//! login pages answer in its place. The error codes decide (`x-cloud-error-codes`, or `errors[].code` in the body),
//! and only an answer that is ECE's JSON counts as a success. Whether a rejected key has expired or was revoked is not
//! told here: ECE does not say, only the last known expiry does.

#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::header::{self, Expiration};
use super::{Failure, FailureReason, Reading, listing};

/// The longest message of a failure, in bytes: it goes into rows, log lines and mails.
const MESSAGE_MAX: usize = 512;
/// How much of a text of the server is quoted, in bytes.
const QUOTE_MAX: usize = 200;
/// How many error codes of one answer are looked at; ECE sends one.
const CODES_MAX: usize = 8;
/// Keys have some 100 characters; what is longer than this is not one.
const SECRET_MAX: usize = 4096;
/// The ids of keys have 32 characters.
const KEY_ID_MAX: usize = 128;
/// Words of at least this length that look random are not quoted: ids of keys have 32 characters, secrets 22.
const RANDOM_MIN: usize = 20;
/// ECE's code for a credential whose owner was deleted.
const NO_USER: &str = "user.not_found";
/// Fewer letters are those of a date; of 20 random characters some 16 are letters, of hexadecimal ones seven.
const LETTERS_MIN: usize = 3;

/// One HTTP answer, as far as its meaning depends on it. The body is read up to a limit by whoever received it.
#[derive(Debug, Clone)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The header `x-cloud-error-codes`: codes with commas between.
    pub error_codes: Option<&'a str>,
    /// The lines of the header `X-Elastic-Api-Key-Expiration`, as they came.
    pub expiration: Vec<&'a [u8]>,
    /// The header `Date`.
    pub date: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// What was sent with the request, for the words of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// An API key.
    Key,
    /// An API key of Elastic Cloud Hosted.
    HostedKey,
    /// A bearer token.
    Token,
    /// A user name and a password.
    Password,
}

impl Sent {
    fn noun(self) -> &'static str {
        match self {
            Self::Key | Self::HostedKey => "key",
            Self::Token => "token",
            Self::Password => "password",
        }
    }

    /// Who was asked.
    fn server(self) -> &'static str {
        match self {
            Self::Key | Self::Token | Self::Password => "ECE",
            Self::HostedKey => "Elastic Cloud",
        }
    }

    /// Who may read what was asked for; goes on after `Give`.
    fn grant(self) -> String {
        match self {
            Self::Key | Self::Token | Self::Password => format!(
                "the {}'s owner a role that may read, such as ece_platform_viewer",
                self.noun()
            ),
            Self::HostedKey => {
                "the key a role that may see the organization's keys or its deployments".to_owned()
            }
        }
    }

    /// Where to find out more about an answer.
    fn logs(self) -> &'static str {
        match self {
            Self::Key | Self::Token | Self::Password => "the logs of ECE",
            Self::HostedKey => "https://status.elastic.co",
        }
    }

    /// Where the API is by default.
    fn address(self) -> &'static str {
        match self {
            Self::Key | Self::Token | Self::Password => "https://HOST:12443 without a path",
            Self::HostedKey => "https://api.elastic-cloud.com",
        }
    }

    /// Why it may be refused; goes on after `it`.
    fn cause(self) -> &'static str {
        match self {
            Self::Key | Self::HostedKey => "has expired, was deleted or is mistyped",
            Self::Token => "has expired, its session was ended, or it is mistyped",
            Self::Password => {
                "has expired, was changed or is mistyped, or the account is locked or disabled"
            }
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Key | Self::HostedKey => "create a new key",
            Self::Token => "log in anew for another token",
            Self::Password => "set a new one",
        }
    }
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// It tells the expiry.
    Told(Reading),
    /// ECE accepts the key but does not tell its expiry: old versions, keys that never expire, proxies that strip
    /// headers. The list of keys may tell it.
    NotReported,
    /// It does not tell the expiry, or only beside a failure.
    Failed(Failure),
}

/// What ECE's list of keys says about one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyListing {
    /// The key is in the list. A key without `expiration_date` never expires.
    Found {
        /// Its id.
        id: String,
        /// Its expiry.
        reading: Reading,
    },
    /// The id is not known and the list has several keys.
    Ambiguous,
    /// The list does not have the key.
    NotListed,
    /// This is no list of keys, or the key's `expiration_date` is no date.
    Unreadable,
}

/// What the answer to a probe with an API key means. `now` stands in for a missing `Date`.
pub fn meaning(answer: &Answer, now: DateTime<Utc>) -> Meaning {
    meaning_of(answer, Sent::Key, now)
}

/// What the answer to a probe means. `now` stands in for a missing `Date`.
pub fn meaning_of(answer: &Answer, sent: Sent, now: DateTime<Utc>) -> Meaning {
    let date = answer.date.and_then(date_of).unwrap_or(now);
    let expiration = header::read(&answer.expiration, Some(date));
    let json: Option<Value> = serde_json::from_slice(answer.body).ok();
    let error = ServerError::read(answer, json.as_ref());
    let is_ece = json.as_ref().is_some_and(Value::is_object) && !is_page(answer);
    let reading = match expiration {
        Expiration::At { at, .. } => Some(Reading::ExpiresAt(at)),
        Expiration::Never => Some(Reading::Never),
        Expiration::Absent | Expiration::Unparsable { .. } => None,
    };

    if answer.status / 100 == 2 && is_ece && !error.is_of_authentication_cluster() {
        return match (reading, expiration) {
            (Some(reading), _) => Meaning::Told(reading),
            (None, Expiration::Unparsable { raw }) => Meaning::Failed(header_invalid(&raw)),
            (None, _) => Meaning::NotReported,
        };
    }
    let reason = reason(answer.status, is_ece, reading, &error);
    Meaning::Failed(Failure {
        reason,
        message: cut(&explain(reason, answer, sent, is_ece, &error), MESSAGE_MAX),
        // Only who was authenticated is told an expiry; a redirect comes from somebody else.
        reading: match reason {
            FailureReason::Unauthorized | FailureReason::Redirect => None,
            _ => reading,
        },
    })
}

/// The user and the id of a key, which are part of its secret (`base64(user:key_id:secret)`, or `key_id:secret` with
/// no user). `None` when the secret is not of this form, which is no reason not to use it.
pub fn key_id_of(secret: &str) -> Option<(String, String)> {
    let decoded = decoded_key(secret)?;
    // User names may have colons, ids and secrets have none.
    let (identity, password) = decoded.rsplit_once(':')?;
    let (user, id) = identity.rsplit_once(':').unwrap_or(("", identity));
    let is_id =
        !id.is_empty() && id.len() <= KEY_ID_MAX && id.bytes().all(|it| it.is_ascii_graphic());
    (is_id && !password.is_empty() && !user.contains(char::is_control))
        .then(|| (user.to_owned(), id.to_owned()))
}

/// The text that a key is the base64 of.
pub(crate) fn decoded_key(secret: &str) -> Option<String> {
    let secret = secret.trim();
    if SECRET_MAX < secret.len() {
        return None;
    }
    // Keys of Elastic Cloud begin with this.
    let encoded = secret.strip_prefix("essu_").unwrap_or(secret);
    let bytes = STANDARD_PAD_INDIFFERENT
        .decode(encoded)
        .or_else(|_| URL_SAFE_PAD_INDIFFERENT.decode(encoded))
        .ok()?;
    String::from_utf8(bytes).ok()
}

/// Looks a key up in the answer of `GET /users/auth/keys`. Without an id, a list of exactly one key means that key.
/// `date` is when the answer was given.
pub fn expiry_in_keys(
    body: &[u8],
    key_id: Option<&str>,
    date: Option<DateTime<Utc>>,
) -> KeyListing {
    let list: Option<Value> = serde_json::from_slice(body).ok();
    let Some(keys) = list.as_ref().and_then(|it| it.get("keys")).and_then(Value::as_array) else {
        return KeyListing::Unreadable;
    };
    let key = match key_id {
        Some(wanted) => keys.iter().find(|it| id_in(it).as_deref() == Some(wanted)),
        None if 1 < keys.len() => return KeyListing::Ambiguous,
        None => keys.first(),
    };
    let Some(key) = key else { return KeyListing::NotListed };
    let Some(id) = id_in(key) else { return KeyListing::Unreadable };
    match listing::reading(key.get("expiration_date").unwrap_or(&Value::Null), date) {
        Some(reading) => KeyListing::Found { id, reading },
        None => KeyListing::Unreadable,
    }
}

/// The instant of a `Date` header; `None` when it is not one of HTTP's three forms.
pub fn date_of(header: &str) -> Option<DateTime<Utc>> {
    httpdate::parse_http_date(header.trim()).ok().map(DateTime::<Utc>::from)
}

/// What the server says about an error of its own accord.
struct ServerError {
    codes: Vec<String>,
    /// Empty when there is none.
    message: String,
}

impl ServerError {
    fn read(answer: &Answer, json: Option<&Value>) -> Self {
        let listed = json.and_then(|it| it.get("errors")).and_then(Value::as_array);
        let errors = listed.map(Vec::as_slice).unwrap_or_default();
        let in_header = answer.error_codes.unwrap_or_default().split(',').map(str::trim);
        let in_body = errors.iter().filter_map(|it| it.get("code").and_then(Value::as_str));
        let mut codes: Vec<String> = Vec::new();
        for code in in_header.chain(in_body).filter(|it| !it.is_empty()).take(CODES_MAX) {
            if !codes.iter().any(|it| it == code) {
                codes.push(code.to_owned());
            }
        }
        // Besides the standard shape there are `{"message": …}` of old versions and `{"error": …}`.
        let message = errors
            .first()
            .and_then(|it| it.get("message"))
            .or_else(|| json.and_then(|it| it.get("message")))
            .or_else(|| json.and_then(|it| it.get("error")))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Self { codes, message }
    }

    fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|it| it == code)
    }

    fn is_of_authentication_cluster(&self) -> bool {
        self.codes.iter().any(|it| it.starts_with("authc."))
    }
}

/// The kind of failure of an answer that is not ECE's success.
fn reason(
    status: u16,
    is_ece: bool,
    reading: Option<Reading>,
    error: &ServerError,
) -> FailureReason {
    if error.is_of_authentication_cluster() {
        return FailureReason::ServerError;
    }
    match status {
        300..=399 => FailureReason::Redirect,
        401 if error.has("root.unauthenticated") => FailureReason::Unauthorized,
        // Some endpoints say 401 where they mean 403; a code tells, or the words where there is none.
        401 if !error.codes.is_empty() => FailureReason::Forbidden,
        401 if is_ece && error.message.contains("not authorized") => FailureReason::Forbidden,
        401 => FailureReason::Unauthorized,
        // A page that forbids is a firewall's: it says nothing about the key.
        403 if is_ece || reading.is_some() || !error.codes.is_empty() => FailureReason::Forbidden,
        // The endpoint is there, the owner of the credential is not: an administrator has deleted the user.
        404 if error.has(NO_USER) => FailureReason::Unauthorized,
        404 => FailureReason::NotFound,
        429 => FailureReason::RateLimited,
        500..=599 => FailureReason::ServerError,
        _ => FailureReason::UnexpectedStatus,
    }
}

/// What happened and what to do, in one or two sentences.
fn explain(
    reason: FailureReason,
    answer: &Answer,
    sent: Sent,
    is_ece: bool,
    error: &ServerError,
) -> String {
    let (status, noun) = (answer.status, sent.noun());
    let (cause, remedy, server) = (sent.cause(), sent.remedy(), sent.server());
    let details = details(status, error);
    match reason {
        FailureReason::Redirect => format!(
            "The URL redirects ({details}), and the {noun} is never sent on to another address. Configure the address \
             that {server} itself answers at, and check whether a login proxy stands before it."
        ),
        FailureReason::Unauthorized if error.has(NO_USER) => format!(
            "ECE no longer has the user that the {noun} belongs to ({details}). Make a new one for a user that exists, and \
             put it where this exporter and its users read it."
        ),
        FailureReason::Unauthorized if is_ece || !error.codes.is_empty() => {
            format!(
                "{server} does not accept the {noun} ({details}). It {cause}: {remedy}, and put it where this exporter and its \
                 users read it."
            )
        }
        FailureReason::Unauthorized => format!(
            "The {noun} was not accepted ({details}), but the answer is not in {server}'s form. Check that no proxy asks for a \
             login of its own; otherwise {remedy}, and put it where this exporter and its users read it."
        ),
        FailureReason::Forbidden => format!(
            "{server} knows the {noun} but refuses the request ({details}). Give {}.",
            sent.grant()
        ),
        FailureReason::NotFound => format!(
            "There is no such endpoint ({details}). Check that the URL is that of {server}'s API, by default {}.",
            sent.address()
        ),
        FailureReason::RateLimited => {
            format!(
                "There were too many requests ({details}). Choose a longer schedule for the credentials of this platform."
            )
        }
        FailureReason::ServerError if error.is_of_authentication_cluster() => format!(
            "{server} cannot check any key, because its authentication cluster is in trouble ({details}). The {noun} may be \
             fine; look after the platform."
        ),
        FailureReason::ServerError => format!(
            "{server}, or a proxy before it, is in trouble ({details}). The {noun} may be fine; look after the platform."
        ),
        _ if is_ece => format!(
            "{server} gave an answer that this exporter does not expect ({details}). Try the same request by hand, and \
             look into {}.",
            sent.logs()
        ),
        _ => format!(
            "A proxy or login page answered, not {server} ({details}, {}). Check the URL and what stands between this \
             machine and {server}.",
            body_kind(answer)
        ),
    }
}

fn header_invalid(raw: &str) -> Failure {
    let message = format!(
        "ECE accepts the key, but its expiry header is no date in a known form: `{}`. Look the expiry up in ECE, and \
         please report the form.",
        quote(raw)
    );
    Failure {
        reason: FailureReason::HeaderInvalid,
        message: cut(&message, MESSAGE_MAX),
        reading: None,
    }
}

/// The status, the codes and the server's message, in brackets' brevity: `401 root.unauthenticated: The …`.
fn details(status: u16, error: &ServerError) -> String {
    let codes = quote(&error.codes.join(", "));
    // Its own full stop would end the sentence it stands in.
    let message = quote(error.message.trim_end_matches('.'));
    match (codes.is_empty(), message.is_empty()) {
        (true, true) => format!("status {status}"),
        (true, false) => format!("{status}: {message}"),
        (false, true) => format!("{status} {codes}"),
        // Both together could fill the message, and the code is what people search for.
        (false, false) => cut(&format!("{status} {codes}: {message}"), QUOTE_MAX + 40),
    }
}

fn is_page(answer: &Answer) -> bool {
    let is_html = answer
        .content_type
        .is_some_and(|it| it.trim_start().to_ascii_lowercase().starts_with("text/html"));
    is_html || answer.body.trim_ascii_start().starts_with(b"<")
}

fn body_kind(answer: &Answer) -> &'static str {
    if is_page(answer) {
        "an HTML page"
    } else if answer.body.is_empty() {
        "without a body"
    } else {
        "no JSON object"
    }
}

/// The id of a listed key; old versions may number them.
fn id_in(key: &Value) -> Option<String> {
    match key.get("id")? {
        Value::String(id) if !id.is_empty() && id.len() <= KEY_ID_MAX => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// A text of the server for use in a message: visible ASCII only, short, and without anything that may be a key.
pub(crate) fn quote(text: &str) -> String {
    let visible: String = text
        .chars()
        // Enough to cut from after blanks have been joined.
        .take(4 * QUOTE_MAX)
        .map(|it| match it {
            _ if it.is_ascii_graphic() => it,
            _ if it.is_whitespace() => ' ',
            _ => '?',
        })
        .collect();
    let mut words = Vec::new();
    let mut follows_scheme = false;
    for word in visible.split_ascii_whitespace() {
        words.push(if follows_scheme { "[removed]".to_owned() } else { without_random(word) });
        follows_scheme = ["apikey", "bearer", "basic"].contains(
            &word
                .trim_matches(|it: char| !it.is_ascii_alphanumeric())
                .to_ascii_lowercase()
                .as_str(),
        );
    }
    cut(&words.join(" "), QUOTE_MAX)
}

/// `word` with every stretch in it that looks random, as keys and secrets do, replaced.
fn without_random(word: &str) -> String {
    let is_key_char = |it: char| it.is_ascii_alphanumeric() || "+/=_-:".contains(it);
    word.split_inclusive(|it| !is_key_char(it))
        .map(|piece| {
            let stretch = piece.trim_end_matches(|it| !is_key_char(it));
            if looks_random(stretch) {
                format!("[removed]{}", &piece[stretch.len()..])
            } else {
                piece.to_owned()
            }
        })
        .collect()
}

/// Long, and with digits or capitals where words have none; a date has too few letters.
fn looks_random(stretch: &str) -> bool {
    let mut rest = stretch.chars().skip(1);
    RANDOM_MIN <= stretch.len()
        && LETTERS_MIN <= stretch.bytes().filter(u8::is_ascii_alphabetic).count()
        && (stretch.contains(|it: char| it.is_ascii_digit())
            || (rest.any(|it| it.is_ascii_uppercase())
                && stretch.contains(|it: char| it.is_ascii_lowercase())))
}

/// `text`, at most `max` characters of it, which are ASCII here; an ellipsis shows the cut.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max - 3).collect();
    format!("{kept}...")
}
