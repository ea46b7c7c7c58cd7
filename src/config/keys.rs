//! Every key of the configuration file: its kind, its default, and what it means.
//!
//! These tables are the one source. The reader refuses what is not in them and takes defaults from them, and
//! `schema.rs` writes the JSON Schema from them, so neither can know a key that the other does not.

mod format;
mod inventory;
mod push;
mod routes;
mod watched;
mod webhook;

pub(super) use self::format::FORMAT;
pub(super) use self::inventory::{DEPLOYMENTS, INVENTORY};
use self::push::{ALERTMANAGER, HEARTBEAT};
pub(super) use self::routes::{CHILD, ROUTE};
use self::routes::{DIGEST, MUTE, REMINDER};
use self::watched::{CERTIFICATES, LICENSE};
use self::webhook::WEBHOOK;
use super::Flavor;

/// The keys of one map.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) doc: &'static str,
    pub(super) fields: &'static [Field],
    /// Keys that people write and that do not exist, each with what to do instead.
    pub(super) instead: &'static [(&'static str, &'static str)],
}

/// One key.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// The value without the key, as it would be written.
    pub(super) default: Option<&'static str>,
    pub(super) doc: &'static str,
}

/// What may be written after a key.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Flag,
    /// An integer within bounds, both included.
    Number(u32, u32),
    /// A duration within bounds, both included, written as in the file.
    Duration(&'static str, &'static str),
    /// `Duration`, or `never`.
    DurationOrNever(&'static str, &'static str),
    Schedule,
    Zone,
    Path,
    Url,
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    Texts,
    TextOrTexts,
    Paths,
    /// Any keys, each with a text.
    TextMap,
    /// Any lists and maps of texts.
    Tree,
    One(&'static Table),
    Many(&'static Table),
}

impl Table {
    /// The default of a key that has one.
    pub(super) fn default_of(&self, key: &str) -> &'static str {
        let default = self.field(key).and_then(|it| it.default);
        default.expect("only keys with a default are asked for")
    }

    pub(super) fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|it| it.key == key)
    }
}

impl Field {
    const fn new(key: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { key, kind, required: false, default: None, doc }
    }

    const fn required(key: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { key, kind, required: true, default: None, doc }
    }

    const fn or(key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { key, kind, required: false, default: Some(default), doc }
    }
}

const SEVERITIES: &[&str] = &["info", "warning", "critical"];

/// A deadline of network I/O: shorter than a millisecond nothing succeeds, longer than ten minutes nothing is told.
const DEADLINE: Kind = Kind::Duration("1ms", "10m");

/// Repeating faster than once a minute is a flood, and slower than once a year is `never`.
const REPEAT: Kind = Kind::DurationOrNever("1m", "1y");

const SCHEDULE_DOC: &str = "When credentials are probed: an interval like `15m`, or a cron expression of five fields \
     (six: seconds first) in `timezone`.";
const ZONE_DOC: &str = "IANA time zone of cron expressions, like `Europe/Zurich`.";
const STEPS_DOC: &str =
    "When somebody is told before a credential expires. Replaces the steps of the level above.";
const HEADERS_DOC: &str =
    "Extra request headers, for gateways. `Authorization` is not allowed here.";
const ALLOW_HTTP_DOC: &str = "Allow URLs without TLS. What is sent can then be read on the way.";

const INLINE_TOKEN: &str = "a token does not belong into this file: write it to a file of its own and name that in `bearer_token_file`";
const LATER: &str = "this version does not have it yet";

pub(super) static ROOT: Table = Table {
    doc: "Configuration of ece-expiry-exporter.",
    fields: &[
        Field::new("global", Kind::One(&GLOBAL), "Settings of the program as a whole."),
        Field::new("steps", Kind::Many(&STEP), STEPS_DOC),
        Field::required("platforms", Kind::Many(&PLATFORM), "The watched installations of ECE."),
        Field::new("policy", Kind::One(&POLICY), "When somebody is told, apart from the steps."),
        Field::new("route", Kind::One(&ROUTE), ROUTE.doc),
        Field::new(
            "mute_time_intervals",
            Kind::Many(&MUTE),
            "Recurring windows in which nothing is sent.",
        ),
        Field::new("receivers", Kind::Many(&RECEIVER), "Who can be told, and how."),
        Field::new("digest", Kind::One(&DIGEST), DIGEST.doc),
        Field::new(
            "heartbeat",
            Kind::One(&HEARTBEAT),
            "A switch elsewhere that tells when this program is dead.",
        ),
        Field::new("storage", Kind::One(&STORAGE), "Where the program keeps what it knows."),
    ],
    instead: &[
        ("time_intervals", "use `mute_time_intervals`"),
        ("inventory", "it belongs to a platform: platforms[].inventory"),
        ("deployments", "it belongs to a platform: platforms[].deployments"),
        ("credentials", "credentials belong to a platform: platforms[].credentials"),
    ],
};

