//! What tests of runtimes make pods from, where they do not care.

use std::collections::BTreeMap;
use std::path::Path;

use crate::runtime::{
    ContainerConfig, ContainerRef, HostNamespaces, ImageId, LogLimits, PodRef, Resources, SandboxConfig, Security,
};

/// A sandbox with nothing special, for the pod of this uid; its logs are below a directory of its own in `logs`.
pub fn sandbox(uid: &str, logs: &Path) -> SandboxConfig {
    SandboxConfig {
        pod: PodRef { namespace: "default".into(), name: uid.into(), uid: uid.into() },
        hostname: uid.into(),
        host: HostNamespaces::default(),
        share_process_namespace: false,
        log_directory: logs.join(uid),
        log_limits: LogLimits::default(),
        resources: Resources::default(),
        sysctls: BTreeMap::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// A container's first attempt with nothing special, not even a command.
pub fn container(uid: &str, name: &str, image: &ImageId) -> ContainerConfig {
    ContainerConfig {
        container: ContainerRef { pod_uid: uid.into(), name: name.into(), attempt: 0 },
        image: image.clone(),
        image_name: "localhost/test:1".into(),
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Resources::default(),
        security: Security::default(),
        process_namespace_of: None,
        stdin: false,
        stdin_once: false,
        tty: false,
        stop_signal: String::new(),
        termination_message_path: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// The command of a container that runs a script.
pub fn script(text: &str) -> Vec<String> {
    ["sh", "-c", text].map(str::to_owned).to_vec()
}
