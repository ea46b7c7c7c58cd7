//! The keys of what is pushed beside messages: alerts to Alertmanagers, and the heartbeat.

use super::webhook::HTTP;
use super::{ALLOW_HTTP_DOC, DEADLINE, Field, Kind, Table};

pub(super) static ALERTMANAGER: Table = Table {
    doc: "Alertmanagers that hold what fires, told over their API. Grouping, silences and repeats are theirs.",
    fields: &[
        Field::required(
            "urls",
            Kind::Texts,
            "Base URL of each replica, like `https://am-1.example.org:9093`. Each is told everything; not a load balancer.",
        ),
        Field::or("allow_http", Kind::Flag, "false", ALLOW_HTTP_DOC),
        Field::or("timeout", DEADLINE, "10s", "Deadline of one request."),
        Field::new("http_config", Kind::One(&HTTP), "How the request is made."),
    ],
    instead: &[
        ("url", "use `urls: [https://…]`, each replica by itself"),
        ("static_configs", "use `urls: [https://…]`, each replica by itself"),
        ("api_version", "it is always v2"),
        ("send_resolved", "the end of an alert is always told; whom Alertmanager tells is its own"),
    ],
};

pub(super) static HEARTBEAT: Table = Table {
    doc: "A dead man's switch somewhere else: it is called while all loops of this program run, and alarms when it is not. \
          Exactly one of `url_file` and `url_env`.",
    fields: &[
        Field::new("url_file", Kind::Path, "File with the URL, which is a secret."),
        Field::new("url_env", Kind::Text, "Environment variable with the URL."),
        Field::or(
            "every",
            // Twice a minute says nothing that once does not; a switch that waits longer than a day tells too late.
            Kind::Duration("30s", "1d"),
            "5m",
            "How often it is called. The switch should wait for at least two of them.",
        ),
        Field::or("allow_http", Kind::Flag, "false", ALLOW_HTTP_DOC),
        Field::or("timeout", DEADLINE, "15s", "Deadline of one request."),
        Field::new("http_config", Kind::One(&HTTP), "How the request is made."),
    ],
    instead: &[
        (
            "url",
            "the URL of a switch is a secret: write it to a file of its own and name that in `url_file`",
        ),
        ("interval", "use `every`"),
    ],
};
