//! The keys of a webhook channel.

use super::super::format::NAMES;
use super::{ALLOW_HTTP_DOC, DEADLINE, Field, HEADERS_DOC, Kind, TLS, Table};

pub(super) static WEBHOOK: Table = Table {
    doc: "A webhook channel. One of `url_file` and `url_env`, unless the format knows its URL.",
    fields: &[
        Field::new("url_file", Kind::Path, "File with the URL, which may be a secret."),
        Field::new("url_env", Kind::Text, "Environment variable with the URL."),
        Field::or("format", Kind::Choice(&NAMES), "generic", "The format of the messages."),
        Field::new(
            "template_file",
            Kind::Path,
            "The format file of `format: template`; read when the program starts or reloads.",
        ),
        Field::new(
            "params",
            Kind::TextMap,
            "Settings of the format: `topic` of `ntfy`, `region` of `pagerduty`, `responder_team` of `jsm`, or what the template declares.",
        ),
        Field::new(
            "secret_file",
            Kind::Path,
            "File with the secret that the body holds (`pagerduty`: the integration key); read again before each attempt.",
        ),
        Field::new("secret_env", Kind::Text, "Environment variable with that secret."),
        Field::or(
            "max_alerts",
            Kind::Number(0, 1_000),
            "0",
            "The most alerts in one message of `format: alertmanager`; 0 is all.",
        ),
        Field::new(
            "signing_secret_files",
            Kind::Paths,
            "Files with signing secrets (`whsec_…`), newest first; several during a rotation.",
        ),
        Field::or("allow_http", Kind::Flag, "false", ALLOW_HTTP_DOC),
        Field::or("timeout", DEADLINE, "15s", "Deadline of one attempt."),
        Field::new("http_config", Kind::One(&HTTP), "How the request is made."),
    ],
    instead: &[
        (
            "url",
            "the URL of a webhook is a secret: write it to a file of its own and name that in `url_file`",
        ),
        (
            "signing_secret",
            "a secret does not belong into this file: use `signing_secret_files: [FILE]`",
        ),
        ("signing_secret_file", "use `signing_secret_files: [FILE]`"),
        (
            "routing_key",
            "a secret does not belong into this file: write it to a file of its own and name that in `secret_file`",
        ),
        ("routing_key_file", "use `secret_file: FILE`"),
        ("topic", "use `params: {topic: …}`"),
    ],
};

pub(super) static HTTP: Table = Table {
    doc: "How requests to a webhook are made.",
    fields: &[
        Field::new("authorization", Kind::One(&AUTHORIZATION), "The `Authorization` header."),
        Field::new("tls_config", Kind::One(&TLS), "How the server's certificate is checked."),
        Field::new(
            "proxy_url",
            Kind::Url,
            "HTTP proxy on the way. The environment is not looked at.",
        ),
        Field::new("http_headers", Kind::TextMap, HEADERS_DOC),
    ],
    instead: &[("bearer_token_file", "use `authorization: {credentials_file: FILE}`")],
};

static AUTHORIZATION: Table = Table {
    doc: "The `Authorization` header.",
    fields: &[
        Field::or("type", Kind::Text, "Bearer", "The scheme."),
        Field::required(
            "credentials_file",
            Kind::Path,
            "File with what follows the scheme; read again before each request.",
        ),
    ],
    instead: &[(
        "credentials",
        "a token does not belong into this file: write it to a file of its own and name that in `credentials_file`",
    )],
};
