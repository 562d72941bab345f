//! Objects of Kubernetes, as a beginning: what `kubectl get nodes,pods,… -A -o yaml` prints, and manifests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use longshore_core::api::pod::PodPhase;
use longshore_core::api::{self, Node, Pod};
use longshore_core::decode::{self, DecodeError, FieldValidation, Format};
use longshore_core::kind::{AnyObject, DynObject, KindType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Events, Tally, TraceError};
use crate::workload::{Class, Event, Job, Task, What};

/// Everything is there at the first moment: nodes, pods that run where they run, and those that have no node yet, which arrive as
/// jobs: all pods of one controller as one, which is batch if that is a Job, else a service; each other pod as one of its own. A job's
/// user is the namespace.
///
/// A file has JSON, or documents of YAML, each an object or a list of them. A list of YAML is taken apart by its lines as kubectl writes
/// them, so that it may be of any length.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// A file, or a folder with `.json`, `.yaml` and `.yml` files.
    pub path: PathBuf,
    /// Whether there is somebody who acts on objects: then there are all of them, pods without a node are as they are, and what its
    /// controller is there for is left to it.
    #[serde(skip)]
    pub acted_on: bool,
}

/// Other kinds that the scheduler's policies look at.
const LOOKED_AT: [&str; 13] = [
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "StorageClass",
    "CSINode",
    "CSIDriver",
    "CSIStorageCapacity",
    "Service",
    "ReplicationController",
    "ReplicaSet",
    "StatefulSet",
    "PodDisruptionBudget",
    "PodGroup",
];

#[derive(Default)]
struct Found {
    acted_on: bool,
    objects: Vec<DynObject>,
    nodes: Vec<Arc<Node>>,
    running: Vec<(Arc<Pod>, Arc<str>)>,
    /// By what controls them.
    waiting: IndexMap<String, Vec<Arc<Pod>>>,
}

impl Kubernetes {
    /// The kinds of which objects are looked at, beside nodes and pods: a snapshot of a cluster has all that the cluster has of them.
    pub fn looked_at() -> impl Iterator<Item = &'static KindType> {
        api::kinds().iter().copied().filter(|kind| LOOKED_AT.contains(&kind.info.kind))
    }

    pub(crate) fn events(&self, base: &Path, tally: &Tally) -> Result<Events, TraceError> {
        let path = base.join(&self.path);
        let mut found = Found { acted_on: self.acted_on, ..Found::default() };
        for file in files(&path).map_err(|source| TraceError::Read { file: path.clone(), source })? {
            let bytes = std::fs::read(&file).map_err(|source| TraceError::Read { file: file.clone(), source })?;
            let text = match std::str::from_utf8(&bytes) {
                Ok(text) => text,
                Err(error) => {
                    let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
                    tally.bad(&file, line as u64, "it is not UTF-8".to_owned())?;
                    continue;
                }
            };
            each_object(text, |line, text, format| match found.take(text, format, tally) {
                Ok(()) => Ok(()),
                Err(reason) => tally.bad(&file, line, reason),
            })?;
        }
        if self.acted_on {
            found.leave_to_controllers(tally);
        }
        Ok(Box::new(found.events(tally.clone())))
    }
}

fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if file.is_file() && extension.is_some_and(|extension| ["json", "yaml", "yml"].contains(&extension)) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Hands over each object's text with the line on which it begins; lists are taken apart.
fn each_object(
    text: &str,
    mut each: impl FnMut(u64, &str, Format) -> Result<(), TraceError>,
) -> Result<(), TraceError> {
    if text.trim_start().starts_with('{') {
        return each_of_json(text, &mut each);
    }
    let mut document = Document::default();
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with("---") {
            std::mem::take(&mut document).end(&mut each)?;
        } else {
            document.line(number, line, &mut each)?;
        }
    }
    document.end(&mut each)
}

type Each<'e> = &'e mut dyn FnMut(u64, &str, Format) -> Result<(), TraceError>;

fn each_of_json(text: &str, each: Each<'_>) -> Result<(), TraceError> {
    #[derive(Deserialize)]
    struct List<'t> {
        #[serde(borrow)]
        items: Vec<&'t RawValue>,
    }
    let Ok(List { items }) = serde_json::from_str(text) else { return each(1, text, Format::Json) };
    let (mut line, mut counted) = (1, 0);
    for item in items {
        // Each is a part of the text.
        let at = (item.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        line +=
            text.as_bytes().get(counted..at).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = at;
        each(line, item.get(), Format::Json)?;
    }
    Ok(())
}

/// A document of YAML that is read line by line. The items of a list follow a line `items:`, each begun by `- ` at one depth.
#[derive(Default)]
struct Document {
    /// What was read of the object or item.
    text: String,
    /// Where that began.
    begun: u64,
    items: Items,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Items {
    #[default]
    None,
    /// The next line begins them.
    Follow,
    /// They are at this depth.
    At(usize),
}

impl Document {
    fn line(&mut self, number: u64, line: &str, each: Each<'_>) -> Result<(), TraceError> {
        let depth = line.len() - line.trim_start_matches(' ').len();
        let item = line[depth..].strip_prefix("- ");
        match self.items {
            Items::None if line.trim_end() == "items:" => {
                self.items = Items::Follow;
                self.text.clear();
                return Ok(());
            }
            Items::Follow if item.is_some() => self.items = Items::At(depth),
            Items::Follow => return Ok(()),
            _ => {}
        }
        let Items::At(items) = self.items else {
            self.add(number, line);
            return Ok(());
        };
        if depth == items
            && let Some(item) = item
        {
            self.flush(each)?;
            self.add(number, &format!("{}{item}", " ".repeat(depth + 2)));
            return Ok(());
        }
        // What stands at the margin but is no item belongs to the list.
        if depth == 0 && !line.trim().is_empty() {
            return Ok(());
        }
        self.add(number, line);
        Ok(())
    }

