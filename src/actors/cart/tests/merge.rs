//! Tests merging a guest's cart into an account's cart.

use super::{checkout::check_out, *};
use crate::{
    domain::{account::User, order::OrderFilter},
    messages::cart::MergeCart,
};

fn guest_owner() -> CartOwner {
    CartOwner { id: UserId::new(), is_guest: true }
}

fn merge_message(guest: CartOwner) -> MergeCart {
    MergeCart { guest_id: guest.id, context: CommandContext::internal(MINUTE) }
}

#[actix_rt::test]
async fn merge_closes_guest_cart_for_its_own_actor() {
    let shop = CartFixture::open();
    let (carts, owner, visitor) = (shop.start_observed_registry(), user_owner(), guest_owner());
    carts.change_cart(visitor, shop.add_tea_message()).await.unwrap();
    assert_eq!(read_body(&carts, visitor).await, "1 1 2.50");
    assert_eq!(
        reply_version(carts.merge_guest_cart(owner, merge_message(visitor)).await.unwrap()),
        1
    );
    let closed = carts.read_cart(visitor, &Ticket::new(MINUTE)).await.unwrap_err();
    assert_eq!(closed.code, ErrorCode::GuestCartMerged);
    assert_eq!(
        carts.change_cart(visitor, shop.add_tea_message()).await.unwrap_err().code,
        ErrorCode::GuestCartMerged
    );
    let stranger = carts.merge_guest_cart(user_owner(), merge_message(visitor)).await.unwrap_err();
    assert_eq!(stranger.code, ErrorCode::GuestCartMerged);
    assert_eq!(
        reply_version(carts.merge_guest_cart(owner, merge_message(visitor)).await.unwrap()),
        1,
        "a repeat changes nothing"
    );
}

#[actix_rt::test]
async fn guest_cart_merges_into_only_one_of_fifty_accounts() {
    let shop = CartFixture::open();
    let (carts, visitor) = (shop.start_observed_registry(), guest_owner());
    carts.change_cart(visitor, shop.add_tea_message()).await.unwrap();
    let users: Vec<CartOwner> = (0..50).map(|_| user_owner()).collect();
    let merges =
        join_all(users.iter().map(|owner| carts.merge_guest_cart(*owner, merge_message(visitor))))
            .await;
    assert_eq!(merges.iter().filter(|merged| merged.is_ok()).count(), 1);
    assert!(
        merges
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.code == ErrorCode::GuestCartMerged)
    );
}

/// Waits until an owner has so many orders.
async fn wait_for_orders(shop: &CartFixture, owner: CartOwner, count: usize) {
    let reached = async {
        let list = || shop.store.list_orders(OrderFilter::of_user(owner.id), None, 10);
        while list().await.unwrap().len() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE, reached).await.unwrap();
}

#[actix_rt::test]
async fn orders_move_although_the_merge_has_used_up_the_time() {
    let shop = CartFixture::open();
    let (carts, owner, visitor) = (shop.start_observed_registry(), user_owner(), guest_owner());
    commit_tea(&shop).await;
    let user = User { id: owner.id, ..User::sample(Timestamp::default()) };
    let commit = Commit::new(shop.clock.now(), Instant::now() + MINUTE);
    shop.writer
        .commit(Commit { writes: vec![Write::User(Arc::new(user))], ..commit })
        .await
        .unwrap();
    carts.change_cart(visitor, shop.add_tea_message()).await.unwrap();
    check_out(&carts, visitor).await.unwrap();
    carts.change_cart(visitor, shop.add_tea_message()).await.unwrap();
    let late =
        MergeCart { guest_id: visitor.id, context: CommandContext::internal(Duration::ZERO) };
    assert!(!carts.take_over_guest(owner, late).await);
    wait_for_orders(&shop, owner, 1).await;
    // The cart and what the guest orders meanwhile come with the next login.
    check_out(&carts, visitor).await.unwrap();
    assert!(carts.take_over_guest(owner, merge_message(visitor)).await);
    wait_for_orders(&shop, owner, 2).await;
}
