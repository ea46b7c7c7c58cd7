//! Opening the store, whatever state its file is in.
//!
//! The program watches other things and must start: a file that cannot be read is set aside, never deleted, and a
//! folder that cannot be written is replaced by memory. Both are said loudly by whoever receives the `Health`.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::readable::{Unreadable, unreadable};
use super::salvage::{self, Ledger, Salvaged};
use super::{Access, Store};
use crate::time::to_ms;

/// The migrations, in order; the file's `user_version` is how many of them it has.
const MIGRATIONS: [&str; 3] =
    [include_str!("001.sql"), include_str!("002.sql"), include_str!("003.sql")];

/// How long SQLite waits for another program that looks into the file (a backup).
const BUSY_MAX: Duration = Duration::from_secs(5);

/// How long finished messages are kept in the ledger.
const KEPT_FOR: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// An open store and what is wrong with it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Whether it is as it should be.
    pub health: Health,
}

/// Whether the store is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It is.
    Good,
    /// The file was not usable, for the reason given; it was renamed, and one with what could be read of it took its place.
    SetAside {
        /// Where the old file is now.
        aside: PathBuf,
        /// Why it was not usable.
        why: String,
        /// What could be read of it.
        salvaged: Salvaged,
    },
    /// The folder cannot be written, for the reason given: everything is kept in memory only and lost at the end.
    MemoryOnly {
        /// Why the folder cannot be written.
        why: String,
    },
}

/// Why a file is not usable.
enum Unusable {
    /// Its content: another file in its place helps.
    Content(String),
    /// Its place: nothing can be written there.
    Place(String),
}

pub(super) fn open(folder: &Path, now: DateTime<Utc>) -> anyhow::Result<Opened> {
    let lock = match lock(folder) {
        Ok(lock) => lock,
        Err(Locked::ByAnother) => anyhow::bail!(
            "another ece-expiry-exporter uses {}; stop it, or give this one another --storage.path",
            folder.display()
        ),
        Err(Locked::Impossible(why)) => return memory(folder, why),
    };
    let file = folder.join("store.db");
    match connect(&file, now) {
        Ok(connection) => {
            Ok(Opened { store: Store::start(connection, Some(lock))?, health: Health::Good })
        }
        Err(Unusable::Place(why)) => memory(folder, why),
        Err(Unusable::Content(why)) => {
            let aside = folder.join(format!("store.db.unusable-{}", to_ms(now)));
            if let Err(error) = set_aside(&file, &aside) {
                return memory(folder, format!("{why}, and it cannot be set aside: {error}"));
            }
            match connect(&file, now) {
                Ok(mut connection) => {
                    let salvaged = salvage_from(&aside, &mut connection);
                    Ok(Opened {
                        store: Store::start(connection, Some(lock))?,
                        health: Health::SetAside { aside, why, salvaged },
                    })
                }
                Err(Unusable::Content(why) | Unusable::Place(why)) => memory(folder, why),
            }
        }
    }
}

enum Locked {
    ByAnother,
    Impossible(String),
}

fn lock(folder: &Path) -> Result<File, Locked> {
    let impossible = |error: std::io::Error| Locked::Impossible(error.to_string());
    std::fs::create_dir_all(folder).map_err(impossible)?;
    let lock = File::create(folder.join("store.lock")).map_err(impossible)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Locked::ByAnother),
        Err(TryLockError::Error(error)) => Err(Locked::Impossible(error.to_string())),
    }
}

/// An empty store in memory that has read what the folder holds, if it can, so that nothing is told again.
fn memory(folder: &Path, why: String) -> anyhow::Result<Opened> {
    let mut connection = Connection::open_in_memory().context("cannot open a store in memory")?;
    migrate(&mut connection)
        .map_err(|error| anyhow::anyhow!("cannot prepare a store in memory: {error}"))?;
    let source = folder.join("store.db");
    if source.exists() {
        salvage_from(&source, &mut connection);
    }
    Ok(Opened { store: Store::start(connection, None)?, health: Health::MemoryOnly { why } })
}

