//! The listed keys and what was found about them: their rows and the SQL for them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};

use super::ledger;
use super::row::{FiringRow, ReadingRow, firing, firing_row, reading, reading_row};
use crate::alert::{Change, FINDINGS_MAX, Finding, FindingKind, Found, Lifespan, State};
use crate::config::{CredentialId, ItemKind};
use crate::observation::listing::Item;
use crate::time::{from_ms, to_ms};

/// What is remembered of one list.
#[derive(Debug, Default)]
pub struct RememberedList {
    /// Its keys, by id.
    pub keys: BTreeMap<Box<str>, Arc<Found>>,
    /// What was found last, oldest first.
    pub findings: Vec<Finding>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ItemRow {
    id: String,
    kind: String,
    place: String,
    user: String,
    description: String,
    created_ms: Option<i64>,
    reading: Option<ReadingRow>,
}

/// Of the state only what a listed key has.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct FoundRow {
    item: ItemRow,
    held_by: Option<String>,
    missed: u32,
    too_long: bool,
    reading: Option<ReadingRow>,
    candidate: Option<ReadingRow>,
    observed_at_ms: Option<i64>,
    generation: u32,
    lifetime: Option<FiringRow>,
}

fn item_row(item: &Item) -> ItemRow {
    ItemRow {
        id: item.id.to_string(),
        kind: item.kind.label().to_owned(),
        place: item.place.to_string(),
        user: item.user.to_string(),
        description: item.description.to_string(),
        created_ms: item.created.map(to_ms),
        reading: item.reading.map(reading_row),
    }
}

/// `None` for a kind of a newer version.
fn item(row: ItemRow, names: &mut HashSet<Arc<str>>) -> Option<Item> {
    // Many items are of the same user, in the same place.
    let mut once = |text: String| {
        names.get(text.as_str()).cloned().unwrap_or_else(|| {
            let text: Arc<str> = text.into();
            names.insert(Arc::clone(&text));
            text
        })
    };
    Some(Item {
        id: row.id.into(),
        kind: ItemKind::parse(&row.kind)?,
        place: once(row.place),
        user: once(row.user),
        description: row.description.into(),
        created: row.created_ms.map(from_ms),
        reading: row.reading.as_ref().map(reading),
    })
}

fn write_found(found: &Found) -> serde_json::Result<String> {
    let Found { item, held_by, state, missed, lifespan } = found;
    serde_json::to_string(&FoundRow {
        item: item_row(item),
        held_by: held_by.as_deref().map(str::to_owned),
        missed: *missed,
        too_long: *lifespan == Lifespan::TooLong,
        reading: state.reading.map(reading_row),
        candidate: state.candidate.map(reading_row),
        observed_at_ms: state.observed_at.map(to_ms),
        generation: state.generation,
        lifetime: state.lifetime.as_ref().map(firing_row),
    })
}

fn read_found(text: &str, names: &mut HashSet<Arc<str>>) -> Option<Found> {
    let row: FoundRow = serde_json::from_str(text).ok()?;
    let state = State {
        reading: row.reading.as_ref().map(reading),
        candidate: row.candidate.as_ref().map(reading),
        observed_at: row.observed_at_ms.map(from_ms),
        generation: row.generation,
        lifetime: row.lifetime.as_ref().and_then(firing),
        ..State::default()
    };
    let lifespan = if row.too_long { Lifespan::TooLong } else { Lifespan::Allowed };
    let held_by = row.held_by.map(Arc::from);
    let item = item(row.item, names)?;
    let state = State { key_id: item.lasting_id(), ..state };
    Some(Found { item, held_by, state, missed: row.missed, lifespan })
}

pub(super) fn load(
    connection: &Connection,
) -> anyhow::Result<HashMap<CredentialId, RememberedList>> {
    let mut lists: HashMap<CredentialId, RememberedList> = HashMap::new();
    let mut names = HashSet::new();
    let mut statement = connection.prepare("SELECT key, list, state FROM found")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let state: String = row.get(2)?;
        // One that cannot be read is as if it were new: the next list tells it again.
        let Some(found) = read_found(&state, &mut names) else {
            let key: String = row.get(0)?;
            tracing::warn!("the remembered key {key:?} is not readable, and is listed anew");
            continue;
        };
        let list = lists.entry(list_id(&row.get::<_, String>(1)?)).or_default();
        list.keys.insert(found.item.id.clone(), Arc::new(found));
    }
    let mut statement = connection.prepare("SELECT DISTINCT list FROM finding")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // One whose last key is gone has findings still.
        lists.entry(list_id(&row.get::<_, String>(0)?)).or_default();
    }
    for (id, list) in &mut lists {
        let mut statement = connection.prepare_cached(
            "SELECT at_ms, kind, item FROM finding WHERE list = ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let mut rows =
            statement.query((id.to_string(), i64::try_from(FINDINGS_MAX).unwrap_or(i64::MAX)))?;
        while let Some(row) = rows.next()? {
            let kind = FindingKind::parse(&row.get::<_, String>(1)?);
            let item_row = serde_json::from_str::<ItemRow>(&row.get::<_, String>(2)?).ok();
            // One that a newer version wrote is not shown.
            let item = item_row.and_then(|it| item(it, &mut names));
            let (Some(kind), Some(item)) = (kind, item) else { continue };
            let at = from_ms(row.get(0)?);
            list.findings.push(Finding { kind, at, item });
        }
        list.findings.reverse();
    }
    Ok(lists)
}

