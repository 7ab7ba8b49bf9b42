//! HTTP: status codes, JSON and tokens.

pub mod token;
