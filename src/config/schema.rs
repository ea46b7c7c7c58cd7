//! The JSON Schema of the configuration file, for editors. Written from the tables in `keys.rs`.
//!
//! It tells an editor keys, kinds and bounds. What needs the file system or two keys at once is checked by the reader
//! only.

use serde_json::{Map, Value, json};

use super::keys::{CHILD, Field, Kind, ROOT, Table};

/// The Prometheus grammar of durations.
const DURATION_PATTERN: &str =
    "^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// The JSON Schema (draft 2020-12) of the configuration file, with a line feed at its end.
pub fn schema() -> String {
    let mut root = object(&ROOT);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("ece-expiry-exporter configuration");
    // The one table that holds itself.
    root["$defs"] = json!({"route": object(&CHILD)});
    format!("{root:#}\n")
}

fn object(table: &Table) -> Value {
    let properties: Map<String, Value> =
        table.fields.iter().map(|it| (it.key.to_owned(), property(it))).collect();
    let required: Vec<&str> =
        table.fields.iter().filter(|it| it.required).map(|it| it.key).collect();
    let mut object = json!({
        "type": "object",
        "description": table.doc,
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn property(field: &Field) -> Value {
    let mut property = kind(&field.kind);
    property["description"] = json!(field.doc);
    if let Some(default) = field.default {
        property["default"] = match &field.kind {
            Kind::Flag | Kind::Number(..) => {
                serde_json::from_str(default).expect("defaults of flags and numbers are JSON")
            }
            _ => json!(default),
        };
    }
    property
}

fn kind(kind: &Kind) -> Value {
    let text = json!({"type": "string", "minLength": 1});
    match kind {
        // Text that looks like a number needs no quotes in the file.
        Kind::Text => json!({"type": ["string", "number", "boolean"]}),
        Kind::Schedule | Kind::Zone | Kind::Path => text,
        Kind::Url => json!({"type": "string", "pattern": "^https?://"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Number(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Duration(..) => {
            json!({"type": "string", "minLength": 1, "pattern": DURATION_PATTERN, "examples": ["90d", "1h30m"]})
        }
        Kind::DurationOrNever(..) => json!({"anyOf": [
            {"const": "never"},
            {"type": "string", "minLength": 1, "pattern": DURATION_PATTERN, "examples": ["90d", "1h30m"]},
        ]}),
        Kind::Choice(choices) => json!({"enum": choices}),
        Kind::Choices(choices) => {
            json!({"type": "array", "items": {"enum": choices}, "minItems": 1})
        }
        Kind::Texts | Kind::Paths => json!({"type": "array", "items": text, "minItems": 1}),
        Kind::TextOrTexts => {
            json!({"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]})
        }
        Kind::TextMap => json!({
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }),
        Kind::Tree => json!({"type": ["object", "array"]}),
        Kind::One(table) => object(table),
        Kind::Many(table) if std::ptr::eq(*table, &raw const CHILD) => {
            json!({"type": "array", "items": {"$ref": "#/$defs/route"}, "minItems": 1})
        }
        Kind::Many(table) => json!({"type": "array", "items": object(table), "minItems": 1}),
    }
}
