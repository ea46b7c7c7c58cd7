//! The license and the certificates of a platform: from the answer of ECE, or the handshake, to the message.

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::metrics::{self, Format};
use ece_expiry_exporter::observation::{Blame, FailureReason, Reading};
use ece_expiry_exporter::probe::Prober;
use ece_expiry_exporter::sim::{
    CertificateOptions, Certificates, Ece, EceOptions, Expires, Fault, License, On, Role, Sends,
    SimKey,
};
use ece_expiry_exporter::{config::Config, time};

use crate::probe::PATIENCE;
use crate::world::{Program, World, now};

/// What may stand nowhere.
const SIGNATURE: &str = "LICENSE-SIGNATURE-CANARY-0003";

const LICENSE: &str = "    license: {credential: ops, renewal_note: Ask procurement}\n";
const ENDPOINT: &str = "    certificates: {endpoint: true}\n";
const SERVICES: &str = "    certificates: {services: [ui, proxy], credential: ops}\n";

fn start() -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

/// So many days and an hour: the first probes, which are spread over the first minutes, still see that many.
fn days(n: i64) -> TimeDelta {
    TimeDelta::days(n) + TimeDelta::hours(1)
}

/// Lets everything be probed once.
async fn settle(program: &mut Program) {
    program.pass(TimeDelta::minutes(5), TimeDelta::seconds(10)).await;
}

/// A world with a healthy credential `ops`, a license for 20 days, and these lines in its platform.
async fn world(lines: &str) -> World {
    let mut world = World::new().await;
    world.set_now(start());
    world.add("ops", Expires::At(start() + days(300)));
    world.platforms.push_str(lines);
    set_license(&world, start() + days(20));
    world
}

fn set_license(world: &World, expires: DateTime<Utc>) {
    world.ece.world().license = Some(License { expires, signature: SIGNATURE.to_owned() });
}

/// A chain whose leaf ends at this instant.
fn chain(leaf_not_after: DateTime<Utc>) -> Certificates {
    let options = CertificateOptions { leaf_not_after: Some(leaf_not_after), ..Default::default() };
    Certificates::make(&options).unwrap()
}

fn subjects(world: &World) -> Vec<String> {
    world.mailbox.mails().iter().map(ece_expiry_exporter::sim::Mail::subject).collect()
}

fn scrape(program: &Program) -> String {
    let shared = &program.shared;
    metrics::render(&shared.board.snapshot(), &shared.telemetry, now(), Format::Text).unwrap()
}

/// Why the last probe of a subject failed.
fn failure(program: &Program, name: &str) -> (FailureReason, String) {
    let snapshot = program.shared.board.snapshot();
    let row = snapshot.credentials.iter().find(|it| &*it.id.name == name).unwrap();
    row.failure.clone().unwrap_or_else(|| panic!("{name} did not fail"))
}

fn reading(program: &Program, name: &str) -> Option<Reading> {
    let snapshot = program.shared.board.snapshot();
    snapshot.credentials.iter().find(|it| &*it.id.name == name).unwrap().reading
}

#[tokio::test]
async fn a_license_is_told_in_its_own_words_and_its_renewal_too() {
    let world = world(LICENSE).await;
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(subjects(&world), ["[ECE prod] INFO: license expires in 20 days (2026-11-21)"]);
    let text = world.mailbox.mails()[0].text();
    for part in ["The license on ECE platform", "Ask procurement", "PUT /api/v1/platform/license"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert!(!text.contains("API key") && !text.contains("curl"), "{text}");
    let hook = world.sink.hooks()[0].json().unwrap();
    assert_eq!(hook["type"], "credential.expiring");
    assert_eq!(hook["data"]["credential"]["kind"], "license");
    assert_eq!(hook["data"]["renewal"]["api"][0], "PUT /api/v1/platform/license");
    let summary = "ECE license on prod expires in 20 days (2026-11-21).";
    assert_eq!(hook["data"]["alert"]["summary"], summary);

    let metrics = scrape(&program);
    let at = (start() + days(20)).timestamp();
    for line in [
        format!("ece_platform_license_expiry_timestamp_seconds{{platform=\"prod\"}} {at}"),
        format!(
            "ece_credential_expiry_timestamp_seconds{{platform=\"prod\",credential=\"license\"}} {at}"
        ),
        "kind=\"license\"".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} is missing in {metrics}");
    }
    assert!(!metrics.contains("ece_platform_certificate_expiry_timestamp_seconds{"), "{metrics}");

    set_license(&world, start() + days(385));
    program.pass(TimeDelta::hours(3), TimeDelta::minutes(10)).await;
    let last = subjects(&world).pop().unwrap();
    assert_eq!(last, "[ECE prod] OK: license RENEWED until 2027-11-21");
}

