//! What a list of keys, or of what expires inside deployments, changes: which keys are new, gone, about to expire, or live too long.
//!
//! How long a listed key lives goes the way of every credential (`credential::decide`). What is new here is that keys come
//! and go without a word in the configuration. Of a key that is held too, its credential speaks, not the list. A key that
//! had expired before it was first seen is shown and not told: nobody was there to be told in time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::credential::{CONFIRM_AFTER, State, decide, wake_at};
use super::{AlertName, Event, PlatformState, Reason};
use crate::config::{Inventory, InventoryScope, KeyScope, Severity};
use crate::observation::listing::{Item, Listing};
use crate::observation::{Observation, Reading};
use crate::time::delta;

/// Lists in a row that must lack a key before it counts as gone, so that a coordinator that lags behind is not believed.
const MISSED_MIN: u32 = 2;

/// So many keys that a list lacks at once, and more than half of it, are more likely a list that is cut short.
const SHRUNK_MIN: usize = 10;
/// How far before the last list a key may have been made that is new in the next: reading a list takes a while, and clocks
/// differ by up to five minutes without a word.
const CREATED_MARGIN: TimeDelta = TimeDelta::minutes(10);
/// How many findings of a list are kept at hand and shown; the store has them all.
pub const FINDINGS_MAX: usize = 100;

/// A listed key and what is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the list says of it.
    pub item: Item,
    /// The credential that holds its secret, if one does.
    pub held_by: Option<Arc<str>>,
    /// Its expiry and its alert.
    pub state: State,
    /// How many lists in a row lack it.
    pub missed: u32,
    /// Whether it lives longer than is allowed.
    pub lifespan: Lifespan,
}

/// Whether a key lives longer than is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifespan {
    /// It does not.
    #[default]
    Allowed,
    /// It does.
    TooLong,
}

/// Something about a list of keys that somebody may want to know; it happens once, and does not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// When it was found.
    pub at: DateTime<Utc>,
    /// Which key.
    pub item: Item,
}

/// What happened to a listed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// It is new.
    Created,
    /// It is gone before its expiry.
    Deleted,
    /// It lives longer than is allowed.
    LongLived,
}

impl Finding {
    /// What is told of it; `None` if nobody wants to know.
    pub fn event(&self, inventory: &Inventory, generation: u32) -> Option<Event> {
        let severity = self.kind.severity(inventory)?;
        // That it never expires is told already: one message for one thing.
        let never =
            self.kind == FindingKind::LongLived && self.item.reading == Some(Reading::Never);
        if never && inventory.policy.never_expires.is_some() {
            return None;
        }
        Some(Event {
            name: self.kind.alert(),
            reason: Reason::New,
            severity,
            step: None,
            at: self.at,
            starts_at: self.at,
            repeat: 0,
            generation,
            previous_expiry: None,
        })
    }
}

impl FindingKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Created, Self::Deleted, Self::LongLived];

    /// The label value: `created`, `deleted`, `long_lived`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Deleted => "deleted",
            Self::LongLived => "long_lived",
        }
    }

    /// The kind of a label value.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.label() == label)
    }

    fn alert(self) -> AlertName {
        match self {
            Self::Created => AlertName::ApiKeyCreated,
            Self::Deleted => AlertName::ApiKeyDeleted,
            Self::LongLived => AlertName::ApiKeyLongLived,
        }
    }

    fn severity(self, inventory: &Inventory) -> Option<Severity> {
        match self {
            Self::Created => inventory.created,
            Self::Deleted => inventory.deleted,
            Self::LongLived => inventory.long_lived,
        }
    }
}

/// What is known before a listing.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The keys, by id.
    pub keys: &'a BTreeMap<Box<str>, Arc<Found>>,
    /// The credentials that hold a key, by the id of the key.
    pub held: &'a HashMap<Box<str>, Arc<str>>,
    /// When the list was last read; `None` if never: then nothing in it is new.
    pub listed_at: Option<DateTime<Utc>>,
    /// What it showed then, without its items; `None` before the first list since the start.
    pub before: Option<&'a Listing>,
}

/// What becomes of a listed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new, or something about it is.
    Put(Arc<Found>),
    /// It is gone.
    Gone(Arc<Found>),
}

/// What a listing changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// The keys that change.
    pub changes: Vec<Change>,
    /// Who must be told what.
    pub events: Vec<(Arc<Found>, Event)>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// List again this soon, if the schedule is slower.
    pub again: Option<Duration>,
}

impl Found {
    /// Whether a credential holds its secret, and speaks of it.
    pub fn is_held(&self) -> bool {
        self.held_by.is_some()
    }

    /// When it expires, as far as that was ever read.
    pub fn reading(&self) -> Option<Reading> {
        self.item.reading.or(self.state.reading)
    }

    fn had_expired(&self, now: DateTime<Utc>) -> bool {
        matches!(self.reading(), Some(Reading::ExpiresAt(at)) if at <= now)
    }

