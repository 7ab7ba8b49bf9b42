//! Every message about a value.
use super::{SettingsFixture, from_env};

const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015";
const MONGODB_VARIABLES: [(&str, &str); 4] = [
    ("SOUK__STORE__KIND", "mongodb"),
    ("MONGO_URI", "mongodb://souk:hush@db/?replicaSet=rs0"),
    ("DB_NAME", "souk"),
    ("JWT_SECRET", SECRET),
];

/// The message for one variable, without the place, which is that variable.
fn value_error(name: &str, value: &str) -> String {
    let message = from_env(&[(name, value)]).load_error();
    let place = format!(" ({name})");
    assert!(message.contains(&place), "{message}");
    message.replace(&place, "")
}

const UNREADABLE_VALUES: &[(&str, &str, &str)] = &[
    (
        "SOUK__HTTP__BIND",
        "localhost:80",
        "http.bind: \"localhost:80\" is not an IP address and port, such as 127.0.0.1:8080",
    ),
    (
        "SOUK__GRPC__BIND",
        "9090",
        "grpc.bind: \"9090\" is not an IP address and port, such as 127.0.0.1:8080",
    ),
    (
        "SOUK__HTTP__WORKERS",
        "-1",
        "http.workers: \"-1\" is not a whole number from 0 to 4294967295",
    ),
    (
        "SOUK__CART__MAX_LINES",
        "",
        "cart.max_lines: \"\" is not a whole number from 0 to 4294967295",
    ),
    (
        "SOUK__HTTP__MAX_BODY",
        "64 apples",
        "http.max_body: \"64 apples\" is not a size; use one such as 64KiB or 1MiB",
    ),
    (
        "SOUK__HTTP__REQUEST_TIMEOUT",
        "5",
        "http.request_timeout: \"5\" is not a duration; use one such as 500ms, 5s, 15m or 24h",
    ),
    (
        "SOUK__ORDERS__PAYMENT_TIMEOUT",
        "-15m",
        "orders.payment_timeout: \"-15m\" is not a duration; use one such as 500ms, 5s, 15m or 24h",
    ),
    (
        "SOUK__HTTP__TRUSTED_PROXIES",
        "10.0.0.1,proxy",
        "http.trusted_proxies: \"proxy\" is not an IP address or network; use one such as \
         10.0.0.7 or 10.0.0.0/8",
    ),
    (
        "SOUK__SHOP__CURRENCY",
        "XAU",
        "shop.currency: \"XAU\" is not a supported currency; use an ISO 4217 code such as USD",
    ),
    (
        "SOUK__SHOP__PRICES_INCLUDE_TAX",
        "maybe",
        "shop.prices_include_tax: \"maybe\" is not true or false",
    ),
    (
        "SOUK__CATALOG__LANGUAGE",
        "english",
        "catalog.language: \"english\" is not a known language; use a tag such as en, de or pt-BR",
    ),
    ("SOUK__CATALOG__PUBLIC_READ", "maybe", "catalog.public_read: \"maybe\" is not true or false"),
    (
        "SOUK__STORE__KIND",
        "postgres",
        "store.kind: \"postgres\" is not a known value; use \"embedded\" or \"mongodb\"",
    ),
    (
        "SOUK__BROKER__KIND",
        "kafka",
        "broker.kind: \"kafka\" is not a known value; use \"none\" or \"rabbitmq\"",
    ),
    (
        "SOUK__TELEMETRY__LOG",
        "xml",
        "telemetry.log: \"xml\" is not a known value; use \"pretty\" or \"json\"",
    ),
    (
        "SOUK__TELEMETRY__OTLP_PROTOCOL",
        "http/json",
        "telemetry.otlp_protocol: \"http/json\" is not a known value; use \"grpc\" or \
         \"http/protobuf\"",
    ),
    (
        "SOUK__TELEMETRY__SAMPLE_RATIO",
        "1.5",
        "telemetry.sample_ratio: \"1.5\" is not a part; use a number from 0 to 1, such as 0.05",
    ),
    (
        "SOUK__TELEMETRY__SAMPLE_RATIO",
        "NaN",
        "telemetry.sample_ratio: \"NaN\" is not a part; use a number from 0 to 1, such as 0.05",
    ),
];

#[test]
fn unreadable_values_are_rejected() {
    for (name, value, message) in UNREADABLE_VALUES {
        assert_eq!(&value_error(name, value), message);
    }
}

