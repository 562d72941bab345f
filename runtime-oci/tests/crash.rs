//! Crash points: the agent, the shim or runc is killed at each system call by which it changes something, in the middle of
//! a container's life; whoever opens the runtime next can go on, and nothing leaks.
//!
//! `strace` does the killing: it injects SIGKILL at a thread's n-th call of the set, before the call takes effect.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::clock::SystemClock;
use longshore_core::runtime::{
    ContainerConfig, ContainerRef, ContainerState, Error, ImageId, Runtime, Sandbox, SandboxConfig,
};
use longshore_core::testing::runtime::{Fixture, configs};
use longshore_runtime_oci::{OciRuntime, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::Node;

/// The calls by which the world is changed: directories, names, mounts, processes.
const CALLS: &str =
    "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mount,umount2,clone,clone3,vfork,kill";
const IMAGE: &str = "localhost/test:1";
const SHIM: &str = env!("CARGO_BIN_EXE_longshore_shim");

/// `strace` that kills at the n-th call, and leaves alone what is executed in turn.
fn killer(n: usize) -> Vec<String> {
    let inject = format!("inject={CALLS}:signal=SIGKILL:when={n}");
    let options = ["strace", "--seccomp-bpf", "-f", "-b", "execve", "-qqq", "-o", "/dev/null", "-e"];
    options.into_iter().map(str::to_owned).chain([inject]).collect()
}

/// A program that is another one, killed at its n-th call.
fn mortal(directory: &Path, program: &Path, n: usize, daemon: bool) -> PathBuf {
    let script = directory.join(program.file_name().unwrap());
    let strace = killer(n).join(" ");
    // One that goes to the background is traced from the side, so that nobody waits for the tracer, and also when it
    // executes itself again.
    let strace = if daemon { strace.replace(" -f -b execve", " -D -f") + " 2>/dev/null" } else { strace };
    std::fs::write(&script, format!("#!/bin/sh\nexec {strace} {} \"$@\"\n", program.display())).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    script
}

/// The runtime of a node as another process of it would open it.
fn open(directory: &Path, instance: &str, program: PathBuf, shim: PathBuf) -> Result<OciRuntime, Error> {
    let (root, state) = (directory.join("images"), directory.join("state"));
    let registries = BTreeMap::new();
    let options = Options { root, state, instance: instance.to_owned(), program: Some(program), shim, registries };
    OciRuntime::open(options, Arc::new(SystemClock::new()))
}

fn name() -> ContainerRef {
    ContainerRef { pod_uid: "pod".into(), name: "main".into(), attempt: 0 }
}

fn sandbox(directory: &Path) -> SandboxConfig {
    configs::sandbox("pod", &directory.join("logs"))
}

fn container(image: &ImageId) -> ContainerConfig {
    ContainerConfig { command: configs::script("sleep 1000000 & wait"), ..configs::container("pod", "main", image) }
}

/// The life of a container, as an agent has it.
async fn live(runtime: &OciRuntime, directory: &Path) -> Result<(), Error> {
    runtime.create_sandbox(&sandbox(directory)).await?;
    let image = runtime.images().resolve(IMAGE).await?.unwrap().id;
    runtime.create_container(&container(&image)).await?;
    runtime.start_container(&name()).await?;
    runtime.stop_container(&name(), Duration::ZERO).await?;
    runtime.remove_container(&name()).await?;
    runtime.remove_sandbox("pod").await
}

/// Goes on from wherever a crash left things until the container runs, as the agent does: what is not as it should be is
/// removed and made again.
async fn go_on(runtime: &OciRuntime, directory: &Path) -> Result<(), Error> {
    let sandboxes = runtime.list().await?;
    let ready = sandboxes.first().is_some_and(|sandbox| sandbox.ready);
    let state = sandboxes.first().and_then(|sandbox| sandbox.containers.first()).map(|container| &container.state);
    let create = async || {
        let image = runtime.images().resolve(IMAGE).await?.unwrap().id;
        runtime.create_container(&container(&image)).await.map(drop)
    };
    match state {
        _ if !ready => {
            runtime.remove_sandbox("pod").await?;
            runtime.create_sandbox(&sandbox(directory)).await?;
            create().await?;
        }
        Some(ContainerState::Running { .. }) => return Ok(()),
        Some(ContainerState::Created) => {}
        Some(_) => {
            runtime.remove_container(&name()).await?;
            create().await?;
        }
        None => create().await?,
    }
    runtime.start_container(&name()).await
}

/// What should not be there when no pod is.
fn leaks(node: &Node) -> Vec<String> {
    let entries = |path: PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect()
    };
    let mut leaks: Vec<String> =
        ["sandboxes", "runtime"].iter().flat_map(|part| entries(node.state().join(part))).collect();
    let below = |group: PathBuf| entries(group).into_iter().filter(|path| Path::new(path).is_dir()).collect::<Vec<_>>();
    leaks.extend(node.groups().into_iter().flat_map(below));
    let directory = node.directory.path().to_str().unwrap().to_owned();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    leaks.extend(mounts.lines().filter(|line| line.contains(&directory)).map(str::to_owned));
    leaks
}

