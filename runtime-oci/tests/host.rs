//! What this runtime promises beyond the contract: what becomes of processes, groups and mounts when somebody is killed.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::runtime::{
    ContainerConfig, ContainerRef, ContainerState, Device, Event, ExecRequest, HostNamespaces, Image, Mount,
    Propagation, Runtime,
};
use longshore_core::testing::runtime::Fixture;
use longshore_runtime_oci::OciRuntime;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Node, container, logged, sandbox};

const RUN: &str = "trap 'exit 143' TERM; echo ready; sleep 1000000 & wait";

/// Runs a case on a node of its own that has an image.
fn on_a_node(case: impl AsyncFnOnce(&Node, OciRuntime, Image)) {
    support::on_a_node(async |node| {
        let image = node.image("localhost/test:1").await;
        case(node, node.open_oci(), image).await;
    });
}

async fn start(runtime: &OciRuntime, config: &ContainerConfig) -> u32 {
    runtime.create_container(config).await.unwrap();
    runtime.start_container(&config.container).await.unwrap();
    match state(runtime, &config.container).await {
        ContainerState::Running { pid, .. } => pid,
        _ => 0,
    }
}

async fn state(runtime: &OciRuntime, name: &ContainerRef) -> ContainerState {
    let sandboxes = runtime.list().await.unwrap();
    let sandbox = sandboxes.into_iter().find(|sandbox| sandbox.pod.uid == name.pod_uid).unwrap();
    sandbox.containers.into_iter().find(|container| container.container == *name).unwrap().state
}

async fn ended(runtime: &OciRuntime, name: &ContainerRef) -> ContainerState {
    loop {
        match state(runtime, name).await {
            state @ ContainerState::Exited { .. } => return state,
            _ => SystemClock::new().sleep(Duration::from_millis(10)).await,
        }
    }
}

fn shim(node: &Node, uid: &str) -> Pid {
    let path = node.state().join("sandboxes").join(uid).join("shim.json");
    Pid::from_raw(std::fs::read_to_string(path).unwrap().parse().unwrap())
}

fn lives(pid: u32) -> bool {
    // A zombie has no root any more.
    Path::new(&format!("/proc/{pid}/root/bin")).exists()
}

/// Waits until a process that was killed has ended.
async fn gone(pid: u32) {
    while lives(pid) {
        SystemClock::new().sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_killed_process_is_told_of_at_once() {
    on_a_node(async |node, runtime, image| {
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let config = container(&image, "pod", "main", RUN);
        let pid = start(&runtime, &config).await;
        let mut events = runtime.events().await.unwrap();
        let clock = SystemClock::new();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        while events.next().await.unwrap() != Event::Container(config.container.clone()) {}
        let waited = clock.elapsed();
        let end = state(&runtime, &config.container).await;
        assert!(matches!(end, ContainerState::Exited { code: 137, signal: 9, oom_killed: false, .. }), "{end:?}");
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        // Its parent has taken leave of it: no zombie.
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    });
}

#[test]
fn a_container_begins_with_no_signal_blocked() {
    on_a_node(async |node, runtime, image| {
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let look = "grep SigBlk /proc/self/status; exec sleep 1000000";
        let config = container(&image, "pod", "main", look);
        start(&runtime, &config).await;
        let log = logged(node, &config.container, "SigBlk:").await;
        assert!(log.contains("SigBlk:\t0000000000000000"), "{log}");
    });
}

#[test]
fn a_killed_shim_is_told_of_and_takes_its_containers_along() {
    on_a_node(async |node, runtime, image| {
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        runtime.create_sandbox(&sandbox(node, "other")).await.unwrap();
        let config = container(&image, "pod", "main", RUN);
        let pid = start(&runtime, &config).await;
        let other = start(&runtime, &container(&image, "other", "main", RUN)).await;
        let mut events = runtime.events().await.unwrap();
        kill(shim(node, "pod"), Signal::SIGKILL).unwrap();
        while events.next().await.unwrap() != (Event::Sandbox { pod_uid: "pod".into() }) {}
        let sandboxes = runtime.list().await.unwrap();
        let broken = sandboxes.iter().find(|sandbox| sandbox.pod.uid == "pod").unwrap();
        assert!(!broken.ready);
        let end = &broken.containers[0].state;
        assert!(matches!(end, ContainerState::Exited { code: 137, .. }), "{end:?}");
        gone(pid).await;
        assert!(lives(other));
        assert!(runtime.create_container(&container(&image, "pod", "next", RUN)).await.is_err());
        runtime.stop_container(&config.container, Duration::from_secs(20)).await.unwrap();
        // The pod can be made again.
        runtime.remove_sandbox("pod").await.unwrap();
        assert!(runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap().ready);
        start(&runtime, &config).await;
    });
}

#[test]
fn a_shim_outlives_its_starter() {
    on_a_node(async |node, runtime, image| {
        // The starter is another process, which this test is too, when told to be.
        let config = container(&image, "pod", "main", RUN);
        let mut starter = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "starter", "--nocapture"])
            .env("STARTER_DIRECTORY", node.directory.path())
            .env("STARTER_INSTANCE", &node.instance)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        logged(node, &config.container, " ready\n").await;
        starter.kill().unwrap();
        starter.wait().unwrap();
        let ContainerState::Running { pid, .. } = state(&runtime, &config.container).await else { panic!("it ended") };
        assert!(lives(pid));
        assert!(runtime.list().await.unwrap()[0].ready);
        runtime.stop_container(&config.container, Duration::from_secs(20)).await.unwrap();
        let end = state(&runtime, &config.container).await;
        assert!(matches!(end, ContainerState::Exited { code: 143, .. }), "{end:?}");
    });
}

