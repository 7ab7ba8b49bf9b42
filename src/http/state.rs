//! What the routes work with, and what a request brings along: its caller and its time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use actix::Addr;
use actix_web::{HttpMessage, HttpRequest, http::header, web};
use ipnet::IpNet;
use tokio::sync::watch;

use super::{
    middleware::{
        metrics::Metrics,
        rate_limit::{RateLimited, RateLimits},
    },
    request::{deadline::Deadline, read_limiter::ReadLimiter},
};
use crate::{
    actors::{
        accounts::AccountActor, cart::CartRegistry, catalog::CatalogActor, orders::OrderActor,
    },
    auth::caller::{Authenticator, Caller},
    broker::BrokerStatus,
    cache::{catalog_snapshot::CatalogSnapshot, follower::Follower},
    domain::{clock::Clock, money::Currency},
    error::{Error, ErrorCode},
    messages::change::Ticket,
    outbox::feed::Feed,
    store::{Store, StoreUnavailable, writer::CommitWriter},
};

/// Everything a route may need.
pub struct AppState {
    /// Carts.
    pub carts: Arc<CartRegistry>,
    /// What becomes of orders.
    pub orders: Addr<OrderActor>,
    /// Changes to the catalog.
    pub catalog: Addr<CatalogActor>,
    /// Reads of the catalog.
    pub catalog_snapshot: Arc<CatalogSnapshot>,
    /// Accounts and sessions.
    pub accounts: Addr<AccountActor>,
    /// Finds the caller behind an access token.
    pub authenticator: Authenticator,
    /// Live events.
    pub feed: Arc<Feed>,
    /// News of other nodes, when there are any.
    pub follower: Option<Arc<Follower>>,
    /// How it stands with the broker, when there is one.
    pub broker_status: Option<Arc<BrokerStatus>>,
    /// Plain reads: movements, past events.
    pub store: Arc<dyn Store>,
    /// How many of those there may be at a time.
    pub read_limiter: ReadLimiter,
    /// For its figures.
    pub writer: CommitWriter,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Settings of the HTTP side.
    pub options: HttpOptions,
    /// Who has asked how often.
    pub rate_limits: RateLimits,
    /// Figures for Prometheus.
    pub metrics: Metrics,
    /// Becomes true when the node begins to stop.
    pub shutdown: watch::Receiver<bool>,
}

/// Settings of the HTTP side.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// The shop's currency.
    pub currency: Currency,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// Longest time for a request.
    pub request_timeout: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether anyone may read the catalog.
    pub public_read: bool,
    /// Failed logins a minute on one account or from one address; told to whoever had too many.
    pub login_limit: u32,
}

impl AppState {
    /// The services of the application that `request` came to.
    ///
    /// # Errors
    /// `internal_error` when the application was put together without them.
    pub fn from_request(request: &HttpRequest) -> Result<&Arc<Self>, Error> {
        request.app_data::<web::Data<Arc<Self>>>().map(|data| &***data).ok_or_else(Error::internal)
    }

    /// When a request that comes now has to be answered.
    #[must_use]
    pub(super) fn new_deadline(&self) -> Deadline {
        Deadline::from_timeout(self.options.request_timeout)
    }

    fn remaining_time(&self, request: &HttpRequest) -> Duration {
        Deadline::remaining(request).unwrap_or(self.options.request_timeout)
    }

    /// Time for what is left to do for `request`.
    #[must_use]
    pub fn request_ticket(&self, request: &HttpRequest) -> Ticket {
        Ticket::new(self.remaining_time(request))
    }

    /// Who asks.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`, or `rate_limited`.
    pub fn authenticate(&self, request: &HttpRequest) -> Result<Caller, Error> {
        let token = bearer_token(request).ok_or_else(|| {
            Error::new(
                ErrorCode::Unauthenticated,
                "Send the access token in the header: Authorization: Bearer <token>.",
            )
        })?;
        let caller = self.authenticator.authenticate(token)?;
        self.rate_limits.check_user(caller.user_id).map_err(|limited| {
            let error = Error::from(&limited);
            request.extensions_mut().insert(limited);
            error
        })?;
        Ok(caller)
    }

    /// Has the headers of a rate limit sent along when `error` says that too many logins have failed.
    pub fn with_login_limit_headers(&self, request: &HttpRequest, error: Error) -> Error {
        if let (ErrorCode::RateLimited, Some(wait)) = (error.code, error.retry_after) {
            let policy = format!("\"login\";q={};w=60", self.options.login_limit);
            let state = format!("\"login\";r=0;t={wait}");
            request.extensions_mut().insert(RateLimited { policy, state, retry_after_secs: wait });
        }
        error
    }

    /// Makes sure that what this node knows of the others is not too old for a plain answer: tokens are checked against it, and carts,
    /// products and stock are shown as it tells.
    ///
    /// # Errors
    /// The store does not answer, and has to.
    pub async fn ensure_fresh(&self, request: &HttpRequest) -> Result<(), Error> {
        match &self.follower {
            Some(follower) if !follower.is_current() => {
                self.catch_up_follower(follower, request).await
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that what is read next is as new as the caller asks: with `Cache-Control: no-cache`, at least as new as every
    /// change acknowledged by any node before. What this node acknowledged is known here anyway.
    ///
    /// # Errors
    /// The store does not answer, and has to.
    pub async fn ensure_latest(&self, request: &HttpRequest) -> Result<(), Error> {
        let directives = request
            .headers()
            .get_all(header::CACHE_CONTROL)
            .filter_map(|value| value.to_str().ok());
        let no_cache = directives
            .flat_map(|list| list.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case("no-cache"));
        match &self.follower {
            Some(follower) if no_cache => self.catch_up_follower(follower, request).await,
            _ => Ok(()),
        }
    }

    /// Where a request comes from: the first address, seen from here, that is not a trusted proxy's; the last proxy when it did not
    /// say.
    #[must_use]
    pub fn client_address(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        if !self.is_trusted_proxy(peer) {
            return peer;
        }
        let lists =
            request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
        // Each proxy adds at the end whom it was asked by. What stands before the first that is no proxy, anyone can write.
        let mut nearest = peer;
        for hop in hops.into_iter().rev() {
            let Some(address) = parse_hop_address(hop) else { break };
            nearest = address;
            if !self.is_trusted_proxy(address) {
                break;
            }
        }
        nearest
    }

    fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        self.options.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// A plain read of the store, within a request's time.
    ///
    /// # Errors
    /// The store does not answer, or not in time, or too many read.
    pub async fn read_before_deadline<T>(
        &self,
        request: &HttpRequest,
        read: impl Future<Output = Result<T, StoreUnavailable>>,
    ) -> Result<T, Error> {
        self.read_limiter.run(self.remaining_time(request), read).await
    }

    /// Any number of callers share this read.
    async fn catch_up_follower(
        &self,
        follower: &Follower,
        request: &HttpRequest,
    ) -> Result<(), Error> {
        let caught_up = tokio::time::timeout(self.remaining_time(request), follower.catch_up());
        Ok(caught_up.await.unwrap_or(Err(StoreUnavailable))?)
    }

    /// Whether the node has begun to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.shutdown.borrow()
    }
}

/// The address of a hop, with or without a port.
fn parse_hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// The token of an `Authorization: Bearer` header (RFC 6750, section 2.1).
fn bearer_token(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}