fn list_id(text: &str) -> CredentialId {
    let (platform, name) = text.split_once('/').unwrap_or((text, ""));
    CredentialId { platform: platform.into(), name: name.into() }
}

/// Writes what changed of the keys of lists, and what was found.
pub(super) fn put(
    transaction: &Transaction<'_>,
    changes: &[(CredentialId, Change)],
    findings: &[(CredentialId, Finding)],
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let mut put = transaction.prepare_cached(
        "INSERT INTO found (key, list, state, updated_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (key) DO UPDATE SET state = excluded.state, updated_ms = excluded.updated_ms",
    )?;
    let mut delete = transaction.prepare_cached("DELETE FROM found WHERE key = ?1")?;
    for (list, change) in changes {
        let list = list.to_string();
        match change {
            Change::Put(found) => {
                let key = format!("{list}/{}", found.item.id);
                put.execute((key, list, write_found(found)?, to_ms(now)))?;
            }
            Change::Gone(found) => {
                delete.execute([format!("{list}/{}", found.item.id)])?;
            }
        }
    }
    let mut note = transaction
        .prepare_cached("INSERT INTO finding (list, at_ms, kind, item) VALUES (?1, ?2, ?3, ?4)")?;
    for (list, finding) in findings {
        let item = serde_json::to_string(&item_row(&finding.item))?;
        note.execute((list.to_string(), to_ms(finding.at), finding.kind.label(), item))?;
    }
    Ok(())
}

/// Forgets the keys of every list that `keep` does not name, and owes the end of their alerts to those who were told.
pub(super) fn forget_others(
    transaction: &Transaction<'_>,
    keep: &HashSet<&str>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let texts = |sql: &str, list: &[&str]| -> anyhow::Result<Vec<String>> {
        let mut statement = transaction.prepare(sql)?;
        let rows = statement.query_map(rusqlite::params_from_iter(list), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    for list in texts("SELECT list FROM found UNION SELECT list FROM finding", &[])? {
        if keep.contains(list.as_str()) {
            continue;
        }
        for key in texts("SELECT key FROM found WHERE list = ?1", &[&list])? {
            for owed in ledger::ends(transaction, &key, now)? {
                // A finding happened once; only what lasts ends.
                if owed.thread.ends_with(" lifetime") {
                    ledger::owe(transaction, &owed, now)?;
                }
            }
        }
        transaction.execute("DELETE FROM found WHERE list = ?1", [&list])?;
        transaction.execute("DELETE FROM finding WHERE list = ?1", [&list])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alert::{AlertName, Firing};
    use crate::config::Severity;
    use crate::observation::Reading;

    #[test]
    fn a_listed_key_survives_the_round_trip() {
        let at = from_ms(1_795_000_000_123);
        let found = Found {
            item: Item {
                id: "62be:elasticsearch_api_key:8e2f".into(),
                kind: ItemKind::ElasticsearchApiKey,
                place: "logs".into(),
                user: "marc".into(),
                description: "ci \"x\"".into(),
                created: Some(at),
                reading: Some(Reading::ExpiresAt(at)),
            },
            held_by: Some("terraform".into()),
            state: State {
                reading: Some(Reading::Never),
                candidate: Some(Reading::ExpiresAt(at)),
                observed_at: Some(at),
                generation: 3,
                lifetime: Some(Firing {
                    name: AlertName::CredentialExpiring,
                    severity: Severity::Warning,
                    step: Some(Duration::from_secs(86_400)),
                    starts_at: at,
                    told_at: at,
                    repeats: 0,
                }),
                ..State::default()
            },
            missed: 1,
            lifespan: Lifespan::TooLong,
        };
        let text = write_found(&found).unwrap();
        assert_eq!(read_found(&text, &mut HashSet::new()).unwrap(), found);
        for unknown in ["{}", r#"{"item":{"id":"10","kind":"of_a_later_version"}}"#] {
            assert_eq!(read_found(unknown, &mut HashSet::new()), None, "{unknown}");
        }
    }
}
