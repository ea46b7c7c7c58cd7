//! What the page for people shows.

use std::sync::{Arc, RwLock};

use ece_expiry_exporter::alert::AlertName;
use ece_expiry_exporter::config::Severity;
use ece_expiry_exporter::observation::FailureReason;
use ece_expiry_exporter::status::{CredentialStatus, Snapshot};
use ece_expiry_exporter::web::ServeOptions;

use super::{Server, in_days, many, some};
use crate::metrics::{failed, firing, platform, probed};

#[tokio::test]
async fn the_page_shows_the_most_urgent_first() {
    let server = Server::start(some()).await;
    let page = server.get("/").await;
    let page = page.text();
    let at = |name: &str| page.find(&format!("</span>{name}</span>")).unwrap();
    let order = [at("old-billing"), at("ci"), at("sandbox"), at("valid"), at("break-glass")];
    assert!(order.is_sorted(), "{order:?}");
    for words in [
        "expired 47 hours ago",
        "<b>5 days left</b>",
        "<b>80 days left</b>",
        "never expires",
        "not probed yet",
        "ECE refuses the key (401): it expired",
        "ECECredentialExpired",
        "+0.4 s",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

/// The cells of this name in the row of a credential.
fn cell(page: &str, name: &str, label: &str) -> String {
    let row = page.split("<tr>").find(|it| it.contains(&format!("</span>{name}</span>"))).unwrap();
    let cell =
        row.split("<td ").find(|it| it.contains(&format!("data-label=\"{label}\""))).unwrap();
    cell.to_owned()
}

#[tokio::test]
async fn an_alert_of_the_platform_covers_what_it_keeps_from_being_asked_and_nothing_else() {
    let mut down = platform("prod", 3);
    down.alerts = vec![firing(AlertName::PlatformUnreachable, Severity::Critical)];
    let snapshot = Snapshot {
        credentials: vec![
            Arc::new(failed(probed("prod", "mirror", in_days(40)), FailureReason::Connect, "down")),
            Arc::new(failed(
                probed("prod", "lost", in_days(40)),
                FailureReason::SecretUnreadable,
                "x",
            )),
            Arc::new(failed(probed("lab", "other", in_days(40)), FailureReason::Connect, "down")),
            Arc::new(probed("prod", "fine", in_days(40))),
        ],
        platforms: vec![Arc::new(down), Arc::new(platform("lab", 1))],
        ..Snapshot::default()
    };
    let server = Server::start(snapshot).await;
    let answer = server.get("/").await;
    let alerts = |name: &str| cell(answer.text(), name, "Alerts");
    assert!(alerts("mirror").contains("covered by the platform's alert"), "{}", alerts("mirror"));
    for name in ["lost", "other", "fine"] {
        assert!(alerts(name).contains("none") && !alerts(name).contains("covered"), "{name}");
    }
}

#[tokio::test]
async fn what_is_due_says_so_and_a_refused_key_says_its_id() {
    let mut refused = failed(probed("prod", "ci", in_days(40)), FailureReason::Unauthorized, "401");
    refused.next_run = Some(ece_expiry_exporter::time::now());
    let mut waiting = probed("prod", "fine", in_days(40));
    waiting.next_run = Some(ece_expiry_exporter::time::now() + chrono::TimeDelta::minutes(10));
    let snapshot = Snapshot {
        credentials: vec![Arc::new(refused), Arc::new(waiting)],
        platforms: vec![Arc::new(platform("prod", 2))],
        ..Snapshot::default()
    };
    let server = Server::start(snapshot).await;
    let answer = server.get("/").await;
    let page = answer.text();
    assert!(cell(page, "ci", "Last probe").contains(">due now<"), "{page}");
    assert!(cell(page, "fine", "Last probe").contains(">next in 9 minutes<"), "{page}");
    let id = "<small>Key id <code>id-of-";
    assert!(cell(page, "ci", "Credential").contains(id), "{page}");
    assert!(!cell(page, "fine", "Credential").contains(id), "{page}");
}

#[tokio::test]
async fn no_link_leaves_the_path_that_a_proxy_adds() {
    for (path, link) in [("/metrics", "\"metrics\""), ("/deep", "\"deep\"")] {
        let server = Server::start_with(some(), ServeOptions::default(), |web| {
            web.telemetry_path = path.to_owned();
        });
        let server = server.await;
        let page = server.get("/").await;
        assert!(page.text().contains(&format!("<a href={link}>Metrics</a>")), "{path}");
        assert!(!page.text().contains("href=\"/"), "{path}");
    }
}

#[tokio::test]
async fn names_are_text_and_never_markup() {
    let nasty = "<script>alert(1)</script>'\"&";
    let mut row = failed(probed("<b>", nasty, in_days(3)), FailureReason::Dns, "<img src=x>");
    row.team = Some("<i>team</i>".to_owned());
    row.used_by = vec!["<u>".to_owned()];
    row.renewal_note = Some("</details><svg onload=x>".to_owned());
    let snapshot = Snapshot {
        credentials: vec![Arc::new(row)],
        platforms: vec![Arc::new(platform("<p>", 1))],
        ..Snapshot::default()
    };
    let server = Server::start_with(snapshot, ServeOptions::default(), |web| {
        web.config_error = Arc::new(RwLock::new(Some("line 3: `</pre><script>`".to_owned())));
    });
    let server = server.await;
    let answer = server.get("/?q=%3Cscript%3E").await;
    let page = answer.text();
    for markup in ["<script>alert", "<img", "<i>", "<u>", "<svg", "<p>/", "<b>/", "</pre><script>"]
    {
        assert!(!page.contains(markup), "{markup}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)"), "the row is shown");
    assert_eq!(page.matches("<script>").count(), 1, "ours only");
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn the_page_asks_nobody_else_for_anything() {
    let server = Server::start(some()).await;
    let page = server.get("/").await;
    for needle in ["src=", "url(", "@import", "fetch(", "href=\"http", "href=\"//"] {
        assert!(!page.text().contains(needle), "{needle}");
    }
}

#[tokio::test]
async fn the_page_says_what_is_wrong_with_the_exporter_itself() {
    let calm = Server::start(some()).await;
    assert!(!calm.get("/").await.text().contains("class=\"banner\""));
    let server = Server::start_with(some(), ServeOptions::default(), |web| {
        web.config_error = Arc::new(RwLock::new(Some("line 7: unknown key".to_owned())));
        web.store_error = Arc::new(RwLock::new(Some("disk full".to_owned())));
        web.telemetry.set_dead(2);
    });
    let page = server.await.get("/").await;
    for words in ["line 7: unknown key", "disk full", "2 notifications could not be delivered"] {
        assert!(page.text().contains(words), "{words}");
    }
}

#[tokio::test]
async fn ten_thousand_credentials_give_a_bounded_page() {
    let mut snapshot = many(10_000);
    let urgent: CredentialStatus = probed("prod", "the-urgent-one", in_days(1));
    snapshot.credentials.push(Arc::new(urgent));
    let server = Server::start(snapshot).await;
    let page = server.get("/").await;
    assert_eq!(page.text().matches("data-label=\"Team\"").count(), 2000);
    assert!(page.text().contains("8001 more"), "the rest is counted");
    let first = page.text().find("data-label=\"Credential\"").unwrap();
    assert!(page.text()[first..first + 200].contains("the-urgent-one"));

    let found = server.get("/?q=THE-urgent").await;
    assert_eq!(found.text().matches("data-label=\"Team\"").count(), 1);
    assert!(found.text().contains("1 of 10001 match"));
    let all = server.get("/?all=1").await;
    assert_eq!(all.text().matches("data-label=\"Team\"").count(), 10_001);
}

#[tokio::test]
async fn no_credential_at_all_is_said_so() {
    let server = Server::start(Snapshot::default()).await;
    let page = server.get("/").await;
    assert!(page.text().contains("No credential is configured"));
    assert!(page.text().contains("No platform is configured"));
    assert_eq!(server.get("/metrics").await.status, 200);
}
