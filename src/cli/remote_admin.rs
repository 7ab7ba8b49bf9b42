//! `souk admin --server` creates or promotes an admin over the API of a running server.

use anyhow::Context as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    admin::{has_password, print_outcome},
    login::admin_client,
    server::{ServerClient, ServerUrl},
};
use crate::{
    actors::accounts::admin_bootstrap::{AdminOutcome, random_password},
    domain::account::{Email, Password},
};

/// The name of an account that the command line creates.
const ADMIN_NAME: &str = "Administrator";

#[derive(Deserialize)]
struct UserPage {
    items: Vec<Account>,
}

#[derive(Deserialize)]
struct Account {
    id: String,
    role: String,
}

/// What registration answers.
#[derive(Deserialize)]
struct Registered {
    user: Account,
}

/// Creates or promotes an admin. Without a password, a new account gets a random one.
pub(super) async fn run(
    server: &ServerUrl,
    email: &Email,
    password: Option<Password>,
) -> anyhow::Result<()> {
    let (client, token) = admin_client(server).await?;
    let address = utf8_percent_encode(email.as_str(), NON_ALPHANUMERIC);
    let query = client.request(Method::GET, &format!("/api/users?email={address}"));
    let found: UserPage = client.read(query.bearer_auth(&token)).await?;
    let outcome = match found.items.into_iter().next() {
        Some(_) if password.is_some() => anyhow::bail!("{}", has_password(email)),
        Some(account) if account.role == "admin" => AdminOutcome::AlreadyAdmin,
        Some(account) => {
            grant_admin_role(&client, &token, &account).await?;
            AdminOutcome::Promoted
        }
        None => create(&client, &token, email, password).await?,
    };
    print_outcome(email, &outcome)
}

async fn create(
    client: &ServerClient,
    token: &str,
    email: &Email,
    given: Option<Password>,
) -> anyhow::Result<AdminOutcome> {
    let (password, generated) = match given {
        Some(given) => (given, None),
        None => {
            let random = random_password();
            (random.clone(), Some(random))
        }
    };
    let body = json!({
        "email": email.as_str(),
        "password": password.expose_secret(),
        "name": ADMIN_NAME,
    });
    let request = client.request(Method::POST, "/api/auth/register").json(&body);
    let registered: Registered = client.read(request).await?;
    grant_admin_role(client, token, &registered.user).await.with_context(|| {
        // Nobody else knows it.
        let password = generated.as_ref().map_or("the given one", Password::expose_secret);
        format!("the account exists (password: {password}), but is no admin yet; try again")
    })?;
    Ok(AdminOutcome::Created { generated })
}

async fn grant_admin_role(
    client: &ServerClient,
    token: &str,
    account: &Account,
) -> anyhow::Result<()> {
    let request = client
        .request(Method::PATCH, &format!("/api/users/{}", account.id))
        .bearer_auth(token)
        .json(&json!({"role": "admin"}));
    client.read::<Value>(request).await.map(drop)
}
