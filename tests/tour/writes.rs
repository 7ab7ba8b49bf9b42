//! Writes that continue until the server is killed, and what must remain of them.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// An HTTP client of a shop.
#[derive(Clone)]
pub(crate) struct Shop {
    client: Client,
    url: String,
}

impl Shop {
    pub(crate) fn connect(url: &str) -> Result<Self> {
        Ok(Self { client: Client::builder().no_proxy().build()?, url: url.to_owned() })
    }

    /// Sends a change; a status other than 2xx is an error.
    pub(crate) async fn post(
        &self,
        path: &str,
        token: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Response> {
        let mut request =
            self.client.post(format!("{}{path}", self.url)).bearer_auth(token).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Ok(request.send().await?.error_for_status()?)
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Result<String> {
        let body = json!({"email": email, "password": password});
        token(self.client.post(format!("{}/api/auth/login", self.url)).json(&body).send().await?)
            .await
    }

    pub(crate) async fn guest(&self) -> Result<String> {
        token(self.client.post(format!("{}/api/cart/guest", self.url)).send().await?).await
    }

    /// Reads a number from a JSON response.
    pub(crate) async fn read_number(&self, path: &str, token: &str, pointer: &str) -> Result<u64> {
        let response = self
            .client
            .get(format!("{}{path}", self.url))
            .bearer_auth(token)
            .send()
            .await?
            .error_for_status()?;
        let body: Value = response.json().await?;
        body.pointer(pointer)
            .and_then(Value::as_u64)
            .with_context(|| format!("{path} has no {pointer}: {body}"))
    }
}

async fn token(response: Response) -> Result<String> {
    let body: Value = response.error_for_status()?.json().await?;
    body.pointer("/token").and_then(Value::as_str).map(str::to_owned).context("no token")
}

/// Counts acknowledged writes.
#[derive(Clone)]
pub(crate) struct Acknowledged(Arc<Semaphore>);

impl Acknowledged {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) async fn wait_for(&self, count: u32) -> Result<()> {
        self.0.acquire_many(count).await?.forget();
        Ok(())
    }
}

/// The same change repeated sequentially, each time under its own key.
#[derive(Clone)]
pub(crate) struct Writes {
    pub(crate) name: String,
    path: String,
    body: Value,
    token: String,
    /// The path of the resource that counts the writes.
    counted_at: String,
    pointer: String,
    before: u64,
}

impl Writes {
    /// Each write posts `body` to `path` and increments the number at `pointer` in `counted_at`,
    /// which is `before` now.
    pub(crate) fn new(
        name: &str,
        path: &str,
        body: Value,
        token: &str,
        counted_at: &str,
        pointer: &str,
        before: u64,
    ) -> Self {
        let [name, path, token, counted_at, pointer] =
            [name, path, token, counted_at, pointer].map(str::to_owned);
        Self { name, path, body, token, counted_at, pointer, before }
    }

    /// Writes until the server is gone; returns the number of acknowledged writes.
    pub(crate) async fn until_killed(self, shop: Shop, acknowledged: Acknowledged) -> Result<u64> {
        for done in 0.. {
            match self.write(&shop, done).await {
                Ok(_) => acknowledged.0.add_permits(1),
                Err(error)
                    if error
                        .downcast_ref::<reqwest::Error>()
                        .is_some_and(|e| e.status().is_none()) =>
                {
                    return Ok(done);
                }
                Err(refused) => return Err(refused),
            }
        }
        Ok(u64::MAX)
    }

    async fn write(&self, shop: &Shop, number: u64) -> Result<Response> {
        shop.post(&self.path, &self.token, Some(&format!("{}-{number}", self.name)), &self.body)
            .await
    }

    /// Asserts that all acknowledged writes and at most the unacknowledged one are applied, and
    /// that repeats apply it once.
    pub(crate) async fn check(&self, shop: &Shop, acknowledged: u64) -> Result<()> {
        let found = self.count(shop).await?;
        ensure!(
            found == acknowledged || found == acknowledged + 1,
            "{acknowledged} acknowledged, but {found} found"
        );
        for attempt in ["repeat", "second repeat"] {
            self.write(shop, acknowledged).await?;
            let found = self.count(shop).await?;
            ensure!(found == acknowledged + 1, "{acknowledged} and a {attempt}, but {found} found");
        }
        Ok(())
    }

    async fn count(&self, shop: &Shop) -> Result<u64> {
        let now = shop.read_number(&self.counted_at, &self.token, &self.pointer).await?;
        now.checked_sub(self.before)
            .with_context(|| format!("{now} is less than the {} before", self.before))
    }
}
