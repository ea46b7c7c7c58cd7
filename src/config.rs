//! The configuration: one YAML file in, one `Config` out that cannot hold nonsense.
//!
//! The file is read strictly, and all problems are reported at once, each with its place: `yaml` makes the text a tree,
//! `keys` says what may stand in it, `reader` takes values off it, and `decode` puts them together. This module
//! holds what the rest of the program works with. Secrets are never held here, only where to read them
//! (`SecretSource`).

mod secret;
mod yaml;
mod problems;
mod keys;
mod schema;
mod reader;
mod shapes;
mod check;
mod flavor;
mod format;
mod policy;
mod matchers;
mod routes;
mod reach;
mod mutes;
mod kinds;
mod receivers;
mod push;
mod policies;
mod decode;
mod print;
mod source;
mod inventory;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use self::flavor::Flavor;
pub use self::format::{
    AnswerRule, Body, BodyValue, Carries, FormatFile, Param, Template, WebhookFormat,
};
pub use self::inventory::{
    Deployments, Filter, Inventory, InventoryScope, ItemKind, KeyScope, Pattern,
};
pub use self::matchers::{MatchOp, Matcher};
pub use self::mutes::Mute;
pub use self::policy::{Policy, Reminder, Repeat, Severity, Stage, Step};
pub use self::problems::{ConfigErrors, Problem};
pub use self::push::{AlertmanagerConfig, Heartbeat, HttpConfig};
pub use self::routes::{GroupBy, Route, Way};
pub use self::schema::schema;
pub use self::secret::{Secret, SecretError, SecretSource};
pub use self::source::Source;
use crate::schedule::Schedule;

/// A configuration file with every key and a comment on each.
pub const EXAMPLE: &str = include_str!("../config.example.yml");

/// The largest configuration file: ten thousand credentials with long notes need a third of it.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Everything the file says, checked and with its defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the program as a whole.
    pub global: Global,
    /// The watched platforms with their credentials, in the order of the file. Names are unique.
    pub platforms: Vec<Arc<Platform>>,
    /// Who can be told. Every receiver named anywhere in the configuration is in here.
    pub receivers: BTreeMap<Arc<str>, Arc<Receiver>>,
    /// The root of the routing tree, by which everything goes that has no receivers of its own; `None` when there is no
    /// `route`.
    pub route: Option<Arc<Route>>,
    /// The windows in which nothing is sent. Every window that a route names is in here.
    pub mutes: BTreeMap<Arc<str>, Arc<Mute>>,
    /// The mail that sums up everything that is watched, if it was ordered.
    pub digest: Option<Digest>,
    /// Who is called as long as this program works, if anybody.
    pub heartbeat: Option<Heartbeat>,
    /// The folder of the embedded store.
    pub storage_path: PathBuf,
    /// What is allowed and probably not meant, one sentence each, beginning with the key. Holds no secrets.
    pub warnings: Vec<String>,
}

/// A mail that sums up everything that is watched.
#[derive(Debug, Clone)]
pub struct Digest {
    /// When it comes: a crontab expression.
    pub schedule: Schedule,
    /// Who gets it; it has mail channels.
    pub receiver: Arc<str>,
    /// It comes although all is well, and so shows that somebody watches.
    pub always: bool,
}

/// Settings of the program as a whole.
#[derive(Debug, Clone)]
pub struct Global {
    /// The deadline of one probe, connect and body included.
    pub probe_timeout: Duration,
    /// Where people reach this exporter; used in links. Without a trailing slash.
    pub external_url: Option<String>,
    /// Mails have a link by which their reader silences their alert.
    pub own_links: bool,
}

/// One ECE installation, or Elastic Cloud Hosted.
#[derive(Debug, Clone)]
pub struct Platform {
    /// Its name: label `platform`, unique, at most 128 bytes.
    pub name: Arc<str>,
    /// What kind of platform it is.
    pub flavor: Flavor,
    /// Base URLs of its coordinators without a trailing slash and without `/api/v1`; at least one, tried in order.
    pub urls: Vec<String>,
    /// How the TLS connection is checked.
    pub tls: TlsConfig,
    /// HTTP proxy for this platform; without it none is used, whatever the environment says.
    pub proxy_url: Option<String>,
    /// Upper bound of probes in flight.
    pub max_concurrent_probes: usize,
    /// Extra request headers, for gateways in front of ECE.
    pub http_headers: Vec<(String, String)>,
    /// The watched credentials, in the order of the file, and behind them what `license`, `certificates`, `inventory` and
    /// `deployments` watch. Names are unique within the platform.
    pub credentials: Vec<Arc<Credential>>,
    /// Failures in a row before the platform counts as unreachable.
    pub policy: Arc<Policy>,
    /// Who is told about the platform itself (unreachable, clock skew) whatever the routes say; empty is by the routes.
    /// Without routes everybody who is told about one of its credentials.
    pub receivers: Vec<Arc<str>>,
}

