//! Souk.
pub mod config;
pub mod telemetry;
