//! The public API of ECE, as a table, against what the program asks and what it makes of the answers: each call stands
//! in the table, and bodies of every shape that the table allows are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use ece_expiry_exporter::config::{
    BorrowedKey, Certificate, Credential, CredentialKind, Filter, Inventory, InventoryScope,
    KeyScope, Policy, Repeat, SecretSource, TlsService,
};
use ece_expiry_exporter::observation::{FailureReason, Observation, Reading};
use ece_expiry_exporter::probe::Prober;
use ece_expiry_exporter::sim::{
    CertificateOptions, Certificates, ErrorBody, Expires, Fault, On, Role, SimDeployment,
};
use ece_expiry_exporter::time;
use fastrand::Rng;
use tempfile::TempDir;

use crate::coordinator::{Coordinator, answer};
use crate::probe::{PATIENCE, credential, expires, platform};
use crate::world::{Binary, World, run, wait_until};

/// How many bodies of each shape are tried; the seed is always the same.
const BODIES: u64 = 150;
/// How deep bodies of objects without a shape go.
const DEPTH_MAX: u32 = 2;
/// The id in the key of `probe::credential`.
const KEY_ID: &str = "8e2f6fd669fd400d947f27187eb91fab";

// ---- the table ----

struct Call {
    operation: String,
    method: String,
    path: String,
    headers: String,
    values: String,
    shape: String,
    failures: Vec<(u16, String)>,
    is_asked: bool,
}

struct Field {
    name: String,
    kind: String,
    is_required: bool,
    is_read: bool,
}

struct Table {
    calls: Vec<Call>,
    shapes: BTreeMap<String, Vec<Field>>,
}

fn rows(name: &str, heading: &[&str]) -> Vec<Vec<String>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/spec").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut rows = text.lines().filter(|it| !it.starts_with('#')).map(|line| {
        let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        assert_eq!(cells.len(), heading.len(), "{name}: {line}");
        cells
    });
    assert_eq!(rows.next().unwrap(), heading);
    rows.collect()
}

impl Table {
    fn read() -> Self {
        let failure = |text: &str| {
            let (status, code) = text.trim().split_once(' ').unwrap();
            (status.parse().unwrap(), code.to_owned())
        };
        let heading =
            ["operation", "method", "path", "headers", "values", "shape", "failures", "use"];
        let calls = rows("calls.tsv", &heading).into_iter().map(|cells| Call {
            operation: cells[0].clone(),
            method: cells[1].clone(),
            path: cells[2].clone(),
            headers: cells[3].clone(),
            values: cells[4].clone(),
            shape: cells[5].clone(),
            failures: cells[6].split(',').filter(|it| *it != "-").map(failure).collect(),
            is_asked: cells[7] == "asked",
        });
        let mut shapes = BTreeMap::from([("Empty".to_owned(), Vec::new())]);
        for cells in rows("fields.tsv", &["shape", "field", "type", "presence", "use"]) {
            shapes.entry(cells[0].clone()).or_insert_with(Vec::new).push(Field {
                name: cells[1].clone(),
                kind: cells[2].clone(),
                is_required: cells[3] == "required",
                is_read: cells[4] == "read",
            });
        }
        Self { calls: calls.collect(), shapes }
    }

    fn call(&self, operation: &str) -> &Call {
        self.calls.iter().find(|it| it.operation == operation).unwrap()
    }

    /// The call that a request makes, if the table has it.
    fn call_of(&self, request: &str) -> Option<&Call> {
        let (method, path) = request.split_once(' ')?;
        let path = path.strip_prefix("/api/v1")?;
        let mut calls = self.calls.iter().filter(|it| it.method == method);
        // `_all` could be the id of a key, too.
        calls.clone().find(|it| it.path == path).or_else(|| calls.find(|it| it.is_at(path)))
    }
}

impl Call {
    fn is_at(&self, path: &str) -> bool {
        let own: Vec<&str> = self.path.split('/').collect();
        // The last parameter may be a path of its own.
        let asked: Vec<&str> = path.splitn(own.len(), '/').collect();
        own.len() == asked.len()
            && own.iter().zip(asked).all(|(own, asked)| match own.strip_prefix('{') {
                Some(name) => self.allows(name.trim_end_matches('}'), asked),
                None => *own == asked,
            })
    }

