//! Which kernel parameters a pod may set, as upstream has it.

use longshore_core::api::Pod;

use crate::pod::observed::Refusal;

/// What belongs to a pod's namespaces and harms nobody beyond.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Most characters of a name.
const NAME_MAX: usize = 253;

/// Which parameters belong to which of a pod's namespaces, by the beginnings of their names.
const NAMESPACED: [(&str, &str); 5] =
    [("kernel.shm", "IPC"), ("kernel.msg", "IPC"), ("kernel.sem", "IPC"), ("fs.mqueue.", "IPC"), ("net.", "Net")];

/// Refuses a pod that sets a parameter which is neither safe nor allowed on this node, or which would be the node's own.
pub(crate) fn admit(pod: &Pod, allowed: &[String]) -> Result<(), Refusal> {
    let sysctls = pod.spec.security_context.iter().flat_map(|context| &context.sysctls);
    for sysctl in sysctls {
        check(pod, &normal(&sysctl.name), allowed).map_err(|why| Refusal {
            reason: "SysctlForbidden".to_owned(),
            message: format!("forbidden sysctl: {why}"),
        })?;
    }
    Ok(())
}

/// Reads what `Options::allowed_unsafe_sysctls` may hold: a name, or the beginning of names before a `*`.
///
/// # Errors
/// In upstream's words: it is malformed, or belongs to the node rather than to a pod's namespaces.
pub fn parse(pattern: &str) -> Result<String, String> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_./".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) || pattern.len() > NAME_MAX {
        return Err(format!(
            "sysctl \"{pattern}\" must have at most {NAME_MAX} characters and be a name such as net.core.somaxconn, or its beginning and *"
        ));
    }
    match NAMESPACED.iter().any(|(beginning, _)| normal(name).starts_with(beginning)) {
        true => Ok(pattern.to_owned()),
        false => Err(format!("the sysctls \"{pattern}\" are not known to be namespaced")),
    }
}

/// A name with dots between its parts, whichever separator it was written with.
fn normal(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn check(pod: &Pod, name: &str, allowed: &[String]) -> Result<(), String> {
    let meant = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(&normal(beginning)),
        None => name == normal(pattern),
    };
    let namespace = NAMESPACED.iter().find(|(beginning, _)| name.starts_with(beginning));
    match namespace {
        Some((_, namespace)) if SAFE.contains(&name) || allowed.iter().any(meant) => {
            let of_node = if *namespace == "IPC" { pod.spec.host_ipc } else { pod.spec.host_network };
            if of_node { Err(format!("\"{name}\" not allowed with host {namespace} enabled")) } else { Ok(()) }
        }
        _ => Err(format!("\"{name}\" not allowlisted")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::pod;

    fn admitted(name: &str, extra: &str) -> Result<(), String> {
        let mut spec = json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        if !extra.is_empty() {
            spec[extra] = json!(true);
        }
        let allowed = ["net.core.somaxconn", "kernel.msg*"].map(str::to_owned);
        admit(&pod("a", spec), &allowed).map_err(|refusal| {
            assert_eq!(refusal.reason, "SysctlForbidden");
            refusal.message
        })
    }

    #[test]
    fn safe_and_allowed_parameters_are_set() {
        for name in ["kernel.shm_rmid_forced", "net/ipv4/tcp_syncookies", "net.core.somaxconn", "kernel.msgmax"] {
            assert_eq!(admitted(name, ""), Ok(()), "{name}");
        }
    }

    #[test]
    fn others_are_refused() {
        let refused = |name: &str| Err(format!("forbidden sysctl: \"{name}\" not allowlisted"));
        for name in ["net.core.netdev_max_backlog", "kernel.shmmax", "vm.swappiness", "kernel.panic"] {
            assert_eq!(admitted(name, ""), refused(name));
        }
        // With the node's namespaces they would be the node's.
        let message = "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled";
        assert_eq!(admitted("net.ipv4.tcp_syncookies", "hostNetwork"), Err(message.to_owned()));
        let message = "forbidden sysctl: \"kernel.msgmax\" not allowed with host IPC enabled";
        assert_eq!(admitted("kernel.msgmax", "hostIPC"), Err(message.to_owned()));
    }

    #[test]
    fn what_may_be_allowed_belongs_to_a_pods_namespaces() {
        for good in ["net.core.somaxconn", "net/core/somaxconn", "kernel.msg*", "net.*"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        for node_s_own in ["vm.swappiness", "kernel.*", "kernel.panic"] {
            assert_eq!(parse(node_s_own), Err(format!("the sysctls \"{node_s_own}\" are not known to be namespaced")));
        }
        for malformed in ["", "*", "net.*.x", "Net.core", "net core"] {
            assert!(parse(malformed).unwrap_err().contains("must have at most 253 characters"), "{malformed}");
        }
    }
}
