//! The connection to the SMTP server: TLS, logins, and settings that cannot work.

use std::{path::Path, process::Command};

use serde_json::json;

use crate::support::{PASSWORD, TestApp, mail::MailServer, temp_dir, unique_email};

/// Writes a certificate for the address of the tests, and its key.
pub(crate) fn make_certificate(dir: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-keyout", "mail.key", "-out", "mail.crt", "-days", "2"]);
    openssl.args(["-subj", "/CN=souk", "-addext", "subjectAltName=DNS:localhost"]);
    // It is no authority.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let output = openssl.current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn mail_goes_over_tls_to_a_server_that_proves_who_it_is() {
    let dir = temp_dir();
    make_certificate(dir.path());
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("mail.crt"), file("mail.key"));
    let variables =
        [("CERT", &*certificate), ("KEY", &*key), ("USER", "souk"), ("PASSWORD", "p/a:s@s")];
    for (mode, scheme) in [("tls", "smtps"), ("starttls", "smtp")] {
        let Some(mut server) = MailServer::start_with("mail over TLS", mode, &variables).await
        else {
            return;
        };
        let mut settings = server.settings().to_vec();
        let port = server.port();
        let uri = |password: &str| format!("{scheme}://souk:{password}@localhost:{port}");
        settings[0].1 = uri("p%2Fa%3As%40s");
        settings.push(("mail.ca_file", certificate.clone()));
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(key, value)| (*key, &**value)).collect();
        let mut app = TestApp::with_settings(&settings).await;
        let ada = app.customer().await;
        server.mail("verification", &ada.email).await;
        app.stop().await;
        // A wrong password is trouble with the connection, and loses no mail.
        app.set("mail.uri", &uri("wrong"));
        app.restart().await;
        let bob = app.customer().await;
        app.wait_for_log("failed to send a mail; retrying").await;
        app.stop().await;
        // So is a server that nobody vouches for.
        app.set("mail.uri", &uri("p%2Fa%3As%40s"));
        app.set("mail.ca_file", "");
        app.restart().await;
        app.wait_for_log("certificate").await;
        app.stop().await;
        app.set("mail.ca_file", &certificate);
        app.restart().await;
        server.mail("verification", &bob.email).await;
        assert_eq!(app.metric("souk_mail_failed_total").await, 0.0);
        assert!(!app.log().contains("p/a:s@s") && !app.log().contains("p%2Fa"), "{}", app.log());
    }
}

#[tokio::test]
async fn password_and_mail_are_not_sent_without_starttls() {
    let Some(mut server) = MailServer::start("a server without STARTTLS").await else { return };
    let mut settings = server.settings().to_vec();
    settings[0].1 = format!("smtp://souk:secret@127.0.0.1:{}", server.port());
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(key, value)| (*key, &**value)).collect();
    let app = TestApp::with_settings(&settings).await;
    let body = json!({"email": unique_email(), "password": PASSWORD, "name": "Ada"});
    app.post("/api/auth/register", &body).await.is(201);
    app.wait_for_log("STARTTLS is not supported").await;
    assert_eq!(server.other_mails().len(), 0);
}

#[tokio::test]
async fn unusable_settings_stop_the_start() {
    let mail = [
        ("mail.uri", "smtp://127.0.0.1:25?tls=none"),
        ("mail.from", "shop@souk.example"),
        ("mail.link_base", "https://shop.example"),
    ];
    for (key, value, error, code) in [
        ("mail.uri", "smtp://", "mail.uri", 2),
        ("mail.from", "", "mail.from", 2),
        ("mail.templates", "templates", "mail.templates: the template verification.txt", 1),
        ("mail.ca_file", "missing.pem", "mail.ca_file: failed to read missing.pem", 1),
    ] {
        let mut app = TestApp::unstarted(&mail);
        std::fs::create_dir(app.dir().join("templates")).unwrap();
        app.write("templates/verification.txt", "{{ lnk }}");
        app.set(key, value);
        let output = app.command().arg("serve").output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{key}: {log}");
        assert!(log.contains(error), "{log}");
    }
}

#[tokio::test]
async fn templates_of_a_folder_replace_the_built_in_ones() {
    let Some(mut server) = MailServer::start("templates of a folder").await else { return };
    let settings = server.settings();
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(key, value)| (*key, &**value)).collect();
    let mut app = TestApp::unstarted(&settings);
    // The default folder, as seen from where the shop runs.
    let folder = app.dir().join("config/mail");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("verification.subject"), "Willkommen bei {{ shop }}\n").unwrap();
    app.restart().await;
    let ada = app.customer().await;
    let mail = server.mail("verification", &ada.email).await;
    assert_eq!(mail.field("subject"), "Willkommen bei Tea Shop");
    mail.token("verify-email");
}
