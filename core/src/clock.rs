//! Time as a parameter: a real clock in production, a virtual one in tests and simulations.
//!
//! # Contract
//! `now` is wall-clock time and may jump; `elapsed` never goes back; `sleep` returns no earlier than asked by
//! `elapsed`. A virtual clock moves only when told to, so code that waits on it is deterministic.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::oneshot;

/// A source of time.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Wall-clock time, for what is written into objects.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point, for measuring durations.
    fn elapsed(&self) -> Duration;
    /// Waits. Dropping the future cancels the wait.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock. Needs a tokio runtime with time enabled to sleep.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::elapsed`] starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Fewer sleepers than this are never searched for those whose future was dropped.
const CROWD_MIN: usize = 64;

/// A clock that moves only when told to. Clones share the time.
#[derive(Debug, Clone, Default)]
pub struct VirtualClock {
    state: Arc<Mutex<VirtualState>>,
}

#[derive(Debug, Default)]
struct VirtualState {
    elapsed: Duration,
    next: u64,
    /// Sleepers by the time they wake and the order in which they came. Those whose future was dropped stay for a while.
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    /// When there are so many, those that were dropped are looked for.
    crowd: usize,
}

impl VirtualClock {
    /// A clock that stands at 2025-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves time on and wakes, in order, everyone whose time has come.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.lock();
        state.elapsed += duration;
        state.wake();
    }

    /// Moves time to the next moment at which somebody wakes, and says how far that was; `None` if nobody sleeps.
    pub fn advance_to_next(&self) -> Option<Duration> {
        let mut state = self.lock();
        let wake = loop {
            let next = state.sleepers.first_entry()?;
            // A sleeper whose future was dropped no longer counts.
            if !next.get().is_closed() {
                break next.key().0;
            }
            next.remove();
        };
        let step = wake.saturating_sub(state.elapsed);
        state.elapsed += step;
        state.wake();
        Some(step)
    }

    /// How many are asleep.
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.values().filter(|waker| !waker.is_closed()).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VirtualState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VirtualState {
    fn wake(&mut self) {
        while let Some(entry) = self.sleepers.first_entry() {
            if entry.key().0 > self.elapsed {
                break;
            }
            // The sleeper may have been dropped; nobody is left to be told.
            let _ = entry.remove().send(());
        }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        const START: Timestamp = Timestamp::constant(1_735_689_600, 0);
        START + self.lock().elapsed
    }

    fn elapsed(&self) -> Duration {
        self.lock().elapsed
    }

    async fn sleep(&self, duration: Duration) {
        let woken = {
            let mut state = self.lock();
            if duration.is_zero() {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            let key = (state.elapsed + duration, state.next);
            state.next += 1;
            state.sleepers.insert(key, sender);
            if state.sleepers.len() > state.crowd {
                state.sleepers.retain(|_, waker| !waker.is_closed());
                state.crowd = 2 * state.sleepers.len() + CROWD_MIN;
            }
            receiver
        };
        // The sender lives in the state, which this clock keeps alive.
        let _ = woken.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn virtual_sleepers_wake_in_order() {
        let clock = VirtualClock::new();
        let start = clock.now();
        let (late, early) = (clock.sleep(Duration::from_secs(2)), clock.sleep(Duration::from_secs(1)));
        tokio::pin!(late, early);
        assert!(futures::poll!(&mut late).is_pending());
        assert!(futures::poll!(&mut early).is_pending());
        assert_eq!(clock.advance_to_next(), Some(Duration::from_secs(1)));
        assert!(futures::poll!(&mut early).is_ready());
        assert!(futures::poll!(&mut late).is_pending());
        clock.advance(Duration::from_secs(5));
        assert!(futures::poll!(&mut late).is_ready());
        assert_eq!(clock.now().duration_since(start).as_secs(), 6);
        assert_eq!(clock.sleepers(), 0);
    }

    #[tokio::test]
    async fn sleepers_that_were_dropped_take_no_room_for_long_and_move_no_time() {
        let clock = VirtualClock::new();
        for _ in 0..10_000 {
            let mut given_up = clock.sleep(Duration::from_secs(1));
            assert!(futures::poll!(&mut given_up).is_pending());
        }
        assert!(clock.lock().sleepers.len() < 200, "{}", clock.lock().sleepers.len());
        assert_eq!(clock.advance_to_next(), None);
        let mut last = clock.sleep(Duration::from_secs(2));
        assert!(futures::poll!(&mut last).is_pending());
        assert_eq!(clock.advance_to_next(), Some(Duration::from_secs(2)));
    }
}
