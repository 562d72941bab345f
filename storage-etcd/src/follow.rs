//! Everything that happens in etcd, in order, once, whatever happens to connections.
//!
//! etcd gives every change of a key a revision, and no revision to anything else. Whoever watches *all* keys therefore sees
//! each revision, one after the other, and knows by the number alone that nothing is missing and how far it has come. Watches
//! of a prefix could not know that: the progress marks that etcd sends on request may overtake changes before 3.4.25 and
//! 3.5.8, and unasked it sends them only every ten minutes.

use std::sync::Arc;

use bytes::Bytes;
use etcd_client::{Event, EventType, WatchOptions, WatchResponse, WatchStream};
use longshore_core::store::{Change, Commit, KeyValue, Revision};

use crate::failure::{Failure, Kind};
use crate::members::{self, Member, Members};
use crate::text;

/// All commits after a revision. Dropping it ends the watch.
pub(crate) struct Follow {
    members: Arc<Members>,
    /// The last revision that was answered.
    last: Revision,
    open: Option<(Member, WatchStream)>,
    /// A commit of which the next answer may bring more changes.
    held: Option<Commit>,
    /// Failures since something was last answered.
    failures: u32,
    /// How often etcd has left out revisions since something was last answered.
    gaps: u32,
}

/// Why commits cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// What came after the last revision is compacted.
    Compacted {
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// etcd goes on from another past than the one that was seen, as after a restore.
    Rewritten,
    /// The store is closed.
    Closed,
}

/// Trouble with one connection or for good.
enum Trouble {
    Passing(Failure),
    Final(Broken),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Passing(failure)
    }
}

/// So often etcd may leave out the same revisions before that is believed.
const GAPS_MAX: u32 = 3;

impl Follow {
    /// What comes after revision `after`.
    pub(crate) fn new(members: Arc<Members>, after: Revision) -> Self {
        Self { members, last: after, open: None, held: None, failures: 0, gaps: 0 }
    }

    /// The last revision that was answered.
    pub(crate) fn last(&self) -> Revision {
        self.last
    }

    /// The next commits, at least one. Waits for them, and connects again as often as it takes.
    pub(crate) async fn next(&mut self) -> Result<Vec<Commit>, Broken> {
        loop {
            if self.members.is_closed() {
                return Err(Broken::Closed);
            }
            match self.step().await {
                Ok(commits) if commits.is_empty() => {}
                Ok(commits) => {
                    (self.failures, self.gaps) = (0, 0);
                    return Ok(commits);
                }
                Err(Trouble::Final(broken)) => return Err(broken),
                Err(Trouble::Passing(failure)) => {
                    if let Some((member, _)) = self.open.take() {
                        self.members.lost(member.index);
                    }
                    self.held = None;
                    self.failures += 1;
                    // One lost connection is no news, an etcd that stays away is.
                    if self.failures.is_power_of_two() && self.failures > 1 {
                        tracing::warn!(%failure, after = self.last, "cannot watch etcd, trying again");
                    }
                    self.members.back_off(self.failures).await;
                }
            }
        }
    }

    /// Takes one answer of etcd, after connecting if need be.
    async fn step(&mut self) -> Result<Vec<Commit>, Trouble> {
        let (member, stream) = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(connect(&self.members, self.last).await?),
        };
        let answer = tokio::select! {
            biased;
            answer = stream.message() => answer.map_err(Failure::from)?,
            // A watch on which nothing comes may be one of a member that hangs.
            hangs = self.members.hangs(member) => return Err(hangs.into()),
        };
        let answer = answer.ok_or_else(|| Failure::unknown("etcd ended the watch"))?;
        if answer.compact_revision() > 0 {
            return Err(Trouble::Final(Broken::Compacted { oldest: text::revision(answer.compact_revision()) }));
        }
        if answer.canceled() {
            return Err(Failure::unknown(format!("etcd ended the watch: {}", answer.cancel_reason())).into());
        }
        self.take(&answer)
    }

    /// The commits of an answer.
    fn take(&mut self, answer: &WatchResponse) -> Result<Vec<Commit>, Trouble> {
        let mut commits: Vec<Commit> = self.held.take().into_iter().collect();
        for event in answer.events() {
            let Some(change) = change(event)? else { continue };
            // After connecting again etcd begins where it was asked to; this only makes sure.
            if change.revision <= self.last {
                continue;
            }
            let before = commits.last().map_or(self.last, |commit| commit.revision);
            match commits.last_mut().filter(|commit| commit.revision == change.revision) {
                Some(commit) => commit.changes.push(change),
                None if change.revision == before + 1 => {
                    commits.push(Commit { revision: change.revision, changes: vec![change] });
                }
                None => return self.gap(before, change.revision),
            }
        }
        if answer.0.fragment {
            self.held = commits.pop();
        }
        if let Some(commit) = commits.last() {
            self.last = commit.revision;
        }
        Ok(commits)
    }

    fn gap(&mut self, before: Revision, next: Revision) -> Result<Vec<Commit>, Trouble> {
        self.gaps += 1;
        if self.gaps > GAPS_MAX {
            return Err(Trouble::Final(Broken::Rewritten));
        }
        Err(Failure::unknown(format!("after revision {before} etcd sent {next}")).into())
    }
}

/// Watches all keys from the first change after a revision on.
async fn connect(members: &Members, after: Revision) -> Result<(Member, WatchStream), Trouble> {
    let opened = members.once(|mut member| async move {
        let current = members::revision(member.clone()).await?;
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(text::number(after + 1))
            .with_prev_key()
            .with_fragment();
        let mut stream = member.watch.watch("", Some(options)).await?;
        let first = stream.message().await?;
        Ok((current, member, stream, first))
    });
    let (current, member, stream, first) = opened.await?;
    if current < after {
        return Err(Trouble::Final(Broken::Rewritten));
    }
    match first {
        Some(answer) if answer.created() && !answer.canceled() => Ok((member, stream)),
        refused => {
            members.lost(member.index);
            let why = refused.map_or_else(String::new, |answer| answer.cancel_reason().to_owned());
            Err(Failure { kind: Kind::Unknown, reason: format!("etcd does not watch: {why}") }.into())
        }
    }
}

/// One change; an event without a key is none.
fn change(event: &Event) -> Result<Option<Change>, Trouble> {
    let Some(kv) = event.kv() else { return Ok(None) };
    // A key of somebody else's that is not text concerns no prefix, but its revision counts.
    let entry = |kv: &etcd_client::KeyValue| KeyValue {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        value: Bytes::copy_from_slice(kv.value()),
        revision: text::revision(kv.mod_revision()),
        created: text::revision(kv.create_revision()),
    };
    let (now, previous) = (entry(kv), event.prev_kv().map(entry));
    let revision = now.revision;
    let put = event.event_type() == EventType::Put;
    if previous.is_none() && !(put && kv.version() == 1) {
        // What was before is compacted, so the change cannot be told whole; whoever watches must list again.
        return Err(Trouble::Final(Broken::Compacted { oldest: revision }));
    }
    let created = match &previous {
        Some(previous) if !put => previous.created,
        _ => now.created,
    };
    Ok(Some(Change { key: now.key, value: put.then_some(now.value), previous, revision, created }))
}
