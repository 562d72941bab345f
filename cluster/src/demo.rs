//! A small workload to show that a cluster works.

use crate::manifests::{Entry, parse};

/// The image of the demonstration, made on this machine.
pub const IMAGE: &str = "longshore.local/demo:1";

/// What of busybox has a name of its own in the image: what people try in a container, and what `kubectl cp` needs.
pub(crate) const COMMANDS: &[&str] =
    &["cat", "echo", "env", "hostname", "id", "ls", "nslookup", "ps", "sh", "sleep", "tar", "top", "wget"];

/// The demonstration's Service, in the namespace `default`.
pub const SERVICE: &str = "web";

/// Three web replicas that answer with their names, a Service in front of them, and a Job.
///
/// On SIGTERM a replica serves on for a second: by then nobody is sent to it any more.
const MANIFESTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: longshore.local/demo:1
        command: [/bin/busybox, sh, -c]
        args:
        - |
          /bin/busybox mkdir -p /www
          echo "hello from $POD" > /www/index.html
          /bin/busybox httpd -f -p 8080 -h /www &
          trap '/bin/busybox sleep 1; exit 0' TERM
          wait
        env:
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        ports:
        - {name: http, containerPort: 8080}
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
---
apiVersion: batch/v1
kind: Job
metadata: {name: hello}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: hello
        image: longshore.local/demo:1
        command: [/bin/busybox, echo, "hello from a job"]
        resources: {requests: {cpu: 10m, memory: 8Mi}}
"#;

/// The demonstration's objects.
pub fn manifests() -> Vec<Entry> {
    parse("demo", MANIFESTS).expect("a test reads these manifests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demonstration_can_be_read() {
        assert_eq!(manifests().len(), 3);
        assert_eq!(MANIFESTS.matches(IMAGE).count(), 2);
        assert!(MANIFESTS.contains(&format!("name: {SERVICE},")));
    }
}
