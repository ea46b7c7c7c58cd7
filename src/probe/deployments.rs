//! Asks for the deployments, and then each of them, through ECE, for what expires inside.
//!
//! Only GET, one request at a time: ECE says that this way is not made for performance. What goes wrong in one
//! deployment is noted, and the next one is asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use tokio::time::timeout;

use super::inventory::no_list;
use super::page::{Arriving, Page};
use super::platform::{Borrowed, Wanted};
use super::{Coordinator, DEADLINE_GRACE, Prober, Sight, clip, failure, passed};
use crate::config::{Deployments, Inventory, ItemKind};
use crate::observation::answer::Meaning;
use crate::observation::deployments::{
    DEPLOYMENTS_MAX, Deployment, DeploymentList, DeploymentLister, Gatherer, KeyLister, Taken,
};
use crate::observation::{Failure, FailureReason, Reading};

/// What the answer of ECE should be.
const LIST: &str = "a list of deployments";
/// The most that is read of the list of deployments: ten thousand of them, each with a dozen resources.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most that is read of the keys of one deployment: a hundred thousand keys with metadata.
const KEYS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The longest that the list of deployments may take, and that one request to a deployment may take.
const REQUEST_MAX: Duration = Duration::from_secs(15);
/// Without this header ECE does not pass a request on.
const MANAGEMENT: HeaderName = HeaderName::from_static("x-management-request");

/// In which order deployments are asked next time.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Turn>);

#[derive(Debug, Default)]
struct Turn {
    /// Those for which no time was left: they are asked first.
    unreached: BTreeSet<Box<str>>,
    /// Those that did not answer in time when they were asked last: they are asked last, so that they take the time of
    /// nobody else.
    silent: BTreeSet<Box<str>>,
}

/// One request: what of which deployment.
type Call<'a> = (&'a Deployment, ItemKind);

/// How far the walk through the deployments has come.
struct Walk<'a> {
    gatherer: Gatherer<'a>,
    /// How many calls are done.
    done: usize,
    /// How many of them were answered with what was asked for.
    answered: usize,
    /// The first failure, a refusal before anything else: what is said if nothing was answered.
    first: Option<Failure>,
    /// The deployment that said that it has too much to do: another one that does means the platform.
    busy: Option<Box<str>>,
    silent: BTreeSet<Box<str>>,
    /// How long the platform asks to be left alone.
    rest: Option<Duration>,
    /// Why no further deployment is asked.
    halted: Option<String>,
}

impl Walk<'_> {
    /// Notes a call that was not answered with what was asked for.
    fn failed(&mut self, deployment: &Deployment, kind: ItemKind, failure: Failure) {
        let Failure { reason, message, .. } = &failure;
        self.gatherer.not_read(deployment, kind, message.clone());
        match reason {
            FailureReason::Timeout => drop(self.silent.insert(deployment.id.clone())),
            // Elasticsearch says so when it has too much to do, and so does a gateway before all of them.
            FailureReason::RateLimited => {
                self.silent.insert(deployment.id.clone());
                match &self.busy {
                    Some(other) if *other != deployment.id => {
                        let why = "there were too many requests; it is asked at the next run of the schedule";
                        self.halted = Some(why.to_owned());
                    }
                    _ => self.busy = Some(deployment.id.clone()),
                }
            }
            // It is ECE itself that does not answer.
            FailureReason::Dns | FailureReason::Connect | FailureReason::Tls => {
                self.halted = Some(message.clone());
            }
            _ => {}
        }
        let is_refusal = |it: &Failure| it.reason == FailureReason::Forbidden;
        if self.first.as_ref().is_none_or(|it| is_refusal(&failure) && !is_refusal(it)) {
            self.first = Some(failure);
        }
    }
}

