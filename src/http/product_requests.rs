//! Products as clients send them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    domain::{
        money::{Currency, Money, MoneyError},
        product::{Attribute, ProductFacts, ProductPatch},
        text::Faults,
    },
    error::Error,
    messages::catalog::ImportRow,
};

/// Members of a fetched product that cannot be changed; they are ignored, so that what was fetched can be sent back.
pub(crate) const READ_ONLY: &[&str] = &["id", "currency", "stock", "version", "created_at", "updated_at"];

/// A new product, or a line of an import.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ProductRequest {
    name: String,
    /// Required but in an import.
    #[schema(required, value_type = String)]
    description: Option<String>,
    #[schema(value_type = f64, example = 19.99)]
    price: Box<RawValue>,
    /// The opening stock; in an import what `on_hand` is set to, when given.
    #[schema(required, value_type = u64)]
    stock: Option<u64>,
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
fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn money(text: &RawValue, currency: Currency, faults: &mut Faults) -> Money {
    Money::parse(text.get(), currency).unwrap_or_else(|error| {
        let message = match error {
            MoneyError::NotANumber => "price must be a JSON number".to_owned(),
            MoneyError::Negative => "price must not be below zero".to_owned(),
            MoneyError::TooPrecise => {
                format!("price has more than the {} decimals of {}", currency.decimals(), currency.code())
            }
            MoneyError::TooLarge => "price is larger than any amount the shop can hold".to_owned(),
        };
        faults.add("price", "invalid_amount", message);
        Money::zero(currency)
    })
}

impl ProductRequest {
    /// A new product, with its opening stock.
    pub(crate) fn parse_new(self, currency: Currency) -> Result<(ProductFacts, u64), Error> {
        let mut faults = Faults::none();
        for (field, missing) in [("description", self.description.is_none()), ("stock", self.stock.is_none())] {
            if missing {
                faults.add(field, "required", format!("{field} is required"));
            }
        }
        let stock = self.stock.unwrap_or_default();
        let facts = self.facts(currency, &mut faults);
        Ok(faults.or((facts, stock))?)
    }

    /// A line of an import.
    pub(crate) fn parse_line(self, currency: Currency) -> Result<ImportRow, Error> {
        let mut faults = Faults::none();
        let stock = self.stock;
        let facts = self.facts(currency, &mut faults);
        Ok(faults.or(ImportRow { facts, stock })?)
    }

    fn facts(self, currency: Currency, faults: &mut Faults) -> ProductFacts {
        ProductFacts {
            sku: self.sku,
            name: self.name,
            description: self.description.unwrap_or_default(),
            price: money(&self.price, currency, faults),
            category: self.category,
            tags: self.tags.unwrap_or_default(),
            image_url: self.image_url,
            attributes: self.attributes.unwrap_or_default(),
        }
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
            price: money(&self.price, currency, &mut faults),
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
            price: self.price.map(|price| price.map(|text| money(&text, currency, &mut faults))),
            category: self.category,
            tags: self.tags,
            image_url: self.image_url,
            attributes: self.attributes,
        };
        Ok(faults.or(patch)?)
    }
}
