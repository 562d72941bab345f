use std::os::unix::fs::{PermissionsExt, symlink};

use jiff::Timestamp;
use longshore_core::api::pod::{EmptyDirVolumeSource, HostPathVolumeSource};
use longshore_core::api::{ConfigMap, Secret};
use longshore_core::client::params::PostParams;
use serde_json::json;

use super::atomic_writer::{File, write};
use super::*;
use crate::testing::{World, pod, quantities};
use crate::tokens::Tokens;

const STAMP: Timestamp = Timestamp::constant(1_735_689_600, 0);

fn payload(files: &[(&str, &str)]) -> Payload {
    let file = |content: &str| File { content: content.as_bytes().to_vec(), mode: 0o644, owner: None };
    files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with(".."));
    names.sort();
    names
}

#[test]
fn files_change_all_at_once() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("volume");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    write(&root, &payload(&[("a", "1"), ("sub/b", "2")]), None, STAMP).unwrap();
    assert_eq!((read("a"), read("sub/b")), ("1".into(), "2".into()));
    assert_eq!(names(&root), ["a", "sub"]);
    let first = fs::read_link(root.join("..data")).unwrap();
    write(&root, &payload(&[("a", "1"), ("sub/b", "2")]), None, STAMP).unwrap();
    assert_eq!(fs::read_link(root.join("..data")).unwrap(), first, "what is right is not touched");
    write(&root, &payload(&[("a", "3"), ("c", "4")]), None, STAMP).unwrap();
    assert_eq!((read("a"), read("c")), ("3".into(), "4".into()));
    assert_eq!(names(&root), ["a", "c"]);
    assert!(!root.join(first).exists(), "the old files are gone");
    assert_eq!(fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o777, 0o644);
    write(&root, &Payload::new(), None, STAMP).unwrap();
    assert_eq!(names(&root), Vec::<String>::new());
}

#[test]
fn what_an_agent_left_that_died_is_in_nobodys_way() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    fs::create_dir(root.join(format!("..{}.0", STAMP.as_nanosecond()))).unwrap();
    symlink("nowhere", root.join("..data_tmp")).unwrap();
    symlink("..data/a", root.join("a")).unwrap();
    write(root, &payload(&[("a", "1")]), None, STAMP).unwrap();
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "1");
}

#[test]
fn files_cannot_lie_outside_their_volume() {
    let temporary = tempfile::tempdir().unwrap();
    for path in ["../a", "a/../../b", "/etc/x", "..data", "", "a/./b/../c"] {
        assert!(write(temporary.path(), &payload(&[(path, "1")]), None, STAMP).is_err(), "{path}");
    }
}

#[test]
fn an_empty_directory_keeps_what_the_pod_put_there() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("volume");
    empty_dir::make(&path, &EmptyDirVolumeSource::default(), None, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o777);
    fs::write(path.join("mine"), "x").unwrap();
    empty_dir::make(&path, &EmptyDirVolumeSource::default(), None, None).unwrap();
    assert_eq!(fs::read_to_string(path.join("mine")).unwrap(), "x");
}

#[tokio::test]
async fn a_directory_in_memory_is_unmounted_before_it_is_removed() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: mounting needs root");
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("pod").join("volumes").join("memory");
    let source: EmptyDirVolumeSource = serde_json::from_value(json!({"medium": "Memory", "sizeLimit": "1Mi"})).unwrap();
    if let Err(error) = empty_dir::make(&path, &source, Some(2 << 20), None) {
        println!("SKIPPED: cannot mount here: {error}");
        return;
    }
    fs::write(path.join("mine"), "x").unwrap();
    empty_dir::make(&path, &source, Some(2 << 20), None).unwrap();
    assert_eq!(fs::read_to_string(path.join("mine")).unwrap(), "x", "not mounted twice");
    assert!(fs::write(path.join("big"), vec![0; 2 << 20]).is_err(), "the limit holds");
    remove(temporary.path().join("pod"), None).await.unwrap();
    assert!(!temporary.path().join("pod").exists());
}

