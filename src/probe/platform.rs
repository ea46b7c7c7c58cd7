//! Asks for the license and the certificates of a platform.
//!
//! The license and the chains of services are read through the API, with the key of a credential. The chain of the
//! endpoint is what the coordinators present in a handshake that ends there: no request follows, and no key.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::key::Key;
use super::question::Question;
use super::{Coordinator, Prober, Sight, client, clip, failure, passed};
use crate::config::{BorrowedKey, Certificate, CredentialKind, Platform, TlsService};
use crate::observation::answer::Meaning;
use crate::observation::rights::Rights;
use crate::observation::{Failure, FailureReason, Reading, platform as read};
use crate::tls::{self, PresentedChain};

/// What of the platform is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    /// When the license expires.
    License,
    /// When the certificates of a service expire.
    Service(TlsService),
}

/// What was wanted with a borrowed key, for the words of a failure.
pub(super) struct Wanted {
    /// What would be read: `the license`.
    pub(super) what: String,
    /// A role that may read it.
    pub(super) role: &'static str,
    /// The operation of ECE's API, as it names the permission.
    pub(super) operation: &'static str,
}

impl Subject {
    fn wanted(self) -> Wanted {
        let role = "ece_platform_viewer";
        match self {
            Self::License => {
                Wanted { what: "the license".to_owned(), role, operation: "get-license" }
            }
            Self::Service(service) => Wanted {
                what: format!("the certificates of {}", service.label()),
                role,
                operation: "get-tls-certificate",
            },
        }
    }
}

/// The key with which it is asked, and the credential that it is of.
#[derive(Clone, Copy)]
pub(super) struct Borrowed<'a> {
    pub(super) key: &'a Key,
    pub(super) credential: &'a str,
}

/// Looks at the certificates of the coordinators.
pub(super) struct Looker(reqwest::Client);

impl Looker {
    /// A looker, if `platform` wants one. Reads the files of its TLS settings.
    pub(super) fn new(
        platform: &Platform,
        proxy: Option<&reqwest::Url>,
        connect_max: Duration,
    ) -> anyhow::Result<Option<Self>> {
        let is_endpoint = |kind: &CredentialKind| {
            matches!(kind, CredentialKind::Certificate(Certificate::Endpoint))
        };
        if !platform.credentials.iter().any(|it| is_endpoint(&it.kind)) {
            return Ok(None);
        }
        let proxy_host = proxy.filter(|it| it.scheme() == "https").and_then(reqwest::Url::host_str);
        let tls = tls::client_config_that_looks(&platform.tls, proxy_host)?;
        let client = client(proxy, connect_max)?.tls_backend_preconfigured(tls).build();
        Ok(Some(Self(client.context("cannot build the client that looks")?)))
    }

    async fn chain_expiry(&self, coordinator: &Coordinator) -> Result<DateTime<Utc>, Failure> {
        let host = coordinator.transport.host();
        if coordinator.user.scheme() != "https" {
            let message = format!("{host} has no certificate, because its URL is not https://.");
            return Err(failure(FailureReason::Tls, message));
        }
        let Err(error) = self.0.get(coordinator.user.clone()).send().await else {
            let message = format!("{host} answered without presenting a certificate.");
            return Err(failure(FailureReason::Protocol, message));
        };
        let Some(chain) = tls::error_in(&error).and_then(PresentedChain::in_error) else {
            return Err(coordinator.transport.failure(&error));
        };
        read::chain_expiry(&chain.0).ok_or_else(|| {
            let message = format!(
                "{host} presents a certificate that cannot be read; look at it with: openssl s_client -showcerts \
                 -connect {host}"
            );
            failure(FailureReason::HeaderInvalid, message)
        })
    }
}

impl Prober {
    /// The earliest expiry of the certificates that the coordinators present. All of them have to: otherwise the one
    /// that stays silent could be the one that expires first, and its absence would look like a renewal.
    pub(super) async fn look_at_endpoint(
        &self,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let Some(looker) = &self.looker else {
            let message = "This platform is not set up to look at certificates.".to_owned();
            return Sight::failed(failure(FailureReason::Canceled, message));
        };
        let mut earliest: Option<DateTime<Utc>> = None;
        let mut first_failure = None;
        for (asked, coordinator) in self.coordinators.iter().enumerate() {
            let left = u32::try_from(self.coordinators.len() - asked).unwrap_or(u32::MAX);
            let share = self.timeout.saturating_sub(passed(started, now())) / left;
            let seen = timeout(share, looker.chain_expiry(coordinator)).await;
            match seen.unwrap_or_else(|_| Err(coordinator.transport.no_answer_within(share))) {
                Ok(at) => earliest = Some(earliest.map_or(at, |it| it.min(at))),
                Err(failure) => drop(first_failure.get_or_insert(failure)),
            }
        }
        let result = match (earliest, first_failure) {
            (Some(at), Some(one)) => {
                let message = format!(
                    "Not all coordinators show their certificate; that of the others expires {}. {}",
                    at.format("%F %T UTC"),
                    one.message
                );
                Err(failure(FailureReason::HeaderMissing, message))
            }
            (None, Some(one)) => Err(one),
            (earliest, None) => Ok(Reading::ExpiresAt(earliest.expect("`new` requires a URL"))),
        };
        Sight::without_page(result)
    }