const OUT_OF_RANGE_VALUES: &[(&str, &str, &str)] = &[
    ("SOUK__AUTH__BCRYPT_COST", "3", "auth.bcrypt_cost: 3 is out of range; use 4 to 31"),
    ("SOUK__AUTH__BCRYPT_COST", "32", "auth.bcrypt_cost: 32 is out of range; use 4 to 31"),
    ("SOUK__HTTP__SHUTDOWN_DELAY", "6m", "http.shutdown_delay: 6m is out of range; use 0s to 5m"),
    ("SOUK__AUTH__REFRESH_GRACE", "10m", "auth.refresh_grace: 10m is out of range; use 0s to 5m"),
    ("SOUK__AUTH__MAX_SESSIONS", "0", "auth.max_sessions: 0 is out of range; use 1 to 1000"),
    ("SOUK__AUTH__MAX_SESSIONS", "1001", "auth.max_sessions: 1001 is out of range; use 1 to 1000"),
    ("SOUK__CART__MAX_QUANTITY", "0", "cart.max_quantity: 0 is out of range; use 1 to 9999"),
    (
        "SOUK__CART__MAX_QUANTITY",
        "10000",
        "cart.max_quantity: 10000 is out of range; use 1 to 9999",
    ),
    ("SOUK__CART__MAX_LINES", "0", "cart.max_lines: 0 is out of range; use 1 to 1000"),
    ("SOUK__CART__MAX_LINES", "1001", "cart.max_lines: 1001 is out of range; use 1 to 1000"),
    (
        "SOUK__ORDERS__MAX_PENDING",
        "0",
        "orders.max_pending: 0 is out of range; use 1 to 4294967295",
    ),
    (
        "SOUK__LIMITS__PER_USER",
        "1000001",
        "limits.per_user: 1000001 is out of range; use 0 to 1000000",
    ),
    ("SOUK__HTTP__WORKERS", "1025", "http.workers: 1025 is out of range; use 1 to 1024"),
    ("SOUK__HTTP__MAX_BODY", "1023", "http.max_body: 1023B is out of range; use 1KiB to 16MiB"),
    ("SOUK__HTTP__MAX_BODY", "17MiB", "http.max_body: 17MiB is out of range; use 1KiB to 16MiB"),
    (
        "SOUK__HTTP__REQUEST_TIMEOUT",
        "0s",
        "http.request_timeout: 0s is out of range; use more than 0s and at most 5m",
    ),
    (
        "SOUK__HTTP__REQUEST_TIMEOUT",
        "301s",
        "http.request_timeout: 5m 1s is out of range; use more than 0s and at most 5m",
    ),
    (
        "SOUK__ORDERS__PAYMENT_TIMEOUT",
        "0s",
        "orders.payment_timeout: 0s is out of range; use more than 0s and at most 8784h",
    ),
    (
        "SOUK__CART__ABANDONED_AFTER",
        "9000h",
        "cart.abandoned_after: 9000h is out of range; use more than 0s and at most 8784h",
    ),
    ("SOUK__STORE__PATH", "", "store.path: is empty; set it to a directory, such as ./data"),
    (
        "SOUK__TELEMETRY__OTLP_ENDPOINT",
        "collector",
        "telemetry.otlp_endpoint: \"collector\" is not a URL; use one such as \
         http://localhost:4317",
    ),
];

#[test]
fn out_of_range_values_are_rejected() {
    for (name, value, message) in OUT_OF_RANGE_VALUES {
        assert_eq!(&value_error(name, value), message);
    }
}

#[test]
fn the_ends_of_each_range_are_allowed() {
    for (name, value) in [
        ("SOUK__AUTH__BCRYPT_COST", "4"),
        ("SOUK__AUTH__BCRYPT_COST", "31"),
        ("SOUK__CART__MAX_QUANTITY", "1"),
        ("SOUK__CART__MAX_QUANTITY", "9999"),
        ("SOUK__CART__MAX_LINES", "1000"),
        ("SOUK__HTTP__MAX_BODY", "1KiB"),
        ("SOUK__HTTP__MAX_BODY", "16MiB"),
        ("SOUK__HTTP__REQUEST_TIMEOUT", "5m"),
        ("SOUK__LIMITS__LOGIN", "0"),
        ("SOUK__CATALOG__LOW_STOCK_THRESHOLD", "0"),
        ("JWT_SECRET", SECRET),
    ] {
        from_env(&[(name, value)]).load();
    }
}

