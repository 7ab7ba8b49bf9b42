//! `souk login` and `souk logout`, and the token that other commands use.

mod saved;
mod token;

use std::io::{self, IsTerminal, Write};

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

pub(super) use self::token::{TokenSource, admin_client};
use self::{saved::SavedLogins, token::SessionResponse};
use super::{
    LoginArguments, LogoutArguments,
    health::probe_address,
    password_input::read_password_from_stdin,
    print_error, print_line, run_in_system,
    server::{ServerClient, ServerUrl},
};
use crate::config::Settings;

/// The variables for a login without a terminal.
const EMAIL_VARIABLE: &str = "SOUK_EMAIL";
const PASSWORD_VARIABLE: &str = "SOUK_PASSWORD";

/// What a login answers beside its tokens.
#[derive(Deserialize)]
struct LoginResponse {
    #[serde(flatten)]
    session: SessionResponse,
    user: LoggedInUser,
}

#[derive(Deserialize)]
struct LoggedInUser {
    email: String,
    role: String,
}

pub(super) fn run(settings: &Settings, arguments: &LoginArguments) -> anyhow::Result<()> {
    let server = server_or_local(settings, arguments.server.as_ref());
    let logins = SavedLogins::open()?;
    let email = ask_email(arguments)?;
    let password = ask_password(arguments, &email, &server)?;
    run_in_system(async |_| {
        let client = ServerClient::new(server.clone())?;
        let body = json!({"email": email, "password": password});
        let request = client.request(Method::POST, "/api/auth/login").json(&body);
        let LoginResponse { session, user } = client.read(request).await?;
        let LoggedInUser { email, role } = user;
        let login = session.into_login(email.clone());
        logins.change(|saved| saved.insert(server.to_string(), login))?;
        let path = logins.path().display();
        print_line(&format!("{email} ({role}) is logged in at {server}. The token is in {path}."))
    })
}

pub(super) fn run_logout(settings: &Settings, arguments: &LogoutArguments) -> anyhow::Result<()> {
    let server = server_or_local(settings, arguments.server.as_ref());
    let logins = SavedLogins::open()?;
    if logins.find(&server)?.is_none() {
        bail!("nobody is logged in at {server}");
    }
    run_in_system(async |_| {
        let ended = end_session(&server).await;
        logins.change(|saved| saved.remove(&server.to_string()))?;
        if let Err(error) = ended {
            // A session that is forgotten here ends by itself, after 30 days.
            print_error(&format!("{error:#}"));
        }
        print_line(&format!("The token for {server} is removed."))
    })
}

async fn end_session(server: &ServerUrl) -> anyhow::Result<()> {
    let token = TokenSource::find_saved(server)?.token().await?;
    let client = ServerClient::new(server.clone())?;
    let request = client.request(Method::POST, "/api/auth/logout").bearer_auth(token);
    client.send(request).await.map(drop)
}

/// The given server, or the one on this machine that has these settings.
fn server_or_local(settings: &Settings, server: Option<&ServerUrl>) -> ServerUrl {
    server.cloned().unwrap_or_else(|| ServerUrl::from_address(probe_address(settings.http.bind)))
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn ask_email(arguments: &LoginArguments) -> anyhow::Result<String> {
    if let Some(email) = arguments.email.clone().or_else(|| variable(EMAIL_VARIABLE)) {
        return Ok(email);
    }
    if arguments.password_stdin || !io::stdin().is_terminal() {
        bail!("there is no terminal to ask on; use --email, or set {EMAIL_VARIABLE}");
    }
    let mut out = io::stderr();
    write!(out, "E-mail: ").and_then(|()| out.flush())?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("failed to read the e-mail address")?;
    match line.trim() {
        "" => bail!("an e-mail address is needed to log in"),
        email => Ok(email.to_owned()),
    }
}

fn ask_password(
    arguments: &LoginArguments,
    email: &str,
    server: &ServerUrl,
) -> anyhow::Result<String> {
    if arguments.password_stdin {
        return read_password_from_stdin();
    }
    if let Some(password) = variable(PASSWORD_VARIABLE) {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask on; use --password-stdin, or set {PASSWORD_VARIABLE}");
    }
    rpassword::prompt_password(format!("Password of {email} at {server}: "))
        .context("failed to read the password")
}
