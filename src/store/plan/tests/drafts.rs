//! Random commits, drafted before it is known what the model store holds.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::model_rules::rule_at_version;
use super::model_store::{
    self, ModelStore, commit_of, numbered_id, order_at_version, product_details,
    session_at_version, stock_write, user_at_version,
};
use crate::{
    domain::{
        account::Email,
        cart::{Cart, CartOwner},
        catalog::product::Product,
        clock::Timestamp,
        inventory::StockChange,
        mail::{Mail, MailKind},
        order::{LimitedLine, OrderStatus},
        pricing::{RuleRecord, UseChange},
    },
    store::commit::{Commit, Condition, StoredReplyBody, Write},
};

/// A write that is built from what the model store holds at that time.
#[derive(Debug, Clone)]
pub(super) enum DraftWrite {
    Cart {
        owner: u8,
        ahead: u64,
    },
    Product {
        id: u8,
        ahead: u64,
        sku: Option<&'static str>,
        deleted: bool,
    },
    Order {
        id: u8,
        ahead: u64,
        status: OrderStatus,
    },
    Stock {
        id: u8,
        change: StockChange,
    },
    User {
        id: u8,
        ahead: u64,
        email: u8,
    },
    Session {
        id: u8,
        ahead: u64,
        revoked: bool,
    },
    Mail {
        id: u8,
        ahead: u64,
        ended: bool,
    },
    /// Of the last user, who has neither orders nor idempotency keys.
    Erasure {
        ahead: u64,
    },
    Use {
        id: u8,
        change: UseChange,
    },
    Rule {
        id: u8,
        ahead: u64,
        country: u8,
        deleted: bool,
    },
}

/// The user whose account is erased.
const ERASED_USER: u8 = 2;

#[derive(Debug, Clone)]
pub(super) struct DraftCommit {
    writes: Vec<DraftWrite>,
    /// A product that must be unchanged, and how many versions the expected one is behind.
    unchanged: Option<(u8, u64)>,
    /// A user who must have fewer pending orders than this.
    pending_below: Option<(u8, u32)>,
    /// A user, units that are about to be ordered, and the limit of pending units.
    pending_units: Option<(u8, u64, u32)>,
    /// A user, a product, a quantity that is about to be ordered, and the purchase limit.
    purchase: Option<(u8, u8, u32, u32)>,
    /// How many versions the expected one of the rules is behind.
    rules: Option<u64>,
    /// An idempotency key and a fingerprint.
    key: Option<(u8, u8)>,
    inbox: Option<u8>,
}

pub(super) fn draft_writes() -> impl Strategy<Value = DraftWrite> {
    // Mostly the next version, sometimes a stale one or one too far.
    let ahead = || prop_oneof![8 => Just(1_u64), 1 => Just(0), 1 => Just(2)];
    let sku = prop_oneof![Just(None), Just(Some("A")), Just(Some("B")), Just(Some("C"))];
    let change = prop_oneof![
        (-20..20_i64).prop_map(StockChange::Adjust),
        (0..25_u64).prop_map(StockChange::Set),
        (0..8_u64).prop_map(StockChange::Reserve),
        (0..8_u64).prop_map(StockChange::Release),
        (0..8_u64).prop_map(StockChange::Ship),
        Just(StockChange::Set(u64::MAX)),
    ];
    prop_oneof![
        3 => (0..3_u8, ahead()).prop_map(|(owner, ahead)| DraftWrite::Cart { owner, ahead }),
        3 => (0..4_u8, ahead(), sku, prop::bool::weighted(0.2))
            .prop_map(|(id, ahead, sku, deleted)| DraftWrite::Product { id, ahead, sku, deleted }),
        3 => (0..6_u8, ahead(), prop::sample::select(OrderStatus::ALL))
            .prop_map(|(id, ahead, status)| DraftWrite::Order { id, ahead, status }),
        6 => (0..3_u8, change).prop_map(|(id, change)| DraftWrite::Stock { id, change }),
        1 => (0..3_u8, ahead(), 0..2_u8)
            .prop_map(|(id, ahead, email)| DraftWrite::User { id, ahead, email }),
        1 => (0..2_u8, ahead(), any::<bool>())
            .prop_map(|(id, ahead, revoked)| DraftWrite::Session { id, ahead, revoked }),
        1 => (0..2_u8, ahead(), any::<bool>())
            .prop_map(|(id, ahead, ended)| DraftWrite::Mail { id, ahead, ended }),
        1 => ahead().prop_map(|ahead| DraftWrite::Erasure { ahead }),
        2 => (0..2_u8, any::<bool>(), 0..3_u64).prop_map(|(id, takes, limit)| DraftWrite::Use {
            id,
            change: match takes {
                true => UseChange::Take { limit: Some(limit) },
                false => UseChange::GiveBack,
            },
        }),
        2 => (0..3_u8, ahead(), 0..2_u8, prop::bool::weighted(0.2))
            .prop_map(|(id, ahead, country, deleted)| DraftWrite::Rule {
                id, ahead, country, deleted,
            }),
    ]
}

