//! The embedded store: what is remembered of each subject, and the ledger of deliveries. All SQL is below this module.
//!
//! One connection on one thread of its own; callers send it work and await the answer. Every public method is one
//! transaction, committed to the disk before it returns (WAL, `synchronous=FULL`). The guarantee: what `record` has
//! returned for is owed until it is delivered, superseded or dead, whatever happens to the process.

mod beside;
mod found;
mod history;
mod ledger;
mod open;
mod parcels;
mod readable;
mod row;
mod salvage;
mod silences;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::beside::{Access, History, RESEND_MAX};
pub use self::found::RememberedList;
pub use self::open::{Health, Opened};
pub use self::salvage::{Ledger, Salvaged};
use crate::alert::{Change, Finding, PlatformState, State, Status};
use crate::config::CredentialId;
use crate::delivery::{Addressed, Hush, Lane, Notice, Owed, Parcel, Silence, Undelivered};
use crate::failpoint;
use crate::metrics::ChannelKey;
use crate::status::Notification;

/// Work waiting for the store's thread; beyond it callers wait.
const JOBS_MAX: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The embedded store. Cheap to clone; the thread ends with the last clone.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    /// Why the disk was left for memory, until a batch has told it.
    left: Arc<Mutex<Option<Left>>>,
    /// Its other end is dropped after the file.
    open: watch::Receiver<()>,
}

/// What is remembered, as loaded at the start.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The credentials' states.
    pub credentials: HashMap<CredentialId, State>,
    /// The platforms' states.
    pub platforms: HashMap<Arc<str>, PlatformState>,
    /// The keys of the lists.
    pub lists: HashMap<CredentialId, RememberedList>,
    /// When the last digest was due.
    pub digest_at: Option<DateTime<Utc>>,
}

/// Under this name it is remembered when the last digest was due, in milliseconds.
const DIGEST: &str = "digest";

/// States and the obligations that they call for: written together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Next states of credentials.
    pub credentials: Vec<(CredentialId, State)>,
    /// Next states of platforms.
    pub platforms: Vec<(Arc<str>, PlatformState)>,
    /// What changed of the keys of lists, by list.
    pub found: Vec<(CredentialId, Change)>,
    /// What was found in lists.
    pub findings: Vec<(CredentialId, Finding)>,
    /// What is owed because of them.
    pub owed: Vec<Owed>,
    /// When the digest among them was due.
    pub digest_at: Option<DateTime<Utc>>,
}

/// A notice that waits to be composed.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its row in the ledger.
    pub row: i64,
    /// Where it goes, with what it shares a message, and what may hold it back.
    pub to: Addressed,
    /// Whether it opens or ends.
    pub status: Status,
    /// What it says.
    pub notice: Notice,
}

/// A notice that is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its row in the ledger.
    pub row: i64,
    /// Why.
    pub why: Hush,
    /// When it is looked at again.
    pub until: DateTime<Utc>,
}

/// Who is told instead when a message does not arrive.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback {
    /// Those who are told.
    pub to: Vec<Addressed>,
    /// Of what.
    pub undelivered: Undelivered,
}

/// Whether a silence has been ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// It has.
    Yes,
    /// There is none of this id that had not ended.
    NoSuch,
}

/// Whether a message is tried again by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    /// It is.
    Yes,
    /// There is none of this id that was given up.
    NotDead,
}

/// That the disk was left for memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Why.
    pub why: String,
    /// Whether everything that waits to be told has come along. If not, nobody may rely on what was told.
    pub ledger: Ledger,
}

/// Where a batch was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// On disk, for good.
    OnDisk,
    /// In memory only; with the reason when this batch is the first since the disk was left.
    InMemory(Option<Left>),
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server took it, with this answer.
    Delivered(String),
    /// It failed with this answer and is tried again at this time.
    Postponed(String, DateTime<Utc>),
    /// It will not be tried again.
    Dead(String),
    /// It was not tried, because one before it failed for this reason; as it was, but not before this time.
    Untried(String, DateTime<Utc>),
}

/// The state of the outbox for metrics: per receiver and integration, how many messages wait and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Waiting messages and the time of the oldest.
    pub pending: BTreeMap<ChannelKey, (u64, Option<DateTime<Utc>>)>,
    /// Messages given up.
    pub dead: u64,
    /// When something is next due.
    pub next: Option<DateTime<Utc>>,
}

/// How far a store has been written; two that are equal have nothing between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Changes when another process has written, e.g. a command.
    pub by_others: i64,
    /// Changes when this process has.
    pub by_us: i64,
}

