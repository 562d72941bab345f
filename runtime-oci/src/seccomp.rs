//! Which system calls a container may make.
//!
//! The runtime's own profile lets everything through but what reaches beyond a container: what changes the machine, its
//! kernel, its clock or its mounts, what makes namespaces, and what has had more holes than users. What the kernel grants
//! only to the holder of a capability, a container that has the capability may try.

use std::fs;
use std::io;

use longshore_core::runtime::{Error, Seccomp};
use serde_json::{Value, json};

/// Refused to everybody.
const NEVER: &[&str] = &[
    "_sysctl",
    "add_key",
    "create_module",
    "get_kernel_syms",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "pivot_root",
    "query_module",
    "request_key",
    "swapoff",
    "swapon",
    "sysfs",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
];

/// Refused to those without the capability.
const WITHOUT: &[(&str, &[&str])] = &[
    (
        "CAP_SYS_ADMIN",
        &[
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYSLOG", &["syslog"]),
];

/// What else holds the capability: one that has everything lacks nothing of it.
const ALL: &str = "CAP_SYS_ADMIN";

/// `clone`'s flags that make namespaces: of mounts, control groups, host names, IPC, users, processes and networks.
const NAMESPACES: [u64; 7] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// Families of sockets that are not told apart by namespaces: the kernel's cryptography, and virtual machines' hosts.
const FAMILIES: [u64; 2] = [38, 40];

/// The error of a call that the kernel does not know: programs then try an older one.
const ENOSYS: u32 = 38;

/// The filter as an OCI runtime reads it; `None` without one.
///
/// # Errors
/// [`Error::Invalid`] if a profile of the node cannot be read.
pub(crate) fn filter(wanted: &Seccomp, capabilities: &[String]) -> Result<Option<Value>, Error> {
    match wanted {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(own(capabilities))),
        Seccomp::Localhost(path) => {
            let read = fs::read(path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
            let reason = |error: io::Error| format!("seccomp profile {}: {error}", path.display());
            read.map(Some).map_err(|error| Error::Invalid { reason: reason(error) })
        }
    }
}

fn own(capabilities: &[String]) -> Value {
    let has = |name: &str| capabilities.iter().any(|cap| cap == name || cap == ALL);
    let mut refused = NEVER.to_vec();
    refused.extend(WITHOUT.iter().filter(|(capability, _)| !has(capability)).flat_map(|(_, calls)| *calls));
    let mut rules = vec![json!({"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 1})];
    let refuse = |call: &str, argument: Value| json!({"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [argument]});
    for family in FAMILIES {
        rules.push(refuse("socket", json!({"index": 0, "value": family, "op": "SCMP_CMP_EQ"})));
    }
    if !has(ALL) {
        // On s390 the flags are the second argument.
        let index = usize::from(std::env::consts::ARCH == "s390x");
        for flag in NAMESPACES {
            let argument = json!({"index": index, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"});
            rules.push(refuse("clone", argument));
        }
        // Its flags are in memory, where no filter can see them.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    let architectures: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        // The OCI runtime takes its own.
        _ => &[],
    };
    if !architectures.is_empty() {
        profile["architectures"] = json!(architectures);
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(capabilities: &[&str]) -> Vec<String> {
        let capabilities: Vec<String> = capabilities.iter().map(|cap| (*cap).to_owned()).collect();
        let profile = filter(&Seccomp::RuntimeDefault, &capabilities).unwrap().unwrap();
        let names = profile["syscalls"].as_array().unwrap().iter().flat_map(|rule| rule["names"].as_array().unwrap());
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let has = |calls: &[String], call: &str| calls.iter().any(|found| found == call);
        let plain = refused(&["CAP_CHOWN", "CAP_SYS_CHROOT"]);
        assert!(
            ["mount", "keyctl", "clone", "clone3", "ptrace", "bpf"].map(|call| has(&plain, call))
                == [true, true, true, true, false, true]
        );
        assert!(!has(&plain, "chroot"));
        let admin = refused(&["CAP_SYS_ADMIN"]);
        assert!(
            ["mount", "keyctl", "clone", "clone3", "bpf"].map(|call| has(&admin, call))
                == [false, true, false, false, false]
        );
    }

    #[test]
    fn a_profile_of_the_node_is_taken_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.json");
        let error = filter(&Seccomp::Localhost(path.clone()), &[]).unwrap_err();
        assert!(error.to_string().contains("p.json: No such file"), "{error}");
        fs::write(&path, r#"{"defaultAction": "SCMP_ACT_LOG"}"#).unwrap();
        let profile = filter(&Seccomp::Localhost(path), &[]).unwrap();
        assert_eq!(profile, Some(json!({"defaultAction": "SCMP_ACT_LOG"})));
        assert_eq!(filter(&Seccomp::Unconfined, &[]).unwrap(), None);
    }
}
