//! What layers may hold, and what they may not do.

use super::*;

fn layer(kind: tar::EntryType, name: &str, link: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, link) in [(tar::EntryType::Symlink, "out", "/tmp"), (kind, name, link)] {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(nix::unistd::getuid().as_raw().into());
        header.set_gid(nix::unistd::getgid().as_raw().into());
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn nothing_leaves_the_directory() {
    for (kind, name, link) in [
        (tar::EntryType::Regular, "../escape", ""),
        (tar::EntryType::Regular, "out/escape", ""),
        (tar::EntryType::Link, "hard", "../../etc/passwd"),
        (tar::EntryType::Link, "hard", "out/x"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let error = unpack(layer(kind, name, link).as_slice(), root.path(), Limits::LAYER).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name} {link}: {error}");
    }
    let root = tempfile::tempdir().unwrap();
    unpack(layer(tar::EntryType::Regular, "/abs", "").as_slice(), root.path(), Limits::LAYER).unwrap();
    assert!(root.path().join("abs").is_file());
}

#[test]
fn what_a_layer_deletes_becomes_overlayfs_marks() {
    if !nix::unistd::geteuid().is_root() {
        return longshore_core::testing::skip("overlayfs' marks need root");
    }
    let root = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["dir/.wh.gone", "dir/kept", "other/.wh..wh..opq"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        builder.append_data(&mut header, name, io::empty()).unwrap();
    }
    unpack(builder.into_inner().unwrap().as_slice(), root.path(), Limits::LAYER).unwrap();
    let gone = fs::symlink_metadata(root.path().join("dir/gone")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&gone.file_type()));
    assert_eq!(std::os::unix::fs::MetadataExt::rdev(&gone), 0);
    let kept = fs::metadata(root.path().join("dir/kept")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((kept.uid(), kept.gid(), kept.mode() & 0o7777), (7, 8, 0o4755));
    let mut value = [0; 8];
    let count = rustix::fs::lgetxattr(root.path().join("other"), "trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..count], b"y");
    assert!(!root.path().join("dir/.wh.gone").exists());

    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "dir/.wh...", io::empty()).unwrap();
    assert!(unpack(builder.into_inner().unwrap().as_slice(), root.path(), Limits::LAYER).is_err());
}

/// An entry by its header.
fn header(kind: tar::EntryType, name: &str, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(mode);
    header.set_uid(nix::unistd::getuid().as_raw().into());
    header.set_gid(nix::unistd::getgid().as_raw().into());
    header.set_cksum();
    header
}

#[test]
fn a_directory_that_becomes_a_link_does_not_lend_its_rights_to_where_it_points() {
    let (root, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let victim = host.path().join("sub");
    fs::create_dir(&victim).unwrap();
    fs::set_permissions(&victim, Permissions::from_mode(0o700)).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["dir", "dir/sub"] {
        builder.append(&header(tar::EntryType::Directory, name, 0o777), io::empty()).unwrap();
    }
    let mut link = header(tar::EntryType::Symlink, "dir", 0o777);
    link.set_link_name(host.path()).unwrap();
    link.set_cksum();
    builder.append(&link, io::empty()).unwrap();
    unpack(builder.into_inner().unwrap().as_slice(), root.path(), Limits::LAYER).unwrap();
    assert!(fs::symlink_metadata(root.path().join("dir")).unwrap().is_symlink());
    assert_eq!(fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn devices_and_pipes_are_left_out() {
    let root = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name) in [(tar::EntryType::Block, "sda"), (tar::EntryType::Char, "mem"), (tar::EntryType::Fifo, "pipe")]
    {
        let mut device = header(kind, name, 0o666);
        device.set_device_major(8).unwrap();
        device.set_device_minor(0).unwrap();
        device.set_cksum();
        builder.append(&device, io::empty()).unwrap();
    }
    unpack(builder.into_inner().unwrap().as_slice(), root.path(), Limits::LAYER).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn bombs_do_not_go_off() {
    let limits = Limits { bytes: 1000, entries: 10 };
    let root = tempfile::tempdir().unwrap();
    let file = |builder: &mut tar::Builder<Vec<u8>>, name: &str, size: usize| {
        let mut header = header(tar::EntryType::Regular, name, 0o644);
        header.set_size(size as u64);
        builder.append_data(&mut header, name, vec![0; size].as_slice()).unwrap();
    };
    let unpack = |builder: tar::Builder<Vec<u8>>| {
        unpack(builder.into_inner().unwrap().as_slice(), root.path(), limits).map_err(|error| error.to_string())
    };
    let mut many = tar::Builder::new(Vec::new());
    (0..10).for_each(|index| file(&mut many, &format!("f{index}"), 100));
    assert_eq!(unpack(many), Ok(()));
    let mut many = tar::Builder::new(Vec::new());
    (0..11).for_each(|index| file(&mut many, &format!("f{index}"), 0));
    assert!(unpack(many).unwrap_err().contains("larger than 10 entries or 1000 bytes"));
    let mut large = tar::Builder::new(Vec::new());
    file(&mut large, "a", 600);
    file(&mut large, "b", 401);
    assert!(unpack(large).unwrap_err().contains("larger than 10 entries or 1000 bytes"));
    assert!(!root.path().join("b").exists());

    // A name that would be held in memory: only its header tells how long it is.
    let mut endless = header(tar::EntryType::GNULongName, "x", 0o644);
    endless.set_size(1 << 40);
    endless.set_cksum();
    let stream = io::Read::chain(endless.as_bytes().as_slice(), io::repeat(b'x'));
    let error = super::unpack(stream, root.path(), Limits::LAYER).unwrap_err().to_string();
    assert!(error.contains("headers are too large"), "{error}");
}
