//! Mails: verified addresses and forgotten passwords, with a real SMTP server.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::support::{
    Account, Call, PASSWORD, Response, TestApp,
    mail::{MailServer, ReceivedMail},
    unique_email,
};

const NEW_PASSWORD: &str = "another password";
const TIMEOUT: Duration = Duration::from_secs(60);

/// A shop that sends its mail to `server`, with more settings.
pub(crate) async fn start_shop(server: &MailServer, settings: &[(&str, &str)]) -> TestApp {
    let mail = server.settings();
    let mail: Vec<(&str, &str)> = mail.iter().map(|(key, value)| (*key, &**value)).collect();
    TestApp::with_settings(&[&mail, settings].concat()).await
}

fn forgot(app: &TestApp, email: &str) -> Call {
    app.post("/api/auth/password/forgot", &json!({"email": email}))
}

fn reset(app: &TestApp, token: &str, password: &str) -> Call {
    app.post("/api/auth/password/reset", &json!({"token": token, "new_password": password}))
}

pub(crate) fn verify(app: &TestApp, token: &str) -> Call {
    app.post("/api/auth/email/verify", &json!({"token": token}))
}

fn ask_for_verification(app: &TestApp, account: &Account) -> Call {
    app.call("POST", "/api/auth/email/verification").token(account)
}

async fn is_verified(app: &TestApp, account: &Account) -> Value {
    app.get("/api/auth/me").token(account).await.ok()["email_verified"].clone()
}

/// A new customer, with the token that verifies the address.
pub(crate) async fn customer(app: &TestApp, server: &mut MailServer) -> (Account, String) {
    let ada = app.customer().await;
    let token = server.mail("verification", &ada.email).await.token("verify-email");
    (ada, token)
}

async fn reset_token(app: &TestApp, server: &mut MailServer, email: &str) -> String {
    forgot(app, email).await.is(202);
    server.mail("password_reset", email).await.token("reset-password")
}

/// The number of mails that wait in the store of a shop.
fn waiting_mails(app: &TestApp) -> u64 {
    let file = app.dir().join("data/souk.db");
    let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    store.query_row("SELECT count(*) FROM mails", [], |row| row.get(0)).unwrap()
}

