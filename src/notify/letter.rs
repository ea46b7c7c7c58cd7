//! What a mail says, in the order in which a person on call needs it, and how that looks as text and as HTML. Pure.
//!
//! First what and when, then who owns it, what breaks, how fresh the knowledge is, what to do, and last why this mail
//! came and when the next one does. Both forms are made from one `Letter`, so they cannot disagree.

mod digest;

use std::sync::LazyLock;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::Origin;
use super::advice::{self, Block};
use super::text::{self, Thing, Topic, instant, phrase, plain, span};
use crate::alert::{AlertName, Reason, Status};
use crate::config::CredentialKind;
use crate::delivery::{Notice, NoticeCredential};

/// The most notices of a group that get a section; all of them stand in the list above. Keeps a mail below 100 kB.
const SECTIONS_MAX: usize = 20;
/// The most notices of a group in the list above the sections; the rest is a number.
const LIST_MAX: usize = 200;
/// The most channels that are named as unreachable.
const UNDELIVERED_MAX: usize = 5;
/// The width of a line of text, as mail readers expect it.
const LINE_CHARS_MAX: usize = 76;
/// The column in which the values of the table of facts begin.
const VALUE_COLUMN: usize = 18;

/// Without the address of this exporter a mail has no links.
const NO_LINKS: &str =
    "For links to its page and runbooks, set global.external_url to where people reach it.";

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates
        .add_template("letter.html", include_str!("template.html"))
        .expect("the template is part of the program and its tests");
    templates
});

/// A mail before it is text or HTML.
#[derive(Debug, Serialize)]
pub struct Letter {
    /// The subject, `[ECE prod] CRITICAL: …`.
    pub subject: String,
    /// What stands above everything: why this mail comes to this reader, or what a digest comes to.
    opening: Vec<String>,
    /// For a group, one line for each notice, worst first; empty for a single notice.
    list: Vec<Line>,
    /// How many notices of a group are not in the list.
    unlisted: usize,
    /// For a digest, what is well and expires next.
    upcoming: Vec<Line>,
    /// The notices in full.
    sections: Vec<Section>,
    /// How many notices of a group have no section.
    omitted: usize,
    /// Where the exporter shows everything.
    link: Option<String>,
    /// How to get links, where there are none.
    hint: Option<&'static str>,
    /// Who sent this.
    signature: String,
}

/// One notice of a group, in one line.
#[derive(Debug, Serialize)]
struct Line {
    tag: &'static str,
    color: &'static str,
    text: String,
}

/// One notice in full.
#[derive(Debug, Serialize)]
struct Section {
    tag: &'static str,
    color: &'static str,
    headline: String,
    facts: Vec<Fact>,
    steps: Vec<String>,
    /// Lines to paste, block by block.
    commands: Vec<Block>,
    /// Where more is said about the alert, while there is something to do.
    runbook: Option<String>,
    /// Where the reader takes the alert over.
    own: Option<String>,
    why: String,
    next: String,
}

/// A row of the table of facts.
#[derive(Debug, Serialize)]
struct Fact {
    label: &'static str,
    value: String,
}

impl Letter {
    /// Writes the letter about `notices`, which stand worst first.
    pub fn new(notices: &[(&Notice, Topic)], origin: &Origin, now: DateTime<Utc>) -> Self {
        let single = notices.len() == 1;
        let listed = if single { &notices[..0] } else { &notices[..notices.len().min(LIST_MAX)] };
        Self {
            subject: subject(notices, now),
            opening: undelivered(notices),
            list: listed.iter().map(|(notice, topic)| line(notice, *topic, now)).collect(),
            unlisted: if single { 0 } else { notices.len() - listed.len() },
            upcoming: Vec::new(),
            sections: notices
                .iter()
                .take(SECTIONS_MAX)
                .map(|(notice, topic)| section(notice, *topic, origin, now))
                .collect(),
            omitted: notices.len().saturating_sub(SECTIONS_MAX),
            link: origin.link(""),
            hint: origin.external_url.is_none().then_some(NO_LINKS),
            signature: signature(origin),
        }
    }

