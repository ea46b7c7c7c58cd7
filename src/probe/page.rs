//! One answer of a coordinator, read to its end and within bounds.
//!
//! What it means is decided by `observation`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use super::transport::Transport;
use super::{clip, failure};
use crate::observation::answer::{self, Answer, Meaning, Sent};
use crate::observation::rest::{self, Limits};
use crate::observation::{Failure, FailureReason};

/// The most that is read of one answer. ECE's own are below 2 KiB; a list of keys has 300 bytes a key.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The header that tells when the key expires.
pub(super) const EXPIRATION: HeaderName = HeaderName::from_static("x-elastic-api-key-expiration");
const ERROR_CODES: HeaderName = HeaderName::from_static("x-cloud-error-codes");
const LIMIT_INTERVAL: HeaderName = HeaderName::from_static("x-ratelimit-interval");
const LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// How much is read of an answer of which only the beginning matters: any error fits.
const BEGINNING_BYTES_MAX: usize = 16 * 1024;

/// One answer, read to its end.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) clock_skew: Option<TimeDelta>,
    /// How long the platform asks to be left alone.
    pub(super) rest: Option<Duration>,
}

/// An answer whose body is still to come.
pub(super) struct Arriving<'a> {
    transport: &'a Transport,
    response: reqwest::Response,
    clock_skew: Option<TimeDelta>,
    rest: Option<Duration>,
}

impl<'a> Arriving<'a> {
    /// Sends `request` over `transport` and waits for the head of the answer.
    pub(super) async fn ask(
        transport: &'a Transport,
        request: RequestBuilder,
        now: fn() -> DateTime<Utc>,
    ) -> Result<Self, Failure> {
        let sent = now();
        let response = request.send().await.map_err(|error| transport.failure(&error))?;
        let answered = now();
        let headers = response.headers();
        let given = date(headers);
        let limits = Limits {
            status: response.status().as_u16(),
            retry_after: text(headers, &RETRY_AFTER),
            interval: text(headers, &LIMIT_INTERVAL),
            remaining: text(headers, &LIMIT_REMAINING),
        };
        let rest = rest::asked_for(&limits, given.unwrap_or(answered));
        let clock_skew = given.map(|given| sent + (answered - sent) / 2 - given);
        Ok(Self { transport, response, clock_skew, rest })
    }

    /// Whether it is 200 and no page.
    pub(super) fn is_success(&self) -> bool {
        let content_type = text(self.response.headers(), &CONTENT_TYPE).unwrap_or_default();
        let is_page = content_type.trim_start().to_ascii_lowercase().starts_with("text/html");
        self.response.status().as_u16() == 200 && !is_page
    }

    /// How long it asks to be left alone.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.rest
    }

    /// When it was given, by its header `Date`.
    pub(super) fn date(&self) -> Option<DateTime<Utc>> {
        date(self.response.headers())
    }

    /// The next piece of the body; `None` at its end.
    async fn piece(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        let piece = self.response.chunk().await;
        piece.map_err(|error| self.transport.failure(&error))
    }

    /// Gives the body piece by piece to `feed`, at most so many bytes; `name` says what it is, for the failure of more.
    pub(super) async fn each_piece(
        &mut self,
        bytes_max: usize,
        name: &str,
        mut feed: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let mut read = 0;
        while let Some(piece) = self.piece().await? {
            let piece = piece.as_ref();
            read += piece.len();
            if bytes_max < read {
                let message = format!(
                    "{name} of {} has more than {} MiB; check that the URL leads to ECE, and please report it.",
                    self.transport.host(),
                    bytes_max / (1024 * 1024)
                );
                return Err(failure(FailureReason::Protocol, message));
            }
            feed(piece);
        }
        Ok(())
    }

    /// The whole, with what is left of the body.
    pub(super) async fn page(mut self) -> Result<Page, Failure> {
        let announced = self.response.content_length().unwrap_or_default();
        let host = self.transport.host();
        let too_large = || {
            let message = format!(
                "{host} answered more than 1 MiB, which ECE never does here; check that the URL leads to ECE."
            );
            failure(FailureReason::Protocol, message)
        };
        if (BODY_BYTES_MAX as u64) < announced {
            return Err(too_large());
        }
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or_default());
        while let Some(piece) = self.piece().await? {
            if BODY_BYTES_MAX - body.len() < piece.as_ref().len() {
                return Err(too_large());
            }
            body.extend_from_slice(piece.as_ref());
        }
        Ok(self.head(body))
    }

    /// The whole of an answer whose status and headers tell everything and whose body may be large: of a JSON object that
    /// is longer than 16 KiB the rest is not read, and an empty one stands for it.
    pub(super) async fn beginning(mut self) -> Result<Page, Failure> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(piece.as_ref());
            if BEGINNING_BYTES_MAX < body.len() {
                if body.trim_ascii_start().starts_with(b"{") {
                    body = b"{}".to_vec();
                }
                break;
            }
        }
        Ok(self.head(body))
    }

    /// The answer with this body instead of what is left of its own.
    pub(super) fn head(mut self, body: Vec<u8>) -> Page {
        Page {
            status: self.response.status().as_u16(),
            headers: std::mem::take(self.response.headers_mut()),
            body,
            clock_skew: self.clock_skew,
            rest: self.rest,
        }
    }
}

impl Page {
    /// Sends `request` over `transport` and reads the answer.
    pub(super) async fn ask(
        transport: &Transport,
        request: RequestBuilder,
        now: fn() -> DateTime<Utc>,
    ) -> Result<Self, Failure> {
        Arriving::ask(transport, request, now).await?.page().await
    }

    /// What it means as the answer to a request with such a credential.
    pub(super) fn meaning(&self, sent: Sent, now: DateTime<Utc>) -> Meaning {
        let lines = self.headers.get_all(&EXPIRATION).iter();
        self.meaning_with(lines.map(HeaderValue::as_bytes).collect(), sent, now)
    }

    /// The meaning of an answer whose expiry is that of the key, which was not asked for.
    pub(super) fn meaning_without_expiry(&self, now: DateTime<Utc>) -> Meaning {
        self.meaning_with(Vec::new(), Sent::Key, now)
    }

    fn meaning_with(&self, expiration: Vec<&[u8]>, sent: Sent, now: DateTime<Utc>) -> Meaning {
        let answer = Answer {
            status: self.status,
            content_type: self.text(&CONTENT_TYPE),
            error_codes: self.text(&ERROR_CODES),
            expiration,
            date: self.text(&DATE),
            body: &self.body,
        };
        match answer::meaning_of(&answer, sent, now) {
            Meaning::Failed(mut failure) => {
                failure.message = clip(failure.message);
                Meaning::Failed(failure)
            }
            other => other,
        }
    }

    /// When it was given, by its header `Date`.
    pub(super) fn date(&self) -> Option<DateTime<Utc>> {
        date(&self.headers)
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        text(&self.headers, name)
    }
}

fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    text(headers, &DATE).and_then(answer::date_of)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|it| it.to_str().ok())
}
