//! Watches: one [`Follow`] fills the history that all of them read from, and those that begin further back first ask etcd.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use longshore_core::store::{Commit, Error, History, HistoryLimits, Revision, WatchEvent, WatchStream};
use tokio::sync::watch;

use crate::follow::{Broken, Follow};
use crate::members::Members;

/// The recent past, and how far it reaches; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Recent {
    pub(crate) history: History,
    reached: watch::Sender<Revision>,
}

impl Recent {
    /// A past that begins at a revision.
    pub(crate) fn new(revision: Revision, limits: HistoryLimits) -> Self {
        Self { history: History::new(revision, limits), reached: watch::Sender::new(revision) }
    }

    /// Follows etcd until the store is closed.
    pub(crate) async fn follow(self, members: Arc<Members>) {
        let mut follow = Follow::new(Arc::clone(&members), self.history.revision());
        loop {
            match follow.next().await {
                Ok(commits) => {
                    self.history.publish(commits);
                    // Whoever committed may have had the answer long ago.
                    self.history.tell_progress();
                    self.reached.send_replace(follow.last());
                }
                Err(Broken::Closed) => return,
                Err(broken) => {
                    let Some(revision) = begin_anew(&members).await else { return };
                    tracing::warn!(?broken, seen = follow.last(), now = revision, "watches of etcd begin anew");
                    self.history.restart(revision);
                    self.reached.send_replace(revision);
                    follow = Follow::new(Arc::clone(&members), revision);
                }
            }
        }
    }

    /// Waits until the past reaches a revision that has happened.
    pub(crate) async fn reaches(&self, revision: Revision, members: &Members) -> Result<(), Error> {
        let mut reached = self.reached.subscribe();
        match members.within(members.patience(), reached.wait_for(|reached| *reached >= revision)).await {
            // The sender lives as long as this.
            Some(_) => Ok(()),
            None => {
                Err(Error::Unavailable { reason: format!("the watch of etcd has not reached revision {revision}") })
            }
        }
    }
}

async fn begin_anew(members: &Members) -> Option<Revision> {
    loop {
        match members.revision().await {
            Ok(revision) => return Some(revision),
            Err(_) if members.is_closed() => return None,
            Err(failure) => tracing::warn!(%failure, "cannot read etcd, trying again"),
        }
    }
}

/// A watch that begins before the recent past does: etcd tells what is missing, then the recent past goes on. All keys are
/// followed until then, since only that shows when nothing is missing any more; little is held, as etcd waits for the reader.
pub(crate) fn from_further_back(
    recent: &Recent,
    members: Arc<Members>,
    prefix: &str,
    after: Revision,
) -> Result<WatchStream, Error> {
    let until = recent.history.revision();
    let live = recent.history.watch(prefix, until)?;
    let follow = Follow::new(members, after);
    let past = Past { follow, until, prefix: prefix.to_owned(), ready: VecDeque::new() };
    Ok(stream::unfold(Place::Past(Box::new(past), live), next).boxed())
}

struct Past {
    follow: Follow,
    until: Revision,
    prefix: String,
    ready: VecDeque<Commit>,
}

enum Place {
    Past(Box<Past>, WatchStream),
    Live(WatchStream),
    End,
}

async fn next(place: Place) -> Option<(Result<WatchEvent, Error>, Place)> {
    let mut live = match place {
        Place::End => return None,
        Place::Live(live) => live,
        Place::Past(mut past, live) => match past.next().await {
            Some(Ok(event)) => return Some((Ok(event), Place::Past(past, live))),
            Some(Err(error)) => return Some((Err(error), Place::End)),
            None => live,
        },
    };
    let event = live.next().await?;
    Some((event, Place::Live(live)))
}

impl Past {
    async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        loop {
            while let Some(commit) = self.ready.pop_front() {
                // The rest is in the recent past.
                if commit.revision > self.until {
                    return None;
                }
                let Commit { revision, mut changes } = commit;
                changes.retain(|change| change.key.starts_with(&self.prefix));
                if !changes.is_empty() {
                    return Some(Ok(WatchEvent::Changes { revision, changes }));
                }
            }
            let last = self.follow.last();
            if last >= self.until {
                return None;
            }
            match self.follow.next().await {
                Ok(commits) => self.ready.extend(commits),
                Err(Broken::Closed) => return Some(Err(Error::Closed)),
                Err(Broken::Compacted { oldest }) => return Some(Err(Error::Compacted { requested: last, oldest })),
                Err(Broken::Rewritten) => {
                    return Some(Err(Error::Compacted { requested: last, oldest: self.until }));
                }
            }
        }
    }
}
