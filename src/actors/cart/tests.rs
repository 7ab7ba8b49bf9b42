//! Tests the cart actors on a real store.

mod checkout;
mod fixture;
mod idempotency_quota;
mod lifecycle;
mod merge;
mod promotions;
mod several_nodes;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use self::fixture::{CartFixture, MINUTE, commit_tea, read_body, reply_version, usd, user_owner};
use super::CartRegistry;
use crate::{
    domain::{
        cart::{CartCommand, CartOwner},
        catalog::product::ProductDetails,
        clock::{Clock, SystemClock, Timestamp},
        ids::UserId,
        money::Money,
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::{
        cart::{CartView, ChangeCart},
        command_context::{CommandContext, Reply, Ticket},
    },
    store::{Commit, Write},
};

#[actix_rt::test]
async fn parallel_adds_all_apply() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    let replies =
        join_all((0..100).map(|_| carts.change_cart(owner, shop.add_tea_message()))).await;
    let mut versions: Vec<u64> =
        replies.into_iter().map(|reply| reply_version(reply.unwrap())).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=100).collect::<Vec<_>>());
    assert_eq!(read_body(&carts, owner).await, "100 100 250.00");
}

#[actix_rt::test]
async fn expired_command_changes_nothing() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    let context = CommandContext::internal(Duration::ZERO);
    let late = ChangeCart { context, ..shop.add_tea_message() };
    assert_eq!(carts.change_cart(owner, late).await.unwrap_err().code, ErrorCode::Overloaded);
    assert_eq!(read_body(&carts, owner).await, "0 0 0.00");
    assert_eq!(shop.store.find_cart(owner.id).await.unwrap(), None);
}

#[actix_rt::test]
async fn price_change_invalidates_cached_cart() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let before = carts.read_cart(owner, &Ticket::new(MINUTE)).await.unwrap();
    let tea = shop.catalog_cache.get(shop.tea).unwrap();
    let details = ProductDetails {
        price: Money::parse("3.00", usd()).unwrap(),
        ..tea.product.details.clone()
    };
    let dearer = tea.product.with_details(details, Timestamp::default()).unwrap();
    shop.catalog_cache.put(Arc::new(dearer), tea.stock);
    let after = carts.read_cart(owner, &Ticket::new(MINUTE)).await.unwrap();
    assert_eq!(after.body, "1 1 3.00");
    assert_ne!(after.etag, before.etag);
    assert_eq!(after.cart.version, before.cart.version);
}

#[actix_rt::test]
async fn idle_cart_is_marked_abandoned_once() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    assert_eq!(carts.mark_abandoned_carts(MINUTE).await.unwrap(), 0);
    shop.clock.0.store(61_000, Ordering::Relaxed);
    assert_eq!(carts.mark_abandoned_carts(MINUTE).await.unwrap(), 1);
    assert_eq!(carts.mark_abandoned_carts(MINUTE).await.unwrap(), 0);
    assert_eq!(read_body(&carts, owner).await, "2 1 2.50");
}
