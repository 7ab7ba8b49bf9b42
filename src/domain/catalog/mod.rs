//! The catalog: products, and how they are found.

pub mod product;
pub mod search;
