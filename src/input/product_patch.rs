//! A product's JSON merge patch, as HTTP and imports send it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::json;
use crate::{
    domain::{
        catalog::product::{AttributeValue, ProductPatch},
        money::Currency,
        validation::ValidationErrors,
    },
    error::Error,
    messages::catalog::ImportRow,
};

/// A merge patch: what is not named stays, null takes away.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchProductRequest {
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<f64>)]
    price: Option<Option<Box<RawValue>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>)]
    sku: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>)]
    category: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<Vec<String>>)]
    tags: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>)]
    image_url: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
    attributes: Option<Option<BTreeMap<String, Option<AttributeValue>>>>,
}

/// Tells a member that was set to null from one that was not named.
fn deserialize_present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl PatchProductRequest {
    /// What it changes.
    pub(crate) fn parse(self, currency: Currency) -> Result<ProductPatch, Error> {
        let mut faults = ValidationErrors::new();
        let patch = ProductPatch {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: self.price.map(|given| {
                given.map(|text| json::parse_amount("price", &text, currency, &mut faults))
            }),
            category: self.category,
            tags: self.tags,
            image_url: self.image_url,
            attributes: self.attributes,
        };
        Ok(faults.into_result(patch)?)
    }
}

/// The one member that a line of an import has besides those of a patch.
#[derive(Deserialize)]
struct ImportStockField {
    stock: Option<u64>,
}

/// Reads a line of an import: a patch, with what `on_hand` shall be.
pub(crate) fn parse_import_row(json: &[u8], currency: Currency) -> Result<ImportRow, Error> {
    let patch = json::parse::<PatchProductRequest>(json, &["stock"])?.parse(currency)?;
    let stock = serde_json::from_slice::<ImportStockField>(json)
        .map_err(|_| {
            Error::invalid_field("stock", "invalid", "stock must be a whole number, not below zero")
        })?
        .stock;
    Ok(ImportRow { patch, stock })
}
