//! What a pod's user may leave out, as upstream's `SetDefaults_*` of core/v1.

use super::helpers::{ResourceOptions, is_pod_level_resource, pod_limits, pod_requests};
use super::{
    AzureDiskVolumeSource, Container, ContainerPort, DnsPolicy, DownwardAPIVolumeFile, EmptyDirVolumeSource, EnvVar,
    EphemeralContainer, HTTPGetAction, HostPathType, Lifecycle, Pod, PodSpec, Probe, PullPolicy, ResourceRequirements,
    RestartPolicy, TerminationMessagePolicy, UriScheme, Volume, VolumeProjection,
};
use crate::api::{Protocol, resources};

/// Mode bits of files that hold keys and fields.
const FILE_MODE: i32 = 0o644;

/// Seconds that a service account's token is valid.
const TOKEN_SECONDS: i64 = 3600;

/// Defaults of a pod that is created, requests included.
pub(super) fn set_pod_defaults(pod: &mut Pod) {
    for container in pod.spec.containers.iter_mut().chain(&mut pod.spec.init_containers) {
        set_requests(&mut container.resources);
    }
    set_pod_level_resources(pod);
    let spec = &mut pod.spec;
    if spec.enable_service_links.is_none() {
        spec.enable_service_links = Some(true);
    }
    if spec.host_network {
        for port in spec.containers.iter_mut().chain(&mut spec.init_containers).flat_map(|of| &mut of.ports) {
            if port.host_port == 0 {
                port.host_port = port.container_port;
            }
        }
    }
    set_spec_defaults(spec);
    let status = &mut pod.status;
    let statuses = [&mut status.init_container_statuses, &mut status.container_statuses];
    for status in statuses.into_iter().chain([&mut status.ephemeral_container_statuses]).flatten() {
        resources::round_up(&mut status.allocated_resources);
        if let Some(actual) = &mut status.resources {
            round_up(actual);
        }
    }
    resources::round_up(&mut status.allocated_resources);
    if let Some(actual) = &mut status.resources {
        round_up(actual);
    }
}

/// Completes what is given for the pod as a whole from what its containers have: limits of huge pages from theirs, and,
/// if there are limits, requests from theirs or else from the limits.
fn set_pod_level_resources(pod: &mut Pod) {
    let of_containers = ResourceOptions { skip_pod_level: true, exclude_overhead: true, ..ResourceOptions::default() };
    let (limits, requests) = (pod_limits(pod, of_containers), pod_requests(pod, of_containers));
    let Some(resources) = &mut pod.spec.resources else { return };
    if resources.limits.is_empty() && resources.requests.is_empty() {
        return;
    }
    for (name, amount) in limits.into_iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        if !resources.requests.contains_key(&name) {
            resources.limits.entry(name).or_insert(amount);
        }
    }
    if resources.limits.is_empty() {
        return;
    }
    let from_requests = requests.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"));
    let from_limits = resources.limits.iter().filter(|(name, _)| is_pod_level_resource(name));
    let from_limits = from_limits.map(|(name, amount)| (name.clone(), amount.clone()));
    for (name, amount) in from_requests.chain(from_limits) {
        resources.requests.entry(name).or_insert(amount);
    }
}

fn round_up(resources: &mut ResourceRequirements) {
    resources::round_up(&mut resources.limits);
    resources::round_up(&mut resources.requests);
}

/// Defaults of a pod's specification, alone or in a template.
pub(super) fn set_spec_defaults(spec: &mut PodSpec) {
    if spec.dns_policy.is_unset() {
        spec.dns_policy = DnsPolicy::ClusterFirst;
    }
    if spec.restart_policy.is_unset() {
        spec.restart_policy = RestartPolicy::Always;
    }
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    if spec.scheduler_name.is_empty() {
        "default-scheduler".clone_into(&mut spec.scheduler_name);
    }
    for volume in &mut spec.volumes {
        set_volume_defaults(volume);
    }
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        set_container_defaults(container);
    }
    for container in &mut spec.ephemeral_containers {
        set_ephemeral_defaults(container);
    }
    resources::round_up(&mut spec.overhead);
    if let Some(of_pod) = &mut spec.resources {
        round_up(of_pod);
    }
}

fn set_requests(resources: &mut ResourceRequirements) {
    for (name, limit) in &resources.limits {
        if !resources.requests.contains_key(name) {
            resources.requests.insert(name.clone(), limit.clone());
        }
    }
}

/// What containers of both sorts have in common.
struct Common<'a> {
    image: &'a str,
    ports: &'a mut [ContainerPort],
    env: &'a mut [EnvVar],
    resources: &'a mut ResourceRequirements,
    probes: [Option<&'a mut Probe>; 3],
    lifecycle: Option<&'a mut Lifecycle>,
    image_pull_policy: &'a mut PullPolicy,
    termination_message_path: &'a mut String,
    termination_message_policy: &'a mut TerminationMessagePolicy,
}

fn set_container_defaults(container: &mut Container) {
    set_common_defaults(Common {
        image: &container.image,
        ports: &mut container.ports,
        env: &mut container.env,
        resources: &mut container.resources,
        probes: [
            container.liveness_probe.as_deref_mut(),
            container.readiness_probe.as_deref_mut(),
            container.startup_probe.as_deref_mut(),
        ],
        lifecycle: container.lifecycle.as_deref_mut(),
        image_pull_policy: &mut container.image_pull_policy,
        termination_message_path: &mut container.termination_message_path,
        termination_message_policy: &mut container.termination_message_policy,
    });
}

