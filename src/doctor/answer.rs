//! The answer to a request with the key: what HTTP, the expiry, the permissions and the clocks say, as steps.
//!
//! What an answer means is decided in `observation::answer`, as for a probe; here it is put into words and set beside
//! what else came.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Coordinator, Outcome, Step, Topic};
use crate::alert::CLOCK_SKEW_MAX;
use crate::observation::answer::Meaning;
use crate::observation::header::{Expiration, Note};
use crate::observation::rights::Rights;
use crate::observation::{Failure, FailureReason, Reading};
use crate::probe::Exchange;

/// The calls that a probe of a key makes: ECE's name of it, the request, what for.
const CALLS: [(&str, &str, &str); 2] = [
    ("get-current-user", "GET /api/v1/user", "every probe"),
    ("get-api-keys", "GET /api/v1/users/auth/keys", "the expiry where the header is missing"),
];
/// The calls that are made with a key if the configuration wants it, likewise.
const CALLS_IF_CONFIGURED: [(&str, &str, &str); 5] = [
    ("get-license", "GET /api/v1/platform/license", "`license`"),
    (
        "get-tls-certificate",
        "GET /api/v1/platform/configuration/security/tls/SERVICE",
        "`certificates.services`",
    ),
    ("get-users-api-keys", "GET /api/v1/users/auth/keys/_all", "`inventory` of all keys"),
    ("list-deployments", "GET /api/v1/deployments", "`deployments`"),
    (
        "get-deployment-resource-proxy-requests",
        "GET /api/v1/deployments/ID/elasticsearch/REF_ID/proxy/…",
        "`deployments`",
    ),
];
/// How much of a header's value is shown.
const RAW_SHOWN_MAX: usize = 128;
/// How many lines of the expiry header are shown; there should be one.
const LINES_SHOWN_MAX: usize = 4;
/// From here on a span is told in days.
const HOURS_MAX: i64 = 48;
/// How many roles are shown; ECE has four.
const ROLES_SHOWN_MAX: usize = 8;

/// When something ends, as the end of a sentence: `expires 2027-01-24 09:00 UTC, in 60 days`.
pub(super) fn in_words(reading: Reading, now: DateTime<Utc>) -> String {
    let at = match reading {
        Reading::ExpiresAt(at) => at,
        Reading::Never => return "never expires".to_owned(),
        Reading::Undated => return "works, and has no expiry of its own".to_owned(),
    };
    let left = at - now;
    let span = match left.num_hours().abs() {
        0..HOURS_MAX => format!("{} hours", left.num_hours().abs()),
        _ => format!("{} days", left.num_days().abs()),
    };
    if left < TimeDelta::zero() {
        format!("expired {}, {span} ago", at.format("%F %R UTC"))
    } else {
        format!("expires {}, in {span}", at.format("%F %R UTC"))
    }
}

/// The steps of an answer that was not asked for; `http` instead of the first of them.
pub(super) fn skip(
    coordinator: &mut Coordinator,
    http: Option<Step>,
    why: &str,
    tell: &mut impl FnMut(&Step),
) {
    let http = http.unwrap_or_else(|| Step::not_checked(Topic::Http, why));
    let why = "there is no answer";
    let rest = [Topic::Expiry, Topic::Permissions, Topic::Clock];
    let steps = std::iter::once(http).chain(rest.map(|it| Step::not_checked(it, why)));
    for step in steps {
        tell(&step);
        coordinator.steps.push(step);
    }
}

/// The steps of what a coordinator answered.
pub(super) fn explain(
    coordinator: &mut Coordinator,
    examined: Result<Exchange, Failure>,
    now: DateTime<Utc>,
    tell: &mut impl FnMut(&Step),
) {
    let exchange = match examined {
        Ok(exchange) => exchange,
        Err(failure) => {
            let step = Step::failed(Topic::Http, failure.message, "");
            return skip(coordinator, Some(step), "", tell);
        }
    };
    let (expiry, reading) = expiry(&exchange, now);
    for step in [http(&exchange), expiry, permissions(&exchange), clock(&exchange)] {
        tell(&step);
        coordinator.steps.push(step);
    }
    coordinator.reading = reading;
    coordinator.exchange = Some(exchange);
}

/// Whether ECE accepted the key, whatever it said about its expiry.
fn is_accepted(exchange: &Exchange) -> bool {
    match &exchange.meaning {
        Meaning::Told(_) | Meaning::NotReported => true,
        Meaning::Failed(failure) => failure.reason == FailureReason::HeaderInvalid,
    }
}

