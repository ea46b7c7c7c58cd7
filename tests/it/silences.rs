//! Silences as people ask for them: on the command line beside the running exporter, on the page, over the API, and by
//! the signed link of a mail. The real binary, real mails and real webhooks.

use chrono::{DateTime, TimeDelta, Utc};
use ece_expiry_exporter::sim::Expires;
use ece_expiry_exporter::time;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, Binary, World, answer, client, run, wait, wait_until};

/// Where people would reach the exporter; links in mails begin with it.
const EXTERNAL: &str = "https://expiry.example.org/ece";

fn in_days(days: i64) -> DateTime<Utc> {
    time::now() + TimeDelta::days(days) + TimeDelta::hours(1)
}

/// `silence …` in the world: exit code, standard output, standard error.
fn silence(world: &World, args: &[&str]) -> (i32, String, String) {
    let all = [&["silence"], args, &["--config.file=config.yml"]].concat();
    run(&all, world.dir.path())
}

/// The id of a silence that is added.
fn add(world: &World, args: &[&str]) -> String {
    let (code, out, err) = silence(world, &[&["add"], args].concat());
    assert_eq!(code, 0, "{out}{err}");
    out.trim().to_owned()
}

async fn suppressed(binary: &Binary) -> bool {
    let metrics = binary.get("/metrics").await;
    let mut lines = metrics.lines().filter(|it| it.contains("_suppressed_total{"));
    lines.any(|it| it.contains("silenced") && !it.ends_with(" 0"))
}