pub(super) static GLOBAL: Table = Table {
    doc: "Settings of the program as a whole.",
    fields: &[
        Field::or("schedule", Kind::Schedule, "15m", SCHEDULE_DOC),
        Field::or("timezone", Kind::Zone, "UTC", ZONE_DOC),
        Field::or(
            "probe_timeout",
            DEADLINE,
            "10s",
            "Deadline of one probe, from connecting to the end of the answer.",
        ),
        Field::new("external_url", Kind::Url, "Where people reach this exporter; used in links."),
        Field::or(
            "own_links",
            Kind::Flag,
            "true",
            "Mails have a signed link by which their reader silences that one alert for a time. Needs `external_url`.",
        ),
    ],
    instead: &[
        ("scrape_interval", "probes run on their own `schedule`"),
        ("interval", "use `schedule`"),
        ("timeout", "use `probe_timeout`"),
    ],
};

static STEP: Table = Table {
    doc: "One threshold.",
    fields: &[
        Field::required(
            "before",
            Kind::Duration("1s", "10y"),
            "The step is crossed when less than this is left.",
        ),
        Field::required("severity", Kind::Choice(SEVERITIES), "How bad it is from then on."),
        Field::new(
            "escalate_to",
            Kind::TextOrTexts,
            "Receivers that are told too from this step on.",
        ),
    ],
    instead: &[],
};

static PLATFORM: Table = Table {
    doc: "One installation of ECE.",
    fields: &[
        Field::required(
            "name",
            Kind::Text,
            "Its name: unique, at most 128 bytes, no slash. The label `platform`.",
        ),
        Field::new(
            "urls",
            Kind::Texts,
            "Base URLs of its coordinators, like `https://ece-1.example.org:12443`; tried in order. Only Elastic Cloud Hosted has a default.",
        ),
        Field::or(
            "flavor",
            Kind::Choice(Flavor::LABELS),
            "ece",
            "What kind of platform it is: `ece` (Elastic Cloud Enterprise) or `ech` (Elastic Cloud Hosted).",
        ),
        Field::or("allow_http", Kind::Flag, "false", ALLOW_HTTP_DOC),
        Field::new("tls_config", Kind::One(&TLS), "How the platform's certificate is checked."),
        Field::new(
            "proxy_url",
            Kind::Url,
            "HTTP proxy on the way to the platform. The environment is not looked at.",
        ),
        Field::or(
            "max_concurrent_probes",
            Kind::Number(1, 1024),
            "16",
            "Upper bound of probes in flight.",
        ),
        Field::new("http_headers", Kind::TextMap, HEADERS_DOC),
        Field::new("schedule", Kind::Schedule, SCHEDULE_DOC),
        Field::new("timezone", Kind::Zone, ZONE_DOC),
        Field::new("steps", Kind::Many(&STEP), STEPS_DOC),
        Field::new(
            "policy",
            Kind::One(&POLICY),
            "Replaces single keys of the policy for this platform.",
        ),
        Field::new(
            "receivers",
            Kind::Texts,
            "Who is told about this platform and its credentials, whatever the routes say.",
        ),
        Field::required("credentials", Kind::Many(&CREDENTIAL), "The watched credentials."),
        Field::new("license", Kind::One(&LICENSE), LICENSE.doc),
        Field::new("certificates", Kind::One(&CERTIFICATES), CERTIFICATES.doc),
        Field::new("inventory", Kind::One(&INVENTORY), INVENTORY.doc),
        Field::new("deployments", Kind::One(&DEPLOYMENTS), DEPLOYMENTS.doc),
    ],
    instead: &[
        ("url", "use `urls: [https://…]`"),
        ("host", "use `urls: [https://…]`"),
        ("insecure_skip_verify", "it belongs into `tls_config`"),
        ("ca_file", "it belongs into `tls_config`"),
        ("licence", "it is written `license`"),
        ("certificate", "use `certificates: {endpoint: true}`"),
    ],
};

