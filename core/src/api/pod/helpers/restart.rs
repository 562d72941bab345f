//! Whether a container that ended is started again.

use crate::api::pod::{
    Container, ContainerRestartPolicy, ContainerRestartRule, ContainerRestartRuleAction,
    ContainerRestartRuleOnExitCodesOperator, PodSpec, RestartPolicy,
};

/// The first restart rule of the container that this exit code meets.
pub fn restart_rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.iter().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| match codes.operator {
            ContainerRestartRuleOnExitCodesOperator::In => codes.values.contains(&exit_code),
            ContainerRestartRuleOnExitCodesOperator::NotIn => !codes.values.contains(&exit_code),
            _ => false,
        })
    })
}

/// Whether the container is started again after it ended with this exit code: its rules decide first, then its own
/// policy, then the pod's.
pub fn should_restart(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    if let Some(policy) = &container.restart_policy {
        if restart_rule(container, exit_code).is_some_and(|rule| rule.action.is_known()) {
            return true;
        }
        match policy {
            ContainerRestartPolicy::Always => return true,
            ContainerRestartPolicy::OnFailure => return exit_code != 0,
            ContainerRestartPolicy::Never => return false,
            _ => {}
        }
    }
    match spec.restart_policy {
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
        _ => true,
    }
}

/// Whether there is any exit code after which the container is started again.
pub fn is_restartable(container: &Container, spec: &PodSpec) -> bool {
    match &container.restart_policy {
        Some(policy) => {
            *policy != ContainerRestartPolicy::Never
                || container.restart_policy_rules.iter().any(|rule| rule.action == ContainerRestartRuleAction::Restart)
        }
        None => spec.restart_policy != RestartPolicy::Never,
    }
}
