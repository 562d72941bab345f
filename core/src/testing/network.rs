//! The conformance suite of [`Network`]: every clause of the [contract](crate::network) as cases that any implementation
//! can run.
//!
//! An implementation's test file needs one line. Each case gets a fresh network on a thread of its own (which may enter a
//! network namespace) and becomes a test of its own:
//!
//! ```text
//! longshore_core::network_conformance!(|| async { Ok(Subject::new(Arc::new(MyNetwork::new()))) });
//! ```
//!
//! `Err` with a reason says that this machine cannot run it; see [`super::skip`].

#![allow(clippy::unwrap_used, reason = "the cases are tests: a panic is how they fail")]

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::poll;
use ipnet::IpNet;

use crate::network::{
    Allowed, Attach, Attached, Backend, Block, Error, Network, Others, Peer, Policy, PortRange, Protocol, ServicePort,
};
use crate::runtime::PodRef;

/// A case that runs this long hangs.
const CASE_MAX: Duration = Duration::from_secs(60);

/// Opens a network again, as another process would.
pub type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Network>> + Send + Sync>;

/// Makes network namespaces for pods.
pub trait Namespaces: Send + Sync + 'static {
    /// Makes one and answers its path.
    fn make(&self) -> PathBuf;
    /// Ends one: the path leads nowhere afterwards.
    fn destroy(&self, path: PathBuf);
    /// Does something in one, and waits for it.
    fn run(&self, path: &Path, work: Box<dyn FnOnce() + Send>);
}

/// An implementation under test: a new network and what the suite must know of it.
pub struct Subject {
    /// The network.
    pub network: Arc<dyn Network>,
    /// Makes namespaces; `None` if the network does not look at them.
    pub namespaces: Option<Box<dyn Namespaces>>,
    /// For how many pods there are addresses, and that every pod gets its own; `None` if pods share theirs.
    pub addresses: Option<usize>,
    /// Whether it enforces policies itself.
    pub policies: bool,
    /// For networks that keep their state: opens it again.
    pub reopen: Option<Reopen>,
    /// What must live as long as the network, such as its temporary directory.
    pub keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A subject whose pods share their addresses and whose state ends with it.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self { network, namespaces: None, addresses: None, policies: false, reopen: None, keep: Vec::new() }
    }

    fn request(&self, name: &str) -> Attach {
        let network_namespace = match &self.namespaces {
            Some(namespaces) => namespaces.make(),
            None => PathBuf::from("/proc/self/ns/net"),
        };
        Attach { pod: pod(name), network_namespace, host_ports: Vec::new() }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Subject").field("network", &self.network).finish_non_exhaustive()
    }
}

/// Runs one case.
pub fn run<M, C, F, G>(make: M, case: C)
where
    M: FnOnce() -> F + Send,
    F: Future<Output = Result<Subject, String>>,
    C: FnOnce(Subject) -> G + Send,
    G: Future<Output = ()>,
{
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                match make().await {
                    Ok(subject) => tokio::time::timeout(CASE_MAX, case(subject)).await.expect("the case hangs"),
                    Err(reason) => super::skip(&reason),
                }
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs the whole suite on the networks that an expression makes: one test a case.
#[macro_export]
macro_rules! network_conformance {
    ($make:expr) => {
        $crate::network_conformance! { @cases $make;
            clause_1_attaching_again_gives_the_same_addresses
            clause_1_pods_attached_at_once_get_addresses_of_their_own
            clause_1_an_attach_that_was_dropped_can_be_done_again
            clause_2_detach_forgets_the_pod
            clause_2_an_unknown_pod_is_detached
            clause_2_a_pod_whose_namespace_is_gone_is_detached
            clause_2_a_freed_address_is_given_again
            clause_3_another_process_finds_what_was_attached
            clause_4_a_table_replaces_the_one_before
            clause_4_policies_replace_those_before
            clause_5_clean_up_leaves_nothing_and_can_be_done_again
            clause_6_policies_decide_who_reaches_a_pod
            clause_6_policies_decide_whom_a_pod_reaches
            clause_6_open_connections_and_the_node_pass_policies
            peers_are_replaced_as_a_whole
            repair_changes_nothing_that_is_right
        }
    };
    (@cases $make:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::testing::network::run($make, $crate::testing::network::$case);
            }
        )*
    };
}

fn pod(name: &str) -> PodRef {
    PodRef { namespace: "default".into(), name: name.into(), uid: format!("uid-of-{name}") }
}

fn sorted(mut attached: Vec<Attached>) -> Vec<Attached> {
    attached.sort_by(|a, b| a.pod.cmp(&b.pod));
    attached
}

