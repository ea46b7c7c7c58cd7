//! The whole product with no ECE at hand: a simulated ECE over TLS, a mailbox, a webhook sink, and the real program.
//!
//! Nothing here knows how the program works: it writes a configuration file and key files as a user would, and then
//! only changes the simulated platform, so that a step is crossed and a key is renewed while somebody watches.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::sim::{
    CertificateOptions, Certificates, Desk, Ece, EceOptions, Expires, Fault, Folder, HeaderMode,
    License, MailTls, Mailbox, MailboxOptions, On, Role, SimDeployment, SimKey, Sink, SinkOptions,
};
use crate::time;

/// When the demonstration renews a key.
const RENEWS_AFTER: Duration = Duration::from_secs(40);

/// When a key crosses its next step.
const CROSSES_AFTER: TimeDelta = TimeDelta::seconds(25);

/// When a key expires.
const EXPIRES_AFTER: TimeDelta = TimeDelta::seconds(60);

/// When the license ends, and when the certificate of the coordinators does.
const LICENSE_ENDS_AFTER: TimeDelta = TimeDelta::days(20);
const CERTIFICATE_ENDS_AFTER: TimeDelta = TimeDelta::days(10);

/// A running demonstration; dropping it stops the simulated servers and deletes its folder.
#[derive(Debug)]
pub struct Demo {
    ece: Ece,
    /// The second platform, which answers nothing but 502.
    broken: Ece,
    mailbox: Mailbox,
    sink: Sink,
    desk: Desk,
    folder: Folder,
}

/// One key of the cast.
struct Part {
    name: &'static str,
    team: &'static str,
    used_by: &'static str,
    expires: Expires,
    act: Act,
}

/// What is special about a key.
enum Act {
    Healthy,
    Revoked,
    Garbage,
    Forbidden,
}

fn cast(now: DateTime<Utc>) -> Vec<Part> {
    let days = |days| Expires::At(now + TimeDelta::days(days) + TimeDelta::hours(5));
    let part = |name, team, used_by, expires, act| Part { name, team, used_by, expires, act };
    vec![
        part("backup", "storage", "Nightly snapshots", days(83), Act::Healthy),
        part("monitoring", "platform", "Metricbeat of ECE", days(61), Act::Healthy),
        part("ci-deployer", "platform", "Deployment pipeline", days(24), Act::Healthy),
        part("billing-report", "finance", "Monthly chargeback", days(11), Act::Healthy),
        part("terraform", "platform", "Terraform pipelines", days(5), Act::Healthy),
        part(
            "log-shipper",
            "platform",
            "Audit log export",
            Expires::At(now + TimeDelta::days(7) + CROSSES_AFTER),
            Act::Healthy,
        ),
        part(
            "hotfix",
            "platform",
            "Emergency fixes",
            Expires::At(now + EXPIRES_AFTER),
            Act::Healthy,
        ),
        part("sandbox", "dev", "Experiments", Expires::At(now - TimeDelta::days(2)), Act::Healthy),
        part("break-glass", "security", "Emergency access", Expires::Never, Act::Healthy),
        part("old-laptop", "dev", "Nobody knows", days(40), Act::Revoked),
        part("gateway", "network", "API gateway", days(50), Act::Garbage),
        part("viewer", "support", "Support portal", days(35), Act::Forbidden),
    ]
}

