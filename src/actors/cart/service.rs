//! The commands that read, change and merge carts.

use std::sync::Arc;

use super::{CartDeps, state::CartState};
use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, idempotency_record, is_conflict},
    cache::follower::Follower,
    domain::cart::{Cart, CartChange, CartError, CartMerge, CartOwner},
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::{
        cart::{CartView, ChangeCart, MergeCart},
        command_context::{CommandContext, Reply},
    },
    store::{Commit, CommitReceipt, Write, commit::StoredReplyBody},
};

/// Runs one command on one cart.
pub(super) struct CartService {
    pub(super) state: Arc<CartState>,
    pub(super) deps: Arc<CartDeps>,
}

impl CartService {
    /// Loads the cart from memory or the store.
    pub(super) async fn load_cart(&self) -> Result<Arc<Cart>, Error> {
        if let Some(cart) = self.state.cached_cart() {
            return Ok(cart);
        }
        let owner = self.state.owner;
        let stored = self.deps.store.find_cart(owner.id).await?;
        Ok(Arc::new(stored.unwrap_or_else(|| Cart::empty(owner))))
    }

    pub(super) async fn read_view(&self) -> Result<Arc<CartView>, Error> {
        if let Some(view) = self.state.current_view(&self.deps.catalog_cache) {
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

    pub(super) async fn change_cart(
        &self,
        message: ChangeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ChangeCart { command, context } = message;
        let decide = async || {
            let cart = self.load_cart().await?;
            self.check_if_match(&cart, &context)?;
            self.check_reply_quota(&context).await?;
            let offer = |id| self.deps.catalog_cache.offer(id);
            match cart.decide(command, offer, self.deps.limits, self.deps.clock.now())? {
                Some(changed) => self.decide_commit(Some(changed), None, &context).await,
                None => Ok(self.decide_no_change(cart, &context)),
            }
        };
        self.decide_and_commit(&context, self.deps.follower.as_deref(), decide).await
    }

    pub(super) async fn merge_guest_cart(
        &self,
        message: MergeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let MergeCart { guest_id, context } = message;
        let guest = CartOwner { id: guest_id, is_guest: true };
        let decide = async || {
            let cart = self.load_cart().await?;
            // Read the guest cart from the store: its actor may be on another thread or node.
            let guest_cart =
                self.deps.store.find_cart(guest.id).await?.unwrap_or_else(|| Cart::empty(guest));
            self.check_if_match(&cart, &context)?;
            self.check_reply_quota(&context).await?;
            let offer = |id| self.deps.catalog_cache.offer(id);
            let merge = cart
                .merge(&guest_cart, offer, self.deps.limits, self.deps.clock.now())
                .map_err(|refusal| merge_error(&refusal))?;
            match merge {
                CartMerge { user: None, guest: None } => Ok(self.decide_no_change(cart, &context)),
                CartMerge { user, guest } => self.decide_commit(user, guest, &context).await,
            }
        };
        self.decide_and_commit(&context, self.deps.follower.as_deref(), decide).await
    }

    pub(super) fn check_if_match(
        &self,
        cart: &Arc<Cart>,
        context: &CommandContext,
    ) -> Result<(), Error> {
        let Some(if_match) = &context.if_match else { return Ok(()) };
        let (view, _) = self.deps.render_view(Arc::clone(cart));
        let version = cart.version.to_string();
        // Clients may also send the bare version, which the body contains.
        if if_match.matches_where(|tag| tag == view.etag || tag == version) {
            Ok(())
        } else {
            Err(Error::version_mismatch(&format!("\"{}\"", view.etag)))
        }
    }

    fn decide_no_change<F>(
        &self,
        cart: Arc<Cart>,
        context: &CommandContext,
    ) -> Decision<Arc<CartView>, F> {
        let view = self.render_and_cache(cart);
        self.count_reply(context, view.body.len());
        Decision::NoChange { body: view.body.clone(), reply: view }
    }

    /// Builds one commit that changes the user's cart, the guest's cart, or both.
    async fn decide_commit(
        &self,
        user: Option<CartChange>,
        guest: Option<CartChange>,
        context: &CommandContext,
    ) -> Result<Decision<Arc<CartView>, impl FnOnce(CommitReceipt) -> Arc<CartView>>, Error> {
        let mut commit = Commit {
            trace: context.trace.clone(),
            ..Commit::new(self.deps.clock.now(), context.ticket.deadline())
        };
        let mut add_change = |(cart, event): CartChange| {
            let cart = Arc::new(cart);
            commit.writes.push(Write::Cart(Arc::clone(&cart)));
            commit.events.push(DomainEvent::Cart(Arc::clone(&cart), event));
            cart
        };
        let cart = match user {
            Some(user) => add_change(user),
            None => self.load_cart().await?,
        };
        guest.map(&mut add_change);
        let (view, epoch) = self.deps.render_view(cart);
        self.count_reply(context, view.body.len());
        commit.idempotency_record =
            idempotency_record(context, StoredReplyBody::Ready(view.body.clone()));
        let state = Arc::clone(&self.state);
        Ok(Decision::Commit(Box::new(commit), move |_| {
            state.cache_view(Arc::clone(&view), epoch);
            view
        }))
    }

    /// Runs a command and retries conflicts. Drops the cached cart if it may be outdated.
    pub(super) async fn decide_and_commit<T, F: FnOnce(CommitReceipt) -> T>(
        &self,
        context: &CommandContext,
        follower: Option<&Follower>,
        decide: impl AsyncFnMut() -> Result<Decision<T, F>, Error>,
    ) -> Result<Reply<T>, Error> {
        let retry = CommandRetry {
            store: &*self.deps.store,
            writer: &self.deps.writer,
            clock: &*self.deps.clock,
            follower,
            is_conflict,
        };
        let invalidate = async || {
            self.state.invalidate();
            Ok(())
        };
        let reply = retry.retry_on_conflict(context, decide, invalidate).await;
        if reply.as_ref().is_err_and(|error| error.code == ErrorCode::OutcomeUnknown) {
            self.state.invalidate();
        }
        reply
    }
}

/// Rewords a refusal for the user who merges; the domain words it for the guest.
fn merge_error(refusal: &CartError) -> Error {
    match refusal {
        CartError::GuestCartMerged => Error {
            detail: "Another account has already merged this guest cart.".into(),
            ..refusal.clone().into()
        },
        other => other.clone().into(),
    }
}