fn http(exchange: &Exchange) -> Step {
    let status = exchange.status;
    let mut step = match &exchange.meaning {
        Meaning::Failed(failure) if !is_accepted(exchange) => {
            Step::failed(Topic::Http, failure.message.clone(), "")
        }
        _ => Step::ok(Topic::Http, format!("status {status}: ECE accepts the key")),
    };
    if let Some(host) = exchange.redirect_host() {
        step.details.push(format!("it redirects to {host}; nothing was sent there"));
    }
    if exchange.is_html() {
        step.details
            .push("the answer is an HTML page, as login pages and balancers send it".to_owned());
    }
    let or_none = |name| exchange.header(name).map_or("not told".to_owned(), |it| cut(&it));
    step.details.push(format!(
        "content type {}, server {}, {} bytes in {} ms",
        or_none("content-type"),
        or_none("server"),
        exchange.body.len(),
        exchange.took.as_millis()
    ));
    step
}

/// The step about the expiry, and the expiry if it is told.
fn expiry(exchange: &Exchange, now: DateTime<Utc>) -> (Step, Option<Reading>) {
    let (mut step, reading) = match &exchange.meaning {
        Meaning::Told(reading) => {
            (Step::ok(Topic::Expiry, in_words(*reading, now)), Some(*reading))
        }
        Meaning::NotReported => absent(exchange, now),
        Meaning::Failed(failure) if failure.reason == FailureReason::HeaderInvalid => {
            unreadable(exchange, failure, now)
        }
        Meaning::Failed(failure) => match failure.reading {
            Some(reading) => {
                let found = format!("{}, as the header says all the same", in_words(reading, now));
                (Step::ok(Topic::Expiry, found), Some(reading))
            }
            None => {
                (Step::not_checked(Topic::Expiry, "only an accepted key is told its expiry"), None)
            }
        },
    };
    for raw in exchange.raw_expiration().take(LINES_SHOWN_MAX) {
        step.details.push(format!("X-Elastic-Api-Key-Expiration: {}", visible(raw)));
    }
    if let Expiration::At { at, note } = &exchange.expiration {
        let how = match note {
            None => "",
            Some(Note::AssumedUtc) => "; it names no time zone, UTC is assumed",
            Some(Note::DateOnly) => "; it names a day only, the first moment of it in UTC is taken",
            Some(Note::Relative) => "; it is a span, counted from the Date of the answer",
            Some(Note::Disagree) => "; there are several values that differ, the earliest is taken",
        };
        step.details.push(format!("read as {}{how}", at.format("%F %T UTC")));
    }
    (step, reading)
}

/// ECE accepts the key but there is no header.
fn absent(exchange: &Exchange, now: DateTime<Utc>) -> (Step, Option<Reading>) {
    let (mut step, reading) = match &exchange.listed {
        Some(Ok(Reading::Never)) => {
            let found =
                "never expires: there is no header, and ECE's list of keys has no end for this one";
            (Step::ok(Topic::Expiry, found), Some(Reading::Never))
        }
        Some(Ok(reading)) => {
            let found = format!(
                "{}, as ECE's list of keys says; the header is missing",
                in_words(*reading, now)
            );
            let mut step = Step::ok(Topic::Expiry, found);
            step.details.push(
                "warning: the key has an end, so either this ECE is older than 3.7 or something between strips the header"
                    .to_owned(),
            );
            (step, Some(*reading))
        }
        Some(Err(failure)) => (Step::failed(Topic::Expiry, failure.message.clone(), ""), None),
        None => (Step::not_checked(Topic::Expiry, "the list of keys was not asked"), None),
    };
    step.details.push("there is no header X-Elastic-Api-Key-Expiration".to_owned());
    step.details
        .push("asked instead: the owner's list of keys, GET /api/v1/users/auth/keys".to_owned());
    (step, reading)
}

/// The header holds no date.
fn unreadable(
    exchange: &Exchange,
    failure: &Failure,
    now: DateTime<Utc>,
) -> (Step, Option<Reading>) {
    match &exchange.listed {
        Some(Ok(reading)) => {
            let found = format!(
                "{}, as ECE's list of keys says; the header itself holds no date in a known form",
                in_words(*reading, now)
            );
            (Step::ok(Topic::Expiry, found), Some(*reading))
        }
        _ => (Step::failed(Topic::Expiry, failure.message.clone(), ""), None),
    }
}

fn permissions(exchange: &Exchange) -> Step {
    if !is_accepted(exchange) {
        return Step::not_checked(Topic::Permissions, "only an accepted key is told them");
    }
    let Rights { roles, operations } = Rights::read(&exchange.body).unwrap_or_default();
    let Some(allowed) = operations else {
        let why = "ECE did not list the permissions (security.permissions is not in its answer); whether the list of \
                   keys may be read shows when it is needed";
        return Step::not_checked(Topic::Permissions, why);
    };
    // That the first call is allowed shows in its answer.
    let is_allowed = |name: &str| name == CALLS[0].0 || allowed.iter().any(|it| it == name);
    let in_words = |(name, request, purpose): (&str, &str, &str)| {
        let word = if is_allowed(name) { "allowed" } else { "not allowed" };
        format!("{word}: {name} ({request}), for {purpose}")
    };
    let mut details: Vec<String> = CALLS.into_iter().map(in_words).collect();
    details.extend(CALLS_IF_CONFIGURED.into_iter().map(|it| in_words(it) + ", if configured"));
    let missing: Vec<&str> =
        CALLS.into_iter().map(|it| it.0).filter(|name| !is_allowed(name)).collect();
    if !roles.is_empty() {
        let roles: Vec<String> = roles.iter().take(ROLES_SHOWN_MAX).map(|it| cut(it)).collect();
        details.push(format!("roles of the owner: {}", roles.join(", ")));
    }
    let told = matches!(exchange.meaning, Meaning::Told(_));
    let found = match (missing.is_empty(), told) {
        (true, _) => "the owner may do all that a probe of this key asks for",
        (false, true) => {
            "not all is allowed, but the header tells the expiry, so nothing is missing"
        }
        (false, false) => "not all that a probe asks for is allowed",
    };
    let step = if missing.is_empty() || told {
        Step::ok(Topic::Permissions, found)
    } else {
        let next = format!("give the owner a role that allows {}", missing.join(", "));
        Step::failed(Topic::Permissions, found, next)
    };
    Step { details, ..step }
}