/// How a TLS server is checked. `Default` checks against the roots of the system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and key, PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Check the certificate against this name instead of the host of the URL.
    pub server_name: Option<String>,
    /// What is required of the server's certificate.
    pub verify: TlsVerify,
}

/// What is required of a server's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TlsVerify {
    /// A valid chain to a trusted authority, and the right name.
    #[default]
    Full,
    /// The leaf has this SHA-256 fingerprint; chain, name and dates do not matter.
    Fingerprint([u8; 32]),
    /// Nothing (`insecure_skip_verify`).
    None,
}

/// The identity of a credential: platform name and credential name. Displays as `platform/credential`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId {
    /// The platform's name.
    pub platform: Arc<str>,
    /// The credential's name within the platform.
    pub name: Arc<str>,
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.platform, self.name)
    }
}

/// One watched credential.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its identity.
    pub id: CredentialId,
    /// What it is, and where its secret is read before each probe.
    pub kind: CredentialKind,
    /// When it is probed.
    pub schedule: Schedule,
    /// When somebody is told.
    pub policy: Arc<Policy>,
    /// The owning team; label `team`.
    pub team: Option<String>,
    /// What breaks when it dies, in people's words.
    pub used_by: Vec<String>,
    /// Where the new secret has to go.
    pub renewal_note: Option<String>,
    /// Free labels, at most 8.
    pub labels: BTreeMap<String, String>,
    /// Who is told whatever the routes say, its own receivers or those of its platform; empty is by the routes.
    pub receivers: Vec<Arc<str>>,
}

/// What a credential is.
#[derive(Debug, Clone)]
pub enum CredentialKind {
    /// An ECE API key.
    ApiKey(SecretSource),
    /// A bearer token: a session that somebody else opened.
    BearerToken(SecretSource),
    /// A user's name and password.
    Login {
        /// The name of the user in ECE.
        username: String,
        /// Where the password is read.
        password: SecretSource,
    },
    /// The license of the platform, read with this key.
    License(BorrowedKey),
    /// Certificates of the platform.
    Certificate(Certificate),
    /// A list of what expires: the keys of the platform, or the contents of its deployments.
    Inventory(Arc<Inventory>),
}

/// The key of a credential, with which something else than that credential is read.
#[derive(Debug, Clone)]
pub struct BorrowedKey {
    /// The name of the credential, of the same platform.
    pub credential: Arc<str>,
    /// Where its key is read.
    pub source: SecretSource,
}

/// Whose certificates are watched. Of a chain, the one that expires first counts.
#[derive(Debug, Clone)]
pub enum Certificate {
    /// The chains that the coordinators present.
    Endpoint,
    /// The chain that ECE has stored for one of its services.
    Service {
        /// Which service.
        service: TlsService,
        /// The key with which it is read.
        key: BorrowedKey,
    },
}

/// A service of ECE with certificates of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsService {
    /// The Cloud UI, which is the API too.
    Ui,
    /// The proxies before the deployments.
    Proxy,
    /// The admin console.
    AdminConsole,
    /// The internal authority.
    InternalCa,
}

impl TlsService {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ui, Self::Proxy, Self::AdminConsole, Self::InternalCa];

    /// Its name in the API of ECE: `ui`, `proxy`, `adminconsole`, `internalca`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ui => "ui",
            Self::Proxy => "proxy",
            Self::AdminConsole => "adminconsole",
            Self::InternalCa => "internalca",
        }
    }
}

/// How a probe that failed, or that needs confirmation, is followed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowUp {
    /// Soon, before the schedule's next run.
    Soon,
    /// By the schedule only: each attempt with a wrong password counts towards the lock of an account.
    BySchedule,
}