async fn attached(network: &dyn Network) -> Vec<Attached> {
    sorted(network.attached().await.unwrap())
}

/// Attaching is idempotent.
pub async fn clause_1_attaching_again_gives_the_same_addresses(subject: Subject) {
    let network = &subject.network;
    let request = subject.request("a");
    let first = network.attach(&request).await.unwrap();
    assert_eq!(first.pod, request.pod);
    assert_eq!(network.attach(&request).await.unwrap(), first);
    assert_eq!(attached(&**network).await, [first]);
}

/// Addresses are not given twice, however many pods come at once.
pub async fn clause_1_pods_attached_at_once_get_addresses_of_their_own(subject: Subject) {
    let network = &subject.network;
    let requests: Vec<Attach> = (0..5).map(|n| subject.request(&format!("pod-{n}"))).collect();
    let done = join_all(requests.iter().map(|request| network.attach(request))).await;
    let done: Vec<Attached> = done.into_iter().map(Result::unwrap).collect();
    assert_eq!(attached(&**network).await, sorted(done.clone()));
    if subject.addresses.is_some() {
        let addresses: BTreeSet<IpAddr> = done.iter().flat_map(|one| one.addresses.clone()).collect();
        assert!(addresses.len() >= done.len(), "{done:?}");
    }
}

/// Whoever stops waiting for an attach may ask again.
pub async fn clause_1_an_attach_that_was_dropped_can_be_done_again(subject: Subject) {
    let network = &subject.network;
    let request = subject.request("a");
    {
        let mut attempt = Box::pin(network.attach(&request));
        let _ = poll!(&mut attempt);
    }
    let done = network.attach(&request).await.unwrap();
    assert_eq!(attached(&**network).await, [done]);
}

/// Nothing is known of a pod that was detached.
pub async fn clause_2_detach_forgets_the_pod(subject: Subject) {
    let network = &subject.network;
    let (a, b) = (subject.request("a"), subject.request("b"));
    network.attach(&a).await.unwrap();
    let kept = network.attach(&b).await.unwrap();
    network.detach(&a.pod).await.unwrap();
    assert_eq!(attached(&**network).await, [kept]);
    network.detach(&a.pod).await.unwrap();
    network.attach(&a).await.unwrap();
    assert_eq!(attached(&**network).await.len(), 2);
}

/// Detaching what was never attached succeeds.
pub async fn clause_2_an_unknown_pod_is_detached(subject: Subject) {
    subject.network.detach(&pod("unknown")).await.unwrap();
}

/// A pod's namespace may go before the pod is detached.
pub async fn clause_2_a_pod_whose_namespace_is_gone_is_detached(subject: Subject) {
    let network = &subject.network;
    let request = subject.request("a");
    network.attach(&request).await.unwrap();
    if let Some(namespaces) = &subject.namespaces {
        namespaces.destroy(request.network_namespace.clone());
    }
    network.detach(&request.pod).await.unwrap();
    assert_eq!(attached(&**network).await, []);
}

/// When all addresses are given, one comes free by a detach, and only by that.
pub async fn clause_2_a_freed_address_is_given_again(subject: Subject) {
    let Some(capacity) = subject.addresses else { return };
    let network = &subject.network;
    let requests: Vec<Attach> = (0..=capacity).map(|n| subject.request(&format!("pod-{n}"))).collect();
    let (last, others) = requests.split_last().unwrap();
    for request in others {
        network.attach(request).await.unwrap();
    }
    let before = attached(&**network).await;
    let error = network.attach(last).await.unwrap_err();
    assert!(matches!(error, Error::NoAddress { .. }), "{error}");
    assert_eq!(attached(&**network).await, before, "after an error nothing of the attempt is left");
    network.detach(&others[0].pod).await.unwrap();
    let freed = before.iter().find(|one| one.pod == others[0].pod).unwrap();
    assert_eq!(network.attach(last).await.unwrap().addresses, freed.addresses);
}

/// State is on the node.
pub async fn clause_3_another_process_finds_what_was_attached(subject: Subject) {
    let Subject { network, reopen: Some(reopen), .. } = &subject else { return };
    let (a, b) = (subject.request("a"), subject.request("b"));
    network.attach(&a).await.unwrap();
    network.attach(&b).await.unwrap();
    let before = attached(&**network).await;
    let again = reopen().await;
    assert_eq!(attached(&*again).await, before);
    assert_eq!(again.attach(&a).await.unwrap(), before[0]);
    again.detach(&a.pod).await.unwrap();
    again.detach(&b.pod).await.unwrap();
    assert_eq!(attached(&*reopen().await).await, []);
}