    /// Decides what the passing of time calls for.
    pub fn pass(&self, inventory: &Inventory, now: DateTime<Utc>) -> (Self, Vec<Event>) {
        let decision = decide(&inventory.policy, &PlatformState::default(), &self.state, None, now);
        (Self { state: decision.next, ..self.clone() }, decision.events)
    }

    /// When the passing of time alone next calls for a decision.
    pub fn wake_at(&self, inventory: &Inventory) -> Option<DateTime<Utc>> {
        if self.is_held() {
            return None;
        }
        wake_at(&inventory.policy, &self.state)
    }
}

/// What a list could not show.
struct Absent<'a> {
    /// The last place of a list that was cut.
    edge: Option<(u8, i64)>,
    /// The groups of items that could not be read.
    unread: HashSet<&'a str>,
    /// Whose keys alone it shows, if only those of one user: the configuration may have named another before.
    owner: Option<&'a str>,
    /// How many lists in a row must lack a key before it counts as gone.
    missed_min: u32,
}

impl<'a> Absent<'a> {
    fn of(
        inventory: &Inventory,
        known: Known<'_>,
        listing: &'a Listing,
        now: DateTime<Utc>,
    ) -> Self {
        let ids: HashSet<&str> = listing.items.iter().map(|it| &*it.id).collect();
        let missing = known.keys.keys().filter(|it| !ids.contains(it.as_ref())).count();
        let is_shrunk = SHRUNK_MIN <= missing && known.keys.len() < 2 * missing;
        let ranks = listing.items.iter().map(|it| it.rank(now));
        let is_of_one = inventory.scope == InventoryScope::Keys(KeyScope::Own);
        Self {
            owner: listing.items.first().filter(|_| is_of_one).map(|it| it.user.as_ref()),
            edge: ranks.max().filter(|_| listing.is_truncated()),
            unread: listing.unread.iter().map(|it| it.group.as_ref()).collect(),
            missed_min: if is_shrunk { MISSED_MIN + 1 } else { MISSED_MIN },
        }
    }
}

/// Takes a listing into account, which was read at `now`.
pub fn reconcile(
    inventory: &Inventory,
    known: Known<'_>,
    listing: &Listing,
    now: DateTime<Utc>,
) -> Reconciled {
    let absent = Absent::of(inventory, known, listing, now);
    let mut it = Reconciler { inventory, known, absent, now, out: Reconciled::default() };
    // The list is in the order of the ids, as the known keys are.
    let mut before = known.keys.iter().peekable();
    for item in &listing.items {
        while let Some((_, found)) = before.next_if(|(id, _)| **id < item.id) {
            it.missing(found);
        }
        let found = before.next_if(|(id, _)| **id == item.id).map(|(_, found)| found);
        it.listed(item, found);
    }
    for (_, found) in before {
        it.missing(found);
    }
    let mut out = it.out;
    // To ask all deployments anew is too much for one of them, in which something changes always somewhere.
    out.again = out.again.filter(|_| inventory.scope.deployments().is_none());
    out
}

/// Compares one list with what is known, key by key.
struct Reconciler<'a> {
    inventory: &'a Inventory,
    known: Known<'a>,
    absent: Absent<'a>,
    now: DateTime<Utc>,
    out: Reconciled,
}

