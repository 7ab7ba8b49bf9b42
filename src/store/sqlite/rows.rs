//! Converts between domain types and rows.

mod accounts;
mod orders;
mod staff;

use std::{borrow::Cow, error::Error};

use bytes::Bytes;
use rusqlite::{
    Row, ToSql,
    types::{ToSqlOutput, Type, ValueRef},
};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use uuid::{Uuid, fmt::Hyphenated};

pub(super) use self::{
    accounts::{address_book_from_row, session_from_row, user_from_row},
    orders::{
        OrderLinesToStore, ShipmentsToStore, order_from_row, order_status_column, ordered_units,
        payment_json,
    },
    staff::{action_from_row, actor_columns, api_key_from_row},
};
use super::outbox::PARTITION;
use crate::{
    domain::{
        cart::{Cart, CartLine, CartOwner, CartShipping},
        catalog::product::{Product, ProductDetails},
        clock::Timestamp,
        ids::ProductId,
        inventory::{MovementKind, StockDelta, StockLevel, StockMovement},
        money::{Currency, Money},
    },
    events::{Audience, OutboxEvent, OutboxPosition},
    messages::command_context::StoredReply,
    store::{charges_codec::StoredShipping, reply_codec},
};

/// A UUID as text, formatted without an allocation.
pub(super) struct UuidText([u8; Hyphenated::LENGTH]);

impl UuidText {
    pub(super) fn new(id: Uuid) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Self(text)
    }
}

impl ToSql for UuidText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// UTF-8 bytes, such as JSON, to be stored as text.
pub(super) struct TextBytes<'a>(pub(super) &'a [u8]);

impl ToSql for TextBytes<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// A bound of a range, capped at the largest integer of SQLite, beyond which no row can be.
pub(super) fn clamp_to_i64(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// Serializes a value as JSON.
pub(super) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// A cart's lines, as stored.
pub(super) struct CartLines<'a>(pub(super) &'a [CartLine]);

#[derive(Serialize)]
struct CartLineToStore<'a> {
    product_id: ProductId,
    name: &'a str,
    quantity: u32,
    price: i64,
    currency: Currency,
}

#[derive(Deserialize)]
struct StoredCartLine<'a> {
    product_id: ProductId,
    name: String,
    quantity: u32,
    price: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

impl Serialize for CartLines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|line| CartLineToStore {
            product_id: line.product_id,
            name: &line.name,
            quantity: line.quantity,
            price: line.price.minor_units(),
            currency: line.price.currency(),
        }))
    }
}

/// A cart, from the columns
/// `owner_id, guest, version, lines, updated_at, merged_into, abandoned, codes, shipping`. `shop`
/// is the shop's currency, which nearly every price has.
pub(super) fn cart_from_row(row: &Row<'_>, shop: Currency) -> rusqlite::Result<Cart> {
    Ok(Cart {
        owner: owner_from_row(row)?,
        version: row.get(2)?,
        lines: parse_cart_lines(text_column(row, 3)?, shop).map_err(conversion_error(3))?,
        updated_at: timestamp_column(row, 4)?,
        merged_into: optional_id_column(row, 5)?,
        abandoned: row.get(6)?,
        codes: optional_json::<Vec<String>>(row, 7)?.unwrap_or_default(),
        shipping: optional_json::<StoredShipping>(row, 8)?
            .map(CartShipping::try_from)
            .transpose()
            .map_err(|error| conversion_error(8)(error.into()))?,
    })
}

/// A cart's owner, from the columns `owner_id, guest`.
pub(super) fn owner_from_row(row: &Row<'_>) -> rusqlite::Result<CartOwner> {
    Ok(CartOwner { id: id_column(row, 0)?, is_guest: row.get(1)? })
}

fn parse_cart_lines(
    json: &str,
    shop: Currency,
) -> Result<Vec<CartLine>, Box<dyn Error + Send + Sync>> {
    let read: Vec<StoredCartLine<'_>> = serde_json::from_str(json)?;
    let line = |line: StoredCartLine<'_>| {
        let price = parse_money(line.price, &line.currency, shop)?;
        Ok(CartLine {
            product_id: line.product_id,
            name: line.name,
            quantity: line.quantity,
            price,
        })
    };
    read.into_iter().map(line).collect()
}

fn parse_money(
    minor: i64,
    currency: &str,
    shop: Currency,
) -> Result<Money, Box<dyn Error + Send + Sync>> {
    let currency = if currency == shop.code() { shop } else { currency.parse()? };
    Ok(Money::from_minor_units(minor, currency)?)
}

