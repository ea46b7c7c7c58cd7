//! How decisions take effect: recorded first, if anybody would miss them after a crash.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::Monitor;
use super::slot::PlatformSlot;
use crate::alert::{self, Change, Finding, PlatformState, State};
use crate::config::{Config, CredentialId};
use crate::delivery::{self, Subject};
use crate::observation::listing::Listing;
use crate::store::{Batch, Ledger, Left, Recorded};

/// How often at most states are recorded in which nothing but the freshness has changed. A crash forgets this much of
/// when probes last ran, and nothing else.
const SAVE_EVERY: TimeDelta = TimeDelta::seconds(10);

/// Next states by position, and what they call for, before they are written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) credentials: HashMap<usize, State>,
    pub(super) platforms: HashMap<usize, PlatformState>,
    pub(super) owed: Vec<delivery::Owed>,
    /// What changes of the keys of lists, by the position of the list's credential.
    pub(super) lists: BTreeMap<usize, ListDraft>,
    /// When the digest that is owed was due.
    pub(super) digest_at: Option<DateTime<Utc>>,
    /// Subjects and events, for the log.
    pub(super) told: Vec<(String, alert::Event)>,
}

/// What a listing or the passing of time changes of a list.
#[derive(Debug, Default)]
pub(super) struct ListDraft {
    pub(super) changes: Vec<Change>,
    pub(super) findings: Vec<Finding>,
    /// The list as it was read, if it was.
    pub(super) listing: Option<Arc<Listing>>,
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.credentials.is_empty()
            && self.platforms.is_empty()
            && self.lists.is_empty()
            && self.digest_at.is_none()
    }

    pub(super) fn owe_platform(
        &mut self,
        config: &Config,
        slot: &PlatformSlot,
        decision: &alert::PlatformDecision,
        probed: &State,
    ) {
        for event in &decision.events {
            let platform = &slot.platform;
            self.told.push((platform.name.to_string(), event.clone()));
            let subject = Subject::Platform(platform, &decision.next, probed);
            self.owed.push(delivery::owed(config, subject, event));
        }
    }
}

/// Whether a draft has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    Yes,
    No,
}

/// What has taken effect and is not recorded yet, by position.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    credentials: BTreeSet<usize>,
    platforms: BTreeSet<usize>,
    /// When a record was last tried.
    tried_at: Option<DateTime<Utc>>,
    /// Whether the last record of mere freshness was refused, which is told once.
    is_refused: bool,
}

impl Unsaved {
    fn is_empty(&self) -> bool {
        self.credentials.is_empty() && self.platforms.is_empty()
    }

    /// Whether a record of mere freshness would not be one too many.
    fn may_save(&self, now: DateTime<Utc>) -> bool {
        // After the clock was set back, too.
        self.tried_at.is_none_or(|at| at + SAVE_EVERY <= now || now < at)
    }

    /// Lets the state of these be written with the next record.
    pub(super) fn add(
        &mut self,
        credentials: impl IntoIterator<Item = usize>,
        platforms: impl IntoIterator<Item = usize>,
    ) {
        self.credentials.extend(credentials);
        self.platforms.extend(platforms);
    }

    pub(super) fn is_due(&self, now: DateTime<Utc>) -> bool {
        !self.is_empty() && self.may_save(now)
    }

    pub(super) fn due_at(&self) -> Option<DateTime<Utc>> {
        self.tried_at.filter(|_| !self.is_empty()).map(|at| at + SAVE_EVERY)
    }
}

impl Monitor {
    /// Lets a draft take effect: at once if only the freshness has changed, else when it is recorded; what cannot be
    /// recorded is forgotten.
    pub(super) async fn commit(&mut self, mut draft: Draft, now: DateTime<Utc>) -> Committed {
        let is_owing = !draft.owed.is_empty() || draft.digest_at.is_some();
        let changed: Vec<usize> = draft.lists.keys().copied().collect();
        let has_substance = self.has_substance(&draft);
        if is_owing || has_substance || self.unsaved.may_save(now) {
            if let Err(error) = self.record(&mut draft, now).await {
                self.complain(format!(
                    "{error:#}; the decisions are taken again at the next probe"
                ));
                for at in changed {
                    self.lists.get_mut(&at).expect("a draft is of a list").plan_all(now);
                }
                return Committed::No;
            }
        } else {
            self.unsaved.add(draft.credentials.keys().copied(), draft.platforms.keys().copied());
        }
        for (subject, event) in &draft.told {
            let (name, reason, severity) =
                (event.name.label(), event.reason.label(), event.severity.label());
            tracing::info!(
                subject,
                alert = name,
                reason,
                severity,
                "{name} of {subject}: {reason} ({severity})"
            );
        }
        for (at, state) in draft.credentials {
            self.slots[at].state = state;
        }
        for (at, state) in draft.platforms {
            self.platforms[at].state = state;
        }
        for (at, list_draft) in draft.lists {
            self.lists.get_mut(&at).expect("a draft is of a list").apply(list_draft, now);
        }
        self.digest_from = draft.digest_at.unwrap_or(self.digest_from);
        if is_owing {
            self.shared.owed.notify_one();
        }
        if has_substance {
            self.shared.changed.notify_one();
        }
        Committed::Yes
    }

