//! Servers for the tests in this crate.

use std::collections::BTreeSet;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    broker::{Broker, shared_uri},
    members::Members,
    proxy::Proxy,
};

/// A replica set owned by the test behind a proxy, with its connection string; `None` without
/// mongod.
pub(crate) async fn proxied_replica_set() -> Option<(Members, Proxy, String)> {
    let mut members = Members::start_uninitiated(1)?;
    let proxy = Proxy::start(members.hosts()[0].clone()).await;
    // The proxy's address as host name leaves no way around the proxy.
    let hosts = [proxy.host.clone()];
    members.initiate(&hosts).await;
    Some((members, proxy, Members::uri(&hosts)))
}

/// A virtual host of the shared broker: its connection string, a proxy for it, and the connection
/// string through the proxy; `None` without a broker.
pub(crate) async fn proxied_broker() -> Option<(String, Proxy, String)> {
    let uri = shared_uri()?;
    let (address, host) = uri.strip_prefix("amqp://").unwrap().split_once('/').unwrap();
    let proxy = Proxy::start(address.to_owned()).await;
    let through = format!("amqp://{}/{host}", proxy.host);
    Some((uri, proxy, through))
}

/// Whether a server answers the protocol header (AMQP 0-9-1, section 4.2.2) with a method on
/// channel 0.
async fn speaks_amqp(uri: &str) -> bool {
    let address = uri.strip_prefix("amqp://").unwrap().split('/').next().unwrap();
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    stream.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
    let mut head = [0; 3];
    stream.read_exact(&mut head).await.unwrap();
    head == [1, 0, 0]
}

#[tokio::test]
async fn broker_restarts_on_the_same_port() {
    let Some(mut broker) = Broker::start().await else { return };
    let uri = broker.uri();
    assert!(speaks_amqp(&uri).await);
    broker.kill();
    assert!(!speaks_amqp(&uri).await);
    broker.restart().await;
    assert!(speaks_amqp(&uri).await);
    drop(broker);
    assert!(!speaks_amqp(&uri).await);
}

#[tokio::test]
async fn each_test_gets_its_own_virtual_host() {
    let Some(first) = shared_uri() else { return };
    assert!(speaks_amqp(&first).await);
    let others: Vec<String> = (0..3).map(|_| shared_uri().unwrap()).collect();
    assert_eq!(others.iter().chain([&first]).collect::<BTreeSet<_>>().len(), 4);
}
