//! Bodies that are not JSON, not objects, or have wrong or unknown fields, on every route with a
//! body.

use serde_json::{Map, Value, json};

use crate::support::{Account, Call, PASSWORD, Response, TestApp};

/// The type of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Id,
    Whole,
    Number,
    List,
    Object,
}

use Kind::{Id, List, Number, Object, Text, Whole};

/// A route with a body: its account, path, and fields with a valid value each. `true` marks a
/// required field.
struct Route {
    method: &'static str,
    path: String,
    account: Option<Account>,
    fields: Vec<(&'static str, Kind, bool, Value)>,
}

impl Route {
    fn valid_body(&self) -> Map<String, Value> {
        self.fields.iter().map(|(name, _, _, value)| ((*name).to_owned(), value.clone())).collect()
    }

    /// The valid body with one member replaced.
    fn body_with(&self, name: &str, value: &Value) -> String {
        let mut body = self.valid_body();
        body.insert(name.to_owned(), value.clone());
        Value::from(body).to_string()
    }

    fn call(&self, app: &TestApp, body: impl Into<Vec<u8>>) -> Call {
        let call = app
            .call(self.method, &self.path)
            .header("content-type", "application/json")
            .body(body.into());
        match &self.account {
            Some(account) => call.token(account),
            None => call,
        }
    }
}

struct Shop {
    app: TestApp,
    admin: Account,
    ada: Account,
    product: String,
    routes: Vec<Route>,
}

impl Shop {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let admin = app.admin().await;
        let product = app.new_product(&admin, &json!(4.5), 100).await;
        let (ada, guest) = (app.customer().await, app.guest().await);
        app.add_to_cart(&ada, &product, 2).await.ok();
        let routes = [
            auth_routes(&ada, &guest),
            product_routes(&admin, &product),
            cart_routes(&ada, &guest, &product),
        ]
        .concat_all();
        Self { app, admin, ada, product, routes }
    }

    /// The state that an invalid request might change.
    async fn state(&self) -> Vec<String> {
        let product = format!("/api/products/{}", self.product);
        let mut state = vec![
            self.app.cart(&self.ada).await.to_string(),
            self.app.stock(&self.admin, &self.product).await.to_string(),
        ];
        for path in [&product, "/api/products", "/api/auth/me"] {
            state.push(self.app.get(path).token(&self.ada).await.is(200).text());
        }
        state
    }
}

trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

fn auth_routes(ada: &Account, guest: &Account) -> Vec<Route> {
    let route = |path: &str, account, fields| Route {
        method: "POST",
        path: format!("/api/auth/{path}"),
        account,
        fields,
    };
    let guest_token = ("guest_token", Text, false, json!(guest.token));
    let new = json!("new@souk.example");
    vec![
        route(
            "register",
            None,
            vec![
                ("email", Text, true, new.clone()),
                ("password", Text, true, json!(PASSWORD)),
                ("name", Text, true, json!("New")),
                guest_token.clone(),
            ],
        ),
        route(
            "login",
            None,
            vec![
                ("email", Text, true, new),
                ("password", Text, true, json!("a wrong one")),
                guest_token,
            ],
        ),
        route("refresh", None, vec![("refresh_token", Text, true, json!("not one of ours"))]),
        route("validate", None, vec![("token", Text, true, json!("none"))]),
        route(
            "password",
            Some(ada.clone()),
            vec![
                ("current_password", Text, true, json!("a wrong one")),
                ("new_password", Text, true, json!("a new password")),
            ],
        ),
    ]
}

