//! Secrets and where they are read.
//!
//! A `Secret` cannot print: neither `Debug` nor any error shows it, and there is no `Display` and no `Serialize`.
//! A `SecretSource` is read again before each use, so a rotated file needs no restart.

mod csv;
pub(super) mod ecctl;

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// The most that is read from a secret file; a key, a password or a URL is far shorter.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// Room for a secret as they are, so that reading one takes one read.
const SECRET_BYTES_USUAL: usize = 512;

/// A secret text. `Debug` prints `[secret]`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The text itself; the caller must not print it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret is read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// The whole file less white space at both ends.
    File(PathBuf),
    /// An environment variable of this process.
    Env(String),
    /// The key in the CSV file that the Cloud UI offers for download.
    Csv(PathBuf),
    /// The `api_key` in a configuration file of ecctl, in JSON.
    Ecctl(PathBuf),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Csv(path) => write!(f, "CSV file {}", path.display()),
            Self::Ecctl(path) => write!(f, "ecctl file {}", path.display()),
        }
    }
}

/// Why a secret could not be read. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The source is not set, empty, too long, or not text.
    #[error("{from} {what}")]
    Unusable {
        /// The source, as it displays.
        from: String,
        /// What is wrong with it.
        what: Cow<'static, str>,
    },
}

impl SecretSource {
    /// Reads the secret now.
    ///
    /// # Errors
    /// The file is missing, unreadable or larger than 64 KiB, the variable is unset, the text is empty or not UTF-8,
    /// or a CSV or ecctl file does not hold exactly one key.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let unusable =
            |what: Cow<'static, str>| SecretError::Unusable { from: self.to_string(), what };
        let read = |path: &Path| read_text(path, &unusable);
        let text = match self {
            Self::File(path) => read(path)?,
            Self::Csv(path) => csv::key(&read(path)?).map_err(unusable)?,
            Self::Ecctl(path) => ecctl::api_key(&read(path)?).map_err(unusable)?,
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => unusable("is not set".into()),
                std::env::VarError::NotUnicode(_) => unusable(NOT_TEXT.into()),
            })?,
        };
        match text.trim() {
            "" => Err(unusable("is empty".into())),
            text => Ok(Secret::new(text.to_owned())),
        }
    }

    /// What tells it apart from others in a few words: the name of the file, or of the variable.
    pub fn name(&self) -> String {
        match self {
            Self::Env(name) => name.clone(),
            Self::File(path) | Self::Csv(path) | Self::Ecctl(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
        }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Csv(path) | Self::Ecctl(path) => Some(path),
            Self::Env(_) => None,
        }
    }
}

const NOT_TEXT: &str = "is not UTF-8 text";

/// The text of a whole file, within bounds.
fn read_text(
    path: &Path,
    unusable: &dyn Fn(Cow<'static, str>) -> SecretError,
) -> Result<String, SecretError> {
    let io = |source| SecretError::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::with_capacity(SECRET_BYTES_USUAL);
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if SECRET_BYTES_MAX < bytes.len() {
        return Err(unusable("is larger than 64 KiB, so it is not a secret".into()));
    }
    String::from_utf8(bytes).map_err(|_| unusable(NOT_TEXT.into()))
}