#[test]
fn errors_name_the_file() {
    let file =
        |text: &str| SettingsFixture::new().with_file("config/development.toml", text).load_error();
    assert_eq!(
        file("[auth]\nbcrypt_cost = 3"),
        "auth.bcrypt_cost (config/development.toml): 3 is out of range; use 4 to 31"
    );
    assert_eq!(
        file("[cart]\nmax_lines = 1.5"),
        "cart.max_lines (config/development.toml): \"1.5\" is not a whole number from 0 to \
         4294967295"
    );
    assert_eq!(
        file("[catalog]\npublic_read = 1"),
        "catalog.public_read (config/development.toml): \"1\" is not true or false"
    );
    assert_eq!(
        file("[http.bind]\nport = 1"),
        "http.bind (config/development.toml): must be a string, not map"
    );
    assert_eq!(
        file("store = \"mongodb://souk:hush@db\""),
        "store (config/development.toml): is a section; write [store] with its settings below it"
    );
    assert_eq!(
        file("http.cors = true"),
        "http.cors (config/development.toml): is a section; write [http.cors] with its settings \
         below it"
    );
    assert_eq!(
        file("[http]\ntrusted_proxies = \"10.0.0.1\""),
        "http.trusted_proxies (config/development.toml): invalid type: string \"10.0.0.1\", \
         expected a sequence"
    );
    assert_eq!(
        file("[http.cors]\nallowed_origins = [\"https://a.example\", []]"),
        "http.cors.allowed_origins[1] (config/development.toml): must be a string, not sequence"
    );
}

#[test]
fn cors_origins_are_validated() {
    const NAME: &str = "SOUK__HTTP__CORS__ALLOWED_ORIGINS";
    assert!(from_env(&[(NAME, "*")]).load().http.cors.allows_any_origin());
    assert_eq!(
        value_error(NAME, "https://a.example,*"),
        "http.cors.allowed_origins: \"*\" allows every origin; use it alone or remove it"
    );
    assert_eq!(
        value_error(NAME, "https://a.example/"),
        "http.cors.allowed_origins: \"https://a.example/\" is not an origin; use \
         scheme://host[:port] in lower case, without a path"
    );
}

#[test]
fn the_signing_secret_is_long_and_not_shown() {
    assert_eq!(
        value_error("JWT_SECRET", "hush"),
        "auth.jwt_secret: has 4 bytes; use at least 32 random bytes"
    );
    assert!(
        from_env(&[("SOUK__AUTH__JWT_SECRET", &SECRET[1..])]).load_error().contains("31 bytes")
    );
}

#[test]
fn mongodb_needs_its_settings() {
    let without =
        |name: &str, value: &str| from_env(&MONGODB_VARIABLES).with_env(name, value).load_error();
    from_env(&MONGODB_VARIABLES).load();
    assert_eq!(
        without("MONGO_URI", ""),
        "store.uri: is required with store.kind = \"mongodb\"; set it or MONGO_URI to the \
         replica set's connection string"
    );
    assert_eq!(
        without("MONGO_URI", "postgres://souk:hush@db"),
        "store.uri (MONGO_URI): is not a MongoDB connection string; it must start with \
         mongodb:// or mongodb+srv://"
    );
    assert_eq!(
        without("DB_NAME", ""),
        "store.database: is required with store.kind = \"mongodb\"; set it or DB_NAME to the \
         name of the database"
    );
    assert_eq!(
        without("JWT_SECRET", ""),
        "auth.jwt_secret: is required with store.kind = \"mongodb\"; set it or JWT_SECRET to 32 \
         or more random bytes, the same on every node"
    );
}

#[test]
fn rabbitmq_needs_its_uri() {
    let fixture = from_env(&[("SOUK__BROKER__KIND", "rabbitmq")]);
    assert_eq!(
        fixture.load_error(),
        "broker.uri: is required with broker.kind = \"rabbitmq\"; set it to the broker's \
         connection string"
    );
    let fixture = fixture.with_env("SOUK__BROKER__URI", "http://souk:hush@mq");
    assert_eq!(
        fixture.load_error(),
        "broker.uri (SOUK__BROKER__URI): is not an AMQP connection string; it must start with \
         amqp:// or amqps://"
    );
    fixture.with_env("SOUK__BROKER__URI", "amqps://souk:hush@mq").load();
}

