//! `inventory.*`: a product's stock, also as stock routes answer it.

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
    /// The product.
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    pub product_id: ProductId,
    /// How many units are in the warehouse.
    #[schema(examples(42))]
    pub on_hand: u64,
    /// How many of them are reserved for orders.
    #[schema(examples(2))]
    pub reserved: u64,
    /// How many can be bought: `on_hand` less `reserved`.
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

/// A stock level as clients read it: the body of stock answers and the data of stock events.
#[must_use]
pub fn stock_json(level: &StockLevel) -> Bytes {
    // A plain struct with string keys: serializing it cannot fail.
    serde_json::to_vec(&StockData::from(level)).unwrap_or_default().into()
}