#[test]
fn paths_of_the_node_are_what_their_type_says() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str, type_: &str| {
        let path = temporary.path().join(name).display().to_string();
        let source: HostPathVolumeSource = serde_json::from_value(json!({"path": path, "type": type_})).unwrap();
        host_path::check(&source)
    };
    assert!(at("no", "Directory").unwrap_err().starts_with("hostPath type check failed: "));
    at("made/deep", "DirectoryOrCreate").unwrap();
    at("made/deep", "Directory").unwrap();
    assert!(at("made/deep", "File").is_err());
    at("file", "FileOrCreate").unwrap();
    at("file", "File").unwrap();
    assert!(at("file", "Socket").is_err());
    assert!(at("file", "DirectoryOrCreate").is_err());
    at("file", "").unwrap();
    at("absent", "").unwrap();
    at("absent", "Directory").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(temporary.path().join("socket")).unwrap();
    at("socket", "Socket").unwrap();
    for wrong in ["File", "Directory", "FileOrCreate", "CharDevice", "BlockDevice"] {
        assert!(at("socket", wrong).is_err(), "{wrong}");
    }
    at("/dev/null", "CharDevice").unwrap();
    assert_eq!(
        at("/dev/null", "BlockDevice").unwrap_err(),
        "hostPath type check failed: /dev/null is not a block device"
    );
}

#[test]
fn a_volume_is_given_to_the_pods_group_once() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("volume");
    fs::create_dir_all(root.join("deep")).unwrap();
    fs::write(root.join("deep/file"), "x").unwrap();
    fs::set_permissions(root.join("deep/file"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    // A group that whoever runs this is in.
    let group = nix::unistd::getegid().as_raw();
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    let outside = fs::metadata("/etc/passwd").unwrap().permissions().mode();
    ownership::give(&root, group).unwrap();
    assert_eq!((mode("."), mode("deep"), mode("deep/file")), (0o2775, 0o2775, 0o660));
    assert_eq!(fs::metadata("/etc/passwd").unwrap().permissions().mode(), outside);
    fs::set_permissions(root.join("deep/file"), fs::Permissions::from_mode(0o600)).unwrap();
    ownership::give(&root, group).unwrap();
    assert_eq!(mode("deep/file"), 0o600, "what the pod did with its files since is its own business");
}

#[test]
fn an_export_that_cannot_be_mounted_says_why() {
    let temporary = tempfile::tempdir().unwrap();
    let known = fs::read_to_string("/proc/filesystems").unwrap().contains("nfs4");
    if known || !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root, and a kernel without NFS");
        return;
    }
    let source = serde_json::from_value(json!({"server": "127.0.0.1", "path": "/data"})).unwrap();
    let error = nfs::make(&temporary.path().join("v"), &source, &["ro".to_owned()]).unwrap_err();
    let text = "cannot mount 127.0.0.1:/data: the kernel of this node has no NFS (no nfs4 in /proc/filesystems)";
    assert_eq!(error, text);
}

