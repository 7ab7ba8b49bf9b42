//! The shipments of orders.

use std::borrow::Cow;

use mongodb::bson::{DateTime, Uuid as BsonUuid};
use serde::{Deserialize, Serialize};

use super::{id_from_bson, id_to_bson, timestamp_from_bson, timestamp_to_bson};
use crate::domain::order::{OrderUnits, Shipment, ShipmentDetails};

/// A shipment as stored in its order.
#[derive(Serialize, Deserialize)]
pub(super) struct ShipmentDocument<'a> {
    id: BsonUuid,
    items: Vec<UnitsDocument>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    carrier: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    tracking: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reference: Option<Cow<'a, str>>,
    at: DateTime,
}

#[derive(Serialize, Deserialize)]
struct UnitsDocument {
    product_id: BsonUuid,
    quantity: u32,
}

impl<'a> From<&'a Shipment> for ShipmentDocument<'a> {
    fn from(shipment: &'a Shipment) -> Self {
        let units = |units: &OrderUnits| UnitsDocument {
            product_id: id_to_bson(units.product_id.as_uuid()),
            quantity: units.quantity,
        };
        let ShipmentDetails { carrier, tracking, reference } = &shipment.details;
        Self {
            id: id_to_bson(shipment.id.as_uuid()),
            items: shipment.items.iter().map(units).collect(),
            carrier: carrier.as_deref().map(Cow::Borrowed),
            tracking: tracking.as_deref().map(Cow::Borrowed),
            reference: reference.as_deref().map(Cow::Borrowed),
            at: timestamp_to_bson(shipment.shipped_at),
        }
    }
}

impl From<ShipmentDocument<'_>> for Shipment {
    fn from(document: ShipmentDocument<'_>) -> Self {
        let units = |units: UnitsDocument| OrderUnits {
            product_id: id_from_bson(units.product_id),
            quantity: units.quantity,
        };
        Self {
            id: id_from_bson(document.id),
            items: document.items.into_iter().map(units).collect(),
            details: ShipmentDetails {
                carrier: document.carrier.map(Cow::into_owned),
                tracking: document.tracking.map(Cow::into_owned),
                reference: document.reference.map(Cow::into_owned),
            },
            shipped_at: timestamp_from_bson(document.at),
        }
    }
}
