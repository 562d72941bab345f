//! Commits: a transaction of etcd's, and what is said when its outcome is not known.
//!
//! # What is not repeated
//!
//! When the connection breaks, or no answer comes in time, a commit may have happened, or may happen yet: the member that
//! was asked may have passed it on to the leader, where it waits. Neither repeating nor reading settles that.
//!
//! - *Repeating* could do it twice: an unconditional put would undo what somebody wrote in between, and a conditional one would
//!   meet its own first try and report a conflict with itself.
//! - *Reading* that it is not there does not show that it will not be. Reading that it is there does not show that it was this
//!   one: values carry no writer's name, and two writers may well put the same.
//!
//! So the answer is [`Error::Unavailable`], as the store's contract has it for an unknown outcome, and whoever asked looks and
//! decides, knowing what the values mean. A commit is tried again only after failures which show that nothing was proposed:
//! no connection, no leader, too many requests, a token that has run out, a lease that is gone ([`Kind::Nothing`],
//! [`Kind::LeaseGone`]).
//!
//! # No space
//!
//! etcd says "no space" to what it turns away, but also to the one commit that it *applied* and that crossed its quota: the
//! check before it is proposed and the one when it is applied may disagree. Its answer comes after all that, so here reading
//! does help: if a key that the commit would have changed still has the revision that the commit expected (or is absent, as was
//! expected, and was not put for a time), nothing has happened. Otherwise the outcome counts as unknown. *Price:* who deletes a
//! new key in the moment between its etcd's error and that read makes a commit that happened look like one that did not.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use longshore_core::store::{Committed, Error, Operation, Store, Transaction};

use crate::failure::{Failure, Kind};
use crate::leases::{self, Lease, Leases};
use crate::members::Members;
use crate::store::EtcdStore;
use crate::text;

/// Carries out a transaction that is within the limits.
pub(crate) async fn commit(store: &EtcdStore, transaction: &Transaction) -> Result<Committed, Error> {
    if transaction.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::InvalidTransaction { reason: "a key is empty".to_owned() });
    }
    let members = store.members();
    if transaction.compare.is_empty() && transaction.operations.is_empty() {
        // etcd answers such a transaction from whatever the member knows.
        return members.revision().await.map(Committed::Done).map_err(|failure| failure.of_read("read the revision"));
    }
    let mut tries = members.tries();
    loop {
        let failure = match leases_of(store, transaction).await {
            Ok(leases) => match attempt(store, transaction, &leases).await {
                Ok(answer) => return outcome(transaction, &answer),
                Err(failure) => failure,
            },
            // Nothing of the transaction itself has been sent yet.
            Err(failure) if failure.kind == Kind::NoSpace => return Err(Error::NoSpace { reason: failure.reason }),
            Err(failure) => failure,
        };
        let failure = match failure.kind {
            Kind::Nothing => failure,
            Kind::LeaseGone => Failure { kind: Kind::Nothing, ..failure },
            Kind::NoSpace => return Err(no_space(store, transaction, failure).await),
            Kind::TooLarge => return Err(Error::TooLarge { got: bytes(transaction) }),
            Kind::Unknown => return Err(unknown(&failure)),
            Kind::Compacted | Kind::Future | Kind::Refused => {
                return Err(Error::Unavailable { reason: format!("etcd does not commit: {failure}") });
            }
        };
        tries.again(failure).await.map_err(|failure| Error::Unavailable {
            reason: format!("cannot commit, nothing has happened: {failure}"),
        })?;
    }
}

fn unknown(failure: &Failure) -> Error {
    Error::Unavailable { reason: format!("whether the commit has happened, or will, is not known: {failure}") }
}

