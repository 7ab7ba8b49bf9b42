//! What the events of other nodes change in the caches of this one.

use std::sync::Arc;

use super::Follower;
use crate::{
    cache::revoked_sessions::RETENTION,
    domain::ids::ProductId,
    events::{
        OutboxEvent,
        parse::{ParsedEvent, parse},
    },
    store::{CommittedChanges, StoreUnavailable},
};

/// How many products are read from the store at a time.
const PAGE_SIZE: usize = 500;

impl Follower {
    /// Brings the caches up to date with events, then hands the events to the feed.
    pub(super) async fn apply_events(
        &self,
        events: Vec<OutboxEvent>,
    ) -> Result<(), StoreUnavailable> {
        let mut changes = CommittedChanges::default();
        let mut outdated: Vec<ProductId> = Vec::new();
        for event in &events {
            match parse(event) {
                Ok(parsed) => self.collect_changes(parsed, &mut changes, &mut outdated),
                Err(error) => tracing::error!(
                    id = %event.id, kind = event.kind, %error,
                    "failed to read an event; caches may be outdated"
                ),
            }
        }
        self.read_products(outdated, &mut changes).await?;
        self.caches.on_committed(&changes);
        self.feed.apply(&events);
        Ok(())
    }

    /// Adds what an event changes to `changes`. A product that must be read from the store, since
    /// the event does not carry all of it, is added to `outdated`.
    fn collect_changes(
        &self,
        event: ParsedEvent,
        changes: &mut CommittedChanges,
        outdated: &mut Vec<ProductId>,
    ) {
        match event {
            ParsedEvent::Product { id, version } => {
                let known = self.catalog_snapshot.get(id);
                if known.is_none_or(|view| view.product.version < version) {
                    outdated.push(id);
                }
            }
            ParsedEvent::Stock(level) => match self.catalog_snapshot.get(level.product_id) {
                // This node made the change, or read the product since.
                Some(view) if view.stock.version >= level.version => {}
                Some(_) => changes.stock.push(level),
                None => outdated.push(level.product_id),
            },
            ParsedEvent::Cart { owner, version } => changes.carts.push((owner, version)),
            ParsedEvent::SessionRevoked { session_id } => {
                changes.revoked_sessions.push((session_id, self.clock.now()));
            }
            // Neither orders nor accounts are cached.
            ParsedEvent::Order { .. } | ParsedEvent::UserRegistered { .. } => {}
        }
    }

    /// Reloads the caches, since events before `oldest`, the first that the store still has, were
    /// never seen: the node was frozen, or cut off from its store, for too long.
    pub(super) async fn reload_caches(&self, oldest: u64) -> Result<(), StoreUnavailable> {
        tracing::warn!(oldest, "missed events that the store no longer has; reloading the caches");
        let now = self.clock.now();
        let revoked = self.store.list_sessions_revoked_since(now.saturating_sub(RETENTION)).await?;
        self.caches.on_committed(&CommittedChanges {
            revoked_sessions: revoked.into_iter().map(|id| (id, now)).collect(),
            ..CommittedChanges::default()
        });
        self.catalog_snapshot.load(&*self.store).await?;
        self.caches.on_missed();
        Ok(())
    }

    async fn read_products(
        &self,
        mut ids: Vec<ProductId>,
        changes: &mut CommittedChanges,
    ) -> Result<(), StoreUnavailable> {
        ids.sort_unstable();
        ids.dedup();
        for page in ids.chunks(PAGE_SIZE) {
            for (product, stock) in self.store.find_products_by_id(page.to_vec()).await? {
                changes.products.push(Arc::new(product));
                // Newer than any level that an event carries: of two for one product, the last
                // counts.
                changes.stock.push(stock);
            }
        }
        Ok(())
    }
}
