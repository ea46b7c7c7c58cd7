//! The secret that a probe sends: read anew for each probe, checked before it meets the wire.
//!
//! What the key says about itself is `observation::answer`'s business.

use reqwest::header::HeaderValue;

use super::failure;
use crate::config::{Secret, SecretSource};
use crate::observation::answer;
use crate::observation::{Failure, FailureReason};

/// An API key, ready to be sent.
pub(super) struct Key {
    /// The id of the key, if it is of the known form.
    pub(super) id: Option<String>,
    /// The value of the header `Authorization`; nothing prints it.
    pub(super) authorization: HeaderValue,
}

impl Key {
    /// The key in `secret`, which was read from `source`.
    pub(super) fn new(secret: &Secret, source: &SecretSource) -> Result<Self, Failure> {
        let authorization = authorization("ApiKey ", secret).ok_or_else(|| {
            unreadable(format!(
                "The {source} holds something else than one API key: it has white space, control or non-ASCII \
                 characters; write the key alone, without a name or quotes before it."
            ))
        })?;
        let id = answer::key_id_of(secret.expose()).map(|(_, id)| id);
        Ok(Self { id, authorization })
    }
}

pub(super) fn unreadable(message: String) -> Failure {
    failure(FailureReason::SecretUnreadable, message)
}

/// A value of the header `Authorization`, marked so that nothing prints it; `None` when the secret is not one word.
pub(super) fn authorization(scheme: &str, secret: &Secret) -> Option<HeaderValue> {
    let secret = secret.expose();
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = String::with_capacity(scheme.len() + secret.len());
    value.push_str(scheme);
    value.push_str(secret);
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
