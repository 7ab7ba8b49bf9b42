//! The data of `inventory.*` events, which is also the response of the stock routes.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

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

/// Serializes a stock level for stock responses and stock events.
#[must_use]
pub fn stock_json(level: &StockLevel) -> Bytes {
    // A plain struct with string keys: serializing it cannot fail.
    serde_json::to_vec(&StockData::from(level)).unwrap_or_default().into()
}