impl Demo {
    /// Starts the simulated servers and writes the configuration. `page` is the address of the program's own page, which
    /// messages link to; without one they hold no links.
    ///
    /// # Errors
    /// A port cannot be had, or the folder for temporary files cannot be written.
    pub async fn start(now: DateTime<Utc>, page: Option<&str>) -> anyhow::Result<Self> {
        let folder = Folder::new("demo")?;
        let certificates = Certificates::make(&CertificateOptions {
            leaf_not_after: Some(now + CERTIFICATE_ENDS_AFTER),
            ..CertificateOptions::default()
        })?;
        let tls = Some(certificates.clone());
        let ece = Ece::start(EceOptions { tls: tls.clone(), ..EceOptions::default() }).await?;
        ece.world().license = Some(License {
            expires: now + LICENSE_ENDS_AFTER,
            signature: "a signature that nobody keeps".to_owned(),
        });
        let broken = Ece::start(EceOptions { tls, ..EceOptions::default() }).await?;
        broken.set_fault(On::Everyone, Fault::Html502)?;
        let login = Some(("ece-expiry".to_owned(), "demo-password".to_owned()));
        let mail_tls = MailTls::StartTls(certificates.clone());
        let mailbox =
            Mailbox::start(MailboxOptions { tls: mail_tls, login, ..MailboxOptions::default() })
                .await?;
        let sink = Sink::start(SinkOptions::default()).await?;
        let desk = Desk::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &mailbox, &sink).await?;
        let demo = Self { ece, broken, mailbox, sink, desk, folder };
        demo.folder.write("ca.pem", certificates.ca_pem())?;
        demo.folder.write("smtp-password", "demo-password")?;
        demo.folder
            .write("hook-url", &format!("{}/hook", demo.sink.url().trim_end_matches('/')))?;
        demo.folder.write("hook-secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")?;
        let credentials = demo.stage(now)?;
        demo.folder.write("config.yml", &demo.config(&credentials, page))?;
        Ok(demo)
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    /// The folder of the store.
    pub fn storage_path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// The page with the mails and webhooks that arrived.
    pub fn desk_url(&self) -> String {
        self.desk.url()
    }

    /// The simulated ECE.
    pub fn ece_url(&self) -> String {
        self.ece.url()
    }

    /// The mailbox.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// The webhook sink.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// What will happen while somebody watches.
    pub fn programme() -> String {
        format!(
            "in {} s log-shipper crosses its 7-day step, in {} s terraform is renewed, in {} s hotfix expires.\n  \
             Mails: what is critical goes to on-call, finance has a route of its own, what is only `info` waits in a\n  \
             mute window of 9 minutes, and a digest comes every 2 minutes. Each alert in a mail can be owned by its link",
            CROSSES_AFTER.num_seconds(),
            RENEWS_AFTER.as_secs(),
            EXPIRES_AFTER.num_seconds()
        )
    }

    /// Renews the key `terraform` after a while: a new key with a later expiry takes the place of the old in its file.
    ///
    /// # Errors
    /// The key file cannot be written.
    pub async fn play(&self) -> anyhow::Result<()> {
        time::sleep(RENEWS_AFTER).await;
        let renewed = self.ece.renew("terraform")?;
        self.folder.write("key-terraform", &renewed)
    }

    /// Makes the keys, and writes the part of the configuration that names them.
    fn stage(&self, now: DateTime<Utc>) -> anyhow::Result<String> {
        let mut yaml = String::new();
        for part in cast(now) {
            let mut key = SimKey::new(part.team, part.name, part.expires);
            if let Act::Garbage = part.act {
                key = key.with_header(HeaderMode::Raw(vec![b"soon".to_vec()]));
            }
            let encoded = self.ece.add_key(key);
            match part.act {
                Act::Healthy | Act::Garbage => {}
                Act::Revoked => self.ece.revoke(part.name)?,
                Act::Forbidden => self.ece.set_fault(On::Key(part.name), Fault::Forbidden)?,
            }
            let file = format!("key-{}", part.name);
            self.folder.write(&file, &encoded)?;
            let _ = write!(
                yaml,
                "\n      - {{name: {}, api_key_file: {file}, team: {}, used_by: \"{}\",\n         \
                 renewal_note: \"Put the new key into Vault at kv/ece/{}\"}}",
                part.name, part.team, part.used_by, part.name
            );
        }
        self.ece.world().sessions.set_password("ops", "demo-login-password");
        self.folder.write("login-ops", "demo-login-password")?;
        let token = self.ece.world().sessions.open("ci", now + TimeDelta::days(45));
        self.folder.write("token-ci", &token)?;
        yaml.push_str(
            "\n      - {name: ops-login, login: {username: ops, password_file: login-ops}, team: platform, used_by: \"On-call scripts\"}\
             \n      - {name: ci-session, bearer_token_file: token-ci, team: platform, used_by: \"Integration tests\"}",
        );
        self.stage_list(now)?;
        yaml.push_str("\n      - {name: auditor, api_key_file: key-auditor, team: security, used_by: \"The list of all keys\"}");
        self.folder.write("key-remote", "ZGVtbzpub3QtYS1rZXk6bm90LWEtc2VjcmV0")?;
        Ok(yaml)
    }

