//! Messages in the format of a service, from a format file: a body whose texts are templates.
//!
//! The structure of a body is YAML, and only its texts are templates. A text is rendered on its own and the whole is then
//! written as JSON, so nothing that a name holds can become structure. Which names a template can use is in `context`;
//! what is stored and what is sent differ by a secret and a path, see `stored`.

mod check;
mod context;
mod filters;
pub mod stored;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use anyhow::{Context as _, anyhow, bail};
use minijinja::value::{Serde, merge_maps};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context};
use serde_json::{Map, Value as Json};

pub use self::check::check;
use super::{Draft, Sorted};
use crate::config::{Body, BodyValue, FormatFile, Template, WebhookConfig};

/// The most nodes of one body: ten times what the largest format makes, and an end to nested loops.
const NODES_MAX: usize = 20_000;

/// How much work one template may do: a hundred times what a long one needs.
const FUEL_MAX: u64 = 100_000;

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    templates.set_fuel(Some(FUEL_MAX));
    // What is not there is no text, rather than the word `none`.
    templates.set_formatter(|out, state, value| {
        if value.is_none() { Ok(()) } else { minijinja::escape_formatter(out, state, value) }
    });
    filters::add(&mut templates);
    templates
});

/// Whether the message says what is, or ends what a test began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// What the notices say.
    AsIs,
    /// The end of a test.
    TestEnds,
}

/// The message about `sorted`, worst first, as it is stored: without the secret, with the path it goes to.
///
/// # Errors
/// Several notices for a format that carries one, a template that fails on them, or a body that is too large.
pub fn compose(
    file: &FormatFile,
    config: &WebhookConfig,
    draft: &Draft<'_>,
    sorted: &Sorted<'_>,
    phase: Phase,
) -> anyhow::Result<Vec<u8>> {
    let params = context::params(file, &config.params);
    let mut shown = sorted.len().min(file.alerts_max);
    loop {
        let values = context::context(draft, sorted, shown, &params, phase);
        let (body, path) = if context::has_ended(sorted, phase) {
            (file.body_resolved.as_ref().unwrap_or(&file.body), &file.path_resolved)
        } else {
            (&file.body, &file.path_firing)
        };
        let mut page = Page { file, nodes: 0 };
        let json = page.only("body", body, &values)?;
        let bytes = serde_json::to_vec(&json).context("cannot write the body")?;
        if bytes.len() <= file.bytes_max {
            let path = path.as_ref().map(|it| page.path(it, &values)).transpose()?;
            return Ok(stored::seal(path.as_deref(), bytes));
        }
        if shown <= 1 {
            bail!(
                "{}: the body has {} bytes; at most {} are allowed (shorten texts with the filter `cut`)",
                file.name,
                bytes.len(),
                file.bytes_max
            );
        }
        shown /= 2;
    }
}

/// The URL of the format itself, with the settings of a channel.
///
/// # Errors
/// The format has none, or its template fails.
pub fn default_url(file: &FormatFile, params: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let template = file.url.as_ref().context("the format has no URL of its own")?;
    let values = context! { params => Value::from(Serde(context::params(file, params))) };
    Page { file, nodes: 0 }.template("url", template, &values)
}

/// One rendering of a file.
struct Page<'a> {
    file: &'a FormatFile,
    nodes: usize,
}

