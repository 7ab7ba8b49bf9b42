//! What a route takes from a request: the caller, the target, the query, the body and the headers.

pub(super) mod access;
pub(super) mod body;
pub(super) mod deadline;
pub(super) mod extract;
pub(super) mod headers;
pub(super) mod query;
pub(super) mod read_limiter;
pub(super) mod scopes;
pub(super) mod target;
