//! Kinds of credentials other than a key in a file of its own: what is made of the answers of ECE, and that no account is
//! locked. What is asked of ECE is in `spec`.

mod refused;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use ece_expiry_exporter::config::{Credential, CredentialKind, SecretSource};
use ece_expiry_exporter::observation::{FailureReason, Observation, Reading};
use ece_expiry_exporter::probe::Prober;
use ece_expiry_exporter::sim::{Ece, EceOptions, Expires, Logins, SessionEnd, SimKey};
use ece_expiry_exporter::time;
use tempfile::TempDir;

use crate::coordinator::{Coordinator, Reply, answer};
use crate::probe::{DEADLINE, PATIENCE, credential, platform};
use crate::world::{Binary, World, run_with};

fn file(dir: &TempDir, text: &str) -> SecretSource {
    let path = dir.path().join("secret");
    std::fs::write(&path, text).unwrap();
    SecretSource::File(path)
}

fn login(dir: &TempDir, password: &str) -> Credential {
    let kind = CredentialKind::Login { username: "ops".to_owned(), password: file(dir, password) };
    Credential { kind, ..credential(dir) }
}

fn token(dir: &TempDir, token: &str) -> Credential {
    Credential { kind: CredentialKind::BearerToken(file(dir, token)), ..credential(dir) }
}

async fn probe(urls: &[String], credential: &Credential) -> Observation {
    Prober::new(&platform(urls), PATIENCE).unwrap().probe(credential, time::now).await
}

