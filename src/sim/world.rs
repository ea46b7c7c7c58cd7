//! What the simulated ECE knows: its keys, whose they are, and what goes wrong at the moment.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Days, SecondsFormat, TimeDelta, Utc};

use super::{Hosted, ProxyFor, Sessions, SimDeployment, hosted};

/// How long a key lives that ECE makes without being told: three months.
const KEY_DAYS: u64 = 90;

/// The state of a simulated platform. Several [`super::Ece`] may share one: the coordinators of one installation.
#[derive(Debug, Default)]
pub struct World {
    keys: Vec<SimKey>,
    by_encoded: HashMap<String, usize>,
    /// Makes it Elastic Cloud Hosted; set it before keys are added, which then are of its form.
    pub hosted: Option<Hosted>,
    pub(super) windows: hosted::Windows,
    /// Users with passwords, and their sessions.
    pub sessions: Sessions,
    /// What goes wrong for everybody.
    pub fault: Fault,
    /// How far the platform's clock is ahead of the true time; shows in `Date` and decides when a key is expired.
    pub clock_offset: TimeDelta,
    /// The license; without it, the call answers 404.
    pub license: Option<License>,
    /// The deployments.
    pub deployments: Vec<SimDeployment>,
    /// Who may send requests to deployments.
    pub proxy_for: ProxyFor,
    /// What the call about the certificates of a service answers, by service; see [`World::set_service`].
    pub services: BTreeMap<String, serde_json::Value>,
}

/// The license of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// Until when it is valid.
    pub expires: DateTime<Utc>,
    /// Its signature, which nobody may keep.
    pub signature: String,
}

/// One API key.
#[derive(Debug, Clone)]
pub struct SimKey {
    /// The user that owns it.
    pub user: String,
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// Its secret part.
    pub secret: String,
    /// The name its owner gave it; the methods of [`World`] find a key by it.
    pub description: String,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it expires.
    pub expires: Expires,
    /// Whether it was revoked.
    pub state: KeyState,
    /// What its owner may do.
    pub role: Role,
    /// How the platform writes its expiry into the response header.
    pub header: HeaderMode,
    /// What goes wrong for this key alone; a fault of the world comes first.
    pub fault: Fault,
}

/// When a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expires {
    /// At this instant: from then on ECE answers 401.
    At(DateTime<Utc>),
    /// Never.
    Never,
}

/// Whether a key was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It works until it expires.
    Active,
    /// Its owner deleted it: 401, and no list shows it.
    Revoked,
}

/// What the owner of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See deployments and the own keys, but not the platform.
    DeploymentViewer,
    /// See and change deployments, but not see the platform.
    DeploymentManager,
    /// See the platform and the own keys.
    Viewer,
    /// See the keys of all users too.
    Admin,
}

/// How the header `X-Elastic-Api-Key-Expiration` is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMode {
    /// `2026-02-21T09:15:30.123Z`.
    Rfc3339Millis,
    /// `2026-02-21T09:15:30Z`.
    Rfc3339Seconds,
    /// `Sat, 21 Feb 2026 09:15:30 GMT`.
    Imf,
    /// Milliseconds since the Unix epoch.
    EpochMs,
    /// Left out, as an old ECE or a proxy in front does.
    NoHeader,
    /// These bytes, one header line for each, also for a key that never expires. Bytes that HTTP cannot carry
    /// (control characters) become `?`.
    Raw(Vec<Vec<u8>>),
}

/// What goes wrong. All but `Forbidden` come before the key is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// This status with this body.
    Status(u16, ErrorBody),
    /// 502 `authc.authentication_cluster_error`: the platform cannot check any key.
    AuthClusterDown,
    /// 501 `authc.no_authentication_cluster`.
    NoAuthCluster,
    /// 200 with an HTML page: a login page of a proxy.
    Html200,
    /// 502 with an HTML page: a balancer without a backend.
    Html502,
    /// 302 to this address.
    Redirect(String),
    /// The request is read and never answered.
    Hang,
    /// The connection ends with a TCP reset instead of an answer.
    Reset,
    /// The body breaks off before its announced length.
    Truncate,
    /// 200 with a JSON body of 10 MB.
    TenMegabytes,
    /// The body comes at one byte a second.
    SlowBody,
    /// 403 with the expiry header: the key is alive, its owner lost rights.
    Forbidden,
    /// 429 with `Retry-After` of so many seconds.
    RateLimited(u32),
}

/// The body of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorBody {
    /// None at all.
    Empty,
    /// ECE's shape, with this code and this message.
    Code(String, String),
    /// An HTML page.
    Html,
    /// This text, sent as `text/plain`.
    Plain(String),
}

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On<'a> {
    /// Every request.
    Everyone,
    /// Requests with the key of this description.
    Key(&'a str),
}

