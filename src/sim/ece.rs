//! The simulated ECE: one coordinator that answers the calls which tell when a key expires.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::Method;
use chrono::{DateTime, Utc};
use rustls::ServerConfig;

use super::listener::{Listener, serve_http};
use super::{Certificates, Clock, Expires, Fault, KeyState, On, SimKey, World, api};

/// The most paths that are counted one by one; requests to further ones count in the total alone.
const PATHS_MAX: usize = 64;

/// How to start an [`Ece`].
#[derive(Debug, Clone)]
pub struct EceOptions {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The chain to show; `None` is plain HTTP.
    pub tls: Option<Certificates>,
    /// The platform that it belongs to; give several the same one for several coordinators.
    pub world: Arc<Mutex<World>>,
    /// What time it is there.
    pub clock: Clock,
    /// Whether the expiry header gets through.
    pub header_path: HeaderPath,
}

/// What stands between a coordinator and its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderPath {
    /// Nothing that touches headers.
    Open,
    /// A proxy that removes the expiry header.
    Stripped,
}

impl Default for EceOptions {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            world: Arc::default(),
            clock: Clock::default(),
            header_path: HeaderPath::Open,
        }
    }
}

/// A running simulated ECE; dropping it closes its port.
#[derive(Debug)]
pub struct Ece {
    listener: Listener,
    coordinator: Arc<Coordinator>,
}

/// What the connections of one coordinator share.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) clock: Clock,
    pub(super) header_path: HeaderPath,
    tls: Mutex<Option<Certificates>>,
    requests: Mutex<Requests>,
}

/// How many requests came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// All of them.
    pub total: u64,
    /// Those that carried an `Authorization` header.
    pub authorized: u64,
    /// By path, without the query; at most 64 paths.
    pub by_path: BTreeMap<String, u64>,
    /// Which there were, like `GET /api/v1/user`; at most 64.
    pub calls: BTreeSet<String>,
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Accepted since the start.
    pub accepted: u64,
    /// Open now.
    pub open: usize,
}

impl Ece {
    /// Starts to listen. Errors if the address cannot be bound.
    pub async fn start(options: EceOptions) -> anyhow::Result<Self> {
        let coordinator = Arc::new(Coordinator {
            world: options.world,
            clock: options.clock,
            header_path: options.header_path,
            tls: Mutex::new(options.tls),
            requests: Mutex::default(),
        });
        let shared = coordinator.clone();
        let listener = Listener::start(options.bind, move |wire, stop| {
            let coordinator = shared.clone();
            async move {
                let (tls, reset) = (coordinator.server_config(), wire.reset());
                serve_http(wire, tls, stop, |request| {
                    api::answer(coordinator.clone(), reset.clone(), request)
                })
                .await;
            }
        })
        .await?;
        Ok(Self { listener, coordinator })
    }

    /// The base URL, with the address and the port but without a path.
    pub fn url(&self) -> String {
        let scheme = if self.coordinator.server_config().is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.listener.addr())
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// The certificate to trust, in PEM; `None` without TLS.
    pub fn ca_pem(&self) -> Option<String> {
        lock(&self.coordinator.tls).as_ref().map(|it| it.ca_pem().to_owned())
    }

    /// Shows another chain from the next connection on; open connections keep theirs.
    pub fn set_certificates(&self, certificates: Certificates) {
        *lock(&self.coordinator.tls) = Some(certificates);
    }

    /// The state of the platform; requests wait while the guard is held.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.coordinator.world)
    }

    /// The platform itself, for a second coordinator of it.
    pub fn share_world(&self) -> Arc<Mutex<World>> {
        self.coordinator.world.clone()
    }

    /// Tells the platform the time; it stands still until told again.
    pub fn set_now(&self, at: DateTime<Utc>) {
        self.coordinator.clock.set(at);
    }

    /// Adds a key and returns its encoded form.
    pub fn add_key(&self, key: SimKey) -> String {
        self.world().add_key(key)
    }

    /// Changes when the newest key of this description expires. Errors if there is none.
    pub fn set_expiry(&self, description: &str, expires: Expires) -> anyhow::Result<()> {
        self.world().key(description)?.expires = expires;
        Ok(())
    }

    /// Revokes the newest key of this description. Errors if there is none.
    pub fn revoke(&self, description: &str) -> anyhow::Result<()> {
        self.world().key(description)?.state = KeyState::Revoked;
        Ok(())
    }

    /// Replaces the newest key of this description by one that lives three months, revokes the old one, and returns
    /// the new one's encoded form. Errors if there is none.
    pub fn renew(&self, description: &str) -> anyhow::Result<String> {
        let now = self.coordinator.clock.now();
        self.world().renew(description, now)
    }

    /// Lets something go wrong, or right again with [`Fault::None`]. Errors if there is no such key.
    pub fn set_fault(&self, on: On<'_>, fault: Fault) -> anyhow::Result<()> {
        self.world().set_fault(on, fault)
    }

    /// The requests of this coordinator so far, also those that were never answered.
    pub fn requests(&self) -> Requests {
        lock(&self.coordinator.requests).clone()
    }

    /// The connections of this coordinator.
    pub fn connections(&self) -> Connections {
        Connections { accepted: self.listener.accepted(), open: self.listener.open() }
    }
}

impl Coordinator {
    fn server_config(&self) -> Option<Arc<ServerConfig>> {
        lock(&self.tls).as_ref().map(Certificates::server_config)
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub(super) fn count(&self, method: &Method, path: &str, authorization: Option<&str>) {
        let mut requests = lock(&self.requests);
        requests.total += 1;
        if requests.calls.len() < PATHS_MAX {
            requests.calls.insert(format!("{method} {path}"));
        }
        requests.authorized += u64::from(authorization.is_some());
        if let Some(count) = requests.by_path.get_mut(path) {
            *count += 1;
        } else if requests.by_path.len() < PATHS_MAX {
            requests.by_path.insert(path.to_owned(), 1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
