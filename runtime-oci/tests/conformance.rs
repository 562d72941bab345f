//! The conformance suite of runtimes, with each OCI runtime that is installed.

mod support;

mod runc {
    longshore_core::runtime_conformance!(|| async { super::support::Node::new("runc") });
}

mod crun {
    longshore_core::runtime_conformance!(|| async { super::support::Node::new("crun") });
}
