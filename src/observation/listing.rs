//! What a list shows: its keys and what else expires, that which expires first if there is too much. Pure.
//!
//! Secrets are not in such lists, and the one that the answer to a creation holds would not be read. Whether a key is
//! new, gone or about to expire is decided by `alert`. How the answers of deployments are read is in `deployments`.

use std::collections::BinaryHeap;
use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::Reading;
use super::elements::{Elements, End};
use super::header::{self, Expiration};
use crate::config::{Filter, Inventory, ItemKind};

/// The longest id that is taken; those of ECE have 32 characters. A longer one could not be shown whole.
const ID_CHARS_MAX: usize = 128;
/// The longest user or description that is kept; what is longer is cut, since it goes into labels and mails.
const TEXT_CHARS_MAX: usize = 256;

/// How many names are held apart from the items; more are those of a list that is none of ECE.
const USERS_MAX: usize = 10_000;

/// What one listing showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The keys, those that expire first if there are more than are held.
    pub items: Vec<Item>,
    /// How many keys of interest were listed.
    pub total: usize,
    /// How many of them are not among the items, because there are more than are held.
    pub left_out: usize,
    /// How many entries could not be read: without an id, or no JSON object.
    pub unreadable: usize,
    /// How many keys were listed, those without interest too.
    pub listed: usize,
    /// How many deployments of interest there are; 0 for a list of the keys of ECE.
    pub deployments: usize,
    /// What of them could not be read, in the order of the groups: its items are neither here nor gone.
    pub unread: Vec<Unread>,
}

/// A part of a deployment that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The group of its items, see `Item::group`.
    pub group: Box<str>,
    /// What people call the deployment.
    pub place: Arc<str>,
    /// Why, a sentence for a person.
    pub why: String,
}

impl Unread {
    /// The id of the deployment.
    pub fn deployment(&self) -> &str {
        self.group.split(':').next().unwrap_or_default()
    }
}

/// One listed key, or something else that expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id, unique in the list. Inside a deployment it is `DEPLOYMENT:KIND:ID`.
    pub id: Box<str>,
    /// What it is.
    pub kind: ItemKind,
    /// What people call the deployment that it is in; empty for a key of ECE.
    pub place: Arc<str>,
    /// The user that owns it; empty if the list does not say.
    pub user: Arc<str>,
    /// The name that its owner gave it.
    pub description: Box<str>,
    /// When it was made.
    pub created: Option<DateTime<Utc>>,
    /// When it expires; `None` if that cannot be read.
    pub reading: Option<Reading>,
}

impl Listing {
    /// Whether there are more keys than are held.
    pub fn is_truncated(&self) -> bool {
        0 < self.left_out
    }
}

impl Item {
    /// The id of something of this kind and id inside a deployment. The id of a deployment holds no colon.
    pub fn id_in(deployment: &str, kind: ItemKind, id: &str) -> Box<str> {
        format!("{deployment}:{}:{id}", kind.label()).into()
    }

    /// The id of something whose expiry cannot be changed, as that of a key of ECE: of two coordinators that disagree about
    /// it, the earlier is believed. That of a key of Elasticsearch can.
    pub fn lasting_id(&self) -> Option<String> {
        (self.kind == ItemKind::ApiKey).then(|| self.id.to_string())
    }

    /// Whether it is wanted: filters are about keys, since certificates and licenses have no owner.
    pub fn is_wanted(&self, inventory: &Inventory) -> bool {
        let is_held = self.reading != Some(Reading::Never) || inventory.holds_never_expiring();
        let is_of_interest = inventory.filter.matches(&self.user, &self.description);
        is_held && (!self.kind.is_key() || is_of_interest)
    }

    /// What `DEPLOYMENT:KIND` of the id is: that which is read by one request. Empty for a key of ECE.
    pub fn group(&self) -> &str {
        match self.kind {
            ItemKind::ApiKey => "",
            _ => self.id.match_indices(':').nth(1).map_or("", |(at, _)| &self.id[..at]),
        }
    }

    /// The id of the deployment that it is in; empty for a key of ECE.
    pub fn deployment(&self) -> &str {
        self.group().split(':').next().unwrap_or_default()
    }

    /// Its id where it is, which is not unique in the list.
    pub fn own_id(&self) -> &str {
        match self.group() {
            "" => &self.id,
            group => &self.id[group.len() + 1..],
        }
    }

    /// The order of importance, most important first: what cannot be read, what expires soon, what expires late, what has
    /// expired, and what never does.
    pub fn rank(&self, now: DateTime<Utc>) -> (u8, i64) {
        match self.reading {
            None => (0, 0),
            Some(Reading::ExpiresAt(at)) if now < at => (1, at.timestamp_millis()),
            Some(Reading::ExpiresAt(at)) => (2, -at.timestamp_millis()),
            Some(Reading::Never | Reading::Undated) => (3, 0),
        }
    }
}

