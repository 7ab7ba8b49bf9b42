//! What a batch touches, as the store holds it.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::{
    read,
    rows::{self, UuidText},
};
use crate::{
    domain::{clock::Timestamp, inventory::StockLevel},
    store::plan::{LoadedState, ReadSet},
};

/// Loads what `touched` names, without the keys that were first used at `forgotten` or before.
pub(super) fn load(
    connection: &Connection,
    touched: &ReadSet,
    forgotten: Timestamp,
) -> rusqlite::Result<LoadedState> {
    let mut loaded = LoadedState {
        carts: load_versions(
            connection,
            "SELECT version FROM carts WHERE owner_id = ?1",
            &touched.carts,
            |id| id.as_uuid(),
        )?,
        products: load_versions(
            connection,
            "SELECT version FROM products WHERE id = ?1",
            &touched.products,
            |id| id.as_uuid(),
        )?,
        users: load_versions(
            connection,
            "SELECT version FROM users WHERE id = ?1",
            &touched.users,
            |id| id.as_uuid(),
        )?,
        sessions: load_versions(
            connection,
            "SELECT version FROM sessions WHERE id = ?1",
            &touched.sessions,
            |id| id.as_uuid(),
        )?,
        sku_owners: load_unique_field_owners(
            connection,
            "SELECT id FROM products WHERE sku = ?1 AND deleted = 0",
            &touched.skus,
        )?,
        email_owners: load_unique_field_owners(
            connection,
            "SELECT id FROM users WHERE email = ?1",
            &touched.emails,
        )?,
        ..LoadedState::default()
    };
    load_stock_levels(connection, touched, &mut loaded)?;
    load_orders(connection, touched, &mut loaded)?;
    for key in &touched.idempotency_keys {
        if let Some(answer) = read::find_stored_response(connection, key.0, &key.1, forgotten)? {
            loaded.stored_responses.insert(key.clone(), answer);
        }
    }
    for id in &touched.inbox {
        if read::is_in_inbox(connection, id)? {
            loaded.applied_messages.insert(id.clone());
        }
    }
    Ok(loaded)
}

fn load_versions<I: Copy + Eq + Hash>(
    connection: &Connection,
    sql: &str,
    ids: &BTreeSet<I>,
    uuid: impl Fn(I) -> Uuid,
) -> rusqlite::Result<HashMap<I, u64>> {
    let mut found = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(found);
    }
    let mut select = connection.prepare_cached(sql)?;
    for id in ids {
        if let Some(version) =
            select.query_row([UuidText::new(uuid(*id))], |row| row.get(0)).optional()?
        {
            found.insert(*id, version);
        }
    }
    Ok(found)
}

fn load_unique_field_owners<I: From<Uuid>>(
    connection: &Connection,
    sql: &str,
    names: &BTreeSet<String>,
) -> rusqlite::Result<HashMap<String, I>> {
    let mut found = HashMap::with_capacity(names.len());
    for name in names {
        if let Some(id) = connection
            .prepare_cached(sql)?
            .query_row([name], |row| rows::id_column(row, 0))
            .optional()?
        {
            found.insert(name.clone(), id);
        }
    }
    Ok(found)
}

fn load_stock_levels(
    connection: &Connection,
    touched: &ReadSet,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    let sql = "SELECT on_hand, reserved, version, last_movement FROM stock WHERE product_id = ?1";
    for id in &touched.stock {
        let read = |row: &Row<'_>| rows::stock_level_from_row(row, 0, *id);
        let level: Option<StockLevel> = connection
            .prepare_cached(sql)?
            .query_row([UuidText::new(id.as_uuid())], read)
            .optional()?;
        loaded.stock.extend(level.map(|level| (*id, level)));
    }
    Ok(())
}

fn load_orders(
    connection: &Connection,
    touched: &ReadSet,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    for id in &touched.orders {
        let mut select =
            connection.prepare_cached("SELECT version, status FROM orders WHERE id = ?1")?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, rows::order_status_column(row, 1)?));
        loaded.orders.extend(
            select
                .query_row([UuidText::new(id.as_uuid())], read)
                .optional()?
                .map(|held| (*id, held)),
        );
    }
    for id in &touched.pending_order_users {
        let sql = "SELECT count(*) FROM orders WHERE user_id = ?1 AND status = 'pending_payment'";
        let count = connection
            .prepare_cached(sql)?
            .query_row([UuidText::new(id.as_uuid())], |row| row.get(0))?;
        loaded.pending_orders.insert(*id, count);
    }
    Ok(())
}
