//! What a workload says, as objects that a user would create.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use longshore_core::api::pod::{Pod, PodTemplateSpec};
use longshore_core::api::pod_group::POD_GROUP_LABEL;
use longshore_core::api::{self, PodGroup, PriorityClass};
use longshore_core::kind::{AnyObject, Kind};
use longshore_runtime_simulated::ANNOTATION_PREFIX;
use serde_json::{Value, json};

use super::ControlPlaneError;
use crate::workload::{Class, Job, Task};

/// Label of a pod that names the number of the workload's job that it belongs to.
pub(super) const JOB: &str = "simulation.longshore.dev/job";

/// The namespace of whoever names none.
const NAMESPACE: &str = "default";

/// Where the pod belongs.
pub(super) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(NAMESPACE)
}

fn of<K: Kind>(value: Value) -> Result<Box<dyn AnyObject>, ControlPlaneError> {
    let object: K = serde_json::from_value(value)
        .map_err(|error| ControlPlaneError::NoObject { kind: K::INFO.kind, reason: error.to_string() })?;
    Ok(Box::new(object))
}

/// The job by its number, in the order in which they are to be created: of each task a Job, if it is a batch, else a Deployment; a gang's is a group of pods besides.
pub(super) fn of_job(number: u64, job: &Job) -> Result<Vec<Box<dyn AnyObject>>, ControlPlaneError> {
    let mut objects = Vec::new();
    let group = format!("job-{number}");
    let first = job.tasks.first().map_or(NAMESPACE, |task| namespace(&task.pod));
    if job.gang {
        let members = i32::try_from(job.pods()).unwrap_or(i32::MAX);
        objects.push(of::<PodGroup>(
            json!({"metadata": {"name": group, "namespace": first}, "spec": {"minMember": members}}),
        )?);
    }
    for (place, task) in job.tasks.iter().enumerate() {
        let name = format!("job-{number}-{place}");
        let (mut template, priority) = template(number, job.class, task);
        objects.extend(priority.map(|class| Box::new(class) as Box<dyn AnyObject>));
        let mut metadata = json!({"name": name, "namespace": namespace(&task.pod)});
        let labels = template.metadata.labels.get_or_insert_default();
        if job.gang {
            // A group is of one namespace.
            metadata["namespace"] = first.into();
            labels.insert(POD_GROUP_LABEL.to_owned(), group.clone());
        }
        let template = serde_json::to_value(template)
            .map_err(|error| ControlPlaneError::NoObject { kind: "Pod", reason: error.to_string() })?;
        objects.push(match job.class {
            Class::Batch => of::<api::Job>(json!({"metadata": metadata, "spec": {
                "parallelism": task.count, "completions": task.count, "template": template,
                // Whoever loses its place begins anew, however often. What has ended is gone.
                "backoffLimit": i32::MAX, "ttlSecondsAfterFinished": 0,
            }})),
            Class::Service => {
                let selector = BTreeMap::from([("simulation.longshore.dev/task", name)]);
                let mut template = template;
                for (label, value) in &selector {
                    template["metadata"]["labels"][*label] = value.as_str().into();
                }
                of::<api::Deployment>(json!({"metadata": metadata, "spec": {
                    "replicas": task.count, "selector": {"matchLabels": selector}, "template": template,
                }}))
            }
        }?);
    }
    Ok(objects)
}

/// The pods of a task, as whoever controls them makes them.
fn template(number: u64, class: Class, task: &Task) -> (PodTemplateSpec, Option<PriorityClass>) {
    let mut pod = Pod::clone(&task.pod);
    let class_of_priority = prepare(&mut pod);
    let metadata = &mut pod.metadata;
    (metadata.name, metadata.namespace) = (None, None);
    metadata.labels.get_or_insert_default().insert(JOB.to_owned(), number.to_string());
    let run_for = if class == Class::Batch { task.duration } else { None };
    if let Some(duration) = run_for {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(format!("{ANNOTATION_PREFIX}run-for"), span(duration));
    }
    pod.spec.restart_policy = match class {
        Class::Batch => api::pod::RestartPolicy::Never,
        Class::Service => api::pod::RestartPolicy::Always,
    };
    (PodTemplateSpec { metadata: pod.metadata, spec: pod.spec }, class_of_priority)
}

