//! The cluster of a run: three members of etcd, three API servers, three schedulers, three controllers, and hollow nodes, each a
//! process; relays between them; and what faults do to them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::plan::{Fault, Link, MEMBERS, NODES, REPLICAS, Split, Target};
use crate::process::Process;
use crate::relay::{Relay, State};

/// Size of a member's disk: some three logs of 64 MB, a copy of one while it is repaired, and the database.
const DISK: &str = "size=500m";

/// Longest wait for a process to be ready.
const START_MAX: Duration = Duration::from_secs(90);

/// Between looks at a process that starts.
const POLL: Duration = Duration::from_millis(50);

/// How a disk that is slow stalls: for so long, and then it works for so long.
const STALL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(50));

/// Gives the calling thread, and what it starts, a network and mounts of its own, which are gone with it.
///
/// # Errors
/// If this is not root.
pub fn isolate() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("needs root: unshare: {error}"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|error| format!("cannot make mounts private: {error}"))?;
    run(Command::new("ip").args(["link", "set", "lo", "up"])).map(|_| ())
}

/// Programs that must be there; that which is not.
pub fn missing_program() -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let has = |program: &&str| directories.iter().any(|directory| directory.join(program).is_file());
    let missing = ["etcd", "bindfs", "setpriv", "unshare", "ip"].into_iter().find(|program| !has(program));
    missing.or_else(|| faketime().is_none().then_some("faketime"))
}

/// The library that gives a process another time.
fn faketime() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.flatten();
    directories.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.is_file())
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// A mount that ends with this.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // With the namespace it would go as well; but then the directory below could not be removed.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// How leaders are elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// With upstream's timings: 15 s, 10 s, 2 s.
    Upstream,
    /// 3 s, 2 s and half a second, for the schedulers.
    Fast,
}

/// The running cluster. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Cluster {
    processes: BTreeMap<Target, Process>,
    /// The programs behind the members' slow disks.
    disks: Vec<Process>,
    stalls: BTreeMap<usize, JoinSet<()>>,
    links: BTreeMap<Link, Relay>,
    /// What targets of running faults were found to be.
    resolved: Vec<(Target, Target)>,
    kubeconfig: String,
    _mounts: Vec<Mounted>,
    directory: TempDir,
}

fn loopback(port: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap_or_default()))
}

fn client_port(member: usize) -> usize {
    12_000 + member
}

fn peer_port(member: usize) -> usize {
    12_010 + member
}

/// How members call each other: a name that leads each of them through a relay of its own.
fn peer_name(member: usize) -> String {
    format!("m{member}.peer:{}", peer_port(member))
}

/// Where the relay from a member to another listens.
fn peer_relay(from: usize, to: usize) -> SocketAddr {
    let part = |member: usize| u8::try_from(member + 1).unwrap_or(u8::MAX);
    let port = u16::try_from(peer_port(to)).unwrap_or_default();
    SocketAddr::from((Ipv4Addr::new(127, 0, part(from), part(to)), port))
}

fn server_port(server: usize) -> usize {
    16_000 + server
}

fn node_port(node: usize) -> usize {
    17_000 + node
}

