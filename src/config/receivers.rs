//! Receivers: mail and webhook channels, and the names by which they are referred to.

mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lettre::Address;
use lettre::message::Mailbox;

use self::webhook::webhook;
use super::check::{self, SecretKind};

use super::problems::{nearest, show};
use super::push::alertmanager;
use super::reader::{Fields, Item, Reader};
use super::shapes::{name, proxy};
use super::{EmailConfig, HttpConfig, Receiver, SecretSource, SmtpAuth, SmtpEncryption};

/// The port on which mail servers speak TLS from the first byte.
const SMTPS_PORT: u16 = 465;

/// The keys of a receiver that are channels.
const CHANNELS: [&str; 3] = ["email_configs", "webhook_configs", "alertmanager_configs"];

/// Receivers by name.
pub(super) type Receivers = BTreeMap<Arc<str>, Arc<Receiver>>;

/// All receivers by name. A receiver that is itself wrong is in here too, so that naming it is no second problem.
pub(super) fn receivers(reader: &mut Reader, root: &Fields<'_>) -> Receivers {
    let mut names = BTreeSet::new();
    let mut receivers = BTreeMap::new();
    let mut fallbacks = Vec::new();
    for fields in reader.many(root, "receivers").unwrap_or_default() {
        let name = name(reader, &fields, "receiver", &mut names);
        let emails = reader.many(&fields, "email_configs").unwrap_or_default();
        let mut emails: Vec<_> = emails.iter().filter_map(|it| email(reader, it)).collect();
        set_apart(emails.iter_mut().map(|it| &mut it.name));
        let webhooks = reader.many(&fields, "webhook_configs").unwrap_or_default();
        let mut webhooks: Vec<_> = webhooks.iter().filter_map(|it| webhook(reader, it)).collect();
        set_apart(webhooks.iter_mut().map(|it| &mut it.name));
        let alertmanagers = reader.many(&fields, "alertmanager_configs").unwrap_or_default();
        let alertmanagers: Vec<_> =
            alertmanagers.iter().filter_map(|it| alertmanager(reader, it)).collect();
        if CHANNELS.iter().all(|it| !fields.has(it)) {
            let message = "has no channel, so it reaches nobody".to_owned();
            reader.problems.add(
                fields.place,
                &fields.path,
                message,
                "give it `email_configs`, `webhook_configs` or `alertmanager_configs`",
            );
        }
        if let Some(name) = name {
            let receiver = Receiver {
                name: Arc::clone(&name),
                emails,
                webhooks,
                alertmanagers,
                fallback: None,
            };
            receivers.insert(Arc::clone(&name), Arc::new(receiver));
            fallbacks.push((name, fields));
        }
    }
    for (name, fields) in fallbacks {
        let fallback = fallback(reader, &fields, &name, &receivers);
        if let Some(receiver) = receivers.get_mut(&name) {
            let channels = Receiver::clone(receiver);
            *receiver = Arc::new(Receiver { fallback, ..channels });
        }
    }
    receivers
}

/// Numbers names that occur again, so that each is there once.
fn set_apart<'a>(names: impl Iterator<Item = &'a mut Arc<str>>) {
    let mut seen: BTreeMap<Arc<str>, u32> = BTreeMap::new();
    for name in names {
        let count = seen.entry(Arc::clone(name)).or_default();
        *count += 1;
        if 1 < *count {
            *name = format!("{name}#{count}").into();
        }
    }
}

/// The receiver under `fallback`, once all are known.
fn fallback(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &Arc<str>,
    receivers: &Receivers,
) -> Option<Arc<str>> {
    let fallback = reference(reader, fields, "fallback", receivers)?;
    if fallback == *name {
        let item = fields.get("fallback")?;
        let message = "is the receiver itself, to which nothing could be delivered".to_owned();
        reader.problem(&item, message, "name another receiver, best on another way");
        return None;
    }
    Some(fallback)
}

/// The receivers named under a key; each exists and is named once.
pub(super) fn references(
    reader: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    receivers: &Receivers,
) -> Vec<Arc<str>> {
    let mut named: Vec<Arc<str>> = Vec::new();
    for (item, text) in reader.texts(fields, key) {
        match receivers.get_key_value(text) {
            Some((name, _)) if named.contains(name) => {
                let message = format!("{} is named twice", show(text));
                reader.problem(&item, message, "remove one of them");
            }
            Some((name, _)) => named.push(Arc::clone(name)),
            None => unknown(reader, &item, text, receivers),
        }
    }
    named
}

/// The receiver named under a key, if it exists.
pub(super) fn reference(
    reader: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    receivers: &Receivers,
) -> Option<Arc<str>> {
    let item = fields.get(key)?;
    let text = reader.text_of(&item)?;
    let known = receivers.get_key_value(text).map(|(name, _)| Arc::clone(name));
    if known.is_none() {
        unknown(reader, &item, text, receivers);
    }
    known
}

fn unknown(reader: &mut Reader, item: &Item<'_>, text: &str, receivers: &Receivers) {
    let known = || receivers.keys().map(AsRef::as_ref);
    let hint = match nearest(text, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if receivers.is_empty() => "define it under `receivers`".to_owned(),
        None => format!(
            "define it under `receivers`; there are {}",
            known().collect::<Vec<_>>().join(", ")
        ),
    };
    reader.problem(item, format!("there is no receiver {}", show(text)), hint);
}

