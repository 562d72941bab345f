//! What is written in the same commit as an object: records that must never disagree with it.

use longshore_core::api::{CertificateSigningRequest, Lease, Node, Pod, Service};
use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, KindInfo, KindType, Subresource};
use longshore_core::leader::Fence;
use longshore_core::store::{Revision, Transaction};

use super::Registry;
use crate::admission::Operation;
use crate::cache::Cached;
use crate::ledger::{Claim, Entry, Fit, Misfit, Open};
use crate::{allocation, key, status};

/// A write that is about to be committed.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) operation: Operation,
    pub(super) old: Option<&'a dyn AnyObject>,
    /// Whether the cache may be behind, for the last attempt lost.
    pub(super) certain: bool,
}

/// What is added to a commit, and what holds others off until it is done.
#[derive(Debug, Default)]
pub(super) struct Along {
    pub(super) transaction: Transaction,
    records: Vec<Open>,
}

impl Along {
    /// The commit was done.
    pub(super) fn done(self, revision: Revision) {
        for record in self.records {
            record.done(revision);
        }
    }
}

impl Registry {
    /// What else has to be written with `new` (`None`: with the removal of the old object).
    ///
    /// # Errors
    /// 409 if there is no room on the node, or the writer led and leads no more; what [`Registry::use_token`] says.
    pub(super) async fn along(&self, write: Write<'_>, new: Option<&dyn AnyObject>) -> Result<Along, Error> {
        let Some(fence) = Fence::current() else { return self.records(write, new).await };
        let (lease, seen) = self.pass(&fence, write.certain).await?;
        let mut along = self.records(write, new).await?;
        along.transaction = along.transaction.expect(lease, seen);
        Ok(along)
    }

    /// Whether a leader's term goes on; if so, the key and revision of the lease for which that holds.
    ///
    /// A renewal in between makes the commit fail, which is then tried again.
    async fn pass(&self, fence: &Fence, certain: bool) -> Result<(String, Revision), Error> {
        let leases = self.cache.kind(KindType::of::<Lease>())?;
        let short = key::short(&fence.namespace, &fence.name);
        let holds =
            |seen: &Option<Cached>| fence.check(seen.as_ref().and_then(|seen| seen.object.as_any().downcast_ref()));
        let mut seen = self.current(leases, &short, certain).await?;
        if !certain && holds(&seen).is_err() {
            // The cache may not know of the term yet.
            seen = self.current(leases, &short, true).await?;
        }
        holds(&seen)?;
        Ok((key::full(&leases.kind.info, &short), seen.map_or(0, |seen| seen.revision)))
    }

    async fn records(&self, write: Write<'_>, new: Option<&dyn AnyObject>) -> Result<Along, Error> {
        let mut along = Along::default();
        let service = |object: &dyn AnyObject| object.as_any().is::<Service>();
        if write.old.or(new).is_some_and(service) {
            let [old, new] = [write.old, new].map(|object| object.and_then(|object| object.as_any().downcast_ref()));
            along.transaction = allocation::exchange(old, new);
            return Ok(along);
        }
        if write.operation == Operation::Create
            && let Some(request) = new.and_then(|object| object.as_any().downcast_ref::<CertificateSigningRequest>())
        {
            along.transaction = self.use_token(request).await?;
            return Ok(along);
        }
        let pod = |object: &dyn AnyObject| object.as_any().downcast_ref::<Pod>().map(Claim::of);
        match (write.old.map(pod), new.map(pod)) {
            (Some(None), _) | (_, Some(None)) | (None, None) => {}
            (old, new) => self.charge(write, old.flatten().flatten(), new.flatten().flatten(), &mut along).await?,
        }
        Ok(along)
    }

    /// Moves a pod's claim on a node from what it was to what it will be.
    async fn charge(
        &self,
        write: Write<'_>,
        old: Option<Claim>,
        new: Option<Claim>,
        along: &mut Along,
    ) -> Result<(), Error> {
        if old == new || self.cache.kind(KindType::of::<Node>()).is_err() {
            return Ok(());
        }
        // In the order of names, so that two moves between the same nodes cannot wait for each other.
        let mut nodes: Vec<&str> = [&old, &new].into_iter().flatten().map(|claim| claim.node.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let ledger = self.ledger.open(node).await;
            let mut open =
                ledger.map_err(|error| status::from_store(error, &format!("read the ledger of node {node}")))?;
            open.changed = match &new {
                Some(claim) if claim.node == node => {
                    let entry = self.entry(write, claim, &open, along).await?;
                    let before = open.seen.record.pods.insert(claim.uid.clone(), entry);
                    before.as_ref() != open.seen.record.pods.get(&claim.uid)
                }
                _ => old.as_ref().is_some_and(|claim| open.seen.record.pods.remove(&claim.uid).is_some()),
            };
            along.transaction = open.write(std::mem::take(&mut along.transaction));
            along.records.push(open);
        }
        Ok(())
    }

    /// How the claim is noted in its node's record.
    async fn entry(&self, write: Write<'_>, claim: &Claim, open: &Open, along: &mut Along) -> Result<Entry, Error> {
        let known = open.seen.record.pods.get(&claim.uid);
        let fit = match write.operation {
            Operation::Create => Fit::May,
            Operation::Update(Some(Subresource::Status | Subresource::Resize)) | Operation::Delete => Fit::Is,
            Operation::Update(_) => Fit::Must,
        };
        // Whoever runs, runs: the record says what is so.
        let waits = known.is_some_and(|entry| entry.uncharged) && !claim.runs;
        if fit == Fit::Is || (waits && write.operation != Operation::Update(Some(Subresource::Binding))) {
            return Ok(Entry::new(claim, waits));
        }
        let misfit = match self.room(claim, open, write.certain).await? {
            // The node may have changed meanwhile, or come into being.
            Err(_) if !write.certain => self.room(claim, open, true).await?,
            room => room,
        };
        match misfit {
            Ok(node) => {
                let info = &KindType::of::<Node>().info;
                let key = key::full(info, &key::short("", &claim.node));
                along.transaction = std::mem::take(&mut along.transaction).expect(key, node);
                Ok(Entry::new(claim, false))
            }
            Err(_) if fit == Fit::May => Ok(Entry::new(claim, true)),
            Err(misfit) => Err(no_room(&KindType::of::<Pod>().info, claim, &misfit)),
        }
    }

    /// Whether the node has room; if so, the node's revision for which that holds.
    async fn room(&self, claim: &Claim, open: &Open, certain: bool) -> Result<Result<Revision, Misfit>, Error> {
        let nodes = self.cache.kind(KindType::of::<Node>())?;
        let Some(Cached { object, revision }) = self.current(nodes, &key::short("", &claim.node), certain).await?
        else {
            return Ok(Err(Misfit::NoNode));
        };
        let Some(node) = object.as_any().downcast_ref::<Node>() else { return Ok(Err(Misfit::NoNode)) };
        Ok(open.seen.record.check(claim, &node.status.allocatable).map(|()| revision))
    }
}

fn no_room(info: &KindInfo, claim: &Claim, misfit: &Misfit) -> Error {
    let name = claim.pod.split_once('/').map_or(claim.pod.as_str(), |(_, name)| name);
    status::conflict(info, name, format!("node {:?} cannot take the pod: {misfit}", claim.node))
}
