//! The rules of the house, checked on the source: each rule on the repository, and each on a planted fault.
//!
//! What a compiler or a lint can check is not checked here.

mod rules;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::rules::Order;
use self::source::Source;

/// Folders that are not the repository's, wherever they stand.
const FOREIGN: [&str; 6] = [".git", "target", "corpus", "artifacts", "node_modules", ".npm-cache"];

// ---- the repository ----

#[test]
fn a_module_uses_only_modules_above_it() {
    let order = repository_order();
    assert!(10 < order.len(), "lib.rs is not read: {} modules", order.len());
    clean(&rust_files("src"), |path, text| rules::order(&order, path, text));
}

#[test]
fn pure_modules_are_pure() {
    clean(&rust_files("src"), rules::purity);
}

#[test]
fn a_library_is_named_by_its_owners_only() {
    let order = repository_order();
    clean(&rust_files("src"), |path, text| rules::owners(&order, path, text));
}

#[test]
fn files_and_functions_are_small() {
    clean(&rust_files(""), rules::sizes);
}

#[test]
fn names_say_a_topic() {
    clean(&rust_files(""), rules::names);
}

#[test]
fn every_file_says_what_it_is_for() {
    clean(&rust_files(""), rules::opening);
}

#[test]
fn nothing_is_left_undone_or_silenced() {
    clean(&rust_files(""), rules::marks);
}

#[test]
fn the_repository_stands_alone() {
    clean(&files(""), rules::standing_alone);
}

#[test]
fn the_source_is_formatted() {
    let output = Command::new(env!("CARGO"))
        .args(["fmt", "--check"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run `cargo fmt`:\n{said}");
}

// ---- planted faults: a rule that cannot fail is no rule ----

const LIB: &str = "/// a\npub mod time;\n/// b\npub mod config;\npub mod store;\npub mod web;\n";

#[track_caller]
fn order_finds(path: &str, text: &str, complaints: &[&str]) {
    assert_eq!(rules::order(&Order::new(LIB, "mod cli;"), path, text), complaints);
}

#[test]
fn an_import_from_below_is_found_in_every_spelling() {
    for text in [
        "use crate::web::Page;",
        "use crate::{config::Config, web::Page};",
        "use crate::{time, web};",
        "use crate::{self, web as w};",
        "use crate::{config::{Config, Secret}, time::{now}, web::{self, Page}};",
        "pub(crate) use crate::web;",
        "fn f() { crate::web::page() }",
        "fn f() -> ::std::vec::Vec<crate::web::Page> { vec![] }",
        "fn f(it: &dyn Into<crate::web::Page>) {}",
        "/// It's fine.\nfn f<'a>(it: &'a str) { g(it, '\"', crate::web::page()) }",
        "mod tests { use crate::web::Page; }",
    ] {
        let found = rules::order(&Order::new(LIB, ""), "src/store.rs", text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].ends_with("store stands above web and may not use it"), "{found:?}");
    }
    order_finds(
        "src/config/secret.rs",
        "use std::fmt;\n\nuse crate::store::Store;\n",
        &["src/config/secret.rs:3: config stands above store and may not use it"],
    );
}

#[test]
fn an_import_from_above_or_within_is_fine() {
    for text in [
        "use crate::{config::{self, Config}, time};",
        "use crate::store::sql::Row;\nuse self::sql::Text;\nuse super::Store;",
        "pub(crate) fn f(crate_web: u8) -> u8 { crate_web }",
        "mod tests { use super::*; }",
    ] {
        order_finds("src/store/sql.rs", text, &[]);
    }
    order_finds("src/cli.rs", "use crate::web::Page;", &[]);
    order_finds("src/main.rs", "use ece_expiry_exporter::web; mod cli;", &[]);
}

#[test]
fn comments_and_texts_are_no_imports() {
    for text in [
        "// use crate::web::Page;",
        "/* /* crate::web::Page */ crate::web::Page */",
        "/// See `crate::web::Page`.\nfn f() {}",
        r##"const A: &str = "crate::web::Page"; const B: &str = "\"crate::web::x";"##,
        "const A: &str = r#\"\"crate::web::Page\"#; const B: &[u8] = br\"crate::web::x\\\";",
        "const A: char = '\"'; // crate::web\nconst B: char = '\\''; const C: &str = \"crate::web::x\";",
    ] {
        order_finds("src/store.rs", text, &[]);
    }
}

#[test]
fn the_order_has_no_back_door() {
    order_finds("src/store.rs", "use crate::*;", &["src/store.rs:1: crate::* is not in lib.rs"]);
    order_finds(
        "src/store.rs",
        "use crate as c;",
        &["src/store.rs:1: name the module, not the crate"],
    );
    let root = ["src/store.rs:1: write crate:: instead of super::"];
    order_finds("src/store.rs", "use super::web::Page;", &root);
    order_finds("src/store.rs", "mod tests { use super::super::web; }", &root);
    order_finds(
        "src/store/sql.rs",
        "fn f() { super::super::web::page() }",
        &["src/store/sql.rs:1: write crate:: instead of super::"],
    );
    order_finds("src/odd.rs", "", &["src/odd.rs: lib.rs does not list the module odd"]);
    order_finds(
        "src/lib.rs",
        "pub mod time;\npub use time::now;",
        &["src/lib.rs:2: lib.rs lists modules and nothing else"],
    );
}

#[test]
fn impurity_is_found() {
    for (text, what) in [
        ("async fn f() {}", "async"),
        ("fn f() { g().await }", "await"),
        ("use tokio::sync::Mutex;", "tokio::sync::Mutex"),
        ("fn f() { tracing::info!(\"x\") }", "tracing::info"),
        ("use std::{fmt, fs};", "std::fs"),
        ("fn f() { std::fs::read(\"x\"); }", "std::fs::read"),
        ("use std::net::{IpAddr, TcpStream};", "std::net::TcpStream"),
        ("fn f() { Utc::now(); }", "Utc::now"),
        ("use crate::time::now;", "crate::time::now"),
        ("use crate::time;\nfn f() { time::sleep_until(x) }", "time::sleep_until"),
        ("use std::time::{Duration, Instant};", "std::time::Instant"),
        ("fn f() { fastrand::u64(..); }", "fastrand::u64"),
    ] {
        let found = rules::purity("src/alert.rs", text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].ends_with(&format!(": {what} in a pure module")), "{found:?}");
    }
    assert_eq!(rules::purity("src/config.rs", "async fn load() { std::fs::read(p); }").len(), 1);
    assert_eq!(rules::purity("src/observation/header.rs", "use std::fs;").len(), 1);
}

