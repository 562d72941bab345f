//! The state of an informer as plain data: what is known, how news changes it, and which news is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::client::Deleted;
use crate::kind::{AnyObject, DynObject};

/// Namespace and name of an object; the namespace is empty for kinds that have none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
}

impl ObjectKey {
    /// The key of the object `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of(object: &dyn AnyObject) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What an index sorts by: the values under which an object is found.
pub(super) type IndexFn = Arc<dyn Fn(&dyn AnyObject) -> Vec<String> + Send + Sync>;

/// The keys under each value of an index.
type Entries = BTreeMap<String, BTreeSet<Arc<ObjectKey>>>;

/// One change of the cache. `T` is the shared object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<T> {
    /// The object is new.
    Added(T),
    /// The object changed.
    Modified {
        /// What was known before.
        old: T,
        /// What is known now.
        new: T,
    },
    /// The object is gone; the last state known.
    Deleted(T),
}

impl<T> Change<T> {
    /// The newest state known.
    pub fn object(&self) -> &T {
        match self {
            Self::Added(object) | Self::Deleted(object) | Self::Modified { new: object, .. } => object,
        }
    }

    /// The state known before, if any.
    pub fn old(&self) -> Option<&T> {
        match self {
            Self::Added(_) => None,
            Self::Modified { old, .. } | Self::Deleted(old) => Some(old),
        }
    }

    /// The state known now, if any.
    pub fn current(&self) -> Option<&T> {
        match self {
            Self::Added(new) | Self::Modified { new, .. } => Some(new),
            Self::Deleted(_) => None,
        }
    }

    /// The same change of something made from the objects.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Change<U> {
        match self {
            Self::Added(object) => Change::Added(f(object)),
            Self::Modified { old, new } => Change::Modified { old: f(old), new: f(new) },
            Self::Deleted(object) => Change::Deleted(f(object)),
        }
    }
}

/// What is known of the objects of one kind.
///
/// Three things bring news: a listing, the watch after it, and the answers to our own writes, which may run ahead of the
/// watch. Resource versions decide which news is stale, so that what a writer wrote stays visible to it:
///
/// - `progress` is the version up to which the server told everything; news from the watch at or below it is stale, and
///   so is a listing below it, which was overtaken by the watch on its way.
/// - A write's answer above `progress` is laid over the cache at once. At or below it, the watch already told the rest
///   of the story and the answer is old.
/// - An object that we saw deleted by its answer is buried by uid: no straggler of the watch brings it back.
#[derive(Default)]
pub(super) struct Cache {
    objects: BTreeMap<Arc<ObjectKey>, DynObject>,
    indexes: Vec<(&'static str, IndexFn, Entries)>,
    progress: u64,
    /// Uids of objects that are gone although the watch has not said so, with the last version we know of them.
    buried: FxHashMap<String, u64>,
    /// Objects that our own write moved out of the selection, with the write's version.
    deselected: FxHashMap<Arc<ObjectKey>, u64>,
}

fn version(object: &dyn AnyObject) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

fn uid(object: &dyn AnyObject) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

impl Cache {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&DynObject> {
        self.objects.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &DynObject> {
        self.objects.values()
    }

    pub(super) fn namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a DynObject> {
        self.objects
            .range(ObjectKey::new(namespace, "")..)
            .take_while(move |(key, _)| &*key.namespace == namespace)
            .map(|(_, object)| object)
    }

    pub(super) fn has_index(&self, name: &str) -> bool {
        self.indexes.iter().any(|(have, ..)| *have == name)
    }

    /// Adds an index over what is and what comes; does nothing if there is one of that name.
    pub(super) fn add_index(&mut self, name: &'static str, function: IndexFn) {
        if self.has_index(name) {
            return;
        }
        let mut entries = Entries::new();
        for (key, object) in &self.objects {
            for value in function(&**object) {
                entries.entry(value).or_default().insert(key.clone());
            }
        }
        self.indexes.push((name, function, entries));
    }

    pub(super) fn by_index(&self, name: &str, value: &str) -> Vec<DynObject> {
        let Some((_, _, entries)) = self.indexes.iter().find(|(have, ..)| *have == name) else { return Vec::new() };
        entries.get(value).into_iter().flatten().map(|key| self.objects[key].clone()).collect()
    }

    fn index(&mut self, key: &Arc<ObjectKey>, old: Option<&DynObject>, new: Option<&DynObject>) {
        for (_, function, entries) in &mut self.indexes {
            for value in old.map(|old| function(&**old)).unwrap_or_default() {
                if let Some(keys) = entries.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        entries.remove(&value);
                    }
                }
            }
            for value in new.map(|new| function(&**new)).unwrap_or_default() {
                entries.entry(value).or_default().insert(key.clone());
            }
        }
    }

    fn put(&mut self, object: DynObject, changes: &mut Vec<Change<DynObject>>) {
        let key = Arc::new(ObjectKey::of(&*object));
        let old = self.objects.insert(key.clone(), object.clone());
        self.index(&key, old.as_ref(), Some(&object));
        match old {
            None => changes.push(Change::Added(object)),
            // A different uid is a different object of the same name.
            Some(old) if uid(&*old) != uid(&*object) => {
                changes.push(Change::Deleted(old));
                changes.push(Change::Added(object));
            }
            Some(old) => changes.push(Change::Modified { old, new: object }),
        }
    }

    fn take(&mut self, key: &ObjectKey, changes: &mut Vec<Change<DynObject>>) {
        if let Some((key, old)) = self.objects.remove_entry(key) {
            self.index(&key, Some(&old), None);
            changes.push(Change::Deleted(old));
        }
    }

