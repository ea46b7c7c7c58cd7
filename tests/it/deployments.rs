//! What expires inside the deployments: from Elasticsearch through ECE to metrics and messages.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::config::ItemKind;
use ece_expiry_exporter::metrics::{self, Format};
use ece_expiry_exporter::observation::FailureReason;
use ece_expiry_exporter::sim::{
    Ece, EceOptions, ErrorBody, Expires, Fault, Mail, ProxyFor, Role, SimDeployment, SimKey,
};
use ece_expiry_exporter::status::ListStatus;

use crate::world::{self, Program, World, now};

const ALL: &str = "elasticsearch_api_keys: true, certificates: true, license: true";

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

/// So many days and an hour: the first reading, some seconds after the start, still sees that many.
fn left(days: i64) -> DateTime<Utc> {
    start() + TimeDelta::days(days) + TimeDelta::hours(1)
}

async fn world(settings: &str) -> World {
    world_of(Role::DeploymentManager, settings).await
}

/// A world with a credential `ops` of an owner with this role, with whose key the deployments are read.
async fn world_of(role: Role, settings: &str) -> World {
    let mut world = World::new().await;
    world.set_now(start());
    let key = SimKey::new("root", "ops", Expires::At(left(300))).with_role(role);
    let encoded = world.ece.add_key(key);
    world.write("key-ops", &encoded);
    world.remember("ops");
    world.platforms = format!("    deployments: {{credential: ops, {settings}}}\n");
    world
}

/// A deployment with one key that expires in so many days, and nothing else.
fn with_key(name: &str, days: i64) -> SimDeployment {
    let mut deployment = SimDeployment::new(name);
    deployment.add_key("marc", "ingest", Some(left(days)));
    deployment.set_license(None);
    deployment
}

fn add(world: &World, deployment: SimDeployment) {
    world.ece.world().deployments.push(deployment);
}

async fn settle(program: &mut Program) {
    program.pass(TimeDelta::minutes(2), TimeDelta::seconds(10)).await;
}

fn subjects(world: &World) -> Vec<String> {
    world.mailbox.mails().iter().map(Mail::subject).collect()
}

