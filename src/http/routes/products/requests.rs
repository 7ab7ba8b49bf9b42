//! Products as clients send them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    domain::{
        catalog::product::{AttributeValue, ProductDetails},
        money::Currency,
        validation::ValidationErrors,
    },
    error::Error,
    input::json,
};

/// Members of a fetched product that cannot be changed; they are ignored, so that what was fetched can be sent back.
pub(crate) const READ_ONLY_FIELDS: &[&str] =
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
    attributes: Option<BTreeMap<String, AttributeValue>>,
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
    attributes: Option<BTreeMap<String, AttributeValue>>,
}

impl ProductRequest {
    /// What it says, with the opening stock.
    pub(crate) fn parse(self, currency: Currency) -> Result<(ProductDetails, u64), Error> {
        let mut faults = ValidationErrors::new();
        let facts = ProductDetails {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: json::parse_amount("price", &self.price, currency, &mut faults),
            category: self.category,
            tags: self.tags.unwrap_or_default(),
            image_url: self.image_url,
            attributes: self.attributes.unwrap_or_default(),
        };
        Ok(faults.into_result((facts, self.stock))?)
    }
}

impl ReplaceProductRequest {
    /// What it says.
    pub(crate) fn parse(self, currency: Currency) -> Result<ProductDetails, Error> {
        let mut faults = ValidationErrors::new();
        let facts = ProductDetails {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: json::parse_amount("price", &self.price, currency, &mut faults),
            category: self.category,
            tags: self.tags.unwrap_or_default(),
            image_url: self.image_url,
            attributes: self.attributes.unwrap_or_default(),
        };
        Ok(faults.into_result(facts)?)
    }
}
