//! The data of `catalog.*` events: a product's details, without its stock.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::schema;
use crate::domain::{
    catalog::product::{AttributeValue, Product},
    ids::ProductId,
    money::{Currency, Money},
};

/// A product that was created or updated.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Product")]
pub struct ProductData<'a> {
    #[schemars(with = "Uuid")]
    product_id: ProductId,
    sku: Option<&'a str>,
    name: &'a str,
    description: &'a str,
    #[schemars(with = "schema::Amount")]
    price: Money,
    #[schemars(with = "String", regex(pattern = "^[A-Z]{3}$"))]
    currency: Currency,
    category: Option<&'a str>,
    tags: &'a [String],
    image_url: Option<&'a str>,
    #[schemars(with = "BTreeMap<String, schema::AttributeValue>")]
    attributes: &'a BTreeMap<String, AttributeValue>,
    /// The most units that one buyer gets, over all orders that are neither cancelled nor expired.
    #[schemars(range(min = 1))]
    purchase_limit: Option<u32>,
    /// The weight of one unit.
    weight_grams: Option<u32>,
    /// The class of goods that tax rates can name.
    tax_class: Option<&'a str>,
    #[schemars(range(min = 1))]
    version: u64,
}

/// A product that was deleted.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProductDeleted")]
pub struct ProductDeletedData<'a> {
    #[schemars(with = "Uuid")]
    product_id: ProductId,
    sku: Option<&'a str>,
    #[schemars(range(min = 1))]
    version: u64,
}

impl<'a> From<&'a Product> for ProductData<'a> {
    fn from(product: &'a Product) -> Self {
        let details = &product.details;
        Self {
            product_id: product.id,
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
            version: product.version,
        }
    }
}

impl<'a> From<&'a Product> for ProductDeletedData<'a> {
    fn from(product: &'a Product) -> Self {
        Self {
            product_id: product.id,
            sku: product.details.sku.as_deref(),
            version: product.version,
        }
    }
}
