//! What ECE and the Elasticsearch of its deployments answer: the deployments, their keys, certificates and licenses. Pure.
//!
//! Everything but an id may be missing. What cannot be read of one entry does not take the others with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::Reading;
use super::elements::{Elements, End};
use super::listing::{Item, Keeper, Listing, Unread, Users, id, reading, short, word};
use crate::config::{Deployments, Inventory, ItemKind};

/// The most deployments that are read; the largest installations that are known of have some thousands.
pub const DEPLOYMENTS_MAX: usize = 2_000;

/// The longest id of a deployment or of its Elasticsearch; those of ECE have 32 characters.
const PLACE_ID_CHARS_MAX: usize = 64;

/// A deployment with an Elasticsearch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its id, of letters, digits, `.`, `_` and `-`.
    pub id: Box<str>,
    /// What people call it: its name, with its id if another has that name too.
    pub place: Arc<str>,
    /// What its Elasticsearch is called in paths, of the same characters.
    pub ref_id: Box<str>,
}

/// The deployments of interest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentList {
    /// Those that are read, in the order of the ids.
    pub read: Vec<Deployment>,
    /// Those that are too many.
    pub left_out: Vec<Deployment>,
    /// Those of which the list does not say how to reach their Elasticsearch.
    pub odd: Vec<Deployment>,
    /// How many there are, those without interest or without an Elasticsearch too.
    pub listed: usize,
    /// How many entries could not be read.
    pub unreadable: usize,
}

/// Reads the list of deployments, which arrives piece by piece.
#[derive(Debug)]
pub struct DeploymentLister<'a> {
    wanted: &'a Deployments,
    elements: Elements,
    /// By id, the name and what the Elasticsearch is called in paths, if the list says it.
    found: BTreeMap<Box<str>, (String, Option<Box<str>>)>,
    listed: usize,
    unreadable: usize,
}

#[derive(Debug, Deserialize)]
struct DeploymentEntry {
    id: String,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    resources: Value,
}

#[derive(Debug, Deserialize)]
struct Resource {
    #[serde(default)]
    kind: Value,
    #[serde(default)]
    ref_id: Value,
}

impl<'a> DeploymentLister<'a> {
    /// Keeps the deployments that are `wanted`.
    pub fn new(wanted: &'a Deployments) -> Self {
        let elements = Elements::of("deployments");
        Self { wanted, elements, found: BTreeMap::new(), listed: 0, unreadable: 0 }
    }

    /// Reads on.
    pub fn feed(&mut self, piece: &[u8]) {
        let Self { wanted, elements, found, listed, unreadable } = self;
        elements.feed(piece, |element| {
            let entry = serde_json::from_slice::<DeploymentEntry>(element).ok();
            let Some(entry) = entry.filter(|it| is_fit_for_a_path(&it.id)) else {
                *unreadable += 1;
                return;
            };
            *listed += 1;
            let ref_id = match serde_json::from_value::<Vec<Resource>>(entry.resources) {
                Ok(resources) => {
                    let mut resources = resources.into_iter();
                    let Some(elasticsearch) = resources.find(|it| it.kind == "elasticsearch")
                    else {
                        return;
                    };
                    word(&elasticsearch.ref_id).filter(|it| is_fit_for_a_path(it))
                }
                Err(_) => None,
            };
            let name = word(&entry.name).filter(|it| !it.trim().is_empty());
            let name = short(&name.unwrap_or_else(|| entry.id.clone()));
            if wanted.matches(&name, &entry.id) {
                found.insert(entry.id.into(), (name, ref_id.map(Into::into)));
            }
        });
    }

    /// What the whole list showed; `None` if it was none, or broke off.
    pub fn end(self) -> Option<DeploymentList> {
        let End::Whole { skipped } = self.elements.end() else { return None };
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<String> = self
            .found
            .values()
            .filter(|(name, _)| !seen.insert(name.as_str()))
            .map(|(name, _)| name.clone())
            .collect();
        let deployment =
            |(id, (name, ref_id)): (Box<str>, (String, Option<Box<str>>))| Deployment {
                place: if twice.contains(&name) {
                    format!("{name} ({id})").into()
                } else {
                    name.into()
                },
                id,
                ref_id: ref_id.unwrap_or_default(),
            };
        let all = self.found.into_iter().map(deployment);
        let (mut read, odd): (Vec<Deployment>, _) = all.partition(|it| !it.ref_id.is_empty());
        let left_out = read.split_off(read.len().min(DEPLOYMENTS_MAX));
        let unreadable = self.unreadable + skipped;
        Some(DeploymentList { read, left_out, odd, listed: self.listed, unreadable })
    }
}

