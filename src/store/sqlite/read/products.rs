//! Reads of products with their stock.

use rusqlite::{Connection, ToSql};

use super::{find_many, find_one};
use crate::{
    domain::{catalog::product::Product, ids::ProductId, inventory::StockLevel, money::Currency},
    store::sqlite::rows::{self, UuidText},
};

macro_rules! products {
    ($rest:literal) => {
        concat!(
            "SELECT p.id, p.sku, p.name, p.description, p.price, p.currency, p.category, p.tags, \
             p.image_url, p.attributes, p.version, p.created_at, p.updated_at, p.deleted, \
             p.purchase_limit, p.weight_grams, p.tax_class, \
             s.on_hand, s.reserved, s.version, s.last_movement FROM products p \
             LEFT JOIN stock s ON s.product_id = p.id ",
            $rest
        )
    };
}

pub(in crate::store::sqlite) fn list_products(
    connection: &Connection,
    after: Option<ProductId>,
    limit: u32,
    currency: Currency,
) -> rusqlite::Result<Vec<(Product, StockLevel)>> {
    let sql = products!("WHERE p.deleted = 0 AND p.id > ?1 ORDER BY p.id LIMIT ?2");
    let after = after.map(|id| UuidText::new(id.as_uuid()));
    // Every id sorts after the empty text.
    let after: &dyn ToSql = after.as_ref().map_or(&"", |id| id);
    find_many(connection, sql, &[after, &limit], |row| rows::product_from_row(row, currency))
}

pub(in crate::store::sqlite) fn find_product(
    connection: &Connection,
    id: ProductId,
    currency: Currency,
) -> rusqlite::Result<Option<(Product, StockLevel)>> {
    find_one(connection, products!("WHERE p.id = ?1"), &[&UuidText::new(id.as_uuid())], |row| {
        rows::product_from_row(row, currency)
    })
}

pub(in crate::store::sqlite) fn find_products_by_id(
    connection: &Connection,
    ids: &[ProductId],
    currency: Currency,
) -> rusqlite::Result<Vec<(Product, StockLevel)>> {
    ids.iter().filter_map(|id| find_product(connection, *id, currency).transpose()).collect()
}

pub(in crate::store::sqlite) fn find_products_by_sku(
    connection: &Connection,
    skus: Vec<String>,
    currency: Currency,
) -> rusqlite::Result<Vec<(Product, StockLevel)>> {
    let find = |sku: String| {
        find_one(connection, products!("WHERE p.sku = ?1 AND p.deleted = 0"), &[&sku], |row| {
            rows::product_from_row(row, currency)
        })
        .transpose()
    };
    skus.into_iter().filter_map(find).collect()
}
