//! Elastic Cloud Hosted, and platforms that limit the number of requests.

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::config::{Config, Flavor};
use ece_expiry_exporter::metrics::{self, Format};
use ece_expiry_exporter::observation::{FailureReason, Reading};
use ece_expiry_exporter::sim::{
    Ece, EceOptions, ErrorBody, Expires, Fault, HeaderMode, HeaderPath, Hosted, Mail, On, Role,
    SimKey,
};
use ece_expiry_exporter::status::CredentialStatus;
use expect_test::expect;

use crate::world::{Program, World, now};

const KEYS: &str = "/api/v1/users/auth/keys";
const DEPLOYMENTS: &str = "/api/v1/deployments";

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn far() -> DateTime<Utc> {
    start() + TimeDelta::days(80)
}

/// A world whose platform is Elastic Cloud Hosted.
async fn world(hosted: Hosted) -> World {
    let mut world = World::new().await;
    world.set_now(start());
    world.platforms.push_str("    flavor: ech\n");
    world.ece.world().hosted = Some(hosted);
    world
}

/// A key whose owner has this role.
fn add(world: &mut World, name: &str, expires: Expires, role: Role, header: HeaderMode) {
    world.add(name, expires);
    let mut platform = world.ece.world();
    let key = platform.key(name).unwrap();
    (key.role, key.header) = (role, header);
}

fn asked(world: &World, path: &str) -> u64 {
    world.ece.requests().by_path.get(path).copied().unwrap_or(0)
}

fn row(program: &Program, name: &str) -> CredentialStatus {
    let snapshot = program.shared.board.snapshot();
    let row = snapshot.credentials.iter().find(|it| &*it.id.name == name).unwrap();
    (**row).clone()
}

/// The only credential `key`, probed once.
async fn probed(world: &World) -> CredentialStatus {
    let mut program = world.start().await;
    program.step().await;
    let row = row(&program, "key");
    program.stop().await;
    row
}

fn exposes(program: &Program, sample: &str) -> bool {
    let shared = &program.shared;
    let text =
        metrics::render(&shared.board.snapshot(), &shared.telemetry, now(), Format::Text).unwrap();
    text.lines().any(|line| line == sample)
}

fn rate_limited(program: &Program) -> bool {
    exposes(program, "ece_platform_rate_limited{platform=\"prod\"} 1")
}

// ---- What is asked ----

#[tokio::test]
async fn a_key_tells_its_expiry_in_the_header_of_the_list_of_keys() {
    let mut world = world(Hosted::default()).await;
    add(&mut world, "key", Expires::At(far()), Role::Admin, HeaderMode::Rfc3339Millis);
    let row = probed(&world).await;
    assert_eq!(row.reading, Some(Reading::ExpiresAt(far())));
    assert_eq!((asked(&world, KEYS), world.ece.requests().total), (1, 1));
}

#[tokio::test]
async fn a_key_that_may_not_list_keys_is_told_by_the_refusal_itself() {
    let mut world = world(Hosted::default()).await;
    add(&mut world, "key", Expires::At(far()), Role::Viewer, HeaderMode::Rfc3339Millis);
    let row = probed(&world).await;
    assert_eq!((row.reading, row.failure), (Some(Reading::ExpiresAt(far())), None));
    assert_eq!(world.ece.requests().total, 1);
}

#[tokio::test]
async fn a_refusal_without_the_header_leads_to_the_deployments_however_many_there_are() {
    let hosted =
        Hosted { refusals: HeaderPath::Stripped, deployments: 20_000, ..Default::default() };
    let mut world = world(hosted).await;
    add(&mut world, "key", Expires::At(far()), Role::Viewer, HeaderMode::Rfc3339Millis);
    let row = probed(&world).await;
    assert_eq!((row.reading, row.failure), (Some(Reading::ExpiresAt(far())), None));
    assert_eq!((asked(&world, KEYS), asked(&world, DEPLOYMENTS)), (1, 1));
    let calls = world.ece.requests().calls;
    assert_eq!(calls, [format!("GET {DEPLOYMENTS}"), format!("GET {KEYS}")].into(), "and no other");
}

#[tokio::test]
async fn without_the_header_the_list_tells_the_expiry_and_that_there_is_none() {
    for (expires, reading) in
        [(Expires::At(far()), Reading::ExpiresAt(far())), (Expires::Never, Reading::Never)]
    {
        let mut world = world(Hosted::default()).await;
        add(&mut world, "other", Expires::At(start()), Role::Admin, HeaderMode::NoHeader);
        world.forget("other");
        add(&mut world, "key", expires, Role::Admin, HeaderMode::NoHeader);
        let id = world.ece.world().key("key").unwrap().id.clone();
        let row = probed(&world).await;
        assert_eq!((row.reading, row.key_id), (Some(reading), Some(id)));
        assert_eq!(world.ece.requests().total, 1, "the list was asked twice");
    }
}