fn product_routes(admin: &Account, product: &str) -> Vec<Route> {
    let route =
        |method, path: String, fields| Route { method, path, account: Some(admin.clone()), fields };
    let facts = |required| {
        vec![
            ("name", Text, required, json!("Pot")),
            ("description", Text, required, json!("Holds tea.")),
            ("price", Number, required, json!(12.5)),
            ("sku", Text, false, json!("POT-1")),
            ("category", Text, false, json!("pots")),
            ("tags", List, false, json!(["iron"])),
            ("image_url", Text, false, json!("https://souk.example/pot.png")),
            ("purchase_limit", Whole, false, json!(2)),
            ("weight_grams", Whole, false, json!(250)),
            ("tax_class", Text, false, json!("reduced")),
            ("attributes", Object, false, json!({"litres": 1.5})),
        ]
    };
    let new = [facts(true), vec![("stock", Whole, true, json!(3))]].concat();
    let change = vec![
        ("delta", Whole, false, json!(1)),
        ("reason", Text, true, json!("delivery")),
        ("reference", Text, false, json!("D-1")),
    ];
    vec![
        route("POST", "/api/products".into(), new),
        route("PUT", format!("/api/products/{product}"), facts(true)),
        route("PATCH", format!("/api/products/{product}"), facts(false)),
        route("POST", format!("/api/products/{product}/stock"), change),
    ]
}

fn cart_routes(ada: &Account, guest: &Account, product: &str) -> Vec<Route> {
    let route = |method, path: &str, fields| Route {
        method,
        path: format!("/api/cart/{path}"),
        account: Some(ada.clone()),
        fields,
    };
    let line = vec![("product_id", Id, true, json!(product)), ("quantity", Whole, true, json!(1))];
    vec![
        route("POST", "add", line.clone()),
        route("PUT", "update", line),
        route("POST", "merge", vec![("guest_token", Text, true, json!(guest.token))]),
    ]
}

