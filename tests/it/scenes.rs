//! Scenes in the life of a platform, from what ECE answers to what people are told, at a simulated time.
//!
//! Scenes that stand elsewhere: a key that is revoked early, replaced by one of the same name, or renewed before it
//! expires (`flow`); a license that is missing from the start or renewed, certificates that are renewed, a role that may not
//! see the platform (`platform`); a password that is changed (`kinds`); a coordinator that fails between two others
//! (`probe`); stops and crashes in the middle of a scene (`crash`, `store`).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::alert::AlertName;
use ece_expiry_exporter::metrics::{self, Format, Telemetry};
use ece_expiry_exporter::observation::{FailureReason, Reading};
use ece_expiry_exporter::sim::{
    Ece, EceOptions, ErrorBody, Expires, Fault, HeaderMode, HeaderPath, License, On, SimKey,
};
use ece_expiry_exporter::status::CredentialStatus;
use ece_expiry_exporter::time;
use ece_expiry_exporter::web::{BuildInfo, Lifecycle, ServeOptions, Web, router, serve};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::world::{Program, World, fetch, is_at, now, sample};

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

/// A world where nobody is reminded, so that every message is news.
async fn world() -> World {
    let mut world = World::new().await;
    world.set_now(start());
    world.receivers += "policy: {repeat: {critical: never, warning: never, info: never}}\n";
    world
}

fn days(n: i64) -> TimeDelta {
    TimeDelta::days(n)
}

fn hours(n: i64) -> TimeDelta {
    TimeDelta::hours(n)
}

/// Lets so many hours pass.
async fn pass(program: &mut Program, n: i64) {
    program.pass(hours(n), TimeDelta::minutes(10)).await;
}

/// What the webhooks have said since `heard`, one `type whom reason severity` each; as many mails say the same.
fn told(world: &World) -> Vec<String> {
    let hooks = world.sink.hooks();
    let arrived = hooks.iter().filter(|it| it.status_answered == Some(200));
    arrived
        .map(|hook| {
            let json = hook.json().unwrap();
            let field = |path: &str| json.pointer(path).unwrap().as_str().unwrap_or("-").to_owned();
            let whom = match field("/data/credential/name").as_str() {
                "" => "-".to_owned(),
                name => name.to_owned(),
            };
            let parts = [field("/type"), whom, field("/data/alert/reason"), field("/severity")];
            parts.join(" ")
        })
        .collect()
}

fn subjects(world: &World) -> Vec<String> {
    world.mailbox.mails().iter().map(ece_expiry_exporter::sim::Mail::subject).collect()
}

fn row(program: &Program, name: &str) -> CredentialStatus {
    let snapshot = program.shared.board.snapshot();
    CredentialStatus::clone(snapshot.credentials.iter().find(|it| &*it.id.name == name).unwrap())
}

fn reading(program: &Program, name: &str) -> Option<Reading> {
    row(program, name).reading
}

fn failure(program: &Program, name: &str) -> (FailureReason, String) {
    row(program, name).failure.unwrap_or_else(|| panic!("{name} did not fail"))
}

fn platform_alerts(program: &Program) -> Vec<AlertName> {
    let snapshot = program.shared.board.snapshot();
    snapshot.platforms[0].alerts.iter().map(|it| it.name).collect()
}

fn scrape(program: &Program) -> String {
    let shared = &program.shared;
    metrics::render(&shared.board.snapshot(), &shared.telemetry, now(), Format::Text).unwrap()
}

/// The value of a metric of a credential.
fn metric(program: &Program, name: &str, credential: &str) -> Option<f64> {
    sample(&scrape(program), &format!("{name}{{platform=\"prod\",credential=\"{credential}\"}}"))
}

fn assert_expiry_is_shown(program: &Program, name: &str, at: DateTime<Utc>) {
    let shown = metric(program, "ece_credential_expiry_timestamp_seconds", name);
    assert!(shown.is_some_and(|it| is_at(it, at)), "{name}: {shown:?}");
}

