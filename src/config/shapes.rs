//! Texts with a shape: names, labels, URLs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::problems::{could_be_secret, show};
use super::reader::{Fields, Item, Reader};

/// Longest name and label value: they are in every series and in every subject line.
pub(super) const LABEL_BYTES_MAX: usize = 128;

/// The most free labels of a credential: each is one more label on its series.
const LABELS_MAX: usize = 8;

/// Label names that the program gives a meaning.
const LABELS_RESERVED: [&str; 16] = [
    "platform",
    "credential",
    "kind",
    "type",
    "team",
    "severity",
    "receiver",
    "channel",
    "step",
    "reason",
    "state",
    "status",
    "alertname",
    "instance",
    "job",
    "le",
];

/// A name that is unique among `names`: a label value, a part of `platform/credential`, and a word in a subject line.
pub(super) fn name(
    reader: &mut Reader,
    fields: &Fields<'_>,
    what: &str,
    names: &mut BTreeSet<Arc<str>>,
) -> Option<Arc<str>> {
    let item = fields.get("name")?;
    let text = label_value(reader, &item)?;
    if text.contains('/') {
        let hint = "`/` separates platform and credential; use `-`";
        reader.problem(&item, format!("{} contains a slash", show(&text)), hint);
        return None;
    }
    let name: Arc<str> = Arc::from(text);
    if !names.insert(Arc::clone(&name)) {
        let message = format!("a second {what} has the name {}", show(&name));
        reader.problem(&item, message, "rename one of them");
        return None;
    }
    Some(name)
}

pub(super) fn label_value(reader: &mut Reader, item: &Item<'_>) -> Option<String> {
    let text = reader.text_of(item)?;
    let (message, hint) = if LABEL_BYTES_MAX < text.len() {
        (format!("has {} bytes; at most {LABEL_BYTES_MAX} are allowed", text.len()), "shorten it")
    } else if text.contains(char::is_control) {
        ("contains a control character".to_owned(), "remove it")
    } else {
        return Some(text.to_owned());
    };
    reader.problem(item, message, hint);
    None
}

pub(super) fn labels(reader: &mut Reader, fields: &Fields<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let written = reader.text_map(fields, "labels");
    if LABELS_MAX < written.len()
        && let Some(item) = fields.get("labels")
    {
        let message = format!("has {} labels; at most {LABELS_MAX} are allowed", written.len());
        reader.problem(&item, message, "keep those that somebody filters by");
    }
    for (item, name, _) in written {
        let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let digit_first = name.starts_with(|char: char| char.is_ascii_digit());
        if name.is_empty() || digit_first || !name.chars().all(word) || name.starts_with("__") {
            let message = "this is not the name of a label".to_owned();
            reader.problem(
                &item,
                message,
                "letters, digits and `_`, no digit first, not `__` first",
            );
        } else if LABEL_BYTES_MAX < name.len() || could_be_secret(name) {
            reader.problem(
                &item,
                "this is too long for the name of a label".to_owned(),
                "shorten it",
            );
        } else if LABELS_RESERVED.contains(&name) {
            let message = format!("the label `{name}` is set by the program");
            reader.problem(&item, message, "use another name");
        } else if let Some(value) = label_value(reader, &item) {
            labels.insert(name.to_owned(), value);
        }
    }
    labels
}

/// An absolute http or https URL without user, query and fragment; returned without a slash at its end.
pub(super) fn url(reader: &mut Reader, item: &Item<'_>) -> Option<String> {
    let text = reader.text_of(item)?;
    let wrong = match reqwest::Url::parse(text) {
        Err(error) => format!("{} is not a URL: {error}", show(text)),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("{} does not begin with http:// or https://", show(text))
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "the URL contains a user name or a password, which do not belong into this file"
                .to_owned()
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            "the URL contains a query or a fragment".to_owned()
        }
        Ok(_) => return Some(text.trim_end_matches('/').to_owned()),
    };
    reader.problem(
        item,
        wrong,
        "scheme, host and port, for example https://ece-1.example.org:12443",
    );
    None
}

/// The proxy under `proxy_url`.
pub(super) fn proxy(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    fields.get("proxy_url").and_then(|it| url(reader, &it))
}
