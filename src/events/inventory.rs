//! The data of `inventory.*` events, which is also the response of the stock routes.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{OutboxEvent, cloud_event::CloudEvent};
use crate::domain::{ids::ProductId, inventory::StockLevel};

/// The stock of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[schemars(rename = "Stock")]
#[schema(as = StockResponse)]
pub struct StockData {
    /// The product that the stock belongs to.
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    pub product_id: ProductId,
    /// The units in the warehouse.
    #[schema(examples(42))]
    pub on_hand: u64,
    /// The units on hand that are reserved for orders.
    #[schema(examples(2))]
    pub reserved: u64,
    /// The units that can be bought: `on_hand` minus `reserved`.
    #[schema(examples(40))]
    pub available: u64,
    /// The version of the stock. It counts changes.
    #[schema(examples(5))]
    pub version: u64,
}

impl From<&StockLevel> for StockData {
    fn from(level: &StockLevel) -> Self {
        Self {
            product_id: level.product_id,
            on_hand: level.on_hand,
            reserved: level.reserved,
            available: level.available(),
            version: level.version,
        }
    }
}

/// What anyone may know of a product's stock. How much is on hand and reserved would tell how much
/// is sold.
#[derive(Debug, Serialize)]
struct PublicStockData {
    product_id: ProductId,
    available: u64,
    version: u64,
}

/// The CloudEvent of a change of stock with what anyone may know. Its data is empty if the event
/// cannot be read, which is logged.
#[must_use]
pub fn public_stock_event(event: &OutboxEvent) -> Bytes {
    match CloudEvent::<StockData>::from_json(&event.body) {
        Ok(full) => full
            .map_data(|stock| PublicStockData {
                product_id: stock.product_id,
                available: stock.available,
                version: stock.version,
            })
            .to_json(),
        Err(error) => {
            tracing::error!(id = %event.id, %error, "failed to read an event of stock");
            Bytes::from_static(b"{}")
        }
    }
}

/// Serializes a stock level for stock responses and stock events.
#[must_use]
pub fn stock_json(level: &StockLevel) -> Bytes {
    // A plain struct with string keys: serializing it cannot fail.
    serde_json::to_vec(&StockData::from(level)).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::clock::Timestamp,
        events::{Audience, DomainEvent, EventEnvelope, OutboxPosition},
    };

    #[test]
    fn public_event_tells_only_what_can_be_bought() {
        let level = StockLevel {
            on_hand: 9,
            reserved: 2,
            version: 4,
            ..StockLevel::empty(ProductId::new())
        };
        let payload = DomainEvent::StockChanged(level);
        let kind = payload.event_type().to_string();
        let envelope = EventEnvelope::new(payload, Timestamp::from_millis(0), None);
        let event = OutboxEvent {
            position: OutboxPosition { partition: 0, offset: 1 },
            id: envelope.id,
            kind,
            audience: Audience::Everyone,
            body: envelope.to_json(),
        };
        let mut full: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        let public: serde_json::Value =
            serde_json::from_slice(&public_stock_event(&event)).unwrap();
        let data =
            serde_json::json!({"product_id": level.product_id, "available": 7, "version": 4});
        assert_eq!(public["data"], data);
        full["data"] = data;
        assert_eq!(public, full, "everything else is the same");
    }
}