fn clock(exchange: &Exchange) -> Step {
    let mut step = clock_of(exchange.clock_skew);
    if exchange.clock_skew.is_some() {
        step.details
            .push(format!("the answer took {} ms with its connection", exchange.took.as_millis()));
    }
    step
}

/// The step about this machine's clock minus that of the coordinator.
pub(super) fn clock_of(skew: Option<TimeDelta>) -> Step {
    let Some(skew) = skew else {
        return Step::not_checked(Topic::Clock, "the answer has no header Date");
    };
    let seconds = skew.num_seconds();
    let (amount, way) = (seconds.abs(), if seconds < 0 { "behind" } else { "ahead of" });
    if CLOCK_SKEW_MAX < skew.abs() {
        let found = format!("this machine's clock is {amount} seconds {way} the coordinator's");
        let next = "let both machines take their time from NTP; what is left of a key is counted with the clock of \
                    this machine";
        Step::failed(Topic::Clock, found, next)
    } else if amount < 2 {
        Step::ok(Topic::Clock, "the clocks agree, as far as the whole seconds of Date can tell")
    } else {
        let found = format!("this machine's clock is {amount} seconds {way} the coordinator's");
        Step::ok(Topic::Clock, found)
    }
}

/// Whether several coordinators say the same, and who strips the header if not.
pub(super) fn compare(coordinators: &[Coordinator]) -> Option<Step> {
    if coordinators.len() < 2 {
        return None;
    }
    // An API key is answered for with an exchange, anything else with a reading.
    let is_answer = |it: &Coordinator| match &it.exchange {
        Some(exchange) => is_accepted(exchange),
        None => it.reading.is_some(),
    };
    let answers: Vec<(usize, &Coordinator)> =
        (1..).zip(coordinators).filter(|(_, it)| is_answer(it)).collect();
    if answers.len() < 2 {
        let why = "fewer than two of them told something";
        return Some(Step::not_checked(Topic::Coordinators, why));
    }
    let list = |with: bool| -> Vec<String> {
        let has_header = |it: &Exchange| it.raw_expiration().next().is_some();
        let chosen = answers
            .iter()
            .filter(|(_, it)| it.exchange.as_ref().is_some_and(|it| has_header(it) == with));
        chosen.map(|(number, it)| format!("{number} ({})", it.url)).collect()
    };
    let (with, without) = (list(true), list(false));
    if !with.is_empty() && !without.is_empty() {
        let found = format!(
            "the header X-Elastic-Api-Key-Expiration is missing at coordinator {} and there at coordinator {}, so \
             something before the former strips it",
            without.join(", "),
            with.join(", ")
        );
        let next = "let the proxy or balancer there pass the header on; until then the list of keys is asked in its place";
        return Some(Step::failed(Topic::Coordinators, found, next));
    }
    let seconds = |it: &Coordinator| match it.reading {
        Some(Reading::ExpiresAt(at)) => Some(at.timestamp()),
        Some(Reading::Never | Reading::Undated) | None => None,
    };
    if answers.windows(2).any(|pair| seconds(pair[0].1) != seconds(pair[1].1)) {
        let found = "the coordinators tell different expiries, so they are not of one ECE";
        let next = "list only the coordinators of one ECE in the `urls` of a platform";
        return Some(Step::failed(Topic::Coordinators, found, next));
    }
    let found = format!("all {} that told something say the same", answers.len());
    Some(Step::new(Topic::Coordinators, Outcome::Ok, found))
}

/// A value as it came, without what a terminal would obey.
fn visible(raw: &[u8]) -> String {
    let text: String = raw
        .iter()
        .take(RAW_SHOWN_MAX)
        .map(|it| if (0x20..0x7f).contains(it) { char::from(*it) } else { '?' })
        .collect();
    if RAW_SHOWN_MAX < raw.len() { format!("{text}… ({} bytes)", raw.len()) } else { text }
}

fn cut(text: &str) -> String {
    visible(text.as_bytes())
}
