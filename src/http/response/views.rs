//! The JSON representations of carts and products.

use std::collections::BTreeMap;

use actix_web::web::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{
        cart::{Cart, PricedCart, PricedLine},
        catalog::product::{AttributeValue, Product},
        inventory::StockLevel,
        money::{Currency, Money},
    },
    events::charges::{CodeData, DestinationData, DiscountData, ShippingData, TaxData},
    input::attributes::Attributes,
};

/// A cart at current prices.
#[derive(Serialize, ToSchema)]
pub(crate) struct CartResponse<'a> {
    id: Uuid,
    /// The user or guest that the cart belongs to.
    user_id: Uuid,
    /// The version of the cart. It counts changes, and is 0 before the first.
    #[schema(examples(4))]
    version: u64,
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "USD")]
    currency: Currency,
    items: Vec<CartItem<'a>>,
    /// The number of units in all lines.
    #[schema(examples(3))]
    item_count: u64,
    /// The sum of the lines, before discounts.
    #[schema(value_type = f64, example = 59.97)]
    subtotal: Money,
    /// What the promotions take off, in the order in which they were applied.
    discounts: Vec<DiscountData<'a>>,
    /// The codes that the buyer gave.
    codes: Vec<CodeData<'a>>,
    /// Where the goods go, if shipping or tax depends on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    shipping_to: Option<DestinationData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    shipping: Option<ShippingData<'a>>,
    /// The taxes by name and rate, the highest rate first.
    taxes: Vec<TaxData<'a>>,
    /// What is to be paid: `subtotal` less `discounts`, with `shipping` and the `taxes` that prices
    /// do not include.
    #[schema(value_type = f64, example = 59.97)]
    total_amount: Money,
    #[schema(format = DateTime)]
    updated_at: String,
    /// When the cart expires. Only a guest's cart has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    expires_at: Option<String>,
}

/// One product in a cart.
#[derive(Serialize, ToSchema)]
pub(crate) struct CartItem<'a> {
    product_id: Uuid,
    /// It is null if the product has none, or was deleted.
    #[schema(required = true, examples("TEA-1"))]
    sku: Option<&'a str>,
    #[schema(examples("Mint tea"))]
    name: &'a str,
    /// It is null if the product has none, or was deleted.
    #[schema(required = true, examples("https://example.com/mint-tea.jpg"))]
    image_url: Option<&'a str>,
    #[schema(minimum = 1, examples(3))]
    quantity: u32,
    #[schema(value_type = f64, example = 19.99)]
    unit_price: Money,
    #[schema(value_type = f64, example = 59.97)]
    total: Money,
    /// The line's part of the discounts.
    #[schema(value_type = f64, example = 6)]
    discount: Money,
    /// The tax on what the line costs after its discount.
    #[schema(value_type = f64, example = 8.62)]
    tax: Money,
    /// How many units can be bought now. It is 0 if the product was deleted.
    #[schema(examples(40))]
    available: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PriceChange, required = false)]
    price_changed: Option<PriceChange>,
}

/// A price that has changed since the line was last written.
#[derive(Serialize, ToSchema)]
pub(crate) struct PriceChange {
    #[schema(value_type = f64, examples(17.99))]
    was: Money,
    #[schema(value_type = f64, examples(19.99))]
    now: Money,
}

/// A product.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProductResponse<'a> {
    id: Uuid,
    #[schema(required = true, examples("TEA-1"))]
    sku: Option<&'a str>,
    #[schema(examples("Mint tea"))]
    name: &'a str,
    #[schema(examples("Loose leaves, 100 g."))]
    description: &'a str,
    #[schema(value_type = f64, example = 19.99)]
    price: Money,
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "USD")]
    currency: Currency,
    #[schema(required = true, examples("tea"))]
    category: Option<&'a str>,
    #[schema(example = json!(["green", "loose"]))]
    tags: &'a [String],
    #[schema(required = true, examples("https://example.com/mint-tea.jpg"))]
    image_url: Option<&'a str>,
    #[schema(value_type = Attributes)]
    attributes: &'a BTreeMap<String, AttributeValue>,
    /// The most units that one buyer gets, over all orders that are neither cancelled nor expired.
    #[schema(required = true, minimum = 1, examples(2))]
    purchase_limit: Option<u32>,
    /// The weight of one unit.
    #[schema(required = true, maximum = 100_000_000, examples(250))]
    weight_grams: Option<u32>,
    /// The class of goods that tax rates can name.
    #[schema(required = true, examples("reduced"))]
    tax_class: Option<&'a str>,
    /// How many units can be bought now.
    #[schema(examples(40))]
    stock: u64,
    /// The version of the product details. It starts at 1; PUT, PATCH and DELETE increase it.
    #[schema(examples(2))]
    version: u64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

fn to_cart_item(line: &PricedLine) -> CartItem<'_> {
    let zero = Money::zero(line.unit_price.currency());
    let details = line.product.as_ref().map(|product| &product.details);
    CartItem {
        product_id: line.product_id.as_uuid(),
        sku: details.and_then(|details| details.sku.as_deref()),
        name: &line.name,
        image_url: details.and_then(|details| details.image_url.as_deref()),
        quantity: line.quantity,
        unit_price: line.unit_price,
        total: line.total,
        discount: line.amounts.map_or(zero, |amounts| amounts.discount),
        tax: line.amounts.map_or(zero, |amounts| amounts.tax),
        available: line.available,
        price_changed: line.previous_price.map(|was| PriceChange { was, now: line.unit_price }),
    }
}

/// Encodes a cart as JSON.
#[must_use]
pub fn render_cart(cart: &Cart, priced: &PricedCart) -> Bytes {
    let breakdown = &priced.breakdown;
    let response = CartResponse {
        id: cart.owner.id.as_uuid(),
        user_id: cart.owner.id.as_uuid(),
        version: cart.version,
        currency: breakdown.total.currency(),
        items: priced.lines.iter().map(to_cart_item).collect(),
        item_count: priced.item_count,
        subtotal: breakdown.subtotal,
        discounts: breakdown.discounts.iter().map(Into::into).collect(),
        codes: breakdown.codes.iter().map(Into::into).collect(),
        shipping_to: cart.shipping.as_ref().map(|shipping| (&shipping.destination).into()),
        shipping: breakdown.shipping.as_ref().map(Into::into),
        taxes: breakdown.taxes.iter().map(Into::into).collect(),
        total_amount: breakdown.total,
        updated_at: cart.updated_at.to_string(),
        expires_at: cart.expires_at().map(|at| at.to_string()),
    };
    // Serializing plain structs with string keys cannot fail.
    serde_json::to_vec(&response).unwrap_or_default().into()
}

/// Encodes a product as JSON.
#[must_use]
pub fn render_product(product: &Product, stock: &StockLevel) -> Bytes {
    let details = &product.details;
    let response = ProductResponse {
        id: product.id.as_uuid(),
        sku: details.sku.as_deref(),
        name: &details.name,
        description: &details.description,
        price: details.price,
        currency: details.price.currency(),
        category: details.category.as_deref(),
        tags: &details.tags,
        image_url: details.image_url.as_deref(),
        attributes: &details.attributes,
        purchase_limit: details.purchase_limit,
        weight_grams: details.weight_grams,
        tax_class: details.tax_class.as_deref(),
        stock: stock.available(),
        version: product.version,
        created_at: product.created_at.to_string(),
        updated_at: product.updated_at.to_string(),
    };
    serde_json::to_vec(&response).unwrap_or_default().into()
}