#[test]
fn invalid_log_filter_is_rejected() {
    assert_eq!(
        from_env(&[("RUST_LOG", "souk=loud")]).load_error(),
        "RUST_LOG: \"souk=loud\" is not a log filter; use one such as info or souk=debug,info"
    );
    let settings = from_env(&[("RUST_LOG", "souk=debug,warn")]).load();
    assert_eq!(settings.telemetry.filter.as_deref(), Some("souk=debug,warn"));
}

#[test]
fn grpc_has_an_address_of_its_own_and_both_files_or_none() {
    assert_eq!(
        value_error("SOUK__GRPC__BIND", "127.0.0.1:8080"),
        "grpc.bind: 127.0.0.1:8080 is http.bind, too; use another port"
    );
    let ops = [("SOUK__GRPC__BIND", "127.0.0.1:9"), ("SOUK__OPS__BIND", "127.0.0.1:9")];
    let error = from_env(&ops).load_error();
    assert!(error.contains("127.0.0.1:9 is ops.bind, too; use another port"), "{error}");
    assert_eq!(
        value_error("SOUK__GRPC__TLS_CERT_FILE", "grpc.crt"),
        "grpc.tls_cert_file: set grpc.tls_key_file, too, the private key of the certificate"
    );
    assert_eq!(
        value_error("SOUK__GRPC__TLS_KEY_FILE", "grpc.key"),
        "grpc.tls_key_file: set grpc.tls_cert_file, too, the certificate of the key"
    );
    let free = [("SOUK__GRPC__BIND", "127.0.0.1:0"), ("SOUK__HTTP__BIND", "127.0.0.1:0")];
    assert!(from_env(&free).load().grpc.tls_cert_file.is_none());
}

#[test]
fn a_weak_work_factor_warns() {
    let warnings = |cost: &str| from_env(&[("SOUK__AUTH__BCRYPT_COST", cost)]).load().warnings();
    assert_eq!(
        warnings("9"),
        ["auth.bcrypt_cost: 9 makes password hashes cheap to attack; use 10 or more outside tests"]
    );
    assert!(warnings("10").is_empty());
}

/// The message for these queues and bindings, without the place.
fn load_subscriptions(list: &[(&str, &str)]) -> Result<(), String> {
    let text: String = list
        .iter()
        .map(|(queue, bindings)| {
            format!("[[broker.subscription]]\nqueue = {queue:?}\nbindings = {bindings}\n")
        })
        .collect();
    let fixture = SettingsFixture::new().with_file("config/development.toml", &text);
    match fixture.try_load() {
        Ok(_) => Ok(()),
        Err(_) => Err(fixture.load_error().replace(" (config/development.toml)", "")),
    }
}

#[test]
fn subscriptions_need_unique_names_and_valid_patterns() {
    let fine = |queue: &str, bindings: &str| {
        assert_eq!(load_subscriptions(&[(queue, bindings)]), Ok(()), "{queue} {bindings}")
    };
    fine("warehouse", r##"["#"]"##);
    fine(&"w".repeat(250), r##"["inventory.#", "*.stock.*", "a-b.c_d"]"##);
    let refused = |list: &[(&str, &str)], reason: &str| {
        let message = load_subscriptions(list).unwrap_err();
        assert!(message.contains("broker.subscription") && message.contains(reason), "{message}");
    };
    let good = r#"["order.*"]"#;
    refused(&[("", good)], "\"\" is not a queue name; use 1 to 250 bytes");
    refused(&[(&"w".repeat(251), good)], "is not a queue name; use 1 to 250 bytes");
    for name in ["amq.gen", "souk.inventory.commands"] {
        refused(&[(name, good)], "is reserved; use one that does not start with amq. or souk.");
    }
    refused(&[("w", "[]")], "the queue \"w\" has no bindings");
    for pattern in ["", "a..b", "a b", "order.#x", ".order", &"a".repeat(256)] {
        refused(
            &[("w", &format!("[{pattern:?}]"))],
            "which is not a pattern; use words separated by dots",
        );
    }
    refused(&[("w", good), ("w", good)], "two queues are named \"w\"");
    refused(&[("w.dead", good), ("w", good)], "two queues are named \"w\"");
    refused(&[("w", "\"order.*\"")], "broker.subscription[0].bindings");
    refused(
        &[("w", "[]\nbinding = []")],
        "unknown setting broker.subscription[0].binding; \
         did you mean broker.subscription[0].bindings?",
    );
}
