//! Tries a format file before anybody is told by it: every template compiles, and every kind of message comes out. Pure.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, TimeDelta, Utc};

use super::{Instructions, Page, Phase, TEMPLATES, compose, default_url, said, stored};
use crate::alert::{AlertName, Reason};
use crate::config::{
    Body, BodyValue, Carries, CredentialKind, FormatFile, ItemKind, Severity, WebhookConfig,
};
use crate::delivery::{Notice, NoticeCredential, NoticeProbe, Undelivered};
use crate::notify::{Draft, Origin, worst_first};

/// How many alerts the largest group of the trial has.
const GROUP: usize = 500;

/// The reasons that are tried with all that an alert can tell: one of each that fires, ends, or is a test.
const LONG: [Reason; 3] = [Reason::New, Reason::Renewed, Reason::Test];

/// What nobody should put into a name: quotes, markup, mentions, links, line breaks, and the marks of the store.
const HOSTILE: &str = "\"}],{'a\": <!channel> <@U1> @everyone [x](http://evil.example) *b* `c` {{ 1 }} {% x %} \\\r\n\u{202e}\u{e000}\u{e001}";

/// Compiles and tries the format of a channel.
///
/// # Errors
/// The first that does not work, with file, line and key.
pub fn check(file: &FormatFile, config: &WebhookConfig) -> anyhow::Result<()> {
    let page = Page { file, nodes: 0 };
    compiles(&page, "body", &file.body)?;
    if let Some(body) = &file.body_resolved {
        compiles(&page, "resolved_body", body)?;
    }
    if file.url.is_some() {
        let url = default_url(file, &config.params)?;
        let parsed = reqwest::Url::parse(&url).with_context(|| format!("{}: url", file.name))?;
        ensure!(parsed.scheme() == "https", "{}: url: it does not begin with https://", file.name);
    }
    for sample in samples(file.carries) {
        let first = sample.notices.first().map(|it| format!("{} ({})", it.alert, it.reason));
        tried(file, config, &sample)
            .with_context(|| format!("a message about {}", first.unwrap_or_default()))?;
    }
    Ok(())
}

/// Notices to try, and whether this exporter has an address then.
struct Sample {
    notices: Vec<Notice>,
    external_url: Option<String>,
}

/// Renders one trial.
fn tried(file: &FormatFile, config: &WebhookConfig, sample: &Sample) -> anyhow::Result<()> {
    let external_url = sample.external_url.clone();
    let origin = Origin { version: "0", instance: HOSTILE.to_owned(), external_url, own_key: None };
    let draft = Draft {
        id: "msg_00000000000000000000000000",
        receiver: HOSTILE,
        recipient: "",
        group_key: "",
        notices: &sample.notices,
        origin: &origin,
        now: instant(),
    };
    let sorted = worst_first(draft.notices)?;
    let is_test = sorted.iter().all(|(_, topic)| topic.reason == Reason::Test);
    let phases = if is_test { &[Phase::AsIs, Phase::TestEnds][..] } else { &[Phase::AsIs] };
    for phase in phases {
        let bytes = compose(file, config, &draft, &sorted, *phase)?;
        serde_json::from_slice::<serde_json::Value>(stored::open(&bytes).body)
            .with_context(|| format!("{}: the body is not JSON", file.name))?;
    }
    Ok(())
}

/// Compiles every template below a node, also those that no trial reaches.
fn compiles(page: &Page<'_>, path: &str, node: &Body) -> anyhow::Result<()> {
    let text = |path: &str, text: &str| {
        let compiled = TEMPLATES.template_from_named_str(path, text).map(drop);
        compiled.map_err(|error| page.wrong(node.line, path, said(&error)))
    };
    let expression = |line: usize, path: &str, text: &str| {
        let compiled = TEMPLATES.compile_expression(text).map(drop);
        compiled.map_err(|error| page.wrong(line, path, said(&error)))
    };
    match &node.value {
        BodyValue::Literal(_) => Ok(()),
        BodyValue::Text(it) => text(path, it),
        BodyValue::List(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, it)| compiles(page, &format!("{path}[{at}]"), it)),
        BodyValue::Map(entries) => {
            let order =
                Instructions::of(entries).map_err(|what| page.wrong(node.line, path, what))?;
            if let Some((line, condition)) = order.when {
                expression(line, &format!("{path}.$when"), condition)?;
            }
            if let Some((line, _, list)) = order.each {
                expression(line, &format!("{path}.$for"), list)?;
            }
            entries.iter().try_for_each(|(key, it)| {
                let path = format!("{path}.{key}");
                match (key.as_str(), &it.value) {
                    ("$when" | "$for", _) => Ok(()),
                    ("$value", BodyValue::Text(text)) => expression(it.line, &path, text),
                    _ => compiles(page, &path, it),
                }
            })
        }
    }
}

