//! Where the configuration comes from: a file, or, without any, one key that is named in the environment.
//!
//! The variables are those that the tools of ECE know, so that a shell in which they work can watch its key at once.

use std::fmt;
use std::path::{Path, PathBuf};

use super::problems::show;
use super::{Config, ConfigErrors};

/// The file that is read when none is named.
const FILE: &str = "/etc/ece-expiry-exporter/config.yml";

/// The TLS port of ECE's API on a coordinator, by its documentation of networking prerequisites.
const PORT: u16 = 12443;

/// Variables that go together: the key, and either of two for the host. The first set is of ecctl and the Terraform
/// provider, the second of ECE's documentation and of another exporter.
const SETS: [(&str, [&str; 2]); 2] =
    [("EC_API_KEY", ["EC_HOST", "EC_ENDPOINT"]), ("ECE_API_KEY", ["ECE_URL", "COORDINATOR_HOST"])];

/// Where the configuration is read, each time anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that somebody named; if it is missing, that is an error.
    File(PathBuf),
    /// The file at the usual place, or the environment if there is none.
    Usual,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual if !self.path().exists() => f.write_str("the environment"),
            Self::File(_) | Self::Usual => write!(f, "{}", self.path().display()),
        }
    }
}

impl Source {
    /// The file that was named on the command line, or the usual place.
    pub fn new(named: Option<PathBuf>) -> Self {
        named.map_or(Self::Usual, Self::File)
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Usual => Path::new(FILE),
        }
    }

    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// As `Config::load`; and the environment names two keys, or a key without a host.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        let path = self.path();
        match self {
            Self::Usual if !path.exists() => match from_environment(|it| std::env::var(it).ok())? {
                Some(config) => Ok(config),
                None => Config::load(path),
            },
            Self::File(_) | Self::Usual => Config::load(path),
        }
    }
}

/// The configuration that the variables stand for; `None` when no key is set.
fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Config>, ConfigErrors> {
    let origin = Path::new("environment");
    let wrong = |message: String, hint: &str| Err(ConfigErrors::of_file(origin, message, hint));
    let given = |name: &str| variable(name).filter(|it| !it.trim().is_empty());
    let named: Vec<_> = SETS.into_iter().filter(|(key, _)| given(key).is_some()).collect();
    let (key, hosts) = match named.as_slice() {
        [] => return Ok(None),
        [one] => *one,
        [(one, _), (other, _), ..] => {
            let message = format!("{one} and {other} are both set, and there is no file at {FILE}");
            return wrong(message, "unset one of them, or write a configuration with both keys");
        }
    };
    let set: Vec<(&str, String)> =
        hosts.into_iter().filter_map(|it| Some((it, given(it)?))).collect();
    let (name, host) = match set.as_slice() {
        [] => {
            let message = format!("{key} is set, but neither {} nor {}", hosts[0], hosts[1]);
            return wrong(
                message,
                "set one of them to a coordinator, or name a file with --config.file",
            );
        }
        [(one, a), (other, b)] if a != b => {
            return wrong(format!("{one} and {other} differ"), "unset one of them");
        }
        [(name, host), ..] => (*name, url_of(host)),
    };
    if reqwest::Url::parse(&host).is_err() {
        let message = format!("{name} is not a host or a URL: {}", show(&host));
        return wrong(message, "for example ece-1.example.org or https://ece-1.example.org:12443");
    }
    let url = serde_json::Value::from(host.as_str());
    let text = format!(
        "platforms: [{{name: ece, urls: [{url}], credentials: [{{name: env, api_key_env: {key}}}]}}]\n"
    );
    let mut config = Config::parse(&text, origin)?;
    let warning = format!(
        "environment: there is no file at {FILE}, so the one key in {key} is watched, at the host in {name} ({})",
        show(&host)
    );
    config.warnings.insert(0, warning);
    Ok(Some(config))
}

/// A host as a URL: with TLS and ECE's port, unless it says something else.
fn url_of(host: &str) -> String {
    let host = host.trim().trim_end_matches('/');
    if host.contains("://") {
        return host.to_owned();
    }
    let (name, path) = host.split_once('/').unwrap_or((host, ""));
    let slash = if path.is_empty() { "" } else { "/" };
    let has_port = name.rsplit_once(':').is_some_and(|(before, port)| {
        port.parse::<u16>().is_ok() && (!before.contains(':') || before.ends_with(']'))
    });
    match name {
        _ if has_port => format!("https://{name}{slash}{path}"),
        _ if name.contains(':') && !name.starts_with('[') => {
            format!("https://[{name}]:{PORT}{slash}{path}")
        }
        _ => format!("https://{name}:{PORT}{slash}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_becomes_a_url() {
        for (host, url) in [
            ("ece.example.org", "https://ece.example.org:12443"),
            ("ece.example.org/", "https://ece.example.org:12443"),
            ("ece.example.org:443", "https://ece.example.org:443"),
            ("ece.example.org/api/v1", "https://ece.example.org:12443/api/v1"),
            ("10.0.0.1", "https://10.0.0.1:12443"),
            ("::1", "https://[::1]:12443"),
            ("[::1]", "https://[::1]:12443"),
            ("[::1]:443", "https://[::1]:443"),
            ("https://ece.example.org", "https://ece.example.org"),
            (" http://ece:12400/ ", "http://ece:12400"),
        ] {
            assert_eq!(url_of(host), url, "{host}");
        }
    }

    #[test]
    fn what_is_missing_or_double_is_named() {
        let said = |set: &[(&str, &str)]| {
            let variable = |name: &str| {
                set.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
            };
            from_environment(variable).unwrap_err().to_string()
        };
        for (set, parts) in [
            (
                vec![("EC_API_KEY", "CANARY")],
                ["EC_API_KEY is set, but neither EC_HOST nor EC_ENDPOINT"; 1],
            ),
            (
                vec![("ECE_API_KEY", "CANARY"), ("EC_HOST", "ece")],
                ["ECE_API_KEY is set, but neither ECE_URL nor COORDINATOR_HOST"],
            ),
            (
                vec![
                    ("EC_API_KEY", "CANARY"),
                    ("EC_HOST", "a"),
                    ("ECE_API_KEY", "CANARY"),
                    ("ECE_URL", "b"),
                ],
                ["EC_API_KEY and ECE_API_KEY are both set"],
            ),
            (
                vec![("EC_API_KEY", "CANARY"), ("EC_HOST", "a"), ("EC_ENDPOINT", "b")],
                ["EC_HOST and EC_ENDPOINT differ"],
            ),
            (
                vec![("EC_API_KEY", "CANARY"), ("EC_HOST", "https://")],
                ["EC_HOST is not a host or a URL"],
            ),
        ] {
            let said = said(&set);
            assert!(parts.iter().all(|it| said.contains(it)), "{said}");
            assert!(!said.contains("CANARY"), "{said}");
        }
        assert!(from_environment(|_| None).unwrap().is_none());
    }
}
