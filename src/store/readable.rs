//! Finds rows that SQLite takes for sound and that this program cannot read: a flipped bit in a text, or a word of another
//! version. One of them in the ledger would hold up everything behind it.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::row;
use crate::delivery::{Integration, Notice};

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) table: String,
    /// Its number; 0 in a table without them.
    pub(super) row: i64,
}

/// The rows that cannot be read, at most so many. Bodies of messages are bytes and not looked at.
///
/// # Errors
/// A table cannot be read to its end.
pub(super) fn unreadable(
    connection: &Connection,
    rows_max: usize,
) -> rusqlite::Result<Vec<Unreadable>> {
    let tables: Vec<(String, String)> = connection
        .prepare("SELECT name, upper(sql) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for (table, sql) in tables {
        let names: Vec<String> = connection
            .prepare("SELECT name FROM pragma_table_info(?1) WHERE type = 'TEXT'")?
            .query_map([&table], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let number = if sql.contains("WITHOUT ROWID") { "0" } else { "rowid" };
        let mut select =
            connection.prepare(&format!("SELECT {number}, {} FROM {table}", names.join(", ")))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if !is_readable(&table, &names, row)? {
                found.push(Unreadable { table: table.clone(), row: row.get(0)? });
                if found.len() == rows_max {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

fn is_readable(table: &str, names: &[String], row: &Row<'_>) -> rusqlite::Result<bool> {
    for at in 1..=names.len() {
        if let ValueRef::Text(bytes) = row.get_ref(at)?
            && std::str::from_utf8(bytes).is_err()
        {
            return Ok(false);
        }
    }
    let value = |name: &str| -> rusqlite::Result<String> {
        let at = names.iter().position(|it| it == name);
        Ok(match at {
            Some(at) => row.get::<_, Option<String>>(at + 1)?.unwrap_or_default(),
            None => String::new(),
        })
    };
    Ok(match table {
        "subject" if value("key")?.contains('/') => row::read_credential(&value("state")?).is_ok(),
        "subject" => row::read_platform(&value("state")?).is_ok(),
        "parcel" => Integration::parse(&value("integration")?).is_some(),
        "owed" => {
            let is_told = value("state")? != "waiting";
            Integration::parse(&value("integration")?).is_some()
                && (is_told || serde_json::from_str::<Notice>(&value("notice")?).is_ok())
        }
        _ => true,
    })
}
