//! The command line, with and without a server.

use serde_json::json;

use crate::support::{Cli, PASSWORD, TestApp};

const LINES: &str = "{\"sku\":\"A\",\"name\":\"Pot\",\"price\":12.5,\"stock\":3}\n\
                     {\"sku\":\"B\",\"name\":\"Cup\",\"price\":7}\n";

#[test]
fn every_command_has_help() {
    let app = TestApp::unstarted(&[]);
    let all = Cli::run(app.command().arg("--help")).ok();
    for command in [
        "serve",
        "login",
        "logout",
        "import",
        "admin",
        "audit",
        "backup",
        "restore",
        "config",
        "openapi",
        "completions",
        "man",
    ] {
        assert!(all.contains(command), "{command}: {all}");
        let help = Cli::run(app.command().args([command, "--help"])).ok();
        assert!(help.contains(&format!("Usage: souk {command}")), "{help}");
    }
    assert!(Cli::run(app.command().arg("--version")).ok().starts_with("souk "));
    assert!(!app.dir().join("data").exists(), "help creates no data");
}

#[test]
fn usage_errors_exit_with_2() {
    let app = TestApp::unstarted(&[]);
    for arguments in [
        &["no-such-command"][..],
        &["--no-such-option"],
        &["import"],
        &["admin"],
        &["admin", "a@b.c", "x"],
        &["serve", "x"],
        &["--config", "", "config"],
    ] {
        let run = Cli::run(app.command().args(arguments));
        assert_eq!((run.code, &*run.stdout), (2, ""), "{run:?}");
        assert!(run.stderr.contains("--help"), "{run:?}");
    }
}

#[test]
fn invalid_setting_stops_the_start_with_one_line() {
    let app = TestApp::unstarted(&[]);
    for (name, value, word) in [
        ("SOUK__HTTP__BIND", "nowhere", "http.bind"),
        ("SOUK__HTTP__BINDD", "127.0.0.1:0", "http.bindd"),
        ("SOUK__HTTPP__BIND", "127.0.0.1:0", "httpp"),
        ("SOUK__HTTP__MAX_BODY", "lots", "http.max_body"),
        ("SOUK__HTTP__REQUEST_TIMEOUT", "-1s", "http.request_timeout"),
        ("SOUK__HTTP__CORS__ALLOWED_ORIGINS", "https://a.example/,*", "http.cors.allowed_origins"),
        ("SOUK__HTTP__TRUSTED_PROXIES", "10.0.0.0/99", "http.trusted_proxies"),
        ("SOUK__SHOP__CURRENCY", "DOUBLOON", "shop.currency"),
        ("SOUK__STORE__KIND", "paper", "store.kind"),
        ("SOUK__AUTH__BCRYPT_COST", "3", "auth.bcrypt_cost"),
        ("SOUK__AUTH__JWT_SECRET", "too short", "auth.jwt_secret"),
        ("SOUK__AUTH__ADMIN_PASSWORD", "short", "auth.admin_password"),
        ("SOUK__LIMITS__LOGIN", "-1", "limits.login"),
        ("SOUK__CART__MAX_QUANTITY", "0", "cart.max_quantity"),
        ("SOUK__CART__ABANDONED_AFTER", "soon", "cart.abandoned_after"),
        ("SOUK__CATALOG__PUBLIC_READ", "maybe", "catalog.public_read"),
        ("SOUK_ENV", "no-such", "SOUK_ENV"),
        ("PORT", "http", "PORT"),
        ("JWT_SECRET", "too short", "auth.jwt_secret"),
        ("JWT_SECRET", "ssssssssssssssssssssssssssssssss", "auth.jwt_secret"),
        ("SOUK__STORE__CHECK_AT_START", "full", "store.check_at_start"),
    ] {
        for arguments in [&[][..], &["config"], &["import", "x.ndjson"], &["admin", "a@b.c"]] {
            let run = Cli::run(app.command().args(arguments).env(name, value));
            assert_eq!(
                (run.code, &*run.stdout, run.stderr.lines().count()),
                (2, "", 1),
                "{name}={value}: {run:?}"
            );
            assert!(
                run.stderr.starts_with("souk: ") && run.stderr.contains(word),
                "{name}={value}: {run:?}"
            );
        }
    }
    assert!(!app.dir().join("data").exists());
    app.write(".env", "SOUK__SHOP__CURRENCY=NONE\n");
    assert_eq!(Cli::run(&mut app.command()).code, 2);
}

