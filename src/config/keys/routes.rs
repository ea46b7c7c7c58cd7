//! The keys of who is told: the routing tree, mute windows and reminders.

use super::{Field, Kind, SEVERITIES, Table, ZONE_DOC};

/// Longer than an hour nobody waits for the company of other alerts.
const GROUP_WAIT: Kind = Kind::Duration("0s", "1h");
/// Shorter than a second is no waiting; a day is a digest already.
const GROUP_INTERVAL: Kind = Kind::Duration("1s", "1d");

const GROUP_BY_DOC: &str =
    "Labels that alerts must share to be told in one message; `[...]` is all of them.";
const GROUP_WAIT_DOC: &str = "How long the first alerts of a group wait for others.";
const GROUP_INTERVAL_DOC: &str =
    "How long alerts that come to a group of which was told already wait for others.";
const MUTES_DOC: &str =
    "Names of mute windows in which nothing that ends at this route is sent. Not inherited.";
const NO_REPEAT: (&str, &str) = ("repeat_interval", "use `policy.repeat`");
const NO_ACTIVE: (&str, &str) =
    ("active_time_intervals", "use `mute_time_intervals` with the other times of the week");

pub(in super::super) static ROUTE: Table = Table {
    doc: "Who is told: the root of a tree of routes, as in Alertmanager. It takes every alert.",
    fields: &[
        Field::required("receiver", Kind::Text, "Who is told of what no route below takes."),
        Field::new("group_by", Kind::Texts, GROUP_BY_DOC),
        Field::or("group_wait", GROUP_WAIT, "30s", GROUP_WAIT_DOC),
        Field::or("group_interval", GROUP_INTERVAL, "5m", GROUP_INTERVAL_DOC),
        Field::new("mute_time_intervals", Kind::Texts, MUTES_DOC),
        Field::new("routes", Kind::Many(&CHILD), "The routes below, asked in this order."),
    ],
    instead: &[
        ("matchers", "the root takes every alert: put them into an entry of `routes`"),
        ("match", "the root takes every alert: use `matchers` in an entry of `routes`"),
        ("continue", "it belongs into an entry of `routes`: nothing stands beside the root"),
        NO_REPEAT,
        NO_ACTIVE,
    ],
};

/// A route below the root, or below another one.
pub(in super::super) static CHILD: Table = Table {
    doc: "A route: the alerts that fit its matchers. What it does not say is as in the route above.",
    fields: &[
        Field::new("receiver", Kind::Text, "Who is told of what ends here."),
        Field::new(
            "matchers",
            Kind::Texts,
            "All of them must fit, as in Alertmanager: `team=\"platform\"`, `severity=~\"warning|critical\"`, `!=`, `!~`.",
        ),
        Field::or(
            "continue",
            Kind::Flag,
            "false",
            "Ask the routes behind this one too although it takes the alert.",
        ),
        Field::new("group_by", Kind::Texts, GROUP_BY_DOC),
        Field::new("group_wait", GROUP_WAIT, GROUP_WAIT_DOC),
        Field::new("group_interval", GROUP_INTERVAL, GROUP_INTERVAL_DOC),
        Field::new("mute_time_intervals", Kind::Texts, MUTES_DOC),
        Field::new("routes", Kind::Many(&CHILD), "The routes below, asked in this order."),
    ],
    instead: &[
        ("match", "use `matchers: ['label=\"value\"']`"),
        ("match_re", "use `matchers: ['label=~\"expression\"']`"),
        NO_REPEAT,
        NO_ACTIVE,
    ],
};

pub(in super::super) static MUTE: Table = Table {
    doc: "A recurring window in which nothing is sent. What is due in it is sent when it ends.",
    fields: &[
        Field::required("name", Kind::Text, "Its name, for `mute_time_intervals` of routes."),
        Field::required(
            "start",
            Kind::Schedule,
            "When it begins: a cron expression of five fields, in `timezone`.",
        ),
        Field::required(
            "duration",
            Kind::Duration("1m", "1w"),
            "How long it lasts, in real time, whatever the clocks do meanwhile.",
        ),
        Field::new("timezone", Kind::Zone, ZONE_DOC),
        Field::new("except", Kind::Choices(SEVERITIES), "Severities that are sent all the same."),
    ],
    instead: &[
        ("time_intervals", "use `start` and `duration`: `start: \"0 22 * * *\"`, `duration: 8h`"),
        ("location", "use `timezone`"),
    ],
};

pub(in super::super) static REMINDER: Table = Table {
    doc: "How often is reminded of a credential that runs out, from some time before its expiry on.",
    fields: &[
        Field::required("left", Kind::Duration("1s", "10y"), "From when less than this is left."),
        Field::required("every", Kind::Duration("1m", "1y"), "How often from then on."),
    ],
    instead: &[("before", "use `left`"), ("repeat", "use `every`")],
};

pub(in super::super) static DIGEST: Table = Table {
    doc: "A mail that sums up everything that is watched: what needs attention, and what expires next.",
    fields: &[
        Field::required(
            "schedule",
            Kind::Schedule,
            "When it comes: a cron expression, in `timezone`. One that was missed comes at the next start.",
        ),
        Field::new("timezone", Kind::Zone, ZONE_DOC),
        Field::required("receiver", Kind::Text, "Who gets it; needs `email_configs`."),
        Field::or(
            "always",
            Kind::Flag,
            "true",
            "Send it although all is well, as a sign that somebody watches.",
        ),
    ],
    instead: &[("to", "use `receiver`"), ("cron", "use `schedule`")],
};
