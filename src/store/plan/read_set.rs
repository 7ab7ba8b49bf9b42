//! The planner's input: the records that a batch names, and their stored state.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    domain::{
        clock::Timestamp,
        ids::{
            ApiKeyId, MailId, OrderId, ProductId, PromotionId, RuleId, SessionId, UserId, WebhookId,
        },
        inventory::StockLevel,
        order::{BuyerKey, OrderStatus},
        pricing::{BuyerUse, PromotionUses},
    },
    messages::command_context::StoredReply,
    store::commit::{Commit, Condition, Write},
};

/// An idempotency key and its owner, by which its stored reply is found.
pub type OwnedIdempotencyKey = (UserId, Box<str>);

/// The records that an engine must load before [`plan_batch`](super::plan_batch).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// Carts, for their version.
    pub carts: BTreeSet<UserId>,
    /// Products, for their version and sku.
    pub products: BTreeSet<ProductId>,
    /// Orders, for their version and status.
    pub orders: BTreeSet<OrderId>,
    /// Users, for their pending orders.
    pub pending_order_users: BTreeSet<UserId>,
    /// Users and products, for the units that the user's orders have of the product. The users are
    /// in `pending_order_users`, too.
    pub purchases: BTreeSet<(UserId, ProductId)>,
    /// Skus, for the active product that has each.
    pub skus: BTreeSet<String>,
    /// Products whose stock level is needed.
    pub stock: BTreeSet<ProductId>,
    /// Accounts, for their version.
    pub users: BTreeSet<UserId>,
    /// Email addresses, for the account that has each.
    pub emails: BTreeSet<String>,
    /// Sessions, for their version.
    pub sessions: BTreeSet<SessionId>,
    /// Mails that wait, for their version.
    pub mails: BTreeSet<MailId>,
    /// Webhook endpoints, for their version.
    pub webhooks: BTreeSet<WebhookId>,
    /// Idempotency keys, for their stored replies.
    pub idempotency_keys: BTreeSet<OwnedIdempotencyKey>,
    /// Ids of messages, which may have been applied before.
    pub inbox: BTreeSet<Box<str>>,
    /// Whose orders are needed that are [unfinished](BuyerKey::unfinished_statuses).
    pub unfinished_orders: BTreeSet<BuyerKey>,
    /// Whether the ids of all admins that are not blocked are needed.
    pub active_admins: bool,
    /// API keys, for their version.
    pub api_keys: BTreeSet<ApiKeyId>,
    /// Admins, for the number of their API keys.
    pub api_key_makers: BTreeSet<UserId>,
    /// Pricing rules, for their version.
    pub rules: BTreeSet<RuleId>,
    /// Unique keys of rules, for the rule that has each.
    pub rule_keys: BTreeSet<String>,
    /// Whether the version of all rules together is needed.
    pub rules_version: bool,
    /// Promotions, for the number of their uses.
    pub promotion_uses: BTreeSet<PromotionId>,
    /// Buyers and promotions, for those of the buyer's orders that have it.
    pub buyer_uses: BTreeSet<BuyerUse>,
}

impl ReadSet {
    /// The records that `batch` names.
    #[must_use]
    pub fn for_batch(batch: &[Commit]) -> Self {
        let mut read_set = Self::default();
        for commit in batch {
            if let Some(record) = &commit.idempotency_record {
                read_set.idempotency_keys.insert((record.key.owner, record.key.key.clone()));
            }
            for condition in &commit.conditions {
                match condition {
                    Condition::ProductUnchanged(product_id, _) => {
                        read_set.products.insert(*product_id);
                    }
                    Condition::PendingOrdersBelow(user_id, _)
                    | Condition::PendingUnitsWithin { user_id, .. } => {
                        read_set.pending_order_users.insert(*user_id);
                    }
                    Condition::OtherAdminRemains(_) => read_set.active_admins = true,
                    Condition::ApiKeysBelow(user_id, _) => {
                        read_set.api_key_makers.insert(*user_id);
                    }
                    Condition::NoOpenOrders { user_id, guest_email } => {
                        let guests = guest_email.iter().cloned().map(BuyerKey::GuestEmail);
                        read_set.unfinished_orders.extend(guests);
                        read_set.unfinished_orders.insert(BuyerKey::User(*user_id));
                    }
                    Condition::PricingRulesUnchanged(_) => read_set.rules_version = true,
                    Condition::BuyerUsesBelow { buyer, promotion_id, .. } => {
                        read_set.buyer_uses.extend(buyer.keys().map(|key| (key, *promotion_id)));
                    }
                    Condition::PurchaseWithin(user_id, line) => {
                        read_set.pending_order_users.insert(*user_id);
                        read_set.purchases.insert((*user_id, line.product_id));
                    }
                }
            }
            read_set.inbox.extend(commit.inbox_message_id.clone());
            for write in &commit.writes {
                read_set.add_write(write);
            }
        }
        read_set
    }

