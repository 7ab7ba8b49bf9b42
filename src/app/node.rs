//! A node without its network side: its actors, and the broker.

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix::{Actor, Addr};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use super::{
    broker_wiring::broker_deps,
    mail_wiring::mail_deps,
    node_context::NodeContext,
    options::{
        api_options, cart_limits, connection_limits, feed_limits, forwarding_options, grpc_options,
        idempotency_quota, order_rules, rate_limits,
    },
    secrets::{TokenSecrets, build_tokens},
    webhook_wiring::{start_webhooks, webhook_deps},
};
use crate::{
    actors::{
        accounts::{AccountActor, AccountDeps, PasswordHasher, admin_bootstrap::AdminBootstrap},
        cart::{CartDeps, CartRegistry, MAX_RENDERED_BYTES, OrderIds},
        catalog::{CatalogActor, CatalogService, ImportLookup},
        orders::{OrderActor, OrderService},
        pricing::{PricingActor, PricingService},
        webhooks::WebhookActor,
    },
    admission::{
        connection_limiter::ConnectionLimiter, feed_limiter::FeedLimiter, stop_phase::StopPhase,
    },
    auth::{
        caller::Authenticator, event_ticket::EventTickets, login_keys::LoginKeys,
        refresh_token::RefreshTokens,
    },
    broker::{Broker, BrokerUri},
    cache::{api_keys::run_report_loop, current_caches::CurrentCaches, search_pool::SearchPool},
    config::Settings,
    grpc::GrpcState,
    http::{self, AppState, ReadLimiter},
    mail::{MailOptions, MailSender, MailSetupError},
    store::{account_emails::AccountEmails, cleanup::run_cleanup_loop},
    webhooks::{WebhookDispatcher, WebhookOptions, WebhookSetupError},
};

/// How often the rate limits drop the counters of idle callers.
const RATE_LIMIT_CLEANUP_INTERVAL: Duration = Duration::from_secs(60);

/// A running node without its network side.
///
/// The command line uses one to create admins without serving requests.
pub struct Node {
    /// Decides on products and stock.
    pub catalog: Addr<CatalogActor>,
    /// Creates admin accounts.
    pub admin_bootstrap: AdminBootstrap,
    pub(super) context: NodeContext,
    carts: Arc<CartRegistry>,
    orders: Addr<OrderActor>,
    accounts: Addr<AccountActor>,
    webhooks: Addr<WebhookActor>,
    token_secrets: TokenSecrets,
    writer_task: JoinHandle<()>,
    broker: Option<Broker>,
    mail_sender: Option<MailSender>,
    webhook_dispatcher: Option<WebhookDispatcher>,
}

impl Node {
    /// Opens the store and starts the actors. `drivers` is the runtime of the store and the
    /// writer; it must outlive the node.
    ///
    /// # Errors
    /// The store cannot be opened or does not respond. The error is one line for the operator.
    pub async fn start(settings: &Settings, drivers: &Handle) -> anyhow::Result<Self> {
        let (context, writer_task) = NodeContext::start(settings, drivers).await?;
        let token_secrets = TokenSecrets::load(settings)?;
        let passwords = context.metrics.passwords.clone();
        let hasher = PasswordHasher::start_measured(settings.auth.bcrypt_cost, None, passwords);
        let carts = start_carts(settings, &context);
        context.listeners.set_carts(&carts);
        Ok(Self {
            catalog: start_catalog(&context),
            admin_bootstrap: admin_bootstrap(&context, hasher.clone()),
            carts,
            orders: start_orders(&context),
            accounts: start_accounts(settings, &context, hasher, &token_secrets),
            webhooks: start_webhooks(settings, &context, &token_secrets),
            token_secrets,
            writer_task,
            broker: None,
            mail_sender: None,
            webhook_dispatcher: None,
            context,
        })
    }

    /// Starts to publish events, and to receive commands and the events of other nodes.
    pub(super) fn connect_broker(&mut self, uri: BrokerUri, settings: &Settings, drivers: &Handle) {
        let deps = broker_deps(uri, settings, &self.context, &self.catalog);
        self.broker = Some(Broker::start(deps, drivers));
    }

    /// Starts to exchange commits with other nodes.
    pub(super) fn start_forwarding(
        &self,
        listener: TcpListener,
        settings: &Settings,
    ) -> anyhow::Result<()> {
        let options = forwarding_options(settings, listener, &self.token_secrets)?;
        self.context.store.start_forwarding(options, self.context.writer.clone());
        Ok(())
    }

    /// Starts to send mails.
    pub(super) fn start_mail(
        &mut self,
        options: MailOptions,
        drivers: &Handle,
    ) -> Result<(), MailSetupError> {
        self.mail_sender = Some(MailSender::start(options, mail_deps(&self.context), drivers)?);
        Ok(())
    }

