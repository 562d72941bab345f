//! What a machine needs to run real pods.

use std::path::PathBuf;

use crate::Error;

/// Programs in the order they are asked for, with the Debian packages that have them. One of each row is enough.
const PROGRAMS: &[(&[&str], &str)] = &[(&["runc", "crun"], "runc"), (&["nft"], "nftables")];

/// What the demonstration's image is made of.
const DEMO_PROGRAM: (&[&str], &str) = (&["busybox"], "busybox-static");

/// The programs that are missing on this machine, with the Debian packages that have them.
pub fn missing_programs(demo: bool) -> Vec<(&'static str, &'static str)> {
    let missing = |(names, _): &&(&'static [&'static str], &'static str)| find_program(names).is_none();
    let needed = PROGRAMS.iter().chain(demo.then_some(&DEMO_PROGRAM));
    needed.filter(missing).map(|(names, package)| (names[0], *package)).collect()
}

/// The first of these programs that is on `PATH`, or where Debian keeps programs for root.
pub(crate) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin", "/bin"].map(PathBuf::from))
        .collect();
    names.iter().find_map(|name| directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file()))
}

/// Checks that this machine can run real pods.
///
/// # Errors
/// [`Error::Missing`] naming everything that is missing.
pub(crate) fn check(demo: bool) -> Result<(), Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Missing {
            what: "running containers needs root".to_owned(),
            remedy: "run it with sudo, or without real containers: --runtime simulated".to_owned(),
        });
    }
    let missing = missing_programs(demo);
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
    fn programs_are_found_by_any_of_their_names() {
        assert!(find_program(&["no-such-program", "sh"]).is_some());
        assert_eq!(find_program(&["no-such-program"]), None);
    }
}
