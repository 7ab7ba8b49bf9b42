//! The catalog: products and product search.

pub mod product;
pub mod search;