async fn attempt(
    store: &EtcdStore,
    transaction: &Transaction,
    leases: &[(u64, Lease)],
) -> Result<TxnResponse, Failure> {
    let members = store.members();
    let operations = transaction.operations.iter().map(|operation| {
        let lease = leases::seconds(operation).and_then(|seconds| leases.iter().find(|(of, _)| *of == seconds));
        match operation {
            Operation::Put { key, value, .. } => {
                let options = lease.map(|(_, lease)| PutOptions::new().with_lease(lease.id));
                TxnOp::put(key.as_str(), value.to_vec(), options)
            }
            Operation::Delete { key } => TxnOp::delete(key.as_str(), None),
        }
    });
    let compare = |compare: &longshore_core::store::Compare| {
        // For etcd, too, a key that is absent has revision 0.
        Compare::mod_revision(compare.key.as_str(), CompareOp::Equal, text::number(compare.revision))
    };
    let request = Txn::new()
        .when(transaction.compare.iter().map(compare).collect::<Vec<_>>())
        .and_then(operations.collect::<Vec<_>>())
        .or_else(transaction.compare.iter().map(|one| TxnOp::get(one.key.as_str(), None)).collect::<Vec<_>>());
    let answer = members.once(|mut member| async move { member.kv.txn(request).await }).await;
    match &answer {
        Ok(answer) if answer.succeeded() => keep_long_enough(leases, members).await,
        // It may have happened, or happen yet.
        Err(Failure { kind: Kind::Unknown | Kind::NoSpace, .. }) => keep_long_enough(leases, members).await,
        Err(Failure { kind: Kind::LeaseGone, .. }) => {
            leases.iter().for_each(|(_, lease)| store.leases().forget(lease.id));
        }
        _ => {}
    }
    answer
}

/// A lease for each time to live of the transaction's puts.
async fn leases_of(store: &EtcdStore, transaction: &Transaction) -> Result<Vec<(u64, Lease)>, Failure> {
    let mut leases: Vec<(u64, Lease)> = Vec::new();
    for seconds in transaction.operations.iter().filter_map(leases::seconds) {
        if leases.iter().all(|(of, _)| *of != seconds) {
            let keys = transaction.operations.iter().filter(|other| leases::seconds(other) == Some(seconds)).count();
            // Nothing of the transaction itself has been sent yet.
            let lease =
                store.leases().get(seconds, keys, store.members()).await.map_err(|failure| match failure.kind {
                    Kind::Unknown => Failure { kind: Kind::Nothing, ..failure },
                    _ => failure,
                })?;
            leases.push((seconds, lease));
        }
    }
    Ok(leases)
}

/// A commit that took long has eaten into its keys' time.
async fn keep_long_enough(leases: &[(u64, Lease)], members: &Members) {
    let now = members.clock().elapsed();
    for (_, lease) in leases.iter().filter(|(_, lease)| lease.is_late(now)) {
        if let Err(failure) = Leases::renew(*lease, members).await {
            tracing::warn!(%failure, "keys may expire up to some seconds early");
        }
    }
}

fn outcome(transaction: &Transaction, answer: &TxnResponse) -> Result<Committed, Error> {
    if answer.succeeded() {
        let revision = answer.header().map_or(0, |header| text::revision(header.revision()));
        return Ok(Committed::Done(revision));
    }
    for (compare, found) in transaction.compare.iter().zip(answer.op_responses()) {
        let TxnOpResponse::Get(found) = found else { continue };
        let current = found.kvs().first().map(text::entry).transpose()?;
        if current.as_ref().map_or(0, |current| current.revision) != compare.revision {
            return Ok(Committed::Conflict { key: compare.key.clone(), current });
        }
    }
    Err(Error::Corrupt { reason: "etcd refused a transaction of which every comparison holds".to_owned() })
}

async fn no_space(store: &EtcdStore, transaction: &Transaction, failure: Failure) -> Error {
    let telling = transaction.compare.iter().find(|compare| {
        transaction.operations.iter().any(|operation| match operation {
            // One that was made for a time may have been made and be gone again.
            Operation::Put { key, ttl, .. } => *key == compare.key && (compare.revision != 0 || ttl.is_none()),
            // Deleting what is absent changes nothing.
            Operation::Delete { key } => *key == compare.key && compare.revision != 0,
        })
    });
    let Some(telling) = telling else { return unknown(&failure) };
    match store.get(&telling.key).await {
        Ok(now) if now.value.as_ref().map_or(0, |now| now.revision) == telling.revision => {
            Error::NoSpace { reason: failure.reason }
        }
        _ => unknown(&failure),
    }
}

fn bytes(transaction: &Transaction) -> usize {
    let operations = transaction.operations.iter().map(|operation| match operation {
        Operation::Put { key, value, .. } => key.len() + value.len(),
        Operation::Delete { key } => key.len(),
    });
    operations.chain(transaction.compare.iter().map(|compare| compare.key.len())).sum()
}
