//! Writes the configuration in effect as YAML, for the page that shows it.
//!
//! What is inherited is written where it applies, and defaults are written out. Every text stands in double quotes
//! as in JSON, which YAML reads the same, so no text can become something else. Values of headers are replaced.

use std::fmt::{Display, Write};
use std::path::Path;

use super::{
    AlertmanagerConfig, Certificate, Config, Credential, CredentialKind, EmailConfig, Filter,
    GroupBy, Heartbeat, HttpConfig, Inventory, InventoryScope, ItemKind, Mute, Platform, Policy,
    Receiver, Route, SecretSource, Severity, SmtpEncryption, TlsConfig, TlsVerify, WebhookConfig,
};
use crate::schedule::{Schedule, format_duration};

/// What stands for a value that could be a secret.
const HIDDEN: &str = "<secret>";

/// Lines of YAML with their indentation.
struct Page {
    text: String,
    /// Two blanks each.
    depth: usize,
    /// The next line begins an entry of a list.
    entry: bool,
}

pub(super) fn print(config: &Config) -> String {
    let mut page = Page { text: String::new(), depth: 0, entry: false };
    page.map("global", |page| {
        page.line("probe_timeout", format_duration(config.global.probe_timeout));
        if let Some(url) = &config.global.external_url {
            page.text("external_url", url);
        }
        page.line("own_links", config.global.own_links);
    });
    page.list("platforms", &config.platforms, |page, it| platform(page, it));
    if let Some(root) = &config.route {
        page.map("route", |page| route(page, root, None));
    }
    page.list("mute_time_intervals", config.mutes.values(), |page, it| mute(page, it));
    if let Some(digest) = &config.digest {
        page.map("digest", |page| {
            schedule(page, "schedule", &digest.schedule);
            page.text("receiver", &digest.receiver);
            page.line("always", digest.always);
        });
    }
    page.list("receivers", config.receivers.values(), |page, it| receiver(page, it));
    if let Some(it) = &config.heartbeat {
        page.map("heartbeat", |page| heartbeat(page, it));
    }
    page.map("storage", |page| page.text("path", config.storage_path.display()));
    page.text
}

impl Page {
    fn line(&mut self, key: &str, value: impl Display) {
        let dash = if self.entry { "- " } else { "" };
        let indent = 2 * self.depth - dash.len();
        self.entry = false;
        let _ = writeln!(self.text, "{:indent$}{dash}{key}: {value}", "");
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.line(key, quoted(&value.to_string()));
    }

    fn texts(&mut self, key: &str, values: impl IntoIterator<Item = impl Display>) {
        let values: Vec<String> = values.into_iter().map(|it| quoted(&it.to_string())).collect();
        if !values.is_empty() {
            self.line(key, format_args!("[{}]", values.join(", ")));
        }
    }

    fn text_map<'a>(
        &mut self,
        key: &str,
        entries: impl IntoIterator<Item = (&'a String, &'a str)>,
    ) {
        let entries: Vec<String> = entries
            .into_iter()
            .map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)))
            .collect();
        if !entries.is_empty() {
            self.line(key, format_args!("{{{}}}", entries.join(", ")));
        }
    }

    fn open(&mut self, key: &str) {
        let dash = if self.entry { "- " } else { "" };
        let indent = 2 * self.depth - dash.len();
        self.entry = false;
        let _ = writeln!(self.text, "{:indent$}{dash}{key}:", "");
    }

    fn map(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.open(key);
        self.depth += 1;
        fill(self);
        self.depth -= 1;
    }

    fn list<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return;
        }
        self.open(key);
        // The key, the dash in front of an entry, and the entry behind the dash.
        self.depth += 2;
        for item in items {
            self.entry = true;
            fill(self, item);
        }
        self.depth -= 2;
    }

    fn secret(&mut self, key: &str, source: &SecretSource) {
        match source {
            SecretSource::File(path) => self.text(&format!("{key}_file"), path.display()),
            SecretSource::Env(name) => self.text(&format!("{key}_env"), name),
            SecretSource::Csv(path) => self.text(&format!("{key}_csv_file"), path.display()),
            SecretSource::Ecctl(path) => self.text("ecctl_config_file", path.display()),
        }
    }

    fn headers(&mut self, headers: &[(String, String)]) {
        self.text_map("http_headers", headers.iter().map(|(name, _)| (name, HIDDEN)));
    }
}

