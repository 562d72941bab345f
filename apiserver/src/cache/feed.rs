//! Keeps the cache in step with the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore_core::clock::Clock;
use longshore_core::kind::DynObject;
use longshore_core::store::{self, Change, KeyValue, ListOptions, Revision, Store, WatchEvent};
use rustc_hash::FxHashMap;

use super::handoff::at_revision;
use super::{Cache, Cached, Event};
use crate::key::PREFIX;

/// All keys are watched, so that the cache learns of every revision, also of those that change no object.
const EVERYTHING: &str = "";

/// How many keys are read at once when the cache is filled.
const PAGE: usize = 1000;

/// How long to wait before trying a store again that failed.
const RETRY: Duration = Duration::from_millis(200);

/// Reads the store into a [`Cache`].
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) cache: Arc<Cache>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Feed {
    /// Fills the cache with what the store holds now. Watchers that cannot know what was missed in between are ended.
    ///
    /// # Errors
    /// What the store says, or [`store::Error::Corrupt`] for an object that cannot be read.
    pub(crate) async fn load(&self) -> Result<Revision, store::Error> {
        let mut options = ListOptions { limit: PAGE, ..ListOptions::default() };
        let mut found: FxHashMap<(&str, &str), BTreeMap<String, Cached>> = FxHashMap::default();
        // Page by page: what is stored and what is made of it need not both be in memory as a whole.
        let revision = loop {
            let page = self.store.list(PREFIX, options.clone()).await?;
            options.revision = Some(page.revision);
            options.after = page.entries.last().map(|entry| entry.key.clone());
            for entry in &page.entries {
                let Some((kind, short)) = self.cache.split_key(&entry.key) else { continue };
                let cached = match kind.get(short).filter(|known| known.revision == entry.revision) {
                    Some(known) => known,
                    None => Cached { object: decode(kind.kind, entry)?, revision: entry.revision },
                };
                found.entry((kind.kind.info.group, kind.kind.info.kind)).or_default().insert(short.to_owned(), cached);
            }
            if !page.more {
                break page.revision;
            }
        };
        for kind in self.cache.kinds.values() {
            let objects = found.remove(&(kind.kind.info.group, kind.kind.info.kind)).unwrap_or_default();
            let mut state = kind.write();
            state.objects = objects;
            state.events.clear();
            state.oldest = revision;
            state.newest = revision;
            drop(state);
            kind.changed.send_replace(revision);
        }
        self.cache.revision.send_replace(revision);
        Ok(revision)
    }

    /// Follows the store until dropped, from `revision` on.
    pub(crate) async fn follow(self, mut revision: Revision) {
        loop {
            let error = match self.store.watch(EVERYTHING, revision).await {
                Err(error) => {
                    // Nobody is to be asked again and again for what does not work.
                    if matches!(error, store::Error::Unavailable { .. }) {
                        self.clock.sleep(RETRY).await;
                    }
                    error
                }
                Ok(mut watch) => loop {
                    match watch.next().await {
                        None => break store::Error::Closed,
                        Some(Err(error)) => break error,
                        Some(Ok(WatchEvent::Progress(reached))) => {
                            revision = revision.max(reached);
                            self.advance(reached);
                        }
                        Some(Ok(WatchEvent::Changes { revision: reached, changes })) => {
                            if let Err(error) = self.apply(reached, changes) {
                                break error;
                            }
                            revision = reached;
                            self.advance(reached);
                        }
                    }
                },
            };
            match error {
                store::Error::Closed => return self.cache.close(),
                // The place in history is still known: go on from there.
                store::Error::Lagged { .. } => {}
                error => {
                    tracing::warn!(%error, "the watch of the store broke, reading it anew");
                    revision = self.reload().await;
                }
            }
        }
    }

    async fn reload(&self) -> Revision {
        loop {
            match self.load().await {
                Ok(revision) => return revision,
                Err(error) => tracing::warn!(%error, "cannot read the store, trying again"),
            }
            self.clock.sleep(RETRY).await;
        }
    }

    fn advance(&self, revision: Revision) {
        self.cache.revision.send_if_modified(|reached| {
            let newer = revision > *reached;
            if newer {
                *reached = revision;
            }
            newer
        });
    }

    fn apply(&self, revision: Revision, changes: Vec<Change>) -> Result<(), store::Error> {
        let at = self.clock.elapsed();
        for change in changes {
            let Some((kind, short)) = self.cache.split_key(&change.key) else { continue };
            let object = match &change.value {
                Some(value) => match self.cache.handoff.take(value, revision) {
                    Some(object) => Some(object),
                    None => Some(decode(
                        kind.kind,
                        &KeyValue { key: change.key.clone(), value: value.clone(), revision, created: change.created },
                    )?),
                },
                None => None,
            };
            let mut state = kind.write();
            let event = match object {
                Some(object) => {
                    let cached = Cached { object: Arc::clone(&object), revision };
                    let previous = match state.objects.get_mut(short) {
                        Some(slot) => Some(std::mem::replace(slot, cached).object),
                        None => {
                            state.objects.insert(short.to_owned(), cached);
                            None
                        }
                    };
                    Event { at, revision, key: short.to_owned(), object, previous, deleted: false }
                }
                None => {
                    let Some(cached) = state.objects.remove(short) else { continue };
                    let object = at_revision(cached.object.clone_box(), revision);
                    Event { at, revision, key: short.to_owned(), object, previous: Some(cached.object), deleted: true }
                }
            };
            state.push(event, kind.window);
            drop(state);
            kind.changed.send_replace(revision);
        }
        Ok(())
    }
}

/// Reads a stored object and gives it its version.
pub(crate) fn decode(
    kind: &'static longshore_core::kind::KindType,
    entry: &KeyValue,
) -> Result<DynObject, store::Error> {
    let object = (kind.from_slice)(&entry.value).map_err(|error| store::Error::Corrupt {
        reason: format!("{} is not a {}: {error}", entry.key, kind.info.kind),
    })?;
    Ok(at_revision(object, entry.revision))
}
