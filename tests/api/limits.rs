//! Rate limits, and the address that a request counts for.

use std::{future::IntoFuture, time::Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    ADMIN_EMAIL, ADMIN_PASSWORD, Account, Call, PASSWORD, Response, TestApp, unique_email,
    unique_number,
};

/// Asserts that a refusal names its policy and the time to wait.
fn assert_rate_limited(response: Response, name: &str) {
    let retry: u64 = response.header("retry-after").unwrap().parse().unwrap();
    let policy = response.header("ratelimit-policy").unwrap();
    let window: u64 = policy.rsplit_once("w=").unwrap().1.parse().unwrap();
    assert!((1..=window).contains(&retry), "{retry} of {window}");
    assert_eq!(response.header("ratelimit").unwrap(), format!("\"{name}\";r=0;t={retry}"));
    assert!(policy.starts_with(&format!("\"{name}\";q=")), "{response}");
    response.problem(429, "rate_limited");
}

/// Sends all calls at once. Returns the accepted and the limited responses, and how many may be
/// accepted at one request per second with bursts of two.
async fn send_concurrently(
    calls: impl Iterator<Item = Call>,
) -> (Vec<Response>, Vec<Response>, usize) {
    let began = Instant::now();
    let responses = join_all(calls.map(IntoFuture::into_future)).await;
    let most = 2 + usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let (limited, through) = responses.into_iter().partition(|response| response.status == 429);
    (through, limited, most)
}

#[tokio::test]
async fn requests_are_limited_per_address() {
    let app = TestApp::with_settings(&[("limits.per_address", "1")]).await;
    // Without a trusted proxy, a forwarded address is ignored.
    let calls =
        (0..80).map(|n| app.get("/api/products").header("x-forwarded-for", format!("10.0.0.{n}")));
    let (through, limited, most) = send_concurrently(calls).await;
    assert!(!through.is_empty() && through.len() <= most, "{} of {most}", through.len());
    for response in limited {
        assert_eq!(response.header("ratelimit-policy"), Some("\"address\";q=2;w=2"));
        assert_rate_limited(response, "address");
    }
    // Probes are never limited.
    for path in ["/livez", "/readyz", "/metrics"] {
        for response in join_all((0..20).map(|_| app.get(path).into_future())).await {
            response.is(200);
        }
    }
}

#[tokio::test]
async fn new_guest_carts_are_limited_per_address() {
    let app =
        TestApp::with_settings(&[("limits.guests", "3"), ("http.trusted_proxies", "127.0.0.1")])
            .await;
    let create =
        |address: &str| app.call("POST", "/api/cart/guest").header("x-forwarded-for", address);
    let began = Instant::now();
    let (mut created, mut limited) = (0, None);
    while limited.is_none() {
        let response = create("2001:db8:0:aa00::1").await;
        match response.status {
            201 => created += 1,
            _ => limited = Some(response),
        }
    }
    // One becomes free every 20 seconds.
    let most = 3 + began.elapsed().as_secs() / 20 + 1;
    assert!((3..=most).contains(&created), "{created} of {most}");
    let limited = limited.unwrap();
    assert_eq!(limited.header("ratelimit-policy"), Some("\"guests\";q=3;w=60"));
    assert_rate_limited(limited, "guests");
    create("192.0.2.1").await.is(201);
}

#[tokio::test]
async fn checkouts_of_guests_are_limited_per_address() {
    let app =
        TestApp::with_settings(&[("limits.guests", "3"), ("http.trusted_proxies", "127.0.0.1")])
            .await;
    let (guest, ada) = (app.guest().await, app.customer().await);
    let check_out_with_key = |account: &Account, key: String| {
        let body = json!({"email": "guest@shop.example"});
        let call = app.post("/api/checkout", &body).token(account).key(key);
        call.header("x-forwarded-for", "2001:db8:0:aa00::1")
    };
    let check_out = |account: &Account| check_out_with_key(account, unique_number().to_string());
    let product = app.new_product(&app.admin().await, &json!(1), 10).await;
    app.add_to_cart(&guest, &product, 1).await.ok();
    let place = || check_out_with_key(&guest, "first".to_owned());
    let order = place().await.is(201).json();
    let began = Instant::now();
    let (mut refused, mut limited) = (0, None);
    while limited.is_none() {
        check_out(&ada).await.problem(409, "cart_empty");
        let response = check_out(&guest).await;
        match response.status {
            409 => refused += 1,
            _ => limited = Some(response),
        }
        // One becomes free every 20 seconds.
        let most = 3 + began.elapsed().as_secs() / 20 + 1;
        assert!(refused <= most, "{refused} of {most}");
    }
    assert!(refused >= 2, "{refused}");
    assert_rate_limited(limited.unwrap(), "guests");
    // A buyer whose answer was lost gets it.
    assert_eq!(place().await.is(201).json(), order);
    check_out(&ada).await.problem(409, "cart_empty");
}

