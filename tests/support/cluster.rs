//! Several nodes, each in its own process, on one database.

use futures_util::future::join_all;
use mongodb::{Client, Database};
use souk::domain::ids::EventId;

use super::{shared_replica_set, support::TestApp};

/// The token secret that all nodes of a test share.
pub(crate) const SECRET: &str = "a secret that all nodes of a test share";

/// Nodes that share a fresh database.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<TestApp>,
    pub(crate) database: Database,
}

impl Cluster {
    /// Two nodes on the shared replica set; `None` without one. The request timeout is long because
    /// hundreds of concurrent requests may exceed the default on a busy machine.
    pub(crate) async fn start_shared() -> Option<Self> {
        Some(
            Self::start(&shared_replica_set::uri().await?, &[("http.request_timeout", "60s")])
                .await,
        )
    }

    /// Two nodes on a replica set, with additional settings.
    pub(crate) async fn start(uri: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_nodes(2, uri, settings).await
    }

    /// `count` nodes on a replica set, with additional settings. Each connects under its
    /// [`Cluster::node_name`].
    pub(crate) async fn start_nodes(count: usize, uri: &str, settings: &[(&str, &str)]) -> Self {
        let name = format!("souk_test_{}", EventId::new().as_uuid().simple());
        let shared =
            [("store.kind", "mongodb"), ("store.database", &name), ("auth.jwt_secret", SECRET)];
        let settings = &[&shared, settings].concat();
        // Concurrently: on an empty database, every node tries to prepare it and to create the
        // first admin.
        let nodes = (0..count).map(async |index| {
            let uri = format!("{uri}&appName={}", Self::node_name(index));
            TestApp::with_settings(&[settings, &[("store.uri", &*uri)][..]].concat()).await
        });
        Self {
            nodes: join_all(nodes).await,
            database: Client::with_uri_str(uri).await.unwrap().database(&name),
        }
    }

    /// The application name with which a node connects to the replica set.
    pub(crate) fn node_name(index: usize) -> String {
        format!("node-{index}")
    }

    /// A random node.
    pub(crate) fn any_node(&self) -> &TestApp {
        &self.nodes[rand::random_range(0..self.nodes.len())]
    }

    pub(crate) fn both_nodes(&self) -> (&TestApp, &TestApp) {
        (&self.nodes[0], &self.nodes[1])
    }

    /// Allows errors and panics in all logs.
    pub(crate) fn expect_faults(&mut self) {
        self.nodes.iter_mut().for_each(TestApp::expect_faults);
    }

    /// Stops all nodes and drops the database.
    pub(crate) async fn shut_down(mut self) {
        join_all(self.nodes.iter_mut().map(TestApp::stop)).await;
        self.database.drop().await.unwrap();
    }
}