/// A product, from all columns of `products` in table order, followed by those of
/// [`stock_level_from_row`]. `shop` is the shop's currency.
pub(super) fn product_from_row(
    row: &Row<'_>,
    shop: Currency,
) -> rusqlite::Result<(Product, StockLevel)> {
    let details = ProductDetails {
        sku: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        price: parse_money(row.get(4)?, text_column(row, 5)?, shop).map_err(conversion_error(5))?,
        category: row.get(6)?,
        tags: serde_json::from_str(text_column(row, 7)?)
            .map_err(|error| conversion_error(7)(error.into()))?,
        image_url: row.get(8)?,
        attributes: serde_json::from_str(text_column(row, 9)?)
            .map_err(|error| conversion_error(9)(error.into()))?,
        purchase_limit: row.get(14)?,
        weight_grams: row.get(15)?,
        tax_class: row.get(16)?,
    };
    let product = Product {
        id: id_column(row, 0)?,
        details,
        version: row.get(10)?,
        created_at: timestamp_column(row, 11)?,
        updated_at: timestamp_column(row, 12)?,
        deleted: row.get(13)?,
    };
    let never_moved = row.get_ref(17)? == ValueRef::Null;
    let stock = if never_moved {
        StockLevel::empty(product.id)
    } else {
        stock_level_from_row(row, 17, product.id)?
    };
    Ok((product, stock))
}

/// A stock level, from the columns `on_hand, reserved, version, last_movement`, beginning with
/// column `first`.
pub(super) fn stock_level_from_row(
    row: &Row<'_>,
    first: usize,
    product_id: ProductId,
) -> rusqlite::Result<StockLevel> {
    Ok(StockLevel {
        product_id,
        on_hand: row.get(first)?,
        reserved: row.get(first + 1)?,
        version: row.get(first + 2)?,
        last_movement: row.get(first + 3)?,
    })
}

/// A movement, from all columns of `movements` but the first, in table order.
pub(super) fn movement_from_row(
    row: &Row<'_>,
    product_id: ProductId,
) -> rusqlite::Result<StockMovement> {
    let kind = text_column(row, 1)?
        .parse::<MovementKind>()
        .map_err(|_| conversion_error(1)("no kind of movement".into()))?;
    Ok(StockMovement {
        product_id,
        sequence: row.get(0)?,
        delta: StockDelta { kind, on_hand: row.get(2)?, reserved: row.get(3)? },
        order_id: optional_id_column(row, 4)?,
        reference: row.get(5)?,
        reason: row.get(6)?,
        occurred_at: timestamp_column(row, 7)?,
        actor: staff::actor_from_row(row, 8)?,
    })
}

/// A stored reply and the fingerprint of its request, from the columns
/// `fingerprint, status, body`.
pub(super) fn stored_reply_from_row(row: &Row<'_>) -> rusqlite::Result<([u8; 32], StoredReply)> {
    let body =
        reply_codec::decode(row.get(2)?).map_err(|error| conversion_error(2)(error.into()))?;
    Ok((row.get(0)?, StoredReply::from_store(row.get(1)?, body)))
}

/// An event, from the columns `position, id, type, audience, owner_id, body`.
pub(super) fn outbox_event_from_row(row: &Row<'_>) -> rusqlite::Result<OutboxEvent> {
    let audience = match text_column(row, 3)? {
        "everyone" => Audience::Everyone,
        "owner" => Audience::Owner(id_column(row, 4)?),
        "nobody" => Audience::BrokerOnly,
        _ => return Err(conversion_error(3)("unknown audience".into())),
    };
    let body = Bytes::copy_from_slice(text_column(row, 5)?.as_bytes());
    Ok(OutboxEvent {
        position: OutboxPosition { partition: PARTITION, offset: row.get(0)? },
        id: id_column(row, 1)?,
        kind: row.get(2)?,
        audience,
        body,
    })
}

/// The values of the columns `audience` and `owner_id`.
pub(super) fn audience_columns(audience: Audience) -> (&'static str, Option<UuidText>) {
    match audience {
        Audience::Everyone => ("everyone", None),
        Audience::Owner(user) => ("owner", Some(UuidText::new(user.as_uuid()))),
        Audience::BrokerOnly => ("nobody", None),
    }
}

/// The JSON in a column that can be null.
pub(super) fn optional_json<T: DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let json = row.get_ref(column)?.as_str_or_null()?;
    let parsed = json.map(serde_json::from_str).transpose();
    parsed.map_err(|error| conversion_error(column)(error.into()))
}

/// The id in a column.
pub(super) fn id_column<I: From<Uuid>>(row: &Row<'_>, column: usize) -> rusqlite::Result<I> {
    let uuid = Uuid::try_parse(text_column(row, column)?)
        .map_err(|error| conversion_error(column)(error.into()))?;
    Ok(I::from(uuid))
}

pub(super) fn optional_id_column<I: From<Uuid>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<I>> {
    if row.get_ref(column)? == ValueRef::Null { Ok(None) } else { id_column(row, column).map(Some) }
}

pub(super) fn timestamp_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

pub(super) fn text_column<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    Ok(row.get_ref(column)?.as_str()?)
}

pub(super) fn conversion_error(
    column: usize,
) -> impl FnOnce(Box<dyn Error + Send + Sync>) -> rusqlite::Error {
    move |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error)
}
