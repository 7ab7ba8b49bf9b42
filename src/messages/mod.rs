//! What may be asked of each actor, with the replies; a file an actor. `events` are the public events.

pub mod accounts;
pub mod cart;
pub mod catalog;
pub mod change;
pub mod orders;
