//! The token of a command that asks a server: given, or that of `souk login`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::{
    super::server::{ServerClient, ServerUrl},
    saved::{SavedLogin, SavedLogins},
};
use crate::domain::clock::{Clock, SystemClock};

/// The variable with a token that goes before that of `souk login`.
const TOKEN_VARIABLE: &str = "SOUK_TOKEN";

/// A token that expires this soon is renewed before it is used.
const RENEWAL_MARGIN: Duration = Duration::from_secs(30);

/// The tokens that a login and a renewal answer.
#[derive(Deserialize)]
pub(super) struct SessionResponse {
    token: String,
    refresh_token: String,
    expires_in: u64,
}

impl SessionResponse {
    pub(super) fn into_login(self, email: String) -> SavedLogin {
        let expires_at = SystemClock.now().saturating_add(Duration::from_secs(self.expires_in));
        SavedLogin {
            email,
            token: self.token,
            refresh_token: self.refresh_token,
            expires_at: expires_at.as_millis(),
        }
    }
}

/// Where a command has its token from.
pub(in crate::cli) enum TokenSource {
    /// The environment.
    FromEnvironment(String),
    /// A login, whose token is renewed when it expires.
    FromLogin(Box<SavedToken>),
}

/// The token of a login.
pub(in crate::cli) struct SavedToken {
    client: ServerClient,
    logins: SavedLogins,
    login: Mutex<SavedLogin>,
}

impl TokenSource {
    /// Finds a token for a server.
    ///
    /// # Errors
    /// There is none.
    pub(in crate::cli) fn find(server: &ServerUrl) -> anyhow::Result<Self> {
        if let Some(token) = super::variable(TOKEN_VARIABLE) {
            return Ok(Self::FromEnvironment(token));
        }
        Self::find_saved(server)
    }

    /// Finds the token of a login at a server.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn find_saved(server: &ServerUrl) -> anyhow::Result<Self> {
        // Without a home, nobody has logged in.
        let found = SavedLogins::open().ok().map(|logins| (logins.find(server), logins));
        if let Some((found, logins)) = found
            && let Some(login) = found?
        {
            let (client, login) = (ServerClient::new(server.clone())?, Mutex::new(login));
            return Ok(Self::FromLogin(Box::new(SavedToken { client, logins, login })));
        }
        bail!(
            "nobody is logged in at {server}: run souk login --server {server}, or set \
             {TOKEN_VARIABLE} to an access token or an API key"
        )
    }

    /// The token, renewed if it is about to expire.
    pub(in crate::cli) async fn token(&self) -> anyhow::Result<String> {
        let saved = match self {
            Self::FromEnvironment(token) => return Ok(token.clone()),
            Self::FromLogin(saved) => saved,
        };
        let mut login = saved.login.lock().await;
        if needs_renewal(&login) {
            *login = saved.renew().await?;
        }
        Ok(login.token.clone())
    }
}

fn needs_renewal(login: &SavedLogin) -> bool {
    login.expires_at <= SystemClock.now().saturating_add(RENEWAL_MARGIN).as_millis()
}

impl SavedToken {
    /// Renews the token, unless another command has done so.
    async fn renew(&self) -> anyhow::Result<SavedLogin> {
        let server = &self.client.server;
        let lock = self.logins.lock()?;
        let mut logins = self.logins.read_under_lock(&lock)?;
        let ended = || format!("the login at {server} has ended: run souk login --server {server}");
        let login = logins.get(server.as_str()).cloned().with_context(ended)?;
        if !needs_renewal(&login) {
            return Ok(login);
        }
        let body = json!({"refresh_token": login.refresh_token});
        let request = self.client.request(Method::POST, "/api/auth/refresh").json(&body);
        let response = self.client.send_unchecked(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            bail!("{}", ended());
        }
        let response = self.client.check(response).await?;
        let session: SessionResponse = response.json().await?;
        let renewed = session.into_login(login.email);
        logins.insert(server.to_string(), renewed.clone());
        self.logins.write(&logins).context("failed to keep the renewed token")?;
        Ok(renewed)
    }
}

/// A client for a server, with a token that it may need for what it asks.
pub(in crate::cli) async fn admin_client(
    server: &ServerUrl,
) -> anyhow::Result<(ServerClient, String)> {
    let token = TokenSource::find(server)?.token().await?;
    Ok((ServerClient::new(server.clone())?, token))
}
