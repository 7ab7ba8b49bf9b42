//! The queries, and the worker that runs them.

mod accounts;
mod orders;
mod products;
mod sessions;

use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use tokio::sync::oneshot;

pub(super) use self::{
    accounts::{
        active_admins, find_address_book, find_emails, find_user, find_user_by_email, has_admin,
        list_special_rights, list_users,
    },
    orders::{
        count_due_payments, find_order, find_order_by_intent, key_condition, list_due_payments,
        list_orders, list_orders_in_id_range, list_overdue_orders, list_unfinished_orders,
        move_payment_due, newest_order_id, status_list, unfinished_condition,
    },
    products::{find_product, find_products_by_id, find_products_by_sku, list_products},
    sessions::{
        find_session, list_active_sessions, list_sessions_revoked_since, list_stale_sessions,
    },
};
use super::{
    outbox::cursor_at,
    rows::{self, UuidText, clamp_to_i64},
    threads::{Worker, WorkerPool},
};
use crate::{
    domain::{
        cart::{Cart, CartOwner},
        clock::Timestamp,
        ids::{ProductId, UserId},
        inventory::StockMovement,
        money::Currency,
    },
    messages::command_context::StoredReply,
    store::{OutboxPage, StoreUnavailable, StoredReplyUsage},
};

/// Reads that can wait for a thread. Further callers wait for a place in the queue.
pub(super) const MAX_QUEUED_READS: usize = 1024;

/// A query that waits for a thread.
pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// A connection for reading.
pub(super) struct ReadWorker(pub(super) Connection);

impl Worker for ReadWorker {
    type Job = ReadJob;

    fn run_job(&mut self, query: ReadJob) {
        query(&self.0);
    }

    fn shut_down(self) {}
}

/// Runs `query` on a thread of the pool. If the caller has gone by then, the query is skipped.
pub(super) async fn run_read<T: Send + 'static>(
    readers: &WorkerPool<ReadJob>,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreUnavailable> {
    let (reply, result) = oneshot::channel();
    let query: ReadJob = Box::new(move |connection| {
        if reply.is_closed() {
            return;
        }
        let result = query(connection).map_err(|error| {
            tracing::error!(%error, "failed to read from the store");
            StoreUnavailable
        });
        // Sending fails when the caller has gone.
        drop(reply.send(result));
    });
    readers.enqueue_job(query).await.map_err(|_| StoreUnavailable)?;
    result.await.unwrap_or(Err(StoreUnavailable))
}

pub(super) fn find_one<T>(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn ToSql],
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    connection.prepare_cached(sql)?.query_row(parameters, read).optional()
}

pub(super) fn find_many<T>(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn ToSql],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(parameters, read)?.collect()
}

pub(super) fn find_cart(
    connection: &Connection,
    owner: UserId,
    currency: Currency,
) -> rusqlite::Result<Option<Cart>> {
    let sql = "SELECT owner_id, guest, version, lines, updated_at, merged_into, abandoned, \
               codes, shipping FROM carts WHERE owner_id = ?1";
    find_one(connection, sql, &[&UuidText::new(owner.as_uuid())], |row| {
        rows::cart_from_row(row, currency)
    })
}

pub(super) fn list_idle_carts(
    connection: &Connection,
    before: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<CartOwner>> {
    let sql = "SELECT owner_id, guest FROM carts \
               WHERE lines <> '[]' AND abandoned = 0 AND merged_into IS NULL AND updated_at < ?1 \
               ORDER BY updated_at LIMIT ?2";
    find_many(connection, sql, &[&before.as_millis(), &limit], rows::owner_from_row)
}

pub(super) fn list_movements(
    connection: &Connection,
    id: ProductId,
    before: Option<u64>,
    limit: u32,
) -> rusqlite::Result<Vec<StockMovement>> {
    let sql = "SELECT sequence, kind, on_hand_delta, reserved_delta, order_id, reference, \
               reason, at, actor, actor_id FROM movements WHERE product_id = ?1 AND sequence < ?2 \
               ORDER BY sequence DESC LIMIT ?3";
    let before = before.map_or(i64::MAX, clamp_to_i64);
    find_many(connection, sql, &[&UuidText::new(id.as_uuid()), &before, &limit], |row| {
        rows::movement_from_row(row, id)
    })
}

/// The response stored under `key` later than `stored_after`, with the fingerprint of its request.
/// An older one is expired.
pub(super) fn find_stored_reply(
    connection: &Connection,
    owner: UserId,
    key: &str,
    stored_after: Timestamp,
) -> rusqlite::Result<Option<([u8; 32], StoredReply)>> {
    let sql = "SELECT fingerprint, status, body FROM idempotency_keys \
               WHERE owner_id = ?1 AND key = ?2 AND at > ?3";
    find_one(
        connection,
        sql,
        &[&UuidText::new(owner.as_uuid()), &key, &stored_after.as_millis()],
        rows::stored_reply_from_row,
    )
}

pub(super) fn stored_reply_usage(
    connection: &Connection,
    owner: UserId,
    keys_stored_after: Timestamp,
) -> rusqlite::Result<StoredReplyUsage> {
    let sql = "SELECT count(*), coalesce(sum(length(key) + length(body)), 0) \
               FROM idempotency_keys WHERE owner_id = ?1 AND at > ?2";
    let owner = UuidText::new(owner.as_uuid());
    connection.prepare_cached(sql)?.query_row((owner, keys_stored_after.as_millis()), |row| {
        Ok(StoredReplyUsage { keys: row.get(0)?, bytes: row.get(1)? })
    })
}

pub(super) fn is_in_inbox(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM inbox WHERE id = ?1")?.exists([id])
}

pub(super) fn list_events_after(
    connection: &Connection,
    after: u64,
    limit: u32,
) -> rusqlite::Result<OutboxPage> {
    let sql = "SELECT position, id, type, audience, owner_id, body FROM outbox \
               WHERE position > ?1 ORDER BY position LIMIT ?2";
    let events =
        find_many(connection, sql, &[&clamp_to_i64(after), &limit], rows::outbox_event_from_row)?;
    let first = events.first().map(|event| event.position.offset);
    let last = events.last().map_or(after, |event| event.position.offset);
    Ok(OutboxPage {
        has_gap: first.is_some_and(|first| first > after + 1),
        has_more: last_event_offset(connection)? > last,
        end: cursor_at(last),
        events,
    })
}

pub(super) fn last_event_offset(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(position), 0) FROM outbox")?
        .query_row([], |row| row.get(0))
}

pub(super) fn published_offset(connection: &Connection) -> rusqlite::Result<u64> {
    stored_published_offset(connection).map(Option::unwrap_or_default)
}

/// The stored offset of the last published event. `None` when the shop never had a broker.
pub(super) fn stored_published_offset(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    find_one(
        connection,
        "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'published'",
        &[],
        |row| row.get(0),
    )
}

pub(super) fn ping(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'currency'")?
        .query_row([], |_| Ok(()))
}
