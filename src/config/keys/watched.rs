//! The keys of what a platform has an expiry of beside its credentials: its license and its certificates.

use super::{Field, Kind, SCHEDULE_DOC, STEP, STEPS_DOC, Table, ZONE_DOC};

pub(super) const CREDENTIAL_DOC: &str = "Name of the credential of this platform whose key is used to ask; its owner needs a role that may see \
     the platform, such as ece_platform_viewer.";
pub(super) const TEAM: Field = Field::new("team", Kind::Text, "Who owns it. The label `team`.");
pub(super) const USED_BY: Field =
    Field::new("used_by", Kind::TextOrTexts, "What breaks when it expires, in people's words.");
pub(super) const NOTE: Field =
    Field::new("renewal_note", Kind::Text, "Who renews it and how, in people's words.");
pub(super) const LABELS: Field =
    Field::new("labels", Kind::TextMap, "Free labels, at most 8; values have at most 128 bytes.");
pub(super) const RECEIVERS: Field =
    Field::new("receivers", Kind::Texts, "Who is told, whatever the platform and the routes say.");
const SCHEDULE: Field = Field::new("schedule", Kind::Schedule, SCHEDULE_DOC);
pub(super) const ZONE: Field = Field::new("timezone", Kind::Zone, ZONE_DOC);
pub(super) const STEPS: Field = Field::new("steps", Kind::Many(&STEP), STEPS_DOC);

pub(super) static LICENSE: Table = Table {
    doc: "Watches the license of the platform, as the credential `license`.",
    fields: &[
        Field::required("credential", Kind::Text, CREDENTIAL_DOC),
        SCHEDULE,
        ZONE,
        STEPS,
        TEAM,
        USED_BY,
        NOTE,
        LABELS,
        RECEIVERS,
    ],
    instead: &[],
};

pub(super) static CERTIFICATES: Table = Table {
    doc: "Watches certificates of the platform, each as a credential `certificate-…`.",
    fields: &[
        Field::or(
            "endpoint",
            Kind::Flag,
            "false",
            "Watch the chain that the coordinators in `urls` present, as `certificate-endpoint`; needs no credential.",
        ),
        Field::new(
            "services",
            Kind::Texts,
            "Watch the chains of these services: `ui`, `proxy`, `adminconsole`, `internalca`; needs `credential`.",
        ),
        Field::new("credential", Kind::Text, CREDENTIAL_DOC),
        SCHEDULE,
        ZONE,
        STEPS,
        TEAM,
        USED_BY,
        NOTE,
        LABELS,
        RECEIVERS,
    ],
    instead: &[("service", "use `services: [ui]`")],
};
