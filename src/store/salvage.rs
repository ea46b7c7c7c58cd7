//! Carries over what can still be read of another store: one that is damaged, of another version, or on a disk that takes
//! no writes.
//!
//! Row by row, from both ends of each table, so that one broken page costs the rows around it and no others. States say
//! what was told; where the ledger has gaps they are not believed in this, because what they call told may have been
//! waiting: it is told once more.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params_from_iter};

use super::readable::{Unreadable, unreadable};

/// What was carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Salvaged {
    /// States of credentials and platforms.
    pub states: u32,
    /// Notices and messages that wait to be sent.
    pub pending: u32,
    /// Whether the ledger of messages is whole.
    pub ledger: Ledger,
}

/// Whether all rows of the ledger could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ledger {
    /// All of them, so what was told is known.
    Whole,
    /// Some are lost, or all: what fires is told once more.
    #[default]
    Gaps,
}

/// The tables without whose rows nobody knows what was told.
const LEDGER: [&str; 2] = ["parcel", "owed"];

/// Members of a state that say what was told.
const TOLD: [&str; 5] = ["lifetime", "access", "unreachable", "skew", "too_long"];

/// Copies what `source` holds into the empty store `target`.
///
/// # Errors
/// The source cannot be read at all, or the target cannot be written. The target is empty then.
pub(super) fn carry(source: &Connection, target: &mut Connection) -> rusqlite::Result<Salvaged> {
    // A file that is shorter than it says would not be read at all.
    source.pragma_update(None, "writable_schema", "ON")?;
    source.pragma_update(None, "cell_size_check", "ON")?;
    source.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    let transaction = target.transaction()?;
    let tables: Vec<String> = transaction
        .prepare(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    // A row may come before the one that it refers to.
    transaction.pragma_update(None, "defer_foreign_keys", "ON")?;
    let mut ledger = Ledger::Whole;
    for table in &tables {
        let is_whole = copy(source, &transaction, table).unwrap_or(false);
        if !is_whole && LEDGER.contains(&table.as_str()) {
            ledger = Ledger::Gaps;
        }
    }
    if drop_unreadable(&transaction)? == Ledger::Gaps {
        ledger = Ledger::Gaps;
    }
    tidy_up(&transaction)?;
    if ledger == Ledger::Gaps {
        forget_told(&transaction)?;
    }
    let count = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, u32>(0));
    let states = count("SELECT COUNT(*) FROM subject")?;
    let pending = count("SELECT COUNT(*) FROM owed WHERE state = 'waiting'")?
        + count("SELECT COUNT(*) FROM parcel WHERE state = 'pending'")?;
    transaction.commit()?;
    Ok(Salvaged { states, pending, ledger })
}

/// Copies a table; whether all of it.
fn copy(source: &Connection, target: &Transaction<'_>, table: &str) -> rusqlite::Result<bool> {
    let known = columns(target, table)?;
    let mut names: Vec<String> =
        columns(source, table)?.into_iter().filter(|it| known.contains(it)).collect();
    if names.is_empty() {
        return Ok(false);
    }
    let sql: String = target.query_row(
        "SELECT upper(sql) FROM sqlite_master WHERE name = ?1",
        [table],
        |row| row.get(0),
    )?;
    let has_rowid = !sql.contains("WITHOUT ROWID");
    // The order of rows has a meaning. Where a column is the row's number, it is copied as such.
    if has_rowid && !sql.contains("INTEGER PRIMARY KEY") {
        names.push("rowid".to_owned());
    }
    let list = names.join(", ");
    let places = vec!["?"; names.len()].join(", ");
    let mut put = target.prepare(&format!("INSERT INTO {table} ({list}) VALUES ({places})"))?;
    let mut is_whole = is_sound(source, table);
    let order = if has_rowid { "rowid" } else { "1" };
    for direction in ["ASC", "DESC"] {
        let mut select =
            source.prepare(&format!("SELECT {list} FROM {table} ORDER BY {order} {direction}"))?;
        let mut rows = select.query([])?;
        let mut ended = false;
        while !ended {
            match rows.next() {
                Ok(Some(row)) => {
                    let values: rusqlite::Result<Vec<Value>> =
                        (0..names.len()).map(|at| row.get(at)).collect();
                    let put = values.and_then(|it| put.execute(params_from_iter(it)));
                    // From the other end: all that could be read is there.
                    ended = direction == "DESC" && put.is_err();
                    is_whole &= direction == "DESC" || put.is_ok();
                }
                Ok(None) if direction == "ASC" => return Ok(is_whole),
                Ok(None) => ended = true,
                Err(_) => {
                    is_whole = false;
                    ended = true;
                }
            }
        }
    }
    Ok(false)
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// Whether a table and its indexes agree: rows of a page that is no longer linked would not be missed otherwise.
fn is_sound(source: &Connection, table: &str) -> bool {
    let sql = format!("PRAGMA integrity_check({table})");
    let check = source.query_row(&sql, [], |row| row.get::<_, String>(0));
    check.is_ok_and(|it| it == "ok")
}

/// Leaves what refers to a lost row in a form in which it is told rather than forgotten.
fn tidy_up(target: &Transaction<'_>) -> rusqlite::Result<()> {
    target.execute_batch(
        "DELETE FROM attempt WHERE parcel_id NOT IN (SELECT id FROM parcel);
         -- A message that nothing refers to cannot be called out of date.
         UPDATE parcel SET state = 'superseded'
             WHERE state = 'pending' AND NOT EXISTS (SELECT 1 FROM owed WHERE parcel_id = parcel.id);
         -- Whether its message arrived is not known: the newest of a thread is told if it fires.
         UPDATE owed SET parcel_id = NULL,
                 state = CASE WHEN status = 'firing' AND NOT EXISTS (
                     SELECT 1 FROM owed AS later WHERE later.thread = owed.thread
                         AND later.receiver = owed.receiver AND later.integration = owed.integration
                         AND later.channel = owed.channel AND later.recipient = owed.recipient
                         AND later.id > owed.id)
                     THEN 'waiting' ELSE 'superseded' END
             WHERE state = 'composed' AND parcel_id NOT IN (SELECT id FROM parcel);",
    )
}

/// Drops rows that are there and cannot be read; whether the ledger has lost some.
fn drop_unreadable(target: &Transaction<'_>) -> rusqlite::Result<Ledger> {
    let mut ledger = Ledger::Whole;
    for Unreadable { table, row } in unreadable(target, usize::MAX)? {
        target.execute(&format!("DELETE FROM {table} WHERE rowid = ?1"), [row])?;
        if LEDGER.contains(&table.as_str()) {
            ledger = Ledger::Gaps;
        }
    }
    Ok(ledger)
}

/// Drops from the states what they say was told.
fn forget_told(target: &Transaction<'_>) -> rusqlite::Result<()> {
    for table in ["subject", "found"] {
        let rows: Vec<(String, String)> = target
            .prepare(&format!("SELECT key, state FROM {table}"))?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (key, state) in rows {
            // One that is no object tells nothing: its reader takes it for new.
            let Ok(mut members) =
                serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&state)
            else {
                continue;
            };
            members.retain(|name, _| !TOLD.contains(&name.as_str()));
            let state = serde_json::Value::Object(members).to_string();
            target
                .execute(&format!("UPDATE {table} SET state = ?2 WHERE key = ?1"), [key, state])?;
        }
    }
    Ok(())
}
