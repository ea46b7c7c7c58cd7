//! The SQL that reads the ledger: what was told to whom, when, and what was answered. Nothing is written here.
//!
//! Newest first is by the order in which rows were made, so that no more is read than is shown. Messages are made in the
//! order of time; only one that was sent again by hand is younger than its row.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::ledger::target;
use super::parcels::AT_REST;
use crate::delivery::Notice;
use crate::status::{Attempt, Fact, Notification, Stage, Wanted};
use crate::time::{from_ms, to_ms};

/// Notifications that the page and the API show of all kinds: what anybody scrolls through.
const SHOWN_MAX: usize = 500;

/// Older ones that they show besides, of each stage that is not at its end or needs somebody.
const SHOWN_OPEN_MAX: usize = 200;

/// Facts of one message that they show; a mail to a large team may carry hundreds, which the command line shows.
const SHOWN_FACTS_MAX: usize = 20;

/// Attempts of one message that they show; one that is tried for a week has hundreds.
const SHOWN_ATTEMPTS_MAX: usize = 5;

/// The id of a notice that stands in no message is this and its row.
const OWED: &str = "owed_";

/// How much is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// At most so many notifications.
    pub(super) rows: usize,
    /// At most so many attempts of each, its latest.
    pub(super) attempts: usize,
    /// At most so many facts of each, its first.
    pub(super) facts: usize,
}

impl Extent {
    /// Everything that is known of this many.
    pub(super) fn whole(rows: usize) -> Self {
        Self { rows, attempts: usize::MAX, facts: usize::MAX }
    }
}

/// What page and API show, newest first.
pub(super) fn shown(connection: &Connection) -> anyhow::Result<Vec<Notification>> {
    let extent = |rows| Extent { rows, attempts: SHOWN_ATTEMPTS_MAX, facts: SHOWN_FACTS_MAX };
    let mut shown = read(connection, &Wanted::default(), extent(SHOWN_MAX))?;
    let is_full = SHOWN_MAX <= shown.len();
    for stage in [Stage::Dead, Stage::Pending, Stage::Waiting, Stage::Silenced, Stage::Muted] {
        // Fewer rows than that are all there are.
        if is_full {
            let wanted = Wanted { stage: Some(stage), ..Wanted::default() };
            shown.extend(read(connection, &wanted, extent(SHOWN_OPEN_MAX))?);
        }
    }
    sort(&mut shown);
    shown.dedup_by(|a, b| a.id == b.id);
    Ok(shown)
}

/// What is wanted, newest first.
pub(super) fn read(
    connection: &Connection,
    wanted: &Wanted,
    extent: Extent,
) -> anyhow::Result<Vec<Notification>> {
    let mut found = messages(connection, of_messages(wanted).as_ref(), extent.rows)?;
    found.extend(notices(connection, of_notices(wanted).as_ref(), extent.rows)?);
    sort(&mut found);
    found.truncate(extent.rows);
    for it in &mut found {
        complete(connection, it, extent)?;
    }
    Ok(found)
}

/// One notification with all that is known of it, and its bytes; a notice that stands in no message has none.
pub(super) fn one(
    connection: &Connection,
    id: &str,
) -> anyhow::Result<Option<(Notification, Vec<u8>)>> {
    let mut id = id.to_owned();
    if let Some(row) = id.strip_prefix(OWED).and_then(|it| it.parse::<i64>().ok()) {
        let parcel = connection
            .query_row("SELECT parcel_id FROM owed WHERE id = ?1", [row], |row| row.get(0))
            .optional()?;
        match parcel {
            None => return Ok(None),
            Some(None) => {
                let rows = Rows::default().with("id = ?", [Value::Integer(row)]);
                let mut found = notices(connection, Some(&rows), 1)?;
                let Some(mut it) = found.pop() else { return Ok(None) };
                complete(connection, &mut it, Extent::whole(1))?;
                return Ok(Some((it, Vec::new())));
            }
            // It was composed meanwhile.
            Some(Some(parcel)) => id = parcel,
        }
    }
    let rows = Rows::default().with("id = ?", [Value::Text(id.clone())]);
    let Some(mut it) = messages(connection, Some(&rows), 1)?.pop() else { return Ok(None) };
    complete(connection, &mut it, Extent::whole(1))?;
    let body = connection
        .query_row("SELECT body FROM parcel WHERE id = ?1", [id], |row| row.get::<_, Vec<u8>>(0))?;
    Ok(Some((it, body)))
}

