//! Watches of one kind: a place in the window of recent events, and what the selectors make of each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, Either, select};
use longshore_core::client::{Error, WatchEvent, WatchStream};
use longshore_core::clock::Clock;
use longshore_core::store::Revision;
use tokio::sync::watch as signal;

use super::handoff::at_revision;
use super::{Event, KindCache};
use crate::selector::Filter;
use crate::status;

/// Most events taken from the window at once, so that its lock is held only briefly.
const BATCH: usize = 64;

struct Watch {
    cache: Arc<KindCache>,
    changed: signal::Receiver<Revision>,
    filter: Filter,
    /// Keys of interest start with this.
    prefix: String,
    last: Revision,
    ready: VecDeque<WatchEvent<longshore_core::kind::DynObject>>,
    ended: bool,
    bookmarks: Option<(Bookmarks, BoxFuture<'static, ()>)>,
}

/// How a watcher is told from time to time how far it is, though nothing changes for it.
#[derive(Debug)]
pub(crate) struct Bookmarks {
    pub(crate) every: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    /// The revision up to which the cache is complete.
    pub(crate) revision: signal::Receiver<Revision>,
}

impl Bookmarks {
    fn timer(&self) -> BoxFuture<'static, ()> {
        let (clock, every) = (Arc::clone(&self.clock), self.every);
        Box::pin(async move { clock.sleep(every).await })
    }
}

/// Watches changes after `after`; `initial` events come first.
///
/// # Errors
/// 410 if `after` is older than the window.
pub(crate) fn watch(
    cache: &Arc<KindCache>,
    namespace: Option<&str>,
    filter: Filter,
    after: Revision,
    initial: VecDeque<WatchEvent<longshore_core::kind::DynObject>>,
    bookmarks: Option<Bookmarks>,
) -> Result<WatchStream, Error> {
    let oldest = cache.read().oldest;
    if after < oldest {
        return Err(too_old(after, oldest));
    }
    let watch = Watch {
        changed: cache.changed.subscribe(),
        cache: Arc::clone(cache),
        filter,
        prefix: namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default(),
        last: after,
        ready: initial,
        ended: false,
        bookmarks: bookmarks.map(|bookmarks| {
            let timer = bookmarks.timer();
            (bookmarks, timer)
        }),
    };
    Ok(futures::stream::unfold(watch, next).boxed())
}

fn too_old(requested: Revision, oldest: Revision) -> Error {
    status::expired(format!("too old resource version: {requested} ({oldest})"))
}

async fn next(mut watch: Watch) -> Option<(Result<WatchEvent<longshore_core::kind::DynObject>, Error>, Watch)> {
    loop {
        if let Some(event) = watch.ready.pop_front() {
            return Some((Ok(event), watch));
        }
        if watch.ended {
            return None;
        }
        match watch.refill() {
            Err(error) => {
                watch.ended = true;
                return Some((Err(error), watch));
            }
            Ok(true) => {}
            Ok(false) if watch.ended || watch.changed().await.is_none() => return None,
            Ok(false) => {}
        }
    }
}

impl Watch {
    /// Waits until there may be something new, or a bookmark is due; `None` if the kind is no longer served.
    async fn changed(&mut self) -> Option<()> {
        let Some((bookmarks, timer)) = &mut self.bookmarks else { return self.changed.changed().await.ok() };
        let news = match select(std::pin::pin!(self.changed.changed()), timer).await {
            Either::Left((changed, _)) => Some(changed),
            Either::Right(_) => None,
        };
        if let Some(changed) = news {
            return changed.ok();
        }
        // Read before the window is: the window then has everything up to here.
        let revision = *bookmarks.revision.borrow();
        let next = bookmarks.timer();
        if let Some((_, timer)) = &mut self.bookmarks {
            *timer = next;
        }
        // An error is met again, and told, by the caller.
        if let Ok(false) = self.refill() {
            self.last = self.last.max(revision);
            let resource_version = self.last.to_string();
            self.ready.push_back(WatchEvent::Bookmark { resource_version, initial_events_end: false });
        }
        Some(())
    }

    /// Takes the next events from the window; false if there are none for now.
    fn refill(&mut self) -> Result<bool, Error> {
        let cache = Arc::clone(&self.cache);
        let batch: Vec<Arc<Event>> = {
            let state = cache.read();
            // Marked as seen under the lock: what comes later wakes the watch.
            self.changed.mark_unchanged();
            if state.closed {
                self.ended = true;
                return Ok(false);
            }
            if self.last < state.oldest {
                return Err(too_old(self.last, state.oldest));
            }
            let start = state.events.partition_point(|event| event.revision <= self.last);
            // All events of one revision are taken together, for `last` is a revision.
            let mut batch: Vec<Arc<Event>> = Vec::new();
            for event in state.events.range(start..) {
                if batch.len() >= BATCH && batch.last().is_some_and(|last| last.revision != event.revision) {
                    break;
                }
                batch.push(Arc::clone(event));
            }
            batch
        };
        let Some(newest) = batch.last().map(|event| event.revision) else { return Ok(false) };
        self.last = newest;
        let events = batch.iter().filter(|event| event.key.starts_with(&self.prefix));
        self.ready.extend(events.filter_map(|event| seen(event, &self.filter)));
        Ok(true)
    }
}

/// What a watcher with this filter sees of an event.
fn seen(event: &Event, filter: &Filter) -> Option<WatchEvent<longshore_core::kind::DynObject>> {
    let matches = |object: &longshore_core::kind::DynObject| filter.is_empty() || filter.matches(&**object);
    let before = event.previous.as_ref().is_some_and(matches);
    let now = !event.deleted && matches(&event.object);
    match (before, now) {
        (false, false) => None,
        (false, true) => Some(WatchEvent::Added(Arc::clone(&event.object))),
        (true, true) => Some(WatchEvent::Modified(Arc::clone(&event.object))),
        (true, false) if event.deleted => Some(WatchEvent::Deleted(Arc::clone(&event.object))),
        (true, false) => {
            let previous = event.previous.as_ref()?;
            Some(WatchEvent::Deleted(at_revision(previous.clone_box(), event.revision)))
        }
    }
}
