//! The list of all keys of a platform, as a credential of a kind of its own.

use std::sync::Arc;
use std::time::Duration;

use super::super::keys::INVENTORY;
use super::super::reader::{Fields, Reader};
use super::super::{
    Credential, CredentialKind, Filter, Flavor, Inventory, InventoryScope, Pattern, Policy, Repeat,
    Severity,
};
use super::watched::borrowed_key;
use super::{Around, Inherited, watched};
use crate::schedule::Schedule;

/// Reads `inventory` of a platform.
pub(super) fn inventory(
    reader: &mut Reader,
    platform: &Fields<'_>,
    known: Around<'_>,
    credentials: &[Arc<Credential>],
) -> Option<Credential> {
    let fields = reader.one(platform, "inventory")?;
    let inventory = read(reader, &fields, credentials, &known.inherited.policy);
    let wants_all = inventory.as_ref().is_some_and(|it| it.scope == InventoryScope::All);
    if let (Flavor::Ech, true, Some(item)) = (known.flavor, wants_all, fields.get("scope")) {
        let message = "does not exist with `flavor: ech`: the list of an owner of the organization holds all keys";
        reader.problem(&item, message.to_owned(), "use `scope: own`");
    }
    // A list is long and changes slowly: it has a schedule of its own, not that of the probes above.
    let schedule_text = INVENTORY.default_of("schedule").to_owned();
    let schedule = Schedule::parse(&schedule_text, &known.inherited.zone).ok();
    let inherited = Inherited { schedule_text, schedule, ..known.inherited.clone() };
    let known = Around { inherited: &inherited, ..known };
    let never_expires = if fields.has("never_expires") {
        reader.choice(&fields, "never_expires").and_then(Severity::parse)
    } else {
        known.inherited.policy.never_expires
    };
    let name = Some(Arc::from(CredentialKind::INVENTORY));
    let kind = inventory.map(|it| CredentialKind::Inventory(Arc::new(it)));
    let mut credential = watched(reader, &fields, known, name, kind)?;
    if let CredentialKind::Inventory(inventory) = &mut credential.kind {
        // The steps are the reminders: a key of which nobody takes care would be told for ever.
        let repeat = Repeat::default();
        let policy = Policy { never_expires, repeat, ..Policy::clone(&credential.policy) };
        *inventory =
            Arc::new(Inventory { policy: Arc::new(policy), ..Inventory::clone(inventory) });
    }
    Some(credential)
}

fn read(
    reader: &mut Reader,
    fields: &Fields<'_>,
    credentials: &[Arc<Credential>],
    policy: &Arc<Policy>,
) -> Option<Inventory> {
    let key = borrowed_key(reader, fields, credentials);
    let scope = match reader.choice(fields, "scope") {
        Some("all") => InventoryScope::All,
        Some(_) | None => InventoryScope::Own,
    };
    let filter = Filter {
        users: patterns(reader, fields, "users"),
        exclude_users: patterns(reader, fields, "exclude_users"),
        exclude_descriptions: patterns(reader, fields, "exclude_descriptions"),
    };
    let lifetime_max = fields.has("lifetime_max").then(|| reader.duration(fields, "lifetime_max"));
    if lifetime_max.is_none()
        && let Some(item) = fields.get("long_lived")
    {
        let message = "says how bad a long life is, but not how long".to_owned();
        reader.problem(&item, message, "add `lifetime_max`, for example `lifetime_max: 180d`");
    }
    let timeout: Option<Duration> = reader.duration(fields, "timeout");
    let keys_max = reader.number(fields, "keys_max");
    let mut severity = |key| reader.choice(fields, key).and_then(Severity::parse);
    let (created, deleted) = (severity("created"), severity("deleted"));
    let long_lived = severity("long_lived");
    Some(Inventory {
        key: key?,
        scope,
        filter,
        keys_max: usize::try_from(keys_max?).ok()?,
        timeout: timeout?,
        policy: Arc::clone(policy),
        lifetime_max: lifetime_max.flatten(),
        created,
        deleted,
        long_lived,
    })
}

fn patterns(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Vec<Pattern> {
    let texts = reader.texts(fields, key);
    texts.into_iter().map(|(_, text)| Pattern(Arc::from(text))).collect()
}
