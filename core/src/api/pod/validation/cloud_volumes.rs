//! Sources of volumes that are somewhere else: clouds, servers, plug-ins.

use crate::api::LocalObjectReference;
use crate::api::pod::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, AzureFileVolumeSource, CSIVolumeSource,
    CephFSVolumeSource, CinderVolumeSource, FCVolumeSource, FlexVolumeSource, FlockerVolumeSource,
    GCEPersistentDiskVolumeSource, GlusterfsVolumeSource, ISCSIVolumeSource, NFSVolumeSource,
    PhotonPersistentDiskVolumeSource, PortworxVolumeSource, QuobyteVolumeSource, RBDVolumeSource, ScaleIOVolumeSource,
    StorageOSVolumeSource, VsphereVirtualDiskVolumeSource,
};
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::validation::{ErrorList, Path, Report};

/// Most bytes that the names of a volume and its iSCSI target may have together.
pub(crate) const ISCSI_NAME_MAX: usize = 64;
pub(crate) const ISCSI_NAME_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters \
     if iscsi.initiatorName is specified.";
const DRIVER_NAME_MAX: usize = 63;

/// Demands fields that are not empty.
pub(crate) fn require(fields: &[(&str, &str)], at: &Path, errors: &mut ErrorList) {
    for (field, _) in fields.iter().filter(|(_, value)| value.is_empty()) {
        errors.required(&at.child(field), "");
    }
}

/// Demands the name of a secret that is referred to.
fn require_secret_name(secret: Option<&LocalObjectReference>, at: &Path, errors: &mut ErrorList) {
    if secret.is_some_and(|secret| secret.name.is_empty()) {
        errors.required(&at.child("secretRef").child("name"), "");
    }
}

fn validate_partition(partition: i32, at: &Path, errors: &mut ErrorList) {
    if !(0..=255).contains(&partition) {
        errors.invalid(&at.child("partition"), partition, "must be between 1 and 255, inclusive");
    }
}

pub(crate) fn validate_gce(source: &GCEPersistentDiskVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("pdName", &source.pd_name)], at, errors);
    validate_partition(source.partition, at, errors);
}

pub(crate) fn validate_aws(source: &AWSElasticBlockStoreVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("volumeID", &source.volume_id)], at, errors);
    validate_partition(source.partition, at, errors);
}

pub(crate) fn validate_nfs(source: &NFSVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("server", &source.server), ("path", &source.path)], at, errors);
    if !source.path.starts_with('/') {
        errors.invalid(&at.child("path"), source.path.as_str(), "must be an absolute path");
    }
}

pub(crate) fn validate_iscsi(source: &ISCSIVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("targetPortal", &source.target_portal)], at, errors);
    if source.iqn.is_empty() {
        errors.required(&at.child("iqn"), "");
    } else {
        validate_iscsi_name(&source.iqn, &at.child("iqn"), errors);
    }
    validate_lun(source.lun, &at.child("lun"), errors);
    if (source.chap_auth_discovery || source.chap_auth_session) && source.secret_ref.is_none() {
        errors.required(&at.child("secretRef"), "");
    }
    if let Some(name) = &source.initiator_name {
        validate_iscsi_name(name, &at.child("initiatorname"), errors);
    }
}

/// Checks the number of a unit.
pub(crate) fn validate_lun(lun: i32, at: &Path, errors: &mut ErrorList) {
    if !(0..=255).contains(&lun) {
        errors.invalid(at, lun, "must be between 0 and 255, inclusive");
    }
}

/// Checks the name of an iSCSI target or initiator.
pub(crate) fn validate_iscsi_name(name: &str, at: &Path, errors: &mut ErrorList) {
    let right = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        // The separator may be anything, as in upstream's expression.
        Some("eui") => is_hex_name(name, 16),
        Some("naa") => is_hex_name(name, 32),
        _ => {
            errors.invalid(at, name, "must be valid format starting with iqn, eui, or naa");
            return;
        }
    };
    if !right {
        errors.invalid(at, name, "must be valid format");
    }
}