impl Turns {
    fn in_turn<'a>(&self, deployments: &'a [Deployment]) -> Vec<&'a Deployment> {
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<&Deployment> = deployments.iter().collect();
        let is_in = |them: &BTreeSet<Box<str>>, it: &Deployment| them.contains(&it.id);
        order.sort_by_key(|it| (is_in(&turn.silent, it), !is_in(&turn.unreached, it)));
        order
    }

    fn note(&self, unreached: BTreeSet<Box<str>>, mut silent: BTreeSet<Box<str>>) {
        let mut turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.extend(turn.silent.intersection(&unreached).cloned());
        *turn = Turn { unreached, silent };
    }
}

impl Prober {
    /// Asks one coordinator for the deployments, and over it each deployment.
    pub(super) async fn ask_for_deployments(
        &self,
        coordinator: &Coordinator,
        (inventory, wanted): (&Inventory, &Deployments),
        borrowed: Borrowed<'_>,
        started: DateTime<Utc>,
        now: fn() -> DateTime<Utc>,
    ) -> Sight {
        // So that a coordinator that is silent, or a deployment, leaves time for the others.
        let bound = REQUEST_MAX.min(inventory.timeout / 4);
        let list = timeout(bound, self.list_deployments(coordinator, wanted, borrowed, now)).await;
        let silent = || Sight::failed(coordinator.transport.no_answer_within(bound));
        let (page, list) = match list.unwrap_or_else(|_| Err(Box::new(silent()))) {
            Ok(it) => it,
            Err(sight) => return *sight,
        };
        let of_each = |it| wanted.kinds.iter().map(move |kind| (it, *kind));
        let calls: Vec<Call<'_>> =
            self.turns.in_turn(&list.read).into_iter().flat_map(of_each).collect();
        let mut walk = Walk {
            gatherer: Gatherer::new(inventory, now()),
            done: 0,
            answered: 0,
            first: None,
            busy: None,
            silent: BTreeSet::new(),
            rest: None,
            halted: None,
        };
        let left = inventory.timeout.saturating_sub(passed(started, now()) + DEADLINE_GRACE);
        let left = left.min(inventory.timeout / 4 * 3);
        // What was read until then counts.
        let _ =
            timeout(left, self.walk(coordinator, &calls, bound, borrowed, now, &mut walk)).await;
        // What one deployment asks for is no rest for the platform.
        let rest = page.rest.max(walk.rest.filter(|_| walk.halted.is_some()));
        let (first, answered, asked) = (walk.first.take(), walk.answered, walk.done);
        let gatherer = self.gathered(walk, &calls, &list, wanted);
        // Where nothing can be read, nobody is told of anything.
        if let Some(first) = first.filter(|_| answered == 0) {
            let mut why = match first.reason {
                FailureReason::Forbidden => {
                    let right = wanted_of_all();
                    self.explained(coordinator, first, &right, borrowed, now).await
                }
                _ => first,
            };
            let all = calls.len();
            let before = format!(
                "Nothing inside the deployments could be read ({asked} of {all} requests made): "
            );
            why.message = clip(before + &why.message);
            return Sight { rest, ..Sight::of(&page, Err(why)) };
        }
        let listing = gatherer.end(&list);
        let sight = Sight::of(&page, Ok(Reading::Undated));
        Sight { listing: Some(Arc::new(listing)), rest, ..sight }
    }