/// Replaces a connection whose disk fails by a copy in memory; whether all of the ledger is in it.
pub(super) fn move_to_memory(connection: &mut Connection) -> anyhow::Result<Ledger> {
    let mut memory = Connection::open_in_memory().context("cannot open a store in memory")?;
    migrate(&mut memory)
        .map_err(|error| anyhow::anyhow!("cannot prepare a store in memory: {error}"))?;
    // The old connection knows its log, and has read some pages before the disk failed.
    let salvaged = salvage::carry(connection, &mut memory).unwrap_or_default();
    if salvaged.ledger == Ledger::Gaps {
        tracing::error!("not all of the store can be read either, alerts are told again");
    }
    *connection = memory;
    Ok(salvaged.ledger)
}

/// Whether an error is about the place of the file (full, read-only, failing disk), so that memory would do better.
pub(super) fn is_about_place(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<rusqlite::Error>()
        .and_then(rusqlite::Error::sqlite_error_code)
        .is_some_and(|code| {
            use rusqlite::ErrorCode::{
                CannotOpen, DatabaseCorrupt, DiskFull, NotADatabase, PermissionDenied, ReadOnly,
                SystemIoFailure,
            };
            [
                CannotOpen,
                DatabaseCorrupt,
                DiskFull,
                NotADatabase,
                PermissionDenied,
                ReadOnly,
                SystemIoFailure,
            ]
            .contains(&code)
        })
}

/// What the file in `folder` remembers, read beside a process that may be using it; `None` if there is no file.
pub(super) fn peek(folder: &Path) -> anyhow::Result<Option<super::Remembered>> {
    let connection = open_beside(folder, Access::Read)?;
    connection.map(|it| super::load_subjects(&it)).transpose()
}

/// Opens the file in `folder` beside a process that may be using it; `None` if there is no file.
pub(super) fn open_beside(folder: &Path, access: Access) -> anyhow::Result<Option<Connection>> {
    let file = folder.join("store.db");
    if !file.try_exists()? {
        return Ok(None);
    }
    match access {
        Access::Read => Ok(Some(read_only(&file)?)),
        Access::Write => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(file, flags)?;
            connection.busy_timeout(BUSY_MAX)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", "ON")?;
            Ok(Some(connection))
        }
    }
}

/// Checks that a file beside which somebody works has the form that this program knows.
pub(super) fn check_version(connection: &Connection) -> anyhow::Result<()> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    anyhow::ensure!(
        usize::try_from(version).is_ok_and(|it| it == MIGRATIONS.len()),
        "it has format {version} and this program knows {}: use the program of the exporter that owns it, or start the \
         exporter once, which brings an older one up to date",
        MIGRATIONS.len()
    );
    Ok(())
}

/// The URI of a file, whatever characters its path has.
fn uri(path: &str, query: &str) -> String {
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?{query}")
}

/// Another connection to a file, which is read and not changed.
fn read_only(file: &Path) -> rusqlite::Result<Connection> {
    // Without a log nobody writes, and then SQLite shall not make the files that its readers share either.
    let query = if beside(file, "-wal").exists() { "mode=ro" } else { "mode=ro&immutable=1" };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(&file.display().to_string(), query), flags)?;
    connection.busy_timeout(BUSY_MAX)?;
    Ok(connection)
}

