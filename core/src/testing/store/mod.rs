//! The conformance suite of [`Store`]: every clause of the [contract](crate::store) as cases that any implementation can
//! run, by themselves and with faults injected by [`super::faults`].
//!
//! An implementation's test file needs one line. Each case gets a fresh, empty store and becomes a test of its own:
//!
//! ```
//! # mod conformance {
//! use std::sync::Arc;
//! use longshore_core::store::MemoryStore;
//!
//! longshore_core::store_conformance!(|| async { Arc::new(MemoryStore::new()) });
//! # }
//! ```
//!
//! What cannot be known from the trait (a virtual clock, how to open a durable store again) is told by a [`Subject`].

#![allow(clippy::unwrap_used, reason = "the cases are tests: a panic is how they fail")]

pub mod commits;
pub mod compaction;
pub mod expiry;
pub mod invariants;
pub mod model;
pub mod reads;
pub mod watches;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;

use crate::clock::{Clock, SystemClock, VirtualClock};
use crate::store::{
    Change, Committed, Error, KeyValue, ListOptions, Revision, Store, Transaction, WatchEvent, WatchStream,
};

/// A case that runs this long hangs.
const CASE_MAX: Duration = Duration::from_secs(60);

/// An implementation under test: a new, empty store and what the suite must know of it.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock that the store's keys expire by; without one, cases about expiry wait for the machine's clock.
    pub clock: Option<VirtualClock>,
    /// For durable stores: opens the store again after it was dropped.
    pub reopen: Option<Reopen>,
    /// What must live as long as the store, such as its temporary directory.
    pub keep: Vec<Box<dyn Any + Send + Sync>>,
}

/// Opens a durable store again.
pub type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>;

impl Subject {
    /// A subject of which nothing more is known than its store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, clock: None, reopen: None, keep: Vec::new() }
    }

    /// Names the clock that keys expire by.
    #[must_use]
    pub fn with_clock(mut self, clock: VirtualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Says how to open the store again.
    #[must_use]
    pub fn with_reopen(mut self, reopen: Reopen) -> Self {
        self.reopen = Some(reopen);
        self
    }

    /// Keeps something alive as long as the subject.
    #[must_use]
    pub fn keeping(mut self, thing: impl Any + Send + Sync) -> Self {
        self.keep.push(Box::new(thing));
        self
    }

    /// Lets time pass for the store.
    async fn pass(&self, duration: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(duration),
            None => SystemClock::new().sleep(duration).await,
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Subject").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<S: Store> From<Arc<S>> for Subject {
    fn from(store: Arc<S>) -> Self {
        Self::new(store)
    }
}

impl From<Arc<dyn Store>> for Subject {
    fn from(store: Arc<dyn Store>) -> Self {
        Self::new(store)
    }
}

/// Runs one case on a runtime of its own; what [`store_conformance!`](crate::store_conformance) expands to.
///
/// # Panics
/// When the case fails or hangs.
pub fn run<S, M, C>(make: impl FnOnce() -> M, case: impl FnOnce(Subject) -> C)
where
    S: Into<Subject>,
    M: Future<Output = S>,
    C: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for the case can be built");
    runtime.block_on(async {
        let subject = make().await.into();
        tokio::time::timeout(CASE_MAX, case(subject)).await.expect("the case hangs");
    });
}