fn platform(page: &mut Page, it: &Platform) {
    page.text("name", &it.name);
    page.line("flavor", it.flavor.label());
    page.texts("urls", &it.urls);
    if it.urls.iter().any(|url| url.starts_with("http:")) {
        page.line("allow_http", true);
    }
    tls(page, &it.tls);
    if let Some(proxy) = &it.proxy_url {
        page.text("proxy_url", proxy);
    }
    page.line("max_concurrent_probes", it.max_concurrent_probes);
    page.headers(&it.http_headers);
    steps(page, &it.policy);
    policy(page, &it.policy);
    page.texts("receivers", &it.receivers);
    let is_own = |credential: &&std::sync::Arc<Credential>| {
        matches!(
            credential.kind,
            CredentialKind::ApiKey(_)
                | CredentialKind::BearerToken(_)
                | CredentialKind::Login { .. }
        )
    };
    page.list("credentials", it.credentials.iter().filter(is_own), |page, credential| {
        self::credential(page, credential, it);
    });
    license_and_certificates(page, it);
}

fn license_and_certificates(page: &mut Page, it: &Platform) {
    let mut first_certificate = None;
    let (mut endpoint, mut services, mut credential) = (false, Vec::new(), None);
    for watched in &it.credentials {
        match &watched.kind {
            CredentialKind::License(key) => page.map("license", |page| {
                page.text("credential", &key.credential);
                self::watched(page, watched, it);
            }),
            CredentialKind::Certificate(certificate) => {
                first_certificate.get_or_insert(watched);
                match certificate {
                    Certificate::Endpoint => endpoint = true,
                    Certificate::Service { service, key } => {
                        services.push(service.label());
                        credential = Some(&key.credential);
                    }
                }
            }
            CredentialKind::Inventory(inventory) => page.map(watched.kind.label(), |page| {
                self::inventory(page, inventory);
                self::watched(page, watched, it);
            }),
            CredentialKind::ApiKey(_)
            | CredentialKind::BearerToken(_)
            | CredentialKind::Login { .. } => {}
        }
    }
    let Some(watched) = first_certificate else { return };
    page.map("certificates", |page| {
        page.line("endpoint", endpoint);
        page.texts("services", services);
        if let Some(credential) = credential {
            page.text("credential", credential);
        }
        // What one key says of them holds for all.
        self::watched(page, watched, it);
    });
}

fn inventory(page: &mut Page, it: &Inventory) {
    page.text("credential", &it.key.credential);
    match &it.scope {
        InventoryScope::Keys(scope) => page.line("scope", scope.label()),
        InventoryScope::Deployments(wanted) => {
            for (key, kind) in [
                ("elasticsearch_api_keys", ItemKind::ElasticsearchApiKey),
                ("certificates", ItemKind::ElasticsearchCertificate),
                ("license", ItemKind::ElasticsearchLicense),
            ] {
                page.line(key, wanted.kinds.contains(&kind));
            }
            page.texts("include", wanted.include.iter().map(|it| &it.0));
            page.texts("exclude", wanted.exclude.iter().map(|it| &it.0));
        }
    }
    let Filter { users, exclude_users, exclude_descriptions } = &it.filter;
    for (key, patterns) in [
        ("users", users),
        ("exclude_users", exclude_users),
        ("exclude_descriptions", exclude_descriptions),
    ] {
        page.texts(key, patterns.iter().map(|it| &it.0));
    }
    page.line("keys_max", it.keys_max);
    page.line("timeout", format_duration(it.timeout));
    let told = |severity: Option<Severity>| severity.map_or("ignore", Severity::label);
    page.line("never_expires", told(it.policy.never_expires));
    if let Some(lifetime_max) = it.lifetime_max {
        page.line("lifetime_max", format_duration(lifetime_max));
        page.line("long_lived", told(it.long_lived));
    }
    page.line("created", told(it.created));
    page.line("deleted", told(it.deleted));
}

