//! Products in little memory: one piece for all details but those that carts need.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::domain::{
    catalog::product::{AttributeValue, Product, ProductDetails},
    clock::Timestamp,
    ids::ProductId,
    money::Money,
};

/// A product in little memory. A map of attributes alone takes more than half a kilobyte.
#[derive(Debug)]
pub(super) struct PackedProduct {
    pub(super) id: ProductId,
    pub(super) version: u64,
    pub(super) price: Money,
    pub(super) name: Box<str>,
    created_at: Timestamp,
    updated_at: Timestamp,
    purchase_limit: Option<u32>,
    /// [`Details`] as JSON.
    details: Box<[u8]>,
}

/// The details that are encoded together.
#[derive(Serialize)]
struct Details<'a>(
    &'a Option<String>,
    &'a str,
    &'a Option<String>,
    &'a [String],
    &'a Option<String>,
    &'a BTreeMap<String, AttributeValue>,
    Option<u32>,
    &'a Option<String>,
);

/// As [`Details`].
#[derive(Deserialize)]
struct OwnedDetails(
    Option<String>,
    String,
    Option<String>,
    Vec<String>,
    Option<String>,
    BTreeMap<String, AttributeValue>,
    Option<u32>,
    Option<String>,
);

impl PackedProduct {
    pub(super) fn new(product: &Product) -> Self {
        let details = &product.details;
        let encoded = serde_json::to_vec(&Details(
            &details.sku,
            &details.description,
            &details.category,
            &details.tags,
            &details.image_url,
            &details.attributes,
            details.weight_grams,
            &details.tax_class,
        ));
        Self {
            id: product.id,
            version: product.version,
            price: details.price,
            name: details.name.as_str().into(),
            created_at: product.created_at,
            updated_at: product.updated_at,
            purchase_limit: details.purchase_limit,
            // Plain text, numbers and maps with text keys can always be encoded.
            details: encoded.unwrap_or_default().into_boxed_slice(),
        }
    }

    /// The product. `None` would be a bug, which is logged.
    pub(super) fn unpack(&self) -> Option<Arc<Product>> {
        let decoded = serde_json::from_slice(&self.details);
        let OwnedDetails(
            sku,
            description,
            category,
            tags,
            image_url,
            attributes,
            weight_grams,
            tax_class,
        ) = decoded
            .inspect_err(|error| tracing::error!(%error, id = %self.id, "a packed product is bad"))
            .ok()?;
        Some(Arc::new(Product {
            id: self.id,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted: false,
            details: ProductDetails {
                sku,
                name: self.name.as_ref().to_owned(),
                description,
                price: self.price,
                category,
                tags,
                image_url,
                attributes,
                purchase_limit: self.purchase_limit,
                weight_grams,
                tax_class,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_is_the_same_after_packing() {
        let attributes = r#"{"a": "x\u0000\"", "b": 250, "c": 2.50, "d": -1e300, "e": true,
            "f": 18446744073709551615}"#;
        let details = ProductDetails {
            sku: Some("TEA-1".into()),
            name: "Thé ☕".into(),
            description: "Line 1\nLine 2".into(),
            price: Money::parse("4.50", "EUR".parse().unwrap()).unwrap(),
            category: Some("tea".into()),
            tags: vec!["a".into(), "b".into()],
            image_url: Some("https://example.com/tea.jpg".into()),
            attributes: serde_json::from_str(attributes).unwrap(),
            purchase_limit: Some(3),
            weight_grams: Some(250),
            tax_class: Some("reduced".into()),
        };
        let mut product = Product::new(ProductId::new(), details, Timestamp::from_millis(7));
        product.version = 9;
        product.updated_at = Timestamp::from_millis(8);
        assert_eq!(*PackedProduct::new(&product).unpack().unwrap(), product);
        product.details = ProductDetails {
            sku: None,
            category: None,
            tags: Vec::new(),
            image_url: None,
            attributes: BTreeMap::new(),
            purchase_limit: None,
            weight_grams: None,
            tax_class: None,
            ..product.details
        };
        assert_eq!(*PackedProduct::new(&product).unpack().unwrap(), product);
    }
}