pub(super) fn draft_commits() -> impl Strategy<Value = DraftCommit> {
    let key = prop::option::weighted(0.4, (0..4_u8, 0..2_u8));
    let unchanged =
        prop::option::weighted(0.2, (0..4_u8, prop_oneof![4 => Just(0_u64), 1 => Just(1)]));
    let pending_below = prop::option::weighted(0.3, (0..2_u8, 1..3_u32));
    let pending_units = prop::option::weighted(0.2, (0..2_u8, 1..4_u64, 1..8_u32));
    let purchase = prop::option::weighted(0.3, (0..2_u8, 0..2_u8, 1..4_u32, 1..7_u32));
    let rules = prop::option::weighted(0.2, prop_oneof![4 => Just(0_u64), 1 => Just(1)]);
    let limits = (pending_below, pending_units, purchase, rules);
    let inbox = prop::option::weighted(0.2, 0..4_u8);
    (prop::collection::vec(draft_writes(), 1..4), unchanged, limits, key, inbox).prop_map(
        |(writes, unchanged, (pending_below, pending_units, purchase, rules), key, inbox)| {
            DraftCommit {
                writes,
                unchanged,
                pending_below,
                pending_units,
                purchase,
                rules,
                key,
                inbox,
            }
        },
    )
}

impl DraftWrite {
    pub(super) fn to_write(&self, store: &ModelStore) -> Write {
        let next = |held: Option<u64>, ahead: u64| held.unwrap_or(0) + ahead;
        match *self {
            Self::Cart { owner, ahead } => {
                let owner = CartOwner { id: numbered_id(owner), is_guest: false };
                let version = next(store.carts.get(&owner.id).map(|cart| cart.version), ahead);
                Write::Cart(Arc::new(Cart { version, ..Cart::empty(owner) }))
            }
            Self::Product { id: number, ahead, sku, deleted } => {
                let version = next(
                    store.products.get(&numbered_id(number)).map(|product| product.version),
                    ahead,
                );
                let product =
                    Product::new(numbered_id(number), product_details(sku), Timestamp::default());
                Write::Product(Arc::new(Product { version, deleted, ..product }))
            }
            Self::Order { id: number, ahead, status } => {
                let version =
                    next(store.orders.get(&numbered_id(number)).map(|order| order.version), ahead);
                Write::Order(Arc::new(order_at_version(number, number % 2, status, version)))
            }
            Self::Stock { id: number, change } => stock_write(number, change, None),
            Self::User { id: number, ahead, email } => {
                let held = store.users.get(&numbered_id(number));
                // An account keeps its email address.
                let email = held.map_or_else(
                    || Email::from_stored(format!("{email}@example.com")),
                    |user| user.email.clone(),
                );
                Write::User(Arc::new(user_at_version(
                    number,
                    email,
                    next(held.map(|user| user.version), ahead),
                )))
            }
            Self::Session { id: number, ahead, revoked } => {
                let version = next(
                    store.sessions.get(&numbered_id(number)).map(|session| session.version),
                    ahead,
                );
                Write::Session(Arc::new(session_at_version(number, revoked, version)))
            }
            Self::Mail { id: number, ahead, ended } => {
                let held = store.mails.get(&numbered_id(number)).map(|mail| mail.version);
                Write::Mail(Arc::new(mail_at_version(number, ended, next(held, ahead))))
            }
            Self::Erasure { ahead } => {
                let held = store.users.get(&numbered_id(ERASED_USER)).map(|user| user.version);
                let email = Email::from_stored("0@example.com".to_owned());
                let version = next(held, ahead).saturating_sub(1);
                Write::EraseAccount(Arc::new(user_at_version(ERASED_USER, email, version)))
            }
            Self::Use { id, change } => Write::PromotionUse(numbered_id(id), change),
            Self::Rule { id: number, ahead, country, deleted } => {
                let held = store.rules.get(&numbered_id(number)).map(|rule| rule.version);
                let rule = rule_at_version(number, country, next(held, ahead));
                Write::PricingRule(Arc::new(RuleRecord { deleted, ..rule }))
            }
        }
    }

