//! Tests one cart on several nodes.

use super::*;
use crate::{cache::follower::Follower, messages::command_context::IdempotencyKey};

/// Two registries on one store that do not follow each other. Versions in the store order their
/// changes, and callers see no conflict.
#[actix_rt::test]
async fn concurrent_changes_on_two_nodes_all_apply() {
    let shop = CartFixture::open();
    let (a, b, owner) = (shop.start_registry(), shop.start_registry(), user_owner());
    for _ in 0..20 {
        let (one, other) = tokio::join!(
            a.change_cart(owner, shop.add_tea_message()),
            b.change_cart(owner, shop.add_tea_message())
        );
        assert_ne!(reply_version(one.unwrap()), reply_version(other.unwrap()));
    }
    assert_eq!(shop.store.find_cart(owner.id).await.unwrap().unwrap().lines[0].quantity, 40);
}

#[actix_rt::test]
async fn command_catches_up_before_refusing() {
    let shop = CartFixture::open();
    let (here, owner) = (shop.start_observed_registry(), user_owner());
    let (there, _) = shop.start_following_registry().await;
    commit_tea(&shop).await;
    assert_eq!(
        reply_version(there.change_cart(owner, shop.add_tea_message()).await.unwrap()),
        1,
        "the node did not know the product"
    );
    assert_eq!(reply_version(here.change_cart(owner, shop.add_tea_message()).await.unwrap()), 2);
    let clear = |carts: Arc<CartRegistry>| async move {
        let context = CommandContext::internal(MINUTE);
        reply_version(
            carts
                .change_cart(owner, ChangeCart { command: CartCommand::Clear, context })
                .await
                .unwrap(),
        )
    };
    assert_eq!(clear(Arc::clone(&here)).await, 3);
    assert_eq!(reply_version(here.change_cart(owner, shop.add_tea_message()).await.unwrap()), 4);
    assert_eq!(clear(there).await, 5, "the cart was empty in this node's cache");
}

/// A node, and another one that follows it and knows the tea.
async fn start_two_nodes(
    shop: &CartFixture,
) -> (Arc<CartRegistry>, Arc<CartRegistry>, Arc<Follower>) {
    let here = shop.start_observed_registry();
    let (there, follower) = shop.start_following_registry().await;
    commit_tea(shop).await;
    follower.catch_up().await.unwrap();
    (here, there, follower)
}

#[actix_rt::test]
async fn caught_up_node_shows_changes_of_other_nodes() {
    let shop = CartFixture::open();
    let (here, there, follower) = start_two_nodes(&shop).await;
    let owner = user_owner();
    there.change_cart(owner, shop.add_tea_message()).await.unwrap();
    here.change_cart(owner, shop.add_tea_message()).await.unwrap();
    assert_eq!(read_body(&there, owner).await, "1 1 2.50", "the cached cart");
    follower.catch_up().await.unwrap();
    assert_eq!(read_body(&there, owner).await, "2 2 5.00");
}

#[actix_rt::test]
async fn repeat_on_another_node_shows_its_change_there() {
    let shop = CartFixture::open();
    let (here, there, _) = start_two_nodes(&shop).await;
    let owner = user_owner();
    there.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let key = IdempotencyKey {
        owner: owner.id,
        key: "k".into(),
        fingerprint: [1; 32],
        received_at: Timestamp::default(),
    };
    let keyed = || {
        let ChangeCart { command, context } = shop.add_tea_message();
        let idempotency_key = Some(key.clone());
        ChangeCart { command, context: CommandContext { idempotency_key, ..context } }
    };
    here.change_cart(owner, keyed()).await.unwrap();
    let repeat = there.change_cart(owner, keyed()).await.unwrap();
    assert!(matches!(repeat, Reply::Replayed(_)));
    assert_eq!(read_body(&there, owner).await, "2 2 5.00");
}
