//! Weak secrets, and files that keep a secret from nobody.
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{SettingsFixture, from_env};

const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015";

#[test]
fn weak_signing_secret_is_rejected() {
    for (secret, reason) in [
        ("s".repeat(64), "it consists of one byte, repeated"),
        ("change-me-".repeat(8), "it repeats the same 10 bytes"),
    ] {
        assert_eq!(
            from_env(&[("JWT_SECRET", &secret)]).load_error(),
            format!(
                "auth.jwt_secret (JWT_SECRET): is easy to guess: {reason}; \
                 use at least 32 random bytes"
            )
        );
    }
}

#[test]
fn second_keys_are_checked_like_the_first() {
    let error = |variables: &[(&str, &str)]| from_env(variables).load_error();
    let weak = error(&[("SOUK__AUTH__SECOND_JWT_SECRET", "too short")]);
    assert_eq!(
        weak,
        "auth.second_jwt_secret (SOUK__AUTH__SECOND_JWT_SECRET): has 9 bytes; \
         use at least 32 random bytes"
    );
    let same = error(&[("JWT_SECRET", SECRET), ("SOUK__AUTH__SECOND_JWT_SECRET", SECRET)]);
    assert!(same.ends_with(": is the same as auth.jwt_secret"), "{same}");
    let (first, second) = ("SOUK__AUTH__ED25519_KEY_FILE", "SOUK__AUTH__SECOND_ED25519_KEY_FILE");
    let alone = error(&[(second, "second.pem")]);
    assert!(alone.ends_with(": needs auth.ed25519_key_file; set both"), "{alone}");
    let same = error(&[(first, "key.pem"), (second, "key.pem")]);
    assert!(same.ends_with(": is the same as auth.ed25519_key_file"), "{same}");
    let other = "qL0Yz8o3b5Jm1XkU7eWn2RtVc9AsDfGh4PiTyKlMxZw=";
    from_env(&[("JWT_SECRET", SECRET), ("SOUK__AUTH__SECOND_JWT_SECRET", other)]).load();
}

#[test]
fn secret_files_that_everybody_can_read_cause_a_warning() {
    let fixture = SettingsFixture::new()
        .with_file("key.pem", "not read here")
        .with_file(".env", &format!("JWT_SECRET='{SECRET}'"))
        .with_file("config/development.toml", "[auth]\nbcrypt_cost = 12");
    let key = fixture.dir.path().join("key.pem");
    let fixture = fixture.with_env("SOUK__AUTH__ED25519_KEY_FILE", key.to_str().unwrap());
    let set_mode = |file: &str, mode| {
        let path = fixture.dir.path().join(file);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // It sets no secret.
    set_mode("config/development.toml", 0o644);
    for (key_mode, dotenv_mode, warned) in [
        (0o600, 0o600, &[][..]),
        (0o640, 0o440, &[]),
        (0o644, 0o600, &["auth.ed25519_key_file: any user"]),
        (0o602, 0o604, &["auth.ed25519_key_file: any user", ".env: any user"]),
    ] {
        set_mode("key.pem", key_mode);
        set_mode(".env", dotenv_mode);
        let warnings = fixture.load().warnings();
        assert_eq!(warnings.len(), warned.len(), "{warnings:?}");
        for (warning, beginning) in warnings.iter().zip(warned) {
            assert!(warning.starts_with(beginning), "{warning}");
        }
    }
}

#[test]
fn file_of_settings_causes_a_warning_whatever_its_name_is() {
    for file in ["my settings.toml", "souk.conf", "shop"] {
        let fixture = SettingsFixture::new()
            .with_file(file, &format!("[auth]\njwt_secret = '{SECRET}'"))
            .with_env("SOUK_CONFIG", file);
        let path = fixture.dir.path().join(file);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        let warnings = fixture.load().warnings();
        assert!(warnings.len() == 1 && warnings[0].starts_with(&format!("{file}: any user")));
        // The environment overrides it.
        assert!(fixture.with_env("JWT_SECRET", SECRET).load().warnings().is_empty());
    }
}
