//! The SQL of what is owed, to whom, and when it is told. Messages are in `parcels`.
//!
//! Parameters are written `?1`, by position: SQLite numbers `$1` by its first appearance, whatever its digits say.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, Transaction, params};

use super::parcels::{AT_REST, NEWER, dissolve};
use super::{Held, Waiting, found};
use crate::alert::{Reason, Status};
use crate::delivery::{Addressed, Grouping, Integration, Notice, Owed, Target, Undelivered, ended};
use crate::time::to_ms;

/// Writes what is owed, unless it is already written. A fact is owed to those it is addressed to, an end to those who
/// were told of what it ends, whatever the configuration says by now. What waits in the same thread for the same target is
/// superseded: only the newest state is told.
pub(super) fn owe(
    transaction: &Transaction<'_>,
    owed: &Owed,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    match owed.status {
        Status::Firing => {
            for to in &owed.to {
                let untold = untold(transaction, owed, &to.target)?;
                let notice = match untold {
                    Some(reason) => Cow::Owned(Notice { reason, repeat: 0, ..owed.notice.clone() }),
                    None => Cow::Borrowed(&owed.notice),
                };
                if insert(transaction, owed, &notice, to, now)? == Inserted::Yes {
                    supersede(transaction, owed, Some(&to.target))?;
                }
            }
        }
        Status::Resolved => {
            for to in told(transaction, &owed.thread)? {
                insert(transaction, owed, &owed.notice, &to, now)?;
            }
            supersede(transaction, owed, None)?;
        }
    }
    Ok(())
}

/// Why the target would have been told of what this fact takes the place of and nobody has told: to somebody who has not
/// heard of an alert its reminder is new. `None` if it is as the fact says.
fn untold(
    transaction: &Transaction<'_>,
    owed: &Owed,
    target: &Target,
) -> anyhow::Result<Option<String>> {
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT DISTINCT json_extract(notice, '$.reason') FROM owed
         WHERE thread = ?1 AND key <> ?2 AND receiver = ?3 AND integration = ?4 AND channel = ?5 AND recipient = ?6
             AND status = 'firing' AND (state = 'waiting' OR state = 'composed'
                 AND EXISTS (SELECT 1 FROM parcel WHERE id = parcel_id AND {AT_REST}))"
    ))?;
    let integration = target.integration.label();
    let rows = statement.query_map(
        params![
            owed.thread,
            owed.key,
            &*target.receiver,
            integration,
            &*target.channel,
            target.recipient
        ],
        |row| row.get::<_, String>(0),
    )?;
    let waiting = rows.collect::<Result<Vec<_>, _>>()?;
    let strongest = [Reason::New, Reason::Escalated].map(Reason::label);
    Ok(strongest.into_iter().find(|it| waiting.iter().any(|one| one == it)).map(str::to_owned))
}

/// Those who were last told that the thread's alert fires. A message that was tried may have been read; an end that was
/// tried and never delivered was not.
fn told(transaction: &Transaction<'_>, thread: &str) -> anyhow::Result<Vec<Addressed>> {
    // SQLite takes the other columns from the row with the greatest id.
    let mut statement = transaction.prepare_cached(
        "SELECT owed.receiver, owed.integration, owed.channel, owed.recipient, owed.grp, wait_ms, interval_ms, mutes,
             MAX(owed.id), status
         FROM owed JOIN parcel ON parcel.id = owed.parcel_id
         WHERE owed.thread = ?1 AND parcel.state <> 'dead'
             AND (parcel.state = 'delivered' OR owed.status = 'firing' AND parcel.attempts > 0)
         GROUP BY owed.receiver, owed.integration, owed.channel, owed.recipient
         HAVING status = 'firing' ORDER BY 9",
    )?;
    let rows = statement.query_map([thread], addressed)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads whom a row is for from its first eight columns.
fn addressed(row: &Row<'_>) -> rusqlite::Result<Addressed> {
    Ok(Addressed {
        target: target(row)?,
        grouping: Grouping {
            key: row.get(4)?,
            wait: duration(row.get(5)?),
            interval: duration(row.get(6)?),
        },
        mutes: mutes(&row.get::<_, String>(7)?),
    })
}

/// Whether a row is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inserted {
    Yes,
    /// The same fact is owed to the same target already.
    Before,
}

