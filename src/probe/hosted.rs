//! Probes of Elastic Cloud Hosted, which knows no `GET /api/v1/user`.
//!
//! Its list of the organization's keys is asked: it is small, and tells the expiry in its body too, not only in the
//! header. Where the key may not list keys, an answer about the deployments brings the header.

use chrono::{DateTime, Utc};

use super::key::Key;
use super::page::Page;
use super::{Coordinator, Prober, Sight, failure};
use crate::config::Flavor;
use crate::observation::answer::{self, KeyListing, Meaning, Sent};
use crate::observation::{Failure, FailureReason, Reading};

/// What an answer is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The user whose key it is.
    User,
    /// The keys of the organization.
    Keys,
    /// The deployments; of a large answer the body is left out.
    Deployments,
}

impl Prober {
    /// The answer from which a probe with a key reads the expiry.
    pub(super) async fn first_page(
        &self,
        coordinator: &Coordinator,
        key: &Key,
        now: fn() -> DateTime<Utc>,
    ) -> Result<(About, Page), Failure> {
        if self.flavor == Flavor::Ece {
            return Ok((About::User, self.get(coordinator, &coordinator.user, key, now).await?));
        }
        let keys = self.get(coordinator, &coordinator.keys, key, now).await?;
        match self.meaning(&keys, now()) {
            Meaning::Failed(failure) => match failure.reason {
                FailureReason::Forbidden | FailureReason::NotFound => {}
                _ => return Ok((About::Keys, keys)),
            },
            Meaning::Told(_) | Meaning::NotReported => return Ok((About::Keys, keys)),
        }
        let answer = self.send(coordinator, &coordinator.deployments, key, now).await?;
        let mut page = answer.beginning().await?;
        page.rest = page.rest.max(keys.rest);
        Ok((About::Deployments, page))
    }

    /// What the answer to a request with a key means.
    pub(super) fn meaning(&self, page: &Page, now: DateTime<Utc>) -> Meaning {
        if self.flavor == Flavor::Ece {
            return page.meaning(Sent::Key, now);
        }
        match page.meaning(Sent::HostedKey, now) {
            // Few may list keys, so that this one may not is no fault: it was accepted, and its expiry told.
            Meaning::Failed(Failure {
                reason: FailureReason::Forbidden,
                reading: Some(reading),
                ..
            }) => Meaning::Told(reading),
            other => other,
        }
    }

    /// Asks when a key of Elastic Cloud Hosted expires.
    pub(super) async fn ask_hosted(
        &self,
        coordinator: &Coordinator,
        key: &Key,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let (about, page) = match self.first_page(coordinator, key, now).await {
            Ok(answer) => answer,
            Err(failure) => return Sight::failed(failure),
        };
        let (key_id, result) = match self.meaning(&page, now()) {
            Meaning::Told(reading) => (None, Ok(reading)),
            Meaning::NotReported if about == About::Keys => listed(&page, key),
            Meaning::NotReported => {
                (None, Err(not_told("this key may not list the organization's keys")))
            }
            // A form of date that is not known, of which the list may hold a better one.
            Meaning::Failed(failure)
                if failure.reason == FailureReason::HeaderInvalid && about == About::Keys =>
            {
                let (key_id, result) = listed(&page, key);
                (key_id, result.or(Err(failure)))
            }
            Meaning::Failed(failure) => (None, Err(failure)),
        };
        Sight { key_id, ..Sight::of(&page, result) }
    }
}

/// The id and the expiry of `key` in the list of keys that `page` is.
fn listed(page: &Page, key: &Key) -> (Option<String>, Result<Reading, Failure>) {
    let why = match key.id.as_deref() {
        // The only key of a list need not be this one: the list is that of an organization.
        None => "the key does not show its id, by which it could be found in the list of keys",
        Some(id) => match answer::expiry_in_keys(&page.body, Some(id), page.date()) {
            KeyListing::Found { id, reading } => return (Some(id), Ok(reading)),
            KeyListing::NotListed | KeyListing::Ambiguous => {
                "its list of keys does not hold this one"
            }
            KeyListing::Unreadable => "its list of keys is not the expected JSON",
        },
    };
    (None, Err(not_told(why)))
}

fn not_told(why: &str) -> Failure {
    let message = format!(
        "Elastic Cloud answered without the header X-Elastic-Api-Key-Expiration, and {why}; check whether a proxy strips \
         the header, and look the expiry up in the Elastic Cloud Console under Organization > API keys."
    );
    failure(FailureReason::HeaderMissing, message)
}
