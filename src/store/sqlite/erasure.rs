//! Erases accounts, and notes what else is about them, inside the writer's transaction.

use rusqlite::{Connection, params};

use super::{
    read::{key_condition, status_list},
    rows::UuidText,
};
use crate::{
    domain::{
        account::Email,
        order::{BuyerKey, KEPT_ADDRESS_FIELDS, OrderStatus},
        payment::PaymentStatus,
    },
    store::{anonymized_reply::anonymize_reply, plan::WriteSet, reply_codec},
};

/// Deletes the erased accounts, so that others can have their e-mail addresses in the same batch.
pub(super) fn delete_accounts(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    for user in writes.erased_accounts.keys() {
        let mut delete = connection.prepare_cached("DELETE FROM users WHERE id = ?1")?;
        delete.execute([UuidText::new(user.as_uuid())])?;
    }
    Ok(())
}

/// Records that the replies stored for guests, or about them, are about their accounts from now on.
pub(super) fn reassign_replies(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    for (guest, user) in &writes.reply_reassignments {
        let ids = [guest.as_uuid(), user.as_uuid()].map(UuidText::new);
        let sql = "UPDATE idempotency_keys SET about_id = ?2 WHERE owner_id = ?1 OR about_id = ?1";
        connection.prepare_cached(sql)?.execute(ids)?;
    }
    Ok(())
}

/// Erases what else tells who an account belonged to. It comes last, so that it finds what the same
/// batch has written.
pub(super) fn erase_traces(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    for (user, account) in &writes.erased_accounts {
        let id = UuidText::new(user.as_uuid());
        // A request for a new password names only the address.
        let mut mails =
            connection.prepare_cached("DELETE FROM mails WHERE user_id = ?1 OR recipient = ?2")?;
        mails.execute(params![id, account.email.as_str()])?;
        for sql in [
            "DELETE FROM address_books WHERE user_id = ?1",
            "DELETE FROM idempotency_keys WHERE owner_id = ?1",
            "UPDATE sessions SET address = NULL, user_agent = NULL WHERE user_id = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([&id])?;
        }
        let mut of_erased = vec![user.to_string()];
        if account.email_verified {
            of_erased.extend(guests_with_email(connection, &account.email)?);
            anonymize_orders(connection, &BuyerKey::GuestEmail(account.email.clone()))?;
        }
        anonymize_orders(connection, &BuyerKey::User(*user))?;
        for user in of_erased {
            anonymize_replies_of(connection, &user)?;
        }
    }
    Ok(())
}

/// The guests that have ordered with an e-mail address.
fn guests_with_email(connection: &Connection, email: &Email) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT DISTINCT user_id FROM orders WHERE guest = 1 AND email = ?1";
    let mut select = connection.prepare_cached(sql)?;
    select.query_map([email.as_str()], |row| row.get(0))?.collect()
}

/// The shop still has to know where to send what guests have paid.
fn anonymize_orders(connection: &Connection, key: &BuyerKey) -> rusqlite::Result<()> {
    let (condition, value) = key_condition(key);
    let to_ship = format!(
        "status IN ({}) AND payment ->> '$.status' IS NOT '{}'",
        status_list(&OrderStatus::TO_SHIP),
        PaymentStatus::Refunded.as_str()
    );
    let sql = format!(
        "UPDATE orders SET anonymized = 1, email = NULL, \
           shipping_address = CASE \
             WHEN shipping_address IS NOT NULL THEN (SELECT json_group_object(key, value) \
               FROM json_each(shipping_address) WHERE key IN (?2, ?3)) END, \
           billing_address = CASE \
             WHEN billing_address IS NOT NULL THEN (SELECT json_group_object(key, value) \
               FROM json_each(billing_address) WHERE key IN (?2, ?3)) END, \
           charges = json_remove(charges, '$.shipping_to.postal_code') \
         WHERE {condition} AND anonymized = 0 AND NOT ({to_ship})"
    );
    let [country, region] = KEPT_ADDRESS_FIELDS;
    connection.prepare_cached(&sql)?.execute(params![value, country, region])?;
    let sql = format!(
        "UPDATE orders SET anonymized = 1, email = NULL \
         WHERE {condition} AND anonymized = 0 AND {to_ship}"
    );
    connection.prepare_cached(&sql)?.execute([value]).map(drop)
}

/// The replies that staff got when it changed the account or its orders, and those that a guest
/// got. They stay, so that a repeat still changes nothing.
fn anonymize_replies_of(connection: &Connection, user: &str) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT owner_id, key, body FROM idempotency_keys WHERE about_id = ?1 OR owner_id = ?1",
    )?;
    let mut update = connection
        .prepare_cached("UPDATE idempotency_keys SET body = ?3 WHERE owner_id = ?1 AND key = ?2")?;
    let mut rows = select.query([user])?;
    let mut anonymized: Vec<(String, String, Vec<u8>)> = Vec::new();
    while let Some(row) = rows.next()? {
        // A reply that cannot be read would not be replayed either.
        let body = reply_codec::decode(row.get(2)?).unwrap_or_default();
        let body = reply_codec::encode(&anonymize_reply(&body)).into_owned();
        anonymized.push((row.get(0)?, row.get(1)?, body));
    }
    for (owner, key, body) in anonymized {
        update.execute(params![owner, key, body])?;
    }
    Ok(())
}
