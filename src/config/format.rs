//! Formats of webhooks: which there are, and what a format file declares. Bodies are rendered in `notify`.
//!
//! A format is data: what a message carries, where it goes, which settings it takes, what an answer means, and a body
//! whose texts are templates. Those of well-known services are part of the program; `format: template` reads one of the
//! user's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::check;
use super::keys::FORMAT;
use super::problems::Problem;
use super::reader::{Fields, Item, Reader};
use super::yaml::{self, Node, Value};

/// The names of `format`.
pub(super) const NAMES: [&str; 10] = [
    "generic",
    "cloudevents",
    "alertmanager",
    "pagerduty",
    "slack",
    "teams",
    "discord",
    "ntfy",
    "jsm",
    "template",
];

/// The format files that are part of the program.
const EMBEDDED: [(&str, &str); 6] = [
    ("pagerduty", include_str!("../notify/formats/pagerduty.yml")),
    ("slack", include_str!("../notify/formats/slack.yml")),
    ("teams", include_str!("../notify/formats/teams.yml")),
    ("discord", include_str!("../notify/formats/discord.yml")),
    ("ntfy", include_str!("../notify/formats/ntfy.yml")),
    ("jsm", include_str!("../notify/formats/jsm.yml")),
];

static BUILT_IN: LazyLock<BTreeMap<&'static str, Arc<FormatFile>>> = LazyLock::new(|| {
    let parse = |(name, text): (&'static str, &str)| {
        let file =
            parse(name, text, None).expect("the format is part of the program and its tests");
        (name, Arc::new(file))
    };
    EMBEDDED.into_iter().map(parse).collect()
});

/// The largest format file: those of the program have a thirtieth of it.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// How many alerts one message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// One: machines want one id per fact.
    Alert,
    /// All that are due together: people want one message.
    Group,
}

/// What the messages of a webhook look like.
#[derive(Debug, Clone)]
pub enum WebhookFormat {
    /// The payload of this program, version 1.
    Generic,
    /// The same in an envelope of CloudEvents 1.0, structured mode.
    CloudEvents,
    /// The webhook payload of Alertmanager, version 4.
    Alertmanager,
    /// What a format file says.
    File(Arc<FormatFile>),
}

impl WebhookFormat {
    /// The value of `format`: `generic`, `slack`, `template`, …
    pub fn name(&self) -> &str {
        match self {
            Self::Generic => "generic",
            Self::CloudEvents => "cloudevents",
            Self::Alertmanager => "alertmanager",
            Self::File(file) if file.path.is_some() => "template",
            Self::File(file) => &file.name,
        }
    }

    /// The format of that name, if it needs no file of the user's.
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "generic" => Some(Self::Generic),
            "cloudevents" => Some(Self::CloudEvents),
            "alertmanager" => Some(Self::Alertmanager),
            _ => BUILT_IN.get(name).map(|it| Self::File(Arc::clone(it))),
        }
    }

    /// How many alerts one message carries.
    pub fn carries(&self) -> Carries {
        match self {
            Self::Generic | Self::CloudEvents => Carries::Alert,
            Self::Alertmanager => Carries::Group,
            Self::File(file) => file.carries,
        }
    }

    /// The format file, if it is one.
    pub fn file(&self) -> Option<&FormatFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Generic | Self::CloudEvents | Self::Alertmanager => None,
        }
    }

    /// Whether what fires stays open at the receiver until a message ends it, as an incident does.
    pub fn opens_incidents(&self) -> bool {
        match self {
            Self::Generic | Self::CloudEvents => false,
            Self::Alertmanager => true,
            Self::File(file) => file.incidents,
        }
    }
}

