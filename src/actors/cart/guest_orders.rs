//! Moving a guest's orders to an account.

use std::sync::Arc;

use bytes::Bytes;

use super::service::CartService;
use crate::{
    actors::retry_on_conflict::Decision,
    domain::{
        ids::UserId,
        order::{Order, OrderFilter},
    },
    error::Error,
    events::DomainEvent,
    messages::{cart::MoveGuestOrders, command_context::Reply},
    store::{Commit, CommitReceipt, Write},
};

/// The orders that one commit moves.
pub(super) const MAX_MOVED_ORDERS: u32 = 100;

impl CartService {
    /// Moves a guest's orders without the cart.
    pub(super) async fn move_guest_orders(&self, message: MoveGuestOrders) -> Result<(), Error> {
        let MoveGuestOrders { guest_id, context } = message;
        loop {
            let decide = async || {
                self.load_cart().await?.ensure_open()?;
                let orders = self.list_guest_orders(guest_id, MAX_MOVED_ORDERS).await?;
                if orders.is_empty() {
                    return Ok(Decision::NoChange { reply: true, body: Bytes::new() });
                }
                let mut commit = self.new_commit(&context);
                self.add_moved_orders(guest_id, &orders, &mut commit);
                let is_last = orders.len() < MAX_MOVED_ORDERS as usize;
                Ok(Decision::Commit(Box::new(commit), move |_: CommitReceipt| is_last))
            };
            match self.decide_and_commit(&context, None, decide).await? {
                Reply::Completed(false) => {}
                Reply::Completed(true) | Reply::Replayed(_) => return Ok(()),
            }
        }
    }

    /// The guest's orders, the newest first.
    pub(super) async fn list_guest_orders(
        &self,
        guest: UserId,
        limit: u32,
    ) -> Result<Vec<Order>, Error> {
        Ok(self.deps.store.list_orders(OrderFilter::of_user(guest), None, limit).await?)
    }

    /// Adds the orders to a commit that moves them to the cart's owner.
    pub(super) fn add_moved_orders(&self, guest_id: UserId, orders: &[Order], commit: &mut Commit) {
        let user_id = self.state.owner.id;
        for order in orders {
            let moved = Arc::new(order.moved_to(user_id, commit.decided_at));
            commit.writes.push(Write::Order(Arc::clone(&moved)));
            commit.events.push(DomainEvent::OrderOwnerChanged(moved));
        }
        if !orders.is_empty() {
            commit.writes.push(Write::ReassignGuestReplies { guest_id, user_id });
        }
    }
}
