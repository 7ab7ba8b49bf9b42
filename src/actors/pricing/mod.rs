//! The pricing rules: promotions, shipping methods and tax rates.

mod actor;
mod service;

pub use self::{
    actor::PricingActor,
    service::{PricingService, rule_etag, rule_not_found},
};