/// Runs a command in the folder of the world, on a thread of its own: the simulated ECE answers meanwhile.
async fn run_in(
    args: &[&str],
    world: &World,
    env: &BTreeMap<&'static str, String>,
) -> (i32, String, String) {
    let args: Vec<String> = args.iter().map(|it| (*it).to_owned()).collect();
    let (dir, env) = (world.dir.path().to_owned(), env.clone());
    let run = move || run_with(&args.iter().map(String::as_str).collect::<Vec<_>>(), &dir, &env);
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn failed(observation: &Observation, reason: FailureReason, part: &str) {
    let failure = observation.result.as_ref().unwrap_err();
    assert_eq!(failure.reason, reason, "{}", failure.message);
    assert!(failure.message.contains(part), "{part:?} is missing in: {}", failure.message);
}

fn json(body: &'static str) -> impl Fn(&str) -> Reply {
    move |_| answer("200 OK", &["content-type: application/json"], body)
}

// ---- API keys in files of other programs ----

#[tokio::test]
async fn a_key_is_found_in_the_files_of_other_programs_and_read_anew() {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    let at = time::now() + TimeDelta::days(9);
    let key = ece.add_key(SimKey::new("owner", "ci", Expires::At(at)));
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    let prober = Prober::new(&platform(&[ece.url()]), PATIENCE).unwrap();
    for (source, text) in [
        (SecretSource::Csv(path.clone()), format!("\u{feff}\"Name\",\"API Key\"\r\nci,{key}\r\n")),
        (SecretSource::Ecctl(path.clone()), format!(r#"{{"api_key":"{key}","host":"https://x"}}"#)),
    ] {
        let credential = Credential { kind: CredentialKind::ApiKey(source), ..credential(&dir) };
        std::fs::write(&path, "id,name\n1,ci\n").unwrap();
        let observation = prober.probe(&credential, time::now).await;
        failed(&observation, FailureReason::SecretUnreadable, "The secret cannot be read");
        std::fs::write(&path, text).unwrap();
        let observation = prober.probe(&credential, time::now).await;
        let Ok(Reading::ExpiresAt(told)) = observation.result else { panic!("{observation:?}") };
        assert!((told - at).abs() < TimeDelta::seconds(1), "{told}");
    }
}

// ---- bearer tokens ----

#[tokio::test]
async fn a_token_ends_when_ece_says_and_else_when_it_says_itself() {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    let ends = time::now() + TimeDelta::days(3);
    let jwt = ece.world().sessions.open("ci", ends);
    let dir = TempDir::new().unwrap();
    for tells in [SessionEnd::Told, SessionEnd::Untold] {
        ece.world().sessions.tells = tells;
        let observation = probe(&[ece.url()], &token(&dir, &jwt)).await;
        let Ok(Reading::ExpiresAt(told)) = observation.result else { panic!("{observation:?}") };
        assert!((told - ends).abs() <= TimeDelta::seconds(1), "{tells:?}: {told}");
    }
    ece.world().sessions.end("ci");
    let observation = probe(&[ece.url()], &token(&dir, &jwt)).await;
    failed(&observation, FailureReason::Unauthorized, "does not accept the token");
}

#[tokio::test]
async fn a_token_of_which_nobody_tells_the_end_is_unknown_and_not_forever() {
    let dir = TempDir::new().unwrap();
    for body in [r#"{"refresh_token_url":"/x"}"#, r#"{"expires_at":null}"#, r#"{"expires_at":[]}"#]
    {
        let ece = Coordinator::http(json(body)).await;
        let observation = probe(&[ece.http_url()], &token(&dir, "opaque")).await;
        failed(&observation, FailureReason::HeaderMissing, "ECE accepts the token, but neither");
        assert!(ece.requests()[0].contains("authorization: Bearer opaque"));
    }
    let observation = probe(&["http://127.0.0.1:1".to_owned()], &token(&dir, "Bearer x")).await;
    failed(&observation, FailureReason::SecretUnreadable, "without `Bearer`");
}

// ---- logins ----

#[tokio::test]
async fn a_login_that_works_tells_no_expiry_and_leaves_no_session() {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    ece.world().sessions.set_password("ops", "pass word \"ü\"");
    let dir = TempDir::new().unwrap();
    let observation = probe(&[ece.url()], &login(&dir, "pass word \"ü\"\n")).await;
    assert_eq!(observation.result, Ok(Reading::Undated));
    assert_eq!(observation.http_status, Some(200));
    assert_eq!(ece.world().sessions.count("ops"), 0);
    assert_eq!(ece.world().sessions.logins("ops"), Logins { accepted: 1, refused: 0 });
}

#[tokio::test]
async fn a_failed_logout_is_no_failure() {
    let reply = |request: &str| {
        if request.contains("_login") {
            answer("200 OK", &["content-type: application/json"], r#"{"token":"a.b.c","x":null}"#)
        } else {
            answer("500 Internal Server Error", &[], "")
        }
    };
    let dir = TempDir::new().unwrap();
    let ece = Coordinator::http(reply).await;
    let observation = probe(&[ece.http_url()], &login(&dir, "right")).await;
    assert_eq!(observation.result, Ok(Reading::Undated));
    assert_eq!(ece.requests().len(), 2, "{:?}", ece.requests());
    assert!(ece.requests()[1].contains("authorization: Bearer a.b.c"));

    let silent = |request: &str| {
        if request.contains("_login") {
            answer("200 OK", &["content-type: application/json"], r#"{"token":"a.b.c"}"#)
        } else {
            Reply::Silence
        }
    };
    let ece = Coordinator::http(silent).await;
    let prober = Prober::new(&platform(&[ece.http_url()]), Duration::from_secs(1)).unwrap();
    let observation = prober.probe(&login(&dir, "right"), time::now).await;
    assert_eq!(observation.result, Ok(Reading::Undated));
}

#[tokio::test]
async fn an_answer_without_a_token_is_no_login() {
    let dir = TempDir::new().unwrap();
    for body in ["{}", r#"{"token":null}"#, r#"{"token":7}"#, r#"{"token":""}"#] {
        let ece = Coordinator::http(json(body)).await;
        let observation = probe(&[ece.http_url()], &login(&dir, "right")).await;
        failed(&observation, FailureReason::UnexpectedStatus, "without a token");
    }
    let ece = Coordinator::http(json("[]")).await;
    let observation = probe(&[ece.http_url()], &login(&dir, "right")).await;
    failed(&observation, FailureReason::UnexpectedStatus, "login page answered");
}

#[tokio::test]
async fn a_password_that_was_refused_twice_rests_until_it_is_replaced() {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    ece.world().sessions.set_password("ops", "right");
    let dir = TempDir::new().unwrap();
    let wrong = login(&dir, "wrong");
    let prober = Prober::new(&platform(&[ece.url()]), PATIENCE).unwrap();
    for _ in 0..2 {
        let observation = prober.probe(&wrong, time::now).await;
        failed(&observation, FailureReason::Unauthorized, "does not accept the password");
    }
    for _ in 0..20 {
        let observation = prober.probe(&wrong, time::now).await;
        failed(&observation, FailureReason::Unauthorized, "refused this password 2 times");
        assert_eq!(observation.http_status, None);
    }
    assert_eq!(ece.world().sessions.logins("ops"), Logins { accepted: 0, refused: 2 });

    // After the rest it has one attempt more.
    let later = || time::now() + TimeDelta::hours(13);
    let observation = prober.probe(&wrong, later).await;
    failed(&observation, FailureReason::Unauthorized, "does not accept the password");
    prober.probe(&wrong, later).await.result.unwrap_err();
    assert_eq!(ece.world().sessions.logins("ops").refused, 3);

    file(&dir, "right");
    assert_eq!(prober.probe(&wrong, time::now).await.result, Ok(Reading::Undated));
}

#[tokio::test]
async fn a_login_that_may_have_arrived_is_not_sent_to_another_coordinator() {
    let dir = TempDir::new().unwrap();
    let second = Coordinator::http(json(r#"{"token":"a.b.c"}"#)).await;
    let first = [
        Coordinator::http(|_| answer("502 Bad Gateway", &[], "")).await,
        Coordinator::http(|_| Reply::SendAndReset(Vec::new())).await,
        Coordinator::http(|_| Reply::SendAndClose(b"HTTP/1.1 200".to_vec())).await,
        Coordinator::http(|_| Reply::Silence).await,
        Coordinator::http(|_| answer("401 Unauthorized", &[], "")).await,
    ];
    for first in first {
        let urls = [first.http_url(), second.http_url()];
        let prober = Prober::new(&platform(&urls), DEADLINE).unwrap();
        prober.probe(&login(&dir, "any"), time::now).await.result.unwrap_err();
        assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
    }
    // Nobody listens there, so nothing arrived.
    let urls = ["http://127.0.0.1:1".to_owned(), second.http_url()];
    assert_eq!(probe(&urls, &login(&dir, "any")).await.result, Ok(Reading::Undated));
}

#[tokio::test]
async fn a_password_that_stops_working_is_told_after_two_attempts_by_its_schedule() {
    let mut world = World::new().await;
    world.set_now("2026-11-01T00:00:00Z".parse().unwrap());
    world.ece.world().sessions.set_password("ops", "right");
    world.write("login", "right");
    world.platforms =
        "      - {name: on-call, login: {username: ops, password_file: login}}\n".into();
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(10)).await;
    let before = world.ece.world().sessions.logins("ops");
    assert!((3..=4).contains(&before.accepted) && before.refused == 0, "{before:?}");
    assert_eq!(world.mailbox.mails().len(), 0, "no alert about each session");

    world.ece.world().sessions.set_password("ops", "changed");
    let mut attempts = Vec::new();
    for _ in 0..48 {
        program.pass(TimeDelta::minutes(10), TimeDelta::minutes(10)).await;
        attempts.push(world.ece.world().sessions.logins("ops").refused);
    }
    assert_eq!(attempts.last(), Some(&2), "{attempts:?}");
    let apart = attempts.iter().filter(|it| **it == 1).count();
    assert!((5..=7).contains(&apart), "an hour between the two: {attempts:?}");
    let mails = world.mailbox.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].subject().contains("on-call REJECTED (401)"), "{}", mails[0].subject());
    let text = mails[0].text();
    assert!(text.contains("unlock the account") && !text.contains("API Keys"), "{text}");
    assert!(!text.contains("curl"), "{text}");

    world.write("login", "changed");
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(10)).await;
    let mails = world.mailbox.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails.iter().any(|it| it.subject().contains("RECOVERED")));
    assert_eq!(world.ece.world().sessions.count("ops"), 0);
}

#[tokio::test]
async fn nobody_can_have_a_refused_login_tried_again() {
    let mut world = World::new().await;
    world.ece.world().sessions.set_password("ops", "right");
    world.write("login", "wrong");
    world.platforms =
        "      - {name: on-call, login: {username: ops, password_file: login}}\n".into();
    let mut binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    for _ in 0..5 {
        let metrics = binary.probe("on-call").await;
        assert!(metrics.contains("reason=\"unauthorized\"} 1"), "{metrics}");
    }
    assert_eq!(binary.reload().await.0, 200);
    binary.probe("on-call").await;
    binary.signal("TERM");
    binary.ended().await;
    let again = Binary::serve(&world, &[], &[]).await;
    again.probe("on-call").await;
    assert_eq!(world.ece.world().sessions.logins("ops").refused, 1);
    let metrics = again.get("/metrics").await;
    assert!(metrics.contains("kind=\"login\""), "{metrics}");
    assert!(!metrics.contains("ece_credential_expiry_known{"), "{metrics}");
    world.platforms.clear();
}

// ---- without a configuration file ----

#[tokio::test]
async fn without_a_file_the_key_of_the_environment_is_watched() {
    let world = World::new().await;
    let expires = Expires::At(time::now() + TimeDelta::days(9));
    let key = world.ece.add_key(SimKey::new("o", "k", expires));
    let ca = world.path("ca.pem").display().to_string();
    let url = world.ece.url();
    let env = |set: &[(&'static str, &str)]| -> BTreeMap<&'static str, String> {
        let ca = [("SSL_CERT_FILE", ca.clone())];
        set.iter().map(|(name, value)| (*name, (*value).to_owned())).chain(ca).collect()
    };
    let hosts = [
        ("EC_API_KEY", "EC_HOST"),
        ("EC_API_KEY", "EC_ENDPOINT"),
        ("ECE_API_KEY", "ECE_URL"),
        ("ECE_API_KEY", "COORDINATOR_HOST"),
    ];
    for (name, host) in hosts {
        let set = env(&[(name, &key), (host, url.trim_start_matches("https://"))]);
        let (code, out, err) = run_in(&["probe", "--output", "json"], &world, &set).await;
        assert!(
            out.contains(r#""platform": "ece""#) && out.contains(r#""credential": "env""#),
            "{out}{err}"
        );
        assert!(code == 1 && out.contains(r#""verdict": "WARNING""#), "{code} {out}{err}");
        let (code, out, _) = run_in(&["check-config"], &world, &set).await;
        assert_eq!(code, 0, "{out}");
        assert!(out.contains(&format!("the one key in {name} is watched")), "{out}");
        assert!(out.contains("nobody is told") && !out.contains(&key), "{out}");
    }
    let both =
        env(&[("EC_API_KEY", &key), ("EC_HOST", "a"), ("ECE_API_KEY", &key), ("ECE_URL", "b")]);
    let (code, out, _) = run_in(&["check-config"], &world, &both).await;
    assert!(code == 1 && out.contains("EC_API_KEY and ECE_API_KEY are both set"), "{out}");
    let one = env(&[("EC_API_KEY", &key), ("EC_HOST", &url)]);
    let (code, out, _) = run_in(&["check-config", "none.yml"], &world, &one).await;
    assert!(code == 1 && out.contains("none.yml: cannot read this file"), "{out}");
}

// ---- systemd ----

#[tokio::test]
async fn credentials_of_systemd_are_read_and_a_shell_without_them_is_told_what_to_do() {
    let mut world = World::new().await;
    world.add("keyed", Expires::Never);
    std::fs::create_dir(world.path("handed")).unwrap();
    std::fs::rename(world.path("key-keyed"), world.path("handed/terraform")).unwrap();
    let text = world.config_text().replace("key-keyed", "\"${CREDENTIALS_DIRECTORY}/terraform\"");
    world.write("config.yml", &text);
    let set =
        BTreeMap::from([("CREDENTIALS_DIRECTORY", world.path("handed").display().to_string())]);
    let (code, out, _) = run_in(&["check-config", "config.yml"], &world, &set).await;
    assert_eq!(code, 0, "{out}");
    for command in [vec!["check-config", "config.yml"], vec!["probe", "--config.file=config.yml"]] {
        let (code, out, _) = run_in(&command, &world, &BTreeMap::new()).await;
        assert_ne!(code, 0);
        assert!(out.contains("export CREDENTIALS_DIRECTORY=FOLDER"), "{out}");
    }
}
