//! What was found as one JSON document that can be sent to others.
//!
//! Of headers and bodies only what is known to be harmless is in it: named headers, named fields. Everything else is
//! there by its name and length. Keys, passwords, names of users and addresses of e-mail are taken out of the rest.
//! Host names stay.

use serde_json::{Map, Value, json};

use super::chain::Certificate;
use super::redact::{Redactor, has_address};
use super::{Coordinator, Report, Step};
use crate::observation::answer;
use crate::probe::Exchange;

/// Headers whose values are shown, besides `location`, of which the host is.
const HEADERS_SHOWN: [&str; 19] = [
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "retry-after",
    "server",
    "strict-transport-security",
    "transfer-encoding",
    "vary",
    "via",
    "x-cloud-error-codes",
    "x-cloud-request-id",
    "x-content-type-options",
    "x-elastic-api-key-expiration",
    "x-ratelimit-interval",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
];
/// Fields of ECE's JSON whose texts are shown; of others only the length is.
const FIELDS_SHOWN: [&str; 12] = [
    "code",
    "message",
    "fields",
    "roles",
    "permissions",
    "type",
    "creation_date",
    "expiration_date",
    "created_at",
    "last_login_at",
    "status",
    "version",
];
/// Fields of ECE's JSON that say what a user is called.
const PEOPLE: [&str; 5] = ["user_name", "full_name", "email", "user_id", "created_by"];
/// The longest value of a header that is shown.
const VALUE_MAX: usize = 256;
/// The most items of a list and fields of an object that are shown.
const ITEMS_MAX: usize = 200;
/// How deep JSON is shown; ECE's is three levels deep.
const DEPTH_MAX: usize = 8;

impl Report {
    /// The document, ending with a line feed.
    pub fn capture(&self) -> String {
        let mut redactor = self.redactor.clone();
        for exchange in self.coordinators.iter().filter_map(|it| it.exchange.as_ref()) {
            if let Ok(body) = serde_json::from_slice::<Value>(&exchange.body) {
                learn_people(&body, &mut redactor, 0);
            }
        }
        let coordinators: Vec<Value> =
            self.coordinators.iter().map(|it| coordinator(it, &redactor)).collect();
        let document = json!({
            "format": 1,
            "program": concat!("ece-expiry-exporter ", env!("CARGO_PKG_VERSION")),
            "at": self.at.to_rfc3339(),
            "credential": redactor.all(&self.credential),
            "kind": self.kind,
            "verdict": redactor.all(&self.verdict()),
            "secret": step(&self.secret, &redactor),
            "coordinators": coordinators,
            "agreement": self.agreement.as_ref().map(|it| step(it, &redactor)),
        });
        format!("{document:#}\n")
    }
}

fn coordinator(it: &Coordinator, redactor: &Redactor) -> Value {
    let steps: Vec<Value> = it.steps.iter().map(|it| step(it, redactor)).collect();
    let chain: Vec<Value> = it.chain.iter().map(|it| certificate(it, redactor)).collect();
    json!({
        "url": redactor.all(&it.url),
        "steps": steps,
        "tls_version": it.tls_version,
        "chain": chain,
        "answer": it.exchange.as_ref().map(|it| exchange(it, redactor)),
    })
}

fn step(it: &Step, redactor: &Redactor) -> Value {
    let it = redactor.step_for_others(it);
    json!({
        "step": it.topic.label(),
        "result": it.outcome.label(),
        "found": it.found,
        "details": it.details,
        "next": it.next,
        "command": it.command,
    })
}

