//! The string enums of the OpenAPI document. Most are generated from a list in the code, so that
//! the two cannot differ. `tests/api` checks the others against a running server.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    domain::{account, audit, catalog::search, inventory},
    error,
    events::schema::{names_of, string_enum_schema},
};

/// Defines schema types for string enums. The doc comment becomes the description.
macro_rules! string_enums {
    ($($(#[doc = $line:literal])+ $name:ident = $names:expr;)+) => {$(
        $(#[doc = $line])+
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                string_enum_schema(&$names, concat!($($line, "\n"),+))
            }
        }

        impl ToSchema for $name {}
    )+};
}

string_enums! {
    /// An error code. The list is closed, so a program can rely on it.
    ErrorCode = names_of(error::ErrorCode::ALL, error::ErrorCode::as_str);
    /// What the bearer of a token may do. A `guest` has a cart and no account.
    Role = names_of(account::Role::ALL, account::Role::as_str);
    /// Why a token is not valid.
    TokenFault = names_of(
        &[
            error::ErrorCode::Unauthenticated,
            error::ErrorCode::TokenExpired,
            error::ErrorCode::AccountBlocked,
        ],
        error::ErrorCode::as_str,
    );
    /// What a stock movement was: `received` raises `on_hand`, `adjusted` corrects it, `reserved`
    /// and `released` change `reserved`, `shipped` lowers
    /// both, and `returned` raises `on_hand` when shipped units come back.
    MovementKind = names_of(inventory::MovementKind::ALL, inventory::MovementKind::as_str);
    /// What an audit found.
    FindingKind = names_of(audit::FindingKind::ALL, audit::FindingKind::as_str);
    /// The order of a search. `-price` starts with the highest price.
    ProductSort = names_of(search::ProductSort::ALL, search::ProductSort::as_str);
    /// Whether a node can do its work. A `degraded` node can, but publishes its events later.
    NodeReadiness = ["ready", "degraded", "not_ready"];
    /// Whether a server that the node needs can be reached and takes changes or messages.
    Availability = ["ok", "unavailable"];
    /// What a node is doing.
    NodeState = ["running", "starting", "stopping"];
    /// The process answers.
    AliveWord = ["alive"];
}
