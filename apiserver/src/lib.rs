//! The registry, its watch caches, the local client and the HTTP server that kubectl drives.
