//! Products in little memory: one piece for all texts.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::details_codec::DetailsCodec;
use crate::domain::{
    catalog::product::{AttributeValue, Product, ProductDetails},
    clock::Timestamp,
    ids::ProductId,
    money::{Currency, Money},
};

/// A product in little memory. A map of attributes alone takes more than half a kilobyte.
#[derive(Debug)]
pub(super) struct PackedProduct {
    pub(super) id: ProductId,
    pub(super) version: u64,
    /// In minor units.
    price: i64,
    currency: Currency,
    name_len: u16,
    created_at: Timestamp,
    /// The name, which carts and lists need, then the encoded [`Details`].
    text: Box<[u8]>,
}

/// What is encoded together.
#[derive(Serialize)]
struct Details<'a>(
    /// The time from the creation to the last change, in milliseconds.
    i64,
    &'a Option<String>,
    &'a str,
    &'a Option<String>,
    &'a [String],
    &'a Option<String>,
    &'a BTreeMap<String, AttributeValue>,
    Option<u32>,
    Option<u32>,
    &'a Option<String>,
);

/// As [`Details`].
#[derive(Deserialize)]
struct OwnedDetails(
    i64,
    Option<String>,
    String,
    Option<String>,
    Vec<String>,
    Option<String>,
    BTreeMap<String, AttributeValue>,
    Option<u32>,
    Option<u32>,
    Option<String>,
);

/// The details of a product as JSON.
pub(super) fn encode_details(product: &Product) -> Vec<u8> {
    let details = &product.details;
    let encoded = serde_json::to_vec(&Details(
        product.updated_at.as_millis().wrapping_sub(product.created_at.as_millis()),
        &details.sku,
        &details.description,
        &details.category,
        &details.tags,
        &details.image_url,
        &details.attributes,
        details.purchase_limit,
        details.weight_grams,
        &details.tax_class,
    ));
    // Plain text, numbers and maps with text keys can always be encoded.
    encoded.unwrap_or_default()
}

impl PackedProduct {
    pub(super) fn new(product: &Product, codec: &DetailsCodec) -> Self {
        let details = &product.details;
        let name = details.name.as_bytes();
        let encoded = codec.compress(encode_details(product));
        Self {
            id: product.id,
            version: product.version,
            price: details.price.minor_units(),
            currency: details.price.currency(),
            created_at: product.created_at,
            // A name has at most 200 characters.
            name_len: u16::try_from(name.len()).unwrap_or(u16::MAX),
            text: [name, &encoded].concat().into_boxed_slice(),
        }
    }

    pub(super) fn name(&self) -> &str {
        let name = self.text.get(..usize::from(self.name_len)).unwrap_or_default();
        str::from_utf8(name).unwrap_or_default()
    }

    pub(super) fn price(&self) -> Money {
        // The price of a product is never beyond the limit.
        let price = Money::from_minor_units(self.price, self.currency);
        price.unwrap_or(Money::zero(self.currency))
    }

    pub(super) const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The product. `None` would be a bug, which is logged.
    pub(super) fn unpack(&self, codec: &DetailsCodec) -> Option<Arc<Product>> {
        let encoded = self.text.get(usize::from(self.name_len)..).unwrap_or_default();
        let decoded = codec
            .decompress(encoded)
            .and_then(|details| serde_json::from_slice(&details).map_err(std::io::Error::other));
        let OwnedDetails(
            updated_after,
            sku,
            description,
            category,
            tags,
            image_url,
            attributes,
            purchase_limit,
            weight_grams,
            tax_class,
        ) = decoded
            .inspect_err(|error| tracing::error!(%error, id = %self.id, "a packed product is bad"))
            .ok()?;
        Some(Arc::new(Product {
            id: self.id,
            version: self.version,
            created_at: self.created_at,
            updated_at: Timestamp::from_millis(
                self.created_at.as_millis().wrapping_add(updated_after),
            ),
            deleted: false,
            details: ProductDetails {
                sku,
                name: self.name().to_owned(),
                description,
                price: self.price(),
                category,
                tags,
                image_url,
                attributes,
                purchase_limit,
                weight_grams,
                tax_class,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::details_codec::MIN_SAMPLES, *};

    /// Packs products with and without a dictionary.
    fn check(product: &Product) {
        let (plain, trained) = (DetailsCodec::default(), DetailsCodec::default());
        trained.train(vec![product.clone(); MIN_SAMPLES].iter());
        for codec in [&plain, &trained] {
            let packed = PackedProduct::new(product, codec);
            assert_eq!(*packed.unpack(codec).unwrap(), *product);
            assert_eq!(
                (packed.name(), packed.price()),
                (&*product.details.name, product.details.price)
            );
        }
        let size = |codec| PackedProduct::new(product, codec).text.len();
        assert!(size(&trained) < size(&plain));
    }

    /// An allocation of 80 bytes, with the two counts of [`Arc`]. There is one for each product.
    #[test]
    fn packed_product_is_small() {
        assert_eq!(size_of::<PackedProduct>(), 64);
    }

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
        check(&product);
        product.details = ProductDetails::sample("Thé ☕");
        check(&product);
    }
}
