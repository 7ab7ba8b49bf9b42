//! Products, stock levels and stock movements.

use mongodb::bson::{Bson, DateTime, Decimal128, Uuid as BsonUuid};
use serde::{Deserialize, Serialize};

use super::{
    ActorDocument, DocumentError, id_from_bson, id_to_bson, parse_money, timestamp_from_bson,
    timestamp_to_bson,
};
use crate::domain::{
    catalog::product::{AttributeValue, Product, ProductDetails},
    inventory::{MovementKind, StockDelta, StockLevel, StockMovement},
};

/// A product as stored in `products`. Attributes are a list because an attribute name can contain
/// characters that a field name cannot.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct ProductDocument {
    #[serde(rename = "_id")]
    product_id: BsonUuid,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_grams: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tax_class: Option<String>,
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
    type Error = DocumentError;

    fn try_from(product: &Product) -> Result<Self, DocumentError> {
        let details = product.details.clone();
        let attribute =
            |(name, value)| Ok(AttributeDocument { name, value: attribute_to_bson(value)? });
        Ok(Self {
            product_id: id_to_bson(product.id.as_uuid()),
            sku: details.sku,
            name: details.name,
            description: details.description,
            price: details.price.minor_units(),
            currency: details.price.currency().code().to_owned(),
            category: details.category,
            tags: details.tags,
            image_url: details.image_url,
            attributes: details
                .attributes
                .into_iter()
                .map(attribute)
                .collect::<Result<_, DocumentError>>()?,
            purchase_limit: details.purchase_limit,
            weight_grams: details.weight_grams,
            tax_class: details.tax_class,
            version: product.version,
            created_at: timestamp_to_bson(product.created_at),
            updated_at: timestamp_to_bson(product.updated_at),
            deleted: product.deleted,
        })
    }
}

impl TryFrom<ProductDocument> for Product {
    type Error = DocumentError;

    fn try_from(document: ProductDocument) -> Result<Self, DocumentError> {
        let attribute = |attribute: AttributeDocument| {
            Ok((attribute.name, attribute_from_bson(attribute.value)?))
        };
        let details = ProductDetails {
            sku: document.sku,
            name: document.name,
            description: document.description,
            price: parse_money(document.price, &document.currency)?,
            category: document.category,
            tags: document.tags,
            image_url: document.image_url,
            attributes: document
                .attributes
                .into_iter()
                .map(attribute)
                .collect::<Result<_, DocumentError>>()?,
            purchase_limit: document.purchase_limit,
            weight_grams: document.weight_grams,
            tax_class: document.tax_class,
        };
        Ok(Self {
            id: id_from_bson(document.product_id),
            details,
            version: document.version,
            created_at: timestamp_from_bson(document.created_at),
            updated_at: timestamp_from_bson(document.updated_at),
            deleted: document.deleted,
        })
    }
}

fn attribute_to_bson(attribute: AttributeValue) -> Result<Bson, DocumentError> {
    Ok(match attribute {
        AttributeValue::Bool(flag) => Bson::Boolean(flag),
        AttributeValue::Text(text) => Bson::String(text),
        AttributeValue::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64())
        {
            (Some(signed), ..) => Bson::Int64(signed),
            (None, Some(large), _) => Bson::Decimal128(large.to_string().parse::<Decimal128>()?),
            (None, None, Some(float)) => Bson::Double(float),
            (None, None, None) => {
                return Err(DocumentError(format!("the number {number} cannot be stored")));
            }
        },
    })
}

fn attribute_from_bson(value: Bson) -> Result<AttributeValue, DocumentError> {
    let invalid = |value: &dyn std::fmt::Display| {
        DocumentError(format!("{value} is not a valid attribute value"))
    };
    Ok(match value {
        Bson::Boolean(flag) => AttributeValue::Bool(flag),
        Bson::String(text) => AttributeValue::Text(text),
        Bson::Int64(number) => AttributeValue::Number(number.into()),
        Bson::Int32(number) => AttributeValue::Number(number.into()),
        Bson::Double(number) => AttributeValue::Number(
            serde_json::Number::from_f64(number).ok_or_else(|| invalid(&number))?,
        ),
        Bson::Decimal128(number) => AttributeValue::Number(
            number.to_string().parse::<u64>().map_err(|_| invalid(&number))?.into(),
        ),
        other => return Err(invalid(&other)),
    })
}

/// A product's stock level as stored in `stock`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct StockDocument {
    #[serde(rename = "_id")]
    product_id: BsonUuid,
    on_hand: u64,
    reserved: u64,
    version: u64,
    last_movement: u64,
}

impl From<StockLevel> for StockDocument {
    fn from(level: StockLevel) -> Self {
        let StockLevel { product_id, on_hand, reserved, version, last_movement } = level;
        Self {
            product_id: id_to_bson(product_id.as_uuid()),
            on_hand,
            reserved,
            version,
            last_movement,
        }
    }
}

impl From<StockDocument> for StockLevel {
    fn from(document: StockDocument) -> Self {
        let StockDocument { product_id, on_hand, reserved, version, last_movement } = document;
        Self { product_id: id_from_bson(product_id), on_hand, reserved, version, last_movement }
    }
}

/// The `_id` of a stock movement. The server compares embedded documents field by field, so a
/// product's movements are adjacent and in order.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct MovementId {
    pub(in crate::store::mongo) product_id: BsonUuid,
    pub(in crate::store::mongo) sequence: u64,
}

/// A stock movement as stored in `movements`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct MovementDocument {
    #[serde(rename = "_id")]
    id: MovementId,
    kind: String,
    on_hand_delta: i64,
    reserved_delta: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<BsonUuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<ActorDocument>,
    at: DateTime,
}

impl From<&StockMovement> for MovementDocument {
    fn from(movement: &StockMovement) -> Self {
        Self {
            id: MovementId {
                product_id: id_to_bson(movement.product_id.as_uuid()),
                sequence: movement.sequence,
            },
            kind: movement.delta.kind.as_str().to_owned(),
            on_hand_delta: movement.delta.on_hand,
            reserved_delta: movement.delta.reserved,
            order_id: movement.order_id.map(|order| id_to_bson(order.as_uuid())),
            reference: movement.reference.clone(),
            reason: movement.reason.clone(),
            actor: movement.actor.map(Into::into),
            at: timestamp_to_bson(movement.occurred_at),
        }
    }
}

impl TryFrom<MovementDocument> for StockMovement {
    type Error = DocumentError;

    fn try_from(document: MovementDocument) -> Result<Self, DocumentError> {
        let kind = document.kind.parse::<MovementKind>().map_err(|_| {
            DocumentError(format!("{:?} is not a valid movement kind", document.kind))
        })?;
        Ok(Self {
            product_id: id_from_bson(document.id.product_id),
            sequence: document.id.sequence,
            delta: StockDelta {
                kind,
                on_hand: document.on_hand_delta,
                reserved: document.reserved_delta,
            },
            order_id: document.order_id.map(id_from_bson),
            reference: document.reference,
            reason: document.reason,
            actor: document.actor.map(TryInto::try_into).transpose()?,
            occurred_at: timestamp_from_bson(document.at),
        })
    }
}
