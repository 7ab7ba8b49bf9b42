//! The names of all settings, as `config/default.toml` has them, and which of them somebody meant.
use super::error::closest_name;

/// Every setting with its default. It is built in, and the base of all other layers.
pub(super) const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// What other programs call the address that a section's `bind` sets.
const ADDRESS_NAMES: [&str; 5] = ["port", "host", "addr", "address", "listen"];

/// Every setting, those that are commented out included. A repeated section counts as one.
pub(super) fn known_settings() -> impl Iterator<Item = String> {
    let mut section = "";
    DEFAULT_TOML.lines().filter_map(move |line| {
        let text = line.trim_start_matches("# ");
        if let Some(name) = text.strip_prefix("[[") {
            section = "";
            return Some(name.trim_end_matches("]]").to_owned());
        }
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            return None;
        }
        let (key, _) = text.split_once(" = ")?;
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        (is_key && !section.is_empty()).then(|| format!("{section}.{key}"))
    })
}

/// Whether a section has this name.
pub(super) fn is_section(name: &str) -> bool {
    known_settings().any(|key| key.split('.').next() == Some(name))
}

/// The setting that has this name if dots and underscores do not count: `store.path` is meant by
/// `store_path`.
pub(super) fn setting_with_other_separators(name: &str) -> Option<String> {
    let flat = |key: &str| key.replace(['.', '_'], "").to_ascii_lowercase();
    let wanted = flat(name);
    known_settings().find(|key| flat(key) == wanted)
}

/// What somebody meant by an unknown setting. `siblings` are the names that its section has.
pub(super) fn suggest<'a>(
    section: &str,
    field: &str,
    siblings: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let in_section = |name: &str| match section {
        "" => name.to_owned(),
        section => format!("{section}.{name}"),
    };
    if ADDRESS_NAMES.contains(&field) {
        let bind = if section.is_empty() { "http.bind".to_owned() } else { in_section("bind") };
        if known_settings().any(|key| key == bind) {
            let or_port = if bind == "http.bind" && field == "port" { " or PORT" } else { "" };
            return Some(bind + or_port);
        }
    }
    closest_name(field, siblings)
        .map(in_section)
        .or_else(|| setting_with_other_separators(&in_section(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggest_in(section: &str, field: &str) -> Option<String> {
        suggest(section, field, ["bind", "workers", "max_body"].into_iter())
    }

    #[test]
    fn meant_settings_are_suggested() {
        for (section, field, meant) in [
            ("http", "port", "http.bind or PORT"),
            ("", "port", "http.bind or PORT"),
            ("http", "host", "http.bind"),
            ("grpc", "port", "grpc.bind"),
            ("http", "workes", "http.workers"),
            ("", "http_bind", "http.bind"),
            ("", "payments_stripe_secret_key", "payments.stripe.secret_key"),
        ] {
            assert_eq!(suggest_in(section, field).as_deref(), Some(meant), "{section}.{field}");
        }
        assert_eq!(suggest_in("cart", "port"), None);
        assert_eq!(suggest_in("http", "colour"), None);
    }

    #[test]
    fn sections_are_known() {
        assert!(is_section("http") && is_section("payments") && is_section("broker"));
        assert!(!is_section("stripe") && !is_section("service"));
    }
}
