//! What messages say and how they are built; no sockets.

use std::io::Write as _;
use std::process::{Command, Stdio};

use ece_expiry_exporter::alert::{AlertName, Reason};
use ece_expiry_exporter::config::{SecretSource, Severity, SmtpEncryption};
use ece_expiry_exporter::delivery::{Notice, NoticeProbe};
use ece_expiry_exporter::notify::{Channel, Origin, compose};
use expect_test::{ExpectFile, expect_file};
use mail_parser::{Message, MessageParser};

use super::{
    TimeDelta, credential, draft, email_config, notice, now, origin, platform_notice,
    webhook_config,
};

const ID: &str = "msg_01JDEXAMPLE00000000000000A";

fn mail(notices: &[Notice]) -> Vec<u8> {
    let config = email_config(25, SmtpEncryption::None);
    compose(Channel::Email(&config), &draft(ID, notices, &origin())).unwrap()
}

fn payload(notice: &Notice) -> Vec<u8> {
    let config = webhook_config(SecretSource::Env("UNUSED".to_owned()));
    let notices = std::slice::from_ref(notice);
    compose(Channel::Webhook(&config), &draft(ID, notices, &origin())).unwrap()
}

fn parse(mail: &[u8]) -> Message<'_> {
    MessageParser::default().parse(mail).unwrap()
}

/// The subject and the text form, as a person reads them.
fn check(notices: &[Notice], expected: &ExpectFile) {
    let bytes = mail(notices);
    let message = parse(&bytes);
    let text = message.body_text(0).unwrap().replace("\r\n", "\n");
    expected.assert_eq(&format!("{}\n\n{text}", message.subject().unwrap()));
    for line in text.lines().filter(|it| !it.contains("http")) {
        assert!(line.chars().count() <= 76, "too long: {line}");
    }
}

#[test]
fn an_expiring_credential_is_told_with_what_to_do() {
    let notice = notice(AlertName::CredentialExpiring, Reason::Escalated, Severity::Critical);
    check(&[notice], &expect_file!["golden/expiring.txt"]);
}

#[test]
fn an_expired_credential_is_told_with_how_fresh_that_is() {
    let mut notice = notice(AlertName::CredentialExpired, Reason::Repeat, Severity::Critical);
    notice.repeat = 2;
    credential(&mut notice).expires_at = Some(now() - TimeDelta::hours(50));
    credential(&mut notice).observed_at = Some(now() - TimeDelta::hours(51));
    notice.probe.success = false;
    notice.probe.http_status = Some(401);
    notice.probe.failure_reason = Some("unauthorized".to_owned());
    notice.probe.error = Some("ECE answered 401: the key is not accepted.".to_owned());
    check(&[notice], &expect_file!["golden/expired.txt"]);
}

#[test]
fn a_renewal_is_told_with_the_old_and_the_new_date() {
    let mut notice = notice(AlertName::CredentialExpiring, Reason::Renewed, Severity::Critical);
    notice.previous_expiry = credential(&mut notice).expires_at;
    notice.generation = 2;
    credential(&mut notice).expires_at = Some(now() + TimeDelta::days(90));
    check(&[notice], &expect_file!["golden/renewed.txt"]);
}

#[test]
fn a_group_is_one_mail_with_the_worst_first() {
    let mut soon = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    credential(&mut soon).name = "backup".to_owned();
    credential(&mut soon).expires_at = Some(now() + TimeDelta::minutes(90));
    let later = notice(AlertName::CredentialExpiring, Reason::New, Severity::Warning);
    let mut never = notice(AlertName::CredentialNeverExpires, Reason::New, Severity::Info);
    credential(&mut never).name = "old-ci".to_owned();
    credential(&mut never).expiry_state = "never".to_owned();
    credential(&mut never).expires_at = None;
    never.next_repeat = None;
    check(&[never, later, soon], &expect_file!["golden/group.txt"]);
}

#[test]
fn an_unreachable_platform_is_told_without_a_credential() {
    check(
        &[platform_notice(AlertName::PlatformUnreachable, Reason::New)],
        &expect_file!["golden/unreachable.txt"],
    );
}

