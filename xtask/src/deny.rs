//! Licences, bans and sources by `cargo deny`; its advisories need a network that CI may not have.

use crate::{Result, cargo, find_program, root};

/// Runs the chore, building `cargo-deny` into `target/tools` if the machine has none.
pub(crate) fn run() -> Result<()> {
    let tools = root().join("target/tools");
    let installed = tools.join("bin/cargo-deny");
    let program = match find_program("cargo-deny") {
        Some(program) => program,
        None if installed.is_file() => installed,
        None => {
            crate::run(cargo().args(["install", "--quiet", "--locked", "cargo-deny", "--root"]).arg(&tools))?;
            installed
        }
    };
    crate::run(std::process::Command::new(program).current_dir(root()).args(["check", "licenses", "bans", "sources"]))
}