fn insert(
    transaction: &Transaction<'_>,
    owed: &Owed,
    notice: &Notice,
    to: &Addressed,
    now: DateTime<Utc>,
) -> anyhow::Result<Inserted> {
    let Addressed { target, grouping, mutes } = to;
    let (wait, interval) = (millis(grouping.wait), millis(grouping.interval));
    let soonest = to_ms(now).saturating_add(wait);
    let not_before = match last_message(transaction, target, grouping)? {
        // After the clock was set back the last one may be in the future.
        Some(last) => {
            soonest.max(last.saturating_add(interval)).min(soonest.saturating_add(interval))
        }
        None => soonest,
    };
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO owed (key, thread, status, receiver, integration, channel, recipient, grp, wait_ms, interval_ms,
                 mutes, notice, created_ms, not_before_ms, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 'waiting')
             ON CONFLICT (key, receiver, integration, channel, recipient) DO NOTHING",
        )?
        .execute(params![
            owed.key,
            owed.thread,
            owed.status.label(),
            &*target.receiver,
            target.integration.label(),
            &*target.channel,
            target.recipient,
            grouping.key,
            wait,
            interval,
            serde_json::to_string(&mutes.iter().map(|it| &**it).collect::<Vec<&str>>())?,
            serde_json::to_string(notice)?,
            to_ms(now),
            not_before,
        ])?;
    Ok(if inserted == 0 { Inserted::Before } else { Inserted::Yes })
}

/// When the last message of the group was composed.
fn last_message(
    transaction: &Transaction<'_>,
    target: &Target,
    grouping: &Grouping,
) -> anyhow::Result<Option<i64>> {
    if grouping.key.is_empty() {
        return Ok(None);
    }
    Ok(transaction
        .prepare_cached(
            "SELECT MAX(created_ms) FROM parcel WHERE grp = ?1 AND grp <> '' AND receiver = ?2 AND integration = ?3
                 AND channel = ?4 AND recipient = ?5",
        )?
        .query_row(
            params![
                grouping.key,
                &*target.receiver,
                target.integration.label(),
                &*target.channel,
                target.recipient
            ],
            |row| row.get(0),
        )?)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// The names in a list that this module wrote; one that cannot be read holds nothing back.
fn mutes(text: &str) -> Vec<Arc<str>> {
    let names: Vec<String> = serde_json::from_str(text).unwrap_or_default();
    names.into_iter().map(Arc::from).collect()
}

/// Copies what an undeliverable message tells, to those who are told instead; those who were told the same already are
/// not told again. What a later fact has taken the place of, while the message was on its way, is told to nobody: it
/// would open again what has ended, or take the place of the later fact.
pub(super) fn forward(
    transaction: &Transaction<'_>,
    parcel: &str,
    to: &[Addressed],
    undelivered: &Undelivered,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    if to.is_empty() {
        return Ok(());
    }
    let rows: Vec<(i64, String, String, String)> = transaction
        .prepare_cached(&format!(
            "SELECT id, key, thread, notice FROM owed
             WHERE parcel_id = ?1 AND state = 'composed' AND status = 'firing' AND NOT {NEWER}"
        ))?
        .query_map([parcel], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    for (row, key, thread, text) in rows {
        let Some(notice) = readable(row, &text) else { continue };
        // What came from elsewhere itself goes no further.
        if notice.undelivered.is_some() {
            continue;
        }
        let notice = Notice { undelivered: Some(undelivered.clone()), ..notice };
        let mut owed = Owed { key, thread, status: Status::Firing, notice, to: Vec::new() };
        for it in to {
            if !knows_later(transaction, &owed, &it.target)? {
                owed.to.push(it.clone());
            }
        }
        owe(transaction, &owed, now)?;
    }
    Ok(())
}

/// Whether the target is owed a later fact of the thread, or was told it. Facts are as old as their first rows: a copy
/// for somebody who is told instead has a late row.
fn knows_later(
    transaction: &Transaction<'_>,
    owed: &Owed,
    target: &Target,
) -> anyhow::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM owed AS theirs
                   WHERE thread = ?1 AND receiver = ?3 AND integration = ?4 AND channel = ?5 AND recipient = ?6
                       AND (SELECT MIN(id) FROM owed WHERE key = ?2)
                           < (SELECT MIN(id) FROM owed WHERE key = theirs.key))";
    let integration = target.integration.label();
    Ok(transaction.prepare_cached(sql)?.query_row(
        params![
            owed.thread,
            owed.key,
            &*target.receiver,
            integration,
            &*target.channel,
            target.recipient
        ],
        |row| row.get(0),
    )?)
}

