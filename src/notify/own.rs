//! The signed link in a message, by which its reader takes an alert over and is left in peace until then.
//!
//! The link names one alert; its signature is the right to silence that alert and nothing else, for as long as the alert
//! lasts and the link is valid. The key never leaves the store and this program. Which alert still fires, and what
//! becomes of the wish, is not decided here.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::{DateTime, TimeDelta, Utc};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

use super::Origin;
use super::text::Topic;
use crate::alert::{AlertName, Reason};
use crate::config::{MatchOp, Matcher, Secret};
use crate::delivery::Notice;
use crate::time::{from_ms, to_ms};

/// How long a link is good for. Whoever reads a mail later finds newer ones.
const LINK_VALID_FOR: TimeDelta = TimeDelta::days(30);

/// How long somebody can own an alert that has no end.
const OWNED_MAX: TimeDelta = TimeDelta::days(30);

/// How long somebody can own what runs out, after it has: then another alert tells it.
const OWNED_AFTER_END: TimeDelta = TimeDelta::days(1);

/// The longest token that is looked at; names of 128 bytes each make less than a third of it.
const TOKEN_BYTES_MAX: usize = 4096;

const KEY_BYTES: usize = 32;

/// What else the key may sign one day cannot be taken for a link.
const PURPOSE: &[u8] = b"own-link-1.";

/// The key that signs links. `Debug` does not show it.
#[derive(Debug, Clone)]
pub struct OwnKey(Arc<hmac::Key>);

/// What a link is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The platform's name.
    #[serde(rename = "p")]
    pub platform: String,
    /// The credential's name; `None` for an alert about the platform.
    #[serde(rename = "c")]
    pub credential: Option<String>,
    /// The name of the alert.
    #[serde(rename = "a")]
    pub alert: String,
    /// Since when it fires, in milliseconds: a later alert of the same name is another one.
    #[serde(rename = "s")]
    starts_ms: i64,
    /// When the credential expires, in milliseconds.
    #[serde(rename = "e")]
    expires_ms: Option<i64>,
    /// Until when the link is good.
    #[serde(rename = "x")]
    valid_ms: i64,
}

/// Why a link gives no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This exporter has not signed it, or something of it was changed or lost.
    Forged,
    /// It was good once.
    Old,
}

impl OwnKey {
    /// A new key, as text to keep.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn fresh() -> anyhow::Result<Secret> {
        let mut bytes = [0; KEY_BYTES];
        let random = SystemRandom::new().fill(&mut bytes);
        random.map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        Ok(Secret::new(BASE64.encode(bytes)))
    }

    /// The key of a text.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &Secret) -> anyhow::Result<Self> {
        let bytes = BASE64.decode(text.expose()).ok().filter(|it| it.len() == KEY_BYTES);
        let bytes = bytes.ok_or_else(|| {
            anyhow::anyhow!("the key that signs links is damaged: delete `link_key` from the table `memo`, and links that were sent are void")
        })?;
        Ok(Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes))))
    }

    /// The claim as text for a URL, with its signature.
    fn sign(&self, claim: &Claim) -> Option<String> {
        let payload = BASE64.encode(serde_json::to_vec(claim).ok()?);
        let signature = hmac::sign(&self.0, &signed(&payload));
        Some(format!("{payload}.{}", BASE64.encode(signature)))
    }

    /// What a token says, if this key has signed it and it is still good at `now`.
    ///
    /// # Errors
    /// It gives no right.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claim, Refused> {
        if TOKEN_BYTES_MAX < token.len() {
            return Err(Refused::Forged);
        }
        let (payload, signature) = token.split_once('.').ok_or(Refused::Forged)?;
        let signature = BASE64.decode(signature).map_err(|_| Refused::Forged)?;
        // Takes the same time whatever is wrong.
        hmac::verify(&self.0, &signed(payload), &signature).map_err(|_| Refused::Forged)?;
        let bytes = BASE64.decode(payload).map_err(|_| Refused::Forged)?;
        let claim: Claim = serde_json::from_slice(&bytes).map_err(|_| Refused::Forged)?;
        if claim.valid_ms <= to_ms(now) { Err(Refused::Old) } else { Ok(claim) }
    }
}

fn signed(payload: &str) -> Vec<u8> {
    [PURPOSE, payload.as_bytes()].concat()
}

