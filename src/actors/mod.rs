//! The actors: each orders what is asked of it, has the rules of `domain` decide, and answers once the store has made it true.

pub mod accounts;
pub(crate) mod failure;
