//! What answers mean, told as tables of status, codes and bodies.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

const USER: &str = r#"{"user_name":"admin","builtin":true}"#;
const UNAUTHENTICATED: &str = r#"{"errors":[{"code":"root.unauthenticated","message":"The supplied authentication is invalid"}]}"#;
const RBAC: &str = r#"{"errors":[{"code":"root.unauthorized.rbac","message":"The supplied authentication is not authorized to access this resource. Reason: [Missing required permissions]."}]}"#;
const LOGIN_PAGE: &str = "<!doctype html><html><body>Log in</body></html>";
const EXPIRY: &str = "2026-02-21T09:15:30.123Z";
/// `marc:8e2f6fd669fd400d947f27187eb91fab:NBKGcNcrQ4q0sqIgMx7A7w`, an example from Elastic's documentation.
const KEY: &str =
    "bWFyYzo4ZTJmNmZkNjY5ZmQ0MDBkOTQ3ZjI3MTg3ZWI5MWZhYjpOQktHY05jclE0cTBzcUlnTXg3QTd3";

fn now() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn json(status: u16, body: &str) -> Answer<'_> {
    Answer {
        status,
        content_type: Some("application/json; charset=UTF-8"),
        error_codes: None,
        expiration: Vec::new(),
        date: Some("Thu, 01 Jan 2026 00:00:00 GMT"),
        body: body.as_bytes(),
    }
}

fn page(status: u16, body: &str) -> Answer<'_> {
    Answer { content_type: Some("text/html"), ..json(status, body) }
}

fn with_expiry<'a>(answer: &Answer<'a>, expiry: &'a str) -> Answer<'a> {
    Answer { expiration: vec![expiry.as_bytes()], ..answer.clone() }
}

