//! Request bodies of the product routes.

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
    http::request::body::JsonRequest,
    input::{attributes::Attributes, json, product_patch::PatchProductRequest},
};

/// Read-only members of a product. They are ignored, so that a client can send back a fetched
/// product.
const READ_ONLY_FIELDS: &[&str] =
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
    #[schema(min_length = 1, max_length = 100, examples("TEA-1"))]
    sku: Option<String>,
    #[schema(min_length = 1, max_length = 100, examples("tea"))]
    category: Option<String>,
    #[schema(max_items = 50, example = json!(["green", "loose"]))]
    tags: Option<Vec<String>>,
    #[schema(max_length = 2048, examples("https://example.com/mint-tea.jpg"))]
    image_url: Option<String>,
    #[schema(value_type = Option<Attributes>)]
    attributes: Option<BTreeMap<String, AttributeValue>>,
    /// The most units that one buyer gets, over all orders that are neither cancelled nor expired.
    #[schema(minimum = 1, examples(2))]
    purchase_limit: Option<u32>,
    /// The weight of one unit.
    #[schema(maximum = 100_000_000, examples(250))]
    weight_grams: Option<u32>,
    /// The class of goods that tax rates can name.
    #[schema(min_length = 1, max_length = 64, examples("reduced"))]
    tax_class: Option<String>,
}

/// The new details of a product. A member that is left out is removed.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReplaceProductRequest {
    #[schema(min_length = 1, max_length = 200, examples("Mint tea"))]
    name: String,
    #[schema(max_length = 10_000, examples("Loose leaves, 100 g."))]
    description: String,
    #[schema(value_type = f64, minimum = 0, example = 19.99)]
    price: Box<RawValue>,
    #[schema(min_length = 1, max_length = 100, examples("TEA-1"))]
    sku: Option<String>,
    #[schema(min_length = 1, max_length = 100, examples("tea"))]
    category: Option<String>,
    #[schema(max_items = 50, example = json!(["green", "loose"]))]
    tags: Option<Vec<String>>,
    #[schema(max_length = 2048, examples("https://example.com/mint-tea.jpg"))]
    image_url: Option<String>,
    #[schema(value_type = Option<Attributes>)]
    attributes: Option<BTreeMap<String, AttributeValue>>,
    /// The most units that one buyer gets, over all orders that are neither cancelled nor expired.
    #[schema(minimum = 1, examples(2))]
    purchase_limit: Option<u32>,
    /// The weight of one unit.
    #[schema(maximum = 100_000_000, examples(250))]
    weight_grams: Option<u32>,
    /// The class of goods that tax rates can name.
    #[schema(min_length = 1, max_length = 64, examples("reduced"))]
    tax_class: Option<String>,
}

impl JsonRequest for ProductRequest {}

impl JsonRequest for ReplaceProductRequest {
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

impl JsonRequest for PatchProductRequest {
    /// The media type of RFC 7396, and plain JSON.
    const MEDIA_TYPES: &'static [&'static str] =
        &["application/merge-patch+json", "application/json"];
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

impl ProductRequest {
    /// Converts the request to product details and the opening stock.
    pub(crate) fn parse(self, currency: Currency) -> Result<(ProductDetails, u64), Error> {
        let mut errors = ValidationErrors::new();
        let details = ProductDetails {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: json::parse_amount("price", &self.price, currency, &mut errors),
            category: self.category,
            tags: self.tags.unwrap_or_default(),
            image_url: self.image_url,
            attributes: self.attributes.unwrap_or_default(),
            purchase_limit: self.purchase_limit,
            weight_grams: self.weight_grams,
            tax_class: self.tax_class,
        };
        Ok(errors.into_result((details.trimmed(), self.stock))?)
    }
}

impl ReplaceProductRequest {
    /// Converts the request to product details.
    pub(crate) fn parse(self, currency: Currency) -> Result<ProductDetails, Error> {
        let mut errors = ValidationErrors::new();
        let details = ProductDetails {
            sku: self.sku,
            name: self.name,
            description: self.description,
            price: json::parse_amount("price", &self.price, currency, &mut errors),
            category: self.category,
            tags: self.tags.unwrap_or_default(),
            image_url: self.image_url,
            attributes: self.attributes.unwrap_or_default(),
            purchase_limit: self.purchase_limit,
            weight_grams: self.weight_grams,
            tax_class: self.tax_class,
        };
        Ok(errors.into_result(details.trimmed())?)
    }
}
