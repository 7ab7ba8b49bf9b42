//! The shared state of the routes, and the caller, address and deadline of a request.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use actix::Addr;
use actix_web::{HttpMessage, HttpRequest, http::header, web};
use tokio::sync::watch;

use super::{
    feed_limiter::{FeedLimiter, FeedPermit},
    middleware::{
        observation::note_caller,
        rate_limit::{RateLimited, RateLimits},
    },
    request::{deadline::Deadline, read_limiter::ReadLimiter},
    server::connection_limiter::ConnectionLimiter,
};
use crate::{
    actors::{
        accounts::AccountActor, cart::CartRegistry, catalog::CatalogActor, orders::OrderActor,
    },
    auth::{
        caller::{Authenticator, Caller},
        event_ticket::EventTickets,
    },
    broker::BrokerStatus,
    cache::{
        catalog_cache::CatalogCache,
        follower::Follower,
        search_pool::{SearchNotRun, SearchPool},
    },
    domain::{account::Role, clock::Clock, ids::UserId, money::Currency},
    error::{Error, ErrorCode},
    messages::command_context::Ticket,
    metrics::Metrics,
    outbox::feed::Feed,
    store::{Store, StoreUnavailable, writer::CommitWriter},
};

/// The services and settings that routes share.
pub struct AppState {
    /// Reads and changes carts.
    pub carts: Arc<CartRegistry>,
    /// Changes orders.
    pub orders: Addr<OrderActor>,
    /// Changes the catalog.
    pub catalog: Addr<CatalogActor>,
    /// The catalog in memory, for reads.
    pub catalog_cache: Arc<CatalogCache>,
    /// Runs searches of the catalog.
    pub search_pool: SearchPool,
    /// Manages accounts and sessions.
    pub accounts: Addr<AccountActor>,
    /// Checks access tokens and finds their callers.
    pub authenticator: Authenticator,
    /// Issues and checks tickets for event feeds.
    pub event_tickets: EventTickets,
    /// Delivers live events to subscribers.
    pub feed: Arc<Feed>,
    /// Applies changes from other nodes; `None` if the node runs alone.
    pub follower: Option<Arc<Follower>>,
    /// The state of the broker connection; `None` without a broker.
    pub broker_status: Option<Arc<BrokerStatus>>,
    /// The store, for direct reads such as stock movements and past events.
    pub store: Arc<dyn Store>,
    /// Limits concurrent direct reads of the store.
    pub read_limiter: ReadLimiter,
    /// The commit writer, which is read for its metrics.
    pub writer: CommitWriter,
    /// The clock of the node.
    pub clock: Arc<dyn Clock>,
    /// Settings of the HTTP API.
    pub options: ApiOptions,
    /// Admits connections, and requests that trusted proxies forward.
    pub connections: Arc<ConnectionLimiter>,
    /// Limits the event feeds of each address and user.
    pub feed_limiter: FeedLimiter,
    /// The request limits per address and per user.
    pub rate_limits: RateLimits,
    /// Metrics for Prometheus.
    pub metrics: Metrics,
    /// Becomes true when the node starts to shut down.
    pub shutdown: watch::Receiver<bool>,
}

/// Settings of the HTTP API.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// The currency of all prices.
    pub currency: Currency,
    /// The maximum size of a body in bytes.
    pub max_body: usize,
    /// The time limit for a request.
    pub request_timeout: Duration,
    /// Whether the catalog can be read without a token.
    pub public_read: bool,
    /// Failed logins per minute for one account or address, as sent in `RateLimit-Policy`.
    pub login_limit: u32,
}

impl AppState {
    /// Returns the state of the application that handles `request`.
    ///
    /// # Errors
    /// `internal_error` if the application has no state.
    pub fn from_request(request: &HttpRequest) -> Result<&Arc<Self>, Error> {
        request.app_data::<web::Data<Arc<Self>>>().map(|data| &***data).ok_or_else(Error::internal)
    }

    /// Returns the deadline of a request that arrives now.
    #[must_use]
    pub(super) fn new_deadline(&self) -> Deadline {
        Deadline::from_timeout(self.options.request_timeout)
    }

    fn remaining_time(&self, request: &HttpRequest) -> Duration {
        Deadline::remaining(request).unwrap_or(self.options.request_timeout)
    }

    /// Returns a ticket that expires at the deadline of `request`.
    #[must_use]
    pub fn request_ticket(&self, request: &HttpRequest) -> Ticket {
        Ticket::new(self.remaining_time(request))
    }

