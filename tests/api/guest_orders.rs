//! Orders of guests that move to an account.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    guest_checkout::{buy, check_out},
    mail,
    orders::Shop,
    support::{
        Account, PASSWORD, TestApp, assert_gap_free, mail::MailServer, person::address,
        unique_email,
    },
};

async fn list(app: &TestApp, account: &Account) -> Vec<Value> {
    let page = app.get("/api/orders?limit=100").token(account).await.ok();
    page["items"].as_array().unwrap().clone()
}

/// What a move changes of an order.
fn moved(order: &Value, user: &Account, version: u64) -> Value {
    let mut moved = order.clone();
    moved["user_id"] = json!(user.id);
    moved["version"] = json!(version);
    moved["updated_at"] = Value::Null;
    // The guest made the last change.
    moved.as_object_mut().unwrap().remove("actor");
    moved
}

fn without_time(mut order: Value) -> Value {
    order["updated_at"] = Value::Null;
    order
}

#[tokio::test]
async fn orders_of_a_guest_move_at_login_and_registration() {
    let Shop { app, admin, ada, tea, cup } = Shop::start().await;
    let guest = app.guest().await;
    let [unpaid, paid] = [buy(&app, &guest, &tea, 1).await, buy(&app, &guest, &tea, 1).await];
    let paid = app.order_action(&admin, &paid, "pay").await.ok();
    app.add_to_cart(&guest, &cup, 1).await.ok();
    assert_eq!(app.login_with_guest(&ada, &guest).await["cart_merged"], true);
    let orders = list(&app, &ada).await;
    let expected = [moved(&paid, &ada, 3), moved(&unpaid, &ada, 2)];
    assert_eq!(orders.iter().cloned().map(without_time).collect::<Vec<_>>(), expected);
    assert_eq!(orders[0]["email"], "guest@shop.example");
    // Nothing is left to the guest.
    assert_eq!(list(&app, &guest).await, [json!(null); 0]);
    for order in &orders {
        let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
        app.get(&path).token(&guest).await.problem(404, "not_found");
        assert_eq!(app.get(&path).token(&ada).await.ok(), *order);
    }
    app.order_action(&guest, &unpaid, "cancel").await.problem(404, "not_found");
    check_out(&app, &guest, "guest@shop.example").await.problem(409, "guest_cart_merged");
    // Repeats change nothing, also those of another account.
    let bob = app.customer().await;
    for (account, merged) in [(&ada, true), (&bob, false), (&ada, true)] {
        assert_eq!(app.login_with_guest(account, &guest).await["cart_merged"], merged);
    }
    app.merge_cart(&ada, &guest).await.ok();
    assert_eq!((list(&app, &ada).await, list(&app, &bob).await), (orders.clone(), vec![]));
    // The owner may cancel it, and gets what becomes of the other one.
    app.order_action(&ada, &unpaid, "cancel").await.ok();

    let guest = app.guest().await;
    let order = buy(&app, &guest, &tea, 1).await;
    let body = json!({
        "email": unique_email(), "password": PASSWORD, "name": "Eve", "guest_token": guest.token,
    });
    let session = app.post("/api/auth/register", &body).await.is(201).json();
    let eve = Account::from_session(&session);
    let found = list(&app, &eve).await;
    assert_eq!(found.into_iter().map(without_time).collect::<Vec<_>>(), [moved(&order, &eve, 2)]);
    // The version of the answer is the account's.
    let change = app.patch("/api/auth/me", &json!({"name": "Eva"})).token(&eve);
    change.header("if-match", format!("\"{}\"", session["user"]["version"])).await.ok();
}

#[tokio::test]
async fn move_is_an_event_of_the_order() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let guest = app.guest().await;
    let order = buy(&app, &guest, &tea, 1).await;
    let id = order["id"].as_str().unwrap();
    app.merge_cart(&ada, &guest).await.ok();
    app.order_action(&admin, &order, "pay").await.ok();
    let mut feed = app.open_whole_feed(Some(&admin)).await;
    let events = feed.read_until(|event| event.kind == "order.paid").await;
    assert_gap_free(&events);
    let of_order: Vec<_> = events.iter().filter(|event| event.subject() == id).collect();
    let kinds: Vec<&str> = of_order.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["order.placed", "order.owner_changed", "order.paid"]);
    let data = &of_order[1].body["data"];
    assert_eq!((&data["user_id"], &data["version"]), (&json!(ada.id), &json!(2)));
    for event in &events {
        assert!(!event.body.to_string().contains("guest@shop.example"), "{}", event.body);
    }
    // The new owner hears of it, and the guest of nothing that follows.
    let mut feed = app.open_whole_feed(Some(&ada)).await;
    let own = feed.read_until(|event| event.kind == "order.paid").await;
    let own: Vec<_> = own.iter().filter(|event| event.kind.starts_with("order.")).collect();
    assert_eq!(own.len(), 2, "{own:?}");
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}