impl Cluster {
    /// Starts everything, with this program `longshore`, and waits until it is ready.
    ///
    /// # Errors
    /// What could not be started.
    pub async fn start(program: &Path, leases: Leases) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("longshore-faults-").tempdir();
        let directory = directory.map_err(|error| format!("cannot make a directory: {error}"))?;
        let mut cluster = Self {
            processes: BTreeMap::new(),
            disks: Vec::new(),
            stalls: BTreeMap::new(),
            links: BTreeMap::new(),
            resolved: Vec::new(),
            kubeconfig: String::new(),
            _mounts: Vec::new(),
            directory,
        };
        cluster.start_members().await?;
        cluster.start_servers(program).await?;
        cluster.start_parts(program, leases).await?;
        Ok(cluster)
    }

    /// Ends everything; when this returns the next cluster may have its addresses.
    pub async fn stop(mut self) {
        self.processes.clear();
        for relay in std::mem::take(&mut self.links).into_values() {
            relay.close().await;
        }
    }

    /// Where everything is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Keeps logs beyond the run.
    pub fn keep_logs(&self, to: &Path) {
        for entry in fs::read_dir(self.directory.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                // Whoever looks for a log that is missing sees that; the verdict does not depend on it.
                let _ = fs::create_dir_all(to)
                    .and_then(|()| fs::copy(entry.path(), to.join(entry.file_name())).map(|_| ()));
            }
        }
    }

    async fn start_members(&mut self) -> Result<(), String> {
        let peers: Vec<String> = (0..MEMBERS).map(|member| format!("m{member}=http://{}", peer_name(member))).collect();
        for member in 0..MEMBERS {
            let hosts = self.peer_links(member).await?;
            let (disk, data) = (self.path(&format!("disk{member}")), self.path(&format!("m{member}")));
            for path in [&disk, &data] {
                fs::create_dir(path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
            }
            mount(Some("longshore-faults"), &disk, Some("tmpfs"), MsFlags::empty(), Some(DISK))
                .map_err(|error| format!("cannot mount {}: {error}", disk.display()))?;
            self._mounts.push(Mounted(disk.clone()));
            let mut slow = Process::new(&format!("disk{member}"), Path::new("bindfs"), self.directory.path()).args([
                OsString::from("-f"),
                disk.clone().into(),
                data.clone().into(),
            ]);
            slow.start()?;
            self.disks.push(slow);
            self._mounts.push(Mounted(data.clone()));
            until(&format!("{} is mounted", data.display()), || is_mounted(&data)).await?;
            let (client, peer) = (loopback(client_port(member)), loopback(peer_port(member)));
            let arguments = [
                format!("--name=m{member}"),
                format!("--data-dir={}", data.join("etcd").display()),
                format!("--listen-client-urls=http://{client}"),
                format!("--advertise-client-urls=http://{client}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{}", peer_name(member)),
                format!("--initial-cluster={}", peers.join(",")),
                "--heartbeat-interval=150".to_owned(),
                "--election-timeout=1500".to_owned(),
                // As few old logs as may be, so that hours need no more room than minutes.
                "--snapshot-count=10000".to_owned(),
                "--max-snapshots=2".to_owned(),
                "--max-wals=2".to_owned(),
                "--logger=zap".to_owned(),
                "--log-level=warn".to_owned(),
            ];
            // Each member has its own idea of where the others are.
            let own_hosts = ["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec etcd \"$@\""];
            let process = Process::new(&format!("etcd{member}"), Path::new("unshare"), self.directory.path());
            let mut process = process.args(own_hosts).args([hosts]).args(arguments);
            process.start()?;
            self.processes.insert(Target::Member(member), process);
        }
        Ok(())
    }

    /// Makes the relays from a member to the others, and writes the file of names by which it finds them.
    async fn peer_links(&mut self, member: usize) -> Result<PathBuf, String> {
        let mut hosts = format!("127.0.0.1 localhost m{member}.peer\n");
        for other in (0..MEMBERS).filter(|other| *other != member) {
            let (link, at) = (Link::Peer { from: member, to: other }, peer_relay(member, other));
            let relay = Relay::between(at, loopback(peer_port(other))).await;
            self.links.insert(link, relay.map_err(|error| format!("cannot relay {link:?}: {error}"))?);
            hosts.push_str(&format!("{} m{other}.peer\n", at.ip()));
        }
        let path = self.path(&format!("hosts{member}"));
        fs::write(&path, hosts).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }

    async fn start_servers(&mut self, program: &Path) -> Result<(), String> {
        for server in 0..REPLICAS {
            let mut urls = Vec::new();
            for member in 0..MEMBERS {
                let port = self.relay(Link::Store { server, member }, client_port(member)).await?;
                urls.push(format!("http://127.0.0.1:{port}"));
            }
            let data = self.path(&format!("server{server}"));
            if server > 0 {
                // Servers of one cluster share its authority.
                fs::create_dir(&data).map_err(|error| format!("cannot make {}: {error}", data.display()))?;
                run(Command::new("cp").arg("-r").arg(self.path("server0").join("pki")).arg(&data))?;
            }
            let mut process = self.part(program, &format!("server{server}"));
            process = process.args(["apiserver".to_owned(), format!("--listen={}", loopback(server_port(server)))]);
            process =
                process.args([format!("--data-dir={}", data.display()), format!("--store=etcd={}", urls.join(","))]);
            self.launch(Target::Server(server), process, "serving").await?;
            self.relay(Link::Clients(server), server_port(server)).await?;
        }
        let text = fs::read_to_string(self.path("server0").join("kubeconfig"));
        self.kubeconfig = text.map_err(|error| format!("cannot read the administrator's kubeconfig: {error}"))?;
        Ok(())
    }

    async fn start_parts(&mut self, program: &Path, leases: Leases) -> Result<(), String> {
        let config = self.path("scheduler.yaml");
        let mut text = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n".to_owned();
        if leases == Leases::Fast {
            text.push_str("leaderElection: {leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 500ms}\n");
        }
        fs::write(&config, text).map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        for replica in 0..REPLICAS {
            let target = Target::Scheduler(replica);
            let kubeconfig = self.certificate(program, target, replica, &["scheduler"]).await?;
            let process = self.part(program, &format!("scheduler{replica}"));
            let process = process.args(["scheduler".to_owned(), kubeconfig, format!("--config={}", config.display())]);
            self.launch(target, process, "").await?;
            let target = Target::Controllers(replica);
            let kubeconfig = self.certificate(program, target, replica, &["controllers"]).await?;
            let process = self.part(program, &format!("controllers{replica}"));
            let process =
                process.args(["controllers".to_owned(), kubeconfig, "--node-monitor-grace-period=16s".to_owned()]);
            self.launch(target, process, "").await?;
        }
        for node in 0..NODES {
            let (target, name) = (Target::Node(node), format!("n{node}"));
            let kubeconfig =
                self.certificate(program, target, node, &["node", &name, "--address", "127.0.0.1"]).await?;
            let data = self.path(&format!("node{node}"));
            let process = self.part(program, &format!("node{node}")).args([
                "node".to_owned(),
                kubeconfig,
                format!("--name={name}"),
                "--address=127.0.0.1".to_owned(),
                format!("--port={}", node_port(node)),
                "--runtime=simulated".to_owned(),
                "--node-lease-duration=12s".to_owned(),
                "--extended-resource=cpu=1500m,memory=8Gi".to_owned(),
                format!("--data-dir={}", data.display()),
            ]);
            self.launch(target, process, "").await?;
        }
        Ok(())
    }

    /// A process of Longshore, whose clock can be stepped.
    fn part(&self, program: &Path, name: &str) -> Process {
        let process = Process::new(name, program, self.directory.path());
        let Some(library) = faketime() else { return process };
        let clock = self.path(&format!("{name}.clock"));
        // Without the file it would have no time at all.
        if fs::write(&clock, "+0").is_err() {
            return process;
        }
        process
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", clock)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    async fn launch(&mut self, target: Target, mut process: Process, sign: &str) -> Result<(), String> {
        process.start()?;
        if !sign.is_empty() {
            until(&format!("{} prints {sign:?}", process.name()), || process.printed().contains(sign)).await?;
        }
        self.processes.insert(target, process);
        Ok(())
    }

    /// Writes a kubeconfig for a part, whose link to its API server gets a relay; answers the option that names it.
    async fn certificate(
        &mut self,
        program: &Path,
        target: Target,
        replica: usize,
        role: &[&str],
    ) -> Result<String, String> {
        let server = replica % REPLICAS;
        let port = self.relay(Link::Part(target), server_port(server)).await?;
        let mut command = Command::new(program);
        command.arg("certificate").arg("--data-dir").arg(self.path(&format!("server{server}")));
        let text = run(command.args(["--server", &format!("127.0.0.1:{port}")]).args(role))?;
        let path = self.path(&format!("{target:?}.kubeconfig"));
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(format!("--kubeconfig={}", path.display()))
    }

    async fn relay(&mut self, link: Link, to: usize) -> Result<u16, String> {
        let relay = Relay::to(loopback(to)).await.map_err(|error| format!("cannot relay {link:?}: {error}"))?;
        let port = relay.port();
        self.links.insert(link, relay);
        Ok(port)
    }

    /// The administrator's kubeconfig for an API server, through its relay.
    pub fn kubeconfig(&self, server: usize) -> String {
        let port = self.links.get(&Link::Clients(server)).map_or(0, Relay::port);
        self.kubeconfig.replace(&loopback(server_port(0)).to_string(), &format!("127.0.0.1:{port}"))
    }

    /// Which process holds a lease of this identity.
    pub fn holder(&self, identity: &str) -> Option<Target> {
        let led = |process: &Process| {
            process.printed().lines().any(|line| line.contains("became leader") && line.contains(identity))
        };
        let mut parts =
            self.processes.iter().filter(|(target, _)| matches!(target, Target::Scheduler(_) | Target::Controllers(_)));
        (!identity.is_empty()).then(|| parts.find(|(_, process)| led(process)).map(|(target, _)| *target)).flatten()
    }

    /// Begins a fault; `leaders` are the identities that hold the schedulers' and the controllers' lease.
    pub fn begin(&mut self, fault: Fault, leaders: (&str, &str)) {
        if let Fault::Kill(target)
        | Fault::Pause(target)
        | Fault::Silence(Link::Part(target))
        | Fault::Clock(target, _) = fault
        {
            let found = match target {
                Target::LeadingScheduler => self.holder(leaders.0).unwrap_or(Target::Scheduler(0)),
                Target::LeadingControllers => self.holder(leaders.1).unwrap_or(Target::Controllers(0)),
                other => other,
            };
            self.resolved.retain(|(named, _)| *named != target);
            self.resolved.push((target, found));
        }
        match fault {
            Fault::Kill(target) => self.with(target, Process::kill),
            Fault::Pause(target) => self.with(target, |process| process.pause()),
            Fault::Cut(link) => self.link(link, State::Cut),
            Fault::Delay(link, by) => self.link(link, State::Delayed(by)),
            Fault::Silence(link) => self.link(link, State::Silent),
            Fault::CutOff(server) => {
                (0..MEMBERS).for_each(|member| self.link(Link::Store { server, member }, State::Cut))
            }
            Fault::Partition(split, state) => self.links(split, state),
            Fault::FullDisk(member) => fill(&self.ballast(member)),
            Fault::SlowDisk(member) => self.stall(member),
            Fault::Clock(target, seconds) => self.step(target, seconds),
        }
    }

    /// Ends a fault.
    ///
    /// # Errors
    /// If a process cannot be started again.
    pub fn end(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Pause(target) => self.with(target, |process| process.resume()),
            Fault::Cut(link) | Fault::Delay(link, _) | Fault::Silence(link) => self.link(link, State::Open),
            Fault::CutOff(server) => {
                (0..MEMBERS).for_each(|member| self.link(Link::Store { server, member }, State::Open))
            }
            Fault::Partition(split, _) => self.links(split, State::Open),
            // It was not there if the disk could not be filled at all.
            Fault::FullDisk(member) => drop(fs::remove_file(self.ballast(member))),
            Fault::SlowDisk(member) => {
                self.stalls.remove(&member);
                self.disks[member].resume();
            }
            Fault::Clock(target, _) => self.step(target, 0),
            Fault::Kill(_) => {}
        }
        match fault {
            Fault::Kill(target) => self.start_again(self.is(target)),
            // etcd ends when it cannot write.
            Fault::FullDisk(member) => self.start_again(Target::Member(member)),
            _ => Ok(()),
        }
    }

    fn start_again(&mut self, target: Target) -> Result<(), String> {
        if let Target::Member(member) = target {
            // Not through the file system that may stall.
            remove_copies(&self.path(&format!("disk{member}")).join("etcd/member/wal"));
        }
        self.processes.get_mut(&target).map_or(Ok(()), Process::start)
    }

    /// Starts again, as a service manager does, what has ended by itself; answers what that was.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn supervise(&mut self) -> Result<Vec<String>, String> {
        let ended = self.processes.iter_mut().filter_map(|(target, process)| process.has_failed().then_some(*target));
        let ended: Vec<Target> = ended.collect();
        // A member without space ends again and again; that is not worth telling.
        let told = ended.iter().filter(|target| !matches!(target, Target::Member(_)));
        let told = told.filter_map(|target| Some(self.processes.get(target)?.name().to_owned())).collect();
        for target in ended {
            self.start_again(target)?;
        }
        Ok(told)
    }

    /// What parts of Longshore said when they panicked.
    pub fn panics(&self) -> Vec<String> {
        let parts = self.processes.iter().filter(|(target, _)| !matches!(target, Target::Member(_)));
        let panics = parts.flat_map(|(_, process)| {
            let printed = process.printed();
            let lines = printed.lines().filter(|line| line.contains("panicked at"));
            lines.map(|line| format!("{}: {line}", process.name())).collect::<Vec<_>>()
        });
        panics.collect()
    }

    fn is(&self, target: Target) -> Target {
        self.resolved.iter().find(|(named, _)| *named == target).map_or(target, |(_, found)| *found)
    }

    fn with(&mut self, target: Target, act: impl FnOnce(&mut Process)) {
        let target = self.is(target);
        if let Some(process) = self.processes.get_mut(&target) {
            act(process);
        }
    }

    fn link(&self, link: Link, state: State) {
        let link = if let Link::Part(target) = link { Link::Part(self.is(target)) } else { link };
        if let Some(relay) = self.links.get(&link) {
            relay.set(state);
        }
    }

    fn links(&self, split: Split, state: State) {
        split.links().into_iter().for_each(|link| self.link(link, state));
    }

    fn step(&mut self, target: Target, seconds: i64) {
        let directory = self.directory.path().to_owned();
        // One that keeps its old time has no fault: the run goes on.
        self.with(target, |process| {
            drop(fs::write(directory.join(format!("{}.clock", process.name())), format!("{seconds:+}")))
        });
    }

    fn ballast(&self, member: usize) -> PathBuf {
        self.path(&format!("disk{member}")).join("ballast")
    }

    /// Stalls a member's disk again and again by pausing the program behind it.
    fn stall(&mut self, member: usize) {
        let Some(id) = self.disks[member].id() else { return };
        let mut task = JoinSet::new();
        task.spawn(async move {
            use nix::sys::signal::{Signal, kill};
            let pid = Pid::from_raw(id.cast_signed());
            loop {
                for (signal, time) in [(Signal::SIGSTOP, STALL.0), (Signal::SIGCONT, STALL.1)] {
                    // Whoever ended the program has ended this as well.
                    let _ = kill(pid, signal);
                    tokio::time::sleep(time).await;
                }
            }
        });
        self.stalls.insert(member, task);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stalls.clear();
        for disk in &self.disks {
            disk.resume();
        }
        // Before the disks, which they use.
        self.processes.clear();
        self.disks.clear();
    }
}

