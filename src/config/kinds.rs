//! What a credential is: one of several keys says it, and where its secret is read.

use super::check::{self, SecretKind};
use super::problems::show;
use super::reader::{Fields, Reader};
use super::secret::ecctl;
use super::{CredentialKind, SecretSource};

/// The keys of which a credential has exactly one.
const KEYS: [&str; 7] = [
    "api_key_file",
    "api_key_env",
    "api_key_csv_file",
    "ecctl_config_file",
    "bearer_token_file",
    "bearer_token_env",
    "login",
];

/// Secrets that people write into the file, of which the reader says what to do instead.
const INLINE: [&str; 3] = ["api_key", "bearer_token", "password"];

/// ECE's users that are built in; they own no API keys.
const BUILT_IN: [&str; 2] = ["admin", "readonly"];

/// The kind of the credential under `fields`; `None` when it is missing or wrong. `urls` are the platform's.
pub(super) fn kind(
    reader: &mut Reader,
    fields: &Fields<'_>,
    urls: &[String],
) -> Option<CredentialKind> {
    let written: Vec<&str> = KEYS.into_iter().filter(|key| fields.has(key)).collect();
    match written.as_slice() {
        [] if INLINE.into_iter().any(|key| fields.has_unknown(key)) => None,
        [] => {
            let message = "needs `api_key_file` or `api_key_env`, or another secret".to_owned();
            let hint = "for example `api_key_file: secrets/terraform`; there are also `api_key_csv_file`, \
                        `ecctl_config_file`, `bearer_token_file`, `bearer_token_env` and `login`";
            reader.problems.add(fields.place, &fields.path, message, hint);
            None
        }
        ["login"] => login(reader, fields),
        ["api_key_file" | "api_key_env"] => {
            let keys = ("api_key_file", "api_key_env");
            check::secret(reader, fields, keys, SecretKind::ApiKey).map(CredentialKind::ApiKey)
        }
        ["bearer_token_file" | "bearer_token_env"] => {
            let keys = ("bearer_token_file", "bearer_token_env");
            check::secret(reader, fields, keys, SecretKind::Token).map(CredentialKind::BearerToken)
        }
        [key @ "api_key_csv_file"] => {
            let item = fields.get(key)?;
            let source = check::secret_in(reader, &item, SecretSource::Csv, SecretKind::ApiKey)?;
            Some(CredentialKind::ApiKey(source))
        }
        [key] => {
            let item = fields.get(key)?;
            let source = check::secret_in(reader, &item, SecretSource::Ecctl, SecretKind::ApiKey)?;
            warn_of_host(reader, &item.path, &source, urls);
            Some(CredentialKind::ApiKey(source))
        }
        [first, second, ..] => {
            let message = format!("`{first}` and `{second}` are both given");
            reader.problems.add(fields.place, &fields.path, message, "remove one of them");
            None
        }
    }
}

fn login(reader: &mut Reader, fields: &Fields<'_>) -> Option<CredentialKind> {
    let login = reader.one(fields, "login")?;
    let username = reader.text(&login, "username").map(str::to_owned);
    let keys = ("password_file", "password_env");
    let password = check::secret(reader, &login, keys, SecretKind::Password);
    if !login.has(keys.0) && !login.has(keys.1) && !login.has_unknown("password") {
        let message = "needs `password_file` or `password_env`".to_owned();
        reader.problems.add(
            login.place,
            &login.path,
            message,
            "for example `password_file: secrets/ops`",
        );
    }
    if let Some(item) = fields.get("steps") {
        let message =
            "do not apply to a `login`: ECE does not tell when a password expires".to_owned();
        reader.problem(
            &item,
            message,
            "remove them; a password that stops working is told all the same",
        );
    }
    if let Some(name) = username.as_deref().filter(|it| BUILT_IN.contains(it)) {
        reader.problems.warn(format!(
            "{}: the built-in user {name} owns no API keys, so nothing of it expires; this login tells when its \
             password stops working",
            login.path
        ));
    }
    Some(CredentialKind::Login { username: username?, password: password? })
}

/// Warns when ecctl would ask another host than the platform's: the key may be of another installation.
fn warn_of_host(reader: &mut Reader, path: &str, source: &SecretSource, urls: &[String]) {
    let text = source.path().and_then(|it| std::fs::read_to_string(it).ok()).unwrap_or_default();
    let Some(host) = ecctl::host(&text) else { return };
    let place = |text: &str| {
        let url = reqwest::Url::parse(text).ok()?;
        Some((url.host_str()?.to_owned(), url.port_or_known_default()))
    };
    if !urls.iter().any(|url| place(url) == place(&host)) {
        let host = show(&host);
        reader.problems.warn(format!(
            "{path}: its host {host} is not among the `urls` of the platform, and is not asked; check that the key is of this platform"
        ));
    }
}
