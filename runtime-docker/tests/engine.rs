//! What the runtime makes of an engine that fails, is shared, or is not there.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use longshore_core::clock::SystemClock;
use longshore_core::runtime::{
    ContainerConfig, ContainerRef, ContainerState, Error, Event, HostNamespaces, Image, Resources, Runtime,
    SandboxConfig, Seccomp, Security,
};
use longshore_core::testing::runtime::{Fixture, configs};
use longshore_core::testing::skip;
use longshore_runtime_docker::{DockerRuntime, Options};
use support::Node;

fn sandbox(node: &Node, uid: &str) -> SandboxConfig {
    configs::sandbox(uid, &node.directory.path().join("logs"))
}

fn script(uid: &str, name: &str, image: &Image, script: &str) -> ContainerConfig {
    ContainerConfig { command: configs::script(script), ..configs::container(uid, name, &image.id) }
}

/// Runs a test on a node with an engine that nobody else uses, and leaves nothing of it.
fn on_own_engine(test: impl AsyncFnOnce(&Node, &Image)) {
    let node = match Node::alone() {
        Ok(node) => node,
        Err(reason) => return skip(&reason),
    };
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async {
        let image = node.image("localhost/test:1").await;
        let done = AssertUnwindSafe(test(&node, &image)).catch_unwind().await;
        // It may have failed while the engine was away.
        if !node.engine.answers() {
            node.engine.restart();
        }
        node.clean_up().await;
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn state(runtime: &dyn Runtime, name: &ContainerRef) -> ContainerState {
    let sandboxes = runtime.list().await.unwrap();
    let mut containers = sandboxes.into_iter().flat_map(|sandbox| sandbox.containers);
    containers.find(|container| container.container == *name).unwrap().state
}

async fn start(runtime: &dyn Runtime, config: &ContainerConfig) -> PathBuf {
    let made = runtime.create_container(config).await.unwrap();
    runtime.start_container(&config.container).await.unwrap();
    made.log_path
}

async fn ended(node: &Node, runtime: &dyn Runtime, name: &ContainerRef) -> i32 {
    loop {
        if let ContainerState::Exited { code, .. } = state(runtime, name).await {
            return code;
        }
        node.pass().await;
    }
}

/// What a container says until its end.
async fn said(node: &Node, runtime: &dyn Runtime, config: &ContainerConfig) -> Vec<String> {
    let log = start(runtime, config).await;
    ended(node, runtime, &config.container).await;
    let log = std::fs::read_to_string(log).unwrap();
    log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_named() {
    if !nix::unistd::geteuid().is_root() {
        return skip("running containers needs root");
    }
    let temp = tempfile::tempdir().unwrap();
    let open = async |host: &str| {
        let options = Options { host: host.into(), state: temp.path().join("state"), instance: "test".into() };
        DockerRuntime::open(options, Arc::new(SystemClock::new())).await.unwrap_err().to_string()
    };
    let missing = format!("unix://{}/sock", temp.path().display());
    let error = open(&missing).await;
    assert!(error.contains(&missing) && error.contains("DOCKER_HOST"), "{error}");
    // A socket at which nobody listens any more.
    drop(std::os::unix::net::UnixListener::bind(temp.path().join("sock")).unwrap());
    let error = open(&missing).await;
    assert!(error.contains("refused") && error.contains("systemctl start docker"), "{error}");
    let error = open("tcp://192.0.2.1:2375").await;
    assert!(error.contains("must start with unix://"), "{error}");
    assert!(!temp.path().join("state").exists(), "nothing was made");
}

#[test]
fn an_engine_may_be_killed_while_it_makes_something() {
    on_own_engine(async |node, image| {
        let runtime = node.open_docker().await;
        runtime.create_sandbox(&sandbox(node, "a")).await.unwrap();
        let config = script("a", "main", image, "trap 'exit 3' TERM; echo begun; sleep 1000000 & wait");
        let log = start(&runtime, &config).await;
        while !std::fs::read_to_string(&log).unwrap_or_default().contains("begun") {
            node.pass().await;
        }
        let mut events = runtime.events().await.unwrap();
        // At moments that differ.
        for delay in [0, 30, 80] {
            let wanted = sandbox(node, &format!("b{delay}"));
            let create = runtime.create_sandbox(&wanted);
            let kill = async {
                longshore_core::clock::Clock::sleep(&SystemClock::new(), Duration::from_millis(delay)).await;
                let engine = node.engine.clone();
                tokio::task::spawn_blocking(move || engine.kill()).await.unwrap();
            };
            let (_, ()) = tokio::join!(create, kill);
            let error = runtime.list().await.unwrap_err();
            assert!(matches!(error, Error::Failed { .. }), "{error}");
            let engine = node.engine.clone();
            tokio::task::spawn_blocking(move || engine.restart()).await.unwrap();
            // What is there may be half-made or has ended; what is removed can be made.
            match runtime.create_sandbox(&wanted).await {
                Ok(made) => assert!(made.ready),
                Err(Error::AlreadyExists { .. }) => {
                    runtime.remove_sandbox(&wanted.pod.uid).await.unwrap();
                    assert!(runtime.create_sandbox(&wanted).await.unwrap().ready);
                }
                Err(error) => panic!("{error}"),
            }
        }
        while events.next().await.unwrap() != Event::Resync {}
        // With the engine its containers have ended, and are reported so.
        assert_ne!(ended(node, &runtime, &config.container).await, 0);
        let listed = runtime.list().await.unwrap();
        let lost = listed.iter().find(|sandbox| sandbox.pod.uid == "a").unwrap();
        assert!(!lost.ready && lost.network_namespace.is_none());
        assert_eq!(std::fs::read_to_string(&log).unwrap().matches("begun").count(), 1);
    });
}

#[test]
fn what_is_logged_while_nobody_looks_is_neither_lost_nor_repeated() {
    on_own_engine(async |node, image| {
        let mut runtime = node.open_docker().await;
        runtime.create_sandbox(&sandbox(node, "a")).await.unwrap();
        let speak = "i=0; while test $i -lt 2000; do echo $i; i=$((i+1)); done; until test -e /end; do sleep 0.02; done; echo 2000";
        let config = script("a", "main", image, speak);
        let log = start(&runtime, &config).await;
        for _ in 0..5 {
            drop(runtime);
            node.pass().await;
            runtime = node.open_docker().await;
            // Two at once.
            let second = node.open_docker().await;
            node.pass().await;
            drop(second);
        }
        let request =
            longshore_core::runtime::ExecRequest { command: vec!["touch".into(), "/end".into()], ..Default::default() };
        runtime.exec(&config.container, &request).await.unwrap().output.for_each(|_| async {}).await;
        ended(node, &runtime, &config.container).await;
        let log = std::fs::read_to_string(log).unwrap();
        let numbers: Vec<usize> = log.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..=2000), "{numbers:?}");
    });
}

#[test]
fn a_pod_may_share_its_process_ids() {
    on_own_engine(async |node, image| {
        let runtime = node.open_docker().await;
        let mut shared = sandbox(node, "a");
        shared.share_process_namespace = true;
        shared.sysctls = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "42".to_owned())].into();
        runtime.create_sandbox(&shared).await.unwrap();
        start(&runtime, &script("a", "other", image, "echo other; sleep 424242")).await;
        // One that is left by its parent is reaped by the first process.
        let look = "cat /proc/1/cmdline; echo; cat /proc/*/cmdline | grep -c 424242; (sleep 0.01 &); sleep 0.1; \
                    cat /proc/[0-9]*/stat | grep -c ' Z '; cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
        let lines = said(node, &runtime, &script("a", "main", image, look)).await;
        assert!(lines[0].starts_with("/pause"), "{lines:?}");
        assert_ne!(lines[1], "0", "{lines:?}");
        assert_eq!(lines[2..], ["0", "42"]);

        let mut host = sandbox(node, "b");
        host.host = HostNamespaces { network: true, pid: true, ipc: true };
        assert_eq!(runtime.create_sandbox(&host).await.unwrap().network_namespace, None);
        let pid = std::process::id();
        let look = format!("cat /proc/{pid}/cmdline; echo; hostname");
        let lines = said(node, &runtime, &script("b", "main", image, &look)).await;
        assert!(lines[0].contains("engine"), "it sees this test: {lines:?}");
        assert_eq!(lines[1], nix::unistd::gethostname().unwrap().to_string_lossy());
    });
}