/// Whether an id that ECE gave may stand in a path: it must not lead elsewhere.
fn is_fit_for_a_path(id: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=PLACE_ID_CHARS_MAX).contains(&id.len())
        && id.chars().all(is_plain)
        && !id.chars().all(|c| c == '.')
}

/// What an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// What was asked for; single entries may have been unreadable.
    Whole,
    /// Something else, or a part.
    Nonsense,
}

/// Gathers what the deployments show.
#[derive(Debug)]
pub struct Gatherer<'a> {
    inventory: &'a Inventory,
    keeper: Keeper,
    users: Users,
    unreadable: usize,
    listed: usize,
    unread: Vec<Unread>,
}

impl<'a> Gatherer<'a> {
    /// Holds at most as many items as `inventory` wants.
    pub fn new(inventory: &'a Inventory, now: DateTime<Utc>) -> Self {
        Self {
            inventory,
            keeper: Keeper::new(inventory.keys_max, now),
            users: Users::default(),
            unreadable: 0,
            listed: 0,
            unread: Vec::new(),
        }
    }

    /// Notes that a kind of `deployment` could not be read.
    pub fn not_read(&mut self, deployment: &Deployment, kind: ItemKind, why: String) {
        let group = format!("{}:{}", deployment.id, kind.label()).into();
        self.unread.push(Unread { group, place: Arc::clone(&deployment.place), why });
    }

    /// Takes the certificates in `body`. Of several at one place the one that expires first counts, so that a
    /// renewal is one.
    pub fn certificates(&mut self, deployment: &Deployment, body: &[u8]) -> Taken {
        let Ok(entries) = serde_json::from_slice::<Vec<Value>>(body) else {
            return Taken::Nonsense;
        };
        let mut found: BTreeMap<String, Item> = BTreeMap::new();
        for entry in entries {
            let Ok(entry) = serde_json::from_value::<CertificateEntry>(entry) else {
                self.unreadable += 1;
                continue;
            };
            let Some(item) = certificate(deployment, &entry) else {
                self.unreadable += 1;
                continue;
            };
            match found.get(item.id.as_ref()) {
                Some(other) if is_earlier(other, &item) => {}
                _ => drop(found.insert(item.id.to_string(), item)),
            }
        }
        for item in found.into_values() {
            self.take(item);
        }
        Taken::Whole
    }

    /// Takes the license in `body`. One without an end, as the free one is, is nothing to watch.
    pub fn license(&mut self, deployment: &Deployment, body: &[u8]) -> Taken {
        let Ok(LicenseBody { license }) = serde_json::from_slice(body) else {
            return Taken::Nonsense;
        };
        let kind = word(&license.kind).filter(|it| !it.is_empty());
        let Some(kind) = kind else { return Taken::Nonsense };
        let expiry = match &license.expiry_date_in_millis {
            Value::Null => &license.expiry_date,
            millis => millis,
        };
        let reading = dated(expiry);
        if reading == Some(Reading::Never) {
            return Taken::Whole;
        }
        self.take(Item {
            id: Item::id_in(&deployment.id, ItemKind::ElasticsearchLicense, "license"),
            kind: ItemKind::ElasticsearchLicense,
            place: Arc::clone(&deployment.place),
            user: Arc::default(),
            description: short(&kind).into(),
            created: None,
            reading,
        });
        Taken::Whole
    }

    fn take(&mut self, item: Item) {
        self.listed += 1;
        if item.is_wanted(self.inventory) {
            self.keeper.keep(item);
        }
    }

    /// What all of `deployments` showed.
    pub fn end(mut self, deployments: &DeploymentList) -> Listing {
        let (items, total) = self.keeper.end();
        self.unread.sort_by(|a, b| a.group.cmp(&b.group));
        Listing {
            left_out: total - items.len(),
            items,
            total,
            unreadable: self.unreadable + deployments.unreadable,
            listed: self.listed,
            deployments: deployments.read.len()
                + deployments.left_out.len()
                + deployments.odd.len(),
            unread: self.unread,
        }
    }
}

/// Reads the keys of the Elasticsearch of a deployment, which arrive piece by piece.
#[derive(Debug)]
pub struct KeyLister<'a> {
    deployment: &'a Deployment,
    elements: Elements,
}

