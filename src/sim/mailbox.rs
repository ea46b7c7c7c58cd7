//! A small SMTP server that keeps every message and can be told how to fail.
//!
//! It speaks RFC 5321 with STARTTLS, implicit TLS, AUTH PLAIN and AUTH LOGIN; it relays nothing.

mod session;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::listener::Listener;
use super::shelf::Shelf;
use super::{Certificates, Clock};
use crate::notify::mime;

/// How to start a [`Mailbox`].
#[derive(Debug, Clone)]
pub struct MailboxOptions {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Whether and how it speaks TLS.
    pub tls: MailTls,
    /// The user and the password that a client has to give before it sends; `None` accepts any, or none.
    /// Offered only once the connection is encrypted, if it can be.
    pub login: Option<(String, String)>,
    /// The clock that stamps what arrives.
    pub clock: Clock,
}

impl Default for MailboxOptions {
    fn default() -> Self {
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { bind, tls: MailTls::None, login: None, clock: Clock::default() }
    }
}

/// Whether and how a mail server speaks TLS.
#[derive(Debug, Clone)]
pub enum MailTls {
    /// Not at all.
    None,
    /// After the command STARTTLS, with this chain; mail is accepted without it too.
    StartTls(Certificates),
    /// From the first byte, with this chain.
    Implicit(Certificates),
}

/// One message for one envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The envelope sender; empty for `<>`.
    pub from: String,
    /// The envelope recipients that were accepted.
    pub to: Vec<String>,
    /// The message as sent, without the dots that SMTP adds, lines ending in CR LF.
    pub raw: Vec<u8>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The user that logged in.
    pub auth_user: Option<String>,
    /// When it was complete.
    pub at: DateTime<Utc>,
}

/// One way in which a mail server fails.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MailFault {
    /// 550 to this recipient.
    RefuseRecipient(String),
    /// 450 to the first attempt for each recipient; the second one passes.
    Greylist,
    /// The connection is accepted and nothing is said.
    NeverGreet,
    /// The message is taken and kept, but never acknowledged: the client cannot know.
    StopAfterData,
    /// A greeting without an end, one byte a second: no read of the client ever waits for long.
    Drip,
    /// The connection ends in the middle of the message.
    BreakOff,
    /// STARTTLS is not offered, and refused.
    NoStartTls,
    /// 535 to every login.
    RefuseAuth,
    /// 421 instead of the greeting: too busy.
    Busy,
}

/// A running mail server; dropping it closes its port.
#[derive(Debug)]
pub struct Mailbox {
    listener: Listener,
    shared: Arc<Shared>,
}

/// What the connections of one server share.
#[derive(Debug)]
struct Shared {
    options: MailboxOptions,
    mails: Arc<Shelf<Mail>>,
    faults: Mutex<BTreeSet<MailFault>>,
    /// The recipients that were sent away once.
    greylisted: Mutex<BTreeSet<String>>,
}

impl Mailbox {
    /// Starts to listen. Errors if the address cannot be bound.
    pub async fn start(options: MailboxOptions) -> anyhow::Result<Self> {
        let bind = options.bind;
        let shared = Arc::new(Shared {
            options,
            mails: Shelf::new(),
            faults: Mutex::default(),
            greylisted: Mutex::default(),
        });
        let connections = shared.clone();
        let listener = Listener::start(bind, move |wire, mut stop| {
            let shared = connections.clone();
            async move {
                // Both ends are equal here: what a client does not send, or the stop cuts off, was not accepted.
                tokio::select! { _ = session::run(wire, &shared) => {}, () = stop.wait() => {} }
            }
        })
        .await?;
        Ok(Self { listener, shared })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// Replaces all faults; an empty list ends them.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = MailFault>) {
        *self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner) =
            faults.into_iter().collect();
    }

    /// What arrived, oldest first; the last thousand.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails.all()
    }

    /// How many connections were accepted since the start.
    pub fn connections(&self) -> u64 {
        self.listener.accepted()
    }

    /// What arrived, oldest first, which is then forgotten: between the two nothing slips away.
    pub fn take(&self) -> Vec<Mail> {
        self.shared.mails.take()
    }

    /// Forgets what arrived, and counts from zero.
    pub fn clear(&self) {
        self.shared.mails.clear();
    }

    /// Waits until `count` messages arrived in all, then returns what is kept. Errors after `patience`.
    pub async fn wait_for(&self, count: u64, patience: Duration) -> anyhow::Result<Vec<Mail>> {
        self.shared.mails.wait_for(count, patience).await
    }

    pub(super) fn shelf(&self) -> Arc<Shelf<Mail>> {
        self.shared.mails.clone()
    }
}

impl Mail {
    /// The subject, decoded; empty if there is none.
    pub fn subject(&self) -> String {
        mime::read(&self.raw).subject
    }

    /// The plain text part, decoded; empty if there is none.
    pub fn text(&self) -> String {
        mime::read(&self.raw).text.unwrap_or_default()
    }

    /// The HTML part, decoded; empty if there is none.
    pub fn html(&self) -> String {
        mime::read(&self.raw).html.unwrap_or_default()
    }

    /// The value of the first header of this name, unfolded and decoded.
    pub fn header(&self, name: &str) -> Option<String> {
        mime::header(&self.raw, name)
    }
}
