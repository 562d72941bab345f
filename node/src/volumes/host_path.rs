//! Paths of the node: there already, or made as the type says.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};

use longshore_core::api::pod::{HostPathType, HostPathVolumeSource};

/// # Errors
/// What is at the path is not what the type wants, in upstream's words.
pub(super) fn check(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = &source.path;
    let wanted = source.type_.clone().unwrap_or_default();
    let found = fs::metadata(path);
    let is = |test: fn(&Metadata) -> bool| found.as_ref().is_ok_and(test);
    let refuse = |what: &str| Err(format!("hostPath type check failed: {path} is not a {what}"));
    let absent = found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    match wanted {
        HostPathType::DirectoryOrCreate if absent => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(|error| format!("cannot make the directory {path}: {error}"))
        }
        HostPathType::FileOrCreate if absent => {
            let made = fs::OpenOptions::new().create(true).append(true).mode(0o644).open(path);
            made.map(drop).map_err(|error| format!("cannot make the file {path}: {error}"))
        }
        HostPathType::Directory | HostPathType::DirectoryOrCreate if !is(Metadata::is_dir) => refuse("directory"),
        HostPathType::File | HostPathType::FileOrCreate if !is(Metadata::is_file) => refuse("file"),
        HostPathType::Socket if !is(|meta| meta.file_type().is_socket()) => refuse("socket file"),
        HostPathType::CharDevice if !is(|meta| meta.file_type().is_char_device()) => refuse("character device"),
        HostPathType::BlockDevice if !is(|meta| meta.file_type().is_block_device()) => refuse("block device"),
        // Without a type the path is taken as it is; a bind mount needs something there.
        HostPathType::Unset if absent => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(|error| format!("cannot make the directory {path}: {error}"))
        }
        _ => Ok(()),
    }
}