/// Kills at the first call, the second and so on, until a few lives go by without a death.
fn sweep(what: &str, crash: impl AsyncFn(&Node, usize) -> bool) {
    let node = match Node::new("runc") {
        Ok(node) if support::find("strace").is_some() => node,
        Ok(_) => return longshore_core::testing::skip("strace is missing (apt-get install strace)"),
        Err(reason) => return longshore_core::testing::skip(&reason),
    };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        node.image(IMAGE).await;
        let sweep = async {
            let (mut crashes, mut quiet) = (0, 0);
            for n in 1.. {
                if crash(&node, n).await {
                    (crashes, quiet) = (crashes + 1, 0);
                } else {
                    quiet += 1;
                }
                if quiet == 3 {
                    break;
                }
                let directory = node.directory.path();
                let runtime = open(directory, &node.instance, node.program.clone(), SHIM.into());
                let runtime = runtime.unwrap_or_else(|error| panic!("{what} killed at call {n}: opening: {error}"));
                // What is dying may still seem to live: an agent that fails looks again.
                for attempt in 1.. {
                    let gone_on = go_on(&runtime, directory).await;
                    let sandboxes = runtime.list().await.unwrap();
                    let runs = |sandbox: &Sandbox| {
                        sandbox.containers.iter().any(|of| matches!(of.state, ContainerState::Running { .. }))
                    };
                    if gone_on.is_ok() && sandboxes.iter().any(runs) {
                        break;
                    }
                    assert!(attempt < 10, "{what} killed at call {n}: {gone_on:?}, {sandboxes:?}");
                    node.pass().await;
                }
                runtime.remove_sandbox("pod").await.unwrap();
                assert_eq!(leaks(&node), [""; 0], "{what} killed at call {n}");
            }
            crashes
        };
        let done = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(sweep)).await;
        node.clean_up().await;
        match done {
            Ok(crashes) => {
                println!("{crashes} crash points of {what}");
                assert!(crashes > 5, "only {crashes}: does the test still kill?");
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
}

#[test]
fn an_agent_killed_at_any_call_leaves_what_the_next_one_goes_on_with() {
    sweep("the agent", async |node, n| {
        let arguments = killer(n);
        let status = Command::new(&arguments[0])
            .args(&arguments[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "agent", "--nocapture"])
            .env("AGENT_DIRECTORY", node.directory.path())
            .env("AGENT_INSTANCE", &node.instance)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
        !status.success()
    });
}

/// The agent that is killed: run by `an_agent_killed_at_any_call_…` only.
#[test]
fn agent() {
    let Some(directory) = std::env::var_os("AGENT_DIRECTORY").map(PathBuf::from) else { return };
    let instance = std::env::var("AGENT_INSTANCE").unwrap();
    // One thread makes all the calls, so that they have an order.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let program = support::find("runc").unwrap();
    tokio.block_on(async {
        let runtime = open(&directory, &instance, program, SHIM.into()).unwrap();
        live(&runtime, &directory).await.unwrap();
    });
}

#[test]
fn a_shim_killed_at_any_call_leaves_what_can_be_gone_on_with() {
    sweep("the shim", async |node, n| {
        let directory = node.directory.path();
        let shim = mortal(directory, Path::new(SHIM), n, true);
        let runtime = open(directory, &node.instance, node.program.clone(), shim).unwrap();
        let lived = live(&runtime, directory).await;
        // It may only have lost a child so far; as long as it is traced, it would go on losing them.
        let shim = std::fs::read_to_string(node.state().join("sandboxes/pod/shim.json"));
        if let Some(pid) = shim.ok().and_then(|text| text.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        lived.is_err()
    });
}

#[test]
fn runc_killed_at_any_call_leaves_what_can_be_gone_on_with() {
    sweep("runc", async |node, n| {
        let directory = node.directory.path();
        let program = mortal(directory, &node.program, n, false);
        let runtime = open(directory, &node.instance, program, SHIM.into()).unwrap();
        let lived = live(&runtime, directory).await;
        lived.is_err()
    });
}