impl Page<'_> {
    fn wrong(&self, line: usize, path: &str, what: impl fmt::Display) -> anyhow::Error {
        anyhow!("{}:{line}: {path}: {what}", self.file.name)
    }

    fn template(&self, path: &str, it: &Template, values: &Value) -> anyhow::Result<String> {
        self.text(path, it.line, &it.text, values)
    }

    /// What follows the URL.
    fn path(&self, it: &Template, values: &Value) -> anyhow::Result<String> {
        let path = self.template("path", it, values)?;
        if path.starts_with(['/', '?']) {
            return Ok(path);
        }
        Err(self.wrong(it.line, "path", "begins neither with `/` nor with `?`"))
    }

    fn text(&self, path: &str, line: usize, text: &str, values: &Value) -> anyhow::Result<String> {
        let rendered = TEMPLATES.render_named_str(path, text, values.clone());
        rendered.map_err(|error| self.wrong(line, path, said(&error)))
    }

    fn value(&self, path: &str, line: usize, text: &str, values: &Value) -> anyhow::Result<Value> {
        let found = TEMPLATES.compile_expression(text).and_then(|it| it.eval(values.clone()));
        let found = found.map_err(|error| self.wrong(line, path, said(&error)))?;
        if found.is_undefined() {
            return Err(self.wrong(line, path, "names something that does not exist"));
        }
        Ok(found)
    }

    /// The one value that a node makes.
    fn only(&mut self, path: &str, node: &Body, values: &Value) -> anyhow::Result<Json> {
        let mut made = self.node(path, node, values)?;
        match made.len() {
            1 => Ok(made.remove(0)),
            count => Err(self.wrong(
                node.line,
                path,
                format!("makes {count} values where one is wanted"),
            )),
        }
    }

    /// The values that a node makes: one, or none or several by its instructions.
    fn node(&mut self, path: &str, node: &Body, values: &Value) -> anyhow::Result<Vec<Json>> {
        self.nodes += 1;
        if NODES_MAX < self.nodes {
            return Err(self.wrong(node.line, path, format!("makes more than {NODES_MAX} values")));
        }
        Ok(match &node.value {
            BodyValue::Literal(literal) => vec![literal.clone()],
            BodyValue::Text(text) => vec![Json::from(self.text(path, node.line, text, values)?)],
            BodyValue::List(items) => vec![Json::Array(self.items(path, items, values)?)],
            BodyValue::Map(entries) => self.map(path, node.line, entries, values)?,
        })
    }

    fn items(&mut self, path: &str, items: &[Body], values: &Value) -> anyhow::Result<Vec<Json>> {
        let mut made = Vec::new();
        for (at, item) in items.iter().enumerate() {
            made.extend(self.node(&format!("{path}[{at}]"), item, values)?);
        }
        Ok(made)
    }

    fn map(
        &mut self,
        path: &str,
        line: usize,
        entries: &[(String, Body)],
        values: &Value,
    ) -> anyhow::Result<Vec<Json>> {
        let order = Instructions::of(entries).map_err(|what| self.wrong(line, path, what))?;
        if let Some((line, condition)) = order.when
            && !self.value(&format!("{path}.$when"), line, condition, values)?.is_true()
        {
            return Ok(Vec::new());
        }
        let Some((line, name, list)) = order.each else {
            return self.content(path, &order.content, values);
        };
        let at = format!("{path}.$for");
        let items = self.value(&at, line, list, values)?;
        let items = items.try_iter().map_err(|error| self.wrong(line, &at, said(&error)))?;
        let mut made = Vec::new();
        for (at, item) in items.take(order.max).enumerate() {
            let own = [(name.to_owned(), item), ("index".to_owned(), Value::from(at + 1))];
            let values = merge_maps([values.clone(), Value::from_pairs(own)]);
            made.extend(self.content(path, &order.content, &values)?);
        }
        Ok(made)
    }

    fn content(
        &mut self,
        path: &str,
        content: &Content<'_>,
        values: &Value,
    ) -> anyhow::Result<Vec<Json>> {
        match content {
            Content::Items(items) => self.items(&format!("{path}.$items"), items, values),
            Content::Text(line, text) => {
                Ok(vec![Json::from(self.text(&format!("{path}.$text"), *line, text, values)?)])
            }
            Content::Value(line, text) => {
                let path = format!("{path}.$value");
                let value = self.value(&path, *line, text, values)?;
                let json = serde_json::to_value(&value);
                Ok(vec![json.map_err(|error| self.wrong(*line, &path, error))?])
            }
            Content::Entries(entries) => {
                let mut map = Map::new();
                for (key, node) in entries {
                    let path = format!("{path}.{key}");
                    let mut made = self.node(&path, node, values)?;
                    match made.len() {
                        0 => {}
                        1 => drop(map.insert(key.clone(), made.remove(0))),
                        _ => {
                            let what = "makes several values; put it into a list";
                            return Err(self.wrong(node.line, &path, what));
                        }
                    }
                }
                Ok(vec![Json::Object(map)])
            }
        }
    }
}

