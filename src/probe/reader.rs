//! Reads secrets off the thread of the monitor, because a file may lie on a network disk that does not answer.
//!
//! What is asked for at the same time is read by one thread in turn: a change of threads for each file costs more than
//! the reading. A file that hangs keeps that thread; who waits behind it is served by another, and who asks for the
//! hanging file again waits for the same answer, so a dead disk holds one thread for each of its files and no more. They
//! are threads of their own: those of the runtime are few, and names are resolved on them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::key::{Key, unreadable};
use crate::config::{Secret, SecretSource};
use crate::observation::Failure;

/// How long a file is waited for behind the one that is being read, before another thread reads it. A local disk
/// reads thousands in that time.
const PATIENCE: Duration = Duration::from_millis(200);

/// The same, while another file hangs: many on one dead disk must not use up the deadline of those behind them.
const PATIENCE_AFTER_HANG: Duration = Duration::from_millis(10);

/// The most threads that may hang at once in the whole program, reloads included. Beyond it no other takes over.
const HANGING_MAX: usize = 1000;

/// Reading a small file needs little.
const STACK_BYTES: usize = 256 * 1024;

/// How many threads hang.
static HANGING: AtomicUsize = AtomicUsize::new(0);

/// Reads secrets in turn. Its thread ends with it, unless it hangs.
#[derive(Default)]
pub(super) struct SecretReader {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something was asked for, or the reader is gone.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Files that nobody reads yet.
    next: VecDeque<SecretSource>,
    /// Who waits for which file, queued or being read.
    waiting: HashMap<SecretSource, Vec<oneshot::Sender<Result<Secret, Failure>>>>,
    /// The thread at work; one that was replaced finishes its file and takes no other.
    at_work: Option<u64>,
    /// How many threads there have been.
    threads: u64,
    /// How many of them hang.
    hanging: usize,
    /// Nobody asks any more.
    is_closed: bool,
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
        let (mut thread, mut patience) = self.ask(source, reply);
        let mut left = within;
        while !left.is_zero() {
            patience = patience.min(left);
            match timeout(patience, &mut answer).await {
                Ok(Ok(secret)) => return secret,
                Ok(Err(_)) => {
                    return Err(unreadable("Reading the secret was given up.".to_owned()));
                }
                Err(_) => {
                    left -= patience;
                    (thread, patience) = self.replace(thread, source);
                }
            }
        }
        Err(unreadable(format!(
            "The secret was not read from {source} within {within:?}; check the disk that it lies on. The other credentials \
             are probed meanwhile."
        )))
    }

    /// Reads an API key, or gives up after about `within`.
    pub(super) async fn read_key(
        &self,
        source: &SecretSource,
        within: Duration,
    ) -> Result<Key, Failure> {
        Key::new(&self.read(source, within).await?, source)
    }

    /// Puts a file into the queue; says which thread reads, and how long to wait for it.
    fn ask(
        &self,
        source: &SecretSource,
        reply: oneshot::Sender<Result<Secret, Failure>>,
    ) -> (u64, Duration) {
        let mut queue = self.shared.lock();
        if let Some(waiting) = queue.waiting.get_mut(source) {
            waiting.retain(|it| !it.is_closed());
            waiting.push(reply);
        } else {
            queue.waiting.insert(source.clone(), vec![reply]);
            queue.next.push_back(source.clone());
        }
        match queue.at_work {
            Some(_) => self.shared.changed.notify_one(),
            None => self.start(&mut queue),
        }
        queue.who()
    }

    /// Lets another thread read what is queued if `thread` has not come to `source` yet; says which reads now, and
    /// how long to wait for it.
    fn replace(&self, thread: u64, source: &SecretSource) -> (u64, Duration) {
        let mut queue = self.shared.lock();
        let is_stuck = queue.at_work == Some(thread) && queue.next.contains(source);
        if is_stuck && HANGING.load(Ordering::Relaxed) < HANGING_MAX {
            HANGING.fetch_add(1, Ordering::Relaxed);
            queue.hanging += 1;
            self.start(&mut queue);
        }
        queue.who()
    }

    fn start(&self, queue: &mut Queue) {
        queue.threads += 1;
        let (shared, thread) = (self.shared.clone(), queue.threads);
        let started = std::thread::Builder::new()
            .name("secrets".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || read_in_turn(&shared, thread));
        // Where no thread can be had, who asks next tries again.
        queue.at_work = started.is_ok().then_some(thread);
    }
}

impl Drop for SecretReader {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl Queue {
    fn who(&self) -> (u64, Duration) {
        let patience = if self.hanging == 0 { PATIENCE } else { PATIENCE_AFTER_HANG };
        (self.threads, patience)
    }
}

impl Shared {
    /// Nothing that holds the lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads file after file until nobody asks any more, or another thread has taken over.
fn read_in_turn(shared: &Shared, thread: u64) {
    let mut queue = shared.lock();
    loop {
        if queue.at_work != Some(thread) {
            queue.hanging -= 1;
            HANGING.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        if queue.is_closed {
            return;
        }
        let Some(source) = queue.next.pop_front() else {
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(queue);
        let secret = read(&source);
        queue = shared.lock();
        for reply in queue.waiting.remove(&source).into_iter().flatten() {
            // Whose probe has ended needs no secret.
            let _ = reply.send(secret.clone());
        }
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
