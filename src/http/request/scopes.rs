//! The scopes that routes ask for, as types: `Staff<StockScope>`.

use crate::domain::account::Scope;

/// What a route needs the right to do.
pub(crate) trait Scopes {
    /// All of these.
    const SCOPES: &'static [Scope];
}

/// Defines types that name scopes.
macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = [$($scope:ident),+];)+) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Scopes for $name {
            const SCOPES: &'static [Scope] = &[$(Scope::$scope),+];
        }
    )+};
}

scopes! {
    /// Change products.
    CatalogScope = [Catalog];
    /// Import products with their stock.
    ImportScopes = [Catalog, Stock];
    /// Read stock.
    StockReadScope = [StockRead];
    /// Change stock.
    StockScope = [Stock];
    /// Read everybody's orders.
    OrdersReadScope = [OrdersRead];
    /// Change everybody's orders.
    OrdersScope = [Orders];
    /// Read promotions.
    PromotionsReadScope = [PromotionsRead];
    /// Change promotions.
    PromotionsScope = [Promotions];
    /// Read shipping methods.
    ShippingReadScope = [ShippingRead];
    /// Change shipping methods.
    ShippingScope = [Shipping];
    /// Read tax rates.
    TaxesReadScope = [TaxesRead];
    /// Change tax rates.
    TaxesScope = [Taxes];
    /// Read accounts.
    CustomersReadScope = [CustomersRead];
    /// Change webhooks.
    WebhooksScope = [Webhooks];
    /// Read webhooks.
    WebhooksReadScope = [WebhooksRead];
}
