//! Reads of products, stock levels and stock movements.

use std::collections::HashMap;

use mongodb::{
    Database,
    bson::{RawDocument, Uuid as BsonUuid, doc},
};

use super::{
    super::{
        documents::{DocumentError, MovementDocument, ProductDocument, StockDocument, id_to_bson},
        load::deserialize_document,
        schema::{MOVEMENTS, PRODUCTS, STOCK},
    },
    ListQuery, ReadResult, clamp_to_i64, find_many, find_one,
};
use crate::domain::{
    catalog::product::Product,
    ids::ProductId,
    inventory::{StockLevel, StockMovement},
};

fn product_from_document(document: &RawDocument) -> Result<Product, DocumentError> {
    deserialize_document::<ProductDocument>(document)?.try_into()
}

pub(in crate::store::mongo) async fn list_products(
    database: Database,
    after: Option<ProductId>,
    limit: u32,
) -> ReadResult<Vec<(Product, StockLevel)>> {
    let mut filter = doc! { "deleted": false };
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": id_to_bson(after.as_uuid()) });
    }
    let sort = Some(doc! { "_id": 1 });
    let query = ListQuery { filter, sort, limit: Some(limit), ..ListQuery::default() };
    let products = find_many(&database, PRODUCTS, query, product_from_document).await?;
    attach_stock_levels(&database, products).await
}

pub(in crate::store::mongo) async fn find_product(
    database: Database,
    product: ProductId,
) -> ReadResult<Option<(Product, StockLevel)>> {
    let filter = doc! { "_id": id_to_bson(product.as_uuid()) };
    match find_one(&database, PRODUCTS, filter, product_from_document).await? {
        Some(product) => Ok(attach_stock_levels(&database, vec![product]).await?.pop()),
        None => Ok(None),
    }
}

pub(in crate::store::mongo) async fn find_products_by_id(
    database: Database,
    products: Vec<ProductId>,
) -> ReadResult<Vec<(Product, StockLevel)>> {
    let ids: Vec<BsonUuid> =
        products.into_iter().map(|product| id_to_bson(product.as_uuid())).collect();
    let query = ListQuery { filter: doc! { "_id": { "$in": ids } }, ..ListQuery::default() };
    let products = find_many(&database, PRODUCTS, query, product_from_document).await?;
    attach_stock_levels(&database, products).await
}

pub(in crate::store::mongo) async fn find_products_by_sku(
    database: Database,
    skus: Vec<String>,
) -> ReadResult<Vec<(Product, StockLevel)>> {
    // The index is partial: it has active products only.
    let filter = doc! { "sku": { "$in": skus }, "deleted": false };
    let query = ListQuery { filter, ..ListQuery::default() };
    let products = find_many(&database, PRODUCTS, query, product_from_document).await?;
    attach_stock_levels(&database, products).await
}

/// A product whose stock was never set has no document in `stock`; its level is empty.
async fn attach_stock_levels(
    database: &Database,
    products: Vec<Product>,
) -> ReadResult<Vec<(Product, StockLevel)>> {
    let ids: Vec<BsonUuid> =
        products.iter().map(|product| id_to_bson(product.id.as_uuid())).collect();
    let mut levels: HashMap<ProductId, StockLevel> = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(1000) {
        let query = ListQuery { filter: doc! { "_id": { "$in": ids } }, ..ListQuery::default() };
        let found = find_many(database, STOCK, query, |document| {
            Ok(StockLevel::from(deserialize_document::<StockDocument>(document)?))
        })
        .await?;
        levels.extend(found.into_iter().map(|level| (level.product_id, level)));
    }
    let with_level = |product: Product| {
        let level = levels.get(&product.id).copied().unwrap_or(StockLevel::empty(product.id));
        (product, level)
    };
    Ok(products.into_iter().map(with_level).collect())
}

pub(in crate::store::mongo) async fn list_movements(
    database: Database,
    product: ProductId,
    before: Option<u64>,
    limit: u32,
) -> ReadResult<Vec<StockMovement>> {
    let id =
        |sequence: i64| doc! { "product_id": id_to_bson(product.as_uuid()), "sequence": sequence };
    let end = before.map_or(i64::MAX, clamp_to_i64);
    let query = ListQuery {
        filter: doc! { "_id": { "$gt": id(0), "$lt": id(end) } },
        sort: Some(doc! { "_id": -1 }),
        limit: Some(limit),
        ..ListQuery::default()
    };
    find_many(&database, MOVEMENTS, query, |document| {
        deserialize_document::<MovementDocument>(document)?.try_into()
    })
    .await
}