    /// The letter as plain text, lines up to 76 characters where words allow it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for paragraph in &self.opening {
            wrap(&mut out, "", 0, paragraph);
            out.push('\n');
        }
        let lines = |out: &mut String, lines: &[Line]| {
            for line in lines {
                wrap(out, &format!("{:<9} ", line.tag), 10, &line.text);
            }
        };
        lines(&mut out, &self.list);
        if 0 < self.unlisted {
            wrap(&mut out, "", 0, &format!("… and {} more.", self.unlisted));
        }
        if !self.upcoming.is_empty() {
            out.push_str(if self.list.is_empty() { "" } else { "\n" });
            out.push_str("Next to expire\n");
            lines(&mut out, &self.upcoming);
        }
        for section in &self.sections {
            if !out.is_empty() {
                out.push('\n');
                out.push_str(&"=".repeat(LINE_CHARS_MAX));
                out.push_str("\n\n");
            }
            section.text(&mut out);
        }
        if 0 < self.omitted {
            let rest = format!(
                "{} more are in the list above only; the exporter's page shows them in full.",
                self.omitted
            );
            out.push('\n');
            wrap(&mut out, "", 0, &rest);
        }
        out.push_str("\n-- \n");
        wrap(&mut out, "", 0, &self.signature);
        if let Some(link) = &self.link {
            wrap(&mut out, "", 0, &format!("All credentials: {link}"));
        }
        if let Some(hint) = self.hint {
            wrap(&mut out, "", 0, hint);
        }
        out
    }

    /// The letter as HTML: styles inline, nothing loaded from anywhere, readable in the dark.
    ///
    /// # Errors
    /// Only if the built-in template is broken.
    pub fn html(&self) -> anyhow::Result<String> {
        TEMPLATES
            .get_template("letter.html")
            .and_then(|it| it.render(Serde(self)))
            .context("cannot render the HTML form of a mail")
    }
}

impl Section {
    fn text(&self, out: &mut String) {
        wrap(out, "", 0, &format!("{} - {}", self.tag, self.headline));
        out.push('\n');
        for fact in &self.facts {
            let label = format!("  {:<width$}", fact.label, width = VALUE_COLUMN - 2);
            wrap(out, &label, VALUE_COLUMN, &fact.value);
        }
        out.push_str("\nWhat to do\n");
        for (at, step) in self.steps.iter().enumerate() {
            wrap(out, &format!("  {}. ", at + 1), 5, step);
        }
        for block in &self.commands {
            out.push('\n');
            wrap(out, "", 0, &block.title);
            for line in &block.lines {
                out.push_str("  ");
                out.push_str(line);
                out.push('\n');
            }
        }
        out.push('\n');
        if let Some(runbook) = &self.runbook {
            wrap(out, "", 0, &format!("Runbook: {runbook}"));
        }
        if let Some(own) = &self.own {
            wrap(out, "", 0, &format!("I own it until …: {own}"));
        }
        wrap(out, "", 0, &self.why);
        wrap(out, "", 0, &self.next);
    }
}

/// Whom the messages could not reach, so that the reader knows why they came here.
pub(super) fn undelivered(notices: &[(&Notice, Topic)]) -> Vec<String> {
    let mut said = Vec::new();
    for undelivered in notices.iter().filter_map(|(notice, _)| notice.undelivered.as_ref()) {
        let sentence = format!(
            "You are told instead of {}, which did not take it: {}",
            phrase(&undelivered.target),
            phrase(&undelivered.why)
        );
        if !said.contains(&sentence) && said.len() < UNDELIVERED_MAX {
            said.push(sentence);
        }
    }
    said
}

fn signature(origin: &Origin) -> String {
    format!("Sent by ece-expiry-exporter {} on {}.", origin.version, plain(&origin.instance))
}

/// `[ECE prod] CRITICAL: terraform expires in 6 days (2026-11-30)`, or for a group how many need attention.
pub(super) fn subject(notices: &[(&Notice, Topic)], now: DateTime<Utc>) -> String {
    let Some((worst, topic)) = notices.first() else { return "[ECE] nothing to tell".to_owned() };
    if notices.len() == 1 {
        let (name, predicate) = (text::short_name(worst), text::predicate(worst, *topic, now));
        return format!("[ECE {}] {}: {name} {predicate}", plain(&worst.platform), topic.tag());
    }
    let prefix = if notices.iter().all(|(it, _)| it.platform == worst.platform) {
        format!("[ECE {}]", plain(&worst.platform))
    } else {
        "[ECE]".to_owned()
    };
    let is_credential =
        |it: &Notice| it.credential.as_ref().is_some_and(|it| Thing::of(it).is_credential());
    let noun = if notices.iter().all(|(it, _)| is_credential(it)) { "credential" } else { "alert" };
    let count = |count: usize| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let urgent = notices.iter().filter(|(_, it)| it.needs_attention()).count();
    let ended = notices.iter().filter(|(_, it)| it.reason.status() == Status::Resolved).count();
    let what = match (urgent, ended) {
        (0, 0) => format!("test message for {}", count(notices.len())),
        (0, _) => format!("{} resolved", count(ended)),
        (1, 0) => format!("{} needs attention", count(1)),
        (_, 0) => format!("{} need attention", count(urgent)),
        (1, _) => format!("{} needs attention, {ended} resolved", count(1)),
        (_, _) => format!("{} need attention, {ended} resolved", count(urgent)),
    };
    format!("{prefix} {}: {what}", topic.tag())
}