/// The ids of all messages that were given up, oldest first.
pub(super) fn dead(connection: &Connection, rows_max: usize) -> anyhow::Result<Vec<String>> {
    let mut statement = connection
        .prepare_cached("SELECT id FROM parcel WHERE state = 'dead' ORDER BY id LIMIT ?1")?;
    let ids = statement.query_map([limit(rows_max)], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Which rows of a table are read.
#[derive(Debug, Default)]
struct Rows {
    conditions: Vec<String>,
    values: Vec<Value>,
    scan: Scan,
}

/// How rows are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Scan {
    /// From the newest, until there are enough.
    #[default]
    Backwards,
    /// Through the index of the few that are in a state, which are then sorted.
    OfState,
}

impl Rows {
    fn with(mut self, condition: &str, values: impl IntoIterator<Item = Value>) -> Self {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
        self
    }

    /// What both tables have.
    fn of(wanted: &Wanted) -> Self {
        let mut rows = Self::default();
        if let Some(receiver) = &wanted.receiver {
            rows = rows.with("receiver = ?", [Value::Text(receiver.clone())]);
        }
        if let Some(kind) = wanted.integration {
            rows = rows.with("integration = ?", [Value::Text(kind.label().to_owned())]);
        }
        if let Some(since) = wanted.since {
            rows = rows.with("created_ms >= ?", [Value::Integer(to_ms(since))]);
        }
        if let Some(until) = wanted.until {
            rows = rows.with("created_ms < ?", [Value::Integer(to_ms(until))]);
        }
        rows
    }

    /// Those of one state that has an index of its own.
    fn of_state(self, condition: &str) -> Self {
        Self { scan: Scan::OfState, ..self.with(condition, []) }
    }

    /// The end of a statement that reads at most `rows_max`, the last made first.
    fn sql(&self, rows_max: usize) -> String {
        let conditions = match self.conditions.as_slice() {
            [] => "1".to_owned(),
            some => some.join(" AND "),
        };
        // Behind a plus, the order of the table is no reason to read all of it.
        let order = match self.scan {
            Scan::Backwards => "rowid",
            Scan::OfState => "+rowid",
        };
        format!("WHERE {conditions} ORDER BY {order} DESC LIMIT {}", limit(rows_max))
    }
}

/// That a row of `owed` is about a subject or what stands below it. A thread is the subject, a space, and a slot; a
/// subject may hold spaces, a slot holds none.
const ABOUT: &str = "(thread >= ? AND thread < ? AND instr(substr(thread, ?), ' ') = 0 OR thread >= ? AND thread < ?)";

fn about(subject: &str) -> [Value; 5] {
    let bound = |end: &str| Value::Text(format!("{subject}{end}"));
    // The place of the slot, counted in characters from 1.
    let slot = i64::try_from(subject.chars().count()).unwrap_or(i64::MAX).saturating_add(2);
    // The character after the space is `!`, the one after the slash `0`.
    [bound(" "), bound("!"), Value::Integer(slot), bound("/"), bound("0")]
}

/// The messages that are wanted; `None` if none can be.
fn of_messages(wanted: &Wanted) -> Option<Rows> {
    let mut rows = Rows::of(wanted);
    rows = match wanted.stage {
        None => rows,
        // Written out, so that the indexes of these states serve.
        Some(Stage::Dead) => rows.of_state("state = 'dead'"),
        Some(Stage::Pending) => rows.of_state("state = 'pending'"),
        Some(Stage::Delivered) => rows.with("state = 'delivered'", []),
        Some(Stage::Superseded) => rows.with("state = 'superseded'", []),
        Some(Stage::Waiting | Stage::Silenced | Stage::Muted) => return None,
    };
    if let Some(subject) = &wanted.subject {
        let within = format!("id IN (SELECT parcel_id FROM owed WHERE {ABOUT})");
        rows = rows.with(&within, about(subject));
    }
    Some(rows)
}

/// The notices in no message that are wanted; `None` if none can be.
fn of_notices(wanted: &Wanted) -> Option<Rows> {
    let mut rows = Rows::of(wanted);
    rows = match wanted.stage {
        None => rows.with("parcel_id IS NULL", []),
        // What waits stands in no message.
        Some(Stage::Waiting) => rows.of_state("state = 'waiting' AND held IS NULL"),
        Some(Stage::Silenced) => rows.of_state("state = 'waiting' AND held = 'silenced'"),
        Some(Stage::Muted) => rows.of_state("state = 'waiting' AND held = 'muted'"),
        Some(Stage::Superseded) => rows.with("parcel_id IS NULL AND state = 'superseded'", []),
        Some(Stage::Dead | Stage::Pending | Stage::Delivered) => return None,
    };
    if let Some(subject) = &wanted.subject {
        rows = rows.with(ABOUT, about(subject));
    }
    Some(rows)
}

/// The newest messages of these rows, without what they carry.
fn messages(
    connection: &Connection,
    rows: Option<&Rows>,
    rows_max: usize,
) -> anyhow::Result<Vec<Notification>> {
    let Some(rows) = rows else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT receiver, integration, channel, recipient, id, state, attempts, created_ms, next_ms, finished_ms, answer,
             {AT_REST}
         FROM parcel {}",
        rows.sql(rows_max)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(params_from_iter(&rows.values), message)?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn message(row: &Row<'_>) -> rusqlite::Result<Notification> {
    let is_at_rest: bool = row.get(11)?;
    let stage = match row.get::<_, String>(5)?.as_str() {
        "pending" => Stage::Pending,
        "delivered" => Stage::Delivered,
        "dead" => Stage::Dead,
        _ => Stage::Superseded,
    };
    let next: i64 = row.get(8)?;
    Ok(Notification {
        target: target(row)?,
        id: row.get(4)?,
        stage,
        next_at: (stage == Stage::Pending && is_at_rest).then(|| from_ms(next)),
        owed_at: None,
        composed_at: Some(from_ms(row.get(7)?)),
        finished_at: row.get::<_, Option<i64>>(9)?.map(from_ms),
        answer: row.get(10)?,
        attempts_total: row.get(6)?,
        attempts: Vec::new(),
        facts_total: 0,
        facts: Vec::new(),
    })
}

/// The newest notices of these rows, without what they tell.
fn notices(
    connection: &Connection,
    rows: Option<&Rows>,
    rows_max: usize,
) -> anyhow::Result<Vec<Notification>> {
    let Some(rows) = rows else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT receiver, integration, channel, recipient, id, state, held, created_ms, not_before_ms
         FROM owed {}",
        rows.sql(rows_max)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(params_from_iter(&rows.values), notice)?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn notice(row: &Row<'_>) -> rusqlite::Result<Notification> {
    let (word, held) = (row.get::<_, String>(5)?, row.get::<_, Option<String>>(6)?);
    let stage = match (word.as_str(), held.as_deref()) {
        ("waiting", Some("silenced")) => Stage::Silenced,
        ("waiting", Some(_)) => Stage::Muted,
        ("waiting", None) => Stage::Waiting,
        _ => Stage::Superseded,
    };
    let next = from_ms(row.get(8)?);
    Ok(Notification {
        target: target(row)?,
        id: format!("{OWED}{}", row.get::<_, i64>(4)?),
        stage,
        next_at: (stage != Stage::Superseded).then_some(next),
        owed_at: Some(from_ms(row.get(7)?)),
        composed_at: None,
        finished_at: None,
        answer: None,
        attempts_total: 0,
        attempts: Vec::new(),
        facts_total: 1,
        facts: Vec::new(),
    })
}

/// Adds what a notification tells, and how it was tried.
fn complete(connection: &Connection, it: &mut Notification, extent: Extent) -> anyhow::Result<()> {
    let select = "SELECT thread, notice FROM owed WHERE";
    let row = it.id.strip_prefix(OWED).and_then(|row| row.parse::<i64>().ok());
    let (facts, key) = match row {
        Some(row) => (format!("{select} id = ?1 LIMIT ?2"), Value::Integer(row)),
        None => {
            (format!("{select} parcel_id = ?1 ORDER BY id LIMIT ?2"), Value::Text(it.id.clone()))
        }
    };
    it.facts = connection
        .prepare_cached(&facts)?
        .query_map(params![key, limit(extent.facts)], |row| {
            Ok(fact(row.get(0)?, &row.get::<_, String>(1)?))
        })?
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    if row.is_some() {
        return Ok(());
    }
    let (total, owed): (i64, Option<i64>) = connection
        .prepare_cached("SELECT COUNT(*), MIN(created_ms) FROM owed WHERE parcel_id = ?1")?
        .query_row([&it.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    it.facts_total = usize::try_from(total).unwrap_or(0);
    it.owed_at = owed.map(from_ms);
    it.attempts = connection
        .prepare_cached(
            "SELECT number, at_ms, took_ms, outcome, answer FROM attempt WHERE parcel_id = ?1
             ORDER BY number DESC LIMIT ?2",
        )?
        .query_map(params![it.id, limit(extent.attempts)], attempt)?
        .collect::<Result<_, _>>()?;
    it.attempts.reverse();
    Ok(())
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        number: row.get(0)?,
        at: from_ms(row.get(1)?),
        took_ms: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        outcome: row.get(3)?,
        answer: row.get(4)?,
    })
}

/// What a row of `owed` tells; `None` if its notice cannot be read.
fn fact(thread: String, notice: &str) -> Option<Fact> {
    let notice: Notice = serde_json::from_str(notice).ok()?;
    let subject = match thread.rsplit_once(' ') {
        Some((subject, _)) => subject.to_owned(),
        None => thread,
    };
    Some(Fact {
        subject,
        platform: notice.platform,
        credential: notice.credential.map(|it| it.name),
        alert: notice.alert,
        reason: notice.reason,
        severity: notice.severity,
        at: notice.at,
        undelivered: notice.undelivered,
    })
}

/// Newest first; of one instant, the later id.
fn sort(found: &mut [Notification]) {
    found.sort_by(|a, b| b.at().cmp(&a.at()).then_with(|| b.id.cmp(&a.id)));
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
