//! Which files are read, what is said about them, and names that miss the prefix.
use super::{SettingsFixture, from_env};

#[test]
fn sources_are_listed_in_their_order() {
    let fixture = SettingsFixture::new();
    let built_in = ["built-in defaults", "config/development.toml (built in)"];
    assert_eq!(fixture.load().sources(), built_in);
    let settings = fixture
        .with_file("config/mine.toml", "[cart]\nmax_lines = 7")
        .with_file("more.toml", "[cart]\nmax_lines = 8")
        .with_file(".env", "SOUK_ENV=mine\nDB_NAME=shop\nOTHER=1\nPORT=1\n")
        .with_env("SOUK_CONFIG", "more.toml")
        .with_env("PORT", "2")
        .with_env("PATH", "/bin")
        .load();
    assert_eq!(settings.cart.max_lines, 8);
    assert_eq!(
        settings.sources(),
        [
            "built-in defaults",
            "config/mine.toml",
            "more.toml (SOUK_CONFIG)",
            ".env: DB_NAME, SOUK_ENV",
            "environment: PORT, SOUK_CONFIG",
        ]
    );
}

#[test]
fn named_file_must_exist_and_be_valid() {
    let named = |text: Option<&str>| {
        let fixture = from_env(&[("SOUK_CONFIG", "my.toml")]);
        text.into_iter().fold(fixture, |fixture, text| fixture.with_file("my.toml", text))
    };
    assert_eq!(named(None).load_error(), "SOUK_CONFIG: there is no file my.toml");
    assert_eq!(
        named(Some("[cart]\nmax_line = 1")).load_error(),
        "unknown setting cart.max_line (my.toml); did you mean cart.max_lines?"
    );
    assert_eq!(
        named(Some("[http]\nbind = localhost")).load_error(),
        "my.toml: line 2, column 8: a string must be in quotes"
    );
}

#[test]
fn local_defaults_are_read_and_what_they_change_is_said() {
    let copy = |text: &str| SettingsFixture::new().with_file("config/default.toml", text);
    let said = |text: &str| copy(text).load().sources()[1].clone();
    let defaults = include_str!("../../../config/default.toml");
    assert_eq!(said(defaults), "config/default.toml");
    // What an older version had.
    let older = defaults
        .replace("max_lines = 200", "max_lines = 100")
        .replace("retry_schedule = [\"5s\", \"30s\"", "retry_schedule = [\"5s\", \"31s\"");
    assert_eq!(
        said(&older),
        "config/default.toml (overrides the built-in cart.max_lines, mail.retry_schedule)"
    );
    assert_eq!(copy(&older).load().cart.max_lines, 100);
    // One that lacks a setting has the built-in one.
    assert_eq!(copy("[cart]\nmax_lines = 7").load().cart.max_quantity, 999);
    assert_eq!(
        copy("[cart]\ngone = 1").load_error(),
        "unknown setting cart.gone (config/default.toml)"
    );
}

#[test]
fn names_that_miss_an_underscore_are_noticed() {
    for (name, message) in [
        ("SOUK_HTTP__BIND", "is not read; did you mean SOUK__HTTP__BIND?"),
        ("SOUK_HTTP__PORT", "is not read; did you mean SOUK__HTTP__BIND or PORT?"),
        ("SOUK_HTTP_BIND", "is not read; did you mean SOUK__HTTP__BIND?"),
        ("SOUK_STORE_PATH", "is not read; did you mean SOUK__STORE__PATH?"),
        ("SOUK_STORE__CHECK_AT_START", "is not read; did you mean SOUK__STORE__CHECK_AT_START?"),
        ("SOUK_HTTP__COLOUR", "is not read; names of settings begin with SOUK__"),
    ] {
        assert_eq!(from_env(&[(name, "x")]).load_error(), format!("{name}: {message}"));
        let in_file = SettingsFixture::new().with_file(".env", &format!("{name}=x\n"));
        assert_eq!(in_file.load_error(), format!("{name} in .env: {message}"));
    }
    assert_eq!(
        from_env(&[("SOUK__HTTP_BIND", "x")]).load_error(),
        "unknown setting http_bind (SOUK__HTTP_BIND); did you mean http.bind?"
    );
    assert_eq!(
        from_env(&[("SOUK__HTTP__PORT", "x")]).load_error(),
        "unknown setting http.port (SOUK__HTTP__PORT); did you mean http.bind or PORT?"
    );
    // What Kubernetes sets for a service with the name `souk`, and what is no setting.
    let others = ["SOUK_SERVICE_HOST", "SOUK_PORT", "SOUK_PORT_8080_TCP_ADDR", "SOUK_TOKEN"];
    from_env(&others.map(|name| (name, "x"))).load();
}
