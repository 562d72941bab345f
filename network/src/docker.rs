//! Passing Docker's firewall: it drops what is forwarded unless its chain for users says otherwise.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use longshore_core::network::Error;

use crate::netlink::failed;

const CHAIN: &str = "DOCKER-USER";

/// One for each family of addresses.
const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];

/// Lets the bridge's traffic pass, if Docker's chain is there.
pub(crate) fn allow(bridge: &str, comment: &str) -> Result<(), Error> {
    PROGRAMS.into_iter().filter(|program| has_chain(program)).try_for_each(|program| allow_by(program, bridge, comment))
}

fn allow_by(program: &str, bridge: &str, comment: &str) -> Result<(), Error> {
    for direction in ["-i", "-o"] {
        let rule = [direction, bridge, "-m", "comment", "--comment", comment, "-j", "ACCEPT"];
        if !succeeds(program, &["-C", CHAIN], &rule) {
            let output = iptables(program, &["-I", CHAIN], &rule).map_err(failed(format!("run {program}")))?;
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
    PROGRAMS
        .into_iter()
        .filter(|program| has_chain(program))
        .try_for_each(|program| disallow_by(program, bridge, comment))
}

fn disallow_by(program: &str, bridge: &str, comment: &str) -> Result<(), Error> {
    for direction in ["-i", "-o"] {
        let rule = [direction, bridge, "-m", "comment", "--comment", comment, "-j", "ACCEPT"];
        // As often as it is there: once, unless two processes put it in at the same time.
        while succeeds(program, &["-D", CHAIN], &rule) {}
        if succeeds(program, &["-C", CHAIN], &rule) {
            return Err(failed(format!("take the rule for {bridge} out of {CHAIN}"))("it stays"));
        }
    }
    Ok(())
}

/// Whether there is the chain; without the program there is not.
fn has_chain(program: &str) -> bool {
    succeeds(program, &["-S", CHAIN], &[])
}

fn succeeds(program: &str, action: &[&str], rule: &[&str]) -> bool {
    iptables(program, action, rule).is_ok_and(|output| output.status.success())
}

fn iptables(program: &str, action: &[&str], rule: &[&str]) -> std::io::Result<Output> {
    let known = ["/usr/sbin", "/sbin"].into_iter().map(|directory| Path::new(directory).join(program));
    let known = known.into_iter().find(|path| path.is_file()).unwrap_or_else(|| program.into());
    // Dockerd may hold the lock while it starts.
    Command::new(known).args(["-w", "5"]).args(action).args(rule).stdin(Stdio::null()).output()
}