fn told(world: &World) -> String {
    let text: String = world.mailbox.mails().iter().map(Mail::text).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn scrape(program: &Program) -> String {
    let shared = &program.shared;
    metrics::render(&shared.board.snapshot(), &shared.telemetry, now(), Format::Text).unwrap()
}

fn list(program: &Program) -> Arc<ListStatus> {
    program.shared.board.snapshot().lists[0].clone()
}

/// The deployments of which something is known.
fn places(program: &Program) -> Vec<String> {
    let mut places: Vec<String> =
        list(program).keys.iter().map(|it| it.item.place.to_string()).collect();
    places.sort();
    places.dedup();
    places
}

fn unread(program: &Program) -> Vec<String> {
    let deployments = list(program).deployments.clone().unwrap();
    deployments.unread.iter().map(|(place, why)| format!("{place}: {why}")).collect()
}

fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[tokio::test]
async fn keys_certificates_and_licenses_inside_are_seen_shown_and_told_of() {
    let world = world(ALL).await;
    let mut logs = SimDeployment::new("logs");
    let key = logs.add_key("marc", "ingest", Some(left(10)));
    logs.add_key("elastic", "Alerting: rule", None);
    logs.add_certificate("certs/node.crt", "CN=node", left(12));
    logs.set_license(Some(left(60)));
    let logs_id = logs.id.clone();
    add(&world, logs);
    let mut metrics = SimDeployment::new("metrics");
    metrics.set_license(Some(left(2)));
    add(&world, metrics);
    let mut program = world.start().await;
    settle(&mut program).await;

    assert_eq!(subjects(&world), ["[ECE prod] CRITICAL: 3 alerts need attention"]);
    contains_all(
        &told(&world),
        &[
            "prod/Elasticsearch API key \"ingest\" of deployment logs (user marc) expires in 10 days (2026-11-11)",
            "prod/certificate \"CN=node in certs/node.crt\" of deployment logs expires in 12 days (2026-11-13)",
            "prod/license of deployment metrics expires in 2 days (2026-11-03)",
            "The license of deployment metrics on ECE platform \"prod\" expires in 2 days (2026-11-03).",
            "Kibana > Stack Management > API keys",
            &format!("PUT /_security/api_key/{key}"),
            "GET _ssl/certificates",
        ],
    );
    let hooks: Vec<_> = world.sink.hooks().iter().map(|it| it.json().unwrap()).collect();
    let of = |kind: ItemKind| {
        hooks.iter().find(|it| it["data"]["credential"]["kind"] == kind.label()).unwrap()
    };
    let hook = of(ItemKind::ElasticsearchApiKey);
    let credential = &hook["data"]["credential"];
    assert_eq!(
        (&credential["deployment"], &credential["key_id"], &credential["user"]),
        (&"logs".into(), &key.as_str().into(), &"marc".into())
    );
    assert_eq!(hook["data"]["alert"]["labels"]["deployment"], "logs");
    assert_eq!(hook["data"]["renewal"]["api"][0], "POST /_security/api_key");
    assert_eq!(of(ItemKind::ElasticsearchCertificate)["severity"], "warning");
    assert_eq!(of(ItemKind::ElasticsearchLicense)["severity"], "critical");

    let (text, at) = (scrape(&program), left(10).timestamp());
    contains_all(
        &text,
        &[
            &format!(
                "ece_deployment_expiry_timestamp_seconds{{platform=\"prod\",deployment=\"logs\",kind=\"elasticsearch_api_key\",id=\"{logs_id}:elasticsearch_api_key:{key}\"}} {at}"
            ),
            "description=\"ingest\",user_id=\"marc\"} 1",
            "kind=\"elasticsearch_license\"",
            "ece_deployments{platform=\"prod\"} 2",
            "ece_deployments_unread{platform=\"prod\"} 0",
            "ece_deployments_truncated{platform=\"prod\"} 0",
            "ece_credential_info{platform=\"prod\",credential=\"deployments\",kind=\"deployments\"",
        ],
    );
    assert!(!text.contains("ece_api_key"), "{text}");
    assert!(
        !text.contains("ece_credential_expiry_known{platform=\"prod\",credential=\"deployments\"}")
    );
    assert!(!text.contains("Alerting: rule"), "what never expires is left out");
}

#[tokio::test]
async fn only_get_is_used_and_only_what_is_wanted_is_asked_for() {
    let world = world("certificates: true, exclude: [\"*-test\"]").await;
    add(&world, with_key("logs", 10));
    add(&world, with_key("logs-test", 10));
    let id = world.ece.world().deployment("logs").unwrap().id.clone();
    let mut program = world.start().await;
    settle(&mut program).await;
    let calls: Vec<String> = world.ece.requests().calls.into_iter().collect();
    let inside = format!(
        "GET /api/v1/deployments/{id}/elasticsearch/main-elasticsearch/proxy/_ssl/certificates"
    );
    assert_eq!(calls, ["GET /api/v1/deployments", &inside, "GET /api/v1/user"]);
}

#[tokio::test]
async fn the_simulated_ece_wants_the_header_that_the_program_sends() {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    let key =
        ece.add_key(SimKey::new("root", "ops", Expires::Never).with_role(Role::DeploymentManager));
    let deployment = with_key("logs", 10);
    let path = format!(
        "{}/api/v1/deployments/{}/elasticsearch/main-elasticsearch/proxy/_security/api_key",
        ece.url(),
        deployment.id
    );
    ece.world().deployments.push(deployment);
    let request = || world::client().get(&path).header("authorization", format!("ApiKey {key}"));
    assert_eq!(world::answer(request()).await.status, 404);
    let managed = request().header("X-Management-Request", "true");
    assert_eq!(world::answer(managed).await.status, 200);
}

#[tokio::test]
async fn what_goes_wrong_in_one_deployment_does_not_hide_the_others_nor_end_its_own_alerts() {
    let world = world(&format!("{ALL}, deleted: warning, timeout: 2s")).await;
    add(&world, with_key("broken", 10));
    add(&world, with_key("healthy", 200));
    let mut program = world.start().await;
    settle(&mut program).await;
    let first = "[ECE prod] WARNING: Elasticsearch API key \"ingest\" of deployment broken (user marc) expires in 10 days (2026-11-11)";
    assert_eq!(subjects(&world), [first]);

    let security = r#"{"error":{"type":"security_exception"},"status":403}"#;
    let faults = [
        Fault::Status(403, ErrorBody::Plain(security.to_owned())),
        Fault::Html502,
        Fault::Status(404, ErrorBody::Empty),
        Fault::Truncate,
        Fault::Html200,
        Fault::Hang,
        Fault::Status(200, ErrorBody::Plain("{}".to_owned())),
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        {
            let mut ece = world.ece.world();
            ece.deployment("broken").unwrap().fault = fault.clone();
            ece.deployment("healthy").unwrap().add_key(
                "eva",
                &format!("new {at}"),
                Some(left(100)),
            );
        }
        program.pass(TimeDelta::hours(7), TimeDelta::hours(1)).await;
        assert_eq!(places(&program), ["broken", "healthy"], "{fault:?}");
        let list = list(&program);
        let fresh = format!("new {at}");
        assert!(list.keys.iter().any(|it| *it.item.description == fresh), "{fault:?}");
        let unread = unread(&program);
        assert!(unread.len() == 1 && unread[0].starts_with("broken: "), "{unread:?}");
        contains_all(&scrape(&program), &["ece_deployments_unread{platform=\"prod\"} 1"]);
    }
    // What was known of it is still told in time.
    world.ece.world().deployment("broken").unwrap().fault = Fault::Html502;
    program.stop().await;
    let mut program = world.start().await;
    program.pass(TimeDelta::days(7), TimeDelta::hours(3)).await;
    assert_eq!(
        subjects(&world),
        [
            first,
            "[ECE prod] CRITICAL: Elasticsearch API key \"ingest\" of deployment broken (user marc) expires in 3 days (2026-11-11)"
        ]
    );
    world.ece.world().deployment("broken").unwrap().fault = Fault::None;
    program.pass(TimeDelta::hours(7), TimeDelta::hours(1)).await;
    assert_eq!(unread(&program), [""; 0]);
}

#[tokio::test]
async fn deployments_that_are_silent_take_the_time_of_nobody_else_for_long() {
    let world = world("elasticsearch_api_keys: true, timeout: 1200ms").await;
    for at in 0..5 {
        let mut silent = with_key(&format!("silent {at}"), 100);
        silent.id = format!("0{at}");
        silent.fault = Fault::Hang;
        add(&world, silent);
    }
    for at in 0..3 {
        add(
            &world,
            SimDeployment { id: format!("1{at}"), ..with_key(&format!("healthy {at}"), 100) },
        );
    }
    let mut program = world.start().await;
    // Time enough for three silent ones each time.
    program.pass(TimeDelta::hours(13), TimeDelta::hours(6)).await;
    assert_eq!(places(&program), ["healthy 0", "healthy 1", "healthy 2"]);
    let row = program.shared.board.snapshot().credentials[1].clone();
    assert_eq!(row.failure, None);
    assert_eq!(unread(&program).len(), 5);
    assert_eq!(list(&program).deployments.as_ref().unwrap().total, Some(8));
}

#[tokio::test]
async fn what_is_renewed_is_told_as_renewed_and_a_deployment_that_is_gone_ends_its_alerts() {
    let world = world(ALL).await;
    let mut logs = with_key("logs", 10);
    logs.add_certificate("node.crt", "CN=node", left(10));
    add(&world, logs);
    add(&world, with_key("metrics", 10));
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(subjects(&world), ["[ECE prod] WARNING: 3 alerts need attention"]);

    {
        let mut ece = world.ece.world();
        let logs = ece.deployment("logs").unwrap();
        logs.inside.keys[0]["expiration"] = left(100).timestamp_millis().into();
        logs.inside.certificates.clear();
        logs.add_certificate("node.crt", "CN=node", left(365));
        ece.deployments.retain(|it| it.name != "metrics");
    }
    program.pass(TimeDelta::hours(13), TimeDelta::minutes(30)).await;
    let rounds = world.ece.requests().by_path["/api/v1/deployments"];
    assert!(rounds <= 3, "a change is confirmed by the schedule: {rounds} rounds");
    contains_all(
        &told(&world),
        &[
            "prod/Elasticsearch API key \"ingest\" of deployment logs (user marc) RENEWED until 2027-02-09",
            "prod/certificate \"CN=node in node.crt\" of deployment logs RENEWED until 2027-11-01",
            "Elasticsearch API key \"ingest\" of deployment metrics (user marc) is NO LONGER WATCHED by its list",
        ],
    );
    assert_eq!(places(&program), ["logs"]);
    let count = subjects(&world).len();
    program.stop().await;
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(13), TimeDelta::hours(1)).await;
    assert_eq!(subjects(&world).len(), count, "{:?}", subjects(&world));
}

