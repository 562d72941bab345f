//! Measures the stores: `cargo bench --features embedded --bench store [-- --json] [-- --seconds 2]`.
//!
//! Each line of the result is one figure; `--json` prints them as one JSON document with what is known of the machine.
//! Whatever is timed is also checked to have happened.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore::core::clock::{Clock, SystemClock};
use longshore::core::store::{Committed, ListOptions, MemoryStore, Store, Transaction, WatchEvent};
use longshore::storage_embedded::{EmbeddedStore, Options};
use serde_json::json;
use tokio::task::JoinSet;

/// Bytes of a value: a small pod.
const VALUE_BYTES: usize = 2048;
/// Keys that are put over and over.
const KEYS: usize = 10_000;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

struct Bench {
    clock: SystemClock,
    seconds: f64,
    figures: Vec<Figure>,
}

struct Figure {
    subject: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let (mut json, mut seconds) = (false, 2.0);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--seconds" => seconds = arguments.next().ok_or("--seconds wants a number")?.parse()?,
            // Cargo says so itself.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}: there are --json and --seconds N").into()),
        }
    }
    let mut bench = Bench { clock: SystemClock::new(), seconds, figures: Vec::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    bench.disk()?;
    runtime.block_on(async {
        bench.store("memory", Arc::new(MemoryStore::new())).await?;
        let directory = tempfile::tempdir()?;
        let open = || EmbeddedStore::open(directory.path(), Options::default());
        let start = bench.clock.elapsed();
        let store = Arc::new(open()?);
        bench.add("embedded", "open, empty", bench.since(start, 1), "us");
        bench.store("embedded", Arc::clone(&store) as Arc<dyn Store>).await?;
        let (keys, bytes) = store.status().await.map(|status| (status.keys, status.bytes))?;
        store.close().await;
        drop(store);
        let start = bench.clock.elapsed();
        let store = open()?;
        bench.add("embedded", &format!("open, {} keys", keys.unwrap_or(0)), bench.since(start, 1), "us");
        bench.add("embedded", "file", bytes.unwrap_or(0) as f64 / 1e6, "MB");
        store.close().await;
        Outcome::Ok(())
    })?;
    bench.print(json);
    Ok(())
}

impl Bench {
    fn add(&mut self, subject: &'static str, what: &str, value: f64, unit: &'static str) {
        eprintln!("{subject:>9}  {what:<32} {value:>12.1} {unit}");
        self.figures.push(Figure { subject, what: what.to_owned(), value, unit });
    }

    /// Microseconds each of `count` things took since `start`.
    fn since(&self, start: Duration, count: usize) -> f64 {
        (self.clock.elapsed() - start).as_secs_f64() * 1e6 / count as f64
    }

    /// What the disk itself takes to make one small write durable.
    fn disk(&mut self) -> Outcome {
        let directory = tempfile::tempdir()?;
        let mut file = File::create(directory.path().join("probe"))?;
        file.write_all(&[0; 1 << 20])?;
        file.sync_all()?;
        let mut times = Vec::new();
        for index in 0..500 {
            let start = self.clock.elapsed();
            file.seek(SeekFrom::Start(index % 256 * 4096))?;
            file.write_all(&[index as u8; 4096])?;
            file.sync_data()?;
            times.push(self.since(start, 1));
        }
        self.quantiles("disk", "fdatasync of 4 KiB", times);
        Ok(())
    }

