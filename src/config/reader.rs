//! Reads values off the tree, and notes what is wrong with each instead of stopping.
//!
//! A method that returns `None` for something that was written has noted a problem; the caller goes on with the next
//! key. What a value means for another value is not decided here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{Field, Kind, Table};
use super::problems::{Problems, could_be_secret, nearest, show};
use super::yaml::{Entry, Node, Place, Value};
use crate::schedule::{format_duration, parse_duration};

/// The longest text of one value: notes of a page, not books.
const TEXT_BYTES_MAX: usize = 4096;

/// The longest message of another parser that is passed on; a longer one repeats a long text.
const SHOWN_ERROR_BYTES_MAX: usize = 300;

/// The one variable that is expanded in paths; systemd sets it for a unit with `LoadCredential=`.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// A value with its path.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub(super) place: Place,
    pub(super) path: String,
    node: &'a Node,
}

/// A map whose keys have been compared with its table.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// Where the map begins, for problems of the map as a whole.
    pub(super) place: Place,
    pub(super) path: String,
    table: &'static Table,
    entries: &'a [Entry],
}

/// The state of one reading: where relative paths begin, and what is wrong so far.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) problems: Problems,
    /// Secret files that everybody on the machine can read.
    pub(super) open_secrets: Vec<PathBuf>,
    /// How long the next secret file may take; one that hung leaves little for the others.
    pub(super) patience: Duration,
    /// The folder of the configuration file.
    folder: PathBuf,
    /// Of systemd, if it set one.
    credentials_folder: Option<String>,
}

impl<'a> Item<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { place: node.place, path: String::new(), node }
    }

    /// The tree below, for what has no keys of its own.
    pub(super) fn node(&self) -> &'a Node {
        self.node
    }
}

