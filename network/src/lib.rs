//! Pod networks and the service proxy of a node.
