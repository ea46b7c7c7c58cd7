//! The lists of keys: what the monitor holds of each, and how a listing and the passing of time change it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::record::{Draft, ListDraft};
use super::{Monitor, WAKE_MIN};
use crate::alert::{
    self, AlertName, Change, Event, FINDINGS_MAX, Finding, FindingKind, Firing, Found, Known,
    Lifespan, Reason, State,
};
use crate::config::{CredentialKind, Inventory};
use crate::delivery::{self, Subject};
use crate::observation::listing::Listing;
use crate::status::{DeploymentsStatus, ListStatus};
use crate::store::RememberedList;

/// How long a list waits for the first probes of its platform, which tell which of the keys are held.
const WAIT_FOR_PROBES: TimeDelta = TimeDelta::seconds(2);

/// How long Alertmanagers hold that a listed key has expired.
const STANDS_EXPIRED: TimeDelta = TimeDelta::days(1);

/// How long Alertmanagers hold a finding, which has no end of its own; the rules for Prometheus look back as far.
const STANDS_FOUND: TimeDelta = TimeDelta::hours(2);

/// One list of keys.
#[derive(Debug)]
pub(super) struct List {
    inventory: Arc<Inventory>,
    /// Its place among the lists that are shown.
    row: usize,
    keys: BTreeMap<Box<str>, Arc<Found>>,
    /// When time alone calls for a decision about a key.
    wakes: BTreeSet<(DateTime<Utc>, Box<str>)>,
    wake_of: HashMap<Box<str>, DateTime<Utc>>,
    listing: Option<Arc<Listing>>,
    findings: Arc<VecDeque<Finding>>,
    found: BTreeMap<FindingKind, u64>,
    /// The keys as they are shown, made anew when one changes.
    shown: Arc<Vec<Arc<Found>>>,
}

impl List {
    pub(super) fn new(
        inventory: Arc<Inventory>,
        row: usize,
        remembered: RememberedList,
        now: DateTime<Utc>,
    ) -> Self {
        let mut list = Self {
            inventory,
            row,
            shown: Arc::new(remembered.keys.values().cloned().collect()),
            keys: remembered.keys,
            wakes: BTreeSet::new(),
            wake_of: HashMap::new(),
            listing: None,
            findings: Arc::new(remembered.findings.into()),
            found: BTreeMap::new(),
        };
        list.plan_all(now);
        list
    }

    /// Takes nobody for told of any key.
    pub(super) fn forget_told(&mut self) {
        for found in self.keys.values_mut() {
            Arc::make_mut(found).state.lifetime = None;
        }
    }

    /// Plans the next decision about every key.
    pub(super) fn plan_all(&mut self, now: DateTime<Utc>) {
        let ids: Vec<Box<str>> = self.keys.keys().cloned().collect();
        for id in ids {
            self.plan(&id, now);
        }
    }

    fn plan(&mut self, id: &str, now: DateTime<Utc>) {
        if let Some((id, old)) = self.wake_of.remove_entry(id) {
            self.wakes.remove(&(old, id));
        }
        let wake = self.keys.get(id).and_then(|it| it.wake_at(&self.inventory));
        if let Some(wake) = wake {
            // Decided a moment ago: what is still due then waits for the next look.
            let wake = wake.max(now + WAKE_MIN);
            self.wakes.insert((wake, id.into()));
            self.wake_of.insert(id.into(), wake);
        }
    }