#[test]
fn every_subject_begins_with_platform_and_severity() {
    let mut subjects = String::new();
    for alert in AlertName::ALL {
        for reason in Reason::ALL {
            let about_platform =
                matches!(alert, AlertName::PlatformUnreachable | AlertName::PlatformClockSkew);
            let notice = if about_platform {
                platform_notice(alert, reason)
            } else {
                notice(alert, reason, Severity::Warning)
            };
            let bytes = mail(&[notice]);
            let label = format!("{} {}", alert.label(), reason.label());
            subjects += &label;
            subjects += &" ".repeat(41 - label.len());
            subjects += parse(&bytes).subject().unwrap();
            subjects += "\n";
        }
    }
    expect_file!["golden/subjects.txt"].assert_eq(&subjects);
}

#[test]
fn a_group_counts_what_needs_attention_and_what_is_over() {
    let subject = |notices: &[Notice]| parse(&mail(notices)).subject().unwrap().to_owned();
    let expiring = notice(AlertName::CredentialExpiring, Reason::New, Severity::Warning);
    let recovered = notice(AlertName::CredentialForbidden, Reason::Recovered, Severity::Critical);
    let mut elsewhere = expiring.clone();
    elsewhere.platform = "test".to_owned();
    assert_eq!(
        subject(&[recovered.clone(), expiring.clone()]),
        "[ECE prod] WARNING: 1 credential needs attention, 1 resolved"
    );
    assert_eq!(subject(&[recovered.clone(), recovered]), "[ECE prod] OK: 2 credentials resolved");
    assert_eq!(
        subject(&[expiring.clone(), elsewhere]),
        "[ECE] WARNING: 2 credentials need attention"
    );
    let platform = platform_notice(AlertName::PlatformUnreachable, Reason::New);
    assert_eq!(subject(&[platform, expiring]), "[ECE prod] WARNING: 2 alerts need attention");
}

#[test]
fn a_group_of_a_thousand_stays_a_mail_of_bounded_size() {
    let one = notice(AlertName::CredentialExpiring, Reason::New, Severity::Warning);
    let bytes = mail(&vec![one; 1_000]);
    let message = parse(&bytes);
    assert_eq!(message.subject(), Some("[ECE prod] WARNING: 1000 credentials need attention"));
    let text = message.body_text(0).unwrap().into_owned();
    assert!(text.contains("… and 800 more."), "{text}");
    assert!(text.contains("980 more are in the list above only"), "{text}");
    assert!(bytes.len() < 200_000, "{}", bytes.len());
}

#[test]
fn headers_serve_threads_filters_and_auto_responders() {
    let critical = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    let bytes = mail(std::slice::from_ref(&critical));
    let message = parse(&bytes);
    let header = |name: &str| message.header_raw(name.to_owned()).map(|it| it.trim().to_owned());
    let host = "expiry.example.org";
    assert_eq!(header("Message-ID"), Some(format!("<{ID}@{host}>")));
    assert_eq!(header("Date").as_deref(), Some("Mon, 23 Nov 2026 21:00:00 +0000"));
    assert_eq!(header("Auto-Submitted").as_deref(), Some("auto-generated"));
    assert_eq!(header("X-Auto-Response-Suppress").as_deref(), Some("All"));
    assert_eq!(header("List-Id"), Some(format!("ECE credential expiry <ece-expiry.{host}>")));
    assert_eq!(header("X-ECE-Expiry-Severity").as_deref(), Some("critical"));
    assert_eq!(header("X-ECE-Expiry-Status").as_deref(), Some("firing"));
    assert_eq!(header("X-ECE-Expiry-Platform").as_deref(), Some("prod"));
    assert_eq!(header("X-ECE-Expiry-Credential").as_deref(), Some("terraform"));
    assert_eq!(header("X-ECE-Expiry-Event").as_deref(), Some(ID));
    assert_eq!(header("Importance").as_deref(), Some("high"));
    assert_eq!(header("X-Priority").as_deref(), Some("1"));
    assert_eq!(header("Precedence"), None);
    assert_eq!(header("In-Reply-To"), header("References"));
    assert!(header("References").unwrap().ends_with(&format!("@{host}>")));
    assert_eq!((message.text_body_count(), message.attachment_count()), (1, 0));
    let html = message.body_html(0).unwrap();
    assert!(html.contains("expires in 6 days (2026-11-30)"), "{html}");
    assert!(!html.contains("<img") && !html.contains("<link") && !html.contains("<script"));

    let warning = notice(AlertName::CredentialExpiring, Reason::New, Severity::Warning);
    let bytes = mail(&[warning]);
    assert_eq!(parse(&bytes).header_raw("Importance"), None);
}