/// Holds no more items than are wanted.
#[derive(Debug)]
pub(super) struct Keeper {
    items_max: usize,
    now: DateTime<Utc>,
    kept: BinaryHeap<Ranked>,
    total: usize,
}

impl Keeper {
    pub(super) fn new(items_max: usize, now: DateTime<Utc>) -> Self {
        Self { items_max, now, kept: BinaryHeap::new(), total: 0 }
    }

    pub(super) fn keep(&mut self, item: Item) {
        self.total += 1;
        self.kept.push(Ranked { rank: item.rank(self.now), item });
        if self.items_max < self.kept.len() {
            self.kept.pop();
        }
    }

    /// What was held, in the order of the ids, and how many there were.
    pub(super) fn end(self) -> (Vec<Item>, usize) {
        // Of what stands there twice the more urgent counts.
        let mut items: Vec<Item> =
            self.kept.into_sorted_vec().into_iter().map(|it| it.item).collect();
        items.sort_by(|a, b| a.id.cmp(&b.id));
        let kept = items.len();
        // A list that names a key twice would otherwise name it as new again and again.
        items.dedup_by(|a, b| a.id == b.id);
        let total = self.total - (kept - items.len());
        (items, total)
    }
}

/// The users of a list: a hundred thousand keys are those of some hundred.
#[derive(Debug, Default)]
pub(super) struct Users(HashSet<Arc<str>>);

impl Users {
    /// The name of a user, once for all items.
    pub(super) fn name(&mut self, user: &str) -> Arc<str> {
        let user = short(user);
        if USERS_MAX < self.0.len() {
            // Those of the items that are held are not lost, only written once more.
            self.0.clear();
        }
        self.0.get(user.as_str()).cloned().unwrap_or_else(|| {
            let user: Arc<str> = user.into();
            self.0.insert(Arc::clone(&user));
            user
        })
    }
}

/// Reads a list of keys that arrives piece by piece, and holds no more than is wanted.
#[derive(Debug)]
pub struct Lister<'a> {
    elements: Elements,
    filter: &'a Filter,
    date: Option<DateTime<Utc>>,
    keeper: Keeper,
    users: Users,
    unreadable: usize,
    listed: usize,
}

/// An item in the order of its rank.
#[derive(Debug)]
struct Ranked {
    rank: (u8, i64),
    item: Item,
}

impl Ranked {
    fn key(&self) -> ((u8, i64), &str) {
        (self.rank, &self.item.id)
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What is read of one entry; what else there is, a secret too, is passed over.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    user_id: Value,
    #[serde(default)]
    description: Value,
    #[serde(default)]
    creation_date: Value,
    #[serde(default)]
    expiration_date: Value,
}

impl<'a> Lister<'a> {
    /// Holds at most `items_max` of the keys that `filter` lets through. `date` is when the answer was given, by its own
    /// account.
    pub fn new(
        filter: &'a Filter,
        items_max: usize,
        date: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            elements: Elements::of("keys"),
            filter,
            date,
            keeper: Keeper::new(items_max, now),
            users: Users::default(),
            unreadable: 0,
            listed: 0,
        }
    }

    /// Reads on.
    pub fn feed(&mut self, piece: &[u8]) {
        let Self { elements, filter, date, keeper, users, unreadable, listed } = self;
        elements.feed(piece, |element| {
            let entry = serde_json::from_slice::<Entry>(element).ok();
            let Some(item) = entry.and_then(|it| item(&it, *date, users)) else {
                *unreadable += 1;
                return;
            };
            *listed += 1;
            if filter.matches(&item.user, &item.description) {
                keeper.keep(item);
            }
        });
    }

    /// What the whole list showed; `None` if it was none, or broke off.
    pub fn end(self) -> Option<Listing> {
        let End::Whole { skipped } = self.elements.end() else { return None };
        let (items, total) = self.keeper.end();
        let unreadable = self.unreadable + skipped;
        let listed = self.listed;
        let left_out = total - items.len();
        Some(Listing { items, total, left_out, unreadable, listed, ..Listing::default() })
    }
}

fn item(entry: &Entry, date: Option<DateTime<Utc>>, users: &mut Users) -> Option<Item> {
    Some(Item {
        id: id(&entry.id)?.into(),
        kind: ItemKind::ApiKey,
        place: Arc::default(),
        user: users.name(&word(&entry.user_id).unwrap_or_default()),
        description: short(&word(&entry.description).unwrap_or_default()).into(),
        created: reading(&entry.creation_date, date).and_then(Reading::expires_at),
        reading: reading(&entry.expiration_date, date),
    })
}