/// What a format file declares.
#[derive(Debug)]
pub struct FormatFile {
    /// `slack`, or the path as a person wrote it; for messages.
    pub name: String,
    /// Where it was read; `None` for those of the program.
    pub path: Option<PathBuf>,
    /// How many alerts one message carries.
    pub carries: Carries,
    /// The URL where none is configured; a template of `params`.
    pub url: Option<Template>,
    /// What follows the URL while the alert fires; a template.
    pub path_firing: Option<Template>,
    /// What follows the URL when it has ended; a template.
    pub path_resolved: Option<Template>,
    /// The scheme of the `Authorization` that the service wants.
    pub authorization: Option<String>,
    /// What the secret in the body is; `None` if there is none.
    pub secret: Option<String>,
    /// Whether what fires stays open until it is resolved.
    pub incidents: bool,
    /// The settings that a channel can give.
    pub params: Vec<Param>,
    /// The most alerts shown; at least 1.
    pub alerts_max: usize,
    /// The largest body.
    pub bytes_max: usize,
    /// What an answer means beyond its status.
    pub answer: AnswerRule,
    /// The body, or the body while the alert fires.
    pub body: Body,
    /// The body when it has ended, if it differs.
    pub body_resolved: Option<Body>,
}

/// A text with a template in it, and where it stands.
#[derive(Debug, Clone)]
pub struct Template {
    /// The line in its file, from 1.
    pub line: usize,
    /// The text.
    pub text: String,
}

/// A setting of a format.
#[derive(Debug)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Whether it must be given.
    pub required: bool,
    /// Its value where none is given.
    pub default: Option<String>,
    /// The values that are allowed; empty allows all.
    pub one_of: Vec<String>,
}

/// What an answer means beyond its status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerRule {
    /// The text of an answer that accepts; another one is a failure.
    pub accepted_body: Option<String>,
    /// The key of a JSON answer with the seconds to wait.
    pub wait_key: Option<String>,
}

/// A node of a body.
#[derive(Debug)]
pub struct Body {
    /// The line in its file, from 1.
    pub line: usize,
    /// What stands there.
    pub value: BodyValue,
}

/// What a node of a body holds.
#[derive(Debug)]
pub enum BodyValue {
    /// `true`, `5`, `null`: as it is.
    Literal(serde_json::Value),
    /// A template.
    Text(String),
    /// A list.
    List(Vec<Body>),
    /// A map; keys that begin with `$` are instructions.
    Map(Vec<(String, Body)>),
}

