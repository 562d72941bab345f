//! The conformance suite of runtimes, with an engine of its own.

mod support;

longshore_core::runtime_conformance!(|| async { support::Node::new() });
