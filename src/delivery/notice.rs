//! From an event to what is owed: who is told, what the message can say, and the key that makes it unique. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Addressed, Grouping, Integration, Notice, NoticeCredential, NoticeProbe, Owed, Target, labels,
};
use crate::alert::{AlertName, Event, Found, PlatformState, Reason, State, Status};
use crate::config::{
    Carries, Config, Credential, CredentialKind, Platform, Policy, Route, SecretSource, Stage, Way,
};
use crate::observation::listing::Item;
use crate::observation::{FailureReason, Reading};
use crate::time;

/// What an event is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A credential in its next state.
    Credential(&'a Platform, &'a Credential, &'a State),
    /// A platform in its next state, and the credential whose probe decided.
    Platform(&'a Platform, &'a PlatformState, &'a State),
    /// A listed key in its next state, and the list and its state.
    Found(&'a Platform, &'a Credential, &'a State, &'a Found),
}

impl<'a> Subject<'a> {
    fn policy(&self) -> &'a Policy {
        match self {
            Self::Credential(_, credential, _) | Self::Found(_, credential, ..) => {
                &credential.policy
            }
            Self::Platform(platform, ..) => &platform.policy,
        }
    }

    /// Those who are told instead of those of the routes; mostly nobody.
    fn receivers(&self) -> &'a [Arc<str>] {
        match self {
            Self::Credential(_, credential, _) | Self::Found(_, credential, ..) => {
                &credential.receivers
            }
            Self::Platform(platform, ..) => &platform.receivers,
        }
    }

    /// The subject's name in keys: names hold no `/`, so two subjects never share one.
    /// A listed key stands below its list.
    pub fn key(&self) -> String {
        match self {
            Self::Credential(_, credential, _) => credential.id.to_string(),
            Self::Platform(platform, ..) => platform.name.to_string(),
            Self::Found(_, list, _, found) => format!("{}/{}", list.id, found.item.id),
        }
    }
}

/// Every channel and recipient of the named receivers, in the order of the file.
pub fn targets<'a>(
    config: &Config,
    receivers: impl IntoIterator<Item = &'a Arc<str>>,
) -> Vec<Target> {
    let mut targets = Vec::new();
    for receiver in receivers.into_iter().filter_map(|name| config.receivers.get(name)) {
        let mut add = |integration, channel: &Arc<str>, recipient: &str| {
            targets.push(Target {
                receiver: receiver.name.clone(),
                integration,
                channel: channel.clone(),
                recipient: recipient.to_owned(),
            });
        };
        for email in &receiver.emails {
            email.to.iter().for_each(|recipient| add(Integration::Email, &email.name, recipient));
        }
        receiver.webhooks.iter().for_each(|it| add(Integration::of(it), &it.name, ""));
    }
    targets
}

/// What an event calls for, to every channel and recipient of its receivers.
pub fn owed(config: &Config, subject: Subject<'_>, event: &Event) -> Owed {
    let notice = notice(subject, event);
    let thread = format!("{} {}", subject.key(), slot(event.name));
    // The instant makes it unique: a batch that is written again carries the same one, a later episode another.
    let key = format!(
        "{} {} {} {}",
        subject.key(),
        event.name.label(),
        event.reason.label(),
        time::to_ms(event.at)
    );
    let status = event.reason.status();
    let to = match status {
        Status::Firing => addressed(config, subject, event, &labels(&notice)),
        Status::Resolved => Vec::new(),
    };
    Owed { key, thread, status, notice, to }
}

/// How many alerts one message to `target` carries; one if the configuration has it no more.
pub fn carries(config: &Config, target: &Target) -> Carries {
    let receiver = config.receivers.get(&target.receiver);
    match target.integration {
        Integration::Email => Carries::Group,
        _ => receiver
            .and_then(|it| it.webhook(&target.channel))
            .map_or(Carries::Alert, |it| it.format.carries()),
    }
}

/// What says that a receiver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The routes lead there.
    Routes,
    /// The `receivers` of the credential or its platform, or without routes those of the platform's credentials.
    Receivers,
    /// The `escalate_to` of a step.
    Step,
}

/// Where an event with these labels goes: by the routes or the receivers that take their place, and to whom its step
/// escalates. No receiver twice.
pub fn ways<'a>(
    config: &'a Config,
    subject: Subject<'a>,
    event: &Event,
    labels: &BTreeMap<String, String>,
) -> Vec<(Way<'a>, Origin)> {
    let stage = match (event.name, event.step) {
        (AlertName::CredentialExpired, _) => Stage::Expired,
        (AlertName::CredentialExpiring, Some(step)) => Stage::Step(step),
        _ => Stage::NoStep,
    };
    let shortcut = subject.receivers();
    let origin = if shortcut.is_empty() { Origin::Routes } else { Origin::Receivers };
    let ways = config.ways(labels, shortcut);
    let mut ways: Vec<_> = ways.into_iter().map(|it| (it, origin)).collect();
    let escalated = subject.policy().escalated_to(stage);
    if !escalated.is_empty() {
        for way in config.ways(labels, escalated) {
            if ways.iter().all(|(it, _)| it.receiver != way.receiver) {
                ways.push((way, Origin::Step));
            }
        }
    }
    ways
}

