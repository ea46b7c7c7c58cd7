//! What `doctor` says of tokens, logins, the license and certificates.

use chrono::TimeDelta;
use ece_expiry_exporter::sim::{
    Ece, EceOptions, ErrorBody, Expires, Fault, License, Logins, On, Role,
};
use ece_expiry_exporter::time;

use super::holds;
use crate::world::{World, run};

/// Runs `doctor prod/NAME` in this world: exit code and what it says.
async fn doctor(world: &World, name: &str) -> (i32, String) {
    world.write_config();
    let (dir, id) = (world.dir.path().to_owned(), format!("prod/{name}"));
    let run = move || run(&["doctor", &id, "--config.file=config.yml"], &dir);
    let (code, out, err) = tokio::task::spawn_blocking(run).await.unwrap();
    (code, out + &err)
}

fn refuse(world: &World, status: u16, code: &str) {
    let body = ErrorBody::Code(code.to_owned(), "no".to_owned());
    world.ece.set_fault(On::Everyone, Fault::Status(status, body)).unwrap();
}

#[tokio::test]
async fn a_token_is_really_sent_and_its_refusal_explained() {
    let mut world = World::new().await;
    let jwt = world.ece.world().sessions.open("ci", time::now() + TimeDelta::hours(60));
    world.write("token", &jwt);
    world.platforms = "      - {name: session, bearer_token_file: token}\n".into();
    let (code, said) = doctor(&world, "session").await;
    assert_eq!(code, 0, "{said}");
    let words = ["status 200: ECE accepts the token", "healthy: prod/session expires", "in 2 days"];
    holds(&said, &words);
    world.ece.world().sessions.end("ci");
    let (code, said) = doctor(&world, "session").await;
    assert_eq!(code, 1, "{said}");
    holds(&said, &["failed HTTP ECE does not accept the token (401", "not healthy: HTTP at"]);
    assert!(!said.contains(&jwt) && !said.contains("nothing wrong"), "{said}");
    assert_eq!(world.ece.requests().authorized, 2);
}

#[tokio::test]
async fn the_token_goes_to_each_coordinator_and_to_none_that_is_not_trusted() {
    let mut world = World::new().await;
    let second = Ece::start(EceOptions {
        tls: Some(world.certificates.clone()),
        world: world.ece.share_world(),
        ..Default::default()
    })
    .await
    .unwrap();
    let jwt = world.ece.world().sessions.open("ci", time::now() + TimeDelta::hours(60));
    world.write("token", &jwt);
    world.platforms = format!(
        "      - {{name: session, bearer_token_file: token}}\n  - {{name: both, urls: [\"{}\", \"{}\"], \
         tls_config: {{ca_file: ca.pem}}, credentials: [{{name: s, bearer_token_file: token}}]}}\n",
        world.ece.url(),
        second.url()
    );
    world.write_config();
    let dir = world.dir.path().to_owned();
    let both = move || run(&["doctor", "both/s", "--config.file=config.yml"], &dir);
    let (code, said, _) = tokio::task::spawn_blocking(both).await.unwrap();
    assert_eq!(code, 0, "{said}");
    holds(&said, &["ok coordinators all 2 that told something say the same"]);
    assert_eq!(second.requests().authorized, 1);

    let other = World::new().await;
    world.write("ca.pem", other.certificates.ca_pem());
    let before = world.ece.requests().authorized;
    let (code, said) = doctor(&world, "session").await;
    assert_eq!(code, 1, "{said}");
    holds(&said, &["not checked HTTP the token is sent only when every step before is ok"]);
    assert_eq!(world.ece.requests().authorized, before);
}

#[tokio::test]
async fn a_list_is_really_read_and_said_to_have_no_expiry_of_its_own() {
    let mut world = World::new().await;
    world.add("ops", Expires::At(time::now() + TimeDelta::days(60)));
    world.platforms = "    inventory: {credential: ops, scope: all}\n".into();
    let (code, said) = doctor(&world, "inventory").await;
    assert_eq!(code, 1, "{said}");
    holds(&said, &["do not include the permission get-users-api-keys", "ece_platform_admin"]);
    world.ece.world().key("ops").unwrap().role = Role::Admin;
    let (code, said) = doctor(&world, "inventory").await;
    assert_eq!(code, 0, "{said}");
    holds(&said, &["healthy: prod/inventory works, and has no expiry of its own"]);
}

#[tokio::test]
async fn a_login_is_not_tried_and_never_called_healthy() {
    let mut world = World::new().await;
    world.ece.world().sessions.set_password("ops", "right");
    world.write("login", "wrong");
    world.platforms =
        "      - {name: on-call, login: {username: ops, password_file: login}}\n".into();
    let (code, said) = doctor(&world, "on-call").await;
    assert_eq!(code, 1, "{said}");
    let why = "not tested, because each attempt counts towards the lock of the account; `probe prod/on-call` makes one \
               attempt";
    holds(&said, &["ok secret read from file login", "ok TLS", why]);
    let why = format!("prod/on-call: {why}");
    holds(&said, &[&why]);
    assert!(!said.contains("nothing wrong") && !said.contains("wrong\n"), "{said}");
    assert_eq!(world.ece.world().sessions.logins("ops"), Logins::default());
}

#[tokio::test]
async fn a_license_and_a_service_are_asked_with_the_borrowed_key() {
    let mut world = World::new().await;
    world.add("ops", Expires::At(time::now() + TimeDelta::days(99)));
    world.platforms =
        "    license: {credential: ops}\n    certificates: {services: [ui], credential: ops}\n"
            .into();
    let expires = time::now() + TimeDelta::days(20) + TimeDelta::hours(1);
    world.ece.world().license = Some(License { expires, signature: "x".to_owned() });
    let (code, said) = doctor(&world, "license").await;
    assert_eq!(code, 0, "{said}");
    let words = [
        "the key of the credential ops, read from file",
        "ECE shows it to the credential ops",
        "healthy: prod/license expires",
        "in 20 days",
    ];
    holds(&said, &words);
    world.ece.world().license = None;
    holds(&doctor(&world, "license").await.1, &["failed HTTP ECE has no license"]);
    for (status, code, license, service) in [
        (401, "root.unauthenticated", "with which the license would be read", "certificates of ui"),
        (
            403,
            "root.unauthorized",
            "may not read the license",
            "may not read the certificates of ui",
        ),
        (404, "root.not_found", "404", "404"),
    ] {
        refuse(&world, status, code);
        for (name, words) in [("license", license), ("certificate-ui", service)] {
            let (code, said) = doctor(&world, name).await;
            assert_eq!(code, 1, "{said}");
            holds(&said, &[words, &format!("status {status}"), "not healthy: HTTP"]);
        }
    }
}

#[tokio::test]
async fn the_certificate_of_the_endpoint_is_told_without_a_secret() {
    let mut world = World::new().await;
    world.add("ops", Expires::Never);
    world.platforms = "    certificates: {endpoint: true}\n".into();
    let (code, said) = doctor(&world, "certificate-endpoint").await;
    assert_eq!(code, 0, "{said}");
    holds(&said, &["not checked HTTP no request is needed", "healthy: prod/certificate-endpoint"]);
    assert_eq!(world.ece.requests().authorized, 0);
}
