//! One user's cart: every change to it comes through here, one after the other.

use std::sync::Arc;

use actix::{Actor, AtomicResponse, Context, Handler, WrapFuture};

use super::{CartDeps, CartState};
use crate::{
    actors::{
        ask::survive,
        commit_error::{MAX_ATTEMPTS, failure, unless_repeated},
    },
    cache::follower::SecondThought,
    domain::{
        cart::{Cart, CartRefusal, Changed, Merge, Owner},
        order::Order,
    },
    error::{Error, ErrorCode},
    events::Fact,
    messages::{
        cart::{CartView, ChangeCart, CheckOut, GetCart, MergeCart},
        change::{Change, Reply},
    },
    store::{
        Commit, CommitError, Write,
        commit::{Remember, RememberedBody},
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
    fn in_turn<T: 'static>(
        &self,
        work: impl AsyncFnOnce(CartWork) -> Result<T, Error> + 'static,
    ) -> AtomicResponse<Self, Result<T, Error>> {
        let cart = CartWork { state: Arc::clone(&self.state), deps: Arc::clone(&self.deps) };
        let state = Arc::clone(&self.state);
        let guarded = async move {
            let _turn = state.turn.lock().await;
            let answer = survive("cart", work(cart)).await;
            if answer.as_ref().is_err_and(|error| error.code == ErrorCode::Internal) {
                state.forget();
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
        self.in_turn(async |cart| cart.read().await)
    }
}

impl Handler<ChangeCart> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<Arc<CartView>>, Error>>;

    fn handle(&mut self, message: ChangeCart, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |cart| cart.change(message).await)
    }
}

impl Handler<MergeCart> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<Arc<CartView>>, Error>>;

    fn handle(&mut self, message: MergeCart, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |cart| cart.merge(message).await)
    }
}

impl Handler<CheckOut> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<Arc<Order>>, Error>>;

    fn handle(&mut self, message: CheckOut, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |cart| cart.check_out(message).await)
    }
}

#[cfg(test)]
impl Handler<PanicInCommand> for CartActor {
    type Result = AtomicResponse<Self, Result<(), Error>>;

    fn handle(&mut self, _: PanicInCommand, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async |_| panic!("made for a test"))
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
pub(super) struct CartWork {
    pub(super) state: Arc<CartState>,
    pub(super) deps: Arc<CartDeps>,
}

impl CartWork {
    /// The cart, from memory or the store.
    pub(super) async fn cart(&self) -> Result<Arc<Cart>, Error> {
        if let Some(cart) = self.state.cart() {
            return Ok(cart);
        }
        let owner = self.state.owner;
        let stored = self.deps.store.cart(owner.id).await?;
        Ok(Arc::new(stored.unwrap_or_else(|| Cart::untouched(owner))))
    }

    async fn read(&self) -> Result<Arc<CartView>, Error> {
        if let Some(view) = self.state.current(&self.deps.shelf) {
            view.cart.check_open()?;
            return Ok(view);
        }
        let cart = self.cart().await?;
        cart.check_open()?;
        Ok(self.show(cart))
    }

    pub(super) fn show(&self, cart: Arc<Cart>) -> Arc<CartView> {
        let (view, epoch) = self.deps.view(cart);
        self.state.show(Arc::clone(&view), epoch);
        view
    }

    async fn change(&self, message: ChangeCart) -> Result<Reply<Arc<CartView>>, Error> {
        let ChangeCart { command, change } = message;
        let mut second = SecondThought::of(self.deps.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let cart = self.cart().await?;
            let decided = self.check_if_match(&cart, &change).and_then(|()| {
                let offer = |id| self.deps.shelf.offer(id);
                cart.decide(command, offer, self.deps.limits, self.deps.clock.now())
                    .map_err(Error::from)
            });
            let changed = match decided {
                Ok(Some(changed)) => changed,
                _ if second.is_due().await? => continue,
                Ok(None) => return self.unless_repeated(&change, Ok(cart)).await,
                Err(error) => return self.unless_repeated(&change, Err(error)).await,
            };
            change.ticket.begin()?;
            if let Some(reply) = self.commit(Some(changed), None, &change).await? {
                return Ok(reply);
            }
        }
        Err(failure(CommitError::Conflict))
    }

