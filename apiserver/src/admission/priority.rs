//! Priority: a pod's class becomes a number.

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::PriorityClass;
use longshore_core::api::pod::PreemptionPolicy;
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, KindType};

use super::{AdmissionRule, Operation, Request, forbidden, new_pod};
use crate::registry::Registry;

/// The highest priority that is not the system's.
const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;

/// A pod's `priorityClassName` becomes its `priority` and `preemptionPolicy`; of a pod that names no class, the class does that
/// is marked `globalDefault`, and only one may be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Priority;

/// The two classes that every cluster has.
pub(crate) fn system_classes() -> [PriorityClass; 2] {
    let class = |name: &str, value, description: &str| PriorityClass {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        value,
        description: description.to_owned(),
        ..PriorityClass::default()
    };
    [
        class(
            "system-cluster-critical",
            2 * HIGHEST_USER_PRIORITY,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        class(
            "system-node-critical",
            2 * HIGHEST_USER_PRIORITY + 1000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]
}

#[async_trait]
impl AdmissionRule for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        let registry = request.registry;
        let Some(pod) = new_pod(request, object) else { return Ok(()) };
        let spec = &mut pod.spec;
        let class = if spec.priority_class_name.is_empty() {
            default_class(registry)
        } else {
            let kind = KindType::of::<PriorityClass>();
            let target = Target { kind, namespace: "", name: &spec.priority_class_name };
            let Some(class) = registry.find(target, std::time::Duration::ZERO).await? else {
                let why = format!("no PriorityClass with name {} was found", spec.priority_class_name);
                return Err(forbidden(object, why));
            };
            class.as_any().downcast_ref::<PriorityClass>().cloned()
        };
        let (priority, policy) = match class {
            Some(class) => {
                spec.priority_class_name = class.metadata.name.unwrap_or_default();
                let policy = class.preemption_policy.map(|policy| PreemptionPolicy::from(policy.as_str()));
                (class.value, policy.unwrap_or(PreemptionPolicy::PreemptLowerPriority))
            }
            None => (0, PreemptionPolicy::PreemptLowerPriority),
        };
        let refusal = match (spec.priority, &spec.preemption_policy) {
            (Some(given), _) if given != priority => Some(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
                 computed {priority} from the given PriorityClass name"
            )),
            (_, Some(given)) if *given != policy => Some(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            )),
            _ => None,
        };
        spec.priority = Some(priority);
        spec.preemption_policy = Some(policy);
        refusal.map_or(Ok(()), |why| Err(forbidden(object, why)))
    }

    async fn validate(&self, request: &mut Request<'_>, object: &dyn AnyObject) -> Result<(), Error> {
        let Some(class) = object.as_any().downcast_ref::<PriorityClass>() else { return Ok(()) };
        if request.operation == Operation::Delete || !class.global_default {
            return Ok(());
        }
        request.registry.refresh().await?;
        match default_class(request.registry) {
            Some(other) if other.metadata.name != class.metadata.name => {
                let name = other.metadata.name.unwrap_or_default();
                let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
                Err(forbidden(object, why))
            }
            _ => Ok(()),
        }
    }
}

/// The class of pods that name none; of several, the one that gives the least.
fn default_class(registry: &Registry) -> Option<PriorityClass> {
    let classes = registry.cached_objects(KindType::of::<PriorityClass>());
    let classes = classes.iter().filter_map(|class| class.as_any().downcast_ref::<PriorityClass>());
    classes.filter(|class| class.global_default).min_by_key(|class| class.value).cloned()
}
