//! Which layer wins, and how each is read.
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{SettingsFixture, from_env};
use crate::config::{BrokerKind, LogFormat, Settings, StoreKind};

const DEVELOPMENT_FILE: &str = "config/development.toml";

fn store_uri(settings: &Settings) -> Option<&str> {
    settings.store.uri.as_ref().map(|uri| uri.expose_secret())
}

#[test]
fn default_settings() {
    let settings = SettingsFixture::new().load();
    assert_eq!(settings.http.bind.to_string(), "127.0.0.1:8080");
    assert!(settings.http.workers >= 1);
    assert_eq!(settings.http.max_body, 64 * 1024);
    assert_eq!(settings.http.request_timeout, Duration::from_secs(5));
    assert!(settings.http.shutdown_delay.is_zero());
    assert!(settings.http.trusted_proxies.is_empty());
    assert!(settings.http.cors.allowed_origins.is_empty());
    assert_eq!((settings.shop.currency.code(), settings.shop.currency.decimals()), ("USD", 2));
    assert!(settings.catalog.public_read);
    assert_eq!(settings.catalog.language.to_string(), "en");
    assert_eq!(settings.catalog.low_stock_threshold, 5);
    assert_eq!(settings.store.kind, StoreKind::Embedded);
    assert_eq!(settings.store.path.to_str(), Some("./data"));
    assert!(settings.store.uri.is_none() && settings.store.database.is_none());
    assert_eq!(settings.broker.kind, BrokerKind::None);
    assert!(settings.broker.uri.is_none());
    assert!(settings.auth.jwt_secret.is_none() && settings.auth.ed25519_key_file.is_none());
    assert!(settings.auth.second_jwt_secret.is_none());
    assert!(settings.auth.second_ed25519_key_file.is_none());
    assert!(settings.auth.admin_email.is_none() && settings.auth.admin_password.is_none());
    assert_eq!(settings.auth.bcrypt_cost, 12);
    assert_eq!(settings.auth.refresh_grace, Duration::from_secs(30));
    let limits = &settings.limits;
    assert_eq!((limits.per_address, limits.per_user, limits.login), (100, 50, 10));
    assert_eq!(settings.orders.payment_timeout, Duration::from_secs(15 * 60));
    assert_eq!((settings.orders.max_pending, settings.orders.max_pending_units), (20, 1000));
    assert_eq!((settings.cart.max_quantity, settings.cart.max_lines), (999, 200));
    assert_eq!(settings.cart.abandoned_after, Duration::from_secs(24 * 60 * 60));
    assert!(settings.grpc.bind.is_none());
    assert!(settings.telemetry.log.is_none() && settings.telemetry.otlp_endpoint.is_none());
    assert!(settings.telemetry.filter.is_none());
    assert!(settings.warnings().is_empty());
}

#[test]
fn process_environment_loads() {
    // Whatever the machine has set: it must not panic, and the shipped files must be readable.
    let _ = Settings::load(None);
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let mut fixture = SettingsFixture::new();
    assert_eq!(fixture.load().auth.bcrypt_cost, 12);
    fixture = fixture.with_file(DEVELOPMENT_FILE, "[auth]\nbcrypt_cost = 11");
    assert_eq!(fixture.load().auth.bcrypt_cost, 11);
    fixture =
        fixture.with_file("my.toml", "[auth]\nbcrypt_cost = 10").with_env("SOUK_CONFIG", "my.toml");
    assert_eq!(fixture.load().auth.bcrypt_cost, 10);
    fixture = fixture.with_file(".env", "SOUK__AUTH__BCRYPT_COST=9");
    assert_eq!(fixture.load().auth.bcrypt_cost, 9);
    fixture = fixture.with_env("SOUK__AUTH__BCRYPT_COST", "8");
    assert_eq!(fixture.load().auth.bcrypt_cost, 8);
    assert_eq!(fixture.load().http.max_body, 64 * 1024, "other settings stay");
}

#[test]
fn souk_env_selects_the_file() {
    let fixture = SettingsFixture::new()
        .with_file("config/staging.toml", "[cart]\nmax_lines = 7")
        .with_file(DEVELOPMENT_FILE, "[cart]\nmax_lines = 8");
    assert_eq!(fixture.load().cart.max_lines, 8);
    let fixture = fixture.with_env("SOUK_ENV", "staging");
    assert_eq!(fixture.load().cart.max_lines, 7);
    let fixture = fixture.with_env("SOUK_ENV", "");
    assert_eq!(fixture.load().cart.max_lines, 8, "an empty name is the default one");
}

#[test]
fn shipped_files_are_built_in() {
    let production = from_env(&[("SOUK_ENV", "production")]).load();
    assert_eq!(production.http.bind.to_string(), "0.0.0.0:8080");
    assert_eq!(production.telemetry.log, Some(LogFormat::Json));
    from_env(&[("SOUK_ENV", "development")]).load();
}

