//! Mail: a letter as RFC 5322 bytes. Sending them is in `smtp`.
//!
//! The bytes depend on the arguments alone, so a message that is sent again is the same message. This file and `smtp`
//! are the only ones that know `lettre`.

pub mod smtp;

use std::time::SystemTime;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lettre::Message;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MessageBuilder, MultiPart, SinglePart};

use super::letter::Letter;
use super::text::{Topic, plain};
use super::{Origin, worst_first};
use crate::alert::Status;
use crate::config::{EmailConfig, Severity};
use crate::delivery::{Notice, hash};

/// The mail about `notices` to `recipient`, worst first.
///
/// # Errors
/// No notice, a word in one that this version does not know, or an address that is not one.
pub fn compose(
    config: &EmailConfig,
    recipient: &str,
    id: &str,
    notices: &[Notice],
    origin: &Origin,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<u8>> {
    if let [Notice { digest: Some(digest), .. }] = notices {
        let letter = Letter::digest(digest, origin, now)?;
        let host = mail_host(origin);
        let (id, headers) = (format!("<{id}@{host}>"), for_machines(id, &host));
        return written(config, recipient, &letter, Envelope { id, thread: None, headers }, now);
    }
    let sorted = worst_first(notices)?;
    let (first, topic) = *sorted.first().context("a mail needs at least one notice")?;
    let host = mail_host(origin);
    let envelope = Envelope {
        id: format!("<{id}@{host}>"),
        thread: (sorted.len() == 1).then(|| thread_root(first, &host)),
        headers: filter_headers(&sorted, topic, id, &host),
    };
    written(config, recipient, &Letter::new(&sorted, origin, now), envelope, now)
}

/// What stands around a letter.
struct Envelope {
    /// The `Message-ID`.
    id: String,
    /// The message that this one answers to.
    thread: Option<String>,
    headers: Vec<(&'static str, String)>,
}

fn written(
    config: &EmailConfig,
    recipient: &str,
    letter: &Letter,
    envelope: Envelope,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<u8>> {
    let Envelope { id, thread, headers } = envelope;
    let boundary =
        format!("=_{}", id.trim_matches(['<', '>']).split('@').next().unwrap_or_default());
    let mut message = Message::builder()
        .from(mailbox(&config.from, "from")?)
        .to(mailbox(recipient, "to")?)
        .subject(letter.subject.clone())
        .date(SystemTime::from(now))
        .message_id(Some(id));
    if let Some(reply_to) = &config.reply_to {
        message = message.reply_to(mailbox(reply_to, "reply_to")?);
    }
    if let Some(root) = thread {
        message = message.in_reply_to(root.clone()).references(root);
    }
    for (name, value) in headers {
        message = raw_header(message, name, value)?;
    }
    let body = MultiPart::alternative()
        .boundary(boundary)
        .singlepart(part(ContentType::TEXT_PLAIN, letter.text()))
        .singlepart(part(ContentType::TEXT_HTML, letter.html()?));
    Ok(message.multipart(body).context("cannot build the mail")?.formatted())
}

/// Headers of every mail for auto-responders and filters.
fn for_machines(id: &str, host: &str) -> Vec<(&'static str, String)> {
    vec![
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("List-Id", format!("ECE credential expiry <ece-expiry.{host}>")),
        ("X-ECE-Expiry-Event", id.to_owned()),
    ]
}

/// Headers for machines: auto-responders, filters and mail readers that show importance.
fn filter_headers(
    sorted: &[(&Notice, Topic)],
    worst: Topic,
    id: &str,
    host: &str,
) -> Vec<(&'static str, String)> {
    let firing = sorted.iter().any(|(_, it)| it.reason.status() == Status::Firing);
    let status = if firing { Status::Firing } else { Status::Resolved };
    let mut headers = for_machines(id, host);
    headers.push(("X-ECE-Expiry-Severity", worst.severity.label().to_owned()));
    headers.push(("X-ECE-Expiry-Status", status.label().to_owned()));
    if let Some((first, _)) = sorted.first() {
        if sorted.iter().all(|(it, _)| it.platform == first.platform) {
            headers.push(("X-ECE-Expiry-Platform", plain(&first.platform)));
        }
        if let ([_], Some(credential)) = (sorted, &first.credential) {
            headers.push(("X-ECE-Expiry-Credential", plain(&credential.name)));
        }
    }
    if worst.needs_attention() && worst.severity == Severity::Critical {
        headers.push(("Importance", "high".to_owned()));
        headers.push(("X-Priority", "1".to_owned()));
    }
    headers
}

fn raw_header(
    message: MessageBuilder,
    name: &'static str,
    value: String,
) -> anyhow::Result<MessageBuilder> {
    let name = HeaderName::new_from_ascii(name.to_owned())
        .with_context(|| format!("{name} is not a header name"))?;
    Ok(message.raw_header(HeaderValue::new(name, value)))
}

fn part(kind: ContentType, text: String) -> SinglePart {
    let body = Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable)
        .expect("any text can be quoted-printable");
    SinglePart::builder().header(kind).body(body)
}

/// Reads `Name <address>` or an address.
fn mailbox(text: &str, field: &str) -> anyhow::Result<Mailbox> {
    text.trim().parse().with_context(|| format!("{field}: {:?} is not a mail address", plain(text)))
}

/// The message that all mails about one life of one credential answer to. Nobody sent it; it ties the thread.
fn thread_root(notice: &Notice, host: &str) -> String {
    match &notice.credential {
        Some(credential) => {
            let life = notice.previous_expiry.or(credential.expires_at);
            let life = life.map_or(0, |it| it.timestamp());
            format!("<cred.{}.{life}@{host}>", hash(&[&notice.platform, &credential.name]))
        }
        None => {
            let since = notice.starts_at.timestamp();
            format!("<platform.{}.{since}@{host}>", hash(&[&notice.platform, &notice.alert]))
        }
    }
}

/// The right side of our message ids: the host of the external URL, else this machine under `.invalid`.
fn mail_host(origin: &Origin) -> String {
    let host = origin.external_url.as_deref().and_then(|url| {
        let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
        let host = authority.rsplit('@').next()?;
        Some(host.split(':').next()?.to_owned())
    });
    let clean = |text: &str| {
        let kept: String =
            text.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
        kept.trim_matches(['.', '-']).to_ascii_lowercase()
    };
    let (host, instance) = (clean(&host.unwrap_or_default()), clean(&origin.instance));
    match (host.as_str(), instance.as_str()) {
        ("", "") => "ece-expiry.invalid".to_owned(),
        ("", instance) if instance.contains('.') => instance.to_owned(),
        ("", instance) => format!("{instance}.ece-expiry.invalid"),
        (host, _) => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_have_a_host_whatever_is_configured() {
        let host = |external_url: Option<&str>, instance: &str| {
            mail_host(&Origin {
                version: "0.1.0",
                instance: instance.to_owned(),
                external_url: external_url.map(str::to_owned),
                own_key: None,
            })
        };
        assert_eq!(host(Some("https://Expiry.example.org:8443/x"), "mon1"), "expiry.example.org");
        assert_eq!(host(Some("http://u:p@[::1]/"), "mon1"), "mon1.ece-expiry.invalid");
        assert_eq!(host(None, "mon1.example.org"), "mon1.example.org");
        assert_eq!(host(None, "mon 1>\r\n"), "mon1.ece-expiry.invalid");
        assert_eq!(host(None, ""), "ece-expiry.invalid");
    }
}