    async fn merge(&self, message: MergeCart) -> Result<Reply<Arc<CartView>>, Error> {
        let MergeCart { guest, change } = message;
        let guest = Owner { id: guest, guest: true };
        let mut second = SecondThought::of(self.deps.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let cart = self.cart().await?;
            // The guest's actor may be on another thread or node; the store is the truth for both.
            let other =
                self.deps.store.cart(guest.id).await?.unwrap_or_else(|| Cart::untouched(guest));
            let decided = self.check_if_match(&cart, &change).and_then(|()| {
                let now = self.deps.clock.now();
                cart.merge(&other, self.deps.limits, now).map_err(|refusal| merge_error(&refusal))
            });
            let Merge { user, guest } = match decided {
                Err(_) | Ok(Merge { user: None, .. }) if second.is_due().await? => continue,
                Ok(Merge { user: None, guest: None }) => {
                    return self.unless_repeated(&change, Ok(cart)).await;
                }
                Ok(merge) => merge,
                Err(error) => return self.unless_repeated(&change, Err(error)).await,
            };
            change.ticket.begin()?;
            if let Some(reply) = self.commit(user, guest, &change).await? {
                return Ok(reply);
            }
        }
        Err(failure(CommitError::Conflict))
    }

    pub(super) fn check_if_match(&self, cart: &Arc<Cart>, change: &Change) -> Result<(), Error> {
        let Some(wanted) = &change.if_match else { return Ok(()) };
        let (view, _) = self.deps.view(Arc::clone(cart));
        let version = cart.version.to_string();
        // The bare version is for clients that know it from the body.
        if wanted.allows_where(|tag| tag == view.etag || tag == version) {
            Ok(())
        } else {
            Err(Error::version_mismatch(&format!("\"{}\"", view.etag)))
        }
    }

    async fn unless_repeated(
        &self,
        change: &Change,
        decided: Result<Arc<Cart>, Error>,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let decided = decided.map(|cart| self.show(cart));
        unless_repeated(&*self.deps.store, change, decided).await
    }

    /// Makes a change durable; `None`: decided on an old version, to be decided again.
    async fn commit(
        &self,
        own: Option<Changed>,
        guest: Option<Changed>,
        change: &Change,
    ) -> Result<Option<Reply<Arc<CartView>>>, Error> {
        let mut commit = Commit {
            trace: change.trace.clone(),
            ..Commit::new(self.deps.clock.now(), change.ticket.deadline())
        };
        let mut put = |(cart, event): Changed| {
            let cart = Arc::new(cart);
            commit.writes.push(Write::Cart(Arc::clone(&cart)));
            commit.facts.push(Fact::Cart(Arc::clone(&cart), event));
            cart
        };
        let cart = match own {
            Some(own) => put(own),
            None => self.cart().await?,
        };
        guest.map(&mut put);
        let (view, epoch) = self.deps.view(cart);
        let remember = |key| Remember { key, body: RememberedBody::Ready(view.body.clone()) };
        commit.remember = change.key.clone().map(remember);
        self.settle(commit, || {
            self.state.show(Arc::clone(&view), epoch);
            view
        })
        .await
    }

    /// Makes a commit durable; what `done` makes of it is the answer. `None`: decided on an old version, which is forgotten.
    pub(super) async fn settle<T>(
        &self,
        commit: Commit,
        done: impl FnOnce() -> T,
    ) -> Result<Option<Reply<T>>, Error> {
        match self.deps.writer.commit(commit).await {
            Ok(_) => Ok(Some(Reply::Done(done()))),
            Err(CommitError::Replayed(answer)) => Ok(Some(Reply::Replayed(answer))),
            Err(CommitError::Conflict) => {
                self.state.forget();
                Ok(None)
            }
            Err(error) => {
                if error == CommitError::Unknown {
                    self.state.forget();
                }
                Err(failure(error))
            }
        }
    }
}

/// The same refusal in the words of somebody who merges.
fn merge_error(refusal: &CartRefusal) -> Error {
    match refusal {
        CartRefusal::GuestCartMerged => Error {
            detail: "Another account has taken this guest cart over.".into(),
            ..refusal.clone().into()
        },
        other => other.clone().into(),
    }
}