#[test]
fn a_renewal_answers_in_the_thread_of_its_alert_and_the_next_life_starts_another() {
    let thread = |notice: &Notice| {
        let bytes = mail(std::slice::from_ref(notice));
        parse(&bytes).header_raw("References").unwrap().trim().to_owned()
    };
    let expiring = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    let mut renewed = notice(AlertName::CredentialExpiring, Reason::Renewed, Severity::Critical);
    renewed.previous_expiry = credential(&mut renewed).expires_at;
    credential(&mut renewed).expires_at = Some(now() + TimeDelta::days(90));
    let next = Notice { previous_expiry: None, ..renewed.clone() };
    assert_eq!(thread(&expiring), thread(&renewed));
    assert_ne!(thread(&renewed), thread(&next));
}

#[test]
fn the_bytes_depend_on_the_arguments_alone() {
    let notice = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    assert_eq!(mail(std::slice::from_ref(&notice)), mail(std::slice::from_ref(&notice)));
    assert_eq!(payload(&notice), payload(&notice));
}

#[test]
fn names_cannot_inject_headers_lines_or_markup() {
    let long = "ü".repeat(64);
    for name in ["a\r\nBcc: eve@example.org\r\n\r\nx", "<script>alert(1)</script>", "🔑🔥", &long]
    {
        let mut notice = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
        credential(&mut notice).name = name.to_owned();
        credential(&mut notice).team = Some(name.to_owned());
        credential(&mut notice).renewal_note = Some(name.to_owned());
        credential(&mut notice).used_by = vec![name.to_owned()];
        notice.platform = name.to_owned();
        let bytes = mail(&[notice]);
        let message = parse(&bytes);
        assert!(message.bcc().is_none(), "{name:?}");
        let head = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..head]).unwrap();
        assert!(head.is_ascii(), "{head}");
        assert!(head.lines().all(|it| it.len() <= 998), "{head}");
        let clean = name.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            message.subject().unwrap(),
            format!("[ECE {clean}] CRITICAL: {clean} expires in 6 days (2026-11-30)")
        );
        let text = message.body_text(0).unwrap();
        assert!(text.lines().all(|it| !it.starts_with("Bcc")), "{text}");
        let html = message.body_html(0).unwrap();
        assert!(!html.contains("<script"), "{html}");
        if name.starts_with('<') {
            assert!(html.contains("&lt;script&gt;"), "{html}");
        }
    }
}

#[test]
fn the_advice_fits_the_kind_of_the_credential() {
    for (kind, wanted) in [("bearer_token", "Log in to ECE"), ("login", "unlock the account")] {
        for alert in [
            AlertName::CredentialExpiring,
            AlertName::CredentialExpired,
            AlertName::CredentialRejected,
            AlertName::CredentialForbidden,
            AlertName::CredentialExpiryUnknown,
        ] {
            for reason in [Reason::New, Reason::Renewed] {
                let mut notice = notice(alert, reason, Severity::Critical);
                credential(&mut notice).kind = kind.to_owned();
                let mail = mail(&[notice.clone()]);
                let text = parse(&mail).body_text(0).unwrap().into_owned();
                let payload = String::from_utf8(payload(&notice)).unwrap();
                for word in ["API Keys", "API key", "Revoke", "curl", "/auth/keys"] {
                    assert!(!text.contains(word), "{kind} {alert:?} {word}: {text}");
                    assert!(!payload.contains(word), "{kind} {alert:?} {word}: {payload}");
                }
                if alert == AlertName::CredentialRejected && reason == Reason::New {
                    assert!(text.contains(wanted), "{text}");
                }
            }
        }
    }
}

/// The paragraphs of commands in a mail about this notice, each with its title.
fn blocks(notice: &Notice) -> Vec<String> {
    let bytes = mail(std::slice::from_ref(notice));
    let text = parse(&bytes).body_text(0).unwrap().replace("\r\n", "\n");
    let paragraphs = text.split("\n\n").filter(|it| it.contains("\n  curl "));
    paragraphs.map(ToOwned::to_owned).collect()
}

