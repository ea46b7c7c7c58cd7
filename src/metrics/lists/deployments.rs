//! The families about what expires inside deployments. Pure.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::super::family::{self, Value};
use crate::observation::Reading;
use crate::observation::listing::Item;
use crate::status::ListStatus;

/// Writes the families; without a list of deployments there are none.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    lists: &[Arc<ListStatus>],
) -> fmt::Result {
    if lists.is_empty() {
        return Ok(());
    }
    items(encoder, lists)?;
    let mut family = family::gauge(
        encoder,
        "ece_deployments",
        None,
        "Deployments of interest that ECE listed last. Absent before the first list since the start",
    )?;
    for (list, of) in lists.iter().filter_map(|it| Some((it, it.deployments.as_ref()?))) {
        let Some(total) = of.total else { continue };
        let labels = [("platform", list.id.platform.as_ref())];
        family.encode_family(&labels)?.encode_gauge(&Value::count(total))?;
    }
    let mut family = family::gauge(
        encoder,
        "ece_deployments_unread",
        None,
        "Deployments of which something could not be read last; what was known of them stays. Absent before the first list since the start",
    )?;
    for (list, of) in lists.iter().filter_map(|it| Some((it, it.deployments.as_ref()?))) {
        if of.total.is_some() {
            let labels = [("platform", list.id.platform.as_ref())];
            family.encode_family(&labels)?.encode_gauge(&Value::count(of.unread.len()))?;
        }
    }
    let mut family = family::gauge(
        encoder,
        "ece_deployments_truncated",
        None,
        "1 if the deployments hold more than keys_max, of which what expires first is watched; 0 otherwise. Absent before the first list since the start",
    )?;
    for list in lists.iter().filter(|list| list.total.is_some()) {
        let labels = [("platform", list.id.platform.as_ref())];
        family.encode_family(&labels)?.encode_gauge(&Value::flag(list.is_truncated()))?;
    }
    Ok(())
}

fn items(encoder: &mut DescriptorEncoder<'_>, lists: &[Arc<ListStatus>]) -> fmt::Result {
    let mut family = family::info(
        encoder,
        "ece_deployment",
        "Constant 1; carries the descriptive labels of a key, a certificate or a license inside a deployment. Join on platform, deployment, kind and id",
    )?;
    for list in lists {
        for found in list.keys.iter() {
            let Item { id, kind, place, user, description, .. } = &found.item;
            family.encode_info(&[
                ("platform", list.id.platform.as_ref()),
                ("deployment", place),
                ("kind", kind.label()),
                ("id", id),
                ("description", description),
                ("user_id", user),
            ])?;
        }
    }
    let mut family = family::gauge(
        encoder,
        "ece_deployment_expiry_timestamp",
        Some(&Unit::Seconds),
        "Unix time at which a key, a certificate or a license inside a deployment expires. Absent if a key never does, or the date cannot be read",
    )?;
    for list in lists {
        for found in list.keys.iter() {
            let Some(Reading::ExpiresAt(at)) = found.reading() else { continue };
            let Item { id, kind, place, .. } = &found.item;
            let labels = [
                ("platform", list.id.platform.as_ref()),
                ("deployment", place),
                ("kind", kind.label()),
                ("id", id),
            ];
            family.encode_family(&labels)?.encode_gauge(&Value::at(at))?;
        }
    }
    Ok(())
}
