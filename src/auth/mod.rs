//! Access tokens, refresh tokens and callers, independent of the transport.

pub mod caller;
mod derived_mac;
pub mod event_ticket;
pub mod login_keys;
pub mod mail_token;
pub mod refresh_token;
pub mod token;
pub mod webhook_secret;

pub use self::derived_mac::derive_cluster_key;
