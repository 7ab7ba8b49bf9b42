//! gRPC on one node sees what another node has done.

use crate::{
    cluster::Cluster,
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
