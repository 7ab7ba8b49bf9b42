//! Products, and their stock.

use mongodb::bson::{Bson, DateTime, Decimal128, Uuid as Id};
use serde::{Deserialize, Serialize};

use super::{Unfit, date, id, money, own, time};
use crate::domain::{
    catalog::product::{Attribute, Product, ProductFacts},
    inventory::{Delta, Movement, MovementKind, StockLevel},
};

/// A product. Its attributes are a list, since their names are anything and a field's name is not.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct ProductDocument {
    #[serde(rename = "_id")]
    product_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<String>,
    name: String,
    description: String,
    price: i64,
    currency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<String>,
    attributes: Vec<AttributeDocument>,
    version: u64,
    created_at: DateTime,
    updated_at: DateTime,
    deleted: bool,
}

#[derive(Serialize, Deserialize)]
struct AttributeDocument {
    name: String,
    value: Bson,
}

impl TryFrom<&Product> for ProductDocument {
    type Error = Unfit;

    fn try_from(product: &Product) -> Result<Self, Unfit> {
        let facts = product.facts.clone();
        let attribute =
            |(name, value)| Ok(AttributeDocument { name, value: attribute_value(value)? });
        Ok(Self {
            product_id: id(product.id.as_uuid()),
            sku: facts.sku,
            name: facts.name,
            description: facts.description,
            price: facts.price.minor(),
            currency: facts.price.currency().code().to_owned(),
            category: facts.category,
            tags: facts.tags,
            image_url: facts.image_url,
            attributes: facts
                .attributes
                .into_iter()
                .map(attribute)
                .collect::<Result<_, Unfit>>()?,
            version: product.version,
            created_at: date(product.created_at),
            updated_at: date(product.updated_at),
            deleted: product.deleted,
        })
    }
}

impl TryFrom<ProductDocument> for Product {
    type Error = Unfit;

    fn try_from(document: ProductDocument) -> Result<Self, Unfit> {
        let attribute =
            |attribute: AttributeDocument| Ok((attribute.name, attribute_of(attribute.value)?));
        let facts = ProductFacts {
            sku: document.sku,
            name: document.name,
            description: document.description,
            price: money(document.price, &document.currency)?,
            category: document.category,
            tags: document.tags,
            image_url: document.image_url,
            attributes: document
                .attributes
                .into_iter()
                .map(attribute)
                .collect::<Result<_, Unfit>>()?,
        };
        Ok(Self {
            id: own(document.product_id),
            facts,
            version: document.version,
            created_at: time(document.created_at),
            updated_at: time(document.updated_at),
            deleted: document.deleted,
        })
    }
}

fn attribute_value(attribute: Attribute) -> Result<Bson, Unfit> {
    Ok(match attribute {
        Attribute::Flag(flag) => Bson::Boolean(flag),
        Attribute::Text(text) => Bson::String(text),
        Attribute::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(signed), ..) => Bson::Int64(signed),
            (None, Some(large), _) => Bson::Decimal128(large.to_string().parse::<Decimal128>()?),
            (None, None, Some(float)) => Bson::Double(float),
            (None, None, None) => {
                return Err(Unfit(format!("{number} is no number that can be stored")));
            }
        },
    })
}

fn attribute_of(value: Bson) -> Result<Attribute, Unfit> {
    let unfit = |value: &dyn std::fmt::Display| Unfit(format!("{value} is not an attribute"));
    Ok(match value {
        Bson::Boolean(flag) => Attribute::Flag(flag),
        Bson::String(text) => Attribute::Text(text),
        Bson::Int64(number) => Attribute::Number(number.into()),
        Bson::Int32(number) => Attribute::Number(number.into()),
        Bson::Double(number) => {
            Attribute::Number(serde_json::Number::from_f64(number).ok_or_else(|| unfit(&number))?)
        }
        Bson::Decimal128(number) => {
            Attribute::Number(number.to_string().parse::<u64>().map_err(|_| unfit(&number))?.into())
        }
        other => return Err(unfit(&other)),
    })
}

/// A product's stock.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct StockDocument {
    #[serde(rename = "_id")]
    product_id: Id,
    on_hand: u64,
    reserved: u64,
    version: u64,
    last_movement: u64,
}

impl From<StockLevel> for StockDocument {
    fn from(level: StockLevel) -> Self {
        let StockLevel { product_id, on_hand, reserved, version, last_movement } = level;
        Self { product_id: id(product_id.as_uuid()), on_hand, reserved, version, last_movement }
    }
}

impl From<StockDocument> for StockLevel {
    fn from(document: StockDocument) -> Self {
        let StockDocument { product_id, on_hand, reserved, version, last_movement } = document;
        Self { product_id: own(product_id), on_hand, reserved, version, last_movement }
    }
}

/// What a line of a stock ledger is found by. Documents compare member by member, so a product's lines stand together, in order.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct MovementName {
    pub(in crate::store::mongo) product_id: Id,
    pub(in crate::store::mongo) sequence: u64,
}

/// A line of a product's stock ledger.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct MovementDocument {
    #[serde(rename = "_id")]
    name: MovementName,
    kind: String,
    on_hand_delta: i64,
    reserved_delta: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    at: DateTime,
}

impl From<&Movement> for MovementDocument {
    fn from(movement: &Movement) -> Self {
        Self {
            name: MovementName {
                product_id: id(movement.product_id.as_uuid()),
                sequence: movement.sequence,
            },
            kind: movement.delta.kind.as_str().to_owned(),
            on_hand_delta: movement.delta.on_hand,
            reserved_delta: movement.delta.reserved,
            order_id: movement.order_id.map(|order| id(order.as_uuid())),
            reference: movement.reference.clone(),
            reason: movement.reason.clone(),
            at: date(movement.at),
        }
    }
}

impl TryFrom<MovementDocument> for Movement {
    type Error = Unfit;

    fn try_from(document: MovementDocument) -> Result<Self, Unfit> {
        let kind = MovementKind::from_word(&document.kind)
            .ok_or_else(|| Unfit(format!("{:?} moves no stock", document.kind)))?;
        Ok(Self {
            product_id: own(document.name.product_id),
            sequence: document.name.sequence,
            delta: Delta {
                kind,
                on_hand: document.on_hand_delta,
                reserved: document.reserved_delta,
            },
            order_id: document.order_id.map(own),
            reference: document.reference,
            reason: document.reason,
            at: time(document.at),
        })
    }
}