#[test]
fn what_is_pure_passes() {
    for (path, text) in [
        ("src/alert.rs", "fn f(now: DateTime<Utc>) { g(now, crate::time::to_ms(now)) }"),
        ("src/alert.rs", "use std::net::IpAddr; use std::time::Duration;"),
        ("src/alert.rs", "// Utc::now()\nmod tests { use std::fs; }"),
        ("src/config.rs", "impl Config { fn load(p: &Path) { std::fs::read(p); } }"),
        ("src/alert/tests.rs", "use std::fs;"),
        ("src/store.rs", "use std::fs; async fn f() { crate::time::now(); }"),
    ] {
        assert_eq!(rules::purity(path, text), Vec::<String>::new());
    }
}

#[test]
fn a_library_outside_its_owner_is_found() {
    let order = Order::new(LIB, "mod cli;");
    for (path, text) in [
        ("src/web.rs", "use rusqlite::Connection;"),
        ("src/web.rs", "use ::rusqlite as db;"),
        ("src/web.rs", "use rusqlite;"),
        ("src/web.rs", "use {std::fmt, rusqlite::Row};"),
        ("src/web.rs", "fn f(it: &rusqlite::Row) {}"),
        ("src/web.rs", "fn f() -> ::rusqlite::Result<()> {}"),
        ("src/web.rs", "#[derive(prometheus_client::EncodeLabelSet)] struct A;"),
        ("src/store.rs", "extern crate lettre;"),
        ("src/store/sql.rs", "use cron::Schedule;"),
    ] {
        assert_eq!(rules::owners(&order, path, text).len(), 1, "{text}");
    }
    for (path, text) in [
        ("src/store/sql.rs", "use rusqlite::Row;"),
        ("src/web.rs", "fn f(cron: &str) -> &str { cron } // rusqlite::Row"),
        ("src/web.rs", "use crate::store::rusqlite;"),
        ("src/cli.rs", "use clap::Parser;"),
        ("src/web.rs", "mod tests { use jiff::Zoned; }"),
    ] {
        assert_eq!(rules::owners(&order, path, text), Vec::<String>::new());
    }
}

#[test]
fn a_long_file_or_function_is_found() {
    let statements = "    f();\n".repeat(68);
    let fits = format!("fn a(it: [u8; 4]) -> u8\nwhere\n{{\n{}}}\n", "    f();\n".repeat(66));
    assert_eq!(rules::sizes("src/a.rs", &fits), Vec::<String>::new());
    let commented = format!("fn a() {{\n{}{statements}}}\n", "    // why\n\n".repeat(40));
    assert_eq!(rules::sizes("src/a.rs", &commented), Vec::<String>::new());
    let long = format!("struct A;\n\nfn a() {{\n{statements}    f();\n}}\n");
    let complaint = "src/a.rs:3: a has 71 lines of code (at most 70)";
    assert_eq!(rules::sizes("src/a.rs", &long), [complaint]);

    let items = "const A: u8 = 0;\n".repeat(500);
    let tested = format!("//! x\n\n{items}mod tests {{\n{items}}}\n");
    assert_eq!(rules::sizes("src/a.rs", &tested), Vec::<String>::new());
    let complaint = "src/a.rs: 501 lines of code; split it by topic (at most 500)";
    assert_eq!(rules::sizes("src/a.rs", &format!("{items}const B: &str = \"\n\";\n")).len(), 1);
    assert_eq!(rules::sizes("src/a.rs", &format!("{items}struct B;\n")), [complaint]);
    assert_eq!(rules::sizes("tests/it/a.rs", &format!("{items}{items}")), Vec::<String>::new());
    assert_eq!(rules::sizes("tests/it/a.rs", &long).len(), 1);
}

