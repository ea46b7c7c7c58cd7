//! The routing tree: `route` of the top level.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::matchers::Matcher;
use super::super::problems::{nearest, show};
use super::super::reader::{Fields, Reader};
use super::super::receivers::{Receivers, reference};
use super::super::{GroupBy, Mute, Route};

/// The most routes of the tree: each alert is compared with all of them.
const ROUTES_MAX: usize = 1_000;

/// How deep the tree may be; a deeper one nobody follows.
const DEPTH_MAX: usize = 8;

/// The most matchers of one route, and labels to group by: an alert has about a dozen labels.
const LABELS_MAX: usize = 16;

/// The word for all labels.
const ALL_LABELS: &str = "...";

/// What a tree may refer to.
#[derive(Clone, Copy)]
struct Known<'a> {
    receivers: &'a Receivers,
    mutes: &'a BTreeMap<Arc<str>, Arc<Mute>>,
}

/// What a route hands down to those below it.
struct Above<'a> {
    receiver: Option<&'a Arc<str>>,
    group_by: &'a GroupBy,
    group_wait: Duration,
    group_interval: Duration,
    path: &'a str,
    depth: usize,
}

/// The tree; `None` when there is none, or its root is wrong.
pub(super) fn route(
    reader: &mut Reader,
    root: &Fields<'_>,
    receivers: &Receivers,
    mutes: &BTreeMap<Arc<str>, Arc<Mute>>,
) -> Option<Route> {
    let item = root.get("route")?;
    let fields = reader.one(root, "route")?;
    let known = Known { receivers, mutes };
    let receiver = reference(reader, &fields, "receiver", receivers);
    let group_by = group_by(reader, &fields).unwrap_or(GroupBy::Labels(Vec::new()));
    let (wait, interval) =
        (reader.duration(&fields, "group_wait"), reader.duration(&fields, "group_interval"));
    let mutes = mutes_of(reader, &fields, known);
    let path = Route::path_of_root();
    let above = Above {
        receiver: receiver.as_ref(),
        group_by: &group_by,
        // What is wrong is noted; what is below is read all the same.
        group_wait: wait.unwrap_or_default(),
        group_interval: interval.unwrap_or_default(),
        path: &path,
        depth: 1,
    };
    let mut count = 1;
    let routes = children(reader, &fields, known, &above, &mut count);
    if ROUTES_MAX < count {
        let message = format!("has {count} routes; at most {ROUTES_MAX} are allowed");
        reader.problem(&item, message, "one route can take several values: label=~\"a|b\"");
    }
    Some(Route {
        receiver: receiver?,
        matchers: Vec::new(),
        goes_on: false,
        group_by,
        group_wait: wait?,
        group_interval: interval?,
        mutes,
        routes,
        path,
    })
}

/// The routes under `routes`; wrong ones are noted and left out.
fn children(
    reader: &mut Reader,
    fields: &Fields<'_>,
    known: Known<'_>,
    above: &Above<'_>,
    count: &mut usize,
) -> Vec<Route> {
    let mut routes = Vec::new();
    let Some(item) = fields.get("routes") else { return routes };
    if DEPTH_MAX <= above.depth {
        let message = format!("is deeper than {DEPTH_MAX} routes");
        reader.problem(&item, message, "move matchers of the routes above into those below");
        return routes;
    }
    for fields in reader.many(fields, "routes").unwrap_or_default() {
        *count += 1;
        let route = child(reader, &fields, known, above, &routes, count);
        routes.extend(route);
    }
    routes
}

fn child(
    reader: &mut Reader,
    fields: &Fields<'_>,
    known: Known<'_>,
    above: &Above<'_>,
    before: &[Route],
    count: &mut usize,
) -> Option<Route> {
    let own = reference(reader, fields, "receiver", known.receivers);
    let receiver = own.as_ref().or(above.receiver);
    let matchers = matchers(reader, fields);
    let goes_on = reader.flag(fields, "continue");
    let group_by = group_by(reader, fields).unwrap_or_else(|| above.group_by.clone());
    let mut duration = |key, above| {
        if fields.has(key) { reader.duration(fields, key) } else { Some(above) }
    };
    let wait = duration("group_wait", above.group_wait);
    let interval = duration("group_interval", above.group_interval);
    let mutes = mutes_of(reader, fields, known);
    let path = Route::path_of_child(above.path, &matchers, before);
    let below = Above {
        receiver,
        group_by: &group_by,
        group_wait: wait.unwrap_or(above.group_wait),
        group_interval: interval.unwrap_or(above.group_interval),
        path: &path,
        depth: above.depth + 1,
    };
    let routes = children(reader, fields, known, &below, count);
    Some(Route {
        receiver: Arc::clone(receiver?),
        matchers,
        goes_on,
        group_by,
        group_wait: wait?,
        group_interval: interval?,
        mutes,
        routes,
        path,
    })
}

fn matchers(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Matcher> {
    let mut matchers = Vec::new();
    for (item, text) in reader.texts(fields, "matchers") {
        match Matcher::parse(text) {
            Ok(matcher) if matchers.contains(&matcher) => {
                reader.problem(
                    &item,
                    format!("{} is given twice", show(text)),
                    "remove one of them",
                );
            }
            Ok(matcher) => matchers.push(matcher),
            Err(error) => {
                reader.wrong_text(&item, "a matcher", &format!("{} {error}", show(text)));
            }
        }
    }
    bound(reader, fields, "matchers", matchers.len());
    matchers
}

/// What is written under `group_by`; `None` when nothing is.
fn group_by(reader: &mut Reader, fields: &Fields<'_>) -> Option<GroupBy> {
    let item = fields.get("group_by")?;
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut is_all = false;
    for (item, text) in reader.texts(fields, "group_by") {
        let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
        if text == ALL_LABELS {
            is_all = true;
        } else if !text.chars().all(word) || text.starts_with(|it: char| it.is_ascii_digit()) {
            let message = format!("{} is not the name of a label", show(text));
            reader.problem(&item, message, "for example `team`; `...` is all labels");
        } else if names.iter().any(|it| **it == *text) {
            reader.problem(&item, format!("{} is given twice", show(text)), "remove one of them");
        } else {
            names.push(text.into());
        }
    }
    bound(reader, fields, "group_by", names.len());
    if is_all && !names.is_empty() {
        let message = "holds `...`, which is all labels, and others".to_owned();
        reader.problem(&item, message, "keep `...` or the names");
    }
    names.sort();
    Some(if is_all { GroupBy::All } else { GroupBy::Labels(names) })
}

fn bound(reader: &mut Reader, fields: &Fields<'_>, key: &str, count: usize) {
    if let Some(item) = fields.get(key)
        && LABELS_MAX < count
    {
        let message = format!("has {count} entries; at most {LABELS_MAX} are allowed");
        reader.problem(&item, message, "remove some");
    }
}

fn mutes_of(reader: &mut Reader, fields: &Fields<'_>, known: Known<'_>) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for (item, text) in reader.texts(fields, "mute_time_intervals") {
        match known.mutes.get_key_value(text) {
            Some((name, _)) if names.contains(name) => {
                let message = format!("{} is named twice", show(text));
                reader.problem(&item, message, "remove one of them");
            }
            Some((name, _)) => names.push(Arc::clone(name)),
            None => {
                let hint = match nearest(text, known.mutes.keys().map(AsRef::as_ref)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "define it under `mute_time_intervals` of the top level".to_owned(),
                };
                reader.problem(&item, format!("there is no mute window {}", show(text)), hint);
            }
        }
    }
    names
}
