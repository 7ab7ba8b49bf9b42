//! The address book, the export, and the deletion of an account, which leaves no trace of who had
//! it.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use crate::support::{
    Account, Event, PASSWORD, TestApp, assert_gap_free,
    person::{Person, address, assert_all_marked, assert_unmarked, read_every_route},
};

const MISSING: &str = "01a206bc-0609-7165-8b52-173bd2923daf";

const ADDRESSES: &str = "/api/auth/me/addresses";

/// Every value of every row of the embedded store, a line each. Compressed ones are decompressed.
fn dump(data: &Path) -> Vec<u8> {
    let database = rusqlite::Connection::open(data.join("souk.db")).unwrap();
    let mut dump = Vec::new();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut tables = database.prepare(sql).unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for table in tables.map(Result::unwrap) {
        let mut rows = database.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                let value: &[u8] = match row.get_ref(column).unwrap() {
                    rusqlite::types::ValueRef::Text(bytes)
                    | rusqlite::types::ValueRef::Blob(bytes) => bytes,
                    _ => continue,
                };
                match zstd::stream::decode_all(value) {
                    Ok(decompressed) => dump.extend(decompressed),
                    Err(_) => dump.extend_from_slice(value),
                }
                dump.push(b'\n');
            }
        }
    }
    dump
}

/// All events that the feed still has, up to now.
async fn read_history(app: &TestApp, admin: &Account) -> Vec<Event> {
    let mut feed = app.open_whole_feed(Some(admin)).await;
    let end = app.new_product(admin, &json!(1), 0).await;
    feed.read_until(|event| event.subject() == end).await
}

#[tokio::test]
async fn deleted_account_leaves_no_trace_of_its_owner() {
    let mut app = TestApp::unstarted(&[]);
    app.write(".env", "RUST_LOG=trace\n");
    app.restart().await;
    let (admin, stranger) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let mut person = Person::live(&app, &admin, &tea).await;
    person.ids.insert(tea.clone());
    let data = app.dir().join("data");
    assert_all_marked("the store", &dump(&data));
    let export = app.get("/api/auth/me/export").token(&person.account).await.is(200);
    let seen: Vec<u8> = read_every_route(&app, &[Some(&admin)], &person.ids)
        .await
        .into_iter()
        .flat_map(|(_, body)| body)
        .chain(export.body)
        .collect();
    assert!(String::from_utf8_lossy(&seen).contains("555-0199-377"));

    person.delete(&app).await;
    let callers = [Some(&admin), Some(&stranger), None, Some(&person.account)];
    for (path, body) in read_every_route(&app, &callers, &person.ids).await {
        assert_unmarked(&path, &body);
    }
    for body in person.repeat_staff_changes(&app, &admin).await {
        assert_unmarked("a repeat of a change by staff", &body);
    }
    for query in ["q=quillfeather", "q=amaranthe", "q=postbox"] {
        let found = app.get(&format!("/api/users?{query}")).token(&admin).await.ok();
        assert_eq!(found["items"], json!([]), "{query}");
    }
    let history = read_history(&app, &admin).await;
    assert_gap_free(&history);
    for event in &history {
        assert_unmarked(&event.kind, event.body.to_string().as_bytes());
    }
    app.stop().await;
    assert_unmarked("the log", app.log().as_bytes());
    assert_unmarked("the store", &dump(&data));
}

