//! Resolves the hosts of endpoints, and refuses what is not public.
//!
//! The check is here, where the addresses are about to be used: a name that led elsewhere when it
//! was looked at before has no effect.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::webhook::address::is_public;

/// Finds the addresses of a name.
pub type HostLookup =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The look-up of the operating system.
#[must_use]
pub fn system_lookup() -> HostLookup {
    Arc::new(|host| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Why a name leads to no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The name has no address.
    #[error("the host cannot be resolved")]
    NotFound,
    /// The name has an address that is not public.
    #[error("the host has an address that is not public")]
    NotAllowed,
}

/// Resolves names for the HTTP client.
pub(super) struct GuardedResolver {
    pub(super) lookup: HostLookup,
    pub(super) allow_private: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = found.await.map_err(|_| ResolveError::NotFound)?;
            if addresses.is_empty() {
                return Err(ResolveError::NotFound.into());
            }
            if !allow_private && !addresses.iter().copied().all(is_public) {
                return Err(ResolveError::NotAllowed.into());
            }
            // The client replaces the port.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
