//! Looks at what the configuration points to: secrets, certificates and headers.
//!
//! A secret is read here only to see that it is there and has its shape; it is not kept, and no message holds any of
//! it. It may still change before it is used, so whoever uses it checks again.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine;
use reqwest::header::{HeaderName, HeaderValue};

use super::problems::{could_be_secret, show};
use super::reader::{Fields, Item, Reader};
use super::{Secret, SecretError, SecretSource, TlsConfig, TlsVerify};

/// The most of a PEM file that is looked at; a bundle of all public authorities has a quarter of it.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// How long the first secret file that hangs is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long the next is waited for, once one has hung.
const PATIENCE_AFTER_HANG: Duration = Duration::from_millis(100);

/// What is wrong with a file that hangs.
const HANGS: &str = "does not answer";

/// The most extra headers of one request.
const HEADERS_MAX: usize = 32;

/// Bytes of a signing secret, by the Standard Webhooks.
const SIGNING_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Headers that the program sets itself, or that would break the request.
const HEADERS_RESERVED: [&str; 9] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "idempotency-key",
];

/// What a secret is, and so which shape it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretKind {
    ApiKey,
    Token,
    Password,
    /// A URL with TLS, or of this machine itself.
    HttpsUrl,
    AnyUrl,
    Signing,
}

/// The secret under one of two keys, of which at most one may be written. `None` when neither is, or it is wrong.
pub(super) fn secret(
    reader: &mut Reader,
    fields: &Fields<'_>,
    (file, env): (&str, &str),
    kind: SecretKind,
) -> Option<SecretSource> {
    match (fields.get(file), fields.get(env)) {
        (Some(_), Some(_)) => {
            let message = format!("`{file}` and `{env}` are both given");
            reader.problems.add(fields.place, &fields.path, message, "remove one of them");
            None
        }
        (Some(item), None) => secret_file(reader, &item, kind),
        (None, Some(item)) => secret_env(reader, &item, kind),
        (None, None) => None,
    }
}

/// The secret in the file that `item` names.
pub(super) fn secret_file(
    reader: &mut Reader,
    item: &Item<'_>,
    kind: SecretKind,
) -> Option<SecretSource> {
    secret_in(reader, item, SecretSource::File, kind)
}

/// The secret in the file that `item` names, which has the given form.
pub(super) fn secret_in(
    reader: &mut Reader,
    item: &Item<'_>,
    form: fn(PathBuf) -> SecretSource,
    kind: SecretKind,
) -> Option<SecretSource> {
    let path = reader.path_of(item)?;
    if readable_by_all(&path) {
        reader.open_secrets.push(path.clone());
    }
    secret_of(reader, item, form(path), kind)
}

fn secret_env(reader: &mut Reader, item: &Item<'_>, kind: SecretKind) -> Option<SecretSource> {
    let name = reader.text_of(item)?;
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    if !name.chars().all(word) || could_be_secret(name) {
        let message = "this is not the name of an environment variable".to_owned();
        reader.problem(item, message, "the name, not the secret itself; for example ECE_API_KEY");
        return None;
    }
    secret_of(reader, item, SecretSource::Env(name.to_owned()), kind)
}

fn secret_of(
    reader: &mut Reader,
    item: &Item<'_>,
    source: SecretSource,
    kind: SecretKind,
) -> Option<SecretSource> {
    let hint = match source.path() {
        Some(_) => "relative paths begin at the folder of the configuration file",
        None => "set it in the environment of the service",
    };
    let secret = match read(reader, &source) {
        Ok(secret) => secret,
        Err(SecretError::Io { path, source }) => {
            let path = show(&path.display().to_string());
            reader.problem(item, format!("cannot read {path}: {}", reason(&source)), hint);
            return None;
        }
        Err(error @ SecretError::Unusable { .. }) => {
            let from = source.to_string();
            let what = error.to_string();
            let what = what.strip_prefix(&from).unwrap_or("is unusable").trim();
            let from = match &source {
                SecretSource::File(path) | SecretSource::Csv(path) | SecretSource::Ecctl(path) => {
                    show(&path.display().to_string())
                }
                SecretSource::Env(name) => format!("environment variable {}", show(name)),
            };
            let hint = match &source {
                _ if what == "is empty" => "put the secret into it",
                _ if what == HANGS => "check the disk that it lies on",
                SecretSource::Csv(_) => {
                    "name the file as the Cloud UI wrote it, or write the key alone to a file and use `api_key_file`"
                }
                SecretSource::Ecctl(_) if what.contains("user and a password") => {
                    "use `login: {username: …, password_file: …}`"
                }
                SecretSource::Ecctl(_) => {
                    "name a JSON file of ecctl with an `api_key` (YAML, TOML and HCL are not read), or write the key to a file and use `api_key_file`"
                }
                SecretSource::File(_) | SecretSource::Env(_) => hint,
            };
            reader.problem(item, format!("{from} {what}"), hint);
            return None;
        }
    };
    if let Err((message, hint)) = shape(secret.expose(), kind) {
        reader.problem(item, message.to_owned(), hint);
        return None;
    }
    Some(source)
}

