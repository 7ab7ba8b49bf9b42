//! The process is killed repeatedly under load: acknowledged changes survive.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Account, Event, PASSWORD, Progress, TestApp, assert_gap_free, kill_rounds, unique_number,
};

/// The number of acknowledged changes in each round before the process is killed.
const CHANGES_BEFORE_KILL: [usize; 4] = [150, 40, 333, 90];

/// The newest products, whose events the feed still has after many kills.
const NEWEST_PRODUCTS: usize = 100;

/// Acknowledged changes.
#[derive(Default)]
struct AcknowledgedChanges {
    /// The version of each cart, which equals its quantity.
    carts: BTreeMap<usize, u64>,
    /// Products by id.
    products: BTreeMap<String, Value>,
    /// Units added to the shared product.
    deltas: u64,
    users: Vec<Account>,
}

#[tokio::test]
async fn acknowledged_changes_survive_kill_9() {
    let mut app = TestApp::with_settings(&[("cart.max_quantity", "9999")]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 0).await;
    let cup = app.new_product(&admin, &json!(7), 1_000_000).await;
    let shoppers = join_all((0..4).map(|_| app.customer())).await;
    let mut acknowledged = AcknowledgedChanges::default();
    for wanted in kill_rounds(&CHANGES_BEFORE_KILL) {
        let round = change_until_killed(&app, &admin, &shoppers, (&tea, &cup), wanted).await;
        app.reap().await;
        app.restart().await;
        acknowledged.carts.extend(round.carts);
        acknowledged.products.extend(round.products);
        acknowledged.deltas += round.deltas;
        acknowledged.users.extend(round.users);
        assert_carts_kept(&app, &shoppers, &mut acknowledged).await;
        assert_stock_kept(&app, &admin, &tea, &mut acknowledged).await;
        assert_products_and_users_kept(&app, &acknowledged).await;
    }
    for (n, shopper) in shoppers.iter().enumerate() {
        let last = assert_events_complete(&app, &admin, shopper).await;
        assert_eq!(last.get(&(shopper.id.clone(), "cart".into())), acknowledged.carts.get(&n));
        assert_eq!(
            last[&(tea.clone(), "inventory".into())],
            app.stock(&admin, &tea).await["version"]
        );
        for id in acknowledged.products.keys().rev().take(NEWEST_PRODUCTS) {
            assert_eq!(last[&(id.clone(), "catalog".into())], 1);
        }
    }
}

/// Changes carts, products, stock and accounts until the process is killed.
async fn change_until_killed(
    app: &TestApp,
    admin: &Account,
    shoppers: &[Account],
    product_ids: (&str, &str),
    wanted: usize,
) -> AcknowledgedChanges {
    let counter = Progress::new();
    let (tea, cup) = product_ids;
    let kill = async {
        counter.wait_for(wanted).await;
        app.signal("KILL");
    };
    let carts =
        join_all(shoppers.iter().map(|shopper| add_until_killed(app, shopper, cup, &counter)));
    let deltas = join_all((0..2).map(|_| restock_until_killed(app, admin, tea, &counter)));
    let products = join_all((0..2).map(|_| create_until_killed(app, admin, &counter)));
    let (carts, deltas, products, users, ()) =
        tokio::join!(carts, deltas, products, register_until_killed(app, &counter), kill);
    AcknowledgedChanges {
        carts: carts
            .into_iter()
            .enumerate()
            .filter_map(|(n, version)| Some((n, version?)))
            .collect(),
        products: products.into_iter().flatten().collect(),
        deltas: deltas.into_iter().sum(),
        users,
    }
}

async fn add_until_killed(
    app: &TestApp,
    account: &Account,
    cup: &str,
    counter: &Progress,
) -> Option<u64> {
    let mut last = None;
    while let Ok(response) = app.add_to_cart(account, cup, 1).attempt().await {
        last = response.ok()["version"].as_u64();
        counter.increment();
    }
    last
}

async fn restock_until_killed(
    app: &TestApp,
    admin: &Account,
    tea: &str,
    counter: &Progress,
) -> u64 {
    let mut acknowledged = 0;
    let delta = json!({"delta": 1, "reason": "delivery"});
    while let Ok(response) = app.change_stock(admin, tea, &delta).attempt().await {
        response.is(200);
        acknowledged += 1;
        counter.increment();
    }
    acknowledged
}

