//! Sources of persistent volumes, where they differ from a pod's own.

use super::sources::{
    AzureFilePersistentVolumeSource, CSIPersistentVolumeSource, CephFSPersistentVolumeSource,
    CinderPersistentVolumeSource, FlexPersistentVolumeSource, GlusterfsPersistentVolumeSource,
    ISCSIPersistentVolumeSource, LocalVolumeSource, RBDPersistentVolumeSource, ScaleIOPersistentVolumeSource,
    StorageOSPersistentVolumeSource,
};
use crate::api::SecretReference;
use crate::api::pod::validation::cloud_volumes::{
    ISCSI_NAME_MAX, ISCSI_NAME_TOO_LONG, require, validate_csi_driver_name, validate_flex_options, validate_iscsi_name,
    validate_lun,
};
use crate::validation::names::is_dns1123_label;
use crate::validation::paths::validate_no_backsteps;
use crate::validation::{ErrorList, Path, Report};

/// Demands name and namespace of a secret that is referred to.
fn require_secret(secret: Option<&SecretReference>, at: &Path, errors: &mut ErrorList) {
    if let Some(secret) = secret {
        require(&[("name", &secret.name), ("namespace", &secret.namespace)], at, errors);
    }
}

pub(super) fn validate_glusterfs(source: &GlusterfsPersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("endpoints", &source.endpoints), ("path", &source.path)], at, errors);
    let at = at.child("endpointsNamespace");
    match source.endpoints_namespace.as_deref() {
        None => {}
        Some("") => errors.required(&at, "if the endpointnamespace is set, it must be a valid namespace name"),
        Some(namespace) => errors.invalid_each(&at, namespace, is_dns1123_label(namespace)),
    }
}

fn require_monitors(monitors: &[String], at: &Path, errors: &mut ErrorList) {
    if monitors.is_empty() {
        errors.required(&at.child("monitors"), "");
    }
}

pub(super) fn validate_rbd(source: &RBDPersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    require_monitors(&source.monitors, at, errors);
    require(&[("image", &source.image)], at, errors);
}

pub(super) fn validate_cephfs(source: &CephFSPersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    require_monitors(&source.monitors, at, errors);
}

/// Checks an iSCSI disk of the volume with this name.
pub(super) fn validate_iscsi(source: &ISCSIPersistentVolumeSource, name: &str, at: &Path, errors: &mut ErrorList) {
    require(&[("targetPortal", &source.target_portal)], at, errors);
    if source.initiator_name.is_some() && name.len() + 1 + source.target_portal.len() > ISCSI_NAME_MAX {
        errors.invalid(&at.child("targetportal"), source.target_portal.as_str(), ISCSI_NAME_TOO_LONG);
    }
    let target = at.child("iqn");
    if source.iqn.is_empty() {
        errors.required(&target, "");
    } else if ["iqn", "eui", "naa"].iter().any(|start| source.iqn.starts_with(start)) {
        validate_iscsi_name(&source.iqn, &target, errors);
    } else {
        errors.invalid(&target, source.iqn.as_str(), "must be valid format");
    }
    validate_lun(source.lun, &at.child("lun"), errors);
    if (source.chap_auth_discovery || source.chap_auth_session) && source.secret_ref.is_none() {
        errors.required(&at.child("secretRef"), "");
    }
    if let Some(secret) = &source.secret_ref {
        require(&[("name", &secret.name)], &at.child("secretRef"), errors);
    }
    if let Some(name) = &source.initiator_name {
        validate_iscsi_name(name, &at.child("initiatorname"), errors);
    }
}

pub(super) fn validate_cinder(source: &CinderPersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("volumeID", &source.volume_id)], at, errors);
    require_secret(source.secret_ref.as_ref(), &at.child("secretRef"), errors);
}

pub(super) fn validate_flex(source: &FlexPersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("driver", &source.driver)], at, errors);
    validate_flex_options(source.options.keys(), &at.child("options"), errors);
}

pub(super) fn validate_azure_file(source: &AzureFilePersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("secretName", &source.secret_name), ("shareName", &source.share_name)], at, errors);
    if let Some(namespace) = &source.secret_namespace {
        require(&[("secretNamespace", namespace)], at, errors);
    }
}

pub(super) fn validate_scale_io(source: &ScaleIOPersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    let fields = [("gateway", &*source.gateway), ("system", &source.system), ("volumeName", &source.volume_name)];
    require(&fields, at, errors);
}

pub(super) fn validate_local(source: &LocalVolumeSource, at: &Path, errors: &mut ErrorList) {
    let at = at.child("path");
    if source.path.is_empty() {
        errors.required(&at, "");
    } else {
        validate_no_backsteps(&source.path, &at, errors);
    }
}

pub(super) fn validate_storageos(source: &StorageOSPersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    let (name, namespace) = (source.volume_name.as_str(), source.volume_namespace.as_str());
    if name.is_empty() {
        errors.required(&at.child("volumeName"), "");
    } else {
        errors.invalid_each(&at.child("volumeName"), name, is_dns1123_label(name));
    }
    if !namespace.is_empty() {
        errors.invalid_each(&at.child("volumeNamespace"), namespace, is_dns1123_label(namespace));
    }
    if let Some(secret) = &source.secret_ref {
        require(&[("name", &secret.name), ("namespace", &secret.namespace)], &at.child("secretRef"), errors);
    }
}

pub(super) fn validate_csi(source: &CSIPersistentVolumeSource, at: &Path, errors: &mut ErrorList) {
    validate_csi_driver_name(&source.driver, &at.child("driver"), errors);
    require(&[("volumeHandle", &source.volume_handle)], at, errors);
    let secrets = [
        ("controllerPublishSecretRef", &source.controller_publish_secret_ref),
        ("controllerExpandSecretRef", &source.controller_expand_secret_ref),
        ("nodePublishSecretRef", &source.node_publish_secret_ref),
        ("nodeExpandSecretRef", &source.node_expand_secret_ref),
    ];
    for (field, secret) in secrets {
        require_secret(secret.as_ref(), &at.child(field), errors);
    }
}