/// Reads a secret as far as the disk lets it: a configuration on a disk that does not answer must not hang the program.
fn read(reader: &mut Reader, source: &SecretSource) -> Result<Secret, SecretError> {
    if let SecretSource::Env(_) = source {
        return source.read();
    }
    let (reply, answer) = mpsc::channel();
    let hanging = source.clone();
    // Whoever asked may have gone on meanwhile.
    std::thread::spawn(move || drop(reply.send(hanging.read())));
    answer.recv_timeout(reader.patience).unwrap_or_else(|_| {
        reader.patience = PATIENCE_AFTER_HANG;
        Err(SecretError::Unusable { from: source.to_string(), what: HANGS.into() })
    })
}

/// Whether a secret has the shape of its kind; the error shows none of it.
fn shape(secret: &str, kind: SecretKind) -> Result<(), (&'static str, &'static str)> {
    match kind {
        SecretKind::Password if secret.contains(char::is_control) => {
            Err(("what it holds is more than one line", "one password, and nothing else"))
        }
        SecretKind::Password => Ok(()),
        SecretKind::ApiKey | SecretKind::Token => {
            if secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                Ok(())
            } else {
                Err((
                    "what it holds is not one word",
                    "only the key or token itself, without `ApiKey` or `Bearer`",
                ))
            }
        }
        SecretKind::HttpsUrl | SecretKind::AnyUrl => url_shape(secret, kind),
        SecretKind::Signing => {
            let hint = "`whsec_` and 24 to 64 random bytes as base64: echo whsec_$(openssl rand -base64 32)";
            let Some(encoded) = secret.strip_prefix("whsec_") else {
                return Err(("what it holds does not begin with `whsec_`", hint));
            };
            match base64::engine::general_purpose::STANDARD.decode(encoded) {
                Ok(bytes) if SIGNING_BYTES.contains(&bytes.len()) => Ok(()),
                Ok(_) => Err(("what it holds has the wrong length", hint)),
                Err(_) => Err(("what it holds is not base64", hint)),
            }
        }
    }
}

fn url_shape(secret: &str, kind: SecretKind) -> Result<(), (&'static str, &'static str)> {
    let hint = "one absolute URL, for example https://hooks.example.org/ece";
    let Ok(url) = reqwest::Url::parse(secret) else {
        return Err(("what it holds is not a URL", hint));
    };
    let Some(host) = url.host_str() else { return Err(("the URL in it has no host", hint)) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err((
            "the URL in it contains a user name or a password",
            "use `http_config.authorization`",
        ));
    }
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|it| it.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback || kind == SecretKind::AnyUrl => Ok(()),
        "http" => Err((
            "the URL in it has no TLS",
            "use https://, or set `allow_http: true` if you accept that",
        )),
        _ => Err(("the URL in it does not begin with https://", hint)),
    }
}

/// The settings under `tls_config`.
pub(super) fn tls(reader: &mut Reader, fields: &Fields<'_>) -> TlsConfig {
    let Some(fields) = reader.one(fields, "tls_config") else { return TlsConfig::default() };
    let ca_file = fields.get("ca_file").and_then(|it| pem(reader, &it, "CERTIFICATE"));
    let cert_file = fields.get("cert_file").and_then(|it| pem(reader, &it, "CERTIFICATE"));
    let key_file = fields.get("key_file").and_then(|it| pem(reader, &it, "PRIVATE KEY"));
    for (one, other) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
        if fields.has(one) && !fields.has(other) {
            let message = format!("`{one}` needs `{other}`");
            reader.problems.add(
                fields.place,
                &fields.path,
                message,
                format!("add `{other}`, or remove `{one}`"),
            );
        }
    }
    let server_name = reader.text(&fields, "server_name").map(str::to_owned);
    let skip = reader.flag(&fields, "insecure_skip_verify");
    let fingerprint = fields.get("fingerprint_sha256").and_then(|it| fingerprint(reader, &it));
    if skip && fields.has("fingerprint_sha256") {
        let message =
            "`insecure_skip_verify` and `fingerprint_sha256` exclude each other".to_owned();
        reader.problems.add(fields.place, &fields.path, message, "keep the fingerprint");
    } else if skip {
        let path = &fields.path;
        reader.problems.warn(format!("{path}.insecure_skip_verify: every certificate is accepted; whoever is on the way can read the credentials"));
    }
    let verify = match (fingerprint, skip) {
        (Some(fingerprint), _) => TlsVerify::Fingerprint(fingerprint),
        (None, true) => TlsVerify::None,
        (None, false) => TlsVerify::Full,
    };
    TlsConfig { ca_file, identity: cert_file.zip(key_file), server_name, verify }
}

