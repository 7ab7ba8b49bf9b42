//! The HTTP routes, one module per resource.

pub(crate) mod accounts;
pub(crate) mod actions;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod cart;
mod docs;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod metrics;
pub(crate) mod orders;
pub(crate) mod payments;
pub(crate) mod products;
pub(crate) mod rules;
pub(crate) mod stock;
pub(crate) mod users;
pub(crate) mod webhooks;

use actix_web::web;

/// Registers all routes, those for operators only with `operations`. A fixed path must precede a
/// path that has an id in the same segment.
pub(super) fn configure_all_routes(config: &mut web::ServiceConfig, operations: bool) {
    accounts::configure_routes(config);
    cart::configure_routes(config);
    import::configure_routes(config);
    products::configure_routes(config);
    stock::configure_routes(config);
    orders::configure_routes(config);
    payments::configure_routes(config);
    events::configure_routes(config);
    users::configure_routes(config);
    api_keys::configure_routes(config);
    actions::configure_routes(config);
    webhooks::configure_routes(config);
    rules::configure_routes(config);
    audit::configure_routes(config);
    if operations {
        health::configure_operations(config);
    }
    docs::configure_routes(config);
}
