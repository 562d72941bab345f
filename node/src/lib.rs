//! The node agent: one state machine a pod, probes, volumes and status.