async fn create_until_killed(
    app: &TestApp,
    admin: &Account,
    counter: &Progress,
) -> Vec<(String, Value)> {
    let mut created = Vec::new();
    loop {
        let body = json!({
            "name": "Pot", "description": "", "price": 12, "stock": 9,
            "sku": format!("POT-{}", unique_number()),
        });
        let Ok(response) = app.post("/api/products", &body).token(admin).attempt().await else {
            return created;
        };
        let product = response.is(201).json();
        created.push((product["id"].as_str().unwrap().to_owned(), product));
        counter.increment();
    }
}

async fn register_until_killed(app: &TestApp, counter: &Progress) -> Vec<Account> {
    let mut registered = Vec::new();
    loop {
        let body = json!({
            "email": format!("u{}@souk.example", unique_number()), "password": PASSWORD,
            "name": "U",
        });
        let Ok(response) = app.post("/api/auth/register", &body).attempt().await else {
            return registered;
        };
        registered.push(Account::from_session(&response.is(201).json()));
        counter.increment();
    }
}

/// Each client has one pending request when the process dies, which may be applied without a
/// response.
async fn assert_carts_kept(
    app: &TestApp,
    shoppers: &[Account],
    acknowledged: &mut AcknowledgedChanges,
) {
    for (n, shopper) in shoppers.iter().enumerate() {
        let cart = app.cart(shopper).await;
        let version = cart["version"].as_u64().unwrap();
        let known = acknowledged.carts.get(&n).copied().unwrap_or(0);
        assert!(
            version == known || version == known + 1,
            "cart {n} has version {version}, but {known} was acknowledged"
        );
        assert_eq!(cart["item_count"], version, "each version adds one unit");
        acknowledged.carts.insert(n, version);
    }
}

async fn assert_stock_kept(
    app: &TestApp,
    admin: &Account,
    tea: &str,
    acknowledged: &mut AcknowledgedChanges,
) {
    let stock = app.stock(admin, tea).await;
    let on_hand = stock["on_hand"].as_u64().unwrap();
    assert!(
        (acknowledged.deltas..=acknowledged.deltas + 2).contains(&on_hand),
        "{on_hand} on hand, {} acknowledged",
        acknowledged.deltas
    );
    let movements =
        app.all_pages(admin, &format!("/api/products/{tea}/stock/movements"), 100).await;
    let sequences: Vec<_> =
        movements.iter().rev().map(|movement| movement["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=on_hand).collect::<Vec<_>>(), "one movement for each unit");
    acknowledged.deltas = on_hand;
}

async fn assert_products_and_users_kept(app: &TestApp, acknowledged: &AcknowledgedChanges) {
    for (id, product) in &acknowledged.products {
        assert_eq!(&app.get(&format!("/api/products/{id}")).await.ok(), product);
    }
    for user in &acknowledged.users {
        assert_eq!(app.get("/api/auth/me").token(user).await.ok()["id"], user.id);
    }
    if let Some(user) = acknowledged.users.last() {
        // A separate session: reusing a refresh token of an earlier round would end the user's
        // session.
        let session = app.login(&user.email, PASSWORD).await;
        app.post("/api/auth/refresh", &json!({"refresh_token": session.refresh_token})).await.ok();
    }
}

/// Reads the feed from the first kept event; returns the last sequence of each subject and family.
async fn assert_events_complete(
    app: &TestApp,
    admin: &Account,
    account: &Account,
) -> BTreeMap<(String, String), u64> {
    let sentinel = app.new_product(admin, &json!(1), 0).await;
    let first = app.open_whole_feed(Some(account)).await.next().await;
    let rest = app
        .open_feed(Some(account), first.feed_id.as_deref())
        .await
        .read_until(|event: &Event| event.subject() == sentinel)
        .await;
    assert!(rest.iter().all(|event| event.id != first.id), "the last seen event is not repeated");
    assert_gap_free(std::iter::once(&first).chain(&rest))
}