/// As the simulated runtime reads it.
fn span(duration: Duration) -> String {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX).to_string()
}

/// Takes away what a server gives, and adds what it insists on and traces do not have. Answers the class of priority that the pod needs.
pub(super) fn prepare(pod: &mut Pod) -> Option<PriorityClass> {
    let metadata = &mut pod.metadata;
    (metadata.owner_references, metadata.uid, metadata.resource_version) = (None, None, None);
    metadata.creation_timestamp = None;
    pod.status = Default::default();
    pod.spec.node_name = String::new();
    let class =
        pod.spec.priority.take().and_then(|priority| priority_class(&mut pod.spec.priority_class_name, priority));
    pod.spec.preemption_policy = None;
    for container in pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers) {
        if container.image.is_empty() {
            container.image = "simulated".to_owned();
        }
        let resources = &mut container.resources;
        // What cannot be overcommitted has a limit, which is what is asked for.
        let extended = resources.requests.iter().filter(|(name, _)| name.contains('/'));
        let limits: Vec<_> = extended.map(|(name, amount)| (name.clone(), amount.clone())).collect();
        resources.limits.extend(limits);
    }
    class
}

/// The class of a priority that a pod is known by, under the name that it has or that it gets now; `None` if there is one anyway.
fn priority_class(name: &mut String, priority: i32) -> Option<PriorityClass> {
    if name.is_empty() && priority != 0 {
        let sign = if priority < 0 { "minus-" } else { "" };
        *name = format!("priority-{sign}{}", priority.unsigned_abs());
    }
    let mut class = PriorityClass { value: priority, ..PriorityClass::default() };
    class.metadata.name = Some(name.clone());
    (!name.is_empty() && !name.starts_with("system-")).then_some(class)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::openb::Request;

    #[test]
    fn a_job_becomes_what_a_user_would_create() {
        let request = Request {
            name: "p".to_owned(),
            milli_cpu: 1000,
            memory_mib: 1,
            gpus: 1,
            milli: 500,
            models: String::new(),
        };
        let mut pod = request.pod();
        pod.spec.priority = Some(-3);
        let task = Task { pod: Arc::new(pod), count: 4, duration: Some(Duration::from_millis(90_500)) };
        let mut job =
            Job { name: "a/b@1".into(), user: "u".into(), class: Class::Batch, gang: true, tasks: vec![task] };
        let values =
            |job: &Job| -> Vec<Value> { of_job(7, job).unwrap().iter().map(|object| object.to_value()).collect() };
        let objects = values(&job);
        assert_eq!((objects[0]["kind"].as_str(), &objects[0]["spec"]["minMember"]), (Some("PodGroup"), &json!(4)));
        assert_eq!((objects[1]["kind"].as_str(), &objects[1]["value"]), (Some("PriorityClass"), &json!(-3)));
        let (spec, template) = (&objects[2]["spec"], &objects[2]["spec"]["template"]);
        assert_eq!((objects[2]["kind"].as_str(), &spec["parallelism"]), (Some("Job"), &json!(4)));
        assert_eq!(template["metadata"]["annotations"], json!({"simulated.longshore.dev/run-for": "PT1M30.5S"}));
        assert_eq!(template["metadata"]["labels"][JOB], "7");
        assert_eq!(template["metadata"]["labels"][POD_GROUP_LABEL], "job-7");
        assert_eq!(template["spec"]["priorityClassName"], "priority-minus-3");
        assert_eq!(template["spec"]["containers"][0]["resources"]["limits"], json!({"longshore.dev/gpu-milli": "500"}));
        assert!(priority_class(&mut String::new(), 0).is_none());
        assert!(priority_class(&mut "system-node-critical".to_owned(), 2_000_001_000).is_none());
        assert_eq!(priority_class(&mut "high".to_owned(), 7).unwrap().metadata.name.as_deref(), Some("high"));

        (job.class, job.gang) = (Class::Service, false);
        let objects = values(&job);
        assert_eq!((objects.len(), objects[1]["kind"].as_str()), (2, Some("Deployment")));
        assert_eq!(objects[1]["spec"]["template"]["metadata"]["annotations"], Value::Null, "it is deleted instead");
        assert_eq!(objects[1]["spec"]["template"]["spec"]["restartPolicy"], "Always");
    }
}