impl Store {
    /// Opens the store in `folder`, creating both; see `Health` for what can be wrong without an error.
    ///
    /// # Errors
    /// Another process uses the folder.
    pub fn open(folder: &Path, now: DateTime<Utc>) -> anyhow::Result<Opened> {
        open::open(folder, now)
    }

    /// What the store in `folder` remembers of credentials and platforms, without opening it for work: nothing is written,
    /// and a process that uses it is not disturbed. Lists are left out. `None` if there is no store.
    ///
    /// # Errors
    /// The file cannot be read, or is of another version.
    pub fn peek(folder: &Path) -> anyhow::Result<Option<Remembered>> {
        open::peek(folder)
    }

    fn start(connection: Connection, lock: Option<std::fs::File>) -> anyhow::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(JOBS_MAX);
        let (closed, open) = watch::channel(());
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let mut connection = connection;
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
                drop(connection);
                drop(lock);
                drop(closed);
            })
            .context("cannot start the thread of the store")?;
        Ok(Self { jobs, left: Arc::default(), open })
    }

    /// Lets go of the store and waits until its file is closed; other clones must be gone, or will go.
    pub async fn close(self) {
        let Self { jobs, mut open, .. } = self;
        drop(jobs);
        // An error is the end of the sender, which the thread drops after the file.
        while open.changed().await.is_ok() {}
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| drop(reply.send(work(connection))));
        self.jobs.send(job).await.map_err(|_| anyhow::anyhow!("the store has stopped"))?;
        answer.await.context("the store stopped while it worked")?
    }

    /// Work without which nobody is told. A disk that fails is left for memory.
    async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let left = self.left.clone();
        self.call(move |connection| match work(connection) {
            // Better told and forgotten at the next start than not told.
            Err(error) if open::is_about_place(&error) && is_on_disk(connection) => {
                let why = format!("{error:#}");
                tracing::error!("the disk of the store fails, going on in memory: {why}");
                let ledger = open::move_to_memory(connection)?;
                *left.lock().unwrap_or_else(PoisonError::into_inner) = Some(Left { why, ledger });
                work(connection)
            }
            result => result,
        })
        .await
    }

    /// Everything that is remembered.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn load(&self) -> anyhow::Result<Remembered> {
        self.call(|connection| load(connection)).await
    }

    /// Writes states and what is owed because of them, in one transaction. A fact that is already owed to a target is
    /// not owed twice; an end is owed only to targets that were told, or may have been.
    ///
    /// # Errors
    /// Nothing of the batch is written.
    pub async fn record(&self, batch: Batch, now: DateTime<Utc>) -> anyhow::Result<Recorded> {
        let on_disk = self
            .write(move |connection| {
                record(connection, &batch, now)?;
                Ok(is_on_disk(connection))
            })
            .await
            .context("cannot record")?;
        if on_disk {
            return Ok(Recorded::OnDisk);
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Recorded::InMemory(left.take()))
    }

    /// Makes due whatever waits for a later try: a process that died or a worker that was stopped may have had it in
    /// hand, and who repairs a channel and reloads wants to see it work. Nobody else sends while this store is open.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn recover(&self, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.write(move |connection| parcels::recover(connection, now)).await
    }

    /// Forgets every subject that `keep` does not name (`platform/credential` or `platform`), and owes the end of its
    /// alerts to those who were told. Returns the keys of the forgotten.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn forget_others(
        &self,
        keep: Vec<String>,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Vec<String>> {
        self.write(move |connection| ledger::forget_others(connection, &keep, now)).await
    }

    /// Notices that are to be composed now, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn waiting(
        &self,
        now: DateTime<Utc>,
        rows_max: usize,
    ) -> anyhow::Result<Vec<Waiting>> {
        self.write(move |connection| ledger::waiting(connection, now, rows_max)).await
    }

    /// Writes composed messages, each with the rows of the notices that it carries, in one transaction.
    ///
    /// # Errors
    /// The file cannot be written; nothing is composed.
    pub async fn composed(&self, parcels: Vec<(Parcel, Vec<i64>)>) -> anyhow::Result<()> {
        self.write(move |connection| parcels::composed(connection, &parcels)).await
    }

    /// Puts notices off to the end of a quiet time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn hold(&self, held: Vec<Held>) -> anyhow::Result<()> {
        self.write(move |connection| ledger::hold(connection, &held)).await
    }

    /// Makes due everything that is held back, so that it is decided anew whether it still is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn release(&self, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.write(move |connection| ledger::release(connection, now)).await
    }

    /// All silences, those that end last first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn silences(&self) -> anyhow::Result<Vec<Silence>> {
        self.call(|connection| silences::all(connection)).await
    }

    /// Writes a silence, or a new one in the place of one with the same id.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn put_silence(&self, silence: Silence) -> anyhow::Result<()> {
        self.write(move |connection| silences::put(connection, &silence)).await
    }

    /// Ends a silence now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn expire_silence(&self, id: String, now: DateTime<Utc>) -> anyhow::Result<Expired> {
        self.write(move |connection| silences::expire(connection, &id, now)).await
    }

    /// Lets a message that was given up be tried again at once, and for as long as a new one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn resend(&self, id: String, now: DateTime<Utc>) -> anyhow::Result<Resent> {
        self.write(move |connection| parcels::resend(connection, &id, now)).await
    }

    /// The clock was set back to `now`: what waits for a later time than it can is due at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn clock_set_back(&self, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.call(move |connection| parcels::clock_set_back(connection, now))
            .await
            .context("cannot make due what waits")
    }

    /// Takes due messages for targets that `busy` does not name, oldest first, at most `each` per channel, and counts an
    /// attempt for each before it is made. They are not due again before `lease` has passed.
    ///
    /// # Errors
    /// The file cannot be written; nothing is taken.
    pub async fn claim(
        &self,
        busy: Vec<Lane>,
        each: usize,
        lease: Duration,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Vec<Parcel>> {
        self.write(move |connection| parcels::claim(connection, &busy, each, lease, now)).await
    }

    /// Writes what became of an attempt, and owes what did not arrive to the fallback, in one transaction.
    ///
    /// # Errors
    /// The file cannot be written; the message is sent again under the same id.
    pub async fn finish(
        &self,
        id: String,
        attempt: u32,
        outcome: Outcome,
        took: Duration,
        fallback: Option<Fallback>,
        now: DateTime<Utc>,
    ) -> anyhow::Result<()> {
        self.write(move |connection| {
            parcels::finish(connection, &id, attempt, &outcome, took, fallback.as_ref(), now)
        })
        .await
    }

    /// How far it has been written, by us and by others. Cheap enough to ask every second.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn revision(&self) -> anyhow::Result<Revision> {
        self.call(|connection| {
            let by_others = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
            let by_us = connection.query_row("SELECT total_changes()", [], |row| row.get(0))?;
            Ok(Revision { by_others, by_us })
        })
        .await
    }

    /// What pages and API show of the ledger, newest first: the newest, and older ones that wait or are dead.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn notifications(&self) -> anyhow::Result<Vec<Notification>> {
        self.call(|connection| history::shown(connection)).await
    }

    /// What waits, what is dead, and when something is next due.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn backlog(&self) -> anyhow::Result<Backlog> {
        self.write(parcels::backlog).await
    }
}

