//! The key that a probe sends: read anew for each probe, checked before it meets the wire.
//!
//! What the key says about itself is `observation::answer`'s business.

use reqwest::header::HeaderValue;

use super::failure;
use crate::config::{Secret, SecretSource};
use crate::observation::answer;
use crate::observation::{Failure, FailureReason};

/// A secret, ready to be sent.
pub(super) struct Key {
    /// The id of the key, if it is of the known form.
    pub(super) id: Option<String>,
    /// The value of the header `Authorization`; nothing prints it.
    pub(super) authorization: HeaderValue,
}

impl Key {
    /// Reads the secret and makes a header of it.
    pub(super) async fn read(source: &SecretSource) -> Result<Self, Failure> {
        let unreadable = |message| failure(FailureReason::SecretUnreadable, message);
        let read = match source {
            SecretSource::Env(_) => source.read(),
            // A file may lie on a network disk that does not answer.
            SecretSource::File(_) => {
                let source = source.clone();
                tokio::task::spawn_blocking(move || source.read())
                    .await
                    .map_err(|_| unreadable("Reading the key was given up.".to_owned()))?
            }
        };
        let secret = read.map_err(|error| {
            let error = anyhow::Error::new(error);
            unreadable(format!(
                "The key cannot be read: {error:#}. Put it there, readable for the user of this program; it is read again at the next \
                 probe."
            ))
        })?;
        let authorization = authorization(&secret).ok_or_else(|| {
            unreadable(format!(
                "The {source} holds something else than one API key: it has white space, control or non-ASCII \
                 characters; write the key alone, without a name or quotes before it."
            ))
        })?;
        let id = answer::key_id_of(secret.expose()).map(|(_, id)| id);
        Ok(Self { id, authorization })
    }
}

/// `ApiKey …`, marked so that nothing prints it; `None` when the secret cannot be one key.
fn authorization(secret: &Secret) -> Option<HeaderValue> {
    let key = secret.expose();
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = String::with_capacity("ApiKey ".len() + key.len());
    value.push_str("ApiKey ");
    value.push_str(key);
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
