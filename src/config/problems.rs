//! What is wrong with a configuration file: all of it, each with its place, and never a secret.
//!
//! A value is shown only through `show`, which hides what could be a key, a token or a password in the wrong place.
//! Neighbouring lines are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use super::yaml::{Place, SyntaxError};

/// The most problems that are listed; the rest is counted. One wrong default can spoil every credential of thousands.
const PROBLEMS_MAX: usize = 100;

/// The longest value that is shown in full.
const SHOWN_CHARS_MAX: usize = 80;

/// The shortest unbroken text of mixed letters and digits that is taken for a secret.
const SECRET_CHARS_MIN: usize = 20;

/// Everything that is wrong with a file, in the order of its lines; displays one problem per line as
/// `FILE:LINE:COLUMN: PATH: message (hint)`.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    origin: PathBuf,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The column, from 1; 0 when the file as a whole is meant.
    pub column: usize,
    /// The key, like `platforms[0].credentials[2].api_key_file`; empty when the file as a whole is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl ConfigErrors {
    pub(super) fn new(origin: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|it| (it.line, it.column));
        Self { origin: origin.to_owned(), problems }
    }

    /// One problem of the file as a whole.
    pub(super) fn of_file(origin: &Path, message: String, hint: &str) -> Self {
        let hint = hint.to_owned();
        let problem = Problem { line: 0, column: 0, path: String::new(), message, hint };
        Self::new(origin, vec![problem])
    }

    /// The text is not a tree.
    pub(super) fn of_syntax(origin: &Path, error: SyntaxError) -> Self {
        let mut problems = Problems::default();
        problems.add(error.place, "", error.message, error.hint);
        Self::new(origin, problems.list)
    }

    /// The problems, in the order of the file; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin.display();
        for (index, it) in self.problems.iter().take(PROBLEMS_MAX).enumerate() {
            if 0 < index {
                writeln!(f)?;
            }
            write!(f, "{origin}:")?;
            if 0 < it.line {
                write!(f, "{}:{}:", it.line, it.column)?;
            }
            if !it.path.is_empty() {
                write!(f, " {}:", it.path)?;
            }
            write!(f, " {}", it.message)?;
            if !it.hint.is_empty() {
                write!(f, " ({})", it.hint)?;
            }
        }
        match self.problems.len().saturating_sub(PROBLEMS_MAX) {
            0 => Ok(()),
            more => write!(f, "\n{origin}: {more} more problems are not listed"),
        }
    }
}

/// Collects problems and warnings while the file is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) list: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Problems {
    pub(super) fn add(
        &mut self,
        place: Place,
        path: &str,
        message: String,
        hint: impl Into<String>,
    ) {
        let (path, hint) = (path.to_owned(), hint.into());
        self.list.push(Problem { line: place.line, column: place.column, path, message, hint });
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}

/// `text` in back quotes, cut to what is readable; what could be a secret is replaced by its length.
pub(super) fn show(text: &str) -> String {
    if could_be_secret(text) {
        return format!("<{} bytes, hidden because they could be a secret>", text.len());
    }
    let clean: String = text.chars().flat_map(escape).take(SHOWN_CHARS_MAX).collect();
    let cut = if SHOWN_CHARS_MAX < text.chars().count() { "…" } else { "" };
    format!("`{clean}{cut}`")
}

fn escape(char: char) -> Vec<char> {
    if char.is_control() { char.escape_default().collect() } else { vec![char] }
}

/// Whether `text` looks like a key, a token or a URL with a password. Paths and sentences do not.
pub(super) fn could_be_secret(text: &str) -> bool {
    const MARKS: [&str; 7] =
        ["essu_", "whsec_", "whsk_", "ApiKey ", "Bearer ", "Basic ", "-----BEGIN"];
    if MARKS.iter().any(|mark| text.contains(mark)) {
        return true;
    }
    if text.split_once("://").is_some_and(|(_, rest)| rest.contains('@') || rest.contains('?')) {
        return true;
    }
    text.split(|char: char| !(char.is_ascii_alphanumeric() || "+/=_-".contains(char))).any(|run| {
        let slashes = run.chars().filter(|char| *char == '/').count();
        SECRET_CHARS_MIN <= run.len()
            && slashes * SECRET_CHARS_MIN <= run.len()
            && run.chars().any(|char| char.is_ascii_digit())
            && run.chars().any(|char| char.is_ascii_lowercase())
            && (run.chars().any(|char| char.is_ascii_uppercase()) || run.len() == 32)
    })
}

/// The nearest of `candidates`, when it is near enough to be what was meant.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Longer words are no typing errors, and the distance costs the product of both lengths.
    const WORD_BYTES_MAX: usize = 64;
    if WORD_BYTES_MAX < word.len() {
        return None;
    }
    let word = word.to_lowercase();
    let scored = candidates.map(|it| (distance(&word, &it.to_lowercase()), it));
    let (score, best) = scored.min_by_key(|(score, _)| *score)?;
    let near = score <= (word.len() / 3).max(1) || (3 <= word.len() && best.starts_with(&word));
    near.then_some(best)
}

/// How many letters must be put in, taken out, replaced or swapped to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if 1 < i && 1 < j && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_secret_is_not_shown() {
        for secret in [
            "essu_WkZKS1lsazEyTUpL",
            "bWFyYzo4ZTJmNmZkNjY5ZmQ0MDBkOTQ3ZjI3MTg3ZWI5MWZhYjpOQktHY05jclE0",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZg==",
            "https://user:pw@example.org",
            "https://hooks.example.org/x?token=1",
            "0f5a83c1aa7d42b09e6c2f1d7b3a9e55",
        ] {
            assert!(could_be_secret(secret), "{secret}");
            assert!(!show(secret).contains(secret), "{secret}");
        }
    }

    #[test]
    fn paths_and_words_are_shown() {
        for word in [
            "/etc/ece-expiry-exporter/secrets/terraform-prod-2",
            "every 15 minutes",
            "https://ece-1.example.org:12443",
            "platform-team-switzerland",
        ] {
            assert_eq!(show(word), format!("`{word}`"));
        }
    }

    #[test]
    fn a_typing_error_has_a_suggestion_and_another_word_has_none() {
        let keys = ["schedule", "timezone", "api_key_file", "api_key_env"];
        let nearest = |word| nearest(word, keys.into_iter());
        assert_eq!(nearest("shedule"), Some("schedule"));
        assert_eq!(nearest("tiemzone"), Some("timezone"));
        assert_eq!(nearest("api_key_fiel"), Some("api_key_file"));
        assert_eq!(nearest("colour"), None);
    }
}
