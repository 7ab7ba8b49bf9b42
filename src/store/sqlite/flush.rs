//! Writes a planned batch, inside the writer's transaction.

mod staff;

use rusqlite::{Connection, params};

use super::{
    erasure,
    login_failures::known_networks_to_bytes,
    mails::{mail_tokens_to_bytes, write_mails},
    pricing_store,
    rows::{
        self, CartLines, OrderLinesToStore, ShipmentsToStore, TextBytes, UuidText, payment_json,
        to_json,
    },
    rules,
    webhooks::write_webhooks,
};
use crate::{
    domain::{account::Email, clock::Timestamp, order::OrderAddress, payment::ProviderState},
    events::OutboxEvent,
    messages::command_context::StoredReply,
    store::{
        charges_codec::{StoredCharges, StoredShipping},
        plan::{ReplyToStore, WriteSet},
        reply_codec,
        stored_address::StoredAddress,
    },
};

/// Writes the records in `writes`. `outbox_events` are its events, with their positions.
pub(super) fn flush(
    connection: &Connection,
    writes: &WriteSet,
    outbox_events: &[OutboxEvent],
) -> rusqlite::Result<()> {
    write_carts(connection, writes)?;
    write_products(connection, writes)?;
    write_orders(connection, writes)?;
    write_stock_levels(connection, writes)?;
    write_movements(connection, writes)?;
    erasure::delete_accounts(connection, writes)?;
    write_users(connection, writes)?;
    write_address_books(connection, writes)?;
    write_sessions(connection, writes)?;
    staff::write_api_keys(connection, writes)?;
    staff::write_actions(connection, writes)?;
    write_mails(connection, writes)?;
    rules::write(connection, writes)?;
    pricing_store::write(connection, writes)?;
    write_webhooks(connection, writes)?;
    write_idempotency_keys(connection, writes)?;
    write_inbox(connection, writes)?;
    write_outbox(connection, writes, outbox_events)?;
    erasure::reassign_replies(connection, writes)?;
    erasure::erase_traces(connection, writes)
}

fn write_carts(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO carts (owner_id, guest, version, lines, updated_at, merged_into, abandoned, \
         codes, shipping) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (owner_id) DO UPDATE SET guest = excluded.guest, \
         version = excluded.version, lines = excluded.lines, updated_at = excluded.updated_at, \
         merged_into = excluded.merged_into, abandoned = excluded.abandoned, \
         codes = excluded.codes, shipping = excluded.shipping",
    )?;
    for cart in writes.carts.values() {
        put.execute(params![
            UuidText::new(cart.owner.id.as_uuid()),
            cart.owner.is_guest,
            cart.version,
            to_json(&CartLines(&cart.lines))?,
            cart.updated_at.as_millis(),
            cart.merged_into.map(|id| UuidText::new(id.as_uuid())),
            cart.abandoned,
            (!cart.codes.is_empty()).then(|| to_json(&cart.codes)).transpose()?,
            cart.shipping.as_ref().map(|to| to_json(&StoredShipping::from(to))).transpose()?,
        ])?;
    }
    Ok(())
}

fn write_products(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    release_skus(connection, writes)?;
    let mut put = connection.prepare_cached(
        "INSERT INTO products (id, sku, name, description, price, currency, category, tags, \
         image_url, attributes, version, created_at, updated_at, deleted, purchase_limit, \
         weight_grams, tax_class) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
         ON CONFLICT (id) DO UPDATE SET sku = excluded.sku, name = excluded.name, \
         description = excluded.description, price = excluded.price, \
         currency = excluded.currency, category = excluded.category, tags = excluded.tags, \
         image_url = excluded.image_url, attributes = excluded.attributes, \
         version = excluded.version, created_at = excluded.created_at, \
         updated_at = excluded.updated_at, deleted = excluded.deleted, \
         purchase_limit = excluded.purchase_limit, \
         weight_grams = excluded.weight_grams, tax_class = excluded.tax_class",
    )?;
    for product in writes.products.values() {
        let details = &product.details;
        put.execute(params![
            UuidText::new(product.id.as_uuid()),
            details.sku,
            details.name,
            details.description,
            details.price.minor_units(),
            details.price.currency().code(),
            details.category,
            to_json(&details.tags)?,
            details.image_url,
            to_json(&details.attributes)?,
            product.version,
            product.created_at.as_millis(),
            product.updated_at.as_millis(),
            product.deleted,
            details.purchase_limit,
            details.weight_grams,
            details.tax_class,
        ])?;
    }
    Ok(())
}

