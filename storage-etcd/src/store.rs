//! The store as its users see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use etcd_client::{GetOptions, WatchOptions};
use longshore_core::store::{
    Committed, Error, KeyValue, ListOptions, Page, Revision, Snapshot, Status, Store, Transaction, WatchStream,
};
use tokio::task::JoinSet;

use crate::failure::{Failure, Kind};
use crate::leases::Leases;
use crate::members::{Member, Members};
use crate::watch::{Recent, from_further_back};
use crate::{OpenError, Options, commit, compactor, pages, text};

/// A [`Store`] in an etcd cluster; see the [crate](crate) for what it promises.
///
/// Dropping it ends its watches and tasks. It must be opened, and is best dropped, inside a tokio runtime.
#[derive(Debug)]
pub struct EtcdStore {
    members: Arc<Members>,
    recent: Recent,
    leases: Leases,
    /// The compacted revision, as far as this process has heard; of an earlier past, if etcd was brought back to one.
    compacted: Arc<AtomicU64>,
    tasks: Mutex<JoinSet<()>>,
}

impl EtcdStore {
    /// Connects to the members and reads the revision; nothing is written.
    ///
    /// # Errors
    /// [`OpenError`]: an endpoint is none, no member answers within [`Options::patience`], or one is too old.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let members = Arc::new(Members::new(&options)?);
        let unavailable =
            |failure: Failure| OpenError::Unavailable { endpoints: members.urls().join(","), reason: failure.reason };
        let revision = members.revision().await.map_err(unavailable)?;
        let status = members.read(|mut member: Member| async move { member.maintenance.status().await });
        let version = status.await.map_err(unavailable)?.version().to_owned();
        if !is_new_enough(&version) {
            return Err(OpenError::Version { found: version });
        }
        let recent = Recent::new(revision, options.history);
        let compacted = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(recent.clone().follow(Arc::clone(&members)));
        if let Some(interval) = options.compaction {
            tasks.spawn(compactor::run(Arc::clone(&members), interval, Arc::clone(&compacted)));
        }
        Ok(Self { members, recent, leases: Leases::default(), compacted, tasks: Mutex::new(tasks) })
    }

    /// Ends watches and tasks, and waits for the tasks; afterwards every call answers [`Error::Closed`].
    pub async fn close(&self) {
        self.members.close();
        self.recent.history.close();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The revision of now.
    pub(crate) async fn revision(&self) -> Result<Revision, Error> {
        self.members.revision().await.map_err(|failure| failure.of_read("read the revision"))
    }

    /// The compacted revision, whoever compacted; 0 if nobody did.
    ///
    /// etcd names it only to a watch that begins before it. So it is asked for only when a read shows that it has moved on
    /// from what was known.
    async fn compacted(&self) -> Result<Revision, Error> {
        loop {
            let known = self.compacted.load(Ordering::Acquire);
            match self.read_at(known.max(1)).await {
                Ok(()) => return Ok(known),
                Err(Failure { kind: Kind::Compacted, .. }) => {}
                // etcd was brought back to an older past, of which nothing is known.
                Err(Failure { kind: Kind::Future, .. }) if known > 0 => {
                    // Somebody else may have found out, which is as good.
                    let _ = self.compacted.compare_exchange(known, 0, Ordering::AcqRel, Ordering::Relaxed);
                    continue;
                }
                Err(failure) => return Err(failure.of_read("read the compacted revision")),
            }
            let oldest = self.members.read(ask_compacted).await;
            let oldest = oldest.map_err(|failure| failure.of_read("read the compacted revision"))?;
            self.compacted.fetch_max(oldest, Ordering::AcqRel);
        }
    }

    /// Reads nothing, at a revision.
    async fn read_at(&self, revision: Revision) -> Result<(), Failure> {
        let options = GetOptions::new().with_count_only().with_revision(text::number(revision));
        let read = |mut member: Member| {
            let options = options.clone();
            async move { member.kv.get(text::ALL, Some(options)).await.map(drop) }
        };
        self.members.read(read).await
    }

    /// What is said to whoever asked for a revision that is compacted.
    pub(crate) async fn compacted_error(&self, requested: Revision) -> Result<Error, Error> {
        Ok(Error::Compacted { requested, oldest: self.compacted().await?.max(1) })
    }

    fn ensure_open(&self) -> Result<(), Error> {
        if self.members.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether this is the store's own error for a failure while it was closed.
    fn told<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        match answer {
            Err(Error::Unavailable { .. }) if self.members.is_closed() => Err(Error::Closed),
            answer => answer,
        }
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.members.close();
        self.recent.history.close();
    }
}

