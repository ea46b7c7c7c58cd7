//! The rules, as functions from a path and a text to complaints.
//!
//! They read what is written, not what the compiler makes of it: a rule that a macro or a re-export could get around is
//! still worth having, because nobody gets around it by accident.

use std::collections::BTreeSet;

use crate::tidy::source::{Path, Source, lines_of_code};

/// Lines of code in a file, tests left out: more than this is more than one topic.
const FILE_LINES_MAX: usize = 500;
/// Lines of code in a function: more than this does not fit a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Words that name a kind of code instead of a topic.
const EMPTY_NAMES: [&str; 12] = [
    "utils", "util", "helpers", "helper", "types", "common", "manager", "managers", "service",
    "services", "handler", "misc",
];

/// Modules without async, clock, I/O and logging. `config` reads files, which may hang and so are read
/// on threads of their own, and that is all the I/O it does.
const PURE: [&str; 6] = ["schedule", "config", "observation", "alert", "delivery", "status"];

/// Paths that a pure module may not contain, by their beginning.
const IMPURE: [&[&str]; 9] = [
    &["tokio"],
    &["tracing"],
    &["tracing_subscriber"],
    &["fastrand"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "io", "stdout"],
];

/// What of `std::net` is only a notation of addresses.
const ADDRESSES: [&str; 6] =
    ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

/// Where each outside library may be named. What is not listed may be named anywhere.
const OWNERS: [(&str, &[&str]); 22] = [
    ("cron", &["schedule"]),
    ("jiff", &["schedule"]),
    ("secrecy", &["config"]),
    ("regex", &["config"]),
    ("httpdate", &["observation", "probe", "notify", "sim"]),
    ("rustls", &["observation", "tls", "web", "app", "sim"]), // observation: its reader of PEM only
    ("rustls_platform_verifier", &["tls"]),
    ("tokio_rustls", &["tls", "web", "sim"]),
    ("reqwest", &["config", "tls", "probe", "notify"]), // config: `Url` and header names only
    ("prometheus_client", &["metrics"]),
    ("rusqlite", &["store"]),
    ("lettre", &["config", "notify"]), // config: the syntax of addresses only
    ("minijinja", &["notify", "web", "sim"]),
    ("pulldown_cmark", &["web"]),
    ("axum", &["web", "sim"]),
    ("hyper", &["probe", "notify", "web", "sim"]),
    ("hyper_util", &["web", "sim"]),
    ("tower_http", &["web", "sim"]),
    ("rcgen", &["sim"]),
    ("x509_cert", &["observation", "doctor"]),
    ("clap", &["cli", "main"]),
    ("tracing_subscriber", &["app", "cli", "main"]),
];

/// The modules of the library in the order of `lib.rs`, and the files that belong to the command line only.
pub struct Order {
    modules: Vec<String>,
    of_main: BTreeSet<String>,
}

impl Order {
    /// Reads the order from the texts of `lib.rs` and `main.rs`.
    pub fn new(lib: &str, main: &str) -> Self {
        let names = |text: &str| -> Vec<String> {
            Source::new(text).modules().iter().map(|it| it.text.clone()).collect()
        };
        Self { modules: names(lib), of_main: names(main).into_iter().collect() }
    }

    /// How many modules the library has.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    fn position(&self, module: &str) -> Option<usize> {
        self.modules.iter().position(|it| it == module)
    }
}

/// The top-level module of a file under `src/`: `src/config/raw.rs` is `config`.
pub fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    Some(inside.split_once('/').map_or(inside, |it| it.0).trim_end_matches(".rs"))
}