    fn add(&mut self, number: u64, line: &str) {
        if self.text.is_empty() {
            self.begun = number;
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn flush(&mut self, each: Each<'_>) -> Result<(), TraceError> {
        let said = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if self.text.lines().any(said) {
            each(self.begun, &self.text, Format::Yaml)?;
        }
        self.text.clear();
        Ok(())
    }

    fn end(mut self, each: Each<'_>) -> Result<(), TraceError> {
        self.flush(each)
    }
}

impl Found {
    fn take(&mut self, text: &str, format: Format, tally: &Tally) -> Result<(), String> {
        let bytes = text.as_bytes();
        let says = |error: DecodeError| error.to_string();
        let meta = decode::type_meta(bytes, format).map_err(says)?;
        let Some(kind) = api::find(&meta.api_version, &meta.kind) else {
            if meta.kind == "List" && meta.api_version == "v1" {
                return Err("its items are not in lines of their own: write the list as kubectl does".to_owned());
            }
            tally.leave_out("objects of unknown kinds");
            return Ok(());
        };
        let decoded = decode::decode(kind, bytes, format, FieldValidation::Ignore).map_err(says)?;
        let mut object = decoded.object;
        object.set_defaults();
        let name = object.meta().name.clone().unwrap_or_default();
        if name.is_empty() {
            return Err(format!("the {} has no metadata.name", kind.info.kind));
        }
        if kind.info.namespaced && object.meta().namespace.as_deref().unwrap_or_default().is_empty() {
            object.meta_mut().namespace = Some("default".to_owned());
        }
        let object: DynObject = object.into();
        if let Some(node) = object.as_any().downcast_ref::<Node>() {
            self.nodes.push(Arc::new(node.clone()));
        } else if let Some(pod) = object.as_any().downcast_ref::<Pod>() {
            self.pod(Arc::new(pod.clone()), tally);
        } else if self.acted_on || LOOKED_AT.contains(&kind.info.kind) {
            self.objects.push(object);
        } else {
            tally.leave_out(kind.info.kind);
        }
        Ok(())
    }

    fn pod(&mut self, pod: Arc<Pod>, tally: &Tally) {
        if matches!(pod.status.phase, PodPhase::Succeeded | PodPhase::Failed) {
            tally.leave_out("pods that have ended");
        } else if pod.spec.node_name.is_empty() && self.acted_on {
            self.objects.push(pod);
        } else if pod.spec.node_name.is_empty() {
            self.waiting.entry(controlled_by(&pod)).or_default().push(pod);
        } else {
            let node = pod.spec.node_name.as_str().into();
            self.running.push((pod, node));
        }
    }

    /// Takes out what a controller makes whose own object is there.
    fn leave_to_controllers(&mut self, tally: &Tally) {
        let name = |object: &dyn AnyObject| {
            let meta = object.meta();
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            (object.kind_type().info.kind.to_owned(), part(&meta.namespace), part(&meta.name))
        };
        let there: BTreeSet<_> = self.objects.iter().map(|object| name(&**object)).collect();
        let is_left = |object: &dyn AnyObject| {
            let meta = object.meta();
            let mut owners = meta.owner_references.iter().flatten();
            let controller = owners.find(|owner| owner.controller == Some(true));
            let is_left = controller.is_some_and(|owner| {
                let namespace = meta.namespace.clone().unwrap_or_default();
                there.contains(&(owner.kind.clone(), namespace, owner.name.clone()))
            });
            if is_left {
                tally.leave_out("objects that controllers make");
            }
            is_left
        };
        self.objects.retain(|object| !is_left(&**object));
        self.running.retain(|(pod, _)| !is_left(&**pod));
    }

    fn events(self, tally: Tally) -> impl Iterator<Item = Result<Event, TraceError>> + Send {
        let Self { objects, nodes, running, waiting, .. } = self;
        let names: BTreeSet<Arc<str>> =
            nodes.iter().filter_map(|node| Some(node.metadata.name.as_deref()?.into())).collect();
        let running = running.into_iter().filter(move |(_, node)| {
            let known = names.contains(node);
            if !known {
                tally.leave_out("pods on nodes that are not there");
            }
            known
        });
        let first = objects.into_iter().map(What::Object).chain(nodes.into_iter().map(What::Node));
        let what = first
            .chain(running.map(|(pod, node)| What::Running { pod, node }))
            .chain(waiting.into_iter().map(|(name, pods)| What::Job(job(name, pods))));
        what.map(|what| Ok(Event { at: Duration::ZERO, what }))
    }
}

/// The name of the job that the pod belongs to.
fn controlled_by(pod: &Pod) -> String {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    match owners.iter().find(|owner| owner.controller == Some(true)) {
        Some(owner) => format!("{namespace}/{}/{}", owner.kind, owner.name),
        None => format!("{namespace}/{}", pod.metadata.name.as_deref().unwrap_or_default()),
    }
}

/// What a pod belongs to that no job of a workload is known of: a job of this pod alone.
#[cfg(feature = "control-plane")]
pub(crate) fn job_of(pod: Arc<Pod>) -> Job {
    job(controlled_by(&pod), vec![pod])
}

fn job(name: String, pods: Vec<Arc<Pod>>) -> Job {
    let user = name.split('/').next().unwrap_or_default().into();
    let class = if name.split('/').nth(1) == Some("Job") && name.split('/').count() == 3 {
        Class::Batch
    } else {
        Class::Service
    };
    let tasks = pods.into_iter().map(|pod| Task { pod, count: 1, duration: None }).collect();
    Job { name: name.into(), user, class, gang: false, tasks }
}