#[tokio::test]
async fn limits_of_buyers_hold_for_guests_and_survive_the_move() {
    let settings = [("orders.max_pending", "2"), ("orders.max_pending_units", "5")];
    let Shop { app, admin, ada, tea, cup } = Shop::with_settings(&settings).await;
    let limit = json!({"purchase_limit": 3});
    app.patch(&format!("/api/products/{tea}"), &limit).token(&admin).await.ok();
    let guest = app.guest().await;
    let mail = "guest@shop.example";
    buy(&app, &guest, &tea, 2).await;
    app.add_to_cart(&guest, &tea, 2).await.ok();
    let problem = check_out(&app, &guest, mail).await.problem(409, "purchase_limit_reached");
    assert_eq!(problem["lines"][0]["left"], 1);
    app.update_cart(&guest, &tea, 0).await.ok();
    app.add_to_cart(&guest, &cup, 4).await.ok();
    check_out(&app, &guest, mail).await.problem(429, "too_many_pending_orders");
    app.login_with_guest(&ada, &guest).await;
    app.update_cart(&ada, &cup, 4).await.ok();
    app.check_out(&ada, "units").await.problem(429, "too_many_pending_orders");
    app.update_cart(&ada, &cup, 0).await.ok();
    app.add_to_cart(&ada, &tea, 2).await.ok();
    let problem = app.check_out(&ada, "limit").await.problem(409, "purchase_limit_reached");
    assert_eq!(problem["lines"][0]["left"], 1);
    app.update_cart(&ada, &tea, 1).await.ok();
    app.check_out(&ada, "last").await.is(201);
    app.add_to_cart(&ada, &cup, 1).await.ok();
    app.check_out(&ada, "third").await.problem(429, "too_many_pending_orders");
}

#[tokio::test]
async fn orders_move_without_a_cart_that_cannot_be_merged() {
    let Shop { app, admin, ada, tea, .. } = Shop::with_settings(&[("cart.max_lines", "1")]).await;
    let mut last = None;
    for number in 0..5 {
        let product = app.new_product(&admin, &json!(1), 10).await;
        let guest = app.guest().await;
        let order = buy(&app, &guest, &tea, 1).await;
        app.add_to_cart(&guest, &product, 1).await.ok();
        assert_eq!(app.login_with_guest(&ada, &guest).await["cart_merged"], number < 4);
        assert_eq!(list(&app, &ada).await[0]["id"], order["id"]);
        last = Some((guest, product));
    }
    let (guest, product) = last.unwrap();
    assert_eq!(app.cart(&guest).await["items"][0]["product_id"], json!(product));
    // The guest goes on, and the next order moves, too.
    let order = check_out(&app, &guest, "guest@shop.example").await.is(201).json();
    assert_eq!(list(&app, &guest).await, std::slice::from_ref(&order));
    app.login_with_guest(&ada, &guest).await;
    assert_eq!((list(&app, &ada).await.len(), list(&app, &guest).await.len()), (6, 0));
    assert_eq!(app.order(&ada, &order).await["version"], 2);
    // A merge that is refused changes nothing.
    let guest = app.guest().await;
    buy(&app, &guest, &tea, 1).await;
    let product = app.new_product(&admin, &json!(1), 10).await;
    app.add_to_cart(&guest, &product, 1).await.ok();
    app.merge_cart(&ada, &guest).await.problem(422, "line_limit");
    assert_eq!((list(&app, &ada).await.len(), list(&app, &guest).await.len()), (6, 1));
}

