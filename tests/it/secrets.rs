//! Canaries: secrets that must come out nowhere, whatever happens.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use ece_expiry_exporter::sim::{
    Answer, CertificateOptions, Certificates, ErrorBody, Expires, Fault, License, MailFault, On,
    SimKey,
};
use ece_expiry_exporter::time;

use crate::world::{Binary, World, answer, client, fetch, run, wait_until};

const SIGNING: &str = "c2lnbmluZy1DQU5BUlktMDEyMzQ1Njc4OWFiY2RlZg==";

/// What a secret looks like wherever it could come out: as it is, in base64, and in a URL.
struct Canary {
    what: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn new(what: &'static str, secret: &str) -> Self {
        let encoded = [
            STANDARD.encode(secret),
            STANDARD_NO_PAD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
        ];
        let mut forms = vec![secret.as_bytes().to_vec()];
        forms.extend(encoded.map(String::into_bytes));
        Self { what, forms }
    }
}

/// A place where a secret must not be.
struct Place {
    name: String,
    bytes: Vec<u8>,
}

fn place(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Place {
    Place { name: name.into(), bytes: bytes.into() }
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|it| it == wanted)
}

fn leaks(places: &[Place], canaries: &[Canary]) -> Vec<String> {
    let mut found = Vec::new();
    for canary in canaries {
        for place in places {
            if canary.forms.iter().any(|it| holds(&place.bytes, it)) {
                found.push(format!("{} is in {}", canary.what, place.name));
            }
        }
    }
    found
}

/// The world with a canary in every secret.
async fn world() -> (World, Vec<Canary>) {
    let mut world = World::new().await;
    world.add("watched", Expires::At(time::now() + TimeDelta::days(3)));
    let mut key = SimKey::new("owner", "keyed", Expires::At(time::now() + TimeDelta::days(3)));
    key.secret = "apikeyCANARYsecret0000".into();
    let encoded = world.ece.add_key(key);
    world.write("key-watched", &encoded);
    let key_of_csv = key_of_csv(&world);
    let canaries_of_kinds = kinds(&mut world, &key_of_csv);
    world.write("hook-secret", &format!("whsec_{SIGNING}"));
    world.write("token", "token-CANARY-0001");
    world.receivers = world.receivers.replace(
        "signing_secret_files: [hook-secret],",
        "signing_secret_files: [hook-secret],\n         http_config: {authorization: {credentials_file: token}, \
         http_headers: {X-Routing: header-CANARY-0002}},",
    );
    let signature = "LICENSE-CANARY-SIGNATURE-0003";
    let expires = time::now() + TimeDelta::days(9);
    world.ece.world().license = Some(License { expires, signature: signature.to_owned() });
    world.platforms.push_str(
        "    license: {credential: watched}\n    certificates: {endpoint: true, services: [ui], credential: watched}\n",
    );
    let mut canaries = vec![
        Canary::new("the signature of the license", signature),
        Canary::new("the API key", &encoded),
        Canary::new("the secret part of the API key", "apikeyCANARYsecret0000"),
        Canary::new("the SMTP password", "smtp-password-CANARY"),
        Canary::new("the SMTP login", "\0ece\0smtp-password-CANARY"),
        Canary::new("the path of the webhook", "url-CANARY"),
        Canary::new("the signing secret", SIGNING),
        Canary::new("the decoded signing secret", "signing-CANARY-0123456789abcdef"),
        Canary::new("the token", "token-CANARY-0001"),
        Canary::new("the header value", "header-CANARY-0002"),
    ];
    canaries.extend(canaries_of_kinds);
    (world, canaries)
}

fn key_of_csv(world: &World) -> String {
    let mut key = SimKey::new("owner", "csv", Expires::At(time::now() + TimeDelta::days(3)));
    key.secret = "csvCANARYsecret0000".into();
    world.ece.add_key(key)
}

