//! Volumes of a pod.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{cloud_volumes as cloud, containers, name_of, projected};
use crate::api::persistent_volume_claim::validation::validate_spec as validate_claim_spec;
use crate::api::pod::{
    EmptyDirVolumeSource, EphemeralVolumeSource, GitRepoVolumeSource, HostPathVolumeSource, ImageVolumeSource,
    KeyToPath, PodSpec, Volume,
};
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::validation::paths::{
    validate_local_descending_path, validate_local_non_reserved_path, validate_no_backsteps,
};
use crate::validation::{ErrorList, Path, Report, validate_template_object_meta};

/// What is said of a second source.
const ONE_SOURCE: &str = "may not specify more than 1 volume type";

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks the volumes and answers with those that are right, by name. `metadata` is the pod's, if it is a pod.
pub(super) fn validate<'s>(
    spec: &'s PodSpec,
    metadata: Option<&ObjectMeta>,
    at: &Path,
    errors: &mut ErrorList,
) -> BTreeMap<&'s str, &'s Volume> {
    let pod = metadata.map_or("", name_of);
    let made = spec.volumes.iter().filter(|volume| !pod.is_empty() && volume.ephemeral.is_some());
    let made: BTreeSet<String> = made.map(|volume| format!("{pod}-{}", volume.name)).collect();
    let mut right = BTreeMap::new();
    for (index, volume) in spec.volumes.iter().enumerate() {
        let at = at.index(index);
        let name = volume.name.as_str();
        let mut wrong = ErrorList::new();
        validate_source(volume, metadata, &at, &mut wrong);
        if name.is_empty() {
            wrong.required(&at.child("name"), "");
        } else {
            wrong.invalid_each(&at.child("name"), name, is_dns1123_label(name));
        }
        if right.contains_key(name) {
            wrong.duplicate(&at.child("name"), name);
        }
        if wrong.is_empty() {
            right.insert(name, volume);
        }
        errors.append(&mut wrong);
        if let Some(claim) = &volume.persistent_volume_claim
            && made.contains(&claim.claim_name)
        {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            let at = at.child("persistentVolumeClaim").child("claimName");
            errors.invalid(&at, claim.claim_name.as_str(), why);
        }
    }
    right
}

/// Counts sources: the first is checked, a second is refused.
pub(crate) struct Sources<'e> {
    pub(crate) given: usize,
    pub(crate) errors: &'e mut ErrorList,
}

impl Sources<'_> {
    pub(crate) fn check<T>(&mut self, source: Option<&T>, at: &Path, check: impl FnOnce(&T, &mut ErrorList)) {
        let Some(source) = source else { return };
        if self.given > 0 {
            self.errors.forbidden(at, ONE_SOURCE);
        } else {
            check(source, self.errors);
        }
        self.given += 1;
    }
}

fn validate_source(volume: &Volume, metadata: Option<&ObjectMeta>, at: &Path, errors: &mut ErrorList) {
    let mut sources = Sources { given: 0, errors };
    // In upstream's order. Where a name differs from the field's it is upstream's doing.
    macro_rules! check {
        ($($field:ident at $name:literal $(or $other:literal)? => $check:path;)*) => {$(
            let place = at.child($name);
            let refused = at.child([$($other,)? $name][0]);
            sources.check(volume.$field.as_deref(), &refused, |source, errors| $check(source, &place, errors));
        )*};
    }
    check! {
        empty_dir at "emptyDir" => validate_empty_dir;
        host_path at "hostPath" => validate_host_path;
        git_repo at "gitRepo" => validate_git_repo;
        gce_persistent_disk at "persistentDisk" or "gcePersistentDisk" => cloud::validate_gce;
        aws_elastic_block_store at "awsElasticBlockStore" => cloud::validate_aws;
    }
    sources.check(volume.secret.as_deref(), &at.child("secret"), |secret, errors| {
        let name = ("secretName", secret.secret_name.as_str());
        validate_keys(name, secret.default_mode, &secret.items, &at.child("secret"), errors);
    });
    check! {
        nfs at "nfs" => cloud::validate_nfs;
        iscsi at "iscsi" => cloud::validate_iscsi;
    }
    if let Some(disk) = &volume.iscsi
        && disk.initiator_name.is_some()
        && volume.name.len() + 1 + disk.target_portal.len() > cloud::ISCSI_NAME_MAX
    {
        sources.errors.invalid(&at.child("name"), volume.name.as_str(), cloud::ISCSI_NAME_TOO_LONG);
    }
    check! {
        glusterfs at "glusterfs" => cloud::validate_glusterfs;
        flocker at "flocker" => cloud::validate_flocker;
    }
    let claim = at.child("persistentVolumeClaim");
    sources.check(volume.persistent_volume_claim.as_deref(), &claim, |source, errors| {
        if source.claim_name.is_empty() {
            errors.required(&claim.child("claimName"), "");
        }
    });
    check! {
        rbd at "rbd" => cloud::validate_rbd;
        cinder at "cinder" => cloud::validate_cinder;
        cephfs at "cephfs" or "cephFS" => cloud::validate_cephfs;
        quobyte at "quobyte" => cloud::validate_quobyte;
        downward_api at "downwardAPI" or "downwarAPI" => projected::validate_downward_api;
        fc at "fc" => cloud::validate_fc;
        flex_volume at "flexVolume" => cloud::validate_flex;
    }
    sources.check(volume.config_map.as_deref(), &at.child("configMap"), |map, errors| {
        validate_keys(("name", &map.name), map.default_mode, &map.items, &at.child("configMap"), errors);
    });
    check! {
        azure_file at "azureFile" => cloud::validate_azure_file;
        vsphere_volume at "vsphereVolume" => cloud::validate_vsphere;
        photon_persistent_disk at "photonPersistentDisk" => cloud::validate_photon;
        portworx_volume at "portworxVolume" => cloud::validate_portworx;
        azure_disk at "azureDisk" => cloud::validate_azure_disk;
        storageos at "storageos" => cloud::validate_storageos;
        projected at "projected" => projected::validate;
        scale_io at "scaleIO" => cloud::validate_scale_io;
        csi at "csi" => cloud::validate_csi;
    }
    sources.check(volume.ephemeral.as_deref(), &at.child("ephemeral"), |source, errors| {
        validate_ephemeral(source, &at.child("ephemeral"), errors);
        let pod = metadata.map_or("", name_of);
        if !pod.is_empty() && !volume.name.is_empty() {
            let claim = format!("{pod}-{}", volume.name);
            for why in is_dns1123_subdomain(&claim) {
                errors.invalid(&at.child("name"), volume.name.as_str(), format!("PVC name {claim:?}: {why}"));
            }
        }
    });
    sources.check(volume.image.as_deref(), &at.child("image"), |source, errors| {
        validate_image(source, metadata.is_some(), &at.child("image"), errors);
    });
    if sources.given == 0 {
        sources.errors.required(at, "must specify a volume type");
    }
}

