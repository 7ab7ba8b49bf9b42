//! Admission control for every transport: which connections, requests and streams a node takes.
//!
//! The limits know addresses and callers, and nothing of how a request arrived.

mod client_address;
pub mod connection_limiter;
pub mod feed_limiter;
mod hourly_counts;
mod keyed_permits;
pub mod rate_limits;
pub mod stop_phase;
pub(crate) mod write_stall;

use std::net::IpAddr;

pub(crate) use self::client_address::find_client_address;
use self::{
    connection_limiter::ConnectionLimiter,
    rate_limits::{RateLimited, RateLimits},
};
use crate::auth::caller::Caller;

/// Counts a request of `caller`, who is authenticated, from `address`.
///
/// # Errors
/// The caller has sent too many.
pub(crate) fn admit_caller(
    connections: &ConnectionLimiter,
    rate_limits: &RateLimits,
    caller: &Caller,
    address: IpAddr,
) -> Result<(), RateLimited> {
    if !caller.is_guest() {
        connections.record_account(address);
    }
    rate_limits.check_user(caller.user_id)
}
