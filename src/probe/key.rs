//! The secret that a probe sends: read anew for each probe, checked before it meets the wire.
//!
//! What the key says about itself is `observation::answer`'s business.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::failure;
use crate::config::{Secret, SecretSource};
use crate::observation::answer;
use crate::observation::{Failure, FailureReason};

/// How long a file is waited for behind the one that is being read, before another thread reads it. A local disk
/// reads thousands in that time.
const PATIENCE: Duration = Duration::from_millis(200);

/// An API key, ready to be sent.
#[derive(Clone)]
pub(super) struct Key {
    /// The id of the key, if it is of the known form.
    pub(super) id: Option<String>,
    /// The value of the header `Authorization`; nothing prints it.
    pub(super) authorization: HeaderValue,
}

/// Reads secrets off the thread of the monitor, because a file may lie on a network disk that does not answer.
///
/// What is asked for at the same time is read by one thread in turn: a change of threads for each file costs more than
/// the reading. A file that hangs keeps that one thread; who waits behind it is served by another, and who asks for the
/// hanging file again waits for the same answer, so a dead disk holds one thread for each of its files and no more.
#[derive(Default)]
pub(super) struct SecretReader {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    /// Files that nobody reads yet.
    next: VecDeque<SecretSource>,
    /// Who waits for which file, queued or being read.
    waiting: HashMap<SecretSource, Vec<oneshot::Sender<Result<Secret, Failure>>>>,
    /// The reader at work; one that was replaced finishes its file and takes no other.
    reader: Option<u64>,
    /// How many readers there have been.
    readers: u64,
}

impl SecretReader {
    /// Reads the secret, or gives up after about `within`.
    pub(super) async fn read(
        &self,
        source: &SecretSource,
        within: Duration,
    ) -> Result<Secret, Failure> {
        if source.path().is_none() {
            return read(source);
        }
        let (reply, mut answer) = oneshot::channel();
        let mut reader = self.ask(source, reply);
        let mut left = within;
        while !left.is_zero() {
            let patience = PATIENCE.min(left);
            match timeout(patience, &mut answer).await {
                Ok(Ok(secret)) => return secret,
                Ok(Err(_)) => {
                    return Err(unreadable("Reading the secret was given up.".to_owned()));
                }
                Err(_) => reader = self.replace(reader, source),
            }
            left -= patience;
        }
        Err(unreadable(format!(
            "The secret was not read from {source} within {within:?}; check the disk that it lies on. The other credentials \
             are probed meanwhile."
        )))
    }

    /// Puts a file into the queue, and says who reads.
    fn ask(&self, source: &SecretSource, reply: oneshot::Sender<Result<Secret, Failure>>) -> u64 {
        let mut queue = lock(&self.queue);
        if let Some(waiting) = queue.waiting.get_mut(source) {
            waiting.retain(|it| !it.is_closed());
            waiting.push(reply);
        } else {
            queue.waiting.insert(source.clone(), vec![reply]);
            queue.next.push_back(source.clone());
        }
        queue.reader.unwrap_or_else(|| self.start(&mut queue))
    }

    /// Lets another thread read what is queued if `reader` has not come to `source` yet; says who reads now.
    fn replace(&self, reader: u64, source: &SecretSource) -> u64 {
        let mut queue = lock(&self.queue);
        if queue.reader == Some(reader) && queue.next.contains(source) {
            return self.start(&mut queue);
        }
        queue.reader.unwrap_or(reader)
    }

    fn start(&self, queue: &mut Queue) -> u64 {
        queue.readers += 1;
        let reader = queue.readers;
        queue.reader = Some(reader);
        let shared = self.queue.clone();
        tokio::task::spawn_blocking(move || read_in_turn(&shared, reader));
        reader
    }
}

/// Reads file after file until none is left, or another reader has taken over.
fn read_in_turn(shared: &Mutex<Queue>, reader: u64) {
    loop {
        let source = {
            let mut queue = lock(shared);
            if queue.reader != Some(reader) {
                return;
            }
            let Some(source) = queue.next.pop_front() else {
                queue.reader = None;
                return;
            };
            source
        };
        let secret = read(&source);
        for reply in lock(shared).waiting.remove(&source).into_iter().flatten() {
            // Whose probe has ended needs no secret.
            let _ = reply.send(secret.clone());
        }
    }
}

/// Nothing that holds the lock can panic half-way through a change.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
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

fn read(source: &SecretSource) -> Result<Secret, Failure> {
    source.read().map_err(|error| {
        let error = anyhow::Error::new(error);
        unreadable(format!(
            "The secret cannot be read: {error:#}. Put it there, readable for the user of this program; it is read again \
             at the next probe."
        ))
    })
}

fn unreadable(message: String) -> Failure {
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
