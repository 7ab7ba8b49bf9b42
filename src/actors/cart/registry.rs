//! The registry finds or starts the actor of a cart, and replaces actors whose thread has died.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Arbiter, Handler, MailboxError, Message, dev::ToEnvelope};
use actix_rt::ArbiterHandle;
use arc_swap::ArcSwap;
use dashmap::DashMap;

use super::{
    CartActor, CartDeps, memory::CartMemory, passivation::MAX_ACTIVE_CARTS, state::CartState,
};
use crate::{
    actors::{ask::timeout_error, mailbox::Queued},
    domain::{
        cart::{Cart, CartOwner, PricedCart},
        ids::UserId,
        pricing::ShippingOffer,
    },
    error::Error,
    messages::{
        cart::{
            CartView, ChangeCart, GetCart, MergeCart, MoveGuestOrders, PlaceOrder, PlacedOrder,
            PricingChange,
        },
        command_context::{CommandContext, Reply, Ticket},
    },
    store::CommittedChanges,
};

/// The time in which a guest's orders move if the cart could not be merged.
const ORDER_MOVE_TIMEOUT: Duration = Duration::from_secs(30);

/// All active carts of this node.
pub struct CartRegistry {
    pub(super) deps: Arc<CartDeps>,
    pub(super) carts: DashMap<UserId, ActiveCart>,
    pub(super) memory: Arc<CartMemory>,
    arbiters: Vec<ArcSwap<ArbiterHandle>>,
    pub(super) started_at: Instant,
}

/// The actor and cached state of a cart in memory.
#[derive(Clone)]
pub(super) struct ActiveCart {
    actor: Addr<CartActor>,
    pub(super) state: Arc<CartState>,
}

impl CartRegistry {
    /// Creates a registry whose actors run on `threads` dedicated threads. Requires a running actix
    /// system.
    #[must_use]
    pub fn start(deps: CartDeps, threads: usize) -> Arc<Self> {
        let arbiters =
            (0..threads.max(1)).map(|_| ArcSwap::from_pointee(Arbiter::new().handle())).collect();
        Arc::new(Self {
            deps: Arc::new(deps),
            carts: DashMap::new(),
            memory: Arc::default(),
            arbiters,
            started_at: Instant::now(),
        })
    }

    /// Reads a cart from memory if the cached state is current, else through the actor.
    ///
    /// # Errors
    /// The cart is a guest cart that was merged, or the store is unavailable.
    pub async fn read_cart(
        &self,
        owner: CartOwner,
        ticket: &Ticket,
    ) -> Result<Arc<CartView>, Error> {
        let current = self.carts.get(&owner.id).and_then(|active| {
            self.mark_used(&active.state);
            active.state.note_shown();
            active.state.current_view(&self.deps)
        });
        self.deps.cache_reads.record(current.is_some());
        match current {
            Some(view) => {
                view.cart.ensure_open()?;
                Ok(view)
            }
            None => self.ask_actor(owner, GetCart, ticket).await,
        }
    }

    /// Runs a command that changes a cart.
    ///
    /// # Errors
    /// The command is refused or fails; see the error code.
    pub async fn change_cart(
        &self,
        owner: CartOwner,
        message: ChangeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ticket = message.context.ticket.clone();
        self.ask_actor(owner, message, &ticket).await
    }

    /// Runs a command that changes what a cart's price depends on besides its lines.
    ///
    /// # Errors
    /// As with [`CartRegistry::change_cart`].
    pub async fn change_pricing(
        &self,
        owner: CartOwner,
        message: PricingChange,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ticket = message.context.ticket.clone();
        self.ask_actor(owner, message, &ticket).await
    }

    /// Places an order for everything in a cart.
    ///
    /// # Errors
    /// As with [`CartRegistry::change_cart`].
    pub async fn check_out(
        &self,
        owner: CartOwner,
        message: PlaceOrder,
    ) -> Result<Reply<PlacedOrder>, Error> {
        let ticket = message.context.ticket.clone();
        self.ask_actor(owner, message, &ticket).await
    }

    /// Merges a guest's cart into a user's, and moves the guest's orders to the user.
    ///
    /// # Errors
    /// As with [`CartRegistry::change_cart`].
    pub async fn merge_guest_cart(
        &self,
        owner: CartOwner,
        message: MergeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ticket = message.context.ticket.clone();
        // The lock blocks changes by the guest. Each would conflict with the merge, and a busy
        // guest could starve it.
        let guest = self.find_or_start_actor(CartOwner { id: message.guest_id, is_guest: true });
        let lock =
            tokio::time::timeout_at(ticket.deadline().into(), guest.state.change_lock.lock());
        let _guard = lock.await.map_err(|_| timeout_error(&ticket))?;
        self.ask_actor(owner, message, &ticket).await
    }

    /// Merges a guest's cart into a user's, and moves the guest's orders to the user. A cart that
    /// cannot be merged stays as it is, and the orders move without it, if need be after the
    /// ticket's deadline: the merge may have used up the time. Returns whether the cart was merged.
    pub async fn take_over_guest(self: &Arc<Self>, owner: CartOwner, message: MergeCart) -> bool {
        let (guest_id, deadline) = (message.guest_id, message.context.ticket.deadline());
        let trace = message.context.trace.clone();
        let Err(Error { code, .. }) = self.merge_guest_cart(owner, message).await else {
            return true;
        };
        let (user, code) = (owner.id, code.as_str());
        tracing::info!(%user, guest = %guest_id, code, "failed to merge a guest's cart at login");
        let context = CommandContext { trace, ..CommandContext::internal(ORDER_MOVE_TIMEOUT) };
        let message = MoveGuestOrders { guest_id, context };
        let moving = actix::spawn(Arc::clone(self).move_guest_orders(owner, message));
        // What is not done by then goes on.
        let _ = tokio::time::timeout_at(deadline.into(), moving).await;
        false
    }

