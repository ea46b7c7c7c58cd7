//! What kind of platform is watched, and what does not exist on it.

use super::problems::show;
use super::reader::{Fields, Reader};

/// What kind of platform is watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flavor {
    /// Elastic Cloud Enterprise: an installation of one's own.
    #[default]
    Ece,
    /// Elastic Cloud Hosted: Elastic's service, which authenticates API keys only.
    Ech,
}

/// Whether something can be watched on a flavor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Possible,
    Refused,
}

impl Flavor {
    /// Where the API of Elastic Cloud Hosted is.
    pub const ECH_URL: &'static str = "https://api.elastic-cloud.com";

    /// The labels of all, in the order of the documentation.
    pub(super) const LABELS: &'static [&'static str] = &["ece", "ech"];

    /// The value in the configuration: `ece`, `ech`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ece => "ece",
            Self::Ech => "ech",
        }
    }
}

/// The flavor of a platform.
pub(super) fn flavor(reader: &mut Reader, platform: &Fields<'_>) -> Flavor {
    match reader.choice(platform, "flavor") {
        Some("ech") => Flavor::Ech,
        _ => Flavor::Ece,
    }
}

/// The URLs of a platform, of which `given` are usable: an installation has an address of its own, the service has
/// the same for everybody.
pub(super) fn urls(
    reader: &mut Reader,
    platform: &Fields<'_>,
    flavor: Flavor,
    given: Vec<String>,
) -> Vec<String> {
    match flavor {
        Flavor::Ece if !platform.has("urls") => reader.missing(platform, "urls"),
        Flavor::Ech if !platform.has("urls") => return vec![Flavor::ECH_URL.to_owned()],
        Flavor::Ece if given.iter().any(|it| it == Flavor::ECH_URL) => {
            let path = &platform.path;
            reader.problems.warn(format!(
                "{path}.urls: {} is Elastic Cloud Hosted, which has no `GET /api/v1/user`; set `flavor: ech`",
                show(Flavor::ECH_URL)
            ));
        }
        Flavor::Ece | Flavor::Ech => {}
    }
    given
}

/// Notes each of `keys` that was written although the flavor does not have it; says whether there was one.
pub(super) fn refuse(
    reader: &mut Reader,
    fields: &Fields<'_>,
    flavor: Flavor,
    keys: &[&str],
) -> Verdict {
    let written: Vec<_> = match flavor {
        Flavor::Ece => Vec::new(),
        Flavor::Ech => keys.iter().filter_map(|key| Some((*key, fields.get(key)?))).collect(),
    };
    for (key, item) in &written {
        let (why, hint) = match *key {
            "license" => {
                ("the license of Elastic Cloud Hosted is Elastic's own", "remove `license`")
            }
            "services" | "credential" => (
                "Elastic Cloud Hosted does not tell the chains of its services",
                "remove `services` and `credential`; `endpoint: true` watches the chain that its API presents",
            ),
            _ => (
                "Elastic Cloud Hosted takes API keys only",
                "use `api_key_file` or `api_key_env` with a key of Elastic Cloud; those begin with `essu_`",
            ),
        };
        reader.problem(item, format!("does not exist with `flavor: ech`: {why}"), hint);
    }
    if written.is_empty() { Verdict::Possible } else { Verdict::Refused }
}