/// Reads the format file that `item` names; what is wrong in it is noted with its own place.
pub(super) fn read(reader: &mut Reader, item: &Item<'_>) -> Option<FormatFile> {
    let path = reader.path_of(item)?;
    let shown = path.display().to_string();
    let mut text = String::new();
    let read =
        File::open(&path).and_then(|it| it.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    if let Err(error) = read {
        let hint = "relative paths begin at the folder of the configuration file";
        reader.problem(item, format!("cannot read {shown}: {}", check::reason(&error)), hint);
        return None;
    }
    if usize::try_from(FILE_BYTES_MAX).is_ok_and(|max| max < text.len()) {
        reader.problem(item, format!("{shown} is larger than 256 KiB"), "a format is far smaller");
        return None;
    }
    match parse(&shown, &text, Some(&path)) {
        Ok(file) => Some(file),
        Err(problems) => {
            for it in problems {
                let place = if it.line == 0 { String::new() } else { format!(":{}", it.line) };
                let key = if it.path.is_empty() { String::new() } else { format!(" {}:", it.path) };
                reader.problem(item, format!("{shown}{place}:{key} {}", it.message), it.hint);
            }
            None
        }
    }
}

/// Parses a format file.
fn parse(name: &str, text: &str, path: Option<&Path>) -> Result<FormatFile, Vec<Problem>> {
    let mut reader = Reader::new(Path::new(""));
    let file = match yaml::parse(text) {
        Ok(Some(root)) => {
            let root = Item::root(&root);
            let fields = reader.fields(&root, &FORMAT);
            fields.and_then(|it| decode(&mut reader, &it, name, path))
        }
        Ok(None) => {
            reader.problems.add(
                yaml::Place::default(),
                "",
                "is empty".to_owned(),
                "at least `carries` and `body`",
            );
            None
        }
        Err(error) => {
            reader.problems.add(error.place, "", error.message, error.hint);
            None
        }
    };
    match file {
        Some(file) if reader.problems.list.is_empty() => Ok(file),
        _ => Err(reader.problems.list),
    }
}

fn decode(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &str,
    path: Option<&Path>,
) -> Option<FormatFile> {
    let carries = match reader.choice(fields, "carries") {
        Some("group") => Some(Carries::Group),
        Some(_) => Some(Carries::Alert),
        None => None,
    };
    let number = |reader: &mut Reader, key| {
        reader.number(fields, key).and_then(|it| usize::try_from(it).ok())
    };
    let params = params(reader, fields);
    let (alerts_max, bytes_max) = (number(reader, "alerts_max"), number(reader, "bytes_max"));
    let answer = reader.one_or_defaults(fields, "answer");
    let answer = AnswerRule {
        accepted_body: reader.text(&answer, "accepted_body").map(str::to_owned),
        wait_key: reader.text(&answer, "wait_key").map(str::to_owned),
    };
    let body = fields.get("body").and_then(|it| body(reader, &it.path, it.node()));
    let body_resolved =
        fields.get("resolved_body").and_then(|it| self::body(reader, &it.path, it.node()));
    Some(FormatFile {
        name: name.to_owned(),
        path: path.map(Path::to_owned),
        carries: carries?,
        url: template(reader, fields, "url"),
        path_firing: template(reader, fields, "path"),
        path_resolved: template(reader, fields, "resolved_path"),
        authorization: reader.text(fields, "authorization").map(str::to_owned),
        secret: reader.text(fields, "secret").map(str::to_owned),
        incidents: reader.flag(fields, "incidents"),
        params,
        alerts_max: alerts_max?,
        bytes_max: bytes_max?,
        answer,
        body: body?,
        body_resolved,
    })
}

fn template(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Template> {
    let line = fields.get(key)?.place.line;
    reader.text(fields, key).map(|text| Template { line, text: text.to_owned() })
}

fn params(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Param> {
    let mut params = Vec::new();
    for fields in reader.many(fields, "params").unwrap_or_default() {
        let name = reader.text(&fields, "name").map(str::to_owned);
        let required = reader.flag(&fields, "required");
        let default = reader.text(&fields, "default").map(str::to_owned);
        let one_of = reader.texts(&fields, "one_of");
        let one_of = one_of.into_iter().map(|(_, text)| text.to_owned()).collect();
        params.extend(name.map(|name| Param { name, required, default, one_of }));
    }
    params
}

/// A tree of YAML as a body. Plain numbers, flags and nulls are what JSON has for them; all else is a template.
fn body(reader: &mut Reader, path: &str, node: &Node) -> Option<Body> {
    let value = match &node.value {
        Value::Null => BodyValue::Literal(serde_json::Value::Null),
        Value::Plain(text) => match serde_json::from_str(text) {
            Ok(literal @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => {
                BodyValue::Literal(literal)
            }
            _ => BodyValue::Text(text.clone()),
        },
        Value::Text(text) => BodyValue::Text(text.clone()),
        Value::List(nodes) => {
            let items = nodes.iter().enumerate();
            let items = items.map(|(at, it)| body(reader, &format!("{path}[{at}]"), it));
            BodyValue::List(items.collect::<Option<_>>()?)
        }
        Value::Map(entries) => {
            let mut map: Vec<(String, Body)> = Vec::new();
            for entry in entries {
                let path = format!("{path}.{}", entry.key);
                if map.iter().any(|(key, _)| *key == entry.key) {
                    let message = format!("`{}` is given twice", entry.key);
                    reader.problems.add(entry.place, &path, message, "remove one of them");
                }
                map.push((entry.key.clone(), body(reader, &path, &entry.node)?));
            }
            BodyValue::Map(map)
        }
    };
    Some(Body { line: node.place.line, value })
}
