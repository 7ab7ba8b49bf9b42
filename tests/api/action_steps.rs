//! A request that changes something, for each operation that needs staff's rights.

use serde_json::{Value, json};

use crate::support::{Account, Call, TestApp, unique_number};

/// What a walk over all operations works on.
pub(crate) struct Walk {
    pub(crate) app: TestApp,
    pub(crate) admin: Account,
    pub(crate) ada: Account,
}

/// A request, the subject of its action, and the versions before and after. The subject of a
/// creation is the `id` in the response.
pub(crate) struct Step {
    pub(crate) call: Call,
    pub(crate) subject: Option<String>,
    pub(crate) versions: (Value, u64),
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
    pub(crate) async fn start() -> Self {
        let app = TestApp::with_settings(&[("webhooks.allow_private", "true")]).await;
        let (admin, ada) = (app.admin().await, app.customer().await);
        // Once the shop has a tax rate, checkout needs an address.
        app.put("/api/cart/shipping", &json!({"country": "DE"})).token(&ada).await.ok();
        Self { app, admin, ada }
    }

    pub(crate) async fn product(&self) -> String {
        self.app.new_product(&self.admin, &json!(4.5), 50).await
    }

    /// An order of a customer, with the action that brings it to where a step needs it.
    pub(crate) async fn order(&self, is_paid: bool) -> String {
        let tea = self.product().await;
        let order = self.app.buy(&self.ada, &tea, 1).await;
        if is_paid {
            self.app.order_action(&self.admin, &order, "pay").await.ok();
        }
        order["id"].as_str().unwrap().to_owned()
    }

    /// An endpoint that nobody listens at.
    pub(crate) async fn webhook(&self) -> String {
        let body = json!({"url": "http://127.0.0.1:9/", "types": ["catalog.*"]});
        let created = self.app.post("/api/webhooks", &body).token(&self.admin).await;
        created.is(201).json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn api_key(&self) -> String {
        let body = json!({"name": "warehouse", "scopes": ["stock"]});
        let created = self.app.post("/api/api-keys", &body).token(&self.admin).await;
        created.is(201).json()["id"].as_str().unwrap().to_owned()
    }

    /// A request that changes something, for each operation that needs staff's rights.
    pub(crate) async fn step(&self, operation: &str) -> Option<Step> {
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

    /// A step with a pricing rule. Their kinds have the same routes.
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

    pub(crate) async fn actions(&self) -> Vec<Value> {
        let page = self.app.get("/api/admin/actions?limit=100").token(&self.admin).await.ok();
        page["items"].as_array().unwrap().clone()
    }
}
