//! Asks for the list of keys, and reads it piece by piece.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::page::Arriving;
use super::platform::{Borrowed, Wanted};
use super::question::Question;
use super::{Coordinator, Prober, Sight, failure};
use crate::config::{Inventory, KeyScope};
use crate::observation::answer::Meaning;
use crate::observation::listing::{Lister, Listing};
use crate::observation::{Failure, FailureReason, Reading};

/// What the answer should be.
const LIST: &str = "a list of keys";
/// The most that is read of one list: 200,000 keys with long descriptions have less.
const LIST_BYTES_MAX: usize = 256 * 1024 * 1024;

impl Prober {
    /// Reads the key and asks the coordinators in turn.
    pub(super) async fn look_at_list(
        &self,
        inventory: &Inventory,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let key = match self.keys.read_key(&inventory.key.source, self.timeout).await {
            Ok(key) => key,
            Err(failure) => return Sight::failed(failure),
        };
        let borrowed = Borrowed { key: &key, credential: &inventory.key.credential };
        self.ask_in_turn(Question::List(inventory, borrowed, started), started, now).await
    }

    /// Asks one coordinator for the list.
    pub(super) async fn ask_for_list(
        &self,
        coordinator: &Coordinator,
        (inventory, scope): (&Inventory, KeyScope),
        borrowed: Borrowed<'_>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let url = match scope {
            KeyScope::Own => &coordinator.keys,
            KeyScope::All => &coordinator.all_keys,
        };
        let mut answer = match self.send(coordinator, url, borrowed.key, now).await {
            Ok(answer) => answer,
            Err(failure) => return Sight::failed(failure),
        };
        if answer.is_success() {
            let host = coordinator.transport.host();
            return match listed(&mut answer, inventory, host, now()).await {
                Ok(listing) => {
                    let sight = Sight::of(&answer.head(Vec::new()), Ok(Reading::Undated));
                    Sight { listing: Some(Arc::new(listing)), ..sight }
                }
                Err(failure) => Sight::of(&answer.head(Vec::new()), Err(failure)),
            };
        }
        let wanted = (LIST, wanted(scope));
        self.no_success(coordinator, answer, wanted, borrowed, now).await
    }

    /// What an answer says that brings no list, called so and wanted for this.
    pub(super) async fn no_success(
        &self,
        coordinator: &Coordinator,
        answer: Arriving<'_>,
        (list, wanted): (&str, Wanted),
        borrowed: Borrowed<'_>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        let page = match answer.page().await {
            Ok(page) => page,
            Err(failure) => return Sight::failed(failure),
        };
        let why = match page.meaning_without_expiry(now()) {
            Meaning::Failed(it) => self.explained(coordinator, it, &wanted, borrowed, now).await,
            Meaning::Told(_) | Meaning::NotReported => no_list(list, coordinator.transport.host()),
        };
        Sight::of(&page, Err(why))
    }
}

fn wanted(scope: KeyScope) -> Wanted {
    match scope {
        KeyScope::Own => Wanted {
            what: "the list of its keys".to_owned(),
            role: "ece_deployment_viewer",
            operation: "get-api-keys",
        },
        KeyScope::All => Wanted {
            what: "the list of the keys of all users".to_owned(),
            role: "ece_platform_admin",
            operation: "get-users-api-keys",
        },
    }
}

/// Reads the list to its end.
async fn listed(
    answer: &mut Arriving<'_>,
    inventory: &Inventory,
    host: &str,
    now: DateTime<Utc>,
) -> Result<Listing, Failure> {
    let mut lister = Lister::new(&inventory.filter, inventory.keys_max, answer.date(), now);
    answer.each_piece(LIST_BYTES_MAX, "The list of keys", |it| lister.feed(it)).await?;
    let listing = lister.end().ok_or_else(|| no_list(LIST, host))?;
    if listing.listed == 0 {
        // The key that asks is one. Taken at its word, such a list would end every alert.
        let message = format!(
            "{host} lists no key at all, not even the one that asks; check what stands between, and look into the logs \
             of ECE."
        );
        return Err(failure(FailureReason::UnexpectedStatus, message));
    }
    Ok(listing)
}

/// `list` says what was asked for.
pub(super) fn no_list(list: &str, host: &str) -> Failure {
    let message = format!(
        "{host} answers with something else than {list}, or with a part of one. Check that the URL leads to ECE; \
         otherwise please report what it answers."
    );
    failure(FailureReason::UnexpectedStatus, message)
}
