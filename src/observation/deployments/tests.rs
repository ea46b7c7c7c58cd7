//! Answers of deployments as they are, and as they should not be.

use std::time::Duration;

use super::*;
use crate::config::{
    BorrowedKey, Filter, InventoryScope, Pattern, Policy, Repeat, SecretSource, Severity,
};

fn inventory() -> Inventory {
    Inventory {
        key: BorrowedKey { credential: "ops".into(), source: SecretSource::Env("OPS".to_owned()) },
        scope: InventoryScope::Deployments(Deployments::default()),
        filter: Filter::default(),
        keys_max: 100,
        timeout: Duration::from_secs(60),
        policy: Arc::new(Policy {
            steps: Vec::new(),
            never_expires: None,
            failures_before_alert: 3,
            repeat: Repeat::default(),
            reminders: Vec::new(),
            escalations: Vec::new(),
        }),
        lifetime_max: None,
        created: None,
        deleted: None,
        long_lived: None,
    }
}

fn logs() -> Deployment {
    Deployment { id: "62be".into(), place: "logs".into(), ref_id: "main-elasticsearch".into() }
}

fn list(text: &str, wanted: &Deployments) -> Option<DeploymentList> {
    let mut lister = DeploymentLister::new(wanted);
    text.as_bytes().chunks(7).for_each(|it| lister.feed(it));
    lister.end()
}

/// What the three answers of a deployment show: id, description and expiry of each, and how much was unreadable.
fn gather(
    inventory: &Inventory,
    keys: &str,
    certificates: &str,
    license: &str,
) -> (Vec<String>, usize, Vec<Taken>) {
    let mut gatherer = Gatherer::new(inventory, "2026-11-24T00:00:00Z".parse().unwrap());
    let deployment = logs();
    let mut lister = KeyLister::new(&deployment);
    keys.as_bytes().chunks(7).for_each(|it| lister.feed(it, &mut gatherer));
    let taken = vec![
        lister.end(&mut gatherer),
        gatherer.certificates(&deployment, certificates.as_bytes()),
        gatherer.license(&deployment, license.as_bytes()),
    ];
    let listing = gatherer.end(&DeploymentList::default());
    let line =
        |it: &Item| format!("{} {} {} {:?}", it.own_id(), it.user, it.description, it.reading);
    assert!(listing.items.iter().all(|it| it.deployment() == "62be" && &*it.place == "logs"));
    (listing.items.iter().map(line).collect(), listing.unreadable, taken)
}

const NO_KEYS: &str = r#"{"api_keys":[]}"#;
const NO_CERTIFICATES: &str = "[]";
const BASIC: &str = r#"{"license":{"status":"active","uid":"1","type":"basic"}}"#;

#[test]
fn a_deployment_needs_an_id_and_an_elasticsearch() {
    let text = r#"{"deployments":[
        {"id":"b","name":"logs","resources":[{"kind":"kibana","ref_id":"k"},{"kind":"elasticsearch","ref_id":"main"}]},
        {"id":"a","name":"logs","resources":[{"kind":"elasticsearch","ref_id":"main"}],"secret":"x"},
        {"id":"c","resources":[{"kind":"elasticsearch","ref_id":"main"}]},
        {"id":"d","name":null,"resources":null},
        {"id":"e","name":"no elasticsearch","resources":[{}]},
        {"name":"no id"}, {"id":7}, null]}"#;
    let list = list(text, &Deployments::default()).unwrap();
    let names: Vec<_> = list.read.iter().map(|it| it.place.as_ref()).collect();
    assert_eq!(names, ["logs (a)", "logs (b)", "c"]);
    assert_eq!((list.listed, list.unreadable), (5, 3));
}

#[test]
fn an_id_that_would_lead_elsewhere_is_none() {
    for id in ["..", ".", "", "a/b", "a?b", "a%2fb", "a b", "ä", "a#", "a\\\\b", &"x".repeat(65)] {
        for (id, ref_id) in [(id, "main"), ("a", id)] {
            let text = format!(
                r#"{{"deployments":[{{"id":"{id}","name":"x","resources":[{{"kind":"elasticsearch","ref_id":"{ref_id}"}}]}}]}}"#
            );
            let list = list(&text, &Deployments::default()).unwrap();
            assert_eq!(list.read, [], "{text}");
            assert_eq!(list.unreadable + list.odd.len(), 1, "{text}");
            assert_eq!(
                list.odd.len(),
                usize::from(id == "a"),
                "a deployment with an id is named: {text}"
            );
        }
    }
}