    fn allows(&self, parameter: &str, value: &str) -> bool {
        match self.values.strip_prefix(parameter).and_then(|it| it.strip_prefix(": ")) {
            Some(values) => values.split(' ').any(|it| it == value),
            None => !value.is_empty() && (parameter == "proxy_path" || !value.contains('/')),
        }
    }
}

#[test]
fn the_table_is_whole() {
    let table = Table::read();
    for call in &table.calls {
        let known = call.shape == "Proxied" || table.shapes.contains_key(&call.shape);
        assert!(known, "{}: {} is no shape", call.operation, call.shape);
        assert!(call.failures.iter().all(|it| (400..600).contains(&it.0)), "{}", call.operation);
    }
    let simple = ["text", "date", "millis", "number", "truth", "object"];
    for (shape, fields) in &table.shapes {
        for field in fields {
            let kind = field.kind.trim_start_matches("list of ");
            let known = simple.contains(&kind) || table.shapes.contains_key(kind);
            assert!(known, "{shape}.{}: {kind} is no type", field.name);
        }
    }
    let proxy = table.call("get-deployment-resource-proxy-requests");
    assert_eq!(proxy.headers, "X-Management-Request");
    assert!(
        proxy.is_at("/deployments/d/kibana/r/proxy/p")
            && !proxy.is_at("/deployments/d/x/r/proxy/p")
    );
}

// ---- what is asked ----

#[tokio::test]
async fn nothing_is_asked_of_ece_that_the_table_does_not_mark_as_asked() {
    let mut world = World::new().await;
    let later = time::now() + TimeDelta::days(40);
    world.add("keyed", Expires::At(later));
    world.ece.world().key("keyed").unwrap().role = Role::Admin;
    world.add("forever", Expires::Never);
    world.ece.world().sessions.set_password("ops", "right");
    world.ece.world().deployments.push(SimDeployment::new("logs"));
    let jwt = world.ece.world().sessions.open("ci", later);
    world.write("login", "right");
    world.write("token", &jwt);
    world.platforms = "      - {name: on-call, login: {username: ops, password_file: login}}\n      \
         - {name: session, bearer_token_file: token}\n    license: {credential: keyed}\n    \
         certificates: {endpoint: true, services: [ui, proxy, adminconsole, internalca], credential: keyed}\n    \
         inventory: {credential: keyed, scope: all}\n    \
         deployments: {credential: keyed, elasticsearch_api_keys: true, certificates: true, license: true}\n"
        .into();
    let binary = Binary::serve(&world, &[], &[]).await;
    let names = [
        "keyed",
        "forever",
        "session",
        "on-call",
        "license",
        "inventory",
        "deployments",
        "certificate-endpoint",
        "certificate-ui",
        "certificate-proxy",
        "certificate-adminconsole",
        "certificate-internalca",
    ];
    for fault in [
        Fault::None,
        Fault::Forbidden,
        Fault::Redirect(world.ece.url() + "/api/v1/elsewhere"),
        Fault::Status(401, ErrorBody::Code("root.unauthenticated".to_owned(), "no".to_owned())),
        Fault::AuthClusterDown,
        Fault::Html200,
        Fault::RateLimited(60),
    ] {
        world.ece.set_fault(On::Everyone, fault).unwrap();
        for name in names {
            binary.probe(name).await;
        }
    }
    wait_until("the logout to have arrived", async || {
        world.ece.requests().calls.iter().any(|it| it.ends_with("_logout"))
    })
    .await;
    world.ece.set_fault(On::Everyone, Fault::None).unwrap();
    let (config, dir) = (world.write_config().display().to_string(), world.dir.path().to_owned());
    let doctor = move || run(&["doctor", "prod/keyed", &format!("--config.file={config}")], &dir);
    let (code, out, err) = tokio::task::spawn_blocking(doctor).await.unwrap();
    assert!(code == 0 || code == 1, "{code} {out}{err}");

    let table = Table::read();
    let calls = world.ece.requests().calls;
    let asked: BTreeSet<&str> = calls
        .iter()
        .map(|it| match table.call_of(it) {
            Some(call) => &*call.operation,
            None => panic!("{it} does not stand in tests/spec/calls.tsv"),
        })
        .collect();
    let allowed = table.calls.iter().filter(|it| it.is_asked).map(|it| &*it.operation).collect();
    assert_eq!(asked, allowed);
    // It changes nothing in ECE: a login opens a session of its own, and a logout closes that.
    let writes: Vec<&String> = calls.iter().filter(|it| !it.starts_with("GET ")).collect();
    assert_eq!(writes, ["POST /api/v1/users/auth/_login", "POST /api/v1/users/auth/_logout"],);
}

