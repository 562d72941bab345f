//! The scheduling engine and the built-in policies.
