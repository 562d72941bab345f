//! Names, and who may remove what.

use super::*;

fn store(directory: &Path) -> Store {
    Store::open(directory.to_owned()).unwrap()
}

/// An image of one file with this content.
fn build(store: &Store, name: &str, content: &str) -> Image {
    let source = store.root.join("work/source");
    fs::write(&source, content).unwrap();
    let file = ImageFile { target: "/file".into(), source, mode: 0o644 };
    store.build(name, &[file], &[]).unwrap()
}

#[test]
fn names_that_several_give_at_once_are_all_kept() {
    if !nix::unistd::geteuid().is_root() {
        return longshore_core::testing::skip("files of root's need root");
    }
    let directory = tempfile::tempdir().unwrap();
    // A lock is a handle's: what two stores do, two processes would.
    std::thread::scope(|scope| {
        for process in 0..2 {
            let directory = directory.path();
            scope.spawn(move || {
                let store = store(directory);
                for index in 0..20 {
                    store.build(&format!("x.io/p{process}:{index}"), &[], &[]).unwrap();
                    store.build("x.io/gone:1", &[], &[]).unwrap();
                    match store.remove("x.io/gone:1", &[]) {
                        Ok(()) | Err(Error::NotFound { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let images = store(directory.path()).list().unwrap();
    let [image] = images.as_slice() else { panic!("{images:?}") };
    assert_eq!(image.tags.len(), 40);
}

#[test]
fn an_image_that_lost_its_name_is_listed_and_removed_by_its_id() {
    if !nix::unistd::geteuid().is_root() {
        return longshore_core::testing::skip("files of root's need root");
    }
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let old = build(&store, "web:1", "old");
    assert!(old.pinned, "nobody could give it again");
    let new = build(&store, "web:1", "new");
    let tags = |id: &ImageId| store.list().unwrap().into_iter().find(|image| image.id == *id).map(|image| image.tags);
    assert_eq!(tags(&old.id), Some(vec![]));
    assert!(!store.resolve(&old.id.0).unwrap().unwrap().pinned);
    assert!(matches!(store.remove(&old.id.0, std::slice::from_ref(&old.id)), Err(Error::WrongState { .. })));
    store.remove(&old.id.0, &[]).unwrap();
    assert_eq!((tags(&old.id), tags(&new.id)), (None, Some(vec!["docker.io/library/web:1".to_owned()])));
    assert_eq!(fs::read_dir(directory.path().join("layers")).unwrap().count(), 1);
    assert!(matches!(store.remove(&old.id.0, &[]), Err(Error::NotFound { .. })));
    store.remove(&new.id.0, &[]).unwrap();
    assert_eq!(store.names().unwrap(), BTreeMap::new());
    assert_eq!(fs::read_dir(directory.path().join("layers")).unwrap().count(), 0);
}

#[test]
fn what_follows_a_layer_without_end_is_not_read_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let layer = tempfile::tempfile().unwrap();
    // An empty archive with a terabyte of zeros behind it, which compresses well.
    layer.set_len(1 << 40).unwrap();
    let error = store.add_layer(layer, &digest(Sha256::new())).unwrap_err().to_string();
    assert!(error.contains("goes on after its end"), "{error}");
    assert_eq!(fs::read_dir(directory.path().join("layers")).unwrap().count(), 0);
}
