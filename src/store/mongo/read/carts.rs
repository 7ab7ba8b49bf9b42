//! Reads of carts.

use mongodb::{
    Database,
    bson::{Uuid as BsonUuid, doc},
};
use serde::Deserialize;

use super::{
    super::{
        documents::{CartDocument, id_from_bson, id_to_bson, timestamp_to_bson, truncate_to_hour},
        load::deserialize_document,
        schema::{CARTS, MAINTENANCE},
    },
    ListQuery, ReadResult, find_many, find_one,
};
use crate::domain::{
    cart::{Cart, CartOwner},
    clock::Timestamp,
    ids::UserId,
};

pub(in crate::store::mongo) async fn find_cart(
    database: Database,
    owner: UserId,
) -> ReadResult<Option<Cart>> {
    let filter = doc! { "_id": id_to_bson(owner.as_uuid()) };
    find_one(&database, CARTS, filter, |document| {
        deserialize_document::<CartDocument<'_>>(document)?.try_into()
    })
    .await
}

/// The index finds carts by the hour; `updated_at` excludes those of the same hour that changed
/// later.
pub(in crate::store::mongo) async fn list_idle_carts(
    database: Database,
    before: Timestamp,
    limit: u32,
) -> ReadResult<Vec<CartOwner>> {
    #[derive(Deserialize)]
    struct IdleCart {
        #[serde(rename = "_id")]
        owner_id: BsonUuid,
        guest: bool,
    }
    let query = ListQuery {
        filter: doc! {
            MAINTENANCE: { "$lte": truncate_to_hour(before) },
            "updated_at": { "$lt": timestamp_to_bson(before) },
        },
        sort: Some(doc! { MAINTENANCE: 1 }),
        projection: Some(doc! { "guest": 1 }),
        limit: Some(limit),
        ..ListQuery::default()
    };
    find_many(&database, CARTS, query, |document| {
        let IdleCart { owner_id, guest } = deserialize_document(document)?;
        Ok(CartOwner { id: id_from_bson(owner_id), is_guest: guest })
    })
    .await
}
