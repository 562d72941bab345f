//! The conformance suite of networks on all of this crate's.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use longshore_core::network::Network;
use longshore_core::testing::network::{Namespaces, Subject};
use longshore_network::{Bridge, Cni, HostNetwork, NoNetwork, Options, cni};
use nix::mount::{MntFlags, umount2};
use support::{Namespace, run};
use tempfile::TempDir;

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

    fn run(&self, path: &Path, work: Box<dyn FnOnce() + Send>) {
        self.0.lock().unwrap()[path].run_now(work);
    }
}

/// One range is the smaller: its own address, the network's and the broadcast address are not for pods.
async fn bridge() -> Result<Subject, String> {
    bridge_of(&["10.1.0.0/28"], &["10.101.0.0/16"]).await
}

async fn dual_stack() -> Result<Subject, String> {
    support::missing_v6().map_or(Ok(()), Err)?;
    bridge_of(&["10.1.0.0/28", "fd01::/64"], &["10.101.0.0/16", "fd02::/112"]).await
}

async fn bridge_of(pods: &[&str], services: &[&str]) -> Result<Subject, String> {
    support::missing().map_or(Ok(()), Err)?;
    support::own_machine();
    run("ip link set lo up");
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        instance: "suite".into(),
        state: directory.path().join("network"),
        pods: pods.iter().map(|range| range.parse().unwrap()).collect(),
        cluster: Vec::new(),
        services: services.iter().map(|range| range.parse().unwrap()).collect(),
        mtu: Some(1400),
    };
    let open = |options: Options| async { Arc::new(Bridge::open(options).await.unwrap()) as Arc<dyn Network> };
    let mut subject = Subject::new(open(options.clone()).await);
    subject.namespaces = Some(Box::new(Threads::default()));
    subject.addresses = Some(13);
    subject.policies = true;
    subject.reopen = Some(Box::new(move || Box::pin(open(options.clone()))));
    subject.keep.push(Box::new(directory));
    Ok(subject)
}

/// The directory of a network of plugins: mounts keep the namespaces of pods that a case never detached, and it from being removed.
struct Mounted(TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        let namespaces = std::fs::read_dir(self.0.path().join("network/namespaces"));
        for namespace in namespaces.into_iter().flatten().flatten() {
            // One that is not mounted needs nothing.
            let _ = umount2(&namespace.path(), MntFlags::MNT_DETACH);
        }
    }
}

async fn cni() -> Result<Subject, String> {
    support::missing_plugins().map_or(Ok(()), Err)?;
    support::own_machine();
    run("ip link set lo up");
    let directory = tempfile::tempdir().unwrap();
    let options = support::cni_options(directory.path(), &["10.1.0.0/28"]);
    let open = |options: cni::Options| async { Arc::new(Cni::open(options).await.unwrap()) as Arc<dyn Network> };
    let mut subject = Subject::new(open(options.clone()).await);
    subject.namespaces = Some(Box::new(Threads::default()));
    subject.addresses = Some(13);
    subject.reopen = Some(Box::new(move || Box::pin(open(options.clone()))));
    subject.keep.push(Box::new(Mounted(directory)));
    Ok(subject)
}

mod plugins {
    longshore_core::network_conformance!(super::cni);
}

mod two_families {
    longshore_core::network_conformance!(super::dual_stack);
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

    longshore_core::network_conformance!(|| async {
        support::missing().map_or(Ok(()), Err)?;
        let mut subject = Subject::new(Arc::new(NoNetwork::new()));
        subject.namespaces = Some(Box::new(Threads::default()));
        Ok(subject)
    });
}
