//! The SQL of the ledger: owed, composed, claimed, finished.
//!
//! Parameters are written `?1`, by position: SQLite numbers `$1` by its first appearance, whatever its digits say.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Backlog, Outcome, Waiting, found};
use crate::alert::Status;
use crate::delivery::{Integration, Notice, Owed, Parcel, Target, ended};
use crate::failpoint;
use crate::time::{add, from_ms, to_ms};

/// Writes one obligation, unless it is already written or nobody was told what it ends. What waits in the same thread
/// for the same target is superseded: only the newest state is told.
pub(super) fn owe(
    transaction: &Transaction<'_>,
    owed: &Owed,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let was_told =
        last_told(transaction, owed)?.is_some_and(|status| status == Status::Firing.label());
    let inserted = match (owed.status, was_told) {
        (Status::Resolved, false) => 0,
        (Status::Resolved, true) | (Status::Firing, _) => insert(transaction, owed, now)?,
    };
    if inserted == 1 || owed.status == Status::Resolved {
        supersede(transaction, owed)?;
    }
    Ok(())
}

/// The status of the last notice in the thread that the target was told. A firing one that was tried may have been
/// told; an end that was tried and never delivered was not.
fn last_told(transaction: &Transaction<'_>, owed: &Owed) -> anyhow::Result<Option<String>> {
    let target = &owed.target;
    let status = transaction
        .prepare_cached(
            "SELECT owed.status FROM owed JOIN parcel ON parcel.id = owed.parcel_id
             WHERE owed.thread = ?1 AND owed.receiver = ?2 AND owed.integration = ?3 AND owed.channel = ?4
                 AND owed.recipient = ?5 AND parcel.state <> 'dead'
                 AND (parcel.state = 'delivered' OR owed.status = 'firing' AND parcel.attempts > 0)
             ORDER BY owed.id DESC LIMIT 1",
        )?
        .query_row(
            params![owed.thread, &*target.receiver, target.integration.label(), target.index, target.recipient],
            |row| row.get(0),
        )
        .optional()?;
    Ok(status)
}

fn insert(transaction: &Transaction<'_>, owed: &Owed, now: DateTime<Utc>) -> anyhow::Result<usize> {
    let target = &owed.target;
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO owed (key, thread, status, receiver, integration, channel, recipient, notice, created_ms,
                 not_before_ms, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'waiting')
             ON CONFLICT (key, receiver, integration, channel, recipient) DO NOTHING",
        )?
        .execute(params![
            owed.key,
            owed.thread,
            owed.status.label(),
            &*target.receiver,
            target.integration.label(),
            target.index,
            target.recipient,
            serde_json::to_string(&owed.notice)?,
            to_ms(now),
            to_ms(owed.not_before),
        ])?;
    Ok(inserted)
}

/// A message that no worker is sending just now: never tried, or its last attempt is written.
const AT_REST: &str = "parcel.state = 'pending' AND (parcel.attempts = 0 OR EXISTS (
    SELECT 1 FROM attempt WHERE attempt.parcel_id = parcel.id AND number = parcel.attempts))";

/// Takes back what the thread still owes the target but for the newest fact. A message that carries it and is at rest
/// is dissolved; one that is on its way is left, and looked at again when its attempt ends.
fn supersede(transaction: &Transaction<'_>, owed: &Owed) -> anyhow::Result<()> {
    let target = &owed.target;
    let integration = target.integration.label();
    let place = params![
        owed.thread,
        &*target.receiver,
        integration,
        target.index,
        target.recipient,
        owed.key
    ];
    let here = "thread = ?1 AND receiver = ?2 AND integration = ?3 AND channel = ?4 AND recipient = ?5 AND key <> ?6";
    let parcels: Vec<String> = transaction
        .prepare_cached(&format!(
            "SELECT parcel_id FROM owed WHERE {here} AND state = 'composed'
                 AND EXISTS (SELECT 1 FROM parcel WHERE id = parcel_id AND {AT_REST})"
        ))?
        .query_map(place, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    transaction
        .prepare_cached(&format!(
            "UPDATE owed SET state = 'superseded' WHERE {here} AND (state = 'waiting' OR state = 'composed'
                 AND EXISTS (SELECT 1 FROM parcel WHERE id = parcel_id AND {AT_REST}))"
        ))?
        .execute(place)?;
    parcels.iter().try_for_each(|id| dissolve(transaction, id))
}

