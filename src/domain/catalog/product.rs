//! Products: their details, validation, and changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    catalog::image_url::validate_image_url,
    clock::Timestamp,
    excerpt::excerpt,
    ids::ProductId,
    money::{MAX_PRICE_MINOR_UNITS, Money},
    validation::ValidationErrors,
};

/// The most that one unit can weigh: a hundred tonnes.
pub const MAX_WEIGHT_GRAMS: u32 = 100_000_000;

/// A product of the catalog. Its stock is separate, see [`crate::domain::inventory`].
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// The product's identifier.
    pub id: ProductId,
    /// The product's details.
    pub details: ProductDetails,
    /// The number of creates, replaces, patches, and deletes, from 1.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its details last changed.
    pub updated_at: Timestamp,
    /// Whether it was deleted. A deleted product stays in the store for the carts and orders that
    /// name it.
    pub deleted: bool,
}

/// The details of a product, which the shop can edit.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductDetails {
    /// The shop's SKU, unique among active products.
    pub sku: Option<String>,
    /// The product's name.
    pub name: String,
    /// A description, possibly empty.
    pub description: String,
    /// The price of one unit.
    pub price: Money,
    /// The category, if any.
    pub category: Option<String>,
    /// The tags, at most 50.
    pub tags: Vec<String>,
    /// The URL of an image.
    pub image_url: Option<String>,
    /// Further attributes by name, at most 100.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// The most units that one buyer gets, at least 1, over all orders that are neither cancelled
    /// nor expired.
    pub purchase_limit: Option<u32>,
    /// The weight of one unit in grams, at most [`MAX_WEIGHT_GRAMS`].
    pub weight_grams: Option<u32>,
    /// The class of goods that tax rates can name.
    pub tax_class: Option<String>,
}

#[cfg(test)]
impl ProductDetails {
    /// Details with nothing but a name, for tests.
    pub(crate) fn sample(name: &str) -> Self {
        Self {
            sku: None,
            name: name.into(),
            description: String::new(),
            price: Money::zero("EUR".parse().unwrap()),
            category: None,
            tags: Vec::new(),
            image_url: None,
            attributes: BTreeMap::new(),
            purchase_limit: None,
            weight_grams: None,
            tax_class: None,
        }
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a string, a number, true or false")]
pub enum AttributeValue {
    /// `true` or `false`.
    Bool(bool),
    /// A number, exactly as sent.
    Number(serde_json::Number),
    /// A text.
    Text(String),
}

/// A merge patch (RFC 7396). `None` is a member that the patch omits, `Some(None)` a member that it
/// sets to null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProductPatch {
    /// See [`ProductDetails::sku`].
    pub sku: Option<Option<String>>,
    /// See [`ProductDetails::name`].
    pub name: Option<Option<String>>,
    /// See [`ProductDetails::description`].
    pub description: Option<Option<String>>,
    /// See [`ProductDetails::price`].
    pub price: Option<Option<Money>>,
    /// See [`ProductDetails::category`].
    pub category: Option<Option<String>>,
    /// See [`ProductDetails::tags`].
    pub tags: Option<Option<Vec<String>>>,
    /// See [`ProductDetails::image_url`].
    pub image_url: Option<Option<String>>,
    /// Attributes by name. Null removes one attribute; null for the whole member removes all.
    pub attributes: Option<Option<BTreeMap<String, Option<AttributeValue>>>>,
    /// See [`ProductDetails::purchase_limit`].
    pub purchase_limit: Option<Option<u32>>,
    /// See [`ProductDetails::weight_grams`].
    pub weight_grams: Option<Option<u32>>,
    /// See [`ProductDetails::tax_class`].
    pub tax_class: Option<Option<String>>,
}

impl ProductDetails {
    /// Validates every member.
    ///
    /// # Errors
    /// All validation errors.
    pub fn validate(&self) -> Result<(), ValidationErrors> {
        let mut errors = ValidationErrors::new();
        errors.check_text("name", &self.name, 1, 200);
        errors.check_text("description", &self.description, 0, 10_000);
        if self.price.minor_units() > MAX_PRICE_MINOR_UNITS {
            let max = Money::from_minor_units(MAX_PRICE_MINOR_UNITS, self.price.currency());
            let max = max.map_or_else(|_| String::new(), |max| max.to_string());
            errors.add("price", "out_of_range", format!("price must not be above {max}"));
        }
        if let Some(sku) = &self.sku {
            validate_sku(&mut errors, sku);
        }
        if let Some(category) = &self.category {
            errors.check_text("category", category, 1, 100);
        }
        self.validate_collections(&mut errors);
        if self.purchase_limit == Some(0) {
            errors.add("purchase_limit", "out_of_range", "purchase_limit must be at least 1");
        }
        if self.weight_grams.is_some_and(|grams| grams > MAX_WEIGHT_GRAMS) {
            let message = format!("weight_grams must not be above {MAX_WEIGHT_GRAMS}");
            errors.add("weight_grams", "out_of_range", message);
        }
        if let Some(tax_class) = &self.tax_class {
            errors.check_text("tax_class", tax_class, 1, 64);
        }
        errors.into_result(())
    }

