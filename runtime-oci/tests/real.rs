//! A pod of real processes, from image to nothing left. It has no harness, since the shim is this program itself.

#![allow(clippy::unwrap_used, reason = "a panic is how it fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::runtime::{
    ContainerConfig, ContainerRef, ContainerState, Error, ExecRequest, HostNamespaces, Image, Output, PodRef,
    Resources, Runtime, SandboxConfig, Security,
};
use longshore_runtime_oci::{ImageFile, OciRuntime, Options, shim};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "shim") {
        return shim::main(args);
    }
    let missing = [
        (!nix::unistd::geteuid().is_root()).then_some("it needs root"),
        (!Path::new("/bin/busybox").exists()).then_some("/bin/busybox is missing (apt-get install busybox-static)"),
        (!["/usr/sbin/runc", "/usr/bin/runc", "/usr/bin/crun"].iter().any(|p| Path::new(p).exists()))
            .then_some("runc is missing"),
    ];
    if let Some(reason) = missing.into_iter().flatten().next() {
        println!("SKIPPED: {reason}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "nothing may be skipped under CI=true");
        return ExitCode::SUCCESS;
    }
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let done = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        let path = directory.path().to_owned();
        tasks.spawn(async move { tokio::time::timeout(Duration::from_secs(60), pod(&path)).await.expect("it hangs") });
        let done = tasks.join_next().await.unwrap();
        open(directory.path()).clean_up().await.unwrap();
        done
    });
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(directory.path().to_str().unwrap()), "mounts are left");
    for hierarchy in ["", "memory", "pids", "systemd", "unified", "cpu", "freezer"] {
        let group = Path::new("/sys/fs/cgroup").join(hierarchy).join(format!("longshore-{}", instance()));
        assert!(!group.exists(), "{} is left", group.display());
    }
    let failed = done.is_err();
    println!(
        "test result: {}. {} passed; {} failed; 0 ignored",
        if failed { "FAILED" } else { "ok" },
        u8::from(!failed),
        u8::from(failed)
    );
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn instance() -> String {
    format!("test-{}", std::process::id())
}

fn open(directory: &Path) -> OciRuntime {
    let options = Options {
        root: directory.join("images"),
        state: directory.join("state"),
        instance: instance(),
        program: None,
        shim: std::env::current_exe().unwrap(),
    };
    OciRuntime::open(options, Arc::new(SystemClock::new())).unwrap()
}

