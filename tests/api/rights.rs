//! Who may do what: the role and the scopes that an account has at the time of the request.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{Account, PASSWORD, TestApp};

const MISSING: &str = "01a206bc-0609-7165-8b52-173bd2923daf";

const SCOPES: [&str; 16] = [
    "catalog",
    "catalog:read",
    "stock",
    "stock:read",
    "orders",
    "orders:read",
    "customers",
    "customers:read",
    "promotions",
    "promotions:read",
    "shipping",
    "shipping:read",
    "taxes",
    "taxes:read",
    "webhooks",
    "webhooks:read",
];

/// Who may use an operation.
pub(crate) enum Access {
    Anyone,
    /// Guests and API keys too.
    Authenticated,
    /// Guests too.
    Bearer,
    /// Those with an account.
    Account,
    /// Those with an account, and API keys with all of these scopes.
    BearerOrKey(&'static [&'static str]),
    /// Staff with all of these scopes, and admins.
    Staff(&'static [&'static str]),
    Admin,
}

use Access::{Admin, Anyone, Authenticated, Bearer, BearerOrKey, Staff};

/// The operations of the OpenAPI document, by `operationId`. A new one needs a line here.
pub(crate) fn access_of(operation: &str) -> Option<Access> {
    Some(match operation {
        "register_account"
        | "log_in"
        | "refresh_session"
        | "validate_token"
        | "get_signing_keys"
        | "search_products"
        | "suggest_products"
        | "get_product"
        | "create_guest_cart"
        | "stream_events"
        | "get_liveness"
        | "get_readiness"
        | "get_metrics"
        | "request_password_reset"
        | "reset_password"
        | "verify_email"
        | "take_stripe_webhook" => Anyone,
        "get_cart"
        | "add_to_cart"
        | "update_cart_line"
        | "remove_from_cart"
        | "clear_cart"
        | "add_cart_code"
        | "remove_cart_code"
        | "set_cart_shipping"
        | "list_cart_shipping_methods"
        | "begin_payment"
        | "check_out" => Bearer,
        "create_event_ticket" => Authenticated,
        "request_verification"
        | "log_out"
        | "get_account"
        | "update_account"
        | "change_password"
        | "list_sessions"
        | "end_other_sessions"
        | "end_session"
        | "list_addresses"
        | "add_address"
        | "replace_address"
        | "delete_address"
        | "export_account"
        | "delete_account"
        | "merge_guest_cart" => Access::Account,
        "list_orders" | "get_order" => BearerOrKey(&["orders:read"]),
        "cancel_order" => BearerOrKey(&["orders"]),
        "create_product" | "replace_product" | "patch_product" | "delete_product" => {
            Staff(&["catalog"])
        }
        "import_products" => Staff(&["catalog", "stock"]),
        "get_stock" | "list_stock_movements" => Staff(&["stock:read"]),
        "change_stock" => Staff(&["stock"]),
        "export_orders" => Staff(&["orders:read"]),
        "pay_order" | "fulfil_order" | "refund_order" => Staff(&["orders"]),
        "list_users" | "get_user" => Staff(&["customers:read"]),
        "patch_user" | "audit_stock" | "create_api_key" | "list_api_keys" | "delete_api_key"
        | "list_actions" => Admin,
        _ => return access_of_rules(operation).or_else(|| access_of_webhooks(operation)),
    })
}

fn access_of_rules(operation: &str) -> Option<Access> {
    Some(match operation {
        "list_promotions" | "get_promotion" => Staff(&["promotions:read"]),
        "create_promotion" | "replace_promotion" | "patch_promotion" | "delete_promotion" => {
            Staff(&["promotions"])
        }
        "list_shipping_methods" | "get_shipping_method" => Staff(&["shipping:read"]),
        "create_shipping_method"
        | "replace_shipping_method"
        | "patch_shipping_method"
        | "delete_shipping_method" => Staff(&["shipping"]),
        "list_tax_rates" | "get_tax_rate" => Staff(&["taxes:read"]),
        "create_tax_rate" | "replace_tax_rate" | "patch_tax_rate" | "delete_tax_rate" => {
            Staff(&["taxes"])
        }
        _ => return None,
    })
}

fn access_of_webhooks(operation: &str) -> Option<Access> {
    Some(match operation {
        "list_webhooks" | "get_webhook" | "list_webhook_deliveries" => Staff(&["webhooks:read"]),
        "create_webhook"
        | "patch_webhook"
        | "delete_webhook"
        | "rotate_webhook_secret"
        | "test_webhook"
        | "redeliver_webhook_event" => Staff(&["webhooks"]),
        _ => return None,
    })
}

/// Whether a member of staff with the scopes `held` has `needed`. `X` includes `X:read`.
fn has(held: &[&str], needed: &str) -> bool {
    held.iter().any(|scope| *scope == needed || format!("{scope}:read") == needed)
}

/// Changes an account as an admin; returns it.
async fn set_rights(app: &TestApp, admin: &Account, user: &Account, change: &Value) -> Value {
    app.patch(&format!("/api/users/{}", user.id), change).token(admin).await.ok()
}

