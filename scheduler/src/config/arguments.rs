//! The built-in policies' arguments, named, defaulted and checked as upstream's.

use std::time::Duration;

use longshore_core::api::pod::helpers::node_affinity_errors;
use longshore_core::api::pod::{Pod, TopologySpreadConstraint};
use longshore_core::decode::{FieldValidation, decode_value};
use longshore_core::kind::KindType;
use longshore_core::validation::names::validate_qualified_name;
use longshore_core::validation::{Error, ErrorList, Path};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::GoDuration;
use super::{Args, ConfigError, Registry};
use crate::policies::{
    DefaultPreemption, DynamicResources, Gang, InterPodAffinity, NodeAffinity, NodeResourcesBalancedAllocation,
    NodeResourcesFit, PodTopologySpread, Strategy, VolumeBinding,
};

/// Adds the policies that take arguments.
pub(super) fn register(registry: Registry) -> Registry {
    registry
        .with("DefaultPreemption", default_preemption)
        .with("DynamicResources", dynamic_resources)
        .with("Gang", gang)
        .with("InterPodAffinity", inter_pod_affinity)
        .with("NodeAffinity", node_affinity)
        .with("NodeResourcesBalancedAllocation", node_resources_balanced_allocation)
        .with("NodeResourcesFit", node_resources_fit)
        .with("PodTopologySpread", pod_topology_spread)
        .with("VolumeBinding", volume_binding)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DefaultPreemptionArgs {
    min_candidate_nodes_percentage: Option<i32>,
    min_candidate_nodes_absolute: Option<i32>,
}

fn default_preemption(args: &Args<'_>) -> Result<DefaultPreemption, ConfigError> {
    let read: DefaultPreemptionArgs = args.read_own()?;
    let (at_percentage, at_absolute) =
        (args.at().child("minCandidateNodesPercentage"), args.at().child("minCandidateNodesAbsolute"));
    let percentage = read.min_candidate_nodes_percentage.unwrap_or(10);
    let absolute = read.min_candidate_nodes_absolute.unwrap_or(100);
    let mut errors = ErrorList::new();
    if !(0..=100).contains(&percentage) {
        errors.push(Error::invalid(&at_percentage, percentage, "not in valid range [0, 100]"));
    }
    if absolute < 0 {
        errors.push(Error::invalid(&at_absolute, absolute, "not in valid range [0, inf)"));
    }
    if percentage == 0 && absolute == 0 {
        let same_time = |other: &str| format!("cannot be zero at the same time as {other}");
        errors.push(Error::invalid(&at_percentage, percentage, same_time("minCandidateNodesAbsolute")));
        errors.push(Error::invalid(&at_absolute, absolute, same_time("minCandidateNodesPercentage")));
    }
    ConfigError::no_errors(&errors)?;
    Ok(DefaultPreemption)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DynamicResourcesArgs {
    filter_timeout: GoDuration,
    binding_timeout: Option<GoDuration>,
}

/// What is given is checked, and means nothing as long as there are no claims.
fn dynamic_resources(args: &Args<'_>) -> Result<DynamicResources, ConfigError> {
    let read: DynamicResourcesArgs = args.read_own()?;
    let mut errors = ErrorList::new();
    if read.filter_timeout.nanos < 0 {
        let text = read.filter_timeout.text.as_str();
        errors.push(Error::invalid(&args.at().child("filterTimeout"), text, "must be zero or positive"));
    }
    if read.binding_timeout.is_some() {
        let detail = "DRADeviceBindingConditions or DRAResourceClaimDeviceStatus feature gate is disabled";
        errors.push(Error::forbidden(&args.at().child("bindingTimeout"), detail));
    }
    ConfigError::no_errors(&errors)?;
    Ok(DynamicResources)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GangArgs {
    timeout_seconds: Option<u64>,
}

/// Not upstream's: how long nodes are held for a gang that is not complete.
fn gang(args: &Args<'_>) -> Result<Gang, ConfigError> {
    let read: GangArgs = args.read_own()?;
    Ok(read.timeout_seconds.map_or_else(Gang::default, |seconds| Gang::new(Duration::from_secs(seconds))))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct InterPodAffinityArgs {
    hard_pod_affinity_weight: Option<i32>,
    ignore_preferred_terms_of_existing_pods: bool,
}

fn inter_pod_affinity(args: &Args<'_>) -> Result<InterPodAffinity, ConfigError> {
    let read: InterPodAffinityArgs = args.read_own()?;
    let mut policy = InterPodAffinity::default();
    if let Some(weight) = read.hard_pod_affinity_weight {
        if !(0..=100).contains(&weight) {
            let at = args.at().child("hardPodAffinityWeight");
            ConfigError::no_errors(&vec![Error::invalid(&at, weight, "not in valid range [0, 100]")])?;
        }
        policy = policy.with_hard_weight(weight.into());
    }
    Ok(if read.ignore_preferred_terms_of_existing_pods { policy.ignoring_preferences_of_others() } else { policy })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct NodeAffinityArgs {
    added_affinity: Option<Value>,
}

fn node_affinity(args: &Args<'_>) -> Result<NodeAffinity, ConfigError> {
    let read: NodeAffinityArgs = args.read_own()?;
    let Some(added) = read.added_affinity else { return Ok(NodeAffinity::default()) };
    let at = args.at().child("addedAffinity");
    let pod = pod_with(json!({ "affinity": { "nodeAffinity": added } }), "spec.affinity.nodeAffinity", &at)?;
    let added = pod.spec.affinity.and_then(|affinity| affinity.node_affinity).unwrap_or_default();
    ConfigError::none_of(node_affinity_errors(&added, &at))?;
    Ok(NodeAffinity::with_added(added))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceSpec {
    name: String,
    /// 0 stands for 1.
    #[serde(default)]
    weight: i64,
}

impl ResourceSpec {
    fn weighted(self) -> (String, i64) {
        (self.name, if self.weight == 0 { 1 } else { self.weight })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NodeResourcesBalancedAllocationArgs {
    resources: Vec<ResourceSpec>,
}

fn node_resources_balanced_allocation(args: &Args<'_>) -> Result<NodeResourcesBalancedAllocation, ConfigError> {
    let read: NodeResourcesBalancedAllocationArgs = args.read_own()?;
    let resources: Vec<(String, i64)> = read.resources.into_iter().map(ResourceSpec::weighted).collect();
    let mut errors = ErrorList::new();
    for (index, (name, weight)) in resources.iter().enumerate() {
        let at = args.at().child("resources").index(index);
        if resources[..index].iter().any(|(other, _)| other == name) {
            errors.push(Error::duplicate(&at.child("name"), name.as_str()));
        }
        if *weight != 1 {
            errors.push(Error::invalid(&at.child("weight"), *weight, "must be 1"));
        }
    }
    ConfigError::no_errors(&errors)?;
    if resources.is_empty() {
        return Ok(NodeResourcesBalancedAllocation::default());
    }
    Ok(NodeResourcesBalancedAllocation::over(resources.into_iter().map(|(name, _)| name)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct NodeResourcesFitArgs {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<ScoringStrategy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ScoringStrategy {
    r#type: String,
    resources: Vec<ResourceSpec>,
    requested_to_capacity_ratio: Option<RequestedToCapacityRatio>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RequestedToCapacityRatio {
    shape: Vec<ShapePoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ShapePoint {
    utilization: i32,
    score: i32,
}

fn node_resources_fit(args: &Args<'_>) -> Result<NodeResourcesFit, ConfigError> {
    let read: NodeResourcesFitArgs = args.read_own()?;
    let mut errors = ErrorList::new();
    for (index, name) in read.ignored_resources.iter().enumerate() {
        errors.extend(validate_qualified_name(name, &args.at().child("ignoredResources").index(index)));
    }
    for (index, group) in read.ignored_resource_groups.iter().enumerate() {
        let at = args.at().child("ignoredResourceGroups").index(index);
        if group.contains('/') {
            errors.push(Error::invalid(&at, group.as_str(), "resource group name can't contain '/'"));
        }
        errors.extend(validate_qualified_name(group, &at));
    }
    let strategy = match read.scoring_strategy {
        Some(strategy) => scoring_strategy(strategy, &args.at().child("scoringStrategy"), &mut errors),
        None => Strategy::least_allocated(),
    };
    ConfigError::no_errors(&errors)?;
    Ok(NodeResourcesFit::new(strategy).ignoring(read.ignored_resources, read.ignored_resource_groups))
}

fn scoring_strategy(strategy: ScoringStrategy, at: &Path, errors: &mut ErrorList) -> Strategy {
    let mut resources: Vec<(String, i64)> = strategy.resources.into_iter().map(ResourceSpec::weighted).collect();
    if resources.is_empty() {
        resources = vec![("cpu".to_owned(), 1), ("memory".to_owned(), 1)];
    }
    for (index, (name, weight)) in resources.iter().enumerate().filter(|(_, (_, weight))| !(1..=100).contains(weight)) {
        let detail = format!("resource weight of {name} not in valid range (0, 100]");
        errors.push(Error::invalid(&at.child("resources").index(index).child("weight"), *weight, detail));
    }
    let at_ratio = at.child("requestedToCapacityRatio");
    let ratio = strategy.requested_to_capacity_ratio;
    if ratio.is_some() && strategy.r#type != "RequestedToCapacityRatio" {
        errors.push(Error::forbidden(&at_ratio, "must be nil when type is not RequestedToCapacityRatio"));
    }
    match strategy.r#type.as_str() {
        "LeastAllocated" => Strategy::LeastAllocated(resources),
        "MostAllocated" => Strategy::MostAllocated(resources),
        "RequestedToCapacityRatio" => {
            let shape = ratio.map(|ratio| ratio.shape);
            match &shape {
                None => {
                    errors.push(Error::required(&at_ratio, "must be specified when type is RequestedToCapacityRatio"))
                }
                Some(shape) => check_shape(shape, &at_ratio.child("shape"), errors),
            }
            let points = shape.into_iter().flatten().map(|point| (point.utilization.into(), point.score.into()));
            Strategy::RequestedToCapacityRatio { resources, shape: points.collect() }
        }
        other => {
            let allowed = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];
            errors.push(Error::not_supported(&at.child("type"), other, &allowed));
            Strategy::least_allocated()
        }
    }
}

fn check_shape(shape: &[ShapePoint], at: &Path, errors: &mut ErrorList) {
    if shape.is_empty() {
        errors.push(Error::required(at, "at least one point must be specified"));
    }
    if let Some(index) = (1..shape.len()).find(|index| shape[index - 1].utilization >= shape[*index].utilization) {
        let detail = "values must be sorted in increasing order";
        errors.push(Error::invalid(&at.index(index).child("utilization"), shape[index].utilization, detail));
    }
    for (index, point) in shape.iter().enumerate() {
        for (field, value, most) in [("utilization", point.utilization, 100), ("score", point.score, 10)] {
            if !(0..=most).contains(&value) {
                let detail = format!("not in valid range [0, {most}]");
                errors.push(Error::invalid(&at.index(index).child(field), value, detail));
            }
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PodTopologySpreadArgs {
    default_constraints: Vec<Value>,
    defaulting_type: String,
}

fn pod_topology_spread(args: &Args<'_>) -> Result<PodTopologySpread, ConfigError> {
    let read: PodTopologySpreadArgs = args.read_own()?;
    let at = args.at().child("defaultConstraints");
    let pod = pod_with(
        json!({ "topologySpreadConstraints": read.default_constraints }),
        "spec.topologySpreadConstraints",
        &at,
    )?;
    let constraints = pod.spec.topology_spread_constraints;
    let (mut errors, at_type) = (ErrorList::new(), args.at().child("defaultingType"));
    match read.defaulting_type.as_str() {
        "" | "System" if constraints.is_empty() => {}
        "" | "System" => errors.push(Error::invalid(&at_type, "System", "when .defaultConstraints are not empty")),
        "List" => {}
        other => errors.push(Error::not_supported(&at_type, other, &["System", "List"])),
    }
    for index in 0..constraints.len() {
        check_constraint(&constraints, index, &at, &mut errors);
    }
    ConfigError::no_errors(&errors)?;
    if read.defaulting_type == "List" {
        return Ok(PodTopologySpread::with_defaults(constraints));
    }
    Ok(PodTopologySpread::default())
}

fn check_constraint(all: &[TopologySpreadConstraint], index: usize, list: &Path, errors: &mut ErrorList) {
    let (constraint, at) = (&all[index], list.index(index));
    let (key, action) = (constraint.topology_key.as_str(), &constraint.when_unsatisfiable);
    if constraint.max_skew <= 0 {
        errors.push(Error::invalid(&at.child("maxSkew"), constraint.max_skew, "not in valid range (0, inf)"));
    }
    if key.is_empty() {
        errors.push(Error::required(&at.child("topologyKey"), "can not be empty"));
    } else {
        errors.extend(validate_qualified_name(key, &at.child("topologyKey")));
    }
    let at_action = at.child("whenUnsatisfiable");
    if action.is_unset() {
        errors.push(Error::required(&at_action, "can not be empty"));
    } else if !action.is_known() {
        errors.push(Error::not_supported(&at_action, action.as_str(), &["DoNotSchedule", "ScheduleAnyway"]));
    }
    if constraint.label_selector.is_some() {
        let detail = "constraint must not define a selector, as they deduced for each pod";
        errors.push(Error::forbidden(&at.child("labelSelector"), detail));
    }
    let repeats = |other: &TopologySpreadConstraint| other.topology_key == key && other.when_unsatisfiable == *action;
    if all[..index].iter().any(repeats) {
        errors.push(Error::duplicate(&at, format!("{{{key}, {action}}}")));
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct VolumeBindingArgs {
    bind_timeout_seconds: Option<i64>,
    shape: Option<Value>,
}

fn volume_binding(args: &Args<'_>) -> Result<VolumeBinding, ConfigError> {
    let read: VolumeBindingArgs = args.read_own()?;
    let mut errors = ErrorList::new();
    let seconds = read.bind_timeout_seconds.unwrap_or(600);
    if seconds < 0 {
        let detail = "invalid BindTimeoutSeconds, should not be a negative value";
        errors.push(Error::invalid(&args.at().child("bindTimeoutSeconds"), seconds, detail));
    }
    if let Some(shape) = read.shape {
        let detail = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
        errors.push(Error::invalid(&args.at().child("shape"), shape, detail));
    }
    ConfigError::no_errors(&errors)?;
    Ok(VolumeBinding::new(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

/// Reads what arguments borrow of a pod's spec, as pods are read: `from` is its place there, `at` its place here.
fn pod_with(spec: Value, from: &str, at: &Path) -> Result<Pod, ConfigError> {
    let decoded = decode_value(KindType::of::<Pod>(), json!({ "spec": spec }), FieldValidation::Strict);
    let decoded = decoded.map_err(|error| {
        let text = error.to_string().replace(from, &at.to_string());
        ConfigError::new(&Path::default(), text)
    })?;
    let pod = decoded.object.as_any().downcast_ref::<Pod>().cloned();
    Ok(pod.unwrap_or_default())
}
