//! Passing Docker's firewall: it drops what is forwarded unless its chain for users says otherwise.

use std::process::{Command, Output, Stdio};

use longshore_core::network::Error;

use crate::netlink::failed;

const CHAIN: &str = "DOCKER-USER";

/// Lets the bridge's traffic pass, if Docker's chain is there.
pub(crate) fn allow(bridge: &str, comment: &str) -> Result<(), Error> {
    if !has_chain() {
        return Ok(());
    }
    for direction in ["-i", "-o"] {
        let rule = [direction, bridge, "-m", "comment", "--comment", comment, "-j", "ACCEPT"];
        if !succeeds(&["-C", CHAIN], &rule) {
            let output = iptables(&["-I", CHAIN], &rule).map_err(failed("run iptables"))?;
            if !output.status.success() {
                let reason = String::from_utf8_lossy(&output.stderr);
                return Err(failed(format!("let {bridge} pass in {CHAIN}"))(reason.trim()));
            }
        }
    }
    Ok(())
}

/// Takes our rules out again.
pub(crate) fn disallow(bridge: &str, comment: &str) -> Result<(), Error> {
    if !has_chain() {
        return Ok(());
    }
    for direction in ["-i", "-o"] {
        let rule = [direction, bridge, "-m", "comment", "--comment", comment, "-j", "ACCEPT"];
        // As often as it is there: once, unless two processes put it in at the same time.
        while succeeds(&["-D", CHAIN], &rule) {}
        if succeeds(&["-C", CHAIN], &rule) {
            return Err(failed(format!("take the rule for {bridge} out of {CHAIN}"))("it stays"));
        }
    }
    Ok(())
}

/// Whether there is the chain; without iptables there is not.
fn has_chain() -> bool {
    succeeds(&["-S", CHAIN], &[])
}

fn succeeds(action: &[&str], rule: &[&str]) -> bool {
    iptables(action, rule).is_ok_and(|output| output.status.success())
}

fn iptables(action: &[&str], rule: &[&str]) -> std::io::Result<Output> {
    let known = ["/usr/sbin/iptables", "/sbin/iptables"].into_iter().find(|path| std::path::Path::new(path).is_file());
    // Dockerd may hold the lock while it starts.
    Command::new(known.unwrap_or("iptables")).args(["-w", "5"]).args(action).args(rule).stdin(Stdio::null()).output()
}