    fn validate_collections(&self, errors: &mut ValidationErrors) {
        if self.tags.len() > 50 {
            errors.add(
                "tags",
                "too_many",
                format!("{} tags; at most 50 are allowed", self.tags.len()),
            );
        }
        for tag in &self.tags {
            errors.check_text("tags", tag, 1, 64);
            if tag.contains('|') {
                errors.add(
                    "tags",
                    "invalid_character",
                    "a tag must not contain '|', which separates tags in CSV",
                );
            }
        }
        if let Some(url) = &self.image_url {
            errors.record_result(validate_image_url(url));
        }
        if self.attributes.len() > 100 {
            errors.add(
                "attributes",
                "too_many",
                format!("{} attributes; at most 100 are allowed", self.attributes.len()),
            );
        }
        for (name, value) in &self.attributes {
            let field = format!("attributes.{}", excerpt(name));
            errors.check_text(&field, name, 1, 64);
            if let AttributeValue::Text(text) = value {
                errors.check_text(&field, text, 0, 1000);
            }
        }
    }
}

/// A SKU is any text: shops keep the numbers that they have, such as `12 Oaktree` or `品番12`.
fn validate_sku(errors: &mut ValidationErrors, sku: &str) {
    if !(1..=100).contains(&sku.chars().count()) || sku.contains(char::is_control) {
        errors.add("sku", "invalid", "sku must be 1 to 100 characters, without control characters");
    }
}

impl ProductPatch {
    /// The details of a new product that has only these members.
    ///
    /// # Errors
    /// The name or the price is missing.
    pub fn into_details(self) -> Result<ProductDetails, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let (name, price) = (self.name.flatten(), self.price.flatten());
        for (field, missing) in [("name", name.is_none()), ("price", price.is_none())] {
            if missing {
                errors.add(field, "required", format!("{field} is required for a new product"));
            }
        }
        let (Some(name), Some(price)) = (name, price) else { return Err(errors) };
        let attributes = self.attributes.flatten().unwrap_or_default();
        Ok(ProductDetails {
            sku: self.sku.flatten(),
            name,
            description: self.description.flatten().unwrap_or_default(),
            price,
            category: self.category.flatten(),
            tags: self.tags.flatten().unwrap_or_default(),
            image_url: self.image_url.flatten(),
            attributes: attributes
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            purchase_limit: self.purchase_limit.flatten(),
            weight_grams: self.weight_grams.flatten(),
            tax_class: self.tax_class.flatten(),
        })
    }
}

impl Product {
    /// A new product, version 1.
    #[must_use]
    pub const fn new(id: ProductId, details: ProductDetails, now: Timestamp) -> Self {
        Self { id, details, version: 1, created_at: now, updated_at: now, deleted: false }
    }

    /// This product with new details. `None` if they are the same.
    #[must_use]
    pub fn with_details(&self, details: ProductDetails, now: Timestamp) -> Option<Self> {
        (details != self.details).then(|| Self {
            details,
            version: self.version + 1,
            updated_at: now,
            ..self.clone()
        })
    }

    /// This product, deleted.
    #[must_use]
    pub fn to_deleted(&self, now: Timestamp) -> Self {
        Self { version: self.version + 1, updated_at: now, deleted: true, ..self.clone() }
    }

    /// The details after `patch`.
    ///
    /// # Errors
    /// The patch removes a required member.
    pub fn apply_patch(&self, patch: ProductPatch) -> Result<ProductDetails, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let mut details = self.details.clone();
        apply_required_field(&mut errors, "name", patch.name, &mut details.name);
        apply_required_field(
            &mut errors,
            "description",
            patch.description,
            &mut details.description,
        );
        apply_required_field(&mut errors, "price", patch.price, &mut details.price);
        details.sku = patch.sku.unwrap_or(details.sku);
        details.category = patch.category.unwrap_or(details.category);
        details.image_url = patch.image_url.unwrap_or(details.image_url);
        details.purchase_limit = patch.purchase_limit.unwrap_or(details.purchase_limit);
        details.weight_grams = patch.weight_grams.unwrap_or(details.weight_grams);
        details.tax_class = patch.tax_class.unwrap_or(details.tax_class);
        if let Some(tags) = patch.tags {
            details.tags = tags.unwrap_or_default();
        }
        match patch.attributes {
            None => {}
            Some(None) => details.attributes.clear(),
            Some(Some(changes)) => {
                for (name, value) in changes {
                    match value {
                        Some(value) => details.attributes.insert(name, value),
                        None => details.attributes.remove(&name),
                    };
                }
            }
        }
        errors.into_result(details)
    }
}

fn apply_required_field<T>(
    errors: &mut ValidationErrors,
    field: &str,
    change: Option<Option<T>>,
    target: &mut T,
) {
    match change {
        None => {}
        Some(Some(value)) => *target = value,
        Some(None) => errors.add(field, "required", format!("{field} cannot be null")),
    }
}

#[cfg(test)]
mod tests;
