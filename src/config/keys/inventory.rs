//! The keys of the lists: of the keys of ECE, and of what expires inside the deployments.

use super::watched::{CREDENTIAL_DOC, LABELS, NOTE, RECEIVERS, STEPS, TEAM, USED_BY, ZONE};
use super::{DEADLINE, Field, Kind, SCHEDULE_DOC, STEP, Table};

const TOLD: &[&str] = &["info", "warning", "critical", "ignore"];

const USERS: Field = Field::new(
    "users",
    Kind::TextOrTexts,
    "Only keys of these users; `*` stands for any characters.",
);
const EXCLUDE_USERS: Field =
    Field::new("exclude_users", Kind::TextOrTexts, "No keys of these users.");
const EXCLUDE_DESCRIPTIONS: Field =
    Field::new("exclude_descriptions", Kind::TextOrTexts, "No keys with such a description.");
const LIFETIME_MAX: Field = Field::new(
    "lifetime_max",
    Kind::Duration("1h", "100y"),
    "A key that lives longer, from its creation to its expiry, is a finding.",
);
const CREATED: Field = Field::or(
    "created",
    Kind::Choice(TOLD),
    "ignore",
    "Severity of a key that is new, or `ignore`.",
);
const DELETED: Field = Field::or(
    "deleted",
    Kind::Choice(TOLD),
    "ignore",
    "Severity of a key that is gone before its expiry, or `ignore`.",
);
const LONG_LIVED: Field = Field::or(
    "long_lived",
    Kind::Choice(TOLD),
    "info",
    "Severity of a key that lives longer than `lifetime_max`, or `ignore`.",
);

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
        USERS,
        EXCLUDE_USERS,
        EXCLUDE_DESCRIPTIONS,
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
        LIFETIME_MAX,
        CREATED,
        DELETED,
        LONG_LIVED,
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

pub(in super::super) static DEPLOYMENTS: Table = Table {
    doc: "Watches what expires inside the deployments, read through ECE with GET only. Nothing is read of them without this.",
    fields: &[
        Field::required(
            "credential",
            Kind::Text,
            "Name of the credential of this platform whose key is used to ask; its owner needs a role that may send requests \
             to deployments, such as ece_deployment_manager.",
        ),
        Field::or(
            "elasticsearch_api_keys",
            Kind::Flag,
            "false",
            "Read the API keys of Elasticsearch: GET _security/api_key.",
        ),
        Field::or(
            "certificates",
            Kind::Flag,
            "false",
            "Read the certificates that Elasticsearch uses and trusts: GET _ssl/certificates.",
        ),
        Field::or(
            "license",
            Kind::Flag,
            "false",
            "Read the license of the deployment: GET _license.",
        ),
        Field::new(
            "include",
            Kind::TextOrTexts,
            "Only deployments with these names or ids; `*` stands for any characters.",
        ),
        Field::new("exclude", Kind::TextOrTexts, "No deployments with these names or ids."),
        USERS,
        EXCLUDE_USERS,
        EXCLUDE_DESCRIPTIONS,
        Field::or(
            "keys_max",
            Kind::Number(1, 200_000),
            "10000",
            "How much is watched; of more, what expires first, and ece_deployments_truncated is 1.",
        ),
        Field::or("schedule", Kind::Schedule, "6h", SCHEDULE_DOC),
        ZONE,
        Field::or(
            "timeout",
            DEADLINE,
            "5m",
            "Deadline of one reading of all deployments, which are asked one after the other.",
        ),
        Field::new(
            "steps",
            Kind::Many(&STEP),
            "When somebody is told before something expires. Without it 14d (warning) and 3d (critical), because ECE renews \
             licenses and certificates of deployments itself, and late.",
        ),
        Field::or(
            "never_expires",
            Kind::Choice(TOLD),
            "ignore",
            "Severity of a key that never expires, or `ignore`, which leaves such keys out: Kibana makes many.",
        ),
        LIFETIME_MAX,
        CREATED,
        DELETED,
        LONG_LIVED,
        TEAM,
        USED_BY,
        NOTE,
        LABELS,
        RECEIVERS,
    ],
    instead: &[
        ("api_keys", "use `elasticsearch_api_keys: true`"),
        ("licence", "it is written `license`"),
        ("names", "use `include: [NAME]`"),
        ("max_lifetime", "use `lifetime_max`"),
    ],
};