// ---- what is answered ----

/// Makes bodies of the shapes of the table: optional fields are there, null or missing, unknown ones are added, and the
/// order is any.
struct Maker<'a> {
    table: &'a Table,
    rng: Rng,
    /// What stands in a field `Shape.field` instead of anything; `None` leaves it out.
    fixed: BTreeMap<&'static str, Option<String>>,
}

impl<'a> Maker<'a> {
    fn new(table: &'a Table, seed: u64) -> Self {
        Self { table, rng: Rng::with_seed(seed), fixed: BTreeMap::new() }
    }

    fn fix(&mut self, field: &'static str, value: impl Into<String>) {
        self.fixed.insert(field, Some(value.into()));
    }

    fn drop(&mut self, field: &'static str) {
        self.fixed.insert(field, None);
    }

    fn body(&mut self, shape: &str) -> String {
        let mut members = Vec::new();
        for field in &self.table.shapes[shape] {
            let name = format!("{shape}.{}", field.name);
            let value = match self.fixed.get(&*name) {
                Some(fixed) => fixed.clone(),
                None if field.is_required => Some(self.value(&field.kind)),
                None => match self.rng.u8(..4) {
                    0 => None,
                    1 => Some("null".to_owned()),
                    _ => Some(self.value(&field.kind)),
                },
            };
            members.extend(value.map(|it| format!("\"{}\":{it}", field.name)));
        }
        for at in 0..self.rng.u8(..3) {
            members.push(format!("\"later_version_{at}\":{}", self.anything(0)));
        }
        self.rng.shuffle(&mut members);
        let between = *self.rng.choice([",", ", ", ",\r\n  "].iter()).unwrap();
        format!("{{{}}}", members.join(between))
    }

    fn value(&mut self, kind: &str) -> String {
        if let Some(kind) = kind.strip_prefix("list of ") {
            let items: Vec<String> = (0..self.rng.u8(..4)).map(|_| self.value(kind)).collect();
            return format!("[{}]", items.join(","));
        }
        match kind {
            "text" => self.text(),
            "date" => {
                let at = utc("2026-01-01T00:00:00Z") + TimeDelta::minutes(self.rng.i64(0..500_000));
                self.date(at)
            }
            "millis" => self.rng.i64(1..4_000_000_000_000).to_string(),
            "number" => self.rng.i64(-9..1_000_000).to_string(),
            "truth" => self.rng.bool().to_string(),
            "object" => self.anything(0),
            shape => self.body(shape),
        }
    }

    fn text(&mut self) -> String {
        let texts = [
            "",
            "ci",
            "two words",
            "\"quoted\" \\ \n",
            "schlüssel 🔑",
            "2026-01-01T00:00:00Z",
            "null",
        ];
        serde_json::to_string(self.rng.choice(texts).unwrap()).unwrap()
    }

    /// A whole minute in one of the forms that ISO 8601 has for it.
    fn date(&mut self, at: DateTime<Utc>) -> String {
        let there = at + TimeDelta::hours(2);
        let forms = [
            at.to_rfc3339_opts(SecondsFormat::Millis, true),
            at.to_rfc3339_opts(SecondsFormat::Secs, true),
            at.to_rfc3339_opts(SecondsFormat::Nanos, true),
            at.to_rfc3339_opts(SecondsFormat::Millis, false),
            at.format("%Y-%m-%dT%H:%MZ").to_string(),
            there.format("%Y-%m-%dT%H:%M:%S.000+02:00").to_string(),
            there.format("%Y-%m-%dT%H:%M:%S+0200").to_string(),
        ];
        format!("\"{}\"", self.rng.choice(forms).unwrap())
    }

    fn anything(&mut self, depth: u32) -> String {
        match self.rng.u8(..if depth < DEPTH_MAX { 8 } else { 6 }) {
            0 => "null".to_owned(),
            1 => "1e300".to_owned(),
            2 => self.rng.bool().to_string(),
            3 => self.rng.i64(..).to_string(),
            4 => "[]".to_owned(),
            5 => self.text(),
            6 => format!("[{},{}]", self.anything(depth + 1), self.anything(depth + 1)),
            _ => format!("{{\"expiration_date\":{}}}", self.anything(depth + 1)),
        }
    }