impl<'a> Fields<'a> {
    /// The value of a key, if it was written.
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        debug_assert!(self.table.field(key).is_some(), "{key} is not in the table");
        let entry = self.entries.iter().find(|it| it.key == key)?;
        let node = &entry.node;
        Some(Item { place: node.place, path: join(&self.path, key), node })
    }

    /// Whether a key was written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|it| it.key == key)
    }

    /// Whether a key was written that is not in the table.
    pub(super) fn has_unknown(&self, key: &str) -> bool {
        self.table.field(key).is_none() && self.has(key)
    }

    fn default(&self, key: &str) -> Option<&'static str> {
        self.table.field(key)?.default
    }

    fn kind(&self, key: &str) -> Option<&'static Kind> {
        Some(&self.table.field(key)?.kind)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Reader {
    /// A reader for the file at `origin`.
    pub(super) fn new(origin: &Path) -> Self {
        let folder = origin.parent().unwrap_or(Path::new("")).to_owned();
        let credentials_folder = std::env::var(CREDENTIALS_VARIABLE).ok();
        Self {
            problems: Problems::default(),
            open_secrets: Vec::new(),
            patience: super::check::PATIENCE,
            folder,
            credentials_folder,
        }
    }

    /// Notes a problem with a value.
    pub(super) fn problem(&mut self, item: &Item<'_>, message: String, hint: impl Into<String>) {
        self.problems.add(item.place, &item.path, message, hint);
    }

    /// Notes that a text is not a `wanted`, in the words of the parser that refused it, unless those hold a secret.
    pub(super) fn wrong_text(&mut self, item: &Item<'_>, wanted: &str, error: &str) {
        if could_be_secret(error) || SHOWN_ERROR_BYTES_MAX < error.len() {
            let message =
                format!("this text is not {wanted}; it is hidden because it could be a secret");
            self.problem(item, message, "");
        } else {
            let (message, hint) = error.split_once("; ").unwrap_or((error, ""));
            self.problem(item, message.to_owned(), hint);
        }
    }

    /// The map that `item` is, its keys compared with `table`: unknown, duplicate and missing ones are noted.
    pub(super) fn fields<'a>(
        &mut self,
        item: &Item<'a>,
        table: &'static Table,
    ) -> Option<Fields<'a>> {
        let Value::Map(entries) = &item.node.value else {
            self.wrong_kind(item, "a map", "keys with values: `key: value`");
            return None;
        };
        self.duplicates(&item.path, entries);
        for entry in entries.iter().filter(|it| table.field(&it.key).is_none()) {
            self.unknown(&item.path, entry, table);
        }
        let fields = Fields { place: item.place, path: item.path.clone(), table, entries };
        for field in table.fields.iter().filter(|it| it.required && !fields.has(it.key)) {
            self.missing(&fields, field.key);
        }
        Some(fields)
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&mut self, fields: &Fields<'_>, key: &str) {
        let hint = fields.table.field(key).map_or_else(String::new, example);
        self.problems.add(fields.place, &fields.path, format!("`{key}` is missing"), hint);
    }

    /// The map under a key that is a map in the table; `None` when it was not written.
    pub(super) fn one<'a>(&mut self, fields: &Fields<'a>, key: &str) -> Option<Fields<'a>> {
        let item = fields.get(key)?;
        match fields.kind(key) {
            Some(Kind::One(table)) => self.fields(&item, table),
            _ => None,
        }
    }

    /// As `one`, but what was not written, or is no map, is a map without keys, which has all its defaults.
    pub(super) fn one_or_defaults<'a>(&mut self, fields: &Fields<'a>, key: &str) -> Fields<'a> {
        let written = self.one(fields, key);
        written.unwrap_or_else(|| {
            let Some(Kind::One(table)) = fields.kind(key) else {
                unreachable!("{key} is a map in the table")
            };
            let (place, path) = (fields.place, join(&fields.path, key));
            Fields { place, path, table, entries: &[] }
        })
    }

    /// The maps under a key that is a list of maps in the table; `None` when it was not written or is no list.
    pub(super) fn many<'a>(&mut self, fields: &Fields<'a>, key: &str) -> Option<Vec<Fields<'a>>> {
        let item = fields.get(key)?;
        let Some(Kind::Many(table)) = fields.kind(key) else { return None };
        let items = self.list(&item)?;
        Some(items.iter().filter_map(|it| self.fields(it, table)).collect())
    }

    /// The items of a list; an empty one is noted.
    pub(super) fn list<'a>(&mut self, item: &Item<'a>) -> Option<Vec<Item<'a>>> {
        match &item.node.value {
            Value::List(nodes) if nodes.is_empty() => {
                self.problem(
                    item,
                    "is an empty list".to_owned(),
                    "give it an entry; a key that is not required can be removed instead",
                );
                None
            }
            Value::List(nodes) => {
                let at = |(index, node): (usize, &'a Node)| Item {
                    place: node.place,
                    path: format!("{}[{index}]", item.path),
                    node,
                };
                Some(nodes.iter().enumerate().map(at).collect())
            }
            _ => {
                self.wrong_kind(item, "a list", "entries like `- …`, or `[…, …]`");
                None
            }
        }
    }

    /// The texts of a list under a key.
    pub(super) fn texts<'a>(&mut self, fields: &Fields<'a>, key: &str) -> Vec<(Item<'a>, &'a str)> {
        let Some(item) = fields.get(key) else { return Vec::new() };
        let alone = matches!(item.node.value, Value::Plain(_) | Value::Text(_));
        let items = match fields.kind(key) {
            Some(Kind::TextOrTexts) if alone => vec![item],
            _ => self.list(&item).unwrap_or_default(),
        };
        let mut texts = Vec::new();
        for item in items {
            if let Some(text) = self.text_of(&item) {
                texts.push((item, text));
            }
        }
        texts
    }

    /// The text under a key, or its default.
    pub(super) fn text<'a>(&mut self, fields: &Fields<'a>, key: &str) -> Option<&'a str> {
        match fields.get(key) {
            Some(item) => self.text_of(&item),
            None => fields.default(key),
        }
    }

    /// The text that `item` is: not empty, within bounds, no control characters but line feeds.
    pub(super) fn text_of<'a>(&mut self, item: &Item<'a>) -> Option<&'a str> {
        let (Value::Plain(text) | Value::Text(text)) = &item.node.value else {
            self.wrong_kind(item, "a text", "");
            return None;
        };
        let text = text.trim();
        let (message, hint) = if text.is_empty() {
            ("is empty".to_owned(), "give it a value, or remove the key")
        } else if TEXT_BYTES_MAX < text.len() {
            (
                format!("has {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len()),
                "shorten it",
            )
        } else if text.contains(|char: char| char.is_control() && char != '\n') {
            ("contains a control character".to_owned(), "remove it")
        } else {
            return Some(text);
        };
        self.problem(item, message, hint);
        None
    }

    /// The flag under a key, or its default.
    pub(super) fn flag(&mut self, fields: &Fields<'_>, key: &str) -> bool {
        let default = fields.default(key) == Some("true");
        let Some(item) = fields.get(key) else { return default };
        match &item.node.value {
            Value::Plain(text) if text == "true" => true,
            Value::Plain(text) if text == "false" => false,
            Value::Plain(text) | Value::Text(text) => {
                let message = format!("{} is neither true nor false", show(text));
                self.problem(&item, message, "write true or false, without quotes");
                default
            }
            _ => {
                self.wrong_kind(&item, "true or false", "");
                default
            }
        }
    }

    /// The number under a key, or its default.
    pub(super) fn number(&mut self, fields: &Fields<'_>, key: &str) -> Option<u32> {
        let Some(item) = fields.get(key) else { return fields.default(key)?.parse().ok() };
        let Some(Kind::Number(min, max)) = fields.kind(key) else { return None };
        let text = self.text_of(&item)?;
        let number = text.parse::<u32>().ok().filter(|it| (min..=max).contains(&it));
        if number.is_none() {
            let message = format!("{} is not a number from {min} to {max}", show(text));
            self.problem(&item, message, format!("for example {min}"));
        }
        number
    }

    /// The duration under a key, or its default.
    pub(super) fn duration(&mut self, fields: &Fields<'_>, key: &str) -> Option<Duration> {
        let Some(item) = fields.get(key) else { return parse_duration(fields.default(key)?).ok() };
        let (Kind::Duration(min, max) | Kind::DurationOrNever(min, max)) = fields.kind(key)? else {
            return None;
        };
        let text = self.text_of(&item)?;
        let duration = match parse_duration(text) {
            Ok(duration) => duration,
            Err(error) => {
                self.wrong_text(&item, "a duration", &error);
                return None;
            }
        };
        let bound = |text| parse_duration(text).expect("the bounds in the tables are durations");
        if (bound(min)..=bound(max)).contains(&duration) {
            return Some(duration);
        }
        let shown = format_duration(duration);
        self.problem(&item, format!("{shown} is out of bounds"), format!("from {min} to {max}"));
        None
    }

    /// The duration under a key or its default; `Some(None)` is `never`.
    #[expect(
        clippy::option_option,
        reason = "a wrong value, `never`, and a duration are three things"
    )]
    pub(super) fn duration_or_never(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
    ) -> Option<Option<Duration>> {
        let written = match fields.get(key).map(|it| &it.node.value) {
            Some(Value::Plain(text) | Value::Text(text)) => Some(text.as_str()),
            Some(_) => None,
            None => fields.default(key),
        };
        match written {
            Some("never") => Some(None),
            _ => self.duration(fields, key).map(Some),
        }
    }

    /// The choice under a key, or its default.
    pub(super) fn choice(&mut self, fields: &Fields<'_>, key: &str) -> Option<&'static str> {
        let Some(item) = fields.get(key) else { return fields.default(key) };
        let Some(Kind::Choice(choices)) = fields.kind(key) else { return None };
        self.choice_of(&item, choices)
    }

    /// The choices in the list under a key, none twice.
    pub(super) fn choices(&mut self, fields: &Fields<'_>, key: &str) -> Vec<&'static str> {
        let Some(Kind::Choices(choices)) = fields.kind(key) else { return Vec::new() };
        let items = fields.get(key).and_then(|it| self.list(&it)).unwrap_or_default();
        let mut found = Vec::new();
        for item in items {
            let Some(choice) = self.choice_of(&item, choices) else { continue };
            if found.contains(&choice) {
                self.problem(&item, format!("`{choice}` is given twice"), "remove one of them");
            }
            found.push(choice);
        }
        found
    }

    fn choice_of(&mut self, item: &Item<'_>, choices: &[&'static str]) -> Option<&'static str> {
        let text = self.text_of(item)?;
        if let Some(choice) = choices.iter().find(|it| **it == text) {
            return Some(choice);
        }
        let hint = match nearest(text, choices.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? Allowed: {}", choices.join(", ")),
            None => format!("allowed: {}", choices.join(", ")),
        };
        self.problem(item, format!("{} is not known", show(text)), hint);
        None
    }

    /// The path under a key or its default, made absolute.
    pub(super) fn path(&mut self, fields: &Fields<'_>, key: &str) -> Option<PathBuf> {
        match fields.get(key) {
            Some(item) => self.path_of(&item),
            None => fields.default(key).map(PathBuf::from),
        }
    }

    /// The path that `item` is: relative ones begin at the folder of the file, and systemd's variable is expanded.
    pub(super) fn path_of(&mut self, item: &Item<'_>) -> Option<PathBuf> {
        let text = self.text_of(item)?;
        match expand(text, self.credentials_folder.as_deref()) {
            Ok(path) => Some(self.folder.join(path)),
            Err((message, hint)) => {
                self.problem(item, message, hint);
                None
            }
        }
    }

    /// The keys and texts of a map with free keys.
    pub(super) fn text_map<'a>(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
    ) -> Vec<(Item<'a>, &'a str, &'a str)> {
        let Some(item) = fields.get(key) else { return Vec::new() };
        let Value::Map(entries) = &item.node.value else {
            self.wrong_kind(&item, "a map", "names with values: `name: value`");
            return Vec::new();
        };
        self.duplicates(&item.path, entries);
        let mut texts = Vec::new();
        for entry in entries {
            let path = join(&item.path, &shown_key(&entry.key));
            let item = Item { place: entry.node.place, path, node: &entry.node };
            if let Some(text) = self.text_of(&item) {
                texts.push((item, entry.key.as_str(), text));
            }
        }
        texts
    }

    fn duplicates(&mut self, path: &str, entries: &[Entry]) {
        let mut seen = BTreeMap::new();
        for entry in entries {
            if let Some(first) = seen.insert(entry.key.as_str(), entry.place.line) {
                let key = shown_key(&entry.key);
                let message = format!("`{key}` is given twice, first in line {first}");
                self.problems.add(entry.place, &join(path, &key), message, "remove one of them");
            }
        }
    }

    fn unknown(&mut self, path: &str, entry: &Entry, table: &'static Table) {
        let instead = table.instead.iter().find(|(key, _)| *key == entry.key);
        let known = || table.fields.iter().map(|it| it.key);
        let hint = match (instead, nearest(&entry.key, known())) {
            (Some((_, instead)), _) => (*instead).to_owned(),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("allowed: {}", known().collect::<Vec<_>>().join(", ")),
        };
        let key = shown_key(&entry.key);
        self.problems.add(entry.place, &join(path, &key), format!("unknown key `{key}`"), hint);
    }

    fn wrong_kind(&mut self, item: &Item<'_>, wanted: &str, hint: &str) {
        let found = match &item.node.value {
            Value::Null => "has no value",
            Value::Plain(_) | Value::Text(_) => "is a text",
            Value::List(_) => "is a list",
            Value::Map(_) => "is a map",
        };
        self.problem(item, format!("{found}; {wanted} is wanted"), hint);
    }
}

