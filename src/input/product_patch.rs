//! A product's JSON merge patch, as HTTP requests and import files contain it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{attributes::AttributeChanges, json};
use crate::{
    domain::{
        catalog::{
            product::{AttributeValue, ProductPatch},
            trim::trim,
        },
        money::Currency,
        validation::ValidationErrors,
    },
    error::Error,
    messages::catalog::ImportRow,
};

/// A merge patch (RFC 7396). A member that is left out stays, and null removes one.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchProductRequest {
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(
        value_type = String, required = false, min_length = 1, max_length = 200,
        examples("Mint tea")
    )]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(
        value_type = String, required = false, max_length = 10_000,
        examples("Loose leaves, 100 g.")
    )]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = f64, required = false, minimum = 0, examples(19.99))]
    price: Option<Option<Box<RawValue>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100, examples("TEA-1"))]
    sku: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100, examples("tea"))]
    category: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<Vec<String>>, max_items = 50, example = json!(["green", "loose"]))]
    tags: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(
        value_type = Option<String>, max_length = 2048,
        examples("https://example.com/mint-tea.jpg")
    )]
    image_url: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<AttributeChanges>)]
    attributes: Option<Option<BTreeMap<String, Option<AttributeValue>>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<u32>, minimum = 1, examples(2))]
    purchase_limit: Option<Option<u32>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<u32>, maximum = 100_000_000, examples(250))]
    weight_grams: Option<Option<u32>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, examples("reduced"))]
    tax_class: Option<Option<String>>,
}

/// Tells a member that is null (`Some(None)`) from one that is absent (`None`).
fn deserialize_present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl PatchProductRequest {
    /// Converts the request into a patch of the domain.
    pub(crate) fn parse(self, currency: Currency) -> Result<ProductPatch, Error> {
        let mut errors = ValidationErrors::new();
        let patch = ProductPatch {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: self.price.map(|price| {
                price.map(|text| json::parse_amount("price", &text, currency, &mut errors))
            }),
            category: self.category,
            tags: self.tags,
            image_url: self.image_url,
            attributes: self.attributes,
            purchase_limit: self.purchase_limit,
            weight_grams: self.weight_grams,
            tax_class: self.tax_class,
        };
        Ok(errors.into_result(patch.trimmed())?)
    }
}

/// The one member that an import line has besides those of a patch.
#[derive(Deserialize)]
struct ImportStockField {
    stock: Option<u64>,
}

/// Parses an import line: a patch, and optionally the new `on_hand` quantity.
pub(super) fn parse_import_row(
    json: &[u8],
    currency: Currency,
    ignore_unknown: bool,
) -> Result<ImportRow, Error> {
    let request = if ignore_unknown {
        json::parse_ignoring_unknown::<PatchProductRequest>(json)?
    } else {
        json::parse::<PatchProductRequest>(json, &["stock"])?
    };
    let mut patch = request.parse(currency)?;
    patch.description = patch.description.map(|text| text.map(trim));
    let stock = serde_json::from_slice::<ImportStockField>(json)
        .map_err(|_| {
            Error::invalid_field(
                "stock",
                "invalid",
                "stock must be a whole number and not negative",
            )
        })?
        .stock;
    Ok(ImportRow { patch, stock })
}
