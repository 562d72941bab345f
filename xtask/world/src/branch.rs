//! One server's way to the store: what it is told may come late, and there may be a bug, so that it is known that it is found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use longshore_core::clock::Clock;
use longshore_core::store::{
    Committed, Error, KeyValue, ListOptions, Operation, Page, Revision, Snapshot, Status, Store, Transaction,
    WatchEvent, WatchStream,
};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The store acknowledges a write now and then that it does not make.
    LostWrites,
    /// A server's watch of the store leaves out an event now and then.
    SkippedEvents,
    /// Servers do not look at fences.
    NoFences,
    /// A server's store makes a write now and then although its comparisons fail.
    Unconditional,
}

/// What one of so many writes or events meets.
const ONE_OF: u64 = 20;

/// How many different delays there are; each event of a watch has the next.
const DELAYS: u64 = 5;

/// The way of one server.
#[derive(Debug)]
pub struct Branch {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    sabotage: Option<Sabotage>,
    count: Arc<AtomicU64>,
    /// The longest that an event of a watch is late, in milliseconds.
    late: Arc<AtomicU64>,
}

impl Branch {
    /// A way to a store, on which nothing is late so far.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, sabotage: Option<Sabotage>) -> Self {
        Self { store, clock, sabotage, count: Arc::default(), late: Arc::default() }
    }

    /// From now on events of watches are late by so much, or less.
    pub fn set_late(&self, longest: Duration) {
        self.late.store(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn is_next(count: &AtomicU64) -> bool {
    count.fetch_add(1, Ordering::Relaxed) % ONE_OF == ONE_OF - 1
}

/// Keys whose writes are lost or made without conditions: those of registers.
fn concerns(transaction: &Transaction) -> bool {
    transaction.operations.iter().any(|put| put.key().contains("/configmaps/default/r"))
}

#[async_trait]
impl Store for Branch {
    async fn get(&self, key: &str) -> Result<Snapshot<Option<KeyValue>>, Error> {
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error> {
        self.store.list(prefix, options).await
    }

    async fn commit(&self, mut transaction: Transaction) -> Result<Committed, Error> {
        if concerns(&transaction) {
            match self.sabotage {
                Some(Sabotage::LostWrites) if self.count.fetch_add(1, Ordering::Relaxed) % 3 == 2 => {
                    // A revision passes, as if the write had taken it.
                    transaction.operations = vec![Operation::Put { key: "/lost".into(), value: "x".into(), ttl: None }];
                }
                Some(Sabotage::Unconditional) => transaction.compare.clear(),
                _ => {}
            }
        }
        self.store.commit(transaction).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        let events = self.store.watch(prefix, after).await?;
        let (clock, late, passed) = (self.clock.clone(), self.late.clone(), Arc::new(AtomicU64::new(0)));
        let events = events.then(move |event| {
            let number = passed.fetch_add(1, Ordering::Relaxed);
            let by = Duration::from_millis(late.load(Ordering::Relaxed) * (number % DELAYS) / DELAYS);
            let clock = clock.clone();
            async move {
                clock.sleep(by).await;
                event
            }
        });
        if self.sabotage != Some(Sabotage::SkippedEvents) {
            return Ok(events.boxed());
        }
        let count = self.count.clone();
        let told = events.filter(move |event| {
            let skipped = matches!(event, Ok(WatchEvent::Changes { .. })) && is_next(&count);
            std::future::ready(!skipped)
        });
        Ok(told.boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }

    async fn status(&self) -> Result<Status, Error> {
        self.store.status().await
    }
}