/// Waits until every mail was sent or given up.
async fn wait_until_no_mail_waits(app: &TestApp) {
    let reached = async {
        while waiting_mails(app) > 0 {
            // Nothing tells that a record is gone.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, reached).await.expect("mails wait");
}

#[tokio::test]
async fn address_is_verified_once_by_the_link_of_a_mail() {
    let Some(mut server) = MailServer::start("verification").await else { return };
    let app = start_shop(&server, &[]).await;
    let ada = app.customer().await;
    let mail = server.mail("verification", &ada.email).await;
    assert_eq!(mail.field("sender"), "Tea Shop <shop@souk.example>");
    assert_eq!((mail.field("recipient"), mail.field("automatic")), (&*ada.email, "auto-generated"));
    assert_eq!(mail.field("type"), "multipart/alternative");
    assert!(mail.field("id").ends_with("@souk.example>") && !mail.field("subject").is_empty());
    assert!(mail.field("text").contains("Tea Shop") && mail.field("html").contains("Tea Shop"));
    let token = mail.token("verify-email");
    assert_eq!(is_verified(&app, &ada).await, json!(false));
    for bad in ["", "x", &token[1..], &token.replace(&token[30..31], "!")] {
        verify(&app, bad).await.problem(401, "token_invalid");
    }
    reset(&app, &token, NEW_PASSWORD).await.problem(401, "token_invalid");
    // Another one works as well, until one of them is used.
    ask_for_verification(&app, &ada).await.is(202);
    let second = server.mail("verification", &ada.email).await.token("verify-email");
    assert_ne!(token, second);
    verify(&app, &token).await.is(204);
    assert_eq!(is_verified(&app, &ada).await, json!(true));
    for used in [&token, &second] {
        verify(&app, used).await.problem(401, "token_invalid");
    }
    // A verified address gets no more of them.
    ask_for_verification(&app, &ada).await.is(202);
    wait_until_no_mail_waits(&app).await;
    assert_eq!(server.other_mails().len(), 0);
    ask_for_verification(&app, &app.guest().await).await.problem(403, "forbidden");
}

#[tokio::test]
async fn sender_without_a_name_has_the_name_of_the_shop() {
    let Some(mut server) = MailServer::start("the shop's name").await else { return };
    let settings = [("mail.from", "shop@souk.example"), ("shop.name", "Tea & Co")];
    let app = start_shop(&server, &settings).await;
    let mail = server.mail("verification", &app.customer().await.email).await;
    assert!(mail.field("text").contains("an account at Tea & Co."), "{}", mail.field("text"));
}

#[tokio::test]
async fn forgotten_password_is_replaced_by_the_link_of_a_mail() {
    let Some(mut server) = MailServer::start("forgotten passwords").await else { return };
    let app = start_shop(&server, &[]).await;
    let (ada, verification) = customer(&app, &mut server).await;
    let phone = app.login(&ada.email, PASSWORD).await;
    let first = reset_token(&app, &mut server, &ada.email.to_uppercase().to_lowercase()).await;
    forgot(&app, &ada.email.to_uppercase()).await.is(202);
    let mail = server.mail("password_reset", &ada.email).await;
    assert!(mail.field("text").contains("Ada"), "{mail:?}");
    let second = mail.token("reset-password");
    verify(&app, &first).await.problem(401, "token_invalid");
    // A refused password uses up nothing.
    for weak in ["short", "password", "x\u{0}xxxxxxxx"] {
        reset(&app, &first, weak).await.problem(422, "validation_failed");
    }
    reset(&app, &first[..40], NEW_PASSWORD).await.problem(401, "token_invalid");
    let done = reset(&app, &first, NEW_PASSWORD).await.is(204);
    assert_eq!(done.header("cache-control"), Some("no-store"));
    for token in [&first, &second, &verification] {
        reset(&app, token, "a third password").await.problem(401, "token_invalid");
    }
    verify(&app, &verification).await.problem(401, "token_invalid");
    for session in [&ada, &phone] {
        app.get("/api/cart").token(session).await.problem(401, "unauthenticated");
        let refresh = json!({"refresh_token": session.refresh_token});
        app.post("/api/auth/refresh", &refresh).await.problem(401, "unauthenticated");
    }
    let old = json!({"email": ada.email, "password": PASSWORD});
    app.post("/api/auth/login", &old).await.problem(401, "invalid_credentials");
    let again = app.login(&ada.email, NEW_PASSWORD).await;
    assert_eq!(is_verified(&app, &again).await, json!(true));
}

#[tokio::test]
async fn parallel_resets_with_one_token_change_the_password_once() {
    let Some(mut server) = MailServer::start("parallel resets").await else { return };
    let app = start_shop(&server, &[]).await;
    let (ada, _) = customer(&app, &mut server).await;
    let token = reset_token(&app, &mut server, &ada.email).await;
    let password = |n: usize| format!("password number {n}");
    let attempt = async |n: usize| reset(&app, &token, &password(n)).await.status;
    let statuses = futures_util::future::join_all((0..8).map(attempt)).await;
    let winners: Vec<usize> = (0..8).filter(|n| statuses[*n] == 204).collect();
    assert_eq!(winners.len(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [204, 401].contains(status)), "{statuses:?}");
    app.login(&ada.email, &password(winners[0])).await;
}

#[tokio::test]
async fn tokens_end_with_another_password_or_address() {
    let Some(mut server) = MailServer::start("the end of tokens").await else { return };
    let app = start_shop(&server, &[]).await;
    let (ada, verification) = customer(&app, &mut server).await;
    let token = reset_token(&app, &mut server, &ada.email).await;
    let change = json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD});
    app.post("/api/auth/password", &change).token(&ada).await.is(204);
    reset(&app, &token, PASSWORD).await.problem(401, "token_invalid");
    verify(&app, &verification).await.problem(401, "token_invalid");

    let (bob, verification) = customer(&app, &mut server).await;
    verify(&app, &verification).await.is(204);
    let token = reset_token(&app, &mut server, &bob.email).await;
    let email = unique_email();
    let change = json!({"email": email, "current_password": PASSWORD});
    let changed = app.patch("/api/auth/me", &change).token(&bob).await.ok();
    assert_eq!(changed["email_verified"], json!(false));
    reset(&app, &token, NEW_PASSWORD).await.problem(401, "token_invalid");
    let notice = server.mail("email_changed", &bob.email).await;
    assert!(!notice.field("text").contains(&email) && !notice.field("html").contains(&email));
    let verification = server.mail("verification", &email).await.token("verify-email");
    verify(&app, &verification).await.is(204);
    assert_eq!(is_verified(&app, &bob).await, json!(true));
    // Another name needs no mail.
    app.patch("/api/auth/me", &json!({"name": "Bob"})).token(&bob).await.ok();
    wait_until_no_mail_waits(&app).await;
    assert_eq!(server.other_mails().len(), 0);
}