/// `iqn.`, year and month, a domain turned round, a colon and anything but separators of lists.
fn is_iqn(name: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = name.strip_prefix("iqn.") else { return false };
    let (Some(year), Some(month), Some(rest)) = (rest.get(..4), rest.get(5..7), rest.get(8..)) else { return false };
    let separated = rest.len() + 8 == name.len() - 4 && name.as_bytes()[8] == b'-' && name.as_bytes()[11] == b'.';
    let Some((domain, own)) = rest.split_once(':') else { return false };
    let in_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let in_name = |c: char| !c.is_whitespace() && !",;*&$|".contains(c);
    digits(year)
        && digits(month)
        && separated
        && !domain.is_empty()
        && domain.chars().all(in_domain)
        && !own.is_empty()
        && own.chars().all(in_name)
}

fn is_hex_name(name: &str, length: usize) -> bool {
    let rest: Vec<char> = name.chars().skip(4).collect();
    rest.len() == length && rest.iter().all(char::is_ascii_alphanumeric)
}

pub(crate) fn validate_glusterfs(source: &GlusterfsVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("endpoints", &source.endpoints), ("path", &source.path)], at, errors);
}

pub(crate) fn validate_flocker(source: &FlockerVolumeSource, at: &Path, errors: &mut ErrorList) {
    match (source.dataset_name.is_empty(), source.dataset_uuid.is_empty()) {
        (true, true) => errors.required(at, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            errors.invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously");
        }
        _ => {}
    }
    if source.dataset_name.contains('/') {
        errors.invalid(&at.child("datasetName"), source.dataset_name.as_str(), "must not contain '/'");
    }
}

pub(crate) fn validate_rbd(source: &RBDVolumeSource, at: &Path, errors: &mut ErrorList) {
    if source.monitors.is_empty() {
        errors.required(&at.child("monitors"), "");
    }
    require(&[("image", &source.image)], at, errors);
}

pub(crate) fn validate_cinder(source: &CinderVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("volumeID", &source.volume_id)], at, errors);
    require_secret_name(source.secret_ref.as_ref(), at, errors);
}

pub(crate) fn validate_cephfs(source: &CephFSVolumeSource, at: &Path, errors: &mut ErrorList) {
    if source.monitors.is_empty() {
        errors.required(&at.child("monitors"), "");
    }
}

pub(crate) fn validate_quobyte(source: &QuobyteVolumeSource, at: &Path, errors: &mut ErrorList) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    if source.registry.is_empty() {
        errors.required(&at.child("registry"), PAIRS);
    } else if source.tenant.len() >= 65 {
        errors.required(&at.child("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for _ in source.registry.split(',').filter(|pair| !is_host_port(pair)) {
            errors.invalid(&at.child("registry"), source.registry.as_str(), PAIRS);
        }
    }
    require(&[("volume", &source.volume)], at, errors);
}

fn is_host_port(pair: &str) -> bool {
    match pair.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') => host.ends_with(']'),
        Some((host, _)) => !host.contains([':', '[', ']']),
        None => false,
    }
}

pub(crate) fn validate_fc(source: &FCVolumeSource, at: &Path, errors: &mut ErrorList) {
    let (names, ids) = (&source.target_wwns, &source.wwids);
    if names.is_empty() && ids.is_empty() {
        errors.required(&at.child("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
    }
    if !names.is_empty() && !ids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&at.child("targetWWNs"), names.clone(), why);
    }
    if !names.is_empty() {
        match source.lun {
            None => errors.required(&at.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) => validate_lun(lun, &at.child("lun"), errors),
        }
    }
}

pub(crate) fn validate_flex(source: &FlexVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("driver", &source.driver)], at, errors);
    validate_flex_options(source.options.keys(), &at.child("options"), errors);
}

/// Options of a plug-in may not be in Kubernetes' own domains.
pub(crate) fn validate_flex_options<'k>(keys: impl Iterator<Item = &'k String>, at: &Path, errors: &mut ErrorList) {
    for key in keys {
        let domain = key.split('/').next().unwrap_or_default();
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&at.key(key), key.as_str(), why);
        }
    }
}

pub(crate) fn validate_azure_file(source: &AzureFileVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("secretName", &source.secret_name), ("shareName", &source.share_name)], at, errors);
}

