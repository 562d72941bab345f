//! Chores of the project: `cargo xtask --help` lists them.
//!
//! This crate depends on no other of the workspace, so it works before anything else compiles.

mod deny;
mod faults;
mod features;
#[cfg(test)]
mod floors;
mod golden;
mod install;
mod leftovers;
mod plot;
mod test;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tests and chores of Longshore")]
struct Options {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, run all of them, and end with `N passed, N failed, N skipped`
    Test(test::Options),
    /// Install what the tests and the build of all features need, as `test` does too
    Install,
    /// Check the facade with each feature alone, with none, and with all
    Features,
    /// Check licences, bans and sources of the dependencies
    Deny,
    /// Run golden vectors computed with upstream Kubernetes
    Golden(golden::Options),
    /// Run a cluster of real processes under faults, and check what it promised
    Faults(faults::Options),
    /// Run whole control planes in simulated worlds under faults, and check what they promised
    World(world::Options),
    /// Draw the plot of docs/scheduler-speed.md from the results of `cargo bench --bench scheduler`
    Plot(plot::Options),
}

fn main() -> ExitCode {
    let done = match Options::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Install => install::missing_packages(),
        Chore::Features => features::run(),
        Chore::Deny => deny::run(),
        Chore::Plot(options) => plot::run(&options),
        Chore::Golden(options) => return golden::run(&options),
        Chore::Faults(options) => match faults::run(&options) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Chore::World(options) => match world::run(&options) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, in words.
type Result<T> = std::result::Result<T, String>;

/// The workspace's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// `cargo`, in the workspace's root.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}

/// The program of this name on PATH.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps nft and runc where a plain user's PATH does not look.
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
