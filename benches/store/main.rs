//! Measures the stores beside one another, on one disk:
//! `cargo bench --features embedded,etcd --bench store -- [--json] [--seconds S] [--keys N] [--heartbeats N] [--only PART]
//! [--bytes N]`.
//!
//! `--json` prints one object a line on standard output: `store`, `operation`, `writers`, `value_bytes`, `per_second`, `p50_us`,
//! `p99_us`, and where it applies `keys` and `watchers`. A table goes to standard error. With the feature `etcd`, and `etcd` on
//! PATH, one member runs on the same disk, with its default durability. The store "disk" is none: its puts are what the disk would
//! allow if all writers wrote at once and one sync made that durable. Whatever is timed is also checked to have happened.

mod disk;
#[cfg(feature = "etcd")]
mod etcd;
mod work;

use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use longshore::core::clock::{Clock, SystemClock};
use longshore::core::store::{MemoryStore, Store};
use longshore::storage_embedded::{EmbeddedStore, Options};
use serde_json::json;

/// As in the program `longshore`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(about = "Measures the stores beside one another")]
struct Arguments {
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
    /// Seconds for which puts are counted, for each number of writers and size of value
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Keys in the store that is opened
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    /// How often each of 5,000 leases is renewed; 8,640 is a day
    #[arg(long, default_value_t = 100)]
    heartbeats: usize,
    /// A part alone
    #[arg(long)]
    only: Option<Part>,
    /// Puts of values of so many bytes alone
    #[arg(long)]
    bytes: Option<usize>,
    /// Cargo says so itself
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Memory,
    Embedded,
    Etcd,
    Heartbeats,
    Open,
}

/// One row of the result.
#[derive(Debug, Default)]
struct Row {
    store: &'static str,
    operation: &'static str,
    writers: usize,
    value_bytes: usize,
    keys: Option<usize>,
    watchers: Option<usize>,
    per_second: f64,
    /// Microseconds that each took.
    times: Vec<f64>,
}

struct Bench {
    clock: SystemClock,
    arguments: Arguments,
    /// Puts a second by store, writers and bytes of a value, to compare.
    puts: Vec<(&'static str, usize, usize, f64)>,
}

fn main() -> Outcome {
    let mut bench = Bench { clock: SystemClock::new(), arguments: Arguments::parse(), puts: Vec::new() };
    if bench.sizes().next().is_none() {
        return Err("--bytes: values of 256, 4096 or 65536 bytes are put".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    bench.disk(directory.path())?;
    runtime.block_on(async {
        if bench.does(Part::Memory) {
            bench.store("memory", Arc::new(MemoryStore::new())).await?;
        }
        if bench.does(Part::Embedded) {
            let store = Arc::new(EmbeddedStore::open(path("embedded"), Options::default())?);
            bench.store("embedded", Arc::clone(&store) as Arc<dyn Store>).await?;
            store.close().await;
        }
        if bench.does(Part::Etcd) {
            bench.etcd(&path("etcd")).await?;
        }
        if bench.does(Part::Heartbeats) {
            bench.heartbeats(&path("heartbeats")).await?;
        }
        if bench.does(Part::Open) {
            bench.open(&path("open"), &path("killed")).await?;
        }
        Outcome::Ok(())
    })?;
    bench.compare();
    Ok(())
}

impl Bench {
    fn does(&self, part: Part) -> bool {
        let puts = matches!(part, Part::Memory | Part::Embedded | Part::Etcd);
        self.arguments.only.is_none_or(|only| only == part) && (puts || self.arguments.bytes.is_none())
    }

    /// How many writers put values of how many bytes.
    fn sizes(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let only = self.arguments.bytes;
        work::PUTS.into_iter().filter(move |(_, bytes)| only.is_none_or(|only| only == *bytes))
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn row(&mut self, mut row: Row) {
        row.times.sort_by(f64::total_cmp);
        let quantile = |part: f64| row.times.get(((row.times.len().max(1) - 1) as f64 * part) as usize).copied();
        let (p50, p99) = (quantile(0.5).unwrap_or(0.0), quantile(0.99).unwrap_or(0.0));
        let more =
            row.watchers.map(|count| format!("{count} watchers")).or(row.keys.map(|count| format!("{count} keys")));
        eprintln!(
            "{:>8}  {:<9} {:>5} writers {:>6} B {:<15} {:>12.1} /s {:>10.1} us {:>10.1} us",
            row.store,
            row.operation,
            row.writers,
            row.value_bytes,
            more.unwrap_or_default(),
            row.per_second,
            p50,
            p99
        );
        if row.operation == "put" {
            self.puts.push((row.store, row.writers, row.value_bytes, row.per_second));
        }
        if self.arguments.json {
            let mut line = json!({
                "store": row.store,
                "operation": row.operation,
                "writers": row.writers,
                "value_bytes": row.value_bytes,
                "per_second": row.per_second,
                "p50_us": p50,
                "p99_us": p99,
            });
            for (name, count) in [("keys", row.keys), ("watchers", row.watchers)] {
                if let Some(count) = count {
                    line[name] = count.into();
                }
            }
            println!("{line}");
        }
    }

    /// Microseconds since `start`.
    fn since(&self, start: Duration) -> f64 {
        (self.clock.elapsed() - start).as_secs_f64() * 1e6
    }

    #[cfg(feature = "etcd")]
    async fn etcd(&mut self, directory: &std::path::Path) -> Outcome {
        let Some(member) = etcd::Member::start(&self.clock, directory).await? else {
            eprintln!("etcd is left out: it is not installed (package etcd-server)");
            return Ok(());
        };
        let store = Arc::new(member.open().await?);
        self.store("etcd", Arc::clone(&store) as Arc<dyn Store>).await?;
        store.close().await;
        Ok(())
    }

    #[cfg(not(feature = "etcd"))]
    async fn etcd(&mut self, _directory: &std::path::Path) -> Outcome {
        eprintln!("etcd is left out: the bench is built without the feature etcd");
        Ok(())
    }

    /// Puts of the embedded store beside etcd's, and beside what the disk allows.
    fn compare(&self) {
        let find = |store, writers, bytes| {
            let found = self.puts.iter().find(|put| (put.0, put.1, put.2) == (store, writers, bytes));
            found.map(|put| put.3)
        };
        for (writers, bytes) in work::PUTS {
            if let (Some(own), Some(etcd)) = (find("embedded", writers, bytes), find("etcd", writers, bytes)) {
                eprintln!("embedded puts {:.1} times as fast as etcd, {writers} writers, {bytes} B", own / etcd);
            }
            if let (Some(own), Some(disk)) = (find("embedded", writers, bytes), find("disk", writers, bytes)) {
                eprintln!(
                    "embedded puts {:.0} % of what the disk allows, {writers} writers, {bytes} B",
                    100.0 * own / disk
                );
            }
        }
    }
}
