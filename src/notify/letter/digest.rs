//! The letter that sums up everything that is watched. Pure.

use chrono::{DateTime, Utc};

use super::{Letter, Line, NO_LINKS, color, line, signature};
use crate::delivery::{Digest, Notice};
use crate::notify::Origin;
use crate::notify::text::{self, Topic, date, plain};

impl Letter {
    /// Writes the letter of a digest.
    ///
    /// # Errors
    /// A word in it is not known to this version.
    pub fn digest(digest: &Digest, origin: &Origin, now: DateTime<Utc>) -> anyhow::Result<Self> {
        let attention = digest.attention.len() + digest.omitted;
        let list = digest.attention.iter().map(|it| Ok(line(it, Topic::of(it)?, now)));
        Ok(Self {
            subject: subject(digest, attention),
            opening: vec![opening(digest, attention)],
            list: list.collect::<anyhow::Result<_>>()?,
            unlisted: digest.omitted,
            upcoming: digest
                .upcoming
                .iter()
                .map(|it| upcoming(it, now))
                .collect::<Result<_, _>>()?,
            sections: Vec::new(),
            omitted: 0,
            link: origin.link(""),
            hint: origin.external_url.is_none().then_some(NO_LINKS),
            signature: signature(origin),
        })
    }
}

/// `[ECE prod] DIGEST: 3 of 42 need attention`, `[ECE] DIGEST: all is well (42 watched)`.
fn subject(digest: &Digest, attention: usize) -> String {
    let platform = match digest.platforms.as_slice() {
        [one] => format!("[ECE {}]", plain(one)),
        _ => "[ECE]".to_owned(),
    };
    match attention {
        0 => format!("{platform} DIGEST: all is well ({} watched)", digest.watched),
        1 => format!("{platform} DIGEST: 1 of {} needs attention", digest.watched),
        more => format!("{platform} DIGEST: {more} of {} need attention", digest.watched),
    }
}

fn opening(digest: &Digest, attention: usize) -> String {
    let on = match digest.platforms.len() {
        1 => "1 platform".to_owned(),
        more => format!("{more} platforms"),
    };
    let verdict = match attention {
        0 => "All is well.".to_owned(),
        1 => "1 needs attention.".to_owned(),
        more => format!("{more} need attention."),
    };
    let listed = match digest.listed {
        0 => String::new(),
        1 => ", 1 of them listed by a platform".to_owned(),
        more => format!(", {more} of them listed by a platform"),
    };
    let are = if digest.watched == 1 { "is" } else { "are" };
    format!("{} {are} watched on {on}{listed}. {verdict}", digest.watched)
}

/// One that is well: when it expires, and nothing to do.
fn upcoming(notice: &Notice, now: DateTime<Utc>) -> anyhow::Result<Line> {
    let topic = Topic::of(notice)?;
    let line = line(notice, topic, now);
    let expires_at = notice.credential.as_ref().and_then(|it| it.expires_at);
    Ok(Line {
        tag: "OK",
        color: color(Topic { reason: crate::alert::Reason::Renewed, ..topic }),
        text: match (&notice.credential, expires_at) {
            (Some(credential), Some(at)) => format!(
                "{}/{} {} ({} left)",
                plain(&notice.platform),
                text::called(credential),
                date(at),
                text::rough(at - now)
            ),
            _ => line.text,
        },
    })
}
