//! Tests checkout on a node that lags behind other nodes.

use std::sync::{Mutex, mpsc};

use tokio::sync::oneshot;

use super::*;
use crate::{
    domain::order::{CheckoutOptions, Order},
    messages::{cart::PlaceOrder, command_context::IdempotencyKey},
};

pub(super) async fn check_out(carts: &CartRegistry, owner: CartOwner) -> Result<Arc<Order>, Error> {
    check_out_for(carts, owner, None).await
}

/// Checks out, unless it costs more.
pub(super) async fn check_out_for(
    carts: &CartRegistry,
    owner: CartOwner,
    expected_total: Option<Money>,
) -> Result<Arc<Order>, Error> {
    let options = CheckoutOptions { expected_total, ..CheckoutOptions::default() };
    let context = CommandContext::internal(MINUTE);
    send_checkout(carts, owner, PlaceOrder { options, context }).await
}

/// Checks out under a key.
pub(super) async fn check_out_under(
    carts: &CartRegistry,
    owner: CartOwner,
    key: &str,
) -> Result<Arc<Order>, Error> {
    let key = IdempotencyKey {
        owner: owner.id,
        key: key.into(),
        fingerprint: [1; 32],
        received_at: Timestamp::default(),
    };
    let context = CommandContext { idempotency_key: Some(key), ..CommandContext::internal(MINUTE) };
    send_checkout(carts, owner, PlaceOrder { options: CheckoutOptions::default(), context }).await
}

async fn send_checkout(
    carts: &CartRegistry,
    owner: CartOwner,
    message: PlaceOrder,
) -> Result<Arc<Order>, Error> {
    carts.check_out(owner, message).await.map(|reply| match reply {
        Reply::Completed(placed) => placed.order,
        Reply::Replayed(_) => panic!("nothing was repeated"),
    })
}

#[actix_rt::test]
async fn checkout_uses_current_cart_and_prices() {
    let shop = CartFixture::open();
    let (here, owner) = (shop.start_observed_registry(), user_owner());
    let (there, follower) = shop.start_following_registry().await;
    commit_tea(&shop).await;
    follower.catch_up().await.unwrap();
    assert_eq!(check_out(&there, owner).await.unwrap_err().code, ErrorCode::CartEmpty);
    here.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let known = shop.store.find_product(shop.tea).await.unwrap().unwrap().0;
    let details =
        ProductDetails { price: Money::parse("3.00", usd()).unwrap(), ..known.details.clone() };
    let dearer = Arc::new(known.with_details(details, Timestamp::default()).unwrap());
    let commit = Commit::new(Timestamp::default(), Instant::now() + MINUTE);
    let (writes, events) =
        (vec![Write::Product(Arc::clone(&dearer))], vec![DomainEvent::Product(dearer)]);
    shop.writer.commit(Commit { writes, events, ..commit }).await.unwrap();
    let order = check_out(&there, owner).await.unwrap();
    assert_eq!(
        (order.total().to_string(), order.lines.len()),
        ("3.00".into(), 1),
        "the current price, not the cached price"
    );
    assert_eq!(
        check_out(&here, owner).await.unwrap_err().code,
        ErrorCode::CartEmpty,
        "the other node's checkout emptied the cart"
    );
    assert_eq!(reply_version(here.change_cart(owner, shop.add_tea_message()).await.unwrap()), 3);
}

#[actix_rt::test]
async fn concurrent_checkouts_sell_each_unit_once() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    commit_tea(&shop).await;
    let adds = join_all((0..9).map(|_| carts.change_cart(owner, shop.add_tea_message())));
    let (adds, orders) = tokio::join!(adds, join_all((0..9).map(|_| check_out(&carts, owner))));
    assert!(adds.iter().all(Result::is_ok));
    let sold: u32 =
        orders.iter().flatten().flat_map(|order| &order.lines).map(|line| line.quantity).sum();
    let left: u32 = shop
        .store
        .find_cart(owner.id)
        .await
        .unwrap()
        .unwrap()
        .lines
        .iter()
        .map(|line| line.quantity)
        .sum();
    assert_eq!(sold + left, 9);
    assert!(sold > 0 && orders.iter().flatten().count() <= 2, "too many unpaid orders");
}

/// A clock that signals its first read, then blocks until the test lets it continue.
struct PausingClock(Mutex<Option<(oneshot::Sender<()>, mpsc::Receiver<()>)>>);

impl Clock for PausingClock {
    fn now(&self) -> Timestamp {
        let first = self.0.lock().unwrap().take();
        if let Some((reached, resume)) = first {
            reached.send(()).unwrap();
            resume.recv().unwrap();
        }
        SystemClock.now()
    }
}

#[actix_rt::test]
async fn item_added_on_another_node_during_checkout_stays_in_cart() {
    let shop = CartFixture::open();
    let (here, owner) = (shop.start_observed_registry(), user_owner());
    commit_tea(&shop).await;
    here.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let (reached, decided) = oneshot::channel();
    let (go_on, resume) = mpsc::channel();
    let there = shop.start_registry_with_clock(
        Arc::clone(&shop.catalog_cache),
        None,
        Arc::new(PausingClock(Mutex::new(Some((reached, resume))))),
    );
    let (order, ()) = tokio::join!(check_out(&there, owner), async {
        decided.await.unwrap();
        here.change_cart(owner, shop.add_tea_message()).await.unwrap();
        go_on.send(()).unwrap();
    });
    assert_eq!(order.unwrap().lines.iter().map(|line| line.quantity).collect::<Vec<_>>(), [1]);
    let left = shop.store.find_cart(owner.id).await.unwrap().unwrap();
    assert_eq!((left.version, left.quantities()[&shop.tea]), (3, 1));
}

#[actix_rt::test]
async fn checkout_includes_items_added_on_another_node() {
    let shop = CartFixture::open();
    let (here, owner) = (shop.start_observed_registry(), user_owner());
    let (there, follower) = shop.start_following_registry().await;
    commit_tea(&shop).await;
    follower.catch_up().await.unwrap();
    there.change_cart(owner, shop.add_tea_message()).await.unwrap();
    here.change_cart(owner, shop.add_tea_message()).await.unwrap();
    assert_eq!(
        check_out(&there, owner).await.unwrap().lines[0].quantity,
        2,
        "the current quantity, not the cached quantity"
    );
    assert!(shop.store.find_cart(owner.id).await.unwrap().unwrap().lines.is_empty());
}
