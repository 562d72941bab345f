//! A pod finds a token and calls the API with it, as far as roles go; driven by the real kubectl.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use common::{Machine, eventually, on_own_network, texts};

const PODS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec:
  serviceAccountName: robot
  terminationGracePeriodSeconds: 0
  volumes:
  - name: mine
    projected: {sources: [{serviceAccountToken: {path: vault, audience: vault, expirationSeconds: 600}}]}
  containers:
  - name: main
    image: longshore.local/demo:1
    command: [/bin/busybox, sleep, "100000"]
    volumeMounts: [{name: mine, mountPath: /mine}]
---
apiVersion: v1
kind: Pod
metadata: {name: quiet}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: longshore.local/demo:1
    command: [/bin/busybox, sleep, "100000"]
"#;

#[test]
fn a_pod_calls_the_api_with_its_token_as_far_as_roles_allow() {
    on_own_network(&["runc", "nft", "busybox", "kubectl", "ip"], || {
        let machine = Machine::new();
        machine.up(&["--demo", "-f", &machine.write("pods.yaml", PODS)]);
        machine.ask(&["wait", "--for=condition=Ready", "pod/caller", "pod/quiet", "--timeout=60s"]);
        let inside = |pod: &str, command: &str| machine.ask(&["exec", pod, "--", "/bin/busybox", "sh", "-c", command]);
        let place = "/var/run/secrets/kubernetes.io/serviceaccount";
        let token = inside("caller", &format!("/bin/busybox cat {place}/token"));
        let certificate = machine.write("ca.crt", &inside("caller", &format!("/bin/busybox cat {place}/ca.crt")));
        assert_eq!(inside("caller", &format!("/bin/busybox cat {place}/namespace")), "default");
        assert_eq!(inside("quiet", &format!("/bin/busybox ls {place} 2>/dev/null || echo none")), "none");
        let service =
            machine.ask(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"]);
        assert_eq!(inside("caller", "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"), service);

        // As the program in the pod does: with the token and the certificate that it found.
        let nobody = machine.write("nobody", "");
        let server = machine.ask(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
        let call = |token: &str, arguments: &[&str]| {
            let mut command = machine.command("kubectl");
            command.env("KUBECONFIG", &nobody).env("HOME", machine.data_dir());
            command.args(["--server", &server, "--certificate-authority", &certificate, "--token", token]);
            let output = command.args(arguments).output().unwrap();
            let (out, err) = texts(&output);
            if output.status.success() { Ok(out.trim().to_owned()) } else { Err(err) }
        };
        let whoami = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
        assert_eq!(call(&token, &whoami).unwrap(), "system:serviceaccount:default:robot");
        let refused = call(&token, &["get", "pods"]).unwrap_err();
        assert!(
            refused.contains("cannot list resource \"pods\" in API group \"\" in the namespace \"default\""),
            "{refused}"
        );
        let vault = inside("caller", "/bin/busybox cat /mine/vault");
        assert!(call(&vault, &whoami).is_err(), "a token for somebody else is none for the API server");

        let can = |verb: &str| {
            let output =
                machine.kubectl(&["auth", "can-i", verb, "pods", "--as=system:serviceaccount:default:robot"]).output();
            texts(&output.unwrap()).0.trim().to_owned()
        };
        assert_eq!(can("list"), "no");
        machine.ask(&["create", "rolebinding", "views", "--clusterrole=view", "--serviceaccount=default:robot"]);
        let seen = eventually("the role counts", || call(&token, &["get", "pods", "-o", "name"]).ok());
        assert!(seen.contains("pod/caller") && seen.contains("pod/quiet"), "{seen}");
        assert_eq!((can("list").as_str(), can("delete").as_str()), ("yes", "no"));
        assert!(call(&token, &["delete", "pod", "quiet"]).unwrap_err().contains("cannot delete resource"));

        let lasting = machine.ask(&["create", "token", "robot", "--duration=1h"]);
        assert_eq!(call(&lasting, &whoami).unwrap(), "system:serviceaccount:default:robot");
        machine.ask(&["delete", "pod", "caller", "--now"]);
        let ended = eventually("the pod's token ends with it", || call(&token, &whoami).err());
        assert!(ended.contains("is no longer there") || ended.contains("Unauthorized"), "{ended}");
        assert!(call(&lasting, &whoami).is_ok());
        machine.ask(&["delete", "serviceaccount", "robot"]);
        eventually("the account's tokens end with it", || call(&lasting, &whoami).err());
    });
}