/// Clears each written sku on the product that has it now. A batch can move a sku from one product
/// to another, and may write the new owner first, which would violate the unique index.
fn release_skus(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    if writes.products.len() < 2 {
        return Ok(());
    }
    let sql = "UPDATE products SET sku = NULL WHERE sku = ?1 AND deleted = 0 AND id <> ?2";
    for product in writes.products.values().filter(|product| !product.deleted) {
        if let Some(sku) = &product.details.sku {
            connection
                .prepare_cached(sql)?
                .execute(params![sku, UuidText::new(product.id.as_uuid())])?;
        }
    }
    Ok(())
}

fn write_orders(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO orders (id, user_id, status, version, currency, lines, payment_method, \
         payment_reference, shipping_address, placed_at, expires_at, updated_at, actor, actor_id, \
         anonymized, shipments, payment, payment_due, payment_intent, units, charges, email, \
         billing_address, guest) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
         ?18, ?19, ?20, ?21, ?22, ?23, ?24) \
         ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, status = excluded.status, \
         version = excluded.version, currency = excluded.currency, lines = excluded.lines, \
         payment_method = excluded.payment_method, \
         payment_reference = excluded.payment_reference, \
         shipping_address = excluded.shipping_address, placed_at = excluded.placed_at, \
         expires_at = excluded.expires_at, updated_at = excluded.updated_at, \
         actor = excluded.actor, actor_id = excluded.actor_id, \
         anonymized = excluded.anonymized, shipments = excluded.shipments, \
         payment = excluded.payment, payment_intent = excluded.payment_intent, \
         payment_due = excluded.payment_due, units = excluded.units, \
         charges = excluded.charges, email = excluded.email, \
         billing_address = excluded.billing_address, guest = excluded.guest",
    )?;
    for order in writes.orders.values() {
        let (actor, actor_id) = rows::actor_columns(order.actor);
        let provider = order.payment.provider.as_ref();
        put.execute(params![
            UuidText::new(order.id.as_uuid()),
            UuidText::new(order.user_id.as_uuid()),
            order.status.as_str(),
            order.version,
            order.currency.code(),
            to_json(&OrderLinesToStore(&order.lines))?,
            order.payment.method.as_str(),
            order.payment.reference,
            address_json(order.shipping_address.as_ref())?,
            order.placed_at.as_millis(),
            order.expires_at.map(|at| at.as_millis()),
            order.updated_at.as_millis(),
            actor,
            actor_id,
            order.anonymized,
            to_json(&ShipmentsToStore(&order.shipments))?,
            payment_json(&order.payment)?,
            provider.and_then(|provider| provider.due_at).map(Timestamp::as_millis),
            provider.and_then(ProviderState::intent_id),
            order.units(),
            order.charges.as_ref().map(|c| to_json(&StoredCharges::from(&**c))).transpose()?,
            order.email.as_ref().map(Email::as_str),
            address_json(order.billing_address.as_ref())?,
            order.guest,
        ])?;
    }
    Ok(())
}

fn address_json(address: Option<&OrderAddress>) -> rusqlite::Result<Option<String>> {
    address.map(|address| to_json(address.fields())).transpose()
}

fn write_stock_levels(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO stock (product_id, on_hand, reserved, version, last_movement) \
         VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (product_id) DO UPDATE SET on_hand = excluded.on_hand, \
         reserved = excluded.reserved, version = excluded.version, \
         last_movement = excluded.last_movement",
    )?;
    for level in writes.stock.values() {
        let id = UuidText::new(level.product_id.as_uuid());
        put.execute(params![
            id,
            level.on_hand,
            level.reserved,
            level.version,
            level.last_movement
        ])?;
    }
    Ok(())
}