static CREDENTIAL: Table = Table {
    doc: "One watched credential. Exactly one key says what it is: `api_key_…`, `ecctl_config_file`, `bearer_token_…` or `login`.",
    fields: &[
        Field::required(
            "name",
            Kind::Text,
            "Its name: unique in the platform, at most 128 bytes, no slash. The label `credential`.",
        ),
        Field::new(
            "api_key_file",
            Kind::Path,
            "File with the API key; read again before each probe.",
        ),
        Field::new("api_key_env", Kind::Text, "Environment variable with the API key."),
        Field::new(
            "api_key_csv_file",
            Kind::Path,
            "The CSV file with the API key that the Cloud UI offers for download; read again before each probe.",
        ),
        Field::new(
            "ecctl_config_file",
            Kind::Path,
            "JSON configuration of ecctl with an `api_key`. Nothing else in it is used.",
        ),
        Field::new(
            "bearer_token_file",
            Kind::Path,
            "File with a bearer token; read again before each probe.",
        ),
        Field::new("bearer_token_env", Kind::Text, "Environment variable with a bearer token."),
        Field::new(
            "login",
            Kind::One(&LOGIN),
            "A user and password. ECE does not tell when a password expires: somebody is told when it stops working.",
        ),
        Field::new("schedule", Kind::Schedule, SCHEDULE_DOC),
        Field::new("timezone", Kind::Zone, ZONE_DOC),
        Field::new("steps", Kind::Many(&STEP), STEPS_DOC),
        Field::new("team", Kind::Text, "Who owns it. The label `team`."),
        Field::new("used_by", Kind::TextOrTexts, "What breaks when it dies, in people's words."),
        Field::new("renewal_note", Kind::Text, "Where the new secret has to go."),
        Field::new(
            "labels",
            Kind::TextMap,
            "Free labels, at most 8; values have at most 128 bytes.",
        ),
        Field::new(
            "receivers",
            Kind::Texts,
            "Who is told, whatever the platform and the routes say.",
        ),
    ],
    instead: &[
        (
            "api_key",
            "a key does not belong into this file: write it to a file of its own and name that in `api_key_file`",
        ),
        (
            "key",
            "a key does not belong into this file: write it to a file of its own and name that in `api_key_file`",
        ),
        ("bearer_token", INLINE_TOKEN),
        ("token", INLINE_TOKEN),
        ("password", "use `login: {username: …, password_file: …}`"),
        ("username", "use `login: {username: …, password_file: …}`"),
    ],
};

static LOGIN: Table = Table {
    doc: "A user and password of ECE. One of `password_file` and `password_env`.",
    fields: &[
        Field::required("username", Kind::Text, "The name of the user."),
        Field::new(
            "password_file",
            Kind::Path,
            "File with the password; read again before each probe.",
        ),
        Field::new("password_env", Kind::Text, "Environment variable with the password."),
    ],
    instead: &[(
        "password",
        "a password does not belong into this file: write it to a file of its own and name that in `password_file`",
    )],
};

pub(super) static TLS: Table = Table {
    doc: "How the certificate of a server is checked. Without it: against the authorities that the system trusts.",
    fields: &[
        Field::new(
            "ca_file",
            Kind::Path,
            "PEM file with the authorities to trust instead of the system's.",
        ),
        Field::new(
            "cert_file",
            Kind::Path,
            "PEM file with the client certificate; needs `key_file`.",
        ),
        Field::new("key_file", Kind::Path, "PEM file with the client key; needs `cert_file`."),
        Field::new(
            "server_name",
            Kind::Text,
            "Name to check the certificate against, instead of the host of the URL.",
        ),
        Field::or(
            "insecure_skip_verify",
            Kind::Flag,
            "false",
            "Accept every certificate. Whoever is on the way can then read the credentials.",
        ),
        Field::new(
            "fingerprint_sha256",
            Kind::Text,
            "SHA-256 of the one certificate to accept: 64 hexadecimal digits, colons allowed.",
        ),
    ],
    instead: &[("ca", "write it to a file and name that in `ca_file`")],
};

