//! The configuration file: what it accepts, what it refuses and in which words, and that it never shows a secret.
//!
//! `tests/config` holds one file per mistake with the exact message beside it; `UPDATE_EXPECT=1` writes the messages
//! and the schema anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ece_expiry_exporter::config::{
    self, Config, CredentialKind, SecretSource, Severity, SmtpEncryption, TlsVerify,
};
use ece_expiry_exporter::schedule::Schedule;
use tempfile::TempDir;

const WHSEC: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n";

/// What no message may hold: the content of every secret file, and every secret written where none belongs.
const CANARY: &str = "CANARY";

/// A folder with a file for every path that the example and the fixtures name.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("secrets")).unwrap();
    for (name, text) in [
        ("secrets/key", "CANARY-key\n"),
        ("secrets/terraform", "CANARY-key\n"),
        ("secrets/backup", "CANARY-key\n"),
        ("secrets/empty", " \n"),
        ("secrets/ci.csv", "\u{feff}Name,API Key\r\nci,\"CANARY-key\"\r\n"),
        ("secrets/keyless.csv", "id,name,CANARY\n1,ci,CANARY\n"),
        (
            "secrets/ecctl.json",
            r#"{"api_key": "CANARY-key", "host": "https://ece-1.example.org:12443", "insecure": true}"#,
        ),
        ("secrets/ecctl.yaml", "api_key: CANARY\n"),
        ("secrets/ecctl-user.json", r#"{"user": "ops", "pass": "CANARY"}"#),
        ("secrets/ops", "CANARY password\n"),
        ("secrets/session.jwt", "CANARY.token\n"),
        ("secrets/bearer", "Bearer CANARY.token\n"),
        ("secrets/two_words", "ApiKey CANARY-key\n"),
        ("secrets/smtp", "CANARY password"),
        ("secrets/url", "https://hooks.example.org/CANARY"),
        ("secrets/hook-url", "https://hooks.example.org/CANARY?token=CANARY"),
        ("secrets/http_url", "http://hooks.example.org/CANARY"),
        ("secrets/local_url", "http://127.0.0.1:8080/CANARY"),
        ("secrets/user_url", "https://user:CANARY@hooks.example.org/"),
        ("secrets/hook-token", "CANARY-token"),
        ("secrets/pagerduty-key", "CANARY-key"),
        ("secrets/bridge-url", "https://bridge.example.org/CANARY"),
        ("secrets/chat-url", "https://chat.example.org/hooks/CANARY"),
        ("chat.yml", include_str!("../../docs/webhook-template.yml")),
        ("broken.yml", "carries: everything\nbodi: {}\nbody: {text: [}\n"),
        ("wrong.yml", "carries: all\nbodi: {}\nparams: [{default: x}]\n"),
        ("twice.yml", "carries: alert\nbody: {text: a, text: b}\n"),
        ("secrets/heartbeat-url", "https://hc.example.org/CANARY"),
        ("secrets/whsec", WHSEC),
        ("secrets/short_whsec", "whsec_Q0FOQVJZ"),
        ("secrets/bad_whsec", "whsec_CANARY!"),
        ("ece-ca.pem", CERTIFICATE),
        ("cert.pem", CERTIFICATE),
        ("client.crt", CERTIFICATE),
        ("client.key", KEY),
    ] {
        write(folder.path(), name, text, 0o600);
    }
    folder
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn parse(folder: &TempDir, text: &str) -> Config {
    Config::parse(text, &folder.path().join("config.yml")).unwrap()
}

fn expects_update() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// A file with one credential, `more` written below it at the top level.
fn minimal(more: &str) -> String {
    format!(
        "platforms:\n  - name: prod\n    urls: [https://ece.example.org:12443/]\n    credentials:\n      \
         - {{name: terraform, api_key_file: secrets/key}}\n{more}"
    )
}

#[test]
fn each_mistake_is_reported_in_exactly_these_words() {
    let folder = folder();
    let place = folder.path().display().to_string();
    let origin = folder.path().join("config.yml");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(fixtures).unwrap().map(|it| it.unwrap().path()).collect();
    paths.retain(|it| it.extension().is_some_and(|it| it == "yml"));
    paths.sort();
    assert!(28 <= paths.len());
    let mut wrong = String::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let actual = match Config::parse(&text, &origin) {
            Ok(_) => panic!("{} is accepted", path.display()),
            Err(errors) => format!("{errors}\n").replace(&place, "FOLDER"),
        };
        assert!(!actual.contains(CANARY), "{} shows a secret: {actual}", path.display());
        let beside = path.with_extension("txt");
        if expects_update() {
            fs::write(&beside, &actual).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if actual != expected {
            let _ = writeln!(wrong, "{}\nexpected:\n{expected}actual:\n{actual}", path.display());
        }
    }
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 writes these anew\n{wrong}");
}

#[test]
fn the_example_is_accepted_without_a_warning() {
    let config = parse(&folder(), config::EXAMPLE);
    assert_eq!(config.warnings, [""; 0]);
    let platform = &config.platforms[0];
    assert_eq!(
        platform.urls,
        ["https://ece-1.example.org:12443", "https://ece-2.example.org:12443"]
    );
    assert_eq!(platform.policy.failures_before_alert, 5);
    assert_eq!(platform.policy.steps[1].before, Duration::from_secs(10 * 86_400));
    let credential = &platform.credentials[0];
    assert_eq!(credential.id.to_string(), "prod/terraform");
    assert_eq!(credential.used_by, ["Terraform pipelines", "nightly drift check"]);
    assert_eq!(credential.policy.steps[1].severity, Severity::Critical);
    assert_eq!(credential.receivers.len(), 2);
    let email = &config.receivers["default"].emails[0];
    assert_eq!((email.host.as_str(), email.port), ("smtp.example.org", 587));
    let webhook = &config.receivers["platform-team"].webhooks[0];
    assert_eq!(webhook.authorization.as_ref().unwrap().0, "Bearer");
}

#[test]
fn the_example_names_every_key_of_the_schema() {
    fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (key, property) in properties {
                found.push(key.clone());
                keys(property, found);
                keys(&property["items"], found);
            }
        }
    }
    let mut found = Vec::new();
    let schema: serde_json::Value = serde_json::from_str(&config::schema()).unwrap();
    keys(&schema, &mut found);
    keys(&schema["$defs"]["route"], &mut found);
    assert!(50 < found.len());
    for key in found {
        assert!(
            config::EXAMPLE.contains(&format!("{key}: "))
                || config::EXAMPLE.contains(&format!("{key}:\n")),
            "{key}"
        );
    }
}

