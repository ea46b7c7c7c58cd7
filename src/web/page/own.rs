//! The page behind the signed link of a message: "I own it until …".
//!
//! To look at it changes nothing, because mail scanners follow links; only its form does. The signature is the right to
//! silence the one alert that the link names, as long as that alert fires.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::row::Moment;
use super::{TEMPLATES, headers, words};
use crate::delivery::{COMMENT_BYTES_MAX, CREATED_BY_BYTES_MAX, Silence, SilenceWish, read_end};
use crate::notify::own::{Claim, Refused};
use crate::outbox::SilenceChange;
use crate::status::{FiringAlert, Snapshot};
use crate::time;
use crate::web::silencing::{self, Refusal};
use crate::web::{Web, text};

/// What the link and the form say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Form {
    /// The token.
    t: String,
    /// How long: `3d`.
    lasts: String,
    /// Until when; counts before `lasts`.
    until: String,
    created_by: String,
    comment: String,
}

/// What the template sees.
#[derive(Debug, Default, Serialize)]
struct Page<'a> {
    version: &'a str,
    now: String,
    /// Why the form changed nothing.
    refusal: Option<String>,
    /// Why there is no form.
    closed: Option<String>,
    token: &'a str,
    subject: String,
    alert: String,
    severity: &'static str,
    since: Option<Moment>,
    expires: Option<Moment>,
    end_max: Option<Moment>,
    /// For the form, the first and the last day.
    days: (String, String),
    lasts: Vec<(&'static str, &'static str)>,
    created_by: &'a str,
    comment: &'a str,
    created_by_max: usize,
    comment_max: usize,
    /// The silence that somebody has asked for already.
    owned: Option<Owned>,
    /// The form has just been obeyed.
    done: bool,
}

#[derive(Debug, Serialize)]
struct Owned {
    id: String,
    by: String,
    comment: String,
    until: Moment,
}

impl Owned {
    fn new(silence: &Silence, now: DateTime<Utc>) -> Self {
        Self {
            id: silence.id.clone(),
            by: silence.created_by.clone(),
            comment: silence.comment.clone(),
            until: Moment::new(silence.ends_at, now),
        }
    }
}

/// What the link is about, and how to take it over. Changes nothing.
pub(in crate::web) async fn page(
    State(web): State<Arc<Web>>,
    query: Result<Query<Form>, QueryRejection>,
) -> Response {
    let form = query.map(|Query(it)| it).unwrap_or_default();
    show(&web, &form, None, time::now())
}

/// Takes the alert over.
pub(in crate::web) async fn posted(State(web): State<Arc<Web>>, body: Body) -> Response {
    let read = async {
        let uri = silencing::as_query(&silencing::read(body).await?)?;
        let form = Query::<Form>::try_from_uri(&uri);
        let wrong = |_| (StatusCode::BAD_REQUEST, "what was sent is not our form".to_owned());
        form.map(|Query(it)| it).map_err(wrong)
    };
    let form = match read.await {
        Ok(form) => form,
        Err((status, why)) => return text(status, &format!("{}: {why}", status.as_u16())),
    };
    let now = time::now();
    let silence = claimed(&web, &form.t, now).and_then(|(claim, _)| silence(&claim, &form, now));
    let done = match silence {
        Ok(silence) => silencing::change(&web, SilenceChange::Put(silence)).await,
        Err(refusal) => Err(refusal),
    };
    show(&web, &form, Some(done), time::now())
}

/// What a token claims, and the alert if it still fires.
fn claimed(web: &Web, token: &str, now: DateTime<Utc>) -> Result<(Claim, FiringAlert), Refusal> {
    let refused = |status, why: &str| (status, why.to_owned());
    let key = web.own_key.read().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(key) = key else {
        return Err(refused(
            StatusCode::NOT_FOUND,
            "Links of this kind are off: they need global.external_url, and global.own_links that is not false.",
        ));
    };
    let claim = key.verify(token, now).map_err(|why| match why {
        Refused::Forged => refused(
            StatusCode::FORBIDDEN,
            "this link is not one that this exporter has sent, or a part of it got lost: open it from the mail again, \
             whole",
        ),
        Refused::Old => refused(
            StatusCode::GONE,
            "this link is too old: use the one in a newer mail, or the command `ece-expiry-exporter silence add`",
        ),
    })?;
    let alert = firing(&web.board.snapshot(), &claim).ok_or_else(|| {
        let (alert, subject) = (&claim.alert, claim.subject());
        (
            StatusCode::GONE,
            format!("{alert} of {subject} fires no more, or a newer one has taken its place: nothing to do here"),
        )
    })?;
    Ok((claim, alert))
}

