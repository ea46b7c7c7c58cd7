//! What the routing tree can reach: mistakes that leave a route, a matcher or a receiver without any alert. Pure.
//!
//! The tree is walked with every alert that this configuration can give. Alerts that no matcher tells apart are walked
//! once, so ten thousand credentials cost little more than the few groups they form.

mod cases;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::cases::{Case, Value, cases, closed, known_labels, values};
use super::problems::{Problems, nearest, show};
use super::{Config, GroupBy, MatchOp, Matcher, Route};

/// The most names that a warning lists.
const LISTED_MAX: usize = 12;

/// Warns of routes that nothing reaches, and of receivers that hear of nothing.
pub(super) fn warn_of_silence(problems: &mut Problems, config: &Config) {
    if config.receivers.is_empty() {
        let warning = "receivers: there is none, so alerts are shown but nobody is told";
        problems.warn(warning.to_owned());
        return;
    }
    let mut told = apart_from_routes(config);
    if let Some(root) = &config.route {
        told.extend(routes(problems, config, root));
    }
    for name in config.receivers.keys().filter(|it| !told.contains(it)) {
        let name = show(name);
        problems.warn(format!("receivers: nothing is sent to {name}; no route leads there"));
    }
}

/// Who is told on another way than by the routes.
fn apart_from_routes(config: &Config) -> BTreeSet<&Arc<str>> {
    let platforms = config.platforms.iter().flat_map(|it| it.receivers.iter());
    let credentials = config.credentials().flat_map(|(_, it)| it.receivers.iter());
    let escalations = config.credentials().flat_map(|(_, it)| &it.policy.escalations);
    let fallbacks = config.receivers.values().filter_map(|it| it.fallback.as_ref());
    let steps = escalations.flat_map(|(_, receivers)| receivers);
    let digest = config.digest.iter().map(|it| &it.receiver);
    platforms.chain(credentials).chain(steps).chain(fallbacks).chain(digest).collect()
}

/// Warns of what is wrong with the tree; the answer is whom it tells of something.
fn routes<'a>(
    problems: &mut Problems,
    config: &'a Config,
    root: &'a Route,
) -> BTreeSet<&'a Arc<str>> {
    let cases = cases(config, root);
    let mut walked = Walked::of("route".into(), root);
    for case in &cases {
        walked.walk(case);
    }
    if cases.is_empty() && !root.routes.is_empty() {
        let warning = "route: no alert goes by the routes, because every platform and every credential names `receivers`";
        problems.warn(warning.to_owned());
    } else {
        let known = known_labels(config);
        Findings { problems, config, cases: &cases, known: &known }.report(&walked, None);
    }
    walked.told()
}

/// A route with what the walks have shown so far.
struct Walked<'a> {
    /// Its key, like `route.routes[1]`.
    at: Arc<str>,
    route: &'a Route,
    routes: Vec<Walked<'a>>,
    /// An alert came here.
    is_entered: bool,
    /// An alert came here and went no further.
    is_end: bool,
    /// The keys of the siblings that took alerts which would have come here.
    taken_by: BTreeSet<Arc<str>>,
}

/// Whether an alert comes to a route. Some labels are not known before something is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Comes {
    Never,
    Maybe,
    Always,
}

impl<'a> Walked<'a> {
    fn of(at: Arc<str>, route: &'a Route) -> Self {
        let below = |(index, it)| Self::of(format!("{at}.routes[{index}]").into(), it);
        let routes = route.routes.iter().enumerate().map(below).collect();
        Self { at, route, routes, is_entered: false, is_end: false, taken_by: BTreeSet::new() }
    }

    /// Notes where alerts like `case` come to.
    fn walk(&mut self, case: &Case<'a>) -> Comes {
        let (comes, case) = fit(self.route, case);
        if comes == Comes::Never {
            return comes;
        }
        self.is_entered = true;
        let mut below = Comes::Never;
        let mut children = self.routes.iter_mut();
        for child in children.by_ref() {
            let taken = child.walk(&case);
            below = below.max(taken);
            if taken == Comes::Always && !child.route.goes_on {
                let by = Arc::clone(&child.at);
                for later in children.filter(|it| !it.is_entered) {
                    if fit(later.route, &case).0 != Comes::Never {
                        later.taken_by.insert(Arc::clone(&by));
                    }
                }
                break;
            }
        }
        self.is_end |= below != Comes::Always;
        comes
    }

    /// The receivers of the routes where something ends.
    fn told(&self) -> BTreeSet<&'a Arc<str>> {
        let own = self.is_end.then_some(&self.route.receiver);
        self.routes.iter().flat_map(Self::told).chain(own).collect()
    }
}

