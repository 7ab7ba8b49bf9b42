//! Access tokens, refresh tokens and callers, independent of the transport.

pub mod caller;
pub mod refresh_token;
pub mod token;
