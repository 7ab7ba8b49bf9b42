//! Accounts: registration, login, and the guest's cart.

use serde_json::{Value, json};

use crate::support::{Account, PASSWORD, Response, TestApp};

fn without_request_id(response: &Response) -> Value {
    let mut problem = response.json();
    problem.as_object_mut().unwrap().remove("request_id").unwrap();
    problem
}

#[tokio::test]
async fn registration_logs_the_user_in() {
    let app = TestApp::start().await;
    let body = json!({"email": " Ada@Souk.Example ", "password": PASSWORD, "name": "Ada Lovelace"});
    let session = app.post("/api/auth/register", &body).await.is(201).json();
    assert_eq!((&session["expires_in"], &session["cart_merged"]), (&json!(900), &json!(false)));
    assert_eq!(session.as_object().unwrap().len(), 5, "{session}");
    let user = &session["user"];
    assert_eq!(
        (&user["email"], &user["name"], &user["role"]),
        (&json!("ada@souk.example"), &json!("Ada Lovelace"), &json!("customer"))
    );
    let ada = Account::from_session(&session);
    assert_eq!(&app.get("/api/auth/me").token(&ada).await.ok(), user);
    let again = app.login("ada@souk.example", PASSWORD).await;
    assert_eq!(again.id, ada.id);
    assert_ne!(again.token, ada.token);
    assert_eq!(app.get("/api/auth/me").token(app.admin().await).await.ok()["role"], "admin");
    let body_text = session.to_string();
    assert!(!body_text.contains("hash") && !body_text.contains(PASSWORD), "{body_text}");
}

#[tokio::test]
async fn email_addresses_are_case_insensitive() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    for email in [ada.email.to_uppercase(), format!(" {}\t", ada.email)] {
        assert_eq!(app.login(&email, PASSWORD).await.id, ada.id);
        let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
        app.post("/api/auth/register", &body).await.problem(409, "email_taken");
    }
}

#[tokio::test]
async fn composed_and_decomposed_passwords_are_the_same() {
    let app = TestApp::start().await;
    let (composed, decomposed) = ("P\u{e4}ssw\u{f6}rt-1", "Pa\u{308}sswo\u{308}rt-1");
    let body = json!({"email": "ada@souk.example", "password": composed, "name": "Ada"});
    app.post("/api/auth/register", &body).await.is(201);
    app.login("ada@souk.example", decomposed).await;
    app.login("ada@souk.example", composed).await;
}

#[tokio::test]
async fn common_passwords_and_invisible_characters_are_rejected() {
    let app = TestApp::start().await;
    for (field, value, code) in [
        ("password", "password", "too_common"),
        ("password", "QWERTY123", "too_common"),
        ("password", "correct\0horse", "invalid_character"),
        ("email", "a@mail..example", "invalid_email"),
        ("email", ".a@mail.example", "invalid_email"),
        ("email", "a@mail.example.", "invalid_email"),
        ("email", "a\u{200b}b@mail.example", "invalid_character"),
        ("email", "ab@ma\u{202e}il.example", "invalid_character"),
    ] {
        let mut body = json!({"email": "ada@souk.example", "password": PASSWORD, "name": "Ada"});
        body[field] = json!(value);
        let problem = app.post("/api/auth/register", &body).await.problem(422, "validation_failed");
        let error = &problem["errors"][0];
        assert_eq!((&error["field"], &error["code"]), (&json!(field), &json!(code)), "{value:?}");
    }
    let body = json!({"email": "ada@souk.example", "password": PASSWORD, "name": "Ada"});
    app.post("/api/auth/register", &body).await.is(201);
}

#[tokio::test]
async fn failed_login_does_not_reveal_the_reason() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    let login = async |email: &str, password: &str| {
        let response =
            app.post("/api/auth/login", &json!({"email": email, "password": password})).await;
        assert_eq!(response.status, 401, "{email}, {password}");
        let headers: Vec<_> = response
            .headers
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "x-request-id" | "date"))
            .collect();
        (without_request_id(&response), format!("{headers:?}"))
    };
    let wrong = login(&ada.email, "not her password").await;
    assert_eq!(wrong.0["code"], "invalid_credentials");
    for (email, password) in [
        ("nobody@souk.example", "not her password"),
        ("nobody@souk.example", PASSWORD),
        ("no address", PASSWORD),
        ("", ""),
        (&ada.email, ""),
        (&ada.email, &PASSWORD.to_uppercase()),
        (&ada.email, &format!("{PASSWORD} ")),
        (&ada.email, &"x".repeat(5000)),
        (&ada.email, &format!("{PASSWORD}\0")),
    ] {
        assert_eq!(login(email, password).await, wrong, "{email}, {password}");
    }
}

