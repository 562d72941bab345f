//! What every store is put to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use longshore::core::clock::Clock;
use longshore::core::store::{Committed, Error, ListOptions, Store, Transaction, WatchEvent};
use longshore::storage_embedded::{EmbeddedStore, Options};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::{Bench, Outcome, Row};

/// Keys that are put over and over.
const KEYS: usize = 10_000;
/// Writers, and bytes of a value.
pub(crate) const PUTS: [(usize, usize); 12] = [
    (1, 256),
    (16, 256),
    (256, 256),
    (1024, 256),
    (1, 4096),
    (16, 4096),
    (256, 4096),
    (1024, 4096),
    (1, 65_536),
    (16, 65_536),
    (256, 65_536),
    (1024, 65_536),
];
/// Bytes of a value where they are not what is measured: a small pod.
const VALUE_BYTES: usize = 1024;
/// Keys that are put in one commit where puts are not what is measured.
const FILL: usize = 100;

impl Bench {
    /// Puts a store, which is empty, to everything.
    pub(crate) async fn store(&mut self, name: &'static str, store: Arc<dyn Store>) -> Outcome {
        for (writers, value_bytes) in self.sizes() {
            self.puts(name, &store, writers, value_bytes).await?;
        }
        if self.arguments.bytes.is_some() {
            return Ok(());
        }
        for keys in [KEYS, 150_000] {
            fill(&*store, 0..keys, VALUE_BYTES).await?;
            if keys == KEYS {
                self.gets(name, &*store).await?;
            }
            self.lists(name, &*store, keys).await?;
        }
        for watchers in [1, 100, 10_000] {
            self.watches(name, &store, watchers).await?;
        }
        Ok(())
    }

