//! `dashboards`: the Grafana dashboards that fit this version, listed, printed or written to a folder.
//!
//! They are the files of the repository, byte for byte, but for the folder that `provider.yml` names: it is the one that
//! they are written to. Nothing here talks to Grafana.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::say;

/// A file that belongs to this version.
struct Artefact {
    file: &'static str,
    text: &'static str,
}

const DASHBOARDS: [Artefact; 3] = [
    Artefact {
        file: "ece-expiry-overview.json",
        text: include_str!("../../dashboards/ece-expiry-overview.json"),
    },
    Artefact {
        file: "ece-credential-detail.json",
        text: include_str!("../../dashboards/ece-credential-detail.json"),
    },
    Artefact {
        file: "ece-expiry-exporter.json",
        text: include_str!("../../dashboards/ece-expiry-exporter.json"),
    },
];

const PROVIDER: Artefact =
    Artefact { file: "provider.yml", text: include_str!("../../dashboards/provider.yml") };

/// What precedes the folder in `provider.yml`.
const PROVIDER_PATH: &str = "      path: ";

impl Artefact {
    /// What it is called on the command line and in the address of Grafana.
    fn name(&self) -> &'static str {
        self.file.trim_end_matches(".json")
    }

    fn title(&self) -> anyhow::Result<String> {
        let json: serde_json::Value = serde_json::from_str(self.text)?;
        let title = json["title"].as_str();
        Ok(title.with_context(|| format!("{} has no title", self.file))?.to_owned())
    }
}

/// Lists the dashboards, prints the one called `name`, or writes all of them to `folder`.
///
/// # Errors
/// No dashboard has that name, or a file cannot be written.
pub(super) fn run(name: Option<&str>, folder: Option<&Path>) -> anyhow::Result<ExitCode> {
    match (name, folder) {
        (_, Some(folder)) => write_all(folder),
        (Some(name), None) => print(name),
        (None, None) => list(),
    }
}

fn list() -> anyhow::Result<ExitCode> {
    let titles = DASHBOARDS.iter().map(Artefact::title).collect::<Result<Vec<_>, _>>()?;
    let names = DASHBOARDS.iter().map(|it| it.name().len()).max().unwrap_or_default();
    let width = titles.iter().map(String::len).max().unwrap_or_default();
    let mut text = String::new();
    for (dashboard, title) in DASHBOARDS.iter().zip(&titles) {
        let _ = writeln!(text, "{:<names$}  {title:<width$}  {}", dashboard.name(), dashboard.file);
    }
    say(&text)
}

fn print(name: &str) -> anyhow::Result<ExitCode> {
    let Some(dashboard) = DASHBOARDS.iter().find(|it| it.name() == name) else {
        let known: Vec<&str> = DASHBOARDS.iter().map(Artefact::name).collect();
        bail!("no dashboard is called {name}; there are: {}", known.join(", "));
    };
    say(dashboard.text)
}

fn write_all(folder: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let absolute = fs::canonicalize(folder)
        .with_context(|| format!("cannot find the folder {}", folder.display()))?;
    let provider = provider_of(&absolute)?;
    let mut text = String::new();
    let dashboards = DASHBOARDS.iter().map(|it| (it.file, it.text));
    for (file, content) in dashboards.chain([(PROVIDER.file, provider.as_str())]) {
        let path = folder.join(file);
        replace(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        let _ = writeln!(text, "wrote {}", path.display());
    }
    let _ = writeln!(
        text,
        "{0} names {1}, from where Grafana reads the JSON files; {0} itself belongs into Grafana's provisioning/dashboards. \
         Should they be moved, correct `path` in it.",
        PROVIDER.file,
        absolute.display()
    );
    say(&text)
}

/// `provider.yml` with this folder in it.
fn provider_of(folder: &Path) -> anyhow::Result<String> {
    let folder = folder.to_str().context("Grafana needs a folder whose name is UTF-8")?;
    // JSON quotes as YAML does. Grafana takes a dollar for a variable of its environment, and two for a dollar.
    let quoted = serde_json::to_string(&folder.replace('$', "$$"))?;
    let line = |line: &str| match line.strip_prefix(PROVIDER_PATH) {
        Some(_) => format!("{PROVIDER_PATH}{quoted}\n"),
        None => line.to_owned(),
    };
    Ok(PROVIDER.text.split_inclusive('\n').map(line).collect())
}

/// Written beside and renamed: Grafana looks into such folders at any time and must never read half a file.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let renamed = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        // What was being written is of no use to anybody; the error that matters is the first one.
        let _ = fs::remove_file(&beside);
    }
    renamed
}
