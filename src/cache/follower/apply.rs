//! Applies the events of other nodes to the caches of this node.

use std::sync::Arc;

use super::Follower;
use crate::{
    cache::revoked_sessions,
    domain::ids::ProductId,
    events::{OutboxCursor, parse::CacheChange},
    store::{CommittedChanges, StoreUnavailable},
};

/// The number of products to read from the store at a time.
const PAGE_SIZE: usize = 500;

impl Follower {
    /// Applies events to the caches.
    pub(super) async fn apply_events(
        &self,
        events: impl IntoIterator<Item = CacheChange>,
    ) -> Result<(), StoreUnavailable> {
        let mut changes = CommittedChanges::default();
        let mut outdated: Vec<ProductId> = Vec::new();
        let mut uses_changed = false;
        for event in events {
            if let CacheChange::Rights { user_id } = event {
                self.account_rights.refresh(&*self.store, user_id).await?;
            }
            if let CacheChange::ApiKey { id } = event {
                self.account_rights.api_keys.refresh(&*self.store, id).await?;
            }
            if let CacheChange::PricingRule { id, version } = event {
                self.pricing_rules.refresh(&*self.store, id, version).await?;
            }
            uses_changed |= matches!(event, CacheChange::Order { promotion_buyer: Some(_), .. });
            self.collect_changes(event, &mut changes, &mut outdated);
        }
        if uses_changed {
            self.pricing_rules.refresh_uses(&*self.store).await?;
        }
        self.read_products(outdated, &mut changes).await?;
        self.caches.on_committed(&changes);
        Ok(())
    }

    /// Adds the change of an event to `changes`. If the event does not contain the whole product,
    /// adds the product to `outdated` instead, to be read from the store.
    fn collect_changes(
        &self,
        event: CacheChange,
        changes: &mut CommittedChanges,
        outdated: &mut Vec<ProductId>,
    ) {
        match event {
            CacheChange::Product { id, version } => {
                let known = self.catalog_cache.get(id);
                if known.is_none_or(|view| view.product.version < version) {
                    outdated.push(id);
                }
            }
            CacheChange::Stock(level) => match self.catalog_cache.get(level.product_id) {
                // This node made the change, or has read the product since.
                Some(view) if view.stock.version >= level.version => {}
                Some(_) => changes.stock.push(level),
                None => outdated.push(level.product_id),
            },
            CacheChange::Cart { owner, version } => changes.carts.push((owner, version)),
            CacheChange::PromotionUses(uses) => changes.promotion_uses.push(uses),
            CacheChange::Order { promotion_buyer, .. } => {
                changes.promotion_buyers.extend(promotion_buyer);
            }
            CacheChange::PromotionBuyer { user_id } => changes.promotion_buyers.push(user_id),
            CacheChange::SessionRevoked { session_id } => {
                changes.revoked_sessions.push((session_id, self.clock.now()));
            }
            // Rights and rules are read from the store. The rest of accounts is not cached.
            CacheChange::Rights { .. }
            | CacheChange::ApiKey { .. }
            | CacheChange::PricingRule { .. }
            | CacheChange::UserRegistered { .. }
            | CacheChange::Webhook { .. } => {}
        }
    }

    /// Reloads the caches after missing events that the store no longer has: the node was frozen or
    /// disconnected from the store for too long. Moves `cursor` to where the events that the caches
    /// do not have begin.
    pub(super) async fn reload_caches(
        &self,
        cursor: &mut OutboxCursor,
    ) -> Result<(), StoreUnavailable> {
        tracing::warn!("missed events that the store no longer has; reloading the caches");
        let heads = self.store.outbox_heads().await?;
        let revoked_sessions =
            revoked_sessions::load_revocations(&*self.store, self.clock.now()).await?;
        self.caches
            .on_committed(&CommittedChanges { revoked_sessions, ..CommittedChanges::default() });
        self.account_rights.load(&*self.store).await?;
        self.pricing_rules.load(&*self.store).await?;
        self.catalog_cache.load(&*self.store).await?;
        self.caches.on_missed();
        self.advance_to(cursor, heads);
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
                changes.stock.push(stock);
            }
        }
        Ok(())
    }
}
