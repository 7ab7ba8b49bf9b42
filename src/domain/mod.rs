//! The business rules, without actors, stores, or a clock.
//!
//! Every function is synchronous and deterministic: it takes state and a command, and returns a
//! decision. Actors serialize these decisions and make them durable.

pub mod account;
pub mod action;
pub mod audit;
pub mod cart;
pub mod catalog;
pub mod clock;
pub mod excerpt;
pub mod ids;
pub mod inventory;
pub mod mail;
pub mod money;
pub mod order;
pub mod payment;
pub mod pricing;
pub mod validation;
pub mod webhook;