    /// What Alertmanagers are to hold of it: each key with what fires about it, or with what was found lately.
    pub(super) fn standing(&self, now: DateTime<Utc>) -> Vec<(Arc<Found>, Event)> {
        // That a listed key has expired lasts until it is listed no more, and nobody renews it there.
        let is_news = |it: &&Firing| {
            it.name != AlertName::CredentialExpired || now - it.starts_at < STANDS_EXPIRED
        };
        let event = |found: &Arc<Found>, firing| {
            (Arc::clone(found), Event::of(firing, Reason::New, found.state.generation, now))
        };
        // Of a key that is held, its credential speaks.
        let listed = self.keys.values().filter(|it| !it.is_held());
        let firing = listed
            .flat_map(|it| it.state.firing().filter(is_news).map(move |firing| event(it, firing)));
        let findings = self.findings.iter().filter(|it| now - it.at < STANDS_FOUND);
        let found = findings.filter_map(|it| {
            let event = it.event(&self.inventory, 0)?;
            let item = it.item.clone();
            let (state, lifespan) = (State::default(), Lifespan::default());
            Some((Arc::new(Found { item, held_by: None, state, missed: 0, lifespan }), event))
        });
        firing.chain(found).collect()
    }

    pub(super) fn wake_at(&self) -> Option<DateTime<Utc>> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Lets a draft take effect.
    pub(super) fn apply(&mut self, draft: ListDraft, now: DateTime<Utc>) {
        if let Some(listing) = draft.listing {
            // What is held of it stands in `keys`.
            let unread = listing.unread.clone();
            self.listing = Some(Arc::new(Listing { items: Vec::new(), unread, ..*listing }));
        }
        let is_changed = !draft.changes.is_empty();
        for change in draft.changes {
            let (Change::Put(found) | Change::Gone(found)) = &change;
            let id = found.item.id.clone();
            match change {
                Change::Put(found) => drop(self.keys.insert(id.clone(), found)),
                Change::Gone(_) => drop(self.keys.remove(&id)),
            }
            self.plan(&id, now);
        }
        if is_changed {
            self.shown = Arc::new(self.keys.values().cloned().collect());
        }
        for finding in draft.findings {
            *self.found.entry(finding.kind).or_default() += 1;
            let findings = Arc::make_mut(&mut self.findings);
            findings.push_back(finding);
            if FINDINGS_MAX < findings.len() {
                findings.pop_front();
            }
        }
    }
}

impl Monitor {
    /// Takes a list that was read into account, into the draft. Says how soon to read it again.
    pub(super) fn reconcile(
        &self,
        draft: &mut Draft,
        at: usize,
        listing: &Arc<Listing>,
        now: DateTime<Utc>,
    ) -> Option<std::time::Duration> {
        let list = self.lists.get(&at)?;
        let held = self.held_beside(at);
        let known = Known {
            keys: &list.keys,
            held: &held,
            listed_at: self.slots[at].state.last_success,
            before: list.listing.as_deref(),
        };
        let decision = alert::reconcile(&list.inventory, known, listing, now);
        self.owe_found(draft, at, &decision.events);
        for finding in &decision.findings {
            let (id, kind) = (&self.slots[at].credential.id, finding.kind.label());
            let (key, user) = (&finding.item.id, &finding.item.user);
            tracing::info!(credential.id = %id, finding = kind, key.id = %key, user.id = %user, "finding in {id}: key {key} of {user} is {kind}");
        }
        self.log_unread(at, list, listing);
        let list_draft = draft.lists.entry(at).or_default();
        list_draft.changes.extend(decision.changes);
        list_draft.findings.extend(decision.findings);
        list_draft.listing = Some(Arc::clone(listing));
        decision.again
    }

    /// Logs which deployments can no longer be read, and which can again.
    fn log_unread(&self, at: usize, list: &List, listing: &Listing) {
        let id = &self.slots[at].credential.id;
        let before = list.listing.as_ref().map(|it| unread(it)).unwrap_or_default();
        let unread = unread(listing);
        for (place, why) in &unread {
            if !before.iter().any(|(it, _)| it == place) {
                tracing::warn!(credential.id = %id, deployment = %place, "cannot read all of deployment {place} for {id}: {why}");
            }
        }
        for (place, _) in &before {
            if !unread.iter().any(|(it, _)| it == place) {
                tracing::info!(credential.id = %id, deployment = %place, "deployment {place} can be read again for {id}, or is gone");
            }
        }
    }