    fn quantiles(&mut self, subject: &'static str, what: &str, mut times: Vec<f64>) {
        times.sort_by(f64::total_cmp);
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            let at = ((times.len() - 1) as f64 * part) as usize;
            self.add(subject, &format!("{what}, {name}"), times[at], "us");
        }
    }

    async fn store(&mut self, subject: &'static str, store: Arc<dyn Store>) -> Outcome {
        for writers in [1, 16, 256] {
            self.puts(subject, &store, writers).await?;
        }
        fill(&*store).await?;
        self.reads(subject, &*store).await?;
        self.watches(subject, &store).await
    }

    async fn puts(&mut self, subject: &'static str, store: &Arc<dyn Store>, writers: usize) -> Outcome {
        let (before, start) = (store.status().await?.revision, self.clock.elapsed());
        let end = start + Duration::from_secs_f64(self.seconds);
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let (store, clock) = (Arc::clone(store), self.clock.clone());
            tasks.spawn(async move {
                let mut times = Vec::new();
                while clock.elapsed() < end {
                    let key = key((writer * 7919 + times.len() * 31) % KEYS);
                    let begin = clock.elapsed();
                    store.commit(Transaction::new().put(key, vec![b'x'; VALUE_BYTES])).await?;
                    times.push((clock.elapsed() - begin).as_secs_f64() * 1e6);
                }
                Ok::<_, longshore::core::store::Error>(times)
            });
        }
        let mut times = Vec::new();
        for one in tasks.join_all().await {
            times.extend(one?);
        }
        let took = (self.clock.elapsed() - start).as_secs_f64();
        let happened = store.status().await?.revision - before;
        assert_eq!(happened, times.len() as u64, "every put took a revision");
        self.add(subject, &format!("put, {writers} writers"), times.len() as f64 / took, "/s");
        self.quantiles(subject, &format!("put, {writers} writers"), times);
        Ok(())
    }

    async fn reads(&mut self, subject: &'static str, store: &dyn Store) -> Outcome {
        let mut times = Vec::new();
        for index in 0..10_000 {
            let start = self.clock.elapsed();
            let found = store.get(&key(index * 7919 % KEYS)).await?;
            times.push(self.since(start, 1));
            assert!(found.value.is_some(), "the key was put");
        }
        self.quantiles(subject, "get", times);
        for (name, limit, rounds) in [("list of 500", 500, 100), ("list of 10,000", 0, 5)] {
            let start = self.clock.elapsed();
            for _ in 0..rounds {
                let page = store.list("/registry/", ListOptions { limit, ..ListOptions::default() }).await?;
                assert_eq!(page.entries.len(), if limit == 0 { KEYS } else { limit });
            }
            self.add(subject, name, self.since(start, rounds), "us");
        }
        Ok(())
    }

    async fn watches(&mut self, subject: &'static str, store: &Arc<dyn Store>) -> Outcome {
        for watchers in [1, 100] {
            const PUTS: usize = 500;
            let (after, start) = (store.status().await?.revision, self.clock.elapsed());
            let mut tasks = JoinSet::new();
            for _ in 0..watchers {
                let mut watch = store.watch("/registry/", after).await?;
                tasks.spawn(async move {
                    let mut seen = 0;
                    while seen < PUTS {
                        match watch.next().await {
                            Some(Ok(WatchEvent::Changes { changes, .. })) => seen += changes.len(),
                            Some(Ok(WatchEvent::Progress(_))) => {}
                            Some(Err(error)) => return Err(error.to_string()),
                            None => return Err("the watch ended".to_owned()),
                        }
                    }
                    Ok(())
                });
            }
            for index in 0..PUTS {
                store.commit(Transaction::new().put(key(index), vec![b'y'; VALUE_BYTES])).await?;
            }
            for one in tasks.join_all().await {
                one?;
            }
            let what = format!("put until seen by {watchers} watches");
            self.add(subject, &what, self.since(start, PUTS), "us");
        }
        Ok(())
    }

    fn print(&self, json: bool) {
        if !json {
            return;
        }
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|figure| {
                json!({"subject": figure.subject, "what": figure.what, "value": figure.value, "unit": figure.unit})
            })
            .collect();
        let document = json!({
            "bench": "store",
            "version": env!("CARGO_PKG_VERSION"),
            "kernel": read("/proc/sys/kernel/osrelease"),
            "cpus": std::thread::available_parallelism().map_or(0, usize::from),
            "value_bytes": VALUE_BYTES,
            "figures": figures,
        });
        println!("{document:#}");
    }
}

fn key(index: usize) -> String {
    format!("/registry//pods/default/pod-{index:06}")
}

/// Puts every key once.
async fn fill(store: &dyn Store) -> Outcome {
    for start in (0..KEYS).step_by(100) {
        let put = |all: Transaction, index| all.put(key(index), vec![b'x'; VALUE_BYTES]);
        let outcome = store.commit((start..start + 100).fold(Transaction::new(), put)).await?;
        assert!(matches!(outcome, Committed::Done(_)), "an unconditional put is done");
    }
    Ok(())
}