    /// Finds the caller of `request` from its access token, and counts the request.
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
        self.admit_caller(request, &caller)?;
        Ok(caller)
    }

    /// Counts a request of `caller`, who is authenticated.
    ///
    /// # Errors
    /// `rate_limited`
    pub fn admit_caller(&self, request: &HttpRequest, caller: &Caller) -> Result<(), Error> {
        note_caller(request, caller);
        if caller.role != Role::Guest {
            self.connections.record_account(self.client_address(request));
        }
        self.rate_limits.check_user(caller.user_id).map_err(|limited| {
            let error = Error::from(&limited);
            request.extensions_mut().insert(limited);
            error
        })
    }

    /// Counts a new guest cart of the client.
    ///
    /// # Errors
    /// `rate_limited`
    pub fn admit_guest(&self, request: &HttpRequest) -> Result<(), Error> {
        self.rate_limits.check_guest(self.client_address(request)).map_err(|limited| {
            let error = Error::from(&limited);
            request.extensions_mut().insert(limited);
            error
        })
    }

    /// Adds rate limit headers to the response if `error` reports too many failed logins.
    pub fn with_login_limit_headers(&self, request: &HttpRequest, error: Error) -> Error {
        if let (ErrorCode::RateLimited, Some(wait)) = (error.code, error.retry_after) {
            let policy = format!("\"login\";q={};w=60", self.options.login_limit);
            let state = format!("\"login\";r=0;t={wait}");
            request.extensions_mut().insert(RateLimited { policy, state, retry_after_secs: wait });
        }
        error
    }

    /// Catches up with other nodes if this node's caches are stale. Token checks and reads of
    /// carts, products and stock depend on these caches.
    ///
    /// # Errors
    /// `store_unavailable` if the node must catch up and the store does not respond in time.
    pub async fn ensure_caches_current(&self, request: &HttpRequest) -> Result<(), Error> {
        let behind = self.follower.as_ref().filter(|follower| !follower.is_current());
        self.metrics.caches.catalog.record(behind.is_none());
        match behind {
            Some(follower) => self.catch_up_follower(follower, request).await,
            None => Ok(()),
        }
    }

    /// With `Cache-Control: no-cache`, makes the next read at least as new as every change that
    /// any node has acknowledged. This node's own changes are always visible.
    ///
    /// # Errors
    /// `store_unavailable` if the node must catch up and the store does not respond in time.
    pub async fn honor_no_cache(&self, request: &HttpRequest) -> Result<(), Error> {
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

    /// Runs a search of the catalog on a thread for searches.
    ///
    /// # Errors
    /// `overloaded` at once if too many searches wait, or the error of `search`.
    pub(crate) async fn run_search<T: Send + 'static>(
        &self,
        search: impl FnOnce(&CatalogCache) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let catalog = Arc::clone(&self.catalog_cache);
        match self.search_pool.run(move || search(&catalog)).await {
            Ok(found) => found,
            Err(SearchNotRun::Overloaded) => Err(Error::overloaded()),
            Err(SearchNotRun::Failed) => Err(Error::internal()),
        }
    }

    /// Returns the client's address: the nearest one that is not a trusted proxy. If all are
    /// proxies, or the list cannot be parsed further, returns the farthest known address.
    #[must_use]
    pub fn client_address(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        if !self.connections.is_trusted_proxy(peer) {
            return peer;
        }
        let lists =
            request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
        // Each proxy appends the address of its peer. Entries before the nearest untrusted
        // address can be forged.
        let mut nearest = peer;
        for hop in hops.into_iter().rev() {
            let Some(address) = parse_hop_address(hop) else { break };
            nearest = address;
            if !self.connections.is_trusted_proxy(address) {
                break;
            }
        }
        nearest
    }

    /// Returns the client's address if a trusted proxy forwards the request for it.
    #[must_use]
    pub fn forwarded_client(&self, request: &HttpRequest) -> Option<IpAddr> {
        let client = self.client_address(request);
        let is_direct = request.peer_addr().is_none_or(|peer| peer.ip() == client);
        (!is_direct && !self.connections.is_trusted_proxy(client)).then_some(client)
    }

    /// Admits an event feed of `user`.
    ///
    /// # Errors
    /// `too_many_feeds`
    pub(super) fn admit_feed(
        &self,
        request: &HttpRequest,
        user: Option<UserId>,
    ) -> Result<FeedPermit, Error> {
        let address = self.client_address(request);
        let client = (!self.connections.is_trusted_proxy(address)).then_some(address);
        self.feed_limiter.admit(client, user)
    }

    /// Reads the store directly, before the deadline of `request`.
    ///
    /// # Errors
    /// `store_unavailable` if the store fails or is too slow; `overloaded` if too many reads run.
    pub async fn read_before_deadline<T>(
        &self,
        request: &HttpRequest,
        read: impl Future<Output = Result<T, StoreUnavailable>>,
    ) -> Result<T, Error> {
        self.read_limiter.run(self.remaining_time(request), read).await
    }

    /// Catches up with the store. Concurrent callers share one read.
    async fn catch_up_follower(
        &self,
        follower: &Follower,
        request: &HttpRequest,
    ) -> Result<(), Error> {
        let caught_up = tokio::time::timeout(self.remaining_time(request), follower.catch_up());
        Ok(caught_up.await.unwrap_or(Err(StoreUnavailable))?)
    }

    /// Whether the node is shutting down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.shutdown.borrow()
    }
}

/// Parses the address of a hop, with or without a port.
fn parse_hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// Returns the token of an `Authorization: Bearer` header (RFC 6750, section 2.1).
fn bearer_token(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}
