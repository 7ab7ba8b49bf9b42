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
    actors::ask::gave_up,
    domain::{cart::Owner, ids::UserId, order::Order},
    error::Error,
    messages::{
        cart::{CartView, ChangeCart, CheckOut, GetCart, MergeCart},
        change::{Reply, Ticket},
    },
    store::News,
};

/// Most carts kept in memory. Beyond, the longest unused make room.
const MAX_ACTIVE: usize = 250_000;

/// All active carts of this node.
pub struct CartRegistry {
    pub(super) deps: Arc<CartDeps>,
    carts: DashMap<UserId, Slot>,
    arbiters: Vec<ArcSwap<ArbiterHandle>>,
    began: Instant,
}

#[derive(Clone)]
struct Slot {
    address: Addr<CartActor>,
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
            began: Instant::now(),
        })
    }

    /// Reads a cart: from what its actor shows, or by asking it.
    ///
    /// # Errors
    /// The guest's cart was merged, or the store does not answer.
    pub async fn read(&self, owner: Owner, ticket: &Ticket) -> Result<Arc<CartView>, Error> {
        let shown = self.carts.get(&owner.id).and_then(|slot| {
            self.touch(&slot.state);
            slot.state.current(&self.deps.shelf)
        });
        match shown {
            Some(view) => {
                view.cart.check_open()?;
                Ok(view)
            }
            None => self.send(owner, GetCart, ticket).await,
        }
    }

    /// Changes a cart.
    ///
    /// # Errors
    /// The change is refused, or could not be made; see the error's code.
    pub async fn change(
        &self,
        owner: Owner,
        message: ChangeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ticket = message.change.ticket.clone();
        self.send(owner, message, &ticket).await
    }

    /// Makes an order of a cart.
    ///
    /// # Errors
    /// As with [`CartRegistry::change`].
    pub async fn check_out(
        &self,
        owner: Owner,
        message: CheckOut,
    ) -> Result<Reply<Arc<Order>>, Error> {
        let ticket = message.change.ticket.clone();
        self.send(owner, message, &ticket).await
    }

    /// Takes a guest's cart over.
    ///
    /// # Errors
    /// As with [`CartRegistry::change`].
    pub async fn merge(
        &self,
        owner: Owner,
        message: MergeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ticket = message.change.ticket.clone();
        // Meanwhile the guest's own changes wait. Each would be a conflict, and a busy guest has no end of them.
        let guest = self.find(Owner { id: message.guest, guest: true });
        let turn = tokio::time::timeout_at(ticket.deadline().into(), guest.state.turn.lock());
        let _turn = turn.await.map_err(|_| gave_up(&ticket))?;
        self.send(owner, message, &ticket).await
    }

    /// How many carts are active.
    #[must_use]
    pub fn active(&self) -> usize {
        self.carts.len()
    }

    /// Lets the carts know of new versions, whoever made them.
    pub fn apply(&self, news: &News) {
        for (owner, version) in &news.carts {
            if let Some(slot) = self.carts.get(owner) {
                slot.state.heard_of(*version);
            }
        }
    }

    /// Lets all actors go, so that every cart is read from the store again.
    pub fn forget(&self) {
        self.carts.clear();
    }

    /// Sends `message` to the owner's actor and waits for its answer until the ticket's deadline.
    pub(super) async fn send<M, T>(
        &self,
        owner: Owner,
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
            let slot = self.find(owner);
            let answer = tokio::time::timeout_at(
                ticket.deadline().into(),
                slot.address.send(message.clone()),
            )
            .await;
            match answer {
                Ok(Ok(answer)) => return answer,
                Ok(Err(MailboxError::Closed)) => {
                    self.discard(owner.id, &slot);
                    if !ticket.may_retry() {
                        return Err(Error::outcome_unknown());
                    }
                }
                Ok(Err(MailboxError::Timeout)) | Err(_) => return Err(gave_up(ticket)),
            }
        }
        Err(Error::overloaded())
    }

    fn find(&self, owner: Owner) -> Slot {
        if let Some(slot) = self.carts.get(&owner.id) {
            self.touch(&slot.state);
            return slot.clone();
        }
        if self.carts.len() >= MAX_ACTIVE {
            self.make_room();
        }
        let slot = self.carts.entry(owner.id).or_insert_with(|| self.begin(owner));
        self.touch(&slot.state);
        slot.clone()
    }

    fn begin(&self, owner: Owner) -> Slot {
        let state = Arc::new(CartState::new(owner));
        let actor = CartActor::new(Arc::clone(&state), Arc::clone(&self.deps));
        let address = CartActor::start_in_arbiter(&self.arbiter(owner.id), |_| actor);
        Slot { address, state }
    }

    /// The thread that `owner`'s actor lives on; a new one when it has died.
    fn arbiter(&self, owner: UserId) -> ArbiterHandle {
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

    fn discard(&self, owner: UserId, slot: &Slot) {
        self.carts.remove_if(&owner, |_, held| Arc::ptr_eq(&held.state, &slot.state));
    }

    fn touch(&self, state: &CartState) {
        let now = u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX);
        state.used.store(now, Ordering::Relaxed);
    }

    /// Stops the actors that were not used for `idle`. Their messages so far are answered; their state is in the store.
    pub fn passivate(&self, idle: Duration) {
        let now = self.began.elapsed();
        let is_idle = |slot: &Slot| {
            let used = Duration::from_secs(u64::from(slot.state.used.load(Ordering::Relaxed)));
            now.saturating_sub(used) >= idle
        };
        let ids: Vec<UserId> = self
            .carts
            .iter()
            .filter(|entry| is_idle(entry.value()))
            .map(|entry| *entry.key())
            .collect();
        for id in ids {
            self.stop(id, is_idle);
        }
    }

    fn make_room(&self) {
        let mut ages: Vec<(u32, UserId)> = self
            .carts
            .iter()
            .map(|entry| (entry.value().state.used.load(Ordering::Relaxed), *entry.key()))
            .collect();
        let oldest = MAX_ACTIVE / 10;
        if ages.len() > oldest {
            ages.select_nth_unstable(oldest);
        }
        for (_, id) in ages.into_iter().take(oldest) {
            self.stop(id, |_| true);
        }
    }

    /// Lets an actor go: it ends when it has answered the messages it has, since nobody else holds its address.
    fn stop(&self, id: UserId, only_if: impl FnOnce(&Slot) -> bool) {
        self.carts.remove_if(&id, |_, slot| only_if(slot));
    }
}
