//! What a job's author says about failed and succeeded pods.

use std::collections::BTreeSet;

use longshore_core::api::job::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use longshore_core::api::pod::PodPhase;
use longshore_core::api::{Job, Pod};

use super::indexes;

/// What a failed pod means.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// One more failure.
    Count,
    /// Nothing; the pod is replaced.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The job has failed, with this message.
    FailJob(String),
}

/// What the first rule that matches says about a failed pod.
pub(super) fn judge(job: &Job, pod: &Pod) -> Verdict {
    let Some(policy) = job.spec.pod_failure_policy.as_ref().filter(|_| pod.status.phase == PodPhase::Failed) else {
        return Verdict::Count;
    };
    let place = || {
        let meta = &pod.metadata;
        format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    };
    for (index, rule) in policy.rules.iter().enumerate() {
        let Some(cause) = matches(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" if job.spec.backoff_limit_per_index.is_some() => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(match cause {
                Cause::Exit(container, code) => format!(
                    "Container {container} for pod {} failed with exit code {code} matching FailJob rule at index {index}",
                    place()
                ),
                Cause::Condition(type_) => {
                    format!("Pod {} has condition {type_} matching FailJob rule at index {index}", place())
                }
            }),
            "Count" => Verdict::Count,
            // A rule of a newer version.
            _ => continue,
        };
    }
    Verdict::Count
}

enum Cause<'a> {
    Exit(&'a str, i32),
    Condition(&'a str),
}

fn matches<'a>(rule: &PodFailurePolicyRule, pod: &'a Pod) -> Option<Cause<'a>> {
    if let Some(requirement) = &rule.on_exit_codes {
        let statuses = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
        let exits = statuses.filter_map(|status| Some((&*status.name, status.state.terminated.as_ref()?.exit_code)));
        return exits
            .into_iter()
            .find(|(name, code)| exit_matches(requirement, name, *code))
            .map(|(name, code)| Cause::Exit(name, code));
    }
    let mut conditions = pod.status.conditions.iter();
    let found = conditions.find(|condition| {
        let patterns = rule.on_pod_conditions.iter();
        patterns.into_iter().any(|pattern| pattern.type_ == condition.type_ && pattern.status == condition.status)
    });
    found.map(|condition| Cause::Condition(&condition.type_))
}

fn exit_matches(requirement: &PodFailurePolicyOnExitCodesRequirement, name: &str, code: i32) -> bool {
    let listed = requirement.values.contains(&code);
    code != 0
        && requirement.container_name.as_deref().is_none_or(|wanted| wanted == name)
        && match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
}

/// The first rule of the job's success policy that holds.
pub(super) fn success(job: &Job, succeeded: &BTreeSet<i32>) -> Option<usize> {
    let completions = job.spec.completions.unwrap_or(0);
    job.spec.success_policy.as_ref()?.rules.iter().position(|rule| {
        let counted = match &rule.succeeded_indexes {
            None => succeeded.len(),
            Some(text) => {
                let wanted = indexes::parse(text, completions);
                let have = wanted.intersection(succeeded).count();
                if rule.succeeded_count.is_none() && have < wanted.len() {
                    return false;
                }
                have
            }
        };
        rule.succeeded_count.is_none_or(|wanted| i32::try_from(counted).unwrap_or(i32::MAX) >= wanted)
    })
}
