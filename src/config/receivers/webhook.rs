//! A webhook channel: its URL, its format, and what the format asks of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::check::{self, SecretKind};
use super::super::format::{self, FormatFile};
use super::super::problems::{nearest, show};
use super::super::reader::{Fields, Reader};
use super::super::{SecretSource, WebhookConfig, WebhookFormat};
use super::{HttpConfig, http_config};

/// The most signing secrets of one webhook: the new one, the old one, and some for long rotations.
const SIGNING_SECRETS_MAX: usize = 4;

pub(super) fn webhook(reader: &mut Reader, fields: &Fields<'_>) -> Option<WebhookConfig> {
    let allow_http = reader.flag(fields, "allow_http");
    let format = format(reader, fields);
    let url = url(reader, fields, allow_http, format.as_ref());
    let signing_secrets = signing_secrets(reader, fields);
    let timeout = reader.duration(fields, "timeout");
    let http = reader.one(fields, "http_config");
    let http = http.map(|it| http_config(reader, &it)).unwrap_or_default();
    let secret = check::secret(reader, fields, ("secret_file", "secret_env"), SecretKind::Password);
    let max_alerts = reader.number(fields, "max_alerts");
    let params = params(reader, fields, format.as_ref());
    if let Some(format) = &format {
        asked_for(reader, fields, format, &http);
    }
    let (format, url) = (format?, url?);
    // Where the URL is known, the secret tells one channel from another.
    let apart = url.as_ref().or(secret.as_ref()).or(http.authorization.as_ref().map(|(_, it)| it));
    let name = apart.map_or_else(|| format.name().to_owned(), SecretSource::name);
    Some(WebhookConfig {
        name: name.into(),
        format,
        params,
        secret,
        max_alerts: usize::try_from(max_alerts?).ok()?,
        url,
        allow_http,
        signing_secrets,
        tls: http.tls,
        authorization: http.authorization,
        proxy_url: http.proxy_url,
        http_headers: http.http_headers,
        timeout: timeout?,
    })
}

fn format(reader: &mut Reader, fields: &Fields<'_>) -> Option<WebhookFormat> {
    let name = reader.choice(fields, "format")?;
    let file = fields.get("template_file");
    match (WebhookFormat::built_in(name), file) {
        (Some(format), None) => Some(format),
        (Some(_), Some(item)) => {
            let message = format!("`format: {name}` takes no `template_file`");
            reader.problem(&item, message, "set `format: template`, or remove it");
            None
        }
        (None, Some(item)) => {
            format::read(reader, &item).map(|it| WebhookFormat::File(Arc::new(it)))
        }
        (None, None) => {
            reader.missing(fields, "template_file");
            None
        }
    }
}

/// Where the URL is read; `Some(None)` is the URL of the format.
#[expect(clippy::option_option, reason = "wrong, none, and a URL are three things")]
fn url(
    reader: &mut Reader,
    fields: &Fields<'_>,
    allow_http: bool,
    format: Option<&WebhookFormat>,
) -> Option<Option<SecretSource>> {
    let kind = if allow_http { SecretKind::AnyUrl } else { SecretKind::HttpsUrl };
    if fields.has("url_file") || fields.has("url_env") {
        return check::secret(reader, fields, ("url_file", "url_env"), kind).map(Some);
    }
    let knows = |it: &WebhookFormat| it.file().is_some_and(|it| it.url.is_some());
    if format.is_none_or(knows) {
        return Some(None);
    }
    if !fields.has_unknown("url") {
        let message = "needs `url_file` or `url_env`".to_owned();
        let hint = "for example `url_file: secrets/hook-url`";
        reader.problems.add(fields.place, &fields.path, message, hint);
    }
    None
}

fn signing_secrets(reader: &mut Reader, fields: &Fields<'_>) -> Vec<SecretSource> {
    let mut secrets = Vec::new();
    for (item, _) in reader.texts(fields, "signing_secret_files") {
        secrets.extend(check::secret_file(reader, &item, SecretKind::Signing));
    }
    if SIGNING_SECRETS_MAX < secrets.len()
        && let Some(item) = fields.get("signing_secret_files")
    {
        let message =
            format!("has {} files; at most {SIGNING_SECRETS_MAX} are allowed", secrets.len());
        reader.problem(&item, message, "remove the oldest");
    }
    secrets
}

/// The settings that were given, and the defaults of the others.
fn params(
    reader: &mut Reader,
    fields: &Fields<'_>,
    format: Option<&WebhookFormat>,
) -> BTreeMap<String, String> {
    let Some(format) = format else { return BTreeMap::new() };
    let declared = format.file().map_or(&[][..], |it| &it.params);
    let mut params: BTreeMap<String, String> =
        declared.iter().filter_map(|it| Some((it.name.clone(), it.default.clone()?))).collect();
    for (item, name, value) in reader.text_map(fields, "params") {
        let names = || declared.iter().map(|it| it.name.as_str());
        let Some(param) = declared.iter().find(|it| it.name == name) else {
            let hint = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if declared.is_empty() => "it takes none; remove it".to_owned(),
                None => format!("allowed: {}", names().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("`format: {}` has no such setting", format.name());
            reader.problem(&item, message, hint);
            continue;
        };
        if param.one_of.is_empty() || param.one_of.iter().any(|it| it == value) {
            params.insert(name.to_owned(), value.to_owned());
        } else {
            let hint = format!("allowed: {}", param.one_of.join(", "));
            reader.problem(&item, format!("{} is not known", show(value)), hint);
        }
    }
    let given = |name: &str| params.contains_key(name);
    for param in declared.iter().filter(|it| it.required && !given(&it.name)) {
        let message = format!("`format: {}` needs the setting `{}`", format.name(), param.name);
        let hint = format!("for example `params: {{{}: …}}`", param.name);
        reader.problems.add(fields.place, &fields.path, message, hint);
    }
    params
}

/// Notes what the format needs and the channel does not give, and what the channel gives in vain.
fn asked_for(reader: &mut Reader, fields: &Fields<'_>, format: &WebhookFormat, http: &HttpConfig) {
    let name = format.name();
    let wanted: Option<&FormatFile> = format.file();
    let mut add = |message: String, hint: String| {
        reader.problems.add(fields.place, &fields.path, message, hint);
    };
    let has_secret = fields.has("secret_file") || fields.has("secret_env");
    match (wanted.and_then(|it| it.secret.as_deref()), has_secret) {
        (Some(what), false) => add(
            format!("`format: {name}` needs `secret_file` or `secret_env`"),
            format!("a file that holds {what}"),
        ),
        (None, true) => add(
            format!("`format: {name}` has no secret in its body"),
            "remove it, or use `http_config.authorization`".to_owned(),
        ),
        (Some(_), true) | (None, false) => {}
    }
    if let Some(scheme) = wanted.and_then(|it| it.authorization.as_deref())
        && http.authorization.as_ref().is_none_or(|(it, _)| it != scheme)
    {
        add(
            format!("`format: {name}` needs an `Authorization` of the type {scheme}"),
            format!("`http_config: {{authorization: {{type: {scheme}, credentials_file: FILE}}}}`"),
        );
    }
    if fields.has("max_alerts") && !matches!(format, WebhookFormat::Alertmanager) {
        add("`max_alerts` is of `format: alertmanager` only".to_owned(), "remove it".to_owned());
    }
}