impl Reconciler<'_> {
    /// A key that the list holds.
    fn listed(&mut self, item: &Item, before: Option<&Arc<Found>>) {
        let held_by = self.known.held.get(&item.id).cloned();
        let lifespan = lifespan(self.inventory, item, self.now);
        if let Some(found) = before
            && found.item == *item
            && found.held_by == held_by
            && found.lifespan == lifespan
            && found.missed == 0
            && found.state.candidate.is_none()
        {
            self.as_before(found);
            return;
        }
        let (state, events) = live(self.inventory, item, held_by.is_some(), before, self.now);
        if state.candidate.is_some() && before.is_none_or(|it| it.state.candidate.is_none()) {
            self.out.again = Some(CONFIRM_AFTER);
        }
        let found = Arc::new(Found { item: item.clone(), held_by, state, missed: 0, lifespan });
        self.put(&found, events);
        if before.is_none() && self.is_created(&found) {
            self.note(FindingKind::Created, &found);
        }
        let was_allowed = before.is_none_or(|it| it.lifespan == Lifespan::Allowed);
        if was_allowed && lifespan == Lifespan::TooLong {
            self.note(FindingKind::LongLived, &found);
        }
    }

    /// A key about which the list says nothing new. The policy may be new, or the clock was set.
    fn as_before(&mut self, found: &Arc<Found>) {
        if found.is_held() {
            return;
        }
        let (next, events) = found.pass(self.inventory, self.now);
        if next != **found {
            self.put(&Arc::new(next), events);
        }
    }

    fn put(&mut self, found: &Arc<Found>, events: Vec<Event>) {
        self.out.changes.push(Change::Put(Arc::clone(found)));
        self.out.events.extend(events.into_iter().map(|it| (Arc::clone(found), it)));
    }

    /// Whether a key that was not known was made since the list was read before. What was not seen then may be old: of a
    /// list that was cut or is the first since the start, or inside a deployment that could not be read, the date decides.
    fn is_created(&self, found: &Found) -> bool {
        let is_told = !found.is_held() && !found.had_expired(self.now);
        let Some(listed_at) = self.known.listed_at.filter(|_| is_told) else { return false };
        let was_seen = self.known.before.is_some_and(|before| {
            let was_unread = || before.unread.iter().any(|it| &*it.group == found.item.group());
            !before.is_truncated() && !was_unread()
        });
        let since = listed_at - CREATED_MARGIN;
        was_seen || found.item.created.is_some_and(|created| since <= created)
    }

    /// A key that is known and that the list lacks.
    fn missing(&mut self, found: &Arc<Found>) {
        let Absent { edge, unread, owner, missed_min } = &self.absent;
        if unread.contains(found.item.group()) {
            // Nothing is known of it: it is taken to be there still.
            return;
        }
        let is_behind = edge.is_some_and(|edge| edge <= found.item.rank(self.now));
        let is_of_another = owner.is_some_and(|it| it != found.item.user.as_ref());
        if is_behind || is_of_another {
            // It is behind those that are held, or of a user whose keys are listed no longer: it may be there still, but
            // nobody watches it.
            self.gone(found);
            return;
        }
        let missed = found.missed + 1;
        if missed < *missed_min {
            // Most of a list at once is more likely a list that is cut short: the schedule is soon enough to see.
            self.out.again = (*missed_min == MISSED_MIN).then_some(CONFIRM_AFTER);
            let found = Arc::new(Found { missed, ..Found::clone(found) });
            self.put(&found, Vec::new());
            return;
        }
        self.gone(found);
        // What is filtered out from now on was not deleted.
        let is_wanted = is_wanted(self.inventory, &found.item);
        let is_told = !found.had_expired(self.now) && is_wanted && !found.is_held();
        if is_told && self.known.listed_at.is_some() {
            self.note(FindingKind::Deleted, found);
        }
    }

    /// A key that is watched no longer.
    fn gone(&mut self, found: &Arc<Found>) {
        self.out.changes.push(Change::Gone(Arc::clone(found)));
        if let Some(firing) = &found.state.lifetime {
            let ended = Event::of(firing, Reason::Removed, found.state.generation, self.now);
            self.out.events.push((Arc::clone(found), ended));
        }
    }

    /// Notes a finding, and tells it if that is wanted. Certificates and licenses come and go by themselves.
    fn note(&mut self, kind: FindingKind, found: &Arc<Found>) {
        if !found.item.kind.is_key() {
            return;
        }
        let finding = Finding { kind, at: self.now, item: found.item.clone() };
        if let Some(event) = finding.event(self.inventory, found.state.generation) {
            self.out.events.push((Arc::clone(found), event));
        }
        self.out.findings.push(finding);
    }
}

/// The next state of a listed key, and what it calls for.
fn live(
    inventory: &Inventory,
    item: &Item,
    is_held: bool,
    before: Option<&Arc<Found>>,
    now: DateTime<Utc>,
) -> (State, Vec<Event>) {
    let mut state = before.map(|it| it.state.clone()).unwrap_or_default();
    if is_held {
        let firing = state.lifetime.take();
        let ended = firing.map(|it| Event::of(&it, Reason::Removed, state.generation, now));
        let state =
            State { reading: item.reading, candidate: None, observed_at: Some(now), ..state };
        return (state, ended.into_iter().collect());
    }
    // A date that cannot be read does not take the place of one that was.
    let Some(reading) = item.reading else {
        return (State { candidate: None, ..state }, Vec::new());
    };
    let observation =
        Observation { key_id: item.lasting_id(), ..Observation::of(now, Ok(reading)) };
    let around = PlatformState::default();
    let decision = decide(&inventory.policy, &around, &state, Some(&observation), now);
    let had_expired = matches!(reading, Reading::ExpiresAt(at) if at <= now);
    let events = match before {
        None if had_expired => Vec::new(),
        _ => decision.events,
    };
    (decision.next, events)
}

fn is_wanted(inventory: &Inventory, item: &Item) -> bool {
    let is_of_interest = inventory.scope.deployments().is_none_or(|wanted| {
        wanted.kinds.contains(&item.kind) && wanted.matches(&item.place, item.deployment())
    });
    is_of_interest && item.is_wanted(inventory)
}

/// Whether a key lives longer than is allowed. One that has expired no longer does.
fn lifespan(inventory: &Inventory, item: &Item, now: DateTime<Utc>) -> Lifespan {
    let Some(max) = inventory.lifetime_max.filter(|_| item.kind.is_key()) else {
        return Lifespan::Allowed;
    };
    match (item.reading, item.created) {
        (Some(Reading::Never), _) => Lifespan::TooLong,
        (Some(Reading::ExpiresAt(at)), created)
            if now < at && delta(max) < at - created.unwrap_or(now) =>
        {
            Lifespan::TooLong
        }
        _ => Lifespan::Allowed,
    }
}

#[cfg(test)]
mod tests;