fn failure(answer: &Answer) -> Failure {
    match meaning(answer, now()) {
        Meaning::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn reason_of(answer: &Answer) -> FailureReason {
    failure(answer).reason
}

fn message(answer: &Answer, expected: &Expect) {
    expected.assert_eq(&failure(answer).message);
}

fn expires() -> Reading {
    Reading::ExpiresAt(EXPIRY.parse().unwrap())
}

#[test]
fn a_success_tells_the_expiry() {
    assert_eq!(meaning(&with_expiry(&json(200, USER), EXPIRY), now()), Meaning::Told(expires()));
    assert_eq!(
        meaning(&with_expiry(&json(200, USER), "never"), now()),
        Meaning::Told(Reading::Never)
    );
    assert_eq!(meaning(&json(200, USER), now()), Meaning::NotReported);
}

#[test]
fn a_duration_counts_from_the_answers_date_or_from_now() {
    let answer = with_expiry(&json(200, USER), "10d");
    let answer = Answer { date: Some("Fri, 02 Jan 2026 00:00:00 GMT"), ..answer };
    let expected = "2026-01-12T00:00:00Z".parse().unwrap();
    assert_eq!(meaning(&answer, now()), Meaning::Told(Reading::ExpiresAt(expected)));
    let answer = Answer { date: Some("yesterday"), ..answer };
    let expected = "2026-01-11T00:00:00Z".parse().unwrap();
    assert_eq!(meaning(&answer, now()), Meaning::Told(Reading::ExpiresAt(expected)));
}

#[test]
fn a_header_that_is_no_date_is_a_failure_of_its_own() {
    let answer = with_expiry(&json(200, USER), "in a while\r\n");
    assert_eq!(reason_of(&answer), FailureReason::HeaderInvalid);
    message(
        &answer,
        &expect![
            "ECE accepts the key, but its expiry header is no date in a known form: `in a while..`. Look the expiry up in ECE, and please report the form."
        ],
    );
}

#[test]
fn a_status_and_its_codes_decide() {
    use FailureReason::{
        Forbidden, NotFound, RateLimited, Redirect, ServerError, Unauthorized, UnexpectedStatus,
    };
    let no_owner = r#"{"errors":[{"code":"user.not_found","message":"User not found."}]}"#;
    let missing = r#"{"errors":[{"code":"deployments.deployment_not_found","message":"No Deployment with id [62bed072dffd4509b84dfe7dc125bb12] could be found"}]}"#;
    let no_cluster = r#"{"errors":[{"code":"authc.no_authentication_cluster","message":"The administrator needs to configure the authentication cluster."}]}"#;
    let cluster = r#"{"errors":[{"code":"authc.authentication_cluster_error","message":"The authentication cluster failed to process the request."}]}"#;
    let old = r#"{"ok":false,"message":"The supplied authentication is invalid"}"#;
    let not_authorized = r#"{"message":"You are not authorized to perform this action."}"#;
    let no_user = r#"{"errors":[{"code":"comments.no_user_id"}]}"#;
    let cases = [
        (json(401, UNAUTHENTICATED), Unauthorized),
        (json(401, old), Unauthorized),
        (json(401, ""), Unauthorized),
        (page(401, LOGIN_PAGE), Unauthorized),
        (json(401, no_user), Forbidden),
        (json(401, not_authorized), Forbidden),
        (json(401, RBAC), Forbidden),
        (json(401, cluster), ServerError),
        (json(403, RBAC), Forbidden),
        (json(403, "{}"), Forbidden),
        (page(403, LOGIN_PAGE), UnexpectedStatus),
        (json(404, no_owner), Unauthorized),
        (json(404, missing), NotFound),
        (page(404, LOGIN_PAGE), NotFound),
        (json(429, ""), RateLimited),
        (
            json(
                449,
                r#"{"errors":[{"code":"deployments.metadata_internal_error","message":"Please retry."}]}"#,
            ),
            UnexpectedStatus,
        ),
        (json(400, "{}"), UnexpectedStatus),
        (json(407, ""), UnexpectedStatus),
        (json(500, r#"{"error": "some error"}"#), ServerError),
        (json(501, no_cluster), ServerError),
        (json(502, cluster), ServerError),
        (json(200, cluster), ServerError),
        (page(502, LOGIN_PAGE), ServerError),
        (page(503, ""), ServerError),
        (json(301, ""), Redirect),
        (page(302, LOGIN_PAGE), Redirect),
        (page(200, LOGIN_PAGE), UnexpectedStatus),
        (json(200, LOGIN_PAGE), UnexpectedStatus),
        (page(200, USER), UnexpectedStatus),
        (json(200, ""), UnexpectedStatus),
        (json(200, "null"), UnexpectedStatus),
        (json(200, "[]"), UnexpectedStatus),
        (json(200, "{\"user_name\":"), UnexpectedStatus),
        (json(200, "\u{0}\u{1}garbage"), UnexpectedStatus),
        (json(204, ""), UnexpectedStatus),
        (json(0, ""), UnexpectedStatus),
    ];
    for (answer, expected) in cases {
        assert_eq!(
            reason_of(&answer),
            expected,
            "{} {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
    }
}

#[test]
fn codes_in_the_header_count_like_those_in_the_body() {
    let answer = |status, codes| Answer { error_codes: Some(codes), ..json(status, "") };
    assert_eq!(reason_of(&answer(401, "root.unauthenticated")), FailureReason::Unauthorized);
    assert_eq!(
        reason_of(&answer(401, "other.code, root.unauthenticated")),
        FailureReason::Unauthorized
    );
    assert_eq!(reason_of(&answer(401, "user.not_found")), FailureReason::Forbidden);
    assert_eq!(
        reason_of(&answer(401, "authc.authentication_cluster_error")),
        FailureReason::ServerError
    );
    assert_eq!(reason_of(&answer(403, "root.permission_denied")), FailureReason::Forbidden);
}

#[test]
fn a_refusal_that_carries_the_header_tells_the_expiry_too() {
    for answer in [
        json(403, RBAC),
        json(404, "{}"),
        json(500, "{}"),
        json(429, ""),
        page(403, LOGIN_PAGE),
        page(200, LOGIN_PAGE),
    ] {
        assert_eq!(
            failure(&with_expiry(&answer, EXPIRY)).reading,
            Some(expires()),
            "{}",
            answer.status
        );
        assert_eq!(failure(&answer).reading, None, "{}", answer.status);
    }
    // Nobody was authenticated here.
    for answer in [json(401, UNAUTHENTICATED), json(302, "")] {
        assert_eq!(failure(&with_expiry(&answer, EXPIRY)).reading, None, "{}", answer.status);
    }
}

#[test]
fn messages_say_what_happened_and_what_to_do() {
    message(
        &json(401, UNAUTHENTICATED),
        &expect![
            "ECE does not accept the key (401 root.unauthenticated: The supplied authentication is invalid). It has expired, was deleted or is mistyped: create a new key, and put it where this exporter and its users read it."
        ],
    );
    message(
        &json(403, RBAC),
        &expect![
            "ECE knows the key but refuses the request (403 root.unauthorized.rbac: The supplied authentication is not authorized to access this resource. Reason: [Missing required permissions]). Give the key's owner a role that may read, such as ece_platform_viewer."
        ],
    );
    message(
        &page(200, LOGIN_PAGE),
        &expect![
            "A proxy or login page answered, not ECE (status 200, an HTML page). Check the URL and what stands between this machine and ECE."
        ],
    );
    message(
        &page(401, LOGIN_PAGE),
        &expect![
            "The key was not accepted (status 401), but the answer is not in ECE's form. Check that no proxy asks for a login of its own; otherwise create a new key, and put it where this exporter and its users read it."
        ],
    );
    message(
        &json(500, r#"{"error": "some error"}"#),
        &expect![
            "ECE, or a proxy before it, is in trouble (500: some error). The key may be fine; look after the platform."
        ],
    );
    message(
        &json(302, ""),
        &expect![
            "The URL redirects (status 302), and the key is never sent on to another address. Configure the address that ECE itself answers at, and check whether a login proxy stands before it."
        ],
    );
}

#[test]
fn a_server_that_repeats_the_key_does_not_get_it_into_a_message() {
    let secret = "NBKGcNcrQ4q0sqIgMx7A7w";
    let texts = [
        format!("bad header: Authorization: ApiKey {KEY}"),
        format!("bad key ({KEY}), sorry"),
        format!("key=\"{KEY}\""),
        format!("marc:8e2f6fd669fd400d947f27187eb91fab:{secret}"),
        format!("secret {secret}."),
        "Basic bm90".to_owned(),
    ];
    for text in texts {
        let body =
            serde_json::json!({"errors": [{"code": "some.code", "message": text}]}).to_string();
        let codes = format!("x.{KEY}");
        let answer = Answer { error_codes: Some(&codes), ..json(400, &body) };
        let message = failure(&answer).message;
        for leaked in [&KEY[..20], &KEY[KEY.len() - 20..], secret, "bm90"] {
            assert!(!message.contains(leaked), "{message}");
        }
        assert!(message.contains("[removed]"), "{message}");
    }
    // Plain words and dates stay.
    assert_eq!(quote("2026-13-21T09:15:30+01:00"), "2026-13-21T09:15:30+01:00");
    assert_eq!(
        quote("api_keys.key_not_found authentication_cluster_error"),
        "api_keys.key_not_found authentication_cluster_error"
    );
}

#[test]
fn a_long_or_wild_text_of_the_server_is_cut_and_cleaned() {
    let body =
        serde_json::json!({"message": "wild \u{1b}[31m\u{202e}\n text ".repeat(1000)}).to_string();
    let codes = "code.of.no.end,".repeat(1000);
    let answer = Answer { error_codes: Some(&codes), ..json(418, &body) };
    let message = failure(&answer).message;
    assert!(
        message.len() <= MESSAGE_MAX && message.bytes().all(|it| (0x20..0x7f).contains(&it)),
        "{message}"
    );
    assert_eq!(quote("wild \u{1b}[31m\u{202e}\n text"), "wild ?[31m? text");
    assert_eq!(quote(&"word ".repeat(200)).len(), QUOTE_MAX);
}

#[test]
fn a_key_tells_its_user_and_id_but_not_its_secret() {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let id = "8e2f6fd669fd400d947f27187eb91fab";
    let marc = Some(("marc".to_owned(), id.to_owned()));
    assert_eq!(key_id_of(KEY), marc);
    assert_eq!(key_id_of(&format!(" {KEY}\n")), marc);
    assert_eq!(key_id_of(&format!("essu_{KEY}")), marc);
    let encode = |text: &str| STANDARD.encode(text);
    assert_eq!(
        key_id_of(&encode(&format!("a:b:{id}:secret"))),
        Some(("a:b".to_owned(), id.to_owned()))
    );
    assert_eq!(key_id_of(&encode(&format!("{id}:secret"))), Some((String::new(), id.to_owned())));
    assert_eq!(
        key_id_of(&URL_SAFE_NO_PAD.encode("m?>~:id:secret")),
        Some(("m?>~".to_owned(), "id".to_owned()))
    );
    for opaque in [
        "",
        "not base64!",
        "AAAA",
        &encode("no colon"),
        &encode("user:id:"),
        &encode("user::secret"),
        &encode("u:i d:s"),
        &"A".repeat(5000),
    ] {
        assert_eq!(key_id_of(opaque), None, "{opaque}");
    }
}

#[test]
fn the_list_of_keys_tells_the_expiry() {
    let list = r#"{"keys":[
        {"id":"8e2f6fd669fd400d947f27187eb91fab","user_id":"marc","description":"ci","creation_date":"2025-11-23T09:15:30.123Z","expiration_date":"2026-02-21T09:15:30.123Z"},
        {"id":"10","user_id":"someid"},
        {"id":11,"expiration_date":null,"extra":{"a":[1]}},
        {"id":"12","expiration_date":"whenever"},
        {"id":"13","expiration_date":1771665330123},
        {"id":"14","expiration_date":{}},
        {}, null, 7
    ]}"#;
    let found = |id: &str, reading| KeyListing::Found { id: id.to_owned(), reading };
    let look = |id| expiry_in_keys(list.as_bytes(), id, None);
    let marc = "8e2f6fd669fd400d947f27187eb91fab";
    assert_eq!(look(Some(marc)), found(marc, expires()));
    assert_eq!(look(Some("10")), found("10", Reading::Never));
    assert_eq!(look(Some("11")), found("11", Reading::Never));
    assert_eq!(look(Some("12")), KeyListing::Unreadable);
    assert_eq!(look(Some("13")), found("13", expires()));
    assert_eq!(look(Some("14")), KeyListing::Unreadable);
    assert_eq!(look(Some("15")), KeyListing::NotListed);
    assert_eq!(look(None), KeyListing::Ambiguous);

    let single = format!(r#"{{"keys":[{{"id":"{marc}","expiration_date":"{EXPIRY}"}}]}}"#);
    assert_eq!(expiry_in_keys(single.as_bytes(), None, None), found(marc, expires()));
    assert_eq!(expiry_in_keys(br#"{"keys":[]}"#, None, None), KeyListing::NotListed);
    assert_eq!(expiry_in_keys(br#"{"keys":[{}]}"#, None, None), KeyListing::Unreadable);
    for garbage in ["", "{}", "[]", r#"{"keys":null}"#, r#"{"keys":{}}"#, LOGIN_PAGE] {
        assert_eq!(
            expiry_in_keys(garbage.as_bytes(), None, None),
            KeyListing::Unreadable,
            "{garbage}"
        );
    }
}

#[test]
fn a_date_header_is_read_in_the_forms_of_http() {
    assert_eq!(date_of("Thu, 01 Jan 2026 00:00:00 GMT"), Some(now()));
    assert_eq!(date_of("Thu Jan  1 00:00:00 2026"), Some(now()));
    assert_eq!(date_of("2026-01-01T00:00:00Z"), None);
    assert_eq!(date_of(""), None);
}

proptest! {
    #[test]
    fn any_answer_has_a_meaning(
        status in any::<u16>(),
        content_type in prop::option::of("\\PC{0,30}"),
        error_codes in prop::option::of("[a-z.,_ ]{0,40}"),
        expiry in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "\\{\"(errors|message|keys|error)\":[\\[\\]{}\"a-z:,1]{0,20}\\}".prop_map(String::into_bytes),
        ],
    ) {
        let answer = Answer {
            status,
            content_type: content_type.as_deref(),
            error_codes: error_codes.as_deref(),
            expiration: expiry.iter().map(Vec::as_slice).collect(),
            date: None,
            body: &body,
        };
        if let Meaning::Failed(failure) = meaning(&answer, now()) {
            prop_assert!(failure.message.len() <= MESSAGE_MAX && !failure.message.is_empty());
        }
        let _ = expiry_in_keys(&body, None, None);
    }

    #[test]
    fn any_secret_is_read_or_opaque(text in "\\PC{0,60}") {
        let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
        if let Some((user, id)) = key_id_of(&encoded) {
            let plain = format!("{user}:{id}:");
            let bare = format!("{id}:");
            prop_assert!(text.starts_with(&plain) || text.starts_with(&bare));
        }
        let _ = key_id_of(&text);
    }
}
