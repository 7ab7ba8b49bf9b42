//! Checkout on a node that has not heard of what others did.

use std::sync::{Mutex, mpsc};

use tokio::sync::oneshot;

use super::*;
use crate::{
    domain::order::{Checkout, Order},
    messages::cart::CheckOut,
};

async fn check_out(carts: &CartRegistry, owner: Owner) -> Result<Arc<Order>, Error> {
    let message = CheckOut { checkout: Checkout::default(), change: Change::internal(MINUTE) };
    carts.check_out(owner, message).await.map(|reply| match reply {
        Reply::Done(order) => order,
        Reply::Replayed(_) => panic!("nothing was repeated"),
    })
}

#[actix_rt::test]
async fn a_checkout_rests_on_what_is_true_now() {
    let shop = Shop::open();
    let (here, owner) = (shop.node(), user());
    let (there, follower) = shop.follower().await;
    publish_tea(&shop).await;
    follower.catch_up().await.unwrap();
    assert_eq!(check_out(&there, owner).await.unwrap_err().code, ErrorCode::CartEmpty);
    here.change(owner, shop.add()).await.unwrap();
    let known = shop.store.product(shop.tea).await.unwrap().unwrap().0;
    let facts = ProductFacts { price: Money::parse("3.00", usd()).unwrap(), ..known.facts.clone() };
    let dearer = Arc::new(known.replaced(facts, Timestamp::default()).unwrap());
    let commit = Commit::new(Timestamp::default(), Instant::now() + MINUTE);
    let (writes, facts) = (vec![Write::Product(Arc::clone(&dearer))], vec![Fact::Product(dearer)]);
    shop.writer.commit(Commit { writes, facts, ..commit }).await.unwrap();
    let order = check_out(&there, owner).await.unwrap();
    assert_eq!(
        (order.total().to_string(), order.lines.len()),
        ("3.00".into(), 1),
        "not the price that this node knew"
    );
    assert_eq!(
        check_out(&here, owner).await.unwrap_err().code,
        ErrorCode::CartEmpty,
        "what was bought there is bought"
    );
    assert_eq!(version(here.change(owner, shop.add()).await.unwrap()), 3);
}

#[actix_rt::test]
async fn checkouts_at_once_buy_everything_once() {
    let shop = Shop::open();
    let (carts, owner) = (shop.node(), user());
    publish_tea(&shop).await;
    let adds = join_all((0..9).map(|_| carts.change(owner, shop.add())));
    let (adds, orders) = tokio::join!(adds, join_all((0..9).map(|_| check_out(&carts, owner))));
    assert!(adds.iter().all(Result::is_ok));
    let sold: u32 =
        orders.iter().flatten().flat_map(|order| &order.lines).map(|line| line.quantity).sum();
    let left: u32 = shop
        .store
        .cart(owner.id)
        .await
        .unwrap()
        .unwrap()
        .lines
        .iter()
        .map(|line| line.quantity)
        .sum();
    assert_eq!(sold + left, 9);
    assert!(
        sold > 0 && orders.iter().flatten().count() <= 2,
        "as many unpaid orders as one may have"
    );
}

/// The first time that somebody looks at it, it tells that, and waits to be told to go on.
struct Gate(Mutex<Option<(oneshot::Sender<()>, mpsc::Receiver<()>)>>);

impl Clock for Gate {
    fn now(&self) -> Timestamp {
        let first = self.0.lock().unwrap().take();
        if let Some((reached, go_on)) = first {
            reached.send(()).unwrap();
            go_on.recv().unwrap();
        }
        SystemClock.now()
    }
}

#[actix_rt::test]
async fn what_is_added_on_another_node_while_a_checkout_runs_stays_in_the_cart() {
    let shop = Shop::open();
    let (here, owner) = (shop.node(), user());
    publish_tea(&shop).await;
    here.change(owner, shop.add()).await.unwrap();
    let (reached, decided) = oneshot::channel();
    let (go_on, told) = mpsc::channel();
    let there = shop.registry_at(
        Arc::clone(&shop.shelf),
        None,
        Arc::new(Gate(Mutex::new(Some((reached, told))))),
    );
    let (order, ()) = tokio::join!(check_out(&there, owner), async {
        decided.await.unwrap();
        here.change(owner, shop.add()).await.unwrap();
        go_on.send(()).unwrap();
    });
    assert_eq!(order.unwrap().lines.iter().map(|line| line.quantity).collect::<Vec<_>>(), [1]);
    let left = shop.store.cart(owner.id).await.unwrap().unwrap();
    assert_eq!((left.version, left.pieces()[&shop.tea]), (3, 1));
}

#[actix_rt::test]
async fn what_was_added_on_another_node_before_a_checkout_is_bought() {
    let shop = Shop::open();
    let (here, owner) = (shop.node(), user());
    let (there, follower) = shop.follower().await;
    publish_tea(&shop).await;
    follower.catch_up().await.unwrap();
    there.change(owner, shop.add()).await.unwrap();
    here.change(owner, shop.add()).await.unwrap();
    assert_eq!(
        check_out(&there, owner).await.unwrap().lines[0].quantity,
        2,
        "not the one piece that this node knew of"
    );
    assert!(shop.store.cart(owner.id).await.unwrap().unwrap().lines.is_empty());
}
