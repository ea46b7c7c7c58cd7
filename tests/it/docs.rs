//! The documentation says what the code does: the parts of it that can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ece_expiry_exporter::alert::AlertName;
use ece_expiry_exporter::observation::FailureReason;

const PAGES: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/operations.md",
    "docs/webhooks.md",
];

#[test]
fn every_alert_stands_in_the_table_of_the_readme() {
    let told: BTreeSet<String> = first_cells("README.md", "ECE").collect();
    assert_eq!(told, AlertName::ALL.iter().map(|it| it.label().to_owned()).collect());
}

#[test]
fn every_reason_of_a_failure_is_explained() {
    // `canceled` never reaches anybody: a probe that is given up is not recorded.
    let shown = |it: &&FailureReason| **it != FailureReason::Canceled;
    let reasons: BTreeSet<String> =
        FailureReason::ALL.iter().filter(shown).map(|it| it.label().to_owned()).collect();
    let explained: BTreeSet<String> =
        section_cells("README.md", "## Troubleshooting", "| symptom").collect();
    assert_eq!(explained, reasons);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut checked = 0;
    for page in PAGES {
        let text = read(page);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let file = root().join(page).parent().unwrap().join(target);
            assert!(file.exists(), "{page} links to {target}, which is not there");
            checked += 1;
        }
    }
    assert!(5 < checked, "only {checked} links were found");
}

#[test]
fn the_architecture_lists_the_modules_in_their_order() {
    let listed: Vec<String> =
        section_cells("ARCHITECTURE.md", "## Where things are", "## Five").collect();
    let lib = read("src/lib.rs");
    let modules: Vec<&str> =
        lib.lines().filter_map(|it| it.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(listed, modules);
    let lines = read("ARCHITECTURE.md").lines().count();
    assert!(lines <= 120, "ARCHITECTURE.md has {lines} lines; nobody reads more than 120");
}

#[test]
fn the_rules_of_the_manual_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let manual = read("docs/operations.md");
    let rules = manual.split("```yaml\ngroups:").nth(1).unwrap().split("```").next().unwrap();
    let file = folder.path().join("rules.yml");
    fs::write(&file, format!("groups:{rules}")).unwrap();
    let output = Command::new("promtool")
        .args(["check", "rules"])
        .arg(&file)
        .output()
        .expect("promtool runs; tests/run installs it");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("5 rules found"), "{said}");
}

/// The code in the first cells of the table rows that open with `prefix`.
fn first_cells(page: &str, prefix: &str) -> impl Iterator<Item = String> {
    let opening = format!("| `{prefix}");
    let text = read(page);
    let cells: Vec<String> =
        text.lines().filter(|it| it.starts_with(&opening)).filter_map(code_of_row).collect();
    cells.into_iter()
}

/// The code in the first cells of the table rows between two lines.
fn section_cells(page: &str, from: &str, to: &str) -> impl Iterator<Item = String> {
    let text = read(page);
    let cells: Vec<String> = text
        .lines()
        .skip_while(|it| !it.starts_with(from))
        .take_while(|it| !it.starts_with(to))
        .filter_map(code_of_row)
        .collect();
    cells.into_iter()
}

fn code_of_row(row: &str) -> Option<String> {
    Some(row.strip_prefix("| `")?.split('`').next()?.to_owned())
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
