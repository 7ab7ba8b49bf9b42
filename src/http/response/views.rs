//! What carts, products and stock look like to clients.

use std::collections::BTreeMap;

use actix_web::web::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{
    cart::{Cart, PricedCart, PricedLine},
    catalog::product::{AttributeValue, Product},
    inventory::StockLevel,
    money::{Currency, Money},
};

/// A cart at today's prices.
#[derive(Serialize, ToSchema)]
pub(crate) struct CartResponse<'a> {
    id: Uuid,
    /// The user or guest it belongs to.
    user_id: Uuid,
    /// Counts the cart's changes; 0 for one that was never touched.
    version: u64,
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    items: Vec<CartItem<'a>>,
    /// Pieces in all lines together.
    item_count: u64,
    #[schema(value_type = f64, example = 59.97)]
    total_amount: Money,
    #[schema(format = DateTime)]
    updated_at: String,
    /// When a guest's cart ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// One product in a cart.
#[derive(Serialize, ToSchema)]
pub(crate) struct CartItem<'a> {
    product_id: Uuid,
    name: &'a str,
    quantity: u32,
    #[schema(value_type = f64, example = 19.99)]
    unit_price: Money,
    #[schema(value_type = f64, example = 59.97)]
    total: Money,
    /// How many could be bought now; 0 when the product is gone.
    available: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_changed: Option<PriceChange>,
}

/// The price has changed since the line was last written.
#[derive(Serialize, ToSchema)]
pub(crate) struct PriceChange {
    #[schema(value_type = f64)]
    was: Money,
    #[schema(value_type = f64)]
    now: Money,
}

/// A product with what can still be bought of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProductResponse<'a> {
    id: Uuid,
    sku: Option<&'a str>,
    name: &'a str,
    description: &'a str,
    #[schema(value_type = f64, example = 19.99)]
    price: Money,
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    category: Option<&'a str>,
    tags: &'a [String],
    image_url: Option<&'a str>,
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    attributes: &'a BTreeMap<String, AttributeValue>,
    /// How many can still be bought.
    stock: u64,
    /// Counts what PUT, PATCH and DELETE change, from 1.
    version: u64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A product's stock.
#[derive(Serialize, ToSchema)]
pub(crate) struct StockResponse {
    product_id: Uuid,
    /// Pieces in the house.
    on_hand: u64,
    /// The part promised to orders.
    reserved: u64,
    /// The rest.
    available: u64,
    /// Counts the stock's changes.
    version: u64,
}

impl From<&StockLevel> for StockResponse {
    fn from(level: &StockLevel) -> Self {
        Self {
            product_id: level.product_id.as_uuid(),
            on_hand: level.on_hand,
            reserved: level.reserved,
            available: level.available(),
            version: level.version,
        }
    }
}

fn to_cart_item(line: &PricedLine) -> CartItem<'_> {
    CartItem {
        product_id: line.product_id.as_uuid(),
        name: &line.name,
        quantity: line.quantity,
        unit_price: line.unit_price,
        total: line.total,
        available: line.available,
        price_changed: line.previous_price.map(|was| PriceChange { was, now: line.unit_price }),
    }
}

/// A cart's answer.
#[must_use]
pub fn render_cart(cart: &Cart, priced: &PricedCart) -> Bytes {
    let response = CartResponse {
        id: cart.owner.id.as_uuid(),
        user_id: cart.owner.id.as_uuid(),
        version: cart.version,
        currency: priced.total.currency(),
        items: priced.lines.iter().map(to_cart_item).collect(),
        item_count: priced.item_count,
        total_amount: priced.total,
        updated_at: cart.updated_at.to_string(),
        expires_at: cart.expires_at().map(|at| at.to_string()),
    };
    // Plain structs with string keys: serialising them cannot fail.
    serde_json::to_vec(&response).unwrap_or_default().into()
}

/// A product's answer.
#[must_use]
pub fn render_product(product: &Product, stock: &StockLevel) -> Bytes {
    let facts = &product.details;
    let response = ProductResponse {
        id: product.id.as_uuid(),
        sku: facts.sku.as_deref(),
        name: &facts.name,
        description: &facts.description,
        price: facts.price,
        currency: facts.price.currency(),
        category: facts.category.as_deref(),
        tags: &facts.tags,
        image_url: facts.image_url.as_deref(),
        attributes: &facts.attributes,
        stock: stock.available(),
        version: product.version,
        created_at: product.created_at.to_string(),
        updated_at: product.updated_at.to_string(),
    };
    serde_json::to_vec(&response).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::ids::ProductId, events::stock_json};

    /// A remembered stock answer is written by the store, a fresh one here: they must not differ.
    #[test]
    fn stock_response_matches_stored_json() {
        let level = StockLevel {
            on_hand: 9,
            reserved: 2,
            version: 4,
            last_movement: 5,
            ..StockLevel::empty(ProductId::new())
        };
        assert_eq!(serde_json::to_vec(&StockResponse::from(&level)).unwrap(), stock_json(&level));
    }
}
