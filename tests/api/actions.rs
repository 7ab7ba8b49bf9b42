//! The record of what staff, admins, API keys and the command line change.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    rights::{Access, access_of, read_operations},
    support::{Account, Call, Cli, TestApp, unique_number},
};

/// What a walk over all operations works on.
struct Walk {
    app: TestApp,
    admin: Account,
    ada: Account,
}

/// A request, the subject of its action, and the versions before and after. The subject of a
/// creation is the `id` in the response.
struct Step {
    call: Call,
    subject: Option<String>,
    versions: (Value, u64),
}

impl Step {
    fn new(call: Call, subject: &str, before: u64, after: u64) -> Self {
        Self { call, subject: Some(subject.to_owned()), versions: (json!(before), after) }
    }

    fn creating(call: Call) -> Self {
        Self { call, subject: None, versions: (Value::Null, 1) }
    }
}

impl Walk {
    async fn start() -> Self {
        let app = TestApp::with_settings(&[("webhooks.allow_private", "true")]).await;
        let (admin, ada) = (app.admin().await, app.customer().await);
        // Once the shop has a tax rate, checkout needs an address.
        app.put("/api/cart/shipping", &json!({"country": "DE"})).token(&ada).await.ok();
        Self { app, admin, ada }
    }

    async fn product(&self) -> String {
        self.app.new_product(&self.admin, &json!(4.5), 50).await
    }

    /// An order of a customer, with the action that brings it to where a step needs it.
    async fn order(&self, is_paid: bool) -> String {
        let tea = self.product().await;
        let order = self.app.buy(&self.ada, &tea, 1).await;
        if is_paid {
            self.app.order_action(&self.admin, &order, "pay").await.ok();
        }
        order["id"].as_str().unwrap().to_owned()
    }

    /// An endpoint that nobody listens at.
    async fn webhook(&self) -> String {
        let body = json!({"url": "http://127.0.0.1:9/", "types": ["catalog.*"]});
        let created = self.app.post("/api/webhooks", &body).token(&self.admin).await;
        created.is(201).json()["id"].as_str().unwrap().to_owned()
    }

    async fn api_key(&self) -> String {
        let body = json!({"name": "warehouse", "scopes": ["stock"]});
        let created = self.app.post("/api/api-keys", &body).token(&self.admin).await;
        created.is(201).json()["id"].as_str().unwrap().to_owned()
    }

    /// A request that changes something, for each operation that needs staff's rights.
    async fn step(&self, operation: &str) -> Option<Step> {
        if let Some(step) = self.product_step(operation).await {
            return Some(step);
        }
        if operation.contains("webhook") {
            return self.webhook_step(operation).await;
        }
        match self.rule_step(operation).await {
            None => self.other_step(operation).await,
            step => step,
        }
    }

    async fn webhook_step(&self, operation: &str) -> Option<Step> {
        let app = &self.app;
        if operation == "create_webhook" {
            let body = json!({"url": "http://127.0.0.1:9/", "types": ["catalog.*"]});
            return Some(Step::creating(app.post("/api/webhooks", &body)));
        }
        let id = self.webhook().await;
        let path = format!("/api/webhooks/{id}");
        // A delivery changes no version.
        let delivery = |path: String| Step {
            call: app.call("POST", &path),
            subject: Some(id.clone()),
            versions: (Value::Null, 0),
        };
        Some(match operation {
            "patch_webhook" => {
                let patch = json!({"description": "ERP"});
                Step::new(app.patch(&path, &patch), &id, 1, 2)
            }
            "delete_webhook" => Step::new(app.delete(&path), &id, 1, 2),
            "rotate_webhook_secret" => {
                Step::new(app.call("POST", &format!("{path}/rotate")), &id, 1, 2)
            }
            "test_webhook" => delivery(format!("{path}/test")),
            "redeliver_webhook_event" => {
                let test = app.call("POST", &format!("{path}/test")).token(&self.admin).await;
                let event = test.is(202).json()["event_id"].as_str().unwrap().to_owned();
                delivery(format!("{path}/deliveries/{event}/redeliver"))
            }
            _ => return None,
        })
    }

