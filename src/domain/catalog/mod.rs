//! The catalog: products and product search.

mod image_url;
pub mod product;
pub mod search;
pub mod trim;
