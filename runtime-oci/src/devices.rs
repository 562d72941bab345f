//! Devices of the node: which a container has, and which its control group lets it use.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use longshore_core::runtime::ContainerConfig;
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

/// What of `/dev` a container has of its own, or nobody has.
const OWN: [&str; 6] = ["pts", "shm", "mqueue", "console", "fd", ".udev"];

/// Devices as an OCI runtime makes them, and the rules about them.
pub(crate) struct Devices {
    pub(crate) made: Vec<Value>,
    pub(crate) rules: Vec<Value>,
}

/// What a container is given, beside the harmless ones that the runtime puts into every container.
///
/// # Errors
/// A device of the configuration is none.
pub(crate) fn devices(config: &ContainerConfig) -> io::Result<Devices> {
    let mut made = Vec::new();
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    if config.security.privileged {
        rules.push(json!({"allow": true, "access": "rwm"}));
        find(Path::new("/dev"), &mut made)?;
    } else {
        let harmless = [
            (1, Some(3)),
            (1, Some(5)),
            (1, Some(7)),
            (1, Some(8)),
            (1, Some(9)),
            (5, Some(0)),
            (5, Some(2)),
            (136, None),
        ];
        rules.extend(harmless.map(|(major, minor): (u64, Option<u64>)| {
            let mut rule = json!({"allow": true, "type": "c", "major": major, "access": "rwm"});
            if let Some(minor) = minor {
                rule["minor"] = json!(minor);
            }
            rule
        }));
    }
    for wanted in &config.devices {
        let device = device(&wanted.source, &wanted.target)?
            .ok_or_else(|| io::Error::other(format!("{} is not a device", wanted.source.display())))?;
        rules.push(json!({
            "allow": true, "type": device["type"], "major": device["major"], "minor": device["minor"],
            "access": wanted.permissions,
        }));
        made.push(device);
    }
    Ok(Devices { made, rules })
}

/// All devices below a directory of the node.
fn find(directory: &Path, found: &mut Vec<Value>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        let path = entry.path();
        // Devices come and go.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            find(&path, found)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            found.extend(device(&path, &path).ok().flatten());
        }
    }
    Ok(())
}

fn device(source: &Path, target: &Path) -> io::Result<Option<Value>> {
    let metadata = fs::metadata(source)?;
    let kind = metadata.file_type();
    let letter = match () {
        () if kind.is_char_device() => "c",
        () if kind.is_block_device() => "b",
        () => return Ok(None),
    };
    Ok(Some(json!({
        "path": target, "type": letter, "major": major(metadata.rdev()), "minor": minor(metadata.rdev()),
        "fileMode": metadata.mode() & 0o7777, "uid": metadata.uid(), "gid": metadata.gid(),
    })))
}