    /// Reads the key and asks the coordinators in turn.
    pub(super) async fn look_at_platform(
        &self,
        subject: Subject,
        borrowed: &BorrowedKey,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let key = match self.keys.read_key(&borrowed.source, self.timeout).await {
            Ok(key) => key,
            Err(failure) => return Sight::failed(failure),
        };
        let borrowed = Borrowed { key: &key, credential: &borrowed.credential };
        self.ask_in_turn(Question::Platform(subject, borrowed), started, now).await
    }

    /// A failure in the words of what was wanted, where those of a key would mislead. Why a 403 came is asked once more,
    /// since the owner's rights tell.
    pub(super) async fn explained(
        &self,
        coordinator: &Coordinator,
        it: Failure,
        wanted: &Wanted,
        Borrowed { key, credential }: Borrowed<'_>,
        now: fn() -> DateTime<Utc>,
    ) -> Failure {
        let Wanted { what, role, operation } = wanted;
        match it.reason {
            FailureReason::Unauthorized => failure(
                FailureReason::BorrowedKeyRejected,
                format!(
                    "ECE does not accept the key of the credential {credential}, with which {what} would be read; renew \
                     that key, and this can be read again."
                ),
            ),
            FailureReason::Forbidden => {
                let page = self.get(coordinator, &coordinator.user, key, now).await;
                let rights = page.ok().and_then(|it| Rights::read(&it.body));
                let why = rights.and_then(|it| it.why_not(operation)).map(|it| format!(" {it}"));
                let message = format!(
                    "The owner of the credential {credential} may not read {what}.{} Give the owner a role that may, such \
                     as {role}, or name another credential, or stop watching this.",
                    why.unwrap_or_default()
                );
                Failure { message: clip(message), ..it }
            }
            _ => it,
        }
    }

    /// Asks one coordinator for the license or a service's certificates.
    pub(super) async fn ask_platform(
        &self,
        coordinator: &Coordinator,
        subject: Subject,
        borrowed: Borrowed<'_>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let path = match subject {
            Subject::License => "license".to_owned(),
            Subject::Service(service) => {
                format!("configuration/security/tls/{}", service.label())
            }
        };
        let url = coordinator.platform.join(&path).expect("a path of ours is one");
        let page = match self.get(coordinator, &url, borrowed.key, now).await {
            Ok(page) => page,
            Err(failure) => return Sight::failed(failure),
        };
        let result = match page.meaning_without_expiry(now()) {
            Meaning::Told(reading) => Ok(reading),
            Meaning::NotReported => match subject {
                Subject::License => read::license_expiry(&page.body),
                Subject::Service(_) => read::service_expiry(&page.body),
            }
            .map(Reading::ExpiresAt)
            .ok_or_else(|| no_date(subject)),
            Meaning::Failed(it)
                if matches!(subject, Subject::License)
                    && it.reason == FailureReason::NotFound
                    && says_no_license(&page.body) =>
            {
                Err(no_license())
            }
            Meaning::Failed(it) => {
                Err(self.explained(coordinator, it, &subject.wanted(), borrowed, now).await)
            }
        };
        Sight::of(&page, result)
    }
}

fn no_date(subject: Subject) -> Failure {
    let what = match subject {
        Subject::License => "a license without a date (expiry_date_in_millis)".to_owned(),
        Subject::Service(service) => {
            format!("certificates of {} that cannot be read", service.label())
        }
    };
    let message = format!(
        "ECE answers with {what}. Look it up in the Cloud UI, and please report what ECE answers."
    );
    failure(FailureReason::HeaderInvalid, message)
}

fn no_license() -> Failure {
    let message = "ECE has no license: none was installed, or the trial has not begun. Install one, or remove `license` \
                   from the configuration.";
    failure(FailureReason::LicenseMissing, message.to_owned())
}

fn says_no_license(body: &[u8]) -> bool {
    let code = b"license.license_not_found";
    body.windows(code.len()).any(|it| it == code)
}
