//! Carts.

use std::borrow::Cow;

use mongodb::bson::{DateTime, Uuid as Id};
use serde::{Deserialize, Serialize};

use super::{Unfit, date, id, money, own, time};
use crate::domain::{
    cart::{Cart, Line, Owner},
    clock::Timestamp,
};

const HOUR: i64 = 60 * 60 * 1000;

/// A cart.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct CartDocument<'a> {
    #[serde(rename = "_id")]
    owner_id: Id,
    guest: bool,
    version: u64,
    #[serde(borrow)]
    lines: Vec<LineDocument<'a>>,
    updated_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_into: Option<Id>,
    abandoned: bool,
    /// The hour since which it may have been left lying, in a cart that can be. By the hour, so that few changes move it in its index.
    #[serde(skip_serializing_if = "Option::is_none")]
    lying_since: Option<DateTime>,
}

/// The hour that `time` is in.
pub(in crate::store::mongo) fn hour(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millis().div_euclid(HOUR).saturating_mul(HOUR))
}

#[derive(Serialize, Deserialize)]
struct LineDocument<'a> {
    product_id: Id,
    #[serde(borrow)]
    name: Cow<'a, str>,
    quantity: u32,
    price: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

impl<'a> From<&'a Cart> for CartDocument<'a> {
    fn from(cart: &'a Cart) -> Self {
        let line = |line: &'a Line| LineDocument {
            product_id: id(line.product_id.as_uuid()),
            name: Cow::Borrowed(&line.name),
            quantity: line.quantity,
            price: line.price.minor(),
            currency: Cow::Owned(line.price.currency().code().to_owned()),
        };
        let can_lie = !cart.lines.is_empty() && !cart.abandoned && cart.merged_into.is_none();
        Self {
            owner_id: id(cart.owner.id.as_uuid()),
            guest: cart.owner.guest,
            version: cart.version,
            lines: cart.lines.iter().map(line).collect(),
            updated_at: date(cart.updated_at),
            merged_into: cart.merged_into.map(|user| id(user.as_uuid())),
            abandoned: cart.abandoned,
            lying_since: can_lie.then(|| hour(cart.updated_at)),
        }
    }
}

impl TryFrom<CartDocument<'_>> for Cart {
    type Error = Unfit;

    fn try_from(document: CartDocument<'_>) -> Result<Self, Unfit> {
        let line = |line: LineDocument<'_>| {
            let price = money(line.price, &line.currency)?;
            Ok(Line {
                product_id: own(line.product_id),
                name: line.name.into_owned(),
                quantity: line.quantity,
                price,
            })
        };
        Ok(Self {
            owner: Owner { id: own(document.owner_id), guest: document.guest },
            version: document.version,
            lines: document.lines.into_iter().map(line).collect::<Result<_, Unfit>>()?,
            updated_at: time(document.updated_at),
            merged_into: document.merged_into.map(own),
            abandoned: document.abandoned,
        })
    }
}
