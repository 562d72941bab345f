//! The clock of one process: its wall-clock time may be wrong, durations are those of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::clock::{Clock, VirtualClock};

/// A clock that is off by some seconds. Clones are off alike.
#[derive(Debug, Clone)]
pub struct SkewedClock {
    clock: VirtualClock,
    seconds: Arc<AtomicI64>,
}

impl SkewedClock {
    /// One that is right so far.
    pub fn new(clock: VirtualClock) -> Self {
        Self { clock, seconds: Arc::default() }
    }

    /// Steps the wall-clock time to be off by so many seconds.
    pub fn set(&self, seconds: i64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        now.checked_add(SignedDuration::from_secs(self.seconds.load(Ordering::Relaxed))).unwrap_or(now)
    }

    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}