    async fn puts(
        &mut self,
        name: &'static str,
        store: &Arc<dyn Store>,
        writers: usize,
        value_bytes: usize,
    ) -> Outcome {
        let (before, start) = (store.status().await?.revision, self.clock.elapsed());
        let end = start + Duration::from_secs_f64(self.arguments.seconds);
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let (store, clock) = (Arc::clone(store), self.clock.clone());
            tasks.spawn(async move {
                let (mut times, mut rng) = (Vec::new(), Pcg64::seed_from_u64(writer as u64));
                // Fewer keys of large values, so that the disk holds them.
                let keys = if value_bytes > 10_000 { KEYS / 10 } else { KEYS };
                while clock.elapsed() < end {
                    let key = key(rng.random_range(0..keys));
                    let begin = clock.elapsed();
                    store.commit(Transaction::new().put(key, vec![b'x'; value_bytes])).await?;
                    times.push((clock.elapsed() - begin).as_secs_f64() * 1e6);
                }
                Ok::<_, Error>(times)
            });
        }
        let mut times = Vec::new();
        for one in tasks.join_all().await {
            times.extend(one?);
        }
        let took = (self.clock.elapsed() - start).as_secs_f64();
        let happened = store.status().await?.revision - before;
        assert_eq!(happened, times.len() as u64, "every put took a revision");
        let per_second = times.len() as f64 / took;
        self.row(Row { store: name, operation: "put", writers, value_bytes, per_second, times, ..Row::default() });
        Ok(())
    }

    async fn gets(&mut self, name: &'static str, store: &dyn Store) -> Outcome {
        let (mut times, start) = (Vec::new(), self.clock.elapsed());
        for index in 0..10_000 {
            let begin = self.clock.elapsed();
            let found = store.get(&key(index * 7919 % KEYS)).await?;
            times.push(self.since(begin));
            assert!(found.value.is_some(), "the key was put");
        }
        let per_second = times.len() as f64 * 1e6 / self.since(start);
        let keys = Some(KEYS);
        self.row(Row {
            store: name,
            operation: "get",
            value_bytes: VALUE_BYTES,
            keys,
            per_second,
            times,
            ..Row::default()
        });
        Ok(())
    }

    async fn lists(&mut self, name: &'static str, store: &dyn Store, keys: usize) -> Outcome {
        let (mut times, start) = (Vec::new(), self.clock.elapsed());
        for _ in 0..5 {
            let begin = self.clock.elapsed();
            let page = store.list("/registry/", ListOptions::default()).await?;
            times.push(self.since(begin));
            assert_eq!(page.entries.len(), keys);
        }
        let per_second = times.len() as f64 * 1e6 / self.since(start);
        self.row(Row {
            store: name,
            operation: "list",
            value_bytes: VALUE_BYTES,
            keys: Some(keys),
            per_second,
            times,
            ..Row::default()
        });
        Ok(())
    }

    /// How long a change takes to reach all watchers of its prefix.
    async fn watches(&mut self, name: &'static str, store: &Arc<dyn Store>, watchers: usize) -> Outcome {
        const CHANGES: usize = 30;
        let after = store.status().await?.revision;
        let (seen, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        for _ in 0..watchers {
            let mut watch = store.watch("/registry/", after).await?;
            let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
            tasks.spawn(async move {
                let mut changes = 0;
                while changes < CHANGES {
                    match watch.next().await {
                        Some(Ok(WatchEvent::Changes { changes: these, .. })) => {
                            changes += these.len();
                            if (seen.fetch_add(these.len(), Ordering::SeqCst) + these.len()).is_multiple_of(watchers) {
                                all.notify_one();
                            }
                        }
                        Some(Ok(WatchEvent::Progress(_))) => {}
                        Some(Err(error)) => return Err(error.to_string()),
                        None => return Err("the watch ended".to_owned()),
                    }
                }
                Ok(())
            });
        }
        let (mut times, start) = (Vec::new(), self.clock.elapsed());
        for index in 0..CHANGES {
            let begin = self.clock.elapsed();
            store.commit(Transaction::new().put(key(index), vec![b'y'; VALUE_BYTES])).await?;
            while seen.load(Ordering::SeqCst) < (index + 1) * watchers {
                all.notified().await;
            }
            times.push(self.since(begin));
        }
        let per_second = (CHANGES * watchers) as f64 * 1e6 / self.since(start);
        for one in tasks.join_all().await {
            one?;
        }
        self.row(Row {
            store: name,
            operation: "watch",
            writers: 1,
            value_bytes: VALUE_BYTES,
            watchers: Some(watchers),
            per_second,
            times,
            ..Row::default()
        });
        Ok(())
    }

    /// Opens an embedded store of many keys: as a kill leaves it, with the logs to replay, and after it was closed.
    pub(crate) async fn open(&mut self, directory: &Path, killed: &Path) -> Outcome {
        let keys = self.arguments.keys;
        let store = EmbeddedStore::open(directory, Options::default())?;
        fill(&store, 0..keys, 256).await?;
        copy(directory, killed)?;
        store.close().await;
        drop(store);
        let logs = store_bytes(killed)? - std::fs::metadata(killed.join("store.redb"))?.len();
        eprintln!("embedded  a kill leaves {:.1} MB of logs", logs as f64 / 1e6);
        let (mut times, again) = (Vec::new(), killed.with_extension("again"));
        for _ in 0..5 {
            // Each time with as much to replay as the first.
            copy(killed, &again)?;
            times.push(self.open_once(&again, keys).await?);
            std::fs::remove_dir_all(&again)?;
        }
        self.opened("open-after-kill", keys, times);
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(self.open_once(directory, keys).await?);
        }
        self.opened("open", keys, times);
        Ok(())
    }

    /// Microseconds until a key can be read.
    async fn open_once(&self, directory: &Path, keys: usize) -> Outcome<f64> {
        let begin = self.clock.elapsed();
        let store = EmbeddedStore::open(directory, Options::default())?;
        let found = store.get(&key(keys / 2)).await?;
        let took = self.since(begin);
        assert!(found.value.is_some(), "the key was put");
        assert_eq!(store.status().await?.keys, Some(keys as u64));
        Ok(took)
    }

    fn opened(&mut self, operation: &'static str, keys: usize, times: Vec<f64>) {
        let per_second = 1e6 * times.len() as f64 / times.iter().sum::<f64>();
        let row = Row { store: "embedded", operation, value_bytes: 256, keys: Some(keys), ..Row::default() };
        self.row(Row { per_second, times, ..row });
    }

    /// The leases of 5,000 nodes, renewed again and again by 256 writers: what that leaves on the disk, and the longest wait.
    pub(crate) async fn heartbeats(&mut self, directory: &Path) -> Outcome {
        const NODES: usize = 5000;
        let store = Arc::new(EmbeddedStore::open(directory, Options::default())?);
        let (next, start) = (Arc::new(AtomicUsize::new(0)), self.clock.elapsed());
        let total = NODES * self.arguments.heartbeats;
        let mut tasks = JoinSet::new();
        for _ in 0..256 {
            let (store, clock, next) = (Arc::clone(&store), self.clock.clone(), Arc::clone(&next));
            tasks.spawn(async move {
                let (mut times, mut longest, mut bytes) = (Vec::new(), 0_f64, 0);
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= total {
                        return Ok::<_, Error>((times, longest, bytes));
                    }
                    let begin = clock.elapsed();
                    let name = format!("/registry/coordination.k8s.io/leases/kube-node-lease/node-{}", index % NODES);
                    store.commit(Transaction::new().put(name, vec![b'x'; 600])).await?;
                    let took = (clock.elapsed() - begin).as_secs_f64() * 1e6;
                    longest = longest.max(took);
                    // Not all, for what is measured includes memory.
                    if index.is_multiple_of(97) {
                        times.push(took);
                    }
                    if index.is_multiple_of(10_000) {
                        bytes = bytes.max(store.status().await?.bytes.unwrap_or(0));
                    }
                }
            });
        }
        let (mut times, mut longest, mut bytes) = (Vec::new(), 0_f64, 0);
        for one in tasks.join_all().await {
            let (these, slowest, most) = one?;
            times.extend(these);
            longest = longest.max(slowest);
            bytes = bytes.max(most);
        }
        let per_second = total as f64 * 1e6 / self.since(start);
        assert_eq!(store.status().await?.keys, Some(NODES as u64));
        store.close().await;
        let closed = store_bytes(directory)?;
        eprintln!(
            "embedded  {NODES} leases of 600 B renewed {} times each: at most {:.1} MB on disk, {:.1} MB when closed; the longest \
             commit took {:.1} ms; at most {} of memory in the process so far",
            self.arguments.heartbeats,
            bytes as f64 / 1e6,
            closed as f64 / 1e6,
            longest / 1e3,
            memory()?
        );
        let row = Row { store: "embedded", operation: "heartbeat", writers: 256, value_bytes: 600, ..Row::default() };
        self.row(Row { keys: Some(NODES), per_second, times, ..row });
        Ok(())
    }
}

/// The most memory that this process had, in the kernel's words.
fn memory() -> Outcome<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("an unknown amount").trim().to_owned())
}

fn copy(from: &Path, to: &Path) -> Outcome {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn store_bytes(directory: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn key(index: usize) -> String {
    format!("/registry//pods/default/pod-{index:07}")
}

/// Puts every key once.
async fn fill(store: &dyn Store, keys: std::ops::Range<usize>, value_bytes: usize) -> Outcome {
    for start in keys.clone().step_by(FILL) {
        let put = |all: Transaction, index| all.put(key(index), vec![b'x'; value_bytes]);
        let end = (start + FILL).min(keys.end);
        let outcome = store.commit((start..end).fold(Transaction::new(), put)).await?;
        assert!(matches!(outcome, Committed::Done(_)), "an unconditional put is done");
    }
    Ok(())
}
