//! How much of what is left of GPUs is of no use to the pods that are to be expected.
//!
//! Beware of Fragmentation (Weng et al., USENIX ATC '23).

use std::collections::BTreeMap;

use longshore_core::devices::WHOLE;
use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;
use smallvec::SmallVec;

use super::{GPU_MODEL, Left, ratio};

/// How many of a hundred pods the typical ones are at least.
const TYPICAL_PERCENT: u64 = 95;

/// Pods that cannot be told apart but by their memory, which does not count here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PodType {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Thousandths of each GPU.
    pub milli: i64,
    /// How many GPUs.
    pub gpus: i64,
    /// The models of GPU that will do, separated by `|`; empty if any will.
    pub models: String,
}

/// What pods are to be expected: their types, and how likely each is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Workload {
    types: Vec<Expected>,
    /// All models that any type names.
    models: Vec<String>,
    /// What types ask of a GPU, in thousandths, each once: there are far fewer than types.
    asked: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Expected {
    milli_cpu: i64,
    milli: i64,
    /// The place of `milli` in [`Workload::asked`]; of no meaning if that is 0.
    asked: usize,
    gpus: usize,
    /// By place in [`Workload::models`]; empty if any model will do.
    access: Vec<bool>,
    probability: f64,
}

impl Expected {
    /// Whether GPUs of the model will do.
    fn can_use(&self, model: Option<usize>) -> bool {
        self.access.is_empty() || model.is_some_and(|model| self.access[model])
    }

    /// How much GPU pods of this type would have if they came until no further one found room, CPU in parts.
    fn packed(&self, left: &Left, fitting: usize) -> f64 {
        let whole = self.milli == WHOLE || self.gpus > 1;
        let places =
            if whole { (fitting / self.gpus) as i64 } else { left.gpus.iter().map(|left| left / self.milli).sum() };
        let by_gpu = places as f64;
        let pods = if self.milli_cpu > 0 { by_gpu.min(left.milli_cpu as f64 / self.milli_cpu as f64) } else { by_gpu };
        pods * (self.milli * self.gpus as i64) as f64
    }
}

/// What is left of the GPUs of a node, in thousandths, parted by what the expected pods could do with it; each pod counts with its
/// probability.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fragments {
    /// CPU and GPU are too little for the pod.
    pub lacks_both: f64,
    /// GPUs are too little; also those whose rest is too little, on a node that can take the pod.
    pub lacks_gpu: f64,
    /// What a pod can have.
    pub satisfied: f64,
    /// CPU is too little.
    pub lacks_cpu: f64,
    /// The pod needs no GPU, and can have its CPU.
    pub no_gpu: f64,
    /// The pod needs no GPU, and cannot have its CPU.
    pub no_gpu_lacks_cpu: f64,
    /// The GPUs are of a model that the pod cannot use.
    pub no_access: f64,
}

impl Fragments {
    /// What is of no use: all but [`Fragments::satisfied`].
    pub fn total(&self) -> f64 {
        self.lacks_both + self.lacks_gpu + self.lacks_cpu + self.no_gpu + self.no_gpu_lacks_cpu + self.no_access
    }
}

impl Workload {
    /// The types of these pods that make at least 95 % of them, the most frequent first, each as likely as it is frequent among those.
    pub fn typical(pods: impl IntoIterator<Item = PodType>) -> Self {
        let mut counts: BTreeMap<PodType, u64> = BTreeMap::new();
        for pod in pods {
            *counts.entry(pod).or_default() += 1;
        }
        let all: u64 = counts.values().sum();
        let mut types: Vec<(u64, PodType)> = counts.into_iter().map(|(pod, count)| (count, pod)).collect();
        types.sort_by(|(a, pod), (b, other)| {
            let key = |pod: &PodType| (pod.milli_cpu, pod.milli, pod.gpus);
            b.cmp(a).then_with(|| (key(other), &other.models).cmp(&(key(pod), &pod.models)))
        });
        let mut sum = 0;
        let enough = types.iter().position(|(count, _)| {
            sum += count;
            sum * 100 >= all * TYPICAL_PERCENT
        });
        types.truncate(enough.map_or(0, |last| last + 1));
        Self::new(types.into_iter().map(|(count, pod)| (pod, ratio(count.cast_signed(), sum.cast_signed()))))
    }

