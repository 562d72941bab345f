//! Who processes are and what they may do.

use super::windows;
use crate::api::pod::{
    AppArmorProfile, AppArmorProfileType, PodSecurityContext, PodSpec, ProcMountType, SeccompProfile,
    SeccompProfileType, SecurityContext, SupplementalGroupsPolicy, Sysctl,
};
use crate::validation::paths::validate_local_descending_path;
use crate::validation::{ErrorList, Path, Report, go_value};

/// Longest name of a kernel parameter.
const SYSCTL_MAX: usize = 253;
/// Longest path.
const PATH_MAX: usize = 4095;
/// Where profiles come from, in upstream's order.
const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// Checks the identity and rights of a pod.
pub(super) fn validate_pod(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    let none = PodSecurityContext::default();
    let context = spec.security_context.as_deref().unwrap_or(&none);
    let ids = [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)];
    for (field, id) in ids {
        validate_id(id, &at.child(field), errors);
    }
    for (index, group) in context.supplemental_groups.iter().enumerate() {
        validate_id(Some(*group), &at.child("supplementalGroups").index(index), errors);
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&at.child("shareProcessNamespace"), true, why);
    }
    validate_sysctls(&context.sysctls, spec, &at.child("sysctls"), errors);
    if let Some(policy) = context.fs_group_change_policy.as_ref().filter(|policy| !policy.is_known()) {
        errors.not_supported(&at.child("fsGroupChangePolicy"), policy.as_str(), &["Always", "OnRootMismatch"]);
    }
    validate_seccomp(context.seccomp_profile.as_ref(), &at.child("seccompProfile"), errors);
    windows::validate_options(context.windows_options.as_ref(), &at.child("windowsOptions"), errors);
    validate_app_armor(context.app_armor_profile.as_ref(), &at.child("appArmorProfile"), errors);
    if let Some(policy) = context.supplemental_groups_policy.as_ref().filter(|policy| !policy.is_known()) {
        let at = at.child("supplementalGroupsPolicy");
        errors.not_supported(&at, policy.as_str(), SupplementalGroupsPolicy::ALL);
    }
    // Labelling by mount option is a beta feature, off by default.
    if let Some(policy) = context.se_linux_change_policy.as_ref().filter(|policy| policy.as_str() != "Recursive") {
        errors.not_supported(&at.child("seLinuxChangePolicy"), policy.as_str(), &["Recursive"]);
    }
}

/// Checks the identity and rights of a container.
pub(super) fn validate_container(context: &SecurityContext, host_users: bool, at: &Path, errors: &mut ErrorList) {
    validate_id(context.run_as_user, &at.child("runAsUser"), errors);
    validate_id(context.run_as_group, &at.child("runAsGroup"), errors);
    if let Some(mount) = &context.proc_mount {
        if !mount.is_known() {
            errors.not_supported(&at.child("procMount"), mount.as_str(), ProcMountType::ALL);
        }
        if host_users && *mount == ProcMountType::Unmasked {
            let why = "`hostUsers` must be false to use `Unmasked`";
            errors.invalid(&at.child("procMount"), mount.as_str(), why);
        }
    }
    validate_seccomp(context.seccomp_profile.as_ref(), &at.child("seccompProfile"), errors);
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(at, go_value(context), why);
        }
        let added = context.capabilities.iter().flat_map(|capabilities| &capabilities.add);
        for _ in added.filter(|capability| *capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(at, go_value(context), why);
        }
    }
    windows::validate_options(context.windows_options.as_ref(), &at.child("windowsOptions"), errors);
    validate_app_armor(context.app_armor_profile.as_ref(), &at.child("appArmorProfile"), errors);
}

/// Checks the number of a user or group.
pub(super) fn validate_id(id: Option<i64>, at: &Path, errors: &mut ErrorList) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.invalid(at, id, "must be between 0 and 2147483647, inclusive");
    }
}

fn validate_seccomp(profile: Option<&SeccompProfile>, at: &Path, errors: &mut ErrorList) {
    let Some(profile) = profile else { return };
    match &profile.type_ {
        SeccompProfileType::Unset => {
            errors.required(&at.child("type"), "type is required when seccompProfile is set");
        }
        SeccompProfileType::Other(other) => {
            errors.not_supported(&at.child("type"), other.as_ref(), &PROFILE_TYPES);
        }
        _ => {}
    }
    let file = at.child("localhostProfile");
    match (&profile.localhost_profile, profile.type_ == SeccompProfileType::Localhost) {
        (None, true) => errors.required(&file, "must be set when seccomp type is Localhost"),
        (Some(path), true) => validate_local_descending_path(path, &file, errors),
        (Some(_), false) => {
            errors.invalid(&file, go_value(profile), "can only be set when seccomp type is Localhost");
        }
        (None, false) => {}
    }
}

fn validate_app_armor(profile: Option<&AppArmorProfile>, at: &Path, errors: &mut ErrorList) {
    const MUST_BE_SET: &str = "must be set when AppArmor type is Localhost";
    let Some(profile) = profile else { return };
    let name = at.child("localhostProfile");
    match (&profile.type_, &profile.localhost_profile) {
        (AppArmorProfileType::Localhost, None) => errors.required(&name, MUST_BE_SET),
        (AppArmorProfileType::Localhost, Some(profile)) => {
            if profile.trim() != profile {
                errors.invalid(&name, profile.as_str(), "must not be padded with whitespace");
            } else if profile.is_empty() {
                errors.required(&name, MUST_BE_SET);
            }
            if profile.len() > PATH_MAX {
                errors.too_long(&name, PATH_MAX);
            }
        }
        (AppArmorProfileType::RuntimeDefault | AppArmorProfileType::Unconfined, Some(profile)) => {
            errors.invalid(&name, profile.as_str(), "can only be set when AppArmor type is Localhost");
        }
        (AppArmorProfileType::RuntimeDefault | AppArmorProfileType::Unconfined, None) => {}
        (AppArmorProfileType::Unset, _) => {
            errors.required(&at.child("type"), "type is required when appArmorProfile is set");
        }
        (AppArmorProfileType::Other(other), _) => {
            errors.not_supported(&at.child("type"), other.as_ref(), &PROFILE_TYPES);
        }
    }
}

fn validate_sysctls(sysctls: &[Sysctl], spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    for (index, sysctl) in sysctls.iter().enumerate() {
        let at = at.index(index).child("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errors.required(&at, "");
        } else if !is_sysctl_name(name) {
            let why = "must have at most 253 characters and match regex \
                       ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&at, name, why);
        } else if sysctls[..index].iter().any(|earlier| earlier.name == name) {
            errors.duplicate(&at, name);
        }
        match namespace_of(name) {
            Some("net") if spec.host_network => {
                errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
            }
            Some("ipc") if spec.host_ipc => errors.invalid(&at, name, "may not be specified when 'hostIPC' is true"),
            _ => {}
        }
    }
}

fn is_sysctl_name(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let segment = |segment: &str| {
        let bytes = segment.as_bytes();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'_'))
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(segment)
}

/// The kernel namespace that a parameter belongs to.
fn namespace_of(name: &str) -> Option<&'static str> {
    // In the form with slashes, the first separator decides, dots are part of names.
    let name = match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name.replace('/', "."),
        _ => name.to_owned(),
    };
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if name == "kernel.sem" || ipc.iter().any(|prefix| name.starts_with(prefix)) {
        Some("ipc")
    } else {
        name.starts_with("net.").then_some("net")
    }
}