#[tokio::test]
async fn guest_cart_is_merged_at_registration_and_login() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let (tea, cup) = (
        app.new_product(&admin, &json!(4.5), 100).await,
        app.new_product(&admin, &json!(7), 100).await,
    );
    let guest = app.guest().await;
    app.add_to_cart(&guest, &tea, 2).await.ok();
    let body = json!({
        "email": "ada@souk.example", "password": PASSWORD, "name": "Ada",
        "guest_token": guest.token,
    });
    let session = app.post("/api/auth/register", &body).await.is(201).json();
    assert_eq!(session["cart_merged"], true);
    let ada = Account::from_session(&session);
    assert_eq!(app.get("/api/cart").token(&ada).await.lines(), [(tea.clone(), 2)]);

    let other = app.guest().await;
    app.add_to_cart(&other, &tea, 1).await.ok();
    app.add_to_cart(&other, &cup, 1).await.ok();
    let body =
        json!({"email": "ada@souk.example", "password": PASSWORD, "guest_token": other.token});
    assert_eq!(app.post("/api/auth/login", &body).await.ok()["cart_merged"], true);
    assert_eq!(
        app.get("/api/cart").token(&ada).await.lines(),
        [(tea.clone(), 3), (cup.clone(), 1)]
    );
    for guest in [&guest, &other] {
        app.get("/api/cart").token(guest).await.problem(409, "guest_cart_merged");
        app.add_to_cart(guest, &tea, 1).await.problem(409, "guest_cart_merged");
        app.delete("/api/cart").token(guest).await.problem(409, "guest_cart_merged");
    }
    // A cart already merged into another account stays there; the login succeeds.
    let body = json!({
        "email": "eve@souk.example", "password": PASSWORD, "name": "Eve",
        "guest_token": other.token,
    });
    let session = app.post("/api/auth/register", &body).await.is(201).json();
    assert_eq!(session["cart_merged"], false);
    assert_eq!(app.cart(&Account::from_session(&session)).await["item_count"], 0);
    let body = json!({
        "email": "eve@souk.example", "password": "not hers", "guest_token": app.guest().await.token,
    });
    app.post("/api/auth/login", &body).await.problem(401, "invalid_credentials");
    assert_eq!(app.get("/api/cart").token(&ada).await.lines(), [(tea, 3), (cup, 1)]);
}

#[tokio::test]
async fn merge_keeps_all_lines_and_caps_quantities() {
    let app = TestApp::with_settings(&[("cart.max_quantity", "10"), ("cart.max_lines", "2")]).await;
    let admin = app.admin().await;
    let mut products = Vec::new();
    for _ in 0..4 {
        products.push(app.new_product(&admin, &json!(1), 10).await);
    }
    let [a, b, c, d] = &products[..] else { panic!("four products") };
    let (ada, guest) = (app.customer().await, app.guest().await);
    app.add_to_cart(&ada, a, 8).await.ok();
    app.add_to_cart(&ada, b, 1).await.ok();
    app.add_to_cart(&guest, c, 3).await.ok();
    app.add_to_cart(&guest, a, 7).await.ok();
    app.change_stock(&admin, c, &json!({"set": 0, "reason": "sold out"})).await.ok();
    let merged = app.merge_cart(&ada, &guest).await.is(200);
    assert_eq!(merged.lines(), [(a.clone(), 10), (b.clone(), 1), (c.clone(), 3)]);
    assert_eq!(merged.json()["items"][2]["available"], 0, "a merge does not check stock");
    app.add_to_cart(&ada, d, 1).await.problem(422, "line_limit");
    app.add_to_cart(&ada, a, 1).await.problem(422, "quantity_limit");
    let empty = app.guest().await;
    let again = app.merge_cart(&ada, &empty).await.is(200);
    assert_eq!(
        (again.lines(), again.json()["version"].clone()),
        (merged.lines(), merged.json()["version"].clone())
    );
    app.get("/api/cart").token(&empty).await.problem(409, "guest_cart_merged");
}

#[tokio::test]
async fn guest_cart_expires_after_thirty_days() {
    let app = TestApp::start().await;
    let response = app.call("POST", "/api/cart/guest").await.is(201).json();
    assert_eq!(response["expires_in"], 30 * 24 * 60 * 60);
    let cart = &response["cart"];
    assert!(cart["expires_at"].as_str().unwrap() > cart["updated_at"].as_str().unwrap());
    assert_eq!(
        (&cart["id"], &cart["version"], &cart["items"]),
        (&cart["user_id"], &json!(0), &json!([]))
    );
    let shown = app.get("/api/cart").token(response["token"].as_str().unwrap()).await.ok();
    assert_eq!(&shown, cart);
    let cart = app.cart(&app.customer().await).await;
    let all = "codes currency discounts id item_count items subtotal taxes total_amount \
               updated_at user_id version";
    assert_eq!(
        cart.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" "),
        all,
        "a customer's cart does not expire"
    );
}