/// A module names only modules above it in `lib.rs`, and `lib.rs` names every module.
pub fn order(order: &Order, path: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(path) else { return Vec::new() };
    let source = Source::new(text);
    if module == "main" || order.of_main.contains(module) {
        return Vec::new();
    }
    if module == "lib" {
        return only_modules(path, &source);
    }
    let Some(own) = order.position(module) else {
        return vec![format!("{path}: lib.rs does not list the module {module}")];
    };
    let mut complaints = Vec::new();
    for Path { segments, at, used } in source.paths() {
        if reaches_root_by_super(&source, path, &segments, at) {
            let line = source.line(at);
            complaints.push(format!("{path}:{line}: write crate:: instead of super::"));
        }
        if segments[0] != "crate" || segments.len() == 1 && !used {
            continue;
        }
        let line = source.line(at);
        let Some(other) = segments.get(1) else {
            complaints.push(format!("{path}:{line}: name the module, not the crate"));
            continue;
        };
        match order.position(other) {
            Some(other) if other <= own => {}
            Some(_) => complaints
                .push(format!("{path}:{line}: {module} stands above {other} and may not use it")),
            None if other == "self" => {}
            None => complaints.push(format!("{path}:{line}: crate::{other} is not in lib.rs")),
        }
    }
    complaints.dedup(); // one line may name a module twice
    complaints
}

/// A re-export in `lib.rs` would let a module name another without naming it.
fn only_modules(path: &str, source: &Source) -> Vec<String> {
    source
        .tokens
        .iter()
        .filter(|it| matches!(it.text.as_str(), "use" | "fn" | "macro_rules" | "struct" | "type"))
        .map(|it| format!("{path}:{}: lib.rs lists modules and nothing else", source.line(it.at)))
        .collect()
}

/// Whether a path that opens with `super` leaves the top-level module of its file.
fn reaches_root_by_super(source: &Source, path: &str, segments: &[String], at: usize) -> bool {
    let supers =
        segments.iter().skip_while(|it| *it == "self").take_while(|it| *it == "super").count();
    if supers == 0 {
        return false;
    }
    let inline = source.inline_modules().iter().filter(|it| it.span.contains(&at)).count();
    let depth = path.matches('/').count() + inline;
    depth <= supers
}

/// Pure modules stay pure.
pub fn purity(path: &str, text: &str) -> Vec<String> {
    let pure = module_of(path).is_some_and(|it| PURE.contains(&it));
    if !pure || is_tests_file(path) {
        return Vec::new();
    }
    let reads_files = module_of(path) == Some("config");
    let source = Source::new(text).without_tests();
    let mut complaints = Vec::new();
    for Path { segments, at, used } in source.paths() {
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        let of_files = words.starts_with(&["std", "fs"]) || words.starts_with(&["std", "thread"]);
        let allowed = reads_files && of_files;
        if is_impure(&words, used) && !allowed {
            let line = source.line(at);
            complaints.push(format!("{path}:{line}: {} in a pure module", words.join("::")));
        }
    }
    complaints
}

fn is_impure(words: &[&str], used: bool) -> bool {
    if let ["async" | "await" | "SystemTime" | "Instant"] = words {
        return true;
    }
    if words.len() == 1 && !used {
        return false;
    }
    if let ["std", "net", name] | ["std", "net", name, ..] = words
        && ADDRESSES.contains(name)
    {
        return false;
    }
    IMPURE.iter().any(|it| words.starts_with(it))
        || words.iter().any(|it| matches!(*it, "SystemTime" | "Instant"))
        || matches!(words.last(), Some(&("now" | "sleep" | "sleep_until")))
}

/// Each outside library is named only by its owners.
pub fn owners(order: &Order, path: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(path) else { return Vec::new() };
    let module = if order.of_main.contains(module) { "main" } else { module };
    if is_tests_file(path) {
        return Vec::new();
    }
    let source = Source::new(text).without_tests();
    let mut complaints = Vec::new();
    for Path { segments, at, used } in source.paths() {
        if segments.len() == 1 && !used {
            continue; // a variable may bear a library's name
        }
        for (library, owners) in OWNERS {
            if segments[0] == library && !owners.contains(&module) {
                let line = source.line(at);
                let owners = owners.join(", ");
                complaints
                    .push(format!("{path}:{line}: {library} belongs to {owners}, not to {module}"));
            }
        }
    }
    complaints
}

