//! A list of keys, day by day: what each listing finds and whom it tells.

use std::collections::{BTreeMap, HashMap};

use chrono::TimeDelta;
use expect_test::{Expect, expect};

use super::*;
use crate::config::{
    BorrowedKey, Filter, InventoryScope, ItemKind, KeyScope, Policy, Repeat, SecretSource, Step,
};

fn day(n: i64) -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(n)
}

fn inventory() -> Inventory {
    let step = |days: u64, severity| Step { before: Duration::from_secs(days * 86_400), severity };
    let policy = Policy {
        steps: vec![step(14, Severity::Warning), step(7, Severity::Critical)],
        never_expires: Some(Severity::Info),
        failures_before_alert: 3,
        repeat: Repeat::default(),
        reminders: Vec::new(),
        escalations: Vec::new(),
    };
    Inventory {
        key: BorrowedKey { credential: "ops".into(), source: SecretSource::Env("OPS".to_owned()) },
        scope: InventoryScope::Keys(KeyScope::All),
        filter: Filter::default(),
        keys_max: 4,
        timeout: Duration::from_secs(60),
        policy: Arc::new(policy),
        lifetime_max: Some(Duration::from_secs(180 * 86_400)),
        created: Some(Severity::Info),
        deleted: Some(Severity::Warning),
        long_lived: Some(Severity::Info),
    }
}

/// A key made ninety days before it expires.
fn key(id: &str, expires: Option<i64>) -> Item {
    Item {
        id: id.into(),
        kind: ItemKind::ApiKey,
        place: Arc::default(),
        user: "marc".into(),
        description: "ci".into(),
        created: Some(day(expires.unwrap_or(0) - 90)),
        reading: Some(expires.map_or(Reading::Never, |it| Reading::ExpiresAt(day(it)))),
    }
}

/// A list of keys as the monitor keeps it.
struct Watched {
    inventory: Inventory,
    keys: BTreeMap<Box<str>, Arc<Found>>,
    held: HashMap<Box<str>, Arc<str>>,
    listed_at: Option<DateTime<Utc>>,
    before: Option<Listing>,
    log: String,
}

impl Watched {
    fn new() -> Self {
        let (keys, held) = (BTreeMap::new(), HashMap::new());
        Self {
            inventory: inventory(),
            keys,
            held,
            listed_at: None,
            before: None,
            log: String::new(),
        }
    }

    /// ECE lists these keys at the start of a day.
    fn list(&mut self, at: i64, items: &[Item]) -> &mut Self {
        self.list_of(at, items, items.len())
    }

    fn list_of(&mut self, at: i64, items: &[Item], total: usize) -> &mut Self {
        self.list_when(day(at), items, total, &format!("day {at}"))
    }

    /// ECE lists these keys at an hour of a day.
    fn list_at(&mut self, at: i64, hour: i64, items: &[Item]) {
        let when = day(at) + TimeDelta::hours(hour);
        self.list_when(when, items, items.len(), &format!("day {at}, hour {hour}"));
    }

    fn list_when(
        &mut self,
        now: DateTime<Utc>,
        items: &[Item],
        total: usize,
        title: &str,
    ) -> &mut Self {
        use std::fmt::Write;
        let mut items = items.to_vec();
        items.sort_by(|a, b| a.id.cmp(&b.id));
        let listing = Listing {
            listed: items.len(),
            left_out: total - items.len(),
            items,
            total,
            ..Listing::default()
        };
        let before = self.before.as_ref();
        let known = Known { keys: &self.keys, held: &self.held, listed_at: self.listed_at, before };
        let Reconciled { changes, events, findings, again } =
            reconcile(&self.inventory, known, &listing, now);
        for change in changes {
            match change {
                Change::Put(found) => drop(self.keys.insert(found.item.id.clone(), found)),
                Change::Gone(found) => drop(self.keys.remove(&found.item.id)),
            }
        }
        let _ = write!(self.log, "{title}:");
        for finding in findings {
            let _ = write!(self.log, " {} {},", finding.item.id, finding.kind.label());
        }
        for (found, event) in events {
            let Event { name, reason, severity, .. } = event;
            let name = name.label().trim_start_matches("ECE");
            let (reason, severity) = (reason.label(), severity.label());
            let _ = write!(self.log, " <{} {name} {reason} {severity}>", found.item.id);
        }
        let _ = writeln!(self.log, "{}", if again.is_some() { " again" } else { "" });
        self.listed_at = Some(now);
        self.before = Some(listing);
        self
    }

    fn check(&self, expected: &Expect) {
        expected.assert_eq(&self.log);
    }
}

