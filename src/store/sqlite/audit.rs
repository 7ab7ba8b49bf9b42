//! The data of an audit. Each page is read in one transaction, and so from one snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    outbox::PARTITION,
    read::{find_many, list_orders_in_id_range},
    rows::{self, UuidText},
};
use crate::{
    domain::{
        audit::{
            AuditPage, EventAudit, IdRange, LedgerTotals, MovementTotals, OrderAudit, ProductAudit,
            StoredStock, join_orders_with_movements,
        },
        ids::{OrderId, ProductId},
    },
    store::limits::{MAX_MOVEMENT_SUMS, MAX_POSITION_RANGES},
};

pub(super) fn read_product_page(
    connection: &Connection,
    range: IdRange,
    limit: u32,
) -> rusqlite::Result<AuditPage<ProductAudit>> {
    let snapshot = connection.unchecked_transaction()?;
    let sql = "SELECT id FROM products WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    let (after, up_to) = (UuidText::new(range.after), UuidText::new(range.up_to));
    let known: Vec<ProductId> =
        find_many(&snapshot, sql, &[&after, &up_to, &limit], |row| rows::id_column(row, 0))?;
    let last_of_full_page = known.last().filter(|_| known.len() >= limit as usize);
    let (range, remaining) = last_of_full_page.map_or((range, None), |last| {
        let (page, remaining) = range.split_after(last.as_uuid());
        (page, Some(remaining))
    });
    let mut products: BTreeMap<ProductId, ProductAudit> = BTreeMap::new();
    for id in known {
        products.insert(id, ProductAudit { known: true, ..ProductAudit::empty(id) });
    }
    read_stock_levels(&snapshot, range, &mut products)?;
    sum_ledgers(&snapshot, range, &mut products)?;
    sum_promised_units(&snapshot, range, &mut products)?;
    Ok(AuditPage { items: products.into_values().collect(), remaining })
}

/// Calls `add` for each row, with the product whose id is in the row's first column.
fn add_to_products(
    connection: &Connection,
    sql: &str,
    range: IdRange,
    products: &mut BTreeMap<ProductId, ProductAudit>,
    add: impl Fn(&mut ProductAudit, &Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(sql)?;
    let mut found = select.query([UuidText::new(range.after), UuidText::new(range.up_to)])?;
    while let Some(row) = found.next()? {
        let id = rows::id_column(row, 0)?;
        add(products.entry(id).or_insert_with(|| ProductAudit::empty(id)), row)?;
    }
    Ok(())
}

fn read_stock_levels(
    connection: &Connection,
    range: IdRange,
    products: &mut BTreeMap<ProductId, ProductAudit>,
) -> rusqlite::Result<()> {
    let sql = "SELECT product_id, on_hand, reserved, version, last_movement FROM stock \
               WHERE product_id > ?1 AND product_id <= ?2";
    add_to_products(connection, sql, range, products, |product, row| {
        product.stock = StoredStock {
            on_hand: row.get(1)?,
            reserved: row.get(2)?,
            version: row.get(3)?,
            last_movement: row.get(4)?,
        };
        Ok(())
    })
}

fn sum_ledgers(
    connection: &Connection,
    range: IdRange,
    products: &mut BTreeMap<ProductId, ProductAudit>,
) -> rusqlite::Result<()> {
    let sql = "SELECT product_id, count(*), min(sequence), max(sequence), sum(on_hand_delta), \
               sum(reserved_delta) FROM movements WHERE product_id > ?1 AND product_id <= ?2 \
               GROUP BY product_id";
    add_to_products(connection, sql, range, products, |product, row| {
        product.ledger = LedgerTotals {
            count: row.get(1)?,
            first: row.get(2)?,
            last: row.get(3)?,
            on_hand: row.get(4)?,
            reserved: row.get(5)?,
        };
        Ok(())
    })
}

/// Reads all open orders for each page. An index could avoid that, but would slow every checkout.
fn sum_promised_units(
    connection: &Connection,
    range: IdRange,
    products: &mut BTreeMap<ProductId, ProductAudit>,
) -> rusqlite::Result<()> {
    let sql = "SELECT line.value ->> 'product_id' AS product_id, \
               sum((line.value ->> 'quantity') - coalesce(line.value ->> 'fulfilled', 0)) \
               FROM orders, json_each(orders.lines) AS line \
               WHERE orders.status IN ('pending_payment', 'paid', 'partially_fulfilled') \
               AND line.value ->> 'product_id' > ?1 AND line.value ->> 'product_id' <= ?2 \
               GROUP BY 1";
    add_to_products(connection, sql, range, products, |product, row| {
        product.promised = row.get(1)?;
        Ok(())
    })
}

pub(super) fn read_order_page(
    connection: &Connection,
    range: IdRange,
    limit: u32,
) -> rusqlite::Result<AuditPage<OrderAudit>> {
    let snapshot = connection.unchecked_transaction()?;
    let orders = list_orders_in_id_range(&snapshot, range.after, range.up_to, limit)?;
    let up_to = orders
        .last()
        .filter(|_| orders.len() >= limit as usize)
        .map_or(range.up_to, |last| last.id.as_uuid());
    let sql = "SELECT order_id, product_id, sum(on_hand_delta), sum(reserved_delta), \
               sum(CASE WHEN kind = 'reserved' THEN reserved_delta ELSE 0 END) FROM movements \
               WHERE order_id > ?1 AND order_id <= ?2 GROUP BY order_id, product_id \
               ORDER BY order_id, product_id LIMIT ?3";
    let parameters: [&dyn rusqlite::ToSql; 3] =
        [&UuidText::new(range.after), &UuidText::new(up_to), &MAX_MOVEMENT_SUMS];
    let moved: Vec<(OrderId, ProductId, MovementTotals)> =
        find_many(&snapshot, sql, &parameters, |row| {
            let moved = MovementTotals {
                on_hand: row.get(2)?,
                reserved: row.get(3)?,
                total_reserved: row.get(4)?,
            };
            Ok((rows::id_column(row, 0)?, rows::id_column(row, 1)?, moved))
        })?;
    let named = orders.iter().flat_map(|order| order.lines.iter().map(|line| line.product_id));
    let named: BTreeSet<ProductId> =
        named.chain(moved.iter().map(|(_, product, _)| *product)).collect();
    let versions = read_stock_versions(&snapshot, named)?;
    Ok(join_orders_with_movements(
        range,
        (orders, limit as usize),
        (moved, MAX_MOVEMENT_SUMS as usize),
        &versions,
    ))
}

fn read_stock_versions(
    connection: &Connection,
    ids: BTreeSet<ProductId>,
) -> rusqlite::Result<HashMap<ProductId, u64>> {
    let mut found = HashMap::with_capacity(ids.len());
    let mut select =
        connection.prepare_cached("SELECT version FROM stock WHERE product_id = ?1")?;
    for id in ids {
        let version =
            select.query_row([UuidText::new(id.as_uuid())], |row| row.get(0)).optional()?;
        found.extend(version.map(|version| (id, version)));
    }
    Ok(found)
}

pub(super) fn read_event_ranges(connection: &Connection) -> rusqlite::Result<EventAudit> {
    let sql = "SELECT min(position), max(position) \
               FROM (SELECT position, position - row_number() OVER (ORDER BY position) AS run \
               FROM outbox) GROUP BY run ORDER BY 1 LIMIT ?1";
    let ranges =
        find_many(connection, sql, &[&MAX_POSITION_RANGES], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(EventAudit { partition: PARTITION, ranges, recorded_last: None })
}
