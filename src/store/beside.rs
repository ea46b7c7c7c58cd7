//! The store as another process sees it that does not own it: read beside the exporter that runs, and one short write.
//!
//! SQLite lets one process write beside another, and the owner notices it (`Store::revision`). The lock on the folder is
//! not taken: it belongs to whoever sends.

use std::path::Path;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, TransactionBehavior};

use super::history::{self, Extent};
use super::{Resent, open, parcels};
use crate::status::{Notification, Wanted};

/// Messages that one command lets be tried again; more than that is a system that was broken for long, and more than
/// anybody wants to receive at once.
pub const RESEND_MAX: usize = 1_000;

/// Whether a store is opened for reading only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written, not even files of SQLite where nobody else works.
    Read,
    /// For one short write.
    Write,
}

/// The ledger of a store that an exporter may be using.
#[derive(Debug)]
pub struct History(Connection);

impl History {
    /// Opens the ledger in `folder`.
    ///
    /// # Errors
    /// There is no store, it cannot be opened, or it is of another version.
    pub fn open(folder: &Path, access: Access) -> anyhow::Result<Self> {
        let place = folder.display();
        let Some(connection) = open::open_beside(folder, access).with_context(|| {
            format!("cannot open the store in {place}; run this as the user of the exporter")
        })?
        else {
            bail!(
                "there is no store in {place}; name the folder of the exporter with --storage.path"
            )
        };
        open::check_version(&connection)
            .with_context(|| format!("cannot use the store in {place}"))?;
        Ok(Self(connection))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }

    /// The newest notifications that are wanted, at most `rows_max`, newest first, each with all that is known of it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn newest(&self, wanted: &Wanted, rows_max: usize) -> anyhow::Result<Vec<Notification>> {
        // One view, however much is written meanwhile.
        let _view = self.0.unchecked_transaction()?;
        history::read(&self.0, wanted, Extent::whole(rows_max))
    }

    /// One notification, and the bytes of its message; a notice that stands in no message has none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn find(&self, id: &str) -> anyhow::Result<Option<(Notification, Vec<u8>)>> {
        let _view = self.0.unchecked_transaction()?;
        history::one(&self.0, id)
    }

    /// Lets one message that was given up be tried again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn resend(&mut self, id: &str, now: DateTime<Utc>) -> anyhow::Result<Resent> {
        parcels::resend(&self.0, id, now)
    }

    /// Lets every message that was given up be tried again, at most `RESEND_MAX`, oldest first; their ids.
    ///
    /// # Errors
    /// The file cannot be written; nothing is tried again.
    pub fn resend_all(&mut self, now: DateTime<Utc>) -> anyhow::Result<Vec<String>> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ids = history::dead(&transaction, RESEND_MAX)?;
        for id in &ids {
            parcels::resend(&transaction, id, now)?;
        }
        transaction.commit()?;
        Ok(ids)
    }
}
