//! Finds out, step by step, why a credential cannot be watched, and explains it to somebody who is tired.
//!
//! Each step says what was found and what to do next. Where one fails, those that need it are not tried, but every
//! coordinator is looked at. The key is sent as a probe sends it, and only over a way that every step before found
//! good. A login is never tried, because each attempt counts towards the lock of its account. What comes out of here may be shown on the screen; `capture` makes of it what may be sent to others.

mod answer;
mod chain;
mod redact;
pub mod capture;
mod subject;
mod way;

use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::chain::Certificate;
use self::redact::Redactor;
use self::subject::Subject;
use self::way::Way;
use crate::config::{Credential, Flavor, Platform, Secret};
use crate::observation::Reading;
use crate::observation::answer::key_id_of;
use crate::probe::{self, Exchange, Prober};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Something is wrong.
    Failed,
    /// It was not tried, because an earlier step failed or because it does not apply.
    NotChecked,
}

impl Outcome {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NotChecked => "not checked",
        }
    }
}

/// What a step looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The secret: where it is read, and its form.
    Secret,
    /// The name of the coordinator.
    Name,
    /// Its port.
    Port,
    /// TLS and the certificate.
    Tls,
    /// The answer to a request with the key.
    Http,
    /// The expiry that the answer tells.
    Expiry,
    /// What the owner of the key may do.
    Permissions,
    /// The clocks of the coordinator and of this machine.
    Clock,
    /// Whether all coordinators say the same.
    Coordinators,
}

impl Topic {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Name => "name",
            Self::Port => "port",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Expiry => "expiry",
            Self::Permissions => "permissions",
            Self::Clock => "clock",
            Self::Coordinators => "coordinators",
        }
    }
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// What was looked at.
    pub topic: Topic,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, in a sentence or clause.
    pub found: String,
    /// More about it, a line each; not to be broken.
    pub details: Vec<String>,
    /// What to do next; `None` if nothing is to be done.
    pub next: Option<String>,
    /// A command that helps with it.
    pub command: Option<String>,
}

impl Step {
    fn new(topic: Topic, outcome: Outcome, found: impl Into<String>) -> Self {
        Self { topic, outcome, found: found.into(), details: Vec::new(), next: None, command: None }
    }

    fn ok(topic: Topic, found: impl Into<String>) -> Self {
        Self::new(topic, Outcome::Ok, found)
    }

    fn not_checked(topic: Topic, why: impl Into<String>) -> Self {
        Self::new(topic, Outcome::NotChecked, why)
    }

    fn failed(topic: Topic, found: impl Into<String>, next: impl Into<String>) -> Self {
        let next = next.into();
        let next = (!next.is_empty()).then_some(next);
        Self { next, ..Self::new(topic, Outcome::Failed, found) }
    }
}

/// What is told while the doctor looks.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A coordinator comes next.
    Coordinator {
        /// Its place in the configuration, counted from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// Its URL.
        url: &'a str,
    },
    /// A step is done.
    Step(&'a Step),
}

/// Everything that was found.
#[derive(Debug)]
pub struct Report {
    /// The credential, `platform/credential`.
    pub credential: String,
    /// Its kind, as in the configuration.
    pub kind: &'static str,
    /// When it was looked at.
    pub at: DateTime<Utc>,
    /// The secret.
    pub secret: Step,
    /// The coordinators, in the order of the configuration.
    pub coordinators: Vec<Coordinator>,
    /// Whether the coordinators agree, where there are several.
    pub agreement: Option<Step>,
    redactor: Redactor,
}

/// What one coordinator showed.
#[derive(Debug)]
pub struct Coordinator {
    /// Its URL.
    pub url: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The version of TLS.
    pub tls_version: Option<&'static str>,
    /// The chain as presented.
    pub chain: Vec<Certificate>,
    /// Its answer; it may repeat what it was sent.
    exchange: Option<Exchange>,
    /// What it says about the expiry.
    pub reading: Option<Reading>,
}

impl Report {
    /// Every step with the URL of its coordinator.
    pub fn steps(&self) -> impl Iterator<Item = (Option<&str>, &Step)> {
        let of_coordinators = self
            .coordinators
            .iter()
            .flat_map(|it| it.steps.iter().map(move |step| (Some(it.url.as_str()), step)));
        std::iter::once((None, &self.secret))
            .chain(of_coordinators)
            .chain(self.agreement.iter().map(|it| (None, it)))
    }

    /// `Failed` if any step failed, `NotChecked` if nobody told an expiry, else `Ok`.
    pub fn outcome(&self) -> Outcome {
        if self.steps().any(|(_, step)| step.outcome == Outcome::Failed) {
            Outcome::Failed
        } else if self.reading().is_none() {
            Outcome::NotChecked
        } else {
            Outcome::Ok
        }
    }

