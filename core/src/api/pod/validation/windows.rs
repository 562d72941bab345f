//! What pods on Windows may and may not say.

use super::for_each_container;
use crate::api::pod::{PodSpec, SecurityContext, WindowsSecurityContextOptions};
use crate::validation::names::is_dns1123_subdomain;
use crate::validation::{ErrorList, Path, Report};

const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";
/// Largest credential spec, in KiB.
const CREDENTIAL_SPEC_MAX: usize = 64;
const DOMAIN_MAX: usize = 256;
const USER_MAX: usize = 104;

/// Checks options for Windows, of a pod or a container.
pub(super) fn validate_options(options: Option<&WindowsSecurityContextOptions>, at: &Path, errors: &mut ErrorList) {
    let Some(options) = options else { return };
    if let Some(name) = &options.gmsa_credential_spec_name {
        errors.invalid_each(&at.child("gmsaCredentialSpecName"), name, is_dns1123_subdomain(name));
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let at = at.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&at, "", "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > CREDENTIAL_SPEC_MAX * 1024 {
            let why = format!("gmsaCredentialSpec size must be under {CREDENTIAL_SPEC_MAX} KiB");
            errors.invalid(&at, spec.as_str(), why);
        }
    }
    if let Some(user) = &options.run_as_user_name {
        let at = at.child("runAsUserName");
        for why in wrong_with_user(user) {
            errors.invalid(&at, user.as_str(), why);
        }
    }
}

/// What is wrong with `DOMAIN\user`, the domain optional.
fn wrong_with_user(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".to_owned()];
    }
    if name.bytes().any(|byte| byte.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".to_owned()];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".to_owned()],
    };
    let mut wrong = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN_MAX {
            wrong.push(format!("runAsUserName's Domain length must be under {DOMAIN_MAX} characters"));
        }
        if !is_net_bios_name(domain) && !is_dns_name(domain) {
            wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > USER_MAX {
        wrong.push(format!("runAsUserName's User length must not be longer than {USER_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        wrong.push(r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#.to_owned());
    }
    wrong
}

fn is_net_bios_name(name: &str) -> bool {
    let allowed = |c: char| !"\\/:*?\"<>|".contains(c);
    (1..=15).contains(&name.chars().count()) && !name.starts_with('.') && name.chars().all(allowed)
}

fn is_dns_name(name: &str) -> bool {
    name.split('.').all(|label| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes[bytes.len() - 1].is_ascii_alphanumeric()
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    })
}

/// Checks containers that are processes of the node itself: all or none, on the node's network.
pub(super) fn validate_host_process(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    let context = spec.security_context.as_ref();
    let of_pod = context.and_then(|context| context.windows_options.as_ref()?.host_process);
    let (mut all, mut on_host) = (0, 0);
    for_each_container(spec, at, |container, at| {
        all += 1;
        let context = container.security_context.as_ref();
        let own = context.and_then(|context| context.windows_options.as_ref()?.host_process);
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            let at = at.child("securityContext").child("windowsOptions").child("hostProcess");
            let why = format!("pod hostProcess value must be identical if both are specified, was {of_pod}");
            errors.invalid(&at, own, why);
        }
        on_host += usize::from(own.or(of_pod) == Some(true));
    });
    if on_host == 0 {
        return;
    }
    if on_host != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(at, "", why);
    }
    if !spec.host_network {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&at.child("hostNetwork"), false, why);
    }
}

/// Refuses what has no meaning on Windows.
pub(super) fn validate_pod(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    let security = at.child("securityContext");
    if let Some(context) = &spec.security_context {
        let set = [
            (security.child("appArmorProfile"), context.app_armor_profile.is_some()),
            (security.child("seLinuxOptions"), context.se_linux_options.is_some()),
            (at.child("hostUsers"), spec.host_users.is_some()),
            (at.child("hostPID"), spec.host_pid),
            (at.child("hostIPC"), spec.host_ipc),
            (security.child("seccompProfile"), context.seccomp_profile.is_some()),
            (security.child("fsGroup"), context.fs_group.is_some()),
            (security.child("fsGroupChangePolicy"), context.fs_group_change_policy.is_some()),
            (security.child("sysctls"), !context.sysctls.is_empty()),
            (at.child("shareProcessNamespace"), spec.share_process_namespace.is_some()),
            (security.child("runAsUser"), context.run_as_user.is_some()),
            (security.child("runAsGroup"), context.run_as_group.is_some()),
            (security.child("supplementalGroups"), !context.supplemental_groups.is_empty()),
            (security.child("supplementalGroupsPolicy"), context.supplemental_groups_policy.is_some()),
            (security.child("seLinuxChangePolicy"), context.se_linux_change_policy.is_some()),
        ];
        for (at, _) in set.into_iter().filter(|(_, set)| *set) {
            errors.forbidden(&at, NOT_ON_WINDOWS);
        }
    }
    for_each_container(spec, at, |container, at| {
        if let Some(context) = &container.security_context {
            refuse_for_container(context, &at.child("securityContext"), errors);
        }
    });
}

fn refuse_for_container(context: &SecurityContext, at: &Path, errors: &mut ErrorList) {
    let set = [
        ("appArmorProfile", context.app_armor_profile.is_some()),
        ("seLinuxOptions", context.se_linux_options.is_some()),
        ("seccompProfile", context.seccomp_profile.is_some()),
        ("capabilities", context.capabilities.is_some()),
        ("readOnlyRootFilesystem", context.read_only_root_filesystem.is_some()),
        ("privileged", context.privileged.is_some()),
        ("allowPrivilegeEscalation", context.allow_privilege_escalation.is_some()),
        ("procMount", context.proc_mount.is_some()),
        ("runAsUser", context.run_as_user.is_some()),
        ("runAsGroup", context.run_as_group.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(&at.child(field), NOT_ON_WINDOWS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_may_have_a_domain() {
        for right in ["user", "DOMAIN\\user", "example.com\\user name"] {
            assert_eq!(wrong_with_user(right), [""; 0], "{right}");
        }
        for wrong in ["", "a\nb", "a\\b\\c", "a\\", "..", "a:b", ".x_\\user"] {
            assert_ne!(wrong_with_user(wrong), [""; 0], "{wrong}");
        }
    }
}