fn service(n: u8, backends: u8) -> ServicePort {
    let backend =
        |b| Backend { address: Ipv4Addr::new(10, 1, b, n).into(), port: 80, local: b % 2 == 0, fallback: false };
    ServicePort {
        name: format!("default/service-{n:03}:web"),
        protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(n % 3)],
        addresses: vec![Ipv4Addr::new(10, 101, 0, n).into(), Ipv4Addr::new(192, 0, 2, n).into()],
        balancers: vec![Ipv4Addr::new(203, 0, 113, n).into()],
        balancer_sources: if n < 20 { Vec::new() } else { vec!["192.0.2.0/24".parse().unwrap()] },
        port: 80,
        node_port: n.is_multiple_of(2).then_some(30_000 + u16::from(n)),
        affinity_seconds: n.is_multiple_of(5).then_some(60),
        internal_local: n.is_multiple_of(7),
        external_local: n.is_multiple_of(4),
        backends: (0..backends).map(backend).collect(),
    }
}

/// Every table of services is taken, whatever the one before.
pub async fn clause_4_a_table_replaces_the_one_before(subject: Subject) {
    let network = &subject.network;
    let tables: [Vec<ServicePort>; 6] = [
        Vec::new(),
        (1..40).map(|n| service(n, n % 4)).collect(),
        (1..40).map(|n| service(n, (n + 1) % 4)).collect(),
        (20..60).map(|n| service(n, 1)).collect(),
        vec![service(7, 0)],
        Vec::new(),
    ];
    for table in tables.iter().chain(tables.iter().rev()) {
        network.set_services(table).await.unwrap();
        network.set_services(table).await.unwrap();
    }
}

/// Every table of policies is taken, whatever the one before.
pub async fn clause_4_policies_replace_those_before(subject: Subject) {
    let network = &subject.network;
    let own = network.attach(&subject.request("a")).await.unwrap().addresses;
    let policy = |n: u8, rules: u8| Policy {
        name: format!("default/policy-{n:03}"),
        pods: own.clone(),
        ingress: (!n.is_multiple_of(3)).then(|| (0..rules).map(|rule| allowed_by(n, rule)).collect()),
        egress: (n % 3 < 2).then(|| (0..rules).map(|rule| allowed_by(rule, n)).collect()),
    };
    let tables: [Vec<Policy>; 5] = [
        Vec::new(),
        (1..30).map(|n| policy(n, n % 4)).collect(),
        (1..30).map(|n| policy(n, (n + 1) % 4)).collect(),
        vec![policy(4, 0)],
        Vec::new(),
    ];
    for table in tables.iter().chain(tables.iter().rev()) {
        network.set_policies(table).await.unwrap();
        network.set_policies(table).await.unwrap();
    }
}

fn allowed_by(n: u8, rule: u8) -> Allowed {
    let pods = (0..n % 4).map(|b| IpAddr::from(Ipv4Addr::new(10, 1, b, n))).collect();
    let block = Block {
        range: "10.0.0.0/8".parse().unwrap(),
        except: ["10.1.0.0/16", "10.1.2.0/24"].iter().map(|range| range.parse().unwrap()).collect(),
    };
    let everywhere = Block { range: "0.0.0.0/0".parse().unwrap(), except: Vec::new() };
    let blocks = [block, everywhere].into_iter().take(usize::from(rule % 3)).collect();
    let port = |first| PortRange { protocol: Protocol::Tcp, first, last: first + u16::from(n) };
    Allowed {
        pods: None,
        others: (n + rule).is_multiple_of(2).then_some(Others { pods, blocks }),
        ports: rule.is_multiple_of(2).then(|| (0..3).map(|step| port(80 + step * 10)).collect()),
    }
}

/// After cleaning up there is nothing.
pub async fn clause_5_clean_up_leaves_nothing_and_can_be_done_again(subject: Subject) {
    let network = &subject.network;
    network.attach(&subject.request("a")).await.unwrap();
    network.set_services(&[service(1, 2)]).await.unwrap();
    network.set_policies(&[]).await.unwrap();
    network.clean_up().await.unwrap();
    assert_eq!(attached(&**network).await, []);
    network.clean_up().await.unwrap();
    // An agent that is about to end may still do either.
    network.repair().await.unwrap();
    network.detach(&pod("a")).await.unwrap();
}

/// A pod that answers connections to two ports, until its namespace ends.
struct Server<'a> {
    subject: &'a Subject,
    namespace: PathBuf,
    pod: PodRef,
    address: IpAddr,
}