/// Asserts that the error names the field `name` or something inside it.
#[track_caller]
fn assert_names_field(response: Response, name: &str, sent: &str) {
    let shown = response.to_string();
    let problem = response.problem(422, "validation_failed");
    let inside = |field: &str| {
        field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let named = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .any(|error| inside(error["field"].as_str().unwrap()));
    assert!(named, "{name} is not named for {sent}: {shown}");
}

#[tokio::test]
async fn invalid_json_is_rejected_as_malformed() {
    let shop = Shop::start().await;
    let before = shop.state().await;
    for route in &shop.routes {
        let good = Value::from(route.valid_body()).to_string();
        let half = &good[..good.len() - 1];
        let bodies: Vec<Vec<u8>> = vec![
            b"".into(),
            b" \n".into(),
            b"{".into(),
            b"nope".into(),
            b"{'name': 1}".into(),
            b"{\"name\": NaN}".into(),
            b"{\"a\": 1,}".into(),
            b"\xff\xfe".into(),
            b"{\"\xff\": 1}".into(),
            b"{\"unknown\": \"\xc3\x28\"}".into(),
            half.into(),
            format!("{good} {good}").into(),
            format!("\u{feff}{good}").into(),
            format!("{good}\0").into(),
        ];
        for body in bodies {
            let shown = String::from_utf8_lossy(&body).into_owned();
            let response = route.call(&shop.app, body).await;
            assert_eq!(response.status, 400, "{shown}: {response}");
            response.problem(400, "malformed_json");
        }
    }
    assert_eq!(shop.state().await, before);
}

#[tokio::test]
async fn non_objects_and_deep_nesting_are_rejected() {
    let shop = Shop::start().await;
    let before = shop.state().await;
    for route in &shop.routes {
        for body in [
            "[]",
            "null",
            "5",
            "\"text\"",
            "true",
            &Value::from(vec![Value::from(route.valid_body())]).to_string(),
        ] {
            assert_names_field(route.call(&shop.app, body).await, "body", body);
        }
        let deep =
            |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
        for body in [
            deep("[", "]"),
            "[".repeat(60_000),
            r#"{"a":"#.repeat(12_000),
            format!("{}1{}", r#"{"a":"#.repeat(9_000), "}".repeat(9_000)),
            format!(r#"{{"unknown": {}}}"#, deep("[", "]")),
        ] {
            let response = route.call(&shop.app, body).await;
            assert!(matches!(response.status, 400 | 422), "{response}");
        }
        for (name, ..) in &route.fields {
            let body = format!(r#"{{"{name}": {}}}"#, deep("[", "]"));
            let response = route.call(&shop.app, body).await;
            assert!(matches!(response.status, 400 | 422), "{name}: {response}");
        }
    }
    assert_eq!(shop.state().await, before);
}

#[tokio::test]
async fn fields_reject_values_of_another_type() {
    let shop = Shop::start().await;
    let before = shop.state().await;
    let samples = [
        (Text, json!("text")),
        (Text, json!("")),
        (Whole, json!(7)),
        (Whole, json!(-7)),
        (Number, json!(0.125)),
        (Number, json!(1e300)),
        (List, json!([])),
        (List, json!([1, null])),
        (Object, json!({})),
        (Object, json!({"a": {}})),
    ];
    for route in &shop.routes {
        for (name, kind, required, _) in &route.fields {
            let other = samples
                .iter()
                .filter(|(sample, _)| *sample != *kind && !(*kind == Number && *sample == Whole));
            let others = other
                .map(|(_, value)| value.clone())
                .chain([json!(true)])
                .chain(required.then_some(Value::Null));
            for value in others {
                let body = route.body_with(name, &value);
                assert_names_field(route.call(&shop.app, body.clone()).await, name, &body);
            }
        }
    }
    assert_eq!(shop.state().await, before);
}

#[tokio::test]
async fn missing_duplicate_and_unknown_fields_are_named() {
    let shop = Shop::start().await;
    let before = shop.state().await;
    for route in &shop.routes {
        let good = Value::from(route.valid_body()).to_string();
        for (name, _, required, value) in &route.fields {
            if *required {
                let mut body = route.valid_body();
                body.remove(*name);
                assert_names_field(
                    route.call(&shop.app, Value::from(body).to_string()).await,
                    name,
                    "nothing",
                );
            }
            let twice = good.replacen('{', &format!(r#"{{"{name}":{value},"#), 1);
            assert_names_field(route.call(&shop.app, twice.clone()).await, name, &twice);
        }
        let mut body = route.valid_body();
        let unknown = ["role", "is_admin", "user_id", "_id", "$set", "__proto__", ""];
        body.extend(unknown.map(|name| (name.to_owned(), json!("admin"))));
        let problem = route
            .call(&shop.app, Value::from(body).to_string())
            .await
            .problem(422, "validation_failed");
        let errors = problem["errors"].as_array().unwrap();
        let named = |name: &str| {
            errors.iter().any(|error| error["field"] == name && error["code"] == "unknown_field")
        };
        assert!(
            errors.len() == unknown.len() && unknown.iter().all(|name| named(name)),
            "{problem}"
        );
    }
    assert_eq!(shop.state().await, before);
    // No request has granted admin rights.
    shop.app.post("/api/products", &json!({})).token(&shop.ada).await.problem(403, "forbidden");
}

#[tokio::test]
async fn other_content_types_are_rejected() {
    let shop = Shop::start().await;
    let before = shop.state().await;
    for route in &shop.routes {
        let good = Value::from(route.valid_body()).to_string();
        for content_type in [
            "text/plain",
            "application/xml",
            "application/x-www-form-urlencoded",
            "text/json",
            "",
            "json",
            "*/*",
        ] {
            let call = shop
                .app
                .call(route.method, &route.path)
                .header("content-type", content_type)
                .body(good.clone());
            let call = route.account.iter().fold(call, |call, account| call.token(account));
            call.await.problem(415, "unsupported_media_type");
        }
        let call = shop.app.call(route.method, &route.path).body(good);
        let call = route.account.iter().fold(call, |call, account| call.token(account));
        call.await.problem(415, "unsupported_media_type");
    }
    assert_eq!(shop.state().await, before);
    let body =
        json!({"email": "new@souk.example", "password": PASSWORD, "name": "New"}).to_string();
    let register = shop
        .app
        .call("POST", "/api/auth/register")
        .header("content-type", "Application/JSON; charset=UTF-8");
    register.body(body).await.is(201);
}
