//! The commands that read and change carts.

use std::sync::Arc;

use super::{
    CartDeps,
    state::{BuyerUses, CartState, RenderedCart},
};
use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, idempotency_record, is_conflict},
    cache::follower::Follower,
    domain::{
        account::Email,
        cart::{Cart, CartChange},
        ids::PromotionId,
        order::Buyer,
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::{
        cart::{CartView, ChangeCart, PricingChange, PricingCommand},
        command_context::{CommandContext, Reply},
    },
    store::{Commit, CommitError, CommitReceipt, Write, commit::StoredReplyBody},
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
        if let Some(view) = self.state.current_view(&self.deps) {
            view.cart.ensure_open()?;
            return Ok(view);
        }
        let cart = self.load_cart().await?;
        cart.ensure_open()?;
        self.load_buyer_uses(&cart.codes).await?;
        Ok(self.render_and_cache(cart))
    }

    pub(super) fn render_and_cache(&self, cart: Arc<Cart>) -> Arc<CartView> {
        let rendered = self.render(cart);
        self.state.cache_view(Arc::clone(&rendered));
        Arc::clone(&rendered.view)
    }

    fn render(&self, cart: Arc<Cart>) -> Arc<RenderedCart> {
        let uses_epoch = self.state.uses_epoch();
        self.deps.render_view(cart, self.state.buyer_uses().as_deref(), uses_epoch)
    }

    /// Reads how many of the owner's orders have promotions, unless it is known, or no promotion
    /// that applies by itself or by one of `codes` depends on it.
    async fn load_buyer_uses(&self, codes: &[String]) -> Result<(), Error> {
        let limited = self.deps.pricing_rules.current().limited_per_customer(codes);
        if limited.is_empty() {
            self.state.drop_buyer_uses();
            return Ok(());
        }
        // Those of a guest are known only from a checkout on.
        if self.state.owner.is_guest {
            return Ok(());
        }
        let known = self.state.current_buyer_uses();
        let is_known =
            |known: &Arc<BuyerUses>| limited.iter().all(|id| known.counts.contains_key(id));
        if !known.as_ref().is_some_and(is_known) {
            self.read_buyer_uses(self.find_buyer().await?, limited).await?;
        }
        Ok(())
    }

    async fn read_buyer_uses(
        &self,
        buyer: Buyer,
        limited: Vec<PromotionId>,
    ) -> Result<Arc<BuyerUses>, Error> {
        let ids = limited.into_iter().collect();
        let epoch = self.state.uses_epoch();
        let counts = self.deps.store.count_buyer_uses(buyer, ids).await?;
        Ok(self.state.set_buyer_uses(counts, epoch))
    }

    /// As [`load_buyer_uses`](Self::load_buyer_uses), but reads again what was known. A guest has
    /// no e-mail address before the checkout, so `buyer` is `None` until then.
    pub(super) async fn reload_buyer_uses(
        &self,
        codes: &[String],
        buyer: Option<Buyer>,
    ) -> Result<Option<Arc<BuyerUses>>, Error> {
        let limited = self.deps.pricing_rules.current().limited_per_customer(codes);
        if limited.is_empty() || (self.state.owner.is_guest && buyer.is_none()) {
            return Ok(None);
        }
        let buyer = match buyer {
            Some(buyer) => buyer,
            None => self.find_buyer().await?,
        };
        self.read_buyer_uses(buyer, limited).await.map(Some)
    }

    /// The owner, with the e-mail address of the account.
    async fn find_buyer(&self) -> Result<Buyer, Error> {
        let emails = self.find_account_email().await?.into_iter().collect();
        Ok(Buyer { user_id: self.state.owner.id, emails })
    }

    /// The e-mail address of the owner's account, from the store, since a change of it is in force
    /// at once. A guest has none.
    pub(super) async fn find_account_email(&self) -> Result<Option<Email>, Error> {
        let owner = self.state.owner;
        if owner.is_guest {
            return Ok(None);
        }
        Ok(self.deps.account_emails.find(owner.id).await?)
    }

    pub(super) async fn change_cart(
        &self,
        message: ChangeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let ChangeCart { command, context } = message;
        let decide = async || {
            let cart = self.load_cart().await?;
            self.check_if_match(&cart, &context).await?;
            self.check_idempotency_quota(&context).await?;
            let offer = |id| self.deps.catalog_cache.offer(id);
            match cart.decide(command, offer, self.deps.limits, self.deps.clock.now())? {
                Some(changed) => self.decide_commit(changed, &context).await,
                None => Ok(self.decide_no_change(cart, &context)),
            }
        };
        self.decide_and_commit(&context, self.deps.follower.as_deref(), decide).await
    }

    pub(super) async fn change_pricing(
        &self,
        message: PricingChange,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let PricingChange { command, context } = message;
        let decide = async || {
            let cart = self.load_cart().await?;
            self.check_if_match(&cart, &context).await?;
            self.check_idempotency_quota(&context).await?;
            let change = self.decide_pricing(&cart, &command).await?;
            match change {
                Some(changed) => self.decide_commit(changed, &context).await,
                None => Ok(self.decide_no_change(cart, &context)),
            }
        };
        self.decide_and_commit(&context, self.deps.follower.as_deref(), decide).await
    }

    async fn decide_pricing(
        &self,
        cart: &Cart,
        command: &PricingCommand,
    ) -> Result<Option<CartChange>, Error> {
        let (rules, now) = (self.deps.pricing_rules.current(), self.deps.clock.now());
        Ok(match command {
            PricingCommand::SetShipping(shipping) => {
                cart.set_shipping(shipping.clone(), &rules, now)?
            }
            PricingCommand::AddCode(code) => {
                let codes: Vec<String> = cart.codes.iter().chain([code]).cloned().collect();
                let uses = self.reload_buyer_uses(&codes, None).await?;
                let price = |cart: &Cart| self.deps.price_cart(cart, uses.as_deref()).breakdown;
                cart.add_code(code, &rules, price, now)?
            }
            PricingCommand::RemoveCode(code) => Some(cart.remove_code(code, now)?),
        })
    }

    pub(super) async fn check_if_match(
        &self,
        cart: &Arc<Cart>,
        context: &CommandContext,
    ) -> Result<(), Error> {
        let Some(if_match) = &context.if_match else { return Ok(()) };
        self.load_buyer_uses(&cart.codes).await?;
        let rendered = self.render(Arc::clone(cart));
        let view = &rendered.view;
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

    /// Builds the commit of a change of the cart.
    async fn decide_commit(
        &self,
        changed: CartChange,
        context: &CommandContext,
    ) -> Result<Decision<Arc<CartView>, impl FnOnce(CommitReceipt) -> Arc<CartView>>, Error> {
        let mut commit = self.new_commit(context);
        let cart = add_cart_change(&mut commit, changed);
        let rendered = self.add_reply(cart, &mut commit, context).await?;
        let state = Arc::clone(&self.state);
        Ok(Decision::Commit(Box::new(commit), move |_| {
            let view = Arc::clone(&rendered.view);
            state.cache_view(rendered);
            view
        }))
    }

    pub(super) fn new_commit(&self, context: &CommandContext) -> Commit {
        Commit {
            trace: context.trace.clone(),
            ..Commit::new(self.deps.clock.now(), context.ticket.deadline())
        }
    }

    /// Renders the cart as the reply to the command, and adds the reply to the commit.
    pub(super) async fn add_reply(
        &self,
        cart: Arc<Cart>,
        commit: &mut Commit,
        context: &CommandContext,
    ) -> Result<Arc<RenderedCart>, Error> {
        self.load_buyer_uses(&cart.codes).await?;
        let rendered = self.render(cart);
        let body = rendered.view.body.clone();
        self.count_reply(context, body.len());
        commit.idempotency_record = idempotency_record(context, StoredReplyBody::Ready(body));
        Ok(rendered)
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
            is_conflict: |error| {
                is_conflict(error) || matches!(error, CommitError::PromotionUsedUp(_))
            },
        };
        let invalidate = async || {
            self.state.invalidate();
            // Without other nodes, the rules know what is used.
            if self.deps.store.is_shared() {
                self.deps.pricing_rules.refresh_uses(&*self.deps.store).await?;
            }
            Ok(())
        };
        let reply = retry.retry_on_conflict(context, decide, invalidate).await;
        if reply.as_ref().is_err_and(|error| error.code == ErrorCode::OutcomeUnknown) {
            self.state.invalidate();
        }
        reply
    }
}

/// Adds a change of a cart to a commit.
pub(super) fn add_cart_change(commit: &mut Commit, (cart, event): CartChange) -> Arc<Cart> {
    let cart = Arc::new(cart);
    commit.writes.push(Write::Cart(Arc::clone(&cart)));
    commit.events.push(DomainEvent::Cart(Arc::clone(&cart), event));
    cart
}
