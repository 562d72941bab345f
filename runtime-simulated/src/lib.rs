//! Containers that run in virtual time, for thousands of hollow nodes.
