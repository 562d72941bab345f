//! The client that speaks HTTP to Longshore or to any Kubernetes API server.
