//! What messages say and how they are built; no sockets.

use std::io::Write as _;
use std::process::{Command, Stdio};

use ece_expiry_exporter::alert::{AlertName, Reason};
use ece_expiry_exporter::config::{SecretSource, Severity, SmtpEncryption};
use ece_expiry_exporter::delivery::Notice;
use ece_expiry_exporter::notify::{Channel, compose};
use expect_test::{Expect, expect};
use mail_parser::{Message, MessageParser};

use super::{
    TimeDelta, credential, email_config, notice, now, origin, platform_notice, webhook_config,
};

const ID: &str = "msg_01JDEXAMPLE00000000000000A";

fn mail(notices: &[Notice]) -> Vec<u8> {
    let config = email_config(25, SmtpEncryption::None);
    compose(Channel::Email(&config), "ops@example.org", ID, notices, &origin(), now()).unwrap()
}

fn payload(notice: &Notice) -> Vec<u8> {
    let config = webhook_config(SecretSource::Env("UNUSED".to_owned()));
    let notices = std::slice::from_ref(notice);
    compose(Channel::Webhook(&config), "", ID, notices, &origin(), now()).unwrap()
}

fn parse(mail: &[u8]) -> Message<'_> {
    MessageParser::default().parse(mail).unwrap()
}

/// The subject and the text form, as a person reads them.
fn check(notices: &[Notice], expected: &Expect) {
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
    check(&[notice], &expect![[r#"
        [ECE prod] CRITICAL: terraform expires in 6 days (2026-11-30)

        CRITICAL - API key "terraform" on ECE platform "prod" expires in 6 days
        (2026-11-30).

          Expires         2026-11-30 00:00 UTC (Mon), in 6d 3h
          Team            platform
          What breaks     Terraform pipelines, the nightly plan
          Last confirmed  Confirmed 2026-11-23 20:55 UTC (Mon), 5m ago (ECE answered
                          200)
          Key id          k1
          Platform        https://ece.example.org:12443
          Labels          tier=1

        What to do
          1. Sign in to the Cloud UI of prod at https://ece.example.org:12443 as the
             owner of the key (the built-in users admin and readonly cannot hold API
             keys).
          2. Profile > Settings > API Keys > Generate API key. Choose a name and an
             expiration (default three months). Copy the key: it is shown once.
          3. Put it where it is used: Vault, kv/ece/terraform
          4. Give it to this exporter too. A RENEWED message follows once the new
             expiry is seen.
          5. Revoke the old key k1 (trash icon in the Revoke column).

        By API
          curl -sS -H "Authorization: ApiKey $OLD_KEY" \
            -H 'Content-Type: application/json' \
            -X POST https://ece.example.org:12443/api/v1/users/auth/keys \
            -d '{"description":"terraform 2026-11","expiration":"90d"}'
          curl -sS -H "Authorization: ApiKey $NEW_KEY" \
            -X DELETE https://ece.example.org:12443/api/v1/users/auth/keys/k1

        Why this mail: less than 7d is left, and for that the policy says critical,
        more urgent than before (ECECredentialExpiring).
        Next reminder: 2026-11-24 21:00 UTC (Tue), if nothing changes.

        -- 
        Sent by ece-expiry-exporter 0.1.0 on mon1.
        All credentials: https://expiry.example.org/
    "#]]);
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
    check(&[notice], &expect![[r#"
        [ECE prod] CRITICAL: terraform EXPIRED 2 days ago (2026-11-21)

        CRITICAL - API key "terraform" on ECE platform "prod" EXPIRED 2 days ago
        (2026-11-21).

          Expires         2026-11-21 19:00 UTC (Sat), 2d 2h ago
          Team            platform
          What breaks     Terraform pipelines, the nightly plan
          Last confirmed  NOT confirmed since 2026-11-21 18:00 UTC (Sat), 2d 3h ago
          Last probe      unauthorized: ECE answered 401: the key is not accepted
          Key id          k1
          Platform        https://ece.example.org:12443
          Labels          tier=1

        What to do
          1. Sign in to the Cloud UI of prod at https://ece.example.org:12443 as the
             owner of the key (the built-in users admin and readonly cannot hold API
             keys).
          2. Profile > Settings > API Keys > Generate API key. Choose a name and an
             expiration (default three months). Copy the key: it is shown once.
          3. Put it where it is used: Vault, kv/ece/terraform
          4. Give it to this exporter too. A RENEWED message follows once the new
             expiry is seen.
          5. Revoke the old key k1 (trash icon in the Revoke column).

        By API
          # The old key cannot do this any more: take another valid key of its owner.
          curl -sS -H "Authorization: ApiKey $OTHER_KEY" \
            -H 'Content-Type: application/json' \
            -X POST https://ece.example.org:12443/api/v1/users/auth/keys \
            -d '{"description":"terraform 2026-11","expiration":"90d"}'
          curl -sS -H "Authorization: ApiKey $NEW_KEY" \
            -X DELETE https://ece.example.org:12443/api/v1/users/auth/keys/k1

        Why this mail: it has expired, reminder 2 (ECECredentialExpired).
        Next reminder: 2026-11-24 21:00 UTC (Tue), if nothing changes.

        -- 
        Sent by ece-expiry-exporter 0.1.0 on mon1.
        All credentials: https://expiry.example.org/
    "#]]);
}

#[test]
fn a_renewal_is_told_with_the_old_and_the_new_date() {
    let mut notice = notice(AlertName::CredentialExpiring, Reason::Renewed, Severity::Critical);
    notice.previous_expiry = credential(&mut notice).expires_at;
    notice.generation = 2;
    credential(&mut notice).expires_at = Some(now() + TimeDelta::days(90));
    check(&[notice], &expect![[r#"
        [ECE prod] OK: terraform RENEWED until 2027-02-21

        OK - API key "terraform" on ECE platform "prod" RENEWED until 2027-02-21.

          Expires         2027-02-21 21:00 UTC (Sun), in 90d
          Expired before  2026-11-30 00:00 UTC (Mon)
          Team            platform
          Used by         Terraform pipelines, the nightly plan
          Last confirmed  Confirmed 2026-11-23 20:55 UTC (Mon), 5m ago (ECE answered
                          200)
          Key id          k1
          Platform        https://ece.example.org:12443
          Labels          tier=1

        What to do
          1. Check that these have the new key: Terraform pipelines, the nightly
             plan.
          2. If the old key still exists, revoke it (Profile > Settings > API Keys,
             trash icon in the Revoke column).

        Why this mail: you were told that it would expire (ECECredentialExpiring).
        No reminder follows.

        -- 
        Sent by ece-expiry-exporter 0.1.0 on mon1.
        All credentials: https://expiry.example.org/
    "#]]);
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
    check(&[never, later, soon], &expect![[r#"
        [ECE prod] CRITICAL: 3 credentials need attention

        CRITICAL  prod/backup expires in 1 hour (2026-11-23) [platform]
        WARNING   prod/terraform expires in 6 days (2026-11-30) [platform]
        INFO      prod/old-ci NEVER EXPIRES [platform]

        ============================================================================

        CRITICAL - API key "backup" on ECE platform "prod" expires in 1 hour
        (2026-11-23).

          Expires         2026-11-23 22:30 UTC (Mon), in 1h 30m
          Team            platform
          What breaks     Terraform pipelines, the nightly plan
          Last confirmed  Confirmed 2026-11-23 20:55 UTC (Mon), 5m ago (ECE answered
                          200)
          Key id          k1
          Platform        https://ece.example.org:12443
          Labels          tier=1

        What to do
          1. Sign in to the Cloud UI of prod at https://ece.example.org:12443 as the
             owner of the key (the built-in users admin and readonly cannot hold API
             keys).
          2. Profile > Settings > API Keys > Generate API key. Choose a name and an
             expiration (default three months). Copy the key: it is shown once.
          3. Put it where it is used: Vault, kv/ece/terraform
          4. Give it to this exporter too. A RENEWED message follows once the new
             expiry is seen.
          5. Revoke the old key k1 (trash icon in the Revoke column).

        By API
          curl -sS -H "Authorization: ApiKey $OLD_KEY" \
            -H 'Content-Type: application/json' \
            -X POST https://ece.example.org:12443/api/v1/users/auth/keys \
            -d '{"description":"backup 2026-11","expiration":"90d"}'
          curl -sS -H "Authorization: ApiKey $NEW_KEY" \
            -X DELETE https://ece.example.org:12443/api/v1/users/auth/keys/k1

        Why this mail: less than 7d is left, and for that the policy says critical
        (ECECredentialExpiring).
        Next reminder: 2026-11-24 21:00 UTC (Tue), if nothing changes.

        ============================================================================

        WARNING - API key "terraform" on ECE platform "prod" expires in 6 days
        (2026-11-30).

          Expires         2026-11-30 00:00 UTC (Mon), in 6d 3h
          Team            platform
          What breaks     Terraform pipelines, the nightly plan
          Last confirmed  Confirmed 2026-11-23 20:55 UTC (Mon), 5m ago (ECE answered
                          200)
          Key id          k1
          Platform        https://ece.example.org:12443
          Labels          tier=1

        What to do
          1. Sign in to the Cloud UI of prod at https://ece.example.org:12443 as the
             owner of the key (the built-in users admin and readonly cannot hold API
             keys).
          2. Profile > Settings > API Keys > Generate API key. Choose a name and an
             expiration (default three months). Copy the key: it is shown once.
          3. Put it where it is used: Vault, kv/ece/terraform
          4. Give it to this exporter too. A RENEWED message follows once the new
             expiry is seen.
          5. Revoke the old key k1 (trash icon in the Revoke column).

        By API
          curl -sS -H "Authorization: ApiKey $OLD_KEY" \
            -H 'Content-Type: application/json' \
            -X POST https://ece.example.org:12443/api/v1/users/auth/keys \
            -d '{"description":"terraform 2026-11","expiration":"90d"}'
          curl -sS -H "Authorization: ApiKey $NEW_KEY" \
            -X DELETE https://ece.example.org:12443/api/v1/users/auth/keys/k1

        Why this mail: less than 7d is left, and for that the policy says warning
        (ECECredentialExpiring).
        Next reminder: 2026-11-24 21:00 UTC (Tue), if nothing changes.

        ============================================================================

        INFO - API key "old-ci" on ECE platform "prod" NEVER EXPIRES.

          Expires         never
          Team            platform
          What breaks     Terraform pipelines, the nightly plan
          Last confirmed  Confirmed 2026-11-23 20:55 UTC (Mon), 5m ago (ECE answered
                          200)
          Key id          k1
          Platform        https://ece.example.org:12443
          Labels          tier=1

        What to do
          1. Decide whether it may live forever: a key that leaks and never expires
             stays valid until somebody revokes it. If it may, set
             policy.never_expires: ignore for it. If not, replace it:
          2. Sign in to the Cloud UI of prod at https://ece.example.org:12443 as the
             owner of the key (the built-in users admin and readonly cannot hold API
             keys).
          3. Profile > Settings > API Keys > Generate API key. Choose a name and an
             expiration (default three months). Copy the key: it is shown once.
          4. Put it where it is used: Vault, kv/ece/terraform
          5. Give it to this exporter too. A RENEWED message follows once the new
             expiry is seen.
          6. Revoke the old key k1 (trash icon in the Revoke column).

        By API
          curl -sS -H "Authorization: ApiKey $OLD_KEY" \
            -H 'Content-Type: application/json' \
            -X POST https://ece.example.org:12443/api/v1/users/auth/keys \
            -d '{"description":"old-ci 2026-11","expiration":"90d"}'
          curl -sS -H "Authorization: ApiKey $NEW_KEY" \
            -X DELETE https://ece.example.org:12443/api/v1/users/auth/keys/k1

        Why this mail: the policy reports keys without an expiry
        (ECECredentialNeverExpires).
        No reminder follows while nothing changes.

        -- 
        Sent by ece-expiry-exporter 0.1.0 on mon1.
        All credentials: https://expiry.example.org/
    "#]]);
}

#[test]
fn an_unreachable_platform_is_told_without_a_credential() {
    check(&[platform_notice(AlertName::PlatformUnreachable, Reason::New)], &expect![[r#"
        [ECE prod] WARNING: platform is UNREACHABLE

        WARNING - ECE platform "prod" is UNREACHABLE.

          Since           2026-11-22 21:00 UTC (Sun), 1d ago
          Last success    2026-11-23 19:00 UTC (Mon), 2h ago
          Last probe      connect: no connection to ece.example.org:12443:
                          connection refused
          Platform        https://ece.example.org:12443

        What to do
          1. From the exporter's machine try: curl -v
             https://ece.example.org:12443/api/v1/user
          2. 401 there means that the network is fine and the exporter's proxy or
             TLS settings are not. No answer: look at DNS, firewall, load balancer
             and the coordinators.
          3. Expiries that are already known are still announced in time; new ones
             and renewals are not seen until ECE answers.

        Why this mail: every credential of the platform failed to get an answer
        (ECEPlatformUnreachable).
        Next reminder: 2026-11-24 21:00 UTC (Tue), if nothing changes.

        -- 
        Sent by ece-expiry-exporter 0.1.0 on mon1.
        All credentials: https://expiry.example.org/
    "#]]);
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
            subjects.push_str(&format!("{label:<40} {}\n", parse(&bytes).subject().unwrap()));
        }
    }
    expect![[r#"
        ECECredentialExpiring new                [ECE prod] WARNING: terraform expires in 6 days (2026-11-30)
        ECECredentialExpiring escalated          [ECE prod] WARNING: terraform expires in 6 days (2026-11-30)
        ECECredentialExpiring repeat             [ECE prod] WARNING: terraform expires in 6 days (2026-11-30)
        ECECredentialExpiring renewed            [ECE prod] OK: terraform RENEWED until 2026-11-30
        ECECredentialExpiring recovered          [ECE prod] OK: terraform RECOVERED, it no longer needs renewal, it expires 2026-11-30
        ECECredentialExpiring removed            [ECE prod] INFO: terraform REMOVED from the configuration, it is no longer watched
        ECECredentialExpiring test               [ECE prod] TEST: terraform is used for a test message, there is nothing to do
        ECECredentialExpired new                 [ECE prod] WARNING: terraform expires in 6 days (2026-11-30)
        ECECredentialExpired escalated           [ECE prod] WARNING: terraform expires in 6 days (2026-11-30)
        ECECredentialExpired repeat              [ECE prod] WARNING: terraform expires in 6 days (2026-11-30)
        ECECredentialExpired renewed             [ECE prod] OK: terraform RENEWED until 2026-11-30
        ECECredentialExpired recovered           [ECE prod] OK: terraform RECOVERED, it no longer needs renewal, it expires 2026-11-30
        ECECredentialExpired removed             [ECE prod] INFO: terraform REMOVED from the configuration, it is no longer watched
        ECECredentialExpired test                [ECE prod] TEST: terraform is used for a test message, there is nothing to do
        ECECredentialRejected new                [ECE prod] WARNING: terraform REJECTED (401)
        ECECredentialRejected escalated          [ECE prod] WARNING: terraform REJECTED (401)
        ECECredentialRejected repeat             [ECE prod] WARNING: terraform REJECTED (401)
        ECECredentialRejected renewed            [ECE prod] OK: terraform RENEWED until 2026-11-30
        ECECredentialRejected recovered          [ECE prod] OK: terraform RECOVERED, ECE accepts it again, it expires 2026-11-30
        ECECredentialRejected removed            [ECE prod] INFO: terraform REMOVED from the configuration, it is no longer watched
        ECECredentialRejected test               [ECE prod] TEST: terraform is used for a test message, there is nothing to do
        ECECredentialForbidden new               [ECE prod] WARNING: terraform FORBIDDEN (403)
        ECECredentialForbidden escalated         [ECE prod] WARNING: terraform FORBIDDEN (403)
        ECECredentialForbidden repeat            [ECE prod] WARNING: terraform FORBIDDEN (403)
        ECECredentialForbidden renewed           [ECE prod] OK: terraform RENEWED until 2026-11-30
        ECECredentialForbidden recovered         [ECE prod] OK: terraform RECOVERED, it has its rights again, it expires 2026-11-30
        ECECredentialForbidden removed           [ECE prod] INFO: terraform REMOVED from the configuration, it is no longer watched
        ECECredentialForbidden test              [ECE prod] TEST: terraform is used for a test message, there is nothing to do
        ECECredentialExpiryUnknown new           [ECE prod] WARNING: terraform has an UNKNOWN expiry
        ECECredentialExpiryUnknown escalated     [ECE prod] WARNING: terraform has an UNKNOWN expiry
        ECECredentialExpiryUnknown repeat        [ECE prod] WARNING: terraform has an UNKNOWN expiry
        ECECredentialExpiryUnknown renewed       [ECE prod] OK: terraform RENEWED until 2026-11-30
        ECECredentialExpiryUnknown recovered     [ECE prod] OK: terraform RECOVERED, its expiry is known again, it expires 2026-11-30
        ECECredentialExpiryUnknown removed       [ECE prod] INFO: terraform REMOVED from the configuration, it is no longer watched
        ECECredentialExpiryUnknown test          [ECE prod] TEST: terraform is used for a test message, there is nothing to do
        ECECredentialNeverExpires new            [ECE prod] WARNING: terraform NEVER EXPIRES
        ECECredentialNeverExpires escalated      [ECE prod] WARNING: terraform NEVER EXPIRES
        ECECredentialNeverExpires repeat         [ECE prod] WARNING: terraform NEVER EXPIRES
        ECECredentialNeverExpires renewed        [ECE prod] OK: terraform RENEWED until 2026-11-30
        ECECredentialNeverExpires recovered      [ECE prod] OK: terraform RECOVERED, it now has an expiry, it expires 2026-11-30
        ECECredentialNeverExpires removed        [ECE prod] INFO: terraform REMOVED from the configuration, it is no longer watched
        ECECredentialNeverExpires test           [ECE prod] TEST: terraform is used for a test message, there is nothing to do
        ECEPlatformUnreachable new               [ECE prod] WARNING: platform is UNREACHABLE
        ECEPlatformUnreachable escalated         [ECE prod] WARNING: platform is UNREACHABLE
        ECEPlatformUnreachable repeat            [ECE prod] WARNING: platform is UNREACHABLE
        ECEPlatformUnreachable renewed           [ECE prod] OK: platform RENEWED, it does not expire any more
        ECEPlatformUnreachable recovered         [ECE prod] OK: platform RECOVERED, it answers again
        ECEPlatformUnreachable removed           [ECE prod] INFO: platform REMOVED from the configuration, it is no longer watched
        ECEPlatformUnreachable test              [ECE prod] TEST: platform is used for a test message, there is nothing to do
        ECEPlatformClockSkew new                 [ECE prod] WARNING: platform has a clock 7 minutes ahead of ours
        ECEPlatformClockSkew escalated           [ECE prod] WARNING: platform has a clock 7 minutes ahead of ours
        ECEPlatformClockSkew repeat              [ECE prod] WARNING: platform has a clock 7 minutes ahead of ours
        ECEPlatformClockSkew renewed             [ECE prod] OK: platform RENEWED, it does not expire any more
        ECEPlatformClockSkew recovered           [ECE prod] OK: platform RECOVERED, the clocks agree again
        ECEPlatformClockSkew removed             [ECE prod] INFO: platform REMOVED from the configuration, it is no longer watched
        ECEPlatformClockSkew test                [ECE prod] TEST: platform is used for a test message, there is nothing to do
    "#]].assert_eq(&subjects);
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
    let error =
        compose(Channel::Email(&config), "ops@example.org", ID, &[notice], &origin(), now())
            .unwrap_err();
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
    bare.probe = Default::default();
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
    expect![[r#"
        {
          "data": {
            "alert": {
              "dashboard_url": null,
              "description": "ECE credential terraform on prod expires in 6 days (2026-11-30). Team: platform. Expiry: 2026-11-30 00:00 UTC (Mon). Used by: Terraform pipelines, the nightly plan. Confirmed 2026-11-23 20:55 UTC (Mon), 5m ago (ECE answered 200).",
              "ends_at": null,
              "fingerprint": "33c72d0329d35baa",
              "labels": {
                "alertname": "ECECredentialExpiring",
                "credential": "terraform",
                "kind": "api_key",
                "platform": "prod",
                "severity": "critical",
                "team": "platform",
                "tier": "1"
              },
              "name": "ECECredentialExpiring",
              "reason": "escalated",
              "repeat": 0,
              "runbook_url": null,
              "starts_at": "2026-11-22T21:00:00Z",
              "summary": "ECE credential terraform on prod expires in 6 days (2026-11-30)."
            },
            "credential": {
              "key_id": "k1",
              "kind": "api_key",
              "labels": {
                "tier": "1"
              },
              "name": "terraform",
              "team": "platform",
              "used_by": [
                "Terraform pipelines",
                "the nightly plan"
              ]
            },
            "expiry": {
              "expires_at": "2026-11-30T00:00:00Z",
              "observed_at": "2026-11-23T20:55:00Z",
              "previous_expires_at": null,
              "remaining_days": 6.1,
              "remaining_seconds": 529200,
              "state": "dated",
              "threshold_seconds": 604800
            },
            "platform": {
              "name": "prod",
              "url": "https://ece.example.org:12443"
            },
            "probe": {
              "error": null,
              "failure_reason": null,
              "http_status": 200,
              "last_run_at": "2026-11-23T20:55:00Z",
              "last_success_at": "2026-11-23T20:55:00Z",
              "success": true
            },
            "renewal": {
              "api": [
                "POST /api/v1/users/auth/keys",
                "DELETE /api/v1/users/auth/keys/k1"
              ],
              "ui_steps": [
                "Sign in to the Cloud UI of prod at https://ece.example.org:12443 as the owner of the key (the built-in users admin and readonly cannot hold API keys).",
                "Profile > Settings > API Keys > Generate API key. Choose a name and an expiration (default three months). Copy the key: it is shown once.",
                "Put it where it is used: Vault, kv/ece/terraform",
                "Give it to this exporter too. A RENEWED message follows once the new expiry is seen.",
                "Revoke the old key k1 (trash icon in the Revoke column)."
              ]
            }
          },
          "id": "msg_01JDEXAMPLE00000000000000A",
          "severity": "critical",
          "source": {
            "instance": "mon1",
            "name": "ece-expiry-exporter",
            "url": "https://expiry.example.org",
            "version": "0.1.0"
          },
          "status": "firing",
          "timestamp": "2026-11-23T21:00:00Z",
          "type": "credential.expiring",
          "version": "1"
        }"#]].assert_eq(&format!("{payload:#}"));
}

#[test]
fn a_webhook_carries_exactly_one_notice() {
    let config = webhook_config(SecretSource::Env("UNUSED".to_owned()));
    let notice = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    for notices in [vec![], vec![notice.clone(), notice]] {
        let result = compose(Channel::Webhook(&config), "", ID, &notices, &origin(), now());
        assert!(result.is_err(), "{}", notices.len());
    }
}