fn fingerprint(reader: &mut Reader, item: &Item<'_>) -> Option<[u8; 32]> {
    let text = reader.text_of(item)?;
    let digits: Option<Vec<u32>> =
        text.chars().filter(|char| *char != ':').map(|char| char.to_digit(16)).collect();
    let bytes: Option<Vec<u8>> = digits.and_then(|digits| {
        let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
        if digits.len() % 2 == 0 { digits.chunks(2).map(byte).collect() } else { None }
    });
    let fingerprint = bytes.and_then(|it| <[u8; 32]>::try_from(it).ok());
    if fingerprint.is_none() {
        let message = format!("{} is not a SHA-256 fingerprint", show(text));
        let hint = "64 hexadecimal digits: openssl x509 -in CERT -noout -fingerprint -sha256";
        reader.problem(item, message, hint);
    }
    fingerprint
}

/// The path of a PEM file that holds a block of the kind `label`.
fn pem(reader: &mut Reader, item: &Item<'_>, label: &str) -> Option<PathBuf> {
    let path = reader.path_of(item)?;
    let shown = show(&path.display().to_string());
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut text));
    if let Err(error) = read {
        let hint = "relative paths begin at the folder of the configuration file";
        reader.problem(item, format!("cannot read {shown}: {}", reason(&error)), hint);
        return None;
    }
    let text = String::from_utf8_lossy(&text);
    let begins = |line: &str| {
        line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{label}-----"))
    };
    if !text.lines().any(begins) {
        let message = format!("{shown} holds no {}", label.to_lowercase());
        reader.problem(item, message, format!("a PEM file with a block `-----BEGIN {label}-----`"));
        return None;
    }
    if label == "PRIVATE KEY" && readable_by_all(&path) {
        reader.open_secrets.push(path.clone());
    }
    Some(path)
}

/// The headers under `http_headers`.
pub(super) fn headers(reader: &mut Reader, fields: &Fields<'_>) -> Vec<(String, String)> {
    let written = reader.text_map(fields, "http_headers");
    if HEADERS_MAX < written.len()
        && let Some(item) = fields.get("http_headers")
    {
        let message = format!("has {} headers; at most {HEADERS_MAX} are allowed", written.len());
        reader.problem(&item, message, "keep those that the gateway needs");
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (item, name, value) in written {
        let lower = name.to_ascii_lowercase();
        let (message, hint) = if HeaderName::from_bytes(name.as_bytes()).is_err() {
            (
                "this is not the name of a header",
                "letters, digits and `-`, for example X-Gateway-Token",
            )
        } else if lower == "authorization" {
            (
                "`Authorization` is not allowed here",
                "the program sets it: from `api_key_file` for a platform, from `http_config.authorization` for a webhook",
            )
        } else if HEADERS_RESERVED.contains(&lower.as_str()) {
            ("this header is set by the program", "remove it")
        } else if headers.iter().any(|(it, _)| it.eq_ignore_ascii_case(name)) {
            ("this header is given twice", "upper and lower case are the same; remove one of them")
        } else if HeaderValue::from_str(value).is_err() {
            (
                "the value of this header is not one line of text",
                "remove line feeds and control characters",
            )
        } else {
            headers.push((name.to_owned(), value.to_owned()));
            continue;
        };
        reader.problem(&item, message.to_owned(), hint);
    }
    headers
}

/// Warns once of all secret files that everybody on the machine can read.
pub(super) fn report_open_secrets(reader: &mut Reader) {
    let open = std::mem::take(&mut reader.open_secrets);
    let Some(first) = open.first() else { return };
    let first = show(&first.display().to_string());
    let others = match open.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more secret files"),
    };
    reader.problems.warn(format!(
        "{first}{others} can be read by every user of this machine; take that away with chmod o-r"
    ));
}

#[cfg(unix)]
fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn readable_by_all(_: &Path) -> bool {
    false
}

/// The reason of a failed read, without the number that the system adds.
pub(super) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