    /// What is known about the expiry: the earliest that a coordinator told.
    pub fn reading(&self) -> Option<Reading> {
        self.coordinators.iter().filter_map(|it| it.reading).min_by_key(|it| match it {
            Reading::ExpiresAt(at) => *at,
            Reading::Never | Reading::Undated => DateTime::<Utc>::MAX_UTC,
        })
    }

    /// The verdict in one line: when it expires, or the first cause, and the next step.
    pub fn verdict(&self) -> String {
        let id = &self.credential;
        let in_words = |it| format!("{id} {}", answer::in_words(it, self.at));
        let expiry = self.reading().map(in_words);
        let first = self.steps().find(|(_, step)| step.outcome == Outcome::Failed);
        match (first, expiry) {
            (None, Some(expiry)) => format!("healthy: {expiry}."),
            (None, None) => {
                let untested = self.steps().find(|(_, step)| step.topic == Topic::Http);
                let why = "nobody told when it expires; see what was not checked";
                let why = untested.map_or(why, |(_, step)| step.found.as_str());
                format!("{id}: {}.", why.trim_end_matches('.'))
            }
            (Some((url, step)), expiry) => {
                let place = url.map_or_else(String::new, |url| format!(" at {url}"));
                let topic = step.topic.label();
                let known = expiry.map_or_else(String::new, |it| format!("{it}, but "));
                let found = step.found.trim_end_matches('.');
                let next = step.next.as_ref().map_or_else(String::new, |it| format!(" Next: {it}"));
                let text = format!("not healthy: {known}{topic}{place}: {found}.{next}");
                text.trim_end_matches('.').to_owned() + "."
            }
        }
    }
}

/// Looks at `credential` of `platform`, `within` for each request. Tells each step when it is done.
pub async fn look(
    platform: &Platform,
    credential: &Credential,
    within: Duration,
    now: fn() -> DateTime<Utc>,
    mut tell: impl FnMut(Event<'_>),
) -> Report {
    let at = now();
    let subject = Subject::of(credential);
    let (secret, redactor) = look_at_secret(subject, platform, within).await;
    let secret = redactor.step(&secret);
    tell(Event::Step(&secret));
    let is_ready = secret.outcome == Outcome::Ok || matches!(subject, Subject::Endpoint);
    let prober = Prober::new(platform, within).map_err(|error| format!("{error:#}"));
    let mut report = Report {
        credential: credential.id.to_string(),
        kind: credential.kind.label(),
        at,
        secret,
        coordinators: Vec::new(),
        agreement: None,
        redactor,
    };
    let redactor = report.redactor.clone();
    let visit = Visit { platform, credential, subject, is_ready, prober, within, redactor, now };
    for (index, url) in platform.urls.iter().enumerate() {
        tell(Event::Coordinator { number: index + 1, of: platform.urls.len(), url });
        let mut tell = |step: &Step| tell(Event::Step(&visit.redactor.step(step)));
        report.coordinators.push(visit.coordinator(index, url, &mut tell).await);
    }
    // Each coordinator may present a certificate of its own.
    let is_shared = !matches!(subject, Subject::Endpoint | Subject::Login(_));
    if let Some(step) = answer::compare(&report.coordinators).filter(|_| is_shared) {
        let step = report.redactor.step(&step);
        tell(Event::Step(&step));
        report.agreement = Some(step);
    }
    report
}

/// What is needed to look at a coordinator.
struct Visit<'a> {
    platform: &'a Platform,
    credential: &'a Credential,
    subject: Subject<'a>,
    /// Whether there is what has to be sent.
    is_ready: bool,
    /// Who asks, or why nobody can.
    prober: Result<Prober, String>,
    within: Duration,
    redactor: Redactor,
    now: fn() -> DateTime<Utc>,
}

