//! The list.

use super::Effect::{Ignored, Refused};
use super::{Effect, Field};

const fn pod(path: &'static str, value: Option<&'static str>, effect: Effect, why: &'static str) -> Field {
    Field { kind: "Pod", path, value, effect, why }
}

const fn volume(path: &'static str) -> Field {
    pod(
        path,
        None,
        Refused,
        "volumes are emptyDir, hostPath, nfs, claims, configMap, secret, downwardAPI and projected from the last three and tokens",
    )
}

const fn other(kind: &'static str, path: &'static str, effect: Effect, why: &'static str) -> Field {
    Field { kind, path, value: None, effect, why }
}

const SE_LINUX: &str = "processes get no SELinux label";
const WINDOWS: &str = "nodes run Linux";
const LOCAL_PROFILE: &str = "profiles are not read from the node";

/// Every field that Longshore knows but does not act on yet. What a part learns to act on goes from here.
pub static FIELDS: &[Field] = &[
    // Placement.
    pod("spec.resourceClaims", None, Refused, "devices cannot be claimed yet"),
    pod("spec.{containers}.resources.claims", None, Refused, "devices cannot be claimed yet"),
    pod("spec.workloadRef", None, Refused, "pods of a workload are not placed together yet"),
    pod("spec.runtimeClassName", None, Refused, "a node has one runtime"),
    pod("spec.os.name", Some("windows"), Refused, WINDOWS),
    // Safety.
    pod("spec.hostUsers", Some("false"), Refused, "pods have no user namespaces of their own yet"),
    pod("spec.securityContext.seLinuxOptions", None, Refused, SE_LINUX),
    pod("spec.{containers}.securityContext.seLinuxOptions", None, Refused, SE_LINUX),
    pod("spec.securityContext.appArmorProfile.type", Some("Localhost"), Refused, LOCAL_PROFILE),
    pod("spec.{containers}.securityContext.appArmorProfile.type", Some("Localhost"), Refused, LOCAL_PROFILE),
    pod("spec.securityContext.windowsOptions", None, Ignored, WINDOWS),
    pod("spec.{containers}.securityContext.windowsOptions", None, Ignored, WINDOWS),
    // Data.
    volume("spec.volumes[*].awsElasticBlockStore"),
    volume("spec.volumes[*].azureDisk"),
    volume("spec.volumes[*].azureFile"),
    volume("spec.volumes[*].cephfs"),
    volume("spec.volumes[*].cinder"),
    volume("spec.volumes[*].csi"),
    volume("spec.volumes[*].fc"),
    volume("spec.volumes[*].flexVolume"),
    volume("spec.volumes[*].flocker"),
    volume("spec.volumes[*].gcePersistentDisk"),
    volume("spec.volumes[*].gitRepo"),
    volume("spec.volumes[*].glusterfs"),
    volume("spec.volumes[*].image"),
    volume("spec.volumes[*].iscsi"),
    volume("spec.volumes[*].photonPersistentDisk"),
    volume("spec.volumes[*].portworxVolume"),
    volume("spec.volumes[*].quobyte"),
    volume("spec.volumes[*].rbd"),
    volume("spec.volumes[*].scaleIO"),
    volume("spec.volumes[*].storageos"),
    volume("spec.volumes[*].vsphereVolume"),
    volume("spec.volumes[*].projected.sources[*].clusterTrustBundle"),
    volume("spec.volumes[*].projected.sources[*].podCertificate"),
    pod("spec.volumes[*].emptyDir.medium", Some("HugePages"), Refused, "an emptyDir is on disk or in memory"),
    pod("spec.{containers}.volumeDevices", None, Refused, "there are no block devices for pods yet"),
    other("PersistentVolumeClaim", "spec.dataSourceRef", Refused, "volumes start empty"),
    // What works without.
    Field {
        kind: "StorageClass",
        path: "allowVolumeExpansion",
        value: Some("true"),
        effect: Ignored,
        why: "volumes do not grow yet",
    },
    other("ResourceQuota", "spec.hard", Ignored, "quotas are not enforced yet"),
    other("LimitRange", "spec.limits", Ignored, "limits are not enforced yet"),
];
