//! The simulated world behaves as it says. What other tests rely on is checked here with plain clients.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::{
    Answer, CertificateOptions, Certificates, Desk, Ece, EceOptions, Expires, Fault, HeaderMode,
    HeaderPath, Mail, MailFault, MailTls, Mailbox, MailboxOptions, On, Role, Sends, SimKey, Sink,
    SinkOptions,
};
use expect_test::expect;
use lettre::message::{Mailbox as Address, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(10);
const HEADER: &str = "x-elastic-api-key-expiration";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A client that follows nothing and trusts `ca`, or nobody.
pub fn client(ca: Option<&str>) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = ca.map(|ca| reqwest::Certificate::from_pem(ca.as_bytes()).unwrap());
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_certs_only(roots)
        .build()
        .unwrap()
}

/// Status, expiry header, error code and body of one call, as a person would read them.
async fn call(ece: &Ece, path: &str, key: &str) -> String {
    let ca = ece.ca_pem();
    let request = client(ca.as_deref()).get(format!("{}{path}", ece.url()));
    let mut response =
        request.header("authorization", format!("ApiKey {key}")).send().await.unwrap();
    let header =
        |name: &str| response.headers().get(name).map_or("-", |it| it.to_str().unwrap()).to_owned();
    let mut shown = format!(
        "{} expires={} code={}\n",
        response.status(),
        header(HEADER),
        header("x-cloud-error-codes")
    );
    while let Some(chunk) = response.chunk().await.unwrap() {
        shown.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    shown
}

async fn head(ece: &Ece, key: &str) -> String {
    call(ece, "/api/v1/user", key).await.lines().next().unwrap().to_owned()
}

/// An ECE over plain HTTP at a fixed time with one key `ci` that expires a day later.
async fn plain() -> (Ece, String) {
    let ece = Ece::start(EceOptions::default()).await.unwrap();
    ece.set_now(at("2026-02-20T00:00:00Z"));
    let key = ece.add_key(SimKey::new("marc", "ci", Expires::At(at("2026-02-21T09:15:30.123Z"))));
    (ece, key)
}

#[tokio::test]
async fn a_key_shows_its_expiry_until_it_is_reached_and_is_then_refused() {
    let (ece, key) = plain().await;
    expect!["200 OK expires=2026-02-21T09:15:30.123Z code=-"].assert_eq(&head(&ece, &key).await);
    ece.set_now(at("2026-02-21T09:15:30.122Z"));
    expect!["200 OK expires=2026-02-21T09:15:30.123Z code=-"].assert_eq(&head(&ece, &key).await);
    ece.set_now(at("2026-02-21T09:15:30.123Z"));
    expect![[r#"
        401 Unauthorized expires=- code=root.unauthenticated
        {"errors":[{"code":"root.unauthenticated","message":"The supplied authentication is invalid"}]}"#]]
    .assert_eq(&call(&ece, "/api/v1/user", &key).await);
}

#[tokio::test]
async fn every_form_of_the_header_is_sent_as_it_is_named() {
    let (ece, key) = plain().await;
    let mut shown = String::new();
    for mode in [
        HeaderMode::Rfc3339Seconds,
        HeaderMode::Imf,
        HeaderMode::EpochMs,
        HeaderMode::NoHeader,
        HeaderMode::Raw(vec![b"soon\0".to_vec()]),
        HeaderMode::Raw(vec![]),
    ] {
        ece.world().key("ci").unwrap().header = mode;
        shown.push_str(&head(&ece, &key).await);
        shown.push('\n');
    }
    expect![[r#"
        200 OK expires=2026-02-21T09:15:30Z code=-
        200 OK expires=Sat, 21 Feb 2026 09:15:30 GMT code=-
        200 OK expires=1771665330123 code=-
        200 OK expires=- code=-
        200 OK expires=soon? code=-
        200 OK expires=- code=-
    "#]]
    .assert_eq(&shown);
}

#[tokio::test]
async fn a_huge_and_a_doubled_header_arrive_whole() {
    let (ece, key) = plain().await;
    let lines = vec![vec![0xff; 64 * 1024], b"2026-01-01T00:00:00Z".to_vec()];
    ece.world().key("ci").unwrap().header = HeaderMode::Raw(lines.clone());
    let request = client(None).get(format!("{}/api/v1/user", ece.url()));
    let response = request.header("authorization", format!("ApiKey {key}")).send().await.unwrap();
    let seen: Vec<_> =
        response.headers().get_all(HEADER).iter().map(|it| it.as_bytes().to_vec()).collect();
    assert_eq!(seen, lines);
}

#[tokio::test]
async fn a_key_that_never_expires_has_no_header_and_no_expiration_date() {
    let (ece, _) = plain().await;
    let mut never = SimKey::new("anna", "legacy", Expires::Never);
    never.id = "10".to_owned();
    let key = ece.add_key(never);
    expect![[r#"
        200 OK expires=- code=-
        {"keys":[{"creation_date":"2020-12-19T00:00:00.000Z","description":"legacy","id":"10","user_id":"anna"}]}"#]]
    .assert_eq(&call(&ece, "/api/v1/users/auth/keys", &key).await);
}

#[tokio::test]
async fn a_list_shows_the_own_keys_and_all_keys_to_an_admin_alone() {
    let (ece, key) = plain().await;
    let admin = SimKey::new("root", "admin", Expires::At(at("2026-03-01T00:00:00Z")))
        .with_role(Role::Admin);
    let admin = ece.add_key(admin);
    let own = call(&ece, "/api/v1/users/auth/keys", &key).await;
    assert!(own.contains(r#""expiration_date":"2026-02-21T09:15:30.123Z""#), "{own}");
    assert_eq!(own.matches("user_id").count(), 1, "{own}");
    let all = call(&ece, "/api/v1/users/auth/keys/_all", &admin).await;
    assert_eq!(all.matches("user_id").count(), 2, "{all}");
    let refused = call(&ece, "/api/v1/users/auth/keys/_all", &key).await;
    assert!(
        refused.starts_with(
            "403 Forbidden expires=2026-02-21T09:15:30.123Z code=root.unauthorized.rbac"
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_single_key_is_found_by_its_id_and_a_revoked_one_is_gone() {
    let (ece, key) = plain().await;
    let other = SimKey::new("marc", "old", Expires::Never);
    let path = format!("/api/v1/users/auth/keys/{}", other.id);
    let old = ece.add_key(other);
    assert!(call(&ece, &path, &key).await.starts_with("200 OK"));
    ece.revoke("old").unwrap();
    assert!(call(&ece, &path, &key).await.contains("404 Not Found"));
    assert!(head(&ece, &old).await.starts_with("401"));
}

#[tokio::test]
async fn a_renewed_key_is_a_new_one_and_the_old_one_is_refused() {
    let (ece, old) = plain().await;
    let new = ece.renew("ci").unwrap();
    expect!["401 Unauthorized expires=- code=root.unauthenticated"]
        .assert_eq(&head(&ece, &old).await);
    expect!["200 OK expires=2026-05-21T00:00:00.000Z code=-"].assert_eq(&head(&ece, &new).await);
    ece.set_expiry("ci", Expires::Never).unwrap();
    expect!["200 OK expires=- code=-"].assert_eq(&head(&ece, &new).await);
    assert!(ece.renew("nothing").is_err());
}

#[tokio::test]
async fn faults_answer_as_the_platform_or_what_stands_in_front_of_it() {
    let (ece, key) = plain().await;
    let mut shown = String::new();
    for fault in [
        Fault::Forbidden,
        Fault::AuthClusterDown,
        Fault::NoAuthCluster,
        Fault::Html200,
        Fault::Html502,
        Fault::Redirect("https://elsewhere.example/".to_owned()),
        Fault::RateLimited(30),
        Fault::None,
    ] {
        ece.set_fault(On::Key("ci"), fault).unwrap();
        shown.push_str(&head(&ece, &key).await);
        shown.push('\n');
    }
    expect![[r#"
        403 Forbidden expires=2026-02-21T09:15:30.123Z code=root.unauthorized.rbac
        502 Bad Gateway expires=- code=authc.authentication_cluster_error
        501 Not Implemented expires=- code=authc.no_authentication_cluster
        200 OK expires=- code=-
        502 Bad Gateway expires=- code=-
        302 Found expires=- code=-
        429 Too Many Requests expires=- code=-
        200 OK expires=2026-02-21T09:15:30.123Z code=-
    "#]]
    .assert_eq(&shown);
}

#[tokio::test]
async fn a_fault_of_one_key_leaves_the_others_alone() {
    let (ece, key) = plain().await;
    let other = ece.add_key(SimKey::new("anna", "other", Expires::Never));
    ece.set_fault(On::Key("other"), Fault::Html502).unwrap();
    assert!(head(&ece, &key).await.starts_with("200"));
    assert!(head(&ece, &other).await.starts_with("502"));
    ece.set_fault(On::Everyone, Fault::AuthClusterDown).unwrap();
    assert!(head(&ece, &key).await.starts_with("502"));
}

/// Sends one request over a bare socket and reads until the server is done with the connection.
async fn bare(ece: &Ece) -> (Vec<u8>, std::io::Result<()>) {
    let mut stream = tokio::net::TcpStream::connect(ece.addr()).await.unwrap();
    stream.write_all(b"GET /api/v1/user HTTP/1.1\r\nhost: sim\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.unwrap();
    (read, end.map(|_| ()))
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_a_farewell() {
    let (ece, _) = plain().await;
    ece.set_fault(On::Everyone, Fault::Reset).unwrap();
    let (read, end) = bare(&ece).await;
    assert!(read.is_empty());
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_truncated_body_is_shorter_than_its_announced_length() {
    let (ece, _) = plain().await;
    ece.set_fault(On::Everyone, Fault::Truncate).unwrap();
    let (read, _) = bare(&ece).await;
    let text = String::from_utf8(read).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap() / 2);
}

#[tokio::test]
async fn ten_megabytes_are_ten_megabytes() {
    let (ece, key) = plain().await;
    ece.set_fault(On::Key("ci"), Fault::TenMegabytes).unwrap();
    let request = client(None).get(format!("{}/api/v1/user", ece.url()));
    let mut response =
        request.header("authorization", format!("ApiKey {key}")).send().await.unwrap();
    let mut length = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        length += chunk.len();
    }
    assert_eq!(length, 10 * 1024 * 1024);
}

#[tokio::test]
async fn a_hanging_request_is_counted_and_ends_with_the_server() {
    let (ece, key) = plain().await;
    ece.set_fault(On::Everyone, Fault::Hang).unwrap();
    let request = client(None).get(format!("{}/api/v1/user", ece.url()));
    let hanging = tokio::spawn(request.header("authorization", format!("ApiKey {key}")).send());
    while ece.requests().total == 0 {
        tokio::task::yield_now().await;
    }
    let addr = ece.addr();
    drop(ece);
    let error = hanging.await.unwrap().unwrap_err();
    assert!(!error.is_timeout(), "{error:?}");
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn the_platforms_clock_shows_in_date_and_decides_the_expiry() {
    let (ece, key) = plain().await;
    ece.world().clock_offset = TimeDelta::days(2);
    let request = client(None).get(format!("{}/api/v1/user", ece.url()));
    let response = request.header("authorization", format!("ApiKey {key}")).send().await.unwrap();
    assert_eq!(response.headers()["date"], "Sun, 22 Feb 2026 00:00:00 GMT");
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn two_coordinators_share_one_platform_and_a_proxy_strips_the_header_of_one() {
    let (first, key) = plain().await;
    let options = EceOptions {
        world: first.share_world(),
        header_path: HeaderPath::Stripped,
        ..EceOptions::default()
    };
    let second = Ece::start(options).await.unwrap();
    second.set_now(at("2026-02-20T00:00:00Z"));
    assert!(head(&first, &key).await.contains("expires=2026"));
    assert_eq!(head(&second, &key).await, "200 OK expires=- code=-");
    assert_eq!((first.requests().total, second.requests().total), (1, 1));
}

#[tokio::test]
async fn connections_are_kept_alive_and_requests_are_counted_by_path() {
    let (ece, key) = plain().await;
    let client = client(None);
    for path in [
        "/api/v1/user",
        "/api/v1/user?x=1",
        "/api/v1/platform/license",
        "/api/v1/regions/ece-region/platform",
    ] {
        let request = client.get(format!("{}{path}", ece.url()));
        let mut response =
            request.header("authorization", format!("ApiKey {key}")).send().await.unwrap();
        while response.chunk().await.unwrap().is_some() {}
    }
    client.get(format!("{}/api/v1/user", ece.url())).send().await.unwrap();
    let requests = ece.requests();
    assert_eq!((requests.total, requests.authorized, requests.by_path["/api/v1/user"]), (5, 4, 3));
    assert_eq!(ece.connections().accepted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_requests_share_few_connections() {
    let ece = tls(&CertificateOptions::default()).await;
    let key = ece.add_key(SimKey::new("marc", "ci", Expires::Never));
    let client = client(ece.ca_pem().as_deref());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, url, key) = (client.clone(), ece.url(), key.clone());
        workers.spawn(async move {
            for _ in 0..25 {
                let request = client.get(format!("{url}/api/v1/user"));
                let mut response =
                    request.header("authorization", format!("ApiKey {key}")).send().await.unwrap();
                assert_eq!(response.status(), 200);
                while response.chunk().await.unwrap().is_some() {}
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    assert_eq!(ece.requests().total, 500);
    // A client may dial once more while a connection is on its way back to its pool.
    assert!(ece.connections().accepted <= 100, "{:?}", ece.connections());
}

async fn tls(options: &CertificateOptions) -> Ece {
    let tls = Some(Certificates::make(options).unwrap());
    Ece::start(EceOptions { tls, ..EceOptions::default() }).await.unwrap()
}

/// Whether a client that trusts the root gets through, or the innermost reason why not.
async fn reach(ece: &Ece, host: &str) -> String {
    let url = format!("https://{host}:{}/api/v1/user", ece.addr().port());
    let client = client(ece.ca_pem().as_deref());
    match client.get(url).send().await {
        Ok(response) => response.status().to_string(),
        Err(error) => {
            let mut error: &dyn std::error::Error = &error;
            while let Some(source) = error.source() {
                error = source;
            }
            error.to_string()
        }
    }
}

#[tokio::test]
async fn the_chain_is_accepted_by_its_root_for_the_address_and_for_the_name() {
    let ece = tls(&CertificateOptions::default()).await;
    assert_eq!(reach(&ece, "127.0.0.1").await, "401 Unauthorized");
    assert_eq!(reach(&ece, "localhost").await, "401 Unauthorized");
}

#[tokio::test]
async fn an_expired_leaf_a_wrong_name_and_a_missing_intermediate_are_refused() {
    let good = CertificateOptions::default();
    let expired = CertificateOptions {
        not_before: Some(at("2017-03-06T00:00:00Z")),
        leaf_not_after: Some(at("2018-03-06T00:00:00Z")),
        ..good.clone()
    };
    let wrong_name = CertificateOptions {
        names: vec!["other.example".to_owned()],
        addresses: vec![],
        ..good.clone()
    };
    let leaf_only = CertificateOptions { sends: Sends::LeafOnly, ..good };
    for (options, reason) in
        [(expired, "expired"), (wrong_name, "not valid for name"), (leaf_only, "UnknownIssuer")]
    {
        let said = reach(&tls(&options).await, "127.0.0.1").await;
        assert!(said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn a_swapped_certificate_is_shown_to_the_next_connection() {
    let ece = tls(&CertificateOptions::default()).await;
    let old = client(ece.ca_pem().as_deref());
    let url = format!("{}/api/v1/user", ece.url());
    assert!(old.get(&url).send().await.is_ok());
    ece.set_certificates(Certificates::make(&CertificateOptions::default()).unwrap());
    assert_eq!(reach(&ece, "127.0.0.1").await, "401 Unauthorized");
    let fresh_connection = client(None);
    assert!(fresh_connection.get(&url).send().await.is_err());
}

fn letter(to: &str) -> Message {
    let from: Address = "ece-expiry@example.org".parse().unwrap();
    let text = ".a line that begins with a dot\nund eine mit \u{fc}mlaut\n".to_owned();
    Message::builder()
        .from(from)
        .to(to.parse().unwrap())
        .subject("[ECE prod] CRITICAL: schl\u{fc}ssel expires in 6 days (2026-11-30)")
        .multipart(MultiPart::alternative_plain_html(
            text,
            "<p>h\u{fc}bsch &amp; sicher</p>".to_owned(),
        ))
        .unwrap()
}

enum Security<'a> {
    Plain,
    StartTls(&'a Certificates),
    Implicit(&'a Certificates),
}

async fn send(
    mailbox: &Mailbox,
    security: Security<'_>,
    login: Option<(&str, Mechanism)>,
    to: &str,
) -> Result<(), lettre::transport::smtp::Error> {
    let parameters = |it: &Certificates| {
        let root = Certificate::from_pem(it.ca_pem().as_bytes()).unwrap();
        TlsParameters::builder("localhost".to_owned())
            .add_root_certificate(root)
            .build_rustls()
            .unwrap()
    };
    let tls = match security {
        Security::Plain => Tls::None,
        Security::StartTls(it) => Tls::Required(parameters(it)),
        Security::Implicit(it) => Tls::Wrapper(parameters(it)),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("localhost")
        .port(mailbox.addr().port())
        .timeout(Some(PATIENCE))
        .tls(tls);
    if let Some((password, mechanism)) = login {
        builder = builder
            .credentials(Credentials::new("ece".to_owned(), password.to_owned()))
            .authentication(vec![mechanism]);
    }
    builder.build().send(letter(to)).await.map(|_| ())
}

async fn mailbox(tls: MailTls, login: Option<(&str, &str)>) -> Mailbox {
    let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
    Mailbox::start(MailboxOptions { tls, login, ..MailboxOptions::default() }).await.unwrap()
}

fn envelope(mail: &Mail) -> (&str, &[String], bool, Option<&str>) {
    (&mail.from, &mail.to, mail.tls, mail.auth_user.as_deref())
}

#[tokio::test]
async fn a_mail_over_starttls_with_a_login_arrives_whole() {
    let certificates = Certificates::make(&CertificateOptions::default()).unwrap();
    let mailbox = mailbox(MailTls::StartTls(certificates.clone()), Some(("ece", "s3cret"))).await;
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let login = Some(("s3cret", mechanism));
        send(&mailbox, Security::StartTls(&certificates), login, "ops@example.org").await.unwrap();
    }
    let mails = mailbox.wait_for(2, PATIENCE).await.unwrap();
    for mail in &mails {
        let to = ["ops@example.org".to_owned()];
        assert_eq!(envelope(mail), ("ece-expiry@example.org", &to[..], true, Some("ece")));
        assert_eq!(
            mail.subject(),
            "[ECE prod] CRITICAL: schl\u{fc}ssel expires in 6 days (2026-11-30)"
        );
        assert_eq!(
            mail.text().replace("\r\n", "\n"),
            ".a line that begins with a dot\nund eine mit \u{fc}mlaut\n"
        );
        assert_eq!(mail.html(), "<p>h\u{fc}bsch &amp; sicher</p>");
        assert_eq!(mail.header("to").as_deref(), Some("ops@example.org"));
    }
}

#[tokio::test]
async fn a_mail_over_implicit_tls_and_one_in_the_clear_arrive() {
    let certificates = Certificates::make(&CertificateOptions::default()).unwrap();
    let implicit = mailbox(MailTls::Implicit(certificates.clone()), None).await;
    send(&implicit, Security::Implicit(&certificates), None, "ops@example.org").await.unwrap();
    assert!(implicit.mails()[0].tls);
    let clear = mailbox(MailTls::None, None).await;
    send(&clear, Security::Plain, None, "ops@example.org").await.unwrap();
    assert!(!clear.mails()[0].tls);
}

#[tokio::test]
async fn a_wrong_password_a_refused_login_and_no_login_are_permanent_errors() {
    let mailbox = mailbox(MailTls::None, Some(("ece", "s3cret"))).await;
    let wrong =
        send(&mailbox, Security::Plain, Some(("guess", Mechanism::Plain)), "a@b.example").await;
    assert!(wrong.unwrap_err().is_permanent());
    let without = send(&mailbox, Security::Plain, None, "a@b.example").await;
    assert!(without.unwrap_err().is_permanent());
    mailbox.set_faults([MailFault::RefuseAuth]);
    let refused =
        send(&mailbox, Security::Plain, Some(("s3cret", Mechanism::Plain)), "a@b.example").await;
    assert!(refused.unwrap_err().is_permanent());
    assert!(mailbox.mails().is_empty());
}

#[tokio::test]
async fn one_recipient_is_refused_and_another_is_not() {
    let mailbox = mailbox(MailTls::None, None).await;
    mailbox.set_faults([MailFault::RefuseRecipient("gone@example.org".to_owned())]);
    let refused = send(&mailbox, Security::Plain, None, "gone@example.org").await;
    assert!(refused.unwrap_err().is_permanent());
    send(&mailbox, Security::Plain, None, "here@example.org").await.unwrap();
    assert_eq!(mailbox.mails().len(), 1);
}

#[tokio::test]
async fn a_greylisting_server_takes_the_second_attempt() {
    let mailbox = mailbox(MailTls::None, None).await;
    mailbox.set_faults([MailFault::Greylist]);
    let first = send(&mailbox, Security::Plain, None, "ops@example.org").await;
    assert!(first.unwrap_err().is_transient());
    send(&mailbox, Security::Plain, None, "ops@example.org").await.unwrap();
    mailbox.set_faults([MailFault::Busy]);
    let busy = send(&mailbox, Security::Plain, None, "ops@example.org").await;
    assert!(busy.unwrap_err().is_transient());
}

#[tokio::test]
async fn without_starttls_a_client_that_insists_sends_nothing() {
    let certificates = Certificates::make(&CertificateOptions::default()).unwrap();
    let mailbox = mailbox(MailTls::StartTls(certificates.clone()), None).await;
    mailbox.set_faults([MailFault::NoStartTls]);
    assert!(
        send(&mailbox, Security::StartTls(&certificates), None, "ops@example.org").await.is_err()
    );
    assert!(mailbox.mails().is_empty());
}

#[tokio::test]
async fn a_server_that_never_greets_and_one_that_never_acknowledges_keep_the_client_waiting() {
    let mailbox = mailbox(MailTls::None, None).await;
    mailbox.set_faults([MailFault::NeverGreet]);
    let short = Duration::from_millis(300);
    let silent =
        tokio::time::timeout(short, send(&mailbox, Security::Plain, None, "ops@example.org")).await;
    assert!(silent.is_err());
    mailbox.set_faults([MailFault::StopAfterData]);
    let sending = send(&mailbox, Security::Plain, None, "ops@example.org");
    tokio::select! {
        _ = sending => panic!("nothing acknowledges the message"),
        mails = mailbox.wait_for(1, PATIENCE) => assert_eq!(mails.unwrap().len(), 1),
    }
}

#[tokio::test]
async fn commands_out_of_order_are_refused_and_reset_forgets() {
    let mailbox = mailbox(MailTls::None, None).await;
    let mut stream = tokio::net::TcpStream::connect(mailbox.addr()).await.unwrap();
    let script = "RCPT TO:<a@b>\r\nDATA\r\nMAIL FROM:<>\r\nDATA\r\nRCPT TO:<a@b> NOTIFY=NEVER\r\nRSET\r\nDATA\r\nHELP\r\n\
        AUTH XOAUTH2\r\nSTARTTLS\r\nNOOP\r\nMAIL FROM:a@b\r\nQUIT\r\n";
    stream.write_all(script.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    let codes: Vec<_> = said.lines().map(|line| &line[..3]).collect();
    let expected = "220 503 503 250 503 250 250 503 500 504 502 250 501 221";
    assert_eq!(codes.join(" "), expected);
}

#[tokio::test]
async fn the_sink_answers_as_scripted_and_keeps_every_byte() {
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    sink.script([
        Answer::RetryAfter(503, "120".to_owned()),
        Answer::Redirect("https://elsewhere.example/".to_owned()),
        Answer::Body(422, "no".to_owned()),
    ]);
    let client = client(None);
    let mut answers = Vec::new();
    for _ in 0..4 {
        let request = client.post(format!("{}/hook?a=b", sink.url())).header("webhook-id", "msg_1");
        let response = request.body(r#"{"type":"credential.expiring"}"#).send().await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map_or("-", |it| it.to_str().unwrap()).to_owned()
        };
        answers.push(format!(
            "{} {} {}",
            response.status().as_u16(),
            header("retry-after"),
            header("location")
        ));
    }
    assert_eq!(answers, ["503 120 -", "302 - https://elsewhere.example/", "422 - -", "200 - -"]);
    let hooks = sink.wait_for(4, PATIENCE).await.unwrap();
    assert_eq!(hooks[0].path, "/hook?a=b");
    assert_eq!(hooks[0].header("webhook-id"), "msg_1");
    assert_eq!(hooks[3].body, br#"{"type":"credential.expiring"}"#);
    assert_eq!(
        hooks.iter().map(|it| it.status_answered).collect::<Vec<_>>(),
        [Some(503), Some(302), Some(422), Some(200)]
    );
}

#[tokio::test]
async fn a_sink_that_resets_or_hangs_has_kept_what_it_got() {
    let certificates = Certificates::make(&CertificateOptions::default()).unwrap();
    let ca = certificates.ca_pem().to_owned();
    let sink = Sink::start(SinkOptions { tls: Some(certificates), ..SinkOptions::default() })
        .await
        .unwrap();
    let client = client(Some(&ca));
    sink.script([Answer::Reset]);
    sink.set_default(Answer::Hang);
    assert!(client.post(sink.url()).body("one").send().await.is_err());
    tokio::select! {
        _ = client.post(sink.url()).body("two").send() => panic!("a hanging sink answers nothing"),
        hooks = sink.wait_for(2, PATIENCE) => assert_eq!(hooks.unwrap()[1].status_answered, None),
    }
    assert!(
        sink.wait_for(3, Duration::from_millis(10))
            .await
            .unwrap_err()
            .to_string()
            .contains("2 arrived")
    );
}

#[tokio::test]
async fn the_desk_shows_mails_and_hooks_and_runs_nothing_that_they_contain() {
    let mailbox = mailbox(MailTls::None, None).await;
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    let desk = Desk::start("127.0.0.1:0".parse().unwrap(), &mailbox, &sink).await.unwrap();
    send(&mailbox, Security::Plain, None, "ops@example.org").await.unwrap();
    let client = client(None);
    let evil = r#"{"type":"<script>alert(1)</script>","data":{}}"#;
    client.post(sink.url()).body(evil).send().await.unwrap();

    let (list, policy) = fetch(&client, &desk, "").await;
    assert!(list.contains("schl\u{fc}ssel expires in 6 days"), "{list}");
    assert!(list.contains(r#"href="mail&#x2f;1""#) || list.contains(r#"href="mail/1""#), "{list}");
    assert!(!list.contains("<script>"), "{list}");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let (mail, _) = fetch(&client, &desk, "mail/1").await;
    assert!(
        mail.contains("und eine mit \u{fc}mlaut") && mail.contains("<iframe sandbox"),
        "{mail}"
    );
    let (html, policy) = fetch(&client, &desk, "mail/1/html").await;
    assert_eq!(html, "<p>h\u{fc}bsch &amp; sicher</p>");
    assert!(policy.starts_with("sandbox;"), "{policy}");
    let (hook, _) = fetch(&client, &desk, "hook/1").await;
    assert!(hook.contains("&lt;script&gt;") && !hook.contains("<script>"), "{hook}");
    let (missing, _) = fetch(&client, &desk, "mail/9").await;
    assert!(missing.starts_with("not here"), "{missing}");
}

async fn fetch(client: &reqwest::Client, desk: &Desk, path: &str) -> (String, String) {
    let mut response = client.get(format!("{}{path}", desk.url())).send().await.unwrap();
    let policy = response
        .headers()
        .get("content-security-policy")
        .map_or("", |it| it.to_str().unwrap())
        .to_owned();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        body.extend_from_slice(&chunk);
    }
    (String::from_utf8(body).unwrap(), policy)
}

#[test]
fn the_encoded_key_is_base64_of_user_id_and_secret() {
    let key = SimKey::new("marc", "ci", Expires::Never);
    let decoded = String::from_utf8(STANDARD.decode(key.encoded()).unwrap()).unwrap();
    assert_eq!(decoded, format!("marc:{}:{}", key.id, key.secret));
}