    /// Moves a guest's orders to a user, and leaves the guest's cart alone.
    async fn move_guest_orders(self: Arc<Self>, owner: CartOwner, message: MoveGuestOrders) {
        let (user, guest, ticket) = (owner.id, message.guest_id, message.context.ticket.clone());
        if let Err(Error { code, .. }) = self.ask_actor(owner, message, &ticket).await {
            let code = code.as_str();
            tracing::warn!(%user, %guest, code, "failed to move a guest's orders at login");
        }
    }

    /// Prices a cart as its view is.
    #[must_use]
    pub fn price_cart(&self, cart: &Cart) -> PricedCart {
        let active = self.carts.get(&cart.owner.id);
        let buyer_uses = active.and_then(|active| active.state.buyer_uses());
        self.deps.price_cart(cart, buyer_uses.as_deref())
    }

    /// The shipping methods that the owner of a cart can choose, the cheapest first.
    #[must_use]
    pub fn shipping_offers(&self, cart: &Cart) -> Vec<ShippingOffer> {
        self.deps.shipping_offers(cart)
    }

    /// The number of carts in memory.
    #[must_use]
    pub fn active_count(&self) -> usize {
        self.carts.len()
    }

    /// Notifies the carts in memory of new versions, committed on any node.
    pub fn apply(&self, changes: &CommittedChanges) {
        for (owner, version) in &changes.carts {
            if let Some(active) = self.carts.get(owner) {
                active.state.observe_version(*version);
            }
        }
        for buyer in &changes.promotion_buyers {
            if let Some(active) = self.carts.get(buyer) {
                active.state.outdate_buyer_uses();
            }
        }
    }

    /// Drops all carts from memory, so that the next access reads the store.
    pub fn evict_all(&self) {
        self.carts.clear();
    }

    /// Sends `message` to the owner's actor and awaits the reply until the ticket's deadline.
    pub(super) async fn ask_actor<M, T>(
        &self,
        owner: CartOwner,
        message: M,
        ticket: &Ticket,
    ) -> Result<T, Error>
    where
        M: Message<Result = Result<T, Error>> + Clone + Send + 'static,
        T: Send + 'static,
        CartActor: Handler<Queued<M>>,
        <CartActor as Actor>::Context: ToEnvelope<CartActor, Queued<M>>,
    {
        // A stopped actor has not started the command, unless its thread died during it. The ticket
        // knows whether the command started.
        for _ in 0..2 {
            let active = self.find_or_start_actor(owner);
            let reply = tokio::time::timeout_at(
                ticket.deadline().into(),
                active.actor.send(Queued::new(message.clone())),
            )
            .await;
            match reply {
                Ok(Ok(reply)) => return reply,
                Ok(Err(MailboxError::Closed)) => {
                    self.remove_dead_actor(owner.id, &active);
                    if !ticket.may_retry() {
                        return Err(Error::outcome_unknown());
                    }
                }
                Ok(Err(MailboxError::Timeout)) | Err(_) => return Err(timeout_error(ticket)),
            }
        }
        Err(Error::overloaded())
    }

    fn find_or_start_actor(&self, owner: CartOwner) -> ActiveCart {
        self.shrink_if_due();
        if let Some(active) = self.carts.get(&owner.id) {
            self.mark_used(&active.state);
            return active.clone();
        }
        if self.carts.len() >= MAX_ACTIVE_CARTS {
            self.passivate_oldest();
        }
        let active = self.carts.entry(owner.id).or_insert_with(|| self.start_actor(owner));
        self.mark_used(&active.state);
        active.clone()
    }

    fn start_actor(&self, owner: CartOwner) -> ActiveCart {
        let state = Arc::new(CartState::new(owner, Arc::clone(&self.memory)));
        let actor = CartActor::new(Arc::clone(&state), Arc::clone(&self.deps));
        let address = CartActor::start_in_arbiter(&self.arbiter_for(owner.id), |_| actor);
        ActiveCart { actor: address, state }
    }

    /// Returns the thread for `owner`'s actor, and replaces the thread if it has died.
    fn arbiter_for(&self, owner: UserId) -> ArbiterHandle {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(owner);
        let index = usize::try_from(hash).unwrap_or(0) % self.arbiters.len().max(1);
        let Some(arbiter) = self.arbiters.get(index) else { return Arbiter::new().handle() };
        let handle = arbiter.load();
        if handle.spawn(async {}) {
            return (**handle).clone();
        }
        tracing::error!(
            thread = index,
            "a cart actor thread died; replacing it and reloading its carts from the store"
        );
        let fresh = Arc::new(Arbiter::new().handle());
        arbiter.store(Arc::clone(&fresh));
        (*fresh).clone()
    }

    fn remove_dead_actor(&self, owner: UserId, active: &ActiveCart) {
        self.carts.remove_if(&owner, |_, current| Arc::ptr_eq(&current.state, &active.state));
    }

    fn mark_used(&self, state: &CartState) {
        let now = u32::try_from(self.started_at.elapsed().as_secs()).unwrap_or(u32::MAX);
        state.last_used.store(now, Ordering::Relaxed);
    }
}