/// The words for the states of the credentials on the page for people, as a browser gets it.
async fn states(program: &Program) -> Vec<String> {
    let (reload, _reloads) = mpsc::channel(1);
    let (probe, _probes) = mpsc::channel(1);
    let (_stop, stopped) = watch::channel(false);
    let web = Web {
        board: program.shared.board.clone(),
        telemetry: Arc::new(Telemetry::new(time::now())),
        config_yaml: Arc::default(),
        reload,
        probe,
        silence: mpsc::channel(1).0,
        lifecycle: Lifecycle::Disabled,
        admin_api: ece_expiry_exporter::web::AdminApi::Disabled,
        own_key: Arc::default(),
        telemetry_path: "/metrics".to_owned(),
        version: BuildInfo::current(),
        started: time::now(),
        requests_max: 4,
        config_error: Arc::default(),
        store_error: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let served = serve(listener, router(Arc::new(web)), stopped, ServeOptions::default());
    let served = tokio::spawn(served);
    let (status, text) = fetch(&url).await;
    served.abort();
    assert_eq!(status, 200);
    let cells = text.split("<td data-label=\"State\">").skip(1);
    let word = |cell: &str| cell.split(['<', '>']).nth(2).unwrap().to_owned();
    cells.map(word).collect()
}

// ---- the life of a key ----

#[tokio::test]
async fn a_key_that_expires_between_two_probes_is_told_as_expired_once_and_never_as_rejected() {
    let mut world = world().await;
    let at = start() + hours(30);
    world.add("key", Expires::At(at));
    let mut program = world.start().await;
    pass(&mut program, 29).await;
    let before =
        ["credential.expiring key new critical", "credential.expiring key escalated critical"];
    assert_eq!(told(&world), before);
    pass(&mut program, 72).await;
    assert_eq!(failure(&program, "key").0, FailureReason::Unauthorized);
    let after = [before[0], before[1], "credential.expired key escalated critical"];
    assert_eq!(told(&world), after);
    assert!(subjects(&world).last().unwrap().contains("key EXPIRED"), "{:?}", subjects(&world));
    assert_expiry_is_shown(&program, "key", at);
    assert_eq!(metric(&program, "ece_probe_success", "key"), Some(0.0));
}

#[tokio::test]
async fn a_key_that_is_replaced_while_the_old_one_still_works_is_renewed_and_the_end_of_the_old_is_silent()
 {
    let mut world = world().await;
    world.add("key", Expires::At(start() + days(5)));
    let mut program = world.start().await;
    pass(&mut program, 2).await;
    let old = row(&program, "key").key_id;
    let at = start() + days(90);
    let fresh = world.ece.add_key(SimKey::new("owner", "key-2", Expires::At(at)));
    world.write("key-key", &fresh);
    pass(&mut program, 2).await;
    world.ece.revoke("key").unwrap();
    pass(&mut program, 48).await;
    assert_eq!(
        told(&world),
        ["credential.expiring key new critical", "credential.renewed key renewed critical"]
    );
    assert_ne!(row(&program, "key").key_id, old);
    assert_expiry_is_shown(&program, "key", at);
    assert_eq!(states(&program).await, ["valid"]);
}

#[tokio::test]
async fn a_key_that_is_replaced_by_one_without_an_end_is_told_as_such() {
    let mut world = world().await;
    world.add("key", Expires::At(start() + days(5)));
    let mut program = world.start().await;
    pass(&mut program, 2).await;
    let fresh = world.ece.add_key(SimKey::new("owner", "key-2", Expires::Never));
    world.write("key-key", &fresh);
    world.ece.revoke("key").unwrap();
    pass(&mut program, 48).await;
    // Of two pieces of news at once the newer one is told.
    assert_eq!(
        told(&world),
        ["credential.expiring key new critical", "credential.never_expires key new info"]
    );
    assert_eq!(metric(&program, "ece_credential_never_expires", "key"), Some(1.0));
    assert_eq!(metric(&program, "ece_credential_expiry_timestamp_seconds", "key"), None);
    assert_eq!(states(&program).await, ["never expires"]);
}

#[tokio::test]
async fn a_key_whose_owner_was_deleted_is_rejected_whichever_way_ece_says_so() {
    let gone = ErrorBody::Code("user.not_found".to_owned(), "User not found.".to_owned());
    for (fault, part) in [
        (None, "does not accept the key"),
        (Some(Fault::Status(404, gone)), "no longer has the user that the key belongs to"),
    ] {
        let mut world = world().await;
        let at = start() + days(60);
        world.add("key", Expires::At(at));
        world.add("other", Expires::At(at));
        let mut program = world.start().await;
        pass(&mut program, 2).await;
        match fault {
            None => world.ece.revoke("key").unwrap(),
            Some(fault) => world.ece.set_fault(On::Key("key"), fault).unwrap(),
        }
        pass(&mut program, 12).await;
        assert_eq!(told(&world), ["credential.rejected key new critical"]);
        let (reason, message) = failure(&program, "key");
        assert_eq!(reason, FailureReason::Unauthorized, "{message}");
        assert!(message.contains(part), "{message}");
        assert_expiry_is_shown(&program, "key", at);
        assert_eq!(states(&program).await, ["rejected", "valid"]);
    }
}

// ---- ECE itself ----

#[tokio::test]
async fn an_ece_that_comes_to_tell_the_expiry_ends_never_and_begins_to_warn() {
    let mut world = world().await;
    // An old ECE tells neither in the header nor in the list.
    world.add("key", Expires::Never);
    world.add("legacy", Expires::Never);
    world.receivers = world.receivers.replace("policy: {", "policy: {never_expires: info, ");
    let mut program = world.start().await;
    pass(&mut program, 3).await;
    let mut first = told(&world);
    first.sort();
    assert_eq!(
        first,
        ["credential.never_expires key new info", "credential.never_expires legacy new info"]
    );
    let at = start() + days(10);
    world.ece.set_expiry("key", Expires::At(at)).unwrap();
    pass(&mut program, 12).await;
    assert_eq!(told(&world)[2..], ["credential.expiring key new warning"]);
    assert_expiry_is_shown(&program, "key", at);
    assert_eq!(metric(&program, "ece_credential_never_expires", "legacy"), Some(1.0));
}

#[tokio::test]
async fn a_header_that_appears_beside_the_list_changes_nothing() {
    let mut world = world().await;
    let at = start() + days(20);
    world.add("key", Expires::At(at));
    world.ece.world().key("key").unwrap().header = HeaderMode::NoHeader;
    let mut program = world.start().await;
    pass(&mut program, 3).await;
    world.ece.world().key("key").unwrap().header = HeaderMode::Rfc3339Seconds;
    pass(&mut program, 12).await;
    assert_eq!(told(&world), ["credential.expiring key new info"]);
    assert_expiry_is_shown(&program, "key", at);
}

/// A world with a credential of every kind that asks ECE.
async fn world_of_all_kinds() -> (World, Vec<(&'static str, DateTime<Utc>)>) {
    let mut world = world().await;
    let mut dated = Vec::new();
    for (name, left) in [("a", 60), ("b", 70), ("c", 80), ("d", 90), ("e", 100)] {
        world.add(name, Expires::At(start() + days(left)));
        dated.push((name, start() + days(left)));
    }
    let at = start() + days(110);
    world.ece.world().license = Some(License { expires: at, signature: "s".to_owned() });
    world.ece.world().set_service("ui", &[], Some(at));
    world.ece.world().sessions.set_password("ops", "right");
    let jwt = world.ece.world().sessions.open("ci", at);
    world.write("login", "right");
    world.write("token", &jwt);
    world.platforms =
        "      - {name: on-call, login: {username: ops, password_file: login}}\n      \
         - {name: session, bearer_token_file: token}\n    license: {credential: a}\n    \
         certificates: {services: [ui], credential: a}\n"
            .into();
    dated.extend([("license", at), ("certificate-ui", at), ("session", at)]);
    (world, dated)
}

#[tokio::test]
async fn an_outage_of_all_is_one_alert_and_every_credential_keeps_what_is_known_of_it() {
    let html = |status| Fault::Status(status, ErrorBody::Html);
    for (fault, reason) in [
        (Fault::AuthClusterDown, FailureReason::ServerError),
        (Fault::NoAuthCluster, FailureReason::ServerError),
        (Fault::Html502, FailureReason::ServerError),
        (html(503), FailureReason::ServerError),
        (Fault::Html200, FailureReason::UnexpectedStatus),
        (Fault::Reset, FailureReason::Protocol),
    ] {
        let (world, dated) = world_of_all_kinds().await;
        let mut program = world.start().await;
        pass(&mut program, 2).await;
        assert_eq!(told(&world), [""; 0], "{fault:?}");
        world.ece.set_fault(On::Everyone, fault.clone()).unwrap();
        pass(&mut program, 4).await;
        assert_eq!(told(&world), ["platform.unreachable - new warning"], "{fault:?}");
        for (name, at) in &dated {
            assert_eq!(failure(&program, name).0, reason, "{name}, {fault:?}");
            assert_eq!(reading(&program, name), Some(Reading::ExpiresAt(*at)), "{name}");
            assert_expiry_is_shown(&program, name, *at);
            assert_eq!(metric(&program, "ece_probe_success", name), Some(0.0), "{name}");
        }
        assert_eq!(platform_alerts(&program), [AlertName::PlatformUnreachable], "{fault:?}");
        assert_eq!(states(&program).await, vec!["valid"; dated.len() + 1], "{fault:?}");
        world.ece.set_fault(On::Everyone, Fault::None).unwrap();
        pass(&mut program, 3).await;
        assert_eq!(
            told(&world),
            ["platform.unreachable - new warning", "platform.recovered - recovered warning"],
            "{fault:?}"
        );
        assert_eq!(platform_alerts(&program), [], "{fault:?}");
        for (name, _) in &dated {
            assert_eq!(metric(&program, "ece_probe_success", name), Some(1.0), "{name}");
        }
    }
}

#[tokio::test]
async fn a_storm_of_429_is_one_alert_and_is_not_made_worse() {
    let mut world = world().await;
    for name in ["a", "b", "c", "d"] {
        world.add(name, Expires::At(start() + days(60)));
    }
    let mut program = world.start().await;
    pass(&mut program, 2).await;
    let before = world.ece.requests().total;
    world.ece.set_fault(On::Everyone, Fault::RateLimited(3600)).unwrap();
    pass(&mut program, 6).await;
    // The first four fly together; then there is one in each rest, which is a quarter of an hour at most.
    let limited = world.ece.requests().total - before;
    assert!(limited <= 4 + 6 * 4, "{limited} requests while there are too many");
    assert_eq!(told(&world), ["platform.unreachable - new warning"]);
    assert_eq!(failure(&program, "a").0, FailureReason::RateLimited);
    assert_expiry_is_shown(&program, "a", start() + days(60));
    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    pass(&mut program, 2).await;
    assert_eq!(told(&world)[1..], ["platform.recovered - recovered warning"]);
}

#[tokio::test]
async fn clocks_that_are_an_hour_apart_are_told_once_and_the_expiry_stays() {
    for ahead in [1, -1] {
        let mut world = world().await;
        let at = start() + days(60);
        world.add("key", Expires::At(at));
        let mut program = world.start().await;
        pass(&mut program, 2).await;
        world.ece.world().clock_offset = hours(ahead);
        pass(&mut program, 12).await;
        assert_eq!(told(&world), ["platform.clock_skew - new warning"]);
        assert_expiry_is_shown(&program, "key", at);
        let skew = sample(&scrape(&program), "ece_platform_clock_skew_seconds{platform=\"prod\"}");
        let expected = -3600.0 * if ahead == 1 { 1.0 } else { -1.0 };
        assert!(skew.is_some_and(|it| (it - expected).abs() < 5.0), "{skew:?}");
        world.ece.world().clock_offset = TimeDelta::zero();
        pass(&mut program, 12).await;
        assert_eq!(told(&world)[1..], ["platform.recovered - recovered warning"]);
    }
}

#[tokio::test]
async fn a_key_that_expires_by_the_clock_of_ece_is_told_as_expired_and_not_as_rejected() {
    for ahead in [1, -1] {
        let mut world = world().await;
        world.add("key", Expires::At(start() + hours(20)));
        world.ece.world().clock_offset = hours(ahead);
        world.global = "schedule: 10m".to_owned();
        let mut program = world.start().await;
        pass(&mut program, 30).await;
        let about_key: Vec<String> =
            told(&world).into_iter().filter(|it| it.contains(" key ")).collect();
        assert_eq!(
            about_key,
            ["credential.expiring key new critical", "credential.expired key escalated critical"],
            "ECE is {ahead} h ahead"
        );
    }
}

// ---- the license ----

#[tokio::test]
async fn a_license_that_is_removed_is_told_and_its_return_too() {
    let mut world = world().await;
    world.add("ops", Expires::At(start() + days(300)));
    world.platforms.push_str("    license: {credential: ops}\n");
    let license = |left| Some(License { expires: start() + days(left), signature: "s".to_owned() });
    world.ece.world().license = license(60);
    let mut program = world.start().await;
    pass(&mut program, 2).await;
    world.ece.world().license = None;
    pass(&mut program, 12).await;
    assert_eq!(told(&world), ["credential.expiry_unknown license new warning"]);
    assert_eq!(failure(&program, "license").0, FailureReason::LicenseMissing);
    assert_expiry_is_shown(&program, "license", start() + days(60));
    world.ece.world().license = license(365);
    pass(&mut program, 2).await;
    assert_eq!(told(&world)[1..], ["credential.recovered license recovered warning"]);
    assert_expiry_is_shown(&program, "license", start() + days(365));
}

// ---- coordinators ----

/// A second coordinator of the world's platform.
async fn second(world: &mut World) -> Ece {
    let two = Ece::start(EceOptions {
        tls: Some(world.certificates.clone()),
        world: world.ece.share_world(),
        clock: world.clock.clone(),
        ..Default::default()
    })
    .await
    .unwrap();
    world.coordinators.push(two.url());
    two
}

#[tokio::test]
async fn one_coordinator_of_two_may_be_gone_and_both_are_an_outage() {
    let mut world = world().await;
    for name in ["a", "b", "c"] {
        world.add(name, Expires::At(start() + days(60)));
    }
    let two = second(&mut world).await;
    let mut program = world.start().await;
    pass(&mut program, 2).await;
    // Out of the way and not answering; the simulated platform itself goes on.
    let elsewhere = Ece::start(EceOptions::default()).await.unwrap();
    let one = std::mem::replace(&mut world.ece, elsewhere);
    drop(one);
    pass(&mut program, 12).await;
    assert_eq!(told(&world), [""; 0]);
    assert!(10 < two.requests().total, "the second is asked: {:?}", two.requests());
    assert_eq!(metric(&program, "ece_probe_success", "a"), Some(1.0));
    drop(two);
    pass(&mut program, 6).await;
    assert_eq!(told(&world), ["platform.unreachable - new warning"]);
    let (reason, message) = failure(&program, "a");
    assert_eq!(reason, FailureReason::Connect, "{message}");
    assert!(message.contains("All coordinators failed"), "{message}");
    assert_expiry_is_shown(&program, "a", start() + days(60));
}

/// A second coordinator with a state of its own: what goes wrong at the first does not go wrong here.
async fn twin(world: &mut World, header_path: HeaderPath, expires: DateTime<Utc>) -> Ece {
    let twin = Ece::start(EceOptions {
        tls: Some(world.certificates.clone()),
        clock: world.clock.clone(),
        header_path,
        ..Default::default()
    })
    .await
    .unwrap();
    let key = world.ece.world().key("key").unwrap().clone();
    twin.add_key(SimKey { expires: Expires::At(expires), ..key });
    world.coordinators.push(twin.url());
    twin
}

/// Days in which the first coordinator is down every other few hours.
async fn alternate(world: &World, program: &mut Program) {
    for fault in [Fault::None, Fault::Html502].into_iter().cycle().take(16) {
        world.ece.set_fault(On::Everyone, fault).unwrap();
        pass(program, 3).await;
    }
}

#[tokio::test]
async fn a_coordinator_whose_balancer_strips_the_header_is_no_news() {
    let mut world = world().await;
    let at = start() + days(20);
    world.add("key", Expires::At(at));
    let stripped = twin(&mut world, HeaderPath::Stripped, at).await;
    let mut program = world.start().await;
    alternate(&world, &mut program).await;
    let lists = stripped.requests().by_path["/api/v1/users/auth/keys"];
    assert!(8 < lists, "its list is asked: {lists}");
    assert_eq!(told(&world), ["credential.expiring key new info"]);
    assert_expiry_is_shown(&program, "key", at);
}

#[tokio::test]
async fn coordinators_that_disagree_about_an_expiry_do_not_flap() {
    let mut world = world().await;
    let (early, late) = (start() + days(20), start() + days(80));
    world.add("key", Expires::At(early));
    let other = twin(&mut world, HeaderPath::Open, late).await;
    let mut program = world.start().await;
    alternate(&world, &mut program).await;
    assert!(8 < other.requests().total, "both are asked: {:?}", other.requests());
    assert_eq!(told(&world), ["credential.expiring key new info"]);
    assert_expiry_is_shown(&program, "key", early);
}