/// Whether alerts like `case` fit a route itself, and what is known of those that do.
fn fit<'a>(route: &'a Route, case: &Case<'a>) -> (Comes, Case<'a>) {
    let mut comes = Comes::Always;
    let mut case = case.clone();
    // What is equal to a text is known from here on.
    for matcher in route.matchers.iter().filter(|it| it.op() == MatchOp::Equal) {
        if case.get(matcher.label()) == Some(&Value::Any) {
            case.insert(matcher.label(), Value::Is(matcher.value()));
            comes = Comes::Maybe;
        }
    }
    for matcher in &route.matchers {
        comes = comes.min(of_matcher(matcher, &case));
    }
    (comes, case)
}

/// Whether alerts like `case` fit one matcher.
fn of_matcher(matcher: &Matcher, case: &Case<'_>) -> Comes {
    match case.get(matcher.label()) {
        Some(Value::Any) => Comes::Maybe,
        Some(Value::Is(text)) if matcher.takes(text) => Comes::Always,
        None if matcher.takes("") => Comes::Always,
        Some(Value::Is(_)) | None => Comes::Never,
    }
}

/// What is reported, and what it is found with.
struct Findings<'a> {
    problems: &'a mut Problems,
    config: &'a Config,
    cases: &'a BTreeSet<Case<'a>>,
    known: &'a BTreeSet<&'a str>,
}

impl Findings<'_> {
    /// Warns of labels and values that no alert has, and of routes to which no alert comes, but not of those below them.
    fn report(&mut self, it: &Walked<'_>, above: Option<&Route>) {
        let Walked { at, route, .. } = it;
        // What is inherited was looked at above.
        if let GroupBy::Labels(names) = &route.group_by
            && above.is_none_or(|above| above.group_by != route.group_by)
        {
            for name in names.iter().filter(|name| !self.known.contains(&***name)) {
                let wrong = self.unknown_label(name);
                self.problems.warn(format!("{at}.group_by: {wrong}"));
            }
        }
        let mut explained = false;
        for (index, matcher) in route.matchers.iter().enumerate() {
            let mut wrong = self.impossible(matcher);
            if wrong.is_none() && !it.is_entered && it.taken_by.is_empty() {
                wrong = self.absent(matcher);
            }
            if let Some(wrong) = wrong {
                explained = true;
                self.problems.warn(format!("{at}.matchers[{index}]: {wrong}"));
            }
        }
        if it.is_entered {
            it.routes.iter().for_each(|child| self.report(child, Some(route)));
        } else if !it.taken_by.is_empty() {
            let by: Vec<&str> = it.taken_by.iter().map(AsRef::as_ref).collect();
            self.problems.warn(format!(
                "{at}: no alert comes here; all that would are taken before, by {}: add `continue: true` there, or \
                 put this route first",
                by.join(", ")
            ));
        } else if !explained {
            self.problems.warn(format!(
                "{at}: no alert comes here; none of this configuration fits all of its matchers and those of the \
                 routes above"
            ));
        }
    }

    /// What is wrong with a matcher that can never mean anything.
    fn impossible(&self, matcher: &Matcher) -> Option<String> {
        let label = matcher.label();
        if !self.known.contains(label) {
            return Some(self.unknown_label(label));
        }
        let values = closed(self.config, label)?;
        if values.iter().any(|it| matcher.takes(it)) {
            return None;
        }
        let (matcher, hint) = (show(&matcher.to_string()), hint(matcher, &values));
        Some(format!("no alert has {matcher}; {hint}"))
    }

    /// What is wrong with a matcher that no alert of this configuration fits.
    fn absent(&self, matcher: &Matcher) -> Option<String> {
        if self.cases.iter().any(|case| of_matcher(matcher, case) != Comes::Never) {
            return None;
        }
        let values = values(self.config, matcher.label());
        let hint = match (values.iter().any(|it| matcher.takes(it)), matcher.label()) {
            (true, "alertname" | "severity") => "nothing that is watched can raise it".to_owned(),
            (true, _) => {
                "what has it names `receivers`, which take the place of the routes".to_owned()
            }
            (false, _) => hint(matcher, &values),
        };
        let matcher = show(&matcher.to_string());
        Some(format!("no alert that goes by the routes has {matcher}; {hint}"))
    }

    fn unknown_label(&self, name: &str) -> String {
        let hint = match nearest(name, self.known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => listed(self.known),
        };
        format!("no alert has a label {}; {hint}", show(name))
    }
}

/// What could have been meant by a matcher that fits none of these values.
fn hint(matcher: &Matcher, values: &BTreeSet<&str>) -> String {
    // In an alternation it is not clear which word is wrong.
    let near = match matcher.op() {
        MatchOp::Equal => nearest(matcher.value(), values.iter().copied()),
        MatchOp::NotEqual | MatchOp::Fits | MatchOp::FitsNot => None,
    };
    near.map_or_else(|| listed(values), |near| format!("did you mean {}?", show(near)))
}

fn listed(names: &BTreeSet<&str>) -> String {
    if names.is_empty() {
        return "nothing in this file gives it a value".to_owned();
    }
    let first: Vec<&str> = names.iter().copied().take(LISTED_MAX).collect();
    let more = if LISTED_MAX < names.len() { " and others" } else { "" };
    format!("there are {}{more}", first.join(", "))
}
