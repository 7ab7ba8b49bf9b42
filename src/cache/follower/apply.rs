//! Applies the events of other nodes to the caches of this node.

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

/// The number of products to read from the store at a time.
const PAGE_SIZE: usize = 500;

impl Follower {
    /// Applies events to the caches, then passes them to the feed.
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

    /// Adds the change of an event to `changes`. If the event does not contain the whole product,
    /// adds the product to `outdated` instead, to be read from the store.
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
                // This node made the change, or has read the product since.
                Some(view) if view.stock.version >= level.version => {}
                Some(_) => changes.stock.push(level),
                None => outdated.push(level.product_id),
            },
            ParsedEvent::Cart { owner, version } => changes.carts.push((owner, version)),
            ParsedEvent::SessionRevoked { session_id } => {
                changes.revoked_sessions.push((session_id, self.clock.now()));
            }
            // Orders and accounts are not cached.
            ParsedEvent::Order { .. } | ParsedEvent::UserRegistered { .. } => {}
        }
    }

    /// Reloads the caches after missing events that the store no longer has: the node was frozen or
    /// disconnected from the store for too long. `oldest` is the first position still stored.
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
                // At least as new as any level from an event. If a product has two levels, the last
                // one takes effect.
                changes.stock.push(stock);
            }
        }
        Ok(())
    }
}
