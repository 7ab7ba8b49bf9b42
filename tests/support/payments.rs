//! Payment providers that are not souk's: a stand-in in `tests/payments/provider.py`, and
//! localstripe, a Stripe that others wrote.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{Account, TestApp, python_packages::python_packages};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) const WEBHOOK_SECRET: &str = "whsec_of_a_test";

/// The stand-in, which runs until it is killed or dropped. It keeps its book over a kill.
pub(crate) struct Provider {
    port: u16,
    process: Option<Child>,
    journal: tempfile::TempDir,
    http: reqwest::Client,
    /// The packages with Stripe's own library, if it signs the webhooks.
    packages: Option<PathBuf>,
}

/// The folder with the packages of `tests/payments/requirements.txt`; none when they are not there.
/// With `SOUK_TEST_ALL` they have to be.
pub(crate) fn payment_tools(what: &str) -> Option<PathBuf> {
    python_packages(what, "SOUK_TEST_PAYMENTS_TOOLS")
}

/// The settings of a shop whose provider listens on `port`.
fn settings(port: u16) -> [(&'static str, String); 4] {
    [
        ("payments.default", "stripe".to_owned()),
        ("payments.stripe.secret_key", "sk_test_of_a_test".to_owned()),
        ("payments.stripe.webhook_secret", WEBHOOK_SECRET.to_owned()),
        ("payments.stripe.api_base", format!("http://127.0.0.1:{port}")),
    ]
}

impl Provider {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a provider that signs its webhooks with Stripe's own library, in `packages`.
    pub(crate) async fn start_with(packages: Option<PathBuf>) -> Self {
        let journal = tempfile::tempdir().unwrap();
        let http = reqwest::Client::new();
        let mut provider = Self { port: 0, process: None, journal, http, packages };
        provider.restart().await;
        provider
    }

    /// Starts the process, after a kill on the same port and with the same book.
    pub(crate) async fn restart(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payments/provider.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(self.port.to_string()).arg(self.journal.path().join("journal"));
        if let Some(packages) = &self.packages {
            command.env("PYTHONPATH", packages).env("STRIPE_SIGNS", "1");
        }
        let mut child = command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        self.process = Some(child);
        let read = move || BufReader::new(output).lines().next().unwrap().unwrap();
        let line = tokio::task::spawn_blocking(read);
        let line = tokio::time::timeout(TIMEOUT, line).await.unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        self.port = u16::try_from(line["port"].as_u64().unwrap()).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The settings of a shop that is paid here.
    pub(crate) fn settings(&self) -> [(&'static str, String); 4] {
        settings(self.port)
    }

    /// A shop that is paid here, with more settings.
    pub(crate) async fn start_shop(&self, more: &[(&str, &str)]) -> TestApp {
        let own = self.settings();
        let own: Vec<(&str, &str)> = own.iter().map(|(key, value)| (*key, &**value)).collect();
        let app = TestApp::with_settings(&[&own, more].concat()).await;
        self.send_webhooks_to(&[&app]).await;
        app
    }

    /// Says where webhooks go: each to any of the nodes.
    pub(crate) async fn send_webhooks_to(&self, nodes: &[&TestApp]) {
        let urls: Vec<String> = nodes.iter().map(|node| webhook_url(node)).collect();
        self.tell("_webhooks", &json!({"urls": urls, "secret": WEBHOOK_SECRET})).await;
    }

    /// Sets the probability of faults, in per cent.
    pub(crate) async fn set_faults(&self, faults: &Value) {
        self.tell("_faults", faults).await;
    }

    /// The buyer pays the intent. Returns whether that was possible.
    pub(crate) async fn pay(&self, intent: &str) -> bool {
        self.ask(&format!("_pay/{intent}"), &json!({})).await.status().is_success()
    }

    /// A try of the buyer that is declined, unless the intent was cancelled.
    pub(crate) async fn try_decline(&self, intent: &str) {
        self.ask(&format!("_pay/{intent}"), &json!({"declined": true})).await;
    }

    pub(crate) async fn decline(&self, intent: &str) {
        self.tell(&format!("_pay/{intent}"), &json!({"declined": true})).await;
    }

    /// Somebody cancels the intent at the provider.
    pub(crate) async fn cancel(&self, intent: &str) {
        self.tell(&format!("_cancel/{intent}"), &json!({})).await;
    }

    /// Somebody refunds cents at the provider.
    pub(crate) async fn refund(&self, intent: &str, cents: u64) {
        self.tell(&format!("_refund/{intent}"), &json!({"amount": cents})).await;
    }

    /// The last refund of an order, which has succeeded, fails after all. Returns it.
    pub(crate) async fn fail_refund(&self, order: &Value) -> Value {
        let intents = self.intents_of(order).await;
        let book = self.book().await;
        let refunds = book["refunds"].as_array().unwrap().iter().rev();
        let is_of =
            |refund: &&Value| intents.iter().any(|intent| intent["id"] == refund["payment_intent"]);
        let refund = refunds.clone().find(is_of).unwrap();
        self.tell(&format!("_fail/{}", refund["id"].as_str().unwrap()), &json!({})).await
    }

    /// The signature of a webhook that was made so many seconds ago.
    pub(crate) async fn sign(&self, payload: &str, age: i64) -> String {
        let body = json!({"payload": payload, "secret": WEBHOOK_SECRET, "age": age});
        self.tell("_sign", &body).await["signature"].as_str().unwrap().to_owned()
    }

    /// Everything that happened: `intents` and `refunds`.
    pub(crate) async fn book(&self) -> Value {
        self.tell("_book", &json!({})).await
    }

    /// The intents of an order in the book.
    pub(crate) async fn intents_of(&self, order: &Value) -> Vec<Value> {
        let is_of = |intent: &&Value| intent["metadata"]["order_id"] == order["id"];
        self.book().await["intents"].as_array().unwrap().iter().filter(is_of).cloned().collect()
    }

    async fn tell(&self, path: &str, body: &Value) -> Value {
        let response = self.ask(path, body).await;
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
        response.json().await.unwrap()
    }

    async fn ask(&self, path: &str, body: &Value) -> reqwest::Response {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        self.http.post(url).json(body).send().await.unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// Where a shop takes webhooks.
pub(crate) fn webhook_url(app: &TestApp) -> String {
    format!("{}/api/payments/stripe/webhook", app.url())
}

impl TestApp {
    /// Begins the payment of an order; returns the payment.
    pub(crate) async fn begin_payment(&self, account: &Account, order: &Value) -> Value {
        self.order_action(account, order, "payment").await.ok()
    }

    /// Polls an order until its payment has the status `wanted`.
    pub(crate) async fn wait_for_payment(
        &self,
        account: &Account,
        order: &Value,
        wanted: &str,
    ) -> Value {
        let mut last = Value::Null;
        let reached = async {
            loop {
                last = self.order(account, order).await;
                if last["payment"]["status"] == wanted {
                    return;
                }
                // Orders have no notification to wait for.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(TIMEOUT, reached).await;
        assert!(reached.is_ok(), "it is not {wanted}: {last}");
        last
    }
}

/// localstripe, which runs until it is dropped.
pub(crate) struct LocalStripe {
    process: Child,
    port: u16,
    http: reqwest::Client,
}

impl LocalStripe {
    /// Starts it; `None` when its package is not there.
    pub(crate) async fn start(what: &str) -> Option<Self> {
        let packages = payment_tools(what)?;
        // It takes no port 0. The port is free until something else takes it meanwhile.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("python3")
            .args(["-m", "localstripe", "--port", &port.to_string(), "--from-scratch"])
            .env("PYTHONPATH", packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, port, http: reqwest::Client::new() };
        let listens = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                // It does not say when it listens.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, listens).await.expect("localstripe does not listen");
        Some(server)
    }

    /// A shop that is paid here.
    pub(crate) async fn start_shop(&self) -> TestApp {
        let own = settings(self.port);
        let own: Vec<(&str, &str)> = own.iter().map(|(key, value)| (*key, &**value)).collect();
        let app = TestApp::with_settings(&own).await;
        let url = webhook_url(&app);
        let secret = WEBHOOK_SECRET;
        self.post("_config/webhooks/shop", &[("url", &*url), ("secret", secret)]).await;
        app
    }

    /// Makes a card with this number the payment method of an intent, and confirms it.
    pub(crate) async fn pay(&self, intent: &str, card: &str) {
        let method = self
            .post(
                "v1/payment_methods",
                &[
                    ("type", "card"),
                    ("card[number]", card),
                    ("card[exp_month]", "12"),
                    ("card[exp_year]", "2050"),
                    ("card[cvc]", "123"),
                ],
            )
            .await;
        let method = method["id"].as_str().unwrap();
        let intent = format!("v1/payment_intents/{intent}");
        self.post(&intent, &[("payment_method", method)]).await;
        self.post(&format!("{intent}/confirm"), &[]).await;
    }

    /// What localstripe has at a path.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let response = self.http.get(url).bearer_auth("sk_test_of_a_test").send().await.unwrap();
        response.json().await.unwrap()
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let request = self
            .http
            .post(url)
            .bearer_auth("sk_test_of_a_test")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish());
        request.send().await.unwrap().json().await.unwrap_or_default()
    }
}

impl Drop for LocalStripe {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