impl Visit<'_> {
    /// Looks at the coordinator `index`, its way first; asks it only if that is open.
    async fn coordinator(
        &self,
        index: usize,
        url: &str,
        tell: &mut impl FnMut(&Step),
    ) -> Coordinator {
        let mut coordinator = Coordinator {
            url: url.to_owned(),
            steps: Vec::new(),
            tls_version: None,
            chain: Vec::new(),
            exchange: None,
            reading: None,
        };
        let way = way::look(self.platform, &mut coordinator, self.now, tell).await;
        let noun = self.subject.noun();
        match (way, self.is_ready, &self.prober) {
            _ if matches!(self.subject, Subject::Login(_)) => {
                let why = subject::not_tried(&self.credential.id);
                answer::skip(&mut coordinator, None, &why, tell);
            }
            (Way::Open, true, Ok(prober)) => {
                self.ask(prober, index, &mut coordinator, tell).await;
            }
            (Way::Open, true, Err(why)) => {
                let step = Step::failed(Topic::Http, why.clone(), "");
                answer::skip(&mut coordinator, Some(step), "there is no answer", tell);
            }
            (Way::Open, false, _) => {
                let why = format!("there is no {noun} to send");
                answer::skip(&mut coordinator, None, &why, tell);
            }
            (Way::Closed, _, _) => {
                let why = match self.subject {
                    Subject::Endpoint => "the step before is not ok".to_owned(),
                    _ => format!("the {noun} is sent only when every step before is ok"),
                };
                answer::skip(&mut coordinator, None, &why, tell);
            }
        }
        coordinator.steps = coordinator.steps.iter().map(|it| self.redactor.step(it)).collect();
        coordinator
    }

    /// Asks a coordinator to which the way is open.
    async fn ask(
        &self,
        prober: &Prober,
        index: usize,
        coordinator: &mut Coordinator,
        tell: &mut impl FnMut(&Step),
    ) {
        if let Subject::Key(source) = self.subject {
            let examined = prober.examine(index, source, self.now).await;
            return answer::explain(coordinator, examined, (self.now)(), tell);
        }
        // The same probe, of this coordinator alone.
        let platform = Platform { urls: vec![coordinator.url.clone()], ..self.platform.clone() };
        match Prober::new(&platform, self.within) {
            Ok(prober) => {
                let observation = prober.probe(self.credential, self.now).await;
                subject::explain(coordinator, self.subject, &observation, tell);
            }
            Err(error) => {
                let step = Step::failed(Topic::Http, format!("{error:#}"), "");
                answer::skip(coordinator, Some(step), "there is no answer", tell);
            }
        }
    }
}

/// The step about the secret, and what hides it from then on.
async fn look_at_secret(
    subject: Subject<'_>,
    platform: &Platform,
    within: Duration,
) -> (Step, Redactor) {
    let Some(source) = subject.source() else {
        let why = "nothing secret is needed to look at the certificates that are presented";
        return (Step::not_checked(Topic::Secret, why), Redactor::new(platform, None));
    };
    let read = match subject {
        Subject::Key(_) | Subject::Borrowed(_) => probe::read_key(source, within).await,
        Subject::Token(_) | Subject::Login(_) | Subject::Endpoint => {
            probe::read_secret(source, within).await
        }
    };
    let secret = match read {
        Ok(secret) => secret,
        Err(failure) => {
            let next = match source.path() {
                Some(path) => {
                    let path = path.display();
                    format!("look at `ls -l {path}` as the user that the exporter runs as")
                }
                None => format!("set the {source}"),
            };
            let step = Step::failed(Topic::Secret, failure.message, next);
            return (step, Redactor::new(platform, None));
        }
    };
    let redactor = Redactor::new(platform, Some(&secret));
    let found = match subject {
        Subject::Key(_) => format!("read from {source}; {}", form(&secret, platform.flavor)),
        Subject::Borrowed(it) => format!(
            "the key of the credential {}, read from {source}; {}",
            it.credential,
            form(&secret, platform.flavor)
        ),
        Subject::Token(_) | Subject::Login(_) | Subject::Endpoint => format!("read from {source}"),
    };
    let mut step = Step::ok(Topic::Secret, found);
    if matches!(subject, Subject::Key(_) | Subject::Borrowed(_)) {
        let id = key_id_of(secret.expose());
        step.details.extend(id.map(|(_, id)| format!("the id of the key is {id}")));
    }
    if let Some(path) = source.path() {
        step.details.extend(mode_of(path));
    }
    (step, redactor)
}

fn form(secret: &Secret, flavor: Flavor) -> String {
    let is_of_cloud = secret.expose().starts_with("essu_");
    match (flavor, is_of_cloud) {
        (Flavor::Ece, true) => {
            return "it looks like a key of Elastic Cloud (Hosted or Serverless), which ECE does not know"
                .to_owned();
        }
        (Flavor::Ech, true) => return "it has the form of a key of Elastic Cloud".to_owned(),
        (Flavor::Ech, false) => {
            return "it does not begin with essu_, as keys of Elastic Cloud do".to_owned();
        }
        (Flavor::Ece, false) => {}
    }
    match key_id_of(secret.expose()) {
        Some(_) => "it has the form of an ECE key".to_owned(),
        None => "it does not have the usual form of an ECE key, base64 of user:id:secret; was all of it copied?"
            .to_owned(),
    }
}

/// The mode of a secret's file, with a warning if everybody can read it.
#[cfg(unix)]
fn mode_of(path: &std::path::Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    Some(if mode & 0o004 == 0 {
        format!("mode {mode:04o}: not everybody on this machine can read it")
    } else {
        format!(
            "warning: mode {mode:04o}, everybody on this machine can read it; do `chmod o= {}`",
            path.display()
        )
    })
}

#[cfg(not(unix))]
fn mode_of(_: &std::path::Path) -> Option<String> {
    None
}
