//! What is imported from layouts and archives, and what is refused.

use serde_json::{Value, json};

use super::*;

/// An OCI layout in the making.
struct Layout(tempfile::TempDir);

impl Layout {
    fn new() -> Self {
        let layout = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(layout.0.path().join("blobs/sha256")).unwrap();
        layout
    }

    fn blob(&self, content: &[u8]) -> Value {
        let digest = digest(Sha256::new_with_prefix(content));
        fs::write(self.0.path().join("blobs/sha256").join(hex(&digest).unwrap()), content).unwrap();
        json!({"digest": digest, "size": content.len(), "mediaType": "application/octet-stream"})
    }

    fn document(&self, document: &Value) -> Value {
        self.blob(&serde_json::to_vec(document).unwrap())
    }

    /// A manifest of one layer with one file of this name.
    fn manifest(&self, file: &str) -> Value {
        let layer = layer(&[(file, b"content")]);
        let config = json!({
            "config": {"Cmd": [file]},
            "rootfs": {"type": "layers", "diff_ids": [digest(Sha256::new_with_prefix(&layer))]},
        });
        // Layers are compressed, and their digest is of what is compressed.
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, &layer).unwrap();
        let layer = self.blob(&encoder.finish().unwrap());
        self.document(&json!({"config": self.document(&config), "layers": [layer]}))
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.0.path().join("index.json"), index.to_string()).unwrap();
    }

    fn import(&self) -> Result<(Store, Vec<Image>), String> {
        let store = Store::open(self.0.path().join("store")).unwrap();
        let images = store.import(self.0.path()).map_err(|error| error.to_string())?;
        Ok((store, images))
    }
}

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(nix::unistd::getuid().as_raw().into());
        header.set_gid(nix::unistd::getgid().as_raw().into());
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

#[test]
fn this_machines_image_is_taken_from_an_index() {
    let layout = Layout::new();
    let here = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = |os: &str, architecture: &str| json!({"os": os, "architecture": architecture});
    let inner = layout.document(&json!({"manifests": [
        with(layout.manifest("there"), "platform", platform("linux", "vax")),
        with(layout.manifest("here"), "platform", platform("linux", here)),
        // What buildx puts beside images.
        with(layout.manifest("attestation"), "platform", platform("unknown", "unknown")),
    ]}));
    layout.index(&[with(inner, "annotations", json!({"org.opencontainers.image.ref.name": "web:2"}))]);
    let (store, images) = layout.import().unwrap();
    let [image] = images.as_slice() else { panic!("{images:?}") };
    assert_eq!(image.tags, ["docker.io/library/web:2"]);
    let configuration = store.configuration(&image.id).unwrap().unwrap();
    let layers = store.layers(&configuration).unwrap();
    assert_eq!(fs::read(layers[0].join("here")).unwrap(), b"content");
}

#[test]
fn damaged_and_foreign_content_is_refused() {
    let layout = Layout::new();
    let manifest = layout.manifest("file");
    layout.index(std::slice::from_ref(&manifest));
    let path = layout.0.path().join("blobs/sha256").join(hex(manifest["digest"].as_str().unwrap()).unwrap());
    fs::write(&path, "{}").unwrap();
    assert!(layout.import().unwrap_err().contains("another digest"));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(layout.import().unwrap_err().contains("outside the archive"));
    layout.index(&[json!({"digest": "sha256:../../../../etc/passwd"})]);
    assert!(layout.import().unwrap_err().contains("is not a sha256 digest"));
    layout.index(&[with(layout.manifest("file"), "platform", json!({"os": "plan9", "architecture": "vax"}))]);
    assert!(layout.import().unwrap_err().contains("no image for this machine"));
}

#[test]
fn what_is_named_over_and_over_is_read_once() {
    let layout = Layout::new();
    let mut inner = layout.manifest("file");
    for _ in 0..20 {
        inner = layout.document(&json!({"manifests": [inner, inner, inner]}));
    }
    let name = |name: &str| with(inner.clone(), "annotations", json!({"org.opencontainers.image.ref.name": name}));
    layout.index(&[name("web:1"), name("web:2")]);
    let (store, _) = layout.import().unwrap();
    let [image] = &store.list().unwrap()[..] else { panic!("one image") };
    assert_eq!(image.tags, ["docker.io/library/web:1", "docker.io/library/web:2"]);
}

#[test]
fn saved_archives_are_read() {
    let layout = Layout::new();
    let layer = layer(&[("file", b"content")]);
    let config = json!({
        "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(Sha256::new_with_prefix(&layer))]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": ["web:1", "web:2"], "Layers": ["one/layer.tar"]}]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    let files: [(&str, &[u8]); 3] =
        [("config.json", config.as_bytes()), ("one/layer.tar", &layer), ("manifest.json", manifest.as_bytes())];
    let archive = layout.0.path().join("saved.tar");
    fs::write(&archive, self::layer(&files)).unwrap();
    let store = Store::open(layout.0.path().join("store")).unwrap();
    let images = store.import(&archive).unwrap();
    assert_eq!(images[0].tags, ["docker.io/library/web:1", "docker.io/library/web:2"]);

    let outside = json!([{"Config": "../store/names.json", "RepoTags": [], "Layers": []}]).to_string();
    fs::write(&archive, self::layer(&[("manifest.json", outside.as_bytes())])).unwrap();
    assert!(store.import(&archive).unwrap_err().to_string().contains("outside the archive"));
    // What was given by mistake is not shown.
    fs::write(&archive, "root:secret:0:0\n".repeat(100)).unwrap();
    let error = store.import(&archive).unwrap_err().to_string();
    assert!(error.contains("no whole `docker save` archive") && !error.contains("root:secret:0:0\nroot"), "{error}");
    fs::write(&archive, self::layer(&[("README", b"hello")])).unwrap();
    assert!(store.import(&archive).unwrap_err().to_string().contains("neither manifest.json"));
}
