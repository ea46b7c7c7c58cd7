//! The formats of services against servers that answer as those services do, or wrongly.

use std::time::Duration;

use ece_expiry_exporter::alert::{AlertName, Reason};
use ece_expiry_exporter::config::Severity;
use ece_expiry_exporter::delivery::{Integration, Parcel};
use ece_expiry_exporter::notify::format::default_url;
use ece_expiry_exporter::notify::webhook::answer;
use ece_expiry_exporter::time;

use super::formats::{bytes, channel};
use super::hook::{Act, Channel, Sink, given_up, retried, status};
use super::{notice, parcel};

const FORMATS: [&str; 9] = [
    "generic",
    "cloudevents",
    "alertmanager",
    "pagerduty",
    "slack",
    "teams",
    "discord",
    "ntfy",
    "jsm",
];

/// A channel of this format to `url`, and a message for it.
fn of(format: &str, url: &str) -> (Channel, Parcel) {
    let mut to = Channel::to(url);
    let (url, name) = (to.config.url.take(), to.config.name.clone());
    to.config = super::WebhookConfig { url, name, ..channel(format) };
    match format {
        "pagerduty" => to.config.secret = Some(to.secret("key", "CANARY\"key")),
        "jsm" => {
            let key = to.secret("key", "k3y-of-jsm");
            to.config.authorization = Some(("GenieKey".to_owned(), key));
        }
        _ => {}
    }
    let fires = notice(AlertName::CredentialExpiring, Reason::New, Severity::Critical);
    let body = bytes(format, &[fires]);
    let mut parcel = parcel(Integration::of(&to.config), "", &body);
    parcel.target.channel = to.config.name.clone();
    (to, parcel)
}

fn ok(format: &str) -> Act {
    match format {
        "slack" => status("200 OK", "", "ok"),
        "discord" => status("204 No Content", "", ""),
        _ => status("202 Accepted", "", ""),
    }
}

#[tokio::test]
async fn every_format_is_delivered_retried_and_given_up_alike() {
    for format in FORMATS {
        for (line, header, wait) in [
            ("408 Request Timeout", "", None),
            ("425 Too Early", "Retry-After: 7\r\n", Some(7)),
            ("429 Too Many Requests", "Retry-After: 30\r\n", Some(30)),
            ("429 Too Many Requests", "Retry-After: soon\r\n", None),
            ("500 Internal Server Error", "", None),
        ] {
            let sink = Sink::start(vec![status(line, header, "later")]).await;
            let (channel, parcel) = of(format, &sink.url());
            let (why, after) = retried(channel.sender().send(&parcel).await);
            assert!(why.contains(&line[..3]), "{format}: {why}");
            assert_eq!(after.map(|it| it.as_secs()), wait, "{format} {line}");
        }
        let later = httpdate::fmt_http_date((time::now() + Duration::from_secs(600)).into());
        let header = format!("Retry-After: {later}\r\n");
        let sink = Sink::start(vec![status("429 Too Many Requests", &header, "")]).await;
        let (channel, parcel) = of(format, &sink.url());
        let (_, after) = retried(channel.sender().send(&parcel).await);
        assert!((590..=600).contains(&after.unwrap().as_secs()), "{format} {after:?}");
        for (line, hint) in [
            ("301 Moved Permanently", "update the URL"),
            ("400 Bad Request", "does not take"),
            ("401 Unauthorized", "check the URL"),
            ("410 Gone", "receiver is gone"),
        ] {
            let sink = Sink::start(vec![status(line, "", "no")]).await;
            let (channel, parcel) = of(format, &sink.url());
            let why = given_up(channel.sender().send(&parcel).await);
            assert!(why.contains(hint), "{format}: {why}");
        }
    }
}