#[test]
fn config_shows_effective_settings_without_secrets() {
    let secret = "a secret that must never be shown";
    let app = TestApp::unstarted(&[
        ("auth.jwt_secret", secret),
        ("auth.admin_password", "a hidden password"),
        ("cart.max_lines", "17"),
    ]);
    std::fs::create_dir(app.dir().join("config")).unwrap();
    app.write("config/development.toml", "[cart]\nmax_quantity = 55\nmax_lines = 1\n");
    app.write(".env", "SOUK__LIMITS__LOGIN=3\nSOUK__SHOP__CURRENCY=EUR\n");
    let shown =
        Cli::run(app.command().arg("config").env("MONGO_URI", "mongodb://souk:hunter2@db/")).ok();
    for line in [
        "max_lines = 17",
        "max_quantity = 55",
        "currency = \"EUR\"",
        "admin_email = \"admin@souk.example\"",
        "login = 0",
    ] {
        assert!(shown.lines().any(|known| known == line), "{line}: {shown}");
    }
    for hidden in [secret, "a hidden password", "hunter2"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
    assert!(!app.dir().join("data").exists());
}

#[tokio::test]
async fn file_is_imported_without_a_server() {
    let mut app = TestApp::unstarted(&[]);
    let file = app.write("products.ndjson", LINES);
    let import =
        |app: &TestApp, file: &std::path::Path| Cli::run(app.command().arg("import").arg(file));
    assert_eq!(import(&app, &file).ok(), "2 created, 0 updated, 0 failed\n");
    let csv =
        app.write("more.csv", "sku,name,price,stock\nA,Kettle,20,1\nC,\"Tray, copper\",30,2\n");
    assert_eq!(import(&app, &csv).ok(), "1 created, 1 updated, 0 failed\n");
    let bad = app.write("bad.ndjson", "{\"sku\":\"D\",\"name\":\"Spoon\",\"price\":1}\nnonsense\n");
    let run = import(&app, &bad);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.stdout.starts_with("line 2: malformed_json: ")
            && run.stdout.ends_with("1 created, 0 updated, 1 failed\n"),
        "{run:?}"
    );
    assert!(run.stderr.contains("souk: 1 line was refused; all other lines"), "{run:?}");
    for (name, text) in [("products.txt", LINES), ("bad.csv", "nothing,here\n1,2\n")] {
        let run = import(&app, &app.write(name, text));
        assert_eq!((run.code, &*run.stdout), (1, ""), "{run:?}");
    }
    assert_eq!(import(&app, &app.dir().join("missing.ndjson")).code, 1);
    app.restart().await;
    let products = app.get("/api/products?sort=name").await.ok();
    let names: Vec<_> = products["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|product| product["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Cup", "Kettle", "Spoon", "Tray, copper"]);
    assert_eq!(products["items"][1]["version"], 2);
}

#[tokio::test]
async fn file_is_sent_to_a_running_server() {
    let app = TestApp::start().await;
    let file = app.write("products.ndjson", LINES);
    let import = |server: &str, token: Option<&str>| {
        let mut command = app.command();
        command.arg("import").arg(&file).args(["--server", server]);
        // This proxy does not answer, and is not asked for a server on this machine.
        command.env("HTTP_PROXY", "http://127.0.0.1:2").env_remove("NO_PROXY");
        Cli::run(command.envs(token.map(|token| ("SOUK_TOKEN", token))))
    };
    let admin = app.admin().await;
    assert_eq!(import(app.url(), Some(&admin.token)).ok(), "2 created, 0 updated, 0 failed\n");
    assert_eq!(
        import(&format!("{}/", app.url()), Some(&admin.token)).ok(),
        "0 created, 2 updated, 0 failed\n"
    );
    assert_eq!(app.get("/api/products").await.ok()["total"], 2);
    let ada = app.customer().await;
    for (server, token, word) in [
        (app.url(), None, "SOUK_TOKEN"),
        (app.url(), Some("nonsense"), "401"),
        (app.url(), Some(&*ada.token), "403"),
        ("http://127.0.0.1:1", Some(&*admin.token), "127.0.0.1:1"),
        ("nonsense", Some(&*admin.token), "nonsense"),
    ] {
        let run = import(server, token);
        let code = if server == "nonsense" { 2 } else { 1 };
        assert_eq!((run.code, &*run.stdout), (code, ""), "{run:?}");
        assert!(run.stderr.contains(word), "{run:?}");
        assert!(
            token.is_none_or(|token| token == "nonsense" || !run.stderr.contains(token)),
            "{run:?}"
        );
    }
}

#[tokio::test]
async fn admins_are_created_and_promoted() {
    let mut app = TestApp::start().await;
    let ada = app.customer().await;
    app.stop().await;
    let admin = |email: &str| Cli::run(app.command().args(["admin", email])).ok();
    let made = admin("owner@souk.example");
    let password = made.trim_end().rsplit(' ').next().unwrap().to_owned();
    assert!(
        made.starts_with("owner@souk.example is now an admin. Password") && password.len() >= 16,
        "{made}"
    );
    let again = admin("Owner@Souk.Example");
    assert!(again.contains("already") && !again.contains("password"), "{again}");
    assert!(admin(&ada.email).contains("The password is unchanged"));
    let with = |email: &str, password: &str| {
        Cli::run_with_input(app.command().args(["admin", email, "--password-stdin"]), password)
    };
    let given = with("second@souk.example", "a given password\n").ok();
    assert!(
        !given.contains("a given password") && !given.to_lowercase().contains("(shown only once)"),
        "{given}"
    );
    for (email, password) in [
        ("no address", "a good password"),
        ("third@souk.example", "short"),
        ("third@souk.example", ""),
    ] {
        let run = with(email, password);
        assert_eq!((run.code, &*run.stdout), (1, ""), "{run:?}");
    }
    app.restart().await;
    for (email, password) in [
        ("owner@souk.example", &*password),
        ("second@souk.example", "a given password"),
        (&ada.email, PASSWORD),
    ] {
        let session = app.login(email, password).await;
        assert_eq!(app.get("/api/auth/me").token(&session).await.ok()["role"], "admin", "{email}");
        app.new_product(&session, &json!(1), 1).await;
    }
    let body = json!({"email": "third@souk.example", "password": "short"});
    app.post("/api/auth/login", &body).await.problem(401, "invalid_credentials");
}