#[tokio::test]
async fn guest_with_very_many_orders_moves_all_of_them() {
    let settings = [("orders.max_pending", "1000"), ("orders.max_pending_units", "1000")];
    let Shop { app, admin, ada, .. } = Shop::with_settings(&settings).await;
    let tea = app.new_product(&admin, &json!(1), 1000).await;
    let guest = app.guest().await;
    for _ in 0..205 {
        buy(&app, &guest, &tea, 1).await;
    }
    assert_eq!(app.login_with_guest(&ada, &guest).await["cart_merged"], true);
    assert_eq!(list(&app, &guest).await.len(), 0);
    let path = format!("/api/orders/export?user_id={}", ada.id);
    let export = app.get(&path).token(&admin).await.is(200);
    assert_eq!(export.text().lines().count(), 205);
}

#[tokio::test]
async fn order_that_is_placed_during_a_login_is_neither_lost_nor_left() {
    let Shop { app, admin, ada, .. } = Shop::with_settings(&[
        ("orders.max_pending", "1000"),
        ("orders.max_pending_units", "9999"),
    ])
    .await;
    let tea = app.new_product(&admin, &json!(1), 10_000).await;
    let mut placed = Vec::new();
    for _ in 0..12 {
        let guest = app.guest().await;
        placed.push(buy(&app, &guest, &tea, 1).await["id"].clone());
        app.add_to_cart(&guest, &tea, 1).await.ok();
        let checkout = check_out(&app, &guest, "guest@shop.example");
        let cancel = app.order_action(&guest, &json!({"id": placed.last()}), "cancel");
        let logins = join_all((0..2).map(|_| app.login_with_guest(&ada, &guest)));
        let (response, cancelled, _) =
            tokio::join!(async { checkout.await }, async { cancel.await }, logins);
        match response.status {
            201 => placed.push(response.json()["id"].clone()),
            _ => drop(response.problem(409, "guest_cart_merged")),
        }
        assert!([200, 404].contains(&cancelled.status), "{cancelled}");
        assert_eq!(list(&app, &guest).await.len(), 0);
    }
    let owned: Vec<Value> = list(&app, &ada).await.iter().map(|it| it["id"].clone()).collect();
    placed.reverse();
    assert_eq!(owned, placed);
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}

#[tokio::test]
async fn orders_of_strangers_do_not_prevent_a_deletion() {
    let Some(mut server) = MailServer::start("orders of strangers").await else { return };
    let app = mail::start_shop(&server, &[]).await;
    let admin = app.admin().await;
    let (ada, token) = mail::customer(&app, &mut server).await;
    mail::verify(&app, &token).await.is(204);
    let stranger = app.guest().await;
    let place = async |price: Value| {
        let product = app.new_product(&admin, &price, 10).await;
        app.add_to_cart(&stranger, &product, 1).await.ok();
        let body = json!({"email": ada.email, "shipping_address": address()});
        let order = app.check_out(&stranger, format!("{price}")).json(&body).await.is(201).json();
        assert_eq!(order["email"], json!(ada.email));
        order
    };
    let [free, unpaid, paid] =
        [place(json!(0)).await, place(json!(1)).await, place(json!(2)).await];
    app.order_action(&admin, &paid, "pay").await.ok();
    assert_eq!(free["status"], "paid");
    let password = json!({"current_password": PASSWORD});
    app.delete("/api/auth/me").json(&password).token(&ada).await.is(204);

    let place = json!({"country": "HR", "region": "PG"});
    let found = app.order(&admin, &unpaid).await;
    assert_eq!((&found["status"], &found["email"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(found["shipping_address"], place);
    // The shop can still send the other one, and forgets where to when it has.
    let mut expected = free.clone();
    expected["email"] = Value::Null;
    assert_eq!(app.order(&admin, &free).await, expected);
    assert_eq!(app.order(&stranger, &free).await["shipping_address"], address());
    app.order_action(&admin, &free, "fulfil").await.ok();
    let shipped = app.order(&admin, &free).await;
    assert_eq!((&shipped["status"], &shipped["shipping_address"]), (&json!("fulfilled"), &place));
    // Neither is there anything to send once the money went back.
    let path = format!("/api/orders/{}/refund", paid["id"].as_str().unwrap());
    let refund = || app.call("POST", &path).key("refund").token(&admin);
    assert_eq!(refund().await.is(202).json()["shipping_address"], place);
    assert_eq!(app.order(&admin, &paid).await["shipping_address"], place);
    assert_eq!(refund().await.is(202).json()["shipping_address"], place);
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}
