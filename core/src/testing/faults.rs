//! Wrappers that make good implementations fail, reproducibly.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::clock::{Clock, SystemClock};
use crate::store::{
    Committed, Error, KeyValue, ListOptions, Page, Revision, Snapshot, Status, Store, Transaction, WatchEvent,
    WatchStream,
};

/// What goes wrong how often; each rate is a probability from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// A call fails with [`Error::Unavailable`] before it reached the store.
    pub unavailable_before: f64,
    /// A commit happens, and fails with [`Error::Unavailable`] all the same.
    pub unavailable_after: f64,
    /// A call is delayed, before or after it reaches the store.
    pub delay: f64,
    /// The longest delay.
    pub delay_max: Duration,
    /// A watch is cut with [`Error::Lagged`] in place of an event.
    pub cut_watch: f64,
}

impl Faults {
    /// None at all.
    pub fn none() -> Self {
        Self { unavailable_before: 0.0, unavailable_after: 0.0, delay: 0.0, delay_max: Duration::ZERO, cut_watch: 0.0 }
    }

    /// A bad day: a call in ten fails, half of the failed commits have happened, some calls take longer, watches are cut.
    pub fn some() -> Self {
        Self {
            unavailable_before: 0.05,
            unavailable_after: 0.05,
            delay: 0.05,
            delay_max: Duration::from_millis(2),
            cut_watch: 0.05,
        }
    }
}

/// A [`Store`] that injects faults into another. The same seed and the same order of calls give the same faults.
///
/// It keeps the store's contract: a commit whose outcome it hides answers [`Error::Unavailable`], a watch that it cuts
/// ends with [`Error::Lagged`].
#[derive(Debug)]
pub struct FaultyStore {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    dice: Arc<Dice>,
}

#[derive(Debug)]
struct Dice {
    state: Mutex<(Faults, Pcg64)>,
}

impl FaultyStore {
    /// Faults from this seed; delays by the machine's clock.
    pub fn new(store: Arc<dyn Store>, faults: Faults, seed: u64) -> Self {
        Self::with_clock(store, faults, seed, Arc::new(SystemClock::new()))
    }

    /// Faults from this seed; delays by this clock (a virtual one must be moved on by somebody).
    pub fn with_clock(store: Arc<dyn Store>, faults: Faults, seed: u64, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new((faults, Pcg64::seed_from_u64(seed)));
        Self { store, clock, dice: Arc::new(Dice { state }) }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.dice.lock().0 = faults;
    }

    async fn before(&self, call: &str) -> Result<(), Error> {
        self.delay().await;
        if self.dice.roll(|faults| faults.unavailable_before) {
            return Err(Error::Unavailable { reason: format!("injected before {call}") });
        }
        Ok(())
    }

    async fn delay(&self) {
        let delay = self.dice.delay();
        if !delay.is_zero() {
            self.clock.sleep(delay).await;
        }
    }
}

impl Dice {
    fn lock(&self) -> MutexGuard<'_, (Faults, Pcg64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll(&self, rate: impl Fn(&Faults) -> f64) -> bool {
        let (faults, random) = &mut *self.lock();
        random.random_bool(rate(faults).clamp(0.0, 1.0))
    }

    fn delay(&self) -> Duration {
        let (faults, random) = &mut *self.lock();
        if random.random_bool(faults.delay.clamp(0.0, 1.0)) {
            faults.delay_max.mul_f64(random.random_range(0.0..=1.0))
        } else {
            Duration::ZERO
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn get(&self, key: &str) -> Result<Snapshot<Option<KeyValue>>, Error> {
        self.before("get").await?;
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error> {
        self.before("list").await?;
        self.store.list(prefix, options).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, Error> {
        self.before("commit").await?;
        let outcome = self.store.commit(transaction).await?;
        self.delay().await;
        if self.dice.roll(|faults| faults.unavailable_after) {
            return Err(Error::Unavailable { reason: "injected after commit".to_owned() });
        }
        Ok(outcome)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        self.before("watch").await?;
        let inner = self.store.watch(prefix, after).await?;
        let dice = Arc::clone(&self.dice);
        let state = (Some(inner), after);
        let cut = futures::stream::unfold(state, move |(inner, last)| {
            let dice = Arc::clone(&dice);
            async move {
                let mut inner = inner?;
                let event = inner.next().await?;
                if dice.roll(|faults| faults.cut_watch) {
                    return Some((Err(Error::Lagged { last }), (None, last)));
                }
                let last = match &event {
                    Ok(WatchEvent::Changes { revision, .. } | WatchEvent::Progress(revision)) => *revision,
                    Err(_) => last,
                };
                Some((event, (Some(inner), last)))
            }
        });
        Ok(cut.boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.before("compact").await?;
        self.store.compact(revision).await
    }

    async fn status(&self) -> Result<Status, Error> {
        self.before("status").await?;
        self.store.status().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    async fn outcomes(seed: u64) -> Vec<bool> {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()), Faults::some(), seed);
        let mut outcomes = Vec::new();
        for index in 0..200 {
            outcomes.push(store.commit(Transaction::new().put("/a", index.to_string())).await.is_ok());
        }
        outcomes
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_faults() {
        let (first, again, other) = (outcomes(1).await, outcomes(1).await, outcomes(2).await);
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert!(first.contains(&false) && first.contains(&true));
    }

    #[tokio::test]
    async fn a_commit_may_have_happened_though_it_failed() {
        let store = Arc::new(MemoryStore::new());
        let faulty = FaultyStore::new(store.clone(), Faults { unavailable_after: 1.0, ..Faults::none() }, 0);
        let outcome = faulty.commit(Transaction::new().put("/a", "x")).await;
        assert!(matches!(outcome, Err(Error::Unavailable { .. })));
        assert!(store.get("/a").await.unwrap().value.is_some());
        faulty.set_faults(Faults { unavailable_before: 1.0, ..Faults::none() });
        assert!(faulty.commit(Transaction::new().put("/b", "x")).await.is_err());
        assert!(store.get("/b").await.unwrap().value.is_none());
    }
}