/// Starts a container and never ends: run by `a_shim_outlives_its_starter` only.
#[test]
fn starter() {
    let Some(directory) = std::env::var_os("STARTER_DIRECTORY") else { return };
    let mut node = Node::new("runc").unwrap();
    node.instance = std::env::var("STARTER_INSTANCE").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let oci = node.open_oci_at(Path::new(&directory));
        let mut sandbox = sandbox(&node, "pod");
        sandbox.log_directory = Path::new(&directory).join("logs/pod");
        oci.create_sandbox(&sandbox).await.unwrap();
        let image = oci.images().resolve("localhost/test:1").await.unwrap().unwrap();
        start(&oci, &container(&image, "pod", "main", RUN)).await;
        std::future::pending::<()>().await;
    });
}

#[test]
fn killing_spares_nothing_that_a_container_started() {
    on_a_node(async |node, runtime, image| {
        let mut config = sandbox(node, "pod");
        // With the node's process ids nothing ends by itself when the first process does.
        config.host.pid = true;
        runtime.create_sandbox(&config).await.unwrap();
        let script = "trap '' TERM; (trap '' TERM; sleep 1000001) & echo child $!; sleep 1000000 & wait; sleep 1000000";
        let stubborn = container(&image, "pod", "stubborn", script);
        let pid = start(&runtime, &stubborn).await;
        let log = logged(node, &stubborn.container, "child ").await;
        let child: u32 = log.trim().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(lives(pid) && lives(child));
        runtime.stop_container(&stubborn.container, Duration::from_millis(100)).await.unwrap();
        gone(pid).await;
        gone(child).await;
        // The same where the first process ends by itself.
        let short = container(&image, "pod", "short", "sleep 1000002 & echo child $!");
        start(&runtime, &short).await;
        ended(&runtime, &short.container).await;
        let log = logged(node, &short.container, "child ").await;
        let child: u32 = log.trim().rsplit(' ').next().unwrap().parse().unwrap();
        gone(child).await;
    });
}

#[test]
fn namespaces_are_shared_as_asked() {
    on_a_node(async |node, runtime, image| {
        let namespaces = |pid: u32| -> Vec<String> {
            let read = |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
            ["net", "ipc", "uts", "pid", "mnt"].map(read).to_vec()
        };
        let own = namespaces(std::process::id());
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let one = namespaces(start(&runtime, &container(&image, "pod", "one", RUN)).await);
        let two = namespaces(start(&runtime, &container(&image, "pod", "two", RUN)).await);
        assert_eq!(one[..3], two[..3]);
        assert!(one[3] != two[3] && one[4] != two[4]);
        assert!(one.iter().zip(&own).all(|(a, b)| a != b));
        let listed = runtime.list().await.unwrap();
        let path = listed[0].network_namespace.clone().unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
        assert_eq!(one[0], format!("net:[{inode}]"));

        let mut host = sandbox(node, "host");
        host.host = HostNamespaces { network: true, pid: false, ipc: true };
        assert_eq!(runtime.create_sandbox(&host).await.unwrap().network_namespace, None);
        let main = namespaces(start(&runtime, &container(&image, "host", "main", RUN)).await);
        assert_eq!(main[..3], own[..3]);
    });
}

