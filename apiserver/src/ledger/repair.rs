//! Puts records right that do not agree with the pods: after an upgrade from a version without a ledger, or damage.

use std::collections::BTreeMap;

use longshore_core::store::{self, Committed, ListOptions, Revision, Store, Transaction};

use super::{Claim, Entry, PREFIX, Record, Seen, decode, write};

/// How many records are read at once.
const PAGE: usize = 500;

/// Makes the records agree with the claims of all pods, both as of `revision`. Says whether they do now: if somebody changed a
/// record in between, the caller reads the pods anew.
///
/// # Errors
/// What the store says. A record that cannot be read is replaced.
pub(crate) async fn repair(
    store: &dyn Store,
    revision: Revision,
    claims: impl Iterator<Item = Claim>,
) -> Result<bool, store::Error> {
    let mut stored = stored(store, revision).await?;
    let mut wanted: BTreeMap<String, Record> = BTreeMap::new();
    for claim in claims {
        let known = stored.get(&claim.node).and_then(|seen| seen.as_ref().ok()?.record.pods.get(&claim.uid));
        let uncharged = known.is_some_and(|entry| entry.uncharged) && !claim.runs;
        let entry = Entry::new(&claim, uncharged);
        wanted.entry(claim.node).or_default().pods.insert(claim.uid, entry);
    }
    for node in wanted.keys() {
        stored.entry(node.clone()).or_insert_with(|| Ok(Seen::default()));
    }
    for (node, seen) in stored {
        let record = wanted.remove(&node).unwrap_or_default();
        let seen = match seen {
            Ok(seen) if seen.record == record => continue,
            Ok(seen) => seen.revision,
            Err(revision) => revision,
        };
        tracing::warn!(node, pods = record.pods.len(), "the ledger's record of the node did not agree with its pods");
        let transaction = write(Transaction::new(), &super::key(&node), &Seen { revision: seen, record });
        if let Committed::Conflict { .. } = store.commit(transaction).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All records by node; of one that cannot be read, only its revision.
async fn stored(
    store: &dyn Store,
    revision: Revision,
) -> Result<BTreeMap<String, Result<Seen, Revision>>, store::Error> {
    let mut options = ListOptions { revision: Some(revision), limit: PAGE, after: None };
    let mut stored = BTreeMap::new();
    loop {
        let page = store.list(PREFIX, options.clone()).await?;
        options.after = page.entries.last().map(|entry| entry.key.clone());
        for entry in page.entries {
            let seen = decode(&entry.key, &entry.value)
                .map(|record| Seen { revision: entry.revision, record })
                .map_err(|_| entry.revision);
            stored.insert(entry.key[PREFIX.len()..].to_owned(), seen);
        }
        if !page.more {
            return Ok(stored);
        }
    }
}