/// What a client can see of a response.
fn visible(response: &Response) -> (u16, Vec<u8>, Vec<(String, String)>) {
    let mut headers: Vec<(String, String)> = response
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .collect();
    headers.sort();
    (response.status, response.body.clone(), headers)
}

#[tokio::test]
async fn unknown_blocked_and_limited_addresses_get_the_same_response_and_no_mail() {
    let Some(mut server) = MailServer::start("limits of mail").await else { return };
    let app = start_shop(&server, &[("limits.mail", "2")]).await;
    let (ada, _) = customer(&app, &mut server).await;
    let (bob, _) = customer(&app, &mut server).await;
    let admin = app.admin().await;
    let path = format!("/api/users/{}", bob.id);
    app.patch(&path, &json!({"blocked": true})).token(&admin).await.ok();
    let first = forgot(&app, &ada.email).await.is(202);
    server.mail("password_reset", &ada.email).await;
    for email in ["nobody@souk.example", &bob.email, &ada.email, &ada.email, &ada.email] {
        assert_eq!(visible(&forgot(&app, email).await), visible(&first), "{email}");
    }
    // A mail on request counts, whatever it is about.
    ask_for_verification(&app, &ada).await.is(202);
    wait_until_no_mail_waits(&app).await;
    let to = |mail: &ReceivedMail| mail.field("to").to_owned();
    let recipients: Vec<String> = server.other_mails().iter().map(to).collect();
    assert_eq!(recipients, [ada.email], "two in all");
    for (body, code) in [
        (json!({"email": "nobody"}), "invalid_email"),
        (json!({"email": "a@b@c"}), "invalid_email"),
    ] {
        let problem = app.post("/api/auth/password/forgot", &body).await;
        let problem = problem.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["code"], code);
    }
}

#[tokio::test]
async fn blocked_account_cannot_use_its_tokens() {
    let Some(mut server) = MailServer::start("blocked accounts").await else { return };
    let app = start_shop(&server, &[]).await;
    let (ada, verification) = customer(&app, &mut server).await;
    let token = reset_token(&app, &mut server, &ada.email).await;
    let (admin, path) = (app.admin().await, format!("/api/users/{}", ada.id));
    app.patch(&path, &json!({"blocked": true})).token(&admin).await.ok();
    reset(&app, &token, NEW_PASSWORD).await.problem(401, "token_invalid");
    verify(&app, &verification).await.problem(401, "token_invalid");
    app.patch(&path, &json!({"blocked": false})).token(&admin).await.ok();
    reset(&app, &token, NEW_PASSWORD).await.is(204);
}

#[tokio::test]
async fn server_that_refuses_defers_stalls_or_dies_loses_nothing() {
    let Some(mut server) = MailServer::start("trouble with the mail server").await else { return };
    let app = start_shop(&server, &[]).await;
    let (refused, deferred, stalled) = (unique_email(), unique_email(), unique_email());
    let register = async |email: &str| {
        let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
        app.post("/api/auth/register", &body).await.is(201);
    };
    for (rule, email) in [("refuse", &refused), ("defer", &deferred), ("stall", &stalled)] {
        server.set_rule(rule, email).await;
        register(email).await;
    }
    server.wait_for_stall(&stalled).await;
    app.wait_for_metric("souk_mail_failed_total", 1.0).await;
    app.wait_for_log("status 451").await;
    // Others go on while one stalls.
    customer(&app, &mut server).await;
    server.set_rule("accept", &deferred).await;
    server.mail("verification", &deferred).await;
    // A mail whose answer is lost would come again.
    app.wait_for_metric("souk_mail_sent_total", 2.0).await;
    // Whoever stalls is tried again once the connection is lost.
    server.kill();
    let late = unique_email();
    register(&late).await;
    app.get("/readyz").await.ok();
    app.wait_for_log("Connection refused").await;
    server.restart().await;
    for email in [&late, &stalled] {
        server.mail("verification", email).await.token("verify-email");
    }
    wait_until_no_mail_waits(&app).await;
    assert_eq!(server.other_mails().len(), 0);
    assert_eq!(app.metric("souk_mail_failed_total").await, 1.0);
    assert!(app.metric("souk_mail_postponed_total").await >= 3.0);
    let log = app.log();
    for email in [&refused, &deferred, &stalled, &late] {
        assert!(!log.contains(email.as_str()), "the log has {email}");
    }
    assert!(log.contains("status 550"), "{log}");
}

