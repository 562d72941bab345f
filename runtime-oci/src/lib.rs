//! Containers run by an OCI runtime (runc, crun), one shim process a pod.
