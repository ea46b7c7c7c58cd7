//! The routing tree, with the words and the meaning of Alertmanager: labels in, receivers and groups out. Pure.
//!
//! A route without a matching child is where an alert ends. What of the tree can never be reached is found in `reach`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::keys::ROUTE;
use super::matchers::{Matcher, quoted};
use crate::schedule::parse_duration;

/// One node of the routing tree, with what it inherits filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Who is told of what ends here.
    pub receiver: Arc<str>,
    /// All of them must match; none matches everything, as the root has it.
    pub matchers: Vec<Matcher>,
    /// Siblings behind this route are asked too although it matches (`continue`).
    pub goes_on: bool,
    /// Which labels alerts must share to be told in one message.
    pub group_by: GroupBy,
    /// How long the first alerts of a group wait for others.
    pub group_wait: Duration,
    /// How long alerts that come to a group of which was told already wait for others.
    pub group_interval: Duration,
    /// The windows in which nothing that ends here is sent, names of `Config::mutes`; not inherited.
    pub mutes: Vec<Arc<str>>,
    /// The children, in the order in which they are asked.
    pub routes: Vec<Route>,
    /// Its name in group keys, as Alertmanager writes it: `{}/{team="platform"}`. A sibling with the same matchers has
    /// its position behind it, so no two routes share a name.
    pub path: String,
}

/// Which labels alerts must share to be told in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// These; none puts everything of the route into one group.
    Labels(Vec<Arc<str>>),
    /// All (`...`): alerts with different labels are never told in one message.
    All,
}

/// Where an alert goes: a receiver, and the route that led there.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// Who is told.
    pub receiver: &'a Arc<str>,
    /// The route where the alert ended, whose grouping and mutes hold.
    pub route: &'a Route,
}

/// The grouping without any `route`; its receiver is empty and told of nothing.
static WITHOUT_TREE: LazyLock<Route> = LazyLock::new(|| {
    let default = |key| {
        parse_duration(ROUTE.default_of(key)).expect("the defaults in the table are durations")
    };
    Route {
        receiver: Arc::from(""),
        matchers: Vec::new(),
        goes_on: false,
        group_by: GroupBy::Labels(Vec::new()),
        group_wait: default("group_wait"),
        group_interval: default("group_interval"),
        mutes: Vec::new(),
        routes: Vec::new(),
        path: braces([]),
    }
});

/// Where an alert with these labels goes: the ends of the tree in Alertmanager's order, no receiver twice. `shortcut`
/// takes the place of the tree if it is not empty; what goes that way is grouped and muted as at the root.
pub(super) fn ways<'a>(
    root: Option<&'a Route>,
    labels: &BTreeMap<String, String>,
    shortcut: impl IntoIterator<Item = &'a Arc<str>>,
) -> Vec<Way<'a>> {
    let mut told = BTreeSet::new();
    let route = root.unwrap_or(&WITHOUT_TREE);
    let shortcut = shortcut.into_iter().map(|receiver| Way { receiver, route });
    let mut ways: Vec<Way<'a>> = shortcut.collect();
    if let (true, Some(root)) = (ways.is_empty(), root) {
        let ends = root.ends(labels).into_iter();
        ways.extend(ends.map(|route| Way { receiver: &route.receiver, route }));
    }
    ways.retain(|way| told.insert(way.receiver));
    ways
}

impl Route {
    /// Whether the labels fit this route itself.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matchers.iter().all(|it| it.matches(labels))
    }

    /// The routes of this one and below where an alert with these labels ends, depth first; none if they do not fit.
    fn ends(&self, labels: &BTreeMap<String, String>) -> Vec<&Self> {
        if !self.matches(labels) {
            return Vec::new();
        }
        let mut ends = Vec::new();
        for child in &self.routes {
            let below = child.ends(labels);
            let is_taken = !below.is_empty();
            ends.extend(below);
            if is_taken && !child.goes_on {
                break;
            }
        }
        if ends.is_empty() { vec![self] } else { ends }
    }

    /// This route and all below it, depth first.
    pub fn all(&self) -> Vec<&Self> {
        let below = self.routes.iter().flat_map(Self::all);
        std::iter::once(self).chain(below).collect()
    }

    /// The name of a child with these matchers behind the siblings before it.
    pub(super) fn path_of_child(path: &str, matchers: &[Matcher], before: &[Self]) -> String {
        let mut sorted: Vec<&Matcher> = matchers.iter().collect();
        sorted.sort_by(|a, b| a.order().cmp(&b.order()));
        let path = format!("{path}/{}", braces(sorted));
        if before.iter().any(|it| it.path == path) {
            format!("{path}/{}", before.len())
        } else {
            path
        }
    }

    /// The name of the root.
    pub(super) fn path_of_root() -> String {
        braces([])
    }
}

