//! What ECE says about its own license and certificates. Pure.
//!
//! Only the dates are read. The signature of a license, which is sensitive, has no place in any type here, so it is
//! dropped with the body. The `cluster_licenses` beside it are left out on purpose: they run for three months, and ECE
//! renews them itself within their last month, so alerts at 30 days would cry wolf four times a year.

use chrono::{DateTime, Utc};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::time::Time;

use super::header::{self, Expiration};

/// The most certificates of one answer that are read; a chain has three.
const CHAIN_MAX: usize = 32;

/// The expiry of the platform's license in the answer of `GET /platform/license`; `None` if it does not tell one.
pub fn license_expiry(body: &[u8]) -> Option<DateTime<Utc>> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let expiry = answer.get("license")?.get("expiry_date_in_millis")?;
    DateTime::from_timestamp_millis(expiry.as_i64().filter(|it| 0 < *it)?)
}

/// When the first certificate of a service expires, from the answer of
/// `GET /platform/configuration/security/tls/{service}`: by the date that ECE gives, if it does, and by the
/// certificates themselves. `None` if neither can be read.
pub fn service_expiry(body: &[u8]) -> Option<DateTime<Utc>> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let told = answer.get("chain_status").and_then(|it| it.get("expiration_date"));
    let told = match told.and_then(Value::as_str).map(|it| header::read_text(it, None)) {
        Some(Expiration::At { at, .. }) => Some(at),
        _ => None,
    };
    let texts = answer.get("chain").and_then(Value::as_array).map(Vec::as_slice);
    let texts = texts.unwrap_or_default().iter().filter_map(Value::as_str).take(CHAIN_MAX);
    let chain: Result<Vec<_>, _> =
        texts.flat_map(|it| CertificateDer::pem_slice_iter(it.as_bytes())).collect();
    let seen = chain.ok().and_then(|it| chain_expiry(&it));
    told.into_iter().chain(seen).min()
}

/// When the first certificate of a chain expires; `None` if one cannot be read, or if there is none.
pub fn chain_expiry(chain: &[CertificateDer<'_>]) -> Option<DateTime<Utc>> {
    let expiries: Option<Vec<_>> =
        chain.iter().take(CHAIN_MAX).map(|it| certificate_expiry(it)).collect();
    expiries?.into_iter().min()
}

/// The `notAfter` of a certificate in DER.
fn certificate_expiry(der: &[u8]) -> Option<DateTime<Utc>> {
    // `Raw` because odd serial numbers are no reason not to read a date.
    let certificate = CertificateInner::<Raw>::from_der(der).ok()?;
    instant(certificate.tbs_certificate().validity().not_after)
}

/// A date of a certificate.
pub(crate) fn instant(time: Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(time.to_unix_duration().as_secs()).ok()?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_license_needs_its_date_and_nothing_else() {
        let cases: [(&str, Option<&str>); 7] = [
            (
                r#"{"license":{"expiry_date_in_millis":1798761599999}}"#,
                Some("2026-12-31T23:59:59.999Z"),
            ),
            (
                r#"{"license":{"expiry_date_in_millis":1798761599999,"type":null,"new":[1],"signature":"s",
                   "cluster_licenses":[{"license":{"expiry_date_in_millis":1}}]},"usage_stats":null}"#,
                Some("2026-12-31T23:59:59.999Z"),
            ),
            (r#"{"license":{"expiry_date_in_millis":null}}"#, None),
            (r#"{"license":{"expiry_date_in_millis":0}}"#, None),
            (r#"{"license":null}"#, None),
            ("[]", None),
            ("", None),
        ];
        for (body, expected) in cases {
            assert_eq!(license_expiry(body.as_bytes()), expected.map(utc), "{body}");
        }
    }

    #[test]
    fn a_service_is_read_with_or_without_the_date_that_ece_gives() {
        let told = r#"{"user_supplied":false,"chain":[],"chain_status":
            {"expiration_date":"2027-03-04T00:00:00.000Z","first_certificate_to_expire":"CN=x"}}"#;
        assert_eq!(service_expiry(told.as_bytes()), Some(utc("2027-03-04T00:00:00Z")));
        for body in [
            r#"{"chain":null,"chain_status":null}"#,
            r#"{"chain":[null,"no certificate"],"chain_status":{"expiration_date":null}}"#,
            r#"{"chain":["-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"]}"#,
            "{}",
        ] {
            assert_eq!(service_expiry(body.as_bytes()), None, "{body}");
        }
    }
}
