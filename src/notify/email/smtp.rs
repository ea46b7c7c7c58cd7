//! Sending a mail: one connection, one envelope, one recipient.
//!
//! The commands are given one by one rather than through lettre's transport, because the verdict depends on which of
//! them was refused: a refused recipient is final, a refused login is not (the password may be in rotation). The caller
//! puts a deadline around `Mailer::send`; lettre's own covers the connect only.

use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, Identity, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};

use crate::config::{EmailConfig, Secret, SmtpEncryption, TlsVerify};
use crate::delivery::{Accepted, SendError};
use crate::notify::read_secret;
use crate::notify::text::{cut, plain, shown};

/// How long the farewell may take once the server's verdict is known; it cannot change the verdict.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// A mail channel, ready to send.
pub struct Mailer {
    config: EmailConfig,
    hello: ClientId,
    tls: Option<TlsParameters>,
}

/// Where in the conversation an attempt is; decides what a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Encryption,
    Login,
    Sender,
    Recipient,
    Content,
}

impl Mailer {
    /// Prepares the channel: reads its certificates once.
    ///
    /// # Errors
    /// A certificate file cannot be read or used, or the TLS settings ask for what mail cannot do.
    pub fn new(config: &EmailConfig) -> anyhow::Result<Self> {
        let tls = match config.encryption {
            SmtpEncryption::None => None,
            SmtpEncryption::Starttls | SmtpEncryption::Implicit => Some(tls_parameters(config)?),
        };
        let hello = config.hello.clone().map_or_else(ClientId::default, ClientId::Domain);
        Ok(Self { config: config.clone(), hello, tls })
    }

    /// The deadline of one attempt.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// `host:port`, for messages.
    pub fn server(&self) -> String {
        format!("{}:{}", self.config.host, self.config.port)
    }

    /// Hands `body` to the mail server for `recipient`.
    ///
    /// # Errors
    /// `Retry` for everything that may pass: network, TLS, login, 4xx. `GiveUp` when the server refuses this sender,
    /// this recipient or this content with 5xx.
    pub async fn send(&self, recipient: &str, body: &[u8]) -> Result<Accepted, SendError> {
        let from = address(&self.config.from, "sender")?;
        let to = address(recipient, "recipient")?;
        let password = match &self.config.auth {
            Some(auth) => Some(read_secret(&auth.password).await?),
            None => None,
        };
        let mut connection = None;
        let outcome = self.converse(&mut connection, from, to, password.as_ref(), body).await;
        if let Some(mut connection) = connection {
            let _ = tokio::time::timeout(FAREWELL_MAX, connection.abort()).await;
        }
        let secrets = self.secrets(password.as_ref());
        let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();
        match outcome {
            Ok(response) => {
                let text = response.message().collect::<Vec<_>>().join(" ");
                Ok(Accepted(shown(&format!("{} {text}", response.code()), &secrets)))
            }
            Err((stage, error)) => Err(self.verdict(stage, &error, &secrets)),
        }
    }