#[test]
fn the_schema_file_is_what_the_program_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.schema.json");
    if expects_update() {
        fs::write(&path, config::schema()).unwrap();
    }
    let file = fs::read_to_string(path).unwrap();
    assert!(file == config::schema(), "UPDATE_EXPECT=1 writes config.schema.json anew");
}

#[test]
fn what_is_left_out_has_its_default() {
    let folder = folder();
    let config = parse(&folder, &minimal(""));
    assert_eq!(config.global.probe_timeout, Duration::from_secs(10));
    assert_eq!(config.storage_path, Path::new("/var/lib/ece-expiry-exporter"));
    assert!(config.route.is_none());
    let platform = &config.platforms[0];
    assert_eq!(platform.urls, ["https://ece.example.org:12443"]);
    assert_eq!(platform.max_concurrent_probes, 16);
    assert_eq!(platform.tls.verify, TlsVerify::Full);
    let credential = &platform.credentials[0];
    assert!(
        matches!(credential.schedule, Schedule::Every(every) if every == Duration::from_secs(900))
    );
    let file = SecretSource::File(folder.path().join("secrets/key"));
    assert!(matches!(&credential.kind, CredentialKind::ApiKey(source) if *source == file));
    let steps: Vec<_> = credential
        .policy
        .steps
        .iter()
        .map(|it| (it.before.as_secs() / 86_400, it.severity.label()))
        .collect();
    assert_eq!(steps, [(30, "info"), (14, "warning"), (7, "critical"), (1, "critical")]);
    assert_eq!(credential.policy.never_expires, Some(Severity::Info));
    assert_eq!(credential.policy.failures_before_alert, 3);
    let repeat = credential.policy.repeat;
    assert_eq!(repeat.critical, Some(Duration::from_secs(86_400)));
    assert_eq!(repeat.warning, Some(Duration::from_secs(3 * 86_400)));
    assert_eq!(repeat.info, None);
    assert_eq!(
        config.warnings,
        ["receivers: there is none, so alerts are shown but nobody is told"]
    );
}

