//! Products as clients send them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::receive;
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
    name: String,
    description: String,
    #[schema(value_type = f64, example = 19.99)]
    price: Box<RawValue>,
    /// The opening stock.
    stock: u64,
    sku: Option<String>,
    category: Option<String>,
    tags: Option<Vec<String>>,
    image_url: Option<String>,
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
    attributes: Option<BTreeMap<String, Attribute>>,
}

/// A product as a whole.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReplaceProductRequest {
    name: String,
    description: String,
    #[schema(value_type = f64, example = 19.99)]
    price: Box<RawValue>,
    sku: Option<String>,
    category: Option<String>,
    tags: Option<Vec<String>>,
    image_url: Option<String>,
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
    attributes: Option<BTreeMap<String, Attribute>>,
}

/// A merge patch: what is not named stays, null takes away.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchProductRequest {
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<f64>)]
    price: Option<Option<Box<RawValue>>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    sku: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    category: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<Vec<String>>)]
    tags: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    image_url: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
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