/// Sends a form as a browser on our own page does.
async fn post(url: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
    let escaped = |text: &str| -> String {
        let byte = |it: u8| match it {
            it if it.is_ascii_alphanumeric() => char::from(it).to_string(),
            it => format!("%{it:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let fields = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    let mut request = client()
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(fields.collect::<Vec<_>>().join("&"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request).await
}

async fn ask(method: Method, url: &str, body: Option<&Value>) -> (u16, Value) {
    let mut request = client().request(method, url);
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = answer(request).await;
    let status = answer.status;
    (status, serde_json::from_str(&answer.text()).unwrap())
}

async fn shown(binary: &Binary) -> Vec<Value> {
    let url = format!("{}/api/v1/silences", binary.url);
    let (status, body) = ask(Method::GET, &url, None).await;
    assert_eq!(status, 200, "{body}");
    body["data"]["silences"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_command_silences_beside_the_running_exporter_and_what_waited_is_told_when_it_ends() {
    let mut world = World::new().await;
    world.add("fine", Expires::At(in_days(60)));
    let binary = Binary::serve(&world, &["--web.enable-lifecycle"], &[]).await;
    let args = ["credential=ci", "--duration=7d", "--author=marc", "--comment=on it"];
    let (code, out, err) = silence(&world, &[&["add"], &args[..]].concat());
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("silences nothing"), "a typo must be seen: {err}");
    let id = out.trim().to_owned();
    wait_until("the server to see it", async || shown(&binary).await.len() == 1).await;
    world.add("ci", Expires::At(in_days(5)));
    world.write_config();
    assert_eq!(binary.reload().await.0, 200);
    wait_until("the alert to be held back", async || suppressed(&binary).await).await;
    assert_eq!((world.sink.hooks().len(), world.mailbox.mails().len()), (0, 0));
    let page = binary.get("/").await;
    assert!(page.contains("silenced until") && page.contains("by marc"), "{page}");
    let (_, _, err) = silence(&world, &[&["add"], &args[..]].concat());
    assert!(err.contains("silences 1 alert that fires") && err.contains("prod/ci"), "{err}");

    wait_until("both", async || shown(&binary).await.len() == 2).await;
    let (code, out, err) = silence(&world, &["list"]);
    assert!(code == 0 && out.contains(&id) && out.contains("on it"), "{out}{err}");
    let ids: Vec<String> =
        shown(&binary).await.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (code, out, err) = silence(&world, &[&["expire"], &ids[..]].concat());
    assert_eq!(code, 0, "{out}{err}");
    wait("the webhook", || world.sink.hooks().first().cloned()).await;
    wait("the mail", || world.mailbox.mails().first().cloned()).await;
    let (code, out, err) = silence(&world, &["expire", &id]);
    assert!(code == 1 && err.contains("has not ended"), "{out}{err}");
    let (_, out, _) = silence(&world, &["list", "--expired", "--output=json"]);
    let rows: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(rows[0]["status"]["state"], "expired", "{out}");
}

#[tokio::test]
async fn a_silence_that_is_set_while_nothing_runs_holds_at_the_next_start() {
    let mut world = World::new().await;
    world.add("ci", Expires::At(in_days(60)));
    let mut binary = Binary::serve(&world, &[], &[]).await;
    binary.signal("TERM");
    binary.ended().await;
    let args = ["ECECredentialRejected", "team=owners", "--until=2099-01-01", "--comment=x"];
    let (code, _, err) = silence(&world, &[&["add", "--author=m"], &args[..]].concat());
    assert!(code == 1 && err.contains("a year at most"), "{err}");
    add(&world, &["--author=m", "ECECredentialRejected", "team=owners", "-d3d", "-cx"]);
    let refusals = [
        (&["-d3d"][..], "at least one matcher"),
        (&["credential=~.*", "-d3d"], "everything"),
        (&["team=a", "--until=2020-01-01"], "is past"),
        (&["team=~\"(\"", "-d3d"], "regular expression"),
        (&["team=a", "-dtomorrow"], "no end of a silence"),
    ];
    for (args, why) in refusals {
        let (code, out, err) =
            silence(&world, &[&["add", "--author=m", "--comment=x"], args].concat());
        assert!(code == 1 && out.is_empty() && err.contains(why), "{args:?}: {err}");
    }
    let binary = Binary::serve(&world, &[], &[]).await;
    let shown = shown(&binary).await;
    assert_eq!(shown.len(), 1);
    assert_eq!(
        shown[0]["matchersText"],
        json!(["alertname=\"ECECredentialRejected\"", "team=\"owners\""])
    );
}

#[tokio::test]
async fn without_the_flag_page_and_api_show_and_change_nothing() {
    let mut world = World::new().await;
    world.add("ci", Expires::At(in_days(60)));
    let binary = Binary::serve(&world, &[], &[]).await;
    let url = format!("{}/silences", binary.url);
    let page = binary.get("/silences?matchers=credential%3D%22it's%22").await;
    assert!(!page.contains("<form method=\"post\""), "{page}");
    assert!(page.contains("silence add"), "it shows the command: {page}");
    let fields =
        [("matchers", "credential=ci"), ("lasts", "3d"), ("created_by", "m"), ("comment", "x")];
    let refused = post(&url, &fields, &[]).await;
    assert_eq!(refused.status, 403);
    let api = format!("{}/api/v1/silences", binary.url);
    let wish =
        json!({"matchers": ["credential=ci"], "duration": "1h", "createdBy": "m", "comment": "x"});
    let (status, body) = ask(Method::POST, &api, Some(&wish)).await;
    assert_eq!((status, &body["errorType"]), (403, &json!("forbidden")), "{body}");
    let (status, _) = ask(Method::DELETE, &format!("{api}/sil_1"), None).await;
    assert_eq!(status, 403);
    assert!(shown(&binary).await.is_empty());
}

#[tokio::test]
async fn with_the_flag_the_form_adds_and_ends_and_another_site_does_neither() {
    let mut world = World::new().await;
    world.add("ci", Expires::At(in_days(5)));
    let binary = Binary::serve(&world, &["--web.enable-admin-api"], &[]).await;
    let url = format!("{}/silences", binary.url);
    let fields = [
        ("matchers", "credential=\"ci\"\nteam=~\"own.*\""),
        ("lasts", "3d"),
        ("created_by", "<b>\"m\" & 'c'</b>"),
        ("comment", "<script>alert(1)</script>"),
    ];
    for headers in [
        [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        [("x-other", "y"), ("origin", "https://evil.example")],
        [("x-other", "y"), ("origin", "null")],
    ] {
        let refused = post(&url, &fields, &headers).await;
        assert_eq!(refused.status, 403, "{headers:?}");
        assert!(refused.text().contains("another site"));
    }
    assert!(shown(&binary).await.is_empty());
    let everything = [
        ("matchers", "credential=~\".*\""),
        ("lasts", "3d"),
        ("created_by", "m"),
        ("comment", "x"),
    ];
    let refused = post(&url, &everything, &[]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("everything"));
    let large = "x".repeat(300_000);
    assert_eq!(post(&url, &[("matchers", &large)], &[]).await.status, 413);

    let origin = [("origin", &*binary.url)];
    wait_until("the alert", async || binary.get("/api/v1/alerts").await.contains("Expiring")).await;
    let done = post(&url, &fields, &origin).await;
    assert_eq!((done.status, done.header("location")), (200, ""), "redirects are followed");
    let page = binary.get("/silences").await;
    assert!(!page.contains("<script>alert") && !page.contains("<b>\"m\""), "{page}");
    assert!(page.contains("&lt;script&gt;") && page.contains("ECECredentialExpiring"), "{page}");
    let main = binary.get("/").await;
    assert!(main.contains("silenced until") && !main.contains("<b>\"m\""), "{main}");
    let id = shown(&binary).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(post(&url, &[("end", &id)], &[("sec-fetch-site", "cross-site")]).await.status, 403);
    assert_eq!(post(&url, &[("end", &id)], &origin).await.status, 200);
    assert_eq!(shown(&binary).await[0]["status"]["state"], "expired");
    assert_eq!(post(&url, &[("end", &id)], &origin).await.status, 409, "it has ended");
}

#[tokio::test]
async fn the_api_takes_matchers_as_alertmanager_does_and_as_text() {
    let mut world = World::new().await;
    world.add("ci", Expires::At(in_days(60)));
    let binary = Binary::serve(&world, &["--web.enable-admin-api"], &[]).await;
    let url = format!("{}/api/v1/silences", binary.url);
    let parts = json!({
        "id": "", "createdBy": "m", "comment": "x", "endsAt": time::now() + TimeDelta::hours(3),
        "startsAt": time::now(),
        "matchers": [{"name": "credential", "value": "c[ix]", "isRegex": true, "isEqual": true}, "team!=x"],
    });
    let (status, body) = ask(Method::POST, &url, Some(&parts)).await;
    assert_eq!((status, &body["status"]), (200, &json!("success")), "{body}");
    assert_eq!(body["data"]["warnings"], json!([]), "{body}");
    let id = body["data"]["silenceID"].as_str().unwrap().to_owned();
    let row = &shown(&binary).await[0];
    assert_eq!(row["matchersText"], json!(["credential=~\"c[ix]\"", "team!=\"x\""]));
    assert_eq!(
        row["matchers"][1],
        json!({"name": "team", "value": "x", "isRegex": false, "isEqual": false})
    );
    for wrong in [
        json!({"matchers": ["a=b"], "createdBy": "m", "comment": "x"}),
        json!({"matchers": ["a=b"], "createdBy": "m", "comment": "x", "duration": "2y"}),
        json!({"matchers": [{"name": "a b", "value": "x"}], "createdBy": "m", "comment": "x", "duration": "1h"}),
        json!([1]),
    ] {
        let (status, body) = ask(Method::POST, &url, Some(&wrong)).await;
        assert_eq!((status, &body["errorType"]), (400, &json!("bad_data")), "{wrong}: {body}");
    }
    let plain = client().post(&url).header("content-type", "text/plain").body("{}");
    assert_eq!(answer(plain).await.status, 415);
    assert_eq!(ask(Method::DELETE, &format!("{url}/{id}"), None).await.0, 200);
    assert_eq!(ask(Method::DELETE, &format!("{url}/{id}"), None).await.0, 404);
    assert_eq!(
        ask(Method::GET, &format!("{url}/{id}"), None).await.1["data"]["status"]["state"],
        "expired"
    );
}

/// The link in a mail, with the address of the binary in the place of the one for people.
fn own_link(text: &str, binary: &Binary) -> String {
    let token = text
        .split(&format!("{EXTERNAL}/own?t="))
        .nth(1)
        .unwrap_or_else(|| panic!("no link: {text}"));
    let token = token.split(|it: char| it.is_whitespace() || it == '"').next().unwrap();
    format!("{}/own?t={token}", binary.url)
}

/// The form behind a link, as somebody else fills it in.
fn form_of(token: &str) -> [(&str, &str); 4] {
    [("t", token), ("created_by", "<i>eve</i>"), ("comment", ""), ("lasts", "3d")]
}

/// Opens a link as a mail scanner does, and as a reader.
async fn looks(link: &str) {
    for _ in 0..3 {
        let page = answer(client().get(link)).await;
        assert_eq!(page.status, 200);
        let page = page.text();
        assert!(page.contains("ECECredentialExpiring") && page.contains("I own it"), "{page}");
        assert!(!page.contains("<i>"), "{page}");
    }
}

async fn refuses_what_is_not_signed(url: &str, token: &str) {
    let forged = token.replacen(&token[10..14], "AAAA", 1);
    for wrong in [&*forged, "", "x.y", &token[..token.len() - 2]] {
        let refused = post(url, &form_of(wrong), &[]).await;
        assert_eq!(refused.status, 403, "{wrong}");
        assert!(refused.text().contains("is not one that this exporter has sent"));
    }
    let long = [("t", token), ("created_by", "m"), ("comment", ""), ("lasts", "30d")];
    assert_eq!(post(url, &long, &[]).await.status, 400, "longer than the key lives");
}

#[tokio::test]
async fn the_link_of_a_mail_changes_nothing_until_its_form_is_sent_and_outlives_a_kill() {
    let mut world = World::new().await;
    world.global = format!("schedule: 1h, external_url: \"{EXTERNAL}/\"");
    let name = "a 'b' <i>&\"c\"";
    world.add("fine", Expires::At(in_days(60)));
    let key = world.ece.add_key(ece_expiry_exporter::sim::SimKey::new(
        "owner",
        "odd",
        Expires::At(in_days(5)),
    ));
    world.write("key-odd", &key);
    world.platforms = format!("      - {{name: {name:?}, api_key_file: key-odd, team: owners}}\n");
    let mut binary = Binary::serve(&world, &[], &[]).await;
    let mail = wait("the mail", || world.mailbox.mails().first().cloned()).await;
    let link = own_link(&mail.text(), &binary);
    assert_eq!(own_link(&mail.html().replace("&#x2f;", "/"), &binary), link, "text and HTML agree");
    looks(&link).await;
    assert!(shown(&binary).await.is_empty(), "to look changes nothing");

    let url = format!("{}/own", binary.url);
    let token = link.split("t=").nth(1).unwrap().to_owned();
    refuses_what_is_not_signed(&url, &token).await;
    assert!(shown(&binary).await.is_empty());

    let done = post(&url, &form_of(&token), &[]).await;
    assert_eq!(done.status, 200);
    let page = done.text();
    assert!(
        page.contains("Done") && page.contains("&lt;i&gt;eve") && !page.contains("<i>"),
        "{page}"
    );
    let row = &shown(&binary).await[0];
    let matchers = [
        "platform=\"prod\"",
        "credential=\"a 'b' <i>&\\\"c\\\"\"",
        "alertname=\"ECECredentialExpiring\"",
    ];
    assert_eq!(row["matchersText"], json!(matchers));
    assert_eq!((&row["comment"], row["alerts"].as_array().unwrap().len()), (&json!("I own it"), 1));

    binary.signal("KILL");
    binary.ended().await;
    let key = stored_key(&world);
    let binary = Binary::serve(&world, &[], &[]).await;
    assert_eq!(shown(&binary).await[0]["status"]["state"], "active", "it holds over the kill");
    let page = answer(client().get(format!("{}/own?t={token}", binary.url))).await;
    assert_eq!(page.status, 200, "the link is still good");
    assert!(page.text().contains("by <b>&lt;i&gt;eve"));
    let url = format!("{}/own", binary.url);
    let next = [("t", &*token), ("created_by", "marc"), ("comment", "mine"), ("lasts", "1d")];
    assert_eq!(post(&url, &next, &[]).await.status, 200);
    let rows = shown(&binary).await;
    assert_eq!((rows.len(), &rows[0]["createdBy"]), (1, &json!("marc")), "one owner at a time");
    for text in [binary.log_text(), binary.get("/config").await, binary.get("/metrics").await] {
        assert!(!text.contains(&key), "the key is never shown");
    }

    // Renewed: the alert is over, and the link with it.
    let renewed = world.ece.renew("odd").unwrap();
    world.write("key-odd", &renewed);
    assert_eq!(
        crate::world::fetch(&format!(
            "{}/probe?platform=prod&credential=a%20%27b%27%20%3Ci%3E%26%22c%22",
            binary.url
        ))
        .await
        .0,
        200
    );
    let over = answer(client().get(format!("{}/own?t={token}", binary.url))).await;
    assert_eq!(over.status, 410);
}

/// The key that signs links, as the store keeps it.
fn stored_key(world: &World) -> String {
    let file = world.path("store").join("store.db");
    let store = rusqlite::Connection::open(file).unwrap();
    store.query_row("SELECT value FROM memo WHERE name = 'link_key'", [], |it| it.get(0)).unwrap()
}

#[tokio::test]
async fn links_can_be_switched_off() {
    let mut world = World::new().await;
    world.global = format!("schedule: 1h, external_url: \"{EXTERNAL}\", own_links: false");
    world.add("ci", Expires::At(in_days(5)));
    let binary = Binary::serve(&world, &[], &[]).await;
    let mail = wait("the mail", || world.mailbox.mails().first().cloned()).await;
    assert!(!mail.text().contains("/own?t="));
    let page = answer(client().get(format!("{}/own?t=a.b", binary.url))).await;
    assert_eq!(page.status, 404);
}
