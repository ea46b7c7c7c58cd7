//! Compares what the program costs with what is possible: medians of interleaved runs, and ratios.
//!
//! `cargo bench` runs everything; `cargo bench -- probe`, `scrape` or `schedule` one part. It fails on no figure: figures
//! differ between machines, ratios within one run do not. All load goes to 127.0.0.1. Needs nginx and wrk.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark prints its results and dies of what it does not expect"
)]

mod by_hand;
mod nginx;
mod probe;
mod process;
mod schedule;
mod scrape;

use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Interleaved runs of each side.
    pub rounds: usize,
    /// How long one run of probes takes.
    pub probes: Duration,
    /// How many credentials there are.
    pub credentials: usize,
    /// How long the program runs on its schedule; the first minute is not counted.
    pub schedule: Duration,
}

const FULL: Effort = Effort {
    rounds: 5,
    probes: Duration::from_secs(3),
    credentials: 10_000,
    schedule: Duration::from_secs(150),
};

/// Whether everything still works, in a second.
const TINY: Effort = Effort {
    rounds: 1,
    probes: Duration::from_millis(100),
    credentials: 10,
    schedule: Duration::ZERO,
};

/// One line of the table.
pub struct Line {
    pub what: &'static str,
    pub ours: String,
    pub reference: String,
    pub ratio: Option<f64>,
    pub wanted: &'static str,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let tiny = arguments.iter().any(|it| it == "--test");
    let effort = if tiny { TINY } else { FULL };
    let parts: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|it| !it.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);

    let mut lines = Vec::new();
    if wanted("scrape") {
        lines.extend(scrape::measure(effort));
    }
    if wanted("probe") && nginx::is_there("wrk") {
        lines.push(probe::measure(effort));
    }
    if wanted("schedule") && !tiny && nginx::is_there("nginx") {
        lines.extend(schedule::measure(effort));
    }
    print(&lines);
}

fn print(lines: &[Line]) {
    println!("\n| what | ours | reference | ratio | wanted |");
    println!("| --- | --- | --- | --- | --- |");
    for Line { what, ours, reference, ratio, wanted } in lines {
        let ratio = ratio.map_or_else(|| "–".to_owned(), |it| format!("{it:.2}"));
        println!("| {what} | {ours} | {reference} | {ratio} | {wanted} |");
    }
}

/// The middle one; of an even number, the higher of the two in the middle.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
