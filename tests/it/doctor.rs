//! What `doctor` says of each kind of trouble: the words that lead to the cause, and that nothing secret comes out.

mod subjects;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::config::{CredentialKind, SecretSource};
use ece_expiry_exporter::doctor::{self, Event, Outcome};
use ece_expiry_exporter::sim::{
    CertificateOptions, Certificates, Ece, EceOptions, Expires, Fault, HeaderMode, HeaderPath, On,
    Sends, SimKey,
};
use ece_expiry_exporter::time;
use expect_test::expect;
use tempfile::TempDir;

use crate::coordinator::{Coordinator, answer};
use crate::probe::{PATIENCE, credential, expires, platform};
use crate::world::run;

/// A key with 60 days to live in a simulated ECE, and a folder with a configuration for it.
struct Patient {
    dir: TempDir,
    ece: Ece,
    certificates: Certificates,
    urls: Vec<String>,
    tls: String,
    extra: String,
}

impl Patient {
    async fn new() -> Self {
        Self::with(&CertificateOptions::default()).await
    }

    async fn with(options: &CertificateOptions) -> Self {
        let certificates = Certificates::make(options).unwrap();
        let ece = Ece::start(EceOptions { tls: Some(certificates.clone()), ..Default::default() })
            .await
            .unwrap();
        Self::of(ece, certificates)
    }

    fn of(ece: Ece, certificates: Certificates) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let patient = Self {
            urls: vec![ece.url()],
            dir,
            ece,
            certificates,
            tls: "tls_config: {ca_file: ca.pem}".to_owned(),
            extra: String::new(),
        };
        patient.write("ca.pem", patient.certificates.ca_pem());
        let key = patient.ece.add_key(SimKey::new("marc", "key", Expires::At(end())));
        patient.write("key", &key);
        patient
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Runs the binary: exit code and what it says, on both outputs.
    async fn doctor(&self, flags: &[&str]) -> (i32, String) {
        let urls: Vec<String> = self.urls.iter().map(|it| format!("\"{it}\"")).collect();
        let config = format!(
            "global: {{probe_timeout: 10s}}\nplatforms:\n  - name: prod\n    urls: [{}]\n    {}\n    {}\n    \
             credentials: [{{name: terraform, api_key_file: key}}]\n",
            urls.join(", "),
            self.tls,
            self.extra
        );
        self.write("config.yml", &config);
        let mut args = vec!["doctor", "prod/terraform", "--config.file=config.yml"];
        args.extend(flags);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let dir = self.dir.path().to_owned();
        let run = tokio::task::spawn_blocking(move || {
            run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &dir)
        });
        let (code, out, err) = run.await.unwrap();
        let said = out + &err;
        assert!(!said.contains(&self.read("key")), "the key is shown: {said}");
        (code, said)
    }

    /// The same, for trouble: asserts exit code 1 and these words, whatever lines they stand on; and that the key was
    /// sent as often as said.
    async fn fails(&self, sent: u64, words: &[&str]) -> String {
        let (code, said) = self.doctor(&[]).await;
        assert_eq!(code, 1, "{said}");
        holds(&said, words);
        assert_eq!(self.ece.requests().authorized, sent, "{said}");
        said
    }
}

