//! Leases: how keys expire in etcd.
//!
//! A lease lives a little longer than the keys that are put with it must, so that keys put within that little share one. The
//! time is counted from before the lease was asked for; a key never goes before its time, and after it by a twentieth (2 s at
//! least, a minute at most) and what etcd takes to notice.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longshore_core::store::Operation;

use crate::failure::Failure;
use crate::members::Members;

/// Most keys of one lease: etcd deletes them in one step.
const KEYS_MAX: usize = 1_000;

/// Longest time to live that etcd counts; what lives longer lives for ever.
const SECONDS_MAX: u64 = 9_000_000_000;

#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// The lease that further keys join, by the seconds that they live.
    open: Mutex<BTreeMap<u64, Lease>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    /// By the clock, from before it was asked for.
    asked: Duration,
    slack: Duration,
    keys: usize,
}

impl Lease {
    /// Whether keys put now could go before their time.
    pub(crate) fn is_late(&self, now: Duration) -> bool {
        now.saturating_sub(self.asked) > self.slack
    }

    /// Whether further keys may still join.
    fn takes(&self, keys: usize, now: Duration) -> bool {
        self.keys + keys <= KEYS_MAX && !self.is_late(now + self.slack / 2)
    }
}

/// The whole seconds that a put asks for; `None` if its key stays.
pub(crate) fn seconds(operation: &Operation) -> Option<u64> {
    let Operation::Put { ttl: Some(ttl), .. } = operation else { return None };
    let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    (seconds <= SECONDS_MAX).then_some(seconds)
}

impl Leases {
    /// A lease for so many keys that live so many seconds.
    pub(crate) async fn get(&self, seconds: u64, keys: usize, members: &Members) -> Result<Lease, Failure> {
        let now = members.clock().elapsed();
        if let Some(lease) = self.lock().get_mut(&seconds).filter(|lease| lease.takes(keys, now)) {
            lease.keys += keys;
            return Ok(*lease);
        }
        let slack = Duration::from_secs((seconds / 20).clamp(2, 60));
        let length = i64::try_from(seconds + slack.as_secs()).unwrap_or(i64::MAX);
        // One that is granted and not heard of expires by itself, so asking twice does no harm.
        let granted = members.once(|mut member| async move { member.lease.grant(length, None).await }).await?;
        let lease = Lease { id: granted.id(), asked: now, slack, keys };
        let mut open = self.lock();
        open.retain(|_, lease| lease.takes(1, now));
        open.insert(seconds, lease);
        Ok(lease)
    }

    /// Gives a lease its whole time anew.
    pub(crate) async fn renew(lease: Lease, members: &Members) -> Result<(), Failure> {
        members.read(|mut member| async move { member.lease.keep_alive(lease.id).await.map(drop) }).await
    }

    /// No key joins this lease any more.
    pub(crate) fn forget(&self, id: i64) {
        self.lock().retain(|_, lease| lease.id != id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Lease>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_takes_keys_while_they_would_live_long_enough() {
        let second = Duration::from_secs;
        let lease = Lease { id: 1, asked: second(100), slack: second(2), keys: 900 };
        assert!(lease.takes(100, second(101)));
        assert!(!lease.takes(101, second(101)), "it has keys enough");
        assert!(!lease.takes(1, second(102)), "half of its slack is gone");
        assert!(!lease.is_late(second(102)));
        assert!(lease.is_late(Duration::from_millis(102_001)));
    }

    #[test]
    fn parts_of_seconds_count_whole_and_what_etcd_cannot_count_stays() {
        let put = |ttl| Operation::Put { key: "/a".into(), value: "".into(), ttl };
        assert_eq!(seconds(&put(Some(Duration::from_millis(1_001)))), Some(2));
        assert_eq!(seconds(&put(Some(Duration::from_secs(3)))), Some(3));
        assert_eq!(seconds(&put(Some(Duration::MAX))), None);
        assert_eq!(seconds(&put(None)), None);
        assert_eq!(seconds(&Operation::Delete { key: "/a".into() }), None);
    }
}