fn certificate(it: &Certificate, redactor: &Redactor) -> Value {
    // Names in a certificate are written as they are, so what is taken out of them must not stand in its bytes.
    let texts =
        it.facts.iter().flat_map(|it| [&it.subject, &it.issuer].into_iter().chain(&it.names));
    let is_harmless = !has_address(&it.der) && texts.into_iter().all(|it| redactor.all(it) == *it);
    let pem = if is_harmless {
        it.pem()
    } else {
        "[removed: it holds an address of e-mail or the name of a user]".to_owned()
    };
    let facts = it.facts.as_ref().map(|it| {
        let names: Vec<String> = it.names.iter().map(|it| redactor.all(it)).collect();
        json!({
            "subject": redactor.all(&it.subject),
            "issuer": redactor.all(&it.issuer),
            "not_before": it.not_before.to_rfc3339(),
            "not_after": it.not_after.to_rfc3339(),
            "names": names,
        })
    });
    json!({"sha256": it.sha256, "certificate": facts, "pem": pem})
}

fn exchange(it: &Exchange, redactor: &Redactor) -> Value {
    let headers: Vec<Value> = it
        .headers
        .iter()
        .take(ITEMS_MAX)
        .map(|(name, value)| json!([redactor.all(name), header(it, name, value, redactor)]))
        .collect();
    let body = match serde_json::from_slice::<Value>(&it.body) {
        Ok(body) => fields(&body, None, redactor, 0),
        // Nobody knows what a page holds: not shown but for its beginning, without what looks like a key.
        Err(_) => {
            json!(redactor.all(&answer::quote(&redactor.all(&String::from_utf8_lossy(&it.body)))))
        }
    };
    json!({
        "status": it.status,
        "headers": headers,
        "body": body,
        "body_bytes": it.body.len(),
        "took_ms": u64::try_from(it.took.as_millis()).unwrap_or(u64::MAX),
        "clock_skew_ms": it.clock_skew.map(|it| it.num_milliseconds()),
    })
}

fn header(exchange: &Exchange, name: &str, value: &[u8], redactor: &Redactor) -> String {
    if name == "location" {
        let host = exchange.redirect_host().unwrap_or_else(|| "unknown".to_owned());
        return format!("[{} bytes, to {}]", value.len(), redactor.all(&host));
    }
    if !HEADERS_SHOWN.contains(&name) {
        return format!("[{} bytes]", value.len());
    }
    let text = redactor.all(&String::from_utf8_lossy(value));
    let shown: String = text.chars().take(VALUE_MAX).collect();
    if shown.len() < text.len() { format!("{shown}… [{} bytes]", value.len()) } else { shown }
}

/// JSON with the texts of known fields; of others the length.
fn fields(value: &Value, field: Option<&str>, redactor: &Redactor, depth: usize) -> Value {
    if DEPTH_MAX < depth {
        return json!("[too deep]");
    }
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(_) => match field {
            Some(field) if FIELDS_SHOWN.contains(&field) => value.clone(),
            _ => json!("[number]"),
        },
        Value::String(text) => match field {
            Some(field) if FIELDS_SHOWN.contains(&field) => {
                json!(redactor.all(&answer::quote(&redactor.all(text))))
            }
            _ => json!(format!("[{} bytes]", text.len())),
        },
        Value::Array(items) => {
            let shown = items.iter().take(ITEMS_MAX);
            Value::Array(shown.map(|it| fields(it, field, redactor, depth + 1)).collect())
        }
        Value::Object(items) => {
            let shown: Map<String, Value> = items
                .iter()
                .take(ITEMS_MAX)
                .map(|(name, it)| {
                    let shown = fields(it, Some(name), redactor, depth + 1);
                    (redactor.all(&answer::quote(&redactor.all(name))), shown)
                })
                .collect();
            Value::Object(shown)
        }
    }
}

fn learn_people(value: &Value, redactor: &mut Redactor, depth: usize) {
    if DEPTH_MAX < depth {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().take(ITEMS_MAX) {
                match value.as_str() {
                    Some(person) if PEOPLE.contains(&name.as_str()) => redactor.learn(person),
                    _ => learn_people(value, redactor, depth + 1),
                }
            }
        }
        Value::Array(items) => {
            items.iter().take(ITEMS_MAX).for_each(|it| learn_people(it, redactor, depth + 1));
        }
        _ => {}
    }
}
