//! The part of a transaction's changes that the caches of other nodes need. It is stored beside the
//! events, so that nodes need not read those.

use mongodb::bson::Uuid as BsonUuid;
use serde::{Deserialize, Serialize};

use super::{StockDocument, id_from_bson, id_to_bson};
use crate::{
    events::parse::CacheChange,
    store::{mongo::promotion_uses::PromotionUsesDocument, plan::WriteSet},
};

/// The changes of a transaction.
#[derive(Default, Serialize, Deserialize)]
pub(in crate::store::mongo) struct ChangesDocument {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    carts: Vec<ChangedRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    products: Vec<ChangedRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stock: Vec<StockDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked_sessions: Vec<BsonUuid>,
    /// Accounts whose rights changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rights: Vec<BsonUuid>,
    /// API keys that are new or deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    api_keys: Vec<BsonUuid>,
    /// Pricing rules that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pricing_rules: Vec<ChangedRecord>,
    /// How often promotions are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    promotion_uses: Vec<PromotionUsesDocument>,
    /// Users whose orders with promotions changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    promotion_buyers: Vec<BsonUuid>,
}

#[derive(Serialize, Deserialize)]
struct ChangedRecord {
    id: BsonUuid,
    version: u64,
}

impl From<&WriteSet> for ChangesDocument {
    fn from(writes: &WriteSet) -> Self {
        let carts = writes.carts.values().map(|cart| ChangedRecord {
            id: id_to_bson(cart.owner.id.as_uuid()),
            version: cart.version,
        });
        let products = writes.products.values().map(|product| ChangedRecord {
            id: id_to_bson(product.id.as_uuid()),
            version: product.version,
        });
        let rules = writes
            .rules
            .values()
            .map(|rule| ChangedRecord { id: id_to_bson(rule.id.as_uuid()), version: rule.version });
        let revoked = writes.sessions.values().filter(|session| session.revoked_at.is_some());
        Self {
            carts: carts.collect(),
            products: products.collect(),
            stock: writes.stock.values().map(|level| StockDocument::from(*level)).collect(),
            revoked_sessions: revoked.map(|session| id_to_bson(session.id.as_uuid())).collect(),
            rights: writes
                .changed_rights()
                .map(|rights| id_to_bson(rights.user_id.as_uuid()))
                .collect(),
            api_keys: writes.api_keys.keys().map(|id| id_to_bson(id.as_uuid())).collect(),
            pricing_rules: rules.collect(),
            promotion_uses: writes.promotion_uses.values().map(|uses| (*uses).into()).collect(),
            promotion_buyers: writes
                .promotion_buyers()
                .iter()
                .map(|id| id_to_bson(id.as_uuid()))
                .collect(),
        }
    }
}

impl ChangesDocument {
    /// The changes, as the events of the transaction tell them.
    pub(in crate::store::mongo) fn into_changes(self) -> impl Iterator<Item = CacheChange> {
        let cart = |cart: ChangedRecord| CacheChange::Cart {
            owner: id_from_bson(cart.id),
            version: cart.version,
        };
        let product = |product: ChangedRecord| CacheChange::Product {
            id: id_from_bson(product.id),
            version: product.version,
        };
        let rule = |rule: ChangedRecord| CacheChange::PricingRule {
            id: id_from_bson(rule.id),
            version: rule.version,
        };
        let uses = |uses: PromotionUsesDocument| CacheChange::PromotionUses(uses.into());
        let buyer = |user| CacheChange::PromotionBuyer { user_id: id_from_bson(user) };
        let revoked = |session| CacheChange::SessionRevoked { session_id: id_from_bson(session) };
        let rights = |user| CacheChange::Rights { user_id: id_from_bson(user) };
        let api_key = |key| CacheChange::ApiKey { id: id_from_bson(key) };
        let carts = self.carts.into_iter().map(cart);
        carts
            .chain(self.products.into_iter().map(product))
            .chain(self.stock.into_iter().map(|level| CacheChange::Stock(level.into())))
            .chain(self.revoked_sessions.into_iter().map(revoked))
            .chain(self.rights.into_iter().map(rights))
            .chain(self.api_keys.into_iter().map(api_key))
            .chain(self.pricing_rules.into_iter().map(rule))
            .chain(self.promotion_uses.into_iter().map(uses))
            .chain(self.promotion_buyers.into_iter().map(buyer))
    }
}