/// When a key of a list expires: a missing date says that it never does. `None` if the date cannot be read.
pub(super) fn reading(value: &Value, date: Option<DateTime<Utc>>) -> Option<Reading> {
    let expiration = match value {
        Value::Null => Expiration::Never,
        Value::String(text) => header::read_text(text, date),
        other => header::read_text(&other.to_string(), date),
    };
    match expiration {
        Expiration::At { at, .. } => Some(Reading::ExpiresAt(at)),
        Expiration::Never => Some(Reading::Never),
        Expiration::Absent | Expiration::Unparsable { .. } => None,
    }
}

/// An id that can be shown whole; `None` if there is none.
pub(super) fn id(value: &Value) -> Option<String> {
    word(value).filter(|it| !it.is_empty() && it.chars().count() <= ID_CHARS_MAX)
}

/// A text; old versions number things.
pub(super) fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A text that is cut if it is too long.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str, filter: &Filter, items_max: usize) -> Option<Listing> {
        let now = "2026-11-24T00:00:00Z".parse().unwrap();
        let mut lister = Lister::new(filter, items_max, None, now);
        text.as_bytes().chunks(7).for_each(|it| lister.feed(it));
        lister.end()
    }

    fn ids(listing: &Listing) -> Vec<&str> {
        listing.items.iter().map(|it| it.id.as_ref()).collect()
    }

    #[test]
    fn an_entry_needs_an_id_and_nothing_else() {
        let text = r#"{"keys":[
            {"id":"a","user_id":"marc","description":"ci","creation_date":"2026-01-01T00:00:00Z",
             "expiration_date":"2026-04-01T00:00:00.5Z","key":"SECRET","role_assignments":{"x":[1]}},
            {"id":10},
            {"user_id":"nobody"},
            {"id":"b","user_id":null,"description":7,"creation_date":{},"expiration_date":"soon"},
            {"id":""}, "c", null]}"#;
        let listing = list(text, &Filter::default(), 10).unwrap();
        assert_eq!(ids(&listing), ["10", "a", "b"]);
        assert_eq!((listing.total, listing.unreadable), (3, 4));
        let [ten, a, b] = &listing.items[..] else { panic!("three items") };
        assert_eq!((ten.reading, ten.created, &*ten.user), (Some(Reading::Never), None, ""));
        assert_eq!(a.reading, Some(Reading::ExpiresAt("2026-04-01T00:00:00.5Z".parse().unwrap())));
        assert_eq!(a.created, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!((&*a.user, &*a.description), ("marc", "ci"));
        assert_eq!((b.reading, b.created, &*b.description), (None, None, "7"));
        assert!(!format!("{listing:?}").contains("SECRET"));
    }

    #[test]
    fn of_too_many_keys_those_are_held_that_expire_first() {
        let text = r#"{"keys":[
            {"id":"never"},
            {"id":"late","expiration_date":"2029-01-01T00:00:00Z"},
            {"id":"gone","expiration_date":"2026-01-01T00:00:00Z"},
            {"id":"soon","expiration_date":"2027-01-01T00:00:00Z"},
            {"id":"unclear","expiration_date":"?"},
            {"id":"later","expiration_date":"2030-01-01T00:00:00Z"}]}"#;
        let listing = list(text, &Filter::default(), 3).unwrap();
        assert_eq!(ids(&listing), ["late", "soon", "unclear"]);
        assert!(listing.is_truncated());
        assert_eq!(listing.total, 6);
        assert!(!list(text, &Filter::default(), 6).unwrap().is_truncated());
    }

    #[test]
    fn what_is_filtered_out_is_not_counted_and_a_key_that_stands_twice_counts_once() {
        let pattern = |it: &str| crate::config::Pattern(it.into());
        let filter = Filter { users: vec![pattern("m*")], ..Filter::default() };
        let text = r#"{"keys":[{"id":"1","user_id":"marc"},{"id":"2","user_id":"eva"},{"id":"1","user_id":"marc"}]}"#;
        let listing = list(text, &filter, 10).unwrap();
        assert_eq!((ids(&listing), listing.total), (vec!["1"], 1));
    }

    #[test]
    fn a_list_that_breaks_off_shows_nothing() {
        let text = r#"{"keys":[{"id":"1"},{"id":"2"}]}"#;
        assert!(list(text, &Filter::default(), 10).is_some());
        assert_eq!(list(&text[..text.len() - 2], &Filter::default(), 10), None);
        assert_eq!(list("<html></html>", &Filter::default(), 10), None);
    }

    #[test]
    fn long_texts_are_cut_and_a_long_id_is_no_id() {
        let long = "ü".repeat(300);
        let text = format!(
            r#"{{"keys":[{{"id":"1","description":"{long}","user_id":"{long}"}},{{"id":"{long}"}}]}}"#
        );
        let listing = list(&text, &Filter::default(), 10).unwrap();
        assert_eq!((listing.items[0].description.chars().count(), listing.unreadable), (257, 1));
    }
}