/// Carries over what can be read of a file; nothing, if nothing can.
fn salvage_from(file: &Path, store: &mut Connection) -> Salvaged {
    let with_log = read_only(file).and_then(|source| salvage::carry(&source, store));
    let carried = with_log.or_else(|_| {
        // Its log may be what is damaged, or not readable without writing.
        let uri = uri(&file.display().to_string(), "mode=ro&immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        salvage::carry(&Connection::open_with_flags(uri, flags)?, store)
    });
    carried.unwrap_or_else(|error| {
        tracing::error!("nothing can be read of {}: {error}", file.display());
        Salvaged::default()
    })
}

/// A file that SQLite keeps beside the store.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn set_aside(file: &Path, aside: &Path) -> std::io::Result<()> {
    for suffix in ["-wal", "-shm"] {
        match std::fs::rename(beside(file, suffix), beside(aside, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::rename(file, aside)
}

/// What opening can stumble over.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Content(String),
    #[error("{0}")]
    Place(String),
}

fn connect(file: &Path, now: DateTime<Utc>) -> Result<Connection, Unusable> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> Result<Connection, Error> {
        // With a log beside it, the file may end anywhere: the log has the rest.
        let has_log = ["-wal", "-journal"].iter().any(|it| beside(file, it).exists());
        if let Err(error) = for_us_alone(file) {
            return Err(Error::Place(error.to_string()));
        }
        let mut connection = Connection::open_with_flags(file, flags)?;
        if !has_log {
            check_length(file, &connection)?;
        }
        prepare(&mut connection, now)?;
        Ok(connection)
    };
    open().map_err(unusable)
}

/// Creates a missing file, readable by nobody else: it holds mail addresses and messages. SQLite gives its log the same
/// permissions.
fn for_us_alone(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o600).open(file).map(drop)
}

/// SQLite reads a page that was cut as if zeros followed, and takes a file without a whole one for a new store.
fn check_length(file: &Path, connection: &Connection) -> Result<(), Error> {
    let length = std::fs::metadata(file).map_or(0, |it| it.len());
    let page: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    if length.is_multiple_of(u64::from(page)) {
        return Ok(());
    }
    Err(Error::Content(format!("the file is cut short: {length} bytes are not whole pages")))
}

fn unusable(error: Error) -> Unusable {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
    let place = [CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure];
    match error {
        Error::Sqlite(error) => {
            let code = error.sqlite_error().map(|it| (it.code, it.extended_code));
            match code {
                // A read that ends early is a file that was cut short.
                Some((SystemIoFailure, rusqlite::ffi::SQLITE_IOERR_SHORT_READ)) | None => {
                    Unusable::Content(error.to_string())
                }
                Some((code, _)) if place.contains(&code) => Unusable::Place(error.to_string()),
                Some(_) => Unusable::Content(error.to_string()),
            }
        }
        Error::Content(why) => Unusable::Content(why),
        Error::Place(why) => Unusable::Place(why),
    }
}

fn prepare(connection: &mut Connection, now: DateTime<Utc>) -> Result<(), Error> {
    connection.busy_timeout(BUSY_MAX)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    // One that begins by reading could not go on to write if a command wrote in between.
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(Error::Content(format!("the file is damaged: {check}")));
    }
    migrate(connection)?;
    if let Some(Unreadable { table, row }) = unreadable(connection, 1)?.first() {
        return Err(Error::Content(format!("row {row} of table {table} is not readable")));
    }
    purge(connection, now)?;
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let version: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map(|it| usize::try_from(it).unwrap_or(usize::MAX))?;
    if MIGRATIONS.len() < version {
        return Err(Error::Content(format!(
            "the file has format {version} and comes from a newer version; this one knows {}",
            MIGRATIONS.len()
        )));
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(
            None,
            "user_version",
            i64::try_from(index + 1).unwrap_or(i64::MAX),
        )?;
        transaction.commit()?;
    }
    Ok(())
}

fn purge(connection: &Connection, now: DateTime<Utc>) -> Result<(), Error> {
    let before = to_ms(now) - i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX);
    connection.execute(
        "DELETE FROM attempt WHERE parcel_id IN (SELECT id FROM parcel WHERE state <> 'pending' AND created_ms < ?1)",
        [before],
    )?;
    connection.execute(
        "DELETE FROM owed WHERE state <> 'waiting' AND created_ms < ?1
         AND NOT EXISTS (SELECT 1 FROM parcel WHERE id = parcel_id AND state = 'pending')",
        [before],
    )?;
    connection.execute("DELETE FROM finding WHERE at_ms < ?1", [before])?;
    connection.execute("DELETE FROM silence WHERE ends_ms < ?1", [before])?;
    connection.execute(
        "DELETE FROM parcel WHERE state <> 'pending' AND created_ms < ?1
         AND NOT EXISTS (SELECT 1 FROM owed WHERE parcel_id = parcel.id)",
        [before],
    )?;
    Ok(())
}
