//! The self-test: that it passes, and that it finds a program that loses, repeats or does not start.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ece_expiry_exporter::self_test::{self, Options, Report, Verdict};

use crate::world::{run, seed};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ece-expiry-exporter");

async fn test(program: &Path, rounds: u32) -> anyhow::Result<Report> {
    let options = Options { program: program.to_owned(), rounds, seed: seed() };
    self_test::run(&options, |_| {}).await
}

/// A program that does this in the folder of its configuration before each start of the real one.
fn sabotaged(dir: &Path, act: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\ncd \"$(dirname \"${{1#--config.file=}}\")\"\n{act}\nexec {PROGRAM} \"$@\"\n"
    );
    let path = dir.join("program");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_command_passes_prints_its_table_and_is_quiet_in_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let seed = seed().to_string();
    let env = [("TMPDIR", dir.path().to_str().unwrap().to_owned())].into();
    let args = ["self-test", "--rounds=3", "--seed", &seed];
    let (code, out, err) = crate::world::run_with(&args, dir.path(), &env);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(err, "", "nobody watches");
    let value = |what: &str| -> Vec<usize> {
        let line = out.lines().find(|it| it.starts_with(what)).unwrap();
        line[what.len()..].split_whitespace().map(|it| it.parse().unwrap()).collect()
    };
    assert_eq!(value("lost"), [0, 0]);
    assert_eq!(value("messages owed"), value("delivered"), "{out}");
    assert!(10 * 4 <= value("delivered")[0] && value("delivered")[1] == 21, "{out}");
    assert!(out.contains("PASSED") && out.contains(&format!("--seed {seed}")), "{out}");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "its folders are gone");
    let (code, _, err) = run(&["self-test", "--rounds=0"], dir.path());
    assert_eq!(code, 2, "{err}");
}

#[tokio::test]
async fn a_program_that_does_not_tell_a_recipient_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = sabotaged(dir.path(), "sed -i 's/, two@example.org//' config.yml");
    let report = test(&deaf, 1).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Broken);
    assert_eq!(report.killed.lost.len() * 4, report.killed.obligations, "{report:?}");
    assert!(report.killed.lost.iter().all(|it| it.contains("to two")), "{report:?}");
    assert_eq!(report.killed.wrong.len(), 0, "{report:?}");
    assert_eq!(report.tarpit.lost.len(), 0, "{report:?}");
    let [kept] = &report.kept[..] else { panic!("{:?}", report.kept) };
    assert!(kept.join("store/store.db").exists() && kept.join("log").exists());
    std::fs::remove_dir_all(kept).unwrap();
}

#[tokio::test]
async fn a_program_that_forgets_what_it_told_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let forgetful = sabotaged(dir.path(), "rm -rf store");
    let report = test(&forgetful, 1).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Broken);
    assert!(
        report.tarpit.wrong.iter().any(|it| it.contains("told under several ids")),
        "{report:?}"
    );
    report.kept.iter().for_each(|it| std::fs::remove_dir_all(it).unwrap());
}

#[tokio::test]
async fn a_program_that_ends_by_itself_is_told_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let broken = sabotaged(dir.path(), "echo 'colour: red' >> config.yml");
    let error = format!("{:#}", test(&broken, 2).await.unwrap_err());
    assert!(error.contains("ended by itself") && error.contains("colour"), "{error}");
    let error = format!("{:#}", test(&dir.path().join("missing"), 2).await.unwrap_err());
    assert!(error.contains("cannot start") && error.contains("missing"), "{error}");
}
