//! The rules, pure: no actor, no store, no clock of their own.
//!
//! Everything here is synchronous and deterministic: state and a command go in, a decision comes out. Actors order these
//! decisions and make them durable.

pub mod account;
pub mod audit;
pub mod cart;
pub mod catalog;
pub mod clock;
pub mod ids;
pub mod inventory;
pub mod money;
pub mod order;
pub mod validation;
