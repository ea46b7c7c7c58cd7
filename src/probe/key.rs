//! The key that a probe sends: read anew for each probe, checked before it meets the wire.
//!
//! What the key says about itself is `observation::answer`'s business.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
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

/// A secret, ready to be sent.
#[derive(Clone)]
pub(super) struct Key {
    /// The id of the key, if it is of the known form.
    pub(super) id: Option<String>,
    /// The value of the header `Authorization`; nothing prints it.
    pub(super) authorization: HeaderValue,
}

/// Reads keys off the thread of the monitor, because a file may lie on a network disk that does not answer.
///
/// What is asked for at the same time is read by one thread in turn: a change of threads for each file costs more than
/// the reading. A file that hangs keeps that one thread; who waits behind it is served by another, and who asks for the
/// hanging file again waits for the same answer, so a dead disk holds one thread for each of its files and no more.
#[derive(Default)]
pub(super) struct KeyReader {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    /// Files that nobody reads yet.
    next: VecDeque<PathBuf>,
    /// Who waits for which file, queued or being read.
    waiting: HashMap<PathBuf, Vec<oneshot::Sender<Result<Key, Failure>>>>,
    /// The reader at work; one that was replaced finishes its file and takes no other.
    reader: Option<u64>,
    /// How many readers there have been.
    readers: u64,
}

impl KeyReader {
    /// Reads the secret and makes a header of it, or gives up after about `within`.
    pub(super) async fn read(
        &self,
        source: &SecretSource,
        within: Duration,
    ) -> Result<Key, Failure> {
        let SecretSource::File(path) = source else { return Key::read(source) };
        let (reply, mut answer) = oneshot::channel();
        let mut reader = self.ask(path, reply);
        let mut left = within;
        while !left.is_zero() {
            let patience = PATIENCE.min(left);
            match timeout(patience, &mut answer).await {
                Ok(Ok(key)) => return key,
                Ok(Err(_)) => return Err(unreadable("Reading the key was given up.".to_owned())),
                Err(_) => reader = self.replace(reader, path),
            }
            left -= patience;
        }
        Err(unreadable(format!(
            "The key was not read from {source} within {within:?}; check the disk that it lies on. The other credentials \
             are probed meanwhile."
        )))
    }

    /// Puts a file into the queue, and says who reads.
    fn ask(&self, path: &PathBuf, reply: oneshot::Sender<Result<Key, Failure>>) -> u64 {
        let mut queue = lock(&self.queue);
        if let Some(waiting) = queue.waiting.get_mut(path) {
            waiting.retain(|it| !it.is_closed());
            waiting.push(reply);
        } else {
            queue.waiting.insert(path.clone(), vec![reply]);
            queue.next.push_back(path.clone());
        }
        queue.reader.unwrap_or_else(|| self.start(&mut queue))
    }

    /// Lets another thread read what is queued if `reader` has not come to `path` yet; says who reads now.
    fn replace(&self, reader: u64, path: &PathBuf) -> u64 {
        let mut queue = lock(&self.queue);
        if queue.reader == Some(reader) && queue.next.contains(path) {
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
        let path = {
            let mut queue = lock(shared);
            if queue.reader != Some(reader) {
                return;
            }
            let Some(path) = queue.next.pop_front() else {
                queue.reader = None;
                return;
            };
            path
        };
        let source = SecretSource::File(path);
        let key = Key::read(&source);
        let SecretSource::File(path) = source else { return };
        for reply in lock(shared).waiting.remove(&path).into_iter().flatten() {
            // Whose probe has ended needs no key.
            let _ = reply.send(key.clone());
        }
    }
}

/// Nothing that holds the lock can panic half-way through a change.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Key {
    fn read(source: &SecretSource) -> Result<Self, Failure> {
        let secret = source.read().map_err(|error| {
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

fn unreadable(message: String) -> Failure {
    failure(FailureReason::SecretUnreadable, message)
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