/// Writes a file as large as there is space.
fn fill(path: &Path) {
    let Ok(mut file) = fs::File::create(path) else { return };
    for size in [1 << 20, 1 << 12] {
        let bytes = vec![0; size];
        while file.write_all(&bytes).is_ok() {}
    }
}

/// Removes the copies that etcd makes of logs before it repairs them, and keeps for ever.
fn remove_copies(logs: &Path) {
    let files = fs::read_dir(logs).into_iter().flatten().flatten().map(|file| file.path());
    for copy in files.filter(|path| path.extension().is_some_and(|extension| extension == "broken")) {
        // If it cannot be removed the disk is full a little sooner.
        let _ = fs::remove_file(copy);
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|place| Path::new(place) == path))
}

async fn until(what: &str, mut look: impl FnMut() -> bool) -> Result<(), String> {
    let wait = async {
        while !look() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(START_MAX, wait).await.map_err(|_| format!("not within {} s: {what}", START_MAX.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_repaired_logs_go_and_logs_stay() {
        let logs = tempfile::tempdir().expect("a directory");
        for name in ["0-0.wal", "0-0.wal.broken", "1.tmp"] {
            fs::write(logs.path().join(name), "x").expect("a file");
        }
        remove_copies(logs.path());
        remove_copies(&logs.path().join("missing"));
        let left = fs::read_dir(logs.path()).expect("it is there").flatten().map(|file| file.file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["0-0.wal", "1.tmp"]);
    }
}
