//! Why there was no answer: the errors of DNS, TCP, TLS and HTTP as failures of a probe.
//!
//! Works on types where the libraries have them. Answers that did arrive are `observation::answer`'s business.

use std::io;
use std::time::Duration;

use reqwest::Url;

use super::{authority, failure};
use crate::observation::{Failure, FailureReason};
use crate::tls;

/// The way to one coordinator, as far as a message needs to know it.
pub(super) struct Transport {
    host: String,
    way: String,
    is_tls: bool,
    connect_max: Duration,
}

impl Transport {
    /// The way to the host of `url`, through the proxy `via` if there is one.
    pub(super) fn new(url: &Url, via: Option<&str>, connect_max: Duration) -> Self {
        let host = authority(url);
        let way = match via {
            Some(proxy) => format!("{host} (through the proxy {proxy})"),
            None => host.clone(),
        };
        Self { host, way, is_tls: url.scheme() == "https", connect_max }
    }

    /// Host and port of the coordinator.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The failure of a coordinator that stayed silent.
    pub(super) fn no_answer_within(&self, share: Duration) -> Failure {
        let message = format!(
            "{} did not answer within {} ms; check that ECE is up, and raise probe_timeout if it is only slow.",
            self.way,
            share.as_millis()
        );
        failure(FailureReason::Timeout, message)
    }

    /// The failure that `error` is.
    pub(super) fn failure(&self, error: &reqwest::Error) -> Failure {
        let way = &self.way;
        if let Some(error) = tls::error_in(error) {
            let message = format!("{way}: {}.", tls::explain(error));
            return failure(FailureReason::Tls, message);
        }
        let cause = root_cause(error);
        if error.is_dns() {
            let message = format!(
                "The name of {way} does not resolve ({cause}); check the URL and the DNS of this machine."
            );
            return failure(FailureReason::Dns, message);
        }
        if error.is_timeout() {
            let message = format!(
                "No connection to {way} within {} ms; check that ECE is up and that no firewall drops packets.",
                self.connect_max.as_millis()
            );
            return failure(FailureReason::Timeout, message);
        }
        if error.is_connect() {
            return self.no_connection(error, &cause);
        }
        let what = match (hyper_error(error), io_kind(error)) {
            (Some(hyper), _) if hyper.is_incomplete_message() => {
                "closed the connection in the middle of its answer".to_owned()
            }
            (Some(hyper), _) if hyper.is_parse() => {
                format!(
                    "answered something else than HTTP ({cause}); check the scheme and port of the URL"
                )
            }
            (_, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)) => {
                "reset the connection in the middle of its answer".to_owned()
            }
            _ => format!("broke off its answer ({cause})"),
        };
        let message =
            format!("{way} {what}. If it stays, look at ECE and at what stands before it.");
        failure(FailureReason::Protocol, message)
    }

    fn no_connection(&self, error: &reqwest::Error, cause: &str) -> Failure {
        let way = &self.way;
        match io_kind(error) {
            // TCP does not end like this before it is established; TLS does, when the server hangs up.
            Some(
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) if self.is_tls => {
                let message = format!(
                    "{way} closed the connection during the TLS handshake ({cause}); check that the port speaks \
                     TLS and whether it requires a client certificate."
                );
                failure(FailureReason::Tls, message)
            }
            Some(io::ErrorKind::ConnectionRefused) => {
                let message = format!(
                    "{way} refused the connection; check that ECE is up and that the port is right (12443 for TLS)."
                );
                failure(FailureReason::Connect, message)
            }
            _ => {
                let message = format!(
                    "No connection to {way} ({cause}); check the network between this machine and ECE."
                );
                failure(FailureReason::Connect, message)
            }
        }
    }
}

/// The innermost text. The outer ones of `reqwest` repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    tls::causes(error).last().map_or_else(String::new, ToString::to_string)
}

fn hyper_error(error: &reqwest::Error) -> Option<&hyper::Error> {
    tls::causes(error).find_map(|it| it.downcast_ref())
}

/// The kind of the innermost I/O error; the outer ones wrap it as `Other`.
fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    tls::causes(error).filter_map(|it| it.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}