#[test]
fn of_too_many_deployments_the_rest_is_named() {
    let each = |at: usize| {
        format!(
            r#"{{"id":"{at:05}","name":"d{at}","resources":[{{"kind":"elasticsearch","ref_id":"m"}}]}}"#
        )
    };
    let all: Vec<String> = (0..DEPLOYMENTS_MAX + 3).map(each).collect();
    let text = format!(r#"{{"deployments":[{}]}}"#, all.join(","));
    let all = list(&text, &Deployments::default()).unwrap();
    assert_eq!((all.read.len(), all.left_out.len()), (DEPLOYMENTS_MAX, 3));
    assert_eq!(&*all.left_out[0].place, "d2000");
    let wanted = Deployments { include: vec![Pattern("d200*".into())], ..Deployments::default() };
    let some = list(&text, &wanted).unwrap();
    assert_eq!((some.read.len(), some.left_out.len(), some.listed), (4, 0, DEPLOYMENTS_MAX + 3));
}

#[test]
fn a_list_of_deployments_that_breaks_off_is_none() {
    let text = r#"{"deployments":[{"id":"a","name":"x"}]}"#;
    assert!(list(text, &Deployments::default()).is_some());
    for text in [&text[..text.len() - 2], "<html></html>", r#"{"keys":[]}"#, ""] {
        assert_eq!(list(text, &Deployments::default()), None, "{text}");
    }
}

#[test]
fn keys_without_an_end_or_a_life_are_left_out() {
    let keys = r#"{"api_keys":[
        {"id":"1","name":"ci","type":"rest","creation":1735689600000,"expiration":1800000000000,"invalidated":false,
         "username":"marc","realm":"r","metadata":{"x":[1]},"api_key":"SECRET"},
        {"id":"2","name":"kibana rule","invalidated":false,"username":"elastic"},
        {"id":"3","name":"dead","expiration":1800000000000,"invalidated":true},
        {"id":"4","name":null,"expiration":"soon"},
        {"id":"5","expiration":-5},
        {"name":"no id"}, 7]}"#;
    let (items, unreadable, taken) = gather(&inventory(), keys, NO_CERTIFICATES, BASIC);
    assert_eq!(items, ["1 marc ci Some(ExpiresAt(2027-01-15T08:00:00Z))", "4   None", "5   None"]);
    assert_eq!((unreadable, taken), (2, vec![Taken::Whole; 3]));

    let mut told = inventory();
    told.policy =
        Arc::new(Policy { never_expires: Some(Severity::Info), ..Policy::clone(&told.policy) });
    let (items, _, _) = gather(&told, keys, NO_CERTIFICATES, BASIC);
    assert!(items.contains(&"2 elastic kibana rule Some(Never)".to_owned()), "{items:?}");

    let mut narrow = inventory();
    narrow.filter.exclude_users = vec![Pattern("ma*".into())];
    let certificates = r#"[{"path":"a.crt","expiry":"2027-01-01T00:00:00.000Z"}]"#;
    let (items, _, _) = gather(&narrow, keys, certificates, BASIC);
    assert_eq!(items.len(), 3, "certificates have no user: {items:?}");
}

#[test]
fn of_the_certificates_at_one_place_the_first_to_expire_counts() {
    let certificates = r#"[
        {"path":"certs/ca.crt","format":"PEM","alias":null,"subject_dn":"CN=new","serial_number":"1","has_private_key":false,
         "expiry":"2029-01-01T00:00:00.000Z","issuer":"CN=ca"},
        {"path":"certs/ca.crt","alias":null,"subject_dn":"CN=old","expiry":"2027-01-01T00:00:00.000Z"},
        {"path":"certs/ca.crt","alias":null,"subject_dn":"CN=odd","expiry":null},
        {"path":"node.p12","alias":"http","expiry":"2028-01-01T00:00:00Z"},
        {"path":"node.p12","alias":"transport","subject_dn":"CN=t","expiry":"?"},
        {"subject_dn":"CN=nowhere","expiry":"2028-01-01T00:00:00Z"}, "x", null]"#;
    let (items, unreadable, _) = gather(&inventory(), NO_KEYS, certificates, BASIC);
    assert_eq!(
        items,
        [
            "certs/ca.crt  CN=old in certs/ca.crt Some(ExpiresAt(2027-01-01T00:00:00Z))",
            "node.p12 (http)  node.p12 (http) Some(ExpiresAt(2028-01-01T00:00:00Z))",
            "node.p12 (transport)  CN=t in node.p12 (transport) None",
        ]
    );
    assert_eq!(unreadable, 3);
}

#[test]
fn a_license_is_one_only_if_it_ends() {
    let expected = "license  enterprise Some(ExpiresAt(2027-01-15T08:00:00Z))";
    let cases = [
        (
            r#"{"license":{"type":"enterprise","expiry_date_in_millis":1800000000000}}"#,
            vec![expected],
        ),
        (
            r#"{"license":{"type":"enterprise","expiry_date":"2027-01-15T08:00:00.000Z"}}"#,
            vec![expected],
        ),
        (
            r#"{"license":{"type":"trial","expiry_date_in_millis":"?"}}"#,
            vec!["license  trial None"],
        ),
        (r#"{"license":{"type":"basic","expiry_date_in_millis":null}}"#, vec![]),
        (r#"{"license":{"type":"basic","expiry_date_in_millis":-1}}"#, vec![]),
    ];
    for (license, expected) in cases {
        let (items, _, taken) = gather(&inventory(), NO_KEYS, NO_CERTIFICATES, license);
        assert_eq!(
            (items.iter().map(String::as_str).collect::<Vec<_>>(), taken[2]),
            (expected, Taken::Whole),
            "{license}"
        );
    }
}

#[test]
fn nonsense_is_not_taken_for_an_empty_answer() {
    for text in [
        "",
        "<html></html>",
        "null",
        "7",
        r#"{"value":{}}"#,
        r#"{"license":null}"#,
        r#"{"license":{}}"#,
    ] {
        let (items, _, taken) = gather(&inventory(), text, text, text);
        assert_eq!((items, taken), (vec![], vec![Taken::Nonsense; 3]), "{text}");
    }
    let cut = r#"{"api_keys":[{"id":"1","expiration":1800000000000},"#;
    assert_eq!(gather(&inventory(), cut, NO_CERTIFICATES, BASIC).2[0], Taken::Nonsense);
}