fn write_movements(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO movements (product_id, sequence, kind, on_hand_delta, reserved_delta, \
         order_id, reference, reason, at, actor, actor_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for movement in &writes.movements {
        let (actor, actor_id) = rows::actor_columns(movement.actor);
        insert.execute(params![
            UuidText::new(movement.product_id.as_uuid()),
            movement.sequence,
            movement.delta.kind.as_str(),
            movement.delta.on_hand,
            movement.delta.reserved,
            movement.order_id.map(|id| UuidText::new(id.as_uuid())),
            movement.reference,
            movement.reason,
            movement.occurred_at.as_millis(),
            actor,
            actor_id,
        ])?;
    }
    Ok(())
}

fn write_users(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO users (id, email, name, role, password_hash, created_at, version, events, \
         known_networks, scopes, blocked, last_login_at, email_verified, mail_tokens) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
         ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name, \
         role = excluded.role, password_hash = excluded.password_hash, \
         created_at = excluded.created_at, version = excluded.version, events = excluded.events, \
         known_networks = excluded.known_networks, scopes = excluded.scopes, \
         blocked = excluded.blocked, last_login_at = excluded.last_login_at, \
         email_verified = excluded.email_verified, mail_tokens = excluded.mail_tokens",
    )?;
    for user in writes.users.values() {
        put.execute(params![
            UuidText::new(user.id.as_uuid()),
            user.email.as_str(),
            user.name,
            user.role.as_str(),
            user.password_hash,
            user.created_at.as_millis(),
            user.version,
            user.event_sequence,
            known_networks_to_bytes(&user.known_networks),
            user.scopes.names().join(" "),
            user.blocked,
            user.last_login_at.map(|at| at.as_millis()),
            user.email_verified,
            mail_tokens_to_bytes(&user.mail_tokens),
        ])?;
    }
    Ok(())
}

fn write_address_books(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO address_books (user_id, addresses) VALUES (?1, ?2)",
    )?;
    for book in writes.address_books.values() {
        let addresses = StoredAddress::list_of(book);
        put.execute(params![UuidText::new(book.user_id.as_uuid()), to_json(&addresses)?])?;
    }
    Ok(())
}

fn write_sessions(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO sessions (id, user_id, refresh_hash, created_at, expires_at, revoked_at, \
         version, address, user_agent) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, \
         refresh_hash = excluded.refresh_hash, created_at = excluded.created_at, \
         expires_at = excluded.expires_at, revoked_at = excluded.revoked_at, \
         version = excluded.version, address = excluded.address, \
         user_agent = excluded.user_agent",
    )?;
    for session in writes.sessions.values() {
        put.execute(params![
            UuidText::new(session.id.as_uuid()),
            UuidText::new(session.user_id.as_uuid()),
            session.refresh_hash,
            session.created_at.as_millis(),
            session.expires_at.as_millis(),
            session.revoked_at.map(|at| at.as_millis()),
            session.version,
            session.address.map(|address| address.to_string()),
            session.user_agent,
        ])?;
    }
    Ok(())
}

/// A key that is in the table already is expired: it was not loaded, so the planner did not see it.
fn write_idempotency_keys(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO idempotency_keys (owner_id, key, fingerprint, status, body, at, \
         about_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for ReplyToStore { key, reply, at, about } in &writes.stored_replies {
        let owner = UuidText::new(key.owner.as_uuid());
        put.execute(params![
            owner,
            key.key,
            key.fingerprint,
            StoredReply::LEGACY_STATUS,
            reply_codec::encode(&reply.body),
            at.as_millis(),
            about.map(|user| UuidText::new(user.as_uuid())),
        ])?;
    }
    Ok(())
}

fn write_inbox(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT INTO inbox (id, at) VALUES (?1, ?2)")?;
    for (id, at) in &writes.inbox {
        insert.execute(params![id, at.as_millis()])?;
    }
    Ok(())
}

fn write_outbox(
    connection: &Connection,
    writes: &WriteSet,
    outbox_events: &[OutboxEvent],
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO outbox (position, id, type, subject, audience, owner_id, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (event, outbox_event) in writes.events.iter().zip(outbox_events) {
        let (audience, owner) = rows::audience_columns(outbox_event.audience);
        insert.execute(params![
            outbox_event.position.offset,
            UuidText::new(outbox_event.id.as_uuid()),
            outbox_event.kind,
            UuidText::new(event.payload.subject()),
            audience,
            owner,
            TextBytes(&outbox_event.body),
        ])?;
    }
    Ok(())
}
