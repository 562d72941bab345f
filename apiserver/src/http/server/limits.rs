//! What one server gives to all its clients together, and how long it waits for them.

use std::time::Duration;

/// Limits of a server. They bound its memory whatever clients do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; more wait in the system's queue.
    pub connections: usize,
    /// Requests at once, besides those that are meant to last; more are answered with 429.
    pub requests: usize,
    /// Watches, log streams and upgraded connections at once; more are answered with 429.
    pub streams: usize,
    /// Bytes of request bodies in memory at once, of all requests; more are answered with 429.
    pub bodies: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// How long the TLS handshake may take.
    pub handshake: Duration,
    /// How long a request's head may take, and how long a connection may be idle.
    pub head_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a client may take nothing of what it is sent.
    pub write_timeout: Duration,
    /// How long requests under way may go on when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            requests: 400,
            streams: 20_000,
            bodies: 32 << 20,
            head: 64 << 10,
            handshake: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}
