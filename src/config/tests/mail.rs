//! The SMTP server.
use secrecy::ExposeSecret;

use super::{SettingsFixture, from_env};
use crate::config::{MailSecurity, Settings};

const URI: &str = "SOUK__MAIL__URI";
const FROM: (&str, &str) = ("SOUK__MAIL__FROM", "Shop <shop@example.com>");
const LINK_BASE: (&str, &str) = ("SOUK__MAIL__LINK_BASE", "https://shop.example");

fn with_uri(uri: &str) -> SettingsFixture {
    from_env(&[(URI, uri), FROM, LINK_BASE])
}

fn warns_of_plain_text(settings: &Settings) -> bool {
    settings.warnings().iter().any(|warning| warning.starts_with("mail.uri: "))
}

#[test]
fn no_mail_is_sent_by_default() {
    let settings = SettingsFixture::new().load();
    assert!(settings.mail.server().is_none() && settings.mail.templates.is_some());
    assert_eq!(settings.limits.mail, 5);
    let waits: Vec<u64> = settings.mail.retry_schedule.iter().map(|wait| wait.as_secs()).collect();
    assert_eq!(waits, [5, 30, 300, 1800, 7200, 21_600, 43_200]);
}

#[test]
fn uri_names_server_security_and_credentials() {
    for (uri, host, port, security) in [
        ("smtps://mail.example", "mail.example", 465, MailSecurity::Tls),
        ("smtp://mail.example", "mail.example", 587, MailSecurity::StartTls),
        ("smtp://[2001:db8::1]:25", "2001:db8::1", 25, MailSecurity::StartTls),
        ("smtp://10.0.0.7:25?tls=none", "10.0.0.7", 25, MailSecurity::None),
    ] {
        let server = with_uri(uri).load().mail.server().unwrap();
        assert_eq!((server.host.as_str(), server.port, server.security), (host, port, security));
        assert!(server.credentials.is_none());
    }
    let server = with_uri("smtps://ada%40x:s%2F%3Ae%26+t@mail.example:4650").load().mail.server();
    let (user, password) = server.unwrap().credentials.unwrap();
    assert_eq!((user.as_str(), password.expose_secret()), ("ada@x", "s/:e&+t"));
}

#[test]
fn invalid_uri_is_rejected_without_echo() {
    for uri in [
        "hush",
        "http://hush@mail.example",
        "smtps://mail.example?tls=none&hush",
        "smtps://hush@mail.example",
        "smtp://:hush@mail.example",
        "smtp://hush:x@",
        "smtp://mail.example/hush",
        "smtp://mail.example#hush",
        "smtps://mail.example?tls=none",
    ] {
        let message = with_uri(uri).load_error();
        assert!(message.starts_with("mail.uri (SOUK__MAIL__URI): "), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
}

#[test]
fn uri_needs_a_sender_and_a_link_base() {
    for (missing, given) in [("mail.from", LINK_BASE), ("mail.link_base", FROM)] {
        let message = from_env(&[(URI, "smtps://mail.example"), given]).load_error();
        assert_eq!(message, format!("{missing}: is required with mail.uri; set both"));
    }
    for (name, value) in [
        ("SOUK__MAIL__FROM", "Shop"),
        ("SOUK__MAIL__LINK_BASE", "shop.example"),
        ("SOUK__MAIL__LINK_BASE", "https://shop.example?page=1"),
        ("SOUK__MAIL__RETRY_SCHEDULE", "5s,soon"),
        ("SOUK__MAIL__RETRY_SCHEDULE", "90000h"),
        ("SOUK__MAIL__TIMEOUT", "0s"),
        ("SOUK__MAIL__TIMEOUT", "11m"),
        ("SOUK__LIMITS__MAIL", "-1"),
    ] {
        let message = from_env(&[(name, value)]).load_error();
        assert!(message.contains(&format!("({name})")), "{message}");
    }
    let settings = from_env(&[("SOUK__MAIL__RETRY_SCHEDULE", "1s, 2m")]).load();
    assert_eq!(settings.mail.retry_schedule.len(), 2);
}

#[test]
fn mail_in_clear_is_warned_of_unless_it_stays_on_the_machine() {
    for (uri, warns) in [
        ("smtp://mail.example:25?tls=none", true),
        ("smtp://127.0.0.1:25?tls=none", false),
        ("smtp://[::1]:25?tls=none", false),
        ("smtp://localhost:25?tls=none", false),
        ("smtp://mail.example", false),
    ] {
        assert_eq!(warns_of_plain_text(&with_uri(uri).load()), warns, "{uri}");
    }
}