/// Takes back what the thread still owes the target but for the newest fact. A message that carries it and is at rest
/// is dissolved; one that is on its way is left, and looked at again when its attempt ends.
fn supersede(
    transaction: &Transaction<'_>,
    owed: &Owed,
    target: Option<&Target>,
) -> anyhow::Result<()> {
    let mut values: Vec<&dyn rusqlite::ToSql> = vec![&owed.thread, &owed.key];
    let (receiver, integration, channel);
    let here = match target {
        Some(target) => {
            (receiver, channel) = (&*target.receiver, &*target.channel);
            integration = target.integration.label();
            values.extend([
                &receiver as &dyn rusqlite::ToSql,
                &integration,
                &channel,
                &target.recipient,
            ]);
            "thread = ?1 AND key <> ?2 AND receiver = ?3 AND integration = ?4 AND channel = ?5 AND recipient = ?6"
        }
        None => "thread = ?1 AND key <> ?2",
    };
    let parcels: Vec<String> = transaction
        .prepare_cached(&format!(
            "SELECT DISTINCT parcel_id FROM owed WHERE {here} AND state = 'composed'
                 AND EXISTS (SELECT 1 FROM parcel WHERE id = parcel_id AND {AT_REST})"
        ))?
        .query_map(values.as_slice(), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    transaction
        .prepare_cached(&format!(
            "UPDATE owed SET state = 'superseded' WHERE {here} AND (state = 'waiting' OR state = 'composed'
                 AND EXISTS (SELECT 1 FROM parcel WHERE id = parcel_id AND {AT_REST}))"
        ))?
        .execute(values.as_slice())?;
    parcels.iter().try_for_each(|id| dissolve(transaction, id))
}

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

/// The ends that a forgotten subject owes: one per thread whose last notice says that the alert fires.
pub(super) fn ends(
    transaction: &Transaction<'_>,
    key: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<Owed>> {
    let mut statement = transaction.prepare_cached(
        "SELECT thread, key, notice, MAX(id), status FROM owed WHERE thread >= ?1 || ' ' AND thread < ?1 || '!'
         GROUP BY thread HAVING status = 'firing'",
    )?;
    let mut rows = statement.query([key])?;
    let mut ends = Vec::new();
    while let Some(row) = rows.next()? {
        let thread: String = row.get(0)?;
        // A name may hold a space: `prod/ci old lifetime` is no thread of `prod/ci`.
        if thread.rsplit_once(' ').is_none_or(|(subject, _)| subject != key) {
            continue;
        }
        let Some(notice) = readable(row.get(3)?, &row.get::<_, String>(2)?) else { continue };
        ends.push(Owed {
            thread,
            key: format!("{} removed {}", row.get::<_, String>(1)?, to_ms(now)),
            status: Status::Resolved,
            notice: ended(notice, now),
            to: Vec::new(),
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
pub(super) fn target(row: &Row<'_>) -> rusqlite::Result<Target> {
    let integration: String = row.get(1)?;
    let unknown =
        || rusqlite::Error::InvalidColumnType(1, integration.clone(), rusqlite::types::Type::Text);
    Ok(Target {
        receiver: row.get::<_, String>(0)?.into(),
        integration: Integration::parse(&integration).ok_or_else(unknown)?,
        channel: row.get::<_, String>(2)?.into(),
        recipient: row.get(3)?,
    })
}

pub(super) fn waiting(
    connection: &mut Connection,
    now: DateTime<Utc>,
    rows_max: usize,
) -> anyhow::Result<Vec<Waiting>> {
    // What is due takes along what waits for it in its group, but nothing that is held back.
    let mut statement = connection.prepare_cached(
        "SELECT receiver, integration, channel, recipient, grp, wait_ms, interval_ms, mutes, id, status, notice FROM owed
         WHERE state = 'waiting' AND (held IS NULL OR not_before_ms <= ?1)
             AND (receiver, integration, channel, recipient, grp) IN (
                 SELECT receiver, integration, channel, recipient, grp FROM owed
                 WHERE state = 'waiting' AND not_before_ms <= ?1)
         ORDER BY +id LIMIT ?2",
    )?;
    let mut rows =
        statement.query(params![to_ms(now), i64::try_from(rows_max).unwrap_or(i64::MAX)])?;
    let mut waiting = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(8)?;
        let status = match row.get::<_, String>(9)?.as_str() {
            "resolved" => Status::Resolved,
            _ => Status::Firing,
        };
        if let Some(notice) = readable(id, &row.get::<_, String>(10)?) {
            waiting.push(Waiting { row: id, to: addressed(row)?, status, notice });
        }
    }
    Ok(waiting)
}

/// Puts rows off to the end of a quiet time.
pub(super) fn hold(connection: &mut Connection, held: &[Held]) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "UPDATE owed SET held = ?2, not_before_ms = ?3 WHERE id = ?1 AND state = 'waiting'",
        )?;
        for it in held {
            put.execute(params![it.row, it.why.label(), to_ms(it.until)])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Makes due what a quiet time holds back: whether it still does is decided anew. So is what waits for its group longer
/// than its route says: it was owed before the clock was set back, perhaps while the program did not run.
pub(super) fn release(connection: &Connection, now: DateTime<Utc>) -> anyhow::Result<()> {
    connection.execute(
        "UPDATE owed SET held = NULL, not_before_ms = ?1
         WHERE state = 'waiting' AND (held IS NOT NULL OR not_before_ms > ?1 + wait_ms + interval_ms)",
        [to_ms(now)],
    )?;
    Ok(())
}
