//! Keeps what arrived, and wakes whoever waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// The most items that are kept; the oldest goes first. A demo runs for days and must not grow.
const ITEMS_MAX: usize = 1000;

/// A bounded list of what arrived, oldest first, each item with its number, counted from 1.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    items: Mutex<Items<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Items<T> {
    received: u64,
    kept: VecDeque<(u64, T)>,
}

impl<T: Clone> Shelf<T> {
    pub(super) fn new() -> Arc<Self> {
        let items = Mutex::new(Items { received: 0, kept: VecDeque::new() });
        Arc::new(Self { items, arrived: Notify::new() })
    }

    pub(super) fn put(&self, item: T) {
        let mut items = self.lock();
        if items.kept.len() == ITEMS_MAX {
            items.kept.pop_front();
        }
        items.received += 1;
        let number = items.received;
        items.kept.push_back((number, item));
        drop(items);
        self.arrived.notify_waiters();
    }

    /// Everything that is kept, oldest first.
    pub(super) fn all(&self) -> Vec<T> {
        self.lock().kept.iter().map(|(_, item)| item.clone()).collect()
    }

    /// Everything that is kept with its number, newest first.
    pub(super) fn numbered(&self) -> Vec<(u64, T)> {
        self.lock().kept.iter().rev().cloned().collect()
    }

    pub(super) fn get(&self, number: u64) -> Option<T> {
        self.lock().kept.iter().find(|(it, _)| *it == number).map(|(_, item)| item.clone())
    }

    /// Everything that is kept, oldest first; the shelf is empty then, and counts from zero.
    pub(super) fn take(&self) -> Vec<T> {
        let mut items = self.lock();
        items.received = 0;
        items.kept.drain(..).map(|(_, item)| item).collect()
    }

    pub(super) fn clear(&self) {
        let mut items = self.lock();
        items.kept.clear();
        items.received = 0;
    }

    /// Waits until `count` items arrived since the start or the last `clear`, then returns what is kept.
    pub(super) async fn wait_for(&self, count: u64, patience: Duration) -> anyhow::Result<Vec<T>> {
        let enough = async {
            loop {
                let mut arrived = std::pin::pin!(self.arrived.notified());
                // Listening begins before the look, so an item that arrives between the two is not missed.
                arrived.as_mut().enable();
                if count <= self.lock().received {
                    return self.all();
                }
                arrived.await;
            }
        };
        match tokio::time::timeout(patience, enough).await {
            Ok(items) => Ok(items),
            Err(_) => {
                let received = self.lock().received;
                anyhow::bail!("waited {patience:?} for {count} messages, {received} arrived")
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Items<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
