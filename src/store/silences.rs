//! Silences, and single things to remember: their SQL, and what a command does to them beside the exporter.

use anyhow::Context;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Expired, History, Remembered, Store};
use crate::config::{Matcher, Secret};
use crate::delivery::Silence;
use crate::time::{from_ms, to_ms};

/// Silences that have not ended; each alert is compared with all of them.
const SILENCES_MAX: i64 = 1_000;

/// Under this name stands the key that signs links.
const LINK_KEY: &str = "link_key";

impl Store {
    /// The key that signs links: the one that is remembered, or else `fresh`, which is remembered from then on.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub async fn link_key(&self, fresh: Secret) -> anyhow::Result<Secret> {
        self.write(move |connection| {
            if let Some(known) = memo(connection, LINK_KEY)? {
                return Ok(Secret::new(known));
            }
            remember(connection, LINK_KEY, fresh.expose())?;
            Ok(fresh.clone())
        })
        .await
    }
}

impl History {
    /// All silences, those that end last first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn silences(&self) -> anyhow::Result<Vec<Silence>> {
        all(self.connection())
    }

    /// Writes a silence.
    ///
    /// # Errors
    /// The file cannot be written, or there are too many silences.
    pub fn put_silence(&mut self, silence: &Silence) -> anyhow::Result<()> {
        put(self.connection(), silence)
    }

    /// Ends a silence now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn expire_silence(&mut self, id: &str, now: DateTime<Utc>) -> anyhow::Result<Expired> {
        expire(self.connection(), id, now)
    }

    /// What is remembered of everything that is watched.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn remembered(&self) -> anyhow::Result<Remembered> {
        super::load(self.connection())
    }
}

/// All silences, those that end last first. One that cannot be read holds nothing back, and is told.
pub(super) fn all(connection: &Connection) -> anyhow::Result<Vec<Silence>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, matchers, created_by, comment, created_ms, starts_ms, ends_ms FROM silence
         ORDER BY ends_ms DESC, id",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, silence(row))))?;
    let mut silences = Vec::new();
    for row in rows {
        let (id, silence) = row?;
        match silence {
            Ok(silence) => silences.push(silence),
            Err(error) => {
                tracing::error!("silence {id} is not readable and does not hold: {error:#}");
            }
        }
    }
    Ok(silences)
}

fn silence(row: &Row<'_>) -> anyhow::Result<Silence> {
    let matchers: Vec<String> = serde_json::from_str(&row.get::<_, String>(1)?)?;
    let matchers: Vec<Matcher> = matchers
        .iter()
        .map(|text| Matcher::parse(text).map_err(|why| anyhow::anyhow!("{text:?} {why}")))
        .collect::<Result<_, _>>()?;
    anyhow::ensure!(!matchers.is_empty(), "it has no matchers");
    Ok(Silence {
        id: row.get(0)?,
        matchers,
        created_by: row.get(2)?,
        comment: row.get(3)?,
        created_at: from_ms(row.get(4)?),
        starts_at: from_ms(row.get(5)?),
        ends_at: from_ms(row.get(6)?),
    })
}

/// Writes a silence, or a new one in the place of one with the same id.
pub(super) fn put(connection: &Connection, silence: &Silence) -> anyhow::Result<()> {
    let others: i64 = connection
        .prepare_cached("SELECT count(*) FROM silence WHERE id <> ?1 AND ends_ms > ?2")?
        .query_row(params![silence.id, to_ms(silence.created_at)], |row| row.get(0))?;
    anyhow::ensure!(
        others < SILENCES_MAX,
        "there are {others} silences already; end some, or use one with a regular expression"
    );
    let matchers: Vec<String> = silence.matchers.iter().map(ToString::to_string).collect();
    connection.execute(
        "INSERT INTO silence (id, matchers, created_by, comment, created_ms, starts_ms, ends_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET matchers = excluded.matchers, created_by = excluded.created_by,
             comment = excluded.comment, starts_ms = excluded.starts_ms, ends_ms = excluded.ends_ms",
        params![
            silence.id,
            serde_json::to_string(&matchers)?,
            silence.created_by,
            silence.comment,
            to_ms(silence.created_at),
            to_ms(silence.starts_at),
            to_ms(silence.ends_at),
        ],
    )?;
    Ok(())
}

/// Ends a silence that has not ended.
pub(super) fn expire(
    connection: &Connection,
    id: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<Expired> {
    let changed = connection.execute(
        "UPDATE silence SET ends_ms = ?2, starts_ms = MIN(starts_ms, ?2) WHERE id = ?1 AND ends_ms > ?2",
        params![id, to_ms(now)],
    )?;
    Ok(if changed == 0 { Expired::NoSuch } else { Expired::Yes })
}

/// What is remembered under a name.
pub(super) fn memo(connection: &Connection, name: &str) -> anyhow::Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM memo WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
        .with_context(|| format!("cannot read {name}"))
}

/// Remembers something under a name, in the place of what was there.
pub(super) fn remember(connection: &Connection, name: &str, value: &str) -> anyhow::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO memo (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?
        .execute([name, value])?;
    Ok(())
}
