//! gRPC on one node sees what another node has done, and says when its store is away.

use crate::{
    cluster::Cluster,
    members::Members,
    shared_replica_set,
    support::grpc::{GRPC, GrpcClient},
};

#[tokio::test]
async fn changes_on_another_node_are_seen_over_grpc() {
    let Some(client) = GrpcClient::find("gRPC on several nodes") else { return };
    let Some(uri) = shared_replica_set::uri().await else { return };
    let mut cluster = Cluster::start(&uri, &[GRPC, ("http.request_timeout", "60s")]).await;
    let other = cluster.nodes[1].url().to_owned();
    client.run(&mut cluster.nodes[0], "several_nodes.py", &[("OTHER", &other)]).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn silent_store_makes_grpc_unavailable() {
    let Some(client) = GrpcClient::find("gRPC without a store") else { return };
    let Some(members) = Members::start(1).await else { return };
    let settings = [GRPC, ("http.request_timeout", "1s")];
    let mut cluster = Cluster::start_nodes(1, &Members::uri(members.hosts()), &settings).await;
    cluster.expect_faults();
    let store = members.pid(0).to_string();
    client.run(&mut cluster.nodes[0], "store_away.py", &[("STORE", &store)]).await;
    cluster.shut_down().await;
}