#[tokio::test]
async fn an_expiry_that_nothing_tells_is_unknown_and_no_guess() {
    let mut world = world(Hosted::default()).await;
    add(&mut world, "key", Expires::At(far()), Role::Viewer, HeaderMode::NoHeader);
    let row = probed(&world).await;
    assert_eq!(row.reading, None);
    let (reason, message) = row.failure.unwrap();
    assert_eq!(reason, FailureReason::HeaderMissing);
    expect![[r#"Elastic Cloud answered without the header X-Elastic-Api-Key-Expiration, and this key may not list the organization's keys; check whether a proxy strips the header, and look the expiry up in the Elastic Cloud Console under Organization > API keys."#]]
        .assert_eq(&message);
}

#[tokio::test]
async fn failures_speak_of_elastic_cloud() {
    let mut world = world(Hosted::default()).await;
    add(&mut world, "key", Expires::At(far()), Role::Viewer, HeaderMode::NoHeader);
    world.ece.set_fault(On::Key("key"), Fault::Forbidden).unwrap();
    let (reason, message) = probed(&world).await.failure.unwrap();
    assert_eq!(reason, FailureReason::Forbidden);
    expect!["Elastic Cloud knows the key but refuses the request (403 root.permission_denied: To access the resource [r:/organizations/1], the user must have the required authorization). Give the key a role that may see the organization's keys or its deployments."].assert_eq(&message);
    world.ece.set_fault(On::Key("key"), Fault::Status(404, ErrorBody::Empty)).unwrap();
    world.set_now(start() + TimeDelta::hours(1));
    let (reason, message) = probed(&world).await.failure.unwrap();
    assert_eq!(reason, FailureReason::NotFound);
    expect!["There is no such endpoint (status 404). Check that the URL is that of Elastic Cloud's API, by default https://api.elastic-cloud.com."].assert_eq(&message);
    world.ece.set_fault(On::Key("key"), Fault::None).unwrap();
    world.ece.revoke("key").unwrap();
    world.set_now(start() + TimeDelta::hours(2));
    let (reason, message) = probed(&world).await.failure.unwrap();
    assert_eq!(reason, FailureReason::Unauthorized);
    expect!["Elastic Cloud does not accept the key (401 root.unauthenticated: The supplied authentication is invalid). It has expired, was deleted or is mistyped: create a new key, and put it where this exporter and its users read it."].assert_eq(&message);
}

// ---- Limits of requests ----

#[tokio::test]
async fn a_small_budget_is_kept_to_and_everything_is_probed_all_the_same() {
    let mut world = world(Hosted { limit: 5, ..Default::default() }).await;
    world.platforms.push_str("    max_concurrent_probes: 2\n");
    world.global = "schedule: 30d".to_owned();
    for number in 0..40 {
        let name = format!("key-{number}");
        add(&mut world, &name, Expires::At(far()), Role::Admin, HeaderMode::Rfc3339Millis);
    }
    let mut program = world.start().await;
    let mut limited = 0;
    for _ in 0..120 {
        program.pass(TimeDelta::seconds(10), TimeDelta::seconds(5)).await;
        limited += u32::from(rate_limited(&program));
    }
    let rows = program.shared.board.snapshot().credentials;
    assert!(rows.iter().all(|it| it.reading == Some(Reading::ExpiresAt(far()))));
    let failed: u64 = rows.iter().map(|it| it.probe_failures_total).sum();
    let (total, probes) = (world.ece.requests().total, 40 + failed);
    assert!(failed <= 8, "{failed} of {total} requests were one too many");
    assert_eq!(total, probes, "each was probed once, and once more if it was refused");
    assert!((40..=60).contains(&limited), "{limited}");
    assert!(!rate_limited(&program), "nothing waits any more");
    assert_eq!(world.mailbox.mails().len(), 0);
}

#[tokio::test]
async fn the_last_request_of_a_window_is_answered_and_no_further_one_is_sent() {
    let mut world = world(Hosted { limit: 1, ..Default::default() }).await;
    world.platforms.push_str("    max_concurrent_probes: 1\n");
    world.global = "schedule: 10s".to_owned();
    add(&mut world, "key", Expires::At(far()), Role::Admin, HeaderMode::Rfc3339Millis);
    let mut program = world.start().await;
    program.step().await;
    let next = row(&program, "key").next_run.unwrap();
    assert_eq!(next, start() + TimeDelta::seconds(60), "the page tells the truth");
    program.pass(TimeDelta::minutes(30), TimeDelta::seconds(10)).await;
    let row = row(&program, "key");
    assert_eq!(row.probe_failures_total, 0);
    assert!((29..=31).contains(&row.probes_total), "{}", row.probes_total);
}

/// A platform that is no Elastic Cloud and answers every request with 429, known before, with so many credentials.
async fn limited(credentials: usize, seconds: u32) -> (World, Program) {
    let mut world = World::new().await;
    world.set_now(start());
    for number in 0..credentials {
        world.add(&format!("key-{number}"), Expires::At(far()));
    }
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(1)).await;
    world.ece.set_fault(On::Everyone, Fault::RateLimited(seconds)).unwrap();
    (world, program)
}

#[tokio::test]
async fn a_platform_that_refuses_is_asked_once_in_each_rest_and_told_of_once() {
    let (world, mut program) = limited(60, 120).await;
    let before = world.ece.requests().total;
    program.pass(TimeDelta::hours(3), TimeDelta::seconds(30)).await;
    let storm = world.ece.requests().total - before;
    assert!((60..=92).contains(&storm), "{storm} requests in 90 rests");
    let rows = program.shared.board.snapshot();
    assert!(rows.credentials.iter().all(|it| it.reading == Some(Reading::ExpiresAt(far()))));
    let subjects: Vec<_> = world.mailbox.mails().iter().map(Mail::subject).collect();
    assert_eq!(subjects.len(), 1, "{subjects:?}");
    assert!(subjects[0].contains("prod"), "{subjects:?}");
    assert_eq!(rows.platforms[0].alerts.len(), 1);
    assert!(rate_limited(&program));
    let until = rows.platforms[0].rests_until;
    assert!(rows.credentials.iter().all(|it| until <= it.next_run), "the rows tell the truth");
    assert!(
        exposes(&program, "ece_expiry_exporter_scheduler_missed_runs_total 0"),
        "what waits is late, not missed"
    );

    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    program.pass(TimeDelta::minutes(10), TimeDelta::seconds(30)).await;
    let rows = program.shared.board.snapshot();
    assert!(rows.credentials.iter().all(|it| it.failure.is_none()), "all were probed anew");
    assert!(rows.platforms[0].alerts.is_empty());
    assert!(!rate_limited(&program));
}

#[tokio::test]
async fn a_rest_is_no_longer_than_a_quarter_of_an_hour() {
    let (world, mut program) = limited(1, 86_400).await;
    program.pass(TimeDelta::hours(1), TimeDelta::minutes(1)).await;
    let failed_at = row(&program, "key-0").last_run.unwrap();
    let next = row(&program, "key-0").next_run.unwrap();
    assert_eq!(row(&program, "key-0").failure.unwrap().0, FailureReason::RateLimited);
    assert_eq!(next - failed_at, TimeDelta::minutes(15));
    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    program.pass(TimeDelta::minutes(15), TimeDelta::minutes(1)).await;
    assert_eq!(row(&program, "key-0").failure, None);
}

#[tokio::test]
async fn a_clock_that_is_set_back_ends_a_rest() {
    let (world, mut program) = limited(1, 600).await;
    program.pass(TimeDelta::hours(1), TimeDelta::minutes(1)).await;
    assert_eq!(row(&program, "key-0").failure.unwrap().0, FailureReason::RateLimited);
    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    world.set_now(start() - TimeDelta::days(1));
    program.pass(TimeDelta::hours(1), TimeDelta::minutes(1)).await;
    assert_eq!(row(&program, "key-0").failure, None);
}

// ---- The simulated platform ----

#[tokio::test]
async fn the_simulated_service_knows_keys_only_and_counts_requests() {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    ece.world().hosted = Some(Hosted { limit: 4, ..Default::default() });
    ece.set_now(start());
    let key = ece.add_key(SimKey::new("owner", "key", Expires::At(far())).with_role(Role::Admin));
    assert!(key.starts_with("essu_"), "{key}");
    let client = crate::sim::client(None);
    let get = async |path: &str, authorization: &str| {
        let request =
            client.get(format!("{}{path}", ece.url())).header("authorization", authorization);
        let answer = request.send().await.unwrap();
        let header = |name| answer.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
        (answer.status().as_u16(), header("x-ratelimit-remaining"), header("retry-after"))
    };
    let left = |number: u32| Some(number.to_string());
    assert_eq!(get(KEYS, "Basic YWRtaW46eA==").await, (401, left(3), None));
    let key = format!("ApiKey {key}");
    assert_eq!(get(KEYS, &key).await, (200, left(3), None));
    assert_eq!(get("/api/v1/user", &key).await, (404, left(2), None));
    assert_eq!(get(DEPLOYMENTS, &key).await, (200, left(1), None));
    assert_eq!(get(KEYS, &key).await, (200, left(0), None));
    ece.set_now(start() + TimeDelta::seconds(20));
    assert_eq!(get(KEYS, &key).await, (429, left(0), left(40)));
    ece.set_now(start() + TimeDelta::seconds(60));
    assert_eq!(get(KEYS, &key).await, (200, left(3), None));
}

// ---- The configuration ----

fn parse(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "essu_a2V5").unwrap();
    Config::parse(text, &folder.path().join("config.yml")).map_err(|errors| {
        errors.to_string().replace(&folder.path().display().to_string(), "FOLDER")
    })
}

