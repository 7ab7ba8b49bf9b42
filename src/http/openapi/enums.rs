//! Closed sets of words in the document. Where the code has a list of them, the set is made from
//! that list, so that the two cannot differ. `tests/api` asks a running shop about the others.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    domain::{account, audit, inventory},
    error,
    events::schema::{word_set, words_of},
};

/// Defines a type that stands for a set of words, under its own name and with its own comment.
macro_rules! string_enums {
    ($($(#[doc = $line:literal])+ $name:ident = $words:expr;)+) => {$(
        $(#[doc = $line])+
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                word_set(&$words, concat!($($line, "\n"),+))
            }
        }

        impl ToSchema for $name {}
    )+};
}

string_enums! {
    /// An error code. The list is closed, so a program can rely on it.
    ErrorCode = words_of(error::ErrorCode::ALL, error::ErrorCode::as_str);
    /// What the bearer of a token may do. A `guest` has a cart and no account.
    Role = words_of(account::Role::ALL, account::Role::as_str);
    /// Why a token is not valid.
    TokenFault = words_of(
        &[error::ErrorCode::Unauthenticated, error::ErrorCode::TokenExpired],
        error::ErrorCode::as_str,
    );
    /// What a stock movement was: `received` raises `on_hand`, `adjusted` corrects it, `reserved`
    /// and `released` change `reserved`, and `shipped` lowers both.
    MovementKind = words_of(inventory::MovementKind::ALL, inventory::MovementKind::as_str);
    /// What an audit found.
    FindingKind = words_of(audit::FindingKind::ALL, audit::FindingKind::as_str);
    /// The order of a search. `-price` starts with the highest price.
    ProductSort = ["relevance", "price", "-price", "name", "newest"];
    /// Whether a node can do its work. A `degraded` node can, but publishes its events later.
    NodeReadiness = ["ready", "degraded", "not_ready"];
    /// Whether a server that the node needs can be reached.
    Availability = ["ok", "unavailable"];
    /// What a node is doing.
    NodeState = ["running", "starting", "stopping"];
    /// The process answers.
    AliveWord = ["alive"];
}
