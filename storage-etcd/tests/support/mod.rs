//! Real etcd clusters on free ports and in temporary directories, gone with the test whatever becomes of it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses a part of it, and all of it is tests"
)]

pub mod relay;
pub mod tls;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::store::{WatchEvent, WatchStream};
use longshore_storage_etcd::{EtcdStore, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How often a cluster is started on other ports because somebody took one of them.
const STARTS_MAX: usize = 5;

/// Between looks at a member that starts.
const POLL: Duration = Duration::from_millis(5);

/// Whether etcd is here; if not, the test is told as skipped.
pub fn is_installed() -> bool {
    let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        println!("SKIPPED: etcd is not installed (package etcd-server)");
    }
    found
}

/// Some members that know each other.
pub struct Cluster {
    members: Mutex<Vec<Member>>,
    urls: Vec<String>,
    directory: TempDir,
}

struct Member {
    arguments: Vec<String>,
    client: SocketAddr,
    process: Option<Process>,
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    /// Starts so many members.
    pub async fn start(members: usize) -> Self {
        Self::start_with(members, "http", |_| Vec::new()).await
    }

    /// Starts members that clients reach by this scheme, with further arguments that may name files in the directory.
    pub async fn start_with(members: usize, scheme: &str, arguments: impl Fn(&Path) -> Vec<String>) -> Self {
        for _ in 0..STARTS_MAX {
            let cluster = Self::prepare(members, scheme, &arguments);
            (0..members).for_each(|member| cluster.spawn(member));
            if cluster.is_up().await {
                return cluster;
            }
        }
        panic!("etcd does not start");
    }

    fn prepare(count: usize, scheme: &str, further: &impl Fn(&Path) -> Vec<String>) -> Self {
        // Syncing to a disk would be most of what the tests do; a member's death loses nothing that is in memory either.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        // One alone cannot lose its lead, and needs no patience.
        let (heartbeat, election) = if count == 1 { ("10", "100") } else { ("50", "500") };
        // Held until all are chosen, so that they differ.
        let listeners: Vec<TcpListener> =
            (0..count * 2).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let address = |index: usize| listeners[index].local_addr().unwrap();
        let peers: Vec<String> = (0..count).map(|n| format!("m{n}=http://{}", address(2 * n + 1))).collect();
        let member = |n: usize| {
            let (client, peer) = (address(2 * n), format!("http://{}", address(2 * n + 1)));
            let data = directory.path().join(format!("m{n}")).display().to_string();
            let (name, peers, client_url) = (format!("m{n}"), peers.join(","), format!("{scheme}://{client}"));
            let mut arguments: Vec<String> = [
                ["--name", &name],
                ["--data-dir", &data],
                ["--listen-client-urls", &client_url],
                ["--advertise-client-urls", &client_url],
                ["--listen-peer-urls", &peer],
                ["--initial-advertise-peer-urls", &peer],
                ["--initial-cluster", &peers],
                ["--heartbeat-interval", heartbeat],
                ["--election-timeout", election],
                ["--logger", "zap"],
                ["--log-level", "error"],
            ]
            .iter()
            .flatten()
            .map(|text| (*text).to_owned())
            .collect();
            arguments.extend(further(directory.path()));
            Member { arguments, client, process: None }
        };
        let members: Vec<Member> = (0..count).map(member).collect();
        let urls = members.iter().map(|member| format!("{scheme}://{}", member.client)).collect();
        Self { members: Mutex::new(members), urls, directory }
    }

    /// Starts a member, for the first time or again.
    pub fn spawn(&self, member: usize) {
        let member = &mut self.members.lock().unwrap()[member];
        // Whoever kills the test itself takes its members along.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "etcd"])
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        member.process = Some(Process(child));
    }

    /// Kills a member as `kill -9` does.
    pub fn kill(&self, member: usize) {
        self.members.lock().unwrap()[member].process = None;
    }

    /// Stops a member as `SIGSTOP` does: its connections stand, and nothing answers on them.
    pub fn pause(&self, member: usize) {
        let members = self.members.lock().unwrap();
        let pid = Pid::from_raw(members[member].process.as_ref().unwrap().0.id().cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
    }

    /// Waits until every member listens; false if one has ended.
    async fn is_up(&self) -> bool {
        let clock = SystemClock::new();
        loop {
            let mut waiting = false;
            for member in &mut *self.members.lock().unwrap() {
                let Some(process) = &mut member.process else { return false };
                if process.0.try_wait().unwrap().is_some() {
                    return false;
                }
                waiting |= TcpStream::connect(member.client).is_err();
            }
            if !waiting {
                return true;
            }
            clock.sleep(POLL).await;
        }
    }

    /// URLs of all members.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Where clients reach a member.
    pub fn address(&self, member: usize) -> SocketAddr {
        self.members.lock().unwrap()[member].client
    }

    /// A file beside the members' directories.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Opens the store on all members.
    pub async fn open(&self) -> EtcdStore {
        open(Options::new(self.urls().iter().cloned())).await
    }

    /// Which member leads.
    pub async fn leader(&self, store: &EtcdStore) -> usize {
        let clock = SystemClock::new();
        loop {
            let statuses = store.member_statuses().await;
            if let Some(leader) = statuses.iter().position(|status| status.as_ref().is_ok_and(|member| member.leads)) {
                return leader;
            }
            clock.sleep(POLL).await;
        }
    }
}

/// Opens a store that must open.
pub async fn open(options: Options) -> EtcdStore {
    EtcdStore::open(options).await.expect("the store opens")
}

/// Waits until a watch tells of a key.
pub async fn until_change(watch: &mut WatchStream, key: &str) {
    loop {
        if let WatchEvent::Changes { changes, .. } = watch.next().await.unwrap().unwrap()
            && changes.iter().any(|change| change.key == key)
        {
            return;
        }
    }
}
