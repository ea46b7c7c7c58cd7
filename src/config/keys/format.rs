//! The keys of a format file, which says what a message to one kind of service looks like.

use super::{Field, Kind, Table};

pub(in crate::config) static FORMAT: Table = Table {
    doc: "What a message to one kind of service looks like.",
    fields: &[
        Field::required(
            "carries",
            Kind::Choice(&["alert", "group"]),
            "Whether a message carries one alert, or several that are due together.",
        ),
        Field::new(
            "url",
            Kind::Text,
            "The URL where none is configured; a template of `params` only.",
        ),
        Field::new("path", Kind::Text, "What follows the URL; a template."),
        Field::new("resolved_path", Kind::Text, "The same for an alert that has ended."),
        Field::new("authorization", Kind::Text, "The scheme of the `Authorization` that it needs."),
        Field::new(
            "secret",
            Kind::Text,
            "What the secret of the channel is; without it none is taken.",
        ),
        Field::or(
            "incidents",
            Kind::Flag,
            "false",
            "What fires stays open there until the message that ends it.",
        ),
        Field::new("params", Kind::Many(&PARAM), "Settings that the channel gives."),
        Field::or(
            "alerts_max",
            Kind::Number(1, 1_000),
            "10",
            "The most alerts that a message of a group shows; the rest is a number.",
        ),
        Field::or(
            "bytes_max",
            Kind::Number(256, 1_000_000),
            "65536",
            "The largest body; of a group, fewer alerts are shown until it fits.",
        ),
        Field::new("answer", Kind::One(&ANSWER), "What an answer means beyond its status."),
        Field::required("body", Kind::Tree, "The body: its texts are templates."),
        Field::new(
            "resolved_body",
            Kind::Tree,
            "The body for an alert that has ended, if it differs.",
        ),
    ],
    instead: &[
        ("content_type", "the body is JSON, so it is always application/json"),
        ("template", "use `body`"),
        ("headers", "use `http_config.http_headers` of the channel"),
    ],
};

static PARAM: Table = Table {
    doc: "One setting.",
    fields: &[
        Field::required("name", Kind::Text, "Its name."),
        Field::or("required", Kind::Flag, "false", "It must be given."),
        Field::new("default", Kind::Text, "Its value where none is given; otherwise `none`."),
        Field::new("one_of", Kind::Texts, "The values that are allowed."),
    ],
    instead: &[],
};

static ANSWER: Table = Table {
    doc: "What an answer means beyond its status.",
    fields: &[
        Field::new(
            "accepted_body",
            Kind::Text,
            "The text of an answer that accepts; another one is a failure, and so is JSON with `ok: false`.",
        ),
        Field::new(
            "wait_key",
            Kind::Text,
            "The key of a JSON answer with the seconds to wait before the next attempt.",
        ),
    ],
    instead: &[],
};
