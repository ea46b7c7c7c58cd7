//! Shows what became of messages, and notices what a command has written into the store.
//!
//! A task beside the loop, so that neither waits for the other. It looks every second at how far the store is written,
//! which costs next to nothing, and reads the ledger only if that has changed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;

use crate::status::Board;
use crate::store::{Revision, Store};
use crate::time;

/// The ledger is read for readers no more often than this, and what a command has written waits no longer.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until it is dropped. Wakes the outbox through `owed` when another process has written into the store.
pub(super) async fn run(store: Store, board: Arc<Board>, owed: Arc<Notify>) {
    let mut seen = None;
    loop {
        match look(&store, &board, seen).await {
            Ok(revision) => {
                if seen.is_some_and(|it: Revision| it.by_others != revision.by_others) {
                    tracing::info!(
                        "another program has written into the store, looking at what is due"
                    );
                    owed.notify_one();
                }
                seen = Some(revision);
            }
            Err(error) => tracing::error!("cannot notice what commands write: {error:#}"),
        }
        time::sleep(LOOK_EVERY).await;
    }
}

/// Shows the ledger if it may have changed since it was `seen`; how far it is written now.
async fn look(store: &Store, board: &Board, seen: Option<Revision>) -> anyhow::Result<Revision> {
    let revision = store.revision().await.context("cannot see whether the store has changed")?;
    if seen != Some(revision) {
        show(store, board).await;
    }
    Ok(revision)
}

/// Puts the newest notifications, those that wait and those that are dead onto the board. What cannot be shown is told
/// all the same, so an error ends nothing.
pub(super) async fn show(store: &Store, board: &Board) {
    match store.notifications().await {
        Ok(notifications) => board.set_notifications(notifications),
        Err(error) => {
            tracing::error!("cannot read the ledger, pages show an older one: {error:#}");
        }
    }
}
