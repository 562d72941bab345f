//! Installs the Debian packages that a cluster needs, if asked to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use longshore_cluster::{Error, RuntimeKind, missing_programs};

/// Asked by Debian's packages before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Forbids packages to start services while it lives.
struct NoServices;

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(POLICY) {
            eprintln!("warning: cannot remove {POLICY}, remove it by hand: {error}");
        }
    }
}

/// Installs the packages of the programs that are missing; does nothing if none is.
pub(crate) fn packages(runtime: RuntimeKind, demo: bool) -> Result<(), Error> {
    let packages: Vec<_> = missing_programs(runtime, demo).into_iter().map(|(_, package)| package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let failed = |reason: String| Error::Missing {
        what: format!("cannot install {}: {reason}", packages.join(" ")),
        remedy: "install them by hand, then leave out --install".to_owned(),
    };
    eprintln!("  installing {}", packages.join(" "));
    let _guard = if Path::new(POLICY).exists() {
        None // The administrator has a policy already, which then decides.
    } else {
        let forbid = || -> std::io::Result<NoServices> {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            let guard = NoServices;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
            Ok(guard)
        };
        Some(forbid().map_err(|error| failed(format!("{POLICY}: {error}")))?)
    };
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends"]] {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments).stdout(Stdio::null());
        if arguments[0] == "install" {
            command.args(&packages);
        }
        let status = command.status().map_err(|error| failed(format!("apt-get: {error}")))?;
        if !status.success() {
            return Err(failed(format!("apt-get {} ended with {status}", arguments[0])));
        }
    }
    Ok(())
}