fn validate_empty_dir(source: &EmptyDirVolumeSource, at: &Path, errors: &mut ErrorList) {
    if source.size_limit.as_ref().is_some_and(|limit| limit.sign() < 0) {
        errors.forbidden(&at.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
}

/// Checks a path of the node.
pub(crate) fn validate_host_path(source: &HostPathVolumeSource, at: &Path, errors: &mut ErrorList) {
    if source.path.is_empty() {
        errors.required(&at.child("path"), "");
        return;
    }
    validate_no_backsteps(&source.path, &at.child("path"), errors);
    if let Some(type_) = &source.type_
        && !HOST_PATH_TYPES.contains(&type_.as_str())
    {
        errors.not_supported(&at.child("type"), type_.as_str(), &HOST_PATH_TYPES);
    }
}

fn validate_git_repo(source: &GitRepoVolumeSource, at: &Path, errors: &mut ErrorList) {
    if source.repository.is_empty() {
        errors.required(&at.child("repository"), "");
    }
    validate_local_descending_path(&source.directory, &at.child("directory"), errors);
}

/// Checks a map or secret whose keys become files.
fn validate_keys(name: (&str, &str), mode: Option<i32>, items: &[KeyToPath], at: &Path, errors: &mut ErrorList) {
    if name.1.is_empty() {
        errors.required(&at.child(name.0), "");
    }
    validate_mode(mode, &at.child("defaultMode"), errors);
    for (index, item) in items.iter().enumerate() {
        validate_key_to_path(item, &at.child("items").index(index), errors);
    }
}

/// Checks a key that becomes a file.
pub(super) fn validate_key_to_path(item: &KeyToPath, at: &Path, errors: &mut ErrorList) {
    if item.key.is_empty() {
        errors.required(&at.child("key"), "");
    }
    if item.path.is_empty() {
        errors.required(&at.child("path"), "");
    }
    validate_local_non_reserved_path(&item.path, &at.child("path"), errors);
    validate_mode(item.mode, &at.child("mode"), errors);
}

/// Checks mode bits of files.
pub(super) fn validate_mode(mode: Option<i32>, at: &Path, errors: &mut ErrorList) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(at, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn validate_ephemeral(source: &EphemeralVolumeSource, at: &Path, errors: &mut ErrorList) {
    let at = at.child("volumeClaimTemplate");
    match &source.volume_claim_template {
        None => errors.required(&at, ""),
        Some(template) => {
            validate_template_object_meta(&template.metadata, &at.child("metadata"), errors);
            validate_claim_spec(&template.spec, &at.child("spec"), errors);
        }
    }
}

fn validate_image(source: &ImageVolumeSource, is_pod: bool, at: &Path, errors: &mut ErrorList) {
    if is_pod && source.reference.is_empty() {
        errors.required(&at.child("reference"), "");
    }
    containers::validate_pull_policy(&source.pull_policy, &at.child("pullPolicy"), errors);
}
