//! What silences cover: the labels of everything that is watched, and which alerts fire. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{FiringAlert, Snapshot};
use crate::alert::{AlertName, Found};
use crate::config::{Config, CredentialId, Matcher, Severity};
use crate::delivery::{Hush, Labelled, Silence, labels_of};

/// Something that is watched, as silences see it.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What people call it: `prod`, `prod/ci`.
    pub name: String,
    /// Its labels, without those of an alert.
    pub labels: BTreeMap<String, String>,
    /// Its firing alerts.
    pub alerts: Vec<FiringAlert>,
}

/// An alert that fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// What it is about.
    pub name: String,
    /// Which.
    pub alert: AlertName,
    /// How bad.
    pub severity: Severity,
}

impl Watched {
    /// Something of a platform, or the platform itself.
    pub fn new(platform: &str, thing: Option<Labelled<'_>>, alerts: Vec<FiringAlert>) -> Self {
        let name = match thing {
            Some(it) => format!("{platform}/{}", it.name),
            None => platform.to_owned(),
        };
        Self { name, labels: labels_of(platform, thing), alerts }
    }

    /// A listed key. That one has expired lasts until it is listed no more, and is no news.
    pub fn found(
        platform: &str,
        team: &str,
        labels: &BTreeMap<String, String>,
        found: &Found,
    ) -> Self {
        let thing = Labelled {
            name: &found.item.id,
            kind: found.item.kind.label(),
            place: &found.item.place,
            team,
            labels,
        };
        let firing =
            found.state.lifetime.iter().filter(|it| it.name != AlertName::CredentialExpired);
        Self::new(platform, Some(thing), firing.map(FiringAlert::of).collect())
    }

    /// The labels of one of its alerts.
    pub fn labels_of(&self, alert: &FiringAlert) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert("alertname".to_owned(), alert.name.label().to_owned());
        labels.insert("severity".to_owned(), alert.severity.label().to_owned());
        labels
    }
}

/// The alerts that fire and that these matchers cover.
pub fn covered(matchers: &[Matcher], watched: &[Watched]) -> Vec<Covered> {
    let of = |it: &Watched, alert: &FiringAlert| {
        let labels = it.labels_of(alert);
        matchers.iter().all(|it| it.matches(&labels)).then(|| Covered {
            name: it.name.clone(),
            alert: alert.name,
            severity: alert.severity,
        })
    };
    watched.iter().flat_map(|it| it.alerts.iter().filter_map(move |alert| of(it, alert))).collect()
}

/// What is probably not meant: matchers that no alert can fit as things are, one sentence each.
pub fn suspicions(matchers: &[Matcher], watched: &[Watched]) -> Vec<String> {
    let of_alert = |it: &Matcher| matches!(it.label(), "alertname" | "severity");
    let fits = |matcher: &Matcher, labels: &BTreeMap<String, String>| match matcher.label() {
        "alertname" => AlertName::ALL.iter().any(|it| matcher.takes(it.label())),
        "severity" => Severity::ALL.iter().any(|it| matcher.takes(it.label())),
        _ => matcher.matches(labels),
    };
    let nothing = BTreeMap::new();
    let mut said = Vec::new();
    for matcher in matchers {
        let fitting = if of_alert(matcher) {
            fits(matcher, &nothing)
        } else {
            watched.iter().any(|it| fits(matcher, &it.labels))
        };
        if !fitting {
            let exists = of_alert(matcher)
                || watched.iter().any(|it| it.labels.contains_key(matcher.label()));
            let what = if exists { "has such a value" } else { "has this label at all" };
            said.push(format!("{matcher} silences nothing: nothing that is watched {what}"));
        }
    }
    if said.is_empty() && !watched.iter().any(|it| matchers.iter().all(|m| fits(m, &it.labels))) {
        said.push(
            "together these matchers silence nothing: nothing that is watched fits all of them"
                .to_owned(),
        );
    }
    said
}

