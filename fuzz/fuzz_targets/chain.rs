//! Any bytes as ECE's answer about the certificates of a service: never a panic, whatever the body, the PEM texts in it
//! or the certificates in those are; and never a date later than the one that ECE gives beside them.
//!
//! The first byte says what the rest is: a body, a PEM text, a certificate in DER, or changes to a real one.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use ece_expiry_exporter::observation::platform::service_expiry;
use libfuzzer_sys::fuzz_target;

/// A self-signed certificate of no use; changes to it reach what random bytes never would.
const CERTIFICATE: &[u8] = include_bytes!("../seeds/certificate.der");

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => drop(service_expiry(rest)),
        1 => ask(&String::from_utf8_lossy(rest)),
        2 => ask(&pem(rest)),
        _ => ask(&pem(&changed(rest))),
    }
});

/// The certificate with bytes replaced: triples of a place and a byte.
fn changed(changes: &[u8]) -> Vec<u8> {
    let mut der = CERTIFICATE.to_vec();
    for triple in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([triple[0], triple[1]])) % der.len();
        der[at] = triple[2];
    }
    der
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

fn ask(text: &str) {
    let chain = serde_json::json!([text]);
    let alone = service_expiry(serde_json::json!({"chain": chain}).to_string().as_bytes());
    if let Some(at) = alone {
        let _ = (at.to_rfc3339(), at.format("%F %R").to_string());
    }
    let told = DateTime::from_timestamp(1_804_118_400, 0).expect("this is in the year 2027");
    let status = serde_json::json!({"expiration_date": told.to_rfc3339()});
    let body = serde_json::json!({"chain": chain, "chain_status": status});
    let both = service_expiry(body.to_string().as_bytes());
    assert_eq!(both, Some(alone.map_or(told, |it| it.min(told))));
}