    /// Keys that nobody put into the configuration, and the one with which they are seen.
    fn stage_list(&self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let in_days = |days| Expires::At(now + TimeDelta::days(days));
        for (user, description, expires) in [
            ("marc", "laptop", in_days(12)),
            ("marc", "old pipeline", in_days(-9)),
            ("eva", "nightly export", in_days(70)),
            ("eva", "monitoring prototype", in_days(330)),
            ("legacy", "from before keys expired", Expires::Never),
        ] {
            let mut key = SimKey::new(user, description, expires);
            key.created = key.created.min(now - TimeDelta::days(20));
            self.ece.add_key(key);
        }
        let mut logs = SimDeployment::new("logs");
        logs.add_key("logstash writer", "ingest", Some(now + TimeDelta::days(9)));
        logs.add_certificate(
            "certs/transport.crt",
            "CN=instance-0000000000",
            now + TimeDelta::days(240),
        );
        self.ece.world().deployments.push(logs);
        let auditor = SimKey::new("security", "auditor", in_days(80)).with_role(Role::Admin);
        self.folder.write("key-auditor", &self.ece.add_key(auditor))
    }

    fn config(&self, credentials: &str, page: Option<&str>) -> String {
        let mail = format!(
            "from: \"ECE expiry <ece-expiry@example.org>\", smarthost: \"{}\", auth_username: ece-expiry,\n       \
             auth_password_file: smtp-password, tls_config: {{ca_file: ca.pem}}",
            self.mailbox.addr()
        );
        format!(
            r#"# Written by `ece-expiry-exporter demo`; gone when it stops.
global: {{schedule: 5s{page}}}
platforms:
  - name: prod
    urls: ["{prod}"]
    tls_config: {{ca_file: ca.pem}}
    credentials:{credentials}
    license: {{credential: monitoring, team: platform, renewal_note: "Ask procurement"}}
    certificates: {{endpoint: true, team: platform}}
    deployments: {{credential: auditor, elasticsearch_api_keys: true, certificates: true, license: true, schedule: 20s, team: platform}}
    inventory: {{credential: auditor, scope: all, schedule: 20s, lifetime_max: 200d, deleted: warning, team: platform}}
  - name: remote
    urls: ["{remote}"]
    tls_config: {{ca_file: ca.pem}}
    credentials:
      - {{name: mirror, api_key_file: key-remote, team: platform, used_by: "Cross-site replication"}}
route:
  receiver: owners
  group_wait: 3s
  group_interval: 5s
  routes:
    - {{matchers: ['severity="critical"'], receiver: on-call, continue: true}}
    - {{matchers: ['team="finance"'], receiver: finance}}
    - {{matchers: ['severity="info"'], receiver: owners, mute_time_intervals: [quiet]}}
mute_time_intervals:
  - {{name: quiet, start: "*/10 * * * *", duration: 9m}}
digest: {{schedule: "*/2 * * * *", receiver: owners}}
receivers:
  - name: on-call
    fallback: owners
    email_configs: [{{to: on-call@example.org, {mail}}}]
    webhook_configs: [{{url_file: hook-url, signing_secret_files: [hook-secret]}}]
  - name: owners
    email_configs: [{{to: owners@example.org, {mail}}}]
    webhook_configs: [{{url_file: hook-url, signing_secret_files: [hook-secret]}}]
  - name: finance
    email_configs: [{{to: finance@example.org, {mail}}}]
"#,
            page = page.map(|it| format!(", external_url: \"{it}\"")).unwrap_or_default(),
            prod = self.ece.url(),
            remote = self.broken.url(),
        )
    }
}
