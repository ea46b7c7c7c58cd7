//! The digest: `digest` of the top level.

use super::super::Digest;
use super::super::problems::show;
use super::super::reader::{Fields, Reader};
use super::super::receivers::{Receivers, reference};
use super::mutes::cron;

/// Reads `digest`, if it is there and right.
pub(super) fn digest(
    reader: &mut Reader,
    root: &Fields<'_>,
    receivers: &Receivers,
    zone: &str,
) -> Option<Digest> {
    let fields = reader.one(root, "digest")?;
    let schedule = cron(reader, &fields, "schedule", zone);
    let receiver = reference(reader, &fields, "receiver", receivers);
    let always = reader.flag(&fields, "always");
    let receiver = receiver?;
    // A mail channel that is itself wrong was noted where it stands.
    if reader.problems.list.is_empty()
        && receivers.get(&receiver).is_some_and(|it| it.emails.is_empty())
        && let Some(item) = fields.get("receiver")
    {
        let message = format!("{} has no `email_configs`, and a digest is a mail", show(&receiver));
        reader.problem(&item, message, "name a receiver with a mail channel, or give it one");
    }
    Some(Digest { schedule: schedule?, receiver, always })
}