#[test]
fn a_credential_inherits_from_its_platform_and_the_platform_from_the_top() {
    let text = "
global: {schedule: 1h, timezone: Europe/Zurich}
policy: {never_expires: ignore, repeat: {critical: never, info: 30d}}
platforms:
  - name: a
    urls: [https://a]
    schedule: \"0 8 * * *\"
    policy: {failures_before_alert: 7}
    steps: [{before: 1d, severity: warning}, {before: 9d, severity: info}]
    credentials:
      - {name: x, api_key_file: secrets/key}
      - {name: y, api_key_file: secrets/key, schedule: 5m, steps: [{before: 2h, severity: critical}]}
      - {name: z, api_key_file: secrets/key, timezone: Asia/Tokyo}
  - name: b
    urls: [https://b]
    credentials:
      - {name: x, api_key_file: secrets/key}
";
    let config = parse(&folder(), text);
    let shown: Vec<String> = config
        .credentials()
        .map(|(_, it)| {
            let policy = &it.policy;
            let steps: Vec<u64> =
                policy.steps.iter().map(|it| it.before.as_secs() / 3_600).collect();
            let Schedule::Every(_) = it.schedule else {
                return format!(
                    "{} {} {steps:?} {}",
                    it.id, it.schedule, policy.failures_before_alert
                );
            };
            format!("{} {} {steps:?} {}", it.id, it.schedule, policy.failures_before_alert)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "a/x 0 8 * * * (Europe/Zurich) [216, 24] 7",
            "a/y 5m [2] 7",
            "a/z 0 8 * * * (Asia/Tokyo) [216, 24] 7",
            "b/x 1h [720, 336, 168, 24] 3",
        ]
    );
    let repeat = config.platforms[0].credentials[1].policy.repeat;
    assert_eq!((repeat.critical, repeat.info), (None, Some(Duration::from_secs(30 * 86_400))));
    assert_eq!(config.platforms[0].policy.never_expires, None);
}

#[test]
fn receivers_go_from_route_to_platform_to_credential() {
    let hook = "webhook_configs: [{url_file: secrets/url}]";
    let text = format!(
        "
platforms:
  - {{name: a, urls: [https://a], credentials: [{{name: x, api_key_file: secrets/key}}]}}
  - {{name: b, urls: [https://b], receivers: [two], credentials: [{{name: x, api_key_file: secrets/key}},
      {{name: y, api_key_file: secrets/key, receivers: [three, one]}}]}}
route: {{receiver: one}}
receivers: [{{name: one, {hook}}}, {{name: two, {hook}}}, {{name: three, {hook}}}]
"
    );
    let config = parse(&folder(), &text);
    let labels = std::collections::BTreeMap::new();
    let told = |shortcut| -> Vec<&str> {
        config.ways(&labels, shortcut).iter().map(|it| it.receiver.as_ref()).collect()
    };
    let of_credentials: Vec<Vec<&str>> =
        config.credentials().map(|(_, it)| told(&it.receivers)).collect();
    assert_eq!(of_credentials, [vec!["one"], vec!["two"], vec!["three", "one"]]);
    let of_platforms: Vec<Vec<&str>> =
        config.platforms.iter().map(|it| told(&it.receivers)).collect();
    assert_eq!(of_platforms, [vec!["one"], vec!["two"]]);
    // Only what is written is a shortcut.
    assert!(config.platforms[0].receivers.is_empty());
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn a_platform_without_a_receiver_concerns_those_of_its_credentials() {
    let text = "
platforms:
  - {name: a, urls: [https://a], credentials: [{name: x, api_key_file: secrets/key, receivers: [one]}]}
receivers: [{name: one, webhook_configs: [{url_file: secrets/url}]}]
";
    let config = parse(&folder(), text);
    assert_eq!(config.platforms[0].receivers, [std::sync::Arc::from("one")]);
}

#[test]
fn what_is_allowed_but_probably_not_meant_is_a_warning() {
    let folder = folder();
    write(folder.path(), "secrets/open", "CANARY", 0o644);
    let text = "
platforms:
  - name: a
    urls: [http://a]
    allow_http: true
    tls_config: {insecure_skip_verify: true}
    credentials: [{name: x, api_key_file: secrets/open}, {name: y, api_key_file: secrets/open}]
route: {receiver: one}
receivers:
  - name: one
    email_configs: [{to: a@b.org, from: a@b.org, smarthost: 'smtp:25', tls: none, auth_username: x, auth_password_file: secrets/smtp}]
  - {name: two, webhook_configs: [{url_file: secrets/local_url}]}
";
    let warnings = parse(&folder, text)
        .warnings
        .join("\n")
        .replace(&folder.path().display().to_string(), "FOLDER");
    expect_test::expect![[r#"
        receivers[0].email_configs[0].tls: the password crosses the network unencrypted
        platforms[0].allow_http: the credentials cross the network unencrypted
        platforms[0].tls_config.insecure_skip_verify: every certificate is accepted; whoever is on the way can read the credentials
        receivers: nothing is sent to `two`; no route leads there
        `FOLDER/secrets/open` and 1 more secret files can be read by every user of this machine; take that away with chmod o-r"#]]
    .assert_eq(&warnings);
}

#[test]
fn the_encryption_follows_the_port_unless_it_is_said() {
    let of = |smarthost: &str, more: &str| {
        let text = minimal(&format!(
            "route: {{receiver: one}}\nreceivers: [{{name: one, email_configs: [{{to: a@b.org, from: a@b.org, \
             smarthost: '{smarthost}'{more}}}]}}]"
        ));
        let config = parse(&folder(), &text);
        let email = config.receivers["one"].emails[0].clone();
        (email.host, email.encryption)
    };
    assert_eq!(of("smtp:587", ""), ("smtp".to_owned(), SmtpEncryption::Starttls));
    assert_eq!(of("[::1]:465", ""), ("::1".to_owned(), SmtpEncryption::Implicit));
    assert_eq!(of("smtp:465", ", tls: starttls"), ("smtp".to_owned(), SmtpEncryption::Starttls));
    assert_eq!(of("smtp:25", ", tls: none"), ("smtp".to_owned(), SmtpEncryption::None));
}

#[test]
fn a_fingerprint_is_read_with_and_without_colons() {
    let hex = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    let pairs: Vec<&str> = (0..32).map(|it| &hex[2 * it..2 * it + 2]).collect();
    for text in [hex.to_owned(), pairs.join(":").to_uppercase()] {
        let text = minimal("").replace(
            "    credentials:",
            &format!("    tls_config: {{fingerprint_sha256: '{text}'}}\n    credentials:"),
        );
        let verify = parse(&folder(), &text).platforms[0].tls.verify.clone();
        assert!(matches!(verify, TlsVerify::Fingerprint(bytes) if bytes[..2] == [0x5e, 0x88]));
    }
}

#[test]
fn anchors_and_environment_variables_work() {
    let text = "
platforms:
  - name: a
    urls: [https://a]
    tls_config: &tls {ca_file: ece-ca.pem}
    credentials: [{name: x, api_key_env: CARGO_PKG_NAME}]
  - {name: b, urls: [https://b], tls_config: *tls, credentials: [{name: x, api_key_file: secrets/key}]}
";
    let config = parse(&folder(), text);
    assert_eq!(config.platforms[0].tls, config.platforms[1].tls);
    let variable = SecretSource::Env("CARGO_PKG_NAME".to_owned());
    let kind = &config.platforms[0].credentials[0].kind;
    assert!(matches!(kind, CredentialKind::ApiKey(source) if *source == variable));
}

/// One credential written so, and what is warned of it.
fn kind_of(credential: &str) -> (CredentialKind, Vec<String>) {
    let folder = folder();
    let text = minimal("").replace("api_key_file: secrets/key", credential);
    let config = parse(&folder, &text);
    (config.platforms[0].credentials[0].kind.clone(), config.warnings)
}

#[test]
fn the_host_of_ecctl_does_not_count_and_is_warned_of_if_it_differs() {
    let (kind, warnings) = kind_of("ecctl_config_file: secrets/ecctl.json");
    assert!(matches!(kind, CredentialKind::ApiKey(SecretSource::Ecctl(_))));
    assert_eq!(kind.label(), "api_key");
    assert!(
        warnings.iter().any(|it| it.contains(
            "ecctl_config_file: its host `https://ece-1.example.org:12443` is not among"
        )),
        "{warnings:?}"
    );
}

#[test]
fn a_login_of_a_built_in_user_is_explained() {
    let (kind, warnings) = kind_of("login: {username: admin, password_file: secrets/ops}");
    assert_eq!(kind.label(), "login");
    assert!(warnings.iter().any(|it| it.contains("admin owns no API keys")), "{warnings:?}");
    let (_, warnings) = kind_of("login: {username: ops, password_file: secrets/ops}");
    assert!(!warnings.iter().any(|it| it.contains("API keys")), "{warnings:?}");
}

#[test]
fn a_key_in_the_file_of_another_program_that_everybody_can_read_is_warned_of() {
    for (key, name) in [("ecctl_config_file", "ecctl.json"), ("api_key_csv_file", "ci.csv")] {
        let folder = folder();
        let path = folder.path().join("secrets").join(name);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let text =
            minimal("").replace("api_key_file: secrets/key", &format!("{key}: secrets/{name}"));
        let warnings = parse(&folder, &text).warnings;
        assert!(
            warnings.iter().any(|it| it.contains(name) && it.contains("chmod o-r")),
            "{warnings:?}"
        );
    }
}

#[test]
fn the_printed_configuration_reads_back_and_shows_no_secret() {
    let folder = folder();
    let text =
        config::EXAMPLE.replace("X-Gateway-Client: ece-expiry-exporter", "X-Gateway-Token: CANARY");
    let config = parse(&folder, &text);
    let printed = config.to_yaml();
    assert!(!printed.contains(CANARY), "{printed}");
    assert!(printed.contains(r#""X-Gateway-Token": "<secret>""#), "{printed}");
    assert_eq!(parse(&folder, &printed).to_yaml(), printed);
}

#[test]
fn the_printed_configuration_holds_what_is_inherited() {
    let folder = folder();
    let printed = parse(&folder, &minimal("policy: {never_expires: ignore}")).to_yaml();
    expect_test::expect![[r#"
        global:
          probe_timeout: 10s
          own_links: true
        platforms:
          - name: "prod"
            flavor: ece
            urls: ["https://ece.example.org:12443"]
            max_concurrent_probes: 16
            steps:
              - before: 30d
                severity: info
              - before: 14d
                severity: warning
              - before: 7d
                severity: critical
              - before: 1d
                severity: critical
            policy:
              never_expires: ignore
              failures_before_alert: 3
              repeat:
                critical: 1d
                warning: 3d
                info: never
            credentials:
              - name: "terraform"
                api_key_file: "FOLDER/secrets/key"
                schedule: 15m
        storage:
          path: "/var/lib/ece-expiry-exporter"
    "#]]
    .assert_eq(&printed.replace(&folder.path().display().to_string(), "FOLDER"));
}

#[test]
fn a_file_that_cannot_be_read_is_said() {
    let folder = folder();
    let missing = Config::load(&folder.path().join("none.yml")).unwrap_err().to_string();
    assert!(missing.contains("none.yml: cannot read this file: no such file"), "{missing}");
    fs::write(folder.path().join("latin.yml"), b"a: b\nc: \xe9\n").unwrap();
    let latin = Config::load(&folder.path().join("latin.yml")).unwrap_err().to_string();
    assert!(
        latin.ends_with("latin.yml: line 2 is not UTF-8 text (save the file as UTF-8)"),
        "{latin}"
    );
    fs::File::create(folder.path().join("big.yml")).unwrap().set_len(16 * 1024 * 1024 + 1).unwrap();
    let big = Config::load(&folder.path().join("big.yml")).unwrap_err().to_string();
    assert!(big.contains("is larger than 16 MiB"), "{big}");
    fs::write(folder.path().join("good.yml"), minimal("")).unwrap();
    assert!(Config::load(&folder.path().join("good.yml")).is_ok());
}

#[test]
fn aliases_of_aliases_are_refused_before_they_fill_the_memory() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let _ =
            writeln!(text, "a{level}: &a{level} [{}]", vec![format!("*a{before}"); 10].join(", "));
    }
    let error = Config::parse(&text, Path::new("bomb.yml")).unwrap_err().to_string();
    assert!(error.contains("more than 2000000 values"), "{error}");
}

#[test]
fn a_file_from_another_editor_is_the_same_file() {
    let folder = folder();
    let unix = parse(&folder, config::EXAMPLE).to_yaml();
    let text = format!("\u{feff}{}", config::EXAMPLE.replace('\n', "\r\n"));
    assert_eq!(parse(&folder, &text).to_yaml(), unix);
}

#[test]
fn deep_nesting_is_refused() {
    let error = Config::parse(&"[".repeat(100_000), Path::new("deep.yml")).unwrap_err().to_string();
    assert!(
        error.contains("recursion limit exceeded (a bracket is opened and never closed)"),
        "{error}"
    );
    let error = Config::parse(&"- ".repeat(100), Path::new("deep.yml")).unwrap_err().to_string();
    assert!(error.contains("deep.yml:1:65: nested deeper than 32 levels"), "{error}");
}

#[test]
fn ten_thousand_credentials_cost_ten_times_a_thousand() {
    let folder = folder();
    let measure = |count: usize| {
        let mut text =
            String::from("platforms:\n  - name: prod\n    urls: [https://ece]\n    credentials:\n");
        for number in 0..count {
            let _ = writeln!(
                text,
                "      - name: key-{number}\n        api_key_file: secrets/key\n        team: team-{}\n        \
                 used_by: [a, b]\n        labels: {{tier: 1}}",
                number % 10
            );
        }
        let started = Instant::now();
        assert_eq!(parse(&folder, &text).platforms[0].credentials.len(), count);
        started.elapsed()
    };
    // An unoptimized build on a busy machine takes seconds, so the growth is what is held: a square would be hundredfold.
    let small = measure(1_000);
    let large = measure(10_000);
    assert!(large < small * 40, "{small:?} for a thousand, {large:?} for ten thousand");
    assert!(large < Duration::from_secs(30), "{large:?}");
}

#[test]
fn damaged_files_never_panic_and_never_show_a_secret() {
    let folder = folder();
    let origin = folder.path().join("config.yml");
    let lines: Vec<&str> =
        config::EXAMPLE.lines().filter(|it| !it.trim_start().starts_with('#')).collect();
    let garbage = [
        "\t",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "\"",
        "&a ",
        "*a",
        "!x ",
        "|",
        "\u{0}",
        "é\u{301}",
        "999999999999999999999",
        "${",
        "---\n",
        "%",
    ];
    let mut random = fastrand::Rng::with_seed(1);
    let mut refused = 0;
    for _ in 0..500 {
        let mut lines: Vec<String> = lines.iter().map(|it| (*it).to_owned()).collect();
        for _ in 0..random.usize(1..4) {
            let index = random.usize(..lines.len());
            match random.u8(..4) {
                0 => drop(lines.remove(index)),
                1 => lines.insert(index, lines[random.usize(..lines.len())].clone()),
                2 => {
                    let line = &mut lines[index];
                    let at = line
                        .char_indices()
                        .map(|(at, _)| at)
                        .nth(random.usize(..=line.len()))
                        .unwrap_or(line.len());
                    line.insert_str(at, garbage[random.usize(..garbage.len())]);
                }
                _ => {
                    let other = random.usize(..lines.len());
                    lines.swap(index, other);
                }
            }
        }
        if let Err(errors) = Config::parse(&lines.join("\n"), &origin) {
            refused += 1;
            assert!(!errors.problems().is_empty());
            assert!(!errors.to_string().contains(CANARY));
        }
    }
    assert!(100 < refused && refused < 500, "{refused}");
}
