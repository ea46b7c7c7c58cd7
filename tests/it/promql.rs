//! What a `PromQL` expression names: metrics with the labels of their matchers, and labels of its groupings.
//!
//! A scanner, not a parser: it finds names and checks no syntax (`promtool` does). It knows the variables of Grafana
//! (`$x`, `${x}`, `$__rate_interval`) and leaves them out.

use std::iter::Peekable;
use std::str::Chars;

/// Words that are neither metrics nor functions; functions are known by the parenthesis that follows.
const WORDS: [&str; 24] = [
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "atan2",
    "inf",
    "nan",
    "sum",
    "min",
    "max",
    "avg",
    "group",
    "count",
    "topk",
    "bottomk",
    "quantile",
    "stddev",
];

/// Words that are followed by a list of label names.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// The metrics that `expr` names, in order, each with the label names of its matchers. A selector without a name, or
/// with one that is not an equality, is named by what its `__name__` is compared to, or by nothing.
pub fn metrics_of(expr: &str) -> Vec<(String, Vec<String>)> {
    let tokens = tokens(expr);
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1);
        match &tokens[at] {
            Token::Word(word) if GROUPINGS.contains(&word.as_str()) => {
                if next == Some(&Token::Sign('(')) {
                    at = closing(&tokens, at + 1, ')');
                }
            }
            Token::Word(word) if is_metric(word, next) => {
                let mut labels = Vec::new();
                if next == Some(&Token::Sign('{')) {
                    let end = closing(&tokens, at + 1, '}');
                    labels = matchers(&tokens[at + 2..end]).into_iter().map(|it| it.0).collect();
                    at = end;
                }
                found.push((word.clone(), labels));
            }
            Token::Sign('{') => {
                let end = closing(&tokens, at, '}');
                let (names, labels): (Vec<_>, Vec<_>) = matchers(&tokens[at + 1..end])
                    .into_iter()
                    .partition(|(label, _)| label == "__name__");
                let name = names.into_iter().next().map(|it| it.1).unwrap_or_default();
                found.push((name, labels.into_iter().map(|it| it.0).collect()));
                at = end;
            }
            Token::Word(_) | Token::Text(_) | Token::Sign(_) => {}
        }
        at += 1;
    }
    found
}

/// The label names in the groupings of `expr`: `by (…)`, `without (…)`, `on (…)`, `ignoring (…)`, `group_left (…)`.
pub fn groupings_of(expr: &str) -> Vec<(String, Vec<String>)> {
    let tokens = tokens(expr);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        if !GROUPINGS.contains(&word.as_str()) || tokens.get(at + 1) != Some(&Token::Sign('(')) {
            continue;
        }
        let labels = &tokens[at + 2..closing(&tokens, at + 1, ')')];
        let labels = labels.iter().filter_map(|it| match it {
            Token::Word(label) => Some(label.clone()),
            Token::Text(_) | Token::Sign(_) => None,
        });
        found.push((word.clone(), labels.collect()));
    }
    found
}

#[derive(Debug, PartialEq)]
enum Token {
    /// A name or a keyword.
    Word(String),
    /// What stands between quotes.
    Text(String),
    /// Anything else that is not a number, a duration, a range, a variable or a comment.
    Sign(char),
}

fn is_metric(word: &str, next: Option<&Token>) -> bool {
    next != Some(&Token::Sign('(')) && !WORDS.contains(&word.to_lowercase().as_str())
}

/// Where what opens at `at` closes.
fn closing(tokens: &[Token], at: usize, sign: char) -> usize {
    let rest = tokens[at..].iter().position(|it| *it == Token::Sign(sign));
    at + rest.unwrap_or_else(|| panic!("no `{sign}` in {tokens:?}"))
}

/// The label names of matchers, with what they are compared to.
fn matchers(tokens: &[Token]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for token in tokens {
        match token {
            Token::Word(label) => found.push((label.clone(), String::new())),
            Token::Text(text) => found.iter_mut().last().unwrap().1.clone_from(text),
            Token::Sign(_) => {}
        }
    }
    found
}

fn tokens(expr: &str) -> Vec<Token> {
    let mut chars = expr.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            '#' => _ = take(&mut chars, |it| it != '\n'),
            '$' if chars.next_if_eq(&'{').is_some() => {
                take(&mut chars, |it| it != '}');
                chars.next();
            }
            '$' => _ = take(&mut chars, is_name),
            '[' => {
                take(&mut chars, |it| it != ']');
                chars.next();
            }
            '"' | '\'' | '`' => tokens.push(Token::Text(quoted(&mut chars, c))),
            _ if c.is_ascii_digit() => _ = take(&mut chars, |it| is_name(it) || it == '.'),
            _ if is_name(c) => {
                tokens.push(Token::Word(format!("{c}{}", take(&mut chars, is_name))));
            }
            _ if c.is_whitespace() => {}
            _ => tokens.push(Token::Sign(c)),
        }
    }
    tokens
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn take(chars: &mut Peekable<Chars<'_>>, wanted: impl Fn(char) -> bool) -> String {
    std::iter::from_fn(|| chars.next_if(|it| wanted(*it))).collect()
}

fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            _ if c == quote => break,
            '\\' if quote != '`' => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    text
}

#[track_caller]
fn finds(expr: &str, expected: &[(&str, &[&str])]) {
    let found = metrics_of(expr);
    let found: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|(name, labels)| (name.as_str(), labels.iter().map(String::as_str).collect()))
        .collect();
    let expected: Vec<_> = expected.iter().map(|(name, labels)| (*name, labels.to_vec())).collect();
    assert_eq!(found, expected, "{expr}");
}

#[test]
fn metrics_are_told_from_functions_words_and_labels() {
    finds("up", &[("up", &[])]);
    finds("a:b_c:max{x=\"1\",y=~\"p|q{2}\"} > 0", &[("a:b_c:max", &["x", "y"])]);
    finds("sum by (x, y) (rate(a_total{z!=\"\"}[5m] offset 1d))", &[("a_total", &["z"])]);
    finds("max without (x) (a) * on (p) group_left (t) b", &[("a", &[]), ("b", &[])]);
    finds("a > bool 1e3 and 2 * b unless Inf == NaN", &[("a", &[]), ("b", &[])]);
    finds("max_over_time(abs(a)[15m:1m]) > 300", &[("a", &[])]);
    finds("group_left\n  # a comment with b{c=\"\"}\n  x", &[("x", &[])]);
    finds("{__name__=~\"a|b\", x=\"1\"} or {y='\\'2'}", &[("a|b", &["x"]), ("", &["y"])]);
}

#[test]
fn variables_of_grafana_are_no_metrics() {
    finds("rate(a{p=~\"$p\",q=\"${q:regex}\"}[$__rate_interval])", &[("a", &["p", "q"])]);
    finds("topk($n, a) > ${limit} * b", &[("a", &[]), ("b", &[])]);
    finds("label_values(a{p=\"x\"}, credential)", &[("a", &["p"]), ("credential", &[])]);
}

#[test]
fn groupings_are_found() {
    let found = groupings_of("sum by (a, b) (x) / on (c) group_left () y{d=\"by (e)\"}");
    let expected: Vec<(String, Vec<String>)> = vec![
        ("by".into(), vec!["a".into(), "b".into()]),
        ("on".into(), vec!["c".into()]),
        ("group_left".into(), vec![]),
    ];
    assert_eq!(found, expected);
}