    fn add_write(&mut self, write: &Write) {
        match write {
            Write::Cart(cart) => {
                self.carts.insert(cart.owner.id);
            }
            Write::Product(product) => {
                self.products.insert(product.id);
                self.skus.extend(product.details.sku.clone());
            }
            Write::Order(order) => {
                self.orders.insert(order.id);
            }
            Write::Stock(stock) => {
                self.stock.insert(stock.product_id);
            }
            Write::User(user) => {
                self.users.insert(user.id);
                self.emails.insert(user.email.as_str().to_owned());
            }
            Write::Session(session) => {
                self.sessions.insert(session.id);
            }
            Write::ApiKey(key) => {
                self.api_keys.insert(key.id);
            }
            Write::Mail(mail) => {
                self.mails.insert(mail.id);
            }
            Write::EraseAccount(user) => {
                self.users.insert(user.id);
            }
            Write::ReassignGuestReplies { user_id, .. } => {
                self.users.insert(*user_id);
            }
            Write::Webhook(webhook) => {
                self.webhooks.insert(webhook.id);
            }
            // The account's version guards the first, and the second is written in any case.
            Write::AddressBook(_) | Write::WebhookDelivery(_) => {}
            Write::PromotionUse(promotion_id, _) => {
                self.promotion_uses.insert(*promotion_id);
            }
            Write::PricingRule(rule) => {
                self.rules.insert(rule.id);
                self.rule_keys.extend(rule.unique_key());
                self.rules_version = true;
            }
        }
    }
}

/// A user's pending orders, which are placed and not paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PendingOrders {
    /// How many they are.
    pub orders: u64,
    /// How many units they have.
    pub units: u64,
}

/// What the planner needs to know of a stored order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredOrder {
    /// The version.
    pub version: u64,
    /// The status.
    pub status: OrderStatus,
    /// The buyer.
    pub user_id: UserId,
}

/// The stored state of what a [`ReadSet`] names. Records that the store lacks are absent.
#[derive(Debug, Default)]
pub struct LoadedState {
    /// Versions of carts.
    pub carts: HashMap<UserId, u64>,
    /// Versions of products.
    pub products: HashMap<ProductId, u64>,
    /// Orders.
    pub orders: HashMap<OrderId, StoredOrder>,
    /// Those of `orders` that are anonymized.
    pub anonymized_orders: HashSet<OrderId>,
    /// The [unfinished](BuyerKey::unfinished_statuses) orders. Every key that the read set asks for
    /// is present.
    pub unfinished_orders: HashMap<BuyerKey, HashMap<OrderId, OrderStatus>>,
    /// Pending orders, by user.
    pub pending_orders: HashMap<UserId, PendingOrders>,
    /// The units of a product in a user's orders that are neither cancelled nor expired. Every pair
    /// of the read set is present, with 0 if there are none.
    pub purchased_units: HashMap<(UserId, ProductId), u64>,
    /// Active products, by sku.
    pub sku_owners: HashMap<String, ProductId>,
    /// Stock levels, by product.
    pub stock: HashMap<ProductId, StockLevel>,
    /// Versions of accounts.
    pub users: HashMap<UserId, u64>,
    /// Accounts, by email address.
    pub email_owners: HashMap<String, UserId>,
    /// Versions of sessions.
    pub sessions: HashMap<SessionId, u64>,
    /// Versions of mails that wait.
    pub mails: HashMap<MailId, u64>,
    /// Versions of webhook endpoints.
    pub webhooks: HashMap<WebhookId, u64>,
    /// Stored responses, with the fingerprints of their requests.
    pub stored_replies: HashMap<OwnedIdempotencyKey, ([u8; 32], StoredReply)>,
    /// When the latest refused request with the key was received, for keys without a reply.
    pub refused_keys: HashMap<OwnedIdempotencyKey, Timestamp>,
    /// Ids of messages that were applied.
    pub applied_messages: HashSet<Box<str>>,
    /// All admins that are not blocked, if the read set asks for them.
    pub active_admins: HashSet<UserId>,
    /// Versions of API keys.
    pub api_keys: HashMap<ApiKeyId, u64>,
    /// The number of an admin's API keys that are not deleted. Every admin that the read set asks
    /// for is present.
    pub api_keys_made: HashMap<UserId, u64>,
    /// Versions of pricing rules.
    pub rules: HashMap<RuleId, u64>,
    /// Rules that exist, by unique key.
    pub rule_keys: HashMap<String, RuleId>,
    /// The sum of the versions of all rules, if the read set asks for it.
    pub rules_version: u64,
    /// How often promotions are used. One that no order has ever had is missing.
    pub promotion_uses: HashMap<PromotionId, PromotionUses>,
    /// A buyer's orders with a promotion that are neither cancelled nor expired. Every pair that
    /// the read set asks for is present.
    pub buyer_uses: HashMap<BuyerUse, HashSet<OrderId>>,
}

impl LoadedState {
    /// Adds units to what a user has bought of a product, if the read set names the two.
    pub(crate) fn add_purchased_units(&mut self, pair: (UserId, ProductId), units: u64) {
        if let Some(bought) = self.purchased_units.get_mut(&pair) {
            *bought = bought.saturating_add(units);
        }
    }
}
