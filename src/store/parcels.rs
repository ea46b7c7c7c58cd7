//! The SQL of messages: composed, claimed, finished.
//!
//! Parameters are written `?1`, by position: SQLite numbers `$1` by its first appearance, whatever its digits say.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, Transaction, params};

use super::ledger::{forward, release, target};
use super::{Backlog, Fallback, Outcome, Resent};
use crate::delivery::{Lane, Parcel, RETRY_AFTER_MAX};
use crate::failpoint;
use crate::time::{add, from_ms, to_ms};

/// A message that no worker is sending just now: never tried, or its last attempt is written.
pub(super) const AT_REST: &str = "parcel.state = 'pending' AND (parcel.attempts = 0 OR EXISTS (
    SELECT 1 FROM attempt WHERE attempt.parcel_id = parcel.id AND number = parcel.attempts))";

pub(super) fn composed(
    connection: &mut Connection,
    parcels: &[(Parcel, Vec<i64>)],
) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT INTO parcel (id, receiver, integration, channel, recipient, grp, body, state, created_ms, next_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?8)",
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
                &*target.channel,
                target.recipient,
                parcel.group,
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
    busy: &[Lane],
    each: usize,
    lease: Duration,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<Parcel>> {
    let transaction = connection.transaction()?;
    let channels: Vec<(String, String, String)> = transaction
        .prepare_cached(
            "SELECT DISTINCT receiver, integration, channel FROM parcel WHERE state = 'pending' AND next_ms <= ?1",
        )?
        .query_map([to_ms(now)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let is_busy = |(receiver, integration, channel): &(String, String, String)| {
        busy.iter().any(|it| &*it.0 == receiver && it.1.label() == integration && &*it.2 == channel)
    };
    let mut parcels = Vec::new();
    for (receiver, integration, channel) in channels.into_iter().filter(|it| !is_busy(it)) {
        let mut statement = transaction.prepare_cached(
            "UPDATE parcel SET attempts = attempts + 1, next_ms = ?1
             WHERE id IN (SELECT id FROM parcel WHERE state = 'pending' AND next_ms <= ?2 AND receiver = ?3
                 AND integration = ?4 AND channel = ?5 ORDER BY created_ms, rowid LIMIT ?6)
             RETURNING receiver, integration, channel, recipient, id, body, attempts, created_ms, grp, rowid",
        )?;
        let limit = i64::try_from(each).unwrap_or(i64::MAX);
        let values =
            params![to_ms(add(now, lease)), to_ms(now), receiver, integration, channel, limit];
        let mut taken: Vec<(i64, Parcel)> = statement
            .query_map(values, |row| Ok((row.get(9)?, parcel(row)?)))?
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
        group: row.get(8)?,
    })
}

pub(super) fn finish(
    connection: &mut Connection,
    id: &str,
    attempt: u32,
    outcome: &Outcome,
    took: Duration,
    fallback: Option<&Fallback>,
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
        Outcome::Untried(_, until) => {
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
    if matches!(outcome, Outcome::Postponed(..) | Outcome::Untried(..))
        && is_stale(&transaction, id)?
    {
        dissolve(&transaction, id)?;
    } else if let Some(Fallback { to, undelivered }) = fallback {
        forward(&transaction, id, to, undelivered, now)?;
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
    release(connection, now)?;
    let longest = to_ms(add(now, RETRY_AFTER_MAX));
    let now = to_ms(now);
    // What a worker has in hand stays in its hand.
    connection.execute(
        &format!("UPDATE parcel SET next_ms = ?1 WHERE next_ms > ?2 AND {AT_REST}"),
        [now, longest],
    )?;
    Ok(())
}

/// Lets a message that was given up be tried again, at once and for as long as a new one. Says whether there was one.
pub(super) fn resend(
    connection: &Connection,
    id: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<Resent> {
    let changed = connection.execute(
        "UPDATE parcel SET state = 'pending', created_ms = ?2, next_ms = ?2, finished_ms = NULL
         WHERE id = ?1 AND state = 'dead'",
        params![id, to_ms(now)],
    )?;
    Ok(if changed == 0 { Resent::NotDead } else { Resent::Yes })
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
        "SELECT receiver, integration, '', '', SUM(counts), MIN(CASE WHEN counts THEN created_ms END), MIN(next_ms) FROM (
             SELECT receiver, integration, 1 AS counts, created_ms, next_ms FROM parcel WHERE state = 'pending'
             UNION ALL SELECT receiver, integration, held IS NULL, created_ms, not_before_ms FROM owed
             WHERE state = 'waiting')
         GROUP BY receiver, integration",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let target = target(row)?;
        let next = from_ms(row.get(6)?);
        backlog.next = Some(backlog.next.map_or(next, |it: DateTime<Utc>| it.min(next)));
        let count = u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0);
        let oldest = row.get::<_, Option<i64>>(5)?.map(from_ms);
        backlog.pending.insert((target.receiver, target.integration), (count, oldest));
    }
    let dead: i64 = connection
        .prepare_cached("SELECT COUNT(*) FROM parcel WHERE state = 'dead'")?
        .query_row([], |row| row.get(0))?;
    backlog.dead = u64::try_from(dead).unwrap_or(0);
    Ok(backlog)
}

/// Gives up a message whose content is no longer true. What else it carries is composed anew, but for facts that are
/// superseded too.
pub(super) fn dissolve(transaction: &Transaction<'_>, parcel: &str) -> anyhow::Result<()> {
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
pub(super) const NEWER: &str = "EXISTS (SELECT 1 FROM owed AS later WHERE later.thread = owed.thread
    AND later.receiver = owed.receiver AND later.integration = owed.integration AND later.channel = owed.channel
    AND later.recipient = owed.recipient AND later.id > owed.id)";