#[tokio::test]
async fn slow_server_is_given_up_after_a_while_and_tried_again() {
    let Some(mut server) = MailServer::start("a slow mail server").await else { return };
    let app = start_shop(&server, &[("mail.timeout", "500ms")]).await;
    let email = unique_email();
    server.set_rule("stall", &email).await;
    let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
    app.post("/api/auth/register", &body).await.is(201);
    server.wait_for_stall(&email).await;
    app.wait_for_log("the server took too long").await;
    server.set_rule("accept", &email).await;
    let mail = server.mail("verification", &email).await;
    verify(&app, &mail.token("verify-email")).await.is(204);
}

#[tokio::test]
async fn mail_is_given_up_after_its_last_attempt() {
    let Some(mut server) = MailServer::start("the last attempt").await else { return };
    let app = start_shop(&server, &[("mail.retry_schedule", "10ms,10ms")]).await;
    server.set_rule("defer", "*").await;
    app.customer().await;
    app.wait_for_metric("souk_mail_failed_total", 1.0).await;
    wait_until_no_mail_waits(&app).await;
    assert_eq!(app.metric("souk_mail_postponed_total").await, 2.0);
    assert_eq!(app.metric("souk_mail_sent_total").await, 0.0);
}

#[tokio::test]
async fn mail_outlives_kill_9_and_keeps_its_id() {
    let Some(mut server) = MailServer::start("mail after kill -9").await else { return };
    let mut app = start_shop(&server, &[("mail.timeout", "1s")]).await;
    // Killed before any attempt, and in the middle of one.
    let (waiting, stalled) = (unique_email(), unique_email());
    server.set_rule("stall", &stalled).await;
    let body = |email: &str| json!({"email": email, "password": PASSWORD, "name": "Ada"});
    app.post("/api/auth/register", &body(&stalled)).await.is(201);
    server.wait_for_stall(&stalled).await;
    app.post("/api/auth/register", &body(&waiting)).await.is(201);
    app.kill_9().await;
    server.set_rule("accept", &stalled).await;
    app.restart().await;
    for email in [&waiting, &stalled] {
        let mail = server.mail("verification", email).await;
        verify(&app, &mail.token("verify-email")).await.is(204);
    }
    wait_until_no_mail_waits(&app).await;
}

#[tokio::test]
async fn message_id_stays_the_same_at_every_attempt() {
    let Some(mut server) = MailServer::start("the id of a message").await else { return };
    // The server takes the message, and its answer does not arrive.
    let app = start_shop(&server, &[("mail.timeout", "1s")]).await;
    let email = unique_email();
    server.set_rule("lose", &email).await;
    let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
    app.post("/api/auth/register", &body).await.is(201);
    let first = server.mail("verification", &email).await;
    server.set_rule("accept", &email).await;
    let second = server.mail("verification", &email).await;
    assert_eq!(first.field("id"), second.field("id"));
    let tokens = [&first, &second].map(|mail| mail.token("verify-email"));
    assert_ne!(tokens[0], tokens[1], "each attempt has a token of its own");
    // The first one was received, so it works, too.
    verify(&app, &tokens[0]).await.is(204);
}

#[tokio::test]
async fn no_token_is_in_the_store_the_log_or_an_event() {
    let Some(mut server) = MailServer::start("secrets in mails").await else { return };
    let mut app = start_shop(&server, &[]).await;
    let (ada, verification) = customer(&app, &mut server).await;
    let token = reset_token(&app, &mut server, &ada.email).await;
    let admin = app.admin().await;
    let mut feed = app.open_whole_feed(Some(&admin)).await;
    let end = app.new_product(&admin, &json!(1), 0).await;
    let events = feed.read_until(|event| event.subject() == end).await;
    assert!(events.iter().any(|event| event.kind == "auth.user.registered"));
    let events = format!("{:?}", events.iter().map(|event| &event.body).collect::<Vec<_>>());
    drop(feed);
    app.stop().await;
    let mut stored = Vec::new();
    for file in std::fs::read_dir(app.dir().join("data")).unwrap() {
        stored.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let is_stored = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(is_stored(&ada.email), "the store is searched");
    for secret in [&verification, &token] {
        assert!(
            !is_stored(secret) && !app.log().contains(&**secret) && !events.contains(&**secret)
        );
    }
    assert!(!events.contains(&ada.email) && !app.log().contains(&ada.email));
}

#[tokio::test]
async fn shop_without_a_mail_server_says_so_and_records_nothing() {
    let app = TestApp::start().await;
    app.wait_for_log("no mail is sent, because mail.uri is not set").await;
    let ada = app.customer().await;
    forgot(&app, &ada.email).await.is(202);
    ask_for_verification(&app, &ada).await.is(202);
    assert_eq!(waiting_mails(&app), 0);
}