/// Files and functions stay small.
pub fn sizes(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(text);
    let mut complaints = Vec::new();
    let lines = lines_of_code(&source.without_tests().uncommented);
    let tests = path.starts_with("tests/") || is_tests_file(path);
    if FILE_LINES_MAX < lines && !tests {
        complaints.push(format!(
            "{path}: {lines} lines of code; split it by topic (at most {FILE_LINES_MAX})"
        ));
    }
    for function in source.functions() {
        let lines = lines_of_code(&source.uncommented[function.span.clone()]);
        if FUNCTION_LINES_MAX < lines {
            let line = source.line(function.span.start);
            let name = function.name;
            complaints.push(format!(
                "{path}:{line}: {name} has {lines} lines of code (at most {FUNCTION_LINES_MAX})"
            ));
        }
    }
    complaints
}

/// Files and modules are named for their topic.
pub fn names(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(text);
    let empty = |name: &str| name.split(['_', '-']).any(|it| EMPTY_NAMES.contains(&it));
    let mut complaints = Vec::new();
    if path.ends_with("/mod.rs") {
        complaints.push(format!("{path}: write foo.rs beside foo/, not foo/mod.rs"));
    }
    if let Some(part) = path.trim_end_matches(".rs").split('/').find(|it| empty(it)) {
        complaints.push(format!("{path}: {part} names no topic"));
    }
    for module in source.modules().iter().filter(|it| empty(&it.text)) {
        let line = source.line(module.at);
        complaints.push(format!("{path}:{line}: {} names no topic", module.text));
    }
    complaints
}

/// Every file says what it is for.
pub fn opening(path: &str, text: &str) -> Vec<String> {
    let says = text.lines().next().is_some_and(|it| it.starts_with("//! "));
    if says { Vec::new() } else { vec![format!("{path}: does not open with //!")] }
}

/// Nothing is left undone, and no lint is silenced without a reason.
pub fn marks(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(text);
    let mut complaints = Vec::new();
    let mut complain = |at: usize, what: &str| {
        complaints.push(format!("{path}:{}: {what}", source.line(at)));
    };
    for (index, token) in source.tokens.iter().enumerate() {
        let next = source.text(index + 1);
        match token.text.as_str() {
            "todo" | "unimplemented" if next == "!" => complain(token.at, "is not done yet"),
            "allow" | "expect" if next == "(" && is_in_attribute(&source, index) => {
                let inside = index + 1..source.closing(index + 1);
                if !source.tokens[inside].iter().any(|it| it.text == "reason") {
                    complain(token.at, "a lint is silenced without a reason");
                }
            }
            "ignore" if is_in_attribute(&source, index) => {
                complain(token.at, "a test is ignored");
            }
            _ => {}
        }
    }
    for (at, _) in source.comments.match_indices(concat!("TO", "DO")) {
        complain(at, "a comment promises work; do it or drop it");
    }
    complaints
}

/// Whether the token opens an attribute: `#[`, `#![`, or stands within `cfg_attr(…)`.
fn is_in_attribute(source: &Source, index: usize) -> bool {
    let before = |back: usize| index.checked_sub(back).map_or("", |it| source.text(it));
    match before(1) {
        "[" => before(2) == "#" || before(2) == "!" && before(3) == "#",
        "," => (0..index)
            .rev()
            .take(12)
            .take_while(|&it| !matches!(source.text(it), "]" | ";" | "}"))
            .any(|it| source.text(it) == "cfg_attr"),
        _ => false,
    }
}

/// The repository speaks for itself: no path of a machine it was written on, no number of a list that readers lack.
pub fn standing_alone(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        let places = [concat!("/wo", "rk/"), concat!("../sha", "red"), concat!("/ro", "ot/.")];
        let mut found: Vec<&str> = places.into_iter().filter(|it| lower.contains(it)).collect();
        let number = lower
            .match_indices("issue #")
            .any(|(at, it)| lower[at + it.len()..].starts_with(|it: char| it.is_ascii_digit()));
        if number {
            found.push("a number of a list");
        }
        for what in found {
            complaints.push(format!("{path}:{}: names {what}", index + 1));
        }
    }
    complaints
}

/// A module's tests in a file of their own, `src/alert/tests.rs`.
fn is_tests_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}
