//! Which alerts a configuration can give: their labels, as far as the matchers of its routes tell them apart. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    Config, Credential, CredentialKind, Inventory, InventoryScope, ItemKind, MatchOp, Matcher,
    Platform, Policy, Route, Severity,
};

/// The labels that the program sets.
const OWN_LABELS: [&str; 7] =
    ["alertname", "severity", "platform", "credential", "kind", "team", "deployment"];

/// The alerts of what is watched about its life, about access to it, of a platform, and of what is listed. Together
/// they are all there are.
const EXPIRING: &str = "ECECredentialExpiring";
const EXPIRED: &str = "ECECredentialExpired";
const NEVER_EXPIRES: &str = "ECECredentialNeverExpires";
const ACCESS: [(&str, Severity); 3] = [
    ("ECECredentialRejected", Severity::Critical),
    ("ECECredentialForbidden", Severity::Warning),
    ("ECECredentialExpiryUnknown", Severity::Warning),
];
const OF_PLATFORM: [(&str, Severity); 2] =
    [("ECEPlatformUnreachable", Severity::Warning), ("ECEPlatformClockSkew", Severity::Warning)];
const CREATED: &str = "ECEApiKeyCreated";
const DELETED: &str = "ECEApiKeyDeleted";
const LONG_LIVED: &str = "ECEApiKeyLongLived";

/// The value of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value<'a> {
    /// This text.
    Is(&'a str),
    /// Not known before something is listed.
    Any,
}

/// Alerts that no matcher tells apart: the labels that matchers name, those that are there.
pub(super) type Case<'a> = BTreeMap<&'a str, Value<'a>>;

type Alerts = Vec<(&'static str, Severity)>;

/// Everything that the tree below `root` is asked about. What has receivers of its own does not go by the routes.
pub(super) fn cases<'a>(config: &'a Config, root: &'a Route) -> BTreeSet<Case<'a>> {
    let mut classes = Classes::of(root);
    // Thousands of credentials share their labels and policy: together first, then each of their alerts.
    let mut subjects: BTreeSet<(Case<'a>, Alerts)> = BTreeSet::new();
    for platform in config.platforms.iter().filter(|it| it.receivers.is_empty()) {
        let labels = [("platform", Value::Is(&platform.name))];
        subjects.insert((classes.case(labels), OF_PLATFORM.to_vec()));
    }
    for (platform, credential) in config.credentials() {
        if !credential.receivers.is_empty() {
            continue;
        }
        let own = [
            ("credential", Value::Is(&credential.id.name)),
            ("kind", Value::Is(credential.kind.label())),
        ];
        let case = classes.case(common(platform, credential).chain(own));
        subjects.insert((case, alerts(credential)));
        if let CredentialKind::Inventory(inventory) = &credential.kind {
            let (kinds, deployment) = listed_kinds(inventory);
            for kind in kinds {
                let own = [("credential", Value::Any), ("kind", Value::Is(kind.label()))];
                let labels = common(platform, credential).chain(own).chain(deployment);
                subjects.insert((classes.case(labels), listed_alerts(inventory)));
            }
        }
    }
    let mut cases = BTreeSet::new();
    for (case, alerts) in subjects {
        for (name, severity) in alerts {
            let own = [("alertname", Value::Is(name)), ("severity", Value::Is(severity.label()))];
            let mut case = case.clone();
            case.append(&mut classes.case(own));
            cases.insert(case);
        }
    }
    cases
}

/// What all alerts about a credential, or about what it lists, have.
fn common<'a>(
    platform: &'a Platform,
    credential: &'a Credential,
) -> impl Iterator<Item = (&'a str, Value<'a>)> {
    let free = credential.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let own =
        [("platform", &*platform.name), ("team", credential.team.as_deref().unwrap_or_default())];
    free.chain(own).map(|(name, value)| (name, Value::Is(value)))
}

/// What is listed, and the label of the place of it.
fn listed_kinds(inventory: &Inventory) -> (Vec<ItemKind>, Option<(&'static str, Value<'static>)>) {
    match &inventory.scope {
        InventoryScope::Keys(_) => (vec![ItemKind::ApiKey], None),
        InventoryScope::Deployments(it) => (it.kinds.clone(), Some(("deployment", Value::Any))),
    }
}

/// The alerts of a credential, with the severities of each.
fn alerts(credential: &Credential) -> Alerts {
    let mut alerts = ACCESS.to_vec();
    if !CredentialKind::WITHOUT_EXPIRY.contains(&credential.kind.label()) {
        alerts.extend(life(&credential.policy));
    }
    alerts
}

fn listed_alerts(inventory: &Inventory) -> Alerts {
    let findings = [
        (CREATED, inventory.created),
        (DELETED, inventory.deleted),
        (LONG_LIVED, inventory.lifetime_max.and(inventory.long_lived)),
    ];
    let findings = findings.into_iter().filter_map(|(name, it)| it.map(|it| (name, it)));
    findings.chain(life(&inventory.policy)).collect()
}

fn life(policy: &Policy) -> Alerts {
    let steps = policy.steps.iter().map(|it| (EXPIRING, it.severity));
    let never = policy.never_expires.map(|it| (NEVER_EXPIRES, it));
    let mut alerts: Alerts = steps.chain(never).chain([(EXPIRED, Severity::Critical)]).collect();
    alerts.sort_unstable();
    alerts.dedup();
    alerts
}

/// The labels that an alert of this configuration can have.
pub(super) fn known_labels(config: &Config) -> BTreeSet<&str> {
    let free = config.credentials().flat_map(|(_, it)| it.labels.keys().map(String::as_str));
    free.chain(OWN_LABELS).collect()
}

/// All values of a label that every alert has and whose values are known; `None` for another label.
pub(super) fn closed<'a>(config: &'a Config, label: &str) -> Option<BTreeSet<&'a str>> {
    match label {
        "alertname" => {
            let names = ACCESS.into_iter().chain(OF_PLATFORM).map(|(name, _)| name);
            let others = [EXPIRING, EXPIRED, NEVER_EXPIRES, CREATED, DELETED, LONG_LIVED];
            Some(names.chain(others).collect())
        }
        "severity" => Some(Severity::ALL.into_iter().map(Severity::label).collect()),
        "platform" => Some(config.platforms.iter().map(|it| &*it.name).collect()),
        _ => None,
    }
}

