//! What is pushed to other systems beside messages to people: alerts to Alertmanagers, and the heartbeat.

use std::time::Duration;

use super::check::{self, SecretKind};
use super::problems::show;
use super::reader::{Fields, Item, Reader};
use super::receivers::http_config;
use super::shapes::url;
use super::{SecretSource, TlsConfig};

/// Alertmanagers of one installation that hold what fires: each of `urls` is told everything.
#[derive(Debug, Clone)]
pub struct AlertmanagerConfig {
    /// The base URL of each replica, without a slash at its end and without `/api/v2`; at least one, no two alike.
    pub urls: Vec<String>,
    /// Plain HTTP is allowed (it always is to this machine itself).
    pub allow_http: bool,
    /// How requests are made.
    pub http: HttpConfig,
    /// The deadline of one request, connect to the end of the answer.
    pub timeout: Duration,
}

/// A dead man's switch somewhere else, which alarms when it is not called.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Where the URL is read; whoever knows it can keep the switch quiet, so it is a secret.
    pub url: SecretSource,
    /// Plain HTTP is allowed (it always is to this machine itself).
    pub allow_http: bool,
    /// How often it is called.
    pub every: Duration,
    /// How requests are made.
    pub http: HttpConfig,
    /// The deadline of one request, connect to the end of the answer.
    pub timeout: Duration,
}

/// How requests to a receiver are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// Bearer token or another `Authorization` value: scheme and where its credentials are read.
    pub authorization: Option<(String, SecretSource)>,
    /// How the server is checked.
    pub tls: TlsConfig,
    /// HTTP proxy; without it none is used.
    pub proxy_url: Option<String>,
    /// Extra request headers.
    pub http_headers: Vec<(String, String)>,
}

pub(super) fn alertmanager(reader: &mut Reader, fields: &Fields<'_>) -> Option<AlertmanagerConfig> {
    let allow_http = reader.flag(fields, "allow_http");
    let mut urls = Vec::new();
    for (item, _) in reader.texts(fields, "urls") {
        let Some(text) = url(reader, &item) else { continue };
        // People copy the address of the API.
        let text =
            text.strip_suffix("/alerts").filter(|it| it.ends_with("/api/v2")).unwrap_or(&text);
        let text = text.strip_suffix("/api/v2").unwrap_or(text).to_owned();
        if urls.contains(&text) {
            reader.problem(&item, format!("{} is given twice", show(&text)), "remove one of them");
        } else if allow_http || text.starts_with("https:") || is_local(&text) {
            urls.push(text);
        } else {
            refuse_http(reader, &item, &text);
        }
    }
    let timeout = reader.duration(fields, "timeout");
    let http = http(reader, fields);
    if http.authorization.is_some()
        && let Some(plain) = urls.iter().find(|it| it.starts_with("http:") && !is_local(it))
    {
        let path = &fields.path;
        reader.problems.warn(format!(
            "{path}.urls: {} has no TLS, so what `authorization` says crosses the network unencrypted",
            show(plain)
        ));
    }
    Some(AlertmanagerConfig { urls, allow_http, http, timeout: timeout? })
}

fn refuse_http(reader: &mut Reader, item: &Item<'_>, text: &str) {
    let message = format!("{} has no TLS: alerts would cross the network unencrypted", show(text));
    let hint = "use https://, or set `allow_http: true` if you accept that";
    reader.problem(item, message, hint);
}

/// Whether a URL leads to this machine itself.
fn is_local(text: &str) -> bool {
    let url = reqwest::Url::parse(text).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|it| it.is_loopback())
}

pub(super) fn heartbeat(reader: &mut Reader, fields: &Fields<'_>) -> Option<Heartbeat> {
    let allow_http = reader.flag(fields, "allow_http");
    let kind = if allow_http { SecretKind::AnyUrl } else { SecretKind::HttpsUrl };
    let url = check::secret(reader, fields, ("url_file", "url_env"), kind);
    if !fields.has("url_file") && !fields.has("url_env") && !fields.has_unknown("url") {
        let message = "needs `url_file` or `url_env`".to_owned();
        let hint = "for example `url_file: secrets/heartbeat-url`";
        reader.problems.add(fields.place, &fields.path, message, hint);
    }
    let every = reader.duration(fields, "every");
    let timeout = reader.duration(fields, "timeout");
    let http = http(reader, fields);
    Some(Heartbeat { url: url?, allow_http, every: every?, http, timeout: timeout? })
}

fn http(reader: &mut Reader, fields: &Fields<'_>) -> HttpConfig {
    let http = reader.one(fields, "http_config");
    http.map(|it| http_config(reader, &it)).unwrap_or_default()
}
