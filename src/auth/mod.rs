//! Access tokens, refresh tokens and callers, independent of the transport.

pub mod caller;
pub mod event_ticket;
pub mod refresh_token;
pub mod token;
