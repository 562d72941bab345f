//! The recent past of a store: what changed, kept in one bounded ring that all watches read from.
//!
//! A building block for implementations of [`Store`](super::Store). The implementation publishes each commit here once;
//! the ring serves watches (each holds only a place in it, never a queue of its own), and lists at a past revision
//! (the values before each change are in the ring, so a listing of now can be turned back). When the ring is full, the
//! oldest revisions are forgotten, which readers see as compaction. Memory is bounded however slow a watcher is.
//!
//! ```
//! use longshore_core::store::{Change, Commit, History, HistoryLimits};
//! let history = History::new(1, HistoryLimits::default());
//! history.publish(vec![Commit {
//!     revision: 2,
//!     changes: vec![Change { key: "/a".into(), value: Some("x".into()), previous: None, revision: 2, created: 2 }],
//! }]);
//! assert_eq!(history.revision(), 2);
//! assert!(history.overlay("/a", 1, 2)?.contains_key("/a"));
//! # Ok::<(), longshore_core::store::Error>(())
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt};

use super::{Change, Error, KeyValue, Revision, WatchEvent, WatchStream};

/// How much of the past to keep. Whichever limit is reached first drops the oldest commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Most changes (of one key each) kept.
    pub changes_max: usize,
    /// Most bytes of keys and values kept, previous values included.
    pub bytes_max: usize,
}

impl Default for HistoryLimits {
    /// 100,000 changes and 16 MiB.
    fn default() -> Self {
        Self { changes_max: 100_000, bytes_max: 16 << 20 }
    }
}

/// All that one revision changed, in the order of the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The revision that the commit took.
    pub revision: Revision,
    /// Its changes, never empty.
    pub changes: Vec<Change>,
}

impl Commit {
    fn bytes(&self) -> usize {
        self.changes.iter().map(change_bytes).sum()
    }
}

/// A watch that has seen this many revisions pass that do not concern it is woken to say so.
const PROGRESS_REVISIONS: u64 = 256;

/// Most commits that a watch takes from the ring at once, so that it holds the lock only briefly.
const BATCH_COMMITS: usize = 64;

/// The recent past and the watches that read it; clones share it.
#[derive(Debug, Clone)]
pub struct History {
    shared: Arc<Mutex<Ring>>,
}

#[derive(Debug)]
struct Ring {
    limits: HistoryLimits,
    commits: VecDeque<Arc<Commit>>,
    changes: usize,
    bytes: usize,
    revision: Revision,
    /// Lists before this revision, and watches from before it, are refused.
    compacted: Revision,
    /// The part of `compacted` that somebody asked for; beyond it the ring was full.
    compacted_by_request: Revision,
    closed: bool,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
}

/// A watch's place in the ring.
#[derive(Debug)]
struct Watcher {
    prefix: String,
    /// The first revision that concerns this watch and is not delivered yet.
    pending: Option<Revision>,
    /// The last revision that a progress event named.
    progress: Revision,
    waker: Option<Waker>,
}

impl History {
    /// A history that begins at `revision`: nothing before it is known. A new, empty store begins at 1.
    pub fn new(revision: Revision, limits: HistoryLimits) -> Self {
        let compacted = if revision <= 1 { 0 } else { revision };
        Self {
            shared: Arc::new(Mutex::new(Ring {
                limits,
                commits: VecDeque::new(),
                changes: 0,
                bytes: 0,
                revision,
                compacted,
                compacted_by_request: compacted,
                closed: false,
                watchers: BTreeMap::new(),
                next_watcher: 0,
            })),
        }
    }

    /// The last published revision.
    pub fn revision(&self) -> Revision {
        self.lock().revision
    }

    /// The oldest revision that can be listed or watched from; 0 if everything is still known.
    pub fn compacted(&self) -> Revision {
        self.lock().compacted
    }

