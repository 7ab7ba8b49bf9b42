//! Reads of orders.

use rusqlite::{Connection, OptionalExtension, ToSql};
use uuid::Uuid;

use super::{
    super::rows::{self, UuidText},
    find_many, find_one,
};
use crate::domain::{
    account::Email,
    clock::Timestamp,
    ids::OrderId,
    order::{BuyerKey, Order, OrderFilter, OrderStatus},
};

macro_rules! orders {
    ($rest:literal) => {
        concat!(
            "SELECT id, user_id, status, version, currency, lines, payment_method, \
             payment_reference, shipping_address, placed_at, expires_at, updated_at, actor, \
             actor_id, anonymized, shipments, payment, payment_due, charges, email, \
             billing_address, guest FROM orders ",
            $rest
        )
    };
}

pub(in crate::store::sqlite) fn find_order(
    connection: &Connection,
    id: OrderId,
) -> rusqlite::Result<Option<Order>> {
    find_one(
        connection,
        orders!("WHERE id = ?1"),
        &[&UuidText::new(id.as_uuid())],
        rows::order_from_row,
    )
}

/// The greatest id of an order.
pub(in crate::store::sqlite) fn newest_order_id(
    connection: &Connection,
) -> rusqlite::Result<Option<OrderId>> {
    let sql = "SELECT id FROM orders ORDER BY id DESC LIMIT 1";
    let mut newest = connection.prepare_cached(sql)?;
    newest.query_row([], |row| rows::id_column(row, 0)).optional()
}