fn line(notice: &Notice, topic: Topic, now: DateTime<Utc>) -> Line {
    let team = notice.credential.as_ref().and_then(|it| it.team.as_deref());
    let team = team.map(|it| format!(" [{}]", phrase(it))).unwrap_or_default();
    let platform = plain(&notice.platform);
    let predicate = text::predicate(notice, topic, now);
    let text = match &notice.credential {
        Some(credential) => format!("{platform}/{} {predicate}{team}", text::called(credential)),
        None => format!("{platform} {predicate}"),
    };
    Line { tag: topic.tag(), color: color(topic), text }
}

fn section(notice: &Notice, topic: Topic, origin: &Origin, now: DateTime<Utc>) -> Section {
    let platform = plain(&notice.platform);
    let predicate = text::predicate(notice, topic, now);
    let (headline, facts) = match &notice.credential {
        Some(credential) => {
            let kind = match credential.kind.as_str() {
                CredentialKind::API_KEY => "API key".to_owned(),
                CredentialKind::BEARER_TOKEN => "Bearer token".to_owned(),
                CredentialKind::LOGIN => "Login".to_owned(),
                kind => phrase(kind),
            };
            let name = plain(&credential.name);
            let what = match (Thing::of(credential), Thing::of(credential).noun()) {
                (_, Some(noun)) => format!("The {noun}"),
                (Thing::Listed(_), None) => format!("The {}", text::called(credential)),
                (_, None) => format!("{kind} \"{name}\""),
            };
            (
                format!("{what} on ECE platform \"{platform}\" {predicate}."),
                credential_facts(notice, credential, topic, now),
            )
        }
        None => (format!("ECE platform \"{platform}\" {predicate}."), platform_facts(notice, now)),
    };
    Section {
        tag: topic.tag(),
        color: color(topic),
        headline,
        facts,
        steps: advice::steps(notice, topic),
        commands: advice::commands(notice, topic, now),
        runbook: origin.runbook_url(topic.alert).filter(|_| topic.needs_attention()),
        own: origin.own_link(notice, topic, now),
        why: why(notice, topic),
        next: next(notice, topic),
    }
}

fn credential_facts(
    notice: &Notice,
    credential: &NoticeCredential,
    topic: Topic,
    now: DateTime<Utc>,
) -> Vec<Fact> {
    let mut facts = vec![Fact { label: "Expires", value: expiry(credential, now) }];
    let mut add = |label, value: Option<String>| {
        facts.extend(value.map(|value| Fact { label, value }));
    };
    add("Expired before", notice.previous_expiry.map(instant));
    add("Team", credential.team.as_deref().map(phrase));
    let breaks = if topic.reason.status() == Status::Firing { "What breaks" } else { "Used by" };
    add(breaks, text::uses(credential));
    add("Last confirmed", Some(text::freshness(notice, now)));
    add("Last probe", text::problem(notice));
    add("Owner", credential.user.as_deref().map(phrase));
    add("Made", credential.created_at.map(instant));
    add("Key id", credential.key_id.as_deref().map(phrase));
    add("Platform", Some(phrase(&notice.platform_url)));
    let labels: Vec<_> = credential
        .labels
        .iter()
        .map(|(name, value)| format!("{}={}", phrase(name), phrase(value)))
        .collect();
    add("Labels", Some(labels.join(", ")).filter(|it| !it.is_empty()));
    facts
}

fn platform_facts(notice: &Notice, now: DateTime<Utc>) -> Vec<Fact> {
    let ago = |at: DateTime<Utc>| format!("{}, {} ago", instant(at), span(now - at));
    let mut facts = vec![Fact { label: "Since", value: ago(notice.starts_at) }];
    let mut add = |label, value: Option<String>| {
        facts.extend(value.map(|value| Fact { label, value }));
    };
    add("Last success", Some(notice.probe.last_success_at.map_or("never".to_owned(), ago)));
    add("Last probe", text::problem(notice));
    add("Clock", notice.clock_skew_seconds.map(|it| format!("ours minus theirs: {it} s")));
    add("Platform", Some(phrase(&notice.platform_url)));
    facts
}

fn expiry(credential: &NoticeCredential, now: DateTime<Utc>) -> String {
    match (credential.expires_at, credential.expiry_state.as_str()) {
        (Some(at), _) if now < at => format!("{}, in {}", instant(at), span(at - now)),
        (Some(at), _) => format!("{}, {} ago", instant(at), span(now - at)),
        (None, "never") => "never".to_owned(),
        (None, "undated") => "ECE does not tell it".to_owned(),
        (None, "not_reported") => "not known: ECE does not report it".to_owned(),
        (None, "unparsable") => "not known: ECE's answer is not a date".to_owned(),
        (None, _) => "not known".to_owned(),
    }
}