#[test]
fn an_empty_name_is_found() {
    for (path, text, faults) in [
        ("src/utils.rs", "", 1),
        ("src/config/types.rs", "", 1),
        ("src/helpers/text.rs", "", 1),
        ("src/alert_manager.rs", "", 1),
        ("src/store/mod.rs", "", 1),
        ("src/store.rs", "mod common;", 1),
        ("src/store.rs", "mod misc { }", 1),
        ("src/alertmanager.rs", "mod tests; mod typed;", 0),
        ("src/store.rs", "// mod utils;\nfn handler() {}", 0),
    ] {
        assert_eq!(rules::names(path, text).len(), faults, "{path} {text}");
    }
}

#[test]
fn a_silent_file_is_found() {
    assert_eq!(
        rules::opening("src/a.rs", "use std::fs;\n//! x"),
        ["src/a.rs: does not open with //!"]
    );
    assert_eq!(rules::opening("src/a.rs", "").len(), 1);
    assert_eq!(rules::opening("src/a.rs", "//! x\n"), Vec::<String>::new());
}

#[test]
fn a_mark_is_found() {
    for (text, faults) in [
        ("fn f() { todo!() }", 1),
        ("fn f() { unimplemented!(\"later\") }", 1),
        ("#[allow(dead_code)]\nfn f() {}", 1),
        ("#![allow(dead_code)]", 1),
        ("#[cfg_attr(test, allow(dead_code))]\nfn f() {}", 1),
        ("#[expect(dead_code)]\nfn f() {}", 1),
        ("#[test]\n#[ignore = \"slow\"]\nfn f() {}", 1),
        (concat!("// TO", "DO: later"), 1),
        ("#[expect(dead_code, reason = \"x\")]\nfn f() { it.expect(\"is set\") }", 0),
        ("#![allow(dead_code, reason = \"x\")]", 0),
        ("// todo!() in words\nfn todo() -> &'static str { \"todo!()\" }", 0),
        ("fn f() { g(a, allow(b)); }", 0),
    ] {
        assert_eq!(rules::marks("src/a.rs", text).len(), faults, "{text}");
    }
}

#[test]
fn a_foreign_place_is_found() {
    for (text, faults) in [
        (concat!("see /wo", "rk/notes"), 1),
        (concat!("open ../sha", "red/x.md"), 1),
        (concat!("fixes Issue", " #12"), 1),
        ("an issue # is a number; .github/workflows/ci.yml; homework/x", 0),
    ] {
        assert_eq!(rules::standing_alone("README.md", text).len(), faults, "{text}");
    }
}

#[test]
fn views_keep_their_lines() {
    let text = "//! x\nfn f() -> &'static str {\n    \"a\n/* b */\" // c\n}\n";
    let source = Source::new(text);
    let trimmed = |view: &str| view.lines().map(str::trim).collect::<Vec<_>>().join("|");
    assert_eq!(trimmed(&source.code), "|fn f() -> &'static str {|||}");
    assert_eq!(trimmed(&source.uncommented), "|fn f() -> &'static str {|\"a|/* b */\"|}");
    assert_eq!(trimmed(&source.comments), "//! x|||// c|");
    assert_eq!(source.code.len(), text.len());
    assert_eq!(source.line(text.rfind('}').unwrap()), 5);
}

// ---- reading the repository ----

/// Asserts that `rule` has nothing to say about any of `files`.
#[track_caller]
fn clean(files: &[(String, String)], rule: impl Fn(&str, &str) -> Vec<String>) {
    assert!(!files.is_empty(), "no file was read");
    let complaints: Vec<String> = files.iter().flat_map(|(path, text)| rule(path, text)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn repository_order() -> Order {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    Order::new(&read("src/lib.rs"), &read("src/main.rs"))
}

fn rust_files(folder: &str) -> Vec<(String, String)> {
    let is_rust = |path: &str| Path::new(path).extension().is_some_and(|it| it == "rs");
    files(folder).into_iter().filter(|(path, _)| is_rust(path)).collect()
}

/// The text files below `folder` by their path from the root, in order.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if FOREIGN.contains(&entry.file_name().to_string_lossy().as_ref()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                let path = entry.path().strip_prefix(root()).unwrap().to_string_lossy().into();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
