//! The record of what staff, admins, API keys and the command line change.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    action_steps::{Step, Walk},
    rights::{Access, access_of, read_operations},
    support::{Cli, unique_number},
};

impl Walk {
    /// Runs a step with `token` and compares the one action that it leaves.
    async fn check(&self, operation: &str, step: Step, token: &str, actor: &Value) {
        let before: BTreeSet<String> = ids(&self.actions().await);
        let request_id = format!("walk-{}", unique_number());
        let response = step.call.token(token).header("x-request-id", &request_id).await;
        assert!((200..300).contains(&response.status), "{operation}: {}", response.text());
        let created = || response.json()["id"].as_str().unwrap().to_owned();
        let subject = step.subject.unwrap_or_else(created);
        let after = self.actions().await;
        let new: Vec<&Value> = after
            .iter()
            .filter(|action| !before.contains(action["id"].as_str().unwrap()))
            .collect();
        let [action] = *new else { panic!("{operation} left {new:?}") };
        let expected = json!({
            "id": action["id"], "at": action["at"], "actor": actor, "action": operation,
            "subject": subject, "request_id": request_id,
            "version_before": step.versions.0, "version_after": step.versions.1,
        });
        assert_eq!(*action, expected);
    }
}

fn ids(actions: &[Value]) -> BTreeSet<String> {
    actions.iter().map(|action| action["id"].as_str().unwrap().to_owned()).collect()
}

/// Operations that need staff's rights, and change nothing of a shop whose books are right.
const WITHOUT_CHANGE: [&str; 1] = ["audit_stock"];

/// The operations that may change something with more than a customer's rights.
fn changing_operations(
    operations: &BTreeMap<String, (String, String)>,
) -> impl Iterator<Item = (&str, Access)> {
    operations.iter().filter_map(|(id, (method, _))| match access_of(id) {
        Some(access @ (Access::Staff(_) | Access::Admin | Access::BearerOrKey(_)))
            if method != "GET" && !WITHOUT_CHANGE.contains(&id.as_str()) =>
        {
            Some((id.as_str(), access))
        }
        _ => None,
    })
}

#[tokio::test]
async fn each_change_of_staff_is_one_action() {
    let walk = Walk::start().await;
    let operations = read_operations(&walk.app).await;
    let me = walk.app.get("/api/auth/me").token(&walk.admin).await.ok();
    let admin = json!({"type": "user", "id": me["id"], "name": me["name"]});
    let scopes =
        json!(["catalog", "stock", "orders", "promotions", "shipping", "taxes", "webhooks",]);
    let body = json!({"name": "robot", "scopes": scopes});
    let key = walk.app.post("/api/api-keys", &body).token(&walk.admin).await.is(201).json();
    let robot = json!({"type": "api_key", "id": key["id"], "name": "robot"});
    let mut count = 0;
    for (operation, access) in changing_operations(&operations) {
        let step = walk.step(operation).await;
        let step = step.unwrap_or_else(|| panic!("how does {operation} change something?"));
        walk.check(operation, step, &walk.admin.token, &admin).await;
        if !matches!(access, Access::Admin) {
            let step = walk.step(operation).await.unwrap();
            walk.check(operation, step, key["key"].as_str().unwrap(), &robot).await;
        }
        count += 1;
    }
    assert!(count >= 12, "{count}");
}

#[tokio::test]
async fn what_changes_nothing_or_is_the_caller_s_own_is_no_action() {
    let walk = Walk::start().await;
    let (app, admin) = (&walk.app, &walk.admin);
    let tea = walk.product().await;
    let before = ids(&walk.actions().await);
    let same = json!({"set": 50, "reason": "count"});
    app.change_stock(admin, &tea, &same).await.ok();
    app.change_stock(admin, &tea, &same).key("k").await.ok();
    app.patch(&format!("/api/products/{tea}"), &json!({"price": 4.5})).token(admin).await.ok();
    let less = json!({"delta": -51, "reason": "lost"});
    app.change_stock(admin, &tea, &less).await.problem(409, "insufficient_stock");
    app.patch(&format!("/api/users/{}", walk.ada.id), &json!({"role": "customer"}))
        .token(admin)
        .await
        .ok();
    app.call("POST", "/api/admin/audit").token(admin).await.ok();
    // An admin is a customer, too.
    let own = app.buy(admin, &tea, 1).await;
    app.order_action(admin, &own, "cancel").await.ok();
    let order = app.buy(&walk.ada, &tea, 1).await;
    app.order_action(&walk.ada, &order, "cancel").await.ok();
    assert_eq!(ids(&walk.actions().await), before);
    let order = app.order(admin, &order).await;
    assert_eq!(order["actor"], Value::Null);
    // A repeat is the same action.
    let more = json!({"delta": 1, "reason": "delivery"});
    app.change_stock(admin, &tea, &more).key("more").await.ok();
    assert!(app.change_stock(admin, &tea, &more).key("more").await.is_replayed());
    assert_eq!(walk.actions().await.len(), before.len() + 1);
}