#[test]
fn a_chosen_file_must_exist() {
    assert_eq!(
        from_env(&[("SOUK_ENV", "staging")]).load_error(),
        "SOUK_ENV: \"staging\" needs the file config/staging.toml; add it, or use development or \
         production"
    );
    assert_eq!(
        from_env(&[("SOUK_ENV", "../x")]).load_error(),
        "SOUK_ENV: \"../x\" is not a name; use letters, digits, - and _"
    );
}

#[test]
fn environment_overrides_dotenv() {
    let fixture = SettingsFixture::new()
        .with_file(
            ".env",
            "\u{feff}# local\nSOUK_ENV=mine\nexport DB_NAME='shop'\nRUST_LOG=debug\nOTHER=1\n",
        )
        .with_file("config/mine.toml", "[limits]\nlogin = 3");
    let settings = fixture.load();
    assert_eq!(settings.limits.login, 3);
    assert_eq!(settings.store.database.as_deref(), Some("shop"));
    assert_eq!(settings.telemetry.filter.as_deref(), Some("debug"));
    let settings = fixture.with_env("DB_NAME", "real").with_env("RUST_LOG", "warn").load();
    assert_eq!(settings.store.database.as_deref(), Some("real"));
    assert_eq!(settings.telemetry.filter.as_deref(), Some("warn"));
}

#[test]
fn a_broken_dotenv_is_reported_without_its_values() {
    let error = SettingsFixture::new().with_file(".env", "JWT_SECRET='hush\n").load_error();
    assert_eq!(error, ".env: the line of JWT_SECRET cannot be read; write NAME='value'");
    let error = SettingsFixture::new().with_file(".env", "hush hush\n").load_error();
    assert_eq!(error, ".env: a line cannot be read; write NAME='value'");
}

#[test]
fn short_names_set_their_settings() {
    let secret = "9f86d081884c7d659a2feaa0c55ad015";
    let fixture = from_env(&[
        ("MONGO_URI", "mongodb://short"),
        ("DB_NAME", "short"),
        ("JWT_SECRET", secret),
        ("PORT", "9000"),
    ]);
    let settings = fixture.load();
    assert_eq!(store_uri(&settings), Some("mongodb://short"));
    assert_eq!(settings.store.kind, StoreKind::Embedded, "the kind is left alone");
    assert_eq!(settings.store.database.as_deref(), Some("short"));
    assert_eq!(settings.auth.jwt_secret.unwrap().expose_secret(), secret);
    assert_eq!(settings.http.bind.to_string(), "127.0.0.1:9000");

    let settings = fixture
        .with_env("SOUK__STORE__URI", "mongodb://long")
        .with_env("SOUK__STORE__DATABASE", "long")
        .with_env("SOUK__HTTP__BIND", "0.0.0.0:7000")
        .load();
    assert_eq!(store_uri(&settings), Some("mongodb://long"));
    assert_eq!(settings.store.database.as_deref(), Some("long"));
    assert_eq!(settings.http.bind.to_string(), "0.0.0.0:7000");
}

#[test]
fn empty_short_names_count_as_unset() {
    let settings =
        from_env(&[("MONGO_URI", ""), ("DB_NAME", ""), ("JWT_SECRET", ""), ("PORT", "")]).load();
    assert!(settings.store.uri.is_none() && settings.auth.jwt_secret.is_none());
    assert_eq!(settings.http.bind.port(), 8080);
}

#[test]
fn port_keeps_the_host_of_the_files() {
    let fixture = SettingsFixture::new()
        .with_file(DEVELOPMENT_FILE, "[http]\nbind = \"[::1]:1\"")
        .with_env("PORT", "0");
    assert_eq!(fixture.load().http.bind.to_string(), "[::1]:0");
    let error = fixture.with_env("PORT", "70000").load_error();
    assert_eq!(error, "PORT: \"70000\" is not a port; use a number from 0 to 65535");
}

#[test]
fn lists_in_the_environment_are_comma_separated() {
    let fixture = SettingsFixture::new().with_file(
        DEVELOPMENT_FILE,
        "[http]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n\
         [http.cors]\nallowed_origins = [\"https://a.example\"]",
    );
    let settings = fixture.load();
    assert_eq!(settings.http.trusted_proxies.len(), 2);
    assert_eq!(settings.http.cors.allowed_origins, ["https://a.example"]);
    let settings = fixture
        .with_env("SOUK__HTTP__TRUSTED_PROXIES", "")
        .with_env("SOUK__HTTP__CORS__ALLOWED_ORIGINS", "https://b.example, http://c.example:1")
        .load();
    assert!(settings.http.trusted_proxies.is_empty());
    assert_eq!(settings.http.cors.allowed_origins, ["https://b.example", "http://c.example:1"]);
}

