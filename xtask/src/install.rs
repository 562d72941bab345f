//! Installs the Debian packages that the tests and the build of all features use, without starting or touching any service.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::{Result, find_program, run};

/// Programs that the tests and the build use and the packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("runc", "runc"),
    ("strace", "strace"),
    ("crun", "crun"),
    ("dockerd", "docker.io"),
    ("nft", "nftables"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("busybox", "busybox-static"),
    ("bindfs", "bindfs"),
    ("curl", "curl"),
    ("faketime", "faketime"),
    ("docker-registry", "docker-registry"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("protoc", "protobuf-compiler"),
];

/// Files that builds use and the packages that have them.
const FILES: &[(&str, &str)] = &[("/usr/include/google/protobuf/descriptor.proto", "libprotobuf-dev")];

/// Forbids `invoke-rc.d` to start services while it lives.
struct PolicyRcD;

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl PolicyRcD {
    /// Puts the policy there; `None` if the administrator has one already, which then decides.
    fn forbid() -> Result<Option<Self>> {
        if Path::new(POLICY).exists() {
            return Ok(None);
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").map_err(|error| format!("cannot write {POLICY}: {error}"))?;
        let guard = Self;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("cannot make {POLICY} executable: {error}"))?;
        Ok(Some(guard))
    }
}

impl Drop for PolicyRcD {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(POLICY) {
            eprintln!("xtask: cannot remove {POLICY}, remove it by hand: {error}");
        }
    }
}

/// Installs what is missing if this is root on a machine with apt; otherwise the tests say what they skip.
pub(crate) fn missing_packages() -> Result<()> {
    let programs = PROGRAMS.iter().filter(|(program, _)| find_program(program).is_none());
    let files = FILES.iter().filter(|(file, _)| !Path::new(file).exists());
    let missing: Vec<_> = programs.chain(files).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() || find_program("apt-get").is_none() {
        println!("not installed: {} (needs root and apt); tests that use them are skipped", missing.join(" "));
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let _policy = PolicyRcD::forbid()?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(missing))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