pub(super) static POLICY: Table = Table {
    doc: "When somebody is told, apart from the steps.",
    fields: &[
        Field::or(
            "never_expires",
            Kind::Choice(&["info", "warning", "critical", "ignore"]),
            "info",
            "Severity of a key that never expires, or `ignore`.",
        ),
        Field::or(
            "failures_before_alert",
            Kind::Number(1, 100),
            "3",
            "Failed probes in a row before somebody is told.",
        ),
        Field::new("repeat", Kind::One(&REPEATS), "How often an alert is repeated while it lasts."),
        Field::new(
            "reminders",
            Kind::Many(&REMINDER),
            "How often is reminded of a credential that runs out, by the time that is left; takes the place of `repeat`.",
        ),
    ],
    instead: &[
        ("repeat_interval", "use `repeat: {critical: 24h, warning: 72h}`"),
        ("steps", "`steps` stands beside `policy`, not in it"),
    ],
};

pub(super) static REPEATS: Table = Table {
    doc: "How often an alert of each severity is repeated while it lasts.",
    fields: &[
        Field::or("critical", REPEAT, "24h", "For `critical`; `never` for once only."),
        Field::or("warning", REPEAT, "72h", "For `warning`; `never` for once only."),
        Field::or("info", REPEAT, "never", "For `info`; `never` for once only."),
    ],
    instead: &[],
};

static RECEIVER: Table = Table {
    doc: "A named set of channels; at least one.",
    fields: &[
        Field::required(
            "name",
            Kind::Text,
            "Its name: unique, at most 128 bytes, no slash. The label `receiver`.",
        ),
        Field::new("email_configs", Kind::Many(&EMAIL), "Mail channels."),
        Field::new("webhook_configs", Kind::Many(&WEBHOOK), "Webhook channels."),
        Field::new(
            "alertmanager_configs",
            Kind::Many(&ALERTMANAGER),
            "Alertmanagers that hold what fires.",
        ),
        Field::new(
            "fallback",
            Kind::Text,
            "The receiver that is told what cannot be delivered to this one.",
        ),
    ],
    instead: &[
        ("slack_configs", "use `webhook_configs: [{format: slack, url_file: FILE}]`"),
        ("pagerduty_configs", "use `webhook_configs: [{format: pagerduty, secret_file: FILE}]`"),
        ("msteams_configs", "use `webhook_configs: [{format: teams, url_file: FILE}]`"),
        ("msteamsv2_configs", "use `webhook_configs: [{format: teams, url_file: FILE}]`"),
        ("discord_configs", "use `webhook_configs: [{format: discord, url_file: FILE}]`"),
        ("opsgenie_configs", "use `webhook_configs: [{format: jsm, …}]`"),
    ],
};

static EMAIL: Table = Table {
    doc: "A mail channel.",
    fields: &[
        Field::required("to", Kind::TextOrTexts, "The recipients; each gets a message of its own."),
        Field::required("from", Kind::Text, "The sender: `Name <address>`, or an address."),
        Field::new("reply_to", Kind::Text, "Where answers go, if not to the sender."),
        Field::required("smarthost", Kind::Text, "The mail server, `host:port`."),
        Field::new(
            "tls",
            Kind::Choice(&["starttls", "implicit", "none"]),
            "How the connection is encrypted. Default: `implicit` on port 465, else `starttls`, which is then required.",
        ),
        Field::new(
            "hello",
            Kind::Text,
            "The name given to the server; default: the name of this machine.",
        ),
        Field::new("auth_username", Kind::Text, "User name; needs a password."),
        Field::new(
            "auth_password_file",
            Kind::Path,
            "File with the password; read again before each connection.",
        ),
        Field::new("auth_password_env", Kind::Text, "Environment variable with the password."),
        Field::new("tls_config", Kind::One(&TLS), "How the server's certificate is checked."),
        Field::or("timeout", DEADLINE, "30s", "Deadline of one attempt."),
    ],
    instead: &[
        (
            "auth_password",
            "a password does not belong into this file: write it to a file of its own and name that in `auth_password_file`",
        ),
        ("require_tls", "use `tls: starttls`"),
    ],
};

static STORAGE: Table = Table {
    doc: "Where the program keeps what it knows.",
    fields: &[Field::or(
        "path",
        Kind::Path,
        "/var/lib/ece-expiry-exporter",
        "The folder of the store.",
    )],
    instead: &[("postgres_url_file", LATER)],
};