#[tokio::test]
async fn the_id_and_the_bytes_stay_the_same_over_the_attempts_of_every_format() {
    let mut running = tokio::task::JoinSet::new();
    for format in FORMATS {
        running.spawn(attempts(format));
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

async fn attempts(format: &'static str) {
    // Taken only when we have left.
    let late = Act::Late(Duration::from_secs(2), "HTTP/1.1 200 OK\r\n\r\n".to_owned());
    let sink = Sink::start(vec![Act::HangUp, Act::Stall, late, ok(format)]).await;
    let (mut channel, parcel) = of(format, &sink.url());
    channel.config.timeout = Duration::from_secs(1);
    let sender = channel.sender();
    let mut refused = 0;
    // An attempt that a busy machine does not even begin in time is one more.
    while let Err(error) = sender.send(&parcel).await {
        retried(Err(error));
        refused += 1;
        assert!(refused < 10, "{format}");
    }
    assert!(3 <= refused, "{format}");
    let requests = sink.requests();
    assert_eq!(requests.len(), 4, "{format}");
    assert!(requests.iter().all(|it| it.header("webhook-id") == Some(&parcel.id)), "{format}");
    assert!(requests.iter().all(|it| it.body == requests[0].body), "{format}");
    let kind = if format == "cloudevents" { "cloudevents+json" } else { "json" };
    let content_type = requests[0].header("content-type");
    assert_eq!(content_type, Some(format!("application/{kind}").as_str()));
}

#[tokio::test]
async fn slack_takes_a_message_only_in_words() {
    for (body, wanted) in [
        ("ok", "taken"),
        ("ok\n", "taken"),
        (r#"{"ok":true}"#, "taken"),
        (r#"{"ok":false,"error":"channel_not_found"}"#, "given up"),
        (r#"{"ok":false,"error":"ratelimited"}"#, "retried"),
        ("<html>Sign in to the proxy</html>", "retried"),
        ("", "retried"),
        ("null", "retried"),
    ] {
        let sink = Sink::start(vec![status("200 OK", "", body)]).await;
        let (channel, parcel) = of("slack", &sink.url());
        let sent = channel.sender().send(&parcel).await;
        let why = match wanted {
            "taken" => {
                sent.unwrap();
                continue;
            }
            "given up" => given_up(sent),
            _ => retried(sent).0,
        };
        let hint = if body.contains("false") { "refuses" } else { "no proxy answers for it" };
        assert!(why.contains(hint), "{body}: {why}");
    }
    let sink = Sink::start(vec![status("404 Not Found", "", "no_service")]).await;
    let (channel, parcel) = of("slack", &sink.url());
    assert!(given_up(channel.sender().send(&parcel).await).contains("no_service"));
}

#[tokio::test]
async fn discord_says_in_the_body_how_long_to_wait() {
    for (header, body, wait) in [
        (
            "",
            r#"{"message": "You are being rate limited.", "retry_after": 64.57, "global": false}"#,
            Some(65),
        ),
        ("Retry-After: 3\r\n", r#"{"retry_after": 9.1}"#, Some(10)),
        ("Retry-After: 30\r\n", r#"{"retry_after": 9.1}"#, Some(30)),
        ("Retry-After: 30\r\n", r#"{"retry_after": -1}"#, Some(30)),
        ("", r#"{"retry_after": 1e300}"#, None),
        ("", "cloudflare", None),
    ] {
        let sink = Sink::start(vec![status("429 Too Many Requests", header, body)]).await;
        let (channel, parcel) = of("discord", &sink.url());
        let (_, after) = retried(channel.sender().send(&parcel).await);
        assert_eq!(after.map(|it| it.as_secs()), wait, "{header} {body}");
    }
}

#[tokio::test]
async fn the_secret_of_a_body_is_put_in_when_it_is_sent_and_signed() {
    let echo = r#"{"bad":"CANARY\"key"} CANARY"key"#;
    let sink =
        Sink::start(vec![status("429 Slow Down", "", echo), status("202 Accepted", "", "")]).await;
    let (mut channel, parcel) = of("pagerduty", &sink.url());
    let whsec = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyEh";
    channel.config.signing_secrets = vec![channel.secret("whsec", whsec)];
    let stored = String::from_utf8(parcel.body.clone()).unwrap();
    assert!(!stored.contains("CANARY"), "{stored}");
    let sender = channel.sender();
    let (why, _) = retried(sender.send(&parcel).await);
    assert!(why.contains("[redacted]") && !why.contains("CANARY"), "{why}");
    channel.secret("key", "rotated-CANARY");
    sender.send(&parcel).await.unwrap();
    for (request, key) in sink.requests().iter().zip(["CANARY\"key", "rotated-CANARY"]) {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["routing_key"], key);
        let at = request.header("webhook-timestamp").unwrap().parse().unwrap();
        let signature = answer::sign(whsec, &parcel.id, at, &request.body);
        assert_eq!(request.header("webhook-signature"), signature.as_deref());
    }
}

#[tokio::test]
async fn an_alert_of_jsm_is_closed_below_the_url() {
    let sink =
        Sink::start(vec![status("202 Accepted", "", r#"{"result":"Request will be processed"}"#)])
            .await;
    let url = format!("http://127.0.0.1:{}/v2/alerts", sink.port);
    let (channel, mut parcel) = of("jsm", &url);
    let sender = channel.sender();
    sender.send(&parcel).await.unwrap();
    let ended = notice(AlertName::CredentialExpiring, Reason::Renewed, Severity::Critical);
    parcel.body = bytes("jsm", &[ended]);
    sender.send(&parcel).await.unwrap();
    let requests = sink.requests();
    let opened: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert!(requests[0].head.starts_with("POST /v2/alerts HTTP/1.1"), "{}", requests[0].head);
    let alias = opened["alias"].as_str().unwrap();
    let wanted = format!("POST /v2/alerts/{alias}/close?identifierType=alias HTTP/1.1");
    assert!(requests[1].head.starts_with(&wanted), "{}", requests[1].head);
    assert_eq!(requests[1].header("authorization"), Some("GenieKey k3y-of-jsm"));
    let closed: serde_json::Value = serde_json::from_slice(&requests[1].body).unwrap();
    assert_eq!(closed["source"], "ece-expiry-exporter");
}

#[test]
fn the_url_of_a_service_follows_its_region() {
    let mut config = channel("pagerduty");
    let url = |config: &super::WebhookConfig| {
        default_url(config.format.file().unwrap(), &config.params).unwrap()
    };
    assert_eq!(url(&config), "https://events.pagerduty.com/v2/enqueue");
    config.params.insert("region".to_owned(), "eu".to_owned());
    assert_eq!(url(&config), "https://events.eu.pagerduty.com/v2/enqueue");
    assert_eq!(url(&channel("jsm")), "https://api.atlassian.com/jsm/ops/integration/v2/alerts");
    let slack = channel("slack");
    assert!(default_url(slack.format.file().unwrap(), &slack.params).is_err());
}
