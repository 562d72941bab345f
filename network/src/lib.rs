//! Pod networks (bridge, host, none) and the nftables service proxy.