/// Why this mail came.
fn why(notice: &Notice, topic: Topic) -> String {
    let step = notice.step_seconds.and_then(|it| i64::try_from(it).ok());
    let step = step.and_then(TimeDelta::try_seconds).map(span);
    let because = match (topic.reason, topic.alert, step) {
        (Reason::Test, ..) => "somebody asked for a test message".to_owned(),
        (Reason::Renewed, ..) => "you were told that it would expire".to_owned(),
        (Reason::Recovered | Reason::Removed, ..) => "you were told of the trouble".to_owned(),
        (_, AlertName::CredentialExpiring, Some(step)) => format!(
            "less than {step} is left, and for that the policy says {}",
            topic.severity.label()
        ),
        (_, AlertName::CredentialExpiring, None) => "its policy says so".to_owned(),
        (_, AlertName::CredentialExpired, _) => "it has expired".to_owned(),
        (_, AlertName::CredentialRejected, _) => {
            "ECE refuses it although it should still be valid".to_owned()
        }
        (_, AlertName::CredentialForbidden, _)
            if notice.credential.as_ref().is_some_and(|it| !Thing::of(it).is_credential()) =>
        {
            "ECE denies it to the credential that asks".to_owned()
        }
        (_, AlertName::CredentialForbidden, _) => "ECE denies it what it asks for".to_owned(),
        (_, AlertName::CredentialExpiryUnknown, _)
            if notice
                .credential
                .as_ref()
                .is_some_and(|it| matches!(Thing::of(it), Thing::List | Thing::Deployments)) =>
        {
            "it could not be read several times in a row".to_owned()
        }
        (_, AlertName::CredentialExpiryUnknown, _) => {
            "its expiry could not be told several times in a row".to_owned()
        }
        (_, AlertName::CredentialNeverExpires, _) => {
            "the policy reports keys without an expiry".to_owned()
        }
        (_, AlertName::ApiKeyCreated, _) => "a key is new in the list of keys".to_owned(),
        (_, AlertName::ApiKeyDeleted, _) => {
            "a key is gone from the list of keys before its expiry".to_owned()
        }
        (_, AlertName::ApiKeyLongLived, _) => {
            "a key lives longer than `lifetime_max` allows".to_owned()
        }
        (_, AlertName::PlatformUnreachable, _) => {
            "every credential of the platform failed to get an answer".to_owned()
        }
        (_, AlertName::PlatformClockSkew, _) => "the clocks differ by more than 5m".to_owned(),
    };
    let kind = match topic.reason {
        Reason::Repeat => format!(", reminder {}", notice.repeat),
        Reason::Escalated => ", more urgent than before".to_owned(),
        _ => String::new(),
    };
    format!("Why this mail: {because}{kind} ({}).", topic.alert.label())
}

fn next(notice: &Notice, topic: Topic) -> String {
    match (topic.needs_attention(), notice.next_repeat) {
        (true, Some(at)) => format!("Next reminder: {}, if nothing changes.", instant(at)),
        (true, None) => "No reminder follows while nothing changes.".to_owned(),
        (false, _) => "No reminder follows.".to_owned(),
    }
}

/// Readable on white and on black.
fn color(topic: Topic) -> &'static str {
    match topic.tag() {
        "CRITICAL" => "#d32f2f",
        "WARNING" => "#c77700",
        "OK" => "#2e8b57",
        _ => "#3d7ebf",
    }
}

/// Appends `words` behind `first`, broken into lines; later lines begin at column `indent`.
fn wrap(out: &mut String, first: &str, indent: usize, words: &str) {
    let mut line = first.to_owned();
    let mut width = first.chars().count();
    let mut fresh = true;
    for word in words.split_whitespace() {
        let chars = word.chars().count();
        if !fresh && LINE_CHARS_MAX < width + 1 + chars {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent);
            width = indent;
            fresh = true;
        }
        if !fresh {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += chars;
        fresh = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_wrapped_under_its_column_and_a_long_word_is_kept_whole() {
        let mut out = String::new();
        let url = format!("https://{}", "x".repeat(100));
        wrap(&mut out, "  Label    ", 11, &format!("{} {url} end", "word ".repeat(15).trim()));
        assert_eq!(
            out,
            format!(
                "  Label    {}\n           word word\n           {url}\n           end\n",
                "word ".repeat(13).trim()
            )
        );
    }
}
