//! What pages and API share about silences: reading what is posted, refusing what another site posts, and asking the
//! outbox for the change.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{AdminApi, Web};
use crate::config::{MatchOp, Matcher};
use crate::outbox::{SilenceChange, SilenceRequest};

/// The most that is read of a form or a wish: all its fields at their longest, escaped.
const BODY_BYTES_MAX: usize = 128 * 1024;

/// How long a request's body may take.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a request waits for the outbox, which writes between two messages.
const CHANGE_WAIT_MAX: Duration = Duration::from_secs(20);

/// Why a request changes nothing: the status, and a sentence.
pub(super) type Refusal = (StatusCode, String);

/// Whether requests may change silences, and this one in particular.
pub(super) fn allowed(web: &Web, headers: &HeaderMap) -> Result<(), Refusal> {
    if web.admin_api == AdminApi::Disabled {
        let why = "changing silences over HTTP is off: start with --web.enable-admin-api, or use the command \
                   `ece-expiry-exporter silence`";
        return Err((StatusCode::FORBIDDEN, why.to_owned()));
    }
    if comes_from_another_site(headers) {
        let why = "this request comes from a page of another site and was not obeyed; if it is yours, let the proxy \
                   pass on the header Host";
        return Err((StatusCode::FORBIDDEN, why.to_owned()));
    }
    Ok(())
}

/// Whether a browser sends this for a page that is not ours. There are no cookies, but whoever reads a page in the
/// network of the exporter must not change its silences unknowingly. What is no browser sends neither header.
fn comes_from_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|it| it.to_str().unwrap_or("unreadable"));
    match (text(header::HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
        (Some(site), _) => site != "same-origin" && site != "none",
        (None, Some(origin)) => {
            let authority = origin.split_once("://").map(|(_, it)| it);
            authority.is_none() || authority != text(header::HOST)
        }
        (None, None) => false,
    }
}

/// The body of a request as text.
pub(super) async fn read(body: Body) -> Result<String, Refusal> {
    let refused = |status, why: &str| Err((status, why.to_owned()));
    match timeout(BODY_WAIT_MAX, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => match String::from_utf8(bytes.to_vec()) {
            Ok(text) => Ok(text),
            Err(_) => refused(StatusCode::BAD_REQUEST, "what was sent is not UTF-8"),
        },
        Ok(Err(_)) => refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "what was sent is too long or broke off; a silence needs a few hundred bytes",
        ),
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT, "what was sent took too long"),
    }
}

/// A form as a query, which reads it: both are written alike.
pub(super) fn as_query(form: &str) -> Result<Uri, Refusal> {
    let wrong = |_| (StatusCode::BAD_REQUEST, "what was sent is not a form".to_owned());
    format!("/?{form}").parse().map_err(wrong)
}

/// Has the outbox change the silences; when this returns, every view shows it.
pub(super) async fn change(web: &Web, change: SilenceChange) -> Result<(), Refusal> {
    let unavailable = |why: &str| Err((StatusCode::SERVICE_UNAVAILABLE, why.to_owned()));
    let (reply, answer) = oneshot::channel();
    let asked = async {
        web.silence.send(SilenceRequest { change, reply }).await.ok()?;
        answer.await.ok()
    };
    match timeout(CHANGE_WAIT_MAX, asked).await {
        Ok(Some(Ok(()))) => Ok(()),
        Ok(Some(Err(why))) => Err((StatusCode::CONFLICT, why)),
        Ok(None) => unavailable("the exporter is reloading or stopping; try again"),
        Err(_) => {
            unavailable("the exporter is busy; look at the list, and try again if it is not in it")
        }
    }
}

/// The link to the form, filled in with matchers of these labels; relative, as all our links.
pub(super) fn form_link(labels: &[(&str, &str)]) -> String {
    let matchers: Vec<String> = labels
        .iter()
        .filter_map(|(label, value)| Matcher::new(label, MatchOp::Equal, value).ok())
        .map(|it| it.to_string())
        .collect();
    let mut link = "silences?matchers=".to_owned();
    for byte in matchers.join("\n").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            link.push(char::from(byte));
        } else {
            let _ = write!(link, "%{byte:02X}");
        }
    }
    link + "#add"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_site_posts_is_told_from_what_ours_and_programs_post() {
        let cases = [
            (
                &[("sec-fetch-site", "same-origin"), ("origin", "https://a"), ("host", "b")][..],
                false,
            ),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("origin", "http://a:10365"), ("host", "a:10365")], false),
            (&[("origin", "http://evil"), ("host", "a:10365")], true),
            (&[("origin", "null"), ("host", "null")], true),
            (&[("host", "a:10365")], false),
        ];
        for (given, expected) in cases {
            let headers = given.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), value.parse().unwrap())
            });
            assert_eq!(comes_from_another_site(&headers.collect()), expected, "{given:?}");
        }
    }

    #[test]
    fn a_link_to_the_form_carries_any_name() {
        assert_eq!(
            form_link(&[("platform", "a&b"), ("credential", "\"é")]),
            "silences?matchers=platform%3D%22a%26b%22%0Acredential%3D%22%5C%22%C3%A9%22#add"
        );
    }
}
