//! The documentation says what the code does: the parts of it that can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ece_expiry_exporter::alert::AlertName;
use ece_expiry_exporter::observation::FailureReason;

const PAGES: [&str; 14] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "dashboards/README.md",
    "docs/alerting.md",
    "docs/metrics.md",
    "docs/notifications.md",
    "docs/operations.md",
    "docs/routing.md",
    "docs/silences.md",
    "docs/watching.md",
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
fn every_flag_and_command_stands_in_a_table_of_the_readme() {
    let output = program().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let of_program = |it: &str| !["--help", "--version"].contains(&it);
    let flags: BTreeSet<&str> = help
        .lines()
        .filter_map(|it| it[it.find("--")?..].split([' ', ',']).next())
        .filter(|it| of_program(it))
        .collect();
    let cells: Vec<String> = section_cells("README.md", "## Command line", "| command").collect();
    assert_eq!(cells.iter().map(String::as_str).collect::<BTreeSet<_>>(), flags);

    let commands: BTreeSet<&str> = help
        .lines()
        .skip_while(|it| *it != "Commands:")
        .skip(1)
        .take_while(|it| !it.is_empty())
        .filter_map(|it| it.split_whitespace().next())
        .filter(|it| *it != "serve")
        .collect();
    let cells: Vec<String> = section_cells("README.md", "| command", "| path").collect();
    let listed = cells.iter().filter_map(|it| it.split(' ').next()).collect::<BTreeSet<_>>();
    assert_eq!(listed, commands);
}

#[test]
fn the_configurations_of_the_manual_are_valid() {
    let blocks = yaml_blocks("README.md");
    let whole = blocks.iter().find(|it| it.starts_with("platforms:")).unwrap();
    let options = blocks.iter().find(|it| it.starts_with("global:")).unwrap();
    let platforms = whole.split("route:").next().unwrap();
    let webhook = yaml_blocks("docs/webhooks.md").remove(0);
    let mut texts = vec![
        whole.clone(),
        format!("{options}{platforms}route: {{receiver: automation}}\n"),
        format!("{webhook}{platforms}route: {{receiver: automation}}\n"),
    ];
    let watched = yaml_blocks("docs/watching.md");
    assert!(3 < watched.len(), "docs/watching.md has an example of each");
    texts.extend(watched);
    let pushed = yaml_blocks("docs/alerting.md").remove(0);
    texts.push(format!("{pushed}{platforms}route: {{receiver: oncall}}\n"));
    let heartbeat = yaml_blocks("docs/operations.md");
    let heartbeat = heartbeat.iter().find(|it| it.starts_with("heartbeat:")).unwrap();
    texts.push(format!("{heartbeat}{whole}"));
    texts.extend(yaml_blocks("docs/routing.md"));
    for text in texts {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        for (name, secret) in [
            ("terraform", "key"),
            ("essu-terraform", "essu_a2V5"),
            ("smtp", "password"),
            ("hook-url", "https://hook.example.org/x"),
            ("heartbeat-url", "https://hc-ping.com/x"),
            ("whsec", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        ] {
            fs::write(secrets.join(name), secret).unwrap();
        }
        let authority = rcgen::generate_simple_self_signed(["ece.example.org".to_owned()]).unwrap();
        fs::write(folder.path().join("ece-ca.pem"), authority.cert.pem()).unwrap();
        let file = folder.path().join("config.yml");
        fs::write(&file, &text).unwrap();
        let output = program().arg("check-config").arg(&file).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{text}");
        // An example in which something reaches nobody teaches the wrong thing.
        assert!(!said.contains("route"), "{said}\n{text}");
    }
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

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ece-expiry-exporter"))
}

/// The YAML blocks of a page.
fn yaml_blocks(page: &str) -> Vec<String> {
    let text = read(page);
    let blocks = text.split("```yaml\n").skip(1);
    blocks.filter_map(|it| Some(it.split("```").next()?.to_owned())).collect()
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
