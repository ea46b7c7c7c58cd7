//! Messages: what they say, their formats, and sending them to real servers.

mod compose;
mod formats;
mod hook;
mod hook_formats;
mod mail;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::alert::{AlertName, Reason};
use ece_expiry_exporter::config::{
    Config, EmailConfig, Global, Receiver, SecretSource, Severity, SmtpEncryption, TlsConfig,
    WebhookConfig, WebhookFormat,
};
use ece_expiry_exporter::delivery::{
    Integration, Notice, NoticeCredential, NoticeProbe, Parcel, Target,
};
use ece_expiry_exporter::notify::{Draft, Origin};

fn now() -> DateTime<Utc> {
    "2026-11-23T21:00:00Z".parse().unwrap()
}

fn origin() -> Origin {
    Origin {
        version: "0.1.0",
        instance: "mon1".to_owned(),
        external_url: Some("https://expiry.example.org".to_owned()),
        own_key: None,
    }
}

fn draft<'a>(id: &'a str, notices: &'a [Notice], origin: &'a Origin) -> Draft<'a> {
    Draft {
        id,
        receiver: "r",
        recipient: "ops@example.org",
        group_key: "",
        notices,
        origin,
        now: now(),
    }
}

/// `terraform` on `prod`, expiring in 6 days and 3 hours, probed five minutes ago.
fn notice(alert: AlertName, reason: Reason, severity: Severity) -> Notice {
    let observed_at = now() - TimeDelta::minutes(5);
    Notice {
        alert: alert.label().to_owned(),
        reason: reason.label().to_owned(),
        severity: severity.label().to_owned(),
        at: now(),
        starts_at: now() - TimeDelta::days(1),
        repeat: 0,
        generation: 1,
        step_seconds: (alert == AlertName::CredentialExpiring).then_some(7 * 86_400),
        previous_expiry: None,
        platform: "prod".to_owned(),
        flavor: "ece".to_owned(),
        platform_url: "https://ece.example.org:12443".to_owned(),
        ca_file: Some("/etc/ece-expiry-exporter/ece-ca.pem".to_owned()),
        credential: Some(NoticeCredential {
            name: "terraform".to_owned(),
            kind: "api_key".to_owned(),
            key_id: Some("k1".to_owned()),
            team: Some("platform".to_owned()),
            used_by: vec!["Terraform pipelines".to_owned(), "the nightly plan".to_owned()],
            renewal_note: Some("Vault, kv/ece/terraform".to_owned()),
            secret_source: Some("file /etc/ece-expiry-exporter/terraform.key".to_owned()),
            labels: BTreeMap::from([("tier".to_owned(), "1".to_owned())]),
            expiry_state: "dated".to_owned(),
            expires_at: Some(now() + TimeDelta::hours(6 * 24 + 3)),
            observed_at: Some(observed_at),
            ..NoticeCredential::default()
        }),
        next_repeat: Some(now() + TimeDelta::days(1)),
        probe: NoticeProbe {
            success: true,
            last_run_at: Some(observed_at),
            last_success_at: Some(observed_at),
            http_status: Some(200),
            failure_reason: None,
            error: None,
        },
        clock_skew_seconds: None,
        undelivered: None,
        digest: None,
    }
}

/// The same without a credential.
fn platform_notice(alert: AlertName, reason: Reason) -> Notice {
    let probe = NoticeProbe {
        success: false,
        last_run_at: Some(now() - TimeDelta::minutes(1)),
        last_success_at: Some(now() - TimeDelta::hours(2)),
        http_status: None,
        failure_reason: Some("connect".to_owned()),
        error: Some("no connection to ece.example.org:12443: connection refused".to_owned()),
    };
    Notice {
        credential: None,
        probe,
        clock_skew_seconds: (alert == AlertName::PlatformClockSkew).then_some(-420),
        ..notice(alert, reason, Severity::Warning)
    }
}

fn credential(notice: &mut Notice) -> &mut NoticeCredential {
    notice.credential.as_mut().unwrap()
}

fn email_config(port: u16, encryption: SmtpEncryption) -> EmailConfig {
    EmailConfig {
        name: "mail".into(),
        to: vec!["ops@example.org".to_owned()],
        from: "ECE expiry <ece-expiry@example.org>".to_owned(),
        reply_to: None,
        host: "127.0.0.1".to_owned(),
        port,
        hello: Some("exporter.test".to_owned()),
        encryption,
        tls: TlsConfig::default(),
        auth: None,
        timeout: Duration::from_secs(10),
    }
}

fn webhook_config(url: SecretSource) -> WebhookConfig {
    WebhookConfig {
        name: "hook".into(),
        format: WebhookFormat::Generic,
        params: BTreeMap::new(),
        secret: None,
        max_alerts: 0,
        url: Some(url),
        allow_http: false,
        signing_secrets: Vec::new(),
        tls: TlsConfig::default(),
        authorization: None,
        proxy_url: None,
        http_headers: Vec::new(),
        timeout: Duration::from_secs(10),
    }
}

/// A configuration with one receiver, `r`.
fn config(emails: Vec<EmailConfig>, webhooks: Vec<WebhookConfig>) -> Arc<Config> {
    let name: Arc<str> = "r".into();
    let receiver = Receiver {
        name: Arc::clone(&name),
        emails,
        webhooks,
        alertmanagers: Vec::new(),
        fallback: None,
    };
    Arc::new(Config {
        global: Global {
            probe_timeout: Duration::from_secs(10),
            external_url: None,
            own_links: true,
        },
        platforms: Vec::new(),
        receivers: BTreeMap::from([(name, Arc::new(receiver))]),
        route: None,
        mutes: BTreeMap::new(),
        digest: None,
        heartbeat: None,
        storage_path: PathBuf::new(),
        warnings: Vec::new(),
    })
}

fn parcel(integration: Integration, recipient: &str, body: &[u8]) -> Parcel {
    Parcel {
        id: "msg_01JDEXAMPLE00000000000000A".to_owned(),
        target: Target {
            receiver: "r".into(),
            integration,
            channel: "0".into(),
            recipient: recipient.to_owned(),
        },
        body: body.to_vec(),
        attempts: 0,
        created_at: now(),
        group: String::new(),
    }
}
