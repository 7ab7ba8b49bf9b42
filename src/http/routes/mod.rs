//! The routes, a file or folder per resource.

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod cart;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod orders;
pub(crate) mod products;
pub(crate) mod stock;

use actix_web::web;

use super::openapi;

/// Registers every route. Routes with a fixed path come before those with an id in the same place.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    accounts::routes(config);
    cart::routes(config);
    import::routes(config);
    products::routes(config);
    stock::routes(config);
    orders::routes(config);
    events::routes(config);
    audit::routes(config);
    health::routes(config);
    config.service(openapi::browser());
}
