//! Machines made of network namespaces, so that nothing of the real one is touched.

#![allow(clippy::unwrap_used, dead_code, reason = "a panic is how tests fail; not every test uses everything")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use longshore_core::network::{Attach, Attached, Backend, HostPort, Network, Protocol, ServicePort};
use longshore_core::runtime::PodRef;
use longshore_network::{Bridge, Options};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

/// Nothing here takes that long, unless packets are lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the tests cannot run here.
pub(crate) fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("making network namespaces needs root".into());
    }
    let programs = [("nft", "nftables"), ("ip", "iproute2"), ("iptables", "iptables")];
    let missing = programs.iter().find(|(program, _)| {
        !["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|d| Path::new(d).join(program).exists())
    });
    missing.map(|(program, package)| format!("{program} is missing (apt-get install {package})"))
}

/// Why the tests with IPv6 cannot run here.
pub(crate) fn missing_v6() -> Option<String> {
    (!Path::new("/proc/sys/net/ipv6").exists()).then(|| "the kernel has no IPv6".into())
}

/// Runs a test on a machine of its own, which vanishes with it.
pub(crate) fn on_a_machine(test: impl AsyncFnOnce(Machine) + Send + 'static) {
    if let Some(reason) = missing() {
        return longshore_core::testing::skip(&reason);
    }
    let thread = std::thread::spawn(move || {
        own_machine();
        // Where Docker has been, bridged packets pass the rules, too; tests say so if they want it.
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            run("ip link set lo up");
            let machine = Machine { directory: tempfile::tempdir().unwrap() };
            tokio::time::timeout(Duration::from_secs(60), test(machine)).await.expect("it hangs");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Gives this thread, and those that it starts, a network and mounts of their own, which vanish with them.
pub(crate) fn own_machine() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
}

/// Runs a command line in the machine's network namespace, and answers what it prints.
pub(crate) fn run(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The machine under test.
pub(crate) struct Machine {
    pub(crate) directory: tempfile::TempDir,
}

impl Drop for Machine {
    /// The namespaces of pods that are still attached are mounts, without which the directory can go.
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(self.directory.path())) {
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
    }
}

impl Machine {
    pub(crate) fn options(&self, instance: &str, n: u8) -> Options {
        Options {
            instance: instance.into(),
            state: self.directory.path().join(instance),
            pods: vec![format!("10.{n}.0.0/24").parse().unwrap()],
            cluster: vec![format!("10.{n}.0.0/16").parse().unwrap()],
            services: vec![format!("10.{}.0.0/16", n + 100).parse().unwrap()],
            mtu: None,
        }
    }

    pub(crate) async fn open(&self) -> Bridge {
        Bridge::open(self.options("test", 1)).await.unwrap()
    }

    /// Another machine, beside this one at 192.0.2.1, which is its gateway: 192.0.2.2.
    pub(crate) fn neighbour(&self) -> Namespace {
        let neighbour = Namespace::new("neighbour");
        run(&format!("ip link add near type veth peer name far netns {}", neighbour.thread));
        run("ip address add 192.0.2.1/24 dev near");
        run("ip link set near up");
        neighbour.run_now(|| {
            run("ip address add 192.0.2.2/24 dev far");
            run("ip link set far up");
            run("ip link set lo up");
            run("ip route add default via 192.0.2.1");
        });
        neighbour
    }
}

/// Directory of Debian's plugins.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";

/// Why the tests with CNI plugins cannot run here.
pub(crate) fn missing_plugins() -> Option<String> {
    let reason = || format!("there are no plugins in {PLUGINS} (apt-get install containernetworking-plugins)");
    missing().or_else(|| (!Path::new(PLUGINS).join("bridge").exists()).then(reason))
}

/// A network of the reference plugins for `pods`, a range a family, in a directory of the test's.
pub(crate) fn cni_options(directory: &Path, pods: &[&str]) -> longshore_network::cni::Options {
    let configuration = directory.join("net.d");
    std::fs::create_dir_all(&configuration).unwrap();
    let ranges: Vec<String> = pods.iter().map(|range| format!(r#"[{{"subnet": "{range}"}}]"#)).collect();
    let everywhere = |range: &&str| if range.contains(':') { r#"{"dst": "::/0"}"# } else { r#"{"dst": "0.0.0.0/0"}"# };
    let routes: Vec<&str> = pods.iter().map(everywhere).collect();
    let list = format!(
        r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
              "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [{}], "routes": [{}]}}}},
            {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
        ]}}"#,
        directory.join("ipam").display(),
        ranges.join(", "),
        routes.join(", "),
    );
    std::fs::write(configuration.join("10-pods.conflist"), list).unwrap();
    longshore_network::cni::Options {
        instance: "test".into(),
        state: directory.join("network"),
        configuration,
        plugins: vec![PLUGINS.into()],
        cluster: pods.iter().map(|range| range.parse().unwrap()).collect(),
        services: ["10.101.0.0/16", "fd02::/112"].iter().take(pods.len()).map(|range| range.parse().unwrap()).collect(),
    }
}

/// All that a network could leave on a machine.
pub(crate) fn traces() -> String {
    // Flags and link-local addresses come and go by themselves.
    let links: Vec<String> = run("ip -o link").lines().map(|line| line.split(':').nth(1).unwrap().to_owned()).collect();
    let mut traces =
        vec![links.join(" "), run("ip -4 route show table all"), run("nft list tables"), run("iptables -S")];
    if missing_v6().is_none() {
        let routes = run("ip -6 route show table all");
        // Who forwards has an address that stands for all who do.
        let passing = ["fe80", "ff00", "anycast"];
        let routes = routes.lines().filter(|line| !passing.iter().any(|word| line.contains(word)));
        traces.extend(routes.map(str::to_owned));
    }
    traces.join("\n").replace(" linkdown", "")
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, as long as this lives, and a thread in it.
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    thread: nix::unistd::Pid,
    jobs: mpsc::Sender<Job>,
    handle: std::thread::JoinHandle<()>,
}

impl Namespace {
    pub(crate) fn new(name: &str) -> Self {
        let (jobs, work) = mpsc::channel::<Job>();
        let (sender, thread) = mpsc::channel();
        let handle = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            sender.send(nix::unistd::gettid()).unwrap();
            work.into_iter().for_each(|job| job());
        });
        let thread = thread.recv().unwrap();
        let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id()).into();
        Self { name: name.into(), path, thread, jobs, handle }
    }

    /// Ends the namespace now.
    pub(crate) fn end(self) {
        drop(self.jobs);
        self.handle.join().unwrap();
    }

    pub(crate) fn pod(&self) -> PodRef {
        PodRef { namespace: "default".into(), name: self.name.clone(), uid: format!("uid-{}", self.name) }
    }

    pub(crate) fn request(&self) -> Attach {
        Attach { pod: self.pod(), network_namespace: self.path.clone(), host_ports: Vec::new() }
    }

    pub(crate) fn request_with(&self, protocol: Protocol, host_port: u16, container_port: u16) -> Attach {
        let port = HostPort { protocol, host_ip: None, host_port, container_port };
        Attach { host_ports: vec![port], ..self.request() }
    }

    /// Does something in the namespace, while everything else waits.
    pub(crate) fn run_now<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, done) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(sender.send(work())))).unwrap();
        done.recv().unwrap()
    }

    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, done) = tokio::sync::oneshot::channel();
        self.jobs.send(Box::new(move || drop(sender.send(work())))).unwrap();
        done.await.unwrap()
    }

    /// Answers every connection with `<name> <who calls>`, then line by line with what it is told.
    pub(crate) fn serve(&self, port: u16) -> JoinSet<()> {
        let listener = self.run_now(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        serve(listener, &self.name)
    }

    /// The same at IPv6 addresses.
    pub(crate) fn serve_v6(&self, port: u16) -> JoinSet<()> {
        let listener = self.run_now(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
        serve(listener, &self.name)
    }

    /// The same by UDP, a packet an answer.
    pub(crate) fn serve_udp(&self, port: u16) -> JoinSet<()> {
        let socket = self.run_now(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        serve_udp(socket, &self.name)
    }

    pub(crate) async fn connect(&self, to: &str) -> io::Result<Connection> {
        let to: SocketAddr = to.parse().unwrap();
        let stream = self.run(move || TcpStream::connect_timeout(&to, PATIENCE)).await?;
        Connection::new(stream).await
    }

    /// Who answers, and as whom it sees this one.
    pub(crate) async fn ask(&self, to: &str) -> io::Result<String> {
        Ok(self.connect(to).await?.greeting)
    }

    pub(crate) async fn ask_udp(&self, to: &str) -> io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || ask_udp(to)).await
    }
}

