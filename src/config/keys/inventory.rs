//! The keys of the list of all keys.

use super::watched::{CREDENTIAL_DOC, LABELS, NOTE, RECEIVERS, STEPS, TEAM, USED_BY, ZONE};
use super::{DEADLINE, Field, Kind, SCHEDULE_DOC, Table};

const TOLD: &[&str] = &["info", "warning", "critical", "ignore"];

pub(in super::super) static INVENTORY: Table = Table {
    doc: "Watches the keys that ECE lists, although their secrets are not held.",
    fields: &[
        Field::required("credential", Kind::Text, CREDENTIAL_DOC),
        Field::or(
            "scope",
            Kind::Choice(&["own", "all"]),
            "own",
            "Whose keys: those of the owner of `credential`, or those of all users, for which the owner needs the role \
             ece_platform_admin.",
        ),
        Field::new(
            "users",
            Kind::TextOrTexts,
            "Only keys of these users; `*` stands for any characters.",
        ),
        Field::new("exclude_users", Kind::TextOrTexts, "No keys of these users."),
        Field::new("exclude_descriptions", Kind::TextOrTexts, "No keys with such a description."),
        Field::or(
            "keys_max",
            Kind::Number(1, 200_000),
            "10000",
            "How many keys are watched; of more, those that expire first, and ece_api_keys_truncated is 1.",
        ),
        Field::or("schedule", Kind::Schedule, "1h", SCHEDULE_DOC),
        ZONE,
        Field::or("timeout", DEADLINE, "60s", "Deadline of one listing."),
        STEPS,
        Field::new(
            "never_expires",
            Kind::Choice(TOLD),
            "Severity of a key that never expires, or `ignore`; without it that of the policy.",
        ),
        Field::new(
            "lifetime_max",
            Kind::Duration("1h", "100y"),
            "A key that lives longer, from its creation to its expiry, is a finding.",
        ),
        Field::or(
            "created",
            Kind::Choice(TOLD),
            "ignore",
            "Severity of a key that is new, or `ignore`.",
        ),
        Field::or(
            "deleted",
            Kind::Choice(TOLD),
            "ignore",
            "Severity of a key that is gone before its expiry, or `ignore`.",
        ),
        Field::or(
            "long_lived",
            Kind::Choice(TOLD),
            "info",
            "Severity of a key that lives longer than `lifetime_max`, or `ignore`.",
        ),
        TEAM,
        USED_BY,
        NOTE,
        LABELS,
        RECEIVERS,
    ],
    instead: &[
        ("limit", "use `keys_max`"),
        ("user", "use `users: [NAME]`"),
        ("max_lifetime", "use `lifetime_max`"),
    ],
};
