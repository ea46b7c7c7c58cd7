//! The certificates that a server presents, read for people, and drawn.
//!
//! Nothing is verified here; whether a chain is accepted is decided by `tls`.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::observation::platform::instant;
use crate::tls;

/// How many names of a certificate are shown; one of a public site may have hundreds.
const NAMES_SHOWN_MAX: usize = 20;
/// Characters in a line of PEM.
const PEM_COLUMNS: usize = 64;

/// One certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// SHA-256 of the DER, in lower-case hexadecimal.
    pub sha256: String,
    /// The certificate itself.
    pub der: Vec<u8>,
    /// What it says; `None` if it cannot be read.
    pub facts: Option<Facts>,
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whose it is, e.g. `CN=elastic ce master`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// From when it is valid.
    pub not_before: DateTime<Utc>,
    /// Until when it is valid.
    pub not_after: DateTime<Utc>,
    /// DNS names and addresses that it holds.
    pub names: Vec<String>,
}

impl Certificate {
    pub(super) fn read(der: Vec<u8>) -> Self {
        Self { sha256: tls::fingerprint(&der), facts: facts(&der), der }
    }

    /// It in PEM.
    pub fn pem(&self) -> String {
        let encoded = STANDARD.encode(&self.der);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in encoded.as_bytes().chunks(PEM_COLUMNS) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem + "-----END CERTIFICATE-----\n"
    }

    /// Whose it is.
    pub(super) fn subject(&self) -> &str {
        self.facts.as_ref().map_or("a certificate that cannot be read", |it| &it.subject)
    }

    /// A DNS name of it that a client can look for, or else an address.
    pub(super) fn usable_name(&self) -> Option<&str> {
        let names = &self.facts.as_ref()?.names;
        let is_host = |it: &&String| {
            !it.contains('*') && it.parse::<std::net::IpAddr>().is_err() && *it != "localhost"
        };
        names.iter().find(is_host).or(names.iter().find(|it| !it.contains('*'))).map(String::as_str)
    }
}

fn facts(der: &[u8]) -> Option<Facts> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let signed = certificate.tbs_certificate();
    let names = match signed.get_extension::<SubjectAltName>() {
        Ok(Some((_, SubjectAltName(names)))) => {
            // ECE writes an address twice, as a name and as an address.
            let mut seen = BTreeSet::new();
            names.iter().filter_map(name).filter(|it| seen.insert(it.clone())).collect()
        }
        Ok(None) | Err(_) => Vec::new(),
    };
    Some(Facts {
        subject: visible(&signed.subject().to_string()),
        issuer: visible(&signed.issuer().to_string()),
        not_before: instant(signed.validity().not_before)?,
        not_after: instant(signed.validity().not_after)?,
        names,
    })
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(visible(name.as_str())),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
            v4.or_else(|_| v6()).ok().map(|it| it.to_string())
        }
        _ => None,
    }
}

/// A certificate comes from strangers: no control characters on the terminal.
fn visible(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '?' } else { it }).collect()
}

/// The chain as a small tree, the server's own certificate first, a line each.
pub(super) fn tree(chain: &[Certificate], now: DateTime<Utc>) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, certificate) in chain.iter().enumerate() {
        let indent = "   ".repeat(index.saturating_sub(1));
        let (branch, trunk) = match index {
            0 => (String::new(), String::new()),
            _ => (format!("{indent}└─ "), format!("{indent}   ")),
        };
        lines.push(format!("{branch}{}. {}", index + 1, certificate.subject()));
        let Some(facts) = &certificate.facts else { continue };
        let by = if facts.issuer == facts.subject {
            "signed by itself".to_owned()
        } else {
            format!("signed by {}", facts.issuer)
        };
        lines.push(format!("{trunk}   {by}"));
        let (from, to) = (facts.not_before.format("%F"), facts.not_after.format("%F"));
        let left = (facts.not_after - now).num_days();
        let state = match (now < facts.not_before, facts.not_after <= now) {
            (true, _) => "NOT VALID YET".to_owned(),
            (_, true) => "EXPIRED".to_owned(),
            _ => format!("{left} days left"),
        };
        lines.push(format!("{trunk}   valid {from} to {to}, {state}"));
        if index == 0 {
            let shown: Vec<&str> =
                facts.names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect();
            let more = match facts.names.len().saturating_sub(NAMES_SHOWN_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let names = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
            lines.push(format!("{trunk}   for the names {names}{more}"));
        }
        lines.push(format!("{trunk}   SHA-256 {}", certificate.sha256));
    }
    lines
}
