//! A small API server in memory that lies: a [`Client`] for testing what is written against one.
//!
//! It keeps the contract of [`client`](crate::client) (versions, conflicts, ordered watches, finalizers) and knows each
//! kind's `prepare_*` rules, but no admission, validation or defaults. Beyond that it does on request what a real
//! server does at the worst moment: watches lag, break or have expired; writes fail before or after they took effect.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, WatchParams,
};
use kube_core::response::{Status, StatusDetails};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::Value;
use tokio::sync::watch;

use crate::api::pod::{Pod, helpers};
use crate::api::token_request::TokenRequestStatus;
use crate::api::{Lease, Node, TokenRequest};
use crate::client::{Bind, Client, Deleted, DynList, Error, Scope, Target, WatchEvent, WatchStream};
use crate::clock::Clock;
use crate::informer::ObjectKey;
use crate::kind::{AnyObject, DynObject, KindType, Subresource};
use crate::leader::Fence;
use crate::quantity::Quantity;

/// How likely each fault is, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// A call fails and changes nothing.
    pub refused: f64,
    /// A write takes effect, but its answer is lost.
    pub answer_lost: f64,
    /// A watch breaks after an event.
    pub watch_cut: f64,
    /// A watch's start is too old.
    pub expired: f64,
}

/// The server; see the [module](self). Clones share the state.
#[derive(Clone)]
pub struct FakeServer {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    /// The revision up to which watches tell.
    told: watch::Sender<u64>,
}

struct State {
    revision: u64,
    objects: BTreeMap<(&'static str, &'static str, ObjectKey), DynObject>,
    history: Vec<Change>,
    rng: Pcg64,
    faults: Faults,
    scripted: VecDeque<Error>,
    lagging: bool,
    graceful: bool,
    compacted: u64,
    writes: u64,
    lists: u64,
    ledger: bool,
}

#[derive(Debug, Clone)]
struct Change {
    revision: u64,
    kind: &'static KindType,
    old: Option<DynObject>,
    new: Option<DynObject>,
}

impl fmt::Debug for FakeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("FakeServer")
            .field("revision", &state.revision)
            .field("objects", &state.objects.len())
            .finish_non_exhaustive()
    }
}

fn refusal(code: u16, reason: &str, message: String) -> Error {
    Status { code, reason: reason.to_owned(), message, ..Status::default() }.into()
}