#[tokio::test]
async fn deletion_keeps_the_books_and_frees_the_email() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let person = Person::live(&app, &admin, &tea).await;
    let user = person.account.id.clone();
    let read_orders = async || {
        let all = app.get("/api/orders?all=true").token(&admin).await.ok();
        let of_person = |order: &&Value| order["user_id"] == user;
        all["items"].as_array().unwrap().iter().filter(of_person).cloned().collect::<Vec<_>>()
    };
    let before = read_orders().await;
    let tag = async |order: &Value| {
        let order = format!("/api/orders/{}", order["id"].as_str().unwrap());
        app.get(&order).token(&admin).await.etag()
    };
    let fulfilled = before.iter().find(|order| order["status"] == "fulfilled").unwrap();
    let tag_before = tag(fulfilled).await;
    person.delete(&app).await;

    let after = read_orders().await;
    assert_eq!(after.len(), 4);
    for (before, after) in before.iter().zip(&after) {
        for address in ["shipping_address", "billing_address"] {
            assert_eq!(after[address], json!({"country": "HR", "region": "PG"}));
        }
        assert!(before["email"].is_string() && after["email"].is_null());
        let expected = match before["status"].as_str().unwrap() {
            "pending_payment" => ("cancelled", before["version"].as_u64().unwrap() + 1),
            status => (status, before["version"].as_u64().unwrap()),
        };
        let found = (after["status"].as_str().unwrap(), after["version"].as_u64().unwrap());
        assert_eq!(found, expected);
        for member in ["id", "user_id", "items", "total_amount", "placed_at"] {
            assert_eq!(before[member], after[member]);
        }
        // The payment of an order that is cancelled is, too.
        let mut payment = before["payment"].clone();
        if before["status"] == "pending_payment" {
            payment["status"] = json!("cancelled");
        }
        assert_eq!(after["payment"], payment);
    }
    assert_ne!(tag(fulfilled).await, tag_before, "what a client has read is not current");
    // One unit was shipped; the unpaid order has released its own.
    assert_eq!(app.stock_counts(&admin, &tea).await, [99, 0, 99]);
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
    let history = read_history(&app, &admin).await;
    let is_own = |event: &&Event| event.subject() == user && event.family() == "auth";
    let last = history.iter().rfind(is_own).unwrap();
    assert_eq!(last.kind, "auth.user.deleted");
    assert_eq!(last.body["data"], json!({"user_id": user}));

    let login = json!({"email": person.account.email, "password": PASSWORD});
    app.post("/api/auth/login", &login).await.problem(401, "invalid_credentials");
    let again = json!({"email": person.account.email, "password": PASSWORD, "name": "Bob"});
    let new = Account::from_session(&app.post("/api/auth/register", &again).await.is(201).json());
    assert_ne!(new.id, user);
    assert_eq!(app.get("/api/orders").token(&new).await.ok()["items"], json!([]));
    assert_eq!(app.get(ADDRESSES).token(&new).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn deletion_ends_every_token() {
    let mut app = TestApp::start().await;
    let ada = app.customer().await;
    let other = app.login(&ada.email, PASSWORD).await;
    let mut feed = app.open_feed(Some(&ada), None).await;
    let body = json!({"current_password": PASSWORD});
    app.delete("/api/auth/me").json(&body).token(&ada).await.is(204);
    // The feed ends with its session.
    while let Some(event) = feed.next_or_end().await {
        assert_eq!(event.kind, "cart.cleared");
    }
    for restarted in [false, true] {
        if restarted {
            app.kill_9().await;
            app.restart().await;
        }
        for session in [&ada, &other] {
            app.get("/api/cart").token(session).await.problem(401, "unauthenticated");
            let refresh = json!({"refresh_token": session.refresh_token});
            app.post("/api/auth/refresh", &refresh).await.problem(401, "unauthenticated");
            let token = json!({"token": session.token});
            let validated = app.post("/api/auth/validate", &token).await.ok();
            assert_eq!(validated["valid"], false);
        }
    }
}

#[tokio::test]
async fn deletion_needs_the_password_and_no_open_order() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let (ada, guest) = (app.customer().await, app.guest().await);
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let delete = |body: Value| app.delete("/api/auth/me").json(&body);
    let right = json!({"current_password": PASSWORD});
    let wrong = json!({"current_password": "not the password"});
    delete(wrong.clone()).token(&ada).await.problem(401, "invalid_credentials");
    delete(json!({})).token(&ada).await.problem(422, "validation_failed");
    delete(json!({"current_password": 1})).token(&ada).await.problem(422, "validation_failed");
    delete(right.clone()).await.problem(401, "unauthenticated");
    delete(right.clone()).token(&guest).await.problem(403, "forbidden");
    let admin_password = json!({"current_password": crate::support::ADMIN_PASSWORD});
    delete(admin_password).token(&admin).await.problem(409, "last_admin");
    let order = app.buy(&ada, &tea, 1).await;
    app.order_action(&admin, &order, "pay").await.ok();
    delete(right.clone()).token(&ada).await.problem(409, "orders_open");
    // Nothing has changed: it is still logged in, and its order is as it was.
    assert_eq!(app.order(&ada, &order).await["status"], "paid");
    app.order_action(&admin, &order, "fulfil").await.ok();
    delete(right.clone()).token(&ada).await.is(204);
    delete(right).token(&ada).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn wrong_passwords_of_deletions_count_as_failed_logins() {
    let app = TestApp::with_settings(&[("limits.login", "3")]).await;
    let ada = app.customer().await;
    let delete = |password: &str| {
        let body = json!({"current_password": password});
        app.delete("/api/auth/me").json(&body).token(&ada)
    };
    for _ in 0..3 {
        delete("not the password").await.problem(401, "invalid_credentials");
    }
    delete(PASSWORD).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn addresses_are_kept_changed_and_removed() {
    let app = TestApp::start().await;
    let (ada, bob, guest) = (app.customer().await, app.customer().await, app.guest().await);
    assert_eq!(
        app.get(ADDRESSES).token(&ada).await.ok(),
        json!({"items": [], "next_cursor": null})
    );
    let added = app.post(ADDRESSES, &address()).token(&ada).await.is(201);
    assert_eq!(
        (added.etag(), &added.headers["cache-control"]),
        ("\"1\"".to_owned(), &"no-store".parse().unwrap())
    );
    let first = added.json();
    let mut expected = address();
    expected["id"] = first["id"].clone();
    expected["version"] = json!(1);
    assert_eq!(first, expected);
    let path = format!("{ADDRESSES}/{}", first["id"].as_str().unwrap());

    // A fetched address can be sent back.
    let mut moved = first.clone();
    moved["city"] = json!("Krk");
    moved.as_object_mut().unwrap().remove("line2");
    let stale = app.put(&path, &moved).token(&ada).header("if-match", "\"7\"");
    stale.await.problem(412, "version_mismatch");
    let replaced = app.put(&path, &moved).token(&ada).header("if-match", "\"1\"").await.is(200);
    assert_eq!(replaced.etag(), "\"2\"");
    moved["version"] = json!(2);
    assert_eq!(replaced.json(), moved);
    assert_eq!(app.put(&path, &moved).token(&ada).await.ok()["version"], 2, "nothing changes");

    let second = app.post(ADDRESSES, &address()).token(&ada).await.is(201).json();
    let page = app.get(&format!("{ADDRESSES}?limit=1")).token(&ada).await.ok();
    assert_eq!(page["items"], json!([second]));
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = app.get(&format!("{ADDRESSES}?limit=1&cursor={cursor}")).token(&ada).await.ok();
    assert_eq!(page, json!({"items": [moved], "next_cursor": null}));

    // Another's address does not exist.
    app.put(&path, &address()).token(&bob).await.problem(404, "address_not_found");
    app.delete(&path).token(&bob).await.problem(404, "address_not_found");
    app.get(ADDRESSES).token(&guest).await.problem(403, "forbidden");
    app.post(ADDRESSES, &address()).token(&guest).await.problem(403, "forbidden");
    app.delete(&path)
        .token(&ada)
        .header("if-match", "\"1\"")
        .await
        .problem(412, "version_mismatch");
    app.delete(&path).token(&ada).await.is(204);
    app.delete(&path).token(&ada).await.problem(404, "address_not_found");
    let missing = format!("{ADDRESSES}/{MISSING}");
    app.put(&missing, &address()).token(&ada).await.problem(404, "address_not_found");
    app.put(&format!("{ADDRESSES}/x"), &address())
        .token(&ada)
        .await
        .problem(404, "address_not_found");
}

#[tokio::test]
async fn addresses_are_validated_and_limited() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    let with = |member: &str, value: Value| {
        let mut address = address();
        address[member] = value;
        address
    };
    let long = "x".repeat(201);
    for (member, value) in [
        ("name", json!("")),
        ("line1", json!(long)),
        ("line2", json!("")),
        ("city", json!(" ")),
        ("region", json!("a\u{0}b")),
        ("postal_code", json!(long)),
        ("country", json!("hr")),
        ("country", json!("XX")),
        ("country", json!("HRV")),
        ("phone", json!(long)),
        ("phone", json!(7)),
        ("street", json!("12 Mint Lane")),
        ("id", json!(MISSING)),
    ] {
        let refused = app.post(ADDRESSES, &with(member, value)).token(&ada).await;
        let problem = refused.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], member, "{problem}");
    }
    let mut incomplete = address();
    incomplete.as_object_mut().unwrap().remove("country");
    app.post(ADDRESSES, &incomplete).token(&ada).await.problem(422, "validation_failed");
    let least =
        json!({"name": "A", "line1": "1", "city": "B", "postal_code": "2", "country": "FR"});
    // Many at once are all kept, and no more than are allowed.
    let adds = (0..60).map(|_| async { app.post(ADDRESSES, &least).token(&ada).await.status });
    let statuses = futures_util::future::join_all(adds).await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 50, "{statuses:?}");
    app.post(ADDRESSES, &least).token(&ada).await.problem(422, "address_limit");
    let page = app.get(&format!("{ADDRESSES}?limit=100")).token(&ada).await.ok();
    let ids: BTreeSet<&str> =
        page["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn export_has_everything_of_its_owner_and_no_secret() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1000).await;
    let person = Person::live(&app, &admin, &tea).await;
    let ada = &person.account;
    app.buy(&app.customer().await, &tea, 1).await;
    // More than a page of orders.
    for _ in 0..120 {
        let order = app.buy(ada, &tea, 1).await;
        app.order_action(ada, &order, "cancel").await.ok();
    }
    let response = app.get("/api/auth/me/export").token(ada).await.is(200);
    assert_eq!(response.headers["content-type"], "application/json");
    assert_eq!(response.headers["content-disposition"], "attachment; filename=\"account.json\"");
    assert_eq!(response.headers["cache-control"], "no-store");
    let export: Value = serde_json::from_slice(&response.body).unwrap();
    let members: Vec<&String> = export.as_object().unwrap().keys().collect();
    let wanted = ["addresses", "cart", "exported_at", "orders", "sessions", "user"];
    assert_eq!(
        members.into_iter().collect::<BTreeSet<_>>(),
        wanted.map(str::to_owned).iter().collect()
    );
    assert_eq!(export["user"], app.get("/api/auth/me").token(ada).await.ok());
    assert_eq!(export["cart"], app.get("/api/cart").token(ada).await.ok());
    let of_list = app.get(ADDRESSES).token(ada).await.ok();
    let mut newest_first = export["addresses"].as_array().unwrap().clone();
    newest_first.reverse();
    assert_eq!(json!(newest_first), of_list["items"]);
    assert_eq!(export["sessions"].as_array().unwrap().len(), 2);
    let mut orders = Vec::new();
    let mut path = "/api/orders?limit=100".to_owned();
    loop {
        let page = app.get(&path).token(ada).await.ok();
        orders.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/orders?limit=100&cursor={cursor}");
    }
    assert_eq!(orders.len(), 124);
    assert_eq!(export["orders"], json!(orders));
    let text = String::from_utf8(response.body).unwrap();
    for secret in ["$2b$", &ada.token, &ada.refresh_token, "password", "hash"] {
        assert!(!text.contains(secret), "{secret}");
    }
    app.get("/api/auth/me/export").await.problem(401, "unauthenticated");
    app.get("/api/auth/me/export").token(app.guest().await).await.problem(403, "forbidden");
}