    /// Decides what the passing of time calls for about listed keys, into the draft.
    pub(super) fn pass_lists(&mut self, draft: &mut Draft, now: DateTime<Utc>) {
        let places: Vec<usize> = self.lists.keys().copied().collect();
        for at in places {
            let Some(list) = self.lists.get_mut(&at) else { continue };
            let mut events = Vec::new();
            let mut changes = Vec::new();
            while let Some((_, id)) = list.wakes.first().filter(|(at, _)| *at <= now).cloned() {
                list.wakes.pop_first();
                list.wake_of.remove(&id);
                let Some(found) = list.keys.get(&id) else { continue };
                let (next, of_key) = found.pass(&list.inventory, now);
                let next = Arc::new(next);
                events.extend(of_key.into_iter().map(|it| (Arc::clone(&next), it)));
                changes.push(Change::Put(next));
            }
            if !changes.is_empty() {
                self.owe_found(draft, at, &events);
                draft.lists.entry(at).or_default().changes.extend(changes);
            }
        }
    }

    fn owe_found(&self, draft: &mut Draft, at: usize, events: &[(Arc<Found>, Event)]) {
        let slot = &self.slots[at];
        let platform = &self.platforms[slot.platform].platform;
        let state: State = draft.credentials.get(&at).unwrap_or(&slot.state).clone();
        for (found, event) in events {
            let subject = Subject::Found(platform, &slot.credential, &state, found);
            draft.told.push((subject.key(), event.clone()));
            draft.owed.push(delivery::owed(&self.config, subject, event));
        }
    }

    /// The credentials of the same platform by the ids of their keys.
    fn held_beside(&self, at: usize) -> HashMap<Box<str>, Arc<str>> {
        let platform = self.slots[at].platform;
        let keys = self
            .slots
            .iter()
            .filter(|it| it.platform == platform)
            .filter(|it| matches!(it.credential.kind, CredentialKind::ApiKey(_)));
        keys.filter_map(|it| {
            Some((it.state.key_id.as_deref()?.into(), Arc::clone(&it.credential.id.name)))
        })
        .collect()
    }

    /// When a list may be read whose time has come: first the keys of its platform are probed once, so that it is known
    /// which of the listed ones are held.
    pub(super) fn waits_for_probes(&self, at: usize, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.lists.get(&at)?;
        let platform = self.slots[at].platform;
        let is_unknown = |it: &super::Slot| {
            it.platform == platform
                && matches!(it.credential.kind, CredentialKind::ApiKey(_))
                && it.state.last_run.is_none()
        };
        self.slots.iter().any(is_unknown).then(|| now + WAIT_FOR_PROBES)
    }

    /// Puts the row of a list onto the board.
    pub(super) fn show_list(&self, at: usize) {
        if let Some(list) = self.lists.get(&at) {
            self.shared.board.update_list(list.row, Arc::new(self.list_status(at, list)));
        }
    }

    pub(super) fn list_status(&self, at: usize, list: &List) -> ListStatus {
        let slot = &self.slots[at];
        ListStatus {
            id: slot.credential.id.clone(),
            policy: Arc::clone(&list.inventory.policy),
            keys: Arc::clone(&list.shown),
            total: list.listing.as_ref().map(|it| it.total),
            left_out: list.listing.as_ref().map_or(0, |it| it.left_out),
            deployments: list.inventory.scope.deployments().map(|_| DeploymentsStatus {
                total: list.listing.as_ref().map(|it| it.deployments),
                unread: list.listing.as_ref().map(|it| unread(it)).unwrap_or_default(),
            }),
            unreadable: list.listing.as_ref().map_or(0, |it| it.unreadable),
            listed_at: slot.state.last_success,
            findings: Arc::clone(&list.findings),
            found: list.found.clone(),
        }
    }
}

/// The deployments of which something could not be read, each with the first reason.
fn unread(listing: &Listing) -> Vec<(Arc<str>, String)> {
    // What is unread of one deployment stands together.
    let of_each = listing.unread.chunk_by(|a, b| a.deployment() == b.deployment());
    of_each.map(|it| (Arc::clone(&it[0].place), it[0].why.clone())).collect()
}