#[tokio::test]
async fn new_accounts_are_limited_per_address() {
    let settings = [("limits.registrations", "3"), ("http.trusted_proxies", "127.0.0.1")];
    let app = TestApp::with_settings(&settings).await;
    let register = |address: &str, email: &str| {
        let body = json!({"email": email, "password": PASSWORD, "name": "Eve"});
        app.post("/api/auth/register", &body).header("x-forwarded-for", address)
    };
    let attacker = "2001:db8:0:aa00::1";
    for _ in 0..5 {
        register(attacker, ADMIN_EMAIL).await.problem(409, "email_taken");
        register(attacker, "nobody").await.problem(422, "validation_failed");
    }
    let emails: Vec<_> = (0..8).map(|_| unique_email()).collect();
    let calls = emails
        .iter()
        .enumerate()
        .map(|(host, email)| register(&format!("2001:db8:0:aa{host:02x}::1"), email).into_future());
    let (limited, created): (Vec<_>, Vec<_>) =
        join_all(calls).await.into_iter().partition(|response| response.status == 429);
    assert_eq!(created.len(), 3);
    for response in created {
        response.is(201);
    }
    for response in limited {
        assert_eq!(response.header("ratelimit-policy"), Some("\"registrations\";q=3;w=3600"));
        assert_rate_limited(response, "registrations");
    }
    register("192.0.2.1", &unique_email()).await.is(201);
}

#[tokio::test]
async fn trusted_proxy_forwards_the_client_address() {
    let app = TestApp::with_settings(&[
        ("limits.per_address", "1"),
        ("http.trusted_proxies", "127.0.0.1,10.1.0.0/16"),
    ])
    .await;
    let from = |forwarded: String| app.get("/api/products").header("x-forwarded-for", forwarded);
    let (_, limited, _) = send_concurrently((0..80).map(|n| from(format!("10.0.0.{n}")))).await;
    assert!(limited.is_empty(), "each client sent one request");
    // Only entries that trusted proxies added count; the client controls everything to their left.
    let spoofed = |n: usize| match n % 4 {
        0 => format!("10.2.0.{n}, 192.0.2.1"),
        1 => format!("10.2.0.{n}, 192.0.2.1, 10.1.0.{n}"),
        2 => format!("nonsense {n}, 192.0.2.1, 10.1.2.3"),
        _ => ", , 192.0.2.1".to_owned(),
    };
    let (through, limited, most) = send_concurrently((0..80).map(|n| from(spoofed(n)))).await;
    assert!(through.len() <= most, "{} of {most}", through.len());
    for response in limited {
        assert_rate_limited(response, "address");
    }
}

#[tokio::test]
async fn requests_are_limited_per_user() {
    let app = TestApp::with_settings(&[("limits.per_user", "1")]).await;
    let (ada, eve) = (app.customer().await, app.customer().await);
    let again = app.login(&ada.email, PASSWORD).await;
    let calls = (0..80).map(|n| app.get("/api/cart").token(if n % 2 == 0 { &ada } else { &again }));
    let (through, limited, most) = send_concurrently(calls).await;
    assert!(!through.is_empty() && through.len() <= most, "{} of {most}", through.len());
    for response in limited {
        assert_rate_limited(response, "user");
    }
    app.get("/api/cart").token(&eve).await.is(200);
    for response in join_all((0..20).map(|_| app.get("/api/products").into_future())).await {
        response.is(200);
    }
}

/// A login through a proxy that reports the address `forwarded`.
fn login(app: &TestApp, email: &str, password: &str, forwarded: &str) -> Call {
    app.post("/api/auth/login", &json!({"email": email, "password": password}))
        .header("x-forwarded-for", forwarded)
}

