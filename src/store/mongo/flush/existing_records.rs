//! What of a batch's records is stored already.

use std::collections::{HashMap, HashSet};

use crate::{
    domain::ids::{
        ApiKeyId, MailId, OrderId, ProductId, PromotionId, RuleId, SessionId, UserId, WebhookId,
    },
    store::{
        mongo::expected_state::Expectation,
        plan::{LoadedState, OwnedIdempotencyKey},
    },
};

/// Which of the records to write exist in the snapshot, and which product has which sku.
///
/// An update finds its record by id alone, if that was loaded. It need not check the version: the
/// server aborts a transaction that writes a document which has changed since its snapshot. A check
/// of the version would nearly double the server's work.
pub(in crate::store::mongo) struct ExistingRecords {
    /// What was not loaded.
    pub(super) expectation: Expectation,
    /// Carts, with the version that they have or are expected to have.
    pub(super) carts: HashMap<UserId, u64>,
    pub(super) products: HashSet<ProductId>,
    pub(super) skus: HashMap<String, ProductId>,
    pub(super) orders: HashSet<OrderId>,
    pub(super) users: HashSet<UserId>,
    pub(super) sessions: HashSet<SessionId>,
    pub(super) api_keys: HashSet<ApiKeyId>,
    pub(super) mails: HashSet<MailId>,
    pub(in crate::store::mongo) webhooks: HashSet<WebhookId>,
    pub(super) stock: HashSet<ProductId>,
    pub(super) rules: HashSet<RuleId>,
    pub(in crate::store::mongo) promotion_uses: HashSet<PromotionId>,
    /// Keys that have a document, but no reply that is still honored.
    pub(super) replaceable_keys: HashSet<OwnedIdempotencyKey>,
}

impl ExistingRecords {
    pub(in crate::store::mongo) fn from_loaded(
        loaded: &LoadedState,
        replaceable_keys: HashSet<OwnedIdempotencyKey>,
        expectation: Expectation,
    ) -> Self {
        Self {
            expectation,
            carts: loaded.carts.clone(),
            products: loaded.products.keys().copied().collect(),
            skus: loaded.sku_owners.clone(),
            orders: loaded.orders.keys().copied().collect(),
            users: loaded.users.keys().copied().collect(),
            sessions: loaded.sessions.keys().copied().collect(),
            api_keys: loaded.api_keys.keys().copied().collect(),
            mails: loaded.mails.keys().copied().collect(),
            webhooks: loaded.webhooks.keys().copied().collect(),
            stock: loaded.stock.keys().copied().collect(),
            rules: loaded.rules.keys().copied().collect(),
            promotion_uses: loaded.promotion_uses.keys().copied().collect(),
            replaceable_keys,
        }
    }
}