    /// Starts to deliver events to webhooks.
    pub(super) fn start_webhook_dispatcher(
        &mut self,
        options: WebhookOptions,
        drivers: &Handle,
    ) -> Result<(), WebhookSetupError> {
        let deps = webhook_deps(&self.context, &self.token_secrets);
        self.webhook_dispatcher = Some(WebhookDispatcher::start(options, deps, drivers)?);
        Ok(())
    }

    /// Commits what waits, publishes its events, and closes the store.
    ///
    /// The order matters: the broker publishes the writer's last events, and reads them from the
    /// store.
    pub async fn stop(self) {
        // It records what became of the mails.
        if let Some(mail_sender) = self.mail_sender {
            mail_sender.stop().await;
        }
        if let Some(webhook_dispatcher) = self.webhook_dispatcher {
            webhook_dispatcher.stop().await;
        }
        self.context.writer.close();
        if let Err(error) = self.writer_task.await {
            tracing::error!(%error, "the commit writer failed; this is a bug in souk");
        }
        if let Some(broker) = self.broker {
            broker.stop().await;
        }
        let catalog = Arc::clone(&self.context.listeners.catalog_cache);
        // If it panics, the panic is logged, and the next start takes longer.
        let _ = actix_rt::task::spawn_blocking(move || catalog.close()).await;
        let keys = &self.context.listeners.account_rights.api_keys;
        // What is lost is when keys were used last, and the store has logged why.
        let _ = keys.report_uses(&*self.context.store).await;
        self.context.store.close().await;
    }

    /// Builds what the HTTP handlers share. `stop_phase` says how far the node has stopped.
    pub(super) fn build_http_state(
        &self,
        settings: &Settings,
        stop_phase: watch::Receiver<StopPhase>,
    ) -> anyhow::Result<Arc<AppState>> {
        let context = &self.context;
        let metrics = context.metrics.clone();
        let connections =
            ConnectionLimiter::new(connection_limits(settings), metrics.connections.clone());
        let feed_limiter = FeedLimiter::new(feed_limits(settings), metrics.connections.clone());
        Ok(Arc::new(AppState {
            carts: Arc::clone(&self.carts),
            orders: self.orders.clone(),
            pricing: start_pricing(&self.context),
            pricing_rules: Arc::clone(&context.listeners.pricing_rules),
            catalog: self.catalog.clone(),
            catalog_cache: Arc::clone(&context.listeners.catalog_cache),
            search_pool: SearchPool::start(settings.http.workers)?,
            accounts: self.accounts.clone(),
            webhooks: self.webhooks.clone(),
            authenticator: Arc::new(Authenticator::new(
                build_tokens(settings, &self.token_secrets, &context.clock)?,
                Arc::clone(&context.listeners.revoked_sessions),
                Arc::clone(&context.listeners.account_rights),
                Arc::clone(&context.clock),
            )),
            event_tickets: EventTickets::new(self.token_secrets.first())
                .accepting_second(self.token_secrets.second()),
            feed: Arc::clone(&context.listeners.feed),
            follower: context.follower.clone(),
            current_caches: CurrentCaches::new(
                context.follower.clone(),
                metrics.caches.catalog.clone(),
            ),
            broker_status: self.broker.as_ref().map(|broker| Arc::clone(broker.status())),
            store: Arc::clone(&context.store),
            provider: context.provider.clone(),
            read_limiter: ReadLimiter::default(),
            writer: context.writer.clone(),
            clock: Arc::clone(&context.clock),
            options: api_options(settings),
            connections: Arc::new(connections),
            feed_limiter: Arc::new(feed_limiter),
            rate_limits: Arc::new(rate_limits(settings)),
            metrics,
            stop_phase,
        }))
    }

    /// Builds what the gRPC services share. They share the limits with HTTP.
    pub(super) fn build_grpc_state(&self, settings: &Settings, http: &AppState) -> Arc<GrpcState> {
        Arc::new(GrpcState {
            carts: Arc::clone(&self.carts),
            catalog: self.catalog.clone(),
            catalog_cache: Arc::clone(&http.catalog_cache),
            authenticator: Arc::clone(&http.authenticator),
            current_caches: http.current_caches.clone(),
            connections: Arc::clone(&http.connections),
            feed_limiter: Arc::clone(&http.feed_limiter),
            rate_limits: Arc::clone(&http.rate_limits),
            store: Arc::clone(&http.store),
            writer: http.writer.clone(),
            clock: Arc::clone(&http.clock),
            metrics: http.metrics.clone(),
            options: grpc_options(settings),
            stop_phase: http.stop_phase.clone(),
        })
    }

