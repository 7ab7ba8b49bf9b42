//! One user's cart: every change to it comes through here, one after the other.

use std::sync::Arc;

use actix::{Actor, AtomicResponse, Context, Handler, WrapFuture};

use super::{CartDeps, CartState};
use crate::{
    actors::{
        ask::catch_panic,
        commit_error::{MAX_ATTEMPTS, map_commit_error, replay_or_reply},
    },
    cache::follower::SecondThought,
    domain::{
        cart::{Cart, CartChange, CartError, CartMerge, CartOwner},
        order::Order,
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::{
        cart::{CartView, ChangeCart, GetCart, MergeCart, PlaceOrder},
        change::{CommandContext, Reply},
    },
    store::{
        Commit, CommitError, Write,
        commit::{IdempotencyRecord, StoredResponseBody},
    },
};

/// The actor of one cart.
///
/// It keeps no message waiting for another cart's, and no state but what `CartState` shows; a panic inside a command is
/// answered with an error, logged, and the state forgotten, so that the user's next request starts afresh from the store.
pub struct CartActor {
    state: Arc<CartState>,
    deps: Arc<CartDeps>,
}

/// Panics inside a command, to show that the next one is served all the same.
#[cfg(test)]
#[derive(actix::Message)]
#[rtype(result = "Result<(), Error>")]
#[derive(Clone)]
pub(super) struct PanicInCommand;

/// Panics outside of any command, which ends the thread and all actors on it.
#[cfg(test)]
#[derive(actix::Message)]
#[rtype(result = "Result<(), Error>")]
#[derive(Clone)]
pub(super) struct PanicInThread;

impl CartActor {
    pub(super) const fn new(state: Arc<CartState>, deps: Arc<CartDeps>) -> Self {
        Self { state, deps }
    }

    /// Runs `work` to its end before the next message is looked at, and lives on when it panics.
    fn run_exclusively<T: 'static>(
        &self,
        work: impl AsyncFnOnce(CartService) -> Result<T, Error> + 'static,
    ) -> AtomicResponse<Self, Result<T, Error>> {
        let cart = CartService { state: Arc::clone(&self.state), deps: Arc::clone(&self.deps) };
        let state = Arc::clone(&self.state);
        let guarded = async move {
            let _turn = state.change_lock.lock().await;
            let answer = catch_panic("cart", work(cart)).await;
            if answer.as_ref().is_err_and(|error| error.code == ErrorCode::Internal) {
                state.invalidate();
            }
            answer
        };
        AtomicResponse::new(Box::pin(guarded.into_actor(self)))
    }
}

impl Actor for CartActor {
    type Context = Context<Self>;
}

impl Handler<GetCart> for CartActor {
    type Result = AtomicResponse<Self, Result<Arc<CartView>, Error>>;

    fn handle(&mut self, _: GetCart, _: &mut Self::Context) -> Self::Result {
        self.run_exclusively(async |cart| cart.read_view().await)
    }
}

impl Handler<ChangeCart> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<Arc<CartView>>, Error>>;

    fn handle(&mut self, message: ChangeCart, _: &mut Self::Context) -> Self::Result {
        self.run_exclusively(async move |cart| cart.change_cart(message).await)
    }
}

impl Handler<MergeCart> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<Arc<CartView>>, Error>>;

    fn handle(&mut self, message: MergeCart, _: &mut Self::Context) -> Self::Result {
        self.run_exclusively(async move |cart| cart.merge_guest_cart(message).await)
    }
}

impl Handler<PlaceOrder> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<Arc<Order>>, Error>>;

    fn handle(&mut self, message: PlaceOrder, _: &mut Self::Context) -> Self::Result {
        self.run_exclusively(async move |cart| cart.check_out(message).await)
    }
}

#[cfg(test)]
impl Handler<PanicInCommand> for CartActor {
    type Result = AtomicResponse<Self, Result<(), Error>>;

    fn handle(&mut self, _: PanicInCommand, _: &mut Self::Context) -> Self::Result {
        self.run_exclusively(async |_| panic!("made for a test"))
    }
}

#[cfg(test)]
impl Handler<PanicInThread> for CartActor {
    type Result = Result<(), Error>;

    fn handle(&mut self, _: PanicInThread, _: &mut Self::Context) -> Self::Result {
        panic!("made for a test")
    }
}

/// One message's work on a cart.
pub(super) struct CartService {
    pub(super) state: Arc<CartState>,
    pub(super) deps: Arc<CartDeps>,
}

impl CartService {
    /// The cart, from memory or the store.
    pub(super) async fn load_cart(&self) -> Result<Arc<Cart>, Error> {
        if let Some(cart) = self.state.cached_cart() {
            return Ok(cart);
        }
        let owner = self.state.owner;
        let stored = self.deps.store.find_cart(owner.id).await?;
        Ok(Arc::new(stored.unwrap_or_else(|| Cart::empty(owner))))
    }

    async fn read_view(&self) -> Result<Arc<CartView>, Error> {
        if let Some(view) = self.state.current_view(&self.deps.shelf) {
            view.cart.ensure_open()?;
            return Ok(view);
        }
        let cart = self.load_cart().await?;
        cart.ensure_open()?;
        Ok(self.render_and_cache(cart))
    }

    pub(super) fn render_and_cache(&self, cart: Arc<Cart>) -> Arc<CartView> {
        let (view, epoch) = self.deps.render_view(cart);
        self.state.cache_view(Arc::clone(&view), epoch);
        view
    }

