//! Mute windows: `mute_time_intervals` of the top level.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::problems::show;
use super::super::reader::{Fields, Reader};
use super::super::shapes::name;
use super::super::{Config, Mute, Severity};
use crate::schedule::Schedule;

/// The most mute windows; each is looked at whenever something is due.
const MUTES_MAX: usize = 100;

/// All windows by name.
pub(super) fn mutes(
    reader: &mut Reader,
    root: &Fields<'_>,
    zone: &str,
) -> BTreeMap<Arc<str>, Arc<Mute>> {
    let mut names = BTreeSet::new();
    let mut mutes = BTreeMap::new();
    let Some(item) = root.get("mute_time_intervals") else { return mutes };
    let all = reader.many(root, "mute_time_intervals").unwrap_or_default();
    if MUTES_MAX < all.len() {
        let message = format!("has {} windows; at most {MUTES_MAX} are allowed", all.len());
        reader.problem(&item, message, "join those that are alike: `start` can name several days");
    }
    for fields in all {
        let name = name(reader, &fields, "mute window", &mut names);
        let start = cron(reader, &fields, "start", zone);
        let duration = reader.duration(&fields, "duration");
        let except = reader.choices(&fields, "except").into_iter().filter_map(Severity::parse);
        let except = except.collect();
        if let (Some(start), Some(duration)) = (&start, duration)
            && start.longest_gap() <= duration
        {
            let message = "never ends: it begins again before it is over".to_owned();
            let hint = "shorten `duration`, or let `start` name fewer times";
            reader.problems.add(fields.place, &fields.path, message, hint);
        }
        if let (Some(name), Some(start), Some(duration)) = (name, start, duration) {
            let mute = Mute { name: Arc::clone(&name), start, duration, except };
            mutes.insert(name, Arc::new(mute));
        }
    }
    mutes
}

/// The cron expression under `key`, in the zone of these fields or the one above. An interval has no time of day.
pub(super) fn cron(
    reader: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    above: &str,
) -> Option<Schedule> {
    let own = fields.get("timezone");
    let zone = match &own {
        Some(item) => reader.text_of(item)?,
        None => above,
    };
    // The interval is only there to have the zone looked at alone.
    if let (Some(item), Err(error)) = (&own, Schedule::parse("1h", zone)) {
        reader.wrong_text(item, "a time zone", &error.to_string());
        return None;
    }
    let item = fields.get(key)?;
    let text = reader.text_of(&item)?;
    match Schedule::parse(text, zone) {
        Ok(start @ Schedule::Cron(_)) => Some(start),
        Ok(Schedule::Every(_)) => {
            let message = format!("{} is an interval, which begins at no time of day", show(text));
            reader.problem(&item, message, "write a cron expression, for example \"0 22 * * *\"");
            None
        }
        Err(error) => {
            reader.wrong_text(&item, "a cron expression", &error.to_string());
            None
        }
    }
}

/// Warns of windows that no route names.
pub(super) fn warn_of_idle(reader: &mut Reader, config: &Config) {
    let routes = config.route.as_ref().map(|it| it.all()).unwrap_or_default();
    let used: BTreeSet<_> = routes.iter().flat_map(|it| &it.mutes).collect();
    for name in config.mutes.keys().filter(|it| !used.contains(it)) {
        let name = show(name);
        let warning = format!("mute_time_intervals: {name} mutes nothing; no route names it");
        reader.problems.warn(warning);
    }
}
