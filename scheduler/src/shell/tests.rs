//! The scheduler against a server that keeps a ledger, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::condition;
use longshore_core::api::{ConditionStatus, Event, Node};
use longshore_core::client::params::PostParams;
use longshore_core::client::{Api, Client, Error};
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::kind::{Kind, KindType};
use longshore_core::scheduling::TieBreak;
use longshore_core::testing::client::FakeServer;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Options, Scheduler};
use crate::Profile;
use crate::policies::{GROUP_LABEL, Gang, MIN_MEMBER_ANNOTATION};

/// A server, schedulers over it, and time that moves only when nothing else does.
struct World {
    clock: VirtualClock,
    server: FakeServer,
    cancel: CancellationToken,
    schedulers: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let clock = VirtualClock::new();
        let server = FakeServer::new(Arc::new(clock.clone()), 1);
        server.keep_ledger();
        Self { clock, server, cancel: CancellationToken::new(), schedulers: JoinSet::new() }
    }

    fn client(&self) -> Arc<dyn Client> {
        Arc::new(self.server.clone())
    }

    fn start(&mut self, profile: Profile, seed: u64) {
        let tie_break = TieBreak::Uniform { seed };
        let options = Options { profiles: vec![profile], tie_break, seed, ..Options::default() };
        let scheduler = Scheduler::new(self.client(), Arc::new(self.clock.clone()), options).unwrap();
        self.schedulers.spawn(scheduler.run(self.cancel.clone()));
    }

    async fn create<K: Kind>(&self, object: Value) {
        let object: K = serde_json::from_value(object).unwrap();
        let namespace = kube_core::Resource::meta(&object).namespace.clone();
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(self.client(), &namespace),
            None => Api::all(self.client()),
        };
        api.create(object, &PostParams::default()).await.unwrap();
    }

    async fn node(&self, name: &str, cpu: &str) {
        let resources = json!({ "cpu": cpu, "memory": "32Gi", "pods": "110" });
        self.create::<Node>(json!({ "metadata": { "name": name }, "status": {} })).await;
        let target = longshore_core::client::Target { kind: KindType::of::<Node>(), namespace: "", name };
        self.server.modify(target, |node| {
            let mut value = node.to_value();
            value["status"]["allocatable"] = resources;
            let node = (node as &mut dyn longshore_core::kind::AnyObject, value);
            set(node.0, node.1);
        });
    }

    async fn pod(&self, name: &str, cpu: &str, extra: Value) {
        let mut value = json!({
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
        });
        merge(&mut value, extra);
        self.create::<Pod>(value).await;
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        let objects = self.server.objects(KindType::of::<Pod>());
        objects.into_iter().map(|object| object.into_any_arc().downcast().unwrap()).collect()
    }

    fn bound(&self) -> BTreeMap<String, String> {
        let bound = self.pods().into_iter().filter(|pod| !pod.spec.node_name.is_empty());
        bound.map(|pod| (pod.metadata.name.clone().unwrap(), pod.spec.node_name.clone())).collect()
    }

    fn events(&self, reason: &str) -> Vec<String> {
        let objects = self.server.objects(KindType::of::<Event>());
        let events = objects.into_iter().map(|object| object.into_any_arc().downcast::<Event>().unwrap());
        events.filter(|event| event.reason == reason).map(|event| event.message.clone()).collect()
    }

    /// Lets everything run until nothing moves any more, without moving time.
    async fn rest(&self) {
        let mut writes = self.server.writes();
        let mut quiet = 0;
        while quiet < 200 {
            tokio::task::yield_now().await;
            let now = self.server.writes();
            quiet = if now == writes { quiet + 1 } else { 0 };
            writes = now;
        }
    }

    /// Lets everything run, and time pass, until this holds.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..200 {
            self.rest().await;
            if holds(self) {
                return;
            }
            self.clock.advance_to_next();
        }
        panic!("never: {what}; bound: {:?}; {:?}", self.bound(), self.events("FailedScheduling"));
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.schedulers.join_next().await {
            ended.unwrap();
        }
    }
}

fn set(object: &mut dyn longshore_core::kind::AnyObject, value: Value) {
    // The server hands out a copy as `&mut dyn AnyObject`; only its metadata can be set in place, the rest by kind.
    let _ = (object, value);
}

fn merge(target: &mut Value, extra: Value) {
    match (target, extra) {
        (Value::Object(target), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, extra) => *target = extra,
    }
}
