//! What a digest says, as it is kept until it is told. Pure.

use serde::{Deserialize, Serialize};

use super::Notice;

/// The sum of everything that is watched at one time; kept as JSON in the store, so fields are only ever added.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Digest {
    /// The names of the platforms.
    pub platforms: Vec<String>,
    /// How many things are watched: credentials and what platforms list.
    pub watched: usize,
    /// How many of them platforms list.
    pub listed: usize,
    /// What fires, the most urgent first; each as a notice of the alert.
    pub attention: Vec<Notice>,
    /// How many more fire.
    pub omitted: usize,
    /// What is well and expires next, the soonest first.
    pub upcoming: Vec<Notice>,
}