#[test]
fn the_old_key_is_not_deleted_by_the_paste_that_makes_the_new_one() {
    let mut notice = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    let found = blocks(&notice);
    let [make, check, delete] = &found[..] else { panic!("{found:?}") };
    assert!(make.contains("-X POST") && !make.contains("DELETE"), "{make}");
    assert!(check.contains("this prints 200") && check.contains("$NEW_KEY"), "{check}");
    assert!(
        delete.contains("-X DELETE") && delete.contains("nothing uses the old key"),
        "{delete}"
    );
    for block in &found {
        assert!(block.contains("--cacert /etc/ece-expiry-exporter/ece-ca.pem"), "{block}");
    }
    notice.ca_file = Some("/etc/$(id)/x y".to_owned());
    assert!(blocks(&notice)[0].contains("--cacert \"$CA_FILE\""), "{:?}", blocks(&notice));
    notice.ca_file = None;
    assert!(blocks(&notice)[0].contains("# If curl does not trust the certificate, add: --cacert"));
    notice.platform_url = "http://ece:12400".to_owned();
    assert!(!blocks(&notice).concat().contains("cacert"), "{:?}", blocks(&notice));
}

#[test]
fn a_mail_says_where_this_exporter_reads_the_secret() {
    for (kind, source, words) in [
        (
            "api_key",
            Some("file /x/key"),
            "exporter too, which reads the file /x/key at each probe.",
        ),
        ("bearer_token", Some("file /x/key"), "exporter too, which reads the file /x/key at each"),
        ("login", Some("file /x/key"), "exporter too, which reads the file /x/key at each probe."),
        (
            "api_key",
            Some("environment variable K"),
            "reads the environment variable K when it starts",
        ),
        ("api_key", None, "Give it to this exporter too. A RENEWED"),
    ] {
        let mut notice = notice(AlertName::CredentialRejected, Reason::New, Severity::Critical);
        credential(&mut notice).kind = kind.to_owned();
        credential(&mut notice).secret_source = source.map(ToOwned::to_owned);
        let bytes = mail(&[notice]);
        let text = parse(&bytes).body_text(0).unwrap().into_owned();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
}

#[test]
fn a_mail_without_links_says_how_to_get_them() {
    let notice = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    let config = email_config(25, SmtpEncryption::None);
    for (external_url, hint) in [(None, true), (origin().external_url, false)] {
        let origin = Origin { external_url, ..origin() };
        let notices = std::slice::from_ref(&notice);
        let bytes = compose(Channel::Email(&config), &draft(ID, notices, &origin));
        let bytes = bytes.unwrap();
        let message = parse(&bytes);
        let words = "set global.external_url to where";
        assert_eq!(message.body_text(0).unwrap().contains(words), hint);
        assert_eq!(message.body_html(0).unwrap().contains(words), hint);
        assert_ne!(message.body_text(0).unwrap().contains("Runbook: https"), hint);
    }
}

#[test]
fn a_key_of_elastic_cloud_is_renewed_in_its_console() {
    for alert in [
        AlertName::CredentialExpiring,
        AlertName::CredentialExpired,
        AlertName::CredentialRejected,
        AlertName::CredentialExpiryUnknown,
    ] {
        let mut notice = notice(alert, Reason::New, Severity::Critical);
        notice.flavor = "ech".to_owned();
        notice.platform_url = "https://api.elastic-cloud.com".to_owned();
        notice.ca_file = None;
        let bytes = mail(&[notice.clone()]);
        let text = parse(&bytes).body_text(0).unwrap().into_owned();
        assert!(text.contains("Organization > API keys"), "{text}");
        let of_ece = ["Profile > Settings", "Cloud UI", "--cacert", "/api/v1/user\n"];
        assert!(!of_ece.iter().any(|it| text.contains(it)), "{text}");
    }
}

#[test]
fn a_key_whose_owner_was_deleted_is_not_said_to_have_met_a_401() {
    let mut notice = notice(AlertName::CredentialRejected, Reason::New, Severity::Critical);
    notice.probe.http_status = Some(404);
    let bytes = mail(&[notice]);
    let subject = parse(&bytes).subject().unwrap().to_owned();
    assert!(subject.ends_with("REJECTED (404, its owner was deleted)"), "{subject}");
}

#[test]
fn who_is_told_to_probe_a_login_is_told_that_it_counts() {
    let text = |kind: &str| {
        let mut notice = notice(AlertName::CredentialExpiryUnknown, Reason::New, Severity::Warning);
        credential(&mut notice).kind = kind.to_owned();
        let bytes = mail(&[notice]);
        let text = parse(&bytes).body_text(0).unwrap().into_owned();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let words =
        "probe prod/terraform (one attempt to log in: a refused one counts towards the lock";
    assert!(text("login").contains(words), "{}", text("login"));
    assert!(!text("api_key").contains("lock of the account"));
}

#[test]
fn commands_to_paste_hold_no_shell_syntax_of_names() {
    let mut notice = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    credential(&mut notice).name = "x'; touch /tmp/pwned; echo '".to_owned();
    credential(&mut notice).key_id = Some("$(id)".to_owned());
    let bytes = mail(&[notice]);
    let message = parse(&bytes);
    let text = message.body_text(0).unwrap();
    let commands = text.split("By API").nth(1).unwrap().split("Why this mail").next().unwrap();
    assert!(commands.contains("x---touch--tmp-pwned--echo--"), "{commands}");
    assert!(!commands.contains("$("), "{commands}");
}

#[test]
fn a_word_from_a_newer_version_is_an_error_not_a_wrong_message() {
    let mut notice = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    notice.alert = "ECELicenceExpiring".to_owned();
    let config = email_config(25, SmtpEncryption::None);
    let error = compose(Channel::Email(&config), &draft(ID, &[notice], &origin())).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error:#}");
}

/// All 56 combinations, also those that the monitor never makes, plus the extremes of each field.
#[test]
fn every_payload_keeps_the_contract() {
    let mut payloads = Vec::new();
    for alert in AlertName::ALL {
        for reason in Reason::ALL {
            for severity in Severity::ALL {
                payloads.push(payload(&notice(alert, reason, severity)));
            }
            payloads.push(payload(&platform_notice(alert, reason)));
        }
    }
    let mut bare = notice(AlertName::CredentialExpiryUnknown, Reason::New, Severity::Warning);
    bare.probe = NoticeProbe::default();
    bare.next_repeat = None;
    let empty = credential(&mut bare);
    (empty.key_id, empty.team, empty.renewal_note) = (None, None, None);
    (empty.expires_at, empty.observed_at) = (None, None);
    empty.used_by.clear();
    empty.labels.clear();
    for state in ["never", "not_reported", "unparsable", "unknown"] {
        credential(&mut bare).expiry_state = state.to_owned();
        payloads.push(payload(&bare));
    }
    let mut huge = notice(AlertName::CredentialExpired, Reason::Repeat, Severity::Critical);
    huge.probe.success = false;
    huge.probe.error = Some("é\n".repeat(4_000));
    credential(&mut huge).name = "\"\\\u{0}🔑".repeat(18);
    credential(&mut huge).used_by = vec!["ü".repeat(300); 100];
    credential(&mut huge).expires_at = Some(now() - TimeDelta::days(30_000));
    payloads.push(payload(&huge));

    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let mut check = Command::new("/usr/bin/python3")
        .args([format!("{here}/schema_check.py"), format!("{here}/webhook-v1.schema.json")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs /usr/bin/python3 with python3-jsonschema");
    let mut stdin = check.stdin.take().unwrap();
    for payload in &payloads {
        assert!(payload.len() < 20_000, "{}", payload.len());
        stdin.write_all(payload).unwrap();
        stdin.write_all(b"\n").unwrap();
    }
    drop(stdin);
    let result = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&result.stdout);
    assert!(result.status.success(), "{said}{}", String::from_utf8_lossy(&result.stderr));
    assert!(said.contains(&format!("checked {}", payloads.len())), "{said}");
}

#[test]
fn a_payload_says_what_happened() {
    let notice = notice(AlertName::CredentialExpiring, Reason::Escalated, Severity::Critical);
    let payload: serde_json::Value = serde_json::from_slice(&payload(&notice)).unwrap();
    expect_file!["golden/payload.json"].assert_eq(&format!("{payload:#}\n"));
}

#[test]
fn a_webhook_carries_exactly_one_notice() {
    let config = webhook_config(SecretSource::Env("UNUSED".to_owned()));
    let notice = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    for notices in [vec![], vec![notice.clone(), notice]] {
        let result = compose(Channel::Webhook(&config), &draft(ID, &notices, &origin()));
        assert!(result.is_err(), "{}", notices.len());
    }
}