pub(in crate::store::sqlite) fn list_orders(
    connection: &Connection,
    filter: &OrderFilter,
    before: Option<OrderId>,
    limit: u32,
) -> rusqlite::Result<Vec<Order>> {
    let user = filter.user_id.map(|id| UuidText::new(id.as_uuid()));
    let before = before.map(|id| UuidText::new(id.as_uuid()));
    let range = filter.number.map(|number| number.id_range());
    let range = range.map(|(first, end)| [first, end].map(UuidText::new));
    let [from, to] = [filter.placed_from, filter.placed_to].map(|at| at.map(Timestamp::as_millis));
    let mut sql = orders!("WHERE TRUE").to_owned();
    let mut parameters: Vec<&dyn ToSql> = Vec::new();
    let mut add = |condition: &str, parameter| {
        sql.push_str(condition);
        parameters.push(parameter);
    };
    if let Some(user) = &user {
        add(" AND user_id = ?", user);
    }
    let email = filter.email.as_ref().map(Email::as_str);
    if let Some(email) = &email {
        add(" AND email = ?", email);
    }
    if let Some(before) = &before {
        add(" AND id < ?", before);
    }
    if let Some([first, end]) = &range {
        add(" AND id >= ?", first);
        add(" AND id < ?", end);
    }
    if let Some(from) = &from {
        add(" AND placed_at >= ?", from);
    }
    if let Some(to) = &to {
        add(" AND placed_at <= ?", to);
    }
    if let Some(status) = filter.status {
        // Only a literal lets a partial index be used.
        sql.push_str(&format!(" AND status = '{}'", status.as_str()));
    }
    // The few orders of a millisecond are compared with the number here.
    let most = if range.is_some() { i64::MAX } else { i64::from(limit) };
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    parameters.push(&most);
    let mut found = find_many(connection, &sql, &parameters, rows::order_from_row)?;
    found.retain(|order| filter.matches(order));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// The condition on orders with a key, and its parameter `?1`.
pub(in crate::store::sqlite) fn key_condition(key: &BuyerKey) -> (&'static str, String) {
    match key {
        BuyerKey::User(user) => ("user_id = ?1", user.to_string()),
        BuyerKey::Email(email) => ("email = ?1", email.as_str().to_owned()),
        BuyerKey::GuestEmail(email) => ("guest = 1 AND email = ?1", email.as_str().to_owned()),
    }
}

/// The condition on the orders with a key that are unfinished, and its parameter `?1`.
pub(in crate::store::sqlite) fn unfinished_condition(key: &BuyerKey) -> (String, String) {
    let (condition, value) = key_condition(key);
    (format!("{condition} AND status IN ({})", status_list(key.unfinished_statuses())), value)
}

/// The statuses as a list of literals in SQL: with parameters, no partial index would be used.
pub(in crate::store::sqlite) fn status_list(statuses: &[OrderStatus]) -> String {
    let literals: Vec<_> = statuses.iter().map(|status| format!("'{}'", status.as_str())).collect();
    literals.join(", ")
}

pub(in crate::store::sqlite) fn list_unfinished_orders(
    connection: &Connection,
    key: &BuyerKey,
    limit: u32,
) -> rusqlite::Result<Vec<Order>> {
    let (condition, value) = unfinished_condition(key);
    let sql = format!("{}WHERE {condition} ORDER BY id LIMIT ?2", orders!(""));
    find_many(connection, &sql, &[&value, &limit], rows::order_from_row)
}

pub(in crate::store::sqlite) fn find_order_by_intent(
    connection: &Connection,
    intent: &str,
) -> rusqlite::Result<Option<Order>> {
    find_one(
        connection,
        orders!("WHERE payment_intent = ?1 LIMIT 1"),
        &[&intent],
        rows::order_from_row,
    )
}

pub(in crate::store::sqlite) fn list_due_payments(
    connection: &Connection,
    now: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Order>> {
    let sql = orders!("WHERE payment_due <= ?1 ORDER BY payment_due LIMIT ?2");
    find_many(connection, sql, &[&now.as_millis(), &limit], rows::order_from_row)
}

pub(in crate::store::sqlite) fn count_due_payments(
    connection: &Connection,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM orders WHERE payment_due <= ?1";
    connection.prepare_cached(sql)?.query_row([now.as_millis()], |row| row.get(0))
}

/// Moves the time at which a provider is to be asked, if it is still `from`. Returns whether it
/// was.
pub(in crate::store::sqlite) fn move_payment_due(
    connection: &Connection,
    order: OrderId,
    from: Timestamp,
    to: Timestamp,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE orders SET payment_due = ?3 WHERE id = ?1 AND payment_due = ?2";
    let id = UuidText::new(order.as_uuid());
    let moved = connection.prepare_cached(sql)?.execute(rusqlite::params![
        id,
        from.as_millis(),
        to.as_millis()
    ])?;
    Ok(moved == 1)
}

/// Orders with ids after `after` and up to `up_to`, inclusive, ordered by id.
pub(in crate::store::sqlite) fn list_orders_in_id_range(
    connection: &Connection,
    after: Uuid,
    up_to: Uuid,
    limit: u32,
) -> rusqlite::Result<Vec<Order>> {
    let sql = orders!("WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3");
    find_many(
        connection,
        sql,
        &[&UuidText::new(after), &UuidText::new(up_to), &limit],
        rows::order_from_row,
    )
}

pub(in crate::store::sqlite) fn list_overdue_orders(
    connection: &Connection,
    now: Timestamp,
    after: Option<(Timestamp, OrderId)>,
    limit: u32,
) -> rusqlite::Result<Vec<Order>> {
    let sql = orders!(
        "WHERE status = 'pending_payment' AND expires_at <= ?1 AND (expires_at, id) > (?2, ?3) \
         ORDER BY expires_at, id"
    );
    let (time, id) =
        after.map_or((i64::MIN, String::new()), |(time, id)| (time.as_millis(), id.to_string()));
    let mut statement = connection.prepare_cached(sql)?;
    // A row that cannot be read is skipped, so that the other orders still expire. Other errors
    // fail the query.
    let found = statement.query_map((now.as_millis(), time, id), |row| {
        Ok(rows::order_from_row(row).map_err(|error| (row.get(0), error)))
    })?;
    let readable = found.filter_map(|row| match row {
        Ok(Ok(order)) => Some(Ok(order)),
        Ok(Err((id, error))) => {
            let id: String = id.unwrap_or_default();
            tracing::error!(
                order = id,
                %error,
                "failed to read an overdue order; it cannot expire"
            );
            None
        }
        Err(error) => Some(Err(error)),
    });
    readable.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
}
