//! The process is killed repeatedly under load: acknowledged changes survive.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Account, Event, PASSWORD, Progress, TestApp, gap_free, unique};

/// The number of acknowledged changes in each round before the process is killed.
const ROUNDS: [usize; 4] = [150, 40, 333, 90];

/// Acknowledged changes.
#[derive(Default)]
struct Told {
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
    let mut app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.product(&admin, &json!(4.5), 0).await;
    let cup = app.product(&admin, &json!(7), 1_000_000).await;
    let shoppers = join_all((0..4).map(|_| app.customer())).await;
    let mut told = Told::default();
    for wanted in ROUNDS {
        let round = disturbed(&app, &admin, &shoppers, (&tea, &cup), wanted).await;
        app.reap().await;
        app.restart().await;
        told.carts.extend(round.carts);
        told.products.extend(round.products);
        told.deltas += round.deltas;
        told.users.extend(round.users);
        carts_are_there(&app, &shoppers, &mut told).await;
        stock_is_there(&app, &admin, &tea, &mut told).await;
        products_and_users_are_there(&app, &told).await;
    }
    for (n, shopper) in shoppers.iter().enumerate() {
        let last = events_are_whole(&app, &admin, shopper).await;
        assert_eq!(last.get(&(shopper.id.clone(), "cart".into())), told.carts.get(&n));
        assert_eq!(
            last[&(tea.clone(), "inventory".into())],
            app.stock(&admin, &tea).await["version"]
        );
        for id in told.products.keys() {
            assert_eq!(last[&(id.clone(), "catalog".into())], 1);
        }
    }
}

/// Changes carts, products, stock and accounts until the process is killed.
async fn disturbed(
    app: &TestApp,
    admin: &Account,
    shoppers: &[Account],
    wares: (&str, &str),
    wanted: usize,
) -> Told {
    let counter = Progress::new();
    let (tea, cup) = wares;
    let strike = async {
        counter.reaches(wanted).await;
        app.signal("KILL");
    };
    let carts = join_all(shoppers.iter().map(|shopper| shop(app, shopper, cup, &counter)));
    let deltas = join_all((0..2).map(|_| restock(app, admin, tea, &counter)));
    let products = join_all((0..2).map(|_| create(app, admin, &counter)));
    let (carts, deltas, products, users, ()) =
        tokio::join!(carts, deltas, products, register(app, &counter), strike);
    Told {
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

async fn shop(app: &TestApp, who: &Account, cup: &str, counter: &Progress) -> Option<u64> {
    let mut last = None;
    // A line holds at most 999 units.
    while let Ok(answer) = app.add(who, cup, 1).attempt().await {
        last = answer.ok()["version"].as_u64();
        counter.one();
    }
    last
}

async fn restock(app: &TestApp, admin: &Account, tea: &str, counter: &Progress) -> u64 {
    let mut acknowledged = 0;
    let delta = json!({"delta": 1, "reason": "delivery"});
    while let Ok(answer) = app.change_stock(admin, tea, &delta).attempt().await {
        answer.is(200);
        acknowledged += 1;
        counter.one();
    }
    acknowledged
}

async fn create(app: &TestApp, admin: &Account, counter: &Progress) -> Vec<(String, Value)> {
    let mut created = Vec::new();
    loop {
        let body = json!({"name": "Pot", "description": "", "price": 12, "stock": 9, "sku": format!("POT-{}", unique())});
        let Ok(answer) = app.post("/api/products", &body).token(admin).attempt().await else {
            return created;
        };
        let product = answer.is(201).json();
        created.push((product["id"].as_str().unwrap().to_owned(), product));
        counter.one();
    }
}

async fn register(app: &TestApp, counter: &Progress) -> Vec<Account> {
    let mut registered = Vec::new();
    loop {
        let body = json!({"email": format!("u{}@souk.example", unique()), "password": PASSWORD, "name": "U"});
        let Ok(answer) = app.post("/api/auth/register", &body).attempt().await else {
            return registered;
        };
        registered.push(Account::of(&answer.is(201).json()));
        counter.one();
    }
}

/// Each client has one pending request when the process dies, which may be applied without a
/// response.
async fn carts_are_there(app: &TestApp, shoppers: &[Account], told: &mut Told) {
    for (n, shopper) in shoppers.iter().enumerate() {
        let cart = app.cart(shopper).await;
        let version = cart["version"].as_u64().unwrap();
        let known = told.carts.get(&n).copied().unwrap_or(0);
        assert!(
            version == known || version == known + 1,
            "cart {n} has version {version}, but {known} was acknowledged"
        );
        assert_eq!(cart["item_count"], version, "each version adds one unit");
        told.carts.insert(n, version);
    }
}

async fn stock_is_there(app: &TestApp, admin: &Account, tea: &str, told: &mut Told) {
    let stock = app.stock(admin, tea).await;
    let on_hand = stock["on_hand"].as_u64().unwrap();
    assert!(
        (told.deltas..=told.deltas + 2).contains(&on_hand),
        "{on_hand} on hand, {} acknowledged",
        told.deltas
    );
    let movements = app.pages(admin, &format!("/api/products/{tea}/stock/movements"), 100).await;
    let sequences: Vec<_> =
        movements.iter().rev().map(|movement| movement["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=on_hand).collect::<Vec<_>>(), "one movement for each unit");
    told.deltas = on_hand;
}

async fn products_and_users_are_there(app: &TestApp, told: &Told) {
    for (id, product) in &told.products {
        assert_eq!(&app.get(&format!("/api/products/{id}")).await.ok(), product);
    }
    for user in &told.users {
        assert_eq!(app.get("/api/auth/me").token(user).await.ok()["id"], user.id);
    }
    if let Some(user) = told.users.last() {
        // A separate session: reusing a refresh token of an earlier round would end the user's
        // session.
        let session = app.login(&user.email, PASSWORD).await;
        app.post("/api/auth/refresh", &json!({"refresh_token": session.refresh_token})).await.ok();
    }
}

/// Reads the feed from the first kept event; returns the last sequence of each subject and family.
async fn events_are_whole(
    app: &TestApp,
    admin: &Account,
    who: &Account,
) -> BTreeMap<(String, String), u64> {
    let sentinel = app.product(admin, &json!(1), 0).await;
    let first = app.listen(Some(who), Some("none")).await.next().await;
    let rest = app
        .listen(Some(who), Some(&first.id))
        .await
        .until(|event: &Event| event.subject() == sentinel)
        .await;
    assert!(
        rest.iter().all(|event| event.id != first.id),
        "the last seen event is not repeated"
    );
    gap_free(std::iter::once(&first).chain(&rest))
}