fn about(target: &Target<'_>, code: u16, reason: &str, message: String) -> Error {
    let details = StatusDetails {
        name: target.name.to_owned(),
        kind: target.kind.info.plural.to_owned(),
        group: target.kind.info.group.to_owned(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    };
    Status { code, reason: reason.to_owned(), message, details: Some(details), ..Status::default() }.into()
}

impl FakeServer {
    /// An empty server. The seed is for faults, uids and generated names.
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        let state = State {
            revision: 1,
            objects: BTreeMap::new(),
            history: Vec::new(),
            rng: Pcg64::seed_from_u64(seed),
            faults: Faults::default(),
            scripted: VecDeque::new(),
            lagging: false,
            graceful: false,
            compacted: 0,
            writes: 0,
            lists: 0,
            ledger: false,
        };
        Self { clock, state: Arc::new(Mutex::new(state)), told: watch::Sender::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on calls fail at random.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// From now on a bind conflicts unless the node is there and has room for the pod beside those that it has.
    pub fn keep_ledger(&self) {
        self.lock().ledger = true;
    }

    /// The next calls fail with these errors, one each, and change nothing.
    pub fn fail_with(&self, errors: impl IntoIterator<Item = Error>) {
        self.lock().scripted.extend(errors);
    }

    /// From now on watches tell nothing new until [`FakeServer::tell`] or until lagging ends. Reads and listings are
    /// always fresh.
    pub fn set_lagging(&self, lagging: bool) {
        let mut state = self.lock();
        state.lagging = lagging;
        if !lagging {
            self.told.send_replace(state.revision);
        }
    }

    /// From now on a deleted pod that has a node stays until it is deleted with a grace period of 0, as its node's agent
    /// does once its containers have ended.
    pub fn set_graceful(&self, graceful: bool) {
        self.lock().graceful = graceful;
    }

    /// Lets watches tell up to this many more changes.
    pub fn tell(&self, changes: u64) {
        let revision = self.lock().revision;
        self.told.send_modify(|told| *told = (*told + changes).min(revision));
    }

    /// Forgets the past: watches that would begin in it have expired.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.compacted = state.revision;
        state.history.clear();
    }

    /// How many writes took effect.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// How many listings were answered.
    pub fn lists(&self) -> u64 {
        self.lock().lists
    }

    /// What the server really holds of a kind.
    pub fn objects(&self, kind: &'static KindType) -> Vec<DynObject> {
        let state = self.lock();
        state.objects.values().filter(|object| object.kind_type() == kind).cloned().collect()
    }

    /// Changes an object behind everybody's back, without faults; nothing if there is none.
    pub fn modify(&self, target: Target<'_>, change: impl FnOnce(&mut dyn AnyObject)) {
        let mut state = self.lock();
        if let Some(old) = state.objects.get(&place(&target)).cloned() {
            let mut new = old.clone_box();
            change(&mut *new);
            self.commit(&mut state, target.kind, Some(old), Some(new));
        }
    }

    /// Removes an object at once, whatever its finalizers say, without faults.
    pub fn remove(&self, target: Target<'_>) {
        let mut state = self.lock();
        if let Some(old) = state.objects.get(&place(&target)).cloned() {
            self.commit(&mut state, target.kind, Some(old), None);
        }
    }

    /// Fails as scripted or by chance. `true`: carry it out, but lose the answer.
    fn fault(&self, state: &mut State, operation: &str, write: bool) -> Result<bool, Error> {
        if let Some(error) = state.scripted.pop_front() {
            return Err(error);
        }
        let Faults { refused, answer_lost, .. } = state.faults;
        if refused > 0.0 && state.rng.random_bool(refused) {
            return Err(lost(operation));
        }
        if let Some(fence) = Fence::current().filter(|_| write) {
            let kind = KindType::of::<Lease>();
            let lease = Self::stored(state, &Target { kind, namespace: &fence.namespace, name: &fence.name }).ok();
            fence.check(lease.as_ref().and_then(|lease| lease.as_any().downcast_ref()))?;
        }
        Ok(write && answer_lost > 0.0 && state.rng.random_bool(answer_lost))
    }

    fn commit(
        &self,
        state: &mut State,
        kind: &'static KindType,
        old: Option<DynObject>,
        new: Option<Box<dyn AnyObject>>,
    ) -> DynObject {
        state.revision += 1;
        state.writes += 1;
        let revision = state.revision;
        let stamp = |mut object: Box<dyn AnyObject>| -> DynObject {
            object.meta_mut().resource_version = Some(revision.to_string());
            object.into()
        };
        let gone = new.is_none();
        let result = match (&old, new) {
            (_, Some(new)) => stamp(new),
            (Some(old), None) => stamp(old.clone_box()),
            (None, None) => unreachable!("a commit has an object before or after"),
        };
        let place = (kind.info.group, kind.info.kind, ObjectKey::of(&*result));
        if gone {
            state.objects.remove(&place);
        } else {
            state.objects.insert(place, result.clone());
        }
        // A deletion's event carries the last state under the deletion's version.
        let change = if gone {
            Change { revision, kind, old: Some(result.clone()), new: None }
        } else {
            Change { revision, kind, old, new: Some(result.clone()) }
        };
        state.history.push(change);
        if !state.lagging {
            self.told.send_replace(revision);
        }
        result
    }

    fn stored(state: &State, target: &Target<'_>) -> Result<DynObject, Error> {
        state.objects.get(&place(target)).cloned().ok_or_else(|| {
            let text = format!("{} \"{}\" not found", target.kind.info.resource(), target.name);
            about(target, 404, "NotFound", text)
        })
    }

    fn put(
        &self,
        state: &mut State,
        old: DynObject,
        mut new: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
    ) -> DynObject {
        let kind = old.kind_type();
        {
            let (kept, meta) = (old.meta(), new.meta_mut());
            meta.uid.clone_from(&kept.uid);
            meta.creation_timestamp.clone_from(&kept.creation_timestamp);
            meta.deletion_timestamp.clone_from(&kept.deletion_timestamp);
            meta.deletion_grace_period_seconds = kept.deletion_grace_period_seconds;
            meta.generation = kept.generation;
            meta.resource_version.clone_from(&kept.resource_version);
        }
        new.prepare_for_update(&*old, subresource);
        if new.equals(&*old) {
            return old;
        }
        let meta = new.meta();
        let gone = meta.deletion_timestamp.is_some()
            && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
            && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
            && !is_held_by_spec(&*new);
        if gone {
            // The change that removed the last finalizer is the object's last state.
            let last: DynObject = new.into();
            return self.commit(state, kind, Some(last), None);
        }
        self.commit(state, kind, Some(old), Some(new))
    }
}

fn runs_somewhere(object: &dyn AnyObject) -> bool {
    object.as_any().downcast_ref::<Pod>().is_some_and(|pod| !pod.spec.node_name.is_empty())
}

/// Namespaces have finalizers in their spec, too.
fn is_held_by_spec(object: &dyn AnyObject) -> bool {
    object.kind_type().info.kind == "Namespace"
        && object.to_value()["spec"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// Whether the node has what the pod asks for beside what its pods ask for.
fn has_room(state: &State, pod: &DynObject, node: &str) -> bool {
    let place = ("", "Node", ObjectKey::new("", node));
    let node_object = state.objects.get(&place).and_then(|object| object.as_any().downcast_ref::<Node>());
    let (Some(node_object), Some(pod)) = (node_object, pod.as_any().downcast_ref::<Pod>()) else { return false };
    let pods = state.objects.values().filter_map(|object| object.as_any().downcast_ref::<Pod>());
    let there: Vec<&Pod> = pods.filter(|pod| pod.spec.node_name == node && !helpers::is_terminal(pod)).collect();
    let allocatable = |name: &str| node_object.status.allocatable.get(name).cloned().unwrap_or_default();
    let count = i64::try_from(there.len()).unwrap_or(i64::MAX);
    let fits = |name: &str| {
        let mut sum = Quantity::default();
        for pod in there.iter().copied().chain([pod]) {
            let requests = helpers::pod_requests(pod, helpers::ResourceOptions::default());
            sum += &requests.get(name).cloned().unwrap_or_default();
        }
        sum <= allocatable(name)
    };
    let wanted = helpers::pod_requests(pod, helpers::ResourceOptions::default());
    count < allocatable("pods").value() && wanted.keys().all(|name| fits(name))
}

fn lost(operation: &str) -> Error {
    Error::Unavailable { operation: operation.to_owned(), reason: "connection reset (injected)".to_owned() }
}

fn place(target: &Target<'_>) -> (&'static str, &'static str, ObjectKey) {
    (target.kind.info.group, target.kind.info.kind, ObjectKey::new(target.namespace, target.name))
}

/// Fields that must have (or, with `!=`, must not have) a value.
fn selects(selector: Option<&str>, namespace: Option<&str>, object: &dyn AnyObject) -> bool {
    let inside = namespace.is_none_or(|namespace| object.meta().namespace.as_deref() == Some(namespace));
    inside
        && selector.unwrap_or_default().split(',').filter(|term| !term.is_empty()).all(|term| {
            match term.split_once("!=") {
                Some((field, value)) => object.field(field).as_deref() != Some(value),
                None => {
                    let (field, value) = term.split_once('=').unwrap_or((term, ""));
                    object.field(field.trim_end_matches('=')).as_deref() == Some(value.trim_start_matches('='))
                }
            }
        })
}

/// The calls without the waiting.
impl FakeServer {
    fn create_now(&self, mut object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, Error> {
        let mut state = self.lock();
        let kind = object.kind_type();
        let answer_lost = self.fault(&mut state, &format!("create {}", kind.info.singular), true)?;
        let prefix = object.meta().generate_name.clone().unwrap_or_default();
        if object.meta().name.as_deref().unwrap_or_default().is_empty() {
            const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
            let suffix: String =
                (0..5).map(|_| char::from(ALPHABET[state.rng.random_range(0..ALPHABET.len())])).collect();
            object.meta_mut().name = Some(format!("{prefix}{suffix}"));
        }
        let key = ObjectKey::of(&*object);
        let target = Target { kind, namespace: &key.namespace, name: &key.name };
        if state.objects.contains_key(&place(&target)) {
            let text = format!("{} \"{}\" already exists", kind.info.resource(), key.name);
            return Err(about(&target, 409, "AlreadyExists", text));
        }
        let uid = format!("00000000-0000-4000-8000-{:012x}", state.rng.random::<u64>() >> 16);
        let meta = object.meta_mut();
        meta.uid = Some(uid);
        meta.creation_timestamp = Some(Time(self.clock.now()));
        meta.deletion_timestamp = None;
        object.prepare_for_create();
        if params.dry_run {
            return Ok(object.into());
        }
        let created = self.commit(&mut state, kind, None, Some(object));
        if answer_lost { Err(lost("create")) } else { Ok(created) }
    }

    fn update_now(&self, object: Box<dyn AnyObject>, subresource: Option<Subresource>) -> Result<DynObject, Error> {
        let mut state = self.lock();
        let kind = object.kind_type();
        let answer_lost = self.fault(&mut state, &format!("update {}", kind.info.singular), true)?;
        let key = ObjectKey::of(&*object);
        let target = Target { kind, namespace: &key.namespace, name: &key.name };
        let old = Self::stored(&state, &target)?;
        let (given, have) = (object.meta(), old.meta());
        let stale = |given: &Option<String>, have: &Option<String>| given.is_some() && given != have;
        if stale(&given.resource_version, &have.resource_version) || stale(&given.uid, &have.uid) {
            let text = format!(
                "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the latest version and try again",
                kind.info.resource(),
                key.name
            );
            return Err(about(&target, 409, "Conflict", text));
        }
        let stored = self.put(&mut state, old, object, subresource);
        if answer_lost { Err(lost("update")) } else { Ok(stored) }
    }

    fn patch_now(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
    ) -> Result<DynObject, Error> {
        let mut state = self.lock();
        let answer_lost = self.fault(&mut state, &format!("patch {target}"), true)?;
        let old = Self::stored(&state, &target)?;
        let (Patch::Merge(patch) | Patch::Strategic(patch)) = patch else {
            return Err(about(&target, 415, "UnsupportedMediaType", "the fake server knows merge patches only".into()));
        };
        let mut value = old.to_value();
        merge(&mut value, patch);
        let new = (target.kind.from_value)(value)
            .map_err(|error| about(&target, 422, "Invalid", format!("the patch does not fit: {error}")))?;
        if new.meta().resource_version != old.meta().resource_version || new.meta().uid != old.meta().uid {
            let text = format!("the precondition of the patch of {target} does not hold");
            return Err(about(&target, 409, "Conflict", text));
        }
        let stored = self.put(&mut state, old, new, subresource);
        if answer_lost { Err(lost("patch")) } else { Ok(stored) }
    }

    fn delete_now(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error> {
        let mut state = self.lock();
        let answer_lost = self.fault(&mut state, &format!("delete {target}"), true)?;
        let old = Self::stored(&state, &target)?;
        if let Some(preconditions) = &params.preconditions {
            let differs = |want: &Option<String>, have: &Option<String>| want.is_some() && want != have;
            if differs(&preconditions.uid, &old.meta().uid)
                || differs(&preconditions.resource_version, &old.meta().resource_version)
            {
                let text = format!("the precondition of the deletion of {target} does not hold");
                return Err(about(&target, 409, "Conflict", text));
            }
        }
        let mut new = old.clone_box();
        let mut finalizers = old.meta().finalizers.clone().unwrap_or_default();
        let hold = match &params.propagation_policy {
            Some(PropagationPolicy::Foreground) => Some("foregroundDeletion"),
            Some(PropagationPolicy::Orphan) => Some("orphan"),
            _ => None,
        };
        if let Some(hold) = hold
            && !finalizers.iter().any(|have| have == hold)
        {
            finalizers.push(hold.to_owned());
        }
        let grace = if state.graceful && runs_somewhere(&*old) { params.grace_period_seconds.unwrap_or(30) } else { 0 };
        let deleted = if finalizers.is_empty() && grace == 0 {
            Deleted::Gone(self.commit(&mut state, target.kind, Some(old), None))
        } else {
            let meta = new.meta_mut();
            if !finalizers.is_empty() {
                meta.finalizers = Some(finalizers);
            }
            if meta.deletion_timestamp.is_none() {
                meta.deletion_timestamp = Some(Time(self.clock.now()));
                meta.deletion_grace_period_seconds = Some(i64::from(grace));
            } else if grace == 0 {
                meta.deletion_grace_period_seconds = Some(0);
            }
            if new.equals(&*old) {
                Deleted::Pending(old)
            } else {
                Deleted::Pending(self.commit(&mut state, target.kind, Some(old), Some(new)))
            }
        };
        if answer_lost { Err(lost("delete")) } else { Ok(deleted) }
    }

    fn bind_now(&self, bind: &Bind) -> Result<(), Error> {
        let mut state = self.lock();
        let answer_lost = self.fault(&mut state, &format!("bind pods {}/{}", bind.namespace, bind.pod), true)?;
        let key = ("", "Pod", ObjectKey::new(&bind.namespace, &bind.pod));
        let missing = || refusal(404, "NotFound", format!("pods \"{}\" not found", bind.pod));
        let old = state.objects.get(&key).cloned().ok_or_else(missing)?;
        let mut value = old.to_value();
        if value["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty()) {
            let text = format!("pod {} is already assigned to node {}", bind.pod, value["spec"]["nodeName"]);
            return Err(refusal(409, "Conflict", text));
        }
        if state.ledger && !has_room(&state, &old, &bind.node) {
            return Err(refusal(409, "Conflict", format!("node {} has no room for pod {}", bind.node, bind.pod)));
        }
        value["spec"]["nodeName"] = Value::from(bind.node.as_str());
        for (key, text) in &bind.annotations {
            value["metadata"]["annotations"][key] = Value::from(text.as_str());
        }
        let new = (old.kind_type().from_value)(value).expect("a pod with a node name is a pod");
        self.commit(&mut state, old.kind_type(), Some(old), Some(new));
        if answer_lost { Err(lost("bind")) } else { Ok(()) }
    }
}

#[async_trait]
impl Client for FakeServer {
    async fn get(&self, target: Target<'_>, _: &GetParams) -> Result<DynObject, Error> {
        tokio::task::yield_now().await;
        let mut state = self.lock();
        self.fault(&mut state, &format!("get {target}"), false)?;
        Self::stored(&state, &target)
    }

    async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, Error> {
        tokio::task::yield_now().await;
        let mut state = self.lock();
        self.fault(&mut state, &format!("list {}", scope.kind.info.plural), false)?;
        state.lists += 1;
        let items = (state.objects.values())
            .filter(|object| object.kind_type() == scope.kind)
            .filter(|object| selects(params.field_selector.as_deref(), scope.namespace, &***object))
            .cloned()
            .collect();
        Ok(DynList { items, resource_version: state.revision.to_string(), continue_token: None, remaining: None })
    }

    async fn watch(
        &self,
        scope: Scope<'_>,
        params: &WatchParams,
        resource_version: &str,
    ) -> Result<WatchStream, Error> {
        let start: u64 = resource_version.parse().unwrap_or(0);
        {
            let mut state = self.lock();
            self.fault(&mut state, &format!("watch {}", scope.kind.info.plural), false)?;
            let expired = state.faults.expired;
            if start < state.compacted || (expired > 0.0 && state.rng.random_bool(expired)) {
                let text = format!("too old resource version: {start} ({})", state.compacted);
                return Err(refusal(410, "Expired", text));
            }
        }
        let (server, kind) = (self.clone(), scope.kind);
        let namespace = scope.namespace.map(str::to_owned);
        let selector = params.field_selector.clone();
        let told = self.told.subscribe();
        let stream = futures::stream::unfold((server, told, start), move |(server, mut told, mut at)| {
            let (namespace, selector) = (namespace.clone(), selector.clone());
            async move {
                loop {
                    let limit = *told.borrow_and_update();
                    let event = {
                        let mut state = server.lock();
                        if at < state.compacted {
                            let text = format!("too old resource version: {at} ({})", state.compacted);
                            at = u64::MAX;
                            Some(Err(refusal(410, "Expired", text)))
                        } else {
                            let begin = state.history.partition_point(|change| change.revision <= at);
                            let next = (state.history[begin..].iter())
                                .take_while(|change| change.revision <= limit)
                                .filter(|change| change.kind == kind)
                                .find_map(|change| {
                                    let selected = |object: &DynObject| {
                                        selects(selector.as_deref(), namespace.as_deref(), &**object)
                                    };
                                    let old = change.old.as_ref().filter(|object| selected(object)).cloned();
                                    let new = change.new.as_ref().filter(|object| selected(object)).cloned();
                                    let event = match (old, new) {
                                        (None, None) => return None,
                                        (None, Some(new)) => WatchEvent::Added(new),
                                        (Some(_), Some(new)) => WatchEvent::Modified(new),
                                        (Some(old), None) => {
                                            let mut last = old.clone_box();
                                            last.meta_mut().resource_version = Some(change.revision.to_string());
                                            WatchEvent::Deleted(last.into())
                                        }
                                    };
                                    Some((change.revision, event))
                                });
                            let cut = state.faults.watch_cut;
                            if next.is_some() && cut > 0.0 && state.rng.random_bool(cut) {
                                return None;
                            }
                            next.map(|(revision, event)| {
                                at = revision;
                                Ok(event)
                            })
                        }
                    };
                    match event {
                        Some(event) => return Some((event, (server, told, at))),
                        None if at == u64::MAX => return None,
                        None => told.changed().await.ok()?,
                    }
                }
            }
        });
        Ok(stream.boxed())
    }

    async fn create(&self, object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, Error> {
        // Callers can be dropped before and after the effect.
        tokio::task::yield_now().await;
        let result = self.create_now(object, params);
        tokio::task::yield_now().await;
        result
    }

    async fn update(
        &self,
        object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        _: &PostParams,
    ) -> Result<DynObject, Error> {
        // Callers can be dropped before and after the effect.
        tokio::task::yield_now().await;
        let result = self.update_now(object, subresource);
        tokio::task::yield_now().await;
        result
    }

    async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        _: &PatchParams,
    ) -> Result<DynObject, Error> {
        // Callers can be dropped before and after the effect.
        tokio::task::yield_now().await;
        let result = self.patch_now(target, subresource, patch);
        tokio::task::yield_now().await;
        result
    }

    async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error> {
        // Callers can be dropped before and after the effect.
        tokio::task::yield_now().await;
        let result = self.delete_now(target, params);
        tokio::task::yield_now().await;
        result
    }

    async fn bind(&self, bind: &Bind) -> Result<(), Error> {
        // Callers can be dropped before and after the effect.
        tokio::task::yield_now().await;
        let result = self.bind_now(bind);
        tokio::task::yield_now().await;
        result
    }

    /// Gives a text that says what it is for and when it was made: no token that anybody would take.
    async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, Error> {
        tokio::task::yield_now().await;
        let mut state = self.lock();
        self.fault(&mut state, "create token", false)?;
        let (metadata, spec) = (&request.metadata, &request.spec);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let bound = spec.bound_object_ref.clone().unwrap_or_default();
        let now = self.clock.now();
        let mut answer = request.clone();
        answer.status = TokenRequestStatus {
            token: [
                text(&metadata.namespace),
                text(&metadata.name),
                spec.audiences.join("+"),
                bound.name,
                bound.uid,
                now.as_second().to_string(),
            ]
            .join("/"),
            expiration_timestamp: Time(now + SignedDuration::from_secs(spec.expiration_seconds.unwrap_or(3600))),
        };
        Ok(answer)
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