    /// Whether news of this version about this object is older than what is known.
    fn is_stale(&self, object: &dyn AnyObject, news: Option<u64>) -> bool {
        let key = ObjectKey::of(object);
        if self.buried.contains_key(uid(object)) {
            return true;
        }
        let Some(news) = news else { return false };
        self.deselected.get(&key).is_some_and(|&known| news <= known)
            || self.objects.get(&key).and_then(|known| version(&**known)).is_some_and(|known| news < known)
    }

    /// A whole listing as of `progress`; whoever is not in it is gone, save what we wrote since.
    pub(super) fn replace(&mut self, items: Vec<DynObject>, progress: Option<u64>) -> Vec<Change<DynObject>> {
        let mut changes = Vec::new();
        // A listing that the watch overtook tells nothing new, and may show what has gone since.
        if progress.is_some_and(|listing| listing < self.progress) {
            return changes;
        }
        let listed: BTreeSet<ObjectKey> = items.iter().map(|item| ObjectKey::of(&**item)).collect();
        let uids: BTreeSet<String> = items.iter().map(|item| uid(&**item).to_owned()).collect();
        let ahead = |known: Option<u64>| matches!((known, progress), (Some(known), Some(listing)) if known > listing);
        let gone: Vec<Arc<ObjectKey>> = (self.objects.iter())
            .filter(|(key, object)| !listed.contains(&***key) && !ahead(version(&***object)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.take(&key, &mut changes);
        }
        self.buried.retain(|uid, last| uids.contains(uid) || ahead(Some(*last)));
        self.deselected.retain(|_, last| ahead(Some(*last)));
        for item in items {
            let news = version(&*item);
            let known = self.objects.get(&ObjectKey::of(&*item)).and_then(|known| version(&**known));
            if !self.is_stale(&*item, news) && (news.is_none() || known != news) {
                self.put(item, &mut changes);
            }
        }
        self.advance(progress);
        changes
    }

    /// Everything up to this version has been told.
    pub(super) fn advance(&mut self, progress: Option<u64>) {
        if let Some(progress) = progress {
            self.progress = self.progress.max(progress);
            let reached = self.progress;
            self.deselected.retain(|_, last| *last > reached);
        }
    }

    /// News from the watch: the object as it now is.
    pub(super) fn observe(&mut self, object: DynObject) -> Vec<Change<DynObject>> {
        let mut changes = Vec::new();
        let news = version(&*object);
        if news.is_some_and(|news| news <= self.progress) {
            return changes;
        }
        let same =
            news.is_some() && self.objects.get(&ObjectKey::of(&*object)).is_some_and(|known| version(&**known) == news);
        if !same && !self.is_stale(&*object, news) {
            self.put(object, &mut changes);
        }
        self.advance(news);
        changes
    }

    /// News from the watch: the object is gone, or no longer selected.
    pub(super) fn observe_deleted(&mut self, object: &dyn AnyObject) -> Vec<Change<DynObject>> {
        let mut changes = Vec::new();
        let news = version(object);
        if news.is_some_and(|news| news <= self.progress) {
            return changes;
        }
        let key = ObjectKey::of(object);
        self.buried.remove(uid(object));
        if self.objects.get(&key).is_some_and(|known| uid(&**known) == uid(object))
            && !matches!((self.objects.get(&key).and_then(|known| version(&**known)), news), (Some(known), Some(news)) if known > news)
        {
            self.take(&key, &mut changes);
        }
        self.advance(news);
        changes
    }

    /// The answer to a write of our own; `selected` says whether the cache wants the object.
    pub(super) fn wrote(&mut self, object: DynObject, selected: bool) -> Vec<Change<DynObject>> {
        let mut changes = Vec::new();
        // Without comparable versions only the watch can tell what is newer.
        let Some(news) = version(&*object) else { return changes };
        let key = ObjectKey::of(&*object);
        let known = self.objects.get(&key).and_then(|known| version(&**known));
        if news <= self.progress || known.is_some_and(|known| news <= known) || self.is_stale(&*object, Some(news)) {
            return changes;
        }
        if selected {
            self.deselected.remove(&key);
            self.put(object, &mut changes);
        } else {
            self.take(&key, &mut changes);
            self.deselected.insert(Arc::new(key), news);
        }
        changes
    }

    /// The answer to a delete of our own.
    pub(super) fn deleted(&mut self, deleted: &Deleted, selected: bool) -> Vec<Change<DynObject>> {
        let object = match deleted {
            Deleted::Pending(object) => return self.wrote(object.clone(), selected),
            Deleted::Gone(object) => object,
        };
        let mut changes = Vec::new();
        let key = ObjectKey::of(&**object);
        let last = version(&**object).unwrap_or(0);
        // An older object of the same name must have gone before this one came.
        let older =
            |known: &DynObject| uid(&**known) != uid(&**object) && version(&**known).is_some_and(|at| at < last);
        if let Some(known) = self.objects.get(&key).filter(|known| older(known)).cloned() {
            self.buried.insert(uid(&*known).to_owned(), version(&*known).unwrap_or(0));
            self.take(&key, &mut changes);
        }
        let known = self.objects.get(&key).is_some_and(|known| uid(&**known) == uid(&**object));
        // If the watch told of the deletion before its answer came, there is nothing left to bury.
        if known || last > self.progress {
            self.buried.insert(uid(&**object).to_owned(), last);
        }
        if known {
            self.take(&key, &mut changes);
        }
        changes
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
