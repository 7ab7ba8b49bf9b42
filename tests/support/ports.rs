//! Ports for programs that cannot choose one themselves.

use std::net::TcpListener;

/// A free port below the ephemeral range, so that no outgoing connection takes it while the server
/// is down.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..1000).map(|_| rand::random_range(10_000..32_000)).find(is_free).expect("no port is free")
}
