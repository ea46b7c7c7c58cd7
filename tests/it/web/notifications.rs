//! What the page of the notifications shows, and the API beside it.

use chrono::TimeDelta;
use ece_expiry_exporter::delivery::{Integration, Target, Undelivered};
use ece_expiry_exporter::status::{Attempt, Fact, Notification, Snapshot, Stage};
use ece_expiry_exporter::time;
use ece_expiry_exporter::web::ServeOptions;

use super::Server;

fn notification(n: i64, stage: Stage) -> Notification {
    let at = time::now() - TimeDelta::minutes(n);
    Notification {
        id: format!("msg_{n}"),
        target: Target {
            receiver: "ops".into(),
            integration: Integration::Email,
            channel: "mail".into(),
            recipient: "Team <ops@example.org>".to_owned(),
        },
        stage,
        next_at: (stage == Stage::Silenced).then(|| at + TimeDelta::days(3)),
        owed_at: Some(at),
        composed_at: Some(at),
        finished_at: None,
        answer: Some(format!("answer {n} about <ops@example.org>")),
        attempts_total: 7,
        attempts: vec![Attempt {
            number: 7,
            at,
            took_ms: 12,
            outcome: "failed".to_owned(),
            answer: "try <b>later</b>".to_owned(),
        }],
        facts_total: 9,
        facts: vec![Fact {
            subject: "prod/<i>ci</i>".to_owned(),
            platform: "prod".to_owned(),
            credential: Some("<i>ci</i>".to_owned()),
            alert: "ECECredentialExpiring".to_owned(),
            reason: "new".to_owned(),
            severity: "critical".to_owned(),
            at,
            undelivered: Some(Undelivered {
                target: "dev/webhook[hook]".to_owned(),
                why: "410 for dev@example.org".to_owned(),
            }),
        }],
    }
}

async fn server(notifications: Vec<Notification>) -> Server {
    Server::start_with(Snapshot::default(), ServeOptions::default(), |web| {
        web.telemetry.set_dead(3);
        web.board.set_notifications(notifications);
    })
    .await
}

#[tokio::test]
async fn the_dead_stand_first_with_their_answer_and_the_command_that_sends_again() {
    let notifications = vec![
        notification(1, Stage::Delivered),
        notification(2, Stage::Dead),
        notification(3, Stage::Silenced),
        notification(4, Stage::Dead),
    ];
    let server = server(notifications).await;
    let page = server.get("/notifications").await;
    let page = page.text();
    let at = |n: i64| page.find(&format!("answer {n} about")).unwrap();
    let order = [at(2), at(4), at(1), at(3)];
    assert!(order.is_sorted(), "{order:?}");
    for words in [
        "3 notifications were given up.",
        "ece-expiry-exporter notifications resend msg_2<",
        "silenced, looked at again in 71 hours",
        "answer 2 about &lt;o…@example.org&gt;",
        "told here because dev&#x2f;webhook[hook] was not reached",
        "and 8 more",
        "7 attempts",
        "try &lt;b&gt;later",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    for secret in ["ops@example.org", "dev@example.org", "<i>ci", "<b>later", "resend msg_1<"] {
        assert!(!page.contains(secret), "{secret}");
    }
    assert!(!page.contains("<script"), "it needs none");
    for needle in ["href=\"/", "src=", "href=\"http"] {
        assert!(!page.contains(needle), "{needle}");
    }
}

#[tokio::test]
async fn a_filter_narrows_page_and_api_and_both_are_bounded() {
    let stage = |n: i64| if n == 600 { Stage::Dead } else { Stage::Delivered };
    let server = server((0..700).map(|n| notification(n, stage(n))).collect()).await;
    let answer = server.get("/notifications").await;
    let page = answer.text();
    assert_eq!(page.matches("data-label=\"State\"").count(), 300);
    assert!(
        page.contains("400 more are not shown") && page.contains("answer 600 "),
        "dead ones first"
    );
    let page = server.get("/notifications?q=Answer+599").await;
    assert!(page.text().contains("1 of 700 match"));
    assert!(
        server.get("/notifications?q=nothing").await.text().contains("No notification matches")
    );

    let api = async |query: &str| {
        let answer = server.get(&format!("/api/v1/notifications?{query}")).await;
        let json: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
        json["data"].clone()
    };
    let found = api("limit=2&state=delivered&receiver=ops&credential=prod").await;
    assert_eq!(
        (&found["total"], found["notifications"].as_array().unwrap().len()),
        (&699.into(), 2)
    );
    let row = &found["notifications"][1];
    assert_eq!((&row["id"], &row["recipient"]), (&"msg_1".into(), &"o…@example.org".into()));
    assert_eq!(row["facts"][0]["undelivered"]["why"], "410 for d…@example.org");
    assert_eq!(row["attempts"][0]["took_seconds"], 0.012);
    assert_eq!(api("receiver=dev").await["total"], 0);

    let csv = server.get("/api/v1/notifications?format=csv&state=dead").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(csv.text().matches("\r\n").count(), 2, "{}", csv.text());
}
