//! A customer whose traces can be searched for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Account, PASSWORD, TestApp, unique_number};

/// What no other record of a test contains, in lower case.
const MARKS: [&str; 12] = [
    "hesperia",
    "quillfeather",
    "amaranthe",
    "ravenscroft",
    "postbox-of-hq",
    "postbox-of-ar",
    "77 nacreous lane",
    "oubliette 9",
    "vrbnik-on-sea",
    "zx-90417",
    "555-0199-377",
    "secretive browser",
];

/// A customer with a name, an e-mail address, postal addresses and a phone number of its own.
pub(crate) struct Person {
    pub(crate) account: Account,
    /// The ids of what it has or had.
    pub(crate) ids: BTreeSet<String>,
    /// Changes by staff that have an idempotency key: method, path, body and key.
    staff_changes: Vec<(&'static str, String, Value, String)>,
}

/// The marks in `text`.
pub(crate) fn marks_in(text: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(text).to_lowercase();
    MARKS.into_iter().filter(|mark| text.contains(mark)).collect()
}

/// Asserts that a place has no mark.
#[track_caller]
pub(crate) fn assert_unmarked(place: &str, text: &[u8]) {
    let found = marks_in(text);
    assert!(found.is_empty(), "{place} has {found:?}: {}", String::from_utf8_lossy(text));
}

/// Asserts that a place has every mark, or else nobody would know if one were left.
#[track_caller]
pub(crate) fn assert_all_marked(place: &str, text: &[u8]) {
    assert_eq!(marks_in(text), MARKS, "{place}");
}

pub(crate) fn address() -> Value {
    json!({
        "name": "Hesperia Quillfeather", "line1": "77 Nacreous Lane", "line2": "Oubliette 9",
        "city": "Vrbnik-on-Sea", "region": "PG", "postal_code": "ZX-90417", "country": "HR",
        "phone": "555-0199-377",
    })
}

impl Person {
    /// Registers at `app`, shops, and changes what can be changed. At the end, no order is paid and
    /// not shipped.
    pub(crate) async fn live(app: &TestApp, admin: &Account, tea: &str) -> Self {
        let number = unique_number();
        let body = json!({
            "email": format!("postbox-of-hq-{number}@hesperia.example"), "password": PASSWORD,
            "name": "Hesperia Quillfeather",
        });
        let register =
            app.post("/api/auth/register", &body).header("user-agent", "Secretive Browser");
        let account = Account::from_session(&register.await.is(201).json());
        let ids = BTreeSet::from([account.id.clone()]);
        let mut person = Self { account, ids, staff_changes: Vec::new() };
        person.be_changed_by_staff(app, admin).await;
        person.change_profile(app, number).await;
        person.keep_addresses(app).await;
        person.shop(app, admin, tea).await;
        person.be_changed_by_staff(app, admin).await;
        let guest = app.guest().await;
        let order = person.order_as(&guest, app, tea).await;
        app.order_action(admin, &order, "cancel").await.ok();
        app.add_to_cart(&guest, tea, 1).await.ok();
        app.merge_cart(&person.account, &guest).await.ok();
        let login = json!({"email": person.account.email, "password": "not the password"});
        app.post("/api/auth/login", &login).await.problem(401, "invalid_credentials");
        person
    }

    async fn change_profile(&mut self, app: &TestApp, number: u64) {
        let email = format!("postbox-of-ar-{number}@ravenscroft.example");
        let change = json!({
            "name": "Amaranthe Ravenscroft", "email": email, "current_password": PASSWORD,
        });
        app.patch("/api/auth/me", &change).token(&self.account).await.ok();
        self.account = app.login(&email, PASSWORD).await;
        // The former address logs in no more.
        let former = json!({"email": "postbox-of-hq@hesperia.example", "password": PASSWORD});
        app.post("/api/auth/login", &former).await.problem(401, "invalid_credentials");
    }

    async fn keep_addresses(&mut self, app: &TestApp) {
        let path = "/api/auth/me/addresses";
        for _ in 0..2 {
            let added = app.post(path, &address()).token(&self.account).await.is(201).json();
            let id = added["id"].as_str().unwrap().to_owned();
            app.put(&format!("{path}/{id}"), &address()).token(&self.account).await.ok();
            self.ids.insert(id);
        }
    }

    /// Leaves one order of each final status, one that is unpaid, and something in the cart.
    async fn shop(&mut self, app: &TestApp, admin: &Account, tea: &str) {
        self.order(app, tea).await;
        for last_action in ["fulfil", "cancel"] {
            let order = self.order(app, tea).await;
            for action in ["pay", last_action] {
                let path = format!("/api/orders/{}/{action}", order["id"].as_str().unwrap());
                self.change_as_staff(app, admin, "POST", path, json!({})).await;
            }
        }
        app.add_to_cart(&self.account, tea, 3).await.ok();
    }

