//! What a node needs so that others can forward commits to it; see [`Store::start_forwarding`].
//!
//! [`Store::start_forwarding`]: super::Store::start_forwarding

use std::net::TcpListener;

/// A key that all nodes of a cluster share.
pub type ClusterKey = [u8; 32];

/// How the nodes of a cluster reach each other.
#[derive(Debug)]
pub struct ForwardingOptions {
    /// Where other nodes connect.
    pub listener: TcpListener,
    /// The address that other nodes connect to, as `host:port`.
    pub advertised_address: String,
    /// The keys that messages are authenticated with. This node sends with the first, and accepts
    /// each, so that the secret behind them can be rotated.
    pub keys: Vec<ClusterKey>,
}