/// The values that the file gives a label.
pub(super) fn values<'a>(config: &'a Config, label: &str) -> BTreeSet<&'a str> {
    if let Some(values) = closed(config, label) {
        return values;
    }
    let credentials = config.credentials().map(|(_, it)| it);
    match label {
        "credential" => credentials.map(|it| &*it.id.name).collect(),
        "team" => credentials.filter_map(|it| it.team.as_deref()).collect(),
        "kind" => credentials
            .flat_map(|it| {
                let listed = match &it.kind {
                    CredentialKind::Inventory(inventory) => listed_kinds(inventory).0,
                    _ => Vec::new(),
                };
                listed.into_iter().map(ItemKind::label).chain([it.kind.label()])
            })
            .collect(),
        _ => credentials.filter_map(|it| it.labels.get(label).map(String::as_str)).collect(),
    }
}

/// Which values of a label the matchers tell apart.
struct Classes<'a> {
    labels: BTreeMap<&'a str, Class<'a>>,
}

#[derive(Default)]
struct Class<'a> {
    /// The texts with which it is compared.
    texts: BTreeSet<&'a str>,
    /// The expressions with which it is compared, each with one of the matchers that have it.
    expressions: BTreeMap<&'a str, &'a Matcher>,
    /// For each value that was met, the first that no matcher tells apart from it.
    seen: BTreeMap<&'a str, &'a str>,
    firsts: BTreeMap<(Option<&'a str>, Vec<bool>), &'a str>,
}

impl<'a> Classes<'a> {
    fn of(root: &'a Route) -> Self {
        let mut labels: BTreeMap<&str, Class<'_>> = BTreeMap::new();
        for matcher in root.all().into_iter().flat_map(|it| &it.matchers) {
            let class = labels.entry(matcher.label()).or_default();
            match matcher.op() {
                MatchOp::Equal | MatchOp::NotEqual => {
                    class.texts.insert(matcher.value());
                }
                MatchOp::Fits | MatchOp::FitsNot => {
                    class.expressions.entry(matcher.value()).or_insert(matcher);
                }
            }
        }
        Self { labels }
    }

    /// The case of these labels.
    fn case(&mut self, labels: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Case<'a> {
        let mut case = Case::new();
        for (name, value) in labels {
            // A label of which no matcher speaks changes nothing.
            let Some(class) = self.labels.get_mut(name) else { continue };
            match value {
                Value::Is("") => {}
                Value::Is(text) => {
                    case.insert(name, Value::Is(class.first(text)));
                }
                Value::Any => {
                    case.insert(name, Value::Any);
                }
            }
        }
        case
    }
}

impl<'a> Class<'a> {
    fn first(&mut self, value: &'a str) -> &'a str {
        if let Some(first) = self.seen.get(value) {
            return first;
        }
        let text = self.texts.get(value).copied();
        let fits = self.expressions.values().map(|it| it.takes(value)).collect();
        let first = *self.firsts.entry((text, fits)).or_insert(value);
        self.seen.insert(value, first);
        first
    }
}
