//! Kills a process that commits, 200 times, at random moments: what it acknowledged must be there afterwards.
//!
//! The process is this test binary again, told by an environment variable to be the victim. Each of its writers
//! commits one operation after the other and prints what was acknowledged; what the n-th operation of a writer does
//! follows from n, so the state after it can be computed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::clock::{Clock, SystemClock};
use longshore_core::store::{Committed, ListOptions, Revision, Store, Transaction};
use longshore_storage_embedded::{EmbeddedStore, Options};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tokio::task::JoinSet;

const KILLS: usize = 200;
const WRITERS: usize = 6;
const KEYS: u64 = 20;
/// Names the directory of the store to a victim.
const VICTIM: &str = "LONGSHORE_CRASH_TEST_VICTIM";

/// Key and value (`None`: deleted) of a writer's n-th operation.
fn operation(writer: usize, n: u64) -> (String, Option<String>) {
    let key = format!("/w/{writer}/{:02}", n % KEYS);
    let value = (n % 7 != 6).then(|| format!("{n} {}", "x".repeat((n % 13 * 300) as usize)));
    (key, value)
}

/// Everything that a writer's first n operations leave behind.
fn state_after(writer: usize, n: u64) -> BTreeMap<String, String> {
    let last = (n.saturating_sub(KEYS) + 1..=n).map(|n| operation(writer, n));
    last.filter_map(|(key, value)| value.map(|value| (key, value))).collect()
}

/// The file is written often, so that many are killed over it; and batches are full soon, so that one is prepared while another
/// is synced.
fn options() -> Options {
    Options { log_bytes: 32 << 10, logs_max: 3, batch_max: 2, ..Options::default() }
}

/// Commits until killed. Each commit counts the writer's operations in a key of its own.
async fn victim(directory: &Path) {
    let store = Arc::new(EmbeddedStore::open(directory, options()).expect("the victim opens the store"));
    let status = store.status().await.expect("the store answers");
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("the tester reads");
    };
    say(format!("\nopen {}\n", status.revision));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let counter = format!("/n/{writer}");
            let counted = store.get(&counter).await.expect("the store reads").value;
            let (mut n, mut revision) = counted.map_or((0, 0), |counted| {
                let n = String::from_utf8_lossy(&counted.value).parse().expect("the counter is a number");
                (n, counted.revision)
            });
            loop {
                n += 1;
                let transaction =
                    Transaction::new().expect(counter.clone(), revision).put(counter.clone(), n.to_string());
                let transaction = match operation(writer, n) {
                    (key, Some(value)) => transaction.put(key, value),
                    (key, None) => transaction.delete(key),
                };
                match store.commit(transaction).await {
                    Ok(Committed::Done(done)) => revision = done,
                    other => panic!("{other:?}"),
                }
                say(format!("ack {writer} {n} {revision}\n"));
            }
        });
    }
    writers.join_all().await;
}

/// A victim that is killed and reaped whatever happens to the test.
struct Victim(Child);

impl Victim {
    fn start(directory: &Path) -> Self {
        let binary = std::env::current_exe().expect("a test knows its binary");
        let child = Command::new(binary)
            .args(["--exact", "nothing_acknowledged_is_lost_by_200_kills", "--nocapture", "--test-threads=1"])
            .env(VICTIM, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the victim starts");
        Self(child)
    }

    fn kill(&mut self) {
        // SIGKILL. It may have ended already, which the missing acknowledgements then tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the victims acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    by_writer: [u64; WRITERS],
    revision: Revision,
    count: usize,
}

impl Acknowledged {
    fn line(&mut self, line: &str) {
        let number = |text: &str| text.parse::<u64>().expect("a number");
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["open", revision] => {
                let revision = number(revision);
                assert!(revision >= self.revision, "the revision went back from {} to {revision}", self.revision);
                self.revision = revision;
            }
            ["ack", writer, n, revision] => {
                let writer = number(writer) as usize;
                assert!(number(n) > self.by_writer[writer]);
                self.by_writer[writer] = number(n);
                self.revision = self.revision.max(number(revision));
                self.count += 1;
            }
            _ => {}
        }
    }

    /// Opens the store and compares.
    async fn check(&mut self, directory: &Path) {
        let store = EmbeddedStore::open(directory, Options::default()).expect("the store opens after a kill");
        let revision = store.status().await.expect("the store answers").revision;
        assert!(revision >= self.revision, "the revision went back from {} to {revision}", self.revision);
        self.revision = revision;
        for writer in 0..WRITERS {
            let counter = store.get(&format!("/n/{writer}")).await.expect("the store reads").value;
            let counted: u64 = counter
                .map_or(0, |counter| String::from_utf8_lossy(&counter.value).parse().expect("the counter is a number"));
            let acknowledged = self.by_writer[writer];
            assert!(counted >= acknowledged, "writer {writer} lost {acknowledged}, the store knows {counted}");
            let page = store.list(&format!("/w/{writer}/"), ListOptions::default()).await.expect("the store lists");
            let stored: BTreeMap<String, String> = page
                .entries
                .into_iter()
                .map(|entry| (entry.key, String::from_utf8_lossy(&entry.value).into_owned()))
                .collect();
            assert_eq!(stored, state_after(writer, counted), "writer {writer} after {counted}");
        }
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_200_kills() {
    if let Ok(directory) = std::env::var(VICTIM) {
        victim(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (clock, mut random) = (SystemClock::new(), Pcg64::seed_from_u64(200));
    let mut acknowledged = Acknowledged::default();
    for kill in 0..KILLS {
        let mut victim = Victim::start(directory.path());
        let lines = BufReader::new(victim.0.stdout.take().expect("the output is piped")).lines();
        let (said, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let reader = tokio::task::spawn_blocking(move || {
            // The test may have failed and stopped listening.
            lines.map_while(Result::ok).try_for_each(|line| said.send(line))
        });
        // One in eight dies anywhere from its start on, the others when they have committed a little.
        let least = if kill % 8 == 7 { 0 } else { acknowledged.count + random.random_range(1..40) };
        while acknowledged.count < least {
            acknowledged.line(&hear.recv().await.expect("the victim commits until it is killed"));
        }
        clock.sleep(Duration::from_micros(random.random_range(0..10_000))).await;
        victim.kill();
        while let Some(line) = hear.recv().await {
            acknowledged.line(&line);
        }
        reader.await.expect("the reader ends with the victim").expect("everything it read was heard");
        // Now and then the next victim finds the file as the last one left it.
        if kill % 3 != 2 || kill + 1 == KILLS {
            acknowledged.check(directory.path()).await;
        }
    }
    println!("{} commits acknowledged, none lost, at revision {}", acknowledged.count, acknowledged.revision);
    assert!(acknowledged.count >= KILLS * 7 / 8, "each victim but those killed early committed something");
}
