//! One SMTP conversation, command by command.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream,
};
use tokio::time::timeout;

use super::{Mail, MailFault, MailTls, Shared};
use crate::sim::listener::{Wire, shake_hands};

/// The longest line that is read. RFC 5321 allows 1000 bytes; a login with a long token needs more.
const LINE_BYTES_MAX: u64 = 12 * 1024;

/// The largest message that is taken; announced with SIZE.
const MAIL_BYTES_MAX: usize = 1024 * 1024;

/// The most recipients of one message, the least that RFC 5321 asks for.
const RECIPIENTS_MAX: usize = 100;

/// How long after each byte the next one of an endless greeting follows.
const DRIP_EVERY: Duration = Duration::from_secs(1);

/// How long a client may be silent; RFC 5321 asks for five minutes.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Speaks with one client until it leaves. Errors say that it left in the middle.
pub(super) async fn run(wire: Wire, shared: &Shared) -> io::Result<()> {
    if shared.has(&MailFault::NeverGreet) {
        // The wire stays open: the client waits until its own patience ends.
        return std::future::pending().await;
    }
    if shared.has(&MailFault::Drip) {
        return drip(wire).await;
    }
    let mut session = Session { shared, encrypted: Encrypted::No, user: None, envelope: None };
    match &shared.options.tls {
        MailTls::None => {
            let mut stream = BufStream::new(wire);
            session.greet(&mut stream).await?;
            session.converse(&mut stream).await?;
        }
        MailTls::Implicit(certificates) => {
            let mut stream = BufStream::new(shake_hands(wire, certificates.server_config()).await?);
            session.encrypted = Encrypted::Yes;
            session.greet(&mut stream).await?;
            session.converse(&mut stream).await?;
        }
        MailTls::StartTls(certificates) => {
            let mut stream = BufStream::new(wire);
            session.greet(&mut stream).await?;
            if session.converse(&mut stream).await? == Ended::StartTls {
                // What the client said before the handshake counts for nothing, nor does what it sent too early.
                session = Session { shared, encrypted: Encrypted::Yes, user: None, envelope: None };
                let stream = shake_hands(stream.into_inner(), certificates.server_config()).await?;
                session.converse(&mut BufStream::new(stream)).await?;
            }
        }
    }
    Ok(())
}

/// Greets for ever.
async fn drip(mut wire: Wire) -> io::Result<()> {
    loop {
        for byte in b"220-mailbox.sim is slow\r\n" {
            wire.write_all(std::slice::from_ref(byte)).await?;
            wire.flush().await?;
            crate::time::sleep(DRIP_EVERY).await;
        }
    }
}

/// What is known of the client so far.
struct Session<'a> {
    shared: &'a Shared,
    encrypted: Encrypted,
    user: Option<String>,
    envelope: Option<Envelope>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encrypted {
    Yes,
    No,
}

#[derive(Debug)]
struct Envelope {
    from: String,
    to: Vec<String>,
}

/// Why a conversation ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Quit,
    StartTls,
}

impl Shared {
    fn has(&self, fault: &MailFault) -> bool {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).contains(fault)
    }
}