#[test]
fn keys_of_a_user_who_is_listed_no_longer_were_not_deleted() {
    let of = |user: &str, it: Item| Item { user: user.into(), ..it };
    let (mine, other) = (of("marc", key("a", Some(60))), of("marc", key("b", Some(70))));
    let theirs = [of("ada", key("c", Some(10))), of("ada", key("d", Some(60)))];
    let all = [&[mine.clone(), other.clone()][..], &theirs].concat();
    let mut it = Watched::new();
    it.list(0, &all);
    it.inventory.scope = InventoryScope::Keys(KeyScope::Own);
    it.list(1, &[mine.clone(), other]).list(2, std::slice::from_ref(&mine)).list(3, &[mine]);
    // And then another key asks: of a configuration that was loaded anew, the list before is not at hand.
    it.before = None;
    it.list(4, &theirs).list(5, &theirs);
    it.check(&expect![[r#"
        day 0: <c CredentialExpiring new warning>
        day 1: <c CredentialExpiring removed warning>
        day 2: again
        day 3: b deleted, <b ApiKeyDeleted new warning>
        day 4: <c CredentialExpiring new critical>
        day 5:
    "#]]);
}

#[test]
fn nothing_of_the_first_list_is_new_and_only_what_is_due_is_told() {
    let mut it = Watched::new();
    it.list(0, &[key("far", Some(80)), key("near", Some(10)), key("dead", Some(-3))]);
    it.list(1, &[key("far", Some(80)), key("near", Some(10)), key("dead", Some(-3))]);
    it.check(&expect![[r#"
        day 0: <near CredentialExpiring new warning>
        day 1:
    "#]]);
    let dead = it.keys["dead"].pass(&it.inventory, day(400)).1;
    assert_eq!(dead, [], "a key that was dead when it was first seen is never told");
}

#[test]
fn a_step_is_told_between_two_lists_too_and_the_expiry_once() {
    let mut it = Watched::new();
    it.list(0, &[key("a", Some(20))]);
    let found = Arc::clone(&it.keys["a"]);
    assert_eq!(found.wake_at(&it.inventory), Some(day(6)));
    let (found, events) = found.pass(&it.inventory, day(6));
    assert_eq!(events[0].name, AlertName::CredentialExpiring);
    let (found, events) = found.pass(&it.inventory, day(20));
    assert_eq!(events[0].name, AlertName::CredentialExpired);
    assert_eq!(found.wake_at(&it.inventory), None, "nobody is reminded of it for ever");
}

#[test]
fn a_key_is_gone_only_when_two_lists_in_a_row_lack_it() {
    let mut it = Watched::new();
    it.list(0, &[key("a", Some(10)), key("b", Some(80))]);
    it.list(1, &[key("b", Some(80))]);
    it.list(2, &[key("a", Some(10)), key("b", Some(80))]);
    it.list(3, &[key("b", Some(80))]);
    it.list(4, &[key("b", Some(80))]);
    it.list(5, &[key("b", Some(80))]);
    it.check(&expect![[r#"
        day 0: <a CredentialExpiring new warning>
        day 1: again
        day 2:
        day 3: again
        day 4: a deleted, <a CredentialExpiring removed warning> <a ApiKeyDeleted new warning>
        day 5:
    "#]]);
}

#[test]
fn a_key_that_expired_and_is_listed_no_more_was_not_deleted() {
    let mut it = Watched::new();
    it.list(0, &[key("a", Some(10)), key("b", Some(80))]);
    it.list(11, &[key("b", Some(80))]);
    it.list(12, &[key("b", Some(80))]);
    it.check(&expect![[r#"
        day 0: <a CredentialExpiring new warning>
        day 11: again
        day 12: <a CredentialExpiring removed warning>
    "#]]);
}

#[test]
fn a_new_key_is_a_finding_and_a_life_that_is_too_long_another() {
    let mut it = Watched::new();
    it.list(0, &[key("a", Some(80))]);
    let mut long = key("long", Some(200));
    long.created = Some(day(1));
    let mut never = key("never", None);
    never.created = Some(day(1));
    it.list(1, &[key("a", Some(80)), long.clone(), never.clone()]);
    it.list(2, &[key("a", Some(80)), long.clone(), never.clone()]);
    // A policy that becomes stricter is told of what it finds.
    it.inventory.lifetime_max = Some(Duration::from_secs(60 * 86_400));
    it.list(3, &[key("a", Some(80)), long, never]);
    it.check(&expect![[r#"
        day 0:
        day 1: long created, long long_lived, never created, never long_lived, <long ApiKeyCreated new info> <long ApiKeyLongLived new info> <never CredentialNeverExpires new info> <never ApiKeyCreated new info>
        day 2:
        day 3: a long_lived, <a ApiKeyLongLived new info>
    "#]]);
}

#[test]
fn of_a_key_that_is_held_its_credential_speaks() {
    let mut it = Watched::new();
    it.list(0, &[key("a", Some(10)), key("b", Some(80))]);
    it.held.insert("a".into(), "terraform".into());
    it.list(1, &[key("a", Some(10)), key("b", Some(80))]);
    assert_eq!(it.keys["a"].held_by.as_deref(), Some("terraform"));
    assert_eq!(it.keys["a"].wake_at(&it.inventory), None);
    it.held.clear();
    it.list(2, &[key("a", Some(10)), key("b", Some(80))]);
    // A held key that is replaced: the old one is gone from the list, the new one is new in it.
    it.held.insert("a".into(), "terraform".into());
    it.held.insert("a2".into(), "terraform".into());
    it.list(3, &[key("a", Some(10)), key("b", Some(80))]);
    it.list(4, &[key("a2", Some(90)), key("b", Some(80))]);
    it.list(5, &[key("a2", Some(90)), key("b", Some(80))]);
    it.check(&expect![[r#"
        day 0: <a CredentialExpiring new warning>
        day 1: <a CredentialExpiring removed warning>
        day 2: <a CredentialExpiring new warning>
        day 3: <a CredentialExpiring removed warning>
        day 4: again
        day 5:
    "#]]);
}

#[test]
fn what_falls_off_the_end_of_a_list_that_was_cut_was_not_deleted() {
    let mut it = Watched::new();
    it.list_of(0, &[key("a", Some(30)), key("b", Some(40)), key("c", Some(50))], 9);
    // An earlier one takes the last place; then the first is deleted for good, and the old last comes back.
    it.list_of(1, &[key("a", Some(30)), key("b", Some(40)), key("new", Some(35))], 10);
    it.list_of(2, &[key("b", Some(40)), key("c", Some(50)), key("new", Some(35))], 9);
    it.list_of(3, &[key("b", Some(40)), key("c", Some(50)), key("new", Some(35))], 9);
    it.check(&expect![[r#"
        day 0:
        day 1:
        day 2: again
        day 3: a deleted, <a ApiKeyDeleted new warning>
    "#]]);
}

#[test]
fn an_expiry_that_moves_later_is_believed_when_it_is_seen_twice() {
    let mut it = Watched::new();
    it.list(0, &[key("a", Some(10))]);
    it.list(1, &[key("a", Some(90))]);
    it.list(2, &[key("a", Some(90))]);
    it.check(&expect![[r#"
        day 0: <a CredentialExpiring new warning>
        day 1: again
        day 2: <a CredentialExpiring renewed warning>
    "#]]);
}

#[test]
fn what_could_not_be_read_of_a_deployment_is_not_gone() {
    let inside = |deployment: &str, kind: ItemKind| Item {
        id: Item::id_in(deployment, kind, "1"),
        kind,
        place: deployment.into(),
        ..key("", Some(10))
    };
    let mut inventory = inventory();
    inventory.scope = InventoryScope::Deployments(crate::config::Deployments {
        kinds: ItemKind::ALL.to_vec(),
        ..Default::default()
    });
    let items = [
        inside("a", ItemKind::ElasticsearchApiKey),
        inside("a", ItemKind::ElasticsearchCertificate),
        inside("b", ItemKind::ElasticsearchApiKey),
        inside("b", ItemKind::ElasticsearchLicense),
    ];
    let mut keys = BTreeMap::new();
    let held = HashMap::new();
    let unread = |group: &str| crate::observation::listing::Unread {
        group: group.into(),
        place: Arc::default(),
        why: String::new(),
    };
    let mut read = |items: &[Item], unread: Vec<_>, at: i64| {
        let listing =
            Listing { items: items.to_vec(), total: items.len(), unread, ..Listing::default() };
        let known = Known { keys: &keys, held: &held, listed_at: Some(day(at - 1)), before: None };
        let out = reconcile(&inventory, known, &listing, day(at));
        for change in out.changes {
            match change {
                Change::Put(found) => drop(keys.insert(found.item.id.clone(), found)),
                Change::Gone(found) => drop(keys.remove(&found.item.id)),
            }
        }
        let told = |it: &Finding| format!("{} {}", it.item.id, it.kind.label());
        let findings: Vec<String> = out.findings.iter().map(told).collect();
        (keys.len(), findings)
    };
    assert_eq!(read(&items, vec![], 0).0, 4);
    for at in 1..4 {
        let cannot = vec![unread("a:elasticsearch_api_key"), unread("b:elasticsearch_license")];
        assert_eq!(read(&[items[1].clone(), items[2].clone()], cannot, at), (4, vec![]));
    }
    let rest = [items[1].clone()];
    let cannot = || vec![unread("a:elasticsearch_api_key")];
    assert_eq!(read(&rest, cannot(), 5), (4, vec![]));
    // A license that is gone is no finding, a key is.
    assert_eq!(read(&rest, cannot(), 6), (2, vec!["b:elasticsearch_api_key:1 deleted".to_owned()]));
}

#[test]
fn a_policy_that_changes_is_told_of_keys_that_do_not() {
    let mut it = Watched::new();
    it.inventory.policy = Arc::new(Policy { never_expires: None, ..(*inventory().policy).clone() });
    it.inventory.lifetime_max = None;
    it.list(0, &[key("never", None), key("b", Some(20))]);
    it.inventory.policy = inventory().policy;
    it.list(1, &[key("never", None), key("b", Some(20))]);
    it.list(2, &[key("never", None), key("b", Some(20))]);
    it.check(&expect![[r#"
        day 0:
        day 1: <never CredentialNeverExpires new info>
        day 2:
    "#]]);
}

#[test]
fn two_coordinators_that_disagree_about_a_key_do_not_renew_it_in_turn() {
    let mut it = Watched::new();
    let (early, late) = (key("a", Some(10)), key("a", Some(90)));
    it.list_at(0, 0, std::slice::from_ref(&early));
    for hour in 1..20 {
        let item = if hour % 4 < 2 { &early } else { &late };
        it.list_at(0, hour, std::slice::from_ref(item));
    }
    let told = it.log.matches("Credential").count();
    assert_eq!(told, 1, "{}", it.log);
}

#[test]
fn a_firing_key_that_falls_off_the_end_of_a_list_ends_its_alert() {
    let mut it = Watched::new();
    it.list_of(0, &[key("soon", Some(5)), key("b", Some(40))], 9);
    // It expires, and then stands behind those that are held.
    it.list_of(6, &[key("b", Some(40)), key("c", Some(50))], 9);
    it.check(&expect![[r#"
        day 0: <soon CredentialExpiring new critical>
        day 6: <soon CredentialExpiring removed critical>
    "#]]);
}

#[test]
fn a_list_that_lacks_most_keys_at_once_is_believed_later() {
    let mut it = Watched::new();
    let all: Vec<Item> = (0..30).map(|at| key(&format!("k{at:02}"), Some(80))).collect();
    it.list(0, &all);
    for at in 1..4 {
        it.list(at, &all[..3]);
    }
    let gone: Vec<usize> = it.log.lines().map(|it| it.matches(" deleted,").count()).collect();
    assert_eq!(gone, [0, 0, 0, 27], "{}", it.log);
    assert!(!it.log.contains("again"), "the schedule is soon enough: {}", it.log);
}

#[test]
fn a_date_that_cannot_be_read_does_not_take_the_place_of_one_that_was() {
    let mut it = Watched::new();
    it.list(0, &[key("a", Some(10))]);
    let odd = Item { reading: None, ..key("a", Some(10)) };
    it.list(1, std::slice::from_ref(&odd));
    it.list(2, std::slice::from_ref(&odd));
    assert_eq!(it.keys["a"].reading(), Some(Reading::ExpiresAt(day(10))));
    assert_eq!(
        it.keys["a"].wake_at(&it.inventory),
        Some(day(3)),
        "its next step comes all the same"
    );
    it.check(&expect![[r#"
        day 0: <a CredentialExpiring new warning>
        day 1:
        day 2:
    "#]]);
}

#[test]
fn a_key_that_was_made_while_the_list_was_read_is_new_in_the_next() {
    let mut it = Watched::new();
    it.list(1, &[key("a", Some(80))]);
    let made = |at: DateTime<Utc>| Item { created: Some(at), ..key("b", Some(90)) };
    it.list(2, &[key("a", Some(80)), made(day(1) - TimeDelta::minutes(3))]);
    // The first list after a start shows what was left out before, and what had expired.
    it.before = None;
    it.list(3, &[key("a", Some(80)), made(day(1)), key("c", Some(90)), key("dead", Some(-5))]);
    it.check(&expect![[r#"
        day 1:
        day 2: b created, <b ApiKeyCreated new info>
        day 3:
    "#]]);
}
