//! The families about listed keys. Pure. Those about what expires inside deployments are in `deployments`.

mod deployments;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::family::{self, Value};
use crate::alert::{FindingKind, Lifespan};
use crate::observation::Reading;
use crate::observation::listing::Item;
use crate::status::ListStatus;

/// Writes the families about listed keys; without a list there are none.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    lists: &[Arc<ListStatus>],
    now: DateTime<Utc>,
) -> fmt::Result {
    let (of_deployments, lists): (Vec<_>, Vec<_>) =
        lists.iter().cloned().partition(|it| it.deployments.is_some());
    deployments::encode(encoder, &of_deployments)?;
    if lists.is_empty() {
        return Ok(());
    }
    let lists = &lists[..];
    keys(encoder, lists)?;
    totals(encoder, lists, now)?;
    let mut family = family::counter(
        encoder,
        "ece_api_key_findings",
        "Keys that were found to be new in the list, gone from it before their expiry, or longer-lived than lifetime_max allows",
    )?;
    for list in lists {
        for kind in FindingKind::ALL {
            let labels = [("platform", list.id.platform.as_ref()), ("finding", kind.label())];
            let count = list.found.get(&kind).copied().unwrap_or(0);
            family::count(&mut family.encode_family(&labels)?, count)?;
        }
    }
    Ok(())
}

fn keys(encoder: &mut DescriptorEncoder<'_>, lists: &[Arc<ListStatus>]) -> fmt::Result {
    let mut family = family::info(
        encoder,
        "ece_api_key",
        "Constant 1; carries the descriptive labels of a key that ECE lists. credential is the one that holds its secret, if one does. Join on platform and key_id",
    )?;
    for list in lists {
        for found in list.keys.iter() {
            let Item { id, user, description, .. } = &found.item;
            family.encode_info(&[
                ("platform", list.id.platform.as_ref()),
                ("key_id", id),
                ("user_id", user),
                ("description", description),
                ("credential", found.held_by.as_deref().unwrap_or_default()),
            ])?;
        }
    }
    let mut family = family::gauge(
        encoder,
        "ece_api_key_expiry_timestamp",
        Some(&Unit::Seconds),
        "Unix time at which a listed key expires. Absent if it never does, or its date cannot be read",
    )?;
    for list in lists {
        for found in list.keys.iter() {
            let Some(Reading::ExpiresAt(at)) = found.reading() else { continue };
            let labels = [
                ("platform", list.id.platform.as_ref()),
                ("key_id", found.item.id.as_ref()),
                ("user_id", found.item.user.as_ref()),
            ];
            family.encode_family(&labels)?.encode_gauge(&Value::at(at))?;
        }
    }
    Ok(())
}

/// How many keys are in a state.
#[derive(Default)]
struct Totals {
    valid: usize,
    expired: usize,
    never: usize,
    unreadable: usize,
    long_lived: usize,
}

impl Totals {
    fn of(list: &ListStatus, now: DateTime<Utc>) -> Self {
        let mut totals = Self::default();
        for found in list.keys.iter() {
            let count = match found.reading() {
                Some(Reading::ExpiresAt(at)) if at <= now => &mut totals.expired,
                Some(Reading::ExpiresAt(_) | Reading::Undated) => &mut totals.valid,
                Some(Reading::Never) => &mut totals.never,
                None => &mut totals.unreadable,
            };
            *count += 1;
            totals.long_lived += usize::from(found.lifespan == Lifespan::TooLong);
        }
        // Entries without an id are nobody's, and count here only.
        totals.unreadable += list.unreadable;
        totals
    }
}

fn totals(
    encoder: &mut DescriptorEncoder<'_>,
    lists: &[Arc<ListStatus>],
    now: DateTime<Utc>,
) -> fmt::Result {
    let totals: Vec<_> = lists.iter().map(|list| (list, Totals::of(list, now))).collect();
    let mut family = family::gauge(
        encoder,
        "ece_api_keys",
        None,
        "Listed keys that are watched, by state: valid, expired, never (it does not expire), unreadable (its date or its entry is in no known form)",
    )?;
    for (list, Totals { valid, expired, never, unreadable, .. }) in &totals {
        for (state, count) in
            [("valid", valid), ("expired", expired), ("never", never), ("unreadable", unreadable)]
        {
            let labels = [("platform", list.id.platform.as_ref()), ("state", state)];
            family.encode_family(&labels)?.encode_gauge(&Value::count(*count))?;
        }
    }
    let platform = |list: &ListStatus| [("platform", list.id.platform.to_string())];
    let mut family = family::gauge(
        encoder,
        "ece_api_keys_long_lived",
        None,
        "Listed keys that live longer, from their creation to their expiry, than lifetime_max allows",
    )?;
    for (list, totals) in &totals {
        family.encode_family(&platform(list))?.encode_gauge(&Value::count(totals.long_lived))?;
    }
    let mut family = family::gauge(
        encoder,
        "ece_api_keys_truncated",
        None,
        "1 if the list holds more keys than keys_max, of which those that expire first are watched; 0 otherwise. Absent before the first list since the start",
    )?;
    for (list, _) in totals.iter().filter(|(list, _)| list.total.is_some()) {
        let value = Value::flag(list.is_truncated());
        family.encode_family(&platform(list))?.encode_gauge(&value)?;
    }
    Ok(())
}
