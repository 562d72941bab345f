//! Compaction of what is older than an interval.
//!
//! As Kubernetes' API servers do it, and by the same key, so that of several servers over one etcd one does it each time: its
//! version is the turn, and whoever raises it from the value that it saw last has the turn. What is compacted is the revision of
//! an interval ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use longshore_core::store::Revision;

use crate::failure::{Failure, Kind};
use crate::members::{Member, Members};
use crate::text;

/// The key whose version is the turn; its value is the revision that was current then.
pub(crate) const KEY: &str = "compact_rev_key";

/// What is known since the last interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Turn {
    /// The key's version.
    version: i64,
    /// The revision of that time.
    revision: Revision,
}

/// Compacts until dropped.
pub(crate) async fn run(members: Arc<Members>, interval: Duration, compacted: Arc<AtomicU64>) {
    let mut turn = Turn::default();
    loop {
        members.clock().sleep(interval).await;
        match take(&members, turn).await {
            Ok((next, true)) => {
                let until = std::mem::replace(&mut turn, next).revision;
                // The first time it is not known what was current an interval ago.
                if until == 0 {
                    continue;
                }
                match compact(&members, until).await {
                    Ok(()) => {
                        compacted.fetch_max(until, Ordering::AcqRel);
                        tracing::debug!(until, "compacted etcd");
                    }
                    Err(failure) => tracing::warn!(%failure, until, "cannot compact etcd"),
                }
            }
            Ok((next, false)) => turn = next,
            Err(failure) => tracing::warn!(%failure, "cannot take the turn to compact etcd"),
        }
    }
}

/// Takes the turn if nobody has done so since `turn`, and says whether.
async fn take(members: &Members, turn: Turn) -> Result<(Turn, bool), Failure> {
    // Asked twice, the second finds the turn taken, and this interval is left out: no harm.
    let answer = members.read(|mut member: Member| async move {
        let request = Txn::new()
            .when([Compare::version(KEY, CompareOp::Equal, turn.version)])
            .and_then([TxnOp::put(KEY, turn.revision.to_string(), None)])
            .or_else([TxnOp::get(KEY, None)]);
        member.kv.txn(request).await
    });
    let answer = answer.await?;
    let revision = answer.header().map_or(0, |header| text::revision(header.revision()));
    if answer.succeeded() {
        return Ok((Turn { version: turn.version + 1, revision }, true));
    }
    let version = answer.op_responses().first().map_or(0, |found| match found {
        TxnOpResponse::Get(found) => found.kvs().first().map_or(0, etcd_client::KeyValue::version),
        _ => 0,
    });
    Ok((Turn { version, revision }, false))
}

async fn compact(members: &Members, until: Revision) -> Result<(), Failure> {
    let number = text::number(until);
    match members.read(|mut member| async move { member.kv.compact(number, None).await.map(drop) }).await {
        // Somebody has gone further.
        Err(Failure { kind: Kind::Compacted, .. }) => Ok(()),
        compacted => compacted,
    }
}