    /// Places an order of one unit.
    pub(crate) async fn order(&mut self, app: &TestApp, tea: &str) -> Value {
        let buyer = self.account.clone();
        self.order_as(&buyer, app, tea).await
    }

    async fn order_as(&mut self, buyer: &Account, app: &TestApp, tea: &str) -> Value {
        app.add_to_cart(buyer, tea, 1).key(format!("add-{}", unique_number())).await.ok();
        let details = json!({
            "email": self.account.email, "shipping_address": address(),
            "billing_address": address(),
        });
        let checkout = app.post("/api/checkout", &details).token(buyer);
        let order = checkout.key(format!("buy-{}", unique_number())).await.is(201).json();
        self.ids.insert(order["id"].as_str().unwrap().to_owned());
        order
    }

    async fn be_changed_by_staff(&mut self, app: &TestApp, admin: &Account) {
        let path = format!("/api/users/{}", self.account.id);
        let staff = json!({"role": "staff", "scopes": ["orders"]});
        // The second change of each changes nothing.
        for change in [&staff, &staff, &json!({"role": "customer"}), &json!({"role": "customer"})] {
            self.change_as_staff(app, admin, "PATCH", path.clone(), change.clone()).await;
        }
    }

    async fn change_as_staff(
        &mut self,
        app: &TestApp,
        admin: &Account,
        method: &'static str,
        path: String,
        body: Value,
    ) {
        let key = format!("staff-{}", unique_number());
        app.call(method, &path).json(&body).token(admin).key(&key).await.ok();
        self.staff_changes.push((method, path, body, key));
    }

    /// Deletes the account.
    pub(crate) async fn delete(&self, app: &TestApp) {
        let body = json!({"current_password": PASSWORD});
        app.delete("/api/auth/me").json(&body).token(&self.account).await.is(204);
    }

    /// What repeats of the changes by staff are answered with; each is the first answer again.
    pub(crate) async fn repeat_staff_changes(
        &self,
        app: &TestApp,
        admin: &Account,
    ) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        for (method, path, body, key) in &self.staff_changes {
            let repeat = app.call(method, path).json(body).token(admin).key(key).await;
            assert_eq!(
                (repeat.status, &repeat.headers["idempotency-replayed"]),
                (200, &"true".parse().unwrap())
            );
            answers.push(repeat.body);
        }
        answers
    }
}

/// What every GET operation of the API's description answers to these callers, page by page, with
/// each of `ids` in its path.
pub(crate) async fn read_every_route(
    app: &TestApp,
    callers: &[Option<&Account>],
    ids: &BTreeSet<String>,
) -> Vec<(String, Vec<u8>)> {
    let document = app.get("/openapi.json").await.ok();
    let mut answers = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        // A feed has no end; the events are read elsewhere.
        if item.get("get").is_none() || path == "/api/events" {
            continue;
        }
        let paths: Vec<String> = match path.contains("{id}") {
            true => ids.iter().map(|id| path.replace("{id}", id)).collect(),
            false => vec![path.clone()],
        };
        let parameters = item["get"]["parameters"].as_array();
        let has = |name: &str| parameters.into_iter().flatten().any(|one| one["name"] == name);
        for caller in callers {
            for path in &paths {
                answers.extend(read_pages(app, *caller, path, &has).await);
            }
        }
    }
    answers
}

/// All pages of a list, or the one answer of another route.
async fn read_pages(
    app: &TestApp,
    caller: Option<&Account>,
    path: &str,
    has: &impl Fn(&str) -> bool,
) -> Vec<(String, Vec<u8>)> {
    let queries: &[&str] = if has("all") { &["all=true", ""] } else { &[""] };
    let mut answers = Vec::new();
    for query in queries {
        let mut cursor: Option<String> = None;
        loop {
            let next = cursor.take().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let limit = if has("limit") { "limit=100" } else { "" };
            let path = format!("{path}?{query}&{limit}{next}").replace("?&", "?");
            let mut call = app.get(path.trim_end_matches(['?', '&']));
            if let Some(caller) = caller {
                call = call.token(caller);
            }
            let response = call.await;
            let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            cursor = body["next_cursor"].as_str().map(str::to_owned);
            answers.push((format!("GET {path}"), response.body));
            if cursor.is_none() {
                break;
            }
        }
    }
    answers
}