#[tokio::test]
async fn an_owner_without_the_right_is_told_once_and_shown_what_is_missing() {
    let world = world_of(Role::DeploymentViewer, ALL).await;
    add(&world, with_key("logs", 10));
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(24), TimeDelta::hours(1)).await;
    assert_eq!(subjects(&world), ["[ECE prod] WARNING: deployments CANNOT BE READ (403)"]);
    contains_all(
        &told(&world),
        &[
            "Its roles (ece_deployment_viewer) do not include the permission get-deployment-resource-proxy-requests.",
            "ece_deployment_manager",
        ],
    );
    let row = program.shared.board.snapshot().credentials[1].clone();
    assert_eq!(row.failure.as_ref().map(|it| it.0), Some(FailureReason::Forbidden));

    world.ece.world().proxy_for = ProxyFor::Viewers;
    program.pass(TimeDelta::hours(13), TimeDelta::hours(1)).await;
    contains_all(
        &told(&world),
        &[
            "prod/deployments RECOVERED, it can be read again",
            "Elasticsearch API key \"ingest\" of deployment logs",
        ],
    );
}

#[tokio::test]
async fn a_list_of_deployments_that_is_broken_or_empty_ends_nothing() {
    let world = world(ALL).await;
    add(&world, with_key("logs", 10));
    let mut program = world.start().await;
    settle(&mut program).await;
    let all = std::mem::take(&mut world.ece.world().deployments);
    program.pass(TimeDelta::hours(8), TimeDelta::minutes(30)).await;
    assert_eq!(places(&program), ["logs"]);
    let row = program.shared.board.snapshot().credentials[1].clone();
    contains_all(&row.failure.as_ref().unwrap().1, &["lists no deployment at all"]);
    world.ece.world().deployments = all;
    program.pass(TimeDelta::hours(8), TimeDelta::minutes(30)).await;
    assert!(!told(&world).contains("NO LONGER"), "{}", told(&world));
    assert!(!told(&world).contains("UNKNOWN"), "a list has no expiry: {}", told(&world));
    assert_eq!(program.shared.board.snapshot().credentials[1].failure, None);
}

