//! How often promotions are used, one document for each promotion that an order has had.

use std::collections::{BTreeSet, HashSet};

use mongodb::bson::{Bson, Document, RawDocument, Uuid as BsonUuid, doc};
use serde::{Deserialize, Serialize};

use super::{
    collection_writes::CollectionWrites,
    documents::{id_from_bson, id_to_bson},
    flush::ExistingRecords,
    load::{commit_time, deserialize_document},
    schema::{ORDERS, PROMOTION_USES, PROMOTIONS_OF_BUYER, PROMOTIONS_OF_EMAIL},
    transaction::Transaction,
    transaction_error::TransactionError,
};
use crate::{
    domain::{
        account::Email,
        ids::{OrderId, PromotionId},
        order::{BuyerKey, OrderStatus},
        pricing::PromotionUses,
    },
    store::plan::{LoadedState, ReadSet, WriteSet},
};

/// The uses of a promotion as stored in `promotion_uses`.
#[derive(Serialize, Deserialize)]
pub(super) struct PromotionUsesDocument {
    #[serde(rename = "_id")]
    promotion_id: BsonUuid,
    used: u64,
    version: u64,
}

impl From<PromotionUses> for PromotionUsesDocument {
    fn from(uses: PromotionUses) -> Self {
        let PromotionUses { promotion_id, used, version } = uses;
        Self { promotion_id: id_to_bson(promotion_id.as_uuid()), used, version }
    }
}

impl From<PromotionUsesDocument> for PromotionUses {
    fn from(document: PromotionUsesDocument) -> Self {
        let PromotionUsesDocument { promotion_id, used, version } = document;
        Self { promotion_id: id_from_bson(promotion_id), used, version }
    }
}

/// The promotions of an order, and its buyer.
#[derive(Deserialize)]
pub(super) struct OrderPromotions {
    #[serde(rename = "_id")]
    order_id: BsonUuid,
    user_id: BsonUuid,
    #[serde(default)]
    email: Option<String>,
    charges: Promotions,
}

#[derive(Deserialize)]
struct Promotions {
    discounts: Vec<Promotion>,
}

#[derive(Deserialize)]
struct Promotion {
    promotion_id: String,
}

/// Loads the uses that `read_set` names, and how many orders of buyers have promotions.
pub(super) async fn load(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
    latest: &mut i64,
) -> Result<(), TransactionError> {
    if !read_set.promotion_uses.is_empty() {
        let record = |document: &RawDocument| {
            let uses: PromotionUsesDocument = deserialize_document(document)?;
            let uses = PromotionUses::from(uses);
            loaded.promotion_uses.insert(uses.promotion_id, uses);
            *latest = commit_time(document).max(*latest);
            Ok(())
        };
        let filter = doc! { "_id": { "$in": bson_ids(&read_set.promotion_uses) } };
        transaction.for_each_document(PROMOTION_USES, filter, doc! {}, record).await?;
    }
    if read_set.buyer_uses.is_empty() {
        return Ok(());
    }
    loaded.buyer_uses =
        read_set.buyer_uses.iter().map(|pair| (pair.clone(), HashSet::new())).collect();
    let keys: BTreeSet<BuyerKey> = read_set.buyer_uses.iter().map(|pair| pair.0.clone()).collect();
    let promotions: BTreeSet<PromotionId> = read_set.buyer_uses.iter().map(|pair| pair.1).collect();
    for (index, filter) in orders_with(&keys, &promotions) {
        let mut record = |document: &RawDocument| {
            let order: OrderPromotions = deserialize_document(document)?;
            let (order_id, keys) = (order.id(), order.keys());
            for promotion in promotions_of(order) {
                for key in &keys {
                    let orders = loaded.buyer_uses.get_mut(&(key.clone(), promotion));
                    orders.map(|orders| orders.insert(order_id));
                }
            }
            Ok(())
        };
        transaction
            .for_each_document_in(ORDERS, Some(index), filter, order_fields(), &mut record)
            .await?;
    }
    Ok(())
}

impl OrderPromotions {
    pub(super) fn id(&self) -> OrderId {
        id_from_bson(self.order_id)
    }

    fn keys(&self) -> Vec<BuyerKey> {
        let email = self.email.clone().map(Email::from_stored).map(BuyerKey::Email);
        std::iter::once(BuyerKey::User(id_from_bson(self.user_id))).chain(email).collect()
    }
}

/// The writes of the uses, in the order of ids.
pub(super) fn writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut uses = CollectionWrites::for_records(PROMOTION_USES, commit_time);
    for (id, changed) in &writes.promotion_uses {
        let exists = existing.promotion_uses.contains(id);
        uses.add_document(id.as_uuid(), exists, &PromotionUsesDocument::from(*changed))?;
    }
    Ok(uses)
}

pub(super) fn bson_ids(ids: &BTreeSet<PromotionId>) -> Vec<BsonUuid> {
    ids.iter().map(|id| id_to_bson(id.as_uuid())).collect()
}

pub(super) fn promotions_of(order: OrderPromotions) -> impl Iterator<Item = PromotionId> {
    let discounts = order.charges.discounts.into_iter();
    discounts.filter_map(|discount| discount.promotion_id.parse().ok())
}

/// The orders with one of `keys` that have promotions and are neither cancelled nor expired: a
/// filter for each index. Some orders may match more than one.
pub(super) fn orders_with(
    keys: &BTreeSet<BuyerKey>,
    promotions: &BTreeSet<PromotionId>,
) -> Vec<(&'static str, Document)> {
    let (mut users, mut emails) = (Vec::new(), Vec::new());
    for key in keys {
        match key {
            BuyerKey::User(user) => users.push(Bson::from(id_to_bson(user.as_uuid()))),
            BuyerKey::Email(email) | BuyerKey::GuestEmail(email) => {
                emails.push(Bson::from(email.as_str()));
            }
        }
    }
    let promotions: Vec<String> = promotions.iter().map(ToString::to_string).collect();
    let counted = OrderStatus::ALL.iter().filter(|status| status.counts_as_purchase());
    let counted: Vec<&str> = counted.map(|status| status.as_str()).collect();
    let of_field = |(index, field, values): (&'static str, &str, Vec<Bson>)| {
        let filter = doc! {
            field: { "$in": values },
            "charges.discounts.promotion_id": { "$in": &promotions, "$exists": true },
            "status": { "$in": &counted },
        };
        (index, filter)
    };
    [(PROMOTIONS_OF_BUYER, "user_id", users), (PROMOTIONS_OF_EMAIL, "email", emails)]
        .into_iter()
        .filter(|(.., values)| !values.is_empty())
        .map(of_field)
        .collect()
}

fn order_fields() -> Document {
    doc! { "user_id": 1, "email": 1, "charges.discounts.promotion_id": 1 }
}
