//! `self-test`: kills this program again and again on this machine and counts what it owed.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;

use super::{runtime, say};
use crate::self_test::{self, Options, Part, Report, Verdict};

/// How many entries of what was lost or wrong are printed for each part.
const ENTRIES_MAX: usize = 10;

pub(super) fn run(rounds: u32, seed: Option<u64>) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let is_watched = std::io::stderr().is_terminal();
    let progress = |line: &str| {
        if is_watched {
            // A terminal that went away has nobody to tell.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{line}");
        }
    };
    let options = Options { program, rounds, seed };
    let result = runtime()?.block_on(async {
        tokio::select! {
            result = self_test::run(&options, progress) => result.map(Some),
            // What runs is killed and what was written is deleted as the test is dropped.
            _ = tokio::signal::ctrl_c() => Ok(None),
        }
    });
    progress("");
    let again = format!("for the same choices: self-test --rounds {rounds} --seed {seed}");
    let Some(report) =
        result.with_context(|| format!("the self-test could not be made; {again}"))?
    else {
        anyhow::bail!("the self-test was interrupted; {again}");
    };
    say(&text(&report, &again))?;
    Ok(match report.verdict() {
        Verdict::Kept => ExitCode::SUCCESS,
        Verdict::Broken => ExitCode::FAILURE,
    })
}

fn text(report: &Report, again: &str) -> String {
    let (killed, tarpit) = (&report.killed, &report.tarpit);
    let mut text = format!("{:<34} {:>10} {:>10}\n", "", "kill -9", "tarpit");
    for (what, count) in [
        ("starts of the program", (|it| it.lives as usize) as fn(&Part) -> usize),
        ("messages owed", |it| it.obligations),
        ("delivered", |it| it.delivered),
        ("lost", |it| it.lost.len()),
        ("copies under the original's id", |it| it.copies),
        ("wrong", |it| it.wrong.len()),
    ] {
        let _ = writeln!(text, "{what:<34} {:>10} {:>10}", count(killed), count(tarpit));
    }
    let beside = match report.beside_tarpit {
        Some(took) => format!("{:.1} s", took.as_secs_f64()),
        None => "never".to_owned(),
    };
    let _ = writeln!(text, "{:<34} {:>10} {beside:>10}\n", "healthy webhook done after", "");
    for part in [killed, tarpit] {
        let entries: Vec<&String> = part.lost.iter().chain(&part.wrong).collect();
        for entry in entries.iter().take(ENTRIES_MAX) {
            let _ = writeln!(text, "  {entry}");
        }
        if ENTRIES_MAX < entries.len() {
            let _ = writeln!(text, "  … and {} more", entries.len() - ENTRIES_MAX);
        }
    }
    let verdict = match report.verdict() {
        Verdict::Kept => "PASSED: nothing was lost, and every copy has the id of its original",
        Verdict::Broken => "FAILED: this must not happen; please report it with what is below",
    };
    let _ = writeln!(text, "{verdict}");
    for kept in &report.kept {
        let _ = writeln!(text, "kept to look into (log, configuration, store): {}", kept.display());
    }
    let _ = writeln!(text, "{again}");
    text
}
