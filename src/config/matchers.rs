//! Matchers of labels, in the syntax and with the meaning of Alertmanager. Pure.
//!
//! One matcher compares one label. Which alerts a list of them selects is decided in `routes`.

use std::collections::BTreeMap;
use std::fmt;

use regex::{Regex, RegexBuilder};

/// The longest value of a matcher: an alternation of some dozens of names.
const VALUE_BYTES_MAX: usize = 1024;

/// The longest name of a label, as for the free labels.
const LABEL_BYTES_MAX: usize = 128;

/// The memory of one compiled expression: each alert is compared with every one of them, and there can be thousands.
const REGEX_BYTES_MAX: usize = 256 * 1024;

/// What an unquoted value may not hold, as in Alertmanager.
const RESERVED: &[char] = &['{', '}', '!', '=', '~', ',', '\\', '"', '\'', '`'];

/// One comparison of one label: `team="platform"`. Displays so that it can be read again.
#[derive(Debug, Clone)]
pub struct Matcher {
    label: String,
    op: MatchOp,
    value: String,
    /// The value compiled, if the operator takes an expression; anchored at both ends.
    regex: Option<Regex>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchOp {
    /// `=`: it is this text.
    Equal,
    /// `!=`: it is another text.
    NotEqual,
    /// `=~`: the whole of it fits the regular expression.
    Fits,
    /// `!~`: the whole of it does not fit the regular expression.
    FitsNot,
}

impl MatchOp {
    /// All operators; one that begins like another stands before it.
    pub const ALL: [Self; 4] = [Self::Fits, Self::FitsNot, Self::NotEqual, Self::Equal];

    /// As it is written: `=`, `!=`, `=~`, `!~`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Fits => "=~",
            Self::FitsNot => "!~",
        }
    }

    fn takes_regex(self) -> bool {
        match self {
            Self::Equal | Self::NotEqual => false,
            Self::Fits | Self::FitsNot => true,
        }
    }
}

impl Matcher {
    /// Reads `label`, operator and value; the value in double quotes, or without if it has no blank and no sign of the
    /// syntax. The error is a sentence with a hint.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let (label, rest) = text.split_at(text.find(|it| !word(it)).unwrap_or(text.len()));
        if label.is_empty() || label.starts_with(|it: char| it.is_ascii_digit()) {
            return Err(
                "does not begin with the name of a label; for example team=\"platform\"".to_owned()
            );
        }
        if LABEL_BYTES_MAX < label.len() {
            return Err("has a name of a label that is too long; shorten it".to_owned());
        }
        let rest = rest.trim_start();
        let Some(op) = MatchOp::ALL.into_iter().find(|it| rest.starts_with(it.sign())) else {
            return Err(format!(
                "has no operator behind `{label}`; there are =, !=, =~ and !~, as in {label}=\"x\""
            ));
        };
        let value = value(rest[op.sign().len()..].trim_start())?;
        Self::new(label, op, &value)
    }

    /// A matcher of these parts; the error as of `parse`.
    pub fn new(label: &str, op: MatchOp, value: &str) -> Result<Self, String> {
        if VALUE_BYTES_MAX < value.len() {
            return Err(format!(
                "has a value of {} bytes, and at most {VALUE_BYTES_MAX} are allowed; use two routes",
                value.len()
            ));
        }
        let regex = if op.takes_regex() { Some(compile(value)?) } else { None };
        Ok(Self { label: label.to_owned(), op, value: value.to_owned(), regex })
    }

    /// The name of the label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// How it is compared.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// What it is compared with: a text, or a regular expression.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether labels fit; a label that is not there is the empty text.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.takes(labels.get(&self.label).map_or("", String::as_str))
    }

    /// Whether this value of the label fits.
    pub fn takes(&self, value: &str) -> bool {
        let fits = self.regex.as_ref().map_or(self.value == value, |it| it.is_match(value));
        match self.op {
            MatchOp::Equal | MatchOp::Fits => fits,
            MatchOp::NotEqual | MatchOp::FitsNot => !fits,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Matcher {}

impl Matcher {
    /// By this Alertmanager sorts matchers where it names a route: label, value, operator.
    pub(super) fn order(&self) -> (&str, &str, MatchOp) {
        (&self.label, &self.value, self.op)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.label, self.op.sign(), quoted(&self.value))
    }
}

/// A value in double quotes, as Alertmanager writes it.
pub(super) fn quoted(value: &str) -> String {
    let mut text = String::from('"');
    for char in value.chars() {
        match char {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            _ => text.push(char),
        }
    }
    text + "\""
}

/// The value behind the operator, its quotes and escapes taken off.
fn value(text: &str) -> Result<String, String> {
    let Some(inner) = text.strip_prefix('"') else {
        let wrong = |it: char| it.is_whitespace() || RESERVED.contains(&it);
        if text.contains(wrong) {
            return Err("has a value that needs double quotes, or more than one matcher; write one matcher in an \
                        entry, as in '- team=\"a b\"'"
                .to_owned());
        }
        if text.is_empty() {
            return Err("has no value; the empty text is written \"\"".to_owned());
        }
        return Ok(text.to_owned());
    };
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' if chars.as_str().is_empty() => return Ok(value),
            '"' => {
                return Err("goes on behind the closing quote; write one matcher in an entry, and \\\" for a quote \
                            in a value"
                    .to_owned());
            }
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(char @ ('"' | '\\')) => value.push(char),
                // As in Alertmanager: what is no escape of the syntax is one of the expression.
                Some(char) => value.extend(['\\', char]),
                None => break,
            },
            _ => value.push(char),
        }
    }
    Err("has no closing quote; add \" at its end".to_owned())
}