impl Way<'_> {
    /// The group of an alert with these labels, as Alertmanager writes its key:
    /// `{}/{team="platform"}:{alertname="ECECredentialExpiring"}`. Unique for the route and the values of its labels.
    pub fn group(&self, labels: &BTreeMap<String, String>) -> String {
        let wanted = |name: &str| match &self.route.group_by {
            GroupBy::All => true,
            GroupBy::Labels(names) => names.iter().any(|it| **it == *name),
        };
        let shared: Vec<String> = labels
            .iter()
            .filter(|(name, value)| wanted(name) && !value.is_empty())
            .map(|(name, value)| format!("{name}={}", quoted(value)))
            .collect();
        format!("{}:{{{}}}", self.route.path, shared.join(", "))
    }
}

fn braces<'a>(matchers: impl IntoIterator<Item = &'a Matcher>) -> String {
    let texts: Vec<String> = matchers.into_iter().map(ToString::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A child of `above` without children.
    fn child(above: &mut Route, matchers: &[&str], receiver: &str) -> usize {
        let matchers: Vec<_> = matchers.iter().map(|it| Matcher::parse(it).unwrap()).collect();
        let path = Route::path_of_child(&above.path, &matchers, &above.routes);
        above.routes.push(Route {
            receiver: receiver.into(),
            matchers,
            path,
            ..WITHOUT_TREE.clone()
        });
        above.routes.len() - 1
    }

    fn receivers(root: &Route, pairs: &[(&str, &str)]) -> String {
        let labels = labels(pairs);
        let ways = ways(Some(root), &labels, &[]);
        ways.iter().map(|it| it.receiver.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_first_child_that_matches_takes_an_alert_unless_it_goes_on() {
        let mut root = Route { receiver: "root".into(), ..WITHOUT_TREE.clone() };
        let all = child(&mut root, &["severity=~\"warning|critical\""], "log");
        root.routes[all].goes_on = true;
        let team = child(&mut root, &["team=a"], "a");
        child(&mut root.routes[team], &["severity=critical"], "boss");
        child(&mut root, &["team=~\".+\""], "others");
        child(&mut root, &["severity=critical"], "log");
        assert_eq!(receivers(&root, &[]), "root");
        assert_eq!(receivers(&root, &[("severity", "warning")]), "log");
        assert_eq!(receivers(&root, &[("severity", "critical")]), "log");
        assert_eq!(receivers(&root, &[("team", "a")]), "a");
        assert_eq!(receivers(&root, &[("team", "a"), ("severity", "critical")]), "log boss");
        assert_eq!(receivers(&root, &[("team", "b"), ("severity", "info")]), "others");
    }

    #[test]
    fn a_shortcut_takes_the_place_of_the_tree_and_is_grouped_as_at_the_root() {
        let mut root = Route { receiver: "root".into(), ..WITHOUT_TREE.clone() };
        child(&mut root, &["team=a"], "a");
        root.group_by = GroupBy::Labels(vec!["team".into()]);
        let shortcut: [Arc<str>; 2] = ["x".into(), "y".into()];
        let labels = labels(&[("team", "a"), ("severity", "info")]);
        let there = ways(Some(&root), &labels, &shortcut);
        let groups: Vec<_> = there.iter().map(|it| (&**it.receiver, it.group(&labels))).collect();
        let group = "{}:{team=\"a\"}".to_owned();
        assert_eq!(groups, [("x", group.clone()), ("y", group)]);
        let alone = ways(None, &labels, &shortcut);
        assert_eq!(alone[1].group(&labels), "{}:{}");
        assert_eq!(alone[1].route.group_interval, Duration::from_secs(300));
        assert!(ways(None, &labels, &[]).is_empty());
    }

    #[test]
    fn a_group_key_is_that_of_alertmanager() {
        let mut root = Route { receiver: "root".into(), ..WITHOUT_TREE.clone() };
        let first = child(&mut root, &["team=a", "alertname=~\"X.*\"", "team!=\"b\\\"c\""], "a");
        let again = child(&mut root, &["team=a", "alertname=~\"X.*\"", "team!=\"b\\\"c\""], "b");
        root.routes[first].group_by = GroupBy::All;
        root.routes[again].group_by = GroupBy::Labels(vec!["team".into(), "user".into()]);
        let labels = labels(&[("team", "a"), ("alertname", "Xy"), ("note", "")]);
        let key = |route| Way { receiver: &root.receiver, route }.group(&labels);
        let path = r#"{}/{alertname=~"X.*",team="a",team!="b\"c"}"#;
        assert_eq!(key(&root), "{}:{}");
        assert_eq!(key(&root.routes[first]), format!(r#"{path}:{{alertname="Xy", team="a"}}"#));
        assert_eq!(key(&root.routes[again]), format!(r#"{path}/1:{{team="a"}}"#));
    }
}