/// What a policy allows as to ports.
const OPEN: u16 = 8080;
/// What it does not.
const CLOSED: u16 = 8081;
/// A packet that was dropped gets no answer in this time…
const SILENCE: Duration = Duration::from_millis(300);
/// … and one that was not gets it in this, also on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(10);

impl<'a> Server<'a> {
    async fn start(subject: &'a Subject, name: &str) -> Server<'a> {
        let request = subject.request(name);
        let address = subject.network.attach(&request).await.unwrap().addresses[0];
        let server = Server { subject, namespace: request.network_namespace, pod: request.pod, address };
        server.run(|| {
            for port in [OPEN, CLOSED] {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
                // It answers as long as there is somebody to ask: the test's process ends it.
                std::thread::spawn(move || {
                    for mut stream in listener.incoming().map_while(Result::ok) {
                        std::thread::spawn(move || {
                            let mut byte = [0];
                            while stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
                        });
                    }
                });
            }
        });
        server
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, done) = std::sync::mpsc::channel();
        let namespaces = self.subject.namespaces.as_ref().unwrap();
        namespaces.run(&self.namespace, Box::new(move || drop(sender.send(work()))));
        done.recv().unwrap()
    }

    fn connect(&self, to: IpAddr, port: u16) -> Option<TcpStream> {
        self.run(move || TcpStream::connect_timeout(&(to, port).into(), PATIENCE).ok())
    }

    fn reaches(&self, other: &Server<'_>, port: u16) -> bool {
        self.connect(other.address, port).is_some()
    }

    fn misses(&self, to: IpAddr, port: u16) -> bool {
        self.run(move || TcpStream::connect_timeout(&(to, port).into(), SILENCE).is_err())
    }
}