pub(crate) fn validate_azure_disk(source: &AzureDiskVolumeSource, at: &Path, errors: &mut ErrorList) {
    const CACHING: [&str; 3] = ["None", "ReadOnly", "ReadWrite"];
    const KINDS: [&str; 3] = ["Dedicated", "Managed", "Shared"];
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    require(&[("diskName", &source.disk_name), ("diskURI", &source.disk_uri)], at, errors);
    if let Some(mode) = source.caching_mode.as_deref().filter(|mode| !CACHING.contains(mode)) {
        errors.not_supported(&at.child("cachingMode"), mode, &CACHING);
    }
    let Some(kind) = source.kind.as_deref() else { return };
    if !KINDS.contains(&kind) {
        errors.not_supported(&at.child("kind"), kind, &KINDS);
    }
    let (prefix, shape) = if kind == "Managed" { ("/subscriptions/", MANAGED) } else { ("https://", BLOB) };
    if !source.disk_uri.starts_with(prefix) {
        errors.not_supported(&at.child("diskURI"), source.disk_uri.as_str(), &[shape]);
    }
}

pub(crate) fn validate_vsphere(source: &VsphereVirtualDiskVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("volumePath", &source.volume_path)], at, errors);
}

pub(crate) fn validate_photon(source: &PhotonPersistentDiskVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("pdID", &source.pd_id)], at, errors);
}

pub(crate) fn validate_portworx(source: &PortworxVolumeSource, at: &Path, errors: &mut ErrorList) {
    require(&[("volumeID", &source.volume_id)], at, errors);
}

pub(crate) fn validate_scale_io(source: &ScaleIOVolumeSource, at: &Path, errors: &mut ErrorList) {
    let fields = [("gateway", &*source.gateway), ("system", &source.system), ("volumeName", &source.volume_name)];
    require(&fields, at, errors);
}

pub(crate) fn validate_storageos(source: &StorageOSVolumeSource, at: &Path, errors: &mut ErrorList) {
    let (name, namespace) = (source.volume_name.as_str(), source.volume_namespace.as_str());
    if name.is_empty() {
        errors.required(&at.child("volumeName"), "");
    } else {
        errors.invalid_each(&at.child("volumeName"), name, is_dns1123_label(name));
    }
    if !namespace.is_empty() {
        errors.invalid_each(&at.child("volumeNamespace"), namespace, is_dns1123_label(namespace));
    }
    require_secret_name(source.secret_ref.as_ref(), at, errors);
}

pub(crate) fn validate_csi(source: &CSIVolumeSource, at: &Path, errors: &mut ErrorList) {
    validate_csi_driver_name(&source.driver, &at.child("driver"), errors);
    if let Some(secret) = &source.node_publish_secret_ref {
        if secret.name.is_empty() {
            errors.required(&at.child("nodePublishSecretRef").child("name"), "");
        } else {
            errors.invalid_each(&at.child("name"), &secret.name, is_dns1123_subdomain(&secret.name));
        }
    }
}

/// Checks the name of a CSI driver.
pub(crate) fn validate_csi_driver_name(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.required(at, "");
    }
    if name.len() > DRIVER_NAME_MAX {
        errors.too_long(at, DRIVER_NAME_MAX);
    }
    errors.invalid_each(at, name, is_dns1123_subdomain(&name.to_lowercase()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iscsi_names_have_three_forms() {
        let wrong = |name: &str| {
            let mut errors = ErrorList::new();
            validate_iscsi_name(name, &Path::new("iqn"), &mut errors);
            errors.into_iter().map(|error| error.detail).next()
        };
        for right in ["iqn.2015-02.example.com:test", "eui.0123456789abcdef", "naa.62004567ba64678d0123456789abcdef"] {
            assert_eq!(wrong(right), None, "{right}");
        }
        for bad in ["iqn.2015-02.example.com", "iqn.20-02.example.com:x", "iqn.2015-02.a:b,c", "eui.01", "naa.x"] {
            assert_eq!(wrong(bad).as_deref(), Some("must be valid format"), "{bad}");
        }
        assert_eq!(wrong("x").as_deref(), Some("must be valid format starting with iqn, eui, or naa"));
    }
}