    /// A list of keys with that of `probe::credential` among others.
    fn keys(&mut self, id: Option<&str>, expiration: Option<String>) -> String {
        let mut keys = Vec::new();
        for at in 0..self.rng.u8(..4) {
            self.fix("ApiKey.id", format!("\"{at}\""));
            self.fixed.remove("ApiKey.expiration_date");
            keys.push(self.body("ApiKey"));
        }
        match id {
            Some(id) => self.fix("ApiKey.id", format!("\"{id}\"")),
            None => self.drop("ApiKey.id"),
        }
        self.fixed.insert("ApiKey.expiration_date", expiration);
        keys.push(self.body("ApiKey"));
        self.rng.shuffle(&mut keys);
        self.fix("ApiKeys.keys", format!("[{}]", keys.join(",")));
        self.body("ApiKeys")
    }
}

/// What stands at a path: status, header lines, body.
type Page = (String, Vec<String>, String);

/// A server with these pages, and the program that asks it.
struct Asked {
    pages: Arc<Mutex<BTreeMap<&'static str, Page>>>,
    prober: Prober,
    dir: TempDir,
}

impl Asked {
    async fn new() -> Self {
        let pages: Arc<Mutex<BTreeMap<&'static str, Page>>> = Arc::default();
        let served = pages.clone();
        let coordinator = Coordinator::http(move |request| {
            // Before it may stand the body of the last request.
            let line = request.lines().find(|it| it.ends_with("HTTP/1.1")).unwrap();
            let path = line.split(' ').rev().nth(1).unwrap();
            let pages = served.lock().unwrap();
            let (status, headers, body) = &pages[path.strip_prefix("/api/v1").unwrap()];
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            answer(status, &headers, body)
        })
        .await;
        let prober = Prober::new(&platform(&[coordinator.http_url()]), PATIENCE).unwrap();
        Self { pages, prober, dir: TempDir::new().unwrap() }
    }

    fn page(&self, path: &'static str, body: String) {
        self.page_with(path, "200 OK", &[], body);
    }

    fn page_with(&self, path: &'static str, status: &str, headers: &[String], body: String) {
        let json = ["content-type: application/json".to_owned()];
        let headers = json.into_iter().chain(headers.iter().cloned()).collect();
        self.pages.lock().unwrap().insert(path, (status.to_owned(), headers, body));
    }

    async fn ask(&self, kind: &Kind) -> Observation {
        let api_key = credential(&self.dir);
        let file = |text: &str| {
            let path = self.dir.path().join("secret");
            std::fs::write(&path, text).unwrap();
            SecretSource::File(path)
        };
        let borrowed = || {
            let CredentialKind::ApiKey(source) = api_key.kind.clone() else { unreachable!() };
            BorrowedKey { credential: "terraform".into(), source }
        };
        let kind = match kind {
            Kind::Key => api_key.kind.clone(),
            Kind::Token => CredentialKind::BearerToken(file("opaque")),
            Kind::Login => {
                CredentialKind::Login { username: "ops".to_owned(), password: file("right") }
            }
            Kind::License => CredentialKind::License(borrowed()),
            Kind::Service => {
                let key = borrowed();
                CredentialKind::Certificate(Certificate::Service { service: TlsService::Ui, key })
            }
            Kind::List => CredentialKind::Inventory(Arc::new(inventory(borrowed()))),
        };
        let observation = self.prober.probe(&Credential { kind, ..api_key }, time::now).await;
        if let Err(failure) = &observation.result {
            let message = &failure.message;
            assert!((20..=512).contains(&message.len()), "{message}");
            assert!(!message.contains('\n') && message.ends_with(['.', '…']), "{message}");
        }
        observation
    }
}

