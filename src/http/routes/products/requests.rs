//! Products as clients send them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    domain::{
        catalog::product::{Attribute, ProductFacts},
        money::Currency,
        validation::Faults,
    },
    error::Error,
    input::json,
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

impl ProductRequest {
    /// What it says, with the opening stock.
    pub(crate) fn parse(self, currency: Currency) -> Result<(ProductFacts, u64), Error> {
        let mut faults = Faults::none();
        let facts = ProductFacts {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: json::money("price", &self.price, currency, &mut faults),
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
            price: json::money("price", &self.price, currency, &mut faults),
            category: self.category,
            tags: self.tags.unwrap_or_default(),
            image_url: self.image_url,
            attributes: self.attributes.unwrap_or_default(),
        };
        Ok(faults.or(facts)?)
    }
}
