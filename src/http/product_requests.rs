//! Products as clients send them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    openapi::maps::{AttributeChanges, Attributes},
    receive,
};
use crate::{
    domain::{
        money::{Currency, Money},
        product::{Attribute, ProductFacts, ProductPatch},
        text::Faults,
    },
    error::Error,
    json,
    messages::catalog::ImportRow,
};

/// Members of a fetched product that cannot be changed; they are ignored, so that what was fetched can be sent back.
pub(crate) const READ_ONLY: &[&str] =
    &["id", "currency", "stock", "version", "created_at", "updated_at"];

/// A new product.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ProductRequest {
    #[schema(min_length = 1, max_length = 200, examples("Mint tea"))]
    name: String,
    #[schema(max_length = 10_000, examples("Loose leaves, 100 g."))]
    description: String,
    #[schema(value_type = f64, minimum = 0, example = 19.99)]
    price: Box<RawValue>,
    /// The opening stock.
    #[schema(examples(40))]
    stock: u64,
    #[schema(min_length = 1, max_length = 64, examples("TEA-1"))]
    sku: Option<String>,
    #[schema(min_length = 1, max_length = 100, examples("tea"))]
    category: Option<String>,
    #[schema(max_items = 50, example = json!(["green", "loose"]))]
    tags: Option<Vec<String>>,
    #[schema(max_length = 2048, examples("https://example.com/mint-tea.jpg"))]
    image_url: Option<String>,
    #[schema(value_type = Option<Attributes>)]
    attributes: Option<BTreeMap<String, Attribute>>,
}

/// The new facts of a product. A member that is left out is removed.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReplaceProductRequest {
    #[schema(min_length = 1, max_length = 200, examples("Mint tea"))]
    name: String,
    #[schema(max_length = 10_000, examples("Loose leaves, 100 g."))]
    description: String,
    #[schema(value_type = f64, minimum = 0, example = 19.99)]
    price: Box<RawValue>,
    #[schema(min_length = 1, max_length = 64, examples("TEA-1"))]
    sku: Option<String>,
    #[schema(min_length = 1, max_length = 100, examples("tea"))]
    category: Option<String>,
    #[schema(max_items = 50, example = json!(["green", "loose"]))]
    tags: Option<Vec<String>>,
    #[schema(max_length = 2048, examples("https://example.com/mint-tea.jpg"))]
    image_url: Option<String>,
    #[schema(value_type = Option<Attributes>)]
    attributes: Option<BTreeMap<String, Attribute>>,
}

/// A merge patch (RFC 7396). A member that is left out stays, and null removes one.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchProductRequest {
    #[serde(default, deserialize_with = "named")]
    #[schema(
        value_type = String, required = false, min_length = 1, max_length = 200,
        examples("Mint tea")
    )]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(
        value_type = String, required = false, max_length = 10_000,
        examples("Loose leaves, 100 g.")
    )]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = f64, required = false, minimum = 0, examples(19.99))]
    price: Option<Option<Box<RawValue>>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, examples("TEA-1"))]
    sku: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100, examples("tea"))]
    category: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<Vec<String>>, max_items = 50, example = json!(["green", "loose"]))]
    tags: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(
        value_type = Option<String>, max_length = 2048,
        examples("https://example.com/mint-tea.jpg")
    )]
    image_url: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<AttributeChanges>)]
    attributes: Option<Option<BTreeMap<String, Option<Attribute>>>>,
}

/// Tells a member that was set to null from one that was not named.
fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn price(text: &RawValue, currency: Currency, faults: &mut Faults) -> Money {
    receive::money("price", text, currency, faults)
}

impl ProductRequest {
    /// What it says, with the opening stock.
    pub(crate) fn parse(self, currency: Currency) -> Result<(ProductFacts, u64), Error> {
        let mut faults = Faults::none();
        let facts = ProductFacts {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: price(&self.price, currency, &mut faults),
            category: self.category,
            tags: self.tags.unwrap_or_default(),
            image_url: self.image_url,
            attributes: self.attributes.unwrap_or_default(),
        };
        Ok(faults.or((facts, self.stock))?)
    }
}

impl ReplaceProductRequest {
    /// What it says.
    pub(crate) fn parse(self, currency: Currency) -> Result<ProductFacts, Error> {
        let mut faults = Faults::none();
        let facts = ProductFacts {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: price(&self.price, currency, &mut faults),
            category: self.category,
            tags: self.tags.unwrap_or_default(),
            image_url: self.image_url,
            attributes: self.attributes.unwrap_or_default(),
        };
        Ok(faults.or(facts)?)
    }
}

impl PatchProductRequest {
    /// What it changes.
    pub(crate) fn parse(self, currency: Currency) -> Result<ProductPatch, Error> {
        let mut faults = Faults::none();
        let patch = ProductPatch {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: self.price.map(|given| given.map(|text| price(&text, currency, &mut faults))),
            category: self.category,
            tags: self.tags,
            image_url: self.image_url,
            attributes: self.attributes,
        };
        Ok(faults.or(patch)?)
    }
}

/// The one member that a line of an import has besides those of a patch.
#[derive(Deserialize)]
struct StockMember {
    stock: Option<u64>,
}

/// Reads a line of an import: a patch, with what `on_hand` shall be.
pub(crate) fn import_row(json: &[u8], currency: Currency) -> Result<ImportRow, Error> {
    let patch = json::parse::<PatchProductRequest>(json, &["stock"])?.parse(currency)?;
    let stock = serde_json::from_slice::<StockMember>(json)
        .map_err(|_| {
            Error::fault("stock", "invalid", "stock must be a whole number, not below zero")
        })?
        .stock;
    Ok(ImportRow { patch, stock })
}
