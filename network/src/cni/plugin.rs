//! Running plugins, as the CNI specification (1.0 and 1.1) says.

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use longshore_core::network::Error;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::List;
use super::{Record, namespace};
use crate::netlink::failed;

/// The pod's interface in its own namespace.
const INTERFACE: &str = "eth0";

/// How long a plugin may take: the node's other pods wait meanwhile.
const PLUGIN_MAX: Duration = Duration::from_secs(120);

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Check,
    Del,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
        }
    }
}

/// How a plugin says that something went wrong.
#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// Checks that all plugins are there, before any of them makes something.
pub(super) fn find_all(list: &List, directories: &[PathBuf]) -> Result<(), Error> {
    list.plugins.iter().try_for_each(|plugin| find(type_of(plugin), directories).map(drop))
}

/// Runs all plugins in order, and answers the last one's result.
pub(super) fn add(record: &Record) -> Result<Value, Error> {
    let mut result = None;
    for plugin in &record.list.plugins {
        let output = run(record, Verb::Add, plugin, result.as_ref())?;
        // One that only adds to what came before may say nothing.
        result = output.or(result);
    }
    result.ok_or_else(|| failed(format!("connect pod {}", record.pod))("no plugin answered with a result"))
}

/// Asks all plugins whether what they made is there.
pub(super) fn check(record: &Record) -> Result<(), Error> {
    let check = |plugin| run(record, Verb::Check, plugin, record.result.as_ref()).map(drop);
    record.list.plugins.iter().try_for_each(check)
}

/// Has all plugins remove what they made, the last first. To one that made nothing that is right, too.
pub(super) fn delete(record: &Record) -> Result<(), Error> {
    let delete = |plugin| run(record, Verb::Del, plugin, record.result.as_ref()).map(drop);
    record.list.plugins.iter().rev().try_for_each(delete)
}

fn run(
    record: &Record,
    verb: Verb,
    plugin: &Map<String, Value>,
    previous: Option<&Value>,
) -> Result<Option<Value>, Error> {
    let type_ = type_of(plugin);
    let operation = || format!("{} pod {} by the CNI plugin {type_}", verb.word(), record.pod);
    let program = find(type_, &record.plugins)?;
    let input = record.list.input(plugin, &record.host_ports, previous);
    let input = serde_json::to_vec(&input).map_err(failed(operation()))?;
    // After a restart of the machine it is gone, and plugins remove what is elsewhere.
    let namespace = if namespace::is_kept(&record.namespace) { &record.namespace } else { Path::new("") };
    let path = std::env::join_paths(&record.plugins).map_err(failed(operation()))?;
    let pod = &record.pod;
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.namespace, pod.name, record.container, pod.uid
    );
    let mut child = Command::new(program)
        .env("CNI_COMMAND", verb.word())
        .env("CNI_CONTAINERID", &record.container)
        .env("CNI_NETNS", namespace)
        .env("CNI_IFNAME", INTERFACE)
        .env("CNI_ARGS", arguments)
        .env("CNI_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // With what it starts, it can be ended as one.
        .process_group(0)
        .spawn()
        .map_err(failed(operation()))?;
    let group = Pid::from_raw(child.id().cast_signed());
    // One that ends without reading says why by its code and output.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(&input));
    let (done, ended) = channel::<()>();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            if ended.recv_timeout(PLUGIN_MAX) == Err(RecvTimeoutError::Timeout) {
                // It may just have ended.
                let _ = killpg(group, Signal::SIGKILL);
            }
        });
        let output = child.wait_with_output();
        drop(done);
        output
    });
    let output = output.map_err(failed(operation()))?;
    if output.status.signal() == Some(Signal::SIGKILL as i32) {
        return Err(failed(operation())("it was killed, or did not end within two minutes"));
    }
    if output.status.success() {
        let is_empty = output.stdout.trim_ascii().is_empty();
        let result = (!is_empty).then(|| serde_json::from_slice(&output.stdout)).transpose();
        return result.map_err(failed(operation()));
    }
    let refusal: Option<Refusal> = serde_json::from_slice(&output.stdout).ok();
    let said = refusal.map(|refusal| [refusal.msg, refusal.details].join(" "));
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned());
    let reason = if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_owned() };
    Err(failed(operation())(reason))
}

fn type_of(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn find(type_: &str, directories: &[PathBuf]) -> Result<PathBuf, Error> {
    let found = directories.iter().map(|directory| directory.join(type_)).find(|path| path.is_file());
    found.ok_or_else(|| Error::Missing {
        what: format!("the CNI plugin {type_} in {}", list(directories)),
        remedy: "install it (apt-get install containernetworking-plugins has the reference plugins)".to_owned(),
    })
}

fn list(directories: &[PathBuf]) -> String {
    directories.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(" or ")
}