/// What a route says that the one above it does not.
fn route(page: &mut Page, it: &Route, above: Option<&Route>) {
    page.text("receiver", &it.receiver);
    page.texts("matchers", &it.matchers);
    if it.goes_on {
        page.line("continue", true);
    }
    if above.is_none_or(|above| above.group_by != it.group_by) {
        match &it.group_by {
            GroupBy::Labels(names) => page.texts("group_by", names),
            GroupBy::All => page.texts("group_by", ["..."]),
        }
    }
    page.line("group_wait", format_duration(it.group_wait));
    page.line("group_interval", format_duration(it.group_interval));
    page.texts("mute_time_intervals", &it.mutes);
    page.list("routes", &it.routes, |page, child| route(page, child, Some(it)));
}

fn mute(page: &mut Page, it: &Mute) {
    page.text("name", &it.name);
    schedule(page, "start", &it.start);
    page.line("duration", format_duration(it.duration));
    page.texts("except", it.except.iter().map(|it| it.label()));
}

/// A schedule under its key, and the time zone if it needs one.
fn schedule(page: &mut Page, key: &str, it: &Schedule) {
    match it {
        Schedule::Every(every) => page.line(key, format_duration(*every)),
        Schedule::Cron(cron) => {
            page.text(key, cron.text());
            page.text("timezone", cron.zone());
        }
    }
}

fn policy(page: &mut Page, it: &Policy) {
    page.map("policy", |page| {
        page.line("never_expires", it.never_expires.map_or("ignore", Severity::label));
        page.line("failures_before_alert", it.failures_before_alert);
        page.map("repeat", |page| {
            for severity in Severity::ALL.into_iter().rev() {
                let never = || "never".to_owned();
                page.line(
                    severity.label(),
                    it.repeat.of(severity).map_or_else(never, format_duration),
                );
            }
        });
        page.list("reminders", &it.reminders, |page, reminder| {
            page.line("left", format_duration(reminder.left));
            page.line("every", format_duration(reminder.every));
        });
    });
}

fn steps(page: &mut Page, it: &Policy) {
    page.list("steps", &it.steps, |page, step| {
        page.line("before", format_duration(step.before));
        page.line("severity", step.severity.label());
        let told = it.escalations.iter().filter(|(before, _)| *before == step.before);
        page.texts("escalate_to", told.flat_map(|(_, receivers)| receivers));
    });
}

fn credential(page: &mut Page, it: &Credential, platform: &Platform) {
    page.text("name", &it.id.name);
    match &it.kind {
        CredentialKind::ApiKey(source) => page.secret("api_key", source),
        CredentialKind::BearerToken(source) => page.secret("bearer_token", source),
        CredentialKind::Login { username, password } => page.map("login", |page| {
            page.text("username", username);
            page.secret("password", password);
        }),
        CredentialKind::License(_)
        | CredentialKind::Certificate(_)
        | CredentialKind::Inventory(_) => {}
    }
    watched(page, it, platform);
}

/// What everything that is watched has besides its name and its kind.
fn watched(page: &mut Page, it: &Credential, platform: &Platform) {
    schedule(page, "schedule", &it.schedule);
    // Those of the deployments do not follow the platform's.
    let is_apart = it.kind.label() == CredentialKind::DEPLOYMENTS;
    let above = &platform.policy;
    if is_apart || it.policy.steps != above.steps || it.policy.escalations != above.escalations {
        steps(page, &it.policy);
    }
    if let Some(team) = &it.team {
        page.text("team", team);
    }
    page.texts("used_by", &it.used_by);
    if let Some(note) = &it.renewal_note {
        page.text("renewal_note", note);
    }
    page.text_map("labels", it.labels.iter().map(|(name, value)| (name, value.as_str())));
    page.texts("receivers", &it.receivers);
}