/// Whether a version, such as `3.4.23`, is one whose protocol is known.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (3, 4)
}

/// Has etcd name the compacted revision, which must be later than the first.
async fn ask_compacted(mut member: Member) -> Result<Revision, etcd_client::Error> {
    let options = WatchOptions::new().with_start_revision(1);
    let mut stream = member.watch.watch(text::ALL, Some(options)).await?;
    while let Some(answer) = stream.message().await? {
        if answer.compact_revision() > 0 {
            return Ok(text::revision(answer.compact_revision()));
        }
        if answer.canceled() {
            return Err(etcd_client::Error::WatchError(answer.cancel_reason().to_owned()));
        }
    }
    Err(etcd_client::Error::WatchError("etcd ended the watch".to_owned()))
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Snapshot<Option<KeyValue>>, Error> {
        self.ensure_open()?;
        if key.is_empty() {
            return Ok(Snapshot { value: None, revision: self.revision().await? });
        }
        let found = self.members.read(|mut member| async move { member.kv.get(key, None).await }).await;
        let found = self.told(found.map_err(|failure| failure.of_read("get")))?;
        let value = found.kvs().first().map(text::entry).transpose()?;
        Ok(Snapshot { value, revision: found.header().map_or(0, |header| text::revision(header.revision())) })
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error> {
        self.ensure_open()?;
        self.told(pages::list(self, prefix, options).await)
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, Error> {
        transaction.check()?;
        self.ensure_open()?;
        // Not even a closed store says of a commit that nothing has happened when that is not sure.
        commit::commit(self, &transaction).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        self.ensure_open()?;
        let history = &self.recent.history;
        if after > history.revision() {
            let current = self.told(self.revision().await)?;
            if after > current {
                return Err(Error::FutureRevision { requested: after, current });
            }
            self.told(self.recent.reaches(after, &self.members).await)?;
        }
        if after < self.compacted.load(Ordering::Acquire) {
            let oldest = self.told(self.compacted().await)?;
            if after < oldest {
                return Err(Error::Compacted { requested: after, oldest });
            }
        }
        if after >= history.compacted() {
            match history.watch(prefix, after) {
                // The place was lost meanwhile.
                Err(Error::Compacted { .. }) => {}
                watch => return watch,
            }
        }
        match self.read_at(after.max(1)).await {
            Ok(()) => from_further_back(&self.recent, Arc::new(self.members.apart()), prefix, after),
            Err(Failure { kind: Kind::Compacted, .. }) => Err(self.told(self.compacted_error(after).await)?),
            Err(failure) => self.told(Err(failure.of_read("watch"))),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.ensure_open()?;
        let number = text::number(revision);
        // Compacting twice to one revision is as good as once.
        let compacted = self.members.read(|mut member| async move { member.kv.compact(number, None).await }).await;
        match compacted {
            Ok(_) => {
                self.compacted.fetch_max(revision, Ordering::AcqRel);
                Ok(())
            }
            Err(Failure { kind: Kind::Compacted, .. }) => match self.told(self.compacted().await)? {
                oldest if revision < oldest => Err(Error::Compacted { requested: revision, oldest }),
                _ => Ok(()),
            },
            Err(Failure { kind: Kind::Future, .. }) => {
                Err(Error::FutureRevision { requested: revision, current: self.told(self.revision().await)? })
            }
            Err(failure) => self.told(Err(failure.of_read("compact"))),
        }
    }

    async fn status(&self) -> Result<Status, Error> {
        self.ensure_open()?;
        let compacted = self.told(self.compacted().await)?;
        let count = |mut member: Member| async move {
            member.kv.get("", Some(GetOptions::new().with_all_keys().with_count_only())).await
        };
        let counted = self.members.read(count).await.map_err(|failure| failure.of_read("count the keys"));
        let counted = self.told(counted)?;
        let member = self.members.read(|mut member: Member| async move { member.maintenance.status().await }).await;
        Ok(Status {
            revision: counted.header().map_or(0, |header| text::revision(header.revision())),
            compacted,
            keys: u64::try_from(counted.count()).ok(),
            bytes: member.ok().and_then(|member| u64::try_from(member.db_size()).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_3_4_on_are_new_enough() {
        for version in ["3.4.0", "3.4.23", "3.5.21", "3.6.0-rc.1", "4.0.0"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["3.3.27", "2.3.8", "", "x"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
