//! The labels of a notice's alert, by which it is routed and silenced, and its identity. Pure.

use std::collections::BTreeMap;

use super::Notice;

/// What an alert is about, as far as its labels tell; of a platform none of it is there.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// Its name: label `credential`.
    pub name: &'a str,
    /// What it is: label `kind`.
    pub kind: &'a str,
    /// The deployment that it is in; may be empty.
    pub place: &'a str,
    /// The owning team; may be empty.
    pub team: &'a str,
    /// Its free labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// The labels of something that is watched, before it has an alert; empty values are left out, and a free label cannot
/// replace one of ours.
pub fn labels_of(platform: &str, thing: Option<Labelled<'_>>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut ours = vec![("platform", platform)];
    if let Some(it) = thing {
        labels.extend(it.labels.clone());
        ours.extend([("credential", it.name), ("kind", it.kind), ("team", it.team)]);
        // A free label may say where a credential is used.
        ours.extend(Some(("deployment", it.place)).filter(|(_, place)| !place.is_empty()));
    }
    labels.extend(ours.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    labels.retain(|_, value| !value.is_empty());
    labels
}

/// The labels of the notice's alert, as Alertmanager would see them.
pub fn labels(notice: &Notice) -> BTreeMap<String, String> {
    let thing = notice.credential.as_ref().map(|it| Labelled {
        name: &it.name,
        kind: &it.kind,
        place: it.place.as_deref().unwrap_or_default(),
        team: it.team.as_deref().unwrap_or_default(),
        labels: &it.labels,
    });
    let mut labels = labels_of(&notice.platform, thing);
    labels.insert("alertname".to_owned(), notice.alert.clone());
    labels.insert("severity".to_owned(), notice.severity.clone());
    labels.retain(|_, value| !value.is_empty());
    labels
}

/// Alertmanager's fingerprint of a label set: FNV-1a (64 bits) over name, 0xFF, value, 0xFF in the order of the names,
/// as 16 hexadecimal digits.
pub fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let mut hash = Fnv::default();
    for (name, value) in labels {
        hash.write(name.as_bytes());
        hash.write(&[0xFF]);
        hash.write(value.as_bytes());
        hash.write(&[0xFF]);
    }
    hash.hex()
}

/// The hash of some texts that together name one thing, as 16 hexadecimal digits; for ids that must stay the same.
pub fn hash(parts: &[&str]) -> String {
    let mut hash = Fnv::default();
    for part in parts {
        hash.write(part.as_bytes());
        hash.write(&[0xFF]);
    }
    hash.hex()
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_one_of_alertmanager() {
        let labels = BTreeMap::from([("platform".to_owned(), "x".to_owned())]);
        assert_eq!(fingerprint(&labels), "9d87c5f8a4c241e6");
    }
}
