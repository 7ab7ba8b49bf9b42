//! Three nodes behind the load balancer, on one database and one broker.

use std::sync::Arc;

use futures_util::future::join_all;
use mongodb::{Client, Database};
use souk::domain::ids::EventId;

use crate::{
    balancer::{Balancer, NodePorts},
    broker, shared_replica_set,
    support::TestApp,
};

/// For how long a node that stops reports that it is not ready, as in docker-compose.yaml.
const SHUTDOWN_DELAY: &str = "3s";

/// A shop of three nodes.
pub(crate) struct Shop {
    pub(crate) nodes: Vec<TestApp>,
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) ops: Vec<String>,
    database: Database,
}

impl Shop {
    /// Starts the nodes, then the load balancer. `None` if a server is missing.
    pub(crate) async fn start() -> Option<Self> {
        let (set, amqp) = (shared_replica_set::uri().await?, broker::shared_uri()?);
        let name = format!("souk_test_{}", EventId::new().as_uuid().simple());
        let ports = [(); 3].map(|()| NodePorts::choose());
        let mut nodes: Vec<_> =
            ports.iter().map(|ports| unstarted_node(ports, &set, &name, &amqp)).collect();
        join_all(nodes.iter_mut().map(TestApp::restart)).await;
        let balancer = Balancer::start(&ports).await?;
        balancer.wait_until(|servers| servers == [true; 3]).await;
        Some(Self {
            nodes,
            balancer: Arc::new(balancer),
            ops: ports.iter().map(|ports| format!("http://127.0.0.1:{}", ports.ops)).collect(),
            database: Client::with_uri_str(set).await.unwrap().database(&name),
        })
    }

    /// The value of a metric on each node that runs.
    pub(crate) async fn metric(&self, name: &str) -> Vec<Option<f64>> {
        join_all(self.ops.iter().map(async |ops| {
            let text = reqwest::get(format!("{ops}/metrics")).await.ok()?.text().await.ok()?;
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        }))
        .await
    }

    /// Stops all nodes and drops the database.
    pub(crate) async fn shut_down(mut self) {
        join_all(self.nodes.iter_mut().map(TestApp::stop)).await;
        self.database.drop().await.unwrap();
    }
}

fn unstarted_node(ports: &NodePorts, set: &str, database: &str, amqp: &str) -> TestApp {
    let [http, ops, grpc] =
        [ports.http, ports.ops, ports.grpc].map(|port| format!("127.0.0.1:{port}"));
    TestApp::unstarted(&[
        ("http.bind", &http),
        ("http.trusted_proxies", "127.0.0.1"),
        ("http.shutdown_delay", SHUTDOWN_DELAY),
        // Hundreds of concurrent requests may exceed the default on a busy machine.
        ("http.request_timeout", "30s"),
        ("ops.bind", &ops),
        ("grpc.bind", &grpc),
        ("store.kind", "mongodb"),
        ("store.uri", set),
        ("store.database", database),
        ("broker.kind", "rabbitmq"),
        ("broker.uri", amqp),
        ("auth.jwt_secret", "a secret that all nodes of a test share"),
    ])
}