/// The operations that `token` may use. No request changes anything, since each has a parameter
/// that no operation knows: it is refused for that once access is granted.
async fn permitted(
    app: &TestApp,
    operations: &BTreeMap<String, (String, String)>,
    token: Option<&str>,
) -> BTreeSet<String> {
    let mut permitted = BTreeSet::new();
    for (operation, (method, path)) in operations {
        let mut call = app.call(method, &format!("{path}?no_such_parameter=1"));
        if let Some(token) = token {
            call = call.token(token);
        }
        let response = call.await;
        match response.status {
            401 => drop(response.problem(401, "unauthenticated")),
            403 => drop(response.problem(403, "forbidden")),
            _ => drop(permitted.insert(operation.clone())),
        }
    }
    permitted
}

pub(crate) async fn read_operations(app: &TestApp) -> BTreeMap<String, (String, String)> {
    let document = app.get("/openapi.json").await.ok();
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let path = path.replace("{id}", MISSING).replace("{product_id}", MISSING);
            let path = path.replace("{event_id}", MISSING);
            operations.insert(id, (method.to_uppercase(), path));
        }
    }
    operations
}

fn expected(
    operations: &BTreeMap<String, (String, String)>,
    may: impl Fn(Access) -> bool,
) -> BTreeSet<String> {
    let access = |id: &str| access_of(id).unwrap_or_else(|| panic!("who may use {id}?"));
    operations.keys().filter(|id| may(access(id))).cloned().collect()
}

#[tokio::test]
async fn every_operation_asks_for_its_right() {
    let app = TestApp::start().await;
    let (admin, ada, guest) = (app.admin().await, app.customer().await, app.guest().await);
    let operations = read_operations(&app).await;
    let found = permitted(&app, &operations, None).await;
    assert_eq!(found, expected(&operations, |access| matches!(access, Anyone)), "no token");
    let found = permitted(&app, &operations, Some(&guest.token)).await;
    let of_guest = expected(&operations, |access| {
        matches!(access, Anyone | Authenticated | Bearer | BearerOrKey(_))
    });
    assert_eq!(found, of_guest, "guest");
    let of_customer = expected(&operations, |access| !matches!(access, Staff(_) | Admin));
    assert_eq!(permitted(&app, &operations, Some(&ada.token)).await, of_customer, "customer");
    let found = permitted(&app, &operations, Some(&admin.token)).await;
    assert_eq!(found, operations.keys().cloned().collect(), "admin");
    // One token throughout: the rights are the account's.
    let pairs = [&["catalog", "stock"][..], &["catalog:read", "stock:read"]];
    for held in SCOPES.iter().map(std::slice::from_ref).chain([&[][..]]).chain(pairs) {
        set_rights(&app, &admin, &ada, &json!({"role": "staff", "scopes": held})).await;
        let wanted = expected(&operations, |access| match access {
            Anyone | Authenticated | Bearer | Access::Account | BearerOrKey(_) => true,
            Staff(scopes) => scopes.iter().all(|scope| has(held, scope)),
            Admin => false,
        });
        assert_eq!(permitted(&app, &operations, Some(&ada.token)).await, wanted, "{held:?}");
    }
    set_rights(&app, &admin, &ada, &json!({"role": "customer"})).await;
    assert_eq!(permitted(&app, &operations, Some(&ada.token)).await, of_customer, "customer again");
}

#[tokio::test]
async fn every_operation_asks_an_api_key_for_its_right() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let operations = read_operations(&app).await;
    let pairs = [&["catalog", "stock"][..], &["catalog:read", "stock:read"]];
    for held in SCOPES.iter().map(std::slice::from_ref).chain([&SCOPES[..]]).chain(pairs) {
        let body = json!({"name": "robot", "scopes": held});
        let key = app.post("/api/api-keys", &body).token(&admin).await.is(201).json();
        let wanted = expected(&operations, |access| match access {
            Anyone | Authenticated => true,
            Staff(scopes) | BearerOrKey(scopes) => scopes.iter().all(|scope| has(held, scope)),
            Bearer | Access::Account | Admin => false,
        });
        let found = permitted(&app, &operations, key["key"].as_str()).await;
        assert_eq!(found, wanted, "{held:?}");
    }
}

