//! Mails that tell buyers what became of their orders, with a real SMTP server.

use serde_json::{Value, json};

use crate::{
    orders::Shop,
    support::{
        Account,
        mail::{MailServer, ReceivedMail},
        person::address,
    },
};

/// A shop that sends its mail to `server`, with ten teas and ten cups.
async fn start_shop(server: &MailServer) -> Shop {
    let mail = server.settings();
    let mail: Vec<(&str, &str)> = mail.iter().map(|(key, value)| (*key, &**value)).collect();
    Shop::with_settings(&mail).await
}

/// The mail of this kind, which has the order's number in its subject and a link to the order in
/// both parts.
async fn order_mail(
    server: &mut MailServer,
    kind: &str,
    buyer: &Account,
    order: &Value,
) -> ReceivedMail {
    let mail = server.mail(kind, &buyer.email).await;
    assert!(mail.field("subject").contains(order["number"].as_str().unwrap()));
    let link = format!("/orders/{}", order["id"].as_str().unwrap());
    assert!(mail.field("text").contains(&link), "{}", mail.field("text"));
    assert!(mail.field("html").replace("&#x2f;", "/").contains(&link), "{}", mail.field("html"));
    mail
}

#[tokio::test]
async fn buyer_is_told_by_mail_what_became_of_an_order() {
    let Some(mut server) = MailServer::start("mails about orders").await else { return };
    let Shop { app, admin, ada, tea, cup } = start_shop(&server).await;
    app.add_to_cart(&ada, &cup, 2).await.ok();
    let order = app.buy(&ada, &tea, 3).await;
    let mail = order_mail(&mut server, "order_placed", &ada, &order).await;
    for expected in ["3 x Mint tea: 13.50 USD", "Total: 27.50 USD", "Tea Shop"] {
        assert!(mail.field("text").contains(expected), "{}", mail.field("text"));
    }
    app.order_action(&admin, &order, "pay").await.ok();
    let mail = order_mail(&mut server, "order_paid", &ada, &order).await;
    assert!(mail.field("text").contains("27.50 USD"), "{}", mail.field("text"));

    let part = json!({
        "items": [{"product_id": tea, "quantity": 2}], "carrier": "DHL", "tracking": "0034043",
    });
    app.order_action(&admin, &order, "fulfil").json(&part).await.ok();
    let mail = order_mail(&mut server, "order_shipped", &ada, &order).await;
    for expected in ["2 x Mint tea", "Carrier: DHL", "Tracking: 0034043"] {
        assert!(mail.field("text").contains(expected), "{}", mail.field("text"));
    }
    assert!(!mail.field("text").contains("13.50"), "it has the shipment, not the order");

    app.order_action(&admin, &order, "refund").json(&json!({"amount": 4.5})).await.is(202);
    let mail = order_mail(&mut server, "order_refunded", &ada, &order).await;
    assert!(mail.field("text").contains("4.50 USD"), "{}", mail.field("text"));

    // What was not shipped goes back with the cancellation: two mails.
    app.order_action(&admin, &order, "cancel").await.ok();
    order_mail(&mut server, "order_cancelled", &ada, &order).await;
    let mail = order_mail(&mut server, "order_refunded", &ada, &order).await;
    assert!(mail.field("text").contains("18.50 USD"), "{}", mail.field("text"));
    let others = server.other_mails();
    assert!(others.iter().all(|mail| mail.field("kind") == "verification"), "each mail comes once");
}

#[tokio::test]
async fn repeated_request_sends_no_second_mail() {
    let Some(mut server) = MailServer::start("repeated checkouts").await else { return };
    let Shop { app, ada, tea, .. } = start_shop(&server).await;
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let order = app.check_out(&ada, "once").await.is(201).json();
    assert!(app.check_out(&ada, "once").await.is(201).is_replayed());
    order_mail(&mut server, "order_placed", &ada, &order).await;
    // Mails are sent in the order of their time. This one comes after a second confirmation.
    app.order_action(&ada, &order, "cancel").await.ok();
    order_mail(&mut server, "order_cancelled", &ada, &order).await;
    assert!(server.other_mails().iter().all(|mail| mail.field("kind") == "verification"));
}

#[tokio::test]
async fn order_mails_of_a_deleted_account_are_not_sent() {
    let Some(mut server) = MailServer::start("mails of deleted accounts").await else { return };
    let Shop { app, ada, tea, .. } = start_shop(&server).await;
    server.set_rule("defer", &ada.email).await;
    app.buy(&ada, &tea, 1).await;
    let body = json!({"current_password": crate::support::PASSWORD});
    app.call("DELETE", "/api/auth/me").token(&ada).json(&body).await.is(204);
    server.set_rule("accept", &ada.email).await;
    // Later mails are sent after those that are due earlier.
    let bob = app.customer().await;
    let order = app.buy(&bob, &tea, 1).await;
    order_mail(&mut server, "order_placed", &bob, &order).await;
    assert!(server.other_mails().iter().all(|mail| mail.field("to") != ada.email));
}

#[tokio::test]
async fn mails_about_orders_go_to_the_address_of_the_order() {
    let Some(mut server) = MailServer::start("mails about guests' orders").await else { return };
    let Shop { app, admin, ada, tea, .. } = start_shop(&server).await;
    let guest = app.guest().await;
    app.add_to_cart(&guest, &tea, 1).await.ok();
    let body = json!({"email": "guest@shop.example", "shipping_address": address()});
    let order = app.check_out(&guest, "guest").json(&body).await.is(201).json();
    let to_guest = Account { email: "guest@shop.example".into(), ..guest.clone() };
    let mail = order_mail(&mut server, "order_placed", &to_guest, &order).await;
    // Whoever types a stranger's address cannot write to them with a name.
    assert!(mail.field("text").starts_with("Hello,"), "{}", mail.field("text"));
    assert!(!mail.field("text").contains("Hesperia"), "{}", mail.field("text"));
    // It stays with the order when that moves.
    app.merge_cart(&ada, &guest).await.ok();
    app.order_action(&admin, &order, "pay").await.ok();
    order_mail(&mut server, "order_paid", &to_guest, &order).await;

    app.add_to_cart(&ada, &tea, 1).await.ok();
    let body = json!({"email": "office@shop.example"});
    let order = app.check_out(&ada, "office").json(&body).await.is(201).json();
    let office = Account { email: "office@shop.example".into(), ..ada.clone() };
    let mail = order_mail(&mut server, "order_placed", &office, &order).await;
    assert!(mail.field("text").starts_with("Hello,"), "{}", mail.field("text"));
    let order = app.buy(&ada, &tea, 1).await;
    let mail = order_mail(&mut server, "order_placed", &ada, &order).await;
    assert!(mail.field("text").starts_with("Hello Ada,"), "{}", mail.field("text"));
}