/// Gives up a message whose content is no longer true. What else it carries is composed anew, but for facts that are
/// superseded too.
fn dissolve(transaction: &Transaction<'_>, parcel: &str) -> anyhow::Result<()> {
    transaction
        .prepare_cached("UPDATE parcel SET state = 'superseded' WHERE id = ?1")?
        .execute([parcel])?;
    transaction
        .prepare_cached(&format!(
            "UPDATE owed SET state = 'superseded' WHERE parcel_id = ?1 AND state = 'composed' AND {NEWER}"
        ))?
        .execute([parcel])?;
    transaction
        .prepare_cached(
            "UPDATE owed SET state = 'waiting', parcel_id = NULL WHERE parcel_id = ?1 AND state = 'composed'",
        )?
        .execute([parcel])?;
    Ok(())
}

/// That a later fact of the same thread is owed to the same target.
const NEWER: &str = "EXISTS (SELECT 1 FROM owed AS later WHERE later.thread = owed.thread
    AND later.receiver = owed.receiver AND later.integration = owed.integration AND later.channel = owed.channel
    AND later.recipient = owed.recipient AND later.id > owed.id)";

pub(super) fn forget_others(
    connection: &mut Connection,
    keep: &[String],
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<String>> {
    let transaction = connection.transaction()?;
    let keep: HashSet<&str> = keep.iter().map(String::as_str).collect();
    let keys: Vec<String> = transaction
        .prepare("SELECT key FROM subject")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let gone: Vec<String> = keys.into_iter().filter(|key| !keep.contains(key.as_str())).collect();
    for key in &gone {
        for owed in ends(&transaction, key, now)? {
            owe(&transaction, &owed, now)?;
        }
        transaction.execute("DELETE FROM subject WHERE key = ?1", [key])?;
    }
    found::forget_others(&transaction, &keep, now)?;
    transaction.commit()?;
    Ok(gone)
}

/// The ends that a forgotten subject owes: one per thread and target whose last notice says that the alert fires.
pub(super) fn ends(
    transaction: &Transaction<'_>,
    key: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<Owed>> {
    let mut statement = transaction.prepare_cached(
        "SELECT receiver, integration, channel, recipient, thread, key, notice, id FROM owed AS it
         WHERE thread >= ?1 || ' ' AND thread < ?1 || '!' AND status = 'firing'
             AND id = (SELECT MAX(id) FROM owed WHERE thread = it.thread AND receiver = it.receiver
                 AND integration = it.integration AND channel = it.channel AND recipient = it.recipient)",
    )?;
    let mut rows = statement.query([key])?;
    let mut ends = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(notice) = readable(row.get(7)?, &row.get::<_, String>(6)?) else { continue };
        ends.push(Owed {
            target: target(row)?,
            thread: row.get(4)?,
            key: format!("{} removed {}", row.get::<_, String>(5)?, to_ms(now)),
            status: Status::Resolved,
            notice: ended(notice, now),
            not_before: now,
        });
    }
    Ok(ends)
}

/// The notice of a row. One that cannot be read stays in the ledger and holds up nobody else's.
fn readable(row: i64, text: &str) -> Option<Notice> {
    serde_json::from_str(text)
        .inspect_err(|error| {
            tracing::error!("row {row} of the ledger is not readable and is not told: {error}");
        })
        .ok()
}

/// Reads a target from the first four columns.
fn target(row: &Row<'_>) -> rusqlite::Result<Target> {
    let integration: String = row.get(1)?;
    let unknown =
        || rusqlite::Error::InvalidColumnType(1, integration.clone(), rusqlite::types::Type::Text);
    Ok(Target {
        receiver: row.get::<_, String>(0)?.into(),
        integration: Integration::parse(&integration).ok_or_else(unknown)?,
        index: row.get(2)?,
        recipient: row.get(3)?,
    })
}

pub(super) fn waiting(
    connection: &mut Connection,
    now: DateTime<Utc>,
    rows_max: usize,
) -> anyhow::Result<Vec<Waiting>> {
    let mut statement = connection.prepare_cached(
        "SELECT receiver, integration, channel, recipient, id, notice FROM owed
         WHERE state = 'waiting' AND (receiver, integration, channel, recipient) IN (
             SELECT receiver, integration, channel, recipient FROM owed
             WHERE state = 'waiting' AND not_before_ms <= ?1)
         ORDER BY +id LIMIT ?2",
    )?;
    let mut rows =
        statement.query(params![to_ms(now), i64::try_from(rows_max).unwrap_or(i64::MAX)])?;
    let mut waiting = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(4)?;
        if let Some(notice) = readable(id, &row.get::<_, String>(5)?) {
            waiting.push(Waiting { row: id, target: target(row)?, notice });
        }
    }
    Ok(waiting)
}