impl CredentialKind {
    /// The label of an API key.
    pub const API_KEY: &'static str = "api_key";
    /// The label of a bearer token.
    pub const BEARER_TOKEN: &'static str = "bearer_token";
    /// The label of a login, whose expiry is not a thing to know.
    pub const LOGIN: &'static str = "login";
    /// The label of the license.
    pub const LICENSE: &'static str = "license";
    /// The label of a certificate.
    pub const CERTIFICATE: &'static str = "certificate";
    /// The label of a list of keys, which has no expiry of its own.
    pub const INVENTORY: &'static str = "inventory";

    /// The label of the list of what expires inside the deployments, which has no expiry of its own.
    pub const DEPLOYMENTS: &'static str = "deployments";
    /// The labels of the kinds whose expiry is not a thing to know.
    pub const WITHOUT_EXPIRY: [&'static str; 3] = [Self::LOGIN, Self::INVENTORY, Self::DEPLOYMENTS];

    /// The label value: `api_key`, `bearer_token`, `login`, `license`, `certificate`, `inventory`, `deployments`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => Self::API_KEY,
            Self::BearerToken(_) => Self::BEARER_TOKEN,
            Self::Login { .. } => Self::LOGIN,
            Self::License(_) => Self::LICENSE,
            Self::Certificate(_) => Self::CERTIFICATE,
            Self::Inventory(it) => match it.scope {
                InventoryScope::Keys(_) => Self::INVENTORY,
                InventoryScope::Deployments(_) => Self::DEPLOYMENTS,
            },
        }
    }

    /// The key of another credential with which it is read.
    pub fn borrowed_key(&self) -> Option<&BorrowedKey> {
        match self {
            Self::License(key) | Self::Certificate(Certificate::Service { key, .. }) => Some(key),
            Self::Inventory(inventory) => Some(&inventory.key),
            Self::ApiKey(_)
            | Self::BearerToken(_)
            | Self::Login { .. }
            | Self::Certificate(Certificate::Endpoint) => None,
        }
    }

    /// How a probe of it is followed up.
    pub fn follow_up(&self) -> FollowUp {
        match self {
            Self::ApiKey(_)
            | Self::BearerToken(_)
            | Self::License(_)
            | Self::Certificate(_)
            | Self::Inventory(_) => FollowUp::Soon,
            Self::Login { .. } => FollowUp::BySchedule,
        }
    }
}

/// A named set of channels.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// Its name; label `receiver`.
    pub name: Arc<str>,
    /// Its mail channels, in the order of the file.
    pub emails: Vec<EmailConfig>,
    /// Its webhook channels, in the order of the file.
    pub webhooks: Vec<WebhookConfig>,
    /// Its Alertmanagers, in the order of the file.
    pub alertmanagers: Vec<AlertmanagerConfig>,
    /// The receiver that is told what cannot be delivered to this one; another one.
    pub fallback: Option<Arc<str>>,
}

impl Receiver {
    /// The mail channel of this name. Rows of an older store know a channel by its position.
    pub fn email(&self, name: &str) -> Option<&EmailConfig> {
        let named = self.emails.iter().find(|it| &*it.name == name);
        named.or_else(|| self.emails.get(name.parse::<usize>().ok()?))
    }

    /// The webhook of this name. Rows of an older store know a channel by its position.
    pub fn webhook(&self, name: &str) -> Option<&WebhookConfig> {
        let named = self.webhooks.iter().find(|it| &*it.name == name);
        named.or_else(|| self.webhooks.get(name.parse::<usize>().ok()?))
    }
}

/// A mail channel.
#[derive(Debug, Clone)]
pub struct EmailConfig {
    /// Its name among those of its receiver: the server, `smtp.example.org:587`.
    pub name: Arc<str>,
    /// The recipients; one envelope each.
    pub to: Vec<String>,
    /// The sender, `Name <address>` or an address.
    pub from: String,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<String>,
    /// The mail server's host.
    pub host: String,
    /// The mail server's port.
    pub port: u16,
    /// The name given in EHLO; the host name of this machine without it.
    pub hello: Option<String>,
    /// How the connection is encrypted.
    pub encryption: SmtpEncryption,
    /// How the server is checked.
    pub tls: TlsConfig,
    /// User name and password; the server's choice of PLAIN and LOGIN.
    pub auth: Option<SmtpAuth>,
    /// The deadline of one attempt, greeting to answer.
    pub timeout: Duration,
}

/// How the connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpEncryption {
    /// STARTTLS, required: without it the attempt fails.
    Starttls,
    /// TLS from the first byte (port 465).
    Implicit,
    /// None; asked for in so many words.
    None,
}

