//! What jobs may say, and what of them may change, in upstream's words.

use std::collections::BTreeMap;

use super::policies;
use super::{CONTROLLER_UID_LABEL, CompletionMode, JOB_NAME_LABEL, Job, JobSpec, JobStatus, PodReplacementPolicy};
use crate::api::PodTemplateSpec;
use crate::api::pod::RestartPolicy;
use crate::api::pod::validation::validate_template;
use crate::api::rules;
use crate::api::workload::{require_match, validate_at_most};
use crate::selector::Selector;
use crate::validation::names::{is_dns1123_label, is_domain_prefixed_path};
use crate::validation::{ErrorList, NameRule, Path, Report, json};

/// Most completions, failures and pods at once that an indexed job can have without further conditions.
const INDEXED_MAX: i32 = 100_000;
/// Most pods at once of an indexed job with more completions than that.
const LARGE_MAX: i32 = 10_000;
const MANAGED_BY_MAX: usize = 63;
const NEEDS_INDEXED: &str = "requires indexed completion mode";

/// Checks a new job.
pub(super) fn validate(job: &Job) -> ErrorList {
    let (mut errors, at) = (rules::validate(job, NameRule::DnsSubdomain), Path::new("spec"));
    validate_generated_selector(job, &mut errors);
    validate_spec(&job.spec, &at, &mut errors);
    let name = job.metadata.name.as_deref().unwrap_or_default();
    if let Some(completions @ 1..) = job.spec.completions.filter(|_| is_indexed(&job.spec)) {
        let longest = format!("{name}-{}", completions - 1);
        if !is_dns1123_label(&longest).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {longest}");
            errors.invalid(&Path::new("metadata").child("name"), name, why);
        }
    }
    errors
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode == Some(CompletionMode::Indexed)
}