    /// Whether a crash must not lose the draft.
    fn has_substance(&self, draft: &Draft) -> bool {
        if draft.lists.values().any(|it| !it.changes.is_empty() || !it.findings.is_empty()) {
            return true;
        }
        let mut credentials = draft.credentials.iter();
        let mut platforms = draft.platforms.iter();
        credentials.any(|(at, next)| next.differs_in_substance(&self.slots[*at].state))
            || platforms.any(|(at, next)| next.differs_in_substance(&self.platforms[*at].state))
    }

    /// Records a draft, and with it everything that is not recorded yet.
    async fn record(&mut self, draft: &mut Draft, now: DateTime<Utc>) -> anyhow::Result<()> {
        let mut credentials: BTreeMap<usize, &State> =
            self.unsaved.credentials.iter().map(|at| (*at, &self.slots[*at].state)).collect();
        credentials.extend(draft.credentials.iter().map(|(at, state)| (*at, state)));
        let mut platforms: BTreeMap<usize, &PlatformState> =
            self.unsaved.platforms.iter().map(|at| (*at, &self.platforms[*at].state)).collect();
        platforms.extend(draft.platforms.iter().map(|(at, state)| (*at, state)));
        let batch = Batch {
            credentials: credentials
                .into_iter()
                .map(|(at, state)| (self.slots[at].credential.id.clone(), state.clone()))
                .collect(),
            platforms: platforms
                .into_iter()
                .map(|(at, state)| (self.platforms[at].platform.name.clone(), state.clone()))
                .collect(),
            found: self.of_lists(draft, |it| &it.changes),
            findings: self.of_lists(draft, |it| &it.findings),
            owed: std::mem::take(&mut draft.owed),
            digest_at: draft.digest_at,
        };
        // A disk that fails is not tried again at once.
        self.unsaved.tried_at = Some(now);
        match self.shared.store.record(batch, now).await {
            Ok(Recorded::OnDisk) => self.shared.telemetry.state_written(now),
            Ok(Recorded::InMemory(first)) => {
                self.shared.telemetry.state_write_failed();
                if let Some(Left { why, ledger }) = first {
                    self.complain(format!(
                        "cannot write the store, keeping everything in memory: {why}"
                    ));
                    if ledger == Ledger::Gaps {
                        self.forget_told();
                        anyhow::bail!("messages that waited are lost with the disk");
                    }
                }
            }
            Err(error) => {
                self.shared.telemetry.state_write_failed();
                return Err(error);
            }
        }
        self.unsaved.credentials.clear();
        self.unsaved.platforms.clear();
        self.unsaved.is_refused = false;
        Ok(())
    }

    /// Takes nobody for told: with the ledger, what waited to be told them is lost.
    fn forget_told(&mut self) {
        for slot in &mut self.slots {
            (slot.state.lifetime, slot.state.access) = (None, None);
        }
        for platform in &mut self.platforms {
            (platform.state.unreachable, platform.state.skew) = (None, None);
        }
        for list in self.lists.values_mut() {
            list.forget_told();
        }
    }

    /// What a draft says of lists, each with the list that it is about.
    fn of_lists<T: Clone>(
        &self,
        draft: &Draft,
        what: impl Fn(&ListDraft) -> &[T],
    ) -> Vec<(CredentialId, T)> {
        let of = |(at, list): (&usize, &ListDraft)| {
            let id = self.slots[*at].credential.id.clone();
            what(list).iter().map(move |it| (id.clone(), it.clone())).collect::<Vec<_>>()
        };
        draft.lists.iter().flat_map(of).collect()
    }

    /// Records what has taken effect and is not recorded yet.
    pub(super) async fn save(&mut self, now: DateTime<Utc>) {
        if self.unsaved.is_empty() {
            return;
        }
        if let Err(error) = self.record(&mut Draft::default(), now).await
            && !std::mem::replace(&mut self.unsaved.is_refused, true)
        {
            self.complain(format!(
                "{error:#}; that probes have confirmed what was known is written when it can be"
            ));
        }
    }

    pub(super) fn complain(&self, what: String) {
        tracing::error!("{what}");
        *self.shared.store_error.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(what);
    }
}