#[tokio::test]
async fn failed_logins_lock_the_account_and_the_address() {
    let mut app =
        TestApp::with_settings(&[("limits.login", "3"), ("http.trusted_proxies", "127.0.0.1")])
            .await;
    let (ada, eve) = (app.customer().await, app.customer().await);
    for _ in 0..3 {
        login(&app, &ada.email, PASSWORD, "192.0.2.9").await.is(200);
    }
    for _ in 0..3 {
        login(&app, &ada.email.to_uppercase(), "wrong password", "192.0.2.1")
            .await
            .problem(401, "invalid_credentials");
    }
    // The right password does not help, from any address.
    for forwarded in ["192.0.2.1", "192.0.2.2", "nonsense, 192.0.2.3"] {
        assert_rate_limited(login(&app, &ada.email, PASSWORD, forwarded).await, "login");
    }
    // Other accounts are locked from that address too, whatever the client writes to its left.
    for forwarded in
        ["192.0.2.1", "10.9.9.9, 192.0.2.1", "nonsense, 192.0.2.1", "192.0.2.1:443.., 192.0.2.1"]
    {
        assert_rate_limited(login(&app, &eve.email, PASSWORD, forwarded).await, "login");
        assert_rate_limited(
            login(&app, "nobody@souk.example", "no password", forwarded).await,
            "login",
        );
    }
    login(&app, &eve.email, PASSWORD, "192.0.2.2").await.is(200);
    // Existing sessions continue but cannot be used to guess the password.
    app.get("/api/cart").token(&ada).await.is(200);
    let change = json!({"current_password": PASSWORD, "new_password": "a new password"});
    let change = app.post("/api/auth/password", &change).token(&ada);
    assert_rate_limited(change.header("x-forwarded-for", "192.0.2.1").await, "login");
    // A crash forgets nothing, and nobody can keep the owner out at a known address.
    app.kill_9().await;
    app.restart().await;
    assert_rate_limited(login(&app, &ada.email, PASSWORD, "192.0.2.2").await, "login");
    assert_rate_limited(login(&app, "nobody@souk.example", "password", "192.0.2.1").await, "login");
    login(&app, &ada.email, PASSWORD, "192.0.2.9").await.is(200);
}

#[tokio::test]
async fn unknown_account_is_locked_like_an_existing_one() {
    let app =
        TestApp::with_settings(&[("limits.login", "2"), ("http.trusted_proxies", "127.0.0.1")])
            .await;
    let ada = app.customer().await;
    for email in [&*ada.email, "nobody@souk.example"] {
        for n in 0..2 {
            login(&app, email, "wrong password", &format!("192.0.2.{n}"))
                .await
                .problem(401, "invalid_credentials");
        }
        assert_rate_limited(login(&app, email, "wrong password", "192.0.2.77").await, "login");
    }
}

#[tokio::test]
async fn concurrent_guesses_count_like_sequential_ones() {
    let app = TestApp::with_settings(&[("limits.login", "3")]).await;
    let guess = |n: usize| json!({"email": ADMIN_EMAIL, "password": format!("guess number {n}")});
    let responses =
        join_all((0..30).map(|n| app.post("/api/auth/login", &guess(n)).into_future())).await;
    let tried = responses.iter().filter(|response| response.status == 401).count();
    assert_eq!(tried, 3);
    for response in responses.into_iter().filter(|response| response.status != 401) {
        assert_rate_limited(response, "login");
    }
    assert_rate_limited(
        app.post("/api/auth/login", &json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}))
            .await,
        "login",
    );
}

/// Registers without pause, each time from the next of so many addresses.
async fn register_without_pause(app: &TestApp, addresses: u64) {
    loop {
        let body = json!({"email": unique_email(), "password": PASSWORD, "name": "Eve"});
        let address = format!("192.0.2.{}", unique_number() % addresses);
        let response =
            app.post("/api/auth/register", &body).header("x-forwarded-for", address).await;
        if response.status != 201 {
            response.problem(503, "overloaded");
        }
    }
}

#[tokio::test]
async fn registrations_keep_no_login_out() {
    let app = TestApp::with_settings(&[
        ("auth.bcrypt_cost", "7"),
        ("http.request_timeout", "60s"),
        ("http.trusted_proxies", "127.0.0.1"),
        ("limits.per_address", "0"),
    ])
    .await;
    let customers = app.customers(14).await;
    for addresses in [1, 20] {
        let flood = join_all((0..40).map(|_| register_without_pause(&app, addresses)));
        let logins = async {
            for _ in 0..3 {
                let login = |customer: &Account| {
                    let address = format!("198.51.100.{}", unique_number() % 200);
                    login(&app, &customer.email, PASSWORD, &address).into_future()
                };
                for response in join_all(customers.iter().map(login)).await {
                    response.is(200);
                }
            }
        };
        tokio::select! {
            _ = flood => unreachable!("it has no end"),
            () = logins => {}
        }
    }
}