#[tokio::test]
async fn a_missing_license_is_a_state_of_its_own() {
    let world = world(LICENSE).await;
    world.ece.world().license = None;
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(1), TimeDelta::minutes(5)).await;
    let (reason, message) = failure(&program, "license");
    assert_eq!(reason, FailureReason::LicenseMissing);
    assert!(message.starts_with("ECE has no license"), "{message}");
    assert_eq!(subjects(&world), ["[ECE prod] WARNING: license has an UNKNOWN expiry"]);
    assert!(world.mailbox.mails()[0].text().contains("Install a license"));
}

#[tokio::test]
async fn a_role_that_may_not_see_the_platform_is_one_warning_that_names_the_role() {
    let mut world = world(LICENSE).await;
    let key = SimKey::new("app", "app", Expires::At(start() + days(300)));
    let key = key.with_role(Role::DeploymentViewer);
    let encoded = world.ece.add_key(key);
    world.write("key-app", &encoded);
    world.remember("app");
    world.platforms = LICENSE.replace("ops", "app");
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(12), TimeDelta::hours(1)).await;
    assert_eq!(subjects(&world), ["[ECE prod] WARNING: license CANNOT BE READ (403)"]);
    let text = world.mailbox.mails()[0].text().replace("\n     ", "");
    for part in ["ece_platform_viewer", "`license`"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    let (reason, message) = failure(&program, "license");
    assert_eq!(reason, FailureReason::Forbidden);
    assert!(message.contains("credential app may not read the license"), "{message}");
}

#[tokio::test]
async fn a_dead_key_is_told_as_such_and_not_as_a_rejected_license() {
    let mut world = world(LICENSE).await;
    world.platforms += SERVICES;
    world.ece.revoke("ops").unwrap();
    let mut program = world.start().await;
    program.pass(TimeDelta::hours(2), TimeDelta::minutes(5)).await;
    let (reason, message) = failure(&program, "license");
    assert_eq!(reason, FailureReason::BorrowedKeyRejected, "{message}");
    let told = subjects(&world);
    let rejected: Vec<_> = told.iter().filter(|it| it.contains("REJECTED")).collect();
    assert_eq!(rejected, ["[ECE prod] CRITICAL: ops REJECTED (401)"], "{told:?}");
}

#[tokio::test]
async fn an_outage_covers_the_license_and_the_certificates() {
    let mut world = world(LICENSE).await;
    world.platforms += "    certificates: {endpoint: true, services: [ui], credential: ops}\n";
    let ui = chain(start() + days(300));
    world.ece.world().set_service("ui", &[ui.chain_pem()], None);
    let mut program = world.start().await;
    settle(&mut program).await;
    let before = subjects(&world).len();
    world.ece.set_fault(On::Everyone, Fault::Html502).unwrap();
    program.pass(TimeDelta::hours(6), TimeDelta::minutes(10)).await;
    let told = subjects(&world).split_off(before);
    assert_eq!(told, ["[ECE prod] WARNING: platform is UNREACHABLE"]);
    assert_eq!(reading(&program, "license"), Some(Reading::ExpiresAt(start() + days(20))));
}