#[test]
fn the_url_of_the_service_need_not_be_written() {
    let text = "platforms: [{name: cloud, flavor: ech, credentials: [{name: key, api_key_file: key}], \
                certificates: {endpoint: true}}]\n";
    let config = parse(text).unwrap();
    let cloud = &config.platforms[0];
    assert_eq!(
        (cloud.flavor, &*cloud.urls),
        (Flavor::Ech, &["https://api.elastic-cloud.com".to_owned()][..])
    );
    assert_eq!(cloud.credentials.len(), 2);
    let printed = config.to_yaml();
    assert!(printed.contains("flavor: ech\n"), "{printed}");

    let gateway =
        text.replace("flavor: ech", "flavor: ech, urls: [\"https://gateway.example.org\"]");
    assert_eq!(parse(&gateway).unwrap().platforms[0].urls, ["https://gateway.example.org"]);
}

#[test]
fn what_the_service_does_not_have_is_refused_with_what_to_do() {
    let text = "platforms:
  - name: cloud
    flavor: ech
    credentials:
      - {name: key, api_key_file: key}
      - name: login
        login: {username: ops, password_file: key}
      - {name: token, bearer_token_file: key}
      - {name: variable, bearer_token_env: TOKEN}
    license: {credential: key}
    certificates: {services: [ui], credential: key}
  - name: installation
    credentials: [{name: key, api_key_file: key}]
  - name: other
    flavor: hosted
    urls: [\"https://ece.example.org\"]
    credentials: [{name: key, api_key_file: key}]
";
    expect![[r#"
        FOLDER/config.yml:7:16: platforms[0].credentials[1].login: does not exist with `flavor: ech`: Elastic Cloud Hosted takes API keys only (use `api_key_file` or `api_key_env` with a key of Elastic Cloud; those begin with `essu_`)
        FOLDER/config.yml:8:42: platforms[0].credentials[2].bearer_token_file: does not exist with `flavor: ech`: Elastic Cloud Hosted takes API keys only (use `api_key_file` or `api_key_env` with a key of Elastic Cloud; those begin with `essu_`)
        FOLDER/config.yml:9:44: platforms[0].credentials[3].bearer_token_env: does not exist with `flavor: ech`: Elastic Cloud Hosted takes API keys only (use `api_key_file` or `api_key_env` with a key of Elastic Cloud; those begin with `essu_`)
        FOLDER/config.yml:10:14: platforms[0].license: does not exist with `flavor: ech`: the license of Elastic Cloud Hosted is Elastic's own (remove `license`)
        FOLDER/config.yml:11:30: platforms[0].certificates.services: does not exist with `flavor: ech`: Elastic Cloud Hosted does not tell the chains of its services (remove `services` and `credential`; `endpoint: true` watches the chain that its API presents)
        FOLDER/config.yml:11:48: platforms[0].certificates.credential: does not exist with `flavor: ech`: Elastic Cloud Hosted does not tell the chains of its services (remove `services` and `credential`; `endpoint: true` watches the chain that its API presents)
        FOLDER/config.yml:12:5: platforms[1]: `urls` is missing (for example `urls: [https://ece-1.example.org:12443]`)
        FOLDER/config.yml:15:13: platforms[2].flavor: `hosted` is not known (allowed: ece, ech)"#]].assert_eq(&parse(text).unwrap_err());
}

#[test]
fn the_service_under_the_wrong_flavor_is_warned_of() {
    let text = "platforms: [{name: cloud, urls: [\"https://api.elastic-cloud.com\"], \
                credentials: [{name: key, api_key_file: key}]}]\n";
    let warnings = parse(text).unwrap().warnings;
    assert!(warnings.iter().any(|it| it.contains("set `flavor: ech`")), "{warnings:?}");
}