fn receiver(page: &mut Page, it: &Receiver) {
    page.text("name", &it.name);
    page.list("email_configs", &it.emails, email);
    page.list("webhook_configs", &it.webhooks, webhook);
    page.list("alertmanager_configs", &it.alertmanagers, alertmanager);
    if let Some(fallback) = &it.fallback {
        page.text("fallback", fallback);
    }
}

fn email(page: &mut Page, it: &EmailConfig) {
    page.texts("to", &it.to);
    page.text("from", &it.from);
    if let Some(reply_to) = &it.reply_to {
        page.text("reply_to", reply_to);
    }
    let EmailConfig { host, port, .. } = it;
    let smarthost =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    page.text("smarthost", smarthost);
    let encryption = match it.encryption {
        SmtpEncryption::Starttls => "starttls",
        SmtpEncryption::Implicit => "implicit",
        SmtpEncryption::None => "none",
    };
    page.line("tls", encryption);
    if let Some(hello) = &it.hello {
        page.text("hello", hello);
    }
    if let Some(auth) = &it.auth {
        page.text("auth_username", &auth.username);
        page.secret("auth_password", &auth.password);
    }
    tls(page, &it.tls);
    page.line("timeout", format_duration(it.timeout));
}

fn webhook(page: &mut Page, it: &WebhookConfig) {
    if let Some(url) = &it.url {
        page.secret("url", url);
    }
    page.line("format", it.format.name());
    if let Some(path) = it.format.file().and_then(|it| it.path.as_ref()) {
        page.text("template_file", path.display());
    }
    page.text_map("params", it.params.iter().map(|(name, value)| (name, value.as_str())));
    if let Some(secret) = &it.secret {
        page.secret("secret", secret);
    }
    if 0 < it.max_alerts {
        page.line("max_alerts", it.max_alerts);
    }
    let paths = it.signing_secrets.iter().filter_map(SecretSource::path);
    page.texts("signing_secret_files", paths.map(Path::display));
    page.line("allow_http", it.allow_http);
    page.line("timeout", format_duration(it.timeout));
    http(
        page,
        &HttpConfig {
            authorization: it.authorization.clone(),
            tls: it.tls.clone(),
            proxy_url: it.proxy_url.clone(),
            http_headers: it.http_headers.clone(),
        },
    );
}

fn alertmanager(page: &mut Page, it: &AlertmanagerConfig) {
    page.texts("urls", &it.urls);
    page.line("allow_http", it.allow_http);
    page.line("timeout", format_duration(it.timeout));
    http(page, &it.http);
}

fn heartbeat(page: &mut Page, it: &Heartbeat) {
    page.secret("url", &it.url);
    page.line("every", format_duration(it.every));
    page.line("allow_http", it.allow_http);
    page.line("timeout", format_duration(it.timeout));
    http(page, &it.http);
}

fn http(page: &mut Page, it: &HttpConfig) {
    if *it == HttpConfig::default() {
        return;
    }
    page.map("http_config", |page| {
        if let Some((scheme, source)) = &it.authorization {
            page.map("authorization", |page| {
                page.text("type", scheme);
                page.secret("credentials", source);
            });
        }
        tls(page, &it.tls);
        if let Some(proxy) = &it.proxy_url {
            page.text("proxy_url", proxy);
        }
        page.headers(&it.http_headers);
    });
}

fn tls(page: &mut Page, it: &TlsConfig) {
    if *it == TlsConfig::default() {
        return;
    }
    page.map("tls_config", |page| {
        if let Some(path) = &it.ca_file {
            page.text("ca_file", path.display());
        }
        if let Some((certificate, key)) = &it.identity {
            page.text("cert_file", certificate.display());
            page.text("key_file", key.display());
        }
        if let Some(name) = &it.server_name {
            page.text("server_name", name);
        }
        match &it.verify {
            TlsVerify::Full => {}
            TlsVerify::None => page.line("insecure_skip_verify", true),
            TlsVerify::Fingerprint(bytes) => {
                let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                page.text("fingerprint_sha256", digits.concat());
            }
        }
    });
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