/// Makes a test of every case of the store conformance suite, for the stores that the given closure makes.
///
/// The closure takes nothing and answers a future of a fresh, empty `Arc<impl Store>`, `Arc<dyn Store>` or
/// [`Subject`](crate::testing::store::Subject). See [`testing::store`](crate::testing::store).
#[macro_export]
macro_rules! store_conformance {
    ($make:expr) => {
        $crate::store_conformance! { @cases $make;
            reads {
                clause_1_a_new_store_is_empty_at_revision_1
                clause_2_a_get_sees_every_acknowledged_commit
                clause_2_a_list_is_in_key_order_and_sees_every_acknowledged_commit
                clause_2_a_prefix_is_bytes_and_ends_where_it_ends
                clause_2_pages_cover_every_key_once
                clause_2_a_page_may_start_anywhere
                clause_2_a_list_at_a_past_revision_shows_the_past
                clause_2_pages_at_one_revision_ignore_what_happens_meanwhile
                clause_2_a_future_revision_is_refused
            }
            commits {
                clause_1_each_commit_takes_the_next_revision
                clause_1_a_commit_that_changes_nothing_takes_no_revision
                clause_1_created_is_kept_until_the_key_is_deleted
                clause_3_a_failed_comparison_changes_nothing
                clause_3_comparisons_name_revision_or_absence
                clause_3_the_first_failed_comparison_is_named
                clause_3_everything_in_a_commit_happens_together
                clause_3_limits_are_exact_and_beyond_them_nothing_happens
                clause_3_any_key_and_value_is_stored_as_it_is
                clause_4_what_was_acknowledged_is_there_after_opening_again
                clause_7_dropped_commits_leave_the_store_whole
            }
            watches {
                clause_5_a_watch_from_the_past_delivers_what_happened_since
                clause_5_a_watch_from_now_misses_nothing_committed_after_it_was_made
                clause_5_a_watch_from_the_future_is_refused
                clause_5_only_the_prefix_is_delivered
                clause_5_changes_of_one_commit_come_together_in_its_order
                clause_5_changes_tell_what_was_before
                clause_5_progress_comes_after_the_backlog
                clause_5_every_watch_sees_the_same
                clause_5_a_dropped_watch_disturbs_nobody
                clause_5_a_slow_watch_skips_nothing
            }
            compaction {
                clause_5_lists_and_watches_before_the_compacted_revision_are_refused
                clause_5_compaction_keeps_current_values
                clause_5_compaction_is_bounded_by_the_present_and_never_undone
                clause_5_pages_whose_revision_is_compacted_end
                clause_5_a_watch_that_has_seen_everything_survives_compaction
                clause_5_a_watch_that_compaction_overtakes_ends_or_delivers_everything
            }
            expiry {
                clause_8_a_key_is_deleted_after_its_time_and_not_before
                clause_8_a_put_without_time_makes_the_key_permanent
                clause_8_a_new_time_replaces_the_old
                clause_8_a_deleted_key_takes_its_time_with_it
                clause_8_many_keys_expire_at_once
            }
            invariants {
                concurrent_writers_get_one_revision_each
                no_acknowledged_commit_is_lost
                no_increment_is_lost
                watches_rebuild_what_lists_show
            }
            model {
                random_histories_agree_with_the_model
            }
        }

        mod under_faults {
            use super::*;
            use $crate::testing::faults::{Faults, FaultyStore};

            $crate::store_conformance! { @faulty $make;
                concurrent_writers_get_one_revision_each
                no_acknowledged_commit_is_lost
                no_increment_is_lost
                watches_rebuild_what_lists_show
            }
        }
    };
    (@cases $make:expr; $($module:ident { $($case:ident)* })*) => {
        $($(
            #[test]
            fn $case() {
                $crate::testing::store::run($make, $crate::testing::store::$module::$case);
            }
        )*)*
    };
    (@faulty $make:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                for seed in 0..4 {
                    $crate::testing::store::run($make, |subject| async move {
                        let mut subject: $crate::testing::store::Subject = subject;
                        subject.store = ::std::sync::Arc::new(FaultyStore::new(subject.store, Faults::some(), seed));
                        $crate::testing::store::invariants::$case(subject).await;
                    });
                }
            }
        )*
    };
}

// === what cases share ===

fn no_options() -> ListOptions {
    ListOptions::default()
}

fn at(revision: Revision) -> ListOptions {
    ListOptions { revision: Some(revision), ..ListOptions::default() }
}

/// Commits what must succeed, and answers the revision.
async fn done(store: &dyn Store, transaction: Transaction) -> Revision {
    match store.commit(transaction).await.expect("the commit is possible") {
        Committed::Done(revision) => revision,
        Committed::Conflict { key, current } => panic!("unexpected conflict at {key}: {current:?}"),
    }
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    done(store, Transaction::new().put(key, value.to_owned())).await
}

async fn delete(store: &dyn Store, key: &str) -> Revision {
    done(store, Transaction::new().delete(key)).await
}

async fn get(store: &dyn Store, key: &str) -> Option<KeyValue> {
    store.get(key).await.expect("the get is possible").value
}

/// Keys and values as text.
async fn listed(store: &dyn Store, prefix: &str, options: ListOptions) -> Vec<(String, String)> {
    texts(&store.list(prefix, options).await.expect("the list is possible").entries)
}

fn texts(entries: &[KeyValue]) -> Vec<(String, String)> {
    entries.iter().map(|entry| (entry.key.clone(), String::from_utf8_lossy(&entry.value).into_owned())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn revision(store: &dyn Store) -> Revision {
    store.status().await.expect("the status is known").revision
}

/// The next commit that a watch delivers.
async fn next_changes(watch: &mut WatchStream) -> (Revision, Vec<Change>) {
    loop {
        match watch.next().await.expect("the watch goes on") {
            Ok(WatchEvent::Changes { revision, changes }) => return (revision, changes),
            Ok(WatchEvent::Progress(_)) => {}
            Err(error) => panic!("the watch ended: {error}"),
        }
    }
}

/// The next so many commits that a watch delivers.
async fn take_changes(watch: &mut WatchStream, count: usize) -> Vec<(Revision, Vec<Change>)> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        taken.push(next_changes(watch).await);
    }
    taken
}

/// What a watch delivers until it says that it has delivered everything up to `until`.
async fn until_progress(watch: &mut WatchStream, until: Revision) -> Result<Vec<(Revision, Vec<Change>)>, Error> {
    let mut taken = Vec::new();
    loop {
        match watch.next().await.expect("a watch ends only with an error")? {
            WatchEvent::Changes { revision, changes } => taken.push((revision, changes)),
            WatchEvent::Progress(revision) if revision >= until => return Ok(taken),
            WatchEvent::Progress(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
