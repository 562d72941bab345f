//! The conformance suite of networks on all of this crate's.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use longshore_core::network::Network;
use longshore_core::testing::network::{Namespaces, Subject};
use longshore_network::{Bridge, HostNetwork, NoNetwork, Options};
use support::{Namespace, run};

#[derive(Default)]
struct Threads(Mutex<BTreeMap<PathBuf, Namespace>>);

impl Namespaces for Threads {
    fn make(&self) -> PathBuf {
        let namespace = Namespace::new("pod");
        let path = namespace.path.clone();
        self.0.lock().unwrap().insert(path.clone(), namespace);
        path
    }

    fn destroy(&self, path: PathBuf) {
        self.0.lock().unwrap().remove(&path).unwrap().end();
    }
}

async fn bridge() -> Result<Subject, String> {
    support::missing().map_or(Ok(()), Err)?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    run("ip link set lo up");
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        instance: "suite".into(),
        state: directory.path().join("network"),
        // Its own address, the network's and the broadcast address are not for pods.
        pods: "10.1.0.0/28".parse().unwrap(),
        cluster: Vec::new(),
        services: vec!["10.101.0.0/16".parse().unwrap()],
        mtu: Some(1400),
    };
    let open = |options: Options| async { Arc::new(Bridge::open(options).await.unwrap()) as Arc<dyn Network> };
    let mut subject = Subject::new(open(options.clone()).await);
    subject.namespaces = Some(Box::new(Threads::default()));
    subject.addresses = Some(13);
    subject.reopen = Some(Box::new(move || Box::pin(open(options.clone()))));
    subject.keep.push(Box::new(directory));
    Ok(subject)
}

mod bridge {
    longshore_core::network_conformance!(super::bridge);
}

mod host {
    use super::*;

    longshore_core::network_conformance!(|| async {
        Ok(Subject::new(Arc::new(HostNetwork::new(vec!["192.0.2.1".parse().unwrap()]))))
    });
}

mod none {
    use super::*;

    longshore_core::network_conformance!(|| async { Ok(Subject::new(Arc::new(NoNetwork::new()))) });
}
