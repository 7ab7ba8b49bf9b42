//! Identifiers: UUIDv7 (RFC 9562), one type per kind of entity.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Creates an identifier that sorts after every earlier one of this machine.
            #[must_use]
            #[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
            #[expect(clippy::new_without_default, reason = "each default would differ")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The identifier as a plain UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// A user with an account, or a guest. Either can own a cart.
    UserId
}
id! {
    /// A shipment of units of an order.
    ShipmentId
}
id! {
    /// A refund of a part of a payment.
    RefundId
}
id! {
    /// A product of the catalog.
    ProductId
}
id! {
    /// A session, from login to logout or expiry.
    SessionId
}
id! {
    /// An access token, its `jti` claim.
    TokenId
}
id! {
    /// An order. A stock movement also names its order with it.
    OrderId
}
id! {
    /// An API key.
    ApiKeyId
}
id! {
    /// An action: the record of a change.
    ActionId
}
id! {
    /// A mail.
    MailId
}
id! {
    /// An address that a customer keeps.
    AddressId
}
id! {
    /// An event. It stays the same if the event is published again.
    EventId
}

/// The creation time, which UUIDv7 keeps in its first 48 bits (RFC 9562, section 5.7).
fn created_at(uuid: Uuid) -> Timestamp {
    Timestamp::from_millis(i64::try_from(uuid.as_u128() >> 80).unwrap_or(0))
}

/// The lowest UUIDv7 of `time`.
fn earliest_at(time: Timestamp) -> Uuid {
    Uuid::from_u128(u128::try_from(time.as_millis()).unwrap_or(0) << 80)
}

impl UserId {
    /// When this identifier was created.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        created_at(self.0)
    }

    /// The lowest identifier of `time`, the end of a search for earlier ones.
    #[must_use]
    pub fn earliest_at(time: Timestamp) -> Self {
        Self(earliest_at(time))
    }
}

impl OrderId {
    /// The first millisecond after this identifier was created.
    #[must_use]
    pub fn next_millisecond(self) -> Timestamp {
        Timestamp::from_millis(created_at(self.0).as_millis().saturating_add(1))
    }
}

impl SessionId {
    /// When this identifier was created.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        created_at(self.0)
    }
}

impl EventId {
    /// When this identifier was created.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        created_at(self.0)
    }

    /// The lowest identifier of `time`, the start of a search for later ones.
    #[must_use]
    pub fn earliest_at(time: Timestamp) -> Self {
        Self(earliest_at(time))
    }
}
id! {
    /// A pricing rule: a shipping method or a tax rate.
    RuleId
}
id! {
    /// A promotion.
    PromotionId
}
id! {
    /// A shipping method.
    ShippingMethodId
}
id! {
    /// A tax rate.
    TaxRateId
}
id! {
    /// A webhook endpoint.
    WebhookId
}
id! {
    /// An attempt to deliver an event to an endpoint.
    AttemptId
}
