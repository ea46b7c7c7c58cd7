//! Finds out, step by step, why a credential cannot be watched, and explains it to somebody who is tired.
//!
//! Each step says what was found and what to do next. Where one fails, those that need it are not tried, but every
//! coordinator is looked at. The key is sent as a probe sends it, and only over a way that every step before found
//! good. What comes out of here may be shown on the screen; `capture` makes of it what may be sent to others.

mod answer;
mod chain;
mod redact;
pub mod capture;
mod way;

use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::chain::Certificate;
use self::redact::Redactor;
use self::way::Way;
use crate::config::{Credential, CredentialKind, Platform, Secret, SecretSource};
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
            (None, None) => format!(
                "nothing wrong was found, but nobody told when {id} expires; see what was not checked."
            ),
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
    let source = key_source(&credential.kind);
    let (secret, redactor) = match source {
        Some(source) => look_at_secret(source, platform, within).await,
        None => {
            let kind = credential.kind.label();
            let why = format!(
                "a credential of the kind {kind} is not sent from here; `probe {}` says what ECE answers to it",
                credential.id
            );
            (Step::not_checked(Topic::Secret, why), Redactor::new(platform, None))
        }
    };
    let secret = redactor.step(&secret);
    tell(Event::Step(&secret));
    let key = source.filter(|_| secret.outcome == Outcome::Ok);
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
    let visit = Visit { platform, key, prober, redactor: report.redactor.clone(), now };
    for (index, url) in platform.urls.iter().enumerate() {
        tell(Event::Coordinator { number: index + 1, of: platform.urls.len(), url });
        let mut tell = |step: &Step| tell(Event::Step(&visit.redactor.step(step)));
        report.coordinators.push(visit.coordinator(index, url, &mut tell).await);
    }
    if let Some(step) = answer::compare(&report.coordinators) {
        let step = report.redactor.step(&step);
        tell(Event::Step(&step));
        report.agreement = Some(step);
    }
    report
}

/// What is needed to look at a coordinator.
struct Visit<'a> {
    platform: &'a Platform,
    /// Where the key is, if there is one that can be sent.
    key: Option<&'a SecretSource>,
    /// Who asks, or why nobody can.
    prober: Result<Prober, String>,
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
        match (way, self.key, &self.prober) {
            (Way::Open, Some(source), Ok(prober)) => {
                let examined = prober.examine(index, source, self.now).await;
                answer::explain(&mut coordinator, examined, (self.now)(), tell);
            }
            (Way::Open, Some(_), Err(why)) => {
                let step = Step::failed(Topic::Http, why.clone(), "");
                answer::skip(&mut coordinator, Some(step), "there is no answer", tell);
            }
            (Way::Open, None, _) => {
                answer::skip(&mut coordinator, None, "there is no key to send", tell);
            }
            (Way::Closed, _, _) => {
                let why = "the key is sent only when every step before is ok";
                answer::skip(&mut coordinator, None, why, tell);
            }
        }
        coordinator.steps = coordinator.steps.iter().map(|it| self.redactor.step(it)).collect();
        coordinator
    }
}

/// Where the key of a credential is read; `None` if it is no key. The one place that knows the kinds.
fn key_source(kind: &CredentialKind) -> Option<&SecretSource> {
    match kind {
        CredentialKind::ApiKey(source) => Some(source),
        CredentialKind::BearerToken(_)
        | CredentialKind::Login { .. }
        | CredentialKind::License(_)
        | CredentialKind::Certificate(_)
        | CredentialKind::Inventory(_) => None,
    }
}

/// The step about the secret, and what hides it from then on.
async fn look_at_secret(
    source: &SecretSource,
    platform: &Platform,
    within: Duration,
) -> (Step, Redactor) {
    let secret = match probe::read_key(source, within).await {
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
    let mut step = Step::ok(Topic::Secret, format!("read from {source}; {}", form(&secret)));
    let id = key_id_of(secret.expose());
    step.details.extend(id.map(|(_, id)| format!("the id of the key is {id}")));
    if let Some(path) = source.path() {
        step.details.extend(mode_of(path));
    }
    (step, redactor)
}

fn form(secret: &Secret) -> String {
    if secret.expose().starts_with("essu_") {
        return "it looks like a key of Elastic Cloud (Hosted or Serverless), which ECE does not know"
            .to_owned();
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
