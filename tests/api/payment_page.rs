//! The page in `examples/pay.html` buys, in a browser. Stripe's script is not reachable in a test,
//! so another one takes its place, which has the stand-in pay.

use std::{path::Path, process::Command};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{PASSWORD, payments::Provider};

/// What the page uses of Stripe's script.
const STRIPE: &str = r#"
    window.Stripe = (key) => {
      if (key !== "pk_test_1") throw new Error("another key");
      return {
        elements: ({ clientSecret }) => ({
          clientSecret,
          create: (kind) => ({ mount: (place) => {
            document.querySelector(place).textContent = `${kind} element`;
          } }),
        }),
        confirmPayment: async ({ elements, redirect }) => {
          const intent = elements.clientSecret.split("_secret_")[0];
          await fetch(`PROVIDER/_pay/${intent}`, { method: "POST", mode: "no-cors", body: "{}" });
          return redirect === "if_required" ? {} : { error: new Error("redirected") };
        },
      };
    };
"#;

/// What a person does on the page.
const PERSON: &str = r##"
    const until = async (found) => {
      while (!found()) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const fill = (id, values) => {
      for (const [name, value] of Object.entries(values)) document.forms[id][name].value = value;
      document.forms[id].requestSubmit();
    };
    addEventListener("load", async () => {
      fill("login", { shop: "SHOP", key: "pk_test_1", email: "EMAIL", password: "PASSWORD" });
      await until(() => !document.forms.cart.hidden);
      fill("cart", { quantity: 3 });
      await until(() => !document.forms.payment.hidden);
      fill("payment", {});
    });
"##;

/// Serves a page and a script, to any number of clients.
async fn serve(listener: TcpListener, page: String, script: String) {
    let answer = async |mut client: TcpStream| -> std::io::Result<()> {
        let mut head = vec![0; 8192];
        let length = client.read(&mut head).await?;
        let is_script = head[..length].starts_with(b"GET /script.js");
        let (kind, body) = match is_script {
            true => ("text/javascript", &script),
            false => ("text/html", &page),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await?;
        client.write_all(body.as_bytes()).await
    };
    loop {
        let (client, _) = listener.accept().await.unwrap();
        // The browser may close what it does not need.
        drop(answer(client).await);
    }
}

#[tokio::test]
async fn page_with_the_payment_element_buys() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let provider = Provider::start().await;
    let app = provider.start_shop(&[("http.cors.allowed_origins", &origin)]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let ada = app.customer().await;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pay.html");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("src=\"https://js.stripe.com/v3/\""));
    let page = page.replace("https://js.stripe.com/v3/", "/script.js");
    let [(_, base)] = &provider.settings()[3..] else { panic!("no address") };
    let script = format!("{STRIPE}{PERSON}")
        .replace("PROVIDER", base)
        .replace("SHOP", app.url())
        .replace("EMAIL", &ada.email)
        .replace("PASSWORD", PASSWORD);
    let server = tokio::spawn(serve(listener, page, script));
    let profile = app.dir().join("browser");
    let browser = tokio::task::spawn_blocking(move || {
        Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
            .args(["--virtual-time-budget=600000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("{origin}/pay.html"))
            .output()
    });
    let browser = browser.await.unwrap();
    server.abort();
    let Ok(browser) = browser else {
        assert!(std::env::var_os("SOUK_TEST_ALL").is_none(), "install chromium");
        eprintln!("chromium is not installed: the page was not tried");
        return;
    };
    let dom = String::from_utf8_lossy(&browser.stdout);
    let log = String::from_utf8_lossy(&browser.stderr);
    assert!(dom.contains("is paid, its payment paid."), "{dom}\n{log}");
    assert!(dom.contains("payment element") && dom.contains("13.5 USD"), "{dom}");
    let orders = app.get("/api/orders").token(&ada).await.ok();
    assert_eq!(orders["items"][0]["items"][0]["product_id"], tea);
    assert_eq!(orders["items"][0]["status"], "paid");
}
