//! Volumes and devices in containers.

use std::collections::BTreeSet;

use super::containers::Context;
use crate::api::pod::{Container, MountPropagationMode, RecursiveReadOnlyMode, VolumeMount};
use crate::validation::paths::{has_backsteps, validate_local_descending_path};
use crate::validation::{ErrorList, Path, Report};

const PROPAGATIONS: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
const RECURSIVE_MODES: [&str; 3] = ["Disabled", "Enabled", "IfPossible"];

/// Checks where volumes are mounted. Errors about sub-paths and modes name the list, not the item, as upstream's do.
pub(super) fn validate(context: &Context<'_>, container: &Container, at: &Path, errors: &mut ErrorList) {
    let list = at;
    let mut paths = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let at = at.index(index);
        let (name, path) = (at.child("name"), at.child("mountPath"));
        let volume = context.volumes.get(mount.name.as_str());
        if mount.name.is_empty() {
            errors.required(&name, "");
        }
        if volume.is_none() {
            errors.not_found(&name, mount.name.as_str());
        }
        if mount.mount_path.is_empty() {
            errors.required(&path, "");
        }
        if !paths.insert(mount.mount_path.as_str()) {
            errors.invalid(&path, mount.mount_path.as_str(), "must be unique");
        }
        let devices = &container.volume_devices;
        if devices.iter().any(|device| device.name == mount.name) {
            errors.invalid(&name, mount.name.as_str(), "must not already exist in volumeDevices");
        }
        if last_of(devices, |device| &device.name).any(|device| device.device_path == mount.mount_path) {
            let why = "must not already exist as a path in volumeDevices";
            errors.invalid(&path, mount.mount_path.as_str(), why);
        }
        if volume.is_some_and(|volume| volume.image.is_some()) {
            for (field, path) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
                if !path.is_empty() {
                    errors.invalid(&at.child(field), path.as_str(), "not allowed in image volume sources");
                }
            }
        }
        if !mount.sub_path.is_empty() {
            validate_local_descending_path(&mount.sub_path, &list.child("subPath"), errors);
        }
        if !mount.sub_path_expr.is_empty() {
            if !mount.sub_path.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&at.child("subPathExpr"), mount.sub_path_expr.as_str(), why);
            }
            validate_local_descending_path(&mount.sub_path_expr, &list.child("subPathExpr"), errors);
        }
        if let Some(mode) = &mount.mount_propagation {
            validate_propagation(mode, container, &list.child("mountPropagation"), errors);
        }
        validate_recursive(mount, &list.child("recursiveReadOnly"), errors);
    }
}

/// Of items that share a key only the last: a map made from them has no more.
fn last_of<'i, T>(items: &'i [T], key: impl Fn(&T) -> &str + Copy + 'i) -> impl Iterator<Item = &'i T> {
    let is_last = move |index: usize| !items[index + 1..].iter().any(|later| key(later) == key(&items[index]));
    items.iter().enumerate().filter(move |(index, _)| is_last(*index)).map(|(_, item)| item)
}

fn validate_propagation(mode: &MountPropagationMode, container: &Container, at: &Path, errors: &mut ErrorList) {
    if !mode.is_known() {
        errors.not_supported(at, mode.as_str(), &PROPAGATIONS);
    }
    let privileged = container.security_context.as_ref().and_then(|context| context.privileged) == Some(true);
    if *mode == MountPropagationMode::Bidirectional && !privileged {
        errors.forbidden(at, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn validate_recursive(mount: &VolumeMount, at: &Path, errors: &mut ErrorList) {
    match &mount.recursive_read_only {
        None | Some(RecursiveReadOnlyMode::Disabled) => {}
        Some(RecursiveReadOnlyMode::Enabled | RecursiveReadOnlyMode::IfPossible) => {
            if !mount.read_only {
                errors.forbidden(at, "may only be specified when readOnly is true");
            }
            if mount.mount_propagation.as_ref().is_some_and(|mode| *mode != MountPropagationMode::None) {
                errors.forbidden(at, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => errors.not_supported(at, other.as_str(), &RECURSIVE_MODES),
    }
}

/// Checks raw block devices.
pub(super) fn validate_devices(context: &Context<'_>, container: &Container, at: &Path, errors: &mut ErrorList) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in container.volume_devices.iter().enumerate() {
        let at = at.index(index);
        let (at_name, at_path) = (at.child("name"), at.child("devicePath"));
        let (name, path) = (device.name.as_str(), device.device_path.as_str());
        if name.is_empty() {
            errors.required(&at_name, "");
        }
        if names.contains(name) {
            errors.invalid(&at_name, name, "must be unique");
        }
        match context.volumes.get(name) {
            Some(volume) if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at_name, name, why);
            }
            Some(_) => {}
            None => errors.not_found(&at_name, name),
        }
        if path.is_empty() {
            errors.required(&at_path, "");
        }
        if paths.contains(path) {
            errors.invalid(&at_path, path, "must be unique");
        }
        if has_backsteps(path) {
            errors.invalid(&at_path, path, "can not contain backsteps ('..')");
        } else {
            paths.insert(path);
        }
        let mounts = &container.volume_mounts;
        if mounts.iter().any(|mount| mount.name == name) {
            errors.invalid(&at_name, name, "must not already exist in volumeMounts");
        }
        if last_of(mounts, |mount| &mount.name).any(|mount| mount.mount_path == path) {
            errors.invalid(&at_path, path, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}