/// Credentials of the other kinds, one of each that works and one that does not.
fn kinds(world: &mut World, key: &str) -> Vec<Canary> {
    let jwt = world.ece.world().sessions.open("ci", time::now() + TimeDelta::days(3));
    world.ece.world().sessions.set_password("ops", "login-CANARY-password-0003");
    for (name, text) in [
        ("k.csv", format!("Name,API Key\r\nCANARY-cell-0004,{key}\r\n")),
        ("k.json", format!(r#"{{"api_key":"{key}","pass":"ecctl-CANARY-pass-0005"}}"#)),
        ("k.jwt", jwt.clone()),
        ("k.dead", "dead-CANARY-token-0006".to_owned()),
        ("k.login", "login-CANARY-password-0003".to_owned()),
        ("k.wrong", "wrong-CANARY-password-0007".to_owned()),
    ] {
        world.write(name, &text);
    }
    world.platforms = "      - {name: csv, api_key_csv_file: k.csv}\n      - {name: ecctl, ecctl_config_file: k.json}\n      \
         - {name: token, bearer_token_file: k.jwt}\n      - {name: dead, bearer_token_file: k.dead}\n      \
         - {name: login, login: {username: ops, password_file: k.login}}\n      \
         - {name: wrong, login: {username: ops, password_file: k.wrong}}\n"
        .into();
    vec![
        Canary::new("the key in the CSV file", key),
        Canary::new("the secret part of the key in the CSV file", "csvCANARYsecret0000"),
        Canary::new("another cell of the CSV file", "CANARY-cell-0004"),
        Canary::new("the password of ecctl", "ecctl-CANARY-pass-0005"),
        Canary::new("the bearer token", &jwt),
        Canary::new("the refused bearer token", "dead-CANARY-token-0006"),
        Canary::new("the password of the login", "login-CANARY-password-0003"),
        Canary::new("the refused password", "wrong-CANARY-password-0007"),
    ]
}

/// Drives the program through everything that can fail, and gathers everything that it shows.
async fn live(world: &mut World, places: &mut Vec<Place>) {
    let flags = ["--web.enable-lifecycle"];
    let mut binary = Binary::serve(world, &flags, &[]).await;
    wait_until("both channels to have told an alert", async || {
        !world.mailbox.mails().is_empty() && !world.sink.hooks().is_empty()
    })
    .await;
    world.sink.set_default(Answer::Body(500, "no".to_owned()));
    world.mailbox.set_faults([MailFault::RefuseAuth]);
    world.add("second", Expires::At(time::now() + TimeDelta::days(3)));
    world.write_config();
    assert_eq!(binary.reload().await.0, 200);
    wait_until("both channels to have failed", async || {
        let log = binary.log_text();
        let failed =
            |channel| log.lines().any(|it| it.contains("cannot deliver") && it.contains(channel));
        failed("ops/email") && failed("ops/webhook")
    })
    .await;
    let trusted = world.certificates.clone();
    for fault in [
        Fault::None,
        Fault::Status(401, ErrorBody::Code("root.unauthorized".to_owned(), "no".to_owned())),
        Fault::Forbidden,
        Fault::Redirect(world.sink.url()),
        Fault::Reset,
    ] {
        world.ece.set_fault(On::Everyone, fault.clone()).unwrap();
        for name in ["watched", "csv", "ecctl", "token", "dead", "login", "wrong"] {
            places.push(place(format!("/probe {name} at {fault:?}"), binary.probe(name).await));
        }
    }
    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    world.ece.set_certificates(Certificates::make(&CertificateOptions::default()).unwrap());
    let (status, text) = binary.reload().await;
    assert_eq!(status, 200, "{text}");
    let tls = binary.probe("watched").await;
    assert!(tls.contains("reason=\"tls\"} 1"), "{tls}");
    places.push(place("/probe at foreign TLS", tls));
    world.ece.set_certificates(trusted);

    world.extra = "colour: red\n".into();
    world.write_config();
    places.push(place("the answer to a bad reload", binary.reload().await.1));
    gather(&binary, places).await;
    world.extra.clear();
    world.write_config();
    world.mailbox.set_faults([]);
    assert_eq!(binary.reload().await.0, 200);
    binary.signal("TERM");
    binary.ended().await;
    places.push(place("the log", binary.log_text()));
    places.push(place("the whole log", std::fs::read(world.path("log")).unwrap()));
}

/// What the server shows and what the store keeps.
async fn gather(binary: &Binary, places: &mut Vec<Place>) {
    for path in [
        "/",
        "/metrics",
        "/config",
        "/api/v1/credentials",
        "/api/v1/credentials/prod/watched",
        "/api/v1/alerts",
        "/api/v1/status/buildinfo",
        "/notifications",
        "/api/v1/notifications",
        "/api/v1/notifications?format=csv",
    ] {
        let (status, text) = fetch(&format!("{}{path}", binary.url)).await;
        assert_eq!(status, 200, "{path}: {text}");
        places.push(place(path, text));
    }
    let request = client()
        .get(format!("{}/metrics", binary.url))
        .header("accept", "application/openmetrics-text; version=1.0.0");
    let text = answer(request).await.text();
    places.push(place("/metrics in OpenMetrics", text));
}

fn store(world: &World, places: &mut Vec<Place>) {
    let files = std::fs::read_dir(world.path("store")).unwrap().map(|it| it.unwrap().path());
    places.extend(
        files
            .filter(|it| it.is_file())
            .map(|it| place(it.display().to_string(), std::fs::read(&it).unwrap())),
    );
}

async fn command(world: &World, args: &[&str]) -> Place {
    let mut args: Vec<String> = args.iter().map(|it| (*it).to_owned()).collect();
    let name = args.join(" ");
    args.push("--config.file=config.yml".to_owned());
    let dir = world.dir.path().to_owned();
    let (_, out, err) = tokio::task::spawn_blocking(move || {
        run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &dir)
    })
    .await
    .unwrap();
    assert!(!out.is_empty() || !err.is_empty(), "{name} says something");
    place(name, out + &err)
}

#[tokio::test]
async fn no_secret_comes_out_anywhere() {
    let (mut world, canaries) = world().await;
    let mut places = Vec::new();
    live(&mut world, &mut places).await;
    // Killed, so that the journal of the database stays behind.
    let killed = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    killed.probe("watched").await;
    drop(killed);
    store(&world, &mut places);
    let db = places.iter().filter(|it| it.name.contains("/store/")).count();
    assert!(db >= 2, "database and journal are searched");

    for answer in [
        Answer::Status(200),
        Answer::Status(301),
        Answer::Status(500),
        Answer::Redirect(world.sink.url()),
    ] {
        world.sink.set_default(answer);
        places.push(command(&world, &["notify-test", "ops"]).await);
    }
    world.mailbox.set_faults([MailFault::RefuseAuth]);
    places.push(command(&world, &["notify-test", "ops"]).await);
    places.push(command(&world, &["check-config"]).await);
    for output in ["table", "json", "prom"] {
        places.push(command(&world, &["probe", "--output", output]).await);
    }
    places.push(command(&world, &["notifications"]).await);
    let ids = command(&world, &["notifications", "--output", "csv"]).await;
    let text = String::from_utf8(ids.bytes.clone()).unwrap();
    let ids_shown =
        text.lines().filter_map(|it| it.split(',').next()).filter(|it| it.contains('_'));
    for id in ids_shown.take(8) {
        places.push(command(&world, &["notifications", "show", id]).await);
    }
    places.push(ids);
    world.extra = "colour: red\n".into();
    world.write_config();
    places.push(command(&world, &["check-config"]).await);

    let (mails, hooks) = (world.mailbox.mails(), world.sink.hooks());
    assert!(!mails.is_empty() && !hooks.is_empty());
    assert!(hooks.iter().any(|it| it.header("x-routing") == "header-CANARY-0002"));
    assert!(hooks.iter().any(|it| it.header("authorization") == "Bearer token-CANARY-0001"));
    for mail in mails {
        let decoded = mail.subject() + &mail.text() + &mail.html();
        places.push(place("a mail", mail.raw));
        places.push(place("a decoded mail", decoded));
    }
    places.extend(hooks.into_iter().map(|it| place("a webhook's body", it.body)));

    // The search must be able to find something: every canary in every form, and what is no secret everywhere.
    for canary in &canaries {
        for form in &canary.forms {
            let planted = [place("planted", [b"before ", form.as_slice(), b" after"].concat())];
            assert!(!leaks(&planted, &canaries).is_empty(), "{}", canary.what);
        }
    }
    for name in [
        "/metrics",
        "/",
        "/config",
        "/api/v1/credentials",
        "/notifications",
        "/api/v1/notifications",
        "notifications",
        "the log",
        "a decoded mail",
    ] {
        let mut of_name = places.iter().filter(|it| it.name == name);
        assert!(of_name.any(|it| holds(&it.bytes, b"watched")), "{name} is about the credential");
    }
    assert_eq!(leaks(&places, &canaries), Vec::<String>::new());
}
