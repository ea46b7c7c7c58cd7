//! A simulated ECE, a mailbox and a webhook sink: for the demo and for tests.
//!
//! Everything here speaks real TLS, HTTP and SMTP on real sockets, so the program under test is the one that ships.
//! It is built from public documentation of ECE; nothing in it is ECE's own code, and it does not try to be complete:
//! it answers the calls that tell when a credential expires. Nothing here keeps a secret or resists an attacker:
//! listen on the loopback interface only.

mod api;
mod certificates;
mod clock;
mod deployments;
mod desk;
mod ece;
mod folder;
mod hosted;
mod listener;
mod mailbox;
mod sessions;
mod shelf;
mod sink;
mod world;

pub use certificates::{CertificateOptions, Certificates, Sends};
pub use clock::Clock;
pub use deployments::{InsideOf, ProxyFor, SimDeployment};
pub use desk::{Desk, desk};
pub use ece::{Connections, Ece, EceOptions, HeaderPath, Requests};
pub use folder::Folder;
pub use hosted::Hosted;
pub use mailbox::{Mail, MailFault, MailTls, Mailbox, MailboxOptions};
pub use sessions::{Logins, SessionEnd, Sessions};
pub use sink::{Answer, Hook, Sink, SinkOptions};
pub use world::{
    ErrorBody, Expires, Fault, HeaderMode, KeyState, License, On, Role, SimKey, World,
};
