//! Tests how actors end: by a panic, with their thread, or when their cart is idle.

use super::*;
use crate::actors::cart::actor::{PanicInCommand, PanicInThread};

#[actix_rt::test]
async fn panicking_command_returns_error_and_actor_continues() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let panicked: Result<(), Error> =
        carts.ask_actor(owner, PanicInCommand, &Ticket::new(MINUTE)).await;
    assert_eq!(panicked.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(reply_version(carts.change_cart(owner, shop.add_tea_message()).await.unwrap()), 2);
}

#[actix_rt::test]
async fn dead_arbiter_is_replaced_and_carts_reload_from_store() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    // The thread dies before it replies, so the outcome of the command is unknown.
    let ticket = Ticket::new(MINUTE);
    ticket.mark_started().unwrap();
    let lost: Result<(), Error> = carts.ask_actor(owner, PanicInThread, &ticket).await;
    assert_eq!(lost.unwrap_err().code, ErrorCode::OutcomeUnknown);
    for _ in 0..5 {
        let other = user_owner();
        carts.change_cart(other, shop.add_tea_message()).await.unwrap();
        assert_eq!(read_body(&carts, other).await, "1 1 2.50");
    }
    assert_eq!(read_body(&carts, owner).await, "1 1 2.50");
    assert_eq!(reply_version(carts.change_cart(owner, shop.add_tea_message()).await.unwrap()), 2);
}

#[actix_rt::test]
async fn passivated_cart_reloads_from_store() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    carts.passivate_idle(MINUTE);
    assert_eq!(carts.active_count(), 1, "the cart was just used");
    carts.passivate_idle(Duration::ZERO);
    assert_eq!(carts.active_count(), 0);
    assert_eq!(read_body(&carts, owner).await, "1 1 2.50");
}

#[actix_rt::test]
async fn rendered_carts_are_bounded_in_bytes() {
    let mut shop = CartFixture::open();
    shop.max_rendered_bytes = 4096;
    let carts = shop.start_observed_registry();
    let first = user_owner();
    carts.change_cart(first, shop.add_tea_message()).await.unwrap();
    let one = carts.memory.bytes();
    for _ in 0..50 {
        carts.change_cart(first, shop.add_tea_message()).await.unwrap();
    }
    assert!((1..2 * one).contains(&carts.memory.bytes()), "the last one counts");
    let owners: Vec<_> = (0..100).map(|_| user_owner()).collect();
    for owner in &owners {
        carts.change_cart(*owner, shop.add_tea_message()).await.unwrap();
        assert!(carts.memory.bytes() < 4096 + 2 * one);
    }
    assert_eq!(carts.active_count(), 101, "their actors stay");
    for owner in owners {
        assert_eq!(read_body(&carts, owner).await, "1 1 2.50");
    }
    assert_eq!(read_body(&carts, first).await, "51 51 127.50");
}