/// Anchored as Alertmanager does it.
fn compile(text: &str) -> Result<Regex, String> {
    // Alone first: `a)(b` must not become right by the brackets of the anchors.
    let parsed = Regex::new(text).and_then(|_| {
        RegexBuilder::new(&format!("^(?:{text})$")).size_limit(REGEX_BYTES_MAX).build()
    });
    parsed.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            "has a regular expression that is too large; use a shorter one, or two routes"
                .to_owned()
        }
        _ => {
            // The last line names the mistake; those before it draw an arrow below the text.
            let said = error.to_string();
            let said = said.lines().last().unwrap_or_default();
            let said = said.strip_prefix("error: ").unwrap_or(said);
            format!(
                "has a regular expression that is wrong ({said}); see https://docs.rs/regex/#syntax"
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_matcher_takes_what_alertmanager_takes() {
        for (text, value, expected) in [
            ("team=\"platform\"", "platform", true),
            ("team=platform", "platform", true),
            (" team = platform ", "platform", true),
            ("team=platform", "platform-2", false),
            ("team!=platform", "", true),
            ("team!=\"\"", "", false),
            ("team=\"\"", "", true),
            ("severity=~\"warning|critical\"", "critical", true),
            ("severity=~warning|critical", "critical", true),
            ("severity=~\"warning|critical\"", "criticality", false),
            ("severity=~\"warning|critical\"", "xwarning", false),
            ("severity!~\"warn.*\"", "warning", false),
            ("severity!~\"warn.*\"", "info", true),
            ("x=~\"a\\.b\"", "a.b", true),
            ("x=~\"a\\\\.b\"", "a.b", true),
            ("x=~\"a\\.b\"", "aXb", false),
            ("x=\"a\\\"b\\\\c\\nd\"", "a\"b\\c\nd", true),
            ("x=~\"(?i)ÄB\"", "äb", true),
            ("x=~\"\\\\d+\"", "12", true),
            ("x=~\"\"", "", true),
            ("x=~\".*\"", "", true),
            ("x=~\".+\"", "", false),
            ("x=\"a,b {c}\"", "a,b {c}", true),
        ] {
            let matcher = Matcher::parse(text).unwrap_or_else(|it| panic!("{text}: {it}"));
            assert_eq!(matcher.takes(value), expected, "{text} on {value:?}");
            let again = Matcher::parse(&matcher.to_string()).unwrap();
            assert_eq!(again, matcher, "{text}");
        }
    }

    #[test]
    fn a_label_that_is_missing_is_empty() {
        let here = labels(&[("team", "a")]);
        assert!(Matcher::parse("user=\"\"").unwrap().matches(&here));
        assert!(!Matcher::parse("user=~\".+\"").unwrap().matches(&here));
        assert!(Matcher::parse("team=a").unwrap().matches(&here));
    }

    #[test]
    fn what_is_no_matcher_is_refused_with_a_hint() {
        for (text, expected) in [
            ("", "does not begin with the name of a label"),
            ("=x", "does not begin with the name of a label"),
            ("{team=\"a\"}", "does not begin with the name of a label"),
            ("0x=a", "does not begin with the name of a label"),
            ("team", "has no operator behind `team`"),
            ("team: a", "has no operator behind `team`"),
            ("team=", "has no value"),
            ("team=a,severity=b", "needs double quotes"),
            ("team=a b", "needs double quotes"),
            ("team==a", "needs double quotes"),
            ("team=\"a", "has no closing quote"),
            ("team=\"a\\", "has no closing quote"),
            ("team=\"a\" b", "goes on behind the closing quote"),
            ("team=~\"(\"", "unclosed group"),
            ("team=~\"a)(b\"", "unopened group"),
            ("team=~\"a{1000}{1000}\"", "too large"),
        ] {
            let error = Matcher::parse(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("; "), "{text}: {error}");
        }
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert!(Matcher::parse(&format!("team={long}")).unwrap_err().contains("1025 bytes"));
        assert!(Matcher::parse(&format!("{long}=a")).unwrap_err().contains("too long"));
    }
}