/// When keys of these tests expire: an hour beyond 60 days, so that 60 days are left for a while.
fn end() -> DateTime<Utc> {
    time::now() + TimeDelta::days(60) + TimeDelta::hours(1)
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn holds(said: &str, words: &[&str]) {
    let flat = flat(said);
    for it in words {
        assert!(flat.contains(it), "{it:?} is missing in:\n{said}");
    }
}

/// What differs from run to run, replaced: dates, ports, digests, keys' ids, milliseconds.
fn steady(said: &str) -> String {
    let is_hex = |it: &str| it.len() >= 12 && it.bytes().all(|it| it.is_ascii_hexdigit());
    let is_date = |it: &str| it.len() == 10 && it.starts_with("20") && it.matches('-').count() == 2;
    let word = |it: &str| -> String {
        let bare = it.trim_end_matches([',', '.', ')', ':']);
        let rest = &it[bare.len()..];
        let steady = match bare {
            _ if is_hex(bare) => "HEX".to_owned(),
            _ if is_date(bare) => "DATE".to_owned(),
            _ if bare.contains('T') && bare.ends_with('Z') => "INSTANT".to_owned(),
            _ if bare.contains("127.0.0.1:") => {
                format!("{}:PORT", bare.rsplit_once(':').unwrap().0)
            }
            _ if bare.len() <= 8 && bare.contains(':') && bare.as_bytes()[0].is_ascii_digit() => {
                "TIME".to_owned()
            }
            _ => bare.to_owned(),
        };
        steady + rest
    };
    let mut text = String::new();
    for line in said.lines() {
        let words: Vec<String> = line.split(' ').map(word).collect();
        let mut line = words.join(" ");
        for unit in [" ms", " bytes", " days left"] {
            if let Some(at) = line.find(unit) {
                let head = line[..at].trim_end_matches(|it: char| it.is_ascii_digit()).to_owned();
                line = format!("{head}N{}", &line[at..]);
            }
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[tokio::test]
async fn a_healthy_credential_reads_so() {
    let patient = Patient::new().await;
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 0, "{said}");
    expect![[r#"
        prod/terraform (api_key), step by step

        ok           secret       read from file key; it has the form of an ECE key
                                  the id of the key is HEX
                                  mode 0600: not everybody on this machine can read it

        https://127.0.0.1:PORT (coordinator 1 of 1)
        ok           name         127.0.0.1 is an address, there is nothing to resolve
        ok           port         127.0.0.1:PORT connects
        ok           TLS          TLS 1.3; the certificate is valid for 127.0.0.1 and trusted by
                                  tls_config.ca_file
                                  the chain as presented:
                                    1. CN=elastic ce admin console HEX
                                       signed by CN=elastic ce admin console root
                                       valid DATE to DATE, N days left
                                       for the names ece-0-runner, localhost, 127.0.0.1
                                       SHA-256 HEX
                                    └─ 2. CN=elastic ce admin console root
                                          signed by CN=elastic ce master
                                          valid DATE to DATE, N days left
                                          SHA-256 HEX
                                       └─ 3. CN=elastic ce master
                                             signed by itself
                                             valid DATE to DATE, N days left
                                             SHA-256 HEX
        ok           HTTP         status 200: ECE accepts the key
                                  content type application/json, server not told, N bytes in N ms
        ok           expiry       expires DATE TIME UTC, in 60 days
                                  X-Elastic-Api-Key-Expiration: INSTANT
                                  read as DATE TIME UTC
        ok           permissions  the owner may do all that a probe of this key asks for
                                  allowed: get-current-user (GET /api/v1/user), for every probe
                                  allowed: get-api-keys (GET /api/v1/users/auth/keys), for the expiry where the header is missing
                                  allowed: get-license (GET /api/v1/platform/license), for `license`, if configured
                                  allowed: get-tls-certificate (GET /api/v1/platform/configuration/security/tls/SERVICE), for `certificates.services`, if configured
                                  not allowed: get-users-api-keys (GET /api/v1/users/auth/keys/_all), for `inventory` of all keys, if configured
                                  not allowed: list-deployments (GET /api/v1/deployments), for `deployments`, if configured
                                  not allowed: get-deployment-resource-proxy-requests (GET /api/v1/deployments/ID/elasticsearch/REF_ID/proxy/…), for `deployments`, if configured
                                  roles of the owner: ece_platform_viewer
        ok           clock        the clocks agree, as far as the whole seconds of Date can tell
                                  the answer took N ms with its connection

        healthy: prod/terraform expires DATE TIME UTC, in 60 days.
    "#]].assert_eq(&steady(&said));
}

#[tokio::test]
async fn a_chain_that_nobody_trusts_reads_so() {
    let mut patient = Patient::new().await;
    patient.tls = String::new();
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 1, "{said}");
    assert_eq!(patient.ece.requests().total, 0, "nothing is sent");
    expect![[r#"
        prod/terraform (api_key), step by step

        ok           secret       read from file key; it has the form of an ECE key
                                  the id of the key is HEX
                                  mode 0600: not everybody on this machine can read it

        https://127.0.0.1:PORT (coordinator 1 of 1)
        ok           name         127.0.0.1 is an address, there is nothing to resolve
        ok           port         127.0.0.1:PORT connects
        failed       TLS          the certificate is not signed by anybody in the authorities of this system
                                  (tls_config.ca_file is not set)
                                  the chain as presented:
                                    1. CN=elastic ce admin console HEX
                                       signed by CN=elastic ce admin console root
                                       valid DATE to DATE, N days left
                                       for the names ece-0-runner, localhost, 127.0.0.1
                                       SHA-256 HEX
                                    └─ 2. CN=elastic ce admin console root
                                          signed by CN=elastic ce master
                                          valid DATE to DATE, N days left
                                          SHA-256 HEX
                                       └─ 3. CN=elastic ce master
                                             signed by itself
                                             valid DATE to DATE, N days left
                                             SHA-256 HEX
                                  next: put certificate 3 of the chain (CN=elastic ce master) into a file
                                  and name it in `tls_config.ca_file`. Before you trust it, compare its
                                  SHA-256 with the chain in the Cloud UI under Platform > Settings
                                  $ openssl s_client -connect 127.0.0.1:PORT -showcerts </dev/null 2>/dev/null | awk '/BEGIN CERT/{n++} n==3; /END CERT/&&n==3{exit}' > ece-ca.pem
        not checked  HTTP         the key is sent only when every step before is ok
        not checked  expiry       there is no answer
        not checked  permissions  there is no answer
        not checked  clock        there is no answer

        not healthy: TLS at https://127.0.0.1:PORT: the certificate is not signed by anybody in the
        authorities of this system (tls_config.ca_file is not set). Next: put certificate 3 of the chain
        (CN=elastic ce master) into a file and name it in `tls_config.ca_file`. Before you trust it, compare
        its SHA-256 with the chain in the Cloud UI under Platform > Settings.
    "#]].assert_eq(&steady(&said));
}

#[tokio::test]
async fn an_unreadable_secret_is_the_first_cause() {
    let ece = Coordinator::http(|_| answer("200 OK", &[], "{}")).await;
    let dir = TempDir::new().unwrap();
    let mut credential = credential(&dir);
    credential.kind = CredentialKind::ApiKey(SecretSource::File(dir.path().join("gone")));
    let mut told = Vec::new();
    let platform = platform(&[ece.http_url()]);
    let report = doctor::look(&platform, &credential, PATIENCE, time::now, |event| {
        if let Event::Step(step) = event {
            told.push((step.topic.label(), step.outcome.label()));
        }
    })
    .await;
    assert_eq!(report.outcome(), Outcome::Failed);
    holds(
        &report.verdict(),
        &["not healthy: secret: The secret cannot be read", "Next: look at `ls -l"],
    );
    assert_eq!(told[..3], [("secret", "failed"), ("name", "ok"), ("port", "ok")]);
    assert!(told[3..].iter().all(|it| it.1 == "not checked"), "{told:?}");
    assert!(ece.requests().iter().all(|it| !it.contains("authorization")));
}

#[tokio::test]
async fn a_secret_file_that_is_not_there_is_said_before_anything_else() {
    let patient = Patient::new().await;
    let path = patient.dir.path().join("key");
    let key = patient.read("key");
    std::fs::remove_file(&path).unwrap();
    patient.write("gone", &key);
    let config = "platforms: [{name: prod, urls: [\"https://127.0.0.1:1\"], credentials: [{name: a, api_key_file: key}]}]\n";
    patient.write("config.yml", config);
    let (code, _, err) = run(&["doctor", "prod/a", "--config.file=config.yml"], patient.dir.path());
    assert_eq!(code, 2, "{err}");
    holds(&err, &["the configuration comes first", "key"]);
}

#[tokio::test]
async fn a_secret_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let patient = Patient::new().await;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(patient.dir.path().join("key"), open).unwrap();
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 0, "{said}");
    holds(&said, &["warning: mode 0644, everybody on this machine can read it", "chmod o= "]);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let mut patient = Patient::new().await;
    patient.urls = vec!["https://ece.invalid:12443".to_owned()];
    patient
        .fails(
            0,
            &[
                "failed name ece.invalid does not resolve",
                "not checked port",
                "getent hosts ece.invalid",
            ],
        )
        .await;
}

#[tokio::test]
async fn a_refused_port_is_named() {
    let mut patient = Patient::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    patient.urls = vec![format!("https://{free}")];
    let refused = format!("failed port {free} refused the connection");
    patient.fails(0, &[&refused, "12443 is the TLS port", "not checked TLS"]).await;
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_recognised() {
    let mut patient = Patient::new().await;
    let plain = Ece::start(EceOptions::default()).await.unwrap();
    patient.urls = vec![format!("https://{}", plain.addr())];
    patient
        .fails(0, &["speaks plain HTTP, not TLS", "12443 is the TLS port", "not checked HTTP"])
        .await;
    assert_eq!(plain.requests().authorized, 0);
}

#[tokio::test]
async fn tls_on_a_plain_port_is_recognised_before_the_key_is_sent() {
    let mut patient = Patient::new().await;
    patient.urls = vec![format!("http://{}", patient.ece.addr())];
    patient.extra = "allow_http: true".to_owned();
    patient.fails(0, &["the URL says http, but", "speaks TLS", "write https:// in `urls`"]).await;
    assert_eq!(patient.ece.requests().total, 0);
}

#[tokio::test]
async fn plain_http_works_where_it_is_allowed() {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    let certificates = Certificates::make(&CertificateOptions::default()).unwrap();
    let mut patient = Patient::of(ece, certificates);
    patient.extra = "allow_http: true".to_owned();
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 0, "{said}");
    holds(&said, &["not checked TLS", "can read the key", "healthy: prod/terraform expires"]);
}

#[tokio::test]
async fn a_proxy_is_looked_at_in_place_of_the_coordinator() {
    let mut patient = Patient::new().await;
    let proxy = Coordinator::http(|request| {
        assert!(request.starts_with("GET http://ece.invalid"), "{request}");
        answer(
            "200 OK",
            &["content-type: application/json", &expires("2097-02-21T09:15:30Z")],
            "{}",
        )
    })
    .await;
    patient.urls = vec!["http://ece.invalid:12400".to_owned()];
    patient.extra = format!("allow_http: true\n    proxy_url: \"http://{}\"", proxy.addr);
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 0, "{said}");
    holds(&said, &["this is the proxy of proxy_url", "this is the port of the proxy"]);
}

#[tokio::test]
async fn the_advice_about_an_unknown_authority_works() {
    let mut patient = Patient::with(&CertificateOptions {
        names: vec!["ece-0-runner".to_owned()],
        addresses: Vec::new(),
        ..Default::default()
    })
    .await;
    patient.tls = String::new();
    let said = patient
        .fails(
            0,
            &["put certificate 3 of the chain (CN=elastic ce master)", "server_name: ece-0-runner"],
        )
        .await;
    let command = said.lines().find_map(|it| it.trim().strip_prefix("$ ")).unwrap().to_owned();
    let dir = patient.dir.path().to_owned();
    let made = tokio::task::spawn_blocking(move || {
        std::process::Command::new("sh").args(["-c", &command]).current_dir(dir).status().unwrap()
    });
    assert!(made.await.unwrap().success());
    assert_eq!(patient.read("ece-ca.pem").trim(), patient.certificates.ca_pem().trim());
    patient.tls = "tls_config: {ca_file: ece-ca.pem, server_name: ece-0-runner}".to_owned();
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn an_authority_of_another_ece_is_told_from_an_unknown_one() {
    let patient = Patient::new().await;
    let other = Certificates::make(&CertificateOptions::default()).unwrap();
    patient.write("ca.pem", other.ca_pem());
    patient.fails(0, &["of another ECE", "put certificate 3 of the chain"]).await;
}

#[tokio::test]
async fn a_server_that_hides_who_signed_it_can_be_pinned() {
    let options = CertificateOptions { sends: Sends::LeafOnly, ..Default::default() };
    let mut patient = Patient::with(&options).await;
    patient.tls = String::new();
    let said =
        patient.fails(0, &["does not present who signed", "tls_config.fingerprint_sha256"]).await;
    let sha256 = said.lines().find_map(|it| it.trim().strip_prefix("SHA-256 ")).unwrap();
    patient.tls = format!("tls_config: {{fingerprint_sha256: {sha256}}}");
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 0, "{said}");
    holds(&said, &["the certificate is the pinned one"]);
    patient.tls = format!("tls_config: {{fingerprint_sha256: {}}}", "0".repeat(64));
    patient.fails(1, &["not the one that `fingerprint_sha256` pins", sha256]).await;
}

#[tokio::test]
async fn a_wrong_name_is_answered_with_one_that_fits() {
    let patient = Patient::with(&CertificateOptions {
        names: vec!["ece-0-runner".to_owned()],
        addresses: Vec::new(),
        ..Default::default()
    })
    .await;
    patient
        .fails(
            0,
            &[
                "trusted, but not for the name 127.0.0.1",
                "set `tls_config: {server_name: ece-0-runner}`",
            ],
        )
        .await;
}

#[tokio::test]
async fn an_expired_certificate_is_named() {
    let patient = Patient::with(&CertificateOptions {
        not_before: Some(time::now() - TimeDelta::days(100)),
        leaf_not_after: Some(time::now() - TimeDelta::days(3)),
        ..Default::default()
    })
    .await;
    patient
        .fails(0, &["certificate 1 (CN=elastic ce admin console", "expired on", "EXPIRED"])
        .await;
}

#[tokio::test]
async fn what_http_answers_is_explained() {
    let patient = Patient::new().await;
    let elsewhere = "https://sso.example.org/login?token=SECRET-CANARY".to_owned();
    let cases: [(Fault, &[&str]); 4] = [
        (Fault::Forbidden, &["failed HTTP ECE knows the key but refuses", "expiry expires 20"]),
        (
            Fault::Redirect(elsewhere),
            &["it redirects to sso.example.org:443", "nothing was sent there"],
        ),
        (
            Fault::Html200,
            &["A proxy or login page answered, not ECE", "an HTML page, as login pages"],
        ),
        (Fault::Html502, &["ECE, or a proxy before it, is in trouble (status 502)", "HTML page"]),
    ];
    for (sent, (fault, words)) in (1..).zip(cases) {
        patient.ece.set_fault(On::Everyone, fault).unwrap();
        let said = patient.fails(sent, words).await;
        assert!(!said.contains("CANARY"), "{said}");
    }
    patient.ece.set_fault(On::Everyone, Fault::None).unwrap();
    patient.ece.revoke("key").unwrap();
    let words =
        ["failed HTTP ECE does not accept the key (401 root.unauthenticated", "not checked expiry"];
    patient.fails(5, &words).await;
}

#[tokio::test]
async fn who_of_two_coordinators_strips_the_header_is_told() {
    let mut patient = Patient::new().await;
    let second = Ece::start(EceOptions {
        tls: Some(patient.certificates.clone()),
        world: patient.ece.share_world(),
        header_path: HeaderPath::Stripped,
        ..Default::default()
    })
    .await
    .unwrap();
    patient.urls.push(second.url());
    let words = [
        "ok expiry expires",
        "as ECE's list of keys says; the header is missing",
        "asked instead: the owner's list of keys",
        &format!(
            "failed coordinators the header X-Elastic-Api-Key-Expiration is missing at coordinator 2 ({})",
            second.url()
        ),
        "not healthy: prod/terraform expires",
    ];
    patient.fails(1, &words).await;
}

#[tokio::test]
async fn a_header_that_nobody_sends_is_no_failure_while_the_list_tells() {
    let patient = Patient::new().await;
    patient.ece.world().key("key").unwrap().header = HeaderMode::NoHeader;
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 0, "{said}");
    holds(&said, &["warning: the key has an end, so either this ECE is older than 3.7"]);
    patient.ece.set_expiry("key", Expires::Never).unwrap();
    let (code, said) = patient.doctor(&[]).await;
    assert_eq!(code, 0, "{said}");
    holds(&said, &["healthy: prod/terraform never expires"]);
}

#[tokio::test]
async fn how_a_header_is_read_is_told() {
    let patient = Patient::new().await;
    let header = |text: &str| HeaderMode::Raw(vec![text.as_bytes().to_vec()]);
    for (value, words) in [
        (
            "2097-02-21T09:15:30",
            "read as 2097-02-21 09:15:30 UTC; it names no time zone, UTC is assumed",
        ),
        ("2097-02-21", "it names a day only, the first moment of it in UTC is taken"),
    ] {
        patient.ece.world().key("key").unwrap().header = header(value);
        let (code, said) = patient.doctor(&[]).await;
        assert_eq!(code, 0, "{said}");
        holds(&said, &[words, &format!("X-Elastic-Api-Key-Expiration: {value}")]);
    }
    patient.ece.world().key("key").unwrap().header = header("soon\x1b[31m");
    patient
        .fails(2 + 2, &["failed expiry", "no date in a known form", "Expiration: soon?[31m"])
        .await;
}

#[tokio::test]
async fn permissions_that_are_missing_or_not_listed_are_told() {
    let mut patient = Patient::new().await;
    for (body, header, code, words) in [
        (r#"{"user_name":"a"}"#, true, 0, "ECE did not list the permissions"),
        (r#"{"security":{"permissions":[]}}"#, true, 0, "ECE did not list the permissions"),
        (
            r#"{"security":{"permissions":["get-current-user"]}}"#,
            true,
            0,
            "not allowed: get-api-keys",
        ),
        (
            r#"{"security":{"permissions":["get-current-user"]}}"#,
            false,
            1,
            "give the owner a role that allows get-api-keys",
        ),
    ] {
        let ece = Coordinator::http(move |request| {
            let line = expires("2097-02-21T09:15:30Z");
            let json = "content-type: application/json";
            match (request.contains("/keys"), header) {
                (true, _) => answer("403 Forbidden", &[json], "{}"),
                (false, true) => answer("200 OK", &[json, &line], body),
                (false, false) => answer("200 OK", &[json], body),
            }
        })
        .await;
        patient.urls = vec![ece.http_url()];
        patient.extra = "allow_http: true".to_owned();
        let (actual, said) = patient.doctor(&[]).await;
        assert_eq!(actual, code, "{said}");
        holds(&said, &[words, "not checked clock the answer has no header Date"]);
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_with_its_direction() {
    let patient = Patient::new().await;
    patient.ece.world().clock_offset = TimeDelta::hours(1);
    patient
        .fails(
            1,
            &["failed clock this machine's clock is 3", "seconds behind the coordinator's", "NTP"],
        )
        .await;
}

#[tokio::test]
async fn a_wrong_name_or_configuration_is_exit_code_2() {
    let patient = Patient::new().await;
    patient.doctor(&[]).await;
    let (code, _, err) = run(&["doctor", "prod/x", "--config.file=config.yml"], patient.dir.path());
    assert_eq!(code, 2, "{err}");
    holds(&err, &["no credential is called prod/x; the configuration has: prod/terraform"]);
    assert_eq!(run(&["doctor", "--config.file=config.yml"], patient.dir.path()).0, 2);
}

#[tokio::test]
async fn a_capture_is_private_and_replaces_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let patient = Patient::new().await;
    let (code, said) = patient.doctor(&["--capture=report.json"]).await;
    assert_eq!(code, 0, "{said}");
    let mode =
        std::fs::metadata(patient.dir.path().join("report.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = patient.read("report.json");
    let report: serde_json::Value = serde_json::from_str(&before).unwrap();
    assert_eq!(
        report["coordinators"][0]["chain"][2]["pem"],
        patient.certificates.ca_pem().replace("\r\n", "\n")
    );
    assert_eq!(report["coordinators"][0]["answer"]["body"]["user_name"], "[4 bytes]");
    assert_eq!(
        report["coordinators"][0]["answer"]["body"]["security"]["roles"][0],
        "ece_platform_viewer"
    );
    let (code, said) = patient.doctor(&["--capture=report.json"]).await;
    assert_eq!(code, 2, "{said}");
    holds(&said, &["a file that is there is not replaced"]);
    assert_eq!(patient.read("report.json"), before);
}

/// A server that repeats everything it was told, in places where nobody looks, and knows people.
#[tokio::test]
async fn nothing_secret_and_nobody_is_in_a_capture() {
    let patient = Patient::new().await;
    let key = patient.read("key");
    let decoded = {
        use base64::Engine as _;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(&key).unwrap()).unwrap()
    };
    let secret = decoded.rsplit(':').next().unwrap().to_owned();
    let token = "gateway-CANARY-0001";
    let canaries = [key.clone(), decoded.clone(), secret, token.to_owned()];
    let people = ["marc", "Marc O'Canary", "canary@example.org", "boss"];
    let user = |echo: &str| {
        format!(
            r#"{{"user_name":"marc","full_name":"Marc O'Canary","email":"canary@example.org","{echo}":"{echo}",
            "metadata":{{"created_by":"boss"}},"security":{{"permissions":["{echo}","for marc and boss"],"roles":["{echo}"]}},
            "errors":[{{"code":"{echo}","message":"Marc O'Canary (canary@example.org) sent ApiKey {echo}"}}]}}"#
        )
    };
    let echoes = [key.clone(), decoded.clone(), token.to_owned(), format!("ApiKey {key}")];
    for (index, echo) in echoes.iter().enumerate() {
        let text = echo.replace('\n', "");
        let pages = [
            ("200 OK", "application/json", user(&text)),
            ("403 Forbidden", "application/json", user(&text)),
            ("200 OK", "text/html", format!("<p>marc, canary@example.org: {text}</p>")),
            ("502 Bad Gateway", "text/plain", format!("{text} of marc")),
        ];
        for (number, (status, kind, body)) in pages.into_iter().enumerate() {
            let headers = [
                format!("content-type: {kind}"),
                format!("server: {text} canary@example.org marc"),
                format!("x-elastic-api-key-expiration: {text}"),
                format!("x-cloud-error-codes: {text}"),
                format!("x-echo: {text}"),
                format!("set-cookie: session={text}"),
                format!("location: https://sso.example.org/?{text}"),
            ];
            let ece = Coordinator::http(move |_| {
                answer(status, &headers.iter().map(String::as_str).collect::<Vec<_>>(), &body)
            })
            .await;
            let patient = Patient {
                urls: vec![ece.http_url()],
                extra: format!("allow_http: true\n    http_headers: {{X-Gateway: {token}}}"),
                ..Patient::new().await
            };
            patient.write("key", &key);
            let file = format!("capture-{index}-{number}.json");
            let (_, said) = patient.doctor(&[&format!("--capture={file}")]).await;
            let capture = patient.read(&file);
            assert!(capture.contains("sso.example.org"), "hosts stay: {capture}");
            for canary in &canaries {
                assert!(!capture.contains(canary.as_str()), "{canary} is in {capture}");
                assert!(!said.contains(canary.as_str()), "{canary} is on the screen: {said}");
            }
            for person in people {
                let known = number < 2 || person == "marc" || person.contains('@');
                assert!(!known || !capture.contains(person), "{person} is in {capture}");
            }
        }
    }
}