    async fn change_cart(&self, message: ChangeCart) -> Result<Reply<Arc<CartView>>, Error> {
        let ChangeCart { command, context: change } = message;
        let mut second = SecondThought::of(self.deps.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let cart = self.load_cart().await?;
            let decided = self.check_if_match(&cart, &change).and_then(|()| {
                let offer = |id| self.deps.shelf.offer(id);
                cart.decide(command, offer, self.deps.limits, self.deps.clock.now())
                    .map_err(Error::from)
            });
            let changed = match decided {
                Ok(Some(changed)) => changed,
                _ if second.is_due().await? => continue,
                Ok(None) => return self.replay_or_view(&change, Ok(cart)).await,
                Err(error) => return self.replay_or_view(&change, Err(error)).await,
            };
            change.ticket.mark_started()?;
            if let Some(reply) = self.commit_change(Some(changed), None, &change).await? {
                return Ok(reply);
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    async fn merge_guest_cart(&self, message: MergeCart) -> Result<Reply<Arc<CartView>>, Error> {
        let MergeCart { guest_id: guest, context: change } = message;
        let guest = CartOwner { id: guest, is_guest: true };
        let mut second = SecondThought::of(self.deps.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let cart = self.load_cart().await?;
            // The guest's actor may be on another thread or node; the store is the truth for both.
            let other =
                self.deps.store.find_cart(guest.id).await?.unwrap_or_else(|| Cart::empty(guest));
            let decided = self.check_if_match(&cart, &change).and_then(|()| {
                let now = self.deps.clock.now();
                let offer = |id| self.deps.shelf.offer(id);
                cart.merge(&other, offer, self.deps.limits, now)
                    .map_err(|refusal| merge_error(&refusal))
            });
            let CartMerge { user, guest } = match decided {
                Err(_) | Ok(CartMerge { user: None, .. }) if second.is_due().await? => continue,
                Ok(CartMerge { user: None, guest: None }) => {
                    return self.replay_or_view(&change, Ok(cart)).await;
                }
                Ok(merge) => merge,
                Err(error) => return self.replay_or_view(&change, Err(error)).await,
            };
            change.ticket.mark_started()?;
            if let Some(reply) = self.commit_change(user, guest, &change).await? {
                return Ok(reply);
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    pub(super) fn check_if_match(
        &self,
        cart: &Arc<Cart>,
        change: &CommandContext,
    ) -> Result<(), Error> {
        let Some(wanted) = &change.if_match else { return Ok(()) };
        let (view, _) = self.deps.render_view(Arc::clone(cart));
        let version = cart.version.to_string();
        // The bare version is for clients that know it from the body.
        if wanted.matches_where(|tag| tag == view.etag || tag == version) {
            Ok(())
        } else {
            Err(Error::version_mismatch(&format!("\"{}\"", view.etag)))
        }
    }

    async fn replay_or_view(
        &self,
        change: &CommandContext,
        decided: Result<Arc<Cart>, Error>,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let decided = decided.map(|cart| self.render_and_cache(cart));
        replay_or_reply(&*self.deps.store, change, decided).await
    }

    /// Makes a change durable; `None`: decided on an old version, to be decided again.
    async fn commit_change(
        &self,
        own: Option<CartChange>,
        guest: Option<CartChange>,
        change: &CommandContext,
    ) -> Result<Option<Reply<Arc<CartView>>>, Error> {
        let mut commit = Commit {
            trace: change.trace.clone(),
            ..Commit::new(self.deps.clock.now(), change.ticket.deadline())
        };
        let mut put = |(cart, event): CartChange| {
            let cart = Arc::new(cart);
            commit.writes.push(Write::Cart(Arc::clone(&cart)));
            commit.events.push(DomainEvent::Cart(Arc::clone(&cart), event));
            cart
        };
        let cart = match own {
            Some(own) => put(own),
            None => self.load_cart().await?,
        };
        guest.map(&mut put);
        let (view, epoch) = self.deps.render_view(cart);
        let remember =
            |key| IdempotencyRecord { key, body: StoredResponseBody::Ready(view.body.clone()) };
        commit.idempotency_record = change.idempotency_key.clone().map(remember);
        self.commit_and_reply(commit, || {
            self.state.cache_view(Arc::clone(&view), epoch);
            view
        })
        .await
    }

    /// Makes a commit durable; what `done` makes of it is the answer. `None`: decided on an old version, which is forgotten.
    pub(super) async fn commit_and_reply<T>(
        &self,
        commit: Commit,
        done: impl FnOnce() -> T,
    ) -> Result<Option<Reply<T>>, Error> {
        match self.deps.writer.commit(commit).await {
            Ok(_) => Ok(Some(Reply::Completed(done()))),
            Err(CommitError::Replayed(answer)) => Ok(Some(Reply::Replayed(answer))),
            Err(CommitError::Conflict) => {
                self.state.invalidate();
                Ok(None)
            }
            Err(error) => {
                if error == CommitError::OutcomeUnknown {
                    self.state.invalidate();
                }
                Err(map_commit_error(error))
            }
        }
    }
}

/// The same refusal in the words of somebody who merges.
fn merge_error(refusal: &CartError) -> Error {
    match refusal {
        CartError::GuestCartMerged => Error {
            detail: "Another account has taken this guest cart over.".into(),
            ..refusal.clone().into()
        },
        other => other.clone().into(),
    }
}