pub(super) fn composed(
    connection: &mut Connection,
    parcels: &[(Parcel, Vec<i64>)],
) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT INTO parcel (id, receiver, integration, channel, recipient, body, state, created_ms, next_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', ?7, ?7)",
        )?;
        // A message of which something was superseded meanwhile is not true any more: the rest is composed anew.
        let mut bind = transaction.prepare_cached(
            "UPDATE owed SET state = 'composed', parcel_id = ?1 WHERE id = ?2 AND state = 'waiting'",
        )?;
        for (parcel, rows) in parcels {
            let target = &parcel.target;
            put.execute(params![
                parcel.id,
                &*target.receiver,
                target.integration.label(),
                target.index,
                target.recipient,
                parcel.body,
                to_ms(parcel.created_at),
            ])?;
            let mut bound = 0;
            for row in rows {
                bound += bind.execute(params![parcel.id, row])?;
            }
            if bound < rows.len() {
                let undo =
                    "UPDATE owed SET state = 'waiting', parcel_id = NULL WHERE parcel_id = ?1";
                transaction.execute(undo, [&parcel.id])?;
                transaction.execute("DELETE FROM parcel WHERE id = ?1", [&parcel.id])?;
            }
        }
    }
    failpoint::hit("compose-before-commit");
    transaction.commit()?;
    failpoint::hit("compose-after-commit");
    Ok(())
}