#[test]
fn a_part_of_a_volume_never_lies_outside() {
    let temporary = tempfile::tempdir().unwrap();
    let volume = temporary.path().join("volume");
    fs::create_dir_all(volume.join("inside")).unwrap();
    fs::create_dir_all(temporary.path().join("outside")).unwrap();
    symlink("../outside", volume.join("escape")).unwrap();
    symlink("/etc", volume.join("absolute")).unwrap();
    symlink("inside", volume.join("harmless")).unwrap();
    for path in ["inside", "harmless", "new/and/deep", "inside/new"] {
        sub_path::open_inside(&volume, path).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(volume.join("new/and/deep").is_dir());
    for path in ["escape", "escape/x", "absolute/passwd", "../outside", "/etc", "inside/../../outside"] {
        assert!(sub_path::open_inside(&volume, path).is_err(), "{path}");
    }
    assert!(!temporary.path().join("outside").join("x").exists());
}

#[tokio::test]
async fn volumes_are_made_from_objects() {
    let world = World::new();
    let params = PostParams::default();
    let map = json!({"metadata": {"name": "map"}, "data": {"a": "1", "b": "2"}});
    let secret = json!({"metadata": {"name": "secret"}, "data": {"key": "c2VjcmV0"}});
    world.api::<ConfigMap>().create(serde_json::from_value(map).unwrap(), &params).await.unwrap();
    world.api::<Secret>().create(serde_json::from_value(secret).unwrap(), &params).await.unwrap();
    let of = |volume: serde_json::Value| {
        let (client, clock) = (world.client(), world.clock.clone());
        async move {
            let mut volume = volume;
            volume["name"] = json!("v");
            let pod = pod("p", json!({"volumes": [volume]}));
            let mut sources = Sources::new(client.clone(), "ns");
            let tokens = Tokens::new(client, Arc::new(clock));
            let (place, allocatable) = (Place::default(), quantities(&[("cpu", "4")]));
            payload::payload(&pod, &pod.spec.volumes[0], &mut sources, &tokens, &place, &allocatable).await
        }
    };
    let all = of(json!({"configMap": {"name": "map", "defaultMode": 0o400}})).await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(all["a"].mode, 0o400);
    let some =
        of(json!({"configMap": {"name": "map", "items": [{"key": "b", "path": "x/y", "mode": 0o600}]}})).await.unwrap();
    assert_eq!(some["x/y"], File { content: b"2".to_vec(), mode: 0o600, owner: None });
    let projected = of(json!({"projected": {"sources": [
        {"secret": {"name": "secret"}},
        {"configMap": {"name": "absent", "optional": true}},
        {"downwardAPI": {"items": [
            {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
            {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}},
        ]}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
    ]}}))
    .await
    .unwrap();
    let text = |path: &str| String::from_utf8(projected[path].content.clone()).unwrap();
    assert_eq!((text("key"), text("name"), text("cpu")), ("secret".into(), "p".into(), "4".into()));
    assert!(text("token").starts_with("ns/"), "{}", text("token"));
    for (volume, expected) in [
        (json!({"configMap": {"name": "absent"}}), "configmap \"absent\" not found"),
        (json!({"secret": {"secretName": "absent"}}), "secret \"absent\" not found"),
        (
            json!({"configMap": {"name": "map", "items": [{"key": "no", "path": "p"}]}}),
            "configmap references non-existent configmap key: no",
        ),
    ] {
        assert_eq!(of(volume).await.unwrap_err().message, expected);
    }
    assert!(of(json!({"configMap": {"name": "absent", "optional": true}})).await.unwrap().is_empty());
}

#[test]
fn a_token_is_for_the_user_whose_it_is_and_for_nobody_else() {
    let of = |spec: serde_json::Value| {
        let file = payload::token_file(&pod("p", spec), "t".to_owned(), Some(0o644));
        (file.mode, file.owner)
    };
    let running = |own: serde_json::Value| json!({"name": "c", "image": "i", "securityContext": own});
    assert_eq!(of(json!({})), (0o644, None));
    assert_eq!(of(json!({"securityContext": {"fsGroup": 7}})), (0o600, None));
    assert_eq!(of(json!({"securityContext": {"runAsUser": 5}})), (0o600, Some(5)));
    let both = |first, second| json!({"containers": [running(json!({"runAsUser": first})), running(json!({"runAsUser": second}))]});
    assert_eq!(of(both(5, 5)), (0o600, Some(5)));
    assert_eq!(of(both(5, 6)), (0o644, None));
    assert_eq!(of(json!({"containers": [running(json!({"runAsUser": 5})), running(json!({}))]})), (0o644, None));
}

#[test]
fn mounts_below_a_directory_are_found() {
    let info = "22 1 0:21 / /proc rw - proc proc rw\n\
        40 22 0:50 / /pods/u/volumes/a\\040b rw - tmpfs tmpfs rw\n\
        41 22 0:51 / /pods/u2 rw - tmpfs tmpfs rw\n";
    assert_eq!(mount_points_below(info, Path::new("/pods/u")), [PathBuf::from("/pods/u/volumes/a b")]);
}