fn inventory(key: BorrowedKey) -> Inventory {
    let policy = Policy {
        steps: Vec::new(),
        never_expires: None,
        failures_before_alert: 1,
        repeat: Repeat::default(),
        reminders: Vec::new(),
        escalations: Vec::new(),
    };
    Inventory {
        key,
        scope: InventoryScope::Keys(KeyScope::All),
        filter: Filter::default(),
        keys_max: 100,
        timeout: PATIENCE,
        policy: Arc::new(policy),
        lifetime_max: None,
        created: None,
        deleted: None,
        long_lived: None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Token,
    Login,
    License,
    Service,
    List,
}

const USER: &str = "/user";
const KEYS: &str = "/users/auth/keys";
const ALL_KEYS: &str = "/users/auth/keys/_all";
const AUTH: &str = "/users/auth";
const LOGIN: &str = "/users/auth/_login";
const LOGOUT: &str = "/users/auth/_logout";
const LICENSE: &str = "/platform/license";
const UI: &str = "/platform/configuration/security/tls/ui";

/// Sets all pages to bodies of `maker` that tell `at`; what it has fixed stays.
fn fill(asked: &Asked, maker: &mut Maker<'_>, at: DateTime<Utc>) {
    asked.page(USER, maker.body("User"));
    let fixed = maker.fixed.clone();
    let date = maker.date(at);
    let id = if fixed.get("ApiKey.id") == Some(&None) { None } else { Some(KEY_ID) };
    let expiration = fixed.get("ApiKey.expiration_date").cloned().unwrap_or(Some(date));
    let mut keys = maker.keys(id, expiration);
    if let Some(fixed) = fixed.get("ApiKeys.keys") {
        maker.fixed.insert("ApiKeys.keys", fixed.clone());
        keys = maker.body("ApiKeys");
    }
    asked.page(KEYS, keys);
    maker.fixed.clone_from(&fixed);
    let date = maker.date(at);
    for (field, value) in [
        ("AuthenticationInfo.expires_at", date.clone()),
        ("Token.token", "\"e30.e30.c2ln\"".to_owned()),
        ("License.expiry_date_in_millis", at.timestamp_millis().to_string()),
        ("Chain.chain", "[]".to_owned()),
        ("ChainStatus.expiration_date", date),
    ] {
        maker.fixed.entry(field).or_insert(Some(value));
    }
    if !maker.fixed.contains_key("Chain.chain_status") {
        let status = maker.body("ChainStatus");
        maker.fix("Chain.chain_status", status);
    }
    for (path, shape) in [
        (AUTH, "AuthenticationInfo"),
        (LOGIN, "Token"),
        (LOGOUT, "Empty"),
        (LICENSE, "LicenseAnswer"),
        (UI, "Chain"),
    ] {
        asked.page(path, maker.body(shape));
    }
}

const KINDS: [Kind; 5] = [Kind::Key, Kind::Token, Kind::Login, Kind::License, Kind::Service];

fn tells(kind: Kind, at: DateTime<Utc>) -> Reading {
    if kind == Kind::Login { Reading::Undated } else { Reading::ExpiresAt(at) }
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A whole minute.
fn minute(seed: u64) -> DateTime<Utc> {
    utc("2027-03-04T05:06:00Z") + TimeDelta::minutes(i64::try_from(seed).unwrap() * 977)
}

#[tokio::test]
async fn every_body_that_the_table_allows_is_read() {
    let (table, asked) = (Table::read(), Asked::new().await);
    for seed in 0..BODIES {
        let (mut maker, at) = (Maker::new(&table, seed), minute(seed));
        fill(&asked, &mut maker, at);
        for kind in KINDS {
            let observation = asked.ask(&kind).await;
            let pages = asked.pages.lock().unwrap().clone();
            assert_eq!(
                observation.result,
                Ok(tells(kind, at)),
                "{kind:?}, seed {seed}: {pages:#?}"
            );
        }
        let form = maker.date(at);
        let header = expires(form.trim_matches('"'));
        asked.page_with(USER, "200 OK", &[header], Maker::new(&table, seed + 1).body("User"));
        asked.page(KEYS, "no list".to_owned());
        let observation = asked.ask(&Kind::Key).await;
        assert_eq!(observation.result, Ok(Reading::ExpiresAt(at)), "seed {seed}, header {form}");
    }
}

#[tokio::test]
async fn every_list_that_the_table_allows_is_read_to_its_last_key() {
    let (table, asked) = (Table::read(), Asked::new().await);
    for seed in 0..BODIES {
        let (mut maker, at) = (Maker::new(&table, seed), minute(seed));
        let (expiration, reading) = match seed % 3 {
            0 => (None, Reading::Never),
            1 => (Some("null".to_owned()), Reading::Never),
            _ => (Some(maker.date(at)), Reading::ExpiresAt(at)),
        };
        let body = maker.keys(Some(KEY_ID), expiration);
        let listed = body.matches("\"id\"").count();
        asked.page(ALL_KEYS, body.clone());
        let observation = asked.ask(&Kind::List).await;
        let Some(listing) = observation.listing else {
            panic!("seed {seed}: {observation:?}: {body}")
        };
        assert_eq!((listing.items.len(), listing.unreadable), (listed, 0), "seed {seed}: {body}");
        let item = listing.items.iter().find(|it| &*it.id == KEY_ID).unwrap();
        assert_eq!(item.reading, Some(reading), "seed {seed}: {body}");
    }
    for odd in
        ["", "null", "{}", "[]", r#"{"keys":null}"#, r#"{"keys":[]}"#, r#"{"keys":[{"id":"1"}"#]
    {
        asked.page(ALL_KEYS, odd.to_owned());
        let observation = asked.ask(&Kind::List).await;
        assert!(observation.result.is_err() && observation.listing.is_none(), "{odd}");
    }
}

#[tokio::test]
async fn a_key_whose_expiration_date_is_missing_or_null_never_expires() {
    let (table, asked) = (Table::read(), Asked::new().await);
    for seed in 0..BODIES {
        let mut maker = Maker::new(&table, seed);
        let expiration = (seed % 2 == 0).then(|| "null".to_owned());
        maker.fixed.insert("ApiKey.expiration_date", expiration);
        fill(&asked, &mut maker, minute(seed));
        let observation = asked.ask(&Kind::Key).await;
        assert_eq!(observation.result, Ok(Reading::Never), "seed {seed}");
    }
}

#[tokio::test]
async fn the_certificates_of_a_service_are_read_beside_every_form_of_its_status() {
    let (table, asked) = (Table::read(), Asked::new().await);
    let ends = utc("2026-12-24T18:00:00Z");
    let options = CertificateOptions { leaf_not_after: Some(ends), ..Default::default() };
    let chain = Certificates::make(&options).unwrap().chain_pem();
    for seed in 0..BODIES {
        let (mut maker, at) = (Maker::new(&table, seed), minute(seed));
        maker.fix("Chain.chain", serde_json::json!([chain]).to_string());
        match seed % 3 {
            0 => maker.drop("Chain.chain_status"),
            1 => maker.fix("Chain.chain_status", "null"),
            _ => {}
        }
        fill(&asked, &mut maker, at);
        let observation = asked.ask(&Kind::Service).await;
        assert_eq!(observation.result, Ok(Reading::ExpiresAt(ends)), "seed {seed}");
    }
}

/// What becomes of an answer without a field: what is said, and as what kind of failure.
const WITHOUT: [(Kind, &str, FailureReason, &str); 9] = [
    (Kind::Key, "ApiKeys.keys", FailureReason::HeaderMissing, "is not the expected JSON"),
    (Kind::Key, "ApiKey.id", FailureReason::HeaderMissing, "does not hold this one"),
    (Kind::Token, "AuthenticationInfo.expires_at", FailureReason::HeaderMissing, "`expires_at`"),
    (Kind::Login, "Token.token", FailureReason::UnexpectedStatus, "without a token"),
    (Kind::License, "LicenseAnswer.license", FailureReason::HeaderInvalid, "without a date"),
    (
        Kind::License,
        "License.expiry_date_in_millis",
        FailureReason::HeaderInvalid,
        "without a date",
    ),
    (Kind::Service, "Chain.chain", FailureReason::HeaderInvalid, "certificates of ui that cannot"),
    (
        Kind::Service,
        "Chain.chain_status",
        FailureReason::HeaderInvalid,
        "certificates of ui that cannot",
    ),
    (
        Kind::Service,
        "ChainStatus.expiration_date",
        FailureReason::HeaderInvalid,
        "certificates of ui that cannot",
    ),
];

/// What can stand where something else belongs.
const ODD: [&str; 12] = [
    "null",
    "true",
    "\"\"",
    "\"soon\"",
    "\" \\u0000 \"",
    "[]",
    "[null]",
    "[[]]",
    "[{\"id\":{}}]",
    "{}",
    "-1",
    "1e300",
];

#[tokio::test]
async fn an_answer_without_what_is_needed_is_a_failure_that_says_so() {
    let (table, asked) = (Table::read(), Asked::new().await);
    for (kind, field, reason, part) in WITHOUT {
        for seed in 0..10 {
            let mut maker = Maker::new(&table, seed);
            if field == "Chain.chain" {
                maker.drop("Chain.chain_status");
            }
            maker.drop(field);
            fill(&asked, &mut maker, minute(seed));
            let failure = asked.ask(&kind).await.result.unwrap_err();
            assert_eq!(failure.reason, reason, "{field}: {}", failure.message);
            assert!(failure.message.contains(part), "{field}: {}", failure.message);
        }
        for (odd, seed) in ODD.iter().zip(0..) {
            let mut maker = Maker::new(&table, seed);
            if field.starts_with("Chain.") {
                maker.drop("Chain.chain_status");
            }
            maker.fix(field, *odd);
            fill(&asked, &mut maker, minute(seed));
            let result = asked.ask(&kind).await.result;
            // Some of these are no list and no date, but a key can have the id of another list.
            let is_known = field == "ApiKey.id" || (field, *odd) == ("Token.token", "\"soon\"");
            assert!(is_known || result.is_err(), "{field} is {odd}: {result:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_read_may_be_missing() {
    let (table, asked) = (Table::read(), Asked::new().await);
    let shapes: BTreeSet<&String> =
        table.calls.iter().filter(|it| it.is_asked).map(|it| &it.shape).collect();
    let inner = [
        "Security",
        "Realm",
        "Elevated",
        "UserMetadata",
        "ApiKey",
        "License",
        "Usage",
        "ChainStatus",
    ];
    let mut dropped = 0;
    for (shape, fields) in &table.shapes {
        // What is missing in a list of deployments is tried where that list is read.
        if shape == "Deployments" || !shapes.contains(shape) && !inner.contains(&shape.as_str()) {
            continue;
        }
        for field in fields {
            let name = format!("{shape}.{}", field.name);
            let is_tried =
                WITHOUT.iter().any(|it| it.1 == name) || name == "ApiKey.expiration_date";
            assert_eq!(field.is_read, is_tried, "{name}: the table and this test disagree");
            if !field.is_required || field.is_read {
                continue;
            }
            dropped += 1;
            for seed in 0..3 {
                let (mut maker, at) = (Maker::new(&table, seed), minute(seed));
                maker.drop(name.clone().leak());
                fill(&asked, &mut maker, at);
                for kind in KINDS {
                    let observation = asked.ask(&kind).await;
                    assert_eq!(observation.result, Ok(tells(kind, at)), "{kind:?} without {name}");
                }
            }
        }
    }
    assert!(15 < dropped, "only {dropped} fields");
}

#[tokio::test]
async fn every_failure_in_the_table_is_told_with_its_code() {
    let table = Table::read();
    let mut told = Vec::new();
    for (operation, kind, path) in [
        ("get-current-user", Kind::Key, USER),
        ("login", Kind::Login, LOGIN),
        ("logout", Kind::Login, LOGOUT),
        ("get-license", Kind::License, LICENSE),
    ] {
        for ((status, code), seed) in table.call(operation).failures.iter().zip(0..) {
            // A new one, which has not been refused a password before.
            let (mut maker, asked) = (Maker::new(&table, seed), Asked::new().await);
            fill(&asked, &mut maker, minute(seed));
            maker.fix("FailureElement.code", format!("\"{code}\""));
            let element = maker.body("FailureElement");
            maker.fix("Failure.errors", format!("[{element}]"));
            let header = format!("x-cloud-error-codes: {code}");
            for headers in [vec![], vec![header]] {
                let body = maker.body("Failure");
                asked.page_with(path, &format!("{status} Failed"), &headers, body);
                let line = match asked.ask(&kind).await.result {
                    Ok(reading) => format!("{operation} {code}: {reading:?}"),
                    Err(failure) => {
                        let is_named = failure.message.contains(code.as_str())
                            || failure.reason == FailureReason::LicenseMissing;
                        assert!(is_named, "{code} is missing in: {}", failure.message);
                        format!("{operation} {code}: {}", failure.reason.label())
                    }
                };
                told.push(line);
            }
        }
    }
    told.dedup();
    expect_test::expect![[r#"
        get-current-user user.not_found: unauthorized
        login root.unauthenticated: unauthorized
        login authc.no_authentication_cluster: server_error
        login authc.authentication_cluster_error: server_error
        logout authc.no_authentication_cluster: Undated
        logout authc.authentication_cluster_error: Undated
        get-license license.license_not_found: license_missing"#]]
    .assert_eq(&told.join("\n"));
}
