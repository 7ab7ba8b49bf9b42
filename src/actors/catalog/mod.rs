//! Commands on products and their stock. Reads use the
//! [catalog cache](crate::cache::catalog_cache).

mod actor;
mod import;
mod service;
mod stock;
mod stock_command;
#[cfg(test)]
mod tests;

pub use self::{
    actor::CatalogActor,
    service::{CatalogService, ImportLookup},
};