/// What a map of a body is: its instructions, and what it makes each time.
struct Instructions<'a> {
    when: Option<(usize, &'a str)>,
    /// Line, name and list.
    each: Option<(usize, &'a str, &'a str)>,
    max: usize,
    content: Content<'a>,
}

enum Content<'a> {
    /// What the list makes, in the place of the map.
    Items(&'a [Body]),
    /// A text.
    Text(usize, &'a str),
    /// The value of an expression: a number, a list, …
    Value(usize, &'a str),
    /// A map.
    Entries(Vec<&'a (String, Body)>),
}

impl<'a> Instructions<'a> {
    /// Reads the instructions off a map; the error says what is wrong with them.
    fn of(entries: &'a [(String, Body)]) -> Result<Self, String> {
        let (mut when, mut each, mut max) = (None, None, usize::MAX);
        let (mut made, mut plain) = (None, Vec::new());
        for entry in entries {
            let (key, node) = entry;
            if !key.starts_with('$') || key == "$schema" {
                plain.push(entry);
                continue;
            }
            match (key.as_str(), &node.value) {
                ("$when", BodyValue::Text(text)) => when = Some((node.line, text.as_str())),
                ("$for", BodyValue::Text(text)) => {
                    let parts = text.split_once(" in ").filter(|(name, _)| is_name(name.trim()));
                    let (name, list) = parts.ok_or("`$for` is `NAME in LIST`")?;
                    each = Some((node.line, name.trim(), list));
                }
                ("$max", BodyValue::Literal(number)) => {
                    let number = number.as_u64().and_then(|it| usize::try_from(it).ok());
                    max = number.ok_or("`$max` is a whole number")?;
                }
                ("$items", BodyValue::List(items)) if made.is_none() => {
                    made = Some(Content::Items(items));
                }
                ("$text", BodyValue::Text(text)) if made.is_none() => {
                    made = Some(Content::Text(node.line, text));
                }
                ("$value", BodyValue::Text(text)) if made.is_none() => {
                    made = Some(Content::Value(node.line, text));
                }
                ("$items" | "$text" | "$value", _) if made.is_some() => {
                    return Err("one of `$items`, `$text` and `$value` is enough".to_owned());
                }
                ("$when" | "$for" | "$text" | "$value", _) => {
                    return Err(format!("`{key}` is a text"));
                }
                ("$max", _) => return Err("`$max` is a whole number".to_owned()),
                ("$items", _) => return Err("`$items` is a list".to_owned()),
                _ => {
                    return Err(format!(
                        "`{key}` is no instruction; there are $when, $for, $max, $items, $text and $value"
                    ));
                }
            }
        }
        if max != usize::MAX && each.is_none() {
            return Err("`$max` goes with `$for`".to_owned());
        }
        let content = match made {
            Some(_) if !plain.is_empty() => {
                let key = &plain[0].0;
                return Err(format!("`{key}` cannot stand beside `$items`, `$text` or `$value`"));
            }
            Some(made) => made,
            None => Content::Entries(plain),
        };
        Ok(Self { when, each, max, content })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
}

/// What the engine says, without its own idea of where.
fn said(error: &minijinja::Error) -> String {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::UndefinedError, None) => "names something that does not exist".to_owned(),
        (ErrorKind::OutOfFuel, _) => "does not come to an end".to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    match error.line() {
        Some(line) if 1 < line => format!("{what} (line {line} of this text)"),
        Some(_) | None => what,
    }
}
