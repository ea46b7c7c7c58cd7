//! `doctor`: leads to the cause, a line for each step as it is done; writes down what can be sent to others.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::{runtime, say};
use crate::config::Source;
use crate::doctor::{self, Event, Outcome, Step};
use crate::time;

/// Exit code for a wrong command line or configuration, as clap's.
const WRONG_USAGE: u8 = 2;
/// The widest line of prose; commands and chains are not broken.
const COLUMNS: usize = 100;
/// Where what was found begins: after the result and the name of the step.
const MARGIN: usize = 26;
/// How many known names an answer to an unknown one lists.
const NAMES_SHOWN_MAX: usize = 20;

/// Exit code 0 if all is well, 1 if a step failed, 2 if it could not begin.
pub(super) fn run(source: &Source, id: &str, capture: Option<&Path>) -> ExitCode {
    match examine(source, id, capture) {
        Ok(Outcome::Ok) => ExitCode::SUCCESS,
        Ok(Outcome::Failed | Outcome::NotChecked) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr().lock(), "ece-expiry-exporter: {error:#}");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

fn examine(source: &Source, id: &str, capture: Option<&Path>) -> anyhow::Result<Outcome> {
    let config = source.load().map_err(|errors| {
        anyhow::anyhow!(
            "the configuration comes first, and it is not right (or this user may not read what it names; run this as \
             the user of the exporter):\n{errors}"
        )
    })?;
    let Some((platform, credential)) = config.credentials().find(|(_, it)| it.id.to_string() == id)
    else {
        let known = config.credentials().map(|(_, it)| it.id.to_string());
        let known: Vec<String> = known.take(NAMES_SHOWN_MAX).collect();
        anyhow::bail!("no credential is called {id}; the configuration has: {}", known.join(", "));
    };
    // Before minutes are spent on what then cannot be written.
    let mut file = capture.map(create).transpose()?;
    let kind = credential.kind.label();
    say(&format!("{id} ({kind}), step by step\n\n"))?;
    let within = config.global.probe_timeout;
    let looked = doctor::look(platform, credential, within, time::now, |event| {
        // A reader that went away is no reason to stop: there may be a capture to write.
        let _ = say(&line(event));
    });
    let report = runtime()?.block_on(looked);
    say(&format!("\n{}\n", wrapped(&report.verdict(), 0)))?;
    if let (Some(file), Some(path)) = (&mut file, capture) {
        file.write_all(report.capture().as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        say(&format!(
            "\nWritten to {}: no key, no user name and no e-mail address is in it; host names and addresses of \
             machines are.\nRead it before you send it on.\n",
            path.display()
        ))?;
    }
    Ok(report.outcome())
}

/// A new file that only this user can read.
fn create(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).with_context(|| {
        format!("cannot write --capture {}; a file that is there is not replaced", path.display())
    })
}

fn line(event: Event<'_>) -> String {
    match event {
        Event::Coordinator { number, of, url } => {
            format!("\n{url} (coordinator {number} of {of})\n")
        }
        Event::Step(step) => step_text(step),
    }
}

fn step_text(step: &Step) -> String {
    let head = format!("{:<11}  {:<12} ", step.outcome.label(), step.topic.label());
    let mut text = format!("{head}{}\n", wrapped(&step.found, MARGIN));
    let margin = " ".repeat(MARGIN);
    for detail in &step.details {
        let _ = writeln!(text, "{margin}{detail}");
    }
    if let Some(next) = &step.next {
        let _ = writeln!(text, "{margin}{}", wrapped(&format!("next: {next}"), MARGIN));
    }
    if let Some(command) = &step.command {
        let _ = writeln!(text, "{margin}$ {command}");
    }
    text
}

/// `text` broken into lines between words, every line but the first after `margin` spaces.
fn wrapped(text: &str, margin: usize) -> String {
    let mut result = String::new();
    let mut column = margin;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column != margin && COLUMNS < column + 1 + width {
            result.push('\n');
            result.push_str(&" ".repeat(margin));
            column = margin;
        } else if column != margin {
            result.push(' ');
            column += 1;
        }
        result.push_str(word);
        column += width;
    }
    result
}