impl SimKey {
    /// A working key of `user` with random id and secret, made three months before it expires.
    pub fn new(user: &str, description: &str, expires: Expires) -> Self {
        let created = match expires {
            Expires::At(at) => {
                at.checked_sub_days(Days::new(KEY_DAYS)).unwrap_or(DateTime::<Utc>::MIN_UTC)
            }
            Expires::Never => DateTime::<Utc>::UNIX_EPOCH + Days::new(51 * 365),
        };
        Self {
            user: user.to_owned(),
            id: format!("{:032x}", fastrand::u128(..)),
            secret: URL_SAFE_NO_PAD.encode(fastrand::u128(..).to_be_bytes()),
            description: description.to_owned(),
            created,
            expires,
            state: KeyState::Active,
            role: Role::Viewer,
            header: HeaderMode::Rfc3339Millis,
            fault: Fault::None,
        }
    }

    /// The same key with this form of header.
    #[must_use]
    pub fn with_header(mut self, header: HeaderMode) -> Self {
        self.header = header;
        self
    }

    /// The same key with this role of its owner.
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// What stands after `Authorization: ApiKey`: base64 of `user:id:secret`.
    pub fn encoded(&self) -> String {
        STANDARD.encode(format!("{}:{}:{}", self.user, self.id, self.secret))
    }

    pub(super) fn header_values(&self) -> Vec<Vec<u8>> {
        let at = match (&self.header, self.expires) {
            (HeaderMode::Raw(lines), _) => return lines.clone(),
            (HeaderMode::NoHeader, _) | (_, Expires::Never) => return Vec::new(),
            (_, Expires::At(at)) => at,
        };
        let value = match self.header {
            HeaderMode::Rfc3339Seconds => at.to_rfc3339_opts(SecondsFormat::Secs, true),
            HeaderMode::Imf => at.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            HeaderMode::EpochMs => at.timestamp_millis().to_string(),
            HeaderMode::Rfc3339Millis | HeaderMode::NoHeader | HeaderMode::Raw(_) => {
                at.to_rfc3339_opts(SecondsFormat::Millis, true)
            }
        };
        vec![value.into_bytes()]
    }

    pub(super) fn works_at(&self, now: DateTime<Utc>) -> Works {
        match (self.state, self.expires) {
            (KeyState::Revoked, _) => Works::No,
            (KeyState::Active, Expires::At(at)) if at <= now => Works::No,
            (KeyState::Active, _) => Works::Yes,
        }
    }
}

/// Whether a key authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Works {
    Yes,
    No,
}

impl World {
    /// Adds a key and returns its encoded form, the secret of the credential.
    pub fn add_key(&mut self, key: SimKey) -> String {
        let encoded = if self.hosted.is_some() { hosted::encoded(&key) } else { key.encoded() };
        self.by_encoded.insert(encoded.clone(), self.keys.len());
        self.keys.push(key);
        encoded
    }

    /// The newest key of this description; an error that names it if there is none. The caller may change all but
    /// `user`, `id` and `secret`, by which requests find the key.
    pub fn key(&mut self, description: &str) -> anyhow::Result<&mut SimKey> {
        self.keys
            .iter_mut()
            .rev()
            .find(|key| key.description == description)
            .with_context(|| format!("the simulated ECE has no key {description:?}"))
    }

    /// Replaces the newest key of this description as its owner would: makes a new one that lives three months from
    /// `now`, revokes the old one, and returns the new one's encoded form.
    pub fn renew(&mut self, description: &str, now: DateTime<Utc>) -> anyhow::Result<String> {
        let old = self.key(description)?;
        old.state = KeyState::Revoked;
        let fresh = SimKey::new(&old.user, description, Expires::At(now + Days::new(KEY_DAYS)));
        let fresh = fresh.with_header(old.header.clone()).with_role(old.role);
        Ok(self.add_key(fresh))
    }

    /// Gives a service (`ui`, `proxy`, `adminconsole`, `internalca`) this chain of PEM certificates, and the date that newer
    /// versions of ECE name beside it.
    pub fn set_service(&mut self, name: &str, chain: &[String], status: Option<DateTime<Utc>>) {
        let answer = super::api::platform::service(chain, status);
        self.services.insert(name.to_owned(), answer);
    }

    /// The first deployment of this name; an error that names it if there is none.
    pub fn deployment(&mut self, name: &str) -> anyhow::Result<&mut SimDeployment> {
        self.deployments
            .iter_mut()
            .find(|it| it.name == name)
            .with_context(|| format!("the simulated ECE has no deployment {name:?}"))
    }

    /// Lets something go wrong, or right again with [`Fault::None`].
    pub fn set_fault(&mut self, on: On<'_>, fault: Fault) -> anyhow::Result<()> {
        match on {
            On::Everyone => self.fault = fault,
            On::Key(description) => self.key(description)?.fault = fault,
        }
        Ok(())
    }

    pub(super) fn by_encoded(&self, encoded: &str) -> Option<&SimKey> {
        self.by_encoded.get(encoded).map(|index| &self.keys[*index])
    }

    /// The keys that a list shows: all but the revoked ones.
    pub(super) fn listed(&self) -> impl Iterator<Item = &SimKey> {
        self.keys.iter().filter(|key| key.state == KeyState::Active)
    }
}