fn set_ephemeral_defaults(container: &mut EphemeralContainer) {
    set_common_defaults(Common {
        image: &container.image,
        ports: &mut container.ports,
        env: &mut container.env,
        resources: &mut container.resources,
        probes: [
            container.liveness_probe.as_deref_mut(),
            container.readiness_probe.as_deref_mut(),
            container.startup_probe.as_deref_mut(),
        ],
        lifecycle: container.lifecycle.as_deref_mut(),
        image_pull_policy: &mut container.image_pull_policy,
        termination_message_path: &mut container.termination_message_path,
        termination_message_policy: &mut container.termination_message_policy,
    });
}

fn set_common_defaults(container: Common<'_>) {
    set_pull_policy(container.image_pull_policy, container.image);
    if container.termination_message_path.is_empty() {
        "/dev/termination-log".clone_into(container.termination_message_path);
    }
    if container.termination_message_policy.is_unset() {
        *container.termination_message_policy = TerminationMessagePolicy::File;
    }
    for port in container.ports {
        if port.protocol.is_unset() {
            port.protocol = Protocol::Tcp;
        }
    }
    for source in container.env.iter_mut().filter_map(|variable| variable.value_from.as_deref_mut()) {
        if let Some(field) = &mut source.field_ref {
            set_field_version(&mut field.api_version);
        }
        if let Some(key) = &mut source.file_key_ref {
            key.optional.get_or_insert(false);
        }
    }
    round_up(container.resources);
    for probe in container.probes.into_iter().flatten() {
        set_probe_defaults(probe);
    }
    if let Some(lifecycle) = container.lifecycle {
        for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
            if let Some(request) = &mut handler.http_get {
                set_http_defaults(request);
            }
        }
    }
}

/// Without a policy, an image that can change under its name is always fetched.
fn set_pull_policy(policy: &mut PullPolicy, image: &str) {
    if policy.is_unset() {
        *policy = if is_latest(image) { PullPolicy::Always } else { PullPolicy::IfNotPresent };
    }
}

/// Whether an image's name has the tag `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    // A colon before the last slash belongs to a registry's port.
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

fn set_probe_defaults(probe: &mut Probe) {
    for (field, value) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if *field == 0 {
            *field = value;
        }
    }
    if let Some(request) = &mut probe.http_get {
        set_http_defaults(request);
    }
    if let Some(call) = &mut probe.grpc {
        call.service.get_or_insert_default();
    }
}

fn set_http_defaults(request: &mut HTTPGetAction) {
    if request.path.is_empty() {
        "/".clone_into(&mut request.path);
    }
    if request.scheme.is_unset() {
        request.scheme = UriScheme::Http;
    }
}

fn set_field_version(version: &mut String) {
    if version.is_empty() {
        "v1".clone_into(version);
    }
}

fn set_files_defaults(files: &mut [DownwardAPIVolumeFile]) {
    for field in files.iter_mut().filter_map(|file| file.field_ref.as_mut()) {
        set_field_version(&mut field.api_version);
    }
}

fn set_volume_defaults(volume: &mut Volume) {
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(Box::new(EmptyDirVolumeSource::default()));
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert(HostPathType::Unset);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        set_files_defaults(&mut source.items);
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(FILE_MODE);
        source.sources.iter_mut().for_each(set_projection_defaults);
    }
    if let Some(source) = &mut volume.ephemeral
        && let Some(template) = &mut source.volume_claim_template
    {
        template.spec.set_defaults();
    }
    if let Some(source) = &mut volume.image {
        set_pull_policy(&mut source.pull_policy, &source.reference);
    }
    set_disk_defaults(volume);
}

fn set_projection_defaults(projection: &mut VolumeProjection) {
    if let Some(source) = &mut projection.downward_api {
        set_files_defaults(&mut source.items);
    }
    if let Some(source) = &mut projection.service_account_token {
        source.expiration_seconds.get_or_insert(TOKEN_SECONDS);
    }
}

fn set_if_empty(field: &mut String, value: &str) {
    if field.is_empty() {
        value.clone_into(field);
    }
}

fn set_disk_defaults(volume: &mut Volume) {
    if let Some(source) = &mut volume.iscsi {
        set_if_empty(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut volume.rbd {
        set_if_empty(&mut source.pool, "rbd");
        set_if_empty(&mut source.user, "admin");
        set_if_empty(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut volume.azure_disk {
        source.set_defaults();
    }
    if let Some(source) = &mut volume.scale_io {
        set_if_empty(&mut source.storage_mode, "ThinProvisioned");
        set_if_empty(&mut source.fs_type, "xfs");
    }
}

impl AzureDiskVolumeSource {
    /// Fills what the user left out.
    pub(crate) fn set_defaults(&mut self) {
        self.caching_mode.get_or_insert_with(|| "ReadWrite".to_owned());
        self.kind.get_or_insert_with(|| "Shared".to_owned());
        self.fs_type.get_or_insert_with(|| "ext4".to_owned());
        self.read_only.get_or_insert(false);
    }
}
