//! The first administrator in the settings.

use super::from_env;

#[test]
fn first_admin_needs_email_and_password() {
    const EMAIL: &str = "SOUK__AUTH__ADMIN_EMAIL";
    const PASSWORD: &str = "SOUK__AUTH__ADMIN_PASSWORD";
    let error = |email: &str, password: &str| {
        from_env(&[(EMAIL, email), (PASSWORD, password)]).load_error()
    };
    from_env(&[(EMAIL, "a@b"), (PASSWORD, "correct horse")]).load();
    assert_eq!(
        error("a@b", ""),
        "auth.admin_password (SOUK__AUTH__ADMIN_PASSWORD): is required with auth.admin_email; \
         set both or neither"
    );
    assert_eq!(
        from_env(&[(PASSWORD, "hush hush")]).load_error(),
        "auth.admin_email: is required with auth.admin_password; set both or neither"
    );
    assert_eq!(
        error("admin", "correct horse"),
        "auth.admin_email (SOUK__AUTH__ADMIN_EMAIL): \"admin\" is not an e-mail address; \
         email must be an address like name@example.com, of at most 254 bytes"
    );
    assert!(error("a@mail..example", "correct horse").contains("nor two dots in a row"));
    for (password, reason) in [
        ("hush", "it must have at least 8 characters"),
        (&*"é".repeat(36), "it has 72 bytes; at most 71 are allowed"),
        ("hush\0hush", "it must not contain a NUL character"),
        ("Password1", "it is one of the most common passwords; choose another one"),
    ] {
        assert_eq!(
            error("a@b", password),
            format!(
                "auth.admin_password (SOUK__AUTH__ADMIN_PASSWORD): is not a usable password; \
                 {reason}"
            )
        );
    }
}