/// Every channel to which an event goes.
fn addressed(
    config: &Config,
    subject: Subject<'_>,
    event: &Event,
    labels: &BTreeMap<String, String>,
) -> Vec<Addressed> {
    let to = |way: &Way<'_>| {
        let Route { group_wait, group_interval, mutes, .. } = way.route;
        let group =
            Grouping { key: way.group(labels), wait: *group_wait, interval: *group_interval };
        let addressed = targets(config, [way.receiver]).into_iter().map(|target| Addressed {
            grouping: match carries(config, &target) {
                Carries::Group => group.clone(),
                Carries::Alert => Grouping::default(),
            },
            target,
            mutes: mutes.clone(),
        });
        addressed.collect::<Vec<_>>()
    };
    ways(config, subject, event, labels).iter().flat_map(|(way, _)| to(way)).collect()
}

/// Who is told what cannot be delivered to `target`: the fallback of its receiver, or the receiver of everything else,
/// unless it is the same.
pub fn fallback(config: &Config, target: &Target) -> Vec<Addressed> {
    let named = config.receivers.get(&target.receiver).and_then(|it| it.fallback.as_ref());
    let instead = named.or(config.route.as_ref().map(|it| &it.receiver));
    targets(config, instead.filter(|it| **it != target.receiver))
        .into_iter()
        .map(|target| Addressed { target, grouping: Grouping::default(), mutes: Vec::new() })
        .collect()
}

/// Who gets a digest: those whom the receiver reaches by mail.
pub fn digest_readers(config: &Config, receiver: &Arc<str>) -> Vec<Addressed> {
    let targets = targets(config, [receiver]).into_iter();
    let by_mail = targets.filter(|it| it.integration == Integration::Email);
    // A group of its own: nothing else stands in the same mail.
    let grouping = Grouping { key: "digest".to_owned(), ..Grouping::default() };
    by_mail
        .map(|target| Addressed { target, grouping: grouping.clone(), mutes: Vec::new() })
        .collect()
}

/// An alert that fires now and that Alertmanagers are to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Everything that it can say.
    pub notice: Notice,
    /// The names of the receivers whose Alertmanagers hold it; at least one.
    pub receivers: Vec<Arc<str>>,
}

/// What Alertmanagers are to hold of an event that lasts; `None` if it goes to none. Windows without messages are not
/// for them: they have their own.
pub fn standing(config: &Config, subject: Subject<'_>, event: &Event) -> Option<Standing> {
    let notice = notice(subject, event);
    let holds =
        |name: &Arc<str>| config.receivers.get(name).is_some_and(|it| !it.alertmanagers.is_empty());
    let labels = labels(&notice);
    let ways = ways(config, subject, event, &labels).into_iter();
    let receivers: Vec<Arc<str>> =
        ways.map(|(way, _)| way.receiver).filter(|it| holds(it)).cloned().collect();
    (!receivers.is_empty()).then_some(Standing { notice, receivers })
}

/// The slot of an alert: alerts of one slot take each other's place.
pub fn slot(name: AlertName) -> &'static str {
    match name {
        AlertName::CredentialExpiring
        | AlertName::CredentialExpired
        | AlertName::CredentialNeverExpires => "lifetime",
        AlertName::CredentialRejected
        | AlertName::CredentialForbidden
        | AlertName::CredentialExpiryUnknown => "access",
        AlertName::PlatformUnreachable => "unreachable",
        AlertName::PlatformClockSkew => "skew",
        AlertName::ApiKeyCreated => "created",
        AlertName::ApiKeyDeleted => "deleted",
        AlertName::ApiKeyLongLived => "long_lived",
    }
}