    /// What a commit names at most once: a record, a sku, an email address.
    pub(super) fn unique_names(&self) -> Vec<(u8, u8)> {
        match *self {
            Self::Cart { owner, .. } => vec![(0, owner)],
            Self::Product { id, sku, .. } => {
                sku.map(|sku| (2, sku.as_bytes()[0])).into_iter().chain([(1, id)]).collect()
            }
            Self::Stock { .. } => vec![],
            Self::User { id, email, .. } => vec![(3, id), (4, email)],
            Self::Session { id, .. } => vec![(5, id)],
            Self::Order { id, .. } => vec![(6, id)],
            Self::Mail { id, .. } => vec![(7, id)],
            Self::Erasure { .. } => vec![(3, ERASED_USER)],
            Self::Use { id, .. } => vec![(10, id)],
            Self::Rule { id, country, .. } => vec![(8, id), (9, country)],
        }
    }
}

impl DraftCommit {
    pub(super) fn to_commit(&self, store: &ModelStore, number: usize) -> Commit {
        let mut named = BTreeSet::new();
        let once =
            |draft: &&DraftWrite| draft.unique_names().into_iter().all(|name| named.insert(name));
        let commit =
            commit_of(self.writes.iter().filter(once).map(|draft| draft.to_write(store)).collect());
        let moved = commit.writes.iter().find_map(|write| match write {
            Write::Stock(stock) => Some(StoredReplyBody::StockLevelOf(stock.product_id)),
            _ => None,
        });
        let body =
            moved.unwrap_or(StoredReplyBody::Ready(Bytes::from(format!("response {number}"))));
        let version =
            |number| store.products.get(&numbered_id(number)).map_or(0, |product| product.version);
        let unchanged = self.unchanged.map(|(number, behind)| {
            let version = version(number).saturating_sub(behind);
            Condition::ProductUnchanged(numbered_id(number), version)
        });
        let pending_below = self
            .pending_below
            .map(|(owner, limit)| Condition::PendingOrdersBelow(numbered_id(owner), limit));
        let pending_units = self.pending_units.map(|(owner, units, limit)| {
            Condition::PendingUnitsWithin { user_id: numbered_id(owner), units, limit }
        });
        let purchase = self.purchase.map(|(owner, product, quantity, limit)| {
            let line = LimitedLine { product_id: numbered_id(product), quantity, limit };
            Condition::PurchaseWithin(numbered_id(owner), line)
        });
        let rules = self.rules.map(|behind| {
            let version: u64 = store.rules.values().map(|rule| rule.version).sum();
            Condition::PricingRulesUnchanged(version.saturating_sub(behind))
        });
        let limits = [rules, pending_below, pending_units, purchase].into_iter().flatten();
        let conditions = unchanged.into_iter().chain(limits).collect();
        let inbox = self.inbox.map(|id| id.to_string().into());
        let idempotency_record = self
            .key
            .map(|(key, fingerprint)| model_store::idempotency_record(key, fingerprint, body));
        Commit { conditions, idempotency_record, inbox_message_id: inbox, ..commit }
    }
}

pub(super) fn mail_at_version(number: u8, ended: bool, version: u64) -> Mail {
    let recipient = Email::from_stored("ada@example.com".into());
    let mail = Mail::new(MailKind::PasswordReset, recipient, None, Timestamp::default());
    Mail { id: numbered_id(number), ended, version, ..mail }
}
