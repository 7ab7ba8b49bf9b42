//! The actor of one cart. It runs the commands on the cart one at a time.

use std::sync::Arc;

use actix::{Actor, AtomicResponse, Context, Handler, WrapFuture};
use tracing::Instrument as _;

use super::{CartDeps, service::CartService, state::CartState};
use crate::{
    actors::mailbox::accept_queued,
    error::{Error, ErrorCode},
    messages::{
        cart::{
            CartView, ChangeCart, GetCart, MergeCart, MoveGuestOrders, PlaceOrder, PlacedOrder,
            PricingChange,
        },
        command_context::Reply,
    },
    metrics::actors::MailboxMetrics,
    panics::guarded_command,
};

/// Runs the commands on one cart.
///
/// Its only state is the shared `CartState`. If a command panics, the actor logs the panic, returns
/// an error, and drops the cached cart, so that the next command reads the store.
pub struct CartActor {
    state: Arc<CartState>,
    deps: Arc<CartDeps>,
}

/// Panics inside a command. The actor must survive.
#[cfg(test)]
#[derive(actix::Message)]
#[rtype(result = "Result<(), Error>")]
#[derive(Clone)]
pub(super) struct PanicInCommand;

/// Panics outside any command, which ends the thread and all its actors.
#[cfg(test)]
#[derive(actix::Message)]
#[rtype(result = "Result<(), Error>")]
#[derive(Clone)]
pub(super) struct PanicInThread;

impl CartActor {
    pub(super) const fn new(state: Arc<CartState>, deps: Arc<CartDeps>) -> Self {
        Self { state, deps }
    }

    fn mailbox(&self) -> &MailboxMetrics {
        &self.deps.mailbox
    }

    /// Completes `work` before the next message. The actor survives a panic in `work`.
    fn run_exclusively<T: 'static>(
        &self,
        work: impl AsyncFnOnce(CartService) -> Result<T, Error> + 'static,
    ) -> AtomicResponse<Self, Result<T, Error>> {
        let cart = CartService { state: Arc::clone(&self.state), deps: Arc::clone(&self.deps) };
        let state = Arc::clone(&self.state);
        let guarded = async move {
            let _guard = state.change_lock.lock().await;
            // Boxed, because a command's future is large, and each layer around it would copy it.
            let reply = guarded_command("cart", Box::pin(work(cart))).await;
            if reply.as_ref().is_err_and(|error| error.code == ErrorCode::Internal) {
                state.invalidate();
            }
            reply
        };
        AtomicResponse::new(Box::pin(guarded.in_current_span().into_actor(self)))
    }
}

impl Actor for CartActor {
    type Context = Context<Self>;
}

accept_queued!(
    CartActor,
    mailbox,
    GetCart,
    ChangeCart,
    PricingChange,
    MergeCart,
    MoveGuestOrders,
    PlaceOrder
);

#[cfg(test)]
accept_queued!(CartActor, mailbox, PanicInCommand, PanicInThread);

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

impl Handler<PricingChange> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<Arc<CartView>>, Error>>;

    fn handle(&mut self, message: PricingChange, _: &mut Self::Context) -> Self::Result {
        self.run_exclusively(async move |cart| cart.change_pricing(message).await)
    }
}

impl Handler<MergeCart> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<Arc<CartView>>, Error>>;

    fn handle(&mut self, message: MergeCart, _: &mut Self::Context) -> Self::Result {
        self.run_exclusively(async move |cart| cart.merge_guest_cart(message).await)
    }
}

impl Handler<MoveGuestOrders> for CartActor {
    type Result = AtomicResponse<Self, Result<(), Error>>;

    fn handle(&mut self, message: MoveGuestOrders, _: &mut Self::Context) -> Self::Result {
        self.run_exclusively(async move |cart| cart.move_guest_orders(message).await)
    }
}

impl Handler<PlaceOrder> for CartActor {
    type Result = AtomicResponse<Self, Result<Reply<PlacedOrder>, Error>>;

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