fn is_on_disk(connection: &Connection) -> bool {
    connection.path().is_some_and(|path| !path.is_empty())
}

fn load(connection: &Connection) -> anyhow::Result<Remembered> {
    let digest = silences::memo(connection, DIGEST)?.and_then(|it| it.parse().ok());
    Ok(Remembered {
        lists: found::load(connection)?,
        digest_at: digest.map(crate::time::from_ms),
        ..load_subjects(connection)?
    })
}

/// The states of credentials and platforms, without which nothing can be decided.
fn load_subjects(connection: &Connection) -> anyhow::Result<Remembered> {
    let mut remembered = Remembered::default();
    let mut statement = connection.prepare("SELECT key, state FROM subject")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, state) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        let unreadable = || format!("the remembered state of {key} is not readable");
        match key.split_once('/') {
            Some((platform, name)) => {
                let id = CredentialId { platform: platform.into(), name: name.into() };
                remembered
                    .credentials
                    .insert(id, row::read_credential(&state).with_context(unreadable)?);
            }
            None => {
                remembered.platforms.insert(
                    key.as_str().into(),
                    row::read_platform(&state).with_context(unreadable)?,
                );
            }
        }
    }
    Ok(remembered)
}

fn record(connection: &mut Connection, batch: &Batch, now: DateTime<Utc>) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT INTO subject (key, state, updated_ms) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET state = excluded.state, updated_ms = excluded.updated_ms",
        )?;
        let at = crate::time::to_ms(now);
        for (id, state) in &batch.credentials {
            put.execute((id.to_string(), row::write_credential(state)?, at))?;
        }
        for (name, state) in &batch.platforms {
            put.execute((&**name, row::write_platform(state)?, at))?;
        }
    }
    found::put(&transaction, &batch.found, &batch.findings, now)?;
    for owed in &batch.owed {
        ledger::owe(&transaction, owed, now)?;
    }
    if let Some(at) = batch.digest_at {
        silences::remember(&transaction, DIGEST, &crate::time::to_ms(at).to_string())?;
    }
    failpoint::hit("record-before-commit");
    transaction.commit()?;
    failpoint::hit("record-after-commit");
    Ok(())
}
