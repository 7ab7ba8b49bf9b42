//! Hot products and promotions: one node applies the commits of all.
//!
//! When several nodes sell one product, or use one promotion, their transactions abort each other.
//! A node that has lost one over such a record, or has waited for its turn at it, forwards its
//! commits that change the record to the record's home for a while: the node that all nodes choose
//! by the same hash of record and node. The home puts them into its own batches, so that all share
//! one transaction and no node waits for another.
//!
//! - The commit is decided where the request was received, and travels whole, with conditions,
//!   events and idempotency record. So the home's store decides on it as on any other.
//! - A commit is forwarded once. What the home cannot take is applied by the node itself, in turn
//!   with the others; see `stock_queue`. So are commits while the nodes disagree about who there
//!   is, which does no harm: the server decides, as always.
//! - What was sent and is not answered, since the connection or the home is gone, has an unknown
//!   outcome, like a transaction whose commit was not confirmed.

mod codec;
mod frame;
mod hot_records;
mod link;
mod server;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use self::{hot_records::HotRecords, link::Link, server::ForwardingServer};
use crate::store::{
    commit::{Commit, CommitError, CommitOutcome},
    forwarding::{ClusterKey, ForwardingOptions},
    writer::CommitWriter,
};

/// A node that takes commits of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) id: Uuid,
    /// Where it listens, `host:port`.
    pub(super) address: String,
}

/// Forwards commits, and applies those of others.
pub(super) struct Forwarder {
    /// This node.
    id: Uuid,
    runtime: Handle,
    hot_records: HotRecords,
    /// `None` unless this node forwards.
    started: Mutex<Option<Started>>,
}

struct Started {
    advertised_address: String,
    /// The key that this node sends with.
    key: ClusterKey,
    server: ForwardingServer,
    /// All nodes that take commits, this one included.
    peers: Vec<Peer>,
    links: HashMap<Uuid, Arc<Link>>,
}

impl Forwarder {
    pub(super) fn new(id: Uuid, runtime: Handle) -> Self {
        Self { id, runtime, hot_records: HotRecords::default(), started: Mutex::default() }
    }

    /// Begins to forward, and to hand the commits of others to `writer`.
    pub(super) fn start(&self, options: ForwardingOptions, writer: CommitWriter) {
        let ForwardingOptions { listener, advertised_address, keys } = options;
        let Some(key) = keys.first().copied() else { return };
        let server = ForwardingServer::start(&self.runtime, listener, keys, writer);
        let (peers, links) = (Vec::new(), HashMap::new());
        *self.lock() = Some(Started { advertised_address, key, server, peers, links });
    }

    /// Ends what [`Self::start`] began. The others get the answers that they wait for.
    pub(super) async fn stop(&self) {
        let started = self.lock().take();
        if let Some(Started { server, .. }) = started {
            server.stop().await;
        }
    }

    /// The address for other nodes. `None` unless this node takes commits.
    pub(super) fn advertised_address(&self) -> Option<String> {
        self.lock().as_ref().map(|started| started.advertised_address.clone())
    }

    /// Sets the nodes that take commits.
    pub(super) fn set_peers(&self, peers: Vec<Peer>) {
        if let Some(started) = &mut *self.lock() {
            let is_peer = |id: &Uuid| peers.iter().any(|peer| peer.id == *id);
            for (_, gone) in started.links.extract_if(|id, _| !is_peer(id)) {
                gone.give_up();
            }
            started.peers = peers;
        }
    }

    /// Marks the products and promotions that these commits change as hot, since other nodes change
    /// them, too.
    pub(super) fn mark_hot(&self, commits: &[Commit]) {
        self.hot_records.mark_hot(commits);
    }

    /// Has the home of a hot product or promotion apply a commit. `None` if this node is to apply
    /// it: then it certainly was not applied.
    pub(super) async fn forward(
        &self,
        commit: &Commit,
        has_priority: bool,
    ) -> Option<CommitOutcome> {
        let record = self.hot_records.first_hot_record(commit)?;
        let link = self.link_to_home(record)?;
        let now = std::time::Instant::now();
        let document = codec::encode_commit(commit, has_priority, now)?;
        let outcome = link.send(document)?;
        // The connection ends when its node is gone, whoever still waits.
        drop(link);
        match timeout_at(Instant::from_std(commit.deadline), outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Some(Err(CommitError::OutcomeUnknown)),
        }
    }

    /// The link to the home of a product or a promotion. `None` if that is this node, or cannot be
    /// reached.
    fn link_to_home(&self, record: Uuid) -> Option<Arc<Link>> {
        let mut started = self.lock();
        let Started { key, peers, links, .. } = started.as_mut()?;
        let home = choose_home(record, peers).filter(|home| home.id != self.id)?;
        let open = || Arc::new(Link::open(&self.runtime, home.address.clone(), *key));
        let link = links.entry(home.id).or_insert_with(open);
        link.is_usable().then(|| Arc::clone(link))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Started>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The peer with the highest hash of record and peer. When a node comes or goes, only its own
/// records get another home.
fn choose_home(record: Uuid, peers: &[Peer]) -> Option<&Peer> {
    let score = |peer: &&Peer| {
        let mut hasher = DefaultHasher::new();
        (record, peer.id).hash(&mut hasher);
        (hasher.finish(), peer.id)
    };
    peers.iter().max_by_key(score)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ProductId;

    #[test]
    fn every_node_chooses_the_same_home_and_keeps_it() {
        let peer = |_| Peer { id: ProductId::new().as_uuid(), address: String::new() };
        let peers: Vec<Peer> = (0..8).map(peer).collect();
        let mut reversed = peers.clone();
        reversed.reverse();
        let mut counts = HashMap::new();
        for _ in 0..8000 {
            let product = ProductId::new().as_uuid();
            let home = choose_home(product, &peers).unwrap();
            assert_eq!(choose_home(product, &reversed), Some(home));
            *counts.entry(home.id).or_insert(0) += 1;
            let others: Vec<Peer> = peers.iter().skip(1).cloned().collect();
            if home.id != peers[0].id {
                assert_eq!(choose_home(product, &others), Some(home));
            }
        }
        assert!(counts.len() == 8 && counts.values().all(|count| *count > 500), "{counts:?}");
    }
}