    /// Notes what was not reached.
    fn gathered<'a>(
        &self,
        walk: Walk<'a>,
        calls: &[Call<'_>],
        list: &DeploymentList,
        wanted: &Deployments,
    ) -> Gatherer<'a> {
        let Walk { mut gatherer, done, silent, halted, .. } = walk;
        let why = halted.unwrap_or_else(|| {
            "there was no time left for it; raise `deployments.timeout`, or narrow `deployments.include`"
                .to_owned()
        });
        for (deployment, kind) in &calls[done..] {
            gatherer.not_read(deployment, *kind, why.clone());
        }
        for deployment in &list.odd {
            for kind in &wanted.kinds {
                let why = "ECE's list of deployments does not say how to reach its Elasticsearch";
                gatherer.not_read(deployment, *kind, why.to_owned());
            }
        }
        for deployment in &list.left_out {
            for kind in &wanted.kinds {
                let why = format!(
                    "there are more than {DEPLOYMENTS_MAX} deployments; narrow `deployments.include`"
                );
                gatherer.not_read(deployment, *kind, why);
            }
        }
        let unreached = calls[done..].iter().map(|(it, _)| it.id.clone()).collect();
        self.turns.note(unreached, silent);
        gatherer
    }

    async fn list_deployments(
        &self,
        coordinator: &Coordinator,
        wanted: &Deployments,
        borrowed: Borrowed<'_>,
        now: fn() -> DateTime<Utc>,
    ) -> Result<(Page, DeploymentList), Box<Sight>> {
        let sent = self.send(coordinator, &coordinator.deployments, borrowed.key, now).await;
        let mut answer = sent.map_err(|failure| Box::new(Sight::failed(failure)))?;
        if answer.is_success() {
            let list = listed(&mut answer, wanted, coordinator.transport.host()).await;
            let page = answer.head(Vec::new());
            return match list {
                Ok(list) => Ok((page, list)),
                Err(failure) => Err(Box::new(Sight::of(&page, Err(failure)))),
            };
        }
        let wanted = Wanted {
            what: "the list of deployments".to_owned(),
            role: "ece_deployment_viewer",
            operation: "list-deployments",
        };
        let wanted = (LIST, wanted);
        Err(Box::new(self.no_success(coordinator, answer, wanted, borrowed, now).await))
    }

    /// Makes the calls one after the other; `bound` is for each.
    async fn walk(
        &self,
        coordinator: &Coordinator,
        calls: &[Call<'_>],
        bound: Duration,
        borrowed: Borrowed<'_>,
        now: fn() -> DateTime<Utc>,
        walk: &mut Walk<'_>,
    ) {
        for (deployment, kind) in calls {
            let answer = if walk.silent.contains(&deployment.id) {
                // Its other parts would be silent too, and take the time of others.
                Err(match &walk.busy {
                    Some(busy) if *busy == deployment.id => busy_inside(),
                    _ => coordinator.transport.no_answer_within(bound),
                })
            } else {
                let asked = self.ask_inside(
                    coordinator,
                    (deployment, *kind),
                    borrowed,
                    now,
                    (&mut walk.gatherer, &mut walk.rest),
                );
                let answer = timeout(bound, asked).await;
                answer.unwrap_or_else(|_| Err(coordinator.transport.no_answer_within(bound)))
            };
            walk.done += 1;
            match answer {
                Ok(()) => walk.answered += 1,
                Err(failure) => walk.failed(deployment, *kind, failure),
            }
            if walk.halted.is_some() {
                return;
            }
        }
    }

    /// Asks one deployment for one thing.
    async fn ask_inside(
        &self,
        coordinator: &Coordinator,
        (deployment, kind): Call<'_>,
        borrowed: Borrowed<'_>,
        now: fn() -> DateTime<Utc>,
        (gatherer, rest): (&mut Gatherer<'_>, &mut Option<Duration>),
    ) -> Result<(), Failure> {
        let url = url_inside(&coordinator.deployments, deployment, kind)?;
        let request = self
            .client
            .get(url)
            .header(AUTHORIZATION, borrowed.key.authorization.clone())
            .header(MANAGEMENT, HeaderValue::from_static("true"));
        let mut answer = Arriving::ask(&coordinator.transport, request, now).await?;
        *rest = answer.rest().max(*rest);
        if !answer.is_success() {
            return Err(match answer.page().await?.meaning_without_expiry(now()) {
                Meaning::Failed(it) => in_words(it),
                Meaning::Told(_) | Meaning::NotReported => nonsense(),
            });
        }
        let taken = match kind {
            ItemKind::ApiKey | ItemKind::ElasticsearchApiKey => {
                keys_inside(&mut answer, deployment, gatherer).await?
            }
            ItemKind::ElasticsearchCertificate => {
                gatherer.certificates(deployment, &answer.page().await?.body)
            }
            ItemKind::ElasticsearchLicense => {
                gatherer.license(deployment, &answer.page().await?.body)
            }
        };
        match taken {
            Taken::Whole => Ok(()),
            Taken::Nonsense => Err(nonsense()),
        }
    }
}

/// Reads the keys of a deployment to their end.
async fn keys_inside(
    answer: &mut Arriving<'_>,
    deployment: &Deployment,
    gatherer: &mut Gatherer<'_>,
) -> Result<Taken, Failure> {
    let mut lister = KeyLister::new(deployment);
    answer
        .each_piece(KEYS_BYTES_MAX, "A list of Elasticsearch keys", |it| lister.feed(it, gatherer))
        .await?;
    Ok(lister.end(gatherer))
}

fn busy_inside() -> Failure {
    let message =
        "it says that it has too much to do (429); it is asked at the next run of the schedule";
    failure(FailureReason::RateLimited, message.to_owned())
}

fn nonsense() -> Failure {
    let message = "it answers with something else than Elasticsearch does, or with a part of it";
    failure(FailureReason::UnexpectedStatus, message.to_owned())
}

/// The address of something inside a deployment. The ids were checked when they were read.
fn url_inside(deployments: &Url, deployment: &Deployment, kind: ItemKind) -> Result<Url, Failure> {
    let path = match kind {
        ItemKind::ApiKey | ItemKind::ElasticsearchApiKey => "_security/api_key",
        ItemKind::ElasticsearchCertificate => "_ssl/certificates",
        ItemKind::ElasticsearchLicense => "_license",
    };
    let Deployment { id, ref_id, .. } = deployment;
    let url = format!("{deployments}/{id}/elasticsearch/{ref_id}/proxy/{path}");
    url.parse().map_err(|_| {
        failure(FailureReason::Protocol, format!("{url} cannot be used as a URL; please report it"))
    })
}

fn wanted_of_all() -> Wanted {
    Wanted {
        what: "what expires inside the deployments".to_owned(),
        role: "ece_deployment_manager",
        operation: "get-deployment-resource-proxy-requests",
    }
}

/// A failure of one deployment, which the words about ECE as a whole would not fit.
fn in_words(it: Failure) -> Failure {
    let message = match it.reason {
        FailureReason::Unauthorized => {
            "it answers 401: ECE or its Elasticsearch does not accept who asks"
        }
        FailureReason::Forbidden => "it answers 403: ECE or its Elasticsearch does not permit this",
        FailureReason::NotFound => {
            "it answers 404: it is stopped, starting, or was deleted a moment ago"
        }
        FailureReason::ServerError => {
            "ECE or the Elasticsearch answers with a server error; look at the health of the deployment"
        }
        _ => return it,
    };
    failure(it.reason, message.to_owned())
}

/// Reads the list of deployments to its end.
async fn listed(
    answer: &mut Arriving<'_>,
    wanted: &Deployments,
    host: &str,
) -> Result<DeploymentList, Failure> {
    let mut lister = DeploymentLister::new(wanted);
    answer.each_piece(LIST_BYTES_MAX, "The list of deployments", |it| lister.feed(it)).await?;
    let list = lister.end().ok_or_else(|| no_list(LIST, host))?;
    if list.read.is_empty() && list.odd.is_empty() && 0 < list.listed {
        let message = format!(
            "None of the {} deployments that {host} lists is one to be read: look at `deployments.include` and \
             `deployments.exclude`, and whether the deployments still have these names.",
            list.listed
        );
        return Err(failure(FailureReason::HeaderMissing, message));
    }
    if list.listed == 0 {
        // Taken at its word, such a list would end every alert.
        let message = format!(
            "{host} lists no deployment at all; check that the owner of the credential may see deployments, or remove \
             `deployments` from the configuration."
        );
        return Err(failure(FailureReason::UnexpectedStatus, message));
    }
    Ok(list)
}
