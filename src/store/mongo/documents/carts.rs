//! Carts.

use std::borrow::Cow;

use mongodb::bson::{DateTime, Uuid as BsonUuid};
use serde::{Deserialize, Serialize};

use super::{
    DocumentError, id_from_bson, id_to_bson, parse_money, timestamp_from_bson, timestamp_to_bson,
};
use crate::{
    domain::{
        cart::{Cart, CartLine, CartOwner, CartShipping},
        clock::Timestamp,
    },
    store::charges_codec::StoredShipping,
};

const HOUR_MILLIS: i64 = 60 * 60 * 1000;

/// A cart as stored in `carts`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct CartDocument<'a> {
    #[serde(rename = "_id")]
    owner_id: BsonUuid,
    guest: bool,
    version: u64,
    #[serde(borrow)]
    lines: Vec<CartLineDocument<'a>>,
    updated_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_into: Option<BsonUuid>,
    abandoned: bool,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    maintenance: Option<MaintenanceKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    codes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shipping: Option<StoredShipping>,
}

/// What maintenance finds a cart by, in the only index that carts have besides that of their ids:
/// MongoDB 6 reads the descriptions of all indexes of a collection for each of them, whenever a
/// transaction updates a document. Values of two types do not mix in an index.
#[derive(Serialize)]
#[serde(untagged)]
enum MaintenanceKey {
    /// The hour of the last change of a cart that can become idle. Truncated to the hour so that
    /// few changes of a cart move its index entry.
    IdleSince(DateTime),
    /// The guest whose cart has ended. The id contains the time of its creation.
    EndedOfGuest(BsonUuid),
}

impl MaintenanceKey {
    fn of(cart: &Cart) -> Option<Self> {
        let can_become_idle =
            !cart.lines.is_empty() && !cart.abandoned && cart.merged_into.is_none();
        if can_become_idle {
            return Some(Self::IdleSince(truncate_to_hour(cart.updated_at)));
        }
        cart.owner.is_guest.then(|| Self::EndedOfGuest(id_to_bson(cart.owner.id.as_uuid())))
    }
}

/// The start of the hour that contains `time`.
pub(in crate::store::mongo) fn truncate_to_hour(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millis().div_euclid(HOUR_MILLIS).saturating_mul(HOUR_MILLIS))
}

#[derive(Serialize, Deserialize)]
struct CartLineDocument<'a> {
    product_id: BsonUuid,
    #[serde(borrow)]
    name: Cow<'a, str>,
    quantity: u32,
    price: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

impl<'a> From<&'a Cart> for CartDocument<'a> {
    fn from(cart: &'a Cart) -> Self {
        let line = |line: &'a CartLine| CartLineDocument {
            product_id: id_to_bson(line.product_id.as_uuid()),
            name: Cow::Borrowed(&line.name),
            quantity: line.quantity,
            price: line.price.minor_units(),
            currency: Cow::Owned(line.price.currency().code().to_owned()),
        };
        Self {
            owner_id: id_to_bson(cart.owner.id.as_uuid()),
            guest: cart.owner.is_guest,
            version: cart.version,
            lines: cart.lines.iter().map(line).collect(),
            updated_at: timestamp_to_bson(cart.updated_at),
            merged_into: cart.merged_into.map(|user| id_to_bson(user.as_uuid())),
            abandoned: cart.abandoned,
            maintenance: MaintenanceKey::of(cart),
            codes: cart.codes.clone(),
            shipping: cart.shipping.as_ref().map(StoredShipping::from),
        }
    }
}

impl TryFrom<CartDocument<'_>> for Cart {
    type Error = DocumentError;

    fn try_from(document: CartDocument<'_>) -> Result<Self, DocumentError> {
        let line = |line: CartLineDocument<'_>| {
            let price = parse_money(line.price, &line.currency)?;
            Ok(CartLine {
                product_id: id_from_bson(line.product_id),
                name: line.name.into_owned(),
                quantity: line.quantity,
                price,
            })
        };
        Ok(Self {
            owner: CartOwner { id: id_from_bson(document.owner_id), is_guest: document.guest },
            version: document.version,
            lines: document.lines.into_iter().map(line).collect::<Result<_, DocumentError>>()?,
            updated_at: timestamp_from_bson(document.updated_at),
            merged_into: document.merged_into.map(id_from_bson),
            abandoned: document.abandoned,
            codes: document.codes,
            shipping: document
                .shipping
                .map(CartShipping::try_from)
                .transpose()
                .map_err(|error| DocumentError(error.to_string()))?,
        })
    }
}