/// A selector that the system makes finds the pods by the job's own name and UID.
fn validate_generated_selector(job: &Job, errors: &mut ErrorList) {
    if job.spec.manual_selector == Some(true) || job.spec.selector.is_none() {
        return;
    }
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    if uid.is_empty() {
        errors.required(&Path::new("metadata").child("uid"), "");
    }
    let generated: BTreeMap<String, String> =
        [(CONTROLLER_UID_LABEL, &uid), (JOB_NAME_LABEL, &name), ("controller-uid", &uid), ("job-name", &name)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
    let none = BTreeMap::new();
    let labels = job.spec.template.metadata.labels.as_ref().unwrap_or(&none);
    let at = Path::new("spec").child("template").child("metadata").child("labels");
    for key in [CONTROLLER_UID_LABEL, JOB_NAME_LABEL, "controller-uid", "job-name"] {
        let (expected, at) = (&generated[key], at.key(key));
        match labels.get(key) {
            None => errors.required(&at, format!("must be '{expected}'")),
            Some(found) if found != expected => {
                errors.invalid(&at, json(labels), format!("must be '{expected}'"));
            }
            Some(_) => {}
        }
    }
    if Selector::from_object(job.spec.selector.as_ref()).is_ok_and(|selector| !selector.matches(&generated)) {
        let at = Path::new("spec").child("selector");
        errors.invalid(&at, json(&job.spec.selector), "`selector` not auto-generated");
    }
}

fn validate_spec(spec: &JobSpec, at: &Path, errors: &mut ErrorList) {
    validate_content(spec, at, errors);
    match &spec.selector {
        None => errors.required(&at.child("selector"), ""),
        Some(selector) => errors.extend(selector.validate(&at.child("selector"))),
    }
    require_match(spec.selector.as_ref(), &spec.template, &at.child("template"), errors);
}

fn validate_content(spec: &JobSpec, at: &Path, errors: &mut ErrorList) {
    let mut count = |field: &str, number: Option<i64>| {
        errors.non_negative(&at.child(field), number.unwrap_or_default());
    };
    count("parallelism", spec.parallelism.map(i64::from));
    count("completions", spec.completions.map(i64::from));
    count("activeDeadlineSeconds", spec.active_deadline_seconds);
    count("backoffLimit", spec.backoff_limit.map(i64::from));
    count("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from));
    count("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from));
    count("maxFailedIndexes", spec.max_failed_indexes.map(i64::from));
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.required(&at.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = &spec.managed_by {
        errors.extend(is_domain_prefixed_path(&at.child("managedBy"), manager));
        if manager.len() > MANAGED_BY_MAX {
            errors.too_long(&at.child("managedBy"), MANAGED_BY_MAX);
        }
    }
    match &spec.completion_mode {
        Some(CompletionMode::Indexed) => validate_indexed(spec, at, errors),
        Some(CompletionMode::NonIndexed) | None => refuse_indexed(spec, at, errors),
        Some(other) => errors.not_supported(&at.child("completionMode"), other.as_str(), CompletionMode::ALL),
    }
    if let Some(policy) = &spec.pod_failure_policy {
        policies::validate_failure(policy, spec, &at.child("podFailurePolicy"), errors);
    }
    if let Some(policy) = &spec.success_policy {
        let at = at.child("successPolicy");
        if is_indexed(spec) {
            policies::validate_success(policy, spec, &at, errors);
        } else {
            errors.invalid(&at, json(policy), NEEDS_INDEXED);
        }
    }
    validate_replacement(spec, &at.child("podReplacementPolicy"), errors);
    validate_template(&spec.template, &at.child("template"), errors);
    validate_restart(spec, &at.child("template").child("spec").child("restartPolicy"), errors);
}

fn validate_indexed(spec: &JobSpec, at: &Path, errors: &mut ErrorList) {
    let (completions, failures) = (spec.completions, spec.max_failed_indexes);
    if completions.is_none() {
        errors.required(&at.child("completions"), "when completion mode is Indexed");
    }
    let mut bound = |field: &str, number: Option<i32>, most: i32, when: &str| {
        if let Some(number) = number.filter(|number| *number > most) {
            errors.invalid(&at.child(field), number, format!("must be less than or equal to {most} when {when}"));
        }
    };
    bound("parallelism", spec.parallelism, INDEXED_MAX, "completion mode is Indexed");
    if let (Some(completions), Some(failures)) = (completions, failures)
        && failures > completions
    {
        errors.invalid(&at.child("maxFailedIndexes"), failures, "must be less than or equal to completions");
    }
    if failures.is_some_and(|failures| failures > INDEXED_MAX) {
        let why = format!("must be less than or equal to {INDEXED_MAX}");
        errors.invalid(&at.child("maxFailedIndexes"), failures, why);
    }
    if completions.is_some_and(|completions| completions > INDEXED_MAX) && spec.backoff_limit_per_index.is_some() {
        let when = format!("when completions is above {INDEXED_MAX} and used with backoff limit per index");
        match failures {
            None => {
                let why = format!("must be specified {when}");
                errors.required(&at.child("maxFailedIndexes"), why);
            }
            Some(failures) if failures > LARGE_MAX => {
                let why = format!("must be less than or equal to {LARGE_MAX} {when}");
                errors.invalid(&at.child("maxFailedIndexes"), failures, why);
            }
            Some(_) => {}
        }
        if let Some(parallelism) = spec.parallelism.filter(|parallelism| *parallelism > LARGE_MAX) {
            let why = format!("must be less than or equal to {LARGE_MAX} {when}");
            errors.invalid(&at.child("parallelism"), parallelism, why);
        }
    }
}

fn refuse_indexed(spec: &JobSpec, at: &Path, errors: &mut ErrorList) {
    let set = [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)];
    for (field, number) in set.into_iter().filter_map(|(field, number)| Some((field, number?))) {
        errors.invalid(&at.child(field), number, NEEDS_INDEXED);
    }
}

fn validate_replacement(spec: &JobSpec, at: &Path, errors: &mut ErrorList) {
    let Some(policy) = &spec.pod_replacement_policy else { return };
    let allowed: &[&str] = match spec.pod_failure_policy {
        // A pod that still terminates cannot be judged yet.
        Some(_) => &["Failed"],
        None => PodReplacementPolicy::ALL,
    };
    if !allowed.contains(&policy.as_str()) {
        errors.not_supported(at, policy.as_str(), allowed);
    }
}

fn validate_restart(spec: &JobSpec, at: &Path, errors: &mut ErrorList) {
    match &spec.template.spec.restart_policy {
        RestartPolicy::Always | RestartPolicy::Unset => {
            errors.required(at, "valid values: \"OnFailure\", \"Never\"");
        }
        RestartPolicy::Other(other) => errors.not_supported(at, other.as_ref(), &["OnFailure", "Never"]),
        policy if spec.pod_failure_policy.is_some() && *policy != RestartPolicy::Never => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(at, policy.as_str(), why);
        }
        _ => {}
    }
}

/// Checks an update through the job's own path.
pub(super) fn validate_update(new: &Job, old: &Job) -> ErrorList {
    let (mut errors, at) = (rules::validate_update(new, old), Path::new("spec"));
    let (now, before) = (&new.spec, &old.spec);
    validate_spec(now, &at, &mut errors);
    validate_completions(now, before, &at.child("completions"), &mut errors);
    errors.immutable(&at.child("selector"), &now.selector, &before.selector);
    validate_template_update(new, old, &at.child("template"), &mut errors);
    errors.immutable(&at.child("completionMode"), &now.completion_mode, &before.completion_mode);
    errors.immutable(&at.child("podFailurePolicy"), &now.pod_failure_policy, &before.pod_failure_policy);
    let (per_index, was) = (&now.backoff_limit_per_index, &before.backoff_limit_per_index);
    errors.immutable(&at.child("backoffLimitPerIndex"), per_index, was);
    errors.immutable(&at.child("managedBy"), &now.managed_by, &before.managed_by);
    errors.immutable(&at.child("successPolicy"), &now.success_policy, &before.success_policy);
    errors
}

/// An indexed job can grow and shrink as long as all of it runs at once.
fn validate_completions(new: &JobSpec, old: &JobSpec, at: &Path, errors: &mut ErrorList) {
    if !is_indexed(new) || new.completions.is_none() {
        errors.immutable(at, &new.completions, &old.completions);
    } else if new.completions != old.completions && new.completions != new.parallelism {
        errors.invalid(at, new.completions, "can only be modified in tandem with spec.parallelism");
    }
}

/// Where its pods go can change while a job is suspended and has not begun.
fn validate_template_update(new: &Job, old: &Job, at: &Path, errors: &mut ErrorList) {
    let mut before = old.spec.template.clone();
    let not_begun = old.spec.suspend == Some(true) && old.status.start_time.is_none();
    if not_begun {
        take_placement(&mut before, &new.spec.template);
    }
    errors.immutable(at, &new.spec.template, &before);
}

fn take_placement(template: &mut PodTemplateSpec, from: &PodTemplateSpec) {
    template.metadata.labels.clone_from(&from.metadata.labels);
    template.metadata.annotations.clone_from(&from.metadata.annotations);
    let (spec, from) = (&mut template.spec, &from.spec);
    spec.node_selector.clone_from(&from.node_selector);
    spec.tolerations.clone_from(&from.tolerations);
    spec.scheduling_gates.clone_from(&from.scheduling_gates);
    let node = from.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    match &mut spec.affinity {
        Some(affinity) => affinity.node_affinity = node,
        None if node.is_some() => spec.affinity.get_or_insert_default().node_affinity = node,
        None => {}
    }
}

/// Checks an update through `status`.
pub(super) fn validate_status_update(new: &Job, old: &Job) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    validate_status(&new.status, &Path::new("status"), &mut errors);
    errors
}

fn validate_status(status: &JobStatus, at: &Path, errors: &mut ErrorList) {
    let counts = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready.unwrap_or_default()),
        ("terminating", status.terminating.unwrap_or_default()),
    ];
    for (field, count) in counts {
        errors.non_negative(&at.child(field), count);
    }
    validate_at_most(at, ("ready", status.ready.unwrap_or_default()), (status.active, "active"), errors);
    let Some(uncounted) = &status.uncounted_terminated_pods else { return };
    let at = at.child("uncountedTerminatedPods");
    let mut seen = std::collections::BTreeSet::new();
    for (list, uids) in [("succeeded", &uncounted.succeeded), ("failed", &uncounted.failed)] {
        for (index, uid) in uids.iter().enumerate() {
            let at = at.child(list).index(index);
            if uid.is_empty() {
                errors.invalid(&at, "", "must not be empty");
            } else if !seen.insert(uid.as_str()) {
                errors.duplicate(&at, uid.as_str());
            }
        }
    }
}