impl Snapshot {
    /// Everything that is watched: credentials, listed keys, platforms.
    pub fn watched(&self) -> Vec<Watched> {
        let mut watched = Vec::new();
        for row in &self.credentials {
            let alerts = row.alerts.clone();
            watched.push(Watched::new(&row.id.platform, Some(labelled(row)), alerts));
        }
        let nothing = BTreeMap::new();
        for list in &self.lists {
            let of = self.credentials.iter().find(|it| it.id == list.id);
            let team = of.and_then(|it| it.team.as_deref()).unwrap_or_default();
            let labels = of.map_or(&nothing, |it| &it.labels);
            let keys = list.keys.iter();
            watched.extend(keys.map(|it| Watched::found(&list.id.platform, team, labels, it)));
        }
        let platforms = self.platforms.iter();
        watched.extend(platforms.map(|it| Watched::new(&it.name, None, it.alerts.clone())));
        watched
    }
}

/// What holds back an alert that fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hushed<'a> {
    /// Why.
    pub why: Hush,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Who asked for it, and the id of the silence.
    pub asked: Option<(&'a str, &'a str)>,
}

/// What is quiet at one time, prepared for asking about many alerts.
#[derive(Debug)]
pub struct Quiet<'a> {
    silences: Vec<&'a Silence>,
    /// The configuration, if it has windows.
    config: Option<&'a Config>,
    /// Receivers of credentials that have some of their own.
    receivers: HashMap<&'a CredentialId, &'a [Arc<str>]>,
    now: DateTime<Utc>,
}

impl<'a> Quiet<'a> {
    /// What is quiet in a view at `now`.
    pub fn new(snapshot: &'a Snapshot, now: DateTime<Utc>) -> Self {
        let config = snapshot.config.as_deref().filter(|it| !it.mutes.is_empty());
        let own = config.into_iter().flat_map(Config::credentials);
        let own = own.filter(|(_, it)| !it.receivers.is_empty());
        Self {
            silences: snapshot
                .silences
                .iter()
                .filter(|it| it.starts_at <= now && now < it.ends_at)
                .collect(),
            config,
            receivers: own.map(|(_, it)| (&it.id, &*it.receivers)).collect(),
            now,
        }
    }

    /// What holds back an alert of a credential, or without one of a platform; a silence before a window.
    pub fn hushed(
        &self,
        platform: &str,
        credential: Option<&super::CredentialStatus>,
        alert: &FiringAlert,
    ) -> Option<Hushed<'a>> {
        if self.silences.is_empty() && self.config.is_none() {
            return None;
        }
        let watched = Watched::new(platform, credential.map(labelled), Vec::new());
        let labels = watched.labels_of(alert);
        let covering = self.silences.iter().filter(|it| it.covers(&labels, self.now));
        if let Some(silence) = covering.max_by_key(|it| it.ends_at) {
            return Some(Hushed {
                why: Hush::Silenced,
                until: silence.ends_at,
                asked: Some((&silence.created_by, &silence.id)),
            });
        }
        let config = self.config?;
        let receivers = match credential {
            Some(it) => self.receivers.get(&it.id).copied().unwrap_or_default(),
            None => {
                let platform = config.platforms.iter().find(|it| *it.name == *platform);
                platform.map_or(&[][..], |it| &it.receivers)
            }
        };
        let ways = config.ways(&labels, receivers);
        // Who is told on one way is told.
        let until = ways.iter().map(|way| {
            let mutes = way.route.mutes.iter().filter_map(|name| config.mutes.get(name));
            mutes.filter_map(|it| it.until(self.now, alert.severity)).max()
        });
        let until = until.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        Some(Hushed { why: Hush::Muted, until, asked: None })
    }
}

fn labelled(row: &super::CredentialStatus) -> Labelled<'_> {
    Labelled {
        name: &row.id.name,
        kind: row.kind,
        place: "",
        team: row.team.as_deref().unwrap_or_default(),
        labels: &row.labels,
    }
}
