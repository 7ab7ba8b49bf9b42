//! Loads the records that a batch names.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::{
    pricing_store, read,
    rows::{self, UuidText},
    rules,
};
use crate::{
    domain::{
        clock::Timestamp,
        ids::{MailId, ProductId, UserId, WebhookId},
        inventory::StockLevel,
    },
    store::plan::{LoadedState, PendingOrders, ReadSet, StoredOrder},
};

/// Loads what `read_set` names. Of the idempotency keys, only those that were stored later than
/// `keys_stored_after`: older ones are expired.
pub(super) fn load(
    connection: &Connection,
    read_set: &ReadSet,
    keys_stored_after: Timestamp,
) -> rusqlite::Result<LoadedState> {
    let mut loaded = LoadedState {
        carts: load_versions(
            connection,
            "SELECT version FROM carts WHERE owner_id = ?1",
            &read_set.carts,
            |id| id.as_uuid(),
        )?,
        products: load_versions(
            connection,
            "SELECT version FROM products WHERE id = ?1",
            &read_set.products,
            |id| id.as_uuid(),
        )?,
        users: load_versions(
            connection,
            "SELECT version FROM users WHERE id = ?1",
            &read_set.users,
            |id| id.as_uuid(),
        )?,
        sessions: load_versions(
            connection,
            "SELECT version FROM sessions WHERE id = ?1",
            &read_set.sessions,
            |id| id.as_uuid(),
        )?,
        mails: load_mails(connection, read_set)?,
        webhooks: load_webhooks(connection, read_set)?,
        sku_owners: load_unique_field_owners(
            connection,
            "SELECT id FROM products WHERE sku = ?1 AND deleted = 0",
            &read_set.skus,
        )?,
        email_owners: load_unique_field_owners(
            connection,
            "SELECT id FROM users WHERE email = ?1",
            &read_set.emails,
        )?,
        ..LoadedState::default()
    };
    load_stock_levels(connection, read_set, &mut loaded)?;
    rules::load(connection, read_set, &mut loaded)?;
    pricing_store::load(connection, read_set, &mut loaded)?;
    load_orders(connection, read_set, &mut loaded)?;
    load_stored_replies(connection, read_set, keys_stored_after, &mut loaded)?;
    load_api_keys(connection, read_set, &mut loaded)?;
    if read_set.active_admins {
        loaded.active_admins = read::active_admins(connection)?;
    }
    for id in &read_set.inbox {
        if read::is_in_inbox(connection, id)? {
            loaded.applied_messages.insert(id.clone());
        }
    }
    Ok(loaded)
}

fn load_stored_replies(
    connection: &Connection,
    read_set: &ReadSet,
    stored_after: Timestamp,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    for key in &read_set.idempotency_keys {
        if let Some(reply) = read::find_stored_reply(connection, key.0, &key.1, stored_after)? {
            loaded.stored_replies.insert(key.clone(), reply);
        }
    }
    Ok(())
}

