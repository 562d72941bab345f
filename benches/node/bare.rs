//! What the parts cost by themselves.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnet::IpNet;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::network::{Attach, Network};
use longshore_core::runtime::PodRef;
use longshore_network::{Bridge, Options};
use serde_json::{Value, json};

use crate::{BUSYBOX, Outcome, REST};

pub(crate) struct Bare {
    pub(crate) run: Vec<Duration>,
    pub(crate) exec: Vec<Duration>,
    pub(crate) attach: Vec<Duration>,
}

impl Bare {
    /// Adds what was measured at another time.
    pub(crate) fn extend(&mut self, other: Self) {
        self.run.extend(other.run);
        self.exec.extend(other.exec);
        self.attach.extend(other.attach);
    }
}

/// Runs a program that must succeed.
pub(crate) fn call(program: &str, arguments: &[&str]) -> Outcome {
    // What goes on running must not hold our pipes.
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} {} ended with {status}", arguments.join(" ")).into()),
        Err(error) => Err(format!("{program}: {error}").into()),
    }
}

/// A network for the pods of one node, with these ranges of pods and of Services.
pub(crate) async fn bridge(directory: &Path, instance: &str, [pods, services]: [&str; 2]) -> Outcome<Bridge> {
    let pods: IpNet = pods.parse()?;
    let options = Options {
        instance: instance.to_owned(),
        state: directory.join("network"),
        pods: vec![pods],
        cluster: vec![pods],
        services: vec![services.parse()?],
        mtu: None,
    };
    Ok(Bridge::open(options).await?)
}

pub(crate) async fn measure(rounds: usize) -> Outcome<Bare> {
    let directory = tempfile::tempdir()?;
    let clock = SystemClock::new();
    let bundle = directory.path().join("bundle");
    make_bundle(&bundle)?;
    let root = directory.path().join("root").display().to_string();
    let bundle = bundle.display().to_string();
    let mut bare = Bare { run: Vec::new(), exec: Vec::new(), attach: Vec::new() };
    for round in 0..rounds {
        let id = format!("longshore-bench-{}-{round}", std::process::id());
        let before = clock.elapsed();
        call("runc", &["--root", &root, "run", "--detach", "--bundle", &bundle, &id])?;
        bare.run.push(clock.elapsed() - before);
        clock.sleep(REST).await;
        let before = clock.elapsed();
        let done = call("runc", &["--root", &root, "exec", &id, BUSYBOX, "true"]);
        bare.exec.push(clock.elapsed() - before);
        call("runc", &["--root", &root, "delete", "--force", &id])?;
        done?;
        clock.sleep(REST).await;
    }
    let instance = format!("bb{:x}", std::process::id() & 0xffff);
    let bridge = bridge(directory.path(), &instance, ["10.97.0.0/21", "10.95.0.0/20"]).await?;
    let measured = attach(&bridge, rounds, &clock).await;
    bridge.clean_up().await?;
    bare.attach = measured?;
    Ok(bare)
}

async fn attach(bridge: &Bridge, rounds: usize, clock: &SystemClock) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    for round in 0..rounds {
        let name = format!("longshore-bench-{}-{round}", std::process::id());
        call("ip", &["netns", "add", &name])?;
        let pod = PodRef { namespace: "bench".into(), name: name.clone(), uid: name.clone() };
        let network_namespace = Path::new("/run/netns").join(&name);
        let before = clock.elapsed();
        let attached = bridge.attach(&Attach { pod: pod.clone(), network_namespace, host_ports: Vec::new() }).await;
        times.push(clock.elapsed() - before);
        let detached = bridge.detach(&pod).await;
        call("ip", &["netns", "delete", &name])?;
        attached?;
        detached?;
    }
    Ok(times)
}

/// What `runc spec` makes, of a busybox that sleeps.
fn make_bundle(bundle: &Path) -> Outcome {
    let root = bundle.join("rootfs");
    std::fs::create_dir_all(root.join("bin"))?;
    std::fs::copy(BUSYBOX, root.join("bin/busybox")).map_err(|error| format!("{BUSYBOX}: {error}"))?;
    call("runc", &["spec", "--bundle", &bundle.display().to_string()])?;
    let path = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!([BUSYBOX, "sleep", "1000000"]);
    Ok(std::fs::write(path, spec.to_string())?)
}