impl Session<'_> {
    async fn greet<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        if self.shared.has(&MailFault::Busy) {
            say(stream, "421 mailbox.sim is too busy, come back later").await?;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        say(stream, "220 mailbox.sim ESMTP").await
    }

    async fn converse<S: AsyncBufRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> io::Result<Ended> {
        loop {
            let line = read_line(stream).await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let rest = rest.trim();
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.hello(stream).await?,
                "HELO" => say(stream, "250 mailbox.sim").await?,
                "STARTTLS" if self.offers_starttls() => {
                    say(stream, "220 go ahead").await?;
                    return Ok(Ended::StartTls);
                }
                "STARTTLS" => say(stream, "502 5.5.1 STARTTLS is not offered").await?,
                "AUTH" if self.offers_auth() => self.log_in(stream, rest).await?,
                "AUTH" => say(stream, "538 5.7.11 encryption is required for a login").await?,
                "MAIL" => say(stream, self.mail(rest)).await?,
                "RCPT" => say(stream, self.recipient(rest)).await?,
                "DATA" => self.data(stream).await?,
                "RSET" => {
                    self.envelope = None;
                    say(stream, "250 2.0.0 forgotten").await?;
                }
                "NOOP" => say(stream, "250 2.0.0 fine").await?,
                "QUIT" => {
                    say(stream, "221 2.0.0 bye").await?;
                    return Ok(Ended::Quit);
                }
                _ => say(stream, "500 5.5.1 unknown command").await?,
            }
        }
    }

    fn offers_starttls(&self) -> bool {
        matches!(self.shared.options.tls, MailTls::StartTls(_))
            && self.encrypted == Encrypted::No
            && !self.shared.has(&MailFault::NoStartTls)
    }

    /// A password is asked for in the clear only where there is no other way.
    fn offers_auth(&self) -> bool {
        self.encrypted == Encrypted::Yes || matches!(self.shared.options.tls, MailTls::None)
    }

    async fn hello<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        let mut text = format!(
            "250-mailbox.sim\r\n250-SIZE {MAIL_BYTES_MAX}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
        );
        if self.offers_starttls() {
            text.push_str("250-STARTTLS\r\n");
        }
        if self.offers_auth() {
            text.push_str("250-AUTH PLAIN LOGIN\r\n");
        }
        text.push_str("250 ENHANCEDSTATUSCODES");
        say(stream, &text).await
    }

    async fn log_in<S: AsyncBufRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        rest: &str,
    ) -> io::Result<()> {
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let given = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let answer =
                    if initial.is_empty() { ask(stream, "").await? } else { initial.to_owned() };
                let fields = decode(&answer);
                let mut fields = fields.split('\0').skip(1);
                (
                    fields.next().unwrap_or_default().to_owned(),
                    fields.next().unwrap_or_default().to_owned(),
                )
            }
            "LOGIN" => {
                let user = if initial.is_empty() {
                    ask(stream, "Username:").await?
                } else {
                    initial.to_owned()
                };
                (decode(&user), decode(&ask(stream, "Password:").await?))
            }
            _ => return say(stream, "504 5.5.4 only PLAIN and LOGIN are known").await,
        };
        let right = self.shared.options.login.as_ref().is_none_or(|login| *login == given);
        if !right || self.shared.has(&MailFault::RefuseAuth) {
            return say(stream, "535 5.7.8 user or password is wrong").await;
        }
        self.user = Some(given.0);
        say(stream, "235 2.7.0 welcome").await
    }

    fn mail(&mut self, rest: &str) -> &'static str {
        if self.shared.options.login.is_some() && self.user.is_none() {
            return "530 5.7.0 log in first";
        }
        let Some(from) = path(rest, "FROM:") else {
            return "501 5.5.4 expected MAIL FROM:<address>";
        };
        self.envelope = Some(Envelope { from, to: Vec::new() });
        "250 2.1.0 sender is fine"
    }

    fn recipient(&mut self, rest: &str) -> &'static str {
        let Some(envelope) = &mut self.envelope else { return "503 5.5.1 MAIL comes first" };
        let Some(to) = path(rest, "TO:") else { return "501 5.5.4 expected RCPT TO:<address>" };
        if envelope.to.len() == RECIPIENTS_MAX {
            return "452 4.5.3 too many recipients";
        }
        if self.shared.has(&MailFault::RefuseRecipient(to.clone())) {
            return "550 5.1.1 there is no such mailbox";
        }
        if self.shared.has(&MailFault::Greylist)
            && self
                .shared
                .greylisted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(to.clone())
        {
            return "450 4.7.1 greylisted, try again later";
        }
        envelope.to.push(to);
        "250 2.1.5 recipient is fine"
    }

    async fn data<S: AsyncBufRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> io::Result<()> {
        let Some(envelope) = self.envelope.take_if(|it| !it.to.is_empty()) else {
            return say(stream, "503 5.5.1 RCPT comes first").await;
        };
        say(stream, "354 end with a dot on a line of its own").await?;
        let mut raw = Vec::new();
        let mut fits = true;
        loop {
            let line = read_line(stream).await?;
            if self.shared.has(&MailFault::BreakOff) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if line == b"." {
                break;
            }
            // A line that begins with a dot was sent with one more.
            let line = line.strip_prefix(b".").unwrap_or(&line);
            fits &= raw.len() + line.len() + 2 <= MAIL_BYTES_MAX;
            if fits {
                raw.extend_from_slice(line);
                raw.extend_from_slice(b"\r\n");
            }
        }
        if !fits {
            return say(stream, "552 5.3.4 the message is too large").await;
        }
        self.shared.mails.put(Mail {
            from: envelope.from,
            to: envelope.to,
            raw,
            tls: self.encrypted == Encrypted::Yes,
            auth_user: self.user.clone(),
            at: self.shared.options.clock.now(),
        });
        if self.shared.has(&MailFault::StopAfterData) {
            return std::future::pending().await;
        }
        say(stream, "250 2.0.0 kept").await
    }
}

/// One line without its end; an error if it is too long, or if the client left or is silent for too long.
async fn read_line<S: AsyncRead + AsyncBufRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    timeout(SILENCE_MAX, stream.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)).await??;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, text: &str) -> io::Result<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    stream.flush().await
}

async fn ask<S: AsyncBufRead + AsyncWrite + Unpin>(
    stream: &mut S,
    question: &str,
) -> io::Result<String> {
    say(stream, &format!("334 {}", STANDARD.encode(question))).await?;
    Ok(String::from_utf8_lossy(&read_line(stream).await?).into_owned())
}

fn decode(base64: &str) -> String {
    String::from_utf8_lossy(&STANDARD.decode(base64.trim()).unwrap_or_default()).into_owned()
}

/// The address of `FROM:<address> PARAMETERS`.
fn path(rest: &str, keyword: &str) -> Option<String> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let address = rest[keyword.len()..].trim_start().strip_prefix('<')?;
    address.split_once('>').map(|(address, _)| address.to_owned())
}
