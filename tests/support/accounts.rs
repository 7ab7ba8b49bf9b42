//! Accounts: the admin, customers and guests.

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{TestApp, unique_number};

pub(crate) const ADMIN_EMAIL: &str = "admin@souk.example";
pub(crate) const ADMIN_PASSWORD: &str = "an admin's password";
/// The password of every customer.
pub(crate) const PASSWORD: &str = "a customer's password";

/// An account with its tokens.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) token: String,
    pub(crate) refresh_token: String,
}

impl AsRef<str> for Account {
    fn as_ref(&self) -> &str {
        &self.token
    }
}

impl Account {
    /// Reads the response of a registration, login or refresh.
    pub(crate) fn from_session(session: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (user, token) = (&session["user"], text(&session["token"]));
        Self {
            id: text(&user["id"]),
            email: text(&user["email"]),
            token,
            refresh_token: text(&session["refresh_token"]),
        }
    }
}

pub(crate) fn unique_email() -> String {
    format!("customer-{}@souk.example", unique_number())
}

impl TestApp {
    pub(crate) async fn admin(&self) -> Account {
        self.login(ADMIN_EMAIL, ADMIN_PASSWORD).await
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Account {
        Account::from_session(
            &self
                .post("/api/auth/login", &json!({"email": email, "password": password}))
                .await
                .ok(),
        )
    }

    /// Logs in with a guest's token. Returns the response.
    pub(crate) async fn login_with_guest(&self, account: &Account, guest: &Account) -> Value {
        let body = json!({
            "email": account.email, "password": PASSWORD, "guest_token": guest.token,
        });
        self.post("/api/auth/login", &body).await.ok()
    }

    pub(crate) async fn customer(&self) -> Account {
        let body = json!({"email": unique_email(), "password": PASSWORD, "name": "Ada"});
        Account::from_session(&self.post("/api/auth/register", &body).await.is(201).json())
    }

    /// New customers, a few at a time: the server rejects logins when password hashing is
    /// overloaded.
    pub(crate) async fn customers(&self, count: usize) -> Vec<Account> {
        stream::iter(0..count).map(|_| self.customer()).buffered(8).collect().await
    }

    /// A new guest, without an email address and a refresh token.
    pub(crate) async fn guest(&self) -> Account {
        let guest = self.call("POST", "/api/cart/guest").await.is(201).json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (id, token) = (text(&guest["cart"]["user_id"]), text(&guest["token"]));
        Account { id, email: String::new(), token, refresh_token: String::new() }
    }
}