    /// Bytes of keys and values in the ring.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Appends commits, in revision order, and wakes the watches that they concern, each once.
    pub fn publish(&self, commits: Vec<Commit>) {
        let mut wakers = Vec::new();
        {
            let mut ring = self.lock();
            for commit in commits {
                debug_assert!(commit.revision > ring.revision, "revisions only grow");
                debug_assert!(!commit.changes.is_empty(), "a commit without changes takes no revision");
                ring.append(commit, &mut wakers);
            }
            ring.trim();
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Wakes the watches that have not named the last revision yet, so that they do, however few revisions passed them by. For
    /// an implementation that learns of commits after they were acknowledged: somebody may be waiting for just this revision.
    pub fn tell_progress(&self) {
        let wakers: Vec<Waker> = {
            let mut ring = self.lock();
            let revision = ring.revision;
            let untold = ring.watchers.values_mut().filter(|watcher| watcher.progress < revision);
            untold.filter_map(|watcher| watcher.waker.take()).collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// What keys under `prefix` held at `revision`, for those that changed after `revision` and not after `until`:
    /// `None` if the key was absent. Laid over a listing as of `until`, this gives the listing as of `revision`.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub fn overlay(
        &self,
        prefix: &str,
        revision: Revision,
        until: Revision,
    ) -> Result<BTreeMap<String, Option<KeyValue>>, Error> {
        let mut overlay = BTreeMap::new();
        let ring = self.lock();
        if revision > until {
            return Err(Error::FutureRevision { requested: revision, current: until });
        }
        let oldest = ring.compacted.max(1);
        if revision < oldest {
            return Err(Error::Compacted { requested: revision, oldest });
        }
        for commit in ring.after(revision).take_while(|commit| commit.revision <= until) {
            for change in commit.changes.iter().filter(|change| change.key.starts_with(prefix)) {
                // The first change after the revision knows what was there before.
                if !overlay.contains_key(&change.key) {
                    overlay.insert(change.key.clone(), change.previous.clone());
                }
            }
        }
        Ok(overlay)
    }

    /// Watches changes of keys that start with `prefix` after revision `after`, as
    /// [`Store::watch`](super::Store::watch) promises.
    ///
    /// Progress comes when everything is delivered, again whenever the stream is polled after revisions that do not
    /// concern it, and unasked after 256 such revisions.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], [`Error::Closed`].
    pub fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        let mut ring = self.lock();
        if ring.closed {
            return Err(Error::Closed);
        }
        if after > ring.revision {
            return Err(Error::FutureRevision { requested: after, current: ring.revision });
        }
        if after < ring.compacted {
            return Err(Error::Compacted { requested: after, oldest: ring.compacted });
        }
        let pending = ring.after(after).find(|commit| concerns(commit, prefix)).map(|commit| commit.revision);
        let id = ring.next_watcher;
        ring.next_watcher += 1;
        ring.watchers.insert(id, Watcher { prefix: prefix.to_owned(), pending, progress: 0, waker: None });
        let watch = Watch {
            history: self.clone(),
            prefix: prefix.to_owned(),
            id,
            ready: VecDeque::new(),
            last: after,
            ended: false,
        };
        Ok(watch.boxed())
    }

    /// Forgets what happened before `revision`.
    ///
    /// # Errors
    /// [`Error::Compacted`] if more is forgotten already, [`Error::FutureRevision`].
    pub fn compact(&self, revision: Revision) -> Result<(), Error> {
        let mut ring = self.lock();
        if revision > ring.revision {
            return Err(Error::FutureRevision { requested: revision, current: ring.revision });
        }
        if revision < ring.compacted {
            return Err(Error::Compacted { requested: revision, oldest: ring.compacted });
        }
        ring.compacted_by_request = revision;
        while ring.commits.front().is_some_and(|commit| commit.revision <= revision) {
            ring.drop_oldest();
        }
        ring.compacted = revision;
        Ok(())
    }

    /// Goes on at `revision` without knowing what happened until then, as after a failure: everything before counts as
    /// compacted, and every watch ends.
    pub fn restart(&self, revision: Revision) {
        let wakers: Vec<Waker> = {
            let mut ring = self.lock();
            while !ring.commits.is_empty() {
                ring.drop_oldest();
            }
            (ring.revision, ring.compacted, ring.compacted_by_request) = (revision, revision, revision);
            for watcher in ring.watchers.values_mut() {
                watcher.pending = Some(revision);
            }
            ring.watchers.values_mut().filter_map(|watcher| watcher.waker.take()).collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Ends all watches with [`Error::Closed`], now and henceforth.
    pub fn close(&self) {
        let wakers: Vec<Waker> = {
            let mut ring = self.lock();
            ring.closed = true;
            ring.watchers.values_mut().filter_map(|watcher| watcher.waker.take()).collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// How many watches are open.
    pub fn watchers(&self) -> usize {
        self.lock().watchers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn append(&mut self, commit: Commit, wakers: &mut Vec<Waker>) {
        self.revision = commit.revision;
        for watcher in self.watchers.values_mut() {
            if concerns(&commit, &watcher.prefix) {
                watcher.pending.get_or_insert(commit.revision);
                wakers.extend(watcher.waker.take());
            } else if watcher.pending.is_none() && commit.revision >= watcher.progress + PROGRESS_REVISIONS {
                wakers.extend(watcher.waker.take());
            }
        }
        self.changes += commit.changes.len();
        self.bytes += commit.bytes();
        self.commits.push_back(Arc::new(commit));
    }

    /// Drops the oldest commits until the limits hold. The newest commit always stays.
    fn trim(&mut self) {
        while self.commits.len() > 1 && (self.changes > self.limits.changes_max || self.bytes > self.limits.bytes_max) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(commit) = self.commits.pop_front() {
            self.changes -= commit.changes.len();
            self.bytes -= commit.bytes();
            self.compacted = commit.revision;
        }
    }

    /// The commits kept that came after `revision`.
    fn after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Commit>> {
        let start = self.commits.partition_point(|commit| commit.revision <= revision);
        self.commits.range(start..)
    }
}

fn concerns(commit: &Commit, prefix: &str) -> bool {
    commit.changes.iter().any(|change| change.key.starts_with(prefix))
}

fn change_bytes(change: &Change) -> usize {
    let previous = change.previous.as_ref().map_or(0, |previous| previous.key.len() + previous.value.len());
    change.key.len() + change.value.as_ref().map_or(0, |value| value.len()) + previous + size_of::<Change>()
}

/// One running watch: what it has taken from the ring and not handed out yet, and its identity in the ring.
struct Watch {
    history: History,
    prefix: String,
    id: u64,
    ready: VecDeque<Arc<Commit>>,
    last: Revision,
    ended: bool,
}

impl Watch {
    fn event(&mut self, commit: &Commit) -> WatchEvent {
        self.last = commit.revision;
        let changes = commit.changes.iter().filter(|change| change.key.starts_with(&self.prefix)).cloned().collect();
        WatchEvent::Changes { revision: commit.revision, changes }
    }

    fn end(&mut self, error: Error) -> Poll<Option<Result<WatchEvent, Error>>> {
        self.ended = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Watch {
    type Item = Result<WatchEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(commit) = this.ready.pop_front() {
            return Poll::Ready(Some(Ok(this.event(&commit))));
        }
        let history = this.history.clone();
        let mut guard = history.lock();
        let ring = &mut *guard;
        if ring.closed {
            return this.end(Error::Closed);
        }
        let (revision, compacted, by_request) = (ring.revision, ring.compacted, ring.compacted_by_request);
        let first = match ring.watchers.get_mut(&this.id) {
            None => return this.end(Error::Closed),
            Some(watcher) => match watcher.pending {
                Some(first) => first,
                None if watcher.progress < revision => {
                    watcher.progress = revision;
                    this.last = revision;
                    return Poll::Ready(Some(Ok(WatchEvent::Progress(revision))));
                }
                None => {
                    watcher.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
            },
        };
        if first <= compacted {
            let last = this.last;
            return this.end(match first <= by_request {
                true => Error::Compacted { requested: last, oldest: compacted },
                false => Error::Lagged { last },
            });
        }
        let mut concerned = ring.after(first - 1).filter(|commit| concerns(commit, &this.prefix));
        this.ready.extend(concerned.by_ref().take(BATCH_COMMITS).cloned());
        let next = concerned.next().map(|commit| commit.revision);
        drop(concerned);
        if let Some(watcher) = ring.watchers.get_mut(&this.id) {
            watcher.pending = next;
        }
        drop(guard);
        let commit = this.ready.pop_front().expect("a pending revision is in the ring");
        Poll::Ready(Some(Ok(this.event(&commit))))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.history.lock().watchers.remove(&self.id);
    }
}
