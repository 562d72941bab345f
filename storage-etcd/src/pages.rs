//! Lists: in requests of bounded size, all at one revision.

use etcd_client::{GetOptions, GetResponse};
use longshore_core::store::{Error, ListOptions, Page};

use crate::failure::{Failure, Kind};
use crate::store::EtcdStore;
use crate::text;

/// How many entries the first request asks for.
const FIRST: usize = 500;

/// Most entries of one request.
const MOST: usize = 10_000;

/// Fewest, however large they are.
const FEWEST: usize = 16;

/// About how many bytes one answer shall have.
const ANSWER_BYTES: usize = 4 << 20;

/// How often a listing of now begins again because it took so long that its revision was compacted.
const RESTARTS_MAX: usize = 3;

/// Lists, for as many requests as it takes.
pub(crate) async fn list(store: &EtcdStore, prefix: &str, options: ListOptions) -> Result<Page, Error> {
    if options.revision == Some(0) {
        // For etcd 0 means now.
        return Err(store.compacted_error(0).await?);
    }
    let mut restarts = 0;
    loop {
        match list_once(store, prefix, &options).await {
            Err((requested, Failure { kind: Kind::Compacted, .. })) => {
                if options.revision.is_none() && restarts < RESTARTS_MAX {
                    restarts += 1;
                    continue;
                }
                return Err(store.compacted_error(requested).await?);
            }
            Err((requested, Failure { kind: Kind::Future, .. })) => {
                let current = store.revision().await?;
                if current < requested {
                    return Err(Error::FutureRevision { requested, current });
                }
                // It has happened meanwhile.
            }
            Err((_, Failure { kind: Kind::Refused, reason })) => return Err(Error::Unavailable { reason }),
            Err((_, failure)) => return Err(failure.of_read("list")),
            Ok(page) => return page,
        }
    }
}

type Failed = (u64, Failure);

async fn list_once(store: &EtcdStore, prefix: &str, options: &ListOptions) -> Result<Result<Page, Error>, Failed> {
    let mut revision = options.revision;
    let mut entries = Vec::new();
    let (mut step, mut after) = (FIRST, options.after.clone());
    loop {
        let left = if options.limit == 0 { usize::MAX } else { options.limit - entries.len() };
        let asked = step.min(left);
        let failed = |failure| (revision.unwrap_or(0), failure);
        let answer = ask(store, prefix, after.as_deref(), revision, asked).await.map_err(failed)?;
        let at = *revision.get_or_insert_with(|| answer.header().map_or(0, |header| text::revision(header.revision())));
        let found: Result<Vec<_>, _> = answer.kvs().iter().map(text::entry).collect();
        let found = match found {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let bytes: usize = found.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
        let total = usize::try_from(answer.count()).unwrap_or(0);
        let remaining = total.saturating_sub(found.len());
        step = next_step(step, found.len(), bytes);
        let is_last = !answer.more() || found.len() >= left;
        drop(answer);
        entries.extend(found);
        if is_last {
            return Ok(Ok(Page { entries, more: remaining > 0, remaining: Some(remaining as u64), revision: at }));
        }
        after = entries.last().map(|entry| entry.key.clone());
    }
}

/// How many entries the next request asks for: as many as fit into an answer, by the size of those that came; but not suddenly
/// very many, and never all.
fn next_step(step: usize, found: usize, bytes: usize) -> usize {
    let fit = ANSWER_BYTES / (bytes / found.max(1) + 1);
    fit.clamp(FEWEST, (step * 4).min(MOST))
}

async fn ask(
    store: &EtcdStore,
    prefix: &str,
    after: Option<&str>,
    revision: Option<u64>,
    limit: usize,
) -> Result<GetResponse, Failure> {
    let (start, end) = text::range(prefix, after);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let options = GetOptions::new().with_range(end).with_limit(limit).with_revision(revision.map_or(0, text::number));
    store
        .members()
        .read(|mut member| {
            let (start, options) = (start.clone(), options.clone());
            async move { member.kv.get(start, Some(options)).await }
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 150,000 pods of some size are never more than a few MiB at a time.
    #[test]
    fn no_request_asks_for_everything() {
        for size in [1, 100, 1_000, 5_000, 100_000, 1_500_000] {
            let (mut step, mut left, mut requests) = (FIRST, 150_000_usize, 0);
            while left > 0 {
                assert!((1..=MOST).contains(&step), "{step} of {size} bytes");
                assert!(step <= FIRST.max(FEWEST) || step * size <= ANSWER_BYTES, "{step} of {size} bytes");
                let found = step.min(left);
                left -= found;
                requests += 1;
                step = next_step(step, found, found * size);
            }
            assert!(requests <= 150_000_usize.div_ceil((ANSWER_BYTES / (size + 1)).clamp(FEWEST, MOST)) + 4);
        }
        assert_eq!(next_step(FIRST, 0, 0), FIRST * 4, "nothing came");
    }
}