/// Every alert with every reason, some full of hostile names, and groups.
fn samples(carries: Carries) -> Vec<Sample> {
    let address = || Some("https://expiry.example.org".to_owned());
    let (mut samples, mut all) = (Vec::new(), Vec::new());
    for alert in AlertName::ALL {
        for reason in Reason::ALL {
            samples.push(Sample { notices: vec![sparse(alert, reason)], external_url: None });
            all.push(sparse(alert, reason));
            if LONG.contains(&reason) {
                let full = full(alert, reason);
                samples.push(Sample { notices: vec![full.clone()], external_url: address() });
                all.push(full);
            }
        }
    }
    if carries == Carries::Group {
        let mixed = all.iter().cycle().take(GROUP).cloned().collect();
        let worst = vec![full(AlertName::CredentialExpired, Reason::New); GROUP];
        for notices in [mixed, worst] {
            samples.push(Sample { notices, external_url: address() });
        }
    }
    samples
}

fn instant() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000, 0).expect("a time in this century")
}

/// What an alert tells at least.
fn sparse(alert: AlertName, reason: Reason) -> Notice {
    Notice {
        alert: alert.label().to_owned(),
        reason: reason.label().to_owned(),
        severity: Severity::Info.label().to_owned(),
        at: instant(),
        starts_at: instant(),
        platform: "p".to_owned(),
        credential: (!is_of_platform(alert)).then(|| NoticeCredential {
            name: "c".to_owned(),
            kind: kind(alert).to_owned(),
            expiry_state: "unknown".to_owned(),
            ..NoticeCredential::default()
        }),
        ..Notice::default()
    }
}

/// What an alert can tell at most, all of it hostile and long.
fn full(alert: AlertName, reason: Reason) -> Notice {
    let long = |count: usize| HOSTILE.repeat(count / HOSTILE.chars().count() + 1);
    let at = instant();
    let labels: BTreeMap<String, String> =
        (0..8).map(|it| (format!("label_{it}_{HOSTILE}"), long(128))).collect();
    let notice = sparse(alert, reason);
    Notice {
        severity: Severity::Critical.label().to_owned(),
        repeat: 7,
        step_seconds: Some(7 * 86_400),
        previous_expiry: Some(at - TimeDelta::days(1)),
        platform: long(128),
        platform_url: "https://ece.example.org:12443".to_owned(),
        flavor: "ece".to_owned(),
        credential: notice.credential.map(|it| NoticeCredential {
            name: long(128),
            key_id: Some(long(200)),
            team: Some(long(128)),
            used_by: vec![long(250); 30],
            renewal_note: Some(long(4_096)),
            secret_source: Some(long(400)),
            labels,
            expiry_state: "dated".to_owned(),
            expires_at: Some(at + TimeDelta::days(6)),
            observed_at: Some(at - TimeDelta::minutes(5)),
            user: Some(long(400)),
            description: Some(long(400)),
            place: Some(long(400)),
            created_at: Some(at - TimeDelta::days(80)),
            ..it
        }),
        next_repeat: Some(at + TimeDelta::days(1)),
        probe: NoticeProbe {
            success: false,
            last_run_at: Some(at),
            last_success_at: Some(at - TimeDelta::hours(1)),
            http_status: Some(503),
            failure_reason: Some("http_5xx".to_owned()),
            error: Some(long(600)),
        },
        clock_skew_seconds: is_of_platform(alert).then_some(-420),
        undelivered: Some(Undelivered { target: long(200), why: long(256) }),
        ..notice
    }
}

fn is_of_platform(alert: AlertName) -> bool {
    matches!(alert, AlertName::PlatformUnreachable | AlertName::PlatformClockSkew)
}

fn kind(alert: AlertName) -> &'static str {
    match alert {
        AlertName::ApiKeyCreated | AlertName::ApiKeyDeleted | AlertName::ApiKeyLongLived => {
            ItemKind::ApiKey.label()
        }
        _ => CredentialKind::API_KEY,
    }
}
