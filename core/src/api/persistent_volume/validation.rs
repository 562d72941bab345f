//! What persistent volumes may say, and what of them may change, in upstream's words.

use super::{PersistentVolume, PersistentVolumeSpec, VolumeNodeAffinity, source_validation as own};
use crate::api::persistent_volume_claim::PersistentVolumeMode;
use crate::api::persistent_volume_claim::validation::{VOLUME_MODES, validate_access_modes};
use crate::api::pod::validation::{Sources, cloud_volumes as cloud, validate_host_path, validate_node_selector};
use crate::api::rules;
use crate::api::storage_class::PersistentVolumeReclaimPolicy;
use crate::validation::names::is_dns1123_subdomain;
use crate::validation::resources::{validate_basic_quantity, validate_positive_quantity};
use crate::validation::{ErrorList, NameRule, Path, Report, diff, json};

/// What can become of a volume, sorted.
const RECLAIM_POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];

/// Checks a new volume.
pub(super) fn validate(volume: &PersistentVolume) -> ErrorList {
    let mut errors = rules::validate(volume, NameRule::DnsSubdomain);
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    validate_spec(&volume.spec, name, &Path::new("spec"), &mut errors);
    errors
}

fn validate_spec(spec: &PersistentVolumeSpec, name: &str, at: &Path, errors: &mut ErrorList) {
    if spec.access_modes.is_empty() {
        errors.required(&at.child("accessModes"), "");
    }
    validate_access_modes(&spec.access_modes, &at.child("accessModes"), errors);
    validate_capacity(spec, &at.child("capacity"), errors);
    let policy = &spec.persistent_volume_reclaim_policy;
    let at_policy = at.child("persistentVolumeReclaimPolicy");
    if !policy.is_unset() && !policy.is_known() {
        errors.not_supported(&at_policy, policy.as_str(), &RECLAIM_POLICIES);
    }
    if let Some(affinity) = &spec.node_affinity {
        validate_affinity(affinity, &at.child("nodeAffinity"), errors);
    }
    validate_source(spec, name, at, errors);
    let is_root = spec.host_path.as_ref().is_some_and(|source| is_root(&source.path));
    if is_root && *policy == PersistentVolumeReclaimPolicy::Recycle {
        errors.forbidden(&at_policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = &spec.storage_class_name;
    if !class.is_empty() {
        errors.invalid_each(&at.child("storageClassName"), class, is_dns1123_subdomain(class));
    }
    if let Some(mode) = spec.volume_mode.as_ref().filter(|mode| !mode.is_known()) {
        errors.not_supported(&at.child("volumeMode"), mode.as_str(), &VOLUME_MODES);
    }
    if let Some(class) = &spec.volume_attributes_class_name {
        let at_class = at.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&at_class, "an empty string is disallowed");
        } else {
            errors.invalid_each(&at_class, class, is_dns1123_subdomain(class));
        }
        if spec.csi.is_none() {
            errors.required(&at.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn validate_capacity(spec: &PersistentVolumeSpec, at: &Path, errors: &mut ErrorList) {
    let capacity = &spec.capacity;
    if capacity.is_empty() {
        errors.required(at, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.not_supported(at, json(capacity), &["storage"]);
    }
    for (name, amount) in capacity {
        validate_basic_quantity(amount, &at.key(name), errors);
        validate_positive_quantity(amount, &at.key(name), errors);
    }
}

fn validate_affinity(affinity: &VolumeNodeAffinity, at: &Path, errors: &mut ErrorList) {
    let at = at.child("required");
    match &affinity.required {
        None => errors.required(&at, "must specify required node constraints"),
        Some(selector) => validate_node_selector(selector, &at, errors),
    }
}

/// Whether a path is that of everything, however it is written.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        depth = if part == ".." { depth.saturating_sub(1) } else { depth + 1 };
    }
    path.starts_with('/') && depth == 0
}

fn validate_source(spec: &PersistentVolumeSpec, name: &str, at: &Path, errors: &mut ErrorList) {
    let mut sources = Sources { given: 0, errors };
    // In upstream's order. Where a name differs from the field's it is upstream's doing.
    macro_rules! check {
        ($($field:ident at $name:literal $(or $other:literal)? => $check:path;)*) => {$(
            let place = at.child($name);
            let refused = at.child([$($other,)? $name][0]);
            sources.check(spec.$field.as_deref(), &refused, |source, errors| $check(source, &place, errors));
        )*};
    }
    check! {
        host_path at "hostPath" => validate_host_path;
        gce_persistent_disk at "persistentDisk" or "gcePersistentDisk" => cloud::validate_gce;
        aws_elastic_block_store at "awsElasticBlockStore" => cloud::validate_aws;
        glusterfs at "glusterfs" => own::validate_glusterfs;
        flocker at "flocker" => cloud::validate_flocker;
        nfs at "nfs" => cloud::validate_nfs;
        rbd at "rbd" => own::validate_rbd;
        quobyte at "quobyte" => cloud::validate_quobyte;
        cephfs at "cephfs" or "cephFS" => own::validate_cephfs;
    }
    let iscsi = at.child("iscsi");
    sources.check(spec.iscsi.as_deref(), &iscsi, |source, errors| own::validate_iscsi(source, name, &iscsi, errors));
    check! {
        cinder at "cinder" => own::validate_cinder;
        fc at "fc" => cloud::validate_fc;
    }
    if let Some(source) = &spec.flex_volume {
        // Upstream lets it stand beside another one.
        own::validate_flex(source, &at.child("flexVolume"), sources.errors);
        sources.given += 1;
    }
    check! {
        azure_file at "azureFile" => own::validate_azure_file;
        vsphere_volume at "vsphereVolume" => cloud::validate_vsphere;
        photon_persistent_disk at "photonPersistentDisk" => cloud::validate_photon;
        portworx_volume at "portworxVolume" => cloud::validate_portworx;
        azure_disk at "azureDisk" => cloud::validate_azure_disk;
        scale_io at "scaleIO" => own::validate_scale_io;
    }
    let bound = spec.node_affinity.as_ref().is_some_and(|affinity| affinity.required.is_some());
    sources.check(spec.local.as_deref(), &at.child("local"), |source, errors| {
        own::validate_local(source, &at.child("local"), errors);
        if !bound {
            errors.required(&at.child("nodeAffinity"), "Local volume requires node affinity");
        }
    });
    check! {
        storageos at "storageos" => own::validate_storageos;
        csi at "csi" => own::validate_csi;
    }
    if sources.given == 0 {
        sources.errors.required(at, "must specify a volume type");
    }
}

/// Checks an update through the volume's own path: upstream checks the volume itself twice.
pub(super) fn validate_update(new: &PersistentVolume, old: &PersistentVolume) -> ErrorList {
    let mut errors = validate(new);
    errors.extend(validate(new));
    let (mut now, before) = (source_of(&new.spec), source_of(&old.spec));
    if let (Some(now), Some(before)) = (&mut now.csi, &before.csi)
        && before.controller_expand_secret_ref.is_none()
    {
        now.controller_expand_secret_ref = None;
    }
    let at = Path::new("spec");
    if now != before {
        let why = format!("spec.persistentvolumesource is immutable after creation\n{}", diff(&before, &now));
        errors.forbidden(&at.child("persistentvolumesource"), why);
    }
    errors.immutable(&Path::new("volumeMode"), &new.spec.volume_mode, &old.spec.volume_mode);
    if let Some(before) = &old.spec.node_affinity {
        validate_affinity_update(new.spec.node_affinity.as_ref(), before, &mut errors);
    }
    if old.spec.volume_attributes_class_name.is_some() && new.spec.volume_attributes_class_name.is_none() {
        let why = "update from non-nil value to nil is forbidden";
        errors.forbidden(&at.child("volumeAttributesClassName"), why);
    }
    errors
}

/// The source, with the rest left out.
fn source_of(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    PersistentVolumeSpec {
        capacity: Default::default(),
        access_modes: Vec::new(),
        claim_ref: None,
        persistent_volume_reclaim_policy: PersistentVolumeReclaimPolicy::default(),
        storage_class_name: String::new(),
        mount_options: Vec::new(),
        volume_mode: None::<PersistentVolumeMode>,
        node_affinity: None,
        volume_attributes_class_name: None,
        ..spec.clone()
    }
}

/// The nodes stay the same, only that labels of nodes that were renamed may be named anew.
fn validate_affinity_update(new: Option<&VolumeNodeAffinity>, old: &VolumeNodeAffinity, errors: &mut ErrorList) {
    const RENAMED: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    let mut renamed = old.clone();
    let terms = renamed.required.iter_mut().flat_map(|selector| &mut selector.node_selector_terms);
    let news = new.and_then(|new| new.required.as_ref()).into_iter().flat_map(|new| &new.node_selector_terms);
    for (term, new) in terms.zip(news) {
        for (requirement, new) in term.match_expressions.iter_mut().zip(&new.match_expressions) {
            if RENAMED.contains(&(requirement.key.as_str(), new.key.as_str())) {
                requirement.key.clone_from(&new.key);
            }
        }
    }
    if new != Some(&renamed) {
        let why = format!("{}, except for updating from beta label to GA", crate::validation::FIELD_IMMUTABLE);
        errors.invalid(&Path::new("nodeAffinity"), new.map_or_else(Default::default, crate::validation::go_value), why);
    }
}

/// Checks an update through `status`.
pub(super) fn validate_status_update(new: &PersistentVolume, old: &PersistentVolume) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    rules::require_resource_version(new, &mut errors);
    errors
}
