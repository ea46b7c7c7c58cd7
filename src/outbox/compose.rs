//! From notices that are owed to messages with an id: what shares one, and what a quiet time holds back.

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::{DateTime, Utc};

use super::Outbox;
use crate::config::Carries;
use crate::delivery::{Notice, Parcel, Target, Telling, carries, telling};
use crate::notify::{self, Draft};
use crate::store::{Held, Waiting};

/// How many waiting notices are composed in one transaction.
const COMPOSE_MAX: usize = 2_000;

/// How many notices one message carries; beyond it a second one follows.
const NOTICES_PER_MESSAGE_MAX: usize = 200;

/// Whether everything due has been composed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Composed {
    All,
    PerhapsMore,
}

impl Outbox {
    /// Composes one transaction's worth of waiting notices.
    pub(super) async fn compose(&self, now: DateTime<Utc>) -> anyhow::Result<Composed> {
        let waiting =
            self.store.waiting(now, COMPOSE_MAX).await.context("cannot read what is owed")?;
        let count = waiting.len();
        let mut by_group: BTreeMap<(Target, String), Vec<(i64, Notice)>> = BTreeMap::new();
        let mut held = Vec::new();
        for Waiting { row, to, status, notice } in waiting {
            let mutes = to.mutes.iter().filter_map(|name| self.config.mutes.get(name));
            match telling(&notice, status, mutes, &self.silences, now) {
                Telling::Now => {
                    by_group.entry((to.target, to.grouping.key)).or_default().push((row, notice));
                }
                Telling::NotBefore(until, why) => {
                    self.telemetry.notification_suppressed(&to.target.receiver, why);
                    held.push(Held { row, why, until });
                }
            }
        }
        if !held.is_empty() {
            self.store.hold(held).await.context("cannot hold back what a quiet time covers")?;
        }
        let mut parcels = Vec::new();
        for ((target, group), notices) in by_group {
            let each = match carries(&self.config, &target) {
                Carries::Group => NOTICES_PER_MESSAGE_MAX,
                Carries::Alert => 1,
            };
            for part in notices.chunks(each) {
                let (rows, notices): (Vec<i64>, Vec<_>) = part.iter().cloned().unzip();
                parcels.push((self.parcel(&target, &group, &notices, now), rows));
            }
        }
        if !parcels.is_empty() {
            self.store.composed(parcels).await.context("cannot write composed messages")?;
        }
        Ok(if count < COMPOSE_MAX { Composed::All } else { Composed::PerhapsMore })
    }

    /// One message. What cannot be composed has no body, and is given up when it is sent, so that it is seen.
    fn parcel(
        &self,
        target: &Target,
        group: &str,
        notices: &[Notice],
        now: DateTime<Utc>,
    ) -> Parcel {
        let id = notify::new_id(now);
        let body = match notify::channel(&self.config, target) {
            Some(channel) => {
                let draft = Draft {
                    id: &id,
                    receiver: &target.receiver,
                    recipient: &target.recipient,
                    group_key: group,
                    notices,
                    origin: &self.origin,
                    now,
                };
                notify::compose(channel, &draft)
                    .with_context(|| format!("cannot compose a message for {target}"))
            }
            // Sending it says that the channel is gone.
            None => Ok(Vec::new()),
        };
        let body = body.unwrap_or_else(|error| {
            tracing::error!("{error:#}");
            Vec::new()
        });
        self.telemetry.notification_composed(target);
        Parcel {
            id,
            target: target.clone(),
            body,
            attempts: 0,
            created_at: now,
            group: group.to_owned(),
        }
    }
}