/// User and password for a mail server.
#[derive(Debug, Clone)]
pub struct SmtpAuth {
    /// The user name.
    pub username: String,
    /// Where the password is read before each connection.
    pub password: SecretSource,
}

/// A webhook channel.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Its name among those of its receiver: that of the file or variable of the URL, or of its secret.
    pub name: Arc<str>,
    /// What the messages look like.
    pub format: WebhookFormat,
    /// The settings of the format, its defaults included.
    pub params: BTreeMap<String, String>,
    /// Where the secret in the body is read, if the format has one.
    pub secret: Option<SecretSource>,
    /// The most alerts in one message of Alertmanager's format; 0 is all.
    pub max_alerts: usize,
    /// Where the URL is read; its path and query may be a secret, so it is one. `None` is the URL of the format.
    pub url: Option<SecretSource>,
    /// Plain HTTP is allowed (it always is to this machine itself).
    pub allow_http: bool,
    /// Signing secrets (`whsec_…`), newest first; empty is unsigned. Several sign one message during a rotation.
    pub signing_secrets: Vec<SecretSource>,
    /// How the server is checked.
    pub tls: TlsConfig,
    /// Bearer token or another `Authorization` value: scheme and where its credentials are read.
    pub authorization: Option<(String, SecretSource)>,
    /// HTTP proxy; without it none is used.
    pub proxy_url: Option<String>,
    /// Extra request headers.
    pub http_headers: Vec<(String, String)>,
    /// The deadline of one attempt, connect to the end of the answer.
    pub timeout: Duration,
}

impl Config {
    /// Reads and checks the file at `path`, and that the files and variables it names are there.
    ///
    /// # Errors
    /// Everything that is wrong with it, all at once. No message holds a secret.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let wrong = |message: String, hint| Err(ConfigErrors::of_file(path, message, hint));
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|it| it.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return wrong(
                format!("cannot read this file: {}", check::reason(&error)),
                "name another with --config.file",
            );
        }
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&text, path),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = valid.split(|byte| *byte == b'\n').count();
                wrong(format!("line {line} is not UTF-8 text"), "save the file as UTF-8")
            }
        }
    }

    /// Checks the text of a configuration file. `origin` is where it was read: messages begin with it, and relative
    /// paths begin at its folder. Looks at the files and variables that the text names.
    ///
    /// # Errors
    /// Everything that is wrong with it, all at once. No message holds a secret.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, ConfigErrors> {
        let wrong =
            |message: &str, hint| Err(ConfigErrors::of_file(origin, message.to_owned(), hint));
        if usize::try_from(FILE_BYTES_MAX).is_ok_and(|max| max < text.len()) {
            return wrong(
                "is larger than 16 MiB",
                "a configuration is far smaller; is this the right file?",
            );
        }
        let root = match yaml::parse(text) {
            Ok(Some(root)) => root,
            Ok(None) => {
                return wrong("is empty", "at least `platforms` is needed; see config.example.yml");
            }
            Err(error) => return Err(ConfigErrors::of_syntax(origin, error)),
        };
        let (reader, config) = decode::decode(&root, origin);
        match config {
            Some(mut config) if reader.problems.list.is_empty() => {
                config.warnings = reader.problems.warnings;
                Ok(config)
            }
            _ => Err(ConfigErrors::new(origin, reader.problems.list)),
        }
    }

    /// The configuration in effect as YAML that `parse` reads again, with what is inherited and the defaults written
    /// out. Secrets are not in it, only where they are read; values of extra headers are `<secret>`.
    pub fn to_yaml(&self) -> String {
        print::print(self)
    }

    /// Where an alert with these labels goes: the ends of the routing tree in the order of the file, no receiver twice.
    /// `shortcut` (the `receivers` of a credential or platform) takes the place of the tree if it is not empty; the
    /// grouping and the mutes of the root hold for it, or the defaults without a `route`. Empty if nobody is told.
    pub fn ways<'a>(
        &'a self,
        labels: &BTreeMap<String, String>,
        shortcut: impl IntoIterator<Item = &'a Arc<str>>,
    ) -> Vec<Way<'a>> {
        routes::ways(self.route.as_deref(), labels, shortcut)
    }

    /// Every credential with its platform, in the order of the file.
    pub fn credentials(&self) -> impl Iterator<Item = (&Arc<Platform>, &Arc<Credential>)> {
        self.platforms
            .iter()
            .flat_map(|platform| platform.credentials.iter().map(move |it| (platform, it)))
    }
}