    /// These types, each with its probability.
    pub fn new(types: impl IntoIterator<Item = (PodType, f64)>) -> Self {
        let types: Vec<(PodType, f64)> = types.into_iter().collect();
        let names = types.iter().flat_map(|(pod, _)| pod.models.split('|')).filter(|name| !name.is_empty());
        let mut models: Vec<String> = names.map(str::to_owned).collect();
        models.sort_unstable();
        models.dedup();
        let expected = |(pod, probability): (PodType, f64)| {
            let usable = |model: &String| pod.models.split('|').any(|name| name == model);
            let restricted = pod.gpus > 0 && !pod.models.is_empty();
            let access = if restricted { models.iter().map(usable).collect() } else { Vec::new() };
            let (gpus, milli) = (usize::try_from(pod.gpus).unwrap_or(0), if pod.gpus > 0 { pod.milli } else { 0 });
            Expected { milli_cpu: pod.milli_cpu, milli, asked: 0, gpus, access, probability }
        };
        let mut types: Vec<Expected> = types.into_iter().map(expected).collect();
        let mut asked: Vec<i64> = types.iter().map(|pod| pod.milli).filter(|milli| *milli != 0).collect();
        asked.sort_unstable();
        asked.dedup();
        for pod in &mut types {
            pod.asked = asked.binary_search(&pod.milli).unwrap_or(0);
        }
        Self { types, models, asked }
    }

    /// How many types there are.
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether no pod is to be expected.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// What is left of a node, as these pods see it: its CPU and each of its GPUs in thousandths, and of which model the GPUs are.
    pub fn fragments(&self, milli_cpu: i64, gpus: &[i64], model: Option<&str>) -> Fragments {
        let left = Left { milli_cpu, gpus: gpus.into() };
        self.of(&left, self.model(model))
    }

    /// The same of a node of a cluster.
    pub fn fragments_on(&self, cluster: &Cluster, node: NodeId) -> Fragments {
        self.of(&Left::of(cluster, node), self.model_on(cluster, node))
    }

    /// Of which model a node's GPUs are, if any type names it.
    pub(super) fn model_on(&self, cluster: &Cluster, node: NodeId) -> Option<usize> {
        // Mostly nobody cares.
        let labels = if self.models.is_empty() { None } else { cluster.label(GPU_MODEL) }?;
        self.model(Some(labels.text(labels.value(node)?)))
    }

    /// The place of a model among those that any type names.
    fn model(&self, name: Option<&str>) -> Option<usize> {
        self.models.iter().position(|model| Some(model.as_str()) == name)
    }

    pub(super) fn of(&self, left: &Left, model: Option<usize>) -> Fragments {
        let all = left.total() as f64;
        let mut fragments = Fragments::default();
        if all == 0.0 {
            // Whatever is expected: there is nothing to be parted.
            return fragments;
        }
        let usable = self.usable(left);
        for pod in &self.types {
            let (p, cpu_is_enough) = (pod.probability, left.milli_cpu >= pod.milli_cpu);
            let amount = if pod.milli == 0 {
                if cpu_is_enough { &mut fragments.no_gpu } else { &mut fragments.no_gpu_lacks_cpu }
            } else if !pod.can_use(model) {
                &mut fragments.no_access
            } else {
                let (fitting, rest) = usable[pod.asked];
                match (fitting >= pod.gpus, cpu_is_enough) {
                    (true, true) => {
                        fragments.lacks_gpu += p * rest as f64;
                        fragments.satisfied += p * (all - rest as f64);
                        continue;
                    }
                    (true, false) => &mut fragments.lacks_cpu,
                    (false, true) => &mut fragments.lacks_gpu,
                    (false, false) => &mut fragments.lacks_both,
                }
            };
            *amount += p * all;
        }
        fragments
    }

    /// For each of [`Workload::asked`] how many GPUs have so much left, and what is left of the others together.
    fn usable(&self, left: &Left) -> Usable {
        self.asked.iter().map(|milli| usable(&left.gpus, *milli)).collect()
    }

    /// How much use the pods can make of what is left of the GPUs, in thousandths; see [`ExpectedUse`](super::ExpectedUse).
    pub(super) fn use_of(&self, left: &Left, model: Option<usize>) -> f64 {
        let all = left.total();
        let usable = self.usable(left);
        let mut sum = 0.0;
        for pod in self.types.iter().filter(|pod| pod.milli > 0 && pod.can_use(model)) {
            let (fitting, rest) = usable[pod.asked];
            if fitting >= pod.gpus && left.milli_cpu >= pod.milli_cpu {
                sum += pod.probability * (2.0 * (all - rest) as f64 + pod.packed(left, fitting)) / 3.0;
            }
        }
        sum
    }
}

/// Room for what all workloads of openb's trace ask.
type Usable = SmallVec<[(usize, i64); 16]>;

/// How many GPUs have so much left, and what is left of the others together.
fn usable(gpus: &[i64], milli: i64) -> (usize, i64) {
    gpus.iter().fold((0, 0), |(fitting, rest), left| {
        let fits = *left >= milli;
        (fitting + usize::from(fits), rest + if fits { 0 } else { *left })
    })
}
