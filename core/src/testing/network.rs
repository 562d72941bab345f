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
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::poll;

use crate::network::{Attach, Attached, Backend, Error, Network, Peer, Protocol, ServicePort};
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
}

/// An implementation under test: a new network and what the suite must know of it.
pub struct Subject {
    /// The network.
    pub network: Arc<dyn Network>,
    /// Makes namespaces; `None` if the network does not look at them.
    pub namespaces: Option<Box<dyn Namespaces>>,
    /// For how many pods there are addresses, and that every pod gets its own; `None` if pods share theirs.
    pub addresses: Option<usize>,
    /// For networks that keep their state: opens it again.
    pub reopen: Option<Reopen>,
    /// What must live as long as the network, such as its temporary directory.
    pub keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A subject whose pods share their addresses and whose state ends with it.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self { network, namespaces: None, addresses: None, reopen: None, keep: Vec::new() }
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
            clause_5_clean_up_leaves_nothing_and_can_be_done_again
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
    let backend = |b| Backend { address: Ipv4Addr::new(10, 1, b, n).into(), port: 80, local: b % 2 == 0 };
    ServicePort {
        name: format!("default/service-{n:03}:web"),
        protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(n % 3)],
        addresses: vec![Ipv4Addr::new(10, 101, 0, n).into(), Ipv4Addr::new(192, 0, 2, n).into()],
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

/// After cleaning up there is nothing.
pub async fn clause_5_clean_up_leaves_nothing_and_can_be_done_again(subject: Subject) {
    let network = &subject.network;
    network.attach(&subject.request("a")).await.unwrap();
    network.set_services(&[service(1, 2)]).await.unwrap();
    network.clean_up().await.unwrap();
    assert_eq!(attached(&**network).await, []);
    network.clean_up().await.unwrap();
    // An agent that is about to end may still do either.
    network.repair().await.unwrap();
    network.detach(&pod("a")).await.unwrap();
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
