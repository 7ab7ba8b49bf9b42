//! The types of events, and their families.

/// The first word of an event's type. A subject's sequences have no gaps within a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::VariantArray)]
pub enum EventFamily {
    /// Products; the subject is the product.
    Catalog,
    /// Stock; the subject is the product.
    Inventory,
    /// Carts; the subject is the user or guest.
    Cart,
    /// Orders; the subject is the order.
    Order,
    /// Accounts and sessions, whose subject is the user; API keys, whose subject is the key.
    Auth,
    /// Webhooks; the subject is the endpoint.
    Webhook,
    /// Pricing rules; the subject is the rule.
    Pricing,
}

macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $family:ident;)+) => {
        /// The type of an event. The list is closed: consumers bind queues to these names.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::EnumString,
            strum::IntoStaticStr, strum::VariantArray,
        )]
        pub enum EventType {
            $($(#[$doc])* #[strum(serialize = $word)] $name,)+
        }

        impl EventType {
            /// The family of the type.
            #[must_use]
            pub const fn family(self) -> EventFamily {
                match self { $(Self::$name => EventFamily::$family,)+ }
            }
        }
    };
}

event_types! {
    /// A product was created.
    ProductCreated = "catalog.product.created", Catalog;
    /// A product's details changed.
    ProductUpdated = "catalog.product.updated", Catalog;
    /// A product was deleted.
    ProductDeleted = "catalog.product.deleted", Catalog;
    /// A product's stock changed.
    StockChanged = "inventory.stock.changed", Inventory;
    /// The available stock of a product fell to the low-stock threshold.
    StockLow = "inventory.stock.low", Inventory;
    /// A product is out of stock.
    StockDepleted = "inventory.stock.depleted", Inventory;
    /// Units of a product were added to a cart.
    CartItemAdded = "cart.item.added", Cart;
    /// The quantity of a line in a cart changed.
    CartItemUpdated = "cart.item.updated", Cart;
    /// A line was removed from a cart.
    CartItemRemoved = "cart.item.removed", Cart;
    /// All lines were removed from a cart.
    CartCleared = "cart.cleared", Cart;
    /// A cart was checked out into an order.
    CartCheckedOut = "cart.checked_out", Cart;
    /// A guest's cart was merged into a user's cart.
    CartMerged = "cart.merged", Cart;
    /// A guest's cart was closed by a merge.
    CartClosed = "cart.closed", Cart;
    /// A cart was not changed for a long time.
    CartAbandoned = "cart.abandoned", Cart;
    /// A code was added to a cart or removed from it.
    CartCodesChanged = "cart.codes.changed", Cart;
    /// The address or the shipping method of a cart was changed.
    CartShippingChanged = "cart.shipping.changed", Cart;
    /// An order was placed.
    OrderPlaced = "order.placed", Order;
    /// An order was paid.
    OrderPaid = "order.paid", Order;
    /// An order was cancelled.
    OrderCancelled = "order.cancelled", Order;
    /// An order was not paid in time.
    OrderExpired = "order.expired", Order;
    /// The payment of an order changed otherwise: begun, declined, or unclear, for example.
    OrderPaymentChanged = "order.payment_changed", Order;
    /// An order of a guest moved to the guest's account.
    OrderOwnerChanged = "order.owner_changed", Order;
    /// Money of an order's payment went back.
    OrderRefunded = "order.refunded", Order;
    /// Some units of an order were shipped.
    OrderPartiallyFulfilled = "order.partially_fulfilled", Order;
    /// An order was shipped completely.
    OrderFulfilled = "order.fulfilled", Order;
    /// An account was registered.
    UserRegistered = "auth.user.registered", Auth;
    /// The role, the scopes or the block of an account changed.
    RightsChanged = "auth.rights.changed", Auth;
    /// An API key was created.
    ApiKeyCreated = "auth.api_key.created", Auth;
    /// An API key was deleted.
    ApiKeyDeleted = "auth.api_key.deleted", Auth;
    /// An account was deleted.
    UserDeleted = "auth.user.deleted", Auth;
    /// A session was revoked.
    SessionRevoked = "auth.session.revoked", Auth;
    /// A webhook endpoint was paused.
    WebhookPaused = "webhook.paused", Webhook;
    /// A promotion was created.
    PromotionCreated = "pricing.promotion.created", Pricing;
    /// A promotion changed.
    PromotionUpdated = "pricing.promotion.updated", Pricing;
    /// A promotion was deleted.
    PromotionDeleted = "pricing.promotion.deleted", Pricing;
    /// A shipping method was created.
    ShippingMethodCreated = "pricing.shipping_method.created", Pricing;
    /// A shipping method changed.
    ShippingMethodUpdated = "pricing.shipping_method.updated", Pricing;
    /// A shipping method was deleted.
    ShippingMethodDeleted = "pricing.shipping_method.deleted", Pricing;
    /// A tax rate was created.
    TaxRateCreated = "pricing.tax_rate.created", Pricing;
    /// A tax rate changed.
    TaxRateUpdated = "pricing.tax_rate.updated", Pricing;
    /// A tax rate was deleted.
    TaxRateDeleted = "pricing.tax_rate.deleted", Pricing;
}

impl EventType {
    /// The name of the type, which is also the routing key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