impl Claim {
    /// The claim to an alert that needs attention; `None` for what happens once or is a test.
    fn of(notice: &Notice, topic: Topic, now: DateTime<Utc>) -> Option<Self> {
        let happens_once = matches!(
            topic.alert,
            AlertName::ApiKeyCreated | AlertName::ApiKeyDeleted | AlertName::ApiKeyLongLived
        );
        if happens_once || topic.reason == Reason::Test || !topic.needs_attention() {
            return None;
        }
        Some(Self {
            platform: notice.platform.clone(),
            credential: notice.credential.as_ref().map(|it| it.name.clone()),
            alert: notice.alert.clone(),
            starts_ms: to_ms(notice.starts_at),
            expires_ms: notice.credential.as_ref().and_then(|it| it.expires_at).map(to_ms),
            valid_ms: to_ms(now + LINK_VALID_FOR),
        })
    }

    /// Since when the alert fires.
    pub fn starts_at(&self) -> DateTime<Utc> {
        from_ms(self.starts_ms)
    }

    /// When the credential expires, if that was known.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.expires_ms.map(from_ms)
    }

    /// What the alert is about: `prod`, `prod/ci`.
    pub fn subject(&self) -> String {
        match &self.credential {
            Some(credential) => format!("{}/{credential}", self.platform),
            None => self.platform.clone(),
        }
    }

    /// The latest end of a silence that begins at `now`.
    pub fn end_max(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.expires_at() {
            Some(at) if now < at => at + OWNED_AFTER_END,
            Some(_) | None => now + OWNED_MAX,
        }
    }

    /// The matchers of exactly this alert.
    ///
    /// # Errors
    /// A name is longer than matchers can be.
    pub fn matchers(&self) -> Result<Vec<Matcher>, String> {
        let credential = self.credential.as_deref().map(|it| ("credential", it));
        let pairs =
            [Some(("platform", &*self.platform)), credential, Some(("alertname", &*self.alert))];
        let pairs = pairs.into_iter().flatten();
        pairs.map(|(label, value)| Matcher::new(label, MatchOp::Equal, value)).collect()
    }

    /// The id of its silence: the same for every link to the same alert, so whoever takes it over next replaces it.
    pub fn silence_id(&self) -> String {
        let names = format!("{}\n{}\n{}", self.platform, self.subject(), self.alert);
        let hash = digest::digest(&digest::SHA256, names.as_bytes());
        let random = hash.as_ref()[..16].iter().fold(0, |bits, it| bits << 8 | u128::from(*it));
        super::id("sil_", self.starts_at(), random)
    }
}

impl Origin {
    /// The link by which the reader of a message about `notice` takes its alert over.
    pub fn own_link(&self, notice: &Notice, topic: Topic, now: DateTime<Utc>) -> Option<String> {
        let token = self.own_key.as_ref()?.sign(&Claim::of(notice, topic, now)?)?;
        self.link(&format!("own?t={token}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        from_ms(1_795_496_400_000)
    }

    fn claim() -> Claim {
        Claim {
            platform: "prod".to_owned(),
            credential: Some("a \"b\" <c>".to_owned()),
            alert: "ECECredentialExpiring".to_owned(),
            starts_ms: to_ms(now()),
            expires_ms: Some(to_ms(now() + TimeDelta::days(5))),
            valid_ms: to_ms(now() + LINK_VALID_FOR),
        }
    }

    #[test]
    fn a_token_verifies_with_its_key_until_it_is_old_and_not_with_one_bit_changed() {
        let text = OwnKey::fresh().unwrap();
        let key = OwnKey::read(&text).unwrap();
        let token = key.sign(&claim()).unwrap();
        assert_eq!(key.verify(&token, now()), Ok(claim()));
        let other = OwnKey::read(&OwnKey::fresh().unwrap()).unwrap();
        assert_eq!(other.verify(&token, now()), Err(Refused::Forged));
        assert_eq!(key.verify(&token, now() + LINK_VALID_FOR), Err(Refused::Old));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'E' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(key.verify(&changed, now()), Err(Refused::Forged), "{at} of {token}");
        }
        for wrong in ["", ".", "a.b", &"x".repeat(5000)] {
            assert_eq!(key.verify(wrong, now()), Err(Refused::Forged), "{wrong}");
        }
        assert!(!format!("{key:?} {text:?}").contains(text.expose()));
    }

    #[test]
    fn an_alert_is_owned_until_its_credential_has_expired_and_without_a_date_for_a_month() {
        assert_eq!(claim().end_max(now()), now() + TimeDelta::days(6));
        assert_eq!(claim().end_max(now() + TimeDelta::days(7)), now() + TimeDelta::days(37));
        let next = Claim { starts_ms: to_ms(now()) + 1, ..claim() };
        assert_eq!(claim().silence_id(), Claim { valid_ms: 0, ..claim() }.silence_id());
        assert_ne!(claim().silence_id(), next.silence_id());
        assert_eq!(claim().silence_id().len(), 30);
    }
}