#[tokio::test]
async fn two_deployments_of_one_name_are_told_apart() {
    let world = world(ALL).await;
    add(&world, SimDeployment { id: "aa".to_owned(), ..with_key("logs", 10) });
    add(&world, SimDeployment { id: "bb".to_owned(), ..with_key("logs", 100) });
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(places(&program), ["logs (aa)", "logs (bb)"]);
    contains_all(
        &told(&world),
        &["of deployment logs (aa) (user marc) on ECE platform \"prod\" expires in 10 days"],
    );
}

/// Four deployments, of which these have too much to do.
async fn busy(ids: &[usize]) -> World {
    let world = world("elasticsearch_api_keys: true, schedule: 1h").await;
    for at in 0..4 {
        let mut deployment =
            SimDeployment { id: format!("0{at}"), ..with_key(&format!("d{at}"), 100) };
        if ids.contains(&at) {
            deployment.fault = Fault::RateLimited(30);
        }
        add(&world, deployment);
    }
    world
}

#[tokio::test]
async fn a_deployment_that_has_too_much_to_do_holds_up_nobody_else() {
    let world = busy(&[1]).await;
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(places(&program), ["d0", "d2", "d3"]);
    assert_eq!(unread(&program).len(), 1);
    let limited = "ece_platform_rate_limited{platform=\"prod\"} 0";
    contains_all(&scrape(&program), &[limited]);
}

#[tokio::test]
async fn a_platform_that_limits_requests_is_left_alone_and_asked_for_the_rest_first_the_next_time()
{
    let world = busy(&[1, 2]).await;
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(places(&program), ["d0"]);
    assert_eq!(unread(&program).len(), 3);
    let asked = world.ece.requests().by_path;
    let of = |id: &str| {
        format!("/api/v1/deployments/{id}/elasticsearch/main-elasticsearch/proxy/_security/api_key")
    };
    assert_eq!((asked.get(&of("02")), asked.get(&of("03"))), (Some(&1), None));
    program.pass(TimeDelta::hours(1), TimeDelta::minutes(10)).await;
    assert_eq!(places(&program), ["d0", "d3"]);
}

#[tokio::test]
async fn when_nothing_inside_can_be_read_it_is_a_failure_and_ends_nothing() {
    let world = world(ALL).await;
    add(&world, with_key("logs", 10));
    add(&world, with_key("stopped", 100));
    let mut program = world.start().await;
    settle(&mut program).await;
    let before = subjects(&world);
    // One lacks the right, the other is stopped: the right is what can be mended.
    world.ece.world().deployment("logs").unwrap().fault = Fault::Forbidden;
    let stopped = Fault::Status(404, ErrorBody::Empty);
    world.ece.world().deployment("stopped").unwrap().fault = stopped;
    program.pass(TimeDelta::hours(14), TimeDelta::minutes(30)).await;
    let row = program.shared.board.snapshot().credentials[1].clone();
    let (reason, why) = row.failure.clone().unwrap();
    assert_eq!(reason, FailureReason::Forbidden, "{why}");
    assert!(why.starts_with("Nothing inside the deployments could be read (6 of 6"), "{why}");
    assert_eq!(places(&program).len(), 2, "what is known stays");
    let told = &subjects(&world)[before.len()..];
    assert!(told.iter().any(|it| it.contains("CANNOT BE READ (403)")), "{told:?}");
}

#[tokio::test]
async fn an_include_that_fits_no_deployment_is_said() {
    let world = world("certificates: true, include: [\"nobody-*\"]").await;
    add(&world, with_key("logs", 10));
    let mut program = world.start().await;
    settle(&mut program).await;
    let row = program.shared.board.snapshot().credentials[1].clone();
    let (reason, why) = row.failure.clone().unwrap();
    assert_eq!(reason, FailureReason::HeaderMissing);
    assert!(why.contains("None of the 1 deployments"), "{why}");
}
