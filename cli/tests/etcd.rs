//! Several API servers over one etcd, and what `longshore store` does with it.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Machine, Part, eventually, on_own_network, run, texts};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// The network is the test's own, and so are all ports.
const STORE: &str = "etcd=http://127.0.0.1:2379";

/// An etcd of one member; killed when the test forgets it.
struct Etcd(Child);

impl Etcd {
    fn start(directory: &Path) -> Self {
        Self::start_with(directory, |_| {})
    }

    fn start_with(directory: &Path, further: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--log-level", "error", "--logger", "zap", "--data-dir"]);
        command.arg(directory);
        further(&mut command);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn apiserver(machine: &Machine) -> Part {
    let mut command = machine.longshore(&["apiserver"]);
    Part::start(command.args(["--listen", "127.0.0.1:0", "--store", STORE]), "serving")
}

#[test]
fn two_api_servers_over_one_etcd_are_one_api() {
    on_own_network(&["kubectl", "etcd", "etcdctl"], || {
        let temp = tempfile::tempdir().unwrap();
        let _etcd = Etcd::start(&temp.path().join("etcd"));
        let (one, other) = (Machine::new(), Machine::new());
        let first = apiserver(&one);
        // Servers of one cluster share its authority.
        std::fs::create_dir(other.data_dir()).unwrap();
        run(Command::new("cp").arg("-r").arg(one.data_dir().join("pki")).arg(other.data_dir()));
        let second = apiserver(&other);

        one.ask(&["create", "configmap", "a", "--from-literal=x=1"]);
        let read = ["get", "configmap", "a", "-o", "jsonpath={.data.x}"];
        assert_eq!(other.ask(&read), "1", "what one has acknowledged, the other answers");
        other.ask(&["patch", "configmap", "a", "-p", "{\"data\":{\"x\":\"2\"}}"]);
        assert_eq!(one.ask(&read), "2");
        for (machine, name) in [(&one, "b"), (&other, "c")] {
            let service = ["create", "service", "clusterip", name, "--tcp=80"];
            machine.ask(&service);
        }
        let addresses = one.ask(&["get", "services", "b", "c", "-o", "jsonpath={.items[*].spec.clusterIP}"]);
        let addresses: Vec<&str> = addresses.split(' ').collect();
        assert!(addresses.len() == 2 && addresses[0] != addresses[1], "{addresses:?}");
        let taken = one.kubectl(&["create", "service", "clusterip", "c", "--tcp=80"]).output().unwrap();
        assert!(texts(&taken).1.contains("already exists"), "{taken:?}");
        // A watch at one server sees what the other does.
        let wait = one.kubectl(&["wait", "--for=delete", "configmap/a", "--timeout=60s"]).spawn().unwrap();
        other.ask(&["delete", "configmap", "a"]);
        assert!(wait.wait_with_output().unwrap().status.success());

        let status = run(&mut one.longshore(&["store", "status"]));
        assert!(status.contains(STORE) && status.contains("etcd 3.") && status.contains("leads"), "{status}");
        let compacted = run(&mut one.longshore(&["store", "compact"]));
        assert!(compacted.contains("compacted: revisions before "), "{compacted}");
        let copy = temp.path().join("copy.db");
        run(one.longshore(&["store", "snapshot"]).arg(&copy));
        let told = run(one.longshore(&["store", "restore"]).arg(&copy));
        let command = told.lines().find(|line| line.trim().starts_with("etcdctl snapshot restore ")).unwrap();
        assert!(command.contains("--initial-cluster default=http://localhost:2380"), "{told}");
        let broken = temp.path().join("broken.db");
        std::fs::write(&broken, "no snapshot").unwrap();
        let refused = one.longshore(&["store", "restore"]).arg(&broken).output().unwrap();
        assert!(texts(&refused).1.contains("no snapshot of etcd's"), "{refused:?}");

        // One server goes, and the other is not disturbed.
        first.kill();
        other.ask(&["create", "configmap", "d"]);
        let first = apiserver(&one);
        one.ask(&["get", "configmap", "d"]);
        first.stop();
        second.stop();
    });
}

/// Writes an authority's certificate and, by it, such for a server and a client, with their keys.
fn certificates(directory: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    for (name, host) in [("server", "127.0.0.1"), ("client", "client")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        // etcd's gateway is a client of its own server, by the server's certificate.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        std::fs::write(directory.join(format!("{name}.pem")), params.signed_by(&key, &authority).unwrap().pem())
            .unwrap();
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn an_etcd_that_asks_who_is_there_is_told_by_files_or_the_environment() {
    on_own_network(&["kubectl", "etcd", "etcdctl"], || {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name).display().to_string();
        certificates(temp.path());
        let url = "https://127.0.0.1:2379";
        let _etcd = Etcd::start_with(&temp.path().join("etcd"), |etcd| {
            etcd.args(["--listen-client-urls", url, "--advertise-client-urls", url, "--client-cert-auth"]);
            etcd.args(["--cert-file", &path("server.pem"), "--key-file", &path("server.key")]);
            etcd.args(["--trusted-ca-file", &path("ca.pem")]);
        });
        let etcdctl = |arguments: &[&str]| {
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args(["--endpoints", url, "--cacert", &path("ca.pem")]);
            command.args(["--cert", &path("client.pem"), "--key", &path("client.key")]).args(arguments);
            command
        };
        eventually("etcd is there", || {
            etcdctl(&["endpoint", "health"]).output().unwrap().status.success().then_some(())
        });
        run(&mut etcdctl(&["user", "add", "root:secret"]));
        run(&mut etcdctl(&["user", "grant-role", "root", "root"]));
        run(&mut etcdctl(&["auth", "enable"]));

        let machine = Machine::new();
        let store = format!("etcd={url}");
        let with = |subcommand: &[&str], options: &[(&str, &str)]| {
            let mut command = machine.longshore(subcommand);
            command.args(["--store", &store]);
            for (option, file) in options {
                command.args([option, path(file).as_str()]);
            }
            command
        };
        let tls = [("--etcd-cafile", "ca.pem"), ("--etcd-certfile", "client.pem"), ("--etcd-keyfile", "client.key")];
        std::fs::write(temp.path().join("password"), "root:secret\n").unwrap();
        std::fs::write(temp.path().join("wrong"), "root:guess\n").unwrap();
        std::fs::write(temp.path().join("none"), "secret\n").unwrap();

        let whole = [&tls[..], &[("--etcd-credentials-file", "password")]].concat();
        let server = Part::start(with(&["apiserver"], &whole).args(["--listen", "127.0.0.1:0"]), "serving");
        machine.ask(&["create", "configmap", "a"]);
        let mut command = with(&["store", "status"], &tls);
        let status = run(command.env("LONGSHORE_ETCD_USER", "root").env("LONGSHORE_ETCD_PASSWORD", "secret"));
        assert!(status.contains(url) && status.contains("leads"), "{status}");
        for (options, why) in [
            ([&tls[..], &[("--etcd-credentials-file", "wrong")]].concat(), "invalid user ID or password"),
            ([&tls[..], &[("--etcd-credentials-file", "none")]].concat(), "it is not USER:PASSWORD"),
            ([&tls[..], &[("--etcd-credentials-file", "missing")]].concat(), "No such file"),
            (tls.to_vec(), "permission denied"),
            (tls[..2].to_vec(), "--etcd-keyfile"),
        ] {
            let refused = with(&["store", "status"], &options).output().unwrap();
            let said = texts(&refused).1;
            assert!(!refused.status.success() && said.contains(why) && !said.contains("guess"), "{options:?}: {said}");
        }
        server.stop();
    });
}

#[test]
fn a_whole_cluster_keeps_its_objects_in_etcd() {
    on_own_network(&["kubectl", "etcd"], || {
        let temp = tempfile::tempdir().unwrap();
        let _etcd = Etcd::start(&temp.path().join("etcd"));
        let machine = Machine::new();
        let up = ["--runtime", "simulated", "--store", STORE];
        machine.up(&up);
        machine.ask(&["create", "deployment", "web", "--image=web:1", "--replicas=2"]);
        machine.ask(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        machine.kill();
        machine.up(&[]);
        assert_eq!(machine.ask(&["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"]), "2");
        let refused = machine.longshore(&["up"]).args(["--store", "embedded"]).output().unwrap();
        assert!(texts(&refused).1.contains("made with --store etcd="), "{refused:?}");
    });
}
