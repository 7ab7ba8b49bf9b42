//! The reference file, and what `souk config` prints.
use ::config::{FileFormat, Format as _, Map, Value, ValueKind};
use serde::Deserialize as _;

use super::{SettingsFixture, from_env};
use crate::config::Settings;

const REFERENCE_TOML: &str = include_str!("../../../config/default.toml");

/// The keys that operators may rely on.
const SETTING_KEYS: &[&str] = &[
    "http.bind",
    "http.workers",
    "http.max_body",
    "http.request_timeout",
    "http.write_timeout",
    "http.shutdown_delay",
    "http.trusted_proxies",
    "http.cors.allowed_origins",
    "ops.bind",
    "shop.name",
    "shop.currency",
    "shop.prices_include_tax",
    "catalog.public_read",
    "catalog.language",
    "catalog.low_stock_threshold",
    "store.kind",
    "store.path",
    "store.check_at_start",
    "store.uri",
    "store.database",
    "broker.kind",
    "broker.uri",
    "broker.subscription",
    "auth.jwt_secret",
    "auth.second_jwt_secret",
    "auth.ed25519_key_file",
    "auth.second_ed25519_key_file",
    "auth.admin_email",
    "auth.admin_password",
    "auth.bcrypt_cost",
    "auth.refresh_grace",
    "auth.max_sessions",
    "limits.per_address",
    "limits.per_user",
    "limits.login",
    "limits.mail",
    "limits.guests",
    "limits.registrations",
    "limits.idempotency_keys",
    "limits.idempotency_bytes",
    "limits.guest_idempotency_bytes",
    "limits.connections_per_address",
    "limits.feeds_per_address",
    "limits.feeds_per_user",
    "orders.payment_timeout",
    "orders.max_pending",
    "orders.max_pending_units",
    "payments.default",
    "payments.stripe.secret_key",
    "payments.stripe.webhook_secret",
    "payments.stripe.api_base",
    "cart.max_quantity",
    "cart.max_lines",
    "cart.abandoned_after",
    "mail.uri",
    "mail.from",
    "mail.link_base",
    "mail.ca_file",
    "mail.retry_schedule",
    "mail.timeout",
    "mail.templates",
    "webhooks.timeout",
    "webhooks.retry_schedule",
    "webhooks.rotation_overlap",
    "webhooks.pause_after",
    "webhooks.allow_private",
    "webhooks.ca_file",
    "grpc.bind",
    "grpc.tls_cert_file",
    "grpc.tls_key_file",
    "cluster.bind",
    "cluster.advertise",
    "telemetry.log",
    "telemetry.requests",
    "telemetry.otlp_endpoint",
    "telemetry.otlp_protocol",
    "telemetry.sample_ratio",
];

fn parse(text: &str) -> Value {
    Value::new(None, FileFormat::Toml.parse(None, text).unwrap())
}

/// Every key of the settings, found by asking serde for each section.
fn setting_keys(reference: &Value, section: &str) -> Vec<String> {
    let ValueKind::Table(table) = &reference.kind else {
        return vec![section.to_owned()];
    };
    // serde's error for an unknown field lists the known ones.
    let mut probe = parse(REFERENCE_TOML);
    let mut target = &mut probe;
    for segment in section.split('.').filter(|segment| !segment.is_empty()) {
        let ValueKind::Table(inner) = &mut target.kind else { unreachable!() };
        target = inner.get_mut(segment).unwrap();
    }
    target.kind = Map::from_iter([("?".to_owned(), Value::new(None, 1))]).into();
    let error = Settings::deserialize(probe).unwrap_err().to_string();
    let (known, _) = error.split_once(" for key").unwrap_or((&error, ""));
    assert!(known.starts_with("unknown field `?`"), "{error}");
    let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
    known
        .split('`')
        .skip(3)
        .step_by(2)
        .flat_map(|field| {
            let key = format!("{prefix}{field}");
            match table.get(field) {
                Some(inner) => setting_keys(inner, &key),
                None => vec![key],
            }
        })
        .collect()
}