fn config(image: &Image, name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        container: ContainerRef { pod_uid: "pod-1".into(), name: name.into(), attempt: 0 },
        image: image.id.clone(),
        image_name: "busybox".into(),
        command: ["/bin/busybox", "sh", "-c", script].map(String::from).to_vec(),
        args: Vec::new(),
        working_dir: String::new(),
        env: vec![("GREETING".into(), "hello".into())],
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Resources { memory_limit: Some(64 << 20), ..Resources::default() },
        security: Security::default(),
        stdin: false,
        stdin_once: false,
        tty: false,
        stop_signal: String::new(),
        termination_message_path: "/message".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

async fn state(runtime: &OciRuntime, name: &str) -> ContainerState {
    let sandboxes = runtime.list().await.unwrap();
    sandboxes[0].containers.iter().find(|c| c.container.name == name).unwrap().state.clone()
}

async fn ended(runtime: &OciRuntime, name: &str) -> ContainerState {
    loop {
        match state(runtime, name).await {
            ContainerState::Exited { started_at, finished_at, code, signal, oom_killed, message } => {
                return ContainerState::Exited { started_at, finished_at, code, signal, oom_killed, message };
            }
            _ => SystemClock::new().sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn pod(directory: &Path) {
    let runtime = open(directory);
    let busybox = ImageFile { target: "/bin/busybox".into(), source: "/bin/busybox".into(), mode: 0o755 };
    let image = runtime.build_image("busybox", vec![busybox], vec!["/bin/busybox".into()]).await.unwrap();
    assert_eq!(runtime.images().resolve("busybox:latest").await.unwrap().unwrap(), image);
    let sandbox = SandboxConfig {
        pod: PodRef { namespace: "default".into(), name: "pod".into(), uid: "pod-1".into() },
        hostname: "pod".into(),
        host: HostNamespaces::default(),
        share_process_namespace: false,
        log_directory: directory.join("logs"),
        resources: Resources::default(),
        sysctls: BTreeMap::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    assert!(runtime.create_sandbox(&sandbox).await.unwrap().ready);
    assert!(matches!(runtime.create_sandbox(&sandbox).await, Err(Error::AlreadyExists { .. })));
    let mut events = runtime.events().await.unwrap();

    // One that ends by itself: exit code, message, log of both streams.
    let script = "echo $GREETING $(/bin/busybox hostname); echo bad >&2; echo why > /message; exit 7";
    let short = config(&image, "short", script);
    runtime.create_container(&short).await.unwrap();
    runtime.start_container(&short.container).await.unwrap();
    let end = ended(&runtime, "short").await;
    assert!(
        matches!(&end, ContainerState::Exited { code: 7, signal: 0, message, .. } if message == "why\n"),
        "{end:?}"
    );
    assert!(events.next().await.is_some());
    let log = std::fs::read_to_string(directory.join("logs/short/0.log")).unwrap();
    assert!(log.contains(" stdout F hello pod\n") && log.contains(" stderr F bad\n"), "{log}");
    assert!(matches!(runtime.start_container(&short.container).await, Err(Error::WrongState { .. })));

    // One whose program does not exist.
    let mut absent = config(&image, "absent", "");
    absent.command = vec!["/no/such".into()];
    runtime.create_container(&absent).await.unwrap();
    let error = runtime.start_container(&absent.container).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { reason } if reason.contains("/no/such")), "{error}");
    assert!(matches!(ended(&runtime, "absent").await, ContainerState::Exited { code: 128, started_at: None, .. }));

    // One that runs on while the runtime is opened again.
    let long = config(&image, "long", "trap 'exit 3' TERM; while :; do /bin/busybox sleep 0.05; done");
    runtime.create_container(&long).await.unwrap();
    runtime.start_container(&long.container).await.unwrap();
    let before = state(&runtime, "long").await;
    assert!(matches!(before, ContainerState::Running { pid: 1.., .. }), "{before:?}");
    drop(runtime);
    let runtime = open(directory);
    assert_eq!(state(&runtime, "long").await, before);
    assert!(runtime.usage(&long.container).await.unwrap().memory_working_set > 0);
    let command = ["/bin/busybox", "sh", "-c", "echo in; exit 5"].map(String::from).to_vec();
    let request = ExecRequest { command, ..ExecRequest::default() };
    let said: Vec<Output> =
        runtime.exec(&long.container, &request).await.unwrap().output.map(Result::unwrap).collect().await;
    assert_eq!(said, [Output::Stdout("in\n".into()), Output::Exit(5)]);
    runtime.stop_container(&long.container, Duration::from_secs(10)).await.unwrap();
    assert!(matches!(state(&runtime, "long").await, ContainerState::Exited { code: 3, .. }));
    runtime.remove_container(&long.container).await.unwrap();
    runtime.remove_container(&long.container).await.unwrap();

    // One whose shim is killed.
    runtime.create_container(&long).await.unwrap();
    runtime.start_container(&long.container).await.unwrap();
    let ContainerState::Running { pid, .. } = state(&runtime, "long").await else { panic!("it does not run") };
    let shim: i32 =
        std::fs::read_to_string(directory.join("state/sandboxes/pod-1/shim.json")).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    while runtime.list().await.unwrap()[0].ready {
        SystemClock::new().sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(state(&runtime, "long").await, ContainerState::Exited { code: 137, .. }));
    assert!(!Path::new(&format!("/proc/{pid}/root/bin")).exists(), "the container outlived its shim");
    assert!(matches!(runtime.images().remove("busybox").await, Err(Error::WrongState { .. })));
    runtime.remove_sandbox("pod-1").await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), []);
    runtime.images().remove("busybox").await.unwrap();
}
