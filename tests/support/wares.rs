//! Short helpers for products and carts.

use serde_json::{Value, json};

use super::{Account, Answer, Call, TestApp};

impl TestApp {
    /// Creates a product with this price and stock; returns its id.
    pub(crate) async fn product(&self, admin: &Account, price: &Value, stock: u64) -> String {
        let body = json!({"name": "Mint tea", "description": "", "price": price, "stock": stock});
        self.create(admin, &body).await["id"].as_str().unwrap().to_owned()
    }

    /// Creates a product; returns the response.
    pub(crate) async fn create(&self, admin: &Account, body: &Value) -> Value {
        self.post("/api/products", body).token(admin).await.is(201).json()
    }

    /// Imports NDJSON; returns the report.
    pub(crate) async fn import(&self, admin: &Account, lines: String) -> Value {
        let call = self
            .call("POST", "/api/products/import")
            .token(admin)
            .header("content-type", "application/x-ndjson");
        call.body(lines).await.ok()
    }

    pub(crate) fn add(&self, who: &Account, product: &str, quantity: u64) -> Call {
        self.post("/api/cart/add", &json!({"product_id": product, "quantity": quantity})).token(who)
    }

    pub(crate) fn update(&self, who: &Account, product: &str, quantity: u64) -> Call {
        self.put("/api/cart/update", &json!({"product_id": product, "quantity": quantity}))
            .token(who)
    }

    pub(crate) fn merge(&self, who: &Account, guest: &Account) -> Call {
        self.post("/api/cart/merge", &json!({"guest_token": guest.token})).token(who)
    }

    pub(crate) fn change_stock(&self, admin: &Account, product: &str, change: &Value) -> Call {
        self.post(&format!("/api/products/{product}/stock"), change).token(admin)
    }

    pub(crate) async fn stock(&self, admin: &Account, product: &str) -> Value {
        self.get(&format!("/api/products/{product}/stock")).token(admin).await.ok()
    }

    pub(crate) async fn cart(&self, who: &Account) -> Value {
        self.get("/api/cart").token(who).await.ok()
    }

    /// All items of a paged list.
    pub(crate) async fn pages(&self, who: &Account, path: &str, limit: usize) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let page = self.get(&format!("{path}{sign}limit={limit}{after}")).token(who).await.ok();
            let found = page["items"].as_array().unwrap();
            assert!(found.len() <= limit, "{} items on a page of {limit}", found.len());
            items.extend(found.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return items,
            }
            assert_eq!(found.len(), limit, "every page except the last is full");
        }
    }
}

impl Answer {
    pub(crate) fn lines(&self) -> Vec<(String, u64)> {
        lines(&self.json())
    }
}

/// The product and quantity of each cart line.
pub(crate) fn lines(cart: &Value) -> Vec<(String, u64)> {
    let line = |item: &Value| {
        (item["product_id"].as_str().unwrap().to_owned(), item["quantity"].as_u64().unwrap())
    };
    cart["items"].as_array().unwrap().iter().map(line).collect()
}
