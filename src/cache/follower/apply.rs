//! What events mean for the caches.

use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

use super::Follower;
use crate::{
    cache::revoked_sessions::KEPT,
    domain::{
        ids::{ProductId, SessionId},
        inventory::StockLevel,
    },
    events::OutboxEvent,
    store::{CommittedChanges, StoreUnavailable},
};

/// Products that are read from the store at once.
const READ: usize = 500;

/// What of an event tells which cache it concerns.
#[derive(Deserialize)]
struct Heading {
    subject: Uuid,
    sequence: String,
    data: Details,
}

#[derive(Deserialize)]
struct Details {
    session_id: Option<SessionId>,
    on_hand: Option<u64>,
    reserved: Option<u64>,
}

impl Heading {
    fn version(&self) -> u64 {
        self.sequence.parse().unwrap_or(u64::MAX)
    }

    /// The stock level that an event of the inventory carries.
    fn stock(&self) -> Option<StockLevel> {
        let (on_hand, reserved) = (self.data.on_hand?, self.data.reserved?);
        // Movements are counted by the store alone.
        Some(StockLevel {
            on_hand,
            reserved,
            version: self.version(),
            ..StockLevel::empty(self.subject.into())
        })
    }
}

impl Follower {
    /// Tells the caches and the feed of events.
    pub(super) async fn tell(&self, events: Vec<OutboxEvent>) -> Result<(), StoreUnavailable> {
        let mut news = CommittedChanges::default();
        let mut changed: Vec<ProductId> = Vec::new();
        for event in &events {
            let Ok(heading) = serde_json::from_slice::<Heading>(&event.body) else {
                tracing::error!(id = %event.id, kind = event.kind, "an event cannot be read; its caches may be old");
                continue;
            };
            let subject = heading.subject;
            match event.kind.split('.').next() {
                Some("catalog")
                    if self
                        .shelf
                        .get(subject.into())
                        .is_none_or(|v| v.product.version < heading.version()) =>
                {
                    changed.push(subject.into());
                }
                Some("inventory") => match (self.shelf.get(subject.into()), heading.stock()) {
                    // What this node did itself is on the shelf already.
                    (Some(view), _) if view.stock.version >= heading.version() => {}
                    (Some(_), Some(level)) => news.stock.push(level),
                    _ => changed.push(subject.into()),
                },
                Some("cart") => news.carts.push((subject.into(), heading.version())),
                Some("auth") => news
                    .revoked_sessions
                    .extend(heading.data.session_id.map(|id| (id, self.clock.now()))),
                _ => {}
            }
        }
        self.read(changed, &mut news).await?;
        self.caches.on_committed(&news);
        self.feed.apply(&events);
        Ok(())
    }

    /// Fills the caches again, since events before `oldest`, the first that is still kept, were never looked at: the node was frozen, or
    /// away from its store, for too long.
    pub(super) async fn begin_anew(&self, oldest: u64) -> Result<(), StoreUnavailable> {
        tracing::warn!(
            oldest,
            "events were missed that are not kept any more; what is known of other nodes is read again"
        );
        let now = self.clock.now();
        let revoked = self.store.list_sessions_revoked_since(now.saturating_sub(KEPT)).await?;
        self.caches.on_committed(&CommittedChanges {
            revoked_sessions: revoked.into_iter().map(|id| (id, now)).collect(),
            ..CommittedChanges::default()
        });
        self.shelf.load(&*self.store).await?;
        self.caches.on_missed();
        Ok(())
    }

    /// Reads products that have changed.
    async fn read(
        &self,
        mut changed: Vec<ProductId>,
        news: &mut CommittedChanges,
    ) -> Result<(), StoreUnavailable> {
        changed.sort_unstable();
        changed.dedup();
        for some in changed.chunks(READ) {
            for (product, stock) in self.store.find_products_by_id(some.to_vec()).await? {
                news.products.push(Arc::new(product));
                // Later than any level that an event carries: of two for one product, the last counts.
                news.stock.push(stock);
            }
        }
        Ok(())
    }
}