fn email(reader: &mut Reader, fields: &Fields<'_>) -> Option<EmailConfig> {
    let mut to = Vec::new();
    for (item, text) in reader.texts(fields, "to") {
        if text.parse::<Address>().is_err() {
            let message = format!("{} is not an email address", show(text));
            reader.problem(&item, message, "for example ops@example.org, without a name");
        } else {
            to.push(text.to_owned());
        }
    }
    let from = fields.get("from").and_then(|it| mailbox(reader, &it));
    let reply_to = fields.get("reply_to").and_then(|it| mailbox(reader, &it));
    let server = fields.get("smarthost").and_then(|it| smarthost(reader, &it));
    let encryption = encryption(reader, fields, server.as_ref().map(|(_, port)| *port));
    let hello = reader.text(fields, "hello").map(str::to_owned);
    let tls = check::tls(reader, fields);
    let auth = auth(reader, fields);
    if auth.is_some() && encryption == Some(SmtpEncryption::None) {
        let path = &fields.path;
        reader.problems.warn(format!("{path}.tls: the password crosses the network unencrypted"));
    }
    let timeout = reader.duration(fields, "timeout");
    let (host, port) = server?;
    Some(EmailConfig {
        name: format!("{host}:{port}").into(),
        to,
        from: from?,
        reply_to,
        host,
        port,
        hello,
        encryption: encryption?,
        tls,
        auth,
        timeout: timeout?,
    })
}

fn mailbox(reader: &mut Reader, item: &Item<'_>) -> Option<String> {
    let text = reader.text_of(item)?;
    if text.parse::<Mailbox>().is_ok() {
        return Some(text.to_owned());
    }
    let message = format!("{} is not an email address", show(text));
    reader.problem(
        item,
        message,
        "for example ece-expiry@example.org, or `ECE expiry <ece-expiry@example.org>`",
    );
    None
}

/// Host and port; an IPv6 address stands in brackets, which are taken off.
fn smarthost(reader: &mut Reader, item: &Item<'_>) -> Option<(String, u16)> {
    let text = reader.text_of(item)?;
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse::<u16>().ok().filter(|it| 0 < *it)?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let valid = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let word = |char: char| char.is_ascii_alphanumeric() || "-._".contains(char);
                !host.is_empty() && host.chars().all(word)
            }
        };
        valid.then(|| (bare.unwrap_or(host).to_owned(), port))
    });
    if parts.is_none() {
        let message = format!("{} is not `host:port`", show(text));
        reader.problem(item, message, "for example smtp.example.org:587");
    }
    parts
}

fn encryption(
    reader: &mut Reader,
    fields: &Fields<'_>,
    port: Option<u16>,
) -> Option<SmtpEncryption> {
    if !fields.has("tls") {
        let implicit = port == Some(SMTPS_PORT);
        return Some(if implicit { SmtpEncryption::Implicit } else { SmtpEncryption::Starttls });
    }
    match reader.choice(fields, "tls")? {
        "implicit" => Some(SmtpEncryption::Implicit),
        "none" => Some(SmtpEncryption::None),
        _ => Some(SmtpEncryption::Starttls),
    }
}

fn auth(reader: &mut Reader, fields: &Fields<'_>) -> Option<SmtpAuth> {
    let keys = ("auth_password_file", "auth_password_env");
    let username = reader.text(fields, "auth_username");
    let password = check::secret(reader, fields, keys, SecretKind::Password);
    let has_password = fields.has(keys.0) || fields.has(keys.1);
    let (message, hint) = match (fields.has("auth_username"), has_password) {
        (true, false) => ("`auth_username` needs a password", "set `auth_password_file`"),
        (false, true) => ("the password needs a user name", "set `auth_username`"),
        _ => return Some(SmtpAuth { username: username?.to_owned(), password: password? }),
    };
    reader.problems.add(fields.place, &fields.path, message.to_owned(), hint);
    None
}

pub(super) fn http_config(reader: &mut Reader, fields: &Fields<'_>) -> HttpConfig {
    let authorization = reader.one(fields, "authorization");
    HttpConfig {
        authorization: authorization.and_then(|it| authorization_header(reader, &it)),
        tls: check::tls(reader, fields),
        proxy_url: proxy(reader, fields),
        http_headers: check::headers(reader, fields),
    }
}

fn authorization_header(
    reader: &mut Reader,
    fields: &Fields<'_>,
) -> Option<(String, SecretSource)> {
    let scheme = reader.text(fields, "type");
    let credentials = fields.get("credentials_file");
    let credentials = credentials.and_then(|it| check::secret_file(reader, &it, SecretKind::Token));
    let scheme = scheme?;
    if !scheme.chars().all(|char| char.is_ascii_alphanumeric() || char == '-') {
        let item = fields.get("type")?;
        let message = format!("{} is not a scheme", show(scheme));
        reader.problem(&item, message, "one word, for example Bearer");
        return None;
    }
    Some((scheme.to_owned(), credentials?))
}
