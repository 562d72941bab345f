//! Expiry of keys: which key runs out when, and the task that sees to it.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::Clock;

/// Keys by the moment they run out, in time since the clock's fixed point ([`Clock::elapsed`]).
#[derive(Debug, Default)]
pub struct Deadlines {
    by_time: BTreeSet<(Duration, Arc<str>)>,
    by_key: FxHashMap<Arc<str>, Duration>,
}

impl Deadlines {
    /// Sets when `key` runs out; `None` for never.
    pub fn set(&mut self, key: &str, deadline: Option<Duration>) {
        if self.by_key.is_empty() && deadline.is_none() {
            return;
        }
        if let Some((key, old)) = self.by_key.remove_entry(key) {
            self.by_time.remove(&(old, key));
        }
        if let Some(deadline) = deadline {
            let key: Arc<str> = key.into();
            self.by_time.insert((deadline, Arc::clone(&key)));
            self.by_key.insert(key, deadline);
        }
    }

    /// The keys that have run out at `now`, at most `limit`, the longest overdue first.
    pub fn due(&self, now: Duration, limit: usize) -> Vec<Arc<str>> {
        self.by_time
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .take(limit)
            .map(|(_, key)| Arc::clone(key))
            .collect()
    }

    /// Whether `key` can run out.
    pub fn contains(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// When the next key runs out.
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// How many keys can run out.
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Whether no key can run out.
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}

/// The task that deletes keys when they run out. It starts with the first key that can, and ends with the store.
#[derive(Debug)]
pub struct Expiry {
    clock: Arc<dyn Clock>,
    earlier: Arc<Notify>,
    tasks: Mutex<JoinSet<()>>,
}

impl Expiry {
    /// Expiry by this clock, idle so far.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, earlier: Arc::new(Notify::new()), tasks: Mutex::new(JoinSet::new()) }
    }

    /// The clock that deadlines are measured by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// To be called when the next deadline may have come nearer: wakes the task, or starts it on the tokio runtime of the
    /// caller (without one, it starts with the next such call inside a runtime).
    ///
    /// The task calls `expire` whenever a deadline may have passed. `expire` deletes what has run out and answers when
    /// to come again (`None`: when told), or `Err` to end the task.
    pub fn wake<F, O>(&self, mut expire: F)
    where
        F: FnMut() -> O + Send + 'static,
        O: Future<Output = Result<Option<Duration>, Ended>> + Send,
    {
        self.earlier.notify_one();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // A task that ended with its runtime is replaced.
        while tasks.try_join_next().is_some() {}
        if !tasks.is_empty() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let (clock, earlier) = (Arc::clone(&self.clock), Arc::clone(&self.earlier));
        tasks.spawn_on(
            async move {
                while let Ok(next) = expire().await {
                    wait_until(&*clock, next, &earlier).await;
                }
            },
            &runtime,
        );
    }

    /// Ends the task without waiting for it.
    pub fn abort(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// The store is gone: the expiry task has nothing left to do.
#[derive(Debug, Clone, Copy)]
pub struct Ended;

async fn wait_until(clock: &dyn Clock, deadline: Option<Duration>, earlier: &Notify) {
    let Some(deadline) = deadline else { return earlier.notified().await };
    let mut sleep = pin!(clock.sleep(deadline.saturating_sub(clock.elapsed())));
    // A virtual clock may have been moved before the sleep was registered with it: register, then look again.
    let slept = futures::poll!(&mut sleep).is_ready();
    if slept || clock.elapsed() >= deadline {
        return;
    }
    tokio::select! {
        biased;
        () = sleep => {}
        () = earlier.notified() => {}
    }
}