#[derive(Debug, Deserialize)]
struct KeyEntry {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    username: Value,
    #[serde(default)]
    creation: Value,
    #[serde(default)]
    expiration: Value,
    #[serde(default)]
    invalidated: Value,
}

#[derive(Debug, Deserialize)]
struct CertificateEntry {
    #[serde(default)]
    path: Value,
    #[serde(default)]
    alias: Value,
    #[serde(default)]
    subject_dn: Value,
    #[serde(default)]
    expiry: Value,
}

#[derive(Debug, Deserialize)]
struct LicenseBody {
    license: LicenseEntry,
}

#[derive(Debug, Deserialize)]
struct LicenseEntry {
    #[serde(default, rename = "type")]
    kind: Value,
    #[serde(default)]
    expiry_date_in_millis: Value,
    #[serde(default)]
    expiry_date: Value,
}

impl<'a> KeyLister<'a> {
    /// The keys of `deployment`.
    pub fn new(deployment: &'a Deployment) -> Self {
        Self { deployment, elements: Elements::of("api_keys") }
    }

    /// Reads on; what it shows goes to `gatherer`.
    pub fn feed(&mut self, piece: &[u8], gatherer: &mut Gatherer<'_>) {
        let Self { deployment, elements } = self;
        elements.feed(piece, |element| {
            let entry = serde_json::from_slice::<KeyEntry>(element).ok();
            let item = entry.map(|it| (it.invalidated == true, key(deployment, &it, gatherer)));
            match item {
                Some((true, _)) => {}
                Some((false, Some(item))) => gatherer.take(item),
                Some((false, None)) | None => gatherer.unreadable += 1,
            }
        });
    }

    /// Whether the list was there, to its end.
    pub fn end(self, gatherer: &mut Gatherer<'_>) -> Taken {
        let End::Whole { skipped } = self.elements.end() else { return Taken::Nonsense };
        gatherer.unreadable += skipped;
        Taken::Whole
    }
}

fn key(deployment: &Deployment, entry: &KeyEntry, gatherer: &mut Gatherer<'_>) -> Option<Item> {
    Some(Item {
        id: Item::id_in(&deployment.id, ItemKind::ElasticsearchApiKey, &id(&entry.id)?),
        kind: ItemKind::ElasticsearchApiKey,
        place: Arc::clone(&deployment.place),
        user: gatherer.users.name(&word(&entry.username).unwrap_or_default()),
        description: short(&word(&entry.name).unwrap_or_default()).into(),
        created: dated(&entry.creation).and_then(Reading::expires_at),
        reading: dated(&entry.expiration),
    })
}

/// A certificate is known by its place: what stands there later is its renewal.
fn certificate(deployment: &Deployment, entry: &CertificateEntry) -> Option<Item> {
    let text = |it: &Value| word(it).filter(|it| !it.is_empty());
    let path = text(&entry.path)?;
    let place = match text(&entry.alias) {
        Some(alias) => format!("{path} ({alias})"),
        None => path,
    };
    let description = match text(&entry.subject_dn) {
        Some(subject) => format!("{subject} in {place}"),
        None => place.clone(),
    };
    let kind = ItemKind::ElasticsearchCertificate;
    // A certificate without an end is none.
    let reading = dated(&entry.expiry).filter(|it| matches!(it, Reading::ExpiresAt(_)));
    Some(Item {
        id: Item::id_in(&deployment.id, kind, &short(&place)),
        kind,
        place: Arc::clone(&deployment.place),
        user: Arc::default(),
        description: short(&description).into(),
        created: None,
        reading,
    })
}

/// Whether `a` expires before `b`; what cannot be read comes last, so that it hides nothing.
fn is_earlier(a: &Item, b: &Item) -> bool {
    let expires_at = |it: &Item| it.reading.and_then(Reading::expires_at);
    let at = |it: &Item| expires_at(it).unwrap_or(DateTime::<Utc>::MAX_UTC);
    at(a) <= at(b)
}

/// A date of Elasticsearch: milliseconds since the Unix epoch, or a text. A missing one says never.
fn dated(value: &Value) -> Option<Reading> {
    if let Some(millis) = value.as_i64().filter(|it| 0 < *it) {
        return DateTime::from_timestamp_millis(millis).map(Reading::ExpiresAt);
    }
    reading(value, None)
}

#[cfg(test)]
mod tests;
