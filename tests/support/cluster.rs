//! Several nodes, each a process of its own, on one database.

use futures_util::future::join_all;
use mongodb::{Client, Database};
use souk::domain::ids::EventId;

use super::{shared_set, support::TestApp};

/// What all nodes of a test sign tokens with.
pub(crate) const SECRET: &str = "a secret that all nodes of a test share";

/// Nodes that share a fresh database.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<TestApp>,
    pub(crate) database: Database,
}

impl Cluster {
    /// Two nodes on the test script's replica set; `None` when there is none. Requests have time: hundreds at once may take a busy
    /// machine longer than a request is mostly given.
    pub(crate) async fn shared() -> Option<Self> {
        Some(Self::on(&shared_set::uri().await?, &[("http.request_timeout", "60s")]).await)
    }

    /// Two nodes on this replica set, with these settings besides the usual ones.
    pub(crate) async fn on(uri: &str, settings: &[(&str, &str)]) -> Self {
        Self::of(2, uri, settings).await
    }

    /// `count` nodes on this replica set, with these settings besides the usual ones. Each tells the servers its name; see
    /// [`Cluster::name`].
    pub(crate) async fn of(count: usize, uri: &str, settings: &[(&str, &str)]) -> Self {
        let name = format!("souk_test_{}", EventId::new().as_uuid().simple());
        let shared =
            [("store.kind", "mongodb"), ("store.database", &name), ("auth.jwt_secret", SECRET)];
        let settings = &[&shared, settings].concat();
        // At once: on an empty database, each wants to prepare it and to make the first admin.
        let nodes = (0..count).map(async |place| {
            let uri = format!("{uri}&appName={}", Self::name(place));
            TestApp::with(&[settings, &[("store.uri", &*uri)][..]].concat()).await
        });
        Self {
            nodes: join_all(nodes).await,
            database: Client::with_uri_str(uri).await.unwrap().database(&name),
        }
    }

    /// What the node at `place` is called where it connects to the replica set.
    pub(crate) fn name(place: usize) -> String {
        format!("node-{place}")
    }

    /// One of the nodes, whichever.
    pub(crate) fn any(&self) -> &TestApp {
        &self.nodes[rand::random_range(0..self.nodes.len())]
    }

    /// The two nodes.
    pub(crate) fn pair(&self) -> (&TestApp, &TestApp) {
        (&self.nodes[0], &self.nodes[1])
    }

    /// Lets the logs tell of faults.
    pub(crate) fn expect_faults(&mut self) {
        self.nodes.iter_mut().for_each(TestApp::expect_faults);
    }

    /// Stops the nodes in good order, and throws the database away.
    pub(crate) async fn end(mut self) {
        join_all(self.nodes.iter_mut().map(TestApp::stop)).await;
        self.database.drop().await.unwrap();
    }
}