/// The keys of a file in its order, including those that are commented out. A repeated section
/// counts as one key.
fn documented_keys(text: &str) -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.trim_start_matches("# ").strip_prefix("[[") {
            keys.push(name.trim_end_matches("]]").to_owned());
            section = "";
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && !section.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

/// A fixture where every setting has a value, and text needs escaping where possible.
fn fully_configured() -> SettingsFixture {
    from_env(&[
        ("SOUK__HTTP__TRUSTED_PROXIES", "10.0.0.0/8,::1"),
        ("SOUK__HTTP__CORS__ALLOWED_ORIGINS", "https://a.example"),
        ("SOUK__OPS__BIND", "127.0.0.1:9100"),
        ("SOUK__SHOP__NAME", "Tea & Co"),
        ("SOUK__STORE__PATH", "C:\\souk \"data\"\t"),
        ("SOUK__STORE__KIND", "mongodb"),
        ("SOUK__STORE__URI", "mongodb://souk:hush@db"),
        ("SOUK__STORE__DATABASE", "souk"),
        ("SOUK__BROKER__URI", "amqp://souk:hush@mq"),
        ("SOUK__AUTH__JWT_SECRET", "hush: 7f3a91c05d2be8466a90c1d4e5f"),
        ("SOUK__AUTH__SECOND_JWT_SECRET", "hush: 0b71fe55a9c2486d8ea31790cd4"),
        ("SOUK__AUTH__ED25519_KEY_FILE", "key.pem"),
        ("SOUK__AUTH__SECOND_ED25519_KEY_FILE", "second.pem"),
        ("SOUK__AUTH__ADMIN_EMAIL", "admin@shop.example"),
        ("SOUK__AUTH__ADMIN_PASSWORD", "hush hush"),
        ("SOUK__MAIL__URI", "smtps://shop:hush@mail.example"),
        ("SOUK__PAYMENTS__DEFAULT", "stripe"),
        ("SOUK__PAYMENTS__STRIPE__SECRET_KEY", "sk_test_hush"),
        ("SOUK__PAYMENTS__STRIPE__WEBHOOK_SECRET", "whsec_hush"),
        ("SOUK__MAIL__FROM", "The \"Shop\" <shop@example.com>"),
        ("SOUK__MAIL__LINK_BASE", "https://shop.example"),
        ("SOUK__MAIL__CA_FILE", "ca.pem"),
        ("SOUK__WEBHOOKS__CA_FILE", "ca.pem"),
        ("SOUK__GRPC__BIND", "127.0.0.1:9090"),
        ("SOUK__GRPC__TLS_CERT_FILE", "grpc.crt"),
        ("SOUK__GRPC__TLS_KEY_FILE", "grpc.key"),
        ("SOUK__CLUSTER__BIND", "0.0.0.0:7400"),
        ("SOUK__CLUSTER__ADVERTISE", "node-1.shop.internal:7400"),
        ("SOUK__TELEMETRY__LOG", "json"),
        ("SOUK__TELEMETRY__REQUESTS", "failed"),
        ("SOUK__TELEMETRY__OTLP_ENDPOINT", "http://localhost:4318"),
        ("SOUK__TELEMETRY__OTLP_PROTOCOL", "http/protobuf"),
        ("SOUK__TELEMETRY__SAMPLE_RATIO", "0.05"),
        ("SOUK__CART__ABANDONED_AFTER", "1h30m"),
        ("SOUK__HTTP__MAX_BODY", "1500"),
    ])
    .with_file(
        "config/development.toml",
        "[[broker.subscription]]\nqueue = 'the \"ware\" house'\n\
         bindings = ['inventory.#', '*.stock.*']\n",
    )
}

#[test]
fn reference_file_documents_every_key() {
    assert_eq!(documented_keys(REFERENCE_TOML), SETTING_KEYS);
    let mut known = setting_keys(&parse(REFERENCE_TOML), "");
    let mut expected = SETTING_KEYS.to_vec();
    known.sort();
    expected.sort_unstable();
    assert_eq!(known, expected);
}

#[test]
fn commented_out_keys_are_valid() {
    let text: Vec<&str> = REFERENCE_TOML
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") || setting.starts_with("[[") => setting,
            _ => line,
        })
        .collect();
    let text = text.join("\n").replace("kind = \"embedded\"", "kind = \"mongodb\"");
    // The second one must differ from the first.
    let text = text
        .replace("\njwt_secret = \"\"", "\njwt_secret = \"7f3a91c05d2be8466a90c1d4e5f31b7702\"");
    let text = text.replace(
        "second_jwt_secret = \"\"",
        "second_jwt_secret = \"0c1d4e5f31b77027f3a91c05d2be8466\"",
    );
    let text = text.replace("admin_password = \"\"", "admin_password = \"correct horse\"");
    SettingsFixture::new().with_file("config/development.toml", &text).load();
}

#[test]
fn the_output_has_every_key_in_the_order_of_the_reference() {
    let output = fully_configured().load().redacted_toml();
    assert_eq!(documented_keys(&output), SETTING_KEYS);
}

#[test]
fn redacted_output_hides_secrets() {
    let settings = fully_configured().load();
    let output = settings.redacted_toml();
    assert!(!output.contains("hush"), "{output}");
    assert!(!format!("{settings:?}").contains("hush"));
    assert_eq!(output.matches("\"<hidden>\"").count(), 8, "{output}");
    parse(&output);
}

#[test]
fn unset_settings_are_comments() {
    let output = SettingsFixture::new().load().redacted_toml();
    assert!(output.contains("\n# jwt_secret is not set\n"), "{output}");
    assert!(output.contains("\n[grpc]\n# bind is not set\n"), "{output}");
}

#[test]
fn redacted_output_round_trips() {
    let secrets = [
        "STORE__URI",
        "BROKER__URI",
        "MAIL__URI",
        "AUTH__JWT_SECRET",
        "AUTH__SECOND_JWT_SECRET",
        "AUTH__ADMIN_PASSWORD",
        "PAYMENTS__STRIPE__SECRET_KEY",
        "PAYMENTS__STRIPE__WEBHOOK_SECRET",
    ];
    let original = fully_configured();
    let output = original.load().redacted_toml();
    let mut again = SettingsFixture::new().with_file("config/development.toml", &output);
    for name in secrets.map(|name| format!("SOUK__{name}")) {
        again = again.with_env(&name, &original.env[&name]);
    }
    assert_eq!(again.load().redacted_toml(), output);
}

#[test]
fn errors_do_not_show_secrets() {
    for name in ["JWT_SECRET", "SOUK__AUTH__SECOND_JWT_SECRET", "SOUK__AUTH__ADMIN_PASSWORD"] {
        assert!(!from_env(&[(name, "hush")]).load_error().contains("hush"));
    }
    let file =
        |text: &str| SettingsFixture::new().with_file("config/development.toml", text).load_error();
    for text in [
        "[auth]\njwt_secret = [\"hush\"]",
        "[store]\nuri = { url = \"hush\" }",
        "[store]\nurl = \"hush\"",
        "auth = \"hush\"",
    ] {
        assert!(!file(text).contains("hush"), "{text}");
    }
}