    /// The conversation. The connection is left in `slot`, so that the caller can say goodbye.
    async fn converse(
        &self,
        slot: &mut Option<AsyncSmtpConnection>,
        from: Address,
        to: Address,
        password: Option<&Secret>,
        body: &[u8],
    ) -> Result<Response, (Stage, Trouble)> {
        let at = |stage| move |error: SmtpError| (stage, Trouble::Smtp(error));
        let implicit = match self.config.encryption {
            SmtpEncryption::Implicit => self.tls.clone(),
            SmtpEncryption::Starttls | SmtpEncryption::None => None,
        };
        let server = (self.config.host.as_str(), self.config.port);
        let connection = AsyncSmtpConnection::connect_tokio1(
            server,
            Some(self.config.timeout),
            &self.hello,
            implicit,
            None,
        );
        let connection = slot.insert(connection.await.map_err(at(Stage::Greeting))?);
        if let (SmtpEncryption::Starttls, Some(tls)) = (self.config.encryption, &self.tls) {
            if !connection.can_starttls() {
                return Err((Stage::Encryption, Trouble::NoStarttls));
            }
            if let Err(error) = connection.starttls(tls.clone(), &self.hello).await {
                // lettre has lost the stream and panics at a farewell; dropping it closes the socket.
                *slot = None;
                return Err((Stage::Encryption, Trouble::Smtp(error)));
            }
        }
        if let (Some(auth), Some(password)) = (&self.config.auth, password) {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            if connection.server_info().get_auth_mechanism(&mechanisms).is_none() {
                return Err((Stage::Login, Trouble::NoMechanism));
            }
            let credentials = Credentials::new(auth.username.clone(), password.expose().to_owned());
            connection.auth(&mechanisms, &credentials).await.map_err(at(Stage::Login))?;
        }
        let ascii = AsRef::<str>::as_ref(&from).is_ascii() && AsRef::<str>::as_ref(&to).is_ascii();
        let mut parameters = Vec::new();
        if !ascii {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err((Stage::Recipient, Trouble::NoUtf8));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let mail = Mail::new(Some(from), parameters);
        connection.command(mail).await.map_err(at(Stage::Sender))?;
        connection.command(Rcpt::new(to, Vec::new())).await.map_err(at(Stage::Recipient))?;
        connection.command(Data).await.map_err(at(Stage::Content))?;
        // The end mark begins with a line end of its own.
        let body = body.strip_suffix(b"\r\n").unwrap_or(body);
        let response = connection.message(body).await.map_err(at(Stage::Content))?;
        // An answer that came one command too early (an injected one, or a confused server) is no acceptance.
        match response.code().severity {
            Severity::PositiveCompletion => Ok(response),
            _ => Err((Stage::Content, Trouble::OutOfStep)),
        }
    }

    /// What an attempt's failure means.
    fn verdict(&self, stage: Stage, trouble: &Trouble, secrets: &[&str]) -> SendError {
        let server = self.server();
        let retry = |why: String| SendError::Retry { why: cut(&why, 256), after: None };
        let give_up = |why: String| SendError::GiveUp { why: cut(&why, 256) };
        let error = match trouble {
            Trouble::NoStarttls => {
                return retry(format!(
                    "{server} offers no STARTTLS, so nothing was sent, not even the password; use tls: implicit if the port speaks TLS at once"
                ));
            }
            Trouble::NoMechanism => {
                return retry(format!(
                    "{server} offers neither AUTH PLAIN nor AUTH LOGIN here; check the port and tls, or remove auth_username"
                ));
            }
            Trouble::NoUtf8 => {
                return give_up(format!(
                    "an address is not ASCII and {server} does not support SMTPUTF8; use an ASCII address"
                ));
            }
            Trouble::OutOfStep => {
                return retry(format!(
                    "{server} answers out of step; the message may not be taken"
                ));
            }
            Trouble::Smtp(error) => error,
        };
        let said = cut(&shown(&error.to_string(), secrets), 140);
        let Some(code) = error.status().map(u16::from) else {
            return retry(match stage {
                Stage::Greeting if error.is_tls() => format!(
                    "the TLS connection to {server} failed; check its certificate and tls_config: {said}"
                ),
                Stage::Greeting => format!("no connection to the mail server {server}: {said}"),
                Stage::Encryption => format!(
                    "STARTTLS with {server} failed; check its certificate and tls_config: {said}"
                ),
                _ => format!("the connection to {server} broke off: {said}"),
            });
        };
        let login = matches!(code, 454 | 530 | 534 | 535 | 538);
        match stage {
            Stage::Greeting => retry(format!("{server} does not serve us: {said}")),
            Stage::Encryption => retry(format!("{server} refuses STARTTLS: {said}")),
            _ if stage == Stage::Login || login => retry(match &self.config.auth {
                Some(auth) => format!(
                    "{server} refuses the login; check auth_username and the password in {}: {said}",
                    auth.password
                ),
                None => format!("{server} wants a login; set auth_username: {said}"),
            }),
            _ if code < 500 => retry(format!("{server} asks to try later: {said}")),
            Stage::Sender => give_up(format!(
                "{server} refuses the sender {}; change from: {said}",
                plain(&self.config.from)
            )),
            Stage::Recipient => {
                give_up(format!("{server} refuses the recipient; check the address: {said}"))
            }
            Stage::Content | Stage::Login => {
                give_up(format!("{server} refuses the message: {said}"))
            }
        }
    }

    /// The forms in which a server could repeat our password to us.
    fn secrets(&self, password: Option<&Secret>) -> Vec<String> {
        let (Some(auth), Some(password)) = (&self.config.auth, password) else {
            return Vec::new();
        };
        let password = password.expose();
        vec![
            password.to_owned(),
            BASE64.encode(password),
            BASE64.encode(format!("\0{}\0{password}", auth.username)),
        ]
    }
}

/// What stopped the conversation.
enum Trouble {
    /// A negative answer, or the network.
    Smtp(SmtpError),
    /// STARTTLS is required and not offered.
    NoStarttls,
    /// No common way to log in.
    NoMechanism,
    /// The address needs SMTPUTF8 and the server has it not.
    NoUtf8,
    /// The final answer is not a final one.
    OutOfStep,
}

fn address(text: &str, role: &str) -> Result<Address, SendError> {
    match text.trim().parse::<Mailbox>() {
        Ok(mailbox) => Ok(mailbox.email),
        Err(_) => Err(SendError::GiveUp {
            why: cut(&format!("the {role} {:?} is not a mail address", plain(text)), 256),
        }),
    }
}

fn tls_parameters(config: &EmailConfig) -> anyhow::Result<TlsParameters> {
    let tls = &config.tls;
    let domain = tls.server_name.clone().unwrap_or_else(|| config.host.clone());
    let mut builder = TlsParameters::builder(domain);
    match tls.verify {
        TlsVerify::Full => {}
        TlsVerify::None => {
            builder = builder
                .certificate_store(CertificateStore::None)
                .dangerous_accept_invalid_certs(true)
                .dangerous_accept_invalid_hostnames(true);
        }
        TlsVerify::Fingerprint(_) => {
            bail!("tls_config.fingerprint_sha256 does not work for mail; use ca_file instead")
        }
    }
    if let Some(path) = &tls.ca_file {
        let pem = std::fs::read(path)
            .with_context(|| format!("cannot read tls_config.ca_file {}", path.display()))?;
        let authority = Certificate::from_pem(&pem).with_context(|| {
            format!("tls_config.ca_file {} holds no PEM certificate", path.display())
        })?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authority);
    }
    if let Some((cert, key)) = &tls.identity {
        let read = |path: &std::path::Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let identity = Identity::from_pem(&read(cert)?, &read(key)?).with_context(|| {
            format!("{} and {} are no PEM certificate and key", cert.display(), key.display())
        })?;
        builder = builder.identify_with(identity);
    }
    builder.build().context("cannot set up TLS for mail")
}
