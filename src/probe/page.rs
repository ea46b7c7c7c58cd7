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

/// How much of a body is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    Beginning,
}

/// One answer, read to its end.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) clock_skew: Option<TimeDelta>,
    /// How long the platform asks to be left alone.
    pub(super) rest: Option<Duration>,
}

impl Page {
    /// Sends `request` over `transport` and reads the answer.
    pub(super) async fn ask(
        transport: &Transport,
        request: RequestBuilder,
        now: fn() -> DateTime<Utc>,
    ) -> Result<Self, Failure> {
        Self::read(transport, request, now, Extent::Whole).await
    }

    /// As `ask`, for an answer whose status and headers tell everything and whose body may be large: of a JSON object
    /// that is longer than 16 KiB the rest is not read, and an empty one stands for it.
    pub(super) async fn ask_beginning(
        transport: &Transport,
        request: RequestBuilder,
        now: fn() -> DateTime<Utc>,
    ) -> Result<Self, Failure> {
        Self::read(transport, request, now, Extent::Beginning).await
    }

    async fn read(
        transport: &Transport,
        request: RequestBuilder,
        now: fn() -> DateTime<Utc>,
        extent: Extent,
    ) -> Result<Self, Failure> {
        let sent = now();
        let broken = |error: reqwest::Error| transport.failure(&error);
        let mut response = request.send().await.map_err(broken)?;
        let answered = now();

        let announced = response.content_length().unwrap_or_default();
        let too_large = || {
            let message = format!(
                "{} answered more than 1 MiB, which ECE never does here; check that the URL leads to ECE.",
                transport.host()
            );
            failure(FailureReason::Protocol, message)
        };
        let room = match extent {
            Extent::Whole if (BODY_BYTES_MAX as u64) < announced => return Err(too_large()),
            Extent::Whole => usize::try_from(announced).unwrap_or_default(),
            Extent::Beginning => 0,
        };
        let mut body = Vec::with_capacity(room);
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if extent == Extent::Beginning && BEGINNING_BYTES_MAX < body.len() + chunk.len() {
                if body.iter().chain(&chunk).find(|it| !it.is_ascii_whitespace()) == Some(&b'{') {
                    body = b"{}".to_vec();
                }
                break;
            }
            if BODY_BYTES_MAX - body.len() < chunk.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let mut page = Self {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body,
            clock_skew: None,
            rest: None,
        };
        let limits = Limits {
            status: page.status,
            retry_after: page.text(&RETRY_AFTER),
            interval: page.text(&LIMIT_INTERVAL),
            remaining: page.text(&LIMIT_REMAINING),
        };
        page.rest = rest::asked_for(&limits, page.date().unwrap_or(answered));
        page.clock_skew = page.date().map(|date| sent + (answered - sent) / 2 - date);
        Ok(page)
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
        self.text(&DATE).and_then(answer::date_of)
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|it| it.to_str().ok())
    }
}