    /// Spawns what runs beside the actors while the node serves. Abort the tasks to stop them.
    pub(super) fn spawn_background_tasks(
        &self,
        state: Arc<AppState>,
        abandoned_after: Duration,
    ) -> Vec<JoinHandle<()>> {
        let carts = Arc::clone(&self.carts);
        let mut tasks = vec![
            actix_rt::spawn(carts.run_maintenance_loop(abandoned_after)),
            actix_rt::spawn(order_service(&self.context).run_expiry_loop()),
            actix_rt::spawn(order_service(&self.context).run_payment_loop()),
            actix_rt::spawn(Arc::clone(&state.feed).run(Arc::clone(&state.store))),
            actix_rt::spawn(run_cleanup_loop(Arc::clone(&state.store))),
            actix_rt::spawn(run_report_loop(
                Arc::clone(&self.context.listeners.account_rights),
                Arc::clone(&state.store),
            )),
            actix_rt::spawn(clean_up_rate_limits(state)),
        ];
        if let Some(follower) = self.context.follower.clone() {
            tasks.push(actix_rt::spawn(follower.run()));
        }
        tasks
    }
}

fn start_carts(settings: &Settings, context: &NodeContext) -> Arc<CartRegistry> {
    let deps = CartDeps {
        store: Arc::clone(&context.store),
        account_emails: AccountEmails::new(Arc::clone(&context.store)),
        writer: context.writer.clone(),
        catalog_cache: Arc::clone(&context.listeners.catalog_cache),
        follower: context.follower.clone(),
        clock: Arc::clone(&context.clock),
        limits: cart_limits(settings),
        order_rules: order_rules(settings),
        order_ids: OrderIds::default(),
        sends_mail: context.sends_mail,
        pricing_rules: Arc::clone(&context.listeners.pricing_rules),
        idempotency_quota: idempotency_quota(settings),
        max_rendered_bytes: MAX_RENDERED_BYTES,
        currency: settings.shop.currency,
        render: http::render_cart,
        mailbox: context.metrics.actors.mailbox("cart"),
        cache_reads: context.metrics.caches.cart.clone(),
    };
    // One thread of cart actors per two HTTP workers.
    let threads = settings.http.workers.div_ceil(2);
    CartRegistry::start(deps, threads)
}

fn start_catalog(context: &NodeContext) -> Addr<CatalogActor> {
    let service = CatalogService {
        import_lookup: ImportLookup::Cache,
        catalog_cache: Arc::clone(&context.listeners.catalog_cache),
        store: Arc::clone(&context.store),
        writer: context.writer.clone(),
        follower: context.follower.clone(),
        clock: Arc::clone(&context.clock),
    };
    CatalogActor::new(service, context.metrics.actors.mailbox("catalog")).start()
}

fn start_orders(context: &NodeContext) -> Addr<OrderActor> {
    OrderActor::new(order_service(context), context.metrics.actors.mailbox("orders")).start()
}

fn start_pricing(context: &NodeContext) -> Addr<PricingActor> {
    let service = PricingService {
        rules: Arc::clone(&context.listeners.pricing_rules),
        store: Arc::clone(&context.store),
        writer: context.writer.clone(),
        follower: context.follower.clone(),
        clock: Arc::clone(&context.clock),
    };
    PricingActor::new(service, context.metrics.actors.mailbox("pricing")).start()
}

fn order_service(context: &NodeContext) -> OrderService {
    OrderService {
        store: Arc::clone(&context.store),
        writer: context.writer.clone(),
        clock: Arc::clone(&context.clock),
        sends_mail: context.sends_mail,
        provider: context.provider.clone(),
        payment_metrics: context.metrics.payments.clone(),
        pricing_rules: Arc::clone(&context.listeners.pricing_rules),
    }
}

fn start_accounts(
    settings: &Settings,
    context: &NodeContext,
    hasher: PasswordHasher,
    secrets: &TokenSecrets,
) -> Addr<AccountActor> {
    let (first, second) = (secrets.first(), secrets.second());
    AccountActor::new(AccountDeps {
        store: Arc::clone(&context.store),
        writer: context.writer.clone(),
        clock: Arc::clone(&context.clock),
        hasher,
        refresh_tokens: RefreshTokens::new(first).accepting_second(second),
        revoked: Arc::clone(&context.listeners.revoked_sessions),
        login_keys: LoginKeys::new(first).accepting_second(second),
        refresh_grace: settings.auth.refresh_grace,
        max_sessions: settings.auth.max_sessions,
        login_limit: settings.limits.login,
        sends_mail: context.sends_mail,
        render_user: http::render_user,
        render_api_key: http::render_api_key,
        mailbox: context.metrics.actors.mailbox("accounts"),
    })
    .start()
}

fn admin_bootstrap(context: &NodeContext, hasher: PasswordHasher) -> AdminBootstrap {
    AdminBootstrap {
        store: Arc::clone(&context.store),
        writer: context.writer.clone(),
        clock: Arc::clone(&context.clock),
        hasher,
    }
}

/// Drops the counters of callers that are gone, forever.
async fn clean_up_rate_limits(state: Arc<AppState>) {
    loop {
        tokio::time::sleep(RATE_LIMIT_CLEANUP_INTERVAL).await;
        state.rate_limits.evict_idle();
        state.connections.evict_idle();
    }
}