/// A key as it may be printed: somebody may have written a secret where a key belongs.
fn shown_key(key: &str) -> String {
    /// No key is nearly as long.
    const KEY_BYTES_MAX: usize = 64;
    let word = |char: char| char.is_alphanumeric() || "_-. <".contains(char);
    if key.len() <= KEY_BYTES_MAX && key.chars().all(word) && !could_be_secret(key) {
        key.to_owned()
    } else {
        format!("<{} bytes>", key.len())
    }
}

fn example(field: &Field) -> String {
    match field.key {
        "name" => "for example `name: prod`".to_owned(),
        "urls" => "for example `urls: [https://ece-1.example.org:12443]`".to_owned(),
        "to" => "for example `to: [ops@example.org]`".to_owned(),
        "smarthost" => "for example `smarthost: smtp.example.org:587`".to_owned(),
        "before" => "for example `before: 14d`".to_owned(),
        _ => field.doc.trim_end_matches('.').to_owned(),
    }
}

/// Puts the folder of systemd's credentials in; no other variable is known.
fn expand(text: &str, credentials_folder: Option<&str>) -> Result<PathBuf, (String, &'static str)> {
    if !text.contains("${") {
        return Ok(PathBuf::from(text));
    }
    let rest = text.strip_prefix("${").and_then(|it| it.strip_prefix(CREDENTIALS_VARIABLE));
    let Some(rest) = rest.and_then(|it| it.strip_prefix("}/")).filter(|it| !it.contains("${"))
    else {
        return Err((
            "names a variable that is not expanded here".to_owned(),
            "only `${CREDENTIALS_DIRECTORY}/…`, at the beginning",
        ));
    };
    match credentials_folder {
        Some(folder) => Ok(Path::new(folder).join(rest)),
        None => Err((
            format!("needs the environment variable {CREDENTIALS_VARIABLE}, which is not set"),
            "systemd sets it for a service with `LoadCredential=`. In a shell, as root: \
             export CREDENTIALS_DIRECTORY=FOLDER, the folder with the files that `LoadCredential=` names, such as \
             /etc/ece-expiry-exporter/secrets",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_credentials_directory_of_systemd_is_expanded() {
        let expand = |text| expand(text, Some("/run/credentials/x")).ok();
        assert_eq!(expand("${CREDENTIALS_DIRECTORY}/key"), Some("/run/credentials/x/key".into()));
        assert_eq!(expand("secrets/key"), Some("secrets/key".into()));
        assert_eq!(expand("${HOME}/key"), None);
        assert_eq!(expand("${CREDENTIALS_DIRECTORY}/${HOME}"), None);
        assert_eq!(expand("/x/${CREDENTIALS_DIRECTORY}/key"), None);
    }

    #[test]
    fn a_missing_credentials_directory_is_said() {
        let (message, _) = super::expand("${CREDENTIALS_DIRECTORY}/key", None).unwrap_err();
        assert_eq!(
            message,
            "needs the environment variable CREDENTIALS_DIRECTORY, which is not set"
        );
    }
}