#[tokio::test]
async fn orders_of_others_are_seen_and_changed_by_scope() {
    let app = TestApp::start().await;
    let (admin, ada, bob) = (app.admin().await, app.customer().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let of_ada = app.buy(&ada, &tea, 1).await["id"].as_str().unwrap().to_owned();
    let of_bob = app.buy(&bob, &tea, 1).await["id"].as_str().unwrap().to_owned();
    let order = format!("/api/orders/{of_ada}");
    let cancel = |id: &str| app.call("POST", &format!("/api/orders/{id}/cancel"));
    for scopes in [json!([]), json!(["catalog", "stock", "customers"])] {
        set_rights(&app, &admin, &bob, &json!({"role": "staff", "scopes": scopes})).await;
        app.get(&order).token(&bob).await.problem(404, "not_found");
        app.get("/api/orders?all=true").token(&bob).await.problem(403, "forbidden");
        cancel(&of_ada).token(&bob).await.problem(404, "not_found");
    }
    set_rights(&app, &admin, &bob, &json!({"scopes": ["orders:read"]})).await;
    app.get(&order).token(&bob).await.ok();
    let all = app.get("/api/orders?all=true").token(&bob).await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    cancel(&of_ada).token(&bob).await.problem(403, "forbidden");
    app.call("POST", &format!("{order}/pay")).token(&bob).await.problem(403, "forbidden");
    cancel(MISSING).token(&bob).await.problem(404, "not_found");
    // Its own order stays its own.
    assert_eq!(cancel(&of_bob).token(&bob).await.ok()["status"], "cancelled");
    set_rights(&app, &admin, &bob, &json!({"scopes": ["orders"]})).await;
    assert_eq!(cancel(&of_ada).token(&bob).await.ok()["status"], "cancelled");
}

#[tokio::test]
async fn feed_shows_what_the_scopes_read() {
    let app = TestApp::start().await;
    let (admin, ada, bob) = (app.admin().await, app.customer().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    app.buy(&ada, &tea, 1).await;
    app.call("POST", "/api/auth/logout").token(&app.customer().await).await.is(204);
    let end = app.new_product(&admin, &json!(1), 0).await;
    let read = async |account: &Account| {
        let mut feed = app.open_whole_feed(Some(account)).await;
        let events = feed.read_until(|event| event.subject() == end).await;
        let full_stock = events.iter().any(|event| event.body["data"]["on_hand"].is_number());
        let families: BTreeSet<String> = events
            .iter()
            .map(|event| event.kind.split('.').next().unwrap().to_owned())
            .filter(|family| !["catalog", "inventory"].contains(&family.as_str()))
            .collect();
        (full_stock, families.into_iter().collect::<Vec<_>>().join(" "))
    };
    for (scope, full_stock, families) in [
        ("catalog", false, ""),
        ("stock:read", true, ""),
        ("orders:read", false, "order"),
        ("customers:read", false, "auth cart"),
        ("customers", false, "auth cart"),
        ("webhooks", false, ""),
    ] {
        set_rights(&app, &admin, &bob, &json!({"role": "staff", "scopes": [scope]})).await;
        assert_eq!(read(&bob).await, (full_stock, families.to_owned()), "{scope}");
    }
    assert_eq!(read(&admin).await, (true, "auth cart order".to_owned()));
}

#[tokio::test]
async fn open_feed_goes_on_with_the_rights_of_the_moment() {
    let app = TestApp::start().await;
    let (admin, ada, bob) = (app.admin().await, app.customer().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let staff = json!({"role": "staff", "scopes": ["orders:read"]});
    set_rights(&app, &admin, &bob, &staff).await;
    let mut feed = app.open_feed_at("/api/events?types=order.*,catalog.*", Some(&bob), None).await;
    app.buy(&ada, &tea, 1).await;
    assert_eq!(feed.next().await.kind, "order.placed");
    set_rights(&app, &admin, &bob, &json!({"scopes": ["stock"]})).await;
    app.buy(&ada, &tea, 1).await;
    app.new_product(&admin, &json!(1), 0).await;
    assert_eq!(feed.next().await.kind, "catalog.product.created");
    set_rights(&app, &admin, &bob, &json!({"blocked": true})).await;
    assert_eq!(feed.next_or_end().await, None);
}

#[tokio::test]
async fn rights_are_the_account_s_and_not_the_token_s() {
    let mut app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let role = async |app: &TestApp, token: &str| {
        let body = json!({"token": token});
        app.post("/api/auth/validate", &body).await.ok()["role"].as_str().unwrap().to_owned()
    };
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let stock = format!("/api/products/{tea}/stock");
    set_rights(&app, &admin, &ada, &json!({"role": "staff", "scopes": ["stock"]})).await;
    assert_eq!(role(&app, &ada.token).await, "staff");
    app.get(&stock).token(&ada).await.ok();
    // They are known after a restart, too.
    app.kill_9().await;
    app.restart().await;
    assert_eq!(role(&app, &ada.token).await, "staff");
    app.get(&stock).token(&ada).await.ok();
    let as_staff = app.login(&ada.email, PASSWORD).await;
    set_rights(&app, &admin, &ada, &json!({"role": "admin"})).await;
    app.get("/api/users").token(&as_staff).await.ok();
    let as_admin = app.login(&ada.email, PASSWORD).await;
    set_rights(&app, &admin, &ada, &json!({"role": "customer"})).await;
    for token in [&ada.token, &as_staff.token, &as_admin.token] {
        assert_eq!(role(&app, token).await, "customer");
        app.get(&stock).token(token).await.problem(403, "forbidden");
        app.get("/api/cart").token(token).await.ok();
    }
}
