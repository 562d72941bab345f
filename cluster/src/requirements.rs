//! What a machine needs to run real pods.

use std::path::PathBuf;

use crate::Error;
use crate::local::RuntimeKind;

/// Programs, with the Debian packages that have them. One of each row is enough.
type Programs = (&'static [&'static str], &'static str);

/// What runs containers, unless an engine does.
const OCI_PROGRAM: Programs = (&["runc", "crun"], "runc");

/// What the network is made with.
const NETWORK_PROGRAM: Programs = (&["nft"], "nftables");

/// What the demonstration's image is made of.
const DEMO_PROGRAM: Programs = (&["busybox"], "busybox-static");

/// The programs that are missing on this machine, with the Debian packages that have them.
pub fn missing_programs(runtime: RuntimeKind, demo: bool) -> Vec<(&'static str, &'static str)> {
    let real = runtime != RuntimeKind::Simulated;
    let needed = [
        (runtime == RuntimeKind::Oci).then_some(OCI_PROGRAM),
        real.then_some(NETWORK_PROGRAM),
        (real && demo).then_some(DEMO_PROGRAM),
    ];
    let missing = |(names, _): &Programs| find_program(names).is_none();
    needed.into_iter().flatten().filter(missing).map(|(names, package)| (names[0], package)).collect()
}

/// The first of these programs that is on `PATH`, or where Debian keeps programs for root.
pub(crate) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin", "/bin"].map(PathBuf::from))
        .collect();
    names.iter().find_map(|name| directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file()))
}

/// Checks that this machine can run pods as this kind of runtime does. Whether a Docker Engine is there, the runtime tells.
///
/// # Errors
/// [`Error::Missing`] naming everything that is missing.
pub(crate) fn check(runtime: &str, demo: bool) -> Result<(), Error> {
    let runtime = runtime.parse().unwrap_or(RuntimeKind::Oci);
    if runtime == RuntimeKind::Simulated {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Missing {
            what: "running containers needs root".to_owned(),
            remedy: "run it with sudo, or without real containers: --runtime simulated".to_owned(),
        });
    }
    let missing = missing_programs(runtime, demo);
    if missing.is_empty() {
        return Ok(());
    }
    let list = |pick: fn(&(&'static str, &'static str)) -> &'static str, separator: &str| {
        missing.iter().map(pick).collect::<Vec<_>>().join(separator)
    };
    Err(Error::Missing {
        what: format!("not on this machine: {}", list(|(program, _)| program, ", ")),
        remedy: format!("add --install, or run: apt-get install {}", list(|(_, package)| package, " ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_brings_its_own_programs() {
        let programs =
            |runtime| missing_programs(runtime, false).into_iter().map(|(program, _)| program).collect::<Vec<_>>();
        assert!(!programs(RuntimeKind::Docker).contains(&"runc"));
        assert_eq!(programs(RuntimeKind::Simulated), [""; 0]);
    }

    #[test]
    fn programs_are_found_by_any_of_their_names() {
        assert!(find_program(&["no-such-program", "sh"]).is_some());
        assert_eq!(find_program(&["no-such-program"]), None);
    }
}
