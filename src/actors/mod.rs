//! Who decides: each actor orders what is asked of it, has the rules of `domain` decide, and answers once the store has made it
//! true.

pub mod accounts;
pub mod ask;
pub mod cart;
pub mod catalog;
pub(crate) mod commit_error;
pub mod orders;