/// Everything that a message about the event can say.
pub fn notice(subject: Subject<'_>, event: &Event) -> Notice {
    let (platform, probed) = match subject {
        Subject::Credential(platform, _, state)
        | Subject::Platform(platform, _, state)
        | Subject::Found(platform, _, state, _) => (platform, state),
    };
    let policy = subject.policy();
    let is_listed = matches!(subject, Subject::Found(..));
    let next_repeat = match event.reason.status() {
        // The steps of a listed key are its reminders.
        Status::Firing if is_listed => None,
        Status::Firing => {
            policy.reminded_at(event.severity, event.at, event.name.end(probed.reading))
        }
        Status::Resolved => None,
    };
    Notice {
        alert: event.name.label().to_owned(),
        reason: event.reason.label().to_owned(),
        severity: event.severity.label().to_owned(),
        at: event.at,
        starts_at: event.starts_at,
        repeat: event.repeat,
        generation: event.generation,
        step_seconds: event.step.map(|it| it.as_secs()),
        previous_expiry: event.previous_expiry,
        platform: platform.name.to_string(),
        flavor: platform.flavor.label().to_owned(),
        platform_url: platform.urls.first().cloned().unwrap_or_default(),
        ca_file: platform.tls.ca_file.as_ref().map(|it| it.display().to_string()),
        credential: match subject {
            Subject::Credential(_, credential, state) => Some(notice_credential(credential, state)),
            Subject::Found(_, list, state, found) => Some(notice_found(list, state, found)),
            Subject::Platform(..) => None,
        },
        next_repeat,
        probe: NoticeProbe {
            success: probed.last_run.is_some() && probed.failure.is_none(),
            last_run_at: probed.last_run,
            last_success_at: probed.last_success,
            http_status: probed.http_status,
            failure_reason: probed.failure.as_ref().map(|(reason, _)| reason.label().to_owned()),
            error: probed.failure.as_ref().map(|(_, message)| message.clone()),
        },
        clock_skew_seconds: match subject {
            Subject::Platform(_, state, _) => state.clock_skew.map(|it| it.num_seconds()),
            Subject::Credential(..) | Subject::Found(..) => None,
        },
        undelivered: None,
        digest: None,
    }
}

fn notice_credential(credential: &Credential, state: &State) -> NoticeCredential {
    let (expiry_state, expires_at) = match (state.reading, &state.failure) {
        (Some(Reading::ExpiresAt(at)), _) => ("dated", Some(at)),
        (Some(Reading::Never), _) => ("never", None),
        (Some(Reading::Undated), _) => ("undated", None),
        (None, Some((FailureReason::HeaderMissing, _))) => ("not_reported", None),
        (None, Some((FailureReason::HeaderInvalid, _))) => ("unparsable", None),
        (None, Some(_) | None) => ("unknown", None),
    };
    NoticeCredential {
        name: credential.id.name.to_string(),
        kind: credential.kind.label().to_owned(),
        key_id: state.key_id.clone(),
        team: credential.team.clone(),
        used_by: credential.used_by.clone(),
        renewal_note: credential.renewal_note.clone(),
        secret_source: secret_source(&credential.kind).map(ToString::to_string),
        labels: credential.labels.clone(),
        expiry_state: expiry_state.to_owned(),
        expires_at,
        observed_at: state.observed_at,
        user: None,
        description: None,
        place: None,
        created_at: None,
    }
}

fn notice_found(list: &Credential, state: &State, found: &Found) -> NoticeCredential {
    let Item { id, kind, place, user, description, created, .. } = &found.item;
    let (expiry_state, expires_at) = match found.reading() {
        Some(Reading::ExpiresAt(at)) => ("dated", Some(at)),
        Some(Reading::Never) => ("never", None),
        Some(Reading::Undated) => ("undated", None),
        None => ("unparsable", None),
    };
    let said = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
    NoticeCredential {
        name: id.to_string(),
        kind: kind.label().to_owned(),
        key_id: kind.is_key().then(|| found.item.own_id().to_owned()),
        team: list.team.clone(),
        used_by: list.used_by.clone(),
        renewal_note: list.renewal_note.clone(),
        labels: list.labels.clone(),
        expiry_state: expiry_state.to_owned(),
        expires_at,
        observed_at: state.last_success,
        secret_source: None,
        user: said(user),
        description: said(description),
        place: said(place),
        created_at: *created,
    }
}

fn secret_source(kind: &CredentialKind) -> Option<&SecretSource> {
    match kind {
        CredentialKind::ApiKey(source)
        | CredentialKind::BearerToken(source)
        | CredentialKind::Login { password: source, .. } => Some(source),
        CredentialKind::License(_)
        | CredentialKind::Certificate(_)
        | CredentialKind::Inventory(_) => None,
    }
}

/// The notice that ends an alert because its subject is no longer configured, made from the last one that was sent:
/// the configuration no longer knows whom to tell.
pub fn ended(last: Notice, now: DateTime<Utc>) -> Notice {
    // Those who were told instead of others are not alone with an end.
    let reason = Reason::Removed.label().to_owned();
    Notice { reason, at: now, next_repeat: None, undelivered: None, ..last }
}