#[tokio::test]
async fn the_first_certificate_of_a_service_to_expire_counts_with_or_without_the_date_of_ece() {
    let world = world(SERVICES).await;
    let (ui, proxy) = (start() + days(9), start() + days(100));
    world.ece.world().set_service("ui", &[chain(ui).chain_pem()], None);
    let pem = chain(start() + days(200)).chain_pem();
    world.ece.world().set_service("proxy", &[pem], Some(proxy));
    let mut program = world.start().await;
    settle(&mut program).await;
    assert_eq!(reading(&program, "certificate-ui"), Some(Reading::ExpiresAt(ui)));
    assert_eq!(reading(&program, "certificate-proxy"), Some(Reading::ExpiresAt(proxy)));
    let subject = "[ECE prod] WARNING: certificate-ui expires in 9 days (2026-11-10)";
    assert_eq!(subjects(&world), [subject]);
    let text = world.mailbox.mails()[0].text();
    for part in ["The certificate of ui on ECE platform", "security/tls/ui"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    let first = format!(
        "ece_platform_certificate_expiry_timestamp_seconds{{platform=\"prod\"}} {}",
        ui.timestamp()
    );
    assert!(scrape(&program).contains(&first));
}

#[tokio::test]
async fn a_service_without_a_certificate_that_can_be_read_says_so() {
    let world = world(SERVICES).await;
    world.ece.world().set_service("ui", &["no certificate".to_owned()], None);
    let mut program = world.start().await;
    settle(&mut program).await;
    let (reason, message) = failure(&program, "certificate-ui");
    assert_eq!(reason, FailureReason::HeaderInvalid);
    assert!(message.contains("certificates of ui that cannot be read"), "{message}");
}

/// Watches only the certificates of these coordinators, with nothing that verifies them.
async fn look(world: &World, urls: &[String]) -> Result<Reading, (FailureReason, String)> {
    let list = urls.iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ");
    let one = format!("urls: [\"{}\"]", world.ece.url());
    let text = world.config_text().replace(&one, &format!("urls: [{list}]"));
    let config = Config::parse(&text, &world.path("config.yml")).unwrap();
    let platform = &config.platforms[0];
    let endpoint =
        platform.credentials.iter().find(|it| &*it.id.name == "certificate-endpoint").unwrap();
    let prober = Prober::new(platform, PATIENCE).unwrap();
    prober.probe(endpoint, time::now).await.result.map_err(|it| (it.reason, it.message))
}

async fn coordinator(certificates: Certificates) -> Ece {
    let tls = Some(certificates);
    Ece::start(EceOptions { tls, ..Default::default() }).await.unwrap()
}

#[tokio::test]
async fn the_endpoints_chain_is_seen_also_when_it_does_not_verify_and_no_request_follows() {
    let world = world(ENDPOINT).await;
    let expired = start() - days(3);
    let bad = [
        chain(expired),
        Certificates::make(&CertificateOptions {
            names: vec!["elsewhere.example.org".to_owned()],
            addresses: Vec::new(),
            leaf_not_after: Some(expired),
            sends: Sends::LeafOnly,
            ..Default::default()
        })
        .unwrap(),
    ];
    for certificates in bad {
        // The world trusts another authority than the one of these.
        let ece = coordinator(certificates).await;
        assert_eq!(look(&world, &[ece.url()]).await, Ok(Reading::ExpiresAt(expired)));
        assert_eq!(ece.requests().total, 0, "no request, and so no key");
        assert_eq!(ece.connections().accepted, 1);
    }
}

#[tokio::test]
async fn the_first_of_all_coordinators_counts_and_one_that_is_silent_is_named() {
    let world = world(ENDPOINT).await;
    let one = coordinator(chain(start() + days(50))).await;
    let two = coordinator(chain(start() + days(40))).await;
    let urls = [one.url(), two.url()];
    assert_eq!(look(&world, &urls).await, Ok(Reading::ExpiresAt(start() + days(40))));
    drop(two);
    let (reason, message) = look(&world, &urls).await.unwrap_err();
    assert_eq!(reason, FailureReason::HeaderMissing);
    let silent = urls[1].trim_start_matches("https://");
    assert!(message.contains(silent) && message.contains("2026-12-21"), "{message}");
    drop(one);
    let (reason, message) = look(&world, &urls).await.unwrap_err();
    assert_eq!(reason.blame(), Blame::Platform, "{message}");
}

#[tokio::test]
async fn the_endpoints_certificate_is_told_and_a_new_one_ends_it() {
    let mut world = world(ENDPOINT).await;
    let soon = time::now() + days(6);
    let trusted = chain(soon);
    world.ece.set_certificates(trusted.clone());
    world.write("ca.pem", &format!("{}{}", trusted.ca_pem(), world.certificates.ca_pem()));
    world.set_now(time::now());
    world.global = "schedule: 10m".to_owned();
    let mut program = world.start().await;
    settle(&mut program).await;
    let told = subjects(&world);
    assert!(
        told[0].starts_with("[ECE prod] CRITICAL: certificate-endpoint expires in"),
        "{told:?}"
    );
    let text = world.mailbox.mails()[0].text();
    for part in ["The certificate of the endpoint on ECE platform", "openssl s_client"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    world.ece.set_certificates(world.certificates.clone());
    program.pass(TimeDelta::minutes(30), TimeDelta::minutes(5)).await;
    let last = subjects(&world).pop().unwrap();
    assert!(last.starts_with("[ECE prod] OK: certificate-endpoint RENEWED until"), "{last}");
}