/// Loads versions of API keys, and how many each admin has made.
fn load_api_keys(
    connection: &Connection,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    loaded.api_keys = load_versions(
        connection,
        "SELECT version FROM api_keys WHERE id = ?1",
        &read_set.api_keys,
        |id| id.as_uuid(),
    )?;
    for maker in &read_set.api_key_makers {
        let sql = "SELECT count(*) FROM api_keys WHERE created_by = ?1 AND deleted_at IS NULL";
        let count = connection
            .prepare_cached(sql)?
            .query_row([UuidText::new(maker.as_uuid())], |row| row.get(0))?;
        loaded.api_keys_made.insert(*maker, count);
    }
    Ok(())
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

fn load_mails(
    connection: &Connection,
    read_set: &ReadSet,
) -> rusqlite::Result<HashMap<MailId, u64>> {
    let sql = "SELECT version FROM mails WHERE id = ?1";
    load_versions(connection, sql, &read_set.mails, |id| id.as_uuid())
}

fn load_webhooks(
    connection: &Connection,
    read_set: &ReadSet,
) -> rusqlite::Result<HashMap<WebhookId, u64>> {
    let sql = "SELECT version FROM webhooks WHERE id = ?1";
    load_versions(connection, sql, &read_set.webhooks, |id| id.as_uuid())
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
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    let sql = "SELECT on_hand, reserved, version, last_movement FROM stock WHERE product_id = ?1";
    for id in &read_set.stock {
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
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    for id in &read_set.orders {
        let sql = "SELECT version, status, anonymized, user_id FROM orders WHERE id = ?1";
        let mut select = connection.prepare_cached(sql)?;
        let read = |row: &Row<'_>| {
            let stored = StoredOrder {
                version: row.get(0)?,
                status: rows::order_status_column(row, 1)?,
                user_id: rows::id_column(row, 3)?,
            };
            Ok((stored, row.get::<_, bool>(2)?))
        };
        let found = select.query_row([UuidText::new(id.as_uuid())], read).optional()?;
        if let Some((order, anonymized)) = found {
            loaded.orders.insert(*id, order);
            loaded.anonymized_orders.extend(anonymized.then_some(*id));
        }
    }
    for key in &read_set.unfinished_orders {
        let (condition, value) = read::unfinished_condition(key);
        let sql = format!("SELECT id, status FROM orders WHERE {condition}");
        let mut select = connection.prepare_cached(&sql)?;
        let read =
            |row: &Row<'_>| Ok((rows::id_column(row, 0)?, rows::order_status_column(row, 1)?));
        let orders = select.query_map([value], read)?.collect::<rusqlite::Result<_>>()?;
        loaded.unfinished_orders.insert(key.clone(), orders);
    }
    load_purchases(connection, read_set, loaded)
}

fn count_pending_orders(connection: &Connection, user: UserId) -> rusqlite::Result<PendingOrders> {
    connection
        .prepare_cached(
            "SELECT count(*), coalesce(sum(units), 0) FROM orders \
             WHERE user_id = ?1 AND status = 'pending_payment'",
        )?
        .query_row([UuidText::new(user.as_uuid())], |row| {
            Ok(PendingOrders { orders: row.get(0)?, units: row.get(1)? })
        })
}

/// Counts users' pending orders, and what users have bought of products. Orders are parsed only for
/// products with a purchase limit, and of the paid ones only those that name the product.
fn load_purchases(
    connection: &Connection,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    loaded.purchased_units = read_set.purchases.iter().map(|pair| (*pair, 0)).collect();
    for user in &read_set.pending_order_users {
        let first = (*user, ProductId::from(Uuid::nil()));
        if read_set.purchases.range(first..).next().is_none_or(|(buyer, _)| buyer != user) {
            loaded.pending_orders.insert(*user, count_pending_orders(connection, *user)?);
            continue;
        }
        let sql = "SELECT lines FROM orders WHERE user_id = ?1 AND status = 'pending_payment'";
        let mut select = connection.prepare_cached(sql)?;
        let mut rows = select.query([UuidText::new(user.as_uuid())])?;
        let mut pending = PendingOrders::default();
        while let Some(row) = rows.next()? {
            pending.orders += 1;
            for (product, units) in rows::ordered_units(row, 0)? {
                pending.units += units;
                loaded.add_purchased_units((*user, product), units);
            }
        }
        loaded.pending_orders.insert(*user, pending);
    }
    for (user, product) in &read_set.purchases {
        let sql = "SELECT lines FROM orders WHERE user_id = ?1 \
                   AND status <> 'pending_payment' AND status <> 'cancelled' \
                   AND status <> 'expired' \
                   AND instr(lines, ?2) > 0";
        let ids = [user.as_uuid(), product.as_uuid()].map(UuidText::new);
        let mut select = connection.prepare_cached(sql)?;
        let mut rows = select.query(ids)?;
        while let Some(row) = rows.next()? {
            for (bought, units) in rows::ordered_units(row, 0)? {
                if bought == *product {
                    loaded.add_purchased_units((*user, bought), units);
                }
            }
        }
    }
    Ok(())
}
