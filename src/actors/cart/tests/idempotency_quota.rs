//! Tests the limits on what is stored under the keys of one user.

use super::*;
use crate::{actors::cart::IdempotencyQuota, messages::command_context::IdempotencyKey};

const QUOTA: IdempotencyQuota = IdempotencyQuota { max_keys: 3, max_bytes: 0, max_guest_bytes: 8 };

fn keyed_add(shop: &CartFixture, owner: CartOwner, key: &str) -> ChangeCart {
    let ChangeCart { command, context } = shop.add_tea_message();
    let idempotency_key = Some(IdempotencyKey {
        owner: owner.id,
        key: key.into(),
        fingerprint: [1; 32],
        received_at: Timestamp::default(),
    });
    ChangeCart { command, context: CommandContext { idempotency_key, ..context } }
}

fn refused_code(reply: Result<Reply<Arc<CartView>>, Error>) -> Option<ErrorCode> {
    reply.err().map(|error| error.code)
}

#[actix_rt::test]
async fn keys_beyond_the_quota_are_refused_for_a_day() {
    let mut shop = CartFixture::open();
    shop.idempotency_quota = QUOTA;
    let (carts, owner) = (shop.start_registry(), user_owner());
    for key in ["a", "b", "c"] {
        assert!(carts.change_cart(owner, keyed_add(&shop, owner, key)).await.is_ok());
    }
    let refused = carts.change_cart(owner, keyed_add(&shop, owner, "d")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert!(refused.retry_after.is_some());
    let replayed = carts.change_cart(owner, keyed_add(&shop, owner, "a")).await.unwrap();
    assert!(matches!(replayed, Reply::Replayed(_)), "a repeat still gets its reply");
    assert!(carts.change_cart(owner, shop.add_tea_message()).await.is_ok(), "without a key");
    let cart = shop.store.find_cart(owner.id).await.unwrap().unwrap();
    assert_eq!(cart.lines[0].quantity, 4, "the refused change is not applied");
    // Another node, and this one after a restart, count what is stored.
    let restarted = shop.start_registry();
    let reply = restarted.change_cart(owner, keyed_add(&shop, owner, "d")).await;
    assert_eq!(refused_code(reply), Some(ErrorCode::RateLimited));
    let day = 24 * 60 * 60 * 1000;
    shop.clock.0.fetch_add(day, Ordering::Relaxed);
    for carts in [carts, restarted] {
        assert_eq!(refused_code(carts.change_cart(owner, shop.add_tea_message()).await), None);
    }
    let carts = shop.start_registry();
    assert_eq!(refused_code(carts.change_cart(owner, keyed_add(&shop, owner, "e")).await), None);
}

#[actix_rt::test]
async fn guests_have_a_quota_of_bytes() {
    let mut shop = CartFixture::open();
    shop.idempotency_quota = QUOTA;
    let carts = shop.start_registry();
    let guest = CartOwner { is_guest: true, ..user_owner() };
    assert!(carts.change_cart(guest, keyed_add(&shop, guest, "a")).await.is_ok());
    let reply = carts.change_cart(guest, keyed_add(&shop, guest, "b")).await;
    assert_eq!(refused_code(reply), Some(ErrorCode::RateLimited));
}

#[actix_rt::test]
async fn few_requests_need_no_count_from_the_store() {
    let mut shop = CartFixture::open();
    shop.idempotency_quota = IdempotencyQuota { max_keys: 32, max_bytes: 0, max_guest_bytes: 0 };
    let owner = user_owner();
    let first_refused = async |carts: Arc<CartRegistry>, prefix: &str| {
        for number in 0.. {
            let add = keyed_add(&shop, owner, &format!("{prefix}{number}"));
            if refused_code(carts.change_cart(owner, add).await).is_some() {
                return number;
            }
        }
        unreachable!("the quota is finite");
    };
    assert_eq!(first_refused(shop.start_registry(), "a").await, 32);
    // A cart that is loaded anew is counted once it has used a sixteenth.
    assert_eq!(first_refused(shop.start_registry(), "b").await, 2);
}
