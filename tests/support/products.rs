//! Short helpers for products and carts.

use serde_json::{Value, json};

use super::{Account, Call, Response, TestApp};

impl TestApp {
    /// Creates a product with this price and stock; returns its id.
    pub(crate) async fn new_product(&self, admin: &Account, price: &Value, stock: u64) -> String {
        let body = json!({"name": "Mint tea", "description": "", "price": price, "stock": stock});
        self.create_product(admin, &body).await["id"].as_str().unwrap().to_owned()
    }

    /// Creates a product; returns the response.
    pub(crate) async fn create_product(&self, admin: &Account, body: &Value) -> Value {
        self.post("/api/products", body).token(admin).await.is(201).json()
    }

    /// Imports NDJSON; returns the report.
    pub(crate) async fn import_products(&self, admin: &Account, lines: String) -> Value {
        let call = self
            .call("POST", "/api/products/import")
            .token(admin)
            .header("content-type", "application/x-ndjson");
        call.body(lines).await.ok()
    }

    pub(crate) fn add_to_cart(&self, account: &Account, product: &str, quantity: u64) -> Call {
        self.post("/api/cart/add", &json!({"product_id": product, "quantity": quantity}))
            .token(account)
    }

    pub(crate) fn update_cart(&self, account: &Account, product: &str, quantity: u64) -> Call {
        self.put("/api/cart/update", &json!({"product_id": product, "quantity": quantity}))
            .token(account)
    }

    pub(crate) fn merge_cart(&self, account: &Account, guest: &Account) -> Call {
        self.post("/api/cart/merge", &json!({"guest_token": guest.token})).token(account)
    }

    pub(crate) fn change_stock(&self, admin: &Account, product: &str, change: &Value) -> Call {
        self.post(&format!("/api/products/{product}/stock"), change).token(admin)
    }

    pub(crate) async fn stock(&self, admin: &Account, product: &str) -> Value {
        self.get(&format!("/api/products/{product}/stock")).token(admin).await.ok()
    }

    pub(crate) async fn cart(&self, account: &Account) -> Value {
        self.get("/api/cart").token(account).await.ok()
    }

    /// All items of a paged list.
    pub(crate) async fn all_pages(
        &self,
        account: &Account,
        path: &str,
        limit: usize,
    ) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let page = self
                .get(&format!("{path}{separator}limit={limit}{after}"))
                .token(account)
                .await
                .ok();
            let page_items = page["items"].as_array().unwrap();
            assert!(page_items.len() <= limit, "{} items on a page of {limit}", page_items.len());
            items.extend(page_items.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return items,
            }
            assert_eq!(page_items.len(), limit, "every page except the last is full");
        }
    }
}

impl Response {
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
