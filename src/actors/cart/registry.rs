//! Finds or starts the actor of a user, stops idle ones, and replaces those whose thread has died.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Arbiter, Handler, MailboxError, Message, dev::ToEnvelope};
use actix_rt::ArbiterHandle;
use arc_swap::ArcSwap;
use dashmap::DashMap;

use super::{CartActor, CartDeps, CartState};
use crate::{
    actors::ask::timeout_error,
    domain::{cart::CartOwner, ids::UserId, order::Order},
    error::Error,
    messages::{
        cart::{CartView, ChangeCart, GetCart, MergeCart, PlaceOrder},
        change::{Reply, Ticket},
    },
    store::CommittedChanges,
};

/// Most carts kept in memory. Beyond, the longest unused make room.
const MAX_ACTIVE_CARTS: usize = 250_000;

/// All active carts of this node.
pub struct CartRegistry {
    pub(super) deps: Arc<CartDeps>,
    carts: DashMap<UserId, ActiveCart>,
    arbiters: Vec<ArcSwap<ArbiterHandle>>,
    started_at: Instant,
}

#[derive(Clone)]
struct ActiveCart {
    actor: Addr<CartActor>,
    state: Arc<CartState>,
}

impl CartRegistry {
    /// A registry whose actors live on `threads` threads of their own. Must be called inside an actix system.
    #[must_use]
    pub fn start(deps: CartDeps, threads: usize) -> Arc<Self> {
        let arbiters =
            (0..threads.max(1)).map(|_| ArcSwap::from_pointee(Arbiter::new().handle())).collect();
        Arc::new(Self {
            deps: Arc::new(deps),
            carts: DashMap::new(),
            arbiters,
            started_at: Instant::now(),
        })
    }

    /// Reads a cart: from what its actor shows, or by asking it.
    ///
    /// # Errors
    /// The guest's cart was merged, or the store does not answer.
    pub async fn read_cart(
        &self,
        owner: CartOwner,
        ticket: &Ticket,
    ) -> Result<Arc<CartView>, Error> {
        let shown = self.carts.get(&owner.id).and_then(|slot| {
            self.mark_used(&slot.state);
            slot.state.current_view(&self.deps.shelf)
        });
        match shown {
            Some(view) => {
                view.cart.ensure_open()?;
                Ok(view)
            }
            None => self.ask_actor(owner, GetCart, ticket).await,
        }
    }

    /// Changes a cart.
    ///
    /// # Errors
    /// The change is refused, or could not be made; see the error's code.
    pub async fn change_cart(
        &self,
        owner: CartOwner,
        message: ChangeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ticket = message.context.ticket.clone();
        self.ask_actor(owner, message, &ticket).await
    }

    /// Makes an order of a cart.
    ///
    /// # Errors
    /// As with [`CartRegistry::change_cart`].
    pub async fn check_out(
        &self,
        owner: CartOwner,
        message: PlaceOrder,
    ) -> Result<Reply<Arc<Order>>, Error> {
        let ticket = message.context.ticket.clone();
        self.ask_actor(owner, message, &ticket).await
    }

    /// Takes a guest's cart over.
    ///
    /// # Errors
    /// As with [`CartRegistry::change_cart`].
    pub async fn merge_guest_cart(
        &self,
        owner: CartOwner,
        message: MergeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ticket = message.context.ticket.clone();
        // Meanwhile the guest's own changes wait. Each would be a conflict, and a busy guest has no end of them.
        let guest = self.find_or_start_actor(CartOwner { id: message.guest_id, is_guest: true });
        let turn =
            tokio::time::timeout_at(ticket.deadline().into(), guest.state.change_lock.lock());
        let _turn = turn.await.map_err(|_| timeout_error(&ticket))?;
        self.ask_actor(owner, message, &ticket).await
    }

    /// How many carts are active.
    #[must_use]
    pub fn active_count(&self) -> usize {
        self.carts.len()
    }

    /// Lets the carts know of new versions, whoever made them.
    pub fn apply(&self, news: &CommittedChanges) {
        for (owner, version) in &news.carts {
            if let Some(slot) = self.carts.get(owner) {
                slot.state.observe_version(*version);
            }
        }
    }

    /// Lets all actors go, so that every cart is read from the store again.
    pub fn evict_all(&self) {
        self.carts.clear();
    }

