//! Stores that released versions wrote open with this one, and lose nothing.
//!
//! `tests/upgrade` has one of each release: the database, and an order of it as that version
//! answered. `SOUK_TEST_WRITE_STORE=1` writes those of this version (CONTRIBUTING.md says when).

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Cli, TestApp};

const LEVEL: i32 = 19;

/// The secret of all stores. The keys of webhooks are encrypted with one that is derived from it.
const SECRET: (&str, &str) =
    ("auth.jwt_secret", "60303ae22b998861bce3b28f33eec1be758a213c86c93c07");

fn stores() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade")
}

/// What a test reads back from a store.
struct Expected {
    order: Value,
    stock: [u64; 3],
}

/// Fills a shop: an order that is shipped in part, one that is not paid, and what else the store
/// has tables for.
async fn fill(app: &TestApp) -> Expected {
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    for (path, body) in [
        ("/api/promotions", json!({"name": "Brew", "code": "BREW", "effect": {"percent_off": 10}})),
        ("/api/shipping-methods", json!({"name": "Parcel", "price": 4.9})),
        ("/api/tax-rates", json!({"name": "VAT", "country": "GB", "rate": "0.2"})),
        ("/api/api-keys", json!({"name": "warehouse", "scopes": ["stock"]})),
        ("/api/webhooks", json!({"url": "https://hooks.souk.invalid/", "types": ["order.*"]})),
    ] {
        app.post(path, &body).token(&admin).await.is(201);
    }
    let ada = app.customer().await;
    app.call("PUT", "/api/cart/shipping").token(&ada).json(&json!({"country": "GB"})).await.ok();
    app.add_to_cart(&ada, &tea, 3).await.ok();
    app.post("/api/cart/codes", &json!({"code": "brew"})).token(&ada).await.ok();
    let order: Value = app.check_out(&ada, "an-order").await.is(201).json();
    app.order_action(&admin, &order, "pay").await.ok();
    let items = json!({"items": [{"product_id": tea, "quantity": 1}], "carrier": "DHL"});
    app.order_action(&admin, &order, "fulfil").json(&items).await.ok();
    let bob = app.customer().await;
    app.call("PUT", "/api/cart/shipping").token(&bob).json(&json!({"country": "GB"})).await.ok();
    app.buy(&bob, &tea, 2).await;
    let guest = app.guest().await;
    app.add_to_cart(&guest, &tea, 1).await.ok();
    Expected { order: app.order(&admin, &order).await, stock: [9, 4, 5] }
}

/// Writes the store of this version, if asked to.
async fn write_store_if_asked() {
    if std::env::var_os("SOUK_TEST_WRITE_STORE").is_none() {
        return;
    }
    let mut app = TestApp::with_settings(&[SECRET]).await;
    let expected = fill(&app).await;
    app.stop().await;
    let database = Connection::open(app.dir().join("data/souk.db")).unwrap();
    let whole = app.dir().join("whole.db");
    database.execute("VACUUM INTO ?1", [whole.to_str().unwrap()]).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let packed = zstd::encode_all(&*fs::read(whole).unwrap(), LEVEL).unwrap();
    fs::write(stores().join(format!("{version}.db.zst")), packed).unwrap();
    let order = json!({"order": expected.order, "stock_before_expiry": expected.stock});
    let text = serde_json::to_string_pretty(&order).unwrap() + "\n";
    fs::write(stores().join(format!("{version}.json")), text).unwrap();
}

#[tokio::test]
async fn store_of_each_release_opens_and_is_sound() {
    write_store_if_asked().await;
    let mut versions = Vec::new();
    for entry in fs::read_dir(stores()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(version) = name.strip_suffix(".db.zst") else { continue };
        assert_store_is_sound(&path).await;
        versions.push(version.to_owned());
    }
    // A new version needs a store of its own before it is released.
    assert!(versions.iter().any(|version| version == env!("CARGO_PKG_VERSION")), "{versions:?}");
}

async fn assert_store_is_sound(path: &Path) {
    let mut app = TestApp::unstarted(&[SECRET]);
    fs::create_dir(app.dir().join("data")).unwrap();
    app.write("data/souk.db", zstd::decode_all(fs::File::open(path).unwrap()).unwrap());
    let text = fs::read(path.with_extension("").with_extension("json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let audit = Cli::run(app.command().args(["audit", "--deep"])).ok();
    assert!(audit.contains("1 product, 2 orders,") && audit.contains(": 0 findings"), "{audit}");
    app.restart().await;
    let admin = app.admin().await;
    let order = &expected["order"];
    let found = app.order(&admin, order).await;
    // A later version may add members, and takes none away.
    for (name, value) in order.as_object().unwrap() {
        assert_eq!(found[name], *value, "{name} of {}", path.display());
    }
    let tea = order["items"][0]["product_id"].as_str().unwrap();
    assert_eq!(app.stock(&admin, tea).await["on_hand"], expected["stock_before_expiry"][0]);
    // The shop goes on: the order is shipped, and what it did then is sound, too.
    app.order_action(&admin, &found, "fulfil").await.ok();
    for list in ["promotions", "shipping-methods", "tax-rates", "api-keys", "webhooks"] {
        let page = app.get(&format!("/api/{list}")).token(&admin).await.ok();
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{list}");
    }
    app.stop().await;
    Cli::run(app.command().arg("audit")).ok();
}