/// The alert of a claim, if it fires.
fn firing(snapshot: &Snapshot, claim: &Claim) -> Option<FiringAlert> {
    let subject = claim.subject();
    let watched = snapshot.watched().into_iter().filter(|it| it.name == subject);
    let mut alerts = watched.flat_map(|it| it.alerts);
    // The store keeps milliseconds.
    let starts_ms = time::to_ms(claim.starts_at());
    alerts.find(|it| it.name.label() == claim.alert && time::to_ms(it.starts_at) == starts_ms)
}

fn silence(claim: &Claim, form: &Form, now: DateTime<Utc>) -> Result<Silence, Refusal> {
    let wish = || {
        let end = [&form.until, &form.lasts].into_iter().find(|it| !it.trim().is_empty());
        let ends_at = read_end(end.ok_or("say until when you own it")?, now)?;
        let end_max = claim.end_max(now);
        if end_max < ends_at {
            return Err(format!(
                "nobody can own it beyond {}; somebody else must be told then",
                words::instant(end_max)
            ));
        }
        let comment = match form.comment.trim() {
            "" => "I own it".to_owned(),
            said => said.to_owned(),
        };
        let wish = SilenceWish {
            matchers: claim.matchers()?,
            created_by: form.created_by.clone(),
            comment,
            starts_at: None,
            ends_at,
        };
        wish.granted(claim.silence_id(), now)
    };
    wish().map_err(|why| (StatusCode::BAD_REQUEST, why))
}

fn show(web: &Web, form: &Form, done: Option<Result<(), Refusal>>, now: DateTime<Utc>) -> Response {
    let is_done = matches!(done, Some(Ok(())));
    let refusal = done.and_then(Result::err);
    let base = Page {
        version: web.version.version,
        now: words::instant(now),
        token: &form.t,
        created_by: &form.created_by,
        comment: &form.comment,
        created_by_max: CREATED_BY_BYTES_MAX,
        comment_max: COMMENT_BYTES_MAX,
        done: is_done,
        ..Page::default()
    };
    let (status, page) = match claimed(web, &form.t, now) {
        Err((status, why)) => (status, Page { closed: Some(why), ..base }),
        Ok((claim, alert)) => {
            let status = refusal.as_ref().map_or(StatusCode::OK, |(status, _)| *status);
            let end_max = claim.end_max(now);
            let moment = |at| Moment::new(at, now);
            let id = claim.silence_id();
            let silences = web.board.snapshot().silences;
            let owned = silences.iter().find(|it| it.id == id && now < it.ends_at);
            let lasts = [("1d", 1, "1 day"), ("3d", 3, "3 days"), ("7d", 7, "7 days")];
            let fits = |days| now + TimeDelta::days(days) <= end_max;
            let fitting = lasts.into_iter().filter(|(_, days, _)| fits(*days));
            let page = Page {
                refusal: refusal.map(|(_, why)| why),
                subject: claim.subject(),
                alert: claim.alert.clone(),
                severity: alert.severity.label(),
                since: Some(moment(alert.starts_at)),
                expires: claim.expires_at().map(moment),
                end_max: Some(moment(end_max)),
                days: (day(now + TimeDelta::days(1)), day(end_max)),
                lasts: fitting.map(|(value, _, word)| (value, word)).collect(),
                owned: owned.map(|it| Owned::new(it, now)),
                ..base
            };
            (status, page)
        }
    };
    let rendered =
        TEMPLATES.get_template("own.html").and_then(|it| it.render(minijinja::value::Serde(page)));
    match rendered {
        Ok(html) => (status, headers(), html).into_response(),
        Err(why) => {
            let message = format!("500: the page cannot be rendered: {why}");
            text(StatusCode::INTERNAL_SERVER_ERROR, &message)
        }
    }
}

fn day(at: DateTime<Utc>) -> String {
    at.format("%F").to_string()
}
