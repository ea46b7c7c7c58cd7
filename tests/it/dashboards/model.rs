//! Reading the dashboards.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The dashboards, in the order of the command.
pub const FILES: [&str; 3] =
    ["ece-expiry-overview.json", "ece-credential-detail.json", "ece-expiry-exporter.json"];

/// One query of a panel.
pub struct Target {
    pub panel: String,
    pub ref_id: String,
    pub expr: String,
    pub instant: bool,
    /// The smallest step, if the query names one.
    pub interval: Option<String>,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

pub fn folder() -> PathBuf {
    root().join("dashboards")
}

pub fn text_of(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

pub fn dashboard(file: &str) -> Value {
    serde_json::from_str(&text_of(file)).unwrap()
}

pub fn dashboards() -> [Value; 3] {
    FILES.map(dashboard)
}

/// All panels, also those within rows that are folded.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for panel in array(&dashboard["panels"]) {
        found.push(panel);
        found.extend(array(&panel["panels"]));
    }
    found
}

pub fn variables(dashboard: &Value) -> &[Value] {
    array(&dashboard["templating"]["list"])
}

pub fn annotations(dashboard: &Value) -> &[Value] {
    array(&dashboard["annotations"]["list"])
}

pub fn targets(panel: &Value) -> Vec<Target> {
    array(&panel["targets"])
        .iter()
        .map(|it| Target {
            panel: text(&panel["title"]),
            ref_id: text(&it["refId"]),
            expr: text(&it["expr"]),
            instant: it["instant"] == true,
            interval: it["interval"].as_str().map(str::to_owned),
        })
        .collect()
}

/// Every expression: of panels, of variables and of annotations.
pub fn expressions(dashboard: &Value) -> Vec<String> {
    let of_panels =
        panels(dashboard).into_iter().flat_map(|it| targets(it).into_iter().map(|it| it.expr));
    let of_variables = variables(dashboard).iter().filter_map(|it| Some(label_values(it)?.0));
    let of_annotations = annotations(dashboard).iter().map(|it| text(&it["expr"]));
    of_panels.chain(of_variables).chain(of_annotations).collect()
}

/// The selector and the label of a variable `label_values(selector, label)`.
pub fn label_values(variable: &Value) -> Option<(String, String)> {
    let inside = variable["query"].as_str()?.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (selector, label) = inside.rsplit_once(", ")?;
    Some((selector.to_owned(), label.to_owned()))
}

/// The elements of an array, none of what is no array.
pub fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text, empty for what is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