pub(super) fn claim(
    connection: &mut Connection,
    busy: &[(Arc<str>, Integration, u32)],
    each: usize,
    lease: Duration,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<Parcel>> {
    let transaction = connection.transaction()?;
    let channels: Vec<(String, String, u32)> = transaction
        .prepare_cached(
            "SELECT DISTINCT receiver, integration, channel FROM parcel WHERE state = 'pending' AND next_ms <= ?1",
        )?
        .query_map([to_ms(now)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let is_busy = |(receiver, integration, channel): &(String, String, u32)| {
        busy.iter().any(|it| &*it.0 == receiver && it.1.label() == integration && it.2 == *channel)
    };
    let mut parcels = Vec::new();
    for (receiver, integration, channel) in channels.into_iter().filter(|it| !is_busy(it)) {
        let mut statement = transaction.prepare_cached(
            "UPDATE parcel SET attempts = attempts + 1, next_ms = ?1
             WHERE id IN (SELECT id FROM parcel WHERE state = 'pending' AND next_ms <= ?2 AND receiver = ?3
                 AND integration = ?4 AND channel = ?5 ORDER BY created_ms, rowid LIMIT ?6)
             RETURNING receiver, integration, channel, recipient, id, body, attempts, created_ms, rowid",
        )?;
        let limit = i64::try_from(each).unwrap_or(i64::MAX);
        let values =
            params![to_ms(add(now, lease)), to_ms(now), receiver, integration, channel, limit];
        let mut taken: Vec<(i64, Parcel)> = statement
            .query_map(values, |row| Ok((row.get(8)?, parcel(row)?)))?
            .collect::<Result<_, _>>()?;
        // RETURNING promises no order, and a thread's notices keep theirs.
        taken.sort_by_key(|(rowid, parcel)| (parcel.created_at, *rowid));
        parcels.extend(taken.into_iter().map(|(_, parcel)| parcel));
    }
    if parcels.is_empty() {
        return Ok(parcels);
    }
    failpoint::hit("claim-before-commit");
    transaction.commit()?;
    failpoint::hit("claim-after-commit");
    Ok(parcels)
}

pub(super) fn recover(connection: &mut Connection, now: DateTime<Utc>) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    let unfinished = format!("state = 'pending' AND NOT ({AT_REST})");
    transaction.execute(
        "UPDATE parcel SET next_ms = ?1 WHERE state = 'pending' AND next_ms > ?1",
        [to_ms(now)],
    )?;
    // Nobody has it in hand any more: a newer fact may take its place.
    transaction.execute(
        &format!(
            "INSERT INTO attempt (parcel_id, number, at_ms, took_ms, outcome, answer)
             SELECT id, attempts, ?1, 0, 'failed', 'the program ended before the answer was known'
             FROM parcel WHERE {unfinished}"
        ),
        [to_ms(now)],
    )?;
    transaction.commit()?;
    Ok(())
}

fn parcel(row: &Row<'_>) -> rusqlite::Result<Parcel> {
    Ok(Parcel {
        target: target(row)?,
        id: row.get(4)?,
        body: row.get(5)?,
        attempts: row.get(6)?,
        created_at: from_ms(row.get(7)?),
    })
}

pub(super) fn finish(
    connection: &mut Connection,
    id: &str,
    attempt: u32,
    outcome: &Outcome,
    took: Duration,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    let at = to_ms(now);
    let word = match outcome {
        Outcome::Delivered(answer) => {
            // Also when it was superseded while it was on its way: it has arrived.
            let sql = "UPDATE parcel SET state = 'delivered', finished_ms = ?2, answer = ?3 WHERE id = ?1";
            transaction.execute(sql, params![id, at, answer])?;
            Some(("delivered", answer))
        }
        Outcome::Postponed(answer, until) => {
            let sql =
                "UPDATE parcel SET next_ms = ?2, answer = ?3 WHERE id = ?1 AND state = 'pending'";
            transaction.execute(sql, params![id, to_ms(*until), answer])?;
            Some(("failed", answer))
        }
        Outcome::Dead(answer) => {
            let sql = "UPDATE parcel SET state = 'dead', finished_ms = ?2, answer = ?3
                       WHERE id = ?1 AND state = 'pending'";
            transaction.execute(sql, params![id, at, answer])?;
            Some(("dead", answer))
        }
        Outcome::Untried(until) => {
            let sql = "UPDATE parcel SET next_ms = ?2, attempts = attempts - 1 WHERE id = ?1 AND state = 'pending'";
            transaction.execute(sql, params![id, to_ms(*until)])?;
            None
        }
    };
    if let Some((word, answer)) = word {
        transaction.execute(
            "INSERT OR REPLACE INTO attempt (parcel_id, number, at_ms, took_ms, outcome, answer)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                id,
                attempt,
                at,
                i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
                word,
                answer
            ],
        )?;
    }
    if matches!(outcome, Outcome::Postponed(..) | Outcome::Untried(_))
        && is_stale(&transaction, id)?
    {
        dissolve(&transaction, id)?;
    }
    failpoint::hit("finish-before-commit");
    transaction.commit()?;
    failpoint::hit("finish-after-commit");
    Ok(())
}

pub(super) fn clock_set_back(
    connection: &mut Connection,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    // Nothing waits longer than an hour: not a group, not a retry, not what a server asked for.
    let longest = to_ms(add(now, Duration::from_secs(60 * 60)));
    let now = to_ms(now);
    connection.execute(
        "UPDATE owed SET not_before_ms = ?1 WHERE state = 'waiting' AND not_before_ms > ?2",
        [now, longest],
    )?;
    // What a worker has in hand stays in its hand.
    connection.execute(
        &format!("UPDATE parcel SET next_ms = ?1 WHERE next_ms > ?2 AND {AT_REST}"),
        [now, longest],
    )?;
    Ok(())
}

/// Whether something that the message carries was superseded while it was on its way.
fn is_stale(transaction: &Transaction<'_>, parcel: &str) -> anyhow::Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM owed WHERE parcel_id = ?1 AND {NEWER}
             AND EXISTS (SELECT 1 FROM parcel WHERE id = ?1 AND state = 'pending'))"
    );
    Ok(transaction.prepare_cached(&sql)?.query_row([parcel], |row| row.get(0))?)
}

pub(super) fn backlog(connection: &mut Connection) -> anyhow::Result<Backlog> {
    let mut backlog = Backlog::default();
    let mut statement = connection.prepare_cached(
        "SELECT receiver, integration, 0, '', COUNT(*), MIN(created_ms), MIN(next_ms) FROM (
             SELECT receiver, integration, created_ms, next_ms FROM parcel WHERE state = 'pending'
             UNION ALL SELECT receiver, integration, created_ms, not_before_ms FROM owed WHERE state = 'waiting')
         GROUP BY receiver, integration",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let target = target(row)?;
        let next = from_ms(row.get(6)?);
        backlog.next = Some(backlog.next.map_or(next, |it: DateTime<Utc>| it.min(next)));
        let waiting =
            (u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0), Some(from_ms(row.get(5)?)));
        backlog.pending.insert((target.receiver, target.integration), waiting);
    }
    let dead: i64 = connection
        .prepare_cached("SELECT COUNT(*) FROM parcel WHERE state = 'dead'")?
        .query_row([], |row| row.get(0))?;
    backlog.dead = u64::try_from(dead).unwrap_or(0);
    Ok(backlog)
}