#[test]
fn a_device_is_in_its_container_and_in_no_other() {
    on_a_node(async |node, runtime, image| {
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let script = "echo $VISIBLE: $(ls -l /dev/gpu0 2>&1) $(head -c 3 /dev/gpu0 | tr '\\0' z) done";
        let mut with = container(&image, "pod", "with", script);
        with.env = vec![("VISIBLE".to_owned(), "gpu0".to_owned())];
        let (source, target) = ("/dev/zero".into(), "/dev/gpu0".into());
        with.devices = vec![Device { source, target, permissions: "rw".to_owned() }];
        start(&runtime, &with).await;
        let log = logged(node, &with.container, "done").await;
        assert!(log.contains("gpu0: crw") && log.contains("1, 5") && log.contains("zzz done"), "{log}");
        let without = container(&image, "pod", "without", script);
        start(&runtime, &without).await;
        let log = logged(node, &without.container, "done").await;
        assert!(log.contains("No such file or directory"), "{log}");
    });
}

#[test]
fn an_exec_ends_with_its_session() {
    on_a_node(async |node, runtime, image| {
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let config = container(&image, "pod", "main", RUN);
        start(&runtime, &config).await;
        let command = ["sh", "-c", "echo begun; sleep 1000003; true"].map(String::from).to_vec();
        let request = ExecRequest { command, ..ExecRequest::default() };
        let mut session = runtime.exec(&config.container, &request).await.unwrap();
        session.output.next().await.unwrap().unwrap();
        let runs = || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let command = |path: &Path| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            processes.filter(|process| command(&process.path()).contains("begun; sleep 1000003; true")).count()
        };
        assert!(runs() > 0);
        drop(session);
        while runs() > 0 {
            SystemClock::new().sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn what_a_crash_left_half_made_is_removed_when_opened() {
    on_a_node(async |node, runtime, image| {
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let pid = start(&runtime, &container(&image, "pod", "main", RUN)).await;
        std::fs::remove_file(node.state().join("sandboxes/pod/sandbox.json")).unwrap();
        drop(runtime);
        let runtime = node.open_oci();
        assert!(!lives(pid));
        assert_eq!(runtime.list().await.unwrap(), []);
        assert!(runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap().ready);
    });
}

#[test]
fn listing_goes_on_while_sandboxes_are_removed() {
    on_a_node(async |node, runtime, image| {
        let other = node.open_oci();
        let done = std::sync::atomic::AtomicBool::new(false);
        let listing = async {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                other.list().await.unwrap();
            }
        };
        let removing = async {
            for _ in 0..20 {
                runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
                for name in ["a", "b", "c"] {
                    runtime.create_container(&container(&image, "pod", name, RUN)).await.unwrap();
                }
                runtime.remove_sandbox("pod").await.unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        };
        tokio::join!(listing, removing);
    });
}

/// What a process has in memory, in KiB.
fn resident(pid: Pid) -> u64 {
    let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = memory.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_idle_shim_takes_little_memory() {
    on_a_node(async |node, runtime, image| {
        let clock = SystemClock::new();
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let config = container(&image, "pod", "main", RUN);
        start(&runtime, &config).await;
        logged(node, &config.container, " ready\n").await;
        while resident(shim(node, "pod")) >= 2048 {
            let memory = resident(shim(node, "pod"));
            assert!(clock.elapsed() < Duration::from_secs(60), "an idle shim has {memory} kB");
            clock.sleep(Duration::from_millis(50)).await;
        }
        // What it gave back it has again when it needs it.
        runtime.stop_container(&config.container, Duration::from_secs(20)).await.unwrap();
        assert!(matches!(state(&runtime, &config.container).await, ContainerState::Exited { code: 143, .. }));
    });
}

/// The shim says that it is ready before the kernel has moved it.
#[test]
fn a_sandbox_can_go_while_its_shim_goes_to_its_group() {
    on_a_node(async |node, runtime, _image| {
        for n in 0..10 {
            let uid = format!("pod-{n}");
            runtime.create_sandbox(&sandbox(node, &uid)).await.unwrap();
            let shim = shim(node, &uid);
            runtime.remove_sandbox(&uid).await.unwrap();
            assert!(!Path::new(&format!("/proc/{shim}")).exists());
        }
        let groups = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let left = groups
            .flat_map(|hierarchy| std::fs::read_dir(hierarchy.path().join(format!("longshore-{}", node.instance))));
        let left: Vec<_> = left.flatten().flatten().filter(|entry| entry.path().is_dir()).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn figures() {
    on_a_node(async |node, runtime, image| {
        let clock = SystemClock::new();
        let mut times = [Duration::ZERO; 5];
        const PODS: u32 = 5;
        let mut memory = 0;
        for n in 0..PODS {
            let uid = format!("pod-{n}");
            let config = container(&image, &uid, "main", RUN);
            let mut last = clock.elapsed();
            let mut lap = |total: &mut Duration| {
                let now = clock.elapsed();
                *total += (now - last) / PODS;
                last = now;
            };
            runtime.create_sandbox(&sandbox(node, &uid)).await.unwrap();
            lap(&mut times[0]);
            runtime.create_container(&config).await.unwrap();
            lap(&mut times[1]);
            runtime.start_container(&config.container).await.unwrap();
            lap(&mut times[2]);
            logged(node, &config.container, " ready\n").await;
            let status = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim(node, &uid))).unwrap();
            let field = |name: &str| -> u64 {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().parse().unwrap()
            };
            println!(
                "shim: Rss {} kB, Pss {} kB, private {} kB",
                field("Rss:"),
                field("Pss:"),
                field("Private_Dirty:")
            );
            memory += field("Private_Dirty:") / u64::from(PODS);
            last = clock.elapsed();
            let mut lap = |total: &mut Duration| {
                let now = clock.elapsed();
                *total += (now - last) / PODS;
                last = now;
            };
            runtime.stop_container(&config.container, Duration::from_secs(20)).await.unwrap();
            lap(&mut times[3]);
            runtime.remove_sandbox(&uid).await.unwrap();
            lap(&mut times[4]);
        }
        let names = ["create sandbox", "create container", "start container", "stop container", "remove sandbox"];
        for (name, time) in names.iter().zip(times) {
            println!("{name}: {time:?}");
        }
        assert!(memory < 4096, "a shim has {memory} kB of its own");
    });
}

#[test]
fn what_a_shim_said_before_it_ended_is_told() {
    on_a_node(async |node, runtime, image| {
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let pid = shim(node, "pod");
        kill(pid, Signal::SIGKILL).unwrap();
        gone(pid.as_raw().unsigned_abs()).await;
        let create =
            async || runtime.create_container(&container(&image, "pod", "main", RUN)).await.unwrap_err().to_string();
        let error = create().await;
        assert!(error.ends_with("not ready"), "{error}");
        let log = node.state().join("sandboxes/pod/shim.log");
        std::fs::write(&log, "first\nshim: there is no room in the group\n").unwrap();
        let error = create().await;
        assert!(error.ends_with("not ready: shim: there is no room in the group"), "{error}");
        runtime.remove_sandbox("pod").await.unwrap();
    });
}

#[test]
fn a_read_only_mount_reaches_what_is_mounted_below() {
    on_a_node(async |node, runtime, image| {
        let outer = node.directory.path().join("outer");
        std::fs::create_dir_all(outer.join("inner")).unwrap();
        mount(Some("tmpfs"), &outer.join("inner"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        runtime.create_sandbox(&sandbox(node, "pod")).await.unwrap();
        let mut config = container(&image, "pod", "plain", "touch /outer/x || touch /outer/inner/x && exit 3");
        let mounted = Mount {
            source: outer.clone(),
            target: "/outer".into(),
            read_only: true,
            recursive_read_only: false,
            propagation: Propagation::Private,
        };
        config.mounts = vec![mounted.clone()];
        start(&runtime, &config).await;
        let plain = ended(&runtime, &config.container).await;
        let mut all = Ok(());
        if runtime.info().capabilities.recursive_read_only {
            config = container(&image, "pod", "all", "touch /outer/x || touch /outer/inner/x || exit 4");
            config.mounts = vec![Mount { recursive_read_only: true, ..mounted }];
            start(&runtime, &config).await;
            let end = ended(&runtime, &config.container).await;
            all = if matches!(end, ContainerState::Exited { code: 4, .. }) { Ok(()) } else { Err(end) };
        }
        runtime.remove_sandbox("pod").await.unwrap();
        umount(&outer.join("inner")).unwrap();
        assert!(matches!(plain, ContainerState::Exited { code: 3, .. }), "{plain:?}");
        assert_eq!(all, Ok(()));
    });
}
