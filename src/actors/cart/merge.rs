//! Merging a guest's cart into an account's.

use std::sync::Arc;

use super::{
    guest_orders::MAX_MOVED_ORDERS,
    service::{CartService, add_cart_change},
};
use crate::{
    actors::retry_on_conflict::Decision,
    domain::{
        cart::{Cart, CartError, CartMerge, CartOwner},
        ids::UserId,
    },
    error::Error,
    messages::{
        cart::{CartView, MergeCart},
        command_context::{CommandContext, Reply},
    },
    store::CommitReceipt,
};

impl CartService {
    /// Merges the cart and moves the orders in one commit, so that an order that the guest places
    /// meanwhile either moves, too, or is refused. Of a guest with very many orders, most move in
    /// commits before.
    pub(super) async fn merge_guest_cart(
        &self,
        message: MergeCart,
    ) -> Result<Reply<Arc<CartView>>, Error> {
        let MergeCart { guest_id, context } = message;
        let follower = self.deps.follower.as_deref();
        loop {
            let decide = async || self.decide_merge(guest_id, &context).await;
            match self.decide_and_commit(&context, follower, decide).await? {
                Reply::Completed(Some(view)) => return Ok(Reply::Completed(view)),
                Reply::Completed(None) => {}
                Reply::Replayed(reply) => return Ok(Reply::Replayed(reply)),
            }
        }
    }

    /// Decides the next step of a merge. Its reply is `None` if more orders are left to move.
    async fn decide_merge(
        &self,
        guest_id: UserId,
        context: &CommandContext,
    ) -> Result<
        Decision<Option<Arc<CartView>>, impl FnOnce(CommitReceipt) -> Option<Arc<CartView>>>,
        Error,
    > {
        let guest = CartOwner { id: guest_id, is_guest: true };
        let cart = self.load_cart().await?;
        // Read the guest cart from the store: its actor may be on another thread or node. It comes
        // before the orders, so that an order in between makes the commit conflict.
        let guest_cart = self.deps.store.find_cart(guest_id).await?;
        let guest_cart = guest_cart.unwrap_or_else(|| Cart::empty(guest));
        let mut orders = self.list_guest_orders(guest_id, MAX_MOVED_ORDERS + 1).await?;
        self.check_if_match(&cart, context).await?;
        self.check_idempotency_quota(context).await?;
        let offer = |id| self.deps.catalog_cache.offer(id);
        let merge = cart
            .merge(&guest_cart, offer, self.deps.limits, self.deps.clock.now())
            .map_err(|refusal| merge_error(&refusal))?;
        let CartMerge { user, guest } = merge;
        if user.is_none() && guest.is_none() && orders.is_empty() {
            let view = self.render_and_cache(cart);
            self.count_reply(context, view.body.len());
            return Ok(Decision::NoChange { body: view.body.clone(), reply: Some(view) });
        }
        let mut commit = self.new_commit(context);
        let is_last = orders.len() <= MAX_MOVED_ORDERS as usize;
        orders.truncate(MAX_MOVED_ORDERS as usize);
        self.add_moved_orders(guest_id, &orders, &mut commit);
        let mut rendered = None;
        if is_last {
            let user = user.map(|user| add_cart_change(&mut commit, user));
            guest.map(|guest| add_cart_change(&mut commit, guest));
            let cart = user.unwrap_or(cart);
            rendered = Some(self.add_reply(cart, &mut commit, context).await?);
        }
        let state = Arc::clone(&self.state);
        // The owner's orders may have promotions now that change what the cart comes to.
        let is_outdated = orders.iter().any(|order| order.charges.is_some());
        Ok(Decision::Commit(Box::new(commit), move |_: CommitReceipt| {
            let rendered = rendered?;
            let view = Arc::clone(&rendered.view);
            match is_outdated {
                true => state.invalidate(),
                false => state.cache_view(rendered),
            }
            Some(view)
        }))
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