#[test]
fn identity_rights_and_limits_are_as_given() {
    on_own_engine(async |node, image| {
        let runtime = node.open_docker().await;
        runtime.create_sandbox(&sandbox(node, "a")).await.unwrap();
        let mut config =
            script("a", "main", image, "grep -E '^(Uid|Gid|Groups|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status");
        config.security = Security {
            user: Some(1000),
            group: Some(2000),
            supplemental_groups: vec![3000],
            add_capabilities: vec!["NET_ADMIN".into()],
            drop_capabilities: vec!["ALL".into()],
            no_new_privileges: true,
            seccomp: Seccomp::Unconfined,
            ..Security::default()
        };
        let lines = said(node, &runtime, &config).await.join(" ");
        let words: Vec<&str> = lines.split_whitespace().collect();
        // NET_ADMIN is number 12.
        let wanted = "Uid: 1000 1000 1000 1000 Gid: 2000 2000 2000 2000 Groups: 2000 3000 CapBnd: 0000000000001000 NoNewPrivs: 1 Seccomp: 0";
        assert_eq!(words.join(" "), wanted);

        let limits = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us || \
                      cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max";
        let mut config = script(
            "a",
            "limited",
            image,
            &format!("{limits}; cat /dev/extra | grep -c x; test -w /dev/extra || echo closed"),
        );
        config.resources =
            Resources { cpu_limit_milli: Some(500), memory_limit: Some(64 << 20), ..Resources::default() };
        config.devices = vec![longshore_core::runtime::Device {
            source: "/dev/null".into(),
            target: "/dev/extra".into(),
            permissions: "r".into(),
        }];
        let lines = said(node, &runtime, &config).await;
        assert!(lines.contains(&(64 << 20).to_string()), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("50000")), "{lines:?}");
        assert!(lines.contains(&"0".to_owned()), "{lines:?}");
        let mut greedy = script("a", "greedy", image, "x=x; while :; do x=$x$x; done");
        greedy.resources.memory_limit = Some(16 << 20);
        start(&runtime, &greedy).await;
        ended(node, &runtime, &greedy.container).await;
        let end = state(&runtime, &greedy.container).await;
        assert!(matches!(end, ContainerState::Exited { oom_killed: true, code: 137, .. }), "{end:?}");

        let mut missing = script("a", "missing", image, "true");
        missing.mounts = vec![longshore_core::runtime::Mount {
            source: "/no/such/source".into(),
            target: "/mnt".into(),
            read_only: true,
            recursive_read_only: false,
            propagation: Default::default(),
        }];
        let error = runtime.create_container(&missing).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { reason } if reason.contains("/no/such/source")), "{error}");
    });
}