#[test]
fn every_kind_of_value_is_read_from_the_environment() {
    let settings = from_env(&[
        ("SOUK__HTTP__WORKERS", "3"),
        ("SOUK__HTTP__MAX_BODY", "1MiB"),
        ("SOUK__HTTP__REQUEST_TIMEOUT", "500ms"),
        ("SOUK__SHOP__CURRENCY", "JPY"),
        ("SOUK__CATALOG__PUBLIC_READ", "false"),
        ("SOUK__STORE__PATH", "/srv/souk"),
        ("SOUK__AUTH__ED25519_KEY_FILE", "key.pem"),
        ("SOUK__GRPC__BIND", "127.0.0.1:9090"),
        ("SOUK__TELEMETRY__LOG", "pretty"),
    ])
    .load();
    assert_eq!(settings.http.workers, 3);
    assert_eq!(settings.http.max_body, 1 << 20);
    assert_eq!(settings.http.request_timeout, Duration::from_millis(500));
    assert_eq!((settings.shop.currency.code(), settings.shop.currency.decimals()), ("JPY", 0));
    assert!(!settings.catalog.public_read);
    assert_eq!(settings.store.path.to_str(), Some("/srv/souk"));
    assert_eq!(settings.auth.ed25519_key_file.unwrap().to_str(), Some("key.pem"));
    assert_eq!(settings.grpc.bind.unwrap().port(), 9090);
    assert_eq!(settings.telemetry.log, Some(LogFormat::Pretty));
}

#[test]
fn an_empty_value_leaves_an_optional_setting_unset() {
    let settings = SettingsFixture::new()
        .with_file(DEVELOPMENT_FILE, "[auth]\nadmin_email = \"\"\n[grpc]\nbind = \"127.0.0.1:1\"")
        .with_env("SOUK__GRPC__BIND", "")
        .with_env("SOUK__TELEMETRY__LOG", "")
        .with_env("SOUK__AUTH__ADMIN_PASSWORD", "")
        .load();
    assert!(settings.auth.admin_email.is_none() && settings.auth.admin_password.is_none());
    assert!(settings.grpc.bind.is_none() && settings.telemetry.log.is_none());
}

#[test]
fn unknown_settings_are_named() {
    let file = |text: &str| SettingsFixture::new().with_file(DEVELOPMENT_FILE, text).load_error();
    assert_eq!(
        file("[http]\nbnd = \"x\""),
        "unknown setting http.bnd (config/development.toml); did you mean http.bind?"
    );
    assert_eq!(file("colour = 1"), "unknown setting colour (config/development.toml)");
    assert_eq!(
        file("[cat]\nmax_lines = 1"),
        "unknown setting cat (config/development.toml); did you mean cart?"
    );
    assert_eq!(
        file("[http.cors]\norigins = []"),
        "unknown setting http.cors.origins (config/development.toml)"
    );
    assert_eq!(file("\"a\\nb\" = 1"), "unknown setting \"a\\nb\" (config/development.toml)");
    assert_eq!(
        file("[auth]\n\"http.bind\" = 1"),
        "unknown setting auth.\"http.bind\" (config/development.toml)"
    );
    let env = |name: &str| from_env(&[(name, "x")]).load_error();
    assert_eq!(
        env("SOUK__HTTP__BNID"),
        "unknown setting http.bnid (SOUK__HTTP__BNID); did you mean http.bind?"
    );
    assert_eq!(env("SOUK__HTP__BIND"), "unknown setting htp (SOUK__HTP__BIND); did you mean http?");
    assert_eq!(env("SOUK__HTTP"), "unknown setting http (SOUK__HTTP)");
    assert_eq!(
        env("SOUK__HTTP__BIND__PORT"),
        "unknown setting http.bind.port (SOUK__HTTP__BIND__PORT)"
    );
    assert_eq!(env("SOUK__"), "unknown setting \"\" (SOUK__)");
    assert_eq!(
        SettingsFixture::new().with_file(".env", "SOUK__CART__MAX=1").load_error(),
        "unknown setting cart.max (SOUK__CART__MAX in .env)"
    );
}

#[test]
fn invalid_toml_is_reported_with_its_position() {
    let error = SettingsFixture::new()
        .with_file(DEVELOPMENT_FILE, "[auth]\njwt_secret = hush-hush\n")
        .load_error();
    assert_eq!(error, "config/development.toml: line 2, column 14: a string must be in quotes");
    let error = SettingsFixture::new()
        .with_file(DEVELOPMENT_FILE, "[store]\nuri = \"hush\nkind = 1")
        .load_error();
    assert!(error.starts_with("config/development.toml: line 2, column "), "{error}");
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_reported() {
    let fixture = SettingsFixture::new();
    std::fs::create_dir(fixture.dir.path().join(DEVELOPMENT_FILE)).unwrap();
    assert!(fixture.load_error().starts_with("config/development.toml: cannot be read: "));
}
