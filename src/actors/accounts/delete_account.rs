//! The command that deletes an account, and what tells whose it was.

use std::sync::Arc;

use super::{
    change_password::{MAX_ENDED_SESSIONS, session_ended},
    change_rights::{add_revocations, wait_for_other_nodes},
    service::{AccountService, invalid_credentials, with_next_version},
};
use crate::{
    actors::{orders::add_transition, retry_on_conflict::Decision},
    domain::{
        account::{Email, RevocationReason, User},
        cart::{Cart, CartOwner},
        order::{BuyerKey, CancelledBy, Order, OrderCommand, OrderStatus, OrderTransition},
    },
    error::Error,
    events::DomainEvent,
    messages::accounts::DeleteAccount,
    store::{Commit, Condition, StoreUnavailable, Write},
};

/// The pending orders that one commit cancels. `orders.max_pending` is usually lower.
const MAX_CANCELLED_ORDERS: u32 = 100;

impl AccountService {
    /// Deletes an account. Its unpaid orders are cancelled. While one is paid and not shipped, the
    /// shop owes something to somebody, and has to know whom to send it to. Guests' orders do not
    /// count: strangers may have placed them with the account's e-mail address.
    pub(super) async fn delete_account(&self, message: DeleteAccount) -> Result<(), Error> {
        let DeleteAccount { user_id, current_password, address, ticket, trace } = message;
        let user = self.deps.store.find_user(user_id).await?.ok_or_else(session_ended)?;
        let origin = self.login_limiter.find_origin(Some(&user.email), Some(&user), address);
        let attempt = self.login_limiter.admit_login(&origin, ticket.deadline()).await?;
        let hash_origin = origin.hash_origin;
        let verified =
            self.verify_credentials(Some(user), &current_password, hash_origin, &ticket).await?;
        let Some(verified) = verified else {
            attempt.count_failure().await?;
            return Err(invalid_credentials());
        };
        attempt.confirm_success().await?;
        let mut user = verified.user;
        let _guard = self.lock_account(user_id).await;
        // Usually the first step is the last one. An account with more sessions or unpaid orders
        // than a commit may end loses those before; if the shop stops in between, it is still
        // there, and can be deleted again.
        loop {
            let decide = async || {
                self.reverify_credentials(&mut user, &current_password, hash_origin, &ticket)
                    .await?;
                let commit = self.build_commit(&ticket, trace.clone());
                let (is_last, commit) = self.build_deletion(&user, commit).await?;
                Ok(Decision::Commit(Box::new(commit), move |_| is_last))
            };
            if self.decide_and_commit(&ticket, decide).await? {
                break;
            }
        }
        wait_for_other_nodes(&*self.deps.store).await;
        Ok(())
    }

    /// Some of the orders of an account that are unpaid, or paid and not shipped, and of the unpaid
    /// ones that guests have placed with its verified e-mail address.
    async fn list_unfinished_orders(&self, user: &User) -> Result<Vec<Order>, StoreUnavailable> {
        let guests = verified_email(user).map(BuyerKey::GuestEmail);
        let mut orders = Vec::new();
        for key in std::iter::once(BuyerKey::User(user.id)).chain(guests) {
            orders.extend(self.deps.store.list_unfinished_orders(key, MAX_CANCELLED_ORDERS).await?);
        }
        orders.truncate(MAX_CANCELLED_ORDERS as usize);
        Ok(orders)
    }

    /// Adds a step of a deletion to a commit. Returns whether it is the last one.
    async fn build_deletion(
        &self,
        user: &User,
        mut commit: Commit,
    ) -> Result<(bool, Commit), Error> {
        let store = &self.deps.store;
        // Before the orders: a checkout in between changes the cart, so that this commit conflicts.
        let cart = store.find_cart(user.id).await?;
        let orders = self.list_unfinished_orders(user).await?;
        if orders.iter().any(|order| OrderStatus::TO_SHIP.contains(&order.status)) {
            return Err(Error::orders_open());
        }
        for order in &orders {
            cancel_order(order, &mut commit)?;
        }
        let mut changed = with_next_version(user);
        let reason = RevocationReason::AccountDeleted;
        let ended = add_revocations(&**store, &mut changed, reason, &mut commit).await?;
        commit
            .conditions
            .push(Condition::NoOpenOrders { user_id: user.id, guest_email: verified_email(user) });
        if user.rights().is_active_admin() {
            commit.conditions.push(Condition::OtherAdminRemains(user.id));
        }
        let is_last = ended < MAX_ENDED_SESSIONS && orders.len() < MAX_CANCELLED_ORDERS as usize;
        if is_last {
            let owner = CartOwner { id: user.id, is_guest: false };
            let cart = cart.unwrap_or_else(|| Cart::empty(owner));
            let (cart, event) = cart.close(commit.decided_at);
            let cart = Arc::new(cart);
            commit.writes.push(Write::Cart(Arc::clone(&cart)));
            commit.events.push(DomainEvent::Cart(cart, event));
            commit.events.push(DomainEvent::UserDeleted {
                user_id: user.id,
                sequence: changed.event_sequence + 1,
            });
            commit.writes.push(Write::EraseAccount(Arc::new(user.clone())));
        } else {
            commit.writes.push(Write::User(Arc::new(changed)));
        }
        Ok((is_last, commit))
    }
}

/// The e-mail address whose guests' orders are the account's, too.
fn verified_email(user: &User) -> Option<Email> {
    user.email_verified.then(|| user.email.clone())
}

fn cancel_order(order: &Order, commit: &mut Commit) -> Result<(), Error> {
    let cancelled = order.decide(OrderCommand::Cancel(CancelledBy::Owner), commit.decided_at)?;
    let OrderTransition { order, stock_changes, uses } = cancelled;
    add_transition(&Arc::new(order), stock_changes, uses, commit);
    Ok(())
}
