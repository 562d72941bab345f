//! Pulls from Debian's `docker-registry`, over TLS and with a password.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use longshore_core::runtime::{ContainerConfig, Credentials, Runtime};
use longshore_runtime_oci::Registry;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};
use support::{Node, container, logged, sandbox};

/// The password is `pass:word`, with the least work that bcrypt allows.
const HTPASSWD: &str = "me:$2y$04$fn4OilpZLKP/j82uUTTcu.IbfVLwmJtx3AQ8SZveQhgk6c0Ni.a/i\n";

/// A registry that ends with this.
struct Server {
    child: Child,
    address: String,
    ca: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Serves what is in `storage` below a directory.
    fn start(program: &Path, directory: &Path) -> Self {
        let path = |name: &str| directory.join(name);
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(path("ca.pem"), params.self_signed(&ca_key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(path("tls.pem"), certificate.pem()).unwrap();
        fs::write(path("tls.key"), key.serialize_pem()).unwrap();
        fs::write(path("htpasswd"), HTPASSWD).unwrap();
        let config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": path("storage")}},
            "auth": {"htpasswd": {"realm": "test", "path": path("htpasswd")}},
            "http": {"addr": "127.0.0.1:0", "tls": {"certificate": path("tls.pem"), "key": path("tls.key")}},
        });
        fs::write(path("config.yml"), config.to_string()).unwrap();
        // It does not outlive this process, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).arg("serve").arg(path("config.yml"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv is in util-linux");
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, address: String::new(), ca: path("ca.pem") };
        let (mut line, mut said) = (String::new(), String::new());
        while server.address.is_empty() {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the registry ended: {said}");
            said.push_str(&line);
            let after = line.split_once("listening on ").map(|(_, after)| after);
            server.address = after.and_then(|after| after.split(',').next()).unwrap_or_default().to_owned();
        }
        // A full pipe would stop it.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        server
    }
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts an image where the registry keeps its own.
fn store(storage: &Path, repository: &str, tag: &str, layer: &[u8]) {
    let root = storage.join("docker/registry/v2");
    let put = |path: PathBuf, content: &[u8]| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let blob = |content: &[u8]| {
        let hex = sha(content);
        put(root.join("blobs/sha256").join(&hex[..2]).join(&hex).join("data"), content);
        hex
    };
    let link = |below: &str, hex: &str| {
        put(root.join("repositories").join(repository).join(below).join("link"), format!("sha256:{hex}").as_bytes());
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(layer).unwrap();
    let packed = gzip.finish().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/busybox", "cat", "/greeting"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha(layer))]},
    });
    let config = config.to_string().into_bytes();
    let part = |media: &str, content: &[u8]| json!({"mediaType": media, "size": content.len(), "digest": format!("sha256:{}", blob(content))});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": part("application/vnd.docker.container.image.v1+json", &config),
        "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", &packed)],
    });
    let manifest = blob(manifest.to_string().as_bytes());
    for content in [config.as_slice(), &packed] {
        link(&format!("_layers/sha256/{}", sha(content)), &sha(content));
    }
    link(&format!("_manifests/revisions/sha256/{manifest}"), &manifest);
    link(&format!("_manifests/tags/{tag}/current"), &manifest);
    link(&format!("_manifests/tags/{tag}/index/sha256/{manifest}"), &manifest);
}

fn layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    builder.append_data(&mut header, "greeting", &b"hello"[..]).unwrap();
    let busybox = fs::read(support::BUSYBOX).unwrap();
    header.set_size(busybox.len() as u64);
    builder.append_data(&mut header, "bin/busybox", busybox.as_slice()).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn an_image_comes_from_a_registry_with_tls_and_a_password_and_runs() {
    let Some(program) = support::find("docker-registry") else {
        return longshore_core::testing::skip("docker-registry is missing (apt-get install docker-registry)");
    };
    support::on_a_node(async |node| pull_and_run(node, &program).await);
}

async fn pull_and_run(node: &Node, program: &Path) {
    let directory = tempfile::tempdir().unwrap();
    store(&directory.path().join("storage"), "team/web", "1", &layer());
    let server = Server::start(program, directory.path());
    let login = |password: &str| Credentials::Basic { user: "me".into(), password: password.into() };
    let name = format!("{}/team/web:1", server.address);
    let trust = |ca: Option<PathBuf>| {
        let registry = Registry { ca, plain_http: false };
        node.open_oci_with(BTreeMap::from([(server.address.clone(), registry)]))
    };

    let stranger = trust(None);
    let error = stranger.images().pull(&name, &login("pass:word")).await.unwrap_err().to_string();
    assert!(error.contains("is not trusted"), "{error}");

    let runtime = trust(Some(server.ca.clone()));
    assert!(runtime.info().capabilities.pull);
    for (image, login, expected) in [
        (&name, Credentials::Anonymous, "a login is needed (imagePullSecrets)"),
        (&name, login("wrong"), "the login is wrong"),
        (&name.replace("web:1", "web:2"), login("pass:word"), "manifest unknown"),
        (&name.replace("team/web", "nobody"), login("pass:word"), "manifest unknown"),
    ] {
        let error = runtime.images().pull(image, &login).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(image.as_str()), "{error}");
    }
    assert!(runtime.images().list().await.unwrap().is_empty());

    let image = runtime.images().pull(&name, &login("pass:word")).await.unwrap();
    assert_eq!(runtime.images().resolve(&name).await.unwrap().as_ref(), Some(&image));
    let by_digest = &image.digests[0];
    let again = runtime.images().pull(by_digest, &login("pass:word")).await.unwrap();
    assert_eq!(again.id, image.id);
    let unpacked = node.directory.path().join("images/layers").join(sha(&layer())).join("greeting");
    assert_eq!(fs::read(unpacked).unwrap(), b"hello");

    runtime.create_sandbox(&sandbox(node, "a")).await.unwrap();
    let config = ContainerConfig { command: Vec::new(), ..container(&image, "a", "main", "") };
    runtime.create_container(&config).await.unwrap();
    runtime.start_container(&config.container).await.unwrap();
    logged(node, &config.container, "hello").await;
}