fn policy(pods: &[&Server<'_>]) -> Policy {
    let pods = pods.iter().map(|pod| pod.address).collect();
    Policy { name: "default/policy".into(), pods, ingress: None, egress: None }
}

fn pods(pods: &[&Server<'_>]) -> Option<Others> {
    Some(Others { pods: pods.iter().map(|pod| pod.address).collect(), blocks: Vec::new() })
}

fn open_port() -> Option<Vec<PortRange>> {
    Some(vec![PortRange { protocol: Protocol::Tcp, first: OPEN, last: OPEN }])
}

fn enforces(subject: &Subject) -> bool {
    subject.policies && subject.namespaces.is_some()
}

/// A pod takes what one of its policies allows, also by way of a Service.
pub async fn clause_6_policies_decide_who_reaches_a_pod(subject: Subject) {
    if !enforces(&subject) {
        return;
    }
    let network = &subject.network;
    let web = Server::start(&subject, "web").await;
    let (friend, other) = (Server::start(&subject, "friend").await, Server::start(&subject, "other").await);
    let mut through = service(1, 0);
    let backend = Backend { address: web.address, port: OPEN, local: true, fallback: false };
    (through.protocol, through.backends) = (Protocol::Tcp, vec![backend]);
    let (address, port) = (through.addresses[0], through.port);
    network.set_services(&[through]).await.unwrap();
    assert!(other.reaches(&web, CLOSED) && other.connect(address, port).is_some(), "nothing is isolated yet");

    let mut policy = policy(&[&web]);
    policy.ingress = Some(Vec::new());
    network.set_policies(std::slice::from_ref(&policy)).await.unwrap();
    assert!(friend.misses(web.address, OPEN) && other.misses(web.address, OPEN));
    assert!(web.reaches(&web, OPEN), "a pod reaches itself");
    assert!(web.connect(address, port).is_some(), "also through a Service");
    assert!(web.reaches(&friend, OPEN), "the policy says nothing of the other direction");
    assert!(other.reaches(&friend, CLOSED), "nor of other pods");

    policy.ingress = Some(vec![Allowed { pods: None, others: pods(&[&friend]), ports: open_port() }]);
    network.set_policies(std::slice::from_ref(&policy)).await.unwrap();
    assert!(friend.reaches(&web, OPEN) && friend.connect(address, port).is_some());
    assert!(friend.misses(web.address, CLOSED) && other.misses(web.address, OPEN));
    assert!(other.misses(address, port), "a Service is no way round");

    // A range that has both, without one of them.
    let except = vec![IpNet::from(other.address)];
    let block = Block { range: IpNet::new(web.address, 24).unwrap().trunc(), except };
    let others = Some(Others { pods: Vec::new(), blocks: vec![block] });
    policy.ingress = Some(vec![Allowed { pods: None, others, ports: None }]);
    network.set_policies(&[policy]).await.unwrap();
    assert!(friend.reaches(&web, CLOSED) && other.misses(web.address, CLOSED));

    network.set_policies(&[]).await.unwrap();
    assert!(other.reaches(&web, CLOSED));
    network.detach(&web.pod).await.unwrap();
}

/// A pod reaches what one of its policies allows, if the other end takes it.
pub async fn clause_6_policies_decide_whom_a_pod_reaches(subject: Subject) {
    if !enforces(&subject) {
        return;
    }
    let network = &subject.network;
    let client = Server::start(&subject, "client").await;
    let (one, other) = (Server::start(&subject, "one").await, Server::start(&subject, "other").await);
    let mut egress = policy(&[&client]);
    egress.egress = Some(vec![
        Allowed { pods: Some(Vec::new()), others: None, ports: None },
        Allowed { pods: None, others: pods(&[&one]), ports: open_port() },
    ]);
    network.set_policies(std::slice::from_ref(&egress)).await.unwrap();
    assert!(client.reaches(&one, OPEN));
    assert!(client.misses(one.address, CLOSED) && client.misses(other.address, OPEN));
    assert!(one.reaches(&client, OPEN), "it still takes what comes");

    // Two policies allow what either allows; and both ends must.
    let mut more = policy(&[&client]);
    "default/policy-2".clone_into(&mut more.name);
    more.egress = Some(vec![Allowed { pods: None, others: pods(&[&other]), ports: None }]);
    let mut closed = policy(&[&one]);
    "default/policy-3".clone_into(&mut closed.name);
    closed.ingress = Some(Vec::new());
    network.set_policies(&[egress.clone(), more.clone()]).await.unwrap();
    assert!(client.reaches(&one, OPEN) && client.reaches(&other, CLOSED));
    network.set_policies(&[egress, more, closed]).await.unwrap();
    assert!(client.misses(one.address, OPEN) && client.reaches(&other, CLOSED));
}

/// A policy is about new connections, and never about the node's own.
pub async fn clause_6_open_connections_and_the_node_pass_policies(subject: Subject) {
    if !enforces(&subject) {
        return;
    }
    let network = &subject.network;
    let (web, client) = (Server::start(&subject, "web").await, Server::start(&subject, "client").await);
    let mut open = client.connect(web.address, OPEN).unwrap();
    let mut policy = policy(&[&web]);
    (policy.ingress, policy.egress) = (Some(Vec::new()), Some(Vec::new()));
    network.set_policies(&[policy]).await.unwrap();
    let mut byte = [7];
    open.write_all(&byte).unwrap();
    open.read_exact(&mut byte).unwrap();
    assert!(client.misses(web.address, OPEN) && web.misses(client.address, OPEN));
    // The suite runs on the node; what comes back to it passes, too.
    let mut probe = TcpStream::connect_timeout(&(web.address, OPEN).into(), PATIENCE).unwrap();
    probe.write_all(&byte).unwrap();
    probe.read_exact(&mut byte).unwrap();
}

/// The nodes named last are those that are reached.
pub async fn peers_are_replaced_as_a_whole(subject: Subject) {
    let network = &subject.network;
    let gateway = Ipv4Addr::LOCALHOST;
    // Without a way to the other node there may be an error, never a change of who is attached.
    let request = subject.request("a");
    let before = network.attach(&request).await.unwrap();
    let peer = Peer { node: "b".into(), address: gateway.into(), pods: vec!["10.1.9.0/24".parse().unwrap()] };
    let _ = network.set_peers(&[peer]).await;
    network.set_peers(&[]).await.unwrap();
    assert_eq!(attached(&**network).await, [before]);
}

/// Repair can be called at any time.
pub async fn repair_changes_nothing_that_is_right(subject: Subject) {
    let network = &subject.network;
    network.repair().await.unwrap();
    let before = network.attach(&subject.request("a")).await.unwrap();
    network.set_services(&[service(1, 2)]).await.unwrap();
    network.repair().await.unwrap();
    network.repair().await.unwrap();
    assert_eq!(attached(&**network).await, [before]);
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_listed_in_the_macro() {
        let source = include_str!("network.rs");
        let listed = source.split("macro_rules! network_conformance").nth(1).unwrap();
        let listed = listed.split("(@cases").next().unwrap();
        for line in source.lines() {
            let Some(name) = line.strip_prefix("pub async fn ").and_then(|rest| rest.split('(').next()) else {
                continue;
            };
            assert!(listed.lines().any(|line| line.trim() == name), "{name} reaches no implementation");
        }
    }
}