    /// Sends `message` to the owner's actor and waits for its answer until the ticket's deadline.
    pub(super) async fn ask_actor<M, T>(
        &self,
        owner: CartOwner,
        message: M,
        ticket: &Ticket,
    ) -> Result<T, Error>
    where
        M: Message<Result = Result<T, Error>> + Clone + Send + 'static,
        T: Send + 'static,
        CartActor: Handler<M>,
        <CartActor as Actor>::Context: ToEnvelope<CartActor, M>,
    {
        // An actor that is gone has not begun, unless its thread died under it: then the ticket tells.
        for _ in 0..2 {
            let slot = self.find_or_start_actor(owner);
            let answer =
                tokio::time::timeout_at(ticket.deadline().into(), slot.actor.send(message.clone()))
                    .await;
            match answer {
                Ok(Ok(answer)) => return answer,
                Ok(Err(MailboxError::Closed)) => {
                    self.remove_dead_actor(owner.id, &slot);
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
        if let Some(slot) = self.carts.get(&owner.id) {
            self.mark_used(&slot.state);
            return slot.clone();
        }
        if self.carts.len() >= MAX_ACTIVE_CARTS {
            self.passivate_oldest();
        }
        let slot = self.carts.entry(owner.id).or_insert_with(|| self.start_actor(owner));
        self.mark_used(&slot.state);
        slot.clone()
    }

    fn start_actor(&self, owner: CartOwner) -> ActiveCart {
        let state = Arc::new(CartState::new(owner));
        let actor = CartActor::new(Arc::clone(&state), Arc::clone(&self.deps));
        let address = CartActor::start_in_arbiter(&self.arbiter_for(owner.id), |_| actor);
        ActiveCart { actor: address, state }
    }

    /// The thread that `owner`'s actor lives on; a new one when it has died.
    fn arbiter_for(&self, owner: UserId) -> ArbiterHandle {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(owner);
        let index = usize::try_from(hash).unwrap_or(0) % self.arbiters.len().max(1);
        let Some(place) = self.arbiters.get(index) else { return Arbiter::new().handle() };
        let handle = place.load();
        if handle.spawn(async {}) {
            return (**handle).clone();
        }
        tracing::error!(
            thread = index,
            "a thread of cart actors has died and is replaced; their carts are read from the store"
        );
        let fresh = Arc::new(Arbiter::new().handle());
        place.store(Arc::clone(&fresh));
        (*fresh).clone()
    }

    fn remove_dead_actor(&self, owner: UserId, slot: &ActiveCart) {
        self.carts.remove_if(&owner, |_, held| Arc::ptr_eq(&held.state, &slot.state));
    }

    fn mark_used(&self, state: &CartState) {
        let now = u32::try_from(self.started_at.elapsed().as_secs()).unwrap_or(u32::MAX);
        state.last_used.store(now, Ordering::Relaxed);
    }

    /// Stops the actors that were not used for `idle`. Their messages so far are answered; their state is in the store.
    pub fn passivate_idle(&self, idle: Duration) {
        let now = self.started_at.elapsed();
        let is_idle = |slot: &ActiveCart| {
            let used = Duration::from_secs(u64::from(slot.state.last_used.load(Ordering::Relaxed)));
            now.saturating_sub(used) >= idle
        };
        let ids: Vec<UserId> = self
            .carts
            .iter()
            .filter(|entry| is_idle(entry.value()))
            .map(|entry| *entry.key())
            .collect();
        for id in ids {
            self.stop_actor(id, is_idle);
        }
    }

    fn passivate_oldest(&self) {
        let mut ages: Vec<(u32, UserId)> = self
            .carts
            .iter()
            .map(|entry| (entry.value().state.last_used.load(Ordering::Relaxed), *entry.key()))
            .collect();
        let oldest = MAX_ACTIVE_CARTS / 10;
        if ages.len() > oldest {
            ages.select_nth_unstable(oldest);
        }
        for (_, id) in ages.into_iter().take(oldest) {
            self.stop_actor(id, |_| true);
        }
    }

    /// Lets an actor go: it ends when it has answered the messages it has, since nobody else holds its address.
    fn stop_actor(&self, id: UserId, only_if: impl FnOnce(&ActiveCart) -> bool) {
        self.carts.remove_if(&id, |_, slot| only_if(slot));
    }
}
