//! The digest of what is shown: what fires, and what expires next. Pure.

use chrono::{DateTime, Utc};

use super::{CredentialStatus, FiringAlert, Snapshot};
use crate::alert::{AlertName, Found, Reason};
use crate::config::Severity;
use crate::delivery::{Digest, Notice, NoticeCredential, NoticeProbe};
use crate::observation::Reading;

/// The most lines about what fires; who has more needs the page. Keeps a mail below 100 kB.
const ATTENTION_MAX: usize = 300;

/// How many of what is well are named.
const UPCOMING_MAX: usize = 10;

impl Snapshot {
    /// What a digest says of this view.
    pub fn digest(&self, now: DateTime<Utc>) -> Digest {
        let mut attention = Vec::new();
        let mut upcoming = Vec::new();
        for row in &self.credentials {
            let about = of_credential(row);
            match row.alerts.first() {
                Some(alert) => {
                    attention.push(firing(alert, &row.id.platform, Some(about), row, now));
                }
                None => upcoming.extend(well(&row.id.platform, about, now)),
            }
        }
        let mut listed = 0;
        for list in &self.lists {
            for found in list.keys.iter().filter(|it| it.held_by.is_none()) {
                listed += 1;
                let about = of_found(found);
                match found.state.lifetime.as_ref().map(FiringAlert::of) {
                    Some(alert) => {
                        attention.push(notice(&alert, &list.id.platform, Some(about), now));
                    }
                    None => upcoming.extend(well(&list.id.platform, about, now)),
                }
            }
        }
        let platforms = self.platforms.iter();
        let of_platforms = platforms.flat_map(|it| it.alerts.iter().map(move |alert| (it, alert)));
        attention.extend(of_platforms.map(|(it, alert)| notice(alert, &it.name, None, now)));
        let expires_at = |it: &Notice| it.credential.as_ref().and_then(|it| it.expires_at);
        let urgency = |it: &Notice| {
            let severity = Severity::parse(&it.severity).map(std::cmp::Reverse);
            (severity, expires_at(it).unwrap_or(DateTime::<Utc>::MAX_UTC), it.platform.clone())
        };
        attention.sort_by_cached_key(urgency);
        upcoming.sort_by_key(expires_at);
        upcoming.truncate(UPCOMING_MAX);
        let omitted = attention.len().saturating_sub(ATTENTION_MAX);
        attention.truncate(ATTENTION_MAX);
        Digest {
            platforms: self.platforms.iter().map(|it| it.name.to_string()).collect(),
            watched: self.credentials.len() + listed,
            listed,
            attention,
            omitted,
            upcoming,
        }
    }
}

fn firing(
    alert: &FiringAlert,
    platform: &str,
    about: Option<NoticeCredential>,
    row: &CredentialStatus,
    now: DateTime<Utc>,
) -> Notice {
    let probe = NoticeProbe { http_status: row.http_status, ..NoticeProbe::default() };
    Notice { probe, ..notice(alert, platform, about, now) }
}

fn notice(
    alert: &FiringAlert,
    platform: &str,
    about: Option<NoticeCredential>,
    now: DateTime<Utc>,
) -> Notice {
    Notice {
        alert: alert.name.label().to_owned(),
        reason: Reason::Repeat.label().to_owned(),
        severity: alert.severity.label().to_owned(),
        at: now,
        starts_at: alert.starts_at,
        platform: platform.to_owned(),
        credential: about,
        ..Notice::default()
    }
}

/// What is well, if it has a date that is still to come.
fn well(platform: &str, about: NoticeCredential, now: DateTime<Utc>) -> Option<Notice> {
    let expires_at = about.expires_at.filter(|at| now < *at)?;
    let alert = FiringAlert {
        name: AlertName::CredentialExpiring,
        severity: Severity::Info,
        starts_at: expires_at,
        told_at: now,
    };
    Some(notice(&alert, platform, Some(about), now))
}

fn of_credential(row: &CredentialStatus) -> NoticeCredential {
    NoticeCredential {
        name: row.id.name.to_string(),
        kind: row.kind.to_owned(),
        team: row.team.clone(),
        expires_at: date(row.reading),
        ..NoticeCredential::default()
    }
}

fn of_found(found: &Found) -> NoticeCredential {
    let said = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
    NoticeCredential {
        name: found.item.id.to_string(),
        kind: found.item.kind.label().to_owned(),
        user: said(&found.item.user),
        description: said(&found.item.description),
        place: said(&found.item.place),
        expires_at: date(found.reading()),
        ..NoticeCredential::default()
    }
}

fn date(reading: Option<Reading>) -> Option<DateTime<Utc>> {
    match reading {
        Some(Reading::ExpiresAt(at)) => Some(at),
        Some(Reading::Never | Reading::Undated) | None => None,
    }
}
