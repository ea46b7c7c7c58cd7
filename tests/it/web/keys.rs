//! What the page of the listed keys shows, and the API beside it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::TimeDelta;
use ece_expiry_exporter::alert::{Finding, FindingKind, Found, Lifespan, State};
use ece_expiry_exporter::config::{CredentialId, ItemKind};
use ece_expiry_exporter::observation::Reading;
use ece_expiry_exporter::observation::listing::Item;
use ece_expiry_exporter::status::{DeploymentsStatus, ListStatus, Snapshot};
use ece_expiry_exporter::time;

use super::{Server, in_days};
use crate::metrics::probed;

fn found(id: &str, user: &str, description: &str, reading: Reading) -> Found {
    Found {
        item: Item {
            id: id.into(),
            kind: ItemKind::ApiKey,
            place: Arc::default(),
            user: user.into(),
            description: description.into(),
            created: Some(time::now() - TimeDelta::days(10)),
            reading: Some(reading),
        },
        held_by: None,
        state: State { reading: Some(reading), ..State::default() },
        missed: 0,
        lifespan: Lifespan::Allowed,
    }
}

fn list(keys: Vec<Found>, total: usize) -> Snapshot {
    let finding = Finding {
        kind: FindingKind::Deleted,
        at: time::now() - TimeDelta::hours(5),
        item: found("gone", "eva", "<b>backup</b>", Reading::Never).item,
    };
    let left_out = total - keys.len();
    let list = ListStatus {
        id: CredentialId { platform: "prod".into(), name: "inventory".into() },
        policy: probed("prod", "x", Reading::Never).policy,
        keys: Arc::new(keys.into_iter().map(Arc::new).collect()),
        left_out,
        total: Some(total),
        deployments: None,
        unreadable: 0,
        listed_at: Some(time::now() - TimeDelta::minutes(7)),
        findings: Arc::new(VecDeque::from([finding])),
        found: BTreeMap::new(),
    };
    Snapshot { lists: vec![Arc::new(list)], ..Snapshot::default() }
}

#[tokio::test]
async fn the_keys_stand_in_the_order_in_which_they_expire_with_owner_and_holder() {
    let mut held = found("k-held", "root", "terraform", in_days(3));
    held.held_by = Some("terraform".into());
    let mut long = found("k-long", "marc", "ci", in_days(400));
    long.lifespan = Lifespan::TooLong;
    let keys = vec![
        found("k-dead", "marc", "dead", in_days(-4)),
        held,
        long,
        found("k-never", "<i>eva</i>", "old", Reading::Never),
    ];
    let server = Server::start(list(keys, 9)).await;
    let page = server.get("/keys").await;
    let page = page.text();
    let at = |name: &str| {
        page.find(&format!("<small>{name}</small>")).unwrap_or_else(|| panic!("{name}"))
    };
    let order = [at("k-held"), at("k-long"), at("k-dead"), at("k-never"), at("gone")];
    assert!(order.is_sorted(), "{order:?}");
    for words in [
        "<b>4</b> keys on prod of 9: those that expire first (keys_max)",
        "<b>3 days left</b>",
        "expired 3 days ago",
        "never expires",
        "lives too long",
        "&lt;i&gt;eva&lt;",
        "is gone before its expiry",
        "listed 7 minutes ago",
    ] {
        assert!(page.contains(words), "{words} is missing in {page}");
    }
    assert!(!page.contains("<i>eva") && !page.contains("<b>backup"), "{page}");

    let filtered = server.get("/keys?q=MARC").await;
    assert!(filtered.text().contains("k-long") && !filtered.text().contains("k-held"));
    let front = server.get("/").await;
    assert!(
        front.text().contains("<a href=\"keys\"><b>4</b> keys on prod</a>"),
        "{}",
        front.text()
    );
}

#[tokio::test]
async fn a_long_list_is_shown_part_by_part_and_the_api_too() {
    let keys = (0..1_201).map(|at| found(&format!("k{at:05}"), "ci", "job", in_days(100 + at)));
    let server = Server::start(list(keys.collect(), 1_201)).await;
    let first = server.get("/keys").await;
    assert!(first.text().contains("1 to 500 of 1201") && first.text().contains("value=\"500\""));
    assert!(first.text().contains("k00499") && !first.text().contains("k00500"));
    let last = server.get("/keys?q=&offset=1000").await;
    assert!(last.text().contains("1001 to 1201 of 1201") && !last.text().contains(">After<"));

    let answer = server.get("/api/v1/keys?offset=1199&limit=5").await;
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["data"]["total"], 1_201);
    let ids: Vec<_> =
        json["data"]["keys"].as_array().unwrap().iter().map(|it| &it["key_id"]).collect();
    assert_eq!(ids, ["k01199", "k01200"]);
    assert_eq!(json["data"]["keys"][0]["expiry_state"], "dated");
    assert_eq!(server.get("/api/v1/keys?offset=x").await.status, 400);
}

#[tokio::test]
async fn what_expires_inside_deployments_is_shown_with_its_place_and_what_was_not_read() {
    let kind = ItemKind::ElasticsearchLicense;
    let mut license = found("", "", "enterprise", in_days(20));
    license.item.id = Item::id_in("62be", kind, "license");
    license.item.kind = kind;
    license.item.place = "logs".into();
    let mut snapshot = list(vec![license], 1);
    let list = Arc::make_mut(&mut snapshot.lists[0]);
    let unread = vec![("<b>metrics".into(), "it answers 404".to_owned())];
    list.deployments = Some(DeploymentsStatus { total: Some(2), unread });
    let server = Server::start(snapshot).await;
    let page = server.get("/keys").await;
    let page = page.text();
    for words in [
        "<b>1</b> in the deployments of prod",
        "not read: &lt;b&gt;metrics: it answers 404",
        "<span class=\"platform\">logs/</span>enterprise</span><small>license license</small>",
    ] {
        assert!(page.contains(words), "{words} is missing in {page}");
    }
    assert!(server.get("/keys?q=logs").await.text().contains("1 match"));
    let json: serde_json::Value =
        serde_json::from_slice(&server.get("/api/v1/keys").await.body).unwrap();
    let row = &json["data"]["keys"][0];
    assert_eq!((&row["kind"], &row["deployment"]), (&kind.label().into(), &"logs".into()));
}

#[tokio::test]
async fn without_a_list_the_page_says_how_to_get_one() {
    let server = Server::start(Snapshot::default()).await;
    assert!(server.get("/keys").await.text().contains("Add <code>inventory</code>"));
    assert!(!server.get("/").await.text().contains("<h2>Lists</h2>"));
}