#[tokio::test]
async fn movements_and_orders_name_who_of_staff_made_them() {
    let walk = Walk::start().await;
    let (app, admin) = (&walk.app, &walk.admin);
    let tea = walk.product().await;
    let order = app.buy(&walk.ada, &tea, 1).await;
    for action in ["pay", "fulfil"] {
        app.order_action(admin, &order, action).await.ok();
    }
    let path = format!("/api/products/{tea}/stock/movements");
    let movements = app.get(&path).token(admin).await.ok();
    let actor = json!({"type": "user", "id": admin.id});
    let actors: Vec<(&str, &Value)> = movements["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|movement| (movement["kind"].as_str().unwrap(), &movement["actor"]))
        .collect();
    assert_eq!(actors, [("shipped", &actor), ("reserved", &Value::Null), ("received", &actor)]);
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    assert_eq!(app.get(&path).token(admin).await.ok()["actor"], actor);
    let mut feed = app.open_whole_feed(Some(admin)).await;
    let events = feed.read_until(|event| event.kind == "order.fulfilled").await;
    let of_order = events.iter().filter(|event| event.kind.starts_with("order."));
    let actors: Vec<&Value> = of_order.map(|event| &event.body["data"]["actor"]).collect();
    assert_eq!(actors, [&Value::Null, &actor, &actor], "placed, paid, fulfilled");
}

#[tokio::test]
async fn actions_are_paged_and_filtered() {
    let walk = Walk::start().await;
    let (app, admin) = (&walk.app, &walk.admin);
    let (tea, cup) = (walk.product().await, walk.product().await);
    for price in [5, 6, 7] {
        for id in [&tea, &cup] {
            let patch = json!({"price": price});
            app.patch(&format!("/api/products/{id}"), &patch).token(admin).await.ok();
        }
    }
    let get = async |query: &str| {
        let path = format!("/api/admin/actions?{query}");
        app.get(&path).token(admin).await.ok()
    };
    let all = walk.actions().await;
    assert_eq!(all.len(), 8);
    let mut paged: Vec<Value> = Vec::new();
    let mut next = String::new();
    loop {
        let page = get(&format!("limit=3{next}")).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(paged, all);
    let count = async |query: String| get(&query).await["items"].as_array().unwrap().len();
    assert_eq!(count(format!("subject={tea}")).await, 4);
    assert_eq!(count(format!("actor={}", admin.id)).await, 8);
    assert_eq!(count(format!("actor={}", walk.ada.id)).await, 0);
    let oldest = all[7]["at"].as_str().unwrap();
    assert_eq!(count(format!("to={oldest}")).await, 0);
    assert_eq!(count(format!("from={oldest}&subject={cup}")).await, 4);
    for (query, field) in
        [("actor=me", "actor"), ("subject=", "subject"), ("from=now", "from"), ("to=1", "to")]
    {
        let path = format!("/api/admin/actions?{query}");
        let problem = app.get(&path).token(admin).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn command_line_leaves_actions_too() {
    let mut walk = Walk::start().await;
    let (email, id) = (walk.ada.email.clone(), walk.ada.id.clone());
    let before = ids(&walk.actions().await);
    walk.app.stop().await;
    let app = &walk.app;
    app.write("tea.ndjson", "{\"sku\":\"T\",\"name\":\"Tea\",\"price\":1,\"stock\":3}\n");
    Cli::run(app.command().args(["import", "tea.ndjson"])).ok();
    Cli::run(app.command().args(["admin", &email])).ok();
    Cli::run(app.command().args(["admin", &email, "--reset-password"])).ok();
    Cli::run(app.command().args(["admin", "new@souk.example"])).ok();
    walk.app.restart().await;
    walk.admin = walk.app.admin().await;
    let new: Vec<Value> = walk
        .actions()
        .await
        .into_iter()
        .filter(|action| !before.contains(action["id"].as_str().unwrap()))
        .collect();
    let names: Vec<&str> = new.iter().map(|action| action["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["register_account", "change_password", "patch_user", "import_products"]);
    let cli = json!({"type": "cli", "id": null, "name": null});
    assert!(new.iter().all(|action| action["actor"] == cli && action["request_id"].is_null()));
    assert!(new[1..3].iter().all(|action| action["subject"] == id));
}