    /// A step with a rule of prices. Their kinds have the same routes.
    async fn rule_step(&self, operation: &str) -> Option<Step> {
        let (action, kind) = operation.split_once('_')?;
        // Each tax rate has a tax class of its own: no two may have the same.
        let class = unique_number().to_string();
        let (path, body) = match kind {
            "promotion" => {
                let effect = json!({"percent_off": 10});
                ("/api/promotions", json!({"name": "Ten", "effect": effect, "active": false}))
            }
            "shipping_method" => {
                ("/api/shipping-methods", json!({"name": "Parcel", "price": 5, "active": false}))
            }
            "tax_rate" => {
                let place =
                    json!({"name": "VAT", "country": "FJ", "tax_class": class, "rate": "0"});
                ("/api/tax-rates", place)
            }
            _ => return None,
        };
        let app = &self.app;
        if action == "create" {
            return Some(Step::creating(app.post(path, &body)));
        }
        let created = app.post(path, &body).token(&self.admin).await.is(201).json();
        let id = created["id"].as_str().unwrap();
        let path = format!("{path}/{id}");
        let mut changed = body;
        changed["name"] = json!("New");
        let call = match action {
            "replace" => app.put(&path, &changed),
            "patch" => app.patch(&path, &json!({"name": "New"})),
            "delete" => app.delete(&path),
            _ => return None,
        };
        Some(Step::new(call, id, 1, 2))
    }

    async fn product_step(&self, operation: &str) -> Option<Step> {
        let app = &self.app;
        let body = json!({"name": "Cup", "description": "", "price": 7, "stock": 2});
        Some(match operation {
            "create_product" => Step::creating(app.post("/api/products", &body)),
            "replace_product" => {
                let id = self.product().await;
                Step::new(app.put(&format!("/api/products/{id}"), &body), &id, 1, 2)
            }
            "patch_product" => {
                let id = self.product().await;
                let patch = json!({"price": 5});
                Step::new(app.patch(&format!("/api/products/{id}"), &patch), &id, 1, 2)
            }
            "delete_product" => {
                let id = self.product().await;
                Step::new(app.delete(&format!("/api/products/{id}")), &id, 1, 2)
            }
            "import_products" => {
                let sku = format!("SKU-{}", unique_number());
                let tea =
                    json!({"sku": sku, "name": "Tea", "description": "", "price": 1, "stock": 2});
                let id = app.create_product(&self.admin, &tea).await["id"].clone();
                let line = json!({"sku": sku, "name": "Green tea", "price": 2, "stock": 3});
                let call = app.call("POST", "/api/products/import").body(line.to_string());
                let call = call.header("content-type", "application/x-ndjson");
                Step::new(call, id.as_str().unwrap(), 1, 2)
            }
            "change_stock" => {
                let id = self.product().await;
                let change = json!({"delta": 1, "reason": "delivery"});
                Step::new(app.post(&format!("/api/products/{id}/stock"), &change), &id, 1, 2)
            }
            _ => return None,
        })
    }

    async fn other_step(&self, operation: &str) -> Option<Step> {
        let app = &self.app;
        Some(match operation {
            "cancel_order" => {
                let id = self.order(false).await;
                Step::new(app.call("POST", &format!("/api/orders/{id}/cancel")), &id, 1, 2)
            }
            "pay_order" => {
                let id = self.order(false).await;
                Step::new(app.call("POST", &format!("/api/orders/{id}/pay")), &id, 1, 2)
            }
            "refund_order" => {
                let id = self.order(true).await;
                Step::new(app.call("POST", &format!("/api/orders/{id}/refund")), &id, 2, 3)
            }
            "fulfil_order" => {
                let id = self.order(true).await;
                Step::new(app.call("POST", &format!("/api/orders/{id}/fulfil")), &id, 2, 3)
            }
            "patch_user" => {
                let user = app.customer().await;
                let version = app.get("/api/auth/me").token(&user).await.ok()["version"].clone();
                let before = version.as_u64().unwrap();
                let staff = json!({"role": "staff", "scopes": ["stock"]});
                let call = app.patch(&format!("/api/users/{}", user.id), &staff);
                Step::new(call, &user.id, before, before + 1)
            }
            "create_api_key" => {
                let body = json!({"name": "shop window", "scopes": ["catalog"]});
                Step::creating(app.post("/api/api-keys", &body))
            }
            "delete_api_key" => {
                let id = self.api_key().await;
                Step::new(app.delete(&format!("/api/api-keys/{id}")), &id, 1, 2)
            }
            _ => return None,
        })
    }

    async fn actions(&self) -> Vec<Value> {
        let page = self.app.get("/api/admin/actions?limit=100").token(&self.admin).await.ok();
        page["items"].as_array().unwrap().clone()
    }

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
        Some(access @ (Access::Staff(_) | Access::Admin | Access::AccountOrKey(_)))
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
