//! What an audit looks at, each page in one read transaction, and so from one moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    read::{many, orders_between},
    rows::{self, IdText, clamped},
};
use crate::domain::{
    audit::{EventFacts, Ledger, Moved, OrderFacts, Page, ProductFacts, Span, StockFacts, join},
    ids::{OrderId, ProductId},
};

/// Most sums of an order's movements on a page of orders.
const MAX_MOVED: usize = 50_000;

/// Most stretches of events that are told.
const MAX_RUNS: u32 = 1000;

pub(super) fn products(
    connection: &Connection,
    span: Span,
    limit: u32,
) -> rusqlite::Result<Page<ProductFacts>> {
    let moment = connection.unchecked_transaction()?;
    let sql = "SELECT id FROM products WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    let (after, upto) = (IdText::new(span.after), IdText::new(span.upto));
    let known: Vec<ProductId> =
        many(&moment, sql, &[&after, &upto, &limit], |row| rows::id(row, 0))?;
    let last = known.last().filter(|_| known.len() >= limit as usize);
    let (span, rest) = last.map_or((span, None), |last| {
        let (here, rest) = span.split(last.as_uuid());
        (here, Some(rest))
    });
    let mut facts: BTreeMap<ProductId, ProductFacts> = BTreeMap::new();
    for id in known {
        facts.insert(id, ProductFacts { known: true, ..ProductFacts::none(id) });
    }
    levels(&moment, span, &mut facts)?;
    ledgers(&moment, span, &mut facts)?;
    promised(&moment, span, &mut facts)?;
    Ok(Page { items: facts.into_values().collect(), rest })
}

/// Has every row's first column, a product's id, lead to its facts, which the row adds to.
fn add(
    connection: &Connection,
    sql: &str,
    span: Span,
    facts: &mut BTreeMap<ProductId, ProductFacts>,
    add: impl Fn(&mut ProductFacts, &Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(sql)?;
    let mut found = select.query([IdText::new(span.after), IdText::new(span.upto)])?;
    while let Some(row) = found.next()? {
        let id = rows::id(row, 0)?;
        add(facts.entry(id).or_insert_with(|| ProductFacts::none(id)), row)?;
    }
    Ok(())
}

fn levels(
    connection: &Connection,
    span: Span,
    facts: &mut BTreeMap<ProductId, ProductFacts>,
) -> rusqlite::Result<()> {
    let sql = "SELECT product_id, on_hand, reserved, version, last_movement FROM stock WHERE product_id > ?1 AND product_id <= ?2";
    add(connection, sql, span, facts, |product, row| {
        product.stock = StockFacts {
            on_hand: row.get(1)?,
            reserved: row.get(2)?,
            version: row.get(3)?,
            last_movement: row.get(4)?,
        };
        Ok(())
    })
}

fn ledgers(
    connection: &Connection,
    span: Span,
    facts: &mut BTreeMap<ProductId, ProductFacts>,
) -> rusqlite::Result<()> {
    let sql = "SELECT product_id, count(*), min(sequence), max(sequence), sum(on_hand_delta), sum(reserved_delta) FROM movements \
               WHERE product_id > ?1 AND product_id <= ?2 GROUP BY product_id";
    add(connection, sql, span, facts, |product, row| {
        product.ledger = Ledger {
            count: row.get(1)?,
            first: row.get(2)?,
            last: row.get(3)?,
            on_hand: row.get(4)?,
            reserved: row.get(5)?,
        };
        Ok(())
    })
}

/// Reads all open orders for each page: an index that would spare it would cost every checkout.
fn promised(
    connection: &Connection,
    span: Span,
    facts: &mut BTreeMap<ProductId, ProductFacts>,
) -> rusqlite::Result<()> {
    let sql = "SELECT line.value ->> 'product_id' AS product_id, sum(line.value ->> 'quantity') \
               FROM orders, json_each(orders.lines) AS line WHERE orders.status IN ('pending_payment', 'paid') \
               AND line.value ->> 'product_id' > ?1 AND line.value ->> 'product_id' <= ?2 GROUP BY 1";
    add(connection, sql, span, facts, |product, row| {
        product.promised = row.get(1)?;
        Ok(())
    })
}

pub(super) fn orders(
    connection: &Connection,
    span: Span,
    limit: u32,
) -> rusqlite::Result<Page<OrderFacts>> {
    let moment = connection.unchecked_transaction()?;
    let orders = orders_between(&moment, span.after, span.upto, limit)?;
    let upto = orders
        .last()
        .filter(|_| orders.len() >= limit as usize)
        .map_or(span.upto, |last| last.id.as_uuid());
    let sql = "SELECT order_id, product_id, sum(on_hand_delta), sum(reserved_delta), \
               sum(CASE WHEN kind = 'reserved' THEN reserved_delta ELSE 0 END) FROM movements \
               WHERE order_id > ?1 AND order_id <= ?2 GROUP BY order_id, product_id ORDER BY order_id, product_id LIMIT ?3";
    let parameters: [&dyn rusqlite::ToSql; 3] =
        [&IdText::new(span.after), &IdText::new(upto), &clamped(MAX_MOVED as u64)];
    let moved: Vec<(OrderId, ProductId, Moved)> = many(&moment, sql, &parameters, |row| {
        let moved =
            Moved { on_hand: row.get(2)?, reserved: row.get(3)?, ever_reserved: row.get(4)? };
        Ok((rows::id(row, 0)?, rows::id(row, 1)?, moved))
    })?;
    let named = orders.iter().flat_map(|order| order.lines.iter().map(|line| line.product_id));
    let named: BTreeSet<ProductId> =
        named.chain(moved.iter().map(|(_, product, _)| *product)).collect();
    let versions = versions(&moment, named)?;
    Ok(join(span, (orders, limit as usize), (moved, MAX_MOVED), &versions))
}

fn versions(
    connection: &Connection,
    ids: BTreeSet<ProductId>,
) -> rusqlite::Result<HashMap<ProductId, u64>> {
    let mut found = HashMap::with_capacity(ids.len());
    let mut select =
        connection.prepare_cached("SELECT version FROM stock WHERE product_id = ?1")?;
    for id in ids {
        let version = select.query_row([IdText::new(id.as_uuid())], |row| row.get(0)).optional()?;
        found.extend(version.map(|version| (id, version)));
    }
    Ok(found)
}

pub(super) fn events(connection: &Connection) -> rusqlite::Result<EventFacts> {
    let sql = "SELECT min(position), max(position) FROM \
               (SELECT position, position - row_number() OVER (ORDER BY position) AS run FROM outbox) \
               GROUP BY run ORDER BY 1 LIMIT ?1";
    let runs = many(connection, sql, &[&MAX_RUNS], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(EventFacts { runs, last: None })
}