#[test]
fn two_instances_on_one_engine_keep_apart() {
    on_own_engine(async |node, image| {
        let runtime = node.open_docker().await;
        let other = Options {
            instance: format!("{}-x", node.instance),
            state: node.directory.path().join("x"),
            ..node.options()
        };
        let other = DockerRuntime::open(other, Arc::new(SystemClock::new())).await.unwrap();
        for runtime in [&runtime, &other] {
            runtime.create_sandbox(&sandbox(node, "a")).await.unwrap();
            runtime.create_container(&script("a", "main", image, "sleep 1000000")).await.unwrap();
            runtime.start_container(&script("a", "main", image, "").container).await.unwrap();
        }
        other.clean_up().await.unwrap();
        assert_eq!(other.list().await.unwrap(), []);
        let kept = state(&runtime, &script("a", "main", image, "").container).await;
        assert!(matches!(kept, ContainerState::Running { .. }), "{kept:?}");
    });
}

#[test]
fn processes_of_a_killed_holder_end_when_the_runtime_is_opened() {
    on_own_engine(async |node, image| {
        let runtime = node.open_docker().await;
        runtime.create_sandbox(&sandbox(node, "a")).await.unwrap();
        let config = script("a", "main", image, "sleep 1000000");
        start(&runtime, &config).await;
        let request = longshore_core::runtime::ExecRequest {
            command: vec!["sleep".into(), "434343".into()],
            ..Default::default()
        };
        let session = runtime.exec(&config.container, &request).await.unwrap();
        // As if another process had held it, which was killed.
        std::mem::forget(session);
        let notes: Vec<_> = std::fs::read_dir(node.state().join("execs")).unwrap().flatten().collect();
        assert_eq!(notes.len(), 1);
        std::fs::write(notes[0].path(), r#"{"pid": 1, "started": 1}"#).unwrap();
        node.open_docker().await;
        let runs = |found: &std::fs::DirEntry| {
            let command = std::fs::read_to_string(found.path().join("cmdline")).unwrap_or_default();
            command.split_terminator('\0').eq(["sleep", "434343"])
        };
        while std::fs::read_dir("/proc").unwrap().flatten().any(|process| runs(&process)) {
            node.pass().await;
        }
    });
}

#[test]
fn a_registry_that_does_not_answer_is_told_of() {
    on_own_engine(async |node, _| {
        let runtime = node.open_docker().await;
        let error = runtime.images().pull("127.0.0.1:9/web:1", &longshore_core::runtime::Credentials::Anonymous).await;
        let error = error.unwrap_err();
        assert!(
            matches!(&error, Error::Image { image, reason } if image == "127.0.0.1:9/web:1" && !reason.is_empty()),
            "{error}"
        );
    });
}