pub(crate) fn serve(listener: TcpListener, name: &str) -> JoinSet<()> {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let name = name.to_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, peer)) = listener.accept().await {
            let greeting = format!("{name} {}\n", peer.ip());
            connections.spawn(async move {
                stream.write_all(greeting.as_bytes()).await?;
                let (reader, mut writer) = stream.split();
                tokio::io::copy(&mut BufReader::new(reader), &mut writer).await
            });
        }
    });
    tasks
}

pub(crate) fn serve_udp(socket: UdpSocket, name: &str) -> JoinSet<()> {
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    let name = name.to_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
            socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer).await.unwrap();
        }
    });
    tasks
}

fn ask_udp(to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

/// A connection that was greeted.
pub(crate) struct Connection {
    pub(crate) greeting: String,
    stream: BufReader<tokio::net::TcpStream>,
}

impl Connection {
    async fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut connection =
            Self { greeting: String::new(), stream: BufReader::new(tokio::net::TcpStream::from_std(stream)?) };
        connection.greeting = connection.line().await?;
        Ok(connection)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(line.trim().to_owned())
    }

    /// Says something that comes back.
    pub(crate) async fn echo(&mut self, word: &str) -> io::Result<String> {
        self.stream.write_all(format!("{word}\n").as_bytes()).await?;
        self.line().await
    }
}

/// Asks from the machine itself.
pub(crate) async fn ask(to: &str) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    let stream = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(to)).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Connection::new(stream.into_std()?).await?.greeting)
}

/// Who answered.
pub(crate) fn who(greeting: &str) -> &str {
    greeting.split_whitespace().next().unwrap()
}

/// Whom it saw.
pub(crate) fn seen(greeting: &str) -> &str {
    greeting.split_whitespace().nth(1).unwrap()
}

/// A pod that serves on port 80.
pub(crate) struct Served {
    pub(crate) namespace: Namespace,
    pub(crate) address: IpAddr,
    /// All that it has.
    pub(crate) addresses: Vec<IpAddr>,
    tasks: JoinSet<()>,
}

pub(crate) async fn pod(network: &dyn Network, name: &str) -> Served {
    let namespace = Namespace::new(name);
    let Attached { addresses, .. } = network.attach(&namespace.request()).await.unwrap();
    let tasks = namespace.serve(80);
    Served { namespace, address: addresses[0], addresses, tasks }
}

pub(crate) fn service(name: &str, address: &str, backends: &[&Served]) -> ServicePort {
    let backend = |served: &&Served| Backend { address: served.address, port: 80, local: true, fallback: false };
    ServicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        addresses: vec![address.parse().unwrap()],
        balancers: Vec::new(),
        balancer_sources: Vec::new(),
        port: 8080,
        node_port: None,
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        backends: backends.iter().map(backend).collect(),
    }
}
