//! The shared state of the routes, and the caller, address and deadline of a request.

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix::Addr;
use actix_web::{HttpMessage, HttpRequest, http::header, web};
use tokio::sync::watch;

use super::{
    middleware::observation::note_caller,
    request::{deadline::Deadline, read_limiter::ReadLimiter},
};
use crate::{
    actors::{
        accounts::AccountActor, cart::CartRegistry, catalog::CatalogActor, orders::OrderActor,
        pricing::PricingActor, webhooks::WebhookActor,
    },
    admission::{
        admit_caller,
        connection_limiter::ConnectionLimiter,
        feed_limiter::{FeedLimiter, FeedPermit},
        find_client_address,
        rate_limits::{CountedRegistration, RateLimited, RateLimits},
        stop_phase::StopPhase,
    },
    auth::{
        caller::{Authenticator, Caller, bearer_token},
        event_ticket::EventTickets,
    },
    broker::BrokerStatus,
    cache::{
        catalog_cache::CatalogCache,
        current_caches::{CurrentCaches, has_no_cache},
        follower::Follower,
        pricing_rules::PricingRulesCache,
        search_pool::{SearchNotRun, SearchPool},
    },
    domain::{clock::Clock, ids::UserId, money::Currency, payment::PaymentMethod},
    error::{Error, ErrorCode},
    messages::command_context::{IdempotencyKey, Ticket},
    metrics::Metrics,
    outbox::feed::Feed,
    payments::PaymentProvider,
    store::{Store, StoreUnavailable, writer::CommitWriter},
};

/// The services and settings that routes share.
pub struct AppState {
    /// Reads and changes carts.
    pub carts: Arc<CartRegistry>,
    /// Changes orders.
    pub orders: Addr<OrderActor>,
    /// Changes the pricing rules.
    pub pricing: Addr<PricingActor>,
    /// The pricing rules in memory, for reads.
    pub pricing_rules: Arc<PricingRulesCache>,
    /// Changes the catalog.
    pub catalog: Addr<CatalogActor>,
    /// The catalog in memory, for reads.
    pub catalog_cache: Arc<CatalogCache>,
    /// Runs searches of the catalog.
    pub search_pool: SearchPool,
    /// Manages accounts and sessions.
    pub accounts: Addr<AccountActor>,
    /// Changes webhook endpoints.
    pub webhooks: Addr<WebhookActor>,
    /// Checks access tokens and finds their callers.
    pub authenticator: Arc<Authenticator>,
    /// Issues and checks tickets for event feeds.
    pub event_tickets: EventTickets,
    /// Delivers live events to subscribers.
    pub feed: Arc<Feed>,
    /// Applies changes from other nodes; `None` if the node runs alone.
    pub follower: Option<Arc<Follower>>,
    /// Brings the caches up to date before a request relies on them.
    pub current_caches: CurrentCaches,
    /// The state of the broker connection; `None` without a broker.
    pub broker_status: Option<Arc<BrokerStatus>>,
    /// The payment provider, if one is set up.
    pub provider: Option<Arc<dyn PaymentProvider>>,
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
    pub feed_limiter: Arc<FeedLimiter>,
    /// The request limits per address and per user.
    pub rate_limits: Arc<RateLimits>,
    /// Metrics for Prometheus.
    pub metrics: Metrics,
    /// How far the node has stopped.
    pub stop_phase: watch::Receiver<StopPhase>,
}

/// Settings of the HTTP API.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// What people call the shop.
    pub shop_name: String,
    /// The currency of all prices.
    pub currency: Currency,
    /// The maximum size of a body in bytes.
    pub max_body: usize,
    /// The time limit for a request.
    pub request_timeout: Duration,
    /// The payment method of a checkout that names none.
    pub default_payment: PaymentMethod,
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
        let header = request.headers().get(header::AUTHORIZATION);
        // Not `to_str`, which looks at each byte of a long token on its own.
        let header = header.and_then(|value| str::from_utf8(value.as_bytes()).ok());
        let token = header.and_then(bearer_token).ok_or_else(|| {
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
        let address = self.client_address(request);
        let admitted = admit_caller(&self.connections, &self.rate_limits, caller, address);
        admitted.map_err(|limited| with_limit_headers(request, limited))
    }

    /// Counts a new guest cart of the client.
    ///
    /// # Errors
    /// `rate_limited`
    pub fn admit_guest(&self, request: &HttpRequest) -> Result<(), Error> {
        let admitted = self.rate_limits.check_guest(self.client_address(request));
        admitted.map_err(|limited| with_limit_headers(request, limited))
    }

    /// Counts the checkout of a guest. A repeat of one that was answered is admitted in any case.
    ///
    /// # Errors
    /// `rate_limited`, or the store is unavailable.
    pub async fn admit_guest_checkout(
        &self,
        request: &HttpRequest,
        key: &IdempotencyKey,
    ) -> Result<(), Error> {
        let admitted = self.rate_limits.check_guest(self.client_address(request));
        let Err(limited) = admitted else { return Ok(()) };
        match self.store.find_stored_reply(key).await? {
            Some(_) => Ok(()),
            None => Err(with_limit_headers(request, limited)),
        }
    }

    /// Counts a registration of the client that is about to begin.
    ///
    /// # Errors
    /// `rate_limited`
    pub fn admit_registration(&self, request: &HttpRequest) -> Result<CountedRegistration, Error> {
        let admitted = self.rate_limits.count_registration(self.client_address(request));
        admitted.map_err(|limited| with_limit_headers(request, limited))
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
        Ok(self.current_caches.ensure_current(self.remaining_time(request)).await?)
    }

    /// With `Cache-Control: no-cache`, makes the next read at least as new as every change that
    /// any node has acknowledged. This node's own changes are always visible.
    ///
    /// # Errors
    /// `store_unavailable` if the node must catch up and the store does not respond in time.
    pub async fn honor_no_cache(&self, request: &HttpRequest) -> Result<(), Error> {
        let values = request.headers().get_all(header::CACHE_CONTROL);
        let no_cache = has_no_cache(values.filter_map(|value| value.to_str().ok()));
        Ok(self.current_caches.honor_no_cache(no_cache, self.remaining_time(request)).await?)
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

    /// Returns the client's address: the nearest one that is not a trusted proxy.
    #[must_use]
    pub fn client_address(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        let forwarded = request.headers().get_all("x-forwarded-for");
        find_client_address(peer, forwarded.filter_map(|value| value.to_str().ok()), |address| {
            self.connections.is_trusted_proxy(address)
        })
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

    /// Whether the node is shutting down, though it may still serve requests.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stop_phase.borrow() != StopPhase::Running
    }
}

/// The error of a request over a limit, whose response gets the headers that tell of the limit.
fn with_limit_headers(request: &HttpRequest, limited: RateLimited) -> Error {
    let error = Error::from(&limited);
    request.extensions_mut().insert(limited);
    error
}
