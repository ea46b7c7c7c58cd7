//! The lists of a platform, of its keys and of the contents of its deployments, each as a credential of a kind of its own.

use std::sync::Arc;
use std::time::Duration;

use super::super::keys::{DEPLOYMENTS, INVENTORY, Table};
use super::super::reader::{Fields, Reader};
use super::super::{
    Credential, CredentialKind, Deployments, Filter, Flavor, Inventory, InventoryScope, ItemKind,
    KeyScope, Pattern, Policy, Repeat, Severity, Step,
};
use super::watched::borrowed_key;
use super::{Around, Inherited, watched};
use crate::schedule::Schedule;

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// That of the keys of ECE.
    Keys,
    /// That of what expires inside the deployments.
    Deployments,
}

impl Which {
    /// The key of a platform under which it stands, which is its name and the label of its kind too.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Keys => CredentialKind::INVENTORY,
            Self::Deployments => CredentialKind::DEPLOYMENTS,
        }
    }

    fn table(self) -> &'static Table {
        match self {
            Self::Keys => &INVENTORY,
            Self::Deployments => &DEPLOYMENTS,
        }
    }
}

/// The steps of what expires inside the deployments: ECE renews their licenses and certificates itself, and late.
fn deployment_steps() -> Vec<Step> {
    let step = |days: u64, severity| Step { before: Duration::from_secs(days * 86_400), severity };
    vec![step(14, Severity::Warning), step(3, Severity::Critical)]
}

/// Reads a list of a platform.
pub(super) fn inventory(
    reader: &mut Reader,
    platform: &Fields<'_>,
    which: Which,
    known: Around<'_>,
    credentials: &[Arc<Credential>],
) -> Option<Credential> {
    let fields = reader.one(platform, which.key())?;
    let inventory = read(reader, &fields, which, credentials, &known.inherited.policy);
    if known.flavor == Flavor::Ech {
        let wants_all =
            inventory.as_ref().is_some_and(|it| it.scope == InventoryScope::Keys(KeyScope::All));
        not_there(reader, platform, &fields, (which, wants_all));
    }
    // A list is long and changes slowly: it has a schedule of its own, not that of the probes above.
    let schedule_text = which.table().default_of("schedule").to_owned();
    let schedule = Schedule::parse(&schedule_text, &known.inherited.zone).ok();
    let mut inherited = Inherited { schedule_text, schedule, ..known.inherited.clone() };
    if which == Which::Deployments {
        let policy = Policy::clone(&inherited.policy);
        let escalations = Vec::new();
        inherited.policy = Arc::new(Policy { steps: deployment_steps(), escalations, ..policy });
    }
    let known = Around { inherited: &inherited, ..known };
    let never_expires = if fields.has("never_expires") || which == Which::Deployments {
        reader.choice(&fields, "never_expires").and_then(Severity::parse)
    } else {
        known.inherited.policy.never_expires
    };
    let name = Some(Arc::from(which.key()));
    let kind = inventory.map(|it| CredentialKind::Inventory(Arc::new(it)));
    let mut credential = watched(reader, &fields, known, name, kind)?;
    if let CredentialKind::Inventory(inventory) = &mut credential.kind {
        // The steps are the reminders: a key of which nobody takes care would be told for ever.
        let (repeat, reminders) = (Repeat::default(), Vec::new());
        let policy =
            Policy { never_expires, repeat, reminders, ..Policy::clone(&credential.policy) };
        *inventory =
            Arc::new(Inventory { policy: Arc::new(policy), ..Inventory::clone(inventory) });
    }
    Some(credential)
}

/// Notes what Elastic Cloud Hosted does not have.
fn not_there(
    reader: &mut Reader,
    platform: &Fields<'_>,
    fields: &Fields<'_>,
    (which, wants_all): (Which, bool),
) {
    let (item, message, hint) = match which {
        Which::Keys if wants_all => (
            fields.get("scope"),
            "does not exist with `flavor: ech`: the list of an owner of the organization holds all keys",
            "use `scope: own`",
        ),
        Which::Keys => return,
        Which::Deployments => (
            platform.get(which.key()),
            "does not exist with `flavor: ech`: Elastic Cloud Hosted passes no requests on to deployments",
            "remove `deployments`",
        ),
    };
    if let Some(item) = item {
        reader.problem(&item, message.to_owned(), hint);
    }
}

fn read(
    reader: &mut Reader,
    fields: &Fields<'_>,
    which: Which,
    credentials: &[Arc<Credential>],
    policy: &Arc<Policy>,
) -> Option<Inventory> {
    let key = borrowed_key(reader, fields, credentials);
    let scope = match which {
        Which::Deployments => InventoryScope::Deployments(deployments(reader, fields)),
        Which::Keys => InventoryScope::Keys(match reader.choice(fields, "scope") {
            Some("all") => KeyScope::All,
            _ => KeyScope::Own,
        }),
    };
    let filter = Filter {
        users: patterns(reader, fields, "users"),
        exclude_users: patterns(reader, fields, "exclude_users"),
        exclude_descriptions: patterns(reader, fields, "exclude_descriptions"),
    };
    let lifetime_max = fields.has("lifetime_max").then(|| reader.duration(fields, "lifetime_max"));
    if lifetime_max.is_none()
        && let Some(item) = fields.get("long_lived")
    {
        let message = "says how bad a long life is, but not how long".to_owned();
        reader.problem(&item, message, "add `lifetime_max`, for example `lifetime_max: 180d`");
    }
    let timeout: Option<Duration> = reader.duration(fields, "timeout");
    let keys_max = reader.number(fields, "keys_max");
    let mut severity = |key| reader.choice(fields, key).and_then(Severity::parse);
    let (created, deleted) = (severity("created"), severity("deleted"));
    let long_lived = severity("long_lived");
    Some(Inventory {
        key: key?,
        scope,
        filter,
        keys_max: usize::try_from(keys_max?).ok()?,
        timeout: timeout?,
        policy: Arc::clone(policy),
        lifetime_max: lifetime_max.flatten(),
        created,
        deleted,
        long_lived,
    })
}

/// What is wanted of the deployments.
fn deployments(reader: &mut Reader, fields: &Fields<'_>) -> Deployments {
    let flags = [
        ("elasticsearch_api_keys", ItemKind::ElasticsearchApiKey),
        ("certificates", ItemKind::ElasticsearchCertificate),
        ("license", ItemKind::ElasticsearchLicense),
    ];
    let mut kinds = Vec::new();
    for (key, kind) in flags {
        if reader.flag(fields, key) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() {
        let message = "names nothing to read of the deployments".to_owned();
        let hint = "set `elasticsearch_api_keys: true`, `certificates: true` or `license: true`";
        reader.problems.add(fields.place, &fields.path, message, hint);
    }
    Deployments {
        kinds,
        include: patterns(reader, fields, "include"),
        exclude: patterns(reader, fields, "exclude"),
    }
}

fn patterns(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Vec<Pattern> {
    let texts = reader.texts(fields, key);
    texts.into_iter().map(|(_, text)| Pattern(Arc::from(text))).collect()
}
